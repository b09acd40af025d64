//! The store's metrics, resolved once.

use kerbside_runtime::Metrics;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use crate::totals::Totals;

/// Seconds; a flash disk syncs in 1 to 20 ms, a bad one in seconds.
const COMMIT_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

#[derive(Clone, Debug)]
pub(crate) struct StoreMetrics {
    pub(crate) commits: IntCounter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_failures: IntCounterVec,
    pub(crate) inputs: IntCounter,
    pub(crate) raw_bytes: IntCounter,
    pub(crate) stored_bytes: IntCounter,
    pub(crate) snapshots: IntCounter,
    pub(crate) batches_damaged: IntCounter,
    pub(crate) snapshots_damaged: IntCounter,
    pub(crate) set_aside: IntCounter,
    dropped_batches: IntCounter,
    dropped_telemetry_bytes: IntCounter,
    dropped_undecoded_bytes: IntCounter,
    backlog_bytes: IntGauge,
    backlog_batches: IntGauge,
    undecoded: IntGauge,
    unknown_devices: IntGauge,
    exceeded: IntGauge,
}

impl StoreMetrics {
    pub(crate) fn new(metrics: &Metrics) -> StoreMetrics {
        let bytes = metrics.counters(
            "kerbside_store_batch_bytes_total",
            "bytes of batches before and after packing",
            &["kind"],
        );
        let dropped_bytes =
            metrics.counters("kerbside_store_dropped_bytes_total", "bytes that a quota dropped", &["class"]);
        let counter = |name: &str, help: &str| metrics.counter(name, help);
        let gauge = |name: &str, help: &str| metrics.gauge(name, help);
        StoreMetrics {
            commits: counter("kerbside_store_commits_total", "transactions committed for batches"),
            commit_seconds: metrics.histogram(
                "kerbside_store_commit_seconds",
                "time from packing a batch to its being on the disk",
                &COMMIT_SECONDS,
            ),
            commit_failures: metrics.counters(
                "kerbside_store_commit_failures_total",
                "commits that the disk refused; each is tried again",
                &["reason"],
            ),
            inputs: counter("kerbside_store_inputs_total", "inputs committed"),
            raw_bytes: bytes.with_label_values(&["raw"]),
            stored_bytes: bytes.with_label_values(&["stored"]),
            snapshots: counter("kerbside_store_snapshots_total", "engine snapshots written"),
            batches_damaged: counter("kerbside_store_batches_damaged_total", "batches that could not be read back"),
            snapshots_damaged: counter(
                "kerbside_store_snapshots_damaged_total",
                "snapshots that could not be read back",
            ),
            set_aside: counter("kerbside_store_set_aside_total", "damaged databases set aside at start"),
            dropped_batches: counter(
                "kerbside_store_dropped_batches_total",
                "batches that the quota dropped before every telemetry sink had them",
            ),
            dropped_telemetry_bytes: dropped_bytes.with_label_values(&["telemetry"]),
            dropped_undecoded_bytes: dropped_bytes.with_label_values(&["undecoded"]),
            backlog_bytes: gauge("kerbside_store_backlog_bytes", "compressed bytes of the batches kept"),
            backlog_batches: gauge("kerbside_store_backlog_batches", "batches kept"),
            undecoded: gauge("kerbside_store_undecoded", "undecoded frames kept"),
            unknown_devices: gauge("kerbside_store_unknown_devices", "addresses heard that no device has"),
            exceeded: gauge("kerbside_store_quota_exceeded", "1 while the telemetry quota drops batches"),
        }
    }

    /// Shows the sums after a commit.
    pub(crate) fn show(&self, totals: &Totals) {
        self.backlog_bytes.set(level(totals.batches_bytes));
        self.backlog_batches.set(level(totals.batches));
        self.undecoded.set(level(totals.undecoded));
        self.unknown_devices.set(level(totals.unknown_devices));
        self.exceeded.set(i64::from(totals.excess.is_some()));
    }

    /// Counts what a committed transaction dropped.
    pub(crate) fn count_dropped(&self, dropped: &Dropped) {
        self.dropped_batches.inc_by(dropped.batches);
        self.dropped_telemetry_bytes.inc_by(dropped.telemetry_bytes);
        self.dropped_undecoded_bytes.inc_by(dropped.undecoded_bytes);
    }
}

/// What one transaction dropped for a quota.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) batches: u64,
    pub(crate) telemetry_bytes: u64,
    pub(crate) undecoded_bytes: u64,
}

fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
