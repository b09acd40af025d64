//! How much of a bus's time is used, by whom.
//!
//! Measured in real time over windows of a minute; nothing survives a restart.

use std::time::{Duration, Instant};

/// Shares are told for the last whole window, so that they neither jump nor lag for long.
const WINDOW: Duration = Duration::from_secs(60);

/// The busy part of the time.
#[derive(Debug)]
pub(super) struct Usage {
    began: Instant,
    busy: Duration,
    /// Share in the window before this one.
    last: Option<f64>,
}

impl Usage {
    pub(super) fn new(now: Instant) -> Usage {
        Usage { began: now, busy: Duration::ZERO, last: None }
    }

    /// A request has kept the bus for so long, until `now`.
    pub(super) fn add(&mut self, took: Duration, now: Instant) {
        self.busy += took;
        self.roll(now);
    }

    /// Share of the time until `now`, 0 to 1.
    pub(super) fn share(&mut self, now: Instant) -> f64 {
        self.roll(now);
        self.last.unwrap_or_else(|| self.current(now))
    }

    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            self.last = Some(self.current(now));
            (self.began, self.busy) = (now, Duration::ZERO);
        }
    }

    fn current(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64();
        if elapsed > 0.0 { (self.busy.as_secs_f64() / elapsed).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use kerbside_runtime::Clock;

    use super::*;

    #[test]
    fn the_share_is_that_of_the_last_whole_minute() {
        let start = Clock::stamp();
        let mut usage = Usage::new(start);
        assert_eq!(usage.share(start), 0.0);
        usage.add(Duration::from_secs(5), start + Duration::from_secs(10));
        assert_eq!(usage.share(start + Duration::from_secs(10)), 0.5);
        usage.add(Duration::from_secs(10), start + WINDOW);
        assert_eq!(usage.share(start + WINDOW), 0.25);
        usage.add(Duration::from_secs(30), start + WINDOW + Duration::from_secs(30));
        assert_eq!(usage.share(start + WINDOW + Duration::from_secs(30)), 0.25, "this minute is not over");
        assert_eq!(usage.share(start + 2 * WINDOW), 0.5);
    }
}
