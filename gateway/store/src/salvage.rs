//! Salvages a damaged database: turns what SQLite can still read of it into a new one, row by row, and says what is
//! missing.
//!
//! Small tables come first, batches last. Rows are read in the order of their keys around the damage, so that a bad
//! page costs the rows on it and not the table. A row is taken over only when its content is sound: checksums of
//! batches, snapshots and sites, records that are what this program writes.
//!
//! **One thing wrong in the street stays one case.** A case whose row is lost, while its history, its deliveries or an
//! alarm name it, is made anew from them (see [`cases`]). A snapshot is taken over only when every batch is there:
//! stepping over a hole would forget alarms. Otherwise the engine starts from the tables.
//!
//! After a crash in the middle the damaged database is still in its place, and the salvage begins anew.

mod cases;
mod graft;
mod rows;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use kerbside_model::{Audit, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::schema;

use rows::{Copied, Table};

/// Ranges of lost rows that a report lists of one table; the count is exact beyond.
pub(crate) const RANGES_MAX: usize = 1000;
/// A number that is larger than all others by more than this is damage, not a number.
const JUMP_MAX: u64 = 1_000_000;
/// Who writes the line of the audit log.
const KERBSIDE: &str = "kerbside";

/// What became of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// Rows that were in it, as far as it can be known.
    pub found: u64,
    /// Rows in the new database.
    pub salvaged: u64,
    /// Rows that could not be read.
    pub lost: u64,
    /// Keys of lost rows, first and last: sequence numbers of batches, row numbers elsewhere. At most 1000.
    pub lost_ranges: Vec<(u64, u64)>,
    /// True when the numbers of lost rows are an upper bound: a damaged page hid rows of a table whose numbers have
    /// gaps anyway, or its end.
    pub is_estimate: bool,
}

/// What a salvage found, took over and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalvageReport {
    /// When.
    pub at: Timestamp,
    /// What showed the damage.
    pub cause: String,
    /// The damaged file, where it lies now.
    pub damaged_file: String,
    /// Number of the last batch that was ever committed, as far as it can be known.
    pub last_sequence: u64,
    /// Whether every batch and snapshot is there. If not, the engine starts from the tables.
    pub is_gapless: bool,
    /// Table by table.
    pub tables: Vec<TableReport>,
    /// Cases whose rows were lost and made anew from what names them.
    pub cases_rebuilt: Vec<String>,
    /// Cases that are named somewhere and of which too little is left.
    pub cases_unknown: Vec<String>,
    /// Deliveries that were lost and are to be looked up at their target.
    pub deliveries_rebuilt: u64,
}

impl SalvageReport {
    /// Rows lost in all tables.
    pub fn lost(&self) -> u64 {
        self.tables.iter().map(|table| table.lost).sum()
    }

    fn salvaged(&self) -> u64 {
        self.tables.iter().map(|table| table.salvaged).sum()
    }

    /// In a sentence, in English.
    pub fn summary(&self) -> String {
        if self.tables.is_empty() {
            return format!(
                "the database was damaged ({}) and nothing in it can be read; a new one was begun; the damaged file is {}",
                self.cause, self.damaged_file
            );
        }
        let losses: Vec<String> = self.losses().map(|table| format!("{} of {}", table.lost, table.table)).collect();
        let lost = if losses.is_empty() { "nothing".to_owned() } else { losses.join(", ") };
        format!(
            "the database was damaged ({}); {} rows were salvaged; lost: {lost}; {} cases were rebuilt; the damaged \
             file is {}",
            self.cause,
            self.salvaged(),
            self.cases_rebuilt.len(),
            self.damaged_file
        )
    }

    /// In a sentence, in Chinese.
    pub fn summary_zh(&self) -> String {
        if self.tables.is_empty() {
            return format!("数据库已损坏，无法读取任何内容，已新建数据库；损坏的文件保存在 {}", self.damaged_file);
        }
        let losses: Vec<String> = self.losses().map(|table| format!("{} {} 行", table.table, table.lost)).collect();
        let lost = if losses.is_empty() { "无".to_owned() } else { losses.join("、") };
        format!(
            "数据库已损坏；已抢救 {} 行；丢失：{lost}；重建案件 {} 件；损坏的文件保存在 {}",
            self.salvaged(),
            self.cases_rebuilt.len(),
            self.damaged_file
        )
    }

    fn losses(&self) -> impl Iterator<Item = &TableReport> {
        self.tables.iter().filter(|table| table.lost > 0)
    }
}

/// What is to be salvaged, and what is known about the damage.
pub(crate) struct Damage<'a> {
    /// The damaged database.
    pub(crate) from: &'a Path,
    /// What showed it.
    pub(crate) cause: String,
    /// Its log was damaged, so that the end may be missing without a trace.
    pub(crate) is_log_damaged: bool,
    /// Where the damaged file will lie.
    pub(crate) aside: &'a Path,
}

/// Told now and then: the table and its rows so far.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// Makes a new database at `to` out of a damaged one. The damaged one is only read, but for its log, which may get a
/// commit with a schema that can be read.
pub(crate) fn salvage(
    damage: &Damage<'_>,
    to: &Path,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<SalvageReport, StoreError> {
    let failed = |source| StoreError::Salvage { path: to.to_owned(), source };
    let target = begin(to)?;
    let source = graft::open_damaged(damage.from, to);
    let mut report = SalvageReport {
        at: now,
        cause: damage.cause.clone(),
        damaged_file: damage.aside.display().to_string(),
        ..SalvageReport::default()
    };
    if let Some(source) = &source {
        take_over(source, &target, &mut report, damage.is_log_damaged, progress).map_err(failed)?;
    }
    finish(&target, &report).map_err(failed)?;
    target.close().map_err(|(_, source)| failed(source))?;
    let synced = fs::File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|source| StoreError::SetAside { path: to.to_owned(), source })?;
    Ok(report)
}

/// A new, empty database that is written without syncs: it counts only once it is whole.
fn begin(to: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Salvage { path: to.to_owned(), source };
    for part in ["", "-wal", "-shm"] {
        match fs::remove_file(crate::open::with_suffix(to, part)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::SetAside { path: to.to_owned(), source });
            }
            _ => {}
        }
    }
    let target = schema::open_writer(to).map_err(failed)?;
    target.pragma_update(None, "synchronous", "OFF").map_err(failed)?;
    schema::migrate(&target, to)?;
    target.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    Ok(target)
}

/// Small tables, then batches, then what depends on whether all batches are there.
fn take_over(
    source: &Connection,
    target: &Connection,
    report: &mut SalvageReport,
    is_log_damaged: bool,
    progress: Progress<'_>,
) -> rusqlite::Result<()> {
    target.execute_batch("BEGIN")?;
    for table in &rows::SMALL_TABLES {
        let copied = rows::copy(source, target, table, progress)?;
        report.tables.push(finished(source, table, copied));
    }
    cases::rebuild(source, target, report)?;
    target.execute_batch("COMMIT; BEGIN")?;
    let batches = rows::copy(source, target, &rows::BATCHES, progress)?;
    let mut batches = finished(source, &rows::BATCHES, batches);
    report.last_sequence = last_sequence(source, target)?;
    count_ends(source, target, &mut batches, report.last_sequence)?;
    let snapshots = rows::copy(source, target, &rows::SNAPSHOTS, progress)?;
    let mut snapshots = finished(source, &rows::SNAPSHOTS, snapshots);
    let sites_lost = report.tables.iter().any(|table| table.table.starts_with("site") && table.lost > 0);
    report.is_gapless = !is_log_damaged
        && batches.lost + snapshots.lost == 0
        && !sites_lost
        && ["batches", "snapshots", "sites", "site_changes"].iter().all(|table| is_intact(source, table));
    if !report.is_gapless {
        // The engine would step over a hole.
        target.execute_batch("DELETE FROM snapshots")?;
        (snapshots.salvaged, snapshots.lost) = (0, snapshots.found);
    }
    report.tables.extend([batches, snapshots]);
    set_sums(target, report.last_sequence)?;
    target.execute_batch("COMMIT")
}

fn is_intact(source: &Connection, table: &str) -> bool {
    let verdict = source.query_row(&format!("PRAGMA integrity_check({table})"), [], |row| row.get::<_, String>(0));
    verdict.is_ok_and(|verdict| verdict == "ok")
}

/// Adds what the other copies of a table's keys tell: its counter, or an index.
fn finished(source: &Connection, table: &Table, copied: Copied) -> TableReport {
    let mut report = TableReport {
        table: table.name.to_owned(),
        salvaged: copied.salvaged,
        lost: copied.lost,
        lost_ranges: copied.ranges,
        is_estimate: copied.is_estimate,
        ..TableReport::default()
    };
    if copied.is_end_hidden {
        let counter = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
        let last = source.query_row(counter, [table.name], |row| row.get::<_, u64>(0)).unwrap_or(0);
        let plausible = last > copied.last && last - copied.last <= JUMP_MAX;
        if plausible {
            add_range(&mut report, copied.last + 1, last);
        }
        report.is_estimate |= !plausible;
    }
    if let Some(index) = table.index {
        let count = format!("SELECT count(*) FROM {} INDEXED BY {index}", table.name);
        let rows = source.query_row(&count, [], |row| row.get::<_, u64>(0)).unwrap_or(0);
        if rows >= report.salvaged && (copied.is_end_hidden || report.lost > 0) {
            report.lost = rows - report.salvaged;
            report.is_estimate = false;
        }
    }
    report.found = report.salvaged + report.lost;
    report
}

fn add_range(report: &mut TableReport, first: u64, last: u64) {
    report.lost += last - first + 1;
    if report.lost_ranges.len() < RANGES_MAX {
        report.lost_ranges.push((first, last));
    }
}

/// The largest number that a batch is known to have had. Numbers are never used again: sinks count on that.
fn last_sequence(source: &Connection, target: &Connection) -> rusqlite::Result<u64> {
    let largest = |connection: &Connection, column: &str, table: &str| {
        connection.query_row(&format!("SELECT max({column}) FROM {table}"), [], |row| row.get::<_, Option<u64>>(0))
    };
    let mut known = vec![
        largest(target, "sequence", "batches")?.unwrap_or(0),
        largest(target, "sequence", "site_changes")?.unwrap_or(0),
        largest(source, "sequence", "snapshots").ok().flatten().unwrap_or(0),
        largest(target, "sequence", "totals")?.unwrap_or(0),
        largest(target, "last_sequence", "salvages")?.unwrap_or(0),
    ];
    let mut cursors = target.prepare("SELECT sequence FROM cursors")?;
    known.extend(cursors.query_map([], |row| row.get::<_, u64>(0))?.collect::<rusqlite::Result<Vec<u64>>>()?);
    known.sort_unstable();
    let mut last = 0;
    for number in known {
        if last > 0 && number - last > JUMP_MAX {
            break;
        }
        last = number;
    }
    target.execute("DELETE FROM cursors WHERE sequence > ?1", [last])?;
    Ok(last)
}

/// Counts batches that are missing before the first and after the last salvaged one.
fn count_ends(
    source: &Connection,
    target: &Connection,
    batches: &mut TableReport,
    last_sequence: u64,
) -> rusqlite::Result<()> {
    let ends = "SELECT min(sequence), max(sequence) FROM batches";
    let (first, last): (Option<u64>, Option<u64>) = target.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sums = "SELECT sequence - batches + 1, batches FROM totals";
    let sums = source.query_row(sums, [], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))).optional();
    let oldest = match sums {
        Ok(Some((oldest, kept))) if kept > 0 => Some(oldest),
        _ => None,
    };
    batches.lost_ranges.retain(|(begin, _)| first.is_some_and(|first| *begin > first));
    batches.lost = batches.lost_ranges.iter().map(|(begin, end)| end - begin + 1).sum();
    match (oldest, first) {
        (Some(oldest), Some(first)) if oldest < first => add_range(batches, oldest, first - 1),
        (Some(oldest), None) if oldest <= last_sequence => add_range(batches, oldest, last_sequence),
        (None, _) => batches.is_estimate = true,
        _ => {}
    }
    let covered = batches.lost_ranges.iter().map(|(_, end)| *end).max().unwrap_or(0).max(last.unwrap_or(0));
    if last.is_some() && covered < last_sequence {
        add_range(batches, covered + 1, last_sequence);
    }
    batches.lost_ranges.sort_unstable();
    batches.found = batches.salvaged + batches.lost;
    Ok(())
}

/// Sums and counters of the new database.
fn set_sums(target: &Connection, last_sequence: u64) -> rusqlite::Result<()> {
    target.execute(
        "UPDATE totals SET sequence = ?1, batches = (SELECT count(*) FROM batches), \
         batches_bytes = (SELECT coalesce(sum(bytes), 0) FROM batches), \
         undecoded = (SELECT count(*) FROM undecoded), \
         undecoded_bytes = (SELECT coalesce(sum(bytes), 0) FROM undecoded)",
        [last_sequence],
    )?;
    Ok(())
}

/// Leaves word of the salvage in the new database, and copies its log into it.
fn finish(target: &Connection, report: &SalvageReport) -> rusqlite::Result<()> {
    let line = Audit {
        at: report.at,
        by: KERBSIDE.to_owned(),
        action: "database_salvaged".to_owned(),
        subject: "store".to_owned(),
        detail: report.summary(),
    };
    let json = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let record = serde_json::to_string(&line).map_err(json)?;
    target.execute("INSERT INTO audit(subject, record) VALUES ('store', ?1)", [record])?;
    let text = serde_json::to_string(report).map_err(json)?;
    target.execute(
        "INSERT INTO salvages(at, last_sequence, gapless, report) VALUES (?1, ?2, ?3, ?4)",
        params![report.at.as_millis(), report.last_sequence, report.is_gapless, text],
    )?;
    target.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    target.pragma_update(None, "synchronous", "FULL")?;
    target.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The newest salvage that this database came out of.
pub(crate) fn newest(connection: &Connection) -> Result<Option<SalvageReport>, StoreError> {
    let text = connection
        .query_row("SELECT report FROM salvages ORDER BY number DESC LIMIT 1", [], |row| row.get::<_, String>(0))
        .optional()
        .map_err(StoreError::read("the last salvage"))?;
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|source| StoreError::DamagedRecord {
            what: "salvage",
            id: "report".to_owned(),
            source,
        })
    };
    text.map(parse).transpose()
}
