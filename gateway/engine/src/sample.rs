//! Runs the samples of a profile, and decodes single frames for people.

use std::sync::Arc;

use bytes::Bytes;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, Sample, SampleExpectation, SampleInput};
use kerbside_model::{Payload, PointReading, Timestamp, Value};

use crate::decode::{Certainty, DecodeError, Decoder, Message, Scratch};

/// A far day, so that the time in any captured frame lies before it: 2100-01-01T00:00:00Z.
const SAMPLES_RECEIVED_AT: Timestamp = Timestamp(4_102_444_800_000);
/// Numbers of a sample agree when they differ by no more than this share.
const NUMBERS_AGREE_WITHIN: f64 = 1e-9;

/// What a single frame gave.
#[derive(Debug)]
pub struct DecodedFrame {
    /// Readings in the order of the profile's points.
    pub readings: Vec<PointReading>,
    /// The device's own time, when the frame has a plausible one.
    pub observed_at: Option<Timestamp>,
}

/// Decodes one frame with a profile, for an imagined device with this mount height.
pub fn decode_single(
    profile: &Arc<Profile>,
    payload: &Payload,
    mount_height_mm: Option<f64>,
) -> Result<DecodedFrame, DecodeError> {
    let device = Device { id: "sample".to_owned(), mount_height_mm, ..Device::default() };
    let mut scratch = Scratch::default();
    let message = Message::bare(payload.view(), SAMPLES_RECEIVED_AT);
    let decoded = Decoder::new(profile).decode(&device, &message, &mut scratch)?;
    let observed_at = decoded.told.judge(SAMPLES_RECEIVED_AT, Certainty::Sure).unwrap_or_default();
    Ok(DecodedFrame { readings: scratch.drain().collect(), observed_at })
}

/// Runs one sample; gives what is wrong, in sentences.
pub fn run_sample(profile: &Arc<Profile>, sample: &Sample) -> Vec<String> {
    let payload = match &sample.input {
        SampleInput::Text(text) => Payload::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        SampleInput::Bytes(bytes) => Payload::Bytes(Bytes::copy_from_slice(bytes)),
        SampleInput::Registers(read) => Payload::Registers(read.clone()),
    };
    let result = decode_single(profile, &payload, sample.mount_height_mm);
    match (&sample.expect, result) {
        (SampleExpectation::Error(part), Err(error)) if error.detail.contains(part.as_str()) => Vec::new(),
        (SampleExpectation::Error(part), Err(error)) => {
            vec![format!("refused with {:?}, and not with a message that contains {part:?}", error.detail)]
        }
        (SampleExpectation::Error(part), Ok(_)) => vec![format!("decoded, although it must be refused with {part:?}")],
        (SampleExpectation::Readings { .. }, Err(error)) => vec![format!("refused: {}", error.detail)],
        (SampleExpectation::Readings { values, observed_at }, Ok(decoded)) => {
            let mut wrong = compare(profile, values, &decoded);
            if observed_at.is_some() && decoded.observed_at != *observed_at {
                let shown = |time: Option<Timestamp>| time.map_or("none".to_owned(), |time| time.to_string());
                wrong.push(format!("observed_at is {}, expected {}", shown(decoded.observed_at), shown(*observed_at)));
            }
            wrong
        }
    }
}

fn compare(profile: &Profile, values: &[(String, Option<Value>)], decoded: &DecodedFrame) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, expected) in values {
        let point = profile.point_index(name);
        let reading = decoded.readings.iter().find(|reading| Some(usize::from(reading.point)) == point);
        let good = reading.filter(|reading| reading.quality.is_good()).and_then(|reading| reading.value.as_ref());
        if !agree(expected.as_ref(), good) {
            let found = match reading {
                None => "nothing".to_owned(),
                Some(reading) => {
                    let value = reading.value.as_ref().map_or("no value".to_owned(), Value::to_string);
                    format!("{value} ({} {})", reading.quality.flag.name(), reading.quality.cause.name())
                        .replace(" )", ")")
                }
            };
            let wanted = expected.as_ref().map_or("no good value".to_owned(), Value::to_string);
            wrong.push(format!("{name} is {found}, expected {wanted}"));
        }
    }
    wrong
}

fn agree(expected: Option<&Value>, found: Option<&Value>) -> bool {
    match (expected, found) {
        (Some(Value::Number(expected)), Some(Value::Number(found))) => {
            (expected - found).abs() <= NUMBERS_AGREE_WITHIN * expected.abs().max(1.0)
        }
        (expected, found) => expected == found,
    }
}
