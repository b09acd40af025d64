//! The same input gives the same output, however it is cut into batches and wherever the process ends.

use std::sync::Arc;

use kerbside_model::{Input, Timestamp};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

/// What people and platforms would have seen.
fn story(effects: &[kerbside_model::Effects]) -> Vec<String> {
    let mut lines = Vec::new();
    for step in effects {
        for alarm in &step.alarms {
            let id = &alarm.id;
            lines.push(format!("{} {id} {} {} {:?}", alarm.updated_at, alarm.device, alarm.condition, alarm.state));
        }
        for event in &step.case_events {
            lines.push(format!("{} {} {:?} {}", event.at, event.case_id, event.state, event.note));
        }
        lines.extend(step.outbox.iter().map(|row| format!("{} -> {}", row.id, row.target)));
    }
    lines.sort();
    lines
}

fn payloads() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<bool>().prop_map(|open| format!(r#"{{"cover_open":{open}}}"#)),
        (0..60).prop_map(|tilt| format!(r#"{{"tilt_deg":{tilt}}}"#)),
        (0..600).prop_map(|level| format!(r#"{{"level_mm":{level}}}"#)),
        (0..60, any::<bool>()).prop_map(|(leak, wet)| format!(r#"{{"leakage_ma":{leak},"water_present":{wet}}}"#)),
        Just("{".to_owned()),
    ]
}

fn inputs() -> impl Strategy<Value = Vec<(Timestamp, Input)>> {
    let one = (1_i64..1_200, 1..4_u8, payloads());
    prop::collection::vec(one, 1..60).prop_map(|steps| {
        let mut seconds = 0;
        let mut inputs = Vec::new();
        for (gap, device, payload) in steps {
            seconds += gap;
            inputs.push((at(seconds), frame(&format!("MH-{device}"), at(seconds), &payload)));
        }
        inputs
    })
}

fn run(inputs: &[(Timestamp, Input)], cuts: &[usize], restarts: bool) -> Vec<String> {
    let mut engine = engine(facts());
    let mut effects = Vec::new();
    let mut first = 0;
    let ends = cuts.iter().map(|cut| cut % (inputs.len() + 1)).chain([inputs.len()]);
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable();
    for end in ends {
        if end <= first {
            continue;
        }
        let batch: Vec<Input> = inputs[first..end].iter().map(|(_, input)| input.clone()).collect();
        effects.push(engine.step(inputs[end - 1].0, &batch));
        if restarts {
            let bytes = engine.snapshot();
            engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &bytes).unwrap();
        }
        first = end;
    }
    story(&effects)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batching_and_restarts_change_nothing(inputs in inputs(), cuts in prop::collection::vec(any::<usize>(), 0..12)) {
        let whole = run(&inputs, &[], false);
        prop_assert_eq!(&whole, &run(&inputs, &cuts, false));
        prop_assert_eq!(&whole, &run(&inputs, &cuts, true));
    }
}

#[test]
fn a_restored_engine_goes_on_with_its_timers() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let mut restored = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
    assert_eq!(restored.next_timer(), engine.next_timer());
    assert_eq!(notices(&tick(&mut restored, 300)), ["second:Escalated"]);
}

#[test]
fn after_an_upgrade_the_tables_win_and_nothing_is_opened_twice() {
    let mut old = engine(facts());
    let opened = send(&mut old, "MH-1", 0, r#"{"cover_open":true}"#);
    assert!(Engine::restore(Arc::clone(old.site()), ENGINE_VERSION + 1, &old.snapshot()).is_err());
    let site = Arc::clone(old.site());
    let mut new = Engine::from_tables(Arc::clone(&site), opened.alarms.clone(), opened.cases.clone(), at(10));
    new.step(at(10), &[Input::Site(site)]);
    let still = send(&mut new, "MH-1", 20, r#"{"cover_open":true}"#);
    assert_eq!((still.counts.cases_opened, alarms(&still).len()), (0, 0));
    let closed = send(&mut new, "MH-1", 30, r#"{"cover_open":false}"#);
    assert_eq!(closed.alarms[0].id, opened.alarms[0].id);
}
