//! Raw frames as sources receive them.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Cause, Timestamp};

/// Raw bytes as a source received them, with where they came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Name of the source in the configuration.
    pub source: Arc<str>,
    /// MQTT topic, or the unit number on a Modbus bus.
    pub address: ByteText,
    /// What was received.
    pub payload: Payload,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// An MQTT message that the broker kept: old, and never taken for live.
    pub retained: bool,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// The bytes of one message.
    Bytes(Bytes),
    /// What one poll of a Modbus unit gave.
    Registers(RegisterRead),
}

impl Payload {
    /// Size in memory, for limits.
    pub fn len(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Registers(read) => read.blocks.iter().map(|block| 4 + 2 * block.words.len()).sum(),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The answers of one poll of a Modbus unit: what was read and what failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegisterRead {
    /// Runs of adjacent registers that were read.
    pub blocks: Vec<RegisterBlock>,
    /// Runs that could not be read, with the cause.
    pub failures: Vec<RegisterFailure>,
}

/// Adjacent registers (or coils, one a word) that came in one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterBlock {
    /// Which of the four Modbus tables.
    pub table: RegisterTable,
    /// Address of the first register on the wire (0-based).
    pub address: u16,
    /// Register values; for coils and discrete inputs 0 or 1.
    pub words: Vec<u16>,
}

/// A run of registers that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterFailure {
    /// Which of the four Modbus tables.
    pub table: RegisterTable,
    /// Address of the first register on the wire (0-based).
    pub address: u16,
    /// How many registers.
    pub count: u16,
    /// Why: "timeout", "exception 2 (illegal data address)" ...
    pub cause: String,
}

impl RegisterFailure {
    /// How a cause begins that tells of an exception; its number and a space follow. Causes are stored as text, so this
    /// never changes.
    pub const EXCEPTION: &'static str = "exception ";

    /// The number of the exception with which the unit refused.
    pub fn exception(&self) -> Option<u8> {
        let (number, _) = self.cause.strip_prefix(RegisterFailure::EXCEPTION)?.split_once(' ')?;
        number.parse().ok()
    }

    /// What it means for a reading: exceptions 1 to 3 say that the device does not have these registers (Modbus
    /// Application Protocol V1.1b3, section 7); after anything else the next try may give them.
    pub fn reading_cause(&self) -> Cause {
        match self.exception() {
            Some(1..=3) => Cause::IllegalAddress,
            _ => Cause::ReadFailed,
        }
    }
}

/// The four tables of a Modbus unit (Modbus Application Protocol V1.1b3, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterTable {
    /// Coils, function 1.
    Coil,
    /// Discrete inputs, function 2.
    Discrete,
    /// Holding registers, function 3.
    Holding,
    /// Input registers, function 4.
    Input,
}

impl RegisterTable {
    /// The table that a function reads.
    pub fn of_function(function: i64) -> Option<RegisterTable> {
        match function {
            1 => Some(RegisterTable::Coil),
            2 => Some(RegisterTable::Discrete),
            3 => Some(RegisterTable::Holding),
            4 => Some(RegisterTable::Input),
            _ => None,
        }
    }

    /// The function that reads it.
    pub fn function(self) -> u8 {
        match self {
            RegisterTable::Coil => 1,
            RegisterTable::Discrete => 2,
            RegisterTable::Holding => 3,
            RegisterTable::Input => 4,
        }
    }
}

/// UTF-8 text in shared bytes: a slice of a receive buffer without a copy.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteText(Bytes);

impl ByteText {
    /// Checks that the bytes are UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<ByteText, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(ByteText(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// The text's bytes, without a look at them: the key of lookups.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for ByteText {
    fn from(text: String) -> ByteText {
        ByteText(Bytes::from(text))
    }
}

impl From<&str> for ByteText {
    fn from(text: &str) -> ByteText {
        ByteText(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Deref for ByteText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl std::fmt::Debug for ByteText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl std::fmt::Display for ByteText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for ByteText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ByteText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteText, D::Error> {
        String::deserialize(deserializer).map(ByteText::from)
    }
}
