//! Where the frames of an MQTT source name their device, and which topics they come on.

use kerbside_model::document::{NodeKind, Section, closest};
use kerbside_model::profile::JsonPath;
use kerbside_model::site::AddressRule;
use kerbside_model::topic::{DEVICE, DISTRICT, KIND, KIND_WORDS_MAX, TopicRule};
use kerbside_model::vocabulary::Kind;
use kerbside_model::{EnvelopeFormat, EnvelopeRule};
use kerbside_sources::mqtt::TopicFilter;

use super::read::{self, Context};

/// Longest topic filter (MQTT 3.1.1, section 1.5.3).
const FILTER_BYTES_MAX: usize = 65_535;
/// More are one filter with a wildcard.
const TOPICS_MAX: usize = 1_000;
const MEND: &str = "write {topic: \"city/{district}/{kind}/{device}/up\"}, {payload: deviceInfo.devEui} or whole";
const TEMPLATE_MEND: &str =
    "put {device} where the device's own level is, {district} and {kind} where theirs are, and + or a word elsewhere";
const PATH_MEND: &str = "write the keys with dots between them, such as deviceInfo.devEui";

/// An address rule with the topic template that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    /// Where the address stands.
    pub(super) rule: AddressRule,
    /// The levels of the template, when the address is one of them.
    pub(super) template: Option<String>,
    /// Where the payload says again which device it is from.
    pub(super) claim: Option<JsonPath>,
    /// Which topics come in an envelope, which names the device itself.
    pub(super) envelopes: Vec<EnvelopeRule>,
}

impl Address {
    /// From a template that is known to be sound.
    pub(super) fn of_template(template: &str) -> Address {
        let rule = topic_rule(template, Vec::new()).expect("the default template has one {device}");
        Address { rule: AddressRule::Topic(rule), template: Some(template.to_owned()), ..Address::whole() }
    }

    /// The whole address of a frame is the device's.
    pub(super) fn whole() -> Address {
        Address { rule: AddressRule::Whole, template: None, claim: None, envelopes: Vec::new() }
    }

    /// In the words of gateway.yaml.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        for rule in &self.envelopes {
            let topics = rule.topics.as_ref().map_or_else(String::new, |topics| format!(" on {topics}"));
            parts.push(format!("envelope {}{topics}", rule.format.name()));
        }
        let covers_all = self.envelopes.iter().any(|rule| rule.topics.is_none() && rule.format != EnvelopeFormat::Auto);
        match (&self.rule, &self.template) {
            (_, Some(template)) => parts.push(format!("topic {template}")),
            (AddressRule::Payload(path), _) => parts.push(format!("payload {path}")),
            _ if covers_all => {}
            _ => parts.push("whole".to_owned()),
        }
        parts.extend(self.claim.iter().map(|path| format!("claim {path}")));
        parts.join(", ")
    }
}

/// Reads the key `address`; `None` when it is absent or wrong.
pub(super) fn address(section: &Section<'_>) -> Option<Address> {
    let node = section.node("address")?;
    match &node.kind {
        NodeKind::Scalar { text, .. } if text == "whole" => Some(Address::whole()),
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
    let (template, payload) = (section.text("topic"), section.text("payload"));
    let (kinds, claim) = (kinds(section), json_path(section, "claim"));
    match (template, payload) {
        (Some(template), None) => {
            let rule = topic_rule(&template, kinds)
                .map_err(|what| section.problem("topic", &template, what, TEMPLATE_MEND))
                .ok()?;
            if section.has("kinds") && !rule.names_kind() {
                let mend = "put {kind} into the template, or take the key out";
                section.problem("kinds", "", "no level of the topic names the kind", mend);
            }
            Some(Address { rule: AddressRule::Topic(rule), template: Some(template), claim, ..Address::whole() })
        }
        (None, Some(_)) => {
            for key in ["kinds", "claim"] {
                if section.has(key) {
                    let mend = "take the key out, or name the device by `topic`";
                    section.problem(key, "", "this is checked against the topic, and `payload` names the device", mend);
                }
            }
            Some(Address { rule: AddressRule::Payload(json_path(section, "payload")?), ..Address::whole() })
        }
        _ => {
            section.problem("", "", "exactly one of topic and payload is needed", MEND);
            None
        }
    }
}

/// The city's own words for kinds of device.
fn kinds(section: &Section<'_>) -> Vec<(String, Kind)> {
    let words = read::named_texts(section, "kinds");
    if words.len() > KIND_WORDS_MAX {
        let what = format!("{} words for kinds", words.len());
        section.problem("kinds", "", what, format!("write at most {KIND_WORDS_MAX}"));
    }
    let names = Kind::ALL.map(Kind::name);
    let mut kinds = Vec::with_capacity(words.len());
    for (word, name) in words {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            kinds.push((word, kind));
            continue;
        }
        let mend = match closest(&name, &names) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("write one of {}", names.join(", ")),
        };
        section.problem("kinds", &name, format!("{word} stands for no kind of device"), mend);
    }
    kinds
}

/// A place in a JSON payload, when the key is there and sound.
pub(super) fn json_path(section: &Section<'_>, key: &'static str) -> Option<JsonPath> {
    let text = section.text(key)?;
    let path = JsonPath::parse(&text);
    if path.is_none() {
        section.problem(key, &text, "not a path into JSON", PATH_MEND);
    }
    path
}

fn topic_rule(template: &str, kinds: Vec<(String, Kind)>) -> Result<TopicRule, String> {
    let rule = TopicRule::parse(template, kinds)?;
    check_filter(&template.replace(DEVICE, "+").replace(DISTRICT, "+").replace(KIND, "+"))?;
    Ok(rule)
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
pub(super) fn check_filter(filter: &str) -> Result<(), String> {
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
                let is_open = |level: &str| ["+", DEVICE, DISTRICT, KIND].contains(&level);
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
            ("city/{district}/{kind}/{device}/up", "city/d01/+/+/up"),
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
    fn a_template_is_a_filter_with_names_in_it() {
        assert_eq!(topic_rule("city/+/+/{device}/up", Vec::new()), Ok(TopicRule::of_level(3)));
        assert!(topic_rule("city/{district}/{kind}/{device}/#", Vec::new()).is_ok());
        for template in ["city/+/up", "{device}/{device}", "city/d-{device}/up", "a#/{device}", "{town}/{device}"] {
            assert!(topic_rule(template, Vec::new()).is_err(), "{template}");
        }
    }
}
