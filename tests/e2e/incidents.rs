//! Incidents from the bus to the API and the duty: one case and one message for a storm, a lost bus or a lost broker,
//! also after the power went.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kerbside_runtime::Clock;
use serde_json::json;

use crate::bus::{Bus, Unit};
use crate::gateway::Site;
use crate::main_job::cover_message;
use crate::publisher::Publisher;
use crate::robot::Robot;

const INVENTORY: &str = "\
id,profile,source,address,interval,parent
LV-1,qdy30a-level,bus,1,500ms,basin
LV-2,qdy30a-level,bus,2,500ms,basin
";

/// What a QDY30A holds from register 2 on: unit, decimals, level.
fn probe(level: u16) -> Unit {
    Unit::Answers(BTreeMap::from([(2, 17), (3, 1), (4, level)]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rainstorm_signal_flooded_drains_are_one_case_and_a_crash_changes_nothing() {
    let bus = Bus::start(&[(1, probe(100)), (2, probe(100))]).await;
    let mut site = Site::new(INVENTORY);
    let source = format!("  bus: {{type: modbus, host: 127.0.0.1, port: {}}}\n", bus.port);
    site.configure(&format!("sources:\n{source}{}", site.embedded_broker()));
    let gateway = site.start().await;
    let until = Clock::System.now().plus(Duration::from_secs(3_600));
    for (until, status, words) in [(until.plus(Duration::from_secs(4 * 86_400)), 400, "3 days"), (until, 200, "orange")]
    {
        let signal = json!({ "level": "orange", "until": until.to_string(), "by": "wang" });
        let answer = gateway.post("/api/v1/rain-signal", &signal).await;
        assert!(answer.status == status && answer.text.contains(words), "{answer:?}");
    }
    assert_eq!(gateway.get("/api/v1/rain-signal").await.ok()["level"], "orange");
    bus.set(1, 4, 450);
    bus.set(2, 4, 450);
    let path = "/api/v1/incidents";
    let incidents = gateway
        .wait_for_items("both are in one storm", path, |items| {
            items.len() == 1 && items[0]["standing"] == json!(["LV-1", "LV-2"])
        })
        .await;
    let cases = gateway.items("/api/v1/cases").await;
    assert_eq!(cases.len(), 1, "{cases:?}");
    assert_eq!((&cases[0]["condition"], &cases[0]["device"]), (&json!("storm"), &json!("basin")), "{cases:?}");
    assert_eq!(incidents[0]["case_id"], cases[0]["id"]);
    let alarms = gateway.items("/api/v1/alarms?condition=surcharged").await;
    assert!(alarms.iter().all(|alarm| alarm["suppressed"] == json!("incident")), "{alarms:?}");
    assert_eq!(gateway.metric("kerbside_incidents_open", &["kind=\"storm\""]).await, 1.0);
    gateway.kill();
    let gateway = site.start().await;
    let after = gateway.wait_for_items("the storm is still there", path, |items| items.len() == 1).await;
    assert_eq!((&after[0]["id"], &after[0]["case_id"]), (&incidents[0]["id"], &incidents[0]["case_id"]));
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_foretold_on_a_topic_and_a_bus_that_is_gone_are_one_case_each() {
    let robot = Robot::start().await;
    let units: Vec<(u8, Unit)> = (1..=6).map(|unit| (unit, probe(100))).collect();
    let bus = Bus::start(&units).await;
    let rows: Vec<String> = (1..=6).map(|unit| format!("LV-{unit},qdy30a-level,bus,{unit},500ms,basin\n")).collect();
    let mut site = Site::new(&format!("id,profile,source,address,interval,parent\n{}", rows.concat()));
    let sources = format!("sources:\n  bus: {{type: modbus, host: 127.0.0.1, port: {}}}\n", bus.port);
    let incidents = "incidents: {rain_topics: [{topic: weather/rain}]}\n";
    let channels = format!("channels: {{{}}}\n", robot.channel());
    site.configure(&[sources, site.embedded_broker(), incidents.to_owned(), channels].concat());
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "weather");
    publisher.publish_acknowledged("weather/rain", "暴雨橙色预警".as_bytes()).await;
    assert_eq!(gateway.get("/api/v1/rain-signal").await.ok()["level"], "orange");
    (1..=6).for_each(|unit| bus.set(unit, 4, 450));
    let path = "/api/v1/incidents";
    let storm = gateway
        .wait_for_items("six drains are one storm", path, |items| {
            items.len() == 1 && items[0]["standing"].as_array().is_some_and(|standing| standing.len() == 6)
        })
        .await;
    let detail = gateway.get(&format!("{path}/{}", storm[0]["id"].as_str().unwrap())).await.ok();
    // A level that leaps is announced as well: each place has one alarm or two.
    let places: BTreeSet<&str> =
        detail["members"].as_array().unwrap().iter().filter_map(|member| member["device"].as_str()).collect();
    assert_eq!(places.len(), 6, "{detail}");
    assert_eq!(gateway.get(&format!("{path}/nothing")).await.status, 404);
    gateway
        .wait_for_items("levels are read more often", "/api/v1/buses", |items| items[0]["storm"] == json!(true))
        .await;
    drop(bus);
    let lost = gateway
        .wait_for_items("the bus is one incident", path, |items| {
            items.iter().any(|item| {
                let standing = item["standing"].as_array().map_or(0, Vec::len);
                item["kind"] == "outage" && item["parent"] == "bus" && standing == 6
            })
        })
        .await;
    // The first flood, that it has grown to three places, and the bus.
    let told = robot.wait_for_taken(3).await;
    assert!(told[0].contains("暴雨内涝") && told[0].contains("周边 1 处积水或满溢"), "{}", told[0]);
    assert!(told[1].contains("事件群扩大") && told[1].contains("周边 3 处积水或满溢"), "{}", told[1]);
    assert!(told[2].contains("成片失联") && told[2].contains("台设备同时停止上报"), "{}", told[2]);
    let cases = gateway.items("/api/v1/cases").await;
    assert_eq!(cases.len(), 2, "{cases:?} {lost:?}");
    gateway.kill();
    let gateway = site.start().await;
    gateway.wait_for_items("both are still there", path, |items| items.len() == 2).await;
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_gone_is_one_incident_with_a_case_in_the_ledger_until_its_devices_report_again() {
    let robot = Robot::start().await;
    let mut broker_site = Site::new("id,profile,address\n");
    broker_site.configure(&format!("sources:\n{}", broker_site.embedded_broker()));
    let broker = broker_site.start().await;
    let mut site = Site::new("id,profile,address\nMH-1,json-manhole-cover,MH-1\nMH-2,json-manhole-cover,MH-2\n");
    let source = format!(
        "sources:\n  city: {{type: mqtt, host: 127.0.0.1, port: {}, topics: [\"t/#\"], address: {{topic: \"t/{{device}}\"}}}}\n",
        broker_site.broker().port()
    );
    let channels = format!("channels: {{{}}}\n", robot.channel());
    site.configure(&[source, "incidents: {source_down: {after: 1s}}\n".to_owned(), channels].concat());
    let gateway = site.start().await;
    gateway.wait_for_component("source/city", "ok", "").await;
    broker.kill();
    let path = "/api/v1/incidents";
    let lost = gateway.wait_for_items("the broker is one incident", path, |items| items.len() == 1).await;
    assert_eq!((&lost[0]["kind"], &lost[0]["standing"]), (&json!("source"), &json!(["MH-1", "MH-2"])));
    let told = robot.wait_for_taken(1).await;
    assert!(told[0].contains("数据源 city 链路中断：2 台设备收不到数据"), "{}", told[0]);
    assert_eq!(gateway.metric("kerbside_incidents_open", &["kind=\"source\""]).await, 1.0);
    let broker = broker_site.start().await;
    gateway.wait_for_component("source/city", "ok", "").await;
    let publisher = Publisher::start(broker_site.broker(), "covers");
    for cover in ["MH-1", "MH-2"] {
        publisher.publish_acknowledged(&format!("t/{cover}"), cover_message(false)).await;
    }
    gateway.wait_for_items("it is over", path, |items| items[0]["ended_at"].is_string()).await;
    let told = robot.wait_for_taken(2).await;
    assert!(told[1].contains("链路已恢复") && told[1].contains("2 台恢复上报；仍无数据：无"), "{}", told[1]);
    gateway.stop().await;
    broker.stop().await;
}
