//! Makes lost cases anew: from their history, their deliveries, the alarms that belong to them, and the indexes that
//! name them. A case that was opened once must be known, or the next frame would open a second one.

use std::collections::BTreeMap;

use kerbside_model::id::hashed;
use kerbside_model::inventory::Datum;
use kerbside_model::site::LEDGER;
use kerbside_model::{
    Alarm, AlarmState, Case, CaseEvent, CaseReport, CaseState, Effects, OutboxRow, OutboxState, OutboxTask, Timestamp,
};
use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::SalvageReport;
use crate::effects;

/// What is left of a lost case.
#[derive(Default)]
struct Traces {
    report: Option<CaseReport>,
    /// The platform that was asked to open it, and whether it has it.
    opened_at_platform: Option<(String, String)>,
    events: Vec<CaseEvent>,
    alarms: Vec<Alarm>,
}

/// Makes lost cases anew, and the deliveries without which a case would never reach its platform.
pub(super) fn rebuild(source: &Connection, target: &Connection, report: &mut SalvageReport) -> rusqlite::Result<()> {
    let alarms_lost = report.tables.iter().any(|table| table.table == "alarms" && table.lost > 0);
    let mut effects = Effects::default();
    let mut asked_again = Vec::new();
    for (id, traces) in traces(source, target)? {
        let Some(case) = traces.case(&id, alarms_lost) else {
            report.cases_unknown.push(id);
            continue;
        };
        if let Some((platform, row_id)) = &traces.opened_at_platform
            && platform != LEDGER
            && !case.state.is_final()
        {
            asked_again.push(row_id.clone());
        }
        report.cases_rebuilt.push(id);
        effects.cases.push(case);
    }
    // The platform's own number for the case was in the lost row: the row is looked up there, and gives it again.
    for row_id in asked_again {
        target.execute(
            "UPDATE outbox SET state = 'attempted', open = 1, note = 'looked up again after a salvage' \
             WHERE id = ?1 AND state = 'delivered'",
            [row_id],
        )?;
    }
    effects::write(target, &effects, report.at)?;
    let deliveries = Effects { outbox: missing_deliveries(target)?, ..Effects::default() };
    report.deliveries_rebuilt = deliveries.outbox.len() as u64;
    effects::write(target, &deliveries, report.at)
}

/// What names a case that is not there.
fn traces(source: &Connection, target: &Connection) -> rusqlite::Result<BTreeMap<String, Traces>> {
    let mut traces: BTreeMap<String, Traces> = BTreeMap::new();
    // The indexes name cases even where the table cannot be read.
    for index in ["cases_by_time", "cases_by_device"] {
        let ids = format!("SELECT id FROM cases INDEXED BY {index}");
        let ids = source.prepare(&ids).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            let mut ids: Vec<String> = Vec::new();
            while let Ok(Some(row)) = rows.next() {
                ids.extend(row.get::<_, String>(0));
            }
            Ok(ids)
        });
        for id in ids.unwrap_or_default() {
            let known = target.prepare_cached("SELECT 1 FROM cases WHERE id = ?1")?.exists([&id])?;
            if !known {
                traces.entry(id).or_default();
            }
        }
    }
    let is_lost = "case_id <> '' AND case_id NOT IN (SELECT id FROM cases)";
    for event in
        records::<CaseEvent>(target, &format!("SELECT record FROM case_events WHERE {is_lost} ORDER BY number"))?
    {
        traces.entry(event.case_id.clone()).or_default().events.push(event);
    }
    for row in records::<OutboxRow>(target, &format!("SELECT record FROM outbox WHERE {is_lost} ORDER BY number"))? {
        let entry = traces.entry(row.case_id.clone()).or_default();
        match row.task {
            OutboxTask::OpenCase(report) => {
                entry.opened_at_platform = Some((row.target, row.id));
                entry.report = Some(report);
            }
            OutboxTask::Notify(notice) => {
                entry.report.get_or_insert(notice.report);
            }
        }
    }
    let alarms = "SELECT record FROM alarms WHERE json_extract(record, '$.case_id') NOT IN (SELECT id FROM cases) \
                  ORDER BY opened_at";
    for alarm in records::<Alarm>(target, alarms)? {
        if let Some(case_id) = alarm.case_id.clone() {
            traces.entry(case_id).or_default().alarms.push(alarm);
        }
    }
    Ok(traces)
}

fn records<T: DeserializeOwned>(target: &Connection, query: &str) -> rusqlite::Result<Vec<T>> {
    let mut statement = target.prepare(query)?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
}

impl Traces {
    /// The case, when it is known what it is about.
    fn case(&self, id: &str, alarms_lost: bool) -> Option<Case> {
        let newest_alarm = self.alarms.last();
        let mut report = self.report.clone().or_else(|| newest_alarm.map(|alarm| report_of(alarm, id)))?;
        id.clone_into(&mut report.case_id);
        let opened_at = self.events.first().map_or(report.occurred_at, |event| event.at);
        let state = match (self.events.last(), &self.opened_at_platform) {
            (Some(event), _) => event.state,
            (None, Some(_)) => CaseState::Pending,
            (None, None) => CaseState::Reported,
        };
        let is_alarm_open = self.alarms.iter().any(|alarm| alarm.state != AlarmState::Cleared);
        let signed = self.events.iter().rev().find(|event| event.state == CaseState::Signed);
        let severity = newest_alarm.map_or(report.severity, |alarm| alarm.severity.max(report.severity));
        Some(Case {
            id: id.to_owned(),
            device: report.device.clone(),
            condition: report.condition.clone(),
            state,
            severity,
            opened_at,
            updated_at: self.updated_at(opened_at),
            platform: self.opened_at_platform.as_ref().map_or_else(|| LEDGER.to_owned(), |(name, _)| name.clone()),
            platform_id: None,
            episodes: self.alarms.iter().map(|alarm| alarm.id.clone()).collect(),
            // When alarms are lost too, nobody can say that it is over.
            standing: is_alarm_open || (alarms_lost && !state.is_final()),
            signed: signed.map(|event| (event.by.clone(), event.at)),
            report,
        })
    }

    fn updated_at(&self, opened_at: Timestamp) -> Timestamp {
        self.events.last().map_or(opened_at, |event| event.at)
    }
}

/// The facts of a case as far as its alarm has them.
pub(super) fn report_of(alarm: &Alarm, case_id: &str) -> CaseReport {
    CaseReport {
        case_id: case_id.to_owned(),
        device: alarm.device.clone(),
        device_name: String::new(),
        kind: String::new(),
        kind_zh: String::new(),
        condition: alarm.condition.clone(),
        title: alarm.condition.clone(),
        title_zh: alarm.condition.clone(),
        severity: alarm.severity,
        occurred_at: alarm.opened_at,
        explanation: alarm.explanation.clone(),
        explanation_zh: alarm.explanation_zh.clone(),
        place: String::new(),
        position: None,
        datum: Datum::default(),
        grid: String::new(),
        component_code: String::new(),
        unit: String::new(),
    }
}

/// Cases that no platform has yet and whose delivery is lost. Whether it left is not known, so that the platform is
/// asked first.
fn missing_deliveries(target: &Connection) -> rusqlite::Result<Vec<OutboxRow>> {
    let mut rows = Vec::new();
    for case in records::<Case>(target, "SELECT record FROM cases WHERE state = 'pending'")? {
        let id = open_row_id(&case.id, &case.platform);
        let is_there = target.prepare_cached("SELECT 1 FROM outbox WHERE id = ?1")?.exists([&id])?;
        if is_there || case.platform == LEDGER {
            continue;
        }
        rows.push(OutboxRow {
            id,
            target: case.platform,
            case_id: case.id,
            task: OutboxTask::OpenCase(case.report),
            created_at: case.opened_at,
            state: OutboxState::Attempted,
        });
    }
    Ok(rows)
}

/// The id that the engine gives to the row which opens a case: with another one it could be opened twice.
fn open_row_id(case_id: &str, platform: &str) -> String {
    hashed(&["open", case_id, platform])
}
