//! Open311 GeoReport v2: opens service requests, finds them again, and follows their status.
//!
//! GeoReport has no idempotency key, and real servers store a request and then answer 500 or nothing. So every
//! description ends with `[ref:CASE]`; after an uncertain request the list of service requests is searched for it
//! before anything is sent again, and while the search itself fails nothing is sent. Servers differ in nearly every
//! detail: so ids are opaque text, an answer is classified by the class of its status and by its words, and only
//! fields of the specification are sent.
//!
//! Nothing is kept here; what survives a crash is the outbox row and the reference in the platform's own record.
//! Metric: `kerbside_platform_requests_total{target,call,answer}`.

mod lookup;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use kerbside_model::geo::{Datum, convert};
use kerbside_model::{CaseReport, CaseState};
use kerbside_runtime::{Chain, Clock, Metrics, Secret};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prometheus::IntCounterVec;
use reqwest::StatusCode;

use crate::channels::http_retry_after;
use crate::channels::shorten;
use crate::channels::text::{Zone, ZoneError};
use crate::http::{self, HttpError};
use crate::platforms::answer::{self, Record};
use crate::platforms::{Lookup, OpenCase, OpenOutcome, Opened, Platform, PlatformError, Progress, ToldState};

/// One Open311 platform of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Open311Config {
    /// Name in the configuration.
    pub name: String,
    /// Base of the endpoint, such as `https://city.example.org/open311/v2`.
    pub url: String,
    /// Needed when the endpoint serves several cities.
    pub jurisdiction_id: Option<String>,
    /// Key for opening requests.
    pub api_key: Option<Secret>,
    /// What the endpoint speaks.
    pub format: Open311Format,
    /// Service code by name of condition.
    pub service_codes: Vec<(String, String)>,
    /// Service code of every other condition.
    pub service_code_default: String,
    /// Longest time of one request.
    pub timeout: Duration,
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// How often each open case is asked for; for [`crate::platforms::PollerConfig`].
    pub poll_interval: Duration,
    /// How long a request may still be on its way inside the platform after we lost sight of it.
    pub settle: Duration,
    /// Time zone of the times in descriptions by its IANA name.
    pub zone: String,
    /// The datum of `lat` and `long`; the specification asks for WGS84, and some platforms draw on another map.
    pub datum: Datum,
}

/// What an endpoint speaks. XML is mandatory by the specification, JSON is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Open311Format {
    /// JSON.
    #[default]
    Json,
    /// XML.
    Xml,
}

/// The connector cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum Open311Error {
    /// TLS or the client.
    #[error("prepare platform {name}")]
    Http {
        /// Which platform.
        name: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The time zone has no such name.
    #[error("prepare platform {name}")]
    Zone {
        /// Which platform.
        name: String,
        /// Why.
        #[source]
        source: ZoneError,
    },
    /// The address is not one of a web server.
    #[error("prepare platform {name}: url {url:?} is not valid")]
    Url {
        /// Which platform.
        name: String,
        /// The address.
        url: String,
    },
}

/// A platform that speaks GeoReport v2.
#[derive(Debug)]
pub struct Open311 {
    config: Open311Config,
    base: String,
    client: reqwest::Client,
    clock: Clock,
    zone: Zone,
    requests: IntCounterVec,
}

/// An answer with its status.
struct Reply {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: String,
}

impl Open311 {
    /// Checks the configuration. Makes no connection.
    pub fn new(config: Open311Config, clock: Clock, metrics: &Metrics) -> Result<Open311, Open311Error> {
        let name = config.name.clone();
        let is_web = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.query().is_none();
        if !reqwest::Url::parse(&config.url).is_ok_and(|url| is_web(&url)) {
            return Err(Open311Error::Url { name, url: config.url });
        }
        let zone = Zone::named(&config.zone).map_err(|source| Open311Error::Zone { name: name.clone(), source })?;
        let client = http::client(config.timeout, config.ca.as_deref())
            .map_err(|source| Open311Error::Http { name: name.clone(), source })?;
        let requests = metrics.counters(
            "kerbside_platform_requests_total",
            "Requests to case platforms, by call and class of the answer.",
            &["target", "call", "answer"],
        );
        let base = config.url.trim_end_matches('/').to_owned();
        Ok(Open311 { config, base, client, clock, zone, requests })
    }

    fn url(&self, path: &str) -> String {
        let extension = match self.config.format {
            Open311Format::Json => "json",
            Open311Format::Xml => "xml",
        };
        format!("{}/{path}.{extension}", self.base)
    }

    fn service_code(&self, condition: &str) -> &str {
        let mapped = self.config.service_codes.iter().find(|(name, _)| name == condition);
        mapped.map_or(&self.config.service_code_default, |(_, code)| code)
    }

    /// Asks and reads the whole answer. `call` is its name in the metric.
    async fn exchange(&self, call: &str, request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
        let reply = Self::reply(request).await;
        let answer = match &reply {
            Ok(reply) => format!("{}xx", reply.status.as_u16() / 100),
            Err(_) => "none".to_owned(),
        };
        self.requests.with_label_values(&[self.config.name.as_str(), call, answer.as_str()]).inc();
        reply
    }

    async fn reply(request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
        let response = request.send().await?;
        let status = response.status();
        let retry_after = http_retry_after(response.headers());
        let body = http::text(response).await?;
        Ok(Reply { status, retry_after, body })
    }

    /// A GET whose parameters are the jurisdiction, when there is one, and these.
    async fn get(&self, call: &str, path: &str, parameters: &[(&str, String)]) -> Result<Reply, PlatformError> {
        let mut request = self.client.get(self.url(path)).query(parameters);
        if let Some(jurisdiction) = &self.config.jurisdiction_id {
            request = request.query(&[("jurisdiction_id", jurisdiction)]);
        }
        self.exchange(call, request).await.map_err(|error| PlatformError::Request(error.without_url()))
    }

    async fn post(&self, report: &CaseReport) -> OpenOutcome {
        let form = self.form(report);
        // The specification names the character set; some servers read Chinese wrongly without it.
        let request = self
            .client
            .post(self.url("requests"))
            .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .form(&form);
        match self.exchange("open", request).await {
            Ok(reply) if reply.status.is_success() => accepted(&reply),
            Ok(reply) => self.refused(report, &reply).await,
            Err(error) => lost(error.without_url()),
        }
    }

    /// Only fields of the specification: one server refuses a request that has any other.
    fn form(&self, report: &CaseReport) -> Vec<(&'static str, String)> {
        let mut form = Vec::with_capacity(8);
        if let Some(key) = &self.config.api_key {
            form.push(("api_key", key.expose().to_owned()));
        }
        if let Some(jurisdiction) = &self.config.jurisdiction_id {
            form.push(("jurisdiction_id", jurisdiction.clone()));
        }
        form.push(("service_code", self.service_code(&report.condition).to_owned()));
        if let Some(position) = report.position {
            let (longitude, latitude) = convert(position, report.datum, self.config.datum);
            // Six decimals are eleven centimetres.
            form.push(("lat", format!("{latitude:.6}")));
            form.push(("long", format!("{longitude:.6}")));
        }
        let address = text::address(report);
        if !address.is_empty() {
            form.push(("address_string", address));
        }
        form.push(("device_id", report.case_id.clone()));
        form.push(("description", text::description(report, &self.zone)));
        form
    }

    /// What a status outside of 200 to 299 means for the case.
    async fn refused(&self, report: &CaseReport, reply: &Reply) -> OpenOutcome {
        let words = words_of(reply);
        let status = reply.status.as_u16();
        let reason = format!("HTTP {status}: {words}");
        match status {
            429 => OpenOutcome::NotSent { reason, retry_after: reply.retry_after },
            // A proxy in front of the platform gave up; the platform may not have.
            502..=504 | 408 => OpenOutcome::Uncertain { reason, progress: Progress::MayStillRun },
            // A conflict may be with our own earlier request, a redirect may lead to what was stored.
            500.. | 409 | 302 | 303 => OpenOutcome::Uncertain { reason, progress: Progress::Ended },
            301 | 307 | 308 => OpenOutcome::Misconfigured { reason: format!("{reason}; the url has moved") },
            401 | 403 | 404 | 405 | 406 | 407 | 410 | 415 => OpenOutcome::Misconfigured { reason },
            400..=499 if blames_configuration(&words) => OpenOutcome::Misconfigured { reason },
            400..=499 => self.refused_case(report, reason).await,
            _ => OpenOutcome::Uncertain { reason, progress: Progress::Ended },
        }
    }

    /// One server says no more than "Bad request" to a service code that it does not know. That is no reason to give
    /// the case up, so its list of services is asked first.
    async fn refused_case(&self, report: &CaseReport, reason: String) -> OpenOutcome {
        let code = self.service_code(&report.condition);
        match self.known_service_codes().await {
            Ok(known) if known.is_empty() || known.iter().any(|other| other == code) => OpenOutcome::Refused { reason },
            Ok(known) => {
                let known = shorten(&known.join(", "));
                let reason = format!("{reason}; service_code {code} is not among the platform's: {known}");
                OpenOutcome::Misconfigured { reason }
            }
            // The refusal will be the same next time, and then the list may be readable.
            Err(PlatformError::Request(error)) => {
                OpenOutcome::NotSent { reason: format!("{reason}; {}", Chain(&error)), retry_after: None }
            }
            Err(_) => OpenOutcome::Refused { reason },
        }
    }

    async fn known_service_codes(&self) -> Result<Vec<String>, PlatformError> {
        let reply = readable(self.get("services", "services", &[]).await?)?;
        let answer = answer::parse(&reply.body).map_err(unreadable)?;
        Ok(answer.records.iter().filter_map(|record| record.get("service_code")).map(str::to_owned).collect())
    }
}

#[async_trait]
impl Platform for Open311 {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn settle(&self) -> Duration {
        self.config.settle
    }

    async fn reach(&self) -> Result<(), PlatformError> {
        self.get("services", "services", &[]).await.map(|_reply| ())
    }

    async fn open(&self, report: &CaseReport, lookup: Lookup) -> OpenOutcome {
        if lookup == Lookup::First {
            let code = self.service_code(&report.condition);
            match self.look_up(&report.case_id, report.occurred_at, Some(code)).await {
                Ok(Some(platform_id)) => return OpenOutcome::AlreadyThere { platform_id },
                Ok(None) => {}
                Err(error) => {
                    let reason = format!("nothing is sent while the lookup fails: {}", Chain(&error));
                    return OpenOutcome::NotSent { reason, retry_after: None };
                }
            }
        }
        self.post(report).await
    }

    async fn claim(&self, token: &str) -> Result<Option<String>, PlatformError> {
        let path = format!("tokens/{}", utf8_percent_encode(token, NON_ALPHANUMERIC));
        let reply = self.get("token", &path, &[]).await?;
        // One server answers 500 until the number is known, another 404.
        if !reply.status.is_success() {
            return Ok(None);
        }
        let answer = answer::parse(&reply.body).map_err(unreadable)?;
        Ok(answer.records.iter().find_map(|record| record.get("service_request_id")).map(str::to_owned))
    }

    async fn find(&self, case: &OpenCase) -> Result<Option<String>, PlatformError> {
        self.look_up(&case.case_id, case.occurred_at, None).await
    }

    async fn status(&self, platform_id: &str) -> Result<Option<ToldState>, PlatformError> {
        let path = format!("requests/{}", utf8_percent_encode(platform_id, NON_ALPHANUMERIC));
        let reply = readable(self.get("status", &path, &[]).await?)?;
        let answer = answer::parse(&reply.body).map_err(unreadable)?;
        let of_case = |record: &&Record| record.get("service_request_id") == Some(platform_id);
        let with_status = |record: &&Record| record.get("status").is_some();
        let named = answer.records.iter().filter(with_status).find(of_case);
        // An answer to a question for one request may leave its number out.
        let unnamed =
            || answer.records.iter().filter(with_status).find(|record| record.get("service_request_id").is_none());
        Ok(named.or_else(unnamed).and_then(told_state))
    }
}

/// What an answer from 200 to 299 means.
fn accepted(reply: &Reply) -> OpenOutcome {
    let answer = match answer::parse(&reply.body) {
        Ok(answer) => answer,
        Err(error) => {
            let reason = format!("HTTP {}: {}: {}", reply.status.as_u16(), Chain(&error), shorten(&reply.body));
            return OpenOutcome::Uncertain { reason, progress: Progress::Ended };
        }
    };
    let field = |name: &str| answer.records.iter().find_map(|record| record.get(name)).map(str::to_owned);
    if let Some(id) = field("service_request_id") {
        return OpenOutcome::Opened(Opened::Id(id));
    }
    if !answer.is_request_list {
        let reason = format!("HTTP {} without a service request: {}", reply.status.as_u16(), words_of(reply));
        return OpenOutcome::Uncertain { reason, progress: Progress::Ended };
    }
    match field("token") {
        Some(token) => OpenOutcome::Opened(Opened::Token(token)),
        None => OpenOutcome::Opened(Opened::Blackbox),
    }
}

/// What a request without an answer means: it may have been stored unless no connection came about.
fn lost(error: reqwest::Error) -> OpenOutcome {
    let reason = Chain(&error).to_string();
    if error.is_builder() {
        return OpenOutcome::Misconfigured { reason };
    }
    if error.is_connect() {
        return OpenOutcome::NotSent { reason, retry_after: None };
    }
    OpenOutcome::Uncertain { reason, progress: Progress::MayStillRun }
}

/// Whether a refusal is about the key, the service code or the jurisdiction, and not about the case.
fn blames_configuration(words: &str) -> bool {
    const SIGNS: [&str; 9] = [
        "api_key",
        "api key",
        "apikey",
        "service_code",
        "service code",
        "jurisdiction",
        "unauthorized",
        "unauthorised",
        "forbidden",
    ];
    let words = words.to_lowercase();
    SIGNS.iter().any(|sign| words.contains(sign))
}

fn words_of(reply: &Reply) -> String {
    shorten(&answer::error_words(&reply.body).unwrap_or_else(|| reply.body.clone()))
}

/// The reply, unless it is an error.
fn readable(reply: Reply) -> Result<Reply, PlatformError> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    Err(PlatformError::Status { status: reply.status.as_u16(), words: words_of(&reply) })
}

fn unreadable(error: answer::AnswerError) -> PlatformError {
    PlatformError::Unreadable { reason: Chain(&error).to_string() }
}

fn told_state(record: &Record) -> Option<ToldState> {
    let word = record.get("status")?;
    let state = state_of(word)?;
    let note = match record.get("status_notes") {
        Some(notes) => format!("{word}: {}", shorten(notes)),
        None => word.to_owned(),
    };
    Some(ToldState { state, note })
}

/// The specification knows open and closed; the rest are words of mySociety's extension.
fn state_of(word: &str) -> Option<CaseState> {
    let word: String = word.trim().to_lowercase().replace([' ', '-'], "_");
    Some(match word.as_str() {
        "open" | "for_triage" => CaseState::Reported,
        "investigating" => CaseState::Accepted,
        "planned" | "action_scheduled" | "internal_referral" => CaseState::Dispatched,
        "in_progress" => CaseState::InProgress,
        "fixed" => CaseState::Done,
        "closed" | "no_further_action" => CaseState::Closed,
        "not_councils_responsibility" => CaseState::Rejected,
        "duplicate" => CaseState::Duplicate,
        "cancelled" | "canceled" => CaseState::Void,
        "reopen" | "reopened" => CaseState::Returned,
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod city;
#[cfg(test)]
mod tests;
