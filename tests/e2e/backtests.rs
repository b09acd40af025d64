//! Alarms that explain themselves, and what a gateway heard run through its rules again.

use serde_json::{Value, json};

use crate::gateway::{Finished, Site};
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;

/// Condition and begin of every alarm of the first side.
fn alarms(report: &Value) -> Vec<(Value, Value)> {
    let alarms = report["sides"][0]["alarms"].as_array().unwrap();
    alarms.iter().map(|alarm| (alarm["condition"].clone(), alarm["opened_at"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_explains_itself_and_what_was_heard_is_run_through_the_rules_again() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(false)).await;
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let raised = gateway.wait_for_items("the cover is open", "/api/v1/alarms", |items| items.len() == 1).await;
    let id = raised[0]["id"].as_str().unwrap();

    // While the gateway runs.
    assert_eq!(raised[0]["evidence"]["rule"], "threshold", "{}", raised[0]);
    let told = site.command(&["explain", id]);
    for words in ["rule: tilt 60 deg or above", "规则：", "ruled out: mask, permit", "readings: ", "quality good"] {
        assert!(told.out.contains(words), "{words}: {told:?}");
    }
    let chinese = site.command(&["explain", id, "--language", "zh"]);
    assert!(chinese.out.contains("已排除") && !chinese.out.contains("ruled out"), "{chinese:?}");
    let data = site.path("data");
    let data = data.to_str().unwrap();
    let report = Finished::run(&["backtest", data, "--json"]).json();
    assert_eq!(alarms(&report), [(json!("displaced"), raised[0]["opened_at"].clone())], "{report}");

    // The same from a recording; and with a rule that nobody meets nothing is found.
    let file = site.path("heard.kbr");
    let file = file.to_str().unwrap();
    let recorded = site.command(&["record", "--out", file, "--since", "2020-01-01T00:00:00Z"]);
    assert_eq!(recorded.code, Some(0), "{recorded:?}");
    let other = [
        "backtest",
        file,
        "--json",
        "--set",
        "detectors.displaced.0.count=9",
        "--set",
        "detectors.displaced.1.count=9",
    ];
    let compared = Finished::run(&other).json();
    assert_eq!(compared["sides"][0]["alarms"], report["sides"][0]["alarms"]);
    assert_eq!(compared["sides"][1]["alarms"], json!([]));
    let text = Finished::run(&["backtest", file, "--set", "detectors.displaced.1.count=9"]);
    assert!(text.out.contains("with --set") && text.out.contains("only as it is: 1"), "{text:?}");

    // While none runs, and of an alarm that there never was.
    gateway.kill();
    let stopped = site.command(&["explain", id]);
    assert_eq!(stopped.out, told.out, "{stopped:?}");
    let unknown = site.command(&["explain", "no-such-alarm"]);
    assert!(unknown.code == Some(1) && unknown.errors.contains("find the alarm no-such-alarm"), "{unknown:?}");
}
