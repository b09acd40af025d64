//! Turns a raw frame into readings with the device's profile. Pure: the same frame gives the same readings.

mod again;
mod binary;
mod cbor;
mod codec;
mod convert;
mod csv;
pub mod envelope;
mod json;
pub(crate) mod rain;
mod registers;
mod rows;
mod scan;
mod sender;
mod sparkplug;
#[cfg(test)]
mod tests;
mod time;
mod undecoded;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::{Origin, PayloadFormat, Point, Profile};
use kerbside_model::{
    Cause, DeviceIndex, FrameNote, FrameView, LinkField, LinkQuality, Noted, Observations, PayloadView, PointReading,
    Quality, Site, TimeRefusal, Timestamp, UndecodedReason, Value,
};

pub use again::{Reread, Rereader};
use binary::BinaryPlan;
use codec::CodecPlan;
pub use codec::{CodecProblem, CodecTrace, check_codec, fuzzing as codec_fuzzing, trace_codec};
use convert::{Converter, Raw, Texts};
use csv::CsvPlan;
use json::JsonPlan;
pub use json::find_text;
use registers::RegisterPlan;
pub(crate) use registers::{number_in_registers, text_in_registers};
use rows::History;
use sparkplug::{Extent, SparkplugPlan};

pub use rows::RowTime;
pub use sender::{NotTaken, Refused, Sender, address_of, resolve};
pub use time::{Certainty, Told};
pub(crate) use undecoded::keep_undecoded;

use crate::local::Clock;
use crate::quality::Plan;

/// Frames without a time of their own that came at once are placed a millisecond apart, but never further ahead.
const BURST_MAX: Duration = Duration::from_secs(1);
/// So many remarks on one frame say enough.
const REMARKS_MAX: usize = 8;

/// What stands between a frame and its readings, compiled once a profile.
#[derive(Debug)]
pub struct Decoder {
    profile: Arc<Profile>,
    converters: Vec<Converter>,
    reader: Reader,
    has_derived: bool,
    has_required: bool,
    level: Option<u16>,
    /// What is tested of its readings.
    quality: Plan,
    clock: Clock,
    /// Points that the envelope gives.
    links: Vec<(u16, LinkField)>,
    tells_time: bool,
}

/// How the payloads of a profile are read.
#[derive(Debug)]
enum Reader {
    Json(JsonPlan),
    Registers(RegisterPlan),
    Binary(BinaryPlan),
    Csv(CsvPlan),
    Cbor(JsonPlan),
    Codec(CodecPlan),
    Sparkplug(SparkplugPlan),
}

impl Reader {
    fn new(profile: &Profile) -> Reader {
        match &profile.payload {
            PayloadFormat::Json(format) => Reader::Json(JsonPlan::new(&profile.points, format)),
            PayloadFormat::Registers(format) => Reader::Registers(RegisterPlan::new(&profile.points, format)),
            PayloadFormat::Binary(format) => Reader::Binary(BinaryPlan::new(&profile.points, format)),
            PayloadFormat::Csv(format) => Reader::Csv(CsvPlan::new(&profile.points, format)),
            PayloadFormat::Cbor(format) => Reader::Cbor(JsonPlan::new(&profile.points, format)),
            PayloadFormat::Codec(format) => Reader::Codec(CodecPlan::new(&profile.points, format)),
            PayloadFormat::Sparkplug(_) => Reader::Sparkplug(SparkplugPlan::new(&profile.points)),
        }
    }
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
    row: Row,
    history: History,
    texts: Texts,
    /// Room for a text that a decoder makes.
    text: String,
    /// What is odd about the frame, although it was read.
    remarks: Vec<String>,
}

/// What is known of the row that is being read.
#[derive(Debug, Default)]
struct Row {
    /// How many points the profile has.
    points: usize,
    /// Whether a point came, a bit each.
    came: Vec<u64>,
    /// Which of its alternative places a point came from.
    ranks: Vec<u8>,
    is_ordered: bool,
    /// One more than the point that came last.
    next_point: u16,
}

impl Row {
    fn begin(&mut self, points: usize) {
        self.points = points;
        self.came.clear();
        self.came.resize(points.div_ceil(64), 0);
        if self.ranks.len() < points {
            self.ranks.resize(points, 0);
        }
        (self.is_ordered, self.next_point) = (true, 0);
    }
}

/// What a device sent, out of the envelope that it came in.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The device's own bytes, or registers.
    pub payload: PayloadView<'a>,
    /// The text of the JSON object that the network server made of these bytes, when it did.
    pub object: Option<&'a str>,
    /// LoRaWAN port (FPort), where the envelope names one.
    pub port: Option<u8>,
    /// How it came, by the envelope; `None` without one.
    pub link: Option<LinkQuality>,
    /// When the network had it, by the envelope.
    pub network_time: Told,
    /// Whether it holds all that the device has to say, where a format has such messages and others: a birth.
    pub is_whole: bool,
    /// When it came to us.
    pub received_at: Timestamp,
}

impl<'a> Message<'a> {
    /// What a frame holds that came without an envelope.
    pub fn bare(payload: PayloadView<'a>, received_at: Timestamp) -> Message<'a> {
        Message {
            payload,
            object: None,
            port: None,
            link: None,
            network_time: Told::Nothing,
            is_whole: false,
            received_at,
        }
    }

    /// What a profile that reads JSON looks at: what the network server decoded, else the device's own bytes.
    fn json(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.object.map_or(bytes, str::as_bytes)
    }

    /// Says of bytes that are not the JSON that the profile reads what is missing.
    fn explain(&self, detail: String) -> String {
        if self.link.is_none() || self.object.is_some() {
            return detail;
        }
        format!(
            "{detail}; the envelope holds only the device's bytes: give the device a codec in the network server, or a \
             profile that reads bytes"
        )
    }
}

/// A frame that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// What the device says of the frame's time; see [`Told::judge`].
    pub told: Told,
    /// When the network had it, by the envelope.
    pub network_time: Told,
    /// Whether the frame shows that the device is alive: a Modbus poll without any answer does not.
    pub heard: bool,
}

impl Decoded {
    /// When the frame's own readings were taken: by the device's clock, else by the network's. `None` when neither tells
    /// a time that can be believed.
    pub fn time(&self, received_at: Timestamp, certainty: Certainty) -> Option<Timestamp> {
        let told = |told: Told| told.judge(received_at, certainty).unwrap_or_default();
        told(self.told).or_else(|| told(self.network_time))
    }
}

/// When the readings of a live frame were taken, as far as its clocks can be believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// By the device's clock, else by the network's.
    pub(crate) observed: Option<Timestamp>,
    /// By the clock that puts the device's frames in order: its own where its profile reads one, else the network's.
    /// Two clocks would make each other's frames look old.
    pub(crate) in_order: Option<Timestamp>,
    /// Why the device's own is not used.
    pub(crate) refused: Option<TimeRefusal>,
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
        Decoder {
            converters: profile.points.iter().map(Converter::new).collect(),
            reader: Reader::new(profile),
            has_derived: profile.points.iter().any(|point| matches!(point.origin, Origin::MountHeightMinus(_))),
            // A poll of registers says of each point that it asked for what became of it; of others it says nothing.
            has_required: !matches!(profile.payload, PayloadFormat::Registers(_))
                && profile.points.iter().any(|point| point.required),
            level: profile.point_index("level_mm").map(point_index),
            links: links(profile),
            quality: Plan::new(profile),
            clock: Clock::of(profile),
            tells_time: profile.payload.tells_time(),
            profile: Arc::clone(profile),
        }
    }

    /// The tests of the profile's points.
    pub fn quality(&self) -> &Plan {
        &self.quality
    }

    /// The hour for the profile's detectors.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The times of a frame that was decoded.
    pub(crate) fn times(&self, decoded: &Decoded, received_at: Timestamp, certainty: Certainty) -> Times {
        let own = decoded.told.judge(received_at, certainty);
        let observed = decoded.time(received_at, certainty);
        let in_order = if self.tells_time { own.unwrap_or_default() } else { observed };
        Times { observed, in_order, refused: own.err() }
    }

    /// Decodes a message of `device` into `scratch`. A panic inside becomes an error: one poisonous frame never stops
    /// the line.
    pub fn decode(
        &self,
        device: &Device,
        message: &Message<'_>,
        scratch: &mut Scratch,
    ) -> Result<Decoded, DecodeError> {
        let result = catch_unwind(AssertUnwindSafe(|| self.decode_unguarded(device, message, scratch)));
        let result = result.unwrap_or_else(|_| {
            Err(DecodeError {
                reason: UndecodedReason::Panic,
                detail: format!("the decoder of profile {} panicked on this frame", self.profile.name),
            })
        });
        if result.is_err() {
            // Nothing of it may be taken for a part of the next frame.
            scratch.begin(self.converters.len());
        }
        result
    }

    fn decode_unguarded(
        &self,
        device: &Device,
        message: &Message<'_>,
        scratch: &mut Scratch,
    ) -> Result<Decoded, DecodeError> {
        scratch.begin(self.converters.len());
        let malformed = |detail: String| DecodeError { reason: UndecodedReason::Malformed, detail };
        let mut decoded = Decoded { told: Told::Nothing, network_time: message.network_time, heard: true };
        match (&self.reader, message.payload) {
            (Reader::Json(plan), PayloadView::Bytes(bytes)) => {
                let read = plan.read(message.json(bytes), &self.converters, scratch);
                decoded.told = read.map_err(|detail| malformed(message.explain(detail)))?;
            }
            (Reader::Registers(plan), PayloadView::Registers(read)) => {
                decoded.heard = !read.blocks.is_empty();
                decoded.told = plan.read(&self.converters, read, scratch);
            }
            (Reader::Binary(plan), PayloadView::Bytes(bytes)) => {
                let read = plan.read(bytes, message.port, &self.converters, scratch);
                match read.map_err(malformed)? {
                    Some(told) => decoded.told = told,
                    // Its profile wants nothing of this kind of message.
                    None => return Ok(decoded),
                }
            }
            (Reader::Csv(plan), PayloadView::Bytes(bytes)) => {
                decoded.told = plan.read(bytes, &self.converters, scratch).map_err(malformed)?;
            }
            (Reader::Cbor(plan), PayloadView::Bytes(bytes)) => {
                let document = cbor::document(bytes).map_err(malformed)?;
                decoded.told = plan.read_value(&document, &self.converters, scratch).map_err(malformed)?;
            }
            (Reader::Codec(plan), PayloadView::Bytes(bytes)) => {
                decoded.told = plan.read(bytes, message, &self.converters, scratch)?;
            }
            (Reader::Sparkplug(plan), PayloadView::Bytes(bytes)) => {
                let extent = if message.is_whole { Extent::Whole } else { Extent::Changes };
                match plan.read(bytes, extent, &self.converters, scratch)? {
                    Some(told) => decoded.told = told,
                    None => return Ok(decoded),
                }
            }
            (_, PayloadView::Registers(_)) => return Err(malformed(self.misfit("registers"))),
            (Reader::Registers(_), PayloadView::Bytes(_)) => return Err(malformed(self.misfit("bytes"))),
        }
        if scratch.readings().is_empty() && scratch.history_len() == 0 {
            return Err(self.no_points(scratch));
        }
        if scratch.history_len() > 0 && (self.has_derived || self.level.is_some()) {
            scratch.rework_history(|scratch| self.compute(device, scratch)).map_err(malformed)?;
        }
        if !scratch.readings().is_empty() {
            self.compute(device, scratch);
            // Data that report by exception say nothing by what they leave out.
            let is_full = message.is_whole || !matches!(self.reader, Reader::Sparkplug(_));
            if self.has_required && is_full {
                self.note_absent(scratch);
            }
        }
        if let Some(link) = &message.link {
            self.take_link(link, scratch);
        }
        scratch.put_in_order();
        Ok(decoded)
    }

    /// Adds what the envelope says of the way that the message came.
    fn take_link(&self, link: &LinkQuality, scratch: &mut Scratch) {
        for (point, field) in &self.links {
            if let Some(number) = link.get(*field) {
                let converter = &self.converters[usize::from(*point)];
                scratch.keep(0, *point, |texts| converter.reading(*point, Raw::Number(number), texts));
            }
        }
    }

    fn no_points(&self, scratch: &Scratch) -> DecodeError {
        let nothing = format!("none of the points of profile {} is in this frame", self.profile.name);
        let detail = scratch.remarks.first().map_or_else(|| nothing.clone(), |remark| format!("{nothing}: {remark}"));
        DecodeError { reason: UndecodedReason::NoPoints, detail }
    }

    fn misfit(&self, held: &str) -> String {
        let Profile { name, payload, .. } = &*self.profile;
        format!("profile {name} reads {} and this frame holds {held}", payload.name())
    }

    /// Adds to a row what follows from its readings and the device's place.
    fn compute(&self, device: &Device, scratch: &mut Scratch) {
        self.correct_level(device, scratch);
        if self.has_derived {
            self.derive(device, scratch);
        }
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

/// The points of a profile that the envelope gives.
fn links(profile: &Profile) -> Vec<(u16, LinkField)> {
    let link = |(position, point): (usize, &Point)| match point.origin {
        Origin::Link(field) => Some((point_index(position), field)),
        _ => None,
    };
    profile.points.iter().enumerate().filter_map(link).collect()
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

    /// The same, to flag them.
    pub fn readings_mut(&mut self) -> &mut [PointReading] {
        &mut self.readings[self.first..]
    }

    /// Keeps a reading of another frame for [`Scratch::take_kept`], behind those of this one.
    pub(crate) fn keep_other(&mut self, reading: PointReading) {
        self.readings.truncate(self.first);
        self.readings.push(reading);
        self.first = self.readings.len();
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

    /// What is odd about the frame, although it was read: in sentences.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Notes that something is odd about the frame, although it was read.
    fn remark(&mut self, what: impl FnOnce() -> String) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(what());
        }
    }

    /// Whether a point came in the frame.
    #[inline]
    pub fn came(&self, point: u16) -> bool {
        let point = usize::from(point);
        self.row.came.get(point / 64).is_some_and(|bits| bits >> (point % 64) & 1 == 1)
    }

    /// Forgets the frame before; the next one has so many points.
    fn begin(&mut self, points: usize) {
        self.leave_row();
        self.readings.truncate(self.first);
        self.history.clear();
        self.remarks.clear();
        self.row.begin(points);
    }

    /// Keeps a reading of a point unless a better place has given one. It is made only when it is wanted.
    #[inline]
    fn keep(&mut self, rank: u8, point: u16, read: impl FnOnce(&mut Texts) -> PointReading) {
        let (word, bit) = (usize::from(point / 64), 1 << (point % 64));
        let row = &mut self.row;
        let rank_before = std::mem::replace(&mut row.ranks[usize::from(point)], rank);
        if row.came[word] & bit == 0 {
            row.came[word] |= bit;
            row.is_ordered &= point >= row.next_point;
            row.next_point = point.saturating_add(1);
            let reading = read(&mut self.texts);
            self.readings.push(reading);
        } else if rank < rank_before {
            let reading = read(&mut self.texts);
            self.set(reading);
        } else {
            row.ranks[usize::from(point)] = rank_before;
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
        let (point, row) = (reading.point, &mut self.row);
        row.came[usize::from(point / 64)] |= 1 << (point % 64);
        row.is_ordered &= point >= row.next_point;
        row.next_point = point.saturating_add(1);
        self.readings.push(reading);
    }

    fn reading_mut(&mut self, point: u16) -> Option<&mut PointReading> {
        self.readings[self.first..].iter_mut().find(|reading| reading.point == point)
    }

    fn put_in_order(&mut self) {
        if !self.row.is_ordered {
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

/// The time of a frame whose device tells none: its arrival, but never the time of the frame before it, or the database
/// would take two rows for one.
pub(crate) fn arrival(last: Timestamp, received_at: Timestamp) -> Timestamp {
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
    let mut others = notes;
    for (number, frame) in (0_u32..).zip(frames) {
        let count = others.iter().take_while(|note| note.frame == number).count();
        let (notes, later) = others.split_at(count);
        others = later;
        let placed_after_ms = notes.iter().find_map(|note| match note.what {
            Noted::PlacedAfter(ms) => Some(i64::from(ms)),
            _ => None,
        });
        let placed_at = |_| Timestamp(frame.received_at.0.saturating_add(placed_after_ms.unwrap_or(0)));
        let bench = Bench { site, decoders, certainty, notes };
        if !notes.iter().any(|note| note.what == Noted::Left) {
            // What cannot be decoded has a row of its own in the store.
            drop(decode_late(&bench, &frame, placed_at, &mut scratch, &mut observations));
        }
        add_revised(&bench, &frame, &mut observations);
    }
    observations
}

/// Adds what a frame settled about earlier readings of its device.
fn add_revised(bench: &Bench<'_>, frame: &FrameView<'_>, observations: &mut Observations) {
    for note in bench.notes {
        let Noted::Revised { point, value, observed_at, received_at, quality } = note.what else { continue };
        let Ok(sender) = resolve(bench.site, frame) else { return };
        let plan = bench.decoders.of(bench.site.device(sender.device)).quality();
        let Some(point) = plan.point(point) else { continue };
        let reading = PointReading { point, value: Some(Value::Number(value)), quality };
        observations.push(sender.device, observed_at, received_at, true, [reading]);
        frame.tags.iter().for_each(|tags| observations.tag_last(tags));
    }
}

/// What a frame is decoded with outside of a step.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// Whose devices.
    pub site: &'a Site,
    /// The decoders of its profiles.
    pub decoders: &'a Decoders,
    /// How far our own clock could be believed when the frame came.
    pub certainty: Certainty,
    /// What the engine noted about the frame.
    pub notes: &'a [FrameNote],
}

/// Decodes a frame that is no news, and adds what it gives to `observations`. `placed_at` says where it stands when it
/// tells no time of its own. Gives the device that it is from; `None` when it is no message of a device.
pub fn decode_late(
    bench: &Bench<'_>,
    frame: &FrameView<'_>,
    placed_at: impl FnOnce(DeviceIndex) -> Timestamp,
    scratch: &mut Scratch,
    observations: &mut Observations,
) -> Result<Option<DeviceIndex>, Refused> {
    let sender = match resolve(bench.site, frame) {
        Ok(sender) => sender,
        Err(NotTaken::Ignored(_)) => return Ok(None),
        Err(NotTaken::Refused(refused)) => return Err(refused),
    };
    decode_sent(bench, (frame, &sender), placed_at, scratch, observations)?;
    Ok(Some(sender.device))
}

/// The same for a frame whose sender is known.
fn decode_sent(
    bench: &Bench<'_>,
    (frame, sender): (&FrameView<'_>, &Sender<'_>),
    placed_at: impl FnOnce(DeviceIndex) -> Timestamp,
    scratch: &mut Scratch,
    observations: &mut Observations,
) -> Result<(), Refused> {
    let index = sender.device;
    let device = bench.site.device(index);
    let decoder = bench.decoders.of(device);
    let decoded = decoder.decode(device, &sender.message(frame), scratch);
    let decoded = decoded.map_err(|error| Refused { device: Some(index), error })?;
    let device_time = decoded.time(frame.received_at, bench.certainty);
    if !(scratch.readings().is_empty() || device_time.is_none() && frame.flags.retained) {
        let observed_at = device_time.unwrap_or_else(|| placed_at(index));
        decoder.quality().judge_alone(scratch.readings_mut(), observed_at);
        for note in bench.notes {
            let Noted::Graded { point, quality } = note.what else { continue };
            let noted = decoder.quality().point(point).and_then(|point| scratch.reading_mut(point));
            noted.into_iter().for_each(|reading| reading.quality = quality);
        }
        observations.push(index, observed_at, frame.received_at, false, scratch.drain());
        frame.tags.iter().for_each(|tags| observations.tag_last(tags));
    }
    let frame_time = device_time.unwrap_or(frame.received_at);
    for row in 0..scratch.history_len() {
        let judged = scratch.history_time(row).judge(frame_time, frame.received_at, bench.certainty);
        let Ok(observed_at) = judged else { continue };
        decoder.quality().judge_alone(scratch.history_mut(row), observed_at);
        observations.push(index, observed_at, frame.received_at, true, scratch.history(row).iter().cloned());
        frame.tags.iter().for_each(|tags| observations.tag_last(tags));
    }
    Ok(())
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
