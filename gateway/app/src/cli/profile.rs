//! `kerbside profile`: runs the samples and rule tests of profiles, shows what one frame gives, compares editions, begins new profiles.

mod diff;
pub(super) mod files;
mod new;
mod schema;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use kerbside_engine::decode::envelope::{self, Opened};
use kerbside_engine::decode::{CodecTrace, Told};
use kerbside_engine::rule_test::{Failure, run_rule_test};
use kerbside_engine::sample::{DecodedFrame, DecodedRow, SingleFrame, decode_single, run_sample, trace_single};
use kerbside_model::document::{Problem, Problems};
use kerbside_model::profile::{Origin, PayloadFormat};
use kerbside_model::{
    EnvelopeFormat, LinkField, Payload, PayloadView, Profile, RegisterBlock, RegisterRead, RegisterTable,
};
use serde_json::{Value, json};

use super::{counted, say, say_error, say_problems};

/// Arguments of `kerbside profile`.
#[derive(Debug, clap::Args)]
pub(super) struct ProfileArguments {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ProfileCommand {
    /// Runs the samples and the rule tests of profiles: of the files and folders named, or of the shipped ones.
    Test {
        /// Files or folders.
        paths: Vec<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists the shipped profiles.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Decodes one frame and prints its readings as JSON.
    Decode(DecodeArguments),
    /// Says what is different between two editions of a profile; exit code 1 when anything is.
    Diff(diff::DiffArguments),
    /// Begins a new profile: prints a commented one, from a captured frame when there is one.
    New(new::NewArguments),
    /// Prints the JSON Schema of profiles, for editors.
    Schema,
}

#[derive(Debug, clap::Args)]
struct DecodeArguments {
    /// Name of a shipped profile, or a file.
    #[arg(long)]
    profile: String,
    /// LoRaWAN port, for profiles that tell ports apart: those of bytes.
    #[arg(long)]
    fport: Option<u8>,
    /// The payload in hexadecimal.
    #[arg(long, conflicts_with_all = ["json", "registers"])]
    hex: Option<String>,
    /// A file with the payload; `-` is standard input.
    #[arg(long, conflicts_with = "registers")]
    json: Option<PathBuf>,
    /// Register values, such as 0x0004=153,5=0xFFFF or input:12=7.
    #[arg(long)]
    registers: Option<String>,
    /// The payload is a whole message of a network server: chirpstack_v4, chirpstack_v3, ttn_v3, ctwing, nbiot_tlv,
    /// sparkplug_b, or auto to find which of the others.
    #[arg(long, value_name = "FORMAT", value_parser = envelope_named, conflicts_with_all = ["registers", "fport"])]
    envelope: Option<EnvelopeFormat>,
    /// Height of the sensor above the invert in mm, for levels computed from a distance.
    #[arg(long)]
    mount_height_mm: Option<f64>,
}

pub(super) fn run(arguments: &ProfileArguments) -> anyhow::Result<u8> {
    match &arguments.command {
        ProfileCommand::Test { paths, json } => test(paths, *json),
        ProfileCommand::List { json } => list(*json),
        ProfileCommand::Decode(arguments) => decode(arguments),
        ProfileCommand::Diff(arguments) => diff::diff(arguments),
        ProfileCommand::New(arguments) => new::new(arguments),
        ProfileCommand::Schema => {
            say(schema::SCHEMA.trim_end());
            Ok(0)
        }
    }
}

fn list(as_json: bool) -> anyhow::Result<u8> {
    let profiles = match files::shipped() {
        Ok(profiles) => profiles,
        Err(problems) => {
            say_problems(&problems);
            return Ok(2);
        }
    };
    let view = |profile: &Arc<Profile>| {
        json!({
            "profile": profile.name, "version": profile.version, "hash": profile.content_hash(), "kind": profile.kind.name(),
            "vendor": profile.vendor, "model": profile.model, "points": profile.points.len(),
        })
    };
    if as_json {
        say(&json!({ "items": profiles.iter().map(view).collect::<Vec<_>>(), "next": null }).to_string());
        return Ok(0);
    }
    for profile in &profiles {
        let edition = format!("{} ({})", profile.version, profile.content_hash());
        let (kind, Profile { name, vendor, model, .. }) = (profile.kind.name(), profile.as_ref());
        say(&format!("{name:<28} {kind:<16} {edition:<18} {vendor} {model}"));
    }
    Ok(0)
}

fn test(paths: &[PathBuf], as_json: bool) -> anyhow::Result<u8> {
    let problems = Problems::default();
    let profiles = if paths.is_empty() {
        match files::shipped() {
            Ok(profiles) => profiles,
            Err(problems) => {
                say_problems(&problems);
                return Ok(2);
            }
        }
    } else {
        files::of_paths(paths, &problems)?
    };
    let mut results: Vec<Value> = Vec::new();
    let (mut failed, mut samples, mut tests) = (0, 0, 0);
    let mut tell = |profile: &Profile, name: &str, wrong: &[String]| {
        failed += usize::from(!wrong.is_empty());
        if !as_json {
            let verdict = if wrong.is_empty() { "ok    " } else { "FAILED" };
            say(&format!("{verdict} {}: {name}", profile.name));
            wrong.iter().for_each(|line| say(&format!("         {line}")));
        }
    };
    for profile in &profiles {
        for sample in &profile.samples {
            let wrong = run_sample(profile, sample);
            samples += 1;
            tell(profile, &sample.name, &wrong);
            results.push(json!({ "profile": profile.name, "sample": sample.name, "wrong": wrong }));
        }
        for test in &profile.tests {
            let at_line = |failure: Failure| format!("{}:{}: {}", test.file, failure.line, failure.what);
            let wrong: Vec<String> = run_rule_test(profile, test).into_iter().map(at_line).collect();
            tests += 1;
            tell(profile, &test.name, &wrong);
            results.push(json!({ "profile": profile.name, "test": test.name, "wrong": wrong }));
        }
    }
    let broken = problems.into_sorted();
    if as_json {
        let problems: Vec<String> = broken.iter().map(Problem::to_string).collect();
        say(&json!({ "items": results, "next": null, "problems": problems }).to_string());
    } else {
        let (profiles, samples) = (counted(profiles.len(), "profile"), counted(samples, "sample"));
        say(&format!("{profiles}, {samples}, {}, {failed} failed", counted(tests, "test")));
        if !broken.is_empty() {
            say_problems(&broken);
        }
    }
    Ok(match (broken.is_empty(), failed) {
        (false, _) => 2,
        (true, 0) => 0,
        (true, _) => 1,
    })
}

/// The frame's readings and errors as JSON; 1 when the frame could not be decoded.
fn decode(arguments: &DecodeArguments) -> anyhow::Result<u8> {
    let profile = match files::find(&arguments.profile)? {
        Ok(profile) => profile,
        Err(problems) => {
            say_problems(&problems);
            return Ok(2);
        }
    };
    let tells_ports_apart = !matches!(profile.payload, PayloadFormat::Registers(_) | PayloadFormat::Json(_));
    if arguments.fport.is_some() && !tells_ports_apart {
        say_error("note: this profile does not tell ports apart, --fport changes nothing");
    }
    let payload = payload(arguments, &profile)?;
    let DecodeArguments { fport: port, envelope, mount_height_mm, .. } = *arguments;
    let frame = SingleFrame { payload: &payload, port, envelope, mount_height_mm };
    let (mut shown, code) = match decode_single(&profile, &frame) {
        Ok(decoded) => (show_decoded(&profile, &decoded), 0),
        Err(error) => (json!({ "readings": [], "errors": [error.detail] }), 1),
    };
    if let Some(trace) = trace_single(&profile, &frame) {
        shown["codec"] = show_codec(&trace);
    }
    if let (Some(format), PayloadView::Bytes(bytes)) = (envelope, payload.view()) {
        shown["envelope"] = show_envelope(format, bytes);
    }
    say(&shown.to_string());
    Ok(code)
}

pub(super) fn envelope_named(name: &str) -> Result<EnvelopeFormat, String> {
    let names = EnvelopeFormat::ALL.map(EnvelopeFormat::name);
    EnvelopeFormat::named(name).ok_or_else(|| format!("write one of {}", names.join(", ")))
}

/// What an envelope says, also when the profile cannot read what is in it.
fn show_envelope(format: EnvelopeFormat, bytes: &[u8]) -> Value {
    match envelope::open(format, b"", bytes) {
        Ok(Opened::Uplink(uplink)) => {
            let hex: String = uplink.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let time = if let Told::Time(time) = uplink.network_time { Some(time) } else { None };
            let found = envelope::format_of(bytes).ok().flatten().filter(|_| format == EnvelopeFormat::Auto);
            let mut shown = json!({
                "format": found.unwrap_or(format).name(), "addresses": uplink.names().collect::<Vec<_>>(), "fport": uplink.port, "hex": hex,
                "decoded": uplink.object.is_some(), "confirmed": uplink.confirmed, "network_time": time,
            });
            for field in LinkField::ALL {
                shown[field.name()] = json!(uplink.link.get(field));
            }
            shown
        }
        Ok(Opened::Ignored(event)) => json!({ "ignored": event.name() }),
        Ok(Opened::Bare) => json!({ "format": "none" }),
        Err(_) => Value::Null,
    }
}

/// What the codec itself said, before points were made of it.
fn show_codec(trace: &CodecTrace) -> Value {
    let data = trace.data.as_ref().map_or(Value::Null, |data| serde_json::from_str(data).unwrap_or(Value::Null));
    json!({
        "data": data, "warnings": trace.warnings, "console": trace.console.lines().collect::<Vec<_>>(),
        "interrupts": trace.interrupts,
    })
}

/// Readings of other times stand under `history`, and what is odd about the frame under `remarks`, where there are any.
fn show_decoded(profile: &Profile, decoded: &DecodedFrame) -> Value {
    let view = |reading: &kerbside_model::PointReading, observed_at: Option<kerbside_model::Timestamp>| {
        let point = &profile.points[usize::from(reading.point)];
        json!({
            "device": null,
            "point": point.name,
            "value": reading.value.as_ref().map(kerbside_model::Value::to_json),
            "unit": point.unit,
            "observed_at": observed_at,
            "received_at": null,
            "quality": reading.quality.flag.name(),
            "cause": reading.quality.cause.name(),
        })
    };
    let readings: Vec<Value> = decoded.readings.iter().map(|reading| view(reading, decoded.observed_at)).collect();
    let mut shown = json!({ "readings": readings, "errors": [] });
    if !decoded.history.is_empty() {
        let row = |row: &DecodedRow| {
            // Without a time of the message's own, only the distance to its arrival is known.
            let observed_at = row.observed_at.filter(|_| row.before.is_none() || decoded.observed_at.is_some());
            let readings: Vec<Value> = row.readings.iter().map(|reading| view(reading, observed_at)).collect();
            let before_s = row.before.map(|before| before.as_secs());
            json!({ "observed_at": observed_at, "before_s": before_s, "readings": readings })
        };
        shown["history"] = decoded.history.iter().map(row).collect();
    }
    if !decoded.remarks.is_empty() {
        shown["remarks"] = json!(decoded.remarks);
    }
    shown
}

fn payload(arguments: &DecodeArguments, profile: &Profile) -> anyhow::Result<Payload> {
    if let Some(hex) = &arguments.hex {
        return Ok(Payload::Bytes(Bytes::from(bytes_of_hex(hex)?)));
    }
    if let Some(path) = &arguments.json {
        let bytes = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("read standard input")?;
            bytes
        } else {
            std::fs::read(path).with_context(|| format!("read the payload {}", path.display()))?
        };
        return Ok(Payload::Bytes(Bytes::from(bytes)));
    }
    if let Some(text) = &arguments.registers {
        if !matches!(profile.payload, PayloadFormat::Registers(_)) {
            bail!("decode registers: profile {} reads {}", profile.name, profile.payload.name());
        }
        return Ok(Payload::Registers(registers(text, profile)?));
    }
    bail!("decode a frame: give it with --hex BYTES, --json FILE or --registers ADDR=WORD,...")
}

fn bytes_of_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != ':').collect();
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("read --hex {text:?}: it must be pairs of hexadecimal digits");
    }
    let pairs = (0..digits.len()).step_by(2).map(|start| u8::from_str_radix(&digits[start..start + 2], 16));
    pairs.collect::<Result<_, _>>().context("read --hex")
}

/// `ADDR=WORD` for every table that the profile reads, or `TABLE:ADDR=WORD`.
fn registers(text: &str, profile: &Profile) -> anyhow::Result<RegisterRead> {
    let mut tables: Vec<RegisterTable> = Vec::new();
    for point in &profile.points {
        if let Origin::Register(field) = &point.origin
            && !tables.contains(&field.table)
        {
            tables.push(field.table);
        }
    }
    let mut read = RegisterRead::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || format!("read --registers {part:?}: write ADDR=WORD, such as 0x0004=153");
        let (place, word) = part.split_once('=').with_context(wrong)?;
        let (only, address) = match place.split_once(':') {
            Some((table, address)) => (Some(table_named(table).with_context(wrong)?), address),
            None => (None, place),
        };
        let address = u16::try_from(integer(address).with_context(wrong)?).with_context(wrong)?;
        let word = integer(word).with_context(wrong)?;
        // A word may be written as the signed number that it means.
        let word = u16::try_from(word).or_else(|_| i16::try_from(word).map(i16::cast_unsigned)).with_context(wrong)?;
        for table in tables.iter().filter(|table| only.is_none_or(|only| only == **table)) {
            add_word(&mut read, *table, address, word);
        }
    }
    Ok(read)
}

/// Adjacent words become one block, as a bus would answer.
fn add_word(read: &mut RegisterRead, table: RegisterTable, address: u16, word: u16) {
    let follows = |block: &&mut RegisterBlock| {
        block.table == table && usize::from(block.address) + block.words.len() == usize::from(address)
    };
    match read.blocks.iter_mut().find(follows) {
        Some(block) => block.words.push(word),
        None => read.blocks.push(RegisterBlock { table, address, words: vec![word] }),
    }
}

fn table_named(name: &str) -> Option<RegisterTable> {
    match name {
        "coil" => Some(RegisterTable::Coil),
        "discrete" => Some(RegisterTable::Discrete),
        "holding" => Some(RegisterTable::Holding),
        "input" => Some(RegisterTable::Input),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i32> {
    match text.trim().strip_prefix("0x") {
        Some(digits) => i32::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    }
}
