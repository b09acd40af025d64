//! The key `at`: where in which kinds of message a value stands.

use super::field::FieldReader;
use super::{covers, one_or_more, read_byte_tests, read_id};
use crate::document::{Section, closest};
use crate::profile::{BinaryBlock, BinaryField, BinaryFormat, BinaryPlace, BlockLength};

/// A value stands at no more places.
const PLACES_MAX: usize = 64;

/// The places under the key `at` of a point or a time, in the order in which they are tried.
pub(in super::super) fn read_places(section: &Section<'_>, format: &BinaryFormat) -> Vec<BinaryPlace> {
    let sections = one_or_more(section, "at");
    if sections.is_empty() {
        section.missing("at", "write where the value stands: `at: {offset: 0, type: u16}`");
    }
    let mut places = Vec::with_capacity(sections.len());
    for at in sections {
        let reader = PlaceReader { section: &at, format };
        let field = FieldReader { section: &at, endian: format.endian }.read();
        let when = at.section("when").map_or_else(Vec::new, |when| {
            let tests = read_byte_tests(&when);
            when.finish();
            tests
        });
        for (message, block) in reader.read_blocks() {
            reader.check_fits(&field, message, &block);
            places.push(BinaryPlace { message, block, field, when: when.clone() });
        }
        at.finish();
    }
    if places.len() > PLACES_MAX {
        let mend = "write one profile for each model of device";
        section.problem("at", &places.len().to_string(), format!("more than {PLACES_MAX} places"), mend);
    }
    places
}

struct PlaceReader<'a> {
    section: &'a Section<'a>,
    format: &'a BinaryFormat,
}

impl PlaceReader<'_> {
    /// The blocks that the place is in: of the kinds of message that it names, or of all that have such a block.
    fn read_blocks(&self) -> Vec<(u16, BinaryBlock)> {
        let part = self.section.text("part");
        let channel = self.section.text("channel").map(|text| read_id(self.section, "channel", &text));
        if part.is_some() && channel.is_some() {
            let mend = "keep one of the two";
            self.section.problem("channel", "", "`part` says already where it stands", mend);
        }
        let named = self.read_messages();
        let is_named = self.section.has("message");
        if part.is_none() && channel.is_none() && !is_named && self.format.messages.len() > 1 {
            let mend = format!("write `message:` with one of {}", self.message_names().join(", "));
            self.section.missing("message", &mend);
            return Vec::new();
        }
        let mut blocks = Vec::new();
        for position in named {
            let message = &self.format.messages[usize::from(position)];
            match (&part, &channel) {
                (Some(name), _) => {
                    let found = message.parts.iter().position(|known| known.name == *name);
                    blocks.extend(found.map(|part| (position, BinaryBlock::Part(narrow(part)))));
                }
                (None, Some(id)) => {
                    let found = message.channels.iter().position(|known| covers(&known.id, id));
                    let block = |channel| BinaryBlock::Channel { position: narrow(channel), id: id.clone() };
                    blocks.extend(found.map(|channel| (position, block(channel))));
                }
                (None, None) => blocks.push((position, BinaryBlock::Message)),
            }
        }
        if blocks.is_empty() {
            self.note_unknown_block(part.as_deref());
        }
        blocks
    }

    fn read_messages(&self) -> Vec<u16> {
        if !self.section.has("message") {
            return (0..narrow(self.format.messages.len())).collect();
        }
        let mut positions = Vec::new();
        for name in self.section.texts("message") {
            match self.format.message_index(&name) {
                Some(position) if !name.is_empty() => positions.push(position),
                _ => {
                    let names = self.message_names();
                    let mend = match closest(&name, &names) {
                        Some(known) => format!("did you mean {known}?"),
                        None if names.is_empty() => "leave it out: there is only one kind of message".to_owned(),
                        None => format!("kinds of message: {}", names.join(", ")),
                    };
                    self.section.problem("message", &name, "there is no kind of message of this name", mend);
                }
            }
        }
        positions
    }

    fn message_names(&self) -> Vec<&str> {
        self.format.messages.iter().map(|message| message.name.as_str()).filter(|name| !name.is_empty()).collect()
    }

    fn note_unknown_block(&self, part: Option<&str>) {
        let Some(name) = part else {
            if let Some(text) = self.section.text("channel") {
                let mend = format!("declare it under `payload.channels`: `- {{id: {text}, length: 2}}`");
                self.section.problem("channel", &text, "no kind of message has this channel", mend);
            }
            return;
        };
        let parts = self.format.messages.iter().flat_map(|message| &message.parts);
        let names: Vec<&str> = parts.map(|part| part.name.as_str()).collect();
        let mend = match closest(name, &names) {
            Some(known) => format!("did you mean {known}?"),
            None if names.is_empty() => "declare it under `payload.parts`".to_owned(),
            None => format!("parts: {}", names.join(", ")),
        };
        self.section.problem("part", name, "there is no part of this name", mend);
    }

    /// What lies outside of its block is never there.
    fn check_fits(&self, field: &BinaryField, message: u16, block: &BinaryBlock) {
        let message = &self.format.messages[usize::from(message)];
        let length = match block {
            BinaryBlock::Message => return,
            BinaryBlock::Part(position) => message.parts[usize::from(*position)].length,
            BinaryBlock::Channel { position, .. } => message.channels[usize::from(*position)].length,
        };
        let BlockLength::Fixed(length) = length else { return };
        let from_front = field.end().is_some_and(|end| end > length);
        let from_behind = field.offset < 0 && field.offset.unsigned_abs() > length;
        if from_front || from_behind {
            let width = field.width().unwrap_or(0);
            self.section.problem(
                "offset",
                &field.offset.to_string(),
                format!("{width} bytes from here on reach out of a block of {length}"),
                "check offset, type and the length of the part or channel; offsets of a channel begin behind its id",
            );
        }
    }
}

fn narrow(position: usize) -> u16 {
    u16::try_from(position).expect("there are at most 256 of them")
}
