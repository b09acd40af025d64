//! Undecoded frames that are read again: with a profile that was mended, or of a device that is in the inventory now.
//!
//! One request takes one page of them, so that it ends soon; `next` leads to the next page. The frames become one input of
//! the engine, and their rows are settled in the transaction of its batch: a crash loses or doubles none.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use kerbside_engine::decode::{Bench, Certainty, Decoders, NotTaken, Rereader, resolve};
use kerbside_model::{FrameAgain, Input, Observations, PointReading, Site, Timestamp, UndecodedReason};
use kerbside_store::{Store, StoreError, UndecodedQuery, UndecodedRow};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiState;
use super::actions::actor;
use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::lists::stored;

/// Frames of one request at most.
const FRAMES_MAX: usize = 200;

/// Which frames.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// Of this device, also when it was not in the inventory when they came.
    device: Option<String>,
    source: Option<String>,
    address: Option<String>,
    reason: Option<String>,
    since: Option<Timestamp>,
    cursor: Option<String>,
    #[serde(default)]
    limit: usize,
    /// Shows what would be read, and changes nothing.
    #[serde(default)]
    dry_run: bool,
    by: Option<String>,
}

/// The reason of this name.
pub(crate) fn reason_named(name: &str) -> Result<UndecodedReason, String> {
    let found = UndecodedReason::ALL.into_iter().find(|reason| reason.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = UndecodedReason::ALL.iter().map(|reason| reason.name()).collect();
        format!("{name:?} is not a reason; reasons: {}", names.join(" "))
    })
}

pub(super) async fn replay(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    let by = if request.dry_run { String::new() } else { actor(caller, request.by)? };
    let query = UndecodedQuery {
        source: request.source,
        address: request.address,
        device: None,
        reason: request.reason.as_deref().map(reason_named).transpose().map_err(ApiError::bad_request)?,
        since: request.since,
        limit: if request.limit == 0 { FRAMES_MAX } else { request.limit.min(FRAMES_MAX) },
        cursor: request.cursor,
    };
    if request.dry_run {
        let site = state.site.get();
        let trying = move |store: &Store| try_page(store, &site, query, request.device.as_deref());
        return stored(&state, trying).await.map(Json);
    }
    let page = stored(&state, move |store| store.undecoded(&query)).await?;
    let rows = chosen(page.items, &state.site.get(), request.device.as_deref());
    let outcomes = read(&state, rows, &by).await?;
    Ok(Json(answer(false, &outcomes, page.next)))
}

/// What one page of frames would give with this site; changes nothing.
pub(crate) fn try_page(
    store: &Store,
    site: &Site,
    query: UndecodedQuery,
    device: Option<&str>,
) -> Result<Value, StoreError> {
    let page = store.undecoded(&query)?;
    let outcomes = try_rows(site, chosen(page.items, site, device));
    Ok(answer(true, &outcomes, page.next))
}

/// Those of one device, as they came: the oldest first.
fn chosen(mut rows: Vec<UndecodedRow>, site: &Site, device: Option<&str>) -> Vec<UndecodedRow> {
    if let Some(id) = device {
        rows.retain(|row| is_of(site, row, id));
    }
    rows.reverse();
    rows
}

fn answer(dry_run: bool, outcomes: &[(UndecodedRow, Outcome)], next: Option<String>) -> Value {
    let mut still: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, outcome) in outcomes {
        if let Err((reason, _)) = outcome {
            *still.entry(reason.as_str()).or_default() += 1;
        }
    }
    let readable = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let items: Vec<Value> = outcomes.iter().map(|(row, outcome)| view(row, outcome)).collect();
    json!({
        "dry_run": dry_run,
        "looked_at": outcomes.len(),
        "readable": readable,
        "still_undecoded": still,
        "items": items,
        "next": next,
    })
}

/// The readings of a dry run, or why there are none.
type Outcome = Result<Vec<Value>, (String, String)>;

fn is_of(site: &Site, row: &UndecodedRow, id: &str) -> bool {
    if row.device.as_deref() == Some(id) {
        return true;
    }
    let view = row.view();
    let device = match resolve(site, &view) {
        Ok(sender) => Some(sender.device),
        Err(NotTaken::Refused(refused)) => refused.device,
        Err(NotTaken::Ignored(_)) => None,
    };
    device.is_some_and(|index| site.device(index).id == id)
}

/// Has the engine read them, and looks at what became of their rows.
async fn read(state: &ApiState, rows: Vec<UndecodedRow>, by: &str) -> Result<Vec<(UndecodedRow, Outcome)>, ApiError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let again = rows
        .iter()
        .map(|row| FrameAgain { row: row.number, frame: row.frame.clone(), tags: row.tags.clone() })
        .collect();
    let submitted = state.intake.submit_durably(vec![Input::Again(again)]).await;
    submitted.map_err(|error| ApiError::unavailable(&error))?;
    tracing::info!(by, frames = rows.len(), "undecoded frames were read again");
    let settled = stored(state, move |store| {
        let mut settled = Vec::with_capacity(rows.len());
        for row in rows {
            let outcome = match store.undecoded_frame(row.number)? {
                None => Ok(Vec::new()),
                Some(kept) => Err((kept.reason, kept.detail)),
            };
            settled.push((row, outcome));
        }
        Ok::<_, StoreError>(settled)
    });
    settled.await
}

fn try_rows(site: &Site, rows: Vec<UndecodedRow>) -> Vec<(UndecodedRow, Outcome)> {
    let decoders = Decoders::new(site);
    let bench = Bench { site, decoders: &decoders, certainty: Certainty::Sure, notes: &[] };
    let mut reader = Rereader::new(bench);
    let mut outcomes = Vec::with_capacity(rows.len());
    for row in rows {
        let mut observations = Observations::default();
        let outcome = match reader.read(&row.view(), &mut observations) {
            // A copy of an uplink before it has nothing to add.
            Ok(_) => Ok(readings(site, &observations)),
            Err(refused) => Err((refused.error.reason.name().to_owned(), refused.error.detail)),
        };
        outcomes.push((row, outcome));
    }
    outcomes
}

fn readings(site: &Site, observations: &Observations) -> Vec<Value> {
    let mut views = Vec::new();
    for (row, readings) in observations.iter() {
        let device = site.device(row.device);
        let profile = site.profile_of(device);
        let view = |reading: &PointReading| {
            let point = &profile.points[usize::from(reading.point)];
            json!({
                "device": device.id,
                "point": point.name,
                "value": reading.value.as_ref().map(kerbside_model::Value::to_json),
                "unit": point.unit,
                "observed_at": row.observed_at,
                "quality": reading.quality.flag.name(),
                "cause": reading.quality.cause.name(),
            })
        };
        views.extend(readings.iter().map(view));
    }
    views
}

fn view(row: &UndecodedRow, outcome: &Outcome) -> Value {
    let mut view = json!({
        "number": row.number,
        "source": row.frame.source,
        "address": row.frame.address,
        "received_at": row.frame.received_at,
    });
    match outcome {
        Ok(readings) => {
            view["outcome"] = json!("readable");
            view["readings"] = json!(readings);
        }
        Err((reason, detail)) => {
            view["outcome"] = json!("undecoded");
            view["reason"] = json!(reason);
            view["detail"] = json!(detail);
        }
    }
    view
}
