//! How fast one client may send: a token bucket. Keeps the client's place in memory.

use std::time::{Duration, Instant};

/// What a client may send at once after a rest, in seconds of its rate: it comes back with what it stored.
const BURST: Duration = Duration::from_secs(10);

/// The bucket of one client.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time that one message stands for.
    interval: Duration,
    /// Until when the messages so far reach at the allowed rate.
    reached: Option<Instant>,
}

impl Pace {
    pub(super) fn new(messages_per_second_max: u32) -> Pace {
        Pace { interval: Duration::from_secs(1) / messages_per_second_max.max(1), reached: None }
    }

    /// Counts one message and says how long it must wait.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let reached = self.reached.map_or(now, |reached| reached.max(now)) + self.interval;
        self.reached = Some(reached);
        reached.duration_since(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use kerbside_runtime::Clock;

    use super::*;

    #[test]
    fn ten_seconds_of_the_rate_pass_at_once_and_then_one_message_an_interval() {
        let began = Clock::stamp();
        let mut pace = Pace::new(20);
        for _ in 0..200 {
            assert_eq!(pace.wait(began), Duration::ZERO);
        }
        assert_eq!(pace.wait(began), Duration::from_millis(50));
        assert_eq!(pace.wait(began), Duration::from_millis(100));
        // After a rest there is room again, but never for more than the burst.
        let later = began + Duration::from_secs(3_600);
        for _ in 0..200 {
            assert_eq!(pace.wait(later), Duration::ZERO);
        }
        assert_eq!(pace.wait(later), Duration::from_millis(50));
    }
}
