//! TLS, and devices that show a certificate. The files are described in tests/data/tls/README.md.

use std::path::{Path, PathBuf};

use kerbside_runtime::tls::{TlsFiles, client_config, install_crypto_provider};
use rumqttc::{TlsConfiguration, Transport};

use super::*;

fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// Copies of the broker's files, so that a test can renew them.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        install_crypto_provider();
        let files = Files { folder: tempfile::tempdir().unwrap() };
        files.present("broker");
        files
    }

    fn present(&self, name: &str) {
        std::fs::copy(tls_file(&format!("{name}.key")), self.folder.path().join("key")).unwrap();
        std::fs::copy(tls_file(&format!("{name}.pem")), self.folder.path().join("certificate")).unwrap();
    }

    /// The files beside or instead of plain connections.
    fn settings(&self, is_beside: bool) -> BrokerTls {
        BrokerTls {
            listen: is_beside.then(|| "127.0.0.1:0".parse().unwrap()),
            certificate: self.folder.path().join("certificate"),
            key: self.folder.path().join("key"),
            client_ca: None,
        }
    }
}

impl Running {
    /// A device that trusts one certificate, and shows its own when it has one.
    fn tls_device(&self, id: &str, login: Option<(&str, &str)>, trusted: &str, own: Option<&str>) -> Device {
        let files = TlsFiles {
            ca: Some(tls_file(trusted)),
            certificate: own.map(|name| tls_file(&format!("{name}.pem"))),
            key: own.map(|name| tls_file(&format!("{name}.key"))),
        };
        let mut options = MqttOptions::new(id, "localhost", self.handle.tls_addr().unwrap().port());
        options.set_max_packet_size(70_000, 70_000);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(client_config(&files).unwrap())));
        if let Some((username, password)) = login {
            options.set_credentials(username, password);
        }
        let (client, events) = AsyncClient::new(options, 16);
        Device { client, events }
    }
}

#[tokio::test]
async fn devices_connect_with_tls_beside_the_plain_connections() {
    let files = Files::new();
    let mut config = config();
    config.tls = Some(files.settings(true));
    config.accounts = vec![account("MH-1", "one")];
    let mut running = run(config).await;
    let committed = running.commits();
    let mut plain = running.device("plain", Some(("MH-1", "one")));
    plain.publish("t", QoS::AtLeastOnce, "open").await;
    plain.acknowledgement().await;
    let mut secure = running.tls_device("secure", Some(("MH-1", "one")), "broker.pem", None);
    secure.publish("t", QoS::AtLeastOnce, &"x".repeat(60_000)).await;
    secure.acknowledgement().await;
    running.tls_device("stranger", Some(("MH-1", "two")), "broker.pem", None).refused().await;
    running.health_says("(TLS); 1 accounts").await;
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 2);
}

#[tokio::test]
async fn with_tls_alone_a_plain_connection_gets_nowhere() {
    let files = Files::new();
    let mut config = config();
    config.tls = Some(files.settings(false));
    let running = run(config).await;
    assert_eq!(Some(running.handle.local_addr()), running.handle.tls_addr());
    assert!(soon("a refusal", running.device("plain", None).events.poll()).await.is_err());
    running.metric_is("kerbside_broker_refused_total{reason=\"tls\",source=\"own\"} 1").await;
    running.tls_device("secure", None, "broker.pem", None).accepted().await;
    // One that trusts somebody else goes by itself.
    let mut doubting = running.tls_device("doubting", None, "other.pem", None);
    assert!(soon("its end", doubting.events.poll()).await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_the_old_ones_stay() {
    let files = Files::new();
    let mut config = config();
    config.tls = Some(files.settings(true));
    let mut running = run(config).await;
    let committed = running.commits();
    let mut old = running.tls_device("old", None, "broker.pem", None);
    old.accepted().await;
    files.present("renewed");
    soon("the renewed certificate", async {
        while running.tls_device("new", None, "renewed.pem", None).events.poll().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    old.publish("t", QoS::AtLeastOnce, "still here").await;
    old.acknowledgement().await;
    // A file that cannot be used changes nothing but health.
    std::fs::write(files.folder.path().join("certificate"), "no certificate").unwrap();
    running.health_says("the old certificates stay").await;
    assert_eq!(running.health.snapshot()[0].state, HealthState::Degraded);
    running.tls_device("new", None, "renewed.pem", None).accepted().await;
    files.present("broker");
    soon("the first certificate again", async {
        while running.tls_device("new", None, "broker.pem", None).events.poll().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 1);
}

#[tokio::test]
async fn a_certificate_made_out_to_an_account_is_as_good_as_its_password_and_no_better() {
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts");
    std::fs::write(&path, "MH-9:!\n").unwrap();
    let mut config = config();
    config.tls = Some(BrokerTls { client_ca: Some(tls_file("device-ca.pem")), ..files.settings(true) });
    config.accounts = vec![account("MH-2", "two")];
    config.accounts_file = Some(path.clone());
    let mut running = run(config).await;
    // Without a certificate nobody gets as far as MQTT.
    let mut naked = running.tls_device("MH-1", None, "broker.pem", None);
    assert!(soon("a refusal", naked.events.poll()).await.is_err());
    running.metric_is("kerbside_broker_refused_total{reason=\"tls\",source=\"own\"} 1").await;
    // The certificate is MH-1's: another name needs its password as well.
    let device = |login| running.tls_device("MH-1", login, "broker.pem", Some("device"));
    assert_eq!(device(Some(("MH-2", ""))).refused().await, ConnectReturnCode::BadUserNamePassword);
    assert_eq!(device(Some(("MH-3", ""))).refused().await, ConnectReturnCode::BadUserNamePassword);
    device(Some(("MH-2", "two"))).accepted().await;
    running.metric_is("kerbside_broker_connections{source=\"own\"} 0").await;
    let mut named = device(None);
    named.accepted().await;
    named.publish("city/d01/manhole/MH-1/up", QoS::AtLeastOnce, "open").await;
    let named = tokio::spawn(async move {
        named.acknowledgement().await;
        named
    });
    let (frame, receipt) = running.submission().await;
    assert_eq!(&*frame.address, "city/d01/manhole/MH-1/up");
    receipt.honour();
    let mut named = soon("the acknowledgement", named).await.unwrap();
    named.publish("city/d01/manhole/MH-2/up", QoS::AtMostOnce, "open").await;
    named.event("it leaves", |event| matches!(event, Event::Outgoing(Outgoing::Publish(_))).then_some(())).await;
    running.metric_is("kerbside_broker_acl_denied_total{action=\"publish\",source=\"own\"} 1").await;
    // A line in the file locks a device out whose certificate is still good.
    std::fs::write(&path, "MH-1:!\n").unwrap();
    soon("MH-1 is shown out", async { while named.events.poll().await.is_ok() {} }).await;
    let mut locked = running.tls_device("MH-1", None, "broker.pem", Some("device"));
    assert_eq!(locked.refused().await, ConnectReturnCode::NotAuthorized);
}
