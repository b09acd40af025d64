//! Poles: lamps by the sun, leakage by the weather, gusts and surges; and once in a neighbourhood each real trouble.

use std::sync::Arc;

use kerbside_model::{MaskKind, Timestamp};

use super::{Act, DAY, HOUR, MINUTE, Place, Reports, SECOND, Said, Span, Street, Trouble, Wants, tenths};
use crate::noise::draw;
use crate::weather::local_hour;

/// Technicians at a cabinet, with a permit, each day.
const VISITS_A_DAY: f64 = 1.0 / 30.0;
/// The hours at which lamps are switched: dusk and dawn in July at this place (sunset 19:40, sunrise 5:20).
const DUSK_HOUR: f64 = 19.5;
const DAWN_HOUR: f64 = 5.4;
/// Rows of lamps are switched one after another for so long, and each gives a surge through its filters.
const SURGE_HOURS: f64 = 1.0 / 60.0;
/// Share of readings in which a sensor without a cable or with a bad one says nothing.
const INVALID: f64 = 0.001;

#[derive(Clone, Debug, Default)]
struct Fate {
    leaks: Option<(Span, f64)>,
    water: Vec<(Span, f64)>,
    /// Leans by so much from then on: a lorry backed into it.
    hit: Option<(Span, f64)>,
    door: Vec<Span>,
    burns_by_day: Option<Span>,
    dark: Option<Span>,
    hot: Option<Span>,
    tested: Vec<Span>,
    dies_at: Option<Timestamp>,
    dry_ma: f64,
    wet_factor: f64,
    rest_deg: f64,
}

impl Street {
    pub(super) fn pole(&mut self, place: &Place, number: usize, feeder_fails: Span) {
        let facts = place.device("SP", number, &place.feeder);
        let mut fate = Fate {
            dry_ma: draw(&mut self.chance, 0.5, 4.0),
            wet_factor: draw(&mut self.chance, 1.2, 2.4),
            rest_deg: draw(&mut self.chance, 0.0, 1.2),
            ..Fate::default()
        };
        self.technicians(&facts.id, &mut fate);
        self.pole_troubles(&facts.id, number, feeder_fails, &mut fate);
        self.puddles(place, &facts.id, number, &mut fate);
        let mut outages = vec![feeder_fails];
        outages.extend(fate.dies_at.map(|from| Span { from, until: self.span.until.plus(DAY) }));
        let at_once = fate.door.iter().flat_map(|span| [span.from, span.from.plus(SECOND * 90), span.until]);
        let at_once = at_once.filter(|at| fate.dies_at.is_none_or(|dies_at| *at < dies_at)).collect();
        let reports = Reports { at_once, ..self.reports(MINUTE * 10, outages) };
        let sky = Arc::clone(&place.sky);
        let messages = reports.of(move |at, chance| {
            let has = |span: &Span| span.has(at);
            let is_tested = fate.tested.iter().any(has);
            let is_wanted = !(DAWN_HOUR..DUSK_HOUR).contains(&local_hour(at))
                || is_tested
                || fate.burns_by_day.as_ref().is_some_and(has);
            let is_on = is_wanted && !fate.dark.as_ref().is_some_and(has);
            let wet = 1.0 + (fate.wet_factor - 1.0) * sky.wetness(at);
            let hour = local_hour(at);
            let switches = [DUSK_HOUR, DAWN_HOUR].iter().any(|begin| (0.0..SURGE_HOURS).contains(&(hour - begin)));
            let surge = if switches { draw(chance, 20.0, 60.0) } else { 0.0 };
            let leak = fate.leaks.filter(|(span, _)| span.has(at)).map_or(0.0, |(_, ma)| ma);
            let leakage = fate.dry_ma * wet + surge + leak + 0.5 * chance.f64();
            let gust = sky.wind_m_s(at, chance).powi(2) / 60.0 * (chance.f64() - 0.5);
            let hit = fate.hit.filter(|(span, _)| span.has(at)).map_or(0.0, |(_, deg)| deg);
            let depth = fate.water.iter().find(|(span, _)| span.has(at)).map_or(0.0, |(_, mm)| *mm);
            let heat = if fate.hot.as_ref().is_some_and(has) { 46.0 } else { 0.0 };
            let sun = sky.illuminance_lx(at) / 70_000.0 * 12.0;
            let leakage = if chance.f64() < INVALID { Said::Invalid } else { Said::Number(tenths(leakage)) };
            vec![
                ("leakage_ma", leakage),
                ("tilt_deg", Said::Number(tenths((fate.rest_deg + gust + hit).abs()))),
                ("door_open", Said::Flag(fate.door.iter().any(has))),
                ("lamp_on", Said::Flag(is_wanted)),
                ("water_present", Said::Flag(depth > 20.0)),
                ("water_depth_mm", Said::Number((depth + 3.0 * chance.f64()).round())),
                ("voltage_v", Said::Number(tenths(draw(chance, 224.0, 234.0)))),
                ("active_power_w", Said::Number(tenths(if is_on { draw(chance, 58.0, 64.0) } else { 3.0 }))),
                ("temperature_c", Said::Number(tenths(sky.temperature_c(at) + 8.0 + sun + heat + chance.f64()))),
                ("signal_dbm", Said::Number(draw(chance, -95.0, -65.0).round())),
            ]
        });
        let points = [
            "leakage_ma",
            "tilt_deg",
            "door_open",
            "lamp_on",
            "water_present",
            "water_depth_mm",
            "voltage_v",
            "active_power_w",
            "temperature_c",
            "signal_dbm",
        ];
        self.send(facts, "json-pole", &points, messages);
    }

    /// A visit opens the door and lights the lamp by day for a quarter of an hour.
    fn technicians(&mut self, id: &str, fate: &mut Fate) {
        let days = self.span.until.since(self.span.from).as_secs_f64() / 86_400.0;
        let count = usize::from(self.chance.f64() < VISITS_A_DAY * days);
        for _ in 0..count {
            let from = self.moment();
            let open = Span::of(from, MINUTE.mul_f64(draw(&mut self.chance, 5.0, 40.0)));
            let span = Span { from: from.minus(MINUTE * 5), until: from.plus(HOUR) };
            self.scenario.acts.push(Act::Mask { device: id.to_owned(), kind: MaskKind::Permit, span });
            self.trap("door opened with a permit", id, &[], span);
            fate.door.push(open);
            fate.tested.push(Span::of(from, MINUTE * 15));
        }
    }

    fn pole_troubles(&mut self, id: &str, number: usize, feeder_fails: Span, fate: &mut Fate) {
        let from = self.moment_outside(&[feeder_fails]);
        let (case, note) = (Wants::Case, Wants::Alarm);
        let span = Span::of(from, HOUR.mul_f64(draw(&mut self.chance, 4.0, 12.0)));
        let (kind, any_of, also, within, wants): (_, &[&str], &[&str], _, _) = match number {
            0 | 1 => ("pole leaks", &["leaking"], &["insulation_weak"], MINUTE * 50, case),
            2 => ("pole hit by a lorry", &["tilted"], &["leaning"], HOUR, case),
            3 => ("door opened", &["door_open"], &["tampered"], MINUTE * 30, case),
            4 => ("lamp burns by day", &["lamp_by_day"], &["lamp_out"], HOUR * 10, note),
            5 => ("pole too hot", &["overheated"], &["fire"], HOUR, case),
            6 => ("pole dies", &["silent"], &[], HOUR * 2, case),
            7 => ("lamp out", &["lamp_out"], &["circuit_out", "lamp_degraded"], DAY, note),
            _ => return,
        };
        let mut span = span;
        match number {
            0 | 1 => fate.leaks = Some((span, draw(&mut self.chance, 38.0, 90.0))),
            2 => {
                span.until = self.span.until;
                fate.hit = Some((span, draw(&mut self.chance, 7.0, 15.0)));
            }
            3 => {
                span.until = from.plus(MINUTE * 30);
                fate.door.push(span);
            }
            4 => {
                // From five in the morning on, for the day.
                let hours = local_hour(from);
                let begin = from.minus(HOUR.mul_f64(hours)).plus(HOUR * 5);
                span = Span::of(begin, HOUR * 14);
                fate.burns_by_day = Some(span);
            }
            5 => fate.hot = Some(span),
            6 => {
                span.until = self.span.until;
                fate.dies_at = Some(from);
            }
            _ => {
                span.until = self.span.until;
                fate.dark = Some(span);
            }
        }
        // What it did is told by the next report, also when it is just over.
        let seen = Span { until: span.until.plus(MINUTE * 30), ..span };
        self.trouble(Trouble { kind, device: id, any_of, also, span: seen, within, wants });
    }

    /// Water around the foot of some poles in a storm; at two in twenty of them it is a flood.
    fn puddles(&mut self, place: &Place, id: &str, number: usize, fate: &mut Fate) {
        for storm in place.sky.spans(HOUR) {
            let span = Span { from: storm.from.plus(MINUTE * 25), until: storm.until };
            if span.from > self.span.until {
                continue;
            }
            if number >= 17 {
                fate.water.push((span, draw(&mut self.chance, 180.0, 350.0)));
                let seen = Span { until: span.until.plus(MINUTE * 30), ..span };
                let (any_of, also) = (&["flooded"], &["storm", "cabinet_flooded"]);
                let (within, wants) = (MINUTE * 40, Wants::Case);
                self.trouble(Trouble { kind: "road under water", device: id, any_of, also, span: seen, within, wants });
            } else if number >= 12 {
                fate.water.push((span, draw(&mut self.chance, 20.0, 110.0)));
                let seen = Span { until: span.until.plus(MINUTE * 30), ..span };
                self.tolerate(id, &["cabinet_flooded"], seen);
                self.trap("a puddle", id, &["flooded", "leaking"], seen);
            }
        }
    }
}
