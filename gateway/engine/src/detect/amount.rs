//! How much came in a time, such as rain: the time is cut into parts, and the sum of those that count is compared.

use kerbside_model::Timestamp;
use kerbside_model::profile::{AMOUNT_PARTS, Amount, Counts, Side};
use serde::{Deserialize, Serialize};

use super::{Verdict, jump_limit, milliseconds, threshold};

/// A counter that falls by less than this share of itself was rounded; by more it began anew.
const NEW_BEGINNING: f64 = 0.5;

/// What came in each part of the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Amassed {
    parts: [f32; AMOUNT_PARTS],
    /// The number of the newest part since 1970.
    part: i64,
    /// The reading before, ...
    last: f64,
    /// ... and when it was observed; 0 for none.
    last_at: Timestamp,
}

impl Amassed {
    /// Takes the next reading and compares what has come.
    pub(super) fn judge(&mut self, rule: &Amount, number: f64, at: Timestamp) -> Verdict {
        let is_first = self.last_at == Timestamp::default();
        if at < self.last_at {
            return Verdict::Unknown;
        }
        let elapsed_ms = at.0.saturating_sub(self.last_at.0);
        self.move_on(rule, at);
        let came = match rule.counts {
            Counts::Each => number.max(0.0),
            // Nobody knows when it came.
            Counts::Total if is_first || elapsed_ms > milliseconds(rule.within) => 0.0,
            Counts::Total if number >= self.last => number - self.last,
            Counts::Total if number < self.last * NEW_BEGINNING => number.max(0.0),
            Counts::Total => 0.0,
        };
        let is_new = is_first || at > self.last_at;
        let is_jump = rule.jump.is_some_and(|jump| !is_first && came > jump_limit(&jump, elapsed_ms));
        if is_new && !is_jump {
            self.parts[self.part.rem_euclid(AMOUNT_PARTS as i64) as usize] += came as f32;
        }
        (self.last, self.last_at) = (number, at);
        threshold(Side::Above, rule.above, rule.clear, self.sum())
    }

    /// Parts that are over are empty again when their turn comes.
    fn move_on(&mut self, rule: &Amount, at: Timestamp) {
        let part = at.0.div_euclid((milliseconds(rule.within) / AMOUNT_PARTS as i64).max(1));
        let steps = part.saturating_sub(self.part).clamp(0, AMOUNT_PARTS as i64);
        for step in 0..steps {
            self.parts[(part - step).rem_euclid(AMOUNT_PARTS as i64) as usize] = 0.0;
        }
        self.part = part;
    }

    /// What came in all.
    pub(crate) fn sum(&self) -> f64 {
        self.parts.iter().map(|part| f64::from(*part)).sum()
    }

    /// Nothing was counted later than now.
    pub(super) fn forget_future(&mut self, now: Timestamp) {
        if self.last_at > now {
            *self = Amassed::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kerbside_model::profile::Jump;

    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn rule(counts: Counts) -> Amount {
        let jump = Some(Jump { over: 5.0, per: Duration::from_secs(60) });
        Amount { above: 50.0, clear: 30.0, within: Duration::from_secs(6 * 3_600), counts, jump }
    }

    /// The sum and verdict after these readings of each minute.
    fn after(rule: &Amount, readings: impl Iterator<Item = f64>) -> (f64, Verdict) {
        let (mut sum, mut verdict) = (Amassed::default(), Verdict::Unknown);
        for (minute, number) in readings.enumerate() {
            verdict = sum.judge(rule, number, Timestamp(1_800_000_000_000 + minute as i64 * MINUTE_MS));
        }
        (sum.sum(), verdict)
    }

    #[test]
    fn a_counter_is_summed_up_over_its_new_beginning() {
        // 0.2 mm a minute for five hours are 60 mm, whatever the gauge does at midnight.
        let readings = (0..300).map(|minute| f64::from(if minute < 200 { minute } else { minute - 199 }) * 0.2);
        let (sum, verdict) = after(&rule(Counts::Total), readings);
        assert!((sum - 59.8).abs() < 0.5, "{sum}");
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[test]
    fn what_is_over_does_not_count() {
        let rain = (0..300).map(|minute| f64::from(minute) * 0.2);
        let (sum, verdict) = after(&rule(Counts::Total), rain.chain(std::iter::repeat_n(59.8, 240)));
        assert!(sum < 30.0, "{sum}");
        assert_eq!(verdict, Verdict::Fine);
    }

    #[test]
    fn a_new_gauge_and_rounding_are_no_rain() {
        let readings = [12.0, 12.1, 900.0, 900.0, 899.9, 900.0];
        let (sum, verdict) = after(&rule(Counts::Total), readings.into_iter());
        assert!(sum < 0.3, "{sum}");
        assert_eq!(verdict, Verdict::Fine);
        assert_eq!(after(&rule(Counts::Each), [0.1, 0.2, 0.3].into_iter()).0.round(), 1.0);
    }
}
