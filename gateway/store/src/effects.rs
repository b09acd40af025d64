//! Writes what one step of the engine changed: turns effects into rows, inside the transaction of their batch.
//!
//! A record is JSON (times in RFC 3339, as people read them); the columns beside it are what is searched.

use kerbside_model::{
    Alarm, AlarmState, Audit, Case, CaseEvent, Effects, OutboxChange, OutboxRow, OutboxState, Timestamp,
};
use rusqlite::{Connection, params};
use serde::Serialize;

/// Writes everything but the undecoded frames.
pub(crate) fn write(connection: &Connection, effects: &Effects, now: Timestamp) -> rusqlite::Result<()> {
    write_alarms(connection, &effects.alarms)?;
    write_cases(connection, &effects.cases)?;
    write_case_events(connection, &effects.case_events)?;
    write_outbox(connection, &effects.outbox)?;
    change_outbox(connection, &effects.outbox_changes, now)?;
    write_audit(connection, &effects.audit)
}

/// Whether a step changed nothing that the store keeps.
pub(crate) fn is_nothing(effects: &Effects) -> bool {
    effects.undecoded.is_empty()
        && effects.read_again.is_empty()
        && effects.alarms.is_empty()
        && effects.cases.is_empty()
        && effects.case_events.is_empty()
        && effects.outbox.is_empty()
        && effects.outbox_changes.is_empty()
        && effects.audit.is_empty()
        && effects.observations.is_empty()
}

pub(crate) fn is_open(state: OutboxState) -> bool {
    match state {
        OutboxState::Pending | OutboxState::Attempted => true,
        OutboxState::Delivered | OutboxState::Dead => false,
    }
}

fn json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("records are plain data with text keys")
}

fn write_alarms(connection: &Connection, alarms: &[Alarm]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO alarms(id, device, condition, state, open, opened_at, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT(id) DO UPDATE SET state = excluded.state, open = excluded.open, record = excluded.record",
    )?;
    for alarm in alarms {
        statement.execute(params![
            alarm.id,
            alarm.device,
            alarm.condition,
            alarm.state.name(),
            alarm.state != AlarmState::Cleared,
            alarm.opened_at.as_millis(),
            json(alarm),
        ])?;
    }
    Ok(())
}

fn write_cases(connection: &Connection, cases: &[Case]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO cases(id, device, condition, state, final, kept, opened_at, record) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT(id) DO UPDATE SET state = excluded.state, final = excluded.final, kept = excluded.kept, \
         record = excluded.record",
    )?;
    for case in cases {
        let is_final = case.state.is_final();
        statement.execute(params![
            case.id,
            case.device,
            case.condition,
            case.state.name(),
            is_final,
            !is_final || case.standing,
            case.opened_at.as_millis(),
            json(case),
        ])?;
    }
    Ok(())
}

fn write_case_events(connection: &Connection, events: &[CaseEvent]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT INTO case_events(case_id, record) VALUES (?1, ?2)")?;
    for event in events {
        statement.execute(params![event.case_id, json(event)])?;
    }
    Ok(())
}

/// A row that is there already stays as it is: a replay gives the same ids, and must not send anything twice.
fn write_outbox(connection: &Connection, rows: &[OutboxRow]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO outbox(id, target, case_id, state, open, note, updated_at, record) \
         VALUES (?1, ?2, ?3, ?4, ?5, '', ?6, ?7) ON CONFLICT(id) DO NOTHING",
    )?;
    for row in rows {
        statement.execute(params![
            row.id,
            row.target,
            row.case_id,
            row.state.name(),
            is_open(row.state),
            row.created_at.as_millis(),
            json(row),
        ])?;
    }
    Ok(())
}

/// A state only moves forward: what a target has is never sent again, and what may have left is never "never sent".
fn change_outbox(connection: &Connection, changes: &[OutboxChange], now: Timestamp) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE outbox SET state = ?2, open = ?3, note = ?4, updated_at = ?5 \
         WHERE id = ?1 AND (state = 'pending' OR (state = 'attempted' AND ?2 <> 'pending'))",
    )?;
    for change in changes {
        statement.execute(params![
            change.row_id,
            change.state.name(),
            is_open(change.state),
            change.note,
            now.as_millis(),
        ])?;
    }
    Ok(())
}

fn write_audit(connection: &Connection, lines: &[Audit]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT INTO audit(subject, record) VALUES (?1, ?2)")?;
    for line in lines {
        statement.execute(params![line.subject, json(line)])?;
    }
    Ok(())
}
