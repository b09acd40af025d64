//! Who gets in, and what he may do there.

use std::num::NonZeroU32;
use std::path::Path;

use rumqttc::v5;

use super::super::password;
use super::*;

const TOPIC: &str = "city/d01/manhole/MH-1/up";
const FOREIGN: &str = "city/d01/manhole/MH-2/up";

/// A client of MQTT 5.
struct Device5 {
    client: v5::AsyncClient,
    events: v5::EventLoop,
}

impl Running {
    fn device5(&self, id: &str, login: (&str, &str)) -> Device5 {
        let mut options = v5::MqttOptions::new(id, "127.0.0.1", self.handle.local_addr().port());
        options.set_credentials(login.0, login.1);
        let (client, events) = v5::AsyncClient::new(options, 16);
        Device5 { client, events }
    }
}

impl Device5 {
    async fn event<T>(&mut self, what: &str, mut wanted: impl FnMut(&v5::mqttbytes::v5::Packet) -> Option<T>) -> T {
        soon(what, async {
            loop {
                if let v5::Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(value) = wanted(&packet)
                {
                    return value;
                }
            }
        })
        .await
    }

    async fn publish(&mut self, topic: &str) -> v5::mqttbytes::v5::PubAckReason {
        self.client.publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, "open").await.unwrap();
        self.event("a PUBACK", |packet| match packet {
            v5::mqttbytes::v5::Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }
}

fn write(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n")).unwrap();
}

fn line(name: &str, password: &str) -> String {
    // As few steps as Mosquitto takes: a build without optimisation is slow at them.
    let iterations = NonZeroU32::new(101).unwrap();
    format!("{name}:{}", password::hash(password, iterations).unwrap())
}

/// A broker with accounts in a file.
async fn run_with_file(lines: &[String]) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    let path = folder.path().join("accounts");
    write(&path, lines);
    config.accounts_file = Some(path);
    (run(config).await, folder)
}

#[tokio::test]
async fn a_device_of_the_file_publishes_below_its_own_name_and_nowhere_else() {
    let (mut running, _folder) = run_with_file(&[line("MH-1", "one"), line("MH-2", "two")]).await;
    let mut stranger = running.device("x", Some(("MH-1", "two")));
    assert_eq!(stranger.refused().await, ConnectReturnCode::BadUserNamePassword);
    let committed = running.commits();
    let mut device = running.device5("x", ("MH-1", "one"));
    assert_eq!(device.publish(TOPIC).await, v5::mqttbytes::v5::PubAckReason::Success);
    assert_eq!(device.publish(FOREIGN).await, v5::mqttbytes::v5::PubAckReason::NotAuthorized);
    assert_eq!(device.publish("$sys/a").await, v5::mqttbytes::v5::PubAckReason::NotAuthorized);
    assert_eq!(device.publish(TOPIC).await, v5::mqttbytes::v5::PubAckReason::Success);
    running.metric_is("kerbside_broker_acl_denied_total{action=\"publish\",source=\"own\"} 2").await;
    running.metric_is("kerbside_broker_messages_total{qos=\"1\",source=\"own\"} 2").await;
    running.metric_is(&format!("kerbside_broker_bytes_total{{source=\"own\"}} {}", 2 * (TOPIC.len() + 4))).await;
    running.health_says("last refusal: MH-1 may not publish $sys/a").await;
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 2, "what is denied is no frame");
}

#[tokio::test]
async fn mqtt_3_1_1_has_no_word_for_a_refusal_so_the_message_is_acknowledged_discarded_and_counted() {
    let (mut running, _folder) = run_with_file(&[line("MH-1", "one")]).await;
    let mut device = running.device("x", Some(("MH-1", "one")));
    let committed = running.commits();
    device.publish(FOREIGN, QoS::AtLeastOnce, "open").await;
    device.acknowledgement().await;
    device.publish(TOPIC, QoS::AtLeastOnce, "open").await;
    device.acknowledgement().await;
    running.metric_is("kerbside_broker_acl_denied_total{action=\"publish\",source=\"own\"} 1").await;
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 1);
}

#[tokio::test]
async fn a_device_subscribes_to_what_is_allowed_and_to_nothing_else() {
    let mut config = config();
    config.accounts =
        vec![BrokerAccount { rights: rights(&["city/#"], &["city/+/+/{account}/down"]), ..account("MH-1", "one") }];
    let running = run(config).await;
    let mut device = running.device5("x", ("MH-1", "one"));
    for (filter, is_allowed) in
        [("city/+/+/MH-1/down", true), ("city/#", false), ("city/+/+/+/down", false), ("$share/g/#", false)]
    {
        device.client.subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).await.unwrap();
        let code = device
            .event("a SUBACK", |packet| match packet {
                v5::mqttbytes::v5::Packet::SubAck(ack) => Some(ack.return_codes[0]),
                _ => None,
            })
            .await;
        let is_granted = matches!(code, v5::mqttbytes::v5::SubscribeReasonCode::Success(_));
        assert_eq!(is_granted, is_allowed, "{filter}: {code:?}");
    }
    running.metric_is("kerbside_broker_acl_denied_total{action=\"subscribe\",source=\"own\"} 3").await;
    let mut old = running.device("y", Some(("MH-1", "one")));
    old.client.subscribe("city/#", QoS::AtLeastOnce).await.unwrap();
    let code = old
        .event("a SUBACK", |event| match event {
            Event::Incoming(Packet::SubAck(ack)) => Some(ack.return_codes[0]),
            _ => None,
        })
        .await;
    assert_eq!(code, rumqttc::SubscribeReasonCode::Failure);
}

#[tokio::test]
async fn the_accounts_file_is_read_again_and_who_is_no_longer_in_it_is_shown_out() {
    let one = line("MH-1", "one");
    let (running, folder) = run_with_file(&[one.clone(), line("MH-2", "two")]).await;
    let path = folder.path().join("accounts");
    let mut first = running.device("first", Some(("MH-1", "one")));
    first.accepted().await;
    let mut second = running.device("second", Some(("MH-2", "two")));
    second.accepted().await;
    running.device("third", Some(("MH-3", "three"))).refused().await;

    // MH-2 goes, MH-3 comes, MH-1 stays as it is.
    write(&path, &["# devices".to_owned(), one.clone(), line("MH-3", "three")]);
    soon("MH-2 is shown out", async { while second.events.poll().await.is_ok() {} }).await;
    running.metric_is("kerbside_broker_refused_total{reason=\"revoked\",source=\"own\"} 1").await;
    running.device("second", Some(("MH-2", "two"))).refused().await;
    running.device("third", Some(("MH-3", "three"))).accepted().await;
    first.publish(TOPIC, QoS::AtMostOnce, "still here").await;
    first.event("it leaves", |event| matches!(event, Event::Outgoing(Outgoing::Publish(_))).then_some(())).await;

    // Half of a copy locks nobody out.
    write(&path, &[]);
    running.health_says("it holds no account any more").await;
    assert_eq!(running.health.snapshot()[0].state, HealthState::Degraded);
    running.device("third", Some(("MH-3", "three"))).accepted().await;

    // A locked account, and a line that nobody can read.
    write(&path, &["MH-1:!".to_owned(), line("MH-3", "three"), "what is this".to_owned()]);
    soon("MH-1 is shown out", async { while first.events.poll().await.is_ok() {} }).await;
    running.health_says("1 lines of the accounts file cannot be used").await;
    let mut locked = running.device("first", Some(("MH-1", "one")));
    assert_eq!(locked.refused().await, ConnectReturnCode::NotAuthorized);
    running.metric_is("kerbside_broker_refused_total{reason=\"locked\",source=\"own\"} 1").await;
    running.device("third", Some(("MH-3", "three"))).accepted().await;
}

#[tokio::test]
async fn nobody_takes_over_the_client_id_of_another_account() {
    let (running, _folder) = run_with_file(&[line("MH-1", "one"), line("MH-2", "two")]).await;
    let mut first = running.device("MH-1", Some(("MH-1", "one")));
    first.accepted().await;
    let mut thief = running.device("MH-1", Some(("MH-2", "two")));
    assert_eq!(thief.refused().await, ConnectReturnCode::BadClientId);
    running.metric_is("kerbside_broker_refused_total{reason=\"client_id\",source=\"own\"} 1").await;
    // The device itself may come again, over a connection that it has lost.
    let mut again = running.device("MH-1", Some(("MH-1", "one")));
    again.accepted().await;
}

#[tokio::test]
async fn a_will_is_sent_on_only_where_its_device_may_publish_and_only_when_it_is_not_to_be_retained() {
    let (running, _folder) = run_with_file(&[line("MH-1", "one")]).await;
    for (topic, retain) in [(FOREIGN, false), (TOPIC, true)] {
        let mut options = MqttOptions::new("x", "127.0.0.1", running.handle.local_addr().port());
        options.set_credentials("MH-1", "one");
        options.set_last_will(rumqttc::LastWill::new(topic, "gone", QoS::AtLeastOnce, retain));
        let (client, events) = AsyncClient::new(options, 16);
        let mut device = Device { client, events };
        device.accepted().await;
        // It goes without a farewell.
        drop(device);
    }
    running.metric_is("kerbside_broker_acl_denied_total{action=\"will\",source=\"own\"} 2").await;
    running.metric_is("kerbside_broker_connections{source=\"own\"} 0").await;
}

#[tokio::test]
async fn two_hundred_devices_come_back_at_once_each_with_its_own_account() {
    let lines: Vec<String> = (0..200).map(|number| line(&format!("MH-{number}"), &format!("p{number}"))).collect();
    let (mut running, _folder) = run_with_file(&lines).await;
    let committed = running.commits();
    let mut devices = Vec::new();
    for number in 0..200 {
        let (name, password) = (format!("MH-{number}"), format!("p{number}"));
        let mut device = running.device(&name, Some((&name, &password)));
        devices.push(tokio::spawn(async move {
            device.publish(&format!("city/d01/manhole/{name}/up"), QoS::AtLeastOnce, "open").await;
            device.acknowledgement().await;
            device
        }));
    }
    let mut present = Vec::new();
    for device in devices {
        present.push(soon("the acknowledgement", device).await.unwrap());
    }
    running.metric_is("kerbside_broker_connections{source=\"own\"} 200").await;
    drop(present);
    running.metric_is("kerbside_broker_connections{source=\"own\"} 0").await;
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 200);
}
