//! A walk test (现场核验): which of its devices have shown that they work.
//!
//! Plain memory. It is part of the snapshot and so survives a crash; the engine's part is in `walk_test.rs`.

use std::collections::BTreeMap;

use kerbside_model::Timestamp;
use serde::{Deserialize, Serialize};

/// A walk test that runs or, until the next one begins, the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Walk {
    pub(crate) by: String,
    pub(crate) started_at: Timestamp,
    /// When it ends by itself.
    pub(crate) until: Timestamp,
    /// When it ended, and by whom.
    pub(crate) ended: Option<(Timestamp, String)>,
    /// By device id, so that a change of the inventory leaves it as it is.
    pub(crate) devices: BTreeMap<String, Progress>,
}

/// What was seen of one device since the walk began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) frames: u32,
    pub(crate) first_frame_at: Option<Timestamp>,
    pub(crate) last_frame_at: Option<Timestamp>,
    pub(crate) seen: Vec<Seen>,
    /// File name, URL or a remark.
    pub(crate) photo: String,
}

/// One test trigger that was seen; the first time counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Condition or point.
    pub trigger: String,
    /// When it was seen.
    pub at: Timestamp,
    /// When it was normal again.
    pub cleared_at: Option<Timestamp>,
}

/// What happened to a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Raised,
    Cleared,
}

impl Walk {
    /// What was seen of a device, while the walk runs.
    pub(crate) fn running_for(&mut self, device: &str) -> Option<&mut Progress> {
        if self.ended.is_some() { None } else { self.devices.get_mut(device) }
    }

    /// Whether a device is in it while it runs.
    pub(crate) fn covers(&self, device: &str) -> bool {
        self.ended.is_none() && self.devices.contains_key(device)
    }
}

impl Progress {
    /// A readable live frame came.
    pub(crate) fn heard(&mut self, at: Timestamp) {
        self.frames = self.frames.saturating_add(1);
        self.first_frame_at = self.first_frame_at.or(Some(at));
        self.last_frame_at = Some(at);
    }

    /// A trigger was seen. The first time counts: a second opening takes nothing away.
    pub(crate) fn triggered(&mut self, trigger: &str, at: Timestamp) {
        if !self.seen.iter().any(|seen| seen.trigger == trigger) {
            self.seen.push(Seen { trigger: trigger.to_owned(), at, cleared_at: None });
        }
    }

    /// A trigger is normal again. One that stood before the walk and was not seen in it says nothing.
    pub(crate) fn cleared(&mut self, trigger: &str, at: Timestamp) {
        let open = self.seen.iter_mut().find(|seen| seen.trigger == trigger && seen.cleared_at.is_none());
        if let Some(seen) = open {
            seen.cleared_at = Some(at);
        }
    }

    /// The trigger that tells most: one that was seen whole, else the first.
    pub(crate) fn best(&self) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.cleared_at.is_some()).or_else(|| self.seen.first())
    }
}
