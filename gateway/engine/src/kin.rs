//! Devices under one parent: a reading is compared with what the others say.

use std::collections::BTreeMap;

use kerbside_model::profile::Neighbours;
use kerbside_model::{DeviceIndex, Site, Timestamp};

use crate::decode::Decoders;
use crate::device::DeviceState;
use crate::quality::middle;

/// Of a large family only so many are asked.
const ASKED_MAX: usize = 64;

/// The devices of each parent, in the order of the inventory. Empty when no profile compares neighbours.
#[derive(Debug, Default)]
pub(crate) struct Kin {
    families: Vec<Vec<DeviceIndex>>,
    /// The family of each device.
    family_of: Vec<Option<u32>>,
}

impl Kin {
    pub(crate) fn of(site: &Site, decoders: &Decoders) -> Kin {
        let profiles = 0..site.facts().profiles.len();
        if !profiles.into_iter().any(|profile| decoders.at(profile).quality().asks_neighbours().next().is_some()) {
            return Kin::default();
        }
        let mut kin = Kin::default();
        let mut by_parent: BTreeMap<&str, u32> = BTreeMap::new();
        for (index, device) in (0_u32..).zip(site.devices()) {
            let family = (!device.parent.is_empty()).then(|| {
                *by_parent.entry(&device.parent).or_insert_with(|| {
                    kin.families.push(Vec::new());
                    u32::try_from(kin.families.len() - 1).expect("an inventory has fewer than 2^32 devices")
                })
            });
            if let Some(family) = family {
                kin.families[family as usize].push(DeviceIndex(index));
            }
            kin.family_of.push(family);
        }
        kin
    }

    /// The middle of what the neighbours of a device said lately of a point of this name.
    pub(crate) fn middle(
        &self,
        site: &Site,
        states: &[DeviceState],
        (index, name): (DeviceIndex, &str),
        test: &Neighbours,
        at: Timestamp,
    ) -> Option<f64> {
        let family = self.family_of.get(index.0 as usize).copied().flatten()?;
        let others = self.families[family as usize].iter().take(ASKED_MAX).filter(|other| **other != index);
        let values = others.filter_map(|other| {
            let point = site.profile_of(site.device(*other)).point_index(name)?;
            let last = states[other.0 as usize].last.get(point)?;
            let is_of_now = last.quality.is_good() && at.since(last.received_at) <= test.within;
            last.value.filter(|_| is_of_now)?.as_number()
        });
        middle(values, test)
    }
}
