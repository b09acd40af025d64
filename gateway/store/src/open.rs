//! Opening the database: turns a folder into a connection with the newest schema.
//!
//! A damaged database never keeps the gateway from starting. It is moved aside with its log, as it is, and a new one
//! is begun. What start-up will read is read here first, so that damage there shows now and not later; a full check
//! runs only after a commit has met damage, because it reads the whole file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kerbside_model::Timestamp;
use kerbside_runtime::{Chain, Clock};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tracing::{error, info, warn};

use crate::error::StoreError;
use crate::metrics::StoreMetrics;
use crate::schema;
use crate::sinks::Sinks;
use crate::totals::Totals;

const DATABASE_FILE: &str = "kerbside.db";
/// Left by a writer that met damage: the next start checks the whole file.
const SUSPECT_FILE: &str = "kerbside.db.suspect";
/// What belongs to a database file in WAL mode.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// A database that is ready for the writer.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) totals: Totals,
    pub(crate) sinks: Sinks,
    /// Where a damaged database went that was found instead.
    pub(crate) set_aside: Option<PathBuf>,
}

/// Opens or makes the database of a folder that this process has locked.
pub(crate) fn open_or_replace(folder: &Path, clock: &Clock, metrics: &StoreMetrics) -> Result<Opened, StoreError> {
    let path = folder.join(DATABASE_FILE);
    let damage = match open(folder, &path) {
        Err(error) if error.is_damage() => error,
        result => return result,
    };
    let aside = set_aside(&path, clock.now()).map_err(|source| StoreError::SetAside { path: path.clone(), source })?;
    metrics.set_aside.inc();
    let bytes = fs::metadata(&aside).map(|metadata| metadata.len()).unwrap_or(0);
    error!(
        database = %path.display(),
        set_aside = %aside.display(),
        bytes,
        cause = %Chain(&damage),
        "the database is damaged and was set aside; alarms, cases, undelivered messages and unsent telemetry in it \
         are lost to this gateway"
    );
    let mut opened = open(folder, &path)?;
    opened.set_aside = Some(aside);
    Ok(opened)
}

/// Notes that the writer met damage.
pub(crate) fn mark_suspect(folder: &Path) {
    if let Err(cause) = File::create(folder.join(SUSPECT_FILE)).and_then(|file| file.sync_all()) {
        warn!(cause = %Chain(&cause), "the note that the database is damaged could not be written");
    }
}

/// Whether SQLite found that the file is not what it wrote.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

impl StoreError {
    fn is_damage(&self) -> bool {
        match self {
            StoreError::Open { source, .. } | StoreError::Migrate { source, .. } => is_damage(source),
            _ => false,
        }
    }
}

fn open(folder: &Path, path: &Path) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let connection = schema::open_writer(path).map_err(failed)?;
    // Closing a damaged database must not copy its log into it; the writer does that itself when it ends.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    check_if_suspect(folder, &connection).map_err(failed)?;
    let found = schema::migrate(&connection, path)?;
    let version = schema::newest_version();
    if found == 0 {
        info!(database = %path.display(), version, "a new database was made");
    } else if found != version {
        info!(database = %path.display(), found, version, "the database schema was brought up to date");
    }
    probe(&connection).map_err(failed)?;
    let totals = Totals::load(&connection).map_err(failed)?;
    let sinks = Sinks::load(&connection).map_err(failed)?;
    Ok(Opened { connection, path: path.to_owned(), totals, sinks, set_aside: None })
}

/// Reads what start-up needs and where the next rows will go.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    const QUERIES: [&str; 8] = [
        "SELECT sum(length(record)) FROM alarms WHERE open = 1",
        "SELECT sum(length(record)) FROM cases WHERE kept = 1",
        "SELECT sum(length(record)) FROM outbox WHERE open = 1",
        "SELECT sum(seq) FROM sqlite_sequence",
        "SELECT max(number) + (SELECT max(number) FROM audit) FROM case_events",
        "SELECT max(number) FROM undecoded",
        "SELECT min(sequence) + (SELECT max(sequence) FROM batches) FROM batches",
        "SELECT count(*) FROM site_changes",
    ];
    for query in QUERIES {
        connection.query_row(query, [], |row| row.get::<_, Option<i64>>(0))?;
    }
    Ok(())
}

fn check_if_suspect(folder: &Path, connection: &Connection) -> rusqlite::Result<()> {
    let note = folder.join(SUSPECT_FILE);
    if File::open(&note).is_err() {
        return Ok(());
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(verdict)));
    }
    remove_note(&note);
    Ok(())
}

fn remove_note(note: &Path) {
    if let Err(cause) = fs::remove_file(note)
        && cause.kind() != io::ErrorKind::NotFound
    {
        warn!(cause = %Chain(&cause), "the note that the database may be damaged could not be removed");
    }
}

fn set_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let digits: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = with_suffix(path, &format!(".damaged-{digits}"));
    for part in PARTS {
        match fs::rename(with_suffix(path, part), with_suffix(&aside, part)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    remove_note(&folder.join(SUSPECT_FILE));
    File::open(folder)?.sync_all()?;
    Ok(aside)
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
