//! Runs the rule tests of a profile: written-down readings through the engine, and what must stand then.

use std::collections::BTreeMap;
use std::sync::Arc;

use kerbside_model::profile::{Check, ExpectedAlarm, Profile, RuleTest, Slot, TestDevice};
use kerbside_model::{Alarm, AlarmState, Effects, Input, OperatorAction, Timestamp};

use crate::Engine;
use crate::rehearsal::Rehearsal;

/// Who masks devices in a test.
const TESTER: &str = "test";

/// A check that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the check, from 1.
    pub line: usize,
    /// What is otherwise than expected, in a sentence.
    pub what: String,
}

/// Runs one test; gives the checks that do not hold.
pub fn run_rule_test(profile: &Profile, test: &RuleTest) -> Vec<Failure> {
    let mut given: Vec<u16> =
        test.devices.iter().flat_map(|device| device.series.iter().map(|(point, _)| *point)).collect();
    given.sort_unstable();
    given.dedup();
    let devices = test.devices.iter().map(|device| device.facts.clone()).collect();
    let rehearsal = Rehearsal::new(profile, &given, devices);
    let mut run = Run {
        engine: Engine::new(Arc::clone(rehearsal.site())),
        alarms: BTreeMap::new(),
        events: Vec::new(),
        opened: Vec::new(),
    };
    run.step(test.start, &[Input::Site(Arc::clone(rehearsal.site()))]);
    for mask in &test.masks {
        let action = OperatorAction::Mask {
            device: mask.device.clone(),
            kind: mask.kind,
            from: test.start.plus(mask.from),
            until: test.start.plus(mask.until),
            by: TESTER.to_owned(),
            reason: TESTER.to_owned(),
        };
        run.step(test.start, &[Input::Operator(action)]);
    }
    let mut failures = Vec::new();
    for (at, event) in timeline(test) {
        match event {
            Event::Sends(device, position) => {
                let frame = rehearsal.frame(&device.facts.address, at, &slots_at(device, position));
                if let Some(frame) = frame {
                    run.step(at, &[Input::Frame(frame)]);
                }
            }
            Event::Checks(check) => {
                run.step(at, &[]);
                let looked = run.failures(profile, check, at);
                failures.extend(looked.into_iter().map(|what| Failure { line: check.line, what }));
            }
        }
    }
    failures
}

/// What happens in a test.
enum Event<'a> {
    Sends(&'a TestDevice, usize),
    Checks(&'a Check),
}

/// Messages and checks in the order of time; at one moment messages come first.
fn timeline(test: &RuleTest) -> Vec<(Timestamp, Event<'_>)> {
    let mut events = Vec::new();
    for device in &test.devices {
        let mut at = test.start;
        for position in 0..device.len() {
            events.push((at, Event::Sends(device, position)));
            at = at.plus(device.interval);
        }
    }
    for check in &test.checks {
        events.push((test.start.plus(check.at), Event::Checks(check)));
    }
    // Stable, so that what was written first comes first.
    events.sort_by_key(|(at, event)| (*at, matches!(event, Event::Checks(_))));
    events
}

fn slots_at(device: &TestDevice, position: usize) -> Vec<(u16, &Slot)> {
    device.series.iter().filter_map(|(point, slots)| Some((*point, slots.get(position)?))).collect()
}

/// What a check may look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Raised,
    Cleared,
}

/// An engine and what came out of it.
struct Run {
    engine: Engine,
    /// Alarms as they are now, by id.
    alarms: BTreeMap<String, Alarm>,
    events: Vec<(Timestamp, Turn, Alarm)>,
    /// Id, device and condition of every case, in the order of their opening.
    opened: Vec<(String, String, String)>,
}

impl Run {
    fn step(&mut self, at: Timestamp, inputs: &[Input]) {
        let effects = self.engine.step(at, inputs);
        self.take(&effects);
    }

    fn take(&mut self, effects: &Effects) {
        for alarm in &effects.alarms {
            if !self.alarms.contains_key(&alarm.id) {
                self.events.push((alarm.opened_at, Turn::Raised, alarm.clone()));
            }
            if let Some(cleared_at) = alarm.cleared_at {
                self.events.push((cleared_at, Turn::Cleared, alarm.clone()));
            }
            self.alarms.insert(alarm.id.clone(), alarm.clone());
        }
        for case in &effects.cases {
            if !self.opened.iter().any(|(id, _, _)| *id == case.id) {
                self.opened.push((case.id.clone(), case.device.clone(), case.condition.clone()));
            }
        }
    }

    /// What is otherwise than a check says.
    fn failures(&self, profile: &Profile, check: &Check, at: Timestamp) -> Vec<String> {
        let mut wrong = Vec::new();
        let when = spelt(check.at);
        let of_device = |alarm: &&Alarm| alarm.device == check.device;
        if let Some(expected) = &check.standing {
            let is_standing = |alarm: &&Alarm| alarm.state != AlarmState::Cleared;
            let found: Vec<&Alarm> = self.alarms.values().filter(of_device).filter(is_standing).collect();
            wrong.extend(compared(&when, "stands", expected, &found));
        }
        for (turn, verb, expected) in
            [(Turn::Raised, "is raised", &check.raised), (Turn::Cleared, "is cleared", &check.cleared)]
        {
            let Some(expected) = expected else { continue };
            let then = self.events.iter().filter(|(then, turned, _)| *then == at && *turned == turn);
            let found: Vec<&Alarm> = then.map(|(_, _, alarm)| alarm).filter(of_device).collect();
            if let Some(what) = compared(&when, verb, expected, &found) {
                wrong.push(format!("{what}{}", self.otherwise(check, turn, expected)));
            }
        }
        if let Some(expected) = &check.cases {
            let found: Vec<&str> = self.cases_of(&check.device);
            if found != expected.iter().map(String::as_str).collect::<Vec<_>>() {
                wrong.push(format!("up to {when} cases are opened for {}, expected {}", list(&found), list(expected)));
            }
        }
        wrong.extend(self.wrong_flags(profile, check, at));
        wrong
    }

    fn cases_of(&self, device: &str) -> Vec<&str> {
        let of_device = self.opened.iter().filter(|(_, owner, _)| owner == device);
        of_device.map(|(_, _, condition)| condition.as_str()).collect()
    }

    /// When what was expected now did happen so far.
    fn otherwise(&self, check: &Check, turn: Turn, expected: &[ExpectedAlarm]) -> String {
        let is_meant = |alarm: &Alarm| {
            alarm.device == check.device && expected.iter().any(|wanted| wanted.condition == alarm.condition)
        };
        let start = self.engine.devices.first().map(|state| state.listening_since).unwrap_or_default();
        let times = self.events.iter().filter(|(_, turned, alarm)| *turned == turn && is_meant(alarm));
        let times: Vec<String> = times.map(|(at, _, _)| spelt(at.since(start))).collect();
        if times.is_empty() { String::new() } else { format!("; so far it was at {}", times.join(", ")) }
    }

    fn wrong_flags(&self, profile: &Profile, check: &Check, at: Timestamp) -> Vec<String> {
        let Some(index) = self.engine.site().find(&check.device) else { return Vec::new() };
        let views = self.engine.reading_views(index, at);
        let mut wrong = Vec::new();
        for (point, expected) in &check.quality {
            let name = &profile.points[usize::from(*point)].name;
            let found = views.iter().find(|view| *view.point == **name);
            let flag = found.map_or("not there", |view| view.quality);
            if flag != expected.name() {
                let cause = found.map(|view| view.cause).filter(|cause| !cause.is_empty());
                let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
                let when = spelt(check.at);
                wrong.push(format!("at {when} {name} is {flag}{cause}, expected {}", expected.name()));
            }
        }
        wrong
    }
}

/// One sentence about alarms that are not as expected; every expected one must be met, and none may be left.
fn compared(when: &str, verb: &str, expected: &[ExpectedAlarm], found: &[&Alarm]) -> Option<String> {
    let mut left: Vec<&Alarm> = found.to_vec();
    let mut is_met = true;
    for wanted in expected {
        match left.iter().position(|alarm| is_as_expected(alarm, wanted)) {
            Some(place) => drop(left.remove(place)),
            None => is_met = false,
        }
    }
    if is_met && left.is_empty() {
        return None;
    }
    let found: Vec<String> = found.iter().map(|alarm| shown(alarm)).collect();
    let wanted: Vec<String> = expected.iter().map(shown_expected).collect();
    let (found, wanted) = (list(&found), list(&wanted));
    Some(format!("at {when} {found} {verb}, expected {wanted}"))
}

fn is_as_expected(alarm: &Alarm, wanted: &ExpectedAlarm) -> bool {
    alarm.condition == wanted.condition
        && wanted.severity.is_none_or(|severity| severity == alarm.severity)
        && wanted.state.is_none_or(|state| state == alarm.state)
        && wanted.suppressed.is_none_or(|reason| Some(reason) == alarm.suppressed)
}

fn shown(alarm: &Alarm) -> String {
    let mut words = vec![alarm.condition.as_str(), alarm.severity.name()];
    if alarm.state == AlarmState::Stale {
        words.push(alarm.state.name());
    }
    words.extend(alarm.suppressed.map(|reason| reason.name()));
    words.join(" ")
}

fn shown_expected(wanted: &ExpectedAlarm) -> String {
    let mut words = vec![wanted.condition.as_str()];
    words.extend(wanted.severity.map(|severity| severity.name()));
    words.extend(wanted.state.map(|state| state.name()));
    words.extend(wanted.suppressed.map(|reason| reason.name()));
    words.join(" ")
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

/// A time since the start of the test, as it is written in one.
fn spelt(after: std::time::Duration) -> String {
    let seconds = after.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String =
        parts.iter().filter(|(amount, _)| *amount > 0).map(|(amount, unit)| format!("{amount}{unit}")).collect();
    if text.is_empty() { "0m".to_owned() } else { text }
}
