//! A strict stand-in of InfluxDB 2: it refuses whatever the real one would, and remembers what it took.

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kerbside_runtime::tls::server_config;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::lines::{Field, parse};
use super::*;

/// What a request brought.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) bytes: usize,
    pub(super) at: tokio::time::Instant,
}

/// An answer that was told in advance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply(pub(super) u16, pub(super) &'static [(&'static str, &'static str)], pub(super) &'static str);

/// How lines that hold "poison" are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Refusing {
    /// The whole request, as after an error of the parser.
    #[default]
    Whole,
    /// The good lines are stored, as after a type conflict.
    Partial,
}

pub(super) struct Database {
    pub(super) seen: Mutex<Vec<Seen>>,
    /// Series and time -> fields.
    pub(super) points: Mutex<BTreeMap<(String, i64), BTreeMap<String, String>>>,
    /// Answers to the next write requests; after them it works.
    pub(super) script: Mutex<VecDeque<Reply>>,
    pub(super) refusing: Mutex<Refusing>,
    /// Larger bodies get 413.
    pub(super) bytes_max: AtomicUsize,
    /// Every write waits for a permit when this is set.
    pub(super) is_held: AtomicBool,
    pub(super) permits: Semaphore,
    /// What a token that may read is told of.
    pub(super) buckets: Mutex<Vec<&'static str>>,
    /// Writes without lines.
    pub(super) tried: AtomicUsize,
    /// What the real one answers when something is not there or not allowed, to whatever is written.
    pub(super) refusal: Mutex<Option<Reply>>,
    /// Takes line protocol and knows nothing else of InfluxDB.
    pub(super) is_another: AtomicBool,
}

impl Database {
    pub(super) fn new() -> Arc<Database> {
        Arc::new(Database {
            seen: Mutex::default(),
            points: Mutex::default(),
            script: Mutex::default(),
            refusing: Mutex::default(),
            bytes_max: AtomicUsize::new(usize::MAX),
            is_held: AtomicBool::new(false),
            permits: Semaphore::new(0),
            buckets: Mutex::default(),
            tried: AtomicUsize::new(0),
            refusal: Mutex::default(),
            is_another: AtomicBool::new(false),
        })
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(super) fn points(&self) -> usize {
        self.points.lock().unwrap().len()
    }

    /// The numbers of the batches whose first line each request carried, in order of arrival.
    pub(super) fn order(&self) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        let number = |line: &str| u64::try_from(parse(line).unwrap().timestamp - 1_700_000_000_000).unwrap();
        seen.iter().flat_map(|seen| seen.text.lines().map(number).collect::<Vec<_>>()).collect()
    }

    pub(super) async fn serve(self: &Arc<Database>, listener: TcpListener) {
        axum::serve(listener, self.routes()).await.unwrap();
    }

    fn routes(self: &Arc<Database>) -> Router {
        let own = Router::new()
            .route("/api/v2/write", post(write))
            .route("/health", get(health))
            .route("/api/v2/buckets", get(buckets))
            .with_state(Arc::clone(self));
        Router::new().nest("/behind/a/proxy", own.clone()).merge(own)
    }

    /// Starts on a free port with a certificate of an authority of its own.
    pub(super) async fn start_with_tls(self: &Arc<Database>) -> SocketAddr {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
        let config = server_config(&folder.join("server.pem"), &folder.join("server.key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TlsListener { listener, acceptor: config.into() };
        let routes = self.routes();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        address
    }

    /// Starts on a free port.
    pub(super) async fn start(self: &Arc<Database>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let database = Arc::clone(self);
        tokio::spawn(async move { database.serve(listener).await });
        address
    }

    fn take(&self, text: &str) -> Response {
        let mut refused = Vec::new();
        let mut taken = Vec::new();
        for line in text.split_terminator('\n') {
            match parse(line) {
                Ok(_) if line.contains("poison") => refused.push(line),
                Ok(parsed) => taken.push((line, parsed)),
                Err(error) => panic!("the sink wrote {line:?}: {error}"),
            }
        }
        let refusing = *self.refusing.lock().unwrap();
        if refused.is_empty() || refusing == Refusing::Partial {
            let mut points = self.points.lock().unwrap();
            for (line, parsed) in taken {
                let series = format!("{} {:?}", parsed.measurement, parsed.tags);
                let fields = points.entry((series, parsed.timestamp)).or_default();
                for (key, value) in parsed.fields {
                    assert!(!matches!(value, Field::Float(number) if !number.is_finite()), "{line}");
                    fields.insert(key, format!("{value:?}"));
                }
            }
        }
        match (refused.as_slice(), refusing) {
            ([], _) => StatusCode::NO_CONTENT.into_response(),
            ([first, ..], Refusing::Whole) => {
                let message = format!("unable to parse '{first}': poison");
                let body = serde_json::json!({ "code": "invalid", "message": message }).to_string();
                (StatusCode::BAD_REQUEST, body).into_response()
            }
            (_, Refusing::Partial) => {
                let message = format!(
                    "failure writing points to database: partial write: field type conflict: input field \"state\" on \
                     measurement \"drain\" is type string, already exists as type float dropped={}",
                    refused.len()
                );
                let body = serde_json::json!({ "code": "unprocessable entity", "message": message }).to_string();
                (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
            }
        }
    }
}

/// Gives axum connections that have shaken hands; those that did not are dropped.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn reply(Reply(status, extra, body): Reply) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in extra {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

/// In the order of the real one: token, organisation, bucket, the right to write, and only then the lines.
fn without_lines(database: &Database, headers: &HeaderMap) -> Response {
    database.tried.fetch_add(1, Ordering::SeqCst);
    if database.is_another.load(Ordering::SeqCst) {
        return StatusCode::NO_CONTENT.into_response();
    }
    if headers.get("authorization").is_none_or(|token| token != "Token t0ken") {
        return (StatusCode::UNAUTHORIZED, r#"{"code":"unauthorized","message":"unauthorized access"}"#)
            .into_response();
    }
    (StatusCode::BAD_REQUEST, r#"{"code":"invalid","message":"writing requires points"}"#).into_response()
}

async fn write(
    State(database): State<Arc<Database>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let text = match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
        None => String::from_utf8(body.to_vec()).unwrap(),
        Some("gzip") => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(body.as_ref()).read_to_string(&mut text).unwrap();
            text
        }
        Some(other) => panic!("content-encoding {other}"),
    };
    let refusal = *database.refusal.lock().unwrap();
    if text.is_empty() {
        return refusal.map_or_else(|| without_lines(&database, &headers), reply);
    }
    assert!(text.ends_with('\n'), "half a line");
    let seen = Seen {
        query: query.unwrap_or_default(),
        headers,
        bytes: body.len(),
        at: tokio::time::Instant::now(),
        text: text.clone(),
    };
    database.seen.lock().unwrap().push(seen);
    if database.is_held.load(Ordering::SeqCst) {
        database.permits.acquire().await.unwrap().forget();
    }
    let scripted = database.script.lock().unwrap().pop_front();
    if let Some(answer) = scripted.or(refusal) {
        return reply(answer);
    }
    if text.len() > database.bytes_max.load(Ordering::SeqCst) {
        return (StatusCode::PAYLOAD_TOO_LARGE, r#"{"code":"request too large","message":"too large"}"#)
            .into_response();
    }
    database.take(&text)
}

async fn health(State(database): State<Arc<Database>>) -> Response {
    if database.is_another.load(Ordering::SeqCst) {
        return "OK".into_response();
    }
    let body = r#"{"name":"influxdb","message":"ready for queries and writes","status":"pass","checks":[],"version":"v2.7.1"}"#;
    ([("content-type", "application/json")], body).into_response()
}

async fn buckets(State(database): State<Arc<Database>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    if headers.get("authorization").is_none_or(|token| token != "Token t0ken") {
        return (StatusCode::UNAUTHORIZED, r#"{"code":"unauthorized","message":"unauthorized access"}"#)
            .into_response();
    }
    if database.is_another.load(Ordering::SeqCst) {
        return (StatusCode::BAD_REQUEST, "unsupported path requested").into_response();
    }
    let query = query.unwrap_or_default();
    let buckets = database.buckets.lock().unwrap();
    let wanted = buckets.iter().filter(|name| query.contains(&format!("name={name}")) && query.contains("org=city"));
    let list: Vec<_> = wanted.map(|name| rules_of(name)).collect();
    axum::Json(serde_json::json!({ "buckets": list })).into_response()
}

fn rules_of(name: &str) -> serde_json::Value {
    let rules = serde_json::json!([{ "type": "expire", "everySeconds": 2_592_000 }]);
    serde_json::json!({ "name": name, "retentionRules": rules })
}
