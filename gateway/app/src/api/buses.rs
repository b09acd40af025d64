//! What the Modbus buses do: share of time, units with their circuit breakers, registers that are left alone.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::ApiState;
use super::error::ApiError;
use super::view::List;

/// A bus that waits for an answer says what it does when that has come; nobody waits longer for it than this.
const VIEW_WAIT_MAX: Duration = Duration::from_secs(5);

pub(super) async fn list(State(state): State<ApiState>) -> Result<Json<List>, ApiError> {
    let views = state.buses.views(VIEW_WAIT_MAX).await;
    let item = |(name, view)| match view {
        Some(view) => json!(view),
        None => json!({ "bus": name, "units": [], "down": "the bus waits for an answer: ask again" }),
    };
    Ok(Json(List { items: views.into_iter().map(item).collect(), next: None }))
}
