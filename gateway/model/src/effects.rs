//! What one step of the engine did.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Suppression};
use crate::case::{Case, CaseEvent, OutboxRow, OutboxState};
use crate::frame::Frame;
use crate::reading::Observations;
use crate::{Severity, Timestamp};

/// Everything that one step changed. All but the observations and counts goes into the same transaction as the batch.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Readings for the database.
    pub observations: Arc<Observations>,
    /// Frames that gave no readings, with the reason.
    pub undecoded: Vec<Undecoded>,
    /// Alarms that changed, whole; the last one of an id wins.
    pub alarms: Vec<Alarm>,
    /// Cases that changed, whole; the last one of an id wins.
    pub cases: Vec<Case>,
    /// New lines of case histories, in order.
    pub case_events: Vec<CaseEvent>,
    /// New things to deliver.
    pub outbox: Vec<OutboxRow>,
    /// Outbox rows whose state changed.
    pub outbox_changes: Vec<OutboxChange>,
    /// New lines of the audit log.
    pub audit: Vec<Audit>,
    /// Facts for the metrics.
    pub counts: Counts,
}

impl Effects {
    /// Whether something must be durable at once: an alarm, a case, a delivery.
    pub fn is_urgent(&self) -> bool {
        !(self.alarms.is_empty() && self.cases.is_empty() && self.outbox.is_empty() && self.outbox_changes.is_empty())
    }
}

/// A frame that gave no readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undecoded {
    /// The frame as it came.
    pub frame: Frame,
    /// What the inventory's column `address` must say for it, as far as the frame tells.
    pub address: String,
    /// Device id, when the address was known.
    pub device: Option<String>,
    /// In one word, for metrics.
    pub reason: UndecodedReason,
    /// In a sentence, for people.
    pub detail: String,
}

/// Why a frame gave no readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndecodedReason {
    /// No device of the inventory has this address.
    UnknownDevice,
    /// The bytes are not what the profile reads.
    Malformed,
    /// Well-formed, and none of the profile's points is in it.
    NoPoints,
    /// The decoder panicked; the frame is kept as evidence.
    Panic,
}

impl UndecodedReason {
    /// Every reason.
    pub const ALL: [UndecodedReason; 4] =
        [UndecodedReason::UnknownDevice, UndecodedReason::Malformed, UndecodedReason::NoPoints, UndecodedReason::Panic];

    /// The reason's name in JSON, the store and metrics.
    pub fn name(self) -> &'static str {
        match self {
            UndecodedReason::UnknownDevice => "unknown_device",
            UndecodedReason::Malformed => "malformed",
            UndecodedReason::NoPoints => "no_points",
            UndecodedReason::Panic => "panic",
        }
    }
}

/// A change of an outbox row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxChange {
    /// Which row.
    pub row_id: String,
    /// Its state now.
    pub state: OutboxState,
    /// Why; may be empty.
    pub note: String,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who: "kerbside", a platform, a person.
    pub by: String,
    /// What, in one word, such as `case_signed`.
    pub action: String,
    /// On what: an id.
    pub subject: String,
    /// Details.
    pub detail: String,
}

/// Facts that callers turn into metrics. The engine itself counts nothing in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that gave at least one reading.
    pub frames_decoded: u64,
    /// Readings that are not good.
    pub readings_not_good: u64,
    /// Late observations: stored, not alarmed on.
    pub observations_late: u64,
    /// Retained messages: read for nothing but the device list.
    pub frames_retained: u64,
    /// Frames that gave no readings, by reason in the order of [`UndecodedReason::ALL`].
    pub frames_undecoded: [u64; UndecodedReason::ALL.len()],
    /// Alarms raised, by severity in the order of [`Severity::ALL`].
    pub alarms_raised: [u64; Severity::ALL.len()],
    /// Alarms cleared.
    pub alarms_cleared: u64,
    /// Cases opened.
    pub cases_opened: u64,
    /// Episodes that joined a case which was still open.
    pub cases_joined: u64,
    /// Alarms that opened no case, by reason in the order of [`Suppression::ALL`].
    pub suppressed: [u64; Suppression::ALL.len()],
    /// Notices written to the outbox.
    pub notices: u64,
}
