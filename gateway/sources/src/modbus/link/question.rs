//! Turns what we want to know into the body of a request, and the body of an answer into what we know.
//!
//! A body begins with the function code and is the same on every link (Modbus Application Protocol V1.1b3). There are
//! only functions that read: 1 to 4, 17 and 43. Plain functions without state.

use kerbside_model::RegisterTable;
use tokio_modbus::ExceptionCode;

use super::error::ReadError;
use crate::modbus::plan::Request;

/// Longest body of a request or an answer (section 4.1).
pub(super) const BODY_BYTES_MAX: usize = 253;

/// A function code with this bit is an exception (section 4.1).
const EXCEPTION: u8 = 0x80;
/// Function code and exception code.
const EXCEPTION_BYTES: usize = 2;
/// Section 6.13.
const REPORT_SERVER_ID: u8 = 17;
/// Section 6.21: function, and the type of interface that it is used with here.
const ENCAPSULATED_INTERFACE: u8 = 43;
const DEVICE_IDENTIFICATION: u8 = 14;
/// All objects of the basic kind in one stream: vendor, product, revision.
const BASIC: u8 = 1;
/// Function, interface, kind, conformity, more follows, next object, number of objects.
const IDENTIFICATION_HEAD_BYTES: usize = 7;

/// Something that can be asked of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Registers, coils or discrete inputs.
    Read(Request),
    /// Function 17: what the vendor calls the device.
    ServerId,
    /// Function 43, interface 14: the names of vendor and product, from this object on.
    Identification { from: u8 },
}

/// What a unit said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Registers, or bits as 0 and 1; as many as were asked for.
    Words(Vec<u16>),
    /// Bytes in the order of the vendor.
    ServerId(Vec<u8>),
    /// Objects by their number, and the object with which the next part begins.
    Objects { objects: Vec<(u8, Vec<u8>)>, next: Option<u8> },
}

impl Answer {
    /// How many registers and bits it has, for the metrics.
    pub(super) fn registers(&self) -> usize {
        match self {
            Answer::Words(words) => words.len(),
            Answer::ServerId(_) | Answer::Objects { .. } => 0,
        }
    }
}

/// How long a body is, as far as its first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// It is the beginning of a body, and more bytes are needed to tell.
    Open,
    Known(usize),
    /// This is no answer to this question.
    Other,
}

impl Question {
    pub(super) fn function(&self) -> u8 {
        match self {
            Question::Read(request) => match request.table {
                RegisterTable::Coil => 1,
                RegisterTable::Discrete => 2,
                RegisterTable::Holding => 3,
                RegisterTable::Input => 4,
            },
            Question::ServerId => REPORT_SERVER_ID,
            Question::Identification { .. } => ENCAPSULATED_INTERFACE,
        }
    }

    /// Adds the body of the request.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.function());
        match self {
            Question::Read(request) => {
                out.extend(request.address.to_be_bytes());
                out.extend(request.count.to_be_bytes());
            }
            Question::ServerId => {}
            Question::Identification { from } => out.extend([DEVICE_IDENTIFICATION, BASIC, *from]),
        }
    }

    /// How long the body of the request is.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Question::Read(_) => 5,
            Question::ServerId => 1,
            Question::Identification { .. } => 4,
        }
    }

    /// How long a sound answer is at most: for the time that it takes.
    pub(super) fn answer_bytes_max(&self) -> usize {
        match self {
            Question::Read(request) => 2 + data_bytes(request),
            Question::ServerId | Question::Identification { .. } => BODY_BYTES_MAX,
        }
    }

    /// How long the body is that begins with these bytes.
    pub(super) fn answer_length(&self, body: &[u8]) -> Length {
        let length = match body.first() {
            None => return Length::Open,
            Some(function) if *function == self.function() | EXCEPTION => return Length::Known(EXCEPTION_BYTES),
            Some(function) if *function != self.function() => return Length::Other,
            Some(_) => match self {
                Question::Read(_) | Question::ServerId => match body.get(1) {
                    None => return Length::Open,
                    Some(bytes) => 2 + usize::from(*bytes),
                },
                Question::Identification { .. } => match identification_length(body) {
                    None => return Length::Open,
                    Some(bytes) => bytes,
                },
            },
        };
        if length <= BODY_BYTES_MAX { Length::Known(length) } else { Length::Other }
    }

    /// Reads the body of an answer.
    pub(super) fn read(&self, body: &[u8]) -> Result<Answer, ReadError> {
        let (function, rest) = body.split_first().ok_or(ReadError::NotModbus)?;
        if *function == self.function() | EXCEPTION {
            let [code] = rest else { return Err(ReadError::NotModbus) };
            return Err(ReadError::Exception(ExceptionCode::new(*code)));
        }
        if *function != self.function() {
            return Err(ReadError::Mismatch);
        }
        match self {
            Question::Read(request) => words(request, counted(rest)?).map(Answer::Words),
            Question::ServerId => Ok(Answer::ServerId(counted(rest)?.to_vec())),
            Question::Identification { from } => objects(*from, body),
        }
    }
}

/// Bytes of values in an answer of the right length.
fn data_bytes(request: &Request) -> usize {
    let count = usize::from(request.count);
    match request.table {
        RegisterTable::Coil | RegisterTable::Discrete => count.div_ceil(8),
        RegisterTable::Holding | RegisterTable::Input => 2 * count,
    }
}

/// The bytes behind the byte that counts them.
fn counted(rest: &[u8]) -> Result<&[u8], ReadError> {
    match rest.split_first() {
        Some((count, data)) if data.len() == usize::from(*count) => Ok(data),
        _ => Err(ReadError::NotModbus),
    }
}

fn words(request: &Request, data: &[u8]) -> Result<Vec<u16>, ReadError> {
    let asked = usize::from(request.count);
    let is_bits = matches!(request.table, RegisterTable::Coil | RegisterTable::Discrete);
    if data.len() != data_bytes(request) {
        let answered = if is_bits { data.len() * 8 } else { data.len() / 2 };
        return Err(ReadError::Length { answered, asked });
    }
    if is_bits {
        return Ok((0..asked).map(|bit| u16::from(data[bit / 8] >> (bit % 8) & 1)).collect());
    }
    Ok(data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
}

/// How long an identification is, object by object; none while its last objects are not there.
fn identification_length(body: &[u8]) -> Option<usize> {
    let objects = *body.get(IDENTIFICATION_HEAD_BYTES - 1)?;
    let mut end = IDENTIFICATION_HEAD_BYTES;
    for _ in 0..objects {
        end += 2 + usize::from(*body.get(end + 1)?);
        if end > BODY_BYTES_MAX {
            break;
        }
    }
    Some(end)
}

fn objects(from: u8, body: &[u8]) -> Result<Answer, ReadError> {
    let is_whole = identification_length(body) == Some(body.len());
    if !is_whole || body[1] != DEVICE_IDENTIFICATION {
        return Err(ReadError::NotModbus);
    }
    let has_more = body[4] == 0xFF;
    // A unit that sends us back would keep us for ever.
    let next = (has_more && body[5] > from).then_some(body[5]);
    let mut objects = Vec::new();
    let mut rest = &body[IDENTIFICATION_HEAD_BYTES..];
    while let [number, length, behind @ ..] = rest {
        let (text, behind) = behind.split_at_checked(usize::from(*length)).ok_or(ReadError::NotModbus)?;
        objects.push((*number, text.to_vec()));
        rest = behind;
    }
    Ok(Answer::Objects { objects, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: RegisterTable, count: u16) -> Question {
        Question::Read(Request { table, address: 0x0102, count })
    }

    fn body_of(question: Question) -> Vec<u8> {
        let mut body = Vec::new();
        question.write(&mut body);
        body
    }

    #[test]
    fn requests_are_those_of_the_specification() {
        assert_eq!(body_of(read(RegisterTable::Coil, 2_000)), [1, 1, 2, 0x07, 0xD0]);
        assert_eq!(body_of(read(RegisterTable::Discrete, 1)), [2, 1, 2, 0, 1]);
        assert_eq!(body_of(read(RegisterTable::Holding, 125)), [3, 1, 2, 0, 125]);
        assert_eq!(body_of(read(RegisterTable::Input, 1)), [4, 1, 2, 0, 1]);
        assert_eq!(body_of(Question::ServerId), [17]);
        assert_eq!(body_of(Question::Identification { from: 2 }), [43, 14, 1, 2]);
    }

    #[test]
    fn an_answer_is_taken_only_at_its_full_length() {
        let holding = read(RegisterTable::Holding, 2);
        assert_eq!(holding.read(&[3, 4, 0, 7, 1, 8]).unwrap(), Answer::Words(vec![7, 264]));
        for (wrong, answered) in [(&[3, 0][..], 0), (&[3, 2, 0, 7], 1), (&[3, 6, 0, 7, 0, 8, 0, 9], 3)] {
            let error = holding.read(wrong).unwrap_err();
            assert_eq!(error.to_string(), format!("answer of {answered} values where 2 were asked for"));
        }
        let coils = read(RegisterTable::Coil, 3);
        assert_eq!(coils.read(&[1, 1, 0b1111_1101]).unwrap(), Answer::Words(vec![1, 0, 1]));
        let error = read(RegisterTable::Coil, 9).read(&[1, 1, 5]).unwrap_err();
        assert_eq!(error.to_string(), "answer of 8 values where 9 were asked for");
        assert!(matches!(coils.read(&[2, 1, 5]), Err(ReadError::Mismatch)));
        assert!(matches!(coils.read(&[1, 2, 5]), Err(ReadError::NotModbus)));
        assert!(matches!(coils.read(&[0x81, 2]), Err(ReadError::Exception(ExceptionCode::IllegalDataAddress))));
        assert!(matches!(coils.read(&[0x81]), Err(ReadError::NotModbus)));
        assert!(matches!(coils.read(&[]), Err(ReadError::NotModbus)));
    }

    #[test]
    fn the_length_is_known_as_early_as_it_can_be() {
        let holding = read(RegisterTable::Holding, 2);
        assert_eq!(holding.answer_length(&[]), Length::Open);
        assert_eq!(holding.answer_length(&[3]), Length::Open);
        assert_eq!(holding.answer_length(&[3, 4]), Length::Known(6));
        assert_eq!(holding.answer_length(&[0x83]), Length::Known(2));
        assert_eq!(holding.answer_length(&[4, 4]), Length::Other);
        assert_eq!(holding.answer_length(&[3, 252]), Length::Other);
        let names = Question::Identification { from: 0 };
        let body = [43, 14, 1, 1, 0, 0, 2, 0, 2, b'A', b'B', 1, 1, b'C'];
        assert_eq!(names.answer_length(&body[..12]), Length::Open);
        assert_eq!(names.answer_length(&body), Length::Known(body.len()));
        assert_eq!(names.answer_length(&[43, 14, 1, 1, 0, 0, 255, 0, 251]), Length::Other);
    }

    #[test]
    fn names_are_read_object_by_object_and_never_backwards() {
        let names = Question::Identification { from: 1 };
        let mut body = [43, 14, 1, 1, 0xFF, 3, 2, 1, 2, b'A', b'B', 2, 0];
        let objects = vec![(1, b"AB".to_vec()), (2, Vec::new())];
        let answer = names.read(&body).unwrap();
        assert_eq!(answer, Answer::Objects { objects: objects.clone(), next: Some(3) });
        body[5] = 1;
        assert_eq!(names.read(&body).unwrap(), Answer::Objects { objects, next: None });
        assert!(matches!(names.read(&body[..12]), Err(ReadError::NotModbus)));
        assert_eq!(Question::ServerId.read(&[17, 2, b'X', 0xFF]).unwrap(), Answer::ServerId(vec![b'X', 0xFF]));
    }
}
