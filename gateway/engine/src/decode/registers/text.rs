//! Registers to text: two letters each, filled up with zeros or spaces.

use std::borrow::Cow;

use kerbside_model::profile::{ByteOrder, TextEncoding};

/// Bytes of the longest text: 125 registers (Modbus Application Protocol V1.1b3, function 3).
const BYTES_MAX: usize = 250;

/// The bytes of registers, in the order in which they are read.
#[derive(Debug)]
pub(super) struct WireBytes {
    bytes: [u8; BYTES_MAX],
    count: usize,
}

impl WireBytes {
    /// The bytes of at most 125 registers; of more, those of the first.
    pub(super) fn of(words: &[u16], order: ByteOrder) -> WireBytes {
        let mut wire = WireBytes { bytes: [0; BYTES_MAX], count: 0 };
        let count = words.len().min(BYTES_MAX / 2);
        for position in 0..count {
            let place = if order.swaps_words() { count - 1 - position } else { position };
            let pair = if order.swaps_bytes() { words[place].to_le_bytes() } else { words[place].to_be_bytes() };
            wire.bytes[wire.count..wire.count + 2].copy_from_slice(&pair);
            wire.count += 2;
        }
        wire
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

/// The text in these bytes without what fills it up; `None` when it is no text of this encoding.
pub(super) fn read(bytes: &[u8], encoding: TextEncoding) -> Option<Cow<'_, str>> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = bytes[..end].trim_ascii();
    let text = match encoding {
        TextEncoding::Ascii if !bytes.is_ascii() => return None,
        TextEncoding::Ascii | TextEncoding::Utf8 => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        TextEncoding::Gbk => encoding_rs::GB18030.decode_without_bom_handling_and_without_replacement(bytes)?,
    };
    if text.chars().any(char::is_control) { None } else { Some(text) }
}
