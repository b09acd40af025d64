//! The links of Modbus buses: a converter, a modem that dials in, and a serial port that comes later.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::bus;
use crate::gateway::{Gateway, Site, free_port, loopback};
use crate::wait::{SOON, wait_until};

/// The level in mm is register 4 of a QDY30A.
const LEVEL: u16 = 4;
/// How long a side of a terminal looks away while nobody has the other side open.
const LOOK_AWAY: Duration = Duration::from_millis(5);

#[path = "../../gateway/sources/src/modbus/link/tests/terminal.rs"]
mod terminal;

/// The number of a probe.
const UNIT: u8 = 1;
/// Function, and what is there of it: functions without an address have shorter requests.
const REPORT_SERVER_ID: (u8, usize) = (17, 4);
const IDENTIFICATION: (u8, usize) = (43, 7);
const READ_BYTES: usize = 8;

/// A level probe on a serial line.
#[derive(Clone, Default)]
pub(crate) struct Probe(Arc<Mutex<BTreeMap<u16, u16>>>);

impl Probe {
    pub(crate) fn at(level: u16) -> Probe {
        Probe(Arc::new(Mutex::new(BTreeMap::from([(2, 17), (3, 1), (LEVEL, level)]))))
    }

    fn set(&self, level: u16) {
        self.0.lock().unwrap().insert(LEVEL, level);
    }

    /// Answers requests of RTU, with the noise of a driver that switches on before each answer.
    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        loop {
            let mut request = [0_u8; READ_BYTES];
            stream.read_exact(&mut request[..2]).await?;
            let shorter = [REPORT_SERVER_ID, IDENTIFICATION].into_iter().find(|(function, _)| *function == request[1]);
            let length = shorter.map_or(READ_BYTES, |(_, length)| length);
            stream.read_exact(&mut request[2..length]).await?;
            assert_eq!(checksum(&request[..length]), 0, "{request:?}");
            if request[0] != UNIT {
                continue;
            }
            let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
            let body = bus::read(&self.0.lock().unwrap(), request[1], word(2), word(4));
            let mut answer = vec![request[0]];
            answer.extend(body);
            answer.extend(checksum(&answer).to_le_bytes());
            answer.insert(0, 0x00);
            stream.write_all(&answer).await?;
        }
    }

    /// Behind a converter; gives its address.
    async fn behind_converter(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probe = self.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(probe.clone().serve(stream));
            }
        });
        (address, task)
    }

    /// Behind a modem that has said these bytes.
    async fn behind_modem(&self, listen: SocketAddr, said: &[u8]) -> JoinHandle<std::io::Result<()>> {
        let mut stream = wait_until("somebody listens for modems", SOON, || async {
            TcpStream::connect(listen).await.map_err(|error| error.to_string())
        })
        .await;
        stream.write_all(said).await.unwrap();
        tokio::spawn(self.clone().serve(stream))
    }

    /// Behind a serial port; gives its path.
    pub(crate) fn behind_port(&self) -> std::path::PathBuf {
        let (mut far, path) = terminal::open().unwrap();
        let (near, bridge) = BlockingStream::pair().unwrap();
        let (mut to_probe, mut from_probe) = (bridge.try_clone().unwrap(), bridge);
        let mut writer = far.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            loop {
                match far.read(&mut bytes) {
                    Ok(count) if to_probe.write_all(&bytes[..count]).is_ok() => {}
                    Ok(_) => return,
                    Err(_) => std::thread::park_timeout(LOOK_AWAY),
                }
            }
        });
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok(count @ 1..) = from_probe.read(&mut bytes) {
                writer.write_all(&bytes[..count]).unwrap();
            }
        });
        near.set_nonblocking(true).unwrap();
        tokio::spawn(self.clone().serve(UnixStream::from_std(near).unwrap()));
        path
    }
}

/// Of a frame with its own checksum it is nothing.
fn checksum(frame: &[u8]) -> u16 {
    frame.iter().fold(0xFFFF_u16, |checksum, byte| {
        (0..8).fold(checksum ^ u16::from(*byte), |rest, _| if rest & 1 == 1 { rest >> 1 ^ 0xA001 } else { rest >> 1 })
    })
}

async fn wait_for_level(gateway: &Gateway, device: &str, level: u16) {
    let path = format!("/api/v1/readings?device={device}");
    let has_level = |item: &Value| {
        item["point"] == "level_mm" && item["value"] == json!(f64::from(level)) && item["quality"] == "good"
    };
    gateway.wait_for_items(&format!("{device} stands at {level}"), &path, |items| items.iter().any(has_level)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_converter_a_modem_and_a_port_that_comes_later_are_read() {
    let (one, two, three) = (Probe::at(153), Probe::at(85), Probe::at(20));
    let (converter, _serving) = one.behind_converter().await;
    let listen = loopback(free_port());
    let mut site = Site::new(
        "id,profile,source,address,interval\nLV-1,qdy30a-level,kiosk,1,200ms\n\
         LV-2,qdy30a-level,modems,861234567890123:1,200ms\nLV-3,qdy30a-level,drain,1,200ms\n",
    );
    let port = site.path("usb-adapter");
    site.configure(&format!(
        "sources:\n  kiosk: {{type: modbus, link: rtu_over_tcp, host: 127.0.0.1, port: {}, timeout: 500ms}}\n\
         \x20 modems: {{type: modbus, link: tcp_server, listen: \"{listen}\", heartbeat: ping, timeout: 500ms}}\n\
         \x20 drain: {{type: modbus, link: rtu, path: {}, backoff_max: 1s}}\n{}",
        converter.port(),
        port.display(),
        site.embedded_broker(),
    ));
    let checked = site.command(&["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for words in [
        &format!("127.0.0.1:{} (RTU over TCP)", converter.port()),
        &format!("modems that dial in at {listen}"),
        &format!("{} (9600 8N1)", port.display()),
    ] {
        assert!(checked.out.contains(words.as_str()), "{words} is missing in {}", checked.out);
    }

    let gateway = site.start().await;
    wait_for_level(&gateway, "LV-1", 153).await;
    gateway.wait_for_component("source/drain", "down", "no such port; ").await;
    gateway.wait_for_component("source/modems/861234567890123", "down", "it has not dialled in").await;
    gateway.wait_for_component("source/modems", "ok", "0 of 1 modems connected").await;

    let _stranger = two.behind_modem(listen, b"861234567890124").await;
    gateway.wait_for_component("source/modems", "ok", "\"861234567890124\"").await;
    let modem = two.behind_modem(listen, b"ping861234567890123\r\n").await;
    wait_for_level(&gateway, "LV-2", 85).await;
    std::os::unix::fs::symlink(three.behind_port(), &port).unwrap();
    wait_for_level(&gateway, "LV-3", 20).await;
    for name in ["source/kiosk", "source/drain", "source/modems/861234567890123"] {
        gateway.wait_for_component(name, "ok", "").await;
    }

    // The modem loses its network without a word and dials in again.
    modem.abort();
    two.set(99);
    let _modem = two.behind_modem(listen, b"861234567890123").await;
    wait_for_level(&gateway, "LV-2", 99).await;
    assert!(gateway.metric("kerbside_modbus_modem_logins_total", &[]).await >= 2.0);
    assert!(gateway.metric("kerbside_modbus_modems_refused_total", &["unknown"]).await >= 1.0);
    assert_eq!(gateway.metric("kerbside_modbus_modems_connected", &["modems"]).await, 1.0);
    gateway.stop().await;
}
