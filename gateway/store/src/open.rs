//! Opening the database: turns a folder into a connection with the newest schema.
//!
//! A damaged database never keeps the gateway from starting. What can be read of it is salvaged into a new one; then
//! the damaged one is moved aside with its log, with a report beside it. What start-up will read is read here first,
//! so that damage there shows now and not later; a full check runs only after damage was met, because it reads the
//! whole file. A damaged log is mended before SQLite sees it.
//!
//! After a crash in a salvage, the next start finds either the damaged database in its place, or the whole new one
//! under its temporary name.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_runtime::{Chain, Clock};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tracing::{error, info, warn};

use crate::error::StoreError;
use crate::metrics::StoreMetrics;
use crate::salvage::{self, Damage, SalvageReport};
use crate::sinks::Sinks;
use crate::totals::Totals;
use crate::{query, refused, schema, snapshot, wal};

pub(crate) const DATABASE_FILE: &str = "kerbside.db";
/// Left by a writer that met damage: the next start checks the whole file.
const SUSPECT_FILE: &str = "kerbside.db.suspect";
/// What the note says when the log was damaged; otherwise it is empty.
const LOG_WAS_DAMAGED: &str = "the log was damaged";
/// What belongs to a database file in WAL mode.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];
/// A salvage in the making, and one that is whole and waits for its name.
const SALVAGING: &str = ".salvaging";
const SALVAGED: &str = ".salvaged";
/// A long salvage says so often how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// A database that is ready for the writer.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) totals: Totals,
    pub(crate) sinks: Sinks,
    /// What stays wrong although commits work.
    pub(crate) standing: Option<String>,
}

/// Opens or makes the database of a folder that this process has locked.
pub(crate) fn open_or_replace(folder: &Path, clock: &Clock, metrics: &StoreMetrics) -> Result<Opened, StoreError> {
    let path = folder.join(DATABASE_FILE);
    let now = clock.now();
    let moved = |source| StoreError::SetAside { path: path.clone(), source };
    finish_interrupted(&path).map_err(moved)?;
    let log_note = mend_log(folder, &path, now)?;
    let cause = match open(folder, &path) {
        Err(cause) if is_damage_at_open(&path, &cause) => cause,
        Err(other) => return Err(other),
        Ok(opened) => return Ok(Opened { standing: log_note, ..opened }),
    };
    metrics.set_aside.inc();
    let aside = aside_name(&path, now);
    error!(database = %path.display(), cause = %Chain(&cause), "the database is damaged; what can be read is salvaged");
    let report = salvage_in_place(folder, &path, &aside, &cause, now)?;
    // Only now: until here, a crash finds the damaged database in its place and begins anew.
    set_aside(&path, &aside).map_err(moved)?;
    let opened = finish_interrupted(&path).map_err(moved).and_then(|()| open(folder, &path));
    let opened = match opened {
        // What was salvaged cannot be opened: better an empty database than none.
        Err(cause) if is_damage_at_open(&path, &cause) => {
            error!(cause = %Chain(&cause), "what was salvaged cannot be opened; a new database is begun");
            set_aside(&path, &aside_name(&path, now)).map_err(moved)?;
            open(folder, &path)?
        }
        other => other?,
    };
    log_report(&report);
    Ok(Opened { standing: Some(report.summary()), ..opened })
}

/// Gives a salvage that is whole the name of the database, when the damaged one is out of the way.
fn finish_interrupted(path: &Path) -> io::Result<()> {
    let salvaged = with_suffix(path, SALVAGED);
    if !salvaged.try_exists()? {
        return Ok(());
    }
    if path.try_exists()? {
        // The damaged one is still there: the salvage is made again from it.
        return fs::remove_file(&salvaged);
    }
    fs::rename(&salvaged, path)?;
    sync_folder_of(path)
}

/// Mends the log. What is damaged in it beyond mending makes the database suspect.
fn mend_log(folder: &Path, path: &Path, now: Timestamp) -> Result<Option<String>, StoreError> {
    let log = with_suffix(path, "-wal");
    let aside = with_suffix(&aside_name(path, now), "-log");
    let mended = wal::mend(&log, &aside).map_err(|source| StoreError::MendLog { path: log.clone(), source })?;
    let Some(mended) = mended else { return Ok(None) };
    let wal::Mended { corrected, damaged, regained } = mended;
    warn!(corrected, damaged, regained, damaged_log = %aside.display(), "the log of the database was damaged and is mended");
    if damaged == 0 {
        return Ok(None);
    }
    note_suspect(folder, LOG_WAS_DAMAGED);
    Ok(Some(format!(
        "the log of the database was damaged: {damaged} pages in it cannot be trusted, {regained} behind were regained; \
         the damaged log is {}",
        aside.display()
    )))
}

/// Salvages into a new database beside the damaged one. When that is whole it waits under a name of its own.
fn salvage_in_place(
    folder: &Path,
    path: &Path,
    aside: &Path,
    cause: &StoreError,
    now: Timestamp,
) -> Result<SalvageReport, StoreError> {
    let target = with_suffix(path, SALVAGING);
    let damage = Damage { from: path, cause: Chain(cause).to_string(), is_log_damaged: was_log_damaged(folder), aside };
    let began = Clock::stamp();
    let mut told = Duration::ZERO;
    let mut progress = |table: &str, rows: u64| {
        if began.elapsed() - told >= PROGRESS_INTERVAL {
            told = began.elapsed();
            info!(table, rows, "salvaging");
        }
    };
    let report = match salvage::salvage(&damage, &target, now, &mut progress) {
        Ok(report) => report,
        Err(cause) if is_disk(&cause) => return Err(cause),
        Err(cause) => {
            error!(cause = %Chain(&cause), "nothing could be salvaged; a new database is begun");
            let nothing = Damage { from: Path::new(""), ..damage };
            salvage::salvage(&nothing, &target, now, &mut |_, _| {})?
        }
    };
    let written = write_report(aside, &report)
        .and_then(|()| fs::rename(&target, with_suffix(path, SALVAGED)))
        .and_then(|()| sync_folder_of(path));
    written.map_err(|source| StoreError::SetAside { path: path.to_owned(), source })?;
    Ok(report)
}

fn write_report(aside: &Path, report: &SalvageReport) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(io::Error::other)?;
    fs::write(with_suffix(aside, ".report.json"), text)
}

fn log_report(report: &SalvageReport) {
    for table in report.tables.iter().filter(|table| table.found > 0) {
        let (found, salvaged, lost) = (table.found, table.salvaged, table.lost);
        let first_ranges = &table.lost_ranges[..table.lost_ranges.len().min(10)];
        info!(table = %table.table, found, salvaged, lost, lost_ranges = ?first_ranges, "table salvaged");
    }
    error!(
        lost = report.lost(),
        cases_rebuilt = report.cases_rebuilt.len(),
        cases_unknown = report.cases_unknown.len(),
        deliveries_rebuilt = report.deliveries_rebuilt,
        is_gapless = report.is_gapless,
        set_aside = %report.damaged_file,
        "the damaged database was salvaged and set aside; its report lies beside it"
    );
}

/// Whether the disk, and not the database, is what keeps a salvage from being written.
fn is_disk(error: &StoreError) -> bool {
    match error {
        StoreError::Salvage { source, .. } => matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly)
        ),
        StoreError::SetAside { .. } => true,
        _ => false,
    }
}

/// Notes that damage was met.
pub(crate) fn mark_suspect(folder: &Path) {
    note_suspect(folder, "");
}

fn note_suspect(folder: &Path, text: &str) {
    use std::io::Write as _;
    let written = File::create(folder.join(SUSPECT_FILE))
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    if let Err(cause) = written {
        warn!(cause = %Chain(&cause), "the note that the database is damaged could not be written");
    }
}

fn was_log_damaged(folder: &Path) -> bool {
    fs::read_to_string(folder.join(SUSPECT_FILE)).is_ok_and(|text| text == LOG_WAS_DAMAGED)
}

/// Salvages a damaged file by hand into a folder that has no database yet. The file is left as it is, but for its log.
pub(crate) fn salvage_file(
    file: &Path,
    folder: &Path,
    now: Timestamp,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<SalvageReport, StoreError> {
    let path = folder.join(DATABASE_FILE);
    let moved = |source| StoreError::SetAside { path: path.clone(), source };
    if path.try_exists().map_err(moved)? {
        return Err(StoreError::NotEmpty { path });
    }
    if !file.try_exists().map_err(moved)? {
        return Err(StoreError::NoDatabase { path: file.to_owned() });
    }
    let log = with_suffix(file, "-wal");
    let mended = wal::mend(&log, &with_suffix(&aside_name(file, now), "-log"))
        .map_err(|source| StoreError::MendLog { path: log.clone(), source })?;
    let damage = Damage {
        from: file,
        cause: "salvaged by hand".to_owned(),
        is_log_damaged: mended.is_some_and(|mended| mended.damaged > 0),
        aside: file,
    };
    let target = with_suffix(&path, SALVAGING);
    let report = salvage::salvage(&damage, &target, now, progress)?;
    let written = write_report(&path, &report).and_then(|()| fs::rename(&target, &path));
    written.and_then(|()| sync_folder_of(&path)).map_err(moved)?;
    Ok(report)
}

/// Whether SQLite found that the file is not what it wrote, or a page of it cannot be read from the disk.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    const UNREADABLE: [i32; 2] = [rusqlite::ffi::SQLITE_IOERR_READ, rusqlite::ffi::SQLITE_IOERR_SHORT_READ];
    match error {
        rusqlite::Error::SqliteFailure(cause, _) if cause.code == ErrorCode::SystemIoFailure => {
            UNREADABLE.contains(&cause.extended_code)
        }
        other => matches!(other.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
    }
}

/// Whether an error of [`open`] comes from the content of the file. All that is not the disk's or another process's
/// does: a rotten byte in the header looks like many things.
fn is_damage_at_open(path: &Path, error: &StoreError) -> bool {
    let source = match error {
        StoreError::Open { source, .. } | StoreError::Migrate { source, .. } | StoreError::Read { source, .. } => {
            source
        }
        StoreError::DamagedRecord { .. } => return true,
        _ => return false,
    };
    match source.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => is_damage(source),
        Some(ErrorCode::ReadOnly) => !claims_this_format(path),
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory,
        ) => false,
        _ => true,
    }
}

/// Whether the header says that this SQLite may write the file.
fn claims_this_format(path: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && (1..=2).contains(&header[18]) && (1..=2).contains(&header[19])
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
    probe(&connection)?;
    let totals = Totals::load(&connection).map_err(failed)?;
    let sinks = Sinks::load(&connection).map_err(failed)?;
    Ok(Opened { connection, path: path.to_owned(), totals, sinks, standing: None })
}

/// Reads what start-up needs and where the next rows will go. A record that cannot be parsed is damage as well.
fn probe(connection: &Connection) -> Result<(), StoreError> {
    const QUERIES: [&str; 7] = [
        "SELECT sum(seq) FROM sqlite_sequence",
        "SELECT max(number) + (SELECT max(number) FROM audit) FROM case_events",
        "SELECT max(number) + (SELECT max(number) FROM outbox) FROM undecoded",
        "SELECT min(sequence) + (SELECT max(sequence) FROM batches) FROM batches",
        "SELECT count(*) FROM site_changes",
        "SELECT max(sequence) FROM snapshots",
        "SELECT max(opened_at) + (SELECT max(opened_at) FROM cases) FROM alarms",
    ];
    for query in QUERIES {
        let read = connection.query_row(query, [], |row| row.get::<_, Option<i64>>(0));
        read.map_err(StoreError::read("the ends of the tables"))?;
    }
    query::alarms_open(connection)?;
    query::cases_kept(connection)?;
    query::outbox_open(connection)?;
    query::oldest_and_open(connection)?;
    refused::count(connection)?;
    salvage::newest(connection)?;
    snapshot::site_after(connection, u64::from(u32::MAX)).map_err(StoreError::read("the site in force"))?;
    Ok(())
}

fn check_if_suspect(folder: &Path, connection: &Connection) -> rusqlite::Result<()> {
    let note = folder.join(SUSPECT_FILE);
    if File::open(&note).is_err() {
        return Ok(());
    }
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
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

/// A name for what is damaged, by the time; one that is not taken.
fn aside_name(path: &Path, now: Timestamp) -> PathBuf {
    let digits: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let name = |count: u32| with_suffix(path, &format!(".damaged-{digits}-{count}"));
    (1..).map(name).find(|name| !name.try_exists().unwrap_or(false)).expect("there are more names than files")
}

fn set_aside(path: &Path, aside: &Path) -> io::Result<()> {
    for part in PARTS {
        match fs::rename(with_suffix(path, part), with_suffix(aside, part)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    remove_note(&path.with_file_name(SUSPECT_FILE));
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
