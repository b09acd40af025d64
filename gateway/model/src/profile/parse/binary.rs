//! The keys of `payload: {format: binary}` and of a point's `at`.

mod field;
mod place;
#[cfg(test)]
mod tests;

use super::payload::NEWEST;
use super::read_time_of;
use super::scalar::written;
use crate::document::{Node, NodeKind, Section};
use crate::profile::{
    BinaryChannel, BinaryField, BinaryFormat, BinaryMessage, BinaryPart, BlockLength, ByteTest, Endian, MessageTest,
    Newest, PartRows, PartTest, Repeat, TimeField, TimeUnit,
};
use field::{ENDIANS, FieldReader, small};
pub(super) use place::read_places;

/// A LoRaWAN frame has 242 bytes of the device's at most, an NB-IoT datagram 1,280; files come in other formats.
const MESSAGE_BYTES_MAX: i64 = 4_096;
/// A message has no more kinds, parts or channels: one that has is misread.
const BLOCKS_MAX: usize = 256;
/// The id of a channel is no longer.
const ID_BYTES_MAX: usize = 4;
/// A part comes no more often in one message.
const REPEAT_MAX: i64 = 2_048;
/// Keys that describe the only kind of message there is.
const MESSAGE_KEYS: [&str; 4] = ["when", "flags", "parts", "channels"];

/// Everything below `payload`.
pub(super) fn read_format(payload: &Section<'_>) -> BinaryFormat {
    let endian = payload.choice("endian", &ENDIANS).unwrap_or_default();
    let sections = payload.sections("messages");
    let mut format = BinaryFormat { endian, ..BinaryFormat::default() };
    if sections.is_empty() {
        format.messages.push(MessageReader { section: payload, endian }.read(String::new()));
    } else if let Some(key) = MESSAGE_KEYS.into_iter().find(|key| payload.has(key)) {
        let mend = "move it to the kind of message that it belongs to";
        payload.problem(key, "", "there are several kinds of message, and this belongs to none of them", mend);
    }
    check_count(payload, "messages", sections.len());
    for message in sections {
        let name = message.required_text("name", "write the name that points call it by, such as `name: status`");
        if format.message_index(&name).is_some() {
            message.problem("name", &name, "another kind of message has this name", "give each its own name");
        }
        format.messages.push(MessageReader { section: &message, endian }.read(name));
        message.finish();
    }
    if let Some(time) = payload.section("time") {
        let places = read_places(&time, &format);
        format.time = Some(read_time_of(time, places, None));
    }
    format
}

/// A list of sections, or one that stands alone.
fn one_or_more<'a>(section: &Section<'a>, key: &'static str) -> Vec<Section<'a>> {
    match section.node(key) {
        None => Vec::new(),
        Some(Node { kind: NodeKind::List(_), .. }) => section.sections(key),
        Some(node) => vec![section.nested(section.path_of(key), node)],
    }
}

fn check_count(section: &Section<'_>, key: &str, count: usize) {
    if count > BLOCKS_MAX {
        let mend = "this looks like several devices: write one profile for each model";
        section.problem(key, &count.to_string(), format!("more than {BLOCKS_MAX}"), mend);
    }
}

struct MessageReader<'a> {
    section: &'a Section<'a>,
    endian: Endian,
}

impl MessageReader<'_> {
    fn read(&self, name: String) -> BinaryMessage {
        let flags = self.section.section("flags").map(|flags| {
            let field = FieldReader { section: &flags, endian: self.endian }.read();
            if !field.value.is_integer() {
                flags.problem("type", "", "flags are bits of a whole number", "write `type: u16`");
            }
            flags.finish();
            field
        });
        let message = BinaryMessage {
            name,
            when: self.section.section("when").map_or_else(Vec::new, |when| read_message_tests(&when)),
            flags,
            parts: self.read_parts(flags),
            channels: self.read_channels(),
        };
        if message.flags.is_some() && !message.parts.iter().any(|part| part.when.iter().any(is_flag)) {
            self.section.problem("flags", "", "no part asks for a flag", "write `when: {flag: 0}` at a part");
        }
        message
    }

    fn read_parts(&self, flags: Option<BinaryField>) -> Vec<BinaryPart> {
        let sections = self.section.sections("parts");
        check_count(self.section, "parts", sections.len());
        let mut parts: Vec<BinaryPart> = Vec::with_capacity(sections.len());
        for section in sections {
            let part = self.read_part(&section, flags);
            if parts.iter().any(|other| other.name == part.name) {
                section.problem("name", &part.name, "another part has this name", "give each part its own name");
            }
            if flags.is_none() && part.when.iter().any(is_flag) {
                let mend = "write beside `parts` where they stand: `flags: {offset: 3, type: u16}`";
                section.problem("when", "", "this message has no flags", mend);
            }
            section.finish();
            parts.push(part);
        }
        parts
    }

    fn read_part(&self, section: &Section<'_>, flags: Option<BinaryField>) -> BinaryPart {
        let last_flag = flags.and_then(|flags| flags.width()).map_or(63, |bytes| i64::from(bytes) * 8 - 1);
        let when = section.section("when").map_or_else(Vec::new, |when| {
            let mut tests: Vec<PartTest> = read_byte_tests(&when).into_iter().map(PartTest::Byte).collect();
            if when.has("flag") {
                tests.push(PartTest::Flag(when.integer("flag", 0, last_flag).map_or(0, small)));
            }
            when.finish();
            tests
        });
        let name = section.required_text("name", "write the name that points call it by, such as `name: header`");
        let repeat = self.read_repeat(section);
        let length = read_length(section);
        let rows = self.read_rows(section);
        if repeat == Repeat::Rest && length == BlockLength::Rest {
            let mend = "write how many bytes it has each time: `length: 4`";
            section.problem("length", "rest", "a part that is repeated until the end needs a length", mend);
        }
        if repeat != Repeat::Times(1) && rows.is_none() {
            let mend = "write how far they are apart (`step: 10m, newest: first`) or where each tells its time \
                        (`time: {offset: 0, type: u32}`)";
            section.problem("repeat", "", "nobody knows when each of them was taken", mend);
        }
        BinaryPart { name, when, length, repeat, rows }
    }

    fn read_repeat(&self, section: &Section<'_>) -> Repeat {
        match section.node("repeat") {
            None => Repeat::Times(1),
            Some(Node { kind: NodeKind::Map(_), .. }) => match section.section("repeat") {
                Some(count) => {
                    let field = FieldReader { section: &count, endian: self.endian }.read();
                    if !field.value.is_integer() {
                        count.problem("type", "", "not a whole number", "write `type: u8`");
                    }
                    count.finish();
                    Repeat::Counted(field)
                }
                None => Repeat::Times(1),
            },
            Some(node) if written(node) == "rest" => Repeat::Rest,
            Some(_) => Repeat::Times(section.integer("repeat", 1, REPEAT_MAX).map_or(1, small)),
        }
    }

    fn read_rows(&self, section: &Section<'_>) -> Option<PartRows> {
        let newest = section.choice("newest", &NEWEST);
        let time = section.section("time").map(|time| self.read_row_time(time));
        match (time, section.duration("step")) {
            (Some(_), Some(_)) => {
                let mend = "keep one of the two";
                section.problem("step", "", "each of them tells its time already", mend);
                None
            }
            (Some(time), None) => Some(PartRows::Told { time, newest: newest.unwrap_or_default() }),
            (None, Some(step)) => {
                if !matches!(newest, Some(Newest::First | Newest::Last)) {
                    let mend = "write `newest: first` or `newest: last`";
                    section.problem("newest", "", "which end of them was taken at the time of the message?", mend);
                }
                Some(PartRows::Every { step, newest: newest.unwrap_or(Newest::First) })
            }
            (None, None) => {
                if newest.is_some() {
                    let mend = "write `step` or `time`, or leave it out";
                    section.problem("newest", "", "this part is not repeated with times", mend);
                }
                None
            }
        }
    }

    /// Mostly seconds since 1970.
    fn read_row_time(&self, time: Section<'_>) -> TimeField<BinaryField> {
        let field = FieldReader { section: &time, endian: self.endian }.read();
        read_time_of(time, field, Some(TimeUnit::Seconds))
    }

    fn read_channels(&self) -> Vec<BinaryChannel> {
        let sections = self.section.sections("channels");
        check_count(self.section, "channels", sections.len());
        let mut channels: Vec<BinaryChannel> = Vec::with_capacity(sections.len());
        for section in sections {
            let id = match section.text("id") {
                Some(text) => read_id(&section, "id", &text),
                None => {
                    section.missing("id", "write the bytes that the channel begins with: `id: 03 67`");
                    Vec::new()
                }
            };
            let channel = BinaryChannel {
                length: read_length(&section),
                time: section.section("time").map(|time| self.read_row_time(time)),
                id,
            };
            if channels.iter().any(|other| covers(&other.id, &channel.id)) {
                let mend = "keep one of the two; `xx` stands for any byte, and the first that fits counts";
                section.problem("id", "", "a channel above takes this one's place", mend);
            }
            section.finish();
            channels.push(channel);
        }
        channels
    }
}

fn is_flag(test: &PartTest) -> bool {
    matches!(test, PartTest::Flag(_))
}

/// Whether a channel with this id takes everything that the other one would.
fn covers(id: &[Option<u8>], other: &[Option<u8>]) -> bool {
    !id.is_empty()
        && id.len() <= other.len()
        && id.iter().zip(other).all(|(byte, other)| byte.is_none() || byte == other)
}

/// Pairs of hexadecimal digits; `xx` is any byte.
fn read_id(section: &Section<'_>, key: &str, text: &str) -> Vec<Option<u8>> {
    let digits: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let mut id = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks(2) {
        let pair: String = pair.iter().collect();
        match (pair.as_str(), u8::from_str_radix(&pair, 16)) {
            ("xx", _) => id.push(None),
            (_, Ok(byte)) if pair.len() == 2 && !pair.starts_with('+') => id.push(Some(byte)),
            _ => id.clear(),
        }
        if id.is_empty() {
            break;
        }
    }
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.iter().all(Option::is_none) {
        section.problem(
            key,
            text,
            "not the bytes that a channel begins with",
            format!("write one to {ID_BYTES_MAX} bytes in hexadecimal, `03 67`; `xx 67` when the first one may be any"),
        );
    }
    id
}

fn read_length(section: &Section<'_>) -> BlockLength {
    let mend = "write how many bytes it has: `length: 4`, `length: rest`, or `length: {at: 0, plus: 1}` when its byte \
                at 0 says how many follow";
    match section.node("length") {
        None => {
            section.missing("length", mend);
            BlockLength::Rest
        }
        Some(Node { kind: NodeKind::Map(_), .. }) => match section.section("length") {
            Some(counted) => {
                let at = counted.integer("at", 0, MESSAGE_BYTES_MAX).unwrap_or(0);
                let plus = counted.integer("plus", -255, MESSAGE_BYTES_MAX).unwrap_or(0);
                counted.finish();
                BlockLength::Counted { at: small(at), plus: i16::try_from(plus).unwrap_or(0) }
            }
            None => BlockLength::Rest,
        },
        Some(node) if written(node) == "rest" => BlockLength::Rest,
        Some(_) => BlockLength::Fixed(section.integer("length", 0, MESSAGE_BYTES_MAX).map_or(0, small)),
    }
}

fn read_message_tests(when: &Section<'_>) -> Vec<MessageTest> {
    let mut tests: Vec<MessageTest> = read_byte_tests(when).into_iter().map(MessageTest::Byte).collect();
    if when.has("port") {
        tests.push(MessageTest::Port(read_bytes(when, "port", "write the LoRaWAN port: `port: 2`, or `port: [2, 3]`")));
    }
    match when.node("length") {
        None => {}
        Some(Node { kind: NodeKind::Map(_), .. }) => {
            if let Some(length) = when.section("length") {
                let limit = |key, default| length.integer(key, 0, MESSAGE_BYTES_MAX).map_or(default, small);
                let (min, max) = (limit("min", 0), limit("max", u16::MAX));
                if min > max {
                    length.problem("min", &min.to_string(), "min is above max", "exchange the two");
                }
                length.finish();
                tests.push(MessageTest::Length { min, max });
            }
        }
        Some(_) => {
            let exact = when.integer("length", 0, MESSAGE_BYTES_MAX).map_or(0, small);
            tests.push(MessageTest::Length { min: exact, max: exact });
        }
    }
    when.known_only();
    tests
}

/// The tests under the key `byte`.
fn read_byte_tests(when: &Section<'_>) -> Vec<ByteTest> {
    let mut tests = Vec::new();
    for byte in one_or_more(when, "byte") {
        let offset = byte.integer("offset", -MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX).unwrap_or(0);
        let mask = byte.integer("mask", 1, 0xFF).map_or(u8::MAX, small);
        if !byte.has("equals") {
            byte.missing("equals", "write what the byte must be: `equals: 1`, or `equals: [1, 2]`");
        }
        let values = read_bytes(&byte, "equals", "write what the byte must be: `equals: 1`, or `equals: [1, 2]`");
        if let Some(value) = values.iter().find(|value| *value & !mask != 0) {
            let mend = "the byte is compared after all bits outside of the mask were made 0";
            byte.problem("equals", &value.to_string(), format!("never so with the mask {mask:#04X}"), mend);
        }
        byte.finish();
        tests.push(ByteTest { offset: i16::try_from(offset).unwrap_or(0), mask, values });
    }
    tests
}

/// A byte or several.
fn read_bytes(section: &Section<'_>, key: &'static str, mend: &str) -> Vec<u8> {
    let Some(node) = section.node(key) else { return Vec::new() };
    let items = match &node.kind {
        NodeKind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut bytes = Vec::with_capacity(items.len());
    for item in items {
        match item.to_json().as_u64().and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => bytes.push(byte),
            None => section.problem(key, &written(item), "not a number from 0 to 255", mend),
        }
    }
    bytes
}
