//! The walk test: opened and closed again is passed, no case meanwhile, the same after a restart.

use std::sync::Arc;

use kerbside_model::profile::WalkTrigger;
use kerbside_model::site::SiteFacts;
use kerbside_model::{AlarmState, Input, OperatorAction, ServiceState, Site, Suppression};

use super::support::*;
use crate::{ENGINE_VERSION, Engine, WALK_DEVICES_MAX, WalkOutcome};

fn start(engine: &mut Engine, seconds: i64, devices: &[&str]) -> kerbside_model::Effects {
    let devices = devices.iter().map(|id| (*id).to_owned()).collect();
    act(engine, seconds, OperatorAction::StartWalk { devices, until: at(seconds + 3_600), by: "陈".to_owned() })
}

fn finish(engine: &mut Engine, seconds: i64) -> kerbside_model::Effects {
    act(engine, seconds, OperatorAction::FinishWalk { by: "陈".to_owned() })
}

fn outcome(engine: &Engine, id: &str) -> WalkOutcome {
    let view = engine.walk_view(at(0)).expect("a walk was begun");
    view.devices.iter().find(|device| device.id == id).expect("it is in the walk").outcome
}

#[test]
fn a_cover_that_was_opened_and_closed_has_passed_and_opened_no_case() {
    let mut engine = engine(facts());
    let began = start(&mut engine, 0, &["MH-1", "MH-3"]);
    assert_eq!((alarms(&began), began.audit[0].action.as_str()), (vec!["walk_test:active".to_owned()], "walk_started"));
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::NotHeard);
    send(&mut engine, "MH-1", 5, r#"{"cover_open":false}"#);
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Heard);
    let opened = send(&mut engine, "MH-1", 10, r#"{"cover_open":true}"#);
    assert_eq!((opened.cases.len(), opened.outbox.len()), (0, 0));
    assert_eq!(opened.alarms[0].suppressed, Some(Suppression::WalkTest));
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Half);
    send(&mut engine, "MH-1", 20, r#"{"cover_open":false}"#);
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Passed);

    let view = engine.walk_view(at(30)).unwrap();
    let cover = &view.devices[0];
    assert_eq!((cover.first_frame_at, cover.last_frame_at, cover.frames), (Some(at(5)), Some(at(20)), 3));
    assert_eq!(
        (cover.seen[0].trigger.as_str(), cover.seen[0].at, cover.seen[0].cleared_at),
        ("displaced", at(10), Some(at(20)))
    );
    // A second opening takes nothing away, and after the end everything is as ever.
    send(&mut engine, "MH-1", 40, r#"{"cover_open":true}"#);
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Passed);
    let ended = finish(&mut engine, 50);
    assert!(ended.audit.iter().any(|line| line.detail == "1 of 2 devices passed"), "{:?}", ended.audit);
    assert_eq!(ended.cases.len(), 1, "the cover stands open when the installer has gone");
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Passed, "the record stays");
}

#[test]
fn a_device_in_commissioning_opens_no_case_when_the_walk_ends_with_its_cover_open() {
    let mut engine = engine(facts());
    start(&mut engine, 0, &["MH-3"]);
    let opened = send(&mut engine, "MH-3", 10, r#"{"cover_open":true}"#);
    assert_eq!(opened.alarms[0].suppressed, Some(Suppression::NotCommissioned));
    let ended = finish(&mut engine, 20);
    assert_eq!((ended.cases.len(), ended.outbox.len()), (0, 0));
}

#[test]
fn devices_outside_the_walk_open_cases_as_ever() {
    let mut engine = engine(facts());
    start(&mut engine, 0, &["MH-1"]);
    assert_eq!(send(&mut engine, "MH-2", 10, r#"{"cover_open":true}"#).cases.len(), 1);
}

#[test]
fn a_walk_that_nobody_ends_is_over_when_its_time_is_up() {
    let mut engine = engine(facts());
    start(&mut engine, 0, &["MH-1"]);
    send(&mut engine, "MH-1", 3_500, r#"{"cover_open":true}"#);
    assert!(tick(&mut engine, 3_599).cases.is_empty());
    let ended = tick(&mut engine, 3_600);
    assert_eq!((ended.cases.len(), engine.is_walking()), (1, false));
    let over = ended.alarms.iter().find(|alarm| alarm.condition == "walk_test").unwrap();
    assert_eq!(over.state, AlarmState::Cleared);
    let late = send(&mut engine, "MH-1", 3_700, r#"{"cover_open":false}"#);
    assert_eq!((late.counts.alarms_cleared, outcome(&engine, "MH-1")), (1, WalkOutcome::Half), "too late to count");
}

#[test]
fn a_restart_in_the_middle_forgets_nothing() {
    let mut engine = engine(facts());
    start(&mut engine, 0, &["MH-1"]);
    send(&mut engine, "MH-1", 10, r#"{"cover_open":true}"#);
    act(
        &mut engine,
        11,
        OperatorAction::NotePhoto { device: "MH-1".to_owned(), photo: "井.jpg".to_owned(), by: "陈".to_owned() },
    );
    let site = Arc::clone(engine.site());
    let mut again = Engine::restore(Arc::clone(&site), ENGINE_VERSION, &engine.snapshot()).unwrap();
    again.step(at(12), &[Input::Site(site)]);
    assert!(again.is_walking() && again.next_timer().is_some_and(|due| due <= at(3_600)));
    send(&mut again, "MH-1", 20, r#"{"cover_open":false}"#);
    assert_eq!(outcome(&again, "MH-1"), WalkOutcome::Passed);
    assert_eq!(again.walk_view(at(20)).unwrap().devices[0].photo, "井.jpg");
    assert_eq!(tick(&mut again, 3_600).audit.iter().filter(|line| line.action == "walk_finished").count(), 1);
}

#[test]
fn an_upgrade_loses_the_walk_and_says_that_it_is_over() {
    let mut engine = engine(facts());
    let began = start(&mut engine, 0, &["MH-1"]);
    let site = Arc::clone(engine.site());
    let mut again = Engine::from_tables(Arc::clone(&site), began.alarms, Vec::new(), at(10));
    let loaded = again.step(at(10), &[Input::Site(site)]);
    assert_eq!((alarms(&loaded), again.is_walking()), (vec!["walk_test:cleared".to_owned()], false));
}

#[test]
fn an_alarm_from_before_the_walk_proves_nothing() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    start(&mut engine, 10, &["MH-1"]);
    send(&mut engine, "MH-1", 20, r#"{"cover_open":false}"#);
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Heard);
}

#[test]
fn a_profile_may_name_a_point_or_leave_nothing_to_be_done_by_hand() {
    let with = |walk_test: Vec<WalkTrigger>, only: usize| {
        let mut profile = profile();
        profile.walk_test = walk_test;
        if only > 0 {
            profile.detectors.retain(|detector| usize::from(detector.condition) == only);
            profile.conditions.iter_mut().for_each(|condition| condition.name = Arc::from("battery_low"));
        }
        engine(SiteFacts { profiles: vec![Arc::new(profile)], ..facts() })
    };
    let mut pressed = with(vec![WalkTrigger::Point(3)], 0);
    start(&mut pressed, 0, &["MH-1"]);
    send(&mut pressed, "MH-1", 5, r#"{"cover_open":true}"#);
    assert_eq!(outcome(&pressed, "MH-1"), WalkOutcome::Heard, "only the point counts");
    send(&mut pressed, "MH-1", 10, r#"{"water_present":true}"#);
    assert_eq!(outcome(&pressed, "MH-1"), WalkOutcome::Half);
    send(&mut pressed, "MH-1", 15, r#"{"cover_open":false}"#);
    assert_eq!(outcome(&pressed, "MH-1"), WalkOutcome::Half, "the point was not in this frame");
    send(&mut pressed, "MH-1", 20, r#"{"water_present":false}"#);
    assert_eq!(outcome(&pressed, "MH-1"), WalkOutcome::Passed);

    let mut plain = with(Vec::new(), 1);
    start(&mut plain, 0, &["MH-1"]);
    send(&mut plain, "MH-1", 5, r#"{"tilt_deg":1}"#);
    assert_eq!(outcome(&plain, "MH-1"), WalkOutcome::Passed, "it only has to be heard");
}

#[test]
fn a_walk_that_cannot_be_is_refused_and_audited() {
    let mut engine = engine(facts());
    let refused = |engine: &mut Engine, devices: &[&str]| start(engine, 0, devices).audit.remove(0).detail;
    assert!(refused(&mut engine, &["MH-9"]).contains("MH-9"));
    assert!(refused(&mut engine, &[]).contains("0 devices"));
    let many = vec!["MH-1"; WALK_DEVICES_MAX + 1];
    assert!(refused(&mut engine, &many).contains("2001 devices"));
    let idle = finish(&mut engine, 0);
    assert_eq!(idle.audit[0].action, "walk_refused");
    start(&mut engine, 0, &["MH-1"]);
    assert!(refused(&mut engine, &["MH-2"]).contains("already"));
    let stranger = OperatorAction::NotePhoto { device: "MH-2".to_owned(), photo: "x".to_owned(), by: "y".to_owned() };
    assert_eq!(act(&mut engine, 1, stranger).audit[0].detail, "it is in no walk test");
}

#[test]
fn a_device_that_leaves_the_inventory_is_gone_and_the_walk_goes_on() {
    let mut engine = engine(facts());
    start(&mut engine, 0, &["MH-1", "MH-2"]);
    let site = Arc::new(Site::new(SiteFacts { devices: vec![device("MH-2", ServiceState::InService)], ..facts() }));
    engine.step(at(5), &[Input::Change { site, by: "x".to_owned() }]);
    assert_eq!(outcome(&engine, "MH-1"), WalkOutcome::Gone);
    send(&mut engine, "MH-2", 10, r#"{"cover_open":true}"#);
    assert_eq!(outcome(&engine, "MH-2"), WalkOutcome::Half);
    assert_eq!(finish(&mut engine, 20).cases.len(), 1);
}

#[test]
fn three_covers_of_one_pole_that_are_opened_on_purpose_are_no_incident() {
    let mut devices = facts().devices;
    devices.iter_mut().for_each(|device| device.parent = "P-1".to_owned());
    devices.push(kerbside_model::inventory::Device {
        parent: "P-1".to_owned(),
        ..device("MH-4", ServiceState::InService)
    });
    let mut engine = engine(SiteFacts { devices, ..facts() });
    start(&mut engine, 0, &["MH-1", "MH-2"]);
    for (seconds, id) in (1..).zip(["MH-1", "MH-2", "MH-3", "MH-4"]) {
        send(&mut engine, id, seconds, r#"{"cover_open":true}"#);
    }
    assert_eq!(engine.incidents(), []);
    finish(&mut engine, 10);
    let devices: Vec<_> = engine.incidents().into_iter().map(|incident| incident.devices).collect();
    assert_eq!(devices, [["MH-1", "MH-2", "MH-4"]], "the third is in commissioning");
}
