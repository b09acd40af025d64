//! `kerbside modbus scan`: which units answer on a bus, and who they are.
//!
//! Each unit is asked for one holding register; those that are silent are asked for one input register when all others
//! had their turn, so that a late answer is never taken for the second. An exception is an answer too. A unit that
//! answers is looked at closely: which functions it knows, what it says of itself, how long it takes.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::bail;
use kerbside_model::RegisterTable;
use kerbside_runtime::Clock;
use kerbside_sources::modbus::{BusError, Identification, Link, Parity, Request, SerialLine};
use serde_json::{Value, json};

use super::ask::{Asker, what_to_check};
use super::place::{self, Place};
use super::{BusArguments, down_hint, table_name};
use crate::api::identification_view;
use crate::cli::{counted, say, say_error};

/// Units of a serial line (Modbus over Serial Line V1.02, section 2.2).
const UNITS: &str = "1-247";
/// A connection that breaks is tried again so many times running: some gateways hang up on a unit they do not have.
const DOWN_MAX: u32 = 5;
/// ... after this: longer than the link waits by itself.
const DOWN_WAIT: Duration = Duration::from_millis(1_100);
/// So many units that all answer are most likely one that does not look at the number.
const SUSPICIOUS: usize = 16;
const TABLES: [RegisterTable; 4] =
    [RegisterTable::Coil, RegisterTable::Discrete, RegisterTable::Holding, RegisterTable::Input];
/// The exception of a unit that does not know a function (Modbus Application Protocol V1.1b3, section 7).
const ILLEGAL_FUNCTION: u8 = 1;
/// What silent units are asked, one after the other.
const ROUNDS: [RegisterTable; 2] = [RegisterTable::Holding, RegisterTable::Input];

/// Arguments of `kerbside modbus scan`.
#[derive(Debug, clap::Args)]
pub(super) struct ScanArguments {
    #[command(flatten)]
    bus: BusArguments,
    /// Which units, such as 1-247 or 1,3,10-20.
    #[arg(long, default_value = UNITS, value_parser = units)]
    units: Units,
    /// Speeds that are tried one after the other until units answer; a serial port only.
    #[arg(long, value_delimiter = ',', value_parser = place::baud)]
    baud: Vec<u32>,
    /// Parities that are tried with each speed: none, even, odd.
    #[arg(long, value_delimiter = ',', value_parser = place::parity)]
    parity: Vec<Parity>,
    /// Prints JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Numbers of units, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Units(Vec<u8>);

/// A unit that answers.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) unit: u8,
    /// How the serial line was set, where several ways were tried.
    pub(super) line: Option<SerialLine>,
    /// The quickest answer.
    pub(super) latency: Duration,
    /// What came of asking each table for its first value.
    pub(super) tables: Vec<(RegisterTable, Result<(), BusError>)>,
    pub(super) identification: Option<Identification>,
}

pub(super) async fn scan(arguments: &ScanArguments) -> anyhow::Result<u8> {
    let places = places(arguments)?;
    let units = &arguments.units.0;
    let mut survey = Survey::new(units.len() * ROUNDS.len() * places.len(), !arguments.json);
    let is_choice = places.len() > 1;
    say_error(&format!("asking {} at {}", counted(units.len(), "unit"), arguments.bus.place));
    for (position, place) in places.iter().enumerate() {
        // Only the first needs to find out whether the gateway has the port.
        let mut asker = match (position, place) {
            (0, _) | (_, Place::Bus(_)) => Asker::open(place, &arguments.bus.manner()).await?,
            (_, Place::Link(link)) => Asker::direct(link, &arguments.bus.manner()),
        };
        survey.line = serial_line(place).filter(|_| is_choice);
        if let Err(cause) = survey.run(&mut asker, units).await {
            survey.progress.clear();
            say_error(down_hint(&cause));
            bail!("ask the units: {cause}");
        }
        if !survey.found.is_empty() {
            break;
        }
    }
    survey.progress.clear();
    tell(arguments, &survey);
    Ok(u8::from(survey.found.is_empty()))
}

/// The bus, with each of the speeds and parities.
fn places(arguments: &ScanArguments) -> anyhow::Result<Vec<Place>> {
    let place = &arguments.bus.place;
    if arguments.baud.is_empty() && arguments.parity.is_empty() {
        return Ok(vec![place.clone()]);
    }
    let Place::Link(Link::Serial(serial)) = place else {
        bail!("scan with --baud or --parity: only a serial port of this machine (rtu:///dev/...) can be set");
    };
    let or = |given: &[u32], own: u32| if given.is_empty() { vec![own] } else { given.to_vec() };
    let parities = if arguments.parity.is_empty() { vec![serial.line.parity] } else { arguments.parity.clone() };
    let mut places = Vec::new();
    for baud in or(&arguments.baud, serial.line.baud) {
        for parity in &parities {
            let mut serial = serial.clone();
            serial.line = SerialLine { baud, parity: *parity, ..serial.line };
            places.push(Place::Link(Link::Serial(serial)));
        }
    }
    Ok(places)
}

fn serial_line(place: &Place) -> Option<SerialLine> {
    match place {
        Place::Link(link) => link.serial_line(),
        Place::Bus(_) => None,
    }
}

fn tell(arguments: &ScanArguments, survey: &Survey) {
    if arguments.json {
        let units: Vec<Value> = survey.found.iter().map(found_json).collect();
        say(&json!({ "asked": arguments.units.0, "units": units, "silent": survey.silence }).to_string());
    } else {
        say(&summary(survey.found.len(), arguments.units.0.len(), survey.progress.passed()));
    }
    for (why, count) in survey.silence.iter().filter(|(why, _)| !why.starts_with("timeout")) {
        say_error(&format!("{count} times: {why}"));
    }
    if survey.silence.keys().any(|why| why.contains("not modbus") || why.contains("never silent")) {
        say_error(
            "bytes came that are no answer: wrong speed or parity, two units with one number, or another master on the \
             line\n收到的字节不是应答：波特率或校验位不对、从站地址重复，或线路上另有主站",
        );
    }
    if survey.found.len() >= SUSPICIOUS && survey.found.len() == arguments.units.0.len() {
        say_error(
            "every unit answers: this device does not look at the number of the unit\n所有从站地址都有应答：该设备不检查从站地址",
        );
    }
    if survey.found.is_empty() {
        say_error(what_to_check(&arguments.bus.place));
    }
}

/// What is asked and what came of it so far.
struct Survey {
    line: Option<SerialLine>,
    found: Vec<Found>,
    /// Why units were silent, and how many.
    silence: BTreeMap<String, usize>,
    progress: Progress,
    is_told: bool,
}

impl Survey {
    fn new(questions: usize, is_told: bool) -> Survey {
        let progress =
            Progress { began: Clock::stamp(), asked: 0, questions, is_shown: std::io::stderr().is_terminal() };
        Survey { line: None, found: Vec::new(), silence: BTreeMap::new(), progress, is_told }
    }

    /// Asks all units over one link. Fails with the reason when the link cannot be had.
    async fn run(&mut self, asker: &mut Asker, units: &[u8]) -> Result<(), String> {
        let mut silent = units.to_vec();
        for (round, table) in ROUNDS.into_iter().enumerate() {
            for unit in std::mem::take(&mut silent) {
                self.progress.show(self.found.len());
                let (answer, latency) = ask(asker, unit, table).await?;
                self.progress.asked += 1;
                match answer {
                    Ok(()) | Err(BusError::Refused { .. }) => {
                        self.progress.questions -= ROUNDS.len() - 1 - round;
                        let found = self.look_closely(asker, unit, (table, answer, latency)).await?;
                        self.take(found);
                    }
                    Err(_) if round + 1 < ROUNDS.len() => silent.push(unit),
                    Err(error) => *self.silence.entry(error.to_string()).or_insert(0) += 1,
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, found: Found) {
        if self.is_told {
            self.progress.clear();
            say(&found_text(&found));
        }
        self.found.push(found);
    }

    async fn look_closely(
        &self,
        asker: &mut Asker,
        unit: u8,
        (asked, first, mut latency): (RegisterTable, Result<(), BusError>, Duration),
    ) -> Result<Found, String> {
        let mut tables = Vec::new();
        for table in TABLES {
            if table == asked {
                tables.push((table, first.clone()));
                continue;
            }
            let (answer, took) = ask(asker, unit, table).await?;
            if matches!(answer, Ok(()) | Err(BusError::Refused { .. })) {
                latency = latency.min(took);
            }
            tables.push((table, answer));
        }
        let identification = asker.identify(unit).await.ok();
        Ok(Found { unit, line: self.line, latency, tables, identification })
    }
}

/// The first value of a table. Fails when the bus cannot be had.
async fn ask(asker: &mut Asker, unit: u8, table: RegisterTable) -> Result<(Result<(), BusError>, Duration), String> {
    let mut tries = 0;
    loop {
        let began = Clock::stamp();
        let answer = asker.read(unit, Request { table, address: 0, count: 1 }).await;
        let took = Clock::stamp().saturating_duration_since(began);
        match answer {
            Ok(_) => return Ok((Ok(()), took)),
            Err(error @ (BusError::Refused { .. } | BusError::NoAnswer(_))) => return Ok((Err(error), took)),
            Err(error) if tries == DOWN_MAX => return Err(error.to_string()),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(DOWN_WAIT).await;
            }
        }
    }
}

/// Such as `unit   3   12 ms  functions 3, 4  Eastron SDM120 1.2`.
pub(super) fn found_text(found: &Found) -> String {
    let mut text = format!("unit {:>3}  {:>4} ms", found.unit, found.latency.as_millis());
    if let Some(line) = found.line {
        text.push_str(&format!("  {line}"));
    }
    let functions: Vec<String> = found
        .tables
        .iter()
        .filter(|(_, answer)| is_known(answer))
        .map(|(table, _)| table.function().to_string())
        .collect();
    text.push_str(&match functions.len() {
        0 => "  none of functions 1 to 4".to_owned(),
        1 => format!("  function {}", functions.concat()),
        _ => format!("  functions {}", functions.join(", ")),
    });
    text.push_str(&format!("  {}", found.identification.as_ref().map_or("does not say who it is".to_owned(), said)));
    text
}

/// Whether a unit knows the function, whatever it has at the first address.
fn is_known(answer: &Result<(), BusError>) -> bool {
    match answer {
        Ok(()) => true,
        Err(BusError::Refused { exception }) => *exception != ILLEGAL_FUNCTION,
        Err(_) => false,
    }
}

/// Vendor, product and revision; or the bytes of function 17 as far as they are text.
fn said(identification: &Identification) -> String {
    let texts: Vec<&str> =
        identification.objects.iter().map(|(_, text)| text.as_str()).filter(|text| !text.is_empty()).collect();
    if !texts.is_empty() {
        return clean(&texts.join(" "));
    }
    match &identification.server_id {
        Some(bytes) => {
            let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("server id {hexadecimal} {:?}", String::from_utf8_lossy(bytes))
        }
        None => "says nothing of itself".to_owned(),
    }
}

/// Without what would do something to a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn found_json(found: &Found) -> Value {
    let tables: serde_json::Map<String, Value> = found
        .tables
        .iter()
        .map(|(table, answer)| {
            let text = answer.as_ref().err().map_or("answers".to_owned(), ToString::to_string);
            (table_name(*table).to_owned(), json!(text))
        })
        .collect();
    let object = |number: u8| {
        let objects = found.identification.iter().flat_map(|said| &said.objects);
        objects.into_iter().find(|(known, _)| *known == number).map(|(_, text)| text.clone())
    };
    json!({
        "unit": found.unit,
        "line": found.line.map(|line| line.to_string()),
        "latency_ms": found.latency.as_secs_f64() * 1e3,
        "tables": tables,
        "vendor": object(0),
        "product": object(1),
        "revision": object(2),
        "identification": found.identification.as_ref().map(identification_view),
    })
}

fn summary(found: usize, asked: usize, passed: Duration) -> String {
    let verb = if found == 1 { "answers" } else { "answer" };
    format!("{found} of {} {verb} ({} s)", counted(asked, "unit"), passed.as_secs())
}

/// How far the scan is, on a terminal.
struct Progress {
    began: Instant,
    asked: usize,
    questions: usize,
    is_shown: bool,
}

impl Progress {
    fn passed(&self) -> Duration {
        Clock::stamp().saturating_duration_since(self.began)
    }

    fn show(&self, found: usize) {
        if self.is_shown {
            let text = progress_text(self.asked, self.questions, found, self.passed());
            let mut errors = std::io::stderr().lock();
            // A terminal that went away is no failure of ours.
            drop(write!(errors, "\r\x1b[K{text}"));
            drop(errors.flush());
        }
    }

    fn clear(&self) {
        if self.is_shown {
            drop(write!(std::io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

fn progress_text(asked: usize, questions: usize, found: usize, passed: Duration) -> String {
    let mut text = format!("{asked} of at most {questions} questions, {found} found");
    if asked > 0 {
        let left = passed.mul_f64(questions.saturating_sub(asked) as f64 / asked as f64);
        text.push_str(&format!(", {} s left", left.as_secs()));
    }
    text
}

/// Reads `1-247` and `1,3,10-20`.
fn units(text: &str) -> Result<Units, String> {
    let wrong = || format!("{text:?} are no units: write numbers from 0 to 255, such as 1-247 or 1,3,10-20");
    let mut units = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u8>().map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        units.extend(first..=last);
    }
    units.sort_unstable();
    units.dedup();
    Ok(Units(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_numbers_and_spans() {
        assert_eq!(units("1-3"), Ok(Units(vec![1, 2, 3])));
        assert_eq!(units("5, 1,4-6"), Ok(Units(vec![1, 4, 5, 6])));
        assert_eq!(units(UNITS).map(|units| units.0.len()), Ok(247));
        for wrong in ["", "256", "3-1", "1-", "a", "1,,2"] {
            assert!(units(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn progress_says_how_long_it_takes() {
        assert_eq!(progress_text(0, 494, 0, Duration::ZERO), "0 of at most 494 questions, 0 found");
        let half = progress_text(247, 494, 2, Duration::from_secs(80));
        assert_eq!(half, "247 of at most 494 questions, 2 found, 80 s left");
    }

    #[test]
    fn what_a_device_says_does_nothing_to_the_terminal() {
        let evil = Identification { objects: vec![(0, "\u{1b}[2Jevil".to_owned())], server_id: None };
        assert_eq!(said(&evil), "?[2Jevil");
    }
}
