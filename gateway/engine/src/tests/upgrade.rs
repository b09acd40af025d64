//! What is left when the snapshot cannot be read or the profile was edited, and what comes first within a batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::*;
use kerbside_model::site::SiteFacts;
use kerbside_model::{
    Alarm, Case, CaseState, Effects, Input, NoticeReason, OperatorAction, OutboxTask, ServiceState, Severity, Site,
    Suppression, Value,
};

use super::support::*;
use crate::{Engine, Incident};

const HOUR: i64 = 3_600;
const FULL: &str = r#"{"level_mm":500}"#;
const CALM: &str = r#"{"level_mm":10}"#;

/// What the database holds: the last word on each alarm and case.
#[derive(Default)]
struct Tables {
    alarms: BTreeMap<String, Alarm>,
    cases: BTreeMap<String, Case>,
}

impl Tables {
    fn take(&mut self, effects: Effects) {
        self.alarms.extend(effects.alarms.into_iter().map(|alarm| (alarm.id.clone(), alarm)));
        self.cases.extend(effects.cases.into_iter().map(|case| (case.id.clone(), case)));
    }

    /// The engine of the next version, which begins to listen.
    fn upgraded(&self, site: &Arc<Site>, seconds: i64) -> (Engine, Effects) {
        let alarms = self.alarms.values().filter(|alarm| alarm.cleared_at.is_none()).cloned().collect();
        let cases = self.cases.values().filter(|case| case.standing || !case.state.is_final()).cloned().collect();
        let mut engine = Engine::from_tables(Arc::clone(site), alarms, cases, at(seconds));
        let effects = engine.step(at(seconds), &[Input::Site(Arc::clone(site))]);
        (engine, effects)
    }
}

/// Devices a kilometre apart.
fn street(count: usize, parent: &str) -> SiteFacts {
    let devices = (0..count).map(|number| kerbside_model::Device {
        position: Some((116.3, 39.9 + 0.01 * number as f64)),
        parent: parent.to_owned(),
        ..device(&format!("D-{number}"), ServiceState::InService)
    });
    SiteFacts { devices: devices.collect(), ..facts() }
}

fn open(engine: &Engine) -> Vec<Incident> {
    engine.incidents().into_iter().filter(|incident| incident.ended_at.is_none()).collect()
}

fn over(effects: &Effects) -> Vec<String> {
    let told = effects.outbox.iter().filter_map(|row| match &row.task {
        OutboxTask::Notify(notice) if notice.reason == NoticeReason::Over => Some(notice.report.explanation.clone()),
        _ => None,
    });
    told.collect()
}

/// Water at eight places, one after another over some hours.
fn flooded() -> (Engine, Tables) {
    let mut facts = street(8, "");
    // Nobody is silent without an interval.
    Arc::make_mut(&mut facts.profiles[0]).interval = None;
    let mut engine = engine(facts);
    let mut tables = Tables::default();
    for number in 0..8 {
        let begins = HOUR + number * 1_800;
        for minute in [0, 1, 2] {
            let payload = if minute == 0 { CALM } else { FULL };
            tables.take(send(&mut engine, &format!("D-{number}"), begins + minute * 600, payload));
        }
    }
    (engine, tables)
}

#[test]
fn a_storm_of_many_hours_is_still_one_after_an_upgrade_and_ends_with_its_summary() {
    let (old, tables) = flooded();
    assert_eq!((open(&old).len(), old.open_cases()), (1, 3));
    let held = tables.alarms.values().filter(|alarm| alarm.suppressed == Some(Suppression::Incident)).count();
    let (mut new, effects) = tables.upgraded(old.site(), 6 * HOUR);
    assert_eq!((effects.counts.cases_opened, new.open_cases()), (0, 3), "{held} were held");
    let (known, again) = (&open(&old)[0], &open(&new)[0]);
    assert_eq!((&again.standing, &again.case_id, again.opened_at), (&known.standing, &known.case_id, known.opened_at));
    // A restart of the new one changes nothing of it.
    let site = Arc::clone(new.site());
    assert_eq!(new.step(at(6 * HOUR + 1), &[Input::Site(site)]).counts.cases_opened, 0);
    (0..8).for_each(|number| drop(send(&mut new, &format!("D-{number}"), 6 * HOUR + 60, CALM)));
    let told = over(&tick(&mut new, 9 * HOUR));
    assert!(told.len() == 1 && told[0].contains("8 devices"), "{told:?}");
    assert_eq!(open(&new), []);
}

#[test]
fn a_case_whose_incident_is_gone_ends_by_itself() {
    let (mut old, mut tables) = flooded();
    let case_id = open(&old)[0].case_id.clone().unwrap();
    (0..8).for_each(|number| tables.take(send(&mut old, &format!("D-{number}"), 6 * HOUR, CALM)));
    let (mut new, effects) = tables.upgraded(old.site(), 6 * HOUR + 60);
    assert_eq!(over(&effects).len(), 1, "{effects:?}");
    let case = effects.cases.iter().rfind(|case| case.id == case_id).unwrap();
    assert_eq!((case.state, case.standing), (CaseState::Done, false));
    assert_eq!(tick(&mut new, 40 * HOUR).cases.iter().filter(|case| case.id == case_id).count(), 1, "it is closed");
    assert_eq!(new.open_cases(), 0);
}

#[test]
fn an_outage_of_which_few_are_left_brings_them_to_cases_of_their_own() {
    let mut old = engine(street(6, "FEEDER-1"));
    let mut tables = Tables::default();
    (0..6).for_each(|number| tables.take(send(&mut old, &format!("D-{number}"), 0, CALM)));
    tables.take(tick(&mut old, HOUR));
    (0..5).for_each(|number| tables.take(send(&mut old, &format!("D-{number}"), HOUR + 60, CALM)));
    let (mut new, effects) = tables.upgraded(old.site(), HOUR + 120);
    assert_eq!((effects.counts.cases_opened, open(&new).len()), (0, 1));
    let mut opened = Vec::new();
    for round in 1..=6 {
        for number in 0..5 {
            let effects = send(&mut new, &format!("D-{number}"), HOUR + 120 + round * 500, CALM);
            opened.extend(effects.cases.into_iter().filter(|case| case.opened_at == case.updated_at));
        }
    }
    let opened: Vec<_> = opened.iter().map(|case| (case.device.as_str(), case.condition.as_str())).collect();
    assert_eq!((opened, open(&new)), (vec![("D-5", "silent")], Vec::new()));
}

/// The first cover is open since ten seconds after the start; the second step of the duty is due 300 s later.
fn opened() -> (Engine, String) {
    let mut engine = engine(facts());
    let effects = send(&mut engine, "MH-1", 10, r#"{"cover_open":true}"#);
    let case_id = effects.cases[0].id.clone();
    (engine, case_id)
}

#[test]
fn a_signature_takes_back_no_call_that_was_due_before_it() {
    let (mut engine, case_id) = opened();
    let effects = act(&mut engine, 320, OperatorAction::Sign { case_id, by: "li".to_owned() });
    assert_eq!(notices(&effects), ["second:Escalated"]);
    let (mut engine, case_id) = opened();
    let effects = act(&mut engine, 310, OperatorAction::Sign { case_id, by: "li".to_owned() });
    assert_eq!(notices(&effects), Vec::<String>::new(), "both at once: the signature counts");
}

#[test]
fn a_frame_behind_a_signature_that_was_received_before_it_is_no_silence() {
    let (mut engine, case_id) = opened();
    let sign = Input::Operator(OperatorAction::Sign { case_id, by: "li".to_owned() });
    let late = frame("MH-1", at(1_700), r#"{"cover_open":true}"#);
    let effects = engine.step(at(2_000), &[sign, late]);
    assert_eq!(alarms(&effects), Vec::<String>::new());
    assert_eq!(notices(&effects)[0], "second:Escalated");
}

fn street_with(change: impl FnOnce(&mut Profile)) -> SiteFacts {
    let mut changed = profile();
    change(&mut changed);
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts() }
}

/// An open cover excuses high water; both are found at once.
fn excused() -> Engine {
    engine(street_with(|profile| {
        profile.detectors = vec![
            profile.detectors[0].clone(),
            Detector { unless: vec![0], ..detector(2, Severity::Major, Some(2), above(400.0, 350.0)) },
        ];
    }))
}

#[test]
fn what_another_condition_excuses_is_not_raised_and_is_over_when_that_comes() {
    let mut engine = excused();
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true,"level_mm":10}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 60, r#"{"level_mm":500}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 120, r#"{"cover_open":false}"#)), ["displaced:cleared"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 180, r#"{"level_mm":500}"#)), ["surcharged:active"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 240, r#"{"cover_open":true}"#)), ["displaced:active"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 300, r#"{"level_mm":500}"#)), ["surcharged:cleared"]);
}

#[test]
fn an_excuse_goes_by_what_stood_before_the_message() {
    let mut engine = excused();
    let both = send(&mut engine, "MH-1", 0, r#"{"cover_open":true,"level_mm":500}"#);
    assert_eq!(alarms(&both), ["displaced:active", "surcharged:active"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 60, r#"{"level_mm":500}"#)), ["surcharged:cleared"]);
}

/// A cover whose tilt alone says that it is open, from where it rests.
fn tilted(above: f64) -> SiteFacts {
    let baseline = Baseline {
        above,
        below: None,
        clear: 3.0,
        readings: 5,
        steady: 2.0,
        creep_per_day: 0.1,
        circle: None,
        still: None,
    };
    street_with(|profile| profile.detectors = vec![detector(0, Severity::Major, Some(1), Rule::Baseline(baseline))])
}

/// Ten readings of a tilt, one every ten minutes from the first second on.
fn tilt(engine: &mut Engine, first: i64, degrees: f64) -> Effects {
    let mut all = Effects::default();
    for round in 0..10 {
        let effects = send(engine, "MH-1", first + round * 600, &format!(r#"{{"tilt_deg":{degrees}}}"#));
        all.alarms.extend(effects.alarms);
        all.cases.extend(effects.cases);
    }
    all
}

#[test]
fn an_open_cover_does_not_become_closed_because_its_place_is_learnt_anew() {
    let mut old = engine(tilted(10.0));
    let mut tables = Tables::default();
    tables.take(tilt(&mut old, 0, 2.0));
    tables.take(tilt(&mut old, 6_000, 40.0));
    assert_eq!(old.open_cases(), 1);
    let case_id = tables.cases.keys().next().unwrap().clone();
    let (mut new, _) = tables.upgraded(old.site(), 12_000);
    assert_eq!(alarms(&tilt(&mut new, 12_600, 40.0)), Vec::<String>::new(), "it stands");
    // Whoever has closed it ends the case; then it is learnt where it rests.
    let closed = OperatorAction::MoveCase { case_id, to: CaseState::Closed, by: "li".to_owned(), note: String::new() };
    act(&mut new, 19_000, closed);
    assert_eq!(alarms(&tilt(&mut new, 19_200, 1.0)), ["displaced:cleared"]);
}

#[test]
fn another_limit_keeps_the_place_that_was_learnt_and_what_stands() {
    let mut engine = engine(tilted(10.0));
    tilt(&mut engine, 0, 2.0);
    tilt(&mut engine, 6_000, 40.0);
    let change = |above: f64| Input::Change { site: Arc::new(Site::new(tilted(above))), by: "wang".to_owned() };
    assert_eq!(alarms(&engine.step(at(12_000), &[change(20.0)])), Vec::<String>::new());
    assert_eq!(alarms(&tilt(&mut engine, 12_100, 40.0)), Vec::<String>::new());
    assert_eq!(alarms(&tilt(&mut engine, 18_100, 4.0)), ["displaced:cleared"]);
    engine.step(at(24_200), &[change(10.0)]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 24_300, r#"{"tilt_deg":15}"#)), ["displaced:active"], "13 from 2");
}

#[test]
fn a_battery_goes_on_when_an_edit_moves_its_temperature() {
    let course = Trend {
        side: Side::Below,
        goal: TrendGoal::Reaches { limit: 3_000.0, within: Duration::from_secs(60 * 86_400) },
        total: 50.0,
        days: 28,
        of: DayValue::Minimum,
        learn_when: Vec::new(),
        behind_permit: BehindPermit::GoesOn,
    };
    let site = |warmth: u16, first: &str| {
        street_with(|profile| {
            profile.interval = None;
            if warmth == 2 {
                profile.points.insert(0, point(first, ValueType::Boolean, None));
            }
            let rule = Battery {
                course: course.clone(),
                fresh: None,
                temperature: Some(Warmth { point: warmth, per_degree: 3.0 }),
                knee: None,
                charge: None,
            };
            profile.detectors = vec![detector(2, Severity::Notice, Some(warmth + 1), Rule::Battery(rule))];
        })
    };
    let mut engine = engine(site(1, ""));
    let run = |engine: &mut Engine, days: std::ops::Range<i64>| {
        let mut told = Vec::new();
        for hour in days.start * 24..days.end * 24 {
            let level = 3_300.0 - 4.0 * hour as f64 / 24.0;
            let payload = format!(r#"{{"level_mm":{level},"tilt_deg":20}}"#);
            told.extend(alarms(&send(engine, "MH-1", hour * HOUR, &payload)));
        }
        told
    };
    assert_eq!(run(&mut engine, 0..12), Vec::<String>::new());
    let site = Arc::new(Site::new(site(2, "new_flag")));
    engine.step(at(12 * 24 * HOUR - 60), &[Input::Change { site, by: "wang".to_owned() }]);
    assert_eq!(run(&mut engine, 12..17), ["surcharged:active"], "fourteen days of 28 are enough, five are not");
}

#[test]
fn where_life_is_at_risk_a_suspect_guard_lets_silence_count() {
    let check = |life: Option<bool>, expected: &[&str]| {
        let mut engine = engine(street_with(|profile| {
            let limits = Limits { suspect: Some(254.0), fail: None };
            let rate = ChangeRate { limits, per: Duration::from_secs(60) };
            profile.points[2].quality.rate = Some(rate);
            profile.conditions[1].life = life;
            profile.detectors.truncate(3);
            profile.detectors[2].when = vec![Guard { point: 2, test: GuardTest::Above(400.0) }];
        }));
        send(&mut engine, "MH-1", 0, CALM);
        send(&mut engine, "MH-1", 60, FULL);
        assert_eq!(alarms(&tick(&mut engine, HOUR)), expected);
    };
    check(None, &[]);
    check(Some(true), &["silent:active"]);
}

#[test]
fn a_guard_that_nobody_knows_makes_no_silence() {
    let mut engine = engine(street_with(|profile| {
        profile.detectors[2].when = vec![Guard { point: 3, test: GuardTest::Equals(Value::Boolean(true)) }];
    }));
    send(&mut engine, "MH-1", 0, CALM);
    assert_eq!(alarms(&tick(&mut engine, HOUR)), Vec::<String>::new());
    send(&mut engine, "MH-1", HOUR + 60, r#"{"water_present":true}"#);
    assert_eq!(alarms(&tick(&mut engine, 2 * HOUR)), ["silent:active"]);
}

#[test]
fn a_shaken_reading_that_is_looked_at_again_is_not_still() {
    let mut facts = tilted(10.0);
    let changed = Arc::make_mut(&mut facts.profiles[0]);
    if let Rule::Baseline(baseline) = &mut changed.detectors[0].rule {
        baseline.still = Some(2.0);
    }
    changed.detectors[0].when = vec![Guard { point: 3, test: GuardTest::Equals(Value::Boolean(true)) }];
    let mut engine = engine(facts);
    send(&mut engine, "MH-1", 0, r#"{"water_present":true}"#);
    tilt(&mut engine, 60, 2.0);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 7_000, r#"{"tilt_deg":40}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 7_010, r#"{"water_present":true}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 7_020, r#"{"tilt_deg":40.5}"#)), ["displaced:active"]);
}

#[test]
fn one_good_reading_does_not_end_a_sensor_fault_of_which_only_the_alarm_is_left() {
    let facts = street_with(|profile| {
        profile.conditions.push(condition("sensor_fault"));
        profile.detectors = Vec::new();
    });
    let mut old = engine(facts);
    let mut tables = Tables::default();
    send(&mut old, "MH-1", 0, CALM);
    (1..10).for_each(|round| tables.take(send(&mut old, "MH-1", round * 600, r#"{"level_mm":9000}"#)));
    let (mut new, _) = tables.upgraded(old.site(), 2 * HOUR);
    let ended = |seconds: i64, new: &mut Engine| alarms(&send(new, "MH-1", seconds, CALM));
    assert_eq!(ended(2 * HOUR + 60, &mut new), Vec::<String>::new());
    assert_eq!(ended(3 * HOUR + 60, &mut new), ["sensor_fault:cleared"]);
    // An edit of another point takes nothing from what is known of this one.
    (0..10).for_each(|round| drop(send(&mut new, "MH-1", 4 * HOUR + round * 600, r#"{"level_mm":9000}"#)));
    let edited = street_with(|profile| {
        profile.conditions.push(condition("sensor_fault"));
        profile.points.insert(0, point("new_flag", ValueType::Boolean, None));
        profile.detectors = Vec::new();
    });
    let change = Input::Change { site: Arc::new(Site::new(edited)), by: "wang".to_owned() };
    assert_eq!(alarms(&new.step(at(6 * HOUR), &[change])), Vec::<String>::new());
    assert_eq!(ended(6 * HOUR + 60, &mut new), Vec::<String>::new(), "eight good ones end it");
}
