//! Incidents: alarms that most likely have one cause open one case instead of one each.
//!
//! An alarm is looked at when it is about to open a case. Water and opened covers are linked in space and time
//! (`linkage.rs`); devices on one parent are counted. Whoever stands in an incident with a case opens none of its own,
//! and says so (`suppressed: incident`); dangers to life always keep theirs. When the incident ends, what still stands
//! is brought to a case of its own: no alarm is lost. State survives a crash in the snapshot; after an upgrade that
//! cannot read it, standing alarms are taken together anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::id::hashed;
use kerbside_model::incident::{GroupRule, IncidentKind, Linkage};
use kerbside_model::inventory::Device;
use kerbside_model::profile::Rule;
use kerbside_model::vocabulary::{self, COVERS_OPENED, HEAVY_RAIN, MAINS_LOST, OUTAGE, SOURCE_DOWN, STORM};
use kerbside_model::{
    Alarm, CaseReport, Datum, DeviceIndex, Effects, MaskKind, NoticeReason, ServiceState, Severity, Site, Suppression,
    Timestamp,
};

use crate::Engine;
use crate::cases::KERBSIDE;
use crate::engine::interval_of;
use crate::grouping::{ENDED_KEPT_MAX, Ended, FamilyIndex, Record};
use crate::incident_text::{explanation, in_both, summary};
use crate::linkage::{Area, Place};
use crate::timers::TimerKey;

/// What a storm does to drains and roads.
pub(crate) const STORM_CONDITIONS: [&str; 3] = ["surcharged", "surging", "flooded"];
/// What a thief does to a cover.
const COVER_CONDITION: &str = "displaced";
/// Nobody hears the device.
pub(crate) const SILENT: &str = "silent";
/// A parent that has one of these explains the silence of what hangs on it.
const PARENT_CONDITIONS: [&str; 2] = [SILENT, MAINS_LOST];
/// Children that fell silent together with one that is found silent now have missed one report less at most, give or
/// take this share of a period.
const JITTER: f64 = 0.1;
/// Whoever has not missed this many periods may merely be late.
const OVERDUE_PERIODS_MIN: f64 = 1.5;
/// An outage ends when nothing has changed for so many periods.
pub(crate) const QUIET_PERIODS: f64 = 2.0;
/// The same for devices without a known period.
pub(crate) const QUIET_DEFAULT: Duration = Duration::from_secs(3_600);
/// An outage ends no later than this after the last change: daily reporters would keep it open for days.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(6 * 3_600);

/// What takes a device's alarms together with others.
enum Taker<'a> {
    Chain(IncidentKind, &'a Linkage),
    Outage,
    Groups,
}

impl Engine {
    /// Whether a storm has water standing somewhere. Sources then read levels more often; the incident itself stays open
    /// for a while, since rain comes back.
    pub fn has_storm(&self) -> bool {
        self.incidents.open().any(|record| record.kind == IncidentKind::Storm && record.standing > 0)
    }

    /// How many incidents of each kind stand, in the order of [`IncidentKind::ALL`].
    pub fn open_incidents(&self) -> [usize; IncidentKind::ALL.len()] {
        let mut counts = [0; IncidentKind::ALL.len()];
        self.incidents.open().for_each(|record| counts[record.kind as usize] += 1);
        counts
    }

    /// An alarm that would open a case is taken together with others, if it is near them.
    pub(crate) fn take_together(&mut self, index: DeviceIndex, condition: usize, at: Timestamp, effects: &mut Effects) {
        let Some(alarm) = self.devices[index.0 as usize].conditions.alarm(condition).cloned() else { return };
        let site = Arc::clone(&self.site);
        let policy = &site.facts().incidents;
        if let Some(record) = self.incidents.open_of(&alarm.device, &alarm.condition) {
            let id = record.id.clone();
            if !record.has_standing(&alarm) {
                self.forget_timer(&id);
                self.incidents.put(&id, &alarm, at);
                self.schedule_incident(&id);
            }
            self.note_wish(&site, &id, (index, condition), at);
            self.worsen_incident(&id, alarm.severity, at, effects);
            return self.bring_incident_to_case(&site, &id, at, effects);
        }
        if alarm.condition == HEAVY_RAIN {
            self.incidents.rain_stations.insert(alarm.device);
            return self.open_waiting_storms(at, effects);
        }
        let taker = match alarm.condition.as_str() {
            SILENT => Taker::Outage,
            COVER_CONDITION => Taker::Chain(IncidentKind::Covers, &policy.covers),
            name if STORM_CONDITIONS.contains(&name) => Taker::Chain(IncidentKind::Storm, &policy.storm),
            name if policy.groups.iter().any(|rule| rule.condition == name) => Taker::Groups,
            _ => return,
        };
        let id = match taker {
            Taker::Chain(kind, rule) => self.take_into_chain(index, &alarm, (kind, rule), at),
            Taker::Outage => self.take_into_outage(index, &alarm, at),
            Taker::Groups => self.take_into_groups(index, &alarm, at),
        };
        if let Some(id) = id {
            self.note_wish(&site, &id, (index, condition), at);
            self.open_or_grow(&id, at, effects);
        }
    }

    /// Notes that a member asks for a case and will get none of its own: then the incident needs one. Rain that raises a
    /// few levels, and nothing that opens a case, is shown and no more.
    fn note_wish(&mut self, site: &Site, id: &str, (index, condition): (DeviceIndex, usize), at: Timestamp) {
        let is_for_case = self.suppression(site, index, condition, at).is_none();
        let rule = &site.profile_of(site.device(index)).conditions[condition];
        let severity = self.devices[index.0 as usize].conditions.alarm(condition).map(|alarm| alarm.severity);
        let is_for_life = rule.life.unwrap_or(severity == Some(Severity::Critical));
        if let Some(record) = self.incidents.records.get_mut(id).filter(|_| is_for_case && !is_for_life) {
            record.wants_case |= record.kind != IncidentKind::Covers;
        }
    }

    /// Links an alarm with those near it. Gives the chain that it is in now.
    fn take_into_chain(
        &mut self,
        index: DeviceIndex,
        alarm: &Alarm,
        (kind, rule): (IncidentKind, &Linkage),
        at: Timestamp,
    ) -> Option<String> {
        if at.since(alarm.opened_at) >= rule.within * 2 {
            // It stood before, and what it was part of is over.
            return None;
        }
        let site = Arc::clone(&self.site);
        let device = site.device(index);
        let place = place_of(device);
        let linked = self.incidents.linked(kind, &place, alarm.opened_at, rule);
        let id = linked.first().cloned().unwrap_or_else(|| {
            let parent = if device.parent.is_empty() { &device.id } else { &device.parent };
            let condition = if kind == IncidentKind::Storm { STORM } else { COVERS_OPENED };
            self.begin(record(kind, (parent, condition, ""), alarm, rule.within * 2, None))
        });
        for other in linked.iter().skip(1) {
            let is_gathering = self.incidents.records.get(other).is_some_and(|other| other.opened_at.is_none());
            if is_gathering {
                self.forget_timer(other);
                self.merge(&id, other, rule);
            }
        }
        self.forget_timer(&id);
        self.incidents.put(&id, alarm, at);
        if let Some(record) = self.incidents.records.get_mut(&id) {
            record.area.add(&place, alarm.opened_at, rule);
        }
        while let Some(oldest) = self.incidents.beyond_limit() {
            self.forget_timer(&oldest);
            self.incidents.remove(&oldest);
        }
        Some(id)
    }

    /// Two chains that never opened become one.
    fn merge(&mut self, id: &str, other: &str, rule: &Linkage) {
        let site = Arc::clone(&self.site);
        let members = self.incidents.records.get(other).map(|record| record.members.clone()).unwrap_or_default();
        self.incidents.absorb(id, other);
        let Some(record) = self.incidents.records.get_mut(id) else { return };
        for ((device, _), member) in &members {
            let Some(index) = site.find(device) else { continue };
            record.area.add(&place_of(site.device(index)), member.raised_at, rule);
        }
    }

    /// Gives the outage of a silent device, once there is one: that of its link, which is the larger, or that of its
    /// parent.
    fn take_into_outage(&mut self, index: DeviceIndex, alarm: &Alarm, at: Timestamp) -> Option<String> {
        let families = self.families.of_silence(index);
        for family in &families {
            if let Some(id) = self.open_on(self.families.at(*family).0, OUTAGE) {
                self.forget_timer(&id);
                self.incidents.put(&id, alarm, at);
                return Some(id);
            }
        }
        families.into_iter().find_map(|family| self.begin_outage(family, alarm, at))
    }

    /// Counts who else on the parent or link is silent. Gives the outage, when these are enough.
    fn begin_outage(&mut self, family: FamilyIndex, alarm: &Alarm, at: Timestamp) -> Option<String> {
        let site = Arc::clone(&self.site);
        let policy = &site.facts().incidents;
        let (parent, family) = self.families.at(family);
        let (parent, family) = (parent.to_owned(), family.to_vec());
        let cause = self.alarm_of_parent(&site, &parent);
        let quorum = quorum(policy.outage_devices, policy.outage_share, family.len());
        let silent = family.iter().filter(|other| self.is_overdue(&site, **other, at)).count();
        if silent < quorum && cause.is_none() {
            return None;
        }
        let quiet = quiet_of(&site, &family);
        let quorum = if silent < quorum { 1 } else { quorum };
        let mut outage = record(IncidentKind::Outage, (&parent, OUTAGE, SILENT), alarm, quiet, Some(quorum));
        outage.counted = silent;
        outage.case_id = cause.and_then(|(_, case_id)| case_id).filter(|case_id| !self.cases.is_ended(case_id));
        let id = self.begin(outage);
        self.put_standing(&id, &family, SILENT, at);
        Some(id)
    }

    /// The rules about its condition, in their order: the first with enough devices takes the alarm.
    fn take_into_groups(&mut self, index: DeviceIndex, alarm: &Alarm, at: Timestamp) -> Option<String> {
        let site = Arc::clone(&self.site);
        let rules = site.facts().incidents.groups.iter().filter(|rule| rule.condition == alarm.condition);
        for rule in rules {
            for family in self.families.of_rule(&site, index, rule) {
                let taken = self.take_into_group(family, alarm, rule, at);
                if taken.is_some() {
                    return taken;
                }
            }
        }
        None
    }

    /// Counts who else on the parent, or with the tag, has the condition. Gives the incident, once there is one.
    fn take_into_group(
        &mut self,
        family: FamilyIndex,
        alarm: &Alarm,
        rule: &GroupRule,
        at: Timestamp,
    ) -> Option<String> {
        let (parent, family) = self.families.at(family);
        if let Some(id) = self.open_on(parent, &rule.becomes) {
            self.forget_timer(&id);
            self.incidents.put(&id, alarm, at);
            return Some(id);
        }
        let (parent, family) = (parent.to_owned(), family.to_vec());
        let quorum = quorum(rule.devices, rule.share, family.len());
        let is_near = |other: &Alarm| other.opened_at.0.abs_diff(alarm.opened_at.0) as u128 <= rule.within.as_millis();
        let having = family.iter().filter(|other| self.standing(**other, &rule.condition).is_some_and(is_near)).count();
        if having < quorum {
            return None;
        }
        let subject = (parent.as_str(), rule.becomes.as_str(), rule.condition.as_str());
        let mut group = record(IncidentKind::Group, subject, alarm, QUIET_DEFAULT, Some(quorum));
        group.severity = group.severity.max(rule.severity);
        let id = self.begin(group);
        self.put_standing(&id, &family, &rule.condition, at);
        Some(id)
    }

    /// Puts all of a family into an incident that have its condition and are not somebody's work.
    pub(crate) fn put_standing(&mut self, id: &str, family: &[DeviceIndex], condition: &str, at: Timestamp) {
        for other in family {
            let held = self.incidents.open_of(&self.site.device(*other).id, condition);
            if held.is_some_and(|record| record.id != id) {
                // It is in another one, which has a case.
                continue;
            }
            if let Some(alarm) = self.standing(*other, condition).cloned() {
                self.incidents.put(id, &alarm, at);
            }
        }
    }

    /// The standing alarm of a device that counts for an incident: in service, and not in a walk test.
    pub(crate) fn standing(&self, index: DeviceIndex, condition: &str) -> Option<&Alarm> {
        let device = self.site.device(index);
        if device.service != ServiceState::InService || self.is_walked(&device.id) {
            return None;
        }
        let alarms = self.devices[index.0 as usize].conditions.iter().filter_map(|(_, slot)| slot.alarm.as_deref());
        alarms.into_iter().find(|alarm| alarm.condition == condition)
    }

    /// Whether a device is silent, or has missed one report less than makes it so.
    fn is_overdue(&self, site: &Site, index: DeviceIndex, at: Timestamp) -> bool {
        if self.standing(index, SILENT).is_some() {
            return true;
        }
        let device = site.device(index);
        if device.service != ServiceState::InService || self.is_walked(&device.id) || self.is_deaf_to(index) {
            return false;
        }
        let state = &self.devices[index.0 as usize];
        if state.mask_at(at, MaskKind::Maintenance).is_some() {
            return false;
        }
        let Some(period) = interval_of(site, device) else { return false };
        let detectors = site.profile_of(device).detectors.iter().zip(&state.detectors);
        let silences = detectors.filter(|(detector, _)| matches!(detector.rule, Rule::Silence { .. }));
        silences.filter_map(|(detector, slot)| slot.patience(&detector.rule, Some(period))).any(|patience| {
            let one_less = patience.saturating_sub(period.mul_f64(1.0 + JITTER));
            at.since(state.heard_from()) >= one_less.max(period.mul_f64(OVERDUE_PERIODS_MIN))
        })
    }

    /// An alarm at the parent itself that explains why its children are silent: its condition and case.
    pub(crate) fn alarm_of_parent(&self, site: &Site, parent: &str) -> Option<(String, Option<String>)> {
        let index = site.find(parent)?;
        let alarm = PARENT_CONDITIONS.into_iter().find_map(|condition| self.standing(index, condition))?;
        Some((alarm.condition.clone(), alarm.case_id.clone()))
    }

    fn open_on(&self, parent: &str, condition: &str) -> Option<String> {
        let mut open = self.incidents.open();
        open.find(|record| record.parent == parent && record.condition == condition).map(|record| record.id.clone())
    }

    fn begin(&mut self, record: Record) -> String {
        let id = record.id.clone();
        self.incidents.records.insert(id.clone(), record);
        id
    }

    /// Opens a record that has enough devices, or tells that an open one has grown.
    pub(crate) fn open_or_grow(&mut self, id: &str, at: Timestamp, effects: &mut Effects) {
        let site = Arc::clone(&self.site);
        let policy = &site.facts().incidents;
        let Some(record) = self.incidents.records.get(id) else { return };
        let (devices, is_open, severity) = (record.devices, record.opened_at.is_some(), record.severity);
        let needed = match record.kind {
            IncidentKind::Storm if self.is_rain_known(at) => 1,
            IncidentKind::Storm => policy.storm.devices as usize,
            IncidentKind::Covers => policy.covers.devices as usize,
            IncidentKind::Outage | IncidentKind::Group | IncidentKind::Source => 1,
        };
        let step = Record::step_of(devices);
        match is_open {
            false if devices >= needed => self.open_incident(id, at, effects),
            true if step > record.told => self.grow(id, step, at, effects),
            true => self.worsen_incident(id, severity, at, effects),
            false => {}
        }
        self.bring_incident_to_case(&site, id, at, effects);
        self.schedule_incident(id);
    }

    /// The worst of its alarms is worse than before.
    fn worsen_incident(&mut self, id: &str, severity: Severity, at: Timestamp, effects: &mut Effects) {
        let Some(record) = self.incidents.records.get_mut(id) else { return };
        record.severity = record.severity.max(severity);
        let own = record.case_id.as_deref().filter(|_| record.owns_case).and_then(|case_id| self.cases.get(case_id));
        let Some(case) = own.filter(|case| case.severity < record.severity) else { return };
        let (case_id, severity, texts) = (case.id.clone(), record.severity, explanation(record));
        let (mut ctx, cases) = self.case_context(at, effects);
        cases.worsen(&mut ctx, &case_id, severity, (&texts.0, &texts.1));
    }

    fn open_incident(&mut self, id: &str, at: Timestamp, effects: &mut Effects) {
        let Some(record) = self.incidents.records.get_mut(id) else { return };
        record.opened_at = Some(at);
        record.told = Record::step_of(record.devices);
        let explanation = explanation(record).0;
        effects.counts.incidents_opened += 1;
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.audit(KERBSIDE, "incident_opened", id, &explanation);
    }

    /// Opens the case of an incident that stands and needs one, or lets it join the open one of its parent.
    fn bring_incident_to_case(&mut self, site: &Site, id: &str, at: Timestamp, effects: &mut Effects) {
        let Some(record) = self.incidents.records.get_mut(id) else { return };
        if record.opened_at.is_none() || record.case_id.is_some() || !record.wants_case {
            return;
        }
        if matches!(record.kind, IncidentKind::Storm | IncidentKind::Outage) {
            record.severity = record.severity.max(Severity::Major);
        }
        if record.severity < site.facts().cases.severity_min {
            return;
        }
        let report = report_of(site, record);
        let (mut ctx, cases) = self.case_context(at, effects);
        let open = cases.open_on(&report.device, &report.condition);
        let joined = open.filter(|case_id| cases.join(&mut ctx, case_id, id, &report));
        let case_id = joined.unwrap_or_else(|| cases.open(&mut ctx, report, id));
        if let Some(record) = self.incidents.records.get_mut(id) {
            (record.case_id, record.owns_case) = (Some(case_id), true);
        }
    }

    fn grow(&mut self, id: &str, step: usize, at: Timestamp, effects: &mut Effects) {
        let Some(record) = self.incidents.records.get_mut(id) else { return };
        record.told = step;
        let (texts, severity, owns_case) = (explanation(record), record.severity, record.owns_case);
        let case_id = record.case_id.clone();
        let (mut ctx, cases) = self.case_context(at, effects);
        ctx.audit(KERBSIDE, "incident_grew", id, &texts.0);
        let Some(case_id) = case_id else { return };
        if owns_case {
            cases.restate(&case_id, severity, &texts);
        }
        let detail = if owns_case { String::new() } else { in_both(&texts) };
        cases.tell(&mut ctx, &case_id, NoticeReason::Grown, (&texts.0, &detail));
    }

    /// What a member of an incident with a case is kept from opening a case by. Dangers to life are not. A case that a
    /// person or the platform has ended explains those that were in it by then, and nobody who comes after.
    pub(crate) fn explained(&self, site: &Site, index: DeviceIndex, condition: usize) -> Option<Suppression> {
        let device = site.device(index);
        let rule = &site.profile_of(device).conditions[condition];
        let record = self.incidents.open_of(&device.id, &rule.name)?;
        let slot = self.devices[index.0 as usize].conditions.get(condition)?;
        let alarm = slot.alarm.as_ref()?;
        let is_for_life = rule.life.unwrap_or(alarm.severity == Severity::Critical);
        let is_held = record.case_id.as_deref().is_some_and(|case_id| {
            let is_open = self.cases.get(case_id).is_some_and(|case| !case.state.is_final());
            is_open || alarm.suppressed == Some(Suppression::Incident)
        });
        let has_own = slot.case_id.as_deref().is_some_and(|case_id| {
            let case = self.cases.get(case_id);
            case.is_some_and(|case| !case.state.is_final()) && record.case_id.as_deref() != Some(case_id)
        });
        (is_held && !is_for_life && !has_own).then_some(Suppression::Incident)
    }

    /// The parent is well again, and with it the case that explained its children: they have two periods to come back.
    fn let_outage_run_out(&mut self, parent: &str, at: Timestamp) {
        let Some(id) = self.open_on(parent, OUTAGE) else { return };
        self.forget_timer(&id);
        if let Some(record) = self.incidents.records.get_mut(&id).filter(|record| !record.owns_case) {
            record.quorum = Some(usize::MAX);
            record.changed_at = record.changed_at.max(at);
        }
        self.schedule_incident(&id);
    }

    /// An alarm is over: its incident shrinks.
    pub(crate) fn leave_incident(&mut self, device: &str, condition: &str, at: Timestamp) {
        if condition == HEAVY_RAIN {
            self.incidents.rain_stations.remove(device);
        }
        if PARENT_CONDITIONS.contains(&condition) {
            self.let_outage_run_out(device, at);
        }
        if self.incidents.of_member.is_empty() {
            return;
        }
        let Some(id) = self.incidents.of_member.get(&(device.to_owned(), condition.to_owned())).cloned() else {
            return;
        };
        self.forget_timer(&id);
        self.incidents.cleared(device, condition, at);
        self.schedule_incident(&id);
    }

    pub(crate) fn schedule_incident(&mut self, id: &str) {
        if let Some(due) = self.incidents.records.get(id).and_then(Record::due) {
            self.timers.set(due, TimerKey::Incident(id.to_owned()));
        }
    }

    /// Before a record changes: its timer is known by what it was.
    pub(crate) fn forget_timer(&mut self, id: &str) {
        if let Some(due) = self.incidents.records.get(id).and_then(Record::due) {
            self.timers.remove(due, TimerKey::Incident(id.to_owned()));
        }
    }

    /// Sets every timer anew.
    pub(crate) fn schedule_incidents(&mut self) {
        self.schedule_losses();
        let ids: Vec<String> = self.incidents.records.keys().cloned().collect();
        ids.iter().for_each(|id| self.schedule_incident(id));
    }

    /// Nothing has changed for long: the incident ends, or the chain stops gathering.
    pub(crate) fn serve_incident(&mut self, id: &str, at: Timestamp, effects: &mut Effects) {
        let is_due = self.incidents.records.get(id).and_then(Record::due).is_some_and(|due| due <= at);
        if !is_due {
            return self.schedule_incident(id);
        }
        let Some(record) = self.incidents.remove(id) else { return };
        if record.opened_at.is_some() {
            self.end_incident(record, at, effects);
        }
    }

    pub(crate) fn end_incident(&mut self, mut record: Record, at: Timestamp, effects: &mut Effects) {
        let summary = summary(&record, at);
        let is_last = record.case_id.as_deref().is_some_and(|case_id| !self.incidents.holds(case_id));
        let (mut ctx, cases) = self.case_context(at, effects);
        ctx.audit(KERBSIDE, "incident_ended", &record.id, &summary.0);
        if let Some(case_id) = record.case_id.as_deref() {
            if record.owns_case {
                cases.restate(case_id, record.severity, &summary);
            }
            let detail = if record.owns_case { String::new() } else { in_both(&summary) };
            cases.tell(&mut ctx, case_id, NoticeReason::Over, (&summary.0, &detail));
            if record.owns_case && is_last {
                cases.clear(&mut ctx, case_id);
            }
        }
        let standing: Vec<String> = record
            .members
            .iter()
            .filter(|(_, member)| member.is_standing)
            .map(|((device, _), _)| device.clone())
            .collect();
        record.shorten();
        self.incidents.ended.push_back(Ended { record, at, summary });
        if self.incidents.ended.len() > ENDED_KEPT_MAX {
            self.incidents.ended.pop_front();
        }
        for device in standing {
            if let Some(index) = self.site.find(&device) {
                self.reconsider(index, at, effects);
            }
        }
    }

    /// After a change of the site: alarms that went with their device or condition stand no more.
    pub(crate) fn refresh_incidents(&mut self, at: Timestamp) {
        self.incidents.forget_future(at);
        let site = Arc::clone(&self.site);
        let mut gone = Vec::new();
        for record in self.incidents.records.values() {
            for ((device, condition), member) in record.members.iter().filter(|(_, member)| member.is_standing) {
                let alarm = site.find(device).and_then(|index| {
                    let slots = self.devices[index.0 as usize].conditions.iter();
                    slots.filter_map(|(_, slot)| slot.alarm.as_deref()).find(|alarm| alarm.condition == *condition)
                });
                if alarm.is_none_or(|alarm| alarm.id != member.alarm) {
                    gone.push((device.clone(), condition.clone()));
                }
            }
        }
        for (device, condition) in gone {
            self.incidents.cleared(&device, &condition, at);
        }
        let mut stations = std::mem::take(&mut self.incidents.rain_stations);
        let rains =
            |station: &String| site.find(station).is_some_and(|index| self.standing(index, HEAVY_RAIN).is_some());
        stations.retain(rains);
        self.incidents.rain_stations = stations;
    }

    /// Cases of incidents that no incident stands behind any more, after a change of the site or an upgrade.
    pub(crate) fn lost_incident_cases(&self) -> Vec<String> {
        let subjects = self.cases.subjects().into_iter();
        let lost = subjects
            .filter(|(id, device, condition)| self.is_of_incident(device, condition) && !self.incidents.holds(id));
        lost.map(|(id, _, _)| id).collect()
    }

    /// Whether a case of this device and condition is an incident's.
    pub(crate) fn is_of_incident(&self, device: &str, condition: &str) -> bool {
        let groups = &self.site.facts().incidents.groups;
        let is_named =
            [STORM, OUTAGE, SOURCE_DOWN].contains(&condition) || groups.iter().any(|rule| rule.becomes == condition);
        let has_itself = self.site.find(device).is_some_and(|index| {
            let profile = self.site.profile_of(self.site.device(index));
            profile.conditions.iter().any(|known| known.name.as_ref() == condition)
        });
        is_named && !has_itself
    }
}

/// A record without members, for its first alarm.
fn record(
    kind: IncidentKind,
    subject: (&str, &str, &str),
    alarm: &Alarm,
    quiet: Duration,
    quorum: Option<usize>,
) -> Record {
    new_record(kind, subject, (&alarm.id, alarm.opened_at, alarm.severity), quiet, quorum)
}

/// A record without members. It begins with something of this id, time and severity.
pub(crate) fn new_record(
    kind: IncidentKind,
    (parent, condition, of): (&str, &str, &str),
    (first, began_at, severity): (&str, Timestamp, Severity),
    quiet: Duration,
    quorum: Option<usize>,
) -> Record {
    Record {
        id: hashed(&["incident", kind.name(), parent, condition, first]),
        kind,
        parent: parent.to_owned(),
        condition: condition.to_owned(),
        of: of.to_owned(),
        began_at,
        opened_at: None,
        changed_at: began_at,
        quiet,
        quorum,
        members: BTreeMap::new(),
        devices: 0,
        standing: 0,
        peak: 0,
        severity,
        case_id: None,
        owns_case: false,
        wants_case: matches!(kind, IncidentKind::Outage | IncidentKind::Group),
        told: 0,
        area: Area::default(),
        counted: 0,
    }
}

/// For how long nothing changes in a family until its outage is over.
pub(crate) fn quiet_of(site: &Site, family: &[DeviceIndex]) -> Duration {
    let periods = family.iter().filter_map(|other| interval_of(site, site.device(*other)));
    periods.max().map_or(QUIET_DEFAULT, |period| period.mul_f64(QUIET_PERIODS).min(QUIET_MAX))
}

/// Where a device stands, as incidents see it.
pub(crate) fn place_of(device: &Device) -> Place<'_> {
    let position = device.position.map(|spot| kerbside_model::geo::convert(spot, device.datum, Datum::Wgs84));
    Place { position, parent: &device.parent }
}

/// So many of a family make an incident.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 0 to 1 of a number of devices")]
pub(crate) fn quorum(devices: u32, share: f64, family: usize) -> usize {
    let by_share = (family as f64 * share).ceil() as usize;
    by_share.max(devices as usize).max(1)
}

/// What the case of an incident says: the parent's facts where the inventory has them, else those of its first device.
fn report_of(site: &Site, record: &Record) -> CaseReport {
    let parent = site.find(&record.parent).map(|index| site.device(index));
    let first = record.members.keys().find_map(|(device, _)| site.find(device)).map(|index| site.device(index));
    let fallback = Device::default();
    let place = parent.or(first).unwrap_or(&fallback);
    let kind = parent.or(first).map(|device| site.profile_of(device).kind);
    let rule = site.facts().incidents.groups.iter().find(|rule| rule.becomes == record.condition);
    let term = vocabulary::condition(&record.condition);
    let (title, title_zh) = match (rule, term) {
        (Some(rule), _) => (rule.title.clone(), rule.title_zh.clone()),
        (None, Some(term)) => (term.en.to_owned(), term.zh.to_owned()),
        (None, None) => (record.condition.clone(), record.condition.clone()),
    };
    let (explanation, explanation_zh) = explanation(record);
    CaseReport {
        case_id: String::new(),
        device: record.parent.clone(),
        device_name: parent.map(|device| device.name.clone()).unwrap_or_default(),
        kind: kind.map_or("", |kind| kind.name()).to_owned(),
        kind_zh: kind.map_or("", |kind| kind.name_zh()).to_owned(),
        condition: record.condition.clone(),
        title,
        title_zh,
        severity: record.severity,
        occurred_at: record.began_at,
        explanation,
        explanation_zh,
        place: place.place.clone(),
        position: place.position,
        datum: place.datum,
        grid: place.grid.clone(),
        component_code: parent.map(|device| device.component_code.clone()).unwrap_or_default(),
        unit: place.unit.clone(),
    }
}
