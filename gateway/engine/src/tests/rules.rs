//! Rules that remember the readings before, and the hours in which a detector watches.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::*;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Effects, Input, Severity, Timestamp};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// 2027-01-15 08:00:00 UTC is 16:00 of a Friday in China.
const LOCAL_HOUR_OF_START: i64 = 16;

/// The street with other detectors, and without an interval.
fn street(detectors: Vec<Detector>) -> SiteFacts {
    let mut changed = profile();
    changed.detectors = detectors;
    changed.interval = None;
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts() }
}

fn of_level(rule: Rule) -> Detector {
    detector(2, Severity::Major, Some(2), rule)
}

fn forecast() -> Rule {
    Rule::Forecast(Forecast {
        side: Side::Above,
        reaches: 270.0,
        within: Duration::from_secs(600),
        window: Duration::from_secs(900),
        readings: 4,
        least: 30.0,
        jump: Some(Jump { over: 100.0, per: Duration::from_secs(60) }),
    })
}

fn deviation() -> Rule {
    Rule::Deviation(Deviation {
        side: Side::Above,
        measure: Measure::Spreads,
        raise: 4.0,
        clear: 2.0,
        least: 30.0,
        weekend: Weekend::Apart,
        rhythm: Rhythm::Hours,
        warm_up: 5,
        learn_when: vec![Guard { point: 3, test: GuardTest::Equals(kerbside_model::Value::Boolean(false)) }],
    })
}

fn trend(side: Side, goal: TrendGoal, total: f64) -> Rule {
    Rule::Trend(Trend {
        side,
        goal,
        total,
        days: 14,
        of: DayValue::Minimum,
        learn_when: Vec::new(),
        behind_permit: BehindPermit::GoesOn,
    })
}

fn silence(after_seconds: u64, habit: Option<Habit>, rise: Option<Rise>) -> Detector {
    let after = Some(Duration::from_secs(after_seconds));
    detector(1, Severity::Major, None, Rule::Silence { after, missed: 1.0, habit, rise })
}

fn level(engine: &mut Engine, seconds: i64, level: f64) -> Effects {
    send(engine, "MH-1", seconds, &format!(r#"{{"level_mm":{level},"water_present":false}}"#))
}

/// Sends levels a minute apart and gives what changed, with the number of the reading.
fn told(engine: &mut Engine, levels: &[f64]) -> Vec<String> {
    let mut told = Vec::new();
    for (minute, value) in (0_i64..).zip(levels) {
        let effects = level(engine, minute * 60, *value);
        told.extend(alarms(&effects).iter().map(|alarm| format!("{minute} {alarm}")));
    }
    told
}

#[test]
fn a_forecast_says_when_the_limit_is_reached_and_ends_when_the_water_stands() {
    let mut engine = engine(street(vec![of_level(forecast())]));
    let mut story = Vec::new();
    for (minute, value) in (0_i64..).zip([20.0, 20.0, 20.0, 45.0, 70.0, 95.0, 120.0, 145.0, 145.0, 145.0, 145.0, 145.0])
    {
        let effects = level(&mut engine, minute * 60, value);
        story.extend(effects.alarms.iter().map(|alarm| (minute, alarm.state.name(), alarm.explanation.clone())));
    }
    assert_eq!(story[0].1, "active");
    assert!((5..=7).contains(&story[0].0), "{story:?}");
    assert!(story[0].2.contains("a minute and reaches 270 in "), "{story:?}");
    let quiet: Vec<f64> = vec![145.0; 20];
    let ended = quiet.iter().enumerate().any(|(minute, value)| {
        let effects = level(&mut engine, (12 + minute as i64) * 60, *value);
        alarms(&effects) == ["surcharged:cleared"]
    });
    assert!(ended);
}

#[test]
fn neither_noise_nor_a_splash_nor_a_parked_car_is_a_forecast() {
    for levels in [
        [20.0, 25.0, 18.0, 24.0, 20.0, 26.0, 19.0, 25.0, 28.0, 20.0],
        [20.0, 20.0, 20.0, 20.0, 115.0, 20.0, 20.0, 20.0, 20.0, 20.0],
        [20.0, 20.0, 20.0, 20.0, 200.0, 200.0, 200.0, 201.0, 200.0, 200.0],
        [20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0, 29.0],
    ] {
        assert_eq!(told(&mut engine(street(vec![of_level(forecast())])), &levels), Vec::<String>::new(), "{levels:?}");
    }
}

#[test]
fn a_detector_watches_in_its_hours_only_and_what_stands_ends_with_the_next_reading_behind_them() {
    let during = During { hours: Some((22 * 60, 6 * 60)), weekdays: None, months: None, light: None };
    let night =
        Detector { during: Some(during), zone: Some("Asia/Shanghai".to_owned()), ..of_level(above(400.0, 350.0)) };
    let mut engine = engine(street(vec![night]));
    let local = |hour: i64| (hour - LOCAL_HOUR_OF_START) * HOUR;
    assert_eq!(alarms(&level(&mut engine, local(21), 500.0)), Vec::<String>::new());
    let raised = level(&mut engine, local(22), 500.0);
    assert_eq!(alarms(&raised), ["surcharged:active"]);
    assert!(raised.alarms[0].explanation.ends_with(", from 22:00 to 06:00"), "{}", raised.alarms[0].explanation);
    assert!(raised.alarms[0].explanation_zh.ends_with("（22:00 至 06:00）"), "{}", raised.alarms[0].explanation_zh);
    for quarter in 1..32 {
        let effects = level(&mut engine, local(22) + quarter * HOUR / 4, 500.0);
        assert_eq!(alarms(&effects), Vec::<String>::new(), "quarter {quarter}");
    }
    assert_eq!(alarms(&level(&mut engine, local(30), 500.0)), ["surcharged:cleared"]);
}

#[test]
fn a_lamp_that_burns_by_day_is_told_by_the_sun_at_its_place() {
    let during = During { light: Some(Light::Day), ..During::default() };
    let by_day = Detector { during: Some(during), ..of_level(above(400.0, 350.0)) };
    let mut engine = engine(street(vec![by_day]));
    // The sun sets at about 17:15 in the middle of January in Beijing.
    assert_eq!(alarms(&level(&mut engine, 2 * HOUR, 500.0)), Vec::<String>::new());
    assert_eq!(alarms(&level(&mut engine, 17 * HOUR, 500.0)), ["surcharged:active"]);
}

#[test]
fn a_silence_waits_until_its_detector_watches() {
    let during = During { hours: Some((8 * 60, 18 * 60)), ..During::default() };
    let mut engine = engine(street(vec![Detector { during: Some(during), ..silence(3_600, None, None) }]));
    level(&mut engine, HOUR, 20.0);
    assert_eq!(alarms(&tick(&mut engine, 15 * HOUR)), Vec::<String>::new());
    assert_eq!(alarms(&tick(&mut engine, 16 * HOUR)), ["silent:active"]);
}

#[test]
fn silence_is_told_by_the_habit_of_the_device_once_it_is_known() {
    let habit = Habit { false_per_1000_days: 1.0, at_most: None, at_least: None };
    let mut engine = engine(street(vec![silence(86_400, Some(habit), None)]));
    for report in 0..40 {
        assert_eq!(alarms(&level(&mut engine, report * 600, 20.0)), Vec::<String>::new());
    }
    let last = 39 * 600;
    assert_eq!(alarms(&tick(&mut engine, last + 1_200)), Vec::<String>::new());
    let silent = tick(&mut engine, last + 2_600);
    assert_eq!(alarms(&silent), ["silent:active"]);
    let explanation = &silent.alarms.iter().find(|alarm| alarm.device == "MH-1").unwrap().explanation;
    assert!(explanation.contains("it usually reports every 10 min"), "{explanation}");
}

#[test]
fn a_flooded_sensor_that_falls_silent_is_told_at_once_and_a_dry_one_is_not() {
    let rise = Rise { point: 2, by: 100.0, within: Duration::from_secs(1_800) };
    let rule = || street(vec![silence(900, None, Some(rise))]);
    let mut dry = engine(rule());
    (0..10).for_each(|report| drop(level(&mut dry, report * 300, 20.0 + report as f64)));
    assert_eq!(alarms(&tick(&mut dry, DAY)), Vec::<String>::new());
    let mut wet = engine(rule());
    (0..10).for_each(|report| drop(level(&mut wet, report * 300, 20.0 + 30.0 * report as f64)));
    assert_eq!(alarms(&tick(&mut wet, 2_700 + 899)), Vec::<String>::new());
    let silent = tick(&mut wet, 2_700 + 900);
    assert_eq!(alarms(&silent), ["silent:active"]);
    assert!(silent.alarms[0].explanation.contains("rose by 180 in the 30 min before"), "{silent:?}");
    assert_eq!(alarms(&level(&mut wet, 4_000, 20.0)), ["silent:cleared"]);
}

fn tilt(engine: &mut Engine, minute: i64, tilt: f64) -> Effects {
    send(engine, "MH-1", minute * 60, &format!(r#"{{"tilt_deg":{tilt}}}"#))
}

fn baseline() -> Rule {
    Rule::Baseline(Baseline {
        above: 10.0,
        below: None,
        clear: 5.0,
        readings: 20,
        steady: 3.0,
        creep_per_day: 0.1,
        circle: None,
        still: None,
    })
}

#[test]
fn a_cover_that_lies_askew_is_judged_by_how_far_it_moved() {
    let mut engine = engine(street(vec![detector(0, Severity::Critical, Some(1), baseline())]));
    for minute in 0..19 {
        assert_eq!(alarms(&tilt(&mut engine, minute, 12.0 + (minute % 3) as f64)), Vec::<String>::new());
    }
    // Nothing is known before the twentieth reading, and what is not quiet begins anew.
    assert_eq!(alarms(&tilt(&mut engine, 19, 60.0)), Vec::<String>::new());
    for minute in 20..40 {
        assert_eq!(alarms(&tilt(&mut engine, minute, 13.0)), Vec::<String>::new());
    }
    assert_eq!(alarms(&tilt(&mut engine, 40, 22.0)), Vec::<String>::new());
    let raised = tilt(&mut engine, 41, 24.0);
    assert_eq!(alarms(&raised), ["displaced:active"]);
    assert!(raised.alarms[0].explanation.contains("24, 11 from where it rests at 13"), "{raised:?}");
    assert_eq!(alarms(&tilt(&mut engine, 42, 2.0)), Vec::<String>::new());
    assert_eq!(alarms(&tilt(&mut engine, 43, 9.0)), ["displaced:cleared"]);
}

#[test]
fn a_cover_that_was_put_back_with_a_permit_has_a_new_place_and_one_that_was_left_open_has_not() {
    for (put_back, expected) in [(19.0, 0), (60.0, 1)] {
        let mut engine = engine(street(vec![detector(0, Severity::Critical, Some(1), baseline())]));
        (0..25).for_each(|minute| drop(tilt(&mut engine, minute, 13.0)));
        let permit = kerbside_model::OperatorAction::Mask {
            device: "MH-1".to_owned(),
            kind: kerbside_model::MaskKind::Permit,
            from: at(25 * 60),
            until: at(40 * 60),
            by: "班组".to_owned(),
            reason: String::new(),
        };
        act(&mut engine, 25 * 60, permit);
        assert_eq!(alarms(&tilt(&mut engine, 30, 80.0)), ["displaced:active"]);
        (41..70).for_each(|minute| drop(tilt(&mut engine, minute, put_back)));
        // Six degrees from where it was are fine, and eleven from there as well, since it rests elsewhere now.
        let standing = engine.devices[0].conditions.alarm(0).is_some();
        assert_eq!(usize::from(standing), expected, "{put_back}");
        let moved = tilt(&mut engine, 71, if expected == 0 { 25.0 } else { put_back });
        assert_eq!(alarms(&moved), Vec::<String>::new(), "{put_back}");
    }
}

/// A level with a rhythm of the day, a little noise, and more at weekends.
fn rhythm(hours: i64) -> f64 {
    let local = hours + LOCAL_HOUR_OF_START;
    let (hour, day) = (local % 24, local / 24);
    let weekend = if [1, 2].contains(&(day % 7)) { 80.0 } else { 0.0 };
    100.0 + 10.0 * (hour - 12).abs() as f64 + weekend + ((hours * 7) % 5) as f64
}

#[test]
fn a_level_far_from_the_usual_of_its_hour_is_told_and_the_same_level_at_another_hour_is_usual() {
    let mut engine = engine(street(vec![of_level(deviation())]));
    let weeks = 6 * 7 * 24;
    for hours in 0..weeks {
        assert_eq!(alarms(&level(&mut engine, hours * HOUR, rhythm(hours))), Vec::<String>::new(), "hour {hours}");
    }
    // 220 is usual at midnight and far from it at noon.
    let noon = weeks + 20;
    let raised = level(&mut engine, noon * HOUR, 220.0);
    assert_eq!(alarms(&raised), ["surcharged:active"]);
    let explanation = &raised.alarms[0].explanation;
    assert!(
        explanation.contains("spreads above the usual 18") && explanation.contains("of a Saturday at 12:00"),
        "{explanation}"
    );
    assert_eq!(alarms(&level(&mut engine, (noon + 1) * HOUR, rhythm(noon + 1))), ["surcharged:cleared"]);
}

#[test]
fn what_is_found_does_not_become_usual_and_wet_hours_are_not_learnt() {
    let mut engine = engine(street(vec![of_level(deviation())]));
    for hours in 0..(30 * 24) {
        send(&mut engine, "MH-1", hours * HOUR, r#"{"level_mm":100,"water_present":true}"#);
    }
    // Nothing was learnt in the wet, so nothing is usual.
    assert_eq!(alarms(&send(&mut engine, "MH-1", 30 * DAY, r#"{"level_mm":900}"#)), Vec::<String>::new());
    for hours in 1..(40 * 24) {
        level(&mut engine, 30 * DAY + hours * HOUR, 100.0);
    }
    assert_eq!(alarms(&level(&mut engine, 70 * DAY, 300.0)), ["surcharged:active"]);
    for hours in 1..(60 * 24) {
        assert_eq!(alarms(&level(&mut engine, 70 * DAY + hours * HOUR, 300.0)), Vec::<String>::new(), "hour {hours}");
    }
}

#[test]
fn minima_that_creep_up_are_a_trend_and_a_wet_week_is_none() {
    let goal = TrendGoal::Change { by: 25.0, per: Duration::from_secs(7 * 86_400) };
    let mut creeping = engine(street(vec![of_level(trend(Side::Above, goal, 40.0))]));
    let mut wet_week = engine(street(vec![of_level(trend(Side::Above, goal, 40.0))]));
    let mut found = Vec::new();
    for hours in 0..(40 * 24) {
        let day = hours / 24;
        let swing = ((hours % 24) * 5) as f64;
        let effects = level(&mut creeping, hours * HOUR, 50.0 + 6.0 * day as f64 + swing);
        found.extend(effects.alarms.iter().map(|alarm| (day, alarm.explanation.clone())));
        let flood = if (10..14).contains(&day) { 300.0 } else { 0.0 };
        assert_eq!(alarms(&level(&mut wet_week, hours * HOUR, 50.0 + swing + flood)), Vec::<String>::new());
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert!((7..=10).contains(&found[0].0), "{found:?}");
    assert!(found[0].1.contains("rises by 180 in 30 d"), "{found:?}");
}

#[test]
fn a_battery_that_runs_down_is_told_with_the_date_of_its_end() {
    let goal = TrendGoal::Reaches { limit: 310.0, within: Duration::from_secs(30 * 86_400) };
    let mut engine = engine(street(vec![of_level(trend(Side::Below, goal, 10.0))]));
    let mut found = Vec::new();
    for hours in 0..(60 * 24) {
        let effects = level(&mut engine, hours * HOUR, 400.0 - (hours / 24) as f64 * 1.5);
        found.extend(effects.alarms.iter().map(|alarm| (hours / 24, alarm.explanation.clone())));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    // 30 days before 400 - 1.5 d = 310, that is day 60, which is 2027-03-16.
    assert!((29..=32).contains(&found[0].0), "{found:?}");
    assert!(found[0].1.contains("; reaches 310 about 2027-03-1"), "{found:?}");
}

#[test]
fn a_clock_that_was_set_back_leaves_no_memory_of_the_future() {
    let habit = Habit { false_per_1000_days: 1.0, at_most: None, at_least: None };
    let goal = TrendGoal::Change { by: 25.0, per: Duration::from_secs(7 * 86_400) };
    let rules = vec![
        of_level(forecast()),
        of_level(trend(Side::Above, goal, 40.0)),
        silence(900, Some(habit), Some(Rise { point: 2, by: 100.0, within: Duration::from_secs(1_800) })),
    ];
    let mut engine = engine(street(rules));
    (0..20).for_each(|minute| drop(level(&mut engine, 10 * DAY + minute * 60, 100.0)));
    for state in &mut engine.devices {
        state.forget_future(at(DAY));
    }
    // A second reading alone is no course, although there were twenty later ones.
    assert_eq!(alarms(&level(&mut engine, DAY + 60, 120.0)), Vec::<String>::new());
    assert_eq!(alarms(&level(&mut engine, DAY + 120, 180.0)), Vec::<String>::new());
}

fn everything() -> SiteFacts {
    let rise = Rise { point: 2, by: 100.0, within: Duration::from_secs(1_800) };
    let habit = Habit { false_per_1000_days: 1.0, at_most: Some(Duration::from_secs(86_400)), at_least: None };
    let light = During { light: Some(Light::Night), ..During::default() };
    let goal = TrendGoal::Change { by: 25.0, per: Duration::from_secs(7 * 86_400) };
    street(vec![
        of_level(forecast()),
        detector(4, Severity::Minor, Some(2), deviation()),
        detector(5, Severity::Minor, Some(2), trend(Side::Either, goal, 40.0)),
        silence(7_200, Some(habit), None),
        detector(3, Severity::Major, None, silence(900, None, Some(rise)).rule),
        detector(0, Severity::Major, Some(1), baseline()),
        Detector { during: Some(light), ..detector(0, Severity::Minor, Some(1), above(10.0, 5.0)) },
    ])
}

fn story(inputs: &[(Timestamp, Input)], cuts: &[usize]) -> Vec<String> {
    let mut engine = engine(everything());
    let mut lines = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (inputs.len() + 1)).chain([inputs.len()]).collect();
    ends.sort_unstable();
    let mut first = 0;
    for end in ends.into_iter().filter(|end| *end > 0) {
        if end <= first {
            continue;
        }
        let batch: Vec<Input> = inputs[first..end].iter().map(|(_, input)| input.clone()).collect();
        let effects = engine.step(inputs[end - 1].0, &batch);
        for alarm in &effects.alarms {
            lines.push(format!(
                "{} {} {} {:?} {}",
                alarm.id, alarm.condition, alarm.device, alarm.state, alarm.updated_at
            ));
        }
        if !cuts.is_empty() {
            let bytes = engine.snapshot();
            engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &bytes).unwrap();
        }
        first = end;
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rules_with_a_memory_do_not_depend_on_batches_and_restarts(
        steps in prop::collection::vec((1_i64..30_000, 1..3_u8, 0..400_i32, 0..20_i32, any::<bool>()), 1..120),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let mut seconds = 0;
        let mut inputs = Vec::new();
        for (gap, device, level, tilt, wet) in steps {
            seconds += gap;
            let payload = format!(r#"{{"level_mm":{level},"tilt_deg":{tilt},"water_present":{wet}}}"#);
            inputs.push((at(seconds), frame(&format!("MH-{device}"), at(seconds), &payload)));
        }
        prop_assert_eq!(story(&inputs, &[]), story(&inputs, &cuts));
    }
}

#[test]
fn a_device_with_five_points_and_all_rules_takes_less_than_two_kilobytes() {
    let mut engine = engine(everything());
    for hours in 0..(40 * 24) {
        level(&mut engine, hours * HOUR, rhythm(hours));
    }
    let state = engine.devices.first().unwrap();
    let bytes = postcard::to_stdvec(state).unwrap().len();
    assert!(bytes < 2_048, "{bytes}");
}

#[test]
fn a_value_that_is_the_same_after_a_day_without_readings_is_no_flat_line() {
    let mut engine = engine(facts());
    let mut stuck = |seconds: i64| {
        let effects = send(&mut engine, "MH-1", seconds, r#"{"level_mm":10}"#);
        effects.alarms.iter().any(|alarm| alarm.condition == "sensor_stuck")
    };
    assert!(!stuck(0));
    for hour in 0..6 {
        assert!(!stuck(86_400 + hour * 3_600), "{hour} hours");
    }
    assert!(stuck(86_400 + 6 * 3_600));
}
