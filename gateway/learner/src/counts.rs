//! How often a cell came in a context: tables of counters that halve when they are full, so that the distant past
//! counts less.

use crate::grid::CELLS;

/// Cells of a context, and their sum.
const ROW: usize = CELLS + 1;

/// The counters of a context are halved when it has seen this many points (u16 holds 65,535).
const TOTAL_MAX: u16 = 60_000;

/// How often the cell came, and the context at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) seen: u16,
    pub(crate) of: u16,
}

/// Room for counters of every cell in every context: how many contexts there are, and at most so many counters, a power
/// of two. Where there is no room for all of them a counter is found by a hash, and some share one: that makes something
/// look more usual than it is, never less. The counters lie in a slice of the caller, as long as [`Room::slots`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) contexts: usize,
    pub(crate) slots_max: usize,
}

impl Room {
    const fn is_hashed(self) -> bool {
        self.contexts * ROW > self.slots_max
    }

    /// How many counters it takes.
    pub(crate) const fn slots(self) -> usize {
        if self.is_hashed() { self.slots_max } else { self.contexts * ROW }
    }

    /// Fibonacci hashing: the multiplier is 2^64 divided by the golden ratio.
    fn slot(self, context: usize, cell: usize) -> usize {
        let key = context * ROW + cell;
        match self.is_hashed() {
            false => key,
            true => ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.slots_max - 1),
        }
    }

    pub(crate) fn get(self, slots: &[u16], context: usize, cell: usize) -> Count {
        let of = slots[self.slot(context, CELLS)];
        Count { seen: slots[self.slot(context, cell)].min(of), of }
    }

    pub(crate) fn add(self, slots: &mut [u16], context: usize, cell: usize) {
        if slots[self.slot(context, CELLS)] >= TOTAL_MAX {
            for part in 0..ROW {
                slots[self.slot(context, part)] /= 2;
            }
        }
        for part in [cell, CELLS] {
            let slot = self.slot(context, part);
            slots[slot] = slots[slot].saturating_add(1);
        }
    }
}

impl Count {
    /// The share that the cell has in this context, where a shorter context expects `before`.
    pub(crate) fn blend(self, before: f32, prior: f32) -> f32 {
        (f32::from(self.seen) + prior * before) / (f32::from(self.of) + prior)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_context_is_halved_and_goes_on() {
        for slots_max in [64, 4096] {
            let room = Room { contexts: 20, slots_max };
            let mut slots = vec![0; room.slots()];
            for point in 0..200_000 {
                room.add(&mut slots, point % 2, point % CELLS);
            }
            let count = room.get(&slots, 1, 3);
            assert!(count.seen <= count.of && count.of >= TOTAL_MAX / 2, "{count:?}");
        }
    }

    #[test]
    fn contexts_with_room_are_apart() {
        let room = Room { contexts: 2, slots_max: 64 };
        let mut slots = vec![0; room.slots()];
        room.add(&mut slots, 1, 4);
        assert_eq!(room.get(&slots, 0, 4), Count::default());
        assert_eq!(room.get(&slots, 1, 4), Count { seen: 1, of: 1 });
        assert_eq!(slots.len(), 2 * ROW);
    }

    #[test]
    fn what_was_never_seen_is_expected_as_in_the_shorter_context() {
        assert!((Count::default().blend(0.2, 1.5) - 0.2).abs() < 1e-6);
        assert!(Count { seen: 10, of: 10 }.blend(0.2, 1.5) > 0.89);
    }
}
