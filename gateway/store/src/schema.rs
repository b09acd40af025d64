//! The schema of the database: turns an empty or an older file into one that this program works with.
//!
//! `PRAGMA user_version` holds the version. Every migration is one transaction, so a crash in the middle leaves the
//! version before. Records are JSON beside the columns that are searched: a new field of a record needs no migration.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::StoreError;

/// Migrations in order: the first one makes version 1 from nothing. One that was shipped is never changed.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3];

const VERSION_1: &str = "
CREATE TABLE batches(
    sequence INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE snapshots(
    sequence INTEGER PRIMARY KEY,
    engine_version INTEGER NOT NULL,
    site_hash TEXT NOT NULL,
    raw_bytes INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE sites(
    hash TEXT PRIMARY KEY,
    saved_after INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE site_changes(
    sequence INTEGER PRIMARY KEY,
    hash TEXT NOT NULL);
CREATE TABLE cursors(
    sink TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL);
CREATE TABLE alarms(
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    condition TEXT NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX alarms_by_time ON alarms(opened_at, id);
CREATE INDEX alarms_by_device ON alarms(device, opened_at, id);
CREATE INDEX alarms_open ON alarms(opened_at, id) WHERE open = 1;
CREATE TABLE cases(
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    condition TEXT NOT NULL,
    state TEXT NOT NULL,
    final INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX cases_by_time ON cases(opened_at, id);
CREATE INDEX cases_by_device ON cases(device, opened_at, id);
CREATE INDEX cases_kept ON cases(opened_at, id) WHERE kept = 1;
CREATE INDEX cases_not_final ON cases(opened_at, id) WHERE final = 0;
CREATE TABLE case_events(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id TEXT NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX case_events_by_case ON case_events(case_id, number);
CREATE TABLE outbox(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL,
    case_id TEXT NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL,
    note TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX outbox_open ON outbox(number) WHERE open = 1;
CREATE INDEX outbox_by_case ON outbox(case_id, number);
CREATE TABLE audit(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL,
    record TEXT NOT NULL);
CREATE INDEX audit_by_subject ON audit(subject, number);
CREATE TABLE undecoded(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    device TEXT,
    detail TEXT NOT NULL,
    at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    frame BLOB NOT NULL);
CREATE INDEX undecoded_by_address ON undecoded(source, address, reason, number);
CREATE TABLE totals(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL DEFAULT 0,
    batches INTEGER NOT NULL DEFAULT 0,
    batches_bytes INTEGER NOT NULL DEFAULT 0,
    undecoded INTEGER NOT NULL DEFAULT 0,
    undecoded_bytes INTEGER NOT NULL DEFAULT 0,
    dropped_batches INTEGER NOT NULL DEFAULT 0,
    dropped_bytes INTEGER NOT NULL DEFAULT 0,
    dropped_undecoded INTEGER NOT NULL DEFAULT 0,
    exceeded INTEGER NOT NULL DEFAULT 0,
    excess_batches INTEGER NOT NULL DEFAULT 0,
    excess_bytes INTEGER NOT NULL DEFAULT 0);
INSERT INTO totals(id) VALUES (1);
";

const VERSION_2: &str = "
CREATE TABLE unknown_devices(
    source TEXT NOT NULL,
    address TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (source, address)) WITHOUT ROWID;
CREATE INDEX unknown_devices_by_time ON unknown_devices(last_seen, source, address);
";

const VERSION_3: &str = "
CREATE TABLE refused_points(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    device TEXT NOT NULL,
    line TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    bytes_through INTEGER NOT NULL);
CREATE TABLE salvages(
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    gapless INTEGER NOT NULL,
    report TEXT NOT NULL);
ALTER TABLE totals ADD COLUMN exceeded_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN undecoded_exceeded INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN undecoded_exceeded_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN undecoded_excess INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN undecoded_excess_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE wear(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    day INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    exceeded_since INTEGER NOT NULL);
INSERT INTO wear VALUES (1, 0, 0, 0);
";

/// Page cache of the writer, KiB. A batch is written once and not read again soon.
const WRITER_CACHE_KIB: i32 = 1024;
/// Page cache of each reading connection, KiB.
const READER_CACHE_KIB: i32 = 512;
/// Statements kept ready per connection; the writer has about thirty.
const STATEMENTS_MAX: usize = 48;
/// The writer copies the log into the database itself, after it has acknowledged; this is for when it cannot keep up.
/// Pages of 4096 bytes.
const CHECKPOINT_PAGES_MAX: u32 = 2048;
/// A log that grew above this under load is cut again.
const LOG_BYTES_KEPT: u32 = 16 * 1024 * 1024;
/// The lock keeps other gateways out; only a copying tool (backup) may hold the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The newest version that this program knows.
pub(crate) fn newest_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("there are few migrations")
}

/// Opens the writing connection and sets it up. `auto_vacuum` counts only before the first table is made.
pub(crate) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    set_up(&connection, WRITER_CACHE_KIB)?;
    // Set once: setting it again would write a page at every start.
    let auto_vacuum: u32 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if auto_vacuum == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update_and_check(None, "secure_delete", false, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES_MAX, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    set_up(&connection, READER_CACHE_KIB)?;
    Ok(connection)
}

fn set_up(connection: &Connection, cache_kib: i32) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// Brings the schema to the newest version. Returns the version that was found.
pub(crate) fn migrate(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let known = newest_version();
    if found > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    for (script, version) in MIGRATIONS.iter().zip(1..).skip(found as usize) {
        migrate_one(connection, script, version).map_err(|source| StoreError::Migrate { version, source })?;
    }
    Ok(found)
}

fn migrate_one(connection: &Connection, script: &str, version: u32) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(script)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
