//! Frames of the serial line: finds the answer to a request in whatever bytes came.
//!
//! A frame is unit, body and checksum (Modbus over Serial Line V1.02, section 2.5.1); it says neither where it begins
//! nor what it answers. So a frame is taken only when unit, function, length and checksum fit the request that is under
//! way, wherever it begins: echoes of the request, noise of a driver that switches on, and answers of other units are
//! passed over. What cannot be told apart here, the late answer of the same unit to an earlier request of the same
//! shape, is kept away by the line: it waits such answers out.
//!
//! Sans-IO: bytes in, answers out. Nothing is kept over a crash; no metrics.

use super::error::ReadError;
use super::question::{Answer, Length, Question};

/// Bytes of one frame at most: unit, body and checksum (section 2.5.1).
const FRAME_BYTES_MAX: usize = 256;
/// Bytes that are kept while an answer is looked for; of more the first are dropped.
const BUFFER_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Unit, function, exception code, checksum: no answer is shorter.
const FRAME_BYTES_MIN: usize = 5;
const CHECKSUM_BYTES: usize = 2;

/// Checksums of single bytes: polynomial 0xA001, the reflected one of the specification (section 6.2.2).
const CHECKSUMS: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut checksum = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            checksum = if checksum & 1 == 1 { checksum >> 1 ^ 0xA001 } else { checksum >> 1 };
            bit += 1;
        }
        table[byte] = checksum;
        byte += 1;
    }
    table
};

/// The bytes that came since the last request.
#[derive(Debug, Default)]
pub(super) struct Rtu {
    buffer: Vec<u8>,
    /// No answer begins before this place.
    passed: usize,
    /// A sound frame of the unit that did not fit, and why not.
    unfit: Option<ReadError>,
    /// Whether bytes stood behind the answer: nobody asked for them.
    has_rest: bool,
    /// What modems send between frames.
    fillers: Vec<Vec<u8>>,
}

/// The frame of a request.
pub(super) fn write(unit: u8, question: &Question, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(unit);
    question.write(out);
    let checksum = checksum(&out[start..]);
    // Low byte first, unlike everything else.
    out.extend(checksum.to_le_bytes());
}

pub(super) fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |checksum, byte| checksum >> 8 ^ CHECKSUMS[usize::from(checksum as u8 ^ byte)])
}

/// What begins at a place.
enum Found {
    Nothing,
    /// Perhaps a frame whose end has not come.
    Open,
    Frame {
        bytes: usize,
    },
}

impl Rtu {
    /// `fillers` are no frames and no noise; none of them is empty.
    pub(super) fn new(fillers: Vec<Vec<u8>>) -> Rtu {
        Rtu { fillers, ..Rtu::default() }
    }

    /// Where bytes are added.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Forgets everything: a new request begins.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.passed = 0;
        self.unfit = None;
        self.has_rest = false;
    }

    /// Looks for the answer to another question in the same bytes.
    pub(super) fn look_again(&mut self) {
        self.passed = 0;
        self.unfit = None;
    }

    /// Whether the last answer was followed by bytes that belong to nothing.
    pub(super) fn has_rest(&self) -> bool {
        self.has_rest
    }

    /// The answer of a unit to a question, once it is there.
    pub(super) fn take(&mut self, unit: u8, question: &Question) -> Option<Result<Answer, ReadError>> {
        if self.buffer.len() < self.passed + FRAME_BYTES_MIN {
            return None;
        }
        let mut first_open = None;
        let mut at = self.passed;
        while at < self.buffer.len() {
            let bytes = match frame_at(&self.buffer[at..], unit, question) {
                Found::Nothing => {
                    at += 1;
                    continue;
                }
                Found::Open => {
                    first_open.get_or_insert(at);
                    at += 1;
                    continue;
                }
                Found::Frame { bytes } => bytes,
            };
            match question.read(&self.buffer[at + 1..at + bytes - CHECKSUM_BYTES]) {
                Err(error) if !matches!(error, ReadError::Exception(_)) => {
                    // Perhaps the late answer to something longer: ours may still come.
                    self.unfit = Some(error);
                    at += bytes;
                }
                result => {
                    // What stands behind an exception may be the answer, if that was a late one.
                    let rest = self.buffer.split_off(at + bytes);
                    self.clear();
                    self.has_rest = !rest.is_empty();
                    if result.is_err() {
                        self.buffer = rest;
                    }
                    return Some(result);
                }
            }
        }
        self.passed = first_open.unwrap_or(self.buffer.len());
        if self.buffer.len() > BUFFER_BYTES_MAX {
            self.buffer.drain(..self.passed);
            self.passed = 0;
        }
        None
    }

    /// Why there was no answer; nothing when nothing came at all.
    pub(super) fn complaint(&mut self) -> Option<ReadError> {
        if let Some(unfit) = self.unfit.take() {
            return Some(unfit);
        }
        let mut rest = self.buffer.as_slice();
        while let Some(behind) = self.fillers.iter().find_map(|filler| rest.strip_prefix(filler.as_slice())) {
            rest = behind;
        }
        if rest.is_empty() { None } else { Some(ReadError::NotModbus) }
    }
}

fn frame_at(bytes: &[u8], unit: u8, question: &Question) -> Found {
    let Some((first, rest)) = bytes.split_first() else { return Found::Nothing };
    if *first != unit {
        return Found::Nothing;
    }
    let body_bytes = match question.answer_length(rest) {
        Length::Open => return Found::Open,
        Length::Other => return Found::Nothing,
        Length::Known(bytes) => bytes,
    };
    let Some(checked) = bytes.get(..1 + body_bytes + CHECKSUM_BYTES) else { return Found::Open };
    // The checksum of a frame with its own checksum behind it is nothing.
    if checksum(checked) == 0 { Found::Frame { bytes: checked.len() } } else { Found::Nothing }
}

#[cfg(test)]
mod tests {
    use kerbside_model::RegisterTable;
    use proptest::prelude::*;

    use super::*;
    use crate::modbus::plan::Request;

    const UNIT: u8 = 7;

    fn holding(count: u16) -> Question {
        Question::Read(Request { table: RegisterTable::Holding, address: 0, count })
    }

    fn frame(unit: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = [&[unit], body].concat();
        frame.extend(checksum(&frame).to_le_bytes());
        frame
    }

    /// What is found in the bytes, whatever pieces they come in.
    #[track_caller]
    fn check(bytes: &[u8], question: Question, expected: Option<&[u16]>) {
        for piece in 1..=bytes.len().max(1) {
            let mut rtu = Rtu::default();
            let mut found = None;
            for bytes in bytes.chunks(piece) {
                rtu.buffer().extend_from_slice(bytes);
                found = found.or_else(|| rtu.take(UNIT, &question));
            }
            let words = found.map(|found| match found {
                Ok(Answer::Words(words)) => words,
                other => panic!("{other:?}"),
            });
            assert_eq!(words.as_deref(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        // Section 6.2.2 of the specification: 02 07 gives 1241, sent as 41 12.
        assert_eq!(checksum(&[0x02, 0x07]), 0x1241);
        let mut request = Vec::new();
        write(17, &Question::Read(Request { table: RegisterTable::Holding, address: 0x6B, count: 3 }), &mut request);
        assert_eq!(request, [0x11, 3, 0, 0x6B, 0, 3, 0x76, 0x87]);
    }

    #[test]
    fn an_answer_is_found_behind_noise_echo_and_the_answers_of_others() {
        let answer = frame(UNIT, &[3, 4, 0, 1, 0, 2]);
        let mut echo = Vec::new();
        write(UNIT, &holding(2), &mut echo);
        check(&answer, holding(2), Some(&[1, 2]));
        check(&[&[0x00][..], &answer].concat(), holding(2), Some(&[1, 2]));
        check(&[&[0xFF, UNIT, 3, 0xFF][..], &answer].concat(), holding(2), Some(&[1, 2]));
        check(&[&echo[..], &answer].concat(), holding(2), Some(&[1, 2]));
        check(&[&frame(9, &[3, 4, 9, 9, 9, 9])[..], &answer].concat(), holding(2), Some(&[1, 2]));
        check(&[&frame(UNIT, &[4, 4, 9, 9, 9, 9])[..], &answer].concat(), holding(2), Some(&[1, 2]));
        check(&[&frame(UNIT, &[3, 2, 9, 9])[..], &answer].concat(), holding(2), Some(&[1, 2]));
    }

    #[test]
    fn a_damaged_answer_is_no_answer() {
        let answer = frame(UNIT, &[3, 4, 0, 1, 0, 2]);
        for place in 0..answer.len() {
            let mut damaged = answer.clone();
            damaged[place] ^= 0x10;
            check(&damaged, holding(2), None);
        }
        check(&answer[..8], holding(2), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut rtu = Rtu::default();
        assert!(rtu.take(UNIT, &holding(2)).is_none() && rtu.complaint().is_none());
        rtu.buffer().extend(frame(UNIT, &[3, 2, 9, 9]));
        assert!(rtu.take(UNIT, &holding(2)).is_none());
        assert_eq!(rtu.complaint().unwrap().to_string(), "answer of 1 values where 2 were asked for");
        rtu.clear();
        rtu.buffer().extend([1, 2, 3, 4, 5, 6]);
        assert!(rtu.take(UNIT, &holding(2)).is_none());
        assert!(matches!(rtu.complaint(), Some(ReadError::NotModbus)));
        rtu.clear();
        let mut modem = Rtu::new(vec![b"ping".to_vec()]);
        modem.buffer().extend(b"pingping");
        assert!(modem.take(UNIT, &holding(2)).is_none() && modem.complaint().is_none());
        rtu.buffer().extend(frame(UNIT, &[0x83, 2]));
        assert!(matches!(rtu.take(UNIT, &holding(2)), Some(Err(ReadError::Exception(_)))));
        assert!(!rtu.has_rest());
        rtu.buffer().extend(frame(UNIT, &[3, 2, 9, 9]));
        rtu.buffer().push(0);
        assert!(rtu.take(UNIT, &holding(1)).is_some() && rtu.has_rest());
    }

    #[test]
    fn endless_noise_is_not_kept() {
        let mut rtu = Rtu::default();
        for _ in 0..1_000 {
            rtu.buffer().extend([UNIT; 100]);
            assert!(rtu.take(UNIT, &holding(2)).is_none());
            assert!(rtu.buffer.len() <= BUFFER_BYTES_MAX + 100, "{}", rtu.buffer.len());
        }
        rtu.buffer().extend(frame(UNIT, &[3, 4, 0, 1, 0, 2]));
        assert!(matches!(rtu.take(UNIT, &holding(2)), Some(Ok(_))));
    }

    proptest! {
        #[test]
        fn only_whole_frames_of_the_unit_are_answers(
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            words in proptest::collection::vec(any::<u16>(), 1..20),
            piece in 1_usize..50,
        ) {
            let count = words.len() as u16;
            let mut body = vec![3, 2 * count as u8];
            body.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            let mut rtu = Rtu::default();
            let mut found = Vec::new();
            for bytes in [noise, frame(UNIT, &body)].concat().chunks(piece) {
                rtu.buffer().extend_from_slice(bytes);
                found.extend(rtu.take(UNIT, &holding(count)));
            }
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found.remove(0).unwrap(), Answer::Words(words));
        }
    }
}
