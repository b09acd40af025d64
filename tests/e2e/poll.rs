//! Modbus: registers become readings, a level becomes an alarm, and a dead unit does not stop the others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bus::{Bus, Unit};
use crate::external::PyModbus;
use crate::gateway::{Gateway, Site};

/// The level in mm is register 4 of a QDY30A.
const LEVEL: u16 = 4;
const INVENTORY: &str = "\
id,profile,source,address,interval,level_offset_mm
LV-1,qdy30a-level,bus,1,200ms,-26
LV-2,qdy30a-level,bus,2,200ms,
LV-3,qdy30a-level,bus,3,200ms,
";

fn configure(site: &Site, port: u16) {
    let bus = format!("  bus: {{type: modbus, host: 127.0.0.1, port: {port}, timeout: 200ms, backoff_max: 1s}}\n");
    site.configure(&format!("sources:\n{bus}{}", site.embedded_broker()));
}

async fn wait_for_level(gateway: &Gateway, device: &str, level: f64) {
    let path = format!("/api/v1/readings?device={device}");
    gateway
        .wait_for_items(&format!("{device} stands at {level}"), &path, |items| {
            let has_level = |item: &Value| {
                item["point"] == "level_mm" && item["value"] == json!(level) && item["quality"] == "good"
            };
            items.iter().any(has_level)
        })
        .await;
}

async fn wait_for_alarm(gateway: &Gateway, state: &str) {
    let path = "/api/v1/alarms?device=LV-2&condition=surcharged";
    gateway
        .wait_for_items(&format!("the alarm is {state}"), path, |items| items.len() == 1 && items[0]["state"] == state)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_become_readings_and_alarms_beside_a_dead_unit() {
    let probe = |level: u16| Unit::Answers(BTreeMap::from([(2, 17), (3, 1), (LEVEL, level)]));
    let bus = Bus::start(&[(1, probe(153)), (2, probe(85)), (3, Unit::Dead)]).await;
    let mut site = Site::new(INVENTORY);
    configure(&site, bus.port);
    let gateway = site.start().await;
    wait_for_level(&gateway, "LV-1", 127.0).await;
    wait_for_level(&gateway, "LV-2", 85.0).await;
    gateway.wait_for_component("source/bus", "degraded", "3").await;

    bus.set(2, LEVEL, 450);
    wait_for_alarm(&gateway, "active").await;
    let cases = gateway
        .wait_for_items("the ledger has the case", "/api/v1/cases?condition=surcharged", |items| items.len() == 1)
        .await;
    assert_eq!((&cases[0]["device"], &cases[0]["platform"]), (&json!("LV-2"), &json!("ledger")));
    bus.set(2, LEVEL, 300);
    wait_for_alarm(&gateway, "cleared").await;
    bus.set(1, LEVEL, 0xFFF6);
    wait_for_level(&gateway, "LV-1", -36.0).await;

    let dead = gateway.get("/api/v1/devices/LV-3").await.ok();
    assert_eq!(dead["heard_at"], Value::Null, "{dead}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs python with pymodbus: run tests/run"]
async fn a_pymodbus_server_is_read_beside_a_unit_that_it_does_not_have() {
    let server = PyModbus::start().await;
    server.set(1, LEVEL, 153).await;
    server.set(2, LEVEL, 85).await;
    let mut site = Site::new(INVENTORY);
    configure(&site, server.port);
    let gateway = site.start().await;
    wait_for_level(&gateway, "LV-1", 127.0).await;
    wait_for_level(&gateway, "LV-2", 85.0).await;
    server.set(2, LEVEL, 450).await;
    wait_for_alarm(&gateway, "active").await;
    server.set(2, LEVEL, 300).await;
    wait_for_alarm(&gateway, "cleared").await;
    let missing = gateway.get("/api/v1/devices/LV-3").await.ok();
    assert_eq!(missing["heard_at"], Value::Null, "{missing}");
    gateway.stop().await;
}
