//! How far every telemetry sink is: the cursors, in memory first and on the disk with the next transaction.
//!
//! A cursor lost in a crash only means that some points are sent again; the database that gets them writes the same
//! points over themselves. So cursors cost no sync of their own while batches are being committed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

/// Cursors and the sinks that count.
#[derive(Debug, Default)]
pub(crate) struct Sinks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    cursors: BTreeMap<String, u64>,
    registered: Option<Vec<String>>,
    version: u64,
    written_version: u64,
}

/// What the sinks said at one moment.
#[derive(Debug)]
pub(crate) struct SinksView {
    version: u64,
    /// Cursors to write; `None` when the disk has them.
    unwritten: Option<BTreeMap<String, u64>>,
    /// The last batch that every registered sink has.
    pub(crate) delivered: u64,
    /// Somebody said which sinks there are.
    pub(crate) is_known: bool,
}

impl Sinks {
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Sinks> {
        let mut statement = connection.prepare("SELECT sink, sequence FROM cursors")?;
        let cursors = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(Sinks(Mutex::new(State { cursors, ..State::default() })))
    }

    pub(crate) fn register(&self, names: &[String]) {
        self.lock().registered = Some(names.to_vec());
    }

    pub(crate) fn cursor(&self, sink: &str) -> u64 {
        self.lock().cursors.get(sink).copied().unwrap_or(0)
    }

    pub(crate) fn cursors(&self) -> BTreeMap<String, u64> {
        self.lock().cursors.clone()
    }

    pub(crate) fn set_cursor(&self, sink: &str, sequence: u64) {
        let mut state = self.lock();
        if state.cursors.get(sink) == Some(&sequence) {
            return;
        }
        state.cursors.insert(sink.to_owned(), sequence);
        state.version += 1;
    }

    pub(crate) fn view(&self) -> SinksView {
        let state = self.lock();
        let unwritten = (state.version != state.written_version).then(|| state.cursors.clone());
        let cursor = |name: &String| state.cursors.get(name).copied().unwrap_or(0);
        let delivered = match &state.registered {
            None => 0,
            Some(names) => names.iter().map(cursor).min().unwrap_or(u64::MAX),
        };
        SinksView { version: state.version, unwritten, delivered, is_known: state.registered.is_some() }
    }

    /// The transaction that wrote this view was committed.
    pub(crate) fn written(&self, view: &SinksView) {
        self.lock().written_version = view.version;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SinksView {
    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Writes the cursors that the disk does not have. Inside a transaction.
    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(cursors) = &self.unwritten else { return Ok(()) };
        let mut statement =
            connection.prepare_cached("INSERT OR REPLACE INTO cursors(sink, sequence) VALUES (?1, ?2)")?;
        for (sink, sequence) in cursors {
            statement.execute(params![sink, sequence])?;
        }
        Ok(())
    }
}
