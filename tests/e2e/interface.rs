//! The API: pages, errors, accounts, metrics, and that its description lists exactly what is served.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Site};
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;

const DEVICES: usize = 25;

async fn walk(gateway: &Gateway, path: &str, limit: usize) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("{path}?limit={limit}{cursor}")).await.ok();
        let more = page["items"].as_array().unwrap();
        items.extend(more.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
        assert!(!more.is_empty(), "a page in the middle is empty: {page}");
    }
}

fn ids(items: &[Value], key: &str) -> Vec<String> {
    items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_that_hold_every_item_once() {
    let mut inventory = "id,profile,address\n".to_owned();
    for number in 0..DEVICES {
        writeln!(inventory, "MH-{number:03},json-manhole-cover,MH-{number:03}").unwrap();
    }
    let mut site = Site::new(&inventory);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "covers");
    for number in 0..DEVICES {
        let message = json!({ "open": true, "tilt": 62.0 }).to_string();
        publisher.publish_acknowledged(&format!("city/d01/manhole/MH-{number:03}/up"), message).await;
    }
    let expected: Vec<String> = (0..DEVICES).map(|number| format!("MH-{number:03}")).collect();
    for limit in [1, 7, DEVICES, 1000] {
        assert_eq!(ids(&walk(&gateway, "/api/v1/devices", limit).await, "id"), expected, "limit {limit}");
        let readings = walk(&gateway, "/api/v1/readings", limit).await;
        let opened: Vec<Value> = readings.iter().filter(|item| item["point"] == "cover_open").cloned().collect();
        assert_eq!(ids(&opened, "device"), expected, "limit {limit}");
        for path in ["/api/v1/alarms", "/api/v1/cases"] {
            let devices = ids(&walk(&gateway, path, limit).await, "device");
            assert_eq!(devices.len(), DEVICES, "{path} with limit {limit}");
            assert_eq!(devices.into_iter().collect::<BTreeSet<_>>(), expected.iter().cloned().collect());
        }
    }
    let reading = gateway.items("/api/v1/readings?device=MH-003").await;
    let keys: BTreeSet<&str> = reading[0].as_object().unwrap().keys().map(String::as_str).collect();
    let promised = ["device", "point", "value", "unit", "observed_at", "received_at", "quality"];
    assert!(promised.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert_eq!(gateway.items("/api/v1/devices?kind=drain").await, Vec::<Value>::new());
    assert_eq!(gateway.items("/api/v1/devices?status=alarm&limit=1000").await.len(), DEVICES);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_questions_get_clear_errors() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let cases = gateway.wait_for_items("the case is there", "/api/v1/cases", |items| items.len() == 1).await;
    let case = format!("/api/v1/cases/{}", cases[0]["id"].as_str().unwrap());

    for (path, status, words) in [
        ("/api/v1/nothing", 404, "/nothing"),
        ("/nothing", 404, "/nothing"),
        ("/api/v1/devices/MH-9", 404, "MH-9"),
        ("/api/v1/readings?device=MH-9", 404, "MH-9"),
        ("/api/v1/cases/KB-0", 404, "KB-0"),
        ("/api/v1/alarms/A-0", 404, "A-0"),
        ("/api/v1/cases?state=opened", 400, "opened"),
        ("/api/v1/alarms?state=red", 400, "red"),
        ("/api/v1/devices?cursor=here", 400, "cursor"),
        ("/api/v1/cases?cursor=here", 400, "cursor"),
        ("/api/v1/cases?colour=red", 400, "colour"),
        ("/api/v1/cases?limit=many", 400, "limit"),
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.text.contains(words), "{path}: {answer:?}");
    }
    for (path, body, status, words) in [
        ("/move", json!({ "to": "done" }), 400, "by"),
        ("/move", json!({ "to": "finished", "by": "chen" }), 400, "finished"),
        ("/move", json!({ "to": "done", "by": "chen", "colour": "red" }), 422, "colour"),
        ("/sign", json!({ "by": "chen" }), 200, "chen"),
        ("/sign", json!({ "by": "wu" }), 409, "chen"),
        ("/move", json!({ "to": "void", "by": "chen" }), 200, "void"),
        ("/move", json!({ "to": "closed", "by": "chen" }), 409, "over"),
        ("/sign", json!({ "by": "wu" }), 409, "over"),
    ] {
        let answer = gateway.post(&format!("{case}{path}"), &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert!(answer.text.contains(words), "{path} {body}: {answer:?}");
    }
    let past = json!({ "kind": "permit", "until": "2020-01-01T00:00:00Z", "reason": "works", "by": "wu" });
    let answer = gateway.post("/api/v1/devices/MH-1/mask", &past).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    // A form of another site's page changes nothing.
    let client = reqwest::Client::builder().build().unwrap();
    let url = format!("http://{}{case}/sign", gateway.api);
    let forged = client.post(url).form(&[("by", "mallory")]).send().await.unwrap();
    assert_eq!(forged.status().as_u16(), 403);
    // Nor does a page whose own name leads here, which may send JSON and every method.
    let mask = format!("http://{}/api/v1/devices/MH-1/mask", gateway.api);
    for request in [client.post(&mask).json(&past), client.delete(&mask)] {
        let forged = request.header("host", "evil.example:8080").send().await.unwrap();
        assert_eq!(forged.status().as_u16(), 403);
        assert!(forged.text().await.unwrap().contains("set `accounts`"));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_asked_for_everything_but_health_and_signatures() {
    let mut site = Site::new(COVER);
    site.configure(&format!(
        "accounts: [{{name: ops, password: {{value: hydrant}}}}]\nsources:\n{}",
        site.embedded_broker()
    ));
    let mut gateway = site.start().await;
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    let guarded = ["/", "/metrics", "/api/openapi.json", "/api/v1/status", "/api/v1/devices", "/api/v1/cases"];
    for path in guarded {
        assert_eq!(gateway.get(path).await.status, 401, "{path}");
    }
    assert_eq!(gateway.get("/s/KB-0/token").await.status, 404);
    gateway.log_in("ops", "hydrants");
    assert_eq!(gateway.get("/api/v1/devices").await.status, 401);
    gateway.log_in("ops", "hydrant");
    for path in guarded {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    // The command line finds name and password in the configuration; what was done carries the account's name.
    assert_eq!(site.command(&["devices", "--json"]).json()["items"].as_array().unwrap().len(), 1);
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let cases = gateway.wait_for_items("the case is there", "/api/v1/cases", |items| items.len() == 1).await;
    let path = format!("/api/v1/cases/{}/sign", cases[0]["id"].as_str().unwrap());
    let signed = gateway.post(&path, &json!({ "by": "somebody else" })).await.ok();
    assert_eq!(signed["signed"]["by"], "ops");
    assert!(!gateway.log().contains("hydrant"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_lists_exactly_the_routes_that_are_served() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let description = gateway.get("/api/openapi.json").await.ok();
    let paths = description["paths"].as_object().unwrap();
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    for (path, operations) in paths {
        // Frames would be shown for as long as somebody looks: a question that is not understood is answered at once.
        let concrete = path.replace("/frames", "/frames?no=such");
        let concrete = concrete.replace("{id}", "MH-1").replace("{case}", "KB-0").replace("{token}", "t");
        for method in &methods {
            let is_listed = operations.get(method.as_str().to_lowercase()).is_some();
            let body = json!({});
            let answer = gateway.call(method.clone(), &concrete, (*method != Method::GET).then_some(&body)).await;
            // Without such a record the route still answers, in words of its own.
            let is_served = answer.status != 405 && !answer.text.contains("there is no path");
            assert_eq!(is_served, is_listed, "{method} {path}: {answer:?}");
        }
    }
    let module = include_str!("../../gateway/app/src/api/mod.rs");
    for line in module.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let route = line.split('"').next().unwrap();
        let full = if paths.contains_key(route) { route.to_owned() } else { format!("/api/v1{route}") };
        let is_page = route == "/" || route.starts_with("/console/");
        assert!(is_page || paths.contains_key(&full), "{route} is served and not described");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_health_and_counts_are_served() {
    let mut site = Site::new(COVER);
    site.configure(&format!("sources:\n{}", site.embedded_broker()));
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    gateway.wait_for_items("the case is there", "/api/v1/cases", |items| items.len() == 1).await;
    let text = gateway.get("/metrics").await.text;
    let ours = text.lines().filter(|line| line.starts_with("# TYPE kerbside_")).count();
    assert!(ours > 15, "{ours} metrics in {text}");
    for (name, labels, value) in [
        ("kerbside_frames_decoded_total", &[][..], 1.0),
        ("kerbside_alarms_raised_total", &["severity=\"critical\""], 1.0),
        ("kerbside_cases_opened_total", &[], 1.0),
        ("kerbside_cases_open", &[], 1.0),
    ] {
        assert_eq!(gateway.metric(name, labels).await, value, "{name}");
    }
    let status = gateway.get("/api/v1/status").await.ok();
    assert_eq!((&status["devices"]["total"], &status["cases_open"]), (&json!(1), &json!(1)));
    assert_eq!(gateway.get("/health/live").await.ok()["status"], "live");
    assert!(gateway.get("/").await.text.contains("<html"));
    gateway.stop().await;
}
