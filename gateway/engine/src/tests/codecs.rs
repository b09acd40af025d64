//! Devices with codecs: points, times and history come out of what the codec gives, and the backlog, which decodes on
//! another thread, gets the same.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kerbside_model::document::Problems;
use kerbside_model::profile::parse_profile_text_with;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Frame, Input, Payload, ServiceState, Timestamp, UndecodedReason, Value};

use super::again::Commit;
use super::support::*;
use crate::Engine;

const PROFILE: &str = "
profile: channels
version: 1
kind: manhole_cover
vendor: Test
model: test
payload:
  format: codec
  script: channels.js
  port: 85
  history: {path: history, time: {path: timestamp, unit: s}}
points:
  - {name: distance_mm, path: distance}
  - {name: cover_open, path: cover, map: {closed: false, open: true}}
detectors:
  - {condition: displaced, severity: critical, state: {point: cover_open, values: [true]}}
samples:
  - {name: one, hex: '03 82 DC 05', readings: {distance_mm: 1500}}
  - {name: unknown channel, hex: 'FF 0B', error: no such answer}
";

fn site() -> SiteFacts {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/codecs");
    let scripts = |script: &str| std::fs::read_to_string(folder.join(script)).map_err(|error| error.to_string());
    let problems = Problems::default();
    let profile = parse_profile_text_with("channels.yaml", PROFILE, &scripts, &problems);
    let profile = profile.unwrap_or_else(|| panic!("{problems:?}"));
    SiteFacts { profiles: vec![Arc::new(profile)], devices: vec![device("MH-1", ServiceState::InService)], ..facts() }
}

fn uplink(received_at: Timestamp, bytes: &[u8]) -> Input {
    Input::Frame(Frame {
        source: Arc::from("city"),
        address: "t/MH-1".into(),
        payload: Payload::Bytes(Bytes::copy_from_slice(bytes)),
        received_at,
        retained: false,
    })
}

#[test]
fn a_codec_gives_readings_alarms_and_history() {
    let mut engine = engine(site());
    let history_at = u32::try_from(at(-3_600).0 / 1_000).unwrap().to_le_bytes();
    let history = [&[0x20, 0xCE], history_at.as_slice(), &[0xE8, 0x03]].concat();
    let bytes = [&[0x03, 0x82, 0xDC, 0x05, 0x04, 0x00, 0x01], history.as_slice()].concat();
    let effects = engine.step(at(1), &[uplink(at(1), &bytes)]);
    let rows: Vec<_> = effects.observations.iter().collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let of = |time: Timestamp| {
        let (_, readings) = rows.iter().find(|(row, _)| row.observed_at == time).unwrap();
        readings.iter().map(|reading| reading.value.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(at(1)), [Value::Number(1_500.0), Value::Boolean(true)]);
    assert_eq!(of(at(-3_600)), [Value::Number(1_000.0)]);
    assert_eq!(effects.alarms.len(), 1, "{:?}", effects.alarms);
}

#[test]
fn what_a_codec_refuses_is_kept_with_its_words() {
    let mut engine = engine(site());
    let effects = engine.step(at(1), &[uplink(at(1), &[0xFF, 0x0B, 1])]);
    assert_eq!(effects.counts.frames_undecoded[UndecodedReason::Codec as usize], 1);
    let kept = &effects.undecoded[0];
    assert_eq!(kept.reason.name(), "codec");
    assert!(kept.detail.contains("no such answer: 11 (line "), "{}", kept.detail);
}

#[test]
fn the_backlog_gets_from_codecs_what_was_live() {
    let facts = site();
    let mut engine = engine(facts);
    let mut commit = Commit::default();
    for second in 0..20_u8 {
        let bytes = [0x03, 0x82, second, 0x05, 0x04, 0x00, second & 1, 0x09, 0x7F, 2, b'o', b'k', 0x20, 0xCE, second];
        let now = at(i64::from(second) * 60);
        commit.step(&mut engine, now, vec![uplink(now, &bytes[..bytes.len() - usize::from(second % 4)])]);
    }
    let site = Arc::clone(engine.site());
    std::thread::scope(|scope| {
        scope.spawn(|| commit.check(&site));
    });
}

#[test]
fn an_engine_may_move_to_another_thread() {
    fn check<T: Send>(_: &T) {}
    let engine: Engine = engine(site());
    check(&engine);
}
