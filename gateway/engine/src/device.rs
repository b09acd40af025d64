//! What the engine remembers of one device.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::{Detector, Guard, GuardTest, Profile, Rule};
use kerbside_model::{DuplicateReason, MaskKind, PointReading, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alarms::Conditions;
use crate::budget::Budget;
use crate::decode::Scratch;
use crate::detect::{DetectorState, Phase, Verdict};
use crate::drift::Drift;
use crate::duplicates::{Arrival, LATE_AFTER, Recent};
use crate::last::LastReadings;
use crate::uplinks::Uplinks;

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
    pub(crate) detectors: Vec<DetectorState>,
    pub(crate) conditions: Conditions,
    pub(crate) masks: Vec<Mask>,
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
        for detector in &mut self.detectors {
            detector.since = detector.since.min(now);
        }
    }

    /// Runs the detectors whose points came in a frame. Gives the conditions to be settled, a bit for each position.
    pub(crate) fn run_detectors(
        &mut self,
        detectors: &[Detector],
        scratch: &Scratch,
        heard: bool,
        at: Timestamp,
    ) -> u64 {
        let DeviceState { last, detectors: slots, conditions, .. } = self;
        let mut touched_conditions = 0;
        for (slot, detector) in slots.iter_mut().zip(detectors) {
            let verdict = match detector.point {
                None if heard => {
                    slot.advance(detector, Verdict::Fine, at);
                    Verdict::Fine
                }
                None => continue,
                Some(point) => {
                    let came = scratch.came(point);
                    if !came && !detector.when.iter().any(|guard| scratch.came(guard.point)) {
                        continue;
                    }
                    let verdict = judge(slot, detector, point, last);
                    // A reading that is looked at again because of a guard is not another one of `count`.
                    let is_counted = slot.phase == Phase::Rising && verdict == Verdict::Wrong;
                    if came || !is_counted {
                        slot.advance(detector, verdict, at);
                    }
                    verdict
                }
            };
            let is_news = match verdict {
                Verdict::Wrong => true,
                Verdict::Fine | Verdict::Between => conditions.alarm(usize::from(detector.condition)).is_some(),
                Verdict::Unknown => false,
            };
            if is_news {
                touched_conditions |= 1 << (detector.condition & 63);
            }
        }
        touched_conditions
    }

    /// When the silence detector is due, counted from the last frame or from when we began to listen; at once for a device
    /// that is gone.
    pub(crate) fn silent_at(&self, rule: &Rule, interval: Option<Duration>) -> Option<Timestamp> {
        let Rule::Silence { after, missed } = rule else { return None };
        if self.gone_at.is_some() {
            return self.gone_at;
        }
        let span = after.or_else(|| interval.map(|interval| interval.mul_f64(*missed)))?;
        Some(self.heard_from().plus(span))
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

/// Judges the last good reading of a detector's point.
fn judge(slot: &mut DetectorState, detector: &Detector, point: u16, last: &LastReadings) -> Verdict {
    let Some((value, observed_at)) = last.good(point) else { return Verdict::Unknown };
    let verdict = slot.judge(&detector.rule, value, observed_at);
    if verdict != Verdict::Wrong {
        return verdict;
    }
    let mut guarded = Verdict::Wrong;
    for guard in &detector.when {
        match passes(guard, last) {
            Some(true) => {}
            Some(false) => return Verdict::Fine,
            None => guarded = Verdict::Unknown,
        }
    }
    guarded
}

/// Whether a guard's last reading passes its test; nobody knows when it is not good, and then nothing is cleared.
fn passes(guard: &Guard, last: &LastReadings) -> Option<bool> {
    let (value, _) = last.good(guard.point)?;
    Some(match &guard.test {
        GuardTest::Equals(wanted) => value == wanted,
        GuardTest::Above(limit) => value.as_number().is_some_and(|number| number >= *limit),
        GuardTest::Below(limit) => value.as_number().is_some_and(|number| number <= *limit),
    })
}

/// After how long without good data nobody knows any more.
pub(crate) fn stale_after(interval: Option<Duration>) -> Duration {
    interval.map_or(STALE_AFTER_DEFAULT, |interval| interval.mul_f64(STALE_INTERVALS))
}
