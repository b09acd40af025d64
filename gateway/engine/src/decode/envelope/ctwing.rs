//! Pushes of CTWing (AEP), the platform of China Telecom for NB-IoT.
//!
//! Fields: a captured message of a smart manhole cover (github.com/zhfly1992/locman, class WingsIotDataTransform), in
//! which IMSI is the word "undefined", RSRP and coverage level stand in each other's place, and old devices have
//! seconds where new ones have milliseconds. What a push is says its `messageType`: `dataReport` and `eventReport` are
//! messages of the device; `deviceOnlineOfflineReport`, `commandResponse` and `dataReportTupUnion` (the same data once
//! more, put together for a whole product) are none.

use std::borrow::Cow;

use kerbside_model::{EnvelopeFormat, IgnoredEvent, LinkQuality, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lenient::{Encoded, Number, Text};
use super::{Opened, Uplink, base64, finish, lacks, read};
use crate::decode::Told;

const MEND: &str = "the platform pushes JSON: look at what stands between it and this source";
/// RSRP in NB-IoT is reported from -156 to -44 dBm (3GPP TS 36.133, section 9.1.22.9).
const RSRP_DBM: std::ops::RangeInclusive<f64> = -156.0..=-44.0;
/// SINR in NB-IoT lies between these, in dB, with room to spare.
const SINR_DB: std::ops::RangeInclusive<f64> = -30.0..=50.0;
/// Numbers below this are seconds: 10^11 ms is 1973, 10^11 s is the year 5138.
const SECONDS_BELOW: f64 = 1e11;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Push<'a> {
    #[serde(borrow)]
    message_type: Text<'a>,
    #[serde(borrow)]
    device_id: Text<'a>,
    #[serde(rename = "IMEI", borrow)]
    imei: Text<'a>,
    timestamp: Number,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// Of an event that the device raises by itself, in the place of `payload`.
    #[serde(borrow)]
    event_content: Option<&'a RawValue>,
}

/// What is of interest in what the device sent.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Inside<'a> {
    /// The bytes of a device whose product the platform does not decode.
    #[serde(rename = "APPdata", borrow)]
    app_data: Encoded<'a>,
    #[serde(rename = "IMEI", borrow)]
    imei: Text<'a>,
    rsrp: Number,
    ecl: Number,
    sinr: Number,
}

/// What a push can be. The others that CTWing may have one day are looked at only where its envelope is named.
pub(super) const KINDS: [&str; 5] =
    ["dataReport", "eventReport", "deviceOnlineOfflineReport", "commandResponse", "dataReportTupUnion"];

/// Opens a push.
pub(super) fn open(payload: &[u8]) -> Result<Opened<'_>, String> {
    let push: Push<'_> = read(payload, "CTWing", MEND)?;
    let kind = push.message_type.known();
    match kind.as_deref() {
        Some("commandResponse") => return Ok(Opened::Ignored(IgnoredEvent::Downlink)),
        Some("deviceOnlineOfflineReport") => return Ok(Opened::Ignored(IgnoredEvent::Status)),
        Some("dataReportTupUnion") => return Ok(Opened::Ignored(IgnoredEvent::Integration)),
        _ => {}
    }
    let Some(content) = push.payload.or(push.event_content) else {
        return match kind.as_deref() {
            // What should hold something and does not is broken; of what is not known nobody can say.
            None | Some("dataReport" | "eventReport") => Err(lacks(payload, EnvelopeFormat::CtWing, "payload")),
            Some(_) => Ok(Opened::Ignored(IgnoredEvent::Other)),
        };
    };
    let mut uplink = Uplink { network_time: time(push.timestamp), ..Uplink::default() };
    let inside = take_content(content, &mut uplink)?;
    let (imei, device_id) = (push.imei.known().or(inside.imei.known()), push.device_id.known());
    if imei.is_none() && device_id.is_none() {
        return Err(lacks(payload, EnvelopeFormat::CtWing, "IMEI or deviceId"));
    }
    uplink.name(imei);
    uplink.name(device_id);
    if !matches!(inside.app_data, Encoded::Nothing) {
        uplink.bytes = Cow::Owned(inside.app_data.bytes("payload.APPdata")?);
    }
    uplink.link = LinkQuality {
        // A coverage level is 0, 1 or 2, so what lies in the range of the other was put into the wrong member.
        rssi_dbm: [inside.rsrp.0, inside.ecl.0].into_iter().flatten().find(|number| RSRP_DBM.contains(number)),
        snr_db: inside.sinr.0.filter(|number| SINR_DB.contains(number)),
        ..LinkQuality::default()
    };
    finish(uplink)
}

/// What the device sent: an object, or the text of one.
fn take_content<'a>(content: &'a RawValue, uplink: &mut Uplink<'a>) -> Result<Inside<'a>, String> {
    let text = content.get();
    if text.starts_with('{') {
        uplink.object = Some(Cow::Borrowed(text));
        return Ok(serde_json::from_str(text).unwrap_or_default());
    }
    if !text.starts_with('"') {
        return Err("no envelope of CTWing: payload is neither an object nor a text".to_owned());
    }
    let inner: Option<Cow<'_, str>> = Text::deserialize(content).unwrap_or_default().known();
    match inner {
        Some(inner) if inner.trim_start().starts_with('{') => uplink.object = Some(inner),
        Some(inner) => uplink.bytes = Cow::Owned(base64("payload", &inner)?),
        None => {}
    }
    Ok(Inside::default())
}

fn time(timestamp: Number) -> Told {
    let Some(number) = timestamp.0 else { return Told::Nothing };
    let milliseconds = if number.abs() < SECONDS_BELOW { number * 1e3 } else { number };
    // A float beyond i64 saturates and is refused as implausible later.
    Told::Time(Timestamp(milliseconds as i64))
}
