//! Tests of quality in the whole engine: what is flagged, what detectors make of it, and what is told later.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::*;
use kerbside_model::site::SiteFacts;
use kerbside_model::vocabulary::SENSOR_FAULT;
use kerbside_model::{
    Cause, Effects, Flag, Input, Quality, ServiceState, Severity, Site, StoredInput, Suppression, Value,
};
use proptest::prelude::*;

use super::support::*;
use crate::decode::{Certainty, Decoders, decode_again};
use crate::{ENGINE_VERSION, Engine};

const LEVEL: usize = 2;

/// The street with tests of quality at the level; reports come every minute.
fn street(tests: PointQuality) -> SiteFacts {
    street_with(|profile| profile.points[LEVEL].quality = tests)
}

fn street_with(change: impl FnOnce(&mut Profile)) -> SiteFacts {
    let mut profile = profile();
    profile.interval = Some(Duration::from_secs(60));
    // Only the two levels below are of interest.
    profile.detectors.truncate(4);
    profile.detectors[3].hold = Duration::ZERO;
    profile.conditions.push(Condition { opens_case: false, ..condition(SENSOR_FAULT) });
    change(&mut profile);
    let mut facts = facts();
    facts.profiles = vec![Arc::new(profile)];
    facts
}

fn spike(suspect: f64) -> PointQuality {
    let limits = Limits { suspect: Some(suspect), fail: Some(suspect * 2.0) };
    PointQuality { spike: Some(Spike { method: SpikeMethod::Differential, limits }), ..PointQuality::default() }
}

fn rate(suspect: f64) -> PointQuality {
    let limits = Limits { suspect: Some(suspect), fail: None };
    PointQuality { rate: Some(ChangeRate { limits, per: Duration::from_secs(60) }), ..PointQuality::default() }
}

fn level(engine: &mut Engine, minute: i64, level: impl std::fmt::Display) -> Effects {
    send(engine, "MH-1", minute * 60, &format!("{{\"level_mm\":{level}}}"))
}

/// Minute, value and quality of every level in the rows of a step.
fn rows(effects: &Effects) -> Vec<(i64, f64, String)> {
    let mut rows = Vec::new();
    for (row, readings) in effects.observations.iter() {
        for reading in readings.iter().filter(|reading| usize::from(reading.point) == LEVEL) {
            let number = reading.value.as_ref().and_then(Value::as_number).unwrap_or(f64::NAN);
            let Quality { flag, cause } = reading.quality;
            rows.push(((row.observed_at.0 - START.0) / 60_000, number, format!("{} {}", flag.name(), cause.name())));
        }
    }
    rows
}

fn row(minute: i64, value: f64, quality: &str) -> (i64, f64, String) {
    (minute, value, quality.to_owned())
}

#[test]
fn a_jump_is_suspect_at_once_and_settled_by_the_next_reading() {
    let mut engine = engine(street(spike(100.0)));
    assert_eq!(rows(&level(&mut engine, 1, 10)), [row(1, 10.0, "good ")]);
    assert_eq!(rows(&level(&mut engine, 2, 150)), [row(2, 150.0, "suspect spike")]);
    let confirmed = rows(&level(&mut engine, 3, 160));
    assert_eq!(confirmed, [row(3, 160.0, "good "), row(2, 150.0, "good confirmed")]);
    assert_eq!(rows(&level(&mut engine, 4, 300)), [row(4, 300.0, "suspect spike")]);
    let remains = rows(&level(&mut engine, 5, 165));
    assert_eq!(remains, [row(5, 165.0, "suspect spike")], "it was a spike, and the way back is another jump");
    assert_eq!(rows(&level(&mut engine, 6, 166)), [row(6, 166.0, "good "), row(5, 165.0, "good confirmed")]);
    assert_eq!(rows(&level(&mut engine, 7, 900)), [row(7, 900.0, "suspect spike")]);
    let bad = rows(&level(&mut engine, 8, 170));
    assert_eq!(bad, [row(8, 170.0, "suspect spike"), row(7, 900.0, "bad spike")]);
}

#[test]
fn a_jump_before_a_missing_reading_stays_suspect() {
    let mut engine = engine(street(spike(100.0)));
    level(&mut engine, 1, 10);
    level(&mut engine, 2, 150);
    assert_eq!(level(&mut engine, 3, "null").observations.len(), 1);
    assert_eq!(rows(&level(&mut engine, 4, 160)), [row(4, 160.0, "good ")]);
}

#[test]
fn a_bad_reading_is_stored_and_feeds_no_detector() {
    let limits = Limits { suspect: None, fail: Some(300.0) };
    let tests =
        PointQuality { rate: Some(ChangeRate { limits, per: Duration::from_secs(60) }), ..PointQuality::default() };
    let mut engine = engine(street(tests));
    level(&mut engine, 1, 10);
    let effects = level(&mut engine, 2, 450);
    assert_eq!(rows(&effects), [row(2, 450.0, "bad rate_of_change")]);
    assert_eq!(effects.alarms, []);
}

#[test]
fn a_suspect_reading_alone_raises_nothing_and_one_good_reading_does() {
    let mut engine = engine(street(rate(254.0)));
    level(&mut engine, 1, 10);
    let effects = level(&mut engine, 2, 450);
    assert_eq!((rows(&effects), effects.alarms), (vec![row(2, 450.0, "suspect rate_of_change")], vec![]));
    assert_eq!(tick(&mut engine, 170).alarms, []);
    let raised = level(&mut engine, 3, 460);
    assert_eq!(alarms(&raised), ["surcharged:active"]);
    assert!(raised.cases.iter().any(|case| case.condition == "surcharged"));
}

#[test]
fn noise_within_a_second_is_no_rate_and_a_jump_is() {
    let mut engine = engine(street(rate(254.0)));
    let mut sent = |seconds: i64, mm: i64| {
        let effects = send(&mut engine, "MH-1", seconds, &format!("{{\"level_mm\":{mm}}}"));
        rows(&effects).remove(0).2
    };
    assert_eq!(
        [sent(1, 100), sent(2, 110), sent(3, 364), sent(4, 619)],
        ["good ", "good ", "good ", "suspect rate_of_change"]
    );
}

#[test]
fn a_hold_that_began_with_a_suspect_reading_ends_with_the_first_good_one() {
    let mut engine = engine(street_with(|profile| {
        profile.points[LEVEL].quality = rate(254.0);
        (profile.detectors[3].count, profile.detectors[3].hold) = (2, Duration::from_secs(60));
    }));
    level(&mut engine, 1, 10);
    level(&mut engine, 2, 450);
    assert_eq!(alarms(&level(&mut engine, 3, 460)), ["surcharged:active"]);
}

#[test]
fn two_suspect_readings_are_no_more_than_one() {
    let mut engine = engine(street(rate(254.0)));
    for (minute, mm) in [(1, 10), (2, 450), (3, 900), (4, 1_400), (5, 20)] {
        assert_eq!(alarms(&level(&mut engine, minute, mm)), Vec::<String>::new(), "{minute}");
    }
}

#[test]
fn where_life_is_at_risk_a_suspect_reading_counts() {
    let check = |severity: Severity, life: Option<bool>, expected: usize| {
        let mut engine = engine(street_with(|profile| {
            profile.points[LEVEL].quality = rate(254.0);
            profile.detectors[3].severity = severity;
            profile.conditions[2].life = life;
        }));
        level(&mut engine, 1, 10);
        assert_eq!(level(&mut engine, 2, 450).counts.cases_opened, expected as u64, "{severity:?} {life:?}");
    };
    check(Severity::Major, None, 0);
    check(Severity::Major, Some(true), 1);
    check(Severity::Critical, None, 1);
    check(Severity::Critical, Some(false), 0);
}

#[test]
fn a_suspect_reading_clears_nothing() {
    let mut engine = engine(street(rate(254.0)));
    level(&mut engine, 1, 380);
    assert_eq!(alarms(&level(&mut engine, 2, 500)), ["surcharged:active"]);
    assert_eq!(alarms(&level(&mut engine, 3, 20)), Vec::<String>::new());
    assert_eq!(alarms(&level(&mut engine, 4, 25)), ["surcharged:cleared"]);
}

#[test]
fn a_guard_with_a_suspect_value_does_not_hold_unless_life_is_at_risk() {
    let check = |life: Option<bool>, expected: u64| {
        let mut engine = engine(street_with(|profile| {
            profile.points[LEVEL].quality = rate(254.0);
            let guard = Guard { point: LEVEL as u16, test: GuardTest::Above(400.0) };
            profile.conditions[3].life = life;
            profile.detectors[3] =
                Detector { when: vec![guard], ..detector(3, Severity::Major, Some(4), above(30.0, 20.0)) };
        }));
        level(&mut engine, 1, 10);
        let wet = send(&mut engine, "MH-1", 120, r#"{"level_mm":450,"leakage_ma":50}"#);
        assert_eq!(wet.counts.cases_opened, expected);
    };
    check(None, 0);
    check(Some(true), 1);
}

/// `level_mm` is computed from `tilt_deg`, which stands for a distance here.
fn computed(tests: PointQuality) -> SiteFacts {
    let mut facts = street_with(|profile| {
        profile.points[1].range = Some(Range { min: 0.0, max: 5_000.0 });
        profile.points[1].quality = tests;
        profile.points[LEVEL].origin = Origin::MountHeightMinus(1);
        profile.detectors[1].rule = above(9_000.0, 8_000.0);
    });
    facts.devices[0].mount_height_mm = Some(3_000.0);
    facts
}

#[test]
fn what_is_computed_is_no_better_than_what_it_is_computed_from() {
    let mut engine = engine(computed(rate(254.0)));
    send(&mut engine, "MH-1", 60, r#"{"tilt_deg":2900}"#);
    let effects = send(&mut engine, "MH-1", 120, r#"{"tilt_deg":2500}"#);
    assert_eq!((rows(&effects), effects.alarms), (vec![row(2, 500.0, "suspect rate_of_change")], vec![]));
}

#[test]
fn another_point_of_the_device_tells_what_is_not_to_be_trusted() {
    let not = |otherwise: Flag| Validity { point: 3, test: GuardTest::Equals(Value::Boolean(false)), otherwise };
    let with = |otherwise| PointQuality { valid_when: vec![not(otherwise)], ..PointQuality::default() };
    let mut tilted = engine(street(with(Flag::Suspect)));
    let effects = send(&mut tilted, "MH-1", 60, r#"{"level_mm":500,"water_present":true}"#);
    assert_eq!((rows(&effects), effects.alarms), (vec![row(1, 500.0, "suspect device_flag")], vec![]));
    let later = rows(&level(&mut tilted, 2, 510));
    assert_eq!(later, [row(2, 510.0, "suspect device_flag")], "it was not taken back");
    let upright = send(&mut tilted, "MH-1", 180, r#"{"level_mm":520,"water_present":false}"#);
    assert_eq!(alarms(&upright), ["surcharged:active"]);
    let mut dead = engine(street(with(Flag::Bad)));
    let effects = send(&mut dead, "MH-1", 60, r#"{"level_mm":500,"water_present":true}"#);
    assert_eq!(rows(&effects), [row(1, 500.0, "bad device_flag")]);
    assert_eq!(
        rows(&level(&mut engine(street(with(Flag::Bad))), 1, 500)),
        [row(1, 500.0, "good ")],
        "nothing is known"
    );
}

#[test]
fn usual_range_and_season_are_judged_in_the_zone_of_the_site_and_for_history_too() {
    // The start is 2027-01-15 16:00 in Shanghai.
    let season = Season {
        months: Some((12, 1)),
        weeks: None,
        hours: Some((16, 17)),
        suspect: Range { min: 0.0, max: 100.0 },
        fail: Some(Range { min: -50.0, max: 200.0 }),
    };
    let tests = PointQuality {
        range: Some(Range { min: -20.0, max: 4_000.0 }),
        climatology: vec![season],
        ..PointQuality::default()
    };
    let mut engine = engine(street(tests));
    assert_eq!(rows(&level(&mut engine, 1, 100)), [row(1, 100.0, "good ")]);
    assert_eq!(rows(&level(&mut engine, 2, 101)), [row(2, 101.0, "suspect climatology")]);
    assert_eq!(rows(&level(&mut engine, 3, 201)), [row(3, 201.0, "bad climatology")]);
    assert_eq!(rows(&level(&mut engine, 4, -30)), [row(4, -30.0, "suspect range")]);
    assert_eq!(rows(&level(&mut engine, 121, 201)), [row(121, 201.0, "good ")], "two hours later");
    let late = format!("{{\"level_mm\":150,\"ts\":{}}}", at(600).0);
    assert_eq!(rows(&send(&mut engine, "MH-1", 122 * 60, &late)), [row(10, 150.0, "suspect climatology")]);
}

#[test]
fn a_value_far_from_its_neighbours_is_suspect() {
    let neighbours = Neighbours { suspect: 50.0, within: Duration::from_secs(600), count_min: 2 };
    let mut facts = street(PointQuality { neighbours: Some(neighbours), ..PointQuality::default() });
    facts.devices.push(device("MH-4", ServiceState::InService));
    facts.devices.iter_mut().for_each(|device: &mut Device| device.parent = "P-1".to_owned());
    facts.devices[2].parent = "P-2".to_owned();
    let mut engine = engine(facts);
    send(&mut engine, "MH-2", 60, r#"{"level_mm":100}"#);
    send(&mut engine, "MH-3", 60, r#"{"level_mm":900}"#);
    assert_eq!(rows(&level(&mut engine, 1, 200)), [row(1, 200.0, "good ")], "one neighbour is too few");
    send(&mut engine, "MH-4", 60, r#"{"level_mm":110}"#);
    assert_eq!(rows(&level(&mut engine, 2, 160)), [row(2, 160.0, "suspect neighbours")]);
    assert_eq!(rows(&level(&mut engine, 3, 150)), [row(3, 150.0, "good ")]);
    assert_eq!(rows(&level(&mut engine, 30, 300)), [row(30, 300.0, "good ")], "what they said is too old");
}

#[test]
fn a_stuck_sensor_is_a_notice_after_an_hour_and_mended_by_readings_that_move() {
    let spans = Spans { suspect: Some(Duration::from_secs(600)), fail: None };
    let mut engine =
        engine(street(PointQuality { flat: Some(Flat { tolerance: 1.0, spans }), ..PointQuality::default() }));
    let mut raised = Vec::new();
    for minute in 0..120 {
        let effects = level(&mut engine, minute, 50);
        assert_eq!(rows(&effects)[0].2, if minute < 10 { "good " } else { "suspect flat_line" }, "{minute}");
        raised.extend(effects.alarms.into_iter().filter(|alarm| alarm.device == "MH-1").map(|alarm| (minute, alarm)));
    }
    let [(minute, alarm)] = raised.as_slice() else { panic!("{raised:?}") };
    assert_eq!((*minute, alarm.condition.as_str(), alarm.severity), (70, SENSOR_FAULT, Severity::Notice));
    assert_eq!((alarm.suppressed, &alarm.case_id), (Some(Suppression::NoCase), &None));
    assert!(alarm.explanation.starts_with("sensor of water level: stuck"), "{}", alarm.explanation);
    assert!(alarm.explanation_zh.starts_with("液位传感器：卡死"), "{}", alarm.explanation_zh);
    let mut cleared = Vec::new();
    for minute in 120..200 {
        let effects = level(&mut engine, minute, 50 + minute % 7);
        cleared.extend(alarms(&effects).into_iter().map(|alarm| (minute, alarm)));
    }
    assert_eq!(cleared.len(), 1, "{cleared:?}");
    assert_eq!(cleared[0].1, format!("{SENSOR_FAULT}:cleared"));
}

#[test]
fn blips_that_come_again_and_again_are_a_fault_and_a_few_are_none() {
    let run = |every: i64| {
        let mut engine = engine(street(spike(100.0)));
        let mut found = Vec::new();
        for minute in 0..300 {
            let mm = if minute % every == 0 { 300 } else { 20 + minute % 3 };
            found.extend(alarms(&level(&mut engine, minute, mm)));
        }
        found
    };
    assert_eq!(run(3), [format!("{SENSOR_FAULT}:active")]);
    assert_eq!(run(40), Vec::<String>::new());
}

#[test]
fn no_value_is_a_fault_of_a_sensor_that_had_one() {
    let run = |first: &str| {
        let mut engine = engine(street(PointQuality::default()));
        let mut found = alarms(&level(&mut engine, 0, first));
        (1..120).for_each(|minute| found.extend(alarms(&level(&mut engine, minute, "null"))));
        found
    };
    assert_eq!(run("5"), [format!("{SENSOR_FAULT}:active")]);
    assert_eq!(run("null"), Vec::<String>::new(), "a board without this sensor");
}

#[test]
fn a_creeping_zero_is_a_fault_that_flags_no_reading() {
    let drift = Drift { per_week: 25.0, total: 40.0 };
    let mut engine = engine(street(PointQuality { drift: Some(drift), ..PointQuality::default() }));
    let mut found = Vec::new();
    for hour in 0..14 * 24_i64 {
        let mm = 50 + hour / 4 + 30 * i64::from(hour % 24 == 8);
        let effects = level(&mut engine, hour * 60, mm);
        assert_eq!(rows(&effects)[0].2, "good ");
        found.extend(effects.alarms.into_iter().filter(|alarm| alarm.condition == SENSOR_FAULT));
    }
    assert_eq!(found.len(), 1);
    assert!(found[0].explanation.contains("drifts"), "{}", found[0].explanation);
}

#[test]
fn a_profile_that_changed_begins_its_tests_anew() {
    let mut engine = engine(street(spike(100.0)));
    level(&mut engine, 1, 10);
    let site = Arc::new(Site::new(street(spike(90.0))));
    engine.step(at(70), &[Input::Site(site)]);
    assert_eq!(rows(&level(&mut engine, 2, 150)), [row(2, 150.0, "good ")]);
}

/// Every test at once.
fn all_tests() -> PointQuality {
    let limits = |suspect: f64, fail: f64| Limits { suspect: Some(suspect), fail: Some(fail) };
    let spans = |suspect: u64, fail: u64| Spans {
        suspect: Some(Duration::from_secs(suspect)),
        fail: Some(Duration::from_secs(fail)),
    };
    PointQuality {
        range: Some(Range { min: 0.0, max: 480.0 }),
        spike: Some(Spike { method: SpikeMethod::Average, limits: limits(60.0, 200.0) }),
        rate: Some(ChangeRate { limits: limits(100.0, 400.0), per: Duration::from_secs(60) }),
        flat: Some(Flat { tolerance: 4.0, spans: spans(180, 360) }),
        attenuated: Some(Attenuated {
            measure: Movement::Deviation,
            window: Duration::from_secs(900),
            count_min: 3,
            limits: limits(8.0, 2.0),
        }),
        gap: Some(spans(300, 900)),
        neighbours: Some(Neighbours { suspect: 150.0, within: Duration::from_secs(900), count_min: 2 }),
        drift: Some(Drift { per_week: 5.0, total: 5.0 }),
        valid_when: vec![Validity {
            point: 3,
            test: GuardTest::Equals(Value::Boolean(false)),
            otherwise: Flag::Suspect,
        }],
        fault: FaultRule { after: Duration::from_secs(300), count: 2 },
        ..PointQuality::default()
    }
}

fn facts_of_all() -> SiteFacts {
    let mut facts = street(all_tests());
    facts.devices.iter_mut().for_each(|device| device.parent = "P-1".to_owned());
    facts
}

/// A device sends a level, or none, after some seconds, sometimes with a flag of its own.
fn sent() -> impl Strategy<Value = Vec<(i64, u8, Option<i32>, Option<bool>)>> {
    let level = prop_oneof![5 => (0..60_i32).prop_map(Some), 2 => (0..600_i32).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((1_i64..600, 1..4_u8, level, prop::option::weighted(0.1, any::<bool>())), 1..80)
}

fn frames(sent: &[(i64, u8, Option<i32>, Option<bool>)]) -> Vec<Input> {
    let mut seconds = 0;
    let mut inputs = Vec::new();
    for (gap, device, level, flag) in sent {
        seconds += gap;
        let level = level.map_or("null".to_owned(), |level| level.to_string());
        let flag = flag.map_or(String::new(), |flag| format!(",\"water_present\":{flag}"));
        inputs.push(frame(&format!("MH-{device}"), at(seconds), &format!("{{\"level_mm\":{level}{flag}}}")));
    }
    inputs
}

fn time_of(input: &Input) -> kerbside_model::Timestamp {
    let Input::Frame(frame) = input else { unreachable!("only frames are sent") };
    frame.received_at
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flags_are_the_same_however_frames_are_batched_and_wherever_the_engine_restarts(
        sent in sent(),
        cuts in prop::collection::vec(0..80_usize, 0..10),
    ) {
        let inputs = frames(&sent);
        let mut whole = engine(facts_of_all());
        let expected = whole.step(time_of(&inputs[inputs.len() - 1]), &inputs);
        let mut restarted = engine(facts_of_all());
        let mut rows = Vec::new();
        let mut stories = Vec::new();
        for (number, input) in inputs.iter().enumerate() {
            let effects = restarted.step(time_of(input), std::slice::from_ref(input));
            rows.extend(effects.observations.iter().map(|(row, readings)| (row.observed_at, row.late, readings.to_vec())));
            stories.extend(effects.alarms.into_iter().map(|alarm| (alarm.id, alarm.condition, alarm.state)));
            if cuts.contains(&number) {
                let bytes = restarted.snapshot();
                restarted = Engine::restore(Arc::clone(restarted.site()), ENGINE_VERSION, &bytes).unwrap();
            }
        }
        let whole_rows: Vec<_> =
            expected.observations.iter().map(|(row, readings)| (row.observed_at, row.late, readings.to_vec())).collect();
        prop_assert_eq!(rows, whole_rows);
        let whole_stories: Vec<_> =
            expected.alarms.into_iter().map(|alarm| (alarm.id, alarm.condition, alarm.state)).collect();
        prop_assert_eq!(stories, whole_stories);
        prop_assert_eq!(restarted.snapshot(), whole.snapshot());
    }

    #[test]
    fn what_is_decoded_again_has_the_flags_of_then(sent in sent()) {
        let inputs = frames(&sent);
        let mut engine = engine(facts_of_all());
        let effects = engine.step(time_of(&inputs[inputs.len() - 1]), &inputs);
        let mut stored: Vec<StoredInput> = inputs.into_iter().map(StoredInput::from).collect();
        stored.push(StoredInput::Notes(effects.notes.clone()));
        let site = engine.site();
        let frames = stored.iter().flat_map(StoredInput::frames);
        let back = decode_again(site, &Decoders::new(site), frames, Certainty::Sure, StoredInput::notes(&stored));
        let rows = |observations: &kerbside_model::Observations| -> Vec<_> {
            observations.iter().map(|(row, readings)| (row.device, row.observed_at, row.received_at, readings.to_vec())).collect()
        };
        prop_assert_eq!(rows(&back), rows(&effects.observations));
    }
}

#[test]
fn the_memory_of_all_tests_of_a_point_is_bounded_and_small() {
    let mut engine = engine(facts_of_all());
    let before = engine.snapshot().len();
    for minute in 0..5_000 {
        // A ramp within the tolerance is the worst that a flat line can be given.
        level(&mut engine, minute, minute as f64 * 0.001);
    }
    let grown = engine.snapshot().len() - before;
    assert!(grown < 2_048, "{grown} bytes");
    let quality = &engine.devices[0].quality;
    assert!(quality.bytes() < 2_048, "{} bytes", quality.bytes());
}

#[test]
fn a_cause_is_named_once_and_the_worst_flag_counts() {
    let mut engine = engine(street(PointQuality { range: Some(Range { min: 0.0, max: 100.0 }), ..rate(50.0) }));
    level(&mut engine, 1, 10);
    assert_eq!(rows(&level(&mut engine, 2, 200)), [row(2, 200.0, "suspect range")]);
    assert_eq!(Quality::suspect(Cause::Range).or_worse(Quality::bad(Cause::Type)), Quality::bad(Cause::Type));
    assert_eq!(Quality::GOOD.or_worse(Quality::missing(Cause::Absent)), Quality::GOOD);
}
