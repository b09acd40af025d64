//! What may go: turns the cursors of the sinks, the snapshots and the quotas into deletions of the oldest rows.
//!
//! A batch goes when every telemetry sink has it and two snapshots are after it. (Two, so that the older one is still
//! good for a restart when the newest cannot be read.) Over its quota of bytes or age, or when the disk is short of
//! room, it goes even if a sink has not had it, counted as dropped; but never while it is newer than the newest
//! snapshot, because a restart steps through it. Then the writer asks for a snapshot instead. Undecoded frames have a
//! quota of the same form, and when the disk is short of room they go after the batches. Nothing else ever goes by a
//! quota: alarms, cases, outbox and audit have none.
//!
//! Deletions share the transaction of a commit, or of house-keeping when nothing is committed: no extra sync under
//! load, and a crash leaves sums and rows in step.

use std::time::Duration;

use kerbside_model::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::age;
use crate::conditions::Dropping;
use crate::metrics::{Amount, Dropped, Reason};
use crate::room::Spare;
use crate::totals::Totals;

/// Rows that one transaction deletes at most, so that the next alarm does not wait for house-keeping.
const CHUNK_BATCHES_MAX: u64 = 512;
/// Compressed bytes that one transaction deletes at most (and one batch more).
const CHUNK_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A snapshot is asked for after so many compressed bytes of batches, so that a restart has little to step through.
const SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Over the quota, a snapshot that would let older batches go is asked for after so many bytes, not at every commit.
const SNAPSHOT_BYTES_MIN: u64 = 1024 * 1024;
/// The quota counts as met again below so many percent of its bytes and of its age.
const MET_PERCENT: u32 = 90;

/// How much of one class may be kept, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Bytes that may be kept.
    pub(crate) bytes_max: u64,
    /// Bytes that may be kept with regard to the room on the disk.
    pub(crate) bytes_now: u64,
    /// How old the oldest may be.
    pub(crate) age_max: Duration,
    /// The time that ages are measured at; `None` while nothing goes by age.
    pub(crate) now: Option<Timestamp>,
}

impl Quota {
    pub(crate) fn new(bytes_max: u64, age_max: Duration) -> Quota {
        Quota { bytes_max, bytes_now: bytes_max, age_max, now: None }
    }

    /// Whether something stored at that time is too old.
    pub(crate) fn is_expired(&self, at: Timestamp) -> bool {
        self.now.is_some_and(|now| age::is_older(at, self.age_max, now))
    }

    /// Why the oldest row of a class that takes so many bytes has to go, if it has to.
    pub(crate) fn reason_to_drop(&self, bytes: u64, oldest: Timestamp) -> Option<Reason> {
        if self.is_expired(oldest) {
            Some(Reason::Age)
        } else if bytes > self.bytes_max {
            Some(Reason::Bytes)
        } else if bytes > self.bytes_now {
            Some(Reason::Disk)
        } else {
            None
        }
    }

    /// Whether a class is so far below its quota that a spell of dropping is over.
    fn is_met(&self, bytes: u64, oldest: Option<Timestamp>) -> bool {
        let is_small = u128::from(bytes) * 100 < u128::from(self.bytes_now) * u128::from(MET_PERCENT);
        let (Some(now), Some(oldest)) = (self.now, oldest) else { return is_small };
        is_small && !age::is_older(oldest, self.age_max * MET_PERCENT / 100, now)
    }
}

/// The quotas of both classes as they were at the last look, and how far the sinks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batches: Quota,
    pub(crate) undecoded: Quota,
    /// Time of the oldest batch.
    pub(crate) oldest_batch: Option<Timestamp>,
    /// The oldest undecoded frame is too old.
    pub(crate) has_expired_frames: bool,
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
    pub(crate) fn new(batches: Quota, undecoded: Quota) -> Limits {
        Limits { batches, undecoded, oldest_batch: None, has_expired_frames: false, delivered: 0 }
    }

    /// Looks anew at the room on the disk and at the age of what is kept.
    pub(crate) fn look(
        &mut self,
        connection: &Connection,
        totals: &Totals,
        spare: Spare,
        now: Option<Timestamp>,
    ) -> rusqlite::Result<()> {
        let droppable = totals.batches_bytes.saturating_sub(totals.since_snapshot_bytes);
        self.batches.bytes_now = spare.allows(totals.batches_bytes, 0, self.batches.bytes_max);
        self.undecoded.bytes_now = spare.allows(totals.undecoded_bytes, droppable, self.undecoded.bytes_max);
        (self.batches.now, self.undecoded.now) = (now, now);
        let query = "SELECT at FROM batches ORDER BY sequence LIMIT 1";
        let oldest = connection.prepare_cached(query)?.query_row([], |row| row.get(0)).optional()?;
        self.oldest_batch = oldest.map(Timestamp);
        self.has_expired_frames = crate::undecoded::has_expired(connection, &self.undecoded)?;
        Ok(())
    }

    /// Whether batches are there that nobody needs, or that are too old and may go.
    pub(crate) fn has_old_batches(&self, totals: &Totals) -> bool {
        let oldest = (totals.sequence + 1).saturating_sub(totals.batches);
        let is_spent = oldest <= self.spent_through(totals);
        let is_expired = self.oldest_batch.is_some_and(|at| self.batches.is_expired(at));
        totals.batches > 0 && (is_spent || (is_expired && oldest <= totals.snapshot_newest))
    }

    /// Whether the batches take too many bytes.
    pub(crate) fn is_exceeded(&self, totals: &Totals) -> bool {
        totals.batches_bytes > self.batches.bytes_now
    }

    /// Whether undecoded frames have to go.
    pub(crate) fn has_old_frames(&self, totals: &Totals) -> bool {
        totals.undecoded_bytes > self.undecoded.bytes_now || (totals.undecoded > 0 && self.has_expired_frames)
    }

    /// Whether a spell of dropping batches is over.
    pub(crate) fn is_spell_over(&self, totals: &Totals) -> bool {
        totals.excess.is_some() && self.batches.is_met(totals.batches_bytes, self.oldest_batch)
    }

    /// Whether the engine should hand over a snapshot with its next commit.
    pub(crate) fn wants_snapshot(&self, totals: &Totals) -> bool {
        let quarter = self.batches.bytes_max / 4;
        let is_long = totals.since_snapshot_bytes > SNAPSHOT_BYTES_MAX.min(quarter);
        let blocks_quota = self.is_exceeded(totals) && totals.since_snapshot_bytes > SNAPSHOT_BYTES_MIN.min(quarter);
        is_long || blocks_quota
    }

    fn spent_through(&self, totals: &Totals) -> u64 {
        self.delivered.min(totals.snapshot_older)
    }
}

/// Deletes the batches that may go, in one chunk. Must run inside a transaction; `totals` are changed with it.
pub(crate) fn prune(
    connection: &Connection,
    limits: &Limits,
    totals: &mut Totals,
    dropped: &mut Dropped,
) -> rusqlite::Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut pruned_bytes = 0_u64;
    let mut last = 0_u64;
    let mut statement = connection.prepare_cached("SELECT sequence, at, bytes FROM batches ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, at, bytes): (u64, i64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let is_spent = sequence <= limits.spent_through(totals);
        let left_bytes = totals.batches_bytes.saturating_sub(pruned_bytes);
        let reason = limits.batches.reason_to_drop(left_bytes, Timestamp(at));
        let may_go = is_spent || (reason.is_some() && sequence <= totals.snapshot_newest);
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
        if let Some(reason) = reason
            && sequence > limits.delivered
        {
            dropped.batch(reason, bytes);
        }
    }
    drop(rows);
    if pruned.batches > 0 {
        connection.prepare_cached("DELETE FROM batches WHERE sequence <= ?1")?.execute([last])?;
        totals.batches = totals.batches.saturating_sub(pruned.batches);
        totals.batches_bytes = totals.batches_bytes.saturating_sub(pruned_bytes);
    }
    Ok(pruned)
}

/// Adds what a transaction dropped to the sums and to the spells that stand.
pub(crate) fn count_lost(totals: &mut Totals, dropped: &Dropped, now: Timestamp) {
    let telemetry = dropped.telemetry_lost();
    totals.dropped_batches += telemetry.rows;
    totals.dropped_bytes += telemetry.bytes;
    add_to_spell(&mut totals.excess, telemetry, now);
    add_to_spell(&mut totals.undecoded_excess, dropped.undecoded_lost(), now);
}

fn add_to_spell(spell: &mut Option<Dropping>, lost: Amount, now: Timestamp) {
    if lost.rows == 0 {
        return;
    }
    let spell = spell.get_or_insert(Dropping { since: now, rows: 0, bytes: 0 });
    spell.rows += lost.rows;
    spell.bytes += lost.bytes;
}
