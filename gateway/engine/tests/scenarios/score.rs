//! What came of a suite against its truth, and the tables of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kerbside_model::Timestamp;
use kerbside_simulator::scenarios::{Event, Floors, Scenario, Trap, Wants};

use crate::run::Outcome;

/// Of the false alarms of one condition so many are shown.
const SHOWN_MAX: usize = 8;

/// The truth of a scenario, kept while its streams are used up.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    events: Vec<Event>,
    traps: Vec<Trap>,
    /// The parent of each device that has one.
    parents: BTreeMap<String, String>,
    device_days: f64,
}

impl Truth {
    pub(crate) fn of(scenario: &Scenario) -> Truth {
        let facts = scenario.senders.iter().map(|sender| &sender.facts);
        let parents = facts.filter(|facts| !facts.parent.is_empty());
        Truth {
            events: scenario.events.clone(),
            traps: scenario.traps.clone(),
            parents: parents.map(|facts| (facts.id.clone(), facts.parent.clone())).collect(),
            device_days: scenario.senders.len() as f64 * scenario.length.as_secs_f64() / 86_400.0,
        }
    }

    /// Whether an event is at this device or below it.
    fn is_at(&self, event: &Event, device: &str) -> bool {
        event.devices.iter().any(|id| id == device || self.parents.get(id).is_some_and(|parent| parent == device))
    }

    /// Events that make an alarm or case of this condition true.
    fn explain<'a>(&'a self, device: &'a str, condition: &'a str, at: Timestamp) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| {
            event.from <= at
                && at <= event.until
                && (event.any_of.contains(&condition) || event.also.contains(&condition))
                && self.is_at(event, device)
        })
    }
}

#[derive(Clone, Debug, Default)]
struct EventRow {
    conditions: BTreeSet<&'static str>,
    events: usize,
    found: usize,
    /// Seconds.
    delays: Vec<f64>,
    missed: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct ConditionRow {
    alarms: usize,
    /// True ones that found something, or came with it.
    right: usize,
    cases: usize,
    false_cases: usize,
}

#[derive(Clone, Debug, Default)]
struct TrapRow {
    traps: usize,
    held: usize,
}

/// The score of a suite: sums over its scenarios.
#[derive(Debug, Default)]
pub(crate) struct Score {
    events: BTreeMap<&'static str, EventRow>,
    conditions: BTreeMap<String, ConditionRow>,
    traps: BTreeMap<&'static str, TrapRow>,
    /// One line for each false alarm or case, by condition.
    wrong: BTreeMap<String, Vec<String>>,
    pub(crate) device_days: f64,
    pub(crate) messages: u64,
}

impl Score {
    pub(crate) fn add(&mut self, name: &str, truth: &Truth, outcome: &Outcome) {
        self.device_days += truth.device_days;
        self.messages += outcome.messages;
        truth.events.iter().for_each(|event| self.add_event(truth, event, outcome));
        truth.traps.iter().for_each(|trap| self.add_trap(truth, trap, outcome));
        for raised in outcome.raised.values() {
            let row = self.conditions.entry(raised.condition.clone()).or_default();
            row.alarms += 1;
            if truth.explain(&raised.device, &raised.condition, raised.at).next().is_some() {
                row.right += 1;
                continue;
            }
            let word = if raised.case_at.is_some() { "case" } else { raised.severity };
            let (device, condition, at) = (&raised.device, &raised.condition, raised.at);
            let line = format!("{name}: {at} {device} {condition} ({word}): {}", raised.why);
            self.wrong.entry(condition.clone()).or_default().push(line);
        }
        for case in outcome.cases.values() {
            let row = self.conditions.entry(case.condition.clone()).or_default();
            row.cases += 1;
            if truth.explain(&case.device, &case.condition, case.at).next().is_none() {
                row.false_cases += 1;
                let line = format!("{name}: {} {} {} FALSE CASE", case.at, case.device, case.condition);
                self.wrong.entry(case.condition.clone()).or_default().push(line);
            }
        }
    }

    fn add_event(&mut self, truth: &Truth, event: &Event, outcome: &Outcome) {
        if event.wants == Wants::Nothing {
            return;
        }
        let row = self.events.entry(event.kind).or_default();
        row.conditions.extend(event.any_of.iter());
        row.events += 1;
        let of_event = outcome.raised.values().filter(|raised| {
            event.any_of.iter().any(|condition| *condition == raised.condition) && truth.is_at(event, &raised.device)
        });
        let times = of_event.filter_map(|raised| match event.wants {
            Wants::Alarm => Some(raised.at),
            Wants::Case => raised.case_at,
            Wants::Nothing => None,
        });
        match times.filter(|at| event.from <= *at && *at <= event.due_by).min() {
            Some(at) => {
                row.found += 1;
                row.delays.push(at.since(event.from).as_secs_f64());
            }
            None => row.missed.push(format!("{} at {:?}", event.from, event.devices)),
        }
    }

    fn add_trap(&mut self, truth: &Truth, trap: &Trap, outcome: &Outcome) {
        let row = self.traps.entry(trap.kind).or_default();
        row.traps += 1;
        let caught = outcome.raised.values().any(|raised| {
            trap.devices.contains(&raised.device)
                && trap.span.has(raised.at)
                && (trap.conditions.is_empty() || trap.conditions.iter().any(|name| *name == raised.condition))
                && truth.explain(&raised.device, &raised.condition, raised.at).next().is_none()
        });
        row.held += usize::from(!caught);
    }

    pub(crate) fn false_cases(&self) -> usize {
        self.conditions.values().map(|row| row.false_cases).sum()
    }

    pub(crate) fn false_cases_per_1000_device_days(&self) -> f64 {
        1_000.0 * self.false_cases() as f64 / self.device_days.max(f64::MIN_POSITIVE)
    }

    /// The tables of docs/benchmarks.md.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| event | found by | events | found in time | median delay | 90 % within |\n");
        text += "|---|---|---|---|---|---|\n";
        for (kind, row) in &self.events {
            let mut delays = row.delays.clone();
            delays.sort_by(f64::total_cmp);
            let conditions: Vec<String> = row.conditions.iter().map(|name| format!("`{name}`")).collect();
            let share = percent(row.found, row.events);
            let (middle, most) = (spelt(quantile(&delays, 0.5)), spelt(quantile(&delays, 0.9)));
            let conditions = conditions.join(", ");
            writeln!(text, "| {kind} | {conditions} | {} | {share} | {middle} | {most} |", row.events).unwrap();
        }
        text += "\n| condition | alarms | true | precision | cases | false cases |\n|---|---|---|---|---|---|\n";
        for (condition, row) in &self.conditions {
            let precision = percent(row.right, row.alarms);
            let ConditionRow { alarms, right, cases, false_cases } = row;
            writeln!(text, "| `{condition}` | {alarms} | {right} | {precision} | {cases} | {false_cases} |").unwrap();
        }
        text += "\n| trap | times | nothing raised |\n|---|---|---|\n";
        for (kind, row) in &self.traps {
            writeln!(text, "| {kind} | {} | {} |", row.traps, percent(row.held, row.traps)).unwrap();
        }
        let (days, rate) = (self.device_days, self.false_cases_per_1000_device_days());
        let (messages, count) = (self.messages, self.false_cases());
        writeln!(
            text,
            "\n{days:.0} device-days, {messages} messages, {count} false cases, {rate:.2} in 1,000 device-days"
        )
        .unwrap();
        text
    }

    /// What went wrong, line by line.
    pub(crate) fn details(&self) -> String {
        let mut lines = Vec::new();
        for (kind, row) in &self.events {
            lines.extend(row.missed.iter().map(|missed| format!("missed: {kind}: {missed}")));
        }
        for wrong in self.wrong.values() {
            let mut wrong: Vec<&String> = wrong.iter().collect();
            // Cases first: they are what a bureau is scored by.
            wrong.sort_by_key(|line| (!line.contains("(case)"), !line.contains("FALSE CASE")));
            let cases = wrong.iter().filter(|line| line.contains("FALSE CASE")).count();
            let (shown, left_off) = (wrong.iter().take(SHOWN_MAX), wrong.len().saturating_sub(SHOWN_MAX));
            lines.extend(shown.map(|line| format!("false: {line}")));
            if left_off > 0 {
                lines.push(format!("... and {left_off} more; {cases} false cases in all"));
            }
        }
        lines.join("\n")
    }

    /// Everything that is below its floor.
    pub(crate) fn below(&self, floors: &Floors) -> Vec<String> {
        let of = |list: &[(&str, f64)], name: &str, or: f64| {
            list.iter().find(|(listed, _)| *listed == name).map_or(or, |(_, floor)| *floor)
        };
        let mut below = Vec::new();
        for (kind, row) in &self.events {
            let floor = of(floors.recall_of, kind, floors.recall);
            if (row.found as f64) < floor * row.events as f64 - 1e-9 {
                below.push(format!("{kind}: found {} of {}, the floor is {floor}", row.found, row.events));
            }
        }
        for (condition, row) in &self.conditions {
            let floor = of(floors.precision_of, condition, floors.precision);
            if (row.right as f64) < floor * row.alarms as f64 - 1e-9 {
                below.push(format!(
                    "{condition}: {} of {} alarms are true, the floor is {floor}",
                    row.right, row.alarms
                ));
            }
        }
        let rate = self.false_cases_per_1000_device_days();
        if rate > floors.false_cases {
            below.push(format!(
                "{rate:.2} false cases in 1,000 device-days, at most {} are allowed",
                floors.false_cases
            ));
        }
        below
    }
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((share * last as f64).round() as usize).copied()
}

/// Seconds as people say them.
fn spelt(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 90.0 => format!("{seconds:.0} s"),
        Some(seconds) if seconds < 5_400.0 => format!("{:.1} min", seconds / 60.0),
        Some(seconds) if seconds < 129_600.0 => format!("{:.1} h", seconds / 3_600.0),
        Some(seconds) => format!("{:.1} days", seconds / 86_400.0),
    }
}
