//! Network servers publish on the embedded broker: uplinks in their envelopes become cases, and nothing else does.

use serde_json::{Value, json};

use crate::external::Mosquitto;
use crate::gateway::Site;
use crate::influx::Influx;
use crate::main_job::COVER;
use crate::publisher::Publisher;
use crate::wait::{SOON, wait_for};

const CHIRPSTACK: &str = "application/b1/device/24e124713b000001/event";
const TTN: &str = "v3/drains@city/devices/well-7";

fn uplink(counter: u32, open: bool) -> String {
    json!({
        "deviceInfo": {"devEui": "24e124713b000001"}, "devAddr": "00189440", "fCnt": counter, "fPort": 2,
        "object": {"open": open, "tilt": if open { 62.0 } else { 1.2 }}, "rxInfo": [{"rssi": -101, "snr": 4.5}], "deduplicationId": counter.to_string(),
    })
    .to_string()
}

fn simulated() -> String {
    json!({
        "end_device_ids": {"device_id": "well-7", "dev_eui": "24E124713B000001"}, "simulated": true,
        "uplink_message": {"f_port": 2, "frm_payload": "qg==", "decoded_payload": {"open": true, "tilt": 62.0}},
    })
    .to_string()
}

fn configure(site: &Site) {
    site.configure(&format!(
        "sources:\n  broker:\n    type: broker\n    listen: \"127.0.0.1:{}\"\n    envelope:\n      \
         \"application/#\": chirpstack_v4\n      \"v3/#\": ttn_v3\n",
        site.broker_port
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uplink_opens_one_case_however_often_it_comes_and_a_simulated_one_opens_none() {
    let mut site = Site::new(&format!("{COVER}MH-7,json-manhole-cover,24-E1-24-71-3B-00-00-01,,,,,,,\n"));
    configure(&site);
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "network-server");
    publisher.publish_acknowledged(&format!("{TTN}/up"), simulated()).await;
    publisher.publish_acknowledged(&format!("{CHIRPSTACK}/join"), uplink(1, true)).await;
    publisher.publish_acknowledged(&format!("{CHIRPSTACK}/up"), uplink(1, false)).await;
    assert_eq!(gateway.items("/api/v1/cases").await, Vec::<Value>::new(), "nothing happened in the street");
    for event in ["simulated", "join"] {
        let label = format!("event=\"{event}\"");
        assert_eq!(gateway.metric("kerbside_frames_ignored_total", &[&label]).await, 1.0, "{event}");
    }
    assert_eq!(gateway.items("/api/v1/undecoded").await, Vec::<Value>::new());

    publisher.publish_acknowledged(&format!("{CHIRPSTACK}/up"), uplink(4, true)).await;
    let cases = gateway.wait_for_items("the cover has a case", "/api/v1/cases", |items| items.len() == 1).await;
    assert_eq!((&cases[0]["device"], &cases[0]["condition"]), (&json!("MH-7"), &json!("displaced")));
    assert_eq!(gateway.metric("kerbside_uplinks_lost_total", &[]).await, 2.0);
    gateway.kill();

    let gateway = site.start().await;
    publisher.publish_acknowledged(&format!("{CHIRPSTACK}/up"), uplink(4, true)).await;
    let repeats = gateway.metric("kerbside_frames_duplicate_total", &["reason=\"same_uplink\""]).await;
    assert_eq!(repeats, 1.0, "it was known over the crash");
    // The covers that speak for themselves are heard beside it.
    publisher.publish_acknowledged("city/d01/manhole/MH-1/up", r#"{"open":true,"tilt":62.0}"#).await;
    gateway.wait_for_items("the other cover has a case", "/api/v1/cases", |items| items.len() == 2).await;
    gateway.stop().await;
}

/// What a device sends, in base64, in the envelope of ChirpStack.
fn bytes_of(dev_eui: &str, counter: u32, data: &str) -> String {
    json!({
        "deviceInfo": {"devEui": dev_eui}, "devAddr": "00189440", "fCnt": counter, "fPort": 2, "data": data,
        "rxInfo": [{"rssi": -101, "snr": 4.5}],
    })
    .to_string()
}

/// Battery 100 %, 26.7 degrees, 315 mm, askew: github.com/Milesight-IoT/SensorDecoders, EM400-UDL, NB-IoT section.
const NBIOT_FRAME: &str = "020001005f00000001303130313031313036373439443139303534363930303331383638353038303634\
                           383037333530343630303433323234323133313130383938363034313231303232373030363238353709000e\
                           01756403670b0104823b01050001";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto: run tests/run"]
async fn bytes_of_devices_come_over_a_real_broker_in_any_envelope_into_the_database() {
    let (mosquitto, influx) = (Mosquitto::start().await, Influx::start().await);
    let mut site = Site::new(
        "id,profile,address,mount_height_mm\nDL-1,dragino-ldds75,24E124713B000001,3000\n\
         DL-2,milesight-em400-udl,868508064807350,2000\nDL-3,dragino-ldds75,bare/DL-3,3000\n",
    );
    site.configure(&format!(
        "sources:\n  city: {{type: mqtt, host: 127.0.0.1, port: {}, client_id: kerbside-e2e, topics: \
         [{{filter: \"#\", qos: 1}}], envelope: auto, backoff_max: 1s}}\n{}",
        mosquitto.address.port(),
        Influx::config(influx.port()),
    ));
    let gateway = site.start().await;
    gateway.wait_for_component("source/city", "ok", "").await;
    let publisher = Publisher::start(mosquitto.address, "servers");
    // 2885 mV, 2821 mm, 26.1 degrees; and the same uplink once more.
    for _ in 0..2 {
        let uplink = bytes_of("24e124713b000001", 1, "C0ULBQABBQE=");
        publisher.publish_acknowledged(&format!("{CHIRPSTACK}/up"), uplink).await;
    }
    let frame: Vec<u8> =
        (0..NBIOT_FRAME.len()).step_by(2).map(|at| u8::from_str_radix(&NBIOT_FRAME[at..at + 2], 16).unwrap()).collect();
    publisher.publish_acknowledged("nb/868508064807350", frame).await;
    publisher.publish_acknowledged("bare/DL-3", b"not for this port".as_slice()).await;
    wait_for("both devices are in the database", SOON, || {
        let points = [influx.points_of("DL-1"), influx.points_of("DL-2")];
        if points.iter().all(|points| points.len() == 1) { Ok(()) } else { Err(format!("{points:?}")) }
    })
    .await;
    let field =
        |device: &str, name: &str| influx.points_of(device)[0].fields.get(name).and_then(|text| text.parse().ok());
    for (device, name, value) in [
        ("DL-1", "battery_v", 2.885),
        ("DL-1", "distance_mm", 2821.0),
        ("DL-1", "level_mm", 179.0),
        ("DL-1", "temperature_c", 26.1),
        ("DL-1", "signal_dbm", -101.0),
        ("DL-2", "battery_percent", 100.0),
        ("DL-2", "distance_mm", 315.0),
        ("DL-2", "level_mm", 1685.0),
        ("DL-2", "signal_dbm", -95.0),
    ] {
        assert_eq!(field(device, name), Some(value), "{device} {name}: {:?}", influx.points_of(device));
    }
    assert_eq!(influx.points_of("DL-1")[0].measurement, "drain");
    assert_eq!(gateway.metric("kerbside_frames_duplicate_total", &["reason=\"same_uplink\""]).await, 1.0);
    let kept = gateway.items("/api/v1/undecoded").await;
    assert_eq!((kept.len(), &kept[0]["device"]), (1, &json!("DL-3")), "a bare message went to its profile: {kept:?}");
    influx.assert_content();
    gateway.stop().await;
}
