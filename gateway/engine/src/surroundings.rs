//! What is around a device: whether rain runs off in its catchment, and whether the water stands high downstream.
//!
//! A catchment is all devices of one `parent`; rain gauges without a parent speak for every catchment. It is wet for six
//! hours after a gauge had a millimetre in six hours, or three levels rose together, and while a storm stands or a
//! rainstorm signal is in force. It is dry when somebody would have noticed for six hours: a gauge, or four levels.
//! Where nobody would, nothing is known, and what asks for dry weather finds and learns nothing. All of it is in the
//! snapshot; a site without a detector that asks pays nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::incident::IncidentKind;
use kerbside_model::profile::{Around, Downstream, Rule, Side, Weather};
use kerbside_model::{DeviceIndex, Site, Timestamp};
use serde::{Deserialize, Serialize};

use crate::device::{DeviceState, stale_after};
use crate::engine::interval_of;
use crate::grouping::{Book, Record};

/// It is wet for so long after rain, and rain is summed over so long: the time in which a combined sewer empties.
const WET_FOR: Duration = Duration::from_secs(6 * 3_600);
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
/// Points with the level of water, and with rain.
const LEVELS: [&str; 2] = ["level_mm", "water_depth_mm"];
const GAUGES: [(&str, Gauge); 3] =
    [("rainfall_mm", Gauge::SinceLast), ("rainfall_total_mm", Gauge::Total), ("rain_mm_h", Gauge::Intensity)];

/// What a point says of rain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gauge {
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
    weather: Option<Weather>,
    downstream_high: Option<bool>,
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
    /// Least level of the half hour that runs, and of the one before.
    low: f32,
    low_before: f32,
    /// Which half hour runs.
    span: i32,
    /// The last level had risen: a single one is a splash.
    was_high: bool,
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

/// The points of a profile that tell of the weather.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    level: Option<u16>,
    rain: Option<(u16, Gauge)>,
    asks: bool,
}

/// The catchments of a site, and what flows where; empty where no detector asks.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    watches: Vec<Watch>,
    /// The catchment of each device.
    catchment_of: Vec<u32>,
    downstream: Vec<Option<DeviceIndex>>,
    names: Vec<String>,
    /// The first is that of every place: gauges without a parent speak for it.
    catchments: Vec<Catchment>,
}

impl Outlook {
    /// The catchments of a site, without a memory.
    pub(crate) fn of(site: &Site) -> Outlook {
        let profiles = &site.facts().profiles;
        let is_asked = profiles.iter().any(|profile| profile.detectors.iter().any(|rule| rule.around.is_some()));
        if !is_asked {
            return Outlook::default();
        }
        let watches = profiles.iter().map(|profile| {
            let place = |name: &str| profile.point_index(name).and_then(|place| u16::try_from(place).ok());
            Watch {
                level: LEVELS.iter().find_map(|name| place(name)),
                rain: GAUGES.iter().find_map(|(name, gauge)| Some((place(name)?, *gauge))),
                asks: profile.detectors.iter().any(|rule| rule.around.is_some()),
            }
        });
        let mut outlook = Outlook { watches: watches.collect(), ..Outlook::default() };
        let mut by_name: BTreeMap<&str, u32> = BTreeMap::from([("", 0)]);
        outlook.names.push(String::new());
        for device in site.devices() {
            let catchment = *by_name.entry(&device.parent).or_insert_with(|| {
                outlook.names.push(device.parent.clone());
                u32::try_from(outlook.names.len() - 1).expect("an inventory has fewer than 2^32 devices")
            });
            outlook.catchment_of.push(catchment);
            let downstream = Some(device.downstream.as_str()).filter(|id| !id.is_empty());
            outlook.downstream.push(downstream.and_then(|id| site.find(id)));
        }
        outlook.catchments.resize(outlook.names.len(), Catchment::default());
        outlook
    }

    /// The memory by the names of the catchments, for the snapshot.
    pub(crate) fn memory(&self) -> Vec<(String, Catchment)> {
        self.names.iter().cloned().zip(self.catchments.iter().cloned()).collect()
    }

    /// Takes a memory over. `moved` tells where the devices are now.
    pub(crate) fn remember(&mut self, memory: Vec<(String, Catchment)>, moved: &dyn Fn(u32) -> Option<u32>) {
        let mut by_name: BTreeMap<String, Catchment> = memory.into_iter().collect();
        for (name, place) in self.names.iter().zip(&mut self.catchments) {
            let Some(mut known) = by_name.remove(name) else { continue };
            known.risers.retain_mut(|(device, _)| moved(*device).map(|index| *device = index).is_some());
            for watcher in &mut known.watchers {
                *watcher = moved(watcher.0).map_or((0, Timestamp::default()), |index| (index, watcher.1));
            }
            *place = known;
        }
    }

    /// See [`DeviceState::forget_future`].
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        for catchment in &mut self.catchments {
            catchment.wet_at = catchment.wet_at.min(now);
            catchment.gauge = (catchment.gauge.0.min(now), catchment.gauge.1.min(now));
            catchment.watched_since = catchment.watched_since.min(now);
            catchment.watchers.iter_mut().for_each(|(_, at)| *at = (*at).min(now));
            catchment.risers.retain(|(_, at)| *at <= now);
        }
    }

    /// Notes what a device said of level and rain; `came` tells which points were in its message.
    pub(crate) fn notice(
        &mut self,
        (index, profile): (DeviceIndex, usize),
        state: &mut DeviceState,
        came: &dyn Fn(u16) -> bool,
        at: Timestamp,
    ) {
        let Some(watch) = self.watches.get(profile).copied() else { return };
        let place = self.catchment_of[index.0 as usize] as usize;
        let number = |state: &DeviceState, point: u16| {
            came(point).then(|| state.last.good(point).and_then(|(value, _)| value.as_number())).flatten()
        };
        if let Some((point, gauge)) = watch.rain
            && let Some(number) = number(state, point)
        {
            let is_wet = state.swell.rain.get_or_insert_default().take(gauge, number as f32, at);
            self.catchments[place].hear_gauge(is_wet, at);
        }
        // Levels without a parent are in no catchment.
        if let Some(point) = watch.level.filter(|_| place != 0)
            && let Some(number) = number(state, point)
        {
            let has_risen = state.swell.rises(number as f32, at);
            self.catchments[place].hear_level(index.0, has_risen, at);
        }
    }

    /// What is around a device whose detectors ask; `None` where none does.
    pub(crate) fn around(
        &self,
        site: &Site,
        index: DeviceIndex,
        (devices, incidents): (&[DeviceState], &Book),
        at: Timestamp,
    ) -> Option<Surroundings> {
        self.watches.get(site.profile_index(index)).filter(|watch| watch.asks)?;
        let everywhere = &self.catchments[0];
        let place = self.catchment_of[index.0 as usize] as usize;
        let own = &self.catchments[place];
        let is_wet = own.is_wet(at) || everywhere.is_wet(at) || is_stormy(incidents, at);
        let is_watched = own.is_watched(index.0, at) || everywhere.is_watched(index.0, at);
        let weather = match (is_wet, is_watched) {
            (true, _) => Some(Weather::Wet),
            (false, true) => Some(Weather::Dry),
            (false, false) => None,
        };
        let downstream = self.downstream[index.0 as usize];
        let downstream_high = downstream.and_then(|other| is_high(site, other, &devices[other.0 as usize], at));
        Some(Surroundings { weather, downstream_high })
    }

    /// What is seen around a device, for its evidence.
    pub(crate) fn seen<'a>(
        &self,
        site: &'a Site,
        index: DeviceIndex,
        (devices, incidents): (&[DeviceState], &Book),
        at: Timestamp,
    ) -> Seen<'a> {
        let Some(around) = self.around(site, index, (devices, incidents), at) else { return Seen::default() };
        let place = self.catchment_of[index.0 as usize] as usize;
        let gauges = [&self.catchments[place], &self.catchments[0]];
        let has_gauge = gauges.iter().any(|catchment| at.since(catchment.gauge.1) <= HEARD_WITHIN);
        let downstream = self.downstream[index.0 as usize].map(|other| {
            let profile = site.profile_of(site.device(other));
            let level = LEVELS.iter().find_map(|name| profile.point_index(name));
            let last = level
                .and_then(|level| u16::try_from(level).ok())
                .and_then(|level| devices[other.0 as usize].last.good(level));
            let level = around.downstream_high.and(last).and_then(|(value, _)| value.as_number());
            (site.device(other).id.as_str(), level)
        });
        Seen { weather: around.weather, has_gauge, downstream }
    }
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

/// Whether a storm stands or was over less than six hours ago, or a rainstorm signal was in force.
fn is_stormy(incidents: &Book, at: Timestamp) -> bool {
    let is_within = |until: Timestamp| at.since(until) < WET_FOR && until != Timestamp::default();
    let has_signal = incidents.rain.is_some_and(|signal| signal.until > at || is_within(signal.until));
    let is_storm = |record: &Record| record.kind == IncidentKind::Storm && record.opened_at.is_some();
    let ended = incidents.ended.iter().map(|ended| &ended.record);
    has_signal
        || incidents
            .records
            .values()
            .any(|record| is_storm(record) && (record.standing > 0 || is_within(record.changed_at)))
        || ended.rev().any(|record| is_storm(record) && is_within(record.changed_at))
}

/// Whether the water at a device stands higher than it otherwise does, by its own detectors: by what is usual for it,
/// or where nothing learns that, by its limits. `None` when it has none, or says nothing any more.
fn is_high(site: &Site, index: DeviceIndex, state: &DeviceState, at: Timestamp) -> Option<bool> {
    let device = site.device(index);
    let profile = site.profile_of(device);
    let level = LEVELS.iter().find_map(|name| profile.point_index(name))?;
    let last = state.last.get(level)?;
    if at.since(last.received_at) > stale_after(interval_of(site, device)) {
        return None;
    }
    let of_level = || {
        let rules = profile.detectors.iter().zip(&state.detectors);
        rules.filter(|(rule, _)| rule.point.map(usize::from) == Some(level))
    };
    let unusual = of_level().filter(|(rule, _)| matches!(&rule.rule, Rule::Deviation(own) if own.side == Side::Above));
    let mut learnt = unusual.filter_map(|(_, slot)| slot.is_beyond());
    if let Some(first) = learnt.next() {
        return Some(first || learnt.any(|is_beyond| is_beyond));
    }
    let limits = of_level().filter(|(rule, _)| matches!(rule.rule, Rule::Threshold { side: Side::Above, .. }));
    let mut passed = limits.filter_map(|(_, slot)| slot.is_beyond());
    passed.next().map(|first| first || passed.any(|is_beyond| is_beyond))
}

impl Catchment {
    fn is_wet(&self, at: Timestamp) -> bool {
        self.wet_at != Timestamp::default() && at.since(self.wet_at) < WET_FOR
    }

    /// Whether rain would have been noticed in the last hours, by a gauge or by levels other than this one.
    fn is_watched(&self, index: u32, at: Timestamp) -> bool {
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

    fn hear_gauge(&mut self, is_wet: bool, at: Timestamp) {
        let (since, last) = self.gauge;
        let is_gap = last == Timestamp::default() || at.since(last) > HEARD_WITHIN;
        self.gauge = (if is_gap { at } else { since }, at);
        if is_wet {
            self.wet_at = self.wet_at.max(at);
        }
    }

    fn hear_level(&mut self, index: u32, has_risen: bool, at: Timestamp) {
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
    /// See [`DeviceState::forget_future`].
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        if let Some(rain) = &mut self.rain {
            rain.last_at = rain.last_at.min(now);
        }
    }

    /// Takes the next level, in mm, and says whether it has risen.
    fn rises(&mut self, level: f32, at: Timestamp) -> bool {
        let span = i32::try_from(at.0.div_euclid(RISE_SPAN_MS)).unwrap_or(i32::MAX);
        let passed = span.saturating_sub(self.span);
        match passed {
            0 => self.low = self.low.min(level),
            1..=RISE_SPANS_MAX => (self.low_before, self.low, self.span) = (self.low, level, span),
            _ => (self.low_before, self.low, self.span) = (level, level, span),
        }
        let is_high = level - self.low.min(self.low_before) >= RISE_MM;
        // Where reports are rare the next one is too late to confirm it.
        (std::mem::replace(&mut self.was_high, is_high) || passed > 1) && is_high
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
}
