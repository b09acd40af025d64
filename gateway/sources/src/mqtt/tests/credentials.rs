//! Passwords and certificates that change while the gateway runs.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::*;

/// A source that looks at its files all the time.
fn run_watching(config: MqttConfig) -> Running {
    let (intake, receiver) = Intake::new(64, 16 * 1024 * 1024);
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let mut source = MqttSource::new(config, intake, Clock::System, &metrics, &health).unwrap();
    source.look_interval = Duration::from_millis(10);
    let task = tokio::spawn(source.run(shutdown.clone()));
    Running { receiver, metrics, health, shutdown, task }
}

fn token_config(port: u16, folder: &TempDir, token: &str) -> MqttConfig {
    let file = folder.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let mut config = config(port, MqttVersion::V5);
    config.keep_alive = Duration::from_secs(1);
    config.password = Some(Credential { value: Secret::new(token), file: Some(file) });
    config
}

fn ends_with_token(connect: &[u8], token: &str) -> bool {
    let length = u16::try_from(token.len()).unwrap().to_be_bytes();
    connect.ends_with(&[&length, token.as_bytes()].concat())
}

#[tokio::test]
async fn a_rotated_token_is_used_at_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V5).await;
    let _running = run(token_config(broker.port(), &folder, "first"));
    let mut peer = broker.accept().await;
    assert!(ends_with_token(&peer.packet().await, "first"));
    fs::write(folder.path().join("token"), "second").unwrap();
    drop(peer);
    let mut peer = broker.accept().await;
    assert!(ends_with_token(&peer.packet().await, "second"));
}

#[tokio::test]
async fn a_token_that_cannot_be_read_leaves_the_old_one_in_use_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V5).await;
    let running = run_watching(token_config(broker.port(), &folder, "first"));
    let mut peer = broker.accept_subscribed().await;
    running.health_is(HealthState::Ok, "").await;
    for (contents, words) in [(&b""[..], "empty"), (b"\xff", "not UTF-8")] {
        fs::write(folder.path().join("token"), contents).unwrap();
        let detail = running.health_is(HealthState::Degraded, words).await;
        assert!(detail.contains("what was read before is used"), "{detail}");
    }
    fs::remove_file(folder.path().join("token")).unwrap();
    running.health_is(HealthState::Degraded, "No such file").await;
    assert_eq!(peer.packet().await, PINGREQ, "the connection stands");
    drop(peer);
    let mut peer = broker.accept().await;
    assert!(ends_with_token(&peer.packet().await, "first"));
    peer.send(peer.connack()).await;
    peer.packet().await;
    peer.send(peer.suback(&[1])).await;
    running.health_is(HealthState::Degraded, "No such file").await;
    fs::write(folder.path().join("token"), "second").unwrap();
    running.health_is(HealthState::Ok, "").await;
}

/// A broker that asks for one of the two certificates of the gateway.
fn acceptor() -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    for name in ["client-1.pem", "client-2.pem"] {
        roots.add(CertificateDer::from_pem_file(tls_file(name)).unwrap()).unwrap();
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(tls_file("broker.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(tls_file("broker.key")).unwrap();
    let server = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(server))
}

/// Puts certificates where the source looks for them.
fn place(folder: &TempDir, client: &str) {
    for (kind, name) in [("pem", "client.pem"), ("key", "client.key")] {
        fs::copy(tls_file(&format!("{client}.{kind}")), folder.path().join(name)).unwrap();
    }
}

fn certified_config(port: u16, folder: &TempDir) -> MqttConfig {
    install_crypto_provider();
    place(folder, "client-1");
    fs::copy(tls_file("broker.pem"), folder.path().join("ca.pem")).unwrap();
    let path = |name: &str| Some(folder.path().join(name));
    let mut config = config(port, MqttVersion::V311);
    config.host = "localhost".to_owned();
    config.keep_alive = Duration::from_secs(1);
    config.tls = Some(TlsFiles { ca: path("ca.pem"), certificate: path("client.pem"), key: path("client.key") });
    config
}

/// A connection, checked to show this certificate.
async fn accept_showing(broker: &StandIn, acceptor: &TlsAcceptor, client: &str) -> Peer {
    let tls: TlsStream<TcpStream> = soon("TLS", acceptor.accept(broker.accept_tcp().await)).await.unwrap();
    let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    assert!(shown == CertificateDer::from_pem_file(tls_file(&format!("{client}.pem"))).unwrap(), "not {client}");
    let mut peer = Peer::new(Box::new(tls), MqttVersion::V311);
    peer.greet().await;
    peer
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_the_next_connection_and_cuts_none() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V311).await;
    let acceptor = acceptor();
    let mut running = run_watching(certified_config(broker.port(), &folder));
    let mut peer = accept_showing(&broker, &acceptor, "client-1").await;
    running.health_is(HealthState::Ok, "").await;
    place(&folder, "client-2");
    assert_eq!(peer.packet().await, PINGREQ, "the connection stands");
    peer.send(peer.publish(1, 7, b"over the old connection")).await;
    running.submission().await.1.honour();
    while peer.packet().await != pubacks([7]) {}
    drop(peer);
    accept_showing(&broker, &acceptor, "client-2").await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_leave_the_old_ones_in_use_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V311).await;
    let acceptor = acceptor();
    let running = run_watching(certified_config(broker.port(), &folder));
    let peer = accept_showing(&broker, &acceptor, "client-1").await;
    // A key that is half written, an empty list of authorities, a certificate whose key is another's.
    fs::write(folder.path().join("client.key"), "-----BEGIN PRIVATE KEY-----\nMIG").unwrap();
    running.health_is(HealthState::Degraded, "read a private key from").await;
    fs::write(folder.path().join("ca.pem"), "").unwrap();
    fs::copy(tls_file("client-1.key"), folder.path().join("client.key")).unwrap();
    running.health_is(HealthState::Degraded, "there is none in it").await;
    fs::copy(tls_file("broker.pem"), folder.path().join("ca.pem")).unwrap();
    fs::copy(tls_file("client-2.pem"), folder.path().join("client.pem")).unwrap();
    running.health_is(HealthState::Degraded, "use the certificate and key").await;
    drop(peer);
    let _peer = accept_showing(&broker, &acceptor, "client-1").await;
    place(&folder, "client-2");
    running.health_is(HealthState::Ok, "").await;
}

#[tokio::test]
async fn an_authority_that_is_added_makes_the_broker_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V311).await;
    let acceptor = acceptor();
    let config = certified_config(broker.port(), &folder);
    fs::copy(tls_file("other.pem"), folder.path().join("ca.pem")).unwrap();
    let running = run(config);
    assert!(soon("TLS", acceptor.accept(broker.accept_tcp().await)).await.is_err());
    running.health_is(HealthState::Down, "agree on TLS").await;
    fs::copy(tls_file("broker.pem"), folder.path().join("ca.pem")).unwrap();
    let _peer = loop {
        // Tries that began before the copy fail.
        if let Ok(tls) = soon("TLS", acceptor.accept(broker.accept_tcp().await)).await {
            let mut peer = Peer::new(Box::new(tls), MqttVersion::V311);
            peer.greet().await;
            break peer;
        }
    };
    running.health_is(HealthState::Ok, "").await;
}
