use std::collections::BTreeSet;

use axum::body::to_bytes;
use kerbside_model::vocabulary::{CONDITIONS, Kind, POINTS};
use kerbside_model::{
    AlarmState, CaseState, Cause, Flag, OutboxState, ServiceState, Severity, Suppression, UndecodedReason,
};

use super::*;

/// What a phone on a weak network should have to fetch, once.
const PAGE_BYTES_MAX: usize = 92 << 10;

fn text(name: &str) -> &'static str {
    ASSETS.iter().find(|asset| asset.name == name).expect("an asset of the page").body
}

/// The lines of one table of `words.js`.
fn table(name: &str) -> &'static str {
    let opening = format!("export const {name} = {{\n");
    let start = text("words.js").find(&opening).unwrap_or_else(|| panic!("words.js has no table {name}"));
    let rest = &text("words.js")[start + opening.len()..];
    &rest[..rest.find("};").expect("the table ends")]
}

/// Name, English and Chinese of every entry of a table.
fn entries(name: &str) -> Vec<(String, String, String)> {
    let read = |line: &str| {
        let (key, texts) = line.trim().split_once(": ").unwrap_or_else(|| panic!("{name}: no entry: {line}"));
        let texts = texts.strip_suffix(',').unwrap_or_else(|| panic!("{name}: no comma: {line}"));
        let (en, zh): (String, String) = serde_json::from_str(texts).unwrap_or_else(|error| panic!("{line}: {error}"));
        (key.to_owned(), en, zh)
    };
    table(name).lines().map(read).collect()
}

fn check_names<'name>(table: &str, expected: impl IntoIterator<Item = &'name str>) {
    let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
    let found: BTreeSet<String> = entries(table).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(found, expected, "{table} of words.js");
}

fn check_chinese<'name>(table: &str, expected: impl IntoIterator<Item = (&'name str, &'name str)>) {
    let entries = entries(table);
    for (name, zh) in expected {
        let found = entries.iter().find(|(key, _, _)| key == name);
        assert_eq!(found.map(|(_, _, zh)| zh.as_str()), Some(zh), "{table} of words.js: {name}");
    }
}

#[test]
fn conditions_and_points_are_called_as_in_the_model() {
    for (name, terms) in [("CONDITIONS", CONDITIONS), ("POINTS", POINTS)] {
        let expected: Vec<(String, String, String)> =
            terms.iter().map(|term| (term.name.to_owned(), term.en.to_owned(), term.zh.to_owned())).collect();
        assert_eq!(entries(name), expected, "{name} of words.js");
    }
}

#[test]
fn kinds_severities_and_case_states_are_called_as_in_the_model() {
    check_names("KINDS", Kind::ALL.map(Kind::name));
    check_chinese("KINDS", Kind::ALL.map(|kind| (kind.name(), kind.name_zh())));
    check_names("SEVERITIES", Severity::ALL.map(Severity::name));
    check_chinese("SEVERITIES", Severity::ALL.map(|severity| (severity.name(), severity.name_zh())));
    check_names("CASE_STATES", CaseState::ALL.map(CaseState::name));
    check_chinese("CASE_STATES", CaseState::ALL.map(|state| (state.name(), state.name_zh())));
}

#[test]
fn every_state_reason_and_cause_that_the_api_may_name_has_its_words() {
    check_names("ALARM_STATES", [AlarmState::Active, AlarmState::Stale, AlarmState::Cleared].map(AlarmState::name));
    check_names("SUPPRESSIONS", Suppression::ALL.map(Suppression::name));
    check_names("REASONS", UndecodedReason::ALL.map(UndecodedReason::name));
    check_chinese("REASONS", UndecodedReason::ALL.map(|reason| (reason.name(), reason.name_zh())));
    let deliveries = [OutboxState::Pending, OutboxState::Attempted, OutboxState::Delivered, OutboxState::Dead];
    check_names("DELIVERIES", deliveries.map(OutboxState::name));
    check_names("QUALITIES", [Flag::Good, Flag::NotEvaluated, Flag::Suspect, Flag::Bad, Flag::Missing].map(Flag::name));
    let causes = [
        Cause::Range,
        Cause::Stale,
        Cause::Invalid,
        Cause::Type,
        Cause::Absent,
        Cause::Rounded,
        Cause::ReadFailed,
        Cause::IllegalAddress,
        Cause::Derived,
        Cause::Climatology,
        Cause::Spike,
        Cause::Confirmed,
        Cause::RateOfChange,
        Cause::FlatLine,
        Cause::Attenuated,
        Cause::Gap,
        Cause::Neighbours,
        Cause::DeviceFlag,
    ];
    check_names("CAUSES", causes.map(Cause::name));
    let services = [ServiceState::InService, ServiceState::Commissioning, ServiceState::Maintenance];
    let services = services.map(|service| serde_json::to_value(service).expect("a service state is JSON"));
    check_names("SERVICES", services.iter().map(|name| name.as_str().expect("a service state is a word")));
}

#[test]
fn no_entry_is_empty_in_either_language() {
    for line in text("words.js").lines().filter(|line| line.starts_with("  ")) {
        let (name, texts) = line.trim().split_once(": ").expect("an entry is `name: [English, Chinese],`");
        let texts: [String; 2] = serde_json::from_str(texts.trim_end_matches(',')).expect("two texts");
        assert!(texts.iter().all(|text| !text.trim().is_empty()), "{name}: {texts:?}");
    }
}

/// Every text between `before` and `after` in `source`.
fn between<'text>(source: &'text str, before: &str, after: &str) -> Vec<&'text str> {
    source.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

#[test]
fn every_word_that_the_page_uses_is_there_and_every_word_there_is_used() {
    let known: BTreeSet<String> = entries("WORDS").into_iter().map(|(name, _, _)| name).collect();
    let mut used = between(text("index.html"), "data-word=\"", "\"");
    assert!(used.len() > 30, "the scan of index.html finds nothing");
    let scripts = [text("console.js"), text("frames.js")];
    used.extend(scripts.iter().flat_map(|script| between(script, "word(\"", "\"")));
    for name in used {
        assert!(known.contains(name), "words.js lacks {name}");
    }
    for name in &known {
        // The buttons that move a case put their names together.
        let stem = name.strip_prefix("move_").unwrap_or(name);
        // Those that say why frames are missing do so too.
        let stem = stem.strip_prefix("missed_").unwrap_or(stem);
        let quoted = [format!("\"{stem}\""), format!("{stem}: button"), format!("{stem}: 0")];
        let is_used = quoted.iter().any(|text_used| {
            text("index.html").contains(text_used.as_str())
                || scripts.iter().any(|script| script.contains(text_used.as_str()))
        });
        assert!(is_used, "{name} of words.js is used nowhere");
    }
}

#[test]
fn the_page_obeys_the_policy_that_the_api_sets() {
    let page = text("index.html");
    assert!(!page.contains("<script>") && !page.contains(" on"), "inline scripts are forbidden");
    for asset in &ASSETS {
        assert!(!asset.body.contains("innerHTML"), "{}: texts from the street become text nodes", asset.name);
        let foreign = asset.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{} asks a foreign host", asset.name);
    }
    for reference in
        between(page, "\"/console/", "\"").into_iter().chain(between(text("console.js"), "\"/console/", "\""))
    {
        assert!(ASSETS.iter().any(|asset| asset.name == reference), "nothing serves {reference}");
    }
}

#[test]
fn the_page_is_small() {
    let bytes: usize = ASSETS.iter().map(|asset| asset.body.len()).sum();
    assert!(bytes < PAGE_BYTES_MAX, "{bytes} bytes");
}

#[tokio::test]
async fn files_come_with_their_type_and_a_tag() {
    let response = file(Path("words.js".to_owned()), HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(response.headers()[header::ETAG].len(), 18);
    let body = to_bytes(response.into_body(), PAGE_BYTES_MAX).await.expect("a body in memory");
    assert_eq!(body, text("words.js").as_bytes());
}

#[tokio::test]
async fn a_browser_that_has_the_page_is_told_so() {
    let first = page(HeaderMap::new()).await;
    assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let etag = first.headers()[header::ETAG].to_str().expect("a tag is text").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, known.parse().expect("a header value"));
        let second = page(request).await;
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(second.headers()[header::ETAG], etag);
    }
    let mut request = HeaderMap::new();
    request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
    assert_eq!(page(request).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn unknown_files_are_not_found() {
    for name in ["nothing.js", "mod.rs", "../api/auth.rs", ""] {
        assert_eq!(file(Path(name.to_owned()), HeaderMap::new()).await.status(), StatusCode::NOT_FOUND, "{name}");
    }
}
