//! Registers to numbers: order, width, sign, bits, decimal digits, powers of ten.

use kerbside_model::profile::{Bits, ByteOrder, Half, PowerMeaning, RegisterField, RegisterType, Sign};

/// Powers of ten up to this one are exact in double precision, so one multiplication or division rounds only once.
const EXPONENT_MAX: i32 = 22;
/// Double precision holds so many binary digits.
const DIGITS_MAX: u32 = 53;

/// A number as it stands in registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// A whole number, in all its digits.
    Whole(Whole),
    /// A binary fraction; not always finite.
    Real(f64),
}

/// A whole number of up to 64 bits and its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) magnitude: u64,
    pub(super) is_negative: bool,
}

impl Whole {
    fn positive(magnitude: u64) -> Whole {
        Whole { magnitude, is_negative: false }
    }

    pub(super) fn to_f64(self) -> f64 {
        let magnitude = self.magnitude as f64;
        if self.is_negative { -magnitude } else { magnitude }
    }

    /// Whether double precision holds all its digits.
    pub(super) fn is_exact(self) -> bool {
        self.magnitude.leading_zeros() + self.magnitude.trailing_zeros() >= u64::BITS - DIGITS_MAX
    }
}

impl std::fmt::Display for Whole {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        write!(formatter, "{sign}{}", self.magnitude)
    }
}

impl Number {
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Number::Whole(whole) => whole.to_f64(),
            Number::Real(real) => real,
        }
    }
}

/// The number in the registers of a field, which are as many as the field is wide. `None` when a digit is no digit.
pub(super) fn read(field: &RegisterField, words: &[u16]) -> Option<Number> {
    let bits = assemble(words, field.order);
    let whole = match field.value {
        RegisterType::F32 => return Some(Number::Real(shortest(f32::from_bits(bits as u32)))),
        RegisterType::F64 => return Some(Number::Real(f64::from_bits(bits))),
        RegisterType::F16 => return Some(Number::Real(half(bits as u16))),
        RegisterType::Bcd4 | RegisterType::Bcd8 | RegisterType::Bcd12 | RegisterType::Bcd16 => {
            decimal(bits, 4 * field.width(), field.sign)?
        }
        RegisterType::U8(Half::High) | RegisterType::I8(Half::High) => of_bits(field, bits >> 8),
        RegisterType::Text { .. } | RegisterType::Time(_) => return None,
        _ => of_bits(field, bits),
    };
    Some(Number::Whole(whole))
}

/// The bits of up to four registers, the most significant first.
fn assemble(words: &[u16], order: ByteOrder) -> u64 {
    let add = |bits: u64, word: &u16| {
        let word = if order.swaps_bytes() { word.swap_bytes() } else { *word };
        bits << 16 | u64::from(word)
    };
    if order.swaps_words() { words.iter().rev().fold(0, add) } else { words.iter().fold(0, add) }
}

/// A whole number of the type's own width, or of some bits of it.
fn of_bits(field: &RegisterField, bits: u64) -> Whole {
    let width = field.value.integer_bits().unwrap_or(16);
    let Bits { from, count } = field.bits.unwrap_or(Bits { from: 0, count: width });
    let mask = u64::MAX >> (64 - u32::from(count.clamp(1, 64)));
    let bits = (bits >> from.min(63)) & mask;
    let sign_bit = (mask >> 1) + 1;
    if !field.value.is_signed() || bits & sign_bit == 0 {
        return Whole::positive(bits);
    }
    let magnitude = match field.sign {
        Sign::Twos => bits.wrapping_neg() & mask,
        Sign::Magnitude => bits & !sign_bit,
    };
    Whole { magnitude, is_negative: true }
}

/// Four bits a digit; the sign, where there is one, is the most significant bit of all.
fn decimal(bits: u64, digits: u16, sign: Sign) -> Option<Whole> {
    let sign_bit = 1 << (4 * digits - 1);
    let (bits, is_negative) = match sign {
        Sign::Magnitude => (bits & !sign_bit, bits & sign_bit != 0),
        Sign::Twos => (bits, false),
    };
    let mut magnitude = 0_u64;
    for position in (0..digits).rev() {
        let digit = bits >> (4 * position) & 0xF;
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + digit;
    }
    Some(Whole { magnitude, is_negative })
}

/// A number of half precision (IEEE 754 binary16), which double precision holds exactly.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3FF);
    let size = match bits >> 10 & 0x1F {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1_024.0 + fraction) * 2_f64.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// 230.2 in single precision is 230.1999969482422; the shortest decimal that means the same single is 230.2.
fn shortest(single: f32) -> f64 {
    if single.is_finite() { single.to_string().parse().unwrap_or_else(|_| f64::from(single)) } else { f64::NAN }
}

/// A number times the power of ten that another register holds; `None` when that cannot be a power of ten.
pub(super) fn to_power(number: Number, power: Number, meaning: PowerMeaning) -> Option<f64> {
    let Number::Whole(Whole { magnitude, is_negative }) = power else { return None };
    let size = i32::try_from(magnitude).ok().filter(|size| *size <= EXPONENT_MAX)?;
    let divides = match meaning {
        PowerMeaning::Exponent => is_negative,
        PowerMeaning::Decimals if is_negative => return None,
        PowerMeaning::Decimals => true,
    };
    let ten = 10_f64.powi(size);
    Some(if divides { number.to_f64() / ten } else { number.to_f64() * ten })
}
