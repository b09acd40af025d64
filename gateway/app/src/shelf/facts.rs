//! A profile as a list of facts in words, so that two editions can be compared line by line.
//!
//! What is in lists is named by what it is about and not by its position, so that a point that moves is no difference.

use std::collections::BTreeMap;

use kerbside_model::Profile;
use kerbside_model::id::content_hash;
use kerbside_model::profile::{Detector, WalkTrigger};
use serde_json::{Map, Value, json};

/// Longer texts are codecs.
const TEXT_BYTES_MAX: usize = 200;

/// What each fact is about, with what it says.
pub type Facts = BTreeMap<String, String>;

/// One difference between two editions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What the fact is about.
    pub about: String,
    /// As it was; `None` when it is new.
    pub old: Option<String>,
    /// As it is; `None` when it is gone.
    pub new: Option<String>,
}

impl Difference {
    /// As the API and the command line show it.
    pub fn to_json(&self) -> Value {
        let Difference { about, old, new } = self;
        json!({ "about": about, "old": old, "new": new })
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { about, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(formatter, "~ {about}: {old} -> {new}"),
            (Some(old), None) => write!(formatter, "- {about}: {old}"),
            (None, Some(new)) => write!(formatter, "+ {about}: {new}"),
            (None, None) => write!(formatter, "  {about}"),
        }
    }
}

/// Everything that a profile says.
pub fn facts(profile: &Profile) -> Facts {
    let mut facts = Facts::new();
    let Ok(Value::Object(mut fields)) = serde_json::to_value(profile) else { return facts };
    let points: Vec<String> = profile.points.iter().map(|point| point.name.to_string()).collect();
    let conditions: Vec<String> = profile.conditions.iter().map(|condition| condition.name.to_string()).collect();
    let detectors = names_of_detectors(profile, &points, &conditions);
    let samples: Vec<String> = profile.samples.iter().map(|sample| sample.name.clone()).collect();
    let lists = [("points", "point", points.as_slice()), ("conditions", "condition", conditions.as_slice())];
    let lists = lists.into_iter().chain([("detectors", "detector", &*detectors), ("samples", "sample", &*samples)]);
    for (list, word, names) in lists {
        let Some(Value::Array(items)) = fields.remove(list) else { continue };
        for (name, mut item) in names.iter().zip(items) {
            if let Value::Object(fields) = &mut item {
                fields.remove("name");
                fields.remove("condition");
            }
            name_points(&mut item, &points);
            collect(&format!("{word} {name}"), &item, &mut facts);
        }
    }
    let triggers: Vec<&str> = profile.walk_test.iter().map(|trigger| name_of_trigger(*trigger, profile)).collect();
    if fields.remove("walk_test").is_some() && !triggers.is_empty() {
        facts.insert("walk_test".to_owned(), triggers.join(", "));
    }
    for (key, value) in &fields {
        collect(key, value, &mut facts);
    }
    facts
}

/// What is different, in the order of what it is about.
pub fn differences(old: &Facts, new: &Facts) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut about: Vec<&String> = old.keys().chain(new.keys()).collect();
    about.sort();
    about.dedup();
    for about in about {
        let (before, after) = (old.get(about), new.get(about));
        if before != after {
            found.push(Difference { about: about.clone(), old: before.cloned(), new: after.cloned() });
        }
    }
    found
}

fn name_of_trigger(trigger: WalkTrigger, profile: &Profile) -> &str {
    let name = match trigger {
        WalkTrigger::Condition(position) => profile.conditions.get(usize::from(position)).map(|found| &found.name),
        WalkTrigger::Point(position) => profile.points.get(usize::from(position)).map(|found| &found.name),
    };
    name.map_or("", |name| name.as_ref())
}

/// `surcharged (threshold of level_mm, major)`; with a number when that is not enough.
fn names_of_detectors(profile: &Profile, points: &[String], conditions: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(profile.detectors.len());
    for Detector { condition, severity, point, rule, .. } in &profile.detectors {
        let of = point.and_then(|point| points.get(usize::from(point))).map(|point| format!(" of {point}"));
        let condition = conditions.get(usize::from(*condition)).map(String::as_str).unwrap_or_default();
        let name = format!("{condition} ({}{}, {})", rule.name(), of.unwrap_or_default(), severity.name());
        let namesakes = names.iter().filter(|other| other.starts_with(&name)).count();
        names.push(if namesakes == 0 { name } else { format!("{name} {}", namesakes + 1) });
    }
    names
}

/// Positions of points become their names, in guards and in levels that are computed.
fn name_points(value: &mut Value, points: &[String]) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                let is_position = matches!(key.as_str(), "point" | "MountHeightMinus");
                let position = value.as_u64().filter(|_| is_position).and_then(|at| usize::try_from(at).ok());
                match position.and_then(|at| points.get(at)) {
                    Some(name) => *value = Value::from(name.as_str()),
                    None => name_points(value, points),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| name_points(item, points)),
        _ => {}
    }
}

fn collect(about: &str, value: &Value, facts: &mut Facts) {
    match value {
        Value::Null => {}
        Value::Object(fields) => match duration_words(fields) {
            Some(words) => drop(facts.insert(about.to_owned(), words)),
            None => fields.iter().for_each(|(key, value)| collect(&format!("{about} / {}", plain(key)), value, facts)),
        },
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (number, item) in (1..).zip(items) {
                collect(&format!("{about} / {number}"), item, facts);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(words_of).collect();
            facts.insert(about.to_owned(), words.join(", "));
        }
        other => drop(facts.insert(about.to_owned(), words_of(other))),
    }
}

fn words_of(value: &Value) -> String {
    match value {
        // The text of a codec is told apart, not shown.
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            let mut hash = content_hash(text.as_bytes());
            hash.truncate(12);
            format!("{} bytes ({hash})", text.len())
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Names of variants in the program, `MountHeightMinus`, as people write them.
fn plain(name: &str) -> String {
    let is_variant = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().any(|byte| byte.is_ascii_lowercase());
    if !is_variant {
        return name.to_owned();
    }
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// A `Duration` as serde writes it.
fn duration_words(fields: &Map<String, Value>) -> Option<String> {
    let (Some(seconds), Some(nanoseconds), 2) = (fields.get("secs"), fields.get("nanos"), fields.len()) else {
        return None;
    };
    let seconds = seconds.as_f64()? + nanoseconds.as_f64()? / 1e9;
    Some(format!("{seconds} s"))
}

#[cfg(test)]
mod tests {
    use kerbside_model::document::Problems;
    use kerbside_model::profile::parse_profile_text;

    use super::*;

    const LEVEL: &str = include_str!("../../../../device-profiles/json-level.yaml");

    fn facts_of(text: &str) -> Facts {
        let problems = Problems::default();
        let profile = parse_profile_text("test.yaml", text, &problems);
        facts(&profile.unwrap_or_else(|| panic!("{:?}", problems.into_sorted())))
    }

    #[test]
    fn what_is_different_is_said_in_words_and_a_moved_point_is_no_difference() {
        let old = facts_of(LEVEL);
        assert_eq!(differences(&old, &old), []);
        let edited = LEVEL.replacen("interval: 5m", "interval: 6m", 1);
        assert_ne!(edited, LEVEL);
        let words: Vec<String> = differences(&old, &facts_of(&edited)).iter().map(Difference::to_string).collect();
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].starts_with("~ interval: ") && words[0].ends_with("-> 360 s"), "{words:?}");
    }
}
