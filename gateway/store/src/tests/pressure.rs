//! Quotas by age and for want of room, the order of sacrifice, what is written, and what never goes.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn commit_at(store: &Store, now: Timestamp, inputs: Vec<StoredInput>, effects: Effects) -> Committed {
    hand_over_at(store, now, inputs, effects, None).recv_timeout(DEADLINE).expect("the commit is done in time")
}

fn oldest(store: &Store) -> Option<u64> {
    store.batches_after(0, 1).unwrap().first().map(|batch| batch.sequence)
}

#[test]
fn unsent_batches_go_by_age_without_a_commit_but_not_those_after_the_snapshot() {
    let bench = Bench::with_config(|config| StoreConfig { batches_age_max: DAY, ..config });
    bench.store.register_sinks(&["influx".to_owned()]);
    let now = Clock::System.now();
    for hours in [72, 48, 2] {
        commit_at(&bench.store, now.minus(HOUR * hours), frames(3), full_effects());
    }
    commit_snapshot(&bench.store, Vec::new(), b"state");
    commit_at(&bench.store, now.minus(HOUR * 72), frames(3), Effects::default());
    assert_eq!(oldest(&bench.store), Some(1));
    bench.store.skip_age_rest();
    wait_for("the end of the old batches", || oldest(&bench.store), |oldest| *oldest == Some(3));
    let spell = wait_for("the spell", || bench.store.conditions().telemetry_dropped, Option::is_some).unwrap();
    assert_eq!(spell.rows, 2);
    assert_eq!(bench.metric("kerbside_store_dropped_total{class=\"telemetry\",reason=\"age\"}"), 2);
    // The young batch holds back nothing, and nothing younger goes; the last one is needed by a restart.
    let kept: Vec<u64> = bench.store.batches_after(0, 1_000_000).unwrap().iter().map(|batch| batch.sequence).collect();
    assert_eq!(kept, [3, 4, 5]);
    assert_eq!(bench.store.alarms_open().unwrap().len(), 1);
}

#[test]
fn what_was_sent_goes_uncounted_however_old_it_is() {
    let bench = Bench::with_config(|config| StoreConfig { batches_age_max: DAY, ..config });
    bench.store.register_sinks(&["influx".to_owned()]);
    bench.store.skip_age_rest();
    for _ in 0..3 {
        commit_at(&bench.store, Clock::System.now().minus(DAY * 3), frames(3), Effects::default());
    }
    bench.store.set_cursor("influx", 3).unwrap();
    for _ in 0..2 {
        let done = hand_over_at(&bench.store, Clock::System.now(), Vec::new(), Effects::default(), Some(b"state"));
        done.recv_timeout(DEADLINE).unwrap();
    }
    wait_for("the end of the old batches", || oldest(&bench.store), |oldest| oldest.is_none_or(|oldest| oldest > 3));
    assert_eq!(bench.store.stats().unwrap().dropped_batches, 0);
    assert_eq!(bench.store.conditions().telemetry_dropped, None);
}

#[test]
fn undecoded_frames_go_by_age() {
    let bench = Bench::with_config(|config| StoreConfig { undecoded_age_max: DAY, ..config });
    let now = Clock::System.now();
    for hours in [90, 30, 1] {
        let at = now.minus(HOUR * hours).as_millis();
        let heard = undecoded(&format!("x/{hours}"), UndecodedReason::Malformed, b"?", at);
        commit(&bench.store, frames(1), undecoded_effects(vec![heard]));
    }
    assert_eq!(bench.store.stats().unwrap().undecoded, 3);
    bench.store.skip_age_rest();
    wait_for("the end of the old frames", || bench.store.stats().unwrap().undecoded, |count| *count == 1);
    let rows = bench.store.undecoded(&UndecodedQuery::default()).unwrap().items;
    assert_eq!(rows[0].frame.address.as_str(), "x/1");
    assert_eq!(bench.store.conditions().undecoded_dropped.unwrap().rows, 2);
    assert_eq!(bench.metric("kerbside_store_dropped_total{class=\"undecoded\",reason=\"age\"}"), 2);
    assert_eq!(bench.metric("kerbside_store_undecoded_exceeded"), 1);
}

/// A store whose disk has 1 MB of reserve, with 20 batches of 8 kB and 20 undecoded frames of 1 kB.
fn filled_with_reserve() -> Bench {
    let bench = Bench::with_config(|config| StoreConfig { free_bytes_min: 1_000_000, ..config });
    bench.store.register_sinks(&["influx".to_owned()]);
    bench.store.pretend_free_bytes(Some(100 * MEBIBYTE));
    for seed in 0..20 {
        let frame = undecoded(&format!("x/{seed}"), UndecodedReason::Malformed, &noise(seed, 1_000), 1);
        commit(&bench.store, noisy_frame(seed, 8_000), Effects { undecoded: vec![frame], ..full_effects() });
    }
    commit_snapshot(&bench.store, Vec::new(), b"state");
    bench
}

#[test]
fn when_the_disk_is_short_of_room_batches_go_first_and_what_they_free_is_the_reserve() {
    let bench = filled_with_reserve();
    let before = bench.store.stats().unwrap();
    assert_eq!(bench.store.conditions(), StoreConditions::default());
    // What is missing is less than the batches take.
    bench.store.pretend_free_bytes(Some(1_000_000 - 60_000));
    let low = wait_for("the condition", || bench.store.conditions().disk_low, Option::is_some).unwrap();
    assert_eq!((low.free_bytes, low.free_bytes_min), (940_000, 1_000_000));
    assert_eq!(bench.metric("kerbside_store_disk_low"), 1);
    assert_eq!(bench.metric("kerbside_store_disk_free_bytes"), 940_000);
    let dropped = || bench.store.stats().unwrap().dropped_bytes;
    wait_for("enough room", dropped, |bytes| *bytes >= 40_000);
    // Free pages in the file count as room: it comes to rest.
    let after = bench.store.stats().unwrap();
    assert!(after.dropped_bytes < 100_000, "{after:?}");
    assert_eq!(after.undecoded, before.undecoded, "undecoded frames go after the batches");
    assert_eq!(
        bench.metric("kerbside_store_dropped_total{class=\"telemetry\",reason=\"disk\"}"),
        after.dropped_batches
    );
    let (state, detail) = bench.health();
    assert_eq!(state, HealthState::Degraded);
    assert!(detail.contains("the disk has 940000 of 1000000 bytes of reserve left since"), "{detail}");

    bench.store.pretend_free_bytes(Some(100 * MEBIBYTE));
    wait_for("the end", || bench.store.conditions(), |now| *now == StoreConditions::default());
    wait_for("the health", || bench.health().0, |state| *state == HealthState::Ok);
}

#[test]
fn when_that_is_not_enough_undecoded_frames_go_and_alarms_cases_outbox_and_audit_stay() {
    let bench = filled_with_reserve();
    let audit = bench.store.audit(&AuditQuery::default()).unwrap().items;
    bench.store.pretend_free_bytes(Some(0));
    wait_for("the sacrifice", || bench.store.stats().unwrap().undecoded, |count| *count == 0);
    let stats = bench.store.stats().unwrap();
    assert_eq!((stats.batches, stats.dropped_batches), (0, 21), "the snapshot is after all of them");
    assert!(stats.quota_exceeded);
    assert!(bench.store.conditions().undecoded_dropped.is_some());
    let effects = full_effects();
    assert_eq!(bench.store.alarms_open().unwrap(), effects.alarms);
    assert_eq!(bench.store.cases_open().unwrap(), effects.cases);
    assert_eq!(bench.store.outbox_open().unwrap(), effects.outbox);
    assert_eq!(bench.store.audit(&AuditQuery::default()).unwrap().items, audit);
    assert_eq!(bench.store.latest_snapshot().unwrap().unwrap().sequence, 21);
    // Commits go on meanwhile.
    let alarm = Effects { alarms: vec![alarm("A9", "MH-9", AlarmState::Active, 9)], ..Effects::default() };
    commit(&bench.store, frames(1), alarm);
    assert_eq!(bench.store.alarms_open().unwrap().len(), 2);
}

#[test]
fn a_full_disk_is_known_with_its_length_when_it_is_over() {
    let bench = Bench::new();
    commit(&bench.store, frames(1), Effects::default());
    assert_eq!(bench.store.conditions().last_outage, None);
    for number in 1..=2 {
        bench.store.limit_pages(40);
        let began = Clock::System.now();
        let waiting = hand_over(&bench.store, noisy_frame(number, 400_000), Effects::default(), None);
        wait_for("the refusal", || bench.metric("kerbside_store_refusing"), |refusing| *refusing == 1);
        bench.store.limit_pages(0);
        waiting.recv_timeout(DEADLINE).unwrap();
        let outage = bench.store.conditions().last_outage.unwrap();
        assert_eq!((outage.number, outage.reason), (number, OutageReason::Full));
        assert!(outage.since >= began && outage.lasted >= Duration::from_millis(100), "{outage:?}");
        assert_eq!(bench.metric("kerbside_store_refusing"), 0);
        // The second one needs more pages than the first one left free.
        bench.store.register_sinks(&["influx".to_owned()]);
    }
    assert!(bench.metric("kerbside_store_refused_seconds_total") >= 2);
}

#[test]
fn what_is_written_and_synced_is_counted_and_a_used_up_budget_is_said() {
    let bench = Bench::with_config(|config| StoreConfig { writes_per_day: Some(2_000_000), ..config });
    assert_eq!(bench.metric("kerbside_store_writes_per_day_bytes"), 2_000_000);
    for seed in 0..10 {
        commit(&bench.store, noisy_frame(seed, 20_000), Effects::default());
    }
    let synced = bench.metric("kerbside_store_syncs_total");
    assert!((10..30).contains(&synced), "{synced} syncs for 10 commits");
    let written = || bench.metric("kerbside_store_bytes_written_total");
    wait_for("the count", written, |bytes| *bytes >= 200_000);
    assert_eq!(bench.store.conditions().over_budget, None);
    for seed in 10..70 {
        commit(&bench.store, noisy_frame(seed, 40_000), Effects::default());
    }
    let over = wait_for("the condition", || bench.store.conditions().over_budget, Option::is_some).unwrap();
    assert_eq!(over.bytes_max, 2_000_000);
    assert!(over.bytes > 2_000_000 && over.bytes < 20_000_000, "{over:?}");
    assert!(bench.metric("kerbside_store_written_today_bytes") >= over.bytes);
    commit(&bench.store, frames(1), Effects::default());

    // The day's sum is not forgotten by a restart.
    let bench = bench.reopened_with(|config| StoreConfig { writes_per_day: Some(2_000_000), ..config });
    let again = wait_for("the condition", || bench.store.conditions().over_budget, Option::is_some).unwrap();
    assert!(again.bytes >= over.bytes, "{again:?} after {over:?}");
    assert_eq!(again.since, over.since);
    // Without a budget it does not stand.
    let bench = bench.reopened_with(|config| StoreConfig { writes_per_day: None, ..config });
    wait_for("a look", written_today(&bench), |bytes| *bytes > 2_000_000);
    assert_eq!(bench.store.conditions().over_budget, None);
}

fn written_today(bench: &Bench) -> impl FnMut() -> u64 {
    || bench.metric("kerbside_store_written_today_bytes")
}

// Properties -----------------------------------------------------------------------------------------------------------

/// Something that happens to a store.
#[derive(Clone, Debug)]
enum Happening {
    /// A batch with an alarm, a case, a row of the outbox and an audit line of its own, so many hours old.
    Commit {
        bytes: usize,
        hours: u32,
        undecoded: bool,
    },
    Snapshot,
    /// A sink got so many percent of what there is.
    Deliver {
        percent: u64,
    },
    /// The file system has so many bytes free now.
    Free(u64),
    HouseKeeping,
    Restart,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let commit = (0_usize..6_000, 0_u32..96, any::<bool>()).prop_map(|(bytes, hours, undecoded)| Happening::Commit {
        bytes,
        hours,
        undecoded,
    });
    prop_oneof![
        8 => commit,
        3 => Just(Happening::Snapshot),
        2 => (0_u64..=100).prop_map(|percent| Happening::Deliver { percent }),
        2 => prop_oneof![Just(0), Just(10_000), 0_u64..200_000, Just(1 << 40)].prop_map(Happening::Free),
        2 => Just(Happening::HouseKeeping),
        1 => Just(Happening::Restart),
    ]
}

/// What must be there.
#[derive(Debug, Default)]
struct Expected {
    last: u64,
    snapshot: u64,
    /// Batches with effects.
    effects: Vec<u64>,
}

fn numbered_effects(number: u64, undecoded_too: bool) -> Effects {
    let name = |prefix: &str| format!("{prefix}{number}");
    let heard = undecoded(&name("x/"), UndecodedReason::Malformed, &noise(number, 500), number as i64);
    Effects {
        undecoded: if undecoded_too { vec![heard] } else { Vec::new() },
        alarms: vec![alarm(&name("A"), "MH-1", AlarmState::Active, number as i64)],
        cases: vec![case(&name("KB-"), CaseState::Pending, true, number as i64)],
        case_events: vec![case_event(&name("KB-"), CaseState::Pending, "opened")],
        outbox: vec![outbox_row(&name("O"))],
        audit: vec![audit(&name("KB-"), "case_opened")],
        ..Effects::default()
    }
}

fn happen(bench: Bench, happening: &Happening, expected: &mut Expected, quotas: &StoreConfig) -> Bench {
    match happening {
        Happening::Commit { bytes, hours, undecoded } => {
            let number = expected.last + 1;
            let now = Clock::System.now().minus(HOUR * *hours);
            commit_at(&bench.store, now, noisy_frame(number, *bytes), numbered_effects(number, *undecoded));
            expected.last = number;
            expected.effects.push(number);
        }
        Happening::Snapshot => {
            let committed = commit_snapshot(&bench.store, Vec::new(), b"state");
            (expected.last, expected.snapshot) = (committed.sequence, committed.sequence);
        }
        Happening::Deliver { percent } => {
            let cursor = expected.last * percent / 100;
            bench.store.set_cursor("influx", cursor.max(bench.store.cursor("influx").unwrap())).unwrap();
        }
        Happening::Free(bytes) => bench.store.pretend_free_bytes(Some(*bytes)),
        Happening::HouseKeeping => {
            let looks = bench.metric("kerbside_store_disk_free_bytes");
            bench.store.pretend_free_bytes(Some(looks.saturating_add(1)));
            let looked = || bench.metric("kerbside_store_disk_free_bytes");
            wait_for("a look", looked, |now| *now == looks.saturating_add(1));
        }
        Happening::Restart => {
            let bench = bench.reopened_with(|_| quotas.clone());
            bench.store.register_sinks(&["influx".to_owned()]);
            bench.store.skip_age_rest();
            return bench;
        }
    }
    bench
}

fn check_nothing_of_worth_is_gone(store: &Store, expected: &Expected) {
    let kept: Vec<u64> =
        store.batches_after(expected.snapshot, 10_000_000).unwrap().iter().map(|batch| batch.sequence).collect();
    let needed: Vec<u64> = (expected.snapshot + 1..=expected.last).collect();
    assert_eq!(kept, needed, "every batch after the snapshot {} is needed by a restart", expected.snapshot);
    assert_eq!(store.last_sequence().unwrap(), expected.last);
    let ids = |prefix: &str| expected.effects.iter().map(|number| format!("{prefix}{number}")).collect::<Vec<_>>();
    let mut alarms: Vec<Alarm> = store.alarms_open().unwrap();
    alarms.sort_by_key(|alarm| alarm.opened_at);
    assert_eq!(alarms.into_iter().map(|alarm| alarm.id).collect::<Vec<_>>(), ids("A"));
    assert_eq!(store.cases_open().unwrap().into_iter().map(|case| case.id).collect::<Vec<_>>(), ids("KB-"));
    for id in ids("KB-") {
        assert_eq!(store.case(&id).unwrap().unwrap().1.len(), 1, "the history of {id}");
    }
    assert_eq!(store.outbox_open().unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>(), ids("O"));
    let mut subjects = Vec::new();
    let mut query = AuditQuery { limit: 50, ..AuditQuery::default() };
    loop {
        let page = store.audit(&query).unwrap();
        subjects.extend(page.items.into_iter().map(|line| line.subject));
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
    }
    subjects.reverse();
    assert_eq!(subjects, ids("KB-"));
}

/// The sums that quotas are measured against are those of the rows.
fn check_sums(bench: &Bench) {
    let reader = schema::open_reader(&bench.folder.path().join("kerbside.db")).unwrap();
    let sums = |table: &str| {
        let query = format!("SELECT count(*), coalesce(sum(bytes), 0) FROM {table}");
        reader.query_row(&query, [], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))).unwrap()
    };
    // House-keeping may have a transaction between the two looks.
    wait_for(
        "sums that agree",
        || {
            let stats = bench.store.stats().unwrap();
            (
                (stats.batches, stats.batches_bytes, stats.undecoded, stats.undecoded_bytes),
                sums("batches"),
                sums("undecoded"),
            )
        },
        |((batches, bytes, frames, frame_bytes), batch_sums, frame_sums)| {
            (*batches, *bytes) == *batch_sums && (*frames, *frame_bytes) == *frame_sums
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_quota_takes_what_a_restart_needs_or_an_alarm_a_case_a_message_or_an_audit_line(
        happenings in proptest::collection::vec(any_happening(), 1..40),
        batches_bytes_max in 5_000_u64..60_000,
        undecoded_bytes_max in 500_u64..20_000,
        age_hours in 1_u32..72,
    ) {
        let quotas = |config: StoreConfig| StoreConfig {
            batches_bytes_max,
            undecoded_bytes_max,
            batches_age_max: HOUR * age_hours,
            undecoded_age_max: HOUR * age_hours,
            free_bytes_min: 100_000,
            ..config
        };
        let mut bench = Bench::with_config(quotas);
        let config = quotas(config(bench.folder.path()));
        bench.store.register_sinks(&["influx".to_owned()]);
        bench.store.skip_age_rest();
        let mut expected = Expected::default();
        for happening in &happenings {
            bench = happen(bench, happening, &mut expected, &config);
            check_nothing_of_worth_is_gone(&bench.store, &expected);
        }
        check_sums(&bench);
        bench = happen(bench, &Happening::Restart, &mut expected, &config);
        check_nothing_of_worth_is_gone(&bench.store, &expected);
        check_sums(&bench);
    }
}
