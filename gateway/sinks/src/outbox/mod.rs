//! Delivers outbox rows: cases to a platform, notices to a channel. One worker for each target.
//!
//! Turns [`OutboxRow`]s into requests, and their outcomes into [`kerbside_model::Delivery`] inputs of the pipeline;
//! it never touches the store. Rows come through [`OutboxHandle::deliver`]: new ones after their commit, and all open
//! ones at the start.
//!
//! What survives a crash: before the first request of a case leaves, the row is durably marked as attempted. An
//! attempted row, and one whose last request may have been stored, is looked up at the platform before a second
//! request; a row that comes back attempted first waits until a request that was on its way has settled. Notices are
//! sent at least once, without a lookup.
//!
//! Metrics: `kerbside_outbox_deliveries_total{target,result}`, `kerbside_outbox_open{target}`,
//! `kerbside_outbox_oldest_seconds{target}`, `kerbside_push_throttled_total{target}`. Health: `sink/TARGET`.

mod attempt;
mod lanes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_model::{OutboxRow, OutboxState, OutboxTask, Severity};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Backoff, Clock, Health, Intake, Metrics, Shutdown};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{debug, error, info, warn};

use self::attempt::{DoneResult, Retry, Trouble, Verdict};
use self::lanes::{Job, Lanes};
use crate::channels::Channel;
use crate::channels::limiter::{Limiter, Urgency};
use crate::platforms::{Lookup, Platform};
use crate::sign::SignLinks;

/// How often the age of the oldest row is measured.
const MEASURE_PERIOD: Duration = Duration::from_secs(5);
/// A channel that does not answer is tried this often at least: a critical notice may be waiting.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// After so many failed digests a row is sent alone: it may be the one that the robot dislikes.
const DIGESTS_FAILED_MAX: u32 = 3;
/// The key of a trouble that is not one case's.
const WHOLE_TARGET: &str = "";

/// Where rows are delivered to.
#[derive(Clone, Debug)]
pub enum Target {
    /// Cases.
    Platform(Arc<dyn Platform>),
    /// Notices.
    Channel(Arc<dyn Channel>),
}

/// Limits and waits of one worker.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    /// Cases of one platform that are tried at the same time. Channels take one message at a time.
    pub in_flight_max: usize,
    /// Rows that wait in the handle; [`OutboxHandle::deliver`] waits when it is full.
    pub queue_rows_max: usize,
    /// Rows that the worker holds; it takes no more from the handle when it is full.
    pub rows_max: usize,
    /// The first wait after a failed attempt.
    pub backoff_first: Duration,
    /// The longest wait, and the wait while the configuration is wrong.
    pub backoff_max: Duration,
    /// More notices than this that wait in one channel are merged into one message.
    pub digest_over: usize,
    /// Makes the links with which officers sign; without it notices carry none.
    pub sign_links: Option<SignLinks>,
}

impl Default for OutboxConfig {
    fn default() -> OutboxConfig {
        OutboxConfig {
            in_flight_max: 4,
            queue_rows_max: 256,
            rows_max: 10_000,
            backoff_first: Duration::from_secs(2),
            backoff_max: Duration::from_secs(300),
            digest_over: 5,
            sign_links: None,
        }
    }
}

/// The worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hand over an outbox row: the worker has ended")]
pub struct OutboxClosed;

/// Where rows are handed over. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutboxHandle {
    sender: mpsc::Sender<OutboxRow>,
}

impl OutboxHandle {
    /// Hands a row over if there is room at once, and says whether there was: nobody else waits for a full worker. A
    /// row that the worker still has is not taken twice.
    pub fn offer(&self, row: OutboxRow) -> Result<bool, OutboxClosed> {
        match self.sender.try_send(row) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(OutboxClosed),
        }
    }

    /// Hands a row over; waits while the worker is full. A row that the worker still has is not taken twice.
    pub async fn deliver(&self, row: OutboxRow) -> Result<(), OutboxClosed> {
        self.sender.send(row).await.map_err(|_| OutboxClosed)
    }
}

/// Delivers the rows of one target.
#[derive(Debug)]
pub struct OutboxWorker {
    config: OutboxConfig,
    target: Target,
    intake: Intake,
    clock: Clock,
    health: HealthReporter,
    counters: Counters,
    receiver: mpsc::Receiver<OutboxRow>,
    started: Instant,
    lanes: Lanes,
    attempts: JoinSet<Verdict>,
    /// What each attempt took: cases with the number of their first rows.
    taken: HashMap<Id, Vec<(String, usize)>>,
    /// Rows whose case is open and whose number is not known yet.
    rows_claiming: usize,
    limiter: Limiter,
    is_held: bool,
    /// Nothing is sent to a channel before this.
    paused_until: Instant,
    unreachable: Backoff,
    troubles: BTreeMap<String, (Trouble, String)>,
}

#[derive(Debug)]
struct Counters {
    deliveries: IntCounterVec,
    throttled: IntCounter,
    open: IntGauge,
    oldest: IntGauge,
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Target::Platform(platform) => platform.name(),
            Target::Channel(channel) => channel.name(),
        }
    }
}

impl OutboxWorker {
    /// A worker and the handle that feeds it. Makes no connection.
    pub fn new(
        config: OutboxConfig,
        target: Target,
        intake: Intake,
        clock: Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> (OutboxWorker, OutboxHandle) {
        let (sender, receiver) = mpsc::channel(config.queue_rows_max.max(1));
        let limit = match &target {
            Target::Platform(_) => Default::default(),
            Target::Channel(channel) => channel.rate_limit(),
        };
        let now = Clock::stamp();
        let worker = OutboxWorker {
            health: health.component(format!("sink/{}", target.name())),
            counters: Counters::new(metrics, target.name()),
            limiter: Limiter::new(limit),
            unreachable: Backoff::new(config.backoff_first, config.backoff_max.min(UNREACHABLE_WAIT_MAX)),
            started: now,
            paused_until: now,
            is_held: false,
            lanes: Lanes::default(),
            attempts: JoinSet::new(),
            taken: HashMap::new(),
            rows_claiming: 0,
            troubles: BTreeMap::new(),
            config,
            target,
            intake,
            clock,
            receiver,
        };
        (worker, OutboxHandle { sender })
    }

    /// Delivers until it is told to stop or the pipeline ends. Attempts that are under way are dropped: their rows
    /// are marked as attempted and are looked up at the next start.
    pub async fn run(mut self, shutdown: Shutdown) {
        // The settle time counts from here: before, the worker could not have sent anything.
        self.started = Clock::stamp();
        self.health.ok();
        let mut measure = tokio::time::interval(MEASURE_PERIOD);
        let mut is_fed = true;
        loop {
            let wake_at = self.dispatch(Clock::stamp());
            let has_room = is_fed && self.lanes.len() < self.config.rows_max.max(1);
            tokio::select! {
                () = shutdown.cancelled() => return,
                row = self.receiver.recv(), if has_room => match row {
                    Some(row) => self.add(row),
                    None => is_fed = false,
                },
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => {
                    if !self.ended(ended) {
                        return;
                    }
                }
                () = sleep_until(wake_at), if wake_at.is_some() => {}
                _ = measure.tick() => self.measure(),
            }
        }
    }

    fn add(&mut self, row: OutboxRow) {
        let now = Clock::stamp();
        let not_before = match &self.target {
            Target::Platform(platform) if row.state == OutboxState::Attempted => {
                now.max(self.started + platform.settle())
            }
            _ => now,
        };
        let backoff = Backoff::new(self.config.backoff_first, self.config.backoff_max);
        self.lanes.add(Job::new(row, not_before, backoff));
        self.show_open();
    }

    /// Starts what may start, and says when to look again.
    fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        match self.target.clone() {
            Target::Platform(platform) => self.dispatch_cases(&platform, now),
            Target::Channel(channel) => self.dispatch_notices(&channel, now),
        }
    }

    fn dispatch_cases(&mut self, platform: &Arc<dyn Platform>, now: Instant) -> Option<Instant> {
        let places = self.config.in_flight_max.max(1).saturating_sub(self.attempts.len());
        let due: Vec<String> = self.lanes.due(now).take(places).map(|(case, _)| case.to_owned()).collect();
        for case in due {
            for job in self.lanes.take(&case, 1) {
                let attempt = attempt::open_case(Arc::clone(platform), self.intake.clone(), job);
                let id = self.attempts.spawn(attempt).id();
                self.taken.insert(id, vec![(case.clone(), 1)]);
            }
        }
        // With every place taken, the next end of an attempt wakes the worker.
        if self.attempts.len() >= self.config.in_flight_max.max(1) { None } else { self.lanes.next_due() }
    }

    fn dispatch_notices(&mut self, channel: &Arc<dyn Channel>, now: Instant) -> Option<Instant> {
        if !self.attempts.is_empty() {
            return None;
        }
        if self.paused_until > now {
            return Some(self.paused_until);
        }
        let chosen = self.choose(channel.letters_max(), now);
        if chosen.is_empty() {
            return self.lanes.next_due();
        }
        let mut first = chosen.iter().filter_map(|(case, _)| self.lanes.first(case));
        let is_critical = first.any(|job| severity(job) == Severity::Critical);
        let urgency = if is_critical { Urgency::Critical } else { Urgency::Normal };
        if let Some(wait) = self.limiter.wait(now, urgency) {
            if !self.is_held {
                self.is_held = true;
                self.counters.throttled.inc();
            }
            return Some(now + wait);
        }
        // A critical notice that passes leaves the held ones held.
        self.is_held &= urgency == Urgency::Critical;
        self.limiter.record(now);
        let mut rows = Vec::new();
        for (case, count) in &chosen {
            rows.extend(self.lanes.take(case, *count).into_iter().map(|job| job.row));
        }
        let links = self.config.sign_links.clone();
        let attempt = attempt::notify(Arc::clone(channel), self.intake.clone(), links, rows);
        let id = self.attempts.spawn(attempt).id();
        self.taken.insert(id, chosen);
        None
    }

    /// The notice to send next, or those to merge when too many wait: the worst first, then the oldest.
    fn choose(&self, letters_max: usize, now: Instant) -> Vec<(String, usize)> {
        let mut due: Vec<(&str, &Job, usize)> = Vec::new();
        for (case, jobs) in self.lanes.due(now) {
            if let Some(first) = jobs.front() {
                due.push((case, first, jobs.len()));
            }
        }
        due.sort_by_key(|(_, job, _)| (Reverse(severity(job)), job.row.created_at));
        let waiting: usize = due.iter().map(|(_, _, count)| count).sum();
        let alone = |(case, _, _): &(&str, &Job, usize)| vec![((*case).to_owned(), 1)];
        let is_crowded = waiting > self.config.digest_over && letters_max > 1;
        if !is_crowded || due.first().is_some_and(|(_, job, _)| job.digests_failed >= DIGESTS_FAILED_MAX) {
            return due.first().map(alone).unwrap_or_default();
        }
        let mut room = letters_max;
        let mut chosen = Vec::new();
        for (case, job, count) in due {
            if room > 0 && job.digests_failed < DIGESTS_FAILED_MAX {
                let taken = count.min(room);
                room -= taken;
                chosen.push((case.to_owned(), taken));
            }
        }
        chosen
    }

    /// Takes the end of an attempt in. Returns whether to go on.
    fn ended(&mut self, ended: Result<(Id, Verdict), JoinError>) -> bool {
        let (id, verdict) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(target = %self.target.name(), %error, "attempt to deliver panicked");
                let reason = "an attempt panicked".to_owned();
                (error.id(), Verdict::Retry(Retry { trouble: Trouble::Panicked, reason, wait_min: Duration::ZERO }))
            }
        };
        let taken = self.taken.remove(&id).unwrap_or_default();
        let now = Clock::stamp();
        match verdict {
            Verdict::PipelineEnded => return false,
            Verdict::Done { rows, result } => self.done(&taken, rows, result, now),
            Verdict::Token(token) => {
                self.count("delivered", 1);
                self.rows_claiming += 1;
                self.settled(&taken);
                for (case, count) in &taken {
                    self.lanes.retry(case, *count, now, |job| {
                        job.token = Some((token.clone(), now));
                        job.backoff.reset();
                        job.backoff.next_wait()
                    });
                }
            }
            Verdict::Retry(retry) => self.retry(&taken, &retry, now),
        }
        self.show_open();
        self.show_health();
        true
    }

    fn done(&mut self, taken: &[(String, usize)], rows: usize, result: DoneResult, now: Instant) {
        match result {
            DoneResult::Delivered => self.count("delivered", rows),
            DoneResult::Refused => self.count("refused", rows),
            DoneResult::Claimed => self.rows_claiming = self.rows_claiming.saturating_sub(1),
        }
        self.unreachable.reset();
        self.settled(taken);
        let mut left = rows;
        for (case, count) in taken {
            let finished = left.min(*count);
            left -= finished;
            self.lanes.finish(case, finished, now);
        }
    }

    fn retry(&mut self, taken: &[(String, usize)], retry: &Retry, now: Instant) {
        let Retry { trouble, reason, wait_min } = retry;
        let rows = taken.iter().map(|(_, count)| count).sum();
        match trouble {
            Trouble::Pending => {}
            Trouble::Uncertain | Trouble::Panicked => self.count("uncertain", rows),
            _ => self.count("retry", rows),
        }
        debug!(target = %self.target.name(), ?trouble, %reason, "delivery is tried again");
        let whole_target = self.pause(*trouble, *wait_min, now);
        let backoff_max = self.config.backoff_max;
        let is_digest = rows > 1;
        for (case, count) in taken {
            self.lanes.retry(case, *count, now, |job| {
                // The pipeline was told before the request left.
                job.is_announced |= *trouble != Trouble::Panicked;
                if matches!(trouble, Trouble::Uncertain | Trouble::Panicked) {
                    job.lookup = Lookup::First;
                }
                if *trouble == Trouble::Failed && is_digest {
                    job.digests_failed += 1;
                }
                match trouble {
                    _ if whole_target => Duration::ZERO,
                    Trouble::Misconfigured => backoff_max,
                    _ => job.backoff.next_wait().max(*wait_min),
                }
            });
            if !whole_target && *trouble != Trouble::Pending {
                self.troubles.insert(case.clone(), (*trouble, reason.clone()));
            }
        }
        if whole_target {
            self.troubles.insert(WHOLE_TARGET.to_owned(), (*trouble, reason.clone()));
        }
    }

    /// Pauses a channel for what is not one message's fault. Returns whether it is paused.
    fn pause(&mut self, trouble: Trouble, wait_min: Duration, now: Instant) -> bool {
        if matches!(self.target, Target::Platform(_)) {
            return false;
        }
        let wait = match trouble {
            Trouble::Throttled => {
                self.counters.throttled.inc();
                wait_min
            }
            Trouble::Misconfigured => self.config.backoff_max,
            Trouble::Unreachable => self.unreachable.next_wait(),
            _ => return false,
        };
        self.paused_until = now + wait;
        true
    }

    /// A success: these cases have no trouble any more, nor has a channel as a whole.
    fn settled(&mut self, taken: &[(String, usize)]) {
        self.troubles.remove(WHOLE_TARGET);
        for (case, _) in taken {
            self.troubles.remove(case);
        }
    }

    fn show_health(&self) {
        let name = self.target.name();
        let worst = |trouble: &&(Trouble, String)| trouble.0 == Trouble::Misconfigured;
        if let Some((_, reason)) = self.troubles.values().find(worst) {
            if self.health.down(format!("a person must mend the configuration: {reason}")) {
                warn!(target = %name, %reason, "target refuses our configuration");
            }
            return;
        }
        if let Some((_, reason)) = self.troubles.values().next() {
            if self.health.degraded(format!("{} rows wait: {reason}", self.lanes.len())) {
                warn!(target = %name, %reason, "deliveries wait");
            }
            return;
        }
        if self.health.ok() {
            info!(target = %name, "deliveries go through");
        }
    }

    fn count(&self, result: &str, rows: usize) {
        self.counters.deliveries.with_label_values(&[self.target.name(), result]).inc_by(rows as u64);
    }

    fn show_open(&self) {
        // A row that only waits for its number has been delivered.
        let open = self.lanes.len().saturating_sub(self.rows_claiming);
        self.counters.open.set(i64::try_from(open).unwrap_or(i64::MAX));
        if open == 0 {
            self.counters.oldest.set(0);
        }
    }

    /// Looks at every row, so it is done now and then only.
    fn measure(&self) {
        let open = self.lanes.jobs().filter(|job| job.token.is_none());
        let oldest = open.map(|job| job.row.created_at).min();
        let age = oldest.map(|oldest| self.clock.now().since(oldest)).unwrap_or_default();
        self.counters.oldest.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }
}

impl Counters {
    fn new(metrics: &Metrics, target: &str) -> Counters {
        let deliveries = metrics.counters(
            "kerbside_outbox_deliveries_total",
            "Outbox rows by what became of an attempt: delivered, retry, refused, uncertain.",
            &["target", "result"],
        );
        let throttled = metrics.counters(
            "kerbside_push_throttled_total",
            "How often messages had to wait for a limit of a channel, ours or its own.",
            &["target"],
        );
        let open = metrics.gauges("kerbside_outbox_open", "Outbox rows that are not delivered.", &["target"]);
        let oldest = metrics.gauges(
            "kerbside_outbox_oldest_seconds",
            "Age of the oldest outbox row that is not delivered.",
            &["target"],
        );
        Counters {
            deliveries,
            throttled: throttled.with_label_values(&[target]),
            open: open.with_label_values(&[target]),
            oldest: oldest.with_label_values(&[target]),
        }
    }
}

/// The severity that a row is about; a row that is in the wrong place gets out of the way first.
fn severity(job: &Job) -> Severity {
    match &job.row.task {
        OutboxTask::Notify(notice) => notice.report.severity,
        OutboxTask::OpenCase(_) => Severity::Critical,
    }
}

async fn sleep_until(wake_at: Option<Instant>) {
    if let Some(wake_at) = wake_at {
        tokio::time::sleep_until(wake_at.into()).await;
    }
}

#[cfg(test)]
mod tests;
