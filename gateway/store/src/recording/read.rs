//! Reading a recording: a line at a time, up to its end or to where it was torn.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbside_model::StoredInput;
use kerbside_model::site::{Site, SiteFacts};

use super::line::Line;
use super::{RECORDING_VERSION, RecordedStep, RecordingError, RecordingHeader};

/// The longest payload that a source takes has 64 MiB, which is 86 MiB in base64; a site of a million devices is
/// longer, but packed by postcard it stays below this.
const LINE_BYTES_MAX: usize = 512 << 20;

/// Profiles, inventory and policy in a recording, not looked into yet.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordingSite {
    hash: String,
    facts: String,
    /// Version of the program that wrote it.
    by: String,
}

impl std::fmt::Debug for RecordingSite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecordingSite").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl RecordingSite {
    /// The site. Its content hash must come out as it was, so that nothing was read otherwise than it was written.
    pub fn open(&self) -> Result<Site, RecordingError> {
        let other = || RecordingError::OtherSite { hash: self.hash.clone(), by: self.by.clone() };
        let bytes = STANDARD.decode(&self.facts).map_err(|_| other())?;
        let (facts, rest) = postcard::take_from_bytes::<SiteFacts>(&bytes).map_err(|_| other())?;
        let are_positions_sound = facts.devices.iter().all(|device| usize::from(device.profile) < facts.profiles.len());
        if !rest.is_empty() || !are_positions_sound {
            return Err(other());
        }
        let site = Site::new(facts);
        if site.hash() == self.hash { Ok(site) } else { Err(other()) }
    }
}

/// A recording that is read from its beginning.
pub struct RecordingReader<'a> {
    path: PathBuf,
    lines: Box<dyn BufRead + 'a>,
    line: Vec<u8>,
    number: u64,
    header: RecordingHeader,
    sites: BTreeMap<String, RecordingSite>,
    torn: Option<String>,
}

impl std::fmt::Debug for RecordingReader<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecordingReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RecordingReader<'_> {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<RecordingReader<'static>, RecordingError> {
        let file = File::open(path).map_err(|source| RecordingError::Read { path: path.to_owned(), source })?;
        RecordingReader::of(path, file)
    }

    /// Reads bytes as a file of this name.
    pub fn of<'a>(path: &Path, bytes: impl Read + 'a) -> Result<RecordingReader<'a>, RecordingError> {
        let not_one = || RecordingError::NotOne { path: path.to_owned() };
        let unpacked =
            zstd::Decoder::new(bytes).map_err(|source| RecordingError::Read { path: path.to_owned(), source })?;
        let header = RecordingHeader {
            version: 0,
            kerbside: String::new(),
            site: String::new(),
            site_hash: String::new(),
            begun_at: kerbside_model::Timestamp::default(),
            since: kerbside_model::Timestamp::default(),
            source: None,
            device: None,
        };
        let mut reader = RecordingReader {
            path: path.to_owned(),
            lines: Box::new(BufReader::new(unpacked)),
            line: Vec::new(),
            number: 0,
            header,
            sites: BTreeMap::new(),
            torn: None,
        };
        if !reader.fill_line()? {
            return Err(not_one());
        }
        match serde_json::from_slice(&reader.line) {
            Ok(Line::Recording(header)) if header.version > RECORDING_VERSION => {
                Err(RecordingError::TooNew { path: path.to_owned(), found: header.version })
            }
            Ok(Line::Recording(header)) => {
                reader.header = header;
                Ok(reader)
            }
            _ => Err(not_one()),
        }
    }

    /// What the recording is of.
    pub fn header(&self) -> &RecordingHeader {
        &self.header
    }

    /// The site of this hash, when a line so far held it.
    pub fn site(&self, hash: &str) -> Option<&RecordingSite> {
        self.sites.get(hash)
    }

    /// Why nothing more could be read, when the end is torn: known when there are no more steps.
    pub fn torn(&self) -> Option<&str> {
        self.torn.as_deref()
    }

    /// The next step; `None` at the end, also at a torn one.
    pub fn next_step(&mut self) -> Result<Option<RecordedStep>, RecordingError> {
        let mut inputs: Vec<StoredInput> = Vec::new();
        while self.fill_line()? {
            let line: Line<'_> = serde_json::from_slice(&self.line).map_err(|source| self.wrong_line(source))?;
            match line {
                Line::Step(at) => return Ok(Some(RecordedStep { at, inputs })),
                Line::Site { hash, facts } => {
                    let site = RecordingSite { hash: hash.clone(), facts, by: self.header.kerbside.clone() };
                    self.sites.insert(hash, site);
                }
                line => line.push(&mut inputs).map_err(|source| self.wrong_line(source))?,
            }
        }
        if !inputs.is_empty() {
            self.torn.get_or_insert_with(|| "it ends within a step".to_owned());
        }
        Ok(None)
    }

    fn wrong_line(&self, source: serde_json::Error) -> RecordingError {
        RecordingError::Line { path: self.path.clone(), line: self.number, source }
    }

    /// Reads the next whole line; false at the end, or where the file was torn.
    fn fill_line(&mut self) -> Result<bool, RecordingError> {
        self.line.clear();
        let max = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
        match self.lines.by_ref().take(max).read_until(b'\n', &mut self.line) {
            Ok(0) => return Ok(false),
            Ok(_) if self.line.last() == Some(&b'\n') => {}
            Ok(_) if self.line.len() > LINE_BYTES_MAX => {
                let (path, line) = (self.path.clone(), self.number + 1);
                return Err(RecordingError::Long { path, line, max: LINE_BYTES_MAX });
            }
            Ok(_) => {
                self.torn = Some("it ends within a line".to_owned());
                return Ok(false);
            }
            // A zstd frame that ends too early or is none: the writer was killed, or the power was cut.
            Err(error) => {
                self.torn = Some(error.to_string());
                return Ok(false);
            }
        }
        self.number += 1;
        Ok(true)
    }
}
