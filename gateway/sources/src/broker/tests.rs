//! The embedded broker with rumqttc's client. No test needs a network or waits without a state to wait for.

mod access;
mod limits;
mod tls;

use std::collections::HashSet;
use std::time::Duration;

use kerbside_model::{Frame, Input, Payload};
use kerbside_runtime::{Clock, Health, HealthState, Intake, IntakeReceiver, Metrics, Receipt, Secret, Shutdown};
use rumqttc::{AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    BrokerAccount, BrokerConfig, BrokerError, BrokerHandle, BrokerLimits, BrokerSource, BrokerTls, Rights, TopicPattern,
};

/// How long anything that must happen may take.
const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    receiver: IntakeReceiver,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
    handle: BrokerHandle,
}

/// A device: rumqttc's client.
struct Device {
    client: AsyncClient,
    events: EventLoop,
}

pub(super) fn config() -> BrokerConfig {
    BrokerConfig {
        name: "own".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        accounts: Vec::new(),
        accounts_file: None,
        device_rights: rights(&["city/+/+/{account}/#"], &[]),
        limits: BrokerLimits {
            connections_max: 1_000,
            connections_per_account_max: 1_000,
            packet_bytes_max: 64 * 1024,
            inflight_max: 100,
            messages_per_second_max: 1_000,
            keep_alive_max: Duration::from_secs(65_535),
            subscriptions_max: 32,
            queued_messages_max: 1_000,
            queued_bytes_max: 1024 * 1024,
        },
    }
}

fn rights(publish: &[&str], subscribe: &[&str]) -> Rights {
    let patterns = |texts: &[&str]| texts.iter().map(|text| TopicPattern::parse(text).unwrap()).collect();
    Rights { publish: patterns(publish), subscribe: patterns(subscribe) }
}

fn account(name: &str, password: &str) -> BrokerAccount {
    BrokerAccount { name: name.to_owned(), password: Secret::new(password), rights: Rights::everything() }
}

async fn run(config: BrokerConfig) -> Running {
    let (intake, receiver) = Intake::new(1_000, 16 * 1024 * 1024);
    let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
    let source = BrokerSource::new(config, intake, Clock::System, &metrics, &health).unwrap();
    let handle = source.start(shutdown.clone()).await.unwrap();
    Running { receiver, metrics, health, shutdown, handle }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen in {DEADLINE:?}"),
    }
}

impl Running {
    async fn submission(&mut self) -> (Frame, Receipt) {
        let mut submission = soon("a submission", self.receiver.next()).await.unwrap();
        assert_eq!(submission.inputs.len(), 1);
        match submission.inputs.pop() {
            Some(Input::Frame(frame)) => (frame, submission.receipt),
            other => panic!("a source submits frames, not {other:?}"),
        }
    }

    fn device(&self, id: &str, login: Option<(&str, &str)>) -> Device {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.handle.local_addr().port());
        options.set_clean_session(false);
        if let Some((username, password)) = login {
            options.set_credentials(username, password);
        }
        let (client, events) = AsyncClient::new(options, 16);
        Device { client, events }
    }

    /// Honours every submission from now on, and says how many there were when the test lets it end.
    fn commits(&mut self) -> tokio::task::JoinHandle<usize> {
        let (_intake, closed) = Intake::new(1, 1);
        let mut receiver = std::mem::replace(&mut self.receiver, closed);
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(submission) = receiver.next().await {
                count += submission.inputs.len();
                submission.receipt.honour();
            }
            count
        })
    }

    async fn health_says(&self, words: &str) {
        soon(words, async {
            while !self.health.snapshot()[0].detail.contains(words) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn metric_is(&self, line: &str) {
        soon(line, async {
            while !self.metrics.encode().lines().any(|other| other == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

impl Device {
    async fn publish(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.client.publish(topic, qos, false, payload).await.unwrap();
    }

    /// Drives the device until an event that `wanted` takes.
    async fn event<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        soon(what, async {
            loop {
                let event = self.events.poll().await.unwrap();
                if let Some(value) = wanted(&event) {
                    return value;
                }
            }
        })
        .await
    }

    async fn acknowledgement(&mut self) -> u16 {
        self.event("a PUBACK", |event| match event {
            Event::Incoming(Packet::PubAck(ack)) => Some(ack.pkid),
            _ => None,
        })
        .await
    }

    async fn accepted(&mut self) {
        self.event("a CONNACK", |event| matches!(event, Event::Incoming(Packet::ConnAck(_))).then_some(())).await;
    }

    async fn refused(&mut self) -> ConnectReturnCode {
        match soon("an answer", self.events.poll()).await {
            Err(ConnectionError::ConnectionRefused(code)) => code,
            other => panic!("not refused but {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_is_acknowledged_only_after_its_commit() {
    let mut running = run(config()).await;
    let mut device = running.device("cover-1", None);
    device.publish("covers/1/up", QoS::AtLeastOnce, "open").await;
    device
        .event("the message leaves", |event| matches!(event, Event::Outgoing(Outgoing::Publish(_))).then_some(()))
        .await;
    let (frame, receipt) = {
        // The device is driven on, and must hear of no acknowledgement before the submission is there.
        let submission = running.submission();
        tokio::pin!(submission);
        loop {
            tokio::select! {
                submission = &mut submission => break submission,
                event = device.events.poll() => {
                    assert!(!matches!(event.unwrap(), Event::Incoming(Packet::PubAck(_))), "not committed yet");
                }
            }
        }
    };
    assert_eq!(&*frame.source, "own");
    assert_eq!(&*frame.address, "covers/1/up");
    assert_eq!(frame.payload, Payload::Bytes("open".into()));
    assert!(!frame.retained);
    let early = tokio::time::timeout(Duration::from_millis(200), device.acknowledgement()).await;
    assert!(early.is_err(), "acknowledged before the commit");
    receipt.honour();
    device.acknowledgement().await;
    running.metric_is("kerbside_broker_messages_total{qos=\"1\",source=\"own\"} 1").await;
    running.metric_is("kerbside_broker_connections{source=\"own\"} 1").await;
}

#[tokio::test]
async fn a_topic_that_begins_with_a_dollar_is_committed_like_any_other() {
    let mut running = run(config()).await;
    let mut device = running.device("cover-1", None);
    // Devices made for a vendor's cloud speak so: OneNET `$sys/...`, Tencent `$thing/...`.
    device.publish("$sys/1/cover-1/thing/property/post", QoS::AtLeastOnce, "open").await;
    let device = tokio::spawn(async move {
        device.acknowledgement().await;
    });
    let (frame, receipt) = running.submission().await;
    assert_eq!(&*frame.address, "$sys/1/cover-1/thing/property/post");
    receipt.honour();
    soon("the acknowledgement", device).await.unwrap();
}

#[tokio::test]
async fn a_message_at_qos_2_is_received_only_after_its_commit_and_one_at_qos_0_needs_none() {
    let mut running = run(config()).await;
    let mut device = running.device("cover-1", None);
    device.publish("covers/1/up", QoS::AtMostOnce, "zero").await;
    device.publish("covers/1/up", QoS::ExactlyOnce, "two").await;
    let received = |event: &Event| matches!(event, Event::Incoming(Packet::PubRec(_))).then_some(());
    let early = tokio::time::timeout(Duration::from_millis(300), device.event("a PUBREC", received)).await;
    assert!(early.is_err(), "received before the commit");
    let (zero, _) = running.submission().await;
    assert_eq!(zero.payload, Payload::Bytes("zero".into()));
    let (two, receipt) = running.submission().await;
    assert_eq!(two.payload, Payload::Bytes("two".into()));
    receipt.honour();
    device.event("a PUBCOMP", |event| matches!(event, Event::Incoming(Packet::PubComp(_))).then_some(())).await;
}

#[tokio::test]
async fn subscribers_get_what_is_published_and_nothing_is_retained() {
    let mut running = run(config()).await;
    let mut subscriber = running.device("console", None);
    subscriber.client.subscribe("covers/#", QoS::AtLeastOnce).await.unwrap();
    subscriber.event("a SUBACK", |event| matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(())).await;
    let mut device = running.device("cover-1", None);
    device.client.publish("covers/1/up", QoS::AtLeastOnce, true, "open").await.unwrap();
    let device = tokio::spawn(async move {
        device.acknowledgement().await;
        device
    });
    let (frame, receipt) = running.submission().await;
    assert!(!frame.retained, "a device that speaks now is live");
    receipt.honour();
    let message = |event: &Event| match event {
        Event::Incoming(Packet::Publish(publish)) => Some((publish.topic.clone(), publish.payload.clone())),
        _ => None,
    };
    let (topic, payload) = subscriber.event("the message", message).await;
    assert_eq!((topic.as_str(), &payload[..]), ("covers/1/up", &b"open"[..]));
    let _device = soon("the acknowledgement", device).await.unwrap();
    let mut late = running.device("late", None);
    late.client.subscribe("covers/#", QoS::AtLeastOnce).await.unwrap();
    late.event("a SUBACK", |event| {
        assert!(message(event).is_none(), "nothing is retained");
        matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_who_knows_an_account_gets_in() {
    let mut config = config();
    config.accounts = vec![account("cover", "right"), account("pole", "other")];
    let running = run(config).await;
    for login in [None, Some(("cover", "wrong")), Some(("cover", "other")), Some(("nobody", "right"))] {
        for _ in 0..3 {
            let mut device = running.device("cover-1", login);
            match soon("an answer", device.events.poll()).await {
                Err(ConnectionError::ConnectionRefused(code)) => {
                    assert!(matches!(code, ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized));
                }
                other => panic!("{login:?} gets {other:?}"),
            }
        }
    }
    // A dozen failures do not lock out the address for those who know.
    let mut device = running.device("cover-1", Some(("cover", "right")));
    device.accepted().await;
    running.metric_is("kerbside_broker_refused_total{reason=\"password\",source=\"own\"} 6").await;
    running.metric_is("kerbside_broker_refused_total{reason=\"account\",source=\"own\"} 6").await;
    running.metric_is("kerbside_broker_connects_total{result=\"refused\",source=\"own\"} 12").await;
    running.metric_is("kerbside_broker_connects_total{result=\"accepted\",source=\"own\"} 1").await;
    running.health_says("127.0.0.1:").await;
    running.health_says("last refusal: nobody at 127.0.0.1:").await;
}

#[tokio::test]
async fn a_hundred_devices_share_commits() {
    let mut running = run(config()).await;
    let mut devices = Vec::new();
    for number in 0..100 {
        let mut device = running.device(&format!("cover-{number}"), None);
        devices.push(tokio::spawn(async move {
            for message in 0..3 {
                device.publish(&format!("covers/{number}/up"), QoS::AtLeastOnce, &message.to_string()).await;
                device.acknowledgement().await;
            }
        }));
    }
    let mut seen = HashSet::new();
    for _ in 0..3 {
        // Nothing is committed before a message of every device is there: all hundred wait for one commit.
        let mut receipts = Vec::new();
        for _ in 0..100 {
            let (frame, receipt) = running.submission().await;
            let Payload::Bytes(payload) = &frame.payload else { panic!("MQTT carries bytes") };
            seen.insert((frame.address.to_string(), payload.clone()));
            receipts.push(receipt);
        }
        receipts.into_iter().for_each(Receipt::honour);
    }
    for device in devices {
        soon("the last acknowledgement", device).await.unwrap();
    }
    assert_eq!(seen.len(), 300);
    running.metric_is("kerbside_broker_messages_total{qos=\"1\",source=\"own\"} 300").await;
}

#[tokio::test]
async fn the_shutdown_acknowledges_what_is_committed_meanwhile_and_is_prompt() {
    let mut running = run(config()).await;
    // By hand: rumqttc's client loses an acknowledgement that comes together with the end of the connection.
    let mut device = tokio::net::TcpStream::connect(running.handle.local_addr()).await.unwrap();
    device.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04pole\x32\x07\x00\x01t\x00\x09up").await.unwrap();
    let (frame, receipt) = running.submission().await;
    assert_eq!(&*frame.address, "t");
    running.shutdown.cancel();
    receipt.honour();
    let mut answers = Vec::new();
    soon("the end of the connection", device.read_to_end(&mut answers)).await.unwrap();
    assert_eq!(answers, b"\x20\x02\x00\x00\x40\x02\x00\x09");
    let address = running.handle.local_addr();
    let began = Clock::stamp();
    soon("the end", running.handle.stopped()).await;
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn the_shutdown_does_not_wait_for_ever_and_does_not_acknowledge() {
    let mut running = run(config()).await;
    let mut device = running.device("cover-1", None);
    device.publish("covers/1/up", QoS::AtLeastOnce, "never committed").await;
    let device = tokio::spawn(async move {
        loop {
            match device.events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => panic!("never committed"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let (_, _receipt) = running.submission().await;
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    soon("the end of the connection", device).await.unwrap();
}

#[tokio::test]
async fn the_broker_ends_with_the_pipeline_and_acknowledges_nothing() {
    let running = run(config()).await;
    let mut device = running.device("cover-1", None);
    let Running { receiver, health, handle, .. } = running;
    drop(receiver);
    device.publish("covers/1/up", QoS::AtLeastOnce, "for nobody").await;
    soon("the end of the connection", async {
        loop {
            match device.events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => panic!("nobody took it"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    })
    .await;
    soon("the end", handle.stopped()).await;
    let component = &health.snapshot()[0];
    assert_eq!((component.component.as_str(), component.state), ("source/own", HealthState::Down));
    assert_eq!(component.detail, "the pipeline has ended");
}

#[tokio::test]
async fn a_taken_address_is_told() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config();
    config.listen = taken.local_addr().unwrap();
    let (intake, _receiver) = Intake::new(1, 1024);
    let source = BrokerSource::new(config, intake, Clock::System, &Metrics::default(), &Health::default()).unwrap();
    let error = source.start(Shutdown::new()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("listen on {}: ", taken.local_addr().unwrap())), "{error}");
    assert!(matches!(error, BrokerError::Unavailable { .. }));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("in use"), "{cause}");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    type Change = fn(&mut BrokerConfig);
    let cases: [(Change, &str); 9] = [
        (|config| config.listen = "0.0.0.0:1883".parse().unwrap(), "listen on 0.0.0.0:1883 without accounts: give"),
        (|config| config.accounts = vec![account("a", "")], "use account \"a\""),
        (|config| config.accounts = vec![account("a", "1"), account("a", "2")], "use account \"a\""),
        (|config| config.accounts = vec![account("a/b", "1")], "use account \"a/b\""),
        (|config| config.limits.packet_bytes_max = 1, "use packet limit of 1: must be at least 1024"),
        (|config| config.limits.connections_max = 0, "use connection limit of 0: must be at least 1"),
        (|config| config.limits.messages_per_second_max = 0, "use message rate of 0: must be at least 1"),
        (|config| config.accounts_file = Some("/nowhere/accounts".into()), "read accounts from /nowhere/accounts"),
        (
            |config| {
                let (certificate, key) = ("/nowhere/a.pem".into(), "/nowhere/a.key".into());
                config.tls = Some(BrokerTls { listen: None, certificate, key, client_ca: None });
            },
            "serve TLS",
        ),
    ];
    for (change, words) in cases {
        let mut config = config();
        change(&mut config);
        let (intake, _receiver) = Intake::new(1, 1024);
        let made: Result<BrokerSource, BrokerError> =
            BrokerSource::new(config, intake, Clock::System, &Metrics::default(), &Health::default());
        let error = made.expect_err(words).to_string();
        assert!(error.starts_with(words), "{error:?} does not begin with {words:?}");
    }
}
