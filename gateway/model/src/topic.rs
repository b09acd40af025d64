//! Topic templates: which levels of a topic say from which device a message is, of which kind, in which district.
//!
//! Turns `city/{district}/{kind}/{device}/up` into a rule, once, and a topic into its parts, for every message and
//! without an allocation. Nothing here survives a crash but the rule, which is part of the site.

use serde::{Deserialize, Serialize};

use crate::vocabulary::Kind;

/// The placeholder of the device's own level.
pub const DEVICE: &str = "{device}";
/// The placeholder of the level in which ids are unique.
pub const DISTRICT: &str = "{district}";
/// The placeholder of the kind of device.
pub const KIND: &str = "{kind}";
/// Words for kinds that one source may name; more are not kinds.
pub const KIND_WORDS_MAX: usize = 64;

/// Which levels of a topic, counted from 0, name what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRule {
    device: usize,
    district: Option<usize>,
    kind: Option<usize>,
    /// Words for kinds that the city has chosen; the kinds' own names are known besides.
    kinds: Vec<(String, Kind)>,
}

/// What the levels of one topic say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicParts<'a> {
    /// The device's own level.
    pub device: &'a [u8],
    /// The district, when the template names one.
    pub district: Option<&'a [u8]>,
    /// The word for the kind, when the template names one.
    pub kind: Option<&'a [u8]>,
    /// Everything before the device's own level: the way on which it came.
    pub prefix: &'a [u8],
}

impl TopicRule {
    /// Reads a template. `kinds` are the city's own words for kinds.
    pub fn parse(template: &str, kinds: Vec<(String, Kind)>) -> Result<TopicRule, String> {
        let Some(device) = level_of(template, DEVICE)? else {
            return Err(format!("the template needs {DEVICE} exactly once"));
        };
        let (district, kind) = (level_of(template, DISTRICT)?, level_of(template, KIND)?);
        Ok(TopicRule { device, district, kind, kinds })
    }

    /// A rule for topics in which only the device is named, on this level.
    pub fn of_level(device: usize) -> TopicRule {
        TopicRule { device, district: None, kind: None, kinds: Vec::new() }
    }

    /// Whether the template names the kind of device.
    pub fn names_kind(&self) -> bool {
        self.kind.is_some()
    }

    /// The parts of a topic; `None` when it has no level for the device.
    pub fn parts<'a>(&self, topic: &'a [u8]) -> Option<TopicParts<'a>> {
        let (mut district, mut kind, mut device) = (None, None, None);
        let last = self.device.max(self.district.unwrap_or(0)).max(self.kind.unwrap_or(0));
        let mut start = 0;
        for level in 0..=last {
            let rest = &topic[start..];
            let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let word = &rest[..length];
            if level == self.device {
                device = Some((word, &topic[..start]));
            } else if self.district == Some(level) {
                district = Some(word);
            } else if self.kind == Some(level) {
                kind = Some(word);
            }
            if length == rest.len() {
                break;
            }
            start += length + 1;
        }
        let (device, prefix) = device?;
        Some(TopicParts { device, district, kind, prefix })
    }

    /// The kind that a word of a topic stands for; `None` for a word that nobody has declared.
    pub fn kind_of(&self, word: &[u8]) -> Option<Kind> {
        let declared = self.kinds.iter().find(|(known, _)| known.as_bytes() == word).map(|(_, kind)| *kind);
        declared.or_else(|| Kind::ALL.into_iter().find(|kind| kind.name().as_bytes() == word))
    }
}

impl TopicParts<'_> {
    /// What the inventory's column `address` must say for the device.
    pub fn address(&self) -> String {
        let device = String::from_utf8_lossy(self.device);
        match self.district {
            Some(district) => format!("{}/{device}", String::from_utf8_lossy(district)),
            None => device.into_owned(),
        }
    }
}

/// The level that a placeholder stands on; `None` when it is not in the template.
fn level_of(template: &str, placeholder: &str) -> Result<Option<usize>, String> {
    match template.matches(placeholder).count() {
        0 => Ok(None),
        1 => match template.split('/').position(|level| level == placeholder) {
            Some(level) => Ok(Some(level)),
            None => Err(format!("{placeholder} must be a whole level of the topic")),
        },
        _ => Err(format!("the template has {placeholder} more than once")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(template: &str) -> TopicRule {
        let kinds = vec![("manhole".to_owned(), Kind::ManholeCover), ("drain".to_owned(), Kind::Pole)];
        TopicRule::parse(template, kinds).unwrap()
    }

    #[test]
    fn a_topic_falls_into_the_parts_that_the_template_names() {
        let rule = rule("city/{district}/{kind}/{device}/up");
        let parts = rule.parts(b"city/d01/manhole/MH-7/up").unwrap();
        assert_eq!(parts.district, Some(&b"d01"[..]));
        assert_eq!(parts.kind.and_then(|word| rule.kind_of(word)), Some(Kind::ManholeCover));
        assert_eq!((parts.device, parts.prefix), (&b"MH-7"[..], &b"city/d01/manhole/"[..]));
        assert_eq!(parts.address(), "d01/MH-7");
    }

    #[test]
    fn parts_may_stand_in_any_order_and_be_missing() {
        let rule = rule("{device}/x/{kind}");
        let parts = rule.parts(b"MH-7/x/pole").unwrap();
        assert_eq!((parts.device, parts.prefix, parts.district), (&b"MH-7"[..], &b""[..], None));
        assert_eq!(parts.kind, Some(&b"pole"[..]));
        assert_eq!(parts.address(), "MH-7");
        assert_eq!(rule.parts(b"MH-7/x").unwrap().kind, None, "the topic is too short for the kind");
        assert_eq!(self::rule("a/{device}").parts(b"a"), None);
    }

    #[test]
    fn a_city_s_own_word_for_a_kind_wins_and_other_words_say_nothing() {
        let rule = rule("{kind}/{device}");
        assert_eq!(rule.kind_of(b"drain"), Some(Kind::Pole));
        assert_eq!(rule.kind_of(b"weather_station"), Some(Kind::WeatherStation));
        assert_eq!(rule.kind_of(b"fountain"), None);
    }

    #[test]
    fn a_template_names_the_device_once_and_every_part_as_a_whole_level() {
        for template in
            ["city/+/up", "{device}/{device}", "city/d-{device}/up", "{device}/{kind}s", "{device}/{kind}/{kind}"]
        {
            assert!(TopicRule::parse(template, Vec::new()).is_err(), "{template}");
        }
    }

    proptest! {
        #[test]
        fn any_topic_is_read_as_splitting_it_would(topic in "[a-c/]{0,12}", device in 0_usize..5, kind in 0_usize..5) {
            prop_assume!(device != kind);
            let levels: Vec<&str> = topic.split('/').collect();
            let rule = TopicRule { kind: Some(kind), ..TopicRule::of_level(device) };
            let parts = rule.parts(topic.as_bytes());
            prop_assert_eq!(parts.map(|parts| parts.device), levels.get(device).map(|level| level.as_bytes()));
            if let Some(parts) = parts {
                prop_assert_eq!(parts.kind, levels.get(kind).map(|level| level.as_bytes()));
                prop_assert!(topic.as_bytes().starts_with(parts.prefix));
            }
        }
    }
}
