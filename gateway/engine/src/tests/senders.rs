//! Who a frame is from, whether it came before, and what becomes of a device that sends too much.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::{Condition, JsonPath, Profile};
use kerbside_model::site::{AddressRule, FrameLimits, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::vocabulary::{BABBLING, Kind};
use kerbside_model::{
    DuplicateReason, Effects, FrameFlags, Frames, Input, ServiceState, Suppression, Timestamp, UndecodedReason,
};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

fn rule(source: &str, template: &str, claim: Option<&str>) -> SourceRule {
    let kinds = vec![("manhole".to_owned(), Kind::ManholeCover)];
    SourceRule {
        source: Arc::from(source),
        address: AddressRule::Topic(TopicRule::parse(template, kinds).unwrap()),
        claim: claim.map(|path| JsonPath::parse(path).unwrap()),
        envelopes: Vec::new(),
    }
}

fn babbling_profile() -> Profile {
    let mut profile = profile();
    profile.conditions.push(Condition { opens_case: false, ..condition(BABBLING) });
    profile
}

/// The street, heard by two sources on topics that name district and kind.
pub(super) fn two_ways() -> SiteFacts {
    let template = "{district}/{kind}/{device}";
    SiteFacts {
        profiles: vec![Arc::new(babbling_profile())],
        sources: vec![rule("city", template, None), rule("bridge", template, None)],
        ..facts()
    }
}

fn message(source: &str, topic: &str, received_at: Timestamp, payload: &str, redelivered: bool) -> Input {
    let mut frames = Frames::new(Arc::from(source), received_at);
    frames.push(topic, payload.as_bytes(), FrameFlags { retained: false, redelivered }, None);
    Input::Frames(frames)
}

/// One message of MH-1.
fn says(engine: &mut Engine, source: &str, seconds: i64, payload: &str, redelivered: bool) -> Effects {
    engine.step(at(seconds), &[message(source, "d01/manhole/MH-1", at(seconds), payload, redelivered)])
}

fn repeats(effects: &Effects, reason: DuplicateReason) -> u64 {
    effects.counts.frames_duplicate[reason as usize]
}

fn restarted(engine: &Engine) -> Engine {
    Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap()
}

const OPEN: &str = r#"{"cover_open":true}"#;
const CLOSED: &str = r#"{"cover_open":false}"#;

// === who a frame is from

#[test]
fn a_topic_that_names_another_kind_is_refused_kept_and_no_sign_of_life() {
    let mut engine = engine(two_ways());
    let input = message("city", "d01/pole/MH-1", at(10), OPEN, false);
    let effects = engine.step(at(10), &[input]);
    assert_eq!((alarms(&effects), effects.observations.len()), (Vec::new(), 0));
    let undecoded = &effects.undecoded[0];
    assert_eq!((undecoded.reason, undecoded.device.as_deref()), (UndecodedReason::WrongKind, Some("MH-1")));
    assert_eq!(undecoded.detail, "the topic says pole and MH-1 is of the kind manhole_cover");
    assert_eq!(effects.counts.frames_undecoded[UndecodedReason::WrongKind as usize], 1);
    assert_eq!(alarms(&tick(&mut engine, 1_800)), ["silent:active"]);
}

#[test]
fn a_payload_that_claims_another_device_is_refused_and_never_taken_as_the_topic_s_device() {
    let mut engine = engine(SiteFacts { sources: vec![rule("city", "+/+/{device}", Some("id"))], ..facts() });
    let forged = says(&mut engine, "city", 10, r#"{"id":"MH-2","cover_open":true}"#, false);
    assert_eq!(forged.counts.frames_undecoded[UndecodedReason::WrongClaim as usize], 1);
    assert_eq!((alarms(&forged), forged.observations.len()), (Vec::new(), 0));
    let kept = &forged.undecoded[0];
    assert_eq!((kept.device.as_deref(), kept.reason.name()), (Some("MH-1"), "wrong_claim"));
    assert_eq!(kept.detail, r#"id says "MH-2" and the topic is of MH-1"#);
    assert_eq!(kept.frame.payload.len(), 31, "the frame is kept as it came");
    let honest = says(&mut engine, "city", 20, r#"{"id":"MH-1","cover_open":true}"#, false);
    assert_eq!(alarms(&honest), ["displaced:active"]);
    assert_eq!(alarms(&says(&mut engine, "city", 30, CLOSED, false)), ["displaced:cleared"], "it claims nothing");
}

#[test]
fn a_stranger_is_kept_under_the_address_that_the_inventory_must_have() {
    let mut facts = two_ways();
    let mut engine = engine(facts.clone());
    let input = message("city", "d07/manhole/MH-1x/", at(10), OPEN, false);
    let effects = engine.step(at(10), std::slice::from_ref(&input));
    let kept = &effects.undecoded[0];
    assert_eq!((kept.reason, kept.address.as_str()), (UndecodedReason::UnknownDevice, "d07/MH-1x"));
    // Once it is in the inventory under this address, the kept frame is one of its own.
    facts
        .devices
        .push(kerbside_model::Device { address: kept.address.clone(), ..device("N", ServiceState::InService) });
    let site = Arc::new(kerbside_model::Site::new(facts));
    engine.step(at(20), &[Input::Site(site)]);
    let taken = engine.step(at(30), &[Input::Frame(kept.frame.clone())]);
    assert_eq!(taken.alarms[0].device, "N");
}

// === frames that come twice

#[test]
fn a_frame_that_is_sent_again_after_a_crash_is_known() {
    let mut engine = engine(two_ways());
    let effects = says(&mut engine, "city", 10, OPEN, false);
    assert_eq!(alarms(&effects), ["displaced:active"]);
    let mut engine = restarted(&engine);
    let again = says(&mut engine, "city", 14, OPEN, true);
    assert_eq!((repeats(&again, DuplicateReason::Redelivered), again.observations.len()), (1, 0));
    assert_eq!(again.counts.observations_late, 0);
    assert_eq!(repeats(&says(&mut engine, "city", 60, OPEN, true), DuplicateReason::Redelivered), 0, "too late");
}

#[test]
fn a_frame_that_comes_twice_counts_once_and_shows_that_the_device_lives() {
    let mut engine = engine(two_ways());
    says(&mut engine, "city", 10, r#"{"tilt_deg":40}"#, false);
    let again = says(&mut engine, "bridge", 12, r#"{"tilt_deg":40}"#, false);
    assert_eq!((alarms(&again), repeats(&again, DuplicateReason::OtherPath)), (Vec::new(), 1));
    let next = says(&mut engine, "city", 20, r#"{"tilt_deg":40}"#, false);
    assert_eq!(alarms(&next), ["displaced:active"], "the device said it again itself");
    assert_eq!(repeats(&says(&mut engine, "bridge", 21, r#"{"tilt_deg":40}"#, false), DuplicateReason::OtherPath), 1);
    assert!(!alarms(&tick(&mut engine, 1_820)).contains(&"silent:active".to_owned()));
    assert_eq!(alarms(&tick(&mut engine, 1_821)), ["silent:active"], "counted from the repeat");
}

#[test]
fn a_cover_that_opens_again_is_seen_whatever_the_broker_says() {
    let mut engine = engine(two_ways());
    assert_eq!(alarms(&says(&mut engine, "city", 10, OPEN, false)), ["displaced:active"]);
    assert_eq!(alarms(&says(&mut engine, "city", 12, CLOSED, false)), ["displaced:cleared"]);
    assert_eq!(alarms(&says(&mut engine, "city", 14, OPEN, true)), ["displaced:active"]);
    assert_eq!(alarms(&says(&mut engine, "city", 16, CLOSED, true)), ["displaced:cleared"]);
    assert_eq!(alarms(&says(&mut engine, "bridge", 18, OPEN, false)), ["displaced:active"]);
}

#[test]
fn the_same_payload_on_one_way_is_a_reading_each_time() {
    let mut engine = engine(two_ways());
    for second in 1..20 {
        assert_eq!(says(&mut engine, "city", second, CLOSED, false).observations.len(), 1);
    }
}

#[test]
fn a_run_with_times_that_is_sent_again_is_no_late_data() {
    let mut engine = engine(two_ways());
    let payload = |second: i64| format!(r#"{{"level_mm":{second},"ts":{}}}"#, at(second).0);
    for second in 1..4 {
        says(&mut engine, "city", second, &payload(second), false);
    }
    for second in 1..4 {
        let again = says(&mut engine, "city", 10 + second, &payload(second), true);
        assert_eq!((again.observations.len(), again.counts.observations_late), (0, 0));
        assert_eq!(repeats(&again, DuplicateReason::Redelivered), 1);
    }
    let later = says(&mut engine, "city", 600, &payload(3), false);
    assert_eq!(repeats(&later, DuplicateReason::Repeated), 1, "the device's last frame is known");
    let much_later = says(&mut engine, "city", 3_600, &payload(3), false);
    assert_eq!((repeats(&much_later, DuplicateReason::Repeated), much_later.counts.observations_late), (0, 1));
}

#[test]
fn a_device_whose_clock_stands_still_is_heard_although_it_says_the_same() {
    let mut engine = engine(two_ways());
    let open = format!(r#"{{"cover_open":true,"ts":{}}}"#, at(0).0);
    let raised: Vec<String> =
        (2..10).flat_map(|frame| alarms(&says(&mut engine, "city", frame * 600, &open, false))).collect();
    assert_eq!(raised, ["displaced:active"], "its first frame looks like history, and the later ones are the same");
    let silent: Vec<String> = alarms(&tick(&mut engine, 20_000));
    assert!(silent.contains(&"silent:active".to_owned()), "{silent:?}");
    let heard = alarms(&says(&mut engine, "city", 20_100, &open, false));
    assert!(heard.contains(&"silent:cleared".to_owned()), "{heard:?}");
}

#[test]
fn a_device_whose_clock_stands_still_does_not_babble() {
    let mut engine = engine(tight());
    for frame in 1..40 {
        let payload = format!(r#"{{"level_mm":{frame},"ts":{}}}"#, at(0).0);
        let effects = says(&mut engine, "city", frame * 60, &payload, false);
        assert_eq!((effects.counts.frames_thinned, alarms(&effects)), (0, Vec::new()), "frame {frame}");
    }
}

#[test]
fn without_a_window_every_frame_without_a_time_is_new() {
    let limits = FrameLimits { duplicate_window: Duration::ZERO, ..FrameLimits::default() };
    let mut engine = engine(SiteFacts { limits, ..two_ways() });
    says(&mut engine, "city", 10, CLOSED, false);
    assert_eq!(says(&mut engine, "city", 11, CLOSED, true).observations.len(), 1);
}

// === devices that send too much

fn tight() -> SiteFacts {
    let limits = FrameLimits { device_frames_per_second: 2, device_burst: 10, ..FrameLimits::default() };
    SiteFacts { limits, ..two_ways() }
}

/// Many messages of one device at once.
fn burst(engine: &mut Engine, seconds: i64, payloads: impl Iterator<Item = String>) -> Effects {
    let mut frames = Frames::new(Arc::from("city"), at(seconds));
    payloads.for_each(|payload| frames.push("d01/manhole/MH-1", payload.as_bytes(), FrameFlags::default(), None));
    engine.step(at(seconds), &[Input::Frames(frames)])
}

/// Readings that no detector minds.
fn tilts(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!(r#"{{"tilt_deg":{}}}"#, number % 4))
}

#[test]
fn a_device_that_babbles_is_thinned_and_noticed_and_its_neighbour_is_not() {
    let mut engine = engine(tight());
    let effects = burst(&mut engine, 10, tilts(100));
    assert_eq!((effects.observations.len(), effects.counts.frames_thinned), (10, 90));
    assert_eq!((alarms(&effects), effects.cases.len()), (vec!["babbling:active".to_owned()], 0));
    let alarm = &effects.alarms[0];
    assert_eq!((alarm.severity.name(), alarm.suppressed), ("notice", Some(Suppression::NoCase)));
    assert!(alarm.explanation.contains("2 frames a second") && alarm.explanation_zh.contains("抽稀"), "{alarm:?}");
    let neighbour = engine.step(at(10), &[message("city", "d01/manhole/MH-2", at(10), CLOSED, false)]);
    assert_eq!((neighbour.observations.len(), neighbour.counts.frames_thinned), (1, 0));
    assert_eq!(burst(&mut engine, 11, tilts(100)).observations.len(), 2, "and so on at the sustained rate");
}

#[test]
fn a_babbling_device_raises_its_alarm_at_once_and_the_reading_that_did_it_is_sent() {
    let mut engine = engine(tight());
    let noise = tilts(200).chain([OPEN.to_owned()]).chain(tilts(200));
    let effects = burst(&mut engine, 10, noise);
    assert!(alarms(&effects).contains(&"displaced:active".to_owned()), "{:?}", alarms(&effects));
    assert_eq!(effects.counts.cases_opened, 1);
    assert_eq!(effects.observations.len(), 11);
}

#[test]
fn a_device_is_calm_again_a_minute_after_the_last_thinned_frame_also_after_a_restart() {
    let mut engine = engine(tight());
    burst(&mut engine, 10, tilts(100));
    burst(&mut engine, 30, tilts(100));
    let mut engine = restarted(&engine);
    assert_eq!(alarms(&tick(&mut engine, 89)), Vec::<String>::new());
    assert_eq!(alarms(&tick(&mut engine, 90)), ["babbling:cleared"]);
    assert_eq!(alarms(&burst(&mut engine, 100, tilts(100))), ["babbling:active"]);
}

#[test]
fn a_babble_that_was_taken_over_from_the_tables_ends_as_well() {
    let mut old = engine(tight());
    let effects = burst(&mut old, 10, tilts(100));
    let site = Arc::clone(old.site());
    let mut new = Engine::from_tables(Arc::clone(&site), effects.alarms.clone(), Vec::new(), at(20));
    let loaded = new.step(at(20), &[Input::Site(site)]);
    assert!(loaded.alarms.is_empty(), "{:?}", loaded.alarms);
    assert_eq!(alarms(&tick(&mut new, 80)), ["babbling:cleared"]);
}

#[test]
fn what_was_gathered_while_a_link_was_down_is_not_thinned() {
    let mut engine = engine(tight());
    let kept = (0..600).map(|second| format!(r#"{{"level_mm":1,"ts":{}}}"#, at(second).0));
    let effects = burst(&mut engine, 601, kept);
    assert_eq!((effects.observations.len(), effects.counts.frames_thinned), (600, 0));
}

#[test]
fn no_limit_thins_nothing() {
    let limits = FrameLimits { device_frames_per_second: 0, ..FrameLimits::default() };
    let mut engine = engine(SiteFacts { limits, ..two_ways() });
    assert_eq!(burst(&mut engine, 10, tilts(5_000)).observations.len(), 5_000);
}

// === the same input gives the same output

#[derive(Clone, Debug)]
struct Sent {
    way: usize,
    device: u8,
    pause_ms: i64,
    payload: String,
    redelivered: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        any::<bool>().prop_map(|open| format!(r#"{{"cover_open":{open}}}"#)),
        (0..3).prop_map(|level| format!(r#"{{"level_mm":{level}}}"#)),
        (0..3, 0..3_i64).prop_map(|(level, ts)| format!(r#"{{"level_mm":{level},"ts":{}}}"#, at(ts).0)),
    ];
    let pauses = prop_oneof![5 => Just(0_i64), 3 => 0..500_i64, 1 => 0..70_000_i64];
    (0..2_usize, 1..3_u8, pauses, payload, prop::bool::weighted(0.2))
        .prop_map(|(way, device, pause_ms, payload, redelivered)| Sent { way, device, pause_ms, payload, redelivered })
}

/// What came out: alarms, rows for the database, and how many frames were repeats or thinned.
fn outcome(sent: &[Sent], cuts: &[usize], restarts: bool) -> (Vec<String>, Vec<String>, [u64; 4]) {
    let mut engine = engine(tight());
    let (mut told, mut rows, mut counts) = (Vec::new(), Vec::new(), [0; 4]);
    let mut now = at(0);
    let mut batch = Vec::new();
    for (position, sent) in sent.iter().enumerate() {
        now = Timestamp(now.0 + sent.pause_ms);
        let topic = format!("d01/manhole/MH-{}", sent.device);
        batch.push(message(["city", "bridge"][sent.way], &topic, now, &sent.payload, sent.redelivered));
        if !cuts.contains(&position) {
            continue;
        }
        let effects = engine.step(now, &std::mem::take(&mut batch));
        collect(&effects, &mut told, &mut rows, &mut counts);
        if restarts {
            engine = restarted(&engine);
        }
    }
    collect(&engine.step(now, &batch), &mut told, &mut rows, &mut counts);
    told.sort();
    (told, rows, counts)
}

fn collect(effects: &Effects, told: &mut Vec<String>, rows: &mut Vec<String>, counts: &mut [u64; 4]) {
    told.extend(effects.alarms.iter().map(|alarm| format!("{} {:?} {}", alarm.id, alarm.state, alarm.updated_at)));
    rows.extend(effects.observations.iter().map(|(row, readings)| format!("{} {readings:?}", row.observed_at)));
    for (sum, count) in counts.iter_mut().zip(effects.counts.frames_duplicate) {
        *sum += count;
    }
    counts[3] += effects.counts.frames_thinned;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn repeats_and_budgets_depend_on_neither_batches_nor_restarts(
        sent in prop::collection::vec(sent(), 1..80),
        cuts in prop::collection::vec(0..80_usize, 0..12),
    ) {
        let whole = outcome(&sent, &[], false);
        prop_assert_eq!(&whole, &outcome(&sent, &cuts, false));
        prop_assert_eq!(&whole, &outcome(&sent, &cuts, true));
    }

    /// However much is sent again, comes on two ways or is thinned: what the cover said last is what the alarm says.
    #[test]
    fn the_last_word_of_a_cover_is_never_lost(sent in prop::collection::vec(sent(), 1..80)) {
        let without_times: Vec<Sent> = sent.into_iter().filter(|sent| !sent.payload.contains("ts")).collect();
        let mut engine = engine(tight());
        let mut now = at(0);
        for sent in &without_times {
            now = Timestamp(now.0 + sent.pause_ms);
            let source = ["city", "bridge"][sent.way];
            engine.step(now, &[message(source, "d01/manhole/MH-1", now, &sent.payload, sent.redelivered)]);
        }
        let covers = without_times.iter().rfind(|sent| sent.payload.contains("cover_open"));
        let is_open = covers.is_some_and(|sent| sent.payload == OPEN);
        let view = engine.device_view(engine.site().find("MH-1").unwrap(), now);
        let stands = view.conditions.iter().any(|condition| condition == "displaced");
        prop_assert_eq!(stands, is_open);
    }
}
