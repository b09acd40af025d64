//! Feishu's custom bot (飞书自定义机器人).
//!
//! Cards with a button; the signature stands in the body. 100 messages a minute and 5 a second.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbside_model::{Severity, Timestamp};
use kerbside_runtime::Secret;
use serde_json::{Value, json};

use crate::channels::limiter::RateLimit;
use crate::channels::text::{self, Markup};
use crate::channels::{Channel, Letter, RobotError, RobotWords, SendOutcome, Sender, fitted, robot_outcome};
use crate::sign::hmac_sha256;

/// The bot's limit of a request body is 20 KB; the smaller of the two meanings of that.
const BODY_BYTES_MAX: usize = 20_000;
/// A digest with more lines than this is not read.
const DIGEST_LETTERS_MAX: usize = 40;
/// How long to wait after "frequency limited".
const FREQUENCY_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Feishu {
    pub(crate) sender: Sender,
    pub(crate) url: reqwest::Url,
    pub(crate) token: Secret,
    pub(crate) secret: Option<Secret>,
    pub(crate) users: Vec<String>,
}

#[async_trait]
impl Channel for Feishu {
    fn name(&self) -> &str {
        &self.sender.name
    }

    fn rate_limit(&self) -> RateLimit {
        RateLimit::hundred_a_minute()
    }

    fn letters_max(&self) -> usize {
        DIGEST_LETTERS_MAX
    }

    async fn send(&self, letters: &[Letter]) -> SendOutcome {
        let proof = self.secret.as_ref().map(|secret| signature(secret, self.sender.clock.now()));
        let (body, included) = fitted(BODY_BYTES_MAX, BODY_BYTES_MAX, |room| {
            let (mut body, included) = self.body(letters, room);
            if let Some((timestamp, sign)) = &proof {
                body["timestamp"] = json!(timestamp);
                body["sign"] = json!(sign);
            }
            (body, included)
        });
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("the address was checked to be a base when the channel was built")
            .pop_if_empty()
            .push(self.token.expose());
        let request = self.sender.client.post(url);
        // Older bots answer StatusCode and StatusMessage.
        let words = RobotWords { code: &["code", "StatusCode"], message: &["msg", "StatusMessage"] };
        match self.sender.post(request, body).await {
            Ok(answer) => robot_outcome(&answer, included, &words, classify),
            Err(outcome) => outcome,
        }
    }
}

impl Feishu {
    fn body(&self, letters: &[Letter], room: usize) -> (Value, usize) {
        let (title, mut text, included, url) = match letters {
            [letter] => {
                let without_link = Letter { sign_url: None, ..letter.clone() };
                let text = text::message(&without_link, Markup::Feishu, &self.sender.zone, room);
                (text::title(letter), text, 1, letter.sign_url.as_deref())
            }
            _ => {
                let (text, included) = text::digest(letters, Markup::Feishu, &self.sender.zone, room);
                (text::digest_title(letters), text, included, None)
            }
        };
        if !self.users.is_empty() {
            let mentions: String = self.users.iter().map(|user| format!("<at id={user}></at>")).collect();
            text = format!("{text}\n\n{mentions}");
        }
        let mut elements = vec![json!({ "tag": "div", "text": { "tag": "lark_md", "content": text } })];
        if let Some(url) = url {
            let label = json!({ "tag": "plain_text", "content": "签收 Sign" });
            let button = json!({ "tag": "button", "text": label, "type": "primary", "url": url });
            elements.push(json!({ "tag": "action", "actions": [button] }));
        }
        let header = json!({ "title": { "tag": "plain_text", "content": title }, "template": colour(letters) });
        let card = json!({ "config": { "wide_screen_mode": true }, "header": header, "elements": elements });
        (json!({ "msg_type": "interactive", "card": card }), included)
    }
}

fn colour(letters: &[Letter]) -> &'static str {
    match letters.iter().map(|letter| letter.notice.report.severity).max() {
        Some(Severity::Critical) => "red",
        Some(Severity::Major) => "orange",
        _ => "blue",
    }
}

/// Timestamp in seconds and signature in base 64. Unlike DingTalk's, the text to sign is the key and nothing is signed.
fn signature(secret: &Secret, now: Timestamp) -> (String, String) {
    let timestamp = now.as_millis().div_euclid(1_000).to_string();
    let key = format!("{timestamp}\n{}", secret.expose());
    (timestamp, STANDARD.encode(hmac_sha256(key.as_bytes(), b"")))
}

fn classify(code: i64, message: &str) -> RobotError {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if code == 11_232 || says(&["frequency limited", "too many request", "rate limit"]) {
        return RobotError::Throttled(FREQUENCY_WAIT);
    }
    if matches!(code, 19_001 | 19_021 | 19_022 | 19_024) || says(&["sign match fail", "token invalid", "key words"]) {
        return RobotError::Misconfigured;
    }
    RobotError::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with two independent implementations: a published library and OpenSSL.
    const VECTORS: [(&str, i64, &str); 2] = [
        ("demo", 1_599_360_473, "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="),
        ("密钥", 1_795_334_400, "2lGht//BM80WfM48Sr48hQ9Zq1HCaoVXp8Liq6xUow4="),
    ];

    #[test]
    fn signatures_are_what_two_other_programs_compute() {
        for (secret, seconds, expected) in VECTORS {
            let now = Timestamp(seconds * 1_000 + 999);
            assert_eq!(signature(&Secret::new(secret), now), (seconds.to_string(), expected.to_owned()));
        }
    }

    #[test]
    fn errors_are_told_apart() {
        assert!(matches!(classify(11_232, "frequency limited psm"), RobotError::Throttled(_)));
        assert!(matches!(classify(9_499, "too many request"), RobotError::Throttled(_)));
        assert!(matches!(classify(9_499, "bad request"), RobotError::Failed));
        assert!(matches!(
            classify(19_021, "sign match fail or timestamp is not within one hour"),
            RobotError::Misconfigured
        ));
    }
}
