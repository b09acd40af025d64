//! Turns Modbus units into frames: one task for each bus.
//!
//! A bus has one link and one request under way; everything that touches it goes through its task (`bus`). Its units
//! are read in the order in which they are due, each point with its own period (`beats`); what is due together is read
//! with the cheapest requests (`plan`). A poll gives a frame with the registers that were read and the causes of those
//! that were not, and more frames where it took so long that one time would not be right for all. There is no function
//! here that writes to a device.
//!
//! One sick unit does not hurt the others. A unit that does not answer is only probed (`breaker`), and where its
//! timeouts would make others miss polls it gets a small share of the bus's time (`roster`). A register that a unit
//! refuses is found by halving the request, left alone for a while and asked again (`knowledge`); so is what it is
//! silent about while it answers other things (`silence`). A bus that is late skips polls
//! and never queues them. When there is no connection, units that become due have frames with failures only, so that
//! their readings are shown as missing; when a modem has dialled in its units are polled at once. Installers ask between the polls (`lanes`).
//!
//! Nothing is kept over a crash: a poll that was not committed is done again when it is next due.
//!
//! Metrics: `kerbside_modbus_requests_total{source,result}`, `kerbside_modbus_registers_total{source}`,
//! `kerbside_modbus_polls_late_total{source}`, `kerbside_modbus_bus_microseconds_total{source,use}`,
//! `kerbside_modbus_buses{source}`, `kerbside_modbus_rebuilds_total{source}`, `kerbside_modbus_connected{source}`,
//! `kerbside_modbus_request_seconds`, `kerbside_modbus_answers_late_total{source}`, and those of modems: see
//! `link/desk.rs`.

mod beats;
mod breaker;
mod bus;
mod direct;
mod forecast;
mod knowledge;
mod lanes;
mod link;
mod metrics;
mod plan;
mod poll;
mod roster;
mod silence;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod unit;
mod usage;
mod watchdog;

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::RegisterTable;
use kerbside_model::profile::RegisterField;

pub use crate::modbus::beats::{BeatPlan, StormPeriod, Weather};
pub use crate::modbus::bus::ModbusBus;
pub use crate::modbus::direct::{DirectBus, DirectConfig};
pub use crate::modbus::forecast::{
    AT_ONCE, BusForecast, PollForecast, STORM_SHARE_MAX, UnitForecast, fit_storm, forecast,
};
pub use crate::modbus::lanes::{BusError, BusHandle, BusView, Buses, QuarantineView, UnitView};
pub use crate::modbus::link::fuzzing;
pub use crate::modbus::link::{
    DeskConfig, DialInConfig, DialInFraming, Endpoint, Identification, Link, LinkTiming, ModemDesk, Notation, Parity,
    PortName, SerialConfig, SerialLine, UnitPatience, UsbName,
};
pub use crate::modbus::plan::{BITS_MAX, Borders, Cost, Limits, REGISTERS_MAX, Request, Rules, plan};

/// One unit of a bus and what is read from it.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitPlan {
    /// Unit id on the wire.
    pub unit: u8,
    /// Address of its frames.
    pub address: String,
    /// What is read, by how often; not empty.
    pub beats: Vec<BeatPlan>,
    /// What it takes in one request.
    pub limits: Limits,
    /// Holding and input registers are asked for in this table, whatever the fields say: some units know only one of
    /// the functions 3 and 4. Frames name the tables of the fields.
    pub registers_from: Option<RegisterTable>,
}

impl UnitPlan {
    /// The shortest time between its polls in fair weather, in the clock's time.
    pub fn period(&self) -> Duration {
        self.beats.iter().map(|beat| beat.period).min().unwrap_or_default()
    }
}

/// One bus: a Modbus TCP server with the units behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusConfig {
    /// Name of the bus; its health is `source/NAME`.
    pub name: String,
    /// Source of its frames.
    pub source: String,
    /// How it is reached.
    pub link: Link,
    /// Longest wait for an answer, in real time.
    pub timeout: Duration,
    /// Longest wait for a connection, in real time.
    pub connect_timeout: Duration,
    /// Silence between two requests, in real time; serial lines behind a gateway need some.
    pub pause: Duration,
    /// Silence after a connection was made, in real time; some converters lose what comes at once.
    pub pause_after_connect: Duration,
    /// Units that need another patience.
    pub patience: BTreeMap<u8, UnitPatience>,
    /// Longest wait between tries to connect, and between probes of a unit that does not answer, in real time. Probes
    /// are rarer only where their timeouts would make healthy units miss polls.
    pub backoff_max: Duration,
    /// From the end of a request to the beginning of its answer, in real time: an estimate for the plan and the forecast.
    pub turn_around: Duration,
    /// Registers that a unit refuses are left alone for so long, in the clock's time.
    pub quarantine: Duration,
    /// Where timeouts make other units miss polls, silent units take this share of the bus's time together: above 0, at
    /// most 1.
    pub failing_share: f64,
    /// The units.
    pub units: Vec<UnitPlan>,
}

impl ModbusConfig {
    /// What bytes and pauses cost with a unit.
    pub fn timing_of(&self, unit: &UnitPlan) -> LinkTiming {
        let pause = self.patience.get(&unit.unit).and_then(|patience| patience.pause);
        self.link.timing(pause.unwrap_or(self.pause))
    }

    /// Longest wait for an answer of a unit, in real time.
    pub fn timeout_of(&self, unit: &UnitPlan) -> Duration {
        let timeout = self.patience.get(&unit.unit).and_then(|patience| patience.timeout);
        timeout.unwrap_or(self.timeout)
    }

    /// Whether the serial line is known, so that bytes cost something.
    pub fn counts_bytes(&self) -> bool {
        !self.link.timing(self.pause).character.is_zero()
    }

    fn check(&self) -> Result<(), ModbusError> {
        let bus = || self.name.clone();
        for (what, duration) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if duration < Duration::from_millis(1) {
                return Err(ModbusError::ZeroDuration { bus: bus(), what });
            }
        }
        if self.units.is_empty() {
            return Err(ModbusError::NoUnits { bus: bus() });
        }
        if !(self.failing_share > 0.0 && self.failing_share <= 1.0) {
            return Err(ModbusError::FailingShare { bus: bus(), share: self.failing_share });
        }
        self.units.iter().try_for_each(|unit| self.check_unit(unit))
    }

    fn check_unit(&self, unit: &UnitPlan) -> Result<(), ModbusError> {
        let bus = || self.name.clone();
        if unit.beats.is_empty() || unit.beats.iter().any(|beat| beat.fields.is_empty()) {
            return Err(ModbusError::NoFields { bus: bus(), unit: unit.unit });
        }
        for beat in &unit.beats {
            if beat.period.min(beat.period_in(Weather::Storm)) < Duration::from_millis(1) {
                return Err(ModbusError::ZeroDuration { bus: bus(), what: "period" });
            }
            let is_beyond = |field: &&RegisterField| field.address.checked_add(field.width() - 1).is_none();
            if let Some(field) = beat.fields.iter().find(is_beyond) {
                let (table, address) = (field.table, field.address);
                return Err(ModbusError::FieldBeyondTable { bus: bus(), unit: unit.unit, table, address });
            }
        }
        Ok(())
    }
}

/// A bus cannot be read as configured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
    /// A share that is none.
    #[error("read bus {bus}: failing_share {share} is not above 0 and at most 1")]
    FailingShare {
        /// Name of the bus.
        bus: String,
        /// What was given.
        share: f64,
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
