//! From detectors to alarms: one alarm for each condition of a device, whatever the number of rules that find it.

use kerbside_model::id::hashed;
use kerbside_model::profile::{Detector, Profile};
use kerbside_model::{Alarm, AlarmState, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::device::DeviceState;

/// The memory of one condition of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConditionState {
    /// The alarm, while it stands.
    pub(crate) alarm: Option<Box<Alarm>>,
    /// The alarm was taken over from before a change of the profile or the engine: it stands until good data says
    /// otherwise, although no detector remembers why.
    pub(crate) carried: bool,
    /// How many episodes there were: two of them never share an id, even within one millisecond.
    pub(crate) episodes: u32,
    /// The case of the last episode, until it is over.
    pub(crate) case_id: Option<String>,
}

/// The memory of the conditions of one device. A condition that was never wrong takes no room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conditions(Vec<(u16, ConditionState)>);

impl Conditions {
    /// The memory of a condition, if it was ever wrong.
    pub(crate) fn get(&self, condition: usize) -> Option<&ConditionState> {
        self.0.iter().find(|(position, _)| usize::from(*position) == condition).map(|(_, slot)| slot)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, condition: usize) -> Option<&mut ConditionState> {
        self.0.iter_mut().find(|(position, _)| usize::from(*position) == condition).map(|(_, slot)| slot)
    }

    /// The memory of a condition; from now on it has some.
    pub(crate) fn entry(&mut self, condition: usize) -> &mut ConditionState {
        let condition = u16::try_from(condition).expect("a profile has fewer than 65,536 conditions");
        let place = match self.0.binary_search_by_key(&condition, |(position, _)| *position) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, (condition, ConditionState::default()));
                place
            }
        };
        &mut self.0[place].1
    }

    /// The alarm of a condition, while it stands.
    pub(crate) fn alarm(&self, condition: usize) -> Option<&Alarm> {
        self.get(condition)?.alarm.as_deref()
    }

    /// The same, to change it.
    pub(crate) fn alarm_mut(&mut self, condition: usize) -> Option<&mut Alarm> {
        self.get_mut(condition)?.alarm.as_deref_mut()
    }

    /// Whether none was ever wrong.
    pub(crate) fn is_calm(&self) -> bool {
        self.0.is_empty()
    }

    /// Every condition that was ever wrong, with its position in the profile.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &ConditionState)> {
        self.0.iter().map(|(position, slot)| (usize::from(*position), slot))
    }

    /// The same, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ConditionState> {
        self.0.iter_mut().map(|(_, slot)| slot)
    }

    /// The same, taken apart.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (usize, ConditionState)> {
        self.0.into_iter().map(|(position, slot)| (usize::from(position), slot))
    }
}

/// What happened to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Raised,
    /// Its severity rose.
    Worsened,
    /// Good data came again and it still stands.
    Revived,
    Cleared,
}

/// Texts of an alarm, made only when one is raised or worsens.
pub(crate) type Explain<'a> = &'a dyn Fn(&DeviceState, usize) -> (String, String);

/// Brings the alarm of one condition in line with its detectors.
pub(crate) fn settle(
    state: &mut DeviceState,
    device_id: &str,
    profile: &Profile,
    condition: usize,
    at: Timestamp,
    explain: Explain<'_>,
) -> Change {
    let strongest = strongest(state, profile, condition);
    let standing = state.conditions.alarm(condition).is_some();
    match (strongest, standing) {
        (None, false) => Change::None,
        (None, true) if state.conditions.get(condition).is_some_and(|slot| slot.carried) => Change::None,
        (None, true) => {
            let Some(alarm) = state.conditions.alarm_mut(condition) else { return Change::None };
            alarm.state = AlarmState::Cleared;
            alarm.updated_at = at;
            alarm.cleared_at = Some(at);
            alarm.suppressed = None;
            Change::Cleared
        }
        (Some((position, detector)), false) => {
            let texts = explain(state, position);
            raise(
                state.conditions.entry(condition),
                device_id,
                &profile.conditions[condition].name,
                detector.severity,
                at,
                texts,
            );
            Change::Raised
        }
        (Some((position, detector)), true) => {
            state.conditions.entry(condition).carried = false;
            let known = state.conditions.alarm(condition).map_or(Severity::Notice, |alarm| alarm.severity);
            let texts = (detector.severity > known).then(|| explain(state, position));
            let Some(alarm) = state.conditions.alarm_mut(condition) else { return Change::None };
            if let Some((explanation, explanation_zh)) = texts {
                (alarm.explanation, alarm.explanation_zh) = (explanation, explanation_zh);
                (alarm.severity, alarm.state, alarm.updated_at) = (detector.severity, AlarmState::Active, at);
                return Change::Worsened;
            }
            if alarm.state == AlarmState::Stale {
                (alarm.state, alarm.updated_at) = (AlarmState::Active, at);
                return Change::Revived;
            }
            Change::None
        }
    }
}

/// The worst of the detectors that hold a condition up, with its position.
pub(crate) fn strongest<'a>(
    state: &DeviceState,
    profile: &'a Profile,
    condition: usize,
) -> Option<(usize, &'a Detector)> {
    let of_condition = profile.detectors.iter().enumerate().filter(|(position, detector)| {
        usize::from(detector.condition) == condition && state.detectors[*position].is_active()
    });
    of_condition.max_by_key(|(_, detector)| detector.severity)
}

/// A new episode.
pub(crate) fn raise(
    slot: &mut ConditionState,
    device_id: &str,
    condition: &str,
    severity: Severity,
    at: Timestamp,
    (explanation, explanation_zh): (String, String),
) {
    slot.episodes += 1;
    slot.carried = false;
    slot.alarm = Some(Box::new(Alarm {
        id: hashed(&[device_id, condition, &slot.episodes.to_string(), &at.0.to_string()]),
        device: device_id.to_owned(),
        condition: condition.to_owned(),
        severity,
        state: AlarmState::Active,
        opened_at: at,
        updated_at: at,
        cleared_at: None,
        explanation,
        explanation_zh,
        suppressed: None,
        case_id: None,
        acknowledged: None,
        evidence: None,
    }));
}
