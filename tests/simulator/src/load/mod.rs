//! The load tools: `fire` turns a rate into MQTT messages, `sink` turns HTTP writes into counts and latencies.
//!
//! Both cost little, because they share the machine with what they measure. Nothing survives a restart; `sink`
//! gives its figures as JSON at `/stats`.

mod fire;
mod histogram;
mod machine;
mod message;
mod sink;

pub use fire::{FireConfig, FireError, FireQuality, FireReport, fire};
pub use message::{SEQUENCES_MAX, bench_device, bench_inventory_csv};
pub use sink::{SinkHandle, SinkStats, serve_sink};
