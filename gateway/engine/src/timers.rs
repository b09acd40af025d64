//! Points in time at which the engine must look again even when nothing comes in.

use std::collections::BTreeSet;
use std::sync::Arc;

use kerbside_model::{DeviceIndex, Timestamp};

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    Device(DeviceIndex),
    Case(String),
    /// The end of the walk test.
    Walk,
    /// An incident may end.
    Incident(String),
    /// A link was down for long, or its devices are looked for.
    Source(Arc<str>),
}

/// All timers that run. They are rebuilt from the state at start, so they are not part of a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Timestamp, TimerKey)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Timestamp, key: TimerKey) {
        self.0.insert((at, key));
    }

    pub(crate) fn remove(&mut self, at: Timestamp, key: TimerKey) {
        self.0.remove(&(at, key));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the next one that is due at or before `until`.
    pub(crate) fn pop(&mut self, until: Timestamp) -> Option<(Timestamp, TimerKey)> {
        if self.next()? <= until { self.0.pop_first() } else { None }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
