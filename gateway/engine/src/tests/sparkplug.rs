//! Sparkplug nodes: births, data by exception, and deaths that need no waiting.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::{DRIFT_MAX_DEFAULT, Origin, PayloadFormat, Profile, SparkplugFormat};
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::sparkplug::{Message, Metric, MetricValue, datatype};
use kerbside_model::{
    Device, Effects, EnvelopeFormat, EnvelopeRule, FrameFlags, Frames, IgnoredEvent, Input, ServiceState,
    UndecodedReason, Value,
};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

fn drain() -> Profile {
    let mut profile = profile();
    profile.payload = PayloadFormat::Sparkplug(SparkplugFormat { drift_max: DRIFT_MAX_DEFAULT });
    for point in &mut profile.points {
        point.origin = Origin::Metric(vec![point.name.to_string()]);
    }
    profile
}

fn street() -> Engine {
    let at_node =
        |id: &str, address: &str| Device { address: address.to_owned(), ..device(id, ServiceState::InService) };
    let envelopes = vec![EnvelopeRule { topics: None, format: EnvelopeFormat::SparkplugB }];
    engine(SiteFacts {
        profiles: vec![Arc::new(drain())],
        devices: vec![at_node("MH-1", "g/n/one"), at_node("MH-2", "g/n/two"), at_node("MH-3", "g/nn/one")],
        sources: vec![SourceRule { source: Arc::from("nodes"), address: AddressRule::Whole, claim: None, envelopes }],
        ..facts()
    })
}

fn metric(name: &str, seconds: i64, number: f64) -> Metric {
    Metric {
        name: Some(name.to_owned()),
        timestamp: u64::try_from(at(seconds).0).ok(),
        datatype: Some(datatype::DOUBLE),
        value: Some(MetricValue::Double(number)),
        ..Metric::default()
    }
}

fn message(seconds: i64, metrics: Vec<Metric>) -> Message {
    Message { timestamp: u64::try_from(at(seconds).0).ok(), metrics, ..Message::default() }
}

fn input(topic: &str, seconds: i64, payload: &[u8], flags: FrameFlags) -> Input {
    let mut frames = Frames::new(Arc::from("nodes"), at(seconds));
    frames.push(&format!("spBv1.0/{topic}"), payload, flags, None);
    Input::Frames(frames)
}

fn hear(engine: &mut Engine, topic: &str, seconds: i64, message: &Message) -> Effects {
    engine.step(at(seconds), &[input(topic, seconds, &message.to_bytes(), FrameFlags::default())])
}

fn level(engine: &mut Engine, topic: &str, seconds: i64, number: f64) -> Effects {
    hear(engine, topic, seconds, &message(seconds, vec![metric("level_mm", seconds, number)]))
}

/// `seconds:point=value` of every reading that was stored.
fn stored(effects: &Effects) -> Vec<String> {
    let names = drain().points;
    let mut found = Vec::new();
    for (row, readings) in effects.observations.iter() {
        for reading in readings {
            let value = reading.value.as_ref().filter(|_| reading.quality.is_good());
            let value = value.map_or("none".to_owned(), Value::to_string);
            let seconds = (row.observed_at.0 - START.0) / 1_000;
            found.push(format!("{seconds}:{}={value}", names[usize::from(reading.point)].name));
        }
    }
    found
}

fn all_alarms(effects: &Effects) -> Vec<String> {
    effects.alarms.iter().map(|alarm| format!("{}:{}:{}", alarm.device, alarm.condition, alarm.state.name())).collect()
}

#[test]
fn a_birth_says_what_is_so_now_however_long_it_has_been_so() {
    let mut street = street();
    let birth = message(10_000, vec![metric("level_mm", 50, 120.0), metric("tilt_deg", 10_000, 1.0)]);
    assert_eq!(
        stored(&hear(&mut street, "g/DBIRTH/n/one", 10_000, &birth)),
        ["10000:tilt_deg=1", "10000:level_mm=120"]
    );
}

#[test]
fn values_of_another_time_stand_at_their_own() {
    let mut street = street();
    let past = Metric { is_historical: Some(true), ..metric("level_mm", 100, 900.0) };
    let metrics =
        vec![past, metric("level_mm", 200, 110.0), metric("level_mm", 500, 120.0), metric("tilt_deg", 300, 2.0)];
    let effects = hear(&mut street, "g/DDATA/n/one", 500, &message(500, metrics));
    let expected = ["500:tilt_deg=2", "500:level_mm=120", "100:level_mm=900", "200:level_mm=110", "300:tilt_deg=2"];
    assert_eq!(stored(&effects), expected);
    assert_eq!(all_alarms(&effects), Vec::<String>::new(), "history raises nothing");
}

#[test]
fn data_without_any_point_of_the_profile_show_only_that_the_device_lives() {
    let mut street = street();
    let effects = hear(&mut street, "g/DDATA/n/one", 5, &message(5, vec![metric("Uptime", 5, 1.0)]));
    assert_eq!((effects.counts.frames_decoded, effects.undecoded.len(), stored(&effects).len()), (1, 0, 0));
    let effects = hear(&mut street, "g/DBIRTH/n/one", 6, &message(6, vec![metric("Uptime", 6, 1.0)]));
    assert_eq!(effects.undecoded[0].reason, UndecodedReason::NoPoints, "a birth should have them");
}

#[test]
fn what_has_no_name_is_kept_and_said() {
    let mut street = street();
    let nameless = Metric { name: None, alias: Some(9), ..metric("", 5, 1.0) };
    let effects = hear(&mut street, "g/DDATA/n/one", 5, &message(5, vec![nameless.clone()]));
    assert_eq!(effects.undecoded[0].reason, UndecodedReason::UnknownAlias);
    assert!(effects.undecoded[0].detail.contains("the first has alias 9"), "{}", effects.undecoded[0].detail);
    let effects = hear(&mut street, "g/DDATA/n/one", 6, &message(6, vec![nameless, metric("level_mm", 6, 5.0)]));
    assert_eq!((stored(&effects), effects.counts.frames_partial), (vec!["6:level_mm=5".to_owned()], 1));
    let untyped = Metric { datatype: None, value: Some(MetricValue::Int(7)), ..metric("level_mm", 7, 0.0) };
    let effects = hear(&mut street, "g/DDATA/n/one", 7, &message(7, vec![untyped]));
    assert_eq!(effects.undecoded[0].reason, UndecodedReason::UnknownAlias);
}

#[test]
fn commands_states_and_what_a_node_says_of_itself_are_no_readings() {
    let mut street = street();
    let node = message(5, vec![metric("bdSeq", 5, 1.0), metric("Node Control/Rebirth", 5, 0.0)]);
    for (topic, event) in [
        ("g/NCMD/n", IgnoredEvent::Downlink),
        ("g/DCMD/n/one", IgnoredEvent::Downlink),
        ("STATE/scada", IgnoredEvent::Host),
        ("g/NBIRTH/n", IgnoredEvent::Empty),
    ] {
        let effects = hear(&mut street, topic, 5, &node);
        assert_eq!((effects.counts.frames_ignored[event as usize], effects.undecoded.len()), (1, 0), "{topic}");
    }
}

#[test]
fn the_death_of_a_node_makes_its_devices_silent_at_once_and_a_birth_ends_it() {
    let mut street = street();
    level(&mut street, "g/DDATA/n/one", 1, 100.0);
    let effects = hear(&mut street, "g/NDEATH/n", 2, &Message::default());
    assert_eq!(all_alarms(&effects), ["MH-1:silent:active", "MH-2:silent:active"]);
    assert!(effects.alarms[0].explanation.contains("reported gone"), "{}", effects.alarms[0].explanation);
    assert!(effects.alarms[0].explanation_zh.contains("离线"));
    assert!(all_alarms(&hear(&mut street, "g/NDEATH/n", 3, &Message::default())).is_empty(), "once");
    assert_eq!(all_alarms(&level(&mut street, "g/DBIRTH/n/one", 4, 100.0)), ["MH-1:silent:cleared"]);
    assert_eq!(all_alarms(&hear(&mut street, "g/DDEATH/n/one", 5, &Message::default())), ["MH-1:silent:active"]);
}

#[test]
fn a_death_that_is_stale_or_retained_or_unknown_says_nothing() {
    let mut street = street();
    let stale = Message { is_stale: Some(true), ..Message::default() };
    assert!(all_alarms(&hear(&mut street, "g/NDEATH/n", 2, &stale)).is_empty());
    let retained = input("g/NDEATH/n", 3, b"", FrameFlags { retained: true, redelivered: false });
    assert!(all_alarms(&street.step(at(3), &[retained])).is_empty());
    assert!(all_alarms(&hear(&mut street, "g/NDEATH/m", 4, &Message::default())).is_empty());
}

#[test]
fn a_hold_is_waited_for_after_a_death_too() {
    let mut profile = drain();
    profile.detectors[2].hold = Duration::from_secs(60);
    let mut street = engine(SiteFacts { profiles: vec![Arc::new(profile)], ..street().site().facts().clone() });
    assert!(all_alarms(&hear(&mut street, "g/DDEATH/n/one", 2, &Message::default())).is_empty());
    assert!(all_alarms(&tick(&mut street, 61)).is_empty());
    assert_eq!(all_alarms(&tick(&mut street, 62)), ["MH-1:silent:active"]);
}

#[test]
fn who_is_gone_is_known_after_a_restart() {
    let mut street = street();
    let mut profile = drain();
    profile.detectors[2].hold = Duration::from_secs(60);
    let facts = SiteFacts { profiles: vec![Arc::new(profile)], ..street.site().facts().clone() };
    street = engine(facts);
    hear(&mut street, "g/DDEATH/n/one", 2, &Message::default());
    let mut again = Engine::restore(Arc::clone(street.site()), ENGINE_VERSION, &street.snapshot()).unwrap();
    assert_eq!(all_alarms(&tick(&mut again, 62)), ["MH-1:silent:active"]);
}

proptest! {
    #[test]
    fn any_bytes_on_any_topic_are_taken_or_kept(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        topic in prop::sample::select(vec!["g/NBIRTH/n", "g/DBIRTH/n/one", "g/DDATA/n/one", "g/NDEATH/n", "g/DDEATH/n/one", "x"]),
    ) {
        let mut street = street();
        let effects = street.step(at(1), &[input(topic, 1, &bytes, FrameFlags::default())]);
        let counts = &effects.counts;
        let ignored: u64 = counts.frames_ignored.iter().sum();
        prop_assert_eq!(counts.frames_decoded + ignored + counts.frames_undecoded.iter().sum::<u64>(), 1);
        prop_assert_eq!(counts.frames_undecoded[UndecodedReason::Panic as usize], 0);
    }
}
