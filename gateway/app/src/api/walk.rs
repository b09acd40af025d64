//! The walk test (现场核验): begin, look, note photos, finish, report.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use kerbside_engine::{WALK_DEVICES_MAX, WALK_MAX, WALK_PHOTO_CHARACTERS_MAX, WalkView};
use kerbside_model::{OperatorAction, ServiceState, Site};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiState;
use super::actions::{act, actor};
use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use crate::config::Role;
use crate::walk::{self, Occasion, Standing};

/// A working day, when nobody says how long.
const HOURS_DEFAULT: u32 = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// Device ids with `*` for anything; without it those that hang on `parent`, else those in commissioning.
    devices: Option<String>,
    parent: Option<String>,
    hours: Option<u32>,
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Photo {
    device: String,
    photo: String,
    by: Option<String>,
}

pub(super) async fn start(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<Start>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by.clone())?;
    let hours_max = WALK_MAX.as_secs() / 3_600;
    let hours = request.hours.unwrap_or(HOURS_DEFAULT);
    if hours == 0 || u64::from(hours) > hours_max {
        return Err(ApiError::bad_request(format!("`hours` must be 1 to {hours_max}: alarms are hidden meanwhile")));
    }
    let devices = wanted(&state.site.get(), &request)?;
    if view(&state).await?.is_some_and(|view| view.ended_at.is_none()) {
        return Err(ApiError::conflict("a walk test runs already: finish it first"));
    }
    let until = state.clock.now().plus(Duration::from_secs(u64::from(hours) * 3_600));
    act(&state, OperatorAction::StartWalk { devices, until, by }).await?;
    show(State(state)).await
}

pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!(known(&state).await?)))
}

pub(super) async fn finish(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<Finish>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by)?;
    if known(&state).await?.ended_at.is_some() {
        return Err(ApiError::conflict("the walk test is over; its report can still be had"));
    }
    act(&state, OperatorAction::FinishWalk { by }).await?;
    show(State(state)).await
}

pub(super) async fn photo(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<Photo>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by)?;
    if !known(&state).await?.devices.iter().any(|device| device.id == request.device) {
        return Err(ApiError::not_found("device in the walk test", &request.device));
    }
    if request.photo.chars().count() > WALK_PHOTO_CHARACTERS_MAX {
        let most = format!("`photo` has more than {WALK_PHOTO_CHARACTERS_MAX} characters: give a file name or URL");
        return Err(ApiError::bad_request(most));
    }
    let Photo { device, photo, .. } = request;
    act(&state, OperatorAction::NotePhoto { device: device.clone(), photo: photo.clone(), by }).await?;
    Ok(Json(json!({ "device": device, "photo": photo })))
}

pub(super) async fn report_html(State(state): State<ApiState>) -> Result<Html<String>, ApiError> {
    let view = known(&state).await?;
    Ok(Html(walk::report(&view, &occasion(&state))))
}

pub(super) async fn report_csv(State(state): State<ApiState>) -> Result<impl IntoResponse, ApiError> {
    let view = known(&state).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"walk.csv\""),
    ];
    Ok((headers, walk::csv(&view, &occasion(&state))))
}

/// The page for the installer's phone.
pub(super) async fn phone(State(state): State<ApiState>, caller: Caller) -> Result<Html<String>, ApiError> {
    let view = view(&state).await?;
    let standing = match caller.role {
        Role::Viewer => Standing::Looks,
        Role::Operator => Standing::Acts { account: caller.name },
    };
    Ok(Html(walk::phone(view.as_ref(), &occasion(&state), &standing)))
}

fn occasion(state: &ApiState) -> Occasion {
    Occasion {
        site: state.site.get().name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        now: state.clock.now(),
        zone: state.zone.clone(),
    }
}

async fn view(state: &ApiState) -> Result<Option<WalkView>, ApiError> {
    let now = state.clock.now();
    let question = move |engine: &kerbside_engine::Engine| engine.walk_view(now);
    state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))
}

async fn known(state: &ApiState) -> Result<WalkView, ApiError> {
    view(state).await?.ok_or_else(|| ApiError::conflict("no walk test was begun: POST /api/v1/walk begins one"))
}

/// The devices that a request means.
fn wanted(site: &Site, request: &Start) -> Result<Vec<String>, ApiError> {
    let mut ids = Vec::new();
    for device in site.devices() {
        let is_named = request.devices.as_deref().is_none_or(|pattern| matches(pattern, &device.id));
        let hangs_there = request.parent.as_deref().is_none_or(|parent| parent == device.parent);
        let is_any = request.devices.is_some() || request.parent.is_some();
        if is_named && hangs_there && (is_any || device.service == ServiceState::Commissioning) {
            ids.push(device.id.clone());
        }
    }
    match ids.len() {
        0 => Err(ApiError::bad_request(match (&request.devices, &request.parent) {
            (None, None) => {
                "no device is in commissioning (调试): name devices, such as {\"devices\": \"MH-1*\"}".to_owned()
            }
            _ => "no device of the inventory is meant: look at the ids and parents in it".to_owned(),
        })),
        1..=WALK_DEVICES_MAX => Ok(ids),
        count => Err(ApiError::bad_request(format!("{count} devices: a walk test has at most {WALK_DEVICES_MAX}"))),
    }
}

/// Whether a text is what a pattern says, `*` being any text, also none.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(found) = left.find(part) else { return false };
        left = &left[found + part.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_is_any_text() {
        for (pattern, text, expected) in [
            ("MH-1", "MH-1", true),
            ("MH-1", "MH-12", false),
            ("MH-*", "MH-", true),
            ("*-1", "MH-1", true),
            ("M*-*1", "MH-211", true),
            ("M*1*1", "MH-1", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
