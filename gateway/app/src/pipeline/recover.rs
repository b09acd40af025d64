//! The engine as it was when the process ended: the last snapshot, stepped through the batches after it. Their effects
//! are in the database already, so they are dropped here: no alarm is raised twice, no hold timer starts afresh.

use std::sync::Arc;

use kerbside_engine::Engine;
use kerbside_model::{Input, Site, StoredInput, Timestamp};
use kerbside_runtime::Chain;
use kerbside_store::{Snapshot, Store, StoreError, StoredBatch};
use tracing::{info, warn};

/// Batches read from the disk at once during a replay.
const REPLAY_BYTES: usize = 4 << 20;

/// Why the engine could not be rebuilt from snapshot and batches. The tables are used then.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error("read the store")]
    Store(#[source] StoreError),
    #[error("read the snapshot")]
    Snapshot(#[source] kerbside_engine::RestoreError),
    #[error("find the site {0} that a batch or snapshot names")]
    UnknownSite(String),
    #[error("find batch {0}: the batches after the snapshot have a hole")]
    Hole(u64),
}

/// Rebuilds the engine. `site` is today's; it serves when nothing was stored yet, or when the tables must be used.
pub fn recover(store: &Store, site: &Arc<Site>, now: Timestamp) -> Result<Engine, StoreError> {
    let last = store.last_sequence()?;
    if last == 0 {
        return Ok(Engine::new(Arc::clone(site)));
    }
    match replay(store, site, last) {
        Ok((engine, replayed)) => {
            info!(last_batch = last, replayed, open_cases = engine.open_cases(), "state restored");
            Ok(engine)
        }
        Err(error) => {
            warn!(
                error = %Chain(&error),
                "the snapshot cannot be used: alarms and cases are taken from the tables, detectors warm up again"
            );
            Ok(Engine::from_tables(Arc::clone(site), store.alarms_open()?, store.cases_open()?, now))
        }
    }
}

pub(super) fn replay(store: &Store, site: &Arc<Site>, last: u64) -> Result<(Engine, u64), ReplayError> {
    let snapshot = store.latest_snapshot().map_err(ReplayError::Store)?;
    let (mut engine, mut sequence) = match snapshot {
        Some(snapshot) => from_snapshot(store, &snapshot)?,
        None => (Engine::new(Arc::clone(site)), 0),
    };
    let first = sequence;
    loop {
        let batches = store.batches_after(sequence, REPLAY_BYTES).map_err(ReplayError::Store)?;
        if batches.is_empty() {
            // Without a snapshot that can be read, and with every batch gone, there would be nothing to begin with.
            if sequence < last {
                return Err(ReplayError::Hole(sequence + 1));
            }
            return Ok((engine, sequence - first));
        }
        for batch in batches {
            if batch.sequence != sequence + 1 {
                return Err(ReplayError::Hole(sequence + 1));
            }
            sequence = batch.sequence;
            step_again(store, &mut engine, batch)?;
        }
    }
}

fn from_snapshot(store: &Store, snapshot: &Snapshot) -> Result<(Engine, u64), ReplayError> {
    let site = stored_site(store, &snapshot.site_hash)?;
    let engine = Engine::restore(site, snapshot.engine_version, &snapshot.body).map_err(ReplayError::Snapshot)?;
    Ok((engine, snapshot.sequence))
}

fn step_again(store: &Store, engine: &mut Engine, batch: StoredBatch) -> Result<(), ReplayError> {
    let mut inputs = Vec::with_capacity(batch.inputs.len());
    for input in batch.inputs {
        inputs.push(match input {
            StoredInput::Frame(frame) => Input::Frame(frame),
            StoredInput::Site(hash) => Input::Site(stored_site(store, &hash)?),
            StoredInput::Operator(action) => Input::Operator(action),
            StoredInput::Delivery(delivery) => Input::Delivery(delivery),
            StoredInput::Platform(status) => Input::Platform(status),
            StoredInput::Source(status) => Input::Source(status),
            StoredInput::Gateway(condition) => Input::Gateway(condition),
        });
    }
    // Already in the database.
    drop(engine.step(batch.now, &inputs));
    Ok(())
}

fn stored_site(store: &Store, hash: &str) -> Result<Arc<Site>, ReplayError> {
    let facts = store.site(hash).map_err(ReplayError::Store)?;
    let facts = facts.ok_or_else(|| ReplayError::UnknownSite(hash.to_owned()))?;
    Ok(Arc::new(Site::new(facts)))
}
