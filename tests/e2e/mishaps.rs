//! What goes wrong in the field and at the desk: each gives one clear error, and nothing else is lost.

use serde_json::{Value, json};

use crate::city::City;
use crate::gateway::{Finished, Gateway, Site, free_port};
use crate::influx::Influx;
use crate::publisher::Publisher;
use crate::wait::{SOON, wait_until};

const INVENTORY: &str = "\
id,profile,address
MH-1,json-manhole-cover,MH-1
MH-2,json-manhole-cover,MH-2
";
/// The quota below, and how much incompressible telemetry overfills it.
const QUOTA_BYTES: usize = 1 << 20;
const NOISE_BYTES: usize = 8 << 10;

fn topic(device: &str) -> String {
    format!("city/d01/manhole/{device}/up")
}

fn cover(open: bool) -> String {
    json!({ "open": open, "tilt": if open { 62.0 } else { 1.0 } }).to_string()
}

async fn wait_for_points(influx: &Influx, device: &str, count: usize) {
    wait_until(&format!("{count} points of {device}"), SOON, || async {
        let points = influx.points_of(device);
        if points.len() == count { Ok(()) } else { Err(format!("{points:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_frame_and_an_unknown_device_are_kept_and_nothing_else_is_lost() {
    let influx = Influx::start().await;
    let mut site = Site::new(INVENTORY);
    site.configure(&format!("sources:\n{}{}", site.embedded_broker(), Influx::config(influx.port())));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "covers");
    let frames: [(&str, &[u8]); 6] = [
        ("MH-1", br#"{"open": false, "tilt": 1.0}"#),
        ("MH-1", br#"{"open": tr"#),
        ("MH-1", &[0xFF, 0xFE, 0x00]),
        ("MH-9", br#"{"open": true, "tilt": 1.0}"#),
        ("MH-9", br#"{"open": true, "tilt": 2.0}"#),
        ("MH-2", br#"{"open": false, "tilt": 2.0}"#),
    ];
    for (device, frame) in frames {
        publisher.publish_acknowledged(&topic(device), frame).await;
    }

    let path = "/api/v1/undecoded?device=MH-1";
    let kept = gateway.wait_for_items("both frames are kept", path, |items| items.len() == 2).await;
    let texts: Vec<String> = kept.iter().map(|item| format!("{} {}", item["payload"], item["detail"])).collect();
    assert!(texts.iter().any(|text| text.contains(r#"open\": tr"#) && text.contains("not valid JSON")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("fffe00")), "{texts:?}");
    let unknown =
        gateway.wait_for_items("the stranger is listed", "/api/v1/unknown-devices", |items| items.len() == 1).await;
    assert!(unknown[0]["address"].as_str().unwrap().contains("MH-9"), "{unknown:?}");
    assert_eq!(unknown[0]["frames"], 2);
    assert!(unknown[0]["payload"]["text"].as_str().unwrap().contains("tilt"), "{unknown:?}");
    assert!(gateway.metric("kerbside_frames_undecoded_total", &[]).await >= 4.0);

    for device in ["MH-1", "MH-2"] {
        wait_for_points(&influx, device, 1).await;
    }
    assert_eq!(gateway.items("/api/v1/alarms").await, Vec::<Value>::new(), "a stranger has no alarm");
    influx.assert_content();
    gateway.stop().await;
}

#[test]
fn a_profile_of_registers_on_mqtt_fails_the_check_with_its_line() {
    let site = Site::new(&format!("{INVENTORY}LV-1,qdy30a-level,LV-1\n"));
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let checked = site.command(&["check"]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert_eq!(checked.out, "");
    assert!(checked.errors.contains("inventory.csv:4: "), "{}", checked.errors);
    assert!(checked.errors.contains("qdy30a-level") || checked.errors.contains("LV-1"), "{}", checked.errors);
    assert!(checked.errors.contains("1 problem"), "{}", checked.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_the_wrong_profile_is_left_out_and_the_others_run() {
    let mut site = Site::new(&format!("{INVENTORY}LV-1,qdy30a-level,LV-1\n"));
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    assert!(gateway.log().contains("inventory.csv:4"), "the row is named");
    let devices = gateway.items("/api/v1/devices").await;
    let ids: Vec<&str> = devices.iter().filter_map(|device| device["id"].as_str()).collect();
    assert_eq!(ids, ["MH-1", "MH-2"]);
    gateway.stop().await;
}

#[test]
fn every_mistake_of_a_configuration_is_named_with_its_line_and_nothing_starts() {
    let site = Site::new("id,profile,address\nMH-1,json-manhole-covr,MH-1\n");
    site.configure(
        "lisen: here\nsinks: {influx: {type: influx, url: \"ftp://db\", org: city, bucket: street}}\n\
         sources: {city: {type: mqtt, host: broker, port: 99999, topics: [up]}}\n",
    );
    let checked = site.command(&["check"]);
    assert_eq!((checked.code, checked.out.as_str()), (Some(2), ""), "{checked:?}");
    for words in ["gateway.yaml:4: lisen", "gateway.yaml:5: sinks.influx.url", "gateway.yaml:6: sources.city.port"] {
        assert!(checked.errors.contains(words), "{words} is missing in {}", checked.errors);
    }
    assert!(checked.errors.contains("did you mean"), "{}", checked.errors);

    let run = site.command(&["run"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.errors.contains("gateway.yaml:4: lisen"), "{}", run.errors);
    assert!(!site.path("data").try_exists().unwrap(), "nothing was begun");
}

#[test]
fn a_configuration_that_is_not_there_is_said_in_words() {
    let missing = Finished::run(&["check", "--config", "/nowhere/gateway.yaml"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.errors.contains("/nowhere/gateway.yaml"), "{missing:?}");
}

#[test]
fn listening_beyond_the_machine_without_accounts_is_refused() {
    let site = Site::new(INVENTORY);
    site.write("gateway.yaml", "listen: 0.0.0.0:8080\ndata_dir: data\ninventory: inventory.csv\n");
    let checked = site.command(&["check"]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(checked.errors.contains("gateway.yaml:1: listen") && checked.errors.contains("accounts"), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_same_folder_or_port_is_refused() {
    let mut site = Site::new(INVENTORY);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let second = site.command(&["run"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.errors.contains(&format!("127.0.0.1:{}", site.api_port)), "{second:?}");

    let config = std::fs::read_to_string(site.path("gateway.yaml")).unwrap();
    let elsewhere = config.replacen(&site.api_port.to_string(), &free_port().to_string(), 1);
    site.write("gateway.yaml", &elsewhere);
    let second = site.command(&["run"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.errors.contains("failed to"), "{second:?}");
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_drops_old_telemetry_with_an_alarm_and_keeps_alarms_and_cases() {
    let (database_port, city) = (free_port(), City::start().await);
    let mut site = Site::new("id,profile,address\nMH-1,json-manhole-cover,MH-1\nMH-2,e2e-noise,MH-2\n");
    site.write(
        "profiles/noise.yaml",
        "profile: e2e-noise\nversion: 1\nkind: manhole_cover\nvendor: Test\nmodel: noise\ninterval: 1h\n\
         payload: {format: json}\npoints:\n  - {name: noise, type: text, path: noise, required: true}\n\
         detectors: []\nsamples:\n  - {name: some, json: {noise: abc}, readings: {noise: abc}}\n  \
         - {name: none, text: '', error: not valid JSON}\n",
    );
    let store = format!("profiles: profiles/\nstore: {{batches_bytes_max: {QUOTA_BYTES}B, snapshot_interval: 1s}}\n");
    site.configure(
        &[
            store,
            format!("sources:\n{}", site.embedded_broker()),
            Influx::config(database_port),
            City::config(city.port(), "json"),
        ]
        .concat(),
    );
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "covers");
    publisher.publish_acknowledged(&topic("MH-1"), cover(true)).await;
    let cases = gateway
        .wait_for_items("the case is reported", "/api/v1/cases", |items| {
            items.len() == 1 && items[0]["state"] == "reported"
        })
        .await;
    let case = cases[0]["id"].as_str().unwrap();

    let mut random = fastrand::Rng::with_seed(8);
    let mut sent = 0;
    let alarms = loop {
        for _ in 0..16 {
            let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(NOISE_BYTES).collect();
            publisher.publish_acknowledged(&topic("MH-2"), json!({ "noise": noise }).to_string()).await;
            sent += NOISE_BYTES;
        }
        let alarms = gateway.items("/api/v1/alarms?condition=quota_exceeded").await;
        if !alarms.is_empty() {
            break alarms;
        }
        assert!(sent < 30 * QUOTA_BYTES, "{sent} bytes did not fill a quota of {QUOTA_BYTES}");
    };
    assert_eq!((&alarms[0]["state"], &alarms[0]["severity"]), (&json!("active"), &json!("major")));
    assert!(alarms[0]["explanation"].as_str().unwrap().contains("dropped"), "{}", alarms[0]);
    assert!(gateway.metric("kerbside_store_dropped_batches_total", &[]).await > 0.0, "{}", dropped(&gateway).await);
    assert_eq!(gateway.get("/health/ready").await.status, 200);

    // Alarms and cases are older than anything that was dropped, and they stand.
    let displaced = gateway.items("/api/v1/alarms?condition=displaced").await;
    assert_eq!((displaced.len(), &displaced[0]["state"]), (1, &json!("active")));
    assert_eq!(gateway.get(&format!("/api/v1/cases/{case}")).await.ok()["state"], "reported");
    gateway.kill();
    let gateway = site.start().await;
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 1);
    assert_eq!(gateway.items("/api/v1/alarms?condition=displaced").await[0]["state"], "active");

    // What was not dropped still arrives, and the quota's alarm clears as the traffic goes on.
    let influx = Influx::start_at(database_port).await;
    wait_until("the quota's alarm clears", SOON, || async {
        publisher.publish_acknowledged(&topic("MH-1"), cover(true)).await;
        let alarms = gateway.items("/api/v1/alarms?condition=quota_exceeded").await;
        if alarms.len() == 1 && alarms[0]["state"] == "cleared" { Ok(()) } else { Err(json!(alarms).to_string()) }
    })
    .await;
    assert!(!influx.points_of("MH-2").is_empty());
    assert_eq!(city.requests().len(), 1);
    gateway.stop().await;
}

async fn dropped(gateway: &Gateway) -> String {
    let text = gateway.get("/metrics").await.text;
    text.lines().filter(|line| line.contains("dropped")).collect::<Vec<_>>().join("\n")
}
