//! The suite to copy: covers that are opened, by thieves and by crews, and drains that fill, with water and with cars.

use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::{MaskKind, Timestamp};

use super::{Act, Event, Extent, Floors, Radio, Reports, Said, Scenario, Sender, Span, Trap, Wants};

const START: Timestamp = Timestamp(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const LENGTH: Duration = Duration::from_secs(3 * 86_400);

pub(super) const FLOORS: Floors =
    Floors { recall: 1.0, recall_of: &[], precision: 1.0, precision_of: &[], false_cases: 0.0 };

pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario> {
    let count = match extent {
        Extent::Quick => 4,
        Extent::Full => 40,
    };
    let mut scenario = Scenario {
        name: "opened covers, flooded drains".to_owned(),
        start: START,
        length: LENGTH,
        senders: Vec::new(),
        acts: Vec::new(),
        events: Vec::new(),
        traps: Vec::new(),
    };
    let mut chance = fastrand::Rng::with_seed(seed);
    for number in 0..count {
        cover(&mut scenario, number, &mut chance);
        drain(&mut scenario, number, &mut chance);
    }
    vec![scenario]
}

/// Every second cover is opened by a crew with a permit, the others by somebody without.
fn cover(scenario: &mut Scenario, number: usize, chance: &mut fastrand::Rng) {
    let id = format!("MH-{number}");
    let opened = Span::of(START.plus(HOUR * 24 + LENGTH.mul_f64(0.3 * chance.f64())), MINUTE * 40);
    if number.is_multiple_of(2) {
        let span = Span { from: opened.from.minus(MINUTE * 10), until: opened.until.plus(MINUTE * 10) };
        scenario.acts.push(Act::Mask { device: id.clone(), kind: MaskKind::Permit, span });
        scenario.traps.push(Trap {
            kind: "opened with a permit",
            devices: vec![id.clone()],
            conditions: Vec::new(),
            span,
        });
    } else {
        scenario.events.push(Event {
            kind: "opened",
            devices: vec![id.clone()],
            any_of: vec!["displaced"],
            also: Vec::new(),
            from: opened.from,
            due_by: opened.from.plus(MINUTE),
            until: opened.until,
            wants: Wants::Case,
        });
    }
    let rest = 3.0 * chance.f64();
    let reports = Reports {
        at_once: vec![opened.from, opened.until],
        radio: Radio { loss: 0.0, delay_max: Duration::from_secs(5), ..Radio::default() },
        ..Reports::every(Span::of(START, LENGTH), HOUR, chance.u64(..))
    };
    let messages = reports.of(move |at, chance| {
        let is_open = opened.has(at);
        let tilt = if is_open { 60.0 } else { rest + 0.4 * chance.f64() };
        vec![("cover_open", Said::Flag(is_open)), ("tilt_deg", Said::Number(tilt))]
    });
    let facts = Device { id, ..Device::default() };
    scenario.senders.push(Sender {
        facts,
        profile: "json-manhole-cover",
        points: vec!["cover_open", "tilt_deg"],
        messages,
    });
}

/// Each drain fills once beyond the crown of its pipe; and once a car parks over its sensor for some hours.
fn drain(scenario: &mut Scenario, number: usize, chance: &mut fastrand::Rng) {
    let id = format!("DL-{number}");
    let begin = START.plus(HOUR * 8 + LENGTH.mul_f64(0.3 * chance.f64()));
    let car = Span::of(START.plus(HOUR * 48 + HOUR.mul_f64(12.0 * chance.f64())), HOUR * 3);
    // 20 mm a minute up to 600 mm, and down at half that speed.
    let height = move |at: Timestamp| {
        let minutes = at.since(begin).as_secs_f64() / 60.0;
        if minutes < 30.0 { 20.0 * minutes } else { (600.0 - 10.0 * (minutes - 30.0)).max(0.0) }
    };
    scenario.events.push(Event {
        kind: "flooded",
        devices: vec![id.clone()],
        any_of: vec!["surcharged"],
        also: vec!["surging", "overflow_soon", "storm"],
        // 270 mm, at which a road is closed, are reached after 12 min, and the crown of the pipe at 400 mm after 18.
        from: begin.plus(MINUTE * 11),
        due_by: begin.plus(MINUTE * 24),
        until: begin.plus(MINUTE * 90),
        wants: Wants::Case,
    });
    // What announces it comes before it is there.
    scenario.events.push(Event {
        kind: "filling",
        devices: vec![id.clone()],
        any_of: vec!["surging", "overflow_soon"],
        also: vec!["surcharged"],
        from: begin,
        due_by: begin.plus(MINUTE * 20),
        until: begin.plus(MINUTE * 90),
        wants: Wants::Alarm,
    });
    scenario.traps.push(Trap {
        kind: "a parked car",
        devices: vec![id.clone()],
        conditions: vec!["surcharged"],
        span: car,
    });
    let messages = Reports::every(Span::of(START, LENGTH), MINUTE * 2, chance.u64(..)).of(move |at, chance| {
        let level = 40.0 + height(at) + if car.has(at) { 900.0 } else { 0.0 };
        vec![("level_mm", Said::Number((level + 4.0 * chance.f64()).round()))]
    });
    let facts = Device { id, interval: Some(MINUTE * 2), ..Device::default() };
    scenario.senders.push(Sender { facts, profile: "json-level", points: vec!["level_mm"], messages });
}
