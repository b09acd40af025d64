//! The metrics of a bus, found once.

use std::time::Duration;

use kerbside_runtime::Metrics;
use prometheus::{Histogram, IntCounter, IntGauge};

use crate::modbus::client::ReadError;

/// Upper bounds in seconds: from a device in the same cabinet to a slow serial line behind a radio.
const REQUEST_SECONDS: [f64; 9] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What one connection counts.
#[derive(Clone, Debug)]
pub(super) struct LineMetrics {
    pub(super) connected: IntGauge,
    ok: IntCounter,
    timeout: IntCounter,
    exception: IntCounter,
    transport: IntCounter,
    registers: IntCounter,
    request_seconds: Histogram,
}

impl LineMetrics {
    pub(super) fn new(metrics: &Metrics, source: &str) -> LineMetrics {
        let requests = metrics.counters(
            "kerbside_modbus_requests_total",
            "Modbus requests by how they ended.",
            &["source", "result"],
        );
        let registers =
            metrics.counters("kerbside_modbus_registers_total", "Registers and bits that were read.", &["source"]);
        let connected = metrics.gauges("kerbside_modbus_connected", "Buses with an open connection.", &["source"]);
        LineMetrics {
            connected: connected.with_label_values(&[source]),
            ok: requests.with_label_values(&[source, "ok"]),
            timeout: requests.with_label_values(&[source, "timeout"]),
            exception: requests.with_label_values(&[source, "exception"]),
            transport: requests.with_label_values(&[source, "transport"]),
            registers: registers.with_label_values(&[source]),
            request_seconds: metrics.histogram(
                "kerbside_modbus_request_seconds",
                "Time from a Modbus request to its answer.",
                &REQUEST_SECONDS,
            ),
        }
    }

    pub(super) fn count_request(&self, result: &Result<Vec<u16>, ReadError>, took: Duration) {
        match result {
            Ok(words) => {
                self.ok.inc();
                self.registers.inc_by(words.len() as u64);
                self.request_seconds.observe(took.as_secs_f64());
            }
            Err(ReadError::Exception(_)) => {
                self.exception.inc();
                self.request_seconds.observe(took.as_secs_f64());
            }
            Err(ReadError::Timeout(_)) => self.timeout.inc(),
            Err(_) => self.transport.inc(),
        }
    }

    /// A request that could not be sent because connecting failed.
    pub(super) fn count_failed_connect(&self) {
        self.transport.inc();
    }
}

/// The counter of polls that were skipped because the bus was late.
pub(super) fn late_polls(metrics: &Metrics, source: &str) -> IntCounter {
    let late = metrics.counters(
        "kerbside_modbus_polls_late_total",
        "Polls skipped because the bus was still busy when they were due.",
        &["source"],
    );
    late.with_label_values(&[source])
}
