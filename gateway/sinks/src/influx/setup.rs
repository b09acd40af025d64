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
    /// Nothing certain: the first write will tell.
    Unknown(String),
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
        Err(_) => Setup::Unknown("no answer in time".to_owned()),
    }
}

async fn ask(client: &Client, config: &InfluxConfig) -> Setup {
    let health = match client.health().await {
        Ok(health) => health,
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
