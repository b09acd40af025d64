//! `envelope` of a source: which of its topics a network server wraps, and how.

use kerbside_model::document::{NodeKind, Section, closest};
use kerbside_model::site::AddressRule;
use kerbside_model::{EnvelopeFormat, EnvelopeRule};

use super::address::{self, Address};
use super::read;

/// More filters on one broker are several brokers.
const RULES_MAX: usize = 32;
/// A source whose payloads stand alone.
const NONE: &str = "none";
const MEND: &str = "write envelope: chirpstack_v4, or the topics with theirs: {\"application/#\": chirpstack_v4}";

/// Reads the key `envelope`: one format for the whole source, or one for each topic filter.
fn rules(section: &Section<'_>) -> Vec<EnvelopeRule> {
    let Some(node) = section.node("envelope") else { return Vec::new() };
    let mut rules = Vec::new();
    match &node.kind {
        NodeKind::Scalar { text, .. } if text == NONE => {}
        NodeKind::Scalar { text, .. } => {
            let format = format_named(section, "envelope", node.line, text);
            rules.extend(format.map(|format| EnvelopeRule { topics: None, format }));
        }
        NodeKind::Map(entries) => {
            for ((filter, name), (_, line, _)) in read::named_texts(section, "envelope").into_iter().zip(entries) {
                let key = format!("envelope.{filter}");
                if let Err(what) = address::check_filter(&filter) {
                    let mend = "+ stands for one level, # for the rest, at the end";
                    section.problem_at(*line, &key, &filter, what, mend);
                } else if filter.starts_with("$share/") {
                    let mend = "write the filter behind $share/GROUP/: that is what topics look like when they arrive";
                    section.problem_at(*line, &key, &filter, "no topic begins with $share", mend);
                } else if let Some(format) = format_named(section, &key, *line, &name) {
                    rules.push(EnvelopeRule { topics: Some(filter), format });
                }
            }
        }
        NodeKind::List(_) => section.problem("envelope", "", "a list does not say which topics are meant", MEND),
    }
    if rules.len() > RULES_MAX {
        let what = format!("{} topic filters are named", rules.len());
        section.problem("envelope", "", what, format!("write at most {RULES_MAX}"));
    }
    rules
}

fn format_named(section: &Section<'_>, key: &str, line: usize, name: &str) -> Option<EnvelopeFormat> {
    let format = EnvelopeFormat::named(name);
    if format.is_none() {
        let names = EnvelopeFormat::ALL.map(EnvelopeFormat::name);
        let mend = match closest(name, &names) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("write one of {}, or none", names.join(", ")),
        };
        section.problem_at(line, key, name, "there is no envelope of this name", mend);
    }
    format
}

/// Adds the envelopes of a source to what it says of addresses. `address` is `None` when it is wrong. What comes in an
/// envelope is from the device that the envelope names, so a source of nothing else needs no address. Where the envelope
/// is to be found, bare messages may come as well, and have the address of their topic unless something else is said.
pub(super) fn with_envelopes(section: &Section<'_>, address: Option<Address>) -> Option<Address> {
    let envelopes = rules(section);
    let of_all = envelopes.iter().find(|rule| rule.topics.is_none()).map(|rule| rule.format);
    let is_named = section.has("address");
    match of_all {
        None => return address.map(|address| Address { envelopes, ..address }),
        Some(EnvelopeFormat::Auto) if is_named => return address.map(|address| Address { envelopes, ..address }),
        Some(EnvelopeFormat::Auto) => {
            return Some(Address { envelopes, ..address.unwrap_or_else(Address::whole) });
        }
        Some(_) if !is_named => return Some(Address { envelopes, ..Address::whole() }),
        Some(_) => {}
    }
    let address = address?;
    let mend = "leave it out, or write {topic: TEMPLATE}, which must then name the same device";
    match &address.rule {
        AddressRule::Topic(_) if address.claim.is_none() => {}
        AddressRule::Topic(_) => {
            section.problem("address", "claim", "the envelope says which device it is from", "take claim out");
        }
        AddressRule::Payload(path) => {
            section.problem("address", &path.to_string(), "the envelope says which device it is from", mend);
        }
        AddressRule::Whole => section.problem("address", "whole", "the envelope says which device it is from", mend),
    }
    Some(Address { envelopes, ..address })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{MemoryEnvironment, load};

    /// The rules of the only source, with what is said of its addresses, or the problems.
    fn source(keys: &str) -> Result<(Vec<EnvelopeRule>, String), String> {
        let text = format!(
            "sources:\n  lora:\n    type: mqtt\n    host: broker.example\n    topics: [\"application/#\"]\n{keys}"
        );
        let environment = MemoryEnvironment::default().with_file("gateway.yaml", text);
        match load(Path::new("gateway.yaml"), &environment) {
            Ok(config) => Ok((config.site.facts().sources[0].envelopes.clone(), config.addresses[0].1.clone())),
            Err(problems) => Err(problems.iter().map(|problem| format!("{problem}\n")).collect()),
        }
    }

    #[test]
    fn an_envelope_for_all_topics_needs_no_address() {
        let (rules, said) = source("    envelope: chirpstack_v4\n").unwrap();
        assert_eq!(rules, [EnvelopeRule { topics: None, format: EnvelopeFormat::ChirpStackV4 }]);
        assert_eq!(said, "envelope chirpstack_v4");
        let checked = "    envelope: ttn_v3\n    address: {topic: \"application/+/device/{device}/event/+\"}\n";
        let (_, said) = source(checked).unwrap();
        assert_eq!(said, "envelope ttn_v3, topic application/+/device/{device}/event/+");
    }

    #[test]
    fn an_envelope_that_is_to_be_found_leaves_room_for_bare_messages() {
        let (rules, said) = source("    envelope: auto\n").unwrap();
        assert_eq!((rules[0].format, said.as_str()), (EnvelopeFormat::Auto, "envelope auto, whole"));
        let (_, said) = source("    envelope: auto\n    address: {payload: devEui}\n").unwrap();
        assert_eq!(said, "envelope auto, payload devEui");
        let (_, said) = source("    envelope: {\"v3/#\": auto}\n    address: {payload: devEui}\n").unwrap();
        assert_eq!(said, "envelope auto on v3/#, payload devEui");
        let broker = "sources: {own: {type: broker, envelope: auto}}\n".to_owned();
        let environment = MemoryEnvironment::default().with_file("gateway.yaml", broker);
        let said = load(Path::new("gateway.yaml"), &environment).unwrap().addresses[0].1.clone();
        assert_eq!(said, "envelope auto, topic +/+/+/{device}/up", "its own template goes on");
    }

    #[test]
    fn each_topic_filter_may_have_an_envelope_of_its_own() {
        let keys = "    envelope: {\"application/+/device/+/event/+\": chirpstack_v3, \"v3/#\": ttn_v3}\n    \
                    address: {topic: \"application/{device}/#\"}\n";
        let (rules, said) = source(keys).unwrap();
        let formats: Vec<EnvelopeFormat> = rules.iter().map(|rule| rule.format).collect();
        assert_eq!(formats, [EnvelopeFormat::ChirpStackV3, EnvelopeFormat::TtnV3]);
        assert!(said.contains("envelope ttn_v3 on v3/#, topic application/{device}/#"), "{said}");
    }

    #[test]
    fn no_envelope_is_as_if_the_key_were_not_there() {
        let (rules, said) = source("    envelope: none\n    address: {payload: devEui}\n").unwrap();
        assert_eq!((rules.len(), said.as_str()), (0, "payload devEui"));
    }

    #[test]
    fn what_is_wrong_with_an_envelope_is_said_where_it_stands() {
        for (keys, words) in [
            ("envelope: chirpstak_v4", "did you mean chirpstack_v4?"),
            ("envelope: sigfox", "write one of chirpstack_v4, chirpstack_v3, ttn_v3, ctwing, nbiot_tlv, auto"),
            ("envelope: [ttn_v3]", "a list does not say which topics are meant"),
            ("envelope: {\"v3/#\": ttn_v2}", "sources.lora.envelope.v3/#"),
            ("envelope: {\"v3/#/a\": ttn_v3}", "# must be the whole last level"),
            ("envelope: {\"$share/a/v3/#\": ttn_v3}", "no topic begins with $share"),
            ("envelope: {\"v3/#\": ttn_v3}", "sources.lora.address"),
            ("envelope: ttn_v3\n    address: whole", "the envelope says which device it is from"),
            ("envelope: ttn_v3\n    address: {payload: devEui}", "the envelope says which device it is from"),
            ("envelope: ttn_v3\n    address: {topic: \"application/{device}\", claim: id}", "take claim out"),
        ] {
            let problems = source(&format!("    {keys}\n")).expect_err(words);
            assert!(problems.contains(words), "{keys}: {problems}");
        }
    }
}
