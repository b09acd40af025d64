//! What one step of the engine did.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Suppression};
use crate::case::{Case, CaseEvent, OutboxRow, OutboxState};
use crate::envelope::IgnoredEvent;
use crate::frame::Frame;
use crate::frames::Tags;
use crate::reading::{Observations, Quality};
use crate::{Severity, Timestamp};

/// Everything that one step changed. All but the observations and counts goes into the same transaction as the batch.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Readings for the database.
    pub observations: Arc<Observations>,
    /// Frames that gave no readings, with the reason.
    pub undecoded: Vec<Undecoded>,
    /// What became of undecoded frames that were read again.
    pub read_again: Vec<ReadAgain>,
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
    /// How many frames were taken so far, decoded or not.
    pub frames: u32,
    /// What was done with the few frames that decoding alone would treat otherwise, in their order.
    pub notes: Vec<FrameNote>,
}

impl Effects {
    /// Notes what was done with the frame that was taken last.
    pub fn note(&mut self, what: Noted) {
        self.notes.push(FrameNote { frame: self.frames.saturating_sub(1), what });
    }

    /// Whether something must be durable at once: an alarm, a case, a delivery.
    pub fn is_urgent(&self) -> bool {
        !(self.alarms.is_empty() && self.cases.is_empty() && self.outbox.is_empty() && self.outbox_changes.is_empty())
    }
}

/// What the engine did with one frame, where the frame alone does not tell: it is stored, so that a frame which is
/// decoded again gives the same observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameNote {
    /// Number of the frame within its commit, from 0: every frame counts, decoded or not.
    pub frame: u32,
    /// What was done.
    pub what: Noted,
}

/// See [`FrameNote`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Noted {
    /// It is no observation: it came before, or its device sends too much.
    Left,
    /// It tells no time and came at once with others: its observation stands so many ms after its arrival. Counted from
    /// there, because the arrival is set right when the gateway's clock was wrong.
    PlacedAfter(u16),
    /// The readings before it say this of one of its readings.
    Graded {
        /// See [`point_key`](crate::id::point_key).
        point: u32,
        /// Its flag.
        quality: Quality,
    },
    /// It settles what an earlier reading of its device is worth.
    Revised {
        /// See [`point_key`](crate::id::point_key).
        point: u32,
        /// The value of then.
        value: f64,
        /// When it was taken.
        observed_at: Timestamp,
        /// When it was received.
        received_at: Timestamp,
        /// Its final flag.
        quality: Quality,
    },
}

/// A frame that gave no readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undecoded {
    /// The frame as it came.
    pub frame: Frame,
    /// User properties that came with it.
    pub tags: Option<Tags>,
    /// What the inventory's column `address` must say for it, as far as the frame tells.
    pub address: String,
    /// Device id, when the address was known.
    pub device: Option<String>,
    /// In one word, for metrics.
    pub reason: UndecodedReason,
    /// In a sentence, for people.
    pub detail: String,
}

/// What became of an undecoded frame that was read again.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadAgain {
    /// Number of its row in the store.
    pub row: u64,
    /// Name of its source.
    pub source: Arc<str>,
    /// What the inventory's column `address` must say for it, as far as the frame tells.
    pub address: String,
    /// The device that it is from, when that is known.
    pub device: Option<String>,
    /// `None` when it is readable now; else why it still is not.
    pub refused: Option<(UndecodedReason, String)>,
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
    /// The topic names another kind of device than the inventory.
    WrongKind,
    /// The payload claims to be from another device than its topic says.
    WrongClaim,
    /// The device's codec refused it, failed on it, or hit one of its limits.
    Codec,
    /// Its values bear only numbers, and the message that gives them names was not heard (Sparkplug).
    UnknownAlias,
}

impl UndecodedReason {
    /// Every reason.
    pub const ALL: [UndecodedReason; 8] = [
        UndecodedReason::UnknownDevice,
        UndecodedReason::Malformed,
        UndecodedReason::NoPoints,
        UndecodedReason::Panic,
        UndecodedReason::WrongKind,
        UndecodedReason::WrongClaim,
        UndecodedReason::Codec,
        UndecodedReason::UnknownAlias,
    ];

    /// The reason's name in JSON, the store and metrics.
    pub fn name(self) -> &'static str {
        match self {
            UndecodedReason::UnknownDevice => "unknown_device",
            UndecodedReason::Malformed => "malformed",
            UndecodedReason::NoPoints => "no_points",
            UndecodedReason::Panic => "panic",
            UndecodedReason::WrongKind => "wrong_kind",
            UndecodedReason::WrongClaim => "wrong_claim",
            UndecodedReason::Codec => "codec",
            UndecodedReason::UnknownAlias => "unknown_alias",
        }
    }

    /// The reason in Chinese, as people read it.
    pub fn name_zh(self) -> &'static str {
        match self {
            UndecodedReason::UnknownDevice => "设备未登记",
            UndecodedReason::Malformed => "格式错误",
            UndecodedReason::NoPoints => "无可识别测点",
            UndecodedReason::Panic => "解码器出错",
            UndecodedReason::WrongKind => "主题中的设备类别不符",
            UndecodedReason::WrongClaim => "报文自称为其他设备",
            UndecodedReason::Codec => "解码脚本拒绝或出错",
            UndecodedReason::UnknownAlias => "测点无名称（未收到上线报文）",
        }
    }
}

/// How a frame came to us a second time. Its first coming is stored; the second one only shows that the device lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateReason {
    /// The broker sent it again, because our acknowledgement did not reach it.
    Redelivered,
    /// It came by another source or topic prefix as well.
    OtherPath,
    /// The device said it again, with the same time of its own.
    Repeated,
    /// The network handed the same uplink over again: the same frame counter and the same bytes.
    SameUplink,
}

impl DuplicateReason {
    /// Every reason.
    pub const ALL: [DuplicateReason; 4] = [
        DuplicateReason::Redelivered,
        DuplicateReason::OtherPath,
        DuplicateReason::Repeated,
        DuplicateReason::SameUplink,
    ];

    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            DuplicateReason::Redelivered => "redelivered",
            DuplicateReason::OtherPath => "other_path",
            DuplicateReason::Repeated => "repeated",
            DuplicateReason::SameUplink => "same_uplink",
        }
    }
}

/// Why the time that a device tells is not used: its frame counts as of its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeRefusal {
    /// It lies further ahead of the gateway than a working clock may.
    Future,
    /// It lies before any device of ours: a clock that lost its battery says 1970 or 2000.
    Past,
    /// It is no time.
    Unreadable,
}

impl TimeRefusal {
    /// Every reason.
    pub const ALL: [TimeRefusal; 3] = [TimeRefusal::Future, TimeRefusal::Past, TimeRefusal::Unreadable];

    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            TimeRefusal::Future => "future",
            TimeRefusal::Past => "past",
            TimeRefusal::Unreadable => "unreadable",
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
    /// Frames that came before, by reason in the order of [`DuplicateReason::ALL`]: neither stored again nor detected on.
    pub frames_duplicate: [u64; DuplicateReason::ALL.len()],
    /// What came in envelopes and is no reading of a device, by kind in the order of [`IgnoredEvent::ALL`].
    pub frames_ignored: [u64; IgnoredEvent::ALL.len()],
    /// Uplinks that never came, by the gaps in their devices' frame counters.
    pub uplinks_lost: u64,
    /// Frames of which a part was not read, such as a channel that the profile does not know.
    pub frames_partial: u64,
    /// Frames beyond their device's budget: detected on, and left out of the telemetry.
    pub frames_thinned: u64,
    /// Frames whose device time is not used, by reason in the order of [`TimeRefusal::ALL`].
    pub times_refused: [u64; TimeRefusal::ALL.len()],
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
    /// Undecoded frames that were read again and gave readings.
    pub frames_read_again: u64,
    /// Incidents opened.
    pub incidents_opened: u64,
}
