//! What one poll costs to decode: `cargo bench -p kerbside-engine --bench registers`, or with `FRAMES` of one's own.
//!
//! Four shapes of poll: a meter of 13 floats in six answers, 60 registers in one answer, 60 registers in an answer each,
//! and one point of every type. What is measured is the decoder alone, from registers to readings.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use kerbside_engine::decode::{Decoder, Message, Scratch};
use kerbside_model::document::Problems;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, parse_profile_text};
use kerbside_model::{Payload, RegisterBlock, RegisterRead, RegisterTable, Timestamp};

const METER: &str = include_str!("../../../device-profiles/eastron-sdm120.yaml");
const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Frames that are decoded before the clock runs, so that every buffer has its size.
const WARM_UP: usize = 1_000;

fn main() {
    let frames = std::env::var("FRAMES").map_or(200_000, |text| text.parse().expect("a number stands in FRAMES"));
    let meter = profile(METER);
    let answers = [(0, 2), (6, 2), (12, 2), (18, 2), (24, 2), (30, 2), (70, 10), (342, 4)];
    measure("13 floats in 8 answers", &meter, &read(RegisterTable::Input, &answers), frames);
    let words = profile(&plain((0..60).map(|address| format!("table: holding, address: {address}"))));
    measure("60 words in 1 answer", &words, &read(RegisterTable::Holding, &[(0, 60)]), frames);
    let single: Vec<(u16, u16)> = (0..60).map(|address| (address, 1)).collect();
    measure("60 words in 60 answers", &words, &read(RegisterTable::Holding, &single), frames);
    let types = ["i16", "u32", "i32", "u48", "i64", "u64", "f16", "f32", "f64", "bcd4", "bcd8", "bcd16"];
    let places = types.iter().zip((0..).step_by(4));
    let mixed = profile(&plain(places.map(|(name, at)| format!("table: holding, address: {at}, type: {name}"))));
    measure("12 types in 1 answer", &mixed, &read(RegisterTable::Holding, &[(0, 48)]), frames);
}

fn measure(name: &str, profile: &Arc<Profile>, read: &RegisterRead, frames: usize) {
    let decoder = Decoder::new(profile);
    let (device, payload) = (Device::default(), Payload::Registers(read.clone()));
    let mut scratch = Scratch::default();
    let mut decode = |frames: usize| {
        let began = Instant::now();
        let mut readings = 0;
        for _ in 0..frames {
            let message = Message::bare(payload.view(), NOW);
            decoder.decode(&device, &message, &mut scratch).expect("the answers hold what the profile reads");
            readings += scratch.drain().count();
        }
        (began.elapsed(), readings)
    };
    decode(WARM_UP);
    let (elapsed, readings) = decode(frames);
    assert_eq!(readings, frames * profile.points.len(), "every point of every poll is read");
    let nanoseconds = elapsed.as_nanos() as f64;
    println!("{name}: {:.0} ns a poll, {:.1} ns a reading", nanoseconds / frames as f64, nanoseconds / readings as f64);
}

fn read(table: RegisterTable, blocks: &[(u16, u16)]) -> RegisterRead {
    // 0x4248 0x0000 is 50 as a float, and decimal digits as well.
    let block = |(address, count): &(u16, u16)| {
        let words = (0..*count).map(|word| if word % 2 == 0 { 0x4248 } else { 0 });
        RegisterBlock { table, address: *address, words: words.collect() }
    };
    RegisterRead { blocks: blocks.iter().map(block).collect(), failures: Vec::new() }
}

fn plain(registers: impl Iterator<Item = String>) -> String {
    let mut text = "profile: bench\nversion: 1\nkind: meter\nvendor: Generic\nmodel: Bench\n\
                    payload: {format: registers}\npoints:\n"
        .to_owned();
    for (number, register) in registers.enumerate() {
        writeln!(text, "  - {{name: p{number}, register: {{{register}}}}}").expect("a text has room");
    }
    text.push_str(
        "samples:\n  - {name: one, registers: {holding: {0: [7, 0, 0, 0]}}, readings: {p0: 7}}\n  \
         - {name: none, registers: {failures: [{table: holding, address: 0, cause: timeout}]}, readings: {p0: null}}\n",
    );
    text
}

fn profile(text: &str) -> Arc<Profile> {
    let problems = Problems::default();
    let profile = parse_profile_text("bench.yaml", text, &problems);
    Arc::new(profile.unwrap_or_else(|| panic!("{:?}", problems.into_sorted())))
}
