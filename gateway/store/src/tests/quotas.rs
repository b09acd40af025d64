//! What may go and what never goes.

use super::*;

#[test]
fn batches_go_when_every_sink_and_the_snapshots_have_passed_them() {
    let bench = Bench::new();
    bench.store.register_sinks(&["a".to_owned(), "b".to_owned()]);
    for body in [b"1", b"2", b"3"] {
        commit(&bench.store, frames(1), Effects::default());
        commit_snapshot(&bench.store, frames(1), body);
    }
    let oldest = || bench.store.batches_after(0, 1).unwrap().first().map(|batch| batch.sequence);
    bench.store.set_cursor("a", 6).unwrap();
    bench.store.set_cursor("b", 3).unwrap();
    wait_for("the deletion of what both sinks have", oldest, |oldest| *oldest == Some(4));
    bench.store.set_cursor("b", 6).unwrap();
    wait_for("the deletion up to the older snapshot", oldest, |oldest| *oldest == Some(5));
    assert_eq!(bench.store.stats().unwrap().batches, 2);
    assert_eq!(bench.metric("kerbside_store_dropped_batches_total"), 0);
    let bench = bench.reopened();
    assert_eq!(bench.store.cursor("a").unwrap(), 6);
    assert_eq!(bench.store.cursor("b").unwrap(), 6);
    assert_eq!(bench.store.cursor("c").unwrap(), 0);
    assert_eq!(bench.store.last_sequence().unwrap(), 6);
}

#[test]
fn a_cursor_reaches_the_disk_while_nothing_is_committed() {
    let bench = Bench::new();
    bench.store.set_cursor("influx", 12).unwrap();
    assert_eq!(bench.store.cursor("influx").unwrap(), 12);
    let other = schema::open_reader(&bench.folder.path().join("kerbside.db")).unwrap();
    let query = "SELECT sum(sequence) FROM cursors WHERE sink = 'influx'";
    let on_disk = || other.query_row(query, [], |row| row.get::<_, Option<u64>>(0)).unwrap();
    wait_for("the cursor on the disk", on_disk, |cursor| *cursor == Some(12));
    assert_eq!(bench.metric("kerbside_store_commits_total"), 0);
}

#[test]
fn under_load_a_cursor_reaches_the_disk_with_a_commit_now_and_then() {
    let bench = Bench::new();
    let other = schema::open_reader(&bench.folder.path().join("kerbside.db")).unwrap();
    let query = "SELECT sequence FROM cursors WHERE sink = 'influx'";
    let mut cursors = Vec::new();
    let on_disk = || {
        let sequence = commit(&bench.store, frames(1), Effects::default()).sequence;
        bench.store.set_cursor("influx", sequence).unwrap();
        cursors.extend(other.query_row(query, [], |row| row.get::<_, u64>(0)).ok());
        cursors.dedup();
        cursors.len()
    };
    wait_for("the cursor on the disk, again and again", on_disk, |count| *count >= 4);
    let commits = bench.store.last_sequence().unwrap();
    assert!(commits > 4, "{commits} commits wrote the cursors {cursors:?}");
    assert!(cursors.is_sorted());
}

#[test]
fn numbers_go_on_upwards_when_every_batch_is_gone() {
    let bench = Bench::new();
    bench.store.register_sinks(&[]);
    commit_snapshot(&bench.store, frames(1), b"1");
    let batches = || bench.store.stats().unwrap().batches;
    wait_for("an empty backlog", batches, |batches| *batches == 0);
    let bench = bench.reopened();
    assert_eq!(bench.store.last_sequence().unwrap(), 1);
    assert_eq!(commit(&bench.store, frames(1), Effects::default()).sequence, 2);
}

#[test]
fn over_the_quota_the_oldest_go_counted_and_reported_and_the_end_is_reported_too() {
    let bench = Bench::with_quota(100_000, MEBIBYTE);
    bench.store.register_sinks(&["influx".to_owned()]);
    let mut began = Vec::new();
    for seed in 0..30 {
        let committed = commit_snapshot(&bench.store, noisy_frame(seed, 8_000), b"state");
        let stats = bench.store.stats().unwrap();
        assert!(stats.batches_bytes <= 100_000, "{stats:?}");
        if stats.quota_exceeded && began.is_empty() {
            began.push((committed.sequence, stats.dropped_batches, bench.store.conditions().telemetry_dropped));
        }
    }
    let [(13, 1, Some(spell))] = began.as_slice() else { panic!("dropping begins with batch 13: {began:?}") };
    assert_eq!(spell.rows, 1);
    assert!(spell.since > Timestamp(1_790_000_000_000), "{spell:?} has the time of the clock");
    let stats = bench.store.stats().unwrap();
    assert!(stats.quota_exceeded);
    assert_eq!(stats.dropped_batches + stats.batches, 30);
    assert_eq!(bench.metric("kerbside_store_dropped_batches_total"), stats.dropped_batches);
    let labels = "{class=\"telemetry\",reason=\"bytes\"}";
    assert_eq!(bench.metric(&format!("kerbside_store_dropped_total{labels}")), stats.dropped_batches);
    assert_eq!(bench.metric(&format!("kerbside_store_dropped_bytes_total{labels}")), stats.dropped_bytes);
    assert_eq!(bench.metric("kerbside_store_quota_exceeded"), 1);
    let first_kept = bench.store.batches_after(0, 1).unwrap()[0].sequence;
    assert_eq!(first_kept, stats.dropped_batches + 1, "the oldest went");

    // The sink comes back: the spell ends, once, with its whole cost.
    bench.store.set_cursor("influx", 30).unwrap();
    wait_for("the snapshots after it", || commit_snapshot(&bench.store, noisy_frame(99, 100), b"state"), |_| true);
    let (state, detail) = bench.health();
    assert_eq!(state, HealthState::Degraded);
    assert!(detail.contains("batches") && detail.contains("of unsent telemetry were dropped since"), "{detail}");
    // Without any commit: house-keeping ends it.
    let standing = || bench.store.conditions().telemetry_dropped;
    wait_for("the end of the spell", standing, Option::is_none);
    wait_for("the health", || bench.health().0, |state| *state == HealthState::Ok);
    assert!(!bench.store.stats().unwrap().quota_exceeded);
    assert_eq!(bench.metric("kerbside_store_quota_exceeded"), 0);
}

#[test]
fn a_spell_over_the_quota_is_remembered_over_a_restart() {
    let bench = Bench::with_quota(50_000, MEBIBYTE);
    bench.store.register_sinks(&["influx".to_owned()]);
    for seed in 0..8 {
        commit_snapshot(&bench.store, noisy_frame(seed, 8_000), b"state");
    }
    let before = bench.store.stats().unwrap();
    assert!(before.quota_exceeded && before.dropped_batches > 0);
    let since = bench.store.conditions().telemetry_dropped.unwrap().since;
    let bench = bench.reopened_with(|config| StoreConfig { batches_bytes_max: 50_000, ..config });
    bench.store.register_sinks(&["influx".to_owned()]);
    let after = bench.store.stats().unwrap();
    assert!(after.quota_exceeded);
    assert_eq!((after.dropped_batches, after.dropped_bytes), (before.dropped_batches, before.dropped_bytes));
    let spell = bench.store.conditions().telemetry_dropped.unwrap();
    assert_eq!((spell.rows, spell.bytes), (before.dropped_batches, before.dropped_bytes));
    assert_eq!(spell.since, since);
    commit(&bench.store, frames(1), Effects::default());
    assert_eq!(bench.store.conditions().telemetry_dropped, Some(spell), "the quota is still full");
    // With a larger quota than what is kept, it is over.
    let bench = bench.reopened();
    wait_for("the end of the spell", || bench.store.conditions().telemetry_dropped, Option::is_none);
    assert!(!bench.store.stats().unwrap().quota_exceeded);
}

#[test]
fn batches_that_a_restart_needs_are_never_dropped() {
    let bench = Bench::with_quota(50_000, MEBIBYTE);
    bench.store.register_sinks(&["influx".to_owned()]);
    let mut wants = Vec::new();
    for seed in 0..12 {
        wants.push(commit(&bench.store, noisy_frame(seed, 8_000), Effects::default()).wants_snapshot);
    }
    let stats = bench.store.stats().unwrap();
    assert_eq!((stats.batches, stats.dropped_batches), (12, 0), "without a snapshot everything is needed");
    assert_eq!(wants[..3], [false, true, true], "a snapshot is asked for after a quarter of the quota");
    let committed = commit_snapshot(&bench.store, noisy_frame(50, 8_000), b"state");
    assert!(!committed.wants_snapshot);
    assert!(bench.store.stats().unwrap().quota_exceeded);
    commit(&bench.store, noisy_frame(51, 8_000), Effects::default());
    let kept: Vec<u64> =
        bench.store.batches_after(13, 10_000_000).unwrap().iter().map(|batch| batch.sequence).collect();
    assert_eq!(kept, [14], "what came after the snapshot is there");
    assert_eq!(bench.store.latest_snapshot().unwrap().unwrap().sequence, 13);
}

#[test]
fn sums_are_right_after_a_restart_in_the_middle() {
    let bench = Bench::new();
    commit(&bench.store, frames(4), undecoded_effects(vec![undecoded("x", UndecodedReason::Malformed, b"1", 1)]));
    commit_snapshot(&bench.store, frames(3), b"1");
    for count in 1..5 {
        commit(&bench.store, frames(count), Effects::default());
    }
    let before = bench.store.0.common.totals().clone();
    let bench = bench.reopened();
    assert_eq!(*bench.store.0.common.totals(), before);
}
