//! A strict broker whose connections break at random points, hundreds of times.
//!
//! It keeps its side of the standard (a window of unacknowledged messages, messages sent again with their flag, topic
//! aliases that end with their connection) and counts whatever the source does against it. Set `KERBSIDE_CHAOS_SEED` to
//! try another run; each prints its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use kerbside_model::{Input, PayloadView};
use kerbside_runtime::{Intake, IntakeReceiver};

use super::stand_in::{Peer, StandIn, publish_with, soon};
use super::{MqttVersion, config, run_with};

const MESSAGES: u32 = 3_000;
/// How many messages may be unacknowledged: the receive maximum of the source.
const WINDOW: u16 = 48;
/// Messages come on so many topics.
const TOPICS: u32 = 7;
/// The broker uses so many aliases, fewer than topics, so that their meaning changes.
const ALIASES: u16 = 5;
/// One in so many messages is at QoS 0 besides.
const QOS_0_SHARE: u32 = 4;
/// Payloads of QoS 0 are numbered from here.
const QOS_0_FROM: u32 = 1_000_000;

fn topic_of(message: u32) -> String {
    format!("depot/{}", message % TOPICS)
}

/// What the pipeline has committed, and what it has seen that must not be.
#[derive(Default)]
struct Committed {
    messages: BTreeSet<u32>,
    /// Messages that came with the flag of a repetition.
    redelivered: BTreeSet<u32>,
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Committed>>;

impl Committed {
    fn take(&mut self, input: &Input) {
        let Input::Frames(frames) = input else { panic!("a source submits frames") };
        for view in frames.iter() {
            let PayloadView::Bytes(bytes) = view.payload else { panic!("MQTT carries bytes") };
            let message = u32::from_be_bytes(bytes.try_into().unwrap());
            if view.address_text() != topic_of(message) {
                self.wrong.push(format!("message {message} came on {}", view.address_text()));
            }
            if message >= QOS_0_FROM && !self.messages.insert(message) {
                self.wrong.push(format!("message {message} at QoS 0 came twice"));
            }
            self.messages.insert(message);
            if view.flags.redelivered {
                self.redelivered.insert(message);
            }
        }
    }
}

/// Commits one or several submissions at a time, sometimes at once and sometimes late.
async fn commit_at_random(mut receiver: IntakeReceiver, committed: Shared, mut random: Rng) {
    while let Some(first) = receiver.next().await {
        let mut batch = vec![first];
        while let Some(more) = receiver.try_next() {
            batch.push(more);
        }
        if random.bool() {
            tokio::time::sleep(Duration::from_micros(random.u64(0..2_000))).await;
        }
        for submission in batch {
            for input in &submission.inputs {
                committed.lock().unwrap().take(input);
            }
            submission.receipt.honour();
        }
    }
}

/// What the broker remembers from one connection to the next.
struct Broker {
    random: Rng,
    version: MqttVersion,
    committed: Shared,
    /// Messages that were never acknowledged, on any connection.
    open: BTreeSet<u32>,
    /// Those of them that were sent whole or in part.
    tried: BTreeSet<u32>,
    next_qos_0: u32,
    /// Whatever the source did against the standard.
    errors: Vec<String>,
}

/// One connection of the broker.
struct Connection<'a> {
    broker: &'a mut Broker,
    peer: Peer,
    /// Sent on this connection and not yet acknowledged on it: packet id and message.
    sent: VecDeque<(u16, u32)>,
    unsent: VecDeque<u32>,
    next_id: u16,
    aliases: BTreeMap<u16, String>,
}

impl Connection<'_> {
    /// Sends some messages; when `is_cut`, the last one only in part.
    async fn send_some(&mut self, is_cut: bool) {
        let mut bytes = Vec::new();
        for _ in 0..self.broker.random.usize(1..10) {
            if self.broker.random.u32(0..QOS_0_SHARE) == 0 {
                let message = self.broker.next_qos_0;
                self.broker.next_qos_0 += 1;
                bytes.extend(self.message(0x30, 0, message));
            }
            if self.sent.len() == usize::from(WINDOW) {
                break;
            }
            let Some(message) = self.unsent.pop_front() else { break };
            let first = if self.broker.tried.insert(message) { 0x32 } else { 0x3A };
            let packet = self.message(first, self.next_id, message);
            bytes.extend(packet);
            self.sent.push_back((self.next_id, message));
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let end = if is_cut { self.broker.random.usize(0..=bytes.len()) } else { bytes.len() };
        self.peer.send(&bytes[..end]).await;
    }

    /// A message with its topic, its topic and an alias for it, or the alias alone.
    fn message(&mut self, first: u8, packet_id: u16, message: u32) -> Vec<u8> {
        let topic = topic_of(message);
        let payload = message.to_be_bytes();
        let version = self.broker.version;
        if version == MqttVersion::V311 || self.broker.random.bool() {
            return publish_with(version, first, packet_id, &topic, &[], &payload);
        }
        let known = self.aliases.iter().find(|(_, known)| **known == topic).map(|(alias, _)| *alias);
        let (alias, sent) = match known {
            Some(alias) => (alias, String::new()),
            None => (self.broker.random.u16(1..=ALIASES), topic.clone()),
        };
        self.aliases.insert(alias, topic);
        let [high, low] = alias.to_be_bytes();
        publish_with(version, first, packet_id, &sent, &[0x23, high, low], &payload)
    }

    /// Reads one packet, which must be an acknowledgement that is due.
    async fn take_acknowledgement(&mut self) {
        let packet = self.peer.packet().await;
        let Some((expected, message)) = self.sent.pop_front() else {
            return self.broker.errors.push(format!("{packet:?}, and nothing waits for it"));
        };
        if packet != [0x40, 2, expected.to_be_bytes()[0], expected.to_be_bytes()[1]] {
            self.broker.errors.push(format!("{packet:?} instead of the PUBACK of {expected}"));
        }
        if !self.broker.committed.lock().unwrap().messages.contains(&message) {
            self.broker.errors.push(format!("message {message} was acknowledged before its commit"));
        }
        self.broker.open.remove(&message);
    }

    async fn live(mut self, steps: usize) {
        for step in 0.. {
            let is_last = step == steps;
            let has_room = self.sent.len() < usize::from(WINDOW) && !self.unsent.is_empty();
            if has_room && (self.sent.is_empty() || self.broker.random.bool()) {
                self.send_some(is_last).await;
            } else if !self.sent.is_empty() {
                self.take_acknowledgement().await;
            }
            if is_last || (self.sent.is_empty() && self.unsent.is_empty()) {
                return;
            }
        }
    }
}

impl Broker {
    /// Takes one connection and breaks it somewhere.
    async fn serve(&mut self, listener: &StandIn) {
        let mut peer = listener.accept().await;
        let connect = peer.packet().await;
        if self.version == MqttVersion::V5 {
            let window = [0x21, 0, u8::try_from(WINDOW).unwrap(), 0x22];
            assert!(connect.windows(4).any(|bytes| bytes == window), "a receive maximum, then aliases: {connect:?}");
        }
        let answer = peer.connack_of(self.random.bool());
        if self.random.u8(0..10) == 0 {
            return peer.send(&answer[..self.random.usize(0..answer.len())]).await;
        }
        peer.send(answer).await;
        let subscribe = peer.packet().await;
        if subscribe[..4] != [0x82, subscribe[1], 0, 1] {
            self.errors.push(format!("{subscribe:?} instead of a SUBSCRIBE"));
        }
        if self.random.u8(0..10) == 0 {
            return;
        }
        peer.send(peer.suback(&[1])).await;
        let steps = self.random.usize(0..16);
        let connection = Connection {
            peer,
            // Ids start elsewhere each time, so that one of an old connection does not pass unnoticed.
            next_id: self.random.u16(1..),
            unsent: self.open.iter().copied().collect(),
            sent: VecDeque::new(),
            aliases: BTreeMap::new(),
            broker: self,
        };
        connection.live(steps).await;
    }
}

async fn check(version: MqttVersion, seed: u64) {
    let given = std::env::var("KERBSIDE_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(seed);
    println!("seed {seed} for {version:?}");
    let mut random = Rng::with_seed(seed);
    let listener = StandIn::new(version).await;
    let (intake, receiver) = Intake::new(4, 8 * 1024);
    let committed = Shared::default();
    let pipeline = tokio::spawn(commit_at_random(receiver, Arc::clone(&committed), random.fork()));
    // The receiver in here is not used: the pipeline above has its own.
    let (_, unused) = Intake::new(1, 1024);
    let mut config = config(listener.port(), version);
    config.receive_maximum = WINDOW;
    let running = run_with(config, (intake, unused));

    let mut broker = Broker {
        random,
        version,
        committed: Arc::clone(&committed),
        open: (0..MESSAGES).collect(),
        tried: BTreeSet::new(),
        next_qos_0: QOS_0_FROM,
        errors: Vec::new(),
    };
    let mut connections = 0;
    while !broker.open.is_empty() {
        connections += 1;
        broker.serve(&listener).await;
    }
    println!("{connections} connections");
    assert!(connections > 200, "only {connections} connections");
    running.shutdown.cancel();
    soon("the end of the source", running.task).await.unwrap();
    soon("the end of the pipeline", pipeline).await.unwrap();
    assert_eq!(broker.errors, Vec::<String>::new(), "what the source did against the standard");
    let committed = committed.lock().unwrap();
    assert_eq!(committed.wrong, Vec::<String>::new());
    assert!((0..MESSAGES).all(|message| committed.messages.contains(&message)), "every message was committed");
    assert!(committed.messages.len() > MESSAGES as usize, "messages at QoS 0 came too");
    assert!(!committed.redelivered.is_empty(), "repetitions are marked");
    assert!(committed.redelivered.iter().all(|message| *message < QOS_0_FROM));
}

#[tokio::test]
async fn hundreds_of_broken_connections_never_see_a_wrong_acknowledgement_in_3_1_1() {
    check(MqttVersion::V311, 20_260_401).await;
}

#[tokio::test]
async fn hundreds_of_broken_connections_never_see_a_wrong_acknowledgement_in_5() {
    check(MqttVersion::V5, 20_260_402).await;
}
