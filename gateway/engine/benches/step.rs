//! What one message costs the engine: `cargo bench -p kerbside-engine`, or with `DEVICES` and `MESSAGES` of one's own.
//!
//! The message, the profile and its 18 detectors are those of `bench/ingest.yaml`. Instruction counts hold on a noisy
//! machine: what `valgrind --tool=callgrind TARGET` counts with 40,000 messages, less what it counts with 20,000.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_engine::Engine;
use kerbside_model::document::Problems;
use kerbside_model::inventory::{Datum, Device};
use kerbside_model::profile::parse_profile_text;
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{FrameFlags, Frames, Input, ServiceState, Site, Timestamp};

const PROFILE: &str = include_str!("../../../bench/profiles/bench-city-sensor.yaml");
const START: Timestamp = Timestamp(1_800_000_000_000);
/// Messages that a source hands over at once.
const CHUNK_MESSAGES: usize = 500;

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number stands in the variable"))
    };
    let devices = number("DEVICES", 10_000);
    let messages = number("MESSAGES", 2_000_000);
    let mut engine = Engine::new(Arc::new(site(devices)));
    engine.step(START, &[Input::Site(Arc::clone(engine.site()))]);
    // Once for every device, so that what is allocated at the first message is there.
    run(&mut engine, devices, 0, devices);
    let before = resident_bytes();
    let (elapsed, readings) = run(&mut engine, devices, devices, messages);
    assert_eq!(readings, messages * 12, "every field of every message is read");
    let nanoseconds = elapsed.as_nanos() as f64 / messages as f64;
    println!("{devices} devices, {messages} messages: {nanoseconds:.0} ns a message, {before} bytes resident");
    println!("{} bytes of state a device in a snapshot", engine.snapshot().len() / devices);
}

fn run(engine: &mut Engine, devices: usize, first: usize, count: usize) -> (Duration, usize) {
    let mut elapsed = Duration::ZERO;
    let mut readings = 0;
    let mut number = first;
    while number < first + count {
        let last = (number + CHUNK_MESSAGES).min(first + count);
        // A thousand messages a second, by the engine's time.
        let now = Timestamp(START.0 + number as i64);
        let mut frames = Frames::new("bench".into(), now);
        for message in number..last {
            let id = message % devices;
            let payload = payload(message, id, now);
            frames.push(&format!("city/d{:02}/manhole/MH-{id:07}/up", id % 50), &payload, FrameFlags::default(), None);
        }
        let inputs = [Input::Frames(frames)];
        let began = Instant::now();
        let effects = engine.step(now, &inputs);
        elapsed += began.elapsed();
        assert!(effects.alarms.is_empty(), "this traffic is harmless");
        readings += effects.observations.reading_count();
        number = last;
    }
    (elapsed, readings)
}

fn payload(message: usize, id: usize, now: Timestamp) -> Vec<u8> {
    format!(
        "{{\"deviceId\":\"MH-{id:07}\",\"ts\":{},\"tilt\":{}.{},\"level\":0.{:02},\"batt\":3.{:02},\"rssi\":-{},\
         \"open\":false,\"temp\":{}.{},\"seq\":1{:08},\"tx\":{},\"fw\":\"1.4.2\",\"ch4\":0.02,\"h2s\":0.1,\"water\":false}}",
        now.0,
        message % 10,
        message % 7,
        id % 100,
        50 + id % 50,
        60 + id % 50,
        10 + id % 20,
        id % 10,
        message,
        now.0 * 1_000,
    )
    .into_bytes()
}

fn site(devices: usize) -> Site {
    let problems = Problems::default();
    let profile =
        parse_profile_text("bench-city-sensor.yaml", PROFILE, &problems).expect("the benchmark's profile is sound");
    Site::new(SiteFacts {
        sources: vec![SourceRule {
            source: Arc::from("bench"),
            address: AddressRule::Topic(TopicRule::of_level(3)),
            claim: None,
            envelopes: Vec::new(),
        }],
        ..SiteFacts::new("bench", vec![Arc::new(profile)], (0..devices).map(device).collect())
    })
}

fn device(number: usize) -> Device {
    let id = format!("MH-{number:07}");
    Device {
        address: id.clone(),
        id,
        profile: 0,
        source: None,
        name: String::new(),
        position: None,
        datum: Datum::Wgs84,
        place: String::new(),
        grid: String::new(),
        component_code: String::new(),
        unit: String::new(),
        mount_height_mm: None,
        level_offset_mm: 0.0,
        interval: None,
        registers_from: None,
        parent: String::new(),
        service: ServiceState::InService,
        tags: Vec::new(),
        downstream: String::new(),
        battery_since: None,
    }
}

/// Memory of this process that is in use, on Linux; 0 elsewhere.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap_or(0) * 1024
}
