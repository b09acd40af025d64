//! A simulated district: covers, poles, drain sensors, weather and faults from a seed; and the load tools.
//!
//! `District` is a pure core that turns a seed and the time into uplinks and registers. `publish` sends the uplinks
//! to a broker, `serve_modbus` answers for the registers, both on real sockets. `load` holds the tools of
//! `just bench`: a publisher that costs little, and a sink that counts. `scenarios` are stories with their truth, by which
//! detectors are judged.
//! Nothing here survives a restart; the same seed tells the same story again.

pub mod load;
pub mod report;
pub mod scenarios;

mod district;
mod layout;
mod modbus;
mod mqtt;
mod noise;
mod registers;
mod script;
mod weather;

#[cfg(test)]
mod tests;

pub use district::{District, DistrictConfig, STEP_UPLINKS_MAX, SharedDistrict, Uplink};
pub use layout::{DeviceKind, MODBUS_SOURCE, MQTT_SOURCE, SimulatedDevice};
pub use modbus::{ModbusUnits, UnitFault, serve_modbus};
pub use mqtt::{BrokerAccount, BrokerAddress, publish, publish_to};
pub use registers::{RegisterRefusal, WordTable};
pub use script::{ScriptedEvent, ScriptedWhat};

/// Why the simulator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// A listener could not be opened.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}
