//! Watches whether the gateway's own clock can be believed: tells the engine, the telemetry and people.
//!
//! Metric: `kerbside_clock_unsure`. Nothing here survives a crash but what [`ClockEras`] writes down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_model::vocabulary::CLOCK_UNSURE;
use kerbside_model::{GatewayCondition, Input, Severity, Timestamp};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::trust::Rebase;
use kerbside_runtime::{Clock, Intake, IntakeClosed, Receipt, Shutdown, Trust};
use kerbside_store::{Store, StoreError};
use prometheus::IntGauge;
use tracing::{error, info, warn};

use super::Parts;
use crate::pipeline::eras::ClockEras;

/// The clock is looked at this often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// What was stamped before the clock was known is committed within this.
const SETTLE: Duration = Duration::from_secs(3);
/// Less than this is no step but the work of NTP; the pipeline draws the same line.
const STEP_MIN: Duration = Duration::from_secs(120);

/// The task's parts.
pub(super) struct ClockWatch {
    clock: Clock,
    store: Store,
    intake: Intake,
    eras: Arc<ClockEras>,
    health: HealthReporter,
    unsure: IntGauge,
    stage: Stage,
    /// The last look: what was shown, and when.
    seen: (Timestamp, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sure,
    Unsure,
    /// The clock is known since then; what was stamped before is still on its way.
    Settling(Instant),
}

impl ClockWatch {
    /// Looks for the first time, before anything is stamped. The clock knows the newest time of the store by now.
    pub(super) fn new(parts: &Parts, store: &Store, eras: &Arc<ClockEras>) -> Result<ClockWatch, StoreError> {
        let Parts { clock, metrics, health, intake, .. } = parts;
        let unsure = metrics.gauge("kerbside_clock_unsure", "1 while the machine's clock cannot be believed, else 0.");
        let mut watch = ClockWatch {
            clock: clock.clone(),
            store: store.clone(),
            intake: intake.clone(),
            eras: Arc::clone(eras),
            health: health.component("clock"),
            unsure,
            stage: Stage::Sure,
            seen: (clock.now(), Clock::stamp()),
        };
        match watch.clock.check() {
            Trust::Sure(_) => drop(watch.health.ok()),
            Trust::Unsure { machine, assumed } => watch.lose(machine, assumed)?,
        }
        Ok(watch)
    }

    /// What the engine must know before the first frame. It may remember another state from before the restart.
    pub(super) fn first_condition(&self) -> GatewayCondition {
        condition(self.stage == Stage::Unsure, self.seen.0)
    }

    /// Looks again and again until the end.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => {}
            }
            match self.look().await {
                Ok(()) => {}
                Err(WatchError::Intake(_)) => return,
                Err(WatchError::Store(error)) => {
                    error!(error = %kerbside_runtime::Chain(&error), "the clock's state could not be noted");
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), WatchError> {
        let trust = self.clock.check();
        match (self.stage, trust) {
            (Stage::Sure, Trust::Sure(_)) => self.notice_step().await?,
            (Stage::Sure, Trust::Unsure { machine, assumed }) => {
                self.lose(machine, assumed)?;
                self.tell(condition(true, assumed)).await?;
            }
            (Stage::Unsure, Trust::Unsure { machine, .. }) => drop(self.health.degraded(waiting(machine))),
            (Stage::Unsure, Trust::Sure(rebase)) => self.find(rebase),
            (Stage::Settling(since), Trust::Sure(_)) if since.elapsed() >= SETTLE => {
                self.intake.submit_durably(vec![Input::Gateway(condition(false, self.clock.now()))]).await?;
                self.eras.end(self.store.last_sequence()?);
                self.stage = Stage::Sure;
            }
            (Stage::Settling(_), Trust::Sure(_)) => {}
            (Stage::Settling(_), Trust::Unsure { machine, assumed }) => {
                self.eras.end(self.store.last_sequence()?);
                self.lose(machine, assumed)?;
            }
        }
        self.seen = (self.clock.now(), Clock::stamp());
        Ok(())
    }

    fn lose(&mut self, machine: Timestamp, assumed: Timestamp) -> Result<(), StoreError> {
        warn!(%machine, %assumed, "the machine's clock cannot be believed: times are assumed and telemetry waits");
        self.eras.begin(self.store.last_sequence()? + 1, assumed);
        self.health.degraded(waiting(machine));
        self.unsure.set(1);
        self.stage = Stage::Unsure;
        Ok(())
    }

    fn find(&mut self, rebase: Option<Rebase>) {
        if let Some(rebase) = rebase {
            info!(assumed = %rebase.assumed, actual = %rebase.actual, "the machine's clock can be believed again");
            self.eras.found(rebase);
        }
        self.health.ok();
        self.unsure.set(0);
        self.stage = Stage::Settling(Clock::stamp());
    }

    /// Wakes the pipeline when a sound clock was set: it sleeps until a time that came sooner or later than planned.
    async fn notice_step(&self) -> Result<(), WatchError> {
        let (shown, stamp) = self.seen;
        let now = self.clock.now();
        let passed = self.clock.real(now.since(shown));
        let is_step = passed.abs_diff(stamp.elapsed()) > STEP_MIN || shown.since(now) > STEP_MIN;
        if is_step { self.tell(condition(false, now)).await } else { Ok(()) }
    }

    async fn tell(&self, condition: GatewayCondition) -> Result<(), WatchError> {
        Ok(self.intake.submit(vec![Input::Gateway(condition)], Receipt::None).await?)
    }
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("tell the pipeline about the clock")]
    Intake(#[from] IntakeClosed),
    #[error("ask the store for its newest batch")]
    Store(#[from] StoreError),
}

fn waiting(machine: Timestamp) -> String {
    format!(
        "the machine's clock shows {machine}, which cannot be right: times are assumed, and telemetry waits for up to \
         {} min; check NTP and the battery of the clock",
        crate::pipeline::eras::HOLD_MAX.as_secs() / 60
    )
}

fn condition(active: bool, at: Timestamp) -> GatewayCondition {
    GatewayCondition {
        condition: CLOCK_UNSURE.to_owned(),
        active,
        severity: Severity::Minor,
        detail: format!(
            "the machine's clock cannot be right: times are counted from {at}, the newest that is known, until it is \
             set"
        ),
        detail_zh: format!("本机时钟不可信：对时之前，时间从已知的最后时刻 {at} 起推算"),
    }
}
