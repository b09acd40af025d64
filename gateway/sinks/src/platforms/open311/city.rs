//! A strict GeoReport server for tests, which can be told to behave like the worse ones.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kerbside_model::{Datum, Timestamp};
use kerbside_runtime::{Clock, Metrics, Secret, tls};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Open311, Open311Config, Open311Format};
use crate::channels::text::DEFAULT_ZONE;

/// The fields of a service request that the specification knows, without attributes.
const FIELDS: [&str; 15] = [
    "api_key",
    "jurisdiction_id",
    "service_code",
    "lat",
    "long",
    "address_string",
    "address_id",
    "email",
    "device_id",
    "account_id",
    "first_name",
    "last_name",
    "phone",
    "description",
    "media_url",
];

/// How a server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) numbers: Numbers,
    pub(crate) xml: XmlShape,
    pub(crate) errors: ErrorShape,
    pub(crate) dates: Dates,
    /// What comes for a missing key, an unknown service code, an unknown request.
    pub(crate) no_key: u16,
    pub(crate) no_code: u16,
    /// 200 means an empty list.
    pub(crate) no_request: u16,
    /// What comes while a token has no number yet.
    pub(crate) no_number_yet: u16,
    pub(crate) page_size: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    Text,
    Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XmlShape {
    Specified,
    /// `<service_requests><service_requests>` for a POST and `<service_request>` in lists.
    Nested,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorShape {
    Array,
    Wrapped,
    /// One JSON object, also for XML.
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dates {
    Honoured,
    /// Start and end are mixed up: nothing is ever between them.
    Inverted,
    Refused,
}

impl Manners {
    /// By the book.
    pub(crate) fn specified() -> Manners {
        Manners {
            numbers: Numbers::Number,
            xml: XmlShape::Specified,
            errors: ErrorShape::Array,
            dates: Dates::Honoured,
            no_key: 403,
            no_code: 404,
            no_request: 404,
            no_number_yet: 404,
            page_size: None,
        }
    }

    /// As the first of the two measured servers.
    pub(crate) fn first() -> Manners {
        Manners {
            numbers: Numbers::Text,
            errors: ErrorShape::Wrapped,
            no_key: 400,
            no_code: 400,
            no_request: 500,
            no_number_yet: 500,
            ..Manners::specified()
        }
    }

    /// As the second of the two measured servers.
    pub(crate) fn second() -> Manners {
        Manners {
            xml: XmlShape::Nested,
            errors: ErrorShape::Object,
            dates: Dates::Inverted,
            no_code: 403,
            no_request: 200,
            ..Manners::specified()
        }
    }
}

/// What happens to one POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Stored, and then an error of this status.
    StoreThen(u16),
    /// Stored, and no answer ever.
    StoreThenHang,
    /// No answer, and stored only after a while.
    HangThenStore(Duration),
    /// Stored, and an answer that nobody understands.
    StoreThenBabble,
    /// Not stored, error of this status.
    Refuse(u16),
    /// Not stored, and somebody's login page with 200.
    Login,
    /// Stored; a token instead of a number, which is known after so many questions.
    Token(u32),
    /// Stored; neither token nor number.
    Blackbox,
}

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: usize,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) status: String,
    pub(crate) at: Timestamp,
    number_in: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct CityState {
    pub(crate) stored: Vec<Stored>,
    pub(crate) posts: usize,
    pub(crate) lists: usize,
    pub(crate) faults: VecDeque<Fault>,
    /// Every list is refused with this status.
    pub(crate) lists_fail: Option<u16>,
    pub(crate) complaints: Vec<String>,
}

/// A running server.
#[derive(Clone)]
pub(crate) struct City {
    manners: Manners,
    pub(crate) state: Arc<watch::Sender<CityState>>,
    pub(crate) address: SocketAddr,
}

impl City {
    pub(crate) async fn start(manners: Manners, faults: &[Fault]) -> City {
        tls::install_crypto_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = CityState {
            stored: Vec::new(),
            posts: 0,
            lists: 0,
            faults: faults.iter().copied().collect(),
            lists_fail: None,
            complaints: Vec::new(),
        };
        let city =
            City { manners, state: Arc::new(watch::Sender::new(state)), address: listener.local_addr().unwrap() };
        let app = Router::new().fallback(answer).with_state(city.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        city
    }

    pub(crate) fn config(&self, format: Open311Format) -> Open311Config {
        Open311Config {
            name: "city".to_owned(),
            url: format!("http://{}/open311/v2/", self.address),
            jurisdiction_id: Some("city.example".to_owned()),
            api_key: Some(Secret::new("key")),
            format,
            service_codes: vec![("displaced".to_owned(), "007".to_owned())],
            service_code_default: "1".to_owned(),
            timeout: Duration::from_secs(1),
            ca: None,
            poll_interval: Duration::from_secs(60),
            settle: Duration::from_secs(1),
            zone: DEFAULT_ZONE.to_owned(),
            datum: Datum::Wgs84,
        }
    }

    pub(crate) fn client(&self, format: Open311Format) -> Open311 {
        Open311::new(self.config(format), Clock::System, &Metrics::default()).unwrap()
    }

    pub(crate) fn stored(&self) -> Vec<Stored> {
        self.state.borrow().stored.clone()
    }

    /// Puts strangers' requests in front of ours.
    pub(crate) fn fill(&self, count: usize) {
        for number in 0..count {
            let fields = BTreeMap::from([("description".to_owned(), format!("pothole {number}"))]);
            self.store(fields, 0);
        }
    }

    /// Panics when a client did what the specification does not allow.
    pub(crate) fn assert_content(&self) {
        assert_eq!(self.state.borrow().complaints, Vec::<String>::new());
    }

    fn store(&self, fields: BTreeMap<String, String>, number_in: u32) -> usize {
        let mut id = 0;
        self.state.send_modify(|state| {
            id = state.stored.len();
            let at = Clock::System.now();
            state.stored.push(Stored { id, fields, status: "open".to_owned(), at, number_in });
        });
        id
    }

    fn complain(&self, complaint: String) {
        self.state.send_modify(|state| state.complaints.push(complaint));
    }

    fn id(&self, id: usize) -> Value {
        match self.manners.numbers {
            Numbers::Text => json!(format!("C{id}")),
            Numbers::Number => json!(id),
        }
    }
}

struct Asked {
    is_xml: bool,
    path: String,
    query: Vec<(String, String)>,
}

impl Asked {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

async fn answer(State(city): State<City>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().strip_prefix("/open311/v2/").unwrap_or_default();
    let Some((path, extension)) = path.rsplit_once('.') else {
        city.complain(format!("strange path {uri}"));
        return StatusCode::NOT_FOUND.into_response();
    };
    let asked =
        Asked { is_xml: extension == "xml", path: path.to_owned(), query: pairs(uri.query().unwrap_or_default()) };
    if method == Method::POST {
        return post(&city, &asked, &headers, &body).await;
    }
    if asked.query("jurisdiction_id") != Some("city.example") {
        city.complain(format!("no jurisdiction in {uri}"));
    }
    match asked.path.split('/').collect::<Vec<_>>().as_slice() {
        ["services"] => {
            list(&asked, "services", "service", &[json!({"service_code": "007", "service_name": "covers"})])
        }
        ["requests"] => requests(&city, &asked),
        ["requests", id] => one(&city, &asked, id),
        ["tokens", token] => token_number(&city, &asked, token),
        _ => error(&city, &asked, 404, "no such resource"),
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

async fn post(city: &City, asked: &Asked, headers: &HeaderMap, body: &Bytes) -> Response {
    let mut fault = None;
    city.state.send_modify(|state| {
        state.posts += 1;
        fault = state.faults.pop_front();
    });
    let content_type: Vec<&str> =
        headers.get_all("content-type").iter().map(|value| value.to_str().unwrap_or_default()).collect();
    if content_type != ["application/x-www-form-urlencoded; charset=utf-8"] {
        city.complain(format!("content type {content_type:?}"));
    }
    let form = pairs(std::str::from_utf8(body).unwrap());
    let fields: BTreeMap<String, String> = form.iter().cloned().collect();
    for (name, _) in &form {
        if !FIELDS.contains(&name.as_str()) {
            city.complain(format!("unknown field {name}"));
            return error(city, asked, 400, "unknown field");
        }
    }
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    if field("api_key") != "key" {
        return error(city, asked, city.manners.no_key, "api_key is missing or wrong");
    }
    if field("service_code") != "007" {
        return error(city, asked, city.manners.no_code, "Bad request");
    }
    if field("description").chars().count() > 4_000 {
        return error(city, asked, 400, "description is too long");
    }
    for name in ["lat", "long"] {
        if field(name).split_once('.').is_none_or(|(_, digits)| digits.len() != 6) {
            city.complain(format!("{name} is {:?}", field(name)));
        }
    }
    act(city, asked, fault, fields).await
}

async fn act(city: &City, asked: &Asked, fault: Option<Fault>, fields: BTreeMap<String, String>) -> Response {
    match fault {
        None => {
            let id = city.store(fields, 0);
            created(city, asked, &json!({ "service_request_id": city.id(id), "account_id": null }))
        }
        Some(Fault::StoreThen(status)) => {
            city.store(fields, 0);
            error(city, asked, status, "the database is gone")
        }
        Some(Fault::StoreThenHang) => {
            city.store(fields, 0);
            std::future::pending().await
        }
        Some(Fault::HangThenStore(wait)) => {
            let later = city.clone();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                later.store(fields, 0);
            });
            std::future::pending().await
        }
        Some(Fault::StoreThenBabble) => {
            city.store(fields, 0);
            "<service_requests><requ".into_response()
        }
        Some(Fault::Refuse(status)) => error(city, asked, status, "lat is in the sea"),
        Some(Fault::Login) => "<html><body><form>please log in</form></body></html>".into_response(),
        Some(Fault::Token(number_in)) => {
            let id = city.store(fields, number_in);
            created(city, asked, &json!({ "service_request_id": null, "token": format!("T{id}") }))
        }
        Some(Fault::Blackbox) => {
            city.store(fields, u32::MAX);
            created(city, asked, &json!({ "service_notice": "thank you" }))
        }
    }
}

fn created(city: &City, asked: &Asked, item: &Value) -> Response {
    let name = if city.manners.xml == XmlShape::Nested { "service_requests" } else { "request" };
    list(asked, "service_requests", name, std::slice::from_ref(item))
}

fn requests(city: &City, asked: &Asked) -> Response {
    city.state.send_modify(|state| state.lists += 1);
    let state = city.state.borrow().clone();
    if let Some(status) = state.lists_fail {
        return error(city, asked, status, "lists are down");
    }
    let dates = (asked.query("start_date"), asked.query("end_date"));
    if let (Some(start), Some(end)) = dates {
        if city.manners.dates == Dates::Refused {
            return error(city, asked, 400, "bad date");
        }
        for date in [start, end] {
            if date.len() != "2026-05-01T03:04:05Z".len() || !date.ends_with('Z') {
                city.complain(format!("date {date:?}"));
            }
        }
    }
    let is_listed = |stored: &&Stored| match dates {
        _ if stored.number_in > 0 => false,
        (Some(_), Some(_)) if city.manners.dates == Dates::Inverted => false,
        (Some(start), Some(end)) => {
            let (start, end) = (Timestamp::parse(start).unwrap(), Timestamp::parse(end).unwrap());
            start <= stored.at && stored.at <= end
        }
        _ => true,
    };
    let listed: Vec<Value> = state.stored.iter().filter(is_listed).map(|stored| item(city, stored)).collect();
    let page: usize = asked.query("page").map_or(1, |page| page.parse().unwrap());
    let listed = match city.manners.page_size {
        Some(size) => listed.into_iter().skip((page - 1) * size).take(size).collect(),
        None => listed,
    };
    list(asked, "service_requests", item_name(city), &listed)
}

fn item(city: &City, stored: &Stored) -> Value {
    json!({
        "service_request_id": city.id(stored.id),
        "status": stored.status,
        "status_notes": null,
        "description": stored.fields.get("description"),
    })
}

fn item_name(city: &City) -> &'static str {
    if city.manners.xml == XmlShape::Nested { "service_request" } else { "request" }
}

fn one(city: &City, asked: &Asked, id: &str) -> Response {
    let state = city.state.borrow().clone();
    let has_id = |stored: &&Stored| city.id(stored.id).to_string().trim_matches('"') == id;
    match (state.stored.iter().find(has_id), city.manners.no_request) {
        (Some(stored), _) => list(asked, "service_requests", item_name(city), &[item(city, stored)]),
        (None, 200) => list(asked, "service_requests", item_name(city), &[]),
        (None, status) => error(city, asked, status, "no such request"),
    }
}

fn token_number(city: &City, asked: &Asked, token: &str) -> Response {
    let index: usize = token.trim_start_matches('T').parse().unwrap();
    let mut is_known = false;
    city.state.send_modify(|state| {
        let stored = &mut state.stored[index];
        is_known = stored.number_in == 0;
        stored.number_in = stored.number_in.saturating_sub(1);
    });
    if !is_known {
        return error(city, asked, city.manners.no_number_yet, "wait");
    }
    list(asked, "service_requests", "request", &[json!({ "service_request_id": city.id(index), "token": token })])
}

fn error(city: &City, asked: &Asked, status: u16, words: &str) -> Response {
    let error = json!({ "code": status, "description": words });
    let body = match (city.manners.errors, asked.is_xml) {
        (ErrorShape::Object, _) => json!({ "type": "error", "code": "middleware_26", "message": words }).to_string(),
        (_, true) => xml("errors", "error", &[error]),
        (ErrorShape::Array, false) => json!([error]).to_string(),
        (ErrorShape::Wrapped, false) => json!({ "errors": [error] }).to_string(),
    };
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn list(asked: &Asked, root: &str, name: &str, items: &[Value]) -> Response {
    let body = if asked.is_xml { xml(root, name, items) } else { json!(items).to_string() };
    body.into_response()
}

fn xml(root: &str, name: &str, items: &[Value]) -> String {
    let mut text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<{root}>\n");
    for item in items {
        text.push_str(&format!("  <{name}>\n"));
        for (key, value) in item.as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("    <{key}>{}</{key}>\n", quick_xml::escape::escape(value.as_str())));
        }
        text.push_str(&format!("  </{name}>\n"));
    }
    text.push_str(&format!("</{root}>"));
    text
}
