//! The condition of a device that sends too often: raised when its telemetry is thinned, ended when it was calm for a
//! while. No detector finds it, and it opens no case unless its profile says so.

use kerbside_model::{AlarmState, DeviceIndex, Effects, Severity, Site, Timestamp, vocabulary};

use crate::Engine;
use crate::alarms::raise;
use crate::budget::{babbling_condition, explanation};

impl Engine {
    /// Raises the condition of a device that sends too often; it ends by a timer.
    pub(crate) fn note_babble(&mut self, site: &Site, index: DeviceIndex, at: Timestamp, effects: &mut Effects) {
        let device = site.device(index);
        let profile = site.profile_of(device);
        let Some(condition) = babbling_condition(profile) else { return };
        let state = &mut self.devices[index.0 as usize];
        if state.conditions.alarm(condition).is_some() {
            return;
        }
        let texts = explanation(&site.facts().limits);
        let opens_case = profile.conditions[condition].opens_case;
        let severity = if opens_case { Severity::Minor } else { Severity::Notice };
        raise(state.conditions.entry(condition), &device.id, vocabulary::BABBLING, severity, at, texts);
        self.announce(index, condition, at, effects);
        self.schedule_device(index);
    }

    /// Ends the condition of a device that has been calm for long enough.
    pub(crate) fn end_babble(&mut self, site: &Site, index: DeviceIndex, at: Timestamp, effects: &mut Effects) {
        let Some(condition) = babbling_condition(site.profile_of(site.device(index))) else { return };
        let state = &mut self.devices[index.0 as usize];
        let is_calm = state.budget.calm_at(state.listening_since) <= at;
        let Some(alarm) = state.conditions.alarm_mut(condition).filter(|_| is_calm) else { return };
        (alarm.state, alarm.updated_at, alarm.cleared_at) = (AlarmState::Cleared, at, Some(at));
        alarm.suppressed = None;
        self.clear(index, condition, at, effects);
    }
}
