//! Runs the samples of a profile, and decodes single frames for people.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, Sample, SampleExpectation, SampleInput, SampleRow, SampleTime};
use kerbside_model::{EnvelopeFormat, Flag, Payload, PayloadView, PointReading, Timestamp, UndecodedReason, Value};

use crate::decode::envelope::{self, Opened, Uplink};
use crate::decode::{Certainty, CodecTrace, DecodeError, Decoder, Message, RowTime, Scratch, trace_codec};

/// A far day, so that the time in any captured frame lies before it: 2100-01-01T00:00:00Z.
const SAMPLES_RECEIVED_AT: Timestamp = Timestamp(4_102_444_800_000);
/// Numbers of a sample agree when they differ by no more than this share.
const NUMBERS_AGREE_WITHIN: f64 = 1e-9;

/// A single frame, with what must be known of it and of the device that it is imagined to be from.
#[derive(Clone, Copy, Debug)]
pub struct SingleFrame<'a> {
    /// What it holds.
    pub payload: &'a Payload,
    /// The LoRaWAN port (FPort) that it came on.
    pub port: Option<u8>,
    /// The envelope that it stands in, when the payload is a whole message of a network server.
    pub envelope: Option<EnvelopeFormat>,
    /// Mount height of the device, in mm.
    pub mount_height_mm: Option<f64>,
}

/// What a single frame gave.
#[derive(Debug)]
pub struct DecodedFrame {
    /// Readings in the order of the profile's points.
    pub readings: Vec<PointReading>,
    /// The device's own time, when the frame has a plausible one.
    pub observed_at: Option<Timestamp>,
    /// Readings of other times, in the order of the frame.
    pub history: Vec<DecodedRow>,
    /// What is odd about the frame, although it was read.
    pub remarks: Vec<String>,
}

/// Readings of another time.
#[derive(Debug)]
pub struct DecodedRow {
    /// When they were taken, when that is plausible.
    pub observed_at: Option<Timestamp>,
    /// How long before the frame's own readings that was, when the frame says only so.
    pub before: Option<Duration>,
    /// Readings in the order of the profile's points.
    pub readings: Vec<PointReading>,
}

/// Asks the codec of a profile about one frame; `None` when the profile has none, or the envelope is not understood.
pub fn trace_single(profile: &Profile, frame: &SingleFrame<'_>) -> Option<CodecTrace> {
    let uplink = frame.envelope.map(|format| unwrap(format, frame.payload)).transpose().ok()?.flatten();
    let (payload, port) = match &uplink {
        Some(uplink) => (uplink.message(SAMPLES_RECEIVED_AT).payload, uplink.port),
        None => (frame.payload.view(), frame.port),
    };
    let PayloadView::Bytes(bytes) = payload else { return None };
    trace_codec(profile, bytes, port, SAMPLES_RECEIVED_AT)
}

/// Decodes one frame with a profile, for an imagined device.
pub fn decode_single(profile: &Arc<Profile>, frame: &SingleFrame<'_>) -> Result<DecodedFrame, DecodeError> {
    let device = Device { id: "sample".to_owned(), mount_height_mm: frame.mount_height_mm, ..Device::default() };
    let mut scratch = Scratch::default();
    let uplink = frame.envelope.map(|format| unwrap(format, frame.payload)).transpose()?.flatten();
    let message = match &uplink {
        Some(uplink) => uplink.message(SAMPLES_RECEIVED_AT),
        None => Message { port: frame.port, ..Message::bare(frame.payload.view(), SAMPLES_RECEIVED_AT) },
    };
    let decoder = Decoder::new(profile);
    let decoded = decoder.decode(&device, &message, &mut scratch)?;
    let observed_at = decoded.time(SAMPLES_RECEIVED_AT, Certainty::Sure);
    let frame_time = observed_at.unwrap_or(SAMPLES_RECEIVED_AT);
    decoder.quality().judge_alone(scratch.readings_mut(), frame_time);
    let rows = 0..scratch.history_len();
    for row in rows.clone() {
        let judged = scratch.history_time(row).judge(frame_time, SAMPLES_RECEIVED_AT, Certainty::Sure);
        decoder.quality().judge_alone(scratch.history_mut(row), judged.unwrap_or(frame_time));
    }
    let history = rows.map(|row| decoded_row(&scratch, row, frame_time)).collect();
    let remarks = scratch.remarks().to_vec();
    Ok(DecodedFrame { readings: scratch.drain().collect(), observed_at, history, remarks })
}

/// What is in the envelope; `None` for a frame without one.
fn unwrap(format: EnvelopeFormat, payload: &Payload) -> Result<Option<Box<Uplink<'_>>>, DecodeError> {
    let PayloadView::Bytes(bytes) = payload.view() else {
        let detail = "registers come in no envelope".to_owned();
        return Err(DecodeError { reason: UndecodedReason::Malformed, detail });
    };
    match envelope::open(format, b"", bytes) {
        Ok(Opened::Uplink(uplink)) => Ok(Some(uplink)),
        Ok(Opened::Bare) => Ok(None),
        Ok(Opened::Ignored(event)) => {
            let detail =
                format!("the envelope holds no reading; the gateway counts it as {} and leaves it", event.name());
            Err(DecodeError { reason: UndecodedReason::NoPoints, detail })
        }
        Err(detail) => Err(DecodeError { reason: UndecodedReason::Malformed, detail }),
    }
}

fn decoded_row(scratch: &Scratch, row: usize, frame_time: Timestamp) -> DecodedRow {
    let time = scratch.history_time(row);
    DecodedRow {
        observed_at: time.judge(frame_time, SAMPLES_RECEIVED_AT, Certainty::Sure).ok(),
        before: if let RowTime::Before(before) = time { Some(before) } else { None },
        readings: scratch.history(row).to_vec(),
    }
}

/// Runs one sample; gives what is wrong, in sentences.
pub fn run_sample(profile: &Arc<Profile>, sample: &Sample) -> Vec<String> {
    let payload = match &sample.input {
        SampleInput::Text(text) => Payload::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        SampleInput::Bytes(bytes) => Payload::Bytes(Bytes::copy_from_slice(bytes)),
        SampleInput::Registers(read) => Payload::Registers(read.clone()),
    };
    let Sample { port, envelope, mount_height_mm, .. } = *sample;
    let frame = SingleFrame { payload: &payload, port, envelope, mount_height_mm };
    let result = decode_single(profile, &frame);
    match (&sample.expect, result) {
        (SampleExpectation::Error(part), Err(error)) if error.detail.contains(part.as_str()) => Vec::new(),
        (SampleExpectation::Error(part), Err(error)) => {
            vec![format!("refused with {:?}, and not with a message that contains {part:?}", error.detail)]
        }
        (SampleExpectation::Error(part), Ok(_)) => vec![format!("decoded, although it must be refused with {part:?}")],
        (SampleExpectation::Readings { .. }, Err(error)) => vec![format!("refused: {}", error.detail)],
        (SampleExpectation::Readings { values, observed_at, history, remark }, Ok(decoded)) => {
            let mut wrong = compare(profile, values, &decoded.readings);
            if observed_at.is_some() && decoded.observed_at != *observed_at {
                let found = shown(decoded.observed_at);
                wrong.push(format!("observed_at is {found}, expected {}", shown(*observed_at)));
            }
            if !history.is_empty() {
                wrong.extend(compare_history(profile, history, &decoded.history));
            }
            let is_remarked = |part: &String| decoded.remarks.iter().any(|remark| remark.contains(part.as_str()));
            if let Some(part) = remark.as_ref().filter(|part| !is_remarked(part)) {
                wrong.push(format!("remarked is {:?}, expected {part:?}", decoded.remarks));
            }
            wrong
        }
    }
}

fn shown(time: Option<Timestamp>) -> String {
    time.map_or("none".to_owned(), |time| time.to_string())
}

fn compare_history(profile: &Profile, expected: &[SampleRow], found: &[DecodedRow]) -> Vec<String> {
    if expected.len() != found.len() {
        return vec![format!("history has {} rows, expected {}", found.len(), expected.len())];
    }
    let mut wrong = Vec::new();
    for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
        let row = compare(profile, &expected.values, &found.readings);
        wrong.extend(row.into_iter().map(|what| format!("history row {}: {what}", number + 1)));
        let is_then = match expected.at {
            SampleTime::At(time) => found.observed_at == Some(time),
            SampleTime::Before(before) => found.before == Some(before),
        };
        if !is_then {
            let found = match found.before {
                Some(before) => format!("{} s before", before.as_secs()),
                None => shown(found.observed_at),
            };
            wrong.push(format!("history row {} is of {found}, expected {:?}", number + 1, expected.at));
        }
    }
    wrong
}

fn compare(profile: &Profile, values: &[(String, Option<Value>)], readings: &[PointReading]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, expected) in values {
        let point = profile.point_index(name);
        let reading = readings.iter().find(|reading| Some(usize::from(reading.point)) == point);
        let value = |suspect: Suspect| {
            let is_taken = |reading: &&PointReading| match reading.quality.flag {
                Flag::Suspect => suspect == Suspect::Taken,
                flag => flag == Flag::Good,
            };
            reading.filter(is_taken).and_then(|reading| reading.value.as_ref())
        };
        // A suspect value may be written down, or null.
        let agrees = |suspect: Suspect| agree(expected.as_ref(), value(suspect));
        if !agrees(Suspect::Taken) && !agrees(Suspect::Left) {
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

/// What becomes of a suspect value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspect {
    Taken,
    Left,
}

fn agree(expected: Option<&Value>, found: Option<&Value>) -> bool {
    match (expected, found) {
        (Some(Value::Number(expected)), Some(Value::Number(found))) => {
            (expected - found).abs() <= NUMBERS_AGREE_WITHIN * expected.abs().max(1.0)
        }
        (expected, found) => expected == found,
    }
}
