//! Reads the rows of a damaged table in the order of their keys, around what cannot be read, and takes over those
//! whose content is sound.

use kerbside_model::{Alarm, AlarmState, Audit, Case, CaseEvent, Frame, OutboxRow, OutboxState, Payload};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::de::DeserializeOwned;

use super::{JUMP_MAX, Progress, RANGES_MAX};
use crate::batch::StoredBody;
use crate::effects;

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 1000;
/// Rows of the target's transaction; its log is copied into it in between.
const ROWS_PER_COMMIT: u64 = 500;
/// A single row that lies this far ahead, with damage right behind it, has a rotten key.
const ODD_JUMP: i64 = 1000;

/// How a table is read and what makes a row of it sound.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Whether the numbers of its rows have no gaps of their own.
    is_dense: bool,
    /// An index with every row, to count by.
    pub(super) index: Option<&'static str>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By number, only types are checked.
    Plain,
    /// The same; its one row replaces the new one.
    Single,
    Alarm,
    Case,
    CaseEvent,
    Outbox,
    Audit,
    Undecoded,
    /// A body with a checksum.
    Body,
    /// A body of inputs.
    Inputs,
    /// By source and address, without numbers.
    UnknownDevice,
}

const fn table(name: &'static str, kind: Kind, is_dense: bool, index: Option<&'static str>) -> Table {
    Table { name, is_dense, index, kind }
}

/// In the order in which they are salvaged: what matters most first.
pub(super) const SMALL_TABLES: [Table; 14] = [
    table("cases", Kind::Case, true, Some("cases_by_time")),
    table("alarms", Kind::Alarm, true, Some("alarms_by_time")),
    table("outbox", Kind::Outbox, true, None),
    table("case_events", Kind::CaseEvent, true, None),
    table("audit", Kind::Audit, true, None),
    table("sites", Kind::Body, false, None),
    table("site_changes", Kind::Plain, false, None),
    table("cursors", Kind::Plain, true, None),
    table("totals", Kind::Single, true, None),
    table("wear", Kind::Single, true, None),
    table("salvages", Kind::Plain, true, None),
    table("refused_points", Kind::Plain, false, None),
    table("unknown_devices", Kind::UnknownDevice, false, Some("unknown_devices_by_time")),
    table("undecoded", Kind::Undecoded, false, None),
];
pub(super) const BATCHES: Table = table("batches", Kind::Inputs, true, None);
pub(super) const SNAPSHOTS: Table = table("snapshots", Kind::Body, false, None);

/// What became of a table's rows.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) salvaged: u64,
    pub(super) lost: u64,
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) is_estimate: bool,
    /// What lies behind the last row cannot be read.
    pub(super) is_end_hidden: bool,
    /// Key of the last row that was taken over.
    pub(super) last: u64,
}

/// The columns of a table in the new database.
struct Columns {
    names: Vec<String>,
    types: Vec<Type>,
    is_numbered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Type {
    kind: rusqlite::types::Type,
    may_be_null: bool,
    may_be_negative: bool,
}

impl Columns {
    fn of(target: &Connection, table: &str) -> rusqlite::Result<Columns> {
        let mut columns = Columns { names: Vec::new(), types: Vec::new(), is_numbered: false };
        let mut statement = target.prepare(&format!("PRAGMA table_info({table})"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, declared): (String, String) = (row.get(1)?, row.get(2)?);
            let (is_not_null, key): (bool, u32) = (row.get(3)?, row.get(5)?);
            let kind = match declared.as_str() {
                "INTEGER" => rusqlite::types::Type::Integer,
                "BLOB" => rusqlite::types::Type::Blob,
                _ => rusqlite::types::Type::Text,
            };
            let is_time = name == "at" || name.ends_with("_at") || name.ends_with("_seen");
            columns.is_numbered |= key > 0 && kind == rusqlite::types::Type::Integer;
            columns.types.push(Type { kind, may_be_null: !is_not_null && key == 0, may_be_negative: is_time });
            columns.names.push(name);
        }
        Ok(columns)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| other == name)
    }

    fn are_right(&self, values: &[Value]) -> bool {
        self.types.iter().zip(values).all(|(column, value)| match value {
            Value::Null => column.may_be_null,
            Value::Integer(number) => {
                column.kind == rusqlite::types::Type::Integer && (*number >= 0 || column.may_be_negative)
            }
            other => other.data_type() == column.kind,
        })
    }
}

/// Copies a table. What cannot be read is counted; an error is one of the new database.
pub(super) fn copy(
    source: &Connection,
    target: &Connection,
    table: &Table,
    progress: Progress<'_>,
) -> rusqlite::Result<Copied> {
    let columns = Columns::of(target, table.name)?;
    let list = columns.names.join(", ");
    let places: Vec<String> = (1..=columns.names.len()).map(|place| format!("?{place}")).collect();
    let places = places.join(", ");
    let verb = if table.kind == Kind::Single { "INSERT OR REPLACE" } else { "INSERT OR IGNORE" };
    let insert = if columns.is_numbered || table.kind == Kind::UnknownDevice {
        format!("{verb} INTO {}({list}) VALUES ({places})", table.name)
    } else {
        // The hidden number is kept: a later salvage counts by it.
        format!("{verb} INTO {}({list}, rowid) VALUES ({places}, ?{})", table.name, columns.names.len() + 1)
    };
    let mut copy = Copy {
        columns,
        kind: table.kind,
        target,
        insert,
        progress,
        name: table.name,
        is_dense: table.is_dense,
        copied: Copied::default(),
        waiting: None,
        has_gap: false,
    };
    match table.kind {
        Kind::UnknownDevice => copy.by_text(source, &list)?,
        _ => copy.by_number(source, &list)?,
    }
    Ok(copy.copied)
}

/// A row with its key; `None` where its content cannot be read.
struct Found {
    key: i64,
    values: Option<Vec<Value>>,
    /// Something between the row before and this one could not be read.
    is_behind_gap: bool,
}

impl Found {
    fn new(key: i64, values: Option<Vec<Value>>) -> Found {
        Found { key, values, is_behind_gap: false }
    }
}

struct Copy<'a> {
    columns: Columns,
    kind: Kind,
    target: &'a Connection,
    insert: String,
    progress: Progress<'a>,
    name: &'static str,
    is_dense: bool,
    copied: Copied,
    /// The last row read. It is taken over when the next one shows that its key is in order.
    waiting: Option<Found>,
    /// Something between the last row read and the next one could not be read.
    has_gap: bool,
}

impl Copy<'_> {
    fn by_number(&mut self, source: &Connection, list: &str) -> rusqlite::Result<()> {
        let name = self.name;
        let select = format!("SELECT rowid, {list} FROM {name} NOT INDEXED WHERE rowid >= ?1 ORDER BY rowid");
        let probe = format!("SELECT rowid FROM {name} NOT INDEXED WHERE rowid >= ?1 ORDER BY rowid LIMIT 1");
        let first_at =
            |key: i64| source.prepare_cached(&probe)?.query_row([key], |row| row.get::<_, i64>(0)).optional();
        let mut from = 0_i64;
        loop {
            if self.stream(source, &select, from)? {
                break;
            }
            // A row far ahead with damage right behind it: its key is rotten.
            let last = i64::try_from(self.copied.last).unwrap_or(i64::MAX);
            self.drop_odd(ODD_JUMP);
            let seen = self.waiting.as_ref().map_or(last, |waiting| waiting.key);
            from = from.max(seen.saturating_add(1));
            match first_at(from) {
                Ok(None) => break,
                Ok(Some(key)) if key >= from => {
                    self.take(Found::new(key, None))?;
                    from = key.saturating_add(1);
                }
                _ => {
                    self.has_gap = true;
                    match first_readable(from, &first_at) {
                        Some(next) => from = next,
                        None => {
                            self.copied.is_end_hidden = true;
                            break;
                        }
                    }
                }
            }
        }
        self.drop_odd(i64::try_from(JUMP_MAX).unwrap_or(i64::MAX));
        self.settle(None)
    }

    /// Forgets the row that waits when its key is ahead of the one before by more than this.
    fn drop_odd(&mut self, jump_max: i64) {
        let last = i64::try_from(self.copied.last).unwrap_or(i64::MAX);
        if last > 0 && self.waiting.as_ref().is_some_and(|waiting| waiting.key.saturating_sub(last) > jump_max) {
            self.waiting = None;
            self.has_gap = true;
            self.copied.is_estimate = true;
        }
    }

    /// Reads rows until the end (true) or until damage (false).
    fn stream(&mut self, source: &Connection, select: &str, from: i64) -> rusqlite::Result<bool> {
        let Ok(mut statement) = source.prepare_cached(select) else {
            let is_there = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
            let is_there = source.query_row(is_there, [self.name], |row| row.get::<_, u32>(0));
            self.copied.is_end_hidden = is_there != Ok(0);
            return Ok(true);
        };
        let Ok(mut rows) = statement.query([from]) else { return Ok(false) };
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let Ok(key) = row.get::<_, i64>(0) else { return Ok(false) };
                    let values = values_of(row, 1, self.columns.names.len());
                    self.take(Found::new(key, values))?;
                }
                Ok(None) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
    }

    /// Looks whether keys are in order before a row is taken over: one rotten key must not hide those behind it.
    fn take(&mut self, mut found: Found) -> rusqlite::Result<()> {
        if u64::try_from(found.key).map_or(true, |key| key <= self.copied.last) {
            self.has_gap = true;
            return Ok(());
        }
        if self.waiting.as_ref().is_some_and(|waiting| waiting.key >= found.key) {
            self.waiting = None;
            self.has_gap = true;
        }
        found.is_behind_gap = std::mem::take(&mut self.has_gap);
        self.settle(Some(found))
    }

    /// Takes over the row that waited.
    fn settle(&mut self, next: Option<Found>) -> rusqlite::Result<()> {
        let Some(found) = std::mem::replace(&mut self.waiting, next) else { return Ok(()) };
        let Ok(key) = u64::try_from(found.key) else { return Ok(()) };
        if found.is_behind_gap && key > self.copied.last + 1 {
            self.lose(self.copied.last + 1, key - 1);
            self.copied.is_estimate |= !self.is_dense;
        }
        self.copied.last = key;
        match found.values.and_then(|values| self.sound(values)) {
            None => self.lose(key, key),
            Some(mut values) => {
                if !self.columns.is_numbered {
                    values.push(Value::Integer(found.key));
                }
                self.insert(&values)?;
            }
        }
        Ok(())
    }

    fn lose(&mut self, first: u64, last: u64) {
        if last - first > JUMP_MAX {
            self.copied.is_estimate = true;
            return;
        }
        self.copied.lost += last - first + 1;
        if self.copied.ranges.len() < RANGES_MAX {
            self.copied.ranges.push((first, last));
        }
    }

    fn insert(&mut self, values: &[Value]) -> rusqlite::Result<()> {
        let inserted = self.target.prepare_cached(&self.insert)?.execute(params_from_iter(values))? as u64;
        self.copied.salvaged += inserted;
        if self.copied.salvaged.is_multiple_of(ROWS_PER_COMMIT) {
            self.target.execute_batch("COMMIT; BEGIN")?;
        }
        if self.copied.salvaged.is_multiple_of(PROGRESS_ROWS) {
            (self.progress)(self.name, self.copied.salvaged);
        }
        Ok(())
    }

    /// Upwards from the first key until damage, then downwards from the last.
    fn by_text(&mut self, source: &Connection, list: &str) -> rusqlite::Result<()> {
        for order in ["source, address", "source DESC, address DESC"] {
            let select = format!("SELECT {list} FROM {} NOT INDEXED ORDER BY {order}", self.name);
            let Ok(mut statement) = source.prepare(&select) else { return Ok(()) };
            let Ok(mut rows) = statement.query([]) else { continue };
            loop {
                match rows.next() {
                    Ok(Some(row)) => {
                        let values = values_of(row, 0, self.columns.names.len());
                        match values.and_then(|values| self.sound(values)) {
                            Some(values) => self.insert(&values)?,
                            None => self.copied.lost += 1,
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(_) => break,
                }
            }
            self.copied.is_end_hidden = true;
            self.copied.is_estimate = true;
        }
        Ok(())
    }

    /// The values of a row that is what this program writes, with what its record says in the columns beside it.
    fn sound(&self, mut values: Vec<Value>) -> Option<Vec<Value>> {
        if self.kind == Kind::Outbox
            && let Some(place) = self.columns.place("state")
            && outbox_state(&values[place]).is_none()
        {
            // Whether it left is not known: its target is asked first.
            values[place] = Value::Text(OutboxState::Attempted.name().to_owned());
        }
        if !self.columns.are_right(&values) {
            return None;
        }
        let text = |name: &str| self.columns.place(name).and_then(|place| as_text(&values[place]));
        let is_sound = match self.kind {
            Kind::Plain | Kind::Single => true,
            Kind::Alarm => return self.alarm(parsed(text("record"))?, values),
            Kind::Case => return self.case(parsed(text("record"))?, values),
            Kind::CaseEvent => Some(parsed::<CaseEvent>(text("record"))?.case_id.as_str()) == text("case_id"),
            Kind::Outbox => {
                let row: OutboxRow = parsed(text("record"))?;
                let is_same = text("id") == Some(row.id.as_str()) && text("case_id") == Some(row.case_id.as_str());
                let state = self.columns.place("state").and_then(|place| outbox_state(&values[place]))?;
                self.set(&mut values, "open", Value::Integer(effects::is_open(state).into()));
                is_same
            }
            Kind::Audit => parsed::<Audit>(text("record")).is_some(),
            Kind::Undecoded => {
                self.blob(&values, "frame").is_some_and(|frame| postcard::from_bytes::<Frame>(frame).is_ok())
            }
            Kind::UnknownDevice => {
                self.blob(&values, "payload").is_some_and(|payload| postcard::from_bytes::<Payload>(payload).is_ok())
            }
            Kind::Body => self.body(&values)?.unpack().is_ok(),
            Kind::Inputs => self.body(&values)?.decode_inputs(self.number(&values, "inputs")?).is_ok(),
        };
        is_sound.then_some(values)
    }

    fn alarm(&self, alarm: Alarm, mut values: Vec<Value>) -> Option<Vec<Value>> {
        let id = self.columns.place("id").and_then(|place| as_text(&values[place]));
        if id != Some(alarm.id.as_str()) {
            return None;
        }
        self.set(&mut values, "state", Value::Text(alarm.state.name().to_owned()));
        self.set(&mut values, "open", Value::Integer((alarm.state != AlarmState::Cleared).into()));
        self.set(&mut values, "opened_at", Value::Integer(alarm.opened_at.as_millis()));
        self.set(&mut values, "device", Value::Text(alarm.device));
        self.set(&mut values, "condition", Value::Text(alarm.condition));
        Some(values)
    }

    fn case(&self, case: Case, mut values: Vec<Value>) -> Option<Vec<Value>> {
        let id = self.columns.place("id").and_then(|place| as_text(&values[place]));
        if id != Some(case.id.as_str()) {
            return None;
        }
        let is_final = case.state.is_final();
        self.set(&mut values, "state", Value::Text(case.state.name().to_owned()));
        self.set(&mut values, "final", Value::Integer(is_final.into()));
        self.set(&mut values, "kept", Value::Integer((!is_final || case.standing).into()));
        self.set(&mut values, "opened_at", Value::Integer(case.opened_at.as_millis()));
        self.set(&mut values, "device", Value::Text(case.device));
        self.set(&mut values, "condition", Value::Text(case.condition));
        Some(values)
    }

    fn set(&self, values: &mut [Value], name: &str, value: Value) {
        if let Some(place) = self.columns.place(name) {
            values[place] = value;
        }
    }

    fn number(&self, values: &[Value], name: &str) -> Option<u64> {
        match values.get(self.columns.place(name)?)? {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    fn blob<'v>(&self, values: &'v [Value], name: &str) -> Option<&'v [u8]> {
        match values.get(self.columns.place(name)?)? {
            Value::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn body<'v>(&self, values: &'v [Value]) -> Option<StoredBody<'v>> {
        Some(StoredBody {
            format: u32::try_from(self.number(values, "format")?).ok()?,
            raw_bytes: self.number(values, "raw_bytes")?,
            body: self.blob(values, "body")?,
        })
    }
}

fn values_of(row: &Row<'_>, first: usize, count: usize) -> Option<Vec<Value>> {
    let value = |place: usize| match row.get_ref(place).ok()? {
        ValueRef::Null => Some(Value::Null),
        ValueRef::Integer(number) => Some(Value::Integer(number)),
        ValueRef::Real(number) => Some(Value::Real(number)),
        // Not by the library's own conversion: it panics on what is no UTF-8.
        ValueRef::Text(text) => std::str::from_utf8(text).ok().map(|text| Value::Text(text.to_owned())),
        ValueRef::Blob(bytes) => Some(Value::Blob(bytes.to_vec())),
    };
    (first..first + count).map(value).collect()
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn outbox_state(value: &Value) -> Option<OutboxState> {
    let states = [OutboxState::Pending, OutboxState::Attempted, OutboxState::Delivered, OutboxState::Dead];
    states.into_iter().find(|state| as_text(value) == Some(state.name()))
}

fn parsed<T: DeserializeOwned>(record: Option<&str>) -> Option<T> {
    serde_json::from_str(record?).ok()
}

/// The smallest key from which on rows can be read again; `None` when nothing behind can.
fn first_readable(hidden: i64, first_at: &impl Fn(i64) -> rusqlite::Result<Option<i64>>) -> Option<i64> {
    let mut bad = hidden;
    let mut step = 1_i64;
    let mut good = loop {
        let key = hidden.checked_add(step)?;
        match first_at(key) {
            Ok(Some(_)) => break key,
            Ok(None) => break key,
            Err(_) => bad = key,
        }
        step = step.checked_mul(2)?;
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        if first_at(middle).is_ok() { good = middle } else { bad = middle }
    }
    Some(good)
}
