//! A scenario goes through a whole engine with the shipped profiles.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use kerbside_engine::Engine;
use kerbside_engine::rehearsal::{Rehearsal, Sending};
use kerbside_model::profile::{Profile, Slot};
use kerbside_model::{Effects, Input, MaskKind, OperatorAction, Suppression, Timestamp, Value};
use kerbside_simulator::scenarios::{Act, Message, Messages, Said, Scenario, Sender};

use crate::shelf::profile;

/// Who does what people do.
const PERSON: &str = "scenario";

/// One episode of a condition, as people came to see it.
#[derive(Clone, Debug)]
pub(crate) struct Raised {
    pub(crate) device: String,
    pub(crate) condition: String,
    pub(crate) severity: &'static str,
    /// When it stood for the first time without a permit, maintenance or commissioning to explain it.
    pub(crate) at: Timestamp,
    /// When it had a case, its own or an incident's.
    pub(crate) case_at: Option<Timestamp>,
    pub(crate) why: String,
}

/// A case that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) device: String,
    pub(crate) condition: String,
    pub(crate) at: Timestamp,
}

/// What came of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) raised: BTreeMap<String, Raised>,
    pub(crate) cases: BTreeMap<String, Opened>,
    pub(crate) messages: u64,
}

impl Outcome {
    fn take(&mut self, effects: &Effects) {
        for alarm in &effects.alarms {
            let is_explained = alarm.suppressed.is_some_and(|reason| {
                matches!(reason, Suppression::Permit | Suppression::Maintenance | Suppression::NotCommissioned)
            });
            if is_explained || alarm.cleared_at.is_some() && !self.raised.contains_key(&alarm.id) {
                continue;
            }
            let raised = self.raised.entry(alarm.id.clone()).or_insert_with(|| Raised {
                device: alarm.device.clone(),
                condition: alarm.condition.clone(),
                severity: alarm.severity.name(),
                at: alarm.updated_at,
                case_at: None,
                why: alarm.explanation.clone(),
            });
            if alarm.case_id.is_some() || alarm.suppressed == Some(Suppression::Incident) {
                raised.case_at.get_or_insert(alarm.updated_at);
            }
        }
        for case in &effects.cases {
            self.cases.entry(case.id.clone()).or_insert_with(|| Opened {
                device: case.device.clone(),
                condition: case.condition.clone(),
                at: case.opened_at,
            });
        }
    }
}

/// The profiles of a scenario with the points that are told, and which sender has which.
struct Cast {
    profiles: Vec<Profile>,
    given: Vec<Vec<u16>>,
    by_name: BTreeMap<&'static str, u16>,
}

impl Cast {
    fn of(senders: &[Sender]) -> Cast {
        let mut cast = Cast { profiles: Vec::new(), given: Vec::new(), by_name: BTreeMap::new() };
        for sender in senders {
            let position = *cast.by_name.entry(sender.profile).or_insert_with(|| {
                cast.profiles.push(profile(sender.profile));
                cast.given.push(Vec::new());
                u16::try_from(cast.profiles.len() - 1).unwrap()
            });
            for name in &sender.points {
                let point = cast.point(position, name);
                let given = &mut cast.given[usize::from(position)];
                if !given.contains(&point) {
                    given.push(point);
                }
            }
        }
        cast
    }

    fn point(&self, profile: u16, name: &str) -> u16 {
        let profile = &self.profiles[usize::from(profile)];
        let position = profile.point_index(name);
        u16::try_from(position.unwrap_or_else(|| panic!("{} has no point {name}", profile.name))).unwrap()
    }
}

/// A device while the scenario runs.
struct Running {
    address: String,
    profile: u16,
    messages: Messages,
    next: Option<Message>,
}

/// Runs a scenario to its end. Messages that arrive behind it are not looked at.
pub(crate) fn run(scenario: Scenario) -> Outcome {
    let cast = Cast::of(&scenario.senders);
    let mut devices = Vec::new();
    let mut running = Vec::new();
    for sender in scenario.senders {
        let profile = cast.by_name[sender.profile];
        let mut facts = sender.facts;
        facts.profile = profile;
        if facts.address.is_empty() {
            facts.address.clone_from(&facts.id);
        }
        let mut messages = sender.messages;
        let next = messages.next();
        running.push(Running { address: facts.address.clone(), profile, messages, next });
        devices.push(facts);
    }
    let profiles: Vec<(&Profile, &[u16])> = cast.profiles.iter().zip(cast.given.iter().map(Vec::as_slice)).collect();
    let rehearsal = Rehearsal::of_several(&profiles, devices);
    let mut engine = Engine::new(Arc::clone(rehearsal.site()));
    let mut outcome = Outcome::default();
    outcome.take(&engine.step(scenario.start, &[Input::Site(Arc::clone(rehearsal.site()))]));

    let mut acts = scenario.acts;
    acts.sort_by_key(|act| Reverse(act.at()));
    let end = scenario.start.plus(scenario.length);
    let arrival = |device: &Running| device.next.as_ref().map(|message| message.arrives_at);
    let mut order: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    order.extend(
        running.iter().enumerate().filter_map(|(position, device)| Some(Reverse((arrival(device)?, position)))),
    );
    while let Some(Reverse((at, position))) = order.pop().filter(|Reverse((at, _))| *at < end) {
        while let Some(act) = acts.pop_if(|act| act.at() <= at) {
            outcome.take(&engine.step(act.at(), &[Input::Operator(action(&act))]));
        }
        let device = &mut running[position];
        let message = std::mem::replace(&mut device.next, device.messages.next()).unwrap();
        order.extend(arrival(device).map(|next| Reverse((next, position))));
        let slots: Vec<(u16, Slot)> =
            message.values.iter().map(|(name, said)| (cast.point(device.profile, name), slot(*said))).collect();
        let slots: Vec<(u16, &Slot)> = slots.iter().map(|(point, slot)| (*point, slot)).collect();
        let sending = Sending {
            address: &device.address,
            profile: device.profile,
            observed_at: message.observed_at,
            received_at: at,
        };
        if let Some(frame) = rehearsal.sent(&sending, &slots) {
            outcome.messages += 1;
            outcome.take(&engine.step(at, &[Input::Frame(frame)]));
        }
    }
    outcome.take(&engine.step(end, &[]));
    outcome
}

fn slot(said: Said) -> Slot {
    match said {
        Said::Number(number) => Slot::Read(Value::Number(number)),
        Said::Flag(flag) => Slot::Read(Value::Boolean(flag)),
        Said::Label(label) => Slot::Read(Value::Text(label.into())),
        Said::Invalid => Slot::Invalid,
    }
}

fn action(act: &Act) -> OperatorAction {
    match act {
        Act::Mask { device, kind, span } => OperatorAction::Mask {
            device: device.clone(),
            kind: *kind,
            from: span.from,
            until: span.until,
            by: PERSON.to_owned(),
            reason: match kind {
                MaskKind::Permit => "permit".to_owned(),
                MaskKind::Maintenance => "maintenance".to_owned(),
            },
        },
        Act::RainSignal { signal, .. } => OperatorAction::RainSignal { signal: *signal, by: PERSON.to_owned() },
    }
}
