//! Everything that is read: lists and single records.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use kerbside_model::geo::Datum;
use kerbside_model::{Alarm, AlarmState, Case, CaseEvent, CaseState, DeviceIndex, Timestamp};
use kerbside_store::{
    AlarmQuery, AuditQuery, CaseQuery, OutboxQuery, PAGE_ITEMS, PAGE_ITEMS_MAX, PageQuery, RefusedQuery, Store,
    StoreError, UndecodedQuery,
};
use serde::Deserialize;
use serde_json::Value;

use super::ApiState;
use super::again;
use super::error::ApiError;
use super::extract::Asked;
use super::profiles;
use super::view::{self, List};

type Listed = Result<Json<List>, ApiError>;
type Found = Result<Json<Value>, ApiError>;

/// Runs a query of the store where it may block.
pub(super) async fn stored<T: Send + 'static>(
    state: &ApiState,
    query: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = state.store.clone();
    match tokio::task::spawn_blocking(move || query(&store)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(StoreError::PageCursor { .. })) => {
            Err(ApiError::bad_request("the cursor is not one that this list gave"))
        }
        Ok(Err(error)) => Err(ApiError::unavailable(&error)),
        Err(error) => Err(ApiError::unavailable(&error)),
    }
}

/// Parameters of the lists. Each list uses those that its documentation names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    limit: Option<usize>,
    cursor: Option<String>,
    state: Option<String>,
    device: Option<String>,
    condition: Option<String>,
    open: Option<bool>,
    kind: Option<String>,
    status: Option<String>,
    source: Option<String>,
    address: Option<String>,
    case: Option<String>,
    subject: Option<String>,
    sink: Option<String>,
    reason: Option<String>,
    since: Option<Timestamp>,
    datum: Option<String>,
}

impl Parameters {
    fn items_max(&self) -> usize {
        self.limit.unwrap_or(PAGE_ITEMS).clamp(1, PAGE_ITEMS_MAX)
    }

    /// The datum of the positions in the answer.
    fn datum(&self) -> Result<Datum, ApiError> {
        let Some(word) = &self.datum else { return Ok(Datum::Wgs84) };
        let unknown = || ApiError::bad_request(format!("{word:?} is not one of wgs84, cgcs2000, gcj02, bd09"));
        Datum::of_word(word).ok_or_else(unknown)
    }

    /// Words separated by commas, each read by `read`.
    fn words<T>(&self, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, ApiError> {
        let Some(text) = &self.state else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for word in text.split(',') {
            found.push(read(word).ok_or_else(|| ApiError::bad_request(format!("{word:?} is not a state of {what}")))?);
        }
        Ok(found)
    }

    /// The position in the inventory at which a page of the engine's lists begins.
    fn first_device(&self) -> Result<usize, ApiError> {
        match &self.cursor {
            None => Ok(0),
            Some(cursor) => {
                cursor.parse().map_err(|_| ApiError::bad_request("the cursor is not one that this list gave"))
            }
        }
    }
}

pub(super) async fn devices(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let (first, limit, now) = (parameters.first_device()?, parameters.items_max(), state.clock.now());
    let datum = parameters.datum()?;
    let question = move |engine: &kerbside_engine::Engine| {
        let mut items = Vec::new();
        for position in first..engine.site().devices().len() {
            if items.len() == limit {
                return (items, Some(position.to_string()));
            }
            let view = engine.device_view(index(position), now);
            let wanted = parameters.kind.as_deref().is_none_or(|kind| kind == view.kind)
                && parameters.status.as_deref().is_none_or(|status| status == view.status);
            if wanted {
                items.push(serde_json::json!(view));
            }
        }
        (items, None)
    };
    let (mut items, next) = state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))?;
    view::move_positions(&mut items, datum);
    Ok(Json(List { items, next }))
}

pub(super) async fn device(State(state): State<ApiState>, Path(id): Path<String>) -> Found {
    let now = state.clock.now();
    let wanted = id.clone();
    // Positions are those of the engine's own site: it may be a newer one than ours.
    let question = move |engine: &kerbside_engine::Engine| {
        let found = engine.site().find(&wanted)?;
        let mut view = serde_json::json!(engine.device_view(found, now));
        view["readings"] = serde_json::json!(engine.reading_views(found, now));
        Some((view, Arc::clone(engine.site().profile_of(engine.site().device(found)))))
    };
    let found = state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))?;
    let (mut view, profile) = found.ok_or_else(|| ApiError::not_found("device", &id))?;
    view["profile_version"] = serde_json::json!(profile.version);
    view["profile_hash"] = serde_json::json!(profile.content_hash());
    view["profile_extends"] = profiles::ancestors(&state.lineages.get(), &profile.name);
    Ok(Json(view))
}

pub(super) async fn readings(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let (first, limit, now) = (parameters.first_device()?, parameters.items_max(), state.clock.now());
    let only = parameters.device.clone();
    let question = move |engine: &kerbside_engine::Engine| {
        let count = engine.site().devices().len();
        let (first, end) = match only.map(|id| engine.site().find(&id)) {
            Some(Some(index)) => (index.0 as usize, index.0 as usize + 1),
            Some(None) => return None,
            None => (first, count),
        };
        let mut items = Vec::new();
        for position in first..end {
            // A page holds whole devices, so that none is cut in two.
            if items.len() >= limit {
                return Some((items, Some(position.to_string())));
            }
            items.extend(engine.reading_views(index(position), now).into_iter().map(|view| serde_json::json!(view)));
        }
        Some((items, None))
    };
    let found = state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))?;
    let Some((items, next)) = found else {
        return Err(ApiError::not_found("device", parameters.device.as_deref().unwrap_or_default()));
    };
    Ok(Json(List { items, next }))
}

fn index(position: usize) -> DeviceIndex {
    DeviceIndex(u32::try_from(position).expect("an inventory has fewer than 2^32 devices"))
}

pub(super) async fn alarms(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let all = [AlarmState::Active, AlarmState::Stale, AlarmState::Cleared];
    let states = parameters.words("an alarm", |word| all.into_iter().find(|state| state.name() == word))?;
    let query = AlarmQuery {
        states,
        limit: parameters.items_max(),
        device: parameters.device,
        condition: parameters.condition,
        cursor: parameters.cursor,
    };
    let page = stored(&state, move |store| store.alarms(&query)).await?;
    Ok(Json(List { items: page.items.iter().map(view::alarm).collect(), next: page.next }))
}

/// One alarm of the store.
pub(super) async fn stored_alarm(state: &ApiState, id: &str) -> Result<Alarm, ApiError> {
    let wanted = id.to_owned();
    let found = stored(state, move |store| store.alarm(&wanted)).await?;
    found.ok_or_else(|| ApiError::not_found("alarm", id))
}

/// One case of the store with its history.
pub(super) async fn stored_case(state: &ApiState, id: &str) -> Result<(Case, Vec<CaseEvent>), ApiError> {
    let wanted = id.to_owned();
    let found = stored(state, move |store| store.case(&wanted)).await?;
    found.ok_or_else(|| ApiError::not_found("case", id))
}

pub(super) async fn alarm(State(state): State<ApiState>, Path(id): Path<String>) -> Found {
    stored_alarm(&state, &id).await.map(|alarm| Json(view::alarm(&alarm)))
}

pub(super) async fn incidents(State(state): State<ApiState>) -> Listed {
    let question = |engine: &kerbside_engine::Engine| engine.incidents();
    let incidents = state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(List { items: incidents.iter().map(|incident| serde_json::json!(incident)).collect(), next: None }))
}

/// One incident with its alarms.
pub(super) async fn incident(State(state): State<ApiState>, Path(id): Path<String>) -> Found {
    let wanted = id.clone();
    let question = move |engine: &kerbside_engine::Engine| engine.incident(&wanted);
    let found = state.engine.ask(question).await.map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(serde_json::json!(found.ok_or_else(|| ApiError::not_found("incident", &id))?)))
}

pub(super) async fn cases(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let datum = parameters.datum()?;
    let query = CaseQuery {
        states: parameters.words("a case", CaseState::from_name)?,
        limit: parameters.items_max(),
        device: parameters.device,
        condition: parameters.condition,
        open_only: parameters.open.unwrap_or(false),
        cursor: parameters.cursor,
    };
    let with_histories = move |store: &Store| {
        let page = store.cases(&query)?;
        let mut items = Vec::with_capacity(page.items.len());
        for case in &page.items {
            let history = store.case(&case.id)?.map(|(_, history)| history).unwrap_or_default();
            items.push(view::case(case, &history));
        }
        view::move_positions(&mut items, datum);
        Ok(List { items, next: page.next })
    };
    stored(&state, with_histories).await.map(Json)
}

pub(super) async fn case(State(state): State<ApiState>, Path(id): Path<String>) -> Found {
    stored_case(&state, &id).await.map(|(case, history)| Json(view::case(&case, &history)))
}

pub(super) async fn undecoded(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let query = UndecodedQuery {
        limit: parameters.items_max(),
        reason: parameters.reason.as_deref().map(again::reason_named).transpose().map_err(ApiError::bad_request)?,
        source: parameters.source,
        address: parameters.address,
        device: parameters.device,
        since: parameters.since,
        cursor: parameters.cursor,
    };
    let page = stored(&state, move |store| store.undecoded(&query)).await?;
    Ok(Json(List { items: page.items.iter().map(view::undecoded).collect(), next: page.next }))
}

pub(super) async fn undecoded_frame(State(state): State<ApiState>, Path(number): Path<String>) -> Found {
    let missing = || ApiError::not_found("undecoded frame", &number);
    let wanted: u64 = number.parse().map_err(|_| missing())?;
    let found = stored(&state, move |store| store.undecoded_frame(wanted)).await?;
    Ok(Json(view::undecoded(&found.ok_or_else(missing)?)))
}

pub(super) async fn unknown_devices(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let query = PageQuery { limit: parameters.items_max(), cursor: parameters.cursor };
    let page = stored(&state, move |store| store.unknown_devices(&query)).await?;
    Ok(Json(List { items: page.items.iter().map(view::unknown_device).collect(), next: page.next }))
}

pub(super) async fn refused_points(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let query = RefusedQuery {
        limit: parameters.items_max(),
        sink: parameters.sink,
        device: parameters.device,
        cursor: parameters.cursor,
    };
    let page = stored(&state, move |store| store.refused_points(&query)).await?;
    Ok(Json(List { items: page.items.iter().map(|row| serde_json::json!(row)).collect(), next: page.next }))
}

pub(super) async fn notices(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let query = OutboxQuery {
        limit: parameters.items_max(),
        case_id: parameters.case,
        cursor: parameters.cursor,
        ..OutboxQuery::default()
    };
    let page = stored(&state, move |store| store.outbox(&query)).await?;
    Ok(Json(List { items: page.items.iter().filter_map(view::notice).collect(), next: page.next }))
}

pub(super) async fn audit(State(state): State<ApiState>, Asked(parameters): Asked<Parameters>) -> Listed {
    let query = AuditQuery { limit: parameters.items_max(), subject: parameters.subject, cursor: parameters.cursor };
    let page = stored(&state, move |store| store.audit(&query)).await?;
    Ok(Json(List { items: page.items.iter().map(|line| serde_json::json!(line)).collect(), next: page.next }))
}
