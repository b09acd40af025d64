//! `kerbside modbus`: who answers on a bus, what a register means, what stands in registers. For installers; nothing
//! here can write to a device.
//!
//! Exit codes: 0 something answered, 1 nothing did or the bus cannot be had.

mod ask;
mod place;
mod probe;
mod read;
mod scan;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use kerbside_model::RegisterTable;
use kerbside_model::document::parse_duration;
use kerbside_sources::modbus::BusError;

use super::{run, say_error};
use ask::Manner;
use place::Place;

/// Arguments of `kerbside modbus`.
#[derive(Debug, clap::Args)]
pub(super) struct ModbusArguments {
    #[command(subcommand)]
    command: ModbusCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ModbusCommand {
    /// Finds the units that answer on a bus, and says who they are.
    Scan(scan::ScanArguments),
    /// Shows registers in every type and order, the most plausible first, and the point for a profile.
    Probe(probe::ProbeArguments),
    /// Reads registers, coils or discrete inputs as they are.
    Read(read::ReadArguments),
}

/// How every command reaches a bus.
#[derive(Clone, Debug, clap::Args)]
struct BusArguments {
    /// tcp://HOST:502, rtu:///dev/serial/by-id/...?baud=9600&parity=even, rtu+tcp://HOST:PORT, or the name of a bus of
    /// the running gateway (NAME, or NAME/NUMBER), which is then asked between its polls.
    #[arg(value_name = "BUS", value_parser = place::parse)]
    place: Place,
    /// Longest wait for an answer: 300ms on a serial port and 1s over a network where nothing is written. Behind a
    /// gateway it must be longer than the gateway's own.
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
    /// Silence between two requests, for units that need some.
    #[arg(long, value_parser = duration, default_value = "0ms")]
    pause: Duration,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
}

impl BusArguments {
    fn manner(&self) -> Manner {
        Manner { timeout: self.timeout, pause: self.pause, config: self.config.clone() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
    /// Function 1.
    Coil,
    /// Function 2.
    Discrete,
}

impl Table {
    fn of_model(self) -> RegisterTable {
        match self {
            Table::Holding => RegisterTable::Holding,
            Table::Input => RegisterTable::Input,
            Table::Coil => RegisterTable::Coil,
            Table::Discrete => RegisterTable::Discrete,
        }
    }
}

pub(super) fn run(arguments: &ModbusArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        match &arguments.command {
            ModbusCommand::Scan(arguments) => scan::scan(arguments).await,
            ModbusCommand::Probe(arguments) => probe::probe(arguments).await,
            ModbusCommand::Read(arguments) => read::read(arguments).await,
        }
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 300ms or 2s".to_owned())
}

/// An address on the wire, decimal or hexadecimal.
fn address(text: &str) -> Result<u16, String> {
    let address = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| "write the address on the wire, 0 to 65535 or 0x0000 to 0xFFFF".to_owned())
}

/// What a table is called in profiles.
fn table_name(table: RegisterTable) -> &'static str {
    match table {
        RegisterTable::Coil => "coil",
        RegisterTable::Discrete => "discrete",
        RegisterTable::Holding => "holding",
        RegisterTable::Input => "input",
    }
}

/// 40005 is written in many sheets where the wire says 4.
fn note_on_address(table: RegisterTable, address: u16) -> Option<String> {
    let first = match table {
        RegisterTable::Holding => 40_001,
        RegisterTable::Input => 30_001,
        RegisterTable::Discrete => 10_001,
        RegisterTable::Coil => return None,
    };
    let wire = address.checked_sub(first).filter(|wire| *wire < 9_999)?;
    let name = table_name(table);
    Some(format!(
        "note: {address} is asked for as it is; where a sheet calls a {name} register {address}, its address is {wire}\n\
         注意：按地址 {address} 读取；若说明书把 {name} 寄存器写作 {address}，实际地址为 {wire}"
    ))
}

/// Tells why a unit gave nothing, and what to do about it.
fn say_no_words(what: &str, error: &BusError, place: &Place) {
    say_error(&format!("{what}: {error}"));
    match error {
        BusError::Refused { .. } => say_error(
            "the unit is there and refuses: another --table (holding is function 3, input is 4), another address (sheets \
             that count from 1 are off by one), or a smaller --count\n\
             设备有应答但拒绝：换 --table（holding 为功能码 3，input 为 4）；换地址（说明书从 1 起编号时差 1）；减小 --count",
        ),
        BusError::NoAnswer(_) => say_error(ask::what_to_check(place)),
        BusError::Down(cause) => say_error(down_hint(cause)),
        BusError::Busy | BusError::Stopped | BusError::Impossible { .. } => {}
    }
}

/// What to do when there is no connection.
fn down_hint(cause: &str) -> &'static str {
    if cause.contains("another program uses it") {
        return "if that is the gateway, write the name of its bus instead of the port, and it is asked between its polls\n\
                若占用者是网关，请写其总线名称代替串口，将在轮询间隙读取";
    }
    "check: the name of the port or host; the port number; group dialout for serial ports; the network; whether another \
     program holds the only connection\n\
     检查：串口或主机名；端口号；串口须属于 dialout 组；网络；唯一的连接是否被其他程序占用"
}
