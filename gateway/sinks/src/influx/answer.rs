//! Turns what the database answers to a write into what to do next.
//!
//! Two rules guard the data. A line is only ever given up when the answer speaks about the data: a 400 of a proxy, or
//! of a server that expected TLS, is a mistake in the configuration, and everything is kept. And only what takes the
//! lines says "accepted": a login page with status 200 does not.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_runtime::{Chain, Clock};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};

use super::InfluxConfig;

/// A longer wait than this is taken for a mistake of the other side.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(900);
/// So much of an answer's text is kept, in characters.
const REASON_CHARACTERS_MAX: usize = 300;

/// What to do after a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The database has the lines.
    Accepted,
    /// The database refuses some line of the request.
    Refused {
        /// The database's words.
        reason: String,
        /// The database has stored all lines but so many.
        dropped: Option<usize>,
    },
    /// The request is too large.
    TooLarge,
    /// Nothing wrong with the data: keep it and try again.
    Later(Problem),
}

/// Why the database does not take anything now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// In one word, for metrics.
    pub(super) kind: ProblemKind,
    /// In a sentence, for people.
    pub(super) words: String,
    /// The same in Chinese, when a person must mend something: it goes into an alarm.
    pub(super) words_zh: String,
    /// How long the database asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// What kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// A person must mend something.
    Configuration,
    /// The database asks for a pause.
    Busy,
    /// The database has a fault.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection.
    Network,
}

impl Answer {
    /// The answer in one word, for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Answer::Accepted => "ok",
            Answer::Refused { .. } => "refused",
            Answer::TooLarge => "too_large",
            Answer::Later(problem) => problem.kind.label(),
        }
    }
}

impl Problem {
    /// Nobody takes anything, and nobody here can mend it.
    pub(super) fn of_outage(words: String) -> Problem {
        Problem { kind: ProblemKind::Network, words, words_zh: String::new(), retry_after: None }
    }
}

impl ProblemKind {
    fn label(self) -> &'static str {
        match self {
            ProblemKind::Configuration => "configuration",
            ProblemKind::Busy => "busy",
            ProblemKind::Server => "server_error",
            ProblemKind::Timeout => "timeout",
            ProblemKind::Network => "network",
        }
    }
}

/// Reads an answer of the write path.
pub(super) fn classify(config: &InfluxConfig, status: StatusCode, headers: &HeaderMap, body: &str) -> Answer {
    let message = message_of(body);
    match status.as_u16() {
        200..=299 if !is_page(headers) => Answer::Accepted,
        400 | 422 if speaks_of_data(body) => Answer::Refused { dropped: dropped(&message), reason: message },
        413 => Answer::TooLarge,
        401 | 403 => token_refused(status.as_u16(), &message),
        404 if json(body).is_some() => missing(config, &message),
        300..=399 => {
            let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("elsewhere");
            let location = cut(location);
            misconfigured(
                format!("the database sends us on to {location}: correct sinks.influx.url"),
                format!("时序库将请求转到 {location}：请更正 sinks.influx.url"),
            )
        }
        408 => later(ProblemKind::Timeout, format!("the database gave up waiting (408): {message}")),
        429 | 503 => Answer::Later(Problem {
            kind: ProblemKind::Busy,
            words: format!("the database asks for a pause ({})", status.as_u16()),
            words_zh: String::new(),
            retry_after: retry_after(headers),
        }),
        500..=599 => later(ProblemKind::Server, format!("the database has a fault ({}): {message}", status.as_u16())),
        other => misconfigured(
            format!("not the answer of an InfluxDB ({other}): correct sinks.influx.url: {message}"),
            format!("对方不是 InfluxDB（{other}）：请更正 sinks.influx.url"),
        ),
    }
}

/// Reads what happened when there is no answer.
pub(super) fn unanswered(error: reqwest::Error) -> Answer {
    let error = error.without_url();
    if error.is_timeout() {
        return later(ProblemKind::Timeout, "no answer in time".to_owned());
    }
    later(ProblemKind::Network, format!("no connection: {}", Chain(&error)))
}

/// What to tell people when the token may not write.
fn token_refused(status: u16, message: &str) -> Answer {
    misconfigured(
        format!(
            "token refused ({status}): correct sinks.influx.token, it must allow to write to the bucket: {message}"
        ),
        format!("令牌被拒绝（{status}）：请更正 sinks.influx.token，它必须有写入该存储桶的权限"),
    )
}

/// What to tell people when the bucket or its organisation is not there. InfluxDB names the one that it misses.
fn missing(config: &InfluxConfig, message: &str) -> Answer {
    let (org, bucket) = (&config.org, &config.bucket);
    if message.contains("organization") {
        return misconfigured(
            format!("organisation {org} not found: create it or correct sinks.influx.org: {message}"),
            format!("找不到组织 {org}：请创建它，或更正 sinks.influx.org"),
        );
    }
    misconfigured(
        format!(
            "bucket {bucket} of organisation {org} not found: create it or correct sinks.influx.bucket and \
             sinks.influx.org: {message}"
        ),
        format!("找不到组织 {org} 的存储桶 {bucket}：请创建它，或更正 sinks.influx.bucket 和 sinks.influx.org"),
    )
}

/// A person must mend something.
fn misconfigured(words: String, words_zh: String) -> Answer {
    let words = words.trim_end_matches(": ").to_owned();
    Answer::Later(Problem { kind: ProblemKind::Configuration, words, words_zh, retry_after: None })
}

/// The words end with the database's own, when it had any.
fn later(kind: ProblemKind, words: String) -> Answer {
    let words = words.trim_end_matches(": ").to_owned();
    Answer::Later(Problem { kind, words, words_zh: String::new(), retry_after: None })
}

fn json(body: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    serde_json::from_str(body).ok()
}

/// The database's own words: `message` of InfluxDB 2, `error` of 1.8 and 3, else the text as it came.
fn message_of(body: &str) -> String {
    let Some(object) = json(body) else { return cut(body.trim()) };
    let text = ["message", "error"].iter().find_map(|key| object.get(*key)?.as_str());
    cut(text.unwrap_or(body))
}

fn cut(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(REASON_CHARACTERS_MAX)
        .collect()
}

/// Whether a 400 or 422 is the database's judgement of the lines.
fn speaks_of_data(body: &str) -> bool {
    match json(body) {
        Some(object) => object.contains_key("message") || object.contains_key("error"),
        None => !body.trim_start().starts_with('<') && (body.contains("parse") || body.contains("partial write")),
    }
}

/// InfluxDB 2 stores the good lines of a request and says `partial write: REASON dropped=N`.
fn dropped(message: &str) -> Option<usize> {
    if !message.contains("partial write") {
        return None;
    }
    let (_, count) = message.rsplit_once("dropped=")?;
    let digits = count.bytes().take_while(u8::is_ascii_digit).count();
    count[..digits].parse().ok()
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/html")
}

/// Seconds, or a date (RFC 9110, section 10.2.3); a date counts from the answer's own date, so that a gateway whose
/// clock is wrong waits as long as it should.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let answered = headers.get(DATE).and_then(|value| http_date(value.to_str().ok()?));
            http_date(text)?.since(answered.unwrap_or_else(|| Clock::System.now()))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn http_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        classify(&super::super::tests::config("http://localhost"), StatusCode::from_u16(status).unwrap(), &map, body)
    }

    fn problem(answer: Answer) -> Problem {
        match answer {
            Answer::Later(problem) => problem,
            other => panic!("not a problem: {other:?}"),
        }
    }

    #[test]
    fn only_what_takes_the_lines_counts_as_accepted() {
        assert_eq!(check(204, &[], ""), Answer::Accepted);
        assert_eq!(check(200, &[], ""), Answer::Accepted);
        let portal = check(200, &[("content-type", "text/html; charset=utf-8")], "<html>sign in</html>");
        assert_eq!(problem(portal).kind, ProblemKind::Configuration);
    }

    #[test]
    fn a_line_is_refused_only_when_the_database_speaks_of_the_data() {
        let body = r#"{"code":"invalid","message":"unable to parse 'm f=': missing field value"}"#;
        let reason = "unable to parse 'm f=': missing field value".to_owned();
        assert_eq!(check(400, &[], body), Answer::Refused { reason, dropped: None });
        let body = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=17"}"#;
        assert!(matches!(check(422, &[], body), Answer::Refused { dropped: Some(17), .. }));
        for body in ["Client sent an HTTP request to an HTTPS server.\n", "<html>400 Bad Request: parse</html>", ""] {
            assert_eq!(problem(check(400, &[], body)).kind, ProblemKind::Configuration, "{body}");
        }
    }

    #[test]
    fn mistakes_of_the_configuration_are_told_in_words() {
        let table = [
            (401, r#"{"code":"unauthorized","message":"unauthorized access"}"#, "token refused (401)"),
            (403, r#"{"code":"forbidden","message":"insufficient permissions"}"#, "token refused (403)"),
            (
                404,
                r#"{"code":"not found","message":"bucket \"b\" not found"}"#,
                "bucket street of organisation city not found",
            ),
            (404, "404 page not found", "correct sinks.influx.url"),
            (405, "", "correct sinks.influx.url"),
            (
                404,
                r#"{"code":"not found","message":"organization name \"city\" not found"}"#,
                "organisation city not found: create it or correct sinks.influx.org",
            ),
            (302, "", "sends us on to https://example.org/"),
        ];
        for (status, body, words) in table {
            let problem = problem(check(status, &[("location", "https://example.org/")], body));
            assert_eq!(problem.kind, ProblemKind::Configuration);
            assert!(problem.words.contains(words), "{}", problem.words);
            assert!(problem.words_zh.contains("sinks.influx."), "{}", problem.words_zh);
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_date() {
        let wait = |headers: &[_]| problem(check(429, headers, "")).retry_after;
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(RETRY_AFTER_MAX));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
        assert_eq!(problem(check(503, &[], "")).kind, ProblemKind::Busy);
        assert_eq!(problem(check(502, &[], "")).kind, ProblemKind::Server);
    }
}
