//! Installation: a walk test from its beginning to the signed report, across a crash.

use serde_json::{Value, json};

use crate::gateway::{Finished, Gateway, Site};
use crate::main_job::{TOPIC, cover_message};
use crate::publisher::Publisher;

/// One cover in service, one being installed.
const COVERS: &str = "\
id,profile,address,name,lon,lat,place,service
MH-1,json-manhole-cover,MH-1,雨水井盖1号,114.29,35.74,鹤栖大道与云溪路交叉口,在用
MH-2,json-manhole-cover,MH-2,雨水井盖2号,114.30,35.75,鹤栖大道88号,调试
";

async fn outcome(gateway: &Gateway, id: &str) -> Value {
    let view = gateway.get("/api/v1/walk").await.ok();
    let devices = view["devices"].as_array().unwrap();
    devices.iter().find(|device| device["id"] == id).unwrap()["outcome"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_test_survives_a_crash_opens_no_case_and_ends_with_a_report() {
    let mut site = Site::new(COVERS);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");

    let only = site.command(&["walk", "start", "--by", "chen"]);
    assert!(only.out.contains("walk test of 1 device "), "only the one in commissioning: {only:?}");
    assert_eq!(site.command(&["walk", "start", "--devices", "MH-*"]).code, Some(1), "one at a time");
    assert_eq!(site.command(&["walk", "finish"]).code, Some(0));
    let began = site.command(&["walk", "start", "--devices", "MH-*", "--hours", "2", "--by", "chen"]);
    assert!(began.out.contains("walk test of 2 devices"), "{began:?}");
    assert_eq!(gateway.get("/api/v1/status").await.ok()["walk_test"], true);
    let standing = gateway.items("/api/v1/alarms?state=active&condition=walk_test").await;
    assert_eq!(standing.len(), 1, "the gateway says so itself");

    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    gateway
        .wait_for_items("the cover stands open", "/api/v1/alarms?condition=displaced", |items| items.len() == 1)
        .await;
    assert_eq!(outcome(&gateway, "MH-1").await, "half");
    assert_eq!(gateway.items("/api/v1/cases").await, Vec::<Value>::new());
    gateway.kill();

    let gateway = site.start().await;
    assert_eq!(outcome(&gateway, "MH-1").await, "half", "a crash forgets nothing");
    publisher.publish_acknowledged(TOPIC, cover_message(false)).await;
    gateway
        .wait_for_items("the cover is closed", "/api/v1/alarms?condition=displaced&state=cleared", |items| {
            items.len() == 1
        })
        .await;
    assert_eq!(outcome(&gateway, "MH-1").await, "passed");
    assert_eq!(site.command(&["walk", "photo", "MH-1", "井盖1.jpg"]).code, Some(0));
    assert_eq!(site.command(&["walk", "photo", "MH-9", "x.jpg"]).code, Some(1));
    let status = site.command(&["walk", "status"]);
    assert!(status.out.contains("1 of 2 devices passed"), "{status:?}");

    let (page, table) = (site.path("report.html"), site.path("report.csv"));
    let paths = [page.to_str().unwrap(), table.to_str().unwrap()];
    let finished = site.command(&["walk", "finish", "--out", paths[0], "--csv", paths[1], "--by", "chen"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("MH-2") && finished.out.contains("not_heard"), "what is left: {finished:?}");
    let page = std::fs::read_to_string(page).unwrap();
    for word in ["现场核验报告", "井盖1.jpg", "鹤栖大道88号", "Asia/Shanghai", "json-manhole-cover v"] {
        assert!(page.contains(word), "{word} is not in the report");
    }
    let table = std::fs::read_to_string(table).unwrap();
    assert!(table.starts_with('\u{feff}') && table.contains("合格 passed") && table.contains("未上报 not heard"));

    assert_eq!(gateway.items("/api/v1/cases").await, Vec::<Value>::new());
    assert_eq!(gateway.get("/api/v1/status").await.ok()["walk_test"], false);
    // From now on the cover that is in service opens cases as ever.
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let cases = gateway.wait_for_items("a case", "/api/v1/cases", |items| items.len() == 1).await;
    assert_eq!(cases[0]["device"], json!("MH-1"));
    let audit = gateway.items("/api/v1/audit").await;
    let told = |action: &str| audit.iter().filter(|line| line["action"] == action && line["by"] == "chen").count();
    assert_eq!((told("walk_started"), told("walk_finished")), (2, 1), "{audit:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_walk_test_is_refused_with_words() {
    let mut site = Site::new(COVERS);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let refused = |arguments: &[&str]| {
        let finished = site.command(arguments);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        finished.errors
    };
    assert!(refused(&["walk", "start", "--devices", "XX-*"]).contains("no device of the inventory is meant"));
    assert!(refused(&["walk", "start", "--parent", "FEEDER-9"]).contains("no device of the inventory is meant"));
    assert!(refused(&["walk", "start", "--hours", "25"]).contains("1 to 24"));
    assert!(refused(&["walk", "status"]).contains("no walk test was begun"));
    assert!(refused(&["walk", "finish", "--out", "x.html"]).contains("no walk test was begun"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_test_is_begun_and_ended_from_the_phone_by_those_who_may() {
    let mut site = Site::new(COVERS);
    let accounts = "accounts:\n  - {name: street, password: {value: lantern}, role: viewer}\n  \
                    - {name: chen, password: {value: hydrant}}\n";
    site.configure(&format!("{accounts}sources:\n{}", site.embedded_broker()));
    let mut gateway = site.start().await;
    let begin = json!({ "devices": "MH-*", "hours": 2, "by": "somebody else" });
    let photo = json!({ "device": "MH-1", "photo": "x.jpg" });
    let mask = json!({ "kind": "permit", "until": "2099-01-01T00:00:00Z", "reason": "works" });

    gateway.log_in("street", "lantern");
    let page = gateway.get("/walk").await.text;
    assert!(page.contains("该账号只能查看") && !page.contains("<form"), "{page}");
    let status = gateway.get("/api/v1/status").await.ok();
    assert_eq!((&status["account"], &status["role"]), (&json!("street"), &json!("viewer")));
    for (path, body) in [
        ("/api/v1/walk", &begin),
        ("/api/v1/walk/finish", &json!({})),
        ("/api/v1/walk/photo", &photo),
        ("/api/v1/devices/MH-1/mask", &mask),
        ("/api/v1/reload", &json!({})),
    ] {
        let refused = gateway.post(path, body).await;
        assert_eq!(refused.status, 403, "{path}: {refused:?}");
        assert!(refused.text.contains("the account street may look and not act"), "{path}: {refused:?}");
    }
    assert_eq!(gateway.get("/api/v1/walk").await.status, 409, "none was begun");
    assert_eq!(gateway.get("/api/v1/devices/MH-1").await.ok()["profile_extends"], json!([]));

    gateway.log_in("chen", "hydrant");
    let page = gateway.get("/walk").await.text;
    assert!(page.contains("data-path=/api/v1/walk ") && page.contains("/console/walk.js"), "{page}");
    assert_eq!(gateway.get("/console/walk.js").await.status, 200);
    let began = gateway.post("/api/v1/walk", &begin).await.ok();
    assert_eq!((&began["by"], began["devices"].as_array().unwrap().len()), (&json!("chen"), 2), "the account counts");
    assert_eq!(gateway.post("/api/v1/walk/photo", &photo).await.status, 200);
    assert!(gateway.get("/walk").await.text.contains("data-path=/api/v1/walk/finish"));
    gateway.log_in("street", "lantern");
    for path in ["/api/v1/walk", "/api/v1/walk/report.html", "/api/v1/walk/report.csv"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}: a viewer may look");
    }
    // The command line takes the account that may act, though it is the second one.
    assert_eq!(site.command(&["walk", "finish"]).code, Some(0));
    assert!(gateway.get("/walk").await.text.contains("已结束"));
    gateway.stop().await;
}

/// Publishes until a command ends that waits for messages.
async fn heard(publisher: &Publisher, arguments: &[String]) -> Finished {
    let arguments = arguments.to_vec();
    let command =
        tokio::task::spawn_blocking(move || Finished::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    while !command.is_finished() {
        publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    }
    command.await.unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_shows_what_comes_and_whose_it_is_beside_the_gateway() {
    let mut site = Site::new(COVERS);
    let address = "address: {topic: \"city/+/+/{device}/up\"}";
    let far = format!("type: mqtt, host: 127.0.0.1, port: {}, topics: [\"city/#\"], {address}", site.broker_port);
    let more = format!("  far: {{{far}}}\n");
    site.configure(&format!("sources:\n{}{more}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    let url = format!("mqtt://{}", site.broker());

    let plain =
        heard(&publisher, &words(&format!("listen --broker {url} --topic city/+/+/+/up --count 2 --for 60s"))).await;
    assert_eq!(plain.code, Some(0), "{plain:?}");
    assert!(plain.out.contains(TOPIC) && plain.out.contains("\"open\": true"), "{plain:?}");
    assert!(plain.out.contains("address in the inventory: MH-1, with address: {topic: \"city/+/+/{device}/up\"}"));
    assert!(plain.errors.contains("2 messages"), "{plain:?}");

    let command = format!("listen --broker {url} --topic city/# --profile json-manhole-cover --count 1 --for 60s");
    let decoded = heard(&publisher, &words(&command)).await;
    assert!(decoded.out.contains("cover_open") && decoded.errors.contains("1 readable, 0 not"), "{decoded:?}");

    let config = site.path("gateway.yaml");
    let command = format!("listen --source far --count 1 --for 60s --config {}", config.to_str().unwrap());
    let known = heard(&publisher, &words(&command)).await;
    assert!(known.out.contains("device MH-1 雨水井盖1号 (json-manhole-cover)"), "{known:?}");
    // The gateway still has its own session: the listener threw nobody out.
    gateway.wait_for_component("source/far", "ok", "").await;
    gateway.stop().await;
}

#[test]
fn a_listener_that_hears_nothing_says_why_and_fails() {
    let free = crate::gateway::free_port();
    let url = format!("mqtt://127.0.0.1:{free}");
    let silent = Finished::run(&["listen", "--broker", &url, "--topic", "city/#", "--for", "5s"]);
    assert_eq!(silent.code, Some(1), "{silent:?}");
    assert!(silent.errors.contains("no connection") && silent.errors.contains("0 messages"), "{silent:?}");
    let refused = Finished::run(&["listen", "--broker", "http://x", "--topic", "#"]);
    assert!(refused.errors.contains("neither mqtt nor mqtts"), "{refused:?}");
}
