//! The metrics of the sink.

use std::time::Duration;

use kerbside_runtime::Metrics;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::answer::Answer;

/// From a local database that is idle to one that is at its limit, in seconds.
const REQUEST_SECONDS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Handles of the metrics, resolved once.
#[derive(Clone, Debug)]
pub(super) struct Meters {
    pub(super) points: IntCounter,
    pub(super) points_refused: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) lag_batches: IntGauge,
    pub(super) backlog_batches: IntGauge,
    pub(super) lag_seconds: IntGauge,
    pub(super) live_lag_seconds: IntGauge,
    pub(super) requests_allowed: IntGauge,
    pub(super) compressed: IntGauge,
    requests: IntCounterVec,
    request_seconds: Histogram,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics, sink: &str) -> Meters {
        let gauge = |name: &str, help: &str| metrics.gauges(name, help, &["sink"]).with_label_values(&[sink]);
        Meters {
            points: metrics.counter("kerbside_influx_points_total", "Lines that the database accepted."),
            points_refused: metrics.counter(
                "kerbside_influx_points_refused_total",
                "Lines that the database refused; they are kept with the reason.",
            ),
            bytes: metrics
                .counter("kerbside_influx_bytes_total", "Bytes of request bodies, compressed where they are."),
            lag_batches: gauge(
                "kerbside_influx_lag_batches",
                "Batches that are committed and not yet known to be in the database.",
            ),
            backlog_batches: gauge(
                "kerbside_influx_backlog_batches",
                "Batches that have to be read back from the store and sent.",
            ),
            lag_seconds: gauge(
                "kerbside_influx_lag_seconds",
                "Everything that came earlier than so many seconds before the newest batch is in the database.",
            ),
            live_lag_seconds: gauge(
                "kerbside_influx_live_lag_seconds",
                "So many seconds the oldest live line that has not arrived came before the newest batch.",
            ),
            requests_allowed: gauge(
                "kerbside_influx_requests_allowed",
                "Requests that may be under way at once, as learned from the database's answers.",
            ),
            compressed: gauge("kerbside_influx_compressed", "1 when the last request body was compressed."),
            requests: metrics.counters("kerbside_influx_requests_total", "Write requests by result.", &["result"]),
            request_seconds: metrics.histogram(
                "kerbside_influx_request_seconds",
                "Time from a write request to its answer, in seconds.",
                REQUEST_SECONDS,
            ),
        }
    }

    pub(super) fn request(&self, answer: &Answer, took: Duration) {
        self.requests.with_label_values(&[answer.label()]).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }
}
