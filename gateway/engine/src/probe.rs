//! What registers may mean: reads the same registers in every type and order and says which reading is plausible.
//!
//! Makers' sheets leave out the order of bytes and words, or count from 1. An installer who knows what the meter
//! shows, or at least the unit, finds the right way to read it here. Pure: the same registers give the same list.

use kerbside_model::RegisterTable;
use kerbside_model::profile::{ByteOrder, RegisterField, RegisterType, TextEncoding};

use crate::decode::{number_in_registers, text_in_registers};

/// Registers that are read together as text when nobody says how many.
const TEXT_REGISTERS: u16 = 4;
/// A number agrees with what was expected when it is off by no more than this share: a display and a register are read
/// a moment apart.
const AGREES_WITHIN: f64 = 0.02;
/// Readings of one second differ by no more than this share of their size, unless the low half is taken for the high.
const STEADY_WITHIN: f64 = 0.1;
/// Powers of ten by which makers scale whole numbers.
const SCALES: [f64; 6] = [1.0, 0.1, 0.01, 0.001, 10.0, 100.0];
/// A number that is off by no more than this share may be measured from another zero, such as the foot of a probe that
/// hangs above the bottom.
const OFFSET_WITHIN: f64 = 0.5;
/// Another address must be better by so much before anybody is sent there: one weighty reason.
const SHIFT_MARGIN: i32 = 20;
/// Where a number lies that somebody would measure in a street, whatever its unit.
const USUAL: (f64, f64) = (1e-3, 1e7);
/// Single precision has seven digits; a measured number has fewer.
const DIGITS_FEW: usize = 5;

/// What is known of the value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hint {
    /// What the device's own display shows.
    pub expected: Option<f64>,
    /// Where the value must lie, in its unit; both ends included.
    pub range: Option<(f64, f64)>,
}

/// Where values of a unit lie at a pole, a cover or a drain; `None` for a unit that nothing is known of. Wide on
/// purpose: a mistake in the order of bytes leaves these ranges far behind.
pub fn range_of_unit(unit: &str) -> Option<(f64, f64)> {
    Some(match unit {
        "V" => (10.0, 500.0),
        "A" => (0.01, 1_000.0),
        "mA" => (0.1, 100_000.0),
        "W" => (0.1, 500_000.0),
        "kW" => (0.001, 500.0),
        "kWh" => (0.01, 10_000_000.0),
        "Hz" => (45.0, 65.0),
        "degC" => (-40.0, 85.0),
        "%" => (0.1, 100.0),
        "mm" => (-2_000.0, 20_000.0),
        "cm" => (-200.0, 2_000.0),
        "m" => (-2.0, 20.0),
        "hPa" => (800.0, 1_100.0),
        "m/s" => (0.0, 75.0),
        "deg" => (0.0, 360.0),
        "dB" => (20.0, 140.0),
        _ => return None,
    })
}

/// One way to read the registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// How they are read.
    pub value: RegisterType,
    /// In which order.
    pub order: ByteOrder,
    /// The value of the last read as it is written.
    pub shown: String,
    /// What the number is to be multiplied with, where the hint says so; 1 otherwise.
    pub scale: f64,
    /// What is to be added to the number, where it seems to be measured from another zero; 0 otherwise.
    pub offset: f64,
    /// The more, the more plausible; below 0 it can hardly be meant.
    pub score: i32,
    /// Why, the weightiest first.
    pub reasons: Vec<Reason>,
}

/// What speaks for or against a way to read registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is what was expected.
    AsExpected,
    /// It is what was expected once it is scaled.
    AsExpectedScaled,
    /// It is not far from what was expected: it may be measured from another zero.
    AsExpectedOffset,
    /// It lies where values of this unit lie.
    InRange,
    /// It lies there once it is scaled.
    InRangeScaled,
    /// It lies elsewhere.
    OutOfRange,
    /// It has as few digits as somebody would measure.
    FewDigits,
    /// It has more digits than somebody would measure.
    ManyDigits,
    /// No device means this: not finite, or too large or too small to be measured.
    Unusual,
    /// It hardly moves from read to read.
    Steady,
    /// It jumps from read to read.
    Jumps,
    /// It is readable text.
    Readable,
    /// The register alone says the same.
    SameAsOne,
    /// Hardly any device uses this type.
    RareType,
    /// All registers are zero, which says nothing.
    Zero,
}

impl Reason {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Reason::AsExpected => "as expected",
            Reason::AsExpectedScaled => "as expected with this scale",
            Reason::AsExpectedOffset => "near what was expected, perhaps measured from another zero",
            Reason::InRange => "within the range of the unit",
            Reason::InRangeScaled => "within the range of the unit with this scale",
            Reason::OutOfRange => "outside the range",
            Reason::FewDigits => "few digits, as measured",
            Reason::ManyDigits => "too many digits to be measured",
            Reason::Unusual => "no size that anybody measures",
            Reason::Steady => "steady",
            Reason::Jumps => "jumps from read to read",
            Reason::Readable => "readable text",
            Reason::SameAsOne => "the other registers add nothing",
            Reason::RareType => "a type that hardly any device uses",
            Reason::Zero => "zero says nothing",
        }
    }

    /// In Chinese.
    pub fn words_zh(self) -> &'static str {
        match self {
            Reason::AsExpected => "与预期一致",
            Reason::AsExpectedScaled => "按此系数与预期一致",
            Reason::AsExpectedOffset => "接近预期，可能零点不同",
            Reason::InRange => "在该单位的范围内",
            Reason::InRangeScaled => "按此系数在该单位的范围内",
            Reason::OutOfRange => "超出范围",
            Reason::FewDigits => "位数少，像测量值",
            Reason::ManyDigits => "位数过多，不像测量值",
            Reason::Unusual => "数值大小不合常理",
            Reason::Steady => "稳定",
            Reason::Jumps => "两次读数间跳变",
            Reason::Readable => "可读文本",
            Reason::SameAsOne => "其余寄存器无意义",
            Reason::RareType => "极少使用的类型",
            Reason::Zero => "全为零，无法判断",
        }
    }

    fn weight(self) -> i32 {
        match self {
            Reason::AsExpected => 100,
            Reason::AsExpectedScaled => 80,
            Reason::AsExpectedOffset => 15,
            Reason::InRange => 40,
            Reason::InRangeScaled => 25,
            Reason::OutOfRange => -40,
            Reason::FewDigits => 20,
            Reason::ManyDigits => -25,
            Reason::Unusual => -60,
            Reason::Steady => 10,
            Reason::Jumps => -30,
            Reason::Readable => 60,
            Reason::SameAsOne => -15,
            Reason::RareType => -20,
            Reason::Zero => 0,
        }
    }
}

/// Every way to read registers, the most plausible first. `reads` are the registers from the address in question on, as
/// they were read one time after another; what fewer registers than a type takes were read for is left out.
pub fn guesses(reads: &[Vec<u16>], hint: &Hint) -> Vec<Guess> {
    let Some(last) = reads.last() else { return Vec::new() };
    let mut guesses: Vec<Guess> =
        fields(last.len()).into_iter().filter_map(|field| guess(&field, reads, hint)).collect();
    // What was listed first is simpler and stays in front among equals.
    guesses.sort_by_key(|guess| -guess.score);
    guesses
}

/// Whether the registers make clearly more sense one address before (-1) or behind (1) the one in question, and how they
/// are read there: sheets that count from 1 are off by one. `reads` begin one register before it.
pub fn better_shift(reads: &[Vec<u16>], hint: &Hint) -> Option<(i32, Guess)> {
    let best_from = |skipped: usize| {
        let reads: Vec<Vec<u16>> = reads.iter().filter_map(|words| words.get(skipped..).map(<[u16]>::to_vec)).collect();
        guesses(&reads, hint).into_iter().next()
    };
    let here = best_from(1)?.score;
    let there = [(-1, best_from(0)), (1, best_from(2))];
    let better = there.into_iter().filter_map(|(shift, guess)| guess.map(|guess| (shift, guess)));
    better.filter(|(_, guess)| guess.score >= here + SHIFT_MARGIN).max_by_key(|(_, guess)| guess.score)
}

/// Every type in every order that so many registers allow, the simplest first.
fn fields(registers: usize) -> Vec<RegisterField> {
    use ByteOrder::{Abcd, Badc, Cdab, Dcba};
    use RegisterType::{Bcd4, Bcd8, F16, F32, F64, I16, I32, I64, U16, U32, U64};
    let text = RegisterType::Text { registers: TEXT_REGISTERS, encoding: TextEncoding::Ascii };
    let table: [(&[RegisterType], &[ByteOrder]); 3] = [
        (&[U16, I16], &[Abcd, Badc]),
        (&[F32, U32, I32, F64, U64, I64], &[Abcd, Cdab, Badc, Dcba]),
        (&[Bcd4, Bcd8, F16, text], &[Abcd, Badc]),
    ];
    let fits = |value: &RegisterType| usize::from(value.width()) <= registers;
    let mut fields = Vec::new();
    for (types, orders) in table {
        for value in types.iter().copied().filter(fits) {
            let in_order = |order: &ByteOrder| RegisterField {
                order: *order,
                ..RegisterField::new(RegisterTable::Holding, 0, value)
            };
            fields.extend(orders.iter().map(in_order));
        }
    }
    fields
}

fn guess(field: &RegisterField, reads: &[Vec<u16>], hint: &Hint) -> Option<Guess> {
    let width = usize::from(field.width());
    let words = reads.last()?.get(..width)?;
    let (fit, shown, mut reasons) = if matches!(field.value, RegisterType::Text { .. }) {
        let text = text_in_registers(field, words)?;
        let letters = text.chars().count();
        if letters < 2 {
            return None;
        }
        let is_word = text.chars().all(|letter| letter.is_ascii_alphanumeric() || " -_.:/".contains(letter));
        // Two letters stand in every second number.
        let is_word = is_word && letters > 4;
        (Fit::NONE, text, if is_word { vec![Reason::Readable] } else { vec![Reason::Unusual] })
    } else {
        let (number, shown) = number_in_registers(field, words)?;
        let (fit, mut reasons) = judge(number, hint);
        reasons.extend(size(field, words, number, &shown));
        // A meter that averages has all digits; where the number fits as it is, they speak no more against it.
        if reasons.iter().any(|reason| matches!(reason, Reason::AsExpected | Reason::InRange)) {
            reasons.retain(|reason| *reason != Reason::ManyDigits);
        }
        if field.value == RegisterType::F16 {
            reasons.push(Reason::RareType);
        }
        (fit, shown, reasons)
    };
    reasons.extend(steadiness(field, reads));
    reasons.sort_by_key(|reason| -reason.weight().abs());
    // The further the scale is from 1, the more a fit is chance.
    let strain = 3 * fit.scale.log10().abs().round() as i32;
    let score = reasons.iter().map(|reason| reason.weight()).sum::<i32>() - strain;
    let Fit { scale, offset } = fit;
    Some(Guess { value: field.value, order: field.order, shown, scale, offset, score, reasons })
}

/// What makes a number fit the hint.
#[derive(Clone, Copy, Debug)]
struct Fit {
    scale: f64,
    offset: f64,
}

impl Fit {
    const NONE: Fit = Fit { scale: 1.0, offset: 0.0 };

    fn scaled(scale: f64) -> Fit {
        Fit { scale, offset: 0.0 }
    }
}

/// What the hint says of a number, and what makes it fit.
fn judge(number: f64, hint: &Hint) -> (Fit, Vec<Reason>) {
    if !number.is_finite() || number == 0.0 {
        return (Fit::NONE, Vec::new());
    }
    if let Some(expected) = hint.expected {
        let agrees = |scale: &&f64| (number * **scale - expected).abs() <= AGREES_WITHIN * expected.abs();
        return match SCALES.iter().find(agrees) {
            Some(scale) if *scale == 1.0 => (Fit::NONE, vec![Reason::AsExpected]),
            Some(scale) => (Fit::scaled(*scale), vec![Reason::AsExpectedScaled]),
            // Any number is near another one once it is scaled, so only the plain number counts.
            None if (number - expected).abs() <= OFFSET_WITHIN * expected.abs() => {
                (Fit { scale: 1.0, offset: expected - number }, vec![Reason::AsExpectedOffset])
            }
            None => (Fit::NONE, vec![Reason::OutOfRange]),
        };
    }
    let Some((min, max)) = hint.range else { return (Fit::NONE, Vec::new()) };
    match SCALES.iter().find(|scale| (min..=max).contains(&(number * **scale))) {
        Some(scale) if *scale == 1.0 => (Fit::NONE, vec![Reason::InRange]),
        Some(scale) => (Fit::scaled(*scale), vec![Reason::InRangeScaled]),
        None => (Fit::NONE, vec![Reason::OutOfRange]),
    }
}

/// What the number says by itself.
fn size(field: &RegisterField, words: &[u16], number: f64, shown: &str) -> Vec<Reason> {
    if words.iter().all(|word| *word == 0) {
        return vec![Reason::Zero];
    }
    let is_usual = number.is_finite() && (number == 0.0 || (USUAL.0..=USUAL.1).contains(&number.abs()));
    if !is_usual {
        return vec![Reason::Unusual];
    }
    let is_real = matches!(field.value, RegisterType::F16 | RegisterType::F32 | RegisterType::F64);
    if is_real {
        let digits = shown.bytes().filter(u8::is_ascii_digit).count();
        return vec![if digits <= DIGITS_FEW { Reason::FewDigits } else { Reason::ManyDigits }];
    }
    // Two registers of which one is empty say no more than the other.
    let is_padded = words.len() > 1 && words.iter().filter(|word| !matches!(**word, 0 | u16::MAX)).count() <= 1;
    if is_padded { vec![Reason::SameAsOne] } else { Vec::new() }
}

/// Whether the number stays about the same from read to read.
fn steadiness(field: &RegisterField, reads: &[Vec<u16>]) -> Option<Reason> {
    let width = usize::from(field.width());
    let numbers: Vec<f64> = reads
        .iter()
        .filter_map(|words| number_in_registers(field, words.get(..width)?))
        .map(|(number, _)| number)
        .filter(|number| number.is_finite())
        .collect();
    if numbers.len() < 2 || numbers.len() < reads.len() {
        return None;
    }
    let largest = numbers.iter().fold(0.0_f64, |largest, number| largest.max(number.abs()));
    let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(if high - low <= STEADY_WITHIN * largest { Reason::Steady } else { Reason::Jumps })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(reads: &[&[u16]], hint: Hint) -> Guess {
        let reads: Vec<Vec<u16>> = reads.iter().map(|words| words.to_vec()).collect();
        guesses(&reads, &hint).swap_remove(0)
    }

    fn check(words: &[u16], hint: Hint, value: RegisterType, order: ByteOrder, scale: f64) {
        let guess = first(&[words], hint);
        assert_eq!((guess.value, guess.order, guess.scale), (value, order, scale), "{words:04x?}: {guess:?}");
    }

    #[test]
    fn a_voltage_in_single_precision_is_found_in_every_order_without_a_hint() {
        // 230.2 as IEEE 754 single precision is 0x43663333.
        check(&[0x4366, 0x3333], Hint::default(), RegisterType::F32, ByteOrder::Abcd, 1.0);
        check(&[0x3333, 0x4366], Hint::default(), RegisterType::F32, ByteOrder::Cdab, 1.0);
        check(&[0x6643, 0x3333], Hint::default(), RegisterType::F32, ByteOrder::Badc, 1.0);
        check(&[0x3333, 0x6643], Hint::default(), RegisterType::F32, ByteOrder::Dcba, 1.0);
    }

    #[test]
    fn what_the_display_shows_decides() {
        let shows = |expected| Hint { expected: Some(expected), range: None };
        check(&[2302, 0], shows(230.2), RegisterType::U16, ByteOrder::Abcd, 0.1);
        check(&[0, 2302], shows(2302.0), RegisterType::U32, ByteOrder::Abcd, 1.0);
        check(&[0xFFF6, 17], shows(-10.0), RegisterType::I16, ByteOrder::Abcd, 1.0);
        check(&[0x1234, 0x5678], shows(12_345_678.0), RegisterType::Bcd8, ByteOrder::Abcd, 1.0);
        check(&[0x4060, 0x2000, 0, 0], shows(129.0), RegisterType::F64, ByteOrder::Abcd, 1.0);
    }

    #[test]
    fn the_unit_decides_where_the_display_is_out_of_sight() {
        let unit = |unit| Hint { expected: None, range: range_of_unit(unit) };
        check(&[5003, 77], unit("Hz"), RegisterType::U16, ByteOrder::Abcd, 0.01);
        check(&[0xFF38, 0x1111], unit("degC"), RegisterType::I16, ByteOrder::Abcd, 0.1);
        assert_eq!(range_of_unit("furlong"), None);
    }

    #[test]
    fn a_serial_number_is_read_as_text() {
        let words = [*b"KB", *b"-1", *b"07", *b"A2"].map(u16::from_be_bytes);
        let guess = first(&[&words], Hint::default());
        assert!(matches!(guess.value, RegisterType::Text { .. }), "{guess:?}");
        assert_eq!(guess.shown, "KB-107A2");
    }

    #[test]
    fn a_low_half_that_is_taken_for_the_high_one_jumps() {
        // A counter goes from 65,530 to 65,540 and on: as words swapped it would leap by billions.
        let reads: [&[u16]; 3] = [&[0, 65_530], &[1, 4], &[1, 14]];
        let reads: Vec<Vec<u16>> = reads.iter().map(|words| words.to_vec()).collect();
        let all = guesses(&reads, &Hint::default());
        let of = |order| {
            all.iter().find(|guess| guess.value == RegisterType::U32 && guess.order == order).expect("it is listed")
        };
        assert!(of(ByteOrder::Abcd).reasons.contains(&Reason::Steady));
        assert!(of(ByteOrder::Cdab).reasons.contains(&Reason::Jumps));
        assert!(of(ByteOrder::Abcd).score > of(ByteOrder::Cdab).score);
    }

    #[test]
    fn a_number_that_is_not_far_off_suggests_another_zero() {
        // A probe that hangs 26 mm above the bottom.
        let guess = first(&[&[153, 0]], Hint { expected: Some(127.0), range: None });
        assert_eq!((guess.value, guess.scale, guess.offset), (RegisterType::U16, 1.0, -26.0), "{guess:?}");
        assert!(guess.reasons.contains(&Reason::AsExpectedOffset));
        let exact = first(&[&[153, 0]], Hint { expected: Some(153.0), range: None });
        assert_eq!((exact.offset, exact.reasons[0]), (0.0, Reason::AsExpected));
    }

    #[test]
    fn an_address_that_counts_from_one_is_noticed() {
        let volts = Hint { expected: None, range: range_of_unit("V") };
        let shift =
            |words: &[u16], hint| better_shift(&[words.to_vec()], &hint).map(|(shift, guess)| (shift, guess.value));
        // The voltage as f32, and registers around it that are none: found one before, one behind, and right here.
        assert_eq!(shift(&[0x4366, 0x3333, 0x9C01, 0xE0A7], volts), Some((-1, RegisterType::F32)));
        assert_eq!(shift(&[0x9C01, 0xE0A7, 0x4366, 0x3333], volts), Some((1, RegisterType::F32)));
        assert_eq!(shift(&[0x9C01, 0x4366, 0x3333, 0xE0A7], volts), None);
        assert_eq!(shift(&[17], volts), None);
    }

    #[test]
    fn too_few_registers_leave_wide_types_out_and_none_give_nothing() {
        assert!(guesses(&[], &Hint::default()).is_empty());
        assert!(guesses(&[Vec::new()], &Hint::default()).is_empty());
        let narrow = guesses(&[vec![7]], &Hint::default());
        assert!(!narrow.is_empty() && narrow.iter().all(|guess| guess.value.width() == 1));
    }

    #[test]
    fn every_reason_is_told_in_both_languages_and_the_weightiest_first() {
        let guess = first(&[&[0x4366, 0x3333], &[0x4366, 0x3334]], Hint { expected: Some(230.0), range: None });
        assert_eq!(guess.reasons[0], Reason::AsExpected);
        assert!(guess.reasons.iter().all(|reason| !reason.words().is_empty() && !reason.words_zh().is_empty()));
    }
}
