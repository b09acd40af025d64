//! Sparkplug nodes: whatever they say, in whatever order, no value is changed on its way to the decoder, and what the
//! decoder says of it is the same every time.

use std::sync::{Arc, LazyLock};

use kerbside_engine::sample::{SingleFrame, decode_single};
use kerbside_model::document::Problems;
use kerbside_model::profile::parse_profile_text;
use kerbside_model::sparkplug::Message;
use kerbside_model::{EnvelopeFormat, Payload, Profile};
use kerbside_sources::mqtt::fuzzing;

const TOPICS: [&str; 8] = [
    "spBv1.0/g/NBIRTH/n",
    "spBv1.0/g/DBIRTH/n/d",
    "spBv1.0/g/DDATA/n/d",
    "spBv1.0/g/NDATA/n",
    "spBv1.0/g/DDEATH/n/d",
    "spBv1.0/g/NDEATH/n",
    "spBv1.0/g/NCMD/n",
    "spBv1.0/STATE/h",
];
/// Set in a byte that chooses a topic: the broker sends the message again.
const AGAIN: u8 = 0x80;

static PROFILE: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let text = include_str!("../../../device-profiles/sparkplug-level.yaml");
    let profile = parse_profile_text("sparkplug-level.yaml", text, &Problems::default());
    Arc::new(profile.expect("its samples are run with every build"))
});

/// Takes messages as a source does: for each a byte for its topic, a byte for its length, and its payload.
///
/// # Panics
/// When a value is changed, or the same messages give something else the second time.
pub fn sparkplug(data: &[u8]) {
    let messages = messages(data);
    let taken = fuzzing::sparkplug(messages.iter().copied());
    assert_eq!(taken, fuzzing::sparkplug(messages.iter().copied()), "the same messages are taken in two ways");
    for ((topic, sent, _), (handed, _)) in messages.iter().zip(&taken) {
        check_values(sent, handed);
        check_decoder(handed);
        assert!(!topic.contains("CMD") || sent == handed, "a command is not ours to change");
    }
}

fn messages(data: &[u8]) -> Vec<(&'static str, &[u8], bool)> {
    let (mut messages, mut rest) = (Vec::new(), data);
    while let [choice, length, behind @ ..] = rest {
        let (payload, next) = behind.split_at(usize::from(*length).min(behind.len()));
        messages.push((TOPICS[usize::from(*choice) % TOPICS.len()], payload, choice & AGAIN != 0));
        rest = next;
    }
    messages
}

fn check_values(sent: &[u8], handed: &[u8]) {
    let (Ok(sent), Ok(handed)) = (Message::read(sent), Message::read(handed)) else {
        assert_eq!(sent, handed, "what is not understood stays as it is");
        return;
    };
    assert_eq!(sent.metrics.len(), handed.metrics.len());
    for (one, other) in sent.metrics.iter().zip(&handed.metrics) {
        // A NaN is not equal to itself, and its bits are.
        let bits = |metric: &kerbside_model::sparkplug::Metric| {
            format!("{:?}", (&metric.value, metric.timestamp, metric.alias))
        };
        assert_eq!(bits(one), bits(other), "a value was changed");
        assert!(one.name.is_none() || one.name == other.name, "a name was changed");
    }
}

fn check_decoder(payload: &[u8]) {
    let payload = Payload::Bytes(payload.to_vec().into());
    let envelope = Some(EnvelopeFormat::SparkplugB);
    let frame = SingleFrame { payload: &payload, port: None, envelope, mount_height_mm: None };
    let decoded = || format!("{:?}", decode_single(&PROFILE, &frame));
    let first = decoded();
    assert_eq!(first, decoded(), "the same message is decoded in two ways");
    assert!(!first.contains("reason: Panic"), "{first}");
}
