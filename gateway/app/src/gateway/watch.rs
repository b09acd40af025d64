//! Small tasks that tell the engine about the gateway itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{Input, SourceStatus};
use kerbside_runtime::{Health, HealthState, Intake, Receipt, Shutdown};
use kerbside_store::Store;

use crate::pipeline::conditions::StoreReports;

/// A lost link is told to the engine within this: far below any device's silence.
const LINK_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The store looks at itself about as often.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the engine when the link to a broker is lost and when it stands again: meanwhile its devices are not silent,
/// we are deaf.
pub(super) async fn links(sources: Vec<String>, health: Health, intake: Intake, shutdown: Shutdown) {
    let mut told: HashMap<String, bool> = HashMap::new();
    let mut interval = tokio::time::interval(LINK_CHECK_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        let components = health.snapshot();
        for source in &sources {
            let name = format!("source/{source}");
            let state = components.iter().find(|component| component.component == name).map(|found| found.state);
            let connected = matches!(state, Some(HealthState::Ok | HealthState::Degraded));
            // The first state is told always: the engine may remember another one from before the restart.
            if told.get(source) == Some(&connected) {
                continue;
            }
            told.insert(source.clone(), connected);
            let status = SourceStatus { source: Arc::from(source.as_str()), connected };
            if intake.submit(vec![Input::Source(status)], Receipt::None).await.is_err() {
                return;
            }
        }
    }
}

/// Tells the engine what stands and what no longer stands with the store.
pub(super) async fn store(store: Store, mut reports: StoreReports, intake: Intake, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(STORE_CHECK_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        let news: Vec<Input> = reports.news(&store.conditions()).into_iter().map(Input::Gateway).collect();
        if !news.is_empty() && intake.submit(news, Receipt::None).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_state_of_a_source_is_told_whatever_it_is() {
        let health = Health::default();
        health.component("source/up").ok();
        health.component("source/down").down("no link");
        let (intake, mut receiver) = Intake::new(16, 1 << 16);
        let shutdown = Shutdown::new();
        let names = vec!["up".to_owned(), "down".to_owned()];
        let running = tokio::spawn(links(names, health, intake, shutdown.clone()));
        let mut told = Vec::new();
        while told.len() < 2 {
            let next = tokio::time::timeout(Duration::from_secs(20), receiver.next()).await;
            for input in next.expect("both are told").expect("the task runs").inputs {
                let Input::Source(status) = input else { panic!("{input:?}") };
                told.push((status.source.to_string(), status.connected));
            }
        }
        assert_eq!(told, [("up".to_owned(), true), ("down".to_owned(), false)]);
        shutdown.cancel();
        running.await.unwrap();
    }
}
