//! Where sinks meet the store without knowing it.

use std::sync::Arc;

use crate::reading::Observations;
use crate::site::Site;

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

/// Batches that were committed earlier and that a telemetry sink has not delivered yet.
pub trait Backlog: Send + Sync {
    /// Batches after `sequence` in order, decoded again, up to about `bytes_max` of raw frames; empty at the end.
    /// A hole in the numbers is what a quota dropped. Blocks on the disk.
    fn read_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError>;

    /// Remembers durably that the sink has everything up to and with `sequence`. Blocks on the disk.
    fn delivered_through(&self, sink: &str, sequence: u64) -> Result<(), BacklogError>;

    /// The last number that the sink was known to have, or 0.
    fn cursor(&self, sink: &str) -> Result<u64, BacklogError>;
}

/// The store could not give or take.
#[derive(Debug, thiserror::Error)]
#[error("access the backlog of the store")]
pub struct BacklogError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
