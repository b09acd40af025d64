//! Whether a storm stands, told to the sources so that they read levels more often.
//!
//! The engine is looked at after alarms or incidents have changed, and not more often than every few seconds: sources
//! need no quicker change of their plans. Nothing survives a restart; the first look after it sees the alarms that stand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_engine::Engine;
use kerbside_runtime::Clock;
use tokio::sync::watch;
use tracing::info;

/// A storm is told no later than after this, and after the next batch.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Where sources hear whether a storm stands. Cheap to clone.
pub type StormTeller = Arc<watch::Sender<bool>>;

/// Tells sources about storms.
#[derive(Debug)]
pub(super) struct StormWatch {
    told: StormTeller,
    has_news: bool,
    looked_at: Option<Instant>,
}

impl StormWatch {
    /// Tells it here. The engine may come out of a restart with a storm.
    pub(super) fn new(told: StormTeller) -> StormWatch {
        StormWatch { told, has_news: true, looked_at: None }
    }

    /// Looks at the engine after a batch, when there may be news.
    pub(super) fn look(&mut self, engine: &Engine, has_changed: bool) {
        self.has_news |= has_changed;
        let now = Clock::stamp();
        let is_soon = self.looked_at.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_INTERVAL);
        if !self.has_news || is_soon {
            return;
        }
        (self.has_news, self.looked_at) = (false, Some(now));
        let has_storm = engine.has_storm();
        if self.told.send_if_modified(|told| std::mem::replace(told, has_storm) != has_storm) {
            info!(storm = has_storm, "the weather changed: levels are read accordingly");
        }
    }
}
