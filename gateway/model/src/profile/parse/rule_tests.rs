//! The rule tests of a profile: series of readings in a compact notation, and the alarms that must come of them.

use std::time::Duration;

use super::points::unknown_point_mend;
use super::scalar::written;
use super::{Place, Report, check_element_count};
use crate::Timestamp;
use crate::alarm::{AlarmState, Severity, Suppression};
use crate::document::{NodeKind, Section, closest};
use crate::input::MaskKind;
use crate::inventory::{Device, ServiceState};
use crate::profile::{Check, Condition, ExpectedAlarm, Point, RuleTest, Slot, TestDevice, TestMask, ValueType};
use crate::reading::{Flag, Value};

/// Id of the device under test.
const TESTED: &str = "tested";
/// 2026-01-01T00:00:00Z: tests that do not care for the hour begin here.
const START_DEFAULT: Timestamp = Timestamp(1_767_225_600_000);
/// One series has no more readings: ten weeks of one a minute.
const SLOTS_MAX: usize = 100_000;
/// A test needs some distance between readings; profiles of devices that report at will have none.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

const SERVICES: [(&str, ServiceState); 3] = [
    ("in_service", ServiceState::InService),
    ("commissioning", ServiceState::Commissioning),
    ("maintenance", ServiceState::Maintenance),
];
const MASKS: [(&str, MaskKind); 2] = [("permit", MaskKind::Permit), ("maintenance", MaskKind::Maintenance)];
const STATES: [AlarmState; 2] = [AlarmState::Active, AlarmState::Stale];
const FLAGS: [Flag; 5] = [Flag::Good, Flag::NotEvaluated, Flag::Suspect, Flag::Bad, Flag::Missing];

/// What a profile is made of, as far as its tests name it.
pub(super) struct Named<'a> {
    pub(super) points: &'a [Point],
    pub(super) conditions: &'a [Condition],
    pub(super) interval: Option<Duration>,
}

/// Reads `tests`. There need not be any.
pub(super) fn read_rule_tests(section: &Section<'_>, named: &Named<'_>, report: Report<'_>) -> Vec<RuleTest> {
    let sections = section.sections("tests");
    check_element_count(section, "tests", sections.len());
    let mut tests: Vec<RuleTest> = Vec::with_capacity(sections.len());
    for test in sections {
        let reader = TestReader { section: &test, named, report };
        let read = reader.read();
        if tests.iter().any(|other| other.name == read.name) {
            test.problem("name", &read.name, "two tests have this name", "tell in each name what its test shows");
        }
        tests.push(read);
        test.finish();
    }
    tests
}

struct TestReader<'a> {
    section: &'a Section<'a>,
    named: &'a Named<'a>,
    report: Report<'a>,
}

impl TestReader<'_> {
    fn read(&self) -> RuleTest {
        let section = self.section;
        let mut devices = vec![self.read_device(section, TESTED.to_owned(), None)];
        if devices[0].series.is_empty() && !section.has("series") {
            section.missing("series", "write what is read of a point: `series: {level_mm: 50x3 420 450x5}`");
        }
        for other in section.sections("others") {
            let id = other.required_text("id", "write what the checks call this device: `id: neighbour`");
            if devices.iter().any(|device| device.facts.id == id) {
                other.problem("id", &id, "another device of this test has this id", "name each device otherwise");
            }
            devices.push(self.read_device(&other, id, Some(devices[0].interval)));
            other.finish();
        }
        let ids: Vec<&str> = devices.iter().map(|device| device.facts.id.as_str()).collect();
        let masks = section.sections("masks").into_iter().map(|mask| read_mask(mask, &ids)).collect();
        let checks: Vec<Check> =
            section.sections("expect").into_iter().map(|check| self.read_check(check, &ids)).collect();
        if checks.is_empty() {
            section.missing("expect", "write what must be: `expect: [{at: 25m, alarms: [surcharged major]}]`");
        }
        RuleTest {
            name: section.required_text("name", "write what the test shows: `name: one splash is no flood`"),
            file: section.file().to_owned(),
            line: section.line(),
            start: self.read_start(),
            devices,
            masks,
            checks,
        }
    }

    fn read_start(&self) -> Timestamp {
        let Some(text) = self.section.text("start") else { return START_DEFAULT };
        Timestamp::parse(&text).filter(|time| time.0 >= 0).unwrap_or_else(|| {
            let mend = "write RFC 3339: 2026-07-01T08:00:00+08:00";
            self.section.problem("start", &text, "not a time with its zone", mend);
            START_DEFAULT
        })
    }

    fn read_device(&self, section: &Section<'_>, id: String, interval: Option<Duration>) -> TestDevice {
        let mut device = Device { address: id.clone(), id, ..Device::default() };
        if let Some(facts) = section.section("device") {
            device.mount_height_mm = facts.number("mount_height_mm");
            device.level_offset_mm = facts.number("level_offset_mm").unwrap_or_default();
            device.interval = facts.duration("interval");
            device.parent = facts.text("parent").unwrap_or_default();
            device.downstream = facts.text("downstream").unwrap_or_default();
            device.service = facts.choice("service", &SERVICES).unwrap_or_default();
            facts.finish();
        }
        let reported = device.interval.or(interval).or(self.named.interval).unwrap_or(INTERVAL_DEFAULT);
        let given = section.duration("interval");
        if given.is_some_and(|interval| interval.is_zero()) {
            section.problem("interval", "0", "readings need some distance", "write such as `interval: 5m`");
        }
        let interval = given.filter(|interval| !interval.is_zero()).unwrap_or(reported);
        TestDevice { facts: device, interval, series: self.read_series(section) }
    }

    fn read_series(&self, section: &Section<'_>) -> Vec<(u16, Vec<Slot>)> {
        let Some(node) = section.node("series") else { return Vec::new() };
        let NodeKind::Map(entries) = &node.kind else {
            section.problem("series", &written(node), "not a map from points to readings", "write `{level_mm: 50x3}`");
            return Vec::new();
        };
        let mut series = Vec::with_capacity(entries.len());
        for (name, line, node) in entries {
            let place = Place { line: *line, key: format!("{}.{name}", section.path_of("series")) };
            let Some(point) = self.point(name, &place) else { continue };
            let NodeKind::Scalar { text, .. } = &node.kind else {
                self.report.problem(&place, &written(node), "not a row of readings", "write such as `50x3 420 _x2`");
                continue;
            };
            match slots(text, &self.named.points[usize::from(point)]) {
                Ok(slots) => series.push((point, slots)),
                Err((token, what)) => {
                    let mend = "write values with blanks between: `50`, `50x3` (and 3 more), `0+5x10` (10 more, each 5 \
                                higher), `_x2` (nothing is sent twice), `none` (the device has no value)";
                    self.report.problem(&place, &token, what, mend);
                }
            }
        }
        series
    }

    fn point(&self, name: &str, place: &Place) -> Option<u16> {
        let found = self.named.points.iter().position(|point| *point.name == *name);
        if found.is_none() {
            let names: Vec<&str> = self.named.points.iter().map(|point| point.name.as_ref()).collect();
            self.report.problem(place, name, "there is no point of this name", unknown_point_mend(name, &names));
        }
        found.and_then(|position| u16::try_from(position).ok())
    }

    fn read_check(&self, check: Section<'_>, ids: &[&str]) -> Check {
        if !check.has("at") {
            check.missing("at", "write when, from the start of the test: `at: 25m`");
        }
        let read = Check {
            line: check.line(),
            at: check.duration("at").unwrap_or_default(),
            device: read_device_id(&check, ids),
            standing: self.read_alarms(&check, "alarms"),
            raised: self.read_alarms(&check, "raised"),
            cleared: self.read_alarms(&check, "cleared"),
            cases: self.read_alarms(&check, "cases").map(|cases| {
                let names = cases.into_iter().map(|case| case.condition);
                names.collect()
            }),
            quality: self.read_quality(&check),
        };
        let looks = [&read.standing, &read.raised, &read.cleared];
        if looks.iter().all(|look| look.is_none()) && read.cases.is_none() && read.quality.is_empty() {
            let mend = "write one of alarms, raised, cleared, cases, quality: `alarms: []` for none";
            check.problem("", "", "this check looks at nothing", mend);
        }
        check.finish();
        read
    }

    fn read_alarms(&self, check: &Section<'_>, key: &'static str) -> Option<Vec<ExpectedAlarm>> {
        let node = check.node(key)?;
        if matches!(node.kind, NodeKind::Map(_)) {
            check.problem(key, "", "not a list of alarms", "write such as `[surcharged major]`, or `[]` for none");
            return None;
        }
        let texts = check.texts(key);
        Some(texts.iter().filter_map(|text| self.read_alarm(check, key, text)).collect())
    }

    /// A condition, and in any order its severity, its state, and why it opened no case.
    fn read_alarm(&self, check: &Section<'_>, key: &str, text: &str) -> Option<ExpectedAlarm> {
        let mut words = text.split_whitespace();
        let condition = words.next().unwrap_or_default();
        let names: Vec<&str> = self.named.conditions.iter().map(|condition| condition.name.as_ref()).collect();
        if !names.contains(&condition) {
            let mend = match closest(condition, &names) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("write one of {}", names.join(", ")),
            };
            check.problem(key, text, "no rule of this profile finds this condition", mend);
            return None;
        }
        let mut alarm =
            ExpectedAlarm { condition: condition.to_owned(), severity: None, state: None, suppressed: None };
        for word in words {
            let severity = Severity::ALL.into_iter().find(|severity| severity.name() == word);
            let state = STATES.into_iter().find(|state| state.name() == word);
            let suppressed = Suppression::ALL.into_iter().find(|reason| reason.name() == word);
            if severity.is_none() && state.is_none() && suppressed.is_none() {
                let mend = "behind the condition stand its severity (major), its state (stale), or why it opens no \
                            case (permit)";
                check.problem(key, text, format!("{word:?} is neither"), mend);
            }
            alarm.severity = severity.or(alarm.severity);
            alarm.state = state.or(alarm.state);
            alarm.suppressed = suppressed.or(alarm.suppressed);
        }
        Some(alarm)
    }

    fn read_quality(&self, check: &Section<'_>) -> Vec<(u16, Flag)> {
        let Some(node) = check.node("quality") else { return Vec::new() };
        let NodeKind::Map(entries) = &node.kind else {
            check.problem("quality", &written(node), "not a map from points to flags", "write `{level_mm: bad}`");
            return Vec::new();
        };
        let mut flags = Vec::with_capacity(entries.len());
        for (name, line, node) in entries {
            let place = Place { line: *line, key: format!("{}.{name}", check.path_of("quality")) };
            let Some(point) = self.point(name, &place) else { continue };
            let text = written(node);
            match FLAGS.into_iter().find(|flag| flag.name() == text) {
                Some(flag) => flags.push((point, flag)),
                None => {
                    let mend = format!("write one of {}", FLAGS.map(Flag::name).join(", "));
                    self.report.problem(&place, &text, "not a flag", mend);
                }
            }
        }
        flags
    }
}

fn read_device_id(section: &Section<'_>, ids: &[&str]) -> String {
    let id = section.text("device").unwrap_or_else(|| TESTED.to_owned());
    if !ids.contains(&id.as_str()) {
        let mend = format!("leave it out for the device under test, or write one of {}", ids.join(", "));
        section.problem("device", &id, "no device of this test has this id", mend);
    }
    id
}

fn read_mask(mask: Section<'_>, ids: &[&str]) -> TestMask {
    for key in ["kind", "from", "until"] {
        if !mask.has(key) {
            mask.missing(key, "write such as `{kind: permit, from: 0m, until: 2h}`");
        }
    }
    let read = TestMask {
        device: read_device_id(&mask, ids),
        kind: mask.choice("kind", &MASKS).unwrap_or(MaskKind::Permit),
        from: mask.duration("from").unwrap_or_default(),
        until: mask.duration("until").unwrap_or_default(),
    };
    if mask.has("from") && mask.has("until") && read.until <= read.from {
        mask.problem("until", "", "the mask ends before it begins", "write an end behind `from`");
    }
    mask.finish();
    read
}

/// Reads a series; a mistake comes back as the part that is wrong, and what is wrong with it.
pub(super) fn slots(text: &str, point: &Point) -> Result<Vec<Slot>, (String, String)> {
    let mut slots = Vec::new();
    for token in text.split_whitespace() {
        let wrong = |what: String| (token.to_owned(), what);
        let (word, times) = repeated(token);
        if slots.len() + times.unwrap_or(0) >= SLOTS_MAX {
            return Err(wrong(format!("a series has at most {SLOTS_MAX} readings")));
        }
        // As promtool counts: a value and so many more, but so many gaps.
        match word {
            "_" => slots.extend(std::iter::repeat_n(Slot::Absent, times.unwrap_or(1))),
            "none" => slots.extend(std::iter::repeat_n(Slot::Invalid, times.unwrap_or(1))),
            _ => match (value_of(token, point), stepped(word, times, point)) {
                // A label may end like a repetition.
                (Some(value), _) => slots.push(Slot::Read(value)),
                (None, Some(values)) => slots.extend(values.into_iter().map(Slot::Read)),
                (None, None) => return Err(wrong(no_value(point))),
            },
        }
    }
    Ok(slots)
}

/// A token without its repetition `x3`, and how often.
fn repeated(token: &str) -> (&str, Option<usize>) {
    match token.rsplit_once('x') {
        Some((word, times)) if !word.is_empty() => match times.parse() {
            Ok(times) => (word, Some(times)),
            Err(_) => (token, None),
        },
        _ => (token, None),
    }
}

/// A value and so many more; each further away by a step when one stands behind it.
fn stepped(word: &str, times: Option<usize>, point: &Point) -> Option<Vec<Value>> {
    let times = times?;
    if let Some(value) = value_of(word, point) {
        return Some(vec![value; times + 1]);
    }
    if point.value_type != ValueType::Number {
        return None;
    }
    let sign = word.char_indices().rev().find(|(at, letter)| *at > 0 && matches!(letter, '+' | '-'))?.0;
    let (first, step) = (number_of(&word[..sign])?, number_of(&word[sign..])?);
    Some((0..=times).map(|position| Value::Number(first + step * position as f64)).collect())
}

fn value_of(word: &str, point: &Point) -> Option<Value> {
    match point.value_type {
        ValueType::Number => number_of(word).map(Value::Number),
        ValueType::Boolean => word.parse().ok().map(Value::Boolean),
        ValueType::Enumeration => {
            let labels = point.map.iter().map(|(_, label)| label);
            labels.into_iter().find(|label| matches!(label, Value::Text(text) if **text == *word)).cloned()
        }
        ValueType::Text => (repeated(word).1.is_none()).then(|| Value::Text(word.into())),
    }
}

fn number_of(word: &str) -> Option<f64> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'+' | b'-'));
    word.parse::<f64>().ok().filter(|number| is_plain && number.is_finite())
}

fn no_value(point: &Point) -> String {
    match point.value_type {
        ValueType::Number => "not a number".to_owned(),
        ValueType::Boolean => "neither true nor false".to_owned(),
        ValueType::Enumeration => {
            let labels = point.map.iter().map(|(_, label)| label.to_string());
            format!("none of the labels of this point: {}", labels.collect::<Vec<_>>().join(", "))
        }
        ValueType::Text => "not a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::document::Problems;
    use crate::profile::{Point, Profile, parse_profile_text};

    use super::*;

    const HEAD: &str = "\
profile: acme
version: 1
kind: drain
vendor: Acme
model: One
interval: 10m
payload: {format: json}
points:
  - {name: level_mm, path: level}
  - {name: cover_open, path: open}
  - {name: state, type: enumeration, path: state, map: {0: ok, 1: boxx2}}
detectors:
  - {condition: surcharged, severity: major, threshold: {point: level_mm, above: 400, clear: 350}}
samples:
  - {name: good, json: {level: 5}, readings: {level_mm: 5}}
  - {name: bad, text: '', error: not valid JSON}
tests:
";

    fn read(test: &str) -> Result<Profile, String> {
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &format!("{HEAD}{test}"), &problems);
        profile.ok_or_else(|| problems.into_sorted().iter().map(|problem| format!("{problem}\n")).collect())
    }

    fn point(name: &str) -> Point {
        let profile = read("  - {name: t, series: {level_mm: 1}, expect: [{at: 0m, alarms: []}]}\n").unwrap();
        profile.points.into_iter().find(|point| *point.name == *name).unwrap()
    }

    #[test]
    fn a_series_is_written_as_promtool_writes_it() {
        let level = point("level_mm");
        let shown = |text: &str, point: &Point| -> String {
            let slots = slots(text, point).unwrap();
            let word = |slot: &Slot| match slot {
                Slot::Absent => "_".to_owned(),
                Slot::Invalid => "none".to_owned(),
                Slot::Read(value) => value.to_string(),
            };
            slots.iter().map(word).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("50", &level), "50");
        assert_eq!(shown("50x3 _ _x2 nonex2 none", &level), "50 50 50 50 _ _ _ none none none");
        assert_eq!(shown("0+5x3 20-5.5x2 -3+1x2", &level), "0 5 10 15 20 14.5 9 -3 -2 -1");
        assert_eq!(shown("true falsex1", &point("cover_open")), "true false false");
        assert_eq!(shown("ok boxx2 okx1", &point("state")), "ok boxx2 ok ok");
        for wrong in ["5x", "x3", "1+x3", "five", "5x999999999", "1e3", "nan", "--1"] {
            assert!(slots(wrong, &level).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_test_has_a_device_others_masks_and_checks() {
        let profile = read(
            "  - name: t\n    start: 2026-07-01T08:00:00+08:00\n    device: {mount_height_mm: 3000, parent: P1}\n    \
             series: {level_mm: 5x9}\n    others: [{id: n, interval: 1m, series: {level_mm: 7}}]\n    \
             masks: [{kind: permit, from: 1h, until: 2h, device: n}]\n    expect:\n      \
             - {at: 1h30m, alarms: [surcharged stale major permit], quality: {level_mm: bad}}\n      \
             - {at: 2h, device: n, cases: surcharged, raised: []}\n",
        )
        .unwrap();
        let test = &profile.tests[0];
        assert_eq!((test.name.as_str(), test.line, test.devices.len()), ("t", 18, 2));
        assert_eq!(test.start, Timestamp(1_782_864_000_000));
        assert_eq!(test.devices[0].interval, Duration::from_secs(600), "that of the profile");
        assert_eq!((test.devices[0].len(), test.devices[1].len()), (10, 1));
        assert_eq!(test.masks[0].device, "n");
        let [first, second] = test.checks.as_slice() else { panic!("{:?}", test.checks) };
        let alarm = &first.standing.as_ref().unwrap()[0];
        assert_eq!((alarm.severity, alarm.state), (Some(Severity::Major), Some(AlarmState::Stale)));
        assert_eq!(alarm.suppressed, Some(Suppression::Permit));
        assert_eq!((first.line, &first.quality), (25, &vec![(0, Flag::Bad)]));
        assert_eq!((second.cases.as_deref(), second.standing.is_some()), (Some(&["surcharged".to_owned()][..]), false));
    }

    #[test]
    fn mistakes_of_a_test_are_told_with_line_and_mend() {
        let check = |test: &str, words: &[&str]| {
            let told = read(test).unwrap_err();
            for word in words {
                assert!(told.contains(word), "{word}: {told}");
            }
        };
        let with = |series: &str, check: &str| format!("  - {{name: t, series: {series}, expect: [{check}]}}\n");
        check(&with("{levl_mm: 5}", "{at: 0m, alarms: []}"), &["acme.yaml:18", "did you mean level_mm?"]);
        check(&with("{level_mm: 5 five}", "{at: 0m, alarms: []}"), &["\"five\"", "not a number", "0+5x10"]);
        check(&with("{cover_open: maybe}", "{at: 0m, alarms: []}"), &["neither true nor false"]);
        check(&with("{state: okay}", "{at: 0m, alarms: []}"), &["none of the labels of this point: ok, boxx2"]);
        check(&with("{level_mm: 5}", "{at: 0m, alarms: [surchraged]}"), &["did you mean surcharged?"]);
        check(&with("{level_mm: 5}", "{at: 0m, alarms: [surcharged loud]}"), &["\"loud\" is neither"]);
        check(&with("{level_mm: 5}", "{at: 0m}"), &["this check looks at nothing"]);
        check(&with("{level_mm: 5}", "{alarms: []}"), &["write when, from the start of the test"]);
        check(&with("{level_mm: 5}", "{at: 0m, device: x, alarms: []}"), &["no device of this test has this id"]);
        check(&with("{level_mm: 5}", "{at: 0m, quality: {level_mm: fine}}"), &["not a flag"]);
        check("  - {name: t, series: {level_mm: 5}}\n", &["write what must be"]);
        check("  - {name: t, expect: [{at: 0m, alarms: []}]}\n", &["write what is read of a point"]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_series_or_is_refused(text in "[0-9a-z_x+. -]{0,40}") {
            let level = point("level_mm");
            if let Ok(slots) = slots(&text, &level) {
                prop_assert!(slots.len() < SLOTS_MAX);
            }
        }
    }
}
