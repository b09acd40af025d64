//! Alarms: raised, held, cleared, stale.

use kerbside_model::{DuplicateReason, Input, SourceStatus, UndecodedReason};

use super::support::*;

#[test]
fn a_cover_that_opens_and_closes_is_one_alarm_raised_and_cleared() {
    let mut engine = engine(facts());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 10, r#"{"cover_open":false}"#)), Vec::<String>::new());
    let opened = send(&mut engine, "MH-1", 20, r#"{"cover_open":true}"#);
    assert_eq!(alarms(&opened), ["displaced:active"]);
    assert_eq!(opened.counts.cases_opened, 1);
    assert!(opened.alarms[0].explanation.contains("cover open: yes"), "{}", opened.alarms[0].explanation);
    let again = send(&mut engine, "MH-1", 30, r#"{"cover_open":true}"#);
    assert_eq!((alarms(&again), again.counts.cases_opened), (Vec::new(), 0));
    let closed = send(&mut engine, "MH-1", 40, r#"{"cover_open":false}"#);
    assert_eq!(alarms(&closed), ["displaced:cleared"]);
    assert_eq!(closed.alarms[0].id, opened.alarms[0].id);
}

#[test]
fn tilted_and_open_is_one_condition_and_one_case() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 10, r#"{"tilt_deg":40}"#);
    let tilted = send(&mut engine, "MH-1", 20, r#"{"tilt_deg":40}"#);
    assert_eq!(alarms(&tilted), ["displaced:active"]);
    let opened = send(&mut engine, "MH-1", 30, r#"{"cover_open":true,"tilt_deg":41}"#);
    assert_eq!(opened.counts.cases_opened, 0);
    assert_eq!(opened.alarms[0].severity, kerbside_model::Severity::Critical, "the worse of both rules");
    let upright = send(&mut engine, "MH-1", 40, r#"{"tilt_deg":1}"#);
    assert_eq!(alarms(&upright), Vec::<String>::new(), "it is still open");
    assert_eq!(alarms(&send(&mut engine, "MH-1", 50, r#"{"cover_open":false}"#)), ["displaced:cleared"]);
}

#[test]
fn one_blip_does_not_reach_a_count_of_two_and_a_frame_that_comes_twice_counts_once() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 10, r#"{"tilt_deg":40}"#);
    send(&mut engine, "MH-1", 20, r#"{"tilt_deg":1}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 30, r#"{"tilt_deg":40}"#)), Vec::<String>::new());
    let payload = format!(r#"{{"tilt_deg":50,"ts":{}}}"#, at(39).0);
    assert_eq!(alarms(&send(&mut engine, "MH-2", 40, &payload)), Vec::<String>::new());
    let again = send(&mut engine, "MH-2", 41, &payload);
    let repeated = again.counts.frames_duplicate[DuplicateReason::Repeated as usize];
    assert_eq!((alarms(&again), repeated, again.observations.len()), (Vec::new(), 1, 0));
}

#[test]
fn a_hold_ripens_without_new_data_and_hysteresis_keeps_the_alarm() {
    let mut engine = engine(facts());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 10, r#"{"level_mm":420}"#)), Vec::<String>::new());
    assert_eq!(engine.next_timer(), Some(at(40)));
    assert_eq!(alarms(&tick(&mut engine, 45)), ["surcharged:active"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 50, r#"{"level_mm":380}"#)), Vec::<String>::new());
    assert_eq!(alarms(&send(&mut engine, "MH-1", 60, r#"{"level_mm":340}"#)), ["surcharged:cleared"]);
}

#[test]
fn a_level_that_falls_back_within_the_hold_raises_nothing() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 10, r#"{"level_mm":420}"#);
    send(&mut engine, "MH-1", 20, r#"{"level_mm":300}"#);
    assert_eq!(alarms(&tick(&mut engine, 100)), Vec::<String>::new());
}

#[test]
fn a_fast_rise_is_found_within_its_minute_and_noise_is_not() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"level_mm":100}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 1, r#"{"level_mm":102}"#)), Vec::<String>::new());
    let rise = send(&mut engine, "MH-1", 30, r#"{"level_mm":170}"#);
    assert_eq!(alarms(&rise), ["surging:active"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 90, r#"{"level_mm":101}"#)), ["surging:cleared"]);
}

#[test]
fn a_value_that_does_not_move_is_found_and_movement_clears_it() {
    let mut engine = engine(facts());
    let mut found = Vec::new();
    for minute in 0..=37 {
        found.extend(alarms(&send(&mut engine, "MH-1", minute * 600, r#"{"level_mm":100.2}"#)));
    }
    assert_eq!(found, ["sensor_stuck:active"]);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 38 * 600, r#"{"level_mm":104}"#)), ["sensor_stuck:cleared"]);
}

#[test]
fn leakage_is_an_emergency_only_in_standing_water() {
    let mut engine = engine(facts());
    assert_eq!(
        alarms(&send(&mut engine, "MH-1", 0, r#"{"leakage_ma":80,"water_present":false}"#)),
        Vec::<String>::new()
    );
    let wet = send(&mut engine, "MH-1", 10, r#"{"water_present":true}"#);
    assert_eq!(alarms(&wet), ["leaking:active"]);
    assert!(wet.alarms[0].explanation.ends_with("while water present is yes"), "{}", wet.alarms[0].explanation);
}

#[test]
fn silence_is_a_condition_and_makes_standing_alarms_stale_not_cleared() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":true}"#);
    let mut found = alarms(&tick(&mut engine, 1_799));
    assert_eq!(found, Vec::<String>::new());
    found = alarms(&tick(&mut engine, 1_801));
    found.sort();
    assert_eq!(found, ["displaced:stale", "silent:active"]);
    let back = send(&mut engine, "MH-1", 1_900, r#"{"cover_open":true}"#);
    let mut found = alarms(&back);
    found.sort();
    assert_eq!(found, ["displaced:active", "silent:cleared"]);
    assert_eq!(back.counts.cases_opened, 0, "the case of the cover was open all the time");
}

#[test]
fn bad_data_neither_raises_nor_clears() {
    let mut engine = engine(facts());
    let bad = send(&mut engine, "MH-1", 0, r#"{"tilt_deg":500,"level_mm":99999}"#);
    assert_eq!((alarms(&bad), bad.counts.readings_not_good), (Vec::new(), 2));
    assert_eq!(bad.observations.reading_count(), 2, "it is stored all the same");
    send(&mut engine, "MH-1", 10, r#"{"cover_open":true}"#);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 20, r#"{"cover_open":"maybe"}"#)), Vec::<String>::new());
}

#[test]
fn while_the_source_is_down_its_devices_are_not_silent() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 0, r#"{"cover_open":false}"#);
    let link = |connected| Input::Source(SourceStatus { source: std::sync::Arc::from("city"), connected });
    engine.step(at(60), &[link(false)]);
    assert_eq!(alarms(&tick(&mut engine, 20_000)), Vec::<String>::new());
    engine.step(at(20_000), &[link(true)]);
    assert_eq!(alarms(&tick(&mut engine, 21_000)), Vec::<String>::new());
    assert!(alarms(&tick(&mut engine, 22_000)).contains(&"silent:active".to_owned()));
}

#[test]
fn history_is_stored_at_its_own_time_and_never_alarms() {
    let mut engine = engine(facts());
    send(&mut engine, "MH-1", 7_200, &format!(r#"{{"cover_open":false,"ts":{}}}"#, at(7_199).0));
    for minute in 0..3 {
        let payload = format!(r#"{{"cover_open":true,"ts":{}}}"#, at(600 * minute).0);
        let old = send(&mut engine, "MH-1", 7_210 + minute, &payload);
        assert_eq!((alarms(&old), old.counts.observations_late), (Vec::new(), 1));
        assert_eq!(old.observations.iter().next().unwrap().0.observed_at, at(600 * minute));
    }
}

#[test]
fn a_device_whose_clock_is_hours_behind_still_alarms() {
    let mut engine = engine(facts());
    let mut found = Vec::new();
    for minute in 0..4 {
        let payload = format!(r#"{{"cover_open":true,"ts":{}}}"#, at(600 * minute - 28_800).0);
        found.extend(alarms(&send(&mut engine, "MH-1", 600 * minute + minute, &payload)));
    }
    assert_eq!(found, ["displaced:active"]);
}

#[test]
fn what_cannot_be_decoded_is_kept_with_its_reason_and_hurts_nobody() {
    let mut engine = engine(facts());
    let inputs = [
        frame("MH-1", at(0), r#"{"cover_open":tr"#),
        frame("MH-9", at(0), r#"{"cover_open":true}"#),
        frame("MH-1", at(0), r#"{"other":1}"#),
        frame("MH-2", at(0), r#"{"cover_open":true}"#),
    ];
    let effects = engine.step(at(0), &inputs);
    let reasons: Vec<UndecodedReason> = effects.undecoded.iter().map(|undecoded| undecoded.reason).collect();
    assert_eq!(reasons, [UndecodedReason::Malformed, UndecodedReason::UnknownDevice, UndecodedReason::NoPoints]);
    assert!(effects.undecoded[0].detail.contains("not valid JSON"), "{}", effects.undecoded[0].detail);
    assert_eq!(alarms(&effects), ["displaced:active"]);
}

#[test]
fn a_retained_message_is_never_taken_for_a_live_one() {
    let mut engine = engine(facts());
    let Input::Frame(mut retained) = frame("MH-1", at(0), r#"{"cover_open":true}"#) else { unreachable!() };
    retained.retained = true;
    let effects = engine.step(at(0), &[Input::Frame(retained)]);
    assert_eq!((alarms(&effects), effects.observations.len(), effects.counts.frames_retained), (Vec::new(), 0, 1));
}
