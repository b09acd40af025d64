//! What the session at the broker subscribes, over reconnects, restarts and changes of the configuration.

use std::path::Path;

use super::*;

const VERSIONS: [MqttVersion; 2] = [MqttVersion::V311, MqttVersion::V5];

fn config_of(broker: &StandIn, version: MqttVersion, folder: &Path, filters: &[&str]) -> MqttConfig {
    let topics = filters.iter().map(|filter| TopicFilter { filter: (*filter).to_owned(), qos: 1 });
    MqttConfig {
        topics: topics.collect(),
        state_folder: Some(folder.to_owned()),
        keep_alive: Duration::from_secs(1),
        ..config(broker.port(), version)
    }
}

/// The filters of a SUBSCRIBE (0x82) or UNSUBSCRIBE (0xA2), with the packet id in front.
fn filters_of(packet: &[u8], version: MqttVersion) -> (u16, Vec<String>) {
    let has_options = packet[0] == 0x82;
    assert!(has_options || packet[0] == 0xA2, "a packet with filters, not {packet:?}");
    assert!(packet[1] < 0x80, "the tests use short packets");
    let id = u16::from_be_bytes([packet[2], packet[3]]);
    let mut rest = &packet[if version == MqttVersion::V5 { 5 } else { 4 }..];
    let mut filters = Vec::new();
    while !rest.is_empty() {
        let end = 2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        filters.push(String::from_utf8(rest[2..end].to_vec()).unwrap());
        rest = &rest[end + usize::from(has_options)..];
    }
    (id, filters)
}

/// Takes a packet with these filters and grants it.
async fn grant(peer: &mut Peer, version: MqttVersion, first: u8, expected: &[&str]) {
    let packet = peer.packet().await;
    let (id, filters) = filters_of(&packet, version);
    assert_eq!((packet[0], filters.iter().map(String::as_str).collect::<Vec<_>>()), (first, expected.to_vec()));
    let (answer, code) = if first == 0x82 { (0x90, 1) } else { (0xB0, 0) };
    peer.send(peer.answer(answer, id, &vec![code; filters.len()])).await;
}

async fn accept(broker: &StandIn, session_present: bool) -> Peer {
    let mut peer = broker.accept().await;
    assert_eq!(peer.packet().await[0], 0x10);
    peer.send(peer.connack_of(session_present)).await;
    peer
}

async fn stop(running: Running) {
    running.shutdown.cancel();
    soon("the end", running.task).await.unwrap();
}

/// Waits until the file says that the broker holds exactly these filters.
async fn remembered(folder: &Path, filters: &[&str]) {
    until(|| {
        let text = std::fs::read_to_string(folder.join("mqtt-depot.json")).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let held: Vec<&str> =
            value["filters"].as_array().into_iter().flatten().filter_map(|held| held["filter"].as_str()).collect();
        if held == filters && value["confirmed_at"].is_i64() { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn a_filter_that_the_configuration_has_no_more_is_unsubscribed_after_a_restart() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let broker = StandIn::new(version).await;
        let running = run(config_of(&broker, version, folder.path(), &["a/#", "b/#"]));
        let mut peer = accept(&broker, false).await;
        grant(&mut peer, version, 0x82, &["a/#", "b/#"]).await;
        remembered(folder.path(), &["a/#", "b/#"]).await;
        stop(running).await;

        let running = run(config_of(&broker, version, folder.path(), &["b/#", "c/#"]));
        let mut peer = accept(&broker, true).await;
        grant(&mut peer, version, 0xA2, &["a/#"]).await;
        grant(&mut peer, version, 0x82, &["b/#", "c/#"]).await;
        running.health_is(HealthState::Ok, "").await;
        remembered(folder.path(), &["b/#", "c/#"]).await;
        stop(running).await;

        let _running = run(config_of(&broker, version, folder.path(), &["b/#", "c/#"]));
        let mut peer = accept(&broker, true).await;
        grant(&mut peer, version, 0x82, &["b/#", "c/#"]).await;
        peer.next_is_ping().await;
    }
}

#[tokio::test]
async fn a_session_that_the_broker_lost_is_subscribed_anew_and_nothing_is_unsubscribed() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let broker = StandIn::new(version).await;
        let running = run(config_of(&broker, version, folder.path(), &["a/#"]));
        let mut first = accept(&broker, false).await;
        grant(&mut first, version, 0x82, &["a/#"]).await;
        remembered(folder.path(), &["a/#"]).await;
        stop(running).await;
        let _running = run(config_of(&broker, version, folder.path(), &["b/#"]));
        let mut peer = accept(&broker, false).await;
        grant(&mut peer, version, 0x82, &["b/#"]).await;
        peer.next_is_ping().await;
        remembered(folder.path(), &["b/#"]).await;
    }
}

#[tokio::test]
async fn a_filter_is_remembered_before_it_is_subscribed() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let broker = StandIn::new(version).await;
        let running = run(config_of(&broker, version, folder.path(), &["a/#"]));
        let mut peer = accept(&broker, false).await;
        // The process ends before the broker's answer, but the broker has subscribed it.
        assert_eq!(filters_of(&peer.packet().await, version).1, ["a/#"]);
        running.task.abort();
        let _running = run(config_of(&broker, version, folder.path(), &["b/#"]));
        let mut peer = accept(&broker, true).await;
        grant(&mut peer, version, 0xA2, &["a/#"]).await;
    }
}

#[tokio::test]
async fn a_settled_session_of_3_1_1_is_asked_only_for_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V311).await;
    let hours_ago = Clock::System.now().0 - 2 * 3_600_000;
    let text = format!(
        r#"{{"broker": "127.0.0.1:{}", "client_id": "kerbside-1",
            "filters": [{{"filter": "a/#", "qos": 1}}], "confirmed_at": {hours_ago}}}"#,
        broker.port()
    );
    std::fs::write(folder.path().join("mqtt-depot.json"), &text).unwrap();
    let mut running = run(config_of(&broker, MqttVersion::V311, folder.path(), &["a/#"]));
    let mut peer = accept(&broker, true).await;
    running.health_is(HealthState::Ok, "").await;
    peer.send(peer.publish(1, 5, b"waited here")).await;
    running.submission().await.1.honour();
    assert_eq!(peer.packet().await, pubacks([5]), "no SUBSCRIBE, which would bring retained messages again");
    stop(running).await;
    assert_eq!(std::fs::read_to_string(folder.path().join("mqtt-depot.json")).unwrap(), text);

    let running = run(config_of(&broker, MqttVersion::V311, folder.path(), &["a/#", "b/#"]));
    let mut peer = accept(&broker, true).await;
    grant(&mut peer, MqttVersion::V311, 0x82, &["b/#"]).await;
    running.health_is(HealthState::Ok, "").await;
    remembered(folder.path(), &["a/#", "b/#"]).await;
    // The change may not have reached the broker's disk yet, so everything is asked for again.
    drop(peer);
    let mut peer = accept(&broker, true).await;
    grant(&mut peer, MqttVersion::V311, 0x82, &["a/#", "b/#"]).await;
}

#[tokio::test]
async fn a_filter_that_the_broker_keeps_is_given_up_again_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let broker = StandIn::new(MqttVersion::V5).await;
    let running = run(config_of(&broker, MqttVersion::V5, folder.path(), &["a/#", "b/#"]));
    let mut first = accept(&broker, false).await;
    grant(&mut first, MqttVersion::V5, 0x82, &["a/#", "b/#"]).await;
    remembered(folder.path(), &["a/#", "b/#"]).await;
    stop(running).await;
    let running = run(config_of(&broker, MqttVersion::V5, folder.path(), &["b/#"]));
    let mut peer = accept(&broker, true).await;
    let (id, _) = filters_of(&peer.packet().await, MqttVersion::V5);
    peer.send(peer.answer(0xB0, id, &[0x87])).await;
    grant(&mut peer, MqttVersion::V5, 0x82, &["b/#"]).await;
    running.health_is(HealthState::Ok, "").await;
    drop(peer);
    let mut peer = accept(&broker, true).await;
    grant(&mut peer, MqttVersion::V5, 0xA2, &["a/#"]).await;
    grant(&mut peer, MqttVersion::V5, 0x82, &["b/#"]).await;
    remembered(folder.path(), &["b/#"]).await;
}

#[tokio::test]
async fn a_memory_that_is_garbage_or_of_another_session_is_not_believed() {
    let other = r#"{"broker": "elsewhere:1883", "client_id": "kerbside-1",
        "filters": [{"filter": "a/#", "qos": 1}], "confirmed_at": 1}"#;
    for text in ["{", other, ""] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mqtt-depot.json"), text).unwrap();
        let broker = StandIn::new(MqttVersion::V311).await;
        let _running = run(config_of(&broker, MqttVersion::V311, folder.path(), &["b/#"]));
        let mut peer = accept(&broker, true).await;
        grant(&mut peer, MqttVersion::V311, 0x82, &["b/#"]).await;
        remembered(folder.path(), &["b/#"]).await;
        peer.next_is_ping().await;
    }
}

#[tokio::test]
async fn a_folder_that_takes_nothing_does_not_keep_messages_away() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut running = run(config_of(&broker, MqttVersion::V5, Path::new("/nowhere/at/all"), &["a/#"]));
    let mut peer = accept(&broker, false).await;
    grant(&mut peer, MqttVersion::V5, 0x82, &["a/#"]).await;
    peer.send(peer.publish(1, 5, b"here")).await;
    running.submission().await.1.honour();
    assert_eq!(peer.packet().await, pubacks([5]));
}

#[tokio::test]
async fn many_filters_go_in_several_packets_whose_answers_may_come_in_any_order() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let broker = StandIn::new(version).await;
        let names: Vec<String> = (0..20).map(|number| format!("t/{number:02}")).collect();
        let filters: Vec<&str> = names.iter().map(String::as_str).collect();
        let running = run(config_of(&broker, version, folder.path(), &filters));
        let mut peer = accept(&broker, false).await;
        let mut packets = Vec::new();
        for _ in 0..3 {
            packets.push(filters_of(&peer.packet().await, version));
        }
        assert_eq!(
            packets.iter().flat_map(|(_, filters)| filters).collect::<Vec<_>>(),
            names.iter().collect::<Vec<_>>()
        );
        for (id, filters) in packets.iter().rev() {
            let mut codes = vec![1; filters.len()];
            if *id == 2 {
                codes[3] = 0x80;
            }
            peer.send(peer.answer(0x90, *id, &codes)).await;
        }
        let detail = running.health_is(HealthState::Degraded, "t/11 refused").await;
        assert_eq!(detail.matches("refused").count(), 1, "{detail}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let running = run(config(broker.port(), MqttVersion::V5));
    for (first, id, codes, words) in [
        (0x90, 2, &[1][..], "a SUBACK makes no sense: nobody asked with the packet id 2"),
        (0x90, 1, &[1, 1], "a SUBACK makes no sense: 2 answers to 1 filters"),
        (0xB0, 1, &[0], "a UNSUBACK makes no sense: nobody asked with the packet id 1"),
        (0xB0, 0, &[0], "a UNSUBACK makes no sense: nobody asked with the packet id 0"),
    ] {
        let mut peer = accept(&broker, false).await;
        assert_eq!(peer.packet().await[0], 0x82);
        peer.send(peer.answer(first, id, codes)).await;
        assert_eq!(peer.packet().await, [0xE0, 1, 0x82], "protocol error");
        running.health_is(HealthState::Down, words).await;
    }
}
