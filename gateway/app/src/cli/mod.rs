//! The commands of `kerbside`. Each turns its arguments into an exit code and what it prints.
//!
//! Exit codes: 0 done, 1 failed, 2 the configuration, a profile or the command line is not sound.

mod access;
mod broker;
mod cases;
pub mod check;
mod demo;
mod devices;
mod profile;
mod run;
mod store;
mod trial;

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
    /// Lists devices.
    Devices(devices::DevicesArguments),
    /// Tests profiles and decodes single frames.
    Profile(profile::ProfileArguments),
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
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
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

/// Such as `1 case` and `2 cases`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
