//! What detectors look for by counting: how much came in a time, how often a contact changed, and how far a value has
//! left what it was, little by little. Plain data, checked; the engine does the work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DayValue, Guard, Jump, Side};

/// The time of an amount is cut into so many parts; 4 bytes each.
pub const AMOUNT_PARTS: usize = 12;
/// More changes than this are not counted; 8 bytes each.
pub const CHANGES_MAX: u16 = 32;

/// How much has come in a time, such as rain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Raised at so much, in the point's unit, ...
    pub above: f64,
    /// ... and over at so much.
    pub clear: f64,
    /// In so long. The parts of it move on one by one, so that at most a twelfth of it is missing.
    pub within: Duration,
    /// What a reading is.
    pub counts: Counts,
    /// A step that no rain makes: a new gauge, a counter that was set.
    pub jump: Option<Jump>,
}

/// What a reading of an amount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// Everything so far; when it falls it began anew at 0.
    Total,
    /// What has come since the reading before.
    Each,
}

/// A contact or word that changes to and fro.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping {
    /// So many changes, 2 to [`CHANGES_MAX`], ...
    pub changes: u16,
    /// ... in so long. Over when there are no more than half of them.
    pub within: Duration,
}

/// A value that has left what it was, little by little: the sum of what its days are beyond the usual (CUSUM, Page
/// 1954).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Which direction is wrong.
    pub side: Side,
    /// So many spreads of a day count as none, above 0; half of the shift that is to be found.
    pub slack: f64,
    /// Raised when the rest sums up to so many spreads; over when it is back at none.
    pub limit: f64,
    /// A spread is never less than this, in the point's unit.
    pub least: f64,
    /// What stands for a day.
    pub of: DayValue,
    /// What is usual is learnt from so many days and stays.
    pub warm_up: u8,
    /// A reading counts only while all of these hold.
    pub learn_when: Vec<Guard>,
}
