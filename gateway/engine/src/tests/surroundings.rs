//! What detectors make of the weather in a catchment and of the water downstream.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::document::Problems;
use kerbside_model::incident::{RainLevel, RainSignal};
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, Slot, parse_profile_text};
use kerbside_model::{Alarm, Frame, Input, OperatorAction, Severity, Timestamp, Value};

use crate::rehearsal::{Rehearsal, Sending};
use crate::{ENGINE_VERSION, Engine};

const START: Timestamp = Timestamp(1_767_225_600_000);
const HOUR: Duration = Duration::from_secs(3_600);
const USUAL_MM: f64 = 50.0;
const HIGH_MM: f64 = 120.0;

/// A level with the rules under test, and a rain gauge.
fn profiles() -> [Profile; 2] {
    let read = |name: &str, point: &str, detectors: &str| {
        let text = format!(
            "profile: {name}\nversion: 1\nkind: drain\nvendor: V\nmodel: M\ninterval: 1h\npayload: {{format: json}}\n\
             points: [{{name: {point}, path: x}}]\n\
             detectors:\n  - {{condition: silent, severity: minor, silence: {{after: 30d}}}}\n{detectors}\
             samples:\n  - {{name: good, json: {{x: 5}}, readings: {{{point}: 5}}}}\n  - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text(name, &text, &problems);
        profile.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()))
    };
    let rules = "  - {condition: blocked, severity: minor, deviation: {point: level_mm, above: 4, least: 50}, hold: 4h, \
                 around: {weather: dry, downstream: not_high}}\n  \
                 - {condition: backwater, severity: notice, deviation: {point: level_mm, above: 4, least: 50}, hold: 4h, \
                 around: {weather: dry, downstream: high}}\n";
    [read("level", "level_mm", rules), read("gauge", "rainfall_mm", "")]
}

/// A catchment whose levels report every hour.
struct Basin {
    engine: Engine,
    rehearsal: Rehearsal,
    at: Timestamp,
    /// When which condition of which device was raised, in hours.
    raised: Vec<(u64, String)>,
    is_restarted: bool,
}

impl Basin {
    /// So many levels of one parent, the second downstream of the first; and a gauge, where it is asked for.
    fn new(levels: usize, has_gauge: bool) -> Basin {
        let [level, gauge] = profiles();
        let device = |number: usize| Device {
            id: format!("L{number}"),
            address: format!("L{number}"),
            parent: "BASIN".to_owned(),
            downstream: if number == 0 { "L1".to_owned() } else { String::new() },
            ..Device::default()
        };
        let mut devices: Vec<Device> = (0..levels).map(device).collect();
        if has_gauge {
            let address = "R".to_owned();
            devices.push(Device { id: address.clone(), address, profile: 1, ..Device::default() });
        }
        let rehearsal = Rehearsal::of_several(&[(&level, &[0]), (&gauge, &[0])], devices);
        let mut engine = Engine::new(Arc::clone(rehearsal.site()));
        engine.step(START, &[Input::Site(Arc::clone(rehearsal.site()))]);
        Basin { engine, rehearsal, at: START, raised: Vec::new(), is_restarted: false }
    }

    fn step(&mut self, inputs: &[Input]) {
        if self.is_restarted {
            let snapshot = self.engine.snapshot();
            self.engine = Engine::restore(Arc::clone(self.engine.site()), ENGINE_VERSION, &snapshot).unwrap();
        }
        let effects = self.engine.step(self.at, inputs);
        for alarm in effects.alarms.iter().filter(|alarm| alarm.opened_at == alarm.updated_at) {
            let hour = alarm.opened_at.since(START).as_secs() / 3_600;
            self.raised.push((hour, format!("{} {}", alarm.device, alarm.condition)));
        }
    }

    fn frame(&self, address: &str, profile: u16, number: f64) -> Frame {
        let sending = Sending { address, profile, observed_at: self.at, received_at: self.at };
        self.rehearsal.sent(&sending, &[(0, &Slot::Read(Value::Number(number)))]).unwrap()
    }

    /// An hour in which the levels read this, and the gauge that.
    fn hour(&mut self, levels: &[f64], rain: Option<f64>) {
        for (number, level) in levels.iter().enumerate() {
            self.step(&[Input::Frame(self.frame(&format!("L{number}"), 0, *level))]);
        }
        if let Some(rain) = rain {
            self.step(&[Input::Frame(self.frame("R", 1, rain))]);
        }
        self.at = self.at.plus(HOUR);
        self.step(&[]);
    }

    fn hours(&mut self, count: usize, levels: &[f64], rain: Option<f64>) {
        (0..count).for_each(|_| self.hour(levels, rain));
    }

    fn standing(&self) -> Vec<Alarm> {
        let slots = self.engine.devices.iter().flat_map(|state| state.conditions.iter());
        slots.filter_map(|(_, slot)| slot.alarm.as_deref().cloned()).collect()
    }

    fn raised(&self) -> Vec<&str> {
        self.raised.iter().map(|(_, what)| what.as_str()).collect()
    }
}

/// Nine dry days: every hour of the day is known.
const DRY_HOURS: usize = 9 * 24;

#[test]
fn water_that_stands_high_in_dry_weather_is_a_blockage_after_four_hours() {
    let mut basin = Basin::new(4, false);
    basin.hours(DRY_HOURS, &[USUAL_MM; 4], None);
    basin.hours(10, &[HIGH_MM, USUAL_MM, USUAL_MM, USUAL_MM], None);
    assert_eq!(basin.raised, [(DRY_HOURS as u64 + 4, "L0 blocked".to_owned())]);
    let alarm = basin.standing().into_iter().find(|alarm| alarm.condition == "blocked").unwrap();
    assert!(alarm.explanation.contains("in dry weather, while the water downstream is not high"), "{alarm:?}");
    assert!(alarm.explanation_zh.contains("旱天，下游水位未见偏高"), "{alarm:?}");
    let grounds: Vec<String> = alarm.evidence.unwrap().grounds.into_iter().map(|ground| ground.en).collect();
    assert!(grounds.contains(&"downstream: L1, at 50 mm".to_owned()), "{grounds:?}");
}

#[test]
fn where_nobody_watches_the_weather_nothing_is_said_or_learnt() {
    let mut basin = Basin::new(3, false);
    basin.hours(DRY_HOURS, &[USUAL_MM; 3], None);
    basin.hours(24, &[HIGH_MM, USUAL_MM, USUAL_MM], None);
    assert_eq!(basin.raised(), Vec::<&str>::new());
}

#[test]
fn a_rain_gauge_without_a_parent_watches_every_catchment() {
    let mut basin = Basin::new(1, true);
    basin.hours(DRY_HOURS, &[USUAL_MM], Some(0.0));
    basin.hours(10, &[HIGH_MM], Some(0.0));
    assert_eq!(basin.raised(), ["L0 blocked"]);
}

#[test]
fn after_rain_water_has_hours_to_run_off_and_what_stays_is_a_blockage() {
    let mut basin = Basin::new(1, true);
    basin.hours(DRY_HOURS, &[USUAL_MM], Some(0.0));
    basin.hours(2, &[HIGH_MM], Some(3.0));
    basin.hours(30, &[HIGH_MM], Some(0.0));
    // The last rain of hour 1 counts for six hours of sums, and for six hours more; then it must hold four hours.
    let [(hour, what)] = basin.raised.as_slice() else { panic!("{:?}", basin.raised) };
    assert_eq!(what, "L0 blocked");
    assert!((10..=18).contains(&(hour - DRY_HOURS as u64)), "{hour}");
}

#[test]
fn three_levels_that_rise_together_are_rain_and_no_blockage() {
    let mut basin = Basin::new(5, false);
    basin.hours(DRY_HOURS, &[USUAL_MM; 5], None);
    basin.hours(7, &[HIGH_MM, HIGH_MM, HIGH_MM, USUAL_MM, USUAL_MM], None);
    basin.hours(24, &[USUAL_MM; 5], None);
    assert_eq!(basin.raised(), Vec::<&str>::new());
}

#[test]
fn a_rainstorm_signal_is_wet_weather() {
    let mut basin = Basin::new(4, false);
    basin.hours(DRY_HOURS, &[USUAL_MM; 4], None);
    let signal = RainSignal { level: RainLevel::Blue, until: basin.at.plus(HOUR * 3) };
    basin.step(&[Input::Operator(OperatorAction::RainSignal { signal, by: "duty".to_owned() })]);
    basin.hours(8, &[HIGH_MM, USUAL_MM, USUAL_MM, USUAL_MM], None);
    assert_eq!(basin.raised(), Vec::<&str>::new());
    basin.hours(8, &[HIGH_MM, USUAL_MM, USUAL_MM, USUAL_MM], None);
    assert_eq!(basin.raised(), ["L0 blocked"]);
}

#[test]
fn water_that_is_held_back_from_downstream_is_backwater_and_the_blockage_is_below() {
    let mut basin = Basin::new(5, false);
    basin.hours(DRY_HOURS, &[USUAL_MM; 5], None);
    basin.hours(1, &[USUAL_MM, HIGH_MM, USUAL_MM, USUAL_MM, USUAL_MM], None);
    basin.hours(10, &[HIGH_MM, HIGH_MM, USUAL_MM, USUAL_MM, USUAL_MM], None);
    assert_eq!(basin.raised(), ["L1 blocked", "L0 backwater"]);
    let alarms = basin.standing();
    let backwater = alarms.iter().find(|alarm| alarm.condition == "backwater").unwrap();
    assert_eq!((backwater.severity, backwater.case_id.as_deref()), (Severity::Notice, None));
}

#[test]
fn a_blockage_that_stands_is_not_over_because_it_rains() {
    let mut basin = Basin::new(1, true);
    basin.hours(DRY_HOURS, &[USUAL_MM], Some(0.0));
    basin.hours(6, &[HIGH_MM], Some(0.0));
    basin.hours(3, &[HIGH_MM], Some(5.0));
    assert_eq!((basin.raised(), basin.standing().len()), (vec!["L0 blocked"], 1));
    basin.hour(&[USUAL_MM], Some(5.0));
    assert_eq!(basin.standing().len(), 0, "good data end it, also in the rain");
}

#[test]
fn restarts_at_every_reading_change_nothing() {
    let (mut plain, mut restarted) = (Basin::new(4, true), Basin::new(4, true));
    restarted.is_restarted = true;
    for basin in [&mut plain, &mut restarted] {
        basin.hours(DRY_HOURS, &[USUAL_MM; 4], Some(0.0));
        basin.hours(2, &[90.0, 95.0, 90.0, USUAL_MM], Some(0.4));
        basin.hours(14, &[HIGH_MM, USUAL_MM, USUAL_MM, USUAL_MM], Some(0.0));
    }
    assert_eq!(plain.raised(), ["L0 blocked"]);
    assert_eq!(plain.raised, restarted.raised);
    assert_eq!(plain.engine.snapshot(), restarted.engine.snapshot());
}
