//! Numbers, times and amounts at their ends: what no device measures, years of running, and many at once.

use std::sync::Arc;

use kerbside_model::document::Problems;
use kerbside_model::profile::parse_profile_text;
use kerbside_model::{Cause, Flag, ServiceState};

use super::support::*;
use crate::ENGINE_VERSION;
use crate::Engine;

const EVERY_RULE: &str = include_str!("../../../../bench/profiles/bench-every-rule.yaml");
const DAY: i64 = 86_400;

/// A street whose devices have nearly every rule; `changed` makes the profile another one.
fn every_rule(changed: impl Fn(&str) -> String) -> Engine {
    let problems = Problems::default();
    let profile = parse_profile_text("every.yaml", &changed(EVERY_RULE), &problems);
    let profile = profile.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()));
    let mut facts = facts();
    facts.profiles = vec![Arc::new(profile)];
    facts.devices = vec![device("MH-1", ServiceState::InService)];
    engine(facts)
}

fn without_ranges(profile: &str) -> String {
    profile
        .replace("range: {min: 0, max: 10000}}", "unit: mA}")
        .replace("interval: 5m", "interval: 1h")
        .replace("window: 25m", "window: 6h")
}

#[test]
fn what_devices_send_for_no_value_is_bad_and_no_measurement() {
    let mut engine = every_rule(without_ranges);
    for (second, number) in (0..).zip(["3.4028235e38", "-1e308", "1e39", "-1.1e30"]) {
        let effects = send(&mut engine, "MH-1", second, &format!("{{\"leakage\":{number}}}"));
        let flags: Vec<_> = effects
            .observations
            .iter()
            .flat_map(|(_, readings)| readings)
            .filter(|reading| reading.point == 3)
            .map(|reading| (reading.quality.flag, reading.quality.cause))
            .collect();
        assert_eq!(flags, [(Flag::Bad, Cause::Range)], "{number}");
    }
    let usual = send(&mut engine, "MH-1", 9, r#"{"leakage":18446744073709551615}"#);
    assert!(usual.observations.iter().all(|(_, readings)| readings.iter().all(|one| one.quality.is_good())));
}

#[test]
fn a_number_beyond_measure_among_the_first_does_not_stay_in_what_is_usual() {
    let usual_of_an_hour = |profile: &str| {
        let shift = "shift: {point: leakage_ma, direction: rising, least: 0.5, of: median}";
        without_ranges(profile).replace(shift, "deviation: {point: leakage_ma, above: 4, least: 5}")
    };
    let mut engine = every_rule(usual_of_an_hour);
    let mut found = Vec::new();
    for day in 0..40 {
        // 1e39 is none in single precision, in which means are kept.
        let leakage = match day {
            2 => "1e39".to_owned(),
            30.. => "25".to_owned(),
            _ => format!("{}", 2 + day % 3),
        };
        let effects = send(&mut engine, "MH-1", day * DAY, &format!("{{\"leakage\":{leakage}}}"));
        let unusual = effects.alarms.iter().filter(|alarm| alarm.condition == "insulation_weak");
        found.extend(unusual.map(|alarm| (day, alarm.explanation.clone())));
    }
    let first = found.first().unwrap();
    assert!(first.0 == 30 && first.1.contains("the usual 2.98"), "{found:?}");
}

#[test]
fn ten_years_of_every_rule_take_no_more_room_than_one() {
    let mut engine = every_rule(str::to_owned);
    let mut sizes = Vec::new();
    for report in 0..10 * 365 * 6 {
        let (day, hour) = (report / 6, report % 6 * 4);
        let shakes = if report % 37 == 0 { 8 } else { 0 };
        let payload = format!(
            "{{\"open\":{},\"level\":{},\"tilt\":{},\"leakage\":{},\"batt\":{}}}",
            report % 1_009 == 0,
            60 + hour + report % 7,
            1 + shakes,
            2.0 + f64::from(i32::try_from(report % 5).unwrap()) / 10.0,
            3.6 - 0.000_05 * f64::from(i32::try_from(day).unwrap()),
        );
        send(&mut engine, "MH-1", day * DAY + hour * 3_600, &payload);
        if day % 365 == 364 && hour == 20 {
            sizes.push(postcard::to_stdvec(&engine.devices[0]).unwrap().len());
        }
    }
    // 1,388 bytes at the end of each of the ten years.
    assert!(sizes.iter().all(|bytes| *bytes < 2_048 && *bytes < sizes[0] + 300), "{sizes:?}");
    let again = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot());
    assert_eq!(again.unwrap().snapshot(), engine.snapshot());
}

#[test]
fn ten_thousand_alarms_in_one_batch_each_have_their_case_and_come_once() {
    let mut facts = facts();
    facts.incidents.covers.devices = u32::MAX;
    let count = 10_000;
    facts.devices = (0..count).map(|number| device(&format!("C-{number}"), ServiceState::InService)).collect();
    let mut engine = engine(facts);
    let open = |number: usize| frame(&format!("C-{number}"), at(1), r#"{"cover_open":true}"#);
    let inputs: Vec<_> = (0..count).chain(0..count).map(open).collect();
    let effects = engine.step(at(1), &inputs);
    assert_eq!((effects.alarms.len(), engine.open_cases()), (count, count));
    assert_eq!(alarms(&engine.step(at(2), &inputs)), Vec::<String>::new());
}
