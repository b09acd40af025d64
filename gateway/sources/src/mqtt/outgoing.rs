//! What we say to a broker, as bytes. CONNECT, SUBSCRIBE and UNSUBSCRIBE go through rumqttc's packets of both versions.

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::aliases::TOPIC_ALIASES_MAX;
use super::credentials::Shown;
use super::{MqttConfig, MqttVersion, OversizePolicy, SessionKind, TopicFilter};

/// Far more than the longest packet that the constructor and the reconciler let through: 64 KiB of filters.
const SENT_BYTES_MAX: usize = 1024 * 1024;
/// A CONNECT of MQTT 5 whose maximum packet size leaves room for its fixed header.
const FIXED_HEADER_BYTES_MAX: usize = 5;

/// Appends our CONNECT: a session that lives on unless only a look is wanted, and for MQTT 5 what we take.
pub(super) fn put_connect(config: &MqttConfig, shown: &Shown, out: &mut BytesMut) {
    let keep_alive = u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let text = |secret: &Option<kerbside_runtime::Secret>| {
        secret.as_ref().map(|secret| secret.expose().to_owned()).unwrap_or_default()
    };
    let (username, password) = (text(&shown.username), text(&shown.password));
    let is_clean = config.session == SessionKind::Clean;
    let written = match config.version {
        MqttVersion::V311 => {
            let mut connect = v4::Connect::new(&config.client_id);
            connect.keep_alive = keep_alive;
            connect.clean_session = is_clean;
            connect.login = Some(v4::Login { username, password });
            v4::Packet::Connect(connect).write(out, SENT_BYTES_MAX).is_ok()
        }
        MqttVersion::V5 => {
            let connect = v5::Connect {
                keep_alive,
                client_id: config.client_id.clone(),
                clean_start: is_clean,
                properties: Some(connect_properties(config)),
            };
            let login = Some(v5::Login { username, password });
            v5::Packet::Connect(connect, None, login).write(out, None).is_ok()
        }
    };
    assert!(written, "the lengths of the configuration were checked by the constructor");
}

fn connect_properties(config: &MqttConfig) -> v5::ConnectProperties {
    let mut properties = v5::ConnectProperties::new();
    let kept = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
    properties.session_expiry_interval = Some(if config.session == SessionKind::Clean { 0 } else { kept });
    properties.receive_maximum = Some(config.receive_maximum);
    properties.topic_alias_max = Some(TOPIC_ALIASES_MAX);
    if config.oversize == OversizePolicy::Refuse {
        let bytes = config.packet_bytes_max.saturating_add(FIXED_HEADER_BYTES_MAX);
        properties.max_packet_size = Some(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
    properties
}

/// Appends a SUBSCRIBE.
///
/// With MQTT 5 the broker sends retained messages only for a subscription that is new.
pub(super) fn put_subscribe(version: MqttVersion, packet_id: u16, topics: &[&TopicFilter], out: &mut BytesMut) {
    let written = match version {
        MqttVersion::V311 => {
            let filter = |topic: &&TopicFilter| {
                let qos = if topic.qos == 0 { rumqttc::QoS::AtMostOnce } else { rumqttc::QoS::AtLeastOnce };
                v4::SubscribeFilter::new(topic.filter.clone(), qos)
            };
            let mut subscribe = v4::Subscribe::new_many(topics.iter().map(filter));
            subscribe.pkid = packet_id;
            v4::Packet::Subscribe(subscribe).write(out, SENT_BYTES_MAX).is_ok()
        }
        MqttVersion::V5 => {
            use rumqttc::v5::mqttbytes::QoS;
            let filter = |topic: &&TopicFilter| {
                let qos = if topic.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                let mut filter = v5::Filter::new(topic.filter.clone(), qos);
                filter.retain_forward_rule = v5::RetainForwardRule::OnNewSubscribe;
                filter
            };
            let mut subscribe = v5::Subscribe::new_many(topics.iter().map(filter), None);
            subscribe.pkid = packet_id;
            v5::Packet::Subscribe(subscribe).write(out, None).is_ok()
        }
    };
    assert!(written, "the reconciler keeps packets short");
}

/// Appends an UNSUBSCRIBE.
pub(super) fn put_unsubscribe(version: MqttVersion, packet_id: u16, filters: &[&str], out: &mut BytesMut) {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let written = match version {
        MqttVersion::V311 => {
            let unsubscribe = v4::Unsubscribe { pkid: packet_id, topics: filters };
            v4::Packet::Unsubscribe(unsubscribe).write(out, SENT_BYTES_MAX).is_ok()
        }
        MqttVersion::V5 => {
            let unsubscribe = v5::Unsubscribe { pkid: packet_id, filters, properties: None };
            v5::Packet::Unsubscribe(unsubscribe).write(out, None).is_ok()
        }
    };
    assert!(written, "the reconciler keeps packets short");
}

/// Appends a PUBLISH at QoS 0. Whether it is short enough for the broker is for the caller to know.
pub(super) fn put_publish(version: MqttVersion, topic: &str, payload: &[u8], out: &mut BytesMut) {
    let Ok(topic_bytes) = u16::try_from(topic.len()) else { return };
    let properties: &[u8] = if version == MqttVersion::V5 { &[0] } else { &[] };
    let mut length = 2 + topic.len() + properties.len() + payload.len();
    out.put_u8(0x30);
    while length >= 0x80 {
        out.put_u8((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_u16(topic_bytes);
    out.put_slice(topic.as_bytes());
    out.put_slice(properties);
    out.put_slice(payload);
}

/// Appends a PINGREQ, the same in both versions.
pub(super) fn put_ping(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// Appends a DISCONNECT. `reason` 0 is a normal end; MQTT 3.1.1 knows no other.
pub(super) fn put_disconnect(version: MqttVersion, reason: u8, out: &mut BytesMut) {
    match (version, reason) {
        (MqttVersion::V5, 1..) => out.put_slice(&[0xE0, 1, reason]),
        _ => out.put_slice(&[0xE0, 0]),
    }
}

/// Appends a PUBCOMP, the same in both versions.
pub(super) fn put_pubcomp(packet_id: u16, out: &mut BytesMut) {
    out.put_u32(0x7002_0000 | u32::from(packet_id));
}
