//! Frames that gave no readings: counted, and kept with the reason for the store.

use kerbside_model::inventory::Device;
use kerbside_model::{Effects, FrameView, Site, Undecoded};

use super::{DecodeError, address_of};

/// Frames that gave no readings are kept up to this number a step; all are counted, and all are in the raw batch.
const UNDECODED_KEPT_MAX: usize = 512;

/// Counts a frame that gave no readings, and keeps it as long as there is room.
pub(crate) fn keep_undecoded(
    effects: &mut Effects,
    site: &Site,
    frame: &FrameView<'_>,
    device: Option<&Device>,
    error: DecodeError,
) {
    effects.counts.frames_undecoded[error.reason as usize] += 1;
    if effects.undecoded.len() < UNDECODED_KEPT_MAX {
        effects.undecoded.push(Undecoded {
            frame: frame.to_frame(),
            tags: frame.tags.cloned(),
            address: address_of(site, frame),
            device: device.map(|device| device.id.clone()),
            reason: error.reason,
            detail: error.detail,
        });
    }
}
