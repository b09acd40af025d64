//! Masks: times in which the alarms of a device open no cases (维护、施工许可).

use kerbside_model::{Effects, Timestamp};

use crate::Engine;
use crate::device::Mask;

/// Masks of one device at once; the API refuses more as well.
pub const MASKS_MAX: usize = 32;

impl Engine {
    /// Masks a device. A mask that cannot be is a line in the audit log.
    pub(crate) fn mask(&mut self, device: &str, mask: Mask, at: Timestamp, effects: &mut Effects) {
        let (mut ctx, _) = self.case_context(at, effects);
        let Some(index) = ctx.site.find(device) else {
            ctx.audit(&mask.by, "mask_refused", device, "there is no such device");
            return;
        };
        if self.devices[index.0 as usize].masks.len() >= MASKS_MAX {
            let (mut ctx, _) = self.case_context(at, effects);
            ctx.audit(&mask.by, "mask_refused", device, "it has too many masks: lift them first");
            return;
        }
        let (mut ctx, _) = self.case_context(at, effects);
        let Mask { kind, from, until, by, reason } = &mask;
        ctx.audit(by, "device_masked", device, &format!("{kind:?} from {from} until {until}: {reason}"));
        self.devices[index.0 as usize].masks.push(mask);
        self.schedule_device(index);
    }

    /// Lifts every mask of a device before its time.
    pub(crate) fn unmask(&mut self, device: &str, by: &str, at: Timestamp, effects: &mut Effects) {
        let (mut ctx, _) = self.case_context(at, effects);
        let Some(index) = ctx.site.find(device) else {
            ctx.audit(by, "unmask_refused", device, "there is no such device");
            return;
        };
        ctx.audit(by, "device_unmasked", device, "");
        self.devices[index.0 as usize].masks.clear();
        self.reconsider(index, at, effects);
        self.schedule_device(index);
    }
}
