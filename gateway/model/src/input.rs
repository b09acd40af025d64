//! Everything that the engine can be told. What is not an input cannot change it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::case::CaseState;
use crate::effects::FrameNote;
use crate::frame::Frame;
use crate::frames::{FrameView, Frames, Tags};
use crate::incident::RainSignal;
use crate::site::Site;
use crate::{Severity, Timestamp};

/// One input of the engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A raw frame of a source.
    Frame(Frame),
    /// Messages of one source that came together.
    Frames(Frames),
    /// The gateway begins to listen with this site.
    Site(Arc<Site>),
    /// A person did something.
    Operator(OperatorAction),
    /// An outbox row was tried.
    Delivery(Delivery),
    /// A platform told a case's state.
    Platform(PlatformStatus),
    /// A source lost its link or has it again: while it is down, its devices are not silent, we are deaf.
    Source(SourceStatus),
    /// Something is wrong, or right again, with the gateway itself.
    Gateway(GatewayCondition),
    /// Profiles, inventory or configuration changed while the gateway went on listening.
    Change {
        /// As it is now.
        site: Arc<Site>,
        /// Who had it applied.
        by: String,
    },
    /// Frames that gave no readings when they came are read again.
    Again(Vec<FrameAgain>),
}

/// An input as the store keeps it: the site by its content hash, all else as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StoredInput {
    /// See [`Input::Frame`].
    Frame(Frame),
    /// See [`Input::Site`]; the hash names the site's own row.
    Site(String),
    /// See [`Input::Operator`].
    Operator(OperatorAction),
    /// See [`Input::Delivery`].
    Delivery(Delivery),
    /// See [`Input::Platform`].
    Platform(PlatformStatus),
    /// See [`Input::Source`].
    Source(SourceStatus),
    /// See [`Input::Gateway`].
    Gateway(GatewayCondition),
    /// See [`Input::Frames`]. Last, because stored batches name variants by their position.
    Frames(Frames),
    /// The inputs up to here were one step of the engine, at this time.
    Step(Timestamp),
    /// No input: what the engine did with some of the frames of the commit. Only who decodes them again needs it.
    Notes(Vec<FrameNote>),
    /// See [`Input::Change`].
    Change {
        /// Names the site's own row.
        hash: String,
        /// Who had it applied.
        by: String,
    },
    /// [`Input::Again`] as it was stored before these frames kept their tags: read, and no longer written.
    Again(Vec<UntaggedAgain>),
    /// See [`Input::Again`].
    ReadAgain(Vec<FrameAgain>),
}

/// A frame that gave no readings when it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameAgain {
    /// Number of its row in the store, which goes when the frame is readable now.
    pub row: u64,
    /// The frame, with its own time of arrival.
    pub frame: Frame,
    /// User properties that came with it.
    pub tags: Option<Tags>,
}

impl FrameAgain {
    /// The frame as decoders see it.
    pub fn view(&self) -> FrameView<'_> {
        FrameView { tags: self.tags.as_ref(), ..self.frame.view() }
    }
}

/// A [`FrameAgain`] as it was stored first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UntaggedAgain {
    /// See [`FrameAgain::row`].
    pub row: u64,
    /// See [`FrameAgain::frame`].
    pub frame: Frame,
}

impl From<UntaggedAgain> for FrameAgain {
    fn from(UntaggedAgain { row, frame }: UntaggedAgain) -> FrameAgain {
        FrameAgain { row, frame, tags: None }
    }
}

impl StoredInput {
    /// The frames in it, in order.
    pub fn frames(&self) -> impl Iterator<Item = FrameView<'_>> {
        let (mut one, mut many, mut again, mut untagged) = (None, None, &[][..], &[][..]);
        match self {
            StoredInput::Frame(frame) => one = Some(frame.view()),
            StoredInput::Frames(frames) => many = Some(frames),
            StoredInput::ReadAgain(frames) => again = frames,
            StoredInput::Again(frames) => untagged = frames,
            _ => {}
        }
        let again = again.iter().map(FrameAgain::view);
        let untagged = untagged.iter().map(|again| again.frame.view());
        one.into_iter().chain(many.into_iter().flat_map(Frames::iter)).chain(again).chain(untagged)
    }

    /// The notes about the frames of a commit.
    pub fn notes(commit: &[StoredInput]) -> &[FrameNote] {
        let notes = commit.iter().rev().find_map(|input| match input {
            StoredInput::Notes(notes) => Some(notes.as_slice()),
            _ => None,
        });
        notes.unwrap_or_default()
    }
}

impl From<Input> for StoredInput {
    fn from(input: Input) -> StoredInput {
        match input {
            Input::Frame(frame) => StoredInput::Frame(frame),
            Input::Frames(frames) => StoredInput::Frames(frames),
            Input::Site(site) => StoredInput::Site(site.hash().to_owned()),
            Input::Operator(action) => StoredInput::Operator(action),
            Input::Delivery(delivery) => StoredInput::Delivery(delivery),
            Input::Platform(status) => StoredInput::Platform(status),
            Input::Source(status) => StoredInput::Source(status),
            Input::Gateway(condition) => StoredInput::Gateway(condition),
            Input::Change { site, by } => StoredInput::Change { hash: site.hash().to_owned(), by },
            Input::Again(frames) => StoredInput::ReadAgain(frames),
        }
    }
}

/// What a person can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorAction {
    /// Sign for a case (签收): stops the escalation.
    Sign {
        /// Which case.
        case_id: String,
        /// Who.
        by: String,
    },
    /// Move a case of the ledger to another state.
    MoveCase {
        /// Which case.
        case_id: String,
        /// To which state.
        to: CaseState,
        /// Who.
        by: String,
        /// Why.
        note: String,
    },
    /// Acknowledge an alarm.
    Acknowledge {
        /// Which alarm.
        alarm_id: String,
        /// Who.
        by: String,
    },
    /// Mask a device for maintenance or by a permit window: its alarms open no cases meanwhile.
    Mask {
        /// Which device.
        device: String,
        /// What for.
        kind: MaskKind,
        /// Begin.
        from: Timestamp,
        /// End; the mask lifts itself.
        until: Timestamp,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Lift every mask of a device before its time.
    Unmask {
        /// Which device.
        device: String,
        /// Who.
        by: String,
    },
    /// Begin a walk test: an installer makes every device show once that it sees what it is there for.
    StartWalk {
        /// Ids of the devices in it.
        devices: Vec<String>,
        /// When it ends by itself.
        until: Timestamp,
        /// Who.
        by: String,
    },
    /// End the walk test before its time.
    FinishWalk {
        /// Who.
        by: String,
    },
    /// Note a photo, or a remark, for a device in the walk test.
    NotePhoto {
        /// Which device.
        device: String,
        /// File name, URL or a few words.
        photo: String,
        /// Who.
        by: String,
    },
    /// An official rainstorm signal (暴雨预警信号) is in force, or no more when its end has passed.
    RainSignal {
        /// Level and end.
        signal: RainSignal,
        /// Who.
        by: String,
    },
}

/// What a device is masked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// Maintenance (维护).
    Maintenance,
    /// An authorised opening (施工许可).
    Permit,
}

/// What became of one attempt to deliver an outbox row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which row.
    pub row_id: String,
    /// Which case.
    pub case_id: String,
    /// To whom.
    pub target: String,
    /// What happened.
    pub outcome: DeliveryOutcome,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// A request is about to leave: from now on the row counts as attempted.
    Attempting,
    /// The target has it, under this number if it gave one.
    Delivered {
        /// The target's own number.
        platform_id: Option<String>,
    },
    /// The target refuses it for good.
    Refused {
        /// The target's words.
        reason: String,
    },
}

/// What a platform says of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlatformStatus {
    /// Which case of ours.
    pub case_id: String,
    /// Which platform.
    pub platform: String,
    /// The platform's number for it.
    pub platform_id: String,
    /// The state, in our words.
    pub state: CaseState,
    /// The platform's own word and note.
    pub note: String,
}

/// Whether a source hears anything at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Which source.
    pub source: Arc<str>,
    /// Whether its link stands.
    pub connected: bool,
}

/// A condition of the gateway itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayCondition {
    /// Name of the condition, such as `quota_exceeded`.
    pub condition: String,
    /// Whether it stands.
    pub active: bool,
    /// How bad it is.
    pub severity: Severity,
    /// What and how much, in English.
    pub detail: String,
    /// The same in Chinese.
    pub detail_zh: String,
}
