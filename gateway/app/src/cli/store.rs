//! `kerbside store`: what is in the database, whether it is sound, what can be saved of a damaged one, and its frames
//! and readings as lines.
//!
//! `stats`, `verify` and `export` only read, beside a running gateway or without one; `salvage` locks the folder that
//! it fills. Exit code 1 when `verify` finds something or `salvage` loses something.

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_engine::decode::{Certainty, Decoders, decode_again, resolve};
use kerbside_model::{FrameView, PayloadView, Site, StoredInput, Timestamp};
use kerbside_runtime::{Chain, Clock};
use kerbside_store::{Overview, SalvageReport, Store, StoreReader, StoredBatch, Verification};
use serde_json::{Value, json};

use super::{counted, say, say_error};
use crate::config::{self, Config, ProcessEnvironment};

/// Something was found, or lost.
const FOUND: u8 = 1;
/// A frame is committed so long after it came at the most: with a full disk it waits, and batches behind it.
const COMMIT_DELAY_MAX: Duration = Duration::from_secs(3_600);
/// Batches between two lines of progress.
const PROGRESS_BATCHES: u64 = 1_000;

/// Arguments of `kerbside store`.
#[derive(Debug, clap::Args)]
pub(super) struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml", global = true)]
    config: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Counts what is in the database. Only reads, also beside a running gateway.
    Stats {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks every page and checksum, and what belongs together; exit code 1 when something is wrong. Only reads, also
    /// beside a running gateway, whose log then grows until the check is over.
    Verify {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Salvages what can be read of a damaged database file into a folder without one. The gateway does the same by
    /// itself at its start. Nothing is changed in FILE, but its log may be mended; exit code 1 when something is lost.
    Salvage {
        /// The damaged file, such as data/kerbside.db.damaged-20260420T093000000Z-1.
        file: PathBuf,
        /// Folder for the new database; made when it is not there.
        #[arg(long)]
        to: PathBuf,
        /// Prints the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints readings, or raw frames, that arrived in a span of time and are still kept. Only reads, one batch at a
    /// time, also beside a running gateway.
    Export(ExportArguments),
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    /// From this time of arrival on, such as 2026-04-20T08:00:00+08:00.
    #[arg(long, value_parser = time)]
    from: Timestamp,
    /// Up to but without this time.
    #[arg(long, value_parser = time)]
    to: Timestamp,
    /// Only of this device.
    #[arg(long)]
    device: Option<String>,
    /// jsonl or csv.
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    format: ExportFormat,
    /// Frames as they came, instead of readings decoded with the profiles of today.
    #[arg(long)]
    raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    Jsonl,
    Csv,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "this is no RFC 3339 time with a zone, such as 2026-04-20T08:00:00Z".to_owned())
}

pub(super) fn run(arguments: &StoreArguments) -> anyhow::Result<u8> {
    match &arguments.command {
        StoreCommand::Stats { json } => stats(&load(&arguments.config)?.data_dir, *json),
        StoreCommand::Verify { json } => verify(&load(&arguments.config)?.data_dir, *json),
        StoreCommand::Salvage { file, to, json } => salvage(file, to, *json),
        StoreCommand::Export(export) => {
            let config = load(&arguments.config)?;
            let mut out = BufWriter::new(io::stdout().lock());
            let exported = export_to(&config.data_dir, &config.site, export, &mut out);
            match exported.and_then(|damaged| Ok(out.flush().map(|()| damaged)?)) {
                Ok(damaged) => Ok(if damaged == 0 { 0 } else { FOUND }),
                // A reader such as `head` that has seen enough.
                Err(error) if is_broken_pipe(&error) => Ok(0),
                Err(error) => Err(error),
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn load(path: &Path) -> anyhow::Result<Config> {
    match config::load(path, &ProcessEnvironment) {
        Ok(config) => Ok(config),
        Err(problems) => {
            super::say_problems(&problems);
            bail!("read the configuration {}", path.display());
        }
    }
}

// Stats --------------------------------------------------------------------------------------------------------------

fn stats(folder: &Path, as_json: bool) -> anyhow::Result<u8> {
    let overview = StoreReader::open(folder)?.overview()?;
    say(&if as_json { json!(overview).to_string() } else { overview_text(&overview) });
    Ok(0)
}

fn overview_text(overview: &Overview) -> String {
    let time = |time: Option<Timestamp>| time.map_or_else(|| "none".to_owned(), |time| time.to_string());
    let mut lines = vec![
        format!("database        {}", overview.database.display()),
        format!(
            "size            {} ({} free in it), log {}",
            bytes(overview.database_bytes),
            bytes(overview.free_bytes),
            bytes(overview.log_bytes)
        ),
        format!("last batch      {}", overview.sequence),
        format!(
            "batches kept    {} ({}), from {} to {}",
            overview.rows.get("batches").copied().unwrap_or(0),
            bytes(overview.batches_bytes),
            time(overview.oldest_batch_at),
            time(overview.newest_batch_at)
        ),
        match overview.snapshot_sequence {
            Some(sequence) => {
                format!("snapshot        after batch {sequence}; {} batches since", overview.batches_since_snapshot)
            }
            None => "snapshot        none".to_owned(),
        },
        format!(
            "open            {} alarms, {} cases, {} deliveries",
            overview.alarms_open, overview.cases_open, overview.outbox_open
        ),
        format!(
            "dropped         {} batches ({}), {} undecoded frames",
            overview.dropped_batches,
            bytes(overview.dropped_bytes),
            overview.dropped_undecoded
        ),
    ];
    for (sink, sequence) in &overview.cursors {
        let behind = overview.sequence.saturating_sub(*sequence);
        lines.push(format!("sink            {sink} has everything up to batch {sequence}, {behind} behind"));
    }
    for (table, rows) in &overview.rows {
        lines.push(format!("table           {table:<16} {rows:>10} rows"));
    }
    if let Some(salvage) = &overview.last_salvage {
        lines.push(format!("salvaged        {}: {}", salvage.at, salvage.summary()));
    }
    for name in &overview.set_aside {
        lines.push(format!("set aside       {name}"));
    }
    lines.join("\n")
}

fn bytes(count: u64) -> String {
    if count < 1 << 20 {
        return format!("{} KiB", count.div_ceil(1 << 10));
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = count as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}

// Verify -------------------------------------------------------------------------------------------------------------

fn verify(folder: &Path, as_json: bool) -> anyhow::Result<u8> {
    let mut progress = |what: &str, count: u64| match count {
        0 => say_error(&format!("checking {what} ...")),
        count => say_error(&format!("checking {what}: {count}")),
    };
    let found = kerbside_store::verify(folder, &mut progress)?;
    say(&if as_json { json!(found).to_string() } else { findings_text(&found) });
    Ok(if found.is_sound() { 0 } else { FOUND })
}

fn findings_text(found: &Verification) -> String {
    let mut lines: Vec<String> =
        found.findings.iter().map(|finding| format!("{}: {}", finding.place, finding.what)).collect();
    if found.more > 0 {
        lines.push(format!("and {} more", found.more));
    }
    if found.is_in_use {
        lines.push("a gateway runs on the folder: its log was not checked".to_owned());
    }
    let verdict = if found.is_sound() { "sound".to_owned() } else { counted(found.findings.len(), "finding") };
    lines.push(format!(
        "{verdict}: {} batches, {} snapshots and {} records were read",
        found.batches, found.snapshots, found.records
    ));
    lines.join("\n")
}

// Salvage ------------------------------------------------------------------------------------------------------------

fn salvage(file: &Path, to: &Path, as_json: bool) -> anyhow::Result<u8> {
    let mut progress = |table: &str, rows: u64| say_error(&format!("salvaging {table}: {rows} rows"));
    let report = Store::salvage(file, to, &Clock::System, &mut progress)?;
    say(&if as_json { json!(report).to_string() } else { report_text(&report) });
    let is_whole = report.lost() == 0 && !report.tables.is_empty();
    Ok(if is_whole { 0 } else { FOUND })
}

fn report_text(report: &SalvageReport) -> String {
    let mut lines = Vec::new();
    for table in report.tables.iter().filter(|table| table.found > 0 || table.is_estimate) {
        let about = if table.is_estimate { " (at most or about)" } else { "" };
        lines.push(format!(
            "{:<16} {:>10} found {:>10} salvaged {:>10} lost{about}",
            table.table, table.found, table.salvaged, table.lost
        ));
        for (first, last) in table.lost_ranges.iter().take(20) {
            lines.push(if first == last { format!("  lost {first}") } else { format!("  lost {first} to {last}") });
        }
        if table.lost_ranges.len() > 20 {
            lines.push(format!("  and {} more ranges: see the JSON report", table.lost_ranges.len() - 20));
        }
    }
    for id in &report.cases_rebuilt {
        lines.push(format!("case {id} was rebuilt from its history and deliveries"));
    }
    for id in &report.cases_unknown {
        lines.push(format!("case {id} is lost: only its id is left"));
    }
    let start = if report.is_gapless { "its last state" } else { "the tables of alarms and cases" };
    lines.push(format!("a gateway that starts on it begins with {start}"));
    lines.push(report.summary());
    lines.join("\n")
}

// Export -------------------------------------------------------------------------------------------------------------

/// Writes what arrived in the span; returns how many batches could not be read.
fn export_to(folder: &Path, site: &Site, wanted: &ExportArguments, out: &mut dyn Write) -> anyhow::Result<u64> {
    if wanted.from >= wanted.to {
        bail!("export from {} to {}: the end must lie behind the beginning", wanted.from, wanted.to);
    }
    if let Some(id) = &wanted.device {
        site.find(id).with_context(|| format!("find the device {id} in the inventory"))?;
    }
    let reader = StoreReader::open(folder)?;
    let committed = committed_between(wanted);
    let total = reader.batches_in(committed.clone())?;
    let mut lines = Lines { out, site, decoders: Decoders::new(site), wanted, written: 0 };
    lines.header()?;
    let (mut last, mut read, mut damaged) = (0, 0_u64, 0_u64);
    while let Some(batch) = reader.batch_after(last, committed.clone())? {
        last = batch.sequence;
        read += 1;
        match batch.content {
            Ok(batch) => lines.batch(&batch)?,
            Err(cause) => {
                damaged += 1;
                say_error(&format!("batch {last} cannot be read and is left out: {}", Chain(&cause)));
            }
        }
        if read.is_multiple_of(PROGRESS_BATCHES) {
            say_error(&format!("{read} of {total} batches, {} lines", lines.written));
        }
    }
    say_error(&format!("{}, {}", counted_u64(read, "batch", "batches"), counted_u64(lines.written, "line", "lines")));
    Ok(damaged)
}

fn counted_u64(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Frames of the span lie in batches that were committed within it or somewhat later.
fn committed_between(wanted: &ExportArguments) -> Range<Timestamp> {
    wanted.from..wanted.to.plus(COMMIT_DELAY_MAX)
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    site: &'a Site,
    decoders: Decoders,
    wanted: &'a ExportArguments,
    written: u64,
}

const READING_COLUMNS: [&str; 8] =
    ["device", "point", "observed_at", "received_at", "value", "unit", "quality", "cause"];
const FRAME_COLUMNS: [&str; 6] = ["device", "source", "address", "received_at", "payload", "payload_form"];

impl Lines<'_> {
    fn header(&mut self) -> anyhow::Result<()> {
        let columns: &[&str] = if self.wanted.raw { &FRAME_COLUMNS } else { &READING_COLUMNS };
        if self.wanted.format == ExportFormat::Csv {
            self.row(columns.iter().map(|column| (*column).to_owned()).collect())?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &StoredBatch) -> anyhow::Result<()> {
        let span = self.wanted.from..self.wanted.to;
        let frames = batch.inputs.iter().flat_map(StoredInput::frames);
        if self.wanted.raw {
            for frame in frames.filter(|frame| span.contains(&frame.received_at)) {
                self.frame(&frame)?;
            }
            return Ok(());
        }
        let notes = StoredInput::notes(&batch.inputs);
        let observations = decode_again(self.site, &self.decoders, frames, Certainty::Sure, notes);
        for (observation, readings) in observations.iter().filter(|(row, _)| span.contains(&row.received_at)) {
            let device = self.site.device(observation.device);
            if self.wanted.device.as_ref().is_some_and(|wanted| *wanted != device.id) {
                continue;
            }
            let profile = self.site.profile_of(device);
            for reading in readings {
                let point = &profile.points[usize::from(reading.point)];
                let value = reading.value.as_ref().map_or(Value::Null, kerbside_model::Value::to_json);
                let values = [
                    json!(device.id),
                    json!(point.name),
                    json!(observation.observed_at),
                    json!(observation.received_at),
                    value,
                    json!(point.unit),
                    json!(reading.quality.flag.name()),
                    json!(reading.quality.cause.name()),
                ];
                self.line(&READING_COLUMNS, &values)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &FrameView<'_>) -> anyhow::Result<()> {
        let address = frame.address_text();
        let device = resolve(self.site, frame).ok().map(|sender| &self.site.device(sender.device).id);
        if self.wanted.device.is_some() && self.wanted.device.as_ref() != device {
            return Ok(());
        }
        let (payload, form) = match frame.payload {
            PayloadView::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => (text.to_owned(), "text"),
                Err(_) => (bytes.iter().map(|byte| format!("{byte:02x}")).collect(), "hex"),
            },
            PayloadView::Registers(read) => (serde_json::to_string(read)?, "registers"),
        };
        let values = [
            json!(device),
            json!(frame.source.as_ref()),
            json!(address),
            json!(frame.received_at),
            json!(payload),
            json!(form),
        ];
        self.line(&FRAME_COLUMNS, &values)
    }

    fn line(&mut self, columns: &[&str], values: &[Value]) -> anyhow::Result<()> {
        self.written += 1;
        if self.wanted.format == ExportFormat::Csv {
            return self.row(values.iter().map(cell).collect());
        }
        let object: serde_json::Map<String, Value> =
            columns.iter().zip(values).map(|(column, value)| ((*column).to_owned(), value.clone())).collect();
        serde_json::to_writer(&mut self.out, &object).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    fn row(&mut self, cells: Vec<String>) -> anyhow::Result<()> {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        writer.write_record(&cells)?;
        let bytes = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
        self.out.write_all(&bytes)?;
        Ok(())
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kerbside_model::document::Problems;
    use kerbside_model::inventory::Device;
    use kerbside_model::profile::parse_profile_text;
    use kerbside_model::site::SiteFacts;
    use kerbside_model::{ByteText, Effects, Frame, Payload};
    use kerbside_runtime::{Health, Metrics};
    use kerbside_store::{Commit, StoreConfig};
    use tempfile::TempDir;

    use super::*;

    const COVER: &str = include_str!("../../../../device-profiles/json-manhole-cover.yaml");
    const MINUTE: i64 = 60_000;
    const BEGIN: i64 = 1_776_643_200_000;

    fn site() -> Arc<Site> {
        let profile = parse_profile_text("cover", COVER, &Problems::default()).expect("the shipped profile is sound");
        let device = |id: &str| Device { id: id.to_owned(), address: format!("covers/{id}"), ..Device::default() };
        Arc::new(Site::new(SiteFacts::new("test", vec![Arc::new(profile)], vec![device("MH-1"), device("MH-2")])))
    }

    /// Bytes that cannot be packed smaller, so that they stand in the file as they are.
    fn noise(minute: i64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(u64::try_from(minute).unwrap());
        std::iter::repeat_with(|| random.u8(..)).take(6_000).collect()
    }

    /// Ten batches, a minute apart, with a frame of each of two covers and one of a stranger.
    fn stored(folder: &Path) {
        let config = StoreConfig::new(folder.to_owned());
        let store = Store::open(config, Clock::System, &Metrics::default(), &Health::default()).unwrap();
        for minute in 0..10 {
            let at = Timestamp(BEGIN + minute * MINUTE);
            let frame = |address: &str, payload: Vec<u8>| {
                StoredInput::Frame(Frame {
                    source: "mqtt".into(),
                    address: ByteText::from(address),
                    payload: Payload::Bytes(payload.into()),
                    received_at: at,
                    retained: false,
                })
            };
            let tilt = format!("{{\"tilt\":{minute}.5}}").into_bytes();
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            let inputs = vec![
                frame("covers/MH-1", tilt.clone()),
                frame("covers/MH-2", tilt),
                frame("strangers/1", noise(minute)),
            ];
            let done = Box::new(move |_| sender.send(()).unwrap());
            let now = at.plus(Duration::from_secs(1));
            store.commit(Commit { now, inputs, effects: Effects::default(), snapshot: None, done }).unwrap();
            receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        store.close().unwrap();
    }

    fn wanted(raw: bool, format: ExportFormat, device: Option<&str>) -> ExportArguments {
        let (from, to) = (Timestamp(BEGIN + 2 * MINUTE), Timestamp(BEGIN + 5 * MINUTE));
        ExportArguments { from, to, device: device.map(str::to_owned), format, raw }
    }

    fn exported(folder: &Path, wanted: &ExportArguments) -> (u64, Vec<String>) {
        let mut out = Vec::new();
        let damaged = export_to(folder, &site(), wanted, &mut out).unwrap();
        (damaged, String::from_utf8(out).unwrap().lines().map(str::to_owned).collect())
    }

    #[test]
    fn readings_of_a_span_and_a_device_come_as_json_lines() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let (damaged, lines) = exported(folder.path(), &wanted(false, ExportFormat::Jsonl, Some("MH-2")));
        assert_eq!(damaged, 0);
        let rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let tilts: Vec<&Value> = rows.iter().filter(|row| row["point"] == "tilt_deg").collect();
        assert_eq!(tilts.iter().map(|row| row["value"].clone()).collect::<Vec<_>>(), [2.5, 3.5, 4.5], "{lines:#?}");
        assert!(rows.iter().all(|row| row["device"] == "MH-2"));
        assert_eq!(tilts[0]["unit"], "deg");
        assert_eq!(tilts[0]["quality"], "good");
        assert_eq!(tilts[0]["received_at"], "2026-04-20T00:02:00.000Z");
    }

    #[test]
    fn raw_frames_come_as_csv_with_those_of_strangers() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let (_, lines) = exported(folder.path(), &wanted(true, ExportFormat::Csv, None));
        assert_eq!(lines.len(), 1 + 3 * 3, "{lines:#?}");
        assert_eq!(lines[0], "device,source,address,received_at,payload,payload_form");
        assert_eq!(lines[1], r#"MH-1,mqtt,covers/MH-1,2026-04-20T00:02:00.000Z,"{""tilt"":2.5}",text"#);
        assert!(lines[3].starts_with(",mqtt,strangers/1,"), "{}", lines[3]);
        let (_, lines) = exported(folder.path(), &wanted(true, ExportFormat::Jsonl, Some("MH-1")));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_span_that_ends_before_it_begins_and_an_unknown_device_are_refused() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let turned = ExportArguments { to: Timestamp(BEGIN), ..wanted(true, ExportFormat::Csv, None) };
        let error = export_to(folder.path(), &site(), &turned, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("the end must lie behind the beginning"), "{error}");
        let unknown = wanted(true, ExportFormat::Csv, Some("MH-9"));
        let error = export_to(folder.path(), &site(), &unknown, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "find the device MH-9 in the inventory");
    }

    #[test]
    fn counts_findings_and_a_salvage_are_told_in_words() {
        let folder = TempDir::new().unwrap();
        stored(folder.path());
        let text = overview_text(&StoreReader::open(folder.path()).unwrap().overview().unwrap());
        assert!(text.contains("last batch      10"), "{text}");
        assert!(text.contains("from 2026-04-20T00:00:01.000Z to 2026-04-20T00:09:01.000Z"), "{text}");
        assert_eq!(verify(folder.path(), true).unwrap(), 0);
        // A flipped byte in the body of a batch.
        let path = folder.path().join("kerbside.db");
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(32).position(|window| window == &noise(4)[5_000..5_032]).expect("the body is there");
        bytes[place] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let found = kerbside_store::verify(folder.path(), &mut |_, _| {}).unwrap();
        assert!(findings_text(&found).contains("1 finding: 10 batches"), "{}", findings_text(&found));
        assert_eq!(verify(folder.path(), false).unwrap(), FOUND);
        let to = folder.path().join("new");
        let report = Store::salvage(&path, &to, &Clock::System, &mut |_, _| {}).unwrap();
        let text = report_text(&report);
        assert!(text.contains("batches                  10 found          9 salvaged          1 lost"), "{text}");
        assert!(text.contains("begins with the tables of alarms and cases"), "{text}");
        let (damaged, lines) = exported(folder.path(), &wanted(true, ExportFormat::Jsonl, None));
        assert!(damaged <= 1 && lines.len() >= 6, "{damaged} {lines:#?}");
    }
}
