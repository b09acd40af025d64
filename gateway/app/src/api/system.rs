//! Health, metrics and the counts of the console.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use kerbside_model::AlarmState;
use kerbside_runtime::HealthState;
use kerbside_store::AlarmQuery;
use serde_json::{Value, json};

use super::ApiState;
use super::auth::Caller;
use super::error::ApiError;
use super::lists::stored;

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// 200 while the gateway can accept and commit; the body lists what is degraded.
pub(super) async fn ready(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    let components = state.health.snapshot();
    let is_ready = state.health.is_ready();
    let troubled: Vec<&str> = components
        .iter()
        .filter(|component| component.state != HealthState::Ok)
        .map(|component| component.component.as_str())
        .collect();
    let status = match (is_ready, troubled.is_empty()) {
        (false, _) => "not_ready",
        (true, false) => "degraded",
        (true, true) => "ready",
    };
    let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status, "degraded": troubled, "components": components })))
}

pub(super) async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.encode())
}

pub(super) async fn status(State(state): State<ApiState>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let now = state.clock.now();
    let question = |engine: &kerbside_engine::Engine| {
        (engine.tally(), engine.open_cases(), engine.is_walking(), engine.learner_tally())
    };
    let (tally, open_cases, walk_test, learners) =
        state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))?;
    let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for ((kind, status), count) in &tally {
        *by_kind.entry(kind).or_insert(0) += count;
        *by_status.entry(status).or_insert(0) += count;
    }
    let devices: usize = tally.values().sum();
    let standing =
        AlarmQuery { states: vec![AlarmState::Active, AlarmState::Stale], limit: 1000, ..AlarmQuery::default() };
    let alarms = stored(&state, move |store| store.alarms(&standing)).await?;
    let stats = stored(&state, kerbside_store::Store::stats).await?;
    Ok(Json(json!({
        "site": state.site.get().name(),
        "version": env!("CARGO_PKG_VERSION"),
        "now": now,
        "speed": state.speed,
        "zone": state.zone.iana_name(),
        "devices": { "total": devices, "by_status": by_status, "by_kind": by_kind },
        "alarms_standing": alarms.items.len(),
        "alarms_more": alarms.next.is_some(),
        "cases_open": open_cases,
        "walk_test": walk_test,
        "learners": learners,
        "account": caller.name,
        "role": caller.role.name(),
        "unknown_devices": stats.unknown_devices,
        "undecoded": stats.undecoded,
        "outbox_open": stats.outbox_open,
        "store_bytes": stats.database_bytes + stats.log_bytes,
        "components": state.health.snapshot(),
    })))
}
