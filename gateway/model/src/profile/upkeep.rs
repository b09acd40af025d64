//! What detectors look for in what keeps a device talking: its battery and its radio link. Plain data, checked; the
//! engine does the work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Trend;

/// A battery that comes to its end: by the charge that its messages and its sleep have taken, by the lowest voltage of
/// its days, and by the knee at the end of a lithium cell, whichever is first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    /// The lowest value of each day on its way to the end; it always falls to a limit within a time.
    pub course: Trend,
    /// A day whose lowest value is so much above that of the day before has a new battery; `None` where that is not
    /// seen.
    pub fresh: Option<f64>,
    /// How far a cold cell is below itself; `None` where nobody knows the temperature.
    pub temperature: Option<Warmth>,
    /// The knee at the end of a cell that is flat until then.
    pub knee: Option<Knee>,
    /// What it holds and what is taken from it; `None` where the maker tells neither.
    pub charge: Option<Charge>,
}

/// The voltage of a cell at another temperature than 20 degC.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warmth {
    /// Position of the point with the temperature in degC.
    pub point: u16,
    /// Added to a reading for each degree below 20 degC, in the reading's unit; taken away above.
    pub per_degree: f64,
}

/// When a cell that was flat for years is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The lowest value of the day is below this, in the point's unit, ...
    pub below: f64,
    /// ... on so many days running, 1 to 30.
    pub days: u8,
    /// Or it falls by so much in a week.
    pub falls_per_week: f64,
}

/// What a battery holds and what is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// What it gives at the current and temperature in the street, in mAh.
    pub capacity_mah: f64,
    /// What one message takes, with its share of retries, in mAh.
    pub message_mah: f64,
    /// What it draws between messages, in uA, with its self-discharge.
    pub sleep_ua: f64,
}

/// Uplinks that never came, by the gaps in the frame counter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Raised when so many of a hundred are lost, above 0 and below 100 ...
    pub above_percent: f64,
    /// ... and over at so many.
    pub clear_percent: f64,
    /// About so many last uplinks count; nothing is said before so many were sent.
    pub uplinks: u16,
}

impl Battery {
    /// Raised when the end comes within this time; over when it is twice as far away.
    pub fn within(&self) -> Duration {
        match self.course.goal {
            super::TrendGoal::Reaches { within, .. } => within,
            super::TrendGoal::Change { per, .. } => per,
        }
    }
}
