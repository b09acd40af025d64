//! The look at the database before the first line, and the alarm when somebody must mend the configuration.

use std::path::Path;

use kerbside_model::Input;
use kerbside_runtime::tls::install_crypto_provider;
use kerbside_runtime::{HealthState, Intake};

use super::delivery::Rig;
use super::stand_in::{Database, Reply};
use super::*;
use crate::influx::deliver::Writer;
use crate::influx::meters::Meters;
use crate::influx::setup::{self, Setup};

const UNAUTHORIZED: Reply = Reply(401, &[], r#"{"code":"unauthorized","message":"unauthorized access"}"#);
const NO_BUCKET: Reply = Reply(404, &[], r#"{"code":"not found","message":"bucket \"street\" not found"}"#);
const NO_ORGANISATION: Reply =
    Reply(404, &[], r#"{"code":"not found","message":"organization name \"city\" not found"}"#);
const READ_ONLY: Reply = Reply(403, &[], r#"{"code":"forbidden","message":"insufficient permissions for write"}"#);

async fn look(config: InfluxConfig) -> Setup {
    install_crypto_provider();
    let meters = Meters::new(&Metrics::default(), "influx");
    setup::check(&Writer::new(config, meters).unwrap()).await
}

fn ready(bucket_keeps_seconds: Option<i64>) -> Setup {
    Setup::Ready { database: "influxdb v2.7.1".to_owned(), bucket_keeps_seconds }
}

/// What is wrong and the mend, in both languages.
async fn wrong(config: InfluxConfig) -> (String, String) {
    match look(config).await {
        Setup::Wrong(problem) => (problem.words, problem.words_zh),
        other => panic!("not wrong: {other:?}"),
    }
}

#[tokio::test]
async fn it_finds_the_database_and_what_its_bucket_keeps() {
    let database = Database::new();
    let address = database.start().await;
    for url in [format!("http://{address}"), format!("http://{address}/behind/a/proxy/")] {
        database.buckets.lock().unwrap().clear();
        assert_eq!(look(config(&url)).await, ready(None), "a token that may only write sees no bucket");
        database.buckets.lock().unwrap().push("street");
        assert_eq!(look(config(&url)).await, ready(Some(2_592_000)));
    }
    assert_eq!(database.requests(), 0, "nothing was written");
}

#[tokio::test]
async fn it_says_what_is_wrong_and_how_to_mend_it() {
    let database = Database::new();
    let url = format!("http://{}/behind/a/proxy", database.start().await);
    let table = [
        (UNAUTHORIZED, "token refused (401): correct sinks.influx.token", "令牌被拒绝（401）"),
        (READ_ONLY, "it must allow to write to the bucket: insufficient permissions for write", "令牌被拒绝（403）"),
        (NO_BUCKET, "bucket street of organisation city not found: create it", "找不到组织 city 的存储桶 street"),
        (NO_ORGANISATION, "organisation city not found: create it or correct sinks.influx.org", "找不到组织 city"),
        (Reply(302, &[("location", "https://db/")], ""), "sends us on to https://db/", "将请求转到 https://db/"),
    ];
    for (reply, words, words_zh) in table {
        *database.refusal.lock().unwrap() = Some(reply);
        let found = wrong(config(&url)).await;
        assert!(found.0.contains(words) && found.1.contains(words_zh), "{found:?}");
    }
}

#[tokio::test]
async fn it_trusts_the_authority_of_the_configuration_and_no_other() {
    let database = Database::new();
    database.buckets.lock().unwrap().push("street");
    install_crypto_provider();
    let mut config = config(&format!("https://{}", database.start_with_tls().await));
    let untrusted = look(config.clone()).await;
    assert!(matches!(untrusted, Setup::Unreachable(_)), "{untrusted:?}");
    config.ca = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/ca.pem"));
    assert_eq!(look(config.clone()).await, ready(Some(2_592_000)));
    config.token = Some(Secret::new("another"));
    assert!(wrong(config).await.0.contains("token refused (401)"));
}

#[tokio::test]
async fn what_only_takes_line_protocol_is_accepted() {
    let database = Database::new();
    database.is_another.store(true, Ordering::SeqCst);
    let address = database.start().await;
    let known = Setup::Ready { database: "unknown".to_owned(), bucket_keeps_seconds: None };
    assert_eq!(look(config(&format!("http://{address}"))).await, known);
    assert_eq!(look(config(&format!("http://{address}/behind/a/proxy"))).await, known);
    assert_eq!(database.tried.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_database_that_takes_lines_is_not_asked_whether_it_would() {
    let database = Database::new();
    database.is_another.store(true, Ordering::SeqCst);
    let address = database.start().await;
    install_crypto_provider();
    let metrics = Metrics::default();
    let writer = Writer::new(config(&format!("http://{address}")), Meters::new(&metrics, "influx")).unwrap();
    Meters::new(&metrics, "influx").points.inc();
    assert!(matches!(setup::check(&writer).await, Setup::Ready { .. }));
    assert_eq!(database.tried.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_mistake_calls_somebody_before_the_first_line_and_the_call_ends_when_it_is_mended() {
    let database = Database::new();
    *database.refusal.lock().unwrap() = Some(NO_BUCKET);
    let address = database.start().await;
    let (intake, mut inputs) = Intake::new(16, 1 << 16);
    let alarm = TelemetryAlarm::default();
    let rig = Rig::alarming(Arc::clone(&database), address, alarm.clone());
    let calling = tokio::spawn(alarm.run(intake, rig.shutdown.clone()));
    let mut told = async || {
        let next = tokio::time::timeout(Duration::from_secs(20), inputs.next()).await;
        let submission = next.expect("somebody is told").expect("the alarm runs");
        match submission.inputs.as_slice() {
            [Input::Gateway(condition)] => condition.clone(),
            other => panic!("{other:?}"),
        }
    };
    let raised = told().await;
    assert_eq!((raised.condition.as_str(), raised.active), (TELEMETRY_REFUSED, true));
    assert!(raised.detail.starts_with("influx: bucket street of organisation city not found"), "{}", raised.detail);
    assert!(raised.detail_zh.starts_with("influx：找不到组织 city 的存储桶 street"), "{}", raised.detail_zh);
    // A write finds the same, and that is no news.
    rig.commit(1);
    rig.until_state(HealthState::Down, "bucket street").await;
    until("the write was refused too", || database.requests() >= 1).await;
    *database.refusal.lock().unwrap() = None;
    let cleared = told().await;
    assert_eq!((cleared.condition.as_str(), cleared.active), (TELEMETRY_REFUSED, false));
    rig.until_points(1).await;
    rig.end().await;
    calling.await.unwrap();
}
