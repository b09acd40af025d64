//! Days that have left what was usual, little by little: the sum of what they are beyond it (CUSUM, Page 1954). It
//! finds a small change that stays, such as insulation that ages, long before any limit does.

use kerbside_model::profile::{Shift, Side};
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::days::Today;
use crate::local::Local;

/// One day counts for no more than so many spreads: a wet day is no shift, however wet.
const DAY_SPREADS_MAX: f32 = 3.0;
/// The sum goes no higher than so many limits, so that it comes back in time.
const SUM_MAX: f32 = 1.5;
/// A standard deviation for each middle distance from the middle, of a normal distribution.
const DEVIATION_OF_DISTANCE: f32 = 1.4826;

/// What was usual, and how far the days have left it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Creep {
    today: Option<Today>,
    /// The first days, while what is usual is learnt.
    first: Vec<f32>,
    /// What was usual, once it is known.
    usual: Option<(f32, f32)>,
    /// Sums of what days were above and below it, in spreads.
    sums: (f32, f32),
    last: f32,
}

/// How far the days have left what was usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Left {
    pub(crate) middle: f64,
    pub(crate) last: f64,
    /// In spreads.
    pub(crate) sum: f64,
}

impl Creep {
    /// Takes a reading that counts, and says what the days that are over say.
    pub(super) fn judge(&mut self, rule: &Shift, number: f64, local: &Local, learns: bool) -> Verdict {
        if learns && let Some((_, value)) = Today::take(&mut self.today, rule.of, number as f32, local) {
            self.take_day(rule, value);
        }
        if self.usual.is_none() {
            return Verdict::Unknown;
        }
        let sum = self.sum(rule);
        if f64::from(sum) >= rule.limit {
            Verdict::Wrong
        } else if sum <= 0.0 {
            Verdict::Fine
        } else {
            Verdict::Between
        }
    }

    fn take_day(&mut self, rule: &Shift, value: f32) {
        self.last = value;
        let Some((middle, spread)) = self.usual else {
            self.first.push(value);
            if self.first.len() >= usize::from(rule.warm_up) {
                let mut days = std::mem::take(&mut self.first);
                let middle = middle_of(&mut days);
                let mut distances: Vec<f32> = days.iter().map(|day| (day - middle).abs()).collect();
                self.usual = Some((middle, middle_of(&mut distances) * DEVIATION_OF_DISTANCE));
            }
            return;
        };
        let (slack, limit) = (rule.slack as f32, rule.limit as f32);
        let spreads = ((value - middle) / spread.max(rule.least as f32)).clamp(-DAY_SPREADS_MAX, DAY_SPREADS_MAX);
        let (above, below) = self.sums;
        let next = |sum: f32, step: f32| (sum + step - slack).clamp(0.0, limit * SUM_MAX);
        self.sums = (next(above, spreads), next(below, -spreads));
    }

    fn sum(&self, rule: &Shift) -> f32 {
        match rule.side {
            Side::Above => self.sums.0,
            Side::Below => self.sums.1,
            Side::Either => self.sums.0.max(self.sums.1),
        }
    }

    /// How far it has left what was usual, once that is known.
    pub(crate) fn left(&self, rule: &Shift) -> Option<Left> {
        let (middle, _) = self.usual?;
        Some(Left { middle: f64::from(middle), last: f64::from(self.last), sum: f64::from(self.sum(rule)) })
    }

    pub(super) fn forget_future(&mut self, today: i32) {
        self.today.take_if(|known| known.day() > today);
    }
}

fn middle_of(values: &mut [f32]) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kerbside_model::profile::DayValue;

    use super::*;

    fn rule() -> Shift {
        let (slack, limit, least) = (0.5, 8.0, 0.5);
        Shift { side: Side::Above, slack, limit, least, of: DayValue::Median, warm_up: 14, learn_when: Vec::new() }
    }

    /// Days of noise between -1 and 1 around 4, then what is given for each further day.
    fn after(days: impl Iterator<Item = f32>) -> Vec<f64> {
        let (rule, mut creep) = (rule(), Creep::default());
        let noise = |day: u32| ((day * 7) % 5) as f32 / 2.0 - 1.0;
        (0..30).for_each(|day| creep.take_day(&rule, 4.0 + noise(day)));
        let sums = days.zip(30..).map(|(value, day)| {
            creep.take_day(&rule, value + noise(day));
            f64::from(creep.sum(&rule))
        });
        sums.collect()
    }

    #[test]
    fn noise_and_a_wet_day_are_no_shift() {
        let sums = after((0..300).map(|day| if day % 20 == 7 { 40.0 } else { 4.0 }));
        assert!(sums.iter().all(|sum| *sum < 8.0), "{sums:?}");
    }

    #[test]
    fn a_shift_of_two_spreads_is_found_within_two_weeks_and_is_over_when_it_is_mended() {
        let sums = after(std::iter::repeat_n(7.0, 20).chain(std::iter::repeat_n(4.0, 60)));
        let found = sums.iter().position(|sum| *sum >= 8.0).unwrap();
        assert!((3..14).contains(&found), "{found}: {sums:?}");
        assert!(sums[20..].contains(&0.0), "{sums:?}");
    }
}
