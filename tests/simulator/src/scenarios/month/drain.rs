//! Drains: the rhythm of the day, storms of which most fill no pipe, and the noise of sensors.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::inventory::Device;

use super::{DAY, HOUR, MINUTE, Place, Said, Span, Street, Trouble, Wants};
use crate::noise::draw;
use crate::weather::{Rise, diurnal_factor};

/// Something else than water under a sensor.
struct Thing {
    kind: &'static str,
    /// How often each day.
    a_day: f64,
    /// For how many reports, between.
    reports: (f64, f64),
    /// Its height in mm, between; low ones more often.
    height: (f64, f64),
}

const SPLASH: Thing = Thing { kind: "a splash", a_day: 0.1, reports: (0.9, 0.9), height: (20.0, 1_500.0) };
/// On an ultrasonic sensor: two or three readings of a near distance.
const CONDENSATION: Thing =
    Thing { kind: "condensation", a_day: 1.0 / 30.0, reports: (1.9, 2.9), height: (2_000.0, 3_000.0) };
const RUBBISH: Thing =
    Thing { kind: "a parked car or rubbish", a_day: 1.0 / 60.0, reports: (10.0, 90.0), height: (100.0, 1_500.0) };
/// Twice a week, as FloodNet's boxes are taken to come.
const PARKED_CAR: Thing = Thing { a_day: 2.0 / 7.0, ..RUBBISH };
/// One sensor in so many looks at a street and not into a pipe.
const STREET_EACH: usize = 10;
/// What water does in the well, and the profile may say.
const RISING: &[&str] = &["surcharged", "surging", "overflow_soon", "storm", "flooded", "unusual"];

#[derive(Clone, Debug, Default)]
struct Fate {
    rises: Vec<Rise>,
    /// From when until when something else than water is under the sensor, mm.
    things: Vec<(Span, f64)>,
    /// The value stands still.
    stuck: Option<Span>,
    /// Level behind a blockage, mm above the usual.
    blocked: Option<(Span, f64)>,
    dies_at: Option<Timestamp>,
    /// When nobody can see a flood.
    blind: Vec<Span>,
    dry_mm: f64,
}

impl Street {
    pub(super) fn drain(&mut self, place: &Place, number: usize, cell_fails: Span) {
        let facts = place.device("DL", number, &place.catchment);
        let is_street = number.is_multiple_of(STREET_EACH);
        let every = if is_street { MINUTE } else { MINUTE * 5 };
        // Each well drains into the one before it.
        let downstream = number.checked_sub(1).map(|below| place.device("DL", below, "").id).unwrap_or_default();
        let facts = Device { interval: Some(every), downstream, ..facts };
        let dry_mm = if is_street { 0.0 } else { draw(&mut self.chance, 30.0, 90.0) };
        let mut fate = Fate { dry_mm, ..Fate::default() };
        self.drain_troubles(&facts.id, number, cell_fails, &mut fate);
        let mut outages = vec![cell_fails];
        outages.extend(fate.dies_at.map(|from| Span { from, until: self.span.until.plus(DAY) }));
        fate.blind = outages.iter().copied().chain(fate.stuck).collect();
        self.storms_fill(place, &facts.id, &mut fate);
        self.things_under_sensor(&facts.id, every, is_street, &mut fate);
        let reports = self.reports(every, outages);
        let mut last = 0.0;
        let sky = Arc::clone(&place.sky);
        let messages = reports.of(move |at, chance| {
            let water = fate.rises.iter().map(|rise| rise.height_mm(at)).fold(0.0, f64::max);
            let blocked = fate
                .blocked
                .filter(|(span, _)| span.has(at))
                .map_or(0.0, |(span, height)| height * (at.since(span.from).as_secs_f64() / 14_400.0).min(1.0));
            let flow = fate.dry_mm * diurnal_factor(at).sqrt();
            let noise = 6.0 * (chance.f64() - 0.5) + 3.0 * (chance.f64() - 0.5);
            let thing = fate.things.iter().find(|(span, _)| span.has(at)).map_or(0.0, |(_, height)| *height);
            let level = (flow + water + blocked + noise).max(thing * (1.0 + 0.01 * (chance.f64() - 0.5))).round();
            if !fate.stuck.is_some_and(|span| span.has(at)) {
                last = level;
            }
            vec![
                ("level_mm", Said::Number(last)),
                ("battery_v", Said::Number((360.0 + 3.0 * chance.f64()).round() / 100.0)),
                ("signal_dbm", Said::Number(draw(chance, -110.0, -80.0).round())),
                ("temperature_c", Said::Number((sky.temperature_c(at) - 6.0).round())),
            ]
        });
        let points = ["level_mm", "battery_v", "signal_dbm", "temperature_c"];
        self.send(facts, "json-level", &points, messages);
    }

    /// In each storm one pipe in ten is filled beyond its crown, half rise, the others take it.
    fn storms_fill(&mut self, place: &Place, id: &str, fate: &mut Fate) {
        let end = self.span.until;
        for storm in place.sky.onsets().filter(|onset| *onset < end) {
            let onset = storm.plus(MINUTE.mul_f64(draw(&mut self.chance, 8.0, 25.0)));
            let recession = MINUTE.mul_f64(draw(&mut self.chance, 20.0, 120.0));
            let kind = self.chance.f64();
            let behind = recession * 2 + HOUR * 2;
            if kind < 0.1 {
                let peak_mm = draw(&mut self.chance, 450.0, 700.0);
                let rise = Rise::Surge { onset, peak_mm, recession };
                self.flood(id, &rise, fate, Span::of(onset, behind));
                fate.rises.push(rise);
            } else if kind < 0.6 {
                let rise = MINUTE.mul_f64(draw(&mut self.chance, 12.0, 60.0));
                let peak_mm = 60.0 * (250.0_f64 / 60.0).powf(self.chance.f64());
                fate.rises.push(Rise::Gentle { onset, rise, peak_mm, recession });
                self.tolerate(id, RISING, Span::of(onset, rise + behind));
            }
        }
    }

    fn flood(&mut self, id: &str, rise: &Rise, fate: &Fate, span: Span) {
        let reaches = |mm: f64| {
            let minutes = (0..600_u32).map(|step| span.from.plus(Duration::from_secs(10) * step));
            minutes.into_iter().find(|at| rise.height_mm(*at) + 0.6 * fate.dry_mm >= mm).unwrap_or(span.until)
        };
        let watch = Span { from: reaches(150.0).minus(MINUTE * 6), until: span.until };
        // Readings of 5 min, and rules that believe readings on the way, are ahead of the limit by so much.
        let crown = Span { from: reaches(270.0).minus(MINUTE * 6), until: span.until };
        let (any_of, also) = (&["surcharged"], &["flooded_and_silent"]);
        // Two reports and a lost one of five minutes.
        let within = MINUTE * 20;
        let is_seen = !fate.blind.iter().any(|blind| blind.from < crown.from.plus(HOUR) && watch.from < blind.until);
        let wants = if is_seen { Wants::Alarm } else { Wants::Nothing };
        self.trouble(Trouble { kind: "water beyond 15 cm", device: id, any_of, also, span: watch, within, wants });
        let (wants, within) = (if is_seen { Wants::Case } else { Wants::Nothing }, MINUTE * 25);
        self.trouble(Trouble { kind: "water beyond 27 cm", device: id, any_of, also, span: crown, within, wants });
        self.tolerate(id, RISING, span);
    }

    fn things_under_sensor(&mut self, id: &str, every: Duration, is_street: bool, fate: &mut Fate) {
        let days = self.span.until.since(self.span.from).as_secs_f64() / 86_400.0;
        for thing in [&SPLASH, &CONDENSATION, if is_street { &PARKED_CAR } else { &RUBBISH }] {
            let Thing { kind, a_day, reports: (short, long), height: (low, high) } = *thing;
            let expected = a_day * days;
            let count = expected.floor() as usize + usize::from(self.chance.f64() < expected.fract());
            for _ in 0..count {
                let length = every.mul_f64(draw(&mut self.chance, short, long));
                let span = Span::of(self.moment(), length);
                let height = low * (high / low).powf(self.chance.f64());
                fate.things.push((span, height));
                let looked_at = Span { from: span.from, until: span.until.plus(every * 2) };
                self.trap(kind, id, &["surcharged", "surging", "overflow_soon"], looked_at);
                // What stands still under a sensor is a fault of it for those who look.
                let until = span.until.plus(HOUR * 2);
                self.tolerate(id, &["sensor_fault", "sensor_stuck"], Span { until, ..span });
                if !is_street && span.until >= span.from.plus(HOUR * 4) {
                    // What lies in a pipe for half a day is work for a crew, and looks like water that stands.
                    self.tolerate(id, &["blocked"], Span { until, ..span });
                }
            }
        }
    }

    fn drain_troubles(&mut self, id: &str, number: usize, cell_fails: Span, fate: &mut Fate) {
        let from = self.moment_outside(&[cell_fails]);
        if Street::is_one_of(number, 1, 1) {
            fate.dies_at = Some(from);
            let span = Span { from, until: self.span.until };
            let any_of = &["silent", "flooded_and_silent"];
            let (within, wants) = (HOUR * 2, Wants::Case);
            self.trouble(Trouble { kind: "level sensor dies", device: id, any_of, also: &[], span, within, wants });
        }
        if Street::is_one_of(number, 2, 1) {
            let span = Span { from, until: self.span.until };
            fate.stuck = Some(span);
            let (any_of, also) = (&["sensor_stuck", "sensor_fault"], &["blocked"]);
            // It may stand still at the top of a flood.
            self.tolerate(id, RISING, span);
            let (within, wants) = (HOUR * 13, Wants::Alarm);
            self.trouble(Trouble { kind: "level sensor stuck", device: id, any_of, also, span, within, wants });
        }
        if Street::is_one_of(number, 3, 1) {
            // Whether a blockage is found is for the suite of drains; here it must only not be taken for a flood.
            let span = Span { from, until: self.span.until };
            fate.blocked = Some((span, draw(&mut self.chance, 80.0, 140.0)));
            self.tolerate(id, &["blocked", "backwater", "level_creeping", "surcharged"], span);
        }
    }
}
