//! Bytes of a bus: whatever a line, a converter or a modem delivers gives the right answer or none, and never a panic.

use kerbside_model::RegisterTable;
use kerbside_sources::modbus::Request;
use kerbside_sources::modbus::fuzzing::{Asked, Found, HEARTBEAT, mbap_answer, modem, rtu_answer};

/// Takes the first byte for what is read, the second for the size of the pieces, the third for what was asked, and the
/// rest for what came.
///
/// # Panics
/// When an answer stands on no sound frame, the pieces of a TCP connection give another answer than the whole, or a
/// stranger is taken for a modem that is known.
pub fn link(data: &[u8]) {
    let [kind, size, shape, data @ ..] = data else { return };
    let size = usize::from(*size) + 1;
    let asked = asked(*shape);
    match kind % 3 {
        0 => {
            for found in [rtu_answer(asked, std::iter::once(data)), rtu_answer(asked, data.chunks(size))] {
                check_rtu(asked, data, found);
            }
        }
        1 => {
            let whole = mbap_answer(asked, std::iter::once(data));
            assert_eq!(mbap_answer(asked, data.chunks(size)), whole, "pieces of {size} bytes");
        }
        _ => check_modem(data, size.is_multiple_of(2)),
    }
}

fn asked(shape: u8) -> Asked {
    use RegisterTable::{Coil, Discrete, Holding, Input};
    let table = [Coil, Discrete, Holding, Input][usize::from(shape & 3)];
    let request = Request { table, address: 0, count: u16::from(shape >> 3 & 7) + 1 };
    Asked { unit: 1, request: (shape & 4 == 0).then_some(request) }
}

/// The words must stand in a frame of the unit with its checksum.
fn check_rtu(asked: Asked, data: &[u8], found: Option<Found>) {
    let (Some(Found::Words(words)), Some(request)) = (found, asked.request) else { return };
    assert_eq!(words.len(), usize::from(request.count));
    if matches!(request.table, RegisterTable::Coil | RegisterTable::Discrete) {
        return;
    }
    let function = if request.table == RegisterTable::Holding { 3 } else { 4 };
    let mut frame = vec![asked.unit, function, 2 * words.len() as u8];
    frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    let checksum = frame.iter().fold(0xFFFF_u16, |checksum, byte| {
        (0..8).fold(checksum ^ u16::from(*byte), |rest, _| if rest & 1 == 1 { rest >> 1 ^ 0xA001 } else { rest >> 1 })
    });
    frame.extend(checksum.to_le_bytes());
    assert!(data.windows(frame.len()).any(|window| window == frame), "{words:?} stands in no frame of {data:?}");
}

/// What is left of the bytes of a modem, without its registration and heartbeats, is nothing.
fn check_modem(said: &[u8], is_text: bool) {
    let known = [b"DTU-1".to_vec(), b"DTU-10".to_vec(), b"12".to_vec()];
    let Some(found) = modem(said, &known, is_text) else { return };
    assert!(known.contains(&found));
    let mut rest = said;
    while let [first, behind @ ..] = rest {
        rest = match rest.strip_prefix(found.as_slice()).or_else(|| rest.strip_prefix(HEARTBEAT)) {
            Some(behind) => behind,
            None if is_text && (first.is_ascii_whitespace() || *first == 0) => behind,
            None => panic!("{said:?} was taken for {found:?}"),
        };
    }
}
