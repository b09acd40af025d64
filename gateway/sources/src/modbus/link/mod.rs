//! The way to the units of a bus: TCP, a serial port, a converter, or a modem that dials in.
//!
//! `question` and `mbap` or `rtu` turn requests into bytes and bytes into answers, without I/O; `stream` moves the
//! bytes; `line` decides what may be believed; `desk` has modems dial in. Nothing here can write to a device.

mod config;
mod desk;
mod error;
pub mod fuzzing;
mod line;
mod mbap;
mod ports;
mod question;
mod registration;
mod rtu;
mod stream;
#[cfg(test)]
mod tests;

pub(super) use config::LineConfig;
pub use config::{
    DeskConfig, DialInConfig, DialInFraming, Endpoint, Link, LinkTiming, Notation, Parity, PortName, SerialConfig,
    SerialLine, UnitPatience, UsbName,
};
pub use desk::ModemDesk;
pub(super) use error::{ReadError, exception_words};
pub use line::Identification;
pub(super) use line::{Identifying, Line};
#[cfg(test)]
use question::Question;
