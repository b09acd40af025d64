//! Clocks, as the engine sees them: whether our own can be believed, and which device's is wrong. The condition of a
//! wrong clock opens no case unless its profile says so.

use kerbside_model::profile::Profile;
use kerbside_model::{AlarmState, DeviceIndex, Effects, Severity, Timestamp, vocabulary};

use crate::Engine;
use crate::alarms::raise;
use crate::decode::Certainty;
use crate::drift::DriftChange;
use crate::explain::of_drift;

impl Engine {
    /// How far our own clock can be believed: the watch over it says so with a condition of the gateway.
    pub fn certainty(&self) -> Certainty {
        let is_unsure = self.gateway.get(vocabulary::CLOCK_UNSURE).is_some_and(|slot| slot.alarm.is_some());
        if is_unsure { Certainty::Unsure } else { Certainty::Sure }
    }

    /// Takes the offset of a device's clock in a live frame, and raises or ends the condition when that decides it.
    pub(crate) fn compare_clocks(
        &mut self,
        profile: &Profile,
        index: DeviceIndex,
        offset_ms: i64,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(drift_max) = profile.payload.drift_max() else { return };
        let state = &mut self.devices[index.0 as usize];
        let change = state.drift.observe(offset_ms, drift_max);
        if change == DriftChange::None {
            return;
        }
        let Some(condition) = drift_condition(profile) else { return };
        let stands = state.conditions.alarm(condition).is_some();
        match change {
            DriftChange::Wrong if !stands => {
                let texts = of_drift(offset_ms, drift_max);
                let opens_case = profile.conditions[condition].opens_case;
                let severity = if opens_case { Severity::Minor } else { Severity::Notice };
                let slot = state.conditions.entry(condition);
                raise(slot, &self.site.device(index).id, vocabulary::CLOCK_DRIFT, severity, at, texts);
                self.announce(index, condition, at, effects);
            }
            DriftChange::Right if stands => {
                if let Some(alarm) = state.conditions.alarm_mut(condition) {
                    (alarm.state, alarm.updated_at, alarm.cleared_at) = (AlarmState::Cleared, at, Some(at));
                    alarm.suppressed = None;
                }
                self.clear(index, condition, at, effects);
            }
            DriftChange::None | DriftChange::Wrong | DriftChange::Right => {}
        }
    }
}

/// Where a profile has the condition that only the engine finds. A detector of the profile's own goes before.
fn drift_condition(profile: &Profile) -> Option<usize> {
    let position = profile.conditions.iter().position(|known| known.name.as_ref() == vocabulary::CLOCK_DRIFT)?;
    let has_detector = profile.detectors.iter().any(|detector| usize::from(detector.condition) == position);
    (!has_detector).then_some(position)
}
