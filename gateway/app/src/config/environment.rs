//! Where configuration comes from: variables and files, of the process or of memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What reading a configuration may ask of the world.
pub trait Environment {
    /// The value of an environment variable, when it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The files of a folder, sorted, without its subfolders.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The variables of the process and the files of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Variables and files that were put together in memory: for the demo, which writes no configuration to disk, and for
/// tests.
#[derive(Clone, Default)]
pub struct MemoryEnvironment {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// Names only: a value or a file may be a secret.
impl std::fmt::Debug for MemoryEnvironment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MemoryEnvironment")
            .field("variables", &self.variables.keys())
            .field("files", &self.files.keys())
            .finish()
    }
}

impl MemoryEnvironment {
    /// The same with one more variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> MemoryEnvironment {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with one more file.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> MemoryEnvironment {
        self.files.insert(path.into(), bytes.into());
        self
    }
}

impl Environment for MemoryEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let files: Vec<PathBuf> = self.files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect();
        if files.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(files) }
    }
}
