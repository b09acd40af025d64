//! Keeps account of which batches the database has, so that the durable cursor only moves over a gapless prefix.

use std::collections::BTreeMap;

/// Ranges between holes that are remembered at once; beyond it what has arrived is forgotten and sent again.
const RANGES_MAX: usize = 4_096;

/// Numbers as ranges without overlap: first -> last, both included.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// The last number of the range that holds this one.
    fn end_of(&self, number: u64) -> Option<u64> {
        let (_, last) = self.0.range(..=number).next_back()?;
        (*last >= number).then_some(*last)
    }

    fn remove(&mut self, number: u64) {
        let Some((first, last)) = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last)) else {
            return;
        };
        if last < number {
            return;
        }
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
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

    /// How many numbers up to and with this one were not taken up yet.
    pub(super) fn missing_through(&self, last: u64) -> u64 {
        let mut missing = last.saturating_add(1);
        for (first, end) in self.taken.0.range(..=last) {
            missing -= end.min(&last) - first + 1;
        }
        missing
    }

    /// Takes a batch up; false when it was taken before, or when remembering it would take one range too many.
    pub(super) fn take(&mut self, sequence: u64) -> bool {
        if self.taken.end_of(sequence).is_some() {
            return false;
        }
        let would_split = self.taken.end_of(sequence.saturating_sub(1)).is_none();
        if would_split && self.taken.0.len() >= RANGES_MAX && !self.forget_island() {
            return false;
        }
        self.taken.insert(sequence, sequence);
        true
    }

    /// A batch that was taken up is left to the backlog after all. It has not arrived.
    pub(super) fn give_back(&mut self, sequence: u64) {
        self.taken.remove(sequence);
    }

    /// Forgets the first range behind a hole of which everything has arrived: it will be read back and sent again,
    /// which makes the same points. Live lines never wait because too much is remembered.
    fn forget_island(&mut self) -> bool {
        let is_done = |first: u64, last: u64| self.done.end_of(first).is_some_and(|end| end >= last);
        let mut islands = self.taken.0.iter().skip(1);
        let Some((first, last)) = islands.find(|(first, last)| is_done(**first, **last)) else { return false };
        let (first, last) = (*first, *last);
        self.taken.0.remove(&first);
        // Of a finished range everything was taken, and both touch nothing else: they are the same range.
        debug_assert_eq!(self.done.0.get(&first), Some(&last));
        self.done.0.remove(&first);
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

    #[test]
    fn when_too_many_holes_are_remembered_what_arrived_is_forgotten_and_taken_again() {
        let mut progress = Progress::new(0);
        // Every second batch goes live, and all of them but the second one arrive.
        let live = |number: u64| 2 * number + 2;
        let count = RANGES_MAX as u64 + 100;
        for number in 0..count {
            assert!(progress.take(live(number)), "live batch {number} waits");
            if number != 1 {
                progress.finish(live(number));
            }
        }
        assert!(progress.taken.0.len() <= RANGES_MAX);
        assert!(progress.take(live(0)), "the oldest that arrived was forgotten");
        assert!(!progress.take(live(1)), "what is under way is never forgotten");
        assert_eq!(progress.cursor(), 0);
        let newest = live(count - 1);
        assert_eq!(progress.missing_through(newest), newest - (RANGES_MAX as u64 - 1));
    }

    proptest! {
        #[test]
        fn ranges_say_the_same_as_a_set(steps in prop::collection::vec((0_u8..4, 1_u64..40), 0..60)) {
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
                    2 => if taken.contains(&number) && !done.contains(&number) {
                        progress.give_back(number);
                        taken.remove(&number);
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
                let missing = (1..=25).filter(|number| !taken.contains(number)).count();
                prop_assert_eq!(progress.missing_through(25), missing as u64);
            }
        }
    }
}
