//! Devices that are reported gone: their silence need not be waited for.
//!
//! A death of Sparkplug (NDEATH, DDEATH) makes every device behind it silent at once, for every detector of silence that
//! its profile has. It is over when the device is heard again, as any silence is. Survives in the snapshot.

use kerbside_model::{DeviceIndex, Effects, FrameView, IgnoredEvent, PayloadView, Site, Timestamp};

use crate::Engine;
use crate::decode::envelope::dead;

impl Engine {
    /// Takes what came in an envelope and is no reading.
    pub(crate) fn take_event(
        &mut self,
        event: IgnoredEvent,
        frame: &FrameView<'_>,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        if event == IgnoredEvent::RainSignal {
            return self.take_rain_frame(frame, at, effects);
        }
        let (IgnoredEvent::Death, PayloadView::Bytes(payload)) = (event, frame.payload) else { return };
        // What the broker kept may have been said years ago.
        if frame.flags.retained {
            return;
        }
        let Some(address) = dead(frame.address, payload) else { return };
        for index in behind(&self.site, frame.source, &address) {
            let state = &mut self.devices[index.0 as usize];
            if state.gone_at.is_none() {
                state.gone_at = Some(at);
                self.serve_device(index, at, effects);
            }
        }
    }
}

/// The device with this address, and behind a node all whose address begins with the node's.
fn behind(site: &Site, source: &str, address: &str) -> Vec<DeviceIndex> {
    let mut found: Vec<DeviceIndex> = site.resolve(source, address.as_bytes()).into_iter().collect();
    let is_node = address.matches('/').count() == 1;
    if !is_node {
        return found;
    }
    for (index, device) in (0_u32..).map(DeviceIndex).zip(site.devices()) {
        let rest = device.address.strip_prefix(address).and_then(|rest| rest.strip_prefix('/'));
        let is_on_it = rest.is_some_and(|rest| !rest.contains('/'));
        if is_on_it && device.source.as_deref().is_none_or(|own| own == source) {
            found.push(index);
        }
    }
    found
}
