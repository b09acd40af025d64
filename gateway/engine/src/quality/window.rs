//! Attenuated signal: how much a signal has moved over a time up to now.

use std::collections::VecDeque;
use std::time::Duration;

use kerbside_model::profile::{Attenuated, Movement, WINDOW_READINGS_MAX};
use kerbside_model::{Flag, Timestamp};
use serde::{Deserialize, Serialize};

/// The values of a time, 24 bytes each; only points that ask for the test have one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Window(VecDeque<(Timestamp, Option<f64>)>);

impl Window {
    /// Takes the next value. Says nothing while the window holds too few values, or more than it has room for, or, for
    /// the range, one that is missing.
    pub(super) fn take(&mut self, value: Option<f64>, at: Timestamp, test: &Attenuated) -> Flag {
        if self.0.back().is_some_and(|(last, _)| *last > at) {
            self.0.clear();
        }
        let began = begin(at, test.window);
        while self.0.front().is_some_and(|(oldest, _)| *oldest <= began) {
            self.0.pop_front();
        }
        let is_whole = self.0.len() < WINDOW_READINGS_MAX;
        if !is_whole {
            self.0.pop_front();
        }
        self.0.push_back((at, value));
        if value.is_none() {
            return Flag::Missing;
        }
        if !is_whole {
            return Flag::NotEvaluated;
        }
        match self.movement(test) {
            None => Flag::NotEvaluated,
            Some(movement) if test.limits.fail.is_some_and(|fail| movement < fail) => Flag::Bad,
            Some(movement) if test.limits.suspect.is_some_and(|suspect| movement < suspect) => Flag::Suspect,
            Some(_) => Flag::Good,
        }
    }

    fn movement(&self, test: &Attenuated) -> Option<f64> {
        let values = || self.0.iter().filter_map(|(_, value)| *value);
        let count = values().count();
        if count < usize::from(test.count_min) {
            return None;
        }
        match test.measure {
            // Twice through the values: subtracting what leaves the window would add up errors over the years.
            Movement::Deviation => {
                let mean = values().sum::<f64>() / count as f64;
                let squares = values().map(|value| (value - mean) * (value - mean)).sum::<f64>();
                Some((squares / count as f64).sqrt())
            }
            Movement::Range if count < self.0.len() => None,
            Movement::Range => {
                let (low, high) =
                    values().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
                Some(high - low)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.0.retain(|(at, _)| *at <= now);
    }
}

fn begin(at: Timestamp, window: Duration) -> Timestamp {
    at.minus(window)
}
