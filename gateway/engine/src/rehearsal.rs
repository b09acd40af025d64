//! Readings that are written down go through the engine as if a device had sent them just then.
//!
//! A rehearsal has a site of its own, whose profiles tell points by their names ([`Profile::for_rehearsal`]); all else,
//! from the valid range to the case, is the engine that runs in the street. Nothing is kept.

use std::sync::Arc;

use bytes::Bytes;
use kerbside_model::inventory::Device;
use kerbside_model::profile::{Profile, REHEARSAL_TIME_KEY, Slot};
use kerbside_model::site::SiteFacts;
use kerbside_model::{ByteText, Frame, Payload, Site, Timestamp};

/// The source that rehearsed frames come by.
const SOURCE: &str = "rehearsal";

/// Devices whose readings are written down.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    site: Arc<Site>,
    source: Arc<str>,
}

/// Who sends a rehearsed message, and when.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The device's address.
    pub address: &'a str,
    /// Position of its profile in the site.
    pub profile: u16,
    /// The time that it tells.
    pub observed_at: Timestamp,
    /// When it arrives.
    pub received_at: Timestamp,
}

impl Rehearsal {
    /// `given` are the points that are written down; every device is of the profile.
    pub fn new(profile: &Profile, given: &[u16], devices: Vec<Device>) -> Rehearsal {
        Rehearsal::of_several(&[(profile, given)], devices)
    }

    /// Devices of several profiles, which name theirs by its position here; with each the points that are written down.
    pub fn of_several(profiles: &[(&Profile, &[u16])], devices: Vec<Device>) -> Rehearsal {
        let profiles = profiles.iter().map(|(profile, given)| Arc::new(profile.for_rehearsal(given))).collect();
        let mut facts = SiteFacts::new(SOURCE, profiles, devices);
        // History is run through as fast as it goes, and none of it is too much.
        facts.limits.device_frames_per_second = 0;
        Rehearsal { site: Arc::new(Site::new(facts)), source: Arc::from(SOURCE) }
    }

    /// The site to run it with.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The message of one device of the first profile at one moment; `None` when no point is in it.
    pub fn frame(&self, address: &str, at: Timestamp, slots: &[(u16, &Slot)]) -> Option<Frame> {
        self.sent(&Sending { address, profile: 0, observed_at: at, received_at: at }, slots)
    }

    /// A message that may have been under way for a while; `None` when no point is in it.
    pub fn sent(&self, sending: &Sending<'_>, slots: &[(u16, &Slot)]) -> Option<Frame> {
        let profile = &self.site.facts().profiles[usize::from(sending.profile)];
        let mut message = format!("{{\"{REHEARSAL_TIME_KEY}\":{}", sending.observed_at.0);
        let mut has_points = false;
        for (point, slot) in slots {
            let value = match slot {
                Slot::Absent => continue,
                Slot::Invalid => "null".to_owned(),
                Slot::Read(value) => value.to_json().to_string(),
            };
            has_points = true;
            message.push_str(&format!(",\"{}\":{value}", profile.points[usize::from(*point)].name));
        }
        message.push('}');
        has_points.then(|| Frame {
            source: Arc::clone(&self.source),
            address: ByteText::from(sending.address),
            payload: Payload::Bytes(Bytes::from(message)),
            received_at: sending.received_at,
            retained: false,
        })
    }
}
