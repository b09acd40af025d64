//! Which files a configuration was read from, and whether they are still the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kerbside_model::id::content_hash;

use super::environment::{Environment, ProcessEnvironment};

/// The files and folders that one reading of the configuration looked at, by content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    files: BTreeMap<PathBuf, Mark>,
    folders: BTreeMap<PathBuf, Vec<PathBuf>>,
}

/// Names only: some of the files are secrets, and a hash of a short one gives it away.
impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.files.keys().chain(self.folders.keys())).finish()
    }
}

/// How a file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    /// While these stay, the content is taken to be the same and is not read again.
    stat: Option<Stat>,
    /// `None` when it could not be read.
    hash: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    bytes: u64,
    modified: SystemTime,
}

impl Stat {
    fn of(path: &Path) -> Option<Stat> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stat { bytes: metadata.len(), modified: metadata.modified().ok()? })
    }
}

impl Fingerprint {
    /// Looks again at every file and folder. Says whether a content is another one than at the last look.
    pub fn look(&mut self) -> bool {
        let mut has_changed = false;
        for (path, mark) in &mut self.files {
            let stat = Stat::of(path);
            if stat.is_some() && stat == mark.stat {
                continue;
            }
            let hash = std::fs::read(path).ok().map(|bytes| content_hash(&bytes));
            has_changed |= hash != mark.hash;
            *mark = Mark { stat, hash };
        }
        for (folder, files) in &mut self.folders {
            let found = ProcessEnvironment.list(folder).unwrap_or_default();
            if found != *files {
                has_changed = true;
                *files = found;
            }
        }
        has_changed
    }
}

/// An environment that notes what is asked of another one.
pub(super) struct Recorder<'a> {
    inner: &'a dyn Environment,
    seen: RefCell<Fingerprint>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(inner: &'a dyn Environment) -> Recorder<'a> {
        Recorder { inner, seen: RefCell::default() }
    }

    /// What was asked.
    pub(super) fn finish(self) -> Fingerprint {
        self.seen.into_inner()
    }
}

impl Environment for Recorder<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.inner.variable(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Before the file is read: one that changes meanwhile has another stat at the next look.
        let stat = Stat::of(path);
        let read = self.inner.read(path);
        let hash = read.as_ref().ok().map(|bytes| content_hash(bytes));
        self.seen.borrow_mut().files.insert(path.to_owned(), Mark { stat, hash });
        read
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let list = self.inner.list(folder);
        let found = list.as_ref().map(Vec::clone).unwrap_or_default();
        self.seen.borrow_mut().folders.insert(folder.to_owned(), found);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_content_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (file, profiles) = (folder.path().join("gateway.yaml"), folder.path().join("profiles"));
        std::fs::write(&file, "one").unwrap();
        std::fs::create_dir(&profiles).unwrap();
        let recorder = Recorder::new(&ProcessEnvironment);
        recorder.read(&file).unwrap();
        recorder.list(&profiles).unwrap();
        recorder.read(&folder.path().join("absent")).unwrap_err();
        let mut seen = recorder.finish();
        assert!(!seen.look());
        let touched = std::fs::File::options().append(true).open(&file).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(!seen.look(), "the same content at another time");
        std::fs::write(&file, "two").unwrap();
        assert!(seen.look());
        assert!(!seen.look(), "told once");
        std::fs::write(profiles.join("new.yaml"), "").unwrap();
        assert!(seen.look());
        std::fs::write(folder.path().join("absent"), "here").unwrap();
        assert!(seen.look());
        std::fs::remove_file(&file).unwrap();
        assert!(seen.look());
    }
}
