//! Overrides (覆盖设置): what is different about some devices of a model, at a site.
//!
//! An override says which devices it means and lays its points, detectors and conditions over their profile, with the
//! meaning that the same text would have in a profile that extends it. What comes out is read like any profile, so that
//! nothing behind the configuration knows of overrides. Problems stand at the lines of the overrides' own file.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::merge::{
    Child, Entry, Miss, aim, at_line, entries, has_called, items, merged_value, scalar_of, take_out, watched_point,
};
use super::points::{ORIGIN_KEYS, unknown_point_mend};
use super::{Scripts, parse_overridden};
use crate::document::{Node, NodeKind, Problem, Problems, Section, closest};
use crate::inventory::Device;
use crate::profile::Profile;
use crate::vocabulary::Kind;

/// A city has some roads, circuits and makers that are different. More is a reason for profiles of its own.
pub const OVERRIDES_MAX: usize = 500;
/// A name is shown behind that of the profile.
const NAME_CHARACTERS_MAX: usize = 40;
/// What an override may say.
const LISTS: [&str; 3] = ["points", "conditions", "detectors"];
/// What a profile with overrides does not keep: it shows what the profile's own rules do.
const SHOWN: [&str; 2] = ["samples", "tests"];

/// One override.
#[derive(Clone, Debug)]
pub struct Override {
    /// Its name, unique in its file.
    pub name: String,
    /// The file.
    pub file: String,
    /// The line where it begins.
    pub line: usize,
    /// It means devices with one of these tags.
    pub tags: Chosen,
    /// ... and with one of these ids,
    pub devices: Chosen,
    /// ... and with one of these profiles,
    pub profiles: Chosen,
    /// ... and of one of these kinds. What is not said means all.
    pub kinds: Vec<Kind>,
    position: usize,
    node: Arc<Node>,
}

/// Words by which devices are chosen; none for all devices.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The words.
    pub names: BTreeSet<String>,
    /// Where they stand.
    pub line: usize,
}

impl Chosen {
    fn is_open_to(&self, fits: impl Fn(&BTreeSet<String>) -> bool) -> bool {
        self.names.is_empty() || fits(&self.names)
    }
}

/// Reads the list `overrides` of a file. Problems are noted.
pub fn parse_overrides(file: &str, node: &Node, problems: &Problems) -> Vec<Override> {
    let top = Section::top(file, node, problems);
    if !top.has("overrides") {
        top.missing("overrides", "write `overrides:` and below it a list, each element with a name");
    }
    let sections = top.sections("overrides");
    let nodes = items(node, "overrides");
    let mut overrides: Vec<Override> = Vec::with_capacity(sections.len());
    for (position, (section, node)) in sections.into_iter().zip(nodes).enumerate() {
        let read = read_override(section, position, node, file);
        if let Some(other) = overrides.iter().find(|other| other.name == read.name && !read.name.is_empty()) {
            problems.push(Problem {
                file: file.to_owned(),
                line: read.line,
                key: format!("overrides[{position}].name"),
                value: read.name.clone(),
                what: format!("the override at line {} has this name", other.line),
                mend: "give each its own name".to_owned(),
            });
        }
        overrides.push(read);
    }
    if overrides.len() > OVERRIDES_MAX {
        let mend = format!("write at most {OVERRIDES_MAX}; what many devices share belongs into a profile");
        top.problem("overrides", &overrides.len().to_string(), "too many overrides", mend);
    }
    top.finish();
    overrides
}

fn read_override(section: Section<'_>, position: usize, node: &Node, file: &str) -> Override {
    let name = section.required_text("name", "say what it is for, such as `name: low-road`");
    let is_plain = name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/'));
    if !is_plain || name.chars().count() > NAME_CHARACTERS_MAX {
        let mend =
            format!("write letters, digits and hyphens, at most {NAME_CHARACTERS_MAX}, such as low-road or 下穿立交");
        section.problem("name", &name, "not a name for an override", mend);
    }
    let (tags, devices, profiles) =
        (chosen(&section, node, "tags"), chosen(&section, node, "devices"), chosen(&section, node, "profile"));
    let kinds = read_kinds(&section);
    let is_chosen = ["tags", "devices", "profile", "kind"].iter().any(|key| section.has(key));
    if !is_chosen {
        section.missing(
            "tags",
            "say which devices are meant: `tags`, `devices`, `profile` or `kind`; all that is said must hold",
        );
    }
    let mut says_something = false;
    for list in LISTS {
        says_something |= !section.sections(list).is_empty();
    }
    if let Some(without) = section.section("without") {
        for list in LISTS {
            says_something |= !without.texts(list).is_empty();
        }
        without.finish();
    }
    if !says_something {
        section.missing("detectors", "say what is different: `points`, `detectors`, `conditions` or `without`");
    }
    let line = section.line();
    section.finish();
    Override {
        name,
        file: file.to_owned(),
        line,
        tags,
        devices,
        profiles,
        kinds,
        position,
        node: Arc::new(node.clone()),
    }
}

fn chosen(section: &Section<'_>, node: &Node, key: &'static str) -> Chosen {
    let names: BTreeSet<String> = section.texts(key).into_iter().collect();
    let line = entries(node).iter().find(|(known, _, _)| known == key).map_or(section.line(), |(_, line, _)| *line);
    if section.has(key) && names.is_empty() {
        section.problem(key, "", "this list is empty, so no device is meant", "name one, or leave the key out");
    }
    Chosen { names, line }
}

fn read_kinds(section: &Section<'_>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for name in section.texts("kind") {
        match Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => kinds.push(kind),
            None => {
                let known = Kind::ALL.map(Kind::name);
                let mend = match closest(&name, &known) {
                    Some(known) => format!("did you mean {known}?"),
                    None => format!("write one of {}", known.join(", ")),
                };
                section.problem("kind", &name, "there is no kind of this name", mend);
            }
        }
    }
    kinds
}

impl Override {
    /// Whether it means a device with this profile.
    pub fn means(&self, device: &Device, profile: &Profile) -> bool {
        self.tags.is_open_to(|tags| device.tags.iter().any(|tag| tags.contains(tag)))
            && self.devices.is_open_to(|ids| ids.contains(&device.id))
            && self.profiles.is_open_to(|names| names.contains(&profile.name))
            && (self.kinds.is_empty() || self.kinds.contains(&profile.kind))
    }

    /// A problem with one of its keys.
    pub fn problem(&self, (key, line): (&str, usize), value: &str, what: String, mend: String) -> Problem {
        let key = match key.is_empty() {
            true => format!("overrides[{}]", self.position),
            false => format!("overrides[{}].{key}", self.position),
        };
        Problem { file: self.file.clone(), line, key, value: value.to_owned(), what, mend }
    }

    /// A problem of the profile that came of it, where it stands in the override.
    fn problem_of(&self, found: Problem, profile: &str) -> Problem {
        let Problem { line, key, value, what, mend, .. } = found;
        let place = key.split_once('[').and_then(|(list, rest)| {
            let (_, rest) = rest.split_once(']')?;
            let list = LISTS.into_iter().find(|known| *known == list)?;
            let own = items(&self.node, list).iter().rposition(|item| item.line <= line)?;
            Some(format!("{list}[{own}]{rest}"))
        });
        let is_own = LISTS.iter().chain(&["without"]).any(|list| key.starts_with(list));
        match (place, is_own && !key.contains('[')) {
            (Some(place), _) => self.problem((&place, line), &value, format!("{what} (in {profile})"), mend),
            (None, true) => self.problem((&key, line), &value, format!("{what} (in {profile})"), mend),
            (None, false) => {
                self.problem(("", line), &value, format!("with it, {profile} is wrong at {key}: {what}"), mend)
            }
        }
    }
}

/// A profile that overrides can be laid over, with the text that it came from.
#[derive(Clone, Debug)]
pub struct Overridable {
    /// As it is so far.
    pub profile: Arc<Profile>,
    node: Arc<Node>,
}

/// What became of an override and a profile.
#[derive(Debug)]
pub enum Laid {
    /// The profile with it.
    Fits(Overridable),
    /// Nothing that it says is about anything of this profile; why not.
    Foreign(Vec<Problem>),
    /// It is wrong, at least for this profile.
    Wrong(Vec<Problem>),
}

impl Overridable {
    /// A profile and its text, with everything in it that comes from its parents.
    pub fn new(profile: Arc<Profile>, node: Node) -> Overridable {
        let Node { line, kind } = node;
        let kind = match kind {
            NodeKind::Map(entries) => {
                NodeKind::Map(entries.into_iter().filter(|(key, _, _)| !SHOWN.contains(&key.as_str())).collect())
            }
            other => other,
        };
        Overridable { profile, node: Arc::new(Node { line, kind }) }
    }

    /// Lays an override over it. `scripts` are those beside the profile.
    pub fn with(&self, over: &Override, zone: &str, scripts: Scripts<'_>) -> Laid {
        let title = self.profile.title();
        let (met, misses) = self.meets(over);
        if !misses.is_empty() {
            return if met { Laid::Wrong(misses) } else { Laid::Foreign(misses) };
        }
        let problems = Problems::default();
        let node = self.merged(over, &problems);
        let read = if problems.is_empty() { parse_overridden(&over.file, &node, scripts, &problems) } else { None };
        let Some(mut profile) = read.filter(|_| problems.is_empty()) else {
            let found = problems.into_sorted().into_iter();
            return Laid::Wrong(found.map(|problem| over.problem_of(problem, &title)).collect());
        };
        profile.overrides.clone_from(&self.profile.overrides);
        profile.overrides.push(over.name.clone());
        // The same frames are read in the same way; a codec is long, and shared.
        profile.payload = self.profile.payload.clone();
        profile.put_zone(zone);
        Laid::Fits(Overridable { profile: Arc::new(profile), node: Arc::new(node) })
    }

    fn merged(&self, over: &Override, problems: &Problems) -> Node {
        let mut node = at_line(&self.node, over.line);
        let NodeKind::Map(inherited) = &mut node.kind else { return node };
        let child = Child { file: &over.file, node: &over.node, problems };
        take_out(child, inherited);
        for (key, line, value) in entries(&over.node).iter().filter(|(key, _, _)| LISTS.contains(&key.as_str())) {
            match inherited.iter_mut().find(|(name, _, _)| name == key) {
                Some((_, old_line, old)) => (*old_line, *old) = (*line, merged_value(child, key, old, value)),
                None => inherited.push((key.clone(), *line, value.clone())),
            }
        }
        node
    }

    /// Whether an override says something that is about this profile, and what it says that is not.
    fn meets(&self, over: &Override) -> (bool, Vec<Problem>) {
        let mut meeting = Meeting { over, title: self.profile.title(), is_met: false, misses: Vec::new() };
        self.meet_points(&mut meeting);
        for condition in items(&over.node, "conditions") {
            let Some(name) = scalar_of(condition, "name") else { continue };
            let is_known = self.profile.conditions.iter().any(|known| *known.name == *name);
            let is_new = entries(condition).iter().any(|(key, _, _)| key == "title");
            let known: Vec<&str> = self.profile.conditions.iter().map(|known| known.name.as_ref()).collect();
            let mend = match closest(&name, &known) {
                Some(known) => format!("did you mean {known}?"),
                None => "a new condition needs its titles, and a detector that finds it".to_owned(),
            };
            meeting.note(is_known || is_new, ("conditions", condition.line), &name, "condition", mend);
        }
        self.meet_detectors(&mut meeting);
        for (_, _, without) in entries(&over.node).iter().filter(|(key, _, _)| key == "without") {
            for list in LISTS {
                for (line, name) in texts(without, list) {
                    let (key, what) = (format!("without.{list}"), list.trim_end_matches('s'));
                    let mend = "leave it out, or mean other devices".to_owned();
                    meeting.note(has_called(&self.node, list, &name), (&key, line), &name, what, mend);
                }
            }
        }
        (meeting.is_met, meeting.misses)
    }

    fn meet_points(&self, meeting: &mut Meeting<'_>) {
        for point in items(&meeting.over.node, "points") {
            let Some(name) = scalar_of(point, "name") else { continue };
            let is_new = entries(point).iter().any(|(key, _, _)| ORIGIN_KEYS.contains(&key.as_str()));
            let is_known = self.profile.point_index(&name).is_some();
            let known: Vec<&str> = self.profile.points.iter().map(|known| known.name.as_ref()).collect();
            let mend = unknown_point_mend(&name, &known);
            meeting.note(is_known || is_new, ("points", point.line), &name, "point", mend);
        }
    }

    fn meet_detectors(&self, meeting: &mut Meeting<'_>) {
        let over = meeting.over;
        let added: Vec<String> =
            items(&over.node, "points").iter().filter_map(|point| scalar_of(point, "name")).collect();
        for detector in items(&over.node, "detectors") {
            match aim(detector, items(&self.node, "detectors")) {
                Ok(Some(_)) => meeting.is_met = true,
                Ok(None) => {
                    let Some(point) = watched_point(detector) else {
                        meeting.is_met = true;
                        continue;
                    };
                    let is_known = self.profile.point_index(&point).is_some() || added.contains(&point);
                    let known: Vec<&str> = self.profile.points.iter().map(|known| known.name.as_ref()).collect();
                    let mend = unknown_point_mend(&point, &known);
                    meeting.note(is_known, ("detectors", detector.line), &point, "point", mend);
                }
                Err(Miss { value, what, mend }) => {
                    let what = format!("{what} (in {})", meeting.title);
                    meeting.misses.push(over.problem(("detectors", detector.line), &value, what, mend));
                }
            }
        }
    }
}

/// An override that meets a profile.
struct Meeting<'a> {
    over: &'a Override,
    title: String,
    is_met: bool,
    misses: Vec<Problem>,
}

impl Meeting<'_> {
    fn note(&mut self, is_there: bool, (key, line): (&str, usize), value: &str, word: &str, mend: String) {
        if is_there {
            self.is_met = true;
            return;
        }
        let what = format!("{} has no {word} of this name", self.title);
        self.misses.push(self.over.problem((key, line), value, what, mend));
    }
}

/// Texts of a list or a single one, with their lines.
fn texts(node: &Node, wanted: &str) -> Vec<(usize, String)> {
    let Some((_, line, value)): Option<&Entry> = entries(node).iter().find(|(key, _, _)| key == wanted) else {
        return Vec::new();
    };
    match &value.kind {
        NodeKind::Scalar { text, .. } => vec![(*line, text.clone())],
        NodeKind::List(items) => {
            let text = |item: &Node| match &item.kind {
                NodeKind::Scalar { text, .. } => Some((item.line, text.clone())),
                _ => None,
            };
            items.iter().filter_map(text).collect()
        }
        NodeKind::Map(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "overrides/tests.rs"]
mod tests;
