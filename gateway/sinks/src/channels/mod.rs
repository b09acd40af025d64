//! Push channels: how a duty officer is told.
//!
//! Turns [`Letter`]s into one request to a robot or a webhook, and the robot's answer into a [`SendOutcome`]. Robots
//! answer HTTP 200 to nearly everything: success is only what the body says. A channel keeps nothing; what survives
//! a crash is the outbox row. The outbox worker counts the outcomes, so there are no metrics here.

mod dingtalk;
mod feishu;
pub mod limiter;
mod show;
pub mod text;
mod webhook;
mod wecom;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use kerbside_model::Notice;
use kerbside_runtime::{Chain, Clock, Secret};
use serde_json::Value;

use crate::channels::limiter::RateLimit;
use crate::channels::text::{Zone, ZoneError};
use crate::http::{self, HttpError};

/// Where DingTalk's custom robots listen.
pub const DINGTALK_URL: &str = "https://oapi.dingtalk.com/robot/send";
/// Where WeCom's group robots listen.
pub const WECOM_URL: &str = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send";
/// Where Feishu's custom bots listen; the token follows as one more path segment.
pub const FEISHU_URL: &str = "https://open.feishu.cn/open-apis/bot/v2/hook";

/// How much of a target's words is kept in a reason.
const WORDS_CHARS_MAX: usize = 300;
/// Below this a message would say nothing.
const ROOM_BYTES_MIN: usize = 1_000;
/// No target silences us for longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// One channel of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// Name in the configuration.
    pub name: String,
    /// What it speaks, and its secrets.
    pub kind: ChannelKind,
    /// Longest time of one request.
    pub timeout: Duration,
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Time zone of the texts by its IANA name; [`text::DEFAULT_ZONE`] in China.
    pub zone: String,
}

/// What a channel speaks.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelKind {
    /// A custom robot of DingTalk (钉钉).
    DingTalk {
        /// Usually [`DINGTALK_URL`].
        url: String,
        /// The `access_token`.
        token: Secret,
        /// The `SEC...` secret, when the robot signs.
        secret: Option<Secret>,
        /// Telephone numbers of members to mention.
        mobiles: Vec<String>,
    },
    /// A group robot of WeCom (企业微信).
    WeCom {
        /// Usually [`WECOM_URL`].
        url: String,
        /// The `key`.
        key: Secret,
        /// User ids of members to mention.
        users: Vec<String>,
    },
    /// A custom bot of Feishu (飞书).
    Feishu {
        /// Usually [`FEISHU_URL`].
        url: String,
        /// The last segment of the hook.
        token: Secret,
        /// The secret, when the bot signs.
        secret: Option<Secret>,
        /// Open ids of members to mention, or `all`.
        users: Vec<String>,
    },
    /// Any program that takes JSON.
    Webhook {
        /// Where to post.
        url: String,
        /// Further headers, such as an authorisation.
        headers: Vec<(String, Secret)>,
        /// Key of the signature header, when the receiver checks one.
        secret: Option<Secret>,
    },
    /// Says nothing to anybody: for demonstrations and sites without a robot.
    Show,
}

/// A notice on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Id of the outbox row: a receiver can tell a repetition by it.
    pub row_id: String,
    /// What to say.
    pub notice: Notice,
    /// The link that signs for the case, when the notice asks for a signature.
    pub sign_url: Option<String>,
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The target says that it has them.
    Sent {
        /// How many of the letters, from the first, were in the message; the rest must be sent again.
        letters: usize,
    },
    /// The target has had enough for a while.
    Throttled {
        /// How long to leave it alone.
        retry_after: Duration,
        /// The target's words.
        reason: String,
    },
    /// Token, signature, keyword or address list are wrong: a person must mend the configuration.
    Misconfigured {
        /// The target's words.
        reason: String,
    },
    /// The target answered, and did not say that it has it.
    Failed {
        /// The target's words.
        reason: String,
    },
    /// No answer came.
    Unreachable {
        /// Why.
        reason: String,
    },
}

/// A channel to people.
#[async_trait]
pub trait Channel: Send + Sync + Debug {
    /// Name in the configuration.
    fn name(&self) -> &str;

    /// How often it may be used.
    fn rate_limit(&self) -> RateLimit;

    /// How many letters may be merged into one digest; 1 when it takes no digests.
    fn letters_max(&self) -> usize;

    /// Sends the letters as one message. `letters` is not empty.
    async fn send(&self, letters: &[Letter]) -> SendOutcome;
}

/// A channel cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// TLS or the client.
    #[error("prepare channel {name}")]
    Http {
        /// Which channel.
        name: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The time zone has no such name.
    #[error("prepare channel {name}")]
    Zone {
        /// Which channel.
        name: String,
        /// Why.
        #[source]
        source: ZoneError,
    },
    /// The address or a header cannot be sent.
    #[error("prepare channel {name}: {what} is not valid")]
    Invalid {
        /// Which channel.
        name: String,
        /// "url", or the name of a header.
        what: String,
    },
}

/// Builds the channel of a configuration. Makes no connection.
pub fn build(config: ChannelConfig, clock: Clock) -> Result<Box<dyn Channel>, ChannelError> {
    let name = config.name.clone();
    let zone = Zone::named(&config.zone).map_err(|source| ChannelError::Zone { name: name.clone(), source })?;
    let client = http::client(config.timeout, config.ca.as_deref())
        .map_err(|source| ChannelError::Http { name: name.clone(), source })?;
    let sender = Sender { name, client, clock, zone };
    let channel: Box<dyn Channel> = match config.kind {
        ChannelKind::DingTalk { url, token, secret, mobiles } => {
            let url = sender.checked_url(&url)?;
            Box::new(dingtalk::DingTalk { sender, url, token, secret, mobiles })
        }
        ChannelKind::WeCom { url, key, users } => {
            let url = sender.checked_url(&url)?;
            Box::new(wecom::WeCom { sender, url, key, users })
        }
        ChannelKind::Feishu { url, token, secret, users } => {
            let url = sender.checked_url(&url)?;
            Box::new(feishu::Feishu { sender, url, token, secret, users })
        }
        ChannelKind::Webhook { url, headers, secret } => {
            let url = sender.checked_url(&url)?;
            let headers = webhook::checked_headers(&sender.name, &headers)?;
            Box::new(webhook::Webhook { sender, url, headers, secret })
        }
        ChannelKind::Show => Box::new(show::Show { sender }),
    };
    Ok(channel)
}

/// What every channel needs.
#[derive(Debug)]
struct Sender {
    name: String,
    client: reqwest::Client,
    clock: Clock,
    zone: Zone,
}

/// The answer of a target.
struct Answer {
    status: reqwest::StatusCode,
    retry_after: Option<Duration>,
    body: String,
}

impl Sender {
    fn checked_url(&self, url: &str) -> Result<reqwest::Url, ChannelError> {
        let invalid = || ChannelError::Invalid { name: self.name.clone(), what: "url".to_owned() };
        let url = reqwest::Url::parse(url).map_err(|_| invalid())?;
        let is_web = matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base();
        if is_web { Ok(url) } else { Err(invalid()) }
    }

    /// Posts a body. The outcome of a failed request never quotes the address: it carries the token.
    async fn post(&self, request: reqwest::RequestBuilder, body: Vec<u8>) -> Result<Answer, SendOutcome> {
        let unreachable =
            |error: reqwest::Error| SendOutcome::Unreachable { reason: Chain(&error.without_url()).to_string() };
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8").body(body);
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = http_retry_after(response.headers());
        let body = http::text(response).await.map_err(unreachable)?;
        Ok(Answer { status, retry_after, body })
    }
}

/// The waiting time that an answer asks for, when it is given in seconds.
pub(crate) fn http_retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// How a robot names its error code and its words.
struct RobotWords<'a> {
    code: &'a [&'a str],
    message: &'a [&'a str],
}

/// How a robot's error is to be taken.
enum RobotError {
    Throttled(Duration),
    Misconfigured,
    Failed,
}

/// Makes a body that is no longer than `bytes_max` as JSON. `make` is given the room for its text in bytes, less and
/// less while the escapes of JSON make the body too long, and gives the body with the number of letters in it.
fn fitted(bytes_max: usize, mut room: usize, make: impl Fn(usize) -> (Value, usize)) -> (Vec<u8>, usize) {
    loop {
        let (body, included) = make(room);
        let bytes = body.to_string().into_bytes();
        let excess = bytes.len().saturating_sub(bytes_max);
        if excess == 0 || room < ROOM_BYTES_MIN {
            return (bytes, included);
        }
        room = room.saturating_sub(excess);
    }
}

/// Reads a robot's answer: only a body whose code is 0 is a success, whatever the HTTP status says.
fn robot_outcome(
    answer: &Answer,
    letters: usize,
    words: &RobotWords<'_>,
    classify: impl Fn(i64, &str) -> RobotError,
) -> SendOutcome {
    let body: Option<Value> = serde_json::from_str(&answer.body).ok();
    let field = |names: &[&str]| names.iter().find_map(|name| body.as_ref()?.get(name).cloned());
    let code = field(words.code).as_ref().and_then(number);
    let message = field(words.message).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    match code {
        Some(0) if answer.status.is_success() => SendOutcome::Sent { letters },
        Some(code) if code != 0 => {
            let reason = format!("{code} {}", shorten(&message));
            match classify(code, &message.to_lowercase()) {
                RobotError::Throttled(retry_after) => SendOutcome::Throttled { retry_after, reason },
                RobotError::Misconfigured => SendOutcome::Misconfigured { reason },
                RobotError::Failed => SendOutcome::Failed { reason },
            }
        }
        _ => http_failure(answer),
    }
}

/// An answer that says nothing in the target's own words: the HTTP status decides how to wait.
fn http_failure(answer: &Answer) -> SendOutcome {
    let reason = format!("HTTP {}: {}", answer.status.as_u16(), shorten(&answer.body));
    match answer.status.as_u16() {
        429 => SendOutcome::Throttled { retry_after: answer.retry_after.unwrap_or(Duration::from_secs(60)), reason },
        301 | 302 | 303 | 307 | 308 | 401 | 403 | 404 | 405 | 410 => SendOutcome::Misconfigured { reason },
        _ => SendOutcome::Failed { reason },
    }
}

/// A whole number, also when it is written as text.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The beginning of a target's words on one line.
pub(crate) fn shorten(words: &str) -> String {
    let line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests;
