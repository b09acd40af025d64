//! Who a message is from: strangers are kept for adoption, forged messages are refused, a babbling device is thinned.

use serde_json::{Value, json};

use crate::gateway::{Gateway, Site};
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;

/// Ids are unique within a district, and a cover says its own.
fn configure(site: &Site, more: &str) {
    let source = format!(
        "sources:\n  broker:\n    type: broker\n    listen: \"127.0.0.1:{}\"\n    address:\n      \
         topic: \"city/{{district}}/{{kind}}/{{device}}/up\"\n      kinds: {{manhole: manhole_cover}}\n      \
         claim: deviceId\n",
        site.broker_port
    );
    site.configure(&format!("{source}{more}"));
}

async fn undecoded(gateway: &Gateway, reason: &str) -> Vec<Value> {
    let mut kept = gateway.items("/api/v1/undecoded").await;
    kept.retain(|frame| frame["reason"] == reason);
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_listed_with_its_frames_and_taken_once_it_is_in_the_inventory() {
    let mut site = Site::new(COVER);
    configure(&site, "");
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "stranger");
    let first = r#"{"deviceId":"7","open":true,"tilt":62.0,"batt":3.5}"#;
    publisher.publish_acknowledged("city/d07/manhole/7/up", first).await;

    let listed = site.command(&["devices", "--json"]).json();
    let stranger = &listed["unknown"][0];
    assert_eq!((&stranger["source"], &stranger["address"]), (&json!("broker"), &json!("d07/7")));
    assert_eq!(stranger["frames"], 1);
    let text = site.command(&["devices"]);
    assert!(text.out.contains("d07/7") && text.out.contains("1 address of no device"), "{text:?}");
    assert_eq!(gateway.metric("kerbside_frames_undecoded_total", &["reason=\"unknown_device\""]).await, 1.0);
    gateway.kill();
    // Without a gateway the store says the same.
    let offline = site.command(&["devices", "--json"]).json();
    assert_eq!((&offline["unknown"][0]["address"], &offline["unknown"][0]["frames"]), (&json!("d07/7"), &json!(1)));

    site.write("inventory.csv", &format!("{COVER}MH-7,json-manhole-cover,d07/7,,,,,,,\n"));
    let gateway = site.start().await;
    publisher.publish_acknowledged("city/d07/manhole/7/up", first).await;
    let cases = gateway.wait_for_items("its cover has a case", "/api/v1/cases", |items| items.len() == 1).await;
    assert_eq!(cases[0]["device"], "MH-7");
    // What came before is still there, whole, to be replayed.
    let kept = undecoded(&gateway, "unknown_device").await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["payload"].to_string().matches("deviceId").count(), 1, "{}", kept[0]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_message_raises_nothing_and_is_kept_with_its_reason() {
    let mut site = Site::new(COVER);
    configure(&site, "");
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "forger");
    publisher.publish_acknowledged(TOPIC, cover_message(true).replace("MH-1", "MH-9")).await;
    publisher.publish_acknowledged("city/d01/pole/MH-1/up", cover_message(true)).await;
    assert_eq!(gateway.items("/api/v1/alarms").await, Vec::<Value>::new());
    for reason in ["wrong_claim", "wrong_kind"] {
        let kept = undecoded(&gateway, reason).await;
        assert_eq!((kept.len(), &kept[0]["device"]), (1, &json!("MH-1")), "{reason}");
        let label = format!("reason=\"{reason}\"");
        assert_eq!(gateway.metric("kerbside_frames_undecoded_total", &[&label]).await, 1.0);
    }
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    gateway.wait_for_items("the cover itself is heard", "/api/v1/cases", |items| items.len() == 1).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_babbling_device_is_thinned_and_its_alarm_is_not() {
    let mut site = Site::new(COVER);
    configure(&site, "limits: {device_frames_per_second: 1, device_burst: 5}\n");
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "babbler");
    for _ in 0..200 {
        publisher.publish(TOPIC, cover_message(false)).await;
    }
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let cases = gateway.wait_for_items("the alarm has a case", "/api/v1/cases", |items| !items.is_empty()).await;
    assert_eq!((cases.len(), &cases[0]["condition"]), (1, &json!("displaced")));
    let alarms = gateway.items("/api/v1/alarms").await;
    let babbling: Vec<&Value> = alarms.iter().filter(|alarm| alarm["condition"] == "babbling").collect();
    assert_eq!((babbling.len(), &babbling[0]["suppressed"]), (1, &json!("no_case")));
    let thinned = gateway.metric("kerbside_frames_thinned_total", &[]).await;
    let sent = gateway.metric("kerbside_observations_total", &[]).await;
    assert!(thinned > 100.0 && thinned + sent == 201.0, "{thinned} thinned and {sent} sent");
    assert_eq!(gateway.metric("kerbside_frames_decoded_total", &[]).await, 201.0);
    gateway.stop().await;
}
