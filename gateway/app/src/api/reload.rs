//! Applies the configuration as it is on the disk now.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::ApiState;
use super::actions::actor;
use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use crate::reload::Outcome;

/// Who asks, when no account says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    by: Option<String>,
}

/// The report, with the status 422 when the configuration has problems and 409 when it could not be applied; then an
/// error as of any other request stands in it too.
pub(super) async fn reload(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    let by = actor(caller, request.by)?;
    let report = state.reload.reload(&by).await.map_err(|error| ApiError::unavailable(&error))?;
    let (status, code) = match report.outcome {
        Outcome::Applied | Outcome::Unchanged => return Ok(Json(report).into_response()),
        Outcome::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "configuration_refused"),
        Outcome::RolledBack => (StatusCode::CONFLICT, "configuration_rolled_back"),
    };
    let mut body = json!(report);
    body["error"] = json!({ "code": code, "message": report.summary });
    Ok((status, Json(body)).into_response())
}
