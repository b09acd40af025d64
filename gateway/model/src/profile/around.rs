//! What must be so around a device for a detector to find something: the weather in its catchment, and the water
//! downstream. Plain data, checked; the engine knows the answers.

use serde::{Deserialize, Serialize};

/// What must be so around a device. All that is given must hold, and be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// Whether it must be dry or wet in the catchment.
    pub weather: Option<Weather>,
    /// How the water must stand at the device that is named as downstream.
    pub downstream: Option<Downstream>,
}

/// Whether rain runs off in a catchment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weather {
    /// No rain to speak of for hours.
    Dry,
    /// It rains, or did a few hours ago.
    Wet,
    /// Not known to be wet: also where nobody watches the weather.
    NotWet,
}

/// How the water stands downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downstream {
    /// Higher than it otherwise is.
    High,
    /// Not known to be high.
    NotHigh,
}
