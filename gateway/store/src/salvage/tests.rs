//! Databases with bytes that rotted: opening always works, and the report says what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use kerbside_model::port::RefusedPoint;
use kerbside_model::{
    Alarm, AlarmState, ByteText, Case, CaseEvent, CaseReport, CaseState, Effects, Frame, OutboxRow, OutboxState,
    OutboxTask, Payload, Severity, StoredInput, Undecoded, UndecodedReason,
};
use kerbside_runtime::{Clock, Health, Metrics};
use tempfile::TempDir;

use super::*;
use crate::tests::noise;
use crate::{Commit, NewSnapshot, Store, StoreConfig};

const PAGE: usize = 4096;
const DAMAGED_TABLES: [&str; 12] = [
    "alarms",
    "audit",
    "batches",
    "case_events",
    "cases",
    "cursors",
    "outbox",
    "refused_points",
    "site_changes",
    "snapshots",
    "undecoded",
    "unknown_devices",
];

fn report_for(case: &str, device: &str) -> CaseReport {
    let alarm = alarm(1, device, case, AlarmState::Active);
    CaseReport { title: "cover displaced".to_owned(), place: "中山路".to_owned(), ..cases::report_of(&alarm, case) }
}

fn alarm(number: u32, device: &str, case: &str, state: AlarmState) -> Alarm {
    Alarm {
        id: format!("A{number:04}"),
        device: device.to_owned(),
        condition: "displaced".to_owned(),
        severity: Severity::Critical,
        state,
        opened_at: Timestamp(i64::from(number) * 1000),
        updated_at: Timestamp(i64::from(number) * 1000),
        cleared_at: None,
        explanation: "tilt 31 deg, limit 15 deg".repeat(4),
        explanation_zh: "倾斜 31°，限值 15°".to_owned(),
        suppressed: None,
        case_id: Some(case.to_owned()),
        acknowledged: None,
        evidence: None,
    }
}

fn case(number: u32, platform: &str) -> Case {
    let (id, device) = (format!("KB-{number:04}"), format!("MH-{number:04}"));
    Case {
        report: report_for(&id, &device),
        id,
        device,
        condition: "displaced".to_owned(),
        state: CaseState::Reported,
        severity: Severity::Critical,
        opened_at: Timestamp(i64::from(number) * 1000),
        updated_at: Timestamp(i64::from(number) * 1000),
        platform: platform.to_owned(),
        platform_id: Some(format!("P{number}")),
        episodes: vec![format!("A{number:04}")],
        standing: true,
        signed: None,
    }
}

fn event(case: &Case, state: CaseState) -> CaseEvent {
    CaseEvent { case_id: case.id.clone(), at: case.opened_at, state, by: "kerbside".to_owned(), note: "n".repeat(40) }
}

fn opening(case: &Case, state: OutboxState) -> OutboxRow {
    OutboxRow {
        id: hashed_row(&case.id, &case.platform),
        target: case.platform.clone(),
        case_id: case.id.clone(),
        task: OutboxTask::OpenCase(case.report.clone()),
        created_at: case.opened_at,
        state,
    }
}

fn hashed_row(case: &str, platform: &str) -> String {
    kerbside_model::id::hashed(&["open", case, platform])
}

fn frame(address: &str, payload: Vec<u8>) -> Frame {
    Frame {
        source: "mqtt".into(),
        address: ByteText::from(address),
        payload: Payload::Bytes(payload.into()),
        received_at: Timestamp(5),
        retained: false,
    }
}

fn commit(store: &Store, inputs: Vec<StoredInput>, effects: Effects, snapshot: Option<NewSnapshot>) -> u64 {
    let (sender, receiver) = sync_channel(1);
    let done = Box::new(move |committed: crate::Committed| sender.send(committed.sequence).unwrap());
    store.commit(Commit { now: Timestamp(1_700_000_000_000), inputs, effects, snapshot, done }).unwrap();
    receiver.recv_timeout(std::time::Duration::from_secs(20)).unwrap()
}

fn snapshot() -> Option<NewSnapshot> {
    Some(NewSnapshot { engine_version: 3, site_hash: "site-a".to_owned(), body: noise(9, 3000) })
}

fn effects_of(number: u32) -> Effects {
    let case = case(number, if number.is_multiple_of(2) { "open311" } else { "ledger" });
    let undecoded = Undecoded {
        frame: frame(&format!("x/{number}"), noise(u64::from(number), 60)),
        tags: None,
        address: format!("x/{number}"),
        device: None,
        reason: UndecodedReason::UnknownDevice,
        detail: "no device".to_owned(),
    };
    let line = Audit {
        at: Timestamp(3),
        by: "张三".to_owned(),
        action: "case_signed".to_owned(),
        subject: case.id.clone(),
        detail: "d".repeat(50),
    };
    Effects {
        alarms: vec![alarm(number, &case.device, &case.id, AlarmState::Active)],
        case_events: vec![event(&case, CaseState::Pending), event(&case, CaseState::Reported)],
        outbox: vec![opening(&case, OutboxState::Pending)],
        audit: vec![line],
        undecoded: vec![undecoded],
        cases: vec![case],
        ..Effects::default()
    }
}

fn config(folder: &Path) -> StoreConfig {
    StoreConfig::new(folder.to_owned())
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(config(folder), Clock::System, &Metrics::default(), &Health::default())
}

/// A closed database in which every table has rows.
fn filled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).unwrap();
    for number in 1..=60 {
        let bytes = if number % 7 == 0 { 9000 } else { 700 };
        let inputs = vec![StoredInput::Frame(frame("noise", noise(u64::from(number), bytes)))];
        commit(&store, inputs, effects_of(number), (number == 20 || number == 40).then(snapshot).flatten());
    }
    let refused = |number: i64| RefusedPoint {
        device: "MH-1".to_owned(),
        line: "cover tilt=1".to_owned(),
        reason: "type conflict".to_owned(),
        at: Timestamp(number),
    };
    store.keep_refused("influx", &(0..20).map(refused).collect::<Vec<_>>()).unwrap();
    store.set_cursor("influx", 30).unwrap();
    commit(&store, vec![StoredInput::Site("site-b".to_owned())], Effects::default(), None);
    store.close().unwrap();
    let path = folder.path().join("kerbside.db");
    (folder, path)
}

/// Keys of the rows of each table.
fn keys(connection: &Connection) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut keys = BTreeMap::new();
    for table in DAMAGED_TABLES {
        let key = match table {
            "alarms" | "cases" => "id",
            "cursors" => "sink",
            "unknown_devices" => "address",
            "batches" | "snapshots" | "site_changes" => "CAST(sequence AS TEXT)",
            _ => "CAST(number AS TEXT)",
        };
        let select = format!("SELECT {key} FROM {table} NOT INDEXED");
        let mut statement = connection.prepare(&select).unwrap();
        keys.insert(table, statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect());
    }
    keys
}

/// Which table or index each page belongs to, its kind, and how many cells it has.
fn pages(path: &Path) -> BTreeMap<usize, (String, String, u64)> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT pageno, name, pagetype, ncell FROM dbstat").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

fn salvage_file(path: &Path, to: &Path) -> SalvageReport {
    let damage = Damage { from: path, cause: "a test".to_owned(), is_log_damaged: false, aside: path };
    salvage(&damage, to, Timestamp(7), &mut |_, _| {}).unwrap()
}

/// Compares a salvaged database with the sound one.
fn check_salvaged(seed: u64, to: &Path, report: &SalvageReport, before: &Sound, page: usize) {
    let connection = Connection::open(to).unwrap();
    let after = keys(&connection);
    let hit = before.pages.get(&page);
    for (table, rows) in &before.keys {
        let mut kept = after[table].clone();
        if *table == "audit" {
            // The line about the salvage itself.
            kept.remove(&(kept.iter().filter_map(|key| key.parse::<u64>().ok()).max().unwrap()).to_string());
        }
        let context = format!("seed {seed}, page {page} {hit:?}, table {table}: {report:?}");
        let strange: Vec<_> = kept.difference(rows).collect();
        assert!(strange.len() <= 1, "{strange:?} {context}");
        let missing = rows.difference(&kept).count() as u64;
        let allowed = match hit {
            // Snapshots go when a batch is missing.
            _ if *table == "snapshots" && !report.is_gapless => rows.len() as u64,
            Some((name, kind, cells)) if name == table => match kind.as_str() {
                "overflow" => 1,
                "leaf" => *cells,
                _ => rows.len() as u64,
            },
            _ => 0,
        };
        // A lost case is made anew from what names it.
        assert!(missing <= allowed, "{missing} rows are missing, {allowed} were on the page; {context}");
        let Some(said) = report.tables.iter().find(|said| said.table == *table) else { panic!("{context}") };
        let rebuilt = if *table == "cases" { report.cases_rebuilt.len() } else { 0 };
        let sent_again = if *table == "outbox" { report.deliveries_rebuilt } else { 0 };
        if *table != "snapshots" && *table != "cursors" {
            assert_eq!(said.salvaged as usize + rebuilt + sent_again as usize, kept.len(), "{context}");
        }
        if !said.is_estimate && strange.is_empty() && *table != "snapshots" {
            assert_eq!(said.found, rows.len() as u64, "{context}");
        }
        assert_eq!(said.found, said.salvaged + said.lost, "{context}");
    }
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "seed {seed}");
}

struct Sound {
    keys: BTreeMap<&'static str, BTreeSet<String>>,
    pages: BTreeMap<usize, (String, String, u64)>,
    bytes: Vec<u8>,
}

fn sound() -> Sound {
    let (_folder, path) = filled();
    let pages = pages(&path);
    let keys = keys(&Connection::open(&path).unwrap());
    Sound { keys, pages, bytes: fs::read(&path).unwrap() }
}

/// Where the version of the schema stands: a larger one is a newer kerbside's, and refused by name.
const VERSION_BYTES: std::ops::Range<usize> = 60..64;

fn rounds(first_seed: u64, count: u64, mut round: impl FnMut(u64, &Sound, &Path)) {
    let sound = sound();
    for seed in first_seed..first_seed + count {
        let folder = TempDir::new().unwrap();
        round(seed, &sound, folder.path());
    }
}

/// Rounds of each kind; the nightly run asks for more.
fn round_count() -> u64 {
    std::env::var("KERBSIDE_SALVAGE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

#[test]
fn one_rotten_byte_anywhere_costs_no_more_than_its_page() {
    rounds(1, round_count(), |seed, sound, folder| {
        let place = noise_number(seed) % sound.bytes.len();
        let mut bytes = sound.bytes.clone();
        bytes[place] ^= u8::try_from(noise_number(seed + 1_000) % 255 + 1).unwrap();
        check_round(seed, sound, folder, &bytes, place / PAGE + 1);
    });
}

#[test]
fn a_page_of_garbage_anywhere_costs_no_more_than_its_rows() {
    rounds(1, round_count(), |seed, sound, folder| {
        let page = noise_number(seed) % (sound.bytes.len() / PAGE);
        let mut bytes = sound.bytes.clone();
        bytes[page * PAGE..(page + 1) * PAGE].copy_from_slice(&noise(seed, PAGE));
        check_round(seed, sound, folder, &bytes, page + 1);
    });
}

fn noise_number(seed: u64) -> usize {
    usize::try_from(u32::from_le_bytes(noise(seed, 4).try_into().unwrap())).unwrap()
}

fn check_round(seed: u64, sound: &Sound, folder: &Path, bytes: &[u8], page: usize) {
    println!("seed {seed}, page {page} {:?}", sound.pages.get(&page));
    let damaged = folder.join("damaged.db");
    fs::write(&damaged, bytes).unwrap();
    let to = folder.join("salvaged.db");
    let report = salvage_file(&damaged, &to);
    check_salvaged(seed, &to, &report, sound, page);
    // And as the gateway meets it.
    let home = folder.join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("kerbside.db"), bytes).unwrap();
    match open(&home) {
        Ok(store) => {
            store.cases_open().unwrap();
            store.alarms_open().unwrap();
            store.outbox_open().unwrap();
            store.stats().unwrap();
            store.close().unwrap();
        }
        Err(StoreError::TooNew { .. }) => {
            let differs = VERSION_BYTES.into_iter().any(|place| bytes[place] != sound.bytes[place]);
            assert!(differs && page == 1, "seed {seed}");
        }
        Err(error) => panic!("seed {seed}, page {page}: {error:?}"),
    }
}

/// Makes the rows of a table unreadable by wiping the page that holds its beginning.
fn wipe_root(path: &Path, name: &str) {
    let connection = Connection::open(path).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: usize = connection.query_row(root, [name], |row| row.get(0)).unwrap();
    drop(connection);
    let mut bytes = fs::read(path).unwrap();
    bytes[(root - 1) * PAGE..root * PAGE].fill(0xA5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn cases_whose_table_is_gone_are_made_anew_so_that_none_is_opened_twice() {
    let (folder, path) = filled();
    let before = open(folder.path()).unwrap();
    let (known, history) = before.case("KB-0007").unwrap().unwrap();
    before.close().unwrap();
    wipe_root(&path, "cases");
    let store = open(folder.path()).unwrap();
    let report = store.last_salvage().unwrap().unwrap();
    assert_eq!(report.cases_rebuilt.len(), 60, "{report:?}");
    assert!(report.cases_unknown.is_empty());
    assert!(report.is_gapless, "batches and snapshots are whole: {report:?}");
    assert_eq!(store.cases_open().unwrap().len(), 60);
    let (rebuilt, events) = store.case("KB-0007").unwrap().unwrap();
    assert_eq!(events, history);
    assert_eq!((&rebuilt.device, &rebuilt.condition), (&known.device, &known.condition));
    assert_eq!((rebuilt.state, rebuilt.standing), (known.state, known.standing));
    assert_eq!((&rebuilt.platform, &rebuilt.episodes), (&known.platform, &known.episodes));
    assert_eq!(rebuilt.report.place, known.report.place, "the delivery has the whole report");
    store.close().unwrap();
}

#[test]
fn a_case_that_its_platform_has_is_looked_up_there_again_for_its_number() {
    let (folder, path) = filled();
    let store = open(folder.path()).unwrap();
    let row_id = hashed_row("KB-0008", "open311");
    let change =
        kerbside_model::OutboxChange { row_id: row_id.clone(), state: OutboxState::Delivered, note: "P8".to_owned() };
    commit(&store, Vec::new(), Effects { outbox_changes: vec![change], ..Effects::default() }, None);
    store.close().unwrap();
    wipe_root(&path, "cases");
    let store = open(folder.path()).unwrap();
    let row = store.outbox_open().unwrap().into_iter().find(|row| row.id == row_id).expect("it is open again");
    assert_eq!(row.state, OutboxState::Attempted, "its target is asked before anything is sent");
    store.close().unwrap();
}

#[test]
fn a_lost_delivery_of_a_case_that_nobody_has_is_made_anew_under_its_own_id() {
    let (folder, path) = filled();
    let store = open(folder.path()).unwrap();
    let pending = Case { state: CaseState::Pending, ..case(90, "open311") };
    let effects = Effects {
        cases: vec![pending.clone()],
        outbox: vec![opening(&pending, OutboxState::Pending)],
        ..Effects::default()
    };
    commit(&store, Vec::new(), effects, None);
    store.close().unwrap();
    wipe_root(&path, "outbox");
    let store = open(folder.path()).unwrap();
    let open_rows = store.outbox_open().unwrap();
    assert_eq!(open_rows.len(), 1, "{open_rows:?}");
    assert_eq!(
        (open_rows[0].id.clone(), open_rows[0].state),
        (hashed_row("KB-0090", "open311"), OutboxState::Attempted)
    );
    assert_eq!(store.last_salvage().unwrap().unwrap().deliveries_rebuilt, 1);
    store.close().unwrap();
}

#[test]
fn a_header_of_zeros_costs_nothing() {
    let (folder, path) = filled();
    let mut bytes = fs::read(&path).unwrap();
    bytes[..PAGE].fill(0);
    fs::write(&path, bytes).unwrap();
    let store = open(folder.path()).unwrap();
    let report = store.last_salvage().unwrap().unwrap();
    assert_eq!(report.lost(), 0, "{report:?}");
    assert_eq!(store.cases_open().unwrap().len(), 60);
    assert_eq!(store.last_sequence().unwrap(), 61);
    store.close().unwrap();
}

#[test]
fn missing_batches_are_named_and_no_snapshot_is_stepped_over_them() {
    let (folder, path) = filled();
    let connection = Connection::open(&path).unwrap();
    let sound: Vec<u8> =
        connection.query_row("SELECT body FROM batches WHERE sequence = 50", [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.windows(64).position(|window| window == &sound[100..164]).unwrap();
    bytes[place] ^= 1;
    fs::write(&path, bytes).unwrap();
    crate::open::mark_suspect(folder.path());
    // Sound pages around a rotten body: SQLite sees nothing, and neither does the check of the pages.
    let store = open(folder.path()).unwrap();
    assert!(store.last_salvage().unwrap().is_none());
    assert!(matches!(store.batches_after(49, 1), Err(StoreError::DamagedBatch { sequence: 50, .. })));
    store.close().unwrap();
    let to = folder.path().join("new");
    let report = Store::salvage(&path, &to, &Clock::System, &mut |_, _| {}).unwrap();
    let batches = report.tables.iter().find(|table| table.table == "batches").unwrap();
    assert_eq!((batches.found, batches.salvaged, batches.lost), (61, 60, 1));
    assert_eq!(batches.lost_ranges, [(50, 50)]);
    assert!(!report.is_gapless);
    let store = open(&to).unwrap();
    assert!(store.latest_snapshot().unwrap().is_none(), "a snapshot would hide the hole");
    assert_eq!(store.cursor("influx").unwrap(), 30);
    store.close().unwrap();
    let again = Store::salvage(&path, &to, &Clock::System, &mut |_, _| {}).unwrap_err();
    assert!(matches!(again, StoreError::NotEmpty { .. }), "{again:?}");
}

#[test]
fn a_salvage_that_a_crash_cut_short_is_made_again_or_finished() {
    let (folder, path) = filled();
    let name = |suffix: &str| crate::open::with_suffix(&path, suffix);
    // Cut short in the making: a torso lies there beside the damaged one.
    fs::write(name(".salvaging"), b"a torso").unwrap();
    wipe_root(&path, "alarms");
    let store = open(folder.path()).unwrap();
    assert_eq!(store.cases_open().unwrap().len(), 60);
    store.close().unwrap();
    // Cut short between the two renames.
    fs::rename(&path, name(".salvaged")).unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!((store.cases_open().unwrap().len(), store.last_sequence().unwrap()), (60, 61));
    store.close().unwrap();
    assert!(!name(".salvaged").try_exists().unwrap());
}

#[test]
fn a_log_of_zero_length_of_garbage_or_with_a_wiped_page_never_stops_the_start() {
    let (_sound, sound_path) = filled();
    let sound = fs::read(&sound_path).unwrap();
    for (log, rows) in [(Vec::new(), 60), (noise(5, 3 * PAGE), 60), (b"log".to_vec(), 60)] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("kerbside.db"), &sound).unwrap();
        fs::write(folder.path().join("kerbside.db-wal"), log).unwrap();
        let store = open(folder.path()).unwrap();
        assert_eq!(store.cases_open().unwrap().len(), rows);
        assert!(store.last_salvage().unwrap().is_none());
        store.close().unwrap();
    }
}

#[test]
fn a_truncated_file_opens_with_what_is_left() {
    let (_sound, sound_path) = filled();
    let sound = fs::read(&sound_path).unwrap();
    for pages in [0, 1, 2, 30, sound.len() / PAGE - 1] {
        for odd in [0, 777] {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("kerbside.db"), &sound[..(pages * PAGE + odd).min(sound.len())]).unwrap();
            let store = open(folder.path()).unwrap_or_else(|error| panic!("{pages} pages and {odd} bytes: {error:?}"));
            let last = store.last_sequence().unwrap();
            assert_eq!(commit(&store, Vec::new(), effects_of(99), snapshot()), last + 1);
            store.close().unwrap();
        }
    }
}

#[test]
fn a_check_finds_nothing_in_a_sound_store_also_beside_a_running_gateway() {
    let (folder, _path) = filled();
    let found = crate::verify(folder.path(), &mut |_, _| {}).unwrap();
    let expected: Vec<&str> = Vec::new();
    assert_eq!(found.findings.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!((found.batches, found.snapshots, found.is_in_use), (61, 2, false));
    let store = open(folder.path()).unwrap();
    let found = crate::verify(folder.path(), &mut |_, _| {}).unwrap();
    assert!(found.is_sound() && found.is_in_use);
    let overview = crate::StoreReader::open(folder.path()).unwrap().overview().unwrap();
    assert_eq!((overview.sequence, overview.rows["batches"], overview.rows["cases"]), (61, 61, 60));
    assert_eq!((overview.snapshot_sequence, overview.batches_since_snapshot), (Some(40), 21));
    assert_eq!((overview.cases_open, overview.alarms_open, overview.cursors["influx"]), (60, 60, 30));
    store.close().unwrap();
}

#[test]
fn a_check_names_what_is_wrong() {
    let (folder, path) = filled();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "UPDATE batches SET body = x'00' WHERE sequence = 12; DELETE FROM batches WHERE sequence BETWEEN 20 AND 22; \
             DELETE FROM case_events WHERE case_id = 'KB-0003'; DELETE FROM cases WHERE id = 'KB-0004'; \
             UPDATE audit SET record = '{' WHERE number = 5; UPDATE snapshots SET body = x'11' WHERE sequence = 40;",
        )
        .unwrap();
    drop(connection);
    let found = crate::verify(folder.path(), &mut |_, _| {}).unwrap();
    let text: Vec<String> =
        found.findings.iter().map(|finding| format!("{}: {}", finding.place, finding.what)).collect();
    for (place, part) in [
        ("batches", "12: "),
        ("batches", "20 to 22 are missing"),
        ("snapshots", "40: "),
        ("cases", "KB-0003 has no history"),
        ("outbox", "KB-0004"),
        ("case_events", "KB-0004"),
        ("alarms", "KB-0004"),
        ("audit", "5 is not what kerbside writes"),
        ("totals", "batches up to"),
    ] {
        assert!(text.iter().any(|line| line.starts_with(place) && line.contains(part)), "{place} {part}: {text:#?}");
    }
    assert!(text.len() <= 10, "{text:#?}");
}

#[test]
fn batches_of_a_span_are_read_one_by_one_and_a_damaged_one_is_named() {
    let (folder, path) = filled();
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE batches SET at = sequence * 1000", []).unwrap();
    connection.execute("UPDATE batches SET body = x'00' WHERE sequence = 12", []).unwrap();
    drop(connection);
    let reader = crate::StoreReader::open(folder.path()).unwrap();
    let span = || Timestamp(10_000)..Timestamp(15_000);
    assert_eq!(reader.batches_in(span()).unwrap(), 5);
    let (mut last, mut seen) = (0, Vec::new());
    while let Some(batch) = reader.batch_after(last, span()).unwrap() {
        last = batch.sequence;
        seen.push((last, batch.content.is_ok()));
    }
    assert_eq!(seen, [(10, true), (11, true), (12, false), (13, true), (14, true)]);
}

#[test]
fn a_commit_that_meets_damage_ends_the_store_and_the_next_start_salvages() {
    let (folder, path) = filled();
    // An index that start-up does not look into.
    wipe_root(&path, "alarms_by_device");
    let store = open(folder.path()).unwrap();
    assert!(store.last_salvage().unwrap().is_none(), "it goes unnoticed at first");
    let (sender, receiver) = sync_channel::<u64>(1);
    let done = Box::new(move |committed: crate::Committed| sender.send(committed.sequence).unwrap());
    let (inputs, effects) = (Vec::new(), effects_of(70));
    store.commit(Commit { now: Timestamp(8), inputs, effects, snapshot: None, done }).unwrap();
    let answer = receiver.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!(answer, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "nothing is acknowledged");
    let closed = store.close().unwrap_err();
    assert!(matches!(closed, StoreError::Unwritten { .. }), "{closed:?}");
    let store = open(folder.path()).unwrap();
    let report = store.last_salvage().unwrap().expect("it was salvaged");
    assert_eq!((report.lost(), report.is_gapless), (0, true), "{report:?}");
    assert_eq!(commit(&store, Vec::new(), effects_of(70), None), 62);
    store.close().unwrap();
}

#[test]
fn a_read_that_meets_damage_has_the_next_start_check_and_salvage() {
    let (folder, path) = filled();
    // Old audit lines: start-up reads only the newest.
    let connection = Connection::open(&path).unwrap();
    let record = format!("\"{}\"", "x".repeat(3000));
    for _ in 0..20 {
        connection.execute("INSERT INTO audit(subject, record) VALUES ('long', ?1)", [&record]).unwrap();
    }
    let page: usize = connection
        .query_row("SELECT min(pageno) FROM dbstat WHERE name = 'audit' AND pagetype = 'leaf'", [], |row| row.get(0))
        .unwrap();
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(page - 1) * PAGE..page * PAGE].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let store = open(folder.path()).unwrap();
    assert!(store.last_salvage().unwrap().is_none());
    let all = crate::AuditQuery { subject: Some("KB-0001".to_owned()), ..crate::AuditQuery::default() };
    store.audit(&all).unwrap_err();
    store.close().unwrap();
    let store = open(folder.path()).unwrap();
    let report = store.last_salvage().unwrap().expect("it was salvaged");
    let audit = report.tables.iter().find(|table| table.table == "audit").unwrap();
    assert!(audit.lost > 0 && !audit.is_estimate, "{audit:?}");
    store.close().unwrap();
}
