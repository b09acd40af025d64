//! What the tests of quality cost a reading: `cargo bench -p kerbside-engine --bench quality`, or with `DEVICES` and
//! `MESSAGES` of one's own.
//!
//! The same messages, of one level each, go through an engine whose profile tests nothing, only what a level has by
//! itself, and everything at once.

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
const INTERVAL_MS: i64 = 60_000;
const TESTS: [(&str, &str); 4] = [
    ("no tests", "without: [rate]"),
    ("those of a level", "{}"),
    (
        "all that keep few values",
        "range: {min: -30, max: 4000}, spike: {suspect: 150, fail: 1000}, rate: {suspect: 254, per: 1m}, flat: {tolerance: \
         0.5, suspect: 6h, fail: 1d}, gap: {suspect: 1h}, drift: {per_week: 25, total: 40}, climatology: [{hours: [0, 23], \
         suspect: {min: -30, max: 4000}}]",
    ),
    ("an attenuated signal of an hour", "attenuated: {window: 1h, suspect: 0.01}"),
];

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number stands in the variable"))
    };
    let (devices, messages) = (number("DEVICES", 2_000), number("MESSAGES", 1_000_000));
    let mut without = 0.0;
    for (name, tests) in TESTS {
        let nanoseconds = measure(tests, devices, messages);
        if name == TESTS[0].0 {
            without = nanoseconds;
        }
        println!("{name}: {nanoseconds:.0} ns a message, {:.0} ns more than without", nanoseconds - without);
    }
}

fn measure(tests: &str, devices: usize, messages: usize) -> f64 {
    let mut engine = Engine::new(Arc::new(site(tests, devices)));
    engine.step(START, &[Input::Site(Arc::clone(engine.site()))]);
    let mut elapsed = Duration::ZERO;
    for first in (0..messages).step_by(CHUNK_MESSAGES) {
        let now = START.plus(Duration::from_millis((first / devices) as u64 * INTERVAL_MS as u64 + 1));
        let mut frames = Frames::new("bench".into(), now);
        for message in first..first + CHUNK_MESSAGES {
            let (round, id) = (message / devices, message % devices);
            let level = (round * 7 + id) % 23 + 100;
            let payload = format!("{{\"ts\":{},\"level\":{level}}}", now.0);
            frames.push(&format!("t/DL-{id}"), payload.as_bytes(), FrameFlags::default(), None);
        }
        let inputs = [Input::Frames(frames)];
        let began = Instant::now();
        let effects = engine.step(now, &inputs);
        elapsed += began.elapsed();
        assert!(effects.alarms.iter().all(|alarm| alarm.condition == "silent"), "this traffic is harmless");
    }
    elapsed.as_nanos() as f64 / messages as f64
}

fn site(tests: &str, devices: usize) -> Site {
    let tests = if tests == "{}" { String::new() } else { format!(", quality: {{{tests}}}") };
    let text = format!(
        "profile: bench-level\nversion: 1\nkind: drain\nvendor: Bench\nmodel: L\ninterval: 1m\npayload: {{format: json, time: \
         {{path: ts, unit: ms}}}}\npoints:\n  - {{name: level_mm, path: level, range: {{min: -100, max: 9000}}{tests}}}\n\
         detectors:\n  - {{condition: silent, severity: minor, silence: {{missed: 3000}}}}\n\
         samples:\n  - {{name: good, json: {{level: 5}}, readings: {{level_mm: 5}}}}\n  - {{name: bad, text: '', error: x}}\n"
    );
    let problems = Problems::default();
    let profile = parse_profile_text("bench-level.yaml", &text, &problems);
    let profile = profile.unwrap_or_else(|| panic!("the benchmark's profile is sound: {:?}", problems.into_sorted()));
    let address = AddressRule::Topic(TopicRule::of_level(1));
    let device = |number: usize| {
        let id = format!("DL-{number}");
        Device { address: id.clone(), id, ..Device::default() }
    };
    Site::new(SiteFacts {
        sources: vec![SourceRule { source: Arc::from("bench"), address, claim: None, envelopes: Vec::new() }],
        ..SiteFacts::new("bench", vec![Arc::new(profile)], (0..devices).map(device).collect())
    })
}
