//! The source against a scripted broker. No test needs a network or waits without a state to wait for.

mod chaos;
mod credentials;
mod stand_in;
mod subscriptions;
mod version5;
mod websocket;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kerbside_model::{Frame, Input, Payload};
use kerbside_runtime::tls::{TlsFiles, install_crypto_provider, server_config};
use kerbside_runtime::{
    Clock, ComponentHealth, Health, HealthState, Intake, IntakeReceiver, Metrics, Receipt, Secret, Shutdown,
};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use self::stand_in::{DISCONNECT, PINGREQ, Peer, StandIn, pubacks, publish, soon, until};
use super::{Credential, MqttConfig, MqttError, MqttSource, MqttVersion, OversizePolicy, TopicFilter, Transport};

/// A source that runs, and everything around it.
struct Running {
    receiver: IntakeReceiver,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

fn config(port: u16, version: MqttVersion) -> MqttConfig {
    MqttConfig {
        name: "depot".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        transport: Transport::Tcp,
        version,
        client_id: "kerbside-1".to_owned(),
        username: None,
        password: None,
        tls: None,
        topics: vec![TopicFilter { filter: "depot/#".to_owned(), qos: 1 }],
        session: super::SessionKind::Kept,
        keep_alive: Duration::from_secs(60),
        session_expiry: Duration::from_secs(3600),
        receive_maximum: 500,
        packet_bytes_max: 64 * 1024,
        oversize: OversizePolicy::Skip,
        user_properties: Vec::new(),
        backoff_max: Duration::from_millis(1),
        sparkplug: None,
        state_folder: None,
    }
}

fn run(config: MqttConfig) -> Running {
    run_with(config, Intake::new(64, 16 * 1024 * 1024))
}

fn run_with(config: MqttConfig, (intake, receiver): (Intake, IntakeReceiver)) -> Running {
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let source = MqttSource::new(config, intake, Clock::System, &metrics, &health).unwrap();
    let task = tokio::spawn(source.run(shutdown.clone()));
    Running { receiver, metrics, health, shutdown, task }
}

impl Running {
    /// The next frames that the source hands over, with their receipt.
    async fn submission(&mut self) -> (Vec<Frame>, Receipt) {
        let submission = soon("a submission", self.receiver.next()).await.unwrap();
        let frames = submission.inputs.iter().flat_map(|input| match input {
            Input::Frames(frames) => frames.iter().map(|view| view.to_frame()),
            other => panic!("a source submits frames, not {other:?}"),
        });
        (frames.collect(), submission.receipt)
    }

    fn component(&self) -> ComponentHealth {
        let snapshot = self.health.snapshot();
        assert_eq!(snapshot.len(), 1);
        assert_eq!(snapshot[0].component, "source/depot");
        snapshot[0].clone()
    }

    /// Waits for a health of this state, whose detail holds `words`.
    async fn health_is(&self, state: HealthState, words: &str) -> String {
        until(|| {
            let component = self.component();
            let is_so = component.state == state && component.detail.contains(words);
            if is_so { Ok(component.detail) } else { Err(format!("{component:?}, not {state:?} with {words:?}")) }
        })
        .await
    }

    async fn metric_is(&self, line: &str) {
        until(|| {
            let metrics = self.metrics.encode();
            if metrics.lines().any(|other| other == line) { Ok(()) } else { Err(format!("no {line} in\n{metrics}")) }
        })
        .await;
    }
}

fn payload(frame: &Frame) -> &[u8] {
    match &frame.payload {
        Payload::Bytes(bytes) => bytes,
        Payload::Registers(_) => panic!("MQTT carries bytes"),
    }
}

#[tokio::test]
async fn connect_and_subscribe_are_written_as_mqtt_3_1_1_says() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut config = config(broker.port(), MqttVersion::V311);
    config.username = Some(Credential::fixed("u"));
    config.password = Some(Credential::fixed("pw"));
    config.topics.push(TopicFilter { filter: "x/+".to_owned(), qos: 0 });
    config.topics.push(TopicFilter { filter: "y".to_owned(), qos: 2 });
    let _running = run(config);
    let mut peer = broker.accept().await;
    // Flags 0xC0: user name and password, and no clean session.
    let mut connect = b"\x10\x1d\x00\x04MQTT\x04\xc0\x00\x3c\x00\x0akerbside-1".to_vec();
    connect.extend(b"\x00\x01u\x00\x02pw");
    assert_eq!(peer.packet().await, connect);
    peer.send(peer.connack()).await;
    assert_eq!(peer.packet().await, b"\x82\x16\x00\x01\x00\x07depot/#\x01\x00\x03x/+\x00\x00\x01y\x01");
}

#[tokio::test]
async fn connect_and_subscribe_are_written_as_mqtt_5_says() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let _running = run(config(broker.port(), MqttVersion::V5));
    let mut peer = broker.accept().await;
    // Session expiry 3600 s, receive maximum 500, topic alias maximum 256, no maximum packet size, no clean start.
    let mut connect = b"\x10\x22\x00\x04MQTT\x05\x00\x00\x3c\x0b\x11\x00\x00\x0e\x10\x21\x01\xf4\x22\x01\x00".to_vec();
    connect.extend(b"\x00\x0akerbside-1");
    assert_eq!(peer.packet().await, connect);
    peer.send(peer.connack()).await;
    // Option 0x11: QoS 1, and retained messages only for a subscription that is new.
    assert_eq!(peer.packet().await, b"\x82\x0d\x00\x01\x00\x00\x07depot/#\x11");
}

#[tokio::test]
async fn messages_are_acknowledged_after_their_commit_in_one_segment_and_in_order() {
    for version in [MqttVersion::V311, MqttVersion::V5] {
        let broker = StandIn::new(version).await;
        let mut config = config(broker.port(), version);
        config.keep_alive = Duration::from_secs(1);
        let mut running = run(config);
        let mut peer = broker.accept_subscribed().await;
        let ids = [700, 3, 65535, 12, 1];
        let mut bytes = peer.publish(0, 0, b"not to be acknowledged");
        for id in ids {
            bytes.extend(peer.publish(1, id, &id.to_be_bytes()));
        }
        peer.send(&bytes).await;
        let (frames, receipt) = running.submission().await;
        assert_eq!(frames.len(), 6);
        assert_eq!(&*frames[0].address, "depot/a");
        assert_eq!(&*frames[0].source, "depot");
        assert_eq!(payload(&frames[1]), 700_u16.to_be_bytes());
        // The ping comes half a second later: meanwhile nothing was acknowledged.
        assert_eq!(peer.segment().await, PINGREQ);
        running.metric_is("kerbside_mqtt_unacknowledged{source=\"depot\"} 5").await;
        receipt.honour();
        assert_eq!(peer.segment().await, pubacks(ids));
        running.metric_is("kerbside_mqtt_unacknowledged{source=\"depot\"} 0").await;
        running.metric_is("kerbside_mqtt_acks_total{source=\"depot\"} 5").await;
        running.metric_is("kerbside_mqtt_messages_total{qos=\"0\",source=\"depot\"} 1").await;
        running.metric_is("kerbside_mqtt_messages_total{qos=\"1\",source=\"depot\"} 5").await;
        running.metric_is("kerbside_mqtt_bytes_total{source=\"depot\"} 32").await;
    }
}

#[tokio::test]
async fn a_flood_is_cut_into_chunks_and_a_late_commit_acknowledges_all_before_it() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut running = run(config(broker.port(), MqttVersion::V311));
    let mut peer = broker.accept_subscribed().await;
    let bytes: Vec<u8> = (1..=6_000).flat_map(|id: u16| peer.publish(1, id, &id.to_be_bytes())).collect();
    peer.send(&bytes).await;
    let mut receipts = Vec::new();
    let mut next = 1;
    while next <= 6_000 {
        let (frames, receipt) = running.submission().await;
        assert!(frames.len() <= 2_048, "{} frames in one chunk", frames.len());
        for frame in &frames {
            assert_eq!(payload(frame), u16::to_be_bytes(next), "in the order of arrival");
            next += 1;
        }
        receipts.push(receipt);
    }
    assert!(receipts.len() >= 2);
    receipts.pop().unwrap().honour();
    let mut acks = Vec::new();
    while acks.len() < 24_000 {
        acks.extend(peer.segment().await);
    }
    assert_eq!(acks, pubacks(1..=6_000));
}

#[tokio::test]
async fn flags_of_a_message_reach_the_frame_and_the_counters() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut running = run(config(broker.port(), MqttVersion::V5));
    let mut peer = broker.accept_subscribed().await;
    let mut bytes = publish(MqttVersion::V5, 0x33, 1, "井盖/一号", b"kept");
    bytes.extend(publish(MqttVersion::V5, 0x3A, 2, "depot/b", b"again"));
    peer.send(&bytes).await;
    let (frames, _receipt) = running.submission().await;
    assert_eq!(&*frames[0].address, "井盖/一号");
    assert!(frames[0].retained && !frames[1].retained);
    running.metric_is("kerbside_mqtt_redelivered_total{source=\"depot\"} 1").await;
    running.metric_is("kerbside_mqtt_connected{source=\"depot\"} 1").await;
    running.metric_is("kerbside_mqtt_connects_total{source=\"depot\"} 1").await;
}

#[tokio::test]
async fn bytes_that_come_one_by_one_give_the_same_messages() {
    for version in [MqttVersion::V311, MqttVersion::V5] {
        let broker = StandIn::new(version).await;
        let mut running = run(config(broker.port(), version));
        let mut peer = broker.accept().await;
        peer.packet().await;
        let mut bytes = peer.connack();
        bytes.extend(peer.publish(1, 4, b"before the suback"));
        bytes.extend(peer.suback(&[1]));
        bytes.extend([0xD0, 0]);
        bytes.extend(peer.publish(0, 0, &[7; 200]));
        for byte in bytes {
            peer.send([byte]).await;
            tokio::task::yield_now().await;
        }
        let mut frames = Vec::new();
        while frames.len() < 2 {
            let (more, receipt) = running.submission().await;
            frames.extend(more);
            receipt.honour();
        }
        assert_eq!(payload(&frames[0]), b"before the suback");
        assert_eq!(payload(&frames[1]), [7; 200]);
        assert_eq!(peer.packet().await[0], 0x82);
        assert_eq!(peer.packet().await, pubacks([4]));
        running.health_is(HealthState::Ok, "").await;
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_skipped_counted_and_acknowledged_in_its_turn() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut config = config(broker.port(), MqttVersion::V311);
    config.packet_bytes_max = 1024;
    config.keep_alive = Duration::from_secs(1);
    let mut running = run(config);
    let mut peer = broker.accept_subscribed().await;
    peer.send(peer.publish(1, 1, b"first")).await;
    let (_, first) = running.submission().await;
    let long = publish(MqttVersion::V311, 0x32, 2, &"t".repeat(900), &[9; 300_000]);
    for piece in long.chunks(7_000) {
        peer.send(piece).await;
    }
    peer.send(publish(MqttVersion::V311, 0x30, 0, "depot/long", &[9; 5_000])).await;
    peer.send(peer.publish(1, 3, b"third")).await;
    let (frames, third) = running.submission().await;
    assert_eq!(frames.len(), 1);
    assert_eq!(payload(&frames[0]), b"third");
    assert_eq!(peer.packet().await, PINGREQ, "the long message waits for the one before it");
    first.honour();
    assert_eq!(peer.packet().await, pubacks([1]));
    third.honour();
    assert_eq!(peer.packet().await, pubacks([2]));
    assert_eq!(peer.packet().await, pubacks([3]));
    running.metric_is("kerbside_mqtt_oversize_total{source=\"depot\"} 2").await;
}

#[tokio::test]
async fn a_lone_message_that_is_too_long_is_acknowledged_at_once() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = config(broker.port(), MqttVersion::V5);
    config.packet_bytes_max = 1024;
    let _running = run(config);
    let mut peer = broker.accept_subscribed().await;
    peer.send(peer.publish(1, 77, &[0; 1_025])).await;
    assert_eq!(peer.packet().await, pubacks([77]));
}

#[tokio::test]
async fn a_refused_subscription_degrades_the_source_and_names_the_filter() {
    for (version, code, words) in
        [(MqttVersion::V311, 0x80, "x/+ refused"), (MqttVersion::V5, 0x87, "x/+ refused: not authorized")]
    {
        let broker = StandIn::new(version).await;
        let mut config = config(broker.port(), version);
        config.topics.push(TopicFilter { filter: "x/+".to_owned(), qos: 1 });
        let mut running = run(config);
        let mut peer = broker.accept().await;
        peer.packet().await;
        peer.send(peer.connack()).await;
        peer.packet().await;
        peer.send(peer.suback(&[1, code])).await;
        let detail = running.health_is(HealthState::Degraded, words).await;
        assert!(!detail.contains("depot/#"), "{detail}");
        peer.send(peer.publish(1, 5, b"the other still works")).await;
        running.submission().await.1.honour();
        assert_eq!(peer.packet().await, pubacks([5]));
    }
}

#[tokio::test]
async fn a_subscription_at_a_lower_qos_degrades_the_source() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let running = run(config(broker.port(), MqttVersion::V311));
    let mut peer = broker.accept().await;
    peer.packet().await;
    peer.send(peer.connack()).await;
    peer.send(peer.suback(&[0])).await;
    running.health_is(HealthState::Degraded, "depot/# only at QoS 0").await;
}

#[tokio::test]
async fn while_the_pipeline_is_full_pings_and_acknowledgements_go_on_and_nothing_is_lost() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut config = config(broker.port(), MqttVersion::V311);
    config.keep_alive = Duration::from_secs(1);
    let mut running = run_with(config, Intake::new(1, 64 * 1024 * 1024));
    let mut peer = broker.accept_subscribed().await;
    peer.send(peer.publish(1, 1, b"1")).await;
    let (_, first) = running.submission().await;
    // The intake has room for one submission more; with the third the source must wait.
    peer.send(peer.publish(1, 2, b"2")).await;
    running.metric_is("kerbside_mqtt_messages_total{qos=\"1\",source=\"depot\"} 2").await;
    peer.send(peer.publish(1, 3, b"3")).await;
    // Longer than 1.5 times the keep-alive, in which the broker says nothing that the source would hear.
    for _ in 0..4 {
        assert_eq!(peer.packet().await, PINGREQ);
    }
    first.honour();
    assert_eq!(peer.packet().await, pubacks([1]));
    for id in [2, 3] {
        running.submission().await.1.honour();
        assert_eq!(peer.packet().await, pubacks([id]));
    }
    running.metric_is("kerbside_mqtt_connects_total{source=\"depot\"} 1").await;
}

#[tokio::test]
async fn the_reason_of_a_disconnect_is_told_and_the_source_comes_back() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = config(broker.port(), MqttVersion::V5);
    config.backoff_max = Duration::from_millis(300);
    let running = run(config);
    for (disconnect, words) in [
        (vec![0xE0, 1, 0x8E], "session taken over"),
        (vec![0xE0, 0], "normal disconnection"),
        (b"\xe0\x09\x8b\x07\x1f\x00\x04soon".to_vec(), "server shutting down (soon)"),
    ] {
        let mut peer = broker.accept_subscribed().await;
        running.health_is(HealthState::Ok, "").await;
        peer.send(disconnect).await;
        let detail = running.health_is(HealthState::Down, words).await;
        assert!(detail.contains(&format!("127.0.0.1:{}", broker.port())), "{detail}");
        running.metric_is("kerbside_mqtt_connected{source=\"depot\"} 0").await;
    }
    broker.accept_subscribed().await;
}

#[tokio::test]
async fn a_refused_login_is_told_in_words() {
    for (version, connack, words) in [
        (MqttVersion::V311, vec![0x20, 2, 0, 5], "refuses: not authorized"),
        (MqttVersion::V311, vec![0x20, 2, 0, 4], "refuses: bad user name or password"),
        (MqttVersion::V311, vec![0x20, 2, 0, 0x87], "refuses: return code 135"),
        (MqttVersion::V5, vec![0x20, 3, 0, 0x87, 0], "refuses: not authorized"),
        (MqttVersion::V5, vec![0x20, 2, 0, 1], "refuses: it does not speak MQTT 5"),
        (MqttVersion::V5, b"\x20\x0a\x00\x97\x07\x1f\x00\x04full".to_vec(), "refuses: quota exceeded (full)"),
    ] {
        let broker = StandIn::new(version).await;
        let running = run(config(broker.port(), version));
        let mut peer = broker.accept().await;
        peer.packet().await;
        peer.send(connack).await;
        let detail = running.health_is(HealthState::Down, words).await;
        assert!(detail.contains(&format!("log in at 127.0.0.1:{}", broker.port())), "{detail}");
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_and_tried_again() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let port = broker.port();
    drop(broker);
    let running = run(config(port, MqttVersion::V311));
    running.health_is(HealthState::Down, &format!("connect to 127.0.0.1:{port}: Connection refused")).await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (tcp, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut peer = Peer::new(Box::new(tcp), MqttVersion::V311);
    peer.greet().await;
    running.health_is(HealthState::Ok, "").await;
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_left() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut config = config(broker.port(), MqttVersion::V311);
    config.keep_alive = Duration::from_secs(1);
    let running = run(config);
    let mut peer = broker.accept_subscribed().await;
    assert_eq!(peer.packet().await, PINGREQ);
    running.health_is(HealthState::Down, "not a word").await;
}

#[tokio::test]
async fn the_keep_alive_of_an_mqtt_5_broker_holds() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let _running = run(config(broker.port(), MqttVersion::V5));
    let mut peer = broker.accept().await;
    peer.packet().await;
    peer.send(b"\x20\x06\x00\x00\x03\x13\x00\x01").await;
    peer.packet().await;
    peer.send(peer.suback(&[1])).await;
    assert_eq!(peer.packet().await, PINGREQ, "after half a second, not half a minute");
}

#[tokio::test]
async fn what_came_before_garbage_is_acknowledged_before_the_connection_is_left() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut running = run(config(broker.port(), MqttVersion::V311));
    let mut peer = broker.accept_subscribed().await;
    let mut bytes = peer.publish(1, 6, b"good");
    bytes.extend([0xF0, 0]);
    bytes.extend(peer.publish(1, 7, b"behind the garbage"));
    peer.send(bytes).await;
    let (frames, receipt) = running.submission().await;
    assert_eq!(frames.len(), 1);
    receipt.honour();
    assert_eq!(peer.packet().await, pubacks([6]));
    assert_eq!(peer.packet().await, DISCONNECT);
    assert_eq!(soon("the end", peer.try_packet()).await, None);
    broker.accept_subscribed().await;
}

#[tokio::test]
async fn a_message_at_qos_2_gets_its_handshake_after_its_commit() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut config = config(broker.port(), MqttVersion::V311);
    config.keep_alive = Duration::from_secs(1);
    let mut running = run(config);
    let mut peer = broker.accept_subscribed().await;
    peer.send(peer.publish(2, 9, b"left over from another subscription")).await;
    let (_, receipt) = running.submission().await;
    assert_eq!(peer.packet().await, PINGREQ);
    receipt.honour();
    assert_eq!(peer.packet().await, [0x50, 2, 0, 9]);
    peer.send([0x62, 2, 0, 9]).await;
    assert_eq!(peer.packet().await, [0x70, 2, 0, 9]);
}

#[tokio::test]
async fn the_end_waits_for_the_last_commit_and_says_goodbye() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut running = run(config(broker.port(), MqttVersion::V5));
    let mut peer = broker.accept_subscribed().await;
    peer.send(peer.publish(1, 8, b"last")).await;
    let (_, receipt) = running.submission().await;
    running.shutdown.cancel();
    peer.send(peer.publish(1, 9, b"too late")).await;
    receipt.honour();
    assert_eq!(peer.packet().await, pubacks([8]));
    assert_eq!(peer.packet().await, DISCONNECT);
    soon("the end", running.task).await.unwrap();
    assert!(running.receiver.next().await.is_none(), "nothing is taken after the shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_falls_into_the_end_is_always_acknowledged() {
    for _ in 0..100 {
        let broker = StandIn::new(MqttVersion::V311).await;
        let mut running = run(config(broker.port(), MqttVersion::V311));
        let mut peer = broker.accept_subscribed().await;
        peer.send(peer.publish(1, 8, b"last")).await;
        let (_, receipt) = running.submission().await;
        running.shutdown.cancel();
        tokio::task::spawn(async { receipt.honour() });
        assert_eq!(peer.packet().await, pubacks([8]));
        assert_eq!(peer.packet().await, DISCONNECT);
        soon("the end", running.task).await.unwrap();
    }
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let mut running = run(config(broker.port(), MqttVersion::V311));
    let mut peer = broker.accept_subscribed().await;
    peer.send(peer.publish(1, 8, b"never committed")).await;
    let (_, _receipt) = running.submission().await;
    running.shutdown.cancel();
    tokio::time::pause();
    soon("the end", running.task).await.unwrap();
    assert_eq!(soon("the end", peer.try_packet()).await, None, "no acknowledgement");
}

#[tokio::test]
async fn the_source_ends_with_the_pipeline_and_acknowledges_nothing() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let running = run(config(broker.port(), MqttVersion::V311));
    let mut peer = broker.accept_subscribed().await;
    running.health_is(HealthState::Ok, "").await;
    let Running { receiver, health, task, .. } = running;
    drop(receiver);
    peer.send(peer.publish(1, 8, b"for nobody")).await;
    assert_eq!(peer.packet().await, DISCONNECT);
    soon("the end", task).await.unwrap();
    assert_eq!(health.snapshot()[0].state, HealthState::Down);
}

/// A file of the test certificates; see the README beside them.
fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// A source that trusts the certificate in `trusted`, and what its broker presents.
async fn run_with_tls(broker: &StandIn, trusted: &str) -> (Running, TlsAcceptor) {
    install_crypto_provider();
    let mut config = config(broker.port(), MqttVersion::V5);
    config.host = "localhost".to_owned();
    config.tls = Some(TlsFiles { ca: Some(tls_file(trusted)), certificate: None, key: None });
    let server = server_config(&tls_file("broker.pem"), &tls_file("broker.key")).unwrap();
    (run(config), TlsAcceptor::from(server))
}

#[tokio::test]
async fn messages_come_over_tls_from_a_broker_whose_certificate_is_trusted() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let (mut running, acceptor) = run_with_tls(&broker, "broker.pem").await;
    let tls = soon("TLS", acceptor.accept(broker.accept_tcp().await)).await.unwrap();
    let mut peer = Peer::new(Box::new(tls), MqttVersion::V5);
    peer.greet().await;
    // Both ways more than one TLS record.
    let bytes: Vec<u8> = (1..=5_000).flat_map(|id: u16| peer.publish(1, id, b"secret")).collect();
    let commits = async {
        let mut receipts = Vec::new();
        let mut received = 0;
        while received < 5_000 {
            let (frames, receipt) = running.submission().await;
            received += frames.len();
            receipts.push(receipt);
        }
        receipts.pop().unwrap().honour();
    };
    tokio::join!(peer.send(&bytes), commits);
    for id in 1..=5_000 {
        assert_eq!(peer.packet().await, pubacks([id]));
    }
}

#[tokio::test]
async fn a_broker_whose_certificate_is_not_trusted_gets_no_password() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let (running, acceptor) = run_with_tls(&broker, "other.pem").await;
    assert!(soon("TLS", acceptor.accept(broker.accept_tcp().await)).await.is_err());
    let detail = running.health_is(HealthState::Down, "agree on TLS with localhost").await;
    assert!(detail.contains("certificate"), "{detail}");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    type Change = fn(&mut MqttConfig);
    let cases: [(Change, &str); 11] = [
        (|config| config.client_id.clear(), "use client id \"\": a persistent session needs 1 to 65535 bytes"),
        (|config| config.topics.clear(), "subscribe 0 topics: between 1 and 10000 are possible"),
        (|config| config.topics[0].filter = "a/#/b".to_owned(), "subscribe \"a/#/b\" at QoS 1: not a topic filter"),
        (
            |config| config.topics[0].filter = "$share/a".to_owned(),
            "subscribe \"$share/a\" at QoS 1: not a topic filter",
        ),
        (
            |config| config.topics = vec![TopicFilter { filter: "x".repeat(65_000), qos: 0 }; 20],
            "use topic filters of 1300000 bytes: must be at most 1 MiB together",
        ),
        (|config| config.topics[0].qos = 3, "subscribe \"depot/#\" at QoS 3: not a topic filter"),
        (|config| config.keep_alive = Duration::ZERO, "use keep alive of 0ns: must be 1 s to 65535 s"),
        (|config| config.receive_maximum = 0, "use receive maximum of 0: must be 1 to 65535"),
        (|config| config.packet_bytes_max = 10, "use packet limit of 10 bytes: must be at least 1024 bytes"),
        (
            |config| config.password = Some(Credential::fixed("x")),
            "use password of ***: must be accompanied by a user name",
        ),
        (
            |config| config.tls = Some(TlsFiles { ca: Some("/nowhere".into()), ..TlsFiles::default() }),
            "prepare TLS for",
        ),
    ];
    for (change, words) in cases {
        let mut config = config(1883, MqttVersion::V311);
        change(&mut config);
        let (intake, _receiver) = Intake::new(1, 1024);
        let made: Result<MqttSource, MqttError> =
            MqttSource::new(config, intake, Clock::System, &Metrics::default(), &Health::default());
        let error = made.expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} does not contain {words:?}");
    }
}

#[tokio::test]
async fn a_shared_subscription_is_accepted() {
    let mut config = config(1883, MqttVersion::V5);
    config.topics[0].filter = "$share/gateways/depot/+/up".to_owned();
    let (intake, _receiver) = Intake::new(1, 1024);
    MqttSource::new(config, intake, Clock::System, &Metrics::default(), &Health::default()).unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_half_way_through_the_login_is_tried_again() {
    let broker = StandIn::new(MqttVersion::V311).await;
    let running = run(config(broker.port(), MqttVersion::V311));
    drop(broker.accept().await);
    let mut tcp = broker.accept_tcp().await;
    tcp.write_all(&[0x20, 2]).await.unwrap();
    drop(tcp);
    let _peer = broker.accept_subscribed().await;
    running.health_is(HealthState::Ok, "").await;
}
