//! What the API shows of the engine's state. Read between two steps; changes nothing.

use std::collections::BTreeMap;

use kerbside_model::geo::{Datum, convert};
use kerbside_model::inventory::Device;
use kerbside_model::{Alarm, DeviceIndex, ServiceState, Timestamp};
use serde::Serialize;

use crate::Engine;
use crate::device::{DeviceState, Mask};
use crate::engine::interval_of;

/// One device as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceView {
    /// Device id.
    pub id: String,
    /// What it is called on the street.
    pub name: String,
    /// Kind, such as `manhole_cover`.
    pub kind: &'static str,
    /// Its profile.
    pub profile: String,
    /// Names of the overrides that are laid over its profile.
    pub overrides: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The source that it was heard on.
    pub source: Option<String>,
    /// How the source names it.
    pub address: String,
    /// Road text.
    pub place: String,
    /// Longitude and latitude in degrees of WGS84, whatever datum the inventory has it in.
    pub position: Option<(f64, f64)>,
    /// Unit grid code.
    pub grid: String,
    /// Responsible unit.
    pub unit: String,
    /// Whether its alarms open cases.
    pub service: ServiceState,
    /// `ok`, `alarm`, `silent` or `unknown` (never heard).
    pub status: &'static str,
    /// When the last readable frame was received.
    pub heard_at: Option<Timestamp>,
    /// How far its clock is behind the gateway's, in seconds; negative when it is ahead, null when it tells no time.
    pub clock_offset_seconds: Option<f64>,
    /// When it reports again at the latest, in seconds.
    pub interval_seconds: Option<f64>,
    /// Conditions that stand.
    pub conditions: Vec<String>,
    /// Until when it is masked, and why.
    pub masked_until: Option<Timestamp>,
    /// Why it is masked.
    pub mask_reason: Option<String>,
    /// Whether it is in a walk test that runs, and so opens no cases.
    pub in_walk_test: bool,
}

/// The last reading of one point.
#[derive(Clone, Debug, Serialize)]
pub struct ReadingView {
    /// Device id.
    pub device: String,
    /// Point name.
    pub point: String,
    /// The value, or null.
    pub value: serde_json::Value,
    /// Unit, or empty.
    pub unit: String,
    /// When the device took it.
    pub observed_at: Timestamp,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// How long ago that was.
    pub age_seconds: f64,
    /// `good`, `not_evaluated`, `suspect`, `bad` or `missing`.
    pub quality: &'static str,
    /// Why it is not good, or empty.
    pub cause: &'static str,
}

impl Engine {
    /// How many devices there are of each kind and status, by name.
    pub fn tally(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for (device, state) in self.site.devices().iter().zip(&self.devices) {
            let kind = self.site.profile_of(device).kind.name();
            *counts.entry((kind, status(standing(state), state.heard_at))).or_insert(0) += 1;
        }
        counts
    }

    /// How many masks a device has, those ahead included; see [`crate::MASKS_MAX`].
    pub fn mask_count(&self, index: DeviceIndex) -> usize {
        self.devices[index.0 as usize].masks.len()
    }

    /// One device as it is at `now`.
    pub fn device_view(&self, index: DeviceIndex, now: Timestamp) -> DeviceView {
        let device = self.site.device(index);
        let state = &self.devices[index.0 as usize];
        let mask: Option<&Mask> = state.masks.iter().find(|mask| mask.from <= now && now < mask.until);
        DeviceView {
            id: device.id.clone(),
            name: device.name.clone(),
            kind: self.site.profile_of(device).kind.name(),
            profile: self.site.profile_of(device).name.clone(),
            overrides: self.site.profile_of(device).overrides.clone(),
            tags: device.tags.clone(),
            source: state.heard_on.as_deref().map(str::to_owned).or_else(|| device.source.clone()),
            address: device.address.clone(),
            place: device.place.clone(),
            position: device.position.map(|position| convert(position, device.datum, Datum::Wgs84)),
            grid: device.grid.clone(),
            unit: device.unit.clone(),
            service: device.service,
            status: status(standing(state), state.heard_at),
            heard_at: state.heard_at,
            clock_offset_seconds: state.drift.offset_ms().map(|offset_ms| offset_ms as f64 / 1e3),
            interval_seconds: interval_of(&self.site, device).map(|interval| interval.as_secs_f64()),
            conditions: standing(state).map(|alarm| alarm.condition.clone()).collect(),
            masked_until: mask.map(|mask| mask.until),
            mask_reason: mask.map(|mask| mask.reason.clone()),
            in_walk_test: self.is_walked(&device.id),
        }
    }

    /// The last readings of one device at `now`.
    pub fn reading_views(&self, index: DeviceIndex, now: Timestamp) -> Vec<ReadingView> {
        let device: &Device = self.site.device(index);
        let profile = self.site.profile_of(device);
        let interval = interval_of(&self.site, device);
        let state = &self.devices[index.0 as usize];
        let mut views = Vec::new();
        for (position, point) in profile.points.iter().enumerate() {
            let Some(last) = state.last.get(position) else { continue };
            let quality = last.quality_at(now, profile.point_interval(position, interval));
            views.push(ReadingView {
                device: device.id.clone(),
                point: point.name.to_string(),
                value: last.value.map_or(serde_json::Value::Null, |value| value.to_json()),
                unit: point.unit.clone(),
                observed_at: last.observed_at,
                received_at: last.received_at,
                age_seconds: now.since(last.received_at).as_secs_f64(),
                quality: quality.flag.name(),
                cause: quality.cause.name(),
            });
        }
        views
    }
}

fn standing(state: &DeviceState) -> impl Iterator<Item = &Alarm> {
    state.conditions.iter().filter_map(|(_, slot)| slot.alarm.as_deref())
}

fn status<'a>(standing: impl Iterator<Item = &'a Alarm>, heard_at: Option<Timestamp>) -> &'static str {
    let mut found = if heard_at.is_some() { "ok" } else { "unknown" };
    for alarm in standing {
        if alarm.condition == "silent" {
            return "silent";
        }
        found = "alarm";
    }
    found
}
