//! The command line: the same records with and without a running gateway, and frames by hand.

use serde_json::{Value, json};

use crate::gateway::{Finished, Site};
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;

fn list(finished: &Finished) -> Vec<Value> {
    let body = finished.json();
    assert_eq!(body["next"], Value::Null);
    body["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_are_listed_shown_and_moved_while_the_gateway_runs() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    gateway.wait_for_items("the ledger has the case", "/api/v1/cases", |items| items.len() == 1).await;

    let cases = list(&site.command(&["cases", "list", "--json"]));
    assert_eq!((cases.len(), &cases[0]["state"], &cases[0]["device"]), (1, &json!("reported"), &json!("MH-1")));
    let id = cases[0]["id"].as_str().unwrap();
    let text = site.command(&["cases", "list"]);
    assert!(text.out.contains(id) && text.out.contains("reported"), "{text:?}");
    assert_eq!(site.command(&["cases", "show", id, "--json"]).json(), cases[0]);
    let shown = site.command(&["cases", "show", id]);
    assert!(shown.out.contains("鹤栖大道与云溪路交叉口"), "{shown:?}");

    let moved = site.command(&["cases", "move", id, "void", "--by", "chen", "--note", "a drill", "--json"]).json();
    assert_eq!(moved["state"], "void");
    assert_eq!(gateway.get(&format!("/api/v1/cases/{id}")).await.ok()["state"], "void");
    let again = site.command(&["cases", "move", id, "closed", "--by", "chen"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.errors.contains("is over"), "{again:?}");
    assert_eq!(list(&site.command(&["cases", "list", "--open", "--json"])), Vec::<Value>::new());

    // The cover still says that it is open, but a person has said that this is nothing.
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let alarms = gateway.items("/api/v1/alarms").await;
    assert_eq!((alarms.len(), &alarms[0]["suppressed"]), (1, &json!("void")));
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 1);

    let devices = list(&site.command(&["devices", "--json"]));
    assert_eq!((devices.len(), &devices[0]["id"], &devices[0]["status"]), (1, &json!("MH-1"), &json!("alarm")));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_are_listed_shown_and_moved_while_no_gateway_runs() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let cases = gateway.wait_for_items("the ledger has the case", "/api/v1/cases", |items| items.len() == 1).await;
    let id = cases[0]["id"].as_str().unwrap();
    gateway.kill();

    assert_eq!(list(&site.command(&["cases", "list", "--json"])), cases);
    let devices = list(&site.command(&["devices", "--json"]));
    assert_eq!((devices.len(), &devices[0]["conditions"]), (1, &json!(["displaced"])));
    let moved = site.command(&["cases", "move", id, "void", "--by", "chen", "--note", "a drill", "--json"]).json();
    assert_eq!(moved["state"], "void");
    assert_eq!(moved["history"].as_array().unwrap().last().unwrap()["by"], "chen");
    let unknown = site.command(&["cases", "show", "KB-000000000000"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");

    // The gateway starts with what was done without it.
    let gateway = site.start().await;
    assert_eq!(gateway.get(&format!("/api/v1/cases/{id}")).await.ok()["state"], "void");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 1, "the standing condition had its say");
    assert_eq!(gateway.metric("kerbside_cases_opened_total", &[]).await, 0.0);
    gateway.stop().await;
}

#[test]
fn the_shipped_profiles_pass_their_samples() {
    let text = Finished::run(&["profile", "test"]);
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.out.contains(" 0 failed"), "{}", text.out);
    let results = list(&Finished::run(&["profile", "test", "--json"]));
    assert!(results.len() > 20, "{}", results.len());
    assert!(results.iter().all(|result| result["wrong"] == json!([])), "{results:?}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../device-profiles");
    assert_eq!(Finished::run(&["profile", "test", folder]).code, Some(0));
}

#[test]
fn a_profile_that_gives_other_readings_than_its_samples_say_fails() {
    let site = Site::new(COVER);
    let profile = |kind: &str, level: i64| {
        format!(
            "\
profile: e2e-probe
version: 1
kind: {kind}
vendor: Test
model: one
payload: {{format: json}}
points:
  - {{name: level_mm, path: level}}
samples:
  - {{name: some, json: {{level: -10}}, readings: {{level_mm: {level}}}}}
  - {{name: none, text: '', error: not valid JSON}}
"
        )
    };
    site.write("right.yaml", &profile("drain", -10));
    let passed = Finished::run(&["profile", "test", site.path("right.yaml").to_str().unwrap()]);
    assert_eq!(passed.code, Some(0), "{passed:?}");
    site.write("wrong.yaml", &profile("drain", -11));
    let failed = Finished::run(&["profile", "test", site.path("wrong.yaml").to_str().unwrap()]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.out.contains("FAILED") && failed.out.contains("-11"), "{failed:?}");
    site.write("broken.yaml", &profile("drian", -10));
    let broken = Finished::run(&["profile", "test", site.path("broken.yaml").to_str().unwrap()]);
    assert_eq!(broken.code, Some(2), "{broken:?}");
    assert!(broken.errors.contains("broken.yaml:") && broken.errors.contains("drian"), "{broken:?}");
}

#[track_caller]
fn value_of(decoded: &Finished, point: &str) -> Value {
    let body = decoded.json();
    assert_eq!(body["errors"], json!([]));
    let readings = body["readings"].as_array().unwrap();
    readings.iter().find(|reading| reading["point"] == point).unwrap()["value"].clone()
}

#[test]
fn single_frames_are_decoded_by_hand() {
    let site = Site::new(COVER);
    let frame = r#"{"deviceId":"MH-1","ts":1767225600000,"open":true,"tilt":62.0}"#;
    site.write("frame.json", frame);
    let file = site.path("frame.json");
    let file = file.to_str().unwrap();
    let cover = ["profile", "decode", "--profile", "json-manhole-cover"];
    let from_file = Finished::run(&[&cover[..], &["--json", file]].concat());
    assert_eq!(value_of(&from_file, "cover_open"), json!(true));
    assert_eq!(value_of(&from_file, "tilt_deg"), json!(62.0));
    let observed_at = from_file.json()["readings"][0]["observed_at"].clone();
    assert_eq!(observed_at, "2026-01-01T00:00:00.000Z");
    let hex: String = frame.bytes().map(|byte| format!("{byte:02x}")).collect();
    let from_hex = Finished::run(&[&cover[..], &["--hex", &hex]].concat());
    assert_eq!(from_hex.json(), from_file.json());

    let probe = ["profile", "decode", "--profile", "qdy30a-level"];
    let registers = Finished::run(&[&probe[..], &["--registers", "2=17,3=1,0x0004=0xFFF6"]].concat());
    assert_eq!(value_of(&registers, "level_mm"), json!(-10.0));
    assert_eq!(value_of(&registers, "unit_code"), json!(17.0));

    site.write("frame.json", r#"{"deviceId":"MH-1","open": tr"#);
    let bad = Finished::run(&[&cover[..], &["--json", file]].concat());
    assert_eq!(bad.code, Some(1), "{bad:?}");
    let body: Value = serde_json::from_str(&bad.out).unwrap();
    assert_eq!(body["readings"], json!([]));
    assert!(body["errors"][0].as_str().unwrap().contains("not valid JSON"), "{body}");

    let unknown = Finished::run(&["profile", "decode", "--profile", "json-manhole-covr", "--hex", "00"]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.errors.contains("did you mean json-manhole-cover?"), "{unknown:?}");
}
