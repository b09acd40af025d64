//! A platform that is slow, or stores a request and then fails: one case all the same.

use std::time::Duration;

use serde_json::Value;

use crate::city::{City, Fault};
use crate::gateway::Site;
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;
use crate::wait::stays;

/// Opens a cover against a platform with these faults. `posts`: how often a request is sent in the end.
async fn check(format: &str, faults: &[Fault], posts: usize) {
    let city = City::start().await;
    city.fail_next(faults);
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", site.embedded_broker());
    site.configure(&[sources, City::config(city.port(), format)].concat());
    let gateway = site.start().await;
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;

    let cases = gateway
        .wait_for_items("the case is reported", "/api/v1/cases", |items| {
            items.len() == 1 && items[0]["state"] == "reported" && items[0]["platform_id"] != Value::Null
        })
        .await;
    stays("there is one request", Duration::from_secs(3), || async {
        let requests = city.requests();
        if requests.len() == 1 { Ok(()) } else { Err(format!("{requests:?}")) }
    })
    .await;
    let requests = city.requests();
    assert_eq!(requests[0].reference(), cases[0]["id"].as_str().unwrap());
    assert_eq!(requests[0].id, cases[0]["platform_id"].as_str().unwrap());
    assert_eq!(city.posts(), posts);
    gateway.wait_for_component("sink/city", "ok", "").await;
    city.assert_content();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_stores_and_answers_500_has_one_case() {
    check("json", &[Fault::StoreThen(500)], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_stores_and_answers_502_in_xml_has_one_case() {
    check("xml", &[Fault::StoreThen(502)], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_stores_and_never_answers_has_one_case() {
    check("json", &[Fault::StoreThenHang], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_is_slow_has_one_case() {
    check("xml", &[Fault::Late(Duration::from_millis(1_500))], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_did_not_store_is_asked_again() {
    check("json", &[Fault::Refuse(500), Fault::Refuse(503)], 3).await;
}
