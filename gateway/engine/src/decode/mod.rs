//! Turns a raw frame into readings with the device's profile. Pure: the same frame gives the same readings.

mod convert;
mod json;
mod registers;
mod time;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::{Origin, PayloadFormat, Profile};
use kerbside_model::site::AddressRule;
use kerbside_model::{
    Cause, DeviceIndex, Frame, Observations, Payload, PointReading, Quality, Site, Timestamp, UndecodedReason, Value,
};

use rustc_hash::FxHashMap;

use convert::Converter;
use json::JsonPlan;
pub use json::find_text;

/// Frames without a time of their own that came at once are placed a millisecond apart, but never further ahead.
const BURST_MAX: Duration = Duration::from_secs(1);

/// What stands between a frame and its readings, compiled once a profile.
#[derive(Debug)]
pub struct Decoder {
    profile: Arc<Profile>,
    converters: Vec<Converter>,
    json: Option<JsonPlan>,
    has_derived: bool,
    level: Option<usize>,
}

/// Readings of one frame, by point; the vector is reused from frame to frame.
#[derive(Debug, Default)]
pub struct Scratch {
    readings: Vec<Option<PointReading>>,
    ranks: Vec<u8>,
}

/// A frame that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The device's own time, when the frame has one and it is plausible.
    pub device_time: Option<Timestamp>,
    /// Whether the frame shows that the device is alive: a Modbus poll without any answer does not.
    pub heard: bool,
}

/// A frame that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// In one word.
    pub reason: UndecodedReason,
    /// In a sentence.
    pub detail: String,
}

impl Decoder {
    /// Compiles a profile.
    pub fn new(profile: &Arc<Profile>) -> Decoder {
        let json = match &profile.payload {
            PayloadFormat::Json { time } => Some(JsonPlan::new(&profile.points, time.as_ref())),
            PayloadFormat::Registers { .. } => None,
        };
        Decoder {
            converters: profile.points.iter().map(Converter::new).collect(),
            json,
            has_derived: profile.points.iter().any(|point| matches!(point.origin, Origin::MountHeightMinus(_))),
            level: profile.point_index("level_mm"),
            profile: Arc::clone(profile),
        }
    }

    /// Decodes a frame of `device` into `scratch`. A panic inside becomes an error: one poisonous frame never stops
    /// the line.
    pub fn decode(
        &self,
        device: &Device,
        payload: &Payload,
        received_at: Timestamp,
        scratch: &mut Scratch,
    ) -> Result<Decoded, DecodeError> {
        match catch_unwind(AssertUnwindSafe(|| self.decode_unguarded(device, payload, received_at, scratch))) {
            Ok(result) => result,
            Err(_) => Err(DecodeError {
                reason: UndecodedReason::Panic,
                detail: format!("the decoder of profile {} panicked on this frame", self.profile.name),
            }),
        }
    }

    fn decode_unguarded(
        &self,
        device: &Device,
        payload: &Payload,
        received_at: Timestamp,
        scratch: &mut Scratch,
    ) -> Result<Decoded, DecodeError> {
        scratch.readings.clear();
        scratch.readings.resize(self.converters.len(), None);
        scratch.ranks.clear();
        scratch.ranks.resize(self.converters.len(), u8::MAX);
        let malformed = |detail: String| DecodeError { reason: UndecodedReason::Malformed, detail };
        let mut decoded = Decoded { device_time: None, heard: true };
        match (&self.json, payload) {
            (Some(plan), Payload::Bytes(bytes)) => {
                let time = plan.read(bytes, &self.converters, scratch).map_err(malformed)?;
                decoded.device_time = time.and_then(|time| time::plausible(time, received_at));
            }
            (None, Payload::Registers(read)) => {
                decoded.heard = !read.blocks.is_empty();
                registers::read(&self.profile.points, &self.converters, read, scratch);
            }
            (Some(_), Payload::Registers(_)) => {
                return Err(malformed(format!(
                    "profile {} reads JSON and this frame holds registers",
                    self.profile.name
                )));
            }
            (None, Payload::Bytes(_)) => {
                return Err(malformed(format!(
                    "profile {} reads registers and this frame holds bytes",
                    self.profile.name
                )));
            }
        }
        if scratch.readings.iter().all(Option::is_none) {
            return Err(DecodeError {
                reason: UndecodedReason::NoPoints,
                detail: format!("none of the points of profile {} is in this frame", self.profile.name),
            });
        }
        self.correct_level(device, scratch);
        if self.has_derived {
            self.derive(device, scratch);
        }
        self.note_absent(scratch);
        Ok(decoded)
    }

    /// Adds what the ruler said at installation.
    fn correct_level(&self, device: &Device, scratch: &mut Scratch) {
        let Some(level) = self.level.filter(|_| device.level_offset_mm != 0.0) else { return };
        if let Some(PointReading { value: Some(Value::Number(number)), .. }) = &mut scratch.readings[level] {
            *number += device.level_offset_mm;
        }
    }

    /// Distance is not level: level = mount height - distance, for each site.
    fn derive(&self, device: &Device, scratch: &mut Scratch) {
        for (position, point) in self.profile.points.iter().enumerate() {
            let Origin::MountHeightMinus(other) = point.origin else { continue };
            let Some(distance) = scratch.readings[usize::from(other)].as_ref() else { continue };
            let number = distance.value.as_ref().and_then(Value::as_number).filter(|_| distance.quality.is_good());
            let index = point_index(position);
            scratch.readings[position] = Some(match (number, device.mount_height_mm) {
                (Some(number), Some(height)) => {
                    self.converters[position].number(index, height - number + device.level_offset_mm)
                }
                _ => PointReading { point: index, value: None, quality: Quality::missing(Cause::Derived) },
            });
        }
    }

    fn note_absent(&self, scratch: &mut Scratch) {
        for (position, reading) in scratch.readings.iter_mut().enumerate() {
            if reading.is_none() && self.converters[position].required {
                let point = point_index(position);
                *reading = Some(PointReading { point, value: None, quality: Quality::missing(Cause::Absent) });
            }
        }
    }
}

fn point_index(position: usize) -> u16 {
    u16::try_from(position).expect("a profile has fewer than 65,536 points")
}

impl Scratch {
    /// Takes the readings out, in the order of the profile's points.
    pub fn drain(&mut self) -> impl Iterator<Item = PointReading> + '_ {
        self.readings.drain(..).flatten()
    }

    /// Looks at the readings, in the order of the profile's points.
    pub fn readings(&self) -> impl Iterator<Item = &PointReading> {
        self.readings.iter().flatten()
    }

    /// Whether a point came in the frame.
    pub fn came(&self, point: u16) -> bool {
        self.readings.get(usize::from(point)).is_some_and(Option::is_some)
    }

    fn keep(&mut self, rank: u8, reading: PointReading) {
        let position = usize::from(reading.point);
        if rank < self.ranks[position] {
            self.ranks[position] = rank;
            self.readings[position] = Some(reading);
        }
    }
}

/// The decoders of all profiles of a site.
#[derive(Debug, Default)]
pub struct Decoders(Vec<Decoder>);

impl Decoders {
    /// Compiles every profile of a site.
    pub fn new(site: &Site) -> Decoders {
        Decoders(site.facts().profiles.iter().map(Decoder::new).collect())
    }

    /// The decoder of a device.
    pub fn of(&self, device: &Device) -> &Decoder {
        &self.0[usize::from(device.profile)]
    }
}

/// The device that a frame is from.
pub fn resolve(site: &Site, frame: &Frame) -> Result<DeviceIndex, DecodeError> {
    let unknown = |detail: String| DecodeError { reason: UndecodedReason::UnknownDevice, detail };
    if let AddressRule::Payload(path) = site.address_rule(&frame.source) {
        let Payload::Bytes(bytes) = &frame.payload else {
            return Err(unknown(
                "the address is to be found in a JSON payload and this frame holds registers".to_owned(),
            ));
        };
        let address = match find_text(bytes, path) {
            Ok(Some(address)) => address,
            Ok(None) => {
                return Err(unknown(format!("the payload has no {path}, where the device's address should stand")));
            }
            Err(detail) => return Err(DecodeError { reason: UndecodedReason::Malformed, detail }),
        };
        return site
            .resolve(&frame.source, address.as_bytes())
            .ok_or_else(|| unknown(format!("no device of the inventory has the address {address:?}")));
    }
    site.resolve_by_address(frame)
        .ok_or_else(|| unknown(format!("no device of the inventory has the address in {:?}", frame.address.as_str())))
}

/// What the inventory's column `address` must say for the device of a frame, as far as the frame tells.
pub fn address_of(site: &Site, frame: &Frame) -> String {
    let found = match site.address_rule(&frame.source) {
        AddressRule::Whole => None,
        AddressRule::TopicLevel(level) => frame.address.split('/').nth(*level).map(str::to_owned),
        AddressRule::Payload(path) => match &frame.payload {
            Payload::Bytes(bytes) => find_text(bytes, path).ok().flatten(),
            Payload::Registers(_) => None,
        },
    };
    found.unwrap_or_else(|| frame.address.to_string())
}

/// The time of a frame whose device tells none: its arrival, but never the time of the frame before it, or the database
/// would take two rows for one.
fn arrival(last: Timestamp, received_at: Timestamp) -> Timestamp {
    let is_burst = received_at <= last && last.since(received_at) < BURST_MAX;
    if is_burst { Timestamp(last.0 + 1) } else { received_at }
}

/// Decodes frames again for a telemetry backlog. Lateness is not known here: it steers alarms, not the database.
pub fn decode_again<'a>(site: &Site, decoders: &Decoders, frames: impl Iterator<Item = &'a Frame>) -> Observations {
    let mut observations = Observations::default();
    let mut scratch = Scratch::default();
    let mut placed: FxHashMap<DeviceIndex, Timestamp> = FxHashMap::default();
    for frame in frames {
        let Ok(index) = resolve(site, frame) else { continue };
        let device = site.device(index);
        let Ok(decoded) = decoders.of(device).decode(device, &frame.payload, frame.received_at, &mut scratch) else {
            continue;
        };
        let last = placed.entry(index).or_default();
        let Some(observed_at) = observation_time(frame, &decoded, last) else { continue };
        observations.push(index, observed_at, frame.received_at, false, scratch.drain());
    }
    observations
}

/// When the readings of a frame were taken. A retained message without a time of its own has none: it may be years
/// old.
/// `last` is when the device's last frame without a time of its own was placed.
pub fn observation_time(frame: &Frame, decoded: &Decoded, last: &mut Timestamp) -> Option<Timestamp> {
    match decoded.device_time {
        Some(time) => Some(time),
        None if frame.retained => None,
        None => {
            *last = arrival(*last, frame.received_at);
            Some(*last)
        }
    }
}
