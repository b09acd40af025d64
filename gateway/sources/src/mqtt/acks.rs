//! Which messages of one connection still wait for their acknowledgement, in the order in which they came.
//!
//! Lives and dies with its connection, so that a packet id can never be told to another one. After a crash or a
//! reconnect the broker sends again whatever was not acknowledged.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use super::codec::{Delivery, acknowledgement};

/// Acknowledgements that wait for commits.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Ready packets of four bytes, oldest first.
    packets: VecDeque<u32>,
    /// How many of them each submission released, by its mark, oldest first.
    submissions: VecDeque<(u64, usize)>,
    /// How many came since the last submission.
    open: usize,
}

impl Acks {
    /// A message came; it belongs to the next submission.
    pub(super) fn push(&mut self, delivery: Delivery) {
        let Some(packet) = acknowledgement(delivery) else { return };
        self.packets.push_back(packet);
        self.open += 1;
    }

    /// How many messages have no acknowledgement yet.
    pub(super) fn waiting(&self) -> usize {
        self.packets.len()
    }

    /// What came since the last submission is released by `mark`. A mark may be given twice.
    pub(super) fn close(&mut self, mark: u64) {
        if self.open > 0 {
            self.submissions.push_back((mark, self.open));
            self.open = 0;
        }
    }

    /// Everything up to `mark` is durable: appends its acknowledgements and says how many.
    pub(super) fn release(&mut self, mark: u64, out: &mut BytesMut) -> usize {
        let mut count = 0;
        while let Some((submission, packets)) = self.submissions.front().copied() {
            if submission > mark {
                break;
            }
            self.submissions.pop_front();
            count += packets;
        }
        out.reserve(count * 4);
        for packet in self.packets.drain(..count) {
            out.put_u32(packet);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_leave_in_order_and_never_before_their_mark() {
        let mut acks = Acks::default();
        let mut out = BytesMut::new();
        acks.push(Delivery::Acknowledged(7));
        acks.push(Delivery::Unacknowledged);
        acks.push(Delivery::Handshake(8));
        assert_eq!(acks.release(u64::MAX, &mut out), 0, "nothing was submitted yet");
        acks.close(1);
        acks.push(Delivery::Acknowledged(9));
        acks.close(2);
        acks.push(Delivery::Acknowledged(10));
        assert_eq!(acks.release(0, &mut out), 0);
        assert_eq!(acks.release(2, &mut out), 3);
        assert_eq!(&out[..], [0x40, 2, 0, 7, 0x50, 2, 0, 8, 0x40, 2, 0, 9]);
        acks.close(2);
        assert_eq!(acks.release(2, &mut out), 1);
    }
}
