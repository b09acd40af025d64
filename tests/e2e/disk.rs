//! A disk that a test can fill: as root a file system of its own in memory, which gives the real error; otherwise a
//! limit on the size of the gateway's files, which gives one that is nearly the same.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::gateway::Gateway;

/// Room for the database of a long run.
const SIZE: &str = "size=512m";
const FILLER: &str = "filler";
const PIECE_BYTES: usize = 1 << 20;

/// Where the data folder lies.
pub(crate) enum Disk {
    /// On a file system of its own, which is full when the filler is.
    OfItsOwn(PathBuf),
    /// Among others; the gateway's files may be kept from growing.
    Shared,
}

impl Disk {
    /// Makes the data folder.
    pub(crate) fn prepare(data: &Path) -> Disk {
        fs::create_dir_all(data).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "kerbside-e2e"]).arg(data).output();
        if mounted.is_ok_and(|output| output.status.success()) { Disk::OfItsOwn(data.to_owned()) } else { Disk::Shared }
    }

    /// How it is filled, in words.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Disk::OfItsOwn(_) => "a tmpfs that is filled",
            Disk::Shared => "a limit on the size of files (not root, or no mount allowed)",
        }
    }

    /// From now on nothing more fits.
    pub(crate) fn fill(&self, gateway: &Gateway) {
        match self {
            Disk::OfItsOwn(folder) => {
                let mut filler = File::create(folder.join(FILLER)).unwrap();
                let piece = vec![0; PIECE_BYTES];
                let refused = loop {
                    if let Err(error) = filler.write_all(&piece) {
                        break error;
                    }
                };
                assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull, "{refused}");
            }
            Disk::Shared => limit_files(gateway, "1"),
        }
    }

    /// There is room again, also for the gateway that was there before and still runs.
    pub(crate) fn free(&self, gateway: Option<&Gateway>) {
        match (self, gateway) {
            (Disk::OfItsOwn(folder), _) => fs::remove_file(folder.join(FILLER)).unwrap(),
            (Disk::Shared, Some(gateway)) => limit_files(gateway, "unlimited"),
            (Disk::Shared, None) => {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Disk::OfItsOwn(folder) = self {
            drop(Command::new("umount").arg("--lazy").arg(folder).status());
        }
    }
}

fn limit_files(gateway: &Gateway, bytes: &str) {
    let process = gateway.process_id().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap();
    assert!(status.success(), "prlimit of util-linux is needed: {status}");
}
