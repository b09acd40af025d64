//! `kerbside modbus probe`: what the registers at an address may mean.

use std::time::Duration;

use anyhow::bail;
use kerbside_engine::probe::{Hint, better_shift, guesses, range_of_unit};
use kerbside_sources::modbus::{BusError, Request};

use super::ask::Asker;
use super::show::{Findings, Target, report, report_json};
use super::{BusArguments, Table, address, duration, note_on_address, say_no_words, table_name};
use crate::cli::{say, say_error};

/// Four registers hold the widest number; more are read as text.
const COUNT_MAX: u16 = 32;

/// Arguments of `kerbside modbus probe`.
#[derive(Debug, clap::Args)]
pub(super) struct ProbeArguments {
    #[command(flatten)]
    bus: BusArguments,
    /// Address on the wire (0-based), decimal or 0x0004.
    #[arg(value_parser = address)]
    address: u16,
    /// Number of the unit.
    #[arg(long, default_value_t = 1)]
    unit: u8,
    /// Which table.
    #[arg(long, value_enum, default_value = "holding")]
    table: Table,
    /// How many registers, 1 to 32.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(COUNT_MAX)))]
    count: u16,
    /// How many times they are read: a wrong order jumps from read to read.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    reads: u8,
    /// Time between two reads.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    every: Duration,
    /// What the display of the device shows.
    #[arg(long, allow_hyphen_values = true)]
    expect: Option<f64>,
    /// Unit of the value: V, A, mA, W, kW, kWh, Hz, degC, %, mm, cm, m, hPa, m/s, deg or dB.
    #[arg(long, value_name = "UNIT")]
    measured_in: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn probe(arguments: &ProbeArguments) -> anyhow::Result<u8> {
    let hint = hint(arguments)?;
    let target = Target {
        unit: arguments.unit,
        table: arguments.table.of_model(),
        address: arguments.address,
        measured_in: arguments.measured_in.clone(),
    };
    if let Some(note) = note_on_address(target.table, target.address) {
        say_error(&note);
    }
    let mut asker = Asker::open(&arguments.bus.place, &arguments.bus.manner()).await?;
    let reads = match reads(&mut asker, &target, arguments).await {
        Ok(reads) => reads,
        Err(error) => {
            let (unit, table, address) = (target.unit, table_name(target.table), target.address);
            say_no_words(&format!("unit {unit}, {table} {address}"), &error, &arguments.bus.place);
            return Ok(1);
        }
    };
    let count = reads.last().map_or(1, Vec::len);
    let around = around(&mut asker, &target, count).await;
    let findings = Findings {
        guesses: guesses(&reads, &hint),
        better: around.and_then(|words| better_shift(&[words], &hint)),
        reads,
    };
    if arguments.json {
        say(&report_json(&target, &findings).to_string());
    } else {
        say(&report(&target, &findings));
    }
    Ok(0)
}

fn hint(arguments: &ProbeArguments) -> anyhow::Result<Hint> {
    if matches!(arguments.table, Table::Coil | Table::Discrete) {
        bail!("probe bits: a coil or discrete input is on or off; look at it with `kerbside modbus read --table coil`");
    }
    if arguments.expect.is_some_and(|expected| !expected.is_finite()) {
        bail!("probe with --expect: it is no number");
    }
    let range = match &arguments.measured_in {
        None => None,
        Some(unit) => match range_of_unit(unit) {
            Some(range) => Some(range),
            // Then the display decides, and the unit goes into the point.
            None if arguments.expect.is_some() => None,
            None => bail!(
                "probe with --measured-in {unit}: nothing is known of this unit; write V, A, mA, W, kW, kWh, Hz, degC, %, \
                 mm, cm, m, hPa, m/s, deg or dB, or add what the device shows with --expect"
            ),
        },
    };
    Ok(Hint { expected: arguments.expect, range })
}

/// The registers, time after time. A unit that ends before the last of them gives as many as it has.
async fn reads(asker: &mut Asker, target: &Target, arguments: &ProbeArguments) -> Result<Vec<Vec<u16>>, BusError> {
    let Target { unit, table, address, .. } = *target;
    let left = u16::MAX - address;
    let mut count = arguments.count.min(left.saturating_add(1));
    let mut reads = Vec::new();
    while reads.len() < usize::from(arguments.reads) {
        if !reads.is_empty() {
            tokio::time::sleep(arguments.every).await;
        }
        match asker.read(unit, Request { table, address, count }).await {
            Ok(words) => reads.push(words),
            Err(BusError::Refused { .. }) if reads.is_empty() && count > 1 => count /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(reads)
}

/// The registers with one before and one behind them, or without that one where the unit ends; nothing when it does not
/// give the one before either.
async fn around(asker: &mut Asker, target: &Target, count: usize) -> Option<Vec<u16>> {
    let address = target.address.checked_sub(1)?;
    let count = u16::try_from(count).ok()?;
    for count in [count + 2, count + 1] {
        let request = Request { table: target.table, address, count };
        if let Ok(words) = asker.read(target.unit, request).await {
            return Some(words);
        }
    }
    None
}
