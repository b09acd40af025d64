//! How often a cell came in a context: tables of counters that halve when they are full, so that the distant past
//! counts less.

use serde::{Deserialize, Serialize};

use crate::grid::CELLS;

/// Cells of a context, and their sum.
const ROW: usize = CELLS + 1;

/// The counters of a context are halved when it has seen this many points (u16 holds 65,535).
const TOTAL_MAX: u16 = 60_000;

/// Counters for every cell in every context. Where there is no room for all of them a counter is found by a hash, and
/// some share one: that makes something look more usual than it is, never less.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    slots: Box<[u16]>,
    is_hashed: bool,
}

/// How often the cell came, and the context at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) seen: u16,
    pub(crate) of: u16,
}

/// Room for counters: how many contexts there are, and at most so many counters, a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) contexts: usize,
    pub(crate) slots_max: usize,
}

impl Room {
    fn is_hashed(self) -> bool {
        self.contexts * ROW > self.slots_max
    }

    fn slots(self) -> usize {
        (self.contexts * ROW).min(self.slots_max)
    }
}

impl Count {
    /// The share that the cell has in this context, where a shorter context expects `before`.
    pub(crate) fn blend(self, before: f32, prior: f32) -> f32 {
        (f32::from(self.seen) + prior * before) / (f32::from(self.of) + prior)
    }
}

impl Counters {
    pub(crate) fn new(room: Room) -> Counters {
        debug_assert!(room.slots_max.is_power_of_two());
        Counters { slots: vec![0; room.slots()].into(), is_hashed: room.is_hashed() }
    }

    /// Whether the table is one of this room: what was stored comes from outside.
    pub(crate) fn fits(&self, room: Room) -> bool {
        self.slots.len() == room.slots() && self.is_hashed == room.is_hashed()
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Fibonacci hashing: the multiplier is 2^64 divided by the golden ratio.
    fn slot(&self, context: usize, cell: usize) -> usize {
        let key = context * ROW + cell;
        match self.is_hashed {
            false => key,
            true => ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.slots.len() - 1),
        }
    }

    pub(crate) fn get(&self, context: usize, cell: usize) -> Count {
        let of = self.slots[self.slot(context, CELLS)];
        Count { seen: self.slots[self.slot(context, cell)].min(of), of }
    }

    pub(crate) fn add(&mut self, context: usize, cell: usize) {
        if self.slots[self.slot(context, CELLS)] >= TOTAL_MAX {
            for part in 0..ROW {
                let slot = self.slot(context, part);
                self.slots[slot] /= 2;
            }
        }
        for part in [cell, CELLS] {
            let slot = self.slot(context, part);
            self.slots[slot] = self.slots[slot].saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_context_is_halved_and_goes_on() {
        for slots_max in [64, 4096] {
            let mut counters = Counters::new(Room { contexts: 20, slots_max });
            for point in 0..200_000 {
                counters.add(point % 2, point % CELLS);
            }
            let count = counters.get(1, 3);
            assert!(count.seen <= count.of && count.of >= TOTAL_MAX / 2, "{count:?}");
        }
    }

    #[test]
    fn contexts_with_room_are_apart() {
        let mut counters = Counters::new(Room { contexts: 2, slots_max: 64 });
        counters.add(1, 4);
        assert_eq!(counters.get(0, 4), Count::default());
        assert_eq!(counters.get(1, 4), Count { seen: 1, of: 1 });
        assert_eq!(counters.bytes(), 2 * 2 * ROW);
    }

    #[test]
    fn what_was_never_seen_is_expected_as_in_the_shorter_context() {
        assert!((Count::default().blend(0.2, 1.5) - 0.2).abs() < 1e-6);
        assert!(Count { seen: 10, of: 10 }.blend(0.2, 1.5) > 0.89);
    }
}
