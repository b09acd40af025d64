//! Keeps lines that a telemetry database refuses for good, with the reason, so that the sink goes on behind them.
//!
//! Durable when the sink is told so; only then does its cursor move on. Bounded by rows and by bytes: the oldest go
//! first. Every row carries the running sum of bytes, so that nothing has to be added up at a write.
//! Metrics: `kerbside_store_refused_points_total`, `kerbside_store_refused_points_dropped_total`.

use kerbside_model::Timestamp;
use kerbside_model::port::RefusedPoint;
use kerbside_runtime::Metrics;
use prometheus::IntCounter;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;

use crate::error::StoreError;
use crate::query::{Filter, Page, page_by_number};

/// Rows kept. A profile that writes a wrong type shows in the first hundred.
pub(crate) const ROWS_MAX: u64 = 10_000;
/// Bytes kept, of lines, reasons and names.
pub(crate) const BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A longer line is cut: its beginning names the device and the first fields.
pub(crate) const LINE_BYTES_MAX: usize = 4096;
/// A longer reason is cut. InfluxDB repeats the line in it.
pub(crate) const REASON_BYTES_MAX: usize = 1024;

/// Which refused lines. What is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedQuery {
    /// Of this sink.
    pub sink: Option<String>,
    /// Of this device.
    pub device: Option<String>,
    /// Items wanted; see [`crate::PageQuery::limit`].
    pub limit: usize,
    /// See [`crate::PageQuery::cursor`].
    pub cursor: Option<String>,
}

/// A line that a telemetry database refused, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedRow {
    /// Number of the row, upwards.
    pub number: u64,
    /// Name of the sink.
    pub sink: String,
    /// Id of the device.
    pub device: String,
    /// The line as it was sent, cut after 4096 bytes.
    pub line: String,
    /// What the database says, cut after 1024 bytes.
    pub reason: String,
    /// When it was refused.
    pub at: Timestamp,
}

/// What is counted of refused lines.
#[derive(Clone, Debug)]
pub(crate) struct RefusedMetrics {
    kept: IntCounter,
    dropped: IntCounter,
}

impl RefusedMetrics {
    pub(crate) fn new(metrics: &Metrics) -> RefusedMetrics {
        RefusedMetrics {
            kept: metrics.counter(
                "kerbside_store_refused_points_total",
                "lines that a telemetry database refused and that were kept",
            ),
            dropped: metrics
                .counter("kerbside_store_refused_points_dropped_total", "refused lines that a limit dropped"),
        }
    }

    pub(crate) fn count(&self, written: Written) {
        self.kept.inc_by(written.kept);
        self.dropped.inc_by(written.dropped);
    }
}

/// Lines on their way to the disk.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) sink: String,
    pub(crate) points: Vec<RefusedPoint>,
}

/// What one write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) kept: u64,
    pub(crate) dropped: u64,
}

/// Writes lines in a transaction of their own, and drops the oldest over the limits.
pub(crate) fn write(connection: &Connection, refused: &Refused) -> rusqlite::Result<Written> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let newest = "SELECT bytes_through FROM refused_points ORDER BY number DESC LIMIT 1";
    let mut bytes_through: u64 = transaction.query_row(newest, [], |row| row.get(0)).optional()?.unwrap_or(0);
    let mut statement = transaction.prepare_cached(
        "INSERT INTO refused_points(sink, device, line, reason, at, bytes, bytes_through) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for point in &refused.points {
        let (line, reason) = (cut(&point.line, LINE_BYTES_MAX), cut(&point.reason, REASON_BYTES_MAX));
        let bytes = (refused.sink.len() + point.device.len() + line.len() + reason.len()) as u64;
        bytes_through += bytes;
        let at = point.at.as_millis();
        statement.execute(params![refused.sink, point.device, line, reason, at, bytes, bytes_through])?;
    }
    drop(statement);
    let dropped = drop_oldest(&transaction, bytes_through)?;
    transaction.commit()?;
    Ok(Written { kept: refused.points.len() as u64, dropped })
}

fn drop_oldest(connection: &Connection, bytes_through: u64) -> rusqlite::Result<u64> {
    let last: u64 =
        connection.query_row("SELECT coalesce(max(number), 0) FROM refused_points", [], |row| row.get(0))?;
    // Both columns grow with every row, so that the rows to go are the first ones.
    let first_kept = "SELECT number FROM refused_points WHERE number > ?1 AND bytes_through - bytes >= ?2 \
                      ORDER BY number LIMIT 1";
    let limits = params![last.saturating_sub(ROWS_MAX), bytes_through.saturating_sub(BYTES_MAX)];
    let first_kept: Option<u64> = connection.query_row(first_kept, limits, |row| row.get(0)).optional()?;
    let gone = connection.execute("DELETE FROM refused_points WHERE number < ?1", [first_kept.unwrap_or(0)])?;
    Ok(gone as u64)
}

/// The beginning of a text, cut between two characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Refused lines, the newest first.
pub(crate) fn list(connection: &Connection, query: &RefusedQuery) -> Result<Page<RefusedRow>, StoreError> {
    let mut filter = Filter::default();
    filter.equal("sink", query.sink.as_deref());
    filter.equal("device", query.device.as_deref());
    let read = |row: &Row<'_>| {
        let (number, at): (u64, i64) = (row.get(0)?, row.get(5)?);
        let (sink, device, line, reason) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((number, Ok(RefusedRow { number, sink, device, line, reason, at: Timestamp(at) })))
    };
    let select = "SELECT number, sink, device, line, reason, at FROM refused_points";
    page_by_number(connection, "refused points", select, filter, (query.limit, &query.cursor), read)
}

/// How many are kept. Only the oldest ever go, so that their numbers have no gaps.
pub(crate) fn count(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .query_row("SELECT coalesce(max(number) - min(number) + 1, 0) FROM refused_points", [], |row| row.get(0))
        .map_err(StoreError::read("refused points"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use tempfile::TempDir;

    fn database() -> (TempDir, Connection) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("kerbside.db");
        let connection = schema::open_writer(&path).unwrap();
        schema::migrate(&connection, &path).unwrap();
        (folder, connection)
    }

    fn point(device: &str, line: &str, at: i64) -> RefusedPoint {
        let reason = "field type conflict: tilt".to_owned();
        RefusedPoint { device: device.to_owned(), line: line.to_owned(), reason, at: Timestamp(at) }
    }

    fn refused(points: Vec<RefusedPoint>) -> Refused {
        Refused { sink: "influx".to_owned(), points }
    }

    #[test]
    fn refused_lines_are_listed_newest_first_and_by_device() {
        let (_folder, connection) = database();
        let points = vec![point("C-1", "cover tilt=1 5", 5), point("C-2", "cover tilt=2 6", 6)];
        assert_eq!(write(&connection, &refused(points)).unwrap(), Written { kept: 2, dropped: 0 });
        let all = list(&connection, &RefusedQuery::default()).unwrap();
        assert_eq!(all.items.iter().map(|row| row.device.as_str()).collect::<Vec<_>>(), ["C-2", "C-1"]);
        let query = RefusedQuery { device: Some("C-1".to_owned()), ..RefusedQuery::default() };
        let one = list(&connection, &query).unwrap();
        assert_eq!(one.items.len(), 1);
        assert_eq!((one.items[0].line.as_str(), one.items[0].at), ("cover tilt=1 5", Timestamp(5)));
        assert_eq!(count(&connection).unwrap(), 2);
    }

    #[test]
    fn the_oldest_refused_lines_go_by_rows() {
        let (_folder, connection) = database();
        let many = (0..ROWS_MAX as i64 + 7).map(|number| point("C-1", "x", number)).collect();
        assert_eq!(write(&connection, &refused(many)).unwrap().dropped, 7);
        assert_eq!(count(&connection).unwrap(), ROWS_MAX);
        let oldest: i64 = connection.query_row("SELECT min(at) FROM refused_points", [], |row| row.get(0)).unwrap();
        assert_eq!(oldest, 7);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_the_oldest_go_by_bytes() {
        let (_folder, connection) = database();
        let line = format!("x{}", "井".repeat(LINE_BYTES_MAX));
        let mut dropped = 0;
        for at in 0..40 {
            let many = (0..100).map(|_| point("C-1", &line, at)).collect();
            dropped += write(&connection, &refused(many)).unwrap().dropped;
        }
        let kept = count(&connection).unwrap();
        assert_eq!(kept + dropped, 4000);
        let row = &list(&connection, &RefusedQuery::default()).unwrap().items[0];
        assert!(row.line.len() <= LINE_BYTES_MAX && row.line.len() > LINE_BYTES_MAX - 3);
        let bytes = (row.line.len() + row.reason.len() + row.sink.len() + row.device.len()) as u64;
        assert!(kept * bytes <= BYTES_MAX && (kept + 1) * bytes > BYTES_MAX, "{kept} rows of {bytes} bytes");
    }
}
