//! Envelopes of network servers: any bytes are opened, ignored or refused with words, the same way every time, and what
//! comes out of them fits what went in.

use std::sync::Arc;

use kerbside_engine::Engine;
use kerbside_engine::decode::envelope::{Opened, Uplink, open};
use kerbside_model::{EnvelopeFormat, FrameFlags, Frames, Input, Timestamp, UndecodedReason};

use crate::street::{ENVELOPES, SITE};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const TOPICS: [&str; 4] = [
    "application/1/device/0a1b2c3d4e5f6071/event/up",
    "application/1/device/0a1b2c3d4e5f6071/event/join",
    "cn470/gateway/0a1b2c3d4e5f6071/event/up",
    "lora/a",
];

/// Opens the bytes as an envelope of each format, and hands them to an engine. The first byte chooses the topic.
///
/// # Panics
/// When an envelope panics, is opened in two ways, holds more than was sent, or is refused without a word; when a
/// message is neither read nor kept nor counted.
pub fn envelope(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let topic = TOPICS[usize::from(*choice) % TOPICS.len()];
    for format in EnvelopeFormat::ALL {
        let opened = open(format, topic.as_bytes(), payload);
        let again = open(format, topic.as_bytes(), payload);
        assert_eq!(format!("{opened:?}"), format!("{again:?}"), "the same envelope is opened in two ways");
        match opened {
            Ok(Opened::Uplink(uplink)) => check_uplink(&uplink, payload),
            Ok(Opened::Ignored(_)) => {}
            Ok(Opened::Bare) => assert_eq!(format, EnvelopeFormat::Auto, "another envelope is never left out"),
            Err(error) => assert!(!error.is_empty() && error.len() < 1_000, "{error}"),
        }
        check_engine(format, topic, payload);
    }
}

fn check_uplink(uplink: &Uplink<'_>, payload: &[u8]) {
    assert!(uplink.bytes.len() <= payload.len(), "an envelope is no smaller than what is in it");
    assert!(uplink.names().next().is_some(), "an uplink is some device's");
    for name in uplink.names() {
        assert!(!name.is_empty() && name.len() <= 128, "{name}");
    }
    let numbers = [uplink.link.rssi_dbm, uplink.link.snr_db];
    assert!(numbers.into_iter().flatten().all(f64::is_finite), "{:?}", uplink.link);
}

fn check_engine(format: EnvelopeFormat, topic: &str, payload: &[u8]) {
    let mut engine = Engine::new(Arc::clone(&SITE));
    engine.step(NOW, &[Input::Site(Arc::clone(&SITE))]);
    let mut frames = Frames::new(ENVELOPES.into(), NOW);
    let topic = format!("{}/{topic}", format.name());
    frames.push(&topic, payload, FrameFlags::default(), None);
    frames.push(&topic, payload, FrameFlags { retained: false, redelivered: true }, None);
    let effects = engine.step(NOW, &[Input::Frames(frames)]);
    let counts = &effects.counts;
    let ignored: u64 = counts.frames_ignored.iter().sum();
    let undecoded: u64 = counts.frames_undecoded.iter().sum();
    assert_eq!(counts.frames_decoded + ignored + undecoded, 2, "a message was neither read nor kept nor counted");
    for undecoded in &effects.undecoded {
        assert_ne!(undecoded.reason, UndecodedReason::Panic, "{}", undecoded.detail);
    }
}
