//! Sparkplug B as an envelope: the topic says whose a message is and of which kind, and the message stays as it came.
//!
//! What a node says only of itself is no reading, unless the node is a device of the inventory and says more.

use std::borrow::Cow;

use kerbside_model::IgnoredEvent;
use kerbside_model::sparkplug::{Message, MessageKind, NAMESPACE, Topic};

use super::{Opened, Uplink};

/// Opens a message. Without a topic (a sample, a single frame) it counts as data of whatever device is meant.
pub(super) fn open<'a>(topic: &[u8], payload: &'a [u8]) -> Result<Opened<'a>, String> {
    let mut uplink = Uplink { bytes: Cow::Borrowed(payload), ..Uplink::default() };
    if topic.is_empty() {
        return Ok(Opened::Uplink(Box::new(uplink)));
    }
    let text = String::from_utf8_lossy(topic);
    let Some(parts) = Topic::parse(&text) else {
        return Err(format!("no topic of Sparkplug B: {text:?} is not {NAMESPACE}/GROUP/TYPE/NODE or .../NODE/DEVICE"));
    };
    match parts.kind {
        MessageKind::Command => return Ok(Opened::Ignored(IgnoredEvent::Downlink)),
        MessageKind::State => return Ok(Opened::Ignored(IgnoredEvent::Host)),
        MessageKind::Death => return Ok(Opened::Ignored(IgnoredEvent::Death)),
        MessageKind::Birth => uplink.is_whole = true,
        MessageKind::Data => {}
    }
    if parts.device.is_none() && Message::read(payload)?.is_of_node_only() {
        return Ok(Opened::Ignored(IgnoredEvent::Empty));
    }
    uplink.name(Some(Cow::Owned(parts.address())));
    if uplink.names().next().is_none() {
        return Err("the topic names its device with more than 128 bytes".to_owned());
    }
    Ok(Opened::Uplink(Box::new(uplink)))
}

/// The address of the node or device that a message says is gone, and with it whatever is behind it. `None` when it says
/// so of a session that is over.
pub(crate) fn dead(topic: &[u8], payload: &[u8]) -> Option<String> {
    let parts = Topic::parse(std::str::from_utf8(topic).ok()?).filter(|parts| parts.kind == MessageKind::Death)?;
    let is_stale = Message::read(payload).is_ok_and(|message| message.is_stale == Some(true));
    (!is_stale).then(|| parts.address())
}
