//! What it costs to decode one frame, by format: `cargo bench -p kerbside-engine --bench decode`, or with `FRAMES` of
//! one's own.
//!
//! The frames are the first good samples of shipped profiles, and small profiles of the formats that none of these has.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kerbside_engine::decode::{Decoder, Message, Scratch};
use kerbside_model::document::Problems;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, SampleExpectation, SampleInput, parse_profile_text};
use kerbside_model::{Payload, Timestamp};

const FRAMES: usize = 500_000;
const RECEIVED_AT: Timestamp = Timestamp(1_800_000_000_000);
/// Shipped profiles: JSON, channels, channels with history, parts by flags, fixed places, an envelope's object,
/// Sparkplug B.
const SHIPPED: [&str; 8] = [
    "json-pole",
    "milesight-em500-udl",
    "milesight-ws558",
    "milesight-em300-di",
    "decentlab-dl-atm41",
    "dragino-ldds75",
    "chirpstack-em500-udl",
    "sparkplug-level",
];
const CSV: &str = "
profile: csv
version: 1
kind: drain
vendor: Generic
model: text
payload: {format: csv, columns: [id, t, level, battery, rssi, temp], time: {column: t, unit: s}}
points:
  - {name: level_mm, column: level}
  - {name: battery_v, column: battery}
  - {name: signal_dbm, column: rssi}
  - {name: temperature_c, column: temp}
samples:
  - {name: one, text: \"7,1799999990,885,3.6,-97,12.5\", readings: {level_mm: 885}}
  - {name: bad, text: \"\", error: no line}
";
const CBOR: &str = "
profile: cbor
version: 1
kind: drain
vendor: Generic
model: cbor
payload: {format: cbor, time: {path: \"1\", unit: s}}
points:
  - {name: level_mm, path: level.0}
  - {name: battery_v, path: \"2\"}
samples:
  - {name: one, hex: A3 65 6C6576656C 82 07 08 01 1A 6B49D1F6 02 FB 400C000000000000, readings: {level_mm: 7}}
  - {name: bad, hex: A1 02, error: cut short}
";

fn main() {
    let frames =
        std::env::var("FRAMES").map_or(FRAMES, |text| text.parse().expect("a number stands in the variable FRAMES"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-profiles");
    for name in SHIPPED {
        let text = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).expect("the profile is shipped");
        measure(name, &text, frames);
    }
    measure("csv", CSV, frames);
    measure("cbor", CBOR, frames);
}

fn measure(name: &str, text: &str, frames: usize) {
    let problems = Problems::default();
    let profile: Arc<Profile> =
        Arc::new(parse_profile_text(name, text, &problems).unwrap_or_else(|| panic!("{name}: {problems:?}")));
    let is_good = |sample: &&kerbside_model::profile::Sample| {
        matches!(sample.expect, SampleExpectation::Readings { .. }) && sample.envelope.is_none()
    };
    let sample = profile.samples.iter().find(is_good).expect("a profile has a good sample");
    let payload = match &sample.input {
        SampleInput::Text(text) => Payload::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        SampleInput::Bytes(bytes) => Payload::Bytes(Bytes::copy_from_slice(bytes)),
        SampleInput::Registers(read) => Payload::Registers(read.clone()),
    };
    let decoder = Decoder::new(&profile);
    let device = Device { mount_height_mm: Some(3_000.0), ..Device::default() };
    let mut scratch = Scratch::default();
    let message = Message { port: sample.port, ..Message::bare(payload.view(), RECEIVED_AT) };
    let began = Instant::now();
    let mut readings = 0;
    for _ in 0..frames {
        decoder.decode(&device, black_box(&message), &mut scratch).expect("the sample is good");
        readings +=
            scratch.readings().len() + (0..scratch.history_len()).map(|row| scratch.history(row).len()).sum::<usize>();
    }
    let nanoseconds = began.elapsed().as_nanos() as f64 / frames as f64;
    let each = black_box(readings) / frames;
    println!("{name:<24} {:>4} bytes {each:>3} readings {nanoseconds:>6.0} ns a frame", payload.len());
}
