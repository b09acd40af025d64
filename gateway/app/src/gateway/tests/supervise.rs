//! Components that panic are started again, by themselves and alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kerbside_model::AlarmState;
use kerbside_runtime::{HealthState, Intake};
use tokio::net::TcpListener;

use super::super::Parts;
use super::super::stage::Stage;
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again; gives what was seen last when it does not come.
async fn wait_for<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, is_there: impl Fn(&T) -> bool) {
    let began = Clock::stamp();
    loop {
        let seen = look();
        if is_there(&seen) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{what} did not come; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A unit that takes connections and says nothing; how many came.
async fn unit() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_panics_is_reported_and_takes_nobody_along() {
    let (intake, _receiver) = Intake::new(16, 1 << 16);
    let (parts, stage) = (Parts::new(Clock::System, intake), Stage::default());
    let odd = stage.spawn("source/odd".to_owned(), &parts, |_| async { panic!("an odd message") });
    let other = stage.spawn("source/other".to_owned(), &parts, |shutdown| async move { shutdown.cancelled().await });
    tokio::time::timeout(DEADLINE, parts.fallen.any()).await.expect("it is reported");
    wait_for("its end", || odd.has_ended(), |ended| *ended).await;
    let components = parts.health.snapshot();
    let state = |name: &str| components.iter().find(|found| found.component == name).map(|found| found.state);
    assert_eq!((state("source/odd"), state("source/other")), (Some(HealthState::Down), Some(HealthState::Starting)));
    assert!(!other.has_ended());
    stage.stop(DEADLINE, "the test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_and_sinks_that_panic_are_started_again_from_their_settings() {
    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let (port, connections) = unit().await;
    let configuration = format!(
        "data_dir: data\ninventory: inventory.csv\nlisten: 127.0.0.1:0\nreload: manual\nsources: {{bus: {{type: modbus, \
         host: 127.0.0.1, port: {port}}}, own: {{type: broker, listen: '127.0.0.1:0'}}}}\nsinks: {{influx: {{type: \
         influx, url: 'http://127.0.0.1:9', org: o, bucket: b, token: t}}}}\n"
    );
    std::fs::write(folder.path().join("gateway.yaml"), configuration).unwrap();
    let inventory = "id,profile,address,source,interval\nLV-1,qdy30a-level,1,bus,10s\n";
    std::fs::write(folder.path().join("inventory.csv"), inventory).unwrap();
    let gateway = start(folder.path(), Clock::System.now()).await;
    wait_for("the first poll", || connections.load(Ordering::SeqCst), |count| *count > 0).await;
    let before = connections.load(Ordering::SeqCst);
    let names = ["source/bus", "source/own", "sink/influx"];
    names.iter().for_each(|name| gateway.fallen.break_off(name));
    let counted = |name: &str| {
        let line = format!("kerbside_component_panics_total{{component=\"{name}\"}} ");
        let text = gateway.metrics.encode();
        text.lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
    };
    for name in names {
        wait_for(name, || counted(name), |count| count.as_deref() == Some("1")).await;
        wait_for(name, || gateway.fallen.is_running(name), |runs| *runs).await;
    }
    wait_for("the next poll", || connections.load(Ordering::SeqCst), |count| *count > before).await;
    let standing = || {
        let alarms = gateway.store.alarms(&AlarmQuery::default()).unwrap().items;
        alarms.iter().any(|alarm| alarm.condition == "component_failed" && alarm.state == AlarmState::Active)
    };
    wait_for("the alarm, which stands until they have run for a while", standing, |stands| *stands).await;
    gateway.stop().await;
}
