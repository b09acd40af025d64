//! Devices of one tag are counted together, and devices with overrides keep their memory when those change.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::incident::{GroupRule, TagPattern};
use kerbside_model::profile::{Profile, Rule};
use kerbside_model::site::SiteFacts;
use kerbside_model::{Effects, Input, ServiceState, Severity, Site};

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const LEAKING: &str = r#"{"leakage_ma":50,"water_present":true}"#;
const MINUTE: i64 = 60;

/// Devices with the tags of each, all without a parent, and what is counted together.
fn street(tags: &[&[&str]], rules: &[(&str, bool)]) -> SiteFacts {
    let device = |(number, tags): (usize, &&[&str])| kerbside_model::Device {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..device(&format!("D-{number:04}"), ServiceState::InService)
    };
    let mut facts = SiteFacts { devices: tags.iter().enumerate().map(device).collect(), ..facts() };
    let rule = |(text, is_beginning): &(&str, bool)| GroupRule {
        condition: "leaking".to_owned(),
        devices: 3,
        share: 0.0,
        within: Duration::from_secs(86_400),
        becomes: "circuit_leaking".to_owned(),
        title: "leakage on a circuit".to_owned(),
        title_zh: "回路漏电".to_owned(),
        severity: Severity::Major,
        tag: Some(TagPattern { text: (*text).to_owned(), is_beginning: *is_beginning }),
    };
    facts.incidents.groups = rules.iter().map(rule).collect();
    Arc::make_mut(&mut facts.profiles[0]).detectors[4].severity = Severity::Major;
    facts
}

/// The parents of incidents that stand, after every device has leaked.
fn incidents(facts: SiteFacts) -> Vec<(String, usize)> {
    let count = facts.devices.len();
    let mut engine = engine(facts);
    for number in 0..count {
        send(&mut engine, &format!("D-{number:04}"), number as i64 * MINUTE, LEAKING);
    }
    let restored = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
    assert_eq!(restored.incidents(), engine.incidents());
    let mut found: Vec<(String, usize)> =
        engine.incidents().into_iter().map(|incident| (incident.parent, incident.standing.len())).collect();
    found.sort();
    found
}

#[test]
fn three_devices_of_one_tag_are_one_incident_wherever_they_hang() {
    let tags: [&[&str]; 5] = [&["circuit-7"], &["circuit-8"], &["circuit-7", "school"], &[], &["circuit-7"]];
    assert_eq!(incidents(street(&tags, &[("circuit-7", false)])), [("circuit-7".to_owned(), 3)]);
    assert_eq!(incidents(street(&tags, &[("circuit", false)])), []);
    assert_eq!(incidents(street(&tags[..4], &[("circuit-7", false)])), []);
}

#[test]
fn every_tag_that_begins_so_is_a_group_of_its_own() {
    let tags: [&[&str]; 7] = [&["c-7"], &["c-8"], &["c-7"], &["c-8"], &["c-7"], &["c-8"], &["other"]];
    assert_eq!(incidents(street(&tags, &[("c-", true)])), [("c-7".to_owned(), 3), ("c-8".to_owned(), 3)]);
}

#[test]
fn of_several_rules_and_tags_the_first_with_enough_devices_takes_the_alarm() {
    let tags: [&[&str]; 4] = [&["a", "b"], &["b"], &["b"], &["a"]];
    assert_eq!(incidents(street(&tags, &[("a", false), ("b", false)])), [("b".to_owned(), 3)]);
}

/// Two devices, of which the second has a profile of its own, as overrides give it.
fn overridden(edit: impl FnOnce(&mut Profile)) -> SiteFacts {
    let mut other = profile();
    other.overrides.push("low-road".to_owned());
    edit(&mut other);
    let mut facts = SiteFacts { profiles: vec![Arc::new(profile()), Arc::new(other)], ..facts() };
    facts.devices[1].profile = 1;
    facts
}

fn change(engine: &mut Engine, seconds: i64, facts: SiteFacts) -> Effects {
    let input = Input::Change { site: Arc::new(Site::new(facts)), by: "wu".to_owned() };
    engine.step(at(seconds), &[input])
}

#[test]
fn an_override_that_comes_changes_only_its_rule_and_every_other_memory_goes_on() {
    let mut engine = engine(facts());
    for device in ["MH-1", "MH-2"] {
        // The hold of the level begins; the device reports every ten minutes.
        send(&mut engine, device, 0, r#"{"level_mm":450,"leakage_ma":5}"#);
    }
    let leak = |profile: &mut Profile| {
        let rule = &mut profile.detectors[4].rule;
        assert!(matches!(rule, Rule::Threshold { .. }));
        *rule = above(3.0, 2.0);
    };
    change(&mut engine, 20, overridden(leak));
    assert_eq!(alarms(&tick(&mut engine, 29)), [""; 0]);
    assert_eq!(alarms(&tick(&mut engine, 31)).len(), 2, "holds of both went on");
    let effects = send(&mut engine, "MH-2", 40, r#"{"leakage_ma":5,"water_present":true}"#);
    assert_eq!(effects.alarms.iter().map(|alarm| alarm.device.as_str()).collect::<Vec<_>>(), ["MH-2"]);
    assert_eq!(effects.alarms[0].evidence.as_ref().unwrap().profile, "test + low-road");
    assert_eq!(send(&mut engine, "MH-1", 40, r#"{"leakage_ma":5,"water_present":true}"#).alarms, []);
    // Nobody is given time anew: three reports are missed when they were missed.
    change(&mut engine, 25 * MINUTE, overridden(|profile| profile.detectors[4].rule = above(4.0, 3.0)));
    let silent = |effects: &Effects| effects.alarms.iter().filter(|alarm| alarm.condition == "silent").count();
    assert_eq!(silent(&tick(&mut engine, 30 * MINUTE + 5)), 1, "MH-3 was never heard");
    assert_eq!(silent(&tick(&mut engine, 30 * MINUTE + 45)), 2);
}

#[test]
fn an_override_that_is_taken_back_leaves_its_alarm_until_good_data_ends_it() {
    let lower = |profile: &mut Profile| profile.detectors[4].rule = above(3.0, 2.0);
    let mut engine = engine(overridden(lower));
    let wet = r#"{"leakage_ma":5,"water_present":true}"#;
    assert_eq!(send(&mut engine, "MH-2", 0, wet).alarms.len(), 1);
    assert_eq!(change(&mut engine, 60, facts()).counts.alarms_cleared, 0);
    assert_eq!(send(&mut engine, "MH-2", 120, wet).counts.alarms_cleared, 1, "5 mA are fine again");
}
