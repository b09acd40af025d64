//! `kerbside`: reads the command line and leaves with an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kerbside_app::cli::main()
}
