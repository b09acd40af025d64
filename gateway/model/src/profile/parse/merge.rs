//! Lays what a child says over what it takes from its parent: the one meaning that `extends` and overrides share.
//!
//! Works on the nodes of files, before anything is checked, so that what comes out is read like a file that stands
//! alone. Points and conditions are found by their names and merged key by key; detectors by their name, or by what they
//! find and how; samples take the place of their namesakes.

use super::detectors::detector_rule_names;
use super::points::ORIGIN_KEYS;
use crate::document::{Node, NodeKind, Problem, Problems, Section, closest};

/// An entry of a map: key, line, value.
pub(super) type Entry = (String, usize, Node);

/// Lists whose elements are found one by one: the list, the key that names an element, and what becomes of it.
const LISTS: [(&str, &str, Merge); 4] = [
    ("points", "name", Merge::Keys),
    ("conditions", "name", Merge::Keys),
    ("detectors", "condition", Merge::Detectors),
    ("samples", "name", Merge::Replace),
];
/// Keys of a point below which keys are merged one by one.
const DEEP_KEYS: [&str; 2] = ["range", "quality"];
/// Keys of a rule of which one says what the others would: the child's takes the place of the parent's.
const ALTERNATIVES: [&[&str]; 4] = [
    &["above", "below", "beyond"],
    &["rising", "falling", "changing", "rises_to", "falls_to"],
    &["after", "missed"],
    &["any", "all"],
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    Keys,
    Replace,
    Detectors,
}

/// What is laid over a parent: the content of a file, or of an override in one.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub(super) file: &'a str,
    pub(super) node: &'a Node,
    pub(super) problems: &'a Problems,
}

/// Why a change of a detector aims at none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Miss {
    pub(super) value: String,
    pub(super) what: String,
    pub(super) mend: String,
}

/// The text of a key with a single value.
pub(super) fn scalar_of(node: &Node, wanted: &str) -> Option<String> {
    let (_, _, value) = entries(node).iter().find(|(key, _, _)| key == wanted)?;
    match &value.kind {
        NodeKind::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// The entries of a map; none of anything else.
pub(super) fn entries(node: &Node) -> &[Entry] {
    match &node.kind {
        NodeKind::Map(entries) => entries,
        _ => &[],
    }
}

/// The elements of a list under a key.
pub(super) fn items<'a>(node: &'a Node, wanted: &str) -> &'a [Node] {
    let found = entries(node).iter().find(|(key, _, _)| key == wanted);
    match found.map(|(_, _, value)| &value.kind) {
        Some(NodeKind::List(items)) => items,
        _ => &[],
    }
}

/// The node as if everything in it stood in one line.
pub(super) fn at_line(node: &Node, line: usize) -> Node {
    let kind = match &node.kind {
        NodeKind::Scalar { .. } => node.kind.clone(),
        NodeKind::List(items) => NodeKind::List(items.iter().map(|item| at_line(item, line)).collect()),
        NodeKind::Map(entries) => {
            NodeKind::Map(entries.iter().map(|(key, _, value)| (key.clone(), line, at_line(value, line))).collect())
        }
    };
    Node { line, kind }
}

/// Takes out what the child's `without` names.
pub(super) fn take_out(child: Child<'_>, inherited: &mut [Entry]) {
    let top = Section::top(child.file, child.node, child.problems);
    let Some(without) = top.section("without") else { return };
    for (list, by, merge) in LISTS {
        let names = without.texts(list);
        let Some((_, _, node)) = inherited.iter_mut().find(|(key, _, _)| key == list) else { continue };
        let NodeKind::List(items) = &mut node.kind else { continue };
        for name in names {
            let before = items.len();
            items.retain(|item| !is_called(item, by, merge, &name));
            if items.len() == before {
                let mend = "leave it out: the parent has none of this name";
                without.problem(list, &name, "there is nothing of this name to take out", mend);
            }
        }
    }
    without.finish();
}

/// Whether `without` means this element: a detector also by its own name.
fn is_called(item: &Node, by: &str, merge: Merge, name: &str) -> bool {
    let is_named = |key: &str| scalar_of(item, key).as_deref() == Some(name);
    is_named(by) || (merge == Merge::Detectors && is_named("name"))
}

/// Whether an element with this name stands in a list, as [`take_out`] would find it.
pub(super) fn has_called(node: &Node, list: &str, name: &str) -> bool {
    let Some((_, by, merge)) = LISTS.iter().find(|(known, _, _)| *known == list) else { return false };
    items(node, list).iter().any(|item| is_called(item, by, *merge, name))
}

/// What stands under a key when both have it.
pub(super) fn merged_value(child: Child<'_>, key: &str, old: &Node, new: &Node) -> Node {
    let list = LISTS.iter().find(|(name, _, _)| *name == key);
    match list {
        Some((_, _, Merge::Detectors)) => merged_detectors(child, old, new),
        Some((_, by, merge)) => merged_list(old, new, by, *merge),
        None if key == "payload" => merged_map(old, new),
        None => new.clone(),
    }
}

/// Elements of the child with those of the parent that have no namesake.
fn merged_list(parent: &Node, child: &Node, by: &str, merge: Merge) -> Node {
    let (NodeKind::List(old), NodeKind::List(new)) = (&parent.kind, &child.kind) else { return child.clone() };
    let mut items: Vec<Node> = Vec::with_capacity(old.len() + new.len());
    let is_named = |item: &Node, name: &Option<String>| name.is_some() && scalar_of(item, by) == *name;
    for item in old {
        let name = scalar_of(item, by);
        let mut namesakes = new.iter().filter(|other| is_named(other, &name));
        match (merge, namesakes.next()) {
            (_, None) => items.push(item.clone()),
            (Merge::Keys, Some(other)) => items.push(merged_map(item, other)),
            // They come with the child's.
            (Merge::Replace | Merge::Detectors, Some(_)) => {}
        }
    }
    for item in new {
        let name = scalar_of(item, by);
        let is_merged = merge == Merge::Keys && old.iter().any(|other| is_named(other, &name));
        if !is_merged {
            items.push(item.clone());
        }
    }
    Node { line: child.line, kind: NodeKind::List(items) }
}

/// The child's keys over the parent's. What says where a point comes from takes the place of all that said so.
fn merged_map(parent: &Node, child: &Node) -> Node {
    let (NodeKind::Map(old), NodeKind::Map(new)) = (&parent.kind, &child.kind) else { return child.clone() };
    let is_origin = |key: &str| ORIGIN_KEYS.contains(&key);
    let has_origin = new.iter().any(|(key, _, _)| is_origin(key));
    let mut entries: Vec<Entry> = Vec::with_capacity(old.len() + new.len());
    for entry in old {
        let given = new.iter().find(|(key, _, _)| *key == entry.0);
        match given {
            Some((key, line, value)) if DEEP_KEYS.contains(&key.as_str()) => {
                entries.push((key.clone(), *line, merged_deep(&entry.2, value)));
            }
            Some(_) => {}
            None if has_origin && is_origin(&entry.0) => {}
            None => entries.push(entry.clone()),
        }
    }
    let is_there = |key: &str, entries: &[Entry]| entries.iter().any(|(known, _, _)| known == key);
    let rest: Vec<Entry> = new.iter().filter(|(key, _, _)| !is_there(key, &entries)).cloned().collect();
    entries.extend(rest);
    Node { line: child.line, kind: NodeKind::Map(entries) }
}

/// The child's keys over the parent's, on every level of sections; a list takes the place of a list.
fn merged_deep(parent: &Node, child: &Node) -> Node {
    let (NodeKind::Map(old), NodeKind::Map(new)) = (&parent.kind, &child.kind) else { return child.clone() };
    let mut entries: Vec<Entry> = Vec::with_capacity(old.len() + new.len());
    for entry in old {
        match new.iter().find(|(key, _, _)| *key == entry.0) {
            Some((key, line, value)) => entries.push((key.clone(), *line, merged_deep(&entry.2, value))),
            None if is_displaced(&entry.0, new) => {}
            None => entries.push(entry.clone()),
        }
    }
    entries.extend(new.iter().filter(|(key, _, _)| !old.iter().any(|(known, _, _)| known == key)).cloned());
    Node { line: child.line, kind: NodeKind::Map(entries) }
}

fn is_displaced(key: &str, by: &[Entry]) -> bool {
    let given = |group: &&[&str]| by.iter().any(|(other, _, _)| group.contains(&other.as_str()));
    ALTERNATIVES.iter().filter(|group| group.contains(&key)).any(given)
}

/// What changes a detector of the parent is merged with it, key by key. A whole detector of a name of its own is one
/// more, and one without a name takes the place of all that find its condition, but for those that were changed.
fn merged_detectors(child: Child<'_>, parent: &Node, over: &Node) -> Node {
    let (NodeKind::List(old), NodeKind::List(new)) = (&parent.kind, &over.kind) else { return over.clone() };
    let mut changed: Vec<Option<Node>> = vec![None; old.len()];
    let mut added: Vec<Node> = Vec::new();
    for item in new {
        match aim(item, old) {
            Ok(Some(position)) => {
                let before = changed[position].as_ref().unwrap_or(&old[position]);
                changed[position] = Some(changed_detector(before, item));
            }
            Ok(None) => added.push(item.clone()),
            Err(Miss { value, what, mend }) => {
                let (file, key) = (child.file.to_owned(), "detectors".to_owned());
                child.problems.push(Problem { file, line: item.line, key, value, what, mend });
            }
        }
    }
    let unnamed = added.iter().filter(|item| scalar_of(item, "name").is_none());
    let replaced: Vec<String> = unnamed.filter_map(|item| scalar_of(item, "condition")).collect();
    let mut items: Vec<Node> = Vec::with_capacity(old.len() + added.len());
    for (item, changed) in old.iter().zip(changed) {
        let is_replaced = || scalar_of(item, "condition").is_some_and(|condition| replaced.contains(&condition));
        match changed {
            Some(changed) => items.push(changed),
            None if is_replaced() => {}
            None => items.push(item.clone()),
        }
    }
    items.extend(added);
    Node { line: over.line, kind: NodeKind::List(items) }
}

/// Another rule takes the place of the one that was there.
fn changed_detector(before: &Node, item: &Node) -> Node {
    let (Some(old), Some(new)) = (rule_of(before), rule_of(item)) else { return merged_deep(before, item) };
    if old == new {
        return merged_deep(before, item);
    }
    let kept = entries(before).iter().filter(|(key, _, _)| key != old).cloned().collect();
    merged_deep(&Node { line: before.line, kind: NodeKind::Map(kept) }, item)
}

/// The position of the parent's detector that an element changes; `None` for a detector that stands alone.
pub(super) fn aim(item: &Node, old: &[Node]) -> Result<Option<usize>, Miss> {
    let name = scalar_of(item, "name");
    let is_namesake = |other: &Node| name.is_some() && scalar_of(other, "name") == name;
    if let Some(position) = old.iter().position(is_namesake) {
        return Ok(Some(position));
    }
    let (condition, rule) = (scalar_of(item, "condition"), rule_of(item));
    let has_severity = entries(item).iter().any(|(key, _, _)| key == "severity");
    if (condition.is_some() && has_severity && rule.is_some()) || !matches!(item.kind, NodeKind::Map(_)) {
        return Ok(None);
    }
    if let Some(name) = name {
        return Err(no_name(name, old));
    }
    let Some(condition) = condition else {
        return Err(Miss {
            value: String::new(),
            what: "this detector has neither a name nor a condition".to_owned(),
            mend: "name the detector that is to be changed, such as `name: surcharged_watch`".to_owned(),
        });
    };
    let point = rule.and_then(|rule| point_of(item, rule));
    let fits = |other: &Node| {
        scalar_of(other, "condition").as_ref() == Some(&condition)
            && rule.is_none_or(|rule| rule_of(other) == Some(rule))
            && rule.is_none_or(|rule| point.is_none() || point_of(other, rule) == point)
    };
    let found: Vec<usize> = (0..old.len()).filter(|position| fits(&old[*position])).collect();
    match found.as_slice() {
        [one] => Ok(Some(*one)),
        [] => Err(no_condition(condition, rule, old)),
        several => Err(too_many(condition, several.iter().map(|position| &old[*position]))),
    }
}

fn no_name(name: String, old: &[Node]) -> Miss {
    let names: Vec<String> = old.iter().filter_map(|other| scalar_of(other, "name")).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let mend = match closest(&name, &known) {
        Some(known) => format!("did you mean {known}? a new detector needs condition, severity and a rule"),
        None if known.is_empty() => {
            "its detectors have no names: say `condition`, the rule and its point instead; a new one needs condition, \
             severity and a rule"
                .to_owned()
        }
        None => format!("names here: {}; a new detector needs condition, severity and a rule", known.join(", ")),
    };
    Miss { value: name, what: "there is no detector of this name to change".to_owned(), mend }
}

fn no_condition(condition: String, rule: Option<&str>, old: &[Node]) -> Miss {
    let mut names: Vec<String> = old.iter().filter_map(|other| scalar_of(other, "condition")).collect();
    names.sort();
    names.dedup();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let what = match rule {
        Some(rule) if names.contains(&condition) => {
            format!("no {rule} of this point finds this condition, so there is nothing to change")
        }
        _ => "no detector finds this condition, so there is nothing to change".to_owned(),
    };
    let hint = match closest(&condition, &known).filter(|known| *known != condition) {
        Some(known) => format!("did you mean {known}? "),
        None => String::new(),
    };
    Miss { value: condition, what, mend: format!("{hint}a new detector needs condition, severity and a rule") }
}

fn too_many<'a>(condition: String, found: impl Iterator<Item = &'a Node>) -> Miss {
    let names: Vec<Option<String>> = found.map(|other| scalar_of(other, "name")).collect();
    let known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
    let mend = match known.len() == names.len() {
        true => format!("write `name:` with one of {}", known.join(", ")),
        false => {
            "say the rule and its point, or give the profile's detectors names; or write them all anew, each with \
                  severity and rule"
                .to_owned()
        }
    };
    let what = format!("{} detectors find this condition so, and it is not said which is to be changed", names.len());
    Miss { value: condition, what, mend }
}

/// The rule that a detector has, or says something about.
fn rule_of(detector: &Node) -> Option<&'static str> {
    let has = |name: &&&str| entries(detector).iter().any(|(key, _, _)| key == **name);
    detector_rule_names().iter().find(has).copied()
}

/// The point that a rule of a detector watches.
pub(super) fn point_of(detector: &Node, rule: &str) -> Option<String> {
    let (_, _, section) = entries(detector).iter().find(|(key, _, _)| key == rule)?;
    scalar_of(section, "point")
}

/// The point that a detector watches, whatever its rule.
pub(super) fn watched_point(detector: &Node) -> Option<String> {
    point_of(detector, rule_of(detector)?)
}
