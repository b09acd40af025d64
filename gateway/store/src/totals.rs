//! Running sums: what the quotas are measured against, without counting rows at every commit.
//!
//! The writer holds them in memory. Their row is written whenever something else than a plain batch changed them
//! (a deletion, a snapshot, an undecoded frame); at start, batches after that row are added. So a commit of telemetry
//! costs no extra page, and opening a store with millions of batches counts only those since the last snapshot.

use kerbside_model::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::conditions::Dropping;

/// What is in the store and what was dropped from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Number of the last batch.
    pub(crate) sequence: u64,
    /// Batches kept.
    pub(crate) batches: u64,
    /// Their compressed bytes.
    pub(crate) batches_bytes: u64,
    /// Compressed bytes of the batches after the newest snapshot.
    pub(crate) since_snapshot_bytes: u64,
    /// Sequence of the newest snapshot, or 0.
    pub(crate) snapshot_newest: u64,
    /// Sequence of the snapshot before it; the same when there is only one.
    pub(crate) snapshot_older: u64,
    /// Undecoded frames kept.
    pub(crate) undecoded: u64,
    /// Their bytes.
    pub(crate) undecoded_bytes: u64,
    /// Rows of unknown devices.
    pub(crate) unknown_devices: u64,
    /// Batches that a quota dropped before every sink had them, since the database was made.
    pub(crate) dropped_batches: u64,
    /// Their compressed bytes.
    pub(crate) dropped_bytes: u64,
    /// Undecoded frames that a limit dropped, since the database was made.
    pub(crate) dropped_undecoded: u64,
    /// What the quotas of telemetry dropped since they began to; `None` while they do not.
    pub(crate) excess: Option<Dropping>,
    /// The same for undecoded frames.
    pub(crate) undecoded_excess: Option<Dropping>,
}

impl Totals {
    /// Reads the stored row and adds what came after it.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Totals> {
        let mut totals = Totals::load_row(connection)?;
        let (batches, bytes) = sums_after(connection, totals.sequence)?;
        totals.batches += batches;
        totals.batches_bytes += bytes;
        let newest: u64 =
            connection.query_row("SELECT coalesce(max(sequence), 0) FROM batches", [], |row| row.get(0))?;
        (totals.snapshot_newest, totals.snapshot_older) = snapshot_sequences(connection)?;
        totals.sequence = totals.sequence.max(newest).max(totals.snapshot_newest);
        (_, totals.since_snapshot_bytes) = sums_after(connection, totals.snapshot_newest)?;
        totals.unknown_devices = connection.query_row("SELECT count(*) FROM unknown_devices", [], |row| row.get(0))?;
        Ok(totals)
    }

    fn load_row(connection: &Connection) -> rusqlite::Result<Totals> {
        let query = "SELECT sequence, batches, batches_bytes, undecoded, undecoded_bytes, dropped_batches, \
                     dropped_bytes, dropped_undecoded, exceeded, exceeded_since, excess_batches, excess_bytes, \
                     undecoded_exceeded, undecoded_exceeded_since, undecoded_excess, undecoded_excess_bytes \
                     FROM totals";
        connection.query_row(query, [], |row| {
            Ok(Totals {
                sequence: row.get(0)?,
                batches: row.get(1)?,
                batches_bytes: row.get(2)?,
                undecoded: row.get(3)?,
                undecoded_bytes: row.get(4)?,
                dropped_batches: row.get(5)?,
                dropped_bytes: row.get(6)?,
                dropped_undecoded: row.get(7)?,
                excess: dropping(row, 8)?,
                undecoded_excess: dropping(row, 12)?,
                ..Totals::default()
            })
        })
    }

    /// Writes the row.
    pub(crate) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let excess = self.excess.unwrap_or_default();
        let undecoded_excess = self.undecoded_excess.unwrap_or_default();
        connection
            .prepare_cached(
                "UPDATE totals SET sequence = ?1, batches = ?2, batches_bytes = ?3, undecoded = ?4, \
                 undecoded_bytes = ?5, dropped_batches = ?6, dropped_bytes = ?7, dropped_undecoded = ?8, \
                 exceeded = ?9, exceeded_since = ?10, excess_batches = ?11, excess_bytes = ?12, \
                 undecoded_exceeded = ?13, undecoded_exceeded_since = ?14, undecoded_excess = ?15, \
                 undecoded_excess_bytes = ?16",
            )?
            .execute(params![
                self.sequence,
                self.batches,
                self.batches_bytes,
                self.undecoded,
                self.undecoded_bytes,
                self.dropped_batches,
                self.dropped_bytes,
                self.dropped_undecoded,
                self.excess.is_some(),
                excess.since.as_millis(),
                excess.rows,
                excess.bytes,
                self.undecoded_excess.is_some(),
                undecoded_excess.since.as_millis(),
                undecoded_excess.rows,
                undecoded_excess.bytes,
            ])?;
        Ok(())
    }
}

/// A spell from four columns: whether it stands, since when, rows, bytes.
fn dropping(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Dropping>> {
    let spell =
        Dropping { since: Timestamp(row.get(column + 1)?), rows: row.get(column + 2)?, bytes: row.get(column + 3)? };
    Ok(row.get::<_, bool>(column)?.then_some(spell))
}

fn sums_after(connection: &Connection, sequence: u64) -> rusqlite::Result<(u64, u64)> {
    let query = "SELECT count(*), coalesce(sum(bytes), 0) FROM batches WHERE sequence > ?1";
    connection.query_row(query, [sequence], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Sequences of the newest snapshot and of the one before; 0 when there is none.
fn snapshot_sequences(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let sequence_at = |offset: u32| {
        let query = "SELECT sequence FROM snapshots ORDER BY sequence DESC LIMIT 1 OFFSET ?1";
        connection.query_row(query, [offset], |row| row.get::<_, u64>(0)).optional()
    };
    let newest = sequence_at(0)?.unwrap_or(0);
    let older = sequence_at(1)?.unwrap_or(newest);
    Ok((newest, older))
}
