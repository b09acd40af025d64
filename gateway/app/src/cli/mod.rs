//! The commands of `kerbside`. Each turns its arguments into an exit code and what it prints.
//!
//! Exit codes: 0 done, 1 failed, 2 the configuration, a profile or the command line is not sound.

mod access;
mod backtest;
mod broker;
mod cases;
pub mod check;
mod demo;
mod detect;
mod devices;
mod explain;
mod frames;
mod inventory;
mod listen;
mod modbus;
mod profile;
mod record;
mod reload;
mod replay;
mod run;
mod store;
mod undecoded;
mod walk;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kerbside_model::document::Problem;

/// Edge gateway for the infrastructure in a city's streets: covers, poles, drains; alarms, cases, duty officers.
#[derive(Debug, Parser)]
#[command(name = "kerbside", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Run(run::RunArguments),
    /// Checks the configuration and says what would run.
    Check(check::CheckArguments),
    /// Shows everything with a simulated district, in one process.
    Demo(demo::DemoArguments),
    /// Accounts of the embedded broker.
    Broker(broker::BrokerArguments),
    /// Lists, shows and moves cases.
    Cases(cases::CasesArguments),
    /// Says why an alarm stands or stood: rule, values, limits, how long, quality, what was ruled out.
    Explain(explain::ExplainArguments),
    /// Says how unusual each point of a recorded series is.
    Detect(detect::DetectArguments),
    /// Lists devices.
    Devices(devices::DevicesArguments),
    /// Shows frames as they arrive at the running gateway, with what they gave or why they gave nothing.
    Frames(frames::FramesArguments),
    /// Checks, takes over and gives back tables of devices.
    Inventory(inventory::InventoryArguments),
    /// Finds units on a Modbus bus and what their registers mean; never writes.
    Modbus(modbus::ModbusArguments),
    /// Runs recorded data through the rules of a profile: alarms, would-be cases, and what another limit would change.
    Backtest(Box<backtest::BacktestArguments>),
    /// Tests profiles and decodes single frames.
    Profile(profile::ProfileArguments),
    /// Applies the configuration to the running gateway, and only what changed in it.
    Reload(reload::ReloadArguments),
    /// Writes what the gateway was told, or is being told, into a file that can be replayed.
    Record(record::RecordArguments),
    /// Replays a recording, or reads stored frames again.
    Replay(Box<replay::ReplayArguments>),
    /// Frames that gave no readings, and why.
    Undecoded(undecoded::UndecodedArguments),
    /// Shows what comes from a broker, without a gateway and without leaving anything at the broker.
    Listen(listen::ListenArguments),
    /// Walk test at installation: every device shows once that it works, and a report is written.
    Walk(walk::WalkArguments),
    /// Looks into the database: counts, checks, salvages, exports.
    Store(store::StoreArguments),
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kerbside_runtime::tls::install_crypto_provider();
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments).map_err(anyhow::Error::from),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Broker(arguments) => broker::run(&arguments),
        Command::Cases(arguments) => cases::run(&arguments),
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Frames(arguments) => frames::run(&arguments),
        Command::Inventory(arguments) => inventory::run(&arguments),
        Command::Modbus(arguments) => modbus::run(&arguments),
        Command::Backtest(arguments) => backtest::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Listen(arguments) => listen::run(&arguments),
        Command::Walk(arguments) => walk::run(&arguments),
        Command::Undecoded(arguments) => undecoded::run(&arguments),
        Command::Store(arguments) => store::run(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say_error(&format!("kerbside: failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away is no failure of ours.
fn say(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// What a stranger sent must not steer the terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => plain.push(character),
            other if other.is_control() => plain.extend(other.escape_default()),
            other => plain.push(other),
        }
    }
    plain
}

fn say_error(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Every problem, and how many.
fn say_problems(problems: &[Problem]) {
    for problem in problems {
        say_error(&problem.to_string());
    }
    say_error(&counted(problems.len(), "problem"));
}

/// Who does it: as named, else the user of this machine.
fn who(named: &Option<String>) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    named.clone().or_else(user).unwrap_or_else(|| "command line".to_owned())
}

/// Such as `1 case` and `2 cases`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
