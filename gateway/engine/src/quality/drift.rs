//! Drift: whether the lowest value of the day moves away from where it was, week by week. A zero that creeps, silt on
//! the probe, a cable that stretches. A sewer that silts up does the same, so no reading is flagged for it.

use kerbside_model::Timestamp;
use kerbside_model::profile::Drift;
use serde::{Deserialize, Serialize};

/// Days that are looked at.
const DAYS: usize = 14;
/// With fewer days nothing is said: a wet week is no drift.
const DAYS_LEAST: usize = 7;
const DAY_MS: i64 = 86_400_000;

/// The lowest values of the last days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DailyLows {
    /// Today, counted from 1970, and its lowest value so far.
    today: Option<(i32, f32)>,
    lows: Vec<(i32, f32)>,
    /// What the days that are over say.
    is_drifting: bool,
}

impl DailyLows {
    /// Takes the next good value; whether the point drifts.
    pub(super) fn take(&mut self, value: f64, at: Timestamp, test: &Drift) -> bool {
        let day = i32::try_from(at.0.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
        // A drift is many times as large as what a single-precision number leaves out.
        let value = value as f32;
        match &mut self.today {
            Some((today, low)) if *today == day => *low = low.min(value),
            Some((today, _)) if *today > day => {}
            known => {
                if let Some(over) = known.replace((day, value)) {
                    self.lows.push(over);
                    self.lows.retain(|(past, _)| day.saturating_sub(*past) <= DAYS as i32);
                    self.is_drifting = self.drifts(test);
                }
            }
        }
        self.is_drifting
    }

    /// The middle one of the slopes between all pairs of days (Theil and Sen), so that a few wet days change nothing.
    fn drifts(&self, test: &Drift) -> bool {
        if self.lows.len() < DAYS_LEAST {
            return false;
        }
        let mut slopes: Vec<f32> = Vec::with_capacity(DAYS * (DAYS - 1) / 2);
        for (position, (day, low)) in self.lows.iter().enumerate() {
            for (later, high) in &self.lows[position + 1..] {
                slopes.push((high - low) / (later - day) as f32);
            }
        }
        slopes.sort_unstable_by(f32::total_cmp);
        let slope = f64::from(slopes[slopes.len() / 2]);
        let days = self.lows.last().map_or(0, |(last, _)| last - self.lows[0].0);
        (slope * 7.0).abs() > test.per_week && (slope * f64::from(days)).abs() > test.total
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        let day = i32::try_from(now.0.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
        self.today.take_if(|(today, _)| *today > day);
        self.lows.retain(|(past, _)| *past <= day);
    }
}
