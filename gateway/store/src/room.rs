//! Room on the disk: turns the free space of the file system into what telemetry may take.
//!
//! A reserve is kept for alarms, cases and audit. When it is touched, the quotas shrink by what is missing: batches
//! first, undecoded frames next. What they free stays in the database file, where nothing else can take it.
//!
//! Metrics: `kerbside_store_disk_free_bytes`, `kerbside_store_disk_low`.

use std::io;
use std::path::{Path, PathBuf};

use kerbside_model::Timestamp;
use kerbside_runtime::Chain;
use rustix::fs::statvfs;
use tracing::warn;

use crate::conditions::DiskLow;
use crate::metrics::{StoreMetrics, level};

/// The reserve is at most this part of the file system, so that a small partition is not always short of room.
const RESERVE_SHARE: u64 = 10;
/// The reserve counts as whole again above so many percent of it.
const WHOLE_PERCENT: u64 = 125;

/// What a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes that this user may still take.
    pub(crate) free: u64,
    /// All bytes.
    pub(crate) total: u64,
}

/// Watches the file system of a folder.
#[derive(Debug)]
pub(crate) struct Room {
    folder: PathBuf,
    free_bytes_min: u64,
    low: Option<DiskLow>,
    is_blind: bool,
    metrics: StoreMetrics,
}

/// How many bytes can still be written before the reserve is touched; negative when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare(pub(crate) i128);

impl Spare {
    /// Nobody watches, or nobody can tell.
    const BOUNDLESS: Spare = Spare(i128::MAX);

    /// What a class may take that takes `bytes` now and may take `max` at most. `before` goes before it.
    pub(crate) fn allows(self, bytes: u64, before: u64, max: u64) -> u64 {
        let allowed = self.0.saturating_add(i128::from(bytes) + i128::from(before));
        u64::try_from(allowed.max(0)).unwrap_or(u64::MAX).min(max)
    }
}

impl Room {
    pub(crate) fn new(folder: &Path, free_bytes_min: u64, metrics: StoreMetrics) -> Room {
        Room { folder: folder.to_owned(), free_bytes_min, low: None, is_blind: false, metrics }
    }

    /// Asks the file system. `inside` are free bytes inside the database file; `pretended` replaces the answer in tests.
    pub(crate) fn look(&mut self, inside: u64, pretended: Option<Space>, now: Timestamp) -> Spare {
        if self.free_bytes_min == 0 {
            return Spare::BOUNDLESS;
        }
        let space = match pretended.map_or_else(|| space_of(&self.folder), Ok) {
            Ok(space) => space,
            Err(cause) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    warn!(cause = %Chain(&cause), "the free space of the disk cannot be told and is not watched");
                }
                return Spare::BOUNDLESS;
            }
        };
        let reserve = self.free_bytes_min.min(space.total / RESERVE_SHARE);
        self.low = next_state(self.low, space.free, reserve, now);
        self.metrics.disk_free.set(level(space.free));
        self.metrics.disk_low.set(i64::from(self.low.is_some()));
        Spare(i128::from(space.free) + i128::from(inside) - i128::from(reserve))
    }

    /// Stands while the reserve is touched.
    pub(crate) fn low(&self) -> Option<DiskLow> {
        self.low
    }
}

fn next_state(low: Option<DiskLow>, free: u64, reserve: u64, now: Timestamp) -> Option<DiskLow> {
    let whole = u128::from(reserve) * u128::from(WHOLE_PERCENT) / 100;
    let state = |since| Some(DiskLow { since, free_bytes: free, free_bytes_min: reserve });
    match low {
        None if free < reserve => state(now),
        Some(low) if u128::from(free) < whole => state(low.since),
        _ => None,
    }
}

fn space_of(folder: &Path) -> io::Result<Space> {
    let answer = statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
    Ok(Space { free: bytes(answer.f_bavail), total: bytes(answer.f_blocks) })
}

#[cfg(test)]
mod tests {
    use kerbside_runtime::Metrics;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_reserve_must_be_whole_again_before_the_condition_ends() {
        let mut low = None;
        let mut seen = Vec::new();
        for (at, free) in [(1, 100), (2, 99), (3, 50), (4, 124), (5, 125), (6, 110)] {
            low = next_state(low, free, 100, Timestamp(at));
            seen.push(low.map(|low| (low.since.0, low.free_bytes)));
        }
        assert_eq!(seen, [None, Some((2, 99)), Some((2, 50)), Some((2, 124)), None, None]);
    }

    #[test]
    fn what_is_missing_is_taken_from_telemetry_first_and_from_undecoded_frames_next() {
        // Batches take 700 of which 600 may go, undecoded frames 50.
        let allowed = |spare: i128| (Spare(spare).allows(700, 0, 1_000), Spare(spare).allows(50, 600, 64));
        assert_eq!(allowed(i128::MAX), (1_000, 64));
        assert_eq!(allowed(100), (800, 64));
        assert_eq!(allowed(0), (700, 64));
        assert_eq!(allowed(-600), (100, 50));
        assert_eq!(allowed(-620), (80, 30));
        assert_eq!(allowed(-5_000), (0, 0));
    }

    #[test]
    fn a_real_folder_has_a_size_and_a_small_partition_a_small_reserve() {
        let folder = TempDir::new().unwrap();
        let space = space_of(folder.path()).unwrap();
        assert!(space.total >= space.free && space.total > 0, "{space:?}");
        let mut room = Room::new(folder.path(), 256, StoreMetrics::new(&Metrics::default()));
        let mut look = |free| room.look(5, Some(Space { free, total: 1_000 }), Timestamp(1));
        assert_eq!(look(500), Spare(405), "the reserve is a tenth of the file system");
        assert_eq!(look(20), Spare(-75));
        assert_eq!(room.low(), Some(DiskLow { since: Timestamp(1), free_bytes: 20, free_bytes_min: 100 }));
        let mut unwatched = Room::new(folder.path(), 0, StoreMetrics::new(&Metrics::default()));
        assert_eq!(unwatched.look(0, Some(Space { free: 0, total: 1 }), Timestamp(1)), Spare::BOUNDLESS);
    }
}
