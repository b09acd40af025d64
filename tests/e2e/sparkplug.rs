//! A Sparkplug node at Mosquitto: its births name its data over a crash of the gateway, a gap makes it be asked for
//! another birth, and its death is its devices' silence.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kerbside_model::sparkplug::{BD_SEQ, Message, Metric, MetricValue, datatype};
use kerbside_runtime::Clock;
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::external::Mosquitto;
use crate::gateway::{Gateway, Site};
use crate::influx::Influx;
use crate::wait::{SOON, wait_for};

const LEVEL: &str = "Level/mm";
const LEVEL_ALIAS: u64 = 4;

/// Topic and payload.
type Command = (String, Vec<u8>);

/// An edge node with one level sensor behind it.
struct Node {
    client: AsyncClient,
    /// The commands that came.
    commands: Arc<Mutex<Vec<Command>>>,
    task: JoinHandle<()>,
    bd_seq: u64,
    seq: AtomicU64,
}

fn now_ms() -> Option<u64> {
    u64::try_from(Clock::System.now().0).ok()
}

fn metric(name: Option<&str>, alias: Option<u64>, datatype: Option<u32>, value: MetricValue) -> Metric {
    Metric {
        name: name.map(str::to_owned),
        alias,
        datatype,
        timestamp: now_ms(),
        value: Some(value),
        ..Metric::default()
    }
}

fn message(seq: Option<u64>, metrics: Vec<Metric>) -> Vec<u8> {
    Message { timestamp: now_ms(), seq, metrics, ..Message::default() }.to_bytes()
}

fn session(bd_seq: u64) -> Metric {
    metric(Some(BD_SEQ), None, Some(datatype::INT64), MetricValue::Long(bd_seq))
}

impl Node {
    async fn connect(mosquitto: &Mosquitto, bd_seq: u64) -> Node {
        let address = mosquitto.address;
        let mut options = MqttOptions::new("box-1", address.ip().to_string(), address.port());
        let death = message(None, vec![session(bd_seq)]);
        options.set_last_will(LastWill::new("spBv1.0/drains/NDEATH/box-1", death, QoS::AtLeastOnce, false));
        let (client, mut events) = AsyncClient::new(options, 64);
        client.subscribe("spBv1.0/drains/NCMD/box-1", QoS::AtLeastOnce).await.unwrap();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let (heard, ready) = (Arc::clone(&commands), Arc::new(tokio::sync::Notify::new()));
        let subscribed = Arc::clone(&ready);
        let task = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => subscribed.notify_one(),
                    Event::Incoming(Packet::Publish(publish)) => {
                        heard.lock().unwrap().push((publish.topic, publish.payload.to_vec()));
                    }
                    _ => {}
                }
            }
        });
        tokio::time::timeout(SOON, ready.notified()).await.expect("Mosquitto answers the node");
        Node { client, commands, task, bd_seq, seq: AtomicU64::new(0) }
    }

    fn next_seq(&self) -> Option<u64> {
        Some(self.seq.fetch_add(1, Ordering::Relaxed) % 256)
    }

    async fn publish(&self, topic: &str, payload: Vec<u8>) {
        self.client.publish(format!("spBv1.0/drains/{topic}"), QoS::AtMostOnce, false, payload).await.unwrap();
    }

    async fn birth(&self, level: i32) {
        self.seq.store(0, Ordering::Relaxed);
        self.publish("NBIRTH/box-1", message(self.next_seq(), vec![session(self.bd_seq)])).await;
        let level = metric(Some(LEVEL), Some(LEVEL_ALIAS), Some(datatype::INT32), MetricValue::Int(level as u32));
        self.publish("DBIRTH/box-1/LV-1", message(self.next_seq(), vec![level])).await;
    }

    /// Data that bear an alias and no datatype.
    async fn data(&self, level: i32) {
        let level = metric(None, Some(LEVEL_ALIAS), None, MetricValue::Int(level as u32));
        self.publish("DDATA/box-1/LV-1", message(self.next_seq(), vec![level])).await;
    }

    /// Its connection breaks without a word.
    fn die(self) {
        self.task.abort();
    }

    fn rebirths_asked(&self) -> usize {
        let commands = self.commands.lock().unwrap();
        let is_rebirth = |(topic, payload): &&Command| {
            let metric = Message::read(payload).unwrap().metrics.remove(0);
            topic == "spBv1.0/drains/NCMD/box-1" && metric.name.as_deref() == Some("Node Control/Rebirth")
        };
        commands.iter().filter(is_rebirth).count()
    }
}

async fn wait_for_level(influx: &Influx, level: i32) {
    let wanted = level.to_string();
    wait_for("the level is in the database", SOON, || {
        let points = influx.points_of("LV-1");
        let levels: Vec<_> = points.iter().filter_map(|point| point.fields.get("level_mm").cloned()).collect();
        if levels.iter().any(|found| found.parse() == wanted.parse::<f64>()) {
            Ok(())
        } else {
            Err(format!("{levels:?}"))
        }
    })
    .await;
}

async fn wait_for_silence(gateway: &Gateway, state: &str) {
    let is_so = |items: &[Value]| items.first().is_some_and(|alarm| alarm["state"] == json!(state));
    gateway.wait_for_items(state, "/api/v1/alarms?condition=silent", is_so).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto: run tests/run"]
async fn a_node_is_understood_over_a_crash_asked_after_a_gap_and_missed_when_it_dies() {
    let (mosquitto, influx) = (Mosquitto::start().await, Influx::start().await);
    let mut site = Site::new("id,profile,address\nLV-1,sparkplug-level,drains/box-1/LV-1\n");
    site.configure(&format!(
        "sources:\n  nodes: {{type: mqtt, host: 127.0.0.1, port: {}, client_id: kerbside-e2e, topics: \
         [{{filter: \"spBv1.0/#\", qos: 1}}], envelope: sparkplug_b, backoff_max: 1s}}\n{}",
        mosquitto.address.port(),
        Influx::config(influx.port()),
    ));
    // Born before anybody listens: it is asked for another birth.
    let node = Node::connect(&mosquitto, 1).await;
    node.birth(10).await;
    let gateway = site.start().await;
    gateway.wait_for_component("source/nodes", "ok", "").await;
    node.data(20).await;
    wait_for(
        "the node is asked",
        SOON,
        || if node.rebirths_asked() == 1 { Ok(()) } else { Err("no command".to_owned()) },
    )
    .await;
    gateway
        .wait_for_items("what has no name is kept", "/api/v1/undecoded", |items| {
            items.len() == 1 && items[0]["reason"] == json!("unknown_alias")
        })
        .await;
    node.birth(30).await;
    wait_for_level(&influx, 30).await;
    node.data(-40).await;
    wait_for_level(&influx, -40).await;

    // Killed between a birth and its data.
    let births = site.path("data/sparkplug-nodes.json");
    wait_for("the birth is remembered", SOON, || {
        let text = std::fs::read_to_string(&births).map_err(|error| error.to_string())?;
        if text.contains(LEVEL) { Ok(()) } else { Err(text) }
    })
    .await;
    gateway.kill();
    let gateway = site.start().await;
    gateway.wait_for_component("source/nodes", "ok", "").await;
    node.data(-50).await;
    wait_for_level(&influx, -50).await;
    assert_eq!(gateway.items("/api/v1/undecoded").await.len(), 1, "nothing came without a name since");

    // Three messages are lost on the way.
    node.seq.fetch_add(3, Ordering::Relaxed);
    node.data(-60).await;
    wait_for_level(&influx, -60).await;
    wait_for(
        "it is asked after the gap",
        SOON,
        || if node.rebirths_asked() >= 2 { Ok(()) } else { Err("no".to_owned()) },
    )
    .await;
    assert!(gateway.metric("kerbside_sparkplug_lost_total", &[]).await >= 3.0);

    // It dies: the broker says so with its will, and nobody waits three hours.
    node.birth(70).await;
    wait_for_level(&influx, 70).await;
    node.die();
    wait_for_silence(&gateway, "active").await;
    // The will of the session before says nothing about the new one.
    let node = Node::connect(&mosquitto, 2).await;
    node.birth(80).await;
    wait_for_silence(&gateway, "cleared").await;
    node.publish("NDEATH/box-1", message(None, vec![session(1)])).await;
    node.data(90).await;
    wait_for_level(&influx, 90).await;
    let standing = gateway.items("/api/v1/alarms?condition=silent&state=active,stale").await;
    assert_eq!(standing, Vec::<Value>::new());
    influx.assert_content();
    gateway.stop().await;
}
