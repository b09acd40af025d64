//! Turns a count and a rate into MQTT messages of the bench to a real broker, over one raw connection.
//!
//! At QoS 1 what is unacknowledged is sent again after a reconnect, so every message arrives at least once; what is
//! in flight when the process ends is gone. There are no metrics but the report.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kerbside_runtime::{Backoff, Clock};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::load::machine::{cpu_seconds, now_micros};
use crate::load::message::{Messages, SEQUENCES_MAX, Sending, append_length, append_text};
use crate::mqtt::{BrokerAccount, BrokerAddress};

/// Messages in one write; at 200 bytes this is about one socket buffer.
const WRITE_MESSAGES_MAX: usize = 512;
const READ_BYTES: usize = 64 * 1024;
/// How often a paced run wakes: 30 messages a time at 30,000 a second.
const PACE: Duration = Duration::from_millis(1);
/// A broker that is silent this long, with messages unacknowledged, is given up and connected to anew.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// At most once or at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FireQuality {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// What to fire.
#[derive(Clone, Debug)]
pub struct FireConfig {
    /// Where.
    pub broker: BrokerAddress,
    /// As whom.
    pub account: Option<BrokerAccount>,
    /// MQTT client id.
    pub client_id: String,
    /// QoS.
    pub quality: FireQuality,
    /// Number of devices, which take turns.
    pub devices: usize,
    /// Number of messages.
    pub count: u64,
    /// First sequence number.
    pub first_sequence: u64,
    /// Messages per second; `None` is as fast as the broker takes them.
    pub rate: Option<u64>,
    /// Most messages unacknowledged at a time.
    pub window: u16,
    /// How long to try to connect.
    pub connect_timeout: Duration,
}

impl FireConfig {
    /// 10,000 devices, QoS 1, flat out.
    pub fn new(broker: BrokerAddress, count: u64) -> FireConfig {
        FireConfig {
            broker,
            account: None,
            client_id: "kerbside-fire".to_owned(),
            quality: FireQuality::AtLeastOnce,
            devices: 10_000,
            count,
            first_sequence: 0,
            rate: None,
            window: 2_000,
            connect_timeout: Duration::from_secs(30),
        }
    }
}

/// What was fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FireReport {
    /// Messages sent, each counted once.
    pub sent: u64,
    /// Messages that the broker acknowledged (QoS 1).
    pub acknowledged: u64,
    /// Messages sent again after a reconnect.
    pub resent: u64,
    /// Connections lost.
    pub reconnects: u64,
    /// From the first connection to the last acknowledgement, in seconds.
    pub seconds: f64,
    /// Messages per second.
    pub messages_per_second: f64,
    /// CPU seconds of this process.
    pub cpu_seconds: f64,
}

/// Why firing stopped early.
#[derive(Debug, thiserror::Error)]
pub enum FireError {
    /// The configuration asks for what the format does not have.
    #[error("sequence numbers go up to {SEQUENCES_MAX}, windows begin at 1")]
    OutOfRange,
    /// The broker could not be reached in time.
    #[error("connect to {host}:{port}")]
    Connect {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// The last try's error.
        #[source]
        cause: std::io::Error,
    },
}

/// Fires until everything is sent and, at QoS 1, acknowledged.
pub async fn fire(config: FireConfig) -> Result<FireReport, FireError> {
    let last = config.first_sequence.saturating_add(config.count);
    if last > SEQUENCES_MAX || config.window == 0 {
        return Err(FireError::OutOfRange);
    }
    let mut gun = Gun {
        messages: Messages::new(config.devices, config.quality == FireQuality::AtLeastOnce),
        out: Vec::with_capacity(WRITE_MESSAGES_MAX * 256),
        sent: 0,
        resent: 0,
        began: Clock::stamp(),
    };
    let flight = Flight::new(config.window);
    let cpu_before = cpu_seconds();
    let mut reconnects = 0;
    loop {
        let (reader, writer) = connect(&config).await?;
        if reconnects == 0 {
            gun.began = Clock::stamp();
        }
        // The writer waits for ever when it has sent all; the reader knows when the broker has it all.
        let ended = tokio::select! {
            ended = read_answers(reader, &config, &flight) => ended,
            failed = gun.write_messages(writer, &config, &flight) => failed,
        };
        match ended {
            Ok(()) => break,
            Err(_lost) => reconnects += 1,
        }
    }
    let seconds = gun.began.elapsed().as_secs_f64();
    Ok(FireReport {
        sent: gun.sent,
        acknowledged: flight.acknowledged(),
        resent: gun.resent,
        reconnects,
        seconds,
        messages_per_second: gun.sent as f64 / seconds.max(1e-9),
        cpu_seconds: cpu_seconds() - cpu_before,
    })
}

async fn connect(config: &FireConfig) -> Result<(OwnedReadHalf, OwnedWriteHalf), FireError> {
    let began = Clock::stamp();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match try_connect(config).await {
            Ok(stream) => return Ok(stream.into_split()),
            Err(cause) if began.elapsed() > config.connect_timeout => {
                let BrokerAddress { host, port } = config.broker.clone();
                return Err(FireError::Connect { host, port, cause });
            }
            Err(_) => tokio::time::sleep(backoff.next_wait()).await,
        }
    }
}

async fn try_connect(config: &FireConfig) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect((config.broker.host.as_str(), config.broker.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect_packet(config)).await?;
    let mut answer = [0_u8; 4];
    tokio::time::timeout(SILENCE_MAX, stream.read_exact(&mut answer)).await??;
    match answer {
        [0x20, 2, _, 0] => Ok(stream),
        [0x20, 2, _, code] => Err(std::io::Error::other(format!("the broker refused with code {code}"))),
        _ => Err(std::io::Error::other("the broker did not answer with CONNACK")),
    }
}

/// MQTT 3.1.1, clean session, without keep-alive: a run of messages shows by itself that the client lives.
fn connect_packet(config: &FireConfig) -> Vec<u8> {
    let mut body = Vec::new();
    append_text("MQTT", &mut body);
    body.push(4);
    body.push(if config.account.is_some() { 0xC2 } else { 0x02 });
    body.extend_from_slice(&[0, 0]);
    append_text(&config.client_id, &mut body);
    if let Some(account) = &config.account {
        append_text(&account.username, &mut body);
        append_text(account.password.expose(), &mut body);
    }
    let mut packet = vec![0x10];
    append_length(body.len(), &mut packet);
    packet.extend_from_slice(&body);
    packet
}

/// What is unacknowledged, by packet id.
struct Flight {
    slots: Mutex<Slots>,
    freed: Notify,
}

struct Slots {
    /// The sequence number in each slot; the packet id is the position plus one.
    sequences: Vec<Option<u64>>,
    free: Vec<u16>,
    acknowledged: u64,
}

impl Flight {
    fn new(window: u16) -> Flight {
        let slots =
            Slots { sequences: vec![None; usize::from(window)], free: (1..=window).rev().collect(), acknowledged: 0 };
        Flight { slots: Mutex::new(slots), freed: Notify::new() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Slots) -> T) -> T {
        work(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn acknowledged(&self) -> u64 {
        self.with(|slots| slots.acknowledged)
    }

    /// Everything unacknowledged as (sequence, packet id), oldest first.
    fn unacknowledged(&self) -> Vec<(u64, u16)> {
        let mut flying: Vec<(u64, u16)> = self.with(|slots| {
            let slots = slots.sequences.iter().zip(1_u16..);
            slots.filter_map(|(sequence, packet_id)| sequence.map(|sequence| (sequence, packet_id))).collect()
        });
        flying.sort_unstable();
        flying
    }
}

struct Gun {
    messages: Messages,
    out: Vec<u8>,
    sent: u64,
    resent: u64,
    began: Instant,
}

impl Gun {
    /// Ends only with an error; when all is sent it waits to be dropped.
    async fn write_messages(
        &mut self,
        mut writer: OwnedWriteHalf,
        config: &FireConfig,
        flight: &Flight,
    ) -> std::io::Result<()> {
        self.send_again(&mut writer, flight).await?;
        while self.sent < config.count {
            let due = self.due(config).min(WRITE_MESSAGES_MAX as u64) as usize;
            if due == 0 {
                tokio::time::sleep(PACE).await;
                continue;
            }
            self.out.clear();
            let loaded = match config.quality {
                FireQuality::AtMostOnce => self.load_unnumbered(due, config),
                FireQuality::AtLeastOnce => self.load_numbered(due, config, flight),
            };
            if loaded == 0 {
                flight.freed.notified().await;
                continue;
            }
            writer.write_all(&self.out).await?;
        }
        // The answer to a ping says that the broker has read all before it.
        writer.write_all(&[0xC0, 0]).await?;
        std::future::pending().await
    }

    /// Messages that may go now.
    fn due(&self, config: &FireConfig) -> u64 {
        let allowed = match config.rate {
            None => config.count,
            Some(rate) => (self.began.elapsed().as_secs_f64() * rate as f64) as u64 + 1,
        };
        allowed.min(config.count).saturating_sub(self.sent)
    }

    async fn send_again(&mut self, writer: &mut OwnedWriteHalf, flight: &Flight) -> std::io::Result<()> {
        for part in flight.unacknowledged().chunks(WRITE_MESSAGES_MAX) {
            self.out.clear();
            for (sequence, packet_id) in part.iter().copied() {
                let sending = Sending { sequence, packet_id, now_micros: now_micros(), again: true };
                self.messages.append(sending, &mut self.out);
            }
            self.resent += part.len() as u64;
            writer.write_all(&self.out).await?;
        }
        Ok(())
    }

    fn load_unnumbered(&mut self, due: usize, config: &FireConfig) -> usize {
        let now_micros = now_micros();
        for _ in 0..due {
            let sequence = config.first_sequence + self.sent;
            let sending = Sending { sequence, packet_id: 0, now_micros, again: false };
            self.messages.append(sending, &mut self.out);
            self.sent += 1;
        }
        due
    }

    fn load_numbered(&mut self, due: usize, config: &FireConfig, flight: &Flight) -> usize {
        let now_micros = now_micros();
        flight.with(|slots| {
            for loaded in 0..due {
                let Some(packet_id) = slots.free.pop() else { return loaded };
                let sequence = config.first_sequence + self.sent;
                slots.sequences[usize::from(packet_id) - 1] = Some(sequence);
                let sending = Sending { sequence, packet_id, now_micros, again: false };
                self.messages.append(sending, &mut self.out);
                self.sent += 1;
            }
            due
        })
    }
}

/// Ends well when the broker has everything.
async fn read_answers(mut reader: OwnedReadHalf, config: &FireConfig, flight: &Flight) -> std::io::Result<()> {
    let mut bytes = vec![0_u8; READ_BYTES];
    let mut held = 0;
    loop {
        let read = match tokio::time::timeout(SILENCE_MAX, reader.read(&mut bytes[held..])).await {
            Ok(read) => read?,
            Err(_) if flight.unacknowledged().is_empty() => continue,
            Err(silence) => return Err(silence.into()),
        };
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        held += read;
        let (used, pong) = take_answers(&bytes[..held], flight);
        bytes.copy_within(used..held, 0);
        held -= used;
        flight.freed.notify_one();
        let finished = match config.quality {
            FireQuality::AtMostOnce => pong,
            FireQuality::AtLeastOnce => flight.acknowledged() >= config.count,
        };
        if finished {
            return Ok(());
        }
    }
}

/// Frees what is acknowledged; gives how many bytes were whole packets, and whether a PINGRESP was among them.
fn take_answers(bytes: &[u8], flight: &Flight) -> (usize, bool) {
    let (mut used, mut pong) = (0, false);
    flight.with(|slots| {
        // All answers to a publisher are two bytes and as many as the second says, which is less than 128.
        while let [kind, length, rest @ ..] = &bytes[used..] {
            let length = usize::from(*length);
            let Some(body) = rest.get(..length) else { break };
            used += 2 + length;
            match (kind, body) {
                (0x40, [high, low]) => slots.acknowledge(u16::from_be_bytes([*high, *low])),
                (0xD0, _) => pong = true,
                _ => {}
            }
        }
    });
    (used, pong)
}

impl Slots {
    fn acknowledge(&mut self, packet_id: u16) {
        let slot = packet_id.checked_sub(1).and_then(|position| self.sequences.get_mut(usize::from(position)));
        // An acknowledgement that comes twice frees nothing twice.
        if slot.is_some_and(|slot| slot.take().is_some()) {
            self.free.push(packet_id);
            self.acknowledged += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Reads whole packets of a client and gives the packet ids of its PUBLISH packets.
    fn packet_ids(bytes: &mut Vec<u8>) -> Vec<u16> {
        let mut ids = Vec::new();
        loop {
            let Some(high) = bytes.get(1).copied() else { return ids };
            let (length, header) = if high < 128 {
                (usize::from(high), 2)
            } else {
                let Some(next) = bytes.get(2).copied() else { return ids };
                (usize::from(high & 0x7F) + 128 * usize::from(next), 3)
            };
            if bytes.len() < header + length {
                return ids;
            }
            let packet: Vec<u8> = bytes.drain(..header + length).collect();
            if packet[0] >> 4 == 3 {
                let topic = usize::from(u16::from_be_bytes([packet[header], packet[header + 1]]));
                let at = header + 2 + topic;
                ids.push(u16::from_be_bytes([packet[at], packet[at + 1]]));
            }
        }
    }

    /// A broker that breaks off its first connection after half of the messages, having acknowledged every other one.
    async fn moody_broker(listener: TcpListener) -> u64 {
        let mut received = 0;
        for turn in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let mut greeted = false;
            while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
                if !greeted {
                    stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
                    greeted = true;
                }
                let mut answer = Vec::new();
                for packet_id in packet_ids(&mut bytes) {
                    received += 1;
                    if turn > 0 || received % 2 == 0 {
                        answer.extend_from_slice(&[0x40, 2]);
                        answer.extend_from_slice(&packet_id.to_be_bytes());
                    }
                }
                if stream.write_all(&answer).await.is_err() || (turn == 0 && received >= 500) {
                    break;
                }
            }
            if turn > 0 {
                return received;
            }
        }
        received
    }

    #[tokio::test]
    async fn what_is_unacknowledged_is_sent_again_after_a_reconnect() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = tokio::spawn(moody_broker(listener));
        let mut config = FireConfig::new(BrokerAddress { host: "127.0.0.1".to_owned(), port }, 1_000);
        config.window = 600;
        let report = tokio::time::timeout(Duration::from_secs(20), fire(config)).await.unwrap().unwrap();
        assert_eq!((report.sent, report.acknowledged, report.reconnects), (1_000, 1_000, 1));
        assert!(report.resent > 0);
        let received = tokio::time::timeout(Duration::from_secs(20), broker).await.unwrap().unwrap();
        assert!(received >= 1_000, "{received}");
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_an_error_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut config = FireConfig::new(BrokerAddress { host: "127.0.0.1".to_owned(), port }, 1);
        config.connect_timeout = Duration::from_millis(200);
        let failure = tokio::time::timeout(Duration::from_secs(20), fire(config)).await.unwrap();
        assert!(matches!(failure, Err(FireError::Connect { .. })));
    }
}
