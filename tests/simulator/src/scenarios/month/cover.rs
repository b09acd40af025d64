//! Covers: one opening with a permit a month, lorries, and once in a neighbourhood each thing that can be wrong.

use std::sync::Arc;

use fastrand::Rng;
use kerbside_model::{MaskKind, Timestamp};

use super::{Act, DAY, HOUR, MINUTE, Place, Reports, SECOND, Said, Span, Street, Trouble, Wants, tenths};
use crate::noise::draw;
use crate::weather::local_hour;

/// Openings with a permit: so many a cover and day, 3,957 of 3,957 wells in two months and as many again for cables.
const OPENINGS_A_DAY: f64 = 1.0 / 30.0;
/// Wheels that tilt a sound cover so that its sensor tells, each day.
const HITS_A_DAY: f64 = 0.2;
/// Loose ones are hit by every bus.
const HITS_A_DAY_LOOSE: f64 = 6.0;
/// A wheel is over the cover for less than two seconds; boards report that it is at rest again soon after.
const AT_REST_AFTER: std::time::Duration = std::time::Duration::from_secs(4);
/// Shakes that a sound cover in a road counts in an hour of the day, and how many times as many a loose one.
const SHAKES_AN_HOUR: f64 = 12.0;
const LOOSE_TIMES: f64 = 6.0;

/// What is the matter with one cover.
#[derive(Clone, Debug, Default)]
struct Fate {
    /// Off, or wide open: the contact says so.
    open: Vec<Span>,
    /// Moved to this angle, with the contact shut.
    tilted: Vec<(Span, f64)>,
    hits: Vec<Timestamp>,
    gas: Option<Span>,
    water: Vec<Span>,
    dies_at: Option<Timestamp>,
    /// Rattles under every wheel.
    is_loose: bool,
    /// Volts a day that an alkaline cell loses; lithium ones lose nothing.
    falls_v_a_day: f64,
    rest_deg: f64,
    /// Degrees by heat between noon and midnight.
    heat_deg: f64,
}

impl Street {
    pub(super) fn cover(&mut self, place: &Place, number: usize, cell_fails: Span) {
        let facts = place.device("MH", number, &place.catchment);
        let mut fate =
            Fate { rest_deg: draw(&mut self.chance, 0.0, 4.0), heat_deg: 0.3 * self.chance.f64(), ..Fate::default() };
        self.permits(&facts.id, &mut fate);
        self.lorries(&facts.id, number, &mut fate);
        self.cover_troubles(&facts.id, number, cell_fails, &mut fate);
        self.water_under_covers(place, &facts.id, number, &mut fate);
        let mut at_once = Vec::new();
        let opened = fate.open.iter().chain(fate.tilted.iter().map(|(span, _)| span));
        for span in opened {
            // What happens is said again after half a minute and after five: radios lose messages.
            at_once.extend([span.from, span.from.plus(SECOND * 30), span.from.plus(MINUTE * 5)]);
            at_once.extend([span.until, span.until.plus(SECOND * 30), span.until.plus(MINUTE * 5)]);
        }
        at_once.extend(fate.hits.iter().flat_map(|at| [*at, at.plus(AT_REST_AFTER)]));
        let mut outages = vec![cell_fails];
        if let Some(dies_at) = fate.dies_at {
            outages.push(Span { from: dies_at, until: self.span.until.plus(DAY) });
            at_once.retain(|at| *at < dies_at);
        }
        let reports = Reports { at_once, ..self.reports(HOUR, outages) };
        let (sky, begin) = (Arc::clone(&place.sky), self.span.from);
        let mut shaken = 0.0;
        let mut counted_to = begin;
        let messages = reports.of(move |at, chance| {
            let is_open = fate.open.iter().any(|span| span.has(at));
            let moved = fate.tilted.iter().find(|(span, _)| span.has(at)).map_or(0.0, |(_, angle)| *angle);
            let is_hit = fate.hits.iter().any(|hit| *hit <= at && at < hit.plus(SECOND * 2));
            let heat = fate.heat_deg * (sky.temperature_c(at) - 26.0) / 4.5;
            let hit = if is_hit { draw(chance, 12.0, 45.0) } else { 0.0 };
            let open = if is_open { draw(chance, 60.0, 95.0) } else { 0.0 };
            let tilt = (fate.rest_deg + heat + moved + hit + open + 0.2 * chance.f64()).max(0.0);
            // A lithium cell sags when the radio sends with all its power.
            let sag = if chance.f64() < 0.02 { draw(chance, 0.2, 0.6) } else { 0.0 };
            let days = at.since(begin).as_secs_f64() / 86_400.0;
            let gas = if fate.gas.is_some_and(|span| span.has(at)) { draw(chance, 14.0, 30.0) } else { 0.0 };
            let cell = 3.6 - fate.falls_v_a_day * days - sag + 0.02 * chance.f64();
            shaken += shakes(counted_to, at, fate.is_loose, chance);
            counted_to = at;
            vec![
                ("vibration_count", Said::Number(shaken)),
                ("cover_open", Said::Flag(is_open)),
                ("tilt_deg", Said::Number(tenths(tilt))),
                ("water_present", Said::Flag(fate.water.iter().any(|span| span.has(at)))),
                ("battery_v", Said::Number((cell * 100.0).round() / 100.0)),
                ("temperature_c", Said::Number(tenths(sky.temperature_c(at) - 4.0))),
                ("signal_dbm", Said::Number(draw(chance, -112.0, -85.0).round())),
                ("ch4_lel_percent", Said::Number(tenths(gas + 0.3 * chance.f64()))),
                ("h2s_mg_m3", Said::Number(tenths(0.4 * chance.f64()))),
            ]
        });
        let points = [
            "vibration_count",
            "cover_open",
            "tilt_deg",
            "water_present",
            "battery_v",
            "temperature_c",
            "signal_dbm",
            "ch4_lel_percent",
            "h2s_mg_m3",
        ];
        self.send(facts, "json-manhole-cover", &points, messages);
    }

    /// Crews open covers for a while, with a permit that they asked for; some begin it late or overrun it.
    fn permits(&mut self, id: &str, fate: &mut Fate) {
        let days = self.span.until.since(self.span.from).as_secs_f64() / 86_400.0;
        let mut count = (OPENINGS_A_DAY * days).floor() as usize;
        count += usize::from(self.chance.f64() < (OPENINGS_A_DAY * days).fract());
        for _ in 0..count {
            let from = self.moment();
            let open = Span::of(from, MINUTE.mul_f64(draw(&mut self.chance, 10.0, 50.0)));
            if fate.open.iter().any(|other| open.from < other.until.plus(HOUR) && other.from < open.until.plus(HOUR)) {
                continue;
            }
            let span = Span { from: from.minus(MINUTE * 5), until: from.plus(HOUR) };
            self.scenario.acts.push(Act::Mask { device: id.to_owned(), kind: MaskKind::Permit, span });
            self.trap("opened with a permit", id, &[], span);
            fate.open.push(open);
        }
    }

    fn lorries(&mut self, id: &str, number: usize, fate: &mut Fate) {
        let days = self.span.until.since(self.span.from).as_secs_f64() / 86_400.0;
        let is_loose = Street::is_one_of(number, 20, 2);
        let rate = if is_loose { HITS_A_DAY_LOOSE } else { HITS_A_DAY };
        let count = (rate * days * (0.5 + self.chance.f64())).round() as usize;
        for _ in 0..count {
            let at = self.span.from.plus(self.span.until.since(self.span.from).mul_f64(self.chance.f64()));
            fate.hits.push(at);
            self.trap("a wheel on the cover", id, &["displaced"], Span::of(at, MINUTE));
        }
        if is_loose {
            fate.is_loose = true;
            self.tolerate(id, &["settled"], self.span);
        }
    }

    fn cover_troubles(&mut self, id: &str, number: usize, cell_fails: Span, fate: &mut Fate) {
        let from = self.moment_outside(&[cell_fails]);
        let case = Wants::Case;
        if Street::is_one_of(number, 0, 2) {
            let span = Span::of(from, HOUR.mul_f64(draw(&mut self.chance, 0.5, 8.0)));
            fate.open.push(span);
            let also = &["tampered", "covers_opened", "settled"];
            let any_of = &["displaced"];
            self.trouble(Trouble {
                kind: "cover opened",
                device: id,
                any_of,
                also,
                span,
                within: MINUTE * 6,
                wants: case,
            });
        }
        if Street::is_one_of(number, 2, 2) {
            let span = Span::of(from, HOUR.mul_f64(draw(&mut self.chance, 3.0, 12.0)));
            fate.tilted.push((span, draw(&mut self.chance, 13.0, 40.0)));
            let also = &["settled", "covers_opened"];
            let any_of = &["displaced"];
            self.trouble(Trouble {
                kind: "cover moved",
                device: id,
                any_of,
                also,
                span,
                within: HOUR * 2,
                wants: case,
            });
        }
        if Street::is_one_of(number, 4, 1) {
            let span = Span::of(from, HOUR * 8);
            fate.gas = Some(span);
            let any_of = &["gas"];
            self.trouble(Trouble { kind: "gas", device: id, any_of, also: &[], span, within: HOUR * 3, wants: case });
        }
        if Street::is_one_of(number, 5, 1) {
            fate.dies_at = Some(from);
            let span = Span { from, until: self.span.until };
            let any_of = &["silent"];
            self.trouble(Trouble { kind: "cover dies", device: id, any_of, also: &[], span, within: DAY, wants: case });
        }
        if Street::is_one_of(number, 6, 2) {
            // 3.1 V within the time that the scenario has, however short.
            let days = self.span.until.since(self.span.from).as_secs_f64() / 86_400.0;
            fate.falls_v_a_day = 0.6 / days;
            let (any_of, also) = (&["battery_low"], &["battery_ending"]);
            let (from, until) = (self.span.from.plus(DAY.mul_f64(0.75 * days)), self.span.until);
            let span = Span { from, until };
            let (within, wants) = (DAY.mul_f64(0.2 * days), Wants::Alarm);
            self.tolerate(id, &["battery_low", "battery_ending"], Span { from: self.span.from, until });
            self.trouble(Trouble { kind: "cover's cell ends", device: id, any_of, also, span, within, wants });
        }
    }

    fn water_under_covers(&mut self, place: &Place, id: &str, number: usize, fate: &mut Fate) {
        for storm in place.sky.spans(HOUR * 2) {
            if number % 10 < 2 {
                let span = Span { from: storm.from.plus(MINUTE * 20), until: storm.until };
                fate.water.push(span);
                let until = span.until.plus(HOUR * 2);
                self.tolerate(id, &["flooded"], Span { until, ..span });
            }
        }
    }
}

/// Shakes since the message before: as many as there is traffic at this hour, and some more or less by chance.
fn shakes(from: Timestamp, until: Timestamp, is_loose: bool, chance: &mut Rng) -> f64 {
    let hours = until.since(from).as_secs_f64() / 3_600.0;
    let busy = 0.55 + 0.45 * ((local_hour(until) - 15.0) / 12.0 * std::f64::consts::PI).cos();
    let expected = SHAKES_AN_HOUR * busy * hours * if is_loose { LOOSE_TIMES } else { 1.0 };
    // The sum of twelve equal chances is close to a normal deviate.
    let deviate = (0..12).map(|_| chance.f64()).sum::<f64>() - 6.0;
    (expected + deviate * expected.sqrt()).round().max(0.0)
}
