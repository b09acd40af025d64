//! Drains: catchments with the rhythm of the day, rain and noise, and in each of them what goes wrong with pipes, pumps
//! and probes; beside it everything that only looks so.
//!
//! The faults are those of the table of drain levels in the detection figures: blockage, water held back by the next
//! pipe or the river, a level that creeps up, a probe that stands still or hangs in the air, blips, a pump that does not
//! run, and the floods of every storm. Series of five minutes; half of the catchments have a rain gauge, the others know
//! the weather from their levels alone, and a gauge in two is clogged from some day on.
//!
//! The truth knows depths and times, and nothing of the rules: a flood is water beyond a depth, a blockage is due a day
//! behind the moment at which it stands out, whatever the weather was, and an alarm in rain is true only where the water
//! came.

mod junk;
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
/// Crown of a common pipe, mm.
const OVERFLOW_MM: f64 = 400.0;
/// Grades of depth, mm, and what each is worth: where a road is closed somebody has to come.
const GRADES: [(&str, f64, Wants); 2] =
    [("water beyond 15 cm", WATCH_MM, Wants::Alarm), ("water beyond 27 cm", 270.0, Wants::Case)];
/// By so much the sensor may see less or more than there is, mm.
const UNSURE_MM: f64 = 7.0;
/// A level this much above the usual stands out, mm.
const STANDS_OUT_MM: f64 = 60.0;
/// What has to be found in a pipe is found within a day behind the moment at which it stands out: a crew comes by day.
const DUE_WITHIN: Duration = DAY;
/// What water that stands too high for days may raise besides.
const HIGH_WATER: &[&str] = &["surcharged", "storm", "level_creeping"];

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
    /// When nothing of it arrives.
    outages: Vec<Span>,
    radio: Radio,
}

/// What a sensor says instead of the water.
#[derive(Clone, Debug, Default)]
enum Says {
    #[default]
    Water,
    /// The value of the beginning.
    Stuck(Span),
    /// Nothing but noise around its zero, which may be off by so much, mm.
    Air(Span, f64),
    /// Single high readings, some a day.
    Blips(Span),
    /// Something else than water is under it at these times, mm.
    Things(Vec<(Span, f64)>),
    /// Its zero falls by so much a day from then on, mm.
    Falls(Timestamp, f64),
}

impl Says {
    /// When nothing of the water is in what it says.
    fn nothing_of_water(&self) -> Vec<Span> {
        match self {
            Says::Stuck(span) | Says::Air(span, _) => vec![*span],
            Says::Things(things) => things.iter().map(|(span, _)| *span).collect(),
            Says::Falls(from, _) => vec![Span { from: *from, until: Timestamp(i64::MAX) }],
            Says::Water | Says::Blips(_) => Vec::new(),
        }
    }
}

impl Well {
    /// Depth of the water, mm.
    fn depth_mm(&self, at: Timestamp, sky: &Sky) -> f64 {
        let number = at.0.div_euclid(86_400_000);
        let day = (number as f64 * 2.4 + self.phase).sin();
        let slow = (at.0 as f64 / 11.3e6 + self.phase).sin();
        // People rise later at the end of the week; 1970 began on a Thursday.
        let is_weekend = (number + 3).rem_euclid(7) >= 5;
        let clock = if is_weekend { at.minus(MINUTE * 90) } else { at };
        let flow = self.dry_mm * diurnal_factor(clock).sqrt() * (1.0 + 0.1 * day);
        flow + 3.0 * slow + self.gain * sky.stored_mm(at) + self.excess.mm(at)
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
        self.junk(&trunk.id);
        self.wild_clock(&trunk.id);
        self.falling_zero(&trunk.id);
        self.drowned(&trunk.id);
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
            outages: Vec::new(),
            radio: Radio { loss: 0.02, delay_max: Duration::from_secs(5), ..Radio::default() },
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

    /// Water that stands too high behind a blockage, or is held back.
    fn note_high(&mut self, well: &Well, kind: &'static str, condition: &'static str, wants: Wants) {
        let (Some(first), Some(until)) = (well.excess.ramps.first(), well.excess.until()) else { return };
        let span = Span { from: first.from, until: until.plus(DAY) };
        // What is higher by less may be told and need not.
        let Some(from) = well.excess.stands_out() else {
            self.note(&well.id, "", &[condition], (span, until), Wants::Nothing);
            return;
        };
        self.note(&well.id, kind, &[condition], (span, from.plus(DUE_WITHIN)), wants);
    }

    /// A pipe that closes within hours and is flushed after days.
    fn blocked(&mut self, downstream: &str) -> Well {
        let mut well = self.well("blocked", downstream);
        let from = self.moment(DAY * 7);
        let rise = HOUR.mul_f64(between(&mut self.chance, 3.0, 30.0));
        let stay = DAY.mul_f64(between(&mut self.chance, 2.0, 5.0));
        // Half a pipe's width of rags and a whole one, small ones more often.
        let height_mm = 80.0 * (350.0_f64 / 80.0).powf(self.chance.f64());
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
        // FloodNet takes up to 10 mm for noise at the ground.
        well.says = Says::Air(span, between(&mut self.chance, -10.0, 10.0));
        let due = span.from.plus(DAY * 2);
        self.note(&well.id, "probe hangs in the air", &["out_of_water"], (span, due), Wants::Alarm);
        self.add(well);
    }

    /// Silt: some millimetres a day for two weeks and more, until somebody dredges.
    fn creeping(&mut self, downstream: &str) {
        let mut well = self.well("silt", downstream);
        let days = if self.days > 40 { between(&mut self.chance, 14.0, 20.0) } else { 13.0 };
        let from = self.moment(DAY.mul_f64(days + 3.0));
        let a_day = between(&mut self.chance, 5.0, 12.0);
        let ramp = Ramp { from, rise: DAY.mul_f64(days), stay: DAY * 2, height_mm: a_day * days };
        well.excess = Excess::of(ramp);
        let until = ramp.until().plus(DAY * 20);
        // A level that is 5 cm above the usual for hours is one more way to say it.
        let any_of = ["level_creeping", "blocked"];
        self.note(&well.id, "silt", &any_of, (Span { from, until }, from.plus(DAY * 14)), Wants::Alarm);
        self.add(well);
    }

    fn blips(&mut self, downstream: &str) {
        let mut well = self.well("blips", downstream);
        let span = Span::of(self.moment(DAY * 4), DAY * 3);
        well.says = Says::Blips(span);
        self.scenario.traps.push(Trap {
            kind: "single high readings",
            devices: vec![well.id.clone()],
            conditions: vec!["surcharged", "surging", "overflow_soon", "blocked", "backwater"],
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
        let mut reports = self.reports(MINUTE * 5);
        reports.radio = Radio { outages: well.outages.clone(), ..well.radio.clone() };
        let messages = reports.of(move |at, chance| {
            // 3 mm of standard deviation, as over dry ground in the suite of floods.
            let noise = 6.0 * (chance.f64() + chance.f64() + chance.f64() - 1.5);
            let water = well.depth_mm(at, &sky);
            // Four a day of those that come every five minutes, never two running.
            let is_blip = !was_blip && chance.f64() < 4.0 / 288.0;
            let level = match &well.says {
                Says::Stuck(span) if span.has(at) => *held.get_or_insert(water + noise),
                Says::Air(span, zero_mm) if span.has(at) => zero_mm + noise,
                Says::Blips(span) if span.has(at) && is_blip => 150.0 * 10.0_f64.powf(chance.f64()),
                Says::Things(things) => {
                    let thing = things.iter().find(|(span, _)| span.has(at)).map_or(0.0, |(_, height)| *height);
                    (water + noise).max(thing * (1.0 + 0.01 * (chance.f64() - 0.5)))
                }
                Says::Falls(from, a_day) if *from <= at => {
                    water + noise - a_day * at.since(*from).as_secs_f64() / DAY.as_secs_f64()
                }
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

    /// Every time that rain brings a level to one of the grades, and what may be raised about it: an alarm in rain is
    /// true when the water came to what it tells.
    fn note_floods(&mut self, well: &Well) {
        for wet in self.sky.wet_spans() {
            let steps = u32::try_from(wet.until.since(wet.from).as_secs() / STEP.as_secs()).unwrap_or(u32::MAX);
            let depths: Vec<f64> =
                (0..steps).map(|step| well.depth_mm(wet.from.plus(STEP * step), &self.sky)).collect();
            let highest = depths.iter().copied().fold(0.0, f64::max);
            let first =
                |mm: f64| depths.iter().position(|depth| *depth >= mm).and_then(|step| u32::try_from(step).ok());
            let Some(near) = first(WATCH_MM - UNSURE_MM) else { continue };
            let last = depths.iter().rposition(|depth| *depth >= WATCH_MM - UNSURE_MM).unwrap_or(0);
            let last = u32::try_from(last).unwrap_or(u32::MAX);
            let span =
                Span { from: wet.from.plus(STEP * near).minus(STEP), until: wet.from.plus(STEP * last).plus(HOUR) };
            let mut tolerated = vec!["surcharged", "surging", "storm"];
            tolerated.extend((highest >= OVERFLOW_MM * 0.75).then_some("overflow_soon"));
            // A rise is told before it is there.
            let early = Span { from: span.from.minus(MINUTE * 30), ..span };
            self.note(&well.id, "", &tolerated[1..], (early, span.until), Wants::Nothing);
            self.note(&well.id, "", &tolerated, (span, span.until), Wants::Nothing);
            // What stood beyond it before says nothing new, and what is not heard is not seen.
            let is_seen = |at: Timestamp| {
                let looked_at = Span { from: at.minus(HOUR), until: at.plus(HOUR) };
                let mut hidden = well.outages.iter().copied().chain(well.says.nothing_of_water());
                well.excess.mm(at) < 1.0
                    && !hidden.any(|hidden| hidden.from < looked_at.until && looked_at.from < hidden.until)
            };
            for (kind, mm, wants) in GRADES {
                let beyond = depths.iter().filter(|depth| **depth >= mm + UNSURE_MM).count();
                let Some(step) = first(mm + UNSURE_MM).filter(|_| beyond >= 2) else { continue };
                let at = wet.from.plus(STEP * step);
                if is_seen(at) {
                    let near = first(mm - UNSURE_MM).unwrap_or(step);
                    let span = Span { from: wet.from.plus(STEP * near).minus(STEP), until: span.until };
                    // Two reports and a lost one.
                    self.note(&well.id, kind, &["surcharged"], (span, at.plus(MINUTE * 16)), wants);
                }
            }
            if let Some(at) = first(OVERFLOW_MM).map(|step| wet.from.plus(STEP * step)).filter(|at| is_seen(*at)) {
                let early = Span { until: at.plus(HOUR), ..early };
                let any_of = ["overflow_soon", "surging"];
                self.note(&well.id, "40 cm announced before", &any_of, (early, at), Wants::Alarm);
            }
        }
    }

    /// A rain gauge that tells every ten minutes what fell since.
    fn gauge(&mut self) {
        let sky = Arc::clone(&self.sky);
        let id = self.id("rain");
        let mut last = START;
        // Leaves in the funnel: it tells no rain from then on, and nothing says so.
        let clogged_from = (self.number % 4 == 2).then(|| self.moment(DAY * 10));
        let messages = self.reports(MINUTE * 10).of(move |at, _| {
            let is_clogged = clogged_from.is_some_and(|from| from <= at);
            let fell = if is_clogged { 0.0 } else { sky.fallen_mm(Span { from: last, until: at }) };
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
