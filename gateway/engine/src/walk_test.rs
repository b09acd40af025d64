//! The walk test (现场核验): a round in which an installer opens each cover, shakes each pole and presses each button.
//!
//! A device has passed when one of its test triggers was seen and was normal again. While the walk runs its devices open
//! no cases, in service or not, and a condition of the gateway says so. It ends when somebody says so or when its time
//! is up; what still stands then is brought to a case. The record stays until the next walk begins.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::profile::{Profile, WalkTrigger};
use kerbside_model::{DeviceIndex, Effects, GatewayCondition, Severity, Timestamp, Value, vocabulary};
use serde::Serialize;

use crate::Engine;
use crate::cases::KERBSIDE;
use crate::timers::TimerKey;
use crate::view::{DeviceView, ReadingView};
use crate::walk::{Progress, Seen, Sight, Walk};

/// A walk is no longer than a day: an installer's shift, and an alarm is not hidden overnight by mistake.
pub const WALK_MAX: Duration = Duration::from_secs(86_400);
/// Devices in one walk. Nobody opens more covers in a day.
pub const WALK_DEVICES_MAX: usize = 2_000;
/// Characters of a file name, URL or remark.
pub const WALK_PHOTO_CHARACTERS_MAX: usize = 300;

/// How far a device is in a walk test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WalkOutcome {
    /// Nothing came of it since the walk began.
    NotHeard,
    /// It reports, and no test trigger was seen.
    Heard,
    /// A test trigger was seen, and it is not normal again.
    Half,
    /// A test trigger was seen and was normal again; or it has none and was heard.
    Passed,
    /// It is no longer in the inventory.
    Gone,
}

/// One device of a walk test.
#[derive(Clone, Debug, Serialize)]
pub struct WalkDeviceView {
    /// Device id.
    pub id: String,
    /// How far it is.
    pub outcome: WalkOutcome,
    /// The conditions and points of which one is to be seen; empty when it only has to be heard.
    pub triggers: Vec<TriggerView>,
    /// What was seen.
    pub seen: Vec<Seen>,
    /// Readable frames since the walk began.
    pub frames: u32,
    /// When the first of them came.
    pub first_frame_at: Option<Timestamp>,
    /// When the last of them came.
    pub last_frame_at: Option<Timestamp>,
    /// File name, URL or remark, or empty.
    pub photo: String,
    /// Version of its profile.
    pub profile_version: u32,
    /// Content hash of its profile.
    pub profile_hash: String,
    /// Position as the inventory has it, and its datum.
    pub surveyed: Option<(f64, f64, &'static str)>,
    /// The device as it is now; `None` when it is gone.
    pub device: Option<DeviceView>,
    /// Its last readings.
    pub readings: Vec<ReadingView>,
}

/// Something to be seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TriggerView {
    /// Name of the condition or point.
    pub name: String,
    /// What it is.
    pub title: String,
    /// The same in Chinese.
    pub title_zh: String,
}

/// A walk test as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct WalkView {
    /// Who began it.
    pub by: String,
    /// When.
    pub started_at: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<Timestamp>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// Its devices, by id.
    pub devices: Vec<WalkDeviceView>,
}

impl Engine {
    /// The walk test that runs, or the last one.
    pub fn walk_view(&self, now: Timestamp) -> Option<WalkView> {
        let walk = self.walk.as_ref()?;
        let devices = walk.devices.iter().map(|(id, progress)| self.walk_device(id, progress, now)).collect();
        Some(WalkView {
            by: walk.by.clone(),
            started_at: walk.started_at,
            until: walk.until,
            ended_at: walk.ended.as_ref().map(|(at, _)| *at),
            ended_by: walk.ended.as_ref().map(|(_, by)| by.clone()),
            devices,
        })
    }

    /// Whether a walk test runs.
    pub fn is_walking(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.ended.is_none())
    }

    /// Whether a device is in a walk test that runs.
    pub fn is_walked(&self, device: &str) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.covers(device))
    }

    fn walk_device(&self, id: &str, progress: &Progress, now: Timestamp) -> WalkDeviceView {
        let mut view = WalkDeviceView {
            id: id.to_owned(),
            outcome: WalkOutcome::Gone,
            triggers: Vec::new(),
            seen: progress.seen.clone(),
            frames: progress.frames,
            first_frame_at: progress.first_frame_at,
            last_frame_at: progress.last_frame_at,
            photo: progress.photo.clone(),
            profile_version: 0,
            profile_hash: String::new(),
            surveyed: None,
            device: None,
            readings: Vec::new(),
        };
        let Some(index) = self.site.find(id) else { return view };
        let device = self.site.device(index);
        let profile = self.site.profile_of(device);
        let triggers = profile.walk_triggers();
        view.outcome = outcome(progress, &triggers);
        view.triggers = triggers.iter().map(|trigger| trigger_view(profile, *trigger)).collect();
        (view.profile_version, view.profile_hash) = (profile.version, profile.content_hash());
        view.surveyed = device.position.map(|(lon, lat)| (lon, lat, device.datum.name()));
        view.device = Some(self.device_view(index, now));
        view.readings = self.reading_views(index, now);
        view
    }

    // === what is told

    pub(crate) fn start_walk(
        &mut self,
        (devices, by): (&[String], &str),
        until: Timestamp,
        at: Timestamp,
        effects: &mut Effects,
    ) {
        let unknown = devices.iter().find(|id| self.site.find(id).is_none());
        let refusal = if self.is_walking() {
            Some("a walk test runs already".to_owned())
        } else if let Some(id) = unknown {
            Some(format!("there is no device {id}"))
        } else if devices.is_empty() || devices.len() > WALK_DEVICES_MAX {
            Some(format!("{} devices: it has 1 to {WALK_DEVICES_MAX}", devices.len()))
        } else if until <= at || until.since(at) > WALK_MAX {
            Some(format!("it ends at {until}: that is not within the next 24 h"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let (mut ctx, _) = self.case_context(at, effects);
            ctx.audit(by, "walk_refused", "", &refusal);
            return;
        }
        let devices: BTreeMap<String, Progress> = devices.iter().map(|id| (id.clone(), Progress::default())).collect();
        let count = devices.len();
        self.walk = Some(Walk { by: by.to_owned(), started_at: at, until, ended: None, devices });
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.audit(by, "walk_started", "", &format!("{count} devices until {until}"));
        self.schedule_walk();
        self.tell_of_walk(true, (count, by), at, effects);
    }

    pub(crate) fn finish_walk(&mut self, by: &str, at: Timestamp, effects: &mut Effects) {
        let Some(walk) = self.walk.as_mut().filter(|walk| walk.ended.is_none()) else {
            let (mut ctx, _) = self.case_context(at, effects);
            ctx.audit(by, "walk_refused", "", "no walk test runs");
            return;
        };
        walk.ended = Some((at, by.to_owned()));
        let until = walk.until;
        let ids: Vec<String> = walk.devices.keys().cloned().collect();
        let site = std::sync::Arc::clone(&self.site);
        let indexes: Vec<DeviceIndex> = ids.iter().filter_map(|id| site.find(id)).collect();
        let passed = self
            .walk_view(at)
            .map_or(0, |view| view.devices.iter().filter(|device| device.outcome == WalkOutcome::Passed).count());
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.timers.remove(until, TimerKey::Walk);
        ctx.audit(by, "walk_finished", "", &format!("{passed} of {} devices passed", ids.len()));
        self.tell_of_walk(false, (ids.len(), by), at, effects);
        for index in indexes {
            self.reconsider(index, at, effects);
        }
    }

    pub(crate) fn note_photo(&mut self, device: &str, photo: &str, by: &str, at: Timestamp, effects: &mut Effects) {
        let place = self.walk.as_mut().and_then(|walk| walk.devices.get_mut(device));
        let is_in_it = place.is_some();
        if let Some(progress) = place {
            progress.photo = photo.chars().take(WALK_PHOTO_CHARACTERS_MAX).collect();
        }
        let (mut ctx, _) = self.case_context(at, effects);
        match is_in_it {
            true => ctx.audit(by, "walk_photo", device, photo),
            false => ctx.audit(by, "walk_refused", device, "it is in no walk test"),
        }
    }

    /// Its time is up.
    pub(crate) fn expire_walk(&mut self, at: Timestamp, effects: &mut Effects) {
        if self.walk.as_ref().is_some_and(|walk| walk.ended.is_none() && walk.until <= at) {
            self.finish_walk(KERBSIDE, at, effects);
        }
    }

    /// Sets the timer of a walk that runs.
    pub(crate) fn schedule_walk(&mut self) {
        let until = self.walk.as_ref().filter(|walk| walk.ended.is_none()).map(|walk| walk.until);
        if let Some(until) = until {
            let mut effects = Effects::default();
            let (ctx, _) = self.case_context(until, &mut effects);
            ctx.timers.set(until, TimerKey::Walk);
        }
    }

    /// After an upgrade the tables hold the gateway's condition, and nobody holds the walk.
    pub(crate) fn forget_lost_walk(&mut self, at: Timestamp, effects: &mut Effects) {
        let stands = self.gateway.get(vocabulary::WALK_TEST).is_some_and(|slot| slot.alarm.is_some());
        if stands && !self.is_walking() {
            self.tell_of_walk(false, (0, KERBSIDE), at, effects);
        }
    }

    fn tell_of_walk(&mut self, active: bool, (devices, by): (usize, &str), at: Timestamp, effects: &mut Effects) {
        let condition = GatewayCondition {
            condition: vocabulary::WALK_TEST.to_owned(),
            active,
            severity: Severity::Notice,
            detail: format!("walk test of {devices} devices, last word by {by}: they open no cases while it runs"),
            detail_zh: format!("现场核验涉及 {devices} 台设备，操作人 {by}：核验期间这些设备不产生案件"),
        };
        self.take_gateway(&condition, at, effects);
    }

    // === what is seen

    /// A live frame came: it counts, and so do the points in it that are triggers.
    pub(crate) fn walk_hears(&mut self, profile: &Profile, index: DeviceIndex, at: Timestamp) {
        let Some(walk) = self.walk.as_mut() else { return };
        let Some(progress) = walk.running_for(&self.site.device(index).id) else { return };
        progress.heard(at);
        for trigger in &profile.walk_test {
            let WalkTrigger::Point(point) = *trigger else { continue };
            let last = self.devices[index.0 as usize].last.get(usize::from(point));
            let Some(last) = last.filter(|last| last.received_at == at && last.quality.is_good()) else { continue };
            let is_on = match last.value {
                Some(Value::Boolean(value)) => *value,
                Some(Value::Number(number)) => *number != 0.0,
                _ => continue,
            };
            let name = profile.walk_trigger_name(*trigger);
            if is_on { progress.triggered(name, at) } else { progress.cleared(name, at) }
        }
    }

    /// A condition was raised or cleared.
    pub(crate) fn walk_sees(&mut self, index: DeviceIndex, condition: usize, sight: Sight, at: Timestamp) {
        let Some(walk) = self.walk.as_mut() else { return };
        let device = self.site.device(index);
        let Some(progress) = walk.running_for(&device.id) else { return };
        let profile = self.site.profile_of(device);
        let is_trigger = |trigger: &WalkTrigger| match trigger {
            WalkTrigger::Condition(position) => usize::from(*position) == condition,
            WalkTrigger::Point(_) => false,
        };
        if profile.walk_triggers().iter().any(is_trigger) {
            let name = &profile.conditions[condition].name;
            match sight {
                Sight::Raised => progress.triggered(name, at),
                Sight::Cleared => progress.cleared(name, at),
            }
        }
    }
}

fn outcome(progress: &Progress, triggers: &[WalkTrigger]) -> WalkOutcome {
    match progress.best() {
        Some(Seen { cleared_at: Some(_), .. }) => WalkOutcome::Passed,
        Some(_) => WalkOutcome::Half,
        None if progress.frames == 0 => WalkOutcome::NotHeard,
        None if triggers.is_empty() => WalkOutcome::Passed,
        None => WalkOutcome::Heard,
    }
}

fn trigger_view(profile: &Profile, trigger: WalkTrigger) -> TriggerView {
    let name = profile.walk_trigger_name(trigger).to_owned();
    let (title, title_zh) = match trigger {
        WalkTrigger::Condition(position) => {
            let condition = &profile.conditions[usize::from(position)];
            (condition.title.clone(), condition.title_zh.clone())
        }
        WalkTrigger::Point(_) => match vocabulary::point(&name) {
            Some(term) => (term.en.to_owned(), term.zh.to_owned()),
            None => (name.clone(), name.clone()),
        },
    };
    TriggerView { name, title, title_zh }
}
