//! A small site for the targets: every way in which a source can name its devices, and profiles that read JSON.

use std::sync::{Arc, LazyLock};

use kerbside_model::document::Problems;
use kerbside_model::inventory::{Datum, Device};
use kerbside_model::profile::{JsonPath, parse_profile_text};
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::{EnvelopeFormat, EnvelopeRule, ServiceState, Site};

/// Profiles that read JSON: nested paths, several paths for a point, text, times of every unit.
const PROFILES: [(&str, &str); 5] = [
    ("json-manhole-cover.yaml", include_str!("../../../device-profiles/json-manhole-cover.yaml")),
    ("json-level.yaml", include_str!("../../../device-profiles/json-level.yaml")),
    ("json-pole.yaml", include_str!("../../../device-profiles/json-pole.yaml")),
    ("ctwing-manhole-cover.yaml", include_str!("../../../device-profiles/ctwing-manhole-cover.yaml")),
    ("chirpstack-em500-udl.yaml", include_str!("../../../device-profiles/chirpstack-em500-udl.yaml")),
];

/// Sources: the whole topic is the address, or it stands in the payload.
pub(crate) const WHOLE: &str = "whole";
pub(crate) const PAYLOAD: &str = "payload";
/// A source whose topics begin with the name of their envelope.
pub(crate) const ENVELOPES: &str = "envelopes";

/// Addresses: of every source, of one source, the same for two, with a district, in hexadecimal, empty, beyond ASCII.
const DEVICES: [(&str, Option<&str>); 10] = [
    ("MH-1", None),
    ("MH-2", Some(PAYLOAD)),
    ("MH-2", Some(WHOLE)),
    ("d01/MH-2", None),
    ("0A1B2C3D4E5F6071", None),
    ("d01/0a1b2c3d4e5f6071", Some(WHOLE)),
    ("city/d01/manhole/MH-4/up", None),
    ("", Some(WHOLE)),
    ("井-5", None),
    ("d02/", None),
];

/// The site, made once.
pub(crate) static SITE: LazyLock<Arc<Site>> = LazyLock::new(|| Arc::new(site()));

fn site() -> Site {
    let problems = Problems::default();
    let read = |(file, text)| {
        let profile = parse_profile_text(file, text, &problems);
        Arc::new(profile.unwrap_or_else(|| panic!("the shipped profile {file} is sound")))
    };
    let path = JsonPath::parse("deviceInfo.devEui").expect("the path is well-formed");
    let rule = |source, address| SourceRule { source: Arc::from(source), address, claim: None, envelopes: Vec::new() };
    let of_topics = |format: EnvelopeFormat| EnvelopeRule { topics: Some(format!("{}/#", format.name())), format };
    let enveloped = SourceRule {
        envelopes: EnvelopeFormat::ALL.into_iter().map(of_topics).collect(),
        ..rule(ENVELOPES, AddressRule::Whole)
    };
    Site::new(SiteFacts {
        sources: vec![rule(WHOLE, AddressRule::Whole), rule(PAYLOAD, AddressRule::Payload(path)), enveloped],
        ..SiteFacts::new(
            "fuzz",
            PROFILES.into_iter().map(read).collect(),
            DEVICES.into_iter().enumerate().map(device).collect(),
        )
    })
}

fn device((number, (address, source)): (usize, (&str, Option<&str>))) -> Device {
    Device {
        id: format!("D-{number}"),
        profile: u16::try_from(number % PROFILES.len()).expect("there are few profiles"),
        source: source.map(str::to_owned),
        address: address.to_owned(),
        name: String::new(),
        position: None,
        datum: Datum::Wgs84,
        place: String::new(),
        grid: String::new(),
        component_code: String::new(),
        unit: String::new(),
        mount_height_mm: Some(3_000.0),
        level_offset_mm: 2.5,
        interval: None,
        registers_from: None,
        parent: String::new(),
        service: ServiceState::InService,
        tags: Vec::new(),
        downstream: String::new(),
        battery_since: None,
    }
}
