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
    requests: IntCounterVec,
    request_seconds: Histogram,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics, sink: &str) -> Meters {
        let lag_help = "Batches that are committed and not yet known to be in the database.";
        Meters {
            points: metrics.counter("kerbside_influx_points_total", "Lines that the database accepted."),
            points_refused: metrics
                .counter("kerbside_influx_points_refused_total", "Lines that the database refused; they are dropped."),
            bytes: metrics
                .counter("kerbside_influx_bytes_total", "Bytes of request bodies, compressed where they are."),
            lag_batches: metrics.gauges("kerbside_influx_lag_batches", lag_help, &["sink"]).with_label_values(&[sink]),
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
