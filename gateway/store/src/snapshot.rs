//! Engine snapshots and the sites that batches name by their hash.
//!
//! The last two snapshots are kept, each with a checksum; when the newest cannot be read the older one is used, as
//! long as every batch after it is still there. A site is kept while a kept batch or snapshot may need it.

use kerbside_model::StoredInput;
use kerbside_model::site::SiteFacts;
use kerbside_runtime::Chain;
use rusqlite::{Connection, OptionalExtension, params};
use tracing::error;

use crate::batch::{BODY_FORMAT, CodecError, OwnedBody, StoredBody};
use crate::error::StoreError;
use crate::metrics::StoreMetrics;
use crate::totals::Totals;

/// The engine's state, to be stored with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Version of the engine's state; another version is not read.
    pub engine_version: u32,
    /// Content hash of the site in force after the batch.
    pub site_hash: String,
    /// The state after the batch, as the engine wrote it.
    pub body: Vec<u8>,
}

/// The engine's state after the batch with this sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Version of the engine's state.
    pub engine_version: u32,
    /// The last batch that the state includes.
    pub sequence: u64,
    /// Content hash of the site in force.
    pub site_hash: String,
    /// The state, as the engine wrote it.
    pub body: Vec<u8>,
}

/// A snapshot on its way to the disk.
pub(crate) struct PackedSnapshot {
    pub(crate) engine_version: u32,
    pub(crate) site_hash: String,
    pub(crate) body: OwnedBody,
}

/// A site on its way to the disk.
pub(crate) struct PackedSite {
    pub(crate) hash: String,
    pub(crate) body: OwnedBody,
}

/// Writes a snapshot of the state after `totals.sequence`, and forgets what only older ones needed. The site that was
/// saved last stays.
pub(crate) fn write(
    connection: &Connection,
    snapshot: &PackedSnapshot,
    saved_site: Option<&str>,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO snapshots(sequence, engine_version, site_hash, raw_bytes, format, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            totals.sequence,
            snapshot.engine_version,
            snapshot.site_hash,
            snapshot.body.raw_bytes,
            BODY_FORMAT,
            snapshot.body.body,
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM snapshots WHERE sequence NOT IN (SELECT sequence FROM snapshots ORDER BY sequence DESC LIMIT 2)",
        )?
        .execute([])?;
    if totals.snapshot_newest != totals.sequence {
        totals.snapshot_older = if totals.snapshot_newest > 0 { totals.snapshot_newest } else { totals.sequence };
    }
    totals.snapshot_newest = totals.sequence;
    totals.since_snapshot_bytes = 0;
    forget_sites(connection, saved_site, totals)
}

/// The newest snapshot that can be read and has every batch after it.
pub(crate) fn latest(connection: &Connection, metrics: &StoreMetrics) -> Result<Option<Snapshot>, StoreError> {
    let failed = || StoreError::read("the engine's snapshot");
    let oldest_batch = connection
        .query_row("SELECT min(sequence) FROM batches", [], |row| row.get::<_, Option<u64>>(0))
        .map_err(failed())?;
    let mut statement =
        connection.prepare_cached("SELECT sequence FROM snapshots ORDER BY sequence DESC").map_err(failed())?;
    let sequences: Vec<u64> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(failed())?;
    for (position, sequence) in sequences.into_iter().enumerate() {
        let is_complete = position == 0 || oldest_batch.is_some_and(|oldest| oldest <= sequence + 1);
        if !is_complete {
            return Ok(None);
        }
        match read(connection, sequence) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(cause) => {
                metrics.snapshots_damaged.inc();
                error!(sequence, cause = %Chain(&cause), "a snapshot is damaged and is left out");
            }
        }
    }
    Ok(None)
}

fn read(connection: &Connection, sequence: u64) -> Result<Snapshot, CodecError> {
    let mut statement = connection
        .prepare_cached("SELECT engine_version, site_hash, format, raw_bytes, body FROM snapshots WHERE sequence = ?1")
        .map_err(CodecError::Row)?;
    let mut rows = statement.query([sequence]).map_err(CodecError::Row)?;
    let row = rows.next().and_then(|row| row.ok_or(rusqlite::Error::QueryReturnedNoRows)).map_err(CodecError::Row)?;
    let column = |index: usize| row.get::<_, u32>(index).map_err(CodecError::Row);
    let body = StoredBody {
        format: column(2)?,
        raw_bytes: row.get(3).map_err(CodecError::Row)?,
        body: row.get_ref(4).and_then(|value| Ok(value.as_blob()?)).map_err(CodecError::Row)?,
    };
    Ok(Snapshot {
        engine_version: column(0)?,
        sequence,
        site_hash: row.get(1).map_err(CodecError::Row)?,
        body: body.unpack()?,
    })
}

/// Writes a site under its hash, or marks it as used again.
pub(crate) fn write_site(connection: &Connection, site: &PackedSite, last_sequence: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO sites(hash, saved_after, raw_bytes, format, body) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT(hash) DO UPDATE SET saved_after = excluded.saved_after, raw_bytes = excluded.raw_bytes, \
             format = excluded.format, body = excluded.body",
        )?
        .execute(params![site.hash, last_sequence, site.body.raw_bytes, BODY_FORMAT, site.body.body])?;
    Ok(())
}

/// Remembers the last site that a batch changed to.
pub(crate) fn write_site_change(connection: &Connection, sequence: u64, hash: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO site_changes(sequence, hash) VALUES (?1, ?2)")?
        .execute(params![sequence, hash])?;
    Ok(())
}

/// The facts stored under a hash.
pub(crate) fn site(connection: &Connection, hash: &str) -> Result<Option<SiteFacts>, StoreError> {
    let failed = || StoreError::read("a site");
    let query = "SELECT format, raw_bytes, body FROM sites WHERE hash = ?1";
    let mut statement = connection.prepare_cached(query).map_err(failed())?;
    let row = statement
        .query_row([hash], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u64>(1)?, row.get::<_, Vec<u8>>(2)?)))
        .optional()
        .map_err(failed())?;
    let Some((format, raw_bytes, body)) = row else { return Ok(None) };
    let decoded = StoredBody { format, raw_bytes, body: &body }.decode();
    decoded.map(Some).map_err(|source| StoreError::DamagedSite { hash: hash.to_owned(), source })
}

/// The site that was in force after a batch, as far as batches and snapshots tell.
pub(crate) fn site_after(connection: &Connection, sequence: u64) -> rusqlite::Result<Option<String>> {
    let query = "SELECT hash FROM (SELECT sequence, hash FROM site_changes \
                 UNION ALL SELECT sequence, site_hash FROM snapshots) \
                 WHERE sequence <= ?1 ORDER BY sequence DESC LIMIT 1";
    connection.prepare_cached(query)?.query_row([sequence], |row| row.get(0)).optional()
}

/// Drops sites that no kept batch and no snapshot was stepped with. The one that was saved last stays, and so does each
/// that was saved after the oldest kept batch, because the batch that changes to it may still be on its way.
fn forget_sites(connection: &Connection, saved_site: Option<&str>, totals: &Totals) -> rusqlite::Result<()> {
    let before_oldest = totals.sequence.saturating_sub(totals.batches);
    let needed_after = before_oldest.min(totals.snapshot_older);
    connection
        .prepare_cached(
            "DELETE FROM site_changes WHERE sequence < \
             (SELECT coalesce(max(sequence), 0) FROM site_changes WHERE sequence <= ?1)",
        )?
        .execute([needed_after])?;
    connection
        .prepare_cached(
            "DELETE FROM sites WHERE saved_after < ?1 AND hash NOT IN (SELECT hash FROM site_changes) \
             AND hash NOT IN (SELECT site_hash FROM snapshots) AND hash IS NOT ?2",
        )?
        .execute(params![needed_after, saved_site])?;
    Ok(())
}

/// The last site that a batch changes to.
pub(crate) fn last_site_change(inputs: &[StoredInput]) -> Option<&str> {
    inputs.iter().rev().find_map(|input| match input {
        StoredInput::Site(hash) | StoredInput::Change { hash, .. } => Some(hash.as_str()),
        _ => None,
    })
}
