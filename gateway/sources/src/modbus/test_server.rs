//! A Modbus TCP server for tests that can misbehave as its script says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kerbside_model::RegisterTable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Functions by which a unit says who it is.
pub(super) const REPORT_SERVER_ID: u8 = 17;
pub(super) const IDENTIFICATION: u8 = 43;

/// A request as it came over the wire; without address and count where it only asks who the unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) transaction: u16,
    pub(super) unit: u8,
    pub(super) function: u8,
    pub(super) address: u16,
    pub(super) count: u16,
}

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Values,
    Exception(u8),
    Nothing,
    /// The right values, after this time, whatever else is asked meanwhile.
    Late(Duration),
    /// So many registers, whatever was asked for.
    Registers(u16),
    /// Values of another address, with the transaction id moved by this.
    OtherTransaction(u16),
    /// Values of another address, in the name of another unit.
    OtherUnit(u8),
    /// The answer of another function.
    OtherFunction,
    /// Half of the answer, then the end of the connection.
    HalfThenClose,
    Close,
    ValuesThenClose,
    /// Bytes that begin like no answer.
    Garbage,
    /// Bytes that begin like an answer of 64 KiB.
    Noise,
    /// The head of a frame that is longer than what follows.
    Promise,
    /// The right values, byte by byte.
    Pieces,
    /// The right values in two answers at once.
    Twice,
}

pub(super) type Script = Arc<dyn Fn(Asked) -> Reply + Send + Sync>;

pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    pub(super) async fn start(script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> TestServer {
        TestServer::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(super) async fn start_at(
        address: SocketAddr,
        script: impl Fn(Asked) -> Reply + Send + Sync + 'static,
    ) -> TestServer {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, Arc::new(script), Arc::clone(&asked)));
        TestServer { address, asked, task }
    }

    /// Everything that was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// What a register holds: different for each unit, table and address.
pub(super) fn value(unit: u8, function: u8, address: u16) -> u16 {
    match function {
        1 | 2 => (address ^ u16::from(unit) ^ u16::from(function)) & 1,
        _ => address.wrapping_mul(31) ^ (u16::from(unit) << 8) ^ u16::from(function),
    }
}

pub(super) fn function_of(table: RegisterTable) -> u8 {
    match table {
        RegisterTable::Coil => 1,
        RegisterTable::Discrete => 2,
        RegisterTable::Holding => 3,
        RegisterTable::Input => 4,
    }
}

async fn serve(listener: TcpListener, script: Script, asked: Arc<Mutex<Vec<Asked>>>) {
    // Connections end with the server, so that a stopped server is gone for its clients too.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(converse(stream, Arc::clone(&script), Arc::clone(&asked)));
    }
}

pub(super) async fn converse<S>(stream: S, script: Script, asked: Arc<Mutex<Vec<Asked>>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    while let Some(request) = receive(&mut reader).await {
        asked.lock().unwrap().push(request);
        let reply = script(request);
        let Some(bytes) = answer(request, reply) else {
            if reply == Reply::Nothing {
                continue;
            }
            return;
        };
        match reply {
            Reply::Late(delay) => {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    send(&writer, &bytes).await;
                });
            }
            Reply::HalfThenClose => {
                send(&writer, &bytes[..bytes.len() / 2]).await;
                return;
            }
            Reply::Pieces => {
                // Nothing comes between the pieces of a frame.
                let mut writer = writer.lock().await;
                for byte in bytes {
                    drop(writer.write_all(&[byte]).await);
                    tokio::task::yield_now().await;
                }
            }
            Reply::ValuesThenClose => {
                send(&writer, &bytes).await;
                return;
            }
            _ => send(&writer, &bytes).await,
        }
    }
}

async fn receive(reader: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut adu = [0_u8; 12];
    reader.read_exact(&mut adu[..8]).await.ok()?;
    let (length, function) = (u16::from_be_bytes([adu[4], adu[5]]), adu[7]);
    let rest = match function {
        1..=4 => 4,
        REPORT_SERVER_ID => 0,
        IDENTIFICATION => 3,
        _ => panic!("function {function} must never be asked for"),
    };
    reader.read_exact(&mut adu[8..8 + rest]).await.ok()?;
    let word = |at: usize| u16::from_be_bytes([adu[at], adu[at + 1]]);
    assert_eq!((word(2), usize::from(length)), (0, 2 + rest), "function {function}");
    if function > 4 {
        adu[8..].fill(0);
    }
    let word = |at: usize| u16::from_be_bytes([adu[at], adu[at + 1]]);
    Some(Asked { transaction: word(0), unit: adu[6], function, address: word(8), count: word(10) })
}

async fn send<S: AsyncWrite>(writer: &tokio::sync::Mutex<WriteHalf<S>>, bytes: &[u8]) {
    // The client may be gone already.
    drop(writer.lock().await.write_all(bytes).await);
}

fn answer(asked: Asked, reply: Reply) -> Option<Vec<u8>> {
    let elsewhere = Asked { address: asked.address.wrapping_add(1_000), ..asked };
    Some(match reply {
        Reply::Nothing | Reply::Close => return None,
        Reply::Values | Reply::ValuesThenClose | Reply::Late(_) | Reply::HalfThenClose | Reply::Pieces => {
            adu(asked, &data(asked))
        }
        Reply::Twice => [adu(asked, &data(asked)), adu(asked, &data(asked))].concat(),
        Reply::Exception(code) => adu(Asked { function: asked.function | 0x80, ..asked }, &[code]),
        Reply::Registers(count) => adu(asked, &data(Asked { count, ..asked })),
        Reply::OtherTransaction(step) => {
            let transaction = asked.transaction.wrapping_add(step);
            adu(Asked { transaction, ..elsewhere }, &data(elsewhere))
        }
        Reply::OtherUnit(unit) => adu(Asked { unit, ..elsewhere }, &data(elsewhere)),
        Reply::OtherFunction => {
            let other = Asked { function: if asked.function == 3 { 4 } else { 3 }, ..asked };
            adu(other, &data(other))
        }
        Reply::Garbage => [&asked.transaction.to_be_bytes()[..], b"\x09\x09\0\x03", &[asked.unit, 3, 0]].concat(),
        Reply::Noise => vec![0xff; 40],
        Reply::Promise => [&asked.transaction.to_be_bytes()[..], b"\0\0\0\xc8", &[asked.unit, 3]].concat(),
    })
}

/// Byte count and values; or who the unit is.
fn data(asked: Asked) -> Vec<u8> {
    let name = format!("unit {}", asked.unit);
    match asked.function {
        // All of it at once, with one object: the vendor.
        IDENTIFICATION => return [&[14, 1, 1, 0, 0, 1, 0, name.len() as u8], name.as_bytes()].concat(),
        REPORT_SERVER_ID => return [&[name.len() as u8], name.as_bytes()].concat(),
        _ => {}
    }
    let values = (0..asked.count).map(|step| value(asked.unit, asked.function, asked.address.wrapping_add(step)));
    let mut bytes = Vec::new();
    if asked.function <= 2 {
        let values: Vec<u16> = values.collect();
        for eight in values.chunks(8) {
            bytes.push(eight.iter().enumerate().fold(0_u8, |byte, (bit, value)| byte | ((*value as u8) << bit)));
        }
    } else {
        bytes.extend(values.flat_map(u16::to_be_bytes));
    }
    bytes.insert(0, bytes.len() as u8);
    bytes
}

fn adu(asked: Asked, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(asked.transaction.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend((data.len() as u16 + 2).to_be_bytes());
    bytes.extend([asked.unit, asked.function]);
    bytes.extend(data);
    bytes
}
