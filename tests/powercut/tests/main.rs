//! Cuts the power of a store at random moments and opens it again: what it called done is there, in order and whole,
//! and nobody has to help.
//!
//! `KERBSIDE_SEED` repeats a run, `KERBSIDE_ROUNDS` sets how many cuts there are. A session of the store is recorded
//! once and cut at many moments; the next session goes on from what one of the cuts left.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![expect(clippy::print_stderr, reason = "the seed belongs into the test's output")]

mod store;
mod trust;
mod work;

use fastrand::Rng;

/// Cuts when nobody says how many.
const ROUNDS: usize = 160;

/// The number in an environment variable.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The seed that was asked for, or a new one. It is printed, which shows when a test fails.
fn seed() -> u64 {
    let seed = number("KERBSIDE_SEED").unwrap_or_else(|| Rng::new().u64(..1 << 32));
    eprintln!("KERBSIDE_SEED={seed}");
    seed
}

fn rounds() -> usize {
    number("KERBSIDE_ROUNDS").map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap())
}
