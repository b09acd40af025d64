//! What rules over several points cost a message: `cargo bench -p kerbside-engine --bench together`, or with `DEVICES`
//! and `MESSAGES` of one's own.
//!
//! The same messages, of four points each, go through an engine whose profile has no rule, and twenty times the same one.

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
/// One rule is too little to be measured.
const COPIES: usize = 20;
const RULES: [(&str, &str); 5] = [
    ("threshold", "threshold: {point: leakage_ma, above: 300, clear: 200}"),
    (
        "combination of three tests",
        "combination: {all: [{point: leakage_ma, above: 300}, {any: [{point: water_present, equals: true}, {point: \
         water_depth_mm, above: 20}]}]}",
    ),
    (
        "expression of four points",
        "expression: {cel: 'leakage_ma * 2.0 + 5.0 >= 400.0 && (water_present || water_depth_mm >= 20.0) && \
         math.abs(tilt_deg) < 90.0', clear: leakage_ma <= 20.0}",
    ),
    ("spike", "spike: {point: water_depth_mm, by: 100, times: 5, window: 1d}"),
    ("load", "load: {point: leakage_ma, switches: [water_present], least: 1, below: 20}"),
];

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number stands in the variable"))
    };
    let (devices, messages) = (number("DEVICES", 2_000), number("MESSAGES", 200_000));
    let without = measure(None, devices, messages);
    println!("no rule: {without:.0} ns a message");
    for (name, rule) in RULES {
        let nanoseconds = measure(Some(rule), devices, messages);
        println!("{name}: {:.0} ns a look", (nanoseconds - without) / COPIES as f64);
    }
}

fn measure(rule: Option<&str>, devices: usize, messages: usize) -> f64 {
    let mut engine = Engine::new(Arc::new(site(rule, devices)));
    engine.step(START, &[Input::Site(Arc::clone(engine.site()))]);
    let mut elapsed = Duration::ZERO;
    for first in (0..messages).step_by(CHUNK_MESSAGES) {
        let now = START.plus(Duration::from_millis((first / devices) as u64 * INTERVAL_MS as u64 + 1));
        let mut frames = Frames::new("bench".into(), now);
        for message in first..first + CHUNK_MESSAGES {
            let id = message % devices;
            let (leakage, depth) = (message % 40, message % 15);
            let payload = format!(
                r#"{{"leakage_ma":{leakage},"water_depth_mm":{depth},"water_present":{},"tilt_deg":0.4}}"#,
                message % 3 == 0
            );
            frames.push(&format!("t/P-{id}"), payload.as_bytes(), FrameFlags::default(), None);
        }
        let inputs = [Input::Frames(frames)];
        let began = Instant::now();
        engine.step(now, &inputs);
        elapsed += began.elapsed();
    }
    elapsed.as_nanos() as f64 / messages as f64
}

fn site(rule: Option<&str>, devices: usize) -> Site {
    let mut text =
        "profile: p\nversion: 1\nkind: pole\nvendor: V\nmodel: M\ninterval: 1m\npayload: {format: json}\npoints:\n"
            .to_owned();
    for name in ["leakage_ma", "water_depth_mm", "water_present", "tilt_deg"] {
        let tests = if name == "water_depth_mm" { ", quality: {without: [rate]}" } else { "" };
        text.push_str(&format!("  - {{name: {name}, path: {name}{tests}}}\n"));
    }
    if let Some(rule) = rule {
        text.push_str("detectors:\n");
        (0..COPIES).for_each(|_| text.push_str(&format!("  - {{condition: leaking, severity: minor, {rule}}}\n")));
    }
    text.push_str("samples:\n  - {name: s, text: '', error: x}\n  - {name: t, text: '{\"tilt_deg\":1}', readings: {tilt_deg: 1}}\n");
    let profile = parse_profile_text("p.yaml", &text, &Problems::default()).expect("the benchmark's profile is sound");
    let device = |id: usize| Device { id: format!("P-{id}"), address: format!("P-{id}"), ..Device::default() };
    Site::new(SiteFacts {
        sources: vec![SourceRule {
            source: Arc::from("bench"),
            address: AddressRule::Topic(TopicRule::of_level(1)),
            claim: None,
            envelopes: Vec::new(),
        }],
        ..SiteFacts::new("bench", vec![Arc::new(profile)], (0..devices).map(device).collect())
    })
}
