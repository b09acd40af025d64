//! Incidents as others see them: lists for the API and the console, made when somebody asks.

use kerbside_model::incident::IncidentKind;
use kerbside_model::{Severity, Timestamp};
use serde::Serialize;

use crate::Engine;
use crate::grouping::{Member, Record};
use crate::incident_text::explanation;

/// Alarms with one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// A hash of kind, parent and first alarm.
    pub id: String,
    /// What makes them one.
    pub kind: IncidentKind,
    /// The asset that all devices hang on; for a chain of alarms, what its first device hangs on.
    pub parent: String,
    /// What it is called: `storm`, `outage`, `covers_opened`, `source_down`, or what a rule of the site makes of it.
    pub condition: String,
    /// The worst severity so far.
    pub severity: Severity,
    /// When the first alarm was raised.
    pub began_at: Timestamp,
    /// When there were enough of them.
    pub opened_at: Timestamp,
    /// When it ended; `null` while it stands.
    pub ended_at: Option<Timestamp>,
    /// Every device that was in it, sorted.
    pub devices: Vec<String>,
    /// Ids of the alarms.
    pub alarms: Vec<String>,
    /// Devices whose alarm stands.
    pub standing: Vec<String>,
    /// Most alarms that stood at once.
    pub peak: usize,
    /// Its case, if it has one.
    pub case_id: Option<String>,
    /// What it is, or what it came to, in English.
    pub explanation: String,
    /// The same in Chinese.
    pub explanation_zh: String,
}

/// An incident with each alarm in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentDetail {
    /// What the list says of it.
    #[serde(flatten)]
    pub incident: Incident,
    /// Its alarms, by device and condition; of one that ended at most 200. Devices behind a lost link have none.
    pub members: Vec<IncidentMember>,
}

/// One alarm in an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentMember {
    /// The device.
    pub device: String,
    /// Its condition.
    pub condition: String,
    /// Id of the newest alarm.
    pub alarm: String,
    /// When that was raised.
    pub raised_at: Timestamp,
    /// Whether it stands.
    pub stands: bool,
}

impl Engine {
    /// What stands now, the newest first, and behind it what ended last.
    pub fn incidents(&self) -> Vec<Incident> {
        let mut incidents: Vec<Incident> = self.incidents.open().map(|record| self.view_of(record)).collect();
        incidents.sort_by(|left, right| right.opened_at.cmp(&left.opened_at).then_with(|| left.id.cmp(&right.id)));
        let ended = self.incidents.ended.iter().rev();
        incidents.extend(ended.map(|ended| view(&ended.record, Some(ended.at), ended.summary.clone())));
        incidents
    }

    /// One incident that stands or ended lately, with each of its alarms.
    pub fn incident(&self, id: &str) -> Option<IncidentDetail> {
        let standing = self.incidents.open().find(|record| record.id == id);
        let ended = self.incidents.ended.iter().find(|ended| ended.record.id == id);
        let record = standing.or(ended.map(|ended| &ended.record))?;
        let members = record.members.iter().filter(|(_, member)| !member.alarm.is_empty());
        let members = members.map(|((device, condition), member)| IncidentMember {
            device: device.clone(),
            condition: condition.clone(),
            alarm: member.alarm.clone(),
            raised_at: member.raised_at,
            stands: member.is_standing,
        });
        let incident = self.incidents().into_iter().find(|incident| incident.id == id)?;
        Some(IncidentDetail { incident, members: members.collect() })
    }

    /// A record as others see it. Who is behind a lost link is counted when somebody asks.
    fn view_of(&self, record: &Record) -> Incident {
        let mut incident = view(record, None, explanation(record));
        let loss = self.incidents.losses.iter().find(|(_, loss)| loss.incident.as_ref() == Some(&record.id));
        if let Some((source, loss)) = loss {
            let unheard = self.unheard_since(source, loss.since).into_iter();
            incident.standing = unheard.map(|index| self.site.device(index).id.clone()).collect();
            incident.standing.sort();
            incident.devices.clone_from(&incident.standing);
        }
        incident
    }
}

fn view(record: &Record, ended_at: Option<Timestamp>, (explanation, explanation_zh): (String, String)) -> Incident {
    let mut devices: Vec<String> = record.members.keys().map(|(device, _)| device.clone()).collect();
    devices.dedup();
    let is_standing = |(key, member): (&(String, String), &Member)| member.is_standing.then(|| key.0.clone());
    let mut standing: Vec<String> = record.members.iter().filter_map(is_standing).collect();
    standing.dedup();
    Incident {
        id: record.id.clone(),
        kind: record.kind,
        parent: record.parent.clone(),
        condition: record.condition.clone(),
        severity: record.severity,
        began_at: record.began_at,
        opened_at: record.opened_at.unwrap_or(record.began_at),
        ended_at,
        devices,
        alarms: record.members.values().map(|member| member.alarm.clone()).filter(|alarm| !alarm.is_empty()).collect(),
        standing,
        peak: record.peak,
        case_id: record.case_id.clone(),
        explanation,
        explanation_zh,
    }
}
