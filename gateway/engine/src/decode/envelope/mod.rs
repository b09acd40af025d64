//! Opens what a network server wraps around the bytes of a device, before the profile sees anything.
//!
//! Turns topic and payload of a message into an [`Uplink`], or into the kind of event that it is instead. Fields that a
//! server leaves out because they are zero have their zero. Pure: nothing is kept, nothing survives a crash; the engine
//! counts what is ignored (`kerbside_frames_ignored_total`).

mod auto;
mod chirpstack;
mod ctwing;
mod lenient;
mod nbiot;
mod sparkplug;
#[cfg(test)]
mod tests;
mod ttn;

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kerbside_model::{EnvelopeFormat, IgnoredEvent, LinkQuality, PayloadView, Timestamp};
use serde::Deserialize;

use self::lenient::Seen;
pub(crate) use self::sparkplug::dead;
use super::{Message, Told};

/// A device has at most so many names in one envelope.
const NAMES_MAX: usize = 3;
/// Longer names are nobody's: the longest real one, an identifier of The Things Stack, has 36.
const NAME_BYTES_MAX: usize = 128;
/// A DevEUI has eight bytes (LoRaWAN 1.0.4, section 6.1.1.2).
const DEV_EUI_BYTES: usize = 8;

/// Some servers leave the padding away.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// What an envelope holds.
#[derive(Debug)]
pub enum Opened<'a> {
    /// A message of a device.
    Uplink(Box<Uplink<'a>>),
    /// Something else of the network server.
    Ignored(IgnoredEvent),
    /// It is not wrapped: the message is what the device sent. Only where the envelope is to be found.
    Bare,
}

/// A message of a device, out of its envelope.
#[derive(Debug, Default)]
pub struct Uplink<'a> {
    names: [Option<Cow<'a, str>>; NAMES_MAX],
    /// LoRaWAN port (FPort); `None` where the envelope knows no ports.
    pub port: Option<u8>,
    /// The device's own bytes; empty when only the decoded object came.
    pub bytes: Cow<'a, [u8]>,
    /// What the server decoded, as the text of a JSON object.
    pub object: Option<Cow<'a, str>>,
    /// When the network had it. It is not the device's clock.
    pub network_time: Told,
    /// How it came.
    pub link: LinkQuality,
    /// Whether the device asked for an acknowledgement.
    pub confirmed: bool,
    /// See [`Message::is_whole`].
    pub is_whole: bool,
    /// Names the session in which the frame counter counts; 0 when the envelope names none.
    session: u16,
}

impl<'a> Uplink<'a> {
    /// What the envelope calls the device, the name that the inventory should have first: DevEUI or IMEI, then others.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(Cow::as_ref)
    }

    /// What the device sent, as decoders take it.
    pub fn message(&self, received_at: Timestamp) -> Message<'_> {
        Message {
            payload: PayloadView::Bytes(&self.bytes),
            object: self.object.as_deref(),
            port: self.port,
            link: Some(self.link),
            network_time: self.network_time,
            is_whole: self.is_whole,
            received_at,
        }
    }

    /// The number of the uplink and the session in which it counts, where the network counts uplinks.
    pub(crate) fn counted(&self) -> Option<(u16, u32)> {
        Some((self.session, self.link.frame_counter?))
    }

    /// A hash by which the same uplink is known, whoever hands it over: session, counter, port and content.
    pub(crate) fn identity(&self) -> u64 {
        let mut hasher = rustc_hash::FxHasher::default();
        (self.session, self.link.frame_counter, self.port).hash(&mut hasher);
        match (&self.object, self.bytes.is_empty()) {
            (Some(object), true) => hasher.write(object.as_bytes()),
            _ => hasher.write(&self.bytes),
        }
        hasher.finish()
    }

    /// Adds a name of the device, when it is one.
    fn name(&mut self, name: Option<Cow<'a, str>>) {
        let Some(name) = name.filter(|name| name.len() <= NAME_BYTES_MAX) else { return };
        if let Some(free) = self.names.iter_mut().find(|known| known.is_none()) {
            *free = Some(name);
        }
    }

    /// Ties the frame counter to a session: after a join it begins anew.
    fn in_session(&mut self, session: Option<&str>) {
        let Some(session) = session else { return };
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write(session.as_bytes());
        self.session = ((hasher.finish() >> 48) as u16).max(1);
    }
}

/// Opens an envelope. The error says what is wrong, and what to do about it, in a sentence.
pub fn open<'a>(format: EnvelopeFormat, topic: &[u8], payload: &'a [u8]) -> Result<Opened<'a>, String> {
    match format {
        EnvelopeFormat::ChirpStackV4 => chirpstack::open(chirpstack::Version::V4, topic, payload),
        EnvelopeFormat::ChirpStackV3 => chirpstack::open(chirpstack::Version::V3, topic, payload),
        EnvelopeFormat::TtnV3 => ttn::open(payload),
        EnvelopeFormat::CtWing => ctwing::open(payload),
        EnvelopeFormat::NbIotTlv => nbiot::open(payload),
        EnvelopeFormat::SparkplugB => sparkplug::open(topic, payload),
        EnvelopeFormat::Auto => {
            let Some(found) = format_of(payload)? else { return Ok(Opened::Bare) };
            let opened = open(found, topic, payload)
                .map_err(|error| format!("taken for {} by its members: {error}", found.name()))?;
            let is_event = matches!(opened, Opened::Ignored(_));
            // A device may copy the members of its server's messages into its own, and an alarm must not be left as an event.
            let is_copied = is_event && chirpstack::is_event(found) && !chirpstack::has_topic_of_device(topic);
            Ok(if is_copied { Opened::Bare } else { opened })
        }
    }
}

/// The envelope that a message comes in, by what it is; `None` for one that is not wrapped. The error says why it could
/// be either of two.
pub fn format_of(payload: &[u8]) -> Result<Option<EnvelopeFormat>, String> {
    auto::format_of(payload)
}

/// An uplink in which something stands; else the network made it itself.
fn finish(uplink: Uplink<'_>) -> Result<Opened<'_>, String> {
    if uplink.names().next().is_none() {
        return Err(format!("the envelope names its device with more than {NAME_BYTES_MAX} bytes"));
    }
    let has_object = uplink.object.as_ref().is_some_and(|object| !is_empty_object(object));
    if uplink.bytes.is_empty() && !has_object {
        return Ok(Opened::Ignored(IgnoredEvent::Empty));
    }
    Ok(Opened::Uplink(Box::new(uplink)))
}

fn is_empty_object(object: &str) -> bool {
    object.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"{}")
}

/// Reads the JSON of an envelope. `protobuf_mend` says how its server is told to send JSON.
fn read<'a, T: Deserialize<'a>>(payload: &'a [u8], server: &str, protobuf_mend: &str) -> Result<T, String> {
    let Some(first) = payload.first() else { return Err(format!("no envelope of {server}: the message is empty")) };
    if payload.trim_ascii_start().first() != Some(&b'{') {
        // Protobuf mostly begins with 0x0a, which JSON would take for the end of an empty line.
        return Err(format!(
            "no envelope of {server}: it begins with the byte {first:#04x} and JSON with {{; {protobuf_mend}"
        ));
    }
    serde_json::from_slice(payload).map_err(|error| format!("no envelope of {server}: not valid JSON: {error}"))
}

/// What to say of an envelope that lacks what each one of its format has.
fn lacks(payload: &[u8], format: EnvelopeFormat, what: &str) -> String {
    let other = looks_like(payload).filter(|other| *other != format);
    let mend =
        other.map_or_else(String::new, |other| format!("; this looks like {0}: write envelope: {0}", other.name()));
    format!("no envelope of the format {}: there is no {what}{mend}", format.name())
}

/// The members by which formats are told apart.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Marks {
    #[serde(rename = "deviceInfo")]
    chirpstack_v4: Seen,
    #[serde(rename = "devEUI")]
    chirpstack_v3: Seen,
    #[serde(rename = "end_device_ids")]
    ttn_v3: Seen,
    #[serde(rename = "messageType")]
    ctwing: Seen,
}

/// The format that a payload seems to have, for messages to people.
fn looks_like(payload: &[u8]) -> Option<EnvelopeFormat> {
    if nbiot::begins(payload) {
        return Some(EnvelopeFormat::NbIotTlv);
    }
    let marks: Marks = serde_json::from_slice(payload).ok()?;
    let known = [
        (marks.chirpstack_v4, EnvelopeFormat::ChirpStackV4),
        (marks.chirpstack_v3, EnvelopeFormat::ChirpStackV3),
        (marks.ttn_v3, EnvelopeFormat::TtnV3),
        (marks.ctwing, EnvelopeFormat::CtWing),
    ];
    known.into_iter().find(|(seen, _)| seen.0).map(|(_, format)| format)
}

/// Bytes in base64.
fn base64(key: &str, text: &str) -> Result<Vec<u8>, String> {
    let engine = if text.contains(['-', '_']) { &BASE64_URL } else { &BASE64 };
    engine.decode(text.trim()).map_err(|error| format!("{key} is not base64: {error}"))
}

/// A DevEUI in plain hexadecimal digits, also from base64 and from digits with something between them.
fn dev_eui(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_plain = text.len() == 2 * DEV_EUI_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_plain {
        return text;
    }
    let digits: String = text.chars().filter(|letter| !matches!(letter, '-' | ':' | ' ')).collect();
    if digits.len() == 2 * DEV_EUI_BYTES && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Cow::Owned(digits);
    }
    match base64("", &text) {
        Ok(bytes) if bytes.len() == DEV_EUI_BYTES => {
            Cow::Owned(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        _ => text,
    }
}

/// LoRa has the spreading factors 5 to 12.
fn spreading_factor(number: Option<f64>) -> Option<u8> {
    (5_u8..=12).find(|factor| Some(f64::from(*factor)) == number)
}
