//! What the engine remembers of one device.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::{Detector, Guard, GuardTest, Profile, Rule};
use kerbside_model::{Flag, MaskKind, PointReading, Quality, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::alarms::ConditionState;
use crate::detect::{DetectorState, Verdict};

/// A frame this much older than its arrival is history, unless the device's clock is simply wrong.
const LATE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Two frames of a device whose clock is wrong are as far apart by its clock as by ours, give or take this ...
const PACE_TOLERANCE: Duration = Duration::from_secs(5);
/// ... or this share of the distance.
const PACE_SHARE: f64 = 0.2;
/// Without a known interval a device's data counts as stale after this.
const STALE_AFTER_DEFAULT: Duration = Duration::from_secs(3_600);
/// Data is stale after so many reporting intervals.
const STALE_INTERVALS: f64 = 3.0;

/// The last reading of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastReading {
    pub(crate) value: Option<Value>,
    pub(crate) quality: Quality,
    pub(crate) observed_at: Timestamp,
    pub(crate) received_at: Timestamp,
    /// When the last good one was received; 0 for never.
    pub(crate) good_at: Timestamp,
}

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
    /// Silence is not counted from before this: the gateway was not running, or its source was down.
    pub(crate) listening_since: Timestamp,
    /// The newest observation.
    pub(crate) observed_at: Timestamp,
    /// Where the last frame without a time of its own was placed.
    pub(crate) placed_at: Timestamp,
    /// Times and payload hash of the last frame, live or not: by these the pace of the device's clock is judged and
    /// a frame that comes twice is known.
    last_frame: (Timestamp, Timestamp, u64),
    /// Since when every frame seemed to be history; a clock that stands still is known by this.
    late_since: Option<Timestamp>,
    pub(crate) last: Vec<Option<LastReading>>,
    pub(crate) detectors: Vec<DetectorState>,
    pub(crate) conditions: Vec<ConditionState>,
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
        self.last.resize(profile.points.len(), None);
        self.detectors.resize(profile.detectors.len(), DetectorState::default());
        self.conditions.resize_with(profile.conditions.len(), ConditionState::default);
    }

    /// Whether an observation of this device time is history, or the same frame again. Its arrival says nothing about
    /// now, so it never raises an alarm.
    pub(crate) fn is_late(&mut self, observed_at: Timestamp, received_at: Timestamp, payload_hash: u64) -> bool {
        let (last_observed, last_received, last_hash) = self.last_frame;
        self.last_frame = (observed_at, received_at, payload_hash);
        if observed_at == last_observed && payload_hash == last_hash {
            return true;
        }
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
        self.late_since = self.late_since.map(|late_since| late_since.min(now));
        self.observed_at = self.observed_at.min(now);
        self.placed_at = self.placed_at.min(now);
        let (observed_at, received_at, hash) = self.last_frame;
        self.last_frame = (observed_at.min(now), received_at.min(now), hash);
        for last in self.last.iter_mut().flatten() {
            last.good_at = last.good_at.min(now);
            last.received_at = last.received_at.min(now);
        }
        for detector in &mut self.detectors {
            detector.since = detector.since.min(now);
        }
    }

    /// Takes a live reading as the last one of its point.
    pub(crate) fn keep(&mut self, reading: &PointReading, observed_at: Timestamp, received_at: Timestamp) {
        let slot = &mut self.last[usize::from(reading.point)];
        let earlier = slot.as_ref().map_or(Timestamp::default(), |last| last.good_at);
        let good_at = if reading.quality.is_good() { received_at.max(earlier) } else { earlier };
        *slot = Some(LastReading {
            value: reading.value.clone(),
            quality: reading.quality,
            observed_at,
            received_at,
            good_at,
        });
    }

    /// Judges the last good reading of the detector's point.
    pub(crate) fn judge(&mut self, position: usize, detector: &Detector) -> Verdict {
        let Some(point) = detector.point else { return Verdict::Unknown };
        let Some(last) = &self.last[usize::from(point)] else { return Verdict::Unknown };
        let Some(value) = last.value.as_ref().filter(|_| last.quality.is_good()) else { return Verdict::Unknown };
        let verdict = self.detectors[position].judge(&detector.rule, value, last.observed_at);
        if verdict != Verdict::Wrong {
            return verdict;
        }
        let mut guarded = Verdict::Wrong;
        for guard in &detector.when {
            match self.passes(guard) {
                Some(true) => {}
                Some(false) => return Verdict::Fine,
                None => guarded = Verdict::Unknown,
            }
        }
        guarded
    }

    /// Whether a guard's last reading passes its test; nobody knows when it is not good, and then nothing is cleared.
    fn passes(&self, guard: &Guard) -> Option<bool> {
        let last = self.last[usize::from(guard.point)].as_ref()?;
        let value = last.value.as_ref().filter(|_| last.quality.is_good())?;
        Some(match &guard.test {
            GuardTest::Equals(wanted) => value == wanted,
            GuardTest::Above(limit) => value.as_number().is_some_and(|number| number >= *limit),
            GuardTest::Below(limit) => value.as_number().is_some_and(|number| number <= *limit),
        })
    }

    /// When the silence detector is due, counted from the last frame or from when we began to listen.
    pub(crate) fn silent_at(&self, rule: &Rule, interval: Option<Duration>) -> Option<Timestamp> {
        let Rule::Silence { after, missed } = rule else { return None };
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

/// After how long without good data nobody knows any more.
pub(crate) fn stale_after(interval: Option<Duration>) -> Duration {
    interval.map_or(STALE_AFTER_DEFAULT, |interval| interval.mul_f64(STALE_INTERVALS))
}

impl LastReading {
    /// The quality to show at a moment: a good reading that is too old is suspect.
    pub(crate) fn quality_at(&self, now: Timestamp, interval: Option<Duration>) -> Quality {
        if self.quality.is_good() && now.since(self.received_at) > stale_after(interval) {
            return Quality { flag: Flag::Suspect, cause: kerbside_model::Cause::Stale };
        }
        self.quality
    }
}
