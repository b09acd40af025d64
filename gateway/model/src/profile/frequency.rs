//! The rule that counts events, such as how often a cover is shaken, against what is usual at that hour of the week.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Far more events than are usual at this hour of the week.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frequency {
    /// How events are told from a number that comes and goes; `None` for a point that is a counter and only grows.
    pub hits: Option<Hits>,
    /// So many events come by chance less often than once in so many hours; above 1.
    pub one_in: f64,
    /// Events are summed up over so long at least before they are judged.
    pub window: Duration,
    /// They must be so rare for so long, in two windows at least where a window is shorter.
    pub lasts: Duration,
    /// Fewer than so many times the usual number are never wrong, above 1: traffic varies by more than chance does.
    pub times: f64,
    /// Fewer events an hour than this are never wrong.
    pub least: f64,
    /// It is judged after it was counted for so many days.
    pub warm_up: u8,
}

/// An event is a number that goes away from where it stands and comes back: a wheel that rolls over a cover.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    /// By so much at least, in the point's unit, to either side ...
    pub by: f64,
    /// ... and back to within so much of where it stood ...
    pub back: f64,
    /// ... before so long. What stays longer is no hit.
    pub within: Duration,
}
