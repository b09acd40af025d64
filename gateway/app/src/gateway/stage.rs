//! Components that run: each can be stopped alone, and all of a stage together.

use std::future::Future;
use std::time::Duration;

use kerbside_runtime::Shutdown;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::{Parts, supervise};

/// A component that is stopped alone gets so long: an MQTT source waits 5 s for its last commits, a database sink sends
/// what is in memory within 5 s.
const STOP_MAX: Duration = Duration::from_secs(8);

/// Tasks that stop together.
#[derive(Clone, Debug, Default)]
pub(super) struct Stage {
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: Shutdown,
}

/// One component of a stage.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    shutdown: Shutdown,
    done: JoinHandle<()>,
}

impl Stage {
    /// Runs a component; a panic in it does not take the others along, is shown as its health, and is reported to
    /// whoever starts it again.
    pub(super) fn spawn<F>(&self, name: String, parts: &Parts, component: impl FnOnce(Shutdown) -> F) -> Running
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (reporter, fallen) = (parts.health.component(name.clone()), parts.fallen.clone());
        let shutdown = self.shutdown.child_token();
        let component = tokio::spawn(component(shutdown.clone()));
        fallen.runs(&name, component.abort_handle());
        supervise::panics(&parts.metrics).with_label_values(&[&name]);
        let (shown, stop) = (name.clone(), shutdown.clone());
        let done = self.tasks.spawn(async move {
            if component.await.is_err() {
                reporter.down("it panicked and is started again; report the log");
                error!(component = %shown, "a component panicked");
                // Whatever it has begun besides ends, too, before it is started again.
                stop.cancel();
                fallen.report(&shown);
            }
        });
        Running { name, shutdown, done }
    }

    /// Stops everything.
    pub(super) async fn stop(&self, within: Duration, what: &str) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            warn!(what, "did not stop in time");
        }
    }
}

impl Running {
    /// A task that is no component of its own.
    pub(super) fn new(name: String, shutdown: Shutdown, done: JoinHandle<()>) -> Running {
        Running { name, shutdown, done }
    }

    /// Whether its task is gone.
    pub(super) fn has_ended(&self) -> bool {
        // Reported before the very end, and looked at after a pause.
        self.done.is_finished()
    }

    /// Tells this component alone to stop.
    pub(super) fn begin_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops this component alone and waits for its end.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        if tokio::time::timeout(STOP_MAX, self.done).await.is_err() {
            warn!(component = %self.name, "did not stop in time");
        }
    }
}
