//! Rules that count: batteries, radio links, amounts, loose contacts and slow shifts, through the whole engine.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::*;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Alarm, Effects, Severity, Timestamp};

use super::envelopes::{Up, says, servers};
use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// The street with other detectors, and without an interval.
fn street(detectors: Vec<Detector>, battery_since: Option<Timestamp>) -> SiteFacts {
    let mut changed = profile();
    changed.detectors = detectors;
    changed.interval = None;
    let mut facts = facts();
    for device in &mut facts.devices {
        device.battery_since = battery_since;
    }
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts }
}

/// Takes the level for a voltage in mV, and the tilt for its temperature.
fn battery(knee: Option<Knee>, charge: Option<Charge>) -> Detector {
    let course = Trend {
        side: Side::Below,
        goal: TrendGoal::Reaches { limit: 3_000.0, within: Duration::from_secs(60 * 86_400) },
        total: 50.0,
        days: 28,
        of: DayValue::Minimum,
        learn_when: Vec::new(),
        behind_permit: BehindPermit::GoesOn,
    };
    let temperature = Some(Warmth { point: 1, per_degree: 3.0 });
    let rule = Battery { course, fresh: Some(300.0), temperature, knee, charge };
    detector(2, Severity::Notice, Some(2), Rule::Battery(rule))
}

fn of_level(rule: Rule) -> Detector {
    detector(2, Severity::Minor, Some(2), rule)
}

/// What stands now, when it is known what stood before.
fn standing(before: Option<Alarm>, effects: &Effects) -> Option<Alarm> {
    let of_interest = effects.alarms.iter().filter(|alarm| alarm.device == "MH-1");
    of_interest.fold(before, |_, alarm| alarm.cleared_at.is_none().then(|| alarm.clone()))
}

/// What stands after each hour with its level and tilt. The engine is restarted now and then.
fn after(facts: SiteFacts, hours: impl Iterator<Item = (f64, f64)>) -> Vec<Option<Alarm>> {
    let mut engine = engine(facts);
    let mut told: Vec<Option<Alarm>> = Vec::new();
    for (number, (level, tilt)) in (0_i64..).zip(hours) {
        let payload = format!(r#"{{"level_mm":{level},"tilt_deg":{tilt}}}"#);
        let effects = send(&mut engine, "MH-1", number * HOUR, &payload);
        told.push(standing(told.last().cloned().flatten(), &effects));
        if number % 97 == 0 {
            engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
        }
    }
    told
}

fn first_of(standing: &[Option<Alarm>]) -> Option<i64> {
    standing.iter().position(Option::is_some).map(|hour| hour as i64 * HOUR / DAY)
}

#[test]
fn a_battery_that_falls_is_told_with_its_day_and_a_cold_one_is_not() {
    // Four millivolts a day: 3,520 mV are empty in 130 days, and 3,800 in 200.
    let falling = |from: f64| (0..80 * 24).map(move |hour| (from - 4.0 * f64::from(hour) / 24.0, 20.0));
    assert_eq!(first_of(&after(street(vec![battery(None, None)], None), falling(3_800.0))), None);
    let standing = after(street(vec![battery(None, None)], None), falling(3_520.0));
    let first = first_of(&standing).unwrap();
    assert!((68..73).contains(&first), "60 days before: {first}");
    let alarm = standing.iter().flatten().last().unwrap();
    assert!(alarm.explanation.contains("it is empty about 2027-0"), "{}", alarm.explanation);
    assert!(alarm.explanation_zh.contains("耗尽"), "{}", alarm.explanation_zh);
    let winter = (0..60 * 24).map(|hour| {
        let temperature = 35.0 - 30.0 * f64::from(hour) / (60.0 * 24.0);
        (3_600.0 - 3.0 * (20.0 - temperature), temperature)
    });
    assert_eq!(first_of(&after(street(vec![battery(None, None)], None), winter)), None);
}

#[test]
fn a_cell_at_its_knee_is_to_be_replaced_at_once_and_a_new_one_ends_it() {
    let knee = (0..30 * 24).map(|hour| {
        let day = hour / 24;
        (
            if day < 20 {
                3_600.0
            } else if day < 26 {
                3_250.0
            } else {
                3_650.0
            },
            20.0,
        )
    });
    let rule = Knee { below: 3_300.0, days: 3, falls_per_week: 100.0 };
    let standing = after(street(vec![battery(Some(rule), None)], None), knee);
    let first = first_of(&standing).unwrap();
    assert!((21..25).contains(&first), "{first}");
    assert!(standing[25 * 24].as_ref().unwrap().explanation.contains("replace it now"));
    assert!(standing.last().unwrap().is_none(), "a new cell lies 400 mV higher: {:?}", standing.last());
}

#[test]
fn a_cell_that_sags_when_its_radio_sends_is_neither_at_its_end_nor_new() {
    // One message in fifty finds it half a volt lower, and in one of two days that is the lowest.
    let sags = |days: i32| {
        (0..days * 24).map(|hour| (if hour * 7_919 % 50 == 0 { 3_100.0 } else { 3_600.0 - f64::from(hour % 3) }, 20.0))
    };
    let knee = Knee { below: 3_300.0, days: 3, falls_per_week: 100.0 };
    assert_eq!(first_of(&after(street(vec![battery(Some(knee), None)], None), sags(120))), None);
    // A day that is higher than the one before is no new battery, and the charge goes on.
    let charge = Charge { capacity_mah: 4_800.0, message_mah: 1.0, sleep_ua: 1_000.0 };
    let first = first_of(&after(street(vec![battery(Some(knee), Some(charge))], None), sags(50))).unwrap();
    assert!((39..43).contains(&first), "60 days before the hundredth: {first}");
}

#[test]
fn readings_of_a_cell_that_had_no_rest_are_not_compared() {
    let knee = Knee { below: 3_300.0, days: 1, falls_per_week: 100.0 };
    let told = |apart: i64| {
        let mut engine = engine(street(vec![battery(Some(knee), None)], None));
        let mut told = None;
        for hour in 0..24 * 10 {
            let low = if hour == 100 { 3_100 } else { 3_600 };
            for again in 0..3 {
                // It is pulled down once, and is asked again and again meanwhile.
                let payload = format!(r#"{{"level_mm":{low},"tilt_deg":20}}"#);
                let effects = send(&mut engine, "MH-1", hour * HOUR + again * apart, &payload);
                told = told.or(standing(None, &effects));
            }
        }
        told.is_some()
    };
    assert!(!told(30), "half a minute later it is the same sag");
    assert!(told(700), "it was low three times, with rest between");
}

#[test]
fn the_charge_is_counted_from_the_day_of_the_battery() {
    // 24 messages of 1 mAh and a day of sleep with 1 mA are 48 mAh a day: 100 days for 4,800 mAh.
    let charge = Charge { capacity_mah: 4_800.0, message_mah: 1.0, sleep_ua: 1_000.0 };
    let flat = || (0..50 * 24).map(|_| (3_600.0, 20.0));
    let standing = after(street(vec![battery(None, Some(charge))], None), flat());
    let first = first_of(&standing).unwrap();
    assert!((39..43).contains(&first), "60 days before the hundredth: {first}");
    let alarm = standing.iter().flatten().last().unwrap();
    assert!(alarm.explanation.contains("of the charge is used"), "{}", alarm.explanation);
    // Put in thirty days before the gateway began to listen.
    let since = Some(at(-30 * DAY));
    let told = after(street(vec![battery(None, Some(charge))], since), flat());
    let first = first_of(&told).unwrap();
    assert!((9..13).contains(&first), "{first}");
}

#[test]
fn what_fell_in_a_time_is_summed_up_and_a_shift_of_days_is_found() {
    let amount =
        Amount { above: 50.0, clear: 20.0, within: Duration::from_secs(12 * 3_600), counts: Counts::Total, jump: None };
    let rain = (0..48).map(|hour| (f64::from(hour.min(10)) * 6.0, 0.0));
    let standing = after(street(vec![of_level(Rule::Amount(amount))], None), rain);
    assert_eq!(standing.iter().position(Option::is_some), Some(9), "54 mm after nine hours");
    assert!(standing.last().unwrap().is_none());
    let explanation = &standing[10].as_ref().unwrap().explanation;
    assert!(explanation.contains("within 12 h, limit 50"), "{explanation}");

    let shift = Shift {
        side: Side::Above,
        slack: 0.5,
        limit: 8.0,
        least: 1.0,
        of: DayValue::Median,
        warm_up: 14,
        learn_when: Vec::new(),
    };
    let crept = (0..40 * 24).map(|hour| (if hour < 20 * 24 { 10.0 } else { 13.0 }, 0.0));
    let first = first_of(&after(street(vec![of_level(Rule::Shift(shift))], None), crept)).unwrap();
    assert!((23..27).contains(&first), "{first}");
}

#[test]
fn a_contact_that_flaps_is_told_and_is_over_when_it_rests() {
    let flapping = Flapping { changes: 6, within: Duration::from_secs(600) };
    let mut engine = engine(street(vec![detector(2, Severity::Notice, Some(0), Rule::Flapping(flapping))], None));
    let mut stands = None;
    let mut tell = |seconds: i64, is_open: bool| {
        let effects = send(&mut engine, "MH-1", seconds, &format!(r#"{{"cover_open":{is_open}}}"#));
        stands = standing(stands.take(), &effects);
        stands.is_some()
    };
    let told: Vec<bool> = (0..8).map(|number| tell(number * 30, number % 2 == 1)).collect();
    assert_eq!(told, [false, false, false, false, false, false, true, true]);
    assert!(tell(500, true), "six changes are not ten minutes ago");
    assert!(!tell(900, true));
}

#[test]
fn a_link_that_loses_its_uplinks_is_told_and_one_that_was_off_is_not() {
    let losses = Losses { above_percent: 20.0, clear_percent: 10.0, uplinks: 50 };
    let mut site = servers();
    let mut changed = (*site.profiles[0]).clone();
    changed.detectors = vec![detector(2, Severity::Notice, None, Rule::Losses(losses))];
    changed.interval = None;
    site.profiles = vec![Arc::new(changed)];
    let mut engine = engine(site);
    let (mut counter, mut stands) = (1, None);
    let mut hear = |engine: &mut Engine, number: i64, missing: u32| {
        counter += 1 + missing;
        let effects = says(engine, "north", number * 60, &Up::of(counter, r#"{"level_mm":5}"#, number * 60));
        stands = standing(stands.take(), &effects);
        stands.clone()
    };
    assert!((0..200).all(|number| hear(&mut engine, number, if number == 120 { 9_000 } else { 0 }).is_none()));
    let told = (200..400).map(|number| hear(&mut engine, number, u32::from(number % 2 == 0))).last().unwrap();
    let alarm = told.expect("a third is lost");
    assert!(alarm.explanation.starts_with("20 % of about 50 uplinks never came"), "{}", alarm.explanation);
    assert!(alarm.explanation_zh.contains("丢失 20%"), "{}", alarm.explanation_zh);
    engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
    assert!((400..600).map(|number| hear(&mut engine, number, 0)).last().unwrap().is_none());
}
