//! Bytes of a message in a profile: which kinds of message there are, of what parts and channels they are made, and how
//! values stand in them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bits, Newest, Sign, TimeField};

/// How the bytes of one message are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BinaryFormat {
    /// The order of bytes where a value has none of its own.
    pub endian: Endian,
    /// The kinds of message, in the order in which they are tried. There is at least one.
    pub messages: Vec<BinaryMessage>,
    /// Where the device's own time stands.
    pub time: Option<TimeField<Vec<BinaryPlace>>>,
}

/// One kind of message: parts behind one another from its first byte on, then channels until its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BinaryMessage {
    /// Name, or empty when there is only this kind.
    pub name: String,
    /// A message is of this kind when all of these hold.
    pub when: Vec<MessageTest>,
    /// A number whose bits say which parts are there.
    pub flags: Option<BinaryField>,
    /// Runs of bytes with a meaning of their own.
    pub parts: Vec<BinaryPart>,
    /// Pieces that begin with their id.
    pub channels: Vec<BinaryChannel>,
}

/// Something that is asked of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MessageTest {
    /// It came on one of these LoRaWAN ports (FPort).
    Port(Vec<u8>),
    /// It has so many bytes.
    Length {
        /// At least.
        min: u16,
        /// At most.
        max: u16,
    },
    /// One of its bytes is what it should be.
    Byte(ByteTest),
}

/// Something that is asked of one byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteTest {
    /// Where it stands; below zero counted from the end.
    pub offset: i16,
    /// The bits that are looked at.
    pub mask: u8,
    /// What they may be.
    pub values: Vec<u8>,
}

/// A run of bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryPart {
    /// Name, unique in its message.
    pub name: String,
    /// It is there only when all of these hold.
    pub when: Vec<PartTest>,
    /// How long it is.
    pub length: BlockLength,
    /// How often it comes, one behind the other.
    pub repeat: Repeat,
    /// Each time it comes it is a row with a time of its own.
    pub rows: Option<PartRows>,
}

/// Something that is asked before a part is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartTest {
    /// This bit of the message's flags is set, 0 = least significant.
    Flag(u8),
    /// One of the message's bytes is what it should be.
    Byte(ByteTest),
}

/// How long a part, or a channel without its id, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockLength {
    /// So many bytes.
    Fixed(u16),
    /// One of its bytes says it.
    Counted {
        /// Where that byte stands in it.
        at: u16,
        /// What is added to that byte.
        plus: i16,
    },
    /// To the end of the message.
    Rest,
}

/// How often a part comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeat {
    /// So often.
    Times(u16),
    /// A number in the message says it; its offset is that in the message.
    Counted(BinaryField),
    /// To the end of the message.
    Rest,
}

/// How a part that comes several times becomes rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PartRows {
    /// Each tells its time.
    Told {
        /// Where.
        time: TimeField<BinaryField>,
        /// Which one is no history.
        newest: Newest,
    },
    /// They were taken so long one after the other, the newest one at the time of the message.
    Every {
        /// The distance.
        step: Duration,
        /// Which end of them is the newest: first or last.
        newest: Newest,
    },
}

/// A piece of a message that begins with its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryChannel {
    /// The bytes of its id; `None` for any.
    pub id: Vec<Option<u8>>,
    /// How many bytes follow the id.
    pub length: BlockLength,
    /// It holds readings of another time: this one.
    pub time: Option<TimeField<BinaryField>>,
}

/// A place in the bytes of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryPlace {
    /// Position of the kind of message.
    pub message: u16,
    /// Where in it.
    pub block: BinaryBlock,
    /// How the value is read.
    pub field: BinaryField,
    /// The value is there only when all of these hold; their offsets are those in the block.
    pub when: Vec<ByteTest>,
}

/// What the offset of a place is counted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryBlock {
    /// The message's first byte.
    Message,
    /// The first byte of the part at this position.
    Part(u16),
    /// The first byte behind the id of a channel.
    Channel {
        /// Position of the channel.
        position: u16,
        /// The id that it must have, where the channel itself leaves some of it open.
        id: Vec<Option<u8>>,
    },
}

/// How a value stands in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryField {
    /// Where its first byte stands; below zero counted from the end.
    pub offset: i16,
    /// How the bytes are read.
    pub value: BinaryType,
    /// Which byte is the first one.
    pub endian: Endian,
    /// Some bits of the number instead of the whole.
    pub bits: Option<Bits>,
    /// How a number below zero is written.
    pub sign: Sign,
    /// The raw number that means zero.
    pub zero: i64,
}

/// How bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryType {
    /// A whole number of 1 to 8 bytes, never below zero.
    Unsigned(u8),
    /// A whole number of 1 to 8 bytes with a sign.
    Signed(u8),
    /// IEEE 754 of 2, 4 or 8 bytes.
    Float(u8),
    /// Two decimal digits a byte, 1 to 8 bytes.
    Bcd(u8),
    /// Text of so many bytes up to the first zero, spaces at its ends left out; 0 for all that is left.
    Text(u16),
    /// So many bytes as hexadecimal digits; 0 for all that is left.
    Hex(u16),
    /// So many bytes as decimal numbers with dots between.
    Dotted(u16),
    /// Date and time, each part in a byte as a number: year of this century, month, day, hour, minute, second.
    DateTime,
    /// The same with two decimal digits a byte.
    BcdDateTime,
}

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endian {
    /// The most significant byte first.
    #[default]
    Big,
    /// The least significant byte first.
    Little,
}

impl BinaryField {
    /// How many bytes it takes; `None` for all that are left.
    pub fn width(&self) -> Option<u16> {
        match self.value {
            BinaryType::Unsigned(bytes) | BinaryType::Signed(bytes) | BinaryType::Float(bytes) => {
                Some(u16::from(bytes))
            }
            BinaryType::Bcd(bytes) => Some(u16::from(bytes)),
            BinaryType::Text(0) | BinaryType::Hex(0) => None,
            BinaryType::Text(bytes) | BinaryType::Hex(bytes) | BinaryType::Dotted(bytes) => Some(bytes),
            BinaryType::DateTime | BinaryType::BcdDateTime => Some(6),
        }
    }

    /// The last byte that it needs, counted from 1; `None` when that depends on the message.
    pub fn end(&self) -> Option<u16> {
        let first = u16::try_from(self.offset).ok()?;
        first.checked_add(self.width()?)
    }
}

impl BinaryType {
    /// Whether it is a whole number, of which single bits can be taken.
    pub fn is_integer(self) -> bool {
        matches!(self, BinaryType::Unsigned(_) | BinaryType::Signed(_))
    }

    /// Whether it gives a text.
    pub fn is_text(self) -> bool {
        use BinaryType::{BcdDateTime, DateTime, Dotted, Hex, Text};
        matches!(self, Text(_) | Hex(_) | Dotted(_) | DateTime | BcdDateTime)
    }
}

impl BinaryFormat {
    /// The position of a kind of message by its name.
    pub fn message_index(&self, name: &str) -> Option<u16> {
        let position = self.messages.iter().position(|message| message.name == name)?;
        u16::try_from(position).ok()
    }
}
