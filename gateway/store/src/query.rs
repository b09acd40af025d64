//! Reading: turns rows back into records, for the start, for the sinks' backlog and for people.
//!
//! Reads have connections of their own and never wait for the writer. A list is read page by page, newest first: the
//! cursor of a page names its last row, so rows that appear meanwhile shift nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kerbside_model::{
    Alarm, AlarmState, Audit, Case, CaseEvent, CaseState, Frame, FrameView, OutboxRow, OutboxState, Payload,
    StoredInput, Tags, Timestamp, UndecodedReason,
};
use kerbside_runtime::Chain;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::error;

use crate::batch::{CodecError, StoredBody};
use crate::error::StoreError;
use crate::metrics::StoreMetrics;
use crate::open::is_damage;
use crate::undecoded;

/// Items of a page when the query names no number.
pub const PAGE_ITEMS: usize = 100;
/// Items of a page at most.
pub const PAGE_ITEMS_MAX: usize = 1000;

/// What a batch counts for at least when a page of batches is filled, so that empty ones do not pile up in memory.
const BATCH_BYTES_LEAST: u64 = 64;

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// Items wanted; 0 for [`PAGE_ITEMS`], at most [`PAGE_ITEMS_MAX`].
    pub limit: usize,
    /// [`Page::next`] of the page before.
    pub cursor: Option<String>,
}

/// Which alarms. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmQuery {
    /// In one of these states.
    pub states: Vec<AlarmState>,
    /// Of this device.
    pub device: Option<String>,
    /// Of this condition.
    pub condition: Option<String>,
    /// Items wanted; see [`PageQuery::limit`].
    pub limit: usize,
    /// See [`PageQuery::cursor`].
    pub cursor: Option<String>,
}

/// Which cases. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseQuery {
    /// In one of these states.
    pub states: Vec<CaseState>,
    /// Of this device.
    pub device: Option<String>,
    /// Of this condition.
    pub condition: Option<String>,
    /// Only those in no final state.
    pub open_only: bool,
    /// Items wanted; see [`PageQuery::limit`].
    pub limit: usize,
    /// See [`PageQuery::cursor`].
    pub cursor: Option<String>,
}

/// Which undecoded frames. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UndecodedQuery {
    /// Of this source.
    pub source: Option<String>,
    /// Of this address.
    pub address: Option<String>,
    /// Of this device.
    pub device: Option<String>,
    /// For this reason.
    pub reason: Option<UndecodedReason>,
    /// That came at this time or later.
    pub since: Option<Timestamp>,
    /// Items wanted; see [`PageQuery::limit`].
    pub limit: usize,
    /// See [`PageQuery::cursor`].
    pub cursor: Option<String>,
}

/// Which outbox rows. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxQuery {
    /// In one of these states.
    pub states: Vec<OutboxState>,
    /// To this target.
    pub target: Option<String>,
    /// Of this case.
    pub case_id: Option<String>,
    /// Items wanted; see [`PageQuery::limit`].
    pub limit: usize,
    /// See [`PageQuery::cursor`].
    pub cursor: Option<String>,
}

/// Which lines of the audit log. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// On this id.
    pub subject: Option<String>,
    /// Items wanted; see [`PageQuery::limit`].
    pub limit: usize,
    /// See [`PageQuery::cursor`].
    pub cursor: Option<String>,
}

/// A frame that gave no readings, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UndecodedRow {
    /// Number of the row, upwards.
    pub number: u64,
    /// The frame as it came.
    pub frame: Frame,
    /// User properties that came with it.
    pub tags: Option<Tags>,
    /// Device id, when the address was known.
    pub device: Option<String>,
    /// Name of the [`UndecodedReason`].
    pub reason: String,
    /// In a sentence, for people.
    pub detail: String,
}

impl UndecodedRow {
    /// The frame as decoders see it.
    pub fn view(&self) -> FrameView<'_> {
        FrameView { tags: self.tags.as_ref(), ..self.frame.view() }
    }
}

/// An address that sends frames and that no device of the inventory has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnknownDevice {
    /// Name of the source.
    pub source: String,
    /// What the source calls it: topic or unit.
    pub address: String,
    /// When its first frame was received.
    pub first_seen: Timestamp,
    /// When its last frame was received.
    pub last_seen: Timestamp,
    /// Frames received.
    pub frames: u64,
    /// Its last payload, cut after 1024 bytes.
    pub payload: Payload,
}

/// An outbox row with what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutboxView {
    /// The row in its present state.
    pub row: OutboxRow,
    /// Why it is in this state; may be empty.
    pub note: String,
    /// When the state last changed.
    pub updated_at: Timestamp,
}

/// A batch as it was committed.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Its number.
    pub sequence: u64,
    /// The engine's time of the step.
    pub now: Timestamp,
    /// What the engine was told, in order.
    pub inputs: Vec<StoredInput>,
}

/// What is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreStats {
    /// Number of the last batch.
    pub sequence: u64,
    /// Batches kept.
    pub batches: u64,
    /// Their compressed bytes.
    pub batches_bytes: u64,
    /// The quota of these bytes.
    pub batches_bytes_max: u64,
    /// Time of the oldest batch kept.
    pub oldest_batch_at: Option<Timestamp>,
    /// The batch after which the newest snapshot was taken.
    pub snapshot_sequence: Option<u64>,
    /// Outbox rows that are neither delivered nor dead.
    pub outbox_open: u64,
    /// Undecoded frames kept.
    pub undecoded: u64,
    /// Their bytes.
    pub undecoded_bytes: u64,
    /// Addresses heard that no device has.
    pub unknown_devices: u64,
    /// Lines kept that a telemetry database refused.
    pub refused_points: u64,
    /// Size of the database file, bytes.
    pub database_bytes: u64,
    /// Size of its write-ahead log, bytes.
    pub log_bytes: u64,
    /// The last batch that each telemetry sink is known to have.
    pub cursors: BTreeMap<String, u64>,
    /// Whether the telemetry quota drops batches at present.
    pub quota_exceeded: bool,
    /// Batches that the quota dropped since the database was made.
    pub dropped_batches: u64,
    /// Their compressed bytes.
    pub dropped_bytes: u64,
    /// Undecoded frames that a limit dropped since the database was made.
    pub dropped_undecoded: u64,
}

/// The reading connections.
#[derive(Debug)]
pub(crate) struct Readers {
    lists: Mutex<Connection>,
    batches: Mutex<Connection>,
    /// The last damaged batch that was counted, so that a sink which reads it again does not count it again.
    damage_counted: AtomicU64,
    /// A page of a batch could not be read.
    has_met_damage: AtomicBool,
}

impl Readers {
    pub(crate) fn new(lists: Connection, batches: Connection) -> Readers {
        Readers {
            lists: Mutex::new(lists),
            batches: Mutex::new(batches),
            damage_counted: AtomicU64::new(0),
            has_met_damage: AtomicBool::new(false),
        }
    }

    /// For lists and single records.
    pub(crate) fn lists(&self) -> MutexGuard<'_, Connection> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For batches: they take longer.
    pub(crate) fn batches(&self) -> MutexGuard<'_, Connection> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a page of a batch could not be read since the last call.
    pub(crate) fn has_met_damage(&self) -> bool {
        self.has_met_damage.swap(false, Ordering::Relaxed)
    }

    /// Batches in order until about so many bytes; the first damaged one is an error.
    pub(crate) fn batches_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<StoredBatch>, StoreError> {
        self.read_batches(sequence, bytes_max, Err)
    }

    /// The same for telemetry: a damaged batch comes back without inputs.
    pub(crate) fn readable_batches_after(
        &self,
        sequence: u64,
        bytes_max: usize,
        metrics: &StoreMetrics,
    ) -> Result<Vec<StoredBatch>, StoreError> {
        self.read_batches(sequence, bytes_max, |damage| {
            let StoreError::DamagedBatch { sequence, .. } = &damage else { return Err(damage) };
            if damage.is_damage() {
                self.has_met_damage.store(true, Ordering::Relaxed);
            }
            if self.damage_counted.fetch_max(*sequence, Ordering::Relaxed) < *sequence {
                metrics.batches_damaged.inc();
                error!(sequence, cause = %Chain(&damage), "a batch is damaged; its telemetry is left out");
            }
            Ok(StoredBatch { sequence: *sequence, now: Timestamp::default(), inputs: Vec::new() })
        })
    }

    fn read_batches(
        &self,
        sequence: u64,
        bytes_max: usize,
        on_damage: impl Fn(StoreError) -> Result<StoredBatch, StoreError>,
    ) -> Result<Vec<StoredBatch>, StoreError> {
        let mut batches = Vec::new();
        let mut bytes = 0_u64;
        let mut last = sequence;
        while bytes < bytes_max as u64 || batches.is_empty() {
            let connection = self.batches();
            let read = match next_sequence(&connection, last)? {
                Next::End => break,
                Next::Found(next) => {
                    last = next;
                    read_packed(&connection, next)
                }
                Next::Hidden(source) => {
                    last += 1;
                    Err(CodecError::Row(source))
                }
            };
            drop(connection);
            let batch = match read.and_then(|packed| packed.map(PackedBatch::unpack).transpose()) {
                Ok(None) => continue,
                Ok(Some((batch, raw_bytes))) => {
                    bytes += raw_bytes.max(BATCH_BYTES_LEAST);
                    batch
                }
                Err(source) => {
                    bytes += BATCH_BYTES_LEAST;
                    on_damage(StoreError::DamagedBatch { sequence: last, source })?
                }
            };
            batches.push(batch);
        }
        Ok(batches)
    }
}

/// A row of batches before it is decoded, so that the connection is free meanwhile.
pub(crate) struct PackedBatch {
    sequence: u64,
    at: i64,
    inputs: u64,
    raw_bytes: u64,
    format: u32,
    body: Vec<u8>,
}

impl PackedBatch {
    pub(crate) fn unpack(self) -> Result<(StoredBatch, u64), CodecError> {
        let body = StoredBody { format: self.format, raw_bytes: self.raw_bytes, body: &self.body };
        let inputs = body.decode_inputs(self.inputs)?;
        Ok((StoredBatch { sequence: self.sequence, now: Timestamp(self.at), inputs }, self.raw_bytes))
    }
}

/// Where a reader goes from one batch.
enum Next {
    /// There is none.
    End,
    /// To this one.
    Found(u64),
    /// A damaged page of the tree hides the next number, and there are others behind it.
    Hidden(rusqlite::Error),
}

fn next_sequence(connection: &Connection, after: u64) -> Result<Next, StoreError> {
    let find = |after: u64| {
        connection
            .prepare_cached("SELECT sequence FROM batches WHERE sequence > ?1 ORDER BY sequence LIMIT 1")?
            .query_row([after], |row| row.get::<_, u64>(0))
            .optional()
    };
    let damage = match find(after) {
        Ok(None) => return Ok(Next::End),
        Ok(Some(sequence)) => return Ok(Next::Found(sequence)),
        Err(damage) => damage,
    };
    // Looks with growing steps for something behind the damage.
    let mut step = 1_u64;
    while is_damage(&damage) && step < u64::from(u32::MAX) {
        if let Ok(Some(_)) = find(after.saturating_add(step)) {
            return Ok(Next::Hidden(damage));
        }
        step *= 2;
    }
    Err(StoreError::read("the next batch")(damage))
}

pub(crate) fn read_packed(connection: &Connection, sequence: u64) -> Result<Option<PackedBatch>, CodecError> {
    connection
        .prepare_cached("SELECT at, inputs, raw_bytes, format, body FROM batches WHERE sequence = ?1")
        .and_then(|mut statement| {
            let packed = |row: &Row<'_>| {
                Ok(PackedBatch {
                    sequence,
                    at: row.get(0)?,
                    inputs: row.get(1)?,
                    raw_bytes: row.get(2)?,
                    format: row.get(3)?,
                    body: row.get(4)?,
                })
            };
            statement.query_row([sequence], packed).optional()
        })
        .map_err(CodecError::Row)
}

// Records ------------------------------------------------------------------------------------------------------------

pub(crate) fn alarm(connection: &Connection, id: &str) -> Result<Option<Alarm>, StoreError> {
    one_record(connection, "alarm", "SELECT record FROM alarms WHERE id = ?1", id)
}

pub(crate) fn case(connection: &Connection, id: &str) -> Result<Option<(Case, Vec<CaseEvent>)>, StoreError> {
    let Some(case) = one_record(connection, "case", "SELECT record FROM cases WHERE id = ?1", id)? else {
        return Ok(None);
    };
    let query = "SELECT case_id, record FROM case_events WHERE case_id = ?1 ORDER BY number";
    Ok(Some((case, records(connection, "history of a case", query, &[Value::from(id.to_owned())])?)))
}

pub(crate) fn alarms_open(connection: &Connection) -> Result<Vec<Alarm>, StoreError> {
    records(connection, "alarm", "SELECT id, record FROM alarms WHERE open = 1 ORDER BY opened_at, id", &[])
}

pub(crate) fn cases_kept(connection: &Connection) -> Result<Vec<Case>, StoreError> {
    records(connection, "case", "SELECT id, record FROM cases WHERE kept = 1 ORDER BY opened_at, id", &[])
}

pub(crate) fn outbox_open(connection: &Connection) -> Result<Vec<OutboxRow>, StoreError> {
    let query = "SELECT number, state, note, updated_at, record FROM outbox WHERE open = 1 ORDER BY number";
    let views = collect(connection, "the outbox", query, &[], outbox_view)?;
    views.into_iter().map(|(_, view)| view.map(|view| view.row)).collect()
}

fn one_record<T: DeserializeOwned>(
    connection: &Connection,
    what: &'static str,
    query: &str,
    id: &str,
) -> Result<Option<T>, StoreError> {
    let text = connection
        .prepare_cached(query)
        .and_then(|mut statement| statement.query_row([id], |row| row.get::<_, String>(0)).optional())
        .map_err(StoreError::read(what))?;
    text.map(|text| parse(what, id, &text)).transpose()
}

/// Rows of id and record.
fn records<T: DeserializeOwned>(
    connection: &Connection,
    what: &'static str,
    query: &str,
    values: &[Value],
) -> Result<Vec<T>, StoreError> {
    let rows =
        collect(connection, what, query, values, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.into_iter().map(|(id, text)| parse(what, &id, &text)).collect()
}

fn collect<T>(
    connection: &Connection,
    what: &'static str,
    query: &str,
    values: &[Value],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    connection
        .prepare_cached(query)
        .and_then(|mut statement| statement.query_map(params_from_iter(values), read)?.collect())
        .map_err(StoreError::read(what))
}

fn parse<T: DeserializeOwned>(what: &'static str, id: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::DamagedRecord { what, id: id.to_owned(), source })
}

// Pages --------------------------------------------------------------------------------------------------------------

/// Conditions of a list, with their values.
#[derive(Default)]
pub(crate) struct Filter {
    clauses: Vec<String>,
    values: Vec<Value>,
}

impl Filter {
    pub(crate) fn equal(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.values.push(Value::from(value.to_owned()));
            self.clauses.push(format!("{column} = ?{}", self.values.len()));
        }
    }

    fn any_of<'a>(&mut self, column: &str, names: impl Iterator<Item = &'a str>) {
        let mut places = Vec::new();
        for name in names {
            self.values.push(Value::from(name.to_owned()));
            places.push(format!("?{}", self.values.len()));
        }
        if !places.is_empty() {
            self.clauses.push(format!("{column} IN ({})", places.join(", ")));
        }
    }

    fn at_least(&mut self, column: &str, value: i64) {
        self.values.push(Value::from(value));
        self.clauses.push(format!("{column} >= ?{}", self.values.len()));
    }

    fn plain(&mut self, clause: &str) {
        self.clauses.push(clause.to_owned());
    }

    fn before(&mut self, columns: &str, values: Vec<Value>) {
        let first = self.values.len() + 1;
        let places: Vec<String> = (first..first + values.len()).map(|place| format!("?{place}")).collect();
        self.clauses.push(format!("({columns}) < ({})", places.join(", ")));
        self.values.extend(values);
    }

    fn sql(&self, select: &str, order: &str, limit: usize) -> String {
        let conditions = if self.clauses.is_empty() { "1".to_owned() } else { self.clauses.join(" AND ") };
        // One more than wanted shows whether there is a next page.
        format!("{select} WHERE {conditions} ORDER BY {order} LIMIT {}", limit + 1)
    }
}

fn limit_of(wanted: usize) -> usize {
    if wanted == 0 { PAGE_ITEMS } else { wanted.min(PAGE_ITEMS_MAX) }
}

fn page<T>(mut rows: Vec<(String, T)>, limit: usize) -> Page<T> {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = if has_more { rows.last().map(|(cursor, _)| cursor.clone()) } else { None };
    Page { items: rows.into_iter().map(|(_, item)| item).collect(), next }
}

fn bad_cursor(cursor: &str) -> StoreError {
    StoreError::PageCursor { cursor: cursor.to_owned() }
}

fn parse_number(text: &str, cursor: &str) -> Result<Value, StoreError> {
    text.parse::<i64>().map(Value::from).map_err(|_| bad_cursor(cursor))
}

/// A cursor of a list by time and id: `TIME.ID`.
fn time_and_id(cursor: &str) -> Result<Vec<Value>, StoreError> {
    let (time, id) = cursor.split_once('.').ok_or_else(|| bad_cursor(cursor))?;
    Ok(vec![parse_number(time, cursor)?, Value::from(id.to_owned())])
}

/// Rows of time, id and record.
fn page_by_time<T: DeserializeOwned>(
    connection: &Connection,
    what: &'static str,
    table: &str,
    filter: &Filter,
    limit: usize,
) -> Result<Page<T>, StoreError> {
    let sql = filter.sql(&format!("SELECT opened_at, id, record FROM {table}"), "opened_at DESC, id DESC", limit);
    let columns = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?));
    let rows = collect(connection, what, &sql, &filter.values, columns)?;
    let mut items = Vec::with_capacity(rows.len());
    for (time, id, text) in rows {
        items.push((format!("{time}.{id}"), parse(what, &id, &text)?));
    }
    Ok(page(items, limit))
}

pub(crate) fn alarms(connection: &Connection, query: &AlarmQuery) -> Result<Page<Alarm>, StoreError> {
    let mut filter = Filter::default();
    filter.any_of("state", query.states.iter().map(|state| state.name()));
    filter.equal("device", query.device.as_deref());
    filter.equal("condition", query.condition.as_deref());
    if !query.states.is_empty() && !query.states.contains(&AlarmState::Cleared) {
        // Lets the small index of standing alarms be used.
        filter.plain("open = 1");
    }
    if let Some(cursor) = &query.cursor {
        filter.before("opened_at, id", time_and_id(cursor)?);
    }
    page_by_time(connection, "alarm", "alarms", &filter, limit_of(query.limit))
}

pub(crate) fn cases(connection: &Connection, query: &CaseQuery) -> Result<Page<Case>, StoreError> {
    let mut filter = Filter::default();
    filter.any_of("state", query.states.iter().map(|state| state.name()));
    filter.equal("device", query.device.as_deref());
    filter.equal("condition", query.condition.as_deref());
    if query.open_only {
        filter.plain("final = 0");
    }
    if let Some(cursor) = &query.cursor {
        filter.before("opened_at, id", time_and_id(cursor)?);
    }
    page_by_time(connection, "case", "cases", &filter, limit_of(query.limit))
}

/// Lists by row number: `NUMBER` is the cursor.
pub(crate) fn page_by_number<T>(
    connection: &Connection,
    what: &'static str,
    select: &str,
    mut filter: Filter,
    part: (usize, &Option<String>),
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<(u64, Result<T, StoreError>)>,
) -> Result<Page<T>, StoreError> {
    let (wanted, cursor) = part;
    let limit = limit_of(wanted);
    if let Some(cursor) = cursor {
        filter.before("number", vec![parse_number(cursor, cursor)?]);
    }
    let sql = filter.sql(select, "number DESC", limit);
    let rows = collect(connection, what, &sql, &filter.values, |row| read(row))?;
    let mut items = Vec::with_capacity(rows.len());
    for (number, item) in rows {
        items.push((number.to_string(), item?));
    }
    Ok(page(items, limit))
}

pub(crate) fn undecoded(connection: &Connection, query: &UndecodedQuery) -> Result<Page<UndecodedRow>, StoreError> {
    let mut filter = Filter::default();
    filter.equal("source", query.source.as_deref());
    filter.equal("address", query.address.as_deref());
    filter.equal("device", query.device.as_deref());
    filter.equal("reason", query.reason.map(UndecodedReason::name));
    if let Some(since) = query.since {
        filter.at_least("at", since.as_millis());
    }
    page_by_number(connection, "undecoded frames", UNDECODED, filter, (query.limit, &query.cursor), undecoded_row)
}

/// One of them.
pub(crate) fn undecoded_frame(connection: &Connection, number: u64) -> Result<Option<UndecodedRow>, StoreError> {
    let found = connection
        .prepare_cached(&format!("{UNDECODED} WHERE number = ?1"))
        .and_then(|mut statement| statement.query_row([number], undecoded_row).optional())
        .map_err(StoreError::read("an undecoded frame"))?;
    found.map(|(_, row)| row).transpose()
}

const UNDECODED: &str = "SELECT number, frame, device, reason, detail FROM undecoded";

fn undecoded_row(row: &Row<'_>) -> rusqlite::Result<(u64, Result<UndecodedRow, StoreError>)> {
    let number: u64 = row.get(0)?;
    let frame = undecoded::unpacked(row.get_ref(1)?.as_blob()?);
    let (device, reason, detail) = (row.get(2)?, row.get(3)?, row.get(4)?);
    let item = match frame {
        Ok((frame, tags)) => Ok(UndecodedRow { number, frame, tags, device, reason, detail }),
        Err(source) => Err(damaged_row("undecoded frame", number, source)),
    };
    Ok((number, item))
}

fn damaged_row(what: &'static str, id: impl ToString, source: postcard::Error) -> StoreError {
    let source = serde::de::Error::custom(source);
    StoreError::DamagedRecord { what, id: id.to_string(), source }
}

/// A list by time of the last frame, then source and address: `TIME.LENGTH.SOURCE+ADDRESS` is the cursor.
pub(crate) fn unknown_devices(connection: &Connection, query: &PageQuery) -> Result<Page<UnknownDevice>, StoreError> {
    let mut filter = Filter::default();
    if let Some(cursor) = &query.cursor {
        filter.before("last_seen, source, address", unknown_device_cursor(cursor)?);
    }
    let limit = limit_of(query.limit);
    let select = "SELECT source, address, first_seen, last_seen, frames, payload FROM unknown_devices";
    let sql = filter.sql(select, "last_seen DESC, source DESC, address DESC", limit);
    let rows = collect(connection, "unknown devices", &sql, &filter.values, |row| {
        let (source, address): (String, String) = (row.get(0)?, row.get(1)?);
        let payload = postcard::from_bytes::<Payload>(row.get_ref(5)?.as_blob()?);
        Ok(payload.map_err(|cause| damaged_row("unknown device", &address, cause)).and_then(|payload| {
            let (first_seen, last_seen) = (Timestamp(get(row, 2)?), Timestamp(get(row, 3)?));
            Ok(UnknownDevice { source, address, first_seen, last_seen, frames: get(row, 4)?, payload })
        }))
    })?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let device: UnknownDevice = row?;
        let UnknownDevice { source, address, last_seen, .. } = &device;
        items.push((format!("{}.{}.{source}{address}", last_seen.as_millis(), source.len()), device));
    }
    Ok(page(items, limit))
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    row.get(index).map_err(StoreError::read("unknown devices"))
}

fn unknown_device_cursor(cursor: &str) -> Result<Vec<Value>, StoreError> {
    let (time, rest) = cursor.split_once('.').ok_or_else(|| bad_cursor(cursor))?;
    let (length, texts) = rest.split_once('.').ok_or_else(|| bad_cursor(cursor))?;
    let length: usize = length.parse().map_err(|_| bad_cursor(cursor))?;
    let (source, address) = texts.split_at_checked(length).ok_or_else(|| bad_cursor(cursor))?;
    Ok(vec![parse_number(time, cursor)?, Value::from(source.to_owned()), Value::from(address.to_owned())])
}

pub(crate) fn outbox(connection: &Connection, query: &OutboxQuery) -> Result<Page<OutboxView>, StoreError> {
    let mut filter = Filter::default();
    filter.any_of("state", query.states.iter().map(|state| state.name()));
    filter.equal("target", query.target.as_deref());
    filter.equal("case_id", query.case_id.as_deref());
    let select = "SELECT number, state, note, updated_at, record FROM outbox";
    page_by_number(connection, "the outbox", select, filter, (query.limit, &query.cursor), outbox_view)
}

/// The record holds the row as it was written; the columns hold what became of it.
fn outbox_view(row: &Row<'_>) -> rusqlite::Result<(u64, Result<OutboxView, StoreError>)> {
    let number: u64 = row.get(0)?;
    let (state, note, updated_at): (String, String, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let text: String = row.get(4)?;
    let quoted = format!("\"{state}\"");
    let view = parse::<OutboxRow>("outbox row", &number.to_string(), &text).and_then(|row| {
        let state = parse("state of outbox row", &row.id, &quoted)?;
        Ok(OutboxView { row: OutboxRow { state, ..row }, note, updated_at: Timestamp(updated_at) })
    });
    Ok((number, view))
}

pub(crate) fn audit(connection: &Connection, query: &AuditQuery) -> Result<Page<Audit>, StoreError> {
    let mut filter = Filter::default();
    filter.equal("subject", query.subject.as_deref());
    let read = |row: &Row<'_>| {
        let (number, text): (u64, String) = (row.get(0)?, row.get(1)?);
        let line = parse("line of the audit log", &number.to_string(), &text);
        Ok((number, line))
    };
    let select = "SELECT number, record FROM audit";
    page_by_number(connection, "the audit log", select, filter, (query.limit, &query.cursor), read)
}

/// Time of the oldest batch, and how many outbox rows are open.
pub(crate) fn oldest_and_open(connection: &Connection) -> Result<(Option<Timestamp>, u64), StoreError> {
    let oldest = connection
        .query_row("SELECT at FROM batches ORDER BY sequence LIMIT 1", [], |row| row.get(0))
        .optional()
        .map_err(StoreError::read("the oldest batch"))?;
    let open = connection
        .query_row("SELECT count(*) FROM outbox WHERE open = 1", [], |row| row.get(0))
        .map_err(StoreError::read("the outbox"))?;
    Ok((oldest.map(Timestamp), open))
}
