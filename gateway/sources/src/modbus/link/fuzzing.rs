//! A door to frames and registrations for fuzz targets (`tests/fuzz`), and for nothing else.

use super::mbap::Mbap;
use super::question::{Answer, Question};
use super::registration::{self, Expected};
use super::rtu::Rtu;
use crate::modbus::plan::Request;

/// What modems send between frames here.
pub const HEARTBEAT: &[u8] = b"ping";

/// What is asked, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Unit on the wire.
    pub unit: u8,
    /// Registers; what the unit says of itself without any.
    pub request: Option<Request>,
}

/// What bytes came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Registers or bits.
    Words(Vec<u16>),
    /// Something else, in words.
    Other(String),
}

fn question(asked: Asked) -> Question {
    asked.request.map_or(Question::Identification { from: 0 }, Question::Read)
}

fn found(result: Result<Answer, super::ReadError>) -> Found {
    match result {
        Ok(Answer::Words(words)) => Found::Words(words),
        Ok(other) => Found::Other(format!("{other:?}")),
        Err(error) => Found::Other(error.to_string()),
    }
}

/// The first answer on a serial line whose bytes come in these pieces.
pub fn rtu_answer<'a>(asked: Asked, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Found> {
    let mut rtu = Rtu::new(vec![HEARTBEAT.to_vec()]);
    for piece in pieces {
        rtu.buffer().extend_from_slice(piece);
        if let Some(result) = rtu.take(asked.unit, &question(asked)) {
            return Some(found(result));
        }
    }
    drop(rtu.complaint());
    None
}

/// The answer to the third request of a connection whose bytes come in these pieces.
pub fn mbap_answer<'a>(asked: Asked, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Found> {
    let mut mbap = Mbap::new(vec![HEARTBEAT.to_vec()]);
    for _ in 0..3 {
        mbap.write(asked.unit, &question(asked), &mut Vec::new());
    }
    for piece in pieces {
        mbap.buffer().extend_from_slice(piece);
        if let Some(result) = mbap.take(asked.unit, &question(asked)) {
            return Some(found(result));
        }
    }
    drop(mbap.complaint());
    None
}

/// Which of the known modems says this before it is quiet.
pub fn modem(said: &[u8], known: &[Vec<u8>], is_text: bool) -> Option<Vec<u8>> {
    let expected = Expected { known, heartbeat: HEARTBEAT, bytes_max: 16, is_text };
    match registration::read(said, true, expected) {
        registration::Registration::Known(known) => Some(known),
        registration::Registration::Open | registration::Registration::Stranger(_) => None,
    }
}
