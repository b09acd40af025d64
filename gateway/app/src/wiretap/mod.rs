//! Frames as they arrive, for a person who looks: a copy of what the engine was told, decoded once more beside it.
//!
//! Turns the inputs of a step into events of JSON for each viewer whose filter they pass. While nobody looks the
//! pipeline pays one relaxed load for a step; while somebody does, it copies frames into a bounded queue and never waits.
//! What does not fit is left out and counted, and every viewer is told how much. Nothing survives a crash.
//! Metrics: `kerbside_frames_viewers`, `kerbside_frames_shown_total`, `kerbside_frames_not_shown_total`.

mod show;
#[cfg(test)]
mod tests;
mod viewer;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kerbside_engine::Engine;
use kerbside_engine::decode::Certainty;
use kerbside_model::{Effects, Frame, FrameNote, Frames, Input, Noted, Payload, Site};
use kerbside_runtime::{Clock, Metrics};
use prometheus::{IntCounter, IntGauge};
use tokio::sync::mpsc;

use show::Bench;
use viewer::Viewer;
pub use viewer::{Filter, Needle};

/// People, and programs, that may look at once. Each may cost a decode of every frame.
pub const VIEWERS_MAX: usize = 16;
/// Frames that one viewer is shown in a second: more is no reading, and a phone has to draw them.
pub const SHOWN_PER_SECOND_MAX: u32 = 50;
/// Frames in a second that are looked at on behalf of all viewers: ten times what a district of 10,000 devices sends.
const LOOKED_AT_PER_SECOND_MAX: usize = 20_000;
/// Copies between the pipeline and whoever shows them, and their bytes.
const QUEUE_COPIES_MAX: usize = 64;
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Events that wait for one viewer: 5 s of the most that it is shown.
const VIEWER_EVENTS_MAX: usize = 256;
/// So long after the last viewer left its decoders are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Where viewers come and go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FrameViews(Arc<Shared>);

/// The pipeline's end.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    copies: SyncSender<Copied>,
    second: Second,
}

/// Where a step began.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    frames: u32,
    notes: usize,
}

/// One viewer's end: events, and how many it does not get. Dropping it ends the view.
#[derive(Debug)]
pub struct FrameWatch {
    shared: Arc<Shared>,
    id: u64,
    events: mpsc::Receiver<Arc<str>>,
    missed: Arc<MissedCounts>,
    /// What [`Shared::unseen`] was when it was told last.
    unseen_told: u64,
}

/// Frames that a viewer was not shown since it was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Missed {
    /// They passed its filter, and there were more in this second than [`SHOWN_PER_SECOND_MAX`].
    pub sampled: u64,
    /// They were made ready, and it did not take them in time.
    pub slow: u64,
    /// Nobody looked at them, because more came than are looked at: whether they would have passed is not known.
    pub unseen: u64,
}

/// Why somebody cannot look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// [`VIEWERS_MAX`] look already.
    #[error("look at frames: {VIEWERS_MAX} viewers look already, close one of them")]
    TooMany,
    /// The pipeline has ended.
    #[error("look at frames: the gateway is stopping")]
    Ended,
}

#[derive(Debug)]
struct Shared {
    /// How many look: all that the pipeline asks.
    watching: AtomicUsize,
    queued_bytes: AtomicUsize,
    /// Frames that nobody looked at although somebody was there.
    unseen: AtomicU64,
    audience: Mutex<Audience>,
    metrics: ViewMetrics,
}

#[derive(Debug, Default)]
struct Audience {
    viewers: Vec<Viewer>,
    next_id: u64,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct MissedCounts {
    sampled: AtomicU64,
    slow: AtomicU64,
}

#[derive(Debug)]
struct ViewMetrics {
    viewers: IntGauge,
    shown: IntCounter,
    sampled: IntCounter,
    slow: IntCounter,
    unseen: IntCounter,
}

/// Frames on their way from the pipeline, with what is needed to read them.
#[derive(Debug)]
struct Copied {
    site: Arc<Site>,
    certainty: Certainty,
    frames: CopiedFrames,
    /// Positions of frames that the engine decoded and did not keep, ascending.
    left_out: Vec<u32>,
    bytes: usize,
}

#[derive(Debug)]
enum CopiedFrames {
    One(Frame),
    Many(Frames),
}

/// How much of this second's share is left.
#[derive(Debug)]
struct Second {
    began: Instant,
    left: usize,
}

impl FrameViews {
    /// Both ends, with the thread between them. It ends when the tap is dropped.
    pub fn new(metrics: &Metrics) -> std::io::Result<(FrameViews, Tap)> {
        let shared = Arc::new(Shared {
            watching: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            unseen: AtomicU64::new(0),
            audience: Mutex::default(),
            metrics: ViewMetrics::new(metrics),
        });
        let (copies, receiver) = sync_channel(QUEUE_COPIES_MAX);
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("frame-view".to_owned()).spawn(move || show_all(&of_thread, &receiver))?;
        let second = Second { began: Clock::stamp(), left: LOOKED_AT_PER_SECOND_MAX };
        Ok((FrameViews(Arc::clone(&shared)), Tap { shared, copies, second }))
    }

    /// Begins to look.
    pub fn watch(&self, filter: Filter) -> Result<FrameWatch, ViewError> {
        let (sender, events) = mpsc::channel(VIEWER_EVENTS_MAX);
        let missed = Arc::<MissedCounts>::default();
        let mut audience = self.0.audience();
        if audience.has_ended {
            return Err(ViewError::Ended);
        }
        if audience.viewers.len() >= VIEWERS_MAX {
            return Err(ViewError::TooMany);
        }
        audience.next_id += 1;
        let id = audience.next_id;
        audience.viewers.push(Viewer::new(id, filter, sender, Arc::clone(&missed)));
        self.0.count(&audience);
        let unseen_told = self.0.unseen.load(Ordering::Relaxed);
        Ok(FrameWatch { shared: Arc::clone(&self.0), id, events, missed, unseen_told })
    }
}

impl FrameWatch {
    /// The next event, as a line of JSON; `None` when the gateway stops.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        self.events.recv().await
    }

    /// What was left out since the last time that this was asked; `None` for nothing.
    pub fn missed(&mut self) -> Option<Missed> {
        let unseen = self.shared.unseen.load(Ordering::Relaxed);
        let missed = Missed {
            sampled: self.missed.sampled.swap(0, Ordering::Relaxed),
            slow: self.missed.slow.swap(0, Ordering::Relaxed),
            unseen: unseen - std::mem::replace(&mut self.unseen_told, unseen),
        };
        (missed != Missed::default()).then_some(missed)
    }
}

impl Drop for FrameWatch {
    fn drop(&mut self) {
        let mut audience = self.shared.audience();
        audience.viewers.retain(|viewer| viewer.id != self.id);
        self.shared.count(&audience);
    }
}

impl Tap {
    /// Where a step begins, when somebody looks: to be asked right before it.
    #[inline]
    pub fn mark(&self, effects: &Effects) -> Option<Mark> {
        let is_watched = self.shared.watching.load(Ordering::Relaxed) > 0;
        is_watched.then_some(Mark { frames: effects.frames, notes: effects.notes.len() })
    }

    /// Copies the frames of a step. Never waits.
    pub fn copy(&mut self, mark: Mark, engine: &Engine, inputs: &[Input], effects: &Effects) {
        let notes = effects.notes.get(mark.notes..).unwrap_or_default();
        let mut first = mark.frames;
        for input in inputs {
            let (count, bytes) = size_of_input(input);
            let numbers = first..first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            first = numbers.end;
            let frames = match input {
                Input::Frame(_) | Input::Frames(_) if !(self.second.has_left(count) && self.has_room(bytes)) => {
                    self.leave_unseen(count);
                    continue;
                }
                Input::Frame(frame) => CopiedFrames::One(frame.clone()),
                Input::Frames(frames) => CopiedFrames::Many(frames.clone()),
                // What is read again did not arrive now.
                _ => continue,
            };
            let (site, certainty) = (Arc::clone(engine.site()), engine.certainty());
            let left_out = left_out(notes, &numbers);
            self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            let copied = Copied { site, certainty, frames, left_out, bytes };
            if self.copies.try_send(copied).is_err() {
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.leave_unseen(count);
            }
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.shared.queued_bytes.load(Ordering::Relaxed).saturating_add(bytes) <= QUEUE_BYTES_MAX
    }

    fn leave_unseen(&self, count: usize) {
        self.shared.unseen.fetch_add(count as u64, Ordering::Relaxed);
        self.shared.metrics.unseen.inc_by(count as u64);
    }
}

impl Second {
    /// Takes so many frames from this second's share, when something is left of it.
    fn has_left(&mut self, count: usize) -> bool {
        if self.began.elapsed() >= Duration::from_secs(1) {
            *self = Second { began: Clock::stamp(), left: LOOKED_AT_PER_SECOND_MAX };
        }
        let has_left = self.left > 0;
        self.left = self.left.saturating_sub(count);
        has_left
    }
}

/// Positions, from the first of `numbers`, of the frames in it that the engine did not keep.
fn left_out(notes: &[FrameNote], numbers: &Range<u32>) -> Vec<u32> {
    let of_these = notes.iter().filter(|note| note.what == Noted::Left && numbers.contains(&note.frame));
    of_these.map(|note| note.frame - numbers.start).collect()
}

/// How many frames the engine counts in an input, and about how many bytes a copy of them takes.
fn size_of_input(input: &Input) -> (usize, usize) {
    match input {
        Input::Frame(frame) => (1, payload_bytes(&frame.payload)),
        Input::Frames(frames) => (frames.len(), frames.memory_bytes()),
        Input::Again(frames) => (frames.len(), 0),
        _ => (0, 0),
    }
}

fn payload_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Bytes(bytes) => bytes.len(),
        Payload::Registers(read) => read.blocks.iter().map(|block| block.words.len() * 2).sum(),
    }
}

impl Shared {
    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, audience: &Audience) {
        let count = audience.viewers.len();
        self.watching.store(count, Ordering::Relaxed);
        self.metrics.viewers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl ViewMetrics {
    fn new(metrics: &Metrics) -> ViewMetrics {
        let not_shown = metrics.counters(
            "kerbside_frames_not_shown_total",
            "Frames that somebody who looks at them live was not shown: beyond the rate that is shown, too slow a reader, \
             or more than are looked at.",
            &["reason"],
        );
        ViewMetrics {
            viewers: metrics.gauge("kerbside_frames_viewers", "Who looks at frames live."),
            shown: metrics.counter("kerbside_frames_shown_total", "Frames that were shown live, once for each viewer."),
            sampled: not_shown.with_label_values(&["sampled"]),
            slow: not_shown.with_label_values(&["slow"]),
            unseen: not_shown.with_label_values(&["unseen"]),
        }
    }
}

/// Shows what is copied until the tap is dropped; then every view ends.
fn show_all(shared: &Shared, copies: &Receiver<Copied>) {
    let mut bench: Option<Bench> = None;
    loop {
        let next = match &bench {
            None => copies.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => copies.recv_timeout(FORGET_AFTER),
        };
        match next {
            Ok(copied) => {
                shared.queued_bytes.fetch_sub(copied.bytes, Ordering::Relaxed);
                let known = bench.take().filter(|bench| Arc::ptr_eq(&bench.site, &copied.site));
                let bench = bench.insert(known.unwrap_or_else(|| Bench::new(Arc::clone(&copied.site))));
                show_copied(shared, bench, &copied);
            }
            Err(RecvTimeoutError::Timeout) if shared.watching.load(Ordering::Relaxed) == 0 => bench = None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut audience = shared.audience();
    audience.has_ended = true;
    audience.viewers.clear();
    shared.count(&audience);
}

fn show_copied(shared: &Shared, bench: &mut Bench, copied: &Copied) {
    let mut left_out = copied.left_out.iter().copied().peekable();
    let mut show = |number: u32, frame: &kerbside_model::FrameView<'_>| {
        let is_left_out = left_out.next_if_eq(&number).is_some();
        // Locked for each frame, so that somebody who comes or goes waits for one frame and not for all of them.
        let mut audience = shared.audience();
        let arrival = show::Arrival { frame, certainty: copied.certainty, is_left_out };
        let said = bench.show(&arrival, &mut audience.viewers);
        drop(audience);
        shared.metrics.shown.inc_by(said.shown);
        shared.metrics.sampled.inc_by(said.sampled);
        shared.metrics.slow.inc_by(said.slow);
    };
    match &copied.frames {
        CopiedFrames::One(frame) => show(0, &frame.view()),
        CopiedFrames::Many(frames) => (0_u32..).zip(frames.iter()).for_each(|(number, frame)| show(number, &frame)),
    }
}
