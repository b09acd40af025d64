//! A scripted stand-in for a broker, over raw sockets: it says exactly what a test tells it to say.

use std::time::Duration;

use bytes::BytesMut;
use kerbside_runtime::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::mqtt::MqttVersion;
use crate::mqtt::connect::Stream;

/// How long anything that must happen may take.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Waits for what must happen.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen in {DEADLINE:?}"),
    }
}

/// Waits until `state` gives something; `Err` is what it gives instead, told when it does not come to it.
pub(super) async fn until<T>(mut state: impl FnMut() -> Result<T, String>) -> T {
    let began = Clock::stamp();
    loop {
        match state() {
            Ok(value) => return value,
            Err(last) => assert!(began.elapsed() < DEADLINE, "after {DEADLINE:?} still: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) struct StandIn {
    listener: TcpListener,
    version: MqttVersion,
}

impl StandIn {
    pub(super) async fn new(version: MqttVersion) -> StandIn {
        StandIn { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), version }
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(super) async fn accept_tcp(&self) -> tokio::net::TcpStream {
        let (tcp, _) = soon("a connection", self.listener.accept()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// A connection of the source.
    pub(super) async fn accept(&self) -> Peer {
        Peer::new(Box::new(self.accept_tcp().await), self.version)
    }

    /// A connection that was accepted and whose one subscription was granted.
    pub(super) async fn accept_subscribed(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.greet().await;
        peer
    }
}

/// The source, seen from the broker.
pub(super) struct Peer {
    stream: Stream,
    buffer: BytesMut,
    version: MqttVersion,
}

impl Peer {
    pub(super) fn new(stream: Stream, version: MqttVersion) -> Peer {
        Peer { stream, buffer: BytesMut::new(), version }
    }

    pub(super) async fn greet(&mut self) {
        assert_eq!(self.packet().await[0], 0x10, "CONNECT comes first");
        self.send(self.connack()).await;
        assert_eq!(self.packet().await[0], 0x82, "SUBSCRIBE follows CONNACK");
        self.send(self.suback(&[1])).await;
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("a write", self.stream.write_all(bytes.as_ref())).await.unwrap();
        soon("a flush", self.stream.flush()).await.unwrap();
    }

    /// The next packet of the source, whole.
    pub(super) async fn packet(&mut self) -> Vec<u8> {
        soon("a packet of the source", async { self.try_packet().await.expect("the source closed the connection") })
            .await
    }

    /// The next packet of the source, or `None` when it closed the connection.
    pub(super) async fn try_packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = whole_packet(&self.buffer) {
                return Some(self.buffer.split_to(bytes).to_vec());
            }
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// What one read gives.
    pub(super) async fn segment(&mut self) -> Vec<u8> {
        assert!(self.buffer.is_empty(), "the test has read everything else");
        self.buffer.reserve(64 * 1024);
        soon("a segment of the source", self.stream.read_buf(&mut self.buffer)).await.unwrap();
        self.buffer.split().to_vec()
    }

    pub(super) fn connack(&self) -> Vec<u8> {
        self.connack_of(false)
    }

    pub(super) fn connack_of(&self, session_present: bool) -> Vec<u8> {
        match self.version {
            MqttVersion::V311 => vec![0x20, 2, u8::from(session_present), 0],
            MqttVersion::V5 => vec![0x20, 3, u8::from(session_present), 0, 0],
        }
    }

    /// The answer to the first packet with filters on a connection.
    pub(super) fn suback(&self, codes: &[u8]) -> Vec<u8> {
        self.answer(0x90, 1, codes)
    }

    /// A SUBACK or UNSUBACK by its first byte.
    pub(super) fn answer(&self, first: u8, packet_id: u16, codes: &[u8]) -> Vec<u8> {
        let mut body = packet_id.to_be_bytes().to_vec();
        if self.version == MqttVersion::V5 {
            body.push(0);
        }
        if self.version == MqttVersion::V5 || first == 0x90 {
            body.extend(codes);
        }
        let mut packet = vec![first, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        packet
    }

    /// Whether the source sends nothing before the answer to a ping of its own would be due.
    pub(super) async fn next_is_ping(&mut self) {
        assert_eq!(self.packet().await, PINGREQ, "nothing else is sent");
    }

    pub(super) fn publish(&self, qos: u8, packet_id: u16, payload: &[u8]) -> Vec<u8> {
        publish(self.version, 0x30 | (qos << 1), packet_id, "depot/a", payload)
    }
}

/// A PUBLISH with the given first byte.
pub(super) fn publish(version: MqttVersion, first: u8, packet_id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    publish_with(version, first, packet_id, topic, &[], payload)
}

/// A PUBLISH with at most 127 bytes of properties, which only MQTT 5 has.
pub(super) fn publish_with(
    version: MqttVersion,
    first: u8,
    packet_id: u16,
    topic: &str,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    body.extend(topic.as_bytes());
    if first & 0b0110 != 0 {
        body.extend(packet_id.to_be_bytes());
    }
    if version == MqttVersion::V5 {
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend(properties);
    }
    body.extend(payload);
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        packet.push(u8::try_from(length % 128).unwrap() | if more { 0x80 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// The PUBACKs of some messages.
pub(super) fn pubacks(packet_ids: impl IntoIterator<Item = u16>) -> Vec<u8> {
    packet_ids.into_iter().flat_map(|id| [0x40, 2, id.to_be_bytes()[0], id.to_be_bytes()[1]]).collect()
}

fn whole_packet(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (index, byte) in bytes.get(1..)?.iter().enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let whole = 2 + index + length;
            return (bytes.len() >= whole).then_some(whole);
        }
    }
    None
}
