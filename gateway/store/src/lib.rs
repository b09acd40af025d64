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
//! `store` is down meanwhile. **A damaged database** is set aside at start, and what can be read of it is salvaged
//! into a new one.
//!
//! **Quotas.** Batches are kept until every telemetry sink and two snapshots have passed them. Over
//! `batches_bytes_max` or `batches_age_max` the oldest are dropped, and so are undecoded frames over theirs; when the
//! disk has less than `free_bytes_min` free, batches go first and undecoded frames next. What goes is counted and is a
//! condition of its own ([`Store::conditions`]); alarms, cases, outbox and audit never go.
//!
//! Metrics: `kerbside_store_commits_total`, `_commit_seconds`, `_commit_failures_total{reason}`, `_refusing`,
//! `_refused_seconds_total`, `_inputs_total`, `_batch_bytes_total{kind}`, `_bytes_written_total`, `_syncs_total`,
//! `_written_today_bytes`, `_writes_per_day_bytes`, `_snapshots_total`, `_backlog_bytes`, `_backlog_batches`,
//! `_dropped_total{class,reason}`, `_dropped_bytes_total{class,reason}`, `_dropped_batches_total`, `_quota_exceeded`,
//! `_undecoded_exceeded`, `_disk_free_bytes`, `_disk_low`, `_undecoded`, `_undecoded_bytes`, `_unknown_devices`,
//! `_batches_damaged_total`, `_snapshots_damaged_total`, `_set_aside_total`, `_refused_points_total`,
//! `_refused_points_dropped_total`.

mod age;
mod batch;
mod conditions;
mod database;
mod effects;
mod error;
mod export;
#[doc(hidden)]
pub mod fuzzing;
mod lock;
mod metrics;
mod open;
mod query;
mod quota;
pub mod recording;
mod refused;
mod room;
mod salvage;
mod schema;
mod sinks;
mod snapshot;
#[cfg(test)]
mod tests;
mod totals;
mod undecoded;
mod verify;
mod wal;
mod wear;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kerbside_model::port::RefusedPoint;
use kerbside_model::site::{Site, SiteFacts};
use kerbside_model::{Alarm, Audit, Case, CaseEvent, OutboxRow};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Chain, Clock, Health, Metrics};
use tracing::error;

pub use crate::batch::CodecError;
pub use crate::conditions::{DiskLow, Dropping, Outage, OutageReason, OverBudget, StoreConditions};
pub use crate::error::StoreError;
pub use crate::export::{ExportedBatch, Overview, StoreReader};
pub use crate::query::{
    AlarmQuery, AuditQuery, CaseQuery, OutboxQuery, OutboxView, PAGE_ITEMS, PAGE_ITEMS_MAX, Page, PageQuery,
    StoreStats, StoredBatch, UndecodedQuery, UndecodedRow, UnknownDevice,
};
pub use crate::refused::{RefusedQuery, RefusedRow};
pub use crate::salvage::{SalvageReport, TableReport};
pub use crate::snapshot::{NewSnapshot, Snapshot};
pub use crate::verify::{Finding, Verification, verify};
pub use crate::writer::{Commit, Committed};

pub use crate::batch::Packing;
use crate::batch::{Encoder, OwnedBody};
use crate::database::Database;
use crate::lock::FolderLock;
use crate::metrics::StoreMetrics;
use crate::open::Opened;
use crate::query::Readers;
use crate::refused::{Refused, RefusedMetrics};
use crate::snapshot::PackedSite;
use crate::writer::{Common, Job, PanicNotice, Writer};

/// Commits that wait for the writer; the engine works on the next one meanwhile.
const JOBS_MAX: usize = 2;
/// A month: time enough to bring a database back, or to mend a profile.
const KEPT_MAX: Duration = Duration::from_secs(30 * 86_400);
/// An eMMC of 16 GB whose cells bear 3,000 cycles takes 48 TB, which is 12 GiB a day for ten years. A third of it is
/// left to what the card and the file system write for themselves. Ten commits a second, of a message each, all day
/// long write 7.5 GiB.
const WRITES_PER_DAY: u64 = 8 << 30;

/// Where the store lies, how much it may keep and how it treats the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data folder; made when it is not there.
    pub data_dir: PathBuf,
    /// Compressed bytes of batches that are kept for sinks and for a restart.
    pub batches_bytes_max: u64,
    /// A batch that some sink still has not had goes when it is older.
    pub batches_age_max: Duration,
    /// Bytes of undecoded frames that are kept.
    pub undecoded_bytes_max: u64,
    /// An undecoded frame goes when it is older.
    pub undecoded_age_max: Duration,
    /// Bytes that should stay free on the file system for alarms and cases, at most a tenth of it; 0 for no reserve.
    pub free_bytes_min: u64,
    /// The log is copied into the database when about so many bytes are in it. The larger it is, the less often a page
    /// that changes all the time is copied, and the longer is the file that a start after a crash has to read.
    pub log_bytes_max: u64,
    /// How the batches are packed.
    pub packing: Packing,
    /// Bytes that may be written in a day before somebody is told; `None` without a budget.
    pub writes_per_day: Option<u64>,
}

impl StoreConfig {
    /// The values of the preset `flash`.
    pub fn new(data_dir: PathBuf) -> StoreConfig {
        StoreConfig {
            data_dir,
            // About ten hours of a district's raw messages, while the database is away.
            batches_bytes_max: 2 << 30,
            batches_age_max: KEPT_MAX,
            undecoded_bytes_max: 64 << 20,
            undecoded_age_max: KEPT_MAX,
            free_bytes_min: 256 << 20,
            log_bytes_max: 8 << 20,
            packing: Packing::Zstd,
            writes_per_day: Some(WRITES_PER_DAY),
        }
    }
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
    refused_metrics: RefusedMetrics,
    path: PathBuf,
    batches_bytes_max: u64,
    /// A read met damage, and that was noted.
    is_suspect: AtomicBool,
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
        let refused_metrics = RefusedMetrics::new(metrics);
        let metrics = StoreMetrics::new(metrics);
        let lock = FolderLock::take(&config.data_dir)?;
        let Opened { connection, path, totals, sinks, standing } =
            open::open_or_replace(&config.data_dir, &clock, &metrics)?;
        let reader = || schema::open_reader(&path).map_err(|source| StoreError::Open { path: path.clone(), source });
        let readers = Readers::new(reader()?, reader()?);
        let common = Arc::new(Common::new(sinks, totals));
        let batches_bytes_max = config.batches_bytes_max;
        let database = Database::new(connection, Arc::clone(&common), &config, clock, metrics.clone())
            .map_err(|source| StoreError::Open { path: path.clone(), source })?;
        let writer = Writer {
            database,
            encoder: Encoder::new(config.packing),
            metrics: metrics.clone(),
            health: health.clone(),
            standing,
            folder: config.data_dir,
            given_up: None,
            is_house_unkept: false,
            lock,
        };
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let thread = Mutex::new(Some(start(writer, receiver, health)?));
        Ok(Store(Arc::new(Handle {
            jobs,
            thread,
            common,
            readers,
            metrics,
            refused_metrics,
            path,
            batches_bytes_max,
            is_suspect: AtomicBool::new(false),
        })))
    }

    /// Salvages a damaged database file, such as one that was set aside, into a folder that has no database yet.
    /// `progress` is told the table and its rows so far, now and then.
    pub fn salvage(
        file: &Path,
        folder: &Path,
        clock: &Clock,
        progress: &mut dyn FnMut(&str, u64),
    ) -> Result<SalvageReport, StoreError> {
        let _lock = FolderLock::take(folder)?;
        open::salvage_file(file, folder, clock.now(), progress)
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

    /// What was salvaged and lost when this database was last made out of a damaged one.
    pub fn last_salvage(&self) -> Result<Option<SalvageReport>, StoreError> {
        salvage::newest(&self.0.readers.lists())
    }

    /// Batches after this one in order, up to about so many bytes of raw inputs, and at least one if there is one;
    /// empty at the end. A batch that cannot be read is an error with its number.
    pub fn batches_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<StoredBatch>, StoreError> {
        self.noted(self.0.readers.batches_after(sequence, bytes_max))
    }

    /// The same for telemetry: a batch that cannot be read comes without inputs, is logged and counted once, and
    /// never stops the reader.
    pub fn readable_batches_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<StoredBatch>, StoreError> {
        let batches = self.0.readers.readable_batches_after(sequence, bytes_max, &self.0.metrics);
        if self.0.readers.has_met_damage() {
            self.note_damage("a page of a batch cannot be read");
        }
        self.noted(batches)
    }

    /// Number of the last committed batch, or 0.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        Ok(self.0.common.totals().sequence)
    }

    /// Outbox rows that are neither delivered nor dead, in the order in which they were written.
    pub fn outbox_open(&self) -> Result<Vec<OutboxRow>, StoreError> {
        self.noted(query::outbox_open(&self.0.readers.lists()))
    }

    /// Alarms that are active or stale, oldest first.
    pub fn alarms_open(&self) -> Result<Vec<Alarm>, StoreError> {
        self.noted(query::alarms_open(&self.0.readers.lists()))
    }

    /// Cases in no final state, and those whose newest episode still stands, oldest first.
    pub fn cases_open(&self) -> Result<Vec<Case>, StoreError> {
        self.noted(query::cases_kept(&self.0.readers.lists()))
    }

    /// The last batch that a telemetry sink is known to have, or 0.
    pub fn cursor(&self, sink: &str) -> Result<u64, StoreError> {
        Ok(self.0.common.sinks.cursor(sink))
    }

    /// Remembers how far a telemetry sink is. On the disk within about a second; after a crash before that, the sink gets
    /// some batches again.
    pub fn set_cursor(&self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        self.0.common.sinks.set_cursor(sink, sequence);
        Ok(())
    }

    /// Keeps lines that a sink's database refuses. On the disk when this returns; the oldest over the limits go.
    pub fn keep_refused(&self, sink: &str, points: &[RefusedPoint]) -> Result<(), StoreError> {
        let refused = Refused { sink: sink.to_owned(), points: points.to_vec() };
        let (reply, answer) = sync_channel(1);
        self.0.jobs.send(Job::Refused(refused, reply)).map_err(|_| StoreError::Closed)?;
        let written = answer.recv().map_err(|_| StoreError::Closed)?;
        let written = written.map_err(|source| StoreError::Write { what: "refused points", source })?;
        self.0.refused_metrics.count(written);
        Ok(())
    }

    /// Lines that a sink's database refused, the newest first.
    pub fn refused_points(&self, query: &RefusedQuery) -> Result<Page<RefusedRow>, StoreError> {
        self.noted(refused::list(&self.0.readers.lists(), query))
    }

    /// Names the telemetry sinks that batches are kept for. Until then nothing is deleted below the quota.
    pub fn register_sinks(&self, names: &[String]) {
        self.0.common.sinks.register(names);
    }

    /// Alarms, the newest first.
    pub fn alarms(&self, query: &AlarmQuery) -> Result<Page<Alarm>, StoreError> {
        self.noted(query::alarms(&self.0.readers.lists(), query))
    }

    /// One alarm.
    pub fn alarm(&self, id: &str) -> Result<Option<Alarm>, StoreError> {
        self.noted(query::alarm(&self.0.readers.lists(), id))
    }

    /// Cases, the newest first.
    pub fn cases(&self, query: &CaseQuery) -> Result<Page<Case>, StoreError> {
        self.noted(query::cases(&self.0.readers.lists(), query))
    }

    /// One case with its history, the oldest line first.
    pub fn case(&self, id: &str) -> Result<Option<(Case, Vec<CaseEvent>)>, StoreError> {
        self.noted(query::case(&self.0.readers.lists(), id))
    }

    /// Frames that gave no readings, the newest first.
    pub fn undecoded(&self, query: &UndecodedQuery) -> Result<Page<UndecodedRow>, StoreError> {
        self.noted(query::undecoded(&self.0.readers.lists(), query))
    }

    /// One undecoded frame by the number of its row.
    pub fn undecoded_frame(&self, number: u64) -> Result<Option<UndecodedRow>, StoreError> {
        self.noted(query::undecoded_frame(&self.0.readers.lists(), number))
    }

    /// Addresses that no device has, the one heard last first.
    pub fn unknown_devices(&self, query: &PageQuery) -> Result<Page<UnknownDevice>, StoreError> {
        self.noted(query::unknown_devices(&self.0.readers.lists(), query))
    }

    /// What was or is to be delivered, the newest first.
    pub fn outbox(&self, query: &OutboxQuery) -> Result<Page<OutboxView>, StoreError> {
        self.noted(query::outbox(&self.0.readers.lists(), query))
    }

    /// The audit log, the newest line first.
    pub fn audit(&self, query: &AuditQuery) -> Result<Page<Audit>, StoreError> {
        self.noted(query::audit(&self.0.readers.lists(), query))
    }

    /// What people must know of the store, as of about a second ago. Never blocks on the disk.
    pub fn conditions(&self) -> StoreConditions {
        self.0.common.conditions().clone()
    }

    /// Notes damage that a read met: the next start checks the whole database, and salvages it if need be.
    fn noted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(cause) = &read
            && cause.is_damage()
        {
            self.note_damage(&Chain(cause).to_string());
        }
        read
    }

    fn note_damage(&self, cause: &str) {
        if !self.0.is_suspect.swap(true, Ordering::Relaxed) {
            error!(cause, "a read met damage; the next start checks the database and salvages it");
            open::mark_suspect(self.0.path.parent().unwrap_or(Path::new(".")));
        }
    }

    /// What is in the store.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let (oldest_batch_at, outbox_open) = query::oldest_and_open(&self.0.readers.lists())?;
        let refused_points = refused::count(&self.0.readers.lists())?;
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
            refused_points,
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
        self.0.common.pretended.pages_max.store(pages_max, Ordering::Relaxed);
    }

    /// Pretends that the file system has so many bytes free; `None` asks it again.
    #[doc(hidden)]
    pub fn pretend_free_bytes(&self, free: Option<u64>) {
        self.0.common.pretended.free_bytes.store(free.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Lets things go by age at once, and not only when the clock was steady for an hour.
    #[doc(hidden)]
    pub fn skip_age_rest(&self) {
        self.0.common.pretended.skips_age_rest.store(true, Ordering::Relaxed);
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

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0)
}
