//! A river that holds the water of its last pipe back, and the well of a pumping station.

use std::sync::Arc;

use kerbside_model::inventory::Device;

use super::{Basin, DAY, Excess, HOUR, MINUTE, Ramp, Said, Sender, Span, Wants, between};

/// Usual level of the river, mm.
const RIVER_MM: f64 = 800.0;
/// Levels at which a pump stops and starts, mm, and how fast the water rises and falls meanwhile, mm in a minute.
const PUMP_STOPS_MM: f64 = 600.0;
const PUMP_STARTS_MM: f64 = 1_200.0;
const FILLS_MM: f64 = 15.0;
const EMPTIES_MM: f64 = 40.0;
const RIM_MM: f64 = 2_600.0;

impl Basin {
    /// The river rises by rain somewhere else, and the pipe above it cannot run off.
    pub(super) fn river(&mut self) {
        let from = self.moment(DAY * 5);
        let rise = HOUR.mul_f64(between(&mut self.chance, 12.0, 24.0));
        let stay = DAY.mul_f64(between(&mut self.chance, 1.0, 3.0));
        let height_mm = between(&mut self.chance, 300.0, 600.0);
        let ramp = Ramp { from, rise, stay, height_mm };
        let river = self.id("river");
        let mut outfall = self.well("outfall", &river);
        // Its invert lies 10 cm above the usual river.
        outfall.excess = Excess { share: 0.8, swallowed_mm: 100.0, ..Excess::of(ramp) };
        self.note_high(&outfall, "held back by the river", "backwater", Wants::Alarm);
        self.add(outfall);
        let span = Span { from, until: ramp.until().plus(DAY) };
        self.note(&river, "river high", &["river_high"], (span, from.plus(rise).plus(HOUR * 2)), Wants::Alarm);
        let excess = Excess::of(ramp);
        let sky = Arc::clone(&self.sky);
        let messages = self.reports(MINUTE * 10).of(move |at, chance| {
            let wave = 15.0 * (at.0 as f64 / 37e6).sin() + 6.0 * (chance.f64() - 0.5);
            let level = RIVER_MM + wave + excess.mm(at) + 2.0 * sky.stored_mm(at);
            vec![("level_mm", Said::Number(level.round()))]
        });
        let interval = Some(MINUTE * 10);
        let facts = Device { id: river, parent: self.id("RIVER"), interval, ..Device::default() };
        self.scenario.senders.push(Sender { facts, profile: "json-river-level", points: vec!["level_mm"], messages });
    }

    /// A pump that does not start once, and once turns without lifting anything.
    pub(super) fn pump(&mut self) {
        let id = self.id("pump");
        let dead = Span::of(self.moment(DAY * 4), HOUR.mul_f64(between(&mut self.chance, 2.0, 4.0)));
        let idle = Span::of(dead.until.plus(HOUR * 30), HOUR.mul_f64(between(&mut self.chance, 2.5, 4.0)));
        for (kind, span) in [("pump does not start", dead), ("pump lifts nothing", idle)] {
            // A full cycle from the lowest level, an hour above the start, and three reports.
            let within = MINUTE.mul_f64((PUMP_STARTS_MM + 100.0 - PUMP_STOPS_MM) / FILLS_MM) + MINUTE * 70;
            let span = Span { from: span.from, until: span.until.plus(HOUR * 2) };
            self.note(&id, kind, &["pump_stopped"], (span, span.from.plus(within)), Wants::Case);
        }
        let (mut level, mut is_on, mut last) = (PUMP_STOPS_MM, false, super::START);
        let messages = self.reports(MINUTE * 5).of(move |at, chance| {
            let minutes = at.since(last).as_secs();
            last = at;
            for _ in 0..minutes / 10 {
                let lifts = is_on && !idle.has(at);
                level += (FILLS_MM - if lifts { EMPTIES_MM } else { 0.0 }) / 6.0;
                level = level.min(RIM_MM);
                is_on = if dead.has(at) { false } else { (is_on && level > PUMP_STOPS_MM) || level >= PUMP_STARTS_MM };
            }
            let current = if is_on { 18.0 + 2.0 * chance.f64() } else { 0.1 };
            vec![
                ("level_mm", Said::Number((level + 4.0 * chance.f64()).round())),
                ("pump_on", Said::Flag(is_on)),
                ("current_a", Said::Number((current * 10.0).round() / 10.0)),
            ]
        });
        let facts = Device { id, ..Device::default() };
        let points = vec!["level_mm", "pump_on", "current_a"];
        self.scenario.senders.push(Sender { facts, profile: "json-pump-station", points, messages });
    }
}
