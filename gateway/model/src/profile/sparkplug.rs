//! Messages of Sparkplug B in a profile.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How messages of Sparkplug B are read: points by the names of metrics, times by the timestamps of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparkplugFormat {
    /// The node's clock is wrong when it is off by more than this.
    pub drift_max: Duration,
}
