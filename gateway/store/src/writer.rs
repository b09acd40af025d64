//! The writer thread: turns commits into transactions, one after another, and then says so.
//!
//! A commit that the disk refuses (full, I/O error, failed sync) is rolled back and tried again until it works or the
//! store is closed. Nothing after it is written before it, and nothing is acknowledged meanwhile: later commits were
//! computed from it. House-keeping (cursors, deletions) rides in the transactions of commits, or in one of its own
//! when nothing is committed for a while. The log is copied into the database after the acknowledgement, not before.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kerbside_model::{Effects, StoredInput, Timestamp};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Backoff, Chain, Clock};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tracing::{error, info, warn};

use crate::batch::{BODY_FORMAT, Encoder, OwnedBody, Packed};
use crate::error::StoreError;
use crate::lock::FolderLock;
use crate::metrics::{Dropped, StoreMetrics};
use crate::quota::{self, Limits, QuotaReport};
use crate::sinks::Sinks;
use crate::snapshot::{self, NewSnapshot, PackedSite, PackedSnapshot};
use crate::totals::Totals;
use crate::{effects, open, undecoded};

/// Waits between tries of a commit that the disk refuses.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Deletions and, when nothing is committed, cursors wait so long.
const HOUSEKEEPING_INTERVAL: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };
/// The log is copied into the database when about so many bytes are in it. Small enough for a quick start and few
/// pages in the cache, large enough that a page which changes often is copied once and not every time.
const LOG_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Bytes that a commit writes to the log beside its body: about six changed pages.
const LOG_BYTES_PER_COMMIT: u64 = 24 * 1024;
/// Free pages are given back to the file system when more than this lie in the file and they are most of it.
const FREE_PAGES_MAX: u64 = 4096;
/// Pages given back at once.
const FREED_PAGES: u32 = 512;

/// What one step of the pipeline hands over.
pub struct Commit {
    /// The engine's time of the step.
    pub now: Timestamp,
    /// What the engine was told, in order.
    pub inputs: Vec<StoredInput>,
    /// What it changed.
    pub effects: Effects,
    /// The state after it, when one is due.
    pub snapshot: Option<NewSnapshot>,
    /// Called on the writer thread once everything is on the disk, and never otherwise. Must be quick, and must not
    /// hand over a commit itself.
    pub done: Box<dyn FnOnce(Committed) + Send>,
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Commit")
            .field("now", &self.now)
            .field("inputs", &self.inputs.len())
            .field("snapshot", &self.snapshot.is_some())
            .finish_non_exhaustive()
    }
}

/// What became of a commit.
#[derive(Debug)]
pub struct Committed {
    /// Number of its batch; of the batch before, when there was nothing to write.
    pub sequence: u64,
    /// The effects, handed back for the sinks.
    pub effects: Effects,
    /// The quota began to drop batches with this commit, or no longer does.
    pub quota: Option<QuotaReport>,
    /// The next commit should carry a snapshot.
    pub wants_snapshot: bool,
}

/// What the writer is asked to do.
pub(crate) enum Job {
    Commit(Box<Commit>),
    Site(PackedSite, SyncSender<rusqlite::Result<()>>),
    Close,
}

/// What the writer and the handles share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) sinks: Sinks,
    totals: Mutex<Totals>,
    stopping: Mutex<bool>,
    stopped: Condvar,
    /// Largest size of the database in pages; 0 when only the disk limits it.
    pub(crate) pages_max: AtomicU32,
}

impl Common {
    pub(crate) fn new(sinks: Sinks, totals: Totals) -> Common {
        Common {
            sinks,
            totals: Mutex::new(totals),
            stopping: Mutex::new(false),
            stopped: Condvar::new(),
            pages_max: AtomicU32::new(0),
        }
    }

    /// The sums after the last commit.
    pub(crate) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a commit that fails is given up.
    pub(crate) fn stop(&self) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }

    /// Waits; returns whether the store is being closed.
    fn wait(&self, wait: Duration) -> bool {
        let guard = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.stopped.wait_timeout_while(guard, wait, |stopping| !*stopping);
        *result.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The thread's state.
pub(crate) struct Writer {
    pub(crate) database: Database,
    pub(crate) encoder: Encoder,
    pub(crate) metrics: StoreMetrics,
    pub(crate) health: HealthReporter,
    /// What stays wrong although commits work.
    pub(crate) standing: Option<String>,
    pub(crate) folder: PathBuf,
    /// Set when a commit was given up because the store is being closed.
    pub(crate) given_up: Option<GivenUp>,
    /// Freed when the thread ends, after the last write.
    pub(crate) lock: FolderLock,
}

pub(crate) struct GivenUp {
    commits: u64,
    source: rusqlite::Error,
}

impl Writer {
    /// Works until the store is closed or nobody holds a handle any more.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) -> Result<(), StoreError> {
        self.metrics.show(&self.database.totals);
        self.show_ok();
        loop {
            match jobs.recv_timeout(HOUSEKEEPING_INTERVAL) {
                Ok(Job::Commit(commit)) => self.commit(*commit),
                Ok(Job::Site(site, reply)) => drop(reply.send(self.database.write_site(&site))),
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.keep_house(),
            }
        }
        self.end()
    }

    fn commit(&mut self, commit: Commit) {
        if let Some(given_up) = &mut self.given_up {
            given_up.commits += 1;
            return;
        }
        let Commit { now, inputs, effects, snapshot, done } = commit;
        if inputs.is_empty() && snapshot.is_none() && effects::is_nothing(&effects) {
            done(self.database.committed(effects, None));
            return;
        }
        let (quota, tries) = match self.write(now, inputs, &effects, snapshot) {
            Ok(written) => written,
            Err(source) => {
                self.given_up = Some(GivenUp { commits: 1, source });
                return;
            }
        };
        self.metrics.show(&self.database.totals);
        if tries > 0 {
            self.show_ok();
            info!(tries, "the disk takes commits again");
        }
        if let Some(report) = quota {
            log_quota(report);
        }
        done(self.database.committed(effects, quota));
        self.encoder.shrink();
        self.database.copy_log_if_large();
    }

    /// Packs and writes, until it works. Returns the quota's report and the failed tries before.
    fn write(
        &mut self,
        now: Timestamp,
        inputs: Vec<StoredInput>,
        effects: &Effects,
        snapshot: Option<NewSnapshot>,
    ) -> rusqlite::Result<(Option<QuotaReport>, u32)> {
        let started = Clock::stamp();
        let parts = Parts {
            now,
            inputs: inputs.len() as u64,
            site: snapshot::last_site_change(&inputs).map(str::to_owned),
            packed: self.encoder.pack(&inputs),
            snapshot: snapshot.map(PackedSnapshot::new),
            effects,
        };
        drop(inputs);
        let retry = Retry { metrics: &self.metrics, health: &self.health, folder: &self.folder };
        let written = retry.until_written(&mut self.database, &parts)?;
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.inputs.inc_by(parts.inputs);
        self.metrics.raw_bytes.inc_by(parts.packed.raw_bytes);
        self.metrics.stored_bytes.inc_by(parts.packed.body.len() as u64);
        self.metrics.snapshots.inc_by(u64::from(parts.snapshot.is_some()));
        self.metrics.count_dropped(&written.dropped);
        Ok((written.quota, written.tries))
    }

    fn show_ok(&self) {
        match &self.standing {
            Some(detail) => self.health.degraded(detail.as_str()),
            None => self.health.ok(),
        };
    }

    fn keep_house(&mut self) {
        if self.given_up.is_some() {
            return;
        }
        match self.database.keep_house() {
            Ok(()) => self.metrics.show(&self.database.totals),
            Err(cause) => warn!(cause = %Chain(&cause), "house-keeping of the store failed and will be tried again"),
        }
    }

    fn end(self) -> Result<(), StoreError> {
        let Writer { mut database, given_up, lock, .. } = self;
        let kept = database.write_cursors().and_then(|()| database.copy_log("TRUNCATE"));
        drop(database);
        drop(lock);
        if let Some(GivenUp { commits, source }) = given_up {
            return Err(StoreError::Unwritten { commits, source });
        }
        kept.map_err(|source| StoreError::Write { what: "the last cursors and the log into the database", source })
    }
}

/// Tells the health when the writer thread panics.
pub(crate) struct PanicNotice(pub(crate) HealthReporter);

impl Drop for PanicNotice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.down("the writer thread of the store has panicked: nothing is committed any more");
            error!("the writer thread of the store has panicked");
        }
    }
}

fn log_quota(report: QuotaReport) {
    let QuotaReport { exceeded, batches_dropped, bytes_dropped } = report;
    if exceeded {
        error!(batches_dropped, bytes_dropped, "the telemetry quota is full: the oldest batches are being dropped");
    } else {
        info!(batches_dropped, bytes_dropped, "the telemetry quota has room again");
    }
}

impl PackedSnapshot {
    fn new(snapshot: NewSnapshot) -> PackedSnapshot {
        PackedSnapshot {
            engine_version: snapshot.engine_version,
            site_hash: snapshot.site_hash,
            body: OwnedBody::pack_bytes(&snapshot.body),
        }
    }
}

/// A commit, packed once and then written as often as it takes.
struct Parts<'a> {
    now: Timestamp,
    inputs: u64,
    site: Option<String>,
    packed: Packed<'a>,
    snapshot: Option<PackedSnapshot>,
    effects: &'a Effects,
}

/// What a transaction did beside writing its parts.
struct Written {
    quota: Option<QuotaReport>,
    dropped: Dropped,
    /// Failed tries before.
    tries: u32,
}

/// Tries a commit until the disk takes it.
struct Retry<'a> {
    metrics: &'a StoreMetrics,
    health: &'a HealthReporter,
    folder: &'a PathBuf,
}

impl Retry<'_> {
    /// The error is returned when the store is being closed.
    fn until_written(&self, database: &mut Database, parts: &Parts<'_>) -> rusqlite::Result<Written> {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let failure = match database.write(parts) {
                Ok((quota, dropped)) => return Ok(Written { quota, dropped, tries: backoff.tries() }),
                Err(failure) => failure,
            };
            self.report(&failure, backoff.tries());
            if database.common.wait(backoff.next_wait()) {
                return Err(failure);
            }
        }
    }

    fn report(&self, failure: &rusqlite::Error, tries: u32) {
        let (reason, words) = match failure.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ("full", "the disk is full; nothing is acknowledged until there is room"),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                ("damaged", "the database is damaged; nothing is acknowledged; a restart checks it and sets it aside")
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                ("io", "the disk refuses writes; nothing is acknowledged until it takes them")
            }
            _ => ("other", "the database refuses the commit; nothing is acknowledged until it takes it"),
        };
        self.metrics.commit_failures.with_label_values(&[reason]).inc();
        let is_news = self.health.down(format!("{words} ({})", Chain(failure)));
        if is_news || tries == 0 {
            error!(reason, cause = %Chain(failure), "a commit failed and will be tried again");
        }
        if tries == 0 && open::is_damage(failure) {
            open::mark_suspect(self.folder);
        }
    }
}

/// The writing connection with the sums that belong to it.
pub(crate) struct Database {
    connection: Connection,
    common: Arc<Common>,
    totals: Totals,
    batches_bytes_max: u64,
    undecoded_bytes_max: u64,
    pages_max: u32,
    pruned_at: Instant,
    is_prune_unfinished: bool,
    log_bytes: u64,
}

impl Database {
    pub(crate) fn new(
        connection: Connection,
        common: Arc<Common>,
        batches_bytes_max: u64,
        undecoded_bytes_max: u64,
    ) -> Database {
        let totals = common.totals().clone();
        Database {
            connection,
            common,
            totals,
            batches_bytes_max,
            undecoded_bytes_max,
            pages_max: 0,
            pruned_at: Clock::stamp(),
            is_prune_unfinished: false,
            log_bytes: 0,
        }
    }

    fn committed(&self, effects: Effects, quota: Option<QuotaReport>) -> Committed {
        // The cursors do not matter for snapshots.
        let wants_snapshot = self.limits(0).wants_snapshot(&self.totals);
        Committed { sequence: self.totals.sequence, effects, quota, wants_snapshot }
    }

    fn limits(&self, delivered: u64) -> Limits {
        Limits { batches_bytes_max: self.batches_bytes_max, delivered }
    }

    /// Writes one commit with all that belongs to it, or nothing.
    fn write(&mut self, parts: &Parts<'_>) -> rusqlite::Result<(Option<QuotaReport>, Dropped)> {
        self.prepare()?;
        let view = self.common.sinks.view();
        let limits = self.limits(view.delivered);
        let mut totals = self.totals.clone();
        let mut dropped = Dropped::default();
        let is_prune_due = self.is_prune_unfinished || self.pruned_at.elapsed() >= HOUSEKEEPING_INTERVAL;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        insert_batch(&transaction, parts, &mut totals)?;
        effects::write(&transaction, parts.effects, parts.now)?;
        let undecoded = &parts.effects.undecoded;
        if !undecoded.is_empty() {
            undecoded::write(&transaction, undecoded, self.undecoded_bytes_max, &mut totals, &mut dropped)?;
        }
        if let Some(hash) = &parts.site {
            snapshot::write_site_change(&transaction, totals.sequence, hash)?;
        }
        if let Some(snapshot) = &parts.snapshot {
            snapshot::write(&transaction, snapshot, &mut totals)?;
        }
        view.write(&transaction)?;
        let must_prune = limits.is_exceeded(&totals) || (is_prune_due && limits.has_spent(&totals));
        let pruned =
            if must_prune { Some(quota::prune(&transaction, &limits, &mut totals, &mut dropped)?) } else { None };
        let quota = quota::report(&self.totals, &mut totals, self.batches_bytes_max);
        let has_pruned = pruned.is_some_and(|pruned| pruned.batches > 0);
        if has_pruned || quota.is_some() || parts.snapshot.is_some() || !undecoded.is_empty() {
            totals.save(&transaction)?;
        }
        transaction.commit()?;
        if let Some(pruned) = pruned {
            self.pruned_at = Clock::stamp();
            self.is_prune_unfinished = pruned.is_unfinished;
        }
        self.log_bytes += parts.packed.body.len() as u64 + LOG_BYTES_PER_COMMIT;
        self.common.sinks.written(&view);
        self.publish(totals);
        Ok((quota, dropped))
    }

    fn write_site(&mut self, site: &PackedSite) -> rusqlite::Result<()> {
        self.prepare()?;
        self.log_bytes += site.body.body.len() as u64;
        snapshot::write_site(&self.connection, site, self.totals.sequence)
    }

    /// Writes cursors and deletes what nobody needs, when no commit did so.
    fn keep_house(&mut self) -> rusqlite::Result<()> {
        let view = self.common.sinks.view();
        // Over the quota only a commit drops batches, because only a commit can report it.
        let limits = Limits { batches_bytes_max: u64::MAX, delivered: view.delivered };
        let has_spent = limits.has_spent(&self.totals);
        if view.is_unwritten() || has_spent {
            self.prepare()?;
            let mut totals = self.totals.clone();
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            view.write(&transaction)?;
            if has_spent {
                quota::prune(&transaction, &limits, &mut totals, &mut Dropped::default())?;
                totals.save(&transaction)?;
            }
            transaction.commit()?;
            self.common.sinks.written(&view);
            self.publish(totals);
        }
        self.give_back_pages()
    }

    fn write_cursors(&mut self) -> rusqlite::Result<()> {
        let view = self.common.sinks.view();
        self.prepare()?;
        view.write(&self.connection)?;
        self.common.sinks.written(&view);
        Ok(())
    }

    fn publish(&mut self, totals: Totals) {
        self.common.totals().clone_from(&totals);
        self.totals = totals;
    }

    /// Makes sure that no transaction is open, and sets a new limit of pages.
    fn prepare(&mut self) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        let pages_max = self.common.pages_max.load(Ordering::Relaxed);
        if pages_max != self.pages_max {
            let pragma = if pages_max == 0 { u32::MAX - 1 } else { pages_max };
            self.connection.pragma_update_and_check(None, "max_page_count", pragma, |_| Ok(()))?;
            self.pages_max = pages_max;
        }
        Ok(())
    }

    fn copy_log_if_large(&mut self) {
        if self.log_bytes < LOG_BYTES_MAX {
            return;
        }
        self.log_bytes = 0;
        if let Err(cause) = self.copy_log("PASSIVE") {
            warn!(cause = %Chain(&cause), "the log could not be copied into the database; it grows until that works");
        }
    }

    fn copy_log(&self, mode: &str) -> rusqlite::Result<()> {
        self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    }

    fn give_back_pages(&self) -> rusqlite::Result<()> {
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let free = pragma("freelist_count")?;
        if free <= FREE_PAGES_MAX || free <= pragma("page_count")? / 2 {
            return Ok(());
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({FREED_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

fn insert_batch(connection: &Connection, parts: &Parts<'_>, totals: &mut Totals) -> rusqlite::Result<()> {
    let bytes = parts.packed.body.len() as u64;
    totals.sequence += 1;
    totals.batches += 1;
    totals.batches_bytes += bytes;
    totals.since_snapshot_bytes += bytes;
    connection
        .prepare_cached(
            "INSERT INTO batches(sequence, at, inputs, raw_bytes, bytes, format, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            totals.sequence,
            parts.now.as_millis(),
            parts.inputs,
            parts.packed.raw_bytes,
            bytes,
            BODY_FORMAT,
            parts.packed.body,
        ])?;
    Ok(())
}
