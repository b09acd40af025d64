//! WeCom's group robot (企业微信群机器人).
//!
//! Markdown messages; the key in the query is the only protection. 20 messages a minute.

use std::time::Duration;

use async_trait::async_trait;
use kerbside_runtime::Secret;
use serde_json::{Value, json};

use crate::channels::limiter::RateLimit;
use crate::channels::text::{self, Markup};
use crate::channels::{Channel, Letter, RobotError, RobotWords, SendOutcome, Sender, robot_outcome};

/// The robot's limit of a markdown text in bytes.
const TEXT_BYTES_MAX: usize = 4_096;
/// At most so many bytes of the text are mentions.
const MENTION_BYTES_MAX: usize = 1_024;
/// A digest of this robot has room for about a dozen lines.
const DIGEST_LETTERS_MAX: usize = 20;
/// How long to wait after "api freq out of limit".
const FREQUENCY_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct WeCom {
    pub(crate) sender: Sender,
    pub(crate) url: reqwest::Url,
    pub(crate) key: Secret,
    pub(crate) users: Vec<String>,
}

#[async_trait]
impl Channel for WeCom {
    fn name(&self) -> &str {
        &self.sender.name
    }

    fn rate_limit(&self) -> RateLimit {
        RateLimit::twenty_a_minute()
    }

    fn letters_max(&self) -> usize {
        DIGEST_LETTERS_MAX
    }

    async fn send(&self, letters: &[Letter]) -> SendOutcome {
        let (body, included) = self.body(letters);
        let request = self.sender.client.post(self.url.clone()).query(&[("key", self.key.expose())]);
        let words = RobotWords { code: &["errcode"], message: &["errmsg"] };
        match self.sender.post(request, body.to_string().into_bytes()).await {
            Ok(answer) => robot_outcome(&answer, included, &words, classify),
            Err(outcome) => outcome,
        }
    }
}

impl WeCom {
    fn body(&self, letters: &[Letter]) -> (Value, usize) {
        let mentions = self.mentions();
        let room = TEXT_BYTES_MAX - mentions.len();
        let (text, included) = match letters {
            [letter] => (text::message(letter, Markup::WeCom, &self.sender.zone, room), 1),
            _ => text::digest(letters, Markup::WeCom, &self.sender.zone, room),
        };
        (json!({ "msgtype": "markdown", "markdown": { "content": format!("{text}{mentions}") } }), included)
    }

    fn mentions(&self) -> String {
        let mut mentions = String::new();
        for user in &self.users {
            let mention = format!("<@{user}>");
            if mentions.len() + mention.len() + 2 <= MENTION_BYTES_MAX {
                mentions.push_str(&mention);
            }
        }
        if mentions.is_empty() { mentions } else { format!("\n\n{mentions}") }
    }
}

fn classify(code: i64, message: &str) -> RobotError {
    if message.contains("freq") || message.contains("limit") && !message.contains("length") {
        return RobotError::Throttled(FREQUENCY_WAIT);
    }
    match code {
        45_009 => RobotError::Throttled(FREQUENCY_WAIT),
        93_000 => RobotError::Misconfigured,
        _ if message.contains("invalid webhook") || message.contains("invalid key") => RobotError::Misconfigured,
        _ => RobotError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_frequency_limit_is_a_throttle() {
        assert!(matches!(classify(45_009, "api freq out of limit"), RobotError::Throttled(_)));
        assert!(matches!(classify(93_000, "invalid webhook url"), RobotError::Misconfigured));
        assert!(matches!(classify(40_058, "markdown.content exceed max length 4096"), RobotError::Failed));
    }
}
