//! What is different between two configurations, in the words of a report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use kerbside_model::{Device, Profile, Site};

use crate::config::{Config, LogConfig, StoreSettings};
use crate::reload::{ComponentAction, ComponentChange, DeviceChanges, ProfileChange, ProfileEdition};

/// Components that are not as they should be.
#[derive(Debug)]
pub(super) struct Changes<C> {
    /// Names of those to stop: gone, or built from something else.
    pub(super) stop: Vec<String>,
    /// Those to start, and what from.
    pub(super) start: Vec<(String, C)>,
}

impl<C: PartialEq> Changes<C> {
    pub(super) fn between(running: &BTreeMap<String, C>, wanted: BTreeMap<String, C>) -> Changes<C> {
        let is_kept = |name: &String, config: &C| wanted.get(name) == Some(config);
        let stop = running.iter().filter(|(name, config)| !is_kept(name, config)).map(|(name, _)| name.clone());
        let stop: Vec<String> = stop.collect();
        let start = wanted.into_iter().filter(|(name, config)| running.get(name) != Some(config)).collect();
        Changes { stop, start }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stop.is_empty() && self.start.is_empty()
    }

    /// What is done with each.
    pub(super) fn views(&self) -> Vec<ComponentChange> {
        let started: BTreeSet<&String> = self.start.iter().map(|(name, _)| name).collect();
        let stopped: BTreeSet<&String> = self.stop.iter().collect();
        let action = |name: &String| match (stopped.contains(name), started.contains(name)) {
            (true, true) => ComponentAction::Restarted,
            (true, false) => ComponentAction::Stopped,
            (false, _) => ComponentAction::Started,
        };
        let view = |name: &&String| ComponentChange { component: (*name).clone(), action: action(name) };
        started.union(&stopped).map(view).collect()
    }
}

/// What is read once, at the start.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    listen: SocketAddr,
    data_dir: PathBuf,
    store: StoreSettings,
    intake: (usize, usize),
    log: LogConfig,
    zone: String,
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Fixed {
        Fixed {
            listen: config.listen,
            data_dir: config.data_dir.clone(),
            store: config.store.clone(),
            intake: (config.limits.intake_submissions_max, config.limits.intake_bytes_max),
            log: config.log.clone(),
            zone: config.zone.clone(),
        }
    }

    /// The keys that a configuration has otherwise, in words.
    pub(super) fn needs_restart(&self, config: &Config) -> Vec<String> {
        let new = Fixed::of(config);
        let mut keys = Vec::new();
        if new.listen != self.listen {
            keys.push(format!("listen: {} stays until a restart of the gateway, then {}", self.listen, new.listen));
        }
        if new.data_dir != self.data_dir {
            let (old, new) = (self.data_dir.display(), new.data_dir.display());
            keys.push(format!("data_dir: {old} stays until a restart of the gateway, then {new}"));
        }
        let is_other = [
            (new.store != self.store && new.data_dir == self.data_dir, "store: its settings"),
            (new.intake != self.intake, "limits.intake_submissions_max, limits.intake_bytes_max: they"),
            (new.log != self.log, "log: its settings"),
            (new.zone != self.zone, "site.zone: the console and alarms about the store"),
        ];
        for (_, key) in is_other.into_iter().filter(|(is_other, _)| *is_other) {
            keys.push(format!("{key} change with a restart of the gateway"));
        }
        keys
    }

    /// Whether only this machine can reach the API as it listens now.
    pub(super) fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }

    /// Leaves in the configuration what cannot change now, so that everything built from it fits together.
    pub(super) fn keep_in(&self, config: &mut Config) {
        if config.listen != self.listen && config.public_url == format!("http://{}", config.listen) {
            config.public_url = format!("http://{}", self.listen);
        }
        config.listen = self.listen;
        config.data_dir.clone_from(&self.data_dir);
    }
}

/// Devices that came, changed or went.
pub(super) fn devices(old: &Site, new: &Site) -> DeviceChanges {
    let mut changes = DeviceChanges::default();
    let same = |one: &Device, other: &Device| {
        // The position of a profile says nothing.
        let alike = Device { profile: one.profile, ..other.clone() };
        *one == alike && old.profile_of(one).title() == new.profile_of(other).title()
    };
    for device in new.devices() {
        match old.find(&device.id).map(|index| old.device(index)) {
            None => changes.added.push(&device.id),
            Some(before) if !same(before, device) => changes.changed.push(&device.id),
            Some(_) => {}
        }
    }
    for device in old.devices().iter().filter(|device| new.find(&device.id).is_none()) {
        changes.removed.push(&device.id);
    }
    changes
}

/// Profiles that came, changed or went.
pub(super) fn profiles(old: &Site, new: &Site) -> Vec<ProfileChange> {
    let mut changes = Vec::new();
    let (before, after) = (by_name(old), by_name(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (old, new) = (before.get(name).copied(), after.get(name).copied());
        if old != new {
            let (old, new) = (old.map(edition), new.map(edition));
            changes.push(ProfileChange { profile: name.clone(), old, new });
        }
    }
    changes
}

/// Profiles whose content is another one under the same version: people cannot tell the two apart.
pub(super) fn uncounted(site: &Site, changes: &[ProfileChange]) -> Vec<String> {
    let mut notices = Vec::new();
    // What overrides make of a profile has no version of its own.
    let is_plain =
        |title: &str| site.facts().profiles.iter().any(|profile| profile.overrides.is_empty() && profile.name == title);
    for ProfileChange { profile, old, new } in changes.iter().filter(|change| is_plain(&change.profile)) {
        let (Some(old), Some(new)) = (old, new) else { continue };
        if old.version == new.version && old.hash != new.hash {
            notices.push(format!(
                "profile {profile} changed ({} is now {}) and its version is still {}: count `version` up, so that \
                 people can tell the two apart",
                old.hash, new.hash, new.version
            ));
        }
    }
    notices
}

/// The profiles by their names with the overrides over them.
fn by_name(site: &Site) -> BTreeMap<String, &Profile> {
    site.facts().profiles.iter().map(|profile| (profile.title(), profile.as_ref())).collect()
}

fn edition(profile: &Profile) -> ProfileEdition {
    ProfileEdition { version: profile.version, hash: profile.content_hash() }
}
