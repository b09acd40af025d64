//! How a command reaches the gateway's records: by the API of the running gateway, or else by the store under its lock.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_runtime::{Clock, Health, Metrics};
use kerbside_sinks::http;
use kerbside_store::Store;
use serde_json::Value;

use crate::config::{self, Account, Config, ProcessEnvironment, Role};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Components that are exchanged get 8 s each to stop, and a full disk holds a change up.
const SLOW_ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// What comes as it happens may come for a day; then it is asked for anew.
const STREAM_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Where records are.
#[derive(Debug)]
pub(super) enum Access {
    /// A gateway runs and answers.
    Api(Api),
    /// None runs; the store is ours while the command runs.
    Store(Store, Box<Config>),
}

/// The API of a running gateway.
#[derive(Debug)]
pub(super) struct Api {
    client: reqwest::Client,
    base: String,
    account: Option<(String, String)>,
}

/// Reads the configuration and finds out whether its gateway runs.
pub(super) async fn open(path: &Path) -> anyhow::Result<Access> {
    let config = match config::load(path, &ProcessEnvironment) {
        Ok(config) => config,
        Err(problems) => {
            super::say_problems(&problems);
            bail!("read the configuration {}", path.display());
        }
    };
    if let Some(api) = running(&config).await? {
        return Ok(Access::Api(api));
    }
    let (listen, data_dir) = (reachable(config.listen), &config.data_dir);
    if !data_dir.join("kerbside.db").try_exists().unwrap_or(true) {
        bail!("find a gateway: none answers at http://{listen}, and {} holds no database", data_dir.display());
    }
    let store = Store::open(config.store.config.clone(), Clock::System, &Metrics::default(), &Health::default())?;
    Ok(Access::Store(store, Box::new(config)))
}

/// The API of the gateway of this configuration, when it runs.
pub(super) async fn running(config: &Config) -> anyhow::Result<Option<Api>> {
    let client = http::client(ANSWER_TIMEOUT, None)?;
    // The first that may act: commands do.
    let may_act = |account: &&Account| account.role == Role::Operator;
    let account = config.accounts.iter().find(may_act).or(config.accounts.first());
    let account = account.map(|account| (account.name.clone(), account.password.expose().to_owned()));
    let api = Api { client, base: format!("http://{}", reachable(config.listen)), account };
    let is_alive = api.client.get(format!("{}/health/live", api.base)).send().await.is_ok();
    Ok(is_alive.then_some(api))
}

/// What listens everywhere is reached on loopback.
fn reachable(listen: std::net::SocketAddr) -> std::net::SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    std::net::SocketAddr::new(ip, listen.port())
}

impl Api {
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.client.get(format!("{}{path}", self.base))).await
    }

    /// An answer that is no JSON, such as a report.
    pub(super) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let request = self.client.get(format!("{}{path}", self.base));
        let response = self.as_account(request).send().await.context("ask the running gateway")?;
        let status = response.status();
        let text = response.text().await.context("read the running gateway's answer")?;
        if status.is_success() { Ok(text) } else { bail!("have the running gateway do it: {status}: {text}") }
    }

    /// Every page of a list.
    pub(super) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                Some(cursor) => format!("{path}{joint}limit=1000&cursor={}", escape(cursor)),
                None => format!("{path}{joint}limit=1000"),
            };
            let mut answer = self.get(&page).await?;
            if let Some(Value::Array(more)) = answer.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            cursor = answer.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.client.post(format!("{}{path}", self.base)).json(body)).await
    }

    /// A request that may take long; gives the status and whatever JSON came with it.
    pub(super) async fn post_slowly(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body).timeout(SLOW_ANSWER_TIMEOUT);
        let response = self.as_account(request).send().await.context("ask the running gateway")?;
        let status = response.status().as_u16();
        let text = http::text(response).await.context("read the running gateway's answer")?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// An answer that goes on for as long as it is read.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.client.get(format!("{}{path}", self.base)).timeout(STREAM_TIMEOUT);
        let response = self.as_account(request).send().await.context("ask the running gateway")?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await?) }
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let response = self.as_account(request).send().await.context("ask the running gateway")?;
        if !response.status().is_success() {
            return Err(refusal(response).await?);
        }
        let text = http::text(response).await.context("read the running gateway's answer")?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn as_account(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.account {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }
}

/// What the gateway says when it does not do it.
async fn refusal(response: reqwest::Response) -> anyhow::Result<anyhow::Error> {
    let status = response.status();
    let text = http::text(response).await.context("read the running gateway's answer")?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or(&text);
    Ok(anyhow::anyhow!("have the running gateway do it: {status}: {message}"))
}

pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
