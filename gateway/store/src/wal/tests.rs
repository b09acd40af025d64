//! Logs as SQLite wrote them, with bytes that rotted.

use std::path::PathBuf;

use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tempfile::TempDir;

use super::*;

const ROWS: u32 = 30;

/// A database whose rows are all in the log, one commit each.
fn logged() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kerbside.db");
    let connection = crate::schema::open_writer(&path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.execute_batch("CREATE TABLE facts(number INTEGER PRIMARY KEY, text TEXT)").unwrap();
    for number in 1..=ROWS {
        let text = format!("fact {number} ").repeat(200);
        connection.execute("INSERT INTO facts VALUES (?1, ?2)", (number, text)).unwrap();
    }
    drop(connection);
    (folder, path)
}

fn log_of(path: &Path) -> PathBuf {
    crate::open::with_suffix(path, "-wal")
}

/// How many rows SQLite finds, and whether the file is sound.
fn rows(path: &Path) -> (u32, String) {
    let connection = Connection::open(path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let count = connection.query_row("SELECT count(*) FROM facts", [], |row| row.get(0)).unwrap_or(0);
    let check = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    (count, check.unwrap_or_else(|error| error.to_string()))
}

fn change_log(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let log = log_of(path);
    let mut bytes = fs::read(&log).unwrap();
    change(&mut bytes);
    fs::write(&log, bytes).unwrap();
}

fn mend_log(path: &Path) -> Option<Mended> {
    mend(&log_of(path), &crate::open::with_suffix(path, "-wal.aside")).unwrap()
}

#[test]
fn a_sound_log_is_left_alone() {
    let (_folder, path) = logged();
    let before = fs::read(log_of(&path)).unwrap();
    assert_eq!(mend_log(&path), None);
    assert_eq!(fs::read(log_of(&path)).unwrap(), before);
    change_log(&path, |bytes| bytes.truncate(bytes.len() - 100));
    assert_eq!(mend_log(&path), None, "a torn end is no damage");
    assert_eq!(rows(&path), (ROWS - 1, "ok".to_owned()));
}

#[test]
fn no_log_an_empty_one_and_garbage_are_nothing_to_mend() {
    let (_folder, path) = logged();
    for bytes in [Vec::new(), b"log".to_vec(), vec![0xA5; 3 * FRAME_BYTES]] {
        fs::write(log_of(&path), &bytes).unwrap();
        assert_eq!(mend_log(&path), None);
    }
    fs::remove_file(log_of(&path)).unwrap();
    assert_eq!(mend_log(&path), None);
}

#[test]
fn every_commit_behind_a_wiped_page_is_regained_and_the_damage_is_named() {
    let (_folder, path) = logged();
    let place = HEADER_BYTES + 12 * FRAME_BYTES + FRAME_HEADER_BYTES;
    change_log(&path, |bytes| bytes[place..place + PAGE_BYTES].fill(0xEE));
    let mended = mend_log(&path).expect("there is something to mend");
    assert_eq!((mended.corrected, mended.damaged), (0, 1));
    let (count, _) = rows(&path);
    assert!(count >= ROWS - 1, "{count} rows");
    assert!(fs::metadata(crate::open::with_suffix(&path, "-wal.aside")).unwrap().len() > 0, "it stays as evidence");
}

#[test]
fn a_commit_that_a_power_cut_tore_is_not_taken() {
    let (_folder, path) = logged();
    // Two pages of the last commit never reached the disk; its last frame did.
    let connection = Connection::open(&path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let begin = fs::metadata(log_of(&path)).unwrap().len() as usize;
    connection.execute("UPDATE facts SET text = text || 'x'", []).unwrap();
    drop(connection);
    change_log(&path, |bytes| bytes[begin..begin + 2 * FRAME_BYTES].fill(0));
    assert_eq!(mend_log(&path), None);
    let connection = Connection::open(&path).unwrap();
    let changed: u32 =
        connection.query_row("SELECT count(*) FROM facts WHERE text LIKE '%x'", [], |row| row.get(0)).unwrap();
    assert_eq!(changed, 0);
}

#[test]
fn frames_of_an_older_log_behind_the_end_are_never_taken() {
    let (_folder, path) = logged();
    let connection = Connection::open(&path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
    let size = fs::metadata(log_of(&path)).unwrap().len();
    for number in 1..=3_u32 {
        connection.execute("UPDATE facts SET text = 'new' WHERE number = ?1", [number]).unwrap();
    }
    drop(connection);
    assert_eq!(fs::metadata(log_of(&path)).unwrap().len(), size, "the log began anew over the old one");
    assert_eq!(mend_log(&path), None);
    assert_eq!(rows(&path), (ROWS, "ok".to_owned()));
}

#[test]
fn a_commit_can_be_put_at_the_end_of_any_log() {
    let (_folder, path) = logged();
    let log = fs::read(log_of(&path)).unwrap();
    let (page, size) = page_and_size(&log, 1);
    let (mut page, size) = (page.expect("page 1 is in the log"), size.expect("the log ends with a commit"));
    page[60..64].copy_from_slice(&77_u32.to_be_bytes());
    fs::write(log_of(&path), with_commit(&log, &[(1, page)], size)).unwrap();
    let connection = Connection::open(&path).unwrap();
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 77);
    assert_eq!(rows(&path), (ROWS, "ok".to_owned()));
}

/// Frames of a transaction of a constructed log: the page's number, the size at a commit, and a byte to set in the page.
type Transaction = Vec<(u32, u32, (usize, u8))>;

const SALTS: Salts = [0xFE, 0x16, 0xFA, 0x2E, 0xC5, 0x32, 0x76, 0xE2];
const SALTS_BEFORE: Salts = [0xFE, 0x16, 0xFA, 0x2D, 0x33, 0xA8, 0xAF, 0x39];

/// A transaction over the pages from 1 on.
fn transaction(frames: u32, change: (usize, u8)) -> Transaction {
    (1..=frames).map(|number| (number, if number == frames { frames } else { 0 }, change)).collect()
}

fn constructed(salts: Salts, transactions: &[&Transaction]) -> Vec<u8> {
    let mut log = new_header(salts, false);
    let mut seed = [word(&log, 24), word(&log, 28)];
    for (number, size, (place, value)) in transactions.iter().copied().flatten() {
        let mut page = vec![number.to_be_bytes()[3]; PAGE_BYTES];
        page[*place] = *value;
        let body = [number.to_be_bytes().as_slice(), size.to_be_bytes().as_slice(), &page].concat();
        seed = sum(seed, &body, false);
        push_frame(&mut log, &body, salts, seed);
    }
    log
}

#[test]
fn a_new_header_over_an_old_page_does_not_bring_the_old_log_back() {
    let (first, second) = (transaction(4, (9, 1)), transaction(4, (9, 2)));
    let old = constructed(SALTS_BEFORE, &[&first; 5]);
    let ours = constructed(SALTS, &[&first, &second]);
    let frame = |index: usize| HEADER_BYTES + index * FRAME_BYTES..HEADER_BYTES + (index + 1) * FRAME_BYTES;
    // The first transaction was synced. Of the second only the header of its third frame reached the disk.
    let mut cut = old;
    cut[..frame(3).end].copy_from_slice(&ours[..frame(3).end]);
    let header = frame(6).start..frame(6).start + FRAME_HEADER_BYTES;
    cut[header.clone()].copy_from_slice(&ours[header]);
    assert_eq!(repair(&cut).map(|(mended, _)| mended), None);
}

#[test]
fn a_torn_header_of_the_next_round_does_not_bring_the_old_log_back() {
    let first = transaction(4, (9, 1));
    let mut log = constructed(SALTS_BEFORE, &[&first; 3]);
    // The salts reached the disk, the header's sum did not.
    log[16..24].copy_from_slice(&SALTS);
    log[24..HEADER_BYTES].fill(0x5A);
    assert_eq!(repair(&log).map(|(mended, _)| mended), None);
}

#[test]
fn a_commit_is_proven_by_the_frame_behind_it_and_by_nothing_else() {
    let steps: Vec<Transaction> = (1..=4).map(|step| transaction(3, (9, step))).collect();
    let log = constructed(SALTS, &steps.iter().collect::<Vec<_>>());
    let wipe = |from: usize, bytes: &[u8]| {
        let mut wiped = bytes.to_vec();
        let begin = HEADER_BYTES + from * FRAME_BYTES + FRAME_HEADER_BYTES;
        wiped[begin..begin + PAGE_BYTES].fill(0xEE);
        wiped
    };
    let regained = |bytes: &[u8]| repair(bytes).map(|(mended, _)| mended.regained);
    assert_eq!(regained(&wipe(4, &log)), Some(9), "the third commit proves the second, and is whole as the fourth is");
    assert_eq!(regained(&wipe(10, &log)), None, "nothing proves the last commit");
    assert_eq!(regained(&wipe(9, &wipe(7, &log))), None, "the first frame behind the third commit is gone");
    let torn = &log[..log.len() - FRAME_BYTES];
    assert_eq!(regained(&wipe(7, torn)), Some(3), "a torn commit behind proves it too");
}

#[test]
fn the_highest_byte_of_a_word_is_put_right_by_an_older_form_of_the_page() {
    let steps: Vec<Transaction> = (1..=3).map(|step| transaction(3, (9, step))).collect();
    let log = constructed(SALTS, &steps.iter().collect::<Vec<_>>());
    for in_page in [3, 1003, 2043, 4095] {
        let mut rotten = log.clone();
        rotten[HEADER_BYTES + 4 * FRAME_BYTES + FRAME_HEADER_BYTES + in_page] ^= 0x80;
        let (mended, repaired) = repair(&rotten).expect("there is something to mend");
        assert_eq!((mended.corrected, mended.damaged), (1, 0), "byte {in_page}");
        assert!(repaired == log, "byte {in_page}");
    }
}

/// What reached the disk of one frame: so many bytes of its header, then the old bytes or noise, and these sectors of
/// its page.
type Landed = (usize, Option<u8>, [bool; 8]);

/// Two commits over the rest of an older round of the log, each torn by a power cut: the second one overwrites what is
/// left of the first.
#[derive(Debug)]
struct Cut {
    old: u32,
    torn: [(Transaction, Vec<Landed>); 2],
}

fn cuts() -> impl Strategy<Value = Cut> {
    let kept = prop_oneof![4 => Just(FRAME_HEADER_BYTES), 2 => Just(0), 1 => Just(16), 1 => 0..FRAME_HEADER_BYTES];
    let noise = prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let sectors = prop_oneof![3 => Just([true; 8]), 2 => Just([false; 8]), 1 => any::<[bool; 8]>()];
    let torn = (1_u32..9, 0..PAGE_BYTES, 0_u8..4, prop::collection::vec((kept, noise, sectors), 9))
        .prop_map(|(frames, place, value, landed)| (transaction(frames, (place, value)), landed));
    (1_u32..7, [torn.clone(), torn]).prop_map(|(old, torn)| Cut { old, torn })
}

impl Cut {
    /// What is on the disk, and the logs in which a commit survived whole.
    fn log(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let synced = transaction(4, (9, 1));
        let old = transaction(self.old, (9, 1));
        let mut bytes = constructed(SALTS_BEFORE, &vec![&old; 8 + 12 / self.old as usize]);
        let start = constructed(SALTS, &[&synced]);
        bytes[..start.len()].copy_from_slice(&start);
        let mut whole = Vec::new();
        for (transaction, landed) in &self.torn {
            let log = constructed(SALTS, &[&synced, transaction]);
            bytes.resize(bytes.len().max(log.len()), 0);
            for (index, (kept, noise, sectors)) in landed.iter().take(transaction.len()).enumerate() {
                let begin = start.len() + index * FRAME_BYTES;
                let page = begin + FRAME_HEADER_BYTES;
                bytes[begin..begin + kept].copy_from_slice(&log[begin..begin + kept]);
                if let Some(noise) = noise {
                    bytes[begin + kept..page].fill(*noise);
                }
                for sector in (0..8).filter(|sector| sectors[*sector]) {
                    let sector = page + 512 * sector..page + 512 * (sector + 1);
                    bytes[sector.clone()].copy_from_slice(&log[sector]);
                }
            }
            whole.push(log);
        }
        (bytes, whole)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn one_rotten_byte_anywhere_costs_nothing_that_is_proven(place in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let (_folder, path) = logged();
        let original = fs::read(log_of(&path)).unwrap();
        let place = place.index(original.len());
        change_log(&path, |bytes| bytes[place] ^= flip);
        let mended = mend_log(&path);
        let (count, verdict) = rows(&path);
        match mended {
            Some(Mended { damaged: 0, .. }) => {
                prop_assert!(fs::read(log_of(&path)).unwrap() == original, "another byte was changed");
                prop_assert_eq!((count, verdict), (ROWS, "ok".to_owned()));
            }
            // Which byte it was has no proof; the commits behind have one.
            Some(_) => prop_assert!(count >= ROWS - 1, "{} rows", count),
            // Nothing proves that the last commit was once whole, or where the one before it ended.
            None => prop_assert_eq!((count >= ROWS - 2, verdict), (true, "ok".to_owned()), "{} rows", count),
        }
    }

    #[test]
    fn what_power_cuts_leave_is_never_taken_for_rot(cut in cuts()) {
        let (bytes, whole) = cut.log();
        if let Some((mended, log)) = repair(&bytes) {
            prop_assert!(whole.contains(&log), "{:?} for {:?}", mended, cut);
        }
    }

    #[test]
    fn a_wiped_stretch_never_stops_the_reader(place in any::<prop::sample::Index>(), length in 1_usize..9000, fill in any::<u8>()) {
        let (_folder, path) = logged();
        change_log(&path, |bytes| {
            let begin = place.index(bytes.len());
            let end = (begin + length).min(bytes.len());
            bytes[begin..end].fill(fill);
        });
        mend_log(&path);
        // Readable or damaged, but never a panic here, and a second look finds nothing more.
        rows(&path);
        prop_assert_eq!(mend_log(&path), None);
    }
}
