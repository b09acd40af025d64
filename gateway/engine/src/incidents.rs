//! Incidents: standing alarms that most likely have one cause, because their devices hang on the same parent.
//!
//! Pure: what stands now decides. Three is the least number that makes a group (the filing rule for dark lamps on one
//! circuit is three as well).

use std::collections::BTreeMap;

use kerbside_model::id::hashed;
use kerbside_model::inventory::Device;
use kerbside_model::{Alarm, ServiceState, Severity, Timestamp};
use serde::Serialize;

use crate::Engine;

const ALARMS_MIN: usize = 3;

/// What a storm does to drains and roads. An incident of one of these is a storm over its catchment.
const STORM_CONDITIONS: [&str; 3] = ["surcharged", "surging", "flooded"];

/// Alarms with one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// A hash of parent and condition.
    pub id: String,
    /// The asset that all devices hang on: pole, feeder, catchment.
    pub parent: String,
    /// The condition that all have.
    pub condition: String,
    /// The worst of their severities.
    pub severity: Severity,
    /// When the first of them was raised.
    pub opened_at: Timestamp,
    /// Devices, in the order of the inventory.
    pub devices: Vec<String>,
    /// Ids of the alarms, in the same order.
    pub alarms: Vec<String>,
}

impl Engine {
    /// Whether a storm stands: an incident of water. Sources then read levels more often.
    pub fn has_storm(&self) -> bool {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (device, state) in self.site.devices().iter().zip(&self.devices) {
            if device.parent.is_empty() || self.is_being_tried(device) {
                continue;
            }
            for alarm in state.conditions.iter().filter_map(|(_, slot)| slot.alarm.as_deref()) {
                if STORM_CONDITIONS.contains(&alarm.condition.as_str()) {
                    let count = counts.entry((&device.parent, &alarm.condition)).or_default();
                    *count += 1;
                    if *count >= ALARMS_MIN {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Whether its alarms are somebody's work at the installation: three covers that are opened in a walk test have one
    /// cause, and it is no incident.
    fn is_being_tried(&self, device: &Device) -> bool {
        device.service == ServiceState::Commissioning || self.is_walked(&device.id)
    }

    /// What stands now, grouped; the newest group first.
    pub fn incidents(&self) -> Vec<Incident> {
        let mut groups: BTreeMap<(&str, &str), Vec<&Alarm>> = BTreeMap::new();
        for (device, state) in self.site.devices().iter().zip(&self.devices) {
            if device.parent.is_empty() || self.is_being_tried(device) {
                continue;
            }
            for alarm in state.conditions.iter().filter_map(|(_, slot)| slot.alarm.as_deref()) {
                groups.entry((&device.parent, &alarm.condition)).or_default().push(alarm);
            }
        }
        let mut incidents = Vec::new();
        for ((parent, condition), alarms) in groups {
            let Some(first) = alarms.iter().map(|alarm| alarm.opened_at).min() else { continue };
            if alarms.len() < ALARMS_MIN {
                continue;
            }
            incidents.push(Incident {
                id: hashed(&["incident", parent, condition]),
                parent: parent.to_owned(),
                condition: condition.to_owned(),
                severity: alarms.iter().map(|alarm| alarm.severity).max().unwrap_or(Severity::Notice),
                opened_at: first,
                devices: alarms.iter().map(|alarm| alarm.device.clone()).collect(),
                alarms: alarms.iter().map(|alarm| alarm.id.clone()).collect(),
            });
        }
        incidents.sort_by(|left, right| right.opened_at.cmp(&left.opened_at).then_with(|| left.id.cmp(&right.id)));
        incidents
    }
}
