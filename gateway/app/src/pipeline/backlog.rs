//! Batches read back from the store and decoded again, for a telemetry sink that fell behind.

use std::sync::Arc;

use kerbside_engine::decode::{Decoders, decode_again};
use kerbside_model::port::{Backlog, BacklogError, TelemetryBatch};
use kerbside_model::{Site, StoredInput};
use kerbside_store::{Store, StoreError};

/// The store as telemetry sinks see it. Frames are decoded with the site of today: a mended profile mends the past.
#[derive(Debug)]
pub struct StoreBacklog {
    store: Store,
    site: Arc<Site>,
    decoders: Decoders,
}

impl StoreBacklog {
    /// A backlog that decodes with this site.
    pub fn new(store: Store, site: Arc<Site>) -> StoreBacklog {
        let decoders = Decoders::new(&site);
        StoreBacklog { store, site, decoders }
    }
}

fn failed(error: StoreError) -> BacklogError {
    BacklogError(Box::new(error))
}

impl Backlog for StoreBacklog {
    fn read_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError> {
        let batches = self.store.readable_batches_after(sequence, bytes_max).map_err(failed)?;
        let mut telemetry = Vec::with_capacity(batches.len());
        for batch in batches {
            let frames = batch.inputs.iter().filter_map(|input| match input {
                StoredInput::Frame(frame) => Some(frame),
                _ => None,
            });
            let observations = Arc::new(decode_again(&self.site, &self.decoders, frames));
            telemetry.push(TelemetryBatch { sequence: batch.sequence, site: Arc::clone(&self.site), observations });
        }
        Ok(telemetry)
    }

    fn delivered_through(&self, sink: &str, sequence: u64) -> Result<(), BacklogError> {
        self.store.set_cursor(sink, sequence).map_err(failed)
    }

    fn cursor(&self, sink: &str) -> Result<u64, BacklogError> {
        self.store.cursor(sink).map_err(failed)
    }
}
