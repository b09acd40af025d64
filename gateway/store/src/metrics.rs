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
    pub(crate) bytes_written: IntCounter,
    pub(crate) syncs: IntCounter,
    pub(crate) written_today: IntGauge,
    pub(crate) writes_per_day: IntGauge,
    pub(crate) disk_free: IntGauge,
    pub(crate) disk_low: IntGauge,
    pub(crate) refusing: IntGauge,
    pub(crate) refused_seconds: IntCounter,
    dropped_batches: IntCounter,
    dropped_rows: IntCounterVec,
    dropped_bytes: IntCounterVec,
    backlog_bytes: IntGauge,
    backlog_batches: IntGauge,
    undecoded: IntGauge,
    unknown_devices: IntGauge,
    undecoded_bytes: IntGauge,
    exceeded: IntGauge,
    undecoded_exceeded: IntGauge,
}

impl StoreMetrics {
    pub(crate) fn new(metrics: &Metrics) -> StoreMetrics {
        let bytes = metrics.counters(
            "kerbside_store_batch_bytes_total",
            "bytes of batches before and after packing",
            &["kind"],
        );
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
            dropped_rows: metrics.counters(
                "kerbside_store_dropped_total",
                "batches of telemetry and undecoded frames that a quota dropped",
                &["class", "reason"],
            ),
            dropped_bytes: metrics.counters(
                "kerbside_store_dropped_bytes_total",
                "bytes that a quota dropped",
                &["class", "reason"],
            ),
            bytes_written: counter(
                "kerbside_store_bytes_written_total",
                "bytes that the store wrote to the device, as the kernel counts them",
            ),
            syncs: counter("kerbside_store_syncs_total", "syncs of the database and its log"),
            written_today: gauge("kerbside_store_written_today_bytes", "bytes written since midnight, UTC"),
            writes_per_day: gauge("kerbside_store_writes_per_day_bytes", "the budget of a day, 0 without one"),
            disk_free: gauge("kerbside_store_disk_free_bytes", "bytes free on the file system of the data folder"),
            disk_low: gauge("kerbside_store_disk_low", "1 while the reserve for alarms and cases is touched"),
            refusing: gauge("kerbside_store_refusing", "1 while the disk refuses commits and nothing is acknowledged"),
            refused_seconds: counter(
                "kerbside_store_refused_seconds_total",
                "seconds in which nothing was acknowledged because the disk refused commits",
            ),
            backlog_bytes: gauge("kerbside_store_backlog_bytes", "compressed bytes of the batches kept"),
            backlog_batches: gauge("kerbside_store_backlog_batches", "batches kept"),
            undecoded: gauge("kerbside_store_undecoded", "undecoded frames kept"),
            unknown_devices: gauge("kerbside_store_unknown_devices", "addresses heard that no device has"),
            undecoded_bytes: gauge("kerbside_store_undecoded_bytes", "bytes of the undecoded frames kept"),
            exceeded: gauge("kerbside_store_quota_exceeded", "1 while the telemetry quota drops batches"),
            undecoded_exceeded: gauge(
                "kerbside_store_undecoded_exceeded",
                "1 while a quota drops undecoded frames, and an hour longer",
            ),
        }
    }

    /// Shows the sums after a commit.
    pub(crate) fn show(&self, totals: &Totals) {
        self.backlog_bytes.set(level(totals.batches_bytes));
        self.backlog_batches.set(level(totals.batches));
        self.undecoded.set(level(totals.undecoded));
        self.unknown_devices.set(level(totals.unknown_devices));
        self.undecoded_bytes.set(level(totals.undecoded_bytes));
        self.exceeded.set(i64::from(totals.excess.is_some()));
        self.undecoded_exceeded.set(i64::from(totals.undecoded_excess.is_some()));
    }

    /// Counts what a committed transaction dropped.
    pub(crate) fn count_dropped(&self, dropped: &Dropped) {
        let classes = [("telemetry", &dropped.telemetry), ("undecoded", &dropped.undecoded)];
        for (class, by_reason) in classes {
            for (reason, amount) in Reason::ALL.iter().zip(by_reason) {
                if amount.rows > 0 {
                    let labels = [class, reason.name()];
                    self.dropped_rows.with_label_values(&labels).inc_by(amount.rows);
                    self.dropped_bytes.with_label_values(&labels).inc_by(amount.bytes);
                }
            }
        }
        self.dropped_batches.inc_by(dropped.telemetry.iter().map(|amount| amount.rows).sum());
    }
}

/// Which limit dropped something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The quota of bytes.
    Bytes,
    /// The quota of age.
    Age,
    /// The reserve of free space.
    Disk,
    /// The newest hundred of one address; a babbling device and not a loss.
    Address,
}

impl Reason {
    const ALL: [Reason; 4] = [Reason::Bytes, Reason::Age, Reason::Disk, Reason::Address];

    fn name(self) -> &'static str {
        match self {
            Reason::Bytes => "bytes",
            Reason::Age => "age",
            Reason::Disk => "disk",
            Reason::Address => "address",
        }
    }
}

/// What one transaction dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    telemetry: [Amount; Reason::ALL.len()],
    undecoded: [Amount; Reason::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Dropped {
    /// Counts a batch that some sink had not had.
    pub(crate) fn batch(&mut self, reason: Reason, bytes: u64) {
        self.telemetry[reason as usize].add(bytes);
    }

    /// Counts an undecoded frame.
    pub(crate) fn undecoded(&mut self, reason: Reason, bytes: u64) {
        self.undecoded[reason as usize].add(bytes);
    }

    /// Batches that a quota dropped.
    pub(crate) fn telemetry_lost(&self) -> Amount {
        sum(&self.telemetry)
    }

    /// Undecoded frames that a quota dropped, without those of babbling addresses.
    pub(crate) fn undecoded_lost(&self) -> Amount {
        sum(&self.undecoded[..Reason::Address as usize])
    }
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.rows += 1;
        self.bytes += bytes;
    }
}

fn sum(amounts: &[Amount]) -> Amount {
    let mut sum = Amount::default();
    for amount in amounts {
        sum.rows += amount.rows;
        sum.bytes += amount.bytes;
    }
    sum
}

/// A size as gauges show it.
pub(crate) fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
