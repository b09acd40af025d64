//! Network servers publish on the embedded broker: uplinks in their envelopes become cases, and nothing else does.

use serde_json::{Value, json};

use crate::gateway::Site;
use crate::main_job::COVER;
use crate::publisher::Publisher;

const CHIRPSTACK: &str = "application/b1/device/24e124713b000001/event";
const TTN: &str = "v3/drains@city/devices/well-7";

fn uplink(counter: u32, open: bool) -> String {
    json!({
        "deviceInfo": {"devEui": "24e124713b000001"}, "devAddr": "00189440", "fCnt": counter, "fPort": 2,
        "object": {"open": open}, "rxInfo": [{"rssi": -101, "snr": 4.5}], "deduplicationId": counter.to_string(),
    })
    .to_string()
}

fn simulated() -> String {
    json!({
        "end_device_ids": {"device_id": "well-7", "dev_eui": "24E124713B000001"}, "simulated": true,
        "uplink_message": {"f_port": 2, "frm_payload": "qg==", "decoded_payload": {"open": true}},
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
    publisher.publish_acknowledged("city/d01/manhole/MH-1/up", r#"{"open":true}"#).await;
    gateway.wait_for_items("the other cover has a case", "/api/v1/cases", |items| items.len() == 2).await;
    gateway.stop().await;
}
