//! What can go wrong between the gateway and its disk.

use std::io;
use std::path::PathBuf;

use crate::batch::CodecError;

/// The store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data folder cannot be made or reached.
    #[error("use the data folder {}: let kerbside write there, or name another with the key `data_dir`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock of the data folder.
    #[error("open the store in {}: another kerbside runs on this folder; stop it or name another folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error("open the database {}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer kerbside wrote the database.
    #[error(
        "open the database {}: it has schema version {found} and this kerbside knows versions up to {known}; \
         install the newer kerbside again, or move the data folder away and start with an empty one",
        path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Version of the schema in the file.
        found: u32,
        /// Newest version that this program knows.
        known: u32,
    },
    /// The database cannot be read without a migration, which only the gateway makes.
    #[error("read the database {}: it has schema version {found} and this kerbside reads version {known}; start the gateway once, it brings the database up to date", path.display())]
    TooOld {
        /// The database file.
        path: PathBuf,
        /// Version of the schema in the file.
        found: u32,
        /// Version that this program reads.
        known: u32,
    },
    /// There is no database to read.
    #[error("read the database {}: there is none", path.display())]
    NoDatabase {
        /// Where it should be.
        path: PathBuf,
    },
    /// A folder that is to take a salvaged database has one.
    #[error("salvage into {}: there is a database already; name an empty folder", path.display())]
    NotEmpty {
        /// The database that is there.
        path: PathBuf,
    },
    /// The schema could not be brought to a newer version; the database is as it was before.
    #[error("migrate the database to schema version {version}")]
    Migrate {
        /// The version that could not be reached.
        version: u32,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A damaged database could not be moved out of the way.
    #[error("set the damaged database {} aside", path.display())]
    SetAside {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log of the database could not be read or mended.
    #[error("mend the log {} of the database", path.display())]
    MendLog {
        /// The log file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What can be read of a damaged database could not be written into a new one.
    #[error("salvage the damaged database into {}; nothing was changed, and the next start tries again", path.display())]
    Salvage {
        /// The new database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer thread could not be started.
    #[error("start the writer thread of the store")]
    Thread(#[source] io::Error),
    /// The writer thread has ended; nothing more is committed.
    #[error("hand over to the store: its writer has ended")]
    Closed,
    /// The store was closed while the disk refused writes. These commits were never acknowledged.
    #[error("close the store: {commits} commits could not be written and were not acknowledged")]
    Unwritten {
        /// How many commits were given up.
        commits: u64,
        /// Why the first of them failed.
        #[source]
        source: rusqlite::Error,
    },
    /// A write other than a commit failed.
    #[error("write {what}")]
    Write {
        /// What was to be written.
        what: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A read failed.
    #[error("read {what} from the store")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored batch cannot be read back.
    #[error("read batch {sequence} from the store")]
    DamagedBatch {
        /// Number of the batch.
        sequence: u64,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// A stored site cannot be read back.
    #[error("read site {hash} from the store")]
    DamagedSite {
        /// Content hash of the site.
        hash: String,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// A stored record is not what this program writes.
    #[error("read {what} {id} from the store")]
    DamagedRecord {
        /// "alarm", "case" ...
        what: &'static str,
        /// Id of the record.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The cursor of a page was not made by this store.
    #[error("read the page after {cursor:?}: this is no cursor that the store gave out")]
    PageCursor {
        /// The cursor as it was given.
        cursor: String,
    },
}

impl StoreError {
    /// Whether a page of the database could not be read: a full check would find it.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            StoreError::Read { source, .. } => crate::open::is_damage(source),
            StoreError::DamagedBatch { source: CodecError::Row(source), .. } => crate::open::is_damage(source),
            _ => false,
        }
    }

    pub(crate) fn read(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
        move |source| StoreError::Read { what, source }
    }
}
