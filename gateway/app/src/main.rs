//! `kerbside`: reads the command line and leaves with an exit code.

use std::process::ExitCode;

/// Frames are made by one thread and dropped by another, which the C library's allocator answers with an arena for
/// each and twice the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kerbside_app::cli::main()
}
