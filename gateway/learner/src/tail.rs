//! Tails: turns what a stream says, in whatever unit, into how improbable that is for this series, in decimal orders of
//! magnitude, so that streams and series can be compared.
//!
//! Below a high quantile the strength grows in proportion; beyond it the excess is taken as exponential. Both quantile
//! and mean excess are fitted on the warm-up and follow slowly.

use std::f32::consts::{LOG10_2, LOG10_E};

use serde::{Deserialize, Serialize};

use crate::arithmetic::{log2, quantile};
use crate::tuning::Tuning;

/// Orders of magnitude in one mean excess: log10 of e.
const ORDERS_PER_EXCESS: f32 = LOG10_E;
/// Orders of magnitude in a factor of two: log10 of 2.
const ORDERS_PER_DOUBLING: f32 = LOG10_2;
/// The quantile of the warm-up which says what is large at all.
const LARGE: f32 = 0.999;
/// A mean excess is never taken for less than this share of what is large.
const EXCESS_SHARE_MIN: f32 = 1e-3;
/// Of what is large where nothing ever exceeded the quantile: the first guess of the mean excess.
const EXCESS_SHARE_FIRST: f32 = 0.1;
/// The smallest number that counts as anything.
const SMALLEST: f32 = 1e-12;
/// One excess of many means moves the mean like this many.
const EXCESS_MEANS_MAX: f32 = 20.0;

/// One stream's tail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tail {
    quantile: f32,
    excess: f32,
    excess_min: f32,
}

impl Tail {
    /// From what the stream said during the warm-up; the mean excess is never taken for less than `excess_min`.
    pub(crate) fn fit(mut said: Vec<f32>, excess_min: f32, tuning: &Tuning) -> Tail {
        said.sort_by(f32::total_cmp);
        let at = quantile(&said, tuning.tail_quantile);
        let large = quantile(&said, LARGE).max(SMALLEST);
        let excesses: Vec<f32> = said.iter().filter(|value| **value > at).map(|value| value - at).collect();
        let excess = match excesses.len() {
            0 => EXCESS_SHARE_FIRST * large,
            count => excesses.iter().sum::<f32>() / count as f32,
        };
        let excess_min = (EXCESS_SHARE_MIN * large + SMALLEST).max(excess_min);
        Tail { quantile: at, excess: excess.max(excess_min), excess_min }
    }

    /// How improbable: about minus log10 of the share of points that say as much.
    pub(crate) fn strength(&self, said: f32, tuning: &Tuning) -> f32 {
        let at_quantile = -log2(1.0 - tuning.tail_quantile) * ORDERS_PER_DOUBLING;
        if said <= self.quantile {
            return at_quantile * said / self.quantile.max(SMALLEST);
        }
        let beyond = (said - self.quantile) / self.excess.max(self.excess_min);
        (at_quantile + beyond * ORDERS_PER_EXCESS).min(tuning.strength_max)
    }

    /// Follows the stream, at a rate a point.
    pub(crate) fn follow(&mut self, said: f32, rate: f32, tuning: &Tuning) {
        let share = tuning.tail_quantile;
        if said <= self.quantile {
            self.quantile -= rate * (1.0 - share) * self.excess;
            return;
        }
        let excess = (said - self.quantile).min(EXCESS_MEANS_MAX * self.excess);
        self.quantile += rate * share * self.excess;
        self.excess += (rate / (1.0 - share)).min(1.0) * (excess - self.excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::TUNING;

    /// Exponentially distributed numbers by a fixed sequence.
    fn exponential(count: usize) -> Vec<f32> {
        (0..count).map(|point| -(((point * 7_919) % 10_007 + 1) as f32 / 10_008.0).ln()).collect()
    }

    #[test]
    fn strength_is_the_order_of_magnitude_of_rareness() {
        let tail = Tail::fit(exponential(5_000), 0.0, &TUNING);
        // One in a hundred of an exponential distribution lies beyond 4.6, one in ten thousand beyond 9.2.
        for (said, orders) in [(4.605, 2.0), (9.21, 4.0)] {
            let strength = tail.strength(said, &TUNING);
            assert!((strength - orders).abs() < 0.25, "{said} has {strength}, not {orders}");
        }
        assert_eq!(tail.strength(1e30, &TUNING), TUNING.strength_max);
        assert_eq!(tail.strength(0.0, &TUNING), 0.0);
    }

    #[test]
    fn a_tail_follows_its_stream() {
        let mut tail = Tail::fit(exponential(1_000), 0.0, &TUNING);
        let before = tail.strength(20.0, &TUNING);
        for said in exponential(50_000) {
            tail.follow(4.0 * said, TUNING.tail_rate, &TUNING);
        }
        let after = tail.strength(20.0, &TUNING);
        assert!(before > 7.0 && (1.5..4.0).contains(&after), "{before} then {after}");
    }

    #[test]
    fn a_stream_that_never_said_anything_can_still_be_surprised() {
        let tail = Tail::fit(vec![0.0; 300], 0.0, &TUNING);
        assert_eq!(tail.strength(0.0, &TUNING), 0.0);
        assert_eq!(tail.strength(1.0, &TUNING), TUNING.strength_max);
        let careful = Tail::fit(vec![0.0; 300], 0.5, &TUNING);
        assert!((1.5..3.0).contains(&careful.strength(1.0, &TUNING)));
        assert!(Tail::fit(Vec::new(), 0.0, &TUNING).strength(0.5, &TUNING).is_finite());
    }
}
