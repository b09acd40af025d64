//! The lines of a recording, one JSON object each, named by their first key.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbside_model::{
    ByteText, Delivery, Frame, FrameAgain, FrameFlags, FrameView, Frames, GatewayCondition, OperatorAction, Payload,
    PayloadView, PlatformStatus, RegisterRead, SourceStatus, StoredInput, Tag, Tags, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::RecordingHeader;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// The first one.
    Recording(RecordingHeader),
    /// Profiles, inventory and policy as they were, for the lines below that name them by their hash.
    Site {
        /// Content hash.
        hash: String,
        /// [`kerbside_model::site::SiteFacts`] in postcard, in base64.
        facts: String,
    },
    /// A frame that came alone.
    #[serde(borrow)]
    Frame(RecordedFrame<'a>),
    /// A message; those of one submission follow one another, and all but the first one say so.
    #[serde(borrow)]
    Message(RecordedFrame<'a>),
    /// A frame that was read again.
    #[serde(borrow)]
    Again(RecordedFrame<'a>),
    /// The gateway began to listen with this site.
    Listen {
        /// Its hash.
        site: String,
    },
    /// The site changed while the gateway went on listening.
    Change {
        /// Its hash.
        site: String,
        /// Who had it applied.
        by: String,
    },
    /// A person did something.
    Operator(OperatorAction),
    /// An outbox row was tried.
    Delivery(Delivery),
    /// A platform told a case's state.
    Platform(PlatformStatus),
    /// A source lost its link or has it again.
    Source(SourceStatus),
    /// Something was wrong, or right again, with the gateway itself.
    Gateway(GatewayCondition),
    /// The lines since the step before were one step of the engine, at this time.
    Step(Timestamp),
}

/// A frame as a line has it: exactly one of `text`, `base64` and `registers` is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordedFrame<'a> {
    source: Arc<str>,
    #[serde(borrow)]
    address: Cow<'a, str>,
    received_at: Timestamp,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registers: Option<Cow<'a, RegisterRead>>,
    #[serde(default, skip_serializing_if = "is_false")]
    retained: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    redelivered: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(Arc<str>, Arc<str>)>,
    /// It came in one submission with the message before.
    #[serde(default, skip_serializing_if = "is_false")]
    joined: bool,
    /// Of a frame that was read again, its row in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl<'a> RecordedFrame<'a> {
    fn of(frame: &FrameView<'a>, joined: bool) -> RecordedFrame<'a> {
        let (mut text, mut base64, mut registers) = (None, None, None);
        match frame.payload {
            PayloadView::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(payload) => text = Some(Cow::Borrowed(payload)),
                Err(_) => base64 = Some(STANDARD.encode(bytes)),
            },
            PayloadView::Registers(read) => registers = Some(Cow::Borrowed(read)),
        }
        let tags = frame.tags.into_iter().flat_map(|tags| tags.iter());
        RecordedFrame {
            source: Arc::clone(frame.source),
            address: String::from_utf8_lossy(frame.address),
            received_at: frame.received_at,
            text,
            base64,
            registers,
            retained: frame.flags.retained,
            redelivered: frame.flags.redelivered,
            tags: tags.map(|tag| (Arc::clone(&tag.name), Arc::clone(&tag.value))).collect(),
            joined,
            row: None,
        }
    }

    fn payload(&self) -> Result<Payload, serde_json::Error> {
        let wrong = |what: &str| <serde_json::Error as serde::de::Error>::custom(what);
        match (&self.text, &self.base64, &self.registers) {
            (Some(text), None, None) => Ok(Payload::Bytes(text.as_bytes().to_vec().into())),
            (None, Some(base64), None) => {
                let bytes = STANDARD.decode(base64).map_err(|_| wrong("base64 does not hold base64"))?;
                Ok(Payload::Bytes(bytes.into()))
            }
            (None, None, Some(registers)) => Ok(Payload::Registers(registers.clone().into_owned())),
            _ => Err(wrong("one of text, base64 and registers must be there")),
        }
    }

    fn frame(&self) -> Result<Frame, serde_json::Error> {
        Ok(Frame {
            source: Arc::clone(&self.source),
            address: ByteText::from(self.address.as_ref()),
            payload: self.payload()?,
            received_at: self.received_at,
            retained: self.retained,
        })
    }

    fn tags(&self) -> Option<Tags> {
        let tag = |(name, value): &(Arc<str>, Arc<str>)| Tag { name: Arc::clone(name), value: Arc::clone(value) };
        (!self.tags.is_empty()).then(|| self.tags.iter().map(tag).collect())
    }

    /// Puts a message behind those of its submission, or begins a submission.
    fn push_message(&self, inputs: &mut Vec<StoredInput>) -> Result<(), serde_json::Error> {
        let payload = self.payload()?;
        let Payload::Bytes(bytes) = &payload else {
            return Err(serde::de::Error::custom("a message holds no registers"));
        };
        let belongs = |frames: &Frames| *frames.source() == self.source && frames.received_at() == self.received_at;
        let is_joined = self.joined && matches!(inputs.last(), Some(StoredInput::Frames(frames)) if belongs(frames));
        if !is_joined {
            inputs.push(StoredInput::Frames(Frames::new(Arc::clone(&self.source), self.received_at)));
        }
        let flags = FrameFlags { retained: self.retained, redelivered: self.redelivered };
        if let Some(StoredInput::Frames(frames)) = inputs.last_mut() {
            frames.push(&self.address, bytes, flags, self.tags().as_ref());
        }
        Ok(())
    }
}

/// The lines of an input, without the frames that are not wanted.
pub(super) fn lines_of(input: &StoredInput, wanted: &dyn Fn(&FrameView<'_>) -> bool, write: &mut dyn FnMut(&Line<'_>)) {
    match input {
        StoredInput::Frame(frame) => {
            let view = frame.view();
            if wanted(&view) {
                write(&Line::Frame(RecordedFrame::of(&view, false)));
            }
        }
        StoredInput::Frames(frames) => {
            for (position, view) in frames.iter().filter(|view| wanted(view)).enumerate() {
                write(&Line::Message(RecordedFrame::of(&view, position > 0)));
            }
        }
        StoredInput::Again(again) => {
            let again = again.iter().map(|again| (again.row, again.frame.view()));
            write_again(again.filter(|(_, view)| wanted(view)), write);
        }
        StoredInput::ReadAgain(again) => {
            let again = again.iter().map(|again| (again.row, again.view()));
            write_again(again.filter(|(_, view)| wanted(view)), write);
        }
        StoredInput::Site(hash) => write(&Line::Listen { site: hash.clone() }),
        StoredInput::Change { hash, by } => write(&Line::Change { site: hash.clone(), by: by.clone() }),
        StoredInput::Operator(action) => write(&Line::Operator(action.clone())),
        StoredInput::Delivery(delivery) => write(&Line::Delivery(delivery.clone())),
        StoredInput::Platform(status) => write(&Line::Platform(status.clone())),
        StoredInput::Source(status) => write(&Line::Source(status.clone())),
        StoredInput::Gateway(condition) => write(&Line::Gateway(condition.clone())),
        StoredInput::Step(at) => write(&Line::Step(*at)),
        // What the engine did with the frames; a replay finds it again.
        StoredInput::Notes(_) => {}
    }
}

fn write_again<'a>(again: impl Iterator<Item = (u64, FrameView<'a>)>, write: &mut dyn FnMut(&Line<'_>)) {
    for (position, (row, view)) in again.enumerate() {
        write(&Line::Again(RecordedFrame { row: Some(row), ..RecordedFrame::of(&view, position > 0) }));
    }
}

impl Line<'_> {
    /// Puts what the line says behind the inputs of its step; lines that are no input do nothing.
    pub(super) fn push(self, inputs: &mut Vec<StoredInput>) -> Result<(), serde_json::Error> {
        let input = match self {
            Line::Recording(_) | Line::Site { .. } | Line::Step(_) => return Ok(()),
            Line::Message(message) => return message.push_message(inputs),
            Line::Frame(frame) => StoredInput::Frame(frame.frame()?),
            Line::Again(again) => {
                let row = again.row.unwrap_or_default();
                let entry = FrameAgain { row, frame: again.frame()?, tags: again.tags() };
                if let (true, Some(StoredInput::ReadAgain(entries))) = (again.joined, inputs.last_mut()) {
                    entries.push(entry);
                    return Ok(());
                }
                StoredInput::ReadAgain(vec![entry])
            }
            Line::Listen { site } => StoredInput::Site(site),
            Line::Change { site, by } => StoredInput::Change { hash: site, by },
            Line::Operator(action) => StoredInput::Operator(action),
            Line::Delivery(delivery) => StoredInput::Delivery(delivery),
            Line::Platform(status) => StoredInput::Platform(status),
            Line::Source(status) => StoredInput::Source(status),
            Line::Gateway(condition) => StoredInput::Gateway(condition),
        };
        inputs.push(input);
        Ok(())
    }
}
