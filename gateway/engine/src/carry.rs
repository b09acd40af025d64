//! What is kept when the configuration changes: readings, detectors and alarms, found again by their names.

use kerbside_model::profile::{Detector, Guard, GuardTest, Point, Profile, Rule};
use kerbside_model::{Alarm, AlarmState, Effects, Severity, Timestamp};

use crate::alarms::ConditionState;
use crate::detect::DetectorState;
use crate::device::{DeviceState, teacher_of};

/// After a change of the profile. A detector that is still there goes on where it was. One that changed begins anew,
/// but what its forerunner at the same point had found stands until good data of this point says otherwise. Gives the
/// conditions that the profile no longer has.
pub(crate) fn carry_over(
    mut old: DeviceState,
    old_profile: &Profile,
    profile: &Profile,
) -> (DeviceState, Vec<ConditionState>) {
    let mut state = DeviceState::new(profile);
    let place_before = |point: &Point| old_profile.points.iter().position(|other| other == point);
    old.last = std::mem::take(&mut old.last).rearranged(profile.points.iter().map(place_before));
    for (detector, slot) in profile.detectors.iter().zip(&mut state.detectors) {
        for (forerunner, known) in old_profile.detectors.iter().zip(&old.detectors) {
            if subject_of(profile, detector) != subject_of(old_profile, forerunner) {
                continue;
            }
            if is_same(detector, forerunner, moved(old_profile, forerunner, profile).as_ref())
                && guards_of(profile, detector) == guards_of(old_profile, forerunner)
                && excuses_of(profile, detector) == excuses_of(old_profile, forerunner)
            {
                *slot = known.clone();
                break;
            }
            if known.is_active() {
                *slot = DetectorState::taken_over(known.since);
            }
        }
    }
    let mut dropped = Vec::new();
    for (condition, mut slot) in std::mem::take(&mut old.conditions).into_iter() {
        let condition = &old_profile.conditions[condition];
        let Some(place) = profile.conditions.iter().position(|other| other.name == condition.name) else {
            dropped.push(slot);
            continue;
        };
        let is_held = |(detector, state): (&Detector, &DetectorState)| {
            usize::from(detector.condition) == place && state.is_active()
        };
        slot.carried = slot.alarm.is_some() && !profile.detectors.iter().zip(&state.detectors).any(is_held);
        if slot.alarm.is_none() {
            // What was taken over without an alarm would stand without having been raised.
            for (detector, state) in profile.detectors.iter().zip(&mut state.detectors) {
                if usize::from(detector.condition) == place && state.is_active() {
                    *state = DetectorState::default();
                }
            }
        }
        *state.conditions.entry(place) = slot;
    }
    keep_learnt((profile, &mut state.detectors), (old_profile, &old.detectors));
    if old_profile.points != profile.points {
        old.quality.begin_anew(&|point| there(old_profile, point, profile));
    }
    (old.detectors, old.conditions) = (state.detectors, state.conditions);
    (old, dropped)
}

/// What a rule has learnt of a point took days: it goes on where only what follows from it changed, such as a limit.
fn keep_learnt(
    (profile, slots): (&Profile, &mut [DetectorState]),
    (old_profile, old_slots): (&Profile, &[DetectorState]),
) {
    for (position, (detector, slot)) in profile.detectors.iter().zip(slots).enumerate() {
        // What is usual of a point is learnt once, for all that ask for it.
        if slot.memory().is_some() || teacher_of(profile, position).is_some() {
            continue;
        }
        let learns_alike = |(other, known): &(&Detector, &DetectorState)| {
            known.memory().is_some()
                && point_of(profile, detector) == point_of(old_profile, other)
                && (&detector.zone, &detector.around) == (&other.zone, &other.around)
                && moved(old_profile, other, profile).is_some_and(|rule| detector.rule.learns_as(&rule))
        };
        if let Some((_, known)) = old_profile.detectors.iter().zip(old_slots).find(learns_alike) {
            slot.go_on_learning(&detector.rule, known);
        }
    }
}

/// The rule of a detector as the new profile would say it.
fn moved(old_profile: &Profile, detector: &Detector, profile: &Profile) -> Option<Rule> {
    detector.rule.moved(&|point| there(old_profile, point, profile))
}

/// Where a point of the old profile stands in the new one.
fn there(old_profile: &Profile, point: u16, profile: &Profile) -> Option<u16> {
    let name = &old_profile.points.get(usize::from(point))?.name;
    let position = profile.points.iter().position(|other| other.name == *name)?;
    u16::try_from(position).ok()
}

/// What a detector is about, by name: positions change with the profile.
fn subject_of<'a>(profile: &'a Profile, detector: &Detector) -> (&'a str, Option<&'a str>, Severity, &'static str) {
    let point = point_of(profile, detector).map(|point| point.name.as_ref());
    let condition = profile.conditions[usize::from(detector.condition)].name.as_ref();
    (condition, point, detector.severity, detector.rule.name())
}

fn guards_of<'a>(profile: &'a Profile, detector: &'a Detector) -> Vec<(&'a str, &'a GuardTest)> {
    named(profile, &detector.when)
}

/// What excuses a detector, by name.
fn excuses_of<'a>(profile: &'a Profile, detector: &Detector) -> Vec<&'a str> {
    detector.unless.iter().map(|condition| profile.conditions[usize::from(*condition)].name.as_ref()).collect()
}

fn named<'a>(profile: &'a Profile, guards: &'a [Guard]) -> Vec<(&'a str, &'a GuardTest)> {
    guards.iter().map(|guard| (profile.points[usize::from(guard.point)].name.as_ref(), &guard.test)).collect()
}

fn point_of<'a>(profile: &'a Profile, detector: &Detector) -> Option<&'a Point> {
    detector.point.map(|point| &profile.points[usize::from(point)])
}

/// Whether two detectors do the same, but for the positions that they name; `moved` is the other's rule with its points
/// where they are now.
fn is_same(detector: &Detector, other: &Detector, moved: Option<&Rule>) -> bool {
    let Detector { severity, hold, count, clear_hold, during, zone, around, .. } = other;
    Some(&detector.rule) == moved
        && (&detector.severity, &detector.hold, &detector.count, &detector.clear_hold)
            == (severity, hold, count, clear_hold)
        && (&detector.during, &detector.zone, &detector.around) == (during, zone, around)
}

/// Whether two profiles take the same silence for one.
pub(crate) fn is_as_silent(profile: &Profile, other: &Profile) -> bool {
    let silences = |profile: &Profile| {
        let rules = profile.detectors.iter().filter(|detector| matches!(detector.rule, Rule::Silence { .. }));
        rules.map(|detector| (detector.rule.clone(), detector.hold)).collect::<Vec<_>>()
    };
    (profile.interval, silences(profile)) == (other.interval, silences(other))
}

/// Alarms of what is no longer in the inventory end without good data, and say so.
pub(crate) fn drop_alarms(conditions: impl IntoIterator<Item = ConditionState>, at: Timestamp, effects: &mut Effects) {
    for alarm in conditions.into_iter().filter_map(|slot| slot.alarm) {
        effects.alarms.push(removed(*alarm, at));
        effects.counts.alarms_cleared += 1;
    }
}

fn removed(mut alarm: Alarm, at: Timestamp) -> Alarm {
    (alarm.state, alarm.updated_at, alarm.cleared_at) = (AlarmState::Cleared, at, Some(at));
    alarm.explanation.push_str("; the device or its condition was taken out of the inventory");
    alarm.explanation_zh.push_str("；设备或该状况已从台账移除");
    alarm
}
