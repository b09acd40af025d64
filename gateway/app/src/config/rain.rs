//! `incidents.rain_topics`: topics on which rainstorm signals (暴雨预警信号) are published.

use std::ops::RangeInclusive;
use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_model::incident::{RAIN_SIGNAL_MAX, RainTopic};
use kerbside_model::is_covered;
use kerbside_sources::mqtt::{MqttConfig, TopicFilter};

use super::address::json_path;
use super::read;
use super::sources::Sources;

/// A province, a city and a district publish warnings.
const TOPICS_MAX: usize = 10;
/// MQTT has two bytes for the length of a topic; nobody types more than this.
const TOPIC_BYTES_MAX: usize = 512;
/// A signal is in force for three hours at least, and renewed or lifted within six.
const LASTS: Duration = Duration::from_secs(6 * 3_600);
const LASTS_LIMITS: RangeInclusive<Duration> = Duration::from_secs(600)..=RAIN_SIGNAL_MAX;

/// Reads the list.
pub(super) fn topics(section: &Section<'_>, sources: &Sources) -> Vec<RainTopic> {
    let mut topics: Vec<RainTopic> = Vec::new();
    for inner in section.sections("rain_topics") {
        let topic = topic(&inner, sources);
        if topics.iter().any(|other| other.source == topic.source && other.topic == topic.topic) {
            inner.problem("topic", &topic.topic, "this topic stands here twice", "keep one of the two");
        }
        topics.push(topic);
        inner.finish();
    }
    if topics.len() > TOPICS_MAX {
        section.problem(
            "rain_topics",
            &topics.len().to_string(),
            "too many topics",
            format!("write at most {TOPICS_MAX}"),
        );
    }
    topics
}

fn topic(section: &Section<'_>, sources: &Sources) -> RainTopic {
    let topic = section.required_text("topic", "write the topic, such as weather/rain-signal");
    let is_plain = !topic.contains(['+', '#', '\0']) && topic.len() <= TOPIC_BYTES_MAX;
    if !topic.is_empty() && !is_plain {
        let mend = format!("write one topic without + and #, of up to {TOPIC_BYTES_MAX} bytes");
        section.problem("topic", &topic, "a signal comes on one topic", mend);
    }
    let (level, until) = (json_path(section, "level"), json_path(section, "until"));
    if until.is_some() && level.is_none() {
        section.missing("level", "say where the level stands in the JSON that has an end in it");
    }
    RainTopic {
        source: source(section, sources),
        topic,
        level,
        until,
        lasts: read::duration(section, "lasts", LASTS, LASTS_LIMITS),
    }
}

/// The source that the topic is of; where there is only one that has topics, it need not be named.
fn source(section: &Section<'_>, sources: &Sources) -> String {
    let of_mqtt = sources.mqtt.iter().map(|config| config.name.as_str());
    let names: Vec<&str> = of_mqtt.chain(sources.brokers.iter().map(|config| config.name.as_str())).collect();
    match (section.text("source"), names.as_slice()) {
        (Some(name), _) if names.contains(&name.as_str()) => name,
        (Some(name), _) => {
            let mend = format!("write one of {}", names.join(", "));
            section.problem("source", &name, "no source of type mqtt or broker has this name", mend);
            name
        }
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            section.missing("source", "there are several sources: say which of them the topic is of");
            String::new()
        }
    }
}

/// Subscribes to the topics that no filter of their source covers yet.
pub(super) fn subscribe(topics: &[RainTopic], sources: &mut [MqttConfig]) {
    sources.iter_mut().for_each(|source| add(topics, &source.name, &mut source.topics));
}

fn add(topics: &[RainTopic], source: &str, filters: &mut Vec<TopicFilter>) {
    for rain in topics.iter().filter(|rain| rain.source == source) {
        let is_heard = filters.iter().any(|known| {
            let shared = known.filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/'));
            let filter = shared.map_or(known.filter.as_str(), |(_, filter)| filter);
            is_covered(filter.as_bytes(), rain.topic.as_bytes())
        });
        if !is_heard {
            filters.push(TopicFilter { filter: rain.topic.clone(), qos: 1 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(topics: &[&str], rain: &str) -> Vec<String> {
        let known = topics.iter().map(|filter| TopicFilter { filter: (*filter).to_owned(), qos: 1 });
        let topic =
            RainTopic { source: "city".to_owned(), topic: rain.to_owned(), level: None, until: None, lasts: LASTS };
        let mut filters: Vec<TopicFilter> = known.collect();
        add(&[topic], "city", &mut filters);
        filters.into_iter().map(|filter| filter.filter).collect()
    }

    #[test]
    fn a_topic_is_subscribed_to_where_no_filter_covers_it() {
        assert_eq!(filters(&["city/#"], "weather/rain"), ["city/#", "weather/rain"]);
        assert_eq!(filters(&["$share/g/weather/+"], "weather/rain"), ["$share/g/weather/+"]);
        assert_eq!(filters(&["#"], "weather/rain"), ["#"]);
    }
}
