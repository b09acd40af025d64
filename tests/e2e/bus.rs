//! A Modbus TCP server whose registers and faults the test sets: one bus with any number of units.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::gateway::{free_port, loopback};

const READ_HOLDING: u8 = 3;
const READ_INPUT: u8 = 4;
const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;

/// What a unit does.
#[derive(Clone, Debug)]
pub(crate) enum Unit {
    /// It answers with these registers.
    Answers(BTreeMap<u16, u16>),
    /// It takes requests and never answers.
    Dead,
}

/// A running bus. Dropping it closes its port.
pub(crate) struct Bus {
    pub(crate) port: u16,
    units: Arc<Mutex<BTreeMap<u8, Unit>>>,
    task: JoinHandle<()>,
}

impl Bus {
    pub(crate) async fn start(units: &[(u8, Unit)]) -> Bus {
        let port = free_port();
        let listener = TcpListener::bind(loopback(port)).await.unwrap();
        let units = Arc::new(Mutex::new(units.iter().cloned().collect()));
        let shared = Arc::clone(&units);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Bus { port, units, task }
    }

    pub(crate) fn set(&self, unit: u8, address: u16, word: u16) {
        let mut units = self.units.lock().unwrap();
        match units.get_mut(&unit) {
            Some(Unit::Answers(registers)) => registers.insert(address, word),
            other => panic!("unit {unit} has no registers: {other:?}"),
        };
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.task.abort();
        // On the connections that stand nobody answers any more.
        self.units.lock().unwrap().clear();
    }
}

async fn serve(mut stream: TcpStream, units: Arc<Mutex<BTreeMap<u8, Unit>>>) -> std::io::Result<()> {
    loop {
        // Transaction, protocol, length; then unit, function, and mostly address and count.
        let mut request = [0_u8; 12];
        stream.read_exact(&mut request[..6]).await?;
        let rest = usize::from(u16::from_be_bytes([request[4], request[5]]));
        stream.read_exact(&mut request[6..6 + rest]).await?;
        let (unit, function) = (request[6], request[7]);
        let address = u16::from_be_bytes([request[8], request[9]]);
        let count = u16::from_be_bytes([request[10], request[11]]);
        let found = units.lock().unwrap().get(&unit).cloned();
        let body = match found {
            Some(Unit::Answers(registers)) => read(&registers, function, address, count),
            Some(Unit::Dead) | None => continue,
        };
        let length = u16::try_from(body.len() + 1).unwrap().to_be_bytes();
        let mut answer = vec![request[0], request[1], 0, 0, length[0], length[1], unit];
        answer.extend(body);
        stream.write_all(&answer).await?;
    }
}

/// The body of an answer to a request for registers.
pub(crate) fn read(registers: &BTreeMap<u16, u16>, function: u8, address: u16, count: u16) -> Vec<u8> {
    if !matches!(function, READ_HOLDING | READ_INPUT) {
        return vec![function | 0x80, ILLEGAL_FUNCTION];
    }
    let words: Option<Vec<u16>> =
        (0..count).map(|offset| registers.get(&address.checked_add(offset)?).copied()).collect();
    match words {
        Some(words) => {
            let mut body = vec![function, u8::try_from(words.len() * 2).unwrap()];
            body.extend(words.into_iter().flat_map(u16::to_be_bytes));
            body
        }
        None => vec![function | 0x80, ILLEGAL_ADDRESS],
    }
}
