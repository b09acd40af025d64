//! Tests of the whole simulation: what is scripted is sent, nothing else is, and the sockets say the same.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use kerbside_model::Timestamp;
use kerbside_model::document::Problems;
use kerbside_model::inventory::{Datum, Known, read_csv};
use kerbside_runtime::{Clock, Shutdown};
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_modbus::client::{Context, Reader, tcp};
use tokio_modbus::prelude::SlaveContext as _;
use tokio_modbus::{ExceptionCode, Slave};

use crate::script::CYCLE;
use crate::{
    DeviceKind, District, DistrictConfig, MODBUS_SOURCE, MQTT_SOURCE, ScriptedEvent, ScriptedWhat, UnitFault, Uplink,
    WordTable, publish, serve_modbus,
};

/// 2026-07-15 10:00 in China.
const START: Timestamp = Timestamp(1_784_080_800_000);
const SEEDS: std::ops::Range<u64> = 0..12;

fn district(seed: u64) -> District {
    let clock = Clock::System;
    District::new(DistrictConfig { seed, covers: 60, poles: 30, drains: 20, clock, started_at: START })
}

fn minute(number: f64) -> Timestamp {
    START.plus(Duration::from_secs_f64(number * 60.0))
}

/// Everything from the start to `until`, however many steps that takes.
fn run(district: &mut District, until: Timestamp) -> Vec<Uplink> {
    let mut uplinks = Vec::new();
    loop {
        let step = district.step(until);
        if step.is_empty() {
            return uplinks;
        }
        uplinks.extend(step);
    }
}

fn json(uplink: &Uplink) -> Value {
    serde_json::from_str(&uplink.payload).unwrap_or(Value::Null)
}

fn number(uplink: &Uplink, key: &str) -> f64 {
    json(uplink)[key].as_f64().unwrap_or(f64::NAN)
}

/// The uplinks of the event's device from its beginning to before its end.
fn during<'a>(uplinks: &'a [Uplink], event: &'a ScriptedEvent) -> impl Iterator<Item = &'a Uplink> {
    uplinks
        .iter()
        .filter(move |uplink| uplink.device_id == event.device && uplink.at >= event.at && uplink.at < event.until)
}

fn devices_of(script: &[ScriptedEvent], what: &[ScriptedWhat]) -> HashSet<String> {
    script.iter().filter(|event| what.contains(&event.what)).map(|event| event.device.clone()).collect()
}

#[test]
fn the_same_seed_sends_the_same_however_coarsely_it_is_stepped() {
    let coarse = run(&mut district(7), minute(70.0));
    let mut stepped = district(7);
    let mut fine = Vec::new();
    for second in 0..=(70 * 60) {
        fine.extend(stepped.step(START.plus(Duration::from_secs(second))));
    }
    assert!(coarse.len() > 2_000, "{}", coarse.len());
    assert_eq!(coarse, fine);
    assert!(coarse.is_sorted_by_key(|uplink| uplink.at));
    assert_ne!(coarse, run(&mut district(8), minute(70.0)));
}

#[test]
fn every_kind_of_trouble_is_scripted_within_the_first_hour() {
    for seed in SEEDS {
        let script = district(seed).script();
        let kinds: HashSet<ScriptedWhat> =
            script.iter().filter(|event| event.at < minute(45.0)).map(|event| event.what).collect();
        // A sensor falls silent for one of two reasons.
        assert_eq!(kinds.len(), 10, "seed {seed}: {kinds:?}");
        assert!(script.iter().all(|event| event.until <= minute(150.0)), "seed {seed}");
        let first_opening = script.iter().find(|event| event.what == ScriptedWhat::CoverOpens).unwrap();
        assert!((minute(5.0)..minute(10.0)).contains(&first_opening.at), "seed {seed}");
    }
}

#[test]
fn what_is_scripted_is_what_is_sent() {
    for seed in SEEDS {
        let mut district = district(seed);
        let script = district.script();
        let uplinks = run(&mut district, minute(180.0));
        for event in &script {
            check_event(&uplinks, event, seed);
        }
    }
}

fn check_event(uplinks: &[Uplink], event: &ScriptedEvent, seed: u64) {
    let context = format!("seed {seed}: {event:?}");
    let of_device = || uplinks.iter().filter(|uplink| uplink.device_id == event.device);
    match event.what {
        ScriptedWhat::CoverOpens | ScriptedWhat::CoverOpensWithPermit => {
            let at_once = during(uplinks, event).next().expect(&context);
            assert_eq!(at_once.at, event.at, "{context}");
            assert!(during(uplinks, event).all(|uplink| json(uplink)["open"] == true), "{context}");
            assert!(during(uplinks, event).all(|uplink| number(uplink, "tilt") > 30.0), "{context}");
            let closed = of_device().find(|uplink| uplink.at >= event.until).expect(&context);
            assert_eq!((closed.at, &json(closed)["open"]), (event.until, &Value::Bool(false)), "{context}");
        }
        ScriptedWhat::TrafficShakes => {
            let tilted: Vec<&Uplink> = during(uplinks, event).filter(|uplink| number(uplink, "tilt") > 10.0).collect();
            assert!(tilted.len() >= 3, "{context}");
            for shaken in tilted {
                assert_eq!(json(shaken)["open"], false, "{context}");
                let next = of_device().find(|uplink| uplink.at > shaken.at).expect(&context);
                assert!(next.at.since(shaken.at) < Duration::from_secs(2), "{context}");
                assert!(number(next, "tilt") < 3.0, "{context}");
            }
        }
        ScriptedWhat::Storm => assert!(event.until.since(event.at) > Duration::from_secs(50 * 60), "{context}"),
        ScriptedWhat::DrainSurges => {
            assert!(during(uplinks, event).count() > 5, "{context}");
            assert!(during(uplinks, event).all(|uplink| number(uplink, "level") > 400.0), "{context}");
            let before = of_device().take_while(|uplink| uplink.at < event.at.minus(Duration::from_secs(600)));
            assert!(before.last().is_some_and(|uplink| number(uplink, "level") < 300.0), "{context}");
        }
        ScriptedWhat::WaterStands => {
            let deepest = during(uplinks, event).map(|uplink| number(uplink, "depth")).fold(0.0, f64::max);
            assert!((50.0..=225.0).contains(&deepest), "{context}: {deepest} mm");
            assert!(during(uplinks, event).any(|uplink| json(uplink)["water"] == true), "{context}");
        }
        ScriptedWhat::PoleLeaks => {
            let wet = during(uplinks, event)
                .filter(|uplink| number(uplink, "leakage") > 30.0 && json(uplink)["water"] == true);
            assert!(wet.count() > 5, "{context}");
        }
        ScriptedWhat::BatteryDies | ScriptedWhat::AntennaDrowns => {
            assert_eq!(during(uplinks, event).count(), 0, "{context}");
            let last = of_device().take_while(|uplink| uplink.at < event.at).last().expect(&context);
            match event.what {
                ScriptedWhat::BatteryDies => assert!(number(last, "batt") < 3.0, "{context}: {last:?}"),
                _ => assert!(number(last, "rssi") < -80.0, "{context}: {last:?}"),
            }
            assert!(of_device().any(|uplink| uplink.at >= event.until), "{context}");
        }
        ScriptedWhat::MalformedFrame => {
            let broken: Vec<&Uplink> = of_device().filter(|uplink| json(uplink).is_null()).collect();
            assert_eq!(broken.iter().map(|uplink| uplink.at).collect::<Vec<_>>(), [event.at], "{context}");
        }
        ScriptedWhat::UnknownDevice => assert_eq!(of_device().count(), 3, "{context}"),
    }
}

#[test]
fn nothing_is_wrong_that_is_not_scripted() {
    for seed in SEEDS {
        let mut district = district(seed);
        let script = district.script();
        let opened = devices_of(&script, &[ScriptedWhat::CoverOpens, ScriptedWhat::CoverOpensWithPermit]);
        let shaken = devices_of(&script, &[ScriptedWhat::TrafficShakes]);
        let surging = devices_of(&script, &[ScriptedWhat::DrainSurges]);
        let leaking = devices_of(&script, &[ScriptedWhat::PoleLeaks]);
        let wet = devices_of(&script, &[ScriptedWhat::WaterStands]);
        let weak = devices_of(&script, &[ScriptedWhat::BatteryDies]);
        let broken = devices_of(&script, &[ScriptedWhat::MalformedFrame]);
        for uplink in run(&mut district, minute(180.0)) {
            let (device, value) = (&uplink.device_id, json(&uplink));
            if value.is_null() {
                assert!(broken.contains(device), "seed {seed}: {uplink:?}");
                continue;
            }
            assert_eq!(value["ts"], uplink.at.as_millis());
            let above = |key: &str, limit: f64| value[key].as_f64().is_some_and(|number| number > limit);
            assert!(value["open"] != true || opened.contains(device), "seed {seed}: {uplink:?}");
            let tilts = opened.contains(device) || shaken.contains(device);
            assert!(!above("tilt", 3.0) || tilts, "seed {seed}: {uplink:?}");
            assert!(!above("level", 380.0) || surging.contains(device), "seed {seed}: {uplink:?}");
            assert!(!above("leakage", 10.0) || leaking.contains(device), "seed {seed}: {uplink:?}");
            assert!(value["water"] != true || wet.contains(device), "seed {seed}: {uplink:?}");
            assert!(value["batt"].is_null() || above("batt", 3.4) || weak.contains(device), "seed {seed}: {uplink:?}");
        }
    }
}

#[test]
fn devices_that_are_well_keep_their_intervals() {
    let mut district = district(3);
    let silent = devices_of(&district.script(), &[ScriptedWhat::BatteryDies, ScriptedWhat::AntennaDrowns]);
    let uplinks = run(&mut district, minute(180.0));
    for device in district.devices() {
        let times: Vec<Timestamp> =
            uplinks.iter().filter(|uplink| uplink.device_id == device.id).map(|uplink| uplink.at).collect();
        if device.source == MODBUS_SOURCE {
            assert_eq!(times, []);
            continue;
        }
        let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
        let tolerated = device.interval.mul_f64(1.03);
        assert!(longest <= tolerated || silent.contains(&device.id), "{}: {longest:?}", device.id);
        assert!(times[0] <= minute(1.0));
    }
}

#[test]
fn the_next_cycle_troubles_other_devices() {
    let mut district = district(5);
    let first = district.script();
    run(&mut district, START.plus(CYCLE).plus(Duration::from_secs(1)));
    let second = district.script();
    assert!(second.iter().all(|event| event.at > START.plus(CYCLE)));
    assert_ne!(
        first.iter().map(|event| &event.device).collect::<Vec<_>>(),
        second.iter().map(|event| &event.device).collect::<Vec<_>>()
    );
    let uplinks = run(&mut district, START.plus(CYCLE).plus(Duration::from_secs(3 * 3_600)));
    for event in &second {
        check_event(&uplinks, event, 5);
    }
}

#[test]
fn a_district_of_any_size_runs() {
    for (covers, poles, drains) in [(0, 0, 0), (1, 1, 1), (3, 2, 2), (2_000, 500, 400)] {
        let config = DistrictConfig { seed: 1, covers, poles, drains, clock: Clock::System, started_at: START };
        let mut district = District::new(config);
        let senders: HashSet<String> =
            run(&mut district, minute(2.0)).into_iter().map(|uplink| uplink.device_id).collect();
        assert_eq!(senders.len(), covers + poles + drains);
    }
}

#[test]
fn one_step_is_bounded_and_the_rest_is_due_at_once() {
    let config =
        DistrictConfig { seed: 1, covers: 12_000, poles: 0, drains: 0, clock: Clock::System, started_at: START };
    let mut district = District::new(config);
    assert_eq!(district.step(minute(1.0)).len(), crate::STEP_UPLINKS_MAX);
    assert!(district.next_due() <= minute(1.0));
    assert_eq!(district.step(minute(1.0)).len(), 2_000);
}

#[test]
fn the_inventory_is_read_without_problems() {
    let district = district(1);
    let profiles: Vec<&str> = district.devices().iter().map(|device| device.kind.profile()).collect();
    let sources = [MQTT_SOURCE.to_owned(), MODBUS_SOURCE.to_owned()];
    let problems = Problems::default();
    let csv = district.inventory_csv();
    let known = Known { profiles: &profiles, sources: Some(&sources), datum: Datum::Wgs84 };
    let entries = read_csv("demo.csv", csv.as_bytes(), &known, &problems);
    let devices: Vec<_> = entries.into_iter().map(|entry| entry.device).collect();
    assert_eq!(problems.into_sorted(), []);
    assert_eq!(devices.len(), district.devices().len());
    let codes: HashSet<&str> = devices.iter().map(|device| device.component_code.as_str()).collect();
    assert_eq!(codes.len(), devices.len(), "component codes are unique");
    for device in &devices {
        assert_eq!((device.grid.len(), device.component_code.len()), (15, 16), "{device:?}");
        assert!(["市政", "园林", "环卫", "城管"].contains(&device.unit.as_str()), "{device:?}");
        assert!(device.position.is_some() && !device.place.is_empty() && !device.name.is_empty(), "{device:?}");
        assert!(device.interval.is_some(), "{device:?}");
    }
    assert_eq!(devices.iter().map(|device| device.unit.as_str()).collect::<HashSet<_>>().len(), 4);
}

#[test]
fn the_weather_station_sees_the_storm_and_probes_rise_with_it() {
    let mut district = district(2);
    run(&mut district, minute(5.0));
    let unit = |kind: DeviceKind| {
        let devices = district.devices();
        devices.iter().find(|device| device.kind == kind).and_then(|device| device.modbus_unit()).unwrap()
    };
    let word = |unit, address, at| district.registers(unit, WordTable::Holding, (address, 1), at).unwrap()[0];
    let (station, probe) = (unit(DeviceKind::WeatherStation), unit(DeviceKind::LevelProbe));
    assert_eq!(word(station, 0x0201, minute(5.0)), 0);
    let fallen = word(station, 0x0201, minute(75.0));
    assert!((240..=340).contains(&fallen), "{fallen} tenths of a mm");
    assert!(word(station, 0x01F9, minute(5.0)) > word(station, 0x01F9, minute(25.0)) + 10, "rain cools");
    assert_eq!((word(probe, 2, START), word(probe, 3, START)), (17, 0));
    assert!(word(probe, 4, minute(35.0)) > word(probe, 4, minute(5.0)) + 25);
    let light = district.registers(station, WordTable::Holding, (0x01F4, 14), minute(5.0)).unwrap();
    let lux = u32::from(light[10]) << 16 | u32::from(light[11]);
    assert!((30_000..80_000).contains(&lux), "{lux} lux at ten in the morning");
}

async fn connect(address: std::net::SocketAddr, unit: u8) -> Context {
    tcp::connect_slave(address, Slave(unit)).await.unwrap()
}

#[tokio::test]
async fn the_bus_answers_for_its_units_and_refuses_as_devices_do() {
    let shutdown = Shutdown::new();
    let shared = district(1).shared();
    let devices = shared.lock().unwrap().devices();
    let bus = serve_modbus(Arc::clone(&shared), "127.0.0.1:0".parse().unwrap(), shutdown.clone()).await.unwrap();
    let mut context = connect(bus.local_addr(), 1).await;
    for device in devices.iter().filter(|device| device.source == MODBUS_SOURCE) {
        context.set_slave(Slave(device.modbus_unit().unwrap()));
        match device.kind {
            DeviceKind::Meter => {
                let words = context.read_input_registers(0, 2).await.unwrap().unwrap();
                let volt = f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]));
                assert!((226.0..234.0).contains(&volt), "{volt} V");
                let words = context.read_input_registers(0x0156, 2).await.unwrap().unwrap();
                let energy = f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]));
                assert!(energy > 200.0, "{energy} kWh");
                let refused = context.read_holding_registers(0, 2).await.unwrap();
                assert_eq!(refused, Err(ExceptionCode::IllegalFunction));
            }
            DeviceKind::WeatherStation => {
                let words = context.read_holding_registers(0x01F4, 14).await.unwrap().unwrap();
                assert!((300..1_000).contains(&words[4]), "{} tenths of %RH", words[4]);
                let refused = context.read_holding_registers(0x01F3, 2).await.unwrap();
                assert_eq!(refused, Err(ExceptionCode::IllegalDataAddress));
            }
            _ => {
                let words = context.read_holding_registers(4, 1).await.unwrap().unwrap();
                assert!((50..400).contains(&words[0]), "{} mm", words[0]);
            }
        }
    }
    context.set_slave(Slave(200));
    let refused = context.read_holding_registers(0, 1).await.unwrap();
    assert_eq!(refused, Err(ExceptionCode::GatewayTargetDevice));
    assert_eq!(bus.requests(1), 3);
    shutdown.cancel();
}

#[tokio::test]
async fn a_sick_unit_is_sick_until_it_is_healed() {
    let shutdown = Shutdown::new();
    let bus = serve_modbus(district(1).shared(), "127.0.0.1:0".parse().unwrap(), shutdown.clone()).await.unwrap();
    let mut context = connect(bus.local_addr(), 1).await;
    bus.set_fault(1, Some(UnitFault::Refuses(6)));
    assert_eq!(context.read_input_registers(0, 2).await.unwrap(), Err(ExceptionCode::ServerDeviceBusy));
    bus.set_fault(1, Some(UnitFault::NoAnswer));
    let waited = tokio::time::timeout(Duration::from_millis(200), context.read_input_registers(0, 2)).await;
    assert!(waited.is_err(), "{waited:?}");
    bus.set_fault(1, None);
    let mut context = connect(bus.local_addr(), 1).await;
    assert_eq!(context.read_input_registers(0, 2).await.unwrap().unwrap().len(), 2);
    shutdown.cancel();
}

/// Topics and payloads.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A broker for one publisher: it keeps what it acknowledges, and breaks off the first connection after `patience`.
async fn listen_to_publisher(listener: TcpListener, patience: usize, received: Received) {
    let mut breaks_off = true;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = BytesMut::new();
        while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
            let mut answers = BytesMut::new();
            while let Ok(packet) = Packet::read(&mut bytes, 10_000) {
                match packet {
                    Packet::Connect(_) => {
                        let accepted = ConnAck::new(ConnectReturnCode::Success, !received.lock().unwrap().is_empty());
                        accepted.write(&mut answers).unwrap();
                    }
                    Packet::Publish(publish) => {
                        PubAck::new(publish.pkid).write(&mut answers).unwrap();
                        received.lock().unwrap().push((publish.topic, publish.payload.to_vec()));
                    }
                    _ => {}
                }
            }
            if breaks_off && received.lock().unwrap().len() >= patience {
                // What was read but not answered will come again.
                breaks_off = false;
                break;
            }
            if stream.write_all(&answers).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_publisher_sends_every_uplink_though_its_broker_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let broker = tokio::spawn(listen_to_publisher(listener, 50, Arc::clone(&received)));
    let shutdown = Shutdown::new();
    let clock = Clock::scaled(START, 600.0);
    let config = DistrictConfig { seed: 4, covers: 60, poles: 30, drains: 20, clock, started_at: START };
    let published = tokio::spawn(publish(District::new(config).shared(), address, None, shutdown.clone()));
    let expected: HashSet<(String, Vec<u8>)> = run(&mut district(4), minute(10.0))
        .into_iter()
        .map(|uplink| (uplink.topic, uplink.payload.into_bytes()))
        .collect();
    let deadline = Clock::stamp() + Duration::from_secs(20);
    loop {
        let seen: HashSet<(String, Vec<u8>)> =
            received.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let missing = expected.difference(&seen).count();
        if missing == 0 {
            break;
        }
        assert!(Clock::stamp() < deadline, "{missing} of {} uplinks are missing", expected.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), published).await.unwrap().unwrap();
    broker.abort();
}
