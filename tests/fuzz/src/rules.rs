//! Every rule at once: whatever numbers, times and gaps come, and whatever people do, nothing panics, a restart changes
//! nothing, what is said of an alarm is a number, and a device takes no more room than it may.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kerbside_engine::{ENGINE_VERSION, Engine};
use kerbside_model::document::Problems;
use kerbside_model::incident::{RainLevel, RainSignal};
use kerbside_model::inventory::Device;
use kerbside_model::profile::parse_profile_text;
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{
    Effects, FrameFlags, Frames, GatewayCondition, Input, MaskKind, OperatorAction, Site, SourceStatus, Timestamp,
};

const START: Timestamp = Timestamp(1_800_000_000_000);
const SOURCE: &str = "street";
const DEVICES: usize = 4;
/// Longer histories say no more.
const EVENTS_MAX: usize = 400;
/// What a device may take in a snapshot with a learner, windows and days of everything.
const DEVICE_BYTES_MAX: usize = 24_000;

/// Distances of events, in ms.
const GAPS_MS: [i64; 12] =
    [0, 1, 250, 1_000, 60_000, 300_000, 900_000, 3_600_000, 86_400_000, 2_592_000_000, 34_560_000_000, 40_000];
/// What points say, as a device writes it.
const VALUES: [&str; 32] = [
    "0",
    "-0.0",
    "1",
    "true",
    "false",
    "null",
    "\"\"",
    "\"NaN\"",
    "\"inf\"",
    "5e-324",
    "1e-300",
    "-1e308",
    "1e308",
    "1e999",
    "3.4028235e38",
    "-3.4028235e38",
    "1e30",
    "-1e30",
    "1.000001e30",
    "65535",
    "4294967295",
    "18446744073709551615",
    "9007199254740993",
    "99999999",
    "3.6",
    "3.0",
    "30.5",
    "45.1",
    "201",
    "401",
    "-12",
    "100",
];
const PATHS: [&str; 9] = ["open", "level", "tilt", "leakage", "batt", "rain", "lamp", "dim", "power"];
/// What a device takes for its time.
const TIMES_MS: [i64; 10] = [
    0,
    1,
    -1,
    -3_600_000,
    86_400_000,
    // 1970, 2106, and the ends.
    -1_799_999_999_999,
    4_294_967_295_000 - 1_800_000_000_000,
    i64::MIN / 2,
    i64::MAX / 2,
    -500,
];

static SITE: LazyLock<Arc<Site>> = LazyLock::new(|| Arc::new(site()));

fn site() -> Site {
    let problems = Problems::default();
    let profile = parse_profile_text("rules.yaml", include_str!("rules.yaml"), &problems);
    let profile = profile.unwrap_or_else(|| panic!("the profile is sound: {:?}", problems.into_sorted()));
    // One beyond the polar circle, one that reports four times a second, one each day, one without a place.
    let device = |number: usize| Device {
        id: format!("D-{number}"),
        address: format!("D-{number}"),
        position: [Some((18.96, 69.65)), Some((116.3, 39.9)), None, Some((-180.0, -90.0))][number],
        interval: [None, Some(Duration::from_millis(250)), Some(Duration::from_secs(86_400)), None][number],
        parent: "pole-1".to_owned(),
        ..Device::default()
    };
    let address = AddressRule::Topic(TopicRule::of_level(1));
    let rule = SourceRule { source: Arc::from(SOURCE), address, claim: None, envelopes: Vec::new() };
    Site::new(SiteFacts {
        sources: vec![rule],
        ..SiteFacts::new("fuzz", vec![Arc::new(profile)], (0..DEVICES).map(device).collect())
    })
}

/// Takes the bytes for what happens on a street.
///
/// # Panics
/// When a rule panics, a restart changes what is said, an explanation holds no number where one should stand, or the
/// memory of a device grows without end.
pub fn rules(data: &[u8]) {
    let mut story = Story { choices: data.iter().copied(), now: START };
    let (mut one, mut other) = (Engine::new(Arc::clone(&SITE)), Engine::new(Arc::clone(&SITE)));
    let mut inputs = vec![Input::Site(Arc::clone(&SITE))];
    for _ in 0..EVENTS_MAX {
        let (effects, again) = (one.step(story.now, &inputs), other.step(story.now, &inputs));
        check(&effects, &again);
        let Some(event) = story.choices.next() else { break };
        story.now.0 += GAPS_MS[usize::from(event >> 4) % GAPS_MS.len()];
        if event & 0x0F == 15 {
            other = restarted(&other);
        }
        inputs = story.inputs(event & 0x0F);
    }
    let (bytes, again) = (one.snapshot(), other.snapshot());
    assert!(bytes.len() < DEVICES * DEVICE_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(bytes, again, "a restart leaves another state");
}

fn restarted(engine: &Engine) -> Engine {
    let bytes = engine.snapshot();
    let again = Engine::restore(Arc::clone(engine.site()), ENGINE_VERSION, &bytes);
    again.unwrap_or_else(|error| panic!("a snapshot cannot be read: {error}"))
}

fn check(effects: &Effects, again: &Effects) {
    assert_eq!(told(effects), told(again), "a restart changes what is said");
    for alarm in &effects.alarms {
        for text in [&alarm.explanation, &alarm.explanation_zh] {
            assert!(!text.contains("NaN") && !text.contains("inf "), "{alarm:?}");
            assert!(text.len() < 2_000, "{alarm:?}");
        }
    }
}

fn told(effects: &Effects) -> String {
    if effects.alarms.is_empty() && effects.cases.is_empty() && effects.outbox.is_empty() {
        return format!("{:?}", effects.audit);
    }
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        effects.alarms, effects.cases, effects.case_events, effects.outbox, effects.audit
    )
}

struct Story<'a> {
    choices: std::iter::Copied<std::slice::Iter<'a, u8>>,
    now: Timestamp,
}

impl Story<'_> {
    fn choose(&mut self) -> usize {
        usize::from(self.choices.next().unwrap_or(0))
    }

    fn inputs(&mut self, kind: u8) -> Vec<Input> {
        let by = || "王".to_owned();
        let choice = self.choose();
        let device = format!("D-{}", choice % DEVICES);
        match kind {
            0..10 => vec![self.frames(kind, choice)],
            10 => {
                let kind = if choice & 4 == 0 { MaskKind::Permit } else { MaskKind::Maintenance };
                let (from, until) = (self.now, Timestamp(self.now.0 + GAPS_MS[choice >> 4 & 7]));
                vec![Input::Operator(OperatorAction::Mask { device, kind, from, until, by: by(), reason: by() })]
            }
            11 => {
                let level = RainLevel::ALL[choice % RainLevel::ALL.len()];
                let until = Timestamp(self.now.0.saturating_add(TIMES_MS[choice % TIMES_MS.len()]));
                let signal = RainSignal { level, until };
                vec![Input::Operator(OperatorAction::RainSignal { signal, by: by() })]
            }
            12 => {
                let connected = choice & 1 == 0;
                vec![Input::Source(SourceStatus { source: Arc::from(SOURCE), connected })]
            }
            13 => {
                // The clock was set back, and the pipeline hands the site in again.
                self.now.0 -= GAPS_MS[choice % 10];
                vec![Input::Site(Arc::clone(&SITE))]
            }
            14 => vec![Input::Gateway(GatewayCondition {
                condition: "disk_low".to_owned(),
                active: choice & 1 == 0,
                severity: kerbside_model::Severity::Major,
                detail: String::new(),
                detail_zh: String::new(),
            })],
            _ => Vec::new(),
        }
    }

    /// One message, or the same value many times at a distance of so many ms.
    fn frames(&mut self, kind: u8, choice: usize) -> Input {
        let mut payload = String::from("{");
        if choice & 0x80 != 0 {
            let time = self.now.0.saturating_add(TIMES_MS[self.choose() % TIMES_MS.len()]);
            payload.push_str(&format!("\"ts\":{time},"));
        }
        let points = if kind < 7 { 1 } else { 4 };
        for _ in 0..points {
            let (path, value) = (self.choose(), self.choose());
            let value = match value {
                0..32 => VALUES[value].to_owned(),
                _ => format!("{}", (value as f64 - 40.0) * if path & 0x10 == 0 { 4.0 } else { 0.1 }),
            };
            payload.push_str(&format!("\"{}\":{value},", PATHS[path % PATHS.len()]));
        }
        payload.pop();
        payload.push('}');
        let mut frames = Frames::new(SOURCE.into(), self.now);
        let repeats = if kind == 6 { 40 } else { 1 };
        for _ in 0..repeats {
            frames.push(&format!("t/D-{}", choice % DEVICES), payload.as_bytes(), FrameFlags::default(), None);
        }
        Input::Frames(frames)
    }
}
