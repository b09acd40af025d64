//! A city platform that speaks Open311 GeoReport v2 by the book, in JSON and XML, and can misbehave as real ones do:
//! it stores a request and answers 500, or answers too late, or never.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kerbside_model::Timestamp;
use kerbside_runtime::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::gateway::{free_port, loopback};
use crate::wait::{SOON, wait_for};

const API_KEY: &str = "city-key";
const JURISDICTION: &str = "city.example";
const SERVICE_CODES: [&str; 2] = ["007", "009"];
/// The fields of POST service request in the specification that the gateway may use.
const FIELDS: [&str; 8] =
    ["api_key", "jurisdiction_id", "service_code", "lat", "long", "address_string", "device_id", "description"];
const DESCRIPTION_CHARACTERS_MAX: usize = 4_000;

/// What happens to the next POST.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Stored, and then this status.
    StoreThen(u16),
    /// Stored, and no answer ever.
    StoreThenHang,
    /// Not stored, and this status.
    Refuse(u16),
    /// Stored and answered well, but only after this.
    Late(Duration),
}

/// A service request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) fields: BTreeMap<String, String>,
    status: String,
    at: Timestamp,
}

impl Request {
    /// The reference of the gateway's case.
    pub(crate) fn reference(&self) -> &str {
        let description = &self.fields["description"];
        let start = description.rfind("[ref:").unwrap_or_else(|| panic!("no reference in {description}")) + 5;
        description[start..].trim_end_matches(']')
    }
}

#[derive(Debug, Default)]
struct CityState {
    requests: Vec<Request>,
    faults: VecDeque<Fault>,
    /// How long after the storing an answer leaves.
    answers_after: Duration,
    posts: usize,
    complaints: Vec<String>,
}

/// A running platform. Dropping it closes its port.
pub(crate) struct City {
    port: u16,
    state: Arc<Mutex<CityState>>,
    task: JoinHandle<()>,
}

impl City {
    pub(crate) async fn start() -> City {
        City::start_at(free_port()).await
    }

    pub(crate) async fn start_at(port: u16) -> City {
        let listener = tokio::net::TcpListener::bind(loopback(port)).await.unwrap();
        let state = Arc::new(Mutex::new(CityState::default()));
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        City { port, state, task }
    }

    /// The section `platform` for a platform on this port. It shows at once what it took, so it settles soon.
    pub(crate) fn config(port: u16, format: &str) -> String {
        format!(
            "platform: {{type: open311, name: city, url: \"http://127.0.0.1:{port}/open311/v2\", \
             jurisdiction_id: {JURISDICTION}, api_key: {API_KEY}, format: {format}, \
             service_codes: {{displaced: \"007\"}}, service_code_default: \"009\", timeout: 2s, poll_interval: 1s, \
             settle: 1s}}\n"
        )
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn fail_next(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// From now on requests are stored at once and answered so much later.
    pub(crate) fn answer_after(&self, wait: Duration) {
        self.state.lock().unwrap().answers_after = wait;
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How often a request was posted.
    pub(crate) fn posts(&self) -> usize {
        self.state.lock().unwrap().posts
    }

    /// A clerk ends a request.
    pub(crate) fn close(&self, id: &str) {
        let mut state = self.state.lock().unwrap();
        let request = state.requests.iter_mut().find(|request| request.id == id).unwrap();
        "closed".clone_into(&mut request.status);
    }

    pub(crate) async fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        wait_for(&format!("the platform has {count} requests"), SOON, || {
            let requests = self.requests();
            if requests.len() >= count { Ok(requests) } else { Err(format!("{requests:?}")) }
        })
        .await
    }

    /// Panics when the gateway did what the specification does not allow.
    pub(crate) fn assert_content(&self) {
        assert_eq!(self.state.lock().unwrap().complaints, Vec::<String>::new());
    }
}

impl Drop for City {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Asked {
    is_xml: bool,
    query: BTreeMap<String, String>,
}

async fn answer(
    State(shared): State<Arc<Mutex<CityState>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().strip_prefix("/open311/v2/").unwrap_or_default();
    let Some((path, extension @ ("json" | "xml"))) = path.rsplit_once('.') else {
        shared.lock().unwrap().complaints.push(format!("path {uri}"));
        return StatusCode::NOT_FOUND.into_response();
    };
    let asked = Asked { is_xml: extension == "xml", query: pairs(uri.query().unwrap_or_default()) };
    if method == Method::POST && path == "requests" {
        return post(&shared, &asked, &headers, &body).await;
    }
    let mut state = shared.lock().unwrap();
    if path != "discovery" && asked.query.get("jurisdiction_id").map(String::as_str) != Some(JURISDICTION) {
        state.complaints.push(format!("no jurisdiction in {uri}"));
        return error(&asked, 404, "jurisdiction_id was not found");
    }
    match path.split_once('/') {
        None if path == "services" => services(&asked),
        None if path == "requests" => list(&mut state, &asked),
        None if path == "discovery" => axum::Json(json!({ "contact": "city", "endpoints": [] })).into_response(),
        Some(("requests", id)) => match state.requests.iter().find(|request| request.id == id) {
            Some(request) => items(&asked, "service_requests", "request", &[view(request)]),
            None => error(&asked, 404, "service_request_id was not found"),
        },
        _ => error(&asked, 404, "no such resource"),
    }
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

async fn post(shared: &Mutex<CityState>, asked: &Asked, headers: &HeaderMap, body: &Bytes) -> Response {
    let fields = pairs(std::str::from_utf8(body).unwrap_or_default());
    let fault = {
        let mut state = shared.lock().unwrap();
        state.posts += 1;
        if let Some((status, words)) = objection(&fields, headers) {
            state.complaints.push(format!("{words}: {fields:?}"));
            return error(asked, status, words);
        }
        state.faults.pop_front()
    };
    match fault {
        Some(Fault::Refuse(status)) => return error(asked, status, "the database is locked"),
        Some(Fault::Late(wait)) => tokio::time::sleep(wait).await,
        _ => {}
    }
    let (id, answers_after) = {
        let mut state = shared.lock().unwrap();
        (state.store(fields), state.answers_after)
    };
    tokio::time::sleep(answers_after).await;
    match fault {
        Some(Fault::StoreThen(status)) => error(asked, status, "the mail server does not answer"),
        Some(Fault::StoreThenHang) => std::future::pending().await,
        _ => {
            let created = json!({ "service_request_id": id, "service_notice": "", "account_id": "" });
            items(asked, "service_requests", "request", &[created])
        }
    }
}

/// What the specification does not allow in a POST.
fn objection(fields: &BTreeMap<String, String>, headers: &HeaderMap) -> Option<(u16, &'static str)> {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return Some((400, "the body is not a form"));
    }
    if field("api_key") != API_KEY {
        return Some((403, "api_key is missing or wrong"));
    }
    if field("jurisdiction_id") != JURISDICTION {
        return Some((404, "jurisdiction_id was not found"));
    }
    if !SERVICE_CODES.contains(&field("service_code")) {
        return Some((404, "service_code was not found"));
    }
    if fields.keys().any(|name| !FIELDS.contains(&name.as_str())) {
        return Some((400, "unknown field"));
    }
    if field("description").chars().count() > DESCRIPTION_CHARACTERS_MAX {
        return Some((400, "description is too long"));
    }
    let is_degree = |name: &str| field(name).is_empty() || field(name).parse::<f64>().is_ok();
    let is_located = !field("address_string").is_empty() || !field("lat").is_empty() && !field("long").is_empty();
    (!is_degree("lat") || !is_degree("long") || !is_located).then_some((400, "there is no location"))
}

impl CityState {
    fn store(&mut self, fields: BTreeMap<String, String>) -> String {
        let id = format!("{}", 4_000 + self.requests.len());
        let at = Clock::System.now();
        self.requests.push(Request { id: id.clone(), fields, status: "open".to_owned(), at });
        id
    }
}

fn view(request: &Request) -> Value {
    json!({
        "service_request_id": request.id,
        "status": request.status,
        "service_code": request.fields["service_code"],
        "description": request.fields["description"],
        "requested_datetime": request.at,
    })
}

fn list(state: &mut CityState, asked: &Asked) -> Response {
    let date = |name: &str| asked.query.get(name).map(|text| Timestamp::parse(text));
    let (start, end) = (date("start_date"), date("end_date"));
    if start == Some(None) || end == Some(None) {
        state.complaints.push(format!("dates in {:?}", asked.query));
        return error(asked, 400, "a date cannot be read");
    }
    let (start, end) = (start.flatten(), end.flatten());
    let is_listed = |request: &&Request| {
        start.is_none_or(|start| start <= request.at)
            && end.is_none_or(|end| request.at <= end)
            && asked.query.get("service_code").is_none_or(|code| *code == request.fields["service_code"])
    };
    let listed: Vec<Value> = state.requests.iter().filter(is_listed).map(view).collect();
    items(asked, "service_requests", "request", &listed)
}

fn services(asked: &Asked) -> Response {
    let service = |code: &&str| json!({ "service_code": code, "service_name": "streets", "metadata": false });
    let services: Vec<Value> = SERVICE_CODES.iter().map(service).collect();
    items(asked, "services", "service", &services)
}

fn error(asked: &Asked, status: u16, words: &str) -> Response {
    let error = json!({ "code": status, "description": words });
    let mut response = items(asked, "errors", "error", &[error]);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn items(asked: &Asked, root: &str, name: &str, items: &[Value]) -> Response {
    if !asked.is_xml {
        return axum::Json(json!(items)).into_response();
    }
    let mut text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<{root}>\n");
    for item in items {
        text.push_str(&format!("  <{name}>\n"));
        for (key, value) in item.as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            text.push_str(&format!("    <{key}>{value}</{key}>\n"));
        }
        text.push_str(&format!("  </{name}>\n"));
    }
    text.push_str(&format!("</{root}>"));
    ([("content-type", "text/xml; charset=utf-8")], text).into_response()
}
