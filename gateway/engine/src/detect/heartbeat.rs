//! The habit of a device: how often it reports, and how many of its reports are lost. From both follows after how many
//! missed reports its silence is news.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::Habit;
use serde::{Deserialize, Serialize};

/// The habit is believed after so many reports; until then the interval of the profile counts.
const REPORTS_MIN: u16 = 6;
/// Few reports say little of a line: it counts for as bad as if so many more had been due, and half of them lost. Of
/// 2,000 simulated devices that lose 1 to 20 %, one in fifty was called silent in its first day without this.
const REPORTS_UNSEEN: f64 = 3.0;
/// The share of lost reports is never known better than from so many: older ones are forgotten.
const REPORTS_KNOWN_MAX: u16 = 100;
/// How fast it follows in the long run: about the last fifty reports count.
const LEARNING_RATE_MIN: f32 = 0.02;
/// One report moves the logarithm of the period by no more than this share of the rate.
const STEP_MAX: f32 = 0.5;
/// A report that comes before this share of the period is an extra one: an alarm, or a radio that repeats itself.
const EXTRA_SHARE: f64 = 0.25;
/// So many extra ones running, for so many periods, are a new period: a contact that flutters for an hour is none.
const EXTRAS_MAX: u8 = 20;
const EXTRA_PERIODS: f64 = 3.0;
/// More missed in a row than this are no loss on the radio.
const MISSED_MAX: f64 = 10.0;
/// A line that loses fewer reports than this is not known well enough to say so.
const LOSS_MIN: f64 = 0.01;
/// With more losses than this the period itself is wrong.
const LOSS_MAX: f32 = 0.6;
/// Silence is told after so many missed reports at least (one may always be lost) and at most.
const REPORTS_MISSED: (f64, f64) = (2.0, 20.0);
/// A report is missed when it is this share of its period late.
const LATE_SHARE: f64 = 0.25;
const DAY_SECONDS: f64 = 86_400.0;

/// What is learnt of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    last_at: Timestamp,
    /// Natural logarithm of the period in seconds.
    log_period: f32,
    /// Share of the reports that never came.
    lost: f32,
    reports: u16,
    extras: u8,
    /// Since when only extra ones come.
    extras_since: Timestamp,
}

impl Heartbeat {
    /// Takes a report. What lies before `listening_since` says nothing of the time until now.
    pub(super) fn take(&mut self, at: Timestamp, listening_since: Timestamp) {
        let last_at = std::mem::replace(&mut self.last_at, at);
        if last_at == Timestamp::default() || last_at < listening_since || at <= last_at {
            return;
        }
        let gap_seconds = at.since(last_at).as_secs_f64();
        if self.reports == 0 {
            return self.begin(gap_seconds);
        }
        let periods = gap_seconds / self.period_seconds();
        if periods < EXTRA_SHARE {
            if self.extras == 0 {
                self.extras_since = at;
            }
            self.extras = self.extras.saturating_add(1);
            let lasted = at.since(self.extras_since).as_secs_f64() / self.period_seconds();
            if self.extras >= EXTRAS_MAX && lasted >= EXTRA_PERIODS {
                self.begin(gap_seconds);
            }
            return;
        }
        self.extras = 0;
        let due = periods.round().clamp(1.0, MISSED_MAX) as f32;
        self.reports = self.reports.saturating_add(1);
        let rate = (1.0 / f32::from(self.reports)).max(LEARNING_RATE_MIN);
        if due <= 1.0 {
            self.log_period += rate * (periods.ln() as f32).clamp(-STEP_MAX, STEP_MAX);
        }
        self.lost += rate * ((due - 1.0) / due - self.lost);
        if self.lost > LOSS_MAX && self.reports >= REPORTS_MIN {
            self.begin(gap_seconds);
        }
    }

    fn begin(&mut self, gap_seconds: f64) {
        *self = Heartbeat {
            last_at: self.last_at,
            log_period: gap_seconds.max(1.0).ln() as f32,
            lost: 0.0,
            reports: 1,
            extras: 0,
            extras_since: Timestamp::default(),
        };
    }

    fn period_seconds(&self) -> f64 {
        f64::from(self.log_period).exp()
    }

    /// How often it reports, once that is known.
    pub(crate) fn period(&self) -> Option<Duration> {
        (self.reports >= REPORTS_MIN).then(|| Duration::from_secs_f64(self.period_seconds().round()))
    }

    /// How many missed reports are no chance: losing so many running happens less often than alarms may be false.
    pub(crate) fn missed(&self, habit: &Habit) -> f64 {
        let periods_a_day = DAY_SECONDS / self.period_seconds();
        let wanted = habit.false_per_1000_days / 1_000.0 / periods_a_day;
        let known = f64::from(self.reports.min(REPORTS_KNOWN_MAX));
        let lost = (f64::from(self.lost) * known + REPORTS_UNSEEN / 2.0) / (known + REPORTS_UNSEEN);
        let lost = lost.max(LOSS_MIN);
        (wanted.ln() / lost.ln()).ceil().clamp(REPORTS_MISSED.0, REPORTS_MISSED.1)
    }

    /// After how long without a report the device is silent, once its habit is known.
    pub(super) fn patience(&self, habit: &Habit) -> Option<Duration> {
        let period = self.period()?;
        let patience = period.mul_f64(self.missed(habit) + LATE_SHARE);
        let patience = habit.at_least.map_or(patience, |at_least| patience.max(at_least));
        Some(habit.at_most.map_or(patience, |at_most| patience.min(at_most)))
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.last_at = self.last_at.min(now);
        self.extras_since = self.extras_since.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HABIT: Habit = Habit { false_per_1000_days: 1.0, at_most: None, at_least: None };

    fn after(gaps: impl Iterator<Item = i64>) -> Heartbeat {
        let mut heartbeat = Heartbeat::default();
        let mut at = Timestamp(1_800_000_000_000);
        heartbeat.take(at, at);
        for gap in gaps {
            at = Timestamp(at.0 + gap * 1_000);
            heartbeat.take(at, Timestamp(1));
        }
        heartbeat
    }

    #[test]
    fn a_device_that_never_loses_a_report_is_silent_after_few_of_them() {
        let heartbeat = after(std::iter::repeat_n(600, 120));
        assert_eq!(heartbeat.period(), Some(Duration::from_secs(600)));
        assert!(heartbeat.missed(&HABIT) <= 3.0, "{heartbeat:?}");
        // At first nobody knows how good its line is.
        assert!(after(std::iter::repeat_n(600, 10)).missed(&HABIT) > 4.0);
        assert!(after(std::iter::repeat_n(600, 5)).patience(&HABIT).is_none());
    }

    #[test]
    fn a_bad_line_is_waited_for_longer() {
        // Every fifth report is lost.
        let heartbeat = after((0..200).map(|number| if number % 4 == 0 { 1_200 } else { 600 }));
        assert!(heartbeat.period().unwrap().abs_diff(Duration::from_secs(600)) < Duration::from_secs(10));
        assert!((6.0..=10.0).contains(&heartbeat.missed(&HABIT)), "{heartbeat:?} {}", heartbeat.missed(&HABIT));
    }

    #[test]
    fn a_new_period_is_learnt_in_both_directions() {
        let slower = after(std::iter::repeat_n(600, 60).chain(std::iter::repeat_n(3_600, 200)));
        let faster = after(std::iter::repeat_n(3_600, 60).chain(std::iter::repeat_n(300, 100)));
        assert_eq!(slower.period(), Some(Duration::from_secs(3_600)));
        assert_eq!(faster.period(), Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_spell_of_extra_reports_is_no_new_period() {
        let heartbeat = after(std::iter::repeat_n(3_600, 60).chain(std::iter::repeat_n(20, 150)).chain([3_600]));
        assert_eq!(heartbeat.period(), Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn reports_in_between_and_times_without_listening_are_no_habit() {
        let heartbeat = after((0..100).map(|number| if number % 10 == 0 { 5 } else { 600 }));
        assert_eq!(heartbeat.period(), Some(Duration::from_secs(600)));
        let mut deaf = after(std::iter::repeat_n(600, 40));
        let known = deaf;
        let back = Timestamp(deaf.last_at.0 + 86_400_000);
        deaf.take(back, Timestamp(back.0 - 1_000));
        assert_eq!((deaf.period(), deaf.lost), (known.period(), known.lost));
    }
}
