use super::*;
use crate::document::{self, Problems};
use crate::profile::{Half, Origin, PayloadFormat, TextEncoding, TimeForm, TimePart, TimeParts, parse_profile_text};

const HEAD: &str = "profile: unit\nversion: 1\nkind: meter\nvendor: Acme\nmodel: X\n";
const SAMPLES: &str = "samples:\n\
    \x20 - {name: good, registers: {holding: {0: [1]}}, readings: {a: 1}}\n\
    \x20 - {name: bad, registers: {failures: [{table: holding, address: 0, cause: timeout}]}, readings: {a: null}}\n";

/// Reads one `register`.
fn read(text: &str) -> Result<RegisterField, Vec<String>> {
    let problems = Problems::default();
    let node = document::parse("p", &format!("register: {text}"), &|_| None, &problems).unwrap();
    let top = Section::top("p", &node, &problems);
    let format_node = document::parse("p", "", &|_| None, &problems).unwrap();
    let format = read_format(&Section::top("p", &format_node, &problems));
    let field = read_register(&top.section("register").unwrap(), &format, ValueType::Text);
    if problems.is_empty() { Ok(field) } else { Err(problems.into_sorted().iter().map(ToString::to_string).collect()) }
}

#[track_caller]
fn refused(text: &str, key: &str, what: &str, mend: &str) {
    let problems = read(text).expect_err(text);
    let is_wanted = |line: &String| line.contains(&format!("register{key}")) && line.contains(what);
    let found = problems.iter().find(|line| is_wanted(line));
    assert!(found.is_some_and(|line| line.contains(mend)), "{text} gave {problems:#?}");
}

fn holding(address: u16, value: RegisterType) -> RegisterField {
    RegisterField::new(RegisterTable::Holding, address, value)
}

#[test]
fn every_type_is_read_with_its_width() {
    let types = [
        ("u16", RegisterType::U16, 1),
        ("i16", RegisterType::I16, 1),
        ("u32", RegisterType::U32, 2),
        ("i32", RegisterType::I32, 2),
        ("u48", RegisterType::U48, 3),
        ("i48", RegisterType::I48, 3),
        ("u64", RegisterType::U64, 4),
        ("i64", RegisterType::I64, 4),
        ("f16", RegisterType::F16, 1),
        ("f32", RegisterType::F32, 2),
        ("f64", RegisterType::F64, 4),
        ("bcd4", RegisterType::Bcd4, 1),
        ("bcd8", RegisterType::Bcd8, 2),
        ("bcd12", RegisterType::Bcd12, 3),
        ("bcd16", RegisterType::Bcd16, 4),
        ("u8, byte: high", RegisterType::U8(Half::High), 1),
        ("i8, byte: low", RegisterType::I8(Half::Low), 1),
        ("text, length: 8", RegisterType::Text { registers: 8, encoding: TextEncoding::Ascii }, 8),
        ("text, length: 3, encoding: gbk", RegisterType::Text { registers: 3, encoding: TextEncoding::Gbk }, 3),
        ("time, form: s", RegisterType::Time(TimeForm::Seconds), 2),
        ("time, form: ms", RegisterType::Time(TimeForm::Milliseconds), 4),
        ("time, form: words", RegisterType::Time(TimeForm::Words(TimeParts::default())), 6),
        ("time, form: bcd", RegisterType::Time(TimeForm::Bcd(TimeParts::default())), 3),
    ];
    for (text, value, width) in types {
        let field = read(&format!("{{table: holding, address: 7, type: {text}}}")).unwrap();
        assert_eq!(field, holding(7, value), "{text}");
        assert_eq!(field.width(), width, "{text}");
    }
}

#[test]
fn orders_have_the_letters_of_their_width_or_two_words() {
    use ByteOrder::{Abcd, Badc, Cdab, Dcba};
    let check = |text: &str, order: ByteOrder| {
        let field = read(&format!("{{table: holding, address: 0, {text}}}")).unwrap();
        assert_eq!(field.order, order, "{text}");
    };
    for (names, value) in [
        (["ab", "ab", "ba", "ba"], "u16"),
        (["abcd", "cdab", "badc", "dcba"], "f32"),
        (["abcdef", "efcdab", "badcfe", "fedcba"], "u48"),
        (["abcdefgh", "ghefcdab", "badcfehg", "hgfedcba"], "f64"),
    ] {
        for (name, order) in names.into_iter().zip([Abcd, Cdab, Badc, Dcba]) {
            let expected = if value == "u16" && order == Cdab { Abcd } else { order };
            let expected = if value == "u16" && order == Dcba { Badc } else { expected };
            check(&format!("type: {value}, order: {name}"), expected);
        }
    }
    check("type: i64, order: cdab", Cdab);
    check("type: u32, words: little", Cdab);
    check("type: u32, bytes: little", Badc);
    check("type: u32, bytes: little, words: little", Dcba);
    check("type: u32, words: big", Abcd);
    refused("{table: holding, address: 0, type: f32, order: ghefcdab}", ".order", "not an order of 4 bytes", "badc");
    refused("{table: holding, address: 0, type: f32, order: cdab, words: big}", ".order", "say it already", "keep");
    refused("{table: holding, address: 0, type: u8, byte: low, order: ba}", ".order", "has no order", "leave");
}

#[test]
fn bits_signs_and_powers_are_read() {
    let field = read("{table: holding, address: 4, bits: {from: 4, count: 3}}").unwrap();
    assert_eq!(field.bits, Some(Bits { from: 4, count: 3 }));
    let field = read("{table: holding, address: 4, type: u32, bit: 31}").unwrap();
    assert_eq!(field.bits, Some(Bits { from: 31, count: 1 }));
    let field = read("{table: holding, address: 4, type: i16, sign: magnitude}").unwrap();
    assert_eq!(field.sign, Sign::Magnitude);
    let field = read("{table: input, address: 4, exponent: {address: 5}}").unwrap();
    let power =
        Power { table: RegisterTable::Input, address: 5, value: RegisterType::I16, meaning: PowerMeaning::Exponent };
    assert_eq!(field.power, Some(power));
    assert_eq!(field.needs().count(), 2);
    let field = read("{table: input, address: 4, decimals: {address: \"40003\", type: u8, byte: low}}").unwrap();
    assert_eq!(field.power.map(|power| (power.table, power.address)), Some((RegisterTable::Holding, 2)));

    let at = |rest: &str, key: &str, what: &str, mend: &str| {
        refused(&format!("{{table: holding, address: 4, {rest}}}"), key, what, mend);
    };
    at("bits: {from: 14, count: 3}", ".bits.count", "not a whole number from 1 to 2", "");
    at("bits: {from: 14}", ".bits.count", "missing", "count");
    at("bit: 1, bits: {from: 1, count: 1}", ".bits", "says already", "keep one");
    at("type: f32, bits: {from: 1, count: 1}", ".bits", "only a whole number has bits", "leave");
    at("type: u16, sign: magnitude", ".sign", "only i8 to i64", "type");
    at("exponent: {address: 5}, decimals: {address: 6}", ".decimals", "says it already", "keep one");
    at("exponent: {address: 5, type: f32}", ".exponent.type", "one register", "i16");
    at("type: text, length: 2, exponent: {address: 5}", ".exponent", "only a number", "");
    at("type: u8", ".byte", "missing", "high");
    at("byte: low", ".byte", "only type u8 or i8", "leave");
    at("type: text", ".length", "missing", "two letters");
    at("type: text, length: 126", ".length", "1 to 125", "");
    at("type: text, length: 61", ".type", "61 registers, and payload.registers_max is 60", "raise");
    at("length: 2", ".length", "only type text", "");
}

#[test]
fn times_have_parts_in_an_order() {
    use TimePart::{Century, Day, Hour, Minute, Month, Second, Skip, Year};
    let field = read(
        "{table: holding, address: 0, type: time, form: bcd, \
         parts: [second, minute, hour, day, skip, month, year, century]}",
    )
    .unwrap();
    let parts = TimeParts::new(&[Second, Minute, Hour, Day, Skip, Month, Year, Century]).unwrap();
    assert_eq!(field.value, RegisterType::Time(TimeForm::Bcd(parts)));
    assert_eq!(field.width(), 4);
    let at = |rest: &str, key: &str, what: &str, mend: &str| {
        refused(&format!("{{table: holding, address: 4, type: time, {rest}}}"), key, what, mend);
    };
    at("form: bcd, parts: [year, month, hour]", ".parts = \"day\"", "0 times", "once");
    at("form: bcd, parts: [year, month, day, day]", ".parts = \"day\"", "2 times", "once");
    at("form: bcd, parts: [year, month, dey]", ".parts = \"dey\"", "not a part", "century, year");
    let long = "form: bcd, parts: [year, month, day, skip, skip, skip, skip, skip, skip, skip, skip]";
    at(long, ".parts", "not 1 to 10 parts", "");
    at("form: s, parts: [year, month, day]", ".parts", "has no parts", "leave");
    at("parts: [year, month, day]", ".form", "missing", "bcd");
}

#[test]
fn the_number_of_a_sheet_is_taken_in_quotes_or_with_its_letter() {
    for text in ["{address: \"40005\"}", "{address: 4x0005}", "{address: \"400005\"}"] {
        assert_eq!(read(text), Ok(holding(4, RegisterType::U16)), "{text}");
    }
    assert_eq!(read("{table: holding, address: 40005}"), Ok(holding(40_005, RegisterType::U16)));
    refused("{address: 40005}", ".table", "missing", "put it in quotes: it is holding register 4 on the wire");
    refused("{table: holding, address: 4x0005}", ".table", "holding, 4 on the wire", "leave `table` out");
    refused("{address: \"20005\"}", ".table", "missing", "function 3");
}

#[test]
fn fields_behind_the_last_register_are_refused() {
    refused("{table: input, address: 0xFFFD, type: f64}", ".address", "behind the last address", "0-based");
    assert!(read("{table: input, address: 0xFFFC, type: f64}").is_ok());
}

#[test]
fn fields_that_overlap_go_together_only_when_one_is_a_part_of_a_whole_number() {
    let field = |text: &str| read(&format!("{{table: holding, {text}}}")).unwrap();
    let check = |one: &str, other: &str, expected: bool| {
        assert_eq!(clash(&field(one), &field(other)), expected, "{one} and {other}");
        assert_eq!(clash(&field(other), &field(one)), expected, "{other} and {one}");
    };
    check("address: 0, type: f32", "address: 1, type: f32", true);
    check("address: 0, type: f32", "address: 2, type: f32", false);
    check("address: 0, type: u16", "address: 0, type: i16", true);
    check("address: 0, bit: 1", "address: 0, bits: {from: 4, count: 3}", false);
    check("address: 0, bit: 1", "address: 0, type: u16", false);
    check("address: 0, type: u8, byte: high", "address: 0, type: i8, byte: low", false);
    check("address: 1, bit: 1", "address: 0, type: u32", true);
    check("address: 1, bit: 1", "address: 0, type: u32, bit: 20", false);
    check("address: 1, bit: 1", "address: 0, type: f32", true);
    check("address: 0, exponent: {address: 2}", "address: 1, exponent: {address: 2}", false);
    check("address: 0, exponent: {address: 2}", "address: 1, type: f32", true);
}

#[test]
fn marks_are_what_the_field_reads() {
    let check = |text: &str, mark: &str, expected: RawValue| {
        let field = read(&format!("{{table: holding, address: 0, {text}}}")).unwrap();
        let problems = Problems::default();
        let node = document::parse("p", &format!("mark: {mark}"), &|_| None, &problems).unwrap();
        let NodeKind::Map(entries) = &node.kind else { panic!() };
        let mark = crate::profile::parse::scalar::raw_value(&entries[0].2).unwrap();
        assert_eq!(sign_mark(&field, mark), expected, "{text}");
    };
    check("type: u16", "0xFFFF", RawValue::Number(65_535.0));
    check("type: i16", "0xFFFF", RawValue::Number(-1.0));
    check("type: i16", "0x7FFF", RawValue::Number(32_767.0));
    check("type: i16", "0x8000", RawValue::Number(-32_768.0));
    check("type: i16", "-1", RawValue::Number(-1.0));
    check("type: i16, sign: magnitude", "0x8001", RawValue::Number(-1.0));
    check("type: i32", "0x80000000", RawValue::Number(-2_147_483_648.0));
    check("type: u64", "0xFFFFFFFFFFFFFFFF", RawValue::Number(2_f64.powi(64)));
    check("type: i64", "0x8000000000000000", RawValue::Number(-(2_f64.powi(63))));
    check("type: f32", "nan", RawValue::NotANumber);
    check("type: f32", "\"nan\"", RawValue::Text("nan".to_owned()));
    check("type: f32", "65535", RawValue::Number(65_535.0));
    check("type: i16, bits: {from: 0, count: 4}", "0xF", RawValue::Number(-1.0));
}

/// A whole profile with this payload and these points.
fn profile(payload: &str, points: &str) -> Result<crate::Profile, Vec<String>> {
    let problems = Problems::default();
    let text = format!("{HEAD}payload: {{format: registers{payload}}}\npoints:\n{points}{SAMPLES}");
    let profile = parse_profile_text("p.yaml", &text, &problems);
    profile.ok_or_else(|| problems.into_sorted().iter().map(ToString::to_string).collect())
}

const POINT: &str = "  - {name: a, register: {table: holding, address: 0}}\n";

#[test]
fn the_payload_says_how_a_unit_is_asked() {
    let payload = ", registers_max: 16, bits_max: 64, gap_max: 0, one_point_per_request: true, pause: 50ms, \
                   timeout: 2s, order: cdab, zone: Asia/Urumqi, \
                   time: {register: {table: holding, address: 16, form: bcd}, drift_max: 1m}";
    let points = "  - {name: a, register: {table: holding, address: 0}}\n\
                  \x20 - {name: b, register: {table: holding, address: 2, type: f32}}\n\
                  \x20 - {name: c, register: {table: holding, address: 4, type: f32, order: abcd}}\n\
                  \x20 - {name: d, type: text, register: {table: holding, address: 6, type: text, length: 4}}\n";
    let profile = profile(payload, points).unwrap();
    let PayloadFormat::Registers(format) = &profile.payload else { panic!() };
    assert_eq!((format.registers_max, format.bits_max, format.gap_max), (16, 64, 0));
    assert!(format.one_point_per_request);
    assert_eq!((format.pause, format.timeout), (Duration::from_millis(50), Some(Duration::from_secs(2))));
    assert_eq!(format.zone.as_deref(), Some("Asia/Urumqi"));
    let time = format.time.unwrap();
    assert_eq!((time.field.address, time.field.width(), time.drift_max), (16, 3, Duration::from_secs(60)));
    let orders: Vec<ByteOrder> = profile
        .points
        .iter()
        .filter_map(|point| match &point.origin {
            Origin::Register(field) => Some(field.order),
            _ => None,
        })
        .collect();
    use ByteOrder::{Abcd, Cdab};
    assert_eq!(orders, [Cdab, Cdab, Abcd, Abcd], "numbers take the order of the payload, texts do not");
    assert_eq!(profile.register_fields().len(), 5, "the time is read too");
}

#[test]
fn a_payload_says_what_is_wrong_with_it() {
    let check = |payload: &str, key: &str, what: &str| {
        let problems = profile(payload, POINT).expect_err(payload);
        let is_wanted = |line: &&String| line.contains(&format!("payload.{key}")) && line.contains(what);
        assert!(problems.iter().any(|line| is_wanted(&line)), "{payload} gave {problems:#?}");
    };
    check(", bits_max: 2001", "bits_max", "from 1 to 2000");
    check(", timeout: 1ms", "timeout", "not from 10ms to 60s");
    check(", pause: 2m", "pause", "not from 0ns to 60s");
    check(", zone: Asia/Pekin", "zone", "no time zone");
    check(", order: dcab", "order", "not an order of 4 bytes");
    check(", time: {drift_max: 1m}", "time.register", "missing");
    check(", time: {register: {table: holding, address: 1, type: u16}}", "time.register", "no time");
    check(", one_point_per_request: maybe", "one_point_per_request", "neither true nor false");
}

#[test]
fn an_overlap_that_is_meant_is_allowed() {
    let other =
        |more: &str| format!("{POINT}  - {{name: b, register: {{table: holding, address: 0, type: i16{more}}}}}\n");
    let problems = profile("", &other("")).unwrap_err();
    assert!(problems[0].contains("overlap: allowed"), "{problems:#?}");
    profile("", &other(", overlap: allowed")).unwrap();
}
