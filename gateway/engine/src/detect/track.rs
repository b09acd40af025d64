//! The last readings of a point, spread over a window: where it is going, and whether it was rising.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::{FORECAST_READINGS_MAX, Forecast, Rise, Side};
use serde::{Deserialize, Serialize};

use super::{Verdict, jump_limit, milliseconds};

/// A forecast is over when the limit is so many times as far away as it may be.
const CLEAR_FACTOR: f64 = 2.0;
/// ... or when the window has seen no more than this share of the least movement.
const CALM_SHARE: f64 = 0.5;

/// Readings of a window, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Track(Vec<(Timestamp, f32)>);

/// Where a number is going.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Course {
    /// Change in a second.
    pub(crate) per_second: f64,
    /// Until the limit is reached, when it comes nearer.
    pub(crate) left: Option<Duration>,
}

impl Track {
    /// Takes the next reading. Of readings that come closer than the window has room for the last one stays.
    fn take(&mut self, number: f64, at: Timestamp, window: Duration) {
        if self.0.last().is_some_and(|(last, _)| *last > at) {
            self.0.clear();
        }
        let window_ms = milliseconds(window);
        self.0.retain(|(taken, _)| at.0.saturating_sub(taken.0) <= window_ms);
        let spacing_ms = window_ms / (FORECAST_READINGS_MAX as i64 - 1);
        // What stands between the one before and this one would be crowded out.
        if let [.., (before, _), last] = self.0.as_mut_slice()
            && at.0.saturating_sub(before.0) < spacing_ms
        {
            *last = (at, number as f32);
            return;
        }
        if self.0.last().is_some_and(|(last, _)| *last == at) {
            self.0.pop();
        }
        if self.0.len() == FORECAST_READINGS_MAX {
            self.0.remove(0);
        }
        self.0.push((at, number as f32));
    }

    /// Takes the next reading and says whether the limit is near.
    pub(super) fn judge(&mut self, rule: &Forecast, number: f64, at: Timestamp) -> Verdict {
        let is_new = self.0.last().is_none_or(|(last, _)| *last != at);
        if let (Some(jump), Some((last_at, last))) = (&rule.jump, self.0.last())
            && (number - f64::from(*last)).abs() > jump_limit(jump, at.0.saturating_sub(last_at.0))
        {
            self.0.clear();
        }
        if is_new {
            self.take(number, at, rule.window);
        }
        let towards = if rule.side == Side::Below { -1.0 } else { 1.0 };
        if (number - rule.reaches) * towards >= 0.0 {
            // What was foretold has come; what was not is for a threshold to find.
            return Verdict::Between;
        }
        if self.0.len() < usize::from(rule.readings) {
            return Verdict::Unknown;
        }
        let moved = self.0.first().map_or(0.0, |(_, first)| (number - f64::from(*first)) * towards);
        if moved < rule.least * CALM_SHARE {
            // Nearly every reading: what stands still needs no slope.
            return Verdict::Fine;
        }
        match self.course(rule, number).left {
            Some(left) if left <= rule.within && moved >= rule.least => Verdict::Wrong,
            Some(left) if left <= rule.within.mul_f64(CLEAR_FACTOR) => Verdict::Between,
            _ => Verdict::Fine,
        }
    }

    /// The middle one of the slopes between all pairs of readings (Theil and Sen): a splash among them changes nothing.
    pub(crate) fn course(&self, rule: &Forecast, number: f64) -> Course {
        let mut slopes = Vec::with_capacity(FORECAST_READINGS_MAX * (FORECAST_READINGS_MAX - 1) / 2);
        for (position, (at, value)) in self.0.iter().enumerate() {
            for (later, other) in &self.0[position + 1..] {
                let seconds = later.0.saturating_sub(at.0) as f64 / 1e3;
                if seconds > 0.0 {
                    slopes.push(f64::from(other - value) / seconds);
                }
            }
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let upper = slopes.get(slopes.len() / 2).copied().unwrap_or_default();
        let lower = slopes.get(slopes.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        let per_second = f64::midpoint(lower, upper);
        let seconds = (rule.reaches - number) / per_second;
        let left = (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
        Course { per_second, left }
    }

    /// Takes the next reading of a point whose rise makes silence count.
    pub(super) fn follow(&mut self, rise: &Rise, number: f64, at: Timestamp) {
        self.take(number, at, rise.within);
    }

    /// How much the last reading is above the least of the time before it.
    pub(crate) fn risen(&self) -> f64 {
        let least = self.0.iter().map(|(_, value)| *value).min_by(f32::total_cmp);
        match (self.0.last(), least) {
            (Some((_, last)), Some(least)) => f64::from(last - least),
            _ => 0.0,
        }
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.0.retain(|(at, _)| *at <= now);
    }
}
