//! The conditions of a profile and the detectors that find them.

use std::sync::Arc;
use std::time::Duration;

use super::around::read_around;
use super::counts::{read_amount, read_flapping, read_shift};
use super::frequency::read_frequency;
use super::load::{read_load, read_spikes};
use super::points::unknown_point_mend;
use super::rules::{positive, read_baseline, read_deviation, read_during, read_forecast, read_habit, read_trend};
use super::scalar::value_of_point;
use super::unusual::read_unusual;
use super::upkeep::{read_battery, read_losses};
use super::{Place, Report, check_element_count, check_snake_name};
use crate::alarm::Severity;
use crate::document::{NodeKind, Section, closest};
use crate::profile::{Approach, Condition, Detector, Guard, GuardTest, Jump, Point, Rise, Rule, Side, ValueType};
use crate::vocabulary;

const RULE_NAMES: [&str; 20] = [
    "threshold",
    "state",
    "rate",
    "flatline",
    "silence",
    "forecast",
    "deviation",
    "trend",
    "baseline",
    "unusual",
    "frequency",
    "battery",
    "losses",
    "amount",
    "flapping",
    "shift",
    "combination",
    "expression",
    "spike",
    "load",
];
/// A rule that needs more readings than this in a row is better served by `hold`.
const COUNT_MAX: i64 = 1_000;
/// Readings further apart than this many times `per` say nothing about a rate, unless `gap_max` says otherwise.
const GAP_FACTOR: u32 = 10;

/// The rules that a detector may have, as they are called in profiles.
pub fn detector_rule_names() -> &'static [&'static str] {
    &RULE_NAMES
}

/// Reads `conditions` and `detectors`. Conditions stand in the order in which detectors name them, then those that
/// the engine finds anyway.
pub(super) fn read_detectors(
    section: &Section<'_>,
    points: &[Point],
    interval: Option<Duration>,
    found_anyway: &[&str],
    report: Report<'_>,
) -> (Vec<Condition>, Vec<Detector>) {
    let sections = section.sections("detectors");
    check_element_count(section, "detectors", sections.len());
    let declared = read_conditions(section);
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut detectors: Vec<Detector> = Vec::with_capacity(sections.len());
    let mut excuses: Vec<(usize, String, Place)> = Vec::new();
    for detector_section in sections {
        let name = read_condition_name(&detector_section, &declared);
        let position = names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            names.push(Arc::from(name.as_str()));
            names.len() - 1
        });
        let reader = DetectorReader {
            section: &detector_section,
            points,
            interval,
            has_interval: section.has("interval"),
            report,
        };
        let detector = reader.read(u16::try_from(position).unwrap_or(u16::MAX));
        check_suspicion(&detector_section, &detector, &name, &declared);
        if detectors.iter().any(|other| other.name == detector.name && !detector.name.is_empty()) {
            detector_section.problem("name", &detector.name, "another detector has this name", "give each its own");
        }
        let place = || Place { line: detector_section.line(), key: detector_section.path_of("unless") };
        let unless = detector_section.texts("unless");
        excuses.extend(unless.into_iter().map(|name| (detectors.len(), name, place())));
        detectors.push(detector);
        detector_section.finish();
    }
    for name in found_anyway {
        if !names.iter().any(|known| **known == **name) {
            names.push(Arc::from(*name));
        }
    }
    for (detector, name, place) in excuses {
        let position = names.iter().position(|known| **known == *name).and_then(|place| u16::try_from(place).ok());
        match position {
            Some(position) if is_excused_by(position, detectors[detector].condition, &detectors) => {
                let mend =
                    "take it out: what excuses itself, straight or by way of another, would come and go for ever";
                report.problem(&place, &name, "this condition would excuse itself", mend);
            }
            Some(position) => detectors[detector].unless.push(position),
            None => {
                let mend = "write a condition that a rule of this profile finds";
                report.problem(&place, &name, "nothing in this profile finds this condition", mend);
            }
        }
    }
    for declaration in &declared {
        if !names.iter().any(|name| **name == *declaration.name) {
            let place = Place { line: declaration.line, key: declaration.key.clone() };
            report.problem(
                &place,
                &declaration.name,
                "no detector finds this condition",
                "add a detector, or take the condition out",
            );
        }
    }
    let conditions = names.iter().enumerate();
    let conditions = conditions.map(|(position, name)| condition(name, position, &declared, &detectors)).collect();
    (conditions, detectors)
}

/// Whether a condition is, or is excused by, another one, straight or by way of others.
fn is_excused_by(condition: u16, other: u16, detectors: &[Detector]) -> bool {
    let mut found = vec![condition];
    let mut next = 0;
    while let Some(known) = found.get(next).copied() {
        if known == other {
            return true;
        }
        for excuse in detectors.iter().filter(|detector| detector.condition == known).flat_map(|it| &it.unless) {
            if !found.contains(excuse) {
                found.push(*excuse);
            }
        }
        next += 1;
    }
    false
}

/// What is only unusual sends nobody out, unless the profile says so in as many words.
fn check_suspicion(section: &Section<'_>, detector: &Detector, condition: &str, declared: &[Declaration]) {
    let is_said = declared.iter().any(|other| other.name == condition && other.opens_case.is_some());
    if matches!(detector.rule, Rule::Unusual(_)) && detector.severity > Severity::Notice && !is_said {
        let mend = format!(
            "write `severity: notice`, or under `conditions` `{{name: {condition}, opens_case: true}}` (or false)"
        );
        section.problem("severity", detector.severity.name(), "what is only unusual opens no case by itself", mend);
    }
}

/// One entry of `conditions`.
struct Declaration {
    name: String,
    title: Option<(String, String)>,
    opens_case: Option<bool>,
    life: Option<bool>,
    permit_at_most: Option<Duration>,
    line: usize,
    key: String,
}

fn read_conditions(section: &Section<'_>) -> Vec<Declaration> {
    let sections = section.sections("conditions");
    check_element_count(section, "conditions", sections.len());
    let mut declared: Vec<Declaration> = Vec::with_capacity(sections.len());
    for condition in sections {
        let name = condition.required_text("name", "write the condition's name, such as `name: displaced`");
        check_snake_name(&condition, "name", &name, "door_open");
        if declared.iter().any(|other| other.name == name) {
            condition.problem("name", &name, "this condition is declared twice", "keep one of the two");
        }
        let title = condition.section("title").map(read_title);
        if title.is_none() && !name.is_empty() && vocabulary::condition(&name).is_none() {
            condition.missing("title", "people read it in both languages: `title: {en: sensor moved, zh: 传感器移位}`");
        }
        let (line, key) = (condition.line(), condition.path_of("name"));
        let opens_case = condition.boolean("opens_case");
        let life = condition.boolean("life");
        let permit_at_most = read_permit_at_most(&condition, &name);
        condition.finish();
        declared.push(Declaration { name, title, opens_case, life, permit_at_most, line, key });
    }
    declared
}

/// For how long a permit explains what it explains.
fn read_permit_at_most(condition: &Section<'_>, name: &str) -> Option<Duration> {
    let at_most = condition.duration("permit_at_most")?;
    if at_most.is_zero() {
        let mend = "write a time such as 4h, or leave it out";
        condition.problem("permit_at_most", "0", "a permit that explains nothing is none", mend);
    }
    if !vocabulary::is_explained_by_permit(name) {
        let what = "a permit never explains this condition";
        condition.problem("permit_at_most", name, what, "leave `permit_at_most` out");
    }
    Some(at_most)
}

fn read_title(title: Section<'_>) -> (String, String) {
    let english = title.required_text("en", "write the title in English, in small letters: `en: sensor moved`");
    let chinese = title.required_text("zh", "write the title in Chinese: `zh: 传感器移位`");
    title.finish();
    (english, chinese)
}

fn read_condition_name(detector: &Section<'_>, declared: &[Declaration]) -> String {
    let name = detector.required_text("condition", "write what this rule finds, such as `condition: displaced`");
    let is_known = vocabulary::condition(&name).is_some() || declared.iter().any(|other| other.name == name);
    if is_known || name.is_empty() {
        return name;
    }
    let canonical = vocabulary::CONDITIONS.iter().map(|term| term.name);
    let known: Vec<&str> = canonical.chain(declared.iter().map(|other| other.name.as_str())).collect();
    let mend = match closest(&name, &known) {
        Some(known) => format!("did you mean {known}? a new condition needs its titles under `conditions`"),
        None => "declare it under `conditions` with its titles in English and Chinese".to_owned(),
    };
    detector.problem("condition", &name, "this condition is not known", mend);
    name
}

/// What the detector is called, or nothing.
fn read_name(detector: &Section<'_>) -> String {
    let name = detector.text("name").unwrap_or_default();
    check_snake_name(detector, "name", &name, "surcharged_watch");
    name
}

fn condition(name: &Arc<str>, position: usize, declared: &[Declaration], detectors: &[Detector]) -> Condition {
    let declaration = declared.iter().find(|declaration| declaration.name == **name);
    let canonical = vocabulary::condition(name).map(|term| (term.en.to_owned(), term.zh.to_owned()));
    let title = declaration.and_then(|declaration| declaration.title.clone()).or(canonical);
    let (title, title_zh) = title.unwrap_or_default();
    // A notice is worth knowing; nobody is sent out for it.
    let is_more_than_notice = detectors.iter().any(|detector| {
        usize::from(detector.condition) == position
            && detector.severity > Severity::Notice
            && !matches!(detector.rule, Rule::Unusual(_))
    });
    let opens_case = declaration.and_then(|declaration| declaration.opens_case).unwrap_or(is_more_than_notice);
    let life = declaration.and_then(|declaration| declaration.life);
    let permit_at_most = declaration.and_then(|declaration| declaration.permit_at_most);
    Condition { name: Arc::clone(name), title, title_zh, opens_case, life, permit_at_most }
}

pub(super) struct DetectorReader<'a> {
    section: &'a Section<'a>,
    pub(super) points: &'a [Point],
    /// None also when it is written wrong, which was reported already.
    interval: Option<Duration>,
    has_interval: bool,
    report: Report<'a>,
}

impl DetectorReader<'_> {
    fn read(&self, condition: u16) -> Detector {
        let section = self.section;
        // What is only unusual is a note, unless the profile says more.
        if !section.has("severity") && !section.has("unusual") {
            section.missing("severity", "write notice, minor, major or critical");
        }
        let severities = Severity::ALL.map(|severity| (severity.name(), severity));
        let (point, rule) = self.read_rule();
        let count = section.integer("count", 1, COUNT_MAX).unwrap_or(1);
        if matches!(rule, Rule::Silence { .. }) && count > 1 {
            section.problem("count", &count.to_string(), "silence has no readings to count", "leave `count` out");
        }
        Detector {
            condition,
            severity: section.choice("severity", &severities).unwrap_or(Severity::Notice),
            point,
            rule,
            hold: section.duration("hold").unwrap_or_default(),
            count: u16::try_from(count).expect("read within its limits"),
            clear_hold: section.duration("clear_hold").unwrap_or_default(),
            when: self.read_guards(section, "when"),
            during: read_during(section),
            zone: None,
            name: read_name(section),
            around: read_around(section),
            unless: Vec::new(),
        }
    }

    fn read_rule(&self) -> (Option<u16>, Rule) {
        let placeholder = (None, Rule::State { values: Vec::new() });
        let given: Vec<&'static str> = RULE_NAMES.into_iter().filter(|name| self.section.has(name)).collect();
        if given.len() > 1 {
            self.section.problem(
                given[1],
                "",
                format!("this detector has the rule `{}` already", given[0]),
                "write two detectors with the same condition",
            );
        }
        let Some(name) = given.first().copied() else {
            self.section.problem(
                "",
                "",
                "this detector has no rule",
                format!("write one of {}", RULE_NAMES.join(", ")),
            );
            return placeholder;
        };
        let Some(rule) = self.section.section(name) else { return placeholder };
        if name == "silence" {
            let silence = self.read_silence(&rule);
            rule.finish();
            return (None, silence);
        }
        if name == "losses" {
            let losses = read_losses(&rule).map(Rule::Losses);
            rule.finish();
            return (None, losses.unwrap_or(placeholder.1));
        }
        if name == "combination" || name == "expression" {
            let read = self.read_together(name, &rule);
            rule.finish();
            return read.unwrap_or(placeholder);
        }
        let found = self.read_point(&rule, "point");
        let point = found.map(|(_, point)| point);
        let read = match name {
            "threshold" => self.read_threshold(&rule, point),
            "state" => self.read_state(&rule, point),
            "rate" => self.read_rate(&rule, point),
            "flatline" => self.read_flatline(&rule, point),
            "flapping" => read_flapping(&rule).map(Rule::Flapping),
            "spike" => {
                self.check_number(&rule, point, name);
                read_spikes(&rule).map(Rule::Spike)
            }
            "load" => {
                self.check_number(&rule, point, name);
                read_load(&rule, self.points).map(Rule::Load)
            }
            _ => self.read_course(name, &rule, point),
        };
        rule.finish();
        (found.map(|(position, _)| position), read.unwrap_or(placeholder.1))
    }

    pub(super) fn read_point(&self, rule: &Section<'_>, key: &'static str) -> Option<(u16, &Point)> {
        let name = rule.required_text(key, "write the name of the point that this rule watches");
        if name.is_empty() {
            return None;
        }
        let position = self.points.iter().position(|point| *point.name == *name);
        let Some(position) = position else {
            let names: Vec<&str> = self.points.iter().map(|point| point.name.as_ref()).collect();
            rule.problem(key, &name, "there is no point of this name", unknown_point_mend(&name, &names));
            return None;
        };
        Some((u16::try_from(position).ok()?, &self.points[position]))
    }

    fn read_threshold(&self, rule: &Section<'_>, point: Option<&Point>) -> Option<Rule> {
        self.check_number(rule, point, "threshold");
        let limit = self.read_limit(rule, &[("above", Side::Above), ("below", Side::Below)]);
        let clear = required_number(rule, "clear", "write the limit at which it is over, a little on the good side");
        let ((key, side, raise), clear) = (limit?, clear?);
        let is_wrong = if side == Side::Above { clear >= raise } else { clear <= raise };
        if is_wrong {
            let good = if side == Side::Above { "less" } else { "more" };
            rule.problem(
                "clear",
                &clear.to_string(),
                format!("this is not on the good side of {key} {raise}"),
                format!("write {good} than {raise}"),
            );
        }
        check_in_range(rule, key, raise, point);
        check_in_range(rule, "clear", clear, point);
        let approach = rule.section("approach").and_then(|approach| read_approach(&approach, side, raise));
        Some(Rule::Threshold { side, raise, clear, approach })
    }

    fn read_state(&self, rule: &Section<'_>, point: Option<&Point>) -> Option<Rule> {
        let mend = "write the values that are wrong: `values: [true]`";
        let Some(node) = rule.node("values") else {
            rule.missing("values", mend);
            return None;
        };
        let point = point?;
        if point.value_type == ValueType::Number {
            rule.problem(
                "point",
                &point.name,
                "a number has no states",
                "use a threshold, or make the point an enumeration with a map",
            );
            return None;
        }
        let items = match &node.kind {
            NodeKind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if items.is_empty() {
            rule.problem("values", "", "there is no value", mend);
        }
        let mut values = Vec::with_capacity(items.len());
        for (position, item) in items.iter().enumerate() {
            let place = Place { line: item.line, key: format!("{}[{position}]", rule.path_of("values")) };
            values.extend(value_of_point(item, point, &place, self.report));
        }
        Some(Rule::State { values })
    }

    fn read_rate(&self, rule: &Section<'_>, point: Option<&Point>) -> Option<Rule> {
        self.check_number(rule, point, "rate");
        let sides = [("rising", Side::Above), ("falling", Side::Below), ("changing", Side::Either)];
        let limit = self.read_limit(rule, &sides);
        let clear = required_number(rule, "clear", "write the change at which it is over, less than the limit");
        let per = required_duration(rule, "per", "write the time in which it changes so much, such as `per: 1m`");
        let gap_max = rule.duration("gap_max");
        let ((key, side, raise), clear, per) = (limit?, clear?, per?);
        if raise <= 0.0 {
            rule.problem(
                key,
                &raise.to_string(),
                "a change is written as a magnitude above 0",
                format!("`{key}` says the direction already"),
            );
        }
        if clear < 0.0 || clear >= raise {
            rule.problem(
                "clear",
                &clear.to_string(),
                format!("not from 0 to less than {raise}"),
                format!("write less than {raise}, 0 or more"),
            );
        }
        let gap_max = gap_max.unwrap_or_else(|| per.saturating_mul(GAP_FACTOR));
        let interval = point.and_then(|point| point.interval).or(self.interval);
        if let Some(interval) = interval.filter(|interval| *interval > gap_max) {
            rule.problem(
                "gap_max",
                &format!("{}s", gap_max.as_secs_f64()),
                format!("the device reports every {}s, so two readings are never close enough", interval.as_secs_f64()),
                "write a `gap_max` of at least two intervals, or a longer `per`",
            );
        }
        Some(Rule::Rate { side, raise, clear, per, gap_max, jump: read_jump(rule) })
    }

    fn read_flatline(&self, rule: &Section<'_>, point: Option<&Point>) -> Option<Rule> {
        self.check_number(rule, point, "flatline");
        let tolerance = rule.number("tolerance").unwrap_or(0.0);
        if tolerance < 0.0 {
            rule.problem(
                "tolerance",
                &tolerance.to_string(),
                "a tolerance is 0 or more",
                "write the movement that counts as none",
            );
        }
        let duration = required_duration(rule, "for", "write how long it must not move, such as `for: 12h`")?;
        if self.interval.is_some_and(|interval| interval >= duration) {
            rule.problem(
                "for",
                &format!("{}s", duration.as_secs_f64()),
                "the device does not report more than once in this time",
                "write several intervals",
            );
        }
        Some(Rule::Flatline { tolerance, duration })
    }

    /// The rules that remember the readings before.
    fn read_course(&self, name: &'static str, rule: &Section<'_>, point: Option<&Point>) -> Option<Rule> {
        self.check_number(rule, point, name);
        if name == "forecast" {
            let forecast = read_forecast(rule)?;
            let key = if forecast.side == Side::Below { "falls_to" } else { "rises_to" };
            check_in_range(rule, key, forecast.reaches, point);
            let interval = point.and_then(|point| point.interval).or(self.interval);
            let span = interval.map(|interval| interval.saturating_mul(u32::from(forecast.readings)));
            if let Some(span) = span.filter(|span| *span > forecast.window) {
                let what = format!("{} readings take {}s", forecast.readings, span.as_secs_f64());
                let window = format!("{}s", forecast.window.as_secs_f64());
                rule.problem("window", &window, what, "write a longer `window` or fewer `readings`");
            }
            return Some(Rule::Forecast(forecast));
        }
        match name {
            "baseline" => return read_baseline(rule).map(Rule::Baseline),
            "battery" => return read_battery(self, rule, point).map(Rule::Battery),
            "amount" => return read_amount(rule).map(Rule::Amount),
            _ => {}
        }
        if name == "frequency" {
            return read_frequency(rule).map(Rule::Frequency);
        }
        let guards = self.read_guards(rule, "learn_when");
        match name {
            "unusual" => {
                let interval = point.and_then(|point| point.interval).or(self.interval);
                read_unusual(rule, interval, guards).map(Rule::Unusual)
            }
            "deviation" => read_deviation(rule, guards).map(Rule::Deviation),
            "shift" => read_shift(rule, guards).map(Rule::Shift),
            _ => read_trend(rule, guards).map(Rule::Trend),
        }
    }

    fn read_guards(&self, section: &Section<'_>, key: &'static str) -> Vec<Guard> {
        section.sections(key).into_iter().filter_map(|guard| self.read_guard(guard)).collect()
    }

    /// Reads `after_rise` of a silence.
    fn read_rise(&self, rule: &Section<'_>) -> Option<Rise> {
        let rise = rule.section("after_rise")?;
        let found = self.read_point(&rise, "point");
        self.check_number(&rise, found.map(|(_, point)| point), "after_rise");
        let by = required_number(&rise, "by", "write how much it rose, such as `by: 50`");
        positive(&rise, "by", by);
        let within = required_duration(&rise, "within", "write in which time, such as `within: 30m`");
        rise.finish();
        Some(Rise { point: found?.0, by: by?, within: within? })
    }

    fn read_silence(&self, rule: &Section<'_>) -> Rule {
        let after = rule.duration("after");
        let missed = rule.number("missed");
        let mend = "write `missed: 3` (reporting intervals) or `after: 2h`";
        if rule.has("after") == rule.has("missed") {
            rule.problem("", "", "one of `after` and `missed` is needed", mend);
        }
        if after.is_some_and(|after| after.is_zero()) {
            rule.problem("after", "0", "a device cannot talk all the time", mend);
        }
        if missed.is_some_and(|missed| missed < 1.0) {
            rule.problem("missed", "", "a device is not silent before it missed one report", mend);
        }
        if missed.is_some() && !self.has_interval {
            rule.problem(
                "missed",
                "",
                "the profile does not say how often the device reports",
                "write `interval:` at the top of the profile, or `after: 2h` here",
            );
        }
        Rule::Silence { after, missed: missed.unwrap_or(1.0), habit: read_habit(rule), rise: self.read_rise(rule) }
    }

    fn read_limit(&self, rule: &Section<'_>, sides: &[(&'static str, Side)]) -> Option<(&'static str, Side, f64)> {
        let given: Vec<(&'static str, Side)> = sides.iter().copied().filter(|(key, _)| rule.has(key)).collect();
        let names: Vec<&str> = sides.iter().map(|(key, _)| *key).collect();
        if given.len() != 1 {
            rule.problem("", "", format!("one of {} is needed", names.join(", ")), format!("write `{}: 10`", names[0]));
        }
        let (key, side) = given.first().copied()?;
        Some((key, side, rule.number(key)?))
    }

    pub(super) fn read_guard(&self, guard: Section<'_>) -> Option<Guard> {
        let found = self.read_point(&guard, "point");
        let tests = ["equals", "above", "below", "lost", "unchanged", "known"];
        let given: Vec<&'static str> = tests.into_iter().filter(|key| guard.has(key)).collect();
        if given.len() != 1 {
            guard.problem(
                "",
                "",
                "one of equals, above, below, lost, unchanged, known is needed",
                "write `- {point: water_present, equals: true}`",
            );
        }
        let test = match (found, given.first().copied()) {
            (Some((_, point)), Some("equals")) => guard.node("equals").and_then(|node| {
                let place = Place { line: node.line, key: guard.path_of("equals") };
                value_of_point(node, point, &place, self.report).map(GuardTest::Equals)
            }),
            (Some(_), Some("lost")) => only_true(&guard, "lost").then_some(GuardTest::Lost),
            (Some(_), Some("unchanged")) => only_true(&guard, "unchanged").then_some(GuardTest::Unchanged),
            (Some(_), Some("known")) => only_false(&guard, "known").then_some(GuardTest::Unknown),
            (Some((_, point)), Some(key)) => {
                self.check_number(&guard, Some(point), key);
                guard.number(key).map(if key == "above" { GuardTest::Above } else { GuardTest::Below })
            }
            _ => None,
        };
        guard.finish();
        Some(Guard { point: found?.0, test: test? })
    }

    pub(super) fn check_number(&self, rule: &Section<'_>, point: Option<&Point>, needs: &str) {
        let Some(point) = point.filter(|point| point.value_type != ValueType::Number) else { return };
        let mend = match point.value_type {
            ValueType::Boolean => format!("use `state: {{point: {}, values: [true]}}`", point.name),
            _ => format!("use `state: {{point: {}, values: [...]}}`, or give the point `type: number`", point.name),
        };
        rule.problem("point", &point.name, format!("`{needs}` needs a number, and this point is none"), mend);
    }
}

/// Reads a test that is there or not: `lost: true`.
fn only_true(guard: &Section<'_>, key: &'static str) -> bool {
    let said = guard.boolean(key);
    if said == Some(false) {
        guard.problem(key, "false", "there is no such test", format!("write `{key}: true`, or leave it out"));
    }
    said == Some(true)
}

/// Reads a test that is there or not: `known: false`; what must be known has another test that says what it must be.
fn only_false(guard: &Section<'_>, key: &'static str) -> bool {
    let said = guard.boolean(key);
    if said == Some(true) {
        guard.problem(key, "true", "there is no such test", format!("write `{key}: false`, or what it must be"));
    }
    said == Some(false)
}

fn read_approach(section: &Section<'_>, side: Side, raise: f64) -> Option<Approach> {
    let from = required_number(section, "from", "write from where on readings count, such as `from: 60`");
    let jump = read_jump(section);
    if !section.has("jump") {
        section.missing("jump", "write the greatest change that is real: `jump: {over: 100, per: 1m}`");
    }
    section.known_only();
    let (from, jump) = (from?, jump?);
    let is_behind = if side == Side::Below { from <= raise } else { from >= raise };
    if is_behind {
        let what = format!("this is not on the good side of the limit {raise}");
        section.problem("from", &from.to_string(), what, "write where the way to the limit begins");
    }
    Some(Approach { from, jump })
}

pub(super) fn read_jump(section: &Section<'_>) -> Option<Jump> {
    let jump = section.section("jump")?;
    let over = required_number(&jump, "over", "write the greatest change that is real, such as `over: 100`");
    let per = required_duration(&jump, "per", "write the time in which it changes so much, such as `per: 1m`");
    if let Some(over) = over.filter(|over| *over <= 0.0) {
        let mend = "write the greatest change that is real";
        jump.problem("over", &over.to_string(), "a change is written as a magnitude above 0", mend);
    }
    jump.finish();
    Some(Jump { over: over?, per: per? })
}

/// Values outside the range are bad and never reach a detector.
pub(super) fn check_in_range(rule: &Section<'_>, key: &str, limit: f64, point: Option<&Point>) {
    let Some(range) = point.and_then(|point| point.range) else { return };
    if limit < range.min || limit > range.max {
        rule.problem(
            key,
            &limit.to_string(),
            format!(
                "values outside the point's range, {} to {}, are bad and never reach this rule",
                range.min, range.max
            ),
            "mend the limit or the range",
        );
    }
}

pub(super) fn required_number(rule: &Section<'_>, key: &'static str, mend: &str) -> Option<f64> {
    if !rule.has(key) {
        rule.missing(key, mend);
    }
    rule.number(key)
}

pub(super) fn required_duration(rule: &Section<'_>, key: &'static str, mend: &str) -> Option<Duration> {
    if !rule.has(key) {
        rule.missing(key, mend);
        return None;
    }
    let duration = rule.duration(key)?;
    if duration.is_zero() {
        rule.problem(key, "0", "this time must be more than 0", mend);
        return None;
    }
    Some(duration)
}
