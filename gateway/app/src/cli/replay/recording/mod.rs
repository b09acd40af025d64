//! `kerbside replay FILE`: a recording goes through the engine again, into a scratch database.
//!
//! With the profiles, inventory and policy of today's configuration, or with the recorded ones. Readings, alarms and
//! cases are the same every time, at any speed; nothing is delivered, and no telemetry is sent unless a database for it
//! is named.

mod report;
mod scratch;
mod telemetry;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kerbside_model::document::parse_duration;
use kerbside_model::{Site, StoredInput, Timestamp};
use kerbside_runtime::Clock;
use kerbside_store::recording::{RecordedStep, RecordingReader};

use crate::cli::check::UNSOUND;
use crate::cli::{run, say, say_error, say_problems};
use crate::config::{self, ProcessEnvironment};
use report::Report;
use scratch::{COMMIT_BYTES_MAX, Outcome, Scratch, Tally, outcome};

/// Progress is told this often.
const TELL_INTERVAL: Duration = Duration::from_secs(5);
/// Faster than this is `max`.
const SPEED_MAX: f64 = 1e6;

/// How a recording is replayed.
#[derive(Debug, clap::Args)]
pub(super) struct RecordingArguments {
    /// A recording of `kerbside record`: goes through the engine into a scratch database.
    #[arg(conflicts_with = "undecoded", required_unless_present = "undecoded")]
    file: Option<PathBuf>,
    /// With the profiles, inventory and policy of the recording, instead of those of the configuration.
    #[arg(long, requires = "file")]
    recorded: bool,
    /// max, or as many times as fast as it was: 1x, 60x. Paced replays tell alarms and cases as they come.
    #[arg(long, requires = "file", default_value = "max", value_parser = speed)]
    speed: Speed,
    /// Folder for the scratch database, to look into it afterwards; a temporary one without it.
    #[arg(long, requires = "file")]
    out: Option<PathBuf>,
    /// Lets the time run on after the last step, such as 2h, so that silences and escalations come due.
    #[arg(long, requires = "file", value_parser = length)]
    run_on: Option<Duration>,
    #[command(flatten)]
    influx: telemetry::InfluxArguments,
}

/// How fast; `None` for as fast as it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed(Option<f64>);

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let factor = text.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok());
    match factor {
        Some(factor) if factor > 0.0 && factor <= SPEED_MAX => Ok(Speed(Some(factor))),
        _ => Err("write max, or a factor such as 1x or 60x".to_owned()),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 30m or 2h".to_owned())
}

pub(super) fn run(arguments: &RecordingArguments, config: &Path, as_json: bool) -> anyhow::Result<u8> {
    let file = arguments.file.as_deref().context("name a recording")?;
    let today = if arguments.recorded {
        None
    } else {
        match config::load(config, &ProcessEnvironment) {
            Ok(config) => Some(config.site),
            Err(problems) => {
                say_problems(&problems);
                say_error("with --recorded a replay takes profiles and inventory from the recording");
                return Ok(UNSOUND);
            }
        }
    };
    let temporary;
    let folder = match &arguments.out {
        Some(folder) => folder.as_path(),
        None => {
            temporary = tempfile::tempdir().context("make a folder for the scratch database")?;
            temporary.path()
        }
    };
    let reader = RecordingReader::open(file)?;
    let settings = Settings {
        today,
        run_on: arguments.run_on.unwrap_or_default(),
        commit_bytes_max: COMMIT_BYTES_MAX,
        speed: arguments.speed,
    };
    run::runtime()?.block_on(async {
        let replay = Replay::begin(reader, folder, settings)?;
        let influx = telemetry::sink(&arguments.influx)?;
        let replayed = tokio::select! {
            replayed = replay.run(influx) => replayed?,
            () = run::told_to_stop() => bail!("replay the recording to its end: it was told to stop"),
        };
        say(&if as_json { replayed.json().to_string() } else { replayed.text() });
        Ok(0)
    })
}

/// How a replay is done.
struct Settings {
    /// Today's site; the recorded ones without it.
    today: Option<Arc<Site>>,
    run_on: Duration,
    commit_bytes_max: usize,
    speed: Speed,
}

/// A recording on its way through the engine.
struct Replay {
    reader: RecordingReader<'static>,
    scratch: Scratch,
    first: RecordedStep,
    sites: Sites,
    settings: Settings,
    told_at: Instant,
}

/// The sites that steps name.
struct Sites {
    today: Option<Arc<Site>>,
    opened: RefCell<BTreeMap<String, Arc<Site>>>,
}

impl Sites {
    fn get(&self, reader: &RecordingReader<'_>, hash: &str) -> anyhow::Result<Arc<Site>> {
        if let Some(today) = &self.today {
            return Ok(Arc::clone(today));
        }
        if let Some(site) = self.opened.borrow().get(hash) {
            return Ok(Arc::clone(site));
        }
        let found = reader.site(hash).with_context(|| {
            format!("find the profiles and inventory {hash} in the recording; replay it with those of a configuration")
        })?;
        let site = Arc::new(found.open()?);
        self.opened.borrow_mut().insert(hash.to_owned(), Arc::clone(&site));
        Ok(site)
    }
}

impl Replay {
    /// Reads up to the first step and makes the scratch database.
    fn begin(mut reader: RecordingReader<'static>, folder: &Path, settings: Settings) -> anyhow::Result<Replay> {
        let Some(first) = reader.next_step()? else { bail!("replay the recording: there is no step in it") };
        let sites = Sites { today: settings.today.clone(), opened: RefCell::default() };
        let site = sites.get(&reader, &reader.header().site_hash)?;
        let mut scratch = Scratch::new(folder, &site, settings.commit_bytes_max)?;
        let is_listening = |input: &StoredInput| matches!(input, StoredInput::Site(_));
        if !first.inputs.iter().any(is_listening) {
            // In the middle of a run: as if the gateway had begun to listen then.
            let listen = vec![StoredInput::Site(site.hash().to_owned())];
            scratch.step(RecordedStep { at: first.at, inputs: listen }, &|_| Ok(Arc::clone(&site)))?;
        }
        Ok(Replay { reader, scratch, first, sites, settings, told_at: Clock::stamp() })
    }

    async fn run(mut self, influx: Option<telemetry::Telemetry>) -> anyhow::Result<Report> {
        if let Some(influx) = &influx {
            influx.register(self.scratch.store());
        }
        let began = (Clock::stamp(), self.first.at);
        let mut next = Some(self.first.clone());
        while let Some(step) = next {
            self.wait_for(step.at, began).await;
            let (sites, reader) = (&self.sites, &self.reader);
            self.scratch.step(step, &|hash| sites.get(reader, hash))?;
            self.tell();
            next = self.reader.next_step()?;
        }
        self.run_on(began).await?;
        self.scratch.settle()?;
        self.tell_news();
        if let Some(influx) = influx {
            influx.send(self.scratch.store(), self.sites.get(&self.reader, &self.reader.header().site_hash)?).await?;
        }
        let report = Report {
            header: self.reader.header().clone(),
            torn: self.reader.torn().map(str::to_owned),
            tally: self.scratch.tally().clone(),
            fingerprint: self.scratch.fingerprint(),
            outcome: outcome(self.scratch.store())?,
        };
        self.scratch.close()?;
        Ok(report)
    }

    /// Serves timers until the time has run on for as long as was asked.
    async fn run_on(&mut self, began: (Instant, Timestamp)) -> anyhow::Result<()> {
        let Some(end) = self.scratch.tally().last_at.map(|last| last.plus(self.settings.run_on)) else { return Ok(()) };
        while let Some(due) = self.scratch.next_timer().filter(|due| *due <= end) {
            let due = due.max(self.scratch.tally().last_at.unwrap_or_default());
            self.wait_for(due, began).await;
            self.scratch.step(RecordedStep::idle(due), &|_| bail!("an idle step names no site"))?;
            self.tell();
        }
        if self.settings.run_on > Duration::ZERO {
            self.scratch.step(RecordedStep::idle(end), &|_| bail!("an idle step names no site"))?;
        }
        Ok(())
    }

    /// Waits until a step is due at the speed of the replay.
    async fn wait_for(&mut self, at: Timestamp, (began, first): (Instant, Timestamp)) {
        let Some(factor) = self.settings.speed.0 else { return };
        let due = began + at.since(first).div_f64(factor);
        let left = due.saturating_duration_since(Clock::stamp());
        if !left.is_zero() {
            self.tell_news();
            tokio::time::sleep(left).await;
        }
    }

    fn tell_news(&mut self) {
        let news = self.scratch.take_news();
        if self.settings.speed.0.is_some() {
            news.iter().for_each(|line| say_error(line));
        }
    }

    fn tell(&mut self) {
        if self.told_at.elapsed() >= TELL_INTERVAL {
            self.told_at = Clock::stamp();
            let Tally { frames, last_at, .. } = self.scratch.tally();
            let up_to = last_at.map(|at| at.to_string()).unwrap_or_default();
            say_error(&format!("{frames} frames, up to {up_to}"));
        }
    }
}
