//! Payloads: a message of any bytes gives readings or a reason, the same ones every time, and never a panic.

use std::sync::Arc;

use kerbside_engine::Engine;
use kerbside_model::{Effects, FrameFlags, Frames, Input, Timestamp, UndecodedReason, Value};

use crate::street::{PAYLOAD, SITE, WHOLE};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Steps an engine with the bytes as the payload of one device of each profile.
///
/// # Panics
/// When a decoder panics, a message is neither read nor kept, a number is not finite, valid JSON is called invalid, or
/// the same message is read in two ways.
pub fn json(data: &[u8]) {
    let addresses: Vec<&str> = addresses().collect();
    let (effects, again) = (step(&addresses, data), step(&addresses, data));
    assert_eq!(format!("{effects:?}"), format!("{again:?}"), "the same message is read in two ways");

    let read = effects.counts.frames_decoded;
    let kept = effects.undecoded.len() as u64;
    // One more comes from the source that has the address in the payload.
    assert_eq!(read + kept, addresses.len() as u64 + 1, "a message was neither read nor kept");
    let is_valid = serde_json::from_slice::<serde_json::Value>(data).is_ok();
    for undecoded in &effects.undecoded {
        assert_ne!(undecoded.reason, UndecodedReason::Panic, "{}", undecoded.detail);
        assert!(!is_valid || !undecoded.detail.contains("not valid JSON"), "{}", undecoded.detail);
    }
    for reading in effects.observations.iter().flat_map(|(_, readings)| readings) {
        if let Some(Value::Number(number)) = &reading.value {
            assert!(number.is_finite(), "{number} of point {}", reading.point);
        }
    }
}

/// Addresses that the source calls one device each.
fn addresses() -> impl Iterator<Item = &'static str> {
    let is_plain = |address: &&str| SITE.resolve(WHOLE, address.as_bytes()).is_some();
    SITE.devices().iter().map(|device| device.address.as_str()).filter(is_plain).take(5)
}

fn step(addresses: &[&str], payload: &[u8]) -> Effects {
    let mut engine = Engine::new(Arc::clone(&SITE));
    engine.step(NOW, &[Input::Site(Arc::clone(&SITE))]);
    let mut frames = Frames::new(WHOLE.into(), NOW);
    for address in addresses {
        frames.push(address, payload, FrameFlags::default(), None);
    }
    let mut asked = Frames::new(PAYLOAD.into(), NOW);
    asked.push("application/1", payload, FrameFlags::default(), None);
    engine.step(NOW, &[Input::Frames(frames), Input::Frames(asked)])
}
