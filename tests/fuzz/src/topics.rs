//! Topics: whatever stands in a topic, the device is the one that a plain search through the inventory finds.

use std::sync::LazyLock;

use kerbside_model::inventory::Device;
use kerbside_model::topic::TopicRule;
use kerbside_model::vocabulary::Kind;
use kerbside_sources::mqtt::fuzzing::is_filter;

use crate::street::{PAYLOAD, SITE, WHOLE};

const WORD: &str = "manhole";

/// Templates with the levels of district, kind and device.
static RULES: LazyLock<[(TopicRule, Levels); 3]> = LazyLock::new(|| {
    let rule = |template, district, kind, device| {
        let rule = TopicRule::parse(template, vec![(WORD.to_owned(), Kind::ManholeCover)]);
        (rule.expect("the template is well-formed"), Levels { district, kind, device })
    };
    [
        rule("city/{district}/{kind}/{device}/up", Some(1), Some(2), 3),
        rule("{device}/{district}", Some(1), None, 0),
        rule("+/{device}/+/{kind}", None, Some(3), 1),
    ]
});

struct Levels {
    district: Option<usize>,
    kind: Option<usize>,
    device: usize,
}

/// Takes the bytes for a topic and asks for its device, by each rule and for each source.
///
/// # Panics
/// When another device is found than a search finds, or a filter is accepted that MQTT does not have.
pub fn topics(topic: &[u8]) {
    for source in [WHOLE, PAYLOAD] {
        let found = SITE.resolve(source, topic).map(|index| SITE.device(index).id.as_str());
        assert_eq!(found, search(source, topic).map(|device| device.id.as_str()), "{source}: {topic:?}");
        for (rule, levels) in &*RULES {
            let found = rule.parts(topic).and_then(|parts| SITE.resolve_topic(source, rule, &parts).ok());
            let found = found.map(|index| SITE.device(index).id.as_str());
            let expected = search_topic(source, levels, topic).map(|device| device.id.as_str());
            assert_eq!(found, expected, "{source}, {rule:?}: {:?}", String::from_utf8_lossy(topic));
        }
    }
    if let Ok(text) = std::str::from_utf8(topic)
        && is_filter(text)
    {
        check_filter(text);
    }
}

/// The device of a topic, looked for in another way than the gateway does.
fn search_topic(source: &str, levels: &Levels, topic: &[u8]) -> Option<&'static Device> {
    let words: Vec<&[u8]> = topic.split(|byte| *byte == b'/').collect();
    let word = |level: Option<usize>| level.and_then(|level| words.get(level).copied());
    let alone = word(Some(levels.device))?;
    let in_district = word(levels.district).map(|district| [district, b"/", alone].concat());
    let device = in_district.and_then(|address| search(source, &address)).or_else(|| search(source, alone))?;
    let kind = SITE.profile_of(device).kind;
    let said = word(levels.kind).and_then(|word| match word {
        b"manhole" => Some(Kind::ManholeCover),
        word => Kind::ALL.into_iter().find(|kind| kind.name().as_bytes() == word),
    });
    said.is_none_or(|said| said == kind).then_some(device)
}

/// The device that names the source and the address, or else the first that names only the address.
fn search(source: &str, address: &[u8]) -> Option<&'static Device> {
    let find = |named: bool| {
        SITE.devices().iter().find(|device| {
            let fits = if named { device.source.as_deref() == Some(source) } else { device.source.is_none() };
            fits && is_same(device.address.as_bytes(), address)
        })
    };
    find(true).or_else(|| find(false))
}

/// Ids in hexadecimal are the same in capitals; what stands before them is not.
fn is_same(known: &[u8], address: &[u8]) -> bool {
    let id = known.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if id.len() < 8 || !id.iter().all(u8::is_ascii_hexdigit) || known.len() != address.len() {
        return known == address;
    }
    let (before, id_at) = (&known[..known.len() - id.len()], known.len() - id.len());
    address.starts_with(before) && address[id_at..].eq_ignore_ascii_case(id)
}

/// The rules of MQTT 5, sections 4.7 and 4.8.2.
fn check_filter(filter: &str) {
    let plain = match filter.strip_prefix("$share/") {
        Some(shared) => {
            let (group, rest) = shared.split_once('/').unwrap_or_else(|| panic!("{filter:?} has no filter"));
            assert!(!group.is_empty() && !group.contains(['+', '#']), "{filter:?} has a bad group");
            rest
        }
        None => filter,
    };
    assert!(!plain.is_empty(), "{filter:?} is empty");
    let levels: Vec<&str> = plain.split('/').collect();
    for (position, level) in levels.iter().enumerate() {
        assert!(!level.contains('+') || *level == "+", "{filter:?} has a plus within a level");
        let is_last = position + 1 == levels.len();
        assert!(!level.contains('#') || (*level == "#" && is_last), "{filter:?} has a hash that is not the end");
    }
}
