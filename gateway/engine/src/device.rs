//! What the engine remembers of one device.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::{Battery, Combination, Condition, Detector, Guard, GuardTest, Load, Profile, Rule};
use kerbside_model::{Alarm, DuplicateReason, MaskKind, PointReading, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alarms::Conditions;
use crate::budget::Budget;
use crate::decode::Scratch;
use crate::detect::{DetectorState, Normal, Phase, Sent, Setting, Sight, Verdict};
use crate::drift::Drift;
use crate::duplicates::{Arrival, LATE_AFTER, Recent};
use crate::last::LastReadings;
use crate::local::{Clock, Local};
use crate::quality::QualityState;
use crate::together::Together;
use crate::uplinks::Uplinks;
use crate::weather::{Surroundings, Swell};

/// Two frames of a device whose clock is wrong are as far apart by its clock as by ours, give or take this ...
const PACE_TOLERANCE: Duration = Duration::from_secs(5);
/// ... or this share of the distance.
const PACE_SHARE: f64 = 0.2;
/// Without a known interval a device's data counts as stale after this.
const STALE_AFTER_DEFAULT: Duration = Duration::from_secs(3_600);
/// Data is stale after so many reporting intervals.
const STALE_INTERVALS: f64 = 3.0;

/// A time during which alarms open no cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mask {
    pub(crate) kind: MaskKind,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// What the engine remembers of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceState {
    /// When the last readable live frame was received.
    pub(crate) heard_at: Option<Timestamp>,
    /// By which source.
    pub(crate) heard_on: Option<Arc<str>>,
    /// Since when its node or its broker says that it is gone, until it is heard again.
    pub(crate) gone_at: Option<Timestamp>,
    /// Silence is not counted from before this: the gateway was not running, or its source was down.
    pub(crate) listening_since: Timestamp,
    /// The newest observation.
    pub(crate) observed_at: Timestamp,
    /// Where the last frame without a time of its own was placed.
    pub(crate) placed_at: Timestamp,
    /// Times of the last frame, live or not: by these the pace of the device's clock is judged.
    last_frame: (Timestamp, Timestamp),
    /// By these a frame that comes twice is known.
    recent: Recent,
    /// What it may send before its telemetry is thinned.
    pub(crate) budget: Budget,
    /// Since when every frame seemed to be history; a clock that stands still is known by this.
    late_since: Option<Timestamp>,
    /// By these an uplink that never came is known.
    pub(crate) uplinks: Uplinks,
    /// How far its clock is off.
    pub(crate) drift: Drift,
    pub(crate) last: LastReadings,
    /// By these a reading is compared with those before it.
    pub(crate) quality: QualityState,
    pub(crate) detectors: Vec<DetectorState>,
    pub(crate) conditions: Conditions,
    pub(crate) masks: Vec<Mask>,
    /// By these a rise of the water is known, and rain.
    pub(crate) swell: Swell,
    /// The timer that is set for it.
    #[serde(skip)]
    pub(crate) timer: Option<Timestamp>,
}

impl DeviceState {
    pub(crate) fn new(profile: &Profile) -> DeviceState {
        let mut state = DeviceState::default();
        state.fit(profile);
        state
    }

    /// Gives every point, detector and condition of the profile its place.
    pub(crate) fn fit(&mut self, profile: &Profile) {
        self.last.resize(profile.points.len());
        self.detectors.resize(profile.detectors.len(), DetectorState::default());
    }

    /// Notes that a source heard it; whether it was another one before.
    pub(crate) fn hear(&mut self, source: &Arc<str>, at: Timestamp) -> bool {
        // Never back, when two sources overtake one another: a timer may fire early, not late.
        self.heard_at = self.heard_at.max(Some(at));
        self.gone_at = None;
        let has_moved = self.heard_on.as_ref() != Some(source);
        if has_moved {
            self.heard_on = Some(Arc::clone(source));
        }
        has_moved
    }

    /// How a frame with these readings has come before, if it has; else it is remembered.
    pub(crate) fn came_before(
        &mut self,
        arrival: &Arrival,
        readings: &[PointReading],
        window: Duration,
    ) -> Option<DuplicateReason> {
        let found = self.recent.find(arrival, window);
        let Some(repeat) = found.filter(|repeat| repeat.is_certain || self.last.knows(readings)) else {
            self.recent.remember(arrival, window);
            return None;
        };
        self.recent.came_again(&repeat, arrival);
        Some(repeat.reason)
    }

    /// Whether an observation of this device time is history. Its arrival says nothing about now, so it never raises
    /// an alarm.
    pub(crate) fn is_late(&mut self, observed_at: Timestamp, received_at: Timestamp) -> bool {
        let (last_observed, last_received) = self.last_frame;
        self.last_frame = (observed_at, received_at);
        if observed_at >= self.observed_at && received_at.since(observed_at) <= LATE_AFTER {
            self.late_since = None;
            return false;
        }
        let late_since = *self.late_since.get_or_insert(received_at);
        if last_received == Timestamp::default() {
            return true;
        }
        // Buffered frames come faster than they were taken, or out of order. Frames of a clock that is wrong, or was
        // set back, come at the pace of the clock: taking these for history would lose every alarm of the device.
        let by_ours = received_at.since(last_received);
        let by_its_own = Duration::from_millis(observed_at.0.abs_diff(last_observed.0));
        let tolerance = PACE_TOLERANCE.max(by_ours.mul_f64(PACE_SHARE));
        if observed_at >= last_observed && by_its_own.abs_diff(by_ours) <= tolerance {
            if by_ours > PACE_TOLERANCE {
                self.late_since = None;
            }
            return false;
        }
        // A clock that stands still, or begins anew at every waking, falls behind for ever. History catches up.
        let falls_behind = by_its_own <= by_ours + tolerance;
        !(falls_behind && received_at.since(late_since) > LATE_AFTER)
    }

    /// No memory may lie in the future after the clock was set back: it would hold up holds and hide frames until then.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        self.heard_at = self.heard_at.map(|heard_at| heard_at.min(now));
        self.gone_at = self.gone_at.map(|gone_at| gone_at.min(now));
        self.late_since = self.late_since.map(|late_since| late_since.min(now));
        self.observed_at = self.observed_at.min(now);
        self.placed_at = self.placed_at.min(now);
        let (observed_at, received_at) = self.last_frame;
        self.last_frame = (observed_at.min(now), received_at.min(now));
        self.budget.forget_future(now);
        self.last.forget_future(now);
        self.quality.forget_future(now);
        self.swell.forget_future(now);
        self.detectors.iter_mut().for_each(|detector| detector.forget_future(now));
    }

    /// Runs the detectors whose points came in a frame. Gives the conditions to be settled, a bit for each position.
    pub(crate) fn run_detectors(
        &mut self,
        profile: &Profile,
        scratch: &Scratch,
        heard: bool,
        at: Timestamp,
        outside: &Outside<'_>,
    ) -> u64 {
        let DeviceState { last, detectors: slots, conditions, listening_since, masks, .. } = self;
        let is_permitted = masks.iter().any(|mask| mask.kind == MaskKind::Permit && mask.from <= at && at < mask.until);
        let mut touched_conditions = 0;
        for (position, detector) in profile.detectors.iter().enumerate() {
            let (before, rest) = slots.split_at_mut(position);
            let [slot, behind @ ..] = rest else { break };
            if heard && let Rule::Battery(battery) = &detector.rule {
                note_message(slot, battery, &detector.rule, last, outside, at);
            }
            let verdict = match detector.point {
                None if let Rule::Losses(losses) = &detector.rule => {
                    let verdict = match outside.lost {
                        Some(lost) if heard => slot.count_uplink(losses, &detector.rule, lost),
                        _ => Verdict::Unknown,
                    };
                    slot.advance_surely(detector, verdict, at);
                    verdict
                }
                None if heard => {
                    slot.hear(&detector.rule, at, *listening_since);
                    follow_rise(slot, &detector.rule, scratch, last);
                    slot.advance(detector, Verdict::Fine, at);
                    Verdict::Fine
                }
                None => continue,
                Some(point) => {
                    let came = came(detector, point, scratch);
                    if !came && !detector.when.iter().any(|guard| scratch.came(guard.point)) {
                        continue;
                    }
                    let trust = Trust::of(detector, &profile.conditions[usize::from(detector.condition)]);
                    let teacher = teacher_of(profile, position).and_then(|teacher| before.get(teacher));
                    let is_class_calm = (teacher.is_some() || is_class_calm(profile, position, behind))
                        && !would_learn_what_stands(detector, slot, conditions);
                    let view = View { profile, last, outside, at, came, is_permitted, teacher, is_class_calm };
                    let (mut verdict, is_sure) = judge(slot, detector, point, &view, trust);
                    let is_excused = |condition: &u16| conditions.alarm(usize::from(*condition)).is_some();
                    if verdict == Verdict::Wrong && detector.unless.iter().any(is_excused) {
                        verdict = Verdict::Fine;
                    }
                    // A reading that is looked at again because of a guard is not another one of `count`.
                    let is_counted = match verdict {
                        Verdict::Wrong => slot.phase == Phase::Rising,
                        Verdict::Near => true,
                        _ => false,
                    };
                    if came || !is_counted {
                        match is_sure {
                            true => slot.advance_surely(detector, verdict, at),
                            false => slot.advance_on_suspicion(detector, verdict, at),
                        }
                    }
                    verdict
                }
            };
            let is_news = match verdict {
                Verdict::Wrong => true,
                Verdict::Fine | Verdict::Between | Verdict::Near | Verdict::Doubtful => {
                    conditions.alarm(usize::from(detector.condition)).is_some()
                }
                Verdict::Unknown => false,
            };
            if is_news {
                touched_conditions |= 1 << (detector.condition & 63);
            }
        }
        touched_conditions
    }

    /// When the silence detector at this position is due, counted from the last frame or from when we began to
    /// listen; at once for a device that is gone.
    pub(crate) fn silent_at(
        &self,
        position: usize,
        profile: &Profile,
        interval: Option<Duration>,
        (clock, device): (&Clock, &Device),
    ) -> Option<Timestamp> {
        let detector = &profile.detectors[position];
        if self.is_guarded_off(profile, detector) {
            return None;
        }
        let patience = self.detectors[position].patience(&detector.rule, interval)?;
        let due = self.gone_at.unwrap_or_else(|| self.heard_from().plus(patience));
        match &detector.during {
            Some(during) => clock.next_watch(during, due, clock.place(device)),
            None => Some(due),
        }
    }

    /// Whether something else that must hold does not, by the last readings, or nobody knows.
    fn is_guarded_off(&self, profile: &Profile, detector: &Detector) -> bool {
        let trust = Trust::of(detector, &profile.conditions[usize::from(detector.condition)]);
        detector.when.iter().any(|guard| passes(guard, &self.last, trust) != Some(true))
    }

    /// Whether a silence may be due before the timer that is set: what a rule learns makes it less patient,
    /// and so does what must hold besides.
    pub(crate) fn is_silent_sooner(&self, profile: &Profile, interval: Option<Duration>) -> bool {
        let changes = |detector: &Detector| match &detector.rule {
            Rule::Silence { habit, rise, .. } => habit.is_some() || rise.is_some() || !detector.when.is_empty(),
            _ => false,
        };
        let mut changing = profile.detectors.iter().zip(&self.detectors).filter(|(detector, _)| changes(detector));
        changing.any(|(detector, slot)| {
            let patience = slot.patience(&detector.rule, interval).filter(|_| !self.is_guarded_off(profile, detector));
            let due = patience.map(|patience| self.heard_from().plus(patience));
            due.zip(self.timer).is_some_and(|(due, timer)| due < timer)
        })
    }

    /// Whether an alarm stands that several points say together: what one of them says may end what is known of it.
    pub(crate) fn stands_on_several(&self, profile: &Profile) -> bool {
        let stands = |detector: &Detector| self.conditions.alarm(usize::from(detector.condition)).is_some();
        !self.conditions.is_calm()
            && profile.detectors.iter().any(|detector| detector.rule.combination().is_some() && stands(detector))
    }

    /// The later of the last frame and the moment when we began to listen.
    pub(crate) fn heard_from(&self) -> Timestamp {
        self.heard_at.unwrap_or_default().max(self.listening_since)
    }

    /// The mask that covers a moment.
    pub(crate) fn mask_at(&self, at: Timestamp, kind: MaskKind) -> Option<&Mask> {
        self.masks.iter().find(|mask| mask.kind == kind && mask.from <= at && at < mask.until)
    }
}

/// How far a detector goes by suspect readings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Alone they raise nothing.
    GoodOnly,
    /// Life is at risk: they count as good ones.
    SuspectToo,
}

impl Trust {
    fn of(detector: &Detector, condition: &Condition) -> Trust {
        let is_for_life = condition.life.unwrap_or(detector.severity == Severity::Critical);
        if is_for_life { Trust::SuspectToo } else { Trust::GoodOnly }
    }
}

/// What is outside of a device: the hour at its place, and its surroundings where a detector asks for them.
pub(crate) struct Outside<'a> {
    pub(crate) local: Option<&'a Local>,
    /// How many uplinks before this one never came, where they are numbered.
    pub(crate) lost: Option<u64>,
    /// When its battery was put in, by the inventory.
    pub(crate) battery_since: Option<Timestamp>,
    pub(crate) surroundings: Option<&'a Surroundings>,
    /// How often the device reports.
    pub(crate) interval: Option<Duration>,
}

/// Detectors that ask for what is usual of one point learn it once: the first of them for all. Gives the one before
/// this one that does, by position.
pub(crate) fn teacher_of(profile: &Profile, position: usize) -> Option<usize> {
    let detector = &profile.detectors[position];
    let Rule::Deviation(_) = &detector.rule else { return None };
    profile.detectors[..position].iter().position(|other| is_one_class(other, detector))
}

fn is_one_class(one: &Detector, other: &Detector) -> bool {
    let (Rule::Deviation(left), Rule::Deviation(right)) = (&one.rule, &other.rule) else { return false };
    let weather = |detector: &Detector| detector.around.and_then(|around| around.weather);
    one.point == other.point
        && (left.weekend, left.rhythm, left.warm_up) == (right.weekend, right.rhythm, right.warm_up)
        && left.learn_when == right.learn_when
        && weather(one) == weather(other)
}

/// Whether none of those that a detector learns for stands: a fault is not to become usual.
fn is_class_calm(profile: &Profile, position: usize, behind: &[DetectorState]) -> bool {
    let detector = &profile.detectors[position];
    let Rule::Deviation(_) = &detector.rule else { return true };
    let mut others = profile.detectors[position + 1..].iter().zip(behind);
    others.all(|(other, slot)| !is_one_class(detector, other) || Normal::learns_in(slot.phase))
}

/// Whether a detector would take the place of a thing that is moved for the one where it rests, since its memory did not
/// outlive an upgrade and its alarm did: a cover that lies open would be well. A permit, or whoever ends the case, says
/// that it may learn.
fn would_learn_what_stands(detector: &Detector, slot: &DetectorState, conditions: &Conditions) -> bool {
    let has_open_case = |alarm: &Alarm| alarm.case_id.is_some() && alarm.suppressed.is_none();
    matches!(detector.rule, Rule::Baseline(_))
        && slot.has_no_place()
        && conditions.alarm(usize::from(detector.condition)).is_some_and(has_open_case)
}

/// What a detector sees.
struct View<'a> {
    profile: &'a Profile,
    last: &'a LastReadings,
    outside: &'a Outside<'a>,
    at: Timestamp,
    /// Its point came with this frame.
    came: bool,
    /// A permit covers the time.
    is_permitted: bool,
    /// The detector that learns what is usual for this one.
    teacher: Option<&'a DetectorState>,
    /// None of those that it learns for stands.
    is_class_calm: bool,
}

/// Judges the last reading of a detector's point, good or suspect, and says whether the verdict is sure.
fn judge(slot: &mut DetectorState, detector: &Detector, point: u16, view: &View<'_>, trust: Trust) -> (Verdict, bool) {
    if let Some(combination) = detector.rule.combination() {
        return judge_together(slot, detector, combination, view, trust);
    }
    let Some((value, observed_at, is_good)) = view.last.usable(point) else { return (Verdict::Unknown, true) };
    let is_sure = is_good || trust == Trust::SuspectToo;
    let sight = Sight {
        observed_at,
        local: view.outside.local,
        is_to_learn: view.came && is_good && view.is_class_calm && may_learn(detector, view),
        is_permitted: view.is_permitted,
    };
    // A rate would be measured from the blip.
    let verdict = match &detector.rule {
        rule if view.teacher.is_some() => {
            view.teacher.map_or(Verdict::Unknown, |teacher| teacher.compare(rule, value, view.outside.local))
        }
        Rule::Rate { jump: None, .. } | Rule::Forecast(_) if !is_sure => {
            slot.clone().judge(&detector.rule, value, &sight)
        }
        rule @ Rule::Load(load) => slot.judge_load((rule, load), value, setting_of(load, view.last), &sight),
        rule => slot.judge(rule, value, &sight),
    };
    slot.note_beyond(verdict);
    // That the tests of a point suspect its jumps is no reason not to count them.
    let is_good = is_good || matches!(detector.rule, Rule::Spike(_));
    qualify(detector, (verdict, is_good), view, trust)
}

/// Judges what the last readings of several points say together.
fn judge_together(
    slot: &mut DetectorState,
    detector: &Detector,
    combination: &Combination,
    view: &View<'_>,
    trust: Trust,
) -> (Verdict, bool) {
    let together = Together::new((view.profile, view.outside.interval), view.last, combination, view.at);
    let judged = together.judge(combination);
    slot.note_beyond(judged.0);
    qualify(detector, judged, view, trust)
}

/// What a lamp is told to do, by the last good values.
fn setting_of(load: &Load, last: &LastReadings) -> Option<Setting> {
    Setting::of(load, |point| Some(last.good(point)?.0))
}

/// What a verdict counts for: the time of day, the surroundings and the guards of the detector may speak against it.
fn qualify(detector: &Detector, (verdict, is_good): (Verdict, bool), view: &View<'_>, trust: Trust) -> (Verdict, bool) {
    let is_watching = match (&detector.during, view.outside.local) {
        (Some(during), Some(local)) => local.is_within(during),
        (Some(_), None) => false,
        (None, _) => true,
    };
    if !is_watching && verdict != Verdict::Unknown {
        return (Verdict::Fine, is_good);
    }
    if verdict != Verdict::Wrong {
        // A suspect reading may say that something is wrong, and never that all is well.
        return (verdict, is_good);
    }
    // What stands is not over because it begins to rain.
    let is_there = |around| view.outside.surroundings.is_some_and(|surroundings| surroundings.are(around));
    if !detector.around.as_ref().is_none_or(is_there) {
        return (Verdict::Between, is_good);
    }
    let mut guarded = Verdict::Wrong;
    for guard in &detector.when {
        match passes(guard, view.last, trust) {
            Some(true) => {}
            // What stands is not over because something is switched.
            Some(false) if guard.test == GuardTest::Unchanged => return (Verdict::Between, is_good),
            Some(false) => return (Verdict::Fine, is_good),
            None => guarded = Verdict::Unknown,
        }
    }
    (guarded, is_good || trust == Trust::SuspectToo)
}

/// Whether a reading came that a detector looks at.
fn came(detector: &Detector, point: u16, scratch: &Scratch) -> bool {
    match detector.rule.combination() {
        Some(combination) => combination.points.iter().any(|point| scratch.came(*point)),
        None => scratch.came(point),
    }
}

/// Whether all holds that must for a rule to learn from a reading.
fn may_learn(detector: &Detector, view: &View<'_>) -> bool {
    let lets_learn = |around| view.outside.surroundings.is_some_and(|surroundings| surroundings.let_learn(around));
    if !detector.around.as_ref().is_none_or(lets_learn) {
        return false;
    }
    let guards = match &detector.rule {
        Rule::Deviation(deviation) => &deviation.learn_when,
        Rule::Trend(trend) => &trend.learn_when,
        Rule::Shift(shift) => &shift.learn_when,
        Rule::Unusual(unusual) => &unusual.learn_when,
        _ => return true,
    };
    guards.iter().all(|guard| passes(guard, view.last, Trust::GoodOnly) == Some(true))
}

/// Tells a battery of a message that took some of it.
fn note_message(
    slot: &mut DetectorState,
    battery: &Battery,
    rule: &Rule,
    last: &LastReadings,
    outside: &Outside<'_>,
    at: Timestamp,
) {
    let Some(local) = outside.local else { return };
    let temperature = battery.temperature.and_then(|warmth| last.good(warmth.point));
    slot.note_message(
        battery,
        rule,
        Sent {
            at,
            day: local.moment.day,
            lost: outside.lost.unwrap_or_default(),
            battery_since: outside.battery_since,
            temperature: temperature.and_then(|(value, _)| value.as_number()),
        },
    );
}

/// Shows a detector of silence the point whose rise makes silence count, when a good reading of it came.
fn follow_rise(slot: &mut DetectorState, rule: &Rule, scratch: &Scratch, last: &LastReadings) {
    let Rule::Silence { rise: Some(rise), .. } = rule else { return };
    if scratch.came(rise.point)
        && let Some((value, observed_at)) = last.good(rise.point)
        && let Some(number) = value.as_number()
    {
        slot.follow(rule, rise, number, observed_at);
    }
}

/// Whether a guard's last reading passes its test; nobody knows when it is not good, and then nothing is cleared.
fn passes(guard: &Guard, last: &LastReadings, trust: Trust) -> Option<bool> {
    if guard.test == GuardTest::Unchanged {
        return Some(!last.has_changed(guard.point));
    }
    if guard.test == GuardTest::Unknown {
        return Some(last.usable(guard.point).is_none());
    }
    if guard.test == GuardTest::Lost {
        let had_one = last.get(usize::from(guard.point)).is_some_and(|last| last.good_at != Timestamp::default());
        return Some(had_one && last.usable(guard.point).is_none());
    }
    let (value, _, is_good) = last.usable(guard.point)?;
    if !is_good && trust == Trust::GoodOnly {
        return None;
    }
    Some(match &guard.test {
        GuardTest::Equals(wanted) => value == wanted,
        GuardTest::Above(limit) => value.as_number().is_some_and(|number| number >= *limit),
        GuardTest::Below(limit) => value.as_number().is_some_and(|number| number <= *limit),
        GuardTest::Lost | GuardTest::Unchanged | GuardTest::Unknown => false,
    })
}

/// After how long without good data nobody knows any more.
pub(crate) fn stale_after(interval: Option<Duration>) -> Duration {
    interval.map_or(STALE_AFTER_DEFAULT, |interval| interval.mul_f64(STALE_INTERVALS))
}
