//! Recordings: turns what a gateway was told, step by step, into a file, and such a file back into steps.
//!
//! A recording is JSON, one object a line, packed by zstd, so that `zstdcat FILE` shows it. It only grows: lines are
//! gathered into zstd frames, each whole in itself, and written behind the others. **After a crash** or a cut cable
//! everything up to the last whole step can be read; a torn tail is left out and told. docs/recordings.md describes
//! every line. There are no metrics.

mod line;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;

use kerbside_model::{StoredInput, Timestamp};
use serde::{Deserialize, Serialize};

pub use read::{RecordingReader, RecordingSite};
#[doc(hidden)]
pub use write::pack;
pub use write::{RecordingWriter, steps_of};

/// Version of the format that this program writes, and the newest that it reads.
pub const RECORDING_VERSION: u32 = 1;

/// The first line of a recording: what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingHeader {
    /// Version of the format.
    pub version: u32,
    /// Version of the program that wrote it.
    pub kerbside: String,
    /// Name of the site.
    pub site: String,
    /// Content hash of the site in force at the first step.
    pub site_hash: String,
    /// When the recording was begun.
    pub begun_at: Timestamp,
    /// Steps before this time are not in it.
    pub since: Timestamp,
    /// Only the frames of this source are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only the frames of this device are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What the engine was told in one step.
#[derive(Clone, Debug)]
pub struct RecordedStep {
    /// The engine's time.
    pub at: Timestamp,
    /// What it was told, in order; nothing when only timers were served.
    pub inputs: Vec<StoredInput>,
}

/// A recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file is there already.
    #[error("write the recording {}: the file is there already; name a new one", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file system refuses it.
    #[error("write the recording {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be opened or read.
    #[error("read the recording {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no recording at all.
    #[error("read {}: this is no recording of kerbside", path.display())]
    NotOne {
        /// Which file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("read the recording {}: it has version {found} and this kerbside reads up to version {RECORDING_VERSION}", path.display())]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A line is not what a line of a recording is.
    #[error("read line {line} of the recording {}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line is longer than any that is written.
    #[error("read line {line} of the recording {}: it has more than {max} bytes", path.display())]
    Long {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Longest line, bytes.
        max: usize,
    },
    /// The profiles and inventory in it are of another version of the program.
    #[error(
        "read the site {hash} in the recording: it was written by kerbside {by}; replay it with the profiles and inventory of today"
    )]
    OtherSite {
        /// Content hash of the site.
        hash: String,
        /// Version of the program that wrote it.
        by: String,
    },
}
