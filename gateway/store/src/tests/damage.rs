//! Disks that are full, files that are damaged, and a second gateway.

use super::*;

#[test]
fn a_second_kerbside_on_the_folder_is_refused() {
    let bench = Bench::new();
    let refused = open_at(bench.folder.path()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("another kerbside runs on this folder"), "{text}");
    assert!(text.contains(&bench.folder.path().display().to_string()), "{text}");
    let Bench { store, folder, .. } = bench;
    store.close().unwrap();
    open_at(folder.path()).unwrap();
}

#[test]
fn the_lock_is_freed_when_the_last_handle_goes() {
    let bench = Bench::new();
    let Bench { store, folder, .. } = bench;
    drop(store);
    let opened = || open_at(folder.path()).is_ok();
    wait_for("the freed lock", opened, |is_open| *is_open);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let bench = Bench::new();
    let Bench { store, folder, .. } = bench;
    store.close().unwrap();
    let path = folder.path().join("kerbside.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let text = open_at(folder.path()).unwrap_err().to_string();
    assert!(text.contains("schema version 99 and this kerbside knows versions up to 3"), "{text}");
    assert!(text.contains("install the newer kerbside again"), "{text}");
    let version: u32 =
        Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

/// The tables of version 1 that the migration meets, as a gateway of that time left them.
const VERSION_1_FIXTURE: &str = include_str!("../../tests/schema_version_1.sql");

#[test]
fn a_database_of_version_1_is_brought_forward_with_its_rows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kerbside.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(VERSION_1_FIXTURE).unwrap();
    let record = serde_json::to_string(&alarm("A1", "MH-1", AlarmState::Active, 1_000)).unwrap();
    connection
        .execute("INSERT INTO alarms VALUES ('A1', 'MH-1', 'displaced', 'active', 1, 1000, ?1)", [record])
        .unwrap();
    let mut encoder = Encoder::new(Packing::Zstd);
    let packed = encoder.pack(&frames(2));
    connection
        .execute(
            "INSERT INTO batches VALUES (7, 123, 2, ?1, ?2, 1, ?3)",
            rusqlite::params![packed.raw_bytes, packed.body.len(), packed.body],
        )
        .unwrap();
    connection.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(connection);

    let store = open_at(folder.path()).unwrap();
    assert_eq!(store.alarms_open().unwrap(), [alarm("A1", "MH-1", AlarmState::Active, 1_000)]);
    assert_inputs_equal(&store.batches_after(0, 100).unwrap()[0].inputs, &frames(2));
    let heard = undecoded_effects(vec![undecoded("x", UndecodedReason::UnknownDevice, b"1", 1)]);
    assert_eq!(commit(&store, frames(1), heard).sequence, 8);
    assert_eq!(store.unknown_devices(&PageQuery::default()).unwrap().items.len(), 1, "version 2 has this table");
    store.close().unwrap();
    let connection = Connection::open(&path).unwrap();
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 3);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_goes_on_by_itself() {
    let bench = Bench::new();
    commit(&bench.store, frames(1), Effects::default());
    bench.store.limit_pages(40);
    let inputs = noisy_frame(1, 400_000);
    let waiting = hand_over(&bench.store, inputs.clone(), full_effects(), None);
    let (_, detail) = wait_for("the refusal", || bench.health(), |(state, _)| *state == HealthState::Down);
    assert!(detail.starts_with("the disk is full; nothing is acknowledged until there is room"), "{detail}");
    assert!(!bench.health.is_ready());
    let behind = hand_over(&bench.store, frames(2), Effects::default(), None);
    let failures = || bench.metric("kerbside_store_commit_failures_total{reason=\"full\"}");
    wait_for("two more tries", failures, |failures| *failures >= 3);
    assert!(waiting.try_recv().is_err() && behind.try_recv().is_err(), "nothing may be acknowledged");
    assert_eq!(bench.store.last_sequence().unwrap(), 1);
    assert!(bench.store.alarms_open().unwrap().is_empty(), "nothing of a refused commit is seen");

    bench.store.limit_pages(0);
    assert_eq!(waiting.recv_timeout(DEADLINE).unwrap().sequence, 2);
    assert_eq!(behind.recv_timeout(DEADLINE).unwrap().sequence, 3);
    assert_eq!(bench.health().0, HealthState::Ok);
    check_full(&bench.store);
    assert_inputs_equal(&bench.store.batches_after(1, 1).unwrap()[0].inputs, &inputs);
}

#[test]
fn closing_on_a_full_disk_ends_and_says_what_was_given_up() {
    let bench = Bench::new();
    bench.store.limit_pages(40);
    let waiting = hand_over(&bench.store, noisy_frame(1, 400_000), Effects::default(), None);
    wait_for("the refusal", || bench.health().0, |state| *state == HealthState::Down);
    // This one would fit, but was computed after the one that does not.
    let behind = hand_over(&bench.store, frames(1), Effects::default(), None);
    let error = bench.store.clone().close().unwrap_err();
    assert!(matches!(error, StoreError::Unwritten { commits: 2, .. }), "{error:?}");
    assert!(waiting.try_recv().is_err() && behind.try_recv().is_err());
    let store = open_at(bench.folder.path()).unwrap();
    assert_eq!(store.last_sequence().unwrap(), 0);
}

fn files_named(folder: &Path, part: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(part)).collect()
}

/// Opens a folder with a damaged database. Returns what was salvaged.
fn check_set_aside(folder: &Path) -> SalvageReport {
    let (metrics, health) = (Metrics::default(), Health::default());
    let store = Store::open(config(folder), Clock::System, &metrics, &health).unwrap();
    let report = store.last_salvage().unwrap().expect("it came out of a damaged one");
    assert_eq!(store.last_sequence().unwrap(), report.last_sequence, "numbers go on");
    assert_eq!(commit(&store, frames(1), Effects::default()).sequence, report.last_sequence + 1);
    assert_eq!(metric(&metrics, "kerbside_store_set_aside_total"), 1);
    let component = health.snapshot().remove(0);
    assert_eq!(component.state, HealthState::Degraded);
    assert!(component.detail.contains("kerbside.db.damaged-"), "{}", component.detail);
    assert!(health.is_ready(), "it works, in part");
    let audit = store.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).unwrap().items;
    assert_eq!((audit[0].action.as_str(), &audit[0].detail), ("database_salvaged", &report.summary()));
    let beside = files_named(folder, ".report.json");
    let text = fs::read_to_string(folder.join(&beside[0])).unwrap();
    assert_eq!(serde_json::from_str::<SalvageReport>(&text).unwrap(), report);
    store.close().unwrap();
    let store = Store::open(config(folder), Clock::System, &metrics, &health).unwrap();
    assert_eq!(store.last_sequence().unwrap(), report.last_sequence + 1, "the new database stays");
    assert_eq!(metric(&metrics, "kerbside_store_set_aside_total"), 1);
    report
}

fn salvaged(report: &SalvageReport, table: &str) -> (u64, u64) {
    let found = report.tables.iter().find(|found| found.table == table).unwrap();
    (found.salvaged, found.lost)
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("kerbside.db"), noise(5, 50_000)).unwrap();
    fs::write(folder.path().join("kerbside.db-wal"), b"log").unwrap();
    let report = check_set_aside(folder.path());
    assert_eq!((report.last_sequence, report.tables.len()), (0, 0), "{report:?}");
    let aside = files_named(folder.path(), "damaged-");
    let is_database = |name: &&String| !name.ends_with("-wal") && !name.ends_with("-shm") && !name.ends_with("json");
    let database = aside.iter().find(is_database).unwrap();
    assert_eq!(fs::read(folder.path().join(database)).unwrap(), noise(5, 50_000));
}

/// A closed database with alarms and batches in it.
fn written_database() -> TempDir {
    let bench = Bench::new();
    for round in 0..40 {
        let alarms = (0..20).map(|number| alarm(&format!("A{round}-{number}"), "MH-1", AlarmState::Active, round));
        commit(
            &bench.store,
            noisy_frame(round as u64, 6_000),
            Effects { alarms: alarms.collect(), ..Effects::default() },
        );
    }
    commit_snapshot(&bench.store, frames(1), b"state");
    let Bench { store, folder, .. } = bench;
    store.close().unwrap();
    folder
}

#[test]
fn a_database_that_was_cut_off_is_set_aside() {
    let folder = written_database();
    let file = fs::OpenOptions::new().write(true).open(folder.path().join("kerbside.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 8192 * 4096).unwrap();
    drop(file);
    let report = check_set_aside(folder.path());
    let (kept, lost) = salvaged(&report, "batches");
    assert!(kept >= 5 && kept + lost == 41, "{report:?}");
    assert!(!report.is_gapless);
}

#[test]
fn a_database_with_garbage_in_the_middle_is_set_aside() {
    let folder = written_database();
    let path = folder.path().join("kerbside.db");
    let mut bytes = fs::read(&path).unwrap();
    let garbage = noise(3, bytes.len());
    bytes[4096..].copy_from_slice(&garbage[4096..]);
    fs::write(&path, bytes).unwrap();
    let report = check_set_aside(folder.path());
    assert_eq!(report.tables.iter().map(|table| table.salvaged).sum::<u64>(), 0, "{report:?}");
}

#[test]
fn after_damage_was_met_the_whole_file_is_checked() {
    let folder = written_database();
    // A note alone changes nothing.
    open::mark_suspect(folder.path());
    let store = open_at(folder.path()).unwrap();
    assert_eq!(store.last_sequence().unwrap(), 41);
    assert!(files_named(folder.path(), "suspect").is_empty());
    store.close().unwrap();
    // The index that start-up does not look into.
    let path = folder.path().join("kerbside.db");
    let connection = Connection::open(&path).unwrap();
    let root: u64 = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'alarms_by_device'", [], |row| row.get(0))
        .unwrap();
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    let begin = usize::try_from(root - 1).unwrap() * 4096;
    bytes[begin..begin + 4096].copy_from_slice(&noise(4, 4096));
    fs::write(&path, bytes).unwrap();
    open_at(folder.path()).unwrap().close().unwrap();
    assert!(files_named(folder.path(), "damaged-").is_empty(), "it goes unnoticed at first");
    open::mark_suspect(folder.path());
    let report = check_set_aside(folder.path());
    assert_eq!((salvaged(&report, "alarms"), salvaged(&report, "batches")), ((800, 0), (41, 0)));
    assert!(report.is_gapless, "only an index was damaged: {report:?}");
}

#[test]
fn a_damaged_batch_stops_a_restart_by_name_and_telemetry_not_at_all() {
    let bench = Bench::new();
    for count in 1..6 {
        commit(&bench.store, frames(count), Effects::default());
    }
    let Bench { store, folder, .. } = bench;
    store.close().unwrap();
    let connection = Connection::open(folder.path().join("kerbside.db")).unwrap();
    connection.execute("UPDATE batches SET body = x'00112233' WHERE sequence = 2", []).unwrap();
    connection.execute("UPDATE batches SET inputs = 77 WHERE sequence = 3", []).unwrap();
    connection.execute("UPDATE batches SET format = 9 WHERE sequence = 5", []).unwrap();
    drop(connection);
    let metrics = Metrics::default();
    let store = Store::open(config(folder.path()), Clock::System, &metrics, &Health::default()).unwrap();
    let error = store.batches_after(0, 1_000_000).unwrap_err();
    assert!(matches!(error, StoreError::DamagedBatch { sequence: 2, .. }), "{error:?}");
    assert_eq!(error.to_string(), "read batch 2 from the store");
    for _ in 0..2 {
        let mut cursor = 0;
        let mut seen = Vec::new();
        // The smallest pages: a damaged batch alone must move the cursor too.
        loop {
            let batches = store.readable_batches_after(cursor, 1).unwrap();
            let Some(last) = batches.last() else { break };
            cursor = last.sequence;
            seen.extend(batches.iter().map(|batch| (batch.sequence, batch.inputs.len())));
        }
        assert_eq!(seen, [(1, 1), (2, 0), (3, 0), (4, 4), (5, 0)]);
    }
    assert_eq!(metric(&metrics, "kerbside_store_batches_damaged_total"), 3, "each is counted once");
}

/// Overwrites the page that holds byte `offset` of the noise in batch `seed + 1`.
fn damage_page_of(path: &Path, seed: u64, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    let needle = noise(seed, 6_000);
    let found = bytes.windows(64).position(|window| window == &needle[offset..offset + 64]);
    let begin = found.expect("the batch is in the file") / 4096 * 4096;
    bytes[begin..begin + 4096].copy_from_slice(&noise(1_000 + seed, 4096));
    fs::write(path, bytes).unwrap();
}

#[test]
fn telemetry_goes_on_behind_damaged_pages() {
    let folder = written_database();
    let path = folder.path().join("kerbside.db");
    // The end of a body lies in a page of its own, its beginning in a page of the tree with other rows.
    damage_page_of(&path, 10, 5_000);
    damage_page_of(&path, 20, 200);
    let metrics = Metrics::default();
    let store = Store::open(config(folder.path()), Clock::System, &metrics, &Health::default()).unwrap();
    assert!(files_named(folder.path(), "damaged-").is_empty(), "start-up does not need these pages");
    let mut cursor = 0;
    let mut good = Vec::new();
    loop {
        let batches = store.readable_batches_after(cursor, 10_000).unwrap();
        let Some(last) = batches.last() else { break };
        assert!(last.sequence > cursor, "the reader must move on");
        cursor = last.sequence;
        good.extend(batches.iter().filter(|batch| !batch.inputs.is_empty()).map(|batch| batch.sequence));
    }
    assert_eq!(cursor, 41);
    assert!(good.len() >= 36 && good.len() <= 39, "{good:?}");
    assert!(!good.contains(&11) && !good.contains(&21), "{good:?}");
    assert_eq!(metric(&metrics, "kerbside_store_batches_damaged_total"), 41 - good.len() as u64);
    // A restart that would have to step through them is told, by number.
    let error = store.batches_after(20, 1).unwrap_err();
    assert!(matches!(error, StoreError::DamagedBatch { sequence: 21, .. }), "{error:?}");
}
