//! What one gateway knows of its street: profiles, inventory, sources' address rules, duty, case policy.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::alarm::Severity;
use crate::envelope::{EnvelopeFormat, EnvelopeRule};
use crate::id::content_hash;
use crate::incident::{IncidentPolicy, RainTopic};
use crate::inventory::Device;
use crate::names::Names;
use crate::profile::{JsonPath, Profile};
use crate::topic::{TopicParts, TopicRule};
use crate::vocabulary::Kind;

/// Position of a device in [`Site::devices`]. Only valid together with the site that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceIndex(pub u32);

/// The name of the built-in case platform.
pub const LEDGER: &str = "ledger";
/// The device id under which the gateway reports conditions of its own.
pub const GATEWAY_DEVICE: &str = "gateway";

/// More sources than these are looked up by hash.
const SOURCES_FEW: usize = 8;
/// Shorter words of hexadecimal digits may be names.
const HEXADECIMAL_MIN: usize = 8;
/// A DevEUI has eight bytes (LoRaWAN 1.0.4, section 6.1.1.2).
const DEV_EUI_DIGITS: usize = 16;
/// Longer addresses cost an allocation when they are looked up.
const KEY_BYTES_SHORT: usize = 128;

/// Everything that steers the engine, checked. Its content hash names it in stored batches.
#[derive(Clone, Debug)]
pub struct Site {
    facts: SiteFacts,
    hash: String,
    by_id: Names,
    /// Addresses that one device has on every source: nearly all.
    by_plain_address: Names,
    by_address: FxHashMap<Box<[u8]>, Candidates>,
    /// The profile of each device, close together: a device's facts are long.
    profiles: Vec<u16>,
    /// Whether some device is known by district and id together.
    has_districts: bool,
    rule_by_source: FxHashMap<Arc<str>, usize>,
}

/// The devices with one address, told apart by source.
#[derive(Clone, Debug, Default)]
struct Candidates {
    named: Vec<(String, DeviceIndex)>,
    unnamed: Option<DeviceIndex>,
}

/// The facts of a site as they are stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteFacts {
    /// Name of the site.
    pub name: String,
    /// Device models in use.
    pub profiles: Vec<Arc<Profile>>,
    /// The inventory, in the order of the file.
    pub devices: Vec<Device>,
    /// How each source names devices.
    pub sources: Vec<SourceRule>,
    /// Which cases are opened where.
    pub cases: CasePolicy,
    /// Who is called, and when.
    pub duty: Vec<DutyStep>,
    /// What one device may ask of the gateway.
    pub limits: FrameLimits,
    /// Which alarms are taken together.
    pub incidents: IncidentPolicy,
}

impl SiteFacts {
    /// A site without sources and duty, whose cases stay in the ledger and are closed an hour after they are over.
    pub fn new(name: &str, profiles: Vec<Arc<Profile>>, devices: Vec<Device>) -> SiteFacts {
        SiteFacts {
            name: name.to_owned(),
            profiles,
            devices,
            sources: Vec::new(),
            cases: CasePolicy {
                platform: LEDGER.to_owned(),
                severity_min: Severity::Minor,
                close_after: Duration::from_secs(3_600),
            },
            duty: Vec::new(),
            limits: FrameLimits::default(),
            incidents: IncidentPolicy::default(),
        }
    }
}

/// What one device may ask of the gateway, and how its repeats are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameLimits {
    /// Frames a second that one device may send for long; telemetry of more is thinned. 0 for no limit.
    pub device_frames_per_second: u32,
    /// Frames that it may send at once besides.
    pub device_burst: u32,
    /// A frame without a time of its own is known as a repeat for so long.
    pub duplicate_window: Duration,
}

impl Default for FrameLimits {
    /// Street devices send once in ten minutes, and a pole that streams sends once a second: twenty a second is a
    /// fault. The burst is what a device had gathered while its link was down.
    fn default() -> FrameLimits {
        FrameLimits { device_frames_per_second: 20, device_burst: 200, duplicate_window: Duration::from_secs(30) }
    }
}

/// How the frames of one source name their device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceRule {
    /// Name of the source.
    pub source: Arc<str>,
    /// Where the address stands.
    pub address: AddressRule,
    /// Where the payload says again which device it is from, when it does.
    pub claim: Option<JsonPath>,
    /// Which topics come in an envelope; the first rule that covers a topic counts. An envelope names its device itself.
    pub envelopes: Vec<EnvelopeRule>,
}

impl SourceRule {
    /// The envelope that messages on a topic come in; `None` for a payload that stands alone.
    pub fn envelope_of(&self, topic: &[u8]) -> Option<EnvelopeFormat> {
        self.envelopes.iter().find(|rule| rule.covers(topic)).map(|rule| rule.format)
    }
}

/// Where a frame says which device it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AddressRule {
    /// The frame's whole address is the device's address: Modbus units, or a topic of one device.
    Whole,
    /// A level of the topic, which may name district and kind as well.
    Topic(TopicRule),
    /// This place in a JSON payload.
    Payload(JsonPath),
}

/// Why no device takes a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No device of the inventory has this address.
    Unknown,
    /// The topic names another kind of device than the inventory.
    WrongKind {
        /// The device that has the address.
        device: DeviceIndex,
        /// What the topic says that it is.
        said: Kind,
    },
}

/// Which cases are opened where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CasePolicy {
    /// Name of the platform: [`LEDGER`] or one of the configuration's.
    pub platform: String,
    /// Alarms below this severity open no case.
    pub severity_min: Severity,
    /// The ledger closes a case by itself when the sensor has said "over" for so long.
    pub close_after: Duration,
}

/// One step of the escalation: who is told how long after the case was opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DutyStep {
    /// Time since the case was opened, while nobody has signed.
    pub after: Duration,
    /// Names of push channels.
    pub channels: Vec<String>,
}

impl Site {
    /// Builds the lookups. The facts have been checked: ids are unique, profile positions exist.
    pub fn new(facts: SiteFacts) -> Site {
        let bytes = postcard::to_stdvec(&facts).expect("site facts are plain data");
        let mut by_id = Names::with_capacity(facts.devices.len());
        let mut by_address: FxHashMap<Box<[u8]>, Candidates> = FxHashMap::default();
        for (position, device) in facts.devices.iter().enumerate() {
            let index = DeviceIndex(u32::try_from(position).expect("an inventory has fewer than 2^32 devices"));
            by_id.insert(device.id.as_bytes(), index.0);
            let candidates = by_address.entry(address_key(&device.address)).or_default();
            match &device.source {
                Some(source) => candidates.named.push((source.clone(), index)),
                None => candidates.unnamed = candidates.unnamed.or(Some(index)),
            }
        }
        let mut by_plain_address = Names::with_capacity(by_address.len());
        by_address.retain(|address, candidates| {
            let plain = candidates.unnamed.filter(|_| candidates.named.is_empty());
            if let Some(index) = plain {
                by_plain_address.insert(address, index.0);
            }
            plain.is_none()
        });
        by_address.shrink_to_fit();
        let profiles = facts.devices.iter().map(|device| device.profile).collect();
        let has_districts = facts.devices.iter().any(|device| device.address.contains('/'));
        let rule_by_source =
            facts.sources.iter().enumerate().map(|(position, rule)| (Arc::clone(&rule.source), position)).collect();
        Site {
            hash: content_hash(&bytes),
            facts,
            by_id,
            by_plain_address,
            by_address,
            profiles,
            has_districts,
            rule_by_source,
        }
    }

    /// The facts, to be stored under [`Site::hash`].
    pub fn facts(&self) -> &SiteFacts {
        &self.facts
    }

    /// The content hash of the facts.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Name of the site.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// Every device, in the order of the inventory.
    pub fn devices(&self) -> &[Device] {
        &self.facts.devices
    }

    /// One device.
    pub fn device(&self, index: DeviceIndex) -> &Device {
        &self.facts.devices[index.0 as usize]
    }

    /// The profile of a device.
    pub fn profile_of(&self, device: &Device) -> &Arc<Profile> {
        &self.facts.profiles[usize::from(device.profile)]
    }

    /// The position of a device's profile.
    pub fn profile_index(&self, index: DeviceIndex) -> usize {
        usize::from(self.profiles[index.0 as usize])
    }

    /// The device with this id.
    pub fn find(&self, id: &str) -> Option<DeviceIndex> {
        self.by_id.get(id.as_bytes()).map(DeviceIndex)
    }

    /// What was configured of a source; `None` for one that is not in the configuration (any more).
    pub fn source_rule(&self, source: &str) -> Option<&SourceRule> {
        // Nearly every gateway has a few sources, and a look at each costs less than a hash.
        let sources = &self.facts.sources;
        if sources.len() <= SOURCES_FEW {
            return sources.iter().find(|rule| rule.source.as_ref() == source);
        }
        Some(&sources[*self.rule_by_source.get(source)?])
    }

    /// The rainstorm signals that come on a topic of a source.
    pub fn rain_topic(&self, source: &str, topic: &[u8]) -> Option<&RainTopic> {
        let topics = &self.facts.incidents.rain_topics;
        topics.iter().find(|rain| rain.topic.as_bytes() == topic && rain.source == source)
    }

    /// How a source names devices.
    pub fn address_rule(&self, source: &str) -> &AddressRule {
        self.source_rule(source).map_or(&AddressRule::Whole, |rule| &rule.address)
    }

    /// The device that a source calls by this address. A device that names its source wins over one that does not.
    pub fn resolve(&self, source: &str, address: &[u8]) -> Option<DeviceIndex> {
        if let Some(index) = self.look_up(source, address) {
            return Some(index);
        }
        let id = last_part(address);
        let is_spelled_freely = is_hexadecimal(id) || plain_dev_eui(id).is_some();
        is_spelled_freely.then(|| with_key(&[], address, |key| self.look_up(source, key)))?
    }

    /// The device with this very key as address.
    fn look_up(&self, source: &str, key: &[u8]) -> Option<DeviceIndex> {
        let plain = self.by_plain_address.get(key).map(DeviceIndex);
        plain.or_else(|| self.by_address.get(key)?.on(source))
    }

    /// Whether a name stands for a device: its id, its address, or the address without the district.
    pub fn is_called(&self, index: DeviceIndex, name: &str) -> bool {
        let device = self.device(index);
        let is_same = |known: &str| {
            known == name
                || (known.eq_ignore_ascii_case(name) && is_hexadecimal(last_part(known.as_bytes())))
                || plain_dev_eui(known.as_bytes()).is_some_and(|plain| name.as_bytes().eq_ignore_ascii_case(&plain))
        };
        let without_district = device.address.rsplit('/').next().unwrap_or_default();
        is_same(&device.id) || is_same(&device.address) || is_same(without_district)
    }

    /// The device of a topic: by district and id together where the inventory names one so, else by its id alone.
    pub fn resolve_topic(
        &self,
        source: &str,
        rule: &TopicRule,
        parts: &TopicParts<'_>,
    ) -> Result<DeviceIndex, Unresolved> {
        let in_district = parts.district.and_then(|district| self.resolve_in_district(source, district, parts.device));
        let index = in_district.or_else(|| self.resolve(source, parts.device)).ok_or(Unresolved::Unknown)?;
        let said = parts.kind.and_then(|word| rule.kind_of(word));
        match said {
            Some(said) if said != self.profile_of(self.device(index)).kind => {
                Err(Unresolved::WrongKind { device: index, said })
            }
            _ => Ok(index),
        }
    }

    fn resolve_in_district(&self, source: &str, district: &[u8], device: &[u8]) -> Option<DeviceIndex> {
        if !self.has_districts {
            return None;
        }
        with_key(&[district, b"/"], device, |key| self.look_up(source, key))
    }
}

impl Candidates {
    /// A device that names its source wins over one that does not.
    fn on(&self, source: &str) -> Option<DeviceIndex> {
        let named = self.named.iter().find(|(name, _)| name == source).map(|(_, index)| *index);
        named.or(self.unnamed)
    }
}

/// Ids in hexadecimal (DevEUI, IMEI) are compared without regard to case, and a DevEUI without regard to signs between its
/// digits; others as they are.
pub fn address_key(address: &str) -> Box<[u8]> {
    with_key(&[], address.as_bytes(), |key| Box::from(key))
}

/// Looks up the key of an address, which stands behind what it begins with: mostly without an allocation.
fn with_key<T>(before: &[&[u8]], address: &[u8], look_up: impl FnOnce(&[u8]) -> T) -> T {
    let length = address.len() + before.iter().map(|part| part.len()).sum::<usize>();
    let mut short = [0; KEY_BYTES_SHORT];
    let mut long = Vec::new();
    let key = match short.get_mut(..length) {
        Some(key) => key,
        None => {
            long.resize(length, 0);
            long.as_mut_slice()
        }
    };
    let mut end = 0;
    for part in before.iter().chain([&address]) {
        key[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    let id = length - last_part(address).len();
    if is_hexadecimal(&key[id..]) {
        key[id..].make_ascii_lowercase();
    } else if let Some(mut plain) = plain_dev_eui(&key[id..]) {
        plain.make_ascii_lowercase();
        key[id..id + DEV_EUI_DIGITS].copy_from_slice(&plain);
        return look_up(&key[..id + DEV_EUI_DIGITS]);
    }
    look_up(key)
}

/// The id in an address: what stands behind the last slash.
fn last_part(address: &[u8]) -> &[u8] {
    let start = address.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &address[start..]
}

/// A DevEUI as labels and spreadsheets have it, pair by pair with the same sign between them: without the signs.
fn plain_dev_eui(id: &[u8]) -> Option<[u8; DEV_EUI_DIGITS]> {
    let sign = *id.get(2).filter(|sign| matches!(sign, b'-' | b':' | b' '))?;
    let mut plain = [0; DEV_EUI_DIGITS];
    let mut pairs = id.split(|byte| *byte == sign);
    for place in plain.chunks_exact_mut(2) {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit))?;
        place.copy_from_slice(pair);
    }
    pairs.next().is_none().then_some(plain)
}

fn is_hexadecimal(id: &[u8]) -> bool {
    id.len() >= HEXADECIMAL_MIN && id.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::PayloadFormat;

    fn profile(kind: Kind) -> Arc<Profile> {
        Arc::new(Profile {
            name: kind.name().to_owned(),
            version: 1,
            kind,
            vendor: String::new(),
            model: String::new(),
            component_class: String::new(),
            payload: PayloadFormat::Json(crate::profile::DocumentFormat::default()),
            interval: None,
            points: Vec::new(),
            conditions: Vec::new(),
            detectors: Vec::new(),
            samples: Vec::new(),
            walk_test: Vec::new(),
            overrides: Vec::new(),
            tests: Vec::new(),
        })
    }

    /// Covers by id, address and source.
    fn site(devices: &[(&str, &str, Option<&str>)]) -> Site {
        let device = |(id, address, source): &(&str, &str, Option<&str>)| Device {
            id: (*id).to_owned(),
            address: (*address).to_owned(),
            source: source.map(str::to_owned),
            ..Device::default()
        };
        let profiles = vec![profile(Kind::ManholeCover)];
        Site::new(SiteFacts::new("test", profiles, devices.iter().map(device).collect()))
    }

    fn find<'site>(site: &'site Site, source: &str, topic: &str) -> Result<&'site str, Unresolved> {
        let kinds = vec![("manhole".to_owned(), Kind::ManholeCover)];
        let rule = TopicRule::parse("city/{district}/{kind}/{device}/up", kinds).unwrap();
        let parts = rule.parts(topic.as_bytes()).ok_or(Unresolved::Unknown)?;
        site.resolve_topic(source, &rule, &parts).map(|index| site.device(index).id.as_str())
    }

    #[test]
    fn an_id_that_two_districts_use_is_told_apart_by_the_district() {
        let site = site(&[("east", "d01/7", None), ("west", "d02/7", None), ("plain", "7", None), ("8", "8", None)]);
        assert_eq!(find(&site, "city", "city/d01/manhole/7/up"), Ok("east"));
        assert_eq!(find(&site, "city", "city/d02/manhole/7/up"), Ok("west"));
        assert_eq!(find(&site, "city", "city/d03/manhole/7/up"), Ok("plain"));
        assert_eq!(find(&site, "city", "city/d02/manhole/8/up"), Ok("8"));
        assert_eq!(find(&site, "city", "city/d02/manhole/9/up"), Err(Unresolved::Unknown));
        assert_eq!(find(&site, "city", "city/d02"), Err(Unresolved::Unknown));
    }

    #[test]
    fn a_device_that_names_its_source_wins_and_is_heard_on_no_other() {
        let site = site(&[("a", "d01/7", Some("city")), ("b", "d01/7", None), ("c", "d01/8", Some("city"))]);
        assert_eq!(find(&site, "city", "city/d01/manhole/7/up"), Ok("a"));
        assert_eq!(find(&site, "town", "city/d01/manhole/7/up"), Ok("b"));
        assert_eq!(find(&site, "town", "city/d01/manhole/8/up"), Err(Unresolved::Unknown));
    }

    #[test]
    fn a_topic_that_names_another_kind_finds_nobody() {
        let site = site(&[("MH-1", "MH-1", None)]);
        assert_eq!(find(&site, "city", "city/d01/manhole_cover/MH-1/up"), Ok("MH-1"));
        assert_eq!(find(&site, "city", "city/d01/fountain/MH-1/up"), Ok("MH-1"), "nobody knows this word");
        let wrong = Unresolved::WrongKind { device: DeviceIndex(0), said: Kind::Pole };
        assert_eq!(find(&site, "city", "city/d01/pole/MH-1/up"), Err(wrong));
    }

    #[test]
    fn hexadecimal_ids_are_compared_without_regard_to_case_and_words_are_not() {
        let site = site(&[("a", "24E124713B000001", None), ("b", "D01/24e124713b00000A", None), ("c", "mh-1", None)]);
        assert_eq!(site.resolve("city", b"24e124713b000001"), Some(DeviceIndex(0)));
        assert_eq!(site.resolve("city", b"24E124713b000001"), Some(DeviceIndex(0)));
        assert_eq!(find(&site, "city", "city/D01/manhole/24E124713B00000A/up"), Ok("b"));
        assert_eq!(site.resolve("city", b"D01/24E124713B00000A"), Some(DeviceIndex(1)));
        assert_eq!(site.resolve("city", b"MH-1"), None);
    }

    #[test]
    fn a_dev_eui_is_the_same_with_signs_between_its_digits() {
        let labels = [("a", "24-E1-24-71-3B-00-00-01", None), ("b", "d01/24:e1:24:71:3b:00:00:0a", None)];
        let site = site(&labels);
        for spelled in ["24e124713b000001", "24E124713B000001", "24-e1-24-71-3b-00-00-01", "24 E1 24 71 3B 00 00 01"] {
            assert_eq!(site.resolve("city", spelled.as_bytes()), Some(DeviceIndex(0)), "{spelled}");
            assert!(site.is_called(DeviceIndex(0), &spelled.replace(['-', ' '], "")), "{spelled}");
        }
        assert_eq!(find(&site, "city", "city/d01/manhole/24E124713B00000A/up"), Ok("b"));
        for other in
            ["24-E1-24-71-3B-00-00", "24-E1-24-71-3B-00-00-01-02", "24-E1:24-71-3B-00-00-01", "2-4E1-24-71-3B-00"]
        {
            assert_eq!(site.resolve("city", other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn an_address_of_any_length_is_looked_up() {
        let long = "x".repeat(KEY_BYTES_SHORT);
        let address = format!("d01/{long}");
        let site = site(&[("long", &address, None)]);
        assert_eq!(find(&site, "city", &format!("city/d01/manhole/{long}/up")), Ok("long"));
    }
}
