//! From the outbox in the store to the workers of its targets. The store is the queue: nothing is lost with the memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::OutboxRow;
use kerbside_runtime::{Chain, Shutdown};
use kerbside_sinks::outbox::{OutboxClosed, OutboxConfig, OutboxHandle, OutboxWorker, Target};
use kerbside_sinks::platforms::{OpenCase, OpenCases, Platform, PollerConfig, StatusPoller};
use kerbside_sinks::sign::SignLinks;
use kerbside_store::Store;
use tokio::sync::Notify;
use tracing::{error, warn};

use super::Parts;
use crate::live::Live;

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

/// The worker of one target. Another one after it, with other settings, has another number.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) handle: OutboxHandle,
    pub(super) number: u64,
}

/// The workers that run, by target.
pub(super) type Workers = BTreeMap<String, Worker>;

/// Rows that a worker has, with the worker's number.
type Handed = HashMap<String, u64>;

/// Hands every open row to its worker once. At start that is everything which the last process left. A worker that is
/// full or has ended holds up no other. One that takes the place of another gets all rows anew.
pub(super) async fn dispatch(store: Store, workers: Live<Workers>, wake: Arc<Notify>, shutdown: Shutdown) {
    let mut handed = Handed::new();
    let mut warned: HashSet<String> = HashSet::new();
    loop {
        let reader = store.clone();
        match tokio::task::spawn_blocking(move || reader.outbox_open()).await {
            Ok(Ok(rows)) => hand_over(rows, &workers.get(), &mut handed, &mut warned),
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

fn hand_over(rows: Vec<OutboxRow>, workers: &Workers, handed: &mut Handed, warned: &mut HashSet<String>) {
    let open: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let runs = |number: u64| workers.values().any(|worker| worker.number == number);
    handed.retain(|id, number| open.contains(id.as_str()) && runs(*number));
    // The rows behind one that found no room wait too, so that those of a case keep their order.
    let mut waiting: HashSet<String> = HashSet::new();
    for row in rows {
        if handed.contains_key(&row.id) || waiting.contains(&row.target) {
            continue;
        }
        let Some(worker) = workers.get(&row.target) else {
            if warned.insert(row.target.clone()) {
                error!(target = %row.target, "the outbox holds rows for a target that is no longer configured");
            }
            continue;
        };
        let (id, target) = (row.id.clone(), row.target.clone());
        match worker.handle.offer(row) {
            Ok(true) => drop(handed.insert(id, worker.number)),
            // The store keeps it, and it is looked at again.
            Ok(false) => drop(waiting.insert(target)),
            Err(OutboxClosed) => {
                if warned.insert(target.clone()) {
                    error!(%target, "the outbox holds rows for a target whose worker has ended");
                }
                waiting.insert(target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::{CaseReport, Datum, OutboxState, OutboxTask, Severity, Timestamp};
    use kerbside_runtime::{Clock, Health, Intake, Metrics};
    use kerbside_sinks::channels::{self, ChannelConfig, ChannelKind};

    use super::*;

    /// A worker that takes nothing out of its queue.
    fn stuck(name: &str, queue_rows_max: usize) -> (OutboxWorker, OutboxHandle) {
        let config = ChannelConfig {
            name: name.to_owned(),
            kind: ChannelKind::Show,
            timeout: Duration::from_secs(1),
            ca: None,
            zone: "Asia/Shanghai".to_owned(),
        };
        let channel = Arc::from(channels::build(config, Clock::System).unwrap());
        let limits = OutboxConfig { queue_rows_max, ..OutboxConfig::default() };
        let (intake, _) = Intake::new(1, 1);
        OutboxWorker::new(
            limits,
            Target::Channel(channel),
            intake,
            Clock::System,
            &Metrics::default(),
            &Health::default(),
        )
    }

    fn row(id: &str, target: &str) -> OutboxRow {
        let report = CaseReport {
            case_id: "KB-1".to_owned(),
            device: String::new(),
            device_name: String::new(),
            kind: String::new(),
            kind_zh: String::new(),
            condition: String::new(),
            title: String::new(),
            title_zh: String::new(),
            severity: Severity::Critical,
            occurred_at: Timestamp(0),
            explanation: String::new(),
            explanation_zh: String::new(),
            place: String::new(),
            position: None,
            datum: Datum::Wgs84,
            grid: String::new(),
            component_code: String::new(),
            unit: String::new(),
        };
        OutboxRow {
            id: id.to_owned(),
            target: target.to_owned(),
            case_id: "KB-1".to_owned(),
            task: OutboxTask::OpenCase(report),
            created_at: Timestamp(0),
            state: OutboxState::Pending,
        }
    }

    #[test]
    fn a_target_that_is_full_or_gone_holds_up_no_other() {
        let (_full, full) = stuck("full", 1);
        let (gone, gone_handle) = stuck("gone", 9);
        drop(gone);
        let (_well, well) = stuck("well", 9);
        let worker =
            |(number, (name, handle)): (u64, (&str, OutboxHandle))| (name.to_owned(), Worker { handle, number });
        let workers: Workers =
            (0..).zip([("full", full), ("gone", gone_handle), ("well", well.clone())]).map(worker).collect();
        let rows = || {
            let targets = [("1", "full"), ("2", "full"), ("3", "gone"), ("4", "unknown"), ("5", "well"), ("6", "well")];
            targets.map(|(id, target)| row(id, target)).to_vec()
        };
        let (mut handed, mut warned) = (Handed::new(), HashSet::new());
        hand_over(rows(), &workers, &mut handed, &mut warned);
        hand_over(rows(), &workers, &mut handed, &mut warned);
        let mut ids: Vec<&str> = handed.keys().map(String::as_str).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["1", "5", "6"]);
        // A worker with other settings takes the place of one: it gets the rows of that one, and nobody else does.
        let exchanged = Workers::from([("well".to_owned(), Worker { handle: well, number: 9 })]);
        hand_over(rows(), &exchanged, &mut handed, &mut warned);
        assert_eq!(handed, Handed::from([("5".to_owned(), 9), ("6".to_owned(), 9)]));
    }
}
