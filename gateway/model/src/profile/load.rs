//! What a lamp draws for what it is told to do, and values that jump and come back. Plain data, checked; the engine does
//! the work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A load is known for so many settings (dimming in steps of 10 %, or combinations of switches). 8 bytes each.
pub const LOAD_SETTINGS_MAX: usize = 10;
/// A setting is told from others by so many switches.
pub const LOAD_SWITCHES_MAX: usize = 12;
/// Spikes are counted up to here: one that comes more often than that is told long before. 8 bytes each.
pub const SPIKE_TIMES_MAX: i64 = 60;
/// A value that stays away for more readings than this has not jumped back.
pub const SPIKE_READINGS_MAX: i64 = 100;

/// A number that jumps and comes back, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spikes {
    /// It jumps by so much at least, in the point's unit, to either side.
    pub by: f64,
    /// It is away for so many readings at most; one that is away for longer has moved.
    pub readings: u8,
    /// ... and for so long at most, from the first reading that is away to the first one that is back.
    pub within: Option<Duration>,
    /// Raised at so many spikes ...
    pub times: u8,
    /// ... in this time ...
    pub window: Duration,
    /// ... and over when there are so many left in it.
    pub clear: u8,
}

/// What a lamp, or all lamps of a circuit, draw for what they are told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Positions of the points that say what is switched on; each is true or false. None for what is always on.
    pub switches: Vec<u16>,
    /// Position of the point with the dimming in percent; `None` for what is not dimmed.
    pub dimming: Option<u16>,
    /// What is drawn with all on and not dimmed, in the point's unit, until it is learnt; `None` to wait for that.
    pub rated: Option<f64>,
    /// A setting is known after so many readings.
    pub readings: u16,
    /// Less than this, in the point's unit, is a dark lamp and never learnt.
    pub least: f64,
    /// What is wrong.
    pub goal: LoadGoal,
}

/// What is wrong with a load, in percent of the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum LoadGoal {
    /// Too little for what is switched on: lamps are dark. What is off says nothing.
    Below {
        /// Raised at or below this ...
        raise: f64,
        /// ... and over at or above this.
        clear: f64,
    },
    /// Too much for nothing, of the load with all on: lamps burn, whatever the switches say.
    Above {
        /// Raised at or above this ...
        raise: f64,
        /// ... and over at or below this.
        clear: f64,
    },
    /// Too little or too much on most readings of so many nights running. What is off says nothing.
    Outside {
        /// Less than this is too little, ...
        min: f64,
        /// ... and more than this too much.
        max: f64,
        /// Nights, each from noon to noon.
        nights: u8,
    },
}
