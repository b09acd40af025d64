//! The section `incidents`: which alarms are taken together, because they have one cause.

use std::ops::RangeInclusive;
use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_model::incident::{GroupRule, IncidentPolicy, Linkage, TagPattern};
use kerbside_model::inventory::check_tag;
use kerbside_model::vocabulary;
use kerbside_model::{Device, Severity};

use super::read::Context;
use super::sources::Sources;
use super::{rain, read};

/// Two devices are the least that make a group; more than this is no street.
const DEVICES: RangeInclusive<i64> = 2..=10_000;
/// A minute is the least between two reports of a fast device; a week ends every weather.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
/// Metres between neighbours, and across a whole incident: a district has 100 km at most.
const METRES: RangeInclusive<f64> = 10.0..=100_000.0;
/// A second is for trying it out, since a broker that is restarted is away for longer; after a day nobody needs to be
/// told.
const SOURCE_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// More rules than this nobody keeps in mind.
const GROUPS_MAX: usize = 50;

/// Reads it.
pub(super) fn read(top: &Section<'_>, sources: &Sources) -> IncidentPolicy {
    let mut policy = IncidentPolicy::default();
    let Some(section) = top.section("incidents") else { return policy };
    if let Some(inner) = section.section("storm") {
        policy.storm = linkage(&inner, policy.storm);
        inner.finish();
    }
    if let Some(inner) = section.section("covers") {
        policy.covers = linkage(&inner, policy.covers);
        inner.finish();
    }
    if let Some(inner) = section.section("outage") {
        policy.outage_devices = devices(&inner, policy.outage_devices);
        policy.outage_share = share(&inner, policy.outage_share);
        inner.finish();
    }
    if let Some(inner) = section.section("source_down") {
        policy.source_after = read::duration(&inner, "after", policy.source_after, SOURCE_AFTER);
        inner.finish();
    }
    policy.rain_topics = rain::topics(&section, sources);
    if section.has("groups") {
        policy.groups = groups(&section);
    }
    section.finish();
    policy
}

fn linkage(section: &Section<'_>, default: Linkage) -> Linkage {
    let linkage = Linkage {
        within: read::duration(section, "within", default.within, WITHIN),
        reach_m: metres(section, "reach_m", default.reach_m),
        extent_m: metres(section, "extent_m", default.extent_m),
        devices: devices(section, default.devices),
    };
    if linkage.extent_m < linkage.reach_m {
        let what = format!("less than reach_m ({} m)", linkage.reach_m);
        section.problem("extent_m", &linkage.extent_m.to_string(), what, "write as much as reach_m, or more");
    }
    linkage
}

fn groups(section: &Section<'_>) -> Vec<GroupRule> {
    let mut groups: Vec<GroupRule> = Vec::new();
    for inner in section.sections("groups") {
        let rule = group(&inner);
        if groups.iter().any(|other| other.condition == rule.condition && other.tag == rule.tag) {
            let mend = "write one rule for each condition, or one for each tag";
            inner.problem("condition", &rule.condition, "another rule is about this condition", mend);
        }
        groups.push(rule);
        inner.finish();
    }
    if groups.len() > GROUPS_MAX {
        let mend = format!("write at most {GROUPS_MAX}");
        section.problem("groups", &groups.len().to_string(), "too many rules", mend);
    }
    groups
}

fn group(section: &Section<'_>) -> GroupRule {
    let condition = section.required_text("condition", "name the condition of the devices, such as lamp_out");
    let becomes = section.required_text("becomes", "name the condition of their parent, such as circuit_out");
    if taken_elsewhere(&condition) {
        let mend = "water, silence and opened covers are taken together by storm, outage and covers";
        section.problem("condition", &condition, "this condition is taken together already", mend);
    }
    if [vocabulary::STORM, vocabulary::OUTAGE, vocabulary::COVERS_OPENED, vocabulary::SOURCE_DOWN]
        .contains(&becomes.as_str())
    {
        section.problem("becomes", &becomes, "this is the name of another incident", "write a name of its own");
    }
    let term = vocabulary::condition(&becomes);
    let severities = Severity::ALL.map(|severity| (severity.name(), severity));
    GroupRule {
        devices: devices(section, 3),
        share: share(section, 0.0),
        within: read::duration(section, "within", Duration::from_secs(86_400), WITHIN),
        title: section.text("title").unwrap_or_else(|| term.map_or(&*becomes, |term| term.en).to_owned()),
        title_zh: section.text("title_zh").unwrap_or_else(|| term.map_or(&*becomes, |term| term.zh).to_owned()),
        severity: section.choice("severity", &severities).unwrap_or(Severity::Major),
        condition,
        becomes,
        tag: section.text("tag").and_then(|text| tag(section, &text)),
    }
}

/// A tag, or the beginning of tags with a star behind it.
fn tag(section: &Section<'_>, text: &str) -> Option<TagPattern> {
    let (plain, is_beginning) = match text.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (text, false),
    };
    if check_tag(plain).is_err() {
        let mend = "write a tag of the inventory, such as circuit-7, or circuit-* for each that begins so";
        section.problem("tag", text, "this cannot be a tag", mend);
        return None;
    }
    Some(TagPattern { text: plain.to_owned(), is_beginning })
}

/// Rules about tags that no device has count nothing.
pub(super) fn note_tags(policy: &IncidentPolicy, devices: &[Device], context: &Context<'_>) {
    for pattern in policy.groups.iter().filter_map(|rule| rule.tag.as_ref()) {
        if !devices.iter().any(|device| device.tags.iter().any(|tag| pattern.is(tag))) {
            let star = if pattern.is_beginning { "*" } else { "" };
            context.notice(format!("incidents.groups: no device has the tag {}{star}", pattern.text));
        }
    }
}

fn taken_elsewhere(condition: &str) -> bool {
    matches!(condition, "silent" | "displaced" | "surcharged" | "surging" | "flooded")
}

fn devices(section: &Section<'_>, default: u32) -> u32 {
    let count = section.integer("devices", *DEVICES.start(), *DEVICES.end());
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
}

fn share(section: &Section<'_>, default: f64) -> f64 {
    number(section, "share", default, 0.0..=1.0)
}

fn metres(section: &Section<'_>, key: &'static str, default: f64) -> f64 {
    number(section, key, default, METRES)
}

fn number(section: &Section<'_>, key: &'static str, default: f64, limits: RangeInclusive<f64>) -> f64 {
    let Some(number) = section.number(key) else { return default };
    if limits.contains(&number) {
        return number;
    }
    let allowed = format!("from {} to {}", limits.start(), limits.end());
    section.problem(key, &number.to_string(), format!("not {allowed}"), format!("write a number {allowed}"));
    default
}
