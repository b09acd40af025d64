//! DingTalk's custom robot (钉钉自定义机器人).
//!
//! Markdown messages, signed in the query. More than 20 messages a minute silence the robot for ten minutes.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbside_model::Timestamp;
use kerbside_runtime::Secret;
use serde_json::{Value, json};

use crate::channels::limiter::RateLimit;
use crate::channels::text::{self, Markup};
use crate::channels::{Channel, Letter, RobotError, RobotWords, SendOutcome, Sender, fitted, robot_outcome};
use crate::sign::hmac_sha256;

/// The robot's limit of a request body.
const BODY_BYTES_MAX: usize = 20_000;
/// A digest with more lines than this is not read.
const DIGEST_LETTERS_MAX: usize = 40;
/// How long a robot is silenced that was used too often.
const PUNISHMENT: Duration = Duration::from_secs(600);
/// -1 says "busy, try again".
const BUSY_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct DingTalk {
    pub(crate) sender: Sender,
    pub(crate) url: reqwest::Url,
    pub(crate) token: Secret,
    pub(crate) secret: Option<Secret>,
    pub(crate) mobiles: Vec<String>,
}

#[async_trait]
impl Channel for DingTalk {
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
        let (body, included) = fitted(BODY_BYTES_MAX, BODY_BYTES_MAX, |room| self.body(letters, room));
        let mut request = self.sender.client.post(self.url.clone()).query(&[("access_token", self.token.expose())]);
        if let Some(secret) = &self.secret {
            let now = self.sender.clock.now();
            let (timestamp, sign) = signature(secret, now);
            request = request.query(&[("timestamp", timestamp), ("sign", sign)]);
        }
        let words = RobotWords { code: &["errcode"], message: &["errmsg"] };
        let answer = match self.sender.post(request, body).await {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        match robot_outcome(&answer, included, &words, classify) {
            // A silenced robot may answer `{"status":1111,"wait":10,"punish":...}` without any code.
            SendOutcome::Failed { reason } if answer.body.contains("\"punish\"") => {
                SendOutcome::Throttled { retry_after: PUNISHMENT, reason }
            }
            outcome => outcome,
        }
    }
}

impl DingTalk {
    fn body(&self, letters: &[Letter], room: usize) -> (Value, usize) {
        // A mention works only when the number stands in the text as well.
        let mentions: String = self.mobiles.iter().map(|mobile| format!("@{mobile} ")).collect();
        let (title, text, included) = match letters {
            [letter] => (text::title(letter), text::message(letter, Markup::DingTalk, &self.sender.zone, room), 1),
            _ => {
                let (text, included) = text::digest(letters, Markup::DingTalk, &self.sender.zone, room);
                (text::digest_title(letters), text, included)
            }
        };
        let text = if mentions.is_empty() { text } else { format!("{text}\n\n{}", mentions.trim_end()) };
        let body = json!({
            "msgtype": "markdown",
            "markdown": { "title": title, "text": text },
            "at": { "atMobiles": self.mobiles, "isAtAll": false },
        });
        (body, included)
    }
}

/// Timestamp in milliseconds and signature in base 64; the query encoding of the client is the only one.
fn signature(secret: &Secret, now: Timestamp) -> (String, String) {
    let timestamp = now.as_millis().to_string();
    let message = format!("{timestamp}\n{}", secret.expose());
    let sign = STANDARD.encode(hmac_sha256(secret.expose().as_bytes(), message.as_bytes()));
    (timestamp, sign)
}

/// The words come first: sources disagree about what some of the numbers mean.
fn classify(code: i64, message: &str) -> RobotError {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["too fast", "exceed", "freq", "punish", "too many", "流控", "限流"]) {
        return RobotError::Throttled(PUNISHMENT);
    }
    if says(&["keyword", "sign", "whitelist", "token", "dissolved", "stopped", "关键词", "签名", "白名单"]) {
        return RobotError::Misconfigured;
    }
    match code {
        130_101 | 410_100 | 1111 => RobotError::Throttled(PUNISHMENT),
        -1 => RobotError::Throttled(BUSY_WAIT),
        310_000 | 300_001 | 300_005 | 400_101 | 400_013 | 400_102 | 400_106 => RobotError::Misconfigured,
        _ => RobotError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with two independent implementations: a published robot library and OpenSSL.
    const VECTORS: [(&str, i64, &str, &str); 2] = [
        (
            "this is secret",
            1_690_000_000_000,
            "2Aqo84b10fE0MNzXcxARLAwisQMBbIT/fMW5xGyzjhI=",
            "&timestamp=1690000000000&sign=2Aqo84b10fE0MNzXcxARLAwisQMBbIT%2FfMW5xGyzjhI%3D",
        ),
        (
            "SECabcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
            1_795_334_400_123,
            "HwzQUYTxsfjr7AEZCvpRjbBFws+pGU7m/mHirFjgnFg=",
            "&timestamp=1795334400123&sign=HwzQUYTxsfjr7AEZCvpRjbBFws%2BpGU7m%2FmHirFjgnFg%3D",
        ),
    ];

    #[test]
    fn signatures_are_what_two_other_programs_compute_and_are_encoded_once() {
        for (secret, now, expected, query) in VECTORS {
            let (timestamp, sign) = signature(&Secret::new(secret), Timestamp(now));
            assert_eq!(sign, expected);
            kerbside_runtime::tls::install_crypto_provider();
            let client = crate::http::client(Duration::from_secs(1), None).unwrap();
            let request = client.post("http://127.0.0.1/robot/send").query(&[("access_token", "T")]);
            let request = request.query(&[("timestamp", timestamp), ("sign", sign)]).build().unwrap();
            assert_eq!(request.url().query().unwrap(), format!("access_token=T{query}"));
        }
    }

    #[test]
    fn words_decide_before_numbers() {
        assert!(matches!(classify(300_001, "send too fast, exceed 20 times per minute"), RobotError::Throttled(_)));
        assert!(matches!(classify(310_000, "sign not match"), RobotError::Misconfigured));
        assert!(matches!(classify(300_001, "token is not exist"), RobotError::Misconfigured));
        assert!(matches!(classify(40_035, "missing parameter"), RobotError::Failed));
        assert!(matches!(classify(460_101, "message too long"), RobotError::Failed));
        assert!(matches!(classify(99_999, ""), RobotError::Failed));
    }
}
