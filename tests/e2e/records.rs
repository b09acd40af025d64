//! A recording of the running gateway, replayed; and tables of devices through the commands.

use std::process::{Command, Stdio};

use kerbside_runtime::Clock;
use serde_json::{Value, json};

use crate::gateway::{Finished, KERBSIDE, Site};
use crate::influx::Influx;
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;
use crate::wait::{SOON, wait_for};

/// What must be the same: which alarms and cases, since when, and what became of them.
fn essence(alarms: &[Value], cases: &[Value]) -> Value {
    let pick = |keys: &[&str], record: &Value| keys.iter().map(|key| record[*key].clone()).collect::<Vec<_>>();
    let alarms: Vec<_> = alarms
        .iter()
        .map(|alarm| pick(&["id", "device", "condition", "state", "opened_at", "cleared_at", "case_id"], alarm))
        .collect();
    let cases: Vec<_> = cases.iter().map(|case| pick(&["id", "state", "opened_at", "standing"], case)).collect();
    json!([alarms, cases])
}

fn replayed(site: &Site, file: &str, more: &[&str]) -> Value {
    let file = site.path(file);
    let arguments = [&["replay", file.to_str().unwrap(), "--json"], more].concat();
    site.command(&arguments).json()
}

fn essence_of_replay(report: &Value) -> Value {
    let cases: Vec<Value> = report["cases"].as_array().unwrap().iter().map(|case| case["case"].clone()).collect();
    essence(report["alarms"].as_array().unwrap(), &cases)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_did_is_recorded_beside_it_and_replayed() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let since = Clock::System.now().to_string();
    let gateway = site.start().await;
    let live_file = site.path("live.kbr");
    let mut live = Command::new(KERBSIDE)
        .args(["record", "--out", live_file.to_str().unwrap(), "--for", "5m", "--config"])
        .arg(site.path("gateway.yaml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the recording is begun", SOON, || std::fs::metadata(&live_file).map_err(|error| error.to_string())).await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    publisher.publish_acknowledged("city/d01/manhole/stranger/up", "{}").await;
    publisher.publish_acknowledged(TOPIC, cover_message(false)).await;
    let alarms =
        gateway.wait_for_items("the alarm is over", "/api/v1/alarms", |items| items[..].iter().any(is_cleared)).await;
    let cases = gateway.items("/api/v1/cases").await;
    let wanted = essence(&alarms, &cases);

    let stored = site.path("stored.kbr");
    let finished = site.command(&["record", "--out", stored.to_str().unwrap(), "--since", &since]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.errors.contains("3 frames"), "{finished:?}");
    let again = site.command(&["record", "--out", stored.to_str().unwrap(), "--since", &since]);
    assert!(again.code == Some(1) && again.errors.contains("name a new one"), "{again:?}");
    // The live one is ended by hand, and holds the same frames.
    crate::gateway::send_sigterm(&live);
    assert!(crate::gateway::wait_for_end(&mut live).await.success());

    let first = replayed(&site, "stored.kbr", &["--recorded"]);
    assert_eq!(essence_of_replay(&first), wanted);
    assert_eq!((&first["frames"], &first["undecoded"]), (&json!(3), &json!({"unknown_device": 1})));
    assert_eq!(replayed(&site, "stored.kbr", &["--recorded", "--speed", "1000x"]), first);
    assert_eq!(essence_of_replay(&replayed(&site, "stored.kbr", &[])), wanted, "with today's configuration");
    let live = replayed(&site, "live.kbr", &["--recorded"]);
    assert_eq!((&live["frames"], &live["readings"]), (&first["frames"], &first["readings"]));
    let text = site.command(&["replay", stored.to_str().unwrap()]);
    assert!(text.out.contains("displaced") && text.out.contains("notices not sent"), "{text:?}");
    // Readings go to a database that is named, and to no other.
    let database = Influx::start().await;
    site.write("token", "t0ken\n");
    let (url, token) = (format!("http://{}", database.address), site.path("token"));
    let named = ["--influx", &url, "--influx-org", "city", "--influx-bucket", "street", "--influx-token-file"];
    let sent = replayed(&site, "stored.kbr", &[&named[..], &[token.to_str().unwrap()]].concat());
    assert_eq!(sent["readings_sha256"], first["readings_sha256"]);
    assert_eq!(database.points_of("MH-1").len(), 2, "{:?}", database.points());
    database.assert_content();
    gateway.stop().await;
}

fn is_cleared(alarm: &Value) -> bool {
    alarm["state"] == "cleared"
}

#[test]
fn a_table_of_a_city_is_checked_taken_over_and_given_back() {
    let site = Site::new("");
    let table = "窨井清单,,,\n编号,设备模型,地址,经度,纬度,部件标识码\nMH-1,json-manhole-cover,MH-1,116.404,39.915,\
                 4106990103000001\nMH-2,json-manhole-cover,MH-1,,,\nMH-3,json-manhole-cover,MH-3,,,4.10699E+15\n";
    site.write("city.csv", table);
    site.configure("site: {datum: gcj02}\n");
    let city = site.path("city.csv");
    let report = site.path("report.csv");
    let checked =
        site.command(&["inventory", "check", city.to_str().unwrap(), "--report", report.to_str().unwrap(), "--json"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let found: Value = serde_json::from_str(&checked.out).unwrap();
    let rows: Vec<&Value> = found["problems"].as_array().unwrap().iter().map(|problem| &problem["row"]).collect();
    assert_eq!((&found["sound"], rows), (&json!(1), vec![&json!(4), &json!(5)]));
    assert_eq!(std::fs::read_to_string(&report).unwrap().lines().count(), 3);

    let clean = site.path("inventory.xlsx");
    let imported = site.command(&["inventory", "import", city.to_str().unwrap(), "--out", clean.to_str().unwrap()]);
    assert!(imported.out.contains("1 row taken, 2 problems"), "{imported:?}");
    let refused = site.command(&["inventory", "import", city.to_str().unwrap(), "--out", clean.to_str().unwrap()]);
    assert!(refused.errors.contains("--replace"), "{refused:?}");
    site.write("gateway.yaml", "data_dir: data\ninventory: inventory.xlsx\n");
    let exported = site.command(&["inventory", "export", "--encoding", "utf8", "--headings", "zh"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert!(exported.out.starts_with("编号,设备模型,"), "{exported:?}");
    assert!(exported.out.contains("MH-1,json-manhole-cover,,MH-1,,116.404,39.915,gcj02,"), "{exported:?}");
    let map = site.command(&["inventory", "export", "--format", "geojson"]).json();
    let place = &map["features"][0]["geometry"]["coordinates"];
    assert!(place[0].as_f64().is_some_and(|lon| (lon - 116.397_76).abs() < 1e-4), "{map}");
    let alone = Finished::run(&["inventory", "check", city.to_str().unwrap()]);
    assert!(alone.code == Some(1) && alone.errors.contains("the shipped profiles are known"), "{alone:?}");
}
