//! Looks at the database once at the start, through the `influxdb2` crate: is it there, and does the token see the
//! bucket? The answer only feeds the log and the health; writing does not wait for it.

use std::time::Duration;

use influxdb2::api::buckets::ListBucketsRequest;
use influxdb2::models::Status;
use influxdb2::{Client, RequestError};
use kerbside_runtime::Chain;

use super::InfluxConfig;

/// The crate has no time limit of its own.
const SETUP_CHECK_WITHIN: Duration = Duration::from_secs(10);

/// Without a connection the database is looked for this often, until a write tells.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the look at the start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// The database is there, and so is the bucket as far as the token may see it.
    Ready {
        /// Name and version of the database.
        database: String,
        /// Whether the token sees the bucket; a token that may only write sees none.
        bucket_seen: Option<bool>,
    },
    /// The database says itself that it is not well.
    Unwell(String),
    /// The database does not know the token.
    TokenRefused,
    /// There is no connection; it is looked for again.
    Unreachable(String),
    /// Nothing certain: the first write will tell.
    Unknown(String),
}

/// Looks again after a while, because there was no connection.
pub(super) async fn check_again(config: &InfluxConfig) -> Setup {
    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    check(config).await
}

/// Asks for health, and for the bucket when there is a token.
pub(super) async fn check(config: &InfluxConfig) -> Setup {
    let token = config.token.as_ref().map_or("", |token| token.expose());
    let is_plain = reqwest::Url::parse(&config.url).is_ok_and(|url| url.path() == "/" && url.username().is_empty());
    if !is_plain || config.ca.is_some() {
        // The crate replaces the path of the URL and has its own TLS with the system's authorities.
        return Setup::Unknown(
            "an address with a path, an account or an authority of its own is not looked at".to_owned(),
        );
    }
    let client = Client::new(&config.url, &config.org, token);
    match tokio::time::timeout(SETUP_CHECK_WITHIN, ask(&client, config)).await {
        Ok(setup) => setup,
        Err(_) => Setup::Unreachable("no answer in time".to_owned()),
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

async fn ask(client: &Client, config: &InfluxConfig) -> Setup {
    let health = match client.health().await {
        Ok(health) => health,
        Err(RequestError::ReqwestProcessing { source }) if source.is_connect() || source.is_timeout() => {
            return Setup::Unreachable(innermost(&source));
        }
        // Other databases that take line protocol answer `/health` in their own ways.
        Err(error) => return Setup::Unknown(Chain(&error).to_string()),
    };
    if health.status == Status::Fail {
        return Setup::Unwell(health.message.unwrap_or_default());
    }
    let database = format!("{} {}", health.name, health.version.unwrap_or_default());
    if config.token.is_none() {
        return Setup::Ready { database, bucket_seen: None };
    }
    let request = ListBucketsRequest {
        org: Some(config.org.clone()),
        name: Some(config.bucket.clone()),
        limit: Some(1),
        after: None,
        id: None,
        offset: None,
        org_id: None,
    };
    match client.list_buckets(Some(request)).await {
        Ok(list) => {
            let seen = list.buckets.iter().any(|bucket| bucket.name == config.bucket);
            Setup::Ready { database, bucket_seen: Some(seen) }
        }
        Err(RequestError::Http { status, .. }) if status.as_u16() == 401 => Setup::TokenRefused,
        // InfluxDB answers 404 for a bucket or an organisation that is not there or may not be seen.
        Err(RequestError::Http { status, .. }) if status.as_u16() == 404 => {
            Setup::Ready { database, bucket_seen: Some(false) }
        }
        Err(_) => Setup::Ready { database, bucket_seen: None },
    }
}
