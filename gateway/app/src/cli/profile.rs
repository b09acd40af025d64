//! `kerbside profile`: runs the samples of profiles, and shows what one frame gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use kerbside_engine::sample::{decode_single, run_sample};
use kerbside_model::document::{Problem, Problems};
use kerbside_model::profile::{Origin, PayloadFormat, parse_profile_text};
use kerbside_model::{Payload, Profile, RegisterBlock, RegisterRead, RegisterTable};
use serde_json::{Value, json};

use super::{counted, say, say_error, say_problems};
use crate::shipped;

/// Arguments of `kerbside profile`.
#[derive(Debug, clap::Args)]
pub(super) struct ProfileArguments {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ProfileCommand {
    /// Runs the samples of profiles: of the files and folders named, or of the shipped ones.
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
}

#[derive(Debug, clap::Args)]
struct DecodeArguments {
    /// Name of a shipped profile, or a file.
    #[arg(long)]
    profile: String,
    /// LoRaWAN port, for profiles that tell ports apart. JSON and register profiles do not.
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
    /// Height of the sensor above the invert in mm, for levels computed from a distance.
    #[arg(long)]
    mount_height_mm: Option<f64>,
}

pub(super) fn run(arguments: &ProfileArguments) -> anyhow::Result<u8> {
    match &arguments.command {
        ProfileCommand::Test { paths, json } => test(paths, *json),
        ProfileCommand::List { json } => list(*json),
        ProfileCommand::Decode(arguments) => decode(arguments),
    }
}

fn shipped_profiles() -> Result<Vec<Arc<Profile>>, Vec<Problem>> {
    let problems = Problems::default();
    let mut profiles = Vec::new();
    for (name, text) in shipped::PROFILES {
        let file = format!("{}/{name}", shipped::FOLDER);
        profiles.extend(parse_profile_text(&file, text, &problems).map(Arc::new));
    }
    if problems.is_empty() { Ok(profiles) } else { Err(problems.into_sorted()) }
}

fn list(as_json: bool) -> anyhow::Result<u8> {
    let profiles = match shipped_profiles() {
        Ok(profiles) => profiles,
        Err(problems) => {
            say_problems(&problems);
            return Ok(2);
        }
    };
    let view = |profile: &Arc<Profile>| {
        json!({
            "profile": profile.name, "version": profile.version, "kind": profile.kind.name(),
            "vendor": profile.vendor, "model": profile.model, "points": profile.points.len(),
        })
    };
    if as_json {
        say(&json!({ "items": profiles.iter().map(view).collect::<Vec<_>>(), "next": null }).to_string());
        return Ok(0);
    }
    for profile in &profiles {
        say(&format!("{:<24} {:<16} {} {}", profile.name, profile.kind.name(), profile.vendor, profile.model));
    }
    Ok(0)
}

/// The profiles of files and folders; problems are noted.
fn read_paths(paths: &[PathBuf], problems: &Problems) -> anyhow::Result<Vec<Arc<Profile>>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("read the folder {}", path.display()))?;
        let mut inside = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("read the folder {}", path.display()))?.path();
            if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                inside.push(file);
            }
        }
        inside.sort();
        files.append(&mut inside);
    }
    let mut profiles = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read the profile {}", file.display()))?;
        profiles.extend(parse_profile_text(&file.display().to_string(), &text, problems).map(Arc::new));
    }
    Ok(profiles)
}

fn test(paths: &[PathBuf], as_json: bool) -> anyhow::Result<u8> {
    let problems = Problems::default();
    let profiles = if paths.is_empty() {
        match shipped_profiles() {
            Ok(profiles) => profiles,
            Err(problems) => {
                say_problems(&problems);
                return Ok(2);
            }
        }
    } else {
        read_paths(paths, &problems)?
    };
    let mut results: Vec<Value> = Vec::new();
    let mut failed = 0;
    for profile in &profiles {
        for sample in &profile.samples {
            let wrong = run_sample(profile, sample);
            failed += usize::from(!wrong.is_empty());
            if !as_json {
                let verdict = if wrong.is_empty() { "ok    " } else { "FAILED" };
                say(&format!("{verdict} {}: {}", profile.name, sample.name));
                wrong.iter().for_each(|line| say(&format!("         {line}")));
            }
            results.push(json!({ "profile": profile.name, "sample": sample.name, "wrong": wrong }));
        }
    }
    let broken = problems.into_sorted();
    if as_json {
        let problems: Vec<String> = broken.iter().map(Problem::to_string).collect();
        say(&json!({ "items": results, "next": null, "problems": problems }).to_string());
    } else {
        let (profiles, samples) = (counted(profiles.len(), "profile"), counted(results.len(), "sample"));
        say(&format!("{profiles}, {samples}, {failed} failed"));
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

fn find_profile(name: &str) -> anyhow::Result<Result<Arc<Profile>, Vec<Problem>>> {
    if name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml") {
        let problems = Problems::default();
        let found = read_paths(&[Path::new(name).to_owned()], &problems)?;
        return Ok(found.into_iter().next().ok_or_else(|| problems.into_sorted()));
    }
    let profiles = match shipped_profiles() {
        Ok(profiles) => profiles,
        Err(problems) => return Ok(Err(problems)),
    };
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    let hint = kerbside_model::document::closest(name, &names).map(|known| format!("; did you mean {known}?"));
    let found = profiles.iter().find(|profile| profile.name == name).map(Arc::clone);
    Ok(Ok(found.with_context(|| format!("find the profile {name:?}{}", hint.unwrap_or_default()))?))
}

/// The frame's readings and errors as JSON; 1 when the frame could not be decoded.
fn decode(arguments: &DecodeArguments) -> anyhow::Result<u8> {
    let profile = match find_profile(&arguments.profile)? {
        Ok(profile) => profile,
        Err(problems) => {
            say_problems(&problems);
            return Ok(2);
        }
    };
    if arguments.fport.is_some() {
        say_error("note: this profile does not tell ports apart, --fport changes nothing");
    }
    let payload = payload(arguments, &profile)?;
    let (readings, errors, code) = match decode_single(&profile, &payload, arguments.mount_height_mm) {
        Ok(decoded) => {
            let view = |reading: &kerbside_model::PointReading| {
                let point = &profile.points[usize::from(reading.point)];
                json!({
                    "device": null,
                    "point": point.name,
                    "value": reading.value.as_ref().map(kerbside_model::Value::to_json),
                    "unit": point.unit,
                    "observed_at": decoded.observed_at,
                    "received_at": null,
                    "quality": reading.quality.flag.name(),
                    "cause": reading.quality.cause.name(),
                })
            };
            (decoded.readings.iter().map(view).collect::<Vec<_>>(), Vec::new(), 0)
        }
        Err(error) => (Vec::new(), vec![error.detail], 1),
    };
    say(&json!({ "readings": readings, "errors": errors }).to_string());
    Ok(code)
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
        if !matches!(profile.payload, PayloadFormat::Registers { .. }) {
            bail!("decode registers: profile {} reads JSON, give --json FILE", profile.name);
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
