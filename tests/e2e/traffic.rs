//! Traffic for tests that break something meanwhile: numbered messages, and covers of which each opens once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbside_runtime::Clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::city::City;
use crate::gateway::Gateway;
use crate::publisher::Publisher;
use crate::wait::wait_until;

/// A multiple of the connections, so that each device stays on one.
const DEVICES: usize = 320;
/// The embedded broker takes one message a commit from each connection.
const CONNECTIONS: usize = 16;
/// Covers that open once, and only they.
pub(crate) const INCIDENTS: usize = 40;
/// The load: so many messages on each connection, and then this pause.
const BURST: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);
/// The platform stores a request and answers so much later, so that mishaps fall in between.
pub(crate) const PLATFORM_TAKES: Duration = Duration::from_millis(400);
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// A cover with numbered messages; only `open` is watched.
pub(crate) const PROFILE: &str = "\
profile: e2e-cover
version: 1
kind: manhole_cover
vendor: Test
model: numbered
interval: 1h
payload: {format: json, time: {path: ts, unit: ms}}
points:
  - {name: cover_open, path: open, required: true}
  - {name: seq, path: seq, required: true}
detectors:
  - {condition: displaced, severity: critical, state: {point: cover_open, values: [true]}}
samples:
  - {name: closed, json: {open: false, seq: 7}, readings: {cover_open: false, seq: 7}}
  - {name: nothing, text: '', error: not valid JSON}
";

pub(crate) fn inventory() -> String {
    let mut text = "id,profile,address,place\n".to_owned();
    for number in 0..DEVICES {
        writeln!(text, "MH-{number:04},e2e-cover,MH-{number:04},road {number}").unwrap();
    }
    text
}

/// Publishes over several connections until it is told to stop. Every message is numbered; the devices of a connection
/// take turns, and the first `INCIDENTS` devices open at random moments once and stay open.
pub(crate) struct Traffic {
    fleets: Vec<Arc<Fleet>>,
    stop: Arc<AtomicBool>,
    chance: Arc<AtomicU32>,
    tasks: JoinSet<()>,
}

/// The devices of one connection.
struct Fleet {
    publisher: Publisher,
    position: usize,
    opened: Mutex<BTreeSet<usize>>,
}

/// What came of the traffic.
pub(crate) struct Sent {
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Devices whose covers opened.
    pub(crate) opened: BTreeSet<String>,
    pub(crate) reconnects: u64,
}

impl Traffic {
    /// A cover opens with one message in `chance`.
    pub(crate) fn start(broker: SocketAddr, seed: u64, chance: u32) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let chance = Arc::new(AtomicU32::new(chance));
        let (mut fleets, mut tasks) = (Vec::new(), JoinSet::new());
        for position in 0..CONNECTIONS {
            let publisher = Publisher::start(broker, &format!("fleet-{position}"));
            let fleet = Arc::new(Fleet { publisher, position, opened: Mutex::default() });
            let random = fastrand::Rng::with_seed(seed + position as u64);
            tasks.spawn(publish(Arc::clone(&fleet), Arc::clone(&stop), random, Arc::clone(&chance)));
            fleets.push(fleet);
        }
        Traffic { fleets, stop, chance, tasks }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.opened.lock().unwrap().len()).sum()
    }

    /// What has not opened yet opens now.
    pub(crate) fn open_all(&self) {
        self.chance.store(1, Ordering::Relaxed);
    }

    /// Every message that was handed to the broker so far, acknowledged or not.
    pub(crate) fn published(&self) -> BTreeSet<u64> {
        let of_fleet = |fleet: &Arc<Fleet>| {
            let fleet = Arc::clone(fleet);
            (0..fleet.publisher.published()).map(move |number| fleet.sequence(number))
        };
        self.fleets.iter().flat_map(of_fleet).collect()
    }

    /// Ends the traffic; when this returns everything that was published is acknowledged.
    pub(crate) async fn end(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let mut sent = Sent { acknowledged: BTreeSet::new(), opened: BTreeSet::new(), reconnects: 0 };
        for fleet in &self.fleets {
            fleet.publisher.wait_for_all(SETTLE_WITHIN).await;
            let numbers = fleet.publisher.acknowledged().into_iter();
            sent.acknowledged.extend(numbers.map(|number| fleet.sequence(number)));
            sent.opened.extend(fleet.opened.lock().unwrap().iter().map(|number| format!("MH-{number:04}")));
            sent.reconnects += fleet.publisher.reconnects();
        }
        sent
    }
}

impl Fleet {
    /// The number of a message among those of all connections.
    fn sequence(&self, number: u64) -> u64 {
        number * CONNECTIONS as u64 + self.position as u64
    }

    /// The device of a message, and whether its cover is open from now on.
    fn device(&self, number: u64, random: &mut fastrand::Rng, chance: u32) -> (usize, bool) {
        let device = usize::try_from(self.sequence(number)).unwrap() % DEVICES;
        let mut opened = self.opened.lock().unwrap();
        if device < INCIDENTS && random.u32(0..chance) == 0 {
            opened.insert(device);
        }
        (device, opened.contains(&device))
    }
}

async fn publish(fleet: Arc<Fleet>, stop: Arc<AtomicBool>, mut random: fastrand::Rng, chance: Arc<AtomicU32>) {
    // The publisher counts as is counted here.
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let (device, is_open) = fleet.device(number, &mut random, chance.load(Ordering::Relaxed));
            // With a time of its own each message is a point of its own, also when many arrive in one millisecond.
            let at_ms = Clock::System.now().as_millis();
            let message = json!({ "open": is_open, "seq": fleet.sequence(number), "ts": at_ms }).to_string();
            let topic = format!("city/d01/manhole/MH-{device:04}/up");
            assert_eq!(fleet.publisher.publish(&topic, message).await, number);
            number += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until the gateway and all that it talks to are well: before its first subscription a broker keeps nothing.
pub(crate) async fn wait_for_readiness(gateway: &Gateway) {
    wait_until("everything is there", SETTLE_WITHIN, || async {
        let ready = gateway.get("/health/ready").await;
        if ready.status == 200 && ready.json()["status"] == "ready" { Ok(()) } else { Err(ready.text) }
    })
    .await;
}

/// Waits until every case is at the platform, and panics unless each cover that opened has one alarm and one case, and
/// each case one request.
pub(crate) async fn check_cases(gateway: &Gateway, city: &City, opened: &BTreeSet<String>) {
    // The gateway has alarms of its own, such as a disk that was full.
    let displaced = |items: Vec<Value>| -> Vec<Value> {
        items.into_iter().filter(|item| item["condition"] == "displaced").collect()
    };
    let cases = wait_until("every case is at the platform", SETTLE_WITHIN, || async {
        let cases = displaced(gateway.items("/api/v1/cases?limit=1000").await);
        let is_there = |case: &Value| case["state"] == "reported" && case["platform_id"].is_string();
        if cases.len() >= INCIDENTS && cases.iter().all(is_there) { Ok(cases) } else { Err(json!(cases).to_string()) }
    })
    .await;
    let devices: BTreeSet<String> = cases.iter().map(|case| case["device"].as_str().unwrap().to_owned()).collect();
    assert_eq!(devices, *opened);
    assert_eq!(cases.len(), INCIDENTS, "one case for each cover: {}", json!(cases));
    let requests = city.requests();
    let references: BTreeSet<&str> = requests.iter().map(|request| request.reference()).collect();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case["id"].as_str().unwrap()).collect();
    assert_eq!(references, ids);
    assert_eq!(requests.len(), INCIDENTS, "one request for each case: {requests:?}");
    let alarms = displaced(gateway.items("/api/v1/alarms?limit=1000").await);
    assert_eq!(alarms.len(), INCIDENTS, "one alarm for each cover: {}", json!(alarms));
    city.assert_content();
}
