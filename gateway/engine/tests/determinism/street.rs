//! A random street: profiles with any choice of rules and tests of quality, devices on feeders and in a catchment, and
//! what happens there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kerbside_model::document::Problems;
use kerbside_model::incident::{RainLevel, RainSignal, RainTopic};
use kerbside_model::profile::{Profile, parse_profile_text};
use kerbside_model::site::{AddressRule, DutyStep, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{
    ByteText, Device, Frame, Input, MaskKind, OperatorAction, Payload, ServiceState, Site, SourceStatus, Timestamp,
};
use proptest::prelude::*;

/// Thursday 15 January 2026, 10:40 UTC.
pub(crate) const START: Timestamp = Timestamp(1_768_473_600_000);
const SOURCES: [&str; 2] = ["city", "other"];
pub(crate) const DEVICES: usize = 9;
const PROFILES: usize = 3;

/// Every rule, in ways that random readings of some days set off.
pub(crate) const RULES: &[&str] = &[
    "threshold: {point: level_mm, above: 400, clear: 350}\n    hold: 30s",
    "threshold: {point: level_mm, above: 150, clear: 120, approach: {from: 60, jump: {over: 100, per: 1m}}}\n    count: 2",
    "threshold: {point: tilt_deg, above: 10, clear: 5}\n    clear_hold: 5m\n    during: {light: night}",
    "state: {point: cover_open, values: [true]}",
    "rate: {point: level_mm, rising: 20, per: 1m, clear: 5, gap_max: 15m, jump: {over: 100, per: 1m}}\n    count: 2",
    "flatline: {point: level_mm, tolerance: 0.5, for: 1h}\n    when: [{point: level_mm, above: 20}]",
    "silence: {missed: 3}",
    "silence: {missed: 3, habit: {false_per_1000_days: 1, at_most: 1d}}",
    "silence: {after: 15m, after_rise: {point: level_mm, by: 100, within: 30m}}",
    "forecast: {point: level_mm, rises_to: 400, within: 15m, least: 60, window: 40m, readings: 4}",
    "deviation: {point: level_mm, above: 4, least: 50, warm_up: 3}\n    hold: 1h",
    "deviation: {point: tilt_deg, above: 4, least: 1, rhythm: none, warm_up: 3}",
    "trend: {point: level_mm, rising: 25, per: 7d, total: 10, of: minimum, days: 7}",
    "baseline: {point: tilt_deg, above: 10, clear: 5, readings: 5, steady: 8, creep_per_day: 0.1}\n    count: 2",
    "frequency: {point: tilt_deg, hits: {by: 5, back: 3, within: 1m}, warm_up: 3, least: 1}",
    "shift: {point: tilt_deg, direction: either, least: 0.5, warm_up: 7}",
    "amount: {point: rain_mm, above: 10, clear: 5, within: 3h, counts: each}",
    "flapping: {point: cover_open, changes: 4, within: 2h}",
    "battery: {point: battery_v, empty: 3.0, within: 60d, knee: {below: 3.3, days: 3, falls_per_week: 0.1}}",
    "unusual: {point: level_mm, mode: light, warm_up: 144}",
    "combination: {all: [{point: level_mm, above: 100}, {point: cover_open, equals: true}]}",
    "expression: {cel: 'level_mm > 100.0 && tilt_deg > 5.0', fresh: 30m}",
    "spike: {point: tilt_deg, by: 5, within: 10m, times: 2, window: 1d}",
];

/// What can be wrong by each of the rules in turn: conditions that are taken together, and others.
const CONDITIONS: [&str; 8] =
    ["surcharged", "surging", "displaced", "silent", "flooded", "leaking", "lamp_out", "heavy_rain"];

/// Tests of quality of the level.
const QUALITIES: [&str; 8] = [
    "range: {min: 0, max: 450}",
    "spike: {method: differential, suspect: 80, fail: 400}",
    "spike: {method: average, suspect: 100}",
    "rate: {suspect: 254, per: 1m}",
    "flat: {tolerance: 1, suspect: 30m, fail: 2h}",
    "gap: {suspect: 40m}",
    "neighbours: {suspect: 200, within: 1h, count_min: 2}",
    "attenuated: {measure: deviation, window: 1h, count_min: 4, suspect: 0.5}",
];

/// What stands in a profile, by numbers.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    rules: Vec<(usize, usize, usize)>,
    qualities: Vec<usize>,
}

impl Choice {
    /// A profile of one rule.
    pub(crate) fn of_rule(rule: usize) -> Choice {
        Choice { rules: vec![(rule, 0, 1)], qualities: Vec::new() }
    }
}

pub(crate) fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let rules = prop::collection::vec((0..RULES.len(), 0..CONDITIONS.len(), 0..4_usize), 2..9);
    let qualities = prop::collection::vec(0..QUALITIES.len(), 0..4);
    let one = (rules, qualities).prop_map(|(rules, qualities)| Choice { rules, qualities });
    prop::collection::vec(one, PROFILES..=PROFILES)
}

/// A profile of these rules.
pub(crate) fn profile(number: usize, choice: &Choice) -> Result<Arc<Profile>, String> {
    let mut qualities: Vec<&str> = Vec::new();
    for quality in &choice.qualities {
        let key = QUALITIES[*quality].split(':').next();
        if qualities.iter().all(|known| known.split(':').next() != key) {
            qualities.push(QUALITIES[*quality]);
        }
    }
    let mut text = format!(
        "profile: random-{number}\nversion: 1\nkind: drain\nvendor: Generic\nmodel: Random\ninterval: 10m\npayload:\n  format: json\n  time: {{path: ts, unit: ms}}\n\
         points:\n  - {{name: level_mm, path: level, range: {{min: -100, max: 5000}}, quality: {{{}}}}}\n  \
         - {{name: tilt_deg, path: tilt}}\n  - {{name: cover_open, path: open, type: boolean}}\n  \
         - {{name: rain_mm, path: rain, unit: mm}}\n  - {{name: battery_v, path: batt}}\nconditions:\n",
        qualities.join(", ")
    );
    let mut named: Vec<usize> = choice.rules.iter().map(|(_, condition, _)| *condition).collect();
    named.sort_unstable();
    named.dedup();
    for condition in named {
        text.push_str(&format!("  - {{name: {}, opens_case: {}}}\n", CONDITIONS[condition], condition != 7));
    }
    text.push_str("detectors:\n");
    for (rule, condition, severity) in &choice.rules {
        let severity = ["notice", "minor", "major", "critical"][*severity];
        text.push_str(&format!(
            "  - condition: {}\n    severity: {severity}\n    {}\n",
            CONDITIONS[*condition], RULES[*rule]
        ));
    }
    text.push_str("samples:\n  - {name: good, json: {level: 1}, readings: {level_mm: 1}}\n  - {name: bad, text: '{', error: JSON}\n");
    let problems = Problems::default();
    let profile = parse_profile_text("random.yaml", &text, &problems);
    let found: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
    profile.map(Arc::new).ok_or_else(|| found.join("\n"))
}

/// Nine devices: three of each profile, on two feeders, two of them not in service.
pub(crate) fn site(choices: &[Choice]) -> Arc<Site> {
    let profiles = choices
        .iter()
        .enumerate()
        .map(|(number, choice)| profile(number, choice).expect("every rule of the list is sound"))
        .collect();
    let devices = (0..DEVICES).map(|number| Device {
        id: format!("D-{number}"),
        address: format!("D-{number}"),
        profile: u16::try_from(number % PROFILES).expect("three profiles"),
        position: (number != 4).then_some((116.3, 39.9 + 0.001 * number as f64)),
        parent: ["FEEDER-1", "FEEDER-2"][number % 2].to_owned(),
        service: if number == 8 { ServiceState::Commissioning } else { ServiceState::InService },
        ..Device::default()
    });
    let mut facts = SiteFacts::new("random", profiles, devices.collect());
    facts.sources = SOURCES
        .map(|source| SourceRule {
            source: Arc::from(source),
            address: AddressRule::Topic(TopicRule::of_level(1)),
            claim: None,
            envelopes: Vec::new(),
        })
        .to_vec();
    facts.duty = vec![
        DutyStep { after: Duration::ZERO, channels: vec!["first".to_owned()] },
        DutyStep { after: Duration::from_secs(300), channels: vec!["second".to_owned()] },
    ];
    facts.incidents.rain_topics = vec![RainTopic {
        source: "city".to_owned(),
        topic: "t/rain".to_owned(),
        level: None,
        until: None,
        lasts: Duration::from_secs(3_600),
    }];
    Arc::new(Site::new(facts))
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Frame {
        device: usize,
        source: usize,
        level: i32,
        tilt: i32,
        open: bool,
        ago: Option<i64>,
    },
    /// A frame of those before comes once more, perhaps by another way.
    Again {
        before: usize,
        source: usize,
    },
    Rain(usize),
    Signal(bool),
    Link {
        source: usize,
        connected: bool,
    },
    Mask(usize),
    Nothing,
}

pub(crate) fn histories() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let level = prop_oneof![3 => 0..60_i32, 2 => 100..460_i32, 1 => Just(30)];
    let ago = prop_oneof![6 => Just(None), 3 => (0..5_i64).prop_map(Some), 1 => (0..40_000_i64).prop_map(Some)];
    let event = prop_oneof![
        40 => (0..DEVICES, 0..2_usize, level, 0..16_i32, any::<bool>(), ago).prop_map(
            |(device, source, level, tilt, open, ago)| Event::Frame { device, source, level, tilt, open, ago }),
        6 => (0..6_usize, 0..2_usize).prop_map(|(before, source)| Event::Again { before, source }),
        1 => (0..4_usize).prop_map(Event::Rain),
        1 => any::<bool>().prop_map(Event::Signal),
        2 => (0..2_usize, any::<bool>()).prop_map(|(source, connected)| Event::Link { source, connected }),
        1 => (0..DEVICES).prop_map(Event::Mask),
        1 => Just(Event::Nothing),
    ];
    let gap = prop_oneof![4 => 0..90_000_i64, 3 => 0..900_000_i64, 1 => 0..30_000_000_i64];
    prop::collection::vec((gap, event), 1..160)
}

/// What the engine is told, and when.
pub(crate) fn inputs(history: &[(i64, Event)]) -> Vec<(Timestamp, Option<Input>)> {
    let mut inputs = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut now = START;
    for (gap, event) in history {
        now = Timestamp(now.0 + gap);
        let frame = |source: usize, topic: String, payload: String| Frame {
            source: Arc::from(SOURCES[source]),
            address: ByteText::from(topic),
            payload: Payload::Bytes(Bytes::from(payload.into_bytes())),
            received_at: now,
            retained: false,
        };
        let input = match event {
            Event::Frame { device, source, level, tilt, open, ago } => {
                let time = ago.map(|ago| format!(r#","ts":{}"#, now.0 - ago * 1_000)).unwrap_or_default();
                let (rain, battery) = (level % 5, 3.0 + f64::from(*tilt) / 20.0);
                let payload =
                    format!(r#"{{"level":{level},"tilt":{tilt},"open":{open},"rain":{rain},"batt":{battery}{time}}}"#);
                let made = frame(*source, format!("t/D-{device}"), payload);
                frames.push(made.clone());
                Some(Input::Frame(made))
            }
            Event::Again { before, source } => frames.iter().rev().nth(*before).map(|known| {
                Input::Frame(Frame { source: Arc::from(SOURCES[*source]), received_at: now, ..known.clone() })
            }),
            Event::Rain(level) => {
                let word = ["orange", "暴雨红色预警", "解除", "purple"][*level];
                Some(Input::Frame(frame(0, "t/rain".to_owned(), word.to_owned())))
            }
            Event::Signal(in_force) => {
                let until = Timestamp(now.0 + if *in_force { 7_200_000 } else { 0 });
                let signal = RainSignal { level: RainLevel::Yellow, until };
                Some(Input::Operator(OperatorAction::RainSignal { signal, by: "wang".to_owned() }))
            }
            Event::Link { source, connected } => {
                Some(Input::Source(SourceStatus { source: Arc::from(SOURCES[*source]), connected: *connected }))
            }
            Event::Mask(device) => Some(Input::Operator(OperatorAction::Mask {
                device: format!("D-{device}"),
                kind: MaskKind::Permit,
                from: now,
                until: Timestamp(now.0 + 3_600_000),
                by: "wang".to_owned(),
                reason: "清淤".to_owned(),
            })),
            Event::Nothing => None,
        };
        inputs.push((now, input));
    }
    inputs
}
