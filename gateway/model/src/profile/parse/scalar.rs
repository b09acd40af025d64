//! Single values of a profile: what a device sends, and what it means.

use std::sync::Arc;

use super::{Place, Report};
use crate::document::{Node, NodeKind, closest};
use crate::profile::{Point, RawValue, ValueType};
use crate::reading::Value;

/// A raw value as written in a list. In quotes it is text, whatever it looks like.
pub(super) fn raw_value(node: &Node) -> Option<RawValue> {
    if let NodeKind::Scalar { text, quoted: false } = &node.kind
        && text.trim_start_matches('.').eq_ignore_ascii_case("nan")
    {
        return Some(RawValue::NotANumber);
    }
    match node.to_json() {
        serde_json::Value::Null => Some(RawValue::Null),
        serde_json::Value::Bool(boolean) => Some(RawValue::Boolean(boolean)),
        serde_json::Value::Number(number) => number.as_f64().map(RawValue::Number),
        serde_json::Value::String(text) => Some(RawValue::Text(text)),
        _ => None,
    }
}

/// The raw values that a key of a `map` stands for.
///
/// Keys have lost their quotes, so `true` stands for the JSON value and for the word, and `null` too.
pub(super) fn raw_values_of_key(key: &str) -> Vec<RawValue> {
    let typed = raw_value(&Node { line: 0, kind: NodeKind::Scalar { text: key.to_owned(), quoted: key.is_empty() } });
    match typed {
        Some(RawValue::Boolean(_) | RawValue::Null) => {
            typed.into_iter().chain([RawValue::Text(key.to_owned())]).collect()
        }
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

/// A value of a point as written in a profile, checked against the point's type and labels.
pub(super) fn value_of_point(node: &Node, point: &Point, place: &Place, report: Report<'_>) -> Option<Value> {
    let value = value_of_type(node, point.value_type, place, report)?;
    // A map that could not be read was reported already.
    let has_labels = point.value_type == ValueType::Enumeration && !point.map.is_empty();
    if has_labels && !point.map.iter().any(|(_, label)| *label == value) {
        let labels: Vec<String> = point.map.iter().map(|(_, label)| label.to_string()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let mend = match closest(&value.to_string(), &labels) {
            Some(label) => format!("did you mean {label}?"),
            None => format!("use one of the labels in the map of {}: {}", point.name, labels.join(", ")),
        };
        report.problem(place, &value.to_string(), format!("{} never has this value", point.name), mend);
        return None;
    }
    Some(value)
}

/// A value of this type.
pub(super) fn value_of_type(node: &Node, value_type: ValueType, place: &Place, report: Report<'_>) -> Option<Value> {
    let json = node.to_json();
    let value = match value_type {
        ValueType::Number => json.as_f64().map(Value::Number),
        ValueType::Boolean => json.as_bool().map(Value::Boolean),
        ValueType::Enumeration | ValueType::Text => match &node.kind {
            NodeKind::Scalar { text, .. } => Some(Value::Text(Arc::from(text.as_str()))),
            _ => None,
        },
    };
    if value.is_none() {
        let (what, mend) = match value_type {
            ValueType::Number => ("not a number", "write a number such as 12.5"),
            ValueType::Boolean => ("neither true nor false", "write true or false"),
            ValueType::Enumeration | ValueType::Text => ("not a single word", "write one word"),
        };
        report.problem(place, &written(node), what, mend);
    }
    value
}

/// How a node stands in the file, for messages; only single values are short enough.
pub(super) fn written(node: &Node) -> String {
    match &node.kind {
        NodeKind::Scalar { text, .. } => text.clone(),
        _ => String::new(),
    }
}
