//! The store: turns batches of inputs and what they changed into rows of one SQLite database, durably, and back.
//!
//! One writer thread owns the writing connection. A commit is one transaction: the raw batch (compressed), alarms,
//! cases, outbox, audit, undecoded frames, sometimes a snapshot of the engine. When it is on the disk (WAL,
//! `synchronous = FULL`), its `done` is called, and only then are sources acknowledged and sinks woken.
//!
//! **After a crash** everything whose `done` was called is there. The app loads [`Store::latest_snapshot`] and steps
//! the engine through [`Store::batches_after`]. Cursors of sinks may be a second old.
//!
//! **A disk that is full or fails** stops acknowledging: the commit is tried again until it works, and the component
//! `store` is down meanwhile. **A damaged database** is set aside at start and a new one is begun.
//!
//! **Quota.** Batches are kept until every telemetry sink and two snapshots have passed them. Over
//! `batches_bytes_max` the oldest are dropped, counted and reported; alarms, cases, outbox and audit never are.
//!
//! Metrics: `kerbside_store_commits_total`, `_commit_seconds`, `_commit_failures_total{reason}`, `_inputs_total`,
//! `_batch_bytes_total{kind}`, `_snapshots_total`, `_backlog_bytes`, `_backlog_batches`,
//! `_dropped_bytes_total{class}`, `_dropped_batches_total`, `_quota_exceeded`, `_undecoded`, `_unknown_devices`,
//! `_batches_damaged_total`, `_snapshots_damaged_total`, `_set_aside_total`.

mod batch;
mod effects;
mod error;
mod lock;
mod metrics;
mod open;
mod query;
mod quota;
mod schema;
mod sinks;
mod snapshot;
#[cfg(test)]
mod tests;
mod totals;
mod undecoded;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kerbside_model::site::{Site, SiteFacts};
use kerbside_model::{Alarm, Audit, Case, CaseEvent, OutboxRow};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health, Metrics};

pub use crate::batch::CodecError;
pub use crate::error::StoreError;
pub use crate::query::{
    AlarmQuery, AuditQuery, CaseQuery, OutboxQuery, OutboxView, PAGE_ITEMS, PAGE_ITEMS_MAX, Page, PageQuery,
    StoreStats, StoredBatch, UndecodedQuery, UndecodedRow, UnknownDevice,
};
pub use crate::quota::QuotaReport;
pub use crate::snapshot::{NewSnapshot, Snapshot};
pub use crate::writer::{Commit, Committed};

use crate::batch::{Encoder, OwnedBody};
use crate::lock::FolderLock;
use crate::metrics::StoreMetrics;
use crate::open::Opened;
use crate::query::Readers;
use crate::snapshot::PackedSite;
use crate::writer::{Common, Database, Job, PanicNotice, Writer};

/// Commits that wait for the writer; the engine works on the next one meanwhile.
const JOBS_MAX: usize = 2;

/// Where the store lies and how much it may keep.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder; made when it is not there.
    pub data_dir: PathBuf,
    /// Compressed bytes of batches that are kept for sinks and for a restart.
    pub batches_bytes_max: u64,
    /// Bytes of undecoded frames that are kept.
    pub undecoded_bytes_max: u64,
}

/// The open store. Cheap to clone; every method but [`Store::register_sinks`], [`Store::cursor`] and
/// [`Store::set_cursor`] blocks on the disk.
#[derive(Clone, Debug)]
pub struct Store(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    jobs: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    common: Arc<Common>,
    readers: Readers,
    metrics: StoreMetrics,
    path: PathBuf,
    batches_bytes_max: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.common.stop();
    }
}

impl Store {
    /// Locks the folder, makes or migrates the database, and starts the writer thread.
    pub fn open(config: StoreConfig, clock: Clock, metrics: &Metrics, health: &Health) -> Result<Store, StoreError> {
        let health = health.essential("store");
        let metrics = StoreMetrics::new(metrics);
        let lock = FolderLock::take(&config.data_dir)?;
        let Opened { connection, path, totals, sinks, set_aside } =
            open::open_or_replace(&config.data_dir, &clock, &metrics)?;
        let reader = || schema::open_reader(&path).map_err(|source| StoreError::Open { path: path.clone(), source });
        let readers = Readers::new(reader()?, reader()?);
        let common = Arc::new(Common::new(sinks, totals));
        let StoreConfig { data_dir, batches_bytes_max, undecoded_bytes_max } = config;
        let writer = Writer {
            database: Database::new(connection, Arc::clone(&common), batches_bytes_max, undecoded_bytes_max),
            encoder: Encoder::new(),
            metrics: metrics.clone(),
            health: health.clone(),
            standing: set_aside.as_deref().map(damage_detail),
            folder: data_dir,
            given_up: None,
            lock,
        };
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let thread = Mutex::new(Some(start(writer, receiver, health)?));
        Ok(Store(Arc::new(Handle { jobs, thread, common, readers, metrics, path, batches_bytes_max })))
    }

    /// Hands a commit to the writer; waits while two others wait. An error means that the writer has ended.
    pub fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.0.jobs.send(Job::Commit(Box::new(commit))).map_err(|_| StoreError::Closed)
    }

    /// Writes what was handed over, copies the log into the database, ends the thread and frees the lock.
    /// Of clones, the first one to call this does it.
    pub fn close(self) -> Result<(), StoreError> {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        self.0.common.stop();
        // An error means that the thread has ended already; joining it says why.
        drop(self.0.jobs.send(Job::Close));
        thread.join().unwrap_or(Err(StoreError::Closed))
    }

    /// The engine's state to start from: the newest snapshot that can be read and has every batch after it.
    pub fn latest_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        snapshot::latest(&self.0.readers.lists(), &self.0.metrics)
    }

    /// The site stored under this content hash.
    pub fn site(&self, hash: &str) -> Result<Option<SiteFacts>, StoreError> {
        snapshot::site(&self.0.readers.lists(), hash)
    }

    /// Stores a site under its content hash. To be called before a batch names it.
    pub fn save_site(&self, site: &Site) -> Result<(), StoreError> {
        let packed = PackedSite { hash: site.hash().to_owned(), body: OwnedBody::pack(site.facts()) };
        let (reply, answer) = sync_channel(1);
        self.0.jobs.send(Job::Site(packed, reply)).map_err(|_| StoreError::Closed)?;
        let written = answer.recv().map_err(|_| StoreError::Closed)?;
        written.map_err(|source| StoreError::Write { what: "a site", source })
    }

    /// Content hash of the site that was in force after this batch, as far as the kept batches and snapshots tell.
    pub fn site_after(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        snapshot::site_after(&self.0.readers.lists(), sequence).map_err(StoreError::read("the site in force"))
    }

    /// Batches after this one in order, up to about so many bytes of raw inputs, and at least one if there is one;
    /// empty at the end. A batch that cannot be read is an error with its number.
    pub fn batches_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<StoredBatch>, StoreError> {
        self.0.readers.batches_after(sequence, bytes_max)
    }

    /// The same for telemetry: a batch that cannot be read comes without inputs, is logged and counted once, and
    /// never stops the reader.
    pub fn readable_batches_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<StoredBatch>, StoreError> {
        self.0.readers.readable_batches_after(sequence, bytes_max, &self.0.metrics)
    }

    /// Number of the last committed batch, or 0.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        Ok(self.0.common.totals().sequence)
    }

    /// Outbox rows that are neither delivered nor dead, in the order in which they were written.
    pub fn outbox_open(&self) -> Result<Vec<OutboxRow>, StoreError> {
        query::outbox_open(&self.0.readers.lists())
    }

    /// Alarms that are active or stale, oldest first.
    pub fn alarms_open(&self) -> Result<Vec<Alarm>, StoreError> {
        query::alarms_open(&self.0.readers.lists())
    }

    /// Cases in no final state, and those whose newest episode still stands, oldest first.
    pub fn cases_open(&self) -> Result<Vec<Case>, StoreError> {
        query::cases_kept(&self.0.readers.lists())
    }

    /// The last batch that a telemetry sink is known to have, or 0.
    pub fn cursor(&self, sink: &str) -> Result<u64, StoreError> {
        Ok(self.0.common.sinks.cursor(sink))
    }

    /// Remembers how far a telemetry sink is. On the disk with the next commit, or within about a second; after a
    /// crash in between, the sink gets some batches again.
    pub fn set_cursor(&self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        self.0.common.sinks.set_cursor(sink, sequence);
        Ok(())
    }

    /// Names the telemetry sinks that batches are kept for. Until then nothing is deleted below the quota.
    pub fn register_sinks(&self, names: &[String]) {
        self.0.common.sinks.register(names);
    }

    /// Alarms, the newest first.
    pub fn alarms(&self, query: &AlarmQuery) -> Result<Page<Alarm>, StoreError> {
        query::alarms(&self.0.readers.lists(), query)
    }

    /// One alarm.
    pub fn alarm(&self, id: &str) -> Result<Option<Alarm>, StoreError> {
        query::alarm(&self.0.readers.lists(), id)
    }

    /// Cases, the newest first.
    pub fn cases(&self, query: &CaseQuery) -> Result<Page<Case>, StoreError> {
        query::cases(&self.0.readers.lists(), query)
    }

    /// One case with its history, the oldest line first.
    pub fn case(&self, id: &str) -> Result<Option<(Case, Vec<CaseEvent>)>, StoreError> {
        query::case(&self.0.readers.lists(), id)
    }

    /// Frames that gave no readings, the newest first.
    pub fn undecoded(&self, query: &UndecodedQuery) -> Result<Page<UndecodedRow>, StoreError> {
        query::undecoded(&self.0.readers.lists(), query)
    }

    /// Addresses that no device has, the one heard last first.
    pub fn unknown_devices(&self, query: &PageQuery) -> Result<Page<UnknownDevice>, StoreError> {
        query::unknown_devices(&self.0.readers.lists(), query)
    }

    /// What was or is to be delivered, the newest first.
    pub fn outbox(&self, query: &OutboxQuery) -> Result<Page<OutboxView>, StoreError> {
        query::outbox(&self.0.readers.lists(), query)
    }

    /// The audit log, the newest line first.
    pub fn audit(&self, query: &AuditQuery) -> Result<Page<Audit>, StoreError> {
        query::audit(&self.0.readers.lists(), query)
    }

    /// What is in the store.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let (oldest_batch_at, outbox_open) = query::oldest_and_open(&self.0.readers.lists())?;
        let totals = self.0.common.totals().clone();
        Ok(StoreStats {
            sequence: totals.sequence,
            batches: totals.batches,
            batches_bytes: totals.batches_bytes,
            batches_bytes_max: self.0.batches_bytes_max,
            oldest_batch_at,
            snapshot_sequence: (totals.snapshot_newest > 0).then_some(totals.snapshot_newest),
            outbox_open,
            undecoded: totals.undecoded,
            undecoded_bytes: totals.undecoded_bytes,
            unknown_devices: totals.unknown_devices,
            database_bytes: file_bytes(&self.0.path),
            log_bytes: file_bytes(&open::with_suffix(&self.0.path, "-wal")),
            cursors: self.0.common.sinks.cursors(),
            quota_exceeded: totals.excess.is_some(),
            dropped_batches: totals.dropped_batches,
            dropped_bytes: totals.dropped_bytes,
            dropped_undecoded: totals.dropped_undecoded,
        })
    }

    /// Limits the database to so many pages of 4096 bytes, as a full disk would; 0 lifts the limit.
    #[doc(hidden)]
    pub fn limit_pages(&self, pages_max: u32) {
        self.0.common.pages_max.store(pages_max, Ordering::Relaxed);
    }
}

fn start(
    writer: Writer,
    jobs: Receiver<Job>,
    health: HealthReporter,
) -> Result<JoinHandle<Result<(), StoreError>>, StoreError> {
    let work = move || {
        let _notice = PanicNotice(health);
        writer.run(&jobs)
    };
    std::thread::Builder::new().name("store-writer".to_owned()).spawn(work).map_err(StoreError::Thread)
}

fn damage_detail(aside: &Path) -> String {
    format!("the database was damaged and is set aside as {}; a new one was begun", aside.display())
}

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0)
}
