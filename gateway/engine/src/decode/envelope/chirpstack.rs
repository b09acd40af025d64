//! Events of ChirpStack: of version 4, and of the Application Server 3 in both of its spellings ("JSON" has base64 and
//! `objectJSON`, "JSON (v3)" has hexadecimal digits and `object`).
//!
//! Protobuf-JSON leaves out what is zero or false, so the topic says what an event is, and its members only where the
//! topic was changed. Fields: ChirpStack documentation, pages "events" of versions 3 and 4.

use std::borrow::Cow;

use kerbside_model::{EnvelopeFormat, IgnoredEvent, LinkQuality};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lenient::{Encoded, Flag, Gateways, Number, Seen, Text, object};
use super::{Opened, Uplink, dev_eui, finish, lacks, read};
use crate::decode::Told;

const MEND: &str = "if the server sends Protobuf, let it send JSON: `json=true` under [integration.mqtt] in \
                    chirpstack.toml, or `marshaler=\"json\"` in chirpstack-application-server.toml";

/// Which ChirpStack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V3,
    V4,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Event<'a> {
    #[serde(borrow)]
    device_info: Option<DeviceInfo<'a>>,
    #[serde(rename = "devEUI", borrow)]
    dev_eui: Text<'a>,
    #[serde(borrow)]
    dev_addr: Text<'a>,
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow)]
    published_at: Text<'a>,
    f_cnt: Number,
    f_port: Number,
    confirmed: Flag,
    confirmed_uplink: Flag,
    #[serde(borrow)]
    data: Encoded<'a>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(rename = "objectJSON", borrow)]
    object_json: Text<'a>,
    rx_info: Gateways,
    tx_info: Option<TxInfo>,
    margin: Seen,
    battery_level: Seen,
    external_power_source: Seen,
    queue_item_id: Seen,
    acknowledged: Seen,
    f_cnt_down: Seen,
    level: Seen,
    error: Seen,
    location: Seen,
    integration_name: Seen,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DeviceInfo<'a> {
    #[serde(borrow)]
    dev_eui: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TxInfo {
    #[serde(deserialize_with = "object")]
    modulation: Option<Modulation>,
    #[serde(rename = "loRaModulationInfo")]
    lora: Option<LoRa>,
}

/// Version 3 has a word here, version 4 an object.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Modulation {
    lora: Option<LoRa>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LoRa {
    spreading_factor: Number,
}

/// What a topic says of its event.
enum Kind {
    Up,
    Ignored(IgnoredEvent),
    /// The topics of this server were changed.
    Unsaid,
}

/// Opens an event.
pub(super) fn open<'a>(version: Version, topic: &[u8], payload: &'a [u8]) -> Result<Opened<'a>, String> {
    let kind = kind_of_topic(topic);
    if let Kind::Ignored(event) = kind {
        return Ok(Opened::Ignored(event));
    }
    let (server, format) = match version {
        Version::V3 => ("ChirpStack 3", EnvelopeFormat::ChirpStackV3),
        Version::V4 => ("ChirpStack 4", EnvelopeFormat::ChirpStackV4),
    };
    let mut event: Event<'a> = read(payload, server, MEND)?;
    let (place, name) = match version {
        Version::V3 => ("devEUI", std::mem::take(&mut event.dev_eui)),
        Version::V4 => ("deviceInfo.devEui", event.device_info.take().unwrap_or_default().dev_eui),
    };
    let Some(name) = name.known() else { return Err(lacks(payload, format, place)) };
    if let (Kind::Unsaid, Some(ignored)) = (kind, kind_of_members(&event)) {
        return Ok(Opened::Ignored(ignored));
    }
    uplink(event, name)
}

/// Whether messages of a format are events of this server.
pub(super) fn is_event(format: EnvelopeFormat) -> bool {
    matches!(format, EnvelopeFormat::ChirpStackV3 | EnvelopeFormat::ChirpStackV4)
}

/// Whether a topic is one on which the server tells events of a device: `application/ID/device/DEV_EUI/event/KIND`, of old
/// versions `application/ID/device/DEV_EUI/KIND`.
pub(super) fn has_topic_of_device(topic: &[u8]) -> bool {
    let mut levels = topic.rsplit(|byte| *byte == b'/').skip(2);
    let (third, fourth) = (levels.next(), levels.next());
    [third, fourth].contains(&Some(b"device"))
}

fn uplink<'a>(event: Event<'a>, name: Cow<'a, str>) -> Result<Opened<'a>, String> {
    let port = event.f_port.whole("fPort", u32::from(u8::MAX))?;
    let gateways = event.rx_info;
    let mut uplink = Uplink {
        port: u8::try_from(port).ok(),
        bytes: Cow::Owned(event.data.bytes("data")?),
        object: match event.object {
            Some(object) => Some(Cow::Borrowed(object.get())),
            None => event.object_json.known(),
        },
        // Not the gateway's time, which is that of some clock in the field.
        network_time: [gateways.server_time, event.time.time(), event.published_at.time()]
            .into_iter()
            .find(|told| *told != Told::Nothing)
            .unwrap_or_default(),
        link: LinkQuality {
            rssi_dbm: gateways.rssi_dbm,
            snr_db: gateways.snr_db,
            gateways: Some(gateways.count),
            spreading_factor: spreading_factor(event.tx_info),
            frame_counter: Some(event.f_cnt.whole("fCnt", u32::MAX)?),
        },
        confirmed: event.confirmed.0 || event.confirmed_uplink.0,
        ..Uplink::default()
    };
    uplink.name(Some(dev_eui(name)));
    uplink.in_session(event.dev_addr.known().as_deref());
    finish(uplink)
}

fn spreading_factor(info: Option<TxInfo>) -> Option<u8> {
    let info = info?;
    let lora = info.modulation.and_then(|modulation| modulation.lora).or(info.lora);
    super::spreading_factor(lora.and_then(|lora| lora.spreading_factor.0))
}

/// `application/ID/device/DEV_EUI/event/up`, of old versions `application/ID/device/DEV_EUI/rx`, and what gateways
/// publish on the same broker: `REGION/gateway/ID/event/up`.
fn kind_of_topic(topic: &[u8]) -> Kind {
    let mut levels = topic.rsplit(|byte| *byte == b'/');
    let (last, _, _, fourth) = (levels.next(), levels.next(), levels.next(), levels.next());
    if fourth == Some(b"gateway") {
        return Kind::Ignored(IgnoredEvent::Gateway);
    }
    match last.unwrap_or_default() {
        b"up" | b"rx" => Kind::Up,
        b"join" => Kind::Ignored(IgnoredEvent::Join),
        b"status" => Kind::Ignored(IgnoredEvent::Status),
        b"ack" | b"txack" | b"tx" | b"down" => Kind::Ignored(IgnoredEvent::Downlink),
        b"log" | b"error" => Kind::Ignored(IgnoredEvent::Log),
        b"location" => Kind::Ignored(IgnoredEvent::Location),
        b"integration" => Kind::Ignored(IgnoredEvent::Integration),
        _ => Kind::Unsaid,
    }
}

/// What an event is by its members; `None` for an uplink.
fn kind_of_members(event: &Event<'_>) -> Option<IgnoredEvent> {
    let marks = [
        (event.integration_name, IgnoredEvent::Integration),
        (event.queue_item_id, IgnoredEvent::Downlink),
        (event.acknowledged, IgnoredEvent::Downlink),
        (event.f_cnt_down, IgnoredEvent::Downlink),
        (event.margin, IgnoredEvent::Status),
        (event.battery_level, IgnoredEvent::Status),
        (event.external_power_source, IgnoredEvent::Status),
        (event.level, IgnoredEvent::Log),
        (event.error, IgnoredEvent::Log),
        (event.location, IgnoredEvent::Location),
    ];
    if let Some((_, kind)) = marks.into_iter().find(|(seen, _)| seen.0) {
        return Some(kind);
    }
    // Every uplink was heard by some gateway.
    (event.rx_info.count == 0 && event.f_port.0.is_none()).then_some(IgnoredEvent::Join)
}
