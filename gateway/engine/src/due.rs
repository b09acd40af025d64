//! What falls due of a device: silence, holds, masks, and alarms that nothing renews.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::profile::{Condition, Rule};
use kerbside_model::{AlarmState, DeviceIndex, Effects, Site, Suppression, Timestamp, vocabulary};

use crate::Engine;
use crate::alarms::ConditionState;
use crate::cases::KERBSIDE;
use crate::detect::{Phase, Verdict};
use crate::device::stale_after;
use crate::engine::interval_of;
use crate::timers::TimerKey;
use crate::together::Together;

impl Engine {
    pub(crate) fn set_timers(&mut self, at: Timestamp) {
        self.timers.clear();
        for position in 0..self.devices.len() {
            self.devices[position].timer = None;
            let index = DeviceIndex(u32::try_from(position).expect("an inventory has fewer than 2^32 devices"));
            self.schedule_device(index);
        }
        self.schedule_walk();
        self.schedule_incidents();
        let mut effects = Effects::default();
        let (mut ctx, cases) = self.case_context(at, &mut effects);
        cases.schedule_all(&mut ctx);
    }

    /// Sets the device's timer to when something of it is due next. A timer may fire early, never late.
    pub(crate) fn schedule_device(&mut self, index: DeviceIndex) {
        let due = self.due(index);
        let state = &mut self.devices[index.0 as usize];
        if state.timer == due {
            return;
        }
        if let Some(at) = state.timer {
            self.timers.remove(at, TimerKey::Device(index));
        }
        if let Some(at) = due {
            self.timers.set(at, TimerKey::Device(index));
        }
        state.timer = due;
    }

    fn due(&self, index: DeviceIndex) -> Option<Timestamp> {
        let device = self.site.device(index);
        let profile = self.site.profile_of(device);
        let interval = interval_of(&self.site, device);
        let state = &self.devices[index.0 as usize];
        let is_deaf = self.is_deaf_to(index);
        let clock = self.decoders.at(self.site.profile_index(index)).clock();
        let mut due: Option<Timestamp> = None;
        let mut sooner = |at: Option<Timestamp>| due = [due, at].into_iter().flatten().min();
        for (position, detector) in profile.detectors.iter().enumerate() {
            let slot = &state.detectors[position];
            sooner(slot.ripe_at(detector));
            if slot.waits_for_wrong() && !is_deaf && state.listening_since != Timestamp::default() {
                sooner(state.silent_at(position, profile, interval, (clock, device)));
            }
        }
        for (condition, slot) in state.conditions.iter() {
            if slot.alarm.as_ref().is_some_and(|alarm| alarm.state == AlarmState::Active) {
                sooner(self.stale_at(index, condition, interval));
                if profile.conditions[condition].name.as_ref() == vocabulary::BABBLING {
                    sooner(Some(state.budget.calm_at(state.listening_since)));
                }
            }
        }
        for (condition, slot) in state.conditions.iter() {
            sooner(permit_runs_out(&profile.conditions[condition], slot));
        }
        state.masks.iter().for_each(|mask| sooner(Some(mask.until)));
        due
    }

    /// When nobody knows any more whether a condition stands. Silence itself never goes stale.
    fn stale_at(&self, index: DeviceIndex, condition: usize, interval: Option<Duration>) -> Option<Timestamp> {
        let profile = self.site.profile_of(self.site.device(index));
        let state = &self.devices[index.0 as usize];
        let mut stale: Option<Timestamp> = None;
        for detector in &profile.detectors {
            if usize::from(detector.condition) != condition {
                continue;
            }
            if let Some(combination) = detector.rule.combination() {
                let view = Together::new((profile, interval), &state.last, combination, Timestamp::default());
                let patience = combination.fresh.unwrap_or_else(|| stale_after(interval));
                let heard = state.listening_since.plus(patience);
                stale = stale.max(Some(view.unknown_from(combination).max(heard)));
                continue;
            }
            let point = usize::from(detector.point?);
            let good_at = state.last.get(point).map_or(Timestamp::default(), |last| last.good_at);
            let patience = stale_after(profile.point_interval(point, interval));
            stale = stale.max(Some(good_at.max(state.listening_since).plus(patience)));
        }
        stale
    }

    pub(crate) fn serve_timers(&mut self, until: Timestamp, effects: &mut Effects) {
        while let Some((at, key)) = self.timers.pop(until) {
            match key {
                TimerKey::Case(id) => {
                    let (mut ctx, cases) = self.case_context(at, effects);
                    cases.timer(&mut ctx, &id);
                    self.mark_ended(&id, at, effects);
                }
                TimerKey::Device(index) => self.serve_device(index, at, effects),
                TimerKey::Walk => self.expire_walk(at, effects),
                TimerKey::Incident(id) => self.serve_incident(&id, at, effects),
                TimerKey::Source(source) => self.serve_loss(&source, at, effects),
            }
        }
    }

    pub(crate) fn serve_device(&mut self, index: DeviceIndex, at: Timestamp, effects: &mut Effects) {
        let site = Arc::clone(&self.site);
        let device = site.device(index);
        let profile = site.profile_of(device);
        let interval = interval_of(&site, device);
        let is_deaf = self.is_deaf_to(index);
        let profile_index = site.profile_index(index);
        if let Some(timer) = self.devices[index.0 as usize].timer.take() {
            self.timers.remove(timer, TimerKey::Device(index));
        }
        for (position, detector) in profile.detectors.iter().enumerate() {
            let state = &mut self.devices[index.0 as usize];
            let was_active = state.detectors[position].is_active();
            if matches!(detector.rule, Rule::Silence { .. }) {
                let watch = (self.decoders.at(profile_index).clock(), device);
                let is_silent = state.silent_at(position, profile, interval, watch).is_some_and(|due| due <= at);
                let slot = &mut state.detectors[position];
                match (is_silent && !is_deaf, slot.phase) {
                    (true, Phase::Unknown | Phase::Clear) => slot.advance(detector, Verdict::Wrong, at),
                    (true, Phase::Rising) => slot.ripen(detector, at),
                    (false, Phase::Rising) => slot.advance(detector, Verdict::Fine, at),
                    (_, Phase::Unknown | Phase::Clear | Phase::Active | Phase::Falling | Phase::Doubted) => {}
                }
            } else {
                state.detectors[position].ripen(detector, at);
            }
            if state.detectors[position].is_active() != was_active {
                self.settle_condition(index, usize::from(detector.condition), at, effects);
            }
        }
        for condition in 0..profile.conditions.len() {
            let is_stale = self.stale_at(index, condition, interval).is_some_and(|due| due <= at);
            let alarm = self.devices[index.0 as usize].conditions.alarm_mut(condition);
            if let Some(alarm) = alarm.filter(|alarm| is_stale && alarm.state == AlarmState::Active) {
                (alarm.state, alarm.updated_at) = (AlarmState::Stale, at);
                effects.alarms.push(alarm.clone());
            }
        }
        self.end_babble(&site, index, at, effects);
        self.lift_masks(index, at, effects);
        self.end_permits(&site, index, at, effects);
        self.schedule_device(index);
    }

    /// What a permit explains for a while only, and what stands longer, is brought to a case.
    fn end_permits(&mut self, site: &Site, index: DeviceIndex, at: Timestamp, effects: &mut Effects) {
        let profile = site.profile_of(site.device(index));
        let is_over = |(condition, slot): (usize, &ConditionState)| {
            permit_runs_out(&profile.conditions[condition], slot).is_some_and(|end| end <= at)
        };
        let has_run_out = self.devices[index.0 as usize].conditions.iter().any(is_over);
        if has_run_out {
            self.reconsider(index, at, effects);
        }
    }

    /// A mask ends by itself; what it hid and still stands is brought to a case now.
    fn lift_masks(&mut self, index: DeviceIndex, at: Timestamp, effects: &mut Effects) {
        let state = &mut self.devices[index.0 as usize];
        let before = state.masks.len();
        state.masks.retain(|mask| mask.until > at);
        if state.masks.len() == before {
            return;
        }
        let device_id = self.site.device(index).id.clone();
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.audit(KERBSIDE, "mask_ended", &device_id, "");
        self.reconsider(index, at, effects);
    }
}

/// When a permit no longer explains an alarm that it explains now.
fn permit_runs_out(condition: &Condition, slot: &ConditionState) -> Option<Timestamp> {
    let alarm = slot.alarm.as_ref().filter(|alarm| alarm.suppressed == Some(Suppression::Permit))?;
    Some(alarm.opened_at.plus(condition.permit_at_most?))
}
