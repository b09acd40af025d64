//! A gateway that is started again after a while.

mod clock;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{ByteText, Frame, Input, Payload, Timestamp};
use kerbside_runtime::Clock;
use kerbside_store::AlarmQuery;

use super::Gateway;
use crate::config::{self, ProcessEnvironment};

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
