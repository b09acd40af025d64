//! `kill -9` at random moments under load: what was acknowledged is in the database, and no hole in the street has
//! two cases.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbside_runtime::Clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::city::City;
use crate::external::Mosquitto;
use crate::gateway::{Gateway, Site};
use crate::influx::Influx;
use crate::publisher::Publisher;
use crate::wait::{wait_for, wait_until};

/// A multiple of the connections, so that each device stays on one.
const DEVICES: usize = 320;
/// The embedded broker takes one message a commit from each connection.
const CONNECTIONS: usize = 16;
/// Covers that open once, and only they.
const INCIDENTS: usize = 40;
/// The platform stores a request and answers so much later, so that kills fall in between.
const PLATFORM_TAKES: Duration = Duration::from_millis(400);
/// The load: so many messages on each connection, and then this pause.
const BURST: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);
/// The gateway is killed at a moment between these after it began to live.
const LIFE_MS: std::ops::Range<u64> = 50..2_500;
const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// A cover with numbered messages; only `open` is watched.
const PROFILE: &str = "\
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

fn inventory() -> String {
    let mut text = "id,profile,address,place\n".to_owned();
    for number in 0..DEVICES {
        writeln!(text, "MH-{number:04},e2e-cover,MH-{number:04},road {number}").unwrap();
    }
    text
}

/// Publishes over several connections until it is told to stop. Every message is numbered; the devices of a connection
/// take turns, and the first `INCIDENTS` devices open at random moments once and stay open.
struct Traffic {
    fleets: Vec<Arc<Fleet>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// The devices of one connection.
struct Fleet {
    publisher: Publisher,
    position: usize,
    opened: Mutex<BTreeSet<usize>>,
}

/// What came of the traffic.
struct Sent {
    acknowledged: BTreeSet<u64>,
    opened: BTreeSet<String>,
    reconnects: u64,
}

impl Traffic {
    /// A cover opens with one message in `chance`.
    fn start(broker: SocketAddr, seed: u64, chance: u32) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut fleets, mut tasks) = (Vec::new(), JoinSet::new());
        for position in 0..CONNECTIONS {
            let publisher = Publisher::start(broker, &format!("fleet-{position}"));
            let fleet = Arc::new(Fleet { publisher, position, opened: Mutex::default() });
            let random = fastrand::Rng::with_seed(seed + position as u64);
            tasks.spawn(publish(Arc::clone(&fleet), Arc::clone(&stop), random, chance));
            fleets.push(fleet);
        }
        Traffic { fleets, stop, tasks }
    }

    fn open_count(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.opened.lock().unwrap().len()).sum()
    }

    /// Ends the traffic; when this returns everything that was published is acknowledged.
    async fn end(self) -> Sent {
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

async fn publish(fleet: Arc<Fleet>, stop: Arc<AtomicBool>, mut random: fastrand::Rng, chance: u32) {
    // The publisher counts as is counted here.
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let (device, is_open) = fleet.device(number, &mut random, chance);
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

/// Kills and restarts the gateway, then lets everything come to rest and compares.
async fn kill_under_load(mut site: Site, broker: SocketAddr, kills: usize, chance: u32, seed: u64) {
    let (influx, city) = (Influx::start().await, City::start().await);
    city.answer_after(PLATFORM_TAKES);
    site.write("profiles/e2e-cover.yaml", PROFILE);
    let config = std::fs::read_to_string(site.path("sources.yaml")).unwrap();
    site.configure(
        &[
            "profiles: profiles/\nstore: {snapshot_interval: 2s}\n".to_owned(),
            config,
            Influx::config(influx.port()),
            City::config(city.port(), "json"),
        ]
        .concat(),
    );
    let began = Clock::stamp();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut gateway = site.start().await;
    // Before the first subscription Mosquitto keeps nothing for the gateway.
    wait_until("everything is there", SETTLE_WITHIN, || async {
        let ready = gateway.get("/health/ready").await;
        if ready.ok()["status"] == "ready" { Ok(()) } else { Err(ready.text) }
    })
    .await;
    let mut found_again = 0;
    let traffic = Traffic::start(broker, seed, chance);
    for kill in 0..kills {
        let life = Duration::from_millis(random.u64(LIFE_MS));
        // A moment, not a state, is what is waited for here.
        tokio::time::sleep(life).await;
        found_again += count_found_again(&gateway);
        gateway.kill();
        gateway = site.start().await;
        eprintln!("kill {}: after {life:?}, ready again in {:?}", kill + 1, gateway.age());
    }
    wait_for("every cover that is to open has opened", SETTLE_WITHIN, || {
        let count = traffic.open_count();
        if count == INCIDENTS { Ok(()) } else { Err(format!("{count} of {INCIDENTS}")) }
    })
    .await;
    let Sent { acknowledged, opened, reconnects } = traffic.end().await;
    influx.wait_for_numbers("seq", &acknowledged, SETTLE_WITHIN).await;

    let cases = wait_until("every case is at the platform", SETTLE_WITHIN, || async {
        let cases = gateway.items("/api/v1/cases?limit=1000").await;
        let is_there = |case: &Value| case["state"] == "reported" && case["platform_id"].is_string();
        if cases.len() >= INCIDENTS && cases.iter().all(is_there) { Ok(cases) } else { Err(json!(cases).to_string()) }
    })
    .await;
    let devices: BTreeSet<String> = cases.iter().map(|case| case["device"].as_str().unwrap().to_owned()).collect();
    assert_eq!(devices, opened);
    assert_eq!(cases.len(), INCIDENTS, "one case for each cover: {}", json!(cases));
    let requests = city.requests();
    let references: BTreeSet<&str> = requests.iter().map(|request| request.reference()).collect();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case["id"].as_str().unwrap()).collect();
    assert_eq!(references, ids);
    assert_eq!(requests.len(), INCIDENTS, "one request for each case: {requests:?}");
    assert_eq!(gateway.items("/api/v1/alarms?limit=1000").await.len(), INCIDENTS, "one alarm for each cover");
    influx.assert_content();
    city.assert_content();
    found_again += count_found_again(&gateway);
    eprintln!(
        "{kills} kills, {} messages acknowledged over {reconnects} reconnects, {INCIDENTS} cases, {found_again} of them \
         found again at the platform, {:?}",
        acknowledged.len(),
        began.elapsed()
    );
    gateway.stop().await;
}

/// Cases whose answer a kill cut off, so that they were looked up before a second try.
fn count_found_again(gateway: &Gateway) -> usize {
    gateway.log().matches("case was already at the platform").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_embedded_broker_acknowledged_survives_five_kills() {
    let site = Site::new(&inventory());
    site.write("sources.yaml", &format!("sources:\n{}", site.embedded_broker()));
    let broker = site.broker();
    kill_under_load(site, broker, 5, 6, 20_260_101).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto: run tests/run"]
async fn what_was_acknowledged_to_mosquitto_survives_twenty_five_kills() {
    let mosquitto = Mosquitto::start().await;
    let site = Site::new(&inventory());
    site.write("sources.yaml", &format!("sources:\n{}", Mosquitto::source(mosquitto.address.port())));
    kill_under_load(site, mosquitto.address, 25, 25, 20_260_102).await;
}
