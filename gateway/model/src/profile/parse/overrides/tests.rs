//! What overrides make of profiles, and how mistakes in them are told.

use std::time::Duration;

use super::*;
use crate::alarm::Severity;
use crate::document;
use crate::profile::{Rule, no_scripts, parse_profile};

const LEVEL: &str = "\
profile: acme-level
version: 4
kind: drain
vendor: Acme
model: Level 1
interval: 10m
payload: {format: json}
points:
  - name: level_mm
    path: level
    range: {min: 0, max: 5000}
    quality: {range: {min: 0, max: 4000}, spike: {suspect: 50}}
  - {name: battery_v, path: batt}
conditions: [{name: nearly, title: {en: nearly full, zh: 接近满管}}]
detectors:
  - {name: watch, condition: surcharged, severity: notice, threshold: {point: level_mm, above: 150, clear: 120}, count: 2}
  - {name: crown, condition: surcharged, severity: major, threshold: {point: level_mm, above: 400, clear: 350}, hold: 1m}
  - {condition: nearly, severity: notice, threshold: {point: level_mm, above: 390, clear: 380}}
  - {condition: battery_low, severity: notice, threshold: {point: battery_v, below: 3.1, clear: 3.3}}
  - {condition: silent, severity: minor, silence: {missed: 3}}
samples:
  - {name: good, json: {level: 5, batt: 3.6}, readings: {level_mm: 5}}
  - {name: bad, text: '', error: not valid JSON}
";

fn ground() -> Overridable {
    let problems = Problems::default();
    let node = document::parse("acme-level.yaml", LEVEL, &|_| None, &problems).unwrap();
    let profile = parse_profile("acme-level.yaml", &node, &problems);
    Overridable::new(Arc::new(profile.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()))), node)
}

fn overrides(text: &str) -> Result<Vec<Override>, String> {
    let problems = Problems::default();
    let node = document::parse("overrides.yaml", text, &|_| None, &problems).unwrap();
    let read = parse_overrides("overrides.yaml", &node, &problems);
    if problems.is_empty() { Ok(read) } else { Err(texts(&problems.into_sorted())) }
}

fn texts(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The profile with one override after the other, or what is wrong.
fn laid(text: &str) -> Result<Profile, String> {
    let mut ground = ground();
    for over in overrides(text).unwrap() {
        match ground.with(&over, "Asia/Shanghai", &no_scripts) {
            Laid::Fits(next) => ground = next,
            Laid::Foreign(problems) => return Err(format!("foreign\n{}", texts(&problems))),
            Laid::Wrong(problems) => return Err(texts(&problems)),
        }
    }
    Ok(ground.profile.as_ref().clone())
}

/// The body of an override behind its head, whose last line is line 3.
fn one(body: &str) -> String {
    format!("overrides:\n  - name: low-road\n    tags: [low-road]\n{body}")
}

#[test]
fn a_single_limit_is_changed_and_the_rest_of_the_profile_stays() {
    let before = ground().profile.as_ref().clone();
    let profile = laid(&one("    detectors: [{name: watch, threshold: {above: 200, clear: 170}}]\n")).unwrap();
    assert!(matches!(profile.detectors[0].rule, Rule::Threshold { raise: 200.0, clear: 170.0, .. }));
    assert_eq!((profile.detectors[0].count, profile.detectors[0].severity), (2, Severity::Notice));
    assert_eq!(profile.detectors[1..], before.detectors[1..]);
    assert_eq!(
        (profile.points, profile.conditions, profile.payload),
        (before.points, before.conditions, before.payload)
    );
    assert_eq!((profile.name.as_str(), profile.version), ("acme-level", 4));
    assert_eq!((profile.overrides.join(" "), profile.samples.len()), ("low-road".to_owned(), 0));
}

#[test]
fn a_detector_without_a_name_is_found_by_what_it_finds_and_how() {
    let body = "    detectors:\n      - {condition: battery_low, threshold: {below: 3.3, clear: 3.4}}\n      \
                - {condition: silent, silence: {after: 2h}}\n      - {condition: nearly, hold: 5m}\n";
    let profile = laid(&one(body)).unwrap();
    assert!(matches!(profile.detectors[3].rule, Rule::Threshold { raise: 3.3, .. }));
    let Rule::Silence { after, .. } = &profile.detectors[4].rule else { panic!("{:?}", profile.detectors[4]) };
    assert_eq!(*after, Some(Duration::from_secs(7_200)), "`after` takes the place of `missed`");
    assert_eq!(profile.detectors[2].hold, Duration::from_secs(300));
}

#[test]
fn limits_of_points_and_their_tests_are_changed_one_by_one() {
    let body = "    points:\n      - {name: level_mm, range: {max: 9000}, quality: {range: {max: 8000}, spike: ~}}\n";
    let level = laid(&one(body)).unwrap().points[0].clone();
    assert_eq!(level.range.map(|range| (range.min, range.max)), Some((0.0, 9000.0)));
    assert_eq!(level.quality.range.map(|range| (range.min, range.max)), Some((0.0, 8000.0)));
    assert_eq!(level.quality.spike, None);
}

#[test]
fn conditions_are_changed_and_detectors_added_replaced_and_taken_out() {
    let body = "    conditions: [{name: surcharged, opens_case: false}]\n    detectors:\n      \
                - {name: deep, condition: flooded, severity: critical, threshold: {point: level_mm, above: 900, clear: 800}}\n      \
                - {condition: battery_low, severity: minor, threshold: {point: battery_v, below: 3, clear: 3.2}}\n    \
                without: {detectors: [watch, nearly], conditions: [nearly]}\n";
    let profile = laid(&one(body)).unwrap();
    let found: Vec<(&str, Severity)> = profile
        .detectors
        .iter()
        .map(|detector| (profile.conditions[usize::from(detector.condition)].name.as_ref(), detector.severity))
        .collect();
    let expected = [
        ("surcharged", Severity::Major),
        ("silent", Severity::Minor),
        ("flooded", Severity::Critical),
        ("battery_low", Severity::Minor),
    ];
    assert_eq!(found, expected);
    assert!(
        profile.conditions.iter().any(|condition| condition.name.as_ref() == "surcharged" && !condition.opens_case)
    );
}

#[test]
fn of_several_overrides_the_later_ones_win() {
    let text = "overrides:\n  - name: drains\n    kind: drain\n    detectors: [{name: watch, count: 5, hold: 1m}]\n  \
                - name: low-road\n    devices: D-1\n    detectors: [{name: watch, count: 1}]\n";
    let profile = laid(text).unwrap();
    assert_eq!((profile.detectors[0].count, profile.detectors[0].hold), (1, Duration::from_secs(60)));
    assert_eq!(profile.title(), "acme-level + drains + low-road");
}

#[test]
fn all_that_an_override_says_of_its_devices_must_hold() {
    let profile = ground().profile.as_ref().clone();
    let device = |id: &str, tags: &[&str]| Device {
        id: id.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Device::default()
    };
    let means = |head: &str, device: &Device| {
        let text = format!("overrides: [{{name: x, {head}, detectors: [{{name: watch, count: 3}}]}}]\n");
        overrides(&text).unwrap()[0].means(device, &profile)
    };
    let low = device("D-1", &["circuit-7", "low-road"]);
    assert!(means("tags: low-road", &low) && means("tags: [x, low-road]", &low) && means("devices: [D-2, D-1]", &low));
    assert!(means("profile: acme-level", &low) && means("kind: drain", &low));
    assert!(means("tags: low-road, kind: [pole, drain]", &low));
    assert!(!means("tags: low", &low) && !means("tags: low-road, kind: pole", &low));
    assert!(!means("tags: low-road, devices: D-2", &low) && !means("profile: acme", &low));
}

#[test]
fn what_says_nothing_of_a_profile_is_foreign_to_it_and_half_of_it_is_a_mistake() {
    let lamp = "    detectors:\n      - {condition: lamp_out, hold: 5m}\n    points:\n      - {name: tilt_deg, range: {max: 9}}\n";
    let problems = laid(&one(lamp)).unwrap_err();
    assert!(problems.starts_with("foreign"), "{problems}");
    let half = format!("{lamp}      - {{name: level_mm, range: {{max: 9000}}}}\n");
    let problems = laid(&one(&half)).unwrap_err();
    assert!(problems.contains("overrides.yaml:5: overrides[0].detectors = \"lamp_out\""), "{problems}");
    assert!(
        problems.contains("overrides.yaml:7: overrides[0].points = \"tilt_deg\": acme-level has no point"),
        "{problems}"
    );
}

#[test]
fn mistakes_are_told_at_their_lines_with_the_profile_that_they_are_in() {
    let check = |body: &str, words: &[&str]| {
        let problems = laid(&one(body)).unwrap_err();
        for words in words {
            assert!(problems.contains(words), "{words}: {problems}");
        }
    };
    check(
        "    detectors:\n      - {name: crown, hold: 1m}\n      - name: watch\n        threshold: {above: 9999}\n",
        &["overrides.yaml:7: overrides[0].detectors[1].threshold.above = \"9999\"", "(in acme-level)"],
    );
    check("    detectors: [{name: wacht, count: 3}]\n", &["foreign", "did you mean watch?"]);
    check(
        "    detectors:\n      - {condition: surcharged, count: 3}\n",
        &["2 detectors", "`name:` with one of watch, crown"],
    );
    check("    detectors:\n      - {name: watch, cuont: 3}\n", &["overrides.yaml:5", "did you mean count?"]);
    check(
        "    detectors:\n      - {name: watch, threshold: {above: 110}}\n",
        &["overrides.yaml:2: overrides[0]", "clear"],
    );
    check(
        "    without: {points: [battery_v]}\n",
        &["overrides.yaml:2: overrides[0] = \"battery_v\": with it, acme-level is wrong at detectors[3]"],
    );
    check("    without: {points: [tilt_deg], detectors: [silent]}\n", &["overrides[0].without.points = \"tilt_deg\""]);
}

#[test]
fn an_override_needs_a_name_devices_and_something_to_say() {
    let check = |text: &str, words: &str| {
        let problems = overrides(text).unwrap_err();
        assert!(problems.contains(words), "{words}: {problems}");
    };
    check("overrides: [{tags: a, points: [{name: x}]}]\n", "overrides[0].name: this key is missing");
    check("overrides: [{name: a b, tags: a, points: [{name: x}]}]\n", "not a name for an override");
    check("overrides: [{name: a, points: [{name: x}]}]\n", "say which devices are meant");
    check("overrides: [{name: a, tags: [], points: [{name: x}]}]\n", "this list is empty");
    check("overrides: [{name: a, tags: a}]\n", "say what is different");
    check("overrides: [{name: a, tags: a, interval: 5m, points: [{name: x}]}]\n", "this key is not known");
    check("overrides: [{name: a, kind: drian, points: [{name: x}]}]\n", "did you mean drain?");
    check("override: []\n", "overrides: this key is missing");
    let twice =
        "overrides:\n  - {name: a, tags: a, points: [{name: x}]}\n  - {name: a, tags: b, points: [{name: x}]}\n";
    check(twice, "overrides.yaml:3: overrides[1].name = \"a\": the override at line 2 has this name");
}
