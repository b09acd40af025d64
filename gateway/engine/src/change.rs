//! A new site: at the start of the gateway, or while it goes on listening. Devices keep their memory by id.

use std::collections::BTreeMap;
use std::sync::Arc;

use kerbside_model::{DeviceIndex, Effects, Site, Timestamp};

use crate::Engine;
use crate::budget::Pace;
use crate::carry::{carry_over, drop_alarms, is_as_silent};
use crate::cases::KERBSIDE;
use crate::decode::Decoders;
use crate::device::DeviceState;
use crate::engine::interval_of;
use crate::grouping::Families;
use crate::kin::Kin;
use crate::surroundings::Outlook;

/// Whether devices could be heard before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing<'a> {
    /// Nobody listened until now: no device is silent because no gateway ran.
    Begins,
    /// The gateway listened all the time: a device that did not change stays as silent as it was.
    GoesOn {
        /// Who had the change applied.
        by: &'a str,
    },
}

impl Engine {
    /// The gateway begins to listen with this site.
    pub(crate) fn take_site(&mut self, site: &Arc<Site>, at: Timestamp, effects: &mut Effects) {
        self.exchange(site, Hearing::Begins, at, effects);
    }

    /// The site changed while the gateway listened.
    pub(crate) fn take_change(&mut self, site: &Arc<Site>, by: &str, at: Timestamp, effects: &mut Effects) {
        self.exchange(site, Hearing::GoesOn { by }, at, effects);
    }

    fn exchange(&mut self, site: &Arc<Site>, hearing: Hearing<'_>, at: Timestamp, effects: &mut Effects) {
        let old_site = std::mem::replace(&mut self.site, Arc::clone(site));
        self.carry_devices(&old_site, hearing, at, effects);
        self.decoders = Decoders::new(site);
        self.kin = Kin::of(site, &self.decoders);
        self.families = Families::of(site);
        self.carry_outlook(&old_site);
        self.pace = Pace::of(&site.facts().limits);
        match hearing {
            // Sources may be gone. Those that are there tell their state at every start.
            Hearing::Begins if old_site.hash() != site.hash() => self.sources_down.clear(),
            Hearing::Begins => {}
            Hearing::GoesOn { .. } => self.sources_down.retain(|source| site.source_rule(source).is_some()),
        }
        for state in &mut self.devices {
            state.forget_future(at);
        }
        self.outlook.forget_future(at);
        self.cases.forget_future(at);
        self.refresh_incidents(at);
        self.refresh_losses(hearing == Hearing::Begins, at);
        for case_id in self.match_cases() {
            let (mut ctx, cases) = self.case_context(at, effects);
            cases.orphan(&mut ctx, &case_id);
        }
        self.set_timers(at);
        self.forget_lost_walk(at, effects);
        let (by, action) = match hearing {
            Hearing::Begins => (KERBSIDE, "site_loaded"),
            Hearing::GoesOn { by } if old_site.hash() != site.hash() => (by, "site_changed"),
            // Only sources, sinks or channels are others.
            Hearing::GoesOn { by } => (by, "configuration_changed"),
        };
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.audit(by, action, site.hash(), &format!("{} devices", site.devices().len()));
        self.adopt_incidents(at);
        for position in 0..self.devices.len() {
            let index = DeviceIndex(u32::try_from(position).expect("an inventory has fewer than 2^32 devices"));
            self.reconsider(index, at, effects);
        }
        self.adopt_losses(at);
        self.end_lost_incidents(at, effects);
    }

    /// Catchments keep their weather by name.
    fn carry_outlook(&mut self, old_site: &Site) {
        let memory = self.outlook.memory();
        self.outlook = Outlook::of(&self.site);
        let moved = |old: u32| {
            let device = old_site.devices().get(old as usize)?;
            self.site.find(&device.id).map(|index| index.0)
        };
        self.outlook.remember(memory, &moved);
    }

    /// Devices keep their memory by id, and all of it as long as their profile is the same.
    fn carry_devices(&mut self, old_site: &Site, hearing: Hearing<'_>, at: Timestamp, effects: &mut Effects) {
        let site = Arc::clone(&self.site);
        let old_states = std::mem::take(&mut self.devices);
        let mut memory: BTreeMap<&str, DeviceState> = BTreeMap::new();
        for (device, state) in old_site.devices().iter().zip(old_states) {
            memory.insert(&device.id, state);
        }
        for device in site.devices() {
            let profile = site.profile_of(device);
            let old = old_site.find(&device.id).map(|index| old_site.device(index));
            let (mut state, is_same) = match (memory.remove(device.id.as_str()), old) {
                (Some(state), Some(old)) => {
                    let before = old_site.profile_of(old);
                    let is_same = interval_of(old_site, old) == interval_of(&site, device)
                        && old.address == device.address
                        && is_as_silent(before, profile);
                    if before == profile {
                        (state, is_same)
                    } else {
                        let (state, dropped) = carry_over(state, before, profile);
                        drop_alarms(dropped, at, effects);
                        (state, is_same)
                    }
                }
                _ => (DeviceState::new(profile), false),
            };
            // Whether a source that is no longer there hears it nobody will ever tell.
            state.heard_on.take_if(|source| site.source_rule(source).is_none());
            // A device that has another cadence or address now is given its time.
            if hearing == Hearing::Begins || !is_same {
                state.listening_since = at;
            }
            self.devices.push(state);
        }
        for (id, state) in memory {
            drop_alarms(state.conditions.into_iter().map(|(_, slot)| slot), at, effects);
            let (mut ctx, _) = self.case_context(at, effects);
            ctx.audit(KERBSIDE, "device_removed", id, "it is no longer in the inventory");
        }
    }
}
