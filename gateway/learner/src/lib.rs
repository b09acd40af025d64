//! The learner: turns any numeric series, point by point, into a score of how unusual each point is, and at times into
//! an alarm with its reason. Nothing is configured; the length of the warm-up is an argument.
//!
//! * Five streams look at a point from different sides ([`Stream`]): what follows on what (short and long), what this
//!   hour of the day is like, where the level has gone, and whether the series was ever there.
//! * Each is calibrated by its own past to the logarithm of a tail probability, and the mean of the five is compared
//!   with a bar that rises with every alarm and sinks slowly.
//! * Strictly online: the score of a point follows from the points up to it, and from nothing else. No I/O, no clock,
//!   no randomness.
//! * The same score on every machine: only additions, multiplications, divisions and square roots, which IEEE 754
//!   defines to the last bit; logarithm and hyperbolic sine are written out here with these.
//! * A [`Learner`] can be serialised at any point, and goes on afterwards as if nothing had been.
//!
//! What was tried and what it is worth: docs/decisions/0014-what-is-unusual.md and docs/benchmarks.md.

mod arithmetic;
mod bar;
mod counts;
mod grid;
mod learner;
mod patterns;
mod reason;
mod rhythm;
mod tail;
mod tuning;

pub use bar::SCORE_ALARM;
pub use learner::{Learner, Mode, Moment, Verdict, WARMUP_POINTS_DEFAULT, WARMUP_POINTS_MAX, WARMUP_POINTS_MIN};
pub use reason::{Reason, STREAMS, Seen, Stream};
pub use tuning::{TUNING, Tuning};
