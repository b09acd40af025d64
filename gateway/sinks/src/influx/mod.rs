//! Turns the observations of committed batches into points of InfluxDB 2, or of anything that takes its line protocol.
//!
//! Batches come from memory as they are committed. What did not fit the queue, or was committed before a restart, is
//! read back from the store ([`Backlog`]); live lines go first, the backlog follows in order and at a pace. Nothing is
//! dropped: lines that the database itself refuses are found out, counted and kept with the reason: see `deliver`.
//!
//! What survives a crash: the cursor. Every batch up to it is in the database; it only moves over a gapless prefix and
//! is stored at most once a second and at the end, so that after a crash some batches are sent again. A point that is
//! sent twice is the same point.
//!
//! Metrics: `kerbside_influx_points_total`, `kerbside_influx_points_refused_total`, `kerbside_influx_bytes_total`,
//! `kerbside_influx_requests_total{result}`, `kerbside_influx_request_seconds`, and by sink
//! `kerbside_influx_lag_batches`, `kerbside_influx_backlog_batches`, `kerbside_influx_lag_seconds`,
//! `kerbside_influx_live_lag_seconds`, `kerbside_influx_requests_allowed`, `kerbside_influx_compressed`.
//! Health: `sink/NAME`. Condition of the gateway: `telemetry_refused`.

mod alarm;
mod answer;
mod backlog;
mod compression;
mod conflict;
mod deliver;
mod encode;
mod lag;
mod meters;
mod pace;
mod progress;
mod pump;
mod schema;
mod setup;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kerbside_model::port::{Backlog, TelemetryBatch};
use kerbside_runtime::{Clock, Health, Metrics, Secret, Shutdown};
use tokio::sync::{Notify, mpsc};

use crate::http::HttpError;
pub use alarm::{TELEMETRY_REFUSED, TelemetryAlarm};
use deliver::Writer;
use meters::Meters;
use pump::Pump;
pub use schema::{FieldConflict, Measurement, SERIES_MAX, Schema, predict};
use status::Status;

/// Where and how to write.
#[derive(Clone, Debug, PartialEq)]
pub struct InfluxConfig {
    /// Name of the sink in the configuration; the cursor is kept under it.
    pub name: String,
    /// Address of the database, with the path in front of `/api/v2` if there is one.
    pub url: String,
    /// Organisation, by name or id.
    pub org: String,
    /// Bucket, by name or id.
    pub bucket: String,
    /// A token that may write to the bucket.
    pub token: Option<Secret>,
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether request bodies are compressed.
    pub gzip: Gzip,
    /// Lines a request; 5,000 is what InfluxDB's documentation recommends.
    pub lines_max: usize,
    /// Bytes a request before compression.
    pub bytes_max: usize,
    /// While a request is under way, lines are gathered for so long before another one is sent beside it.
    pub flush_interval: Duration,
    /// Requests that may be under way at once; how many of them are made is learned from the answers.
    pub requests_max: usize,
    /// Share of the time of one request that the backlog may take, reading back included: 1 to 100 %.
    pub backlog_share_percent: u32,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// Longest wait between two tries.
    pub backoff_max: Duration,
    /// Batches that wait in memory; further ones are read back from the store.
    pub queue_batches_max: usize,
}

/// Whether request bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gzip {
    /// By where the database is, and how fast the link to it was measured to be.
    Auto,
    /// As they are: for a database on the same machine.
    Off,
    /// With gzip at its fastest level: about a seventh of the bytes.
    On,
}

/// Readings that wait in memory at most: about 8 MB. What does not fit is read back from the store.
const QUEUE_READINGS_MAX: usize = 200_000;

/// The configuration of the sink cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// The address is not one.
    #[error("use {url} as the address of InfluxDB: {reason}")]
    Url {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token holds characters that no HTTP header can carry.
    #[error("use the token of InfluxDB: it holds characters that no token has, such as a line break")]
    Token,
    /// A limit is zero.
    #[error("use a limit of 0 for {0}: nothing could be sent")]
    Limit(&'static str),
    /// The HTTP client cannot be made.
    #[error("connect to InfluxDB")]
    Http(#[source] HttpError),
}

/// The sink, before it runs.
pub struct InfluxSink {
    writer: Arc<Writer>,
    backlog: Arc<dyn Backlog>,
    receiver: mpsc::Receiver<OfferedBatch>,
    offered: Arc<Offered>,
    meters: Meters,
    status: Status,
    clock: Clock,
}

/// Where committed batches are offered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InfluxHandle {
    sender: mpsc::Sender<OfferedBatch>,
    offered: Arc<Offered>,
}

/// A batch in the queue.
#[derive(Debug)]
struct OfferedBatch {
    batch: TelemetryBatch,
    at: Instant,
}

/// What the offering side tells besides the batches.
#[derive(Debug, Default)]
struct Offered {
    /// The newest number that was offered.
    newest: AtomicU64,
    /// When the newest batch came, in ms since 1970.
    newest_at: AtomicI64,
    /// The newest number that is in the backlog only: it found the queue full, or waits.
    left_through: AtomicU64,
    /// Rung when a batch waits.
    left: Notify,
    /// Readings that wait in the queue.
    readings: AtomicUsize,
}

impl InfluxSink {
    /// Checks the configuration; does not connect.
    pub fn new(
        config: InfluxConfig,
        backlog: Arc<dyn Backlog>,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<(InfluxSink, InfluxHandle), InfluxError> {
        let limits = [
            ("lines_max", config.lines_max),
            ("bytes_max", config.bytes_max),
            ("queue_batches_max", config.queue_batches_max),
            ("requests_max", config.requests_max),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(InfluxError::Limit(name));
        }
        let (sender, receiver) = mpsc::channel(config.queue_batches_max);
        let offered = Arc::new(Offered::default());
        let meters = Meters::new(metrics, &config.name);
        let status = Status::new(&config.name, health);
        let writer = Arc::new(Writer::new(config, meters.clone())?);
        let handle = InfluxHandle { sender, offered: Arc::clone(&offered) };
        Ok((InfluxSink { writer, backlog, receiver, offered, meters, status, clock: Clock::System }, handle))
    }

    /// Calls somebody when the database refuses the gateway.
    #[must_use]
    pub fn with_alarm(mut self, alarm: TelemetryAlarm) -> InfluxSink {
        self.status.set_alarm(alarm);
        self
    }

    /// Takes the time of day from here: when a line was refused.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> InfluxSink {
        self.clock = clock;
        self
    }

    /// Delivers until it is told to end; then sends what is in memory within five seconds and stores the cursor.
    pub async fn run(mut self, shutdown: Shutdown) {
        let Some(cursor) = pump::load_cursor(&mut self, &shutdown).await else { return };
        Pump::new(self, cursor).run(shutdown).await;
    }
}

impl fmt::Debug for InfluxSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InfluxSink").field("config", self.writer.config()).finish_non_exhaustive()
    }
}

impl InfluxHandle {
    /// Offers a committed batch: every number, in order, also of batches without observations. Never waits; when the
    /// queue is full, the batch is read back from the store later.
    pub fn offer(&self, batch: TelemetryBatch) {
        let (sequence, readings) = (batch.sequence, batch.observations.reading_count());
        self.offered.newest.fetch_max(sequence, Ordering::AcqRel);
        self.offered.newest_at.fetch_max(pump::received_at(&batch).as_millis(), Ordering::AcqRel);
        let waiting = self.offered.readings.fetch_add(readings, Ordering::AcqRel);
        let has_room = waiting == 0 || waiting + readings <= QUEUE_READINGS_MAX;
        let offered = OfferedBatch { batch, at: Clock::stamp() };
        if !has_room || self.sender.try_send(offered).is_err() {
            self.offered.readings.fetch_sub(readings, Ordering::AcqRel);
            self.offered.left_through.fetch_max(sequence, Ordering::AcqRel);
        }
    }

    /// Tells of a committed batch that may not be sent yet: it is read back when the backlog gives it.
    pub fn leave(&self, sequence: u64) {
        self.offered.newest.fetch_max(sequence, Ordering::AcqRel);
        self.offered.left_through.fetch_max(sequence, Ordering::AcqRel);
        self.offered.left.notify_one();
    }
}
