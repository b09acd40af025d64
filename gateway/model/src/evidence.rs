//! Evidence (依据): what made an alarm.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::reading::{Flag, Value};

/// Rule, value, limits and what was ruled out when an alarm was raised or grew worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Name of the profile.
    pub profile: String,
    /// Its version.
    pub profile_version: u32,
    /// Which of its detectors, from 0 in the order of the file.
    pub detector: u16,
    /// The rule's name, such as `threshold`.
    pub rule: String,
    /// Name of the point that it watches; empty for silence.
    pub point: String,
    /// The value that raised it.
    pub value: Option<Value>,
    /// The flag of that reading.
    pub flag: Option<Flag>,
    /// When that was observed.
    pub observed_at: Option<Timestamp>,
    /// At or beyond this it is raised, where the rule has a limit.
    pub limit: Option<f64>,
    /// At or inside this it is over.
    pub clear: Option<f64>,
    /// Since when it was wrong; of silence, when the device was heard last.
    pub since: Timestamp,
    /// The same and more in sentences.
    pub grounds: Vec<Ground>,
}

/// One sentence in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// In English.
    pub en: String,
    /// In Chinese.
    pub zh: String,
}
