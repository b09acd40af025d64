//! Rules over several points: combinations, expressions, spikes and the load of lamps.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::document::{Problem, Problems};
use kerbside_model::profile::{Combination, Profile, Test, parse_profile_text};
use kerbside_model::site::SiteFacts;
use kerbside_model::{Effects, Input, PointReading, Quality, Timestamp, Value};
use proptest::prelude::*;

use super::support::*;
use crate::last::LastReadings;
use crate::together::Together;
use crate::{ENGINE_VERSION, Engine};

const MINUTE: i64 = 60;

/// A pole whose profile has these detectors, in flow style without braces.
fn pole(detectors: &[&str]) -> Profile {
    let listed: Vec<String> = detectors.iter().map(|detector| format!("  - {{{detector}}}\n")).collect();
    let text = format!(
        "profile: acme-pole\nversion: 1\nkind: pole\nvendor: Acme\nmodel: P\ninterval: 10m\n\
         payload: {{format: json}}\npoints:\n  \
         - {{name: leakage_ma, path: leakage_ma, range: {{min: 0, max: 10000}}, quality: {{range: {{min: 0, max: 5000}}}}}}\n  \
         - {{name: water_present, path: water_present}}\n  - {{name: water_depth_mm, path: water_depth_mm}}\n  \
         - {{name: state, type: enumeration, path: state, map: {{0: idle, 1: fault}}}}\n\
         detectors:\n{}\
         samples:\n  - {{name: good, json: {{leakage_ma: 5}}, readings: {{leakage_ma: 5}}}}\n  \
         - {{name: bad, text: '', error: x}}\n",
        listed.concat()
    );
    let problems = Problems::default();
    let profile = parse_profile_text("acme.yaml", &text, &problems);
    let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
    profile.unwrap_or_else(|| panic!("{}", found.join("\n")))
}

fn street(detectors: &[&str]) -> SiteFacts {
    SiteFacts { profiles: vec![Arc::new(pole(detectors))], ..facts() }
}

const WET_LEAK: &str = "condition: leaking, severity: major, expression: {cel: \
                        'leakage_ma >= 30 && (water_present || water_depth_mm >= 20)', clear: leakage_ma <= 20}";

fn pole_sends(engine: &mut Engine, minute: i64, payload: &str) -> Vec<String> {
    alarms(&send(engine, "MH-1", minute * MINUTE, payload))
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn points_that_come_in_different_frames_are_wrong_together() {
    let mut engine = engine(street(&[WET_LEAK]));
    assert_eq!(pole_sends(&mut engine, 0, r#"{"water_present":true}"#), nothing());
    let raised = send(&mut engine, "MH-1", 5 * MINUTE, r#"{"leakage_ma":46}"#);
    assert_eq!(alarms(&raised), ["leaking:active"]);
    assert_eq!(
        raised.alarms[0].explanation,
        "leakage current 46 mA, water present: yes; wrong while leakage current ≥ 30 mA and (water present or \
         depth of water ≥ 20 mm)"
    );
    assert_eq!(
        raised.alarms[0].explanation_zh,
        "漏电电流 46 mA，水浸：是；判据：漏电电流 ≥ 30 mA 且 （水浸 或 积水深度 ≥ 20 mm）"
    );
    let evidence = raised.alarms[0].evidence.as_ref().unwrap();
    assert_eq!((evidence.rule.as_str(), evidence.point.as_str()), ("expression", "leakage_ma"));
    assert!(evidence.grounds[0].en.contains("over while leakage current ≤ 20 mA"), "{:?}", evidence.grounds);
    // Between raising and clearing, whatever the water does.
    assert_eq!(pole_sends(&mut engine, 6, r#"{"leakage_ma":25,"water_present":false,"water_depth_mm":0}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 7, r#"{"leakage_ma":19}"#), ["leaking:cleared"]);
}

#[test]
fn what_is_not_known_says_nothing_and_what_is_known_decides() {
    let mut engine = engine(street(&[WET_LEAK]));
    // Nobody knows of any water.
    assert_eq!(pole_sends(&mut engine, 0, r#"{"leakage_ma":46}"#), nothing());
    // One of both waters is enough.
    assert_eq!(pole_sends(&mut engine, 1, r#"{"water_depth_mm":60}"#), ["leaking:active"]);
    // The alarm stands while the pole says nothing of its leakage.
    assert_eq!(pole_sends(&mut engine, 20, r#"{"water_depth_mm":0,"water_present":false}"#), nothing());
}

#[test]
fn old_values_are_not_known_and_what_stands_on_them_goes_stale() {
    let mut engine = engine(street(&[WET_LEAK]));
    pole_sends(&mut engine, 0, r#"{"water_present":true}"#);
    // Three intervals of ten minutes.
    assert_eq!(pole_sends(&mut engine, 31, r#"{"leakage_ma":46}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 32, r#"{"water_present":true}"#), ["leaking:active"]);
    let mut told = Vec::new();
    for minute in 33..70 {
        told.extend(alarms(&send(&mut engine, "MH-1", minute * MINUTE, r#"{"leakage_ma":46}"#)));
        told.extend(
            alarms(&tick(&mut engine, minute * MINUTE + 30)).into_iter().map(|alarm| format!("{minute} {alarm}")),
        );
    }
    assert!(told.iter().any(|line| line.ends_with("leaking:stale")), "{told:?}");
    assert_eq!(pole_sends(&mut engine, 71, r#"{"water_present":true}"#), ["leaking:active"]);
}

#[test]
fn what_a_value_leaves_unknown_goes_stale_with_it() {
    let mut engine = engine(street(&[
        "condition: flooded, severity: major, combination: {any: [{point: water_present, equals: true}, \
         {point: water_depth_mm, above: 150}]}",
    ]));
    assert_eq!(pole_sends(&mut engine, 0, r#"{"water_present":false,"water_depth_mm":10}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 40, r#"{"water_present":true}"#), ["flooded:active"]);
    // The depth is too old to say that all is well.
    assert_eq!(pole_sends(&mut engine, 45, r#"{"water_present":false}"#), ["flooded:stale"]);
    assert_eq!(pole_sends(&mut engine, 46, r#"{"water_depth_mm":10}"#), ["flooded:cleared"]);
}

#[test]
fn a_suspect_value_alone_raises_nothing_unless_life_is_at_risk() {
    let both = "expression: {cel: leakage_ma > 30.0 && water_present}";
    let mut calm = engine(street(&[&format!("condition: leaking, severity: major, {both}")]));
    assert_eq!(pole_sends(&mut calm, 0, r#"{"leakage_ma":6000,"water_present":true}"#), nothing());
    assert_eq!(pole_sends(&mut calm, 1, r#"{"leakage_ma":4000,"water_present":true}"#), ["leaking:active"]);
    let mut critical = engine(street(&[&format!("condition: leaking, severity: critical, {both}")]));
    assert_eq!(pole_sends(&mut critical, 0, r#"{"leakage_ma":6000,"water_present":true}"#), ["leaking:active"]);
}

#[test]
fn a_combination_counts_holds_and_watches_like_every_other_rule() {
    let mut engine = engine(street(&[
        "condition: leaking, severity: major, count: 2, combination: {any: [{point: leakage_ma, above: 30}, \
         {all: [{point: water_present, equals: true}, {point: state, equals: fault}]}]}",
    ]));
    assert_eq!(pole_sends(&mut engine, 0, r#"{"leakage_ma":46}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 1, r#"{"leakage_ma":2,"water_present":false}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 2, r#"{"water_present":true,"state":1}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 3, r#"{"leakage_ma":2}"#), ["leaking:active"]);
    assert_eq!(pole_sends(&mut engine, 4, r#"{"state":0}"#), ["leaking:cleared"]);
}

#[test]
fn ages_and_known_values_can_be_asked_for() {
    let mut engine = engine(street(&[
        "condition: leaking, severity: major, expression: {cel: '!known(water_present) && age(water_present) > 1800.0 \
         && leakage_ma > 30.0'}",
    ]));
    assert_eq!(pole_sends(&mut engine, 0, r#"{"leakage_ma":46}"#), nothing(), "there never was one");
    assert_eq!(pole_sends(&mut engine, 1, r#"{"leakage_ma":46,"water_present":false}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 30, r#"{"leakage_ma":46}"#), nothing());
    assert_eq!(pole_sends(&mut engine, 32, r#"{"leakage_ma":46}"#), ["leaking:active"]);
    assert_eq!(pole_sends(&mut engine, 33, r#"{"water_present":true}"#), ["leaking:cleared"]);
}

#[test]
fn a_sensor_that_jumps_and_comes_back_again_and_again_is_told() {
    let mut engine = engine(street(&[
        "condition: sensor_stuck, severity: notice, spike: {point: water_depth_mm, by: 100, times: 3, window: 1h}",
    ]));
    let mut told = Vec::new();
    for (minute, depth) in (0_i64..).zip([0, 300, 0, 0, 310, 0, 400, 400, 400, 0, 0, 290, 0]) {
        let effects = send(&mut engine, "MH-1", minute * MINUTE, &format!(r#"{{"water_depth_mm":{depth}}}"#));
        told.extend(effects.alarms.iter().map(|alarm| (minute, alarm.explanation.clone())));
    }
    let said = "depth of water jumped by 100 mm or more and came back 3 times in 1 h, now 0 mm";
    assert_eq!(told, [(12, said.to_owned())]);
}

fn everything() -> SiteFacts {
    street(&[
        WET_LEAK,
        "condition: sensor_stuck, severity: notice, spike: {point: water_depth_mm, by: 100, times: 2, window: 3h, readings: 2}",
        "condition: flooded, severity: minor, combination: {any: [{point: water_present, equals: true}, \
         {point: water_depth_mm, above: 150}], fresh: 1h}, hold: 20m",
        "condition: lamp_out, severity: minor, load: {point: leakage_ma, switches: water_present, least: 5, below: 20, readings: 3}",
        "condition: overheated, severity: minor, load: {point: leakage_ma, switches: water_present, least: 5, \
         outside: {min: 75, max: 125, nights: 1}, readings: 3}",
    ])
}

fn story(inputs: &[(Timestamp, Input)], cuts: &[usize]) -> Vec<String> {
    let mut engine = engine(everything());
    let mut lines = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (inputs.len() + 1)).chain([inputs.len()]).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut first = 0;
    for end in ends.into_iter().filter(|end| *end > 0) {
        let batch: Vec<Input> = inputs[first..end].iter().map(|(_, input)| input.clone()).collect();
        let effects: Effects = engine.step(inputs[end - 1].0, &batch);
        lines.extend(effects.alarms.iter().map(|alarm| {
            let (state, at) = (alarm.state.name(), alarm.updated_at);
            format!("{} {} {state} {at} {}", alarm.device, alarm.condition, alarm.explanation)
        }));
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
    fn rules_over_several_points_do_not_depend_on_batches_and_restarts(
        steps in prop::collection::vec((1_i64..9_000, 1..3_u8, 0..7_u8, 0..100_i32, 0..400_i32, any::<bool>()), 1..150),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let mut seconds = 0;
        let mut inputs = Vec::new();
        for (gap, device, which, leakage, depth, wet) in steps {
            seconds += gap;
            let mut parts = Vec::new();
            if which != 1 { parts.push(format!(r#""leakage_ma":{leakage}"#)); }
            if which != 2 { parts.push(format!(r#""water_present":{wet}"#)); }
            if which % 3 != 0 { parts.push(format!(r#""water_depth_mm":{depth}"#)); }
            let payload = format!("{{{}}}", parts.join(","));
            inputs.push((at(seconds), frame(&format!("MH-{device}"), at(seconds), &payload)));
        }
        let (whole, cut) = (story(&inputs, &[]), story(&inputs, &cuts));
        let more: Vec<&String> = cut.iter().filter(|line| !whole.contains(line)).collect();
        let less: Vec<&String> = whole.iter().filter(|line| !cut.contains(line)).collect();
        prop_assert!(whole == cut, "only in pieces: {more:#?}, only in one: {less:#?}, {} {}", cut.len(), whole.len());
    }
}

/// Expressions over the pole's points that are wholly decided, with numbers that both sides write as doubles.
fn expression() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("leakage_ma".to_owned()),
        Just("water_depth_mm".to_owned()),
        (-40_i32..400).prop_map(|number| format!("{}.5", number)),
    ];
    let number = number.prop_recursive(2, 6, 2, |inner| {
        (inner.clone(), prop::sample::select(vec!["+", "-", "*"]), inner)
            .prop_map(|(left, sign, right)| format!("{left} {sign} {right}"))
    });
    let relation = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let test = prop_oneof![
        Just("water_present".to_owned()),
        Just("true".to_owned()),
        Just("state == \"fault\"".to_owned()),
        Just("state in ['idle', 'fault']".to_owned()),
        Just("!(state != 'idle')".to_owned()),
        (number.clone(), relation, number).prop_map(|(left, relation, right)| format!("{left} {relation} {right}")),
    ];
    test.prop_recursive(3, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} && {right}")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} || {right}")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) == ({right})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(when, yes, no)| format!("({when} ? {yes} : {no})")),
            inner.clone().prop_map(|inner| format!("!({inner})")),
            inner.prop_map(|inner| format!("({inner})")),
        ]
    })
}

/// What we make of an expression, by values that all are known.
fn ours(text: &str, leakage: f64, depth: f64, wet: bool, state: &str) -> Option<bool> {
    let detector = format!(
        "condition: leaking, severity: major, expression: {{cel: \"({}) && known(leakage_ma)\"}}",
        text.replace('"', "\\\"")
    );
    let profile = pole(&[&detector]);
    let combination: &Combination = profile.detectors[0].rule.combination().unwrap();
    let values = [Value::Number(leakage), Value::Boolean(wet), Value::Number(depth), Value::Text(Arc::from(state))];
    let readings: Vec<PointReading> = (0_u16..)
        .zip(values)
        .map(|(point, value)| PointReading { point, value: Some(value), quality: Quality::GOOD })
        .collect();
    let mut last = LastReadings::default();
    last.resize(4);
    last.keep(&readings, START, START);
    let together = Together::new((&profile, Some(Duration::from_secs(600))), &last, combination, START);
    let test: &Test = &combination.raise;
    together.test(test)
}

/// What the interpreter of the crate makes of it.
fn theirs(text: &str, leakage: f64, depth: f64, wet: bool, state: &str) -> Option<bool> {
    let program = cel::Program::compile(text).unwrap();
    let mut context = cel::Context::default();
    context.add_variable("leakage_ma", leakage).unwrap();
    context.add_variable("water_depth_mm", depth).unwrap();
    context.add_variable("water_present", wet).unwrap();
    context.add_variable("state", state).unwrap();
    match program.execute(&context).unwrap() {
        cel::Value::Bool(holds) => Some(holds),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_expression_means_what_it_means_to_another_interpreter_of_cel(
        text in expression(), leakage in 0..100_i32, depth in 0..400_i32, wet in any::<bool>(), is_idle in any::<bool>(),
    ) {
        // Neither side takes more.
        prop_assume!(text.len() < 400 && text.matches('(').count() < 8);
        let (leakage, depth) = (f64::from(leakage) + 0.5, f64::from(depth) + 0.5);
        let state = if is_idle { "idle" } else { "fault" };
        let theirs = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(64 << 20);
            builder.spawn_scoped(scope, || theirs(&text, leakage, depth, wet, state)).unwrap().join().unwrap()
        });
        prop_assert_eq!(ours(&text, leakage, depth, wet, state), theirs, "{}", text);
    }
}
