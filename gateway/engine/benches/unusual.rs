//! What a learner costs in the engine: time a reading, memory a series, and the snapshot of all of them. Without it, in
//! light and in full mode: `cargo bench -p kerbside-engine --bench unusual`, or with `DEVICES` of one's own.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and prints")]
#![expect(clippy::print_stdout, reason = "a benchmark measures time and prints")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_engine::{ENGINE_VERSION, Engine};
use kerbside_model::document::Problems;
use kerbside_model::inventory::Device;
use kerbside_model::profile::parse_profile_text;
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{FrameFlags, Frames, Input, Site, Timestamp};

const START: Timestamp = Timestamp(1_800_000_000_000);
/// Messages that a source hands over at once.
const CHUNK_MESSAGES: usize = 500;
/// Readings of each series until all judge, and those that are measured.
const WARM_UP_READINGS: usize = 300;
const MEASURED_READINGS: usize = 50;
const DEVICES_DEFAULT: usize = 10_000;

fn main() {
    let devices = std::env::var("DEVICES").map_or(DEVICES_DEFAULT, |text| text.parse().expect("DEVICES is a number"));
    let rules = [
        ("no learner", "threshold: {point: level_mm, above: 9000, clear: 8000}".to_owned()),
        ("light", format!("unusual: {{point: level_mm, warm_up: {WARM_UP_READINGS}, score: 0.9}}")),
        ("full", format!("unusual: {{point: level_mm, warm_up: {WARM_UP_READINGS}, score: 0.9, mode: full}}")),
    ];
    let mut before = None;
    for (name, rule) in rules {
        let mut engine = Engine::new(Arc::new(site(devices, &rule)));
        engine.step(START, &[Input::Site(Arc::clone(engine.site()))]);
        run(&mut engine, devices, 0..WARM_UP_READINGS + 1);
        let elapsed = run(&mut engine, devices, WARM_UP_READINGS + 1..WARM_UP_READINGS + 1 + MEASURED_READINGS);
        let each = elapsed.as_nanos() as f64 / (devices * MEASURED_READINGS) as f64;
        let more = each - *before.get_or_insert(each);
        println!("{name}: {each:.0} ns a message of one reading, {more:.0} ns more than without");
        let tally = engine.learner_tally();
        let a_series = tally.bytes / tally.series.max(1);
        println!("  {} series, {} judging, {a_series} bytes each", tally.series, tally.judging);
        show_snapshot(&engine);
    }
}

fn show_snapshot(engine: &Engine) {
    let began = Instant::now();
    let bytes = engine.snapshot();
    let taken = began.elapsed();
    let began = Instant::now();
    Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &bytes).expect("it was stored just now");
    println!("  snapshot of {} kB, taken in {taken:.0?}, read in {:.0?}", bytes.len() / 1_000, began.elapsed());
}

/// Each device sends one reading every five minutes, a day with a peak and some noise.
fn run(engine: &mut Engine, devices: usize, readings: std::ops::Range<usize>) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut chance = fastrand::Rng::with_seed(readings.start as u64);
    for reading in readings {
        let now = Timestamp(START.0 + 300_000 * reading as i64);
        let noon = (144 - (reading % 288) as i64).abs();
        for first in (0..devices).step_by(CHUNK_MESSAGES) {
            let mut frames = Frames::new("bench".into(), now);
            for device in first..(first + CHUNK_MESSAGES).min(devices) {
                let level = 80 + (60 - noon).max(0) + chance.i64(-4..5);
                let payload = format!(r#"{{"level":{level}}}"#);
                frames.push(&format!("up/D-{device}"), payload.as_bytes(), FrameFlags::default(), None);
            }
            let inputs = [Input::Frames(frames)];
            let began = Instant::now();
            engine.step(now, &inputs);
            elapsed += began.elapsed();
        }
    }
    elapsed
}

fn site(devices: usize, rule: &str) -> Site {
    let text = format!(
        "profile: bench-level\nversion: 1\nkind: drain\nvendor: Bench\nmodel: L\npayload: {{format: json}}\n\
         points: [{{name: level_mm, path: level}}]\n\
         detectors: [{{condition: unusual, severity: notice, {rule}}}]\n\
         samples:\n  - {{name: good, json: {{level: 5}}, readings: {{level_mm: 5}}}}\n  \
         - {{name: bad, text: '', error: not valid JSON}}\n"
    );
    let profile = parse_profile_text("bench.yaml", &text, &Problems::default()).expect("the profile is sound");
    let source = SourceRule {
        source: Arc::from("bench"),
        address: AddressRule::Topic(TopicRule::of_level(1)),
        claim: None,
        envelopes: Vec::new(),
    };
    let device = |number| {
        let id = format!("D-{number}");
        Device { address: id.clone(), id, ..Device::default() }
    };
    Site::new(SiteFacts {
        sources: vec![source],
        ..SiteFacts::new("bench", vec![Arc::new(profile)], (0..devices).map(device).collect())
    })
}
