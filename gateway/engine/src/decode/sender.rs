//! Whose a frame is: by its envelope, its topic or its payload. What these say of the device must agree.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kerbside_model::profile::JsonPath;
use kerbside_model::site::{AddressRule, SourceRule, Unresolved};
use kerbside_model::topic::TopicParts;
use kerbside_model::{DeviceIndex, FrameView, IgnoredEvent, PayloadView, Site, Timestamp, UndecodedReason};

use super::envelope::{self, Opened, Uplink};
use super::{Certainty, DecodeError, Message, find_text, rain};
use crate::claim::{self, Claim};
use crate::duplicates::Arrival;

/// The device that a frame is from, and on which way it came.
#[derive(Debug)]
pub struct Sender<'a> {
    /// Which device.
    pub device: DeviceIndex,
    /// What stands in the topic before the device.
    pub prefix: &'a [u8],
    /// What was in the envelope, when it came in one.
    pub uplink: Option<Box<Uplink<'a>>>,
}

/// A frame that is no device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The device whose address it bears, when there is one.
    pub device: Option<DeviceIndex>,
    /// Why it is not taken as that device's.
    pub error: DecodeError,
}

/// A frame that is not to be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// It should be, and nobody knows how.
    Refused(Refused),
    /// It is no message of a device, and nothing is wrong with it.
    Ignored(IgnoredEvent),
}

impl From<Refused> for NotTaken {
    fn from(refused: Refused) -> NotTaken {
        NotTaken::Refused(refused)
    }
}

impl<'a> Sender<'a> {
    /// What the device sent.
    pub fn message<'b>(&'b self, frame: &FrameView<'b>) -> Message<'b> {
        match &self.uplink {
            None => Message::bare(frame.payload, frame.received_at),
            Some(uplink) => uplink.message(frame.received_at),
        }
    }

    /// The number of the uplink and the session in which it counts, where the network counts uplinks.
    pub(crate) fn counted(&self) -> Option<(u16, u32)> {
        self.uplink.as_ref().and_then(|uplink| uplink.counted())
    }

    /// What is to be looked at to know whether it came before. `time` is that of its readings, `newest` that of the
    /// device's newest observation.
    pub(crate) fn arrival(
        &self,
        frame: &FrameView<'_>,
        time: Option<Timestamp>,
        newest: Timestamp,
        certainty: Certainty,
    ) -> Option<Arrival> {
        let arrival = Arrival::of(frame, self.prefix, time, newest)?;
        let Some(uplink) = self.uplink.as_ref().filter(|uplink| uplink.counted().is_some()) else {
            return Some(arrival);
        };
        let network_time = uplink.network_time.judge(frame.received_at, certainty).unwrap_or_default();
        Some(arrival.counted(uplink.identity(), network_time))
    }
}

/// Finds out which device a frame is from. What its envelope, its topic and its payload say of the device must agree.
pub fn resolve<'a>(site: &Site, frame: &FrameView<'a>) -> Result<Sender<'a>, NotTaken> {
    if let Some(topic) = site.rain_topic(frame.source, frame.address) {
        rain::read(topic, frame.payload).map_err(malformed)?;
        return Err(NotTaken::Ignored(IgnoredEvent::RainSignal));
    }
    let source = site.source_rule(frame.source);
    if let Some((rule, format)) = source.and_then(|rule| Some((rule, rule.envelope_of(frame.address)?)))
        && let PayloadView::Bytes(payload) = frame.payload
    {
        // One poisonous frame never stops the line.
        let opened = catch_unwind(AssertUnwindSafe(|| envelope::open(format, frame.address, payload)));
        match opened.map_err(|_| panicked())?.map_err(malformed)? {
            Opened::Uplink(uplink) => return Ok(of_uplink(site, rule, frame, uplink)?),
            Opened::Ignored(event) => return Err(NotTaken::Ignored(event)),
            Opened::Bare => {}
        }
    }
    let (device, prefix) = match source.map_or(&AddressRule::Whole, |rule| &rule.address) {
        AddressRule::Whole => (find(site, frame, frame.address)?, &b""[..]),
        AddressRule::Topic(rule) => {
            let Some(parts) = rule.parts(frame.address) else {
                let topic = frame.address_text();
                return Err(unknown(format!("the topic {topic:?} has no level for a device")).into());
            };
            let device = site.resolve_topic(frame.source, rule, &parts);
            (device.map_err(|reason| not_in_topic(site, reason, &parts))?, parts.prefix)
        }
        AddressRule::Payload(path) => (find(site, frame, address_in(frame.payload, path)?.as_bytes())?, frame.address),
    };
    if let Some(path) = source.and_then(|rule| rule.claim.as_ref()) {
        check_claim(site, device, frame.payload, path)?;
    }
    Ok(Sender { device, prefix, uplink: None })
}

/// The device that an envelope names. A topic that is another device's speaks against it: a broker lets a client publish
/// on topics and does not look into envelopes.
fn of_uplink<'a>(
    site: &Site,
    rule: &SourceRule,
    frame: &FrameView<'a>,
    uplink: Box<Uplink<'a>>,
) -> Result<Sender<'a>, Refused> {
    let found = uplink.names().find_map(|name| site.resolve(frame.source, name.as_bytes()));
    let Some(device) = found else {
        let names: Vec<&str> = uplink.names().collect();
        return Err(unknown(format!("no device of the inventory has the address {}", names.join(" or "))));
    };
    if let AddressRule::Topic(topic_rule) = &rule.address
        && let Some(parts) = topic_rule.parts(frame.address)
    {
        match site.resolve_topic(frame.source, topic_rule, &parts) {
            Ok(other) if other != device => {
                let (other, own) = (&site.device(other).id, &site.device(device).id);
                let detail = format!("the envelope is of {own} and the topic of {other}");
                let error = DecodeError { reason: UndecodedReason::WrongClaim, detail };
                return Err(Refused { device: Some(device), error });
            }
            Err(reason @ Unresolved::WrongKind { .. }) => return Err(not_in_topic(site, reason, &parts)),
            Ok(_) | Err(Unresolved::Unknown) => {}
        }
    }
    Ok(Sender { device, prefix: frame.address, uplink: Some(uplink) })
}

fn panicked() -> Refused {
    let detail = "the reader of envelopes panicked on this frame".to_owned();
    Refused { device: None, error: DecodeError { reason: UndecodedReason::Panic, detail } }
}

fn malformed(detail: String) -> Refused {
    Refused { device: None, error: DecodeError { reason: UndecodedReason::Malformed, detail } }
}

fn unknown(detail: String) -> Refused {
    Refused { device: None, error: DecodeError { reason: UndecodedReason::UnknownDevice, detail } }
}

fn find(site: &Site, frame: &FrameView<'_>, address: &[u8]) -> Result<DeviceIndex, Refused> {
    let found = site.resolve(frame.source, address);
    found.ok_or_else(|| {
        unknown(format!("no device of the inventory has the address {:?}", String::from_utf8_lossy(address)))
    })
}

fn address_in(payload: PayloadView<'_>, path: &JsonPath) -> Result<String, Refused> {
    let PayloadView::Bytes(bytes) = payload else {
        return Err(unknown("the address is to be found in a JSON payload and this frame holds registers".to_owned()));
    };
    match find_text(bytes, path) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(unknown(format!("the payload has no {path}, where the device's address should stand"))),
        Err(detail) => Err(malformed(detail)),
    }
}

fn not_in_topic(site: &Site, reason: Unresolved, parts: &TopicParts<'_>) -> Refused {
    match reason {
        Unresolved::Unknown => unknown(format!("no device of the inventory has the address {:?}", parts.address())),
        Unresolved::WrongKind { device: index, said } => {
            let device = site.device(index);
            let known = site.profile_of(device).kind.name();
            let detail = format!("the topic says {} and {} is of the kind {known}", said.name(), device.id);
            Refused { device: Some(index), error: DecodeError { reason: UndecodedReason::WrongKind, detail } }
        }
    }
}

fn check_claim(site: &Site, device: DeviceIndex, payload: PayloadView<'_>, path: &JsonPath) -> Result<(), Refused> {
    let PayloadView::Bytes(bytes) = payload else { return Ok(()) };
    let (reason, detail) = match claim::check(site, device, bytes, path) {
        Claim::Fits => return Ok(()),
        Claim::Other(name) => {
            let detail = format!("{path} says {name:?} and the topic is of {}", site.device(device).id);
            (UndecodedReason::WrongClaim, detail)
        }
        Claim::Unreadable(detail) => (UndecodedReason::Malformed, detail),
    };
    Err(Refused { device: Some(device), error: DecodeError { reason, detail } })
}

/// What the inventory's column `address` must say for the device of a frame, as far as the frame tells.
pub fn address_of(site: &Site, frame: &FrameView<'_>) -> String {
    let source = site.source_rule(frame.source);
    if let Some(format) = source.and_then(|rule| rule.envelope_of(frame.address))
        && let PayloadView::Bytes(payload) = frame.payload
    {
        match envelope::open(format, frame.address, payload) {
            Ok(Opened::Bare) => {}
            Ok(Opened::Uplink(uplink)) if uplink.names().next().is_some() => {
                return uplink.names().take(1).collect();
            }
            _ => return frame.address_text().into_owned(),
        }
    }
    let found = match site.address_rule(frame.source) {
        AddressRule::Whole => None,
        AddressRule::Topic(rule) => rule.parts(frame.address).map(|parts| parts.address()),
        AddressRule::Payload(path) => match frame.payload {
            PayloadView::Bytes(bytes) => find_text(bytes, path).ok().flatten(),
            PayloadView::Registers(_) => None,
        },
    };
    found.unwrap_or_else(|| frame.address_text().into_owned())
}
