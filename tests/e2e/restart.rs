//! What must not begin afresh after `kill -9`: escalations, hold timers, masks.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_runtime::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::Site;
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;
use crate::robot::Robot;
use crate::wait::{SOON, stays, wait_for};

/// How much later than its time something may happen on a loaded machine, restart included.
const MARGIN: Duration = Duration::from_secs(4);

fn time_of(value: &Value) -> Timestamp {
    value.as_str().and_then(Timestamp::parse).unwrap_or_else(|| panic!("{value} is no time"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_escalation_goes_on_at_its_time_after_a_kill() {
    let step = Duration::from_secs(8);
    let robot = Robot::start().await;
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", site.embedded_broker());
    let duty = "duty: {steps: [{after: 0s, channels: [ops]}, {after: 8s, channels: [ops]}]}\n";
    site.configure(&[sources, format!("channels: {{{}}}\n", robot.channel()), duty.to_owned()].concat());
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    gateway
        .wait_for_items("the first step is told", "/api/v1/notices", |items| {
            items.len() == 1 && items[0]["state"] == "delivered"
        })
        .await;
    let opened_at = time_of(&gateway.items("/api/v1/cases").await[0]["opened_at"]);
    // Half of the waiting time has passed when it is killed; begun afresh, the second step would be late.
    wait_for("half of the time has passed", SOON, || {
        let passed = Clock::System.now().since(opened_at);
        if passed > step / 2 + MARGIN / 4 { Ok(()) } else { Err(format!("{passed:?}")) }
    })
    .await;
    gateway.kill();
    let gateway = site.start().await;
    assert_eq!(robot.taken().len(), 1);

    robot.wait_for_taken(2).await;
    let passed = Clock::System.now().since(opened_at);
    assert!(passed >= step && passed < step + MARGIN, "told after {passed:?} instead of {step:?}");
    let notices = gateway
        .wait_for_items("both steps are told", "/api/v1/notices", |items| {
            items.len() == 2 && items.iter().all(|item| item["state"] == "delivered")
        })
        .await;
    let steps: Vec<i64> = notices.iter().filter_map(|notice| notice["step"].as_i64()).collect();
    assert!(steps.contains(&1) && steps.contains(&2), "{steps:?}");
    stays("nobody is told twice", Duration::from_secs(3), || async {
        let count = robot.taken().len();
        if count == 2 { Ok(()) } else { Err(format!("{count} messages")) }
    })
    .await;
    gateway.stop().await;
}

/// A drain whose level counts only when it has stood for 8 s.
const HOLD_PROFILE: &str = "\
profile: e2e-hold
version: 1
kind: drain
vendor: Test
model: holds
interval: 1h
payload: {format: json}
points:
  - {name: level_mm, path: level, required: true}
detectors:
  - {condition: surcharged, severity: major, threshold: {point: level_mm, above: 400, clear: 350}, hold: 8s}
samples:
  - {name: some, json: {level: 85}, readings: {level_mm: 85}}
  - {name: none, text: '', error: not valid JSON}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_timer_does_not_start_afresh_after_a_kill() {
    let hold = Duration::from_secs(8);
    let mut site = Site::new("id,profile,address\nDL-1,e2e-hold,DL-1\n");
    site.write("profiles/hold.yaml", HOLD_PROFILE);
    site.configure(&format!("profiles: profiles/\nsources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "drain");
    publisher.publish_acknowledged("city/d01/drain/DL-1/up", r#"{"level": 450}"#).await;
    let readings = gateway.wait_for_items("the level is there", "/api/v1/readings", |items| items.len() == 1).await;
    let began_at = time_of(&readings[0]["received_at"]);
    wait_for("half of the time has passed", SOON, || {
        let passed = Clock::System.now().since(began_at);
        if passed > hold / 2 + MARGIN / 4 { Ok(()) } else { Err(format!("{passed:?}")) }
    })
    .await;
    assert_eq!(gateway.items("/api/v1/alarms").await, Vec::<Value>::new());
    gateway.kill();
    let gateway = site.start().await;
    let alarms = gateway.wait_for_items("the alarm is raised", "/api/v1/alarms", |items| items.len() == 1).await;
    let passed = Clock::System.now().since(began_at);
    assert!(passed >= hold && passed < hold + MARGIN, "raised after {passed:?} instead of {hold:?}: {alarms:?}");
    assert_eq!((&alarms[0]["condition"], &alarms[0]["state"]), (&json!("surcharged"), &json!("active")));
    assert_eq!(gateway.items("/api/v1/cases").await.len(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_survives_a_kill_and_its_end_opens_the_case() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let until = Clock::System.now().plus(Duration::from_secs(3_600));
    let mask = json!({ "kind": "maintenance", "until": until, "reason": "new hinges", "by": "wu" });
    gateway.post("/api/v1/devices/MH-1/mask", &mask).await.ok();
    gateway.kill();

    let gateway = site.start().await;
    let device = gateway.get("/api/v1/devices/MH-1").await.ok();
    assert_eq!((&device["masked_until"], &device["mask_reason"]), (&json!(until), &json!("new hinges")));
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let alarms = gateway.wait_for_items("the alarm stands", "/api/v1/alarms", |items| items.len() == 1).await;
    assert_eq!(alarms[0]["suppressed"], "maintenance");
    assert_eq!(gateway.items("/api/v1/cases").await, Vec::<Value>::new());

    assert_eq!(gateway.call(Method::DELETE, "/api/v1/devices/MH-1/mask", None).await.status, 200);
    let cases = gateway.wait_for_items("the case is opened", "/api/v1/cases", |items| items.len() == 1).await;
    assert_eq!(cases[0]["condition"], "displaced");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standing_alarm_is_not_raised_again_after_a_kill() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let before = gateway.wait_for_items("the case is there", "/api/v1/cases", |items| items.len() == 1).await;
    gateway.kill();
    let gateway = site.start().await;
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    assert_eq!(gateway.items("/api/v1/cases").await, before);
    assert_eq!(gateway.items("/api/v1/alarms").await.len(), 1);
    publisher.publish_acknowledged(TOPIC, cover_message(false)).await;
    gateway
        .wait_for_items("the alarm is cleared", "/api/v1/alarms", |items| {
            items.len() == 1 && items[0]["state"] == "cleared"
        })
        .await;
    gateway.stop().await;
}
