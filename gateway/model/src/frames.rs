//! Many messages of one source in one buffer: how MQTT sources hand over what they receive.
//!
//! Address and payload of each message stand one behind the other, so that a message costs no allocation and no
//! reference count, the engine reads memory in order, and the store packs the buffer as it is.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;
use crate::frame::{ByteText, Frame, Payload, RegisterRead};

/// Tag sets that a new one is compared with.
const TAG_SETS_COMPARED: usize = 8;

/// A name and a value that came with a message beside its payload: a user property of MQTT 5.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// Name of the tag in the telemetry database.
    pub name: Arc<str>,
    /// Its value.
    pub value: Arc<str>,
}

/// The tags of one message, in the order of the configuration.
pub type Tags = Arc<[Tag]>;

/// What a broker says of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameFlags {
    /// The broker kept it: old, and never taken for live.
    pub retained: bool,
    /// The broker sends it again, because an acknowledgement did not reach it.
    pub redelivered: bool,
}

/// Messages of one source that came together, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredFrames")]
pub struct Frames {
    source: Arc<str>,
    received_at: Timestamp,
    rows: Vec<Row>,
    #[serde(serialize_with = "as_bytes")]
    bytes: Vec<u8>,
    tags: Vec<Tags>,
}

/// Where one message stands: behind the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    address_bytes: u32,
    payload_bytes: u32,
    flags: FrameFlags,
    /// Position among the tag sets, counted from 1; 0 for none.
    tags: u32,
}

/// One frame as decoders see it, wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameView<'a> {
    /// Name of the source in the configuration.
    pub source: &'a Arc<str>,
    /// UTF-8: MQTT topic, or the unit number on a Modbus bus.
    pub address: &'a [u8],
    /// What was received.
    pub payload: PayloadView<'a>,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// What the broker says of it.
    pub flags: FrameFlags,
    /// User properties that the configuration asks for.
    pub tags: Option<&'a Tags>,
}

/// What a frame carries, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PayloadView<'a> {
    /// The bytes of one message.
    Bytes(&'a [u8]),
    /// What one poll of a Modbus unit gave.
    Registers(&'a RegisterRead),
}

impl Frames {
    /// No messages yet.
    pub fn new(source: Arc<str>, received_at: Timestamp) -> Frames {
        Frames { source, received_at, rows: Vec::new(), bytes: Vec::new(), tags: Vec::new() }
    }

    /// Room for so many messages and bytes.
    pub fn with_capacity(source: Arc<str>, received_at: Timestamp, messages: usize, bytes: usize) -> Frames {
        let (rows, bytes) = (Vec::with_capacity(messages), Vec::with_capacity(bytes));
        Frames { source, received_at, rows, bytes, tags: Vec::new() }
    }

    /// Appends a message.
    ///
    /// # Panics
    /// When address or payload is longer than 4 GiB; MQTT allows 256 MiB.
    pub fn push(&mut self, address: &str, payload: &[u8], flags: FrameFlags, tags: Option<&Tags>) {
        let to_u32 = |size: usize| u32::try_from(size).expect("no message is longer than 4 GiB");
        let tags = tags.map_or(0, |tags| self.tag_set(tags));
        let (address_bytes, payload_bytes) = (to_u32(address.len()), to_u32(payload.len()));
        self.rows.push(Row { address_bytes, payload_bytes, flags, tags: to_u32(tags) });
        self.bytes.extend_from_slice(address.as_bytes());
        self.bytes.extend_from_slice(payload);
    }

    /// Messages of one broker mostly carry the same properties: only the newest sets are looked at.
    fn tag_set(&mut self, tags: &Tags) -> usize {
        let known = self.tags.iter().enumerate().rev().take(TAG_SETS_COMPARED).find(|(_, known)| *known == tags);
        if let Some((position, _)) = known {
            return position + 1;
        }
        self.tags.push(Arc::clone(tags));
        self.tags.len()
    }

    /// Name of the source.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// When the gateway received them.
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all addresses and payloads.
    pub fn content_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Size in memory, for limits.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Frames>() + self.bytes.len() + self.rows.len() * size_of::<Row>()
    }

    /// Each message, in order.
    pub fn iter(&self) -> impl Iterator<Item = FrameView<'_>> {
        let mut rest = self.bytes.as_slice();
        self.rows.iter().map(move |row| {
            let (address, behind) = rest.split_at(row.address_bytes as usize);
            let (payload, behind) = behind.split_at(row.payload_bytes as usize);
            rest = behind;
            FrameView {
                source: &self.source,
                address,
                payload: PayloadView::Bytes(payload),
                received_at: self.received_at,
                flags: row.flags,
                tags: row.tags.checked_sub(1).map(|position| &self.tags[position as usize]),
            }
        })
    }
}

impl FrameView<'_> {
    /// The address as text.
    pub fn address_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.address)
    }

    /// A copy that stands alone, without tags.
    pub fn to_frame(&self) -> Frame {
        let payload = match self.payload {
            PayloadView::Bytes(bytes) => Payload::Bytes(bytes::Bytes::copy_from_slice(bytes)),
            PayloadView::Registers(read) => Payload::Registers(read.clone()),
        };
        Frame {
            source: Arc::clone(self.source),
            address: ByteText::from(self.address_text().into_owned()),
            payload,
            received_at: self.received_at,
            retained: self.flags.retained,
        }
    }
}

impl Payload {
    /// The payload as decoders see it.
    pub fn view(&self) -> PayloadView<'_> {
        match self {
            Payload::Bytes(bytes) => PayloadView::Bytes(bytes),
            Payload::Registers(read) => PayloadView::Registers(read),
        }
    }
}

impl Frame {
    /// The frame as decoders see it.
    pub fn view(&self) -> FrameView<'_> {
        FrameView {
            source: &self.source,
            address: self.address.as_bytes(),
            payload: self.payload.view(),
            received_at: self.received_at,
            flags: FrameFlags { retained: self.retained, redelivered: false },
            tags: None,
        }
    }
}

/// Frames as the store gives them back, before anything about them is believed.
#[derive(Deserialize)]
struct StoredFrames {
    source: Arc<str>,
    received_at: Timestamp,
    rows: Vec<Row>,
    #[serde(deserialize_with = "from_bytes")]
    bytes: Vec<u8>,
    tags: Vec<Tags>,
}

/// Stored frames do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{what} do not fit together")]
struct Misfit {
    what: &'static str,
}

impl TryFrom<StoredFrames> for Frames {
    type Error = Misfit;

    fn try_from(stored: StoredFrames) -> Result<Frames, Misfit> {
        let StoredFrames { source, received_at, rows, bytes, tags } = stored;
        let claimed: u64 = rows.iter().map(|row| u64::from(row.address_bytes) + u64::from(row.payload_bytes)).sum();
        if claimed != bytes.len() as u64 {
            return Err(Misfit { what: "the lengths of frames and their bytes" });
        }
        if rows.iter().any(|row| row.tags as usize > tags.len()) {
            return Err(Misfit { what: "frames and their tags" });
        }
        Ok(Frames { source, received_at, rows, bytes, tags })
    }
}

/// As one run of bytes, not byte for byte.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn from_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    bytes::Bytes::deserialize(deserializer).map(Vec::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        let tags: Tags = Arc::from([Tag { name: "operator".into(), value: "north".into() }]);
        let mut frames = Frames::new("city".into(), Timestamp(5));
        frames.push("a/1", b"{}", FrameFlags::default(), None);
        frames.push("a/2", b"", FrameFlags { retained: true, redelivered: false }, Some(&tags));
        frames.push("a/3", b"[1]", FrameFlags { retained: false, redelivered: true }, Some(&tags));
        frames
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let frames = frames();
        let seen: Vec<_> = frames.iter().map(|view| (view.address_text().into_owned(), view.payload)).collect();
        let bytes = |bytes: &'static [u8]| PayloadView::Bytes(bytes);
        assert_eq!(
            seen,
            [("a/1".to_owned(), bytes(b"{}")), ("a/2".to_owned(), bytes(b"")), ("a/3".to_owned(), bytes(b"[1]"))]
        );
        let tags: Vec<_> = frames.iter().map(|view| view.tags.map(|tags| tags[0].value.to_string())).collect();
        assert_eq!(tags, [None, Some("north".to_owned()), Some("north".to_owned())]);
        assert_eq!(frames.tags.len(), 1, "equal sets are kept once");
        assert!(frames.iter().nth(2).is_some_and(|view| view.flags.redelivered && !view.flags.retained));
    }

    #[test]
    fn stored_frames_come_back_whole() {
        let packed = postcard::to_stdvec(&frames()).unwrap();
        assert_eq!(postcard::from_bytes::<Frames>(&packed).unwrap(), frames());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut lying = frames();
        lying.rows[1].payload_bytes = 9;
        let packed = postcard::to_stdvec(&lying).unwrap();
        assert!(postcard::from_bytes::<Frames>(&packed).is_err());
        let mut lying = frames();
        lying.rows[1].tags = 2;
        let packed = postcard::to_stdvec(&lying).unwrap();
        assert!(postcard::from_bytes::<Frames>(&packed).is_err());
    }
}
