//! Keeps account of which batches the database has, so that the durable cursor only moves over a gapless prefix.

use std::collections::BTreeMap;

/// Numbers as ranges without overlap: first -> last, both included.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// The last number of the range that holds this one.
    fn end_of(&self, number: u64) -> Option<u64> {
        let (_, last) = self.0.range(..=number).next_back()?;
        (*last >= number).then_some(*last)
    }

    fn insert(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        // Every range that overlaps or touches becomes part of this one.
        while let Some((other_first, other_last)) = self.0.range(..=last.saturating_add(1)).next_back() {
            let (other_first, other_last) = (*other_first, *other_last);
            if other_last.saturating_add(1) < first {
                break;
            }
            self.0.remove(&other_first);
            first = first.min(other_first);
            last = last.max(other_last);
        }
        self.0.insert(first, last);
    }
}

/// What was taken up and what arrived, by number of batch.
#[derive(Debug)]
pub(super) struct Progress {
    cursor: u64,
    taken: Ranges,
    done: Ranges,
}

impl Progress {
    /// Everything up to and with the cursor has arrived.
    pub(super) fn new(cursor: u64) -> Progress {
        let mut progress = Progress { cursor, taken: Ranges::default(), done: Ranges::default() };
        progress.taken.insert(0, cursor);
        progress.done.insert(0, cursor);
        progress
    }

    /// Everything up to and with this number has arrived.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Everything up to and with this number was taken up; the next one was not.
    pub(super) fn taken_through(&self) -> u64 {
        self.taken.end_of(0).unwrap_or(self.cursor)
    }

    /// How many ranges are remembered.
    pub(super) fn ranges(&self) -> usize {
        self.taken.0.len()
    }

    /// Whether taking this number makes one more range.
    pub(super) fn would_split(&self, sequence: u64) -> bool {
        self.taken.end_of(sequence.saturating_sub(1)).is_none()
    }

    /// Takes a batch up; false when it was taken before.
    pub(super) fn take(&mut self, sequence: u64) -> bool {
        if self.taken.end_of(sequence).is_some() {
            return false;
        }
        self.taken.insert(sequence, sequence);
        true
    }

    /// The batch has arrived.
    pub(super) fn finish(&mut self, sequence: u64) {
        self.done.insert(sequence, sequence);
        self.cursor = self.done.end_of(0).unwrap_or(self.cursor);
    }

    /// What was not taken up to and with this number does not exist (any more): nothing is left to do for it.
    pub(super) fn skip_through(&mut self, last: u64) {
        let mut next = self.taken_through().saturating_add(1);
        while next <= last {
            if let Some(end) = self.taken.end_of(next) {
                next = end.saturating_add(1);
                continue;
            }
            let following = self.taken.0.range(next..).next().map_or(last, |(first, _)| (first - 1).min(last));
            self.taken.insert(next, following);
            self.done.insert(next, following);
            next = following.saturating_add(1);
        }
        self.cursor = self.done.end_of(0).unwrap_or(self.cursor);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cursor_moves_only_over_a_gapless_prefix() {
        let mut progress = Progress::new(10);
        for sequence in [13, 12] {
            assert!(progress.take(sequence));
            progress.finish(sequence);
        }
        assert_eq!((progress.cursor(), progress.taken_through()), (10, 10));
        assert!(progress.take(11));
        assert_eq!((progress.cursor(), progress.taken_through()), (10, 13));
        progress.finish(11);
        assert_eq!(progress.cursor(), 13);
        assert!(!progress.take(12), "what arrived is not taken again");
    }

    #[test]
    fn numbers_that_a_quota_dropped_are_passed_over() {
        let mut progress = Progress::new(0);
        progress.take(5);
        progress.skip_through(7);
        assert_eq!((progress.cursor(), progress.taken_through()), (4, 7));
        progress.finish(5);
        assert_eq!(progress.cursor(), 7);
    }

    proptest! {
        #[test]
        fn ranges_say_the_same_as_a_set(steps in prop::collection::vec((0_u8..3, 1_u64..40), 0..60)) {
            let mut progress = Progress::new(0);
            let mut taken = BTreeSet::new();
            let mut done = BTreeSet::new();
            for (step, number) in steps {
                match step {
                    0 => prop_assert_eq!(progress.take(number), taken.insert(number)),
                    1 => if taken.contains(&number) {
                        progress.finish(number);
                        done.insert(number);
                    },
                    _ => {
                        progress.skip_through(number);
                        for skipped in 1..=number {
                            if taken.insert(skipped) {
                                done.insert(skipped);
                            }
                        }
                    }
                }
                let prefix = |set: &BTreeSet<u64>| (1..).take_while(|number| set.contains(number)).last().unwrap_or(0);
                prop_assert_eq!(progress.cursor(), prefix(&done));
                prop_assert_eq!(progress.taken_through(), prefix(&taken));
            }
        }
    }
}
