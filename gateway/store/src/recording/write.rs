//! Writing a recording: steps become lines, lines become zstd frames behind those that are in the file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbside_model::site::SiteFacts;
use kerbside_model::{FrameView, StoredInput, Timestamp};
use zstd::bulk::Compressor;

use super::line::{Line, lines_of};
use super::{RecordedStep, RecordingError, RecordingHeader};
use crate::query::StoredBatch;

/// zstd's own default: about tenfold for JSON at a hundred megabytes a second.
const LEVEL: i32 = 3;
/// Lines are packed and written when so many bytes of them have gathered.
const GATHERED_BYTES_MAX: usize = 1 << 20;

/// A recording that grows.
pub struct RecordingWriter {
    path: PathBuf,
    file: File,
    compressor: Compressor<'static>,
    /// Lines that are not in the file yet.
    gathered: Vec<u8>,
    /// Hashes of the sites that are in it.
    sites: Vec<String>,
    frames: u64,
    bytes: u64,
}

impl std::fmt::Debug for RecordingWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecordingWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RecordingWriter {
    /// Begins a recording in a new file.
    pub fn create(path: &Path, header: &RecordingHeader) -> Result<RecordingWriter, RecordingError> {
        let made = OpenOptions::new().append(true).create_new(true).open(path);
        let file = made.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => RecordingError::Exists { path: path.to_owned() },
            _ => RecordingError::Write { path: path.to_owned(), source },
        })?;
        let mut compressor = Compressor::new(LEVEL).expect("zstd knows its own default level");
        compressor.include_checksum(true).expect("zstd can add a checksum");
        let mut writer = RecordingWriter {
            path: path.to_owned(),
            file,
            compressor,
            gathered: Vec::new(),
            sites: Vec::new(),
            frames: 0,
            bytes: 0,
        };
        push(&mut writer.gathered, &Line::Recording(header.clone()));
        writer.flush()?;
        Ok(writer)
    }

    /// Whether the site of this hash is in it.
    pub fn has_site(&self, hash: &str) -> bool {
        self.sites.iter().any(|known| known == hash)
    }

    /// Adds profiles, inventory and policy, once each.
    pub fn site(&mut self, hash: &str, facts: &SiteFacts) {
        if self.has_site(hash) {
            return;
        }
        self.sites.push(hash.to_owned());
        let bytes = postcard::to_stdvec(facts).expect("site facts are plain data");
        push(&mut self.gathered, &Line::Site { hash: hash.to_owned(), facts: STANDARD.encode(bytes) });
    }

    /// Adds a step with those of its frames that are wanted.
    pub fn step(&mut self, step: &RecordedStep, wanted: &dyn Fn(&FrameView<'_>) -> bool) -> Result<(), RecordingError> {
        for input in &step.inputs {
            let (gathered, frames) = (&mut self.gathered, &mut self.frames);
            lines_of(input, wanted, &mut |line| {
                *frames += u64::from(matches!(line, Line::Frame(_) | Line::Message(_)));
                push(gathered, line);
            });
        }
        push(&mut self.gathered, &Line::Step(step.at));
        if self.gathered.len() >= GATHERED_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Frames in it.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes what has gathered, as one zstd frame, and has it on the disk.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let failed = |source| RecordingError::Write { path: self.path.clone(), source };
        let packed = self.compressor.compress(&self.gathered).map_err(failed)?;
        self.file.write_all(&packed).and_then(|()| self.file.sync_data()).map_err(failed)?;
        self.bytes += packed.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}

fn push(gathered: &mut Vec<u8>, line: &Line<'_>) {
    serde_json::to_writer(&mut *gathered, line).expect("lines are plain data with text keys, and memory takes them");
    gathered.push(b'\n');
}

/// Lines as a file has them, for the fuzz target.
#[doc(hidden)]
pub fn pack(lines: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(lines, LEVEL).expect("memory takes what is packed")
}

/// A batch, taken apart into the steps that it was.
pub fn steps_of(batch: StoredBatch) -> Vec<RecordedStep> {
    let mut steps = Vec::new();
    let mut inputs = Vec::new();
    for input in batch.inputs {
        match input {
            StoredInput::Step(at) => steps.push(RecordedStep { at, inputs: std::mem::take(&mut inputs) }),
            StoredInput::Notes(_) => {}
            other => inputs.push(other),
        }
    }
    steps.push(RecordedStep { at: batch.now, inputs });
    steps
}

impl RecordedStep {
    /// The hashes of the sites that it names.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().filter_map(|input| match input {
            StoredInput::Site(hash) | StoredInput::Change { hash, .. } => Some(hash.as_str()),
            _ => None,
        })
    }

    /// A step in which only timers are served.
    pub fn idle(at: Timestamp) -> RecordedStep {
        RecordedStep { at, inputs: Vec::new() }
    }
}
