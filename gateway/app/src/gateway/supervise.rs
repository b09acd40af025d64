//! Starts sources and sinks again that panicked: after a pause that grows, for as long as it takes.
//!
//! Turns a task that ended although nobody stopped it into a health that says so, a count, a condition of the gateway
//! (`component_failed`), and a new start from the same settings. Nothing acknowledged is lost or sent twice by it: a
//! source acknowledges what is committed and gets the rest again, a sink goes on where the store says that it stands.
//! After a crash of the gateway everything starts anew anyway. Metric: `kerbside_component_panics_total{component}`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kerbside_model::{GatewayCondition, Input, Severity};
use kerbside_runtime::{Backoff, Clock, Metrics, Receipt};
use prometheus::IntCounterVec;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{error, warn};

use super::reload::Reloader;

/// The condition that stands while a component is down by a panic, or was a moment ago.
const COMPONENT_FAILED: &str = "component_failed";
/// Pauses before a start: most panics come from one odd message, which the next start may well get again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// A component that ran for so long has recovered: the alarm ends and pauses begin anew. Longer than the longest pause,
/// or one that panics at every start would raise an alarm each time.
const RECOVERED_AFTER: Duration = Duration::from_secs(300);

/// Components whose task is gone although nobody stopped them. Cheap to clone; not more of them than components.
#[derive(Clone, Debug, Default)]
pub(super) struct Fallen(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    names: Mutex<BTreeSet<String>>,
    bell: Notify,
    /// The tasks that run.
    running: Mutex<BTreeMap<String, AbortHandle>>,
}

impl Fallen {
    /// A component runs as this task.
    pub(super) fn runs(&self, name: &str, task: AbortHandle) {
        lock(&self.0.running).insert(name.to_owned(), task);
    }

    /// The task of a component is gone.
    pub(super) fn report(&self, name: &str) {
        lock(&self.0.names).insert(name.to_owned());
        self.0.bell.notify_one();
    }

    /// Returns when there is somebody to take.
    pub(super) async fn any(&self) {
        self.0.bell.notified().await;
    }

    /// Breaks a component off, as a panic would.
    #[cfg(test)]
    pub(super) fn break_off(&self, name: &str) {
        lock(&self.0.running)[name].abort();
    }

    /// Whether a component runs.
    #[cfg(test)]
    pub(super) fn is_running(&self, name: &str) -> bool {
        !lock(&self.0.running)[name].is_finished()
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.0.names))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who fell, and when each is started again. No clock of its own.
#[derive(Debug, Default)]
struct Restarts(BTreeMap<String, Restart>);

#[derive(Debug)]
struct Restart {
    backoff: Backoff,
    /// When it is started again; `None` while it runs.
    due: Option<Instant>,
    /// When it counts as recovered; `None` while it is down.
    recovered_at: Option<Instant>,
}

impl Restarts {
    /// A component fell, or could not start. How long it pauses.
    fn fell(&mut self, name: &str, now: Instant) -> Duration {
        let restart = self.0.entry(name.to_owned()).or_insert_with(|| Restart {
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST),
            due: None,
            recovered_at: None,
        });
        let pause = restart.backoff.next_wait();
        (restart.due, restart.recovered_at) = (Some(now + pause), None);
        pause
    }

    /// It runs again.
    fn started(&mut self, name: &str, now: Instant) {
        if let Some(restart) = self.0.get_mut(name) {
            (restart.due, restart.recovered_at) = (None, Some(now + RECOVERED_AFTER));
        }
    }

    /// Nobody wants it any more, or somebody else has started it.
    fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// When something is to be done next.
    fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|restart| restart.due.or(restart.recovered_at)).min()
    }

    /// Those to start now. Those that have recovered are forgotten.
    fn due(&mut self, now: Instant) -> Vec<String> {
        self.0.retain(|_, restart| restart.recovered_at.is_none_or(|at| at > now));
        let is_due = |restart: &Restart| restart.due.is_some_and(|due| due <= now);
        self.0.iter().filter(|(_, restart)| is_due(restart)).map(|(name, _)| name.clone()).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// How often each component panicked. It must be there before the first time, or the first one is no increase.
pub(super) fn panics(metrics: &Metrics) -> IntCounterVec {
    metrics.counters(
        "kerbside_component_panics_total",
        "Sources and sinks that panicked and were started again.",
        &["component"],
    )
}

/// Looks after the components for the reloader, which owns them.
#[derive(Debug)]
pub(super) struct Supervisor {
    restarts: Restarts,
    panics: IntCounterVec,
    /// Whether the engine was told that the condition stands; `None` when it was told nothing.
    told: Option<bool>,
}

impl Supervisor {
    pub(super) fn new(metrics: &Metrics) -> Supervisor {
        Supervisor { restarts: Restarts::default(), panics: panics(metrics), told: None }
    }

    /// Returns when something is to be done; never when there is nothing.
    pub(super) async fn due(&self) {
        match self.restarts.next() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

impl Reloader {
    /// Starts what fell and is due again, and tells everybody.
    pub(super) async fn look_after(&mut self, supervisor: &mut Supervisor) {
        for name in self.parts.fallen.take() {
            supervisor.panics.with_label_values(&[&name]).inc();
            let pause = supervisor.restarts.fell(&name, Clock::stamp());
            self.show_down(&name, &format!("it panicked and is started again in {} s; report the log", seconds(pause)));
        }
        for name in supervisor.restarts.due(Clock::stamp()) {
            match self.start_again(&name).await {
                Ok(true) => {
                    warn!(component = %name, "started again after a panic");
                    supervisor.restarts.started(&name, Clock::stamp());
                }
                Ok(false) => supervisor.restarts.forget(&name),
                Err(cause) => {
                    let pause = supervisor.restarts.fell(&name, Clock::stamp());
                    let cause = format!("{cause:#}");
                    error!(component = %name, %cause, "a component that panicked could not start again");
                    let text =
                        format!("it panicked, failed to start again ({cause}), and is tried in {} s", seconds(pause));
                    self.show_down(&name, &text);
                }
            }
        }
        self.tell_failures(supervisor).await;
    }

    /// Starts a component from its settings if its task is gone; whether that was so.
    async fn start_again(&mut self, name: &str) -> anyhow::Result<bool> {
        if self.sources.has_fallen(name) {
            self.parts.health.forget(name);
            self.sources.start_again(name, &self.parts).await?;
        } else if self.telemetry.has_fallen(name) {
            self.parts.health.forget(name);
            self.telemetry.start_again(name, &self.parts)?;
        } else if let Some(target) = self.delivery.fallen(name) {
            let prepared = self.delivery.prepare_again(&target, &self.parts)?;
            self.parts.health.forget(name);
            self.exchange_target(&target, prepared).await?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn show_down(&self, name: &str, text: &str) {
        self.parts.health.component(name).down(text);
    }

    /// Keeps the condition as it is. The first time it is told in any case: the engine may remember another state.
    async fn tell_failures(&self, supervisor: &mut Supervisor) {
        let names = supervisor.restarts.names();
        let active = !names.is_empty();
        if supervisor.told == Some(active) {
            return;
        }
        let names = names.join(", ");
        let condition = GatewayCondition {
            condition: COMPONENT_FAILED.to_owned(),
            active,
            severity: Severity::Major,
            detail: if active {
                format!("{names} failed by a defect of the program and is started again by itself; report the log")
            } else {
                String::new()
            },
            detail_zh: if active {
                format!("组件 {names} 因程序缺陷异常退出，正在自动重启；请将日志反馈给开发方")
            } else {
                String::new()
            },
        };
        // It fails when the gateway is about to end, and then nobody is told any more.
        if self.parts.intake.submit(vec![Input::Gateway(condition)], Receipt::None).await.is_ok() {
            supervisor.told = Some(active);
        }
    }
}

/// Whole seconds, at least one.
fn seconds(pause: Duration) -> u64 {
    pause.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_component_has_recovered() {
        let (mut restarts, start) = (Restarts::default(), Clock::stamp());
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let pause = restarts.fell("source/city", now);
            assert_eq!(restarts.due(now), Vec::<String>::new(), "not before the pause is over");
            assert_eq!(restarts.next(), Some(now + pause));
            now += pause;
            assert_eq!(restarts.due(now), ["source/city"]);
            restarts.started("source/city", now);
            assert_eq!(restarts.names(), ["source/city"], "it may fall again at once");
            now += Duration::from_secs(1);
            pauses.push(pause);
        }
        assert!(pauses[0] <= PAUSE_FIRST && pauses[11] >= PAUSE_LONGEST / 2, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_LONGEST), "{pauses:?}");
        now += RECOVERED_AFTER;
        assert_eq!((restarts.due(now).len(), restarts.names().len(), restarts.next()), (0, 0, None));
        assert!(restarts.fell("source/city", now) <= PAUSE_FIRST, "as if it had never fallen");
    }

    #[test]
    fn one_that_falls_does_not_hold_up_another() {
        let (mut restarts, now) = (Restarts::default(), Clock::stamp());
        for _ in 0..5 {
            restarts.fell("sink/slow", now);
        }
        let pause = restarts.fell("source/city", now);
        assert_eq!(restarts.due(now + pause), ["source/city"]);
        restarts.forget("source/city");
        assert_eq!(restarts.names(), ["sink/slow"]);
    }
}
