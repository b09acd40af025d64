//! What an installer does at a bus: find the units, find what their registers mean, and both without disturbing the
//! polls of the gateway that owns the bus.

use std::collections::BTreeMap;

use kerbside_runtime::{Clock, Shutdown};
use kerbside_simulator::{District, DistrictConfig, serve_modbus};
use serde_json::{Value, json};

use crate::bus::{Bus, Unit};
use crate::external::PyModbus;
use crate::gateway::{Finished, Site};
use crate::modbus_links::Probe;

/// The level in mm is register 4 of a QDY30A.
const LEVEL: u16 = 4;

fn probe(level: u16) -> Unit {
    Unit::Answers(BTreeMap::from([(0, 1), (1, 3), (2, 17), (3, 1), (LEVEL, level), (5, 0), (6, 100)]))
}

fn units(finished: &Finished) -> Vec<Value> {
    finished.json()["units"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_finds_who_answers_and_says_what_to_check_when_nobody_does() {
    let bus = Bus::start(&[(1, probe(153)), (2, Unit::Dead), (3, probe(85))]).await;
    let place = format!("tcp://127.0.0.1:{}", bus.port);
    let scan = |more: &[&str]| Finished::run(&[&["modbus", "scan", &place, "--timeout", "100ms"], more].concat());
    let found = units(&scan(&["--units", "1-4", "--json"]));
    let numbers: Vec<&Value> = found.iter().map(|unit| &unit["unit"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(3)]);
    assert_eq!((&found[0]["tables"]["holding"], &found[0]["vendor"]), (&json!("answers"), &Value::Null));
    assert_eq!(found[0]["tables"]["coil"], "exception 1 (illegal function)");

    let text = scan(&["--units", "3,4"]);
    assert!(text.out.starts_with("unit   3 ") && text.out.contains("functions 3, 4"), "{text:?}");
    assert!(text.out.contains("1 of 2 units answers"), "{text:?}");
    let silent = scan(&["--units", "2"]);
    assert_eq!(silent.code, Some(1), "{silent:?}");
    assert!(silent.errors.contains("check: unit number") && silent.errors.contains("检查：从站地址"), "{silent:?}");

    drop(bus);
    let nobody = scan(&["--units", "1"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.errors.contains("failed to ask the units: "), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_a_serial_port_finds_the_unit_and_reads_what_it_has() {
    let port = Probe::at(153).behind_port();
    let place = format!("rtu://{}", port.display());
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| Finished::run(arguments));
    let scan = run(&["modbus", "scan", &place, "--units", "1-3", "--timeout", "150ms", "--json"]);
    let found = units(&scan);
    assert_eq!(found.len(), 1, "{scan:?}");
    assert_eq!(
        (&found[0]["unit"], &found[0]["tables"]["holding"]),
        (&json!(1), &json!("exception 2 (illegal data address)"))
    );
    assert_eq!(found[0]["tables"]["coil"], "exception 1 (illegal function)");
    assert_eq!(scan.json()["silent"].as_object().map(serde_json::Map::len), Some(1), "the two others: {scan:?}");
    let text = run(&["modbus", "scan", &place, "--units", "1", "--timeout", "150ms", "--baud", "9600,19200"]);
    assert!(text.out.starts_with("unit   1 ") && text.out.contains("9600 8N1  functions 3, 4"), "{text:?}");
    let read = run(&["modbus", "read", &place, "4", "--count", "1", "--json"]).json();
    assert_eq!(read["words"], json!([153]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_explains_a_register_and_a_read_shows_it() {
    let bus = Bus::start(&[(1, probe(153))]).await;
    let place = format!("tcp://127.0.0.1:{}", bus.port);
    let probe = |more: &[&str]| Finished::run(&[&["modbus", "probe", &place, "--every", "0ms"], more].concat());
    let told = probe(&["4", "--expect", "127", "--measured-in", "mm"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("- name: level_mm") && told.out.contains("offset: -26"), "{told:?}");
    let beside = probe(&["0x0005", "--count", "2", "--expect", "153", "--json"]).json();
    assert_eq!((&beside["better"]["address"], &beside["better"]["guess"]["type"]), (&json!(4), &json!("u16")));
    let refused = probe(&["400"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.errors.contains("exception 2") && refused.errors.contains("设备有应答但拒绝"), "{refused:?}");

    let read = Finished::run(&["modbus", "read", &place, "2", "--count", "3"]);
    assert_eq!(
        read.out.split_whitespace().collect::<Vec<_>>()[..8],
        ["0x0002", "2", "0011", "0001", "0099", "17", "1", "153"]
    );
    let words = Finished::run(&["modbus", "read", &place, "2", "--count", "3", "--json"]).json();
    assert_eq!(words["words"], json!([17, 1, 153]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_of_the_running_gateway_is_asked_between_its_polls() {
    let bus = Bus::start(&[(1, probe(153)), (7, probe(85))]).await;
    let mut site = Site::new("id,profile,source,address,interval\nLV-1,qdy30a-level,bus,1,200ms\n");
    let source = format!("  bus: {{type: modbus, host: 127.0.0.1, port: {}, timeout: 200ms}}\n", bus.port);
    site.configure(&format!("sources:\n{source}{}", site.embedded_broker()));
    let nobody = site.command(&["modbus", "read", "bus", "4"]);
    assert!(nobody.errors.contains("no gateway answers"), "{nobody:?}");
    let gateway = site.start().await;
    gateway.wait_for_component("source/bus", "ok", "").await;

    // Unit 7 is on the bus and not in the inventory.
    let found = units(&site.command(&["modbus", "scan", "bus", "--units", "6-7", "--json"]));
    assert_eq!((found.len(), &found[0]["unit"]), (1, &json!(7)));
    let read = site.command(&["modbus", "read", "bus", "4", "--unit", "7", "--count", "1", "--json"]).json();
    assert_eq!(read["words"], json!([85]));
    let told = site.command(&["modbus", "probe", "bus", "4", "--unit", "7", "--expect", "85", "--every", "0ms"]);
    assert!(told.out.contains("first: u16 abcd 85, because: as expected"), "{told:?}");
    let refused = site.command(&["modbus", "read", "bus", "400", "--unit", "7"]);
    assert!(refused.errors.contains("exception 2 (illegal data address)"), "{refused:?}");
    let unknown = site.command(&["modbus", "read", "bush", "4"]);
    assert!(unknown.errors.contains("there are: bus"), "{unknown:?}");
    assert_eq!(gateway.metric("kerbside_modbus_rebuilds_total", &[]).await, 0.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_meter_is_found_and_its_voltage_recognised() {
    let shutdown = Shutdown::new();
    let district = District::new(DistrictConfig::demo(1, Clock::System)).shared();
    let bus = serve_modbus(district, "127.0.0.1:0".parse().unwrap(), shutdown.clone()).await.unwrap();
    let place = format!("tcp://{}", bus.local_addr());
    let scan = ["modbus", "scan", &place, "--units", "1-40", "--timeout", "2s", "--json"];
    let found = units(&Finished::run(&scan));
    let meter = found.iter().find(|unit| unit["tables"]["input"] == "answers").unwrap();
    let unit = meter["unit"].to_string();
    let probe = ["modbus", "probe", &place, "0", "--table", "input", "--unit", &unit, "--measured-in", "V", "--json"];
    let told = Finished::run(&[&probe[..], &["--every", "0ms"]].concat()).json();
    let best = &told["guesses"][0];
    assert_eq!((&best["type"], &best["order"], &best["scale"]), (&json!("f32"), &json!("abcd"), &json!(1.0)), "{told}");
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs python with pymodbus: run tests/run"]
async fn units_of_pymodbus_are_found_and_read() {
    let server = PyModbus::start().await;
    server.set(2, 0, 0x3333).await;
    server.set(2, 1, 0x4366).await;
    let place = format!("tcp://127.0.0.1:{}", server.port);
    let found = units(&Finished::run(&["modbus", "scan", &place, "--units", "1-4", "--timeout", "300ms", "--json"]));
    // A unit that pymodbus does not have fails instead of being silent.
    let is_read = |unit: &&Value| unit["tables"]["holding"] == "answers";
    let numbers: Vec<&Value> = found.iter().filter(is_read).map(|unit| &unit["unit"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2)], "{found:?}");
    let probe = ["modbus", "probe", &place, "0", "--unit", "2", "--measured-in", "V", "--every", "0ms", "--json"];
    let told = Finished::run(&probe).json();
    let best = &told["guesses"][0];
    assert_eq!((&best["type"], &best["order"]), (&json!("f32"), &json!("cdab")), "{told}");
}
