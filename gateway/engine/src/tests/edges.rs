//! Where alarms and cases were once lost, doubled or late.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::Rule;
use kerbside_model::site::SiteFacts;
use kerbside_model::{
    AlarmState, CaseState, Delivery, DeliveryOutcome, Effects, Input, MaskKind, OperatorAction, OutboxTask,
    PlatformStatus, Severity, Site, SourceStatus,
};

use super::support::*;
use crate::Engine;

fn load(engine: &mut Engine, seconds: i64, facts: SiteFacts) -> Effects {
    engine.step(at(seconds), &[Input::Site(Arc::new(Site::new(facts)))])
}

/// As the pipeline does when the clock was set.
fn load_again(engine: &mut Engine, seconds: i64) -> Effects {
    let site = Arc::clone(engine.site());
    engine.step(at(seconds), &[Input::Site(site)])
}

fn with_profile(change: impl FnOnce(&mut kerbside_model::Profile)) -> SiteFacts {
    let mut changed = profile();
    change(&mut changed);
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts() }
}

fn on(platform: &str) -> SiteFacts {
    let mut facts = facts();
    facts.cases.platform = platform.to_owned();
    facts
}

fn link(engine: &mut Engine, seconds: i64, connected: bool) {
    engine.step(at(seconds), &[Input::Source(SourceStatus { source: Arc::from("city"), connected })]);
}

fn says(engine: &mut Engine, seconds: i64, case_id: &str, state: CaseState) -> Effects {
    let status = PlatformStatus {
        case_id: case_id.to_owned(),
        platform: "city".to_owned(),
        platform_id: "7".to_owned(),
        state,
        note: String::new(),
    };
    engine.step(at(seconds), &[Input::Platform(status)])
}

fn report(engine: &mut Engine, seconds: i64, opened: &Effects, outcome: DeliveryOutcome) -> Effects {
    let row = opened.outbox.iter().find(|row| matches!(row.task, OutboxTask::OpenCase(_))).expect("a case was opened");
    let (row_id, case_id, target) = (row.id.clone(), row.case_id.clone(), row.target.clone());
    engine.step(at(seconds), &[Input::Delivery(Delivery { row_id, case_id, target, outcome })])
}

#[test]
fn frames_without_a_time_that_come_in_one_millisecond_are_all_taken() {
    let mut engine = engine(facts());
    let effects = engine.step(
        at(0),
        &[
            frame("MH-1", at(0), r#"{"tilt_deg":1}"#),
            frame("MH-1", at(0), r#"{"cover_open":true}"#),
            frame("MH-1", at(0), r#"{"level_mm":10}"#),
        ],
    );
    assert_eq!((alarms(&effects), effects.counts.observations_late), (vec!["displaced:active".to_owned()], 0));
}

#[test]
fn a_frame_without_a_time_is_new_although_the_clock_was_set_back_a_little() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 100, r#"{"cover_open":false}"#);
    let effects = engine.step(at(100), &[frame("MH-1", at(60), r#"{"cover_open":true}"#)]);
    assert_eq!(alarms(&effects), ["displaced:active"]);
}

#[test]
fn a_device_whose_clock_stands_still_is_believed_after_a_while() {
    let mut engine = engine(facts());
    let mut found = Vec::new();
    for poll in 0..8 {
        let open = poll >= 5;
        // Its clock begins anew at every waking.
        let payload = format!(r#"{{"cover_open":{open},"tilt_deg":{poll},"ts":{}}}"#, at(-90_000_000 + poll % 3).0);
        found.extend(alarms(&send(&mut engine, "MH-1", poll * 600, &payload)));
    }
    assert_eq!(found, ["displaced:active"]);
}

#[test]
fn a_guard_that_cannot_be_read_clears_nothing() {
    let mut engine = engine(facts());
    let wet = send(&mut engine, "MH-1", 0, r#"{"leakage_ma":80,"water_present":true}"#);
    assert_eq!(alarms(&wet), ["leaking:active"]);
    let bad = send(&mut engine, "MH-1", 10, r#"{"leakage_ma":80,"water_present":"?"}"#);
    assert_eq!((alarms(&bad), bad.cases.len()), (Vec::new(), 0));
    let dry = send(&mut engine, "MH-1", 20, r#"{"leakage_ma":80,"water_present":false}"#);
    assert_eq!(alarms(&dry), ["leaking:cleared"]);
}

#[test]
fn a_guard_that_comes_alone_is_not_another_reading_of_the_point() {
    let mut engine = engine(with_profile(|profile| profile.detectors[4].count = 2));
    send(&mut engine, "MH-1", 0, r#"{"leakage_ma":80,"water_present":true}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 10, r#"{"water_present":true}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 20, r#"{"leakage_ma":80}"#)), ["leaking:active"]);
}

#[test]
fn silence_may_have_a_hold_and_a_frame_within_it_ends_it() {
    let hold = Duration::from_secs(60);
    let mut engine = engine(with_profile(|profile| profile.detectors[2].hold = hold));
    send(&mut engine, "MH-1", 0, r#"{"level_mm":1}"#);
    assert_eq!(alarms(&tick(&mut engine, 1_859)), Vec::<String>::new());
    send(&mut engine, "MH-1", 1_859, r#"{"level_mm":1}"#);
    assert_eq!(alarms(&tick(&mut engine, 1_859 + 1_859)), Vec::<String>::new());
    assert_eq!(alarms(&tick(&mut engine, 1_859 + 1_860)), ["silent:active"]);
}

#[test]
fn after_the_clock_was_set_back_holds_end_and_the_next_step_is_called_in_time() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 100_000, r#"{"cover_open":true,"level_mm":500}"#);
    load_again(&mut engine, 0);
    let effects = tick(&mut engine, 30);
    assert_eq!(alarms(&effects), ["surcharged:active"]);
    assert!(notices(&tick(&mut engine, 300)).contains(&"second:Escalated".to_owned()));
    let closed = send(&mut engine, "MH-1", 400, r#"{"cover_open":false}"#);
    assert_eq!(alarms(&closed), ["displaced:cleared"]);
}

#[test]
fn a_source_that_is_down_stays_down_when_the_clock_is_set() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":false}"#);
    link(&mut engine, 60, false);
    load_again(&mut engine, 10_000);
    assert_eq!(alarms(&tick(&mut engine, 20_000)), Vec::<String>::new());
}

#[test]
fn a_device_that_moves_to_another_source_is_missed_there_in_time() {
    let mut facts = facts();
    facts.sources.push(kerbside_model::site::SourceRule { source: Arc::from("other"), ..facts.sources[0].clone() });
    let mut engine = engine(facts);
    send(&mut engine, "MH-1", 0, r#"{"tilt_deg":1}"#);
    let mask = OperatorAction::Mask {
        device: "MH-1".to_owned(),
        kind: MaskKind::Permit,
        from: at(0),
        until: at(1_000_000),
        by: "市政".to_owned(),
        reason: String::new(),
    };
    act(&mut engine, 1, mask);
    link(&mut engine, 2, false);
    tick(&mut engine, 5_000);
    let Input::Frame(mut moved) = frame("MH-1", at(6_000), r#"{"tilt_deg":1}"#) else { unreachable!() };
    moved.source = Arc::from("other");
    engine.step(at(6_000), &[Input::Frame(moved)]);
    assert_eq!(alarms(&tick(&mut engine, 7_800)), ["silent:active"]);
}

#[test]
fn a_device_that_comes_back_into_the_inventory_joins_its_open_case() {
    let mut engine = engine(facts());
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let mut fewer = facts();
    fewer.devices.remove(0);
    let gone = load(&mut engine, 10, fewer);
    assert!(gone.cases.iter().any(|case| case.id == opened.cases[0].id && !case.standing));
    load(&mut engine, 20, facts());
    let back = send(&mut engine, "MH-1", 30, r#"{"cover_open":true}"#);
    assert_eq!((back.counts.cases_opened, back.counts.cases_joined), (0, 1));
}

#[test]
fn an_alarm_whose_condition_leaves_the_profile_ends_and_its_case_says_so() {
    let mut engine = engine(facts());
    let opened = send(&mut engine, "MH-1", 0, r#"{"level_mm":20,"leakage_ma":80,"water_present":true}"#);
    let without = with_profile(|profile| {
        profile.conditions[3].name = Arc::from("electrified");
    });
    let changed = load(&mut engine, 10, without);
    let ended = changed.alarms.iter().find(|alarm| alarm.id == opened.alarms[0].id).expect("it is told");
    assert_eq!(ended.state, AlarmState::Cleared);
    assert!(!changed.cases[0].standing);
}

#[test]
fn after_an_edit_of_the_profile_only_data_about_what_was_wrong_clears_an_alarm() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true,"level_mm":500}"#);
    let edited = with_profile(|profile| {
        profile.version = 2;
        profile.detectors[0].clear_hold = Duration::from_secs(1);
    });
    assert_eq!(alarms(&load(&mut engine, 10, edited)), Vec::<String>::new());
    assert_eq!(alarms(&tick(&mut engine, 30)), ["surcharged:active"], "the hold goes on");
    let heartbeat = send(&mut engine, "MH-1", 40, r#"{"tilt_deg":1}"#);
    assert_eq!(alarms(&heartbeat), Vec::<String>::new(), "the cover was not heard of");
    send(&mut engine, "MH-1", 50, r#"{"cover_open":false}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 60, r#"{"cover_open":false}"#)), ["displaced:cleared"]);
}

#[test]
fn after_an_upgrade_a_heartbeat_without_the_point_does_not_clear_an_alarm() {
    let mut old = engine(facts());
    let opened = send(&mut old, "MH-1", 0, r#"{"cover_open":true}"#);
    let site = Arc::clone(old.site());
    let mut new = Engine::from_tables(Arc::clone(&site), opened.alarms.clone(), opened.cases.clone(), at(10));
    new.step(at(10), &[Input::Site(site)]);
    assert_eq!(alarms(&send(&mut new, "MH-1", 20, r#"{"tilt_deg":1}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut new, "MH-1", 30, r#"{"cover_open":false}"#)), ["displaced:cleared"]);
}

#[test]
fn after_an_upgrade_the_ledger_still_closes_what_is_done() {
    let mut old = engine(facts());
    send(&mut old, "MH-1", 0, r#"{"cover_open":true}"#);
    let done = send(&mut old, "MH-1", 10, r#"{"cover_open":false}"#);
    let site = Arc::clone(old.site());
    let mut new = Engine::from_tables(Arc::clone(&site), Vec::new(), done.cases.clone(), at(20));
    new.step(at(20), &[Input::Site(site)]);
    let closed = tick(&mut new, 10 + 86_400);
    assert!(closed.cases.iter().any(|case| case.id == done.cases[0].id && case.state == CaseState::Closed));
}

#[test]
fn a_case_that_the_platform_refused_ends_with_its_condition_and_the_next_one_is_reported() {
    let mut engine = engine(on("city"));
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let refused = report(&mut engine, 1, &opened, DeliveryOutcome::Refused { reason: "no".to_owned() });
    assert_eq!(refused.cases[0].state, CaseState::Pending, "the officer is called until somebody signs");
    assert_eq!(notices(&tick(&mut engine, 300)), ["second:Escalated"]);
    let over = send(&mut engine, "MH-1", 400, r#"{"cover_open":false}"#);
    assert_eq!(over.cases.last().map(|case| case.state), Some(CaseState::Rejected));
    let next = send(&mut engine, "MH-1", 500, r#"{"cover_open":true}"#);
    assert_eq!((next.counts.cases_opened, notices(&next)), (1, vec!["first:Opened".to_owned()]));
}

#[test]
fn what_the_platform_rejects_while_it_stands_is_told_to_the_duty_officer() {
    let mut engine = engine(on("city"));
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    report(&mut engine, 1, &opened, DeliveryOutcome::Delivered { platform_id: Some("7".to_owned()) });
    let rejected = says(&mut engine, 2, &opened.cases[0].id, CaseState::Rejected);
    assert_eq!(notices(&rejected), ["first:Refused"]);
}

#[test]
fn a_state_that_a_platform_repeats_does_not_undo_a_return() {
    let mut engine = engine(on("city"));
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let case_id = &opened.cases[0].id;
    report(&mut engine, 1, &opened, DeliveryOutcome::Delivered { platform_id: Some("7".to_owned()) });
    says(&mut engine, 2, case_id, CaseState::Done);
    send(&mut engine, "MH-1", 3, r#"{"cover_open":false}"#);
    let back = send(&mut engine, "MH-1", 4, r#"{"cover_open":true}"#);
    assert_eq!(back.cases.last().map(|case| case.state), Some(CaseState::Returned));
    assert!(says(&mut engine, 5, case_id, CaseState::Done).cases.is_empty());
    assert_eq!(notices(&tick(&mut engine, 304)), ["second:Escalated"]);
    let dispatched = says(&mut engine, 305, case_id, CaseState::Dispatched);
    assert_eq!(dispatched.cases[0].state, CaseState::Dispatched);
}

#[test]
fn whoever_signed_is_told_when_the_condition_is_back_and_that_it_is_worse() {
    let mut engine = engine(on("city"));
    send(&mut engine, "MH-1", 0, r#"{"tilt_deg":40}"#);
    let opened = send(&mut engine, "MH-1", 1, r#"{"tilt_deg":40}"#);
    let case_id = opened.cases[0].id.clone();
    report(&mut engine, 2, &opened, DeliveryOutcome::Delivered { platform_id: Some("7".to_owned()) });
    act(&mut engine, 3, OperatorAction::Sign { case_id, by: "王".to_owned() });
    send(&mut engine, "MH-1", 4, r#"{"tilt_deg":1}"#);
    let worse = send(&mut engine, "MH-1", 5, r#"{"cover_open":true}"#);
    assert_eq!(notices(&worse), ["first:Worsened"]);
    let case = worse.cases.last().expect("it joined");
    assert_eq!((case.severity, case.report.severity), (Severity::Critical, Severity::Critical));
    send(&mut engine, "MH-1", 6, r#"{"cover_open":false}"#);
    assert_eq!(notices(&send(&mut engine, "MH-1", 7, r#"{"cover_open":true}"#)), ["first:Returned"]);
}

#[test]
fn a_case_of_a_platform_that_is_no_longer_configured_can_be_ended_by_hand() {
    let mut engine = engine(on("city"));
    let opened = send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let close = || OperatorAction::MoveCase {
        case_id: opened.cases[0].id.clone(),
        to: CaseState::Closed,
        by: "值班长".to_owned(),
        note: String::new(),
    };
    assert!(act(&mut engine, 1, close()).cases.is_empty());
    load(&mut engine, 2, facts());
    assert_eq!(act(&mut engine, 3, close()).cases[0].state, CaseState::Closed);
}

#[test]
fn a_stuck_sensor_stays_stuck_until_it_moves_although_its_detector_begins_anew() {
    let mut engine = engine(facts());
    for minute in 0..=37 {
        send(&mut engine, "MH-1", minute * 600, r#"{"level_mm":100}"#);
    }
    let edited = with_profile(|profile| {
        profile.detectors[6].rule = Rule::Flatline { tolerance: 1.0, duration: Duration::from_secs(3_600) };
    });
    load(&mut engine, 22_300, edited);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 22_400, r#"{"level_mm":100}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 22_500, r#"{"level_mm":110}"#)), ["sensor_stuck:cleared"]);
}
