//! What a backtest says: side by side for people, whole as JSON for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::{Alarm, Severity, Timestamp};
use serde_json::{Value, json};

use super::outcome::Outcome;
use super::truth::{Score, Truth};
use crate::cli::counted;

/// Alarms that are listed one by one without --all.
const LISTED: usize = 30;

/// A backtest that is over.
pub(super) struct Report<'a> {
    /// Titles and what came of each side; the first one is the profile as it is.
    pub(super) sides: Vec<(String, &'a Outcome)>,
    pub(super) truth: Option<&'a Truth>,
    /// How long the engines worked.
    pub(super) took: Duration,
    /// Whether every alarm is listed.
    pub(super) is_whole: bool,
}

impl Report<'_> {
    fn scores(&self) -> Vec<Option<Score>> {
        let score = |outcome: &Outcome| {
            let last_at = outcome.last_at.unwrap_or_default();
            self.truth.map(|truth| truth.score(&outcome.alarms(), last_at))
        };
        self.sides.iter().map(|(_, outcome)| score(outcome)).collect()
    }

    /// Readings that went through an engine in a second, all sides together.
    fn readings_per_second(&self) -> f64 {
        let readings: u64 = self.sides.iter().map(|(_, outcome)| outcome.flags.readings).sum();
        readings as f64 / self.took.as_secs_f64().max(1e-6)
    }

    pub(super) fn text(&self) -> String {
        let Some((_, first)) = self.sides.first() else { return String::new() };
        let mut lines = vec![format!(
            "{} readings of {}, {} to {}: {:.2} device-months, {:.0} readings/s",
            first.flags.readings,
            counted(first.devices.len(), "device"),
            first.first_at.unwrap_or_default(),
            first.last_at.unwrap_or_default(),
            first.device_months(),
            self.readings_per_second(),
        )];
        for (what, count) in [("late", first.late), ("duplicate", first.duplicates), ("undecoded", first.undecoded)] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        lines.extend(flags(first));
        lines.push(String::new());
        lines.extend(self.table());
        lines.push(String::new());
        lines.extend(self.listed());
        lines.join("\n")
    }

    /// Counts side by side.
    fn table(&self) -> Vec<String> {
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let cells = |count: &dyn Fn(&Outcome) -> String| self.sides.iter().map(|(_, side)| count(side)).collect();
        rows.push(("alarms".to_owned(), cells(&|side| side.raised.to_string())));
        let kinds: Vec<BTreeMap<(String, Severity), usize>> = self.sides.iter().map(|(_, side)| kinds(side)).collect();
        let mut names: Vec<&(String, Severity)> = kinds.iter().flat_map(BTreeMap::keys).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (condition, severity) = name;
            let counts = kinds.iter().map(|kinds| kinds.get(name).copied().unwrap_or(0).to_string()).collect();
            rows.push((format!("  {condition} {}", severity.name()), counts));
        }
        rows.push(("would-be cases".to_owned(), cells(&|side| side.cases().len().to_string())));
        let rate = |side: &Outcome, count: usize| {
            side.per_device_month(count).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}"))
        };
        rows.push(("alarms a device-month".to_owned(), cells(&|side| rate(side, side.alarms().len()))));
        rows.push(("cases a device-month".to_owned(), cells(&|side| rate(side, side.cases().len()))));
        let scores = self.scores();
        if let [Some(_), ..] = scores.as_slice() {
            let of = |tell: &dyn Fn(&Score, &Outcome) -> String| {
                let pairs = scores.iter().flatten().zip(&self.sides);
                pairs.map(|(score, (_, side))| tell(score, side)).collect::<Vec<String>>()
            };
            rows.push(("events found".to_owned(), of(&|score, _| format!("{} of {}", score.found, score.events))));
            rows.push(("false alarms".to_owned(), of(&|score, _| score.false_alarms.to_string())));
            rows.push(("false alarms a device-month".to_owned(), of(&|score, side| rate(side, score.false_alarms))));
            let delay =
                |score: &Score| score.median_delay_seconds.map_or("-".to_owned(), |delay| format!("{delay:.0} s"));
            rows.push(("median delay".to_owned(), of(&|score, _| delay(score))));
        }
        let titles: Vec<&str> = self.sides.iter().map(|(title, _)| title.as_str()).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.chars().count());
            cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let line = |name: &str, cells: &[String]| {
            let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            format!("{name:<28} {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        };
        let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
        let mut lines = vec![line("", &titles)];
        lines.extend(rows.iter().map(|(name, cells)| line(name, cells)));
        lines
    }

    /// Alarms of the profile; with another side those that only one of the two has.
    fn listed(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.sides.as_slice() {
            [(_, only)] => self.list(&mut lines, "alarms", &only.alarms(), only),
            [(title, one), (other_title, other)] => {
                let (ours, theirs) = (one.alarms(), other.alarms());
                let missing = |from: &[&Alarm], alarm: &Alarm| {
                    let kind = (&alarm.device, &alarm.condition, alarm.severity);
                    let is_same = |known: &&Alarm| (&known.device, &known.condition, known.severity) == kind;
                    !from.iter().filter(|known| is_same(known)).any(|known| overlap(known, alarm))
                };
                let only_ours: Vec<&Alarm> = ours.iter().copied().filter(|alarm| missing(&theirs, alarm)).collect();
                let only_theirs: Vec<&Alarm> = theirs.iter().copied().filter(|alarm| missing(&ours, alarm)).collect();
                self.list(&mut lines, &format!("only {title}"), &only_ours, one);
                self.list(&mut lines, &format!("only {other_title}"), &only_theirs, other);
            }
            _ => {}
        }
        lines
    }

    fn list(&self, lines: &mut Vec<String>, title: &str, alarms: &[&Alarm], outcome: &Outcome) {
        lines.push(format!("{title}: {}", alarms.len()));
        let shown = if self.is_whole { alarms.len() } else { LISTED };
        for alarm in alarms.iter().take(shown) {
            let end = alarm.cleared_at.or(outcome.last_at).unwrap_or(alarm.opened_at);
            let minutes = end.since(alarm.opened_at).as_secs().div_ceil(60);
            let open = if alarm.cleared_at.is_some() { "" } else { ", still standing" };
            lines.push(format!(
                "  {}  {} {} {}, {minutes} min{open}: {}",
                alarm.opened_at,
                alarm.device,
                alarm.condition,
                grades(&outcome.grades(alarm)),
                alarm.explanation
            ));
        }
        if alarms.len() > shown {
            lines.push(format!("  ... and {} more: --all", alarms.len() - shown));
        }
    }

    pub(super) fn json(&self) -> Value {
        let scores = self.scores();
        let sides: Vec<Value> = self
            .sides
            .iter()
            .zip(&scores)
            .map(|((title, outcome), score)| side(title, outcome, score.as_ref()))
            .collect();
        json!({ "sides": sides, "seconds": self.took.as_secs_f64(), "readings_per_second": self.readings_per_second() })
    }
}

fn overlap(one: &Alarm, other: &Alarm) -> bool {
    let end = |alarm: &Alarm| alarm.cleared_at.unwrap_or(Timestamp(i64::MAX));
    one.opened_at <= end(other) && other.opened_at <= end(one)
}

fn kinds(outcome: &Outcome) -> BTreeMap<(String, Severity), usize> {
    let mut kinds = BTreeMap::new();
    for alarm in outcome.alarms() {
        *kinds.entry((alarm.condition.clone(), alarm.severity)).or_default() += 1;
    }
    kinds
}

/// Shares of readings that are not good, by point and cause.
fn flags(outcome: &Outcome) -> Vec<String> {
    let mut of_point: BTreeMap<&str, u64> = BTreeMap::new();
    for ((point, _, _), count) in &outcome.flags.counts {
        *of_point.entry(point).or_default() += count;
    }
    let mut lines = Vec::new();
    for ((point, flag, cause), count) in &outcome.flags.counts {
        if flag.code() == 1 {
            continue;
        }
        let share = 100.0 * *count as f64 / of_point.get(point.as_ref()).copied().unwrap_or(1).max(1) as f64;
        lines.push(format!("{point}: {share:.2} % {} {} ({count})", flag.name(), cause.name()));
    }
    if lines.is_empty() {
        lines.push("every reading is good".to_owned());
    }
    lines
}

/// `notice`, or `notice, major from TIME` where it became worse.
fn grades(grades: &[(Timestamp, Severity)]) -> String {
    let mut words = Vec::new();
    for (position, (at, severity)) in grades.iter().enumerate() {
        match position {
            0 => words.push(severity.name().to_owned()),
            _ => words.push(format!("{} from {at}", severity.name())),
        }
    }
    words.join(", ")
}

fn side(title: &str, outcome: &Outcome, score: Option<&Score>) -> Value {
    let alarm = |alarm: &&Alarm| {
        json!({
            "id": alarm.id, "device": alarm.device, "condition": alarm.condition, "severity": alarm.severity,
            "grades": outcome.grades(alarm).iter().map(|(at, severity)| json!({ "from": at, "severity": severity })).collect::<Vec<Value>>(),
            "opened_at": alarm.opened_at, "cleared_at": alarm.cleared_at, "explanation": alarm.explanation,
            "explanation_zh": alarm.explanation_zh, "suppressed": alarm.suppressed, "case_id": alarm.case_id,
        })
    };
    let (alarms, cases) = (outcome.alarms(), outcome.cases());
    let flags: Vec<Value> = outcome
        .flags
        .counts
        .iter()
        .map(|((point, flag, cause), count)| {
            json!({ "point": point.as_ref(), "flag": flag.name(), "cause": cause.name(), "readings": count })
        })
        .collect();
    let case = |case: &&kerbside_model::Case| json!({ "id": case.id, "device": case.device, "condition": case.condition, "severity": case.severity, "opened_at": case.opened_at });
    let mut view = json!({
        "title": title, "readings": outcome.flags.readings, "devices": outcome.devices.len(), "late": outcome.late,
        "duplicates": outcome.duplicates, "undecoded": outcome.undecoded, "first_at": outcome.first_at,
        "last_at": outcome.last_at, "device_months": outcome.device_months(), "flags": flags,
        "alarms_raised": outcome.raised, "alarms": alarms.iter().map(alarm).collect::<Vec<_>>(),
        "cases": cases.iter().map(case).collect::<Vec<_>>(),
        "alarms_per_device_month": outcome.per_device_month(alarms.len()),
        "cases_per_device_month": outcome.per_device_month(cases.len()),
    });
    if let Some(score) = score {
        view["truth"] = json!({
            "events": score.events, "found": score.found, "false_alarms": score.false_alarms,
            "false_alarms_per_device_month": outcome.per_device_month(score.false_alarms),
            "median_delay_seconds": score.median_delay_seconds,
        });
    }
    view
}
