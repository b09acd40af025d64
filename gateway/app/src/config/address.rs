//! Where the frames of an MQTT source name their device, and which topics they come on.

use kerbside_model::document::{NodeKind, Section};
use kerbside_model::profile::JsonPath;
use kerbside_model::site::AddressRule;
use kerbside_sources::mqtt::TopicFilter;

use super::read::Context;

/// The placeholder in a topic template.
const DEVICE: &str = "{device}";
/// Longest topic filter (MQTT 3.1.1, section 1.5.3).
const FILTER_BYTES_MAX: usize = 65_535;
/// More are one filter with a wildcard.
const TOPICS_MAX: usize = 1_000;
const MEND: &str = "write {topic: \"city/+/+/{device}/up\"}, {payload: deviceInfo.devEui} or whole";

/// An address rule with the topic template that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    /// Where the address stands.
    pub(super) rule: AddressRule,
    /// The levels of the template, when the address is one of them.
    pub(super) template: Option<String>,
}

impl Address {
    /// From a template that is known to be sound.
    pub(super) fn of_template(template: &str) -> Address {
        let level = device_level(template).expect("the default template has one {device}");
        Address { rule: AddressRule::TopicLevel(level), template: Some(template.to_owned()) }
    }
}

/// Reads the key `address`; `None` when it is absent or wrong.
pub(super) fn address(section: &Section<'_>) -> Option<Address> {
    let node = section.node("address")?;
    match &node.kind {
        NodeKind::Scalar { text, .. } if text == "whole" => Some(Address { rule: AddressRule::Whole, template: None }),
        NodeKind::Map(_) => {
            let inner = section.section("address")?;
            let address = of_section(&inner);
            inner.finish();
            address
        }
        NodeKind::Scalar { text, .. } => {
            section.problem("address", text, "this does not say where the address stands", MEND);
            None
        }
        NodeKind::List(_) => {
            section.problem("address", "", "a list does not say where the address stands", MEND);
            None
        }
    }
}

fn of_section(section: &Section<'_>) -> Option<Address> {
    match (section.text("topic"), section.text("payload")) {
        (Some(template), None) => {
            let level = device_level(&template).map_err(|what| {
                let mend = "put {device} where the device's own level is, and + or a word elsewhere";
                section.problem("topic", &template, what, mend);
            });
            Some(Address { rule: AddressRule::TopicLevel(level.ok()?), template: Some(template) })
        }
        (None, Some(path)) => {
            let Some(parsed) = JsonPath::parse(&path) else {
                let mend = "write the keys with dots between them, such as deviceInfo.devEui";
                section.problem("payload", &path, "not a path into JSON", mend);
                return None;
            };
            Some(Address { rule: AddressRule::Payload(parsed), template: None })
        }
        _ => {
            section.problem("", "", "exactly one of topic and payload is needed", MEND);
            None
        }
    }
}

fn device_level(template: &str) -> Result<usize, String> {
    if template.matches(DEVICE).count() != 1 {
        return Err("the template needs {device} exactly once".to_owned());
    }
    let Some(position) = template.split('/').position(|level| level == DEVICE) else {
        return Err("{device} must be a whole level of the topic".to_owned());
    };
    check_filter(&template.replace(DEVICE, "+"))?;
    Ok(position)
}

/// Reads the key `topics`: filters as plain texts or with their QoS.
pub(super) fn topics(section: &Section<'_>, source: &str, context: &Context<'_>) -> Vec<TopicFilter> {
    let mut topics: Vec<TopicFilter> = Vec::new();
    for (line, key, topic) in raw_topics(section, source, context) {
        if let Err(what) = check_filter(&topic.filter) {
            section.problem_at(line, &key, &topic.filter, what, "+ stands for one level, # for the rest, at the end");
        } else if topics.iter().any(|other| other.filter == topic.filter) {
            section.problem_at(line, &key, &topic.filter, "this filter stands here twice", "keep one of the two");
        } else {
            topics.push(topic);
        }
    }
    topics
}

fn raw_topics(section: &Section<'_>, source: &str, context: &Context<'_>) -> Vec<(usize, String, TopicFilter)> {
    let Some(node) = section.node("topics") else {
        section.missing("topics", "write the topic filters to subscribe to, such as [\"city/+/+/+/up\"]");
        return Vec::new();
    };
    let items = match &node.kind {
        NodeKind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() || items.len() > TOPICS_MAX {
        let what = format!("{} topics are named", items.len());
        section.problem("topics", "", what, format!("write 1 to {TOPICS_MAX} topic filters"));
    }
    let mut topics = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let key = format!("topics[{position}]");
        match &item.kind {
            NodeKind::Scalar { text, .. } => {
                topics.push((item.line, key, TopicFilter { filter: text.clone(), qos: 1 }));
            }
            NodeKind::Map(_) => {
                let inner = section.nested(section.path_of(&key), item);
                let filter = inner.required_text("filter", "write the topic filter");
                let qos = inner.integer("qos", 0, 2).unwrap_or(1);
                inner.finish();
                if qos == 2 {
                    context.notice(format!(
                        "source {source}: {filter} is subscribed at QoS 1 instead of 2; \
                         after a lost connection a message may come twice"
                    ));
                }
                if !filter.is_empty() {
                    topics.push((item.line, key, TopicFilter { filter, qos: if qos == 0 { 0 } else { 1 } }));
                }
            }
            NodeKind::List(_) => {
                section.problem_at(item.line, &key, "", "a list stands where a topic filter is needed", "write a text");
            }
        }
    }
    topics
}

/// Whether a filter is valid (MQTT 5, sections 4.7 and 4.8.2).
fn check_filter(filter: &str) -> Result<(), String> {
    if filter.is_empty() {
        return Err("the topic filter is empty".to_owned());
    }
    if filter.len() > FILTER_BYTES_MAX || filter.contains('\0') {
        return Err(format!("a topic filter has at most {FILTER_BYTES_MAX} bytes and no zero byte"));
    }
    let shared = filter.strip_prefix("$share/").map(|shared| shared.split_once('/').unwrap_or_default());
    if let Some((group, rest)) = shared
        && (group.is_empty() || group.contains(['+', '#']) || rest.is_empty())
    {
        return Err("a shared subscription is $share/GROUP/FILTER".to_owned());
    }
    let levels: Vec<&str> = filter.split('/').collect();
    for (position, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || position + 1 != levels.len()) {
            return Err("# must be the whole last level".to_owned());
        }
        if level.contains('+') && *level != "+" {
            return Err("+ must be a whole level".to_owned());
        }
        if level.contains(['{', '}']) {
            return Err("braces have no meaning in a topic filter".to_owned());
        }
    }
    Ok(())
}

/// The filter behind `$share/GROUP/`: what topics look like when they arrive.
fn shared_part(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, rest)| rest)
}

/// Checks that topics of every filter have the level that the template names.
pub(super) fn check_template(section: &Section<'_>, address: &Address, topics: &[TopicFilter]) {
    let Some(template) = &address.template else { return };
    for topic in topics {
        let filter = shared_part(&topic.filter).unwrap_or(&topic.filter);
        if let Err(what) = compare(template, filter) {
            let mend = "give the template as many levels as the filter, with the same words in the same places";
            section.problem("address", template, format!("does not fit the topic filter {filter}: {what}"), mend);
        }
    }
}

fn compare(template: &str, filter: &str) -> Result<(), String> {
    let mut template_levels = template.split('/');
    let mut filter_levels = filter.split('/');
    loop {
        match (template_levels.next(), filter_levels.next()) {
            (None, None) | (_, Some("#")) | (Some("#"), _) => return Ok(()),
            (Some(ours), Some(theirs)) => {
                let is_open = |level: &str| level == "+" || level == DEVICE;
                if !is_open(ours) && !is_open(theirs) && ours != theirs {
                    return Err(format!("{ours} is not {theirs}"));
                }
            }
            (Some(_), None) => return Err("the filter has fewer levels".to_owned()),
            (None, Some(_)) => return Err("the filter has more levels".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_the_rules_of_mqtt() {
        for filter in ["a", "/", "+/a/#", "#", "$share/group/a/+", "city/+/+/+/up", "路/灯"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in
            ["", "a/#/b", "a#", "a+/b", "$share/group", "$share/group/", "$share/+/a", "$share//a", "a/{device}", "a\0"]
        {
            assert!(check_filter(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_template_fits_the_filters_whose_topics_have_its_levels() {
        for (template, filter) in [
            ("city/+/+/{device}/up", "city/+/+/+/up"),
            ("city/+/+/{device}/up", "city/#"),
            ("city/{device}/#", "city/+/a/b"),
            ("+/{device}", "city/MH-1"),
        ] {
            assert_eq!(compare(template, filter), Ok(()), "{template} {filter}");
        }
        for (template, filter) in
            [("city/{device}", "city/+/up"), ("city/{device}/up", "city/+"), ("town/{device}", "city/+")]
        {
            assert!(compare(template, filter).is_err(), "{template} {filter}");
        }
    }

    #[test]
    fn the_device_level_is_counted_from_zero() {
        assert_eq!(device_level("city/+/+/{device}/up"), Ok(3));
        for template in ["city/+/up", "{device}/{device}", "city/d-{device}/up", "a#/{device}"] {
            assert!(device_level(template).is_err(), "{template}");
        }
    }
}
