//! The store against a real disk: what is acknowledged is there, whatever happens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use kerbside_model::document::Problems;
use kerbside_model::inventory::{Datum, ServiceState};
use kerbside_model::profile::parse_profile_text;
use kerbside_model::site::{LEDGER, SiteFacts};
use kerbside_model::{
    AlarmState, ByteText, CaseReport, CaseState, Device, Effects, Frame, GatewayCondition, Notice, NoticeReason,
    OutboxChange, OutboxState, OutboxTask, Payload, ReadAgain, RegisterBlock, RegisterFailure, RegisterRead,
    RegisterTable, Severity, StoredInput, Timestamp, Undecoded, UndecodedReason,
};
use kerbside_runtime::HealthState;
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

mod damage;
mod pressure;
mod quotas;
mod undecoded_frames;

const DEADLINE: Duration = Duration::from_secs(20);
const MEBIBYTE: u64 = 1024 * 1024;

/// A store in a folder of its own, with its metrics and health.
struct Bench {
    store: Store,
    metrics: Metrics,
    health: Health,
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench::with_quota(64 * MEBIBYTE, MEBIBYTE)
    }

    fn with_quota(batches_bytes_max: u64, undecoded_bytes_max: u64) -> Bench {
        Bench::with_config(|config| StoreConfig { batches_bytes_max, undecoded_bytes_max, ..config })
    }

    fn with_config(change: impl FnOnce(StoreConfig) -> StoreConfig) -> Bench {
        let folder = TempDir::new().unwrap();
        let (metrics, health) = (Metrics::default(), Health::default());
        let config = change(config(folder.path()));
        let store = Store::open(config, Clock::System, &metrics, &health).unwrap();
        Bench { store, metrics, health, folder }
    }

    fn health(&self) -> (HealthState, String) {
        let store = self.health.snapshot().into_iter().find(|component| component.component == "store").unwrap();
        assert!(store.essential);
        (store.state, store.detail)
    }

    fn metric(&self, line: &str) -> u64 {
        metric(&self.metrics, line)
    }

    /// Closes the store and opens it again, with the usual quotas.
    fn reopened(self) -> Bench {
        self.reopened_with(|config| config)
    }

    fn reopened_with(self, change: impl FnOnce(StoreConfig) -> StoreConfig) -> Bench {
        let Bench { store, folder, .. } = self;
        store.close().unwrap();
        let (metrics, health) = (Metrics::default(), Health::default());
        let config = change(config(folder.path()));
        let store = Store::open(config, Clock::System, &metrics, &health).unwrap();
        Bench { store, metrics, health, folder }
    }
}

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        batches_bytes_max: 64 * MEBIBYTE,
        undecoded_bytes_max: MEBIBYTE,
        // The machine that runs the tests may be short of room.
        free_bytes_min: 0,
        ..StoreConfig::new(folder.to_owned())
    }
}

fn open_at(folder: &Path) -> Result<Store, StoreError> {
    Store::open(config(folder), Clock::System, &Metrics::default(), &Health::default())
}

fn metric(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.encode();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Hands a commit over without waiting.
fn hand_over(
    store: &Store,
    inputs: Vec<StoredInput>,
    effects: Effects,
    snapshot: Option<&[u8]>,
) -> Receiver<Committed> {
    hand_over_at(store, Timestamp(1_700_000_000_000), inputs, effects, snapshot)
}

fn hand_over_at(
    store: &Store,
    now: Timestamp,
    inputs: Vec<StoredInput>,
    effects: Effects,
    snapshot: Option<&[u8]>,
) -> Receiver<Committed> {
    let (sender, receiver) = sync_channel(1);
    let snapshot =
        snapshot.map(|body| NewSnapshot { engine_version: 3, site_hash: "site-a".to_owned(), body: body.to_vec() });
    let done = Box::new(move |committed| sender.send(committed).unwrap());
    store.commit(Commit { now, inputs, effects, snapshot, done }).unwrap();
    receiver
}

fn commit(store: &Store, inputs: Vec<StoredInput>, effects: Effects) -> Committed {
    hand_over(store, inputs, effects, None).recv_timeout(DEADLINE).expect("the commit is done in time")
}

fn commit_snapshot(store: &Store, inputs: Vec<StoredInput>, body: &[u8]) -> Committed {
    let done = hand_over(store, inputs, Effects::default(), Some(body));
    done.recv_timeout(DEADLINE).expect("the commit is done in time")
}

/// Waits for a state and reports the last one seen.
fn wait_for<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> T, mut is_there: impl FnMut(&T) -> bool) -> T {
    let began = Clock::stamp();
    loop {
        let seen = look();
        if is_there(&seen) {
            return seen;
        }
        assert!(began.elapsed() < DEADLINE, "{what} did not come; last seen: {seen:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn frame(address: &str, payload: &[u8], at: i64) -> Frame {
    Frame {
        source: "mqtt".into(),
        address: ByteText::from(address),
        payload: Payload::Bytes(payload.to_vec().into()),
        received_at: Timestamp(at),
        retained: false,
    }
}

fn frames(count: usize) -> Vec<StoredInput> {
    (0..count).map(|number| StoredInput::Frame(frame(&format!("covers/{number}"), b"{\"tilt\":1}", 5))).collect()
}

/// Bytes that zstd cannot make smaller, the same ones for a seed.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn noisy_frame(seed: u64, count: usize) -> Vec<StoredInput> {
    vec![StoredInput::Frame(frame("noise", &noise(seed, count), 5))]
}

fn alarm(id: &str, device: &str, state: AlarmState, opened_at: i64) -> Alarm {
    Alarm {
        id: id.to_owned(),
        device: device.to_owned(),
        condition: "displaced".to_owned(),
        severity: Severity::Critical,
        state,
        opened_at: Timestamp(opened_at),
        updated_at: Timestamp(opened_at + 1),
        cleared_at: (state == AlarmState::Cleared).then_some(Timestamp(opened_at + 1)),
        explanation: "tilt 31 deg, limit 15 deg".to_owned(),
        explanation_zh: "倾斜 31°，限值 15°".to_owned(),
        suppressed: None,
        case_id: Some("KB-1".to_owned()),
        acknowledged: Some(("张三".to_owned(), Timestamp(opened_at + 7))),
        evidence: None,
    }
}

fn report(case_id: &str) -> CaseReport {
    CaseReport {
        case_id: case_id.to_owned(),
        device: "MH-1".to_owned(),
        device_name: "1 号井".to_owned(),
        kind: "manhole_cover".to_owned(),
        kind_zh: "智能井盖".to_owned(),
        condition: "displaced".to_owned(),
        title: "manhole cover open or displaced".to_owned(),
        title_zh: "井盖开启或移位".to_owned(),
        severity: Severity::Critical,
        occurred_at: Timestamp(1_000),
        explanation: "tilt 31 deg".to_owned(),
        explanation_zh: "倾斜 31°".to_owned(),
        place: "中山路 12 号".to_owned(),
        position: Some((120.5, 30.25)),
        datum: Datum::Wgs84,
        grid: "330102001001001".to_owned(),
        component_code: String::new(),
        unit: "市政".to_owned(),
    }
}

fn case(id: &str, state: CaseState, standing: bool, opened_at: i64) -> Case {
    Case {
        id: id.to_owned(),
        device: "MH-1".to_owned(),
        condition: "displaced".to_owned(),
        state,
        severity: Severity::Critical,
        opened_at: Timestamp(opened_at),
        updated_at: Timestamp(opened_at + 1),
        platform: LEDGER.to_owned(),
        platform_id: None,
        episodes: vec!["E1".to_owned()],
        standing,
        signed: None,
        report: report(id),
    }
}

fn case_event(case_id: &str, state: CaseState, note: &str) -> CaseEvent {
    CaseEvent { case_id: case_id.to_owned(), at: Timestamp(9), state, by: "kerbside".to_owned(), note: note.to_owned() }
}

fn outbox_row(id: &str) -> OutboxRow {
    OutboxRow {
        id: id.to_owned(),
        target: "duty".to_owned(),
        case_id: "KB-1".to_owned(),
        task: OutboxTask::Notify(Notice {
            report: report("KB-1"),
            reason: NoticeReason::Opened,
            step: 1,
            sign: true,
            detail: String::new(),
        }),
        created_at: Timestamp(1_000),
        state: OutboxState::Pending,
    }
}

fn outbox_change(id: &str, state: OutboxState, note: &str) -> Effects {
    let change = OutboxChange { row_id: id.to_owned(), state, note: note.to_owned() };
    Effects { outbox_changes: vec![change], ..Effects::default() }
}

fn audit(subject: &str, action: &str) -> Audit {
    Audit {
        at: Timestamp(3),
        by: "张三".to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: "phone".to_owned(),
    }
}

fn undecoded(address: &str, reason: UndecodedReason, payload: &[u8], at: i64) -> Undecoded {
    let frame = frame(address, payload, at);
    Undecoded {
        frame,
        tags: None,
        address: address.to_owned(),
        device: None,
        reason,
        detail: "no such device".to_owned(),
    }
}

fn undecoded_effects(frames: Vec<Undecoded>) -> Effects {
    Effects { undecoded: frames, ..Effects::default() }
}

fn full_effects() -> Effects {
    Effects {
        undecoded: vec![undecoded("stranger/1", UndecodedReason::UnknownDevice, b"hello", 40)],
        alarms: vec![alarm("A1", "MH-1", AlarmState::Active, 1_000)],
        cases: vec![case("KB-1", CaseState::Pending, true, 1_000)],
        case_events: vec![case_event("KB-1", CaseState::Pending, "opened")],
        outbox: vec![outbox_row("O1")],
        audit: vec![audit("KB-1", "case_opened")],
        ..Effects::default()
    }
}

fn check_full(store: &Store) {
    let effects = full_effects();
    assert_eq!(store.alarm("A1").unwrap().as_ref(), effects.alarms.first());
    assert_eq!(store.alarms_open().unwrap(), effects.alarms);
    assert_eq!(store.cases_open().unwrap(), effects.cases);
    assert_eq!(store.case("KB-1").unwrap().unwrap(), (effects.cases[0].clone(), effects.case_events));
    assert_eq!(store.outbox_open().unwrap(), effects.outbox);
    let mut audit = store.audit(&AuditQuery::default()).unwrap().items;
    audit.retain(|line| line.action != "database_salvaged");
    assert_eq!(audit, effects.audit);
    let rows = store.undecoded(&UndecodedQuery::default()).unwrap().items;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].frame, effects.undecoded[0].frame);
    assert_eq!(rows[0].reason, "unknown_device");
    let unknown = store.unknown_devices(&PageQuery::default()).unwrap().items;
    assert_eq!((unknown[0].address.as_str(), unknown[0].frames), ("stranger/1", 1));
    assert_eq!(unknown[0].payload, effects.undecoded[0].frame.payload);
}

fn assert_inputs_equal(left: &[StoredInput], right: &[StoredInput]) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
}

// Commit and read back -------------------------------------------------------------------------------------------------

#[test]
fn a_commit_gives_back_everything_also_after_a_restart() {
    let bench = Bench::new();
    let committed = commit(&bench.store, frames(3), full_effects());
    assert_eq!(committed.sequence, 1);
    assert_eq!(committed.effects.alarms.len(), 1, "the effects are handed back for the sinks");
    check_full(&bench.store);
    let batches = bench.store.batches_after(0, 1_000_000).unwrap();
    assert_eq!((batches.len(), batches[0].sequence, batches[0].now), (1, 1, Timestamp(1_700_000_000_000)));
    assert_inputs_equal(&batches[0].inputs, &frames(3));
    assert_eq!(bench.health().0, HealthState::Ok);
    assert_eq!(bench.metric("kerbside_store_commits_total"), 1);
    assert_eq!(bench.metric("kerbside_store_inputs_total"), 3);
    let raw = bench.metric("kerbside_store_batch_bytes_total{kind=\"raw\"}");
    let stored = bench.metric("kerbside_store_batch_bytes_total{kind=\"stored\"}");
    assert!(raw > 0 && stored > 0);
    let stats = bench.store.stats().unwrap();
    assert_eq!((stats.sequence, stats.batches, stats.batches_bytes), (1, 1, stored));

    let bench = bench.reopened();
    check_full(&bench.store);
    assert_eq!(bench.store.last_sequence().unwrap(), 1);
    assert_eq!(
        bench.store.stats().unwrap(),
        StoreStats { database_bytes: bench.store.stats().unwrap().database_bytes, log_bytes: 0, ..stats }
    );
    assert_eq!(commit(&bench.store, frames(1), Effects::default()).sequence, 2);
}

#[test]
fn what_was_acknowledged_is_in_the_files_at_that_moment() {
    let bench = Bench::new();
    let copy = TempDir::new().unwrap();
    let copy_path = copy.path().to_owned();
    let source = bench.folder.path().to_owned();
    commit(&bench.store, frames(2), Effects::default());
    let (sender, receiver) = sync_channel(1);
    // The copy is made inside the callback: nothing can reach the files after the acknowledgement and before it.
    let done = Box::new(move |committed: Committed| {
        for file in ["kerbside.db", "kerbside.db-wal"] {
            fs::copy(source.join(file), copy_path.join(file)).unwrap();
        }
        sender.send(committed.sequence).unwrap();
    });
    let snapshot = Some(NewSnapshot { engine_version: 3, site_hash: "site-a".to_owned(), body: b"state".to_vec() });
    let inputs = frames(5);
    bench.store.commit(Commit { now: Timestamp(7), inputs, effects: full_effects(), snapshot, done }).unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), 2);

    let store = open_at(copy.path()).unwrap();
    check_full(&store);
    assert_eq!(store.last_sequence().unwrap(), 2);
    assert_inputs_equal(&store.batches_after(1, 1_000_000).unwrap()[0].inputs, &frames(5));
    assert_eq!(store.latest_snapshot().unwrap().unwrap().body, b"state");
}

#[test]
fn closing_writes_what_was_handed_over() {
    let bench = Bench::new();
    let waiting: Vec<_> =
        (0..3).map(|count| hand_over(&bench.store, frames(count + 1), Effects::default(), None)).collect();
    bench.store.clone().close().unwrap();
    let sequences: Vec<u64> = waiting.iter().map(|done| done.recv_timeout(DEADLINE).unwrap().sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    let refused = Commit {
        now: Timestamp(0),
        inputs: frames(1),
        effects: Effects::default(),
        snapshot: None,
        done: Box::new(|_| unreachable!("the store is closed")),
    };
    assert!(matches!(bench.store.commit(refused), Err(StoreError::Closed)));
    assert_eq!(bench.store.stats().unwrap().log_bytes, 0, "the log was copied into the database");
}

#[test]
fn a_step_that_changed_nothing_is_not_written_but_still_done() {
    let bench = Bench::new();
    commit(&bench.store, frames(1), Effects::default());
    assert_eq!(commit(&bench.store, Vec::new(), Effects::default()).sequence, 1);
    assert_eq!(bench.metric("kerbside_store_commits_total"), 1);
    // A timer that raised an alarm is a batch without inputs: a restart has to step through it.
    let effects = Effects { alarms: vec![alarm("A", "MH-1", AlarmState::Active, 5)], ..Effects::default() };
    assert_eq!(commit(&bench.store, Vec::new(), effects).sequence, 2);
    assert!(bench.store.batches_after(1, 1).unwrap()[0].inputs.is_empty());
}

#[test]
fn the_last_record_of_an_id_wins_and_decides_what_is_open() {
    let bench = Bench::new();
    let effects = Effects {
        alarms: vec![alarm("A", "MH-1", AlarmState::Active, 5), alarm("A", "MH-1", AlarmState::Cleared, 5)],
        cases: vec![
            case("closed", CaseState::Closed, false, 1),
            case("void-but-standing", CaseState::Void, true, 2),
            case("open", CaseState::Filed, false, 3),
        ],
        ..Effects::default()
    };
    commit(&bench.store, Vec::new(), effects);
    commit(
        &bench.store,
        Vec::new(),
        Effects { alarms: vec![alarm("S", "MH-2", AlarmState::Stale, 6)], ..Effects::default() },
    );
    assert_eq!(bench.store.alarm("A").unwrap().unwrap().state, AlarmState::Cleared);
    let ids = |alarms: Vec<Alarm>| alarms.into_iter().map(|alarm| alarm.id).collect::<Vec<_>>();
    assert_eq!(ids(bench.store.alarms_open().unwrap()), ["S"]);
    let kept: Vec<String> = bench.store.cases_open().unwrap().into_iter().map(|case| case.id).collect();
    assert_eq!(kept, ["void-but-standing", "open"]);
    assert_eq!(bench.store.alarm("nobody").unwrap(), None);
    assert_eq!(bench.store.case("nobody").unwrap(), None);
}

#[test]
fn an_outbox_row_is_never_doubled_and_never_goes_back() {
    let bench = Bench::new();
    let rows = |ids: &[&str]| Effects { outbox: ids.iter().map(|id| outbox_row(id)).collect(), ..Effects::default() };
    commit(&bench.store, Vec::new(), rows(&["O1", "O2"]));
    commit(&bench.store, Vec::new(), outbox_change("O1", OutboxState::Delivered, "as 4711"));
    commit(&bench.store, Vec::new(), outbox_change("O2", OutboxState::Attempted, ""));
    commit(&bench.store, Vec::new(), rows(&["O1", "O2", "O3"]));
    commit(&bench.store, Vec::new(), outbox_change("O1", OutboxState::Attempted, "late"));
    commit(&bench.store, Vec::new(), outbox_change("O2", OutboxState::Pending, "late"));
    let view = |query: OutboxQuery| {
        let rows = bench.store.outbox(&query).unwrap().items;
        rows.into_iter().map(|view| (view.row.id, view.row.state, view.note)).collect::<Vec<_>>()
    };
    let row = |id: &str, state: OutboxState, note: &str| (id.to_owned(), state, note.to_owned());
    let all = [
        row("O3", OutboxState::Pending, ""),
        row("O2", OutboxState::Attempted, ""),
        row("O1", OutboxState::Delivered, "as 4711"),
    ];
    assert_eq!(view(OutboxQuery::default()), all);
    assert_eq!(view(OutboxQuery { states: vec![OutboxState::Delivered], ..OutboxQuery::default() }), all[2..]);
    let open = bench.store.outbox_open().unwrap();
    let open: Vec<_> = open.iter().map(|row| (row.id.as_str(), row.state)).collect();
    assert_eq!(open, [("O2", OutboxState::Attempted), ("O3", OutboxState::Pending)]);
    assert_eq!(bench.store.stats().unwrap().outbox_open, 2);
}

#[test]
fn lists_are_read_page_by_page_and_by_what_is_asked() {
    let bench = Bench::new();
    let states = [AlarmState::Active, AlarmState::Stale, AlarmState::Cleared];
    // Two alarms share each time: the id decides then, and none is left out between two pages.
    let alarms: Vec<Alarm> = (0..23)
        .map(|number| {
            alarm(&format!("A{number:02}"), &format!("MH-{}", number % 2), states[number % 3], number as i64 / 2)
        })
        .collect();
    let cases = (0..5).map(|number| case(&format!("KB-{number}"), CaseState::ALL[number + 5], false, number as i64));
    let audit = (0..3).map(|number| audit(&format!("KB-{number}"), "case_signed"));
    let effects = Effects { alarms, cases: cases.collect(), audit: audit.collect(), ..Effects::default() };
    commit(&bench.store, Vec::new(), effects);

    let all = |query: AlarmQuery| {
        let mut ids = Vec::new();
        let mut query = AlarmQuery { limit: 4, ..query };
        loop {
            let page = bench.store.alarms(&query).unwrap();
            assert!(page.items.len() <= 4);
            ids.extend(page.items.into_iter().map(|alarm| alarm.id));
            let Some(next) = page.next else { return ids };
            query.cursor = Some(next);
        }
    };
    let expected: Vec<String> = (0..23).rev().map(|number| format!("A{number:02}")).collect();
    assert_eq!(all(AlarmQuery::default()), expected);
    let standing = all(AlarmQuery { states: vec![AlarmState::Active, AlarmState::Stale], ..AlarmQuery::default() });
    assert_eq!(standing.len(), 16);
    assert_eq!(all(AlarmQuery { device: Some("MH-1".to_owned()), ..AlarmQuery::default() }).len(), 11);
    assert!(all(AlarmQuery { condition: Some("leaking".to_owned()), ..AlarmQuery::default() }).is_empty());

    let open = bench.store.cases(&CaseQuery { open_only: true, ..CaseQuery::default() }).unwrap();
    let ids: Vec<&str> = open.items.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["KB-2", "KB-1", "KB-0"], "of signed to rejected, three are not final");
    let states = vec![CaseState::Closed];
    assert_eq!(bench.store.cases(&CaseQuery { states, ..CaseQuery::default() }).unwrap().items[0].id, "KB-3");
    let subject = Some("KB-1".to_owned());
    assert_eq!(bench.store.audit(&AuditQuery { subject, ..AuditQuery::default() }).unwrap().items.len(), 1);
    for cursor in ["", "12", "x.y", "12.3.4"] {
        let query = PageQuery { cursor: Some(cursor.to_owned()), ..PageQuery::default() };
        let refused = bench.store.unknown_devices(&query);
        assert!(matches!(refused, Err(StoreError::PageCursor { .. })), "{cursor:?}: {refused:?}");
    }
    let broken = AlarmQuery { cursor: Some("yesterday".to_owned()), ..AlarmQuery::default() };
    assert!(matches!(bench.store.alarms(&broken), Err(StoreError::PageCursor { .. })));
}

#[test]
fn the_files_are_for_this_user_alone_and_the_log_is_synced() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("var/kerbside");
    let store = open_at(&inner).unwrap();
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    store.close().unwrap();
    let connection = schema::open_writer(&inner.join("kerbside.db")).unwrap();
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(journal, "wal");
    let (full, incremental, memory) = (2, 2, 2);
    assert_eq!(number("synchronous"), full);
    assert_eq!(number("auto_vacuum"), incremental);
    assert_eq!(number("temp_store"), memory);
    assert_eq!((number("foreign_keys"), number("secure_delete")), (0, 0));
    drop(connection);
    let refused = open_at(&inner.join("kerbside.db")).unwrap_err();
    assert!(matches!(refused, StoreError::Folder { .. }), "{refused:?}");
}

// Snapshots and sites --------------------------------------------------------------------------------------------------

#[test]
fn the_newest_snapshot_is_used_and_the_older_one_when_it_is_damaged() {
    let bench = Bench::new();
    assert_eq!(bench.store.latest_snapshot().unwrap(), None);
    commit_snapshot(&bench.store, frames(1), b"one");
    commit(&bench.store, frames(1), Effects::default());
    commit_snapshot(&bench.store, Vec::new(), b"two");
    commit_snapshot(&bench.store, frames(1), b"three");
    let newest = bench.store.latest_snapshot().unwrap().unwrap();
    assert_eq!((newest.sequence, newest.engine_version, newest.body.as_slice()), (4, 3, b"three".as_slice()));
    let Bench { store, folder, .. } = bench;
    store.close().unwrap();
    let connection = Connection::open(folder.path().join("kerbside.db")).unwrap();
    let count: u64 = connection.query_row("SELECT count(*) FROM snapshots", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
    connection.execute("UPDATE snapshots SET body = x'28b52ffd00' WHERE sequence = 4", []).unwrap();
    drop(connection);
    let metrics = Metrics::default();
    let store = Store::open(config(folder.path()), Clock::System, &metrics, &Health::default()).unwrap();
    let older = store.latest_snapshot().unwrap().unwrap();
    assert_eq!((older.sequence, older.body.as_slice()), (3, b"two".as_slice()));
    assert_eq!(metric(&metrics, "kerbside_store_snapshots_damaged_total"), 1);
    store.close().unwrap();
    // Without the batch after it, the older snapshot would skip one.
    let connection = Connection::open(folder.path().join("kerbside.db")).unwrap();
    connection.execute("DELETE FROM batches", []).unwrap();
    drop(connection);
    assert_eq!(open_at(folder.path()).unwrap().latest_snapshot().unwrap(), None);
}

fn shipped_site(name: &str) -> Site {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles");
    let mut profiles = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            profiles.extend(parse_profile_text(&path.display().to_string(), &text, &Problems::default()).map(Arc::new));
        }
    }
    assert!(!profiles.is_empty(), "at least one shipped profile can be read");
    let device = Device {
        id: "MH-1".to_owned(),
        profile: 0,
        source: None,
        address: "covers/1".to_owned(),
        name: "1 号井".to_owned(),
        position: Some((120.123_456_789, 30.1)),
        datum: Datum::Gcj02,
        place: String::new(),
        grid: String::new(),
        component_code: String::new(),
        unit: "市政".to_owned(),
        mount_height_mm: Some(2_400.0),
        level_offset_mm: 0.0,
        interval: Some(Duration::from_secs(600)),
        registers_from: None,
        parent: String::new(),
        service: ServiceState::InService,
        tags: Vec::new(),
        downstream: String::new(),
        battery_since: None,
    };
    Site::new(SiteFacts::new(name, profiles, vec![device]))
}

#[test]
fn a_site_comes_back_with_the_same_hash() {
    let bench = Bench::new();
    let site = shipped_site("a");
    assert!(bench.store.site(site.hash()).unwrap().is_none());
    bench.store.save_site(&site).unwrap();
    bench.store.save_site(&site).unwrap();
    let back = Site::new(bench.store.site(site.hash()).unwrap().unwrap());
    assert_eq!(back.hash(), site.hash());
    assert_eq!(back.devices(), site.devices());
}

#[test]
fn the_site_of_a_batch_is_known_and_kept_as_long_as_the_batch() {
    let bench = Bench::new();
    let sites = ["a", "b", "c"].map(shipped_site);
    for site in &sites {
        bench.store.save_site(site).unwrap();
        commit(&bench.store, vec![StoredInput::Site(site.hash().to_owned())], Effects::default());
        commit(&bench.store, frames(1), Effects::default());
    }
    let hash_after = |sequence: u64| bench.store.site_after(sequence).unwrap();
    assert_eq!(hash_after(0), None);
    for (sequence, site) in [(1, &sites[0]), (2, &sites[0]), (3, &sites[1]), (6, &sites[2]), (99, &sites[2])] {
        assert_eq!(hash_after(sequence).as_deref(), Some(site.hash()), "after batch {sequence}");
    }
    // Once the batches of the first two sites are gone, so are the sites.
    bench.store.register_sinks(&["influx".to_owned()]);
    bench.store.set_cursor("influx", 6).unwrap();
    let is_kept = |site: &Site| bench.store.site(site.hash()).unwrap().is_some();
    wait_for(
        "the end of the first site",
        || {
            let done = hand_over(&bench.store, frames(1), Effects::default(), Some(b"state"));
            done.recv_timeout(DEADLINE).unwrap();
            sites.each_ref().map(is_kept)
        },
        |kept| *kept == [false, false, true],
    );
}

#[test]
fn a_site_that_no_batch_changed_to_yet_is_kept_until_another_is_saved() {
    let bench = Bench::new();
    let sites = ["in force", "on its way", "the next"].map(shipped_site);
    let change_to = |site: &Site| vec![StoredInput::Site(site.hash().to_owned())];
    let is_kept = |site: &Site| bench.store.site(site.hash()).unwrap().is_some();
    bench.store.register_sinks(&["influx".to_owned()]);
    bench.store.save_site(&sites[0]).unwrap();
    commit(&bench.store, change_to(&sites[0]), Effects::default());
    bench.store.save_site(&sites[1]).unwrap();
    // Snapshots that fall in between, and batches that went since.
    let forgetting = |what: &str, expected: bool| {
        wait_for(
            what,
            || {
                let committed = commit_snapshot(&bench.store, frames(1), b"state");
                bench.store.set_cursor("influx", committed.sequence).unwrap();
                let oldest =
                    bench.store.readable_batches_after(0, 1).unwrap().first().map_or(0, |batch| batch.sequence);
                (oldest > 2, is_kept(&sites[1]))
            },
            |(has_gone, kept)| *has_gone && *kept == expected,
        );
    };
    forgetting("the end of the first batches", true);
    for _ in 0..3 {
        commit_snapshot(&bench.store, frames(1), b"state");
    }
    assert!(is_kept(&sites[1]), "the batch that changes to it may still come");
    bench.store.save_site(&sites[2]).unwrap();
    forgetting("the end of the site that never came into force", false);
}

// Properties -----------------------------------------------------------------------------------------------------------

fn any_payload() -> impl Strategy<Value = Payload> {
    let table = prop_oneof![Just(RegisterTable::Holding), Just(RegisterTable::Input), Just(RegisterTable::Coil)];
    let block = (table.clone(), any::<u16>(), proptest::collection::vec(any::<u16>(), 0..20))
        .prop_map(|(table, address, words)| RegisterBlock { table, address, words });
    let failure = (table, any::<u16>(), any::<u16>(), ".{0,12}")
        .prop_map(|(table, address, count, cause)| RegisterFailure { table, address, count, cause });
    let registers = (proptest::collection::vec(block, 0..3), proptest::collection::vec(failure, 0..3))
        .prop_map(|(blocks, failures)| Payload::Registers(RegisterRead { blocks, failures }));
    let bytes = proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Payload::Bytes(bytes.into()));
    prop_oneof![3 => bytes, 1 => registers]
}

fn any_input() -> impl Strategy<Value = StoredInput> {
    let frame = ("[a-z]{1,8}", ".{0,20}", any_payload(), any::<i64>(), any::<bool>()).prop_map(
        |(source, address, payload, at, retained)| {
            StoredInput::Frame(Frame {
                source: source.into(),
                address: ByteText::from(address),
                payload,
                received_at: Timestamp(at),
                retained,
            })
        },
    );
    let gateway = (".{0,20}", any::<bool>()).prop_map(|(detail, active)| {
        StoredInput::Gateway(GatewayCondition {
            condition: "quota_exceeded".to_owned(),
            active,
            severity: Severity::Major,
            detail,
            detail_zh: "配额".to_owned(),
        })
    });
    prop_oneof![8 => frame, 1 => "[0-9a-f]{64}".prop_map(StoredInput::Site), 1 => gateway]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_committed_is_read_back_in_order(
        batches in proptest::collection::vec(proptest::collection::vec(any_input(), 1..12), 1..20),
        page_bytes in 1_usize..5_000,
        reopen_after in 0_usize..20,
    ) {
        let mut bench = Bench::new();
        for (position, inputs) in batches.iter().enumerate() {
            let committed = commit(&bench.store, inputs.clone(), Effects::default());
            prop_assert_eq!(committed.sequence, position as u64 + 1);
            if position == reopen_after {
                bench = bench.reopened();
            }
        }
        let mut read: Vec<StoredBatch> = Vec::new();
        loop {
            let last = read.last().map_or(0, |batch| batch.sequence);
            let page = bench.store.batches_after(last, page_bytes).unwrap();
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        prop_assert_eq!(read.len(), batches.len());
        for (position, (back, inputs)) in read.iter().zip(&batches).enumerate() {
            prop_assert_eq!(back.sequence, position as u64 + 1);
            assert_inputs_equal(&back.inputs, inputs);
        }
        let stats = bench.store.stats().unwrap();
        prop_assert_eq!(stats.batches, batches.len() as u64);
    }
}
