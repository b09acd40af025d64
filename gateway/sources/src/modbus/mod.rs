//! Turns Modbus units into frames: one task for each bus, that is for each host and port.
//!
//! A bus has one connection and one request under way. Its units are read in the order in which they are due, each
//! with its own period; a poll gives one frame with the registers that were read and the causes of those that were
//! not. There is no function here that writes to a device.
//!
//! One sick unit does not hurt the others. A unit that answers nothing in three polls running is only probed, with one
//! request at growing intervals; a register that a unit refuses is found by halving the request, left alone for ten
//! minutes and asked again. A bus that is late skips polls and never queues them. When there is no connection, units
//! that become due have frames with failures only, so that their readings are shown as missing.
//!
//! Nothing is kept over a crash: a poll that was not committed is done again when it is next due.
//!
//! Metrics: `kerbside_modbus_requests_total{source,result}`, `kerbside_modbus_registers_total{source}`,
//! `kerbside_modbus_polls_late_total{source}`, `kerbside_modbus_connected{source}`, `kerbside_modbus_request_seconds`.

mod client;
mod metrics;
mod plan;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod unit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::RegisterField;
use kerbside_model::{ByteText, Frame, Input, Payload, RegisterRead, RegisterTable, Timestamp};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health, Intake, IntakeClosed, Metrics, Receipt, Shutdown};
use prometheus::IntCounter;
use tracing::{info, warn};

use crate::modbus::client::{Line, LineConfig};
use crate::modbus::metrics::LineMetrics;
use crate::modbus::unit::Unit;

pub use crate::modbus::plan::{BITS_MAX, REGISTERS_MAX, Request, plan};

/// The first polls of all units are spread over this much of the clock's time, or over their period when that is
/// shorter: soon enough for an installer who waits, and no thousand requests at once.
const FIRST_POLL_SPREAD: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is not used again: radio links and gateways forget such connections, some of
/// them without a word, and then each slow poll would begin with a timeout. A new connection costs one round trip.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// When the timeouts of probes would make healthy units miss a poll, silent units may take one part in so many of a
/// bus's time: healthy units keep 99 % of their polls with some to spare.
const PROBE_SHARE: u32 = 150;

/// One unit of a bus and what is read from it.
#[derive(Clone, Debug)]
pub struct UnitPlan {
    /// Unit id on the wire.
    pub unit: u8,
    /// Address of its frames.
    pub address: String,
    /// Time between polls, in the clock's time.
    pub period: Duration,
    /// What is read.
    pub fields: Vec<RegisterField>,
    /// Gaps of up to so many registers are read through.
    pub gap_max: u16,
    /// Most registers in one request; clamped to what the protocol allows.
    pub registers_max: u16,
}

/// One bus: a Modbus TCP server with the units behind it.
#[derive(Clone, Debug)]
pub struct ModbusConfig {
    /// Name of the bus; its health is `source/NAME`.
    pub name: String,
    /// Source of its frames.
    pub source: String,
    /// Name or IP address; a name is looked up for each connection.
    pub host: String,
    /// TCP port, 502 by custom.
    pub port: u16,
    /// Longest wait for an answer, in real time.
    pub timeout: Duration,
    /// Longest wait for a connection, in real time.
    pub connect_timeout: Duration,
    /// Silence between two requests, in real time; serial lines behind a gateway need some.
    pub pause: Duration,
    /// Longest wait between tries to connect, and between probes of a unit that does not answer, in real time. Probes
    /// are rarer only where their timeouts would make healthy units miss polls.
    pub backoff_max: Duration,
    /// The units.
    pub units: Vec<UnitPlan>,
}

/// A bus cannot be read as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModbusError {
    /// Nothing to do.
    #[error("read bus {bus}: it has no units")]
    NoUnits {
        /// Name of the bus.
        bus: String,
    },
    /// Nothing to read.
    #[error("read bus {bus}: unit {unit} has no fields")]
    NoFields {
        /// Name of the bus.
        bus: String,
        /// Unit id.
        unit: u8,
    },
    /// A time that must not be zero.
    #[error("read bus {bus}: {what} must be at least one millisecond")]
    ZeroDuration {
        /// Name of the bus.
        bus: String,
        /// "timeout", "connect_timeout" or "period".
        what: &'static str,
    },
    /// A table has addresses 0 to 65535.
    #[error("read bus {bus}: the field at {address} of unit {unit} ends behind the last {table:?} register")]
    FieldBeyondTable {
        /// Name of the bus.
        bus: String,
        /// Unit id.
        unit: u8,
        /// Which table.
        table: RegisterTable,
        /// Where the field begins.
        address: u16,
    },
}

/// The task of one bus.
pub struct ModbusBus {
    name: String,
    host: String,
    port: u16,
    source: Arc<str>,
    timeout: Duration,
    units: Vec<BusUnit>,
    line: Line,
    intake: Intake,
    clock: Clock,
    health: HealthReporter,
    late: IntCounter,
    /// What the health was last told.
    reported: Option<Report>,
}

struct BusUnit {
    address: ByteText,
    unit: Unit,
}

/// What there is to say about a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    Ok,
    Degraded(String),
    Down(String),
}

impl fmt::Debug for ModbusBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ModbusBus").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ModbusBus {
    /// Checks the configuration; nothing is connected yet.
    pub fn new(
        config: ModbusConfig,
        intake: Intake,
        clock: Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<ModbusBus, ModbusError> {
        check(&config)?;
        let now = clock.now();
        let probe_wait_max = clock_span(&clock, config.backoff_max);
        let units = config.units.into_iter().map(|plan| {
            let address = ByteText::from(plan.address.as_str());
            let first_due = now.plus(phase(&config.name, &plan));
            BusUnit { address, unit: Unit::new(plan, first_due, probe_wait_max) }
        });
        let line_config = LineConfig {
            host: config.host.clone(),
            port: config.port,
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            pause: config.pause,
            backoff_max: config.backoff_max,
            idle_max: IDLE_MAX,
        };
        Ok(ModbusBus {
            units: units.collect(),
            line: Line::new(line_config, LineMetrics::new(metrics, &config.source)),
            late: metrics::late_polls(metrics, &config.source),
            health: health.component(format!("source/{}", config.name)),
            name: config.name,
            host: config.host,
            port: config.port,
            source: Arc::from(config.source),
            timeout: config.timeout,
            intake,
            clock,
            reported: None,
        })
    }

    /// Reads the units until the shutdown or the end of the pipeline.
    pub async fn run(mut self, shutdown: Shutdown) {
        let name = self.name.clone();
        let ended = shutdown.run_until_cancelled(self.read_units()).await;
        if ended.is_some() {
            warn!(bus = name, "modbus bus ends because the pipeline has ended");
        }
    }

    /// Ends only when nobody takes frames any more.
    async fn read_units(&mut self) -> IntakeClosed {
        loop {
            let (index, due) = self.next_due();
            self.clock.sleep_until(due).await;
            let read = self.poll(index).await;
            self.schedule(index);
            let frame = Frame {
                source: Arc::clone(&self.source),
                address: self.units[index].address.clone(),
                payload: Payload::Registers(read),
                received_at: self.clock.now(),
                retained: false,
            };
            if let Err(closed) = self.intake.submit(vec![Input::Frame(frame)], Receipt::None).await {
                return closed;
            }
        }
    }

    fn next_due(&mut self) -> (usize, Timestamp) {
        let now = self.clock.now();
        for BusUnit { unit, .. } in &mut self.units {
            unit.keep_due_near(now);
        }
        let dues = self.units.iter().map(|bus_unit| bus_unit.unit.due).enumerate();
        dues.min_by_key(|(_, due)| *due).expect("a bus without units is refused")
    }

    async fn poll(&mut self, index: usize) -> RegisterRead {
        let unit = &mut self.units[index].unit;
        let mut poll = unit.begin(self.clock.now());
        while let Some(request) = poll.next_request() {
            let answer = self.line.read(unit.plan.unit, request).await;
            poll.settle(answer);
        }
        let polled = unit.end(poll);
        self.report(polled.is_news);
        polled.read
    }

    fn schedule(&mut self, index: usize) {
        let now = self.clock.now();
        let wait_min = self.probe_wait_min();
        let unit = &mut self.units[index].unit;
        if unit.is_silent() {
            unit.schedule_probe(now, wait_min);
        } else {
            self.late.inc_by(unit.schedule_poll(now));
        }
    }

    /// The least time between probes of one silent unit, so that all of them together leave the bus to the others.
    fn probe_wait_min(&self) -> Duration {
        let healthy = self.units.iter().filter(|bus_unit| !bus_unit.unit.is_silent());
        let Some(shortest) = healthy.map(|bus_unit| bus_unit.unit.plan.period).min() else { return Duration::ZERO };
        let silent = self.units.iter().filter(|bus_unit| bus_unit.unit.is_silent()).count();
        let silent = u32::try_from(silent).unwrap_or(u32::MAX);
        let timeouts = clock_span(&self.clock, self.timeout).saturating_mul(silent);
        if timeouts < shortest {
            // Even if all probes fall together, a healthy unit is read late, not skipped.
            return Duration::ZERO;
        }
        timeouts.saturating_mul(PROBE_SHARE)
    }

    /// Tells the health when there is something new.
    fn report(&mut self, is_unit_news: bool) {
        let is_line_news = match (&self.reported, self.line.connect_failure()) {
            (None, _) => true,
            (Some(Report::Down(detail)), Some(cause)) => !detail.ends_with(cause),
            (Some(Report::Down(_)), None) | (Some(_), Some(_)) => true,
            (Some(_), None) => false,
        };
        if !is_unit_news && !is_line_news {
            return;
        }
        let report = match self.line.connect_failure() {
            Some(cause) => Report::Down(format!("connect {}:{}: {cause}", self.host, self.port)),
            None => self.complaints(),
        };
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        match &report {
            Report::Ok => {
                info!(bus = self.name, "modbus bus works");
                self.health.ok();
            }
            Report::Degraded(detail) => {
                warn!(bus = self.name, detail, "modbus bus works in part");
                self.health.degraded(detail);
            }
            Report::Down(detail) => {
                warn!(bus = self.name, detail, "modbus bus is down");
                self.health.down(detail);
            }
        }
        self.reported = Some(report);
    }

    fn complaints(&self) -> Report {
        let mut complaints = self.units.iter().filter_map(|bus_unit| bus_unit.unit.complaint());
        let Some(first) = complaints.next() else { return Report::Ok };
        match complaints.count() {
            0 => Report::Degraded(first),
            others => Report::Degraded(format!("{first}, and {others} more units")),
        }
    }
}

fn check(config: &ModbusConfig) -> Result<(), ModbusError> {
    let bus = || config.name.clone();
    for (what, duration) in [("timeout", config.timeout), ("connect_timeout", config.connect_timeout)] {
        if duration < Duration::from_millis(1) {
            return Err(ModbusError::ZeroDuration { bus: bus(), what });
        }
    }
    if config.units.is_empty() {
        return Err(ModbusError::NoUnits { bus: bus() });
    }
    for unit in &config.units {
        if unit.period < Duration::from_millis(1) {
            return Err(ModbusError::ZeroDuration { bus: bus(), what: "period" });
        }
        if unit.fields.is_empty() {
            return Err(ModbusError::NoFields { bus: bus(), unit: unit.unit });
        }
        let is_beyond = |field: &&RegisterField| field.address.checked_add(field.width() - 1).is_none();
        if let Some(field) = unit.fields.iter().find(is_beyond) {
            let (table, address) = (field.table, field.address);
            return Err(ModbusError::FieldBeyondTable { bus: bus(), unit: unit.unit, table, address });
        }
    }
    Ok(())
}

/// The clock's time that passes in a span of real time.
fn clock_span(clock: &Clock, real: Duration) -> Duration {
    let second = clock.real(Duration::from_secs(1)).as_secs_f64();
    Duration::try_from_secs_f64(real.as_secs_f64() / second).unwrap_or(real)
}

/// When a unit is first polled after the start: the same at each start, different from unit to unit and bus to bus.
fn phase(bus: &str, plan: &UnitPlan) -> Duration {
    // FNV-1a, 64 bit.
    let bytes = bus.bytes().chain([0, plan.unit]).chain(plan.address.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // FNV's high bits change least with the last bytes.
    let parts_per_million = (hash ^ (hash >> 32)) % 1_000_000;
    plan.period.min(FIRST_POLL_SPREAD).mul_f64(parts_per_million as f64 / 1_000_000.0)
}
