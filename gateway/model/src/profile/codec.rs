//! Vendor codecs in a profile: a script in JavaScript that makes an object of the bytes of a message.

use serde::{Deserialize, Serialize};

use super::DocumentFormat;

/// A script is no longer than this many bytes. The Things Stack takes 40 KB from users; bundles of all devices of a maker
/// have up to 240 KB.
pub const CODEC_SOURCE_BYTES_MAX: usize = 512 * 1024;
/// Bytes that a codec may have on its heap, when its profile says nothing. The shipped samples take less than 100 KB.
pub const CODEC_HEAP_BYTES_DEFAULT: u32 = 8 * 1024 * 1024;
/// Interrupts that a frame may take, when its profile says nothing: about half a million branches and calls, 20 ms on a
/// small box. The decoding of 250 bytes takes none or one.
pub const CODEC_BUDGET_DEFAULT: u32 = 50;
/// The port that a codec is told when the frame came without an envelope that names one, and the profile neither.
pub const CODEC_PORT_DEFAULT: u8 = 1;

/// How messages are read with a codec. The script's text is part of it, so a replay runs the very same script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecFormat {
    /// The script's file beside the profile, or empty when it stands in the profile.
    pub script: String,
    /// The script.
    pub source: String,
    /// FPort of messages that name none.
    pub port: u8,
    /// What the script finds as `variables`.
    pub variables: Vec<(String, String)>,
    /// Bytes that it may have on its heap.
    pub heap_bytes_max: u32,
    /// Interrupts that a frame may take, of about 10,000 branches and calls each.
    pub budget: u32,
    /// Where time and history stand in the data that it gives.
    pub document: DocumentFormat,
    /// Which of its data the profile reads.
    pub output: CodecOutput,
    /// Its data are a list of named values.
    pub named_values: Option<NamedValues>,
}

/// Which data of a codec are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodecOutput {
    /// What its decoder gives.
    #[default]
    Data,
    /// What its `normalizeUplink` makes of that: the names of The Things Stack's device repository.
    Normalized,
}

/// Keys of an element in a list such as `[{field: "LEVEL", value: 3}]`, as Datacake, TagoIO and Watteco have it. The
/// profile then finds each value by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedValues {
    /// The key of the name.
    pub name: String,
    /// The key of the value.
    pub value: String,
}

impl CodecFormat {
    /// Whether another one gives the same data for every message.
    pub fn runs_like(&self, other: &CodecFormat) -> bool {
        (self.heap_bytes_max, self.budget) == (other.heap_bytes_max, other.budget)
            && (self.output, &self.named_values) == (other.output, &other.named_values)
            && self.variables == other.variables
            && self.source == other.source
    }
}
