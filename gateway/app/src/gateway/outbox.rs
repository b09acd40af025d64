//! From the outbox in the store to the workers of its targets. The store is the queue: nothing is lost with the memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kerbside_runtime::{Chain, Shutdown};
use kerbside_sinks::outbox::{OutboxConfig, OutboxHandle, OutboxWorker, Target};
use kerbside_sinks::platforms::{OpenCase, OpenCases, Platform, PollerConfig, StatusPoller};
use kerbside_sinks::sign::SignLinks;
use kerbside_store::Store;
use tokio::sync::Notify;
use tracing::{error, warn};

use super::Parts;

/// The outbox is looked at this often even when nobody rang, after a failure to read it.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn worker(target: Target, sign_links: SignLinks, parts: &Parts) -> (OutboxWorker, OutboxHandle) {
    let config = OutboxConfig { sign_links: Some(sign_links), ..OutboxConfig::default() };
    OutboxWorker::new(config, target, parts.intake.clone(), parts.clock.clone(), &parts.metrics, &parts.health)
}

pub(super) fn status_poller(
    platform: Arc<dyn Platform>,
    interval: Duration,
    store: &Store,
    parts: &Parts,
) -> StatusPoller {
    let cases = Arc::new(CasesAtPlatform(store.clone()));
    let config = PollerConfig::every(interval);
    StatusPoller::new(config, platform, cases, parts.intake.clone(), &parts.metrics, &parts.health)
}

/// Cases that a platform has and that are not over.
struct CasesAtPlatform(Store);

impl OpenCases for CasesAtPlatform {
    fn open_cases(&self, platform: &str) -> Vec<OpenCase> {
        let cases = match self.0.cases_open() {
            Ok(cases) => cases,
            Err(error) => {
                warn!(error = %Chain(&error), "the open cases could not be read");
                return Vec::new();
            }
        };
        let is_there = |case: &kerbside_model::Case| {
            case.platform == platform && !case.state.is_final() && case.state != kerbside_model::CaseState::Pending
        };
        let open = |case: kerbside_model::Case| OpenCase {
            case_id: case.id,
            platform_id: case.platform_id,
            occurred_at: case.report.occurred_at,
        };
        cases.into_iter().filter(is_there).map(open).collect()
    }
}

/// Hands every open row to its worker once. At start that is everything which the last process left.
pub(super) async fn dispatch(
    store: Store,
    workers: BTreeMap<String, OutboxHandle>,
    wake: Arc<Notify>,
    shutdown: Shutdown,
) {
    let mut handed: HashSet<String> = HashSet::new();
    let mut warned: HashSet<String> = HashSet::new();
    loop {
        let reader = store.clone();
        match tokio::task::spawn_blocking(move || reader.outbox_open()).await {
            Ok(Ok(rows)) => {
                let open: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
                handed.retain(|id| open.contains(id.as_str()));
                for row in rows {
                    let Some(worker) = workers.get(&row.target) else {
                        if warned.insert(row.target.clone()) {
                            error!(target = %row.target, "the outbox holds rows for a target that is no longer configured");
                        }
                        continue;
                    };
                    if handed.insert(row.id.clone()) && worker.deliver(row).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(error)) => error!(error = %Chain(&error), "the outbox could not be read"),
            Err(_) => return,
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}
