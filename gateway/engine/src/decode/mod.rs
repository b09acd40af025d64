//! Turns a raw frame into readings with the device's profile. Pure: the same frame gives the same readings.

mod convert;
mod json;
mod registers;
mod scan;
mod time;
mod undecoded;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::{JsonPath, Origin, PayloadFormat, Profile};
use kerbside_model::site::{AddressRule, Unresolved};
use kerbside_model::topic::TopicParts;
use kerbside_model::{
    Cause, DeviceIndex, FrameNote, FrameView, Noted, Observations, PayloadView, PointReading, Quality, Site, Timestamp,
    UndecodedReason, Value,
};

use convert::{Converter, Texts};
use json::JsonPlan;
pub use json::find_text;

use crate::claim::{self, Claim};
pub use time::{Certainty, Told};
pub(crate) use undecoded::keep_undecoded;

/// Frames without a time of their own that came at once are placed a millisecond apart, but never further ahead.
const BURST_MAX: Duration = Duration::from_secs(1);

/// What stands between a frame and its readings, compiled once a profile.
#[derive(Debug)]
pub struct Decoder {
    profile: Arc<Profile>,
    converters: Vec<Converter>,
    json: Option<JsonPlan>,
    has_derived: bool,
    has_required: bool,
    level: Option<u16>,
}

/// Readings of one frame, in the order of the profile's points, behind those of the frames that were kept before.
/// Everything is reused from frame to frame.
#[derive(Debug, Default)]
pub struct Scratch {
    readings: Vec<PointReading>,
    /// Where the readings of this frame begin.
    first: usize,
    /// How many readings there were the last time.
    room: usize,
    /// Whether a point came, a bit each.
    came: Vec<u64>,
    /// Which of its alternative places a point came from.
    ranks: Vec<u8>,
    texts: Texts,
    is_ordered: bool,
    /// One more than the point that came last.
    next_point: u16,
}

/// What a device sent, out of the envelope that it came in.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The device's own bytes, or registers.
    pub payload: PayloadView<'a>,
    /// LoRaWAN port (FPort), where the envelope names one.
    pub port: Option<u8>,
    /// When it came to us.
    pub received_at: Timestamp,
}

impl<'a> Message<'a> {
    /// What a frame holds that came without an envelope.
    pub fn bare(payload: PayloadView<'a>, received_at: Timestamp) -> Message<'a> {
        Message { payload, port: None, received_at }
    }
}

/// A frame that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// What the frame says of its time; see [`Told::judge`].
    pub told: Told,
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
            has_required: profile.points.iter().any(|point| point.required),
            level: profile.point_index("level_mm").map(point_index),
            profile: Arc::clone(profile),
        }
    }

    /// Decodes a message of `device` into `scratch`. A panic inside becomes an error: one poisonous frame never stops
    /// the line.
    pub fn decode(
        &self,
        device: &Device,
        message: &Message<'_>,
        scratch: &mut Scratch,
    ) -> Result<Decoded, DecodeError> {
        match catch_unwind(AssertUnwindSafe(|| self.decode_unguarded(device, message, scratch))) {
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
        message: &Message<'_>,
        scratch: &mut Scratch,
    ) -> Result<Decoded, DecodeError> {
        scratch.begin(self.converters.len());
        let malformed = |detail: String| DecodeError { reason: UndecodedReason::Malformed, detail };
        let mut decoded = Decoded { told: Told::Nothing, heard: true };
        match (&self.json, message.payload) {
            (Some(plan), PayloadView::Bytes(bytes)) => {
                decoded.told = plan.read(bytes, &self.converters, scratch).map_err(malformed)?;
            }
            (None, PayloadView::Registers(read)) => {
                decoded.heard = !read.blocks.is_empty();
                registers::read(&self.profile.points, &self.converters, read, scratch);
            }
            (Some(_), PayloadView::Registers(_)) => {
                return Err(malformed(format!(
                    "profile {} reads JSON and this frame holds registers",
                    self.profile.name
                )));
            }
            (None, PayloadView::Bytes(_)) => {
                return Err(malformed(format!(
                    "profile {} reads registers and this frame holds bytes",
                    self.profile.name
                )));
            }
        }
        if scratch.readings().is_empty() {
            return Err(DecodeError {
                reason: UndecodedReason::NoPoints,
                detail: format!("none of the points of profile {} is in this frame", self.profile.name),
            });
        }
        self.correct_level(device, scratch);
        if self.has_derived {
            self.derive(device, scratch);
        }
        if self.has_required {
            self.note_absent(scratch);
        }
        scratch.put_in_order();
        Ok(decoded)
    }

    /// Adds what the ruler said at installation.
    fn correct_level(&self, device: &Device, scratch: &mut Scratch) {
        let Some(level) = self.level else { return };
        if let Some(PointReading { value: Some(Value::Number(number)), .. }) = scratch.reading_mut(level) {
            *number += device.level_offset_mm;
        }
    }

    /// Distance is not level: level = mount height - distance, for each site.
    fn derive(&self, device: &Device, scratch: &mut Scratch) {
        for (position, point) in self.profile.points.iter().enumerate() {
            let Origin::MountHeightMinus(other) = point.origin else { continue };
            let Some(distance) = scratch.reading_mut(other) else { continue };
            let number = distance.value.as_ref().and_then(Value::as_number).filter(|_| distance.quality.is_good());
            let index = point_index(position);
            scratch.set(match (number, device.mount_height_mm) {
                (Some(number), Some(height)) => {
                    self.converters[position].number(index, height - number + device.level_offset_mm)
                }
                _ => PointReading { point: index, value: None, quality: Quality::missing(Cause::Derived) },
            });
        }
    }

    fn note_absent(&self, scratch: &mut Scratch) {
        for (position, converter) in self.converters.iter().enumerate() {
            let point = point_index(position);
            if converter.required && !scratch.came(point) {
                scratch.set(PointReading { point, value: None, quality: Quality::missing(Cause::Absent) });
            }
        }
    }
}

fn point_index(position: usize) -> u16 {
    u16::try_from(position).expect("a profile has fewer than 65,536 points")
}

impl Scratch {
    /// Takes the readings out, in the order of the profile's points.
    pub fn drain(&mut self) -> std::vec::Drain<'_, PointReading> {
        self.readings.drain(self.first..)
    }

    /// The readings, in the order of the profile's points.
    pub fn readings(&self) -> &[PointReading] {
        &self.readings[self.first..]
    }

    /// Keeps the readings of this frame for [`Scratch::take_kept`]; how many they are.
    pub fn keep_frame(&mut self) -> usize {
        let count = self.readings.len() - self.first;
        self.first = self.readings.len();
        count
    }

    /// Frames are kept behind the readings of these observations, which go without them meanwhile.
    pub fn continue_with(&mut self, mut observations: Observations) -> Observations {
        self.readings = observations.take_readings();
        self.first = self.readings.len();
        if self.first == 0 {
            self.readings.reserve(self.room);
        }
        observations
    }

    /// The readings of all frames that were kept. As many will find room at once the next time.
    pub fn take_kept(&mut self) -> Vec<PointReading> {
        self.readings.truncate(self.first);
        self.room = std::mem::take(&mut self.first);
        std::mem::take(&mut self.readings)
    }

    /// Whether a point came in the frame.
    #[inline]
    pub fn came(&self, point: u16) -> bool {
        let point = usize::from(point);
        self.came.get(point / 64).is_some_and(|bits| bits >> (point % 64) & 1 == 1)
    }

    /// Forgets the frame before; the next one has so many points.
    fn begin(&mut self, points: usize) {
        self.readings.truncate(self.first);
        self.came.clear();
        self.came.resize(points.div_ceil(64), 0);
        if self.ranks.len() < points {
            self.ranks.resize(points, 0);
        }
        (self.is_ordered, self.next_point) = (true, 0);
    }

    /// Keeps a reading of a point unless a better place has given one. It is made only when it is wanted.
    #[inline]
    fn keep(&mut self, rank: u8, point: u16, read: impl FnOnce(&mut Texts) -> PointReading) {
        let (word, bit) = (usize::from(point / 64), 1 << (point % 64));
        let rank_before = std::mem::replace(&mut self.ranks[usize::from(point)], rank);
        if self.came[word] & bit == 0 {
            self.came[word] |= bit;
            self.is_ordered &= point >= self.next_point;
            self.next_point = point.saturating_add(1);
            let reading = read(&mut self.texts);
            self.readings.push(reading);
        } else if rank < rank_before {
            let reading = read(&mut self.texts);
            self.set(reading);
        } else {
            self.ranks[usize::from(point)] = rank_before;
        }
    }

    /// Puts a reading in the place of what was there.
    fn set(&mut self, reading: PointReading) {
        match self.reading_mut(reading.point) {
            Some(known) => *known = reading,
            None => self.add(reading),
        }
    }

    #[inline]
    fn add(&mut self, reading: PointReading) {
        let point = reading.point;
        self.came[usize::from(point / 64)] |= 1 << (point % 64);
        self.is_ordered &= point >= self.next_point;
        self.next_point = point.saturating_add(1);
        self.readings.push(reading);
    }

    fn reading_mut(&mut self, point: u16) -> Option<&mut PointReading> {
        self.readings[self.first..].iter_mut().find(|reading| reading.point == point)
    }

    fn put_in_order(&mut self) {
        if !self.is_ordered {
            self.readings[self.first..].sort_unstable_by_key(|reading| reading.point);
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

    /// The decoder of the profile at this position.
    pub fn at(&self, profile: usize) -> &Decoder {
        &self.0[profile]
    }

    /// The decoder of a device.
    pub fn of(&self, device: &Device) -> &Decoder {
        &self.0[usize::from(device.profile)]
    }
}

/// The device that a frame is from, and on which way it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    /// Which device.
    pub device: DeviceIndex,
    /// What stands in the topic before the device.
    pub prefix: &'a [u8],
}

/// A frame that is no device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The device whose address it bears, when there is one.
    pub device: Option<DeviceIndex>,
    /// Why it is not taken as that device's.
    pub error: DecodeError,
}

/// Finds out which device a frame is from. What its topic and its payload say of the device must agree.
pub fn resolve<'a>(site: &Site, frame: &FrameView<'a>) -> Result<Sender<'a>, Refused> {
    let source = site.source_rule(frame.source);
    let sender = match source.map_or(&AddressRule::Whole, |rule| &rule.address) {
        AddressRule::Whole => Sender { device: find(site, frame, frame.address)?, prefix: b"" },
        AddressRule::Topic(rule) => {
            let Some(parts) = rule.parts(frame.address) else {
                return Err(unknown(format!("the topic {:?} has no level for a device", frame.address_text())));
            };
            let device = site.resolve_topic(frame.source, rule, &parts);
            let device = device.map_err(|reason| not_in_topic(site, reason, &parts))?;
            Sender { device, prefix: parts.prefix }
        }
        AddressRule::Payload(path) => {
            Sender { device: find(site, frame, address_in(frame.payload, path)?.as_bytes())?, prefix: frame.address }
        }
    };
    if let Some(path) = source.and_then(|rule| rule.claim.as_ref()) {
        check_claim(site, sender.device, frame.payload, path)?;
    }
    Ok(sender)
}

fn unknown(detail: String) -> Refused {
    Refused { device: None, error: DecodeError { reason: UndecodedReason::UnknownDevice, detail } }
}

fn find(site: &Site, frame: &FrameView<'_>, address: &[u8]) -> Result<DeviceIndex, Refused> {
    let found = site.resolve(frame.source, address);
    found.ok_or_else(|| {
        unknown(format!("no device of the inventory has the address {:?}", String::from_utf8_lossy(address)))
    })
}

fn address_in(payload: PayloadView<'_>, path: &JsonPath) -> Result<String, Refused> {
    let PayloadView::Bytes(bytes) = payload else {
        return Err(unknown("the address is to be found in a JSON payload and this frame holds registers".to_owned()));
    };
    match find_text(bytes, path) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(unknown(format!("the payload has no {path}, where the device's address should stand"))),
        Err(detail) => Err(Refused { device: None, error: DecodeError { reason: UndecodedReason::Malformed, detail } }),
    }
}

fn not_in_topic(site: &Site, reason: Unresolved, parts: &TopicParts<'_>) -> Refused {
    match reason {
        Unresolved::Unknown => unknown(format!("no device of the inventory has the address {:?}", parts.address())),
        Unresolved::WrongKind { device: index, said } => {
            let device = site.device(index);
            let known = site.profile_of(device).kind.name();
            let detail = format!("the topic says {} and {} is of the kind {known}", said.name(), device.id);
            Refused { device: Some(index), error: DecodeError { reason: UndecodedReason::WrongKind, detail } }
        }
    }
}

fn check_claim(site: &Site, device: DeviceIndex, payload: PayloadView<'_>, path: &JsonPath) -> Result<(), Refused> {
    let PayloadView::Bytes(bytes) = payload else { return Ok(()) };
    let (reason, detail) = match claim::check(site, device, bytes, path) {
        Claim::Fits => return Ok(()),
        Claim::Other(name) => {
            let detail = format!("{path} says {name:?} and the topic is of {}", site.device(device).id);
            (UndecodedReason::WrongClaim, detail)
        }
        Claim::Unreadable(detail) => (UndecodedReason::Malformed, detail),
    };
    Err(Refused { device: Some(device), error: DecodeError { reason, detail } })
}

/// What the inventory's column `address` must say for the device of a frame, as far as the frame tells.
pub fn address_of(site: &Site, frame: &FrameView<'_>) -> String {
    let found = match site.address_rule(frame.source) {
        AddressRule::Whole => None,
        AddressRule::Topic(rule) => rule.parts(frame.address).map(|parts| parts.address()),
        AddressRule::Payload(path) => match frame.payload {
            PayloadView::Bytes(bytes) => find_text(bytes, path).ok().flatten(),
            PayloadView::Registers(_) => None,
        },
    };
    found.unwrap_or_else(|| frame.address_text().into_owned())
}

/// The time of a frame whose device tells none: its arrival, but never the time of the frame before it, or the database
/// would take two rows for one.
fn arrival(last: Timestamp, received_at: Timestamp) -> Timestamp {
    let is_burst = received_at <= last && last.since(received_at) < BURST_MAX;
    if is_burst { Timestamp(last.0 + 1) } else { received_at }
}

/// Decodes the frames of one commit again, all of them in their order, with the notes that the engine left about some.
/// The observations are those of then. Only lateness is not known here, which steers alarms and not the database; and a
/// frame that could not be decoded then may be readable with the profile of today.
/// `certainty` is that of our own clock when they came.
pub fn decode_again<'a>(
    site: &Site,
    decoders: &Decoders,
    frames: impl Iterator<Item = FrameView<'a>>,
    certainty: Certainty,
    notes: &[FrameNote],
) -> Observations {
    let mut observations = Observations::default();
    let mut scratch = Scratch::default();
    let mut notes = notes.iter().peekable();
    for (number, frame) in (0_u32..).zip(frames) {
        let placed_after_ms = match notes.next_if(|note| note.frame == number).map(|note| note.what) {
            Some(Noted::Left) => continue,
            Some(Noted::PlacedAfter(ms)) => i64::from(ms),
            None => 0,
        };
        let Ok(Sender { device: index, .. }) = resolve(site, &frame) else { continue };
        let device = site.device(index);
        let message = Message::bare(frame.payload, frame.received_at);
        let Ok(decoded) = decoders.of(device).decode(device, &message, &mut scratch) else {
            continue;
        };
        let device_time = decoded.told.judge(frame.received_at, certainty).unwrap_or_default();
        if device_time.is_none() && frame.flags.retained {
            continue;
        }
        let observed_at = device_time.unwrap_or(Timestamp(frame.received_at.0.saturating_add(placed_after_ms)));
        observations.push(index, observed_at, frame.received_at, false, scratch.drain());
        if let Some(tags) = frame.tags {
            observations.tag_last(tags);
        }
    }
    observations
}

/// When the readings of a frame were taken. A retained message without a time of its own has none: it may be years
/// old.
/// `last` is when the device's last frame without a time of its own was placed.
pub(crate) fn observation_time(
    frame: &FrameView<'_>,
    device_time: Option<Timestamp>,
    last: &mut Timestamp,
) -> Option<Timestamp> {
    match device_time {
        Some(time) => Some(time),
        None if frame.flags.retained => None,
        None => {
            *last = arrival(*last, frame.received_at);
            Some(*last)
        }
    }
}

/// The note that [`decode_again`] needs of a frame without a time of its own which does not stand at its arrival.
pub(crate) fn placed_after(received_at: Timestamp, observed_at: Timestamp) -> Noted {
    let ms = observed_at.0.saturating_sub(received_at.0);
    Noted::PlacedAfter(u16::try_from(ms).expect("a burst is placed within a second of its arrival"))
}
