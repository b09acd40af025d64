//! The state machine: batches of inputs in, effects out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::Profile;
use kerbside_model::site::GATEWAY_DEVICE;
use kerbside_model::{
    AlarmState, Delivery, DeliveryOutcome, DeviceIndex, Effects, FrameView, GatewayCondition, Input, Noted,
    Observations, OperatorAction, OutboxChange, OutboxState, PayloadView, Site, SourceStatus, Suppression, Timestamp,
};

use crate::alarms::{ConditionState, raise};
use crate::budget::Pace;
use crate::cases::{Cases, Context};
use crate::decode::{Certainty, Decoders, NotTaken, Refused, Scratch, Told, keep_undecoded, observation_time, resolve};
use crate::device::{DeviceState, Mask, Outside};
use crate::duplicates::LATE_AFTER;
use crate::explain::unsure;
use crate::grading::FrameMoment;
use crate::grouping::{Book, Families};
use crate::kin::Kin;
use crate::quality::Findings;
use crate::rows::Placed;
use crate::surroundings::Outlook;
use crate::timers::Timers;
use crate::walk::Walk;

/// The middle of the gateway.
#[derive(Debug)]
pub struct Engine {
    pub(crate) site: Arc<Site>,
    pub(crate) devices: Vec<DeviceState>,
    pub(crate) cases: Cases,
    pub(crate) gateway: BTreeMap<String, ConditionState>,
    pub(crate) sources_down: BTreeSet<Arc<str>>,
    pub(crate) decoders: Decoders,
    pub(crate) timers: Timers,
    pub(crate) scratch: Scratch,
    pub(crate) findings: Findings,
    pub(crate) kin: Kin,
    /// Who hangs on which parent.
    pub(crate) families: Families,
    pub(crate) incidents: Book,
    /// The walk test that runs, or the last one.
    pub(crate) walk: Option<Walk>,
    /// How much a device may send; `None` for no limit.
    pub(crate) pace: Option<Pace>,
    /// The weather of the catchments, and what flows where.
    pub(crate) outlook: Outlook,
}

impl Engine {
    /// An engine that has seen nothing. The first input should be the site itself, which says when listening began.
    pub fn new(site: Arc<Site>) -> Engine {
        let devices = site.devices().iter().map(|device| DeviceState::new(site.profile_of(device))).collect();
        Engine::assemble(site, devices, Cases::default(), BTreeMap::new(), BTreeSet::new())
    }

    pub(crate) fn assemble(
        site: Arc<Site>,
        devices: Vec<DeviceState>,
        cases: Cases,
        gateway: BTreeMap<String, ConditionState>,
        sources_down: BTreeSet<Arc<str>>,
    ) -> Engine {
        let pace = Pace::of(&site.facts().limits);
        let mut engine = Engine {
            decoders: Decoders::new(&site),
            site,
            devices,
            cases,
            gateway,
            sources_down,
            timers: Timers::default(),
            scratch: Scratch::default(),
            findings: Findings::default(),
            kin: Kin::default(),
            families: Families::default(),
            incidents: Book::default(),
            walk: None,
            pace,
            outlook: Outlook::default(),
        };
        engine.outlook = Outlook::of(&engine.site);
        engine.kin = Kin::of(&engine.site, &engine.decoders);
        engine.families = Families::of(&engine.site);
        engine.set_timers(Timestamp::default());
        engine
    }

    /// The site that it works with.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// When it must be stepped again even if nothing comes in.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// How many cases are not final.
    pub fn open_cases(&self) -> usize {
        self.cases.open_count()
    }

    /// Takes a batch. A site comes in a batch of its own, since observations point into one site. Timers that were due
    /// before an input came are served before it, so that the way inputs are cut into batches changes nothing.
    pub fn step(&mut self, now: Timestamp, inputs: &[Input]) -> Effects {
        let mut effects = Effects::default();
        self.step_on(now, inputs, &mut effects);
        effects
    }

    /// The same, adding to the effects of earlier steps of the same site. Nobody else may hold their observations yet.
    pub fn step_on(&mut self, now: Timestamp, inputs: &[Input], effects: &mut Effects) {
        let observations = std::mem::take(Arc::make_mut(&mut effects.observations));
        let mut work =
            Work { observations: self.scratch.continue_with(observations), effects, certainty: self.certainty() };
        let moments = Moments::of(now, inputs);
        for (position, input) in inputs.iter().enumerate() {
            if matches!(input, Input::Operator(_) | Input::Delivery(_) | Input::Platform(_)) {
                // What was due is due: a signature calls back no call that should have been made.
                self.serve_timers(Timestamp(moments.behind(position).0 - 1), work.effects);
            }
            match input {
                Input::Frame(frame) => {
                    let at = frame.received_at.min(now);
                    self.serve_timers(Timestamp(at.0 - 1), work.effects);
                    let site = Arc::clone(&self.site);
                    self.take_frame(&site, &frame.view(), at, &mut work);
                }
                Input::Frames(frames) => {
                    let at = frames.received_at().min(now);
                    self.serve_timers(Timestamp(at.0 - 1), work.effects);
                    let site = Arc::clone(&self.site);
                    frames.iter().for_each(|frame| self.take_frame(&site, &frame, at, &mut work));
                }
                Input::Site(site) => self.take_site(site, now, work.effects),
                Input::Change { site, by } => self.take_change(site, by, now, work.effects),
                Input::Again(frames) => {
                    let observations = std::mem::take(&mut work.observations).with_readings(self.scratch.take_kept());
                    let observations = self.read_again(frames, observations, work.effects);
                    work.observations = self.scratch.continue_with(observations);
                }
                Input::Operator(action) => self.take_action(action, now, work.effects),
                Input::Delivery(delivery) => self.take_delivery(delivery, now, work.effects),
                Input::Platform(status) => {
                    let (mut ctx, cases) = self.case_context(now, work.effects);
                    cases.platform_says(&mut ctx, status);
                    self.mark_ended(&status.case_id, now, work.effects);
                }
                Input::Source(status) => self.take_source(status, now),
                Input::Gateway(condition) => {
                    self.take_gateway(condition, now, work.effects);
                    work.certainty = self.certainty();
                }
            }
        }
        self.serve_timers(now, work.effects);
        let Work { observations, effects, .. } = work;
        effects.observations = Arc::new(observations.with_readings(self.scratch.take_kept()));
    }

    pub(crate) fn case_context<'a>(
        &'a mut self,
        at: Timestamp,
        effects: &'a mut Effects,
    ) -> (Context<'a>, &'a mut Cases) {
        (Context { site: &self.site, effects, timers: &mut self.timers, at }, &mut self.cases)
    }

    // === frames

    fn take_frame(&mut self, site: &Site, frame: &FrameView<'_>, at: Timestamp, work: &mut Work<'_>) {
        work.effects.frames += 1;
        let counts = &mut work.effects.counts;
        counts.frames_retained += u64::from(frame.flags.retained);
        let sender = match resolve(site, frame) {
            Ok(sender) => sender,
            Err(NotTaken::Ignored(event)) => {
                counts.frames_ignored[event as usize] += 1;
                return self.take_event(event, frame, at, work.effects);
            }
            Err(NotTaken::Refused(Refused { device, error })) => {
                let device = device.map(|index| site.device(index));
                return keep_undecoded(work.effects, site, frame, device, error);
            }
        };
        let index = sender.device;
        let device = site.device(index);
        let profile_index = site.profile_index(index);
        let decoder = self.decoders.at(profile_index);
        let decoded = match decoder.decode(device, &sender.message(frame), &mut self.scratch) {
            Ok(decoded) => decoded,
            Err(error) => return keep_undecoded(work.effects, site, frame, Some(device), error),
        };
        counts.frames_decoded += 1;
        counts.frames_partial += u64::from(!self.scratch.remarks().is_empty());
        let state = &mut self.devices[index.0 as usize];
        let times = decoder.times(&decoded, frame.received_at, work.certainty);
        if let Some(refusal) = times.refused {
            counts.times_refused[refusal as usize] += 1;
        }
        let device_time = times.observed;
        let readings = self.scratch.readings();
        if let Some(arrival) = sender.arrival(frame, times.in_order, state.observed_at, work.certainty)
            && let Some(reason) = state.came_before(&arrival, readings, site.facts().limits.duplicate_window)
        {
            counts.frames_duplicate[reason as usize] += 1;
            if decoded.heard {
                state.heard_at = state.heard_at.max(Some(at));
            }
            return work.effects.note(Noted::Left);
        }
        let has_own = !readings.is_empty();
        let observed_at = has_own.then(|| observation_time(frame, device_time, &mut state.placed_at)).flatten();
        if frame.flags.retained && observed_at.is_none() && self.scratch.history_len() == 0 {
            return;
        }
        // Without a time of its own a frame is as new as its arrival.
        let late = match (frame.flags.retained, times.in_order) {
            (true, _) => true,
            (false, Some(time)) => state.is_late(time, frame.received_at),
            (false, None) => device_time.is_some_and(|time| frame.received_at.since(time) > LATE_AFTER),
        };
        counts.observations_late += u64::from(late && observed_at.is_some());
        if let Some(observed_at) = observed_at {
            let moment = FrameMoment { index, observed_at, received_at: frame.received_at };
            self.grade(site, &moment, late, work.effects);
        }
        let (readings, state) = (self.scratch.readings(), &mut self.devices[index.0 as usize]);
        let counts = &mut work.effects.counts;
        counts.readings_not_good += readings.iter().filter(|reading| !reading.quality.is_good()).count() as u64;
        let alarms_before = work.effects.alarms.len();
        let heard_before = state.heard_at;
        let has_moved = decoded.heard && !frame.flags.retained && state.hear(frame.source, at);
        let is_message = matches!(frame.payload, PayloadView::Bytes(_)) && !frame.flags.retained;
        let pace = self.pace.as_ref().filter(|_| is_message);
        let is_paid = pace.is_none_or(|pace| state.budget.pay(pace, device_time.unwrap_or(at), at, heard_before));
        let mut lost = None;
        if !late {
            if let Some((session, counter)) = sender.counted() {
                let missing = state.uplinks.take(session, counter);
                counts.uplinks_lost += missing;
                lost = Some(missing);
            }
            state.observed_at = times.in_order.unwrap_or(state.observed_at);
            state.last.keep(readings, observed_at.unwrap_or(at), at);
        }
        if has_moved {
            // Its old source may have been down, and no silence was counted.
            self.schedule_device(index);
        }
        if !late {
            let moment = Heard { at, observed_at: observed_at.unwrap_or(at), is_heard: decoded.heard, lost };
            let offset_ms = match (decoded.told, work.certainty) {
                (Told::Time(told), Certainty::Sure) => Some(frame.received_at.0.saturating_sub(told.0)),
                _ => None,
            };
            self.watch(&site.facts().profiles[profile_index], index, &moment, offset_ms, work.effects);
        }
        if is_paid || work.effects.alarms.len() > alarms_before {
            self.keep_rows(&Placed { index, device_time, observed_at, late }, frame, work);
        } else {
            work.effects.counts.frames_thinned += 1;
            work.effects.note(Noted::Left);
        }
        self.keep_revised(index, frame, work);
        if !is_paid {
            self.note_babble(site, index, at, work.effects);
        }
    }

    /// What a frame of the present is there for besides its rows: walk test, detectors, sensors, the device's clock.
    fn watch(
        &mut self,
        profile: &Profile,
        index: DeviceIndex,
        moment: &Heard,
        clock_offset_ms: Option<i64>,
        effects: &mut Effects,
    ) {
        self.walk_hears(profile, index, moment.at);
        self.detect(profile, index, moment, effects);
        self.watch_sensors(profile, index, moment.at, effects);
        if let Some(offset_ms) = clock_offset_ms {
            self.compare_clocks(profile, index, offset_ms, moment.at, effects);
        }
    }

    /// Runs the detectors whose points came in this frame and settles their conditions.
    fn detect(&mut self, profile: &Profile, index: DeviceIndex, moment: &Heard, effects: &mut Effects) {
        let Heard { at, observed_at, is_heard, lost } = *moment;
        let clock = self.decoders.at(self.site.profile_index(index)).clock();
        let device = self.site.device(index);
        let local = clock.local(observed_at, clock.place(device));
        let interval = interval_of(&self.site, device);
        let came = |point: u16| self.scratch.came(point);
        let subject = (index, self.site.profile_index(index));
        self.outlook.notice(subject, &mut self.devices[index.0 as usize], &came, at);
        let surroundings = self.outlook.around(&self.site, index, (&self.devices, &self.incidents), at);
        let battery_since = device.battery_since;
        let outside =
            Outside { local: local.as_ref(), lost, battery_since, surroundings: surroundings.as_ref(), interval };
        let state = &mut self.devices[index.0 as usize];
        let touched_conditions = state.run_detectors(profile, &self.scratch, is_heard, at, &outside);
        let sooner = touched_conditions != 0
            || state.timer.is_none()
            || state.is_silent_sooner(profile, interval)
            || state.stands_on_several(profile);
        if touched_conditions != 0 {
            for condition in 0..profile.conditions.len() {
                if touched_conditions & (1_u64 << (condition & 63)) != 0 {
                    self.end_carried(index, condition, at);
                    self.settle_condition(index, condition, at, effects);
                }
            }
        }
        if sooner {
            self.schedule_device(index);
        }
    }

    // === people, platforms, the gateway itself

    fn take_action(&mut self, action: &OperatorAction, at: Timestamp, effects: &mut Effects) {
        match action {
            OperatorAction::Sign { case_id, by } => {
                let (mut ctx, cases) = self.case_context(at, effects);
                cases.sign(&mut ctx, case_id, by);
            }
            OperatorAction::MoveCase { case_id, to, by, note } => {
                let (mut ctx, cases) = self.case_context(at, effects);
                cases.move_to(&mut ctx, case_id, *to, by, note);
                self.mark_ended(case_id, at, effects);
            }
            OperatorAction::Acknowledge { alarm_id, by } => self.acknowledge(alarm_id, by, at, effects),
            OperatorAction::Mask { device, kind, from, until, by, reason } => {
                let mask = Mask { kind: *kind, from: *from, until: *until, by: by.clone(), reason: reason.clone() };
                self.mask(device, mask, at, effects);
            }
            OperatorAction::Unmask { device, by } => self.unmask(device, by, at, effects),
            OperatorAction::StartWalk { devices, until, by } => self.start_walk((devices, by), *until, at, effects),
            OperatorAction::FinishWalk { by } => self.finish_walk(by, at, effects),
            OperatorAction::NotePhoto { device, photo, by } => self.note_photo(device, photo, by, at, effects),
            OperatorAction::RainSignal { signal, by } => self.take_rain_signal(*signal, by, at, effects),
        }
    }

    fn acknowledge(&mut self, alarm_id: &str, by: &str, at: Timestamp, effects: &mut Effects) {
        let of_devices = self.devices.iter_mut().flat_map(|state| state.conditions.iter_mut());
        let slots = of_devices.chain(self.gateway.values_mut());
        let found = slots.filter_map(|slot| slot.alarm.as_mut()).find(|alarm| alarm.id == alarm_id);
        let (action, detail) = match found {
            Some(alarm) => {
                alarm.acknowledged = Some((by.to_owned(), at));
                alarm.updated_at = at;
                effects.alarms.push((**alarm).clone());
                ("alarm_acknowledged", "")
            }
            None => ("acknowledge_refused", "no standing alarm has this id"),
        };
        let (mut ctx, _) = self.case_context(at, effects);
        ctx.audit(by, action, alarm_id, detail);
    }

    fn take_delivery(&mut self, delivery: &Delivery, at: Timestamp, effects: &mut Effects) {
        let (state, note) = match &delivery.outcome {
            DeliveryOutcome::Attempting => (OutboxState::Attempted, String::new()),
            DeliveryOutcome::Delivered { platform_id } => {
                (OutboxState::Delivered, platform_id.clone().unwrap_or_default())
            }
            DeliveryOutcome::Refused { reason } => (OutboxState::Dead, reason.clone()),
        };
        effects.outbox_changes.push(OutboxChange { row_id: delivery.row_id.clone(), state, note });
        let (mut ctx, cases) = self.case_context(at, effects);
        match &delivery.outcome {
            DeliveryOutcome::Attempting => {}
            DeliveryOutcome::Delivered { platform_id } => {
                cases.delivered(&mut ctx, &delivery.row_id, &delivery.case_id, platform_id.as_deref());
            }
            DeliveryOutcome::Refused { reason } => {
                cases.refused(&mut ctx, &delivery.row_id, &delivery.case_id, &delivery.target, reason);
            }
        }
    }

    /// While a source is down nobody can say that its devices are silent.
    fn take_source(&mut self, status: &SourceStatus, at: Timestamp) {
        if !status.connected && self.site.source_rule(&status.source).is_none() {
            // It was taken out of the configuration meanwhile; nobody would ever tell that it is back.
            return;
        }
        let is_change = if status.connected {
            self.sources_down.remove(&status.source)
        } else {
            self.sources_down.insert(Arc::clone(&status.source))
        };
        if !is_change {
            return;
        }
        if status.connected {
            self.regain_link(&status.source, at);
        } else {
            self.lose_link(&status.source, at);
        }
        for position in 0..self.devices.len() {
            let index = DeviceIndex(u32::try_from(position).expect("an inventory has fewer than 2^32 devices"));
            if self.source_of(index).is_none_or(|source| source == status.source) {
                self.devices[position].listening_since = at;
                self.schedule_device(index);
            }
        }
    }

    /// The source that a device is heard on: the last one that it was, else the inventory's.
    pub(crate) fn source_of(&self, index: DeviceIndex) -> Option<Arc<str>> {
        let heard_on = self.devices[index.0 as usize].heard_on.clone();
        heard_on.or_else(|| self.site.device(index).source.as_deref().map(Arc::from))
    }

    pub(crate) fn is_deaf_to(&self, index: DeviceIndex) -> bool {
        if self.sources_down.is_empty() {
            return false;
        }
        self.source_of(index).is_none_or(|source| self.sources_down.contains(&source))
    }

    pub(crate) fn take_gateway(&mut self, condition: &GatewayCondition, at: Timestamp, effects: &mut Effects) {
        let certainty = self.certainty();
        let slot = self.gateway.entry(condition.condition.clone()).or_default();
        match (&mut slot.alarm, condition.active) {
            (None, true) => {
                let texts = (condition.detail.clone(), condition.detail_zh.clone());
                let texts = if certainty == Certainty::Unsure { unsure(texts) } else { texts };
                raise(slot, GATEWAY_DEVICE, &condition.condition, condition.severity, at, texts);
                effects.counts.alarms_raised[condition.severity as usize] += 1;
                if let Some(alarm) = slot.alarm.as_mut() {
                    alarm.suppressed = Some(Suppression::NoCase);
                    effects.alarms.push((**alarm).clone());
                }
            }
            (Some(alarm), false) => {
                (alarm.state, alarm.updated_at, alarm.cleared_at) = (AlarmState::Cleared, at, Some(at));
                if !condition.detail.is_empty() {
                    // What it came to in the end.
                    (alarm.explanation, alarm.explanation_zh) = (condition.detail.clone(), condition.detail_zh.clone());
                }
                effects.counts.alarms_cleared += 1;
                effects.alarms.push((**alarm).clone());
                slot.alarm = None;
            }
            _ => {}
        }
    }
}

/// When a frame was received and what it tells of was taken, and whether it shows that the device is alive.
struct Heard {
    at: Timestamp,
    observed_at: Timestamp,
    is_heard: bool,
    /// How many uplinks before it never came, where they are numbered.
    lost: Option<u64>,
}

/// Until when nothing more comes in a batch than what lies behind each input that has no time of its own. Empty for a
/// batch of frames only.
struct Moments {
    now: Timestamp,
    earliest: Vec<Timestamp>,
}

impl Moments {
    fn of(now: Timestamp, inputs: &[Input]) -> Moments {
        let received_at = |input: &Input| match input {
            Input::Frame(frame) => Some(frame.received_at),
            Input::Frames(frames) => Some(frames.received_at()),
            _ => None,
        };
        let mut earliest = Vec::new();
        if inputs.iter().any(|input| received_at(input).is_none()) {
            let mut next = now;
            earliest.resize(inputs.len(), now);
            for (input, known) in inputs.iter().zip(&mut earliest).rev() {
                next = next.min(received_at(input).unwrap_or(now));
                *known = next;
            }
        }
        Moments { now, earliest }
    }

    /// Frames behind an input may have been received before it: their device was not silent until then.
    fn behind(&self, position: usize) -> Timestamp {
        self.earliest.get(position).copied().unwrap_or(self.now)
    }
}

pub(crate) struct Work<'a> {
    pub(crate) effects: &'a mut Effects,
    /// How far our own clock can be believed during this input.
    pub(crate) certainty: Certainty,
    pub(crate) observations: Observations,
}

/// How often a device reports: the inventory's word, else its profile's.
pub(crate) fn interval_of(site: &Site, device: &Device) -> Option<Duration> {
    device.interval.or(site.profile_of(device).interval)
}
