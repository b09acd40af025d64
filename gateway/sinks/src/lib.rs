//! Where effects go: telemetry to InfluxDB, cases to city platforms, notices to duty channels.

pub mod channels;
pub mod http;
pub mod influx;
pub mod outbox;
pub mod platforms;
pub mod sign;

#[cfg(test)]
mod test_data;
