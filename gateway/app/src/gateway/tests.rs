//! A gateway that is started again after a while.

mod clock;
mod supervise;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{ByteText, Frame, Input, Payload, Timestamp};
use kerbside_runtime::Clock;
use kerbside_store::AlarmQuery;

use super::Gateway;
use crate::config::{self, ProcessEnvironment};
use crate::reload::Outcome;

const HOUR: Duration = Duration::from_secs(3_600);

/// A gateway on this folder whose clock begins at `at`.
async fn start(folder: &Path, at: Timestamp) -> Gateway {
    let config = config::load(&folder.join("gateway.yaml"), &ProcessEnvironment).unwrap();
    Gateway::start(config, Clock::scaled(at, 1.0), 1.0).await.unwrap()
}

/// The cover reports, and it is on the disk.
async fn report(gateway: &Gateway, at: Timestamp) {
    let frame = Frame {
        source: Arc::from("own"),
        address: ByteText::from("a/b/c/MH-1/up"),
        payload: Payload::Bytes(br#"{"open":false,"tilt":1.0}"#.as_slice().into()),
        received_at: at,
        retained: false,
    };
    gateway.intake.submit_durably(vec![Input::Frame(frame)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_silent_because_no_gateway_ran() {
    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let configuration = "data_dir: data\ninventory: inventory.csv\nlisten: 127.0.0.1:0\n\
                         sources: {own: {type: broker, listen: '127.0.0.1:0'}}\n";
    std::fs::write(folder.path().join("gateway.yaml"), configuration).unwrap();
    let inventory = "id,profile,address\nMH-1,json-manhole-cover,MH-1\nMH-2,json-manhole-cover,MH-2\n";
    std::fs::write(folder.path().join("inventory.csv"), inventory).unwrap();
    let began = Clock::System.now();
    let gateway = start(folder.path(), began).await;
    report(&gateway, began).await;
    gateway.stop().await;
    // The cover reports every hour, and counts as silent some hours later.
    let later = began.plus(48 * HOUR);
    let gateway = start(folder.path(), later).await;
    report(&gateway, later).await;
    let alarms = gateway.store.alarms(&AlarmQuery::default()).unwrap().items;
    assert!(alarms.is_empty(), "{alarms:?}");
    gateway.stop().await;
}

/// A gateway with one unit on a bus that nobody answers on, and where its files lie.
async fn with_a_bus(folder: &Path, interval: &str) -> Gateway {
    let configuration = "data_dir: data\ninventory: inventory.csv\nlisten: 127.0.0.1:0\nreload: manual\n\
                         sources: {bus: {type: modbus, host: 127.0.0.1, port: 9, turn_around: 100ms}, \
                         own: {type: broker, listen: '127.0.0.1:0'}}\n";
    std::fs::write(folder.join("gateway.yaml"), configuration).unwrap();
    std::fs::write(folder.join("inventory.csv"), units(interval)).unwrap();
    start(folder, Clock::System.now()).await
}

fn units(interval: &str) -> String {
    let row = |unit: u32| format!("LV-{unit},qdy30a-level,{unit},bus,{interval}\n");
    format!("id,profile,address,source,interval\n{}", (1..21).map(row).collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_would_have_no_time_and_an_inventory_that_was_cut_off_are_refused() {
    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let gateway = with_a_bus(folder.path(), "1m").await;
    let inventory = folder.path().join("inventory.csv");
    for (text, key) in [(units("1s"), "sources.bus"), ("id,profile,address\n".to_owned(), "inventory")] {
        std::fs::write(&inventory, text).unwrap();
        let report = gateway.reload.reload("wu").await.unwrap();
        assert_eq!(report.outcome, Outcome::Refused, "{report:?}");
        let keys: Vec<&str> = report.problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [key], "{report:?}");
        assert_eq!(gateway.site.get().devices().len(), 20);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_never_had_the_time_does_not_stand_in_the_way_of_another_change() {
    kerbside_runtime::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let gateway = with_a_bus(folder.path(), "1s").await;
    let changed = units("1s").replace("LV-20,", "LV-99,");
    std::fs::write(folder.path().join("inventory.csv"), changed).unwrap();
    let report = gateway.reload.reload("wu").await.unwrap();
    assert_eq!(report.outcome, Outcome::Applied, "{report:?}");
    assert!(report.notices.iter().any(|notice| notice.contains("of the bus's time")), "{report:?}");
    gateway.stop().await;
}
