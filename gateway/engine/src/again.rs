//! Undecoded frames that are read again, with a profile that was mended or a device that is in the inventory now.
//!
//! They are history: their readings stand at their own time and go to the telemetry database, and nothing else of the
//! engine sees them. No detector runs on them, no alarm is raised or cleared, and no device is heard by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kerbside_model::{DeviceIndex, Effects, FrameAgain, Observations, ReadAgain, Timestamp};

use crate::Engine;
use crate::decode::{Bench, Scratch, address_of, arrival, decode_late, placed_after};

impl Engine {
    /// Reads frames again. What they give is added to `observations`; what became of each goes to the store with them,
    /// in one transaction, so that no crash loses or doubles one.
    pub(crate) fn read_again(
        &self,
        frames: &[FrameAgain],
        mut observations: Observations,
        effects: &mut Effects,
    ) -> Observations {
        let bench = Bench { site: &self.site, decoders: &self.decoders, certainty: self.certainty(), notes: &[] };
        let before = observations.len();
        let mut scratch = Scratch::default();
        // Frames without a time of their own that came at once stand a millisecond apart, as they would have live.
        let mut placed: BTreeMap<DeviceIndex, Timestamp> = BTreeMap::new();
        for FrameAgain { row, frame } in frames {
            effects.frames += 1;
            let view = frame.view();
            let mut placed_here = None;
            let place = |index| {
                let last = placed.entry(index).or_default();
                *last = arrival(*last, frame.received_at);
                placed_here = Some(*last);
                *last
            };
            let read = decode_late(&bench, &view, place, &mut scratch, &mut observations);
            let (device, refused) = match read {
                Ok(index) => {
                    effects.counts.frames_read_again += 1;
                    (index, None)
                }
                Err(refused) => (refused.device, Some((refused.error.reason, refused.error.detail))),
            };
            if let Some(observed_at) = placed_here.filter(|observed_at| *observed_at != frame.received_at) {
                effects.note(placed_after(frame.received_at, observed_at));
            }
            effects.read_again.push(ReadAgain {
                row: *row,
                source: Arc::clone(&frame.source),
                address: address_of(&self.site, &view),
                device: device.map(|index| self.site.device(index).id.clone()),
                refused,
            });
        }
        effects.counts.observations_late += (observations.len() - before) as u64;
        observations
    }
}
