//! Where sinks meet the store without knowing it.

use std::sync::Arc;

use crate::reading::Observations;
use crate::site::Site;
use crate::time::Timestamp;

/// Observations of one committed batch, on their way to the database.
#[derive(Clone, Debug)]
pub struct TelemetryBatch {
    /// Number of the batch in the store.
    pub sequence: u64,
    /// The site that the indices point into.
    pub site: Arc<Site>,
    /// The observations.
    pub observations: Arc<Observations>,
}

/// A line that the telemetry database refuses for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPoint {
    /// Id of the device.
    pub device: String,
    /// The line as it was sent.
    pub line: String,
    /// What the database says is wrong with it.
    pub reason: String,
    /// When it was refused.
    pub at: Timestamp,
}

/// Batches that were committed earlier and that a telemetry sink has not delivered yet.
pub trait Backlog: Send + Sync {
    /// Batches after `sequence` in order, decoded again, up to about `bytes_max` of raw frames; empty at the end.
    /// A hole in the numbers is what a quota dropped. Blocks on the disk.
    fn read_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError>;

    /// Remembers durably that the sink has everything up to and with `sequence`. Blocks on the disk.
    fn delivered_through(&self, sink: &str, sequence: u64) -> Result<(), BacklogError>;

    /// The last number that the sink was known to have, or 0.
    fn cursor(&self, sink: &str) -> Result<u64, BacklogError>;

    /// Keeps lines that the sink's database refuses, durably, so that the sink can go on behind them. Blocks on the
    /// disk.
    fn keep_refused(&self, sink: &str, points: &[RefusedPoint]) -> Result<(), BacklogError>;
}

/// Why the backlog gives or takes nothing now.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The store could not give or take.
    #[error("access the backlog of the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing is wrong: what comes next is kept and must wait. In words for people, that begin with what it waits for.
    #[error("{0}")]
    Waits(String),
}
