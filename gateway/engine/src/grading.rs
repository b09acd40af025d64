//! Runs the tests of quality over the readings of a frame, and tells of sensors that fail them for long. The condition
//! is a notice for maintenance: no detector finds it, and it opens no case unless its profile says so.

use kerbside_model::profile::Profile;
use kerbside_model::{AlarmState, DeviceIndex, Effects, Noted, Severity, Site, Timestamp, vocabulary};

use crate::Engine;
use crate::alarms::raise;
use crate::device::DeviceState;
use crate::engine::interval_of;
use crate::explain::of_sensor;
use crate::quality::Moment;

/// Whose readings, and when they were taken and received.
pub(crate) struct FrameMoment {
    pub(crate) index: DeviceIndex,
    pub(crate) observed_at: Timestamp,
    pub(crate) received_at: Timestamp,
}

impl Engine {
    /// Flags the readings of a frame. What is late is judged by itself: those before it are not known any more.
    pub(crate) fn grade(&mut self, site: &Site, moment: &FrameMoment, late: bool, effects: &mut Effects) {
        let FrameMoment { index, observed_at, received_at } = *moment;
        let plan = self.decoders.at(site.profile_index(index)).quality();
        plan.judge_alone(self.scratch.readings_mut(), observed_at);
        if late {
            return;
        }
        let device = site.device(index);
        let profile = site.profile_of(device);
        let mut middles = Vec::new();
        for (point, test) in plan.asks_neighbours().filter(|(point, _)| self.scratch.came(*point)) {
            let subject = (index, profile.points[usize::from(point)].name.as_ref());
            let middle = self.kin.middle(site, &self.devices, subject, test, received_at);
            middles.extend(middle.map(|middle| (point, middle)));
        }
        let DeviceState { last, quality, .. } = &mut self.devices[index.0 as usize];
        let last = &*last;
        let known = |point: u16| last.good(point).map(|(value, _)| value);
        let was_good =
            |point: u16| last.get(usize::from(point)).is_some_and(|last| last.good_at != Timestamp::default());
        let interval = interval_of(site, device);
        let moment =
            Moment { observed_at, received_at, interval, known: &known, was_good: &was_good, middles: &middles };
        plan.judge(quality, self.scratch.readings_mut(), &moment, &mut self.findings);
        for (point, quality) in &self.findings.graded {
            effects.note(Noted::Graded { point: plan.key(*point), quality: *quality });
        }
        for revised in &self.findings.revised {
            let (point, value, quality) = (plan.key(revised.point), revised.value, revised.quality);
            let (observed_at, received_at) = (revised.observed_at, revised.received_at);
            effects.note(Noted::Revised { point, value, observed_at, received_at, quality });
        }
    }

    /// Raises the condition of a sensor whose readings are not good for long, and ends it when they are again.
    pub(crate) fn watch_sensors(
        &mut self,
        profile: &Profile,
        index: DeviceIndex,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        let state = &mut self.devices[index.0 as usize];
        if state.quality.is_sound() && state.conditions.is_calm() {
            return;
        }
        let Some(condition) = fault_condition(profile) else { return };
        let stands = state.conditions.alarm(condition).is_some();
        match state.quality.fault(profile, at) {
            Some(fault) if !stands => {
                let texts = of_sensor(&profile.points[usize::from(fault.point)], fault, at);
                let opens_case = profile.conditions[condition].opens_case;
                let severity = if opens_case { Severity::Minor } else { Severity::Notice };
                let slot = state.conditions.entry(condition);
                raise(slot, &self.site.device(index).id, vocabulary::SENSOR_FAULT, severity, at, texts);
                self.announce(index, condition, at, effects);
            }
            None if stands && state.quality.is_mended() && !is_too_soon(profile, state, condition, at) => {
                if let Some(alarm) = state.conditions.alarm_mut(condition) {
                    (alarm.state, alarm.updated_at, alarm.cleared_at) = (AlarmState::Cleared, at, Some(at));
                    alarm.suppressed = None;
                }
                self.clear(index, condition, at, effects);
            }
            Some(_) | None => {}
        }
    }
}

/// Whether a fault that was taken over could not have been found again yet: after an upgrade nothing is known of the
/// readings before, and one good one does not end it.
fn is_too_soon(profile: &Profile, state: &DeviceState, condition: usize, at: Timestamp) -> bool {
    let is_carried = state.conditions.get(condition).is_some_and(|slot| slot.carried);
    let patience = || profile.points.iter().map(|point| point.quality.fault.after).max().unwrap_or_default();
    is_carried && at.since(state.listening_since) < patience()
}

/// Where a profile has the condition that only the engine finds. A detector of the profile's own goes before.
fn fault_condition(profile: &Profile) -> Option<usize> {
    let position = profile.conditions.iter().position(|known| known.name.as_ref() == vocabulary::SENSOR_FAULT)?;
    let has_detector = profile.detectors.iter().any(|detector| usize::from(detector.condition) == position);
    (!has_detector).then_some(position)
}
