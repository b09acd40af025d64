//! Limits that are others for some devices: applied while everything runs, shown everywhere, kept over a crash.

use kerbside_runtime::Clock;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Site};
use crate::publisher::Publisher;
use crate::wait::SOON;

const PROFILE: &str = "\
profile: e2e-level
version: 1
kind: drain
vendor: Test
model: numbered
interval: 1h
payload: {format: json, time: {path: ts, unit: ms}}
points:
  - {name: level_mm, path: level, range: {min: 0, max: 1000}, required: true}
detectors:
  - {name: watch, condition: surcharged, severity: major, threshold: {point: level_mm, above: 400, clear: 350}}
samples:
  - {name: some, json: {level: 85}, readings: {level_mm: 85}}
  - {name: none, text: '', error: not valid JSON}
";
const INVENTORY: &str =
    "id,profile,address,source,tags\nDL-1,e2e-level,DL-1,broker,low-road;school\nDL-2,e2e-level,DL-2,broker,\n";

/// The overrides with a limit for low roads.
fn overrides(above: u32) -> String {
    format!(
        "overrides:\n  - name: low-road\n    tags: [low-road]\n    detectors:\n      \
         - {{name: watch, threshold: {{above: {above}, clear: 100}}}}\n"
    )
}

async fn levels(publisher: &Publisher, level: u32, second: i64) {
    for device in ["DL-1", "DL-2"] {
        let message = json!({ "level": level, "ts": Clock::System.now().as_millis() + second }).to_string();
        publisher.publish(&format!("city/d01/drain/{device}/up"), message).await;
    }
    publisher.wait_for_all(SOON).await;
}

/// The devices with an alarm that stands.
async fn flooded(gateway: &Gateway) -> Vec<String> {
    let items = gateway.items("/api/v1/alarms").await;
    let standing = items.iter().filter(|alarm| alarm["state"] == "active");
    standing.map(|alarm| alarm["device"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_changes_one_limit_of_some_devices_while_everything_runs() {
    let mut site = Site::new(INVENTORY);
    site.write("profiles/level.yaml", PROFILE);
    let sources = format!("profiles: profiles/\nsources:\n{}", site.embedded_broker());
    site.configure(&sources);
    let mut gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "drains");
    levels(&publisher, 250, 0).await;
    assert_eq!(flooded(&gateway).await, [""; 0]);

    // A wrong limit changes nothing, and is told at its line.
    site.write("overrides.yaml", &overrides(2_000));
    site.configure(&format!("{sources}overrides: overrides.yaml\n"));
    let refused = site.command(&["reload", "--json", "--by", "wu"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let words = "overrides.yaml:5: overrides[0].detectors[0].threshold.above";
    assert!(refused.errors.contains(words), "{refused:?}");

    site.write("overrides.yaml", &overrides(200));
    let report = site.command(&["reload", "--json", "--by", "wu"]).json();
    assert_eq!(
        (&report["outcome"], &report["devices"]["changed"]["ids"]),
        (&json!("applied"), &json!(["DL-1"])),
        "{report}"
    );
    let device = gateway.get("/api/v1/devices/DL-1").await.ok();
    assert_eq!(device["tags"], json!(["low-road", "school"]));
    assert_eq!((&device["profile"], &device["overrides"]), (&json!("e2e-level"), &json!(["low-road"])));
    assert_eq!(gateway.get("/api/v1/devices/DL-2").await.ok()["overrides"], json!([]));
    levels(&publisher, 250, 1).await;
    assert_eq!(flooded(&gateway).await, ["DL-1"]);

    // It is said what is different, and for whom.
    let diff = site.command(&["profile", "diff", "DL-1"]);
    assert!(diff.out.contains("raise") && diff.out.contains("400") && diff.out.contains("200"), "{diff:?}");
    let check = site.command(&["check"]);
    assert!(check.out.contains("override  low-road: 1 device (DL-1)"), "{check:?}");
    let profile = gateway.get("/api/v1/profiles/e2e-level%20%2B%20low-road").await.ok();
    assert!(profile["differences"].as_array().is_some_and(|found| !found.is_empty()), "{profile}");

    // The alarm stands over a crash, and goes with good data and not with the override.
    gateway.kill();
    gateway = site.start().await;
    assert_eq!(flooded(&gateway).await, ["DL-1"]);
    site.configure(&sources);
    assert_eq!(site.command(&["reload", "--json"]).json()["outcome"], "applied");
    assert_eq!(flooded(&gateway).await, ["DL-1"]);
    levels(&publisher, 250, 2).await;
    assert_eq!(flooded(&gateway).await, [""; 0]);
    let evidence: Vec<Value> = gateway.items("/api/v1/alarms?state=cleared").await;
    assert!(evidence.iter().any(|alarm| alarm["evidence"]["profile"] == "e2e-level + low-road"), "{evidence:?}");
    gateway.stop().await;
}
