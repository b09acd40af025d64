//! Looks at the database before the first line is there: does somebody answer, who is it, and may we write?
//!
//! The last question is settled by a write without any line: InfluxDB looks for the token, the organisation, the
//! bucket and the right to write before it looks at the body, and then says that it wants points; what only takes
//! line protocol says yes. That needs no right to read. The answer feeds log, health and alarm; writing does not
//! wait for it. Health and bucket are asked for through the `influxdb2` crate where it serves: it replaces the path of
//! an address and trusts the system's authorities only, so that other databases are asked by our own client.

use std::time::Duration;

use influxdb2::api::buckets::ListBucketsRequest;
use influxdb2::models::{Buckets, HealthCheck, Status};
use influxdb2::{Client, RequestError};
use kerbside_runtime::Chain;
use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};

use super::answer::{Answer, Problem, ProblemKind};
use super::deliver::Writer;
use crate::http;

/// The crate has no time limit of its own.
const SETUP_CHECK_WITHIN: Duration = Duration::from_secs(10);

/// Until the database is ready it is looked for this often, unless a write tells more.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the look at the start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// The database is there and lets us write to the bucket.
    Ready {
        /// Name and version of the database, as far as it tells.
        database: String,
        /// How long the bucket keeps points, in seconds; 0 for ever. Only a token that may read is told.
        bucket_keeps_seconds: Option<i64>,
    },
    /// A person must mend something.
    Wrong(Problem),
    /// The database says itself that it is not well.
    Unwell(String),
    /// There is no connection.
    Unreachable(String),
    /// Nothing certain: the first write will tell.
    Unknown(String),
}

impl Setup {
    /// Whether to look again.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Setup::Wrong(_) | Setup::Unwell(_) | Setup::Unreachable(_))
    }
}

/// Looks again after a while.
pub(super) async fn check_again(writer: &Writer) -> Setup {
    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    check(writer).await
}

/// Asks for health and for the bucket, and whether we may write.
pub(super) async fn check(writer: &Writer) -> Setup {
    match tokio::time::timeout(SETUP_CHECK_WITHIN, ask(writer)).await {
        Ok(setup) => setup,
        Err(_) => Setup::Unreachable("no answer in time".to_owned()),
    }
}

async fn ask(writer: &Writer) -> Setup {
    let look = Look::new(writer);
    let database = match look.health().await {
        Ok(health) if health.status == Status::Fail => return Setup::Unwell(health.message.unwrap_or_default()),
        Ok(health) => format!("{} {}", health.name, health.version.unwrap_or_default()).trim_end().to_owned(),
        Err(LookError::Unreachable(reason)) => return Setup::Unreachable(reason),
        // Other databases that take line protocol answer `/health` in their own ways. Lines that come soon tell more
        // of them than a write without any.
        Err(LookError::Other) => {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            if writer.has_written() {
                return Setup::Ready { database: "unknown".to_owned(), bucket_keeps_seconds: None };
            }
            "unknown".to_owned()
        }
    };
    let (status, answer) = writer.try_out().await;
    match answer {
        Answer::Later(problem) => match problem.kind {
            // Not an InfluxDB, and it does not like a write without lines: that says nothing about one with lines.
            ProblemKind::Configuration if status == Some(StatusCode::BAD_REQUEST) => Setup::Unknown(problem.words),
            ProblemKind::Configuration => Setup::Wrong(problem),
            ProblemKind::Network | ProblemKind::Timeout => Setup::Unreachable(problem.words),
            ProblemKind::Busy | ProblemKind::Server => Setup::Unknown(problem.words),
        },
        _ => Setup::Ready { database, bucket_keeps_seconds: look.bucket_keeps_seconds().await },
    }
}

/// Why a question has no answer.
enum LookError {
    /// Nobody is there.
    Unreachable(String),
    /// Somebody is, but it is no InfluxDB 2, or the token may not ask.
    Other,
}

/// Asks InfluxDB's own questions, by whichever client serves.
enum Look<'a> {
    Crate { client: Box<Client>, writer: &'a Writer },
    Own { base: Url, writer: &'a Writer },
}

impl Look<'_> {
    fn new(writer: &Writer) -> Look<'_> {
        let config = writer.config();
        let base = Url::parse(&config.url).expect("the writer was made with this address");
        if base.path() != "/" || config.ca.is_some() {
            return Look::Own { base, writer };
        }
        let token = config.token.as_ref().map_or("", |token| token.expose());
        Look::Crate { client: Box::new(Client::new(&config.url, &config.org, token)), writer }
    }

    async fn health(&self) -> Result<HealthCheck, LookError> {
        match self {
            Look::Crate { client, .. } => client.health().await.map_err(from_crate),
            Look::Own { base, writer } => {
                let text = get(writer, own_url(base, &["health"])).await?;
                serde_json::from_str(&text).map_err(|_| LookError::Other)
            }
        }
    }

    /// Nothing when the token may not read the bucket.
    async fn bucket_keeps_seconds(&self) -> Option<i64> {
        let list = self.buckets().await.ok()?;
        let (Look::Crate { writer, .. } | Look::Own { writer, .. }) = self;
        let bucket = list.buckets.into_iter().find(|bucket| bucket.name == writer.config().bucket)?;
        // InfluxDB has one rule a bucket at most: none and 0 both mean for ever.
        Some(bucket.retention_rules.first().map_or(0, |rule| i64::from(rule.every_seconds)))
    }

    async fn buckets(&self) -> Result<Buckets, LookError> {
        match self {
            Look::Crate { client, writer } => {
                let request = ListBucketsRequest {
                    org: Some(writer.config().org.clone()),
                    name: Some(writer.config().bucket.clone()),
                    limit: Some(1),
                    after: None,
                    id: None,
                    offset: None,
                    org_id: None,
                };
                client.list_buckets(Some(request)).await.map_err(from_crate)
            }
            Look::Own { base, writer } => {
                let mut url = own_url(base, &["api", "v2", "buckets"]);
                let (org, bucket) = (writer.config().org.as_str(), writer.config().bucket.as_str());
                url.query_pairs_mut().append_pair("org", org).append_pair("name", bucket).append_pair("limit", "1");
                let text = get(writer, url).await?;
                serde_json::from_str(&text).map_err(|_| LookError::Other)
            }
        }
    }
}

fn own_url(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(path);
    url
}

async fn get(writer: &Writer, url: Url) -> Result<String, LookError> {
    let mut request = writer.client().get(url);
    if let Some(token) = &writer.config().token {
        request = request.header(AUTHORIZATION, format!("Token {}", token.expose()));
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() || error.is_timeout() => {
            return Err(LookError::Unreachable(Chain(&error.without_url()).to_string()));
        }
        Err(_) => return Err(LookError::Other),
    };
    // 503 comes with the health of a database that is not well.
    if !response.status().is_success() && response.status() != StatusCode::SERVICE_UNAVAILABLE {
        return Err(LookError::Other);
    }
    http::text(response).await.map_err(|_| LookError::Other)
}

fn from_crate(error: RequestError) -> LookError {
    match error {
        RequestError::ReqwestProcessing { source } if source.is_connect() || source.is_timeout() => {
            LookError::Unreachable(innermost(&source))
        }
        _ => LookError::Other,
    }
}

/// The library repeats the cause at every level.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
