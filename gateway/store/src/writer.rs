//! The writer thread: turns commits into transactions, one after another, and then says so.
//!
//! A commit that the disk refuses (full, I/O error, failed sync) is rolled back and tried again until it works or the
//! store is closed. Nothing after it is written before it, and nothing is acknowledged meanwhile: later commits were
//! computed from it. When it meets damage twice the thread ends, and the gateway with it: the next start salvages. The
//! log is copied into the database after the acknowledgement, not before.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kerbside_model::{Effects, StoredInput, Timestamp};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Backoff, Chain, Clock};
use rusqlite::ErrorCode;
use tracing::{debug, error, warn};

use crate::batch::{Encoder, OwnedBody, Packed};
use crate::conditions::{Outage, OutageReason, StoreConditions};
use crate::database::{Database, HOUSEKEEPING_INTERVAL};
use crate::error::StoreError;
use crate::lock::FolderLock;
use crate::metrics::StoreMetrics;
use crate::refused::{self, Refused};
use crate::room::Space;
use crate::sinks::Sinks;
use crate::snapshot::{self, NewSnapshot, PackedSite, PackedSnapshot};
use crate::totals::Totals;
use crate::{effects, open};

/// Waits between tries of a commit that the disk refuses.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Tries of a commit that meets damage, before the gateway ends and its next start salvages.
const DAMAGE_TRIES: u32 = 1;
const RETRY_LONGEST: Duration = Duration::from_secs(5);

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
    /// The next commit should carry a snapshot.
    pub wants_snapshot: bool,
}

/// What the writer is asked to do.
pub(crate) enum Job {
    Commit(Box<Commit>),
    Site(PackedSite, SyncSender<rusqlite::Result<()>>),
    Refused(Refused, SyncSender<rusqlite::Result<refused::Written>>),
    Close,
}

/// What the writer and the handles share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) sinks: Sinks,
    totals: Mutex<Totals>,
    stopping: Mutex<bool>,
    stopped: Condvar,
    conditions: Mutex<StoreConditions>,
    pub(crate) pretended: Pretended,
}

/// What tests pretend about the machine.
#[derive(Debug)]
pub(crate) struct Pretended {
    /// Largest size of the database in pages; 0 when only the disk limits it.
    pub(crate) pages_max: AtomicU32,
    /// Free bytes of the file system; `u64::MAX` when it is asked.
    pub(crate) free_bytes: AtomicU64,
    /// Things may go by age at once.
    pub(crate) skips_age_rest: AtomicBool,
}

impl Pretended {
    /// The file system, if it is pretended.
    pub(crate) fn space(&self) -> Option<Space> {
        let free = self.free_bytes.load(Ordering::Relaxed);
        (free != u64::MAX).then_some(Space { free, total: u64::MAX })
    }
}

impl Common {
    pub(crate) fn new(sinks: Sinks, totals: Totals) -> Common {
        Common {
            sinks,
            totals: Mutex::new(totals),
            stopping: Mutex::new(false),
            stopped: Condvar::new(),
            conditions: Mutex::default(),
            pretended: Pretended {
                pages_max: AtomicU32::new(0),
                free_bytes: AtomicU64::new(u64::MAX),
                skips_age_rest: AtomicBool::new(false),
            },
        }
    }

    /// What people must know, as of about a second ago.
    pub(crate) fn conditions(&self) -> MutexGuard<'_, StoreConditions> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// House-keeping failed the last time, and that was said.
    pub(crate) is_house_unkept: bool,
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
        self.metrics.show(self.database.totals());
        let looked = self.database.look_if_due();
        self.after_house_keeping(looked.map(drop));
        loop {
            match jobs.recv_timeout(HOUSEKEEPING_INTERVAL) {
                Ok(Job::Commit(commit)) => self.commit(*commit),
                Ok(Job::Site(site, reply)) => drop(reply.send(self.database.write_site(&site))),
                Ok(Job::Refused(refused, reply)) => drop(reply.send(self.database.keep_refused(&refused))),
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.keep_house(),
            }
            // The service manager starts the gateway again, and that salvages.
            if self.is_damaged() {
                break;
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
            done(self.committed(effects));
            return;
        }
        if let Err(source) = self.write(now, inputs, &effects, snapshot) {
            self.given_up = Some(GivenUp { commits: 1, source });
            return;
        }
        done(self.committed(effects));
        self.encoder.shrink();
        self.database.copy_log_if_large();
        match self.database.look_if_due() {
            Ok(false) => {}
            looked => self.after_house_keeping(looked.map(drop)),
        }
    }

    /// Whether a commit was given up because the database is damaged.
    fn is_damaged(&self) -> bool {
        self.given_up.as_ref().is_some_and(|given_up| open::is_damage(&given_up.source))
    }

    fn committed(&self, effects: Effects) -> Committed {
        let sequence = self.database.totals().sequence;
        Committed { sequence, effects, wants_snapshot: self.database.wants_snapshot() }
    }

    /// Packs and writes, until it works.
    fn write(
        &mut self,
        now: Timestamp,
        inputs: Vec<StoredInput>,
        effects: &Effects,
        snapshot: Option<NewSnapshot>,
    ) -> rusqlite::Result<()> {
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
        let outage = retry.until_written(&mut self.database, &parts)?;
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.inputs.inc_by(parts.inputs);
        self.metrics.raw_bytes.inc_by(parts.packed.raw_bytes);
        self.metrics.stored_bytes.inc_by(parts.packed.body.len() as u64);
        self.metrics.snapshots.inc_by(u64::from(parts.snapshot.is_some()));
        if let Some(outage) = outage {
            self.end_outage(outage);
        }
        Ok(())
    }

    fn end_outage(&self, refused: Refusing) {
        let Refusing { reason, since, stamp } = refused;
        let lasted = stamp.elapsed();
        self.metrics.refusing.set(0);
        self.metrics.refused_seconds.inc_by(lasted.as_secs().max(1));
        let seconds = lasted.as_secs_f64();
        warn!(%since, seconds, "the disk takes commits again; nothing was acknowledged meanwhile");
        {
            let mut conditions = self.database.common().conditions();
            let number = conditions.last_outage.map_or(0, |outage| outage.number) + 1;
            conditions.last_outage = Some(Outage { number, reason, since, lasted });
        }
        self.show_ok();
    }

    fn show_ok(&self) {
        let mut notes: Vec<String> = self.standing.iter().cloned().collect();
        notes.extend(self.database.common().conditions().notes());
        if notes.is_empty() {
            self.health.ok()
        } else {
            self.health.degraded(notes.join("; "))
        };
    }

    fn keep_house(&mut self) {
        if self.given_up.is_some() {
            return;
        }
        let kept = self.database.keep_house();
        self.after_house_keeping(kept);
    }

    /// Shows how the store is; a failure is said once, until it works again.
    fn after_house_keeping(&mut self, kept: rusqlite::Result<()>) {
        let was_unkept = std::mem::replace(&mut self.is_house_unkept, kept.is_err());
        if let Err(cause) = kept
            && !was_unkept
        {
            warn!(cause = %Chain(&cause), "house-keeping of the store failed and is tried again every second");
        }
        self.show_ok();
    }

    fn end(self) -> Result<(), StoreError> {
        // What is in the log must not be copied into a damaged file.
        let is_damaged = self.is_damaged();
        let Writer { mut database, given_up, lock, .. } = self;
        let kept = if is_damaged { Ok(()) } else { database.finish() };
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
pub(crate) struct Parts<'a> {
    pub(crate) now: Timestamp,
    pub(crate) inputs: u64,
    pub(crate) site: Option<String>,
    pub(crate) packed: Packed<'a>,
    pub(crate) snapshot: Option<PackedSnapshot>,
    pub(crate) effects: &'a Effects,
}

/// Since when the disk refuses a commit, and why at first.
struct Refusing {
    reason: OutageReason,
    since: Timestamp,
    stamp: Instant,
}

/// Tries a commit until the disk takes it.
struct Retry<'a> {
    metrics: &'a StoreMetrics,
    health: &'a HealthReporter,
    folder: &'a PathBuf,
}

impl Retry<'_> {
    /// Returns the outage before the success, if there was one. The error is returned when the store is being closed.
    fn until_written(&self, database: &mut Database, parts: &Parts<'_>) -> rusqlite::Result<Option<Refusing>> {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut refusing = None;
        loop {
            let failure = match database.write(parts) {
                Ok(()) => return Ok(refusing),
                Err(failure) => failure,
            };
            self.report(&failure, backoff.tries());
            if open::is_damage(&failure) && backoff.tries() >= DAMAGE_TRIES {
                return Err(failure);
            }
            let is_full = failure.sqlite_error_code() == Some(ErrorCode::DiskFull);
            let reason = if is_full { OutageReason::Full } else { OutageReason::Failing };
            refusing.get_or_insert_with(|| Refusing { reason, since: database.now(), stamp: Clock::stamp() });
            if database.common().wait(backoff.next_wait()) {
                return Err(failure);
            }
            if is_full && let Err(cause) = database.make_room() {
                debug!(cause = %Chain(&cause), "no room could be made on the full disk");
            }
        }
    }

    fn report(&self, failure: &rusqlite::Error, tries: u32) {
        let (reason, words) = match failure.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ("full", "the disk is full; nothing is acknowledged until there is room"),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
                "damaged",
                "the database is damaged; nothing is acknowledged; the gateway ends and salvages it at its next start",
            ),
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                ("io", "the disk refuses writes; nothing is acknowledged until it takes them")
            }
            _ => ("other", "the database refuses the commit; nothing is acknowledged until it takes it"),
        };
        self.metrics.commit_failures.with_label_values(&[reason]).inc();
        self.metrics.refusing.set(1);
        let is_news = self.health.down(format!("{words} ({})", Chain(failure)));
        if is_news || tries == 0 {
            error!(reason, cause = %Chain(failure), "a commit failed and will be tried again");
        }
        if tries == 0 && open::is_damage(failure) {
            open::mark_suspect(self.folder);
        }
    }
}
