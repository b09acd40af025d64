//! Waiting times between tries.

use std::time::Duration;

/// Doubles from a first wait to a longest one, with jitter, so that a district of gateways does not knock as one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// `first` must not be longer than `longest`; a longer one is cut.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first: first.min(longest), longest, tries: 0 }
    }

    /// The next wait: between half and all of the doubled one.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.tries.min(16));
        self.tries = self.tries.saturating_add(1);
        let full = self.first.saturating_mul(factor).min(self.longest);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// How many waits were given since the last success.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Starts again from the first wait, after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
        assert!(waits[39] >= Duration::from_millis(2_500));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
