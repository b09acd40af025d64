//! The one place that reads the time of day.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kerbside_model::Timestamp;

use crate::trust::{Guard, Steering, Trust};

/// Gives the time of day: the machine's, or a faster one for demonstrations.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// The machine's clock as far as it can be believed: see [`crate::trust`].
    Guarded(Arc<Guard>),
    /// A clock that began at `start` when `began` was, and runs `speed` times as fast as real time.
    Scaled {
        /// What it showed at first.
        start: Timestamp,
        /// When that was.
        began: Instant,
        /// Its seconds per real second.
        speed: f64,
    },
}

impl Clock {
    /// A clock that shows `start` now and runs `speed` times as fast as real time.
    pub fn scaled(start: Timestamp, speed: f64) -> Clock {
        Clock::Scaled { start, began: Clock::stamp(), speed }
    }

    /// The machine's clock, believed only when it can be right. The gateway runs on this.
    pub fn guarded() -> Clock {
        Clock::Guarded(Arc::new(Guard::of_system()))
    }

    /// A guarded clock of a machine whose time of day a test sets.
    pub fn steered(at: Timestamp) -> (Clock, Steering) {
        let steering = Steering::new(at);
        (Clock::Guarded(Arc::new(Guard::steered(&steering))), steering)
    }

    /// Tells a guarded clock, right after the start, which time had certainly been reached before it.
    pub fn not_before(&self, newest: Timestamp) {
        if let Clock::Guarded(guard) = self {
            guard.not_before(newest);
        }
    }

    /// How far the time can be believed. To be asked every second or so while the clock is guarded.
    pub fn check(&self) -> Trust {
        match self {
            Clock::Guarded(guard) => guard.check(),
            Clock::System | Clock::Scaled { .. } => Trust::Sure(None),
        }
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Guarded(guard) => guard.now(),
            Clock::Scaled { start, began, speed } => {
                let elapsed = Clock::stamp().saturating_duration_since(*began);
                start.plus(elapsed.mul_f64(*speed))
            }
        }
    }

    /// The real time that a span of this clock takes.
    pub fn real(&self, span: Duration) -> Duration {
        match self {
            Clock::System | Clock::Guarded(_) => span,
            Clock::Scaled { speed, .. } => span.div_f64(*speed),
        }
    }

    /// Waits until this clock shows `until`.
    pub async fn sleep_until(&self, until: Timestamp) {
        let span = until.since(self.now());
        tokio::time::sleep(self.real(span)).await;
    }

    /// A monotonic stamp for measuring how long something takes. In a test that has paused its runtime it stands with
    /// the timers, and goes on with them.
    pub fn stamp() -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
