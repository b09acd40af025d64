//! A learner in a whole engine: what it finds is a note, in words, and a restart changes nothing.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::*;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Alarm, Effects, Severity, Site, Suppression, Value};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const EVERY_SECONDS: i64 = 300;
/// 750 readings and two days.
const QUIET_READINGS: i64 = 1_326;

fn unusual() -> Unusual {
    Unusual {
        mode: LearnerMode::Light,
        warm_up: 750,
        score: 0.6,
        false_per_month: None,
        rest: 24,
        every: None,
        learn_when: Vec::new(),
    }
}

/// The street with a learner at the level alone; its condition is `surging`, which opens cases here.
fn street(severity: Severity, rule: Unusual) -> SiteFacts {
    let mut changed = profile();
    changed.detectors = vec![detector(4, severity, Some(2), Rule::Unusual(rule))];
    changed.put_zone("Asia/Shanghai");
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts() }
}

/// A dry drain with its two peaks a day, in mm.
fn level(reading: i64) -> i64 {
    let minute = (at(reading * EVERY_SECONDS).0 / 60_000 + 8 * 60).rem_euclid(1_440);
    let peak = |around: i64, height: i64| (height - (minute - around).abs() / 4).max(0);
    // Numbers without a pattern, the same every time.
    let mixed = (reading as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let noise = ((mixed >> 33) % 7) as i64 - 3;
    80 + peak(480, 30) + peak(1_200, 20) + noise
}

fn read(engine: &mut Engine, reading: i64, level: i64) -> Effects {
    send(engine, "MH-1", reading * EVERY_SECONDS, &format!(r#"{{"level_mm":{level}}}"#))
}

fn quiet(engine: &mut Engine, readings: std::ops::Range<i64>) -> Vec<Alarm> {
    readings
        .flat_map(|reading| read(engine, reading, level(reading)).alarms)
        .filter(|alarm| alarm.device == "MH-1")
        .collect()
}

#[test]
fn what_never_was_before_is_a_note_that_says_why_and_goes_when_all_is_usual() {
    for mode in [LearnerMode::Light, LearnerMode::Full] {
        let mut engine = engine(street(Severity::Notice, Unusual { mode, ..unusual() }));
        let quiet_ones = quiet(&mut engine, 0..QUIET_READINGS);
        assert!(quiet_ones.is_empty(), "{mode:?}: {} {:?}", quiet_ones[0].explanation, quiet_ones[0].opened_at);
        let raised = read(&mut engine, QUIET_READINGS, 320).alarms;
        let alarm = raised.first().unwrap_or_else(|| panic!("{mode:?} found nothing"));
        assert_eq!((alarm.severity, alarm.suppressed), (Severity::Notice, Some(Suppression::NoCase)));
        assert!(alarm.explanation.starts_with("water level 320, "), "{}", alarm.explanation);
        assert!(alarm.explanation_zh.starts_with("液位 320，"), "{}", alarm.explanation_zh);
        let evidence = alarm.evidence.as_ref().unwrap();
        assert_eq!((evidence.rule.as_str(), evidence.limit), ("unusual", Some(0.6)));
        let grounds: Vec<&str> = evidence.grounds.iter().map(|ground| ground.en.as_str()).collect();
        assert!(grounds.iter().any(|ground| ground.contains("hour of the day")), "{grounds:?}");
        let cleared = quiet(&mut engine, QUIET_READINGS + 1..QUIET_READINGS + 60);
        assert_eq!(cleared.len(), 1, "{mode:?}: {cleared:?}");
        let stood = cleared[0].updated_at.since(alarm.opened_at);
        assert!(stood >= Duration::from_secs(24 * 300) && stood < Duration::from_secs(40 * 300), "{stood:?}");
    }
}

#[test]
fn the_hour_is_that_of_the_site() {
    let mut engine = engine(street(Severity::Notice, Unusual { mode: LearnerMode::Full, ..unusual() }));
    quiet(&mut engine, 0..QUIET_READINGS);
    // 110.5 hours after Friday 16:00 in China.
    let told: Vec<String> = (0..20)
        .flat_map(|after| read(&mut engine, QUIET_READINGS + after, 260).alarms)
        .map(|alarm| alarm.explanation)
        .collect();
    let said = told.first().unwrap();
    assert!(said.contains("Wednesday 06:00") || said.contains("after"), "{said}");
}

#[test]
fn a_case_is_opened_only_above_a_notice_and_where_the_condition_says_so() {
    for (severity, opens_case, expected) in
        [(Severity::Notice, true, 0), (Severity::Major, false, 0), (Severity::Major, true, 1)]
    {
        let mut facts = street(severity, unusual());
        facts.cases.severity_min = Severity::Notice;
        let mut changed = (*facts.profiles[0]).clone();
        changed.conditions[4].opens_case = opens_case;
        facts.profiles = vec![Arc::new(changed)];
        let mut engine = engine(facts);
        quiet(&mut engine, 0..QUIET_READINGS);
        let effects = read(&mut engine, QUIET_READINGS, 320);
        assert_eq!((effects.alarms.len(), effects.cases.len()), (1, expected), "{severity:?} {opens_case}");
    }
}

#[test]
fn only_good_readings_of_the_present_are_learnt() {
    let rule =
        Unusual { learn_when: vec![Guard { point: 3, test: GuardTest::Equals(Value::Boolean(false)) }], ..unusual() };
    let learners = |engine: &Engine| engine.devices[0].detectors[0].memory().cloned();
    let mut engine = engine(street(Severity::Notice, rule));
    for reading in 0..400 {
        let payload = format!(r#"{{"level_mm":{},"water_present":false}}"#, level(reading));
        send(&mut engine, "MH-1", reading * EVERY_SECONDS, &payload);
    }
    let before = learners(&engine);
    for (second, payload) in [
        // Outside of the point's range, without a value, from long ago, and while the guard does not hold.
        (120_100, r#"{"level_mm":9999}"#),
        (120_200, r#"{"tilt_deg":1}"#),
        (120_300, r#"{"level_mm":900,"ts":1799000000000}"#),
        (120_400, r#"{"level_mm":900,"water_present":true}"#),
    ] {
        assert!(alarms(&send(&mut engine, "MH-1", second, payload)).is_empty());
        assert!(learners(&engine) == before, "{payload}");
    }
    send(&mut engine, "MH-1", 120_500, r#"{"level_mm":90,"water_present":false}"#);
    assert!(learners(&engine) != before);
}

#[test]
fn another_score_goes_on_with_what_was_learnt_and_another_mode_begins_anew() {
    let mut engine = engine(street(Severity::Notice, unusual()));
    quiet(&mut engine, 0..QUIET_READINGS);
    let seconds = QUIET_READINGS * EVERY_SECONDS;
    let mut change = |rule: Unusual, after: i64| {
        let site = Arc::new(Site::new(street(Severity::Notice, rule)));
        let input = kerbside_model::Input::Change { site, by: "op".to_owned() };
        engine.step(at(seconds + after), &[input]);
        engine.learner_tally()
    };
    let kept = change(Unusual { score: 0.7, rest: 12, ..unusual() }, 1);
    assert_eq!((kept.series, kept.judging), (1, 1));
    assert!((1_000..2_048).contains(&kept.bytes), "{kept:?}");
    assert_eq!(change(Unusual { mode: LearnerMode::Full, ..unusual() }, 2).series, 0);
}

/// What people would have seen, with scores, and the state that is left.
fn run(levels: &[i64], cuts: &[usize], restarts: bool) -> (Vec<String>, Vec<u8>) {
    let rule = Unusual { warm_up: 60, rest: 10, score: 0.5, ..unusual() };
    let mut engine = engine(street(Severity::Major, rule));
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (levels.len() + 1)).chain([levels.len()]).collect();
    ends.sort_unstable();
    let (mut first, mut lines) = (0, Vec::new());
    for end in ends.into_iter().filter(|end| *end > 0) {
        let frames: Vec<kerbside_model::Input> = (first.min(end)..end)
            .map(|reading| {
                let time = at(reading as i64 * EVERY_SECONDS);
                frame("MH-1", time, &format!(r#"{{"level_mm":{}}}"#, levels[reading]))
            })
            .collect();
        if frames.is_empty() {
            continue;
        }
        let effects = engine.step(at((end as i64 - 1) * EVERY_SECONDS), &frames);
        for alarm in &effects.alarms {
            let grounds = alarm.evidence.as_ref().map(|evidence| evidence.grounds.clone());
            lines.push(format!("{} {:?} {} {grounds:?}", alarm.updated_at, alarm.state, alarm.explanation_zh));
        }
        if restarts {
            let bytes = engine.snapshot();
            engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &bytes).unwrap();
        }
        first = end;
    }
    (lines, engine.snapshot())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batching_and_restarts_change_no_score(
        steps in prop::collection::vec((0_i64..40, 0_u8..20), 150..300),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let levels: Vec<i64> = steps.iter().map(|(noise, burst)| 100 + noise + if *burst == 0 { 900 } else { 0 }).collect();
        let whole = run(&levels, &[], false);
        prop_assert_eq!(&whole, &run(&levels, &cuts, false));
        prop_assert_eq!(&whole, &run(&levels, &cuts, true));
    }
}
