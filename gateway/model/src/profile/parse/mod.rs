//! Reads a profile from YAML.
//!
//! Turns the nodes of one file of `device-profiles/` into a checked [`Profile`], or into every problem that the file
//! has, each with line, key, value and mend. `device-profiles/README.md` describes the format for people.
//! Nothing is kept, so nothing has to survive a crash; there are no metrics.

mod around;
mod binary;
mod cadence;
mod codec;
mod combination;
mod counts;
mod csv;
mod detectors;
mod expression;
mod frequency;
mod inherit;
mod link;
mod load;
mod merge;
mod overrides;
mod payload;
mod points;
mod quality;
mod registers;
mod rule_tests;
mod rules;
mod samples;
mod scalar;
mod sparkplug;
#[cfg(test)]
mod tests;
mod units;
mod unusual;
mod upkeep;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use super::{DRIFT_MAX_DEFAULT, DocumentFormat, PayloadFormat, Profile, TimeField, TimeUnit};
use crate::document::{self, Node, NodeKind, Problem, Problems, Section};
use crate::profile::{Condition, JsonPath, Point, RuleTest, Sample};
use crate::time::Zone;
use crate::vocabulary::{BABBLING, CLOCK_DRIFT, Kind, SENSOR_FAULT};

pub use codec::Scripts;
pub use detectors::detector_rule_names;
pub use inherit::{Document, Layer, Shelf};
pub use overrides::{Chosen, Laid, OVERRIDES_MAX, Overridable, Override, parse_overrides};

/// A profile has no more points, detectors, conditions or samples than this: a file that has is not a profile.
const ELEMENTS_MAX: usize = 512;
/// Names of profiles, points and conditions are no longer than this many bytes.
const NAME_BYTES_MAX: usize = 64;
/// A component class (部件小类代码) has four digits in GB/T 30428.2-2013; newer drafts and cities use up to eight.
const COMPONENT_CLASS_DIGITS_MAX: usize = 8;

/// Reads a profile. Every problem is noted; the profile comes back only when it has none.
pub fn parse_profile(file: &str, node: &Node, problems: &Problems) -> Option<Profile> {
    parse_profile_with(file, node, &no_scripts, problems)
}

/// The same, with the scripts of codecs that lie beside the profile.
pub fn parse_profile_with(file: &str, node: &Node, scripts: Scripts<'_>, problems: &Problems) -> Option<Profile> {
    let show = |section: &Section<'_>, shown: &Shown<'_>| {
        let Shown { points, payload, report, .. } = *shown;
        let samples = samples::read_samples(section, points, payload, report);
        let named = rule_tests::Named { points, conditions: shown.conditions, interval: shown.interval };
        (samples, rule_tests::read_rule_tests(section, &named, report))
    };
    read_profile(file, node, scripts, problems, &show)
}

/// Reads a profile that overrides were laid over. It shows nothing by samples and tests: those are its parent's.
fn parse_overridden(file: &str, node: &Node, scripts: Scripts<'_>, problems: &Problems) -> Option<Profile> {
    read_profile(file, node, scripts, problems, &|_, _| (Vec::new(), Vec::new()))
}

/// What samples and tests are about.
struct Shown<'a> {
    points: &'a [Point],
    payload: &'a PayloadFormat,
    conditions: &'a [Condition],
    interval: Option<Duration>,
    report: Report<'a>,
}

/// Reads what a profile shows of itself.
type ReadShown<'a> = &'a dyn Fn(&Section<'_>, &Shown<'_>) -> (Vec<Sample>, Vec<RuleTest>);

fn read_profile(
    file: &str,
    node: &Node,
    scripts: Scripts<'_>,
    problems: &Problems,
    show: ReadShown<'_>,
) -> Option<Profile> {
    let problems_before = problems.len();
    let section = Section::top(file, node, problems);
    if !matches!(node.kind, NodeKind::Map(_)) {
        return None;
    }
    let report = Report { file, problems };
    if section.has("extends") {
        let mend = "read it together with its parent, from the folder where both lie";
        section.problem("extends", "", "this profile does not stand alone", mend);
        return None;
    }
    let payload = read_payload(&section, scripts, report);
    let interval = read_interval(&section);
    let mut points = points::read_points(&section, &payload, report);
    quality::read_quality(&section, &mut points, interval, report);
    cadence::check_cadence(&section, interval, &points);
    // The engine finds these by itself; no detector of a profile could. A unit that is polled cannot babble.
    let found_anyway: &[&str] = match &payload {
        PayloadFormat::Registers(format) if format.time.is_some() => &[CLOCK_DRIFT, SENSOR_FAULT],
        PayloadFormat::Registers(_) => &[SENSOR_FAULT],
        messages if messages.drift_max().is_some() => &[BABBLING, CLOCK_DRIFT, SENSOR_FAULT],
        _ => &[BABBLING, SENSOR_FAULT],
    };
    let (conditions, detectors) = detectors::read_detectors(&section, &points, interval, found_anyway, report);
    let walk_test = walk::read_walk_test(&section, &points, &conditions);
    let shown = Shown { points: &points, payload: &payload, conditions: &conditions, interval, report };
    let (samples, tests) = show(&section, &shown);
    let profile = Profile {
        name: read_name(&section),
        version: read_version(&section),
        kind: read_kind(&section),
        vendor: section.required_text("vendor", "write who makes the device; `Generic` when nobody in particular does"),
        model: section.required_text("model", "write the maker's name of the model"),
        component_class: read_component_class(&section),
        payload,
        interval,
        points,
        conditions,
        detectors,
        samples,
        walk_test,
        overrides: Vec::new(),
        tests,
    };
    section.finish();
    (problems.len() == problems_before).then_some(profile)
}

/// Reads a profile from its text. Environment variables are not replaced in profiles.
pub fn parse_profile_text(file: &str, text: &str, problems: &Problems) -> Option<Profile> {
    parse_profile_text_with(file, text, &no_scripts, problems)
}

/// The same, with the scripts of codecs that lie beside the profile.
pub fn parse_profile_text_with(file: &str, text: &str, scripts: Scripts<'_>, problems: &Problems) -> Option<Profile> {
    let problems_before = problems.len();
    let node = document::parse(file, text, &|_| None, problems)?;
    let profile = parse_profile_with(file, &node, scripts, problems);
    if problems.len() == problems_before { profile } else { None }
}

/// For profiles that stand alone: there are no files beside them.
pub fn no_scripts(_: &str) -> Result<String, String> {
    Err("no file lies beside this profile; write the codec into it, under `source: |`".to_owned())
}

/// Where problems of nodes deeper than a section go.
#[derive(Clone, Copy)]
struct Report<'a> {
    file: &'a str,
    problems: &'a Problems,
}

impl Report<'_> {
    fn problem(self, place: &Place, value: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: place.line,
            key: place.key.clone(),
            value: value.to_owned(),
            what: what.into(),
            mend: mend.into(),
        });
    }
}

/// Line and key of a node.
struct Place {
    line: usize,
    key: String,
}

fn read_name(section: &Section<'_>) -> String {
    let name = section.required_text("profile", "write the profile's name, such as `profile: acme-cover-2`");
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let fits = name.len() <= NAME_BYTES_MAX && !name.starts_with('-');
    if !(is_plain && fits) {
        section.problem(
            "profile",
            &name,
            "not a name for a profile",
            format!("use small letters, digits and hyphens, at most {NAME_BYTES_MAX}: acme-cover-2"),
        );
    }
    name
}

fn read_version(section: &Section<'_>) -> u32 {
    if !section.has("version") {
        section.missing("version", "write `version: 1` and count up with each change that people should notice");
        return 0;
    }
    let version = section.integer("version", 1, i64::from(u32::MAX));
    version.and_then(|version| u32::try_from(version).ok()).unwrap_or(0)
}

fn read_kind(section: &Section<'_>) -> Kind {
    let kinds = Kind::ALL.map(|kind| (kind.name(), kind));
    if !section.has("kind") {
        section.missing("kind", &format!("write one of {}", Kind::ALL.map(Kind::name).join(", ")));
    }
    section.choice("kind", &kinds).unwrap_or(Kind::Gateway)
}

fn read_component_class(section: &Section<'_>) -> String {
    let class = section.text("component_class").unwrap_or_default();
    if class.len() > COMPONENT_CLASS_DIGITS_MAX || !class.bytes().all(|byte| byte.is_ascii_digit()) {
        section.problem(
            "component_class",
            &class,
            "not a component class (部件小类代码)",
            format!("write at most {COMPONENT_CLASS_DIGITS_MAX} digits in quotes, such as \"0103\""),
        );
    }
    class
}

fn read_interval(section: &Section<'_>) -> Option<Duration> {
    let interval = section.duration("interval")?;
    if interval.is_zero() {
        section.problem(
            "interval",
            "0",
            "a device cannot report all the time",
            "write how often it reports, or leave the key out",
        );
        return None;
    }
    Some(interval)
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Binary,
    Csv,
    Cbor,
    Codec,
    Registers,
    Sparkplug,
}

const FORMATS: [(&str, Format); 7] = [
    ("json", Format::Json),
    ("binary", Format::Binary),
    ("csv", Format::Csv),
    ("cbor", Format::Cbor),
    ("codec", Format::Codec),
    ("registers", Format::Registers),
    ("sparkplug", Format::Sparkplug),
];

fn read_payload(section: &Section<'_>, scripts: Scripts<'_>, report: Report<'_>) -> PayloadFormat {
    let Some(payload) = section.section("payload") else {
        section.missing("payload", "write `payload: {format: json}` or `payload: {format: registers}`");
        return PayloadFormat::Json(DocumentFormat::default());
    };
    if !payload.has("format") {
        payload.missing("format", "write json, binary, csv, cbor, codec, registers or sparkplug");
    }
    let format = match payload.choice("format", &FORMATS).unwrap_or(Format::Json) {
        Format::Json => PayloadFormat::Json(payload::read_document(&payload, report)),
        Format::Binary => PayloadFormat::Binary(binary::read_format(&payload)),
        Format::Csv => PayloadFormat::Csv(csv::read_format(&payload)),
        Format::Cbor => PayloadFormat::Cbor(payload::read_document(&payload, report)),
        Format::Codec => PayloadFormat::Codec(Arc::new(codec::read_format(&payload, scripts, report))),
        Format::Registers => PayloadFormat::Registers(registers::read_format(&payload)),
        Format::Sparkplug => PayloadFormat::Sparkplug(sparkplug::read_format(&payload)),
    };
    payload.finish();
    format
}

fn read_time(time: Section<'_>, report: Report<'_>) -> TimeField {
    let text = time.required_text("path", "write where the time stands, such as `path: ts`");
    let place = Place { line: time.line(), key: time.path_of("path") };
    let path = read_path(&text, &place, report);
    read_time_of(time, path, None)
}

/// What is known of a time beside its place. Without a default the unit must be named.
fn read_time_of<Path>(time: Section<'_>, path: Path, unit: Option<TimeUnit>) -> TimeField<Path> {
    if unit.is_none() && !time.has("unit") {
        time.missing("unit", "write s, ms, us, ns, rfc3339, local, or auto (any of them, told apart by size and form)");
    }
    let units = [
        ("s", TimeUnit::Seconds),
        ("ms", TimeUnit::Milliseconds),
        ("us", TimeUnit::Microseconds),
        ("ns", TimeUnit::Nanoseconds),
        ("auto", TimeUnit::Auto),
        ("rfc3339", TimeUnit::Rfc3339),
        ("local", TimeUnit::Local),
    ];
    let unit = time.choice("unit", &units).or(unit).unwrap_or(TimeUnit::Auto);
    let zone = time.text("zone");
    if let Some(name) = zone.as_ref().filter(|name| Zone::named(name).is_none()) {
        time.problem("zone", name, "there is no time zone of this name", "write one such as Asia/Shanghai");
    }
    let drift_max = time.duration("drift_max").unwrap_or(DRIFT_MAX_DEFAULT);
    time.finish();
    TimeField { path, unit, zone, drift_max }
}

/// An empty text was reported as missing already.
fn read_path(text: &str, place: &Place, report: Report<'_>) -> JsonPath {
    match JsonPath::parse(text) {
        Some(path) => path,
        None => {
            if !text.is_empty() {
                report.problem(
                    place,
                    text,
                    "not a place in a JSON document",
                    "write the keys on the way with dots (`object.distance`, `rxInfo.0.rssi`), or `/a.b/c` when a key holds a dot",
                );
            }
            JsonPath(Vec::new())
        }
    }
}

/// Points and conditions are fields and labels in databases and metrics: one spelling everywhere.
fn check_snake_name(section: &Section<'_>, key: &str, name: &str, example: &str) {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let starts_well = name.is_empty() || name.starts_with(|first: char| first.is_ascii_lowercase());
    if is_plain && starts_well && name.len() <= NAME_BYTES_MAX {
        return;
    }
    section.problem(
        key,
        name,
        "not a name that every database takes",
        format!("use small letters, digits and underscores, a letter first, at most {NAME_BYTES_MAX}: {example}"),
    );
}

fn check_element_count(section: &Section<'_>, key: &str, count: usize) {
    if count > ELEMENTS_MAX {
        section.problem(
            key,
            &count.to_string(),
            format!("more than {ELEMENTS_MAX}"),
            "this looks like several devices: write one profile for each model",
        );
    }
}
