//! What only MQTT 5 has: properties of messages, topic aliases, terms of the broker, reasons.

use kerbside_model::{Tags, input::Input};

use super::stand_in::publish_with;
use super::*;

/// The property of an alias.
fn alias(number: u16) -> [u8; 3] {
    [0x23, number.to_be_bytes()[0], number.to_be_bytes()[1]]
}

fn user_property(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0x26];
    for text in [name, value] {
        bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// Topics and tags of the next submission.
async fn topics_and_tags(running: &mut Running) -> Vec<(String, Vec<(String, String)>)> {
    let submission = soon("a submission", running.receiver.next()).await.unwrap();
    let [Input::Frames(frames)] = submission.inputs.as_slice() else { panic!("a source submits frames") };
    let texts = |tags: &Tags| tags.iter().map(|tag| (tag.name.to_string(), tag.value.to_string())).collect();
    let seen =
        frames.iter().map(|view| (view.address_text().into_owned(), view.tags.map_or_else(Vec::new, texts))).collect();
    submission.receipt.honour();
    seen
}

#[tokio::test]
async fn named_user_properties_become_tags() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = config(broker.port(), MqttVersion::V5);
    config.user_properties = vec!["operator".to_owned()];
    let mut running = run(config);
    let mut peer = broker.accept_subscribed().await;
    let named = [user_property("secret", "x"), user_property("operator", "北区")].concat();
    let mut bytes = publish_with(MqttVersion::V5, 0x32, 1, "depot/a", &named, b"1");
    bytes.extend(publish_with(MqttVersion::V5, 0x32, 2, "depot/b", &user_property("secret", "x"), b"2"));
    bytes.extend(publish_with(MqttVersion::V5, 0x32, 3, "depot/c", &[], b"3"));
    peer.send(bytes).await;
    let tag = ("operator".to_owned(), "北区".to_owned());
    let expected = [("depot/a", vec![tag]), ("depot/b", vec![]), ("depot/c", vec![])];
    assert_eq!(topics_and_tags(&mut running).await, expected.map(|(topic, tags)| (topic.to_owned(), tags)));
    for id in 1..=3 {
        assert_eq!(peer.packet().await, pubacks([id]));
    }
}

#[tokio::test]
async fn an_alias_lives_as_long_as_its_connection() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut running = run(config(broker.port(), MqttVersion::V5));
    let mut peer = broker.accept_subscribed().await;
    let mut bytes = publish_with(MqttVersion::V5, 0x32, 1, "depot/a", &alias(256), b"1");
    bytes.extend(publish_with(MqttVersion::V5, 0x32, 2, "", &alias(256), b"2"));
    peer.send(bytes).await;
    let expected = ["depot/a", "depot/a"].map(|topic| (topic.to_owned(), Vec::new()));
    assert_eq!(topics_and_tags(&mut running).await, expected);
    for id in 1..=2 {
        assert_eq!(peer.packet().await, pubacks([id]));
    }
    drop(peer);
    let mut peer = broker.accept_subscribed().await;
    let mut bytes = publish_with(MqttVersion::V5, 0x32, 3, "depot/b", &[], b"3");
    bytes.extend(publish_with(MqttVersion::V5, 0x32, 4, "", &alias(256), b"4"));
    peer.send(bytes).await;
    assert_eq!(topics_and_tags(&mut running).await, [("depot/b".to_owned(), Vec::new())]);
    assert_eq!(peer.packet().await, pubacks([3]), "what came before the bad alias is acknowledged");
    assert_eq!(peer.packet().await, [0xE0, 1, 0x82]);
    running.health_is(HealthState::Down, "the topic alias 256, which nobody explained").await;
}

#[tokio::test]
async fn what_came_before_the_broker_leaves_is_taken() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut running = run(config(broker.port(), MqttVersion::V5));
    for last_word in [&b"\xe0\x01\x8b"[..], b"\x20\x03\x00\x00\x00"] {
        let mut peer = broker.accept_subscribed().await;
        let mut bytes = publish_with(MqttVersion::V5, 0x30, 0, "depot/a", &[], b"1");
        bytes.extend(last_word);
        peer.send(bytes).await;
        assert_eq!(topics_and_tags(&mut running).await, [("depot/a".to_owned(), Vec::new())]);
    }
}

#[tokio::test]
async fn an_alias_beyond_what_we_allow_is_refused_as_such() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let _running = run(config(broker.port(), MqttVersion::V5));
    for number in [0, 257] {
        let mut peer = broker.accept_subscribed().await;
        peer.send(publish_with(MqttVersion::V5, 0x32, 1, "depot/a", &alias(number), b"1")).await;
        assert_eq!(peer.packet().await, [0xE0, 1, 0x94], "topic alias invalid");
        assert_eq!(soon("the end", peer.try_packet()).await, None);
    }
}

#[tokio::test]
async fn a_limit_is_announced_only_to_brokers_that_shall_drop_longer_messages() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = config(broker.port(), MqttVersion::V5);
    config.oversize = OversizePolicy::Refuse;
    config.packet_bytes_max = 0x1_0000;
    let _running = run(config);
    let connect = broker.accept().await.packet().await;
    let announced = [0x27, 0, 1, 0, 5];
    assert!(connect.windows(5).any(|window| window == announced), "{connect:?}");
}

/// A CONNACK with these properties.
fn connack_with(properties: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x20, u8::try_from(3 + properties.len()).unwrap(), 0, 0];
    packet.push(u8::try_from(properties.len()).unwrap());
    packet.extend(properties);
    packet
}

#[tokio::test]
async fn a_broker_without_shared_subscriptions_is_not_asked_for_one() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = config(broker.port(), MqttVersion::V5);
    config.topics.insert(0, TopicFilter { filter: "$share/g/depot/#".to_owned(), qos: 1 });
    let running = run(config);
    let mut peer = broker.accept().await;
    peer.packet().await;
    peer.send(connack_with(&[0x2A, 0])).await;
    assert_eq!(peer.packet().await, b"\x82\x0d\x00\x01\x00\x00\x07depot/#\x11");
    peer.send(peer.suback(&[1])).await;
    running.health_is(HealthState::Degraded, "$share/g/depot/# refused: shared subscriptions not supported").await;
}

#[tokio::test]
async fn terms_that_are_worse_than_asked_for_are_told() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let running = run(config(broker.port(), MqttVersion::V5));
    let mut peer = broker.accept().await;
    peer.packet().await;
    // The session lives for 60 s, and under another name.
    peer.send(connack_with(b"\x11\x00\x00\x00\x3c\x12\x00\x03abc")).await;
    peer.packet().await;
    peer.send(peer.suback(&[1])).await;
    let detail = running.health_is(HealthState::Degraded, "kept for 60 s instead of 3600 s").await;
    assert!(detail.contains("the broker calls it abc, so messages that wait for kerbside-1 do not come"), "{detail}");
}

#[tokio::test]
async fn a_broker_that_exceeds_the_receive_maximum_loses_nothing() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = config(broker.port(), MqttVersion::V5);
    config.receive_maximum = 2;
    let mut running = run(config);
    let mut peer = broker.accept_subscribed().await;
    let bytes: Vec<u8> = (1..=5).flat_map(|id| peer.publish(1, id, b"x")).collect();
    peer.send(bytes).await;
    assert_eq!(topics_and_tags(&mut running).await.len(), 5);
    for id in 1..=5 {
        assert_eq!(peer.packet().await, pubacks([id]));
    }
}
