//! A pseudo-terminal: to us a serial port, to a simulated unit a file.
//!
//! Shared by the tests and by `benches/serial_line.rs`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The far side, whose reads and writes block, and the path of the near side.
pub(crate) fn open() -> io::Result<(File, PathBuf)> {
    let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&far)?;
    unlockpt(&far)?;
    let name = ptsname(&far, Vec::new())?;
    let path = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
    Ok((File::from(far), path))
}
