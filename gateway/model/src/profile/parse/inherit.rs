//! Profiles that extend others: turns a file with `extends` into a file that stands alone.
//!
//! A profile says only what is different from its parent; `merge.rs` says what becomes of that. What comes from a parent
//! has the line of `extends`, since problems name the child's file.

use std::sync::Arc;

use super::merge::{Child, Entry, at_line, entries, merged_value, scalar_of, take_out};
use crate::document::{self, Node, NodeKind, Problem, Problems, closest};

/// A chain of parents that is longer is nobody's work any more.
const PARENTS_MAX: usize = 8;
/// Keys that a profile says for itself: they tell it apart from its parent, or show what its own rules do.
const OWN_KEYS: [&str; 3] = ["profile", "version", "tests"];
/// Where a profile comes from. An own one may extend the shipped one whose name it bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// It is part of the program.
    Shipped,
    /// It lies in a folder.
    Own,
}

/// The files of profiles that know one another.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Vec<Document>);

/// One file.
#[derive(Clone, Debug)]
pub struct Document {
    /// As people name it.
    pub file: String,
    /// The name that it bears, as far as that can be read.
    pub name: String,
    /// Where it comes from.
    pub layer: Layer,
    node: Arc<Node>,
}

impl Shelf {
    /// Adds a file. Problems of its YAML are noted; then it is not added.
    pub fn add(&mut self, layer: Layer, file: &str, text: &str, problems: &Problems) {
        // Environment variables are not replaced in profiles.
        let Some(node) = document::parse(file, text, &|_| None, problems) else { return };
        let name = scalar_of(&node, "profile").unwrap_or_default();
        self.0.push(Document { file: file.to_owned(), name, layer, node: Arc::new(node) });
    }

    /// Every file, in the order in which they were added.
    pub fn documents(&self) -> &[Document] {
        &self.0
    }

    /// Name and version of the files that a file extends, its own parent first, as far as they are there.
    pub fn ancestors(&self, document: &Document) -> Vec<(String, u32)> {
        let mut ancestors = Vec::new();
        let mut child = document;
        while let Some(parent) = scalar_of(&child.node, "extends").and_then(|name| self.parent(child, &name)) {
            if ancestors.len() == PARENTS_MAX {
                break;
            }
            let version = scalar_of(&parent.node, "version").and_then(|text| text.parse().ok());
            ancestors.push((parent.name.clone(), version.unwrap_or_default()));
            child = parent;
        }
        ancestors
    }

    /// A file with everything in it that comes from its parents. Problems are noted.
    pub fn resolved(&self, document: &Document, problems: &Problems) -> Option<Node> {
        self.with_parents(document, &mut Vec::new(), problems)
    }

    fn with_parents<'a>(
        &'a self,
        document: &'a Document,
        chain: &mut Vec<&'a Document>,
        problems: &Problems,
    ) -> Option<Node> {
        let node = document.node.as_ref();
        let Some((line, parent_name)) = extends(document, problems)? else { return Some(node.clone()) };
        chain.push(document);
        let note = |what: String, mend: String| {
            let (file, key, value) = (document.file.clone(), "extends".to_owned(), parent_name.clone());
            problems.push(Problem { file, line, key, value, what, mend });
        };
        let Some(parent) = self.parent(document, &parent_name) else {
            let names: Vec<&str> = self.0.iter().map(|other| other.name.as_str()).collect();
            let mend = match closest(&parent_name, &names) {
                Some(name) => format!("did you mean {name}?"),
                None => "name a shipped profile, or one of the same folder".to_owned(),
            };
            note("there is no profile of this name".to_owned(), mend);
            return None;
        };
        let is_again = |known: &&Document| known.layer == parent.layer && known.name == parent.name;
        if chain.iter().any(is_again) || chain.len() > PARENTS_MAX {
            let names: Vec<&str> =
                chain.iter().map(|known| known.name.as_str()).chain([parent.name.as_str()]).collect();
            let what = match chain.len() > PARENTS_MAX {
                true => format!("more than {PARENTS_MAX} profiles extend one another: {}", names.join(" -> ")),
                false => format!("these profiles extend one another in a circle: {}", names.join(" -> ")),
            };
            note(what, "let one of them stand alone".to_owned());
            return None;
        }
        let parent_node = self.with_parents(parent, chain, problems)?;
        Some(merged(document, at_line(&parent_node, line), problems))
    }

    /// A profile's own namesake is the shipped one; else what lies beside it comes first.
    fn parent(&self, child: &Document, name: &str) -> Option<&Document> {
        let named = |layer: Layer| self.0.iter().find(|other| other.layer == layer && other.name == name);
        let own = if child.layer == Layer::Own && child.name != name { named(Layer::Own) } else { None };
        own.or_else(|| named(Layer::Shipped))
    }
}

/// The line and value of `extends`; `None` outside when it is there and cannot be read.
fn extends(document: &Document, problems: &Problems) -> Option<Option<(usize, String)>> {
    let Some((_, line, value)) = entries(&document.node).iter().find(|(key, _, _)| key == "extends") else {
        return Some(None);
    };
    match &value.kind {
        NodeKind::Scalar { text, .. } if !text.is_empty() => Some(Some((*line, text.clone()))),
        _ => {
            problems.push(Problem {
                file: document.file.clone(),
                line: *line,
                key: "extends".to_owned(),
                value: String::new(),
                what: "not the name of a profile".to_owned(),
                mend: "write the name of one profile, such as `extends: json-level`".to_owned(),
            });
            None
        }
    }
}

fn merged(document: &Document, mut parent: Node, problems: &Problems) -> Node {
    let child = document.node.as_ref();
    let over = Child { file: &document.file, node: child, problems };
    let NodeKind::Map(inherited) = &mut parent.kind else { return child.clone() };
    inherited.retain(|(key, _, _)| !OWN_KEYS.contains(&key.as_str()));
    take_out(over, inherited);
    let has_other_format = format_of(child).is_some_and(|format| format_in(inherited).is_some_and(|old| old != format));
    if has_other_format {
        // Frames of another format show nothing about this one.
        inherited.retain(|(key, _, _)| key != "payload" && key != "samples");
    }
    for (key, line, value) in entries(child) {
        if key == "extends" || key == "without" {
            continue;
        }
        let Some((_, old_line, old)) = inherited.iter_mut().find(|(name, _, _)| name == key) else {
            inherited.push((key.clone(), *line, value.clone()));
            continue;
        };
        (*old_line, *old) = (*line, merged_value(over, key, old, value));
    }
    Node { line: child.line, kind: parent.kind }
}

fn format_of(node: &Node) -> Option<String> {
    format_in(entries(node))
}

fn format_in(entries: &[Entry]) -> Option<String> {
    let (_, _, payload) = entries.iter().find(|(key, _, _)| key == "payload")?;
    scalar_of(payload, "format")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Origin, Profile, parse_profile};

    const PARENT: &str = "\
profile: acme-level
version: 4
kind: drain
vendor: Acme
model: Level 1
interval: 10m
payload: {format: json, time: {path: ts, unit: ms}}
points:
  - {name: level_mm, path: level, range: {min: 0, max: 5000}, required: true}
  - {name: battery_v, path: batt}
detectors:
  - {condition: surcharged, severity: major, threshold: {point: level_mm, above: 400, clear: 350}}
  - {condition: surcharged, severity: critical, threshold: {point: level_mm, above: 900, clear: 800}}
  - {condition: silent, severity: minor, silence: {missed: 3}}
samples:
  - {name: good, json: {level: 5, batt: 3.6}, readings: {level_mm: 5}}
  - {name: bad, text: '', error: not valid JSON}
";

    fn shelf(own: &[&str]) -> Shelf {
        let problems = Problems::default();
        let mut shelf = Shelf::default();
        shelf.add(Layer::Shipped, "device-profiles/acme-level.yaml", PARENT, &problems);
        for (number, text) in (1..).zip(own) {
            shelf.add(Layer::Own, &format!("own-{number}.yaml"), text, &problems);
        }
        assert_eq!(problems.into_sorted(), []);
        shelf
    }

    /// The last profile of these, with its parents, or the problems.
    fn read(own: &[&str]) -> Result<Profile, String> {
        let shelf = shelf(own);
        let document = shelf.documents().last().unwrap();
        let problems = Problems::default();
        let profile =
            shelf.resolved(document, &problems).and_then(|node| parse_profile(&document.file, &node, &problems));
        let profile = profile.filter(|_| problems.is_empty());
        profile.ok_or_else(|| problems.into_sorted().iter().map(|problem| format!("{problem}\n")).collect())
    }

    #[test]
    fn a_child_says_only_what_is_different() {
        let child = "profile: acme-level-deep\nextends: acme-level\nversion: 1\nmodel: Level 1 deep\n\
                     payload: {time: {path: t, unit: s}}\n\
                     points:\n  - {name: level_mm, path: lvl}\n  - {name: temperature_c, path: temp}\n\
                     detectors:\n  - {condition: surcharged, severity: minor, threshold: {point: level_mm, above: 9, clear: 8}}\n\
                     samples:\n  - {name: good, json: {lvl: 5}, readings: {level_mm: 5}}\n";
        let profile = read(&[child]).unwrap();
        assert_eq!((profile.name.as_str(), profile.version), ("acme-level-deep", 1));
        assert_eq!((profile.vendor.as_str(), profile.model.as_str()), ("Acme", "Level 1 deep"));
        let names: Vec<&str> = profile.points.iter().map(|point| point.name.as_ref()).collect();
        assert_eq!(names, ["level_mm", "battery_v", "temperature_c"]);
        let level = &profile.points[0];
        assert!(matches!(&level.origin, Origin::Json(paths) if paths[0].to_string() == "lvl"));
        assert_eq!((level.range.map(|range| range.max), level.required), (Some(5000.0), true));
        assert_eq!(profile.detectors.len(), 2, "one of its own, and the parent's silence");
        let samples: Vec<&str> = profile.samples.iter().map(|sample| sample.name.as_str()).collect();
        assert_eq!(samples, ["bad", "good"]);
    }

    #[test]
    fn a_place_takes_that_of_any_other_and_what_is_taken_out_is_gone() {
        let child = "profile: a\nextends: acme-level\nversion: 1\n\
                     without: {points: [battery_v], detectors: [silent], samples: [good]}\n\
                     points: [{name: distance_mm, path: gap}, {name: level_mm, mount_height_minus: distance_mm}]\n\
                     samples: [{name: mine, mount_height_mm: 9, json: {gap: 5}, readings: {level_mm: 4}}]\n";
        let profile = read(&[child]).unwrap();
        let names: Vec<&str> = profile.points.iter().map(|point| point.name.as_ref()).collect();
        assert_eq!(names, ["level_mm", "distance_mm"]);
        assert_eq!(profile.points[0].origin, Origin::MountHeightMinus(1));
        assert!(profile.conditions.iter().all(|condition| condition.name.as_ref() != "silent"));
    }

    #[test]
    fn an_own_profile_may_extend_the_shipped_one_whose_name_it_bears() {
        let same = "profile: acme-level\nextends: acme-level\nversion: 5\ninterval: 1h\n";
        assert_eq!(read(&[same]).unwrap().interval.unwrap().as_secs(), 3_600);
        let grandchild = "profile: b\nextends: acme-level\nversion: 1\nvendor: Other\n";
        let profile = read(&[same, grandchild]).unwrap();
        assert_eq!((profile.interval.unwrap().as_secs(), profile.vendor.as_str()), (3_600, "Other"));
    }

    #[test]
    fn the_ancestors_of_a_profile_are_named_with_their_versions() {
        let problems = Problems::default();
        let mut shelf = Shelf::default();
        shelf.add(Layer::Shipped, "a.yaml", "profile: a\nversion: 4\n", &problems);
        shelf.add(Layer::Own, "b.yaml", "profile: b\nversion: 2\nextends: a\n", &problems);
        shelf.add(Layer::Own, "a.yaml", "profile: a\nversion: 5\nextends: a\n", &problems);
        shelf.add(Layer::Own, "x.yaml", "profile: x\nversion: 1\nextends: y\n", &problems);
        shelf.add(Layer::Own, "y.yaml", "profile: y\nversion: 1\nextends: x\n", &problems);
        let ancestors = |at: usize| shelf.ancestors(&shelf.documents()[at]);
        let a = |version| ("a".to_owned(), version);
        assert_eq!((ancestors(0), ancestors(1), ancestors(2)), (vec![], vec![a(5), a(4)], vec![a(4)]));
        assert_eq!(ancestors(3).len(), PARENTS_MAX, "a circle ends");
    }

    #[test]
    fn chains_without_an_end_and_parents_that_are_not_there_are_named() {
        let check = |own: &[&str], words: &str| {
            let problems = read(own).unwrap_err();
            assert!(problems.contains(words), "{words}: {problems}");
        };
        check(&["profile: a\nextends: acme-levle\nversion: 1\n"], "own-1.yaml:2: extends = \"acme-levle\"");
        check(&["profile: a\nextends: acme-levle\nversion: 1\n"], "did you mean acme-level?");
        check(&["profile: a\nextends: b\nversion: 1\n", "profile: b\nextends: a\nversion: 1\n"], "b -> a -> b");
        check(&["profile: a\nextends: a\nversion: 1\n"], "there is no profile of this name");
        check(&["profile: a\nextends: [x]\nversion: 1\n"], "not the name of a profile");
        check(&["profile: a\nextends: acme-level\nversion: 1\nwithout: {points: [x]}\n"], "nothing of this name");
        check(&["profile: a\nextends: acme-level\nversion: 1\nwithout: {point: [x]}\n"], "did you mean points?");
        check(&["profile: a\nextends: acme-level\n"], "version");
        let chain: Vec<String> = (1..=10)
            .map(|number| format!("profile: p{number}\nextends: p{}\nversion: 1\n", number - 1))
            .map(|text| text.replace("extends: p0", "extends: acme-level"))
            .collect();
        let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
        check(&chain, "more than 8 profiles extend one another");
        assert!(read(&chain[..8]).is_ok());
    }

    #[test]
    fn problems_of_what_was_inherited_stand_at_the_line_of_extends() {
        let child = "profile: a\nversion: 1\nextends: acme-level\npoints: [{name: battery_v, range: {min: 9, max: 1}}]\n\
                     without: {points: [level_mm]}\n";
        let problems = read(&[child]).unwrap_err();
        assert!(problems.contains("own-1.yaml:3: detectors[0].threshold.point = \"level_mm\""), "{problems}");
        assert!(problems.contains("own-1.yaml:4: points[0].range"), "{problems}");
    }
}
