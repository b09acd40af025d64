//! How many frames a device may send before its telemetry is thinned: a token bucket for each device.
//!
//! Turns frames into a yes or no, by their own times or those of their arrival, so that a replay thins the same frames. Detectors see
//! every frame: a sensor that babbles must not hide its own alarm, nor fill the database and the link for the others.
//! The bucket is part of the device's state and of the snapshot.

use std::time::Duration;

use kerbside_model::profile::Profile;
use kerbside_model::site::FrameLimits;
use kerbside_model::{Timestamp, vocabulary};
use serde::{Deserialize, Serialize};

/// A device is calm again when nothing of it was thinned for so long.
const CALM_AFTER: Duration = Duration::from_secs(60);

/// The limits of a site in the bucket's own measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Microseconds that one frame costs.
    frame_us: i64,
    /// What a full bucket holds, in microseconds.
    bucket_us: i64,
}

/// The bucket of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// When the bucket will be full, in microseconds since 1970: one number holds level and time.
    full_at_us: i64,
    /// When the last frame was thinned; 0 for never.
    thinned_at: Timestamp,
}

impl Pace {
    /// The pace that a site allows; `None` when it sets no limit.
    pub(crate) fn of(limits: &FrameLimits) -> Option<Pace> {
        let frames = i64::from(limits.device_frames_per_second);
        let frame_us = 1_000_000_i64.checked_div(frames)?;
        Some(Pace { frame_us, bucket_us: frame_us * i64::from(limits.device_burst.max(1)) })
    }
}

impl Budget {
    /// Pays for a frame; `false` when there is nothing left and its telemetry is to be thinned. `moment` is when the
    /// frame was taken as far as it tells, else its arrival: what was gathered while a link was down comes at once, and
    /// was not sent too often. `before` is when the device was last heard: a frame that comes a while after it is not
    /// sent too often either, although its clock stands still.
    pub(crate) fn pay(&mut self, pace: &Pace, moment: Timestamp, at: Timestamp, before: Option<Timestamp>) -> bool {
        let now_us = moment.0.saturating_mul(1_000);
        let missing = self.full_at_us.saturating_sub(now_us);
        // Never empty for longer than it takes to fill: a clock was set back, history came, or the limits were changed.
        let missing = if missing > pace.bucket_us { 0 } else { missing.max(0) };
        if missing + pace.frame_us > pace.bucket_us {
            let pause = before.map_or(Duration::MAX, |before| at.since(before));
            if pause.as_micros() >= u128::from(pace.frame_us.unsigned_abs()) {
                return true;
            }
            self.thinned_at = at;
            return false;
        }
        self.full_at_us = now_us.saturating_add(missing + pace.frame_us);
        true
    }

    /// From when on the device counts as calm, unless it goes on.
    pub(crate) fn calm_at(&self, listening_since: Timestamp) -> Timestamp {
        self.thinned_at.max(listening_since).plus(CALM_AFTER)
    }

    /// No memory may lie in the future after the clock was set back.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        self.thinned_at = self.thinned_at.min(now);
    }
}

/// Where the condition of a device that sends too often stands in its profile.
pub(crate) fn babbling_condition(profile: &Profile) -> Option<usize> {
    profile.conditions.iter().position(|condition| condition.name.as_ref() == vocabulary::BABBLING)
}

/// Why telemetry of a device is thinned, in English and Chinese.
pub(crate) fn explanation(limits: &FrameLimits) -> (String, String) {
    let FrameLimits { device_frames_per_second: frames, device_burst: burst, .. } = limits;
    (
        format!(
            "more than {frames} frames a second, and {burst} more at once: \
             telemetry is thinned, detection sees every frame"
        ),
        format!("每秒超过 {frames} 条报文，且突发 {burst} 条额度已用尽：遥测数据被抽稀，告警检测不受影响"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(frames: u32, burst: u32) -> FrameLimits {
        FrameLimits { device_frames_per_second: frames, device_burst: burst, ..FrameLimits::default() }
    }

    fn ms(milliseconds: i64) -> Timestamp {
        Timestamp(1_800_000_000_000 + milliseconds)
    }

    fn paid(budget: &mut Budget, pace: &Pace, at: Timestamp, frames: usize) -> usize {
        (0..frames).filter(|_| budget.pay(pace, at, at, Some(at))).count()
    }

    #[test]
    fn a_burst_passes_and_then_only_the_sustained_rate() {
        let pace = Pace::of(&limits(20, 200)).unwrap();
        let mut budget = Budget::default();
        assert_eq!(paid(&mut budget, &pace, ms(0), 1_000), 200);
        assert_eq!(paid(&mut budget, &pace, ms(49), 10), 0);
        assert_eq!(paid(&mut budget, &pace, ms(50), 10), 1);
        assert_eq!(paid(&mut budget, &pace, ms(1_050), 100), 20);
        assert_eq!(paid(&mut budget, &pace, ms(60_000), 1_000), 200);
    }

    #[test]
    fn no_limit_is_no_pace() {
        assert_eq!(Pace::of(&limits(0, 200)), None);
    }

    #[test]
    fn a_clock_that_was_set_back_takes_nothing_from_the_budget() {
        let pace = Pace::of(&limits(20, 200)).unwrap();
        let mut budget = Budget::default();
        paid(&mut budget, &pace, ms(86_400_000), 1_000);
        assert_eq!(paid(&mut budget, &pace, ms(0), 1_000), 200);
    }

    #[test]
    fn what_was_gathered_while_a_link_was_down_is_not_too_often() {
        let pace = Pace::of(&limits(20, 5)).unwrap();
        let mut budget = Budget::default();
        for second in 0..3_600 {
            assert!(budget.pay(&pace, ms(second * 1_000), ms(3_600_000), Some(ms(3_600_000))));
        }
    }

    #[test]
    fn a_device_is_calm_a_minute_after_its_last_thinned_frame() {
        let pace = Pace::of(&limits(1, 1)).unwrap();
        let mut budget = Budget::default();
        paid(&mut budget, &pace, ms(0), 2);
        assert_eq!(budget.calm_at(ms(-1_000_000)), ms(60_000));
        budget.forget_future(ms(-5_000));
        assert_eq!(budget.calm_at(ms(-1_000_000)), ms(55_000));
        assert_eq!(budget.calm_at(ms(7)), ms(60_007));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_burst_and_rate_allow_and_a_device_within_them_loses_nothing(
            pauses in prop::collection::vec(0_i64..400, 1..300),
        ) {
            let pace = Pace::of(&limits(20, 5)).unwrap();
            let mut budget = Budget::default();
            let (mut now, mut passed) = (0, 0);
            for pause in &pauses {
                now += pause;
                passed += i64::from(budget.pay(&pace, ms(now), ms(now), Some(ms(now))));
            }
            prop_assert!(passed <= 5 + now / 50);
            let mut slow = Budget::default();
            let mut now = 0;
            for pause in pauses {
                now += 50 + pause;
                prop_assert!(slow.pay(&pace, ms(now), ms(now), Some(ms(now))));
            }
        }
    }
}
