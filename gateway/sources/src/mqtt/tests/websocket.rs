//! MQTT inside WebSocket messages, with TLS and without.

use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::*;
use crate::mqtt::connect::Duplex;
use crate::mqtt::websocket::WebSocket;

fn websocket_config(port: u16, version: MqttVersion) -> MqttConfig {
    MqttConfig { transport: Transport::WebSocket { path: "/mqtt?site=1".to_owned() }, ..config(port, version) }
}

/// Takes the handshake of a client that asks for MQTT at the path of the configuration.
#[expect(clippy::result_large_err, reason = "the callback of the library is so")]
async fn accept_websocket(stream: impl Duplex + 'static, version: MqttVersion) -> Peer {
    let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().to_string(), "/mqtt?site=1");
        assert_eq!(request.headers()["Sec-WebSocket-Protocol"], "mqtt");
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        Ok(response)
    };
    let socket = soon("a handshake", tokio_tungstenite::accept_hdr_async(stream, check)).await.unwrap();
    Peer::new(Box::new(WebSocket::of(socket)), version)
}

#[tokio::test]
async fn messages_come_and_are_acknowledged_over_a_websocket() {
    for version in [MqttVersion::V311, MqttVersion::V5] {
        let broker = StandIn::new(version).await;
        let mut running = run(websocket_config(broker.port(), version));
        let mut peer = accept_websocket(broker.accept_tcp().await, version).await;
        peer.greet().await;
        running.health_is(HealthState::Ok, "").await;
        // Pieces that begin and end anywhere, each in a WebSocket message of its own.
        let bytes: Vec<u8> = (1..=2_000).flat_map(|id: u16| peer.publish(1, id, &id.to_be_bytes())).collect();
        for piece in bytes.chunks(777) {
            peer.send(piece).await;
        }
        let mut received = 0;
        while received < 2_000 {
            let (frames, receipt) = running.submission().await;
            received += frames.len();
            receipt.honour();
        }
        for id in 1..=2_000 {
            assert_eq!(peer.packet().await, pubacks([id]));
        }
        running.shutdown.cancel();
        assert_eq!(peer.packet().await, DISCONNECT);
        assert_eq!(soon("the end", peer.try_packet()).await, None);
        soon("the end", running.task).await.unwrap();
    }
}

#[tokio::test]
async fn messages_come_over_a_websocket_in_tls() {
    install_crypto_provider();
    let broker = StandIn::new(MqttVersion::V5).await;
    let mut config = websocket_config(broker.port(), MqttVersion::V5);
    config.host = "localhost".to_owned();
    config.tls = Some(TlsFiles { ca: Some(tls_file("broker.pem")), certificate: None, key: None });
    let server = server_config(&tls_file("broker.pem"), &tls_file("broker.key")).unwrap();
    let mut running = run(config);
    let tls = soon("TLS", TlsAcceptor::from(server).accept(broker.accept_tcp().await)).await.unwrap();
    let mut peer = accept_websocket(tls, MqttVersion::V5).await;
    peer.greet().await;
    peer.send(peer.publish(1, 7, b"secret")).await;
    running.submission().await.1.honour();
    assert_eq!(peer.packet().await, pubacks([7]));
}

#[tokio::test]
async fn a_server_that_speaks_no_websocket_or_no_mqtt_is_told_and_tried_again() {
    let broker = StandIn::new(MqttVersion::V5).await;
    let running = run(websocket_config(broker.port(), MqttVersion::V5));
    let mut tcp = broker.accept_tcp().await;
    tcp.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let detail = running.health_is(HealthState::Down, "agree on a WebSocket with").await;
    assert!(detail.contains("404"), "{detail}");
    let refused = tokio_tungstenite::accept_async(broker.accept_tcp().await).await;
    running.health_is(HealthState::Down, "SubProtocol").await;
    drop((tcp, refused));
    let mut peer = accept_websocket(broker.accept_tcp().await, MqttVersion::V5).await;
    peer.greet().await;
    running.health_is(HealthState::Ok, "").await;
}

#[tokio::test]
async fn a_path_that_no_request_can_have_is_refused() {
    for path in ["", "mqtt", "/a b", "/a#b"] {
        let mut config = config(1, MqttVersion::V5);
        config.transport = Transport::WebSocket { path: path.to_owned() };
        let (intake, _receiver) = Intake::new(1, 1024);
        let made = MqttSource::new(config, intake, Clock::System, &Metrics::default(), &Health::default());
        assert!(matches!(made, Err(MqttError::Range { setting: "path", .. })), "{path:?}");
    }
}
