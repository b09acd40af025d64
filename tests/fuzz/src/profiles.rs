//! Profiles of others: any text gives a profile or problems with a mend, in bounded time; what is taken can be laid over
//! with overrides, runs its own tests, and judges messages without a panic.

use std::sync::{Arc, LazyLock};

use kerbside_engine::rule_test::run_rule_test;
use kerbside_engine::{Engine, decode::check_codec};
use kerbside_model::document::{self, Problem, Problems};
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Laid, Overridable, Profile, no_scripts, parse_overrides, parse_profile_text};
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{FrameFlags, Frames, Input, Site, Timestamp};

const START: Timestamp = Timestamp(1_800_000_000_000);
const FILE: &str = "fuzz.yaml";
/// More steps of a rule test than this take long and show nothing new.
const TEST_READINGS_MAX: usize = 2_000;
const EVERY_RULE: &str = include_str!("rules.yaml");
const HEAD: &str = "profile: p\nversion: 1\nkind: drain\nvendor: v\nmodel: m\ninterval: 5m\npayload: {format: json}\n\
    points: [{name: level_mm, path: level}, {name: water_present, path: wet}, \
    {name: state, path: state, type: enum, map: {0: ok, 1: fault}}]\n";
const TAIL: &str = "samples: [{name: a, json: {level: 1}, readings: {level_mm: 1}}, {name: b, text: '', error: x}]\n";

/// The profile with every rule, for overrides to be laid over.
static OVERRIDABLE: LazyLock<Overridable> = LazyLock::new(|| {
    let problems = Problems::default();
    let profile = parse_profile_text("rules.yaml", EVERY_RULE, &problems);
    let node = document::parse("rules.yaml", EVERY_RULE, &|_| None, &problems);
    let (profile, node) = profile.zip(node).unwrap_or_else(|| panic!("the profile is sound: {problems:?}"));
    Overridable::new(Arc::new(profile), node)
});

/// The first byte says what the rest is: a whole profile, an expression, detectors of a small profile, overrides, or
/// tests of a small profile.
///
/// # Panics
/// When reading panics, a problem has no mend, or what was read cannot be used.
pub fn profiles(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    match first % 5 {
        0 => check(text),
        1 => {
            let quoted = serde_json::Value::from(text).to_string();
            let rule = format!("{{condition: c, severity: minor, expression: {{cel: {quoted}}}}}");
            check(&small(&format!("detectors: [{rule}]\n")));
        }
        2 => check(&small(&format!("detectors:\n  - {text}\n"))),
        3 => overrides(text),
        _ => check(&small(&format!(
            "detectors: [{{condition: flooded, severity: minor, \
             threshold: {{point: level_mm, above: 4, clear: 3}}}}]\ntests:\n  - {text}\n"
        ))),
    }
}

fn small(detectors: &str) -> String {
    format!("{HEAD}conditions: [{{name: c, title: {{en: c, zh: 状}}}}]\n{detectors}{TAIL}")
}

fn check(text: &str) {
    let problems = Problems::default();
    let profile = parse_profile_text(FILE, text, &problems);
    check_problems(problems.into_sorted());
    if let Some(profile) = profile {
        use_profile(profile);
    }
}

fn check_problems(problems: Vec<Problem>) {
    for problem in problems {
        assert!(!problem.what.is_empty() && !problem.mend.is_empty(), "{problem}");
    }
}

fn overrides(text: &str) {
    let problems = Problems::default();
    let Some(node) = document::parse(FILE, text, &|_| None, &problems) else { return };
    let overrides = parse_overrides(FILE, &node, &problems);
    check_problems(problems.into_sorted());
    for over in overrides {
        match OVERRIDABLE.with(&over, "Asia/Shanghai", &no_scripts) {
            Laid::Fits(laid) => use_profile(Profile::clone(&laid.profile)),
            Laid::Foreign(problems) | Laid::Wrong(problems) => check_problems(problems),
        }
    }
}

/// What is done with every profile that was read.
fn use_profile(profile: Profile) {
    drop(check_codec(&profile));
    for test in &profile.tests {
        let readings = test.devices.iter().flat_map(|device| &device.series).map(|(_, slots)| slots.len());
        if readings.sum::<usize>() <= TEST_READINGS_MAX {
            run_rule_test(&profile, test);
        }
    }
    let devices = (0..2).map(|number| Device {
        id: format!("D-{number}"),
        address: format!("D-{number}"),
        position: Some((116.3, 39.9)),
        ..Device::default()
    });
    let address = AddressRule::Topic(TopicRule::of_level(1));
    let rule = SourceRule { source: Arc::from("city"), address, claim: None, envelopes: Vec::new() };
    let facts = SiteFacts::new("fuzz", vec![Arc::new(profile)], devices.collect());
    let site = Arc::new(Site::new(SiteFacts { sources: vec![rule], ..facts }));
    let mut engine = Engine::new(Arc::clone(&site));
    engine.step(START, &[Input::Site(site)]);
    for minute in 0..8_i64 {
        let now = Timestamp(START.0 + minute * 300_000);
        let mut frames = Frames::new("city".into(), now);
        let payload = format!("{{\"level\":{},\"wet\":{},\"state\":{}}}", minute * 90, minute % 2 == 0, minute % 3);
        frames.push("t/D-0", payload.as_bytes(), FrameFlags::default(), None);
        engine.step(now, &[Input::Frames(frames)]);
    }
    engine.step(Timestamp(START.0 + 86_400_000 * 40), &[]);
}
