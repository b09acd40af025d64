//! A publisher at QoS 1 that knows which of its messages were acknowledged.
//!
//! It speaks MQTT 3.1.1 by itself, because client libraries forget across reconnects which packet was which message.
//! After a lost connection everything unacknowledged is sent again, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::wait::{SOON, wait_for};

/// Most messages unacknowledged at a time. Packet ids repeat after `PACKET_IDS`, so the oldest must be younger.
const WINDOW: u64 = 1_000;
const PACKET_IDS: u64 = 60_000;
/// How often a broker that is not there is tried.
const RECONNECT_EVERY: Duration = Duration::from_millis(20);
/// A broker that does not answer a connection is tried again.
const CONNACK_WITHIN: Duration = Duration::from_secs(5);

/// The sending end. Dropping it ends the connection.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung when there is more to send, and when the window opened.
    more: Notify,
    opened: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    /// What is not acknowledged, by number.
    flying: BTreeMap<u64, Message>,
    /// Numbers of packets on the connection.
    packets: HashMap<u16, u64>,
    acknowledged: BTreeSet<u64>,
    reconnects: u64,
}

struct Message {
    topic: String,
    payload: Vec<u8>,
    /// Whether it was written to some connection.
    was_sent: bool,
    /// Whether it was written to this connection.
    is_sent: bool,
}

impl Publisher {
    pub(crate) fn start(broker: SocketAddr, client_id: &str) -> Publisher {
        let shared = Arc::new(Shared { state: Mutex::default(), more: Notify::new(), opened: Notify::new() });
        let task = tokio::spawn(run(Arc::clone(&shared), broker, client_id.to_owned()));
        Publisher { shared, task }
    }

    /// Hands a message over and gives its number; waits while too many are unacknowledged.
    pub(crate) async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> u64 {
        let payload = payload.into();
        loop {
            let opened = self.shared.opened.notified();
            {
                let mut state = self.shared.state.lock().unwrap();
                let oldest = state.flying.keys().next().copied().unwrap_or(state.next);
                if state.next - oldest < WINDOW {
                    let number = state.next;
                    state.next += 1;
                    let message = Message { topic: topic.to_owned(), payload, was_sent: false, is_sent: false };
                    state.flying.insert(number, message);
                    self.shared.more.notify_one();
                    return number;
                }
            }
            opened.await;
        }
    }

    /// Publishes and waits for the acknowledgement.
    pub(crate) async fn publish_acknowledged(&self, topic: &str, payload: impl Into<Vec<u8>>) -> u64 {
        let number = self.publish(topic, payload).await;
        wait_for("the message is acknowledged", SOON, || {
            if self.shared.state.lock().unwrap().acknowledged.contains(&number) {
                Ok(number)
            } else {
                Err(format!("message {number} is not"))
            }
        })
        .await
    }

    /// How many messages were handed over.
    pub(crate) fn published(&self) -> u64 {
        self.shared.state.lock().unwrap().next
    }

    /// Every message that was acknowledged.
    pub(crate) fn acknowledged(&self) -> BTreeSet<u64> {
        self.shared.state.lock().unwrap().acknowledged.clone()
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.shared.state.lock().unwrap().reconnects
    }

    /// Waits until nothing is unacknowledged.
    pub(crate) async fn wait_for_all(&self, within: Duration) {
        wait_for("every message is acknowledged", within, || {
            let state = self.shared.state.lock().unwrap();
            let oldest = state.flying.keys().next().copied();
            oldest.map_or(Ok(()), |oldest| Err(format!("{} are not, from {oldest} on", state.flying.len())))
        })
        .await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(shared: Arc<Shared>, broker: SocketAddr, client_id: String) {
    loop {
        if let Ok((reader, writer)) = connect(broker, &client_id).await {
            shared.begin();
            tokio::select! {
                _lost = read_acknowledgements(&shared, reader) => {}
                _lost = write_messages(&shared, writer) => {}
            }
            shared.state.lock().unwrap().reconnects += 1;
        }
        tokio::time::sleep(RECONNECT_EVERY).await;
    }
}

async fn connect(broker: SocketAddr, client_id: &str) -> std::io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.set_nodelay(true)?;
    let mut body = text("MQTT");
    // Version 4 is 3.1.1; a clean session; no keep-alive.
    body.extend_from_slice(&[4, 2, 0, 0]);
    body.extend(text(client_id));
    stream.write_all(&packet(0x10, &body)).await?;
    let mut answer = [0_u8; 4];
    tokio::time::timeout(CONNACK_WITHIN, stream.read_exact(&mut answer)).await??;
    if answer[0] != 0x20 || answer[3] != 0 {
        return Err(std::io::Error::other(format!("CONNACK {answer:?}")));
    }
    Ok(stream.into_split())
}

impl Shared {
    fn begin(&self) {
        let mut state = self.state.lock().unwrap();
        state.packets.clear();
        state.flying.values_mut().for_each(|message| message.is_sent = false);
        self.more.notify_one();
    }

    /// The packets that are to be written now.
    fn unsent(&self) -> Vec<u8> {
        let mut state = self.state.lock().unwrap();
        let mut bytes = Vec::new();
        let mut packets = Vec::new();
        for (number, message) in state.flying.iter_mut().filter(|(_, message)| !message.is_sent) {
            let packet_id = u16::try_from(number % PACKET_IDS + 1).unwrap();
            let mut body = text(&message.topic);
            body.extend_from_slice(&packet_id.to_be_bytes());
            body.extend_from_slice(&message.payload);
            bytes.extend(packet(if message.was_sent { 0x3A } else { 0x32 }, &body));
            (message.was_sent, message.is_sent) = (true, true);
            packets.push((packet_id, *number));
        }
        state.packets.extend(packets);
        bytes
    }

    fn acknowledge(&self, packet_id: u16) {
        let mut state = self.state.lock().unwrap();
        if let Some(number) = state.packets.remove(&packet_id) {
            state.flying.remove(&number);
            state.acknowledged.insert(number);
            self.opened.notify_waiters();
        }
    }
}

async fn write_messages(shared: &Shared, mut writer: OwnedWriteHalf) -> std::io::Result<()> {
    loop {
        let bytes = shared.unsent();
        if bytes.is_empty() {
            shared.more.notified().await;
        } else {
            writer.write_all(&bytes).await?;
        }
    }
}

async fn read_acknowledgements(shared: &Shared, mut reader: OwnedReadHalf) -> std::io::Result<()> {
    loop {
        // Everything that a broker sends to a publisher is shorter than 128 bytes.
        let mut head = [0_u8; 2];
        reader.read_exact(&mut head).await?;
        let mut body = vec![0_u8; usize::from(head[1])];
        reader.read_exact(&mut body).await?;
        if head[0] == 0x40 && body.len() >= 2 {
            shared.acknowledge(u16::from_be_bytes([body[0], body[1]]));
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).unwrap();
        left /= 128;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}
