//! What happens to one cover, and what its board reads of it.

use std::time::Duration;

use kerbside_model::Timestamp;

use super::super::{Said, Span};
use super::{AT_REST_AFTER, DAY, HIT, HOUR, LOSS, LOSS_CONFIRMED, MINUTE, SECOND, between};

/// The boards of the shipped profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Board {
    /// Every hour, and at once when something happens; said again after half a minute and after five.
    Json,
    /// Once a day, and at once.
    Ctwing,
}

impl Board {
    pub(super) fn profile(self) -> &'static str {
        match self {
            Board::Json => "json-manhole-cover",
            Board::Ctwing => "ctwing-manhole-cover",
        }
    }

    pub(super) fn interval(self) -> Duration {
        match self {
            Board::Json => HOUR,
            Board::Ctwing => DAY,
        }
    }

    pub(super) fn loss(self) -> f64 {
        match self {
            Board::Json => LOSS,
            Board::Ctwing => LOSS_CONFIRMED,
        }
    }
}

/// Gas at a cover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gas {
    pub(super) point: &'static str,
    pub(super) span: Span,
    /// Least and most.
    pub(super) values: (f64, f64),
}

/// What happens to one cover.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) id: String,
    pub(super) board: Board,
    pub(super) span: Span,
    /// How it lies, in degrees.
    pub(super) rest_deg: f64,
    /// How far the sun moves it.
    pub(super) heat_deg: f64,
    pub(super) creep_deg_a_day: f64,
    /// It lies differently from then on.
    pub(super) steps: Vec<(Timestamp, f64)>,
    pub(super) open: Vec<Span>,
    /// The angle of an open cover; `None` when it is lifted straight off.
    pub(super) open_deg: Option<f64>,
    /// The contact alone says that it is open.
    pub(super) contact: Vec<Span>,
    pub(super) hits_a_day: f64,
    pub(super) hits: Vec<Timestamp>,
    /// Vibrations in an hour of a working day, where the board counts them.
    pub(super) shakes: Option<f64>,
    /// So many times as many in these times.
    pub(super) shaken: Vec<(Span, f64)>,
    pub(super) counts_anew_at: Option<Timestamp>,
    /// The counter at the end of each hour.
    counter: Vec<f64>,
    pub(super) water: Vec<Span>,
    pub(super) has_gas_sensor: bool,
    pub(super) gas: Option<Gas>,
    /// One reading of each of these hours is nonsense.
    pub(super) gas_spikes: Vec<i64>,
    /// Its gas sensor is switched on at midnight, and reads 60 %LEL until it is warm.
    pub(super) warms_up: bool,
    /// The echo from below; it is gone with the cover.
    pub(super) echo_mm: Option<f64>,
    pub(super) tamper: Vec<Span>,
    pub(super) is_stuck: bool,
    /// Its firmware takes the radio's fields for one another.
    pub(super) swaps: bool,
    pub(super) dies_at: Option<Timestamp>,
    pub(super) outages: Vec<Span>,
    /// What it sends in this time it keeps, and hands over behind it.
    pub(super) keeps: Option<Span>,
    pub(super) twice: f64,
    pub(super) late: f64,
}

impl Life {
    pub(super) fn ordinary(id: String, board: Board, span: Span, chance: &mut fastrand::Rng) -> Life {
        Life {
            id,
            board,
            span,
            rest_deg: between(chance, 0.0, 12.0),
            heat_deg: between(chance, 0.0, 0.8),
            creep_deg_a_day: between(chance, -0.01, 0.01),
            steps: Vec::new(),
            open: Vec::new(),
            open_deg: Some(between(chance, 60.0, 88.0)),
            contact: Vec::new(),
            // What sends once a day makes sure of its own angle before it wakes.
            hits_a_day: if board == Board::Json { 0.3 } else { 0.1 },
            hits: Vec::new(),
            shakes: (board == Board::Ctwing || chance.bool()).then(|| between(chance, 5.0, 60.0)),
            shaken: Vec::new(),
            counts_anew_at: None,
            counter: Vec::new(),
            water: Vec::new(),
            has_gas_sensor: board == Board::Json && chance.bool(),
            gas: None,
            gas_spikes: Vec::new(),
            warms_up: false,
            echo_mm: None,
            tamper: Vec::new(),
            is_stuck: false,
            swaps: false,
            dies_at: None,
            outages: Vec::new(),
            keeps: None,
            twice: 0.02,
            late: if board == Board::Json { 0.01 } else { 0.002 },
        }
    }

    /// Draws what is left to chance.
    pub(super) fn settle(&mut self, chance: &mut fastrand::Rng) {
        let days = self.span.until.since(self.span.from).as_secs_f64() / 86_400.0;
        let count = (self.hits_a_day * days * between(chance, 0.5, 1.5)).round() as usize;
        for _ in 0..count {
            self.hits.push(self.span.from.plus(DAY.mul_f64(days * chance.f64())));
        }
        self.hits.sort_unstable();
        let Some(mean) = self.shakes else { return };
        let (mut sum, mut of_day) = (0.0, 1.0);
        for hour in 0..(days as u64 * 24) {
            let at = self.span.from.plus(HOUR.mul_f64(hour as f64 + 0.5));
            if hour.is_multiple_of(24) {
                // No day is like the other: rain, markets, roadworks elsewhere.
                of_day = between(chance, 0.8, 1.25);
            }
            let more: f64 = self.shaken.iter().filter(|(span, _)| span.has(at)).map(|(_, times)| times).product();
            let wanted = mean * traffic(hour) * of_day * more;
            sum += (wanted + wanted.sqrt() * normal(chance)).round().max(0.0);
            if self.counts_anew_at.is_some_and(|anew| Span::of(anew, HOUR).has(at)) {
                sum = 0.0;
            }
            self.counter.push(sum);
        }
    }

    /// The points that its messages have.
    pub(super) fn points(&self) -> Vec<&'static str> {
        let mut points = vec!["cover_open", "tilt_deg", "water_present", "signal_dbm"];
        points.extend(self.shakes.map(|_| "vibration_count"));
        if self.board == Board::Ctwing {
            points.push("coverage_level");
            return points;
        }
        points.extend(["battery_v", "temperature_c", "tamper"]);
        points.extend(self.echo_mm.map(|_| "distance_mm"));
        if self.has_gas_sensor {
            points.extend(["ch4_lel_percent", "h2s_mg_m3", "co_mg_m3", "o2_percent"]);
        }
        points
    }

    /// When its board wakes up and sends, besides its rhythm.
    pub(super) fn told_at_once(&self) -> Vec<Timestamp> {
        let mut at_once: Vec<Timestamp> = self.hits.iter().flat_map(|at| [*at, at.plus(AT_REST_AFTER)]).collect();
        at_once.extend(self.contact.iter().flat_map(|span| [span.from, span.until]));
        let begins = self.open.iter().map(|span| span.from).chain(self.steps.iter().map(|(at, _)| *at));
        for at in begins.chain(self.open.iter().map(|span| span.until)) {
            at_once.push(at);
            if self.board == Board::Json {
                at_once.extend([at.plus(SECOND * 30), at.plus(MINUTE * 5)]);
            }
        }
        at_once.extend(self.tamper.iter().chain(&self.water).map(|span| span.from));
        at_once
    }

    /// What the board reads.
    pub(super) fn sense(&self, at: Timestamp, chance: &mut fastrand::Rng) -> Vec<(&'static str, Said)> {
        let is_open = any(&self.open, at);
        let last_hit = self.hits.partition_point(|hit| *hit <= at).checked_sub(1).map(|place| self.hits[place]);
        let is_hit = last_hit.is_some_and(|hit| at < hit.plus(HIT));
        // Under a wheel one contact in a hundred opens for a moment.
        let contact = is_open || any(&self.contact, at) || is_hit && chance.f64() < 0.01;
        let tilt = self.tilt(at, (is_open, is_hit), chance);
        let mut values = vec![
            ("cover_open", Said::Flag(contact)),
            ("tilt_deg", Said::Number(tenths(tilt.clamp(0.0, 180.0)))),
            ("water_present", Said::Flag(any(&self.water, at))),
            ("signal_dbm", Said::Number(if self.swaps { 100.0 } else { between(chance, -112.0, -85.0).round() })),
        ];
        if self.shakes.is_some() {
            values.push(("vibration_count", Said::Number(self.counted(at))));
        }
        if self.board == Board::Ctwing {
            values.push(("coverage_level", Said::Number(if self.swaps { -97.0 } else { 1.0 })));
            return values;
        }
        // A lithium cell sags when the radio sends with all its power.
        let sag = if chance.f64() < 0.02 { between(chance, 0.3, 0.7) } else { 0.0 };
        values.extend([
            ("battery_v", Said::Number(hundredths(3.6 - sag - 0.02 * chance.f64()))),
            ("temperature_c", Said::Number(tenths(12.0 + 4.0 * warmth(at) + chance.f64()))),
            ("tamper", Said::Flag(any(&self.tamper, at))),
        ]);
        if let Some(echo_mm) = self.echo_mm {
            let echo = Said::Number((echo_mm + 6.0 * chance.f64()).round());
            values.push(("distance_mm", if is_open { Said::Invalid } else { echo }));
        }
        if self.has_gas_sensor {
            self.sense_gas(at, &mut values, chance);
        }
        values
    }

    fn tilt(&self, at: Timestamp, (is_open, is_hit): (bool, bool), chance: &mut fastrand::Rng) -> f64 {
        if self.is_stuck {
            return self.rest_deg;
        }
        let noise = 0.2 * normal(chance);
        if let Some(open_deg) = self.open_deg.filter(|_| is_open) {
            return open_deg + noise;
        }
        let days = at.since(self.span.from).as_secs_f64() / 86_400.0;
        let steps: f64 = self.steps.iter().filter(|(since, _)| *since <= at).map(|(_, step)| step).sum();
        let hit = if is_hit { between(chance, 12.0, 50.0) } else { 0.0 };
        self.rest_deg + steps + self.creep_deg_a_day * days + self.heat_deg * warmth(at) + hit + noise
    }

    fn sense_gas(&self, at: Timestamp, values: &mut Vec<(&'static str, Said)>, chance: &mut fastrand::Rng) {
        let hour = at.since(self.span.from).as_secs() as i64 / 3_600;
        let is_cold = self.warms_up && hour.rem_euclid(24) == 0;
        let is_nonsense = is_cold || self.gas_spikes.contains(&hour);
        let calm: [(&'static str, f64, f64, f64); 4] = [
            ("ch4_lel_percent", 0.0, 0.6, 60.0),
            ("h2s_mg_m3", 0.0, 0.8, 40.0),
            ("co_mg_m3", 0.0, 3.0, 120.0),
            ("o2_percent", 20.6, 21.0, 12.0),
        ];
        for (point, least, most, nonsense) in calm {
            let value = match self.gas.filter(|gas| gas.point == point && gas.span.has(at)) {
                Some(gas) => between(chance, gas.values.0, gas.values.1),
                None if is_nonsense => nonsense,
                None => between(chance, least, most),
            };
            values.push((point, Said::Number(tenths(value))));
        }
    }

    fn counted(&self, at: Timestamp) -> f64 {
        let hours = at.since(self.span.from).as_secs_f64() / 3_600.0;
        let hour = (hours as usize).min(self.counter.len().saturating_sub(1));
        let before = hour.checked_sub(1).map_or(0.0, |before| self.counter[before]);
        let after = self.counter.get(hour).copied().unwrap_or_default();
        if after < before { after } else { (before + (after - before) * hours.fract()).floor() }
    }
}

/// The share of the mean traffic of a working day in an hour since a Monday's midnight.
fn traffic(hour: u64) -> f64 {
    let of_day = match hour % 24 {
        0..=5 => 0.15,
        7..=9 | 17..=19 => 2.0,
        _ => 1.0,
    };
    if hour / 24 % 7 >= 5 { 0.6 * of_day } else { of_day }
}

/// From -1 at three in the night to 1 at three in the afternoon.
fn warmth(at: Timestamp) -> f64 {
    let hour = at.0.rem_euclid(86_400_000) as f64 / 3_600_000.0 + 8.0;
    ((hour - 15.0) / 24.0 * std::f64::consts::TAU).cos()
}

fn any(spans: &[Span], at: Timestamp) -> bool {
    spans.iter().any(|span| span.has(at))
}

/// Nearly normal, with a standard deviation of 1 (the sum of twelve).
fn normal(chance: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| chance.f64()).sum::<f64>() - 6.0
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
