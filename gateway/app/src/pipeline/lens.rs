//! What batches that are read back are decoded with: the site of today, and for batches of an earlier site also the
//! devices that were known then and are gone since. Nothing is kept; only telemetry is decoded with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kerbside_engine::decode::Decoders;
use kerbside_model::site::{SiteFacts, address_key};
use kerbside_model::{Device, Site};

/// A site and the decoders of its profiles.
#[derive(Debug)]
pub(super) struct Lens {
    pub(super) site: Arc<Site>,
    pub(super) decoders: Decoders,
}

impl Lens {
    pub(super) fn of(site: Arc<Site>) -> Arc<Lens> {
        Arc::new(Lens { decoders: Decoders::new(&site), site })
    }
}

/// The site of today with the devices behind it that an earlier one had at addresses which nobody has today: devices that
/// were taken out, and devices that moved to another address. They keep today's edition of their profile where there is
/// one. `None` when every address is somebody's.
pub(super) fn behind(today: &Site, earlier: &SiteFacts) -> Option<Arc<Site>> {
    let taken = Taken::by(today.devices());
    let gone: Vec<&Device> = earlier.devices.iter().filter(|device| !taken.has(device)).collect();
    if gone.is_empty() {
        return None;
    }
    let mut facts = today.facts().clone();
    for device in gone {
        let profile = &earlier.profiles[usize::from(device.profile)];
        let same =
            facts.profiles.iter().position(|known| known.name == profile.name && known.overrides == profile.overrides);
        // Its overrides are gone: frames are read by the profile below them.
        let known = same.or_else(|| facts.profiles.iter().position(|known| known.name == profile.name));
        let position = known.unwrap_or_else(|| {
            facts.profiles.push(Arc::clone(profile));
            facts.profiles.len() - 1
        });
        // As many profiles as a position can name are more than anybody has.
        let Ok(position) = u16::try_from(position) else { continue };
        facts.devices.push(Device { profile: position, ..device.clone() });
    }
    let sources: HashSet<Arc<str>> = facts.sources.iter().map(|rule| Arc::clone(&rule.source)).collect();
    facts.sources.extend(earlier.sources.iter().filter(|rule| !sources.contains(&rule.source)).cloned());
    Some(Arc::new(Site::new(facts)))
}

/// Which addresses have a device today, on which sources; `None` for a device that is heard on any.
struct Taken<'a>(HashMap<Box<[u8]>, HashSet<Option<&'a str>>>);

impl<'a> Taken<'a> {
    fn by(devices: &'a [Device]) -> Taken<'a> {
        let mut taken: HashMap<Box<[u8]>, HashSet<Option<&str>>> = HashMap::with_capacity(devices.len());
        for device in devices {
            taken.entry(address_key(&device.address)).or_default().insert(device.source.as_deref());
        }
        Taken(taken)
    }

    /// Whether somebody has the address of this device, so that its frames are somebody's.
    fn has(&self, device: &Device) -> bool {
        let sources = self.0.get(&address_key(&device.address));
        sources.is_some_and(|sources| sources.contains(&None) || sources.contains(&device.source.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::document::Problems;
    use kerbside_model::profile::parse_profile_text;
    use kerbside_model::site::{AddressRule, SourceRule};

    use super::*;

    const COVER: &str = include_str!("../../../../device-profiles/json-manhole-cover.yaml");

    fn facts(devices: &[(&str, &str, Option<&str>)]) -> SiteFacts {
        let profile = parse_profile_text("cover", COVER, &Problems::default()).expect("the shipped profile is sound");
        let device = |(id, address, source): &(&str, &str, Option<&str>)| Device {
            id: (*id).to_owned(),
            address: (*address).to_owned(),
            source: source.map(str::to_owned),
            ..Device::default()
        };
        SiteFacts::new("test", vec![Arc::new(profile)], devices.iter().map(device).collect())
    }

    /// Who has an address on a source, in batches of the earlier site.
    fn owner(today: &[(&str, &str, Option<&str>)], earlier: &[(&str, &str, Option<&str>)], at: (&str, &str)) -> String {
        let today = Arc::new(Site::new(facts(today)));
        let site = behind(&today, &facts(earlier)).unwrap_or(today);
        let found = site.resolve(at.0, at.1.as_bytes());
        found.map_or("nobody", |index| &site.device(index).id).to_owned()
    }

    #[test]
    fn an_address_is_that_of_today_s_device_or_of_the_one_that_had_it() {
        let kept = [("a", "1", None)];
        assert_eq!(owner(&kept, &[("a", "1", None), ("gone", "2", None)], ("city", "2")), "gone");
        assert_eq!(owner(&kept, &[("renamed", "1", None)], ("city", "1")), "a");
        assert_eq!(owner(&kept, &[("renamed", "1", Some("city"))], ("city", "1")), "a");
        assert_eq!(owner(&[("a", "9", None)], &kept, ("city", "1")), "a", "it moved to another address");
        let named = [("a", "1", Some("bus-1"))];
        assert_eq!(owner(&named, &[("gone", "1", Some("bus-2"))], ("bus-2", "1")), "gone");
        assert_eq!(owner(&named, &[("gone", "1", None)], ("bus-1", "1")), "a");
        assert_eq!(owner(&named, &[("gone", "1", None)], ("bus-2", "1")), "gone");
    }

    #[test]
    fn nothing_is_added_where_nobody_is_gone() {
        let (more, less) = ([("a", "1", None), ("b", "2", None)], [("a", "1", None)]);
        assert!(behind(&Site::new(facts(&more)), &facts(&less)).is_none());
    }

    #[test]
    fn the_profile_is_that_of_today_and_the_rules_of_gone_sources_stay() {
        let mut today = facts(&[("a", "1", None)]);
        let mut mended = (*today.profiles[0]).clone();
        mended.version += 1;
        today.profiles[0] = Arc::new(mended);
        let mut earlier = facts(&[("gone", "2", None), ("odd", "3", None)]);
        let mut odd = (*earlier.profiles[0]).clone();
        odd.name = "odd".to_owned();
        earlier.profiles.push(Arc::new(odd));
        earlier.devices[1].profile = 1;
        let rule = |source: &str| SourceRule {
            source: source.into(),
            address: AddressRule::Whole,
            claim: None,
            envelopes: Vec::new(),
        };
        today.sources = vec![rule("city")];
        earlier.sources = vec![rule("city"), rule("old-bus")];
        let site = behind(&Site::new(today.clone()), &earlier).unwrap();
        let edition = |id: &str| {
            let profile = site.profile_of(site.device(site.find(id).unwrap()));
            (profile.name.clone(), profile.version)
        };
        assert_eq!(edition("gone"), (today.profiles[0].name.clone(), today.profiles[0].version));
        assert_eq!(edition("odd").0, "odd");
        assert_eq!(site.facts().sources.len(), 2);
    }
}
