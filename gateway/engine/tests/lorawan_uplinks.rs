//! Every uplink of `tests/data/lorawan-uplinks.json` gives, through the shipped profile of its device, the values that
//! its maker says it holds; and whatever else comes is read or refused.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod shelf;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kerbside_engine::decode::{Decoder, Message, Scratch};
use kerbside_engine::sample::{SingleFrame, decode_single};
use kerbside_model::envelope::EnvelopeFormat;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{PayloadFormat, Profile};
use kerbside_model::{Flag, Payload, PointReading, Timestamp, UndecodedReason};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Uplinks {
    devices: BTreeMap<String, DeviceFacts>,
    uplinks: Vec<Uplink>,
}

#[derive(Deserialize)]
struct DeviceFacts {
    profile: String,
    names: BTreeMap<String, Name>,
}

/// Where a value that the maker names is found.
#[derive(Deserialize)]
struct Name {
    point: Option<String>,
    values: Option<BTreeMap<String, Value>>,
    scale: Option<f64>,
    /// The envelope reads it, and not the profile.
    #[serde(default)]
    of_envelope: bool,
}

#[derive(Deserialize)]
struct Uplink {
    device: String,
    port: u8,
    hex: String,
    envelope: Option<String>,
    expected: BTreeMap<String, Value>,
    #[serde(default)]
    history: Vec<BTreeMap<String, Value>>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn profile(name: &str) -> Arc<Profile> {
    Arc::new(shelf::profile(name))
}

fn bytes_of(hex: &str) -> Bytes {
    let pairs = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    pairs.collect::<Vec<u8>>().into()
}

/// What is wrong about one value of a row; nothing when all is well.
fn compare(profile: &Profile, readings: &[PointReading], name: &Name, said: &Value) -> Option<String> {
    let point = name.point.as_deref()?;
    let word = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
    let expected = match (&name.values, name.scale) {
        (Some(values), _) => values.get(&word).unwrap_or_else(|| panic!("{point}: {word} means nothing")).clone(),
        (None, Some(scale)) => Value::from(said.as_f64().unwrap() * scale),
        (None, None) => said.clone(),
    };
    let index = profile.point_index(point).unwrap_or_else(|| panic!("{} has no {point}", profile.name));
    let reading = readings.iter().find(|reading| usize::from(reading.point) == index);
    // The value is right, also where the device says beside it that it hangs at an angle.
    let is_told = |reading: &&PointReading| matches!(reading.quality.flag, Flag::Good | Flag::Suspect);
    let value = reading.filter(is_told).and_then(|reading| reading.value.as_ref());
    let found = value.map_or(Value::Null, kerbside_model::Value::to_json);
    let is_same = match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        _ => found == expected,
    };
    (!is_same).then(|| format!("{point} is {found}, expected {expected}"))
}

#[test]
fn every_uplink_gives_what_its_maker_says() {
    let text = fs::read_to_string(repository().join("tests/data/lorawan-uplinks.json")).unwrap();
    let Uplinks { devices, uplinks } = serde_json::from_str(&text).unwrap();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for uplink in &uplinks {
        let facts = &devices[&uplink.device];
        let profile = profile(&facts.profile);
        let payload = Payload::Bytes(bytes_of(&uplink.hex));
        let envelope = uplink.envelope.as_deref().map(|name| EnvelopeFormat::named(name).unwrap());
        let frame = SingleFrame { payload: &payload, port: Some(uplink.port), envelope, mount_height_mm: None };
        let decoded = match decode_single(&profile, &frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                wrong.push(format!("{} {}: {}", uplink.device, uplink.hex, error.detail));
                continue;
            }
        };
        let mut check = |readings: &[PointReading], row: &BTreeMap<String, Value>| {
            for (name, said) in row.iter().filter(|(name, _)| *name != "timestamp") {
                let place = &facts.names[name];
                compared += usize::from(!place.of_envelope);
                let what = compare(&profile, readings, place, said);
                wrong.extend(what.map(|what| format!("{} {}: {name}: {what}", uplink.device, uplink.hex)));
            }
        };
        check(&decoded.readings, &uplink.expected);
        assert_eq!(decoded.history.len(), uplink.history.len(), "{} {}", uplink.device, uplink.hex);
        for (row, expected) in decoded.history.iter().zip(&uplink.history) {
            check(&row.readings, expected);
            let said = expected["timestamp"].as_i64().unwrap();
            assert_eq!(row.observed_at, Some(Timestamp(said * 1_000)), "{} {}", uplink.device, uplink.hex);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((uplinks.len(), devices.len()), (50, 26));
    assert!(compared > 180, "only {compared} values were compared");
}

/// Every shipped profile that reads messages.
fn message_profiles() -> Vec<Arc<Profile>> {
    let mut profiles = Vec::new();
    for entry in fs::read_dir(repository().join("device-profiles")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            profiles.push(profile(&path.file_stem().unwrap().to_string_lossy()));
        }
    }
    profiles.retain(|profile| !matches!(profile.payload, PayloadFormat::Registers(_)));
    profiles.sort_by(|one, other| one.name.cmp(&other.name));
    profiles
}

/// Bytes as a device sends them, and not quite.
fn near(profile: &Profile) -> impl Strategy<Value = Vec<u8>> + use<> {
    use kerbside_model::profile::SampleInput;
    let frames: Vec<Vec<u8>> = profile
        .samples
        .iter()
        .map(|sample| match &sample.input {
            SampleInput::Text(text) => text.clone().into_bytes(),
            SampleInput::Bytes(bytes) => bytes.clone(),
            SampleInput::Registers(_) => Vec::new(),
        })
        .collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let damaged = (prop::sample::select(frames), damage, any::<prop::sample::Index>(), 1..4_usize).prop_map(
        |(frame, damage, end, times)| {
            let mut bytes = frame.repeat(times);
            for (place, byte) in damage {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
            }
            bytes.truncate(end.index(bytes.len() + 1));
            bytes
        },
    );
    prop_oneof![3 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..260)]
}

#[test]
fn whatever_comes_is_read_or_refused_by_every_shipped_profile() {
    for profile in message_profiles() {
        let decoder = Decoder::new(&profile);
        // One for all of them, as in the engine.
        let scratch = RefCell::new(Scratch::default());
        proptest!(ProptestConfig::with_cases(128), |(bytes in near(&profile), port in any::<Option<u8>>())| {
            let payload = Payload::Bytes(Bytes::from(bytes));
            let message = Message { port, ..Message::bare(payload.view(), Timestamp(1_800_000_000_000)) };
            let mut scratch = scratch.borrow_mut();
            let decoded = decoder.decode(&Device::default(), &message, &mut scratch);
            if let Err(error) = decoded {
                prop_assert!(error.reason != UndecodedReason::Panic && !error.detail.is_empty(), "{error:?}");
            }
            // No frame gives more rows than it has bytes for.
            prop_assert!(scratch.history_len() <= payload.len());
            prop_assert!(scratch.readings().len() <= profile.points.len());
        });
    }
}
