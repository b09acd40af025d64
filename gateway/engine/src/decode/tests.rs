//! What messages of all formats give, written as one line each.

use std::sync::Arc;

use bytes::Bytes;
use kerbside_model::document::Problems;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, parse_profile_text};
use kerbside_model::{Payload, PointReading, Timestamp, UndecodedReason, Value};
use proptest::prelude::*;

use super::{Certainty, Decoder, Message, Scratch};

pub(super) const RECEIVED_AT: Timestamp = Timestamp(1_800_000_000_000);

/// A profile with this payload and these points.
pub(super) fn profile(payload_and_points: &str) -> Arc<Profile> {
    let text = format!(
        "profile: test\nversion: 1\nkind: drain\nvendor: Test\nmodel: test\n{payload_and_points}\nsamples:\n  \
         - {{name: good, hex: \"00\", readings: {{a: 1}}}}\n  - {{name: bad, hex: \"00\", error: short}}\n"
    );
    let problems = Problems::default();
    let profile = parse_profile_text("test.yaml", &text, &problems);
    Arc::new(profile.unwrap_or_else(|| panic!("{:#?}", problems.into_sorted())))
}

pub(super) fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn shown(profile: &Profile, readings: &[PointReading]) -> String {
    let one = |reading: &PointReading| {
        let name = &profile.points[usize::from(reading.point)].name;
        let value = reading.value.as_ref().map_or("-".to_owned(), Value::to_string);
        let mark = if reading.quality.is_good() { "" } else { "!" };
        format!("{name}={value}{mark}")
    };
    readings.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// What a message gives: its readings, then its time and rows of other times (in s before the arrival), then remarks.
pub(super) fn decoded_bytes(profile: &Arc<Profile>, bytes: &[u8], port: Option<u8>) -> String {
    let payload = Payload::Bytes(Bytes::copy_from_slice(bytes));
    let message = Message { port, ..Message::bare(payload.view(), RECEIVED_AT) };
    let mut scratch = Scratch::default();
    let decoded = match Decoder::new(profile).decode(&Device::default(), &message, &mut scratch) {
        Ok(decoded) => decoded,
        Err(error) => return format!("refused: {}", error.detail),
    };
    let mut text = shown(profile, scratch.readings());
    let told = decoded.told.judge(RECEIVED_AT, Certainty::Sure).unwrap_or_default();
    if let Some(told) = told {
        text += &format!(" @-{}", RECEIVED_AT.since(told).as_secs());
    }
    for row in 0..scratch.history_len() {
        let time = scratch.history_time(row).judge(told.unwrap_or(RECEIVED_AT), RECEIVED_AT, Certainty::Sure);
        let time = time.map_or("?".to_owned(), |time| RECEIVED_AT.since(time).as_secs().to_string());
        text += &format!(" | -{time}: {}", shown(profile, scratch.history(row)));
    }
    scratch.remarks().iter().for_each(|remark| text += &format!(" # {remark}"));
    text
}

#[track_caller]
fn check(payload_and_points: &str, cases: &[(&str, &str)]) {
    let profile = profile(payload_and_points);
    for (text, expected) in cases {
        assert_eq!(decoded_bytes(&profile, text.as_bytes(), None), *expected, "{text}");
    }
}

#[test]
fn a_line_is_read_by_the_numbers_of_its_columns() {
    let text = "
payload: {format: csv, separator: ;, prefix: \"$LVL;\", time: {column: 1, unit: s}}
points:
  - {name: a, column: 2}
  - {name: b, column: [4, 3]}";
    check(
        text,
        &[
            ("$LVL;1799999990;12.5;7;8\r\n", "a=12.5 b=8 @-10"),
            ("$LVL; 1799999990 ; 12.5 ;7", "a=12.5 b=7 @-10"),
            ("$LVL;;\"1\";\"2\"\"\"", "a=1 b=-!"),
            ("$LVL;1799999990;;7", "a=-! b=7 @-10"),
            ("$XYZ;1", "refused: the message does not begin with \"$LVL;\""),
            ("$LVL;", "refused: the message has no line with values"),
            (
                "$LVL;1;2\n3;4",
                "refused: the message has several lines with values, and the profile reads one: add `newest:`",
            ),
        ],
    );
}

#[test]
fn columns_are_found_by_their_names() {
    let named = "
payload: {format: csv, columns: [id, level, note]}
points:
  - {name: a, column: level}
  - {name: note, type: text, column: note}";
    check(named, &[("x,5,\"a, \"\"b\"\"\"", "a=5 note=a, \"b\""), ("x,6", "a=6")]);
    let header = "
payload: {format: csv, separator: tab, columns: header}
points:
  - {name: a, column: [level, lvl]}";
    check(header, &[("id\tlvl\nx\t5\n", "a=5"), ("level\n", "refused: the message has no line with values")]);
    let pairs = "
payload: {format: csv, separator: \"&\", pairs: \"=\", time: {column: t, unit: s}}
points:
  - {name: a, column: level}";
    check(
        pairs,
        &[
            ("id=7&level=5&t=1799999990&flag", "a=5 @-10"),
            ("level", "refused: none of the points of profile test is in this frame"),
        ],
    );
}

#[test]
fn several_lines_are_rows_of_which_the_newest_is_news() {
    let text = "
payload: {format: csv, columns: header, newest: last, time: {column: t, unit: s}}
points:
  - {name: a, column: level}";
    check(
        text,
        &[
            ("t,level\n1799999400,1\n1799999990,2\n", "a=2 @-10 | -600: a=1"),
            ("t,level\n,1\n1799999990,2\n", "a=2 @-10 | -?: a=1"),
        ],
    );
}

#[test]
fn cbor_is_read_by_the_paths_of_json() {
    let text = "
payload: {format: cbor, time: {path: \"1\", unit: s}}
points:
  - {name: a, path: level.0}
  - {name: b, path: \"2\"}
  - {name: s, type: text, path: raw}";
    let profile = profile(text);
    let cases = [
        // {"level": [7, 8], 1: 1799999990, 2: -3.5, "raw": h'01FF'}
        ("A4 65 6C6576656C 82 07 08 01 1A 6B49D1F6 02 FB C00C000000000000 63 726177 42 01FF", "a=7 b=-3.5 s=01ff @-10"),
        // {2: decimal fraction of 273 and -1}
        ("A1 02 C4 82 20 19 0111", "b=27.3"),
        // {2: epoch time 5}, {2: null}
        ("A1 02 C1 05", "b=5"),
        ("A1 02 F6", "b=-!"),
        // indefinite lengths
        ("BF 02 05 FF", "b=5"),
        ("A1 02", "refused: not valid CBOR: it is cut short"),
        ("A1 02 05 00", "refused: not valid CBOR: 1 bytes stand behind its end"),
        ("05", "refused: none of the points of profile test is in this frame"),
        ("1C", "refused: not valid CBOR: byte 0 is not what can stand there"),
    ];
    for (hex, expected) in cases {
        assert_eq!(decoded_bytes(&profile, &bytes_of(hex), None), expected, "{hex}");
    }
    let deep = [vec![0x81; 10_000], vec![0x05]].concat();
    let expected = "refused: not valid CBOR: it is nested deeper than 32 levels";
    assert_eq!(decoded_bytes(&profile, &deep, None), expected);
    assert!(decoded_bytes(&profile, &vec![0; 70_000], None).starts_with("refused: the message has 70000 bytes"));
    // It claims 2^60 elements.
    assert_eq!(
        decoded_bytes(&profile, &bytes_of("9B 1000000000000000 05"), None),
        "refused: not valid CBOR: it is cut short"
    );
    proptest!(|(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..0xA4_u8], 0..200))| {
        let payload = Payload::Bytes(Bytes::from(bytes));
        let message = Message::bare(payload.view(), RECEIVED_AT);
        let result = Decoder::new(&profile).decode(&Device::default(), &message, &mut Scratch::default());
        prop_assert!(!result.is_err_and(|error| error.reason == UndecodedReason::Panic));
    });
}

#[test]
fn a_text_inside_a_message_may_be_json_itself() {
    let text = "
payload: {format: json, time: {path: data.ts, unit: s}}
points:
  - {name: a, path: data.level}
  - {name: b, path: data.list.1}
  - {name: plain, type: text, path: note}
  - {name: whole, type: text, path: data}";
    check(
        text,
        &[
            (
                r#"{"data":"{\"level\":5,\"list\":[1,2],\"ts\":1799999990}"}"#,
                r#"a=5 b=2 whole={"level":5,"list":[1,2],"ts":1799999990} @-10"#,
            ),
            (r#"{"data":{"level":5}}"#, "a=5 whole=-!"),
            (r#"{"data":"online","note":"{no json"}"#, "plain={no json whole=online"),
            (
                r#"{"data":"{level}"}"#,
                "refused: the text inside the message is not valid JSON: key must be a string at line 1 column 2",
            ),
            (r#"{"data":"[1]"}"#, "whole=[1]"),
        ],
    );
}

#[test]
fn a_list_of_readings_is_history_except_for_its_newest() {
    let history = |newest: &str| {
        format!(
            "
payload: {{format: json, time: {{path: ts, unit: s}}, history: {{path: data.rows, time: {{path: t, unit: s}}, newest: {newest}}}}}
points:
  - {{name: a, path: [v, level]}}
  - {{name: b, path: battery}}"
        )
    };
    let rows = r#"{"battery":3,"data":{"rows":[{"t":1799999400,"v":1},{"t":1799999990,"v":2},{}]},"ts":1799999995}"#;
    let empty = r#"{"battery":3,"data":{"rows":[]}}"#;
    check(&history("none"), &[(rows, "b=3 @-5 | -600: a=1 | -10: a=2"), (empty, "b=3")]);
    check(
        &history("last"),
        &[
            (
                r#"{"battery":3,"data":{"rows":[{"t":1799999400,"v":1},{"t":1799999990,"v":2}]}}"#,
                "a=2 b=3 @-10 | -600: a=1",
            ),
            (empty, "b=3"),
        ],
    );
    check(&history("first"), &[(r#"{"data":{"rows":[{"t":1799999990,"v":2},{"v":1}]}}"#, "a=2 @-10 | -?: a=1")]);
    // The same list as a text, and the whole message as a list.
    check(&history("none"), &[(r#"{"data":{"rows":"[{\"t\":1799999400,\"v\":1}]"}}"#, " | -600: a=1")]);
    let whole = "
payload: {format: json, history: {time: {path: t, unit: s}, newest: last}}
points:
  - {name: a, path: v}";
    check(
        whole,
        &[
            (r#"[{"t":1799999400,"v":1},{"t":1799999990,"v":2}]"#, "a=2 @-10 | -600: a=1"),
            (r#"{"v":4}"#, "a=4"),
            (
                r#"[{"t":1799999400,"v":1},{"t":17"#,
                "refused: not valid JSON: EOF while parsing an object at line 1 column 31",
            ),
        ],
    );
    let many = format!("[{}]", vec![r#"{"t":1799999400,"v":1}"#; 3_000].join(","));
    check(
        whole,
        &[(
            &many,
            "refused: the message holds more than 2048 rows of other times, or more than 16384 readings in them",
        )],
    );
}

#[test]
fn levels_of_history_are_computed_like_those_of_today() {
    let text = "
payload: {format: json, history: {path: rows, time: {path: t, unit: s}}}
points:
  - {name: level_mm, mount_height_minus: distance_mm}
  - {name: distance_mm, path: d}
  - {name: a, path: v, required: true}";
    let profile = profile(text);
    let payload = Payload::Bytes(Bytes::from_static(br#"{"rows":[{"t":1799999400,"d":800}],"d":900,"v":1}"#));
    let device = Device { mount_height_mm: Some(1_000.0), level_offset_mm: 5.0, ..Device::default() };
    let mut scratch = Scratch::default();
    let message = Message::bare(payload.view(), RECEIVED_AT);
    Decoder::new(&profile).decode(&device, &message, &mut scratch).unwrap();
    assert_eq!(shown(&profile, scratch.readings()), "level_mm=105 distance_mm=900 a=1");
    assert_eq!(shown(&profile, scratch.history(0)), "level_mm=205 distance_mm=800");
}
