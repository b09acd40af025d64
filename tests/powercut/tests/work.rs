//! The work of a store: what the commit with each number writes, and what the store must hold after it.
//!
//! Everything follows from the seed and the number, so that a session after a cut goes on where the store is.

use fastrand::Rng;
use kerbside_model::inventory::Datum;
use kerbside_model::{
    Alarm, AlarmState, Audit, ByteText, Case, CaseEvent, CaseReport, CaseState, Effects, Frame, Notice, NoticeReason,
    OutboxChange, OutboxRow, OutboxState, OutboxTask, Payload, Severity, StoredInput, Timestamp, Undecoded,
    UndecodedReason,
};
use kerbside_store::{AuditQuery, NewSnapshot, Store, UndecodedQuery};

/// An alarm stands and a case is open for so many commits.
const STANDS: u64 = 3;
/// A row of the outbox waits for so many commits.
const WAITS: u64 = 2;
const SNAPSHOT_EVERY: u64 = 5;
const UNDECODED_EVERY: u64 = 4;
/// Every so many commits carries much that does not compress, so that the log is copied into the database.
const LARGE_EVERY: u64 = 4;
const LARGE_BYTES: std::ops::Range<usize> = 40_000..160_000;

/// What the commits of a run carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) seed: u64,
}

/// One commit.
pub(crate) struct Piece {
    pub(crate) now: Timestamp,
    pub(crate) inputs: Vec<StoredInput>,
    pub(crate) effects: Effects,
    pub(crate) snapshot: Option<NewSnapshot>,
}

fn time_of(number: u64) -> Timestamp {
    Timestamp(1_700_000_000_000 + i64::try_from(number).unwrap())
}

fn case_id(number: u64) -> String {
    format!("KB-{number:06}")
}

impl Work {
    pub(crate) fn piece(self, number: u64) -> Piece {
        let snapshot = number.is_multiple_of(SNAPSHOT_EVERY).then(|| NewSnapshot {
            engine_version: 3,
            site_hash: "site-a".to_owned(),
            body: state_after(number),
        });
        Piece { now: time_of(number), inputs: self.inputs(number), effects: effects(number), snapshot }
    }

    pub(crate) fn inputs(self, number: u64) -> Vec<StoredInput> {
        let mut random = Rng::with_seed(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let is_large = number.is_multiple_of(LARGE_EVERY);
        let large = is_large.then(|| random.usize(LARGE_BYTES));
        let sizes = (0..random.usize(1..40)).map(|_| 30).chain(large);
        let frame = |(position, size)| {
            let mut noise = vec![0; size];
            random.fill(&mut noise);
            StoredInput::Frame(frame(&format!("covers/{number}/{position}"), noise, number))
        };
        sizes.enumerate().map(frame).collect()
    }
}

fn frame(address: &str, payload: Vec<u8>, number: u64) -> Frame {
    Frame {
        source: "mqtt".into(),
        address: ByteText::from(address),
        payload: Payload::Bytes(payload.into()),
        received_at: time_of(number),
        retained: false,
    }
}

fn state_after(number: u64) -> Vec<u8> {
    format!("state after {number};").repeat(400).into_bytes()
}

/// What commit `number` changes: one of each kind comes, and older ones go on.
fn effects(number: u64) -> Effects {
    let mut effects = Effects {
        alarms: vec![alarm(number, AlarmState::Active)],
        cases: vec![case(number, CaseState::Pending)],
        case_events: vec![case_event(number, CaseState::Pending)],
        outbox: vec![outbox_row(number)],
        audit: vec![audit(number)],
        ..Effects::default()
    };
    if let Some(old) = number.checked_sub(STANDS).filter(|old| *old > 0) {
        effects.alarms.push(alarm(old, AlarmState::Cleared));
        effects.cases.push(case(old, CaseState::Closed));
        effects.case_events.push(case_event(old, CaseState::Closed));
    }
    if let Some(old) = number.checked_sub(WAITS).filter(|old| *old > 0) {
        let change = OutboxChange { row_id: format!("O-{old}"), state: OutboxState::Delivered, note: String::new() };
        effects.outbox_changes.push(change);
    }
    if number.is_multiple_of(UNDECODED_EVERY) {
        effects.undecoded.push(Undecoded {
            frame: frame("stranger", number.to_string().into_bytes(), number),
            tags: None,
            address: "stranger".to_owned(),
            device: None,
            reason: UndecodedReason::UnknownDevice,
            detail: "no device has this address".to_owned(),
        });
    }
    effects
}

fn alarm(number: u64, state: AlarmState) -> Alarm {
    Alarm {
        id: format!("A-{number:06}"),
        device: "MH-1".to_owned(),
        condition: "displaced".to_owned(),
        severity: Severity::Critical,
        state,
        opened_at: time_of(number),
        updated_at: time_of(number),
        cleared_at: (state == AlarmState::Cleared).then(|| time_of(number + STANDS)),
        explanation: "tilt 31 deg, limit 15 deg".to_owned(),
        explanation_zh: "倾斜 31°，限值 15°".to_owned(),
        suppressed: None,
        case_id: Some(case_id(number)),
        acknowledged: None,
        evidence: None,
    }
}

fn report(number: u64) -> CaseReport {
    CaseReport {
        case_id: case_id(number),
        device: "MH-1".to_owned(),
        device_name: "1 号井".to_owned(),
        kind: "manhole_cover".to_owned(),
        kind_zh: "智能井盖".to_owned(),
        condition: "displaced".to_owned(),
        title: "manhole cover open or displaced".to_owned(),
        title_zh: "井盖开启或移位".to_owned(),
        severity: Severity::Critical,
        occurred_at: time_of(number),
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

fn case(number: u64, state: CaseState) -> Case {
    Case {
        id: case_id(number),
        device: "MH-1".to_owned(),
        condition: "displaced".to_owned(),
        state,
        severity: Severity::Critical,
        opened_at: time_of(number),
        updated_at: time_of(number),
        platform: "ledger".to_owned(),
        platform_id: None,
        episodes: vec![format!("E-{number}")],
        standing: state == CaseState::Pending,
        signed: None,
        report: report(number),
    }
}

fn case_event(number: u64, state: CaseState) -> CaseEvent {
    let note = String::new();
    CaseEvent { case_id: case_id(number), at: time_of(number), state, by: "kerbside".to_owned(), note }
}

fn outbox_row(number: u64) -> OutboxRow {
    let notice =
        Notice { report: report(number), reason: NoticeReason::Opened, step: 1, sign: true, detail: String::new() };
    OutboxRow {
        id: format!("O-{number}"),
        target: "duty".to_owned(),
        case_id: case_id(number),
        task: OutboxTask::Notify(notice),
        created_at: time_of(number),
        state: OutboxState::Pending,
    }
}

fn audit(number: u64) -> Audit {
    Audit {
        at: time_of(number),
        by: "kerbside".to_owned(),
        action: "case_opened".to_owned(),
        subject: case_id(number),
        detail: String::new(),
    }
}

/// Numbers of the last `count` commits, the oldest first.
fn last_of(last: u64, count: u64) -> impl DoubleEndedIterator<Item = u64> {
    last.saturating_sub(count) + 1..=last
}

/// Panics when the store holds anything but what the commits up to `last` wrote.
pub(crate) fn check_state(store: &Store, last: u64) {
    let alarms: Vec<Alarm> = last_of(last, STANDS).map(|number| alarm(number, AlarmState::Active)).collect();
    assert_eq!(store.alarms_open().unwrap(), alarms);
    let cases: Vec<Case> = last_of(last, STANDS).map(|number| case(number, CaseState::Pending)).collect();
    assert_eq!(store.cases_open().unwrap(), cases);
    let rows: Vec<OutboxRow> = last_of(last, WAITS).map(outbox_row).collect();
    assert_eq!(store.outbox_open().unwrap(), rows);
    assert_eq!(store.alarm(&alarm(last + 1, AlarmState::Active).id).unwrap(), None, "nothing of the next commit");
    if let Some(ended) = last.checked_sub(STANDS).filter(|ended| *ended > 0) {
        let expected = alarm(ended, AlarmState::Cleared);
        assert_eq!(store.alarm(&expected.id).unwrap(), Some(expected));
        let events = [CaseState::Pending, CaseState::Closed].map(|state| case_event(ended, state)).to_vec();
        assert_eq!(store.case(&case_id(ended)).unwrap(), Some((case(ended, CaseState::Closed), events)));
    }
    let lines = store.audit(&AuditQuery::default()).unwrap().items;
    let expected: Vec<Audit> = last_of(last, lines.len() as u64).rev().map(audit).collect();
    assert_eq!(lines, expected);
    assert!(lines.len() as u64 >= last.min(20), "only {} lines of the audit log", lines.len());
    let undecoded = store.undecoded(&UndecodedQuery::default()).unwrap().items;
    let newest = last - last % UNDECODED_EVERY;
    let payloads = (0..undecoded.len() as u64).map(|count| (newest - count * UNDECODED_EVERY).to_string().into_bytes());
    for (row, payload) in undecoded.iter().zip(payloads) {
        assert_eq!(row.frame.payload, Payload::Bytes(payload.into()));
    }
    assert_eq!(undecoded.is_empty(), newest == 0);
}

fn frames_of(inputs: &[StoredInput]) -> Vec<&Frame> {
    let mut frames = Vec::new();
    for input in inputs {
        match input {
            StoredInput::Frame(frame) => frames.push(frame),
            other => panic!("{other:?} was never committed"),
        }
    }
    frames
}

/// Panics when a batch is missing before `last`, out of order, or not what was committed. Returns how many are kept.
pub(crate) fn check_batches(store: &Store, work: Work, last: u64) -> u64 {
    let batches = store.batches_after(0, usize::MAX).unwrap();
    let expected = last_of(last, batches.len() as u64);
    for (batch, number) in batches.iter().zip(expected) {
        assert_eq!((batch.sequence, batch.now), (number, time_of(number)));
        assert!(frames_of(&batch.inputs) == frames_of(&work.inputs(number)), "batch {number} is another one");
    }
    batches.len() as u64
}

/// Panics when the newest snapshot is not the one that the commits up to `last` leave.
pub(crate) fn check_snapshot(store: &Store, last: u64) {
    let newest = last - last % SNAPSHOT_EVERY;
    let found = store.latest_snapshot().unwrap();
    assert_eq!(found.as_ref().map_or(0, |snapshot| snapshot.sequence), newest);
    if let Some(snapshot) = found {
        assert!(snapshot.body == state_after(newest), "the body of the snapshot after {newest}");
    }
}
