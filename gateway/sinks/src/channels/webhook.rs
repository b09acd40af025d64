//! A webhook: the whole notice as JSON for any program that takes it.
//!
//! The receiver sees each row at least once and tells repetitions by `id`. When a key is set, the header
//! `X-Kerbside-Signature: sha256=HEX` carries the HMAC-SHA256 of `TIMESTAMP.BODY`, where the timestamp in seconds
//! stands in `X-Kerbside-Timestamp`.

use async_trait::async_trait;
use kerbside_runtime::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::channels::limiter::RateLimit;
use crate::channels::text::{self, Markup};
use crate::channels::{Answer, Channel, ChannelError, Letter, SendOutcome, Sender, http_failure, number, shorten};
use crate::sign::hmac_sha256;

/// Header with the signature.
pub(crate) const SIGNATURE_HEADER: &str = "X-Kerbside-Signature";
/// Header with the time that the signature covers, in seconds since 1970.
pub(crate) const TIMESTAMP_HEADER: &str = "X-Kerbside-Timestamp";

#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) sender: Sender,
    pub(crate) url: reqwest::Url,
    pub(crate) headers: HeaderMap,
    pub(crate) secret: Option<Secret>,
}

/// The configured headers as they are sent.
pub(crate) fn checked_headers(channel: &str, headers: &[(String, Secret)]) -> Result<HeaderMap, ChannelError> {
    let mut checked = HeaderMap::new();
    for (name, value) in headers {
        let invalid = || ChannelError::Invalid { name: channel.to_owned(), what: format!("header {name}") };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        checked.append(key, value);
    }
    Ok(checked)
}

#[async_trait]
impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.sender.name
    }

    fn rate_limit(&self) -> RateLimit {
        RateLimit::default()
    }

    /// Programs want one notice at a time.
    fn letters_max(&self) -> usize {
        1
    }

    async fn send(&self, letters: &[Letter]) -> SendOutcome {
        let Some(letter) = letters.first() else { return SendOutcome::Sent { letters: 0 } };
        let body = self.body(letter).to_string().into_bytes();
        let mut request = self.sender.client.post(self.url.clone()).headers(self.headers.clone());
        if let Some(secret) = &self.secret {
            let timestamp = self.sender.clock.now().as_millis().div_euclid(1_000);
            request = request
                .header(TIMESTAMP_HEADER, timestamp.to_string())
                .header(SIGNATURE_HEADER, signature(secret, timestamp, &body));
        }
        match self.sender.post(request, body).await {
            Ok(answer) => outcome(&answer),
            Err(outcome) => outcome,
        }
    }
}

impl Webhook {
    fn body(&self, letter: &Letter) -> Value {
        json!({
            "id": letter.row_id,
            "notice": letter.notice,
            "text_zh": text::chinese(letter, Markup::Plain, &self.sender.zone),
            "text_en": text::english(letter, Markup::Plain, &self.sender.zone),
            "sign_url": letter.sign_url,
        })
    }
}

fn signature(secret: &Secret, timestamp: i64, body: &[u8]) -> String {
    let mut message = format!("{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    let code = hmac_sha256(secret.expose().as_bytes(), &message);
    let hexadecimal: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hexadecimal}")
}

/// A 2xx is a success unless the body has a code of its own that says otherwise.
fn outcome(answer: &Answer) -> SendOutcome {
    if !answer.status.is_success() {
        return http_failure(answer);
    }
    let Ok(body) = serde_json::from_str::<Value>(&answer.body) else { return SendOutcome::Sent { letters: 1 } };
    let complaint = |name: &str| body.get(name).is_some_and(|value| !says_success(name, value));
    if ["errcode", "code", "success"].into_iter().any(complaint) {
        return SendOutcome::Failed { reason: shorten(&answer.body) };
    }
    SendOutcome::Sent { letters: 1 }
}

/// Chinese platforms write success in many ways: 0, "0", "0000", 200, "success", true.
fn says_success(name: &str, value: &Value) -> bool {
    match value {
        Value::Bool(yes) => *yes,
        Value::String(text) if matches!(text.to_lowercase().as_str(), "success" | "ok" | "true") => true,
        // success = 1 means yes, code = 1 does not.
        Value::Number(_) | Value::String(_) if name == "success" => number(value) == Some(1),
        Value::Number(_) | Value::String(_) => matches!(number(value), Some(0 | 200)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, is_success: bool) {
        let status = reqwest::StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, retry_after: None, body: body.to_owned() };
        let outcome = outcome(&answer);
        assert_eq!(matches!(outcome, SendOutcome::Sent { letters: 1 }), is_success, "{body}: {outcome:?}");
    }

    #[test]
    fn a_2xx_is_believed_unless_its_body_says_no() {
        for body in ["", "ok", "{}", "[]", r#"{"code":0}"#, r#"{"code":"0000"}"#, r#"{"code":200,"success":true}"#] {
            check(200, body, true);
        }
        for body in [r#"{"code":1}"#, r#"{"errcode":40001}"#, r#"{"success":false}"#, r#"{"code":null}"#] {
            check(200, body, false);
        }
        check(204, "", true);
        check(302, "", false);
        check(400, "", false);
        check(500, r#"{"code":0}"#, false);
    }

    #[test]
    fn the_signature_covers_time_and_body() {
        let secret = Secret::new("Jefe");
        // RFC 4231, test case 2: the text before the point stands in for the time.
        let code = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(code[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        assert_ne!(signature(&secret, 1, b"a"), signature(&secret, 2, b"a"));
        assert_ne!(signature(&secret, 1, b"a"), signature(&secret, 1, b"b"));
        assert_eq!(signature(&secret, 1, b"a").len(), "sha256=".len() + 64);
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused() {
        assert!(checked_headers("w", &[("X-Key".to_owned(), Secret::new("abc"))]).is_ok());
        assert!(checked_headers("w", &[("X Key".to_owned(), Secret::new("abc"))]).is_err());
        assert!(checked_headers("w", &[("X-Key".to_owned(), Secret::new("a\nb"))]).is_err());
    }
}
