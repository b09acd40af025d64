//! The memory of incidents: which alarms were taken together, and which may yet be.
//!
//! Plain memory and sentences. It is part of the snapshot and so survives a crash; the engine's part is in
//! `incidents.rs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::incident::{GroupRule, IncidentKind, Linkage, RAIN_SIGNAL_MAX, RainSignal};
use kerbside_model::{Alarm, DeviceIndex, Severity, Site, Timestamp};
use serde::{Deserialize, Serialize};

use crate::linkage::{Area, Place};

/// Incidents that are over and still shown.
pub(crate) const ENDED_KEPT_MAX: usize = 20;
/// Alarms that are kept of each.
pub(crate) const ENDED_MEMBERS_MAX: usize = 200;
/// Chains that are too short for an incident; beyond it the oldest is forgotten, and its alarms keep their own cases.
pub(crate) const GATHERING_MAX: usize = 1_000;
/// Water that stands for so long without a change is no storm any more.
const FLOOD_MAX: Duration = Duration::from_secs(86_400);
/// The duty hears again when an incident has grown to so many devices.
const STEPS: [usize; 9] = [3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000];

/// One alarm in an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Id of the alarm: the newest episode.
    pub(crate) alarm: String,
    pub(crate) raised_at: Timestamp,
    pub(crate) is_standing: bool,
}

/// Device and condition.
pub(crate) type MemberKey = (String, String);

/// Alarms that are taken together, or that may be when more come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) kind: IncidentKind,
    /// The asset that the devices hang on; for a chain of alarms what its first device hangs on, or that device.
    pub(crate) parent: String,
    /// What the incident is called: `storm`, `outage`, `covers_opened`, or what a rule of the site makes of it.
    pub(crate) condition: String,
    /// The condition of its members, where all have the same.
    pub(crate) of: String,
    pub(crate) began_at: Timestamp,
    /// `None` while there are too few.
    pub(crate) opened_at: Option<Timestamp>,
    /// When an alarm came or went last.
    pub(crate) changed_at: Timestamp,
    /// It ends when nothing has changed for so long.
    pub(crate) quiet: Duration,
    /// It does not end while so many stand; `None` for a chain, which ends with or without them.
    pub(crate) quorum: Option<usize>,
    pub(crate) members: BTreeMap<MemberKey, Member>,
    /// Devices that are or were in it.
    pub(crate) devices: usize,
    pub(crate) standing: usize,
    /// Most that stood at once.
    pub(crate) peak: usize,
    pub(crate) severity: Severity,
    pub(crate) case_id: Option<String>,
    /// Whether a member asks for a case that it will not get for itself.
    pub(crate) wants_case: bool,
    /// Whether the case is the incident's own, and not that of an alarm at the parent.
    pub(crate) owns_case: bool,
    /// So many devices the duty was told of.
    pub(crate) told: usize,
    pub(crate) area: Area,
    /// So many devices were found to belong to it when it opened, those whose alarm was yet to come among them.
    pub(crate) counted: usize,
}

/// An incident that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) record: Record,
    pub(crate) at: Timestamp,
    pub(crate) summary: (String, String),
}

/// All incidents, with those that may become one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) records: BTreeMap<String, Record>,
    /// The incident of each member.
    pub(crate) of_member: BTreeMap<MemberKey, String>,
    /// The rainstorm signal that was told last.
    pub(crate) rain: Option<RainSignal>,
    /// Rain stations that are over their limit.
    pub(crate) rain_stations: BTreeSet<String>,
    /// The newest last.
    pub(crate) ended: VecDeque<Ended>,
    /// Sources whose link is down, or was until lately.
    pub(crate) losses: BTreeMap<Arc<str>, Loss>,
}

/// The link of a source that is down, or that is back while its devices are waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// Since when it is down; after a restart since when somebody listened again.
    pub(crate) since: Timestamp,
    /// Since when it is back.
    pub(crate) back_at: Option<Timestamp>,
    /// When it is looked at next.
    pub(crate) look_at: Option<Timestamp>,
    /// Its incident, once it has one.
    pub(crate) incident: Option<String>,
}

impl Record {
    /// When it ends by itself, or stops gathering.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match (self.opened_at, self.quorum) {
            // Its end is that of a loss.
            _ if self.kind == IncidentKind::Source => None,
            (None, _) => Some(self.changed_at.plus(self.quiet / 2)),
            (Some(_), Some(quorum)) if self.standing >= quorum => None,
            // The water stands as it did: the end of the storm would be a case for each place of it.
            (Some(_), None) if self.kind == IncidentKind::Storm && self.standing * 2 > self.peak => {
                Some(self.changed_at.plus(self.quiet.max(FLOOD_MAX)))
            }
            (Some(_), _) => Some(self.changed_at.plus(self.quiet)),
        }
    }

    /// The step that so many devices reach.
    pub(crate) fn step_of(devices: usize) -> usize {
        STEPS.into_iter().rev().find(|step| *step <= devices).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, key: MemberKey, member: Member, at: Timestamp) {
        let was_standing = self.members.get(&key).is_some_and(|known| known.is_standing);
        self.devices += usize::from(!self.has_device(&key.0));
        self.standing += usize::from(member.is_standing);
        self.standing -= usize::from(was_standing);
        self.peak = self.peak.max(self.standing);
        self.changed_at = self.changed_at.max(at);
        self.began_at = self.began_at.min(member.raised_at);
        self.members.insert(key, member);
    }

    /// Whether this very episode is in it, and stands.
    pub(crate) fn has_standing(&self, alarm: &Alarm) -> bool {
        let member = self.members.get(&(alarm.device.clone(), alarm.condition.clone()));
        member.is_some_and(|member| member.is_standing && member.alarm == alarm.id)
    }

    fn drop_member(&mut self, key: &MemberKey) {
        let Some(gone) = self.members.remove(key) else { return };
        self.standing -= usize::from(gone.is_standing);
        self.devices -= usize::from(!self.has_device(&key.0));
    }

    fn has_device(&self, device: &str) -> bool {
        let next = self.members.range((device.to_owned(), String::new())..).next();
        next.is_some_and(|((known, _), _)| known == device)
    }

    /// Of what is over only some members are kept: a list of thousands would be written with each snapshot.
    pub(crate) fn shorten(&mut self) {
        self.area = Area::default();
        while self.members.len() > ENDED_MEMBERS_MAX {
            self.members.pop_last();
        }
    }

    /// Devices whose alarm stands, sorted.
    pub(crate) fn standing_devices(&self) -> Vec<&str> {
        let standing = self.members.iter().filter(|(_, member)| member.is_standing);
        let mut devices: Vec<&str> = standing.map(|((device, _), _)| device.as_str()).collect();
        devices.dedup();
        devices
    }
}

impl Book {
    /// The open incident that a condition of a device is in.
    pub(crate) fn open_of(&self, device: &str, condition: &str) -> Option<&Record> {
        if self.of_member.is_empty() {
            return None;
        }
        let id = self.of_member.get(&(device.to_owned(), condition.to_owned()))?;
        self.records.get(id).filter(|record| record.opened_at.is_some())
    }

    /// Every incident that stands.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| record.opened_at.is_some())
    }

    /// Whether some incident stands behind this case.
    pub(crate) fn holds(&self, case_id: &str) -> bool {
        self.open().any(|record| record.case_id.as_deref() == Some(case_id))
    }

    /// The records of a kind that an alarm is near to: open ones first, then the oldest.
    pub(crate) fn linked(&self, kind: IncidentKind, place: &Place<'_>, at: Timestamp, rule: &Linkage) -> Vec<String> {
        let near = self.records.values().filter(|record| {
            let is_held = record.opened_at.is_some() && record.standing > 0;
            record.kind == kind && record.area.links(place, at, rule, is_held)
        });
        let mut found: Vec<(bool, Timestamp, &str)> =
            near.map(|record| (record.opened_at.is_none(), record.began_at, record.id.as_str())).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, _, id)| id.to_owned()).collect()
    }

    /// Puts an alarm into a record that is there.
    pub(crate) fn put(&mut self, id: &str, alarm: &Alarm, at: Timestamp) {
        let Some(record) = self.records.get_mut(id) else { return };
        let key = (alarm.device.clone(), alarm.condition.clone());
        let member = Member { alarm: alarm.id.clone(), raised_at: alarm.opened_at, is_standing: true };
        record.severity = record.severity.max(alarm.severity);
        record.take(key.clone(), member, at);
        if let Some(before) = self.of_member.insert(key.clone(), id.to_owned()).filter(|before| before != id)
            && let Some(other) = self.records.get_mut(&before)
        {
            other.drop_member(&key);
        }
    }

    /// Moves the members of a record that never opened into another one.
    pub(crate) fn absorb(&mut self, id: &str, other: &str) {
        let Some(other) = self.records.remove(other) else { return };
        let Some(record) = self.records.get_mut(id) else { return };
        record.severity = record.severity.max(other.severity);
        record.wants_case |= other.wants_case;
        for (key, member) in other.members {
            self.of_member.insert(key.clone(), id.to_owned());
            record.take(key, member, other.changed_at);
        }
    }

    /// An alarm is over. Gives the id of the record that it was in.
    pub(crate) fn cleared(&mut self, device: &str, condition: &str, at: Timestamp) -> Option<String> {
        if self.of_member.is_empty() {
            return None;
        }
        let key = (device.to_owned(), condition.to_owned());
        let id = self.of_member.get(&key)?.clone();
        let record = self.records.get_mut(&id)?;
        let member = record.members.get_mut(&key).filter(|member| member.is_standing)?;
        member.is_standing = false;
        record.standing -= 1;
        if record.opened_at.is_some() {
            record.changed_at = record.changed_at.max(at);
        }
        Some(id)
    }

    /// Forgets a record.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Record> {
        let record = self.records.remove(id)?;
        for key in record.members.keys() {
            if self.of_member.get(key).is_some_and(|of| of == id) {
                self.of_member.remove(key);
            }
        }
        Some(record)
    }

    /// The oldest chain, when there are too many that are too short.
    pub(crate) fn beyond_limit(&self) -> Option<String> {
        let gathering = || self.records.values().filter(|record| record.opened_at.is_none());
        if self.records.len() <= GATHERING_MAX || gathering().count() <= GATHERING_MAX {
            return None;
        }
        gathering().min_by_key(|record| (record.changed_at, &record.id)).map(|record| record.id.clone())
    }

    /// See [`crate::device::DeviceState::forget_future`].
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        for record in self.records.values_mut() {
            record.began_at = record.began_at.min(now);
            record.changed_at = record.changed_at.min(now);
            record.area.last_at = record.area.last_at.min(now);
        }
        for loss in self.losses.values_mut() {
            loss.since = loss.since.min(now);
            loss.back_at = loss.back_at.map(|back_at| back_at.min(now));
        }
        if let Some(rain) = &mut self.rain {
            rain.until = rain.until.min(now.plus(RAIN_SIGNAL_MAX));
        }
    }
}

/// The devices on each parent, in the order of the inventory. Polled units without a parent hang on their link: that of
/// their modem or bus, where a source has several.
#[derive(Debug, Default)]
pub(crate) struct Families {
    lists: Vec<Vec<DeviceIndex>>,
    names: Vec<String>,
    of: Vec<Option<u32>>,
    /// The link that each polled unit is on.
    links: Vec<Option<u32>>,
    /// The family of each tag that a rule of the site goes by.
    tagged: BTreeMap<String, u32>,
}

/// The place of a family among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FamilyIndex(u32);

impl Families {
    pub(crate) fn of(site: &Site) -> Families {
        let mut families = Families::default();
        let (mut parents, mut links) = (BTreeMap::new(), BTreeMap::new());
        for (index, device) in (0_u32..).map(DeviceIndex).zip(site.devices()) {
            let is_polled =
                matches!(site.profile_of(device).payload, kerbside_model::profile::PayloadFormat::Registers(_));
            let link = device.source.as_deref().filter(|_| is_polled).map(|source| link_of(source, &device.address));
            let parent = (!device.parent.is_empty()).then_some(Cow::Borrowed(device.parent.as_str()));
            let link = link.map(|name| families.join(&mut links, name, index));
            let parent = parent.map(|name| families.join(&mut parents, name, index));
            families.of.push(parent.or(link));
            families.links.push(link);
        }
        families.gather_tags(site);
        families
    }

    fn join<'a>(&mut self, known: &mut BTreeMap<Cow<'a, str>, u32>, name: Cow<'a, str>, index: DeviceIndex) -> u32 {
        let family = *known.entry(name.clone()).or_insert_with(|| {
            self.lists.push(Vec::new());
            self.names.push(name.into_owned());
            u32::try_from(self.lists.len() - 1).expect("an inventory has fewer than 2^32 devices")
        });
        self.lists[family as usize].push(index);
        family
    }

    /// What a device may be silent together with: the units of its link, and those on its parent.
    pub(crate) fn of_silence(&self, index: DeviceIndex) -> Vec<FamilyIndex> {
        let place = index.0 as usize;
        let both = [&self.links, &self.of].map(|families| families.get(place).copied().flatten().map(FamilyIndex));
        let mut found: Vec<FamilyIndex> = both.into_iter().flatten().collect();
        found.dedup();
        found
    }

    fn gather_tags(&mut self, site: &Site) {
        let patterns: Vec<_> = site.facts().incidents.groups.iter().filter_map(|rule| rule.tag.as_ref()).collect();
        if patterns.is_empty() {
            return;
        }
        for (index, device) in (0_u32..).zip(site.devices()) {
            for tag in device.tags.iter().filter(|tag| patterns.iter().any(|pattern| pattern.is(tag))) {
                let family = *self.tagged.entry(tag.clone()).or_insert_with(|| {
                    self.lists.push(Vec::new());
                    self.names.push(tag.clone());
                    u32::try_from(self.lists.len() - 1).expect("an inventory has fewer than 2^32 tags")
                });
                self.lists[family as usize].push(DeviceIndex(index));
            }
        }
    }

    /// The families of a device that a rule is about: what it hangs on, or those of its tags that are meant.
    pub(crate) fn of_rule(&self, site: &Site, index: DeviceIndex, rule: &GroupRule) -> Vec<FamilyIndex> {
        match &rule.tag {
            None => self.of.get(index.0 as usize).copied().flatten().map(FamilyIndex).into_iter().collect(),
            Some(pattern) => {
                let tags = site.device(index).tags.iter().filter(|tag| pattern.is(tag));
                tags.filter_map(|tag| self.tagged.get(tag).copied().map(FamilyIndex)).collect()
            }
        }
    }

    /// The devices of every family of this name: what hangs on a parent or a link, or has a tag.
    pub(crate) fn named(&self, name: &str) -> Vec<&[DeviceIndex]> {
        let named = self.names.iter().zip(&self.lists).filter(|(known, _)| *known == name);
        named.map(|(_, devices)| devices.as_slice()).collect()
    }

    /// The name of a family, with its devices.
    pub(crate) fn at(&self, family: FamilyIndex) -> (&str, &[DeviceIndex]) {
        (&self.names[family.0 as usize], &self.lists[family.0 as usize])
    }
}

/// The line that a polled unit is on: `SOURCE`, or `SOURCE/MODEM` for an address `MODEM:UNIT`.
fn link_of<'a>(source: &'a str, address: &str) -> Cow<'a, str> {
    match address.rsplit_once(':') {
        Some((line, _)) => Cow::Owned(format!("{source}/{line}")),
        None => Cow::Borrowed(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_one_modem_are_a_family_and_so_are_those_of_a_bus() {
        assert_eq!(link_of("dtu", "861234567890123:2"), "dtu/861234567890123");
        assert_eq!(link_of("bus", "17"), "bus");
    }
}
