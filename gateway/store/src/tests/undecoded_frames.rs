//! Frames that gave no readings, and addresses that no device has.

use std::sync::Arc;

use kerbside_model::{Tag, Tags};

use super::*;

#[test]
fn a_babbling_device_cannot_push_out_the_others() {
    let bench = Bench::new();
    commit(&bench.store, frames(1), undecoded_effects(vec![undecoded("quiet", UndecodedReason::Malformed, b"!", 1)]));
    for round in 0..3 {
        let babble = (0..150).map(|at| undecoded("loud", UndecodedReason::Malformed, b"?", round * 1000 + at));
        commit(&bench.store, frames(1), undecoded_effects(babble.collect()));
    }
    let query = UndecodedQuery { limit: 1000, ..UndecodedQuery::default() };
    let rows = bench.store.undecoded(&query).unwrap().items;
    assert_eq!(rows.len(), 101);
    assert_eq!(rows[0].frame.received_at, Timestamp(2149), "the newest are kept");
    assert_eq!(rows[100].frame.address.as_str(), "quiet");
    let stats = bench.store.stats().unwrap();
    assert_eq!((stats.undecoded, stats.dropped_undecoded), (101, 350));
    assert_eq!(bench.metric("kerbside_store_undecoded"), 101);
    let labels = "{class=\"undecoded\",reason=\"address\"}";
    assert_eq!(bench.metric(&format!("kerbside_store_dropped_total{labels}")), 350);
    assert!(bench.metric(&format!("kerbside_store_dropped_bytes_total{labels}")) > 350);
    assert_eq!(
        bench.store.conditions().undecoded_dropped,
        None,
        "the newest hundred of an address are evidence enough"
    );
    let address = Some("quiet".to_owned());
    assert_eq!(bench.store.undecoded(&UndecodedQuery { address, ..UndecodedQuery::default() }).unwrap().items.len(), 1);
    assert!(bench.store.unknown_devices(&PageQuery::default()).unwrap().items.is_empty());
    let bench = bench.reopened();
    assert_eq!(bench.store.stats().unwrap().undecoded, 101);
}

#[test]
fn undecoded_frames_stay_below_their_bytes() {
    let bench = Bench::with_quota(MEBIBYTE, 20_000);
    for number in 0..40 {
        let address = format!("device/{number}");
        commit(
            &bench.store,
            frames(1),
            undecoded_effects(vec![undecoded(&address, UndecodedReason::Malformed, &noise(number, 1000), 1)]),
        );
    }
    let stats = bench.store.stats().unwrap();
    assert!(stats.undecoded_bytes <= 20_000, "{stats:?}");
    assert!(stats.undecoded >= 15 && stats.undecoded + stats.dropped_undecoded == 40, "{stats:?}");
    let rows = bench.store.undecoded(&UndecodedQuery { limit: 1, ..UndecodedQuery::default() }).unwrap().items;
    assert_eq!(rows[0].frame.address.as_str(), "device/39", "the oldest go first");
    let spell = bench.store.conditions().undecoded_dropped.unwrap();
    assert_eq!(spell.rows, stats.dropped_undecoded);
    let labels = "{class=\"undecoded\",reason=\"bytes\"}";
    assert_eq!(bench.metric(&format!("kerbside_store_dropped_total{labels}")), spell.rows);
    let bench = bench.reopened_with(|config| StoreConfig { undecoded_bytes_max: 20_000, ..config });
    assert_eq!(bench.store.conditions().undecoded_dropped, Some(spell), "a restart does not end it");
}

#[test]
fn unknown_addresses_are_counted_up_and_listed_by_the_last_heard() {
    let bench = Bench::new();
    let heard =
        |address: &str, at: i64| undecoded(address, UndecodedReason::UnknownDevice, format!("at {at}").as_bytes(), at);
    commit(&bench.store, frames(1), undecoded_effects(vec![heard("x/1", 10), heard("x/2", 20), heard("x/1", 30)]));
    let long = undecoded("x/3", UndecodedReason::UnknownDevice, &noise(1, 9_000), 40);
    commit(&bench.store, frames(1), undecoded_effects(vec![heard("x/2", 50), long]));
    let mut query = PageQuery { limit: 1, cursor: None };
    let mut seen = Vec::new();
    loop {
        let page = bench.store.unknown_devices(&query).unwrap();
        seen.extend(page.items);
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
    }
    let facts: Vec<_> = seen
        .iter()
        .map(|device| {
            (device.address.as_str(), device.first_seen.0, device.last_seen.0, device.frames, device.payload.len())
        })
        .collect();
    assert_eq!(facts, [("x/2", 20, 50, 2, 5), ("x/3", 40, 40, 1, 1024), ("x/1", 10, 30, 2, 5)]);
    assert_eq!(bench.store.stats().unwrap().unknown_devices, 3);
}

#[test]
fn the_list_of_unknown_addresses_has_an_end() {
    let bench = Bench::with_quota(64 * MEBIBYTE, 100);
    let most = usize::try_from(undecoded::UNKNOWN_DEVICES_MAX).unwrap();
    let storm = |range: std::ops::Range<usize>| {
        let heard =
            |number: usize| undecoded(&format!("x/{number}"), UndecodedReason::UnknownDevice, b"", number as i64);
        undecoded_effects(range.map(heard).collect())
    };
    commit(&bench.store, frames(1), storm(0..most));
    commit(&bench.store, frames(1), storm(most..most + 5));
    let stats = bench.store.stats().unwrap();
    assert_eq!(stats.unknown_devices, undecoded::UNKNOWN_DEVICES_MAX);
    let bench = bench.reopened();
    assert_eq!(bench.store.stats().unwrap().unknown_devices, undecoded::UNKNOWN_DEVICES_MAX);
    let page = bench.store.unknown_devices(&PageQuery { limit: 1, cursor: None }).unwrap();
    assert_eq!(page.items[0].address, format!("x/{}", most + 4));
}

#[test]
fn frames_that_are_readable_now_leave_the_list_and_the_others_have_todays_reason() {
    let bench = Bench::new();
    let came = [
        ("x/1", UndecodedReason::UnknownDevice),
        ("x/2", UndecodedReason::UnknownDevice),
        ("x/3", UndecodedReason::Malformed),
    ];
    let kept = came.map(|(address, reason)| undecoded(address, reason, b"{}", 7)).to_vec();
    commit(&bench.store, frames(1), undecoded_effects(kept));
    let settled = |row: u64, address: &str, refused: Option<(UndecodedReason, &str)>| ReadAgain {
        row,
        source: Arc::from("mqtt"),
        address: address.to_owned(),
        device: Some(format!("device of {address}")),
        refused: refused.map(|(reason, detail)| (reason, detail.to_owned())),
    };
    let read_again = vec![
        settled(1, "x/1", None),
        settled(2, "x/2", Some((UndecodedReason::NoPoints, "none of the points"))),
        settled(99, "x/9", None),
    ];
    commit(&bench.store, frames(1), Effects { read_again, ..Effects::default() });
    let check = |store: &Store| {
        let rows = store.undecoded(&UndecodedQuery::default()).unwrap().items;
        let facts: Vec<_> = rows
            .iter()
            .map(|row| (row.number, row.reason.as_str(), row.detail.as_str(), row.device.as_deref()))
            .collect();
        let [third, second] = facts[..] else { panic!("{facts:?}") };
        assert_eq!(second, (2, "no_points", "none of the points", Some("device of x/2")));
        assert_eq!((third.0, third.1), (3, "malformed"));
        assert_eq!(store.undecoded_frame(1).unwrap(), None);
        assert_eq!(store.undecoded_frame(3).unwrap().map(|row| row.number), Some(3));
        let stats = store.stats().unwrap();
        assert_eq!((stats.undecoded, stats.unknown_devices, stats.dropped_undecoded), (2, 0, 0));
        let since = |since| UndecodedQuery { since: Some(Timestamp(since)), ..UndecodedQuery::default() };
        assert_eq!(store.undecoded(&since(7)).unwrap().items.len(), 2);
        assert_eq!(store.undecoded(&since(8)).unwrap().items.len(), 0);
        stats.undecoded_bytes
    };
    let bytes = check(&bench.store);
    let bench = bench.reopened();
    assert_eq!(check(&bench.store), bytes);
}

#[test]
fn the_user_properties_of_an_undecoded_frame_come_back_with_it() {
    let bench = Bench::new();
    let tags: Tags = Arc::from([Tag { name: "operator".into(), value: "北区".into() }]);
    let plain = undecoded("a/1", UndecodedReason::Malformed, b"!", 1);
    let tagged = Undecoded { tags: Some(Arc::clone(&tags)), ..undecoded("a/2", UndecodedReason::Malformed, b"", 2) };
    commit(&bench.store, frames(1), undecoded_effects(vec![plain, tagged]));
    let bench = bench.reopened();
    let rows = bench.store.undecoded(&UndecodedQuery::default()).unwrap().items;
    let seen: Vec<(&str, Option<&Tags>)> =
        rows.iter().map(|row| (row.frame.address.as_str(), row.view().tags)).collect();
    assert_eq!(seen, [("a/2", Some(&tags)), ("a/1", None)]);
}
