//! Messages that network servers wrap: whose they are, what comes twice, what is lost, and what is not to be read.

use std::sync::Arc;

use kerbside_model::profile::{Origin, Profile, ValueType};
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{
    Device, DuplicateReason, Effects, EnvelopeFormat, EnvelopeRule, FrameFlags, Frames, IgnoredEvent, Input, LinkField,
    ServiceState, Timestamp, UndecodedReason, Value,
};
use proptest::prelude::*;
use serde_json::json;

use super::again::Commit;
use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const TOPIC: &str = "application/b1/device/24e124713b000001/event/up";

/// The street's profile with a sixth point for the signal.
fn profile_with_signal() -> Profile {
    let mut profile = profile();
    let mut signal = point("signal_dbm", ValueType::Number, Some((-150.0, 0.0)));
    signal.origin = Origin::Link(LinkField::Rssi);
    profile.points.push(signal);
    profile
}

/// Two network servers, and a broker that carries envelopes beside bare messages.
pub(super) fn servers() -> SiteFacts {
    let rule = |source: &str, topics: Option<&str>, address| SourceRule {
        source: Arc::from(source),
        address,
        claim: None,
        envelopes: vec![EnvelopeRule { topics: topics.map(str::to_owned), format: EnvelopeFormat::ChirpStackV4 }],
    };
    let template = TopicRule::parse("city/{device}/up", Vec::new()).unwrap();
    let mixed = rule("mixed", Some("application/#"), AddressRule::Topic(template));
    let checked = TopicRule::parse("application/+/device/{device}/event/+", Vec::new()).unwrap();
    SiteFacts {
        profiles: vec![Arc::new(profile_with_signal())],
        devices: vec![
            Device { address: "24-e1-24-71-3b-00-00-01".replace('-', ""), ..device("MH-1", ServiceState::InService) },
            Device { address: "24E124713B000002".to_owned(), ..device("MH-2", ServiceState::InService) },
            device("MH-3", ServiceState::InService),
        ],
        sources: vec![
            rule("north", None, AddressRule::Whole),
            rule("south", None, AddressRule::Whole),
            rule("checked", None, AddressRule::Topic(checked)),
            mixed,
        ],
        ..facts()
    }
}

/// An uplink of the device with this number, in its envelope.
#[derive(Clone, Debug)]
pub(super) struct Up {
    pub(super) device: u8,
    pub(super) counter: u32,
    pub(super) object: String,
    pub(super) session: &'static str,
    /// When the server had it, in seconds after the start; `None` when it does not say.
    pub(super) seconds: Option<i64>,
}

impl Up {
    pub(super) fn of(counter: u32, object: &str, seconds: i64) -> Up {
        Up { device: 1, counter, object: object.to_owned(), session: "00189440", seconds: Some(seconds) }
    }

    pub(super) fn payload(&self) -> String {
        let object: serde_json::Value = serde_json::from_str(&self.object).unwrap();
        let mut event = json!({
            "deviceInfo": {"devEui": format!("24e124713b{:06}", self.device)}, "devAddr": self.session,
            "fPort": 2, "object": object, "rxInfo": [{"rssi": -101, "snr": 4.5}],
        });
        if self.counter > 0 {
            event["fCnt"] = json!(self.counter);
        }
        if let Some(seconds) = self.seconds {
            event["time"] = json!(at(seconds).to_string());
        }
        event.to_string()
    }
}

fn message(source: &str, topic: &str, received_at: Timestamp, payload: &str, redelivered: bool) -> Input {
    let mut frames = Frames::new(Arc::from(source), received_at);
    frames.push(topic, payload.as_bytes(), FrameFlags { retained: false, redelivered }, None);
    Input::Frames(frames)
}

/// Hands an uplink over, `seconds` after the start.
pub(super) fn says(engine: &mut Engine, source: &str, seconds: i64, up: &Up) -> Effects {
    engine.step(at(seconds), &[message(source, TOPIC, at(seconds), &up.payload(), false)])
}

fn repeats(effects: &Effects, reason: DuplicateReason) -> u64 {
    effects.counts.frames_duplicate[reason as usize]
}

fn ignored(effects: &Effects, event: IgnoredEvent) -> u64 {
    effects.counts.frames_ignored[event as usize]
}

const OPEN: &str = r#"{"cover_open":true}"#;
const CLOSED: &str = r#"{"cover_open":false}"#;

#[test]
fn an_uplink_is_read_out_of_its_envelope() {
    let mut engine = engine(servers());
    let effects = says(&mut engine, "north", 10, &Up::of(1, OPEN, 8));
    assert_eq!(alarms(&effects), ["displaced:active"]);
    let (row, readings) = effects.observations.iter().next().unwrap();
    assert_eq!((row.observed_at, row.received_at), (at(8), at(10)), "when the network had it");
    let values: Vec<Option<Value>> = readings.iter().map(|reading| reading.value.clone()).collect();
    assert_eq!(values, [Some(Value::Boolean(true)), Some(Value::Number(-101.0))], "the link is a point");
    assert_eq!(effects.alarms[0].device, "MH-1");
}

#[test]
fn what_several_gateways_and_servers_hand_over_is_one_uplink() {
    let mut engine = engine(servers());
    let tilt = r#"{"tilt_deg":40}"#;
    assert_eq!(says(&mut engine, "north", 10, &Up::of(1, tilt, 10)).observations.len(), 1);
    let late = says(&mut engine, "north", 11, &Up::of(1, tilt, 11));
    assert_eq!((repeats(&late, DuplicateReason::SameUplink), late.observations.len()), (1, 0));
    let other = says(&mut engine, "south", 12, &Up::of(1, tilt, 10));
    assert_eq!((repeats(&other, DuplicateReason::OtherPath), alarms(&other)), (1, Vec::new()));
    let next = says(&mut engine, "north", 13, &Up::of(2, tilt, 13));
    assert_eq!(alarms(&next), ["displaced:active"], "the next uplink says the same and counts");
}

#[test]
fn a_copy_that_comes_hours_later_is_known_also_after_a_crash() {
    let mut engine = engine(servers());
    says(&mut engine, "north", 10, &Up::of(1, OPEN, 10));
    says(&mut engine, "north", 20, &Up::of(2, CLOSED, 20));
    let site = Arc::clone(engine.site());
    let mut engine = Engine::restore(site, ENGINE_VERSION, &engine.snapshot()).unwrap();
    for up in [Up::of(1, OPEN, 10), Up::of(2, CLOSED, 20)] {
        let again = engine.step(at(900), &[message("north", TOPIC, at(900), &up.payload(), true)]);
        assert_eq!((repeats(&again, DuplicateReason::Redelivered), alarms(&again)), (1, Vec::new()), "{up:?}");
    }
}

#[test]
fn a_device_that_joined_anew_is_heard() {
    let mut engine = engine(servers());
    says(&mut engine, "north", 10, &Up::of(0, CLOSED, 10));
    let rejoined = Up { session: "0018944f", ..Up::of(0, CLOSED, 12) };
    assert_eq!(says(&mut engine, "north", 12, &rejoined).observations.len(), 1, "another session");
    let other = Up { session: "0018944f", ..Up::of(0, OPEN, 14) };
    assert_eq!(alarms(&says(&mut engine, "north", 14, &other)), ["displaced:active"], "other bytes");
    let later = Up { session: "0018944f", ..Up::of(0, OPEN, 60) };
    assert_eq!(says(&mut engine, "north", 60, &later).observations.len(), 1, "another time");
}

#[test]
fn a_frame_without_the_device_s_time_is_live_beside_those_of_a_device_that_is_ahead() {
    let mut engine = engine(servers());
    let ahead = format!(r#"{{"level_mm":5,"ts":{}}}"#, at(200).0);
    assert_eq!(says(&mut engine, "north", 10, &Up::of(1, &ahead, 10)).counts.observations_late, 0);
    let effects = says(&mut engine, "north", 20, &Up::of(2, OPEN, 20));
    assert_eq!((alarms(&effects), effects.counts.observations_late), (vec!["displaced:active".to_owned()], 0));
    let queued = says(&mut engine, "north", 7_200, &Up::of(3, CLOSED, 3_600));
    let is_cleared = alarms(&queued).contains(&"displaced:cleared".to_owned());
    assert_eq!((is_cleared, queued.counts.observations_late), (false, 1), "it waited in the broker");
}

#[test]
fn gaps_in_the_frame_counter_are_uplinks_that_never_came() {
    let mut engine = engine(servers());
    let mut lost = 0;
    for (seconds, counter) in [(10, 7), (20, 8), (30, 11), (31, 11), (40, 12), (50, 0), (60, 1)] {
        lost += says(&mut engine, "north", seconds, &Up::of(counter, CLOSED, seconds.min(30))).counts.uplinks_lost;
    }
    assert_eq!(lost, 2);
}

#[test]
fn what_is_no_reading_is_counted_and_is_no_noise() {
    let mut engine = engine(servers());
    let join = r#"{"deviceInfo":{"devEui":"24e124713b000009"},"devAddr":"00189440"}"#;
    let topic = "application/b1/device/24e124713b000009/event/join";
    let effects = engine.step(at(10), &[message("north", topic, at(10), join, false)]);
    assert_eq!((ignored(&effects, IgnoredEvent::Join), effects.undecoded.len()), (1, 0), "even of a strange device");
    let mut facts = servers();
    facts.sources[0].envelopes[0].format = EnvelopeFormat::TtnV3;
    let mut engine = super::support::engine(facts);
    let simulated = json!({
        "end_device_ids": {"dev_eui": "24E124713B000001"}, "simulated": true,
        "uplink_message": {"f_port": 1, "frm_payload": "qg==", "decoded_payload": {"cover_open": true}},
    });
    let effects = engine.step(at(10), &[message("north", "v3/a/devices/b/up", at(10), &simulated.to_string(), false)]);
    assert_eq!((ignored(&effects, IgnoredEvent::Simulated), effects.observations.len()), (1, 0));
    assert_eq!((alarms(&effects), effects.cases.len()), (Vec::new(), 0), "nobody is sent out for it");
}

#[test]
fn a_broker_may_carry_envelopes_beside_bare_messages() {
    let mut engine = engine(servers());
    let bare = engine.step(at(10), &[message("mixed", "city/MH-3/up", at(10), r#"{"cover_open":true}"#, false)]);
    assert_eq!(bare.alarms[0].device, "MH-3");
    assert_eq!(says(&mut engine, "mixed", 11, &Up::of(1, OPEN, 11)).alarms[0].device, "MH-1");
}

#[test]
fn servers_and_bare_devices_on_the_same_topics_are_told_apart_by_their_messages() {
    let mut facts = servers();
    let mixed = facts.sources.iter_mut().find(|rule| rule.source.as_ref() == "mixed").unwrap();
    mixed.envelopes = vec![EnvelopeRule { topics: None, format: EnvelopeFormat::Auto }];
    let mut engine = engine(facts);
    let ttn = json!({
        "end_device_ids": {"dev_eui": "24E124713B000002"},
        "uplink_message": {"f_port": 1, "frm_payload": "qg==", "decoded_payload": {"cover_open": true}},
    });
    let says = |seconds, topic: &str, payload: &str| message("mixed", topic, at(seconds), payload, false);
    let inputs = [
        says(10, "city/MH-3/up", OPEN),
        says(10, "city/any/up", &Up::of(1, OPEN, 10).payload()),
        says(10, "city/any/up", &ttn.to_string()),
        says(10, "city/MH-3/up", "{"),
        says(10, "elsewhere", OPEN),
    ];
    let effects = engine.step(at(10), &inputs);
    let devices: Vec<&str> = effects.alarms.iter().map(|alarm| alarm.device.as_str()).collect();
    assert_eq!(devices, ["MH-3", "MH-1", "MH-2"]);
    let kept: Vec<(UndecodedReason, &str)> =
        effects.undecoded.iter().map(|kept| (kept.reason, kept.address.as_str())).collect();
    assert_eq!(kept, [(UndecodedReason::Malformed, "MH-3"), (UndecodedReason::UnknownDevice, "elsewhere")]);
}

#[test]
fn an_envelope_that_names_another_device_than_its_topic_is_refused() {
    let mut engine = engine(servers());
    let forged = Up { device: 2, ..Up::of(1, OPEN, 10) };
    let effects = says(&mut engine, "checked", 10, &forged);
    let kept = &effects.undecoded[0];
    assert_eq!((kept.reason, kept.device.as_deref()), (UndecodedReason::WrongClaim, Some("MH-2")));
    assert!(kept.detail.contains("the envelope is of MH-2 and the topic of MH-1"), "{}", kept.detail);
    assert_eq!(says(&mut engine, "checked", 11, &Up::of(1, OPEN, 11)).alarms.len(), 1);
}

#[test]
fn a_stranger_is_listed_by_its_dev_eui() {
    let mut engine = engine(servers());
    let stranger = Up { device: 9, ..Up::of(1, OPEN, 10) };
    let kept = &says(&mut engine, "north", 10, &stranger).undecoded[0];
    assert_eq!((kept.reason, kept.address.as_str()), (UndecodedReason::UnknownDevice, "24e124713b000009"));
    let effects = engine.step(at(11), &[message("north", TOPIC, at(11), "\n\u{24}", false)]);
    assert_eq!(effects.undecoded[0].reason, UndecodedReason::Malformed);
    assert!(effects.undecoded[0].detail.contains("json=true"), "{}", effects.undecoded[0].detail);
}

#[test]
fn bytes_without_a_codec_are_refused_with_what_is_missing() {
    let mut engine = engine(servers());
    let bare = json!({"deviceInfo": {"devEui": "24e124713b000001"}, "data": "AXVk", "rxInfo": [{"rssi": -80}]});
    let kept = &engine.step(at(10), &[message("north", TOPIC, at(10), &bare.to_string(), false)]).undecoded[0];
    assert!(kept.detail.contains("give the device a codec in the network server"), "{}", kept.detail);
    let json_bytes = json!({"deviceInfo": {"devEui": "24e124713b000001"}, "data": "eyJjb3Zlcl9vcGVuIjp0cnVlfQ=="});
    let effects = engine.step(at(20), &[message("north", TOPIC, at(20), &json_bytes.to_string(), false)]);
    assert_eq!(alarms(&effects), ["displaced:active"], "a device may send JSON itself");
}

// === whatever comes, however it is cut

#[derive(Clone, Debug)]
struct Sent {
    source: usize,
    up: Up,
    kind: u8,
    redelivered: bool,
    pause_ms: i64,
}

fn sent() -> impl Strategy<Value = Sent> {
    let object = prop_oneof![
        any::<bool>().prop_map(|open| format!(r#"{{"cover_open":{open}}}"#)),
        (0..3).prop_map(|level| format!(r#"{{"level_mm":{level}}}"#)),
        (0..3, 0..40_i64).prop_map(|(level, ts)| format!(r#"{{"level_mm":{level},"ts":{}}}"#, at(ts).0)),
    ];
    let session = prop::sample::select(vec!["00189440", "0018944f"]);
    let up = (1..4_u8, 0..6_u32, object, session, prop::option::of(-2_000..40_i64))
        .prop_map(|(device, counter, object, session, seconds)| Up { device, counter, object, session, seconds });
    let pauses = prop_oneof![5 => Just(0_i64), 3 => 0..500_i64, 1 => 0..70_000_i64];
    (0..4_usize, up, 0..12_u8, prop::bool::weighted(0.2), pauses)
        .prop_map(|(source, up, kind, redelivered, pause_ms)| Sent { source, up, kind, redelivered, pause_ms })
}

fn input(sent: &Sent, now: Timestamp) -> Input {
    let source = ["north", "south", "checked", "mixed"][sent.source];
    let (topic, payload) = match sent.kind {
        0 => (TOPIC.replace("/up", "/join"), sent.up.payload()),
        1 => (TOPIC.to_owned(), "{".to_owned()),
        2 => ("city/MH-3/up".to_owned(), sent.up.object.clone()),
        _ => (TOPIC.replace("000001", &format!("{:06}", sent.up.device)), sent.up.payload()),
    };
    message(source, &topic, now, &payload, sent.redelivered)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn envelopes_that_are_opened_again_give_what_they_gave_live(
        all in prop::collection::vec(sent(), 1..60),
        cuts in prop::collection::vec(0..60_usize, 0..12),
    ) {
        let mut engine = engine(servers());
        let (mut now, mut batch, mut commit) = (at(0), Vec::new(), Commit::default());
        for (position, sent) in all.iter().enumerate() {
            now = Timestamp(now.0 + sent.pause_ms);
            batch.push(input(sent, now));
            if cuts.contains(&position) || position + 1 == all.len() {
                commit.step(&mut engine, now, std::mem::take(&mut batch));
                std::mem::take(&mut commit).check(engine.site());
            }
        }
    }

    #[test]
    fn what_comes_in_envelopes_depends_on_neither_batches_nor_restarts(
        all in prop::collection::vec(sent(), 1..60),
        cuts in prop::collection::vec(0..60_usize, 0..12),
    ) {
        let outcome = |cuts: &[usize], restarts: bool| {
            let mut engine = engine(servers());
            let (mut now, mut batch, mut told) = (at(0), Vec::new(), Vec::new());
            let (mut repeats, mut lost) = ([0; DuplicateReason::ALL.len()], 0);
            for (position, sent) in all.iter().enumerate() {
                now = Timestamp(now.0 + sent.pause_ms);
                batch.push(input(sent, now));
                if !cuts.contains(&position) && position + 1 < all.len() {
                    continue;
                }
                let effects = engine.step(now, &std::mem::take(&mut batch));
                told.extend(effects.alarms.iter().map(|alarm| format!("{} {:?}", alarm.id, alarm.state)));
                lost += effects.counts.uplinks_lost;
                for (sum, count) in repeats.iter_mut().zip(effects.counts.frames_duplicate) {
                    *sum += count;
                }
                if restarts {
                    engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
                }
            }
            told.sort();
            (told, repeats, lost)
        };
        let whole = outcome(&[], false);
        prop_assert_eq!(&whole, &outcome(&cuts, false));
        prop_assert_eq!(&whole, &outcome(&cuts, true));
    }

    /// However often and on whatever ways uplinks come: what the cover said in its last new one is what the alarm says.
    #[test]
    fn the_last_word_of_a_cover_in_envelopes_is_never_lost(
        words in prop::collection::vec((any::<bool>(), 1..4_usize, 0..3_u32), 1..40),
    ) {
        let mut engine = engine(servers());
        let (mut counter, mut seconds) = (0, 0);
        for (open, copies, skipped) in &words {
            counter += 1 + skipped;
            seconds += 7;
            for copy in 0..*copies {
                let up = Up::of(counter, if *open { OPEN } else { CLOSED }, seconds);
                let effects = says(&mut engine, ["north", "south"][copy % 2], seconds + 1, &up);
                prop_assert_eq!(effects.observations.len(), usize::from(copy == 0));
            }
        }
        let view = engine.device_view(engine.site().find("MH-1").unwrap(), at(seconds + 1));
        let stands = view.conditions.iter().any(|condition| condition == "displaced");
        prop_assert_eq!(Some(stands), words.last().map(|(open, _, _)| *open));
    }
}
