//! Registers: whatever a unit answers gives readings or a reason, the same ones every time, and never a panic.

use std::sync::{Arc, LazyLock};

use kerbside_engine::sample::{SingleFrame, decode_single};
use kerbside_model::document::Problems;
use kerbside_model::profile::{Origin, parse_profile_text};
use kerbside_model::{
    Payload, Profile, RegisterBlock, RegisterFailure, RegisterRead, RegisterTable, UndecodedReason, Value,
};

/// Shipped profiles of registers, and one with every type, order, power and form of time.
const PROFILES: [(&str, &str); 5] = [
    ("every-type.yaml", EVERY_TYPE),
    ("eastron-sdm120.yaml", include_str!("../../../device-profiles/eastron-sdm120.yaml")),
    ("cwt-weather-500.yaml", include_str!("../../../device-profiles/cwt-weather-500.yaml")),
    ("qdy30a-level.yaml", include_str!("../../../device-profiles/qdy30a-level.yaml")),
    ("hlk-ld8001h-level.yaml", include_str!("../../../device-profiles/hlk-ld8001h-level.yaml")),
];

const EVERY_TYPE: &str = "\
profile: every-type
version: 1
kind: meter
vendor: Generic
model: Every type
payload: {format: registers, time: {register: {table: holding, address: 60, form: bcd}}}
points:
  - {name: u8, register: {table: holding, address: 0, type: u8, byte: high}}
  - {name: i8, register: {table: holding, address: 0, type: i8, byte: low}}
  - {name: bits, register: {table: holding, address: 0, bits: {from: 4, count: 3}}}
  - {name: i16, register: {table: holding, address: 1, type: i16, sign: magnitude}, invalid: 0x8000}
  - {name: u32, register: {table: holding, address: 2, type: u32, order: dcba}}
  - {name: i32, register: {table: holding, address: 4, type: i32, order: cdab}}
  - {name: u48, register: {table: holding, address: 6, type: u48}}
  - {name: i64, register: {table: holding, address: 9, type: i64, order: ghefcdab}}
  - {name: u64, type: text, register: {table: holding, address: 13, type: u64}}
  - {name: f16, register: {table: holding, address: 17, type: f16}}
  - {name: f32, register: {table: holding, address: 18, type: f32, order: badc}, invalid: nan}
  - {name: f64, register: {table: holding, address: 20, type: f64}}
  - {name: bcd4, register: {table: holding, address: 24, type: bcd4}}
  - {name: bcd16, register: {table: holding, address: 25, type: bcd16, sign: magnitude}}
  - {name: ascii, type: text, register: {table: holding, address: 30, type: text, length: 6}}
  - {name: gbk, type: text, register: {table: holding, address: 36, type: text, length: 4, encoding: gbk}}
  - {name: utf8, type: text, register: {table: holding, address: 40, type: text, length: 4, encoding: utf-8}}
  - {name: scaled, register: {table: holding, address: 44, type: i32, exponent: {address: 46}}}
  - {name: fixed, register: {table: holding, address: 47, decimals: {address: 46, type: u8, byte: low}}}
  - {name: seconds, type: text, register: {table: holding, address: 48, type: time, form: s}}
  - {name: words, type: text, register: {table: holding, address: 50, type: time, form: words}}
  - {name: bytes, type: text, register: {table: holding, address: 56, type: time, form: bytes}}
  - {name: millis, type: text, register: {table: holding, address: 63, type: time, form: ms}}
  - {name: input, register: {table: input, address: 0}}
  - {name: coil, type: boolean, register: {table: coil, address: 0}}
  - {name: last, register: {table: holding, address: 0xFFFE, type: u32}}
samples:
  - {name: one, registers: {input: {0: [7]}}, readings: {input: 7}}
  - {name: none, registers: {failures: [{table: input, address: 0, cause: timeout}]}, readings: {input: null}}
";

static READ: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    let read = |(file, text): &(&str, &str)| {
        let problems = Problems::default();
        let profile = parse_profile_text(file, text, &problems);
        Arc::new(profile.unwrap_or_else(|| panic!("{file} is not sound: {:?}", problems.into_sorted())))
    };
    PROFILES.iter().map(read).collect()
});

/// Takes the bytes for the answers of one poll: the first byte names the profile; then, again and again, a byte with
/// table and kind, an address, a count, and as many registers as are there.
///
/// # Panics
/// When decoding panics, gives a number that is not finite, gives a reading that was not asked for, misses one that was
/// answered, or reads the same answers in two ways.
pub fn registers(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let profile = &READ[usize::from(*first) % READ.len()];
    let read = answers(rest);
    let payload = Payload::Registers(read.clone());
    let frame = SingleFrame { payload: &payload, port: None, envelope: None, mount_height_mm: Some(3_000.0) };
    let (decoded, again) = (decode_single(profile, &frame), decode_single(profile, &frame));
    assert_eq!(format!("{decoded:?}"), format!("{again:?}"), "the same answers are read in two ways");
    let readings = match decoded {
        Ok(decoded) => decoded.readings,
        Err(error) => {
            assert_eq!(error.reason, UndecodedReason::NoPoints, "{}", error.detail);
            Vec::new()
        }
    };
    for (position, point) in profile.points.iter().enumerate() {
        let reading = readings.iter().find(|reading| usize::from(reading.point) == position);
        if let Some(Value::Number(number)) = reading.and_then(|reading| reading.value.as_ref()) {
            assert!(number.is_finite(), "{number} of point {}", point.name);
        }
        let Origin::Register(field) = &point.origin else { continue };
        let is_answered = field.needs().all(|field| holds(&read, field.table, field.address, field.width()));
        let has_failed = field.needs().any(|field| fails(&read, field.table, field.address, field.width()));
        assert_eq!(reading.is_some(), is_answered || has_failed, "{} in {read:?}", point.name);
    }
}

fn answers(mut rest: &[u8]) -> RegisterRead {
    let mut read = RegisterRead::default();
    while let [head, high, low, count, words @ ..] = rest {
        let table = match head % 4 {
            0 => RegisterTable::Holding,
            1 => RegisterTable::Input,
            2 => RegisterTable::Coil,
            _ => RegisterTable::Discrete,
        };
        let address = u16::from_be_bytes([*high, *low]);
        if head & 4 != 0 {
            let cause = "timeout".to_owned();
            read.failures.push(RegisterFailure { table, address, count: u16::from(*count), cause });
            rest = words;
            continue;
        }
        let bytes = words.len().min(2 * usize::from(*count)) / 2 * 2;
        let words_there = words[..bytes].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        read.blocks.push(RegisterBlock { table, address, words: words_there.collect() });
        rest = &words[bytes..];
    }
    read
}

fn holds(read: &RegisterRead, table: RegisterTable, address: u16, width: u16) -> bool {
    let (first, end) = (u32::from(address), u32::from(address) + u32::from(width));
    read.blocks.iter().any(|block| {
        let start = u32::from(block.address);
        block.table == table && start <= first && end <= start + block.words.len() as u32
    })
}

fn fails(read: &RegisterRead, table: RegisterTable, address: u16, width: u16) -> bool {
    let wanted = u32::from(address)..u32::from(address) + u32::from(width);
    read.failures.iter().any(|failure| {
        let start = u32::from(failure.address);
        failure.table == table && (start..start + u32::from(failure.count)).any(|place| wanted.contains(&place))
    })
}
