//! Units of a serial line that misbehave as their script says: behind a converter, a modem or a pseudo-terminal.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

use super::terminal;
use crate::modbus::link::rtu::checksum;
use crate::modbus::test_server::{Asked, value};

/// How long a side of the terminal looks away while nobody has the other side open.
const LOOK_AWAY: Duration = Duration::from_millis(1);

/// What a unit does with a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Values,
    Exception(u8),
    /// The same, after this time, whatever else is asked meanwhile.
    LateException(Duration, u8),
    Nothing,
    /// The right values, after this time, whatever else is asked meanwhile.
    Late(Duration),
    /// These bytes before the values.
    Noise(Vec<u8>),
    /// The values, in three pieces with a moment between them.
    Pieces,
    BadChecksum,
    /// The first bytes of the answer.
    Half,
    /// So many registers, or at least as many bytes of bits, whatever was asked for.
    Words(u16),
    /// A sound frame with other values in the name of another unit, and nothing else.
    OtherUnit,
    /// ... of another function.
    OtherFunction,
    /// The values and these bytes behind them.
    Extra(Vec<u8>),
    /// The values, twice.
    Twice,
    /// The request and then the values, as from a driver that hears itself.
    Echo,
    Close,
    /// These bytes as the body of the answer.
    Body(Vec<u8>),
}

pub(super) type Script = Arc<dyn Fn(Asked) -> Reply + Send + Sync>;

/// Units that are there until this is dropped.
pub(super) struct FarSide {
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that were made to it.
    pub(super) connections: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

impl FarSide {
    pub(super) fn new(asked: Arc<Mutex<Vec<Asked>>>, task: JoinHandle<()>) -> FarSide {
        FarSide { asked, connections: Arc::default(), task }
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A converter that passes bytes through.
pub(super) async fn converter(script: Script) -> (SocketAddr, FarSide) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let connections: Arc<Mutex<u32>> = Arc::default();
    let (far_asked, far_connections) = (Arc::clone(&asked), Arc::clone(&connections));
    let task = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            *far_connections.lock().unwrap() += 1;
            stream.set_nodelay(true).unwrap();
            open.spawn(serve(stream, Arc::clone(&script), Arc::clone(&far_asked)));
        }
    });
    (address, FarSide { asked, connections, task })
}

/// Units behind a serial port.
pub(super) fn port(script: Script) -> (PathBuf, FarSide) {
    let (mut far, path) = terminal::open().unwrap();
    let (near, bridge) = BlockingStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut writer = far.try_clone().unwrap();
    let (mut to_units, mut from_units) = (bridge.try_clone().unwrap(), bridge);
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        loop {
            match far.read(&mut bytes) {
                Ok(count) if to_units.write_all(&bytes[..count]).is_ok() => {}
                Ok(_) => return,
                // Nobody has the port open.
                Err(_) => std::thread::park_timeout(LOOK_AWAY),
            }
            if to_units.peer_addr().is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok(count @ 1..) = from_units.read(&mut bytes) {
            writer.write_all(&bytes[..count]).unwrap();
        }
    });
    let asked = Arc::default();
    let stream = UnixStream::from_std(near).unwrap();
    let task = tokio::spawn(serve(stream, script, Arc::clone(&asked)));
    (path, FarSide { asked, connections: Arc::default(), task })
}

/// Answers requests as the script says, until the other side is gone.
pub(super) async fn serve<S>(stream: S, script: Script, asked: Arc<Mutex<Vec<Asked>>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    while let Some((request, bytes)) = receive(&mut reader).await {
        asked.lock().unwrap().push(request);
        let reply = script(request);
        let exception = |code| frame(request.unit, &[request.function | 0x80, code]);
        let values = frame(request.unit, &body(request));
        let elsewhere = Asked { address: request.address.wrapping_add(1_000), ..request };
        let pieces: Vec<Vec<u8>> = match reply {
            Reply::Nothing => continue,
            Reply::Close => return,
            Reply::Late(delay) | Reply::LateException(delay, _) => {
                let late = if let Reply::LateException(_, code) = reply { exception(code) } else { values };
                let writer = Arc::clone(&writer);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    drop(writer.lock().await.write_all(&late).await);
                });
                continue;
            }
            Reply::Values => vec![values],
            Reply::Exception(code) => vec![exception(code)],
            Reply::Noise(noise) => vec![[noise, values].concat()],
            Reply::Pieces => values.chunks(values.len().div_ceil(3)).map(<[u8]>::to_vec).collect(),
            Reply::BadChecksum => {
                let mut values = values;
                *values.last_mut().unwrap() ^= 0x55;
                vec![values]
            }
            Reply::Half => vec![values[..values.len() / 2].to_vec()],
            Reply::Words(count) => {
                // Bits come in whole bytes: one bit less would be no other length.
                let count = if request.function <= 2 { 9 * count } else { count };
                vec![frame(request.unit, &body(Asked { count, ..request }))]
            }
            Reply::OtherUnit => vec![frame(request.unit ^ 0x40, &body(elsewhere))],
            Reply::OtherFunction => {
                let function = if request.function == 3 { 4 } else { 3 };
                vec![frame(request.unit, &body(Asked { function, ..elsewhere }))]
            }
            Reply::Extra(extra) => vec![[values, extra].concat()],
            Reply::Twice => vec![[values.clone(), values].concat()],
            Reply::Echo => vec![[bytes, values].concat()],
            Reply::Body(body) => vec![frame(request.unit, &body)],
        };
        for piece in pieces {
            // The other side may be gone already.
            drop(writer.lock().await.write_all(&piece).await);
            tokio::task::yield_now().await;
        }
    }
}

/// The next request, and its bytes.
async fn receive(reader: &mut (impl AsyncRead + Unpin)) -> Option<(Asked, Vec<u8>)> {
    let mut bytes = vec![0; 2];
    reader.read_exact(&mut bytes).await.ok()?;
    let (unit, function) = (bytes[0], bytes[1]);
    let rest = match function {
        1..=4 => 6,
        17 => 2,
        43 => 5,
        other => panic!("function {other} is never asked for"),
    };
    bytes.resize(2 + rest, 0);
    reader.read_exact(&mut bytes[2..]).await.ok()?;
    assert_eq!(checksum(&bytes), 0, "{bytes:?}");
    let word = |at: usize| bytes.get(at..at + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (address, count) = if function <= 4 { (word(2), word(4)) } else { (word(3), 0) };
    Some((Asked { transaction: 0, unit, function, address, count }, bytes))
}

/// Function, byte count and values.
fn body(asked: Asked) -> Vec<u8> {
    let values = (0..asked.count).map(|step| value(asked.unit, asked.function, asked.address.wrapping_add(step)));
    let data: Vec<u8> = if asked.function <= 2 {
        let bits: Vec<u16> = values.collect();
        let byte = |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8);
        bits.chunks(8).map(byte).collect()
    } else {
        values.flat_map(u16::to_be_bytes).collect()
    };
    [&[asked.function, data.len() as u8], data.as_slice()].concat()
}

fn frame(unit: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], body].concat();
    frame.extend(checksum(&frame).to_le_bytes());
    frame
}
