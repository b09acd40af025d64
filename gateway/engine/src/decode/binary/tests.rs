use std::sync::Arc;

use bytes::Bytes;
use kerbside_model::inventory::Device;
use kerbside_model::profile::Profile;
use kerbside_model::{Payload, UndecodedReason};
use proptest::prelude::*;

use crate::decode::tests::{RECEIVED_AT, bytes_of, decoded_bytes, profile};
use crate::decode::{Decoder, Message, Scratch};

/// What a message in hexadecimal gives.
fn decoded(profile: &Arc<Profile>, hex: &str, port: Option<u8>) -> String {
    decoded_bytes(profile, &bytes_of(hex), port)
}

#[track_caller]
fn check(payload_and_points: &str, cases: &[(&str, &str)]) {
    let profile = profile(payload_and_points);
    for (hex, expected) in cases {
        assert_eq!(decoded(&profile, hex, None), *expected, "{hex}");
    }
}

#[test]
fn every_type_is_read_in_both_orders() {
    let cases = [
        ("type: u8", "FF", "255"),
        ("type: i8", "FF", "-1"),
        ("type: u16", "0102", "258"),
        ("type: u16, endian: little", "0102", "513"),
        ("type: i16", "FFFE", "-2"),
        ("type: u24, endian: little", "010203", "197121"),
        ("type: i24", "FFFFFE", "-2"),
        ("type: u32", "00010000", "65536"),
        ("type: i32, endian: little", "FEFFFFFF", "-2"),
        ("type: u48", "000000000102", "258"),
        ("type: u64", "0020000000000000", "9007199254740992"),
        ("type: u64", "0020000000000001", "9007199254740992!"),
        ("type: i64", "FFFFFFFFFFFFFFFF", "-1"),
        ("type: f16", "C000", "-2"),
        ("type: f32, endian: little", "33336643", "230.2"),
        ("type: f64", "3FF8000000000000", "1.5"),
        ("type: f32", "7FC00000", "-!"),
        ("type: bcd, length: 3", "012345", "12345"),
        ("type: bcd, length: 2, endian: little", "3412", "1234"),
        ("type: bcd, length: 2", "12A4", "-!"),
        ("type: u16, zero: 32768", "7FE8", "-24"),
        ("type: u8, bit: 3", "08", "1"),
        ("type: u16, bits: {from: 4, count: 3}", "0050", "5"),
        ("type: i8, bits: {from: 0, count: 4}", "0F", "-1"),
        ("type: i16, sign: magnitude", "8005", "-5"),
        ("type: u8, sign: magnitude", "85", "-5"),
        ("offset: -2, type: u16", "FF0102", "258"),
    ];
    for (field, hex, expected) in cases {
        let profile = profile(&format!("payload: {{format: binary}}\npoints:\n  - {{name: a, at: {{{field}}}}}"));
        assert_eq!(decoded(&profile, hex, None), format!("a={expected}"), "{field}");
    }
    let texts = [
        ("type: u64", "0020000000000001", "9007199254740993"),
        ("type: i64", "FFDFFFFFFFFFFFFF", "-9007199254740993"),
        ("type: text, length: 6", "414220000000", "AB"),
        ("type: text, length: rest", "E4BA95", "井"),
        ("type: text, length: 2", "FFFE", "-!"),
        ("type: hex, length: 3", "6746D3", "6746d3"),
        ("type: dotted, length: 2", "0101", "1.1"),
        ("type: datetime", "1A0B16080000", "2026-11-22 08:00:00"),
        ("type: bcd_datetime", "261122080000", "2026-11-22 08:00:00"),
    ];
    for (field, hex, expected) in texts {
        let text = format!("payload: {{format: binary}}\npoints:\n  - {{name: a, type: text, at: {{{field}}}}}");
        let text = text + "\n  - {name: b, at: {}}";
        let profile = profile(&text.replace("name: a,", "name: c,").replace("name: b", "name: a"));
        let decoded = decoded(&profile, hex, None);
        assert_eq!(decoded.split(" a=").next(), Some(format!("c={expected}").as_str()), "{field}");
    }
}

#[test]
fn the_first_kind_of_message_that_fits_is_read() {
    let text = "
payload:
  format: binary
  messages:
    - {name: short, when: {port: 2, length: 4}}
    - {name: long, when: {port: [2, 3], length: {min: 5}, byte: {offset: 0, mask: 0x0F, equals: [1, 2]}}}
    - {name: hello, when: {port: 9}}
points:
  - {name: a, at: [{message: short, offset: 0, type: u16}, {message: long, offset: 2}]}
  - {name: b, at: {message: [short, long], offset: -1}}";
    let profile = profile(text);
    let cases = [
        ("0102 0304", Some(2), "a=258 b=4"),
        ("F1 02 03 04 05", Some(3), "a=3 b=5"),
        ("00", Some(9), ""),
        (
            "F3 02 03 04 05",
            Some(3),
            "refused: 5 bytes on port 3 that begin with \"F3 02 03 04\" are no kind of message of this profile \
             (short, long, hello)",
        ),
        (
            "01020304",
            None,
            "refused: 4 bytes without a port that begin with \"01 02 03 04\" are no kind of message of this profile \
             (short, long, hello)",
        ),
    ];
    for (hex, port, expected) in cases {
        assert_eq!(decoded(&profile, hex, port), expected, "{hex}");
    }
}

#[test]
fn channels_are_read_until_one_is_not_known() {
    let text = "
payload:
  format: binary
  endian: little
  channels:
    - {id: 01 75, length: 1}
    - {id: 03 67, length: 2}
    - {id: 83 67, length: 3}
    - {id: 20 CE, length: 6, time: {offset: 0, type: u32}}
    - {id: FE, length: {at: 0, plus: 1}}
    - {id: xx 02, length: 1}
points:
  - {name: a, at: {channel: 01 75}}
  - {name: t, scale: 0.1, at: [{channel: 03 67, type: i16}, {channel: 83 67, type: i16}, {channel: 20 CE, offset: 4, type: i16}]}
  - {name: alarm, type: enumeration, at: {channel: 83 67, offset: 2}, map: {0: released, 1: threshold}}
  - {name: s, type: text, at: {channel: FE, offset: 1, type: text, length: rest}}
  - {name: in7, at: {channel: 07 02}}
  - {name: any, at: {channel: xx 02}}";
    check(
        text,
        &[
            ("0175 5C 0367 0101", "a=92 t=25.7"),
            ("8367 E800 01", "t=23.2 alarm=threshold"),
            ("8367 E800 07", "t=23.2 alarm=-!"),
            ("0367 0101 0367 0000", "t=25.7"),
            // 0x6B49D1FC is 1,800,000,000 - 3,588.
            ("20CE FCC3496B 1001", " | -3588: t=27.2"),
            ("0175 5C 20CE FCC3496B 1001 20CE 00000000 1001", "a=92 | -3588: t=27.2 | -?: t=27.2"),
            ("FE 02 4142 0175 01", "a=1 s=AB"),
            ("0702 05 0902 06", "in7=5 any=5"),
            ("0902 06 0702 05", "in7=5 any=6"),
            (
                "0175 5C 0999 0102",
                "a=92 # channel 09 99 at byte 3 is not in this profile: the last 4 bytes were not read",
            ),
            (
                "0999 0102",
                "refused: none of the points of profile test is in this frame: channel 09 99 at byte 0 is not in this \
                 profile: the last 4 bytes were not read",
            ),
            (
                "0175 5C 0367 01",
                "refused: channel 03 67 begins at byte 5 and needs 2 bytes, and only 1 are left: the message is cut \
                 short",
            ),
            (
                "FE",
                "refused: channel FE begins at byte 1 and needs 1 bytes, and only 0 are left: the message is cut short",
            ),
        ],
    );
}

#[test]
fn flags_say_which_parts_follow() {
    let text = "
payload:
  format: binary
  flags: {offset: 1, type: u16}
  parts:
    - {name: header, length: 3}
    - {name: depth, length: 4, when: {flag: 0}}
    - {name: battery, length: 2, when: {flag: 1}}
points:
  - {name: a, at: {part: depth, type: u16, zero: 32768}}
  - {name: t, scale: 0.1, at: {part: depth, offset: 2, type: u16, zero: 32768}}
  - {name: v, scale: 0.001, at: {part: battery, type: u16}}";
    check(
        text,
        &[
            ("02 0003 9088 8081 0C60", "a=4232 t=12.9 v=3.168"),
            ("02 0002 0C60", "v=3.168"),
            ("02 0002 0C60 FF", "v=3.168 # 1 bytes from byte 5 on belong to no part of this profile"),
            (
                "02 0003 9088 80",
                "refused: part depth begins at byte 3 and needs 4 bytes, and only 3 are left: the message is cut short",
            ),
            ("02 00", "refused: its flags needs 2 bytes at offset 1 of the message, which has 2: it is cut short"),
        ],
    );
}

#[test]
fn a_part_that_is_repeated_becomes_rows() {
    let steps = |newest: &str, repeat: &str| {
        format!(
            "
payload:
  format: binary
  parts:
    - {{name: header, length: 2}}
    - {{name: row, length: 2, repeat: {repeat}, step: 10m, newest: {newest}}}
points:
  - {{name: b, at: {{part: header, offset: 0}}}}
  - {{name: a, at: {{part: row, type: u16, when: {{byte: {{offset: 0, mask: 0x80, equals: 0}}}}}}}}"
        )
    };
    check(
        &steps("first", "rest"),
        &[
            ("07 00 0001 0002 0003", "b=7 a=1 | -600: a=2 | -1200: a=3"),
            ("07 00 0001 FFFF 0003", "b=7 a=1 | -1200: a=3"),
            ("07 00", "b=7"),
        ],
    );
    check(
        &steps("last", "{offset: 1}"),
        &[
            ("07 02 0001 0002", "b=7 a=2 | -600: a=1"),
            ("07 03 0001 FFFF 0002", "b=7 a=2 | -1200: a=1"),
            ("07 02 0001 FFFF", "b=7 | -600: a=1"),
            ("07 00", "b=7"),
        ],
    );
    let told = "
payload:
  format: binary
  time: {at: {part: header, type: u32}, unit: s}
  parts:
    - {name: header, length: 4}
    - {name: row, length: 6, repeat: rest, time: {type: u32}, newest: last}
points:
  - {name: a, at: {part: row, offset: 4, type: u16}}";
    // The header tells 1,800,000,000 - 4; the rows 600 and 10 s before the arrival.
    check(told, &[("6B49D1FC 6B49CFA8 0001 6B49D1F6 0002", "a=2 @-10 | -600: a=1")]);
}

#[test]
fn the_time_of_a_message_is_that_of_its_device() {
    let text = "
payload:
  format: binary
  time: {at: {offset: 1, type: bcd_datetime}, unit: local, zone: Asia/Shanghai}
points:
  - {name: a, at: {}}";
    // 2027-01-15 16:00:00 in Shanghai is 08:00:00 UTC, which is 1,800,000,000.
    check(text, &[("05 270115155900", "a=5 @-60"), ("05 271315155900", "a=5")]);
}

#[test]
fn whatever_comes_is_read_or_refused() {
    let texts = [
        "payload: {format: binary, channels: [{id: 01, length: {at: 3, plus: -9}}, {id: xx 02, length: rest}]}
points: [{name: a, at: {channel: 01, offset: -4, type: u32}}]",
        "payload: {format: binary, parts: [{name: p, length: {at: 0, plus: 0}, repeat: rest, step: 1d, newest: last}]}
points: [{name: a, at: {part: p, offset: 0, type: f64}}]",
        "payload: {format: binary, parts: [{name: p, length: 0, repeat: rest, step: 1d, newest: last}, {name: q, length: 1}]}
points: [{name: a, at: {part: q}}]",
    ];
    let profiles: Vec<_> = texts.iter().map(|text| profile(text)).collect();
    proptest!(|(bytes in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..300), port in any::<Option<u8>>())| {
        let payload = Payload::Bytes(Bytes::from(bytes));
        for profile in &profiles {
            let message = Message { port, ..Message::bare(payload.view(), RECEIVED_AT) };
            let result = Decoder::new(profile).decode(&Device::default(), &message, &mut Scratch::default());
            let panicked = result.is_err_and(|error| error.reason == UndecodedReason::Panic);
            prop_assert!(!panicked);
        }
    });
}
