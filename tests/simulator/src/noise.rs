//! Turns a seed, a name and a time into numbers that look random and never change.
//!
//! Values are functions of the simulated time and not of the order of calls, so that a district gives the same
//! uplinks however coarsely it is stepped. Nothing is kept; there are no metrics.

use kerbside_model::Timestamp;

/// One stream of repeatable noise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    /// The stream of this seed.
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(mix(seed))
    }

    /// A stream of its own for one part of the simulation.
    pub(crate) fn part(self, number: u64) -> Noise {
        Noise(mix(self.0 ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// A generator for choices that are made once.
    pub(crate) fn generator(self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.0)
    }

    /// From 0 up to 1, for this time.
    pub(crate) fn at(self, time: Timestamp) -> f64 {
        let mut generator = fastrand::Rng::with_seed(self.0 ^ mix(u64::from_ne_bytes(time.0.to_ne_bytes())));
        generator.f64()
    }

    /// From `low` up to `high`, for this time.
    pub(crate) fn between(self, time: Timestamp, low: f64, high: f64) -> f64 {
        low + (high - low) * self.at(time)
    }
}

/// From `low` up to `high`, drawn once.
pub(crate) fn draw(generator: &mut fastrand::Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * generator.f64()
}

/// The finaliser of SplitMix64: neighbouring seeds give unrelated streams.
fn mix(seed: u64) -> u64 {
    let first = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    second ^ (second >> 31)
}
