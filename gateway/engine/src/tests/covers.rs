//! What covers need: permits that explain an opening for a while only, gas that everybody is warned of, water that takes
//! the radio with it, an echo that is lost, and a place between two limits.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::*;
use kerbside_model::site::SiteFacts;
use kerbside_model::{MaskKind, OperatorAction, Severity, Value};

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const HOUR: i64 = 3_600;

fn street(change: impl FnOnce(&mut Profile)) -> SiteFacts {
    let mut changed = profile();
    change(&mut changed);
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts() }
}

fn permit(engine: &mut Engine, from: i64, until: i64) {
    let mask = OperatorAction::Mask {
        device: "MH-1".to_owned(),
        kind: MaskKind::Permit,
        from: at(from),
        until: at(until),
        by: "duty".to_owned(),
        reason: "cable".to_owned(),
    };
    act(engine, from, mask);
}

#[test]
fn a_permit_explains_an_opening_for_so_long_and_the_case_says_why_it_does_no_more() {
    let mut engine = engine(street(|profile| {
        profile.conditions[0].permit_at_most = Some(Duration::from_secs(4 * 3_600));
        profile.interval = None;
    }));
    permit(&mut engine, 0, 12 * HOUR);
    let opened = send(&mut engine, "MH-1", 60, r#"{"cover_open":true}"#);
    assert_eq!(opened.counts.cases_opened, 0);
    // The process ends in between: the time goes on.
    let mut engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
    assert_eq!(tick(&mut engine, 4 * HOUR + 59).counts.cases_opened, 0);
    let late = tick(&mut engine, 4 * HOUR + 60);
    assert_eq!(late.counts.cases_opened, 1);
    let report = &late.cases[0].report;
    assert!(report.explanation.contains("stands for 4 h under its permit"), "{}", report.explanation);
    assert!(report.explanation_zh.contains("施工许可期间已持续 4小时"), "{}", report.explanation_zh);
    assert_eq!(tick(&mut engine, 12 * HOUR).counts.cases_opened, 0, "the end of the permit is no second case");
}

#[test]
fn what_a_permit_leaves_behind_is_a_case_that_says_so() {
    let mut engine = engine(street(|profile| profile.interval = None));
    permit(&mut engine, 0, HOUR);
    send(&mut engine, "MH-1", 60, r#"{"cover_open":true}"#);
    let ended = tick(&mut engine, HOUR);
    assert_eq!(ended.counts.cases_opened, 1);
    let report = &ended.cases[0].report;
    assert!(report.explanation.contains("its permit has ended and it still stands"), "{}", report.explanation);
    assert!(report.explanation_zh.contains("施工许可已结束而状况仍在"), "{}", report.explanation_zh);
}

#[test]
fn whoever_is_sent_to_a_cover_with_gas_below_is_told_not_to_enter() {
    let mut engine = engine(street(|profile| {
        let gas = Condition {
            title: "dangerous gas, do not enter".to_owned(),
            title_zh: "有害气体超限，禁止下井".to_owned(),
            ..condition("gas")
        };
        profile.conditions[3] = gas;
        profile.detectors[4] = detector(3, Severity::Major, Some(4), above(30.0, 20.0));
    }));
    let gas = send(&mut engine, "MH-1", 0, r#"{"leakage_ma":50}"#);
    assert!(gas.alarms[0].explanation.ends_with("; do not enter"), "{}", gas.alarms[0].explanation);
    assert!(gas.alarms[0].explanation_zh.ends_with("；禁止下井"), "{}", gas.alarms[0].explanation_zh);
    let open = send(&mut engine, "MH-1", 60, r#"{"cover_open":true}"#);
    let report = &open.cases[0].report;
    assert!(report.explanation.ends_with("; dangerous gas, do not enter"), "{}", report.explanation);
    assert!(report.explanation_zh.ends_with("；有害气体超限，禁止下井"), "{}", report.explanation_zh);
    assert!(!open.alarms[0].explanation.contains("enter"), "the alarm says only what it is itself");
}

#[test]
fn an_echo_is_lost_only_where_there_was_one() {
    let lost = Guard { point: 2, test: GuardTest::Lost };
    let site = || {
        street(|profile| {
            profile.detectors[0].when = vec![lost.clone()];
            profile.points[2].invalid = vec![RawValue::Number(9_999.0)];
        })
    };
    let open = r#"{"cover_open":true,"level_mm":9999}"#;
    assert_eq!(alarms(&send(&mut engine(site()), "MH-1", 0, open)), Vec::<String>::new(), "it never had an echo");
    let mut engine = engine(site());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true,"level_mm":80}"#);
    let raised = send(&mut engine, "MH-1", 60, open);
    assert_eq!(alarms(&raised), ["displaced:active"]);
    assert!(raised.alarms[0].explanation.contains("level has no value any more"), "{}", raised.alarms[0].explanation);
    assert!(raised.alarms[0].explanation_zh.contains("液位已无有效值"), "{}", raised.alarms[0].explanation_zh);
}

#[test]
fn what_need_not_be_known_holds_until_a_good_value_says_otherwise() {
    let unknown = Guard { point: 2, test: GuardTest::Unknown };
    let mut engine = engine(street(|profile| profile.detectors[0].when = vec![unknown]));
    let raised = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    assert_eq!(alarms(&raised), ["displaced:active"], "it never had a level");
    assert!(
        raised.alarms[0].explanation.contains("while water level is not known"),
        "{}",
        raised.alarms[0].explanation
    );
    assert!(raised.alarms[0].explanation_zh.contains("液位未知"), "{}", raised.alarms[0].explanation_zh);
    let known = send(&mut engine, "MH-1", 60, r#"{"cover_open":true,"level_mm":80}"#);
    assert_eq!(alarms(&known), ["displaced:cleared"]);
}

#[test]
fn a_rule_waits_while_something_else_was_just_switched_and_what_stands_goes_on() {
    let unchanged = Guard { point: 3, test: GuardTest::Unchanged };
    let mut engine = engine(street(|profile| profile.detectors[0].when = vec![unchanged.clone()]));
    let mut says = |second: i64, open: bool, wet: bool| {
        let payload = format!(r#"{{"cover_open":{open},"water_present":{wet}}}"#);
        send(&mut engine, "MH-1", second, &payload)
    };
    assert_eq!(alarms(&says(0, false, false)), Vec::<String>::new());
    assert_eq!(alarms(&says(60, true, true)), Vec::<String>::new(), "the other one changed with it");
    assert_eq!(alarms(&says(120, false, true)), Vec::<String>::new());
    assert_eq!(alarms(&says(180, true, false)), Vec::<String>::new());
    let raised = says(240, true, false);
    assert_eq!(alarms(&raised), ["displaced:active"]);
    assert!(
        raised.alarms[0].explanation.contains("water present is what it was before"),
        "{}",
        raised.alarms[0].explanation
    );
    assert!(raised.alarms[0].explanation_zh.contains("与上次相同"), "{}", raised.alarms[0].explanation_zh);
    assert_eq!(alarms(&says(300, true, true)), Vec::<String>::new(), "it is not over by that");
    assert_eq!(alarms(&says(360, false, true)), ["displaced:cleared"]);
    let mut never_told = super::support::engine(street(|profile| profile.detectors[0].when = vec![unchanged.clone()]));
    let open = send(&mut never_told, "MH-1", 0, r#"{"cover_open":true}"#);
    assert_eq!(alarms(&open), ["displaced:active"], "what never came did not change");
}

#[test]
fn silence_counts_only_where_what_must_hold_besides_does() {
    let site = street(|profile| {
        profile.detectors = vec![Detector {
            when: vec![Guard { point: 3, test: GuardTest::Equals(Value::Boolean(true)) }],
            ..detector(1, Severity::Major, None, Rule::Silence { after: None, missed: 2.0, habit: None, rise: None })
        }];
    });
    let mut dry = engine(site.clone());
    send(&mut dry, "MH-1", 0, r#"{"water_present":false}"#);
    assert_eq!(alarms(&tick(&mut dry, 24 * HOUR)), Vec::<String>::new());
    let mut wet = engine(site);
    send(&mut wet, "MH-1", 0, r#"{"water_present":false}"#);
    send(&mut wet, "MH-1", 600, r#"{"water_present":true}"#);
    assert_eq!(wet.next_timer(), Some(at(1_800)), "the timer is set although no rule has found anything");
    assert_eq!(alarms(&tick(&mut wet, 1_800)), ["silent:active"]);
}

#[test]
fn a_place_between_two_limits_is_settled_and_beyond_them_it_is_not() {
    let rule = Rule::Baseline(Baseline {
        above: 3.0,
        below: Some(10.0),
        clear: 2.0,
        readings: 3,
        steady: 2.0,
        creep_per_day: 0.0,
        circle: None,
        still: None,
    });
    let site = || street(|profile| profile.detectors = vec![detector(0, Severity::Minor, Some(1), rule.clone())]);
    let told = |tilts: &[f64]| {
        let mut engine = engine(site());
        let mut told = Vec::new();
        for (minute, tilt) in (0_i64..).zip(tilts) {
            let effects = send(&mut engine, "MH-1", minute * 60, &format!(r#"{{"tilt_deg":{tilt}}}"#));
            told.extend(alarms(&effects).iter().map(|alarm| format!("{minute} {alarm}")));
        }
        told
    };
    assert_eq!(told(&[8.0, 8.0, 8.0, 13.0]), ["3 displaced:active"]);
    assert_eq!(told(&[8.0, 8.0, 8.0, 30.0, 8.0]), Vec::<String>::new());
}

#[test]
fn what_is_counted_survives_a_restart_and_says_what_is_usual() {
    let rule = Rule::Frequency(Frequency {
        hits: None,
        one_in: 1e6,
        window: Duration::from_secs(3_600),
        lasts: Duration::from_secs(7_200),
        times: 2.0,
        least: 10.0,
        warm_up: 14,
    });
    let site = street(|profile| {
        profile.detectors = vec![detector(0, Severity::Minor, Some(4), rule)];
        profile.put_zone("Asia/Shanghai");
    });
    let mut engine = engine(site);
    let (mut count, mut story) = (0, Vec::new());
    for hour in 0..(19 * 24) {
        count += if hour > 18 * 24 { 90 } else { 20 };
        let effects = send(&mut engine, "MH-1", hour * HOUR, &format!(r#"{{"leakage_ma":{count}}}"#));
        story.extend(effects.alarms.iter().map(|alarm| (hour, alarm.explanation.clone())));
        if hour % 50 == 0 {
            engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
        }
    }
    let expected = (18 * 24 + 2, "leakage current: 90 in 1 h, usually 20 at these hours of the week".to_owned());
    assert_eq!(story.first(), Some(&expected));
}
