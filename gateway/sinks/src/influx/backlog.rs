//! The sink's calls into the store, each on a thread of its own: reading batches back, storing the cursor, keeping
//! lines that the database refuses.
//!
//! The backlog has an explicit pace: after each of its requests it rests, so that reading back, decoding, encoding and
//! sending take no more than a share of the time of one request. Live lines are never paced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_model::port::{Backlog, BacklogError, RefusedPoint, TelemetryBatch};
use kerbside_runtime::{Backoff, Chain, Clock};
use tokio::task::{JoinError, JoinHandle};

use super::InfluxConfig;
use super::deliver::Refusal;

/// Raw frames that one look into the backlog reads back, in bytes.
const READ_BYTES_MAX: usize = 1 << 20;
/// The backlog rests no longer than this after a request, however long that took.
const REST_MAX: Duration = Duration::from_secs(5);
/// The cursor is stored this often: what a crash sends again.
const CURSOR_STORED_EVERY: Duration = Duration::from_secs(1);
/// A backlog that gives nothing yet, though nothing is wrong, is asked again after this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Deliveries whose refused lines wait for the store; beyond it nothing is sent.
const UNKEPT_MAX: usize = 16;

/// The answer of a call into the store.
pub(super) type Answer<T> = Result<Result<T, BacklogError>, JoinError>;

/// What is under way into the store, and what came back from it.
pub(super) struct StoreCalls {
    backlog: Arc<dyn Backlog>,
    sink: String,
    share_percent: u32,
    /// Nothing was offered yet: nobody knows how far the backlog reaches.
    pub(super) is_probing: bool,
    /// Read back and not encoded yet.
    pub(super) batches: VecDeque<TelemetryBatch>,
    pub(super) reading: Option<Reading>,
    backoff: Backoff,
    pub(super) rests_until: Instant,
    /// What the backlog has taken since it rested last.
    spent: Duration,
    pub(super) storing: Option<JoinHandle<Result<u64, BacklogError>>>,
    pub(super) stored: u64,
    store_due: Instant,
    pub(super) keeping: Option<JoinHandle<Result<(), BacklogError>>>,
    unkept: VecDeque<Unkept>,
    keep_due: Instant,
}

pub(super) struct Reading {
    task: JoinHandle<Result<Vec<TelemetryBatch>, BacklogError>>,
    /// What is missing up to and with this number is wanted; all there is when not known.
    through: Option<u64>,
    began: Instant,
}

/// Refused lines, and the batches that have arrived once these are kept.
struct Unkept {
    points: Vec<RefusedPoint>,
    sequences: Vec<u64>,
}

impl StoreCalls {
    pub(super) fn new(backlog: Arc<dyn Backlog>, config: &InfluxConfig, backoff: Backoff, cursor: u64) -> StoreCalls {
        let now = Clock::stamp();
        StoreCalls {
            backlog,
            sink: config.name.clone(),
            share_percent: config.backlog_share_percent,
            is_probing: true,
            batches: VecDeque::new(),
            reading: None,
            backoff,
            rests_until: now,
            spent: Duration::ZERO,
            storing: None,
            stored: cursor,
            store_due: now,
            keeping: None,
            unkept: VecDeque::new(),
            keep_due: now,
        }
    }

    /// Whether a look into the backlog may begin.
    pub(super) fn may_read(&self, now: Instant) -> bool {
        self.reading.is_none() && self.batches.is_empty() && now >= self.rests_until
    }

    /// Begins to read what comes after `from`.
    pub(super) fn read(&mut self, from: u64, through: Option<u64>, now: Instant) {
        let backlog = Arc::clone(&self.backlog);
        let task = tokio::task::spawn_blocking(move || backlog.read_after(from, READ_BYTES_MAX));
        self.reading = Some(Reading { task, through, began: now });
    }

    /// The store gave batches.
    pub(super) fn has_read(&mut self, took: Duration) {
        self.backoff.reset();
        self.spent += took;
    }

    /// The store gave nothing; it is asked again after a while.
    pub(super) fn has_failed(&mut self, now: Instant) {
        let wait = self.backoff.next_wait();
        self.rests_until = now + wait;
    }

    /// The store has batches that may not be sent yet.
    pub(super) fn must_wait(&mut self, now: Instant) {
        self.backoff.reset();
        self.rests_until = now + ASKED_AGAIN_AFTER;
    }

    /// A request of the backlog took so long.
    pub(super) fn rest(&mut self, took: Duration, now: Instant) {
        let spent = std::mem::take(&mut self.spent) + took;
        self.rests_until = now + rest_after(spent, self.share_percent);
    }

    /// Stores the cursor when it moved and it is time.
    pub(super) fn store(&mut self, cursor: u64, now: Instant) {
        if self.storing.is_some() || cursor == self.stored || now < self.store_due {
            return;
        }
        self.store_due = now + CURSOR_STORED_EVERY;
        self.storing = Some(self.store_cursor(cursor));
    }

    /// Stores the cursor now.
    pub(super) fn store_cursor(&self, cursor: u64) -> JoinHandle<Result<u64, BacklogError>> {
        let (backlog, sink) = (Arc::clone(&self.backlog), self.sink.clone());
        tokio::task::spawn_blocking(move || backlog.delivered_through(&sink, cursor).map(|()| cursor))
    }

    /// Takes refused lines; their batches have arrived when the store has the lines.
    pub(super) fn refuse(&mut self, refusals: Vec<Refusal>, sequences: Vec<u64>, clock: &Clock) {
        let at = clock.now();
        let point = |refusal: Refusal| {
            let Refusal { device, line, reason } = refusal;
            RefusedPoint { device, line, reason, at }
        };
        self.unkept.push_back(Unkept { points: refusals.into_iter().map(point).collect(), sequences });
    }

    /// Whether so many refused lines wait for the store that no more may be found.
    pub(super) fn is_full(&self) -> bool {
        self.unkept.len() >= UNKEPT_MAX
    }

    /// Whether refused lines wait for the store.
    pub(super) fn has_unkept(&self) -> bool {
        !self.unkept.is_empty()
    }

    /// Asks the store again without waiting.
    pub(super) fn keep_at_once(&mut self, now: Instant) {
        self.keep_due = now;
        self.keep(now);
    }

    /// Hands refused lines to the store, when some wait.
    pub(super) fn keep(&mut self, now: Instant) {
        let Some(unkept) = self.unkept.front() else { return };
        if self.keeping.is_some() || now < self.keep_due {
            return;
        }
        let (backlog, sink, points) = (Arc::clone(&self.backlog), self.sink.clone(), unkept.points.clone());
        self.keeping = Some(tokio::task::spawn_blocking(move || backlog.keep_refused(&sink, &points)));
    }

    /// The store has the oldest refused lines: gives the batches that have arrived by that.
    pub(super) fn kept(&mut self) -> Vec<u64> {
        self.unkept.pop_front().map(|unkept| unkept.sequences).unwrap_or_default()
    }

    /// The store did not take refused lines; it is asked again after a while.
    pub(super) fn not_kept(&mut self, now: Instant) {
        self.keep_due = now + self.backoff.next_wait();
    }

    /// What is due next without anything happening.
    pub(super) fn due(&self, cursor: u64) -> [Option<Instant>; 3] {
        let store = (cursor != self.stored).then_some(self.store_due);
        let keep = (!self.unkept.is_empty()).then_some(self.keep_due);
        [store, keep, Some(self.rests_until)]
    }
}

/// Reading and sending shall take a share of the time: 50 % of it means to rest for as long as both took.
fn rest_after(spent: Duration, share_percent: u32) -> Duration {
    let share = f64::from(share_percent.clamp(1, 100)) / 100.0;
    spent.mul_f64((1.0 - share) / share).min(REST_MAX)
}

/// Waits for a task and takes it away when it has ended; waits for ever when there is none.
pub(super) async fn join<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    let Some(handle) = task else { return std::future::pending().await };
    let answer = handle.await;
    *task = None;
    answer
}

/// What a look into the backlog gave.
pub(super) struct Look {
    pub(super) answer: Answer<Vec<TelemetryBatch>>,
    pub(super) through: Option<u64>,
    pub(super) took: Duration,
}

/// Waits for a look into the backlog; for ever when there is none.
pub(super) async fn read_answer(reading: &mut Option<Reading>) -> Look {
    let Some(Reading { task, through, began }) = reading else { return std::future::pending().await };
    let (answer, through, took) = (task.await, *through, began.elapsed());
    *reading = None;
    Look { answer, through, took }
}

/// Why a call into the store failed, in words.
pub(super) fn words_of<T>(failed: Answer<T>) -> String {
    match failed {
        Ok(Ok(_)) => String::new(),
        Ok(Err(error)) => Chain(&error).to_string(),
        Err(error) => format!("access the backlog of the store: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_takes_no_more_than_its_share_of_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!(rest_after(second, 50), second);
        assert_eq!(rest_after(second, 25), 3 * second);
        assert_eq!(rest_after(second, 100), Duration::ZERO);
        assert_eq!(rest_after(second, 1), REST_MAX, "never silent for long");
    }
}
