//! Sends lines until the database has all of them but the ones that it refuses.
//!
//! A refused request is halved and sent again until single lines are found out; a line sent twice is the same point,
//! so nothing is stored twice. A request that is too large is halved too, and the size is remembered. Anything else
//! hands the delivery back with the problem: waiting is the pump's business. How much one request carries is learned
//! in `pace`, whether it is compressed in `compression`.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kerbside_model::Timestamp;
use kerbside_runtime::Clock;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url};

use super::answer::{Answer, Problem, classify, unanswered};
use super::compression::{Compression, Sample, compressed};
use super::conflict::dropped_lines;
use super::encode::{Lines, device_of};
use super::meters::Meters;
use super::pace::{Answered, Pace};
use super::{InfluxConfig, InfluxError};
use crate::http;

/// Where the database says itself how many lines it dropped and that it stored the others, so many requests a minute
/// are spent on finding out which: enough for two lines among 5,000. A type conflict refuses every line of a kind, and
/// hunting all of them would cost more requests than lines.
const HUNT_REQUESTS_PER_MINUTE: u32 = 64;
/// Halving a request makes two of it.
const HALVING_REQUESTS: u32 = 2;
/// Refused lines that are kept with their text in a minute; the others are counted only. A whole kind of device that
/// is refused would write more to the disk than its readings do.
const REFUSED_KEPT_PER_MINUTE: u32 = 1_000;
const ALLOWANCE_PERIOD: Duration = Duration::from_secs(60);

/// Live lines go before the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// From memory.
    Live,
    /// Read back from the store.
    Backlog,
}

/// Whole batches as lines, with what of them is still to be sent.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) lane: Lane,
    /// Numbers of the batches that have arrived when this has.
    pub(super) sequences: Vec<u64>,
    /// When the first of its batches came to the gateway.
    pub(super) oldest: Timestamp,
    /// When the last of its batches came to the gateway.
    pub(super) newest: Timestamp,
    body: Bytes,
    ends: Vec<usize>,
    /// Ranges of lines still to be sent; the last one is next.
    pending: Vec<Range<usize>>,
}

/// Batches on their way into a delivery.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) lines: Lines,
    pub(super) sequences: Vec<u64>,
    pub(super) oldest: Timestamp,
    pub(super) newest: Timestamp,
}

impl Delivery {
    pub(super) fn new(lane: Lane, gathered: Gathered) -> Delivery {
        let Gathered { lines, sequences, oldest, newest } = gathered;
        let (body, ends) = lines.into_parts();
        let everything = 0..ends.len();
        Delivery { lane, sequences, oldest, newest, body: Bytes::from(body), ends, pending: vec![everything] }
    }

    /// The memory of the lines, for the next ones; nothing when the connection still holds it.
    pub(super) fn into_spare(self) -> Option<Lines> {
        let mut body = self.body.try_into_mut().ok()?;
        body.clear();
        Some(Lines::reusing(body.into(), self.ends))
    }

    fn start(&self, line: usize) -> usize {
        if line == 0 { 0 } else { self.ends[line - 1] }
    }

    fn text(&self, lines: &Range<usize>) -> Bytes {
        self.body.slice(self.start(lines.start)..self.start(lines.end))
    }

    fn line(&self, line: usize) -> &[u8] {
        &self.body[self.start(line)..self.ends[line]]
    }

    /// The next lines to send: at least one, and within the limits when more than one.
    fn next(&mut self, lines_max: usize, bytes_max: usize) -> Option<Range<usize>> {
        let lines = self.pending.pop()?;
        if lines.is_empty() {
            return self.next(lines_max, bytes_max);
        }
        let bytes_end = self.start(lines.start).saturating_add(bytes_max);
        let fitting = self.ends[lines.clone()].partition_point(|end| *end <= bytes_end).clamp(1, lines_max);
        // What takes two requests goes in two halves: not a full one, and one for the few lines that are left.
        let requests = lines.len().div_ceil(fitting);
        let cut = lines.end.min(lines.start + lines.len().div_ceil(requests));
        if cut < lines.end {
            self.pending.push(cut..lines.end);
        }
        Some(lines.start..cut)
    }

    fn halve(&mut self, lines: &Range<usize>) {
        let middle = lines.start + lines.len() / 2;
        self.pending.push(middle..lines.end);
        self.pending.push(lines.start..middle);
    }
}

/// What became of a delivery.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) delivery: Delivery,
    /// Why it could not be finished, if so.
    pub(super) problem: Option<Problem>,
    /// Whether the database took any request.
    pub(super) progressed: bool,
    /// How long all requests took.
    pub(super) took: Duration,
    /// How many lines the database refused.
    pub(super) refused: usize,
    /// Those of them that are to be kept.
    pub(super) refusals: Vec<Refusal>,
}

/// A line that the database does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The line's device; of several lines refused at once, the first one's.
    pub(super) device: String,
    /// The line; the first one of several that were not told apart.
    pub(super) line: String,
    /// The database's words.
    pub(super) reason: String,
}

/// Knows how to write to the database.
#[derive(Debug)]
pub(super) struct Writer {
    config: InfluxConfig,
    client: reqwest::Client,
    url: Url,
    plain: HeaderMap,
    packed: HeaderMap,
    compression: Compression,
    pace: Mutex<Pace>,
    hunts: Mutex<Allowance>,
    kept: Mutex<Allowance>,
    meters: Meters,
}

/// So many a minute.
#[derive(Debug)]
struct Allowance {
    each_minute: u32,
    left: u32,
    since: Instant,
}

impl Allowance {
    fn new(each_minute: u32) -> Allowance {
        Allowance { each_minute, left: each_minute, since: Clock::stamp() }
    }

    fn take(&mut self, count: u32) -> bool {
        if self.since.elapsed() >= ALLOWANCE_PERIOD {
            *self = Allowance::new(self.each_minute);
        }
        let is_allowed = self.left >= count;
        if is_allowed {
            self.left -= count;
        }
        is_allowed
    }
}

impl Writer {
    pub(super) fn new(config: InfluxConfig, meters: Meters) -> Result<Writer, InfluxError> {
        let client = http::client(config.timeout, config.ca.as_deref()).map_err(InfluxError::Http)?;
        let url = write_url(&config)?;
        let plain = headers(&config)?;
        let mut packed = plain.clone();
        packed.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Ok(Writer {
            client,
            plain,
            packed,
            compression: Compression::new(config.gzip, &url, Clock::stamp()),
            url,
            pace: Mutex::new(Pace::new(config.requests_max, config.bytes_max)),
            hunts: Mutex::new(Allowance::new(HUNT_REQUESTS_PER_MINUTE)),
            kept: Mutex::new(Allowance::new(REFUSED_KEPT_PER_MINUTE)),
            config,
            meters,
        })
    }

    pub(super) fn config(&self) -> &InfluxConfig {
        &self.config
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// What was learned about the database.
    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        locked(&self.pace)
    }

    /// Sends what is still to be sent. `is_crowded`: lines wait while all requests that are allowed are under way.
    pub(super) async fn deliver(&self, delivery: Delivery, is_crowded: bool) -> Report {
        let mut report = Report {
            delivery,
            problem: None,
            progressed: false,
            took: Duration::ZERO,
            refused: 0,
            refusals: Vec::new(),
        };
        loop {
            let bytes_max = self.pace().bytes();
            let Some(lines) = report.delivery.next(self.config.lines_max, bytes_max) else { break };
            let text = report.delivery.text(&lines);
            let bytes = text.len();
            let started = Clock::stamp();
            let answer = self.send(text).await;
            let took = started.elapsed();
            report.took += took;
            self.meters.request(&answer, took);
            self.learn(Answered { answer: &answer, bytes, took, is_crowded });
            match answer {
                Answer::Accepted => self.meters.points.inc_by(lines.len() as u64),
                Answer::Refused { reason, dropped } => self.refused(&mut report, lines, &reason, dropped),
                Answer::TooLarge => self.too_large(&mut report, lines),
                Answer::Later(problem) => {
                    report.delivery.pending.push(lines);
                    report.problem = Some(problem);
                    return report;
                }
            }
            report.progressed = true;
        }
        report
    }

    fn learn(&self, answered: Answered<'_>) {
        let mut pace = self.pace();
        pace.answered(answered);
        self.meters.requests_allowed.set(i64::try_from(pace.requests()).unwrap_or(i64::MAX));
    }

    fn refused(&self, report: &mut Report, lines: Range<usize>, reason: &str, dropped: Option<usize>) {
        if lines.len() == 1 || dropped.is_some_and(|dropped| dropped >= lines.len()) {
            self.give_up(report, lines, reason);
            return;
        }
        let Some(dropped) = dropped else {
            report.delivery.halve(&lines);
            return;
        };
        let texts = lines.clone().map(|line| (line, report.delivery.line(line)));
        if let Some(found) = dropped_lines(reason, dropped, texts) {
            self.meters.points.inc_by((lines.len() - dropped) as u64);
            self.give_up(report, found, reason);
        } else if locked(&self.hunts).take(HALVING_REQUESTS) {
            report.delivery.halve(&lines);
        } else {
            self.meters.points.inc_by((lines.len() - dropped) as u64);
            self.count_refused(report, dropped);
            let reason = format!("{dropped} of the {} lines from this one on: {reason}", lines.len());
            self.keep(report, lines.start, &reason);
        }
    }

    fn too_large(&self, report: &mut Report, lines: Range<usize>) {
        if lines.len() == 1 {
            self.pace().forget_ceiling();
            self.give_up(report, lines, "the line is too large for the database (413)");
            return;
        }
        report.delivery.pending.push(lines);
    }

    /// Gives lines up for good.
    fn give_up(&self, report: &mut Report, lines: impl IntoIterator<Item = usize>, reason: &str) {
        for line in lines {
            self.count_refused(report, 1);
            self.keep(report, line, reason);
        }
    }

    fn count_refused(&self, report: &mut Report, count: usize) {
        self.meters.points_refused.inc_by(count as u64);
        report.refused += count;
    }

    fn keep(&self, report: &mut Report, line: usize, reason: &str) {
        if !locked(&self.kept).take(1) {
            return;
        }
        let text = report.delivery.line(line);
        report.refusals.push(Refusal {
            device: device_of(text),
            line: String::from_utf8_lossy(text.trim_ascii_end()).into_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Whether the database has taken points.
    pub(super) fn has_written(&self) -> bool {
        self.meters.points.get() > 0
    }

    /// Writes nothing: organisation, bucket and token are checked by the database before it looks at the lines.
    pub(super) async fn try_out(&self) -> (Option<StatusCode>, Answer) {
        match self.client.execute(self.request(Bytes::new(), false)).await {
            Ok(response) => (Some(response.status()), self.read_answer(response).await),
            Err(error) => (None, unanswered(error)),
        }
    }

    async fn send(&self, text: Bytes) -> Answer {
        let lines = text.len();
        let is_packed = self.compression.is_on(lines);
        let body = if is_packed { compressed(&text) } else { text };
        let wire = body.len();
        self.meters.bytes.inc_by(wire as u64);
        self.meters.compressed.set(i64::from(is_packed));
        let started = Clock::stamp();
        let response = match self.client.execute(self.request(body, is_packed)).await {
            Ok(response) => response,
            Err(error) => return unanswered(error),
        };
        let peer = response.remote_addr();
        let answer = self.read_answer(response).await;
        if answer == Answer::Accepted {
            let now = Clock::stamp();
            self.compression.measured(Sample { lines, wire, took: now.duration_since(started), peer }, now);
        }
        answer
    }

    /// Made by hand: a builder would go through the headers one by one for every request.
    fn request(&self, body: Bytes, is_packed: bool) -> Request {
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = if is_packed { self.packed.clone() } else { self.plain.clone() };
        *request.body_mut() = Some(body.into());
        request
    }

    async fn read_answer(&self, response: reqwest::Response) -> Answer {
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Answer::Accepted;
        }
        let headers = response.headers().clone();
        match http::text(response).await {
            Ok(text) => classify(&self.config, status, &headers, &text),
            Err(error) => unanswered(error),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_url(config: &InfluxConfig) -> Result<Url, InfluxError> {
    let failed = |reason: &str| InfluxError::Url { url: config.url.clone(), reason: reason.to_owned() };
    let mut url = Url::parse(&config.url).map_err(|error| failed(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The address is not repeated: it holds a password.
        let reason = "it must not carry an account: use sinks.influx.token".to_owned();
        return Err(InfluxError::Url { url: url.host_str().unwrap_or_default().to_owned(), reason });
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed("it must begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(failed("it must not have a query: organisation and bucket have keys of their own"));
    }
    url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(["api", "v2", "write"]);
    url.query_pairs_mut()
        .append_pair("org", &config.org)
        .append_pair("bucket", &config.bucket)
        .append_pair("precision", "ms");
    Ok(url)
}

fn headers(config: &InfluxConfig) -> Result<HeaderMap, InfluxError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = &config.token {
        let mut value = HeaderValue::from_str(&format!("Token {}", token.expose())).map_err(|_| InfluxError::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}
