//! Payloads that are not JSON: bytes, text with separators and CBOR give readings or a reason, the same ones every time,
//! and never a panic.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use kerbside_engine::sample::{DecodedFrame, SingleFrame, decode_single};
use kerbside_model::document::Problems;
use kerbside_model::profile::{PayloadFormat, parse_profile_text};
use kerbside_model::{Payload, PointReading, Profile, UndecodedReason, Value};

const TLV: &str = "\
profile: tlv
version: 1
kind: drain
vendor: Generic
model: channels
payload:
  format: binary
  endian: little
  time: {at: {channel: 06, type: u32}, unit: s}
  channels:
    - {id: 01, length: 1}
    - {id: 02 xx, length: {at: 0, plus: 1}}
    - {id: 03, length: {at: 1, plus: -3}}
    - {id: 04, length: 9, time: {offset: 1, type: u32}}
    - {id: 05, length: 8, time: {offset: 2, type: bcd_datetime, unit: local}}
    - {id: 06, length: 4}
    - {id: xx 07, length: rest}
points:
  - {name: a, at: [{channel: 01}, {channel: 04, offset: 5, type: f32}, {channel: 05, type: u16, bits: {from: 3, count: 9}}]}
  - {name: b, type: text, at: [{channel: 02 xx, type: text, length: rest}, {channel: 03, type: hex, length: rest}]}
  - {name: c, at: {channel: 02 05, offset: -4, type: i32, sign: magnitude, when: {byte: {offset: -1, mask: 0x80, equals: 0}}}}
  - {name: d, at: {channel: 08 07, offset: 2, type: f16}}
  - {name: distance_mm, at: {channel: 04, type: u8}}
  - {name: level_mm, mount_height_minus: distance_mm}
samples:
  - {name: one, hex: 01 07, readings: {a: 7}}
  - {name: bad, hex: 01, error: cut short}
";

const PARTS: &str = "\
profile: parts
version: 1
kind: drain
vendor: Generic
model: parts
payload:
  format: binary
  messages:
    - name: flagged
      when: {byte: {offset: 0, equals: 2}}
      flags: {offset: 1, type: u16}
      parts:
        - {name: header, length: 3}
        - {name: one, length: 8, when: {flag: 0}}
        - {name: rows, length: 4, repeat: {offset: 0, bits: {from: 0, count: 4}}, step: 10m, newest: last, when: {flag: 1}}
        - {name: counted, length: {at: 0, plus: 0}, when: {byte: {offset: -1, equals: [1, 2]}}}
    - name: rows
      when: {port: [1, 2, 3]}
      parts:
        - {name: row, length: {at: 0, plus: 1}, repeat: rest, time: {offset: 1, type: u32}, newest: first}
    - {name: short, when: {length: {max: 4}}}
    - {name: ignored, when: {length: {min: 200}}}
points:
  - {name: a, at: [{part: one, type: u64}, {part: rows, type: u16}, {part: row, type: u24}]}
  - {name: b, at: [{part: one, type: bcd, length: 8}, {message: short, offset: -2, type: i16}], required: true}
  - {name: c, type: text, at: [{part: one, offset: 2, type: datetime}, {part: counted, type: dotted, length: 2}]}
  - {name: d, at: {part: rows, offset: 2, type: u16, zero: 32768, when: {byte: {offset: 0, equals: [0, 1, 2]}}}}
samples:
  - {name: one, hex: 02 00 01 00 00 00 00 00 00 00 07, readings: {a: 7}}
  - {name: bad, hex: 02 00 01, error: cut short}
";

const CSV: [&str; 3] = [
    "\
profile: numbers
version: 1
kind: drain
vendor: Generic
model: numbers
payload: {format: csv, time: {column: 1, unit: auto}}
points:
  - {name: a, column: [3, 2]}
  - {name: b, type: text, column: 4}
samples:
  - {name: one, text: \"1799999990,2,3,x\", readings: {a: 3}}
  - {name: bad, text: \"\", error: no line}
",
    "\
profile: header
version: 1
kind: drain
vendor: Generic
model: header
payload: {format: csv, separator: tab, columns: header, newest: last, time: {column: t, unit: auto}}
points:
  - {name: a, column: [level, lvl]}
samples:
  - {name: one, text: \"t\\tlevel\\n1799999990\\t5\", readings: {a: 5}}
  - {name: bad, text: \"\", error: none of the points}
",
    "\
profile: pairs
version: 1
kind: drain
vendor: Generic
model: pairs
payload: {format: csv, separator: \";\", pairs: \"=\", prefix: \"#\"}
points:
  - {name: a, column: level}
samples:
  - {name: one, text: \"#id=1;level=5\", readings: {a: 5}}
  - {name: bad, text: \"\", error: does not begin}
",
];

const CBOR: &str = "\
profile: cbor
version: 1
kind: drain
vendor: Generic
model: cbor
payload: {format: cbor, time: {path: \"1\", unit: auto}, history: {path: h, time: {path: t, unit: s}, newest: first}}
points:
  - {name: a, path: [level.0, \"2\"]}
  - {name: b, type: text, path: raw}
samples:
  - {name: one, hex: A1 02 05, readings: {a: 5}}
  - {name: bad, hex: A1 02, error: cut short}
";

fn parse(file: &str, text: &str) -> Arc<Profile> {
    let problems = Problems::default();
    let profile = parse_profile_text(file, text, &problems);
    Arc::new(profile.unwrap_or_else(|| panic!("{file} is not sound: {:?}", problems.into_sorted())))
}

/// The two above, and every shipped one.
static BINARY_PROFILES: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the repository has profiles")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut profiles = vec![parse("tlv.yaml", TLV), parse("parts.yaml", PARTS)];
    for file in files {
        let text = std::fs::read_to_string(&file).expect("the profile can be read");
        if text.contains("format: binary") {
            profiles.push(parse(&file.to_string_lossy(), &text));
        }
    }
    profiles.retain(|profile| matches!(profile.payload, PayloadFormat::Binary(_)));
    profiles
});

static CSV_PROFILES: LazyLock<Vec<Arc<Profile>>> =
    LazyLock::new(|| CSV.iter().map(|text| parse("text.yaml", text)).collect());
static CBOR_PROFILE: LazyLock<Arc<Profile>> = LazyLock::new(|| parse("cbor.yaml", CBOR));

/// Takes the first byte for the profile, the second one for the port (0 for none), and the rest for the message.
///
/// # Panics
/// When decoding panics, gives a number that is not finite, gives more rows than there are bytes, or reads the same
/// message in two ways.
pub fn binary(data: &[u8]) {
    let [profile, port, message @ ..] = data else { return };
    let profiles = &*BINARY_PROFILES;
    check(&profiles[usize::from(*profile) % profiles.len()], Some(*port).filter(|port| *port > 0), message);
}

/// Takes the first byte for the profile and the rest for the message.
///
/// # Panics
/// As [`binary`].
pub fn csv(data: &[u8]) {
    let [profile, message @ ..] = data else { return };
    check(&CSV_PROFILES[usize::from(*profile) % CSV_PROFILES.len()], None, message);
}

/// Takes the bytes for a message.
///
/// # Panics
/// As [`binary`].
pub fn cbor(data: &[u8]) {
    check(&CBOR_PROFILE, None, data);
}

fn check(profile: &Arc<Profile>, port: Option<u8>, message: &[u8]) {
    let payload = Payload::Bytes(message.to_vec().into());
    let frame = SingleFrame { payload: &payload, port, envelope: None, mount_height_mm: Some(3_000.0) };
    let (decoded, again) = (decode_single(profile, &frame), decode_single(profile, &frame));
    assert_eq!(format!("{decoded:?}"), format!("{again:?}"), "the same message is read in two ways");
    match decoded {
        Ok(decoded) => check_readings(profile, &decoded, message.len()),
        Err(error) => {
            assert_ne!(error.reason, UndecodedReason::Panic, "{}", error.detail);
            assert!(!error.detail.is_empty(), "a refusal says why");
        }
    }
}

fn check_readings(profile: &Profile, decoded: &DecodedFrame, bytes: usize) {
    assert!(decoded.history.len() <= bytes, "{} rows out of {bytes} bytes", decoded.history.len());
    let rows = decoded.history.iter().map(|row| &row.readings).chain([&decoded.readings]);
    for readings in rows {
        let is_ordered = |pair: &[PointReading]| pair[0].point < pair[1].point;
        assert!(readings.windows(2).all(is_ordered), "points come once, in their order");
        for reading in readings {
            let name = &profile.points[usize::from(reading.point)].name;
            if let Some(Value::Number(number)) = &reading.value {
                assert!(number.is_finite(), "{number} of point {name}");
            }
        }
    }
}
