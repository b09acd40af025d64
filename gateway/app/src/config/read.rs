//! Reading with defaults and limits, on top of [`Section`]; and the same units written back for people.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbside_model::document::{NodeKind, Section};

use super::environment::Environment;

/// How every part of a PEM file begins.
const PEM_BEGIN: &[u8] = b"-----BEGIN";

/// What every part of the configuration may ask while it is read.
pub(super) struct Context<'a> {
    /// Variables and files.
    pub(super) environment: &'a dyn Environment,
    /// The folder of gateway.yaml, which relative paths start from.
    pub(super) folder: &'a Path,
    /// What was decided for the person, said at start and by `kerbside check`.
    pub(super) notices: RefCell<Vec<String>>,
}

impl Context<'_> {
    /// A path as it was written, seen from the folder of gateway.yaml.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub(super) fn notice(&self, text: impl Into<String>) {
        self.notices.borrow_mut().push(text.into());
    }
}

/// A duration within limits, or the default.
pub(super) fn duration(
    section: &Section<'_>,
    key: &'static str,
    default: Duration,
    limits: RangeInclusive<Duration>,
) -> Duration {
    optional_duration(section, key, limits).unwrap_or(default)
}

/// A duration within limits, when the key is there.
pub(super) fn optional_duration(
    section: &Section<'_>,
    key: &'static str,
    limits: RangeInclusive<Duration>,
) -> Option<Duration> {
    let duration = section.duration(key)?;
    if limits.contains(&duration) {
        return Some(duration);
    }
    let allowed = format!("from {} to {}", duration_text(*limits.start()), duration_text(*limits.end()));
    section.problem(key, &duration_text(duration), format!("not {allowed}"), format!("write a duration {allowed}"));
    None
}

/// A number of bytes within limits, or the default.
pub(super) fn bytes(section: &Section<'_>, key: &'static str, default: u64, limits: RangeInclusive<u64>) -> u64 {
    let Some(bytes) = section.bytes(key) else { return default };
    if limits.contains(&bytes) {
        return bytes;
    }
    let allowed = format!("from {} to {}", bytes_text(*limits.start()), bytes_text(*limits.end()));
    section.problem(key, &bytes_text(bytes), format!("not {allowed}"), format!("write a number of bytes {allowed}"));
    default
}

/// [`bytes`] for limits of memory.
pub(super) fn memory_bytes(
    section: &Section<'_>,
    key: &'static str,
    default: usize,
    limits: RangeInclusive<u64>,
) -> usize {
    let value = bytes(section, key, default as u64, limits);
    usize::try_from(value).expect("limits of memory fit an address")
}

/// A whole number within limits, or the default.
pub(super) fn count(section: &Section<'_>, key: &'static str, default: usize, limits: RangeInclusive<i64>) -> usize {
    let number = section.integer(key, *limits.start(), *limits.end());
    number.map_or(default, |number| usize::try_from(number).expect("limits of counts are not negative"))
}

/// A port from 1, or the default.
pub(super) fn port(section: &Section<'_>, key: &'static str, default: u16) -> u16 {
    let number = section.integer(key, 1, i64::from(u16::MAX));
    number.map_or(default, |number| u16::try_from(number).expect("checked against the limits of a port"))
}

/// A host name or address that must be there.
pub(super) fn host(section: &Section<'_>) -> String {
    let host = section.required_text("host", "write the name or address of the other side, without a port");
    if host.contains(|letter: char| letter.is_whitespace() || matches!(letter, '/' | '@')) {
        // The value may hold credentials, as in a URL.
        section.problem("host", "", "not a host name", "write only the name or address, without scheme, user or port");
    }
    host
}

/// An address to listen on, or the default.
pub(super) fn listen(section: &Section<'_>, key: &'static str, default: SocketAddr) -> SocketAddr {
    let Some(text) = section.text(key) else { return default };
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    if let Some(port) = local {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    }
    text.parse().unwrap_or_else(|_| {
        section.problem(key, &text, "not an address with a port", "write one such as 127.0.0.1:8080 or [::1]:8080");
        default
    })
}

/// A URL of `http` or `https` that must be there, without a slash at its end.
pub(super) fn required_url(section: &Section<'_>, key: &'static str, mend: &str) -> String {
    if section.node(key).is_none() {
        section.missing(key, mend);
        return String::new();
    }
    optional_url(section, key).unwrap_or_default()
}

/// A URL of `http` or `https`, when the key is there. A value that is wrong is not repeated: people put passwords and
/// tokens into URLs.
pub(super) fn optional_url(section: &Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    let url = reqwest::Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        section.problem(key, "", "not a URL", "write one such as http://127.0.0.1:8086");
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        let mend = "take user and password out of the URL and use the keys that are meant for secrets";
        section.problem(key, "", "the URL holds a user or a password", mend);
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

/// Refuses what stands behind a question mark: it would get lost, or show up in logs.
pub(super) fn refuse_query(section: &Section<'_>, key: &'static str, url: &str) {
    if url.contains(['?', '#']) {
        let mend = "cut the address before the ? or #; what stands behind it has keys of its own";
        section.problem(key, "", "the URL has a query", mend);
    }
}

/// A URL of a service with keys of its own for everything else.
pub(super) fn required_base_url(section: &Section<'_>, key: &'static str, mend: &str) -> String {
    let url = required_url(section, key, mend);
    refuse_query(section, key, &url);
    url
}

/// A file with certificates or a key (PEM, RFC 7468), when the key is there.
pub(super) fn optional_pem(section: &Section<'_>, key: &'static str, context: &Context<'_>) -> Option<PathBuf> {
    let text = section.text(key)?;
    let path = context.resolve(&text);
    match context.environment.read(&path) {
        Ok(bytes) if bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) => {}
        Ok(_) => {
            section.problem(key, &text, "this is not a PEM file", "convert it to PEM: `openssl x509` or `openssl pkey`")
        }
        Err(error) => {
            let what = format!("this file cannot be read: {error}");
            section.problem(key, &text, what, "correct the path or its permissions");
        }
    }
    Some(path)
}

/// One of a few words that must be there.
pub(super) fn required_choice<T: Copy>(section: &Section<'_>, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
    if section.node(key).is_none() {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        section.missing(key, &format!("write one of {}", names.join(", ")));
        return None;
    }
    section.choice(key, choices)
}

/// A map from free names to texts, in order. Values are never repeated in problems.
pub(super) fn named_texts(section: &Section<'_>, key: &'static str) -> Vec<(String, String)> {
    let Some(node) = section.node(key) else { return Vec::new() };
    let NodeKind::Map(entries) = &node.kind else {
        section.problem(key, "", "names with values are needed here", "write `name: value` lines, indented");
        return Vec::new();
    };
    let mut texts = Vec::with_capacity(entries.len());
    for (name, line, node) in entries {
        match &node.kind {
            NodeKind::Scalar { text, .. } => texts.push((name.clone(), text.clone())),
            _ => section.problem_at(
                *line,
                &format!("{key}.{name}"),
                "",
                "a single value is needed here",
                format!("write `{name}: value`"),
            ),
        }
    }
    texts
}

/// Names of sources, sinks, channels and platforms: they become metric labels, health names and parts of file names.
pub(super) fn check_name(section: &Section<'_>, name: &str) {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
        let mend = format!("use up to {NAME_BYTES_MAX} letters a-z, digits, `-`, `_` and `.`");
        section.problem("", name, "this name cannot be used", mend);
    }
}

/// Longest name of a source, sink, channel or platform.
const NAME_BYTES_MAX: usize = 64;

/// A duration as it is written in gateway.yaml.
pub(crate) fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if milliseconds > 0 && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    if milliseconds == 0 { "0s".to_owned() } else { format!("{milliseconds}ms") }
}

/// A number of bytes as it is written in gateway.yaml.
pub(crate) fn bytes_text(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use kerbside_model::document::{parse_bytes, parse_duration};

    use super::*;

    #[test]
    fn durations_and_bytes_are_written_as_they_are_read() {
        for text in ["0s", "250ms", "1500ms", "30s", "5m", "2h", "1d"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        for text in ["0B", "1000B", "64KiB", "256MiB", "2GiB"] {
            assert_eq!(bytes_text(parse_bytes(text).unwrap()), text);
        }
    }
}
