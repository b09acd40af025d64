//! Counts the uplinks of a LoRaWAN device that never came, by the gaps in its frame counter.
//!
//! A counter that falls is a device that joined anew and says nothing of a loss; one of 16 bits goes round. Six to ten
//! bytes a device, kept in the snapshot; the metric is `kerbside_uplinks_lost_total`.

use serde::{Deserialize, Serialize};

/// A greater jump is no loss: a network server refuses a device whose counter jumps further (MAX_FCNT_GAP, LoRaWAN
/// Regional Parameters 1.0.2).
const GAP_MAX: u32 = 16_384;
/// A counter of 16 bits that went round lost at most so many on the way; when it lies further ahead it began anew.
const GAP_AROUND_MAX: u32 = 256;

/// The last uplink of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uplinks {
    /// The session and the counter in it.
    last: Option<(u16, u32)>,
}

impl Uplinks {
    /// Takes the number of a live uplink; how many before it never came.
    pub(crate) fn take(&mut self, session: u16, counter: u32) -> u64 {
        let Some((session_before, before)) = self.last.replace((session, counter)) else { return 0 };
        if session != session_before {
            return 0;
        }
        let step = match counter.checked_sub(before) {
            Some(step) if step <= GAP_MAX => step,
            Some(_) => return 0,
            None => match (u16::try_from(before), u16::try_from(counter)) {
                (Ok(before), Ok(counter)) => u32::from(counter.wrapping_sub(before)),
                _ => return 0,
            },
        };
        let is_around = counter < before;
        if is_around && step > GAP_AROUND_MAX { 0 } else { u64::from(step.saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(counters: &[(u16, u32)], lost: u64) {
        let mut uplinks = Uplinks::default();
        let sum: u64 = counters.iter().map(|(session, counter)| uplinks.take(*session, *counter)).sum();
        assert_eq!(sum, lost, "{counters:?}");
    }

    #[test]
    fn gaps_are_lost_uplinks() {
        check(&[(1, 7)], 0);
        check(&[(1, 7), (1, 8), (1, 9)], 0);
        check(&[(1, 7), (1, 10), (1, 12)], 3);
        check(&[(1, 7), (1, 7), (1, 8)], 0);
    }

    #[test]
    fn a_counter_of_sixteen_bits_goes_round() {
        check(&[(1, 65_535), (1, 0), (1, 1)], 0);
        check(&[(1, 65_534), (1, 2)], 3);
        check(&[(1, 65_535), (1, 65_536)], 0);
    }

    #[test]
    fn a_counter_that_falls_or_jumps_lost_nothing() {
        check(&[(1, 500), (2, 900)], 0);
        check(&[(0, 500), (0, 0), (0, 1)], 0);
        check(&[(0, 60_000), (0, 0)], 0);
        check(&[(1, 1), (1, 20_000)], 0);
        check(&[(1, 70_000), (1, 3)], 0);
    }

    #[test]
    fn it_is_small_in_memory_and_in_the_snapshot() {
        assert!(size_of::<Uplinks>() <= 12);
        let mut uplinks = Uplinks::default();
        uplinks.take(u16::MAX, u32::MAX);
        assert!(postcard::to_stdvec(&uplinks).unwrap().len() <= 9);
    }
}
