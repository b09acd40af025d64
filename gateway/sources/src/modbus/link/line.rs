//! Turns questions into the answers of units, over one link at a time.
//!
//! One question is under way. The stream is taken out of the line for it and put back while it can still be trusted; a
//! question that is cancelled takes the stream with it. On RTU a unit that has not answered in time owes an answer: a
//! question whose answer would look the same waits until the owed one has come or for the unit's timeout once more.
//! Other units are asked meanwhile, and the unit itself for what has another function or length, because a frame says
//! that much. An exception says no length: while another answer of its function is owed it counts only when nothing
//! follows it. So a late answer is never taken for the next one. On TCP answers of other transactions are dropped.
//!
//! Nothing survives a crash. Metrics: see the module above.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use kerbside_runtime::{Backoff, Clock};
use prometheus::IntGauge;
use tokio::net::TcpStream;

use super::config::{DialInConfig, DialInFraming, Endpoint, LineConfig, Link, LinkTiming, SerialConfig};
use super::desk::{Held, ModemDesk, Seat};
use super::error::ReadError;
use super::mbap::Mbap;
use super::question::{Answer, Question};
use super::rtu::{self, Rtu};
use super::stream::Stream;
use crate::modbus::metrics::LineMetrics;
use crate::modbus::plan::Request;

/// First wait after a failed try to connect: longer than a restarting gateway needs to refuse, shorter than anybody's
/// polling period.
const CONNECT_WAIT_FIRST: Duration = Duration::from_millis(200);

/// So many connections running may break without one answer before the next one waits. One sick unit that makes a
/// gateway hang up is no reason to keep its neighbours waiting.
const FRUITLESS_MAX: u32 = 3;

/// After so many timeouts running without a single byte a connection of ours is given up: the other side may have
/// forgotten it.
const DEAF_MAX: u32 = 3;

/// After something odd a serial port must have been silent for so long, or for the silence of the line when that is
/// longer: FTDI adapters deliver bytes up to 16 ms late.
const SERIAL_CALM_MIN: Duration = Duration::from_millis(20);

/// ... and a converter or modem for so long: their bytes come in pieces with gaps of the network between them.
const NETWORK_CALM_MIN: Duration = Duration::from_millis(50);

/// A line that is not silent within this is given up.
const CALM_WAIT_MAX: Duration = Duration::from_secs(2);

/// Answers that one unit may owe; before more questions the oldest is waited for.
const DEBTS_MAX: usize = 8;

/// Parts of an identification that are asked for at most; it has three objects.
const IDENTIFICATION_PARTS_MAX: usize = 8;

/// What a unit says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identification {
    /// Object numbers of function 43 with their texts: 0 vendor, 1 product, 2 revision.
    pub objects: Vec<(u8, String)>,
    /// The answer to function 17 where 43 is not known: bytes in the order of the vendor.
    pub server_id: Option<Vec<u8>>,
}

/// How far a unit has been asked who it is.
#[derive(Debug, Default)]
pub(in crate::modbus) struct Identifying {
    found: Identification,
    parts: usize,
    from: u8,
    /// It does not know function 43.
    is_by_server_id: bool,
}

/// Connects a line of a test with its far side.
#[cfg(test)]
pub(in crate::modbus) type Dial = Box<dyn Fn() -> tokio::io::DuplexStream + Send + Sync>;

/// The way to the units of one bus, made anew when it cannot be trusted.
pub(in crate::modbus) struct Line {
    pub(super) config: LineConfig,
    /// Without the pauses.
    timing: LinkTiming,
    metrics: LineMetrics,
    connection: Option<Connection>,
    /// Where modems dial in, and our seat there once we have one.
    desk: ModemDesk,
    seat: Option<Seat>,
    backoff: Backoff,
    /// No try to connect before this; `connect_failure` says why.
    connect_at: Option<Instant>,
    /// Why the last connection could not be had, or gave nothing.
    connect_failure: Option<String>,
    /// Connections running that broke without an answer.
    fruitless: u32,
    /// When the last request ended.
    ended_at: Option<Instant>,
    /// How long the last unit that answered has thought.
    thought: Option<Duration>,
    /// What units may still answer, on RTU. It outlives the connection: a converter may deliver to the next one.
    owing: BTreeMap<u8, Vec<Debt>>,
    /// Instead of the link.
    #[cfg(test)]
    pub(in crate::modbus) dial: Option<Dial>,
}

/// A question to a unit, and how long its answer is waited for; what bytes take on a serial line comes on top.
#[derive(Clone, Copy)]
struct Ask {
    unit: u8,
    question: Question,
    wait: Duration,
}

/// A question whose answer did not come in time.
#[derive(Clone, Copy)]
struct Debt {
    question: Question,
    until: Instant,
}

impl Debt {
    /// Whether its answer could be taken for the one to another question.
    fn looks_like(&self, question: &Question) -> bool {
        let owed = &self.question;
        owed.function() == question.function() && owed.answer_bytes_max() == question.answer_bytes_max()
    }
}

enum Frames {
    Rtu(Rtu),
    Mbap(Mbap),
}

/// An open stream, counted as long as it lives.
struct Connection {
    stream: Stream,
    frames: Frames,
    has_answered: bool,
    /// Whether bytes may be under way that nobody asked for.
    is_odd: bool,
    /// Timeouts running without a single byte.
    deaf: u32,
    gauge: IntGauge,
    _held: Option<Held>,
}

impl Connection {
    fn new(stream: Stream, frames: Frames, gauge: IntGauge, held: Option<Held>) -> Connection {
        gauge.inc();
        Connection { stream, frames, has_answered: false, is_odd: false, deaf: 0, gauge, _held: held }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.frames {
            Frames::Rtu(rtu) => rtu.buffer(),
            Frames::Mbap(mbap) => mbap.buffer(),
        }
    }

    /// Adds what comes before `until`; whether anything came.
    async fn receive(&mut self, until: Instant) -> Result<bool, ReadError> {
        let buffer = match &mut self.frames {
            Frames::Rtu(rtu) => rtu.buffer(),
            Frames::Mbap(mbap) => mbap.buffer(),
        };
        match tokio::time::timeout_at(until.into(), self.stream.read(buffer)).await {
            Err(_) => Ok(false),
            Ok(Ok(0)) => Err(ReadError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => Err(ReadError::Lost(error)),
        }
    }

    /// The answer, once it is there.
    fn take(&mut self, unit: u8, question: &Question) -> Option<Result<Answer, ReadError>> {
        match &mut self.frames {
            Frames::Rtu(rtu) => rtu.take(unit, question),
            Frames::Mbap(mbap) => mbap.take(unit, question),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Line {
    pub(in crate::modbus) fn new(config: LineConfig, desk: ModemDesk, metrics: LineMetrics) -> Line {
        Line {
            timing: config.link.timing(Duration::ZERO),
            backoff: Backoff::new(CONNECT_WAIT_FIRST, config.backoff_max),
            config,
            metrics,
            connection: None,
            desk,
            seat: None,
            connect_at: None,
            connect_failure: None,
            fruitless: 0,
            ended_at: None,
            thought: None,
            owing: BTreeMap::new(),
            #[cfg(test)]
            dial: None,
        }
    }

    /// Has modems dial in at this desk.
    pub(in crate::modbus) fn set_desk(&mut self, desk: ModemDesk) {
        self.desk = desk;
    }

    /// Begins to wait for a modem, so that it finds somebody; other links are opened when they are needed. To be called
    /// inside the runtime.
    pub(in crate::modbus) fn begin(&mut self) {
        if let Link::DialIn(dial_in) = &self.config.link {
            self.seat = Some(self.desk.enter(dial_in));
        }
    }

    /// Waits until the modem has dialled in; for ever where none does. Losing the future loses no news.
    pub(in crate::modbus) async fn modem_arrived(&self) {
        match &self.seat {
            Some(seat) => seat.arrived().await,
            None => std::future::pending().await,
        }
    }

    /// Why there is no connection to be had, when there is none.
    pub(in crate::modbus) fn connect_failure(&self) -> Option<&str> {
        self.connect_failure.as_deref()
    }

    /// Closes what is open, so that the next request begins anew.
    pub(in crate::modbus) fn rebuild(&mut self) {
        self.connection = None;
    }

    /// The registers, or the coils and discrete inputs as 0 and 1; as many as were asked for.
    pub(in crate::modbus) async fn read(&mut self, unit: u8, request: Request) -> Result<Vec<u16>, ReadError> {
        self.read_within(unit, request, self.timeout(unit)).await
    }

    /// The same, with an answer that is waited for no longer than this, or than the unit's timeout.
    pub(in crate::modbus) async fn read_within(
        &mut self,
        unit: u8,
        request: Request,
        wait: Duration,
    ) -> Result<Vec<u16>, ReadError> {
        let wait = wait.min(self.timeout(unit));
        match self.ask(Ask { unit, question: Question::Read(request), wait }).await? {
            Answer::Words(words) => Ok(words),
            Answer::ServerId(_) | Answer::Objects { .. } => Err(ReadError::Mismatch),
        }
    }

    /// How long the last unit that answered has thought, in real time: from the end of the request to the answer,
    /// without what bytes take on a serial line that is known. Told once.
    pub(in crate::modbus) fn take_thought(&mut self) -> Option<Duration> {
        self.thought.take()
    }

    /// What a unit says of itself: by function 43, or else 17. Units that know neither answer with an exception, or
    /// not at all.
    pub(in crate::modbus) async fn identify(&mut self, unit: u8) -> Result<Identification, ReadError> {
        let mut identifying = Identifying::default();
        loop {
            if let Some(found) = self.identify_further(unit, &mut identifying).await? {
                return Ok(found);
            }
        }
    }

    /// One request of an identification; what was found when it was the last.
    pub(in crate::modbus) async fn identify_further(
        &mut self,
        unit: u8,
        identifying: &mut Identifying,
    ) -> Result<Option<Identification>, ReadError> {
        let wait = self.timeout(unit);
        if identifying.is_by_server_id {
            return match self.ask(Ask { unit, question: Question::ServerId, wait }).await? {
                Answer::ServerId(bytes) => Ok(Some(Identification { objects: Vec::new(), server_id: Some(bytes) })),
                Answer::Words(_) | Answer::Objects { .. } => Err(ReadError::Mismatch),
            };
        }
        let question = Question::Identification { from: identifying.from };
        let (objects, next) = match self.ask(Ask { unit, question, wait }).await {
            Ok(Answer::Objects { objects, next }) => (objects, next),
            Err(ReadError::Connect(cause)) => return Err(ReadError::Connect(cause)),
            Ok(Answer::Words(_) | Answer::ServerId(_)) | Err(_) => {
                identifying.is_by_server_id = true;
                return Ok(None);
            }
        };
        let text = |(number, bytes): (u8, Vec<u8>)| (number, String::from_utf8_lossy(&bytes).trim().to_owned());
        identifying.found.objects.extend(objects.into_iter().map(text));
        identifying.parts += 1;
        match next.filter(|_| identifying.parts < IDENTIFICATION_PARTS_MAX) {
            Some(next) => identifying.from = next,
            None => return Ok(Some(std::mem::take(&mut identifying.found))),
        }
        Ok(None)
    }

    async fn ask(&mut self, ask: Ask) -> Result<Answer, ReadError> {
        // What nobody took was another unit's.
        self.thought = None;
        self.drop_stale_connection();
        let Some(connection) = self.connection.take() else {
            let connection = self.connect().await?;
            return self.ask_over(connection, ask).await;
        };
        match self.ask_over(connection, ask).await {
            // The other side may have hung up since the last poll, which is no failure of this one.
            Err(ReadError::Lost(_)) => {
                let connection = self.connect().await?;
                self.ask_over(connection, ask).await
            }
            result => result,
        }
    }

    /// A connection over TCP that was idle for long may be forgotten by others; one of a modem that has dialled in
    /// again is.
    fn drop_stale_connection(&mut self) {
        let idle = self.ended_at.map(|ended_at| Clock::stamp().saturating_duration_since(ended_at));
        let is_stale = match &self.config.link {
            Link::Tcp(_) | Link::RtuOverTcp { .. } => idle.is_some_and(|idle| idle > self.config.idle_max),
            Link::DialIn(_) => self.seat.as_ref().is_some_and(Seat::has_news),
            Link::Serial(_) => false,
        };
        if is_stale {
            self.connection = None;
        }
    }

    /// Asks, counts, and keeps the connection when it can still be trusted afterwards.
    async fn ask_over(&mut self, mut connection: Connection, ask: Ask) -> Result<Answer, ReadError> {
        let prepared = self.prepare(&mut connection, &ask).await;
        let began = Clock::stamp();
        let result = match prepared {
            Ok(()) => self.exchange(&mut connection, ask).await,
            Err(error) => Err(error),
        };
        let ended = Clock::stamp();
        self.ended_at = Some(ended);
        self.metrics.count_request(result.as_ref().map(Answer::registers), ended - began);
        if let Frames::Mbap(mbap) = &connection.frames {
            self.metrics.count_late(mbap.late());
        }
        match &result {
            Ok(_) | Err(ReadError::Exception(_)) => {
                connection.has_answered = true;
                connection.deaf = 0;
                self.fruitless = 0;
                self.backoff.reset();
            }
            Err(ReadError::Lost(_)) => {
                let until = ended + self.timeout(ask.unit);
                if let Some(debt) = self.owing.get_mut(&ask.unit).and_then(|debts| debts.last_mut()) {
                    debt.until = until;
                }
                if !connection.has_answered {
                    self.note_fruitless();
                }
            }
            // Nothing came, so the line is as silent as it can be.
            Err(ReadError::Timeout(_)) => {}
            Err(_) => connection.is_odd = true,
        }
        if self.can_be_trusted(&mut connection, &result) {
            self.connection = Some(connection);
        }
        result
    }

    fn can_be_trusted(&self, connection: &mut Connection, result: &Result<Answer, ReadError>) -> bool {
        let is_rtu = matches!(connection.frames, Frames::Rtu(_));
        // A head that promises more than comes may be no head at all, and would swallow the next answers.
        let is_cut = !is_rtu && matches!(result, Err(ReadError::Timeout(_) | ReadError::Mismatch));
        if is_cut && !connection.buffer().is_empty() {
            return false;
        }
        match result {
            Ok(_) | Err(ReadError::Exception(_) | ReadError::Length { .. } | ReadError::Mismatch) => true,
            // After these the next frame of RTU is found again; of TCP it is not.
            Err(ReadError::NotModbus) => is_rtu,
            Err(ReadError::Timeout(_)) => {
                connection.deaf += 1;
                // A port that is opened again is no better, and a modem that is there would have to dial in again.
                connection.deaf < DEAF_MAX || matches!(self.config.link, Link::Serial(_) | Link::DialIn(_))
            }
            Err(ReadError::Connect(_) | ReadError::Babble | ReadError::Lost(_)) => false,
        }
    }

    /// Sends a question and waits for its answer.
    async fn exchange(&mut self, connection: &mut Connection, ask: Ask) -> Result<Answer, ReadError> {
        let Ask { unit, question, wait } = ask;
        let mut request = Vec::with_capacity(16);
        match &mut connection.frames {
            Frames::Rtu(rtu) => {
                rtu.clear();
                rtu::write(unit, &question, &mut request);
            }
            Frames::Mbap(mbap) => mbap.write(unit, &question, &mut request),
        }
        // What a unit has time for is to think; what the line takes for the bytes comes on top.
        let (began, wire_time) = (Clock::stamp(), self.wire_time(&question));
        let until = began + wait + wire_time;
        if self.config.link.is_rtu() {
            let debt = Debt { question, until: until + self.timeout(unit) };
            self.owing.entry(unit).or_default().push(debt);
        }
        match tokio::time::timeout_at(until.into(), connection.stream.write_all(&request)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ReadError::Lost(error)),
            Err(_) => return Err(ReadError::Lost(io::ErrorKind::TimedOut.into())),
        }
        // An exception that may be the one to an earlier question.
        let mut doubtful = None;
        loop {
            if !connection.receive(until).await? {
                // Either may still come, so both stay owed.
                let complaint = || complaint(connection).unwrap_or(ReadError::Timeout(wait));
                return Err(doubtful.unwrap_or_else(complaint));
            }
            connection.deaf = 0;
            while let Some(result) = connection.take(unit, &question) {
                match result {
                    Err(error @ ReadError::Exception(_)) if doubtful.is_none() && self.may_be_late(&ask) => {
                        doubtful = Some(error);
                    }
                    result => {
                        connection.is_odd = matches!(&connection.frames, Frames::Rtu(rtu) if rtu.has_rest());
                        if matches!(result, Ok(_) | Err(ReadError::Exception(_))) {
                            self.thought = Some((Clock::stamp() - began).saturating_sub(wire_time));
                        }
                        self.settle_debts(&ask, doubtful.is_some());
                        return result;
                    }
                }
            }
        }
    }

    /// What the bytes of a question and its answer take on a serial line.
    pub(super) fn wire_time(&self, question: &Question) -> Duration {
        let bytes = question.bytes() + question.answer_bytes_max() + 2 * self.timing.overhead_bytes as usize;
        self.timing.character.saturating_mul(bytes as u32)
    }

    /// Whether an exception may be the answer to an earlier question, which the unit still owes.
    fn may_be_late(&self, ask: &Ask) -> bool {
        self.owing.get(&ask.unit).is_some_and(|debts| oldest_like(debts, ask).is_some())
    }

    /// The answer that the last question has made the unit owe has come, and before it perhaps one that is older.
    fn settle_debts(&mut self, ask: &Ask, has_late_exception: bool) {
        let Some(debts) = self.owing.get_mut(&ask.unit) else { return };
        if has_late_exception && let Some(position) = oldest_like(debts, ask) {
            debts.remove(position);
            self.metrics.count_late(1);
        }
        debts.pop();
        if debts.is_empty() {
            self.owing.remove(&ask.unit);
        }
    }

    fn timeout(&self, unit: u8) -> Duration {
        self.config.units.get(&unit).and_then(|patience| patience.timeout).unwrap_or(self.config.timeout)
    }

    /// Makes sure that the next bytes which come are the answer to the next request, as far as that can be done, and
    /// that the units have had their pause.
    async fn prepare(&mut self, connection: &mut Connection, ask: &Ask) -> Result<(), ReadError> {
        if self.config.link.is_rtu() {
            self.wait_out(connection, ask).await?;
            // An end that was there before the request is noticed here, so that nothing is owed.
            let discarded = connection.stream.discard().map_err(ReadError::Lost)?;
            if discarded > 0 || connection.is_odd {
                self.calm(connection).await?;
            }
        }
        let own_pause = self.config.units.get(&ask.unit).and_then(|patience| patience.pause);
        let pause = own_pause.unwrap_or(self.config.pause).max(self.timing.silence);
        let Some(ended_at) = self.ended_at else { return Ok(()) };
        let left = pause.saturating_sub(Clock::stamp().saturating_duration_since(ended_at));
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
        Ok(())
    }

    /// Waits for answers that a unit owes and that could be taken for the next one, for as long as they may come.
    async fn wait_out(&mut self, connection: &mut Connection, ask: &Ask) -> Result<(), ReadError> {
        let now = Clock::stamp();
        let Some(mut debts) = self.owing.remove(&ask.unit) else { return Ok(()) };
        debts.retain(|debt| debt.until > now);
        let is_waited_for = |debt: &Debt, waiting: usize| waiting >= DEBTS_MAX || debt.looks_like(&ask.question);
        let mut kept = Vec::new();
        while !debts.is_empty() {
            let debt = debts.remove(0);
            if !is_waited_for(&debt, kept.len() + debts.len() + 1) {
                kept.push(debt);
                continue;
            }
            if let Err(error) = self.wait_for(connection, ask.unit, debt).await {
                kept.push(debt);
                kept.extend(debts);
                self.owing.insert(ask.unit, kept);
                return Err(error);
            }
        }
        if !kept.is_empty() {
            self.owing.insert(ask.unit, kept);
        }
        Ok(())
    }

    async fn wait_for(&self, connection: &mut Connection, unit: u8, debt: Debt) -> Result<(), ReadError> {
        if let Frames::Rtu(rtu) = &mut connection.frames {
            rtu.look_again();
        }
        loop {
            if connection.take(unit, &debt.question).is_some() {
                self.metrics.count_late(1);
                return Ok(());
            }
            if Clock::stamp() >= debt.until || !connection.receive(debt.until).await? {
                return Ok(());
            }
        }
    }

    /// Throws bytes away until there are none for a while.
    async fn calm(&self, connection: &mut Connection) -> Result<(), ReadError> {
        let calm = match self.config.link {
            Link::Serial(_) => self.timing.silence.max(SERIAL_CALM_MIN),
            _ => self.timing.silence.max(NETWORK_CALM_MIN),
        };
        let give_up_at = Clock::stamp() + CALM_WAIT_MAX.max(calm * 2);
        loop {
            connection.buffer().clear();
            let now = Clock::stamp();
            if now >= give_up_at {
                return Err(ReadError::Babble);
            }
            if !connection.receive(now + calm).await? {
                connection.is_odd = false;
                return Ok(());
            }
        }
    }

    fn note_fruitless(&mut self) {
        // A modem comes when it wants to.
        if matches!(self.config.link, Link::DialIn(_)) {
            return;
        }
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless >= FRUITLESS_MAX {
            self.connect_failure = Some("connection closed before an answer".to_owned());
            self.connect_at = Some(Clock::stamp() + self.backoff.next_wait());
        }
    }

    /// Connects, unless the last try failed a moment ago.
    async fn connect(&mut self) -> Result<Connection, ReadError> {
        if self.connect_at.is_some_and(|connect_at| Clock::stamp() < connect_at) {
            return Err(ReadError::Connect(self.connect_failure.clone().unwrap_or_default()));
        }
        match self.open().await {
            Ok(connection) => {
                self.connect_at = None;
                self.connect_failure = None;
                if !self.config.pause_after_connect.is_zero() {
                    tokio::time::sleep(self.config.pause_after_connect).await;
                }
                Ok(connection)
            }
            Err(cause) => {
                self.metrics.count_failed_connect();
                if !matches!(self.config.link, Link::DialIn(_)) {
                    self.connect_at = Some(Clock::stamp() + self.backoff.next_wait());
                }
                self.connect_failure = Some(cause.clone());
                Err(ReadError::Connect(cause))
            }
        }
    }

    /// Opens the link; gives the failure in words.
    async fn open(&mut self) -> Result<Connection, String> {
        let timeout = self.config.connect_timeout;
        let gauge = self.metrics.connected.clone();
        #[cfg(test)]
        if let Some(dial) = &self.dial {
            let frames =
                if self.config.link.is_rtu() { Frames::Rtu(Rtu::default()) } else { Frames::Mbap(Mbap::default()) };
            return Ok(Connection::new(Stream::Memory(dial()), frames, gauge, None));
        }
        let connection = match &self.config.link {
            Link::Tcp(endpoint) => {
                let stream = connect(endpoint, timeout).await?;
                Connection::new(Stream::tcp(stream), Frames::Mbap(Mbap::default()), gauge, None)
            }
            Link::RtuOverTcp { endpoint, .. } => {
                let stream = connect(endpoint, timeout).await?;
                Connection::new(Stream::tcp(stream), Frames::Rtu(Rtu::default()), gauge, None)
            }
            Link::Serial(serial) => {
                let stream = open_port(serial.clone(), timeout).await?;
                Connection::new(stream, Frames::Rtu(Rtu::default()), gauge, None)
            }
            Link::DialIn(dial_in) => {
                let seat = self.seat.get_or_insert_with(|| self.desk.enter(dial_in));
                let (stream, held) = seat.take().ok_or("it has not dialled in")?;
                Connection::new(Stream::tcp(stream), dial_in_frames(dial_in), gauge, Some(held))
            }
        };
        Ok(connection)
    }
}

/// The oldest question of the same function before the last one, whose exception would look like that to the last one.
fn oldest_like(debts: &[Debt], ask: &Ask) -> Option<usize> {
    let (_, before) = debts.split_last()?;
    before.iter().position(|debt| debt.question.function() == ask.question.function())
}

/// Why there was no answer, where bytes came that were none.
fn complaint(connection: &mut Connection) -> Option<ReadError> {
    match &mut connection.frames {
        Frames::Rtu(rtu) => rtu.complaint(),
        Frames::Mbap(mbap) => mbap.complaint(),
    }
}

fn dial_in_frames(dial_in: &DialInConfig) -> Frames {
    // Some modems put their registration before everything that they send.
    let fillers = [&dial_in.desk.heartbeat, &dial_in.registration];
    let fillers = fillers.into_iter().filter(|filler| !filler.is_empty()).cloned().collect();
    match dial_in.desk.framing {
        DialInFraming::Rtu => Frames::Rtu(Rtu::new(fillers)),
        DialInFraming::Tcp => Frames::Mbap(Mbap::new(fillers)),
    }
}

async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<TcpStream, String> {
    let address = (endpoint.host.as_str(), endpoint.port);
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(connect_text(&error)),
        Err(_) => Err(format!("connect timeout after {} ms", timeout.as_millis())),
    }
}

/// Opens a port away from the runtime: the driver of an adapter that hangs keeps its caller for seconds.
async fn open_port(serial: SerialConfig, timeout: Duration) -> Result<Stream, String> {
    let opening = tokio::task::spawn_blocking(move || Stream::serial(&serial));
    match tokio::time::timeout(timeout, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("its driver has not opened it after {} ms", timeout.as_millis())),
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
