//! Rules that compare a reading with an earlier one: rate, flat line, and a limit to which there is a way.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::{Approach, Jump, Side};
use serde::{Deserialize, Serialize};

use super::{Phase, Verdict, jump_limit, milliseconds, threshold};

/// What stands still within this share of its height after a jump is a box: a parked car, rubbish, snow from a plough
/// (the filter of FloodNet, New York, takes 5 % as well).
const BOX_VARIATION: f64 = 0.05;
/// ... and within this share of the least jump, since low boxes are in the noise of the sensor.
const BOX_NOISE: f64 = 0.2;
/// Reports that are so far apart see nothing twice that passes by: queues of traffic last for some minutes.
const APART: Duration = Duration::from_secs(600);

/// The reading that others are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reference {
    value: f64,
    /// When it was observed; 0 for none.
    observed_at: Timestamp,
    /// The reading before, of a rate that leaves jumps out; the reading before the reference, of a limit with a way to it.
    previous: f32,
    /// When that was observed; 0 for none.
    previous_at: Timestamp,
}

impl Reference {
    /// When it was observed; 0 for never.
    pub(super) fn at(&self) -> Timestamp {
        self.observed_at
    }

    /// A jump is no change of what is measured: behind it the comparison begins anew.
    pub(super) fn leave_out_jump(&mut self, jump: Option<&Jump>, number: f64, observed_at: Timestamp) {
        let Some(jump) = jump else { return };
        let step = number - f64::from(self.previous);
        let elapsed_ms = observed_at.0.saturating_sub(self.previous_at.0);
        let is_first = self.previous_at == Timestamp::default() || elapsed_ms < 0;
        #[expect(clippy::cast_possible_truncation, reason = "jumps are told from changes, not measured")]
        let previous = number as f32;
        (self.previous, self.previous_at) = (previous, observed_at);
        if !is_first && step.abs() > jump_limit(jump, elapsed_ms) {
            self.remember(number, observed_at);
        }
    }

    /// Compares with a reference that is at least `per` old, so that two readings a second apart do not make a
    /// millimetre of noise a flood; a change that is already too large within `per` counts at once.
    pub(super) fn rate(
        &mut self,
        (side, raise, clear): (Side, f64, f64),
        (per, gap_max): (Duration, Duration),
        (number, observed_at): (f64, Timestamp),
        phase: Phase,
    ) -> Verdict {
        let elapsed_ms = observed_at.0.saturating_sub(self.observed_at.0);
        let is_first = self.observed_at == Timestamp::default() || observed_at < self.observed_at;
        if is_first || elapsed_ms > milliseconds(gap_max) {
            self.remember(number, observed_at);
            return Verdict::Unknown;
        }
        let change = match side {
            Side::Above => number - self.value,
            Side::Below => self.value - number,
            Side::Either => (number - self.value).abs(),
        };
        let per_ms = milliseconds(per);
        let rate = change * per_ms as f64 / elapsed_ms.max(1) as f64;
        if elapsed_ms < per_ms {
            // Too soon to say that all is well; but what has come back was a blip, and readings running do not run on.
            let has_come_back = phase == Phase::Rising && rate <= clear;
            return match (change >= raise, has_come_back) {
                (true, _) => Verdict::Wrong,
                (false, true) => Verdict::Between,
                (false, false) => Verdict::Unknown,
            };
        }
        self.remember(number, observed_at);
        threshold(Side::Above, raise, clear, rate)
    }

    /// A limit to which there is a way. What stands is not doubted any more. Says besides whether what was doubted has
    /// been seen twice.
    pub(super) fn approached(
        &mut self,
        (side, raise, clear): (Side, f64, f64),
        approach: &Approach,
        (number, observed_at): (f64, Timestamp),
        phase: Phase,
    ) -> (Verdict, bool) {
        let is_active = matches!(phase, Phase::Active | Phase::Falling);
        let verdict = threshold(side, raise, clear, number);
        let towards = if side == Side::Below { -1.0 } else { 1.0 };
        let (before, elapsed_ms) = (self.value, observed_at.0.saturating_sub(self.observed_at.0));
        let is_first = self.observed_at == Timestamp::default() || elapsed_ms < 0;
        let earlier = f64::from(self.previous);
        #[expect(clippy::cast_possible_truncation, reason = "it tells whether it rose, and measures nothing")]
        let known = if is_first { number } else { before } as f32;
        self.previous = known;
        let is_on_the_way = (number - approach.from) * towards >= 0.0;
        if is_first || is_active || !is_on_the_way {
            self.remember(number, observed_at);
            let is_near = is_on_the_way && verdict != Verdict::Wrong && !is_active;
            return (if is_near { Verdict::Near } else { verdict }, false);
        }
        // Where something stands already, something else may go.
        let was_doubted = phase == Phase::Doubted;
        let step = if was_doubted { (number - before).abs() } else { (number - before) * towards };
        // Between reports that are far apart anything may park: where none of them saw it rise on the way to the limit, or
        // nearly to it, a jump is no larger for the time.
        let least_noise = approach.jump.over * BOX_NOISE;
        let is_at_limit = (number - raise) * towards >= -least_noise;
        let has_come = (before - approach.from) * towards >= 0.0 && (before - earlier) * towards >= least_noise;
        let has_leapt = !was_doubted && is_at_limit && !has_come;
        let limit = if has_leapt { approach.jump.over } else { jump_limit(&approach.jump, elapsed_ms) };
        let has_jumped = step > limit;
        let noise = (before.abs() * BOX_VARIATION).max(least_noise);
        if was_doubted && !has_jumped && (number - before).abs() <= noise {
            // The reference stays where it jumped to, so that slow creeping is movement as well.
            self.observed_at = observed_at;
            return (Verdict::Doubtful, false);
        }
        self.remember(number, observed_at);
        let verdict = match verdict {
            _ if has_jumped => Verdict::Doubtful,
            Verdict::Wrong => Verdict::Wrong,
            _ => Verdict::Near,
        };
        // Traffic is gone within this time: what moved and is still there has been seen twice.
        (verdict, was_doubted && elapsed_ms >= milliseconds(APART))
    }

    pub(super) fn flatline(
        &mut self,
        tolerance: f64,
        duration: Duration,
        number: f64,
        observed_at: Timestamp,
    ) -> Verdict {
        if self.observed_at == Timestamp::default() || observed_at < self.observed_at {
            self.remember(number, observed_at);
            return Verdict::Unknown;
        }
        let before_at = std::mem::replace(&mut self.previous_at, observed_at).max(self.observed_at);
        if (number - self.value).abs() > tolerance {
            self.remember(number, observed_at);
            return Verdict::Fine;
        }
        // Nobody looked for as long as the line should be flat, such as after a link was down for a day.
        if observed_at.0.saturating_sub(before_at.0) >= milliseconds(duration) {
            self.remember(number, observed_at);
            return Verdict::Between;
        }
        if observed_at.0.saturating_sub(self.observed_at.0) >= milliseconds(duration) {
            Verdict::Wrong
        } else {
            Verdict::Between
        }
    }

    fn remember(&mut self, number: f64, observed_at: Timestamp) {
        self.value = number;
        self.observed_at = observed_at;
    }
}
