//! A broker whose connections break at random points, hundreds of times.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use kerbside_runtime::{Intake, IntakeReceiver};

use super::stand_in::{Peer, StandIn, soon};
use super::{Input, MqttVersion, config, payload, run_with};

const MESSAGES: u32 = 3_000;
/// How many unacknowledged messages the broker sends.
const WINDOW: usize = 48;

/// What the pipeline has committed.
type Committed = Arc<Mutex<BTreeSet<u32>>>;

/// Commits one or several submissions at a time, sometimes at once and sometimes late.
async fn commit_at_random(mut receiver: IntakeReceiver, committed: Committed, mut random: Rng) {
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
                let Input::Frame(frame) = input else { panic!("a source submits frames") };
                committed.lock().unwrap().insert(u32::from_be_bytes(payload(frame).try_into().unwrap()));
            }
            submission.receipt.honour();
        }
    }
}

/// One connection of the broker.
struct Connection<'a> {
    peer: Peer,
    random: &'a mut Rng,
    committed: &'a Committed,
    /// Messages that were never acknowledged, on any connection.
    open: &'a mut BTreeSet<u32>,
    /// Sent on this connection and not yet acknowledged on it: packet id and message.
    sent: VecDeque<(u16, u32)>,
    unsent: VecDeque<u32>,
    next_id: u16,
}

impl Connection<'_> {
    /// Sends some messages; when `is_cut`, the last one only in part.
    async fn send_some(&mut self, is_cut: bool) {
        let mut bytes = Vec::new();
        for _ in 0..self.random.usize(1..10) {
            if self.sent.len() == WINDOW {
                break;
            }
            let Some(message) = self.unsent.pop_front() else { break };
            bytes.extend(self.peer.publish(1, self.next_id, &message.to_be_bytes()));
            self.sent.push_back((self.next_id, message));
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let end = if is_cut { self.random.usize(0..=bytes.len()) } else { bytes.len() };
        self.peer.send(&bytes[..end]).await;
    }

    /// Reads one acknowledgement and checks that it is due.
    async fn take_acknowledgement(&mut self) {
        let packet = self.peer.packet().await;
        assert_eq!(packet[..2], [0x40, 2], "a PUBACK, not {packet:?}");
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        let (expected, message) = self.sent.pop_front().expect("only what was sent on this connection");
        assert_eq!(id, expected, "in the order of this connection");
        assert!(self.committed.lock().unwrap().contains(&message), "message {message} was not committed");
        self.open.remove(&message);
    }

    async fn live(mut self, steps: Option<usize>) {
        let mut step = 0;
        loop {
            let is_last = steps == Some(step);
            let has_room = self.sent.len() < WINDOW && !self.unsent.is_empty();
            if has_room && (self.sent.is_empty() || self.random.bool()) {
                self.send_some(is_last).await;
            } else if !self.sent.is_empty() {
                self.take_acknowledgement().await;
            }
            if is_last || (self.sent.is_empty() && self.unsent.is_empty()) {
                return;
            }
            step += 1;
        }
    }
}

async fn check(version: MqttVersion, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let broker = StandIn::new(version).await;
    let (intake, receiver) = Intake::new(4, 8 * 1024);
    let committed = Committed::default();
    let pipeline = tokio::spawn(commit_at_random(receiver, Arc::clone(&committed), random.fork()));
    // The receiver in here is not used: the pipeline above has its own.
    let (_, unused) = Intake::new(1, 1024);
    let running = run_with(config(broker.port(), version), (intake, unused));

    let mut open: BTreeSet<u32> = (0..MESSAGES).collect();
    let mut connections = 0;
    while !open.is_empty() {
        connections += 1;
        let mut peer = broker.accept().await;
        peer.packet().await;
        let answer = peer.connack();
        if random.u8(0..10) == 0 {
            peer.send(&answer[..random.usize(0..answer.len())]).await;
            continue;
        }
        peer.send(answer).await;
        peer.packet().await;
        peer.send(peer.suback(&[1])).await;
        let steps = random.usize(0..16);
        let connection = Connection {
            peer,
            // Ids start elsewhere each time, so that one of an old connection does not pass unnoticed.
            next_id: random.u16(1..),
            unsent: open.iter().copied().collect(),
            sent: VecDeque::new(),
            committed: &committed,
            open: &mut open,
            random: &mut random,
        };
        connection.live(Some(steps)).await;
    }
    println!("{connections} connections");
    assert!(connections > 200, "only {connections} connections");
    running.shutdown.cancel();
    soon("the end of the source", running.task).await.unwrap();
    soon("the end of the pipeline", pipeline).await.unwrap();
    assert_eq!(committed.lock().unwrap().len(), usize::try_from(MESSAGES).unwrap());
}

#[tokio::test]
async fn hundreds_of_broken_connections_never_see_a_wrong_acknowledgement_in_3_1_1() {
    check(MqttVersion::V311, 20_260_401).await;
}

#[tokio::test]
async fn hundreds_of_broken_connections_never_see_a_wrong_acknowledgement_in_5() {
    check(MqttVersion::V5, 20_260_402).await;
}
