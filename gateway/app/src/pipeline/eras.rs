//! Times in which the gateway's clock could not be believed, and what that means for telemetry.
//!
//! While the clock is unsure, batches are committed with assumed times and telemetry waits, but no longer than
//! [`HOLD_MAX`]. When the clock is known, the error of the assumed times is known too: frames that are read back for
//! the telemetry database get the time at which they truly came. Alarms and cases are not held and not changed.
//! The eras survive a crash in a small file. One whose end was lost by a crash keeps its assumed times.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kerbside_engine::decode::Certainty;
use kerbside_model::Timestamp;
use kerbside_runtime::Clock;
use kerbside_runtime::trust::Rebase;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

const FILE: &str = "clock-eras.json";
/// Eras that are remembered: one is begun at each start without a sound clock, and serves until its batches are sent.
const ERAS_MAX: usize = 64;
/// Telemetry waits so long for a sound clock; then it is sent with the assumed times.
pub const HOLD_MAX: Duration = Duration::from_secs(600);

/// The eras, old and new. Shared by the pipeline's publisher, the backlog and the task that watches the clock.
#[derive(Debug)]
pub struct ClockEras {
    path: PathBuf,
    hold_max: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    eras: Vec<Era>,
    /// Since when the newest era goes on.
    running_since: Option<Instant>,
}

/// Batches that were committed with assumed times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Era {
    /// Its first batch.
    first: u64,
    /// Its last batch, when it is over.
    last: Option<u64>,
    /// The first assumed time.
    from: Timestamp,
    /// The last one, and what must be added to each, in ms.
    known: Option<(Timestamp, i64)>,
}

/// The times of arrival in one batch: as they stand, or assumed.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals(Option<(Timestamp, Option<(Timestamp, i64)>)>);

impl Arrivals {
    /// Times that stand as they are.
    pub const SURE: Arrivals = Arrivals(None);

    /// How far device times can be judged by them.
    pub fn certainty(self) -> Certainty {
        if matches!(self.0, Some((_, None))) { Certainty::Unsure } else { Certainty::Sure }
    }

    /// When a frame truly came, as far as that is known. Frames that came after the clock was known bear true times.
    pub fn actual(self, received_at: Timestamp) -> Timestamp {
        match self.0 {
            Some((from, Some((until, offset_ms)))) if (from..=until).contains(&received_at) => {
                Timestamp(received_at.0.saturating_add(offset_ms))
            }
            _ => received_at,
        }
    }
}

/// Telemetry of these batches waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waiting for the clock: telemetry follows when the time is sure, after {} min at most", HOLD_MAX.as_secs() / 60)]
pub struct Held;

impl ClockEras {
    /// Reads what is remembered in this folder. `last_sequence` is the newest batch of the store: an era without an
    /// end ended with it.
    pub fn load(folder: &Path, last_sequence: u64) -> ClockEras {
        let path = folder.join(FILE);
        let mut eras: Vec<Era> = match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(eras)) => eras,
            Ok(Err(error)) => {
                warn!(file = %path.display(), %error, "telemetry of times without a sound clock keeps assumed times");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        for era in eras.iter_mut().filter(|era| era.last.is_none()) {
            era.last = Some(last_sequence);
        }
        ClockEras { path, hold_max: HOLD_MAX, inner: Mutex::new(Inner { eras, running_since: None }) }
    }

    /// With another patience, for tests.
    #[cfg(test)]
    pub(crate) fn with_hold_max(mut self, hold_max: Duration) -> ClockEras {
        self.hold_max = hold_max;
        self
    }

    /// The clock cannot be believed from the batch `first` on, when `from` was taken for the time.
    pub fn begin(&self, first: u64, from: Timestamp) {
        let mut inner = self.lock();
        inner.eras.push(Era { first, last: None, from, known: None });
        let excess = inner.eras.len().saturating_sub(ERAS_MAX);
        inner.eras.drain(..excess);
        inner.running_since = Some(Clock::stamp());
        self.save(&inner.eras);
    }

    /// The time is known. What is still on its way through the pipeline may bear an assumed time, so the era goes on.
    pub fn found(&self, rebase: Rebase) {
        let mut inner = self.lock();
        if let Some(era) = inner.eras.last_mut().filter(|era| era.last.is_none()) {
            era.known = Some((rebase.assumed, rebase.offset_ms()));
        }
        self.save(&inner.eras);
    }

    /// Batches after `last` bear true times. Telemetry waits no more.
    pub fn end(&self, last: u64) {
        let mut inner = self.lock();
        if let Some(era) = inner.eras.last_mut().filter(|era| era.last.is_none()) {
            era.last = Some(last);
        }
        inner.running_since = None;
        self.save(&inner.eras);
    }

    /// The first batch whose telemetry waits.
    pub fn held_from(&self) -> Option<u64> {
        let inner = self.lock();
        let is_held = inner.running_since.is_some_and(|since| since.elapsed() < self.hold_max);
        inner.eras.last().filter(|_| is_held).map(|era| era.first)
    }

    /// How the times of arrival in a batch are to be read.
    pub fn arrivals(&self, sequence: u64) -> Arrivals {
        let inner = self.lock();
        let is_in = |era: &&Era| era.first <= sequence && era.last.is_none_or(|last| sequence <= last);
        Arrivals(inner.eras.iter().rev().find(is_in).map(|era| (era.from, era.known)))
    }

    /// A file that cannot be written costs no more than the right times of some telemetry: the gateway goes on.
    fn save(&self, eras: &[Era]) {
        if let Err(error) = write(&self.path, eras) {
            error!(file = %self.path.display(), %error, "telemetry may keep assumed times after a restart");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole or not at all: the old file stays until the new one is on the disk.
fn write(path: &Path, eras: &[Era]) -> std::io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(eras)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Timestamp = Timestamp(1_800_000_000_000);
    const DAY_MS: i64 = 86_400_000;

    /// When a frame of a batch came, and how sure that is.
    fn arrival(eras: &ClockEras, sequence: u64, received_at: Timestamp) -> (Timestamp, Certainty) {
        let arrivals = eras.arrivals(sequence);
        (arrivals.actual(received_at), arrivals.certainty())
    }

    fn rebase() -> Rebase {
        Rebase { assumed: Timestamp(FROM.0 + 60_000), actual: Timestamp(FROM.0 + 60_000 + 2 * DAY_MS) }
    }

    #[test]
    fn frames_of_an_era_get_the_time_at_which_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let eras = ClockEras::load(folder.path(), 10);
        assert_eq!(arrival(&eras, 11, FROM), (FROM, Certainty::Sure));
        eras.begin(11, FROM);
        assert_eq!(eras.held_from(), Some(11));
        assert_eq!(arrival(&eras, 11, FROM), (FROM, Certainty::Unsure));
        eras.found(rebase());
        assert_eq!(eras.held_from(), Some(11), "some may still be on their way");
        eras.end(20);
        assert_eq!(eras.held_from(), None);
        let moved = Timestamp(FROM.0 + 30_000 + 2 * DAY_MS);
        assert_eq!(arrival(&eras, 20, Timestamp(FROM.0 + 30_000)), (moved, Certainty::Sure));
        let after_the_turn = Timestamp(FROM.0 + 61_000 + 2 * DAY_MS);
        assert_eq!(arrival(&eras, 20, after_the_turn), (after_the_turn, Certainty::Sure));
        for sequence in [10, 21] {
            assert_eq!(arrival(&eras, sequence, FROM), (FROM, Certainty::Sure));
        }
    }

    #[test]
    fn eras_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let eras = ClockEras::load(folder.path(), 0);
        eras.begin(1, FROM);
        eras.found(rebase());
        drop(eras);
        // Killed before the end was noted: it ended with the last batch.
        let eras = ClockEras::load(folder.path(), 7);
        assert_eq!(eras.held_from(), None);
        assert_eq!(arrival(&eras, 7, FROM).0, Timestamp(FROM.0 + 2 * DAY_MS));
        assert_eq!(arrival(&eras, 8, FROM).0, FROM);
        eras.begin(8, FROM);
        drop(eras);
        // Killed while it was unsure: nobody will ever know.
        let eras = ClockEras::load(folder.path(), 9);
        assert_eq!(arrival(&eras, 9, FROM), (FROM, Certainty::Unsure));
        assert_eq!(arrival(&eras, 7, FROM).0, Timestamp(FROM.0 + 2 * DAY_MS));
    }

    #[test]
    fn telemetry_does_not_wait_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let eras = ClockEras::load(folder.path(), 0).with_hold_max(Duration::ZERO);
        eras.begin(1, FROM);
        assert_eq!(eras.held_from(), None);
    }

    #[test]
    fn a_damaged_file_is_begun_anew_and_the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        let eras = ClockEras::load(folder.path(), 0);
        for first in 0..200 {
            eras.begin(first, FROM);
            eras.end(first);
        }
        let eras = ClockEras::load(folder.path(), 200);
        assert_eq!(eras.lock().eras.len(), ERAS_MAX);
        assert_eq!(arrival(&eras, 199, FROM), (FROM, Certainty::Unsure));
    }
}
