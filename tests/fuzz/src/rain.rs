//! Rainstorm signals from outside: any bytes are a signal, are none of rain, or are kept with a reason; a signal never
//! lasts longer than three days.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kerbside_engine::Engine;
use kerbside_model::incident::{IncidentPolicy, RainTopic};
use kerbside_model::profile::JsonPath;
use kerbside_model::site::{AddressRule, SiteFacts, SourceRule};
use kerbside_model::topic::TopicRule;
use kerbside_model::{FrameFlags, Frames, Input, Site, Timestamp, UndecodedReason};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const SOURCE: &str = "bureau";
/// A signal lasts three days at most (docs/detection.md).
const LASTS_MS_MAX: i64 = 3 * 86_400_000;

static SITE: LazyLock<Arc<Site>> = LazyLock::new(|| {
    let path = |text: &str| JsonPath::parse(text).expect("the path is well-formed");
    let topic = |topic: &str, level: Option<JsonPath>, until: Option<JsonPath>| RainTopic {
        source: SOURCE.to_owned(),
        topic: topic.to_owned(),
        level,
        until,
        lasts: Duration::from_secs(6 * 3_600),
    };
    let rain_topics = vec![
        topic("rain/word", None, None),
        topic("rain/json", Some(path("level")), Some(path("until"))),
        topic("rain/deep", Some(path("alert.level")), None),
    ];
    let address = AddressRule::Topic(TopicRule::of_level(1));
    let rule = SourceRule { source: Arc::from(SOURCE), address, claim: None, envelopes: Vec::new() };
    let incidents = IncidentPolicy { rain_topics, ..IncidentPolicy::default() };
    Arc::new(Site::new(SiteFacts { sources: vec![rule], incidents, ..SiteFacts::new("fuzz", Vec::new(), Vec::new()) }))
});

/// Hands the bytes in on each topic; the first bit of the first byte says whether the broker had kept them.
///
/// # Panics
/// When reading panics, a signal lasts too long, or what is not understood has no reason.
pub fn rain(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else { return };
    for topic in ["rain/word", "rain/json", "rain/deep"] {
        let mut engine = Engine::new(Arc::clone(&SITE));
        engine.step(NOW, &[Input::Site(Arc::clone(&SITE))]);
        let mut frames = Frames::new(SOURCE.into(), NOW);
        let flags = FrameFlags { retained: first & 1 == 1, ..FrameFlags::default() };
        frames.push(topic, payload, flags, None);
        let effects = engine.step(NOW, &[Input::Frames(frames)]);
        for undecoded in &effects.undecoded {
            assert!(!undecoded.detail.is_empty(), "{undecoded:?}");
            assert_ne!(undecoded.reason, UndecodedReason::Panic, "{}", undecoded.detail);
        }
        if let Some(signal) = engine.rain_signal() {
            let lasts_ms = signal.until.0.saturating_sub(NOW.0);
            assert!((1..=LASTS_MS_MAX).contains(&lasts_ms), "{signal:?}");
        }
    }
}
