//! The whole check of a store: every page, every checksum, and what belongs together.
//!
//! Only reads. Beside a running gateway the log is not looked at, because it changes meanwhile; and the check of the
//! pages is one long read, during which the log cannot be cut and grows by what is committed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kerbside_model::{Alarm, Audit, Case, CaseEvent, OutboxRow};
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::StoredBody;
use crate::error::StoreError;
use crate::export::StoreReader;
use crate::lock::FolderLock;
use crate::open::{DATABASE_FILE, with_suffix};
use crate::{query, wal};

/// Findings that are listed; the rest is only counted.
const FINDINGS_MAX: usize = 1000;
/// Faults of the file that SQLite lists.
const PAGE_FAULTS_MAX: usize = 100;
/// Batches between two reports of progress.
const PROGRESS_BATCHES: u64 = 1000;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: `file`, `log`, or the name of a table.
    pub place: String,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// The outcome of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// What is wrong; at most 1000.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more: u64,
    /// Batches whose content was decoded.
    pub batches: u64,
    /// Snapshots that were unpacked.
    pub snapshots: u64,
    /// Records that were parsed.
    pub records: u64,
    /// A gateway runs on the folder: its log was not checked.
    pub is_in_use: bool,
}

impl Verification {
    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, place: &str, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { place: place.to_owned(), what: what.into() });
        } else {
            self.more += 1;
        }
    }
}

/// Checks the store of a folder. `progress` is told now and then what is being checked and how far that is.
pub fn verify(folder: &Path, progress: &mut dyn FnMut(&str, u64)) -> Result<Verification, StoreError> {
    let mut found = Verification::default();
    let path = folder.join(DATABASE_FILE);
    if !path.try_exists().unwrap_or(true) {
        return Err(StoreError::NoDatabase { path });
    }
    // Held until the end, so that no gateway starts in the middle; one that runs already is none of our business.
    let lock = match FolderLock::take(folder) {
        Ok(lock) => Some(lock),
        Err(StoreError::Locked { .. }) => None,
        Err(other) => return Err(other),
    };
    found.is_in_use = lock.is_none();
    if lock.is_some() {
        check_log(&path, &mut found);
    }
    let reader = match StoreReader::open(folder) {
        Ok(reader) => reader,
        Err(StoreError::Open { source, .. }) => {
            found.find("file", format!("it cannot be opened: {source}"));
            return Ok(found);
        }
        Err(other) => return Err(other),
    };
    let connection = &reader.connection;
    progress("pages", 0);
    check_pages(connection, &mut found);
    check_batches(connection, &mut found, progress);
    check_bodies(connection, &mut found);
    progress("records", 0);
    check_records(connection, &mut found);
    check_ties(connection, &mut found);
    Ok(found)
}

fn check_log(path: &Path, found: &mut Verification) {
    let bytes = match fs::read(with_suffix(path, "-wal")) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return,
        Err(cause) => return found.find("log", format!("it cannot be read: {cause}")),
    };
    if let Some((mended, _)) = wal::repair(&bytes) {
        let wal::Mended { corrected, damaged, regained } = mended;
        found.find(
            "log",
            format!(
                "{} pages in it are damaged, and hide {regained} behind them; the next start mends it",
                corrected + damaged
            ),
        );
    }
}

fn check_pages(connection: &Connection, found: &mut Verification) {
    let faults = connection.prepare(&format!("PRAGMA integrity_check({PAGE_FAULTS_MAX})")).and_then(|mut statement| {
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<String>>>()
    });
    match faults {
        Ok(faults) => faults.iter().filter(|fault| *fault != "ok").for_each(|fault| found.find("file", fault)),
        Err(cause) => found.find("file", format!("its pages cannot be checked: {cause}")),
    }
}

/// Each batch is decoded; the numbers must have no gaps, because only the oldest ever go.
fn check_batches(connection: &Connection, found: &mut Verification, progress: &mut dyn FnMut(&str, u64)) {
    let next = "SELECT sequence FROM batches WHERE sequence > ?1 ORDER BY sequence LIMIT 1";
    let mut last: Option<u64> = None;
    loop {
        let next = connection.prepare_cached(next).and_then(|mut statement| {
            let mut rows = statement.query([last.unwrap_or(0)])?;
            rows.next()?.map(|row| row.get::<_, u64>(0)).transpose()
        });
        let sequence = match next {
            Ok(Some(sequence)) => sequence,
            Ok(None) => break,
            Err(cause) => {
                found.find("batches", format!("what comes after {} cannot be read: {cause}", last.unwrap_or(0)));
                return;
            }
        };
        if let Some(before) = last.filter(|before| before + 1 < sequence) {
            found.find("batches", format!("{} to {} are missing", before + 1, sequence - 1));
        }
        last = Some(sequence);
        let read = query::read_packed(connection, sequence);
        if let Err(cause) = read.and_then(|packed| packed.map(query::PackedBatch::unpack).transpose()) {
            found.find("batches", format!("{sequence}: {}", kerbside_runtime::Chain(&cause)));
        }
        found.batches += 1;
        if found.batches.is_multiple_of(PROGRESS_BATCHES) {
            progress("batches", found.batches);
        }
    }
    let kept = connection.query_row("SELECT sequence, batches FROM totals", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let sums: (u64, u64) = match kept {
        Ok(sums) => sums,
        Err(cause) => return found.find("totals", format!("it cannot be read: {cause}")),
    };
    let counted = "SELECT count(*) FROM batches WHERE sequence <= ?1";
    let counted: u64 = connection.query_row(counted, [sums.0], |row| row.get(0)).unwrap_or(sums.1);
    if counted != sums.1 {
        found.find("totals", format!("it counts {} batches up to {}, and {counted} are there", sums.1, sums.0));
    }
}

/// Snapshots and sites are unpacked; after the newest snapshot every batch must be there.
fn check_bodies(connection: &Connection, found: &mut Verification) {
    let mut newest = 0_u64;
    for (table, key) in [("snapshots", "CAST(sequence AS TEXT)"), ("sites", "hash")] {
        let select = format!("SELECT {key}, format, raw_bytes, body FROM {table}");
        let mut bad = Vec::new();
        let read = each(connection, &select, |row| {
            let id: String = row.get(0)?;
            let body = row.get_ref(3)?.as_blob()?;
            let unpacked = StoredBody { format: row.get(1)?, raw_bytes: row.get(2)?, body }.unpack();
            if table == "snapshots" {
                found.snapshots += 1;
                newest = newest.max(id.parse().unwrap_or(0));
            }
            if let Err(cause) = unpacked {
                bad.push(format!("{id}: {}", kerbside_runtime::Chain(&cause)));
            }
            Ok(())
        });
        bad.into_iter().for_each(|what| found.find(table, what));
        if let Err(cause) = read {
            found.find(table, format!("it cannot be read to its end: {cause}"));
        }
    }
    let after = "SELECT count(*), coalesce(max(sequence), ?1) FROM batches WHERE sequence > ?1";
    let after = connection.query_row(after, [newest], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)));
    if let Ok((count, last)) = after
        && last - newest != count
    {
        found.find("snapshots", format!("batches after {newest} are missing: a restart takes the tables instead"));
    }
}

fn each(
    connection: &Connection,
    select: &str,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(select)?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

fn check_records(connection: &Connection, found: &mut Verification) {
    parse_all::<Alarm>(connection, "alarms", "id", found);
    parse_all::<Case>(connection, "cases", "id", found);
    parse_all::<CaseEvent>(connection, "case_events", "CAST(number AS TEXT)", found);
    parse_all::<OutboxRow>(connection, "outbox", "CAST(number AS TEXT)", found);
    parse_all::<Audit>(connection, "audit", "CAST(number AS TEXT)", found);
}

fn parse_all<T: DeserializeOwned>(connection: &Connection, table: &str, key: &str, found: &mut Verification) {
    let mut bad = Vec::new();
    let mut count = 0;
    let read = each(connection, &format!("SELECT {key}, record FROM {table}"), |row| {
        let id: String = row.get(0)?;
        count += 1;
        match row.get_ref(1)?.as_bytes().ok().map(serde_json::from_slice::<T>) {
            Some(Ok(_)) => {}
            Some(Err(cause)) => bad.push(format!("{id} is not what kerbside writes: {cause}")),
            None => bad.push(format!("{id} has no text")),
        }
        Ok(())
    });
    found.records += count;
    bad.into_iter().for_each(|what| found.find(table, what));
    if let Err(cause) = read {
        found.find(table, format!("it cannot be read to its end: {cause}"));
    }
}

/// A case has a history; history, deliveries and alarms have a case.
fn check_ties(connection: &Connection, found: &mut Verification) {
    const TIES: [(&str, &str, &str); 4] = [
        ("cases", "SELECT id FROM cases WHERE id NOT IN (SELECT case_id FROM case_events)", "has no history"),
        (
            "case_events",
            "SELECT DISTINCT case_id FROM case_events WHERE case_id NOT IN (SELECT id FROM cases)",
            "is named and there is no such case",
        ),
        (
            "outbox",
            "SELECT DISTINCT case_id FROM outbox WHERE case_id <> '' AND case_id NOT IN (SELECT id FROM cases)",
            "is to be delivered and there is no such case",
        ),
        (
            "alarms",
            "SELECT DISTINCT json_extract(record, '$.case_id') FROM alarms \
             WHERE json_valid(record) AND json_extract(record, '$.case_id') NOT IN (SELECT id FROM cases)",
            "is an alarm's case and there is no such case",
        ),
    ];
    for (table, query, what) in TIES {
        let mut ids = BTreeSet::new();
        let read = each(connection, query, |row| {
            ids.insert(row.get::<_, String>(0)?);
            Ok(())
        });
        ids.into_iter().for_each(|id| found.find(table, format!("{id} {what}")));
        if let Err(cause) = read {
            found.find(table, format!("it cannot be compared with the cases: {cause}"));
        }
    }
}
