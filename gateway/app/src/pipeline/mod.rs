//! The middle of the process: one thread that steps the engine as inputs come, gathers them into batches and hands each
//! batch with its effects to the store. What was committed is told to the submitters and the sinks from the store's
//! thread.
//!
//! After a crash [`recover`] rebuilds the engine from the last snapshot and the batches after it.
//! Metrics: see [`publish::EngineMetrics`].

pub mod backlog;
pub mod conditions;
pub mod eras;
mod gather;
mod lens;
pub mod publish;
pub mod recover;
mod storm;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kerbside_engine::{ENGINE_VERSION, Engine};
use kerbside_model::{Input, Timestamp};
use kerbside_runtime::{Clock, IntakeReceiver, Receipt, Shutdown, Submission};
use kerbside_store::{Commit, NewSnapshot, Store};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use gather::{Gathered, Taken, Underway};
use publish::Publisher;
pub use storm::StormTeller;
use storm::StormWatch;

use crate::wiretap::Tap;

/// Questions that may wait for the engine at once.
const QUERIES_MAX: usize = 64;
/// The machine's clock was set when it moved by this much more or less than time passed: after a power cut, or by hand.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(120);
/// The store took a batch only after so long: nothing was heard meanwhile, because sources are not read when it is full.
pub const DEAF_MIN: Duration = Duration::from_secs(30);
/// The store has had a commit for so long without an end: sources are not read any more.
const STUCK_MIN: Duration = Duration::from_secs(1);
/// Commits that the store holds at once: one on its way to the disk and one behind it.
const UNDERWAY_MAX: usize = 2;
/// Without any timer the engine is still looked at so often.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);

/// How batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct PipelineSettings {
    /// A batch without an alarm in it waits so long for more inputs.
    pub commit_interval: Duration,
    /// It is committed as soon as it holds about so many bytes.
    pub commit_bytes_max: usize,
    /// The engine's state is stored so often.
    pub snapshot_interval: Duration,
    /// When the store takes a batch only after so long, silence is counted anew: see [`DEAF_MIN`].
    pub deaf_min: Duration,
}

/// A question to the engine, answered between two steps.
type Query = Box<dyn FnOnce(&Engine) + Send>;

/// Asks the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    queries: mpsc::Sender<Query>,
}

/// The pipeline has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ask the engine: the pipeline has ended")]
pub struct PipelineEnded;

impl EngineHandle {
    /// Runs a closure on the engine between two steps.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, PipelineEnded> {
        let (sender, receiver) = oneshot::channel();
        let query: Query = Box::new(move |engine| drop(sender.send(question(engine))));
        self.queries.send(query).await.map_err(|_| PipelineEnded)?;
        receiver.await.map_err(|_| PipelineEnded)
    }
}

/// Steps, gathers, commits.
pub struct Pipeline {
    engine: Engine,
    store: Store,
    intake: IntakeReceiver,
    queries: mpsc::Receiver<Query>,
    publisher: Arc<Publisher>,
    clock: Clock,
    settings: PipelineSettings,
    gathered: Gathered,
    underway: Arc<Underway>,
    /// When a commit was last on the disk, or when the store last began to have one.
    progress_at: Instant,
    last_now: Timestamp,
    /// When `last_now` was, by a clock that nobody sets.
    last_stamp: Instant,
    snapshot_due: Timestamp,
    is_changed: bool,
    /// Nothing was heard for a while, and that is not the devices' silence.
    was_deaf: bool,
    /// The store's writer has ended: nothing will ever be acknowledged again.
    is_broken: bool,
    storm: Option<StormWatch>,
    tap: Option<Tap>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pipeline").field("settings", &self.settings).finish_non_exhaustive()
    }
}

enum Event {
    Submission(Submission),
    Query(Query),
    Timer,
    /// A commit is on the disk, or one is due.
    Progress,
    Ended,
}

impl Pipeline {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        engine: Engine,
        store: Store,
        intake: IntakeReceiver,
        publisher: Arc<Publisher>,
        clock: Clock,
        settings: PipelineSettings,
    ) -> (Pipeline, EngineHandle) {
        let (sender, queries) = mpsc::channel(QUERIES_MAX);
        let now = clock.now();
        let pipeline = Pipeline {
            engine,
            store,
            intake,
            queries,
            publisher,
            clock,
            settings,
            gathered: Gathered::default(),
            underway: Arc::default(),
            progress_at: Clock::stamp(),
            last_now: now,
            last_stamp: Clock::stamp(),
            snapshot_due: now,
            is_changed: false,
            was_deaf: false,
            is_broken: false,
            storm: None,
            tap: None,
        };
        (pipeline, EngineHandle { queries: sender })
    }

    /// Says here whether a storm stands.
    pub fn with_storm(mut self, told: StormTeller) -> Pipeline {
        self.storm = Some(StormWatch::new(told));
        self
    }

    /// Lets people look at frames as they arrive.
    pub fn with_tap(mut self, tap: Tap) -> Pipeline {
        self.tap = Some(tap);
        self
    }

    /// Runs on a thread of its own until `shutdown`; then takes what is still in the intake, stores a last snapshot
    /// and closes the store. `ended` is dropped when the thread ends for whatever reason.
    pub fn spawn(self, shutdown: Shutdown, ended: oneshot::Sender<()>) -> std::io::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
            let _ended = ended;
            runtime.block_on(self.run(shutdown));
        })
    }

    async fn run(mut self, shutdown: Shutdown) {
        while !self.is_broken {
            match self.next_event(&shutdown).await {
                Event::Submission(submission) => self.take(submission),
                Event::Query(query) => query(&self.engine),
                Event::Timer if !self.is_listening() => {}
                Event::Timer => self.step(None),
                Event::Progress if self.was_deaf => self.step(None),
                Event::Progress => {}
                Event::Ended => break,
            }
            self.commit_if_due();
        }
        while let Some(submission) = self.intake.try_next() {
            self.take(submission);
            self.commit();
        }
        self.snapshot_due = Timestamp::default();
        self.step(None);
        self.commit();
        match self.store.close() {
            Ok(()) => info!("store closed"),
            Err(error) => error!(error = %kerbside_runtime::Chain(&error), "the store did not close cleanly"),
        }
    }

    async fn next_event(&mut self, shutdown: &Shutdown) -> Event {
        let is_listening = self.is_listening();
        let until = self.engine.next_timer().unwrap_or_else(|| self.clock.now().plus(IDLE_WAIT));
        // A snapshot waits for the commit before it, whose end is told: a timer for it would fire again and again.
        let awaits_snapshot = self.is_changed && self.underway.count() == 0;
        let until = if awaits_snapshot { until.min(self.snapshot_due) } else { until };
        let due = self.commit_at();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Event::Ended,
            Some(query) = self.queries.recv() => Event::Query(query),
            () = self.underway.done.notified() => {
                self.note_progress();
                Event::Progress
            }
            submission = self.intake.next(), if is_listening => submission.map_or(Event::Ended, Event::Submission),
            () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => Event::Progress,
            () = self.clock.sleep_until(until), if is_listening => Event::Timer,
        }
    }

    /// Whether inputs are taken and timers served. While the store takes nothing, sources are not read for long: then
    /// devices are not silent, we are deaf.
    fn is_listening(&mut self) -> bool {
        let is_full = self.gathered.bytes() >= self.settings.commit_bytes_max;
        let is_stuck = self.underway.count() > 0 && self.progress_at.elapsed() >= STUCK_MIN.min(self.settings.deaf_min);
        !is_full && !is_stuck
    }

    /// A commit is on the disk.
    fn note_progress(&mut self) {
        self.was_deaf |= self.progress_at.elapsed() >= self.settings.deaf_min;
        self.progress_at = Clock::stamp();
    }

    /// When the gathered commit has waited long enough. `None`: there is none, or the store is busy with another one
    /// and will say when it is done.
    fn commit_at(&self) -> Option<tokio::time::Instant> {
        let since = self.gathered.since()?;
        (self.underway.count() == 0).then(|| since + self.settings.commit_interval)
    }

    /// Steps with whatever has come. A site comes in a commit of its own.
    fn take(&mut self, first: Submission) {
        let mut next = Some(first);
        while let Some(submission) = next.take() {
            let has_site = submission.inputs.iter().any(|input| matches!(input, Input::Site(_) | Input::Change { .. }));
            if has_site {
                self.commit();
            }
            self.step(Some(submission));
            if has_site {
                self.commit();
            }
            if self.gathered.bytes() < self.settings.commit_bytes_max && !self.gathered.is_urgent() {
                next = self.intake.try_next();
            }
        }
    }

    /// One step of the engine; without a submission only timers are served.
    fn step(&mut self, submission: Option<Submission>) {
        if self.has_clock_jumped() | std::mem::take(&mut self.was_deaf) {
            // The site again: nobody is silent because the clock was set, or because the disk was full.
            self.commit();
            let site = vec![Input::Site(Arc::clone(self.engine.site()))];
            self.step_now(Some(Submission::unmetered(site)));
            self.commit();
        }
        self.step_now(submission);
    }

    fn step_now(&mut self, submission: Option<Submission>) {
        let now = self.clock.now().max(self.last_now);
        self.last_now = now;
        self.gathered.begin_step(now);
        let inputs = submission.as_ref().map_or(&[][..], |submission| &submission.inputs);
        let mark = self.tap.as_ref().and_then(|tap| tap.mark(&self.gathered.effects));
        self.engine.step_on(now, inputs, &mut self.gathered.effects);
        if let (Some(mark), Some(tap)) = (mark, &mut self.tap) {
            tap.copy(mark, &self.engine, inputs, &self.gathered.effects);
        }
        if let Some(submission) = submission {
            self.gathered.add(submission);
        }
        self.gathered.end_step();
    }

    /// Whether the clock moved by much more or less than time passed since the last step.
    fn has_clock_jumped(&mut self) -> bool {
        let now = self.clock.now();
        let passed = now.since(self.last_now);
        let real = self.last_stamp.elapsed();
        let jumped =
            self.clock.real(passed).abs_diff(real) > CLOCK_JUMP_MIN || self.last_now.since(now) > CLOCK_JUMP_MIN;
        if jumped {
            warn!(from = %self.last_now, to = %now, "the clock was set: silence is counted from here");
            self.commit();
            self.last_now = now;
            self.snapshot_due = now;
        }
        self.last_stamp = Clock::stamp();
        jumped
    }

    /// Commits when it is time: at once what is urgent or large, else what has waited and when the store has nothing
    /// else to do, so that under load one sync serves whatever came during the one before.
    fn commit_if_due(&mut self) {
        let is_large = self.gathered.bytes() >= self.settings.commit_bytes_max;
        let has_waited = self.commit_at().is_some_and(|at| Clock::stamp() >= at.into_std()) || self.is_snapshot_due();
        let has_room = self.underway.count() < UNDERWAY_MAX;
        if has_waited || (has_room && (is_large || self.gathered.is_urgent())) {
            self.commit();
        }
    }

    fn is_snapshot_due(&self) -> bool {
        let is_due = self.last_now >= self.snapshot_due && (self.is_changed || !self.gathered.is_empty());
        is_due && self.underway.count() == 0
    }

    /// Hands everything gathered to the store.
    fn commit(&mut self) {
        let snapshot = self.snapshot_if_due(self.last_now);
        if self.gathered.is_empty() && snapshot.is_none() {
            // When timers were served last is kept for the replay.
            return;
        }
        self.is_changed = snapshot.is_none();
        let publisher = Arc::clone(&self.publisher);
        let site = Arc::clone(self.engine.site());
        publisher.engine_state(self.engine.open_cases(), self.engine.open_incidents());
        let Taken { inputs, effects, receipts, submissions } = self.gathered.take();
        if let Some(storm) = &mut self.storm {
            // An incident ends by a timer, or opens by a rainstorm signal: that is in the audit log alone.
            storm.look(&self.engine, !(effects.alarms.is_empty() && effects.audit.is_empty()));
        }
        if self.underway.count() == 0 {
            self.progress_at = Clock::stamp();
        }
        let underway = self.underway.begin();
        let commit = Commit {
            now: self.last_now,
            inputs,
            effects,
            snapshot,
            done: Box::new(move |committed| {
                receipts.into_iter().for_each(Receipt::honour);
                drop(submissions);
                publisher.publish(site, committed);
                drop(underway);
            }),
        };
        if let Err(error) = self.store.commit(commit) {
            error!(error = %kerbside_runtime::Chain(&error), "inputs were lost before they were acknowledged");
            self.is_broken = true;
        }
    }

    fn snapshot_if_due(&mut self, now: Timestamp) -> Option<NewSnapshot> {
        let is_wanted = self.publisher.wants_snapshot.swap(false, Ordering::Relaxed);
        if !is_wanted && now < self.snapshot_due {
            return None;
        }
        self.snapshot_due = now.plus(self.settings.snapshot_interval);
        self.publisher.learners(self.engine.learner_tally());
        Some(NewSnapshot {
            engine_version: ENGINE_VERSION,
            site_hash: self.engine.site().hash().to_owned(),
            body: self.engine.snapshot(),
        })
    }
}

/// Set by the store when its log grows too long for a quick restart.
pub(crate) type SnapshotWish = AtomicBool;
