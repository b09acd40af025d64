//! The bytes of one message to raw values: kinds of message, parts, channels, and rows of other times.
//!
//! A profile is compiled into a plan: for each kind of message its blocks, and for each block the fields in it. What is
//! shorter than the profile says is refused with the place and the need; a channel that the profile does not know ends
//! the reading, and what was read before it counts.

mod field;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::{
    BinaryBlock, BinaryField, BinaryFormat, BinaryMessage, BinaryPart, BinaryPlace, BlockLength, ByteTest, MessageTest,
    Newest, Origin, PartRows, PartTest, Point, Repeat, TimeField, ValueType,
};
use kerbside_model::{Cause, Quality, Value};

use super::convert::Converter;
use super::rows::ROWS_MAX;
use super::time::{TimeReader, Told};
use super::{RowTime, Scratch, point_index};
pub(super) use field::push_hex;
use field::{Short, Wanted, number, read};

/// How the messages of one profile are read.
#[derive(Debug)]
pub(super) struct BinaryPlan {
    messages: Vec<MessagePlan>,
    time: Option<TimeReader>,
    /// Of the points, for errors.
    names: Vec<Arc<str>>,
}

#[derive(Debug)]
struct MessagePlan {
    name: String,
    when: Vec<MessageTest>,
    flags: Option<BinaryField>,
    whole: Vec<FieldPlan>,
    parts: Vec<PartPlan>,
    channels: Vec<ChannelPlan>,
}

#[derive(Debug)]
struct PartPlan {
    part: BinaryPart,
    time: Option<TimeReader>,
    fields: Vec<FieldPlan>,
}

#[derive(Debug)]
struct ChannelPlan {
    id: Vec<Option<u8>>,
    length: BlockLength,
    time: Option<(BinaryField, TimeReader)>,
    fields: Vec<FieldPlan>,
}

/// A value in a block.
#[derive(Debug)]
struct FieldPlan {
    target: Target,
    field: BinaryField,
    wanted: Wanted,
    when: Vec<ByteTest>,
    /// The id that its channel must have; empty elsewhere.
    id: Vec<Option<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Point {
        index: u16,
        rank: u8,
    },
    /// The device's own time.
    Time,
}

impl BinaryPlan {
    pub(super) fn new(points: &[Point], format: &BinaryFormat) -> BinaryPlan {
        let time = format.time.as_ref().map(TimeReader::new);
        let names = points.iter().map(|point| Arc::clone(&point.name)).collect();
        let mut plan = BinaryPlan { messages: format.messages.iter().map(MessagePlan::new).collect(), time, names };
        for (position, point) in points.iter().enumerate() {
            let Origin::Binary(places) = &point.origin else { continue };
            for (rank, place) in places.iter().enumerate() {
                let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
                let wanted = if point.value_type == ValueType::Text { Wanted::Text } else { Wanted::Number };
                plan.add(place, Target::Point { index: point_index(position), rank }, wanted);
            }
        }
        if let Some(TimeField { path, .. }) = &format.time {
            path.iter().for_each(|place| plan.add(place, Target::Time, Wanted::Number));
        }
        plan
    }

    fn add(&mut self, place: &BinaryPlace, target: Target, wanted: Wanted) {
        let BinaryPlace { message, block, field, when } = place;
        let message = &mut self.messages[usize::from(*message)];
        let mut plan = FieldPlan { target, field: *field, wanted, when: when.clone(), id: Vec::new() };
        match block {
            BinaryBlock::Message => message.whole.push(plan),
            BinaryBlock::Part(position) => message.parts[usize::from(*position)].fields.push(plan),
            BinaryBlock::Channel { position, id } => {
                plan.id.clone_from(id);
                message.channels[usize::from(*position)].fields.push(plan);
            }
        }
    }

    /// Reads a message into `scratch`, which has just begun; gives the device's time as it stands, or `None` when the
    /// profile wants nothing of this kind of message.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        port: Option<u8>,
        converters: &[Converter],
        scratch: &mut Scratch,
    ) -> Result<Option<Told>, String> {
        let Some(message) = self.messages.iter().find(|message| message.is_it(bytes, port)) else {
            return Err(self.no_such_message(bytes, port));
        };
        if message.is_bare() {
            return Ok(None);
        }
        let mut reading = Reading { plan: self, bytes, converters, scratch, told: Told::Nothing };
        reading.message(message)?;
        Ok(Some(reading.told))
    }

    fn no_such_message(&self, bytes: &[u8], port: Option<u8>) -> String {
        let port = port.map_or("without a port".to_owned(), |port| format!("on port {port}"));
        let begin: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02X}")).collect();
        let names: Vec<&str> =
            self.messages.iter().map(|message| message.name.as_str()).filter(|name| !name.is_empty()).collect();
        let known = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        format!(
            "{} bytes {port} that begin with {:?} are no kind of message of this profile{known}",
            bytes.len(),
            begin.join(" ")
        )
    }
}

impl MessagePlan {
    fn new(message: &BinaryMessage) -> MessagePlan {
        let part = |part: &BinaryPart| {
            let time = match &part.rows {
                Some(PartRows::Told { time, .. }) => Some(TimeReader::new(time)),
                _ => None,
            };
            PartPlan { part: part.clone(), time, fields: Vec::new() }
        };
        let channels = message.channels.iter().map(|channel| ChannelPlan {
            id: channel.id.clone(),
            length: channel.length,
            time: channel.time.as_ref().map(|time| (time.path, TimeReader::new(time))),
            fields: Vec::new(),
        });
        MessagePlan {
            name: message.name.clone(),
            when: message.when.clone(),
            flags: message.flags,
            whole: Vec::new(),
            parts: message.parts.iter().map(part).collect(),
            channels: channels.collect(),
        }
    }

    /// Whether nothing is wanted of it.
    fn is_bare(&self) -> bool {
        let in_parts = self.parts.iter().any(|part| !part.fields.is_empty());
        let in_channels = self.channels.iter().any(|channel| !channel.fields.is_empty());
        self.whole.is_empty() && !in_parts && !in_channels
    }

    fn is_it(&self, bytes: &[u8], port: Option<u8>) -> bool {
        self.when.iter().all(|test| match test {
            MessageTest::Port(ports) => port.is_some_and(|port| ports.contains(&port)),
            MessageTest::Length { min, max } => (usize::from(*min)..=usize::from(*max)).contains(&bytes.len()),
            MessageTest::Byte(test) => passes(test, bytes),
        })
    }
}

/// A byte that is not there passes no test.
fn passes(test: &ByteTest, block: &[u8]) -> bool {
    let position = match usize::try_from(test.offset) {
        Ok(position) => Some(position),
        Err(_) => block.len().checked_sub(usize::from(test.offset.unsigned_abs())),
    };
    let byte = position.and_then(|position| block.get(position));
    byte.is_some_and(|byte| test.values.contains(&(byte & test.mask)))
}

/// Whether an id is the one that is looked for.
fn is_id(id: &[Option<u8>], bytes: &[u8]) -> bool {
    id.len() <= bytes.len() && id.iter().zip(bytes).all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
}

/// One message that is being read.
struct Reading<'a> {
    plan: &'a BinaryPlan,
    bytes: &'a [u8],
    converters: &'a [Converter],
    scratch: &'a mut Scratch,
    told: Told,
}

impl<'a> Reading<'a> {
    fn message(&mut self, message: &MessagePlan) -> Result<(), String> {
        let bytes = self.bytes;
        for plan in &message.whole {
            let result = self.field(plan, bytes);
            result.map_err(|short| short.describe(0, "the message", self.name_of(plan.target)))?;
        }
        let flags = match &message.flags {
            Some(field) => {
                let flags = number(field, bytes).map_err(|short| short.describe(0, "the message", "its flags"))?;
                flags.cast_unsigned()
            }
            None => 0,
        };
        let mut at = 0;
        for part in &message.parts {
            let is_there = part.part.when.iter().all(|test| match test {
                PartTest::Flag(bit) => flags >> bit & 1 == 1,
                PartTest::Byte(test) => passes(test, bytes),
            });
            if is_there {
                at = self.part(part, at)?;
            }
        }
        if !message.channels.is_empty() {
            return self.channels(&message.channels, at);
        }
        if !message.parts.is_empty() && at < bytes.len() {
            let left = bytes.len() - at;
            self.scratch.remark(|| format!("{left} bytes from byte {at} on belong to no part of this profile"));
        }
        Ok(())
    }

    /// Reads a part as often as it comes, from byte `at` on; gives where the next one begins.
    fn part(&mut self, plan: &PartPlan, mut at: usize) -> Result<usize, String> {
        let PartPlan { part, fields, .. } = plan;
        let Some(rows) = &part.rows else {
            let block = self.block(part.length, at, || format!("part {}", part.name))?;
            self.fields(fields, block, at, || format!("part {}", part.name))?;
            return Ok(at + block.len());
        };
        let times = match &part.repeat {
            Repeat::Times(times) => usize::from(*times),
            Repeat::Counted(field) => {
                let count = number(field, self.bytes)
                    .map_err(|short| short.describe(0, "the message", "the number of its rows"))?;
                usize::try_from(count).unwrap_or(0)
            }
            Repeat::Rest => usize::MAX,
        };
        let first_row = self.scratch.history_len();
        let mut ends = 0;
        while ends < times && !(part.repeat == Repeat::Rest && at >= self.bytes.len()) {
            if ends >= ROWS_MAX {
                return Err(format!("part {} comes more than {ROWS_MAX} times", part.name));
            }
            let block = self.block(part.length, at, || format!("part {}", part.name))?;
            self.scratch.begin_row();
            self.fields(fields, block, at, || format!("part {}", part.name))?;
            let time = match (rows, &plan.time) {
                (PartRows::Told { time, .. }, Some(reader)) => {
                    let told = told(&time.path, reader, block, self.scratch);
                    RowTime::Told(told.map_err(|short| short.describe(at, &format!("part {}", part.name), "its time"))?)
                }
                (PartRows::Every { step, .. }, _) => {
                    RowTime::Before(step.saturating_mul(u32::try_from(ends).unwrap_or(u32::MAX)))
                }
                (PartRows::Told { .. }, None) => RowTime::Told(Told::Nothing),
            };
            self.scratch.end_row(time)?;
            ends += 1;
            if block.is_empty() {
                break;
            }
            at += block.len();
        }
        self.scratch.settle_rows(first_row, ends, rows, &mut self.told);
        Ok(at)
    }

    fn channels(&mut self, channels: &[ChannelPlan], mut at: usize) -> Result<(), String> {
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let Some(channel) = channels.iter().find(|channel| is_id(&channel.id, rest)) else {
                self.note_unknown_channel(channels, at);
                return Ok(());
            };
            let id = &rest[..channel.id.len()];
            let name = || format!("channel {}", hex(id));
            let first = at + id.len();
            let block = self.block(channel.length, first, name)?;
            if let Some((field, reader)) = &channel.time {
                self.scratch.begin_row();
                self.channel_fields(channel, id, block, first)?;
                let told = told(field, reader, block, self.scratch);
                let told = told.map_err(|short| short.describe(first, &name(), "its time"))?;
                self.scratch.end_row(RowTime::Told(told))?;
            } else {
                self.channel_fields(channel, id, block, first)?;
            }
            at = first + block.len();
        }
        Ok(())
    }

    fn note_unknown_channel(&mut self, channels: &[ChannelPlan], at: usize) {
        let rest = &self.bytes[at..];
        let longest = channels.iter().map(|channel| channel.id.len()).max().unwrap_or(0).min(rest.len());
        let (id, left) = (hex(&rest[..longest]), rest.len());
        self.scratch.remark(|| {
            format!("channel {id} at byte {at} is not in this profile: the last {left} bytes were not read")
        });
    }

    /// The bytes of a block that begins at byte `at`.
    fn block(&self, length: BlockLength, at: usize, name: impl Fn() -> String) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        let needed = match length {
            BlockLength::Fixed(length) => usize::from(length),
            BlockLength::Rest => rest.len(),
            BlockLength::Counted { at: place, plus } => {
                let Some(count) = rest.get(usize::from(place)) else {
                    return Err(too_short(&name(), at, usize::from(place) + 1, rest.len()));
                };
                usize::try_from(i32::from(*count) + i32::from(plus)).unwrap_or(0)
            }
        };
        rest.get(..needed).ok_or_else(|| too_short(&name(), at, needed, rest.len()))
    }

    fn fields(
        &mut self,
        plans: &[FieldPlan],
        block: &[u8],
        at: usize,
        name: impl Fn() -> String,
    ) -> Result<(), String> {
        for plan in plans {
            self.field(plan, block).map_err(|short| short.describe(at, &name(), self.name_of(plan.target)))?;
        }
        Ok(())
    }

    fn channel_fields(&mut self, channel: &ChannelPlan, id: &[u8], block: &[u8], at: usize) -> Result<(), String> {
        for plan in &channel.fields {
            if is_id(&plan.id, id) {
                let result = self.field(plan, block);
                result
                    .map_err(|short| short.describe(at, &format!("channel {}", hex(id)), self.name_of(plan.target)))?;
            }
        }
        Ok(())
    }

    fn field(&mut self, plan: &FieldPlan, block: &[u8]) -> Result<(), Short> {
        if !plan.when.iter().all(|test| passes(test, block)) {
            return Ok(());
        }
        // Taken out, so that a text in it can be borrowed while the reading is kept.
        let mut text = std::mem::take(&mut self.scratch.text);
        let result = read(&plan.field, plan.wanted, block, &mut text).map(|read| match plan.target {
            Target::Point { index, rank } => {
                let converter = &self.converters[usize::from(index)];
                self.scratch.keep(rank, index, |texts| {
                    let mut reading = converter.reading(index, read.raw, texts);
                    if read.is_rounded && reading.quality.is_good() && matches!(reading.value, Some(Value::Number(_))) {
                        reading.quality = Quality::suspect(Cause::Rounded);
                    }
                    reading
                });
            }
            Target::Time if self.told == Told::Nothing => {
                self.told = self.plan.time.as_ref().map_or(Told::Nothing, |reader| reader.raw(read.raw));
            }
            Target::Time => {}
        });
        self.scratch.text = text;
        result
    }

    fn name_of(&self, target: Target) -> &'a str {
        match target {
            Target::Point { index, .. } => &self.plan.names[usize::from(index)],
            Target::Time => "its time",
        }
    }
}

/// The time that a row tells.
fn told(field: &BinaryField, reader: &TimeReader, block: &[u8], scratch: &mut Scratch) -> Result<Told, Short> {
    let mut text = std::mem::take(&mut scratch.text);
    let told = read(field, Wanted::Number, block, &mut text).map(|read| reader.raw(read.raw));
    scratch.text = text;
    told
}

impl Scratch {
    /// Takes the newest row of a part that came so often, from row `first` on, out of the history. Rows that are a step
    /// apart were counted from their first, and may have to be counted from their last.
    fn settle_rows(&mut self, first: usize, came: usize, rows: &PartRows, told: &mut Told) {
        let newest = match rows {
            PartRows::Told { newest, .. } => *newest,
            PartRows::Every { step, newest } => {
                let whole = step.saturating_mul(u32::try_from(came.saturating_sub(1)).unwrap_or(u32::MAX));
                if *newest == Newest::Last {
                    self.count_rows_from(first, whole);
                }
                *newest
            }
        };
        let position = match (newest, self.history_len() - first) {
            (Newest::None, _) | (_, 0) => return,
            (Newest::First, _) => first,
            (Newest::Last, count) => first + count - 1,
        };
        match self.history_time(position) {
            RowTime::Told(time) => {
                *told = time;
                self.promote(position);
            }
            RowTime::Before(Duration::ZERO) => {
                self.promote(position);
            }
            // The newest one holds nothing.
            RowTime::Before(_) => {}
        }
    }
}

fn too_short(name: &str, at: usize, needed: usize, left: usize) -> String {
    format!("{name} begins at byte {at} and needs {needed} bytes, and only {left} are left: the message is cut short")
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}
