//! From what detectors say to alarms, and from alarms to cases: raising, worsening, clearing, and why no case is opened.

use std::sync::Arc;

use kerbside_model::profile::{Profile, Rule};
use kerbside_model::{
    Alarm, DeviceIndex, Effects, MaskKind, ServiceState, Severity, Site, Suppression, Timestamp, vocabulary,
};

use crate::Engine;
use crate::alarms::{Change, settle, strongest};
use crate::cases::report;
use crate::decode::Certainty;
use crate::detect::Phase;
use crate::device::{DeviceState, stale_after};
use crate::engine::interval_of;
use crate::evidence::evidence;
use crate::explain::around::seen_around;
use crate::explain::{explain, span, span_zh, unsure};
use crate::walk::Sight;

impl Engine {
    /// A standing alarm that was taken over is left to its detectors once they know: when one says that all is well,
    /// none says otherwise, and none still waits for its point. A point that stays away for long never comes.
    pub(crate) fn end_carried(&mut self, index: DeviceIndex, condition: usize, at: Timestamp) {
        let site = Arc::clone(&self.site);
        let device = site.device(index);
        let state = &mut self.devices[index.0 as usize];
        if !state.conditions.get(condition).is_some_and(|slot| slot.carried) {
            return;
        }
        let is_patient = at.since(state.listening_since) < stale_after(interval_of(&site, device));
        let mut is_fine = false;
        for (detector, slot) in site.profile_of(device).detectors.iter().zip(&state.detectors) {
            if usize::from(detector.condition) != condition {
                continue;
            }
            match slot.phase {
                Phase::Clear => is_fine = true,
                Phase::Unknown if is_patient => return,
                Phase::Unknown => {}
                Phase::Rising | Phase::Active | Phase::Falling | Phase::Doubted => return,
            }
        }
        state.conditions.entry(condition).carried = !is_fine;
    }

    pub(crate) fn settle_condition(
        &mut self,
        index: DeviceIndex,
        condition: usize,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        let site = Arc::clone(&self.site);
        let device = site.device(index);
        let profile = site.profile_of(device);
        let interval = interval_of(&site, device);
        let certainty = self.certainty();
        let clock = self.decoders.at(site.profile_index(index)).clock();
        let local = clock.local(at, clock.place(device));
        let state = &mut self.devices[index.0 as usize];
        let texts = |state: &DeviceState, position: usize| {
            let texts = explain(profile, state, position, at, (interval, local.as_ref()));
            if certainty == Certainty::Unsure { unsure(texts) } else { texts }
        };
        match settle(state, &device.id, profile, condition, at, &texts) {
            Change::None => {}
            Change::Raised => {
                self.note_evidence(index, condition, at);
                self.announce(index, condition, at, effects);
            }
            Change::Worsened => {
                self.note_evidence(index, condition, at);
                self.worsen(index, condition, at, effects);
            }
            Change::Revived => {
                if let Some(alarm) = self.devices[index.0 as usize].conditions.alarm(condition) {
                    effects.alarms.push(alarm.clone());
                }
            }
            Change::Cleared => self.clear(index, condition, at, effects),
        }
    }

    /// Keeps with an alarm what made it.
    fn note_evidence(&mut self, index: DeviceIndex, condition: usize, at: Timestamp) {
        let site = Arc::clone(&self.site);
        let profile = site.profile_of(site.device(index));
        let state = &mut self.devices[index.0 as usize];
        let found = strongest(state, profile, condition);
        let found = found.map(|(position, _)| (position, evidence(profile, state, position, at)));
        let found = found.map(|(position, mut evidence)| {
            if profile.detectors[position].around.is_some() {
                let seen = self.outlook.seen(&site, index, (&self.devices, &self.incidents), at);
                evidence.grounds.extend(seen_around(&seen));
            }
            evidence
        });
        let state = &mut self.devices[index.0 as usize];
        if let Some(alarm) = state.conditions.alarm_mut(condition) {
            alarm.evidence = found.map(Box::new);
        }
    }

    /// A new alarm goes to its case and out.
    pub(crate) fn announce(&mut self, index: DeviceIndex, condition: usize, at: Timestamp, effects: &mut Effects) {
        self.walk_sees(index, condition, Sight::Raised, at);
        self.bring_to_case(index, condition, at, effects);
        if let Some(alarm) = self.devices[index.0 as usize].conditions.alarm(condition) {
            effects.counts.alarms_raised[alarm.severity as usize] += 1;
            effects.alarms.push(alarm.clone());
        }
    }

    fn worsen(&mut self, index: DeviceIndex, condition: usize, at: Timestamp, effects: &mut Effects) {
        let Some(alarm) = self.devices[index.0 as usize].conditions.alarm(condition).cloned() else { return };
        match &alarm.case_id {
            Some(case_id) => {
                let (mut ctx, cases) = self.case_context(at, effects);
                cases.worsen(&mut ctx, case_id, alarm.severity, (&alarm.explanation, &alarm.explanation_zh));
            }
            None => self.bring_to_case(index, condition, at, effects),
        }
        if let Some(alarm) = self.devices[index.0 as usize].conditions.alarm(condition) {
            effects.alarms.push(alarm.clone());
        }
    }

    pub(crate) fn clear(&mut self, index: DeviceIndex, condition: usize, at: Timestamp, effects: &mut Effects) {
        let Some(slot) = self.devices[index.0 as usize].conditions.get_mut(condition) else { return };
        let Some(alarm) = slot.alarm.take() else { return };
        slot.carried = false;
        let case_id = slot.case_id.clone();
        self.walk_sees(index, condition, Sight::Cleared, at);
        self.leave_incident(&alarm.device, &alarm.condition, at);
        effects.counts.alarms_cleared += 1;
        if let Some(case_id) = case_id.filter(|_| alarm.case_id.is_some()) {
            let (mut ctx, cases) = self.case_context(at, effects);
            cases.clear(&mut ctx, &case_id);
            if self.cases.get(&case_id).is_none() {
                self.devices[index.0 as usize].conditions.entry(condition).case_id = None;
            }
        }
        effects.alarms.push(*alarm);
    }

    /// Opens a case for a standing alarm, lets it join an open one, or notes why not.
    fn bring_to_case(&mut self, index: DeviceIndex, condition: usize, at: Timestamp, effects: &mut Effects) {
        let site = Arc::clone(&self.site);
        let device = site.device(index);
        let mut suppression = self.suppression(&site, index, condition, at);
        if matches!(suppression, None | Some(Suppression::NoCase)) {
            self.take_together(index, condition, at, effects);
            suppression = suppression.or_else(|| self.explained(&site, index, condition));
        }
        let state = &mut self.devices[index.0 as usize];
        let warning = warning_of_others(site.profile_of(device), state, condition);
        let device_is_permitted = state.mask_at(at, MaskKind::Permit).is_some();
        let Some(slot) = state.conditions.get_mut(condition) else { return };
        let Some(alarm) = slot.alarm.as_mut() else { return };
        if let Some(reason) = suppression {
            if alarm.suppressed != Some(reason) {
                effects.counts.suppressed[reason as usize] += 1;
            }
            alarm.suppressed = Some(reason);
            return;
        }
        if alarm.suppressed.take() == Some(Suppression::Permit) {
            say_why_no_permit_explains_it(alarm, device_is_permitted, at);
        }
        let episode = alarm.id.clone();
        let mut report = report(&site, device, condition, alarm);
        if let Some((warning, warning_zh)) = warning {
            report.explanation.push_str(&warning);
            report.explanation_zh.push_str(&warning_zh);
        }
        let known = slot.case_id.clone();
        let (mut ctx, cases) = self.case_context(at, effects);
        let joined = known.filter(|case_id| cases.join(&mut ctx, case_id, &episode, &report));
        let case_id = joined.unwrap_or_else(|| cases.open(&mut ctx, report, &episode));
        let slot = self.devices[index.0 as usize].conditions.entry(condition);
        if let Some(alarm) = slot.alarm.as_mut() {
            alarm.case_id = Some(case_id.clone());
        }
        slot.case_id = Some(case_id);
    }

    pub(crate) fn suppression(
        &self,
        site: &Site,
        index: DeviceIndex,
        condition: usize,
        at: Timestamp,
    ) -> Option<Suppression> {
        let device = site.device(index);
        let rule = &site.profile_of(device).conditions[condition];
        let state = &self.devices[index.0 as usize];
        let alarm = state.conditions.alarm(condition)?;
        if !rule.opens_case || alarm.severity < site.facts().cases.severity_min {
            return Some(Suppression::NoCase);
        }
        if alarm.severity == Severity::Notice && self.is_suspicion(site, index, condition) {
            return Some(Suppression::NoCase);
        }
        if alarm.case_id.as_deref().is_some_and(|case_id| self.cases.is_ended(case_id)) {
            return Some(Suppression::Void);
        }
        match device.service {
            ServiceState::Commissioning => return Some(Suppression::NotCommissioned),
            ServiceState::Maintenance => return Some(Suppression::Maintenance),
            ServiceState::InService => {}
        }
        if self.is_walked(&device.id) {
            return Some(Suppression::WalkTest);
        }
        if state.mask_at(at, MaskKind::Maintenance).is_some() {
            return Some(Suppression::Maintenance);
        }
        let is_permitted = state.mask_at(at, MaskKind::Permit).is_some()
            && rule.permit_at_most.is_none_or(|at_most| at < alarm.opened_at.plus(at_most));
        (is_permitted && vocabulary::is_explained_by_permit(&rule.name)).then_some(Suppression::Permit)
    }

    /// Whether a learner alone holds a condition up: a note that is only unusual sends nobody out, whatever opens cases.
    fn is_suspicion(&self, site: &Site, index: DeviceIndex, condition: usize) -> bool {
        let found = strongest(&self.devices[index.0 as usize], site.profile_of(site.device(index)), condition);
        found.is_some_and(|(_, detector)| matches!(detector.rule, Rule::Unusual(_)))
    }

    /// Standing alarms without a case are looked at again: a mask ended, or the device came into service.
    pub(crate) fn reconsider(&mut self, index: DeviceIndex, at: Timestamp, effects: &mut Effects) {
        let conditions: Vec<usize> =
            self.devices[index.0 as usize].conditions.iter().map(|(condition, _)| condition).collect();
        for condition in conditions {
            let waits = |alarm: &Alarm| {
                alarm.case_id.is_none() && alarm.suppressed.is_some_and(|reason| reason != Suppression::Void)
            };
            let alarm = self.devices[index.0 as usize].conditions.alarm(condition);
            let Some(before) = alarm.filter(|alarm| waits(alarm)).map(|alarm| alarm.suppressed) else { continue };
            self.bring_to_case(index, condition, at, effects);
            if let Some(alarm) = self.devices[index.0 as usize].conditions.alarm_mut(condition)
                && alarm.suppressed != before
            {
                alarm.updated_at = at;
                effects.alarms.push(alarm.clone());
            }
        }
    }

    /// Shows on the alarm that its case was ended by a person or the platform while the condition stands.
    pub(crate) fn mark_ended(&mut self, case_id: &str, at: Timestamp, effects: &mut Effects) {
        let Some(case) = self.cases.get(case_id).filter(|case| case.state.is_final()) else { return };
        let Some(index) = self.site.find(&case.device) else { return };
        for slot in self.devices[index.0 as usize].conditions.iter_mut() {
            if slot.case_id.as_deref() != Some(case_id) {
                continue;
            }
            if let Some(alarm) = slot.alarm.as_mut().filter(|alarm| alarm.suppressed.is_none()) {
                alarm.suppressed = Some(Suppression::Void);
                alarm.updated_at = at;
                effects.counts.suppressed[Suppression::Void as usize] += 1;
                effects.alarms.push((**alarm).clone());
            }
        }
    }
}

/// What people on the spot must know besides: another condition of the device stands that is a danger to them.
fn warning_of_others(profile: &Profile, state: &DeviceState, condition: usize) -> Option<(String, String)> {
    let mut standing = state.conditions.iter().filter(|(other, slot)| *other != condition && slot.alarm.is_some());
    standing.find_map(|(other, _)| {
        let other = &profile.conditions[other];
        let (warning, warning_zh) = vocabulary::warning(&other.name)?;
        let en = if other.title.contains(warning) { String::new() } else { format!(", {warning}") };
        let zh = if other.title_zh.contains(warning_zh) { String::new() } else { format!("，{warning_zh}") };
        Some((format!("; {}{en}", other.title), format!("；{}{zh}", other.title_zh)))
    })
}

/// An opening that was authorised and became a case: it took too long, or was left open behind its permit.
fn say_why_no_permit_explains_it(alarm: &mut Alarm, is_permitted: bool, at: Timestamp) {
    let stood = at.since(alarm.opened_at);
    let (en, zh) = if is_permitted {
        (
            format!("; stands for {} under its permit, longer than that explains", span(stood)),
            format!("；施工许可期间已持续 {}，超过许可可解释的时长", span_zh(stood)),
        )
    } else {
        (
            format!("; its permit has ended and it still stands, for {} by now", span(stood)),
            format!("；施工许可已结束而状况仍在，已持续 {}", span_zh(stood)),
        )
    };
    alarm.explanation.push_str(&en);
    alarm.explanation_zh.push_str(&zh);
}
