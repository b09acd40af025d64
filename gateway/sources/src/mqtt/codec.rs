//! Bytes of a connection to packets, and what we say to bytes.
//!
//! Frames are cut here, because a PUBLISH is the hot path and an oversized one must be skipped, not refused. CONNECT,
//! CONNACK, SUBSCRIBE, PINGREQ and DISCONNECT are left to rumqttc's codec. Nothing here survives a crash, and nothing
//! here counts.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kerbside_model::ByteText;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::{MqttConfig, MqttVersion};

/// A packet other than PUBLISH that is longer than this is taken for garbage: a SUBACK of 60,000 filters still fits.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// More than the longest packet that we send: SUBSCRIBE with all filters that the constructor accepts.
const SENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The packet id of our only SUBSCRIBE on a connection.
const SUBSCRIBE_ID: u16 = 1;

/// Packet types in the high half of the first byte (MQTT 3.1.1 and 5, section 2.1).
mod packet_type {
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const SUBACK: u8 = 9;
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
    #[error("a {packet} cannot be read: {problem}")]
    Control { packet: &'static str, problem: String },
}

/// What the broker says.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    ConnAck(ConnAck),
    SubAck(Vec<Grant>),
    Publish(Publish),
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
    /// MQTT 5: the keep-alive that holds instead of ours, seconds.
    pub(super) server_keep_alive: Option<u16>,
}

/// The broker's answer to one topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// At this QoS.
    Granted(u8),
    /// Not at all, and why.
    Refused(&'static str),
}

/// One message.
#[derive(Debug, PartialEq)]
pub(super) struct Publish {
    pub(super) topic: ByteText,
    pub(super) payload: Bytes,
    pub(super) delivery: Delivery,
    pub(super) retained: bool,
    pub(super) redelivered: bool,
}

/// A message that is longer than the limit, without its payload.
#[derive(Debug, PartialEq)]
pub(super) struct Oversize {
    pub(super) topic: ByteText,
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
    skipping: Option<(usize, Oversize)>,
}

impl Decoder {
    pub(super) fn new(version: MqttVersion, packet_bytes_max: usize) -> Decoder {
        Decoder { version, packet_bytes_max, skipping: None }
    }

    /// The next whole packet in `buffer`, which it takes out; `None` when more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, CodecError> {
        if self.skipping.is_some() {
            return Ok(self.skip(buffer));
        }
        let Some(header) = fixed_header(buffer)? else { return Ok(None) };
        let packet_type = header.first >> 4;
        if packet_type == packet_type::PUBLISH && header.remaining > self.packet_bytes_max {
            return self.begin_skip(header, buffer);
        }
        if packet_type != packet_type::PUBLISH && header.remaining > CONTROL_BYTES_MAX {
            return Err(CodecError::TooLong { packet_type, bytes: header.remaining });
        }
        let whole = header.header_bytes + header.remaining;
        if buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            return Ok(None);
        }
        let packet = buffer.split_to(whole);
        match packet_type {
            packet_type::PUBLISH => self.publish(header, packet.freeze()).map(Incoming::Publish),
            packet_type::CONNACK => self.conn_ack(&packet[header.header_bytes..], packet.clone()),
            packet_type::SUBACK => self.sub_ack(&packet[header.header_bytes..]),
            packet_type::PUBREL => {
                let id = read_u16(&packet[header.header_bytes..], 0).ok_or(CodecError::Short("PUBREL"))?;
                Ok(Incoming::PubRel(id))
            }
            packet_type::PINGRESP => Ok(Incoming::PingResp),
            packet_type::DISCONNECT => Ok(disconnect(&packet[header.header_bytes..], packet.clone())),
            other => Err(CodecError::Unexpected(other)),
        }
        .map(Some)
    }

    fn begin_skip(&mut self, header: FixedHeader, buffer: &mut BytesMut) -> Result<Option<Incoming>, CodecError> {
        let available = &buffer[header.header_bytes..];
        let available = &available[..available.len().min(header.remaining)];
        let Some(head) = publish_head(header.first, available)? else {
            let is_whole = available.len() == header.remaining;
            return if is_whole { Err(CodecError::Short("PUBLISH")) } else { Ok(None) };
        };
        let topic = String::from_utf8_lossy(&available[2..2 + head.topic_bytes]).into_owned();
        let oversize = Oversize { topic: ByteText::from(topic), delivery: head.delivery, bytes: header.remaining };
        self.skipping = Some((header.header_bytes + header.remaining, oversize));
        Ok(self.skip(buffer))
    }

    /// Drops bytes of an oversized message; tells of it when its last byte is gone.
    fn skip(&mut self, buffer: &mut BytesMut) -> Option<Incoming> {
        let (left, oversize) = self.skipping.take()?;
        let dropped = left.min(buffer.len());
        buffer.advance(dropped);
        if dropped < left {
            self.skipping = Some((left - dropped, oversize));
            return None;
        }
        Some(Incoming::Oversize(oversize))
    }

    fn publish(&self, header: FixedHeader, mut packet: Bytes) -> Result<Publish, CodecError> {
        packet.advance(header.header_bytes);
        let head = publish_head(header.first, &packet)?.ok_or(CodecError::Short("PUBLISH"))?;
        let topic = readable(&packet, 2..2 + head.topic_bytes);
        let mut payload_at = head.bytes;
        if self.version == MqttVersion::V5 {
            payload_at += properties_bytes(&packet[payload_at..], "PUBLISH")?;
        }
        packet.advance(payload_at);
        Ok(Publish {
            topic,
            payload: packet,
            delivery: head.delivery,
            retained: header.first & 0b0001 != 0,
            redelivered: header.first & 0b1000 != 0,
        })
    }

    fn conn_ack(&self, body: &[u8], mut packet: BytesMut) -> Result<Incoming, CodecError> {
        let [flags, code, ..] = body else { return Err(CodecError::Short("CONNACK")) };
        let session_present = flags & 1 == 1;
        let unreadable = |problem: String| CodecError::Control { packet: "CONNACK", problem };
        let mut server_keep_alive = None;
        let refusal = match self.version {
            MqttVersion::V311 => match v4::Packet::read(&mut packet, CONTROL_BYTES_MAX) {
                Ok(v4::Packet::ConnAck(ack)) => {
                    (ack.code != v4::ConnectReturnCode::Success).then(|| words(&format!("{:?}", ack.code)))
                }
                Ok(_) => unreachable!("the packet type was looked at"),
                Err(_) => Some(format!("return code {code}")),
            },
            // Brokers that only know MQTT 3 answer with a CONNACK of MQTT 3: two bytes and no properties.
            MqttVersion::V5 if body.len() == 2 && *code == 1 => Some("it does not speak MQTT 5".to_owned()),
            MqttVersion::V5 if body.len() == 2 => (*code != 0).then(|| format!("reason code {code}")),
            MqttVersion::V5 => match v5::Packet::read(&mut packet, None) {
                Ok(v5::Packet::ConnAck(ack)) => {
                    let properties = ack.properties.as_ref();
                    server_keep_alive = properties.and_then(|properties| properties.server_keep_alive);
                    let reason = properties.and_then(|properties| properties.reason_string.as_deref());
                    (ack.code != v5::ConnectReturnCode::Success)
                        .then(|| with_reason(&format!("{:?}", ack.code), reason))
                }
                Ok(_) => unreachable!("the packet type was looked at"),
                Err(_) if *code != 0 => Some(format!("reason code {code}")),
                Err(error) => return Err(unreadable(error.to_string())),
            },
        };
        Ok(Incoming::ConnAck(ConnAck { session_present, refusal, server_keep_alive }))
    }

    fn sub_ack(&self, body: &[u8]) -> Result<Incoming, CodecError> {
        let mut codes_at = 2;
        if self.version == MqttVersion::V5 {
            codes_at += properties_bytes(body.get(2..).unwrap_or_default(), "SUBACK")?;
        }
        let codes = body.get(codes_at..).filter(|codes| !codes.is_empty()).ok_or(CodecError::Short("SUBACK"))?;
        Ok(Incoming::SubAck(codes.iter().map(|code| grant(*code)).collect()))
    }
}

/// Appends our CONNECT: a session that lives on, and for MQTT 5 how many unacknowledged messages we take.
///
/// A maximum packet size is not asked for: the broker would drop longer messages in silence, and we count them.
pub(super) fn put_connect(config: &MqttConfig, out: &mut BytesMut) {
    let keep_alive = u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let username = config.username.clone().unwrap_or_default();
    let password = config.password.as_ref().map(|password| password.expose().to_owned()).unwrap_or_default();
    let written = match config.version {
        MqttVersion::V311 => {
            let mut connect = v4::Connect::new(&config.client_id);
            connect.keep_alive = keep_alive;
            connect.clean_session = false;
            connect.login = Some(v4::Login { username, password });
            v4::Packet::Connect(connect).write(out, SENT_BYTES_MAX).is_ok()
        }
        MqttVersion::V5 => {
            let session_expiry = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = Some(session_expiry);
            properties.receive_maximum = Some(config.receive_maximum);
            properties.topic_alias_max = Some(0);
            let connect = v5::Connect {
                keep_alive,
                client_id: config.client_id.clone(),
                clean_start: false,
                properties: Some(properties),
            };
            let login = Some(v5::Login { username, password });
            v5::Packet::Connect(connect, None, login).write(out, None).is_ok()
        }
    };
    assert!(written, "the lengths of the configuration were checked by the constructor");
}

/// Appends our one SUBSCRIBE with every filter.
///
/// With MQTT 5 the broker sends retained messages only for a subscription that is new, not at every reconnect.
pub(super) fn put_subscribe(config: &MqttConfig, out: &mut BytesMut) {
    let written = match config.version {
        MqttVersion::V311 => {
            let filter = |topic: &super::TopicFilter| {
                let qos = if topic.qos == 0 { rumqttc::QoS::AtMostOnce } else { rumqttc::QoS::AtLeastOnce };
                v4::SubscribeFilter::new(topic.filter.clone(), qos)
            };
            let mut subscribe = v4::Subscribe::new_many(config.topics.iter().map(filter));
            subscribe.pkid = SUBSCRIBE_ID;
            v4::Packet::Subscribe(subscribe).write(out, SENT_BYTES_MAX).is_ok()
        }
        MqttVersion::V5 => {
            use rumqttc::v5::mqttbytes::QoS;
            let filter = |topic: &super::TopicFilter| {
                let qos = if topic.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                let mut filter = v5::Filter::new(topic.filter.clone(), qos);
                filter.retain_forward_rule = v5::RetainForwardRule::OnNewSubscribe;
                filter
            };
            let mut subscribe = v5::Subscribe::new_many(config.topics.iter().map(filter), None);
            subscribe.pkid = SUBSCRIBE_ID;
            v5::Packet::Subscribe(subscribe).write(out, None).is_ok()
        }
    };
    assert!(written, "the lengths of the configuration were checked by the constructor");
}

/// Appends a PINGREQ, the same in both versions.
pub(super) fn put_ping(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// Appends a DISCONNECT: a normal end, the same in both versions.
pub(super) fn put_disconnect(out: &mut BytesMut) {
    out.put_slice(&[0xE0, 0]);
}

/// Appends a PUBCOMP, the same in both versions.
pub(super) fn put_pubcomp(packet_id: u16, out: &mut BytesMut) {
    out.put_u32(0x7002_0000 | u32::from(packet_id));
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
fn variable_integer(bytes: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
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
    if topic_bytes == 0 {
        return Err(CodecError::Publish("no topic, only an alias that we did not allow"));
    }
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

/// How many bytes the properties of MQTT 5 take, with their length.
fn properties_bytes(bytes: &[u8], packet: &'static str) -> Result<usize, CodecError> {
    let (length, length_bytes) = variable_integer(bytes)?.ok_or(CodecError::Short(packet))?;
    let whole = length + length_bytes;
    if whole > bytes.len() { Err(CodecError::Short(packet)) } else { Ok(whole) }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// A topic that is not UTF-8 breaks the standard, but a refused one would come again for ever: it is made readable.
fn readable(packet: &Bytes, topic: Range<usize>) -> ByteText {
    match ByteText::from_utf8(packet.slice(topic.clone())) {
        Ok(text) => text,
        Err(_) => ByteText::from(String::from_utf8_lossy(&packet[topic]).into_owned()),
    }
}

/// Reason codes of SUBACK (MQTT 3.1.1 section 3.9.3, MQTT 5 section 3.9.3).
fn grant(code: u8) -> Grant {
    match code {
        0..=2 => Grant::Granted(code),
        0x83 => Grant::Refused("implementation specific error"),
        0x87 => Grant::Refused("not authorized"),
        0x8F => Grant::Refused("topic filter invalid"),
        0x91 => Grant::Refused("packet identifier in use"),
        0x97 => Grant::Refused("quota exceeded"),
        0x9E => Grant::Refused("shared subscriptions not supported"),
        0xA1 => Grant::Refused("subscription identifiers not supported"),
        0xA2 => Grant::Refused("wildcard subscriptions not supported"),
        _ => Grant::Refused("refused without a reason"),
    }
}

fn disconnect(body: &[u8], mut packet: BytesMut) -> Incoming {
    let code = body.first().copied().unwrap_or(0);
    let name = match v5::DisconnectReasonCode::try_from(code) {
        Ok(reason) => format!("{reason:?}"),
        Err(_) => format!("reason code {code}"),
    };
    // A DISCONNECT of one byte or none has no properties, and rumqttc's codec does not read it.
    let properties = match v5::Packet::read(&mut packet, None) {
        Ok(v5::Packet::Disconnect(disconnect)) if body.len() > 1 => disconnect.properties,
        _ => None,
    };
    Incoming::Disconnect(with_reason(&name, properties.and_then(|properties| properties.reason_string).as_deref()))
}

fn with_reason(name: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{} ({reason})", words(name)),
        None => words(name),
    }
}

/// The name of a code as words: `BadUserNamePassword` gives `bad user name password`.
fn words(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.replace("QoS", "Qos").chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64;

    fn everything(version: MqttVersion, pieces: &[&[u8]]) -> Result<Vec<Incoming>, CodecError> {
        let mut decoder = Decoder::new(version, MAX);
        let mut buffer = BytesMut::new();
        let mut packets = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(packet) = decoder.next(&mut buffer)? {
                packets.push(packet);
            }
        }
        assert!(buffer.is_empty(), "{} bytes are left", buffer.len());
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
            assert!(matches!(&whole[2], Incoming::Publish(publish) if &publish.payload[..] == b"ab"));
            assert!(matches!(&whole[3], Incoming::Publish(publish) if publish.payload.is_empty()));
            assert!(matches!(&whole[4], Incoming::Oversize(oversize)
                if oversize.delivery == Delivery::Acknowledged(6) && oversize.bytes == 80 && &*oversize.topic == "t"));
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
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut packets = 0;
            while let Ok(Some(_)) = decoder.next(&mut buffer) {
                packets += 1;
                assert!(packets <= bytes.len(), "a packet takes at least one byte");
            }
        }
    }

    #[test]
    fn garbage_is_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"\x30\xff\xff\xff\xff\x01", "the length of a packet has more than four bytes"),
            (b"\x30\x02\x00\x00", "a message has no topic, only an alias that we did not allow"),
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
    fn a_topic_that_is_not_utf_8_is_made_readable() {
        let packets = everything(MqttVersion::V311, &[b"\x30\x05\x00\x02a\xffx"]).unwrap();
        assert!(matches!(&packets[0], Incoming::Publish(publish) if &*publish.topic == "a\u{fffd}"));
    }
}
