//! What a value is compared with besides its neighbours: the hour of the day, the level of the last days, and the range
//! that the series ever had.

use serde::{Deserialize, Serialize};

use crate::grid::Grid;
use crate::tuning::Tuning;

/// Parts of the day with a mean of their own.
const HOURS: usize = 24;
/// Points before the level is judged: its moments mean nothing earlier.
const LEVEL_POINTS_MIN: u16 = 20;
/// A spread is never taken for less than this share of the grid's: rounding is not unusual.
const SPREAD_SHARE_MIN: f32 = 1e-3;

/// What a stream says about a point: how far it is from what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Distance {
    /// In spreads; at least 0.
    pub(crate) spreads: f32,
    /// What was compared: the value itself or its exponential mean.
    pub(crate) looked_at: f32,
    pub(crate) usual: f32,
    pub(crate) spread: f32,
}

impl Distance {
    fn new(looked_at: f32, usual: f32, spread: f32) -> Distance {
        Distance { spreads: (looked_at - usual).abs() / spread, looked_at, usual, spread }
    }
}

/// Mean and mean deviation of each hour of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hours {
    recent: f32,
    means: [f32; HOURS],
    deviations: [f32; HOURS],
    counts: [u8; HOURS],
    spread_min: f32,
}

impl Hours {
    /// `sample` is the warm-up in its order.
    pub(crate) fn new(sample: &[f32], grid: &Grid, tuning: &Tuning) -> Hours {
        let mut recent = sample.first().copied().unwrap_or(0.0);
        let mut deviations = 0.0;
        for value in sample {
            recent += (value - recent) / tuning.hour_points;
            deviations += (recent - grid.middle).abs();
        }
        let spread = (deviations / sample.len().max(1) as f32).max(SPREAD_SHARE_MIN * grid.spread);
        Hours {
            recent: sample.first().copied().unwrap_or(0.0),
            means: [grid.middle; HOURS],
            deviations: [spread; HOURS],
            counts: [0; HOURS],
            spread_min: tuning.hour_floor * spread,
        }
    }

    pub(crate) fn observe(&mut self, value: f32, minute_of_day: u16, tuning: &Tuning) -> Distance {
        self.recent += (value - self.recent) / tuning.hour_points;
        let hour = usize::from(minute_of_day) * HOURS / 1440;
        let distance = Distance::new(self.recent, self.means[hour], self.deviations[hour].max(self.spread_min));
        self.counts[hour] = self.counts[hour].saturating_add(1);
        let rate = (1.0 / f32::from(self.counts[hour])).max(tuning.hour_rate);
        let step = self.recent - self.means[hour];
        self.means[hour] += rate * step;
        self.deviations[hour] += rate * (step.abs() - self.deviations[hour]);
        distance
    }
}

/// Exponential mean of the last hundred points against exponential moments of the last thousands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Level {
    recent: f32,
    mean: f32,
    variance: f32,
    count: u16,
    spread_min: f32,
}

impl Level {
    pub(crate) fn new(sample: &[f32], grid: &Grid) -> Level {
        let first = sample.first().copied().unwrap_or(0.0);
        Level { recent: first, mean: first, variance: 0.0, count: 0, spread_min: SPREAD_SHARE_MIN * grid.spread }
    }

    pub(crate) fn observe(&mut self, value: f32, tuning: &Tuning) -> Distance {
        self.recent += (value - self.recent) / tuning.level_points;
        let mut distance = Distance::new(self.recent, self.mean, self.variance.sqrt().max(self.spread_min));
        if self.count < LEVEL_POINTS_MIN {
            distance.spreads = 0.0;
        }
        self.count = self.count.saturating_add(1);
        let rate = (1.0 / f32::from(self.count)).max(1.0 / tuning.level_memory);
        let step = value - self.mean;
        self.mean += rate * step;
        self.variance += rate * (step * step * (1.0 - rate) - self.variance);
        distance
    }
}

/// The lowest and the highest value so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Range {
    bounds: Option<(f32, f32)>,
    spread_min: f32,
}

impl Range {
    pub(crate) fn new(grid: &Grid) -> Range {
        Range { bounds: None, spread_min: SPREAD_SHARE_MIN * grid.spread }
    }

    /// How far outside, in widths of the range.
    pub(crate) fn observe(&mut self, value: f32) -> Distance {
        let Some((low, high)) = self.bounds else {
            self.bounds = Some((value, value));
            return Distance { spreads: 0.0, looked_at: value, usual: value, spread: self.spread_min };
        };
        let nearest = value.clamp(low, high);
        let distance = Distance::new(value, nearest, (high - low).max(self.spread_min));
        self.bounds = Some((low.min(value), high.max(value)));
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::TUNING;

    const GRID: Grid = Grid { middle: 0.0, spread: 1.0 };

    #[test]
    fn an_hour_is_compared_with_its_own_past() {
        let mut hours = Hours::new(&[0.0; 10], &GRID, &TUNING);
        for day in 0..20 {
            for hour in 0..24_u16 {
                let value = if hour == 8 { 10.0 } else { 0.0 };
                for minute in 0..60 {
                    hours.observe(value + (day % 2) as f32 * 0.1, hour * 60 + minute, &TUNING);
                }
            }
        }
        let after = |minute: u16, points: usize| {
            let mut hours = hours.clone();
            (0..points).map(|_| hours.observe(10.0, minute, &TUNING).spreads).last().unwrap()
        };
        assert!(after(8 * 60 + 30, 50) < 1.5, "usual at eight: {}", after(8 * 60 + 30, 50));
        assert!(after(3 * 60, 10) > 5.0, "unusual at three: {}", after(3 * 60, 10));
    }

    #[test]
    fn a_record_is_measured_in_widths_of_the_range() {
        let mut range = Range::new(&GRID);
        for value in [0.0, 10.0, 4.0] {
            range.observe(value);
        }
        assert_eq!(range.observe(9.0).spreads, 0.0);
        assert_eq!(range.observe(20.0).spreads, 1.0);
        assert_eq!(range.observe(20.0).spreads, 0.0);
        assert_eq!(range.observe(-20.0).spreads, 1.0);
    }

    #[test]
    fn a_level_that_moved_is_far_from_where_it_was() {
        let mut level = Level::new(&[0.0], &GRID);
        let wobble = |point: i32| (point % 5) as f32 - 2.0;
        let before = (0..1000).map(|point| level.observe(wobble(point), &TUNING).spreads).fold(0.0, f32::max);
        let after = (0..300).map(|point| level.observe(5.0 + wobble(point), &TUNING).spreads).fold(0.0, f32::max);
        assert!(before < 0.5 && after > 1.5, "{before} then {after}");
    }
}
