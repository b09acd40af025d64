//! One value in a run of bytes.

use kerbside_model::profile::{BinaryField, BinaryType, Bits, Endian, Sign};

use crate::decode::convert::Raw;

/// Whole numbers beyond this are not exact as the numbers that the gateway stores: 2^53.
const EXACT_MAX: u128 = 1 << 53;

/// A block ends before a value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short {
    offset: i16,
    width: u16,
    has: usize,
}

impl Short {
    /// In a sentence; the block begins at byte `at` of the message.
    #[cold]
    pub(super) fn describe(self, at: usize, block: &str, what: &str) -> String {
        let Short { offset, width, has } = self;
        let from = if at == 0 { String::new() } else { format!(" from byte {at} on") };
        format!("{what} needs {width} bytes at offset {offset} of {block}{from}, which has {has}: it is cut short")
    }
}

/// The bytes of a value.
fn slice<'a>(field: &BinaryField, block: &'a [u8]) -> Result<&'a [u8], Short> {
    let short = || Short { offset: field.offset, width: field.width().unwrap_or(1), has: block.len() };
    let first = match usize::try_from(field.offset) {
        Ok(first) => first,
        Err(_) => block.len().checked_sub(usize::from(field.offset.unsigned_abs())).ok_or_else(short)?,
    };
    let rest = block.get(first..).ok_or_else(short)?;
    match field.width() {
        Some(width) => rest.get(..usize::from(width)).ok_or_else(short),
        None => Ok(rest),
    }
}

/// A whole number, before it counts as anything.
pub(super) fn number(field: &BinaryField, block: &[u8]) -> Result<i64, Short> {
    let bytes = slice(field, block)?;
    Ok(bits_of(field, unsigned(bytes, field.endian)).cast_signed())
}

/// What is to become of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Number,
    /// Whole numbers keep every digit.
    Text,
}

/// A value as the device sent it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Read<'a> {
    pub(super) raw: Raw<'a>,
    /// It has more digits than a number of ours can hold.
    pub(super) is_rounded: bool,
}

/// Reads a value. `text` is room for one that is made here.
pub(super) fn read<'a>(
    field: &BinaryField,
    wanted: Wanted,
    block: &'a [u8],
    text: &'a mut String,
) -> Result<Read<'a>, Short> {
    let bytes = slice(field, block)?;
    if field.value.is_integer() {
        return Ok(whole(integer(field, bytes), wanted, text));
    }
    let raw = match field.value {
        BinaryType::Float(_) => float(unsigned(bytes, field.endian), bytes.len()),
        BinaryType::Bcd(_) => match bcd(bytes, field.endian) {
            Some(number) => return Ok(whole(i128::from(number), wanted, text)),
            None => Raw::Other,
        },
        BinaryType::Text(_) => printed(bytes),
        BinaryType::Hex(_) => {
            text.clear();
            bytes.iter().for_each(|byte| push_hex(text, *byte));
            Raw::Text(text)
        }
        BinaryType::Dotted(_) => {
            text.clear();
            for (position, byte) in bytes.iter().enumerate() {
                let dot = if position == 0 { "" } else { "." };
                text.push_str(dot);
                text.push_str(&byte.to_string());
            }
            Raw::Text(text)
        }
        BinaryType::DateTime => date_time(bytes.iter().copied().map(Some), text),
        _ => date_time(bytes.iter().map(|byte| two_digits(*byte)), text),
    };
    Ok(Read { raw, is_rounded: false })
}

/// A whole number in the unit of the device.
fn integer(field: &BinaryField, bytes: &[u8]) -> i128 {
    let all = unsigned(bytes, field.endian);
    let is_signed = matches!(field.value, BinaryType::Signed(_));
    let number = match (field.bits, field.sign) {
        (Some(Bits { count, .. }), _) if is_signed => i128::from(signed(bits_of(field, all), count)),
        (Some(_), _) => i128::from(bits_of(field, all)),
        (None, Sign::Magnitude) => {
            let sign = 1_u64 << (bytes.len() * 8 - 1);
            let size = i128::from(all & !sign);
            if all & sign == 0 { size } else { -size }
        }
        (None, Sign::Twos) if is_signed => i128::from(signed(all, (bytes.len() * 8) as u8)),
        (None, Sign::Twos) => i128::from(all),
    };
    number - i128::from(field.zero)
}

fn whole<'a>(number: i128, wanted: Wanted, text: &'a mut String) -> Read<'a> {
    let is_exact = number.unsigned_abs() <= EXACT_MAX;
    if !is_exact && wanted == Wanted::Text {
        text.clear();
        text.push_str(&number.to_string());
        return Read { raw: Raw::Text(text), is_rounded: false };
    }
    Read { raw: Raw::Number(number as f64), is_rounded: !is_exact }
}

/// At most eight bytes as a number.
fn unsigned(bytes: &[u8], endian: Endian) -> u64 {
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    match endian {
        Endian::Big => bytes.iter().fold(0, add),
        Endian::Little => bytes.iter().rev().fold(0, add),
    }
}

fn bits_of(field: &BinaryField, whole: u64) -> u64 {
    match field.bits {
        Some(Bits { from, count }) => {
            let shifted = whole.checked_shr(u32::from(from)).unwrap_or(0);
            if count >= 64 { shifted } else { shifted & ((1 << count) - 1) }
        }
        None => whole,
    }
}

fn signed(whole: u64, bits: u8) -> i64 {
    let unused = 64 - u32::from(bits.clamp(1, 64));
    (whole << unused).cast_signed() >> unused
}

fn float(bits: u64, bytes: usize) -> Raw<'static> {
    Raw::Number(match bytes {
        2 => half(bits as u16),
        // 230.2 in single precision is 230.1999969482422; the shortest decimal that means the same single is 230.2.
        4 => shortest(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    })
}

fn shortest(single: f32) -> f64 {
    if single.is_finite() {
        single.to_string().parse().unwrap_or_else(|_| f64::from(single))
    } else {
        f64::from(single)
    }
}

/// IEEE 754 half precision: one bit sign, five bits exponent with a bias of 15, ten bits fraction.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3FF);
    let magnitude = match bits >> 10 & 0x1F {
        0 => fraction / f64::from(1 << 24),
        0x1F if fraction == 0.0 => f64::INFINITY,
        0x1F => f64::NAN,
        exponent => (1.0 + fraction / 1_024.0) * f64::from(i32::from(exponent) - 15).exp2(),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn two_digits(byte: u8) -> Option<u8> {
    let (high, low) = (byte >> 4, byte & 0xF);
    (high <= 9 && low <= 9).then(|| high * 10 + low)
}

/// A digit above nine is no number.
fn bcd(bytes: &[u8], endian: Endian) -> Option<u64> {
    let add = |number: Option<u64>, byte: &u8| Some(number? * 100 + u64::from(two_digits(*byte)?));
    match endian {
        Endian::Big => bytes.iter().fold(Some(0), add),
        Endian::Little => bytes.iter().rev().fold(Some(0), add),
    }
}

fn printed(bytes: &[u8]) -> Raw<'_> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).map_or(Raw::Other, |text| Raw::Text(text.trim()))
}

/// Two digits.
pub(in crate::decode) fn push_hex(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 0xF)]));
}

/// Date and time as `payload.time` reads them with `unit: local`. Two digits of a year mean this century.
fn date_time<'a>(mut parts: impl Iterator<Item = Option<u8>>, text: &'a mut String) -> Raw<'a> {
    text.clear();
    for before in ["20", "-", "-", " ", ":", ":"] {
        match parts.next().flatten() {
            Some(part) if part <= 99 => {
                text.push_str(before);
                text.push(char::from(b'0' + part / 10));
                text.push(char::from(b'0' + part % 10));
            }
            _ => return Raw::Other,
        }
    }
    Raw::Text(text)
}
