//! Alarms with one cause become one incident, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::incident::{GroupRule, IncidentKind, RainLevel, RainSignal};
use kerbside_model::site::SiteFacts;
use kerbside_model::{
    Alarm, Case, Effects, Input, OperatorAction, OutboxTask, ServiceState, Severity, Site, Suppression, Timestamp,
};
use proptest::prelude::*;

use super::support::*;
use crate::{ENGINE_VERSION, Engine, Incident};

/// Two degrees of a meridian in steps of about 1.1 km, all on one parent.
fn street(count: usize, parent: &str) -> SiteFacts {
    let devices = (0..count).map(|number| kerbside_model::Device {
        position: Some((116.3, 39.9 + 0.01 * (number % 10) as f64)),
        parent: parent.to_owned(),
        ..device(&format!("D-{number:04}"), ServiceState::InService)
    });
    SiteFacts { devices: devices.collect(), ..facts() }
}

/// Frames of many devices at once.
fn all(engine: &mut Engine, devices: std::ops::Range<usize>, seconds: i64, payload: &str) -> Effects {
    let inputs: Vec<Input> = devices.map(|number| frame(&format!("D-{number:04}"), at(seconds), payload)).collect();
    engine.step(at(seconds), &inputs)
}

fn opened(effects: &Effects) -> Vec<String> {
    let mut cases: BTreeMap<&str, &Case> = BTreeMap::new();
    effects.cases.iter().for_each(|case| {
        cases.entry(&case.id).or_insert(case);
    });
    let is_new = |case: &&&Case| case.opened_at == case.updated_at;
    let mut opened: Vec<String> =
        cases.values().filter(is_new).map(|case| format!("{} {}", case.device, case.condition)).collect();
    opened.sort();
    opened
}

fn open(engine: &Engine) -> Vec<Incident> {
    engine.incidents().into_iter().filter(|incident| incident.ended_at.is_none()).collect()
}

const CALM: &str = r#"{"level_mm":10}"#;
const FULL: &str = r#"{"level_mm":500}"#;

#[test]
fn devices_that_fall_silent_together_are_one_case_at_their_parent() {
    let mut engine = engine(street(8, "FEEDER-1"));
    for number in 0..8 {
        // Spread over one period of ten minutes.
        all(&mut engine, number..number + 1, number as i64 * 70, CALM);
    }
    // Six of eight never speak again; the others go on.
    let mut effects = Effects::default();
    for round in 1..=6 {
        let later = all(&mut engine, 0..2, 600 * round, CALM);
        effects.cases.extend(later.cases);
        effects.alarms.extend(later.alarms);
    }
    assert_eq!(opened(&effects), ["FEEDER-1 outage"]);
    let incidents = open(&engine);
    assert_eq!((incidents.len(), incidents[0].kind, incidents[0].standing.len()), (1, IncidentKind::Outage, 6));
    assert!(effects.alarms.iter().all(|alarm| alarm.suppressed == Some(Suppression::Incident)), "{effects:?}");
    // Five come back. The one that does not gets a case of its own when the outage is over.
    all(&mut engine, 0..7, 4_200, CALM);
    let mut after = Effects::default();
    for round in 8..=12 {
        let later = all(&mut engine, 0..7, 600 * round, CALM);
        after.cases.extend(later.cases);
    }
    assert_eq!(opened(&after), ["D-0007 silent"]);
    assert_eq!(open(&engine), []);
    let ended = &engine.incidents()[0];
    assert!(
        ended.explanation.contains("6 devices") && ended.explanation.contains("still standing: D-0007"),
        "{}",
        ended.explanation
    );
    assert!(ended.explanation_zh.contains("仍未解除：D-0007"), "{}", ended.explanation_zh);
}

#[test]
fn one_silent_device_among_many_is_its_own_case() {
    let mut engine = engine(street(8, "FEEDER-1"));
    all(&mut engine, 0..8, 0, CALM);
    let mut effects = Effects::default();
    for round in 1..=6 {
        effects.cases.extend(all(&mut engine, 1..8, 600 * round, CALM).cases);
    }
    assert_eq!((opened(&effects), open(&engine)), (vec!["D-0000 silent".to_owned()], Vec::new()));
}

#[test]
fn a_silent_parent_explains_its_silent_children() {
    let mut facts = street(4, "POLE-7");
    facts.devices.push(device("POLE-7", ServiceState::InService));
    let mut engine = engine(facts);
    all(&mut engine, 0..4, 100, CALM);
    send(&mut engine, "POLE-7", 0, CALM);
    let mut effects = Effects::default();
    for round in 1..=6 {
        // Two of four children live on batteries: fewer than three fall silent.
        let later = all(&mut engine, 2..4, 600 * round, CALM);
        effects.cases.extend(later.cases);
    }
    assert_eq!(opened(&effects), ["POLE-7 silent"]);
    assert_eq!(open(&engine)[0].standing, ["D-0000", "D-0001"]);
    // The pole comes back, and one of them with it.
    let mut effects = Effects::default();
    for round in 7..=12 {
        effects.cases.extend(send(&mut engine, "POLE-7", 600 * round - 1, CALM).cases);
        effects.cases.extend(all(&mut engine, 1..4, 600 * round, CALM).cases);
    }
    assert_eq!((opened(&effects), open(&engine)), (vec!["D-0000 silent".to_owned()], Vec::new()));
}

#[test]
fn a_storm_is_one_case_beside_those_of_the_first_two_devices_and_ends_with_a_summary() {
    let mut engine = engine(street(30, ""));
    all(&mut engine, 0..30, 0, CALM);
    let mut told = Vec::new();
    let mut cases = Vec::new();
    for number in 0..30 {
        let seconds = 600 + number as i64 * 60;
        all(&mut engine, number + 1..30, seconds, CALM);
        let effects = all(&mut engine, 0..number + 1, seconds, r#"{"level_mm":460}"#);
        cases.extend(opened(&effects));
        told.extend(notices(&effects));
        // A hold of 30 s.
        let effects = tick(&mut engine, seconds + 59);
        told.extend(notices(&effects));
        cases.extend(opened(&effects));
    }
    assert!(engine.has_storm());
    assert_eq!(cases, ["D-0000 surcharged", "D-0001 surging", "D-0001 surcharged", "D-0000 storm"]);
    assert_eq!(told.iter().filter(|notice| *notice == "first:Grown").count(), 2, "at 10 and 30 devices: {told:?}");
    let mut ends = Vec::new();
    for round in 1..=20 {
        let effects = all(&mut engine, 0..30, 2_400 + 600 * round, CALM);
        ends.extend(effects.outbox);
    }
    assert!(!engine.has_storm());
    let over: Vec<_> = ends
        .iter()
        .filter_map(|row| match &row.task {
            OutboxTask::Notify(notice) => Some(notice),
            OutboxTask::OpenCase(_) => None,
        })
        .filter(|notice| notice.reason == kerbside_model::NoticeReason::Over)
        .collect();
    assert_eq!(over.len(), 1);
    assert!(over[0].report.explanation.contains("30 devices"), "{}", over[0].report.explanation);
    assert!(over[0].report.explanation_zh.contains("仍未解除：无"), "{}", over[0].report.explanation_zh);
}

#[test]
fn while_a_rainstorm_signal_is_in_force_the_first_place_under_water_is_a_storm() {
    let mut engine = engine(street(3, ""));
    let signal = RainSignal { level: RainLevel::Orange, until: at(3_600) };
    all(&mut engine, 0..3, 0, CALM);
    all(&mut engine, 0..1, 500, FULL);
    tick(&mut engine, 540);
    assert!(!engine.has_storm());
    act(&mut engine, 550, OperatorAction::RainSignal { signal, by: "wang".to_owned() });
    assert!(engine.has_storm(), "what stood before counts");
    assert_eq!(opened(&all(&mut engine, 1..2, 560, FULL)), Vec::<String>::new(), "it is in the storm's case");
}

#[test]
fn a_rain_station_over_its_limit_is_a_signal_as_well() {
    let mut facts = street(2, "");
    let mut station = profile();
    station.conditions[0].name = "heavy_rain".into();
    facts.profiles.push(Arc::new(station));
    facts.devices.push(kerbside_model::Device { profile: 1, ..device("RAIN-1", ServiceState::InService) });
    let mut engine = engine(facts);
    send(&mut engine, "RAIN-1", 0, r#"{"cover_open":true}"#);
    all(&mut engine, 0..1, 500, FULL);
    tick(&mut engine, 540);
    assert!(engine.has_storm());
    send(&mut engine, "RAIN-1", 600, r#"{"cover_open":false}"#);
    assert!(engine.incidents.rain_stations.is_empty());
}

#[test]
fn rain_that_raises_levels_and_nothing_that_opens_a_case_is_an_incident_without_a_case() {
    let mut facts = street(5, "");
    Arc::make_mut(&mut facts.profiles[0]).conditions[4].opens_case = false;
    let mut engine = engine(facts);
    all(&mut engine, 0..5, 0, r#"{"level_mm":200}"#);
    all(&mut engine, 0..5, 60, r#"{"level_mm":300}"#);
    assert_eq!((open(&engine)[0].case_id.as_ref(), open(&engine)[0].standing.len()), (None, 5));
    assert_eq!(engine.open_cases(), 0);
    all(&mut engine, 0..5, 120, FULL);
    assert_eq!(opened(&tick(&mut engine, 160)), ["D-0000 storm"], "the first that asks for a case");
}

#[test]
fn danger_to_life_keeps_its_own_case_in_an_incident() {
    let mut engine = engine(street(4, ""));
    let mut cases = Vec::new();
    for number in 0..4 {
        cases.extend(opened(&all(&mut engine, number..number + 1, number as i64, r#"{"cover_open":true}"#)));
    }
    assert_eq!(cases.len(), 4, "each open cover is a trap: {cases:?}");
    // 1.1 km apart: no thief.
    assert_eq!(open(&engine), []);
}

#[test]
fn covers_opened_within_200_metres_are_one_incident_and_each_has_its_case() {
    let mut facts = street(3, "");
    for (number, device) in facts.devices.iter_mut().enumerate() {
        device.position = Some((116.3 + 0.001 * number as f64, 39.9));
    }
    let mut engine = engine(facts);
    for number in 0..3 {
        all(&mut engine, number..number + 1, number as i64 * 600, r#"{"cover_open":true}"#);
    }
    let incidents = open(&engine);
    assert_eq!((incidents[0].kind, incidents[0].devices.len()), (IncidentKind::Covers, 3));
    assert_eq!((incidents[0].case_id.as_ref(), engine.open_cases()), (None, 3));
}

#[test]
fn three_dark_lamps_on_one_circuit_are_one_case_of_the_circuit() {
    let mut facts = street(6, "CIRCUIT-3");
    facts.incidents.groups = vec![GroupRule {
        condition: "leaking".to_owned(),
        devices: 3,
        share: 0.0,
        within: Duration::from_secs(86_400),
        becomes: "circuit_leaking".to_owned(),
        title: "leakage on a circuit".to_owned(),
        title_zh: "回路漏电".to_owned(),
        severity: Severity::Major,
        tag: None,
    }];
    let profile = Arc::make_mut(&mut facts.profiles[0]);
    profile.detectors[4].severity = Severity::Major;
    let mut engine = engine(facts);
    let mut cases = Vec::new();
    for number in 0..5 {
        let payload = r#"{"leakage_ma":50,"water_present":true}"#;
        cases.extend(opened(&all(&mut engine, number..number + 1, number as i64 * 60, payload)));
    }
    assert_eq!(cases, ["D-0000 leaking", "D-0001 leaking", "CIRCUIT-3 circuit_leaking"]);
    assert_eq!(open(&engine)[0].standing.len(), 5);
}

#[test]
fn after_an_upgrade_an_outage_joins_its_open_case() {
    let mut old = engine(street(4, "FEEDER-1"));
    let (mut alarms, mut cases) = (BTreeMap::new(), BTreeMap::new());
    all(&mut old, 0..4, 0, CALM);
    for minute in 1..60 {
        let effects = tick(&mut old, minute * 60);
        effects.alarms.into_iter().for_each(|alarm| drop(alarms.insert(alarm.id.clone(), alarm)));
        effects.cases.into_iter().for_each(|case| drop(cases.insert(case.id.clone(), case)));
    }
    assert_eq!((alarms.len(), cases.len()), (4, 1));
    let site = Arc::clone(old.site());
    let (alarms, cases) = (alarms.into_values().collect(), cases.into_values().collect());
    let mut new = Engine::from_tables(Arc::clone(&site), alarms, cases, at(3_600));
    let effects = new.step(at(3_600), &[Input::Site(site)]);
    assert_eq!((effects.counts.cases_opened, new.open_cases(), open(&new).len()), (0, 1, 1));
    assert_eq!(open(&new)[0].standing.len(), 4);
}

#[test]
fn a_storm_of_five_thousand_devices_is_one_incident() {
    let mut engine = engine(street(5_000, ""));
    all(&mut engine, 0..5_000, 0, CALM);
    all(&mut engine, 0..5_000, 700, r#"{"level_mm":460}"#);
    tick(&mut engine, 740);
    let incidents = open(&engine);
    assert_eq!((incidents.len(), incidents[0].devices.len(), engine.open_cases()), (1, 5_000, 3));
    all(&mut engine, 0..5_000, 800, CALM);
    assert_eq!(open(&engine)[0].standing.len(), 0);
}

/// What stands and is explained by nothing, and cases that are there twice.
fn faults(engine: &Engine) -> Vec<String> {
    let mut faults = Vec::new();
    let incidents = open(engine);
    let alarms = engine.devices.iter().flat_map(|state| state.conditions.iter());
    for alarm in alarms.filter_map(|(_, slot)| slot.alarm.as_deref()) {
        let is_held = |alarm: &Alarm| {
            incidents.iter().any(|incident| incident.case_id.is_some() && incident.standing.contains(&alarm.device))
        };
        match (&alarm.case_id, alarm.suppressed) {
            (Some(_), _) => {}
            (None, Some(Suppression::Incident)) if !is_held(alarm) => {
                faults.push(format!("{} {} is in no incident that stands", alarm.device, alarm.condition));
            }
            (None, Some(_)) => {}
            (None, None) => faults.push(format!("{} {} has no case", alarm.device, alarm.condition)),
        }
    }
    let mut subjects = BTreeSet::new();
    for case in engine.cases.all().filter(|case| !case.state.is_final()) {
        if !subjects.insert((&case.device, &case.condition)) {
            faults.push(format!("{} {} has two open cases", case.device, case.condition));
        }
    }
    faults
}

/// A street of twelve devices on two feeders, some of which never speak.
fn small_town() -> SiteFacts {
    let mut facts = street(12, "FEEDER-1");
    for device in facts.devices.iter_mut().skip(6) {
        device.parent = "FEEDER-2".to_owned();
    }
    facts
}

fn inputs() -> impl Strategy<Value = Vec<(Timestamp, Input)>> {
    let payload = prop_oneof![Just(FULL), Just(CALM), Just(r#"{"cover_open":true}"#), Just(r#"{"cover_open":false}"#)];
    let one = (1_i64..900, 0..12_usize, payload);
    prop::collection::vec(one, 1..80).prop_map(|steps| {
        let mut seconds = 0;
        let mut inputs = Vec::new();
        for (gap, number, payload) in steps {
            seconds += gap;
            inputs.push((at(seconds), frame(&format!("D-{number:04}"), at(seconds), payload)));
        }
        inputs
    })
}

/// The incidents after each cut, with what is wrong.
fn run(inputs: &[(Timestamp, Input)], cut_every: usize, restarts: bool) -> (Vec<Incident>, Vec<String>) {
    let mut engine = engine(small_town());
    let mut found = Vec::new();
    for batch in inputs.chunks(cut_every) {
        let now = batch[batch.len() - 1].0;
        let inputs: Vec<Input> = batch.iter().map(|(_, input)| input.clone()).collect();
        engine.step(now, &inputs);
        found.extend(faults(&engine));
        if restarts {
            engine = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &engine.snapshot()).unwrap();
        }
    }
    (engine.incidents(), found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_alarm_is_lost_and_batching_and_restarts_change_no_incident(inputs in inputs(), cut in 1..20_usize) {
        let (whole, faults) = run(&inputs, usize::MAX, false);
        prop_assert_eq!(faults, Vec::<String>::new());
        let (cut_up, faults) = run(&inputs, cut, false);
        prop_assert_eq!(faults, Vec::<String>::new());
        prop_assert_eq!(&whole, &cut_up);
        prop_assert_eq!(&whole, &run(&inputs, cut, true).0);
    }
}

#[test]
fn a_site_that_loses_its_devices_ends_their_incident() {
    let mut engine = engine(street(4, "FEEDER-1"));
    all(&mut engine, 0..4, 0, CALM);
    tick(&mut engine, 3_600);
    assert_eq!(open(&engine).len(), 1);
    let site = Arc::new(Site::new(street(1, "FEEDER-1")));
    engine.step(at(3_700), &[Input::Change { site, by: "wang".to_owned() }]);
    assert_eq!(open(&engine)[0].standing, ["D-0000"]);
    tick(&mut engine, 3_700 + 3_600);
    assert_eq!((open(&engine), faults(&engine)), (Vec::new(), Vec::new()));
}
