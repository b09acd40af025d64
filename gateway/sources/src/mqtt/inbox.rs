//! The bytes of a connection that were read and not yet taken: one buffer that stays, so that a read neither allocates
//! nor clears memory. Nothing here survives the connection.

/// What a read has room for: more than comes while messages gather.
const READ_BYTES: usize = 160 * 1024;
/// A read is not begun with less room than this, the size of a TLS record.
const SPARE_BYTES_MIN: usize = 16 * 1024;
/// A buffer that grew above this for one long packet is given back when it is empty.
const KEPT_BYTES_MAX: usize = 2 * READ_BYTES;

/// A buffer that is filled at its end and emptied at its beginning.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    /// Without any room, until there is a read.
    fn default() -> Inbox {
        Inbox { bytes: Vec::new(), start: 0, end: 0 }
    }
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { bytes: vec![0; READ_BYTES], start: 0, end: 0 }
    }

    /// What was read and not yet taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room for a read.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.end < SPARE_BYTES_MIN {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() - self.end < SPARE_BYTES_MIN {
                self.bytes.resize(self.bytes.len() + READ_BYTES, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes of [`Inbox::spare`] were read.
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// All but the last so many bytes were taken.
    pub(super) fn keep(&mut self, rest: usize) {
        self.start = self.end - rest;
        if rest > 0 {
            return;
        }
        (self.start, self.end) = (0, 0);
        if self.bytes.len() > KEPT_BYTES_MAX {
            *self = Inbox::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(steps in prop::collection::vec((0_usize..90_000, 0_usize..90_000), 1..40)) {
            let mut inbox = Inbox::new();
            let (mut written, mut taken) = (0_usize, 0_usize);
            for (fill, take) in steps {
                let spare = inbox.spare();
                prop_assert!(spare.len() >= SPARE_BYTES_MIN);
                let count = fill.min(spare.len());
                for (place, byte) in spare[..count].iter_mut().enumerate() {
                    *byte = ((written + place) % 251) as u8;
                }
                inbox.filled(count);
                written += count;
                let unread = inbox.unread();
                prop_assert_eq!(unread.len(), written - taken);
                prop_assert!(unread.iter().enumerate().all(|(place, byte)| *byte == ((taken + place) % 251) as u8));
                let take = take.min(unread.len());
                taken += take;
                inbox.keep(written - taken);
                prop_assert!(inbox.bytes.len() <= KEPT_BYTES_MAX || written > taken, "an empty buffer is not large");
            }
        }
    }
}
