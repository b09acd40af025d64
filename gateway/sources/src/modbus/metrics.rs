//! The metrics of a bus, found once.

use std::time::Duration;

use kerbside_runtime::Metrics;
use prometheus::{Histogram, IntCounter, IntGauge};

use crate::modbus::link::ReadError;

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
    late: IntCounter,
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
        let late = metrics.counters(
            "kerbside_modbus_answers_late_total",
            "Answers that came after their timeout and were dropped.",
            &["source"],
        );
        let connected = metrics.gauges("kerbside_modbus_connected", "Buses with an open connection.", &["source"]);
        LineMetrics {
            connected: connected.with_label_values(&[source]),
            ok: requests.with_label_values(&[source, "ok"]),
            timeout: requests.with_label_values(&[source, "timeout"]),
            exception: requests.with_label_values(&[source, "exception"]),
            transport: requests.with_label_values(&[source, "transport"]),
            registers: registers.with_label_values(&[source]),
            late: late.with_label_values(&[source]),
            request_seconds: metrics.histogram(
                "kerbside_modbus_request_seconds",
                "Time from a Modbus request to its answer.",
                &REQUEST_SECONDS,
            ),
        }
    }

    /// Counts a request that was answered with so many registers, or failed.
    pub(super) fn count_request(&self, result: Result<usize, &ReadError>, took: Duration) {
        match result {
            Ok(registers) => {
                self.ok.inc();
                self.registers.inc_by(registers as u64);
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

    /// Answers that came after their timeout.
    pub(super) fn count_late(&self, answers: u64) {
        self.late.inc_by(answers);
    }

    /// A request that could not be sent because connecting failed.
    pub(super) fn count_failed_connect(&self) {
        self.transport.inc();
    }
}

/// What a bus's time is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads that were due.
    Poll,
    /// Requests of installers.
    Order,
    /// Requests that nobody answered.
    InVain,
}

/// What the buses of one source count together.
#[derive(Debug)]
pub(super) struct BusMetrics {
    pub(super) late: IntCounter,
    pub(super) rebuilds: IntCounter,
    poll: IntCounter,
    order: IntCounter,
    in_vain: IntCounter,
    /// One more as long as the bus is there.
    _bus: Counted,
}

impl BusMetrics {
    pub(super) fn new(metrics: &Metrics, source: &str) -> BusMetrics {
        let late = metrics.counters(
            "kerbside_modbus_polls_late_total",
            "Polls skipped because the bus was still busy when they were due.",
            &["source"],
        );
        let rebuilds = metrics.counters(
            "kerbside_modbus_rebuilds_total",
            "Links made anew because nothing good had come over them for long.",
            &["source"],
        );
        let spent = metrics.counters(
            "kerbside_modbus_bus_microseconds_total",
            "Time in which buses were kept busy, by what for: poll, order (of an installer), in_vain (no answer).",
            &["source", "use"],
        );
        let buses = metrics.gauges("kerbside_modbus_buses", "Buses that are polled.", &["source"]);
        BusMetrics {
            late: late.with_label_values(&[source]),
            rebuilds: rebuilds.with_label_values(&[source]),
            poll: spent.with_label_values(&[source, "poll"]),
            order: spent.with_label_values(&[source, "order"]),
            in_vain: spent.with_label_values(&[source, "in_vain"]),
            _bus: Counted::new(buses.with_label_values(&[source])),
        }
    }

    /// Notes that a request has kept the bus for so long.
    pub(super) fn spend(&self, purpose: Use, took: Duration) {
        let counter = match purpose {
            Use::Poll => &self.poll,
            Use::Order => &self.order,
            Use::InVain => &self.in_vain,
        };
        counter.inc_by(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// One in a gauge, as long as it lives.
#[derive(Debug)]
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
