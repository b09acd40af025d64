//! `kerbside modbus read`: what stands in registers, coils and discrete inputs, once or again and again.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_runtime::Clock;
use kerbside_sources::modbus::Request;
use serde_json::json;

use super::ask::Asker;
use super::show::dump;
use super::{BusArguments, Table, address, duration, note_on_address, say_no_words, table_name};
use crate::cli::{say, say_error};

/// Arguments of `kerbside modbus read`.
#[derive(Debug, clap::Args)]
pub(super) struct ReadArguments {
    #[command(flatten)]
    bus: BusArguments,
    /// First address on the wire (0-based), decimal or 0x0004.
    #[arg(value_parser = address)]
    address: u16,
    /// Number of the unit.
    #[arg(long, default_value_t = 1)]
    unit: u8,
    /// Which table.
    #[arg(long, value_enum, default_value = "holding")]
    table: Table,
    /// How many: up to 125 registers or 2000 bits.
    #[arg(long, default_value_t = 10)]
    count: u16,
    /// Reads again and again, each second or as often as written, until Ctrl-C; rows that changed are marked.
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "1s", value_parser = duration)]
    watch: Option<Duration>,
    /// Prints JSON, one line for each read.
    #[arg(long)]
    json: bool,
}

pub(super) async fn read(arguments: &ReadArguments) -> anyhow::Result<u8> {
    let (table, unit, first) = (arguments.table.of_model(), arguments.unit, arguments.address);
    if let Some(note) = note_on_address(table, first) {
        say_error(&note);
    }
    let request = Request { table, address: first, count: arguments.count };
    let mut asker = Asker::open(&arguments.bus.place, &arguments.bus.manner()).await?;
    let mut before: Option<Vec<u16>> = None;
    loop {
        let answer = asker.read(unit, request).await;
        let is_over = arguments.watch.is_none();
        match answer {
            Ok(words) => {
                let at = Clock::System.now();
                say(&if arguments.json {
                    json!({ "at": at, "unit": unit, "table": table, "address": first, "words": words }).to_string()
                } else {
                    text(arguments, at, &words, before.as_deref())
                });
                before = Some(words);
                if is_over {
                    return Ok(0);
                }
            }
            Err(error) => {
                let what = format!("unit {unit}, {} {first}", table_name(table));
                if is_over {
                    say_no_words(&what, &error, &arguments.bus.place);
                    return Ok(1);
                }
                say_error(&format!("{what}: {error}"));
            }
        }
        tokio::time::sleep(arguments.watch.unwrap_or_default()).await;
    }
}

fn text(arguments: &ReadArguments, at: Timestamp, words: &[u16], before: Option<&[u16]>) -> String {
    let dump = dump(arguments.address, words, before);
    if arguments.watch.is_some() { format!("{at}\n{dump}") } else { dump }
}
