//! What durability costs the flash: turns what the kernel counts for the writer thread into metrics and a day's sum.
//!
//! Bytes are those of `/proc/thread-self/io`, because SQLite does not say which pages a copy of the log wrote: the same
//! page is often in the log many times and written once. `write_bytes` (whole pages on their way to the device) is
//! taken, or `wchar` (bytes in write calls) where that is more: on file systems without that accounting. Every
//! connection that writes is the writer thread's. What the file system writes for itself (its journal) and what the
//! card copies inside are not in it. Where there is no such file, the log and the copied pages are estimated.
//!
//! Syncs are counted as SQLite makes them with `synchronous = FULL`: one for a transaction, two for a copy of the log.
//!
//! **The budget of a day** never holds anything back. The day is that of UTC. Its sum is stored with every snapshot, so
//! a crash forgets some minutes of it.
//!
//! Metrics: `kerbside_store_bytes_written_total`, `_syncs_total`, `_written_today_bytes`, `_writes_per_day_bytes`.

use std::fs;

use kerbside_model::Timestamp;
use rusqlite::{Connection, params};

use crate::conditions::OverBudget;
use crate::metrics::{StoreMetrics, level};

const COUNTERS: &str = "/proc/thread-self/io";
const DAY_MILLIS: i64 = 86_400_000;
/// A copy of the log syncs the log and then the database.
const SYNCS_OF_A_COPY: u64 = 2;

/// Counts what was written. Lives on the writer thread, whose counters begin at nothing.
#[derive(Debug)]
pub(crate) struct Wear {
    metrics: StoreMetrics,
    /// Bytes that may be written in a day; `None` without a budget.
    budget: Option<u64>,
    /// What the kernel had counted at the last look.
    counted: u64,
    /// What would have been written since the last look, if the kernel does not tell.
    estimated: u64,
    today: Today,
    over_budget: Option<OverBudget>,
}

/// The sum of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Today {
    /// Days since 1970, UTC.
    day: i64,
    bytes: u64,
    /// When the budget was used up.
    exceeded_since: Option<Timestamp>,
}

impl Wear {
    /// Goes on with the stored sum of the day.
    pub(crate) fn load(
        connection: &Connection,
        budget: Option<u64>,
        metrics: StoreMetrics,
        now: Timestamp,
    ) -> rusqlite::Result<Wear> {
        let today = connection.query_row("SELECT day, bytes, exceeded_since FROM wear", [], |row| {
            let since: i64 = row.get(2)?;
            Ok(Today { day: row.get(0)?, bytes: row.get(1)?, exceeded_since: (since != 0).then_some(Timestamp(since)) })
        })?;
        metrics.writes_per_day.set(level(budget.unwrap_or(0)));
        let mut wear = Wear { metrics, budget, counted: 0, estimated: 0, today, over_budget: None };
        wear.add(0, now);
        Ok(wear)
    }

    /// A transaction put about so many bytes into the log.
    pub(crate) fn transaction(&mut self, bytes: u64) {
        self.metrics.syncs.inc();
        self.estimated += bytes;
    }

    /// At most so many bytes of the log were copied into the database.
    pub(crate) fn copy(&mut self, bytes: u64) {
        self.metrics.syncs.inc_by(SYNCS_OF_A_COPY);
        self.estimated += bytes;
    }

    /// Adds up what was written since the last look. To be called on the writer thread.
    pub(crate) fn look(&mut self, now: Timestamp) {
        let written = match counted_bytes() {
            Some(counted) => counted.saturating_sub(std::mem::replace(&mut self.counted, counted)),
            None => self.estimated,
        };
        self.estimated = 0;
        self.add(written, now);
    }

    fn add(&mut self, written: u64, now: Timestamp) {
        self.metrics.bytes_written.inc_by(written);
        self.today.add(written, now, self.budget);
        self.metrics.written_today.set(level(self.today.bytes));
        let standing = self.today.exceeded_since.zip(self.budget);
        self.over_budget = standing.map(|(since, bytes_max)| OverBudget { since, bytes: self.today.bytes, bytes_max });
    }

    /// Stands while the day's budget is used up.
    pub(crate) fn over_budget(&self) -> Option<OverBudget> {
        self.over_budget
    }

    /// Writes the day's sum. Inside a transaction.
    pub(crate) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Today { day, bytes, exceeded_since } = self.today;
        let since = exceeded_since.map_or(0, Timestamp::as_millis);
        connection
            .prepare_cached("UPDATE wear SET day = ?1, bytes = ?2, exceeded_since = ?3")?
            .execute(params![day, bytes, since])?;
        Ok(())
    }
}

impl Today {
    fn add(&mut self, written: u64, now: Timestamp, budget: Option<u64>) {
        let day = now.as_millis().div_euclid(DAY_MILLIS);
        if day != self.day {
            *self = Today { day, ..Today::default() };
        }
        self.bytes += written;
        let is_over = budget.is_some_and(|budget| self.bytes > budget);
        self.exceeded_since = if is_over { self.exceeded_since.or(Some(now)) } else { None };
    }
}

/// What the calling thread has written so far, as the kernel counts it.
fn counted_bytes() -> Option<u64> {
    parse(&fs::read_to_string(COUNTERS).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
    Some(value("write_bytes:")?.max(value("wchar:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_count_of_the_kernel_is_taken_and_cancelled_writes_are_not() {
        let text = |wchar: u64, written: u64| {
            format!("rchar: 9\nwchar: {wchar}\nsyscr: 1\nwrite_bytes: {written}\ncancelled_write_bytes: 77777\n")
        };
        assert_eq!(parse(&text(100, 4096)), Some(4096));
        assert_eq!(parse(&text(5000, 0)), Some(5000));
        assert_eq!(parse("nothing of use"), None);
    }

    #[test]
    fn a_budget_is_used_up_once_and_the_next_day_begins_anew() {
        let noon = Timestamp(DAY_MILLIS / 2);
        let mut today = Today::default();
        today.add(60, noon, Some(100));
        assert_eq!(today.exceeded_since, None);
        today.add(60, Timestamp(noon.0 + 1), Some(100));
        today.add(60, Timestamp(noon.0 + 2), Some(100));
        assert_eq!((today.bytes, today.exceeded_since), (180, Some(Timestamp(noon.0 + 1))));
        today.add(10, Timestamp(DAY_MILLIS), Some(100));
        assert_eq!(today, Today { day: 1, bytes: 10, exceeded_since: None });
        today.add(1_000, Timestamp(DAY_MILLIS), None);
        assert_eq!(today.exceeded_since, None, "without a budget nothing is too much");
    }
}
