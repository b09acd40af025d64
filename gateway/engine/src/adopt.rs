//! Incidents after an upgrade that cannot read the snapshot: what is left of each is its case, and the alarms that it
//! kept from cases of their own. From these it is put together again, so that no flood becomes a case for each place of
//! it, and the case ends as any. A case whose alarms are all gone ends with a word that says so. The link of a source
//! has its own way (`losses.rs`).

use std::sync::Arc;

use kerbside_model::incident::IncidentKind;
use kerbside_model::vocabulary::{OUTAGE, SOURCE_DOWN, STORM};
use kerbside_model::{Alarm, Case, Datum, DeviceIndex, Effects, Severity, Site, Suppression, Timestamp};

use crate::Engine;
use crate::grouping::Record;
use crate::incidents::{QUIET_DEFAULT, SILENT, STORM_CONDITIONS, new_record, place_of, quiet_of, quorum};
use crate::linkage::{Area, Place};

/// What is known of an incident by its case.
struct Left {
    case_id: String,
    parent: String,
    condition: String,
    began_at: Timestamp,
    opened_at: Timestamp,
    severity: Severity,
    position: Option<(f64, f64)>,
}

impl Left {
    fn of(case: &Case) -> Left {
        let report = &case.report;
        Left {
            case_id: case.id.clone(),
            parent: case.device.clone(),
            condition: case.condition.clone(),
            began_at: report.occurred_at,
            opened_at: case.opened_at,
            severity: case.severity,
            position: report.position.map(|spot| kerbside_model::geo::convert(spot, report.datum, Datum::Wgs84)),
        }
    }
}

impl Engine {
    /// Cases of incidents that no incident stands behind get theirs back, with the alarms that they explain.
    pub(crate) fn adopt_incidents(&mut self, at: Timestamp) {
        let site = Arc::clone(&self.site);
        let left = self.incidents_left();
        if left.is_empty() {
            return;
        }
        let mut storms = Vec::new();
        for left in left {
            match left.condition.as_str() {
                STORM => storms.push(self.begin_left(&left, IncidentKind::Storm, &site)),
                _ => self.adopt_family(&left, &site, at),
            }
        }
        self.adopt_storms(&storms, &site, at);
    }

    fn incidents_left(&self) -> Vec<Left> {
        let cases = self.cases.subjects().into_iter();
        let cases = cases.filter(|(id, device, condition)| {
            condition != SOURCE_DOWN && self.is_of_incident(device, condition) && !self.incidents.holds(id)
        });
        let cases = cases.filter_map(|(id, _, _)| self.cases.get(&id));
        cases.filter(|case| case.standing && !case.state.is_final()).map(Left::of).collect()
    }

    /// Puts an incident without alarms in its place. Gives its id.
    fn begin_left(&mut self, left: &Left, kind: IncidentKind, site: &Site) -> String {
        let policy = &site.facts().incidents;
        let rule = policy.groups.iter().find(|rule| rule.becomes == left.condition);
        let of = match kind {
            IncidentKind::Outage => SILENT,
            IncidentKind::Group => rule.map_or("", |rule| rule.condition.as_str()),
            IncidentKind::Storm | IncidentKind::Covers | IncidentKind::Source => "",
        };
        let quiet = if kind == IncidentKind::Storm { policy.storm.within * 2 } else { QUIET_DEFAULT };
        let subject = (left.parent.as_str(), left.condition.as_str(), of);
        let mut record = new_record(kind, subject, (&left.case_id, left.began_at, left.severity), quiet, None);
        record.opened_at = Some(left.opened_at);
        (record.case_id, record.owns_case, record.wants_case) = (Some(left.case_id.clone()), true, true);
        if kind == IncidentKind::Storm {
            let place = Place { position: left.position, parent: &left.parent };
            record.area.add(&place, left.began_at, &policy.storm);
        }
        let id = record.id.clone();
        self.incidents.records.insert(id.clone(), record);
        id
    }

    /// Those of one parent, or with one tag, that stand.
    fn adopt_family(&mut self, left: &Left, site: &Site, at: Timestamp) {
        let policy = &site.facts().incidents;
        let rule = policy.groups.iter().find(|rule| rule.becomes == left.condition);
        let (kind, condition) = match (left.condition.as_str(), rule) {
            (OUTAGE, _) => (IncidentKind::Outage, SILENT),
            (_, Some(rule)) => (IncidentKind::Group, rule.condition.as_str()),
            (_, None) => return,
        };
        let family: Vec<DeviceIndex> = self.families.named(&left.parent).into_iter().flatten().copied().collect();
        let id = self.begin_left(left, kind, site);
        self.put_standing(&id, &family, condition, at);
        let has_cause = kind == IncidentKind::Outage && self.alarm_of_parent(site, &left.parent).is_some();
        let enough = match rule.filter(|_| kind == IncidentKind::Group) {
            Some(rule) => quorum(rule.devices, rule.share, family.len()),
            None if has_cause => 1,
            None => quorum(policy.outage_devices, policy.outage_share, family.len()),
        };
        if let Some(record) = self.incidents.records.get_mut(&id) {
            record.quorum = Some(enough);
            if kind == IncidentKind::Outage {
                record.quiet = quiet_of(site, &family);
            }
        }
        self.keep_if_it_stands(&id);
    }

    /// Each alarm of water goes to a storm that reaches it, whenever it was raised: it was in one before.
    fn adopt_storms(&mut self, storms: &[String], site: &Site, at: Timestamp) {
        let mut waiting = if storms.is_empty() { Vec::new() } else { self.water(site) };
        loop {
            let before = waiting.len();
            waiting.retain(|(index, alarm)| {
                let place = place_of(site.device(*index));
                let rule = &site.facts().incidents.storm;
                let reaches = |area: &Area| area.links(&place, alarm.opened_at, rule, true);
                let is_near = |id: &&String| self.incidents.records.get(*id).is_some_and(|known| reaches(&known.area));
                let Some(id) = storms.iter().find(is_near) else { return true };
                self.incidents.put(id, alarm, at);
                if let Some(record) = self.incidents.records.get_mut(id) {
                    record.area.add(&place, alarm.opened_at, rule);
                }
                false
            });
            if waiting.len() == before {
                break;
            }
        }
        storms.iter().for_each(|id| self.keep_if_it_stands(id));
    }

    /// Standing alarms of water that were explained by an incident, or have a case of their own.
    fn water(&self, site: &Site) -> Vec<(DeviceIndex, Alarm)> {
        let mut found = Vec::new();
        for (position, _) in (0_u32..).zip(site.devices()) {
            let index = DeviceIndex(position);
            for condition in STORM_CONDITIONS {
                let alarm = self.standing(index, condition).filter(|alarm| match alarm.suppressed {
                    Some(reason) => reason == Suppression::Incident,
                    None => alarm.case_id.is_some(),
                });
                found.extend(alarm.map(|alarm| (index, alarm.clone())));
            }
        }
        found
    }

    /// The duty was told of those that are in it. One in which nobody stands is none: its case is ended as lost.
    fn keep_if_it_stands(&mut self, id: &str) {
        let Some(record) = self.incidents.records.get_mut(id) else { return };
        record.told = Record::step_of(record.devices);
        if record.standing == 0 {
            self.incidents.remove(id);
            return;
        }
        self.schedule_incident(id);
    }

    /// Cases of incidents that no incident stands behind any more end with a word that says so.
    pub(crate) fn end_lost_incidents(&mut self, at: Timestamp, effects: &mut Effects) {
        for case_id in self.lost_incident_cases() {
            let (mut ctx, cases) = self.case_context(at, effects);
            cases.end_lost(&mut ctx, &case_id);
        }
    }
}
