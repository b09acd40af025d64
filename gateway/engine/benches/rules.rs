//! What all rules cost a reading: `cargo bench -p kerbside-engine --bench rules`, or with `DEVICES`, `DAYS` (of history
//! before it is measured) and `ROUNDS` (messages of each device while it is) of one's own.
//!
//! A cover, a pole and a level under the rules that are shipped, and a device with all rules at once
//! (`bench/profiles/bench-every-rule.yaml`), each with five points, with decoding, quality, detection and rows for the
//! database. Bytes are those of a device in a snapshot, and what the process grew by, the inventory left out.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_engine::Engine;
use kerbside_model::document::Problems;
use kerbside_model::inventory::Device;
use kerbside_model::profile::parse_profile_text;
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{FrameFlags, Frames, Input, Site, Timestamp};

const START: Timestamp = Timestamp(1_800_000_000_000);
/// Messages that a source hands over at once.
const CHUNK_MESSAGES: usize = 500;
/// Distance of the messages before it is measured, so that a month of history takes little time, and then.
const SPARSE: Duration = Duration::from_secs(1_800);
const DENSE: Duration = Duration::from_secs(300);

/// A profile and the five points of its messages.
struct Kind {
    name: &'static str,
    profile: &'static str,
    payload: fn(Moment) -> String,
}

/// Which message of which device.
#[derive(Clone, Copy)]
struct Moment {
    at: Timestamp,
    device: usize,
    round: usize,
}

impl Moment {
    /// From 0 to 1: noise that is the same again.
    fn noise(self, point: usize) -> f64 {
        let mixed = (self.device * 31 + self.round * 17 + point * 7).wrapping_mul(0x9E37_79B9) >> 8;
        (mixed % 1_000) as f64 / 1_000.0
    }

    /// From -1 to 1, with the day.
    fn day(self) -> f64 {
        (self.at.0 as f64 / 86_400_000.0 * std::f64::consts::TAU).sin()
    }
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "cover (json-manhole-cover)",
        profile: include_str!("../../../device-profiles/json-manhole-cover.yaml"),
        payload: |moment| {
            let (tilt, cell) = (1.0 + 0.5 * moment.noise(0), 3.55 + 0.05 * moment.noise(1));
            let (ms, gas) = (moment.at.0, 0.3 * moment.noise(2));
            let shakes = moment.at.0 / 600_000;
            format!(
                "{{\"ts\":{ms},\"open\":false,\"tilt\":{tilt:.2},\"batt\":{cell:.2},\"ch4\":{gas:.2},\"vibration\":{shakes}}}"
            )
        },
    },
    Kind {
        name: "pole (json-pole)",
        profile: include_str!("../../../device-profiles/json-pole.yaml"),
        payload: |moment| {
            let (leak, tilt) = (2.0 + moment.noise(0), 0.4 + 0.2 * moment.noise(1));
            let (ms, warm) = (moment.at.0, 30.0 + 5.0 * moment.day() + moment.noise(2));
            format!(
                "{{\"ts\":{ms},\"leakage\":{leak:.1},\"tilt\":{tilt:.1},\"door\":false,\"lamp\":false,\"temp\":{warm:.1}}}"
            )
        },
    },
    Kind {
        name: "level (json-level)",
        profile: include_str!("../../../device-profiles/json-level.yaml"),
        payload: |moment| {
            let (level, cell) = (60.0 + 15.0 * moment.day() + 8.0 * moment.noise(0), 3.58 + 0.04 * moment.noise(1));
            let (ms, signal, warm) = (moment.at.0, 95.0 + 8.0 * moment.noise(2), 16.0 + moment.noise(3));
            format!("{{\"ts\":{ms},\"level\":{level:.0},\"batt\":{cell:.2},\"rssi\":-{signal:.0},\"temp\":{warm:.1}}}")
        },
    },
    Kind {
        name: "every rule (bench-every-rule)",
        profile: include_str!("../../../bench/profiles/bench-every-rule.yaml"),
        payload: |moment| {
            let (level, tilt) = (60.0 + 15.0 * moment.day() + 8.0 * moment.noise(0), 1.0 + 0.5 * moment.noise(1));
            let (ms, leak, cell) = (moment.at.0, 2.0 + moment.noise(2), 3.55 + 0.05 * moment.noise(3));
            format!(
                "{{\"ts\":{ms},\"open\":false,\"level\":{level:.0},\"tilt\":{tilt:.2},\"leakage\":{leak:.1},\"batt\":{cell:.2}}}"
            )
        },
    },
];

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number stands in the variable"))
    };
    let (devices, days, rounds) = (number("DEVICES", 10_000), number("DAYS", 31), number("ROUNDS", 100));
    let kind = std::env::var("KIND").unwrap_or_default();
    for kind in KINDS.iter().filter(|known| known.name.contains(&kind)) {
        measure(kind, devices, days, rounds);
    }
}

fn measure(kind: &Kind, devices: usize, days: usize, rounds: usize) {
    let site = Arc::new(site(kind, devices));
    let (points, detectors) = (site.facts().profiles[0].points.len(), site.facts().profiles[0].detectors.len());
    let before = resident_bytes();
    let mut engine = Engine::new(Arc::clone(&site));
    engine.step(START, &[Input::Site(site)]);
    let sparse = days * 48;
    // Of every chunk, since the machine may do something else meanwhile; the middle one counts.
    let mut nanoseconds = Vec::new();
    let mut alarms = 0;
    for round in 0..sparse + rounds {
        let dense = round.saturating_sub(sparse) as u32;
        let begin = START.plus(SPARSE * round.min(sparse) as u32 + DENSE * dense);
        for first in (0..devices).step_by(CHUNK_MESSAGES) {
            let chunk = first..(first + CHUNK_MESSAGES).min(devices);
            let spent = step(&mut engine, kind, chunk, begin, round);
            if round >= sparse {
                nanoseconds.push(spent.elapsed.as_nanos() as f64 / spent.readings.max(1) as f64);
            }
            alarms += spent.alarms;
        }
    }
    let grown = resident_bytes().saturating_sub(before) / devices;
    nanoseconds.sort_by(f64::total_cmp);
    let [middle, least] = [nanoseconds.len() / 2, nanoseconds.len() / 10].map(|position| nanoseconds[position]);
    let kept = engine.snapshot().len() / devices;
    println!(
        "{}: {devices} devices, {points} points, {detectors} detectors: {middle:.0} ns a reading (one chunk in ten under \
         {least:.0}); {kept} bytes a device in a snapshot, {grown} resident; {alarms} alarms",
        kind.name,
    );
}

struct Spent {
    elapsed: Duration,
    readings: usize,
    alarms: usize,
}

fn step(engine: &mut Engine, kind: &Kind, chunk: std::ops::Range<usize>, begin: Timestamp, round: usize) -> Spent {
    // Devices of a round follow one another by a millisecond.
    let now = begin.plus(Duration::from_millis(chunk.end as u64));
    let mut frames = Frames::new("bench".into(), now);
    for device in chunk {
        let payload = (kind.payload)(Moment { at: now, device, round });
        frames.push(&format!("t/D-{device:07}"), payload.as_bytes(), FrameFlags::default(), None);
    }
    let inputs = [Input::Frames(frames)];
    let began = Instant::now();
    let effects = engine.step(now, &inputs);
    let elapsed = began.elapsed();
    let readings = effects.observations.reading_count();
    Spent { elapsed, readings, alarms: effects.alarms.len() }
}

fn site(kind: &Kind, devices: usize) -> Site {
    let problems = Problems::default();
    let profile = parse_profile_text(kind.name, kind.profile, &problems);
    let profile = profile.unwrap_or_else(|| panic!("the profile is sound: {:?}", problems.into_sorted()));
    let device = |number: usize| {
        let id = format!("D-{number:07}");
        Device { address: id.clone(), id, interval: Some(SPARSE), ..Device::default() }
    };
    let address = AddressRule::Topic(TopicRule::of_level(1));
    Site::new(SiteFacts {
        sources: vec![SourceRule { source: Arc::from("bench"), address, claim: None, envelopes: Vec::new() }],
        ..SiteFacts::new("bench", vec![Arc::new(profile)], (0..devices).map(device).collect())
    })
}

/// Memory of this process that is in use, on Linux; 0 elsewhere.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap_or(0) * 1024
}
