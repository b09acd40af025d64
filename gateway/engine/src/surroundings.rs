//! What is around a device: whether rain runs off in its catchment, and whether the water stands high downstream.
//!
//! A catchment is all devices of one `parent`; rain gauges without a parent speak for every catchment. It is wet for six
//! hours after a gauge had a millimetre in six hours, or three levels rose together, and while a storm stands or a
//! rainstorm signal is in force. It is dry when somebody would have noticed for six hours: a gauge, or four levels.
//! Where nobody would, nothing is known, and what asks for dry weather finds and learns nothing. All of it is in the
//! snapshot; a site without a detector that asks pays nothing.

use std::collections::BTreeMap;

use kerbside_model::incident::IncidentKind;
use kerbside_model::profile::{Rule, Side, Weather};
use kerbside_model::{DeviceIndex, Site, Timestamp};

use crate::device::{DeviceState, stale_after};
use crate::engine::interval_of;
use crate::grouping::{Book, Record};
use crate::weather::{Catchment, Gauge, Seen, Surroundings, WET_FOR};

/// Points with the level of water, and with rain.
const LEVELS: [&str; 2] = ["level_mm", "water_depth_mm"];
const GAUGES: [(&str, Gauge); 3] =
    [("rainfall_mm", Gauge::SinceLast), ("rainfall_total_mm", Gauge::Total), ("rain_mm_h", Gauge::Intensity)];

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
            known.move_to(moved);
            *place = known;
        }
    }

    /// See [`DeviceState::forget_future`].
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        self.catchments.iter_mut().for_each(|catchment| catchment.forget_future(now));
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
            let is_wet = state.swell.rains(gauge, number as f32, at);
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
        let has_gauge = gauges.iter().any(|catchment| catchment.has_gauge(at));
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
