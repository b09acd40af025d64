//! A box that starts in 1970 after a power cut, and is put right while it runs.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use kerbside_model::vocabulary::CLOCK_UNSURE;
use kerbside_model::{Alarm, AlarmState, ByteText, Frame, Input, Payload, Timestamp};
use kerbside_runtime::trust::Steering;
use kerbside_runtime::{Clock, HealthState};
use kerbside_store::{AlarmQuery, AuditQuery};

use crate::config::{self, ProcessEnvironment};
use crate::gateway::Gateway;
use crate::pipeline::backlog::StoreBacklog;
use crate::pipeline::eras::ClockEras;

const DEADLINE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);
const BOOT: Timestamp = Timestamp(40_000);

/// Lines that the database took.
type Lines = Arc<Mutex<Vec<String>>>;

/// A database that takes everything.
async fn database() -> (String, Lines) {
    let lines = Lines::default();
    let write = |State(lines): State<Lines>, body: Bytes| async move {
        let text = String::from_utf8(body.to_vec()).unwrap();
        lines.lock().unwrap().extend(text.lines().map(str::to_owned));
        StatusCode::NO_CONTENT
    };
    let router = Router::new().route("/api/v2/write", post(write)).with_state(Arc::clone(&lines));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, lines)
}

/// The lines in the order in which they came, each once: what was under way at a stop may be sent again.
fn points(lines: &Lines) -> Vec<String> {
    let mut points: Vec<String> = Vec::new();
    for line in lines.lock().unwrap().iter() {
        if !points.contains(line) {
            points.push(line.clone());
        }
    }
    points
}

fn write_configuration(folder: &Path, database: &str) {
    let configuration = format!(
        "data_dir: data\ninventory: inventory.csv\nlisten: 127.0.0.1:0\n\
         sources: {{own: {{type: broker, listen: '127.0.0.1:0'}}}}\n\
         sinks: {{db: {{type: influx, url: '{database}', org: o, bucket: b, gzip: off}}}}\n"
    );
    std::fs::write(folder.join("gateway.yaml"), configuration).unwrap();
    let inventory = "id,profile,address\nMH-1,json-manhole-cover,MH-1\nMH-2,json-manhole-cover,MH-2\n";
    std::fs::write(folder.join("inventory.csv"), inventory).unwrap();
}

async fn start(folder: &Path, clock: &Clock) -> Gateway {
    let config = config::load(&folder.join("gateway.yaml"), &ProcessEnvironment).unwrap();
    Gateway::start(config, clock.clone(), 1.0).await.unwrap()
}

/// A cover reports now, as far as the gateway knows, and it is on the disk.
async fn report(gateway: &Gateway, clock: &Clock, device: &str, open: bool) -> Timestamp {
    let received_at = clock.now();
    let tilt = if open { 62 } else { 1 };
    let frame = Frame {
        source: Arc::from("own"),
        address: ByteText::from(format!("a/b/c/{device}/up")),
        payload: Payload::Bytes(format!(r#"{{"open":{open},"tilt":{tilt}}}"#).into_bytes().into()),
        received_at,
        retained: false,
    };
    gateway.intake.submit_durably(vec![Input::Frame(frame)]).await.unwrap();
    received_at
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "{what}");
}

fn alarm(gateway: &Gateway, condition: &str) -> Option<Alarm> {
    let alarms = gateway.store.alarms(&AlarmQuery::default()).unwrap().items;
    alarms.into_iter().find(|alarm| alarm.condition == condition)
}

fn is_clock_degraded(health: &kerbside_runtime::Health) -> bool {
    let found = health.snapshot().into_iter().find(|part| part.component == "clock");
    found.is_some_and(|part| part.state == HealthState::Degraded)
}

/// A gateway that ran until a power cut, and its last time.
async fn before_the_power_cut(folder: &Path) -> Timestamp {
    let (clock, _steering) = Clock::steered(Clock::System.now().plus(30 * DAY));
    let gateway = start(folder, &clock).await;
    let last = report(&gateway, &clock, "MH-1", false).await;
    gateway.stop().await;
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_starts_in_1970_goes_on_and_is_put_right() {
    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let (url, lines) = database().await;
    write_configuration(folder.path(), &url);
    let last = before_the_power_cut(folder.path()).await;
    wait_until("the line of before the power cut", || points(&lines).len() == 1).await;

    let (clock, steering): (Clock, Steering) = Clock::steered(BOOT);
    let gateway = start(folder.path(), &clock).await;
    let assumed = report(&gateway, &clock, "MH-1", true).await;
    assert!(assumed >= last && assumed < last.plus(DAY), "{assumed} after {last}");
    let raised = alarm(&gateway, "displaced").unwrap();
    assert!(raised.explanation.contains("time is unsure"), "{}", raised.explanation);
    assert!(raised.explanation_zh.contains("时间不确定"), "{}", raised.explanation_zh);
    assert_eq!(alarm(&gateway, CLOCK_UNSURE).map(|alarm| alarm.state), Some(AlarmState::Active));
    assert!(is_clock_degraded(&gateway.health));

    let actual = last.plus(2 * DAY);
    steering.set(actual);
    let is_over = || alarm(&gateway, CLOCK_UNSURE).is_some_and(|alarm| alarm.state == AlarmState::Cleared);
    assert_eq!(points(&lines).len(), 1, "telemetry waits until the time is known: {:?}", points(&lines));
    wait_until("the clock is believed", is_over).await;
    assert!(!is_clock_degraded(&gateway.health));
    // What came in the dark is stored as of when it came, and once.
    wait_until("the line that waited", || points(&lines).len() >= 2).await;
    let stored: i64 = points(&lines)[1].rsplit(' ').next().unwrap().parse().unwrap();
    let off = stored - actual.0;
    assert!((-60_000..=0).contains(&off), "{stored} is not shortly before {actual}");
    let raised = alarm(&gateway, "displaced").unwrap();
    assert_eq!((raised.state, raised.opened_at), (AlarmState::Active, assumed), "an alarm keeps its time");
    // From here on everything is as ever.
    let sure = report(&gateway, &clock, "MH-2", true).await;
    assert!(sure >= actual);
    wait_until("the line of after", || points(&lines).len() == 3).await;
    let alarms = gateway.store.alarms(&AlarmQuery::default()).unwrap().items;
    let newest = alarms.iter().find(|alarm| alarm.device == "MH-2").unwrap();
    assert!(!newest.explanation.contains("unsure"), "{}", newest.explanation);
    assert!(alarms.iter().all(|alarm| alarm.condition != "silent"), "{alarms:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_clock_that_is_set_wakes_the_pipeline_and_nobody_is_silent() {
    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let (url, _lines) = database().await;
    write_configuration(folder.path(), &url);
    let began = Clock::System.now().plus(30 * DAY);
    let (clock, steering) = Clock::steered(began);
    let gateway = start(folder.path(), &clock).await;
    report(&gateway, &clock, "MH-1", false).await;
    let times_loaded = || {
        let query = AuditQuery { subject: Some(gateway.site.get().hash().to_owned()), ..AuditQuery::default() };
        gateway.store.audit(&query).unwrap().items.len()
    };
    let mut loaded = times_loaded();
    for to in [began.plus(DAY), began.minus(DAY)] {
        steering.set(to);
        wait_until("the site is handed in again", || times_loaded() > loaded).await;
        loaded = times_loaded();
    }
    assert!(alarm(&gateway, CLOCK_UNSURE).is_none(), "it is believed all the time");
    let alarms = gateway.store.alarms(&AlarmQuery::default()).unwrap().items;
    assert!(alarms.is_empty(), "{alarms:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_holds_back_what_has_an_assumed_time_and_then_sets_it_right() {
    use kerbside_model::port::Backlog;
    use kerbside_runtime::trust::Rebase;

    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let (url, _lines) = database().await;
    write_configuration(folder.path(), &url);
    let (clock, _steering) = Clock::steered(Clock::System.now().plus(30 * DAY));
    let gateway = start(folder.path(), &clock).await;
    let eras = Arc::new(ClockEras::load(folder.path(), 0));
    let first = gateway.store.last_sequence().unwrap() + 1;
    eras.begin(first, clock.now());
    let assumed = report(&gateway, &clock, "MH-1", false).await;
    let backlog = StoreBacklog::new(gateway.store.clone(), gateway.site.get()).with_eras(Arc::clone(&eras));
    assert!(backlog.read_after(first - 1, 1 << 20).is_err(), "an empty answer would mean that it is gone");
    let found_at = clock.now();
    eras.found(Rebase { assumed: found_at, actual: found_at.plus(DAY) });
    eras.end(gateway.store.last_sequence().unwrap());
    let batches = backlog.read_after(first - 1, 1 << 20).unwrap();
    let times: Vec<Timestamp> =
        batches.iter().flat_map(|batch| batch.observations.iter().map(|(row, _)| row.received_at)).collect();
    assert_eq!(times, [assumed.plus(DAY)]);
    gateway.stop().await;
}
