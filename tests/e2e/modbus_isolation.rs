//! Sick units and registers beside healthy ones, from the socket to the API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bus::{Bus, Unit};
use crate::gateway::{Gateway, Site};

const INVENTORY: &str = "\
id,profile,source,address,interval,parent
LV-1,qdy30a-level,bus,1,500ms,basin
LV-2,qdy30a-level,bus,2,500ms,basin
LV-3,qdy30a-level,bus,3,500ms,basin
LV-4,qdy30a-level,bus,4,500ms,basin
LV-5,eastron-sdm120,bus,5,500ms,
";

/// What a QDY30A holds from register 2 on: unit, decimals, level.
fn probe(level: u16) -> Unit {
    Unit::Answers(BTreeMap::from([(2, 17), (3, 1), (4, level)]))
}

async fn bus_view(gateway: &Gateway) -> Value {
    let buses = gateway.get("/api/v1/buses").await.ok();
    buses["items"][0].clone()
}

fn unit_view(bus: &Value, unit: u8) -> Value {
    let units = bus["units"].as_array().unwrap();
    units.iter().find(|view| view["unit"] == json!(unit)).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_unit_and_refused_registers_are_shown_and_hurt_nobody() {
    // A meter without any of its registers, and a probe that never answers.
    let meter = Unit::Answers(BTreeMap::from([(0, 0x4366), (1, 0x3333)]));
    let units = [(1, probe(100)), (2, probe(110)), (3, probe(120)), (4, Unit::Dead), (5, meter)];
    let bus = Bus::start(&units).await;
    let mut site = Site::new(INVENTORY);
    // A timeout that would cost the others three polls each time.
    let source = format!("  bus: {{type: modbus, host: 127.0.0.1, port: {}, timeout: 1500ms}}\n", bus.port);
    site.configure(&format!("sources:\n{source}{}", site.embedded_broker()));
    let gateway = site.start().await;
    for (device, level) in [("LV-1", 100.0), ("LV-2", 110.0), ("LV-3", 120.0)] {
        let path = format!("/api/v1/readings?device={device}");
        gateway
            .wait_for_items(&format!("{device} is read"), &path, |items| {
                items.iter().any(|item| item["point"] == "level_mm" && item["value"] == json!(level))
            })
            .await;
    }
    let meter = gateway
        .wait_for_items("the meter's registers are refused", "/api/v1/readings?device=LV-5", |items| {
            items.iter().any(|item| item["cause"] == "illegal_address")
        })
        .await;
    let read = |point: &str| meter.iter().find(|item| item["point"] == json!(point)).unwrap().clone();
    assert_eq!((&read("voltage_v")["value"], &read("voltage_v")["quality"]), (&json!(230.2), &json!("good")));
    assert!(read("voltage_v")["age_seconds"].as_f64().unwrap() < 60.0);
    let missing = read("current_a");
    assert_eq!((&missing["value"], &missing["quality"]), (&Value::Null, &json!("missing")), "{missing}");

    gateway.wait_for_component("source/bus", "degraded", "4").await;
    let view = bus_view(&gateway).await;
    assert_eq!(unit_view(&view, 4)["state"], "open", "{view}");
    assert_eq!(unit_view(&view, 1)["state"], "closed", "{view}");
    assert!(view["share"].as_f64().unwrap() < 1.0 && !unit_view(&view, 5)["quarantine"].as_array().unwrap().is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_catchment_has_its_levels_read_more_often() {
    let bus = Bus::start(&[(1, probe(450)), (2, probe(450)), (3, probe(450)), (4, probe(100))]).await;
    let mut site = Site::new(INVENTORY);
    let source = format!("  bus: {{type: modbus, host: 127.0.0.1, port: {}}}\n", bus.port);
    site.configure(&format!("sources:\n{source}{}", site.embedded_broker()));
    let gateway = site.start().await;
    gateway.wait_for_items("three alarms are one incident", "/api/v1/incidents", |items| items.len() == 1).await;
    gateway
        .wait_for_items("the bus hears of the storm", "/api/v1/buses", |items| items[0]["storm"] == json!(true))
        .await;
    for unit in 1..=3 {
        bus.set(unit, 4, 100);
    }
    gateway
        .wait_for_items("the bus hears of its end", "/api/v1/buses", |items| items[0]["storm"] == json!(false))
        .await;
    gateway.stop().await;
}
