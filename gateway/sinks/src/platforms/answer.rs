//! Answers of GeoReport servers, in JSON or XML, as flat records.
//!
//! Servers disagree about wrappers, nesting, item names, and whether a value is a number, a boolean or text. So an
//! answer is not read by its path: every object or element that has fields of its own becomes a [`Record`], and the
//! caller picks the records that have the field it asks for. Also whether it is JSON or XML is told by the answer and
//! not by the request: one server sends JSON errors for XML requests. Pure functions.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};
use serde_json::Value;

/// Deeper answers are not believed.
const DEPTH_MAX: usize = 32;
/// Lists longer than this are cut: the specification ends them at 1000.
pub(crate) const RECORDS_MAX: usize = 20_000;
/// Names of elements or keys that hold service requests.
const LIST_NAMES: [&str; 4] = ["service_requests", "service_request", "requests", "request"];

/// Fields of one object or element. Numbers and booleans are text, because ids are opaque and `"true"` is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record(BTreeMap<String, String>);

impl Record {
    /// A field that is there and says something: not empty and not the word null.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?.trim();
        let is_absent = value.is_empty() || value == "null";
        if is_absent { None } else { Some(value) }
    }
}

/// A readable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether it is a list of service requests, be it empty, and not an error or somebody's login page.
    pub(crate) is_request_list: bool,
    /// Its objects or elements, outer before inner where they nest.
    pub(crate) records: Vec<Record>,
}

/// The answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("read the answer: it is empty")]
    Empty,
    #[error("read the answer: it is neither JSON nor XML")]
    Unknown,
    #[error("read the answer: it nests deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("read the answer as JSON")]
    Json(#[source] serde_json::Error),
    #[error("read the answer as XML")]
    Xml(#[source] Box<quick_xml::Error>),
    #[error("read the answer as XML: it ends early")]
    Unfinished,
}

/// Reads an answer.
pub(crate) fn parse(text: &str) -> Result<Answer, AnswerError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        None => Err(AnswerError::Empty),
        Some('<') => parse_xml(text),
        Some('[' | '{') => parse_json(text),
        Some(_) => Err(AnswerError::Unknown),
    }
}

/// The words of an error answer, such as `400 description is too long; 400 lat is missing`.
pub(crate) fn error_words(text: &str) -> Option<String> {
    let answer = parse(text).ok()?;
    let words: Vec<String> = answer.records.iter().filter_map(error_of).collect();
    if words.is_empty() { None } else { Some(words.join("; ")) }
}

fn error_of(record: &Record) -> Option<String> {
    let words = ["description", "message", "error", "errmsg"].into_iter().find_map(|name| record.get(name))?;
    match record.get("code") {
        Some(code) => Some(format!("{code} {words}")),
        None => Some(words.to_owned()),
    }
}

fn parse_json(text: &str) -> Result<Answer, AnswerError> {
    // serde_json refuses to nest deeper than 128 by itself.
    let value: Value = serde_json::from_str(text).map_err(AnswerError::Json)?;
    let is_request_list = match &value {
        Value::Array(items) => !items.iter().any(is_json_error),
        Value::Object(fields) => LIST_NAMES.iter().any(|name| fields.contains_key(*name)),
        _ => false,
    };
    let mut records = Vec::new();
    collect_json(&value, 0, &mut records)?;
    Ok(Answer { is_request_list, records })
}

/// Some servers drop the wrapper of errors too and send a bare list of them.
fn is_json_error(item: &Value) -> bool {
    item.get("code").is_some() && item.get("description").is_some() && item.get("service_request_id").is_none()
}

fn collect_json(value: &Value, depth: usize, records: &mut Vec<Record>) -> Result<(), AnswerError> {
    if depth > DEPTH_MAX {
        return Err(AnswerError::TooDeep);
    }
    match value {
        Value::Array(items) => {
            for item in items {
                collect_json(item, depth + 1, records)?;
            }
        }
        Value::Object(fields) => {
            let scalar = |(name, value): (&String, &Value)| Some((name.clone(), scalar_text(value)?));
            let record = Record(fields.iter().filter_map(scalar).collect());
            push(record, records);
            for nested in fields.values() {
                collect_json(nested, depth + 1, records)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn push(record: Record, records: &mut Vec<Record>) {
    if !record.0.is_empty() && records.len() < RECORDS_MAX {
        records.push(record);
    }
}

/// An element that is being read.
struct Open {
    name: String,
    text: String,
    fields: BTreeMap<String, String>,
    has_children: bool,
    /// Where its record goes: before those of its children.
    position: usize,
}

fn parse_xml(text: &str) -> Result<Answer, AnswerError> {
    let failed = |error: quick_xml::Error| AnswerError::Xml(Box::new(error));
    let mut reader = Reader::from_str(text);
    let mut reading = Reading::default();
    loop {
        match reader.read_event().map_err(failed)? {
            Event::Start(element) => reading.open(&local_name(element.local_name().as_ref()))?,
            Event::Empty(element) => {
                reading.open(&local_name(element.local_name().as_ref()))?;
                reading.close();
            }
            Event::End(_) => reading.close(),
            Event::Text(part) => reading.text(&part.decode().map_err(|error| failed(error.into()))?),
            Event::CData(part) => reading.text(&part.decode().map_err(|error| failed(error.into()))?),
            Event::GeneralRef(reference) => reading.text(&resolved(&reference).map_err(failed)?),
            Event::Eof => break,
            _ => {}
        }
    }
    let Some(root) = reading.root else { return Err(AnswerError::Unfinished) };
    if !reading.open.is_empty() {
        return Err(AnswerError::Unfinished);
    }
    Ok(Answer { is_request_list: LIST_NAMES.contains(&root.as_str()), records: reading.records })
}

#[derive(Default)]
struct Reading {
    root: Option<String>,
    open: Vec<Open>,
    records: Vec<Record>,
}

impl Reading {
    fn open(&mut self, name: &str) -> Result<(), AnswerError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(AnswerError::TooDeep);
        }
        if let Some(parent) = self.open.last_mut() {
            parent.has_children = true;
        }
        self.root.get_or_insert_with(|| name.to_owned());
        self.open.push(Open {
            name: name.to_owned(),
            text: String::new(),
            fields: BTreeMap::new(),
            has_children: false,
            position: self.records.len(),
        });
        Ok(())
    }

    fn text(&mut self, part: &str) {
        if let Some(element) = self.open.last_mut() {
            element.text.push_str(part);
        }
    }

    fn close(&mut self) {
        let Some(element) = self.open.pop() else { return };
        if element.has_children {
            if !element.fields.is_empty() && self.records.len() < RECORDS_MAX {
                self.records.insert(element.position, Record(element.fields));
            }
            return;
        }
        if let Some(parent) = self.open.last_mut() {
            parent.fields.entry(element.name).or_insert(element.text);
        }
    }
}

fn local_name(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The text of `&amp;` and its like. An unknown name stays as it is: better a strange word than no answer.
fn resolved(reference: &BytesRef<'_>) -> Result<String, quick_xml::Error> {
    if let Some(character) = reference.resolve_char_ref()? {
        return Ok(character.to_string());
    }
    let name = reference.decode()?;
    Ok(match name.as_ref() {
        "amp" => "&".to_owned(),
        "lt" => "<".to_owned(),
        "gt" => ">".to_owned(),
        "quot" => "\"".to_owned(),
        "apos" => "'".to_owned(),
        other => format!("&{other};"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(text: &str) -> Vec<String> {
        let answer = parse(text).unwrap();
        assert!(answer.is_request_list, "{text}");
        answer.records.iter().filter_map(|record| record.get("service_request_id")).map(str::to_owned).collect()
    }

    #[test]
    fn ids_are_found_however_they_are_wrapped() {
        let cases: [(&str, &[&str]); 10] = [
            (r#"[{"service_request_id":"C1"}]"#, &["C1"]),
            (r#"[{"service_request_id":0}]"#, &["0"]),
            (r#"[{"service_request_id":12345678901234567890}]"#, &["12345678901234567890"]),
            (r#"{"service_requests":[{"service_request_id":7},{"service_request_id":"8"}]}"#, &["7", "8"]),
            (r#"{"service_requests":{"request":{"service_request_id":7}}}"#, &["7"]),
            (
                "<service_requests><request><service_request_id>C1</service_request_id></request></service_requests>",
                &["C1"],
            ),
            (
                "<?xml version=\"1.0\"?><service_requests><service_requests><service_request_id>9</service_request_id>\
                 <account_id>null</account_id></service_requests></service_requests>",
                &["9"],
            ),
            (
                "<service_requests><service_request><service_request_id>3</service_request_id></service_request>\
                 <service_request><service_request_id>4</service_request_id></service_request></service_requests>",
                &["3", "4"],
            ),
            (
                "<a:service_requests xmlns:a=\"x\"><a:request><a:service_request_id> 5 </a:service_request_id></a:request></a:service_requests>",
                &["5"],
            ),
            ("[]", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(ids(text), expected, "{text}");
        }
    }

    #[test]
    fn null_and_empty_are_nothing() {
        for text in [
            r#"[{"service_request_id":null,"token":"T"}]"#,
            r#"[{"service_request_id":"","token":"T"}]"#,
            "<service_requests><request><service_request_id/><token>T</token></request></service_requests>",
            "<service_requests><request><service_request_id>null</service_request_id><token>T</token></request></service_requests>",
        ] {
            assert!(ids(text).is_empty());
            assert_eq!(parse(text).unwrap().records[0].get("token"), Some("T"));
        }
    }

    #[test]
    fn text_is_put_together_from_its_parts() {
        let text = "<requests><request><description>a &lt;b&gt; &amp; &#20117;<![CDATA[ <c> ]]>[ref:KB-1]</description></request></requests>";
        assert_eq!(parse(text).unwrap().records[0].get("description"), Some("a <b> & 井 <c> [ref:KB-1]"));
    }

    #[test]
    fn a_page_of_somebody_else_is_no_list() {
        for text in [
            "<html><body><p>please log in</p></body></html>",
            r#"{"errors":[{"code":400,"description":"no"}]}"#,
            r#"[{"code":400,"description":"no"}]"#,
            r#"{"type":"error","code":"middleware_26","message":"no"}"#,
            "<errors><error><code>400</code><description>no</description></error></errors>",
        ] {
            assert!(!parse(text).unwrap().is_request_list, "{text}");
        }
        for text in ["", "  ", "<html><br>", "<a", "<!-- -->", "{", "OK", "\u{feff}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn errors_are_found_however_they_are_wrapped() {
        let cases = [
            (r#"[{"code":403,"description":"bad key"}]"#, "403 bad key"),
            (r#"{"errors":[{"code":"400","description":"a"},{"code":400,"description":"b"}]}"#, "400 a; 400 b"),
            (r#"{"errors":{"error":{"code":404,"description":"a"}}}"#, "404 a"),
            (r#"{"type":"error","code":"middleware_26","message":"no key"}"#, "middleware_26 no key"),
            ("<errors><error><code>400</code><description>a</description></error></errors>", "400 a"),
        ];
        for (text, expected) in cases {
            assert_eq!(error_words(text).unwrap(), expected);
        }
        assert_eq!(error_words("Bad request"), None);
    }

    #[test]
    fn answers_that_nest_too_deeply_are_refused() {
        assert!(matches!(parse(&"<a>".repeat(100)), Err(AnswerError::TooDeep)));
        assert!(parse(&format!("{}1{}", "[".repeat(100), "]".repeat(100))).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in "[<>\\[\\]{}&;:\"a-z0-9/! -]{0,200}") {
            drop(parse(&text));
            drop(parse(&format!("<{text}")));
            drop(parse(&format!("[{text}")));
        }
    }
}
