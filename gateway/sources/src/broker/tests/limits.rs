//! What happens beyond each limit.

use super::*;

async fn run_with(limits: impl FnOnce(&mut BrokerLimits)) -> Running {
    let mut config = config();
    config.accounts = vec![account("MH-1", "one")];
    limits(&mut config.limits);
    run(config).await
}

const LOGIN: Option<(&str, &str)> = Some(("MH-1", "one"));

#[tokio::test]
async fn more_connections_than_allowed_are_refused_also_when_they_say_nothing() {
    let running = run_with(|limits| limits.connections_max = 2).await;
    let mut first = running.device("first", LOGIN);
    first.accepted().await;
    let silent = tokio::net::TcpStream::connect(running.handle.local_addr()).await.unwrap();
    let mut third = running.device("third", LOGIN);
    assert!(soon("a refusal", third.events.poll()).await.is_err());
    running.metric_is("kerbside_broker_refused_total{reason=\"connections\",source=\"own\"} 1").await;
    // Who goes makes room.
    drop(silent);
    soon("room", async {
        while running.device("third", LOGIN).events.poll().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_account_has_so_many_clients_and_no_more() {
    let running = run_with(|limits| limits.connections_per_account_max = 1).await;
    let mut first = running.device("first", LOGIN);
    first.accepted().await;
    let mut second = running.device("second", LOGIN);
    assert_eq!(second.refused().await, ConnectReturnCode::ServiceUnavailable);
    running.metric_is("kerbside_broker_refused_total{reason=\"account_connections\",source=\"own\"} 1").await;
    let mut again = running.device("first", LOGIN);
    again.accepted().await;
}

#[tokio::test]
async fn a_client_above_its_rate_waits_and_loses_nothing() {
    let mut running = run_with(|limits| limits.messages_per_second_max = 2).await;
    let committed = running.commits();
    let mut device = running.device("first", LOGIN);
    let began = Clock::stamp();
    // Ten seconds' worth at once, and three messages more, one each half second.
    for _ in 0..23 {
        device.publish("t", QoS::AtLeastOnce, "x").await;
        device.acknowledgement().await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_400), "three messages above the burst took only {took:?}");
    let text = running.metrics.encode();
    let line = text.lines().find(|line| line.starts_with("kerbside_broker_slowed_total{source=\"own\"} ")).unwrap();
    let slowed: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=3).contains(&slowed), "{slowed} waited");
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 23);
}

#[tokio::test]
async fn a_packet_that_is_too_long_ends_its_connection_and_is_counted() {
    let running = run_with(|limits| limits.packet_bytes_max = 1_024).await;
    let mut device = running.device("first", LOGIN);
    device.accepted().await;
    device.publish("t", QoS::AtLeastOnce, &"x".repeat(2_000)).await;
    soon("the end", async { while device.events.poll().await.is_ok() {} }).await;
    running.metric_is("kerbside_broker_refused_total{reason=\"packet\",source=\"own\"} 1").await;
    running.health_says("a packet is longer than packet_bytes_max").await;
}

#[tokio::test]
async fn a_keep_alive_beyond_the_limit_is_refused() {
    let running = run_with(|limits| limits.keep_alive_max = Duration::from_secs(100)).await;
    for (seconds, is_allowed) in [(100, true), (101, false)] {
        let mut options = MqttOptions::new("first", "127.0.0.1", running.handle.local_addr().port());
        options.set_credentials("MH-1", "one").set_keep_alive(Duration::from_secs(seconds));
        let (client, events) = AsyncClient::new(options, 16);
        let mut device = Device { client, events };
        match is_allowed {
            true => device.accepted().await,
            false => assert_eq!(device.refused().await, ConnectReturnCode::ServiceUnavailable),
        }
    }
    running.metric_is("kerbside_broker_refused_total{reason=\"keep_alive\",source=\"own\"} 1").await;
}

#[tokio::test]
async fn a_client_has_so_many_subscriptions_and_no_more() {
    let running = run_with(|limits| limits.subscriptions_max = 2).await;
    let mut device = running.device("first", LOGIN);
    for (filter, is_granted) in [("a", true), ("b", true), ("c", false), ("a", true)] {
        device.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let code = device
            .event("a SUBACK", |event| match event {
                Event::Incoming(Packet::SubAck(ack)) => Some(ack.return_codes[0]),
                _ => None,
            })
            .await;
        assert_eq!(matches!(code, rumqttc::SubscribeReasonCode::Success(_)), is_granted, "{filter}: {code:?}");
    }
    running.metric_is("kerbside_broker_acl_denied_total{action=\"subscription_quota\",source=\"own\"} 1").await;
}

#[tokio::test]
async fn for_an_absent_subscriber_only_the_newest_messages_wait() {
    let mut running = run_with(|limits| limits.queued_messages_max = 3).await;
    let committed = running.commits();
    let mut subscriber = running.device("subscriber", LOGIN);
    subscriber.client.subscribe("t", QoS::AtLeastOnce).await.unwrap();
    subscriber.event("a SUBACK", |event| matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(())).await;
    drop(subscriber);
    running.metric_is("kerbside_broker_connections{source=\"own\"} 0").await;
    let mut device = running.device("device", LOGIN);
    for number in 0..10 {
        device.publish("t", QoS::AtLeastOnce, &number.to_string()).await;
        device.acknowledgement().await;
    }
    let mut subscriber = running.device("subscriber", LOGIN);
    for expected in ["7", "8", "9"] {
        let payload = subscriber
            .event("a message", |event| match event {
                Event::Incoming(Packet::Publish(publish)) => Some(publish.payload.clone()),
                _ => None,
            })
            .await;
        assert_eq!(payload, expected);
    }
    running.shutdown.cancel();
    soon("the end", running.handle.stopped()).await;
    assert_eq!(soon("the end of the intake", committed).await.unwrap(), 10, "all of them are committed");
}

#[tokio::test]
async fn what_is_no_mqtt_is_counted_and_hurts_nobody() {
    let running = run_with(|_| {}).await;
    let mut device = running.device("first", LOGIN);
    device.accepted().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x30\x03\x00\x01t", b"\xff\xff\xff\xff\xff\xff"] {
        let mut stranger = tokio::net::TcpStream::connect(running.handle.local_addr()).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        // Who has said all is not waited for. The other side may be gone already.
        drop(stranger.shutdown().await);
        let mut answer = Vec::new();
        // A reset is an end as well.
        drop(soon("the end of the connection", stranger.read_to_end(&mut answer)).await);
    }
    soon("they are counted", async {
        let refused = |line: &str| line == "kerbside_broker_connects_total{result=\"refused\",source=\"own\"} 3";
        while !running.metrics.encode().lines().any(refused) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    running.metric_is("kerbside_broker_connections{source=\"own\"} 1").await;
}

#[tokio::test]
async fn a_client_that_takes_another_name_each_time_does_not_fill_the_memory_with_sessions() {
    let running = run_with(|limits| limits.connections_max = 1).await;
    for number in 0..12 {
        let mut device = running.device(&format!("name-{number}"), LOGIN);
        soon("room", async {
            while device.events.poll().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        drop(device);
        running.metric_is("kerbside_broker_connections{source=\"own\"} 0").await;
    }
    let has_session = async |id: &str| {
        let mut device = running.device(id, LOGIN);
        soon("a CONNACK", async {
            loop {
                match device.events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(ack))) => return ack.session_present,
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    };
    assert!(has_session("name-0").await, "what is there stays");
    assert!(!has_session("name-11").await, "the twelfth got no session");
}
