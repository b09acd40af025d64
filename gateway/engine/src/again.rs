//! Undecoded frames that are read again, with a profile that was mended or a device that is in the inventory now.
//!
//! They are history: their readings stand at their own time and go to the telemetry database, and nothing else of the
//! engine sees them. No detector runs on them, no alarm is raised or cleared, and no device is heard by them.

use std::sync::Arc;

use kerbside_model::{DuplicateReason, Effects, FrameAgain, Noted, Observations, ReadAgain};

use crate::Engine;
use crate::decode::{Bench, Reread, Rereader, address_of, placed_after};

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
        let mut reader = Rereader::new(bench);
        let before = observations.len();
        for again in frames {
            effects.frames += 1;
            let (FrameAgain { row, frame, .. }, view) = (again, again.view());
            let (mut device, mut refused) = (None, None);
            match reader.read(&view, &mut observations) {
                Ok(Reread::Readings { device: index, placed_at }) => {
                    effects.counts.frames_read_again += 1;
                    device = Some(index);
                    if let Some(placed_at) = placed_at.filter(|placed_at| *placed_at != frame.received_at) {
                        effects.note(placed_after(frame.received_at, placed_at));
                    }
                }
                Ok(Reread::Copy(index)) => {
                    effects.counts.frames_duplicate[DuplicateReason::SameUplink as usize] += 1;
                    device = Some(index);
                    effects.note(Noted::Left);
                }
                Ok(Reread::NoMessage) => effects.counts.frames_read_again += 1,
                Err(error) => {
                    device = error.device;
                    refused = Some((error.error.reason, error.error.detail));
                }
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
