use std::sync::Arc;

use kerbside_model::document::Problems;
use kerbside_model::profile::{
    Bits, ByteOrder, Half, PowerMeaning, Profile, RegisterType, Sign, TextEncoding, TimeForm, TimePart, TimeParts,
    parse_profile_text,
};
use kerbside_model::{Payload, RegisterBlock, RegisterTable, Timestamp};
use proptest::prelude::*;

use super::number::{Whole, to_power};
use super::*;
use crate::sample::{DecodedFrame, SingleFrame, decode_single};

const ORDERS: [ByteOrder; 4] = [ByteOrder::Abcd, ByteOrder::Cdab, ByteOrder::Badc, ByteOrder::Dcba];

fn field(value: RegisterType, order: ByteOrder) -> RegisterField {
    RegisterField { order, ..RegisterField::new(RegisterTable::Holding, 0, value) }
}

fn number(value: RegisterType, order: ByteOrder, words: &[u16]) -> f64 {
    number::read(&field(value, order), words).unwrap().to_f64()
}

/// Bytes, the most significant first, as they stand in registers: in another way than the reader has it.
fn registers(bytes: &[u8], order: ByteOrder) -> Vec<u16> {
    let mut pairs: Vec<[u8; 2]> = bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    match order {
        ByteOrder::Abcd => {}
        ByteOrder::Cdab => pairs.reverse(),
        ByteOrder::Badc => pairs.iter_mut().for_each(|pair| pair.reverse()),
        ByteOrder::Dcba => {
            let turned: Vec<u8> = bytes.iter().rev().copied().collect();
            pairs = turned.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        }
    }
    pairs.into_iter().map(u16::from_be_bytes).collect()
}

#[test]
fn all_four_orders_give_the_same_number() {
    // 230.2 as IEEE 754 single precision is 0x43663333, as double 0x406CC66666666666.
    let singles = [[0x4366, 0x3333], [0x3333, 0x4366], [0x6643, 0x3333], [0x3333, 0x6643]];
    let doubles = [
        [0x406C, 0xC666, 0x6666, 0x6666],
        [0x6666, 0x6666, 0xC666, 0x406C],
        [0x6C40, 0x66C6, 0x6666, 0x6666],
        [0x6666, 0x6666, 0x66C6, 0x6C40],
    ];
    for ((order, single), double) in ORDERS.into_iter().zip(singles).zip(doubles) {
        assert_eq!(number(RegisterType::F32, order, &single), 230.2, "{order:?}");
        assert_eq!(number(RegisterType::F64, order, &double), 230.2, "{order:?}");
    }
}

#[test]
fn whole_numbers_have_their_sign_and_width() {
    use ByteOrder::{Abcd, Badc, Cdab};
    let cases: [(RegisterType, ByteOrder, &[u16], f64); 13] = [
        (RegisterType::I16, Abcd, &[0xFFF6], -10.0),
        (RegisterType::U16, Badc, &[0x0100], 1.0),
        (RegisterType::U32, Abcd, &[1, 2], 65_538.0),
        (RegisterType::I32, Cdab, &[0xFFFE, 0xFFFF], -2.0),
        (RegisterType::U8(Half::High), Abcd, &[0x12F0], 18.0),
        (RegisterType::U8(Half::Low), Abcd, &[0x12F0], 240.0),
        (RegisterType::I8(Half::Low), Abcd, &[0x12F0], -16.0),
        (RegisterType::U48, Abcd, &[1, 0, 0], 4_294_967_296.0),
        (RegisterType::I48, Abcd, &[0xFFFF, 0xFFFF, 0xFFFD], -3.0),
        (RegisterType::U64, Cdab, &[5, 0, 0, 0], 5.0),
        (RegisterType::I64, Abcd, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFB], -5.0),
        (RegisterType::I64, Abcd, &[0x8000, 0, 0, 0], -9_223_372_036_854_775_808.0),
        (RegisterType::I16, Abcd, &[0x8000], -32_768.0),
    ];
    for (value, order, words, expected) in cases {
        assert_eq!(number(value, order, words), expected, "{value:?} {order:?} {words:x?}");
    }
}

#[test]
fn half_precision_is_read_exactly() {
    // From the table of examples of IEEE 754 binary16.
    let cases = [
        (0x3C00, 1.0),
        (0xC000, -2.0),
        (0x7BFF, 65_504.0),
        (0x0400, 2_f64.powi(-14)),
        (0x0001, 2_f64.powi(-24)),
        (0x3555, 0.333_251_953_125),
        (0x8000, 0.0),
        (0x7C00, f64::INFINITY),
        (0xFC00, f64::NEG_INFINITY),
    ];
    for (bits, expected) in cases {
        assert_eq!(number(RegisterType::F16, ByteOrder::Abcd, &[bits]), expected, "{bits:#x}");
    }
    assert!(number(RegisterType::F16, ByteOrder::Abcd, &[0x7E00]).is_nan());
}

#[test]
fn decimal_digits_are_read_and_others_refused() {
    assert_eq!(number(RegisterType::Bcd4, ByteOrder::Abcd, &[0x1234]), 1_234.0);
    assert_eq!(number(RegisterType::Bcd8, ByteOrder::Cdab, &[0x5678, 0x1234]), 12_345_678.0);
    assert_eq!(number(RegisterType::Bcd12, ByteOrder::Abcd, &[1, 2, 3]), 100_020_003.0);
    assert_eq!(number(RegisterType::Bcd16, ByteOrder::Abcd, &[0, 0, 0, 0x9999]), 9_999.0);
    for word in [0x12A4, 0xFFFF, 0xA000, 0x000F] {
        assert_eq!(number::read(&field(RegisterType::Bcd4, ByteOrder::Abcd), &[word]), None, "{word:#x}");
    }
    let signed = RegisterField { sign: Sign::Magnitude, ..field(RegisterType::Bcd8, ByteOrder::Abcd) };
    assert_eq!(number::read(&signed, &[0x8000, 0x0123]).unwrap().to_f64(), -123.0);
    assert_eq!(number::read(&signed, &[0x0000, 0x0123]).unwrap().to_f64(), 123.0);
}

#[test]
fn bits_and_magnitudes_are_taken_out_of_the_number() {
    let check = |value, bits: Option<(u8, u8)>, sign, words: &[u16], expected: f64| {
        let bits = bits.map(|(from, count)| Bits { from, count });
        let field = RegisterField { bits, sign, ..field(value, ByteOrder::Abcd) };
        assert_eq!(number::read(&field, words).unwrap().to_f64(), expected, "{field:?} {words:x?}");
    };
    check(RegisterType::U16, Some((3, 1)), Sign::Twos, &[0b1000], 1.0);
    check(RegisterType::U16, Some((3, 1)), Sign::Twos, &[0b0111], 0.0);
    check(RegisterType::U16, Some((4, 3)), Sign::Twos, &[0b0101_0000], 5.0);
    check(RegisterType::U32, Some((28, 4)), Sign::Twos, &[0xA000, 0], 10.0);
    check(RegisterType::U64, Some((0, 64)), Sign::Twos, &[0, 0, 1, 0], 65_536.0);
    check(RegisterType::I16, Some((4, 12)), Sign::Twos, &[0xFFF7], -1.0);
    check(RegisterType::U8(Half::High), Some((4, 4)), Sign::Twos, &[0x3F00], 3.0);
    check(RegisterType::I16, None, Sign::Magnitude, &[0x800A], -10.0);
    check(RegisterType::I32, None, Sign::Magnitude, &[0x8000, 1], -1.0);
    check(RegisterType::I16, None, Sign::Magnitude, &[0x000A], 10.0);
}

#[test]
fn a_power_of_ten_scales_without_a_second_rounding() {
    let whole = |magnitude, is_negative| Number::Whole(Whole { magnitude, is_negative });
    let check = |raw: Number, power: Number, meaning, expected| {
        assert_eq!(to_power(raw, power, meaning), expected, "{raw:?} {power:?} {meaning:?}");
    };
    use PowerMeaning::{Decimals, Exponent};
    check(whole(3, false), whole(1, true), Exponent, Some(0.3));
    check(whole(153, false), whole(1, false), Decimals, Some(15.3));
    check(whole(153, true), whole(3, false), Decimals, Some(-0.153));
    check(whole(12, false), whole(3, false), Exponent, Some(12_000.0));
    check(whole(12, false), whole(0, false), Decimals, Some(12.0));
    check(whole(1, false), whole(23, false), Exponent, None);
    check(whole(1, false), whole(1, true), Decimals, None);
    check(whole(1, false), Number::Real(1.0), Exponent, None);
}

#[test]
fn text_ends_where_its_filling_begins() {
    use TextEncoding::{Ascii, Gbk, Utf8};
    let check = |bytes: &[u8], encoding, expected: Option<&str>| {
        assert_eq!(text::read(bytes, encoding).as_deref(), expected, "{bytes:x?} {encoding:?}");
    };
    check(b"SDM120\0\0", Ascii, Some("SDM120"));
    check(b"  SDM 120   ", Ascii, Some("SDM 120"));
    check(b"\0\0", Ascii, Some(""));
    check(b"A\0B", Ascii, Some("A"));
    check(b"\xFF\xFF", Ascii, None);
    check("井盖".as_bytes(), Utf8, Some("井盖"));
    check("井盖".as_bytes(), Ascii, None);
    check(b"\xBE\xAE\xB8\xC7\0\0", Gbk, Some("井盖"));
    check(b"\xBE", Gbk, None);
    check(b"a\nb", Ascii, None);
}

fn at(text: &str) -> Option<Timestamp> {
    let time = Timestamp::parse(text);
    assert!(time.is_some(), "{text}");
    time
}

#[test]
fn times_are_read_in_every_form() {
    use TimePart::{Century, Day, Hour, Minute, Month, Second, Skip, Year};
    let zone = Zone::named("Asia/Shanghai");
    let read = |form, words: &[u16]| moment::read(form, ByteOrder::Abcd, zone.as_ref(), words);
    let usual = TimeParts::default();
    let expected = at("2026-11-22T08:30:15+08:00");
    assert_eq!(read(TimeForm::Words(usual), &[2026, 11, 22, 8, 30, 15]), expected);
    assert_eq!(read(TimeForm::Words(usual), &[26, 11, 22, 8, 30, 15]), expected);
    assert_eq!(read(TimeForm::Bytes(usual), &[0x1A0B, 0x1608, 0x1E0F]), expected);
    assert_eq!(read(TimeForm::Bcd(usual), &[0x2611, 0x2208, 0x3015]), expected);
    let turned = TimeParts::new(&[Second, Minute, Hour, Day, Skip, Month, Year, Century]).unwrap();
    assert_eq!(read(TimeForm::Bcd(turned), &[0x1530, 0x0822, 0xFF11, 0x2620]), expected);
    let day = TimeParts::new(&[Year, Month, Day]).unwrap();
    assert_eq!(read(TimeForm::Words(day), &[2026, 11, 22]), at("2026-11-22T00:00:00+08:00"));
    assert_eq!(read(TimeForm::Seconds, &[0x6923, 0x52C7]), Some(Timestamp(0x6923_52C7 * 1_000)));
    assert_eq!(read(TimeForm::Milliseconds, &[0, 0, 1, 1]), Some(Timestamp(65_537)));
    for words in [[0, 0, 0], [0x2613, 0x2208, 0x3015], [0x2611, 0x3108, 0x3015], [0x26AA, 0x2208, 0x3015]] {
        assert_eq!(read(TimeForm::Bcd(usual), &words), None, "{words:x?}");
    }
    assert_eq!(read(TimeForm::Milliseconds, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF]), None);
    let little = moment::read(TimeForm::Seconds, ByteOrder::Cdab, zone.as_ref(), &[0x52C7, 0x6923]);
    assert_eq!(little, Some(Timestamp(0x6923_52C7 * 1_000)));
}

fn profile(payload: &str, points: &str) -> Arc<Profile> {
    let text = format!(
        "profile: unit\nversion: 1\nkind: meter\nvendor: Acme\nmodel: X\npayload: {{format: registers{payload}}}\n\
         points:\n{points}\
         samples:\n  - {{name: good, registers: {{holding: {{900: [1]}}}}, readings: {{ok: 1}}}}\n  \
         - {{name: bad, registers: {{failures: [{{table: holding, address: 900, cause: timeout}}]}}, readings: {{ok: null}}}}\n"
    );
    let text = text.replace("samples:", "  - {name: ok, register: {table: holding, address: 900}}\nsamples:");
    let problems = Problems::default();
    let profile = parse_profile_text("unit.yaml", &text, &problems);
    Arc::new(profile.unwrap_or_else(|| panic!("{:#?}", problems.into_sorted())))
}

fn decode(profile: &Arc<Profile>, blocks: &[(u16, &[u16])]) -> DecodedFrame {
    let block = |(address, words): &(u16, &[u16])| RegisterBlock {
        table: RegisterTable::Holding,
        address: *address,
        words: words.to_vec(),
    };
    let read = RegisterRead { blocks: blocks.iter().map(block).collect(), failures: Vec::new() };
    let frame = SingleFrame { payload: &Payload::Registers(read), port: None, envelope: None, mount_height_mm: None };
    decode_single(profile, &frame).unwrap()
}

/// Value, flag and cause of each reading, as people see them.
fn shown(decoded: &DecodedFrame) -> Vec<String> {
    let show = |reading: &PointReading| {
        let value = reading.value.as_ref().map_or("-".to_owned(), Value::to_string);
        format!("{value} {} {}", reading.quality.flag.name(), reading.quality.cause.name()).trim_end().to_owned()
    };
    decoded.readings.iter().map(show).collect()
}

#[test]
fn numbers_with_too_many_digits_are_suspect_and_whole_as_text() {
    let profile = profile(
        "",
        "  - {name: a, register: {table: holding, address: 0, type: u64}}\n  \
         - {name: b, type: text, register: {table: holding, address: 0, type: u64}}\n  \
         - {name: c, register: {table: holding, address: 4, type: i64}}\n  \
         - {name: d, type: text, register: {table: holding, address: 4, type: i64}}\n  \
         - {name: e, register: {table: holding, address: 8, type: bcd16}, scale: 0.001}\n",
    );
    // 2^53 + 1; the least number of 64 bits, which is a power of two and shown as short as it can be; sixteen nines.
    let words = [0x20, 0, 0, 1, 0x8000, 0, 0, 0, 0x9999, 0x9999, 0x9999, 0x9999];
    assert_eq!(
        shown(&decode(&profile, &[(0, &words)])),
        [
            "9007199254740992 suspect rounded",
            "9007199254740993 good",
            "-9223372036854776000 good",
            "-9223372036854775808 good",
            "10000000000000 suspect rounded",
        ]
    );
}

#[test]
fn marks_are_of_the_raw_number_before_power_and_scale() {
    let profile = profile(
        "",
        "  - {name: a, register: {table: holding, address: 0, type: i16, decimals: {address: 1}}, invalid: 0x7FFF, scale: 10}\n  \
         - {name: b, register: {table: holding, address: 2, type: f32}, invalid: [nan, -999]}\n  \
         - {name: c, register: {table: holding, address: 4, type: bcd4}}\n  \
         - {name: d, type: enumeration, register: {table: holding, address: 5, bits: {from: 8, count: 2}}, map: {0: off, 1: dim, 2: lit}}\n  \
         - {name: e, type: text, register: {table: holding, address: 6, type: text, length: 2}}\n",
    );
    let words = [153, 1, 0x7FC0, 0, 0x12A4, 0x0200, 0x5647, 0x0000];
    let good = ["153 good", "- missing invalid", "- bad type", "lit good", "VG good"];
    assert_eq!(shown(&decode(&profile, &[(0, &words)])), good);
    let words = [0x7FFF, 1, 0xC479, 0xC000, 0x0099, 0x0300, 0, 0];
    let marked = ["- missing invalid", "- missing invalid", "99 good", "- bad type", "- missing invalid"];
    assert_eq!(shown(&decode(&profile, &[(0, &words)])), marked);
    let words = [1, 99];
    assert_eq!(shown(&decode(&profile, &[(0, &words)])), ["- bad type"], "there is no such power of ten");
}

#[test]
fn a_field_whose_registers_lie_in_two_answers_is_not_guessed() {
    let profile = profile("", "  - {name: a, register: {table: holding, address: 3, type: u32}}\n");
    let decoded = decode(&profile, &[(900, &[7]), (0, &[0, 0, 0, 1]), (4, &[2])]);
    assert_eq!(shown(&decoded), ["7 good"]);
    assert_eq!(shown(&decode(&profile, &[(900, &[7]), (2, &[0, 0, 9])])), ["9 good", "7 good"]);
}

#[test]
fn a_unit_tells_its_own_time() {
    let payload = ", zone: Asia/Urumqi, time: {register: {table: holding, address: 0, form: bcd}}";
    let profile =
        profile(payload, "  - {name: t, type: text, register: {table: holding, address: 0, type: time, form: bcd}}\n");
    let decoded = decode(&profile, &[(0, &[0x2611, 0x2208, 0x3015]), (900, &[1])]);
    assert_eq!(decoded.observed_at, at("2026-11-22T08:30:15+06:00"));
    assert_eq!(shown(&decoded), ["2026-11-22T02:30:15.000Z good", "1 good"]);
    let unset = decode(&profile, &[(0, &[0, 0, 0]), (900, &[1])]);
    assert_eq!((unset.observed_at, shown(&unset)), (None, vec!["- bad type".to_owned(), "1 good".to_owned()]));
}

fn whole_type() -> impl Strategy<Value = RegisterType> {
    use RegisterType::{I8, I16, I32, I48, I64, U8, U16, U32, U48, U64};
    let halves = [Half::High, Half::Low];
    let types: Vec<RegisterType> = [U16, I16, U32, I32, U48, I48, U64, I64]
        .into_iter()
        .chain(halves.into_iter().flat_map(|half| [U8(half), I8(half)]))
        .collect();
    prop::sample::select(types)
}

/// The bytes of a whole number of a type, the most significant first. The other byte of a register is filled.
fn bytes_of(value: RegisterType, bits: u64) -> Vec<u8> {
    let all = bits.to_be_bytes();
    match value {
        RegisterType::U8(Half::High) | RegisterType::I8(Half::High) => vec![all[7], 0xA5],
        RegisterType::U8(Half::Low) | RegisterType::I8(Half::Low) => vec![0xA5, all[7]],
        _ => all[8 - 2 * usize::from(value.width())..].to_vec(),
    }
}

proptest! {
    #[test]
    fn whole_numbers_come_back_in_every_order(value in whole_type(), random in any::<u64>(), order in prop::sample::select(ORDERS.to_vec())) {
        let width = u32::from(value.integer_bits().unwrap());
        let bits = random >> (64 - width);
        let words = registers(&bytes_of(value, bits), order);
        let expected = if value.is_signed() {
            i128::from((bits << (64 - width)).cast_signed() >> (64 - width))
        } else {
            i128::from(bits)
        };
        let Some(Number::Whole(whole)) = number::read(&field(value, order), &words) else { panic!("{value:?}") };
        prop_assert_eq!(whole.to_string(), expected.to_string());
        prop_assert_eq!(whole.to_f64(), expected as f64);
        prop_assert_eq!(whole.is_exact(), whole.to_f64() as i128 == expected);
    }

    #[test]
    fn magnitudes_with_a_sign_come_back(random in any::<u64>(), is_negative in any::<bool>(), order in prop::sample::select(ORDERS.to_vec())) {
        for value in [RegisterType::I16, RegisterType::I32, RegisterType::I48, RegisterType::I64] {
            let width = u32::from(value.integer_bits().unwrap());
            let magnitude = random >> (65 - width);
            let bits = magnitude | u64::from(is_negative) << (width - 1);
            let field = RegisterField { sign: Sign::Magnitude, ..field(value, order) };
            let read = number::read(&field, &registers(&bytes_of(value, bits), order));
            prop_assert_eq!(read, Some(Number::Whole(Whole { magnitude, is_negative })));
        }
    }

    #[test]
    fn floats_come_back_in_every_order(single in any::<f32>(), double in any::<f64>(), order in prop::sample::select(ORDERS.to_vec())) {
        let read = number(RegisterType::F64, order, &registers(&double.to_be_bytes(), order));
        prop_assert!(read == double || double.is_nan() && read.is_nan());
        let read = number(RegisterType::F32, order, &registers(&single.to_be_bytes(), order));
        prop_assert!(read as f32 == single || !single.is_finite() && read.is_nan());
    }

    #[test]
    fn decimal_digits_come_back_in_every_order(random in 0_u64..10_000_000_000_000_000, order in prop::sample::select(ORDERS.to_vec())) {
        let types = [(RegisterType::Bcd4, 4), (RegisterType::Bcd8, 8), (RegisterType::Bcd12, 12), (RegisterType::Bcd16, 16)];
        for (value, digits) in types {
            let magnitude = random % 10_u64.pow(digits);
            let bits = u64::from_str_radix(&magnitude.to_string(), 16).unwrap();
            let words = registers(&bits.to_be_bytes()[8 - digits as usize / 2..], order);
            let read = number::read(&field(value, order), &words);
            prop_assert_eq!(read, Some(Number::Whole(Whole { magnitude, is_negative: false })));
        }
    }

    #[test]
    fn texts_come_back_in_every_order(letters in "[!-~]([ -~]{0,18}[!-~])?", order in prop::sample::select(ORDERS.to_vec()), filling in prop::sample::select(vec![0_u8, b' '])) {
        let mut bytes = letters.clone().into_bytes();
        bytes.resize(20, filling);
        let wire = text::WireBytes::of(&registers(&bytes, order), order);
        let read = text::read(wire.as_slice(), TextEncoding::Ascii);
        prop_assert_eq!(read.as_deref(), Some(letters.as_str()));
    }

    #[test]
    fn times_come_back_in_every_form_and_order(seconds in 946_684_800_i64..4_102_444_799, order in prop::sample::select(ORDERS.to_vec())) {
        // Years 2000 to 2099, in UTC: Timestamp writes what the registers hold.
        let expected = Timestamp(seconds * 1_000);
        let text = expected.to_string();
        let parts: Vec<u16> = text[2..19].split(['-', 'T', ':']).map(|part| part.parse().unwrap()).collect();
        let zone = Zone::named("UTC");
        let read = |form, bytes: &[u8]| moment::read(form, order, zone.as_ref(), &registers(bytes, order));
        let words: Vec<u8> = parts.iter().flat_map(|part| part.to_be_bytes()).collect();
        let bytes: Vec<u8> = parts.iter().map(|part| *part as u8).collect();
        let digits: Vec<u8> = parts.iter().map(|part| u8::from_str_radix(&part.to_string(), 16).unwrap()).collect();
        let usual = TimeParts::default();
        prop_assert_eq!(read(TimeForm::Words(usual), &words), Some(expected));
        prop_assert_eq!(read(TimeForm::Bytes(usual), &bytes), Some(expected));
        prop_assert_eq!(read(TimeForm::Bcd(usual), &digits), Some(expected));
        prop_assert_eq!(read(TimeForm::Seconds, &(seconds as u32).to_be_bytes()), Some(expected));
        prop_assert_eq!(read(TimeForm::Milliseconds, &expected.0.to_be_bytes()), Some(expected));
    }
}
