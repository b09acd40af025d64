//! The writing connection: turns packed commits into transactions, and keeps house beside them.
//!
//! House-keeping (cursors, deletions) rides in the transactions of commits, or in one of its own when nothing is
//! committed for a while. About once a second the connection looks at what it cannot know by itself: the room on the
//! disk, the age of the oldest rows, and what the kernel says was written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kerbside_model::{Effects, Timestamp};
use kerbside_runtime::{Chain, Clock};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tracing::{error, info, warn};

use crate::age::AgeClock;
use crate::conditions::{Dropping, StoreConditions};
use crate::metrics::{Dropped, StoreMetrics};
use crate::quota::{self, Limits, Quota};
use crate::refused::{self, Refused};
use crate::room::Room;
use crate::snapshot::{self, PackedSite};
use crate::totals::Totals;
use crate::wear::Wear;
use crate::writer::{Common, Parts};
use crate::{StoreConfig, effects, undecoded};

/// Deletions, cursors and the look at the disk wait so long.
pub(crate) const HOUSEKEEPING_INTERVAL: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };
/// Bytes that a transaction writes to the log beside its body: the end of a table, and sometimes a page above it.
const LOG_BYTES_PER_COMMIT: u64 = 8 * 1024;
/// Bytes for an alarm, a case, a message or an audit line: a page of the table and one of an index.
const LOG_BYTES_PER_RECORD: u64 = 8 * 1024;
/// Bytes for an undecoded frame; many of them share a page.
const LOG_BYTES_PER_FRAME: u64 = 1024;
/// SQLite copies the log by itself, before it acknowledges, when it is so many times as large as it should be: when
/// readers kept us from doing it.
const LOG_OVERFLOW: u64 = 4;
/// The file of the log is cut again when it grew so many times as large as it should be. Below that it is kept: a full
/// disk cannot refuse what is written into it.
const LOG_KEPT: u64 = 2;
/// Bytes of a page of the database.
const PAGE_BYTES: u64 = 4096;
/// Free pages are given back to the file system when more than this lie in the file and they are most of it.
const FREE_PAGES_MAX: u64 = 4096;
/// Pages given back at once.
const FREED_PAGES: u32 = 512;
/// A spell of dropping undecoded frames is over when none went for so long. Their quota stays full by itself.
const UNDECODED_QUIET: Duration = Duration::from_secs(3_600);

/// The writing connection with the sums that belong to it.
pub(crate) struct Database {
    connection: Connection,
    common: Arc<Common>,
    metrics: StoreMetrics,
    totals: Totals,
    /// Hash of the site that was saved last: the batch that changes to it may still be on its way, however long the
    /// pipeline takes.
    saved_site: Option<String>,
    limits: Limits,
    room: Room,
    ages: AgeClock,
    wear: Wear,
    pages_max: u32,
    pruned_at: Instant,
    looked_at: Option<Instant>,
    cursors_written_at: Option<Instant>,
    undecoded_dropped_at: Instant,
    is_prune_unfinished: bool,
    /// Bytes in the log since it was copied, about.
    log_bytes: u64,
    log_bytes_max: u64,
}

/// What a transaction changes beside its rows, until it is committed.
struct Change {
    totals: Totals,
    dropped: Dropped,
    pruned: Option<quota::Pruned>,
    now: Timestamp,
}

impl Change {
    /// Whether only batches were added, which a restart finds by itself.
    fn is_plain(&self, before: &Totals) -> bool {
        let Totals { sequence, batches, batches_bytes, since_snapshot_bytes, .. } = self.totals.clone();
        let has_pruned = self.pruned.is_some_and(|pruned| pruned.batches > 0);
        !has_pruned
            && self.totals == Totals { sequence, batches, batches_bytes, since_snapshot_bytes, ..before.clone() }
    }
}

impl Database {
    pub(crate) fn new(
        connection: Connection,
        common: Arc<Common>,
        config: &StoreConfig,
        clock: Clock,
        metrics: StoreMetrics,
    ) -> rusqlite::Result<Database> {
        set_log_limits(&connection, config.log_bytes_max)?;
        let totals = common.totals().clone();
        let ages = AgeClock::new(clock);
        let wear = Wear::load(&connection, config.writes_per_day, metrics.clone(), ages.now())?;
        let mut database = Database {
            connection,
            common,
            totals,
            saved_site: None,
            limits: Limits::new(
                Quota::new(config.batches_bytes_max, config.batches_age_max),
                Quota::new(config.undecoded_bytes_max, config.undecoded_age_max),
            ),
            room: Room::new(Path::new(&config.data_dir), config.free_bytes_min, metrics.clone()),
            ages,
            wear,
            metrics,
            pages_max: 0,
            pruned_at: Clock::stamp(),
            looked_at: None,
            cursors_written_at: None,
            undecoded_dropped_at: Clock::stamp(),
            is_prune_unfinished: false,
            log_bytes: 0,
            log_bytes_max: config.log_bytes_max,
        };
        // Before anybody asks: what stood before the restart still stands.
        database.look_around()?;
        Ok(database)
    }

    /// The sums after the last transaction.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What the writer and the handles share.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        self.ages.now()
    }

    /// Whether the engine should hand over a snapshot with its next commit.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.limits.wants_snapshot(&self.totals)
    }

    /// Writes one commit with all that belongs to it, or nothing.
    pub(crate) fn write(&mut self, parts: &Parts<'_>) -> rusqlite::Result<()> {
        self.prepare()?;
        let view = self.common.sinks.view();
        let limits = Limits { delivered: view.delivered, ..self.limits };
        let mut change = self.change();
        let is_prune_due = self.is_prune_unfinished || self.pruned_at.elapsed() >= HOUSEKEEPING_INTERVAL;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        insert_batch(&transaction, parts, &mut change.totals)?;
        effects::write(&transaction, parts.effects, parts.now)?;
        let undecoded = &parts.effects.undecoded;
        if !undecoded.is_empty() {
            undecoded::write(&transaction, undecoded, &mut change.totals, &mut change.dropped)?;
        }
        undecoded::settle(&transaction, &parts.effects.read_again, &mut change.totals)?;
        if let Some(hash) = &parts.site {
            snapshot::write_site_change(&transaction, change.totals.sequence, hash)?;
        }
        if let Some(snapshot) = &parts.snapshot {
            snapshot::write(&transaction, snapshot, self.saved_site.as_deref(), &mut change.totals)?;
            self.wear.save(&transaction)?;
        }
        let prunes = limits.is_exceeded(&change.totals) || (is_prune_due && limits.has_old_batches(&change.totals));
        if prunes {
            change.pruned = Some(quota::prune(&transaction, &limits, &mut change.totals, &mut change.dropped)?);
        }
        // With deletions, or a crash would leave a sink before the first batch that is still there.
        let writes_cursors = prunes || parts.snapshot.is_some() || is_due(self.cursors_written_at);
        if writes_cursors {
            view.write(&transaction)?;
        }
        self.settle(&transaction, &limits, undecoded.len(), &mut change)?;
        if parts.snapshot.is_some() || !change.is_plain(&self.totals) {
            change.totals.save(&transaction)?;
        }
        transaction.commit()?;
        self.count_transaction(parts.log_bytes());
        if writes_cursors {
            self.common.sinks.written(&view);
            self.cursors_written_at = Some(Clock::stamp());
        }
        self.publish(change);
        Ok(())
    }

    /// Stores a site.
    pub(crate) fn write_site(&mut self, site: &PackedSite) -> rusqlite::Result<()> {
        self.prepare()?;
        snapshot::write_site(&self.connection, site, self.totals.sequence)?;
        self.saved_site = Some(site.hash.clone());
        self.count_transaction(site.body.body.len() as u64);
        Ok(())
    }

    /// Keeps lines that a sink's database refuses.
    pub(crate) fn keep_refused(&mut self, refused: &Refused) -> rusqlite::Result<refused::Written> {
        self.prepare()?;
        let written = refused::write(&self.connection, refused)?;
        self.count_transaction(0);
        Ok(written)
    }

    /// Writes cursors and deletes what nobody needs or what is over a quota, when no commit does so.
    pub(crate) fn keep_house(&mut self) -> rusqlite::Result<()> {
        self.look()?;
        let view = self.common.sinks.view();
        let limits = Limits { delivered: view.delivered, ..self.limits };
        // Until the sinks are known, what they have looks as if it were lost.
        let prunes = view.is_known && (limits.is_exceeded(&self.totals) || limits.has_old_batches(&self.totals));
        let settles = limits.has_old_frames(&self.totals) || limits.is_spell_over(&self.totals) || self.is_quiet();
        if view.is_unwritten() || prunes || settles {
            self.prepare()?;
            let mut change = self.change();
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            view.write(&transaction)?;
            if prunes {
                change.pruned = Some(quota::prune(&transaction, &limits, &mut change.totals, &mut change.dropped)?);
            }
            self.settle(&transaction, &limits, 0, &mut change)?;
            let is_changed = change.totals != self.totals;
            if is_changed {
                change.totals.save(&transaction)?;
            }
            transaction.commit()?;
            if is_changed || view.is_unwritten() {
                self.count_transaction(0);
            }
            self.common.sinks.written(&view);
            self.cursors_written_at = Some(Clock::stamp());
            self.publish(change);
        }
        self.give_back_pages()
    }

    /// Writes the last cursors and the day's sum, and copies the whole log into the database.
    pub(crate) fn finish(&mut self) -> rusqlite::Result<()> {
        let view = self.common.sinks.view();
        self.prepare()?;
        self.wear.look(self.ages.now());
        if let Err(cause) = self.wear.save(&self.connection) {
            warn!(cause = %Chain(&cause), "the bytes written today could not be stored");
        }
        view.write(&self.connection)?;
        self.common.sinks.written(&view);
        self.count_transaction(0);
        let copied = self.copy_log("TRUNCATE");
        self.wear.look(self.ages.now());
        copied
    }

    /// Looks at what changes by itself, when it is time to: under load there is no house-keeping of its own.
    pub(crate) fn look_if_due(&mut self) -> rusqlite::Result<bool> {
        if !is_due(self.looked_at) {
            return Ok(false);
        }
        self.look()?;
        Ok(true)
    }

    fn look(&mut self) -> rusqlite::Result<()> {
        self.looked_at = Some(Clock::stamp());
        self.wear.look(self.ages.now());
        self.look_around()
    }

    /// Looks at the room on the disk and at the age of what is kept.
    fn look_around(&mut self) -> rusqlite::Result<()> {
        if self.common.pretended.skips_age_rest.load(Ordering::Relaxed) {
            self.ages.wake();
        }
        let now = self.ages.now();
        let free_pages: u64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        let spare = self.room.look(free_pages * PAGE_BYTES, self.common.pretended.space(), now);
        let age_now = self.ages.look();
        self.limits.look(&self.connection, &self.totals, spare, age_now)?;
        self.share_conditions();
        Ok(())
    }

    /// What people must know at present.
    fn share_conditions(&self) {
        let mut conditions = self.common.conditions();
        let last_outage = conditions.last_outage;
        *conditions = StoreConditions {
            telemetry_dropped: self.totals.excess,
            undecoded_dropped: self.totals.undecoded_excess,
            disk_low: self.room.low(),
            over_budget: self.wear.over_budget(),
            last_outage,
        };
    }

    fn change(&self) -> Change {
        let (totals, now) = (self.totals.clone(), self.ages.now());
        Change { totals, dropped: Dropped::default(), pruned: None, now }
    }

    /// Drops undecoded frames over their quota, and begins and ends the spells of dropping.
    fn settle(
        &self,
        connection: &Connection,
        limits: &Limits,
        written: usize,
        change: &mut Change,
    ) -> rusqlite::Result<()> {
        let Change { totals, dropped, now, .. } = change;
        if limits.has_old_frames(totals) {
            undecoded::prune(connection, &limits.undecoded, written, totals, dropped)?;
        }
        if limits.is_spell_over(totals) {
            totals.excess = None;
        }
        if self.is_quiet() {
            totals.undecoded_excess = None;
        }
        quota::count_lost(totals, dropped, *now);
        Ok(())
    }

    fn is_quiet(&self) -> bool {
        self.totals.undecoded_excess.is_some() && self.undecoded_dropped_at.elapsed() >= UNDECODED_QUIET
    }

    /// The transaction of a change is committed.
    fn publish(&mut self, change: Change) {
        let Change { totals, dropped, pruned, .. } = change;
        if let Some(pruned) = pruned {
            self.pruned_at = Clock::stamp();
            self.is_prune_unfinished = pruned.is_unfinished;
        }
        if dropped.undecoded_lost().rows > 0 {
            self.undecoded_dropped_at = Clock::stamp();
        }
        self.metrics.count_dropped(&dropped);
        log_spell("telemetry that no database has yet", self.totals.excess, totals.excess);
        log_spell("undecoded frames", self.totals.undecoded_excess, totals.undecoded_excess);
        self.common.totals().clone_from(&totals);
        self.totals = totals;
        self.metrics.show(&self.totals);
        self.share_conditions();
    }

    fn count_transaction(&mut self, bytes: u64) {
        let bytes = bytes + LOG_BYTES_PER_COMMIT;
        self.log_bytes += bytes;
        self.wear.transaction(bytes);
    }

    /// Makes sure that no transaction is open, and sets a new limit of pages.
    fn prepare(&mut self) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        let pages_max = self.common.pretended.pages_max.load(Ordering::Relaxed);
        if pages_max != self.pages_max {
            let pragma = if pages_max == 0 { u32::MAX - 1 } else { pages_max };
            self.connection.pragma_update_and_check(None, "max_page_count", pragma, |_| Ok(()))?;
            self.pages_max = pages_max;
        }
        Ok(())
    }

    /// Copies the log into the database when it is large. After the acknowledgement, not before.
    pub(crate) fn copy_log_if_large(&mut self) {
        if self.log_bytes < self.log_bytes_max {
            return;
        }
        if let Err(cause) = self.copy_log("PASSIVE") {
            warn!(cause = %Chain(&cause), "the log could not be copied into the database; it grows until that works");
        }
    }

    /// Makes room for a commit that a full disk refused: what is in the log is copied into the database, so that the
    /// log begins anew in the file that it has, and what may go goes.
    pub(crate) fn make_room(&mut self) -> rusqlite::Result<()> {
        self.prepare()?;
        self.copy_log("PASSIVE")?;
        self.keep_house()
    }

    fn copy_log(&mut self, mode: &str) -> rusqlite::Result<()> {
        self.log_bytes = 0;
        let pragma = format!("PRAGMA wal_checkpoint({mode})");
        let copied: i64 = self.connection.query_row(&pragma, [], |row| row.get(2))?;
        self.wear.copy(u64::try_from(copied).unwrap_or(0) * PAGE_BYTES);
        Ok(())
    }

    fn give_back_pages(&self) -> rusqlite::Result<()> {
        // While the disk is short of room they are kept: nobody else can take them.
        if self.room.low().is_some() {
            return Ok(());
        }
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let free = pragma("freelist_count")?;
        if free <= FREE_PAGES_MAX || free <= pragma("page_count")? / 2 {
            return Ok(());
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({FREED_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

impl Parts<'_> {
    /// Bytes that it puts into the log, about, beside those of any transaction.
    fn log_bytes(&self) -> u64 {
        let Effects { alarms, cases, case_events, outbox, outbox_changes, audit, undecoded, .. } = self.effects;
        let records =
            alarms.len() + cases.len() + case_events.len() + outbox.len() + outbox_changes.len() + audit.len();
        let snapshot = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.body.body.len());
        let bodies = (self.packed.body.len() + snapshot) as u64;
        bodies + records as u64 * LOG_BYTES_PER_RECORD + undecoded.len() as u64 * LOG_BYTES_PER_FRAME
    }
}

fn is_due(last: Option<Instant>) -> bool {
    last.is_none_or(|stamp| stamp.elapsed() >= HOUSEKEEPING_INTERVAL)
}

fn set_log_limits(connection: &Connection, log_bytes_max: u64) -> rusqlite::Result<()> {
    let overflow_pages = log_bytes_max * LOG_OVERFLOW / PAGE_BYTES;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", overflow_pages, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", log_bytes_max * LOG_KEPT, |_| Ok(()))
}

fn log_spell(what: &str, before: Option<Dropping>, after: Option<Dropping>) {
    match (before, after) {
        (None, Some(Dropping { rows, bytes, .. })) => {
            error!(what, rows, bytes, "a quota is full: the oldest are being dropped");
        }
        (Some(Dropping { since, rows, bytes }), None) => info!(what, %since, rows, bytes, "the quota has room again"),
        _ => {}
    }
}

fn insert_batch(connection: &Connection, parts: &Parts<'_>, totals: &mut Totals) -> rusqlite::Result<()> {
    let bytes = parts.packed.body.len() as u64;
    totals.sequence += 1;
    totals.batches += 1;
    totals.batches_bytes += bytes;
    totals.since_snapshot_bytes += bytes;
    connection
        .prepare_cached(
            "INSERT INTO batches(sequence, at, inputs, raw_bytes, bytes, format, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            totals.sequence,
            parts.now.as_millis(),
            parts.inputs,
            parts.packed.raw_bytes,
            bytes,
            parts.packed.format,
            parts.packed.body,
        ])?;
    Ok(())
}
