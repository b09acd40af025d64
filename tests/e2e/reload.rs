//! A configuration that is applied while everything runs: what did not change loses nothing, what is broken changes
//! nothing, and what cannot start is taken back.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use kerbside_runtime::Clock;
use serde_json::{Value, json};

use crate::bus::{Bus, Unit};
use crate::gateway::{Finished, Gateway, Site, free_port, loopback};
use crate::influx::Influx;
use crate::publisher::Publisher;
use crate::robot::Robot;
use crate::wait::{SOON, wait_until};

/// A level that is numbered, so that each message can be found again.
fn profile(version: u32, path: &str, limit: u32) -> String {
    format!(
        "\
profile: e2e-level
version: {version}
kind: drain
vendor: Test
model: numbered
interval: 1h
payload: {{format: json, time: {{path: ts, unit: ms}}}}
points:
  - {{name: level_mm, path: {path}, required: true}}
detectors:
  - {{condition: surcharged, severity: major, threshold: {{point: level_mm, above: {limit}, clear: 0}}}}
samples:
  - {{name: some, json: {{{path}: 85}}, readings: {{level_mm: 85}}}}
  - {{name: none, text: '', error: not valid JSON}}
"
    )
}

const INVENTORY: &str = "id,profile,address,source\nDL-1,e2e-level,DL-1,broker\n";
const FIRST_MS: i64 = 1_780_000_000_000;

/// A gateway with a broker that stays as it is, and one that is exchanged.
struct Scene {
    influx: Influx,
    gateway: Gateway,
    site: Site,
    second_port: u16,
}

impl Scene {
    async fn set(more: &str) -> Scene {
        let influx = Influx::start().await;
        let mut site = Site::new(INVENTORY);
        site.write("profiles/level.yaml", &profile(1, "level", 1_000_000));
        let second_port = free_port();
        configure(&site, &influx, second_port, 100, more);
        let gateway = site.start().await;
        Scene { influx, gateway, site, second_port }
    }

    fn configure(&self, second_port: u16, connections_max: u32, more: &str) {
        configure(&self.site, &self.influx, second_port, connections_max, more);
    }

    fn sources(&self, connections_max: u32) -> String {
        sources(&self.site, self.second_port, connections_max)
    }

    fn reload(&self) -> Finished {
        self.site.command(&["reload", "--json", "--by", "wu"])
    }

    async fn device_count(&self) -> usize {
        self.gateway.items("/api/v1/devices").await.len()
    }
}

fn sources(site: &Site, second_port: u16, connections_max: u32) -> String {
    let second =
        format!("  second: {{type: broker, listen: '127.0.0.1:{second_port}', connections_max: {connections_max}}}\n");
    // More messages than any device should send.
    let limits = "limits: {device_frames_per_second: 0}\n";
    format!("profiles: profiles/\n{limits}sources:\n{}{second}", site.embedded_broker())
}

fn configure(site: &Site, influx: &Influx, second_port: u16, connections_max: u32, more: &str) {
    let sources = sources(site, second_port, connections_max);
    // The embedded broker takes one message a commit from each connection.
    let store = if more.contains("store:") { "" } else { "store: {preset: fast}\n" };
    site.configure(&[sources, Influx::config(influx.port()), store.to_owned(), more.to_owned()].concat());
}

/// Message after message of one device, each with a time of its own.
async fn stream(publisher: &Publisher, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let message = json!({ "level": number, "lvl": number, "ts": FIRST_MS + number }).to_string();
        publisher.publish("city/d01/drain/DL-1/up", message).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn wait_for_numbers(influx: &Influx, device: &str, count: i64) {
    wait_until(&format!("{count} points of {device}"), SOON, || async {
        let points = influx.points_of(device);
        let numbers: Vec<i64> = points.iter().map(|point| point.at_ms - FIRST_MS).collect();
        let expected: Vec<i64> = (0..count).collect();
        if numbers == expected { Ok(()) } else { Err(format!("{} points: {numbers:?}", numbers.len())) }
    })
    .await;
}

fn components(report: &Value) -> Vec<String> {
    let one =
        |change: &Value| format!("{} {}", change["component"].as_str().unwrap(), change["action"].as_str().unwrap());
    report["components"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_changed_is_touched_and_nothing_of_the_rest_is_lost() {
    let scene = Scene::set("").await;
    let publisher = Publisher::start(scene.site.broker(), "drain-1");
    let other = Publisher::start(loopback(scene.second_port), "drain-2");
    publisher.publish_acknowledged("city/d01/drain/nobody/up", "{}").await;
    other.publish_acknowledged("city/d01/drain/DL-2/up", r#"{"level": 1}"#).await;
    let reconnects = (publisher.reconnects(), other.reconnects());

    let changing = async {
        // A device, a profile and a source, one after the other, under way.
        let inventory = format!("{INVENTORY}DL-2,e2e-level,DL-2,second\n");
        scene.site.write("inventory.csv", &inventory);
        let report = scene.reload().json();
        assert_eq!(report["outcome"], "applied");
        assert_eq!(report["devices"]["added"], json!({ "count": 1, "ids": ["DL-2"] }));
        assert_eq!(report["components"], json!([]));

        scene.site.write("profiles/level.yaml", &profile(2, "level", 900_000));
        let report = scene.reload().json();
        let change = &report["profiles"][0];
        assert_eq!((&change["old"]["version"], &change["new"]["version"]), (&json!(1), &json!(2)));
        assert_ne!(change["old"]["hash"], change["new"]["hash"]);
        assert_eq!((&report["components"], &report["notices"]), (&json!([]), &json!([])));

        scene.configure(scene.second_port, 99, "");
        let report = scene.reload().json();
        assert_eq!(components(&report), ["source/second restarted"]);
        assert_eq!((&report["devices"]["added"]["count"], &report["profiles"]), (&json!(0), &json!([])));

        assert_eq!(scene.reload().json()["outcome"], "unchanged");
    };
    tokio::join!(stream(&publisher, 0..1_500), changing);

    publisher.wait_for_all(SOON).await;
    wait_for_numbers(&scene.influx, "DL-1", 1_500).await;
    assert_eq!(publisher.reconnects(), reconnects.0, "its broker was not touched");
    // The other source serves again, and its device is known now.
    other.publish_acknowledged("city/d01/drain/DL-2/up", format!(r#"{{"level": 2, "ts": {FIRST_MS}}}"#)).await;
    wait_for_numbers(&scene.influx, "DL-2", 1).await;
    assert!(other.reconnects() > reconnects.1);
    assert_eq!(scene.gateway.component("configuration").await.0, "ok");
    let audit = scene.gateway.items("/api/v1/audit").await;
    let by_wu = audit.iter().filter(|line| line["by"] == "wu").map(|line| line["action"].as_str().unwrap());
    assert_eq!(by_wu.collect::<Vec<_>>(), ["configuration_changed", "site_changed", "site_changed"]);
    assert_eq!(scene.gateway.metric("kerbside_reloads_total", &["applied"]).await, 3.0);
    scene.influx.assert_content();
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_is_said_everywhere() {
    let scene = Scene::set("").await;
    scene.site.write("inventory.csv", &format!("{INVENTORY}DL-2,e2e-level,DL-2,broker\n"));
    scene.site.write("profiles/level.yaml", &profile(2, "level", 5).replace("mm, path", "mm, paht"));
    let refused = scene.reload();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.errors.contains("level.yaml:9") && refused.errors.contains("paht"), "{refused:?}");
    let answer = scene.gateway.post("/api/v1/reload", &json!({ "by": "wu" })).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let report = answer.json();
    assert_eq!(report["outcome"], "refused");
    assert!(report["problems"][0]["file"].as_str().unwrap().ends_with("level.yaml"), "{report}");
    let words = scene.gateway.wait_for_component("configuration", "degraded", "paht").await;
    assert!(words.starts_with("not applied: "), "{words}");
    assert_eq!(scene.device_count().await, 1);

    // A device must not vanish by a slip of the pen either.
    scene.site.write("profiles/level.yaml", &profile(2, "level", 5));
    scene.site.write("inventory.csv", "id,profile,address,source\nDL-1,e2e-leve,DL-1,broker\n");
    let refused = scene.reload();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.out.contains("inventory.csv:2") && refused.out.contains("did you mean e2e-level?"), "{refused:?}");
    assert_eq!(scene.device_count().await, 1);

    scene.site.write("inventory.csv", INVENTORY);
    assert_eq!(scene.reload().json()["outcome"], "applied");
    assert_eq!(scene.gateway.component("configuration").await, ("ok".to_owned(), String::new()));
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_is_taken_back_and_said() {
    let scene = Scene::set("").await;
    let other = Publisher::start(loopback(scene.second_port), "drain-2");
    other.publish_acknowledged("city/d01/drain/DL-1/up", r#"{"level": 1}"#).await;
    let taken = TcpListener::bind(loopback(0)).unwrap();
    scene.site.write("inventory.csv", &format!("{INVENTORY}DL-2,e2e-level,DL-2,second\n"));
    scene.configure(taken.local_addr().unwrap().port(), 100, "");
    let finished = scene.reload();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let report: Value = serde_json::from_str(&finished.out).unwrap();
    assert_eq!(report["outcome"], "rolled_back");
    let words = report["summary"].as_str().unwrap();
    assert!(words.contains("source/second") && words.contains("listen on 127.0.0.1"), "{words}");
    assert_eq!(scene.device_count().await, 1);
    // The old one serves where it did.
    other.publish_acknowledged("city/d01/drain/DL-1/up", r#"{"level": 2}"#).await;
    drop(taken);
    assert_eq!(scene.reload().json()["outcome"], "applied");
    assert_eq!(scene.device_count().await, 2);
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_under_way_is_said() {
    let scene = Scene::set("").await;
    let more = "store: {preset: flash}\nlog: {level: debug}\n";
    scene.configure(scene.second_port, 100, more);
    let report = scene.reload().json();
    assert_eq!(report["outcome"], "unchanged");
    let keys = report["needs_restart"].to_string();
    assert!(keys.contains("store: ") && keys.contains("log: "), "{keys}");
    scene.gateway.wait_for_component("configuration", "ok", "waits for a restart: store").await;
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_and_a_watched_file_apply_the_configuration_too() {
    let scene = Scene::set("reload: watch\n").await;
    scene.site.write("inventory.csv", &format!("{INVENTORY}DL-2,e2e-level,DL-2,second\n"));
    let process = scene.gateway.process_id();
    let status = Command::new("sh").arg("-c").arg(format!("kill -HUP {process}")).status().unwrap();
    assert!(status.success());
    let count = |wanted: usize| {
        scene.gateway.wait_for_items("the devices are there", "/api/v1/devices", move |items| items.len() == wanted)
    };
    count(2).await;
    scene.site.write("inventory.csv", &format!("{INVENTORY}DL-2,e2e-level,DL-2,second\nDL-3,e2e-level,DL-3,second\n"));
    count(3).await;
    // The engine knows the devices a moment before the audit is on the disk.
    let by = |audit: &[Value]| -> Vec<String> {
        let changes = audit.iter().filter(|line| line["action"] == "site_changed");
        changes.map(|line| line["by"].as_str().unwrap().to_owned()).collect()
    };
    let is_there = move |audit: &[Value]| by(audit) == ["watch", "SIGHUP"];
    scene.gateway.wait_for_items("both changes are in the audit", "/api/v1/audit", is_there).await;
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_a_mended_profile_reads_are_replayed_once_whatever_is_killed() {
    let count = 600;
    let mut scene = Scene::set("").await;
    scene.site.write("profiles/level.yaml", &profile(2, "depth", 5));
    assert_eq!(scene.reload().json()["outcome"], "applied");
    let publisher = Publisher::start(scene.site.broker(), "drain-1");
    // A hundred frames of one address are kept, so that there are several.
    let mut rows = INVENTORY.to_owned();
    for device in 2..=7 {
        rows.push_str(&format!("DL-{device},e2e-level,DL-{device},broker\n"));
    }
    for number in 0..count {
        let message = json!({ "lvl": 50, "ts": FIRST_MS + number }).to_string();
        let device = 1 + number % 6;
        publisher.publish(&format!("city/d01/drain/DL-{device}/up"), message).await;
    }
    publisher.wait_for_all(SOON).await;
    let listed = scene.site.command(&["undecoded", "list", "--limit", "1000", "--json"]).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 600);
    let number = listed["items"][0]["number"].as_u64().unwrap().to_string();
    let shown = scene.site.command(&["undecoded", "show", &number]);
    assert!(shown.out.contains("lvl"), "{shown:?}");

    // Mended; five of the six devices are new in the inventory. Fifty is far above the limit of five.
    scene.site.write("inventory.csv", &rows);
    scene.site.write("profiles/level.yaml", &profile(3, "lvl", 5));
    assert_eq!(scene.reload().json()["outcome"], "applied");
    let dry = scene.site.command(&["replay", "--undecoded", "--dry-run", "--device", "DL-2", "--json"]).json();
    assert_eq!((&dry["looked_at"], &dry["readable"]), (&json!(100), &json!(100)));
    assert_eq!(dry["items"][0]["readings"][0]["value"], 50.0);
    assert_eq!(scene.gateway.get("/api/v1/status").await.ok()["undecoded"], 600);

    // Killed after the first page.
    let page = scene.gateway.post("/api/v1/undecoded/replay", &json!({ "by": "wu" })).await.ok();
    assert_eq!((&page["readable"], page["next"].is_string()), (&json!(200), true));
    scene.gateway.kill();
    scene.gateway = scene.site.start().await;
    let left = scene.gateway.get("/api/v1/status").await.ok()["undecoded"].as_u64().unwrap();
    assert_eq!(left, 400, "what was read is gone, and nothing else");
    let rest = scene.site.command(&["replay", "--undecoded", "--json"]).json();
    assert_eq!((&rest["looked_at"], &rest["readable"]), (&json!(400), &json!(400)));
    assert_eq!(scene.gateway.get("/api/v1/status").await.ok()["undecoded"], 0);
    assert_eq!(scene.gateway.items("/api/v1/unknown-devices").await, Vec::<Value>::new());
    wait_until("every frame is in the database, at its own time", SOON, || async {
        let times = |device: i64| scene.influx.points_of(&format!("DL-{device}")).into_iter().map(|point| point.at_ms);
        let mut all: Vec<i64> = (1..=6).flat_map(times).map(|at_ms| at_ms - FIRST_MS).collect();
        all.sort_unstable();
        if all == (0..count).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{} points", all.len())) }
    })
    .await;
    assert_eq!(scene.gateway.items("/api/v1/alarms").await, Vec::<Value>::new(), "history alarms nobody");
    scene.influx.assert_content();
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_and_channels_are_exchanged_without_a_loss() {
    let scene = Scene::set("").await;
    let publisher = Publisher::start(scene.site.broker(), "drain-1");
    let robot = Robot::start().await;
    let exchanging = async {
        for round in 0..6 {
            let sink = Influx::config(scene.influx.port()).replace("50ms", &format!("{}ms", 20 + round));
            let sources = scene.sources(100);
            let channels =
                format!("channels: {{{}}}\nduty: {{steps: [{{after: 0s, channels: [ops]}}]}}\n", robot.channel());
            // The channel comes in the first round; then its links change with every one.
            let links = format!("public_url: http://10.0.0.{round}\n");
            scene.site.configure(&[sources, sink, "store: {preset: fast}\n".to_owned(), channels, links].concat());
            let report = scene.reload().json();
            let channel = if round == 0 { "sink/ops started" } else { "sink/ops restarted" };
            assert_eq!(components(&report), ["sink/influx restarted", channel], "{report}");
        }
    };
    tokio::join!(stream(&publisher, 0..1_500), exchanging);
    publisher.wait_for_all(SOON).await;
    wait_for_numbers(&scene.influx, "DL-1", 1_500).await;
    // Everybody is told once, by the channel that is there now.
    scene.site.write("profiles/level.yaml", &profile(2, "level", 5));
    assert_eq!(scene.reload().json()["outcome"], "applied");
    let message = json!({ "level": 50, "ts": Clock::System.now().as_millis() }).to_string();
    publisher.publish_acknowledged("city/d01/drain/DL-1/up", message).await;
    robot.wait_for_taken(1).await;
    scene
        .gateway
        .wait_for_items("one notice is delivered", "/api/v1/notices", |items| {
            items.len() == 1 && items[0]["state"] == "delivered"
        })
        .await;
    scene.influx.assert_content();
    scene.gateway.stop().await;
    assert_eq!(robot.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_bus_whose_units_changed_is_exchanged() {
    let unit = || Unit::Answers((0..8).map(|address| (address, 100)).collect());
    let (one, two) = (Bus::start(&[(1, unit())]).await, Bus::start(&[(1, unit()), (2, unit())]).await);
    let mut site = Site::new("id,profile,address,source\nA-1,qdy30a-level,1,one\nB-1,qdy30a-level,1,two\n");
    let bus =
        |name: &str, port: u16| format!("  {name}: {{type: modbus, host: 127.0.0.1, port: {port}, period: 200ms}}\n");
    let sources = [site.embedded_broker(), bus("one", one.port), bus("two", two.port)].concat();
    site.configure(&format!("sources:\n{sources}"));
    let gateway = site.start().await;
    let heard = |wanted: usize| {
        gateway.wait_for_items("the units answer", "/api/v1/devices", move |items| {
            items.len() == wanted && items.iter().all(|item| item["heard_at"].is_string())
        })
    };
    heard(2).await;
    site.write(
        "inventory.csv",
        "id,profile,address,source\nA-1,qdy30a-level,1,one\nB-1,qdy30a-level,1,two\nB-2,qdy30a-level,2,two\n",
    );
    let report = site.command(&["reload", "--json"]).json();
    assert_eq!(components(&report), ["source/two restarted"]);
    heard(3).await;
    gateway.stop().await;
}
