//! A site that changes while the gateway listens, and frames that are read again with it.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::site::SiteFacts;
use kerbside_model::{
    Effects, Frame, FrameAgain, Input, ServiceState, Site, SourceStatus, StoredInput, Undecoded, UndecodedReason,
};

use super::support::*;
use crate::Engine;
use crate::decode::{Certainty, Decoders, decode_again};

const MINUTE: i64 = 60;

fn change(engine: &mut Engine, seconds: i64, facts: SiteFacts) -> Effects {
    let input = Input::Change { site: Arc::new(Site::new(facts)), by: "wu".to_owned() };
    engine.step(at(seconds), &[input])
}

/// The street with one more device.
fn with_newcomer() -> SiteFacts {
    let mut facts = facts();
    facts.devices.push(device("MH-4", ServiceState::InService));
    facts
}

/// The street with other profile settings.
fn with_profile(edit: impl FnOnce(&mut kerbside_model::Profile)) -> SiteFacts {
    let mut changed = profile();
    edit(&mut changed);
    SiteFacts { profiles: vec![Arc::new(changed)], ..facts() }
}

fn silent(effects: &Effects) -> Vec<&str> {
    effects.alarms.iter().filter(|alarm| alarm.condition == "silent").map(|alarm| alarm.device.as_str()).collect()
}

#[test]
fn a_device_that_did_not_change_stays_as_silent_as_it_was() {
    // It reports every ten minutes, and three missed reports are silence.
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":false}"#);
    change(&mut engine, 25 * MINUTE, with_newcomer());
    assert_eq!(silent(&tick(&mut engine, 29 * MINUTE)), [""; 0]);
    assert_eq!(silent(&tick(&mut engine, 31 * MINUTE)), ["MH-1", "MH-2", "MH-3"]);
    // The newcomer has its time from when it was added.
    assert_eq!(silent(&tick(&mut engine, 54 * MINUTE)), [""; 0]);
    assert_eq!(silent(&tick(&mut engine, 56 * MINUTE)), ["MH-4"]);
}

#[test]
fn a_device_with_another_cadence_is_given_its_time() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":false}"#);
    let mut facts = facts();
    facts.devices[0].interval = Some(Duration::from_secs(300));
    let effects = change(&mut engine, 25 * MINUTE, facts);
    let audit: Vec<(&str, &str)> = effects.audit.iter().map(|line| (line.by.as_str(), line.action.as_str())).collect();
    assert_eq!(audit, [("wu", "site_changed")]);
    assert_eq!(silent(&tick(&mut engine, 39 * MINUTE)), ["MH-2", "MH-3"]);
    assert_eq!(silent(&tick(&mut engine, 41 * MINUTE)), ["MH-1"]);
}

#[test]
fn a_link_that_is_down_stays_down_over_a_change() {
    let mut engine = engine(facts());
    let down = SourceStatus { source: Arc::from("city"), connected: false };
    engine.step(at(1), &[Input::Source(down)]);
    change(&mut engine, 2, with_newcomer());
    assert_eq!(silent(&tick(&mut engine, 3_600)), [""; 0], "we are deaf, they are not silent");
}

#[test]
fn a_hold_timer_goes_on_over_a_change() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"level_mm":450}"#);
    change(&mut engine, 20, with_newcomer());
    assert_eq!(alarms(&tick(&mut engine, 29)), [""; 0]);
    assert_eq!(alarms(&tick(&mut engine, 31)), ["surcharged:active"]);
}

/// Frames that nobody can read yet, and what the engine kept of them.
fn unread(engine: &mut Engine, seconds: i64) -> Vec<Undecoded> {
    let messages = [("MH-1", r#"{"tilt":11}"#), ("MH-1", r#"{"tilt":12}"#), ("MH-9", r#"{"tilt":13}"#)];
    let inputs: Vec<Input> = messages.map(|(device, text)| frame(device, at(seconds), text)).to_vec();
    let undecoded = engine.step(at(seconds), &inputs).undecoded;
    assert_eq!(
        undecoded.iter().map(|frame| frame.reason).collect::<Vec<_>>(),
        [UndecodedReason::NoPoints, UndecodedReason::NoPoints, UndecodedReason::UnknownDevice]
    );
    undecoded
}

pub(super) fn again(undecoded: &[Undecoded]) -> Vec<FrameAgain> {
    let frame = |(row, undecoded): (u64, &Undecoded)| FrameAgain {
        row,
        frame: Frame::clone(&undecoded.frame),
        tags: undecoded.tags.clone(),
    };
    (1..).zip(undecoded).map(frame).collect()
}

#[test]
fn frames_that_are_read_again_stand_at_their_own_time_and_alarm_nobody() {
    let mut engine = engine(facts());
    let undecoded = unread(&mut engine, 60);
    // Two readings above ten degrees would be an alarm.
    change(
        &mut engine,
        100,
        with_profile(|profile| profile.points[1] = point("tilt", profile.points[1].value_type, None)),
    );
    let before = engine.snapshot();
    let effects = engine.step(at(120), &[Input::Again(again(&undecoded))]);
    assert_eq!(effects.alarms, []);
    assert_eq!(effects.undecoded, []);
    assert_eq!((effects.counts.frames_read_again, effects.counts.observations_late), (2, 2));
    let rows: Vec<(i64, i64)> = effects
        .observations
        .iter()
        .map(|(row, _)| (row.observed_at.0 - at(60).0, row.received_at.0 - at(60).0))
        .collect();
    assert_eq!(rows, [(0, 0), (1, 0)], "two of one moment are two points");
    assert_eq!(engine.snapshot(), before, "nothing is remembered of them");
    let settled: Vec<(u64, Option<&str>, Option<UndecodedReason>)> = effects
        .read_again
        .iter()
        .map(|again| (again.row, again.device.as_deref(), again.refused.as_ref().map(|(reason, _)| *reason)))
        .collect();
    let unknown = Some(UndecodedReason::UnknownDevice);
    assert_eq!(settled, [(1, Some("MH-1"), None), (2, Some("MH-1"), None), (3, None, unknown)]);
}

#[test]
fn frames_that_are_read_again_are_the_same_when_they_are_read_back() {
    let mut engine = engine(facts());
    let undecoded = unread(&mut engine, 60);
    change(
        &mut engine,
        100,
        with_profile(|profile| profile.points[1] = point("tilt", profile.points[1].value_type, None)),
    );
    // Among others, in one commit.
    let inputs = vec![
        frame("MH-2", at(119), r#"{"tilt":1}"#),
        Input::Again(again(&undecoded)),
        frame("MH-2", at(119), r#"{"tilt":2}"#),
    ];
    let effects = engine.step(at(120), &inputs);
    let mut stored: Vec<StoredInput> = inputs.into_iter().map(StoredInput::from).collect();
    stored.push(StoredInput::Notes(effects.notes.clone()));
    let site = engine.site();
    let frames = stored.iter().flat_map(StoredInput::frames);
    let back = decode_again(site, &Decoders::new(site), frames, Certainty::Sure, StoredInput::notes(&stored));
    let rows = |observations: &kerbside_model::Observations| -> Vec<_> {
        observations.iter().map(|(row, readings)| (row.device, row.observed_at, readings.to_vec())).collect()
    };
    assert_eq!(rows(&effects.observations).len(), 4);
    assert_eq!(rows(&back), rows(&effects.observations));
}

#[test]
fn a_device_that_is_in_the_inventory_now_gets_its_frames() {
    let mut engine = engine(facts());
    let undecoded = engine.step(at(60), &[frame("MH-4", at(60), r#"{"cover_open":true}"#)]).undecoded;
    change(&mut engine, 100, with_newcomer());
    let effects = engine.step(at(120), &[Input::Again(again(&undecoded))]);
    assert_eq!((effects.observations.len(), effects.alarms.len()), (1, 0));
    let settled = &effects.read_again[0];
    assert_eq!((settled.device.as_deref(), settled.address.as_str(), &settled.refused), (Some("MH-4"), "MH-4", &None));
}

#[test]
fn a_device_of_a_source_with_another_name_is_not_silent_while_that_one_is_down() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":false}"#);
    let mut renamed = facts();
    renamed.sources.iter_mut().for_each(|rule| rule.source = Arc::from("town"));
    change(&mut engine, 60, renamed);
    let down = SourceStatus { source: Arc::from("town"), connected: false };
    engine.step(at(61), &[Input::Source(down.clone())]);
    assert_eq!(silent(&tick(&mut engine, 3_600)), [""; 0], "we are deaf, it is not silent");
    engine.step(at(3_601), &[Input::Source(SourceStatus { connected: true, ..down })]);
    assert_eq!(silent(&tick(&mut engine, 3_601 + 29 * MINUTE)), [""; 0]);
    assert_eq!(silent(&tick(&mut engine, 3_601 + 31 * MINUTE)), ["MH-1", "MH-2", "MH-3"]);
}

#[test]
fn a_source_that_is_gone_makes_nobody_deaf_for_ever() {
    let mut engine = engine(facts());
    let mut renamed = facts();
    renamed.sources.iter_mut().for_each(|rule| rule.source = Arc::from("town"));
    change(&mut engine, 60, renamed);
    // Told by somebody who did not know yet.
    engine.step(at(61), &[Input::Source(SourceStatus { source: Arc::from("city"), connected: false })]);
    assert_eq!(silent(&tick(&mut engine, 3_600)), ["MH-1", "MH-2", "MH-3"]);
}

/// The cases that an effect opened.
fn opened(effects: &Effects) -> u64 {
    effects.counts.cases_opened
}

#[test]
fn an_alarm_stands_with_its_one_case_while_its_profile_is_exchanged_back_and_forth() {
    let mut engine = engine(facts());
    assert_eq!(opened(&send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#)), 1);
    for (round, version) in [2, 3, 1, 2].into_iter().enumerate() {
        let second = 10 * (round as i64 + 1);
        let effects = change(
            &mut engine,
            second,
            with_profile(|profile| {
                profile.name = format!("other-{version}");
                // The places of points, detectors and conditions are other ones.
                profile.detectors.rotate_left(1);
                profile.detectors.iter_mut().for_each(|detector| detector.clear_hold = Duration::from_secs(version));
            }),
        );
        assert_eq!((opened(&effects), alarms(&effects).len()), (0, 0), "round {round}");
        let effects = send(&mut engine, "MH-1", second + 1, r#"{"cover_open":true}"#);
        assert_eq!((opened(&effects), alarms(&effects).len()), (0, 0), "round {round}");
    }
    assert_eq!(engine.open_cases(), 1);
    send(&mut engine, "MH-1", 100, r#"{"cover_open":false}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 110, r#"{"cover_open":false}"#)), ["displaced:cleared"]);
}

#[test]
fn a_device_that_is_removed_ends_its_alarm_aloud_and_its_case_is_joined_when_it_is_back() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let mut without = facts();
    without.devices.remove(0);
    let effects = change(&mut engine, 10, without);
    assert_eq!(alarms(&effects), ["displaced:cleared"]);
    assert!(effects.alarms[0].explanation.contains("taken out of the inventory"), "{:?}", effects.alarms);
    assert_eq!(engine.open_cases(), 1, "only people, or time, close it");
    change(&mut engine, 20, facts());
    let effects = send(&mut engine, "MH-1", 30, r#"{"cover_open":true}"#);
    assert_eq!((alarms(&effects), opened(&effects)), (vec!["displaced:active".to_owned()], 0));
    assert_eq!((engine.open_cases(), effects.counts.cases_joined), (1, 1));
}

#[test]
fn a_change_is_replayed_from_a_snapshot_before_it_as_it_was_live() {
    let mut live = engine(facts());
    send(&mut live, "MH-1", 0, r#"{"cover_open":true,"level_mm":450}"#);
    let mut replayed = Engine::restore(Arc::clone(live.site()), crate::ENGINE_VERSION, &live.snapshot()).unwrap();
    let mut without = with_newcomer();
    without.devices.remove(1);
    for engine in [&mut live, &mut replayed] {
        change(engine, 10, without.clone());
        send(engine, "MH-4", 20, r#"{"cover_open":true}"#);
        change(engine, 25, facts());
        tick(engine, 40);
    }
    assert_eq!(live.snapshot(), replayed.snapshot());
}
