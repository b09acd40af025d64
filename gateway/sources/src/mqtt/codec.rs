//! Bytes of a connection to packets.
//!
//! Packets are cut here, because a PUBLISH is the hot path and an oversized one must be skipped, not refused. A topic
//! alias is resolved at once; properties are walked where they lie. Nothing here survives a connection, and nothing here
//! counts.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use kerbside_model::FrameFlags;

use super::MqttVersion;
use super::aliases::Aliases;
use super::properties::{Properties, Value, id};
use super::reason::{connect_return, reason};

/// A packet other than PUBLISH that is longer than this is taken for garbage: a SUBACK of 60,000 filters still fits.
const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// Packet types in the high half of the first byte (MQTT 3.1.1 and 5, section 2.1).
mod packet_type {
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const SUBACK: u8 = 9;
    pub(super) const UNSUBACK: u8 = 11;
    pub(super) const PINGRESP: u8 = 13;
    pub(super) const DISCONNECT: u8 = 14;
}

/// The broker's bytes are not MQTT as we speak it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("the length of a packet has more than four bytes")]
    Length,
    #[error("a {0} ends too early")]
    Short(&'static str),
    #[error("a packet of type {packet_type} is {bytes} bytes long")]
    TooLong { packet_type: u8, bytes: usize },
    #[error("a packet of type {0} is not for a subscriber")]
    Unexpected(u8),
    #[error("a message has {0}")]
    Publish(&'static str),
    #[error("a {packet} makes no sense: {problem}")]
    Control { packet: &'static str, problem: String },
    #[error("a {packet} has a property {id:#04x}, which MQTT 5 does not know")]
    Property { packet: &'static str, id: u8 },
    #[error("a message has the topic alias {0}, which we did not allow")]
    Alias(u16),
    #[error("a message has the topic alias {0}, which nobody explained")]
    UnknownAlias(u16),
}

impl CodecError {
    /// Why we leave, for the broker (MQTT 5, section 4.13).
    pub(super) fn reason(&self) -> u8 {
        match self {
            CodecError::Length | CodecError::Short(_) | CodecError::Publish(_) | CodecError::Property { .. } => 0x81,
            CodecError::Unexpected(_) | CodecError::Control { .. } | CodecError::UnknownAlias(_) => 0x82,
            CodecError::Alias(_) => 0x94,
            CodecError::TooLong { .. } => 0x95,
        }
    }
}

/// What the broker says.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming<'a> {
    ConnAck(ConnAck),
    SubAck(u16, Vec<Grant>),
    /// The filters that the broker did not give up, by their position in the packet, with its reasons.
    UnsubAck(u16, Vec<(usize, String)>),
    Publish(Publish<'a>),
    /// A message that was skipped.
    Oversize(Oversize),
    /// The third step of a QoS 2 handshake.
    PubRel(u16),
    PingResp,
    /// MQTT 5 only: why the broker closes the connection.
    Disconnect(String),
}

/// The broker's answer to CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConnAck {
    pub(super) session_present: bool,
    /// Why it does not want us.
    pub(super) refusal: Option<String>,
    /// MQTT 5: what holds at this broker.
    pub(super) terms: Terms,
}

/// What an MQTT 5 broker says of itself in CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// The keep-alive that holds instead of ours, seconds.
    pub(super) keep_alive: Option<u32>,
    /// How long it keeps our session instead of what we asked for, seconds.
    pub(super) session_expiry: Option<u32>,
    /// The longest packet that it takes, bytes.
    pub(super) packet_bytes_max: Option<u32>,
    /// A name that it gave our session although we have one.
    pub(super) client_id: Option<String>,
    pub(super) has_shared_subscriptions: bool,
    pub(super) has_wildcards: bool,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            keep_alive: None,
            session_expiry: None,
            packet_bytes_max: None,
            client_id: None,
            // What is not said is there (MQTT 5, sections 3.2.2.3.11 and 13).
            has_shared_subscriptions: true,
            has_wildcards: true,
        }
    }
}

/// The broker's answer to one topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// At this QoS.
    Granted(u8),
    /// Not at all, and why.
    Refused(String),
}

/// One message.
#[derive(Debug, PartialEq)]
pub(super) struct Publish<'a> {
    pub(super) topic: Topic<'a>,
    /// Properties of MQTT 5 without their length, walked once; often empty.
    pub(super) properties: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) delivery: Delivery,
    pub(super) flags: FrameFlags,
}

/// The topic of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Topic<'a> {
    /// Made readable: one that is not UTF-8 breaks the standard, but a refused one would come again for ever.
    Sent(Cow<'a, str>),
    /// What its alias stands for.
    Remembered(Arc<str>),
}

impl Deref for Topic<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Topic::Sent(topic) => topic,
            Topic::Remembered(topic) => topic,
        }
    }
}

/// A message that is longer than the limit, without its payload.
#[derive(Debug, PartialEq)]
pub(super) struct Oversize {
    pub(super) topic: String,
    pub(super) delivery: Delivery,
    /// Length of the packet's variable header and payload.
    pub(super) bytes: usize,
}

/// How a message is delivered, with its packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// QoS 0.
    Unacknowledged,
    /// QoS 1.
    Acknowledged(u16),
    /// QoS 2.
    Handshake(u16),
}

/// The first bytes of every packet.
#[derive(Clone, Copy)]
struct FixedHeader {
    first: u8,
    header_bytes: usize,
    remaining: usize,
}

/// What the variable header of a PUBLISH says.
struct PublishHead {
    topic_bytes: usize,
    delivery: Delivery,
    /// Where properties (MQTT 5) or payload begin.
    bytes: usize,
}

/// Cuts the bytes of one connection into packets.
#[derive(Debug)]
pub(super) struct Decoder {
    version: MqttVersion,
    packet_bytes_max: usize,
    aliases: Aliases,
    skipping: Option<(usize, Oversize)>,
}

impl Decoder {
    pub(super) fn new(version: MqttVersion, packet_bytes_max: usize) -> Decoder {
        Decoder { version, packet_bytes_max, aliases: Aliases::default(), skipping: None }
    }

    /// The next whole packet in `bytes`, which it moves behind it; `None` when more bytes are needed.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Incoming<'a>>, CodecError> {
        if self.skipping.is_some() {
            return Ok(self.skip(bytes));
        }
        let Some(header) = fixed_header(bytes)? else { return Ok(None) };
        let packet_type = header.first >> 4;
        if packet_type == packet_type::PUBLISH && header.remaining > self.packet_bytes_max {
            return self.begin_skip(header, bytes);
        }
        if packet_type != packet_type::PUBLISH && header.remaining > CONTROL_BYTES_MAX {
            return Err(CodecError::TooLong { packet_type, bytes: header.remaining });
        }
        let whole = header.header_bytes + header.remaining;
        let Some((packet, rest)) = bytes.split_at_checked(whole) else { return Ok(None) };
        *bytes = rest;
        let body = &packet[header.header_bytes..];
        match packet_type {
            packet_type::PUBLISH => self.publish(header, body).map(Incoming::Publish),
            packet_type::CONNACK => self.conn_ack(body),
            packet_type::SUBACK => self.sub_ack(body),
            packet_type::UNSUBACK => self.unsub_ack(body),
            packet_type::PUBREL => read_u16(body, 0).map(Incoming::PubRel).ok_or(CodecError::Short("PUBREL")),
            packet_type::PINGRESP => Ok(Incoming::PingResp),
            packet_type::DISCONNECT => Ok(disconnect(body)),
            other => Err(CodecError::Unexpected(other)),
        }
        .map(Some)
    }

    fn begin_skip<'a>(
        &mut self,
        header: FixedHeader,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Incoming<'a>>, CodecError> {
        let available = &bytes[header.header_bytes..];
        let available = &available[..available.len().min(header.remaining)];
        let Some(head) = publish_head(header.first, available)? else {
            let is_whole = available.len() == header.remaining;
            return if is_whole { Err(CodecError::Short("PUBLISH")) } else { Ok(None) };
        };
        let mut properties: &[u8] = &[];
        if self.version == MqttVersion::V5 {
            // An alias in there may be needed later, unless it would take more memory than a message may. No more than
            // that is looked at, even where more is there: how the network cuts the bytes shall change nothing.
            let looked_at = available.len().min(self.packet_bytes_max.max(head.bytes));
            match section(&available[head.bytes..looked_at])? {
                Some((found, _)) => properties = found,
                None if available.len() < header.remaining.min(self.packet_bytes_max) => return Ok(None),
                None => {}
            }
        }
        let topic = self.topic(&available[2..2 + head.topic_bytes], properties)?.to_owned();
        let oversize = Oversize { topic, delivery: head.delivery, bytes: header.remaining };
        self.skipping = Some((header.header_bytes + header.remaining, oversize));
        Ok(self.skip(bytes))
    }

    /// Drops bytes of an oversized message; tells of it when its last byte is gone.
    fn skip(&mut self, bytes: &mut &[u8]) -> Option<Incoming<'static>> {
        let (left, oversize) = self.skipping.take()?;
        let dropped = left.min(bytes.len());
        *bytes = &bytes[dropped..];
        if dropped < left {
            self.skipping = Some((left - dropped, oversize));
            return None;
        }
        Some(Incoming::Oversize(oversize))
    }

    fn publish<'a>(&mut self, header: FixedHeader, body: &'a [u8]) -> Result<Publish<'a>, CodecError> {
        let head = publish_head(header.first, body)?.ok_or(CodecError::Short("PUBLISH"))?;
        let (properties, payload) = match self.version {
            MqttVersion::V311 => (&body[..0], &body[head.bytes..]),
            MqttVersion::V5 => section(&body[head.bytes..])?.ok_or(CodecError::Short("PUBLISH"))?,
        };
        Ok(Publish {
            topic: self.topic(&body[2..2 + head.topic_bytes], properties)?,
            properties,
            payload,
            delivery: head.delivery,
            flags: FrameFlags { retained: header.first & 0b0001 != 0, redelivered: header.first & 0b1000 != 0 },
        })
    }

    /// The topic as it was sent or as its alias says; an alias that comes with a topic is remembered.
    fn topic<'a>(&mut self, sent: &'a [u8], properties: &[u8]) -> Result<Topic<'a>, CodecError> {
        let topic = Topic::Sent(match std::str::from_utf8(sent) {
            Ok(topic) => Cow::Borrowed(topic),
            Err(_) => String::from_utf8_lossy(sent),
        });
        let alias = if properties.is_empty() { None } else { topic_alias(properties)? };
        match (sent.is_empty(), alias) {
            (false, None) => {}
            (false, Some(alias)) => self.aliases.set(alias, &topic)?,
            (true, Some(alias)) => return Ok(Topic::Remembered(self.aliases.get(alias)?)),
            (true, None) => return Err(CodecError::Publish("no topic")),
        }
        Ok(topic)
    }

    fn conn_ack(&self, body: &[u8]) -> Result<Incoming<'static>, CodecError> {
        let [flags, code, rest @ ..] = body else { return Err(CodecError::Short("CONNACK")) };
        let session_present = flags & 1 == 1;
        let mut terms = Terms::default();
        // Brokers that only know MQTT 3 answer with a CONNACK of MQTT 3: two bytes and no properties.
        let refusal = match self.version {
            MqttVersion::V311 => (*code != 0).then(|| connect_return(*code)),
            MqttVersion::V5 if rest.is_empty() && *code == 1 => Some("it does not speak MQTT 5".to_owned()),
            MqttVersion::V5 => {
                let remark = conn_ack_properties(rest, &mut terms);
                match (*code, remark) {
                    (0, Ok(_)) => None,
                    (0, Err(error)) => return Err(error),
                    (code, remark) => Some(with_remark(reason(code), remark.unwrap_or_default())),
                }
            }
        };
        Ok(Incoming::ConnAck(ConnAck { session_present, refusal, terms }))
    }

    fn sub_ack(&self, body: &[u8]) -> Result<Incoming<'static>, CodecError> {
        let (packet_id, remark, codes) = self.answers(body, "SUBACK")?;
        if codes.is_empty() {
            return Err(CodecError::Short("SUBACK"));
        }
        let grant = |code: &u8| match (code, self.version) {
            (0..=2, _) => Grant::Granted(*code),
            (_, MqttVersion::V311) => Grant::Refused("without a reason".to_owned()),
            (code, MqttVersion::V5) => Grant::Refused(with_remark(reason(*code), remark.clone())),
        };
        Ok(Incoming::SubAck(packet_id, codes.iter().map(grant).collect()))
    }

    fn unsub_ack(&self, body: &[u8]) -> Result<Incoming<'static>, CodecError> {
        let (packet_id, remark, codes) = self.answers(body, "UNSUBACK")?;
        let refused = codes.iter().enumerate().filter(|(_, code)| **code >= 0x80);
        let refused = refused.map(|(position, code)| (position, with_remark(reason(*code), remark.clone())));
        Ok(Incoming::UnsubAck(packet_id, refused.collect()))
    }

    /// Packet id, the broker's remark, and one code for each filter (none in an UNSUBACK of MQTT 3.1.1).
    fn answers<'a>(&self, body: &'a [u8], packet: &'static str) -> Result<(u16, Option<String>, &'a [u8]), CodecError> {
        let packet_id = read_u16(body, 0).ok_or(CodecError::Short(packet))?;
        match self.version {
            MqttVersion::V311 => Ok((packet_id, None, &body[2..])),
            MqttVersion::V5 => {
                let (properties, codes) = section(&body[2..])?.ok_or(CodecError::Short(packet))?;
                Ok((packet_id, remark(properties, packet)?, codes))
            }
        }
    }
}

/// The four bytes that acknowledge a message, the same in both versions (in MQTT 5 a success needs no reason code):
/// PUBACK, or PUBREC for QoS 2; `None` for QoS 0.
pub(super) fn acknowledgement(delivery: Delivery) -> Option<u32> {
    match delivery {
        Delivery::Unacknowledged => None,
        Delivery::Acknowledged(packet_id) => Some(0x4002_0000 | u32::from(packet_id)),
        Delivery::Handshake(packet_id) => Some(0x5002_0000 | u32::from(packet_id)),
    }
}

fn fixed_header(bytes: &[u8]) -> Result<Option<FixedHeader>, CodecError> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((remaining, length_bytes)) = variable_integer(rest)? else { return Ok(None) };
    Ok(Some(FixedHeader { first: *first, header_bytes: 1 + length_bytes, remaining }))
}

/// A number of at most four bytes of seven bits, and how many bytes it has; `None` when bytes are missing.
pub(super) fn variable_integer(bytes: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(CodecError::Length) }
}

fn publish_head(first: u8, bytes: &[u8]) -> Result<Option<PublishHead>, CodecError> {
    let Some(topic_bytes) = read_u16(bytes, 0).map(usize::from) else { return Ok(None) };
    let topic_end = 2 + topic_bytes;
    let qos = (first >> 1) & 0b11;
    if qos == 0 {
        let is_whole = bytes.len() >= topic_end;
        return Ok(is_whole.then_some(PublishHead {
            topic_bytes,
            delivery: Delivery::Unacknowledged,
            bytes: topic_end,
        }));
    }
    let Some(packet_id) = read_u16(bytes, topic_end) else { return Ok(None) };
    let delivery = match (qos, packet_id) {
        (_, 0) => return Err(CodecError::Publish("the packet id 0")),
        (1, packet_id) => Delivery::Acknowledged(packet_id),
        (2, packet_id) => Delivery::Handshake(packet_id),
        _ => return Err(CodecError::Publish("the QoS 3")),
    };
    Ok(Some(PublishHead { topic_bytes, delivery, bytes: topic_end + 2 }))
}

/// Properties, and what follows them.
type Section<'a> = (&'a [u8], &'a [u8]);

/// Properties of MQTT 5 behind their length; `None` when bytes are missing.
fn section(bytes: &[u8]) -> Result<Option<Section<'_>>, CodecError> {
    let Some((length, length_bytes)) = variable_integer(bytes)? else { return Ok(None) };
    Ok(bytes[length_bytes..].split_at_checked(length))
}

/// The alias in the properties of a message, all of which are walked.
fn topic_alias(properties: &[u8]) -> Result<Option<u16>, CodecError> {
    let mut alias = None;
    let mut properties = Properties::new(properties, "PUBLISH");
    while let Some((found, value)) = properties.next()? {
        if let (id::TOPIC_ALIAS, Value::Number(number)) = (found, value) {
            alias = Some(u16::try_from(number).expect("the property has two bytes"));
        }
    }
    Ok(alias)
}

/// Takes the terms out of the end of a CONNACK, and gives what the broker remarks for people.
fn conn_ack_properties(bytes: &[u8], terms: &mut Terms) -> Result<Option<String>, CodecError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (properties, _) = section(bytes)?.ok_or(CodecError::Short("CONNACK"))?;
    let mut walk = Properties::new(properties, "CONNACK");
    while let Some((found, value)) = walk.next()? {
        match (found, value) {
            (id::SERVER_KEEP_ALIVE, Value::Number(seconds)) => terms.keep_alive = Some(seconds),
            (id::SESSION_EXPIRY, Value::Number(seconds)) => terms.session_expiry = Some(seconds),
            (id::MAXIMUM_PACKET_SIZE, Value::Number(bytes)) => terms.packet_bytes_max = Some(bytes),
            (id::ASSIGNED_CLIENT_ID, Value::Bytes(name)) => {
                terms.client_id = Some(String::from_utf8_lossy(name).into_owned());
            }
            (id::SHARED_AVAILABLE, Value::Number(flag)) => terms.has_shared_subscriptions = flag != 0,
            (id::WILDCARDS_AVAILABLE, Value::Number(flag)) => terms.has_wildcards = flag != 0,
            _ => {}
        }
    }
    remark(properties, "CONNACK")
}

/// What a broker says for people: its reason, and where else to go.
fn remark(properties: &[u8], packet: &'static str) -> Result<Option<String>, CodecError> {
    let mut remark: Option<String> = None;
    let mut properties = Properties::new(properties, packet);
    while let Some((found, value)) = properties.next()? {
        let text = match (found, value) {
            (id::REASON_STRING, Value::Bytes(text)) => String::from_utf8_lossy(text).into_owned(),
            (id::SERVER_REFERENCE, Value::Bytes(text)) => format!("to {}", String::from_utf8_lossy(text)),
            _ => continue,
        };
        remark = Some(match remark {
            Some(before) => format!("{before}, {text}"),
            None => text,
        });
    }
    Ok(remark)
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// A DISCONNECT of MQTT 5 may end after its code or before it.
fn disconnect(body: &[u8]) -> Incoming<'static> {
    let code = body.first().copied().unwrap_or(0);
    let properties = body.get(1..).and_then(|rest| section(rest).ok().flatten());
    let remark = properties.and_then(|(properties, _)| remark(properties, "DISCONNECT").ok().flatten());
    Incoming::Disconnect(with_remark(reason(code), remark))
}

fn with_remark(reason: String, remark: Option<String>) -> String {
    match remark {
        Some(remark) => format!("{reason} ({remark})"),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::aliases::TOPIC_ALIASES_MAX;

    const MAX: usize = 64;

    fn everything(version: MqttVersion, pieces: &[&[u8]]) -> Result<Vec<Incoming<'static>>, CodecError> {
        let mut decoder = Decoder::new(version, MAX);
        let mut left: &'static [u8] = &[];
        let mut packets = Vec::new();
        for piece in pieces {
            // Packets borrow their bytes, and these live as long as the test.
            left = [left, piece].concat().leak();
            while let Some(packet) = decoder.next(&mut left)? {
                packets.push(packet);
            }
        }
        assert!(left.is_empty(), "{} bytes are left", left.len());
        Ok(packets)
    }

    fn sample(version: MqttVersion) -> Vec<u8> {
        let mut bytes = Vec::new();
        match version {
            MqttVersion::V311 => {
                bytes.extend(b"\x20\x02\x01\x00\x90\x04\x00\x01\x01\x80\x32\x07\x00\x01t\x00\x05ab\x30\x03\x00\x01t");
                bytes.extend(b"\x32\x50\x00\x01t\x00\x06");
                bytes.extend([7; 75]);
            }
            MqttVersion::V5 => {
                bytes.extend(b"\x20\x03\x01\x00\x00\x90\x05\x00\x01\x00\x01\x87");
                bytes.extend(b"\x32\x0d\x00\x01t\x00\x05\x05\x02\x00\x00\x00\x09ab\x30\x04\x00\x01t\x00");
                bytes.extend(b"\x32\x50\x00\x01t\x00\x06\x00");
                bytes.extend([7; 74]);
            }
        }
        bytes.extend(b"\xd0\x00\x62\x02\x01\x02");
        bytes
    }

    #[test]
    fn packets_are_the_same_wherever_the_bytes_are_cut() {
        for version in [MqttVersion::V311, MqttVersion::V5] {
            let bytes = sample(version);
            let whole = everything(version, &[&bytes]).unwrap();
            assert_eq!(whole.len(), 7, "{whole:?}");
            assert!(matches!(&whole[2], Incoming::Publish(publish) if publish.payload == b"ab"));
            assert!(matches!(&whole[3], Incoming::Publish(publish) if publish.payload.is_empty()));
            assert!(matches!(&whole[4], Incoming::Oversize(oversize)
                if oversize.delivery == Delivery::Acknowledged(6) && oversize.bytes == 80 && oversize.topic == "t"));
            assert_eq!(whole[6], Incoming::PubRel(0x0102));
            for cut in 0..=bytes.len() {
                for second in cut..=bytes.len() {
                    let pieces = [&bytes[..cut], &bytes[cut..second], &bytes[second..]];
                    assert_eq!(everything(version, &pieces).as_ref(), Ok(&whole), "cut at {cut} and {second}");
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_stand_still() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..200_000 {
            let version = if round % 2 == 0 { MqttVersion::V311 } else { MqttVersion::V5 };
            let mut bytes = sample(version);
            for _ in 0..random.usize(1..6) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.drain(..random.usize(0..12));
            let mut decoder = Decoder::new(version, MAX);
            let mut left = &bytes[..];
            let mut packets = 0;
            while let Ok(Some(_)) = decoder.next(&mut left) {
                packets += 1;
                assert!(packets <= bytes.len(), "a packet takes at least one byte");
            }
        }
    }

    #[test]
    fn garbage_is_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"\x30\xff\xff\xff\xff\x01", "the length of a packet has more than four bytes"),
            (b"\x30\x02\x00\x00", "a message has no topic"),
            (b"\x32\x05\x00\x01t\x00\x00", "a message has the packet id 0"),
            (b"\x36\x05\x00\x01t\x00\x01", "a message has the QoS 3"),
            (b"\x30\x03\x00\x09t", "a PUBLISH ends too early"),
            (b"\x90\x02\x00\x01", "a SUBACK ends too early"),
            (b"\x20\x01\x00", "a CONNACK ends too early"),
            (b"\x10\x00", "a packet of type 1 is not for a subscriber"),
            (b"\x90\xff\xff\xff\x7f", "a packet of type 9 is 268435455 bytes long"),
        ];
        for (bytes, expected) in cases {
            let error = everything(MqttVersion::V311, &[bytes]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let too_short = everything(MqttVersion::V311, &[b"\x30\x60\x00\x70", &[b't'; 94]]).unwrap_err();
        assert_eq!(too_short, CodecError::Short("PUBLISH"), "an oversized message whose topic does not fit in it");
    }

    #[test]
    fn an_alias_stands_for_its_topic_from_its_first_message_on() {
        // Also when that one is too long and skipped, and when its end comes later.
        let mut first = b"\x32\x57\x00\x03t/1\x00\x05\x03\x23\x00\x09".to_vec();
        first.extend([7; 76]);
        let second = b"\x32\x09\x00\x00\x00\x06\x03\x23\x00\x09x";
        for cut in 0..first.len() {
            let packets = everything(MqttVersion::V5, &[&first[..cut], &first[cut..], second]).unwrap();
            assert!(matches!(&packets[0], Incoming::Oversize(oversize) if oversize.topic == "t/1"), "{packets:?}");
            assert!(matches!(&packets[1], Incoming::Publish(publish)
                if &*publish.topic == "t/1" && publish.payload == b"x" && publish.properties.len() == 3));
        }
    }

    #[test]
    fn a_bad_alias_is_refused_with_the_reason_that_mqtt_5_wants() {
        let [high, low] = (TOPIC_ALIASES_MAX + 1).to_be_bytes();
        for (alias, topic, expected, reason) in [
            ([0, 0], "t", "a message has the topic alias 0, which we did not allow", 0x94),
            ([high, low], "t", "a message has the topic alias 257, which we did not allow", 0x94),
            ([0, 5], "", "a message has the topic alias 5, which nobody explained", 0x82),
        ] {
            let mut bytes = vec![0x30, u8::try_from(6 + topic.len()).unwrap(), 0, u8::try_from(topic.len()).unwrap()];
            bytes.extend(topic.as_bytes());
            bytes.extend([3, 0x23, alias[0], alias[1]]);
            let error = everything(MqttVersion::V5, &[&bytes]).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.reason()), (expected, reason));
        }
    }

    #[test]
    fn a_connack_of_mqtt_5_tells_its_terms() {
        let bytes =
            b"\x20\x19\x01\x00\x16\x11\x00\x00\x00\x3c\x13\x00\x14\x27\x00\x00\x10\x00\x28\x00\x2a\x00\x12\x00\x02ab";
        let packets = everything(MqttVersion::V5, &[bytes]).unwrap();
        let terms = Terms {
            keep_alive: Some(20),
            session_expiry: Some(60),
            packet_bytes_max: Some(4_096),
            client_id: Some("ab".to_owned()),
            has_shared_subscriptions: false,
            has_wildcards: false,
        };
        assert_eq!(packets, [Incoming::ConnAck(ConnAck { session_present: true, refusal: None, terms })]);
    }

    #[test]
    fn refusals_are_told_in_words_with_the_remark_of_the_broker() {
        let packets = everything(MqttVersion::V5, &[b"\x90\x0b\x00\x01\x06\x1f\x00\x03out\x01\x97"]).unwrap();
        let grants = vec![Grant::Granted(1), Grant::Refused("quota exceeded (out)".to_owned())];
        assert_eq!(packets, [Incoming::SubAck(1, grants)]);
        let packets = everything(MqttVersion::V5, &[b"\xb0\x06\x00\x02\x00\x00\x11\x87"]).unwrap();
        assert_eq!(packets, [Incoming::UnsubAck(2, vec![(2, "not authorized".to_owned())])]);
        let packets = everything(MqttVersion::V311, &[b"\xb0\x02\x00\x02"]).unwrap();
        assert_eq!(packets, [Incoming::UnsubAck(2, Vec::new())]);
        let moved = everything(MqttVersion::V5, &[b"\xe0\x09\x9d\x07\x1c\x00\x04b:18"]).unwrap();
        assert_eq!(moved, [Incoming::Disconnect("server moved (to b:18)".to_owned())]);
    }

    #[test]
    fn a_topic_that_is_not_utf_8_is_made_readable() {
        let packets = everything(MqttVersion::V311, &[b"\x30\x05\x00\x02a\xffx"]).unwrap();
        assert!(matches!(&packets[0], Incoming::Publish(publish) if &*publish.topic == "a\u{fffd}"));
    }
}
