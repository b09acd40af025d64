//! What people must know of the store: turns sums, free space and failures into conditions that stand or do not.
//!
//! The app looks at them about every second and tells the engine, which raises and clears alarms. They are states and
//! not messages, so that none gets lost: not while the pipeline waits for the disk, and not in a restart.

use std::time::Duration;

use kerbside_model::Timestamp;
use serde::Serialize;

/// What stands at present, and the last time that the disk refused commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreConditions {
    /// Telemetry is dropped that some sink does not have yet.
    pub telemetry_dropped: Option<Dropping>,
    /// Undecoded frames are dropped to keep a quota. What is cut of a babbling address does not count.
    pub undecoded_dropped: Option<Dropping>,
    /// The file system has little room left.
    pub disk_low: Option<DiskLow>,
    /// More was written today than the budget allows.
    pub over_budget: Option<OverBudget>,
    /// The last time since the start that the disk refused commits, once it takes them again.
    pub last_outage: Option<Outage>,
}

/// What one spell over a quota cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropping {
    /// When the first one went.
    pub since: Timestamp,
    /// Batches or frames dropped since then.
    pub rows: u64,
    /// Their bytes, as they were stored.
    pub bytes: u64,
}

/// Little room on the file system of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskLow {
    /// Since when.
    pub since: Timestamp,
    /// Bytes free for us at the last look.
    pub free_bytes: u64,
    /// Bytes that should be free.
    pub free_bytes_min: u64,
}

/// More was written in one day than the budget allows. Nothing is held back for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OverBudget {
    /// When the budget of the day was used up.
    pub since: Timestamp,
    /// Bytes written since midnight, UTC.
    pub bytes: u64,
    /// The budget of a day, bytes.
    pub bytes_max: u64,
}

/// A time in which nothing was committed and nothing acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Counts upwards since the start.
    pub number: u64,
    /// Why.
    pub reason: OutageReason,
    /// The first refusal.
    pub since: Timestamp,
    /// From the first refusal to the first success.
    pub lasted: Duration,
}

/// Why the disk refused commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageReason {
    /// No room.
    Full,
    /// Anything else: I/O errors, a file system that became read-only, damage.
    Failing,
}

impl StoreConditions {
    /// What stands, for the health of the component; empty when all is well.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(Dropping { since, rows, bytes }) = self.telemetry_dropped {
            notes.push(format!("{rows} batches ({bytes} bytes) of unsent telemetry were dropped since {since}"));
        }
        if let Some(Dropping { since, rows, bytes }) = self.undecoded_dropped {
            notes.push(format!("{rows} undecoded frames ({bytes} bytes) were dropped since {since}"));
        }
        if let Some(DiskLow { since, free_bytes, free_bytes_min }) = self.disk_low {
            notes.push(format!("the disk has {free_bytes} of {free_bytes_min} bytes of reserve left since {since}"));
        }
        if let Some(OverBudget { since, bytes, bytes_max }) = self.over_budget {
            notes.push(format!("{bytes} bytes were written today, budget {bytes_max}, used up at {since}"));
        }
        notes
    }
}
