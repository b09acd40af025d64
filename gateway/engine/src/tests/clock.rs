//! Clocks that are wrong: those of the devices, and our own.

use std::sync::Arc;

use kerbside_model::site::GATEWAY_DEVICE;
use kerbside_model::vocabulary::{CLOCK_DRIFT, CLOCK_UNSURE};
use kerbside_model::{AlarmState, Effects, GatewayCondition, Input, Severity, Suppression, TimeRefusal};

use super::support::*;
use crate::{ENGINE_VERSION, Engine};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// The street with covers whose profile knows the condition of a wrong clock.
fn street() -> Engine {
    let mut facts = facts();
    let mut profile = profile();
    profile.conditions.push(kerbside_model::profile::Condition { opens_case: false, ..condition(CLOCK_DRIFT) });
    facts.profiles = vec![Arc::new(profile)];
    engine(facts)
}

/// A frame that comes `seconds` after the start and whose device tells a time `behind` seconds earlier.
fn told(engine: &mut Engine, seconds: i64, behind: i64, open: bool) -> Effects {
    let payload = format!(r#"{{"cover_open":{open},"ts":{}}}"#, at(seconds - behind).0);
    send(engine, "MH-1", seconds, &payload)
}

/// `condition:state` of alarms about clocks.
fn of_clocks(effects: &Effects) -> Vec<String> {
    let is_clock = |alarm: &&kerbside_model::Alarm| alarm.condition.starts_with("clock");
    effects.alarms.iter().filter(is_clock).map(|alarm| format!("{}:{}", alarm.condition, alarm.state.name())).collect()
}

fn unsure(active: bool) -> Input {
    Input::Gateway(GatewayCondition {
        condition: CLOCK_UNSURE.to_owned(),
        active,
        severity: Severity::Minor,
        detail: "the clock is not set".to_owned(),
        detail_zh: "尚未对时".to_owned(),
    })
}

fn offset_of(engine: &Engine) -> Option<f64> {
    let index = engine.site().find("MH-1").unwrap();
    engine.device_view(index, START).clock_offset_seconds
}

// === clocks of devices

#[test]
fn a_device_clock_that_is_off_is_noticed_and_opens_no_case() {
    for behind in [HOUR, -HOUR] {
        let mut engine = street();
        let mut raised = Vec::new();
        for frame in 1..8 {
            let effects = told(&mut engine, frame * 600, behind, false);
            assert!(effects.cases.iter().all(|case| case.device != "MH-1"), "{:?}", effects.cases);
            raised.extend(effects.alarms.into_iter().filter(|alarm| alarm.condition == CLOCK_DRIFT));
        }
        assert_eq!(raised.len(), 1, "{raised:?}");
        assert_eq!((raised[0].severity, raised[0].suppressed), (Severity::Notice, Some(Suppression::NoCase)));
        let (way, way_zh) =
            if behind > 0 { ("1 h behind ours", "慢 1小时") } else { ("1 h ahead of ours", "快 1小时") };
        assert!(raised[0].explanation.contains(way), "{}", raised[0].explanation);
        assert!(raised[0].explanation_zh.contains(way_zh), "{}", raised[0].explanation_zh);
        assert_eq!(offset_of(&engine), Some(behind as f64));
        // Somebody sets it.
        let cleared: Vec<String> =
            (8..12).flat_map(|frame| of_clocks(&told(&mut engine, frame * 600, 1, false))).collect();
        assert_eq!(cleared, ["clock_drift:cleared"]);
        assert_eq!(offset_of(&engine), Some(1.0));
    }
}

#[test]
fn an_upload_of_history_is_no_drift() {
    let mut engine = street();
    let mut found = Vec::new();
    for frame in 1..4 {
        found.extend(of_clocks(&told(&mut engine, frame * 600, 2, false)));
    }
    // Three days of frames that were kept at the device, a second apart, with live ones between them.
    for kept in 0..432 {
        let seconds = 2_400 + kept;
        found.extend(of_clocks(&told(&mut engine, seconds, 3 * DAY - kept * 599, false)));
        if kept % 60 == 0 {
            found.extend(of_clocks(&told(&mut engine, seconds, 2, false)));
        }
    }
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(offset_of(&engine), Some(2.0));
}

#[test]
fn a_clock_of_1970_is_counted_and_noticed_and_its_frames_still_raise_alarms() {
    let mut engine = street();
    let mut found = Vec::new();
    for frame in 1..5_i64 {
        let effects =
            send(&mut engine, "MH-1", frame * 600, &format!(r#"{{"cover_open":false,"ts":{}}}"#, frame * 600_000));
        assert_eq!(effects.counts.times_refused, [0, 1, 0]);
        assert_eq!(effects.observations.iter().next().unwrap().0.observed_at, at(frame * 600));
        found.extend(of_clocks(&effects));
    }
    assert_eq!(found, ["clock_drift:active"]);
    let effects = send(&mut engine, "MH-1", 3_000, r#"{"cover_open":true,"ts":1}"#);
    assert_eq!(alarms(&effects), ["displaced:active"]);
}

#[test]
fn a_time_of_the_future_or_none_at_all_is_counted_and_not_used() {
    let mut engine = street();
    let ahead = told(&mut engine, 600, -301, true);
    assert_eq!(ahead.counts.times_refused[TimeRefusal::Future as usize], 1);
    assert_eq!(ahead.observations.iter().next().unwrap().0.observed_at, at(600));
    assert_eq!(alarms(&ahead), ["displaced:active"]);
    let slightly = told(&mut engine, 1_200, -299, true);
    assert_eq!(slightly.counts.times_refused, [0; 3]);
    assert_eq!(slightly.observations.iter().next().unwrap().0.observed_at, at(1_499));
    let garbled = send(&mut engine, "MH-1", 1_800, r#"{"cover_open":true,"ts":"soon"}"#);
    assert_eq!(garbled.counts.times_refused[TimeRefusal::Unreadable as usize], 1);
    let none = send(&mut engine, "MH-1", 2_400, r#"{"cover_open":true,"ts":null}"#);
    assert_eq!(none.counts.times_refused, [0; 3]);
}

#[test]
fn a_wrong_clock_survives_a_restart_and_an_upgrade() {
    let mut engine = street();
    let mut standing = Vec::new();
    for frame in 1..5 {
        standing.extend(told(&mut engine, frame * 600, HOUR, false).alarms);
    }
    let site = Arc::clone(engine.site());
    let mut restored = Engine::restore(Arc::clone(&site), ENGINE_VERSION, &engine.snapshot()).unwrap();
    assert_eq!(offset_of(&restored), Some(3_600.0));
    assert!(of_clocks(&told(&mut restored, 3_000, HOUR, false)).is_empty(), "it is known already");
    // After an upgrade only the alarm is known, and the clock was set meanwhile.
    let standing: Vec<_> = standing.into_iter().filter(|alarm| alarm.condition == CLOCK_DRIFT).collect();
    let mut upgraded = Engine::from_tables(Arc::clone(&site), standing, Vec::new(), at(3_000));
    upgraded.step(at(3_000), &[Input::Site(site)]);
    let cleared: Vec<String> =
        (6..12).flat_map(|frame| of_clocks(&told(&mut upgraded, frame * 600, 1, false))).collect();
    assert_eq!(cleared, ["clock_drift:cleared"]);
}

// === late data

#[test]
fn late_data_is_stored_at_its_time_and_raises_nothing() {
    for behind in [16 * 60, 2 * HOUR, 3 * DAY] {
        let mut engine = street();
        told(&mut engine, 600, 1, false);
        let effects = told(&mut engine, 1_200, behind, true);
        let (row, _) = effects.observations.iter().next().unwrap();
        assert_eq!((row.late, row.observed_at), (true, at(1_200 - behind)));
        assert!(alarms(&effects).is_empty(), "{behind}: {:?}", alarms(&effects));
        assert_eq!(effects.counts.observations_late, 1);
    }
}

#[test]
fn frames_out_of_order_in_one_batch_leave_the_newest_standing() {
    let mut engine = street();
    told(&mut engine, 600, 1, false);
    let payload = |seconds: i64, open: bool| format!(r#"{{"cover_open":{open},"ts":{}}}"#, at(seconds).0);
    let inputs = [(1_190, false), (1_150, true), (1_170, true)];
    let inputs = inputs.map(|(seconds, open)| frame("MH-1", at(1_200), &payload(seconds, open)));
    let effects = engine.step(at(1_200), &inputs);
    let late: Vec<bool> = effects.observations.iter().map(|(row, _)| row.late).collect();
    assert_eq!(late, [false, true, true]);
    assert!(alarms(&effects).is_empty(), "{:?}", alarms(&effects));
}

#[test]
fn a_frame_that_comes_twice_raises_nothing_the_second_time() {
    let mut engine = street();
    let payload = format!(r#"{{"cover_open":true,"ts":{}}}"#, at(600).0);
    assert_eq!(alarms(&send(&mut engine, "MH-1", 601, &payload)), ["displaced:active"]);
    told(&mut engine, 660, 0, false);
    let again = send(&mut engine, "MH-1", 661, &payload);
    assert!(alarms(&again).is_empty(), "{:?}", alarms(&again));
}

// === our own clock

#[test]
fn alarms_raised_while_our_time_is_unsure_say_so_in_both_languages() {
    let mut engine = street();
    let effects = engine.step(at(10), &[unsure(true)]);
    let alarm = effects.alarms.iter().find(|alarm| alarm.device == GATEWAY_DEVICE).unwrap();
    assert_eq!((alarm.condition.as_str(), alarm.explanation.as_str()), (CLOCK_UNSURE, "the clock is not set"));
    let effects = send(&mut engine, "MH-1", 20, r#"{"cover_open":true}"#);
    let alarm = &effects.alarms[0];
    assert!(alarm.explanation.ends_with("time is unsure: the gateway's clock is not set"), "{}", alarm.explanation);
    assert!(alarm.explanation_zh.ends_with("时间不确定：网关尚未对时"), "{}", alarm.explanation_zh);
    assert!(effects.cases[0].report.explanation.contains("time is unsure"), "the case says it too");
    engine.step(at(30), &[unsure(false)]);
    send(&mut engine, "MH-2", 40, r#"{"leakage_ma":50,"water_present":true}"#);
    let effects = send(&mut engine, "MH-2", 50, r#"{"cover_open":true}"#);
    assert!(!effects.alarms[0].explanation.contains("unsure"), "{}", effects.alarms[0].explanation);
}

#[test]
fn device_times_are_not_judged_by_a_clock_that_is_unsure() {
    let mut engine = street();
    engine.step(at(10), &[unsure(true)]);
    // The box was without power for two days, and its clock goes on from before; the device's is right.
    let effects = told(&mut engine, 600, -2 * DAY, true);
    let (row, _) = effects.observations.iter().next().unwrap();
    assert_eq!((row.observed_at, row.late), (at(600 + 2 * DAY), false));
    assert_eq!(alarms(&effects), ["displaced:active"]);
    assert_eq!(effects.counts.times_refused, [0; 3]);
    for frame in 2..6 {
        assert!(of_clocks(&told(&mut engine, frame * 600, -2 * DAY, true)).is_empty());
    }
    assert_eq!(offset_of(&engine), None, "nothing is known by such a clock");
    // What no clock can be is refused still.
    assert_eq!(told(&mut engine, 4_200, -800 * DAY, true).counts.times_refused[TimeRefusal::Future as usize], 1);
    assert_eq!(send(&mut engine, "MH-1", 4_800, r#"{"cover_open":true,"ts":5}"#).counts.times_refused, [0, 1, 0]);
}

#[test]
fn a_case_that_stood_before_the_clock_was_lost_stays_one_case() {
    let mut engine = street();
    let mut opened = told(&mut engine, 600, 1, true).counts.cases_opened;
    let site = Arc::clone(engine.site());
    opened += engine.step(at(700), &[unsure(true), Input::Site(Arc::clone(&site))]).counts.cases_opened;
    opened += told(&mut engine, 1_200, -2 * DAY, true).counts.cases_opened;
    // The clock is set: two days later, the site again, and the clock is sure.
    opened += engine.step(at(2 * DAY + 1_300), &[Input::Site(site)]).counts.cases_opened;
    opened += engine.step(at(2 * DAY + 1_301), &[unsure(false)]).counts.cases_opened;
    opened += told(&mut engine, 2 * DAY + 1_800, 1, true).counts.cases_opened;
    let effects = told(&mut engine, 2 * DAY + 2_400, 1, false);
    assert_eq!(alarms(&effects), ["displaced:cleared"]);
    assert_eq!(opened + effects.counts.cases_opened, 1);
}

#[test]
fn nobody_is_silent_because_the_clock_was_set() {
    for jump in [DAY, -DAY] {
        let mut engine = street();
        for frame in 1..4 {
            told(&mut engine, frame * 600, 1, false);
        }
        // The pipeline hands the site in again when it sees the jump.
        let site = Arc::clone(engine.site());
        let effects = engine.step(at(1_900 + jump), &[Input::Site(site)]);
        assert!(effects.alarms.is_empty(), "{:?}", effects.alarms);
        let effects = tick(&mut engine, 1_900 + jump + 1_799);
        assert!(alarms(&effects).is_empty(), "{:?}", alarms(&effects));
        // From then on silence is counted, and a cover that opens is seen at once.
        let effects = told(&mut engine, 1_900 + jump + 1_799, 1, true);
        assert_eq!(alarms(&effects), ["displaced:active"]);
        let effects = tick(&mut engine, 1_900 + jump + 1_799 + 1_801);
        assert!(alarms(&effects).contains(&"silent:active".to_owned()), "{:?}", alarms(&effects));
    }
}

#[test]
fn history_that_comes_while_time_is_unsure_ends_with_the_truth() {
    let mut engine = street();
    told(&mut engine, 600, 1, false);
    engine.step(at(700), &[unsure(true)]);
    // The broker kept a day: the cover was opened and closed again.
    let mut last = Vec::new();
    for (position, open) in [false, true, true, false].into_iter().enumerate() {
        let position = i64::try_from(position).unwrap();
        last = alarms(&told(&mut engine, 710 + position, -6 * HOUR * (position + 1), open));
    }
    assert_eq!(last, ["displaced:cleared"]);
}

#[test]
fn the_gateway_forgets_the_condition_with_its_end() {
    let mut engine = street();
    engine.step(at(10), &[unsure(true)]);
    let site = Arc::clone(engine.site());
    let mut restored = Engine::restore(Arc::clone(&site), ENGINE_VERSION, &engine.snapshot()).unwrap();
    let effects = restored.step(at(20), &[unsure(false), Input::Site(site)]);
    let state = effects.alarms.iter().find(|alarm| alarm.condition == CLOCK_UNSURE).map(|alarm| alarm.state);
    assert_eq!(state, Some(AlarmState::Cleared));
    let effects = told(&mut restored, 600, -2 * DAY, false);
    assert_eq!(effects.counts.times_refused[TimeRefusal::Future as usize], 1, "times are judged again");
}

#[test]
fn a_slewing_clock_keeps_holds_and_silence_in_order() {
    let mut engine = street();
    // Ours runs five percent fast for a while; nothing is set.
    let mut seconds = 0;
    for frame in 1..20 {
        seconds = frame * 628;
        let effects = told(&mut engine, seconds, frame * 28, false);
        assert!(alarms(&effects).is_empty(), "{:?}", alarms(&effects));
    }
    let effects = told(&mut engine, seconds + 628, 20 * 28, true);
    assert_eq!(alarms(&effects), ["displaced:active"]);
}
