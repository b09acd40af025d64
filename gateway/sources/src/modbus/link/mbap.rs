//! Frames of Modbus TCP: finds the answer to a request by its transaction.
//!
//! A frame has a head of transaction, protocol (0), length and unit (Modbus Messaging on TCP/IP V1.0b, section 3.1.3).
//! Answers to other transactions are dropped, so the connection can be used again after a timeout: the late answer
//! passes by. Bytes that are no frame end the connection, because nothing tells where the next frame begins.
//!
//! Sans-IO: bytes in, answers out. Nothing is kept over a crash; no metrics.

use std::collections::VecDeque;

use super::error::ReadError;
use super::question::{Answer, BODY_BYTES_MAX, Question};

/// Transaction, protocol and length.
const HEAD_BYTES: usize = 6;
/// What the length counts: unit, function code and at least one byte.
const LENGTH_MIN: usize = 3;
const LENGTH_MAX: usize = 1 + BODY_BYTES_MAX;
/// Transactions without an answer that are remembered: more than a unit that comes back can have kept.
const UNANSWERED_MAX: usize = 16;

/// The bytes of one connection, and the transaction under way.
#[derive(Debug, Default)]
pub(super) struct Mbap {
    buffer: Vec<u8>,
    /// The one under way, until its answer has come.
    transaction: Option<u16>,
    next: u16,
    /// Transactions whose answers have not come, the latest last.
    unanswered: VecDeque<u16>,
    /// What modems send between frames.
    fillers: Vec<Vec<u8>>,
    /// Late answers that were dropped since the last request.
    late: u64,
    /// Whether there was an answer to something that was never asked, or was answered before.
    has_other: bool,
}

impl Mbap {
    /// `fillers` are dropped wherever a frame could begin; none of them is empty.
    pub(super) fn new(fillers: Vec<Vec<u8>>) -> Mbap {
        Mbap { fillers, ..Mbap::default() }
    }

    /// The frame of the next request.
    pub(super) fn write(&mut self, unit: u8, question: &Question, out: &mut Vec<u8>) {
        if let Some(unanswered) = self.transaction.replace(self.next) {
            self.unanswered.push_back(unanswered);
            if self.unanswered.len() > UNANSWERED_MAX {
                self.unanswered.pop_front();
            }
        }
        self.late = 0;
        self.has_other = false;
        out.extend(self.next.to_be_bytes());
        self.next = self.next.wrapping_add(1);
        out.extend([0; 4]);
        let unit_at = out.len();
        out.push(unit);
        question.write(out);
        let length = u16::try_from(out.len() - unit_at).expect("a request is a few bytes long");
        out[unit_at - 2..unit_at].copy_from_slice(&length.to_be_bytes());
    }

    /// Where bytes are added.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Late answers that passed by since the last request.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// The answer of a unit to the question that was written last, once it is there.
    pub(super) fn take(&mut self, unit: u8, question: &Question) -> Option<Result<Answer, ReadError>> {
        loop {
            if self.drop_filler() {
                continue;
            }
            let length = match frame_length(&self.buffer) {
                Ok(length) => length?,
                // The beginning of a filler looks like no frame, and the rest of it is on its way.
                Err(_) if self.is_filler_begun() => return None,
                Err(error) => return Some(Err(error)),
            };
            let frame = self.buffer.get(..HEAD_BYTES + length)?;
            let transaction = u16::from_be_bytes([frame[0], frame[1]]);
            if self.transaction != Some(transaction) {
                self.buffer.drain(..HEAD_BYTES + length);
                self.pass_by(transaction);
                continue;
            }
            let result = if frame[HEAD_BYTES] == unit {
                question.read(&frame[HEAD_BYTES + 1..])
            } else {
                Err(ReadError::Mismatch)
            };
            self.buffer.drain(..HEAD_BYTES + length);
            self.transaction = None;
            return Some(result);
        }
    }

    /// Why there was no answer; nothing when nothing came at all.
    pub(super) fn complaint(&self) -> Option<ReadError> {
        self.has_other.then_some(ReadError::Mismatch)
    }

    fn pass_by(&mut self, transaction: u16) {
        match self.unanswered.iter().position(|unanswered| *unanswered == transaction) {
            Some(position) => {
                self.unanswered.remove(position);
                self.late += 1;
            }
            None => self.has_other = true,
        }
    }

    fn drop_filler(&mut self) -> bool {
        let Some(filler) = self.fillers.iter().find(|filler| self.buffer.starts_with(filler)) else { return false };
        self.buffer.drain(..filler.len());
        true
    }

    fn is_filler_begun(&self) -> bool {
        self.fillers.iter().any(|filler| filler.starts_with(&self.buffer))
    }
}

/// What the length says; nothing when it has not come.
fn frame_length(buffer: &[u8]) -> Result<Option<usize>, ReadError> {
    let protocol = buffer.get(2..buffer.len().min(4)).unwrap_or_default();
    if protocol.iter().any(|byte| *byte != 0) {
        return Err(ReadError::NotModbus);
    }
    let Some(&[high, low]) = buffer.get(4..HEAD_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if (LENGTH_MIN..=LENGTH_MAX).contains(&length) { Ok(Some(length)) } else { Err(ReadError::NotModbus) }
}

#[cfg(test)]
mod tests {
    use kerbside_model::RegisterTable;
    use proptest::prelude::*;

    use super::*;
    use crate::modbus::plan::Request;

    const UNIT: u8 = 7;

    fn holding(count: u16) -> Question {
        Question::Read(Request { table: RegisterTable::Holding, address: 1, count })
    }

    fn frame(transaction: u16, unit: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() + 1) as u16;
        [&transaction.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), &[unit], body].concat()
    }

    fn asked(fillers: &[&[u8]]) -> Mbap {
        let mut mbap = Mbap::new(fillers.iter().map(|filler| filler.to_vec()).collect());
        for _ in 0..3 {
            mbap.write(UNIT, &holding(1), &mut Vec::new());
        }
        mbap
    }

    #[test]
    fn requests_count_their_transactions() {
        let mut mbap = Mbap::default();
        let mut out = Vec::new();
        mbap.write(UNIT, &holding(2), &mut out);
        mbap.write(UNIT, &holding(2), &mut out);
        assert_eq!(out, [&[0, 0, 0, 0, 0, 6, 7, 3, 0, 1, 0, 2][..], &[0, 1, 0, 0, 0, 6, 7, 3, 0, 1, 0, 2]].concat());
    }

    #[test]
    fn late_answers_pass_by() {
        let bytes = [frame(0, UNIT, &[3, 2, 9, 9]), frame(1, UNIT, &[0x83, 2]), frame(2, UNIT, &[3, 2, 0, 5])].concat();
        for piece in 1..=bytes.len() {
            let mut mbap = asked(&[]);
            let mut found = Vec::new();
            for bytes in bytes.chunks(piece) {
                mbap.buffer().extend_from_slice(bytes);
                found.extend(mbap.take(UNIT, &holding(1)));
            }
            assert_eq!(found.len(), 1);
            assert_eq!(found.remove(0).unwrap(), Answer::Words(vec![5]), "pieces of {piece}");
            assert_eq!((mbap.late(), mbap.complaint().is_none()), (2, true));
        }
    }

    #[test]
    fn answers_of_other_units_and_bytes_that_are_no_frame_are_refused() {
        let mut mbap = asked(&[]);
        mbap.buffer().extend(frame(2, 8, &[3, 2, 0, 5]));
        assert!(matches!(mbap.take(UNIT, &holding(1)), Some(Err(ReadError::Mismatch))));
        assert!(mbap.take(UNIT, &holding(1)).is_none(), "the frame is gone");
        for bytes in [&b"HTTP"[..], &[0, 2, 0, 0, 0, 2], &[0, 2, 0, 0, 1, 0], &[0, 2, 9]] {
            let mut mbap = asked(&[]);
            mbap.buffer().extend(bytes);
            assert!(matches!(mbap.take(UNIT, &holding(1)), Some(Err(ReadError::NotModbus))), "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_to_what_was_never_asked_is_said() {
        let mut mbap = asked(&[]);
        mbap.buffer().extend(frame(7, UNIT, &[3, 2, 0, 5]));
        assert!(mbap.take(UNIT, &holding(1)).is_none());
        assert!(matches!(mbap.complaint(), Some(ReadError::Mismatch)));
    }

    #[test]
    fn fillers_of_modems_are_dropped_between_frames() {
        let answer = frame(2, UNIT, &[3, 2, 0, 5]);
        let bytes = [b"ping", &answer[..], b"IMEI", b"ping"].concat();
        for piece in 1..=bytes.len() {
            let mut mbap = asked(&[b"ping", b"IMEI"]);
            let mut found = Vec::new();
            for bytes in bytes.chunks(piece) {
                mbap.buffer().extend_from_slice(bytes);
                found.extend(mbap.take(UNIT, &holding(1)));
            }
            assert_eq!(found.len(), 1, "pieces of {piece}");
            assert!(found.remove(0).is_ok());
            assert!(mbap.take(UNIT, &holding(1)).is_none() && mbap.buffer().is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic_or_an_endless_buffer(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..10),
        ) {
            let mut mbap = asked(&[b"ping"]);
            for piece in pieces {
                mbap.buffer().extend(piece);
                while let Some(result) = mbap.take(UNIT, &holding(1)) {
                    if result.is_err() {
                        return Ok(());
                    }
                }
                prop_assert!(mbap.buffer().len() <= HEAD_BYTES + LENGTH_MAX);
            }
        }
    }
}
