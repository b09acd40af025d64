//! Whether files on disk have changed since they were looked at last. Looks at size and time of change, so a file that
//! is replaced is noticed however it is done. Keeps nothing and has no metrics.

use std::path::PathBuf;
use std::time::SystemTime;

/// Files that belong together.
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl Watched {
    pub(super) fn new(paths: Vec<PathBuf>) -> Watched {
        let seen = look(&paths);
        Watched { paths, seen }
    }

    /// Says so once for each change.
    pub(super) fn have_changed(&mut self) -> bool {
        let now = look(&self.paths);
        let have_changed = now != self.seen;
        self.seen = now;
        have_changed
    }
}

fn look(paths: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let of = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths.iter().map(of).collect()
}
