//! Everything else is down: the gateway is ready at once, says what is missing, and goes on by itself.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::city::City;
use crate::external::Mosquitto;
use crate::gateway::{Gateway, Site, free_port};
use crate::influx::Influx;
use crate::main_job::{COVER, TOPIC, cover_message};
use crate::publisher::Publisher;
use crate::wait::{SOON, wait_until};

async fn wait_for_degraded(gateway: &Gateway, wanted: &[&str]) -> Value {
    wait_until(&format!("{wanted:?} are named"), SOON, || async {
        let answer = gateway.get("/health/ready").await;
        let body = answer.ok();
        let named: BTreeSet<&str> = body["degraded"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if wanted.iter().all(|name| named.contains(name)) { Ok(body) } else { Err(body.to_string()) }
    })
    .await
}

async fn wait_for_readiness(gateway: &Gateway) {
    wait_until("nothing is degraded any more", SOON, || async {
        let body = gateway.get("/health/ready").await.ok();
        if body["status"] == "ready" { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
}

fn detail<'body>(body: &'body Value, component: &str) -> &'body str {
    let components = body["components"].as_array().unwrap();
    let found = components.iter().find(|found| found["component"] == component).unwrap();
    assert_eq!(found["essential"], false, "{found}");
    found["detail"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_database_and_platform_it_is_ready_at_once_and_goes_on_when_they_come() {
    let (database_port, city_port) = (free_port(), free_port());
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", site.embedded_broker());
    site.configure(&[sources, Influx::config(database_port), City::config(city_port, "json")].concat());
    let gateway = site.start().await;
    eprintln!("live {:?} after its start, with no database and no platform", gateway.age());
    assert_eq!(gateway.get("/health/ready").await.status, 200);

    // The message is taken and its alarm raised while nothing is there.
    let publisher = Publisher::start(site.broker(), "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    let cases = gateway.wait_for_items("the case waits", "/api/v1/cases", |items| items.len() == 1).await;
    assert_eq!(cases[0]["state"], "pending");
    let body = wait_for_degraded(&gateway, &["sink/influx", "sink/city"]).await;
    assert_eq!(body["status"], "degraded");
    assert!(detail(&body, "sink/influx").contains("no connection"), "{body}");
    assert!(detail(&body, "sink/city").contains("rows wait"), "{body}");

    let (influx, city) = (Influx::start_at(database_port).await, City::start_at(city_port).await);
    assert_eq!(city.wait_for_requests(1).await[0].reference(), cases[0]["id"].as_str().unwrap());
    gateway.wait_for_items("the case is reported", "/api/v1/cases", |items| items[0]["state"] == "reported").await;
    wait_until("the reading is in the database", SOON, || async {
        let points = influx.points_of("MH-1");
        if points.len() == 1 { Ok(()) } else { Err(format!("{points:?}")) }
    })
    .await;
    wait_for_readiness(&gateway).await;
    assert_eq!(city.requests().len(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto: run tests/run"]
async fn without_broker_database_and_platform_it_is_ready_at_once_and_goes_on_when_they_come() {
    let (broker_port, database_port, city_port) = (free_port(), free_port(), free_port());
    let mut site = Site::new(COVER);
    let sources = format!("sources:\n{}", Mosquitto::source(broker_port));
    site.configure(&[sources, Influx::config(database_port), City::config(city_port, "json")].concat());
    let gateway = site.start().await;
    eprintln!("live {:?} after its start, with no broker, no database and no platform", gateway.age());
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    let body = wait_for_degraded(&gateway, &["source/city"]).await;
    eprintln!("it says: {body}");

    let mosquitto = Mosquitto::start_at(broker_port).await;
    gateway.wait_for_component("source/city", "ok", "").await;
    let publisher = Publisher::start(mosquitto.address, "cover");
    publisher.publish_acknowledged(TOPIC, cover_message(true)).await;
    wait_for_degraded(&gateway, &["sink/influx", "sink/city"]).await;

    let (influx, city) = (Influx::start_at(database_port).await, City::start_at(city_port).await);
    city.wait_for_requests(1).await;
    wait_until("the reading is in the database", SOON, || async {
        let points = influx.points_of("MH-1");
        if points.len() == 1 { Ok(()) } else { Err(format!("{points:?}")) }
    })
    .await;
    wait_for_readiness(&gateway).await;
    assert_eq!(city.requests().len(), 1);
    gateway.stop().await;
}
