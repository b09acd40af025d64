//! The store under power cuts.

use std::path::Path;
use std::sync::mpsc::sync_channel;

use fastrand::Rng;
use kerbside_powercut::{Image, Operation, Recording, after_cut, write_image};
use kerbside_runtime::{Clock, Health, HealthState, Metrics};
use kerbside_store::{Commit, Committed, Store, StoreConfig};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::work::{Piece, Work, check_batches, check_snapshot, check_state};

/// Cuts of one recorded session.
const CUTS_PER_SESSION: usize = 40;
const COMMITS_PER_SESSION: std::ops::Range<u64> = 20..90;
/// The whole file is checked by SQLite after one cut in so many.
const CHECK_ALL_EVERY: usize = 8;
/// One cut in so many falls right before a commit is called done: chance alone hits this moment too seldom.
const BEFORE_DONE_EVERY: usize = 4;
/// The quota of batches: none that matters, or one that drops batches with many commits.
const QUOTAS: [u64; 2] = [1 << 30, 1 << 20];
/// Small, so that the log is copied into the database several times a session.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// Looks at the health before its first word is overdue.
const LOOKS_MAX: usize = 10_000_000;
/// With the small quota at least so many batches are left, as large as they are.
const BATCHES_KEPT_MIN: u64 = 5;
const DATABASE: &str = "kerbside.db";

fn config(folder: &Path, quota: u64) -> StoreConfig {
    StoreConfig {
        batches_bytes_max: quota,
        undecoded_bytes_max: 1 << 20,
        free_bytes_min: 0,
        log_bytes_max: LOG_BYTES_MAX,
        ..StoreConfig::new(folder.to_owned())
    }
}

/// Opens the store, which must find everything well.
fn open(folder: &Path, quota: u64) -> Store {
    let (metrics, health) = (Metrics::default(), Health::default());
    let store = Store::open(config(folder, quota), Clock::System, &metrics, &health).unwrap();
    // A worker says that it is well once it runs.
    let state = || health.snapshot().into_iter().find(|component| component.component == "store").unwrap();
    let settled = std::iter::repeat_with(|| {
        std::thread::yield_now();
        state()
    });
    let component = settled.take(LOOKS_MAX).find(|component| component.state != HealthState::Starting).unwrap();
    // A quota may drop batches at once, which is told and is no damage.
    let is_well = component.state == HealthState::Ok || component.detail.contains("of unsent telemetry were dropped");
    assert!(is_well, "{:?}: {}", component.state, component.detail);
    let text = metrics.encode();
    let set_aside = text.lines().find(|line| line.starts_with("kerbside_store_set_aside_total"));
    assert_eq!(set_aside, Some("kerbside_store_set_aside_total 0"), "the database counts as damaged");
    store
}

/// Works on the store from its last commit on, and gives every operation from its opening to its closing.
fn record_session(folder: &Path, work: Work, quota: u64, random: &mut Rng) -> Vec<Operation> {
    let recording = Recording::start(folder).unwrap();
    let store = open(folder, quota);
    store.register_sinks(&["influx".to_owned()]);
    let first = store.last_sequence().unwrap() + 1;
    for number in first..first + random.u64(COMMITS_PER_SESSION) {
        let Piece { now, inputs, effects, snapshot } = work.piece(number);
        let note = recording.noter();
        let (sender, receiver) = sync_channel(1);
        let done = Box::new(move |committed: Committed| {
            note(number);
            sender.send(committed.sequence).unwrap();
        });
        store.commit(Commit { now, inputs, effects, snapshot, done }).unwrap();
        // One after another, so that a seed repeats the operations.
        assert_eq!(receiver.recv().unwrap(), number);
        if random.u8(0..4) == 0 {
            store.set_cursor("influx", number.saturating_sub(10)).unwrap();
        }
    }
    store.close().unwrap();
    recording.finish()
}

/// The last commit that was called done.
fn last_done(operations: &[Operation]) -> Option<u64> {
    operations.iter().rev().find_map(|operation| match operation {
        Operation::Done(number) => Some(*number),
        _ => None,
    })
}

/// What the disk need not have of the log, in words.
fn describe_unsynced(operations: &[Operation]) -> String {
    let is_of_log = |file: &str| file.ends_with("-wal");
    let mut places = Vec::new();
    for operation in operations {
        match operation {
            Operation::Sync { file } if is_of_log(file) => places.clear(),
            Operation::Write { file, offset, bytes } if is_of_log(file) => places.push((*offset, bytes.len())),
            _ => {}
        }
    }
    let first = places.iter().take(3).map(|(offset, bytes)| format!("{bytes} bytes at {offset}"));
    format!("{} writes to the log are not synced: {}", places.len(), first.collect::<Vec<_>>().join(", "))
}

/// Opens what a cut left and compares. Returns the last commit that is there.
fn check_cut(image: &Image, work: Work, quota: u64, done: u64, check_all: bool) -> u64 {
    let folder = TempDir::new().unwrap();
    write_image(folder.path(), image).unwrap();
    let store = open(folder.path(), quota);
    let last = store.last_sequence().unwrap();
    assert!(last >= done, "commit {done} was called done, and {last} is the last one that is there");
    check_state(&store, last);
    let kept = check_batches(&store, work, last);
    assert!(kept >= last.min(BATCHES_KEPT_MIN), "only {kept} batches are left");
    check_snapshot(&store, last);

    // It goes on without a hand.
    let (sender, receiver) = sync_channel(1);
    let Piece { now, inputs, effects, snapshot } = work.piece(last + 1);
    let done = Box::new(move |committed: Committed| sender.send(committed.sequence).unwrap());
    store.commit(Commit { now, inputs, effects, snapshot, done }).unwrap();
    assert_eq!(receiver.recv().unwrap(), last + 1);
    check_state(&store, last + 1);
    store.close().unwrap();
    if check_all {
        let connection = Connection::open(folder.path().join(DATABASE)).unwrap();
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
    last
}

#[test]
fn what_the_store_called_done_survives_every_power_cut() {
    let seed = crate::seed();
    let mut random = Rng::with_seed(seed);
    let work = Work { seed };
    let (mut image, mut done_before) = (Image::new(), 0);
    let (mut cuts, mut sessions, mut kept_more) = (0, 0, 0);
    while cuts < crate::rounds() {
        let quota = QUOTAS[sessions % QUOTAS.len()];
        let folder = TempDir::new().unwrap();
        write_image(folder.path(), &image).unwrap();
        let operations = record_session(folder.path(), work, quota, &mut random);
        let mut survivor = None;
        for _ in 0..CUTS_PER_SESSION {
            let position = position_of_cut(&operations, cuts, &mut random);
            let before = &operations[..position];
            let mut left = after_cut(&image, before, &mut random);
            leave_rubbish(&mut left, &mut random);
            let done = last_done(before).unwrap_or(done_before);
            eprintln!(
                "session {sessions}, cut {cuts} behind operation {position}: {done} commits are done, {}",
                describe_unsynced(before)
            );
            let last = check_cut(&left, work, quota, done, cuts % CHECK_ALL_EVERY == 0);
            kept_more += usize::from(last > done);
            cuts += 1;
            survivor = Some((left, last));
        }
        (image, done_before) = survivor.expect("a session has cuts");
        sessions += 1;
    }
    eprintln!("{cuts} cuts of {sessions} sessions; {kept_more} times a commit survived that was not yet called done");
    // Otherwise the cuts miss the moments between a sync and its acknowledgement.
    assert!(kept_more > 0 || cuts < CUTS_PER_SESSION);
}

/// Behind which operation the power goes.
fn position_of_cut(operations: &[Operation], cut: usize, random: &mut Rng) -> usize {
    if !cut.is_multiple_of(BEFORE_DONE_EVERY) {
        return random.usize(0..=operations.len());
    }
    let is_done = |position: &usize| matches!(operations[*position], Operation::Done(_));
    let moments: Vec<usize> = (0..operations.len()).filter(is_done).collect();
    *random.choice(&moments).expect("a session has commits")
}

/// The shared memory of SQLite is no part of what must survive: sometimes noise lies in its place.
fn leave_rubbish(image: &mut Image, random: &mut Rng) {
    if random.u8(0..4) == 0 {
        let noise = std::iter::repeat_with(|| random.u8(..)).take(32 * 1024).collect();
        image.insert(format!("{DATABASE}-shm"), noise);
    }
}
