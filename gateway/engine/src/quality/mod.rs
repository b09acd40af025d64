//! Quality: between decode and detect. Turns the readings of a frame into the same readings with flags, by the tests of
//! their points (`docs/detection.md`, section Quality).
//!
//! Two parts. [`Plan::judge_alone`] needs nothing but the readings of one moment, so that history, and what is decoded
//! again, get the same flags. `Plan::judge` looks back as well: its memory is part of the snapshot, some 90 bytes for
//! a point with tests and nothing for others, besides flat lines (at most 1 KiB), windows of attenuated signals (at most
//! 7 KiB) and drifts (150 bytes) where a profile asks for them. A spike is known only when the next reading has come:
//! until then a reading that jumps is suspect, and what becomes of it is told as a `Revised`.

mod drift;
mod fault;
mod flat;
#[cfg(test)]
mod oracle;
mod series;
mod window;

use std::time::Duration;

use kerbside_model::id::point_key;
use kerbside_model::profile::{
    ChangeRate, GuardTest, Limits, NEIGHBOURS_MAX, Neighbours, Origin, Point, PointQuality, Profile, Validity,
};
use kerbside_model::time::Zone;
use kerbside_model::{Cause, Flag, PointReading, Quality, Timestamp, Value};
use serde::{Deserialize, Serialize};

use drift::DailyLows;
pub(crate) use fault::{Fault, fault_words};
use fault::{FaultTrack, Seen};
use flat::{FlatLine, RunLengths};
use window::Window;

/// The tests of a profile, compiled once.
#[derive(Debug, Default)]
pub struct Plan {
    points: Vec<PointPlan>,
    /// Points that are computed, and from which.
    derived: Vec<(u16, u16)>,
    has_alone: bool,
    /// By position in the profile.
    keys: Vec<u32>,
}

#[derive(Debug)]
struct PointPlan {
    point: u16,
    tests: PointQuality,
    zone: Option<Zone>,
    /// The limits of the rate of change, a second, and the least time that it is measured over, in ms.
    rate: Option<(Limits, i64)>,
    /// How often it is read, when not as often as the device.
    interval: Option<Duration>,
    looks_back: bool,
}

/// What is known of the moment of a frame.
pub(crate) struct Moment<'a> {
    pub(crate) observed_at: Timestamp,
    pub(crate) received_at: Timestamp,
    /// How often the device reports.
    pub(crate) interval: Option<Duration>,
    /// The last good value of another point of the device.
    pub(crate) known: &'a dyn Fn(u16) -> Option<&'a Value>,
    /// Whether a point ever had a good value.
    pub(crate) was_good: &'a dyn Fn(u16) -> bool,
    /// The middle values of the neighbours, by point.
    pub(crate) middles: &'a [(u16, f64)],
}

/// What became of the readings of a frame. Reused from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Flags that the readings of this moment alone do not explain.
    pub(crate) graded: Vec<(u16, Quality)>,
    /// What is known now of readings before these.
    pub(crate) revised: Vec<Revised>,
}

/// The final flag of an earlier reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Revised {
    pub(crate) point: u16,
    pub(crate) value: f64,
    pub(crate) observed_at: Timestamp,
    pub(crate) received_at: Timestamp,
    pub(crate) quality: Quality,
}

/// What the tests of one device remember.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct QualityState {
    /// Those of the points that came, by position in the plan.
    tracks: Vec<Track>,
    /// Points of which a reading was not good lately.
    faults: Vec<FaultTrack>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Track {
    /// Position in the plan.
    position: u16,
    last: Option<Sample>,
    /// The value before that; the outer `None` when there was none.
    before: Option<Option<f64>>,
    flat: Option<Box<FlatLine>>,
    window: Option<Box<Window>>,
    lows: Option<Box<DailyLows>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    value: Option<f64>,
    observed_at: Timestamp,
    received_at: Timestamp,
    /// What all tests but that of spikes say.
    settled: Quality,
    /// What was told of it.
    told: Quality,
}

impl Plan {
    /// Compiles the tests of a profile.
    pub fn new(profile: &Profile) -> Plan {
        let numbered = || (0_u16..).zip(&profile.points);
        let points: Vec<PointPlan> = numbered().filter_map(|(index, point)| PointPlan::new(index, point)).collect();
        let derived = numbered().filter_map(|(index, point)| match point.origin {
            Origin::MountHeightMinus(from) => Some((index, from)),
            _ => None,
        });
        Plan {
            has_alone: points.iter().any(PointPlan::judges_alone),
            derived: derived.collect(),
            points,
            keys: profile.points.iter().map(|point| point_key(&point.name)).collect(),
        }
    }

    /// What tells a point apart in notes.
    pub(crate) fn key(&self, point: u16) -> u32 {
        self.keys[usize::from(point)]
    }

    /// The point of a note, if the profile still has it.
    pub(crate) fn point(&self, key: u32) -> Option<u16> {
        let position = self.keys.iter().position(|known| *known == key)?;
        u16::try_from(position).ok()
    }

    /// The points that are compared with those of other devices.
    pub(crate) fn asks_neighbours(&self) -> impl Iterator<Item = (u16, &Neighbours)> {
        self.points.iter().filter_map(|plan| Some((plan.point, plan.tests.neighbours.as_ref()?)))
    }

    /// Flags readings by what can be said of them without those before: their usual range, the season, and what other
    /// points of the same row say of them.
    pub fn judge_alone(&self, readings: &mut [PointReading], observed_at: Timestamp) {
        if !self.has_alone {
            return;
        }
        for plan in self.points.iter().filter(|plan| plan.judges_alone()) {
            let Some(position) = position_of(readings, plan.point) else { continue };
            let valid = plan.tests.valid_when.iter().fold(Quality::GOOD, |worst, validity| {
                let other = position_of(readings, validity.point).map(|other| &readings[other]);
                let known = other.filter(|other| other.quality.is_good()).and_then(|other| other.value.as_ref());
                worst.or_worse(said_by(validity, known))
            });
            let reading = &mut readings[position];
            let mut quality = reading.quality.or_worse(valid);
            if let Some(value) = number_of(reading) {
                quality = quality.or_worse(plan.unusual(value, observed_at));
            }
            reading.quality = quality;
        }
        self.judge_derived(readings);
    }

    /// What is computed from a reading is no better than it.
    fn judge_derived(&self, readings: &mut [PointReading]) {
        for (point, from) in &self.derived {
            let Some(from) = position_of(readings, *from).map(|from| readings[from].quality) else { continue };
            if let Some(position) = position_of(readings, *point).filter(|_| from.flag.weight() > Flag::Good.weight()) {
                readings[position].quality = readings[position].quality.or_worse(from);
            }
        }
    }

    /// Flags the readings of a live frame by those before them. [`Plan::judge_alone`] comes first.
    pub(crate) fn judge(
        &self,
        state: &mut QualityState,
        readings: &mut [PointReading],
        moment: &Moment<'_>,
        findings: &mut Findings,
    ) {
        findings.graded.clear();
        findings.revised.clear();
        if !self.points.is_empty() {
            for (place, plan) in (0_u16..).zip(&self.points).filter(|(_, plan)| plan.looks_back) {
                if let Some(position) = position_of(readings, plan.point) {
                    let absent =
                        |point: u16| if position_of(readings, point).is_some() { None } else { (moment.known)(point) };
                    let judged = plan.judge(state.track(place), &readings[position], moment, &absent, findings);
                    self.grade(readings, position, judged, findings);
                }
            }
        }
        state.count_faults(self, readings, moment, findings);
    }

    /// Keeps the flag of a reading, and of what is computed from it, where it is news.
    fn grade(&self, readings: &mut [PointReading], position: usize, judged: Quality, findings: &mut Findings) {
        let point = readings[position].point;
        if readings[position].quality != judged {
            readings[position].quality = judged;
            findings.graded.push((point, judged));
        }
        if judged.flag.weight() <= Flag::Good.weight() {
            return;
        }
        for (derived, _) in self.derived.iter().filter(|(_, from)| *from == point) {
            let Some(other) = position_of(readings, *derived) else { continue };
            let quality = readings[other].quality.or_worse(judged);
            if quality != readings[other].quality {
                readings[other].quality = quality;
                findings.graded.push((*derived, quality));
            }
        }
    }
}

impl PointPlan {
    /// `None` for a point without tests.
    fn new(index: u16, point: &Point) -> Option<PointPlan> {
        let tests = &point.quality;
        let rate = tests.rate.map(|ChangeRate { limits, per }| {
            let a_second = |limit: Option<f64>| limit.map(|limit| limit / per.as_secs_f64());
            let limits = Limits { suspect: a_second(limits.suspect), fail: a_second(limits.fail) };
            (limits, i64::try_from(per.as_millis()).unwrap_or(i64::MAX))
        });
        let looks_back = rate.is_some()
            || tests.spike.is_some()
            || tests.flat.is_some()
            || tests.attenuated.is_some()
            || tests.gap.is_some()
            || tests.neighbours.is_some()
            || tests.drift.is_some()
            || !tests.valid_when.is_empty();
        let zone = if tests.climatology.is_empty() {
            None
        } else {
            Zone::named(tests.zone.as_deref().unwrap_or(kerbside_model::profile::ZONE_DEFAULT))
        };
        let plan = PointPlan { point: index, tests: tests.clone(), zone, rate, interval: point.interval, looks_back };
        (plan.looks_back || plan.judges_alone()).then_some(plan)
    }

    fn judges_alone(&self) -> bool {
        self.tests.range.is_some() || !self.tests.climatology.is_empty() || !self.tests.valid_when.is_empty()
    }

    /// What its usual range and the season say of a value.
    fn unusual(&self, value: f64, observed_at: Timestamp) -> Quality {
        let is_outside = self.tests.range.is_some_and(|range| !series::is_inside(range, value));
        let range = if is_outside { Quality::suspect(Cause::Range) } else { Quality::GOOD };
        let Some(local) = self.zone.as_ref().and_then(|zone| zone.local(observed_at)) else { return range };
        let season = series::climatology(Some(value), local, &self.tests.climatology);
        range.or_worse(Quality { flag: season, cause: Cause::Climatology })
    }

    /// What the readings before say of one, and what it says of the one before.
    fn judge<'a>(
        &self,
        track: &mut Track,
        reading: &PointReading,
        moment: &Moment<'_>,
        absent: &dyn Fn(u16) -> Option<&'a Value>,
        findings: &mut Findings,
    ) -> Quality {
        let valid = self.tests.valid_when.iter().map(|validity| said_by(validity, absent(validity.point)));
        let mut settled = valid.fold(reading.quality, Quality::or_worse);
        // A bad value says nothing about those beside it.
        let value = number_of(reading).filter(|_| settled.flag != Flag::Bad);
        for (flag, cause) in self.look_back(track, value, moment) {
            if reading.value.is_some() && flag.weight() > Flag::Good.weight() {
                settled = settled.or_worse(Quality { flag, cause });
            }
        }
        let told = self.spike(track, value, settled, findings);
        track.before = track.last.map(|last| last.value);
        let Moment { observed_at, received_at, .. } = *moment;
        track.last = Some(Sample { value, observed_at, received_at, settled, told });
        told
    }

    /// Flags by every test that looks back; the order decides which of equals is named.
    fn look_back(&self, track: &mut Track, value: Option<f64>, moment: &Moment<'_>) -> [(Flag, Cause); 5] {
        let at = moment.observed_at;
        let last = track.last;
        let gap = self.tests.gap.map(|spans| series::gap(spans, last.map(|last| last.observed_at), at));
        let before = last.and_then(|last| Some((last.value?, last.observed_at)));
        let rate = self.rate.map(|(limits, least_ms)| series::rate(limits, least_ms, before, value, at));
        let interval = self.interval.or(moment.interval);
        let flat = self.tests.flat.zip(interval).map(|(test, interval)| {
            let interval_ms = interval.as_millis().max(1);
            let length = |span: Duration| u32::try_from(span.as_millis() / interval_ms).unwrap_or(u32::MAX).max(1);
            let lengths = RunLengths { suspect: test.spans.suspect.map(length), fail: test.spans.fail.map(length) };
            let half_ms = i64::try_from(interval_ms / 2).unwrap_or(i64::MAX);
            track.flat.get_or_insert_default().take(value, at, test.tolerance, half_ms, lengths)
        });
        let attenuated = self.tests.attenuated.map(|test| track.window.get_or_insert_default().take(value, at, &test));
        let middle = moment.middles.iter().find(|(point, _)| *point == self.point);
        let neighbours = self.tests.neighbours.zip(value).zip(middle).map(|((test, value), (_, middle))| {
            if (value - middle).abs() > test.suspect { Flag::Suspect } else { Flag::Good }
        });
        [
            (gap, Cause::Gap),
            (rate, Cause::RateOfChange),
            (flat, Cause::FlatLine),
            (attenuated, Cause::Attenuated),
            (neighbours, Cause::Neighbours),
        ]
        .map(|(flag, cause)| (flag.unwrap_or(Flag::NotEvaluated), cause))
    }

    /// Settles the reading before, and says of this one whether it may be a spike.
    fn spike(&self, track: &Track, value: Option<f64>, settled: Quality, findings: &mut Findings) -> Quality {
        let (Some(test), Some(last)) = (self.tests.spike, track.last) else { return settled };
        if let (Some(before), Some(known)) = (track.before, last.value) {
            let flag = series::spike(test.method, test.limits, [before, last.value, value]);
            if flag == Flag::NotEvaluated {
                // Nothing came that could confirm it.
                return self.may_be_spike(last.value, value, settled);
            }
            let quality = match last.settled.or_worse(Quality { flag, cause: Cause::Spike }) {
                Quality::GOOD if last.told != Quality::GOOD => Quality::CONFIRMED,
                quality => quality,
            };
            if quality != last.told {
                let Sample { observed_at, received_at, .. } = last;
                findings.revised.push(Revised { point: self.point, value: known, observed_at, received_at, quality });
            }
        }
        self.may_be_spike(last.value, value, settled)
    }

    /// A reading that jumps is suspect until the next one has come.
    fn may_be_spike(&self, last: Option<f64>, value: Option<f64>, settled: Quality) -> Quality {
        let jump = value.zip(last).map_or(0.0, |(value, last)| (value - last).abs());
        let limit = self.tests.spike.and_then(|test| test.limits.suspect.or(test.limits.fail));
        if limit.is_some_and(|limit| jump > limit) { settled.or_worse(Quality::suspect(Cause::Spike)) } else { settled }
    }
}

impl QualityState {
    /// The track of a position in the plan; a new one at its first reading.
    fn track(&mut self, position: u16) -> &mut Track {
        let known = match self.tracks.get(usize::from(position)) {
            Some(track) if track.position == position => Ok(usize::from(position)),
            _ => self.tracks.binary_search_by_key(&position, |track| track.position),
        };
        let place = known.unwrap_or_else(|place| {
            // Most come with the first frame, so no room is kept for more.
            self.tracks.reserve_exact(1);
            self.tracks.insert(place, Track { position, ..Track::default() });
            place
        });
        &mut self.tracks[place]
    }

    /// Counts readings that are not good, point by point.
    fn count_faults(&mut self, plan: &Plan, readings: &[PointReading], moment: &Moment<'_>, findings: &Findings) {
        for revised in findings.revised.iter().filter(|revised| revised.quality.is_good()) {
            self.faults.iter_mut().filter(|fault| fault.point == revised.point).for_each(FaultTrack::forgive_last);
        }
        let is_calm = self.faults.is_empty() && readings.iter().all(|reading| reading.quality.is_good());
        if !is_calm {
            for reading in readings {
                let seen = Seen::of(reading);
                match self.faults.iter_mut().find(|fault| fault.point == reading.point) {
                    Some(fault) => fault.take(seen, moment.received_at),
                    // Boards without a sensor say "no value" all their life.
                    None if reading.value.is_none() && !(moment.was_good)(reading.point) => {}
                    None => self.faults.extend(FaultTrack::begin(reading.point, seen, moment.received_at)),
                }
            }
            self.faults.retain(|fault| !fault.is_over());
        }
        for (position, plan) in (0_u16..).zip(&plan.points).filter(|(_, plan)| plan.tests.drift.is_some()) {
            self.watch_drift(plan, position, readings, moment);
        }
    }

    fn watch_drift(&mut self, plan: &PointPlan, position: u16, readings: &[PointReading], moment: &Moment<'_>) {
        let reading = position_of(readings, plan.point).map(|position| &readings[position]);
        let value = reading.filter(|reading| reading.quality.is_good()).and_then(number_of);
        let (Some(value), Some(test)) = (value, plan.tests.drift) else { return };
        let drifts = self.track(position).lows.get_or_insert_default().take(value, moment.observed_at, &test);
        match self.faults.iter_mut().find(|fault| fault.point == plan.point) {
            Some(fault) => fault.set_drift(drifts, moment.received_at),
            None if drifts => self.faults.push(FaultTrack::drifting(plan.point, moment.received_at)),
            None => {}
        }
        self.faults.retain(|fault| !fault.is_over());
    }

    /// The sensor fault that stands, if one does: the first of the device's points that has one.
    pub(crate) fn fault(&self, profile: &Profile, now: Timestamp) -> Option<Fault> {
        self.faults.iter().find_map(|fault| {
            let rule = profile.points.get(usize::from(fault.point))?.quality.fault;
            fault.standing(rule, now)
        })
    }

    /// Whether a fault is over: the last readings of every point are good. What comes and goes has to stay away longer.
    pub(crate) fn is_mended(&self) -> bool {
        self.faults.iter().all(FaultTrack::is_mended)
    }

    /// The points were edited: tests begin anew, and what was not good lately of a point that is still there, it was.
    pub(crate) fn begin_anew(&mut self, there: &dyn Fn(u16) -> Option<u16>) {
        self.tracks = Vec::new();
        self.faults.retain_mut(|fault| {
            // Whether it drifts nobody knows for two weeks.
            fault.set_drift(false, Timestamp::default());
            let position = there(fault.point);
            fault.point = position.unwrap_or_default();
            position.is_some() && !fault.is_over()
        });
    }

    /// Whether no reading was bad or suspect lately.
    pub(crate) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// What it takes in memory, with all that it points to.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let boxed = |track: &Track| {
            track.flat.as_ref().map_or(0, |flat| size_of::<FlatLine>() + 16 * flat.steps())
                + track.window.as_ref().map_or(0, |window| size_of::<Window>() + 24 * window.len())
                + track.lows.as_ref().map_or(0, |_| size_of::<DailyLows>() + 8 * 15)
        };
        let tracks = self.tracks.iter().map(|track| size_of::<Track>() + boxed(track)).sum::<usize>();
        size_of::<QualityState>() + tracks + self.faults.len() * size_of::<FaultTrack>()
    }

    /// No memory may lie in the future after the clock was set back.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        for track in &mut self.tracks {
            if let Some(last) = &mut track.last {
                (last.observed_at, last.received_at) = (last.observed_at.min(now), last.received_at.min(now));
            }
            track.flat.iter_mut().for_each(|flat| flat.forget_future(now));
            track.window.iter_mut().for_each(|window| window.forget_future(now));
            track.lows.iter_mut().for_each(|lows| lows.forget_future(now));
        }
        self.faults.iter_mut().for_each(|fault| fault.forget_future(now));
    }
}

/// The middle of the neighbours' values; `None` when there are too few. No more than [`NEIGHBOURS_MAX`] are looked at.
pub(crate) fn middle(values: impl Iterator<Item = f64>, test: &Neighbours) -> Option<f64> {
    let mut known = [0.0; NEIGHBOURS_MAX];
    let mut count = 0;
    for (place, value) in known.iter_mut().zip(values) {
        *place = value;
        count += 1;
    }
    let known = &mut known[..count];
    if count < usize::from(test.count_min) {
        return None;
    }
    known.sort_unstable_by(f64::total_cmp);
    Some((known[(count - 1) / 2] + known[count / 2]) / 2.0)
}

fn said_by(validity: &Validity, known: Option<&Value>) -> Quality {
    let Some(value) = known else { return Quality::GOOD };
    let holds = match &validity.test {
        GuardTest::Equals(wanted) => value == wanted,
        GuardTest::Above(limit) => value.as_number().is_some_and(|number| number >= *limit),
        GuardTest::Below(limit) => value.as_number().is_some_and(|number| number <= *limit),
        // Only detectors ask for it.
        GuardTest::Lost | GuardTest::Unchanged | GuardTest::Unknown => false,
    };
    if holds { Quality::GOOD } else { Quality { flag: validity.otherwise, cause: Cause::DeviceFlag } }
}

fn number_of(reading: &PointReading) -> Option<f64> {
    reading.value.as_ref().and_then(Value::as_number).filter(|_| reading.quality.flag != Flag::Bad)
}

fn position_of(readings: &[PointReading], point: u16) -> Option<usize> {
    readings.binary_search_by_key(&point, |reading| reading.point).ok()
}
