//! Power cuts for tests: turns what SQLite writes into what a disk holds when the power goes at some moment.
//!
//! [`Recording`] puts a layer over SQLite's file system (a VFS) and notes every write, cut, sync and deletion of the
//! files of one folder. [`after_cut`] takes a part of these notes from the beginning and keeps what a disk promises:
//! everything before the last sync of a file, and of the rest an arbitrary part, torn where it likes to tear.
//!
//! What it does not show: a disk that lies about syncs, and a cut while a file is written past SQLite (the lock, notes,
//! a log that is mended); such a file counts as whole when SQLite opens it.
//! Nothing here is part of the gateway; no metrics.

mod cut;
mod vfs;

pub use cut::{Image, after_cut, read_image, write_image};
pub use vfs::Recording;

/// One step of SQLite on a file of the folder, or a note of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file was opened for the first time and held this.
    Found {
        /// Name of the file in the folder.
        file: String,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// Bytes were written.
    Write {
        /// Name of the file in the folder.
        file: String,
        /// Where, bytes from the beginning.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// The file was cut or stretched to so many bytes.
    Resize {
        /// Name of the file in the folder.
        file: String,
        /// Its length, bytes.
        length: u64,
    },
    /// Everything before on this file is on the disk.
    Sync {
        /// Name of the file in the folder.
        file: String,
    },
    /// The file was deleted, which is on the disk only with the folder.
    Delete {
        /// Name of the file in the folder.
        file: String,
    },
    /// The names of the folder's files are on the disk as they are.
    SyncFolder,
    /// What the test calls done has been done, such as the commit with this number.
    Done(u64),
}
