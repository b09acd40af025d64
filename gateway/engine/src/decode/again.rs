//! Reads frames again that gave no readings when they came: one after the other, in the order in which they came.
//!
//! An uplink that came more than once is read once: the same session, counter and content within the duplicate window is
//! the same uplink, whoever handed it over. What is known of them is forgotten with the reader.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::{DeviceIndex, FrameView, Observations, Timestamp};

use super::sender::{NotTaken, Refused, Sender, resolve};
use super::{Bench, Scratch, arrival, decode_sent};

/// Reads frames again.
#[derive(Debug)]
pub struct Rereader<'a> {
    bench: Bench<'a>,
    scratch: Scratch,
    /// Frames without a time of their own that came at once stand a millisecond apart, as they would have live.
    placed: BTreeMap<DeviceIndex, Timestamp>,
    /// When the network had an uplink that was read, by its device and identity.
    uplinks: BTreeMap<(DeviceIndex, u64), Timestamp>,
}

/// What a frame that is read again turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// It gave readings.
    Readings {
        /// Whose.
        device: DeviceIndex,
        /// Where they stand, when the frame tells no time of its own.
        placed_at: Option<Timestamp>,
    },
    /// The same uplink was read already.
    Copy(DeviceIndex),
    /// No message of a device.
    NoMessage,
}

impl<'a> Rereader<'a> {
    /// Has read nothing yet.
    pub fn new(bench: Bench<'a>) -> Rereader<'a> {
        Rereader { bench, scratch: Scratch::default(), placed: BTreeMap::new(), uplinks: BTreeMap::new() }
    }

    /// Reads a frame, and adds what it gives to `observations`. The error says why it still gives nothing.
    pub fn read(&mut self, frame: &FrameView<'_>, observations: &mut Observations) -> Result<Reread, Refused> {
        let sender = match resolve(self.bench.site, frame) {
            Ok(sender) => sender,
            Err(NotTaken::Ignored(_)) => return Ok(Reread::NoMessage),
            Err(NotTaken::Refused(refused)) => return Err(refused),
        };
        let device = sender.device;
        let uplink = self.uplink(&sender, frame);
        if let Some((identity, at)) = uplink
            && let Some(known) = self.uplinks.get(&(device, identity))
            && is_within(*known, at, self.bench.site.facts().limits.duplicate_window)
        {
            return Ok(Reread::Copy(device));
        }
        let (placed, mut placed_at) = (&mut self.placed, None);
        let place = |index| {
            let last = placed.entry(index).or_default();
            *last = arrival(*last, frame.received_at);
            placed_at = Some(*last);
            *last
        };
        decode_sent(&self.bench, (frame, &sender), place, &mut self.scratch, observations)?;
        if let Some((identity, at)) = uplink {
            self.uplinks.insert((device, identity), at);
        }
        Ok(Reread::Readings { device, placed_at })
    }

    /// The identity of an uplink that the network counts, and when the network had it.
    fn uplink(&self, sender: &Sender<'_>, frame: &FrameView<'_>) -> Option<(u64, Timestamp)> {
        let uplink = sender.uplink.as_ref().filter(|uplink| uplink.counted().is_some())?;
        let told = uplink.network_time.judge(frame.received_at, self.bench.certainty).unwrap_or_default();
        Some((uplink.identity(), told.unwrap_or(frame.received_at)))
    }
}

fn is_within(one: Timestamp, other: Timestamp, window: Duration) -> bool {
    one.max(other).since(one.min(other)) <= window
}
