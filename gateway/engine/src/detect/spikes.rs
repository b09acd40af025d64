//! Values that jump and come back: how often that was in a window. A jump that stays is none.

use kerbside_model::Timestamp;
use kerbside_model::profile::Spikes;
use serde::{Deserialize, Serialize};

use super::{Verdict, milliseconds};

/// It is back when it is nearer than this share of the jump to where it was.
const BACK_SHARE: f64 = 0.5;

/// The last spikes, and the jump that may become one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpikeTimes {
    /// The last value that was not away.
    base: f64,
    /// When the last reading was observed; 0 for none.
    last_at: Timestamp,
    /// Since when it is away; 0 when it is not.
    away_since: Timestamp,
    /// For how many readings.
    away: u8,
    /// When it came back, no more often than the rule counts.
    times: Vec<Timestamp>,
}

impl SpikeTimes {
    /// Takes the next reading and says whether there were too many spikes.
    pub(super) fn judge(&mut self, rule: &Spikes, number: f64, at: Timestamp) -> Verdict {
        if self.last_at == Timestamp::default() || at < self.last_at {
            *self = SpikeTimes { base: number, last_at: at, ..SpikeTimes::default() };
            return Verdict::Unknown;
        }
        if at > self.last_at {
            self.last_at = at;
            self.take(rule, number, at);
        }
        let window_ms = milliseconds(rule.window);
        self.times.retain(|time| at.0.saturating_sub(time.0) <= window_ms);
        let count = self.times.len();
        if count >= usize::from(rule.times) {
            Verdict::Wrong
        } else if count <= usize::from(rule.clear) {
            Verdict::Fine
        } else {
            Verdict::Between
        }
    }

    fn take(&mut self, rule: &Spikes, number: f64, at: Timestamp) {
        let distance = (number - self.base).abs();
        if self.away == 0 {
            if distance >= rule.by {
                (self.away_since, self.away) = (at, 1);
            } else {
                self.base = number;
            }
            return;
        }
        let elapsed_ms = at.0.saturating_sub(self.away_since.0);
        let is_in_time = rule.within.is_none_or(|within| elapsed_ms <= milliseconds(within));
        if distance < rule.by * BACK_SHARE {
            if is_in_time {
                if self.times.len() == usize::from(rule.times) {
                    self.times.remove(0);
                }
                self.times.push(at);
            }
            (self.base, self.away) = (number, 0);
        } else if self.away >= rule.readings || !is_in_time {
            // It stays: that is where it is now.
            (self.base, self.away) = (number, 0);
        } else {
            self.away += 1;
        }
    }

    /// How many spikes there were in the window of the last reading, as far as the rule counts.
    pub(crate) fn count(&self) -> usize {
        self.times.len()
    }

    pub(super) fn forget_future(&mut self, now: Timestamp) {
        self.last_at = self.last_at.min(now);
        self.away_since = self.away_since.min(now);
        self.times.retain(|time| *time <= now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Spikes = Spikes {
        by: 100.0,
        readings: 2,
        within: Some(Duration::from_secs(300)),
        times: 3,
        window: Duration::from_secs(3_600),
        clear: 1,
    };

    /// The verdicts on readings so many seconds apart.
    fn check(step: i64, numbers: &[f64]) -> (Vec<Verdict>, SpikeTimes) {
        let mut spikes = SpikeTimes::default();
        let at = |number: usize| Timestamp(1_800_000_000_000 + step * 1_000 * number as i64);
        let verdicts = numbers.iter().enumerate().map(|(number, value)| spikes.judge(&RULE, *value, at(number)));
        (verdicts.collect(), spikes)
    }

    #[test]
    fn three_jumps_that_come_back_are_told_and_fewer_are_not() {
        let (verdicts, _) = check(60, &[20.0, 500.0, 22.0, 500.0, 480.0, 21.0, -90.0, 20.0]);
        assert_eq!(verdicts[5], Verdict::Between);
        assert_eq!(verdicts[6..], [Verdict::Between, Verdict::Wrong]);
    }

    #[test]
    fn a_jump_that_stays_and_a_slow_way_up_and_down_are_no_spikes() {
        for numbers in [
            [20.0, 500.0, 500.0, 500.0, 500.0, 20.0, 20.0, 20.0, 20.0],
            [20.0, 90.0, 160.0, 230.0, 300.0, 230.0, 160.0, 90.0, 20.0],
        ] {
            assert_eq!(check(60, &numbers).1.count(), 0, "{numbers:?}");
        }
        // Away for one reading, and for longer than it may be.
        assert_eq!(check(301, &[20.0, 500.0, 20.0, 500.0, 20.0]).1.count(), 0);
    }

    #[test]
    fn spikes_of_long_ago_are_over_and_memory_stays_small() {
        let mut spikes = SpikeTimes::default();
        let mut at = Timestamp(1_800_000_000_000);
        for number in 0..1_000 {
            spikes.judge(&RULE, if number % 2 == 0 { 20.0 } else { 500.0 }, at);
            at = Timestamp(at.0 + 60_000);
        }
        assert_eq!(spikes.count(), 3);
        let later = Timestamp(at.0 + 3 * 3_600_000);
        assert_eq!(spikes.judge(&RULE, 20.0, later), Verdict::Fine);
        assert_eq!(spikes.count(), 0);
    }

    #[test]
    fn a_reading_that_is_looked_at_twice_counts_once() {
        let mut spikes = SpikeTimes::default();
        let at = |number: i64| Timestamp(1_800_000_000_000 + number);
        for (number, value) in [(0, 20.0), (1, 500.0), (1, 500.0), (1, 500.0), (1, 500.0), (2, 20.0), (2, 20.0)] {
            spikes.judge(&RULE, value, at(number));
        }
        assert_eq!(spikes.count(), 1);
    }
}
