//! The link of a source is down for long: all devices behind it are one incident.
//!
//! While a link is down nobody can say that a device is silent: we are deaf. Without this nobody would be told that a
//! broker or a bus is gone. The incident has a case in the ledger and never one at a city platform, which mends streets
//! and no links. Its devices are counted when it opens and, once the link is back, every minute until all were heard
//! again or had two of their periods; whoever is silent then is found by the rules of silence. Survives in the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::incident::IncidentKind;
use kerbside_model::site::LEDGER;
use kerbside_model::vocabulary::{self, SOURCE_DOWN};
use kerbside_model::{CaseReport, Datum, DeviceIndex, Effects, ServiceState, Severity, Timestamp};

use crate::Engine;
use crate::cases::KERBSIDE;
use crate::engine::interval_of;
use crate::grouping::{ENDED_MEMBERS_MAX, Loss, Member, Record};
use crate::incident_text::explanation;
use crate::incidents::{QUIET_DEFAULT, QUIET_MAX, QUIET_PERIODS, SILENT, new_record};
use crate::timers::TimerKey;

/// How often at least those are counted that were not heard since the link is back: an end is told a minute late at
/// most, and a million devices are counted in some milliseconds.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

impl Engine {
    /// A link is down from now on.
    pub(crate) fn lose_link(&mut self, source: &Arc<str>, at: Timestamp) {
        let look_at = Some(at.plus(self.site.facts().incidents.source_after));
        self.forget_look(source);
        match self.incidents.losses.get_mut(source) {
            // Its devices were still waited for.
            Some(loss) => (loss.back_at, loss.look_at) = (None, None),
            None => {
                let loss = Loss { since: at, back_at: None, look_at, incident: None };
                self.incidents.losses.insert(Arc::clone(source), loss);
            }
        }
        self.schedule_look(source);
    }

    /// A link stands again.
    pub(crate) fn regain_link(&mut self, source: &Arc<str>, at: Timestamp) {
        self.forget_look(source);
        let look_at = self.next_look(at);
        let Some(loss) = self.incidents.losses.get_mut(source) else { return };
        if loss.incident.is_none() {
            self.incidents.losses.remove(source);
            return;
        }
        (loss.back_at, loss.look_at) = (Some(at), Some(look_at));
        self.schedule_look(source);
    }

    /// After a change of the site: sources may be gone, and while no gateway ran no link was down for long. Timers are
    /// set anew afterwards.
    pub(crate) fn refresh_losses(&mut self, begins: bool, at: Timestamp) {
        let look_at = at.plus(self.site.facts().incidents.source_after);
        for source in &self.sources_down {
            let fresh = Loss { since: at, back_at: None, look_at: Some(look_at), incident: None };
            let loss = self.incidents.losses.entry(Arc::clone(source)).or_insert(fresh);
            if loss.incident.is_none() && begins {
                (loss.since, loss.look_at) = (at, Some(look_at));
            }
        }
        let sources_down = &self.sources_down;
        self.incidents.losses.retain(|source, loss| sources_down.contains(source) || loss.incident.is_some());
        for (source, loss) in &mut self.incidents.losses {
            if !sources_down.contains(source) {
                loss.back_at = loss.back_at.or(Some(at));
                loss.look_at = Some(at);
            }
        }
    }

    /// After an upgrade that cannot read the snapshot the case of a lost link is all that is left of its incident: its
    /// devices are waited for, and it ends as any.
    pub(crate) fn adopt_losses(&mut self, at: Timestamp) {
        for (case_id, source, condition) in self.cases.subjects() {
            let Some(case) = self.cases.get(&case_id).filter(|case| !case.state.is_final() && case.standing) else {
                continue;
            };
            if condition != SOURCE_DOWN || !self.is_of_incident(&source, &condition) || self.incidents.holds(&case_id) {
                continue;
            }
            let (since, severity, opened_at) = (case.report.occurred_at, case.severity, case.opened_at);
            let source: Arc<str> = Arc::from(source);
            let devices = self.unheard_since(&source, since).len();
            let mut record = new_loss_record(&source, since, severity);
            (record.opened_at, record.changed_at) = (Some(opened_at), at);
            (record.devices, record.standing, record.peak, record.told) = (devices, devices, devices, devices);
            (record.case_id, record.owns_case) = (Some(case_id), true);
            let is_down = self.sources_down.contains(&source);
            let (back_at, look_at) = if is_down { (None, None) } else { (Some(at), Some(self.next_look(at))) };
            let loss = Loss { since, back_at, look_at, incident: Some(record.id.clone()) };
            self.forget_look(&source);
            self.incidents.losses.insert(Arc::clone(&source), loss);
            self.incidents.records.insert(record.id.clone(), record);
            self.schedule_look(&source);
        }
    }

    fn next_look(&self, at: Timestamp) -> Timestamp {
        at.plus(self.site.facts().incidents.source_after.min(LOOK_INTERVAL_MAX))
    }

    pub(crate) fn schedule_losses(&mut self) {
        let sources: Vec<Arc<str>> = self.incidents.losses.keys().cloned().collect();
        sources.iter().for_each(|source| self.schedule_look(source));
    }

    fn schedule_look(&mut self, source: &Arc<str>) {
        if let Some(at) = self.incidents.losses.get(source).and_then(|loss| loss.look_at) {
            self.timers.set(at, TimerKey::Source(Arc::clone(source)));
        }
    }

    fn forget_look(&mut self, source: &Arc<str>) {
        if let Some(at) = self.incidents.losses.get(source).and_then(|loss| loss.look_at) {
            self.timers.remove(at, TimerKey::Source(Arc::clone(source)));
        }
    }

    /// A link was down for long enough, or its devices are to be counted again.
    pub(crate) fn serve_loss(&mut self, source: &Arc<str>, at: Timestamp, effects: &mut Effects) {
        let Some(loss) = self.incidents.losses.get(source).filter(|loss| loss.look_at.is_some_and(|due| due <= at))
        else {
            return;
        };
        match (loss.incident.clone(), loss.back_at) {
            (None, _) => self.open_loss(source, at, effects),
            (Some(_), None) => {}
            (Some(id), Some(back_at)) => self.look_for_devices(source, &id, back_at, at, effects),
        }
        self.schedule_look(source);
    }

    fn open_loss(&mut self, source: &Arc<str>, at: Timestamp, effects: &mut Effects) {
        let again_at = at.plus(self.site.facts().incidents.source_after);
        let Some(since) = self.incidents.losses.get(source).map(|loss| loss.since) else { return };
        let devices = self.unheard_since(source, since).len();
        let mut record = new_loss_record(source, since, Severity::Major);
        (record.opened_at, record.changed_at) = (Some(at), at);
        (record.devices, record.standing, record.peak, record.told) = (devices, devices, devices, devices);
        let Some(loss) = self.incidents.losses.get_mut(source) else { return };
        if devices == 0 {
            // Nobody misses anything yet; a change of the inventory may bring devices.
            loss.look_at = Some(again_at);
            return;
        }
        (loss.incident, loss.look_at) = (Some(record.id.clone()), None);
        effects.counts.incidents_opened += 1;
        let texts = explanation(&record);
        let is_for_case = record.severity >= self.site.facts().cases.severity_min;
        let (mut ctx, cases) = self.case_context(at, effects);
        ctx.audit(KERBSIDE, "incident_opened", &record.id, &texts.0);
        if is_for_case {
            let report = report_of(&record, texts);
            let open = cases.open_on(&report.device, &report.condition);
            let joined = open.filter(|case_id| cases.join(&mut ctx, case_id, &record.id, &report));
            record.case_id = Some(joined.unwrap_or_else(|| cases.open_at(&mut ctx, report, &record.id, LEDGER)));
            record.owns_case = true;
        }
        self.incidents.records.insert(record.id.clone(), record);
    }

    /// The link is back: its incident ends when all were heard again, or had their time.
    fn look_for_devices(
        &mut self,
        source: &Arc<str>,
        id: &str,
        back_at: Timestamp,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(since) = self.incidents.losses.get(source).map(|loss| loss.since) else { return };
        let unheard = self.unheard_since(source, since);
        let periods = unheard.iter().filter_map(|index| interval_of(&self.site, self.site.device(*index))).max();
        let patience = periods.map_or(QUIET_DEFAULT, |period| period.mul_f64(QUIET_PERIODS).min(QUIET_MAX));
        let is_there = self.site.source_rule(source).is_some();
        let is_over = unheard.is_empty() || at >= back_at.plus(patience) || !is_there;
        let members = if is_over { self.members_of(&unheard, since) } else { BTreeMap::new() };
        if let Some(record) = self.incidents.records.get_mut(id) {
            record.standing = unheard.len();
            record.members = members;
        }
        if !is_over {
            let look_at = self.next_look(at);
            if let Some(loss) = self.incidents.losses.get_mut(source) {
                loss.look_at = Some(look_at);
            }
            return;
        }
        self.incidents.losses.remove(source);
        if let Some(record) = self.incidents.remove(id) {
            self.end_incident(record, at, effects);
        }
    }

    fn members_of(&self, devices: &[DeviceIndex], since: Timestamp) -> BTreeMap<(String, String), Member> {
        let member = Member { alarm: String::new(), raised_at: since, is_standing: true };
        let ids = devices.iter().take(ENDED_MEMBERS_MAX).map(|index| self.site.device(*index).id.clone());
        ids.map(|id| ((id, SILENT.to_owned()), member.clone())).collect()
    }

    /// The devices in service behind a source that nobody heard since then. Who was known to be silent before is none
    /// of them.
    pub(crate) fn unheard_since(&self, source: &Arc<str>, since: Timestamp) -> Vec<DeviceIndex> {
        let mut found = Vec::new();
        for (position, state) in (0_u32..).zip(&self.devices) {
            let index = DeviceIndex(position);
            let was_silent = || self.standing(index, SILENT).is_some_and(|alarm| alarm.opened_at <= since);
            if state.heard_at.is_none_or(|heard_at| heard_at <= since)
                && self.site.device(index).service == ServiceState::InService
                && self.source_of(index).is_none_or(|own| own == *source)
                && !was_silent()
            {
                found.push(index);
            }
        }
        found
    }
}

fn new_loss_record(source: &str, since: Timestamp, severity: Severity) -> Record {
    let first = since.0.to_string();
    let subject = (source, SOURCE_DOWN, SILENT);
    new_record(IncidentKind::Source, subject, (&first, since, severity), Duration::ZERO, None)
}

/// What the case of a lost link says: a link has no place in the street.
fn report_of(record: &Record, (explanation, explanation_zh): (String, String)) -> CaseReport {
    let term = vocabulary::condition(SOURCE_DOWN).expect("the vocabulary has the conditions of incidents");
    CaseReport {
        case_id: String::new(),
        device: record.parent.clone(),
        device_name: String::new(),
        kind: "source".to_owned(),
        kind_zh: "数据源".to_owned(),
        condition: record.condition.clone(),
        title: term.en.to_owned(),
        title_zh: term.zh.to_owned(),
        severity: record.severity,
        occurred_at: record.began_at,
        explanation,
        explanation_zh,
        place: String::new(),
        position: None,
        datum: Datum::default(),
        grid: String::new(),
        component_code: String::new(),
        unit: String::new(),
    }
}
