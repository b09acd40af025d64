//! The last reading of every point of one device, in few bytes.
//!
//! Points that came together share their times: a device has as many pairs of times as it has frames in which some
//! point came last, mostly one.

use std::time::Duration;

use kerbside_model::{Cause, Flag, PointReading, Quality, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::device::stale_after;

/// The last reading of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LastReading<'a> {
    pub(crate) value: Option<&'a Value>,
    pub(crate) quality: Quality,
    pub(crate) observed_at: Timestamp,
    pub(crate) received_at: Timestamp,
    /// When the last good one was received; 0 for never.
    pub(crate) good_at: Timestamp,
}

/// The last readings of a device, by point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastReadings {
    points: Vec<Option<Kept>>,
    moments: Vec<Moment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    value: Option<Value>,
    quality: Quality,
    /// Which moment the reading is of.
    moment: u16,
    /// Which moment the last good one is of, counted from 1; 0 for never.
    good: u16,
    /// The reading before it was another value.
    changed: bool,
}

/// When a frame was taken and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Moment {
    observed_at: Timestamp,
    received_at: Timestamp,
}

impl LastReadings {
    pub(crate) fn resize(&mut self, points: usize) {
        self.points.resize(points, None);
    }

    /// Takes the readings of a live frame as the last ones of their points.
    pub(crate) fn keep(&mut self, readings: &[PointReading], observed_at: Timestamp, received_at: Timestamp) {
        let moment = self.free_moment();
        match self.moments.get_mut(usize::from(moment)) {
            Some(free) => *free = Moment { observed_at, received_at },
            None => self.moments.push(Moment { observed_at, received_at }),
        }
        for PointReading { point, value, quality } in readings {
            let slot = &mut self.points[usize::from(*point)];
            let mut good = slot.as_ref().map_or(0, |kept| kept.good);
            // The clock may have been set back meanwhile: the newest good moment stays.
            if quality.is_good() && (good == 0 || self.moments[usize::from(good) - 1].received_at <= received_at) {
                good = moment + 1;
            }
            match slot {
                Some(kept) => {
                    (kept.quality, kept.moment, kept.good) = (*quality, moment, good);
                    kept.changed = kept.value.is_some() && value.is_some() && kept.value != *value;
                    put(&mut kept.value, value.as_ref());
                }
                None => *slot = Some(Kept { value: value.clone(), quality: *quality, moment, good, changed: false }),
            }
        }
    }

    /// A moment that no point refers to. Each refers to two at most, so they stay few.
    fn free_moment(&self) -> u16 {
        let count = u16::try_from(self.moments.len()).expect("a profile has fewer than 32,767 points");
        let is_used =
            |moment: u16| self.points.iter().flatten().any(|kept| kept.moment == moment || kept.good == moment + 1);
        (0..count).find(|moment| !is_used(*moment)).unwrap_or(count)
    }

    /// The last reading of a point.
    pub(crate) fn get(&self, point: usize) -> Option<LastReading<'_>> {
        let kept = self.points.get(point)?.as_ref()?;
        let Moment { observed_at, received_at } = self.moments[usize::from(kept.moment)];
        let good = usize::from(kept.good).checked_sub(1).map(|good| self.moments[good].received_at);
        let good_at = good.unwrap_or_default();
        Some(LastReading { value: kept.value.as_ref(), quality: kept.quality, observed_at, received_at, good_at })
    }

    /// Whether these readings say nothing new: each is what the last one of its point was.
    pub(crate) fn knows(&self, readings: &[PointReading]) -> bool {
        readings.iter().all(|PointReading { point, value, .. }| {
            // The quality of what is kept was judged by the readings before it, that of these is not yet.
            let kept = self.points.get(usize::from(*point)).and_then(Option::as_ref);
            kept.is_some_and(|kept| kept.value == *value)
        })
    }

    /// Value and time of the last reading of a point, when it is good.
    pub(crate) fn good(&self, point: u16) -> Option<(&Value, Timestamp)> {
        let kept = self.points[usize::from(point)].as_ref().filter(|kept| kept.quality.is_good())?;
        Some((kept.value.as_ref()?, self.moments[usize::from(kept.moment)].observed_at))
    }

    /// The same, also when it is suspect, with whether it is good.
    pub(crate) fn usable(&self, point: u16) -> Option<(&Value, Timestamp, bool)> {
        let kept = self.points[usize::from(point)].as_ref()?;
        let is_usable = kept.quality.is_good() || kept.quality.flag == Flag::Suspect;
        let value = kept.value.as_ref().filter(|_| is_usable)?;
        Some((value, self.moments[usize::from(kept.moment)].observed_at, kept.quality.is_good()))
    }

    /// The same, with when it was received.
    pub(crate) fn usable_since(&self, point: u16) -> Option<(&Value, Timestamp, bool)> {
        let kept = self.points[usize::from(point)].as_ref()?;
        let (value, _, is_good) = self.usable(point)?;
        Some((value, self.moments[usize::from(kept.moment)].received_at, is_good))
    }

    /// Whether the last reading of a point is another value than the one before it.
    pub(crate) fn has_changed(&self, point: u16) -> bool {
        self.points[usize::from(point)].as_ref().is_some_and(|kept| kept.changed)
    }

    /// The same readings for other points: each takes what was at its place before, if there is one.
    pub(crate) fn rearranged(mut self, places: impl Iterator<Item = Option<usize>>) -> LastReadings {
        LastReadings { points: places.map(|place| self.points[place?].take()).collect(), moments: self.moments }
    }

    /// No reading was received later than now.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        for moment in &mut self.moments {
            moment.received_at = moment.received_at.min(now);
        }
    }
}

/// Most values are numbers: these are written in place.
fn put(slot: &mut Option<Value>, value: Option<&Value>) {
    match (slot, value) {
        (Some(Value::Number(known)), Some(Value::Number(number))) => *known = *number,
        (Some(Value::Boolean(known)), Some(Value::Boolean(boolean))) => *known = *boolean,
        (Some(Value::Text(known)), Some(Value::Text(text))) if known == text => {}
        (slot, value) => *slot = value.cloned(),
    }
}

impl LastReading<'_> {
    /// The quality to show at a moment: a good reading that is too old is suspect.
    pub(crate) fn quality_at(&self, now: Timestamp, interval: Option<Duration>) -> Quality {
        if self.quality.is_good() && now.since(self.received_at) > stale_after(interval) {
            return Quality { flag: Flag::Suspect, cause: Cause::Stale };
        }
        self.quality
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Number, quality, observed, received, last good.
    type Plain = (f64, Quality, Timestamp, Timestamp, Timestamp);

    fn reading(point: u16, number: f64, is_good: bool) -> PointReading {
        let quality = if is_good { Quality::GOOD } else { Quality::bad(Cause::Range) };
        PointReading { point, value: Some(Value::Number(number)), quality }
    }

    proptest! {
        #[test]
        fn shared_times_say_the_same_as_times_of_each_point(
            frames in prop::collection::vec((prop::collection::btree_map(0_u16..6, any::<bool>(), 0..6), -5_i64..50), 0..60),
        ) {
            let mut last = LastReadings::default();
            last.resize(6);
            let mut plain: Vec<Option<Plain>> = vec![None; 6];
            let mut received_at = Timestamp(1_000);
            for (number, (points, step)) in frames.into_iter().enumerate() {
                received_at = Timestamp(received_at.0 + step);
                let observed_at = Timestamp(received_at.0 - 7);
                let readings: Vec<_> =
                    points.iter().map(|(point, is_good)| reading(*point, number as f64, *is_good)).collect();
                last.keep(&readings, observed_at, received_at);
                for reading in &readings {
                    let slot = &mut plain[usize::from(reading.point)];
                    let earlier = slot.map_or(Timestamp::default(), |slot| slot.4);
                    let good_at = if reading.quality.is_good() { received_at.max(earlier) } else { earlier };
                    *slot = Some((number as f64, reading.quality, observed_at, received_at, good_at));
                }
                for (point, expected) in plain.iter().enumerate() {
                    let found = last.get(point).map(|last| {
                        let number = last.value.and_then(Value::as_number).unwrap();
                        (number, last.quality, last.observed_at, last.received_at, last.good_at)
                    });
                    prop_assert_eq!(&found, expected);
                }
                prop_assert!(last.moments.len() <= 13, "moments without use are used again");
            }
        }
    }
}
