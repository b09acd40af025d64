//! Says how far behind the database is: in seconds of the readings' own time, in batches, and how long it will take.
//!
//! Two figures, because two people ask. The dashboard is behind by the age of the oldest live line that has not
//! arrived. The record is complete up to some time in the past while a backlog follows. Ages are differences between
//! times of arrival, so that they hold for a clock that runs fast in a demonstration too.

use std::time::{Duration, Instant};

use kerbside_model::Timestamp;

/// The backlog is looked at this often to learn how fast it shrinks.
const SAMPLED_EVERY: Duration = Duration::from_secs(5);
/// Share of a new sample in the smoothed speed.
const SMOOTHING: f64 = 0.3;

/// How far behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Batches that have to be read back from the store or were and have not arrived.
    pub(super) backlog_batches: u64,
    /// Age of the oldest live line that has not arrived.
    pub(super) live: Duration,
    /// Everything older than this has arrived.
    pub(super) whole: Duration,
    /// How long the backlog will take at the pace of late; `None` when it does not shrink or nobody knows yet.
    pub(super) left: Option<Duration>,
}

/// Follows the backlog.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Everything up to here has arrived, by time of arrival at the gateway; unknown after a start with a backlog.
    whole_through: Option<Timestamp>,
    sampled: Option<(Instant, u64)>,
    /// Batches a second by which the backlog shrinks, smoothed; negative when it grows.
    speed: Option<f64>,
}

impl Lag {
    /// Nothing is left in the backlog before the batch of this time.
    pub(super) fn whole_through(&mut self, at: Timestamp) {
        self.whole_through = Some(self.whole_through.map_or(at, |known| known.max(at)));
    }

    /// `newest`: when the newest batch came; `live`: when the oldest live batch that has not arrived came, if any.
    pub(super) fn behind(
        &mut self,
        now: Instant,
        backlog_batches: u64,
        newest: Timestamp,
        live: Option<Timestamp>,
    ) -> Behind {
        self.sample(now, backlog_batches);
        let live_behind = live.map_or(Duration::ZERO, |oldest| newest.since(oldest));
        let whole = match (backlog_batches, self.whole_through) {
            (0, _) | (_, None) => live_behind,
            (_, Some(through)) => newest.since(through).max(live_behind),
        };
        let left = self.speed.filter(|speed| *speed > 0.0 && backlog_batches > 0);
        let left = left.and_then(|speed| Duration::try_from_secs_f64(backlog_batches as f64 / speed).ok());
        Behind { backlog_batches, live: live_behind, whole, left }
    }

    fn sample(&mut self, now: Instant, backlog_batches: u64) {
        if backlog_batches == 0 {
            (self.sampled, self.speed) = (None, None);
            return;
        }
        let Some((at, before)) = self.sampled else {
            self.sampled = Some((now, backlog_batches));
            return;
        };
        let seconds = now.duration_since(at).as_secs_f64();
        if seconds < SAMPLED_EVERY.as_secs_f64() {
            return;
        }
        let sample = (before as f64 - backlog_batches as f64) / seconds;
        self.speed = Some(self.speed.map_or(sample, |known| known + (sample - known) * SMOOTHING));
        self.sampled = Some((now, backlog_batches));
    }
}

impl Behind {
    /// For the health, such as `catching up: 812000 batches to go, about 14 min left, live lines 0 s behind`.
    pub(super) fn words(&self) -> String {
        let left = match self.left {
            Some(left) => format!("about {} left", rough(left)),
            None => "time left not known yet".to_owned(),
        };
        format!(
            "catching up: {} batches to go, {left}, complete up to {} ago, live lines {} behind",
            self.backlog_batches,
            rough(self.whole),
            rough(self.live)
        )
    }
}

/// A span as people say it: at most 119 of a unit.
fn rough(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use kerbside_runtime::Clock;

    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp(1_700_000_000_000 + seconds * 1000)
    }

    #[test]
    fn the_time_left_follows_from_how_fast_the_backlog_shrinks() {
        let (mut lag, start) = (Lag::default(), Clock::stamp());
        lag.whole_through(at(0));
        let first = lag.behind(start, 10_000, at(86_400), Some(at(86_399)));
        assert_eq!(
            first.words(),
            "catching up: 10000 batches to go, time left not known yet, complete up to 24 h ago, live lines 1 s behind"
        );
        lag.whole_through(at(7_200));
        let second = lag.behind(start + Duration::from_secs(10), 9_000, at(86_410), None);
        assert_eq!(second.left, Some(Duration::from_secs(90)));
        assert_eq!((second.live, second.whole), (Duration::ZERO, Duration::from_secs(79_210)));
        let growing = lag.behind(start + Duration::from_secs(20), 12_000, at(86_420), None);
        assert_eq!(growing.left, None, "nobody may be promised an end");
        let over = lag.behind(start + Duration::from_secs(30), 0, at(86_430), None);
        assert_eq!(over, Behind::default());
    }

    #[test]
    fn spans_are_told_as_people_do() {
        for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h")] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
