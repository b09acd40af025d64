//! One series: keeps its warm-up, fits everything on it, then judges point by point.
//!
//! A crash loses what was not serialised; nothing here is written anywhere. Metrics are the caller's.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bar::{Bar, Judged};
use crate::counts::Count;
use crate::grid::{CELLS, Grid};
use crate::patterns::{Patterns, Reach, Usual};
use crate::reason::{Reason, STREAMS, Seen, Stream};
use crate::rhythm::{Distance, Hours, Level, Range};
use crate::tail::Tail;
use crate::tuning::{TUNING, Tuning};

/// The warm-up that is taken where nobody says otherwise: 750 points, 2.6 days at one in 5 minutes. Below a day the
/// hours of the day are not known when judging begins.
pub const WARMUP_POINTS_DEFAULT: u32 = 750;
/// The shortest warm-up: fewer points have no quantiles.
pub const WARMUP_POINTS_MIN: u32 = 20;
/// The longest warm-up, about two years at one a minute.
pub const WARMUP_POINTS_MAX: u32 = 1_000_000;

/// Further from the first value nothing is told apart; squares of it still fit into an f32.
const DISTANCE_MAX: f64 = 1e18;
/// A record by less than about this share of the range is hardly one, also where the warm-up had none at all.
const RECORD_MIN: f32 = 0.02;
/// Points at the beginning from which no tail is fitted, because everything is new: at most this many, and a tenth.
const NEW_POINTS_MAX: usize = 50;

/// How much a series may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Under 24 kB a series.
    Full,
    /// Under 2 kB a series: one grid instead of three, coarser contexts, a shorter memory of the warm-up.
    Light,
}

/// When a point was measured, in the local time of the place: the day has its rhythm there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    minute_of_day: u16,
    weekday: u8,
}

impl Moment {
    /// From seconds since 1970-01-01 00:00 as a clock on the wall counts them; any number is good.
    pub fn from_local_seconds(seconds: i64) -> Moment {
        let day = seconds.div_euclid(86_400);
        // 1970-01-01 was a Thursday.
        let weekday = (day + 3).rem_euclid(7) + 1;
        Moment { minute_of_day: (seconds.rem_euclid(86_400) / 60) as u16, weekday: weekday as u8 }
    }
}

/// What the learner says about a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// How unusual, 0..1; from [`SCORE_ALARM`](crate::SCORE_ALARM) on an alarm; 0 during the warm-up and for what is no
    /// number.
    pub score: f32,
    /// Why, where it is an alarm or was asked for.
    pub alarm: Option<Reason>,
}

/// Learns one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Learner {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    mode: Mode,
    warmup_points: u32,
    /// Points so far, until the warm-up is over.
    points: u32,
    /// The first value: everything is counted from it, so that an f32 holds small changes of large values.
    base: f64,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    /// Points that wait for the fit.
    Sample(Vec<(f32, u16)>),
    Fitted(Box<Fitted>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fitted {
    grid: Grid,
    patterns: Patterns,
    hours: Hours,
    level: Level,
    range: Range,
    tails: [Tail; STREAMS],
    bar: Bar,
}

/// What the streams say about a point.
struct Said {
    raw: [f32; STREAMS],
    hour: Distance,
    level: Distance,
    range: Distance,
}

/// A point after the warm-up.
struct Taken {
    said: Said,
    strengths: [f32; STREAMS],
    judged: Judged,
}

impl Mode {
    /// How many points of the warm-up are kept for the fit; the rest of a longer one is learnt as it comes.
    fn sample_points_max(self) -> u32 {
        match self {
            Mode::Full => 1024,
            Mode::Light => 224,
        }
    }
}

impl Learner {
    /// A learner that judges after so many points, within [`WARMUP_POINTS_MIN`] and [`WARMUP_POINTS_MAX`].
    pub fn new(mode: Mode, warmup_points: u32) -> Learner {
        let warmup_points = warmup_points.clamp(WARMUP_POINTS_MIN, WARMUP_POINTS_MAX);
        Learner { state: State { mode, warmup_points, points: 0, base: 0.0, phase: Phase::Sample(Vec::new()) } }
    }

    /// Judges a point and learns it. What is no number changes nothing.
    pub fn observe(&mut self, value: f64, moment: Moment) -> Verdict {
        self.observe_with(value, moment, &TUNING)
    }

    /// As [`Learner::observe`], for trials with other numbers; they must be the same for all points of a learner.
    pub fn observe_with(&mut self, value: f64, moment: Moment, tuning: &Tuning) -> Verdict {
        let Some(taken) = self.take(value, moment, tuning) else { return Verdict { score: 0.0, alarm: None } };
        let alarm = taken.judged.is_alarm.then(|| self.reason(&taken, value, moment, tuning)).flatten();
        Verdict { score: taken.judged.score, alarm }
    }

    /// Judges a point and learns it, for a caller who keeps a rest of his own: the score is that of the point alone,
    /// also while the learner rests after an alarm, and the reason is given from a score of `score_min` on.
    pub fn watch(&mut self, value: f64, moment: Moment, score_min: f32) -> Verdict {
        let Some(taken) = self.take(value, moment, &TUNING) else { return Verdict { score: 0.0, alarm: None } };
        let score = taken.judged.restless;
        let alarm = (score >= score_min).then(|| self.reason(&taken, value, moment, &TUNING)).flatten();
        Verdict { score, alarm }
    }

    /// Learns a point; nothing comes back during the warm-up and of what is no number.
    fn take(&mut self, value: f64, moment: Moment, tuning: &Tuning) -> Option<Taken> {
        if !value.is_finite() {
            return None;
        }
        let state = &mut self.state;
        if state.points == 0 {
            state.base = value;
        }
        let offset = (value - state.base).clamp(-DISTANCE_MAX, DISTANCE_MAX) as f32;
        let is_warm = state.points >= state.warmup_points;
        state.points = (state.points + 1).min(state.warmup_points);
        let fitted = match &mut state.phase {
            Phase::Sample(sample) => {
                let enough = state.warmup_points.min(state.mode.sample_points_max());
                if sample.len() == sample.capacity() {
                    sample.reserve_exact((enough as usize).saturating_sub(sample.len()));
                }
                sample.push((offset, moment.minute_of_day));
                if state.points >= enough {
                    let fitted = Fitted::new(sample, state.mode, state.warmup_points, tuning);
                    state.phase = Phase::Fitted(Box::new(fitted));
                }
                return None;
            }
            Phase::Fitted(fitted) => fitted,
        };
        let said = fitted.look(offset, moment.minute_of_day, state.mode, tuning);
        let rate = if is_warm { tuning.tail_rate } else { tuning.tail_rate.max(1.0 / state.points as f32) };
        let strengths = fitted.weigh(&said.raw, rate, tuning);
        let judged = fitted.bar.judge(mean(&strengths), tuning);
        is_warm.then_some(Taken { said, strengths, judged })
    }

    /// Why the point that was taken last is unusual.
    fn reason(&self, taken: &Taken, value: f64, moment: Moment, tuning: &Tuning) -> Option<Reason> {
        let Phase::Fitted(fitted) = &self.state.phase else { return None };
        let compared = fitted.compare(&taken.said, &taken.strengths, self.state.mode, tuning);
        Some(compared.into_reason(value, self.state.base, moment, taken.strengths))
    }

    /// Whether the warm-up is over.
    pub fn is_warm(&self) -> bool {
        self.state.points >= self.state.warmup_points
    }

    /// Bytes that this learner takes now, with what it holds on the heap. The most is reached either at the end of the
    /// sample or after the fit; both lie below the limits of [`Mode`].
    pub fn bytes(&self) -> usize {
        let heap = match &self.state.phase {
            Phase::Sample(sample) => sample.capacity() * size_of::<(f32, u16)>(),
            Phase::Fitted(fitted) => size_of::<Fitted>() + fitted.patterns.heap_bytes(),
        };
        size_of::<Learner>() + heap
    }
}

impl Fitted {
    /// Fits grid and tails on the sample, and learns it as if its points had just come.
    fn new(sample: &[(f32, u16)], mode: Mode, warmup_points: u32, tuning: &Tuning) -> Fitted {
        let values: Vec<f32> = sample.iter().map(|(value, _)| *value).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        let grid = Grid::fit(&sorted, tuning);
        let mut fitted = Fitted {
            patterns: Patterns::new(mode),
            hours: Hours::new(&values, &grid, tuning),
            level: Level::new(&values, &grid),
            range: Range::new(&grid),
            tails: Default::default(),
            bar: Bar::new(warmup_points, tuning),
            grid,
        };
        let said: Vec<[f32; STREAMS]> =
            sample.iter().map(|(value, minute)| fitted.look(*value, *minute, mode, tuning).raw).collect();
        let new_points = (said.len() / 10).min(NEW_POINTS_MAX);
        for (number, tail) in fitted.tails.iter_mut().enumerate() {
            let of_stream = said[new_points..].iter().map(|raw| raw[number]).collect();
            let excess_min = if Stream::ALL[number] == Stream::Range { RECORD_MIN } else { 0.0 };
            *tail = Tail::fit(of_stream, excess_min, tuning);
        }
        let bar_start = (tuning.bar_start * said.len() as f32) as usize;
        for raw in &said[bar_start.min(said.len())..] {
            let strengths = fitted.strengths(raw, tuning);
            fitted.bar.judge(mean(&strengths), tuning);
        }
        fitted
    }

    /// What the streams say, before it is calibrated; they learn the point.
    fn look(&mut self, value: f32, minute_of_day: u16, mode: Mode, tuning: &Tuning) -> Said {
        let fine = self.grid.fine(value, tuning);
        let surprise = self.patterns.observe(mode, fine, minute_of_day, tuning);
        let hour = self.hours.observe(value, minute_of_day, tuning);
        let level = self.level.observe(value, tuning);
        let range = self.range.observe(value);
        let raw = [surprise.short, surprise.long, hour.spreads, level.spreads, range.spreads];
        Said { raw, hour, level, range }
    }

    fn strengths(&self, raw: &[f32; STREAMS], tuning: &Tuning) -> [f32; STREAMS] {
        let mut strengths = [0.0; STREAMS];
        for (strength, (tail, raw)) in strengths.iter_mut().zip(self.tails.iter().zip(raw)) {
            *strength = tail.strength(*raw, tuning);
        }
        strengths
    }

    /// The strengths of a point; then the tails follow it.
    fn weigh(&mut self, raw: &[f32; STREAMS], rate: f32, tuning: &Tuning) -> [f32; STREAMS] {
        let strengths = self.strengths(raw, tuning);
        for (tail, raw) in self.tails.iter_mut().zip(raw) {
            tail.follow(*raw, rate, tuning);
        }
        strengths
    }

    /// What the strongest stream compared the point with.
    fn compare(&self, said: &Said, strengths: &[f32; STREAMS], mode: Mode, tuning: &Tuning) -> Compared {
        let mut strongest = 0;
        for (number, strength) in strengths.iter().enumerate() {
            if *strength > strengths[strongest] {
                strongest = number;
            }
        }
        let stream = Stream::ALL[strongest];
        let sequence = |reach| {
            let usual = self.patterns.usual(mode, reach);
            let (mean, spread) = self.usual_value(&usual, tuning);
            let Count { seen, of } = usual.count;
            let distance = Distance { looked_at: said.range.looked_at, usual: mean, spread, spreads: 0.0 };
            Compared { stream, distance, seen: Some(Seen { times: seen, of }) }
        };
        match stream {
            Stream::Sequence => sequence(Reach::Short),
            Stream::LongSequence => sequence(Reach::Long),
            Stream::Hour => Compared { stream, distance: said.hour, seen: None },
            Stream::Level => Compared { stream, distance: said.level, seen: None },
            Stream::Range => Compared { stream, distance: said.range, seen: None },
        }
    }

    /// Mean and standard deviation of what came in a context; the series' own where nothing came yet.
    fn usual_value(&self, usual: &Usual, tuning: &Tuning) -> (f32, f32) {
        let (mut weight, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for (number, count) in usual.cells.iter().enumerate().take(CELLS) {
            let (count, centre) = (f32::from(*count), self.grid.centre(number, tuning));
            weight += count;
            sum += count * centre;
            squares += count * (centre - self.grid.middle) * (centre - self.grid.middle);
        }
        if weight == 0.0 {
            return (self.grid.middle, self.grid.spread);
        }
        let mean = sum / weight;
        let from_middle = mean - self.grid.middle;
        (mean, (squares / weight - from_middle * from_middle).max(0.0).sqrt())
    }
}

/// What the strongest stream compared a point with, counted from the base.
struct Compared {
    stream: Stream,
    distance: Distance,
    seen: Option<Seen>,
}

impl Compared {
    fn into_reason(self, value: f64, base: f64, moment: Moment, strengths: [f32; STREAMS]) -> Reason {
        Reason {
            stream: self.stream,
            value,
            looked_at: base + f64::from(self.distance.looked_at),
            usual: base + f64::from(self.distance.usual),
            spread: f64::from(self.distance.spread),
            seen: self.seen,
            hour: (moment.minute_of_day / 60) as u8,
            weekday: moment.weekday,
            strengths,
        }
    }
}

fn mean(strengths: &[f32; STREAMS]) -> f32 {
    strengths.iter().sum::<f32>() / STREAMS as f32
}

impl Serialize for Learner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Learner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Learner, D::Error> {
        let state = State::deserialize(deserializer)?;
        if !(WARMUP_POINTS_MIN..=WARMUP_POINTS_MAX).contains(&state.warmup_points) {
            return Err(D::Error::custom(format!("a warm-up of {} points", state.warmup_points)));
        }
        let is_sound = match &state.phase {
            Phase::Sample(sample) => {
                sample.len() as u64 == u64::from(state.points) && sample.iter().all(|(_, minute)| *minute < 1440)
            }
            Phase::Fitted(fitted) => fitted.patterns.is_sound(state.mode),
        };
        if !is_sound {
            return Err(D::Error::custom("tables that are not those of this mode"));
        }
        Ok(Learner { state })
    }
}

#[cfg(test)]
mod tests;
