//! What a catchment remembers of its weather, and a device of its level and rain.
//!
//! Plain memory: rain and rising levels become dry or wet weather, and with the water downstream what a detector asks
//! for with `around`. It is part of the snapshot; who is in which catchment is known in `surroundings.rs`.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::{Around, Downstream, Weather};
use serde::{Deserialize, Serialize};

/// It is wet for so long after rain, and rain is summed over so long: the time in which a combined sewer empties.
pub(crate) const WET_FOR: Duration = Duration::from_secs(6 * 3_600);
const WET_HOURS: usize = 6;
/// Rain in six hours, mm: less wets the street and does not run off.
const WET_MM: f32 = 1.0;
/// So many levels that rise together are rain, and so many more watch at least.
const RISERS: usize = 3;
const WATCHERS: usize = RISERS + 1;
/// Together is within this time.
const TOGETHER: Duration = Duration::from_secs(3_600);
/// A level has risen when it is so much above the least of the last half hour to hour, mm. Dry-weather flow rises by no
/// more than half of that in the morning; rain floods rise by as much in two minutes (FloodNet, New York).
const RISE_MM: f32 = 30.0;
const RISE_SPAN_MS: i64 = 1_800_000;
/// Sensors that report more rarely are compared with their last report, when that is no older than two hours.
const RISE_SPANS_MAX: i32 = 4;
/// Who was not heard for so long watches no more.
const HEARD_WITHIN: Duration = Duration::from_secs(2 * 3_600);
/// Rain between two reports in a higher intensity than this is no rain, mm/h: the world record for an hour is 305 mm.
const INTENSITY_MAX: f32 = 400.0;
/// An intensity says nothing about a longer time.
const INTENSITY_SPAN_MAX: Duration = Duration::from_secs(1_800);
const HOUR_MS: i64 = 3_600_000;
/// What a point says of rain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gauge {
    /// Rain since the message before.
    SinceLast,
    /// A counter that goes up until somebody sets it back.
    Total,
    /// Rain in an hour, if it goes on like this.
    Intensity,
}

/// What is known of the surroundings of a device at a moment; what is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) weather: Option<Weather>,
    pub(crate) downstream_high: Option<bool>,
}

impl Surroundings {
    /// Whether they are as a detector asks for.
    pub(crate) fn are(&self, around: &Around) -> bool {
        let is_level = around.downstream.is_none_or(|wanted| match wanted {
            Downstream::High => self.downstream_high == Some(true),
            Downstream::NotHigh => self.downstream_high != Some(true),
        });
        self.let_learn(around) && is_level
    }

    /// Whether what is usual may be learnt: the weather must be as asked for, whatever the water downstream.
    pub(crate) fn let_learn(&self, around: &Around) -> bool {
        match around.weather {
            None => true,
            Some(Weather::NotWet) => self.weather != Some(Weather::Wet),
            wanted => self.weather == wanted,
        }
    }
}

/// What a device remembers of its level, by which a rise is known, and of its rain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Swell {
    /// Least level of the half hour that runs, and of the one before, of those that two reports running did not exceed.
    low: f32,
    low_before: f32,
    /// Which half hour runs.
    span: i32,
    /// The last level: a single one is a splash, or noise.
    before: f32,
    rain: Option<Box<Rain>>,
}

/// Rain of the last hours at a gauge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rain {
    /// Rain in mm of hours, by the hour modulo their number.
    hours: [f32; WET_HOURS],
    /// The newest hour, since 1970.
    hour: i64,
    /// The last value, and when it was taken; 0 for never.
    last: f32,
    last_at: Timestamp,
}

/// Who watches one catchment, and since when it was wet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Catchment {
    /// When it was wet last; 0 for never.
    wet_at: Timestamp,
    /// Since when a gauge is heard without a gap, and when last; 0 for never.
    gauge: (Timestamp, Timestamp),
    /// Levels that were heard last, each once.
    watchers: [(u32, Timestamp); WATCHERS],
    /// Since when there are enough of them without a gap; 0 for never.
    watched_since: Timestamp,
    /// Levels that rose lately.
    risers: Vec<(u32, Timestamp)>,
}

/// What is seen around a device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen<'a> {
    pub(crate) weather: Option<Weather>,
    /// A rain gauge was heard.
    pub(crate) has_gauge: bool,
    /// The device downstream with its level in mm, while it is known.
    pub(crate) downstream: Option<(&'a str, Option<f64>)>,
}

impl Catchment {
    /// Takes the devices to where they are now; who is gone watches no more.
    pub(crate) fn move_to(&mut self, moved: &dyn Fn(u32) -> Option<u32>) {
        self.risers.retain_mut(|(device, _)| moved(*device).map(|index| *device = index).is_some());
        for watcher in &mut self.watchers {
            *watcher = moved(watcher.0).map_or((0, Timestamp::default()), |index| (index, watcher.1));
        }
    }

    /// Nothing was seen in the future after the clock was set back.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        self.wet_at = self.wet_at.min(now);
        self.gauge = (self.gauge.0.min(now), self.gauge.1.min(now));
        self.watched_since = self.watched_since.min(now);
        self.watchers.iter_mut().for_each(|(_, at)| *at = (*at).min(now));
        self.risers.retain(|(_, at)| *at <= now);
    }

    /// Whether a rain gauge was heard lately.
    pub(crate) fn has_gauge(&self, at: Timestamp) -> bool {
        self.gauge.1 != Timestamp::default() && at.since(self.gauge.1) <= HEARD_WITHIN
    }

    pub(crate) fn is_wet(&self, at: Timestamp) -> bool {
        self.wet_at != Timestamp::default() && at.since(self.wet_at) < WET_FOR
    }

    /// Whether rain would have been noticed in the last hours, by a gauge or by levels other than this one.
    pub(crate) fn is_watched(&self, index: u32, at: Timestamp) -> bool {
        let for_long = |since: Timestamp| since != Timestamp::default() && at.since(since) >= WET_FOR;
        let (gauge_since, gauge_at) = self.gauge;
        if for_long(gauge_since) && at.since(gauge_at) <= HEARD_WITHIN {
            return true;
        }
        let is_heard = |(other, heard): &&(u32, Timestamp)| {
            *other != index && *heard != Timestamp::default() && at.since(*heard) <= HEARD_WITHIN
        };
        for_long(self.watched_since) && self.watchers.iter().filter(is_heard).count() >= RISERS
    }

    pub(crate) fn hear_gauge(&mut self, is_wet: bool, at: Timestamp) {
        let (since, last) = self.gauge;
        let is_gap = last == Timestamp::default() || at.since(last) > HEARD_WITHIN;
        self.gauge = (if is_gap { at } else { since }, at);
        if is_wet {
            self.wet_at = self.wet_at.max(at);
        }
    }

    pub(crate) fn hear_level(&mut self, index: u32, has_risen: bool, at: Timestamp) {
        let known = self.watchers.iter().position(|(other, heard)| *other == index && *heard != Timestamp::default());
        let place = known.unwrap_or_else(|| {
            let oldest = self.watchers.iter().enumerate().min_by_key(|(_, (_, heard))| *heard);
            oldest.map_or(0, |(place, _)| place)
        });
        self.watchers[place] = (index, at);
        let is_watched =
            self.watchers.iter().all(|(_, heard)| *heard != Timestamp::default() && at.since(*heard) <= HEARD_WITHIN);
        self.watched_since = match (is_watched, self.watched_since) {
            (false, _) => Timestamp::default(),
            (true, since) if since == Timestamp::default() => at,
            (true, since) => since,
        };
        if !has_risen {
            return;
        }
        self.risers.retain(|(other, rose)| *other != index && at.since(*rose) <= TOGETHER);
        if self.risers.len() == RISERS {
            self.risers.remove(0);
        }
        self.risers.push((index, at));
        if self.risers.len() >= RISERS {
            self.wet_at = self.wet_at.max(at);
        }
    }
}

impl Swell {
    /// Nothing was measured in the future after the clock was set back.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        if let Some(rain) = &mut self.rain {
            rain.last_at = rain.last_at.min(now);
        }
    }

    /// Takes what a gauge says, and tells whether the last hours are wet.
    pub(crate) fn rains(&mut self, gauge: Gauge, number: f32, at: Timestamp) -> bool {
        self.rain.get_or_insert_default().take(gauge, number, at)
    }

    /// Takes the next level, in mm, and says whether it has risen.
    pub(crate) fn rises(&mut self, level: f32, at: Timestamp) -> bool {
        let span = i32::try_from(at.0.div_euclid(RISE_SPAN_MS)).unwrap_or(i32::MAX);
        let passed = span.saturating_sub(self.span);
        // Where reports are rare the next one is too late to confirm anything.
        let before = if (0..=1).contains(&passed) { self.before } else { level };
        let (lower, higher) = (level.min(before), level.max(before));
        match passed {
            0 => self.low = self.low.min(higher),
            1..=RISE_SPANS_MAX => (self.low_before, self.low, self.span) = (self.low, higher, span),
            _ => (self.low_before, self.low, self.span) = (level, level, span),
        }
        self.before = level;
        lower - self.low.min(self.low_before) >= RISE_MM
    }
}

impl Rain {
    /// Takes what a gauge says, and tells whether the last hours are wet.
    fn take(&mut self, gauge: Gauge, number: f32, at: Timestamp) -> bool {
        let elapsed = at.since(self.last_at);
        let is_first = self.last_at == Timestamp::default() || at < self.last_at;
        let hours = elapsed.as_secs_f32() / 3_600.0;
        let fell = match gauge {
            Gauge::SinceLast => number,
            // What was set back begins at 0.
            Gauge::Total if number < self.last => number,
            Gauge::Total => number - self.last,
            Gauge::Intensity => number * hours.min(INTENSITY_SPAN_MAX.as_secs_f32() / 3_600.0),
        };
        (self.last, self.last_at) = (number, at);
        let hour = at.0.div_euclid(HOUR_MS);
        if hour < self.hour || hour - self.hour >= WET_HOURS as i64 {
            self.hours = [0.0; WET_HOURS];
        } else {
            (self.hour + 1..=hour).for_each(|passed| self.hours[place_of(passed)] = 0.0);
        }
        self.hour = hour;
        let is_real = fell >= 0.0 && (fell <= WET_MM || is_first || fell <= INTENSITY_MAX * hours.max(0.1));
        // The first value of a counter is the rain of a past that nobody knows.
        if is_real && !(is_first && gauge != Gauge::SinceLast) {
            self.hours[place_of(hour)] += fell;
        }
        self.hours.iter().sum::<f32>() >= WET_MM
    }
}

fn place_of(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(WET_HOURS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is wet after each of these values, which come every half an hour.
    fn wet(gauge: Gauge, values: &[f32]) -> Vec<bool> {
        let mut rain = Rain::default();
        let moments = (1..).map(|step| Timestamp(step * 1_800_000));
        values.iter().zip(moments).map(|(value, at)| rain.take(gauge, *value, at)).collect()
    }

    #[test]
    fn a_millimetre_in_six_hours_is_wet_however_a_gauge_tells_it() {
        assert_eq!(wet(Gauge::SinceLast, &[0.0, 0.6, 0.0, 0.4]), [false, false, false, true]);
        assert_eq!(wet(Gauge::Total, &[80.0, 80.6, 80.6, 81.0]), [false, false, false, true]);
        assert_eq!(wet(Gauge::Total, &[80.0, 0.4, 1.0]), [false, false, true], "it was set back");
        assert_eq!(wet(Gauge::Intensity, &[4.0, 1.2, 0.8]), [false, false, true], "mm/h for half an hour each");
        assert_eq!(wet(Gauge::Total, &[80.0, 980.0]), [false, false], "no rain falls like that");
        let mut long = vec![0.9];
        long.extend([0.0; 12]);
        long.push(0.9);
        assert_eq!(wet(Gauge::SinceLast, &long).last(), Some(&false), "the first was more than six hours before");
    }

    #[test]
    fn a_level_has_risen_when_a_second_report_says_so() {
        let mut swell = Swell::default();
        let mut take = |minute: i64, level: f32| swell.rises(level, Timestamp(1_800_000_000_000 + minute * 60_000));
        let splash = [take(10, 50.0), take(15, 200.0), take(20, 52.0)];
        let rain = [take(25, 70.0), take(30, 85.0), take(35, 110.0)];
        assert_eq!((splash, rain), ([false; 3], [false, false, true]));
        let morning: Vec<bool> = (0..24).map(|step| take(500 + step * 5, 50.0 + step as f32)).collect();
        assert!(!morning.contains(&true), "the morning's rise is slow");
    }

    #[test]
    fn a_level_that_trembles_by_a_centimetre_is_no_rain() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut swell = Swell::default();
        // A standard deviation of 10 mm: rough water in a street sewer, or a poor mount.
        let mut noise = || ((0..12).map(|_| chance.f32()).sum::<f32>() - 6.0) * 10.0;
        let rises = (0..10_000_i64).filter(|step| {
            let at = Timestamp(1_800_000_000_000 + step * 300_000);
            swell.rises(50.0 + noise(), at)
        });
        let count = rises.count();
        // Three of ten levels would have to do so within an hour.
        assert!(count < 30, "{count} of 10,000");
    }
}
