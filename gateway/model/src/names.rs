//! Short names to numbers: the lookup of a device's address or id, which every message needs.
//!
//! A name of up to 23 bytes lies in its slot, so that a lookup touches one cache line and compares three words. Longer
//! ones, which are rare, lie in an ordinary map.

use rustc_hash::FxHashMap;

/// A slot has room for three words: the name, zeros behind it, and its length in the last byte.
const SHORT_BYTES_MAX: usize = 23;
/// Slots are at most three quarters full.
const SLOTS_PER_NAMES: (usize, usize) = (4, 3);
/// Odd, with bits everywhere: the fractional part of the golden ratio.
const MIXER: u64 = 0x9E37_79B9_7F4A_7C15;

type Key = [u64; 3];
/// The key of no name: every name has a length byte of its own that is not 0.
const EMPTY: Key = [0; 3];

/// Names with their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// A power of two of them, or none.
    slots: Vec<(Key, u32)>,
    long: FxHashMap<Box<[u8]>, u32>,
}

impl Names {
    /// Room for so many names.
    pub(crate) fn with_capacity(names: usize) -> Names {
        let slots = (names * SLOTS_PER_NAMES.0 / SLOTS_PER_NAMES.1 + 1).next_power_of_two();
        Names { slots: vec![(EMPTY, 0); slots], long: FxHashMap::default() }
    }

    /// Adds a name, which must find room; a later number of the same name replaces the earlier one.
    pub(crate) fn insert(&mut self, name: &[u8], number: u32) {
        let Some(key) = key_of(name) else {
            self.long.insert(Box::from(name), number);
            return;
        };
        let place = self.place_of(key).expect("the table was made for as many names");
        self.slots[place] = (key, number);
    }

    /// The number of a name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<u32> {
        let Some(key) = key_of(name) else { return self.long.get(name).copied() };
        let (known, number) = self.slots[self.place_of(key)?];
        (known == key).then_some(number)
    }

    /// Where a key is, or where it would be; `None` when there is neither.
    fn place_of(&self, key: Key) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let start = hash(key) as usize & mask;
        (0..=mask).map(|step| (start + step) & mask).find(|place| {
            let known = self.slots[*place].0;
            known == key || known == EMPTY
        })
    }
}

fn key_of(name: &[u8]) -> Option<Key> {
    let mut bytes = [0; SHORT_BYTES_MAX + 1];
    bytes.get_mut(..SHORT_BYTES_MAX)?.get_mut(..name.len())?.copy_from_slice(name);
    bytes[SHORT_BYTES_MAX] = name.len() as u8 + 1;
    let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    Some(std::array::from_fn(|_| words.next().unwrap_or_default()))
}

fn hash(key: Key) -> u64 {
    let mixed = key.iter().fold(0_u64, |mixed, word| (mixed.rotate_left(23) ^ word).wrapping_mul(MIXER));
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_differ_only_in_zeros_or_length_are_told_apart() {
        let mut names = Names::with_capacity(4);
        for (number, name) in [&b""[..], b"\0", b"a", b"a\0"].into_iter().enumerate() {
            names.insert(name, number as u32);
        }
        assert_eq!([&b""[..], b"\0", b"a", b"a\0"].map(|name| names.get(name)), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(names.get(b"\0\0"), None);
        assert_eq!(Names::default().get(b"a"), None);
    }

    proptest! {
        #[test]
        fn it_says_the_same_as_a_map(
            known in prop::collection::btree_map(prop::collection::vec(0_u8..3, 0..40), any::<u32>(), 0..80),
            asked in prop::collection::vec(prop::collection::vec(0_u8..3, 0..40), 0..40),
        ) {
            let known: BTreeMap<Vec<u8>, u32> = known;
            let mut names = Names::with_capacity(known.len());
            known.iter().for_each(|(name, number)| names.insert(name, *number));
            for name in known.keys().chain(&asked) {
                prop_assert_eq!(names.get(name), known.get(name).copied());
            }
        }
    }
}
