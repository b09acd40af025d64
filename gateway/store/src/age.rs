//! How old something is, for quotas by age: the time of day, as long as it can be trusted with deleting.
//!
//! A clock that is wrong after a power cut, or set by hand, must not delete anything. So the quotas by age rest while
//! the clock is not believed, and for an hour after the start and after every jump: time enough for NTP. What was
//! stored while the clock stood at 1970 has no known age and never goes by age.

use std::time::{Duration, Instant};

use kerbside_model::Timestamp;
use kerbside_runtime::Clock;

/// Nothing goes by age for so long after the start and after the clock was set.
const REST: Duration = Duration::from_secs(3_600);
/// The clock was set when it moved by so much more or less than time passed.
const JUMP_MIN: Duration = Duration::from_secs(120);
/// A stored time before this (2020-01-01) is that of a clock without battery.
const KNOWN_FROM: Timestamp = Timestamp(1_577_836_800_000);

/// The clock of the quotas by age.
#[derive(Debug)]
pub(crate) struct AgeClock {
    clock: Clock,
    last: (Timestamp, Instant),
    rests_since: Option<Instant>,
}

impl AgeClock {
    pub(crate) fn new(clock: Clock) -> AgeClock {
        let stamp = Clock::stamp();
        AgeClock { last: (clock.now(), stamp), clock, rests_since: Some(stamp) }
    }

    /// The time of day, whether it is trusted or not.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time that ages are measured at, or `None` while the quotas by age rest.
    pub(crate) fn look(&mut self) -> Option<Timestamp> {
        let is_sure = self.clock.check().is_sure();
        let now = self.look_at(self.clock.now(), Clock::stamp());
        if !is_sure {
            self.rests_since = Some(self.last.1);
        }
        now.filter(|_| is_sure)
    }

    /// Ends the rest, in tests.
    pub(crate) fn wake(&mut self) {
        self.rests_since = None;
    }

    fn look_at(&mut self, now: Timestamp, stamp: Instant) -> Option<Timestamp> {
        let (last_now, last_stamp) = std::mem::replace(&mut self.last, (now, stamp));
        let passed = self.clock.real(now.since(last_now));
        let has_jumped = passed.abs_diff(stamp.duration_since(last_stamp)) > JUMP_MIN || last_now.since(now) > JUMP_MIN;
        if has_jumped {
            self.rests_since = Some(stamp);
        }
        if self.rests_since.is_some_and(|since| stamp.duration_since(since) >= REST) {
            self.rests_since = None;
        }
        self.rests_since.is_none().then_some(now)
    }
}

/// Whether something stored at `at` is older than `age` at `now`.
pub(crate) fn is_older(at: Timestamp, age: Duration, now: Timestamp) -> bool {
    at >= KNOWN_FROM && now.since(at) > age
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn after_the_start_and_after_a_jump_nothing_goes_by_age_for_an_hour() {
        let mut clock = AgeClock::new(Clock::System);
        let (mut now, mut stamp) = clock.last;
        let mut step = |passed: Duration, moved: i64| {
            stamp += passed;
            now = Timestamp(now.0 + i64::try_from(passed.as_millis()).unwrap() + moved);
            clock.look_at(now, stamp).is_some()
        };
        assert!(!step(MINUTE, 0));
        assert!(step(HOUR, 0));
        assert!(step(MINUTE, 30_000), "NTP may slew");
        assert!(!step(MINUTE, 50 * 365 * 86_400_000), "set fifty years ahead");
        assert!(!step(MINUTE * 59, 0));
        assert!(step(MINUTE, 0));
        assert!(!step(MINUTE, -86_400_000), "set back by a day");
        assert!(step(HOUR, 0));
    }

    #[test]
    fn a_clock_that_is_not_believed_tells_no_age() {
        let (clock, steering) = Clock::steered(Timestamp(5_000));
        let mut ages = AgeClock::new(clock);
        ages.wake();
        assert_eq!(ages.look(), None);
        steering.set(Timestamp(4_000_000_000_000));
        assert_eq!(ages.look(), None, "it was set just now");
        ages.wake();
        assert!(ages.look().is_some());
    }

    #[test]
    fn what_was_stored_without_a_clock_has_no_age() {
        let now = Timestamp(1_800_000_000_000);
        assert!(is_older(Timestamp(now.0 - 3_600_001), HOUR, now));
        assert!(!is_older(Timestamp(now.0 - 3_600_000), HOUR, now));
        assert!(!is_older(Timestamp(5_000), HOUR, now), "1970");
        assert!(!is_older(Timestamp(now.0 + 5), HOUR, now), "the future");
    }
}
