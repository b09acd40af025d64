//! `kerbside backtest`: recorded data through the rules of a profile, at full speed, and what would have come of it.
//!
//! The engine is the one that runs in the street; readings that are written down reach it as messages that name points
//! (`kerbside_engine::rehearsal`), recordings and databases as the frames that they hold. Nothing is stored, nothing
//! leaves, and the same data gives the same answer every time.

mod flags;
mod influx;
mod outcome;
mod picture;
mod report;
mod rows;
mod side;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod times;
mod trace;
mod truth;
mod variant;

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kerbside_model::document::parse_duration;
use kerbside_model::profile::ZONE_DEFAULT;
use kerbside_model::time::Zone;
use kerbside_model::{Profile, Timestamp};
use kerbside_runtime::Clock;

use super::profile::files;
use super::{run, say, say_problems};
use rows::{Devices, RowsError};
use side::Side;
use source::{Facts, Recording, Rows, Source, Stored};
use table::{Mapping, Table};
use truth::Truth;
use variant::Change;

/// The first bytes of what zstd packed (RFC 8878), and so of a recording.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The format of a file is told from so many bytes.
const LOOK_BYTES: usize = 4_096;
/// The progress is drawn this often at most.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);
const BAR_SIGNS: usize = 30;

/// Arguments of `kerbside backtest`.
#[derive(Debug, clap::Args)]
pub(super) struct BacktestArguments {
    /// A table (CSV), an export of InfluxDB (annotated CSV, line protocol), a recording, or the data folder of a gateway.
    #[arg(required_unless_present = "influx", conflicts_with = "influx")]
    source: Option<PathBuf>,
    /// Name of a shipped profile, or a file. With a recording or a data folder it takes the place of its namesake there.
    #[arg(long)]
    profile: Option<String>,
    /// What the source is, when that cannot be told from it.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Another limit, such as detectors.surcharged.0.raise=150: both are shown side by side. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = variant::change)]
    set: Vec<Change>,
    /// Column of a table with the time.
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// Column of a table with the device.
    #[arg(long, value_name = "COLUMN")]
    device_column: Option<String>,
    /// Column of a table that holds a point, such as level_mm=Depth; columns that are called like points need none.
    #[arg(long, value_name = "POINT=COLUMN", value_parser = point_and_column)]
    point: Vec<(String, String)>,
    /// Zone of times without one, and of the picture.
    #[arg(long, default_value = ZONE_DEFAULT)]
    zone: String,
    /// Height of the sensors above the invert in mm, for levels computed from a distance.
    #[arg(long)]
    mount_height_mm: Option<f64>,
    /// How often the devices report, such as 5m; that of the profile without it.
    #[arg(long, value_parser = length)]
    interval: Option<Duration>,
    /// Only this device.
    #[arg(long)]
    device: Option<String>,
    /// From this time on, of a data folder or a database, such as 2026-04-20T08:00:00+08:00.
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Up to but without this time.
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// Lets the time run on after the last reading, such as 2h, so that silences come due.
    #[arg(long, value_parser = length)]
    run_on: Option<Duration>,
    /// What really happened: a table with the columns from, until and, when they matter, device and condition. False and
    /// missed alarms are counted.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Writes a picture of one device: its series, limits and alarms.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Writes each reading with its flag (QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 bad, 9 missing) and cause as a table.
    #[arg(long, value_name = "FILE")]
    flags: Option<PathBuf>,
    /// Lists every alarm.
    #[arg(long)]
    all: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    influx: InfluxArguments,
}

/// A database that is asked.
#[derive(Debug, clap::Args)]
struct InfluxArguments {
    /// Asks this InfluxDB 2 for the points of the profile, such as http://127.0.0.1:8086.
    #[arg(long, value_name = "URL", requires_all = ["influx_org", "influx_bucket", "since"])]
    influx: Option<String>,
    /// Its organisation.
    #[arg(long, value_name = "NAME", requires = "influx")]
    influx_org: Option<String>,
    /// The bucket.
    #[arg(long, value_name = "NAME", requires = "influx")]
    influx_bucket: Option<String>,
    /// The file with a token that may read the bucket.
    #[arg(long, value_name = "FILE", requires = "influx")]
    influx_token_file: Option<PathBuf>,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table with a column for the time and one for each point.
    Csv,
    /// What InfluxDB 2 answers to a query.
    InfluxCsv,
    /// What InfluxDB is told.
    LineProtocol,
    /// A recording of `kerbside record`.
    Recording,
    /// The data folder of a gateway, also of one that runs.
    Store,
}

fn point_and_column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((point, column)) if !point.is_empty() && !column.is_empty() => Ok((point.to_owned(), column.to_owned())),
        _ => Err("write POINT=COLUMN, such as level_mm=Depth".to_owned()),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 90s or 10m".to_owned())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "this is no RFC 3339 time with a zone, such as 2026-04-20T08:00:00Z".to_owned())
}

pub(super) fn run(arguments: &BacktestArguments) -> anyhow::Result<u8> {
    let zone = Zone::named(&arguments.zone).with_context(|| format!("find the zone {:?}", arguments.zone))?;
    let profile = match arguments.profile.as_deref().map(files::find).transpose()? {
        Some(Ok(profile)) => Some(profile),
        Some(Err(problems)) => {
            say_problems(&problems);
            return Ok(2);
        }
        None => None,
    };
    let truth = arguments.truth.as_deref().map(|path| Truth::read(path, &zone)).transpose()?;
    let backtest = Backtest { arguments, zone, profile };
    let result = backtest.source().and_then(|source| backtest.run(source));
    let sides = match result {
        Ok(sides) => sides,
        Err(error) => match error.downcast::<RowsError>() {
            Ok(RowsError::Problems(problems)) => {
                say_problems(&problems);
                return Ok(1);
            }
            Ok(other) => return Err(other.into()),
            Err(error) => return Err(error),
        },
    };
    backtest.report(&sides, truth.as_ref())?;
    Ok(0)
}

/// One run.
struct Backtest<'a> {
    arguments: &'a BacktestArguments,
    zone: Zone,
    profile: Option<Arc<Profile>>,
}

/// What came out, and how long it took.
struct Sides {
    sides: Vec<Side>,
    took: Duration,
}

impl Backtest<'_> {
    fn source(&self) -> anyhow::Result<Source<'_>> {
        let arguments = self.arguments;
        let facts = Facts { mount_height_mm: arguments.mount_height_mm, interval: arguments.interval };
        if let Some(url) = &arguments.influx.influx {
            return self.asked(url, &facts);
        }
        let path = arguments.source.as_deref().context("name a source")?;
        let format = match arguments.format {
            Some(format) => format,
            None => format_of(path)?,
        };
        let mut devices = Devices::default();
        match format {
            Format::Recording => Ok(Source::Recording(Recording::open(path)?)),
            Format::Store => {
                let span = arguments.since.unwrap_or_default()..arguments.until.unwrap_or(Timestamp(i64::MAX));
                Ok(Source::Store(Stored::open(path, span)?))
            }
            Format::Csv => {
                let profile = self.needed_profile()?;
                let mapping = Mapping {
                    time: arguments.time.clone(),
                    device: arguments.device_column.clone(),
                    points: arguments.point.clone(),
                };
                let open = || Table::open(path, profile, &mapping, &self.zone);
                Ok(Source::Rows(Rows::of_table(open, &path.display().to_string(), profile, &facts)?))
            }
            Format::InfluxCsv => {
                let profile = self.needed_profile()?;
                let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
                let file = path.display().to_string();
                let rows = influx::annotated_csv(&file, &bytes, profile, &self.zone, &mut devices)?;
                Ok(Source::Rows(Rows::of_rows(rows, profile, devices, &facts)))
            }
            Format::LineProtocol => {
                let profile = self.needed_profile()?;
                let rows = influx::line_protocol(path, profile, &self.zone, &mut devices)?;
                Ok(Source::Rows(Rows::of_rows(rows, profile, devices, &facts)))
            }
        }
    }

    fn asked(&self, url: &str, facts: &Facts) -> anyhow::Result<Source<'_>> {
        let (arguments, profile) = (&self.arguments.influx, self.needed_profile()?);
        let token = arguments.influx_token_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file);
            text.with_context(|| format!("read the token in {}", file.display()))
        });
        let question = influx::Question {
            url: url.to_owned(),
            org: arguments.influx_org.clone().unwrap_or_default(),
            bucket: arguments.influx_bucket.clone().unwrap_or_default(),
            token: token.transpose()?.map(|token| token.trim_end().to_owned()),
            device: self.arguments.device.clone(),
            since: self.arguments.since.unwrap_or_default(),
            until: self.arguments.until.unwrap_or_else(|| Clock::System.now()),
        };
        let bytes = run::runtime()?.block_on(influx::ask(&question, profile))?;
        let mut devices = Devices::default();
        let rows = influx::annotated_csv(url, &bytes, profile, &self.zone, &mut devices)?;
        Ok(Source::Rows(Rows::of_rows(rows, profile, devices, facts)))
    }

    fn needed_profile(&self) -> anyhow::Result<&Arc<Profile>> {
        self.profile.as_ref().context("know the rules: name a profile with --profile")
    }

    fn run(&self, mut source: Source<'_>) -> anyhow::Result<Sides> {
        let arguments = self.arguments;
        let is_drawn = arguments.svg.is_some();
        let is_recorded = !matches!(source, Source::Rows(_));
        let replacing = self.profile.clone().filter(|_| is_recorded);
        let side = |title: &str, changes: &[Change], is_drawn| {
            Side::new(title.to_owned(), changes.to_vec(), replacing.clone(), arguments.device.clone(), is_drawn)
        };
        let mut sides = vec![side("as it is", &[], is_drawn)];
        if !arguments.set.is_empty() {
            sides.push(side("with --set", &arguments.set, false));
        }
        if let Some(path) = &arguments.flags {
            sides[0].outcome.flags.write_to(path)?;
        }
        let mut progress = Progress::new();
        let began = Clock::stamp();
        while let Some(step) = source.next()? {
            for side in &mut sides {
                side.feed(&step)?;
            }
            progress.draw(source.share(), sides[0].outcome.flags.readings, step.at);
        }
        if let (Some(run_on), Some(last)) = (arguments.run_on, sides[0].outcome.last_at) {
            for side in &mut sides {
                side.run_on(last.plus(run_on))?;
            }
        }
        for side in &mut sides {
            side.outcome.flags.settle_all()?;
        }
        progress.clear();
        if sides[0].outcome.flags.readings == 0 {
            bail!("backtest: no reading of a known device came out of the source");
        }
        Ok(Sides { sides, took: began.elapsed() })
    }

    fn report(&self, run: &Sides, truth: Option<&Truth>) -> anyhow::Result<()> {
        let titles = run.sides.iter().map(|side| (side.title.clone(), &side.outcome)).collect();
        let report = report::Report { sides: titles, truth, took: run.took, is_whole: self.arguments.all };
        say(&if self.arguments.json { report.json().to_string() } else { report.text() });
        let Some(path) = &self.arguments.svg else { return Ok(()) };
        let changes: Vec<&str> = self.arguments.set.iter().map(|change| change.text.as_str()).collect();
        let changes = format!("--set {}", changes.join(" "));
        let profiles: Vec<Option<Arc<Profile>>> = run.sides.iter().map(|_| run.sides[0].pictured_profile()).collect();
        let mut drawn = Vec::new();
        for (position, (side, profile)) in run.sides.iter().zip(&profiles).enumerate() {
            let Some(profile) = profile else { continue };
            let title = if position == 0 { "" } else { changes.as_str() };
            drawn.push(picture::Drawn { title, outcome: &side.outcome, profile });
        }
        let zone = jiff::tz::TimeZone::get(&self.arguments.zone).context("find the zone")?;
        let svg = picture::draw(&drawn, &zone).context("draw a picture: there is no series")?;
        std::fs::write(path, svg).with_context(|| format!("write the picture {}", path.display()))?;
        if !self.arguments.json {
            say(&format!("picture: {}", path.display()));
        }
        Ok(())
    }
}

/// What a file is, by its first bytes.
fn format_of(path: &Path) -> anyhow::Result<Format> {
    if path.is_dir() {
        return Ok(Format::Store);
    }
    let mut file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    let mut first = vec![0; LOOK_BYTES];
    let read = file.read(&mut first).with_context(|| format!("read {}", path.display()))?;
    first.truncate(read);
    if first.starts_with(&ZSTD_MAGIC) {
        return Ok(Format::Recording);
    }
    let text = String::from_utf8_lossy(&first);
    let head = text.lines().next().unwrap_or_default();
    let is_annotated = ["#group", "#datatype", "#default"].iter().any(|word| head.starts_with(word));
    if is_annotated || (head.contains("_field") && head.contains("_value")) {
        return Ok(Format::InfluxCsv);
    }
    let is_lines = path.extension().is_some_and(|extension| extension == "lp" || extension == "line");
    Ok(if is_lines { Format::LineProtocol } else { Format::Csv })
}

/// How far it is, on a terminal.
struct Progress {
    is_shown: bool,
    drawn_at: Option<Instant>,
}

impl Progress {
    fn new() -> Progress {
        Progress { is_shown: std::io::stderr().is_terminal(), drawn_at: None }
    }

    fn draw(&mut self, share: Option<f64>, readings: u64, at: Timestamp) {
        if !self.is_shown || self.drawn_at.is_some_and(|drawn_at| drawn_at.elapsed() < DRAW_INTERVAL) {
            return;
        }
        self.drawn_at = Some(Clock::stamp());
        let bar = share.map(|share| {
            let share = share.clamp(0.0, 1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the bar's length")]
            let done = (share * BAR_SIGNS as f64) as usize;
            format!("[{}{}] {:>3.0} %  ", "#".repeat(done), ".".repeat(BAR_SIGNS - done), share * 100.0)
        });
        let mut terminal = std::io::stderr().lock();
        drop(write!(terminal, "\r\x1b[2K{}{readings} readings, up to {at}", bar.unwrap_or_default()));
        drop(terminal.flush());
    }

    fn clear(&self) {
        if self.drawn_at.is_some() {
            wipe_line();
        }
    }
}

/// Takes the progress away.
fn wipe_line() {
    let mut terminal = std::io::stderr().lock();
    drop(write!(terminal, "\r\x1b[2K"));
    drop(terminal.flush());
}
