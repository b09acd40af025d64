//! Messages of The Things Stack 3: the one of its members that is there says what a message is, so topics do not matter.
//!
//! Empty fields are left out: "", 0 and false. Fields: The Things Stack documentation, page "data formats".

use std::borrow::Cow;

use kerbside_model::{EnvelopeFormat, IgnoredEvent, LinkQuality};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lenient::{Encoded, Flag, Gateways, Number, Seen, Text};
use super::{Opened, Uplink, dev_eui, finish, lacks, read};
use crate::decode::Told;

const MEND: &str = "if it is a Pub/Sub integration of the server, choose JSON and not Protobuf as its format";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    end_device_ids: Option<Ids<'a>>,
    #[serde(borrow)]
    received_at: Text<'a>,
    simulated: Flag,
    #[serde(borrow)]
    uplink_message: Option<Up<'a>>,
    uplink_normalized: Seen,
    join_accept: Seen,
    downlink_ack: Seen,
    downlink_nack: Seen,
    downlink_sent: Seen,
    downlink_failed: Seen,
    downlink_queued: Seen,
    downlink_queue_invalidated: Seen,
    downlinks: Seen,
    location_solved: Seen,
    service_data: Seen,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ids<'a> {
    #[serde(borrow)]
    device_id: Text<'a>,
    #[serde(borrow)]
    dev_eui: Text<'a>,
    #[serde(borrow)]
    dev_addr: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Up<'a> {
    #[serde(borrow)]
    session_key_id: Text<'a>,
    f_port: Number,
    f_cnt: Number,
    #[serde(borrow)]
    frm_payload: Encoded<'a>,
    #[serde(borrow)]
    decoded_payload: Option<&'a RawValue>,
    rx_metadata: Gateways,
    settings: Option<Settings>,
    #[serde(borrow)]
    received_at: Text<'a>,
    confirmed: Flag,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Settings {
    data_rate: Option<DataRate>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DataRate {
    lora: Option<LoRa>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoRa {
    spreading_factor: Number,
}

/// Opens a message.
pub(super) fn open(payload: &[u8]) -> Result<Opened<'_>, String> {
    let mut message: Message<'_> = read(payload, "The Things Stack", MEND)?;
    let Some(up) = message.uplink_message.take() else {
        let event = kind_of(&message);
        return event.map(Opened::Ignored).ok_or_else(|| lacks(payload, EnvelopeFormat::TtnV3, "uplink_message"));
    };
    if message.simulated.0 {
        return Ok(Opened::Ignored(IgnoredEvent::Simulated));
    }
    let ids = message.end_device_ids.unwrap_or_default();
    let (eui, id, address) = (ids.dev_eui.known(), ids.device_id.known(), ids.dev_addr.known());
    if eui.is_none() && id.is_none() {
        return Err(lacks(payload, EnvelopeFormat::TtnV3, "end_device_ids.dev_eui"));
    }
    let port = up.f_port.whole("f_port", u32::from(u8::MAX))?;
    let data_rate = up.settings.and_then(|settings| settings.data_rate?.lora);
    let server_time = match up.received_at.time() {
        // That of the network server is nearer to the air than that of the application server.
        Told::Nothing => message.received_at.time(),
        told => told,
    };
    let mut uplink = Uplink {
        port: u8::try_from(port).ok(),
        bytes: Cow::Owned(up.frm_payload.bytes("frm_payload")?),
        object: up.decoded_payload.map(|object| Cow::Borrowed(object.get())),
        network_time: server_time,
        link: LinkQuality {
            rssi_dbm: up.rx_metadata.rssi_dbm,
            snr_db: up.rx_metadata.snr_db,
            gateways: Some(up.rx_metadata.count),
            spreading_factor: super::spreading_factor(data_rate.and_then(|lora| lora.spreading_factor.0)),
            frame_counter: Some(up.f_cnt.whole("f_cnt", u32::MAX)?),
        },
        confirmed: up.confirmed.0,
        ..Uplink::default()
    };
    uplink.name(eui.map(dev_eui));
    uplink.name(id);
    uplink.in_session(up.session_key_id.known().or(address).as_deref());
    finish(uplink)
}

/// What a message without an uplink is.
fn kind_of(message: &Message<'_>) -> Option<IgnoredEvent> {
    let marks = [
        (message.join_accept, IgnoredEvent::Join),
        (message.downlink_ack, IgnoredEvent::Downlink),
        (message.downlink_nack, IgnoredEvent::Downlink),
        (message.downlink_sent, IgnoredEvent::Downlink),
        (message.downlink_failed, IgnoredEvent::Downlink),
        (message.downlink_queued, IgnoredEvent::Downlink),
        (message.downlink_queue_invalidated, IgnoredEvent::Downlink),
        (message.downlinks, IgnoredEvent::Downlink),
        (message.location_solved, IgnoredEvent::Location),
        (message.service_data, IgnoredEvent::Integration),
        (message.uplink_normalized, IgnoredEvent::Integration),
    ];
    let mark = marks.into_iter().find(|(seen, _)| seen.0).map(|(_, kind)| kind);
    mark.or_else(|| message.end_device_ids.is_some().then_some(IgnoredEvent::Other))
}
