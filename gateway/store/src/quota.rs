//! What may go: turns the cursors of the sinks, the snapshots and the quota into deletions of the oldest batches.
//!
//! A batch goes when every telemetry sink has it and two snapshots are after it. (Two, so that the older one is still
//! good for a restart when the newest cannot be read.) Over the quota it goes even if a sink has not had it, counted
//! as dropped; but never while it is newer than the newest snapshot, because a restart steps through it. Then the
//! writer asks for a snapshot instead. Deletions share the transaction of a commit: no extra sync, and a crash leaves
//! sums and rows in step.

use rusqlite::Connection;
use serde::Serialize;

use crate::metrics::Dropped;
use crate::totals::{Excess, Totals};

/// Rows that one transaction deletes at most, so that the next alarm does not wait for house-keeping.
const CHUNK_BATCHES_MAX: u64 = 512;
/// Compressed bytes that one transaction deletes at most (and one batch more).
const CHUNK_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A snapshot is asked for after so many compressed bytes of batches, so that a restart has little to step through.
const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The quota counts as met again below so many percent of it.
const MET_PERCENT: u64 = 90;

/// The telemetry quota began to drop batches, or no longer needs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaReport {
    /// True at the first drop, false when the kept batches are below 90 % of the quota again.
    pub exceeded: bool,
    /// Batches dropped since the quota was exceeded.
    pub batches_dropped: u64,
    /// Their compressed bytes.
    pub bytes_dropped: u64,
}

/// How far the sinks are, and how much may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Compressed bytes that the batches may take.
    pub(crate) batches_bytes_max: u64,
    /// The last batch that every registered sink has; 0 as long as no sinks were registered.
    pub(crate) delivered: u64,
}

/// What a pruning did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pruned {
    /// Rows deleted, dropped or not.
    pub(crate) batches: u64,
    /// It stopped at the end of a chunk: there is more to do.
    pub(crate) is_unfinished: bool,
}

impl Limits {
    /// Whether batches are there that nobody needs.
    pub(crate) fn has_spent(&self, totals: &Totals) -> bool {
        let oldest = (totals.sequence + 1).saturating_sub(totals.batches);
        totals.batches > 0 && oldest <= self.spent_through(totals)
    }

    pub(crate) fn is_exceeded(&self, totals: &Totals) -> bool {
        totals.batches_bytes > self.batches_bytes_max
    }

    /// Whether the engine should hand over a snapshot with its next commit.
    pub(crate) fn wants_snapshot(&self, totals: &Totals) -> bool {
        let is_long = totals.since_snapshot_bytes > SNAPSHOT_BYTES_MAX.min(self.batches_bytes_max / 4);
        let blocks_quota = self.is_exceeded(totals) && totals.since_snapshot_bytes >= totals.batches_bytes;
        is_long || blocks_quota
    }

    fn spent_through(&self, totals: &Totals) -> u64 {
        self.delivered.min(totals.snapshot_older)
    }
}

/// Deletes what may go, in one chunk. Must run inside a transaction; `totals` are changed with it.
pub(crate) fn prune(
    connection: &Connection,
    limits: &Limits,
    totals: &mut Totals,
    dropped: &mut Dropped,
) -> rusqlite::Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut pruned_bytes = 0_u64;
    let mut lost = Excess::default();
    let mut last = 0_u64;
    let mut statement = connection.prepare_cached("SELECT sequence, bytes FROM batches ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, bytes): (u64, u64) = (row.get(0)?, row.get(1)?);
        let is_over = totals.batches_bytes.saturating_sub(pruned_bytes) > limits.batches_bytes_max;
        let is_spent = sequence <= limits.spent_through(totals);
        let may_go = is_spent || (is_over && sequence <= totals.snapshot_newest);
        if !may_go {
            break;
        }
        if pruned.batches >= CHUNK_BATCHES_MAX || pruned_bytes >= CHUNK_BYTES_MAX {
            pruned.is_unfinished = true;
            break;
        }
        pruned.batches += 1;
        pruned_bytes += bytes;
        last = sequence;
        if sequence > limits.delivered {
            lost.batches += 1;
            lost.bytes += bytes;
        }
    }
    drop(rows);
    if pruned.batches == 0 {
        return Ok(pruned);
    }
    connection.prepare_cached("DELETE FROM batches WHERE sequence <= ?1")?.execute([last])?;
    totals.batches = totals.batches.saturating_sub(pruned.batches);
    totals.batches_bytes = totals.batches_bytes.saturating_sub(pruned_bytes);
    count_lost(lost, totals, dropped);
    Ok(pruned)
}

fn count_lost(lost: Excess, totals: &mut Totals, dropped: &mut Dropped) {
    if lost.batches == 0 {
        return;
    }
    dropped.batches += lost.batches;
    dropped.telemetry_bytes += lost.bytes;
    totals.dropped_batches += lost.batches;
    totals.dropped_bytes += lost.bytes;
    let excess = totals.excess.get_or_insert_default();
    excess.batches += lost.batches;
    excess.bytes += lost.bytes;
}

/// Compares the sums before and after a transaction; ends the spell over the quota when enough is free again.
pub(crate) fn report(before: &Totals, after: &mut Totals, batches_bytes_max: u64) -> Option<QuotaReport> {
    let is_met = after.batches_bytes.saturating_mul(100) < batches_bytes_max.saturating_mul(MET_PERCENT);
    let report = |exceeded: bool, excess: Excess| QuotaReport {
        exceeded,
        batches_dropped: excess.batches,
        bytes_dropped: excess.bytes,
    };
    match (before.excess, after.excess) {
        (None, Some(excess)) => Some(report(true, excess)),
        (Some(_), Some(excess)) if is_met => {
            after.excess = None;
            Some(report(false, excess))
        }
        _ => None,
    }
}
