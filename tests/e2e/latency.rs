//! How long it takes from a frame to the push on its way to the duty officer, with everything on: printed, and not
//! asserted, since clocks of shared machines prove nothing. What is asserted is that each alarm is pushed once.
//!
//! `KERBSIDE_ALARMS` lengthens a run, two alarms a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use kerbside_runtime::Clock;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::city::City;
use crate::gateway::{Site, loopback};
use crate::influx::Influx;
use crate::publisher::Publisher;
use crate::traffic::wait_for_readiness;
use crate::wait::{SOON, wait_for};

/// Covers, drains and poles with the shipped profiles and all their rules.
const KINDS: [(&str, &str, &str, usize); 3] = [
    ("MH", "manhole", "json-manhole-cover", 1_000),
    ("DL", "level", "json-level", 500),
    ("SP", "pole", "json-pole", 500),
];
const DEVICES: usize = 2_000;
/// The load: 500 messages a second from all devices in turn.
const LOAD_EVERY: Duration = Duration::from_millis(20);
const LOAD_AT_ONCE: usize = 10;
/// The embedded broker takes one message a commit from each connection.
const CONNECTIONS: usize = 100;
/// A cover opens so often.
const ALARM_EVERY: Duration = Duration::from_millis(500);
const ALARMS: usize = 40;
/// Covers open over connections of their own, in turn.
const ALARM_CONNECTIONS: usize = 10;

/// When which device was told of.
type Told = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

/// A program of the duty room that notes when it was told of which device.
struct DutyRoom {
    port: u16,
    told: Told,
    task: JoinHandle<()>,
}

impl DutyRoom {
    async fn start() -> DutyRoom {
        let listener = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told: Told = Arc::default();
        let routes = Router::new().route("/push", post(take)).with_state(Arc::clone(&told));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        DutyRoom { port, told, task }
    }

    fn pushes(&self) -> usize {
        self.told.lock().unwrap().values().map(Vec::len).sum()
    }
}

impl Drop for DutyRoom {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(told): State<Told>, axum::Json(push): axum::Json<Value>) {
    let at = Clock::stamp();
    let device = push["notice"]["report"]["device"].as_str().unwrap_or_default().to_owned();
    told.lock().unwrap().entry(device).or_default().push(at);
}

fn inventory() -> String {
    let mut text = "id,profile,address,place\n".to_owned();
    for (prefix, _, profile, count) in KINDS {
        (0..count).for_each(|number| {
            let id = format!("{prefix}-{number:04}");
            text.push_str(&format!("{id},{profile},{id},road {number}\n"));
        });
    }
    text
}

/// Topic and harmless message of one device.
fn message(device: usize, round: usize) -> (String, String) {
    let (mut number, mut kind) = (device, 0);
    while number >= KINDS[kind].3 {
        number -= KINDS[kind].3;
        kind += 1;
    }
    let (prefix, topic, _, _) = KINDS[kind];
    let (at_ms, wave) = (Clock::System.now().as_millis(), round % 5);
    let body = match prefix {
        "MH" => cover(at_ms, false, wave),
        "DL" => json!({ "ts": at_ms, "level": 80 + wave, "batt": 3.6, "rssi": -101, "temp": 16.5 }),
        _ => json!({
            "ts": at_ms, "leakage": 2.1, "tilt": 0.4, "door": false, "lamp": true, "water": false, "depth": 0,
            "volt": 228.0 + wave as f64, "power": 61.5, "temp": 31.2, "rssi": -71
        }),
    };
    (format!("city/d01/{topic}/{prefix}-{number:04}/up"), body.to_string())
}

fn cover(at_ms: i64, open: bool, wave: usize) -> Value {
    let tilt = if open { 60.0 } else { 1.0 + 0.1 * wave as f64 };
    json!({ "ts": at_ms, "open": open, "tilt": tilt, "water": false, "batt": 3.58, "rssi": -97, "temp": 18.4 })
}

/// Publishes harmless messages until it is told to stop.
async fn load(publishers: Arc<Vec<Publisher>>, stop: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(LOAD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..LOAD_AT_ONCE {
            // Devices that will open are left to do that.
            let device = ALARMS_MAX + number % (DEVICES - ALARMS_MAX);
            let (topic, body) = message(device, number / DEVICES);
            publishers[number % CONNECTIONS].publish(&topic, body).await;
            number += 1;
        }
    }
}

/// Covers that may open.
const ALARMS_MAX: usize = 900;

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[(share * (sorted.len() - 1) as f64).round() as usize]
}

async fn measure(preset: &str) {
    let alarms = std::env::var("KERBSIDE_ALARMS").ok().and_then(|text| text.parse().ok()).unwrap_or(ALARMS);
    let alarms = alarms.min(ALARMS_MAX);
    let (influx, city, duty) = (Influx::start().await, City::start().await, DutyRoom::start().await);
    let mut site = Site::new(&inventory());
    let hook = format!("channels: {{hook: {{type: webhook, url: \"http://127.0.0.1:{}/push\"}}}}\n", duty.port);
    let sources = format!("sources:\n{}store: {{preset: {preset}}}\n", site.embedded_broker());
    site.configure(&[sources, Influx::config(influx.port()), City::config(city.port(), "json"), hook].concat());
    let gateway = site.start().await;
    wait_for_readiness(&gateway).await;
    let start = |name: &str, count: usize| -> Vec<Publisher> {
        (0..count).map(|number| Publisher::start(site.broker(), &format!("{name}-{number}"))).collect()
    };
    let (harmless, openers) = (Arc::new(start("load", CONNECTIONS)), start("open", ALARM_CONNECTIONS));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    tasks.spawn(load(Arc::clone(&harmless), Arc::clone(&stop)));
    for (number, opener) in openers.iter().enumerate() {
        let topic = format!("city/d01/manhole/MH-{number:04}/up");
        let body = cover(Clock::System.now().as_millis(), false, 0).to_string();
        opener.publish_acknowledged(&topic, body).await;
    }
    let mut ticks = tokio::time::interval(ALARM_EVERY);
    let mut opened = Vec::new();
    for number in 0..alarms {
        ticks.tick().await;
        let body = cover(Clock::System.now().as_millis(), true, 0).to_string();
        opened.push(Clock::stamp());
        openers[number % ALARM_CONNECTIONS].publish(&format!("city/d01/manhole/MH-{number:04}/up"), body).await;
    }
    wait_for("each alarm is pushed", SOON, || match duty.pushes() {
        pushes if pushes >= alarms => Ok(()),
        pushes => Err(format!("{pushes} of {alarms}")),
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    for publisher in harmless.iter().chain(&openers) {
        publisher.wait_for_all(SOON).await;
    }
    let told = duty.told.lock().unwrap().clone();
    let mut delays = Vec::new();
    for (number, opened_at) in opened.iter().enumerate() {
        let pushes = &told[&format!("MH-{number:04}")];
        assert_eq!(pushes.len(), 1, "MH-{number:04} is pushed once");
        delays.push(pushes[0].duration_since(*opened_at));
    }
    assert_eq!(told.len(), alarms, "nobody else is pushed: {:?}", told.keys());
    delays.sort_unstable();
    let messages: u64 = harmless.iter().map(Publisher::published).sum();
    eprintln!(
        "from frame to push, preset {preset}, {alarms} alarms among {messages} messages: p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        percentile(&delays, 0.5),
        percentile(&delays, 0.99),
        delays[delays.len() - 1],
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alarm_under_load_is_pushed_once_and_the_time_it_took_is_printed() {
    for preset in ["flash", "fast"] {
        measure(preset).await;
    }
}
