//! What one gateway knows of its street: profiles, inventory, sources' address rules, duty, case policy.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::alarm::Severity;
use crate::frame::Frame;
use crate::id::content_hash;
use crate::inventory::Device;
use crate::profile::{JsonPath, Profile};

/// Position of a device in [`Site::devices`]. Only valid together with the site that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceIndex(pub u32);

/// The name of the built-in case platform.
pub const LEDGER: &str = "ledger";
/// The device id under which the gateway reports conditions of its own.
pub const GATEWAY_DEVICE: &str = "gateway";

/// Everything that steers the engine, checked. Its content hash names it in stored batches.
#[derive(Clone, Debug)]
pub struct Site {
    facts: SiteFacts,
    hash: String,
    by_id: FxHashMap<String, DeviceIndex>,
    by_address: FxHashMap<Box<[u8]>, Candidates>,
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
}

/// How the frames of one source name their device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceRule {
    /// Name of the source.
    pub source: Arc<str>,
    /// Where the address stands.
    pub address: AddressRule,
}

/// Where a frame says which device it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AddressRule {
    /// The frame's whole address is the device's address: Modbus units, or a topic of one device.
    Whole,
    /// This level of the topic, counted from 0.
    TopicLevel(usize),
    /// This place in a JSON payload.
    Payload(JsonPath),
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
        let mut by_id = FxHashMap::default();
        let mut by_address: FxHashMap<Box<[u8]>, Candidates> = FxHashMap::default();
        for (position, device) in facts.devices.iter().enumerate() {
            let index = DeviceIndex(u32::try_from(position).expect("an inventory has fewer than 2^32 devices"));
            by_id.insert(device.id.clone(), index);
            let candidates = by_address.entry(address_key(&device.address)).or_default();
            match &device.source {
                Some(source) => candidates.named.push((source.clone(), index)),
                None => candidates.unnamed = candidates.unnamed.or(Some(index)),
            }
        }
        let rule_by_source =
            facts.sources.iter().enumerate().map(|(position, rule)| (Arc::clone(&rule.source), position)).collect();
        Site { hash: content_hash(&bytes), facts, by_id, by_address, rule_by_source }
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

    /// The device with this id.
    pub fn find(&self, id: &str) -> Option<DeviceIndex> {
        self.by_id.get(id).copied()
    }

    /// How a source names devices.
    pub fn address_rule(&self, source: &str) -> &AddressRule {
        match self.rule_by_source.get(source) {
            Some(position) => &self.facts.sources[*position].address,
            None => &AddressRule::Whole,
        }
    }

    /// The device that a source calls by this address. A device that names its source wins over one that does not.
    pub fn resolve(&self, source: &str, address: &[u8]) -> Option<DeviceIndex> {
        let candidates = match self.by_address.get(address) {
            Some(candidates) => candidates,
            None => self.by_address.get(address.to_ascii_lowercase().as_slice())?,
        };
        let named = candidates.named.iter().find(|(name, _)| name == source).map(|(_, index)| *index);
        named.or(candidates.unnamed)
    }

    /// The device of a frame when its address alone tells; `None` when the payload must be asked or nobody has it.
    pub fn resolve_by_address(&self, frame: &Frame) -> Option<DeviceIndex> {
        match self.address_rule(&frame.source) {
            AddressRule::Whole => self.resolve(&frame.source, frame.address.as_bytes()),
            AddressRule::TopicLevel(level) => {
                let part = frame.address.as_bytes().split(|byte| *byte == b'/').nth(*level)?;
                self.resolve(&frame.source, part)
            }
            AddressRule::Payload(_) => None,
        }
    }
}

/// Addresses in hexadecimal (DevEUI, IMEI) are compared without regard to case; other addresses as they are.
fn address_key(address: &str) -> Box<[u8]> {
    let is_hexadecimal = address.len() >= 8 && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = if is_hexadecimal { address.to_ascii_lowercase() } else { address.to_owned() };
    key.into_bytes().into_boxed_slice()
}
