//! What people do: each becomes an input of the engine, and is answered when it is on the disk.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use kerbside_engine::MASKS_MAX;
use kerbside_model::incident::{RainLevel, RainSignal};
use kerbside_model::site::LEDGER;
use kerbside_model::{Case, CaseState, Input, MaskKind, OperatorAction, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiState;
use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::lists::{self, stored_alarm, stored_case};

/// A mask for longer than this is a mistake in the date: 90 days.
const MASK_MAX: Duration = Duration::from_secs(90 * 86_400);

/// A rainstorm signal for longer than this was not lifted by mistake: signals are renewed within a day or two.
const RAIN_SIGNAL_MAX: Duration = Duration::from_secs(3 * 86_400);

/// Who does it, when no account says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    to: String,
    #[serde(default)]
    note: String,
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaskRequest {
    kind: MaskKind,
    from: Option<Timestamp>,
    until: Timestamp,
    reason: String,
    by: Option<String>,
}

/// The account wins over what the body says.
pub(super) fn actor(caller: Caller, by: Option<String>) -> Result<String, ApiError> {
    let named = caller.name.or(by).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    named.ok_or_else(|| ApiError::bad_request("say who does it: {\"by\": \"name\"}"))
}

pub(super) async fn act(state: &ApiState, action: OperatorAction) -> Result<(), ApiError> {
    let inputs = vec![Input::Operator(action)];
    state.intake.submit_durably(inputs).await.map_err(|error| ApiError::unavailable(&error))
}

pub(super) async fn open_case(state: &ApiState, id: &str) -> Result<Case, ApiError> {
    let (case, _) = stored_case(state, id).await?;
    if case.state.is_final() {
        return Err(ApiError::conflict(format!("case {id} is over: {}", case.state.name())));
    }
    Ok(case)
}

/// The state of this name, when a person may move a case there. What was reported is never again about to be.
pub(crate) fn wanted_state(name: &str) -> Result<CaseState, String> {
    let can_be_wanted = |state: &CaseState| *state != CaseState::Pending;
    CaseState::from_name(name).filter(can_be_wanted).ok_or_else(|| {
        let names: Vec<&str> =
            CaseState::ALL.iter().filter(|state| can_be_wanted(state)).map(|state| state.name()).collect();
        format!("a case cannot be moved to {name:?}; states: {}", names.join(" "))
    })
}

pub(super) async fn move_case(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    Body(request): Body<Move>,
) -> Result<Json<Value>, ApiError> {
    let to = wanted_state(&request.to).map_err(ApiError::bad_request)?;
    let by = actor(caller, request.by)?;
    let case = open_case(&state, &id).await?;
    if case.platform != LEDGER {
        return Err(ApiError::conflict(format!("case {id} is led by {}: move it there", case.platform)));
    }
    act(&state, OperatorAction::MoveCase { case_id: id.clone(), to, by, note: request.note }).await?;
    lists::case(State(state), Path(id)).await
}

pub(super) async fn sign(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    Body(request): Body<Signature>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by)?;
    let case = open_case(&state, &id).await?;
    if let Some((first, at)) = case.signed {
        return Err(ApiError::conflict(format!("case {id} was signed by {first} at {at}")));
    }
    act(&state, OperatorAction::Sign { case_id: id.clone(), by }).await?;
    lists::case(State(state), Path(id)).await
}

pub(super) async fn acknowledge(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    Body(request): Body<Signature>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by)?;
    let alarm = stored_alarm(&state, &id).await?;
    if alarm.cleared_at.is_some() {
        return Err(ApiError::conflict(format!("alarm {id} is over")));
    }
    act(&state, OperatorAction::Acknowledge { alarm_id: id.clone(), by }).await?;
    lists::alarm(State(state), Path(id)).await
}

pub(super) async fn mask(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    Body(request): Body<MaskRequest>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by)?;
    let wanted = id.clone();
    let masks = state.engine.ask(move |engine| Some(engine.mask_count(engine.site().find(&wanted)?))).await;
    let masks = masks.map_err(|error| ApiError::unavailable(&error))?;
    if masks.ok_or_else(|| ApiError::not_found("device", &id))? >= MASKS_MAX {
        return Err(ApiError::conflict(format!("{id} has {MASKS_MAX} masks: lift them first")));
    }
    let now = state.clock.now();
    let from = request.from.unwrap_or(now);
    if request.until <= now || request.until <= from {
        return Err(ApiError::bad_request("`until` must lie ahead, and after `from`"));
    }
    if request.until.since(now) > MASK_MAX {
        return Err(ApiError::bad_request("`until` must lie within 90 days: a mask hides dangers"));
    }
    if request.reason.trim().is_empty() {
        return Err(ApiError::bad_request("say why in `reason`"));
    }
    let action = OperatorAction::Mask {
        device: id.clone(),
        kind: request.kind,
        from,
        until: request.until,
        by,
        reason: request.reason,
    };
    act(&state, action).await?;
    Ok(Json(json!({ "device": id, "kind": request.kind, "from": from, "until": request.until })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RainRequest {
    level: RainLevel,
    until: Timestamp,
    by: Option<String>,
}

/// Tells a rainstorm signal; one whose end is now or earlier lifts it.
pub(super) async fn tell_rain_signal(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<RainRequest>,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, request.by)?;
    if request.until.since(state.clock.now()) > RAIN_SIGNAL_MAX {
        return Err(ApiError::bad_request("`until` must lie within 3 days: tell it again while it is in force"));
    }
    let signal = RainSignal { level: request.level, until: request.until };
    act(&state, OperatorAction::RainSignal { signal, by }).await?;
    Ok(Json(json!(signal)))
}

/// The rainstorm signal that is in force, or `null`.
pub(super) async fn rain_signal(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    let signal = state.engine.ask(kerbside_engine::Engine::rain_signal).await;
    let signal = signal.map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(json!(signal.filter(|signal| signal.until > state.clock.now()))))
}

pub(super) async fn unmask(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let by = actor(caller, Some("console".to_owned()))?;
    state.site.get().find(&id).ok_or_else(|| ApiError::not_found("device", &id))?;
    act(&state, OperatorAction::Unmask { device: id.clone(), by }).await?;
    Ok(Json(json!({ "device": id })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_move_cases_to_every_state_but_back_to_pending() {
        for state in CaseState::ALL {
            let expected = (state != CaseState::Pending).then_some(state);
            assert_eq!(wanted_state(state.name()).ok(), expected);
        }
        assert!(wanted_state("mended").unwrap_err().contains("in_progress"));
    }
}
