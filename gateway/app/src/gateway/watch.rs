//! Small tasks that tell the engine about the gateway itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{GatewayCondition, Input, SourceStatus};
use kerbside_runtime::{Health, HealthState, Intake, Receipt, Shutdown};
use tokio::sync::mpsc;

/// A lost link is told to the engine within this: far below any device's silence.
const LINK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

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
            if told.get(source).copied().unwrap_or(true) == connected {
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

/// Hands conditions that the store noticed to the engine.
pub(super) async fn forward_conditions(
    mut conditions: mpsc::Receiver<GatewayCondition>,
    intake: Intake,
    shutdown: Shutdown,
) {
    loop {
        let condition = tokio::select! {
            () = shutdown.cancelled() => return,
            condition = conditions.recv() => condition,
        };
        let Some(condition) = condition else { return };
        if intake.submit(vec![Input::Gateway(condition)], Receipt::None).await.is_err() {
            return;
        }
    }
}
