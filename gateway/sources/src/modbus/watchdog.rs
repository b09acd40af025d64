//! When a link that seems to be there has given nothing for so long that it is made anew.
//!
//! In real time; nothing survives a restart.

use std::time::{Duration, Instant};

/// Without anything good in so many of the shortest periods the link is made anew.
const PERIODS: u32 = 10;

/// ... but not before this: a restarting gateway or modem takes that long.
pub(super) const PATIENCE_MIN: Duration = Duration::from_secs(30);

/// Each time in vain doubles the patience, up to so many times: a bus without a living unit is no news.
const DOUBLINGS_MAX: u32 = 7;

/// Watches over the link of one bus.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience_min: Duration,
    /// When something good last came, or the link was last made anew.
    good_at: Instant,
    /// How often it was made anew since something good came.
    rebuilds: u32,
}

impl Watchdog {
    pub(super) fn new(patience_min: Duration, now: Instant) -> Watchdog {
        Watchdog { patience_min, good_at: now, rebuilds: 0 }
    }

    /// The wait begins at `now`.
    pub(super) fn begin(&mut self, now: Instant) {
        self.good_at = now;
    }

    /// Something good has come.
    pub(super) fn feed(&mut self, now: Instant) {
        (self.good_at, self.rebuilds) = (now, 0);
    }

    /// Whether the link is to be made anew, and then after how long without anything good; `period` is the shortest of
    /// the bus, in real time.
    pub(super) fn bite(&mut self, period: Duration, now: Instant) -> Option<Duration> {
        let patience = period.saturating_mul(PERIODS).max(self.patience_min);
        let patience = patience.saturating_mul(1 << self.rebuilds.min(DOUBLINGS_MAX));
        if now.saturating_duration_since(self.good_at) < patience {
            return None;
        }
        self.good_at = now;
        self.rebuilds = self.rebuilds.saturating_add(1);
        Some(patience)
    }
}

#[cfg(test)]
mod tests {
    use kerbside_runtime::Clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_bites_after_ten_periods_and_not_before_half_a_minute() {
        for (period, patience) in [(SECOND, 30 * SECOND), (60 * SECOND, 600 * SECOND)] {
            let start = Clock::stamp();
            let mut watchdog = Watchdog::new(PATIENCE_MIN, start);
            assert_eq!(watchdog.bite(period, start + patience - SECOND), None);
            assert_eq!(watchdog.bite(period, start + patience), Some(patience));
        }
    }

    #[test]
    fn each_time_in_vain_doubles_its_patience_and_something_good_restores_it() {
        let mut now = Clock::stamp();
        let mut watchdog = Watchdog::new(PATIENCE_MIN, now);
        for doublings in [0, 1, 2, 3, 4, 5, 6, 7, 7, 7] {
            let patience = PATIENCE_MIN * (1 << doublings);
            assert_eq!(watchdog.bite(SECOND, now + patience - SECOND), None);
            now += patience;
            assert_eq!(watchdog.bite(SECOND, now), Some(patience));
        }
        watchdog.feed(now);
        assert_eq!(watchdog.bite(SECOND, now + PATIENCE_MIN), Some(PATIENCE_MIN));
    }
}
