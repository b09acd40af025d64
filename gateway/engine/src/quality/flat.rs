//! Flat line (a stuck value): whether all values of so many reports lie closer together than a tolerance.
//!
//! `ioos_qc` looks at a window of `span / interval + 1` values. Here the longest run of values up to now is kept that
//! lie within the tolerance, with those of its values only that may still be its largest or smallest.

use kerbside_model::{Flag, Timestamp};
use serde::{Deserialize, Serialize};

/// A slow ramp within the tolerance has as many values that count as it has reports. Beyond so many the two that are
/// closest together become one, which makes the run shorter and never longer: nothing is called flat that is not.
const STEPS_MAX: usize = 32;

/// What is kept of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FlatLine {
    /// Reports so far; a report that comes sooner than half an interval behind the one before is not another one.
    reports: u32,
    /// The first report of the run.
    start: u32,
    counted_at: Timestamp,
    /// Report and value of what may be the largest, falling, and the smallest, rising, of the run.
    highs: Vec<(u32, f64)>,
    lows: Vec<(u32, f64)>,
}

/// How long a run must be, in intervals.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunLengths {
    pub(super) suspect: Option<u32>,
    pub(super) fail: Option<u32>,
}

impl FlatLine {
    /// Takes the next value.
    pub(super) fn take(
        &mut self,
        value: Option<f64>,
        at: Timestamp,
        tolerance: f64,
        half_interval_ms: i64,
        lengths: RunLengths,
    ) -> Flag {
        let is_counted = self.reports == 0 || at.0.saturating_sub(self.counted_at.0) >= half_interval_ms;
        if is_counted || at < self.counted_at {
            // After four thousand million reports it begins anew.
            self.reports = self.reports.checked_add(1).unwrap_or_else(|| {
                *self = FlatLine::default();
                1
            });
            self.counted_at = at;
        }
        let report = self.reports - 1;
        let Some(value) = value else { return Flag::Missing };
        push(&mut self.highs, report, value, |kept, new| kept <= new);
        push(&mut self.lows, report, value, |kept, new| kept >= new);
        while let (Some((high_at, high)), Some((low_at, low))) = (self.highs.first(), self.lows.first()) {
            if high - low < tolerance {
                break;
            }
            self.start = high_at.min(low_at) + 1;
            let start = self.start;
            self.highs.retain(|(at, _)| *at >= start);
            self.lows.retain(|(at, _)| *at >= start);
        }
        let run = report.saturating_sub(self.start);
        let is_as_long = |length: Option<u32>| length.is_some_and(|length| report >= self.start && run >= length);
        match (is_as_long(lengths.fail), is_as_long(lengths.suspect)) {
            (true, _) => Flag::Bad,
            (false, true) => Flag::Suspect,
            (false, false) => Flag::Good,
        }
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.counted_at = self.counted_at.min(now);
    }

    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.highs.len() + self.lows.len()
    }
}

/// Adds a value behind those that it does not outdo.
fn push(steps: &mut Vec<(u32, f64)>, report: u32, value: f64, is_outdone: impl Fn(f64, f64) -> bool) {
    while steps.last().is_some_and(|(_, kept)| is_outdone(*kept, value)) {
        steps.pop();
    }
    if steps.len() == STEPS_MAX {
        let gap = |pair: usize| (steps[pair].1 - steps[pair + 1].1).abs();
        let closest = (0..STEPS_MAX - 1).min_by(|one, other| gap(*one).total_cmp(&gap(*other))).unwrap_or(0);
        // The older one stood further out: its value holds for both, up to the younger one's report.
        steps[closest].0 = steps[closest + 1].0;
        steps.remove(closest + 1);
    }
    steps.push((report, value));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTHS: RunLengths = RunLengths { suspect: Some(40), fail: Some(90) };

    /// What a look at all values up to each row gives.
    fn by_hand(values: &[Option<f64>], tolerance: f64) -> Vec<Flag> {
        let is_flat = |row: usize, length: u32| {
            let first = row.checked_sub(length as usize)?;
            let known = || values[first..=row].iter().flatten();
            let (low, high) =
                (known().fold(f64::MAX, |low, it| low.min(*it)), known().fold(f64::MIN, |high, it| high.max(*it)));
            (high - low < tolerance).then_some(())
        };
        let flag = |row: usize| match values[row] {
            None => Flag::Missing,
            Some(_) if is_flat(row, 90).is_some() => Flag::Bad,
            Some(_) if is_flat(row, 40).is_some() => Flag::Suspect,
            Some(_) => Flag::Good,
        };
        (0..values.len()).map(flag).collect()
    }

    fn streamed(values: &[Option<f64>], tolerance: f64) -> Vec<Flag> {
        let mut line = FlatLine::default();
        let take = |(row, value): (usize, &Option<f64>)| {
            let flag = line.take(*value, Timestamp(row as i64 * 60_000), tolerance, 30_000, LENGTHS);
            assert!(line.steps() <= 2 * STEPS_MAX);
            flag
        };
        values.iter().enumerate().map(take).collect()
    }

    proptest! {
        #[test]
        fn runs_are_as_long_as_by_hand(
            steps in prop::collection::vec((prop::option::weighted(0.95, -2_i32..3), 1_usize..30), 1..40),
            tolerance in 1_u32..6,
        ) {
            let mut level = 100;
            let mut values = Vec::new();
            for (step, times) in steps {
                level += step.unwrap_or(0);
                values.extend(std::iter::repeat_n(step.map(|_| f64::from(level)), times));
            }
            prop_assert_eq!(streamed(&values, f64::from(tolerance)), by_hand(&values, f64::from(tolerance)));
        }

        #[test]
        fn a_ramp_with_more_steps_than_are_kept_is_never_called_flatter_than_it_is(
            rises in prop::collection::vec(0.0_f64..0.05, 200..400),
        ) {
            let mut level = 0.0;
            let values: Vec<Option<f64>> = rises.iter().map(|rise| { level += rise; Some(level) }).collect();
            for (found, real) in streamed(&values, 1.5).into_iter().zip(by_hand(&values, 1.5)) {
                prop_assert!(found.weight() <= real.weight(), "{found:?} is more than {real:?}");
            }
        }
    }

    #[test]
    fn a_burst_of_reports_is_no_time() {
        let mut line = FlatLine::default();
        let lengths = RunLengths { suspect: Some(3), fail: None };
        let flags = (0..100).map(|number| line.take(Some(5.0), Timestamp(number * 1_000), 1.0, 30_000, lengths));
        let flags: Vec<Flag> = flags.collect();
        assert_eq!(
            flags.iter().position(|flag| *flag == Flag::Suspect),
            Some(90),
            "three intervals of half a minute at least"
        );
    }
}
