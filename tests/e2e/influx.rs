//! A strict stand-in for InfluxDB 2: it wants organisation, bucket, precision and token, parses every line, and can
//! be told to refuse in each of the ways of the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::gateway::{free_port, loopback};
use crate::wait::wait_for;

const TOKEN: &str = "Token t0ken";

/// How writes are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 204.
    Works,
    /// 401: the token was withdrawn.
    Unauthorized,
    /// 404: the bucket was deleted.
    NoBucket,
    /// 413 for bodies of more bytes than this.
    TooLarge(usize),
    /// 429 with `Retry-After` in seconds.
    Busy(u64),
    /// 503.
    Unavailable,
    /// 400 that names a partial write: lines of this device are dropped, the others are stored.
    Partial(String),
}

/// One point as it arrived, sent again or not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) measurement: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// The value's text: `41.5`, `true`, `"word"`, `17i`.
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) at_ms: i64,
}

#[derive(Debug)]
struct Database {
    mode: Mode,
    /// By series and time, as the real one keeps them.
    points: BTreeMap<(String, String, i64), Point>,
    /// Status of every answer.
    answers: BTreeMap<u16, usize>,
    complaints: Vec<String>,
}

/// A running stand-in. Dropping it closes its port.
pub(crate) struct Influx {
    pub(crate) address: SocketAddr,
    database: Arc<Mutex<Database>>,
    task: JoinHandle<()>,
}

impl Influx {
    pub(crate) async fn start() -> Influx {
        Influx::start_at(free_port()).await
    }

    pub(crate) async fn start_at(port: u16) -> Influx {
        let listener = tokio::net::TcpListener::bind(loopback(port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let database = Arc::new(Mutex::new(Database {
            mode: Mode::Works,
            points: BTreeMap::new(),
            answers: BTreeMap::new(),
            complaints: Vec::new(),
        }));
        let routes = Router::new()
            .route("/api/v2/write", post(write))
            .route("/health", get(health))
            .route("/api/v2/buckets", get(buckets))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&database));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Influx { address, database, task }
    }

    /// The section `sinks` for a database on this port.
    pub(crate) fn config(port: u16) -> String {
        format!(
            "sinks: {{influx: {{type: influx, url: \"http://127.0.0.1:{port}\", org: city, bucket: street, \
             token: t0ken, flush_interval: 50ms, backoff_max: 1s}}}}\n"
        )
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.database.lock().unwrap().mode = mode;
    }

    /// How often a status was answered.
    pub(crate) fn answers(&self, status: u16) -> usize {
        self.database.lock().unwrap().answers.get(&status).copied().unwrap_or(0)
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        self.database.lock().unwrap().points.values().cloned().collect()
    }

    pub(crate) fn points_of(&self, device: &str) -> Vec<Point> {
        self.points().into_iter().filter(|point| point.tags["device"] == device).collect()
    }

    /// Every value of a whole-numbered field.
    pub(crate) fn numbers(&self, field: &str) -> BTreeSet<u64> {
        let database = self.database.lock().unwrap();
        let number = |point: &Point| point.fields.get(field)?.parse::<f64>().ok().map(|number| number as u64);
        database.points.values().filter_map(number).collect()
    }

    /// Waits until every number is there.
    pub(crate) async fn wait_for_numbers(&self, field: &str, wanted: &BTreeSet<u64>, within: std::time::Duration) {
        wait_for("every number is in the database", within, || {
            let found = self.numbers(field);
            let missing: Vec<u64> = wanted.difference(&found).copied().collect();
            if missing.is_empty() {
                return Ok(());
            }
            let shown = &missing[..missing.len().min(10)];
            Err(format!("{} of {} are missing, such as {shown:?}", missing.len(), wanted.len()))
        })
        .await;
    }

    /// Panics when a client did what the real one would not have understood.
    pub(crate) fn assert_content(&self) {
        assert_eq!(self.database.lock().unwrap().complaints, Vec::<String>::new());
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Shared = State<Arc<Mutex<Database>>>;

async fn write(State(shared): Shared, RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let mut database = shared.lock().unwrap();
    let (status, retry_after, body) = database.answer(&query.unwrap_or_default(), &headers, &body);
    *database.answers.entry(status).or_default() += 1;
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn words(code: &str, message: &str) -> String {
    json!({ "code": code, "message": message }).to_string()
}

impl Database {
    fn answer(&mut self, query: &str, headers: &HeaderMap, body: &[u8]) -> (u16, Option<u64>, String) {
        let parameters: BTreeSet<&str> = query.split('&').collect();
        if parameters != BTreeSet::from(["org=city", "bucket=street", "precision=ms"]) {
            self.complaints.push(format!("query {query}"));
        }
        let token = headers.get("authorization").and_then(|value| value.to_str().ok());
        match self.mode.clone() {
            _ if token != Some(TOKEN) => (401, None, words("unauthorized", "unauthorized access")),
            Mode::Unauthorized => (401, None, words("unauthorized", "unauthorized access")),
            Mode::NoBucket => (404, None, words("not found", "bucket \"street\" not found")),
            Mode::TooLarge(bytes) if body.len() > bytes => {
                (413, None, words("request too large", "unable to read data: points batch is too large"))
            }
            Mode::Busy(seconds) => (429, Some(seconds), words("too many requests", "write rate limit exceeded")),
            Mode::Unavailable => (503, None, words("unavailable", "service is unavailable")),
            Mode::Partial(device) => self.store(body, Some(&device)),
            Mode::Works | Mode::TooLarge(_) => self.store(body, None),
        }
    }

    fn store(&mut self, body: &[u8], refused: Option<&str>) -> (u16, Option<u64>, String) {
        let Ok(text) = std::str::from_utf8(body) else {
            self.complaints.push("a body that is not UTF-8".to_owned());
            return (400, None, words("invalid", "not UTF-8"));
        };
        let mut points = Vec::new();
        let mut dropped = 0;
        for line in text.lines() {
            match parse(line) {
                Ok(point) if refused == Some(point.tags["device"].as_str()) => dropped += 1,
                Ok(point) => points.push(point),
                Err(error) => {
                    self.complaints.push(format!("{error}: {line}"));
                    return (400, None, words("invalid", &format!("unable to parse '{line}': {error}")));
                }
            }
        }
        for point in points {
            let series = (point.measurement.clone(), format!("{:?}", point.tags), point.at_ms);
            let kept = self.points.entry(series).or_insert_with(|| Point { fields: BTreeMap::new(), ..point.clone() });
            kept.fields.extend(point.fields);
        }
        if dropped == 0 {
            return (204, None, String::new());
        }
        let message = format!(
            "failure writing points to database: partial write: field type conflict: input field \"tilt_deg\" on \
             measurement \"manhole_cover\" is type float, already exists as type string dropped={dropped}"
        );
        (400, None, words("invalid", &message))
    }
}

async fn health() -> Response {
    let body = json!({
        "name": "influxdb", "message": "ready for queries and writes", "status": "pass", "checks": [],
        "version": "v2.7.1",
    });
    axum::Json(body).into_response()
}

async fn buckets(State(shared): Shared, headers: HeaderMap) -> Response {
    let mode = shared.lock().unwrap().mode.clone();
    if mode == Mode::Unauthorized || headers.get("authorization").is_none_or(|token| token != TOKEN) {
        return (StatusCode::UNAUTHORIZED, words("unauthorized", "unauthorized access")).into_response();
    }
    let list = if mode == Mode::NoBucket { json!([]) } else { json!([{ "name": "street", "retentionRules": [] }]) };
    axum::Json(json!({ "buckets": list })).into_response()
}

/// Line protocol, read strictly: `measurement,tag=value field=value,field=value timestamp`.
fn parse(line: &str) -> Result<Point, String> {
    let parts = split(line, ' ');
    let [head, fields, at] = parts.as_slice() else { return Err(format!("{} parts", parts.len())) };
    let mut heads = split(head, ',').into_iter();
    let measurement = heads.next().unwrap_or_default();
    let pair = |text: &String| match split(text, '=').as_slice() {
        [key, value] if !key.is_empty() && !value.is_empty() => Ok((key.clone(), value.clone())),
        _ => Err(format!("{text:?} is no pair")),
    };
    let tags = heads.map(|text| pair(&text).map(|(key, value)| (key, unescaped(&value)))).collect::<Result<_, _>>()?;
    let mut parsed = BTreeMap::new();
    for field in split(fields, ',') {
        let (key, value) = pair(&field)?;
        if !is_value(&value) {
            return Err(format!("{value:?} is no value"));
        }
        if parsed.insert(key.clone(), value).is_some() {
            return Err(format!("{key} comes twice"));
        }
    }
    let at_ms = at.parse().map_err(|_| format!("{at:?} is no timestamp"))?;
    Ok(Point { measurement, tags, fields: parsed, at_ms })
}

/// Splits at a character that is neither escaped nor between quotation marks.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut is_escaped, mut is_quoted) = (false, false);
    for letter in text.chars() {
        if letter == separator && !is_escaped && !is_quoted {
            parts.push(String::new());
            continue;
        }
        if letter == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = letter == '\\' && !is_escaped;
        if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts
}

fn unescaped(text: &str) -> String {
    text.replace("\\ ", " ").replace("\\,", ",").replace("\\=", "=")
}

fn is_value(text: &str) -> bool {
    let is_text = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let is_integer = text.strip_suffix('i').is_some_and(|number| number.parse::<i64>().is_ok());
    is_text || is_integer || matches!(text, "true" | "false") || text.parse::<f64>().is_ok_and(f64::is_finite)
}
