//! The sink's loop: what is sent next, what waits, what is read back, when the cursor is stored.
//!
//! At most two requests are under way. Live lines leave at once when none of theirs is, and are gathered while one is.
//! While there is a backlog, each lane has one of the two: the backlog can neither stop live lines nor be starved by
//! them, and it rests after each request for as long as the request took. During an outage a single request probes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kerbside_model::port::{Backlog, BacklogError, TelemetryBatch};
use kerbside_runtime::{Backoff, Chain, Clock, Shutdown};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::deliver::{Delivery, Lane, Report, Writer};
use super::encode::{Encoder, Lines};
use super::meters::Meters;
use super::progress::Progress;
use super::setup::{self, Setup};
use super::status::Status;
use super::{InfluxSink, Offered};

const REQUESTS_UNDER_WAY_MAX: usize = 2;
/// Between two live requests at least: without it a request would carry the few lines of one commit.
const LIVE_GAP: Duration = Duration::from_millis(10);
/// The first wait after a failure: long enough for a connection that was closed while idle.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Raw frames that one look into the backlog reads back, in bytes.
const BACKLOG_READ_BYTES_MAX: usize = 1 << 20;
/// The backlog rests after a request for as long as that took, but no longer than this.
const BACKLOG_REST_MAX: Duration = Duration::from_secs(5);
/// The cursor is stored this often: what a crash sends again.
const CURSOR_STORED_EVERY: Duration = Duration::from_secs(1);
/// What is in memory may be sent for so long after the end was asked for.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// Holes between batches that are remembered at once; beyond it live batches wait for the backlog.
const RANGES_MAX: usize = 4_096;
/// When nothing else is due.
const IDLE: Duration = Duration::from_secs(60);

/// The answer of a call into the store on a thread of its own.
type StoreAnswer<T> = Result<Result<T, BacklogError>, JoinError>;

pub(super) struct Pump {
    writer: Arc<Writer>,
    backlog: Arc<dyn Backlog>,
    receiver: mpsc::Receiver<TelemetryBatch>,
    offered: Arc<Offered>,
    meters: Meters,
    status: Status,
    encoder: Encoder,
    progress: Progress,
    live: Gathering,
    /// The newest number that came out of the queue; what is missing below it is in the backlog only.
    live_through: u64,
    /// The newest number that was read back from the store.
    read_through: u64,
    /// Deliveries that met a problem, live ones first.
    blocked: VecDeque<Delivery>,
    under_way: FuturesUnordered<BoxFuture<'static, Report>>,
    live_under_way: usize,
    /// When the next live request may leave, unless there is a full one.
    live_rests_until: Instant,
    backlog_under_way: usize,
    outage: Outage,
    store: StoreCalls,
    setup: Option<JoinHandle<Setup>>,
    /// Nothing more will come: what is gathered leaves at once.
    is_ending: bool,
}

/// Live lines on their way into a delivery.
#[derive(Default)]
struct Gathering {
    lines: Lines,
    sequences: Vec<u64>,
    since: Option<Instant>,
}

/// When the database may be asked again.
struct Outage {
    backoff: Backoff,
    /// Set while the last word of the database was a problem.
    until: Option<Instant>,
}

/// Reading the backlog and storing the cursor.
struct StoreCalls {
    /// Nothing was offered yet: nobody knows how far the backlog reaches.
    is_probing: bool,
    batches: VecDeque<TelemetryBatch>,
    reading: Option<Reading>,
    backoff: Backoff,
    rests_until: Instant,
    storing: Option<JoinHandle<Result<u64, BacklogError>>>,
    stored: u64,
    store_due: Instant,
}

struct Reading {
    task: JoinHandle<Result<Vec<TelemetryBatch>, BacklogError>>,
    /// What is missing up to and with this number is wanted; all there is when not known.
    through: Option<u64>,
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
        let backoff = Backoff::new(RETRY_FIRST, sink.writer.config().backoff_max);
        let writer = Arc::clone(&sink.writer);
        let now = Clock::stamp();
        Pump {
            writer: sink.writer,
            backlog: sink.backlog,
            receiver: sink.receiver,
            offered: sink.offered,
            meters: sink.meters,
            status: sink.status,
            encoder: Encoder::default(),
            progress: Progress::new(cursor),
            live: Gathering::default(),
            live_through: 0,
            read_through: 0,
            blocked: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            live_under_way: 0,
            live_rests_until: now,
            backlog_under_way: 0,
            outage: Outage { backoff: backoff.clone(), until: None },
            store: StoreCalls {
                is_probing: true,
                batches: VecDeque::new(),
                reading: None,
                backoff,
                rests_until: now,
                storing: None,
                stored: cursor,
                store_due: now,
            },
            setup: Some(tokio::spawn(async move { setup::check(writer.config()).await })),
            is_ending: false,
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut is_open = true;
        while !shutdown.is_cancelled() {
            self.take_queued();
            let now = Clock::stamp();
            self.start_requests(now);
            self.start_reading(now);
            self.start_storing(now);
            self.show();
            let wake_at = tokio::time::Instant::from_std(self.wake_at(now));
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(report) = self.under_way.next(), if !self.under_way.is_empty() => self.ended(report),
                batch = self.receiver.recv(), if is_open && self.has_room() => match batch {
                    Some(batch) => self.take(&batch),
                    None => is_open = false,
                },
                (answer, through) = read_answer(&mut self.store.reading) => self.have_read(answer, through),
                answer = join(&mut self.store.storing) => self.have_stored(answer),
                setup = join(&mut self.setup) => if let Ok(setup) = setup {
                    self.set_up(setup);
                },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.finish().await;
    }

    /// A database that is not there is looked for again, until it is there or a write tells more.
    fn set_up(&mut self, setup: Setup) {
        if matches!(setup, Setup::Unreachable(_)) {
            let writer = Arc::clone(&self.writer);
            self.setup = Some(tokio::spawn(async move { setup::check_again(writer.config()).await }));
        }
        self.status.set_up(setup, self.writer.config());
    }

    fn has_room(&self) -> bool {
        let config = self.writer.config();
        self.live.lines.len() < config.lines_max && self.live.lines.bytes() < config.bytes_max
    }

    fn take_queued(&mut self) {
        while self.has_room()
            && let Ok(batch) = self.receiver.try_recv()
        {
            self.take(&batch);
        }
    }

    /// Takes a live batch up, unless the backlog was quicker.
    fn take(&mut self, batch: &TelemetryBatch) {
        let sequence = batch.sequence;
        self.offered.readings.fetch_sub(batch.observations.reading_count(), Ordering::AcqRel);
        self.live_through = self.live_through.max(sequence);
        self.store.is_probing = false;
        if self.progress.ranges() >= RANGES_MAX && self.progress.would_split(sequence) {
            return;
        }
        if self.progress.take(sequence) && !self.live.add(&mut self.encoder, batch) {
            self.progress.finish(sequence);
        }
    }

    fn start_requests(&mut self, now: Instant) {
        if self.outage.until.is_some_and(|until| now < until) {
            return;
        }
        let is_probe = self.outage.until.is_some();
        let allowed = if is_probe { 1 } else { REQUESTS_UNDER_WAY_MAX };
        while self.under_way.len() < allowed
            && let Some(delivery) = self.next_delivery(now)
        {
            match delivery.lane {
                Lane::Live => self.live_under_way += 1,
                Lane::Backlog => self.backlog_under_way += 1,
            }
            let writer = Arc::clone(&self.writer);
            self.under_way.push(Box::pin(async move { writer.deliver(delivery).await }));
        }
    }

    fn next_delivery(&mut self, now: Instant) -> Option<Delivery> {
        if let Some(blocked) = self.blocked.pop_front() {
            return Some(blocked);
        }
        let config = self.writer.config();
        let has_backlog = !self.store.batches.is_empty() || self.backlog_under_way > 0;
        let is_due = match self.live_under_way {
            _ if self.is_ending => true,
            0 => now >= self.live_rests_until || !self.has_room(),
            _ if has_backlog => false,
            _ => {
                !self.has_room()
                    || self.live.since.is_some_and(|since| now.duration_since(since) >= config.flush_interval)
            }
        };
        if is_due && let Some(delivery) = self.live.deliver() {
            self.live_rests_until = now + LIVE_GAP;
            return Some(delivery);
        }
        if self.backlog_under_way > 0 || now < self.store.rests_until {
            return None;
        }
        self.next_from_backlog()
    }

    fn next_from_backlog(&mut self) -> Option<Delivery> {
        let config = self.writer.config();
        let (mut lines, mut sequences) = (Lines::default(), Vec::new());
        while lines.len() < config.lines_max && lines.bytes() < config.bytes_max {
            let Some(batch) = self.store.batches.pop_front() else { break };
            let before = lines.len();
            self.encoder.encode(&batch, &mut lines);
            if lines.len() == before {
                self.progress.finish(batch.sequence);
            } else {
                sequences.push(batch.sequence);
            }
        }
        if sequences.is_empty() { None } else { Some(Delivery::new(Lane::Backlog, sequences, lines)) }
    }

    /// A delivery came back: finished, or with a problem.
    fn ended(&mut self, report: Report) {
        let lane = report.delivery.lane;
        match lane {
            Lane::Live => self.live_under_way -= 1,
            Lane::Backlog => self.backlog_under_way -= 1,
        }
        self.status.refused(report.refused, report.last_refusal);
        if report.progressed {
            self.outage.backoff.reset();
        }
        let now = Clock::stamp();
        if let Some(problem) = report.problem {
            let wait = problem.retry_after.map(|wait| wait.max(RETRY_FIRST));
            let is_waiting = self.outage.until.is_some_and(|until| now < until);
            if wait.is_some() || !is_waiting {
                let until = now + wait.unwrap_or_else(|| self.outage.backoff.next_wait());
                self.outage.until = Some(self.outage.until.map_or(until, |known| known.max(until)));
            }
            self.status.problem_found(&problem);
            match lane {
                Lane::Live => self.blocked.push_front(report.delivery),
                Lane::Backlog => self.blocked.push_back(report.delivery),
            }
            return;
        }
        for sequence in &report.delivery.sequences {
            self.progress.finish(*sequence);
        }
        if lane == Lane::Backlog {
            self.store.rests_until = now + report.took.min(BACKLOG_REST_MAX);
        }
        // A request that left before another one met the problem says nothing about it.
        if self.outage.until.is_none_or(|until| now >= until) {
            self.outage.until = None;
            self.status.database_works();
        }
    }

    /// Up to which number batches are known to be in the backlog only; `None` when nobody knows how far it reaches.
    fn backlog_through(&self) -> Option<u64> {
        if self.store.is_probing {
            return None;
        }
        // In this order: what was left before the queue was seen empty does not stand behind anything in the queue.
        let left_through = self.offered.left_through.load(Ordering::Acquire);
        Some(if self.receiver.is_empty() { self.live_through.max(left_through) } else { self.live_through })
    }

    fn start_reading(&mut self, now: Instant) {
        let is_idle = self.store.reading.is_none() && self.store.batches.is_empty();
        if !is_idle || self.outage.until.is_some() || now < self.store.rests_until {
            return;
        }
        let through = self.backlog_through();
        let from = self.progress.taken_through();
        if through.is_some_and(|through| through <= from) {
            return;
        }
        let backlog = Arc::clone(&self.backlog);
        let task = tokio::task::spawn_blocking(move || backlog.read_after(from, BACKLOG_READ_BYTES_MAX));
        self.store.reading = Some(Reading { task, through });
    }

    fn have_read(&mut self, answer: StoreAnswer<Vec<TelemetryBatch>>, through: Option<u64>) {
        let batches = match answer {
            Ok(Ok(batches)) => batches,
            failed => {
                self.status.backlog_failed(words_of(failed));
                self.store.rests_until = Clock::stamp() + self.store.backoff.next_wait();
                return;
            }
        };
        self.store.backoff.reset();
        self.status.backlog_works();
        self.read_through = batches.last().map_or(self.read_through, |last| last.sequence);
        let wanted = through.unwrap_or(u64::MAX);
        let covered = match batches.last() {
            Some(last) => last.sequence.min(wanted),
            None => through.unwrap_or(0),
        };
        if batches.is_empty() && through.is_none() {
            self.store.is_probing = false;
        }
        for batch in batches {
            if batch.sequence <= wanted && self.progress.take(batch.sequence) {
                self.store.batches.push_back(batch);
            }
        }
        // What is missing among the numbers that were read is gone: the quota dropped it.
        self.progress.skip_through(covered);
    }

    fn start_storing(&mut self, now: Instant) {
        let cursor = self.progress.cursor();
        if self.store.storing.is_some() || cursor == self.store.stored || now < self.store.store_due {
            return;
        }
        self.store.store_due = now + CURSOR_STORED_EVERY;
        self.store.storing = Some(self.store_cursor(cursor));
    }

    fn store_cursor(&self, cursor: u64) -> JoinHandle<Result<u64, BacklogError>> {
        let (backlog, name) = (Arc::clone(&self.backlog), self.writer.config().name.clone());
        tokio::task::spawn_blocking(move || backlog.delivered_through(&name, cursor).map(|()| cursor))
    }

    fn have_stored(&mut self, answer: StoreAnswer<u64>) {
        match answer {
            Ok(Ok(cursor)) => {
                self.store.stored = cursor;
                self.status.backlog_works();
            }
            failed => self.status.backlog_failed(words_of(failed)),
        }
    }

    fn show(&mut self) {
        let newest = self.offered.newest.load(Ordering::Acquire).max(self.read_through);
        let lag = newest.saturating_sub(self.progress.cursor());
        self.meters.lag_batches.set(i64::try_from(lag).unwrap_or(i64::MAX));
        let reads_back = !self.store.batches.is_empty() || self.backlog_under_way > 0;
        self.status.show(reads_back.then_some(lag));
    }

    /// The next time that something is due without anything happening.
    fn wake_at(&self, now: Instant) -> Instant {
        let flush = self.live.since.and_then(|since| since.checked_add(self.writer.config().flush_interval));
        let store = (self.progress.cursor() != self.store.stored).then_some(self.store.store_due);
        let due = [self.outage.until, flush, store, Some(self.store.rests_until), Some(self.live_rests_until)];
        let is_ahead = |at: &Instant| *at > now;
        due.into_iter().flatten().filter(is_ahead).min().unwrap_or(now + IDLE)
    }

    /// Sends what is in memory, if the database takes it now, and stores the cursor. The rest is in the store.
    async fn finish(mut self) {
        self.is_ending = true;
        self.receiver.close();
        while let Ok(batch) = self.receiver.try_recv() {
            self.take(&batch);
        }
        self.store.batches.clear();
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
        if self.store.storing.is_some() {
            let answer = join(&mut self.store.storing).await;
            self.have_stored(answer);
        }
        let cursor = self.progress.cursor();
        if cursor != self.store.stored {
            let answer = self.store_cursor(cursor).await;
            self.have_stored(answer);
        }
        if let Some(setup) = self.setup.take() {
            setup.abort();
        }
        self.show();
    }
}

impl Gathering {
    /// Appends a batch; false when it has no lines.
    fn add(&mut self, encoder: &mut Encoder, batch: &TelemetryBatch) -> bool {
        let before = self.lines.len();
        encoder.encode(batch, &mut self.lines);
        if self.lines.len() == before {
            return false;
        }
        self.sequences.push(batch.sequence);
        self.since.get_or_insert_with(Clock::stamp);
        true
    }

    fn deliver(&mut self) -> Option<Delivery> {
        self.since.take()?;
        let lines = std::mem::take(&mut self.lines);
        Some(Delivery::new(Lane::Live, std::mem::take(&mut self.sequences), lines))
    }
}

/// Waits for a task and takes it away when it has ended; waits for ever when there is none.
async fn join<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    let Some(handle) = task else { return std::future::pending().await };
    let answer = handle.await;
    *task = None;
    answer
}

async fn read_answer(reading: &mut Option<Reading>) -> (StoreAnswer<Vec<TelemetryBatch>>, Option<u64>) {
    let Some(Reading { task, through }) = reading else { return std::future::pending().await };
    let (answer, through) = (task.await, *through);
    *reading = None;
    (answer, through)
}

fn words_of<T>(failed: StoreAnswer<T>) -> String {
    match failed {
        Ok(Ok(_)) => String::new(),
        Ok(Err(error)) => Chain(&error).to_string(),
        Err(error) => format!("access the backlog of the store: {error}"),
    }
}
