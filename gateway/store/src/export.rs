//! Reading a store from outside: turns the database of a folder into an overview and into batches, without its lock.
//!
//! A reader may work beside a running gateway: in WAL mode readers and the writer do not wait for one another. Each
//! batch is read in a transaction of its own, so that a long export does not keep the log from being cut. Nothing is
//! written, and memory holds one batch at a time.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kerbside_model::Timestamp;
use kerbside_model::site::SiteFacts;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::batch::CodecError;
use crate::error::StoreError;
use crate::open::{DATABASE_FILE, with_suffix};
use crate::query::{self, StoredBatch};
use crate::salvage::{self, SalvageReport};
use crate::schema;
use crate::sinks::Sinks;
use crate::snapshot;
use crate::totals::Totals;

/// A database that is only read.
#[derive(Debug)]
pub struct StoreReader {
    pub(crate) connection: Connection,
    path: PathBuf,
}

/// What is in a store, table by table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The database file.
    pub database: PathBuf,
    /// Its size, bytes.
    pub database_bytes: u64,
    /// Bytes in it that are free.
    pub free_bytes: u64,
    /// Size of its write-ahead log, bytes.
    pub log_bytes: u64,
    /// Version of its schema.
    pub schema_version: u32,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Number of the last batch.
    pub sequence: u64,
    /// Compressed bytes of the batches.
    pub batches_bytes: u64,
    /// Time of the oldest batch kept.
    pub oldest_batch_at: Option<Timestamp>,
    /// Time of the newest batch.
    pub newest_batch_at: Option<Timestamp>,
    /// The batch after which the newest snapshot was taken.
    pub snapshot_sequence: Option<u64>,
    /// Batches after it: a restart steps through them.
    pub batches_since_snapshot: u64,
    /// The last batch that each telemetry sink is known to have.
    pub cursors: BTreeMap<String, u64>,
    /// Alarms that stand.
    pub alarms_open: u64,
    /// Cases in no final state.
    pub cases_open: u64,
    /// Deliveries that are neither done nor given up.
    pub outbox_open: u64,
    /// Bytes of undecoded frames.
    pub undecoded_bytes: u64,
    /// Batches that a quota dropped since the database was made.
    pub dropped_batches: u64,
    /// Their compressed bytes.
    pub dropped_bytes: u64,
    /// Undecoded frames that a limit dropped since the database was made.
    pub dropped_undecoded: u64,
    /// What was salvaged when the database was last made out of a damaged one.
    pub last_salvage: Option<SalvageReport>,
    /// Damaged files that were set aside in the folder.
    pub set_aside: Vec<String>,
}

/// A batch of an export.
#[derive(Debug)]
pub struct ExportedBatch {
    /// Its number.
    pub sequence: u64,
    /// What it holds, or why that cannot be read.
    pub content: Result<StoredBatch, CodecError>,
}

const TABLES: [&str; 14] = [
    "alarms",
    "audit",
    "batches",
    "case_events",
    "cases",
    "cursors",
    "outbox",
    "refused_points",
    "salvages",
    "site_changes",
    "sites",
    "snapshots",
    "undecoded",
    "unknown_devices",
];

impl StoreReader {
    /// Opens the database of a folder for reading. It is neither made nor migrated.
    pub fn open(folder: &Path) -> Result<StoreReader, StoreError> {
        let path = folder.join(DATABASE_FILE);
        if !path.try_exists().unwrap_or(true) {
            return Err(StoreError::NoDatabase { path });
        }
        let failed = |source| StoreError::Open { path: path.clone(), source };
        let connection = schema::open_reader(&path).map_err(failed)?;
        let found = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).map_err(failed)?;
        let known = schema::newest_version();
        match found.cmp(&known) {
            std::cmp::Ordering::Greater => Err(StoreError::TooNew { path, found, known }),
            std::cmp::Ordering::Less => Err(StoreError::TooOld { path, found, known }),
            std::cmp::Ordering::Equal => Ok(StoreReader { connection, path }),
        }
    }

    /// Counts what is there. All numbers are of one moment.
    pub fn overview(&self) -> Result<Overview, StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(StoreError::read("the database"))?;
        let overview = self.read_overview(&transaction);
        drop(transaction);
        overview
    }

    fn read_overview(&self, connection: &Connection) -> Result<Overview, StoreError> {
        let failed = || StoreError::read("the sums of the database");
        let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, u64>(0)).map_err(failed());
        let mut rows = BTreeMap::new();
        for table in TABLES {
            rows.insert(table.to_owned(), number(&format!("SELECT count(*) FROM {table}"))?);
        }
        let totals = Totals::load(connection).map_err(failed())?;
        let (oldest_batch_at, outbox_open) = query::oldest_and_open(connection)?;
        let newest = connection
            .query_row("SELECT at FROM batches ORDER BY sequence DESC LIMIT 1", [], |row| row.get(0))
            .optional()
            .map_err(failed())?;
        let size = |suffix: &str| fs::metadata(with_suffix(&self.path, suffix)).map_or(0, |metadata| metadata.len());
        let page_bytes = number("SELECT page_size FROM pragma_page_size")?;
        Ok(Overview {
            database_bytes: size(""),
            free_bytes: number("SELECT freelist_count FROM pragma_freelist_count")? * page_bytes,
            log_bytes: size("-wal"),
            schema_version: schema::newest_version(),
            sequence: totals.sequence,
            batches_bytes: totals.batches_bytes,
            oldest_batch_at,
            newest_batch_at: newest.map(Timestamp),
            snapshot_sequence: (totals.snapshot_newest > 0).then_some(totals.snapshot_newest),
            batches_since_snapshot: totals.sequence - totals.snapshot_newest,
            cursors: Sinks::load(connection).map_err(failed())?.cursors(),
            alarms_open: number("SELECT count(*) FROM alarms WHERE open = 1")?,
            cases_open: number("SELECT count(*) FROM cases WHERE final = 0")?,
            outbox_open,
            undecoded_bytes: totals.undecoded_bytes,
            dropped_batches: totals.dropped_batches,
            dropped_bytes: totals.dropped_bytes,
            dropped_undecoded: totals.dropped_undecoded,
            last_salvage: salvage::newest(connection)?,
            set_aside: self.set_aside(),
            rows,
            database: self.path.clone(),
        })
    }

    /// Damaged databases beside this one.
    fn set_aside(&self) -> Vec<String> {
        let folder = self.path.parent().map(fs::read_dir);
        let Some(Ok(entries)) = folder else { return Vec::new() };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.retain(|name| name.starts_with("kerbside.db.damaged-"));
        names.sort_unstable();
        names
    }

    /// The next batch after this one that was committed in a span of time; `None` at the end.
    pub fn batch_after(&self, sequence: u64, at: Range<Timestamp>) -> Result<Option<ExportedBatch>, StoreError> {
        let query =
            "SELECT sequence FROM batches WHERE sequence > ?1 AND at >= ?2 AND at < ?3 ORDER BY sequence LIMIT 1";
        let next = self
            .connection
            .prepare_cached(query)
            .and_then(|mut statement| {
                let values = params![sequence, at.start.as_millis(), at.end.as_millis()];
                statement.query_row(values, |row| row.get::<_, u64>(0)).optional()
            })
            .map_err(StoreError::read("the next batch"))?;
        let Some(sequence) = next else { return Ok(None) };
        let packed = query::read_packed(&self.connection, sequence);
        let content = match packed.and_then(|packed| packed.map(query::PackedBatch::unpack).transpose()) {
            Ok(Some((batch, _))) => Ok(batch),
            // A quota dropped it meanwhile.
            Ok(None) => return self.batch_after(sequence, at),
            Err(damage) => Err(damage),
        };
        Ok(Some(ExportedBatch { sequence, content }))
    }

    /// The site stored under this content hash.
    pub fn site(&self, hash: &str) -> Result<Option<SiteFacts>, StoreError> {
        snapshot::site(&self.connection, hash)
    }

    /// Content hash of the site that was in force after this batch, as far as the kept batches and snapshots tell.
    pub fn site_after(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        snapshot::site_after(&self.connection, sequence).map_err(StoreError::read("the site in force"))
    }

    /// How many batches were committed in a span of time.
    pub fn batches_in(&self, at: Range<Timestamp>) -> Result<u64, StoreError> {
        let query = "SELECT count(*) FROM batches WHERE at >= ?1 AND at < ?2";
        let values = params![at.start.as_millis(), at.end.as_millis()];
        self.connection.query_row(query, values, |row| row.get(0)).map_err(StoreError::read("the number of batches"))
    }
}
