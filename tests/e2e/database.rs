//! InfluxDB in every way in which it can refuse: health says it in words, and nothing is lost once it is mended.

use serde_json::json;

use crate::gateway::{Gateway, Site};
use crate::influx::{Influx, Mode};
use crate::publisher::Publisher;
use crate::wait::{SOON, wait_until};

const INVENTORY: &str = "\
id,profile,address
DL-1,json-level,DL-1
DL-2,json-level,DL-2
DL-3,json-level,DL-3
";

struct Scene {
    influx: Influx,
    gateway: Gateway,
    publisher: Publisher,
    _site: Site,
}

impl Scene {
    async fn set(mode: Mode) -> Scene {
        let influx = Influx::start().await;
        influx.set_mode(mode);
        let mut site = Site::new(INVENTORY);
        let sources = format!("sources:\n{}", site.embedded_broker());
        site.configure(&[sources, Influx::config(influx.port())].concat());
        let gateway = site.start().await;
        let publisher = Publisher::start(site.broker(), "drains");
        Scene { influx, gateway, publisher, _site: site }
    }

    /// Levels from `first` on, one message for each of the three drains and each level.
    async fn send(&self, first: u64, count: u64) {
        for level in first..first + count {
            for drain in 1..=3 {
                let message = json!({ "deviceId": format!("DL-{drain}"), "level": level, "batt": 3.6 }).to_string();
                self.publisher.publish(&format!("city/d01/drain/DL-{drain}/up"), message).await;
            }
            // Levels of one drain need times of their own to be points of their own.
            self.publisher.wait_for_all(SOON).await;
        }
    }

    async fn wait_for_levels(&self, device: &str, count: u64) {
        wait_until(&format!("{count} levels of {device} are in the database"), SOON, || async {
            let points = self.influx.points_of(device);
            let levels: Vec<f64> = points.iter().map(|point| point.fields["level_mm"].parse().unwrap()).collect();
            let expected: Vec<f64> = (0..count).map(|level| level as f64).collect();
            if levels == expected { Ok(()) } else { Err(format!("{levels:?}")) }
        })
        .await;
    }

    /// Before, during and after a refusal: health has the words, and all levels arrive after the mending.
    async fn check(mode: Mode, status: u16, state: &str, words: &str) {
        let scene = Scene::set(Mode::Works).await;
        scene.send(0, 3).await;
        scene.wait_for_levels("DL-1", 3).await;
        scene.influx.set_mode(mode);
        scene.send(3, 5).await;
        scene.gateway.wait_for_component("sink/influx", state, words).await;
        assert_eq!(scene.gateway.get("/health/ready").await.status, 200);
        assert!(scene.influx.answers(status) > 0);
        scene.influx.set_mode(Mode::Works);
        for drain in ["DL-1", "DL-2", "DL-3"] {
            scene.wait_for_levels(drain, 8).await;
        }
        scene.gateway.wait_for_component("sink/influx", "ok", "").await;
        scene.influx.assert_content();
        scene.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_said_in_words_and_nothing_is_lost() {
    Scene::check(Mode::Unauthorized, 401, "down", "token refused (401): correct sinks.influx.token").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_missing_is_said_in_words_and_nothing_is_lost() {
    Scene::check(Mode::NoBucket, 404, "down", "bucket street of organisation city not found").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_asks_for_a_pause_gets_it_and_nothing_is_lost() {
    Scene::check(Mode::Busy(1), 429, "degraded", "the database asks for a pause (429)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_unavailable_is_waited_for_and_nothing_is_lost() {
    Scene::check(Mode::Unavailable, 503, "degraded", "503").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_as_long_as_the_database_asks_for() {
    let scene = Scene::set(Mode::Busy(4)).await;
    scene.send(0, 1).await;
    scene.gateway.wait_for_component("sink/influx", "degraded", "429").await;
    let asked = scene.influx.answers(429);
    crate::wait::stays("the database is left alone", std::time::Duration::from_secs(3), || async {
        let now = scene.influx.answers(429);
        if now == asked { Ok(()) } else { Err(format!("{now} requests instead of {asked}")) }
    })
    .await;
    scene.influx.set_mode(Mode::Works);
    scene.wait_for_levels("DL-3", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_too_large_is_split_until_it_fits() {
    let scene = Scene::set(Mode::Unavailable).await;
    scene.send(0, 20).await;
    scene.gateway.wait_for_component("sink/influx", "degraded", "503").await;
    // Three lines or so.
    scene.influx.set_mode(Mode::TooLarge(300));
    for drain in ["DL-1", "DL-2", "DL-3"] {
        scene.wait_for_levels(drain, 20).await;
    }
    assert!(scene.influx.answers(413) > 0, "no request was too large");
    scene.gateway.wait_for_component("sink/influx", "ok", "").await;
    scene.influx.assert_content();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_point_does_not_block_the_others() {
    let scene = Scene::set(Mode::Partial("DL-2".to_owned())).await;
    scene.send(0, 10).await;
    for drain in ["DL-1", "DL-3"] {
        scene.wait_for_levels(drain, 10).await;
    }
    assert!(scene.influx.answers(400) > 0);
    let words = scene.gateway.wait_for_component("sink/influx", "degraded", "the database refused").await;
    assert!(words.contains("field type conflict"), "{words}");
    let refused = scene.gateway.metric("kerbside_influx_points_refused_total", &[]).await;
    assert!(refused > 0.0, "{refused}");
    scene.influx.set_mode(Mode::Works);
    scene.send(10, 1).await;
    scene.wait_for_levels("DL-1", 11).await;
    scene.influx.assert_content();
}
