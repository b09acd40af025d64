//! The engine's state as bytes. It is read back by the same engine version only; after an upgrade the tables win.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kerbside_model::site::GATEWAY_DEVICE;
use kerbside_model::{Alarm, Case, Site, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::alarms::ConditionState;
use crate::cases::Cases;
use crate::device::DeviceState;
use crate::grouping::Book;
use crate::walk::Walk;
use crate::weather::Catchment;

/// Counts up with every change of what a snapshot holds or of what the engine would make of a stored batch.
pub const ENGINE_VERSION: u32 = 8;

/// A snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was written by another engine.
    #[error("read a snapshot of engine version {found}: this is version {ENGINE_VERSION}")]
    Version {
        /// The version in the snapshot.
        found: u32,
    },
    /// It belongs to another site.
    #[error("read a snapshot of {found} devices for a site of {expected}")]
    Site {
        /// Devices in the snapshot.
        found: usize,
        /// Devices of the site.
        expected: usize,
    },
    /// Its bytes are damaged.
    #[error("read a snapshot")]
    Damaged(#[source] postcard::Error),
}

#[derive(Serialize, Deserialize)]
struct State<'a> {
    devices: std::borrow::Cow<'a, [DeviceState]>,
    cases: std::borrow::Cow<'a, Cases>,
    gateway: std::borrow::Cow<'a, BTreeMap<String, ConditionState>>,
    sources_down: std::borrow::Cow<'a, BTreeSet<Arc<str>>>,
    walk: std::borrow::Cow<'a, Option<Walk>>,
    incidents: std::borrow::Cow<'a, Book>,
    outlook: Vec<(String, Catchment)>,
}

impl Engine {
    /// The state as bytes. It belongs to the site whose hash is [`Site::hash`] of [`Engine::site`].
    pub fn snapshot(&self) -> Vec<u8> {
        use std::borrow::Cow::Borrowed;
        let state = State {
            devices: Borrowed(&self.devices),
            cases: Borrowed(&self.cases),
            gateway: Borrowed(&self.gateway),
            sources_down: Borrowed(&self.sources_down),
            walk: Borrowed(&self.walk),
            incidents: Borrowed(&self.incidents),
            outlook: self.outlook.memory(),
        };
        postcard::to_stdvec(&state).expect("the state is plain data")
    }

    /// The engine as it was when the snapshot was taken.
    pub fn restore(site: Arc<Site>, engine_version: u32, bytes: &[u8]) -> Result<Engine, RestoreError> {
        if engine_version != ENGINE_VERSION {
            return Err(RestoreError::Version { found: engine_version });
        }
        let state: State<'_> = postcard::from_bytes(bytes).map_err(RestoreError::Damaged)?;
        if state.devices.len() != site.devices().len() {
            return Err(RestoreError::Site { found: state.devices.len(), expected: site.devices().len() });
        }
        let mut engine = Engine::assemble(
            site,
            state.devices.into_owned(),
            state.cases.into_owned(),
            state.gateway.into_owned(),
            state.sources_down.into_owned(),
        );
        engine.walk = state.walk.into_owned();
        engine.schedule_walk();
        engine.incidents = state.incidents.into_owned();
        engine.schedule_incidents();
        engine.outlook.remember(state.outlook, &Some);
        Ok(engine)
    }

    /// An engine from what the tables hold, when no snapshot can be read: standing alarms and open cases are taken
    /// over and detectors warm up again. No alarm is raised twice and no case opened twice.
    pub fn from_tables(site: Arc<Site>, alarms: Vec<Alarm>, cases: Vec<Case>, now: Timestamp) -> Engine {
        let mut engine = Engine::new(Arc::clone(&site));
        for case in cases {
            engine.cases.adopt(case, site.facts().cases.close_after, now);
        }
        for alarm in alarms {
            let slot = if alarm.device == GATEWAY_DEVICE {
                Some(engine.gateway.entry(alarm.condition.clone()).or_default())
            } else {
                engine.slot(&site, &alarm.device, &alarm.condition)
            };
            if let Some(slot) = slot {
                slot.carried = true;
                slot.alarm = Some(Box::new(alarm));
            }
        }
        // Those that have lost their device are told of when the site comes, which is the first input.
        drop(engine.match_cases());
        let Engine { devices, cases, gateway, sources_down, .. } = engine;
        Engine::assemble(site, devices, cases, gateway, sources_down)
    }

    /// Ties every case to its device and condition, so that a device which comes back into the inventory joins its
    /// open case. Gives the cases that wait for nothing any more, because their device or condition is gone.
    pub(crate) fn match_cases(&mut self) -> Vec<String> {
        let site = Arc::clone(&self.site);
        let mut orphans = Vec::new();
        for (case_id, device, condition) in self.cases.subjects() {
            if self.is_of_incident(&device, &condition) {
                continue;
            }
            let is_final = self.cases.is_ended(&case_id);
            let Some(slot) = self.slot(&site, &device, &condition) else {
                orphans.push(case_id);
                continue;
            };
            let is_alarms_own = slot.alarm.as_ref().is_some_and(|alarm| alarm.case_id.as_ref() == Some(&case_id));
            if is_final && !is_alarms_own {
                orphans.push(case_id);
            } else {
                slot.case_id = Some(case_id);
            }
        }
        orphans
    }

    /// The place of a condition of a device, by their names.
    pub(crate) fn slot(&mut self, site: &Site, device: &str, condition: &str) -> Option<&mut ConditionState> {
        let index = site.find(device)?;
        let profile = site.profile_of(site.device(index));
        let position = profile.conditions.iter().position(|known| known.name.as_ref() == condition)?;
        Some(self.devices.get_mut(index.0 as usize)?.conditions.entry(position))
    }
}
