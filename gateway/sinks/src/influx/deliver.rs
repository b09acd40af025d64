//! Sends lines until the database has all of them but the ones that it refuses.
//!
//! A refused request is halved and sent again until single lines are found out; a line sent twice is the same point,
//! so nothing is stored twice. A request that is too large is halved too, and the size is remembered. Anything else
//! hands the delivery back with the problem: waiting is the pump's business.

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use kerbside_runtime::Clock;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::answer::{Answer, Problem, classify, unanswered};
use super::encode::{Lines, device_of};
use super::meters::Meters;
use super::{Gzip, InfluxConfig, InfluxError};
use crate::http;

/// Where the database says itself how many lines it dropped and that it stored the others, so many requests a minute
/// are spent on finding out which: enough for two lines among 5,000. A type conflict refuses every line of a kind, and
/// hunting all of them would cost more requests than lines.
const HUNT_REQUESTS_PER_MINUTE: u32 = 64;
const HUNT_PERIOD: Duration = Duration::from_secs(60);

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
    body: Bytes,
    ends: Vec<usize>,
    /// Ranges of lines still to be sent; the last one is next.
    pending: Vec<Range<usize>>,
}

impl Delivery {
    pub(super) fn new(lane: Lane, sequences: Vec<u64>, lines: Lines) -> Delivery {
        let (body, ends) = lines.into_parts();
        let everything = 0..ends.len();
        Delivery { lane, sequences, body: Bytes::from(body), ends, pending: vec![everything] }
    }

    fn start(&self, line: usize) -> usize {
        if line == 0 { 0 } else { self.ends[line - 1] }
    }

    fn text(&self, lines: &Range<usize>) -> Bytes {
        self.body.slice(self.start(lines.start)..self.start(lines.end))
    }

    /// The next lines to send: at least one, and within the limits when more than one.
    fn next(&mut self, lines_max: usize, bytes_max: usize) -> Option<Range<usize>> {
        let lines = self.pending.pop()?;
        if lines.is_empty() {
            return self.next(lines_max, bytes_max);
        }
        let bytes_end = self.start(lines.start).saturating_add(bytes_max);
        let fitting = self.ends[lines.clone()].partition_point(|end| *end <= bytes_end).clamp(1, lines_max);
        let cut = lines.end.min(lines.start + fitting);
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
    /// How long the last request took.
    pub(super) took: Duration,
    /// Lines that the database refused.
    pub(super) refused: usize,
    /// The device and the database's words of the last refused line.
    pub(super) last_refusal: Option<Refusal>,
}

/// A line that the database does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The line's device; of several lines refused at once, the first one's.
    pub(super) device: String,
    /// The database's words.
    pub(super) reason: String,
}

/// Knows how to write to the database.
#[derive(Debug)]
pub(super) struct Writer {
    config: InfluxConfig,
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    /// The configured limit, or less when the database found requests too large.
    bytes_max: AtomicUsize,
    hunt: Mutex<Hunt>,
    meters: Meters,
}

#[derive(Debug)]
struct Hunt {
    left: u32,
    since: Instant,
}

impl Writer {
    pub(super) fn new(config: InfluxConfig, meters: Meters) -> Result<Writer, InfluxError> {
        let client = http::client(config.timeout, config.ca.as_deref()).map_err(InfluxError::Http)?;
        Ok(Writer {
            client,
            url: write_url(&config)?,
            headers: headers(&config)?,
            bytes_max: AtomicUsize::new(config.bytes_max),
            hunt: Mutex::new(Hunt { left: HUNT_REQUESTS_PER_MINUTE, since: Clock::stamp() }),
            config,
            meters,
        })
    }

    pub(super) fn config(&self) -> &InfluxConfig {
        &self.config
    }

    /// Sends what is still to be sent.
    pub(super) async fn deliver(&self, delivery: Delivery) -> Report {
        let mut report =
            Report { delivery, problem: None, progressed: false, took: Duration::ZERO, refused: 0, last_refusal: None };
        while let Some(lines) = report.delivery.next(self.config.lines_max, self.bytes_max.load(Ordering::Relaxed)) {
            let text = report.delivery.text(&lines);
            let started = Clock::stamp();
            let answer = self.send(text.clone()).await;
            report.took = started.elapsed();
            self.meters.request(&answer, report.took);
            match answer {
                Answer::Accepted => self.meters.points.inc_by(lines.len() as u64),
                Answer::Refused { reason, dropped } => self.refused(&mut report, lines, &reason, dropped),
                Answer::TooLarge => self.too_large(&mut report, lines, text.len()),
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

    fn refused(&self, report: &mut Report, lines: Range<usize>, reason: &str, dropped: Option<usize>) {
        let is_settled = |dropped: usize| dropped >= lines.len() || !self.may_hunt();
        match dropped {
            _ if lines.len() == 1 => self.quarantine(report, &lines, 1, reason),
            Some(dropped) if is_settled(dropped) => {
                let dropped = dropped.min(lines.len());
                self.meters.points.inc_by((lines.len() - dropped) as u64);
                self.quarantine(report, &lines, dropped, reason);
            }
            _ => report.delivery.halve(&lines),
        }
    }

    fn too_large(&self, report: &mut Report, lines: Range<usize>, bytes: usize) {
        if lines.len() == 1 {
            // It was this one line: the limit that was learned on the way down to it says nothing about others.
            self.bytes_max.store(self.config.bytes_max, Ordering::Relaxed);
            self.quarantine(report, &lines, 1, "the line is too large for the database (413)");
            return;
        }
        self.bytes_max.store(bytes / 2, Ordering::Relaxed);
        report.delivery.pending.push(lines);
    }

    /// Gives lines up for good.
    fn quarantine(&self, report: &mut Report, lines: &Range<usize>, count: usize, reason: &str) {
        self.meters.points_refused.inc_by(count as u64);
        report.refused += count;
        let device = device_of(&report.delivery.text(&(lines.start..lines.start + 1)));
        report.last_refusal = Some(Refusal { device, reason: reason.to_owned() });
    }

    /// Whether two more requests may be spent on finding out a refused line.
    fn may_hunt(&self) -> bool {
        let mut hunt = self.hunt.lock().unwrap_or_else(PoisonError::into_inner);
        if hunt.since.elapsed() >= HUNT_PERIOD {
            *hunt = Hunt { left: HUNT_REQUESTS_PER_MINUTE, since: Clock::stamp() };
        }
        if hunt.left < 2 {
            return false;
        }
        hunt.left -= 2;
        true
    }

    async fn send(&self, text: Bytes) -> Answer {
        let body = match self.config.gzip {
            Gzip::On => compressed(&text),
            Gzip::Off => text,
        };
        self.meters.bytes.inc_by(body.len() as u64);
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return unanswered(error),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        match http::text(response).await {
            Ok(text) => classify(&self.config, status, &headers, &text),
            Err(error) => unanswered(error),
        }
    }
}

/// Level 1 makes line protocol seven times smaller at 1.5 times the speed of level 3 (measured with 5,000 lines).
fn compressed(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    encoder.write_all(text).expect("writing to memory does not fail");
    Bytes::from(encoder.finish().expect("writing to memory does not fail"))
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
    if config.gzip == Gzip::On {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(token) = &config.token {
        let mut value = HeaderValue::from_str(&format!("Token {}", token.expose())).map_err(|_| InfluxError::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}
