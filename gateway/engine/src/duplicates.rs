//! Tells a frame that comes twice from a device that says the same twice.
//!
//! A message comes twice when the broker did not see our acknowledgement and sends it again, when it reaches us on two
//! ways (two brokers, a bridge with another topic prefix), or when the device itself repeats it. What is remembered of
//! a device is its last few frames, by the hash of their payload: in the snapshot, so that a frame which was
//! committed before a crash is known after it.
//!
//! Where the network counts a device's uplinks, the same uplink is the one with the same counter and the same bytes in
//! the same session, whoever hands it over and however often. A counter that began anew is in another session, or comes
//! with other bytes, or at another time.
//!
//! A frame that is wrongly taken for a repeat may be the alarm itself. So where its time does not prove it, a repeat
//! must also say nothing new: a cover that opens, closes and opens again has opened twice, whatever the broker says.

use std::hash::Hasher;
use std::time::Duration;

use kerbside_model::{DuplicateReason, FrameView, PayloadView, Timestamp};
use serde::{Deserialize, Serialize};

/// A frame this much older than its arrival is history, unless the device's clock is simply wrong.
pub(crate) const LATE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Frames of a device that are remembered: a device that sends each point in a message of its own sends about as many.
const REMEMBERED: usize = 4;

/// The last frames of one device, the newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recent([Entry; REMEMBERED]);

/// One frame that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    payload: u64,
    /// When it came, in ms; the lower half of a timestamp goes round in 49 days.
    at: u32,
    /// On which way; 0 when there is no frame here.
    way: u16,
    /// On which other way it came again; 0 for none.
    other_way: u16,
}

/// What is looked at of a frame that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Hash of its payload.
    pub(crate) payload: u64,
    /// See [`way`].
    pub(crate) way: u16,
    /// When it came.
    pub(crate) at: Timestamp,
    /// Whether the broker says that it sends it again.
    pub(crate) redelivered: bool,
    /// What its own time says.
    pub(crate) told: ToldTime,
    /// Whether it looks like history: the device's clock may stand still.
    pub(crate) is_old: bool,
    /// Whether `payload` is the hash of one uplink, which no other uplink has.
    pub(crate) is_counted: bool,
}

/// What a frame's own time says of its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToldTime {
    /// The frame tells no time that could be believed.
    None,
    /// Older than the newest observation of the device.
    Older,
    /// At least as new as the newest observation of the device.
    Newest,
}

/// A frame that came before, as it seems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// How it came to us twice.
    pub(crate) reason: DuplicateReason,
    /// Whether it is a repeat for certain; else only if it says nothing that is not known of the device already.
    pub(crate) is_certain: bool,
    position: usize,
}

/// The way of a frame, as a number that is not 0: its source, and the topic before the level of the device.
fn way(source: &str, prefix: &[u8]) -> u16 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(source.as_bytes());
    hasher.write(prefix);
    let hash = hasher.finish();
    ((hash >> 48) as u16).max(1)
}

/// The hash by which payloads are compared.
fn payload_hash(payload: &[u8]) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(payload);
    hasher.finish()
}

impl Arrival {
    /// What is to be looked at of a live message; `None` for what cannot come twice. `newest` is the time of the
    /// device's newest observation.
    pub(crate) fn of(
        frame: &FrameView<'_>,
        prefix: &[u8],
        device_time: Option<Timestamp>,
        newest: Timestamp,
    ) -> Option<Arrival> {
        let PayloadView::Bytes(payload) = frame.payload else { return None };
        if frame.flags.retained {
            return None;
        }
        let told = match device_time {
            None => ToldTime::None,
            Some(time) if time < newest => ToldTime::Older,
            Some(_) => ToldTime::Newest,
        };
        let is_old = device_time.is_some_and(|time| frame.received_at.since(time) > LATE_AFTER);
        let (payload, way) = (payload_hash(payload), way(frame.source, prefix));
        let redelivered = frame.flags.redelivered;
        Some(Arrival { payload, way, at: frame.received_at, redelivered, told, is_old, is_counted: false })
    }

    /// Makes it the arrival of an uplink that the network counted. `identity` is the hash of session, counter and
    /// content; `at` is when the network had it, as far as it tells, so that a copy is known by that however late it
    /// comes to us.
    pub(crate) fn counted(self, identity: u64, at: Option<Timestamp>) -> Arrival {
        Arrival { payload: identity, at: at.unwrap_or(self.at), is_counted: true, ..self }
    }
}

impl Recent {
    /// The frame that this one repeats. Without a time of its own a frame must be the same, and sent again by the
    /// broker or come on another way, within the window: a device may rightly send the same twice.
    pub(crate) fn find(&self, arrival: &Arrival, window: Duration) -> Option<Repeat> {
        if arrival.is_counted {
            return self.find_uplink(arrival, window);
        }
        let newest = &self.0[0];
        if arrival.told != ToldTime::None && newest.way != 0 && newest.payload == arrival.payload {
            // The time stands in the payload: it is the same time, too.
            let reason = match (arrival.redelivered, newest.came_on(arrival.way)) {
                (true, _) => DuplicateReason::Redelivered,
                (false, false) => DuplicateReason::OtherPath,
                // With a clock that stands still a device says the same for ever; its pace is judged elsewhere.
                (false, true) if arrival.is_old && !newest.is_within(window, arrival.at) => return None,
                (false, true) => DuplicateReason::Repeated,
            };
            return Some(Repeat { reason, is_certain: true, position: 0 });
        }
        // The oldest first: what comes again comes in its order.
        (0..REMEMBERED).rev().find_map(|position| {
            let entry = &self.0[position];
            let is_same = entry.way != 0 && entry.payload == arrival.payload && entry.is_within(window, arrival.at);
            if !is_same {
                return None;
            }
            let is_certain = arrival.told == ToldTime::Older;
            if arrival.redelivered {
                return Some(Repeat { reason: DuplicateReason::Redelivered, is_certain, position });
            }
            // A frame that has come on this way already is not awaited there again.
            let is_awaited = !entry.came_on(arrival.way);
            is_awaited.then_some(Repeat { reason: DuplicateReason::OtherPath, is_certain, position })
        })
    }

    /// The uplink that this one is. A copy of the device's newest uplink is one for certain, and so is one that the
    /// network had before the newest; else a device with a fixed session may have begun to count anew.
    fn find_uplink(&self, arrival: &Arrival, window: Duration) -> Option<Repeat> {
        let is_same =
            |entry: &Entry| entry.way != 0 && entry.payload == arrival.payload && entry.is_within(window, arrival.at);
        let position = self.0.iter().position(is_same)?;
        let reason = match (arrival.redelivered, self.0[position].came_on(arrival.way)) {
            (true, _) => DuplicateReason::Redelivered,
            (false, false) => DuplicateReason::OtherPath,
            (false, true) => DuplicateReason::SameUplink,
        };
        Some(Repeat { reason, is_certain: position == 0 || self.0[0].is_after(arrival.at), position })
    }

    /// Remembers that a frame came again.
    pub(crate) fn came_again(&mut self, repeat: &Repeat, arrival: &Arrival) {
        let entry = &mut self.0[repeat.position];
        if entry.other_way == 0 && entry.way != arrival.way {
            entry.other_way = arrival.way;
        }
    }

    /// Remembers a frame. Those that nothing could repeat any more are forgotten, which keeps snapshots small; an uplink
    /// can be repeated at any time.
    pub(crate) fn remember(&mut self, arrival: &Arrival, window: Duration) {
        for entry in &mut self.0 {
            if !arrival.is_counted && !entry.is_within(window, arrival.at) {
                *entry = Entry::default();
            }
        }
        self.0.rotate_right(1);
        self.0[0] = Entry { payload: arrival.payload, at: lower_half(arrival.at), way: arrival.way, other_way: 0 };
    }
}

impl Entry {
    fn came_on(&self, way: u16) -> bool {
        self.way == way || self.other_way == way
    }

    fn is_after(&self, at: Timestamp) -> bool {
        let earlier = self.at.wrapping_sub(lower_half(at));
        (1..=u32::MAX / 2).contains(&earlier)
    }

    /// Two sources may overtake one another by a little, so both directions count.
    fn is_within(&self, window: Duration, at: Timestamp) -> bool {
        let later = lower_half(at).wrapping_sub(self.at);
        u128::from(later.min(later.wrapping_neg())) <= window.as_millis()
    }
}

/// The lower 32 bits of a time in ms.
fn lower_half(at: Timestamp) -> u32 {
    at.0 as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn on(way: u16, payload: u64, seconds: i64) -> Arrival {
        let at = Timestamp(1_800_000_000_000 + seconds * 1_000);
        Arrival { payload, way, at, redelivered: false, told: ToldTime::None, is_old: false, is_counted: false }
    }

    fn again(arrival: Arrival) -> Arrival {
        Arrival { redelivered: true, ..arrival }
    }

    fn told(arrival: Arrival, told: ToldTime) -> Arrival {
        Arrival { told, ..arrival }
    }

    /// Takes a frame as the engine does; `is_news` stands for the readings.
    fn take(recent: &mut Recent, arrival: Arrival, is_news: bool) -> Option<DuplicateReason> {
        match recent.find(&arrival, WINDOW).filter(|repeat| repeat.is_certain || !is_news) {
            Some(repeat) => {
                recent.came_again(&repeat, &arrival);
                Some(repeat.reason)
            }
            None => {
                recent.remember(&arrival, WINDOW);
                None
            }
        }
    }

    #[test]
    fn a_device_may_say_the_same_twice() {
        let mut recent = Recent::default();
        assert_eq!(take(&mut recent, on(1, 7, 0), false), None);
        assert_eq!(take(&mut recent, on(1, 7, 1), false), None);
    }

    #[test]
    fn what_the_broker_sends_again_within_the_window_is_known() {
        let mut recent = Recent::default();
        take(&mut recent, on(1, 7, 0), false);
        take(&mut recent, on(1, 8, 0), false);
        assert_eq!(take(&mut recent, again(on(1, 7, 20)), false), Some(DuplicateReason::Redelivered));
        assert_eq!(take(&mut recent, again(on(1, 9, 20)), false), None, "its first delivery never came");
        assert_eq!(take(&mut recent, again(on(1, 8, 31)), false), None, "the window is over");
    }

    #[test]
    fn what_is_sent_again_and_says_something_new_is_taken() {
        let mut recent = Recent::default();
        take(&mut recent, on(1, 7, 0), true);
        take(&mut recent, on(1, 8, 1), true);
        assert_eq!(take(&mut recent, again(on(1, 7, 2)), true), None);
    }

    #[test]
    fn each_frame_comes_once_on_each_of_two_ways() {
        let mut recent = Recent::default();
        assert_eq!(take(&mut recent, on(1, 7, 0), true), None);
        assert_eq!(take(&mut recent, on(2, 7, 1), false), Some(DuplicateReason::OtherPath));
        // Both ways have brought it: this is the next one.
        assert_eq!(take(&mut recent, on(2, 7, 2), false), None);
        assert_eq!(take(&mut recent, on(1, 7, 3), false), Some(DuplicateReason::OtherPath));
        // Two frames, and then both again in their order.
        take(&mut recent, on(1, 8, 4), true);
        take(&mut recent, on(1, 9, 4), true);
        assert_eq!(take(&mut recent, on(2, 8, 5), false), Some(DuplicateReason::OtherPath));
        assert_eq!(take(&mut recent, on(2, 9, 5), false), Some(DuplicateReason::OtherPath));
    }

    #[test]
    fn a_device_that_changes_its_way_is_heard() {
        let mut recent = Recent::default();
        take(&mut recent, on(1, 7, 0), true);
        take(&mut recent, on(1, 8, 1), true);
        assert_eq!(take(&mut recent, on(2, 7, 2), true), None);
    }

    #[test]
    fn the_last_frame_with_a_time_of_its_own_is_known_at_any_time() {
        let mut recent = Recent::default();
        take(&mut recent, told(on(1, 7, 0), ToldTime::Newest), true);
        let repeated = told(on(1, 7, 9_000), ToldTime::Newest);
        assert_eq!(take(&mut recent, repeated, true), Some(DuplicateReason::Repeated));
        let old = Arrival { is_old: true, ..repeated };
        assert_eq!(take(&mut recent, again(old), true), Some(DuplicateReason::Redelivered));
        let mut copy = recent;
        assert_eq!(take(&mut copy, old, true), None, "its clock may stand still");
        assert_eq!(take(&mut copy, old, true), Some(DuplicateReason::Repeated), "not so soon");
        take(&mut recent, told(on(1, 8, 9_001), ToldTime::Newest), true);
        let older = told(on(1, 7, 9_002), ToldTime::Older);
        assert_eq!(take(&mut recent, again(older), true), None, "forgotten: it is late, and stored once all the same");
    }

    #[test]
    fn a_run_with_times_that_is_sent_again_is_known_whole() {
        let mut recent = Recent::default();
        for payload in 1..=4 {
            take(&mut recent, told(on(1, payload, 0), ToldTime::Newest), true);
        }
        for payload in 1..=3 {
            let arrival = again(told(on(1, payload, 3), ToldTime::Older));
            assert_eq!(take(&mut recent, arrival, true), Some(DuplicateReason::Redelivered));
        }
    }

    /// An uplink that the network had so many seconds after the start.
    fn uplink(way: u16, identity: u64, seconds: i64) -> Arrival {
        let arrival = on(way, 0, seconds);
        arrival.counted(identity, Some(arrival.at))
    }

    #[test]
    fn an_uplink_that_several_gateways_or_servers_hand_over_is_one() {
        let mut recent = Recent::default();
        assert_eq!(take(&mut recent, uplink(1, 7, 0), true), None);
        assert_eq!(take(&mut recent, uplink(1, 7, 0), true), Some(DuplicateReason::SameUplink));
        assert_eq!(take(&mut recent, uplink(1, 7, 2), true), Some(DuplicateReason::SameUplink));
        assert_eq!(take(&mut recent, uplink(2, 7, 1), true), Some(DuplicateReason::OtherPath));
        assert_eq!(take(&mut recent, again(uplink(1, 7, 0)), true), Some(DuplicateReason::Redelivered));
        assert_eq!(take(&mut recent, uplink(1, 8, 3), true), None);
        assert_eq!(
            take(&mut recent, uplink(2, 7, 0), true),
            Some(DuplicateReason::SameUplink),
            "it lags behind the newest"
        );
    }

    #[test]
    fn an_uplink_is_known_however_late_its_copy_comes() {
        let mut recent = Recent::default();
        for hour in 0..4_u64 {
            assert_eq!(take(&mut recent, uplink(1, hour, 3_600 * hour.cast_signed()), true), None);
        }
        for hour in 0..4_u64 {
            let arrival = again(uplink(1, hour, 3_600 * hour.cast_signed()));
            assert_eq!(take(&mut recent, arrival, true), Some(DuplicateReason::Redelivered), "hour {hour}");
        }
    }

    #[test]
    fn a_counter_that_began_anew_is_no_repeat() {
        let mut recent = Recent::default();
        take(&mut recent, uplink(1, 7, 0), true);
        assert_eq!(take(&mut recent, uplink(1, 7, 31), true), None, "the same number and bytes at another time");
        let mut recent = Recent::default();
        take(&mut recent, uplink(1, 7, 0), true);
        take(&mut recent, uplink(1, 8, 5), true);
        assert_eq!(take(&mut recent, uplink(1, 7, 10), true), None, "it says something new after another one");
    }

    #[test]
    fn ways_are_told_apart_by_source_and_prefix() {
        assert_ne!(way("city", b"a/"), way("city", b"b/"));
        assert_ne!(way("city", b"a/"), way("town", b"a/"));
    }

    proptest! {
        /// Only one way and no word of the broker: nothing without a time of its own is ever held back.
        #[test]
        fn a_device_on_one_way_is_always_heard(payloads in prop::collection::vec((0_u64..3, 0_i64..40), 1..50)) {
            let mut recent = Recent::default();
            let mut now = 0;
            for (payload, pause) in payloads {
                now += pause;
                prop_assert_eq!(take(&mut recent, on(1, payload, now), false), None);
            }
        }

        /// Two ways that bring the same in the same order, the second one a few frames behind, with nothing new in them.
        #[test]
        fn a_way_that_lags_brings_nothing_twice(payloads in prop::collection::vec(0_u64..3, 1..50), lag in 0_usize..4) {
            let mut recent = Recent::default();
            for position in 0..payloads.len() + lag {
                if let Some(payload) = payloads.get(position) {
                    prop_assert_eq!(take(&mut recent, on(1, *payload, 1), true), None);
                }
                if let Some(payload) = position.checked_sub(lag).map(|position| payloads[position]) {
                    prop_assert_eq!(take(&mut recent, on(2, payload, 1), false), Some(DuplicateReason::OtherPath));
                }
            }
        }

        /// A frame is held back only for one that was taken on another way or that the broker says it sends again.
        #[test]
        fn whatever_happens_no_payload_is_held_back_that_was_not_taken_within_the_window(
            frames in prop::collection::vec((1_u16..3, 0_u64..3, 0_i64..20, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut recent = Recent::default();
            let mut taken: Vec<(u64, i64)> = Vec::new();
            let mut now = 0;
            for (way, payload, pause, redelivered, is_news) in frames {
                now += pause;
                let arrival = Arrival { redelivered, ..on(way, payload, now) };
                match take(&mut recent, arrival, is_news) {
                    None => taken.push((payload, now)),
                    Some(_) => prop_assert!(taken.iter().any(|(known, at)| *known == payload && now - at <= 30)),
                }
            }
        }
    }
}
