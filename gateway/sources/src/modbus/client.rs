//! Turns a request into the words that a unit answers, over one TCP connection.
//!
//! The context of tokio-modbus is taken out of the line for each request and only put back after a sound answer or an
//! exception. Whatever else happens (timeout, cancellation, an answer to another request, a wrong length, a broken
//! connection), the context is dropped and the next request begins with a new connection: a late answer can never be
//! taken for the next one. Nothing survives a crash. Metrics: see the module above.

use std::io;
use std::time::{Duration, Instant};

use kerbside_model::RegisterTable;
use kerbside_runtime::{Backoff, Clock};
use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{ExceptionCode, ProtocolError, Response};

use crate::modbus::metrics::LineMetrics;
use crate::modbus::plan::Request;

/// First wait after a failed try to connect: longer than a restarting gateway needs to refuse, shorter than anybody's
/// polling period.
const CONNECT_WAIT_FIRST: Duration = Duration::from_millis(200);

/// So many connections running may break without one answer before the next one waits. One sick unit that makes a
/// gateway hang up is no reason to keep its neighbours waiting.
const FRUITLESS_MAX: u32 = 3;

/// Why a request has no words.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Connect(String),
    #[error("timeout after {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("exception {} ({})", u8::from(*.0), exception_text(*.0))]
    Exception(ExceptionCode),
    #[error("answer of {answered} values where {asked} were asked for")]
    Length { answered: usize, asked: usize },
    #[error("answer to another request")]
    Mismatch,
    #[error("answer is not modbus")]
    NotModbus(#[source] io::Error),
    // The kind of the cause is not told: tokio-modbus gives an unrelated one when the other side hangs up.
    #[error("connection lost")]
    Lost(#[source] io::Error),
}

impl ReadError {
    /// Whether the unit itself answered: a gateway's "the unit does not answer" (10, 11) is no answer.
    pub(super) fn is_answer(&self) -> bool {
        use ExceptionCode::{GatewayPathUnavailable, GatewayTargetDevice};
        matches!(self, ReadError::Exception(code) if !matches!(code, GatewayPathUnavailable | GatewayTargetDevice))
    }

    /// Whether the unit says that these registers are not to be had, or not so many at once.
    pub(super) fn is_illegal_data(&self) -> bool {
        use ExceptionCode::{IllegalDataAddress, IllegalDataValue};
        matches!(self, ReadError::Exception(IllegalDataAddress | IllegalDataValue))
    }
}

/// Where a line leads and how patient it is.
#[derive(Clone, Debug)]
pub(super) struct LineConfig {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) pause: Duration,
    pub(super) backoff_max: Duration,
    /// A connection that was idle for longer is not used again.
    pub(super) idle_max: Duration,
}

/// One connection to a bus, made anew when it cannot be trusted.
pub(super) struct Line {
    config: LineConfig,
    metrics: LineMetrics,
    connection: Option<Connection>,
    backoff: Backoff,
    /// No try to connect before this; `connect_failure` says why.
    connect_at: Option<Instant>,
    /// Why the last connection could not be had, or gave nothing.
    connect_failure: Option<String>,
    /// Connections running that broke without an answer.
    fruitless: u32,
    /// When the last request ended.
    ended_at: Option<Instant>,
}

/// An open connection, counted as long as it lives.
struct Connection {
    context: Context,
    has_answered: bool,
    gauge: IntGauge,
}

impl Connection {
    fn new(stream: TcpStream, gauge: IntGauge) -> Connection {
        gauge.inc();
        Connection { context: tcp::attach(stream), has_answered: false, gauge }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Line {
    pub(super) fn new(config: LineConfig, metrics: LineMetrics) -> Line {
        let backoff = Backoff::new(CONNECT_WAIT_FIRST, config.backoff_max);
        Line {
            config,
            metrics,
            connection: None,
            backoff,
            connect_at: None,
            connect_failure: None,
            fruitless: 0,
            ended_at: None,
        }
    }

    /// Why there is no connection to be had, when there is none.
    pub(super) fn connect_failure(&self) -> Option<&str> {
        self.connect_failure.as_deref()
    }

    /// The registers, or the coils and discrete inputs as 0 and 1.
    pub(super) async fn read(&mut self, unit: u8, request: Request) -> Result<Vec<u16>, ReadError> {
        let idle = self.ended_at.map(|ended_at| Clock::stamp().saturating_duration_since(ended_at));
        if idle.is_some_and(|idle| idle > self.config.idle_max) {
            self.connection = None;
        }
        let Some(connection) = self.connection.take() else {
            let connection = self.connect().await?;
            return self.ask(connection, unit, request).await;
        };
        match self.ask(connection, unit, request).await {
            // The other side may have hung up since the last poll, which is no failure of this one.
            Err(ReadError::Lost(_)) => {
                let connection = self.connect().await?;
                self.ask(connection, unit, request).await
            }
            result => result,
        }
    }

    /// Sends one request, and keeps the connection when it can still be trusted afterwards.
    async fn ask(&mut self, mut connection: Connection, unit: u8, request: Request) -> Result<Vec<u16>, ReadError> {
        let pause = self.pause_left();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        connection.context.set_slave(Slave(unit));
        let began = Clock::stamp();
        let outcome = tokio::time::timeout(self.config.timeout, connection.context.call(wire_request(request))).await;
        let ended = Clock::stamp();
        self.ended_at = Some(ended);
        let result = match outcome {
            Err(_) => Err(ReadError::Timeout(self.config.timeout)),
            Ok(Err(error)) => Err(broken(error)),
            Ok(Ok(Err(code))) => Err(ReadError::Exception(code)),
            Ok(Ok(Ok(response))) => words(request, response),
        };
        self.metrics.count_request(&result, ended - began);
        match &result {
            Ok(_) | Err(ReadError::Exception(_)) => {
                connection.has_answered = true;
                self.connection = Some(connection);
                self.fruitless = 0;
                self.backoff.reset();
            }
            Err(ReadError::Lost(_) | ReadError::NotModbus(_)) if !connection.has_answered => self.note_fruitless(),
            Err(_) => {}
        }
        result
    }

    fn note_fruitless(&mut self) {
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless >= FRUITLESS_MAX {
            self.connect_failure = Some("connection closed before an answer".to_owned());
            self.connect_at = Some(Clock::stamp() + self.backoff.next_wait());
        }
    }

    /// How much of the silence between two requests is still to be kept.
    fn pause_left(&self) -> Duration {
        let Some(ended_at) = self.ended_at else { return Duration::ZERO };
        self.config.pause.saturating_sub(Clock::stamp().saturating_duration_since(ended_at))
    }

    /// Connects, unless the last try failed a moment ago.
    async fn connect(&mut self) -> Result<Connection, ReadError> {
        if self.connect_at.is_some_and(|connect_at| Clock::stamp() < connect_at) {
            return Err(ReadError::Connect(self.connect_failure.clone().unwrap_or_default()));
        }
        let address = (self.config.host.as_str(), self.config.port);
        let cause = match tokio::time::timeout(self.config.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                self.connect_at = None;
                self.connect_failure = None;
                // Without this the kernel may hold a request back for the acknowledgement of the last one; a stack
                // that cannot switch it off is slower, not wrong.
                drop(stream.set_nodelay(true));
                return Ok(Connection::new(stream, self.metrics.connected.clone()));
            }
            Ok(Err(error)) => connect_text(&error),
            Err(_) => format!("connect timeout after {} ms", self.config.connect_timeout.as_millis()),
        };
        self.metrics.count_failed_connect();
        self.connect_at = Some(Clock::stamp() + self.backoff.next_wait());
        self.connect_failure = Some(cause.clone());
        Err(ReadError::Connect(cause))
    }
}

fn wire_request(request: Request) -> tokio_modbus::Request<'static> {
    match request.table {
        RegisterTable::Coil => tokio_modbus::Request::ReadCoils(request.address, request.count),
        RegisterTable::Discrete => tokio_modbus::Request::ReadDiscreteInputs(request.address, request.count),
        RegisterTable::Holding => tokio_modbus::Request::ReadHoldingRegisters(request.address, request.count),
        RegisterTable::Input => tokio_modbus::Request::ReadInputRegisters(request.address, request.count),
    }
}

/// Takes an answer only when it is as long as the request asked for: tokio-modbus does not look.
fn words(request: Request, response: Response) -> Result<Vec<u16>, ReadError> {
    let asked = usize::from(request.count);
    match (request.table, response) {
        (RegisterTable::Coil, Response::ReadCoils(bits))
        | (RegisterTable::Discrete, Response::ReadDiscreteInputs(bits)) => {
            // Bits come in whole bytes.
            if bits.len() != asked.next_multiple_of(8) {
                return Err(ReadError::Length { answered: bits.len(), asked });
            }
            Ok(bits.into_iter().take(asked).map(u16::from).collect())
        }
        (RegisterTable::Holding, Response::ReadHoldingRegisters(words))
        | (RegisterTable::Input, Response::ReadInputRegisters(words)) => {
            if words.len() != asked {
                return Err(ReadError::Length { answered: words.len(), asked });
            }
            Ok(words)
        }
        _ => Err(ReadError::Mismatch),
    }
}

fn broken(error: tokio_modbus::Error) -> ReadError {
    match error {
        tokio_modbus::Error::Protocol(
            ProtocolError::HeaderMismatch { .. } | ProtocolError::FunctionCodeMismatch { .. },
        ) => ReadError::Mismatch,
        tokio_modbus::Error::Transport(error) if error.kind() == io::ErrorKind::InvalidData => {
            ReadError::NotModbus(error)
        }
        tokio_modbus::Error::Transport(error) => ReadError::Lost(error),
    }
}

fn connect_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect timeout".to_owned(),
        _ => error.to_string(),
    }
}

/// What the codes mean (Modbus Application Protocol V1.1b3, section 7).
fn exception_text(code: ExceptionCode) -> &'static str {
    match code {
        ExceptionCode::IllegalFunction => "illegal function",
        ExceptionCode::IllegalDataAddress => "illegal data address",
        ExceptionCode::IllegalDataValue => "illegal data value",
        ExceptionCode::ServerDeviceFailure => "device failure",
        ExceptionCode::Acknowledge => "acknowledge",
        ExceptionCode::ServerDeviceBusy => "device busy",
        ExceptionCode::MemoryParityError => "memory parity error",
        ExceptionCode::GatewayPathUnavailable => "gateway path unavailable",
        ExceptionCode::GatewayTargetDevice => "gateway target device does not answer",
        ExceptionCode::Custom(_) => "not in the specification",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(table: RegisterTable, count: u16) -> Request {
        Request { table, address: 0, count }
    }

    #[test]
    fn an_answer_is_taken_only_at_its_full_length() {
        let holding = request(RegisterTable::Holding, 2);
        assert_eq!(words(holding, Response::ReadHoldingRegisters(vec![7, 8])).unwrap(), [7, 8]);
        for wrong in [vec![], vec![7], vec![7, 8, 9]] {
            let error = words(holding, Response::ReadHoldingRegisters(wrong)).unwrap_err();
            assert!(matches!(error, ReadError::Length { asked: 2, .. }));
        }
        let coils = request(RegisterTable::Coil, 3);
        let byte = vec![true, false, true, false, false, false, false, false];
        assert_eq!(words(coils, Response::ReadCoils(byte.clone())).unwrap(), [1, 0, 1]);
        let error = words(request(RegisterTable::Coil, 9), Response::ReadCoils(byte.clone())).unwrap_err();
        assert_eq!(error.to_string(), "answer of 8 values where 9 were asked for");
        assert!(matches!(words(coils, Response::ReadDiscreteInputs(byte)), Err(ReadError::Mismatch)));
    }

    #[test]
    fn failures_are_told_in_words_and_a_gateway_that_cannot_reach_a_unit_is_no_answer() {
        let address = ReadError::Exception(ExceptionCode::IllegalDataAddress);
        assert_eq!(address.to_string(), "exception 2 (illegal data address)");
        assert!(address.is_answer() && address.is_illegal_data());
        let target = ReadError::Exception(ExceptionCode::GatewayTargetDevice);
        assert!(!target.is_answer() && !target.is_illegal_data());
        let timeout = ReadError::Timeout(Duration::from_millis(500));
        assert_eq!(timeout.to_string(), "timeout after 500 ms");
    }
}
