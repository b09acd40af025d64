//! Batteries of covers over months: cells that end by their charge, by their voltage or at their knee, and cold, radio
//! and new batteries that only look so.

use std::time::Duration;

use fastrand::Rng;
use kerbside_model::Timestamp;
use kerbside_model::inventory::Device;

use super::{Event, Extent, Floors, Radio, Reports, Said, Scenario, Sender, Span, Trap, Wants};

/// Midnight of a Friday in China.
const START: Timestamp = Timestamp(1_799_942_400_000);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 150;
const POINTS: [&str; 4] = ["cover_open", "battery_v", "temperature_c", "tilt_deg"];
/// What a message and an hour of sleep take in the profile, mAh.
const MESSAGE_MAH: f64 = 0.2;
const SLEEP_MAH: f64 = 0.015;
const CAPACITY_MAH: f64 = 14_000.0;

/// A cover whose reports get lost by chance is silent once in a thousand days: that is not what is tested here.
pub(super) const FLOORS: Floors =
    Floors { recall: 0.95, recall_of: &[], precision: 0.9, precision_of: &[("silent", 0.0)], false_cases: 3.0 };

/// A battery.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    /// Flat, and full for years.
    Flat,
    /// Flat; its charge is used up on this day.
    Counted(f64),
    /// Alkaline: it falls evenly to 3.1 V on this day.
    Falls(f64),
    /// Flat until this day, then it falls by 0.05 V a day.
    Knee(f64),
    /// Falls, and is replaced on the second day.
    Replaced(f64, f64),
    /// Flat, in a winter that is colder by so many degrees from the middle on.
    Cold(f64),
}

pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario> {
    let rounds = match extent {
        Extent::Quick => 1,
        Extent::Full => 10,
    };
    let mut chance = Rng::with_seed(seed);
    let mut scenario = Scenario {
        name: "batteries of covers".to_owned(),
        start: START,
        length: DAY * DAYS,
        senders: Vec::new(),
        acts: Vec::new(),
        events: Vec::new(),
        traps: Vec::new(),
    };
    for round in 0..rounds {
        let mut day = |from: f64, to: f64| from + (to - from) * chance.f64();
        let cells = [
            Cell::Flat,
            Cell::Counted(day(120.0, 145.0)),
            Cell::Falls(day(120.0, 145.0)),
            Cell::Knee(day(60.0, 130.0)),
            Cell::Replaced(day(70.0, 95.0), 40.0),
            Cell::Cold(day(15.0, 30.0)),
        ];
        for (number, cell) in cells.into_iter().enumerate() {
            cover(&mut scenario, format!("MH-{round}-{number}"), cell, &mut chance);
        }
    }
    vec![scenario]
}

fn cover(scenario: &mut Scenario, id: String, cell: Cell, chance: &mut Rng) {
    let on = |day: f64| START.plus(DAY.mul_f64(day.max(0.0)));
    let devices = vec![id.clone()];
    let mut event = |kind, from: f64, due_by: f64, until: f64| {
        scenario.events.push(Event {
            kind,
            devices: devices.clone(),
            any_of: vec!["battery_ending"],
            also: vec!["battery_low"],
            from: on(from),
            due_by: on(due_by),
            until: on(until),
            wants: Wants::Alarm,
        });
    };
    let all = f64::from(DAYS);
    // Told within 60 days; a forecast that is a third too early or too late is none.
    match cell {
        Cell::Counted(end) => event("charge used up", end - 80.0, end - 40.0, all),
        Cell::Falls(end) => event("voltage falls", end - 80.0, end - 40.0, all),
        Cell::Knee(begin) => event("knee", begin, begin + 9.0, all),
        Cell::Replaced(end, at) => event("replaced in time", end - 80.0, at, at + 10.0),
        Cell::Flat | Cell::Cold(_) => {
            let (kind, span) = (if cell == Cell::Flat { "flat" } else { "cold" }, Span::of(START, DAY * DAYS));
            scenario.traps.push(Trap { kind, devices, conditions: Vec::new(), span });
        }
    }
    let warm = 12.0 + 8.0 * chance.f64();
    let radio = Radio { loss: 0.01, delay_max: Duration::from_secs(8), twice: 0.02, ..Radio::default() };
    let reports =
        Reports { radio, jitter: HOUR / 60, ..Reports::every(Span::of(START, DAY * DAYS), HOUR, chance.u64(..)) };
    let messages = reports.of(move |at, chance| {
        let day = at.since(START).as_secs_f64() / DAY.as_secs_f64();
        let wave = ((day.fract() - 0.42) * std::f64::consts::TAU).sin();
        let chill = if let Cell::Cold(by) = cell { by * (day / f64::from(DAYS) * 2.0).min(1.0) } else { 0.0 };
        let temperature = warm - chill + 6.0 * wave + chance.f64();
        let rest = match cell {
            Cell::Flat | Cell::Cold(_) | Cell::Counted(_) => 3.62,
            Cell::Falls(end) => 3.1 + 0.5 * (1.0 - day / end),
            Cell::Knee(begin) => 3.62 - 0.05 * (day - begin).max(0.0),
            Cell::Replaced(_, at) if day >= at => 3.62,
            Cell::Replaced(end, _) => 3.1 + 0.5 * (1.0 - day / end),
        };
        // Under the load of the radio, and colder cells are weaker.
        let volt = rest - 0.0025 * (20.0 - temperature) - 0.02 * chance.f64();
        vec![
            ("cover_open", Said::Flag(false)),
            ("tilt_deg", Said::Number(1.0 + 0.2 * chance.f64())),
            ("battery_v", Said::Number((volt.max(0.0) * 100.0).round() / 100.0)),
            ("temperature_c", Said::Number((temperature * 10.0).round() / 10.0)),
        ]
    });
    // So old that the charge ends on that day, at 24 messages a day.
    let a_day = 24.0 * (MESSAGE_MAH + SLEEP_MAH);
    let battery_since = match cell {
        Cell::Counted(end) => Some(Timestamp(START.0 - ((CAPACITY_MAH / a_day - end) * 86_400_000.0) as i64)),
        _ => Some(Timestamp(START.0 - 86_400_000 * 90)),
    };
    let facts = Device { id, interval: Some(HOUR), battery_since, ..Device::default() };
    scenario.senders.push(Sender { facts, profile: "json-manhole-cover", points: POINTS.to_vec(), messages });
}
