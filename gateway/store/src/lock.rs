//! The lock of a data folder: turns a folder into the proof that this process alone works in it.
//!
//! The operating system drops the lock when the process ends, however it ends; the empty file stays.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::error::StoreError;

const LOCK_FILE: &str = "lock";
/// Cases name streets and people: nobody but the gateway's own user reads the folder.
const FOLDER_MODE: u32 = 0o700;

/// Held as long as the store writes.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder when it is not there, and locks it.
    pub(crate) fn take(folder: &Path) -> Result<FolderLock, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)
            .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join(LOCK_FILE);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|source| StoreError::Lock { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(StoreError::Lock { path, source }),
        }
    }
}
