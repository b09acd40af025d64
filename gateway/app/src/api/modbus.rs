//! Single questions to the units of a bus that is polled, for installers: they go through the task of the bus, before
//! its polls, and cannot write.
//!
//! What the unit makes of a question is the answer: `words` or `objects`, `refused` (it answered with an exception),
//! `no_answer`, or `down` (there is no connection). Only what never reached the bus is an error of the request.

use axum::Json;
use axum::extract::State;
use kerbside_model::RegisterTable;
use kerbside_sources::modbus::{BusError, BusHandle, Identification, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiState;
use super::error::ApiError;
use super::extract::Body;

/// Registers, coils or discrete inputs of a unit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadRequest {
    bus: String,
    unit: u8,
    table: RegisterTable,
    address: u16,
    count: u16,
}

/// Which unit is to say who it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentifyRequest {
    bus: String,
    unit: u8,
}

pub(super) async fn read(
    State(state): State<ApiState>,
    Body(asked): Body<ReadRequest>,
) -> Result<Json<Value>, ApiError> {
    let request = Request { table: asked.table, address: asked.address, count: asked.count };
    let answer = bus(&state, &asked.bus)?.read(asked.unit, request).await;
    told(answer.map(|words| json!({ "words": words })))
}

pub(super) async fn identify(
    State(state): State<ApiState>,
    Body(asked): Body<IdentifyRequest>,
) -> Result<Json<Value>, ApiError> {
    let answer = bus(&state, &asked.bus)?.identify(asked.unit).await;
    told(answer.map(|identification| identification_view(&identification)))
}

/// What a unit says of itself, as JSON.
pub(crate) fn identification_view(identification: &Identification) -> Value {
    let object = |(number, text): &(u8, String)| json!({ "number": number, "text": text });
    let objects: Vec<Value> = identification.objects.iter().map(object).collect();
    json!({ "objects": objects, "server_id": identification.server_id })
}

fn bus(state: &ApiState, name: &str) -> Result<BusHandle, ApiError> {
    state.buses.get(name).ok_or_else(|| ApiError::not_found("bus", name))
}

fn told(answer: Result<Value, BusError>) -> Result<Json<Value>, ApiError> {
    match answer {
        Ok(value) => Ok(Json(value)),
        Err(error @ BusError::Refused { exception }) => {
            Ok(Json(json!({ "refused": error.to_string(), "exception": exception })))
        }
        Err(BusError::NoAnswer(why)) => Ok(Json(json!({ "no_answer": why }))),
        Err(BusError::Down(why)) => Ok(Json(json!({ "down": why }))),
        Err(error @ BusError::Impossible { .. }) => Err(ApiError::bad_request(error.to_string())),
        Err(error @ (BusError::Busy | BusError::Stopped)) => Err(ApiError::unavailable(&error)),
    }
}
