//! `kerbside record`: what the gateway was told, or is being told, into a file that can be replayed.
//!
//! Reads the store's batches beside the running gateway, without its lock: those of a span of time, and those that
//! come. What is recorded is what was committed, so a recording holds nothing that the gateway does not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kerbside_engine::decode::resolve;
use kerbside_model::document::parse_duration;
use kerbside_model::{DeviceIndex, FrameView, Site, Timestamp};
use kerbside_runtime::{Chain, Clock};
use kerbside_store::StoreReader;
use kerbside_store::recording::{RECORDING_VERSION, RecordedStep, RecordingHeader, RecordingWriter, steps_of};

use super::{run, say_error};
use crate::config::{self, ProcessEnvironment};

/// New batches are looked for this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A step is committed so long after it at the most, unless the disk is full.
const COMMIT_DELAY: Duration = Duration::from_secs(3);
/// Progress is told this often.
const TELL_INTERVAL: Duration = Duration::from_secs(5);
/// Batches read between two looks at the clock and at Ctrl-C.
const BATCHES_AT_ONCE: usize = 64;

/// Arguments of `kerbside record`.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArguments {
    /// The new file, such as flood.kbr.
    #[arg(long)]
    out: PathBuf,
    /// Stored steps from this time on, such as 2026-04-20T08:00:00+08:00; from now on without it.
    #[arg(long, value_parser = time)]
    since: Option<Timestamp>,
    /// Up to but without this time. Without it and without --for: up to now with --since, else until Ctrl-C.
    #[arg(long, value_parser = time, conflicts_with = "length")]
    until: Option<Timestamp>,
    /// From now on for so long, such as 10m.
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    length: Option<Duration>,
    /// Only the frames of this source.
    #[arg(long)]
    source: Option<String>,
    /// Only the frames of this device.
    #[arg(long)]
    device: Option<String>,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "this is no RFC 3339 time with a zone, such as 2026-04-20T08:00:00Z".to_owned())
}

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 90s or 10m".to_owned())
}

pub(super) fn run(arguments: &RecordArguments) -> anyhow::Result<u8> {
    let config = match config::load(&arguments.config, &ProcessEnvironment) {
        Ok(config) => config,
        Err(problems) => {
            super::say_problems(&problems);
            return Ok(super::check::UNSOUND);
        }
    };
    let now = Clock::System.now();
    let since = arguments.since.unwrap_or(now);
    let until = match (arguments.until, arguments.length, arguments.since) {
        (Some(until), ..) => Some(until),
        (None, Some(length), _) => Some(now.plus(length)),
        (None, None, Some(_)) => Some(now),
        (None, None, None) => None,
    };
    if until.is_some_and(|until| until <= since) {
        bail!("record from {since} on: the end must lie behind the beginning");
    }
    let wanted = Wanted::new(&config.site, arguments.source.clone(), arguments.device.clone())?;
    let span = Span { since, until };
    let mut recorder = Recorder::open(&config.data_dir, &config.site, wanted, span)?;
    recorder.begin(&arguments.out, now)?;
    run::runtime()?.block_on(follow(&mut recorder, &Clock::System))?;
    recorder.finish()
}

/// Which frames are recorded.
pub(super) struct Wanted {
    site: Arc<Site>,
    source: Option<String>,
    device: Option<(String, DeviceIndex)>,
}

impl Wanted {
    pub(super) fn new(site: &Arc<Site>, source: Option<String>, device: Option<String>) -> anyhow::Result<Wanted> {
        let found = device.map(|id| {
            let index = site.find(&id).with_context(|| format!("find the device {id} in the inventory"))?;
            anyhow::Ok((id, index))
        });
        Ok(Wanted { site: Arc::clone(site), source, device: found.transpose()? })
    }

    fn takes(&self, frame: &FrameView<'_>) -> bool {
        let is_of_source = self.source.as_deref().is_none_or(|source| frame.source.as_ref() == source);
        let is_of_device = |index| resolve(&self.site, frame).is_ok_and(|sender| sender.device == index);
        is_of_source && self.device.as_ref().is_none_or(|(_, index)| is_of_device(*index))
    }
}

/// From when to when; without an end until it is told to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) since: Timestamp,
    pub(super) until: Option<Timestamp>,
}

/// Turns batches into the lines of a recording.
pub(super) struct Recorder {
    reader: StoreReader,
    site: Arc<Site>,
    wanted: Wanted,
    span: Span,
    writer: Option<RecordingWriter>,
    /// The last batch that was read.
    sequence: u64,
    /// The engine's time of the last step that was written.
    last_at: Option<Timestamp>,
    damaged: u64,
    told_at: Instant,
}

impl Recorder {
    pub(super) fn open(folder: &Path, site: &Arc<Site>, wanted: Wanted, span: Span) -> anyhow::Result<Recorder> {
        Ok(Recorder {
            reader: StoreReader::open(folder)?,
            site: Arc::clone(site),
            wanted,
            span,
            writer: None,
            sequence: 0,
            last_at: None,
            damaged: 0,
            told_at: Clock::stamp(),
        })
    }

    /// Batches whose steps may lie in the span.
    fn batches(&self) -> std::ops::Range<Timestamp> {
        let end = self.span.until.map_or(Timestamp(i64::MAX), |until| until.plus(COMMIT_DELAY));
        self.span.since..end
    }

    /// Makes the file, with the site that is in force at its beginning.
    pub(super) fn begin(&mut self, out: &Path, now: Timestamp) -> anyhow::Result<()> {
        let first = self.reader.batch_after(0, self.batches())?.map(|batch| batch.sequence);
        // Nothing yet: what comes is stepped with the site of the last batch.
        let before = first.map_or(self.reader.overview()?.sequence, |first| first - 1);
        self.sequence = before;
        let hash = self.reader.site_after(before)?.unwrap_or_else(|| self.site.hash().to_owned());
        let header = RecordingHeader {
            version: RECORDING_VERSION,
            kerbside: env!("CARGO_PKG_VERSION").to_owned(),
            site: self.site.name().to_owned(),
            site_hash: hash.clone(),
            begun_at: now,
            since: self.span.since,
            source: self.wanted.source.clone(),
            device: self.wanted.device.as_ref().map(|(id, _)| id.clone()),
        };
        self.writer = Some(RecordingWriter::create(out, &header)?);
        self.add_site(&hash)
    }

    fn add_site(&mut self, hash: &str) -> anyhow::Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|writer| !writer.has_site(hash)) else { return Ok(()) };
        if hash == self.site.hash() {
            writer.site(hash, self.site.facts());
            return Ok(());
        }
        match self.reader.site(hash)? {
            Some(facts) => writer.site(hash, &facts),
            None => say_error(&format!(
                "the profiles and inventory {hash} are not in the database any more: replay this part with those of a \
                 configuration"
            )),
        }
        Ok(())
    }

    /// Records what is there; false when the end of the span was seen.
    pub(super) fn read_on(&mut self) -> anyhow::Result<Progress> {
        let mut read = 0;
        while read < BATCHES_AT_ONCE
            && let Some(batch) = self.reader.batch_after(self.sequence, self.batches())?
        {
            self.sequence = batch.sequence;
            read += 1;
            match batch.content {
                Ok(batch) => {
                    for step in steps_of(batch) {
                        self.step(&step)?;
                    }
                }
                Err(cause) => {
                    self.damaged += 1;
                    say_error(&format!("batch {} cannot be read and is left out: {}", self.sequence, Chain(&cause)));
                }
            }
        }
        if let Some(writer) = self.writer.as_mut().filter(|_| read < BATCHES_AT_ONCE) {
            // What is there is in the file before anybody waits for more.
            writer.flush()?;
        }
        self.tell();
        Ok(if read == BATCHES_AT_ONCE { Progress::More } else { Progress::UpToDate })
    }

    fn step(&mut self, step: &RecordedStep) -> anyhow::Result<()> {
        if step.at < self.span.since || self.span.until.is_some_and(|until| step.at >= until) {
            return Ok(());
        }
        for hash in step.sites() {
            self.add_site(hash)?;
        }
        let wanted = &self.wanted;
        let writer = self.writer.as_mut().expect("a recording is begun before it is written");
        writer.step(step, &|frame| wanted.takes(frame))?;
        self.last_at = Some(step.at);
        Ok(())
    }

    fn tell(&mut self) {
        if self.told_at.elapsed() >= TELL_INTERVAL {
            self.told_at = Clock::stamp();
            say_error(&self.summary());
        }
    }

    fn summary(&self) -> String {
        let (frames, bytes) = self.writer.as_ref().map_or((0, 0), |writer| (writer.frames(), writer.bytes()));
        let last = self.last_at.map_or_else(|| "nothing yet".to_owned(), |at| format!("up to {at}"));
        format!("{frames} frames, {} KiB, {last}", bytes.div_ceil(1 << 10))
    }

    /// Lets the time of the recording run to the end of its span; exit code 1 when a batch was left out.
    pub(super) fn finish(mut self) -> anyhow::Result<u8> {
        let end = self.span.until.map(|until| Timestamp(until.0 - 1)).filter(|end| Some(*end) > self.last_at);
        if let (Some(writer), Some(end)) = (self.writer.as_mut(), end.filter(|_| self.last_at.is_some())) {
            writer.step(&RecordedStep::idle(end), &|_| true)?;
            writer.flush()?;
        }
        say_error(&self.summary());
        Ok(u8::from(self.damaged > 0))
    }
}

/// Whether there may be more at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    UpToDate,
}

/// Records until the end of the span is on the disk, or until it is told to stop.
async fn follow(recorder: &mut Recorder, clock: &Clock) -> anyhow::Result<()> {
    let stop = run::told_to_stop();
    tokio::pin!(stop);
    loop {
        let is_over = recorder.span.until.is_some_and(|until| clock.now() >= until.plus(COMMIT_DELAY));
        if recorder.read_on()? == Progress::UpToDate {
            if is_over {
                return Ok(());
            }
            tokio::select! {
                () = &mut stop => return recorder.read_on().map(drop),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}
