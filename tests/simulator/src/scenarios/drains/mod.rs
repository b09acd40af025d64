//! Drains: catchments with the rhythm of the day, rain and noise, and in each of them what goes wrong with pipes, pumps
//! and probes; beside it everything that only looks so.
//!
//! The faults are those of the table of drain levels in the detection figures: blockage, water held back by the next
//! pipe or the river, a level that creeps up, a probe that stands still or hangs in the air, blips, a pump that does not
//! run, and the floods of every storm. Series of five minutes; half of the catchments have a rain gauge, the others know
//! the weather from their levels alone.

mod sky;
mod wells;

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::inventory::Device;

use super::{Event, Extent, Floors, Radio, Reports, Said, Scenario, Sender, Span, Trap, Wants};
use crate::weather::diurnal_factor;
use sky::{STEP, Sky};

const START: Timestamp = Timestamp(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Depth of the watch grade, mm.
const WATCH_MM: f64 = 150.0;
/// By so much the sensor may see less or more than there is, mm.
const UNSURE_MM: f64 = 7.0;
/// A level this much above the usual stands out, mm.
const STANDS_OUT_MM: f64 = 60.0;
/// What high water may raise besides.
const HIGH_WATER: &[&str] = &["surcharged", "surging", "overflow_soon", "storm", "level_creeping"];

/// The messages that are lost make a sensor silent now and then: no fault of a drain, and counted in the cases only.
pub(super) const FLOORS: Floors =
    Floors { recall: 0.9, recall_of: &[], precision: 0.95, precision_of: &[("silent", 0.0)], false_cases: 5.0 };

pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario> {
    let (basins, days) = match extent {
        Extent::Quick => (2, 26),
        Extent::Full => (20, 60),
    };
    (0..basins).map(|number| Basin::new(number, days, seed).scenario()).collect()
}

/// An even chance between two numbers.
pub(crate) fn between(chance: &mut fastrand::Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * chance.f64()
}

/// One catchment while it is made.
struct Basin {
    number: usize,
    days: usize,
    sky: Arc<Sky>,
    chance: fastrand::Rng,
    scenario: Scenario,
}

/// What the water does at one sensor besides the rhythm of the day and the rain, mm.
#[derive(Clone, Debug, Default)]
struct Excess {
    /// From, mm and how it gets there; the last of these that began counts.
    ramps: Vec<Ramp>,
    /// Share of it that arrives here, and what of it does not.
    share: f64,
    swallowed_mm: f64,
}

/// Rises evenly, stays, and is gone within an hour.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    from: Timestamp,
    rise: Duration,
    stay: Duration,
    height_mm: f64,
}

impl Ramp {
    fn mm(&self, at: Timestamp) -> f64 {
        let after = at.since(self.from).as_secs_f64();
        if at < self.from {
            return 0.0;
        }
        let (rise, stay) = (self.rise.as_secs_f64(), self.stay.as_secs_f64());
        let gone = ((after - rise - stay) / HOUR.as_secs_f64()).clamp(0.0, 1.0);
        self.height_mm * (after / rise).min(1.0) * (1.0 - gone)
    }

    fn until(&self) -> Timestamp {
        self.from.plus(self.rise + self.stay)
    }
}

impl Excess {
    fn of(ramp: Ramp) -> Excess {
        Excess { ramps: vec![ramp], share: 1.0, swallowed_mm: 0.0 }
    }

    fn mm(&self, at: Timestamp) -> f64 {
        let sum: f64 = self.ramps.iter().map(|ramp| ramp.mm(at)).sum();
        (self.share * (sum - self.swallowed_mm)).max(0.0)
    }

    /// When it first stands out; `None` when it never does.
    fn stands_out(&self) -> Option<Timestamp> {
        let (first, last) = (self.ramps.first()?, self.ramps.last()?);
        let steps = last.until().since(first.from).as_secs() / STEP.as_secs();
        let mut moments = (0..steps).map(|step| first.from.plus(STEP * u32::try_from(step).unwrap_or(u32::MAX)));
        moments.find(|at| self.mm(*at) >= STANDS_OUT_MM)
    }

    fn until(&self) -> Option<Timestamp> {
        self.ramps.last().map(Ramp::until)
    }
}

/// A level sensor.
#[derive(Clone, Debug)]
struct Well {
    id: String,
    downstream: String,
    /// Mean depth in dry weather, mm.
    dry_mm: f64,
    /// Depth for each mm of rain that stands in the pipes, mm.
    gain: f64,
    excess: Excess,
    /// What the sensor says instead of the water.
    says: Says,
    phase: f64,
}

/// What a sensor says instead of the water.
#[derive(Clone, Debug, Default)]
enum Says {
    #[default]
    Water,
    /// The value of the beginning.
    Stuck(Span),
    /// Nothing but noise around zero.
    Air(Span),
    /// Single high readings, some a day.
    Blips(Span),
}

impl Well {
    /// Depth of the water, mm.
    fn depth_mm(&self, at: Timestamp, sky: &Sky) -> f64 {
        let day = (at.0.div_euclid(86_400_000) as f64 * 0.7 + self.phase).sin();
        let slow = (at.0 as f64 / 11.3e6 + self.phase).sin();
        let flow = self.dry_mm * diurnal_factor(at).sqrt() * (1.0 + 0.05 * day);
        flow + 2.0 * slow + self.gain * sky.stored_mm(at) + self.excess.mm(at)
    }
}

impl Basin {
    fn new(number: usize, days: usize, seed: u64) -> Basin {
        let mut chance = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9).wrapping_add(number as u64));
        let sky = Arc::new(Sky::made(START, days, &mut chance));
        let length = DAY * u32::try_from(days).unwrap_or(u32::MAX);
        let scenario = Scenario {
            name: format!("catchment {number}"),
            start: START,
            length,
            senders: Vec::new(),
            acts: Vec::new(),
            events: Vec::new(),
            traps: Vec::new(),
        };
        Basin { number, days, sky, chance, scenario }
    }

    fn scenario(mut self) -> Scenario {
        if self.number.is_multiple_of(2) {
            self.gauge();
        }
        let trunk = self.well("trunk", "");
        let blocked = self.blocked(&trunk.id);
        let held = self.held(&blocked);
        self.river();
        self.stuck(&trunk.id);
        self.air(&trunk.id);
        self.creeping(&trunk.id);
        self.blips(&trunk.id);
        self.pump();
        for well in [trunk, blocked, held] {
            self.add(well);
        }
        self.scenario
    }

    fn id(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    fn well(&mut self, name: &str, downstream: &str) -> Well {
        let chance = &mut self.chance;
        Well {
            id: format!("{name}-{}", self.number),
            downstream: downstream.to_owned(),
            dry_mm: between(chance, 30.0, 75.0),
            gain: between(chance, 5.0, 22.0),
            excess: Excess::default(),
            says: Says::Water,
            phase: between(chance, 0.0, 6.2),
        }
    }

    /// A moment behind the days in which the gateway learns what is usual, that leaves room for what happens then.
    fn moment(&mut self, room: Duration) -> Timestamp {
        let first = DAY * 11;
        let last = self.scenario.length.saturating_sub(room).max(first + HOUR);
        START.plus(first + (last - first).mul_f64(self.chance.f64()))
    }

    fn note(
        &mut self,
        device: &str,
        kind: &'static str,
        any_of: &[&'static str],
        times: (Span, Timestamp),
        wants: Wants,
    ) {
        let (span, due_by) = times;
        self.scenario.events.push(Event {
            kind,
            devices: vec![device.to_owned()],
            any_of: any_of.to_vec(),
            also: HIGH_WATER.to_vec(),
            from: span.from,
            due_by,
            until: span.until,
            wants,
        });
    }

    /// When somebody who waits for five dry hours in a row has had them, and an hour more; `None` when never before.
    fn due_in_dry(&self, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut dry = Duration::ZERO;
        let mut at = from;
        while at < until {
            dry = if self.sky.is_surely_dry(at) { dry + STEP } else { Duration::ZERO };
            if dry >= HOUR * 5 {
                return Some(at.plus(HOUR));
            }
            at = at.plus(STEP);
        }
        None
    }

    /// Water that stands too high behind a blockage, or is held back: found when it was dry for long enough.
    fn note_high(&mut self, well: &Well, kind: &'static str, condition: &'static str, wants: Wants) {
        let (Some(from), Some(until)) = (well.excess.stands_out(), well.excess.until()) else { return };
        let begin = well.excess.ramps.first().map_or(from, |ramp| ramp.from);
        let due = self.due_in_dry(from, until);
        let wants = if due.is_some() { wants } else { Wants::Nothing };
        let span = Span { from: begin, until: until.plus(DAY) };
        self.note(&well.id, kind, &[condition], (span, due.unwrap_or(until)), wants);
    }

    /// A pipe that closes within hours and is flushed after days.
    fn blocked(&mut self, downstream: &str) -> Well {
        let mut well = self.well("blocked", downstream);
        let from = self.moment(DAY * 7);
        let rise = HOUR.mul_f64(between(&mut self.chance, 3.0, 30.0));
        let stay = DAY.mul_f64(between(&mut self.chance, 2.0, 5.0));
        let height_mm = between(&mut self.chance, 160.0, 350.0);
        well.excess = Excess::of(Ramp { from, rise, stay, height_mm });
        self.note_high(&well, "blockage", "blocked", Wants::Case);
        well
    }

    /// The pipe above it: what cannot run off stands here too.
    fn held(&mut self, below: &Well) -> Well {
        let mut well = self.well("held", &below.id);
        well.excess = Excess { share: 0.7, swallowed_mm: 50.0, ..below.excess.clone() };
        self.note_high(&well, "held back by a blockage below", "backwater", Wants::Alarm);
        well
    }

    fn stuck(&mut self, downstream: &str) {
        let mut well = self.well("stuck", downstream);
        let from = self.moment(DAY * 3);
        let span = Span::of(from, HOUR.mul_f64(between(&mut self.chance, 20.0, 40.0)));
        well.says = Says::Stuck(span);
        let wants = Wants::Alarm;
        let span = Span { until: span.until.plus(HOUR), ..span };
        self.note(&well.id, "probe stands still", &["sensor_stuck"], (span, from.plus(HOUR * 13)), wants);
        self.add(well);
    }

    fn air(&mut self, downstream: &str) {
        let mut well = self.well("air", downstream);
        let from = self.moment(DAY * 4);
        let span = Span::of(from, DAY.mul_f64(between(&mut self.chance, 2.0, 3.5)));
        well.says = Says::Air(span);
        // Twelve hours; a storm that stands longer than its rain begins the count anew.
        let due = self.due_in_dry(from.plus(HOUR * 8), span.until).map(|due| due.plus(HOUR * 5));
        let wants = if due.is_some() { Wants::Alarm } else { Wants::Nothing };
        self.note(&well.id, "probe hangs in the air", &["out_of_water"], (span, due.unwrap_or(span.until)), wants);
        self.add(well);
    }

    /// Silt: 9 mm a day for two weeks and more, until somebody dredges.
    fn creeping(&mut self, downstream: &str) {
        let mut well = self.well("silt", downstream);
        let days = if self.days > 40 { between(&mut self.chance, 14.0, 20.0) } else { 13.0 };
        let from = self.moment(DAY.mul_f64(days + 3.0));
        let ramp = Ramp { from, rise: DAY.mul_f64(days), stay: DAY * 2, height_mm: 9.0 * days };
        well.excess = Excess::of(ramp);
        let until = ramp.until().plus(DAY * 20);
        // A level that is 5 cm above the usual for hours is one more way to say it.
        let any_of = ["level_creeping", "blocked"];
        self.note(&well.id, "silt", &any_of, (Span { from, until }, from.plus(DAY * 12)), Wants::Alarm);
        self.add(well);
    }

    fn blips(&mut self, downstream: &str) {
        let mut well = self.well("blips", downstream);
        let span = Span::of(self.moment(DAY * 4), DAY * 3);
        well.says = Says::Blips(span);
        self.scenario.traps.push(Trap {
            kind: "single high readings",
            devices: vec![well.id.clone()],
            conditions: vec!["surcharged", "blocked", "backwater"],
            span,
        });
        self.add(well);
    }

    /// Adds a well, with the floods that the rain makes in it.
    fn add(&mut self, well: Well) {
        self.note_floods(&well);
        let sky = Arc::clone(&self.sky);
        let (id, downstream) = (well.id.clone(), well.downstream.clone());
        let (mut held, mut was_blip) = (None, false);
        let reports = self.reports(MINUTE * 5);
        let messages = reports.of(move |at, chance| {
            let noise = 2.0 * (chance.f64() + chance.f64() + chance.f64() - 1.5);
            let water = well.depth_mm(at, &sky);
            // Four a day of those that come every five minutes, never two running.
            let is_blip = !was_blip && chance.f64() < 4.0 / 288.0;
            let level = match &well.says {
                Says::Stuck(span) if span.has(at) => *held.get_or_insert((water + noise).max(25.0)),
                Says::Air(span) if span.has(at) => noise,
                Says::Blips(span) if span.has(at) && is_blip => 150.0 * 10.0_f64.powf(chance.f64()),
                _ => water + noise,
            };
            was_blip = is_blip;
            vec![("level_mm", Said::Number(level.round()))]
        });
        let parent = self.id("BASIN");
        let facts = Device { id, downstream, parent, ..Device::default() };
        self.scenario.senders.push(Sender { facts, profile: "json-level", points: vec!["level_mm"], messages });
    }

    fn reports(&mut self, every: Duration) -> Reports {
        let span = Span::of(START, self.scenario.length);
        let radio = Radio { loss: 0.02, delay_max: Duration::from_secs(5), ..Radio::default() };
        Reports { radio, jitter: Duration::from_secs(20), ..Reports::every(span, every, self.chance.u64(..)) }
    }

    /// Every time that rain brings a level to the watch grade, and times in which it may or may not be told.
    fn note_floods(&mut self, well: &Well) {
        let mut found: Vec<(Span, Wants, Timestamp)> = Vec::new();
        for wet in self.sky.wet_spans() {
            found.push((Span { from: wet.from, until: wet.until.plus(HOUR) }, Wants::Nothing, wet.until));
            let steps = u32::try_from(wet.until.since(wet.from).as_secs() / STEP.as_secs()).unwrap_or(u32::MAX);
            let moment = |step: u32| wet.from.plus(STEP * step);
            let depth = |step: u32| well.depth_mm(moment(step), &self.sky);
            let near = (0..steps).find(|step| depth(*step) >= WATCH_MM - UNSURE_MM).unwrap_or(0);
            let beyond: Vec<u32> = (0..steps).filter(|step| depth(*step) >= WATCH_MM + UNSURE_MM).collect();
            if let Some(first) = beyond.first().filter(|_| beyond.len() >= 3) {
                let from = moment(*first);
                // Two reports and a lost one; a level that stood beyond it before says nothing new.
                let is_first = well.excess.mm(from) == 0.0;
                let wants = if is_first { Wants::Alarm } else { Wants::Nothing };
                let span = Span { from: moment(near).minus(STEP), until: wet.until.plus(HOUR) };
                found.push((span, wants, from.plus(MINUTE * 16)));
            }
        }
        for (span, wants, due_by) in found {
            self.note(&well.id, "water beyond 15 cm", &["surcharged"], (span, due_by), wants);
        }
    }

    /// A rain gauge that tells every ten minutes what fell since.
    fn gauge(&mut self) {
        let sky = Arc::clone(&self.sky);
        let id = self.id("rain");
        let mut last = START;
        let messages = self.reports(MINUTE * 10).of(move |at, _| {
            let fell = sky.fallen_mm(Span { from: last, until: at });
            last = at;
            vec![("rainfall_mm", Said::Number((fell * 1_000.0).round() / 1_000.0))]
        });
        let facts = Device { id, parent: self.id("BASIN"), ..Device::default() };
        self.scenario.senders.push(Sender {
            facts,
            profile: "decentlab-dl-atm41",
            points: vec!["rainfall_mm"],
            messages,
        });
    }
}
