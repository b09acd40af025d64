//! The sink's loop: what is sent next, what waits, what is read back, when the cursor is stored.
//!
//! How many requests may be under way is learned (see `pace`). One of them at most belongs to the backlog, which goes
//! in order and at a pace of its own (see `backlog`); live lines have the others, and never fewer than one. Live lines
//! leave at once when none of theirs is under way, and are gathered while one is. A live batch that waited too long is
//! left to the backlog, so that what a dashboard shows is fresh even when the link is too thin for everything. During
//! an outage a single request probes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kerbside_model::Timestamp;
use kerbside_model::port::{BacklogError, TelemetryBatch};
use kerbside_runtime::{Backoff, Clock, Shutdown};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answer::Problem;
use super::backlog::{Answer, Look, StoreCalls, join, read_answer, words_of};
use super::deliver::{Delivery, Gathered, Lane, Report, Writer};
use super::encode::{Encoder, Lines};
use super::lag::Lag;
use super::meters::Meters;
use super::progress::Progress;
use super::setup::{self, Setup};
use super::status::Status;
use super::{InfluxSink, Offered, OfferedBatch};

/// Between the starts of two live requests at least: without it a request would carry the few lines of one commit. It
/// is most of what a lone line can wait, and bounds what requests cost at 200 a second.
const LIVE_GAP_MIN: Duration = Duration::from_millis(5);
/// A machine that is busy answers slowly, and then fewer and larger requests help both sides; but no fewer than these.
const LIVE_GAP_MAX: Duration = Duration::from_millis(20);
/// Share of a new sample in the smoothed time of a live request.
const TOOK_SMOOTHING: f64 = 0.25;
/// A live batch that waited for so long, while newer ones came than one request carries, is left to the backlog: with
/// [`GOOD_TIME`] for its request, a dashboard is less than two seconds behind.
///
/// [`GOOD_TIME`]: super::pace::GOOD_TIME
const LIVE_AGE_MAX: Duration = Duration::from_millis(500);
/// The first wait after a failure: long enough for a connection that was closed while idle.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// What is in memory may be sent for so long after the end was asked for.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// Health and gauges are written this often.
const SHOWN_EVERY: Duration = Duration::from_millis(20);
/// Bodies that arrived are kept for the next lines: one for each lane.
const SPARES_MAX: usize = 2;
/// When nothing else is due.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Pump {
    writer: Arc<Writer>,
    receiver: mpsc::Receiver<OfferedBatch>,
    offered: Arc<Offered>,
    meters: Meters,
    status: Status,
    clock: Clock,
    encoder: Encoder,
    progress: Progress,
    lag: Lag,
    live: Gathering,
    /// The newest number that came out of the queue; what is missing below it is in the backlog only.
    live_through: u64,
    /// The newest number that was read back from the store.
    read_through: u64,
    /// Deliveries that met a problem, live ones first.
    blocked: VecDeque<Delivery>,
    under_way: FuturesUnordered<BoxFuture<'static, Report>>,
    live_under_way: usize,
    /// When the oldest batch of each live delivery that has not arrived came.
    live_oldest: Vec<Timestamp>,
    /// When the next live request may leave, unless there is a full one.
    live_rests_until: Instant,
    /// How long live requests take, smoothed.
    live_took: Duration,
    backlog_under_way: usize,
    backlog_batches_under_way: usize,
    /// Lines are gathered up to so many, and bytes up to so many: a little less than one request carries, so that the
    /// batch that goes beyond it still fits.
    lines_enough: usize,
    bytes_enough: usize,
    spares: Vec<Lines>,
    outage: Outage,
    calls: StoreCalls,
    setup: Option<JoinHandle<Setup>>,
    show_due: Instant,
    /// Nothing more will come: what is gathered leaves at once.
    is_ending: bool,
}

/// Live lines on their way into a delivery.
#[derive(Default)]
struct Gathering {
    gathered: Gathered,
    /// When the first of them was offered.
    since: Option<Instant>,
}

/// When the database may be asked again.
struct Outage {
    backoff: Backoff,
    /// Set while the last word of the database was a problem.
    until: Option<Instant>,
}

/// Reads the cursor, again and again while the store does not give it; `None` when the end came first.
pub(super) async fn load_cursor(sink: &mut InfluxSink, shutdown: &Shutdown) -> Option<u64> {
    let mut backoff = Backoff::new(RETRY_FIRST, sink.writer.config().backoff_max);
    loop {
        let (backlog, name) = (Arc::clone(&sink.backlog), sink.writer.config().name.clone());
        match tokio::task::spawn_blocking(move || backlog.cursor(&name)).await {
            Ok(Ok(cursor)) => {
                sink.status.backlog_works();
                return Some(cursor);
            }
            answer => sink.status.backlog_failed(words_of(answer)),
        }
        sink.status.show(None);
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

impl Pump {
    pub(super) fn new(sink: InfluxSink, cursor: u64) -> Pump {
        let config = sink.writer.config();
        let backoff = Backoff::new(RETRY_FIRST, config.backoff_max);
        let calls = StoreCalls::new(sink.backlog, config, backoff.clone(), cursor);
        let (lines_enough, bytes_enough) = (enough_of(config.lines_max), enough_of(config.bytes_max));
        let writer = Arc::clone(&sink.writer);
        let now = Clock::stamp();
        Pump {
            writer: sink.writer,
            receiver: sink.receiver,
            offered: sink.offered,
            meters: sink.meters,
            status: sink.status,
            clock: sink.clock,
            encoder: Encoder::default(),
            progress: Progress::new(cursor),
            lag: Lag::default(),
            live: Gathering::default(),
            live_through: 0,
            read_through: 0,
            blocked: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            live_under_way: 0,
            live_oldest: Vec::new(),
            live_rests_until: now,
            live_took: Duration::ZERO,
            backlog_under_way: 0,
            backlog_batches_under_way: 0,
            lines_enough,
            bytes_enough,
            spares: Vec::new(),
            outage: Outage { backoff, until: None },
            calls,
            setup: Some(tokio::spawn(async move { setup::check(&writer).await })),
            show_due: now,
            is_ending: false,
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut is_open = true;
        while !shutdown.is_cancelled() {
            self.bytes_enough = enough_of(self.writer.pace().bytes());
            self.take_queued();
            let now = Clock::stamp();
            self.start_requests(now);
            self.start_reading(now);
            self.calls.store(self.progress.cursor(), now);
            self.calls.keep(now);
            let is_shown = self.show(now);
            let wake_at = tokio::time::Instant::from_std(self.wake_at(now, is_shown));
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(report) = self.under_way.next(), if !self.under_way.is_empty() => self.ended(report),
                batch = self.receiver.recv(), if is_open && self.has_room() => match batch {
                    Some(batch) => self.take(&batch),
                    None => is_open = false,
                },
                () = self.offered.left.notified() => {}
                look = read_answer(&mut self.calls.reading) => self.have_read(look),
                answer = join(&mut self.calls.storing) => self.have_stored(answer),
                answer = join(&mut self.calls.keeping) => self.have_kept(answer),
                setup = join(&mut self.setup) => if let Ok(setup) = setup {
                    self.set_up(setup);
                },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.finish().await;
    }

    /// A database that is not ready is looked for again, until it is or a write tells more.
    fn set_up(&mut self, setup: Setup) {
        if setup.is_open() && !self.status.is_written_to() {
            let writer = Arc::clone(&self.writer);
            self.setup = Some(tokio::spawn(async move { setup::check_again(&writer).await }));
        }
        self.status.set_up(setup, self.writer.config());
    }

    fn has_room(&self) -> bool {
        let lines = &self.live.gathered.lines;
        lines.len() < self.lines_enough && lines.bytes() < self.bytes_enough
    }

    fn take_queued(&mut self) {
        while self.has_room()
            && let Ok(batch) = self.receiver.try_recv()
        {
            self.take(&batch);
        }
    }

    /// Takes a live batch up, unless the backlog was quicker or it is too old to be live.
    fn take(&mut self, offered: &OfferedBatch) {
        let OfferedBatch { batch, at } = offered;
        let sequence = batch.sequence;
        self.offered.readings.fetch_sub(batch.observations.reading_count(), Ordering::AcqRel);
        self.live_through = self.live_through.max(sequence);
        self.calls.is_probing = false;
        let is_old = !self.is_ending && !self.receiver.is_empty() && at.elapsed() >= LIVE_AGE_MAX;
        if !is_old && self.progress.take(sequence) && !self.live.add(&mut self.encoder, offered) {
            self.progress.finish(sequence);
        }
    }

    fn start_requests(&mut self, now: Instant) {
        if self.outage.until.is_some_and(|until| now < until) || self.calls.is_full() {
            return;
        }
        let is_probe = self.outage.until.is_some();
        let allowed = if is_probe { 1 } else { self.writer.pace().requests() };
        while self.under_way.len() < allowed
            && let Some(delivery) = self.next_delivery(now, allowed)
        {
            match delivery.lane {
                Lane::Live => self.live_under_way += 1,
                Lane::Backlog => {
                    self.backlog_under_way += 1;
                    self.backlog_batches_under_way = delivery.sequences.len();
                }
            }
            let is_crowded = self.under_way.len() + 1 >= allowed && !self.receiver.is_empty();
            let writer = Arc::clone(&self.writer);
            self.under_way.push(Box::pin(async move { writer.deliver(delivery, is_crowded).await }));
        }
    }

    fn next_delivery(&mut self, now: Instant, allowed: usize) -> Option<Delivery> {
        if let Some(blocked) = self.blocked.pop_front() {
            return Some(blocked);
        }
        let has_backlog = !self.calls.batches.is_empty() || self.backlog_under_way > 0;
        let live_allowed = if has_backlog { allowed.saturating_sub(1).max(1) } else { allowed };
        if self.live_under_way < live_allowed
            && self.is_live_due(now)
            && let Some(delivery) = self.next_live(now)
        {
            return Some(delivery);
        }
        if self.backlog_under_way > 0 || now < self.calls.rests_until {
            return None;
        }
        self.next_from_backlog()
    }

    fn is_live_due(&self, now: Instant) -> bool {
        if self.is_ending || !self.has_room() {
            return true;
        }
        if self.live_under_way == 0 {
            return now >= self.live_rests_until;
        }
        let flush_interval = self.writer.config().flush_interval;
        self.live.since.is_some_and(|since| now.duration_since(since) >= flush_interval)
    }

    fn next_live(&mut self, now: Instant) -> Option<Delivery> {
        let is_old = |since: Instant| now.duration_since(since) >= LIVE_AGE_MAX;
        if !self.is_ending && !self.receiver.is_empty() && self.live.since.is_some_and(is_old) {
            // It was full, and waited for a request: now newer lines have this one.
            self.live.since = None;
            for sequence in self.live.gathered.sequences.drain(..) {
                self.progress.give_back(sequence);
            }
            self.live.gathered.lines.clear();
            self.take_queued();
        }
        self.live.since.take()?;
        let fresh = Gathered { lines: self.spares.pop().unwrap_or_default(), ..Gathered::default() };
        let gathered = std::mem::replace(&mut self.live.gathered, fresh);
        self.live_rests_until = now + (self.live_took * 2).clamp(LIVE_GAP_MIN, LIVE_GAP_MAX);
        self.live_oldest.push(gathered.oldest);
        Some(Delivery::new(Lane::Live, gathered))
    }

    fn next_from_backlog(&mut self) -> Option<Delivery> {
        if self.calls.batches.is_empty() {
            return None;
        }
        let mut gathered = Gathered { lines: self.spares.pop().unwrap_or_default(), ..Gathered::default() };
        while gathered.lines.len() < self.lines_enough && gathered.lines.bytes() < self.bytes_enough {
            let Some(batch) = self.calls.batches.pop_front() else { break };
            if !gathered.add(&mut self.encoder, &batch) {
                self.progress.finish(batch.sequence);
            }
        }
        if gathered.sequences.is_empty() { None } else { Some(Delivery::new(Lane::Backlog, gathered)) }
    }

    /// A delivery came back: finished, or with a problem.
    fn ended(&mut self, report: Report) {
        let Report { mut delivery, problem, progressed, took, refused, refusals } = report;
        match delivery.lane {
            Lane::Live => {
                self.live_under_way -= 1;
                self.live_took = self.live_took.mul_f64(1.0 - TOOK_SMOOTHING) + took.mul_f64(TOOK_SMOOTHING);
            }
            Lane::Backlog => self.backlog_under_way -= 1,
        }
        self.status.refused(refused, refusals.last());
        if progressed {
            self.outage.backoff.reset();
        }
        let now = Clock::stamp();
        // Of a delivery that is to go on, the refused lines are known now and its batches have not arrived yet.
        let arrived = if problem.is_none() { std::mem::take(&mut delivery.sequences) } else { Vec::new() };
        if refusals.is_empty() {
            self.finish_batches(&arrived);
        } else {
            self.calls.refuse(refusals, arrived, &self.clock);
        }
        if let Some(problem) = problem {
            self.blocked_by(&problem, delivery, now);
            return;
        }
        self.arrived(delivery, took, now);
        // A request that left before another one met the problem says nothing about it.
        if self.outage.until.is_none_or(|until| now >= until) {
            self.outage.until = None;
            self.status.database_works();
        }
    }

    /// A delivery waits until the database may be asked again.
    fn blocked_by(&mut self, problem: &Problem, delivery: Delivery, now: Instant) {
        let wait = problem.retry_after.map(|wait| wait.max(RETRY_FIRST));
        let is_waiting = self.outage.until.is_some_and(|until| now < until);
        if wait.is_some() || !is_waiting {
            let until = now + wait.unwrap_or_else(|| self.outage.backoff.next_wait());
            self.outage.until = Some(self.outage.until.map_or(until, |known| known.max(until)));
        }
        self.status.problem_found(problem);
        match delivery.lane {
            Lane::Live => self.blocked.push_front(delivery),
            Lane::Backlog => self.blocked.push_back(delivery),
        }
    }

    fn finish_batches(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            self.progress.finish(*sequence);
        }
    }

    fn arrived(&mut self, delivery: Delivery, took: Duration, now: Instant) {
        match delivery.lane {
            Lane::Live => {
                if let Some(position) = self.live_oldest.iter().position(|oldest| *oldest == delivery.oldest) {
                    self.live_oldest.swap_remove(position);
                }
                if self.backlog_batches() == 0 {
                    self.lag.whole_through(delivery.newest);
                }
            }
            Lane::Backlog => {
                self.lag.whole_through(delivery.newest);
                self.backlog_batches_under_way = 0;
                self.calls.rest(took, now);
            }
        }
        if self.spares.len() < SPARES_MAX {
            self.spares.extend(delivery.into_spare());
        }
    }

    /// Up to which number batches are known to be in the backlog only; `None` when nobody knows how far it reaches.
    fn backlog_through(&self) -> Option<u64> {
        if self.calls.is_probing {
            return None;
        }
        // In this order: what was left before the queue was seen empty does not stand behind anything in the queue.
        let left_through = self.offered.left_through.load(Ordering::Acquire);
        Some(if self.receiver.is_empty() { self.live_through.max(left_through) } else { self.live_through })
    }

    /// Batches that have to be read back, or were and have not arrived.
    fn backlog_batches(&self) -> u64 {
        let missing = self.backlog_through().map_or(0, |through| self.progress.missing_through(through));
        missing + (self.calls.batches.len() + self.backlog_batches_under_way) as u64
    }

    fn start_reading(&mut self, now: Instant) {
        if !self.calls.may_read(now) || self.outage.until.is_some() {
            return;
        }
        let through = self.backlog_through();
        let from = self.progress.taken_through();
        if through.is_none_or(|through| through > from) {
            self.calls.read(from, through, now);
        }
    }

    fn have_read(&mut self, look: Look) {
        let Look { answer, through, took } = look;
        let batches = match answer {
            Ok(Ok(batches)) => batches,
            Ok(Err(BacklogError::Waits(words))) => {
                self.status.backlog_waits(words);
                self.calls.must_wait(Clock::stamp());
                return;
            }
            failed => {
                self.status.backlog_failed(words_of(failed));
                self.calls.has_failed(Clock::stamp());
                return;
            }
        };
        self.calls.has_read(took);
        self.status.backlog_gives();
        self.read_through = batches.last().map_or(self.read_through, |last| last.sequence);
        let wanted = through.unwrap_or(u64::MAX);
        let covered = match batches.last() {
            Some(last) => last.sequence.min(wanted),
            None => through.unwrap_or(0),
        };
        if batches.is_empty() && through.is_none() {
            self.calls.is_probing = false;
        }
        for batch in batches {
            if batch.sequence <= wanted && self.progress.take(batch.sequence) {
                self.calls.batches.push_back(batch);
            }
        }
        // What is missing among the numbers that were read is gone: the quota dropped it.
        self.progress.skip_through(covered);
    }

    fn have_stored(&mut self, answer: Answer<u64>) {
        match answer {
            Ok(Ok(cursor)) => {
                self.calls.stored = cursor;
                self.status.backlog_works();
            }
            failed => self.status.backlog_failed(words_of(failed)),
        }
    }

    fn have_kept(&mut self, answer: Answer<()>) {
        match answer {
            Ok(Ok(())) => {
                let arrived = self.calls.kept();
                self.finish_batches(&arrived);
                self.status.backlog_works();
            }
            failed => {
                self.status.backlog_failed(words_of(failed));
                self.calls.not_kept(Clock::stamp());
            }
        }
    }

    /// Writes health and gauges; false when that has to wait a little.
    fn show(&mut self, now: Instant) -> bool {
        if now < self.show_due {
            return false;
        }
        self.show_due = now + SHOWN_EVERY;
        let newest = self.offered.newest.load(Ordering::Acquire).max(self.read_through);
        let lag = newest.saturating_sub(self.progress.cursor());
        let newest_at = Timestamp(self.offered.newest_at.load(Ordering::Acquire));
        let gathering = self.live.since.map(|_| self.live.gathered.oldest);
        let live = self.live_oldest.iter().copied().chain(gathering).min();
        let backlog = self.backlog_batches();
        let behind = self.lag.behind(now, backlog, newest_at, live);
        let to_gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.meters.lag_batches.set(to_gauge(lag));
        self.meters.backlog_batches.set(to_gauge(backlog));
        self.meters.lag_seconds.set(to_gauge(behind.whole.as_secs()));
        self.meters.live_lag_seconds.set(to_gauge(behind.live.as_secs()));
        self.status.show((backlog > 0).then_some(behind));
        true
    }

    /// The next time that something is due without anything happening.
    fn wake_at(&self, now: Instant, is_shown: bool) -> Instant {
        let flush = self.live.since.and_then(|since| since.checked_add(self.writer.config().flush_interval));
        let show = (!is_shown).then_some(self.show_due);
        let own = [self.outage.until, flush, show, Some(self.live_rests_until)];
        let due = own.into_iter().chain(self.calls.due(self.progress.cursor()));
        let is_ahead = |at: &Instant| *at > now;
        due.flatten().filter(is_ahead).min().unwrap_or(now + IDLE)
    }

    /// Sends what is in memory, if the database takes it now, and stores the cursor. The rest is in the store.
    async fn finish(mut self) {
        self.is_ending = true;
        self.receiver.close();
        while let Ok(batch) = self.receiver.try_recv() {
            self.take(&batch);
        }
        self.calls.batches.clear();
        let deadline = tokio::time::Instant::from_std(Clock::stamp() + FLUSH_WITHIN);
        while self.outage.until.is_none() {
            self.start_requests(Clock::stamp());
            if self.under_way.is_empty() {
                break;
            }
            match tokio::time::timeout_at(deadline, self.under_way.next()).await {
                Ok(Some(report)) => self.ended(report),
                _ => break,
            }
        }
        self.finish_store(deadline).await;
        if let Some(setup) = self.setup.take() {
            setup.abort();
        }
        self.show_due = Clock::stamp();
        self.show(self.show_due);
    }

    /// Refused lines first: the cursor must not pass a line that nobody has.
    async fn finish_store(&mut self, deadline: tokio::time::Instant) {
        while self.calls.has_unkept() {
            self.calls.keep_at_once(Clock::stamp());
            let Ok(answer) = tokio::time::timeout_at(deadline, join(&mut self.calls.keeping)).await else { break };
            let has_failed = !matches!(answer, Ok(Ok(())));
            self.have_kept(answer);
            if has_failed {
                break;
            }
        }
        if self.calls.storing.is_some() {
            let answer = join(&mut self.calls.storing).await;
            self.have_stored(answer);
        }
        let cursor = self.progress.cursor();
        if cursor != self.calls.stored {
            let answer = self.calls.store_cursor(cursor).await;
            self.have_stored(answer);
        }
    }
}

fn enough_of(limit: usize) -> usize {
    limit - limit / 8
}

impl Gathered {
    /// Appends a batch; false when it has no lines.
    pub(super) fn add(&mut self, encoder: &mut Encoder, batch: &TelemetryBatch) -> bool {
        let before = self.lines.len();
        encoder.encode(batch, &mut self.lines);
        if self.lines.len() == before {
            return false;
        }
        let received_at = received_at(batch);
        if self.sequences.is_empty() {
            self.oldest = received_at;
        }
        self.newest = self.newest.max(received_at);
        self.sequences.push(batch.sequence);
        true
    }
}

/// When the batch came: the first of its observations is as good as any, they came within one commit.
pub(super) fn received_at(batch: &TelemetryBatch) -> Timestamp {
    batch.observations.iter().next().map(|(observation, _)| observation.received_at).unwrap_or_default()
}

impl Gathering {
    fn add(&mut self, encoder: &mut Encoder, offered: &OfferedBatch) -> bool {
        let has_lines = self.gathered.add(encoder, &offered.batch);
        if has_lines {
            self.since.get_or_insert(offered.at);
        }
        has_lines
    }
}
