//! The middle of the process: one thread that gathers inputs into batches, steps the engine and hands each batch with
//! its effects to the store. What was committed is told to the submitters and the sinks from the store's thread.
//!
//! After a crash [`recover`] rebuilds the engine from the last snapshot and the batches after it.
//! Metrics: see [`publish::EngineMetrics`].

pub mod backlog;
pub mod publish;
pub mod recover;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kerbside_engine::{ENGINE_VERSION, Engine};
use kerbside_model::{Effects, Input, StoredInput, Timestamp};
use kerbside_runtime::{Clock, IntakeReceiver, Receipt, Shutdown, Submission};
use kerbside_store::{Commit, NewSnapshot, Store};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use publish::Publisher;

/// Questions that may wait for the engine at once.
const QUERIES_MAX: usize = 64;
/// The machine's clock was set when it moved by this much more or less than time passed: after a power cut, or by hand.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(120);
/// The store took a batch only after so long: nothing was heard meanwhile, because sources are not read when it is full.
pub const DEAF_MIN: Duration = Duration::from_secs(30);
/// Without any timer the engine is still looked at so often.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);

/// How batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct PipelineSettings {
    /// A batch waits so long for more inputs.
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

/// Gathers, steps, commits.
pub struct Pipeline {
    engine: Engine,
    store: Store,
    intake: IntakeReceiver,
    queries: mpsc::Receiver<Query>,
    publisher: Arc<Publisher>,
    clock: Clock,
    settings: PipelineSettings,
    last_now: Timestamp,
    /// When `last_now` was, by a clock that nobody sets.
    last_stamp: Instant,
    snapshot_due: Timestamp,
    is_changed: bool,
    /// Nothing was heard for a while, and that is not the devices' silence.
    was_deaf: bool,
    /// The store's writer has ended: nothing will ever be acknowledged again.
    is_broken: bool,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pipeline").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Inputs that will be one batch.
#[derive(Default)]
struct Gathered {
    inputs: Vec<Input>,
    receipts: Vec<Receipt>,
    /// Kept until the commit, because they hold the intake's byte permits.
    submissions: Vec<Submission>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, mut submission: Submission) {
        self.bytes += submission.bytes;
        self.inputs.append(&mut submission.inputs);
        self.receipts.push(std::mem::replace(&mut submission.receipt, Receipt::None));
        self.submissions.push(submission);
    }
}

enum Event {
    Submission(Submission),
    Query(Query),
    Timer,
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
            last_now: now,
            last_stamp: Clock::stamp(),
            snapshot_due: now,
            is_changed: false,
            was_deaf: false,
            is_broken: false,
        };
        (pipeline, EngineHandle { queries: sender })
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
                Event::Submission(submission) => self.take(submission).await,
                Event::Query(query) => query(&self.engine),
                Event::Timer => self.commit(Gathered::default()),
                Event::Ended => break,
            }
        }
        while let Some(submission) = self.intake.try_next() {
            self.take(submission).await;
        }
        self.snapshot_due = Timestamp::default();
        self.commit(Gathered::default());
        match self.store.close() {
            Ok(()) => info!("store closed"),
            Err(error) => error!(error = %kerbside_runtime::Chain(&error), "the store did not close cleanly"),
        }
    }

    async fn next_event(&mut self, shutdown: &Shutdown) -> Event {
        let until = self.engine.next_timer().unwrap_or_else(|| self.clock.now().plus(IDLE_WAIT));
        let until = if self.is_changed { until.min(self.snapshot_due) } else { until };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Event::Ended,
            Some(query) = self.queries.recv() => Event::Query(query),
            submission = self.intake.next() => submission.map_or(Event::Ended, Event::Submission),
            () = self.clock.sleep_until(until) => Event::Timer,
        }
    }

    /// Gathers until the batch is large or old enough. A site comes in a batch of its own.
    async fn take(&mut self, first: Submission) {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        let deadline = tokio::time::sleep(self.settings.commit_interval);
        tokio::pin!(deadline);
        while let Some(submission) = next.take() {
            if submission.inputs.iter().any(|input| matches!(input, Input::Site(_))) {
                // An empty batch would serve the timers before the site says from when on silence counts.
                if !gathered.submissions.is_empty() {
                    self.commit(std::mem::take(&mut gathered));
                }
                gathered.add(submission);
                self.commit(gathered);
                return;
            }
            gathered.add(submission);
            if gathered.bytes >= self.settings.commit_bytes_max {
                break;
            }
            next = match self.intake.try_next() {
                Some(submission) => Some(submission),
                None => tokio::select! {
                    biased;
                    submission = self.intake.next() => submission,
                    () = &mut deadline => None,
                },
            };
        }
        self.commit(gathered);
    }

    /// Steps the engine and hands everything to the store; waits while the store is busy with two others.
    fn commit(&mut self, gathered: Gathered) {
        if self.has_clock_jumped() | std::mem::take(&mut self.was_deaf) {
            // The site again: nobody is silent because the clock was set, or because the disk was full.
            let inputs = vec![Input::Site(Arc::clone(self.engine.site()))];
            self.commit_now(Gathered { inputs, ..Gathered::default() });
        }
        self.commit_now(gathered);
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
            self.last_now = now;
            self.snapshot_due = now;
        }
        self.last_stamp = Clock::stamp();
        jumped
    }

    fn commit_now(&mut self, gathered: Gathered) {
        let now = self.clock.now().max(self.last_now);
        self.last_now = now;
        let effects = self.engine.step(now, &gathered.inputs);
        let snapshot = self.snapshot_if_due(now);
        if gathered.inputs.is_empty() && is_empty(&effects) && snapshot.is_none() {
            return;
        }
        self.is_changed = snapshot.is_none();
        let publisher = Arc::clone(&self.publisher);
        let site = Arc::clone(self.engine.site());
        publisher.engine_state(self.engine.open_cases());
        let Gathered { inputs, receipts, submissions, .. } = gathered;
        let commit = Commit {
            now,
            inputs: inputs.into_iter().map(StoredInput::from).collect(),
            effects,
            snapshot,
            done: Box::new(move |committed| {
                receipts.into_iter().for_each(Receipt::honour);
                drop(submissions);
                publisher.publish(site, committed);
            }),
        };
        let began = Clock::stamp();
        if let Err(error) = self.store.commit(commit) {
            error!(error = %kerbside_runtime::Chain(&error), "inputs were lost before they were acknowledged");
            self.is_broken = true;
        }
        self.was_deaf |= began.elapsed() >= self.settings.deaf_min;
    }

    fn snapshot_if_due(&mut self, now: Timestamp) -> Option<NewSnapshot> {
        let is_wanted = self.publisher.wants_snapshot.swap(false, Ordering::Relaxed);
        if !is_wanted && now < self.snapshot_due {
            return None;
        }
        self.snapshot_due = now.plus(self.settings.snapshot_interval);
        Some(NewSnapshot {
            engine_version: ENGINE_VERSION,
            site_hash: self.engine.site().hash().to_owned(),
            body: self.engine.snapshot(),
        })
    }
}

/// Whether a step without inputs changed anything worth a commit.
fn is_empty(effects: &Effects) -> bool {
    !effects.is_urgent() && effects.case_events.is_empty() && effects.audit.is_empty() && effects.undecoded.is_empty()
}

/// Set by the store when its log grows too long for a quick restart.
pub(crate) type SnapshotWish = AtomicBool;
