//! How far a device's clock is off: turns arrival minus device time of live frames into an offset and a verdict.
//!
//! Every frame is late by its way through the network, and some by much more. The least offset of a window is the
//! nearest to the clock's own. The state is part of the device's and of the snapshot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many frames running must agree before a clock counts as wrong, or as right again.
const FRAMES_RUNNING: u8 = 3;
/// The least offset is taken over this many frames at least, and over twice as many at most.
const WINDOW_FRAMES: u8 = 16;
/// Offsets are kept in this unit, in ms, so that four bytes reach over six years.
const UNIT_MS: i64 = 100;
/// No offset yet.
const NONE: i32 = i32::MAX;

/// What is known of a device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drift {
    /// The least offset of this window.
    least: i32,
    /// The least offset of the window before.
    least_before: i32,
    /// Frames in this window.
    frames: u8,
    /// Frames running that say otherwise than `is_wrong`.
    against: u8,
    is_wrong: bool,
}

/// What a frame changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DriftChange {
    None,
    /// The clock counts as wrong from now on.
    Wrong,
    /// Several frames running found it right: it is so again, or still.
    Right,
}

impl Default for Drift {
    fn default() -> Drift {
        Drift { least: NONE, least_before: NONE, frames: 0, against: 0, is_wrong: false }
    }
}

impl Drift {
    /// Takes the offset of a live frame in ms: arrival minus the device's time, positive when the device is behind.
    pub(crate) fn observe(&mut self, offset_ms: i64, limit: Duration) -> DriftChange {
        let is_beyond = u128::from(offset_ms.unsigned_abs()) > limit.as_millis();
        let offset = (offset_ms / UNIT_MS).clamp(i64::from(i32::MIN), i64::from(NONE - 1));
        let offset = i32::try_from(offset).unwrap_or(NONE - 1);
        if is_beyond != self.is_wrong {
            self.against += 1;
            if self.against < FRAMES_RUNNING {
                // One frame with a garbled time shall not be the least for a whole window.
                return DriftChange::None;
            }
            *self = Drift { least: offset, frames: 1, is_wrong: is_beyond, ..Drift::default() };
            return if is_beyond { DriftChange::Wrong } else { DriftChange::Right };
        }
        self.against = 0;
        if self.frames >= WINDOW_FRAMES {
            (self.least_before, self.least, self.frames) = (self.least, NONE, 0);
        }
        self.least = self.least.min(offset);
        self.frames += 1;
        // Told in each window: after an upgrade only the alarm remembers that it was wrong.
        if !self.is_wrong && self.frames == FRAMES_RUNNING { DriftChange::Right } else { DriftChange::None }
    }

    /// How far the device's clock is behind ours, in ms; negative when it is ahead; `None` when nothing is known.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        let least = self.least.min(self.least_before);
        (least != NONE).then(|| i64::from(least) * UNIT_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    fn after(offsets_seconds: &[i64]) -> (Drift, Vec<DriftChange>) {
        let mut drift = Drift::default();
        let mut changes = Vec::new();
        for offset in offsets_seconds {
            let change = drift.observe(offset * 1_000, LIMIT);
            if change != DriftChange::None {
                changes.push(change);
            }
        }
        (drift, changes)
    }

    #[test]
    fn the_least_offset_is_the_clocks_own() {
        let (drift, changes) = after(&[40, 3, 25, 90, 8]);
        assert_eq!((drift.offset_ms(), drift.is_wrong), (Some(3_000), false));
        assert_eq!(changes, [DriftChange::Right]);
        assert_eq!(Drift::default().offset_ms(), None);
        assert!(size_of::<Drift>() <= 12, "it is kept for each of a million devices");
    }

    #[test]
    fn an_old_least_is_forgotten_after_two_windows() {
        let mut offsets = vec![1];
        offsets.extend([30; 2 * WINDOW_FRAMES as usize]);
        assert_eq!(after(&offsets).0.offset_ms(), Some(30_000));
    }

    #[test]
    fn a_clock_is_wrong_when_several_frames_running_say_so_and_right_likewise() {
        for off in [3_600, -3_600] {
            let (drift, changes) = after(&[2, off, off]);
            assert_eq!((drift.is_wrong, changes.len()), (false, 0));
            let (drift, changes) = after(&[2, off, off, off]);
            assert_eq!((drift.offset_ms(), drift.is_wrong), (Some(off * 1_000), true));
            assert_eq!(changes, [DriftChange::Wrong]);
            let (drift, changes) = after(&[2, off, off, off, 1, 1, 1]);
            assert_eq!((drift.offset_ms(), drift.is_wrong), (Some(1_000), false));
            assert_eq!(changes, [DriftChange::Wrong, DriftChange::Right]);
        }
    }

    #[test]
    fn single_frames_that_are_off_change_nothing() {
        let (drift, changes) = after(&[2, -9_000, 2, 9_000, 9_000, 3, -9_000, 2]);
        assert_eq!((drift.offset_ms(), drift.is_wrong), (Some(2_000), false));
        assert_eq!(changes, [DriftChange::Right]);
    }

    #[test]
    fn a_clock_of_1970_is_wrong_and_does_not_overflow() {
        let since_1970 = 1_800_000_000;
        let (drift, _) = after(&[since_1970; 4]);
        assert!(drift.is_wrong);
        assert!(drift.offset_ms().is_some_and(|offset| offset > 86_400_000 * 365));
        assert!(after(&[-since_1970 * 100; 4]).0.is_wrong);
    }
}
