//! A harness that cannot find a loss proves nothing: a database that does not sync must lose commits here.

use fastrand::Rng;
use kerbside_powercut::{Image, Operation, Recording, after_cut, read_image, write_image};
use rusqlite::Connection;
use tempfile::TempDir;

const ROWS: u64 = 30;
const CUTS: usize = 120;

/// Writes rows with these pragmas and gives the cuts after which rows that were called done are missing.
fn cuts_with_losses(pragmas: &str, seed: u64) -> usize {
    let folder = TempDir::new().unwrap();
    let recording = Recording::start(folder.path()).unwrap();
    let done = recording.noter();
    let connection = Connection::open(folder.path().join("rows.db")).unwrap();
    connection.execute_batch(&format!("{pragmas}; CREATE TABLE rows(number INTEGER PRIMARY KEY)")).unwrap();
    for number in 1..=ROWS {
        connection.execute("INSERT INTO rows VALUES (?1)", [number]).unwrap();
        done(number);
    }
    let operations = recording.finish();
    drop(connection);
    let mut random = Rng::with_seed(seed);
    (0..CUTS).filter(|_| is_lossy(&operations, &mut random)).count()
}

fn is_lossy(operations: &[Operation], random: &mut Rng) -> bool {
    let before = &operations[..random.usize(0..=operations.len())];
    let done = before.iter().rev().find_map(|operation| match operation {
        Operation::Done(number) => Some(*number),
        _ => None,
    });
    let folder = TempDir::new().unwrap();
    write_image(folder.path(), &after_cut(&Image::new(), before, random)).unwrap();
    let connection = Connection::open(folder.path().join("rows.db")).unwrap();
    let found = connection.query_row("SELECT count(*) FROM rows", [], |row| row.get::<_, u64>(0));
    found.unwrap_or(0) < done.unwrap_or(0)
}

#[test]
fn a_database_that_syncs_every_commit_loses_nothing() {
    let seed = crate::seed();
    assert_eq!(cuts_with_losses("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", seed), 0);
    assert_eq!(cuts_with_losses("PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA", seed), 0);
}

#[test]
fn a_database_that_does_not_sync_every_commit_is_caught() {
    let seed = crate::seed();
    for pragmas in [
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF",
        "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF",
    ] {
        let caught = cuts_with_losses(pragmas, seed);
        assert!(caught > CUTS / 10, "{pragmas}: only {caught} of {CUTS} cuts lost something");
    }
}

#[test]
fn the_notes_of_a_whole_session_are_its_files() {
    let folder = TempDir::new().unwrap();
    let recording = Recording::start(folder.path()).unwrap();
    let connection = Connection::open(folder.path().join("rows.db")).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE rows(number INTEGER PRIMARY KEY)").unwrap();
    connection.execute("INSERT INTO rows VALUES (7)", []).unwrap();
    let mut files = read_image(folder.path()).unwrap();
    files.retain(|name, _| !name.ends_with("-shm"));
    let mut operations = recording.finish();
    operations.extend(files.keys().map(|file| Operation::Sync { file: file.clone() }));
    let noted = after_cut(&Image::new(), &operations, &mut Rng::with_seed(1));
    assert!(noted == files, "{:?} are noted, {:?} are there", noted.keys(), files.keys());
    assert_eq!(files.len(), 2, "a database and its log");
}
