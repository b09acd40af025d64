//! JSON payloads: one pass over the bytes picks the wanted places and skips the rest.
//!
//! The places of a profile are compiled into a tree. Plain payloads go through a scanner of our own ([`scan`]);
//! whatever is not plain is read by `serde_json`, so what is JSON and what is not is not decided here. Keys mostly come
//! in the order of the profile; the search for a key begins behind the last one that was found.

use std::fmt;

use kerbside_model::profile::{DocumentFormat, JsonPath, Newest, Origin, Point};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::convert::{Converter, Raw};
use super::scan::scan;
use super::time::{TimeReader, Told};
use super::{RowTime, Scratch, point_index};

/// Where the tree of the whole message begins.
const ROOT: usize = 0;

/// Deeper nesting is refused by `serde_json` itself (128 levels); the tree of a profile is never deeper.
#[derive(Debug)]
pub(super) struct JsonPlan {
    nodes: Vec<Node>,
    time: Option<TimeReader>,
    history: Option<HistoryPlan>,
}

/// The list whose elements are readings of other times.
#[derive(Debug)]
struct HistoryPlan {
    /// Where it stands.
    list: usize,
    /// The tree of one element.
    element: usize,
    time: TimeReader,
    newest: Newest,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<Child>,
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) key: String,
    pub(super) quoted: Quoted,
    pub(super) node: usize,
}

/// A short key as most devices write it, `"key":`, to be compared in one go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    /// The bytes behind one another, the first one lowest, zeros behind.
    text: u128,
    mask: u128,
    /// 0 for a key that is too long or that JSON cannot hold as it is.
    len: usize,
}

impl Quoted {
    const LEN_MAX: usize = size_of::<u128>();

    fn new(key: &str) -> Quoted {
        let is_plain = key.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        let quoted = format!("\"{key}\":");
        if !is_plain || quoted.len() > Quoted::LEN_MAX {
            return Quoted { text: 0, mask: 0, len: 0 };
        }
        let mut text = [0; Quoted::LEN_MAX];
        let mut mask = [0; Quoted::LEN_MAX];
        text[..quoted.len()].copy_from_slice(quoted.as_bytes());
        mask[..quoted.len()].fill(u8::MAX);
        Quoted { text: u128::from_le_bytes(text), mask: u128::from_le_bytes(mask), len: quoted.len() }
    }

    /// What stands behind the key, when it is the next one. Nobody says so near the end of the payload.
    #[inline]
    pub(super) fn strip<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let next = u128::from_le_bytes(*bytes.first_chunk()?);
        (self.len > 0 && next & self.mask == self.text).then(|| &bytes[self.len..])
    }
}

impl Child {
    fn new(key: &str, node: usize) -> Child {
        Child { key: key.to_owned(), quoted: Quoted::new(key), node }
    }
}

#[derive(Clone, Copy, Debug)]
enum Leaf {
    Point {
        index: u16,
        rank: u8,
    },
    Time,
    /// Of an element of the list of readings of other times.
    RowTime,
}

impl JsonPlan {
    pub(super) fn new(points: &[Point], format: &DocumentFormat) -> JsonPlan {
        let time = format.time.as_ref();
        let mut plan = JsonPlan { nodes: vec![Node::default()], time: time.map(TimeReader::new), history: None };
        plan.add_points(ROOT, points);
        if let Some(field) = time {
            plan.add(ROOT, &field.path, Leaf::Time);
        }
        if let Some(history) = &format.history {
            let list = history.path.as_ref().map_or(ROOT, |path| plan.node_at(ROOT, path));
            let element = plan.nodes.len();
            plan.nodes.push(Node::default());
            plan.add_points(element, points);
            plan.add(element, &history.time.path, Leaf::RowTime);
            let time = TimeReader::new(&history.time);
            plan.history = Some(HistoryPlan { list, element, time, newest: history.newest });
        }
        plan
    }

    fn add_points(&mut self, root: usize, points: &[Point]) {
        for (position, point) in points.iter().enumerate() {
            let Origin::Json(paths) = &point.origin else { continue };
            for (rank, path) in paths.iter().enumerate() {
                let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
                self.add(root, path, Leaf::Point { index: point_index(position), rank });
            }
        }
    }

    fn add(&mut self, root: usize, path: &JsonPath, leaf: Leaf) {
        let node = self.node_at(root, path);
        self.nodes[node].leaves.push(leaf);
    }

    fn node_at(&mut self, root: usize, path: &JsonPath) -> usize {
        let mut node = root;
        for key in &path.0 {
            node = match self.nodes[node].children.iter().find(|child| child.key == *key) {
                Some(child) => child.node,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.push(Child::new(key, child));
                    child
                }
            };
        }
        node
    }

    /// The elements of the list at a node, if they are readings of other times.
    fn history_at(&self, node: usize) -> Option<&HistoryPlan> {
        self.history.as_ref().filter(|history| history.list == node)
    }

    /// Reads a payload into `scratch`, which has just begun; gives the device's time as it stands.
    pub(super) fn read(&self, bytes: &[u8], converters: &[Converter], scratch: &mut Scratch) -> Result<Told, String> {
        if let Some(time) = self.scan(bytes, converters, scratch) {
            return Ok(time);
        }
        scratch.begin(converters.len());
        self.parse(bytes, converters, scratch)
    }

    /// The fast way; `None` when the payload is not plain enough for it.
    pub(super) fn scan(&self, bytes: &[u8], converters: &[Converter], scratch: &mut Scratch) -> Option<Told> {
        let mut pick = Pick::new(self, converters, scratch);
        scan(bytes, &mut pick)?;
        Some(pick.time)
    }

    /// The way for all JSON.
    pub(super) fn parse(&self, bytes: &[u8], converters: &[Converter], scratch: &mut Scratch) -> Result<Told, String> {
        let mut pick = Pick::new(self, converters, scratch);
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let seed = NodeSeed { pick: &mut pick, node: ROOT };
        let parsed = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        match (pick.refusal.take(), parsed) {
            (Some(refusal), _) => Err(refusal),
            (None, Err(error)) => Err(not_json(&error)),
            (None, Ok(())) => Ok(pick.time),
        }
    }

    /// Reads what another format made of a message, or a codec.
    pub(super) fn read_value(
        &self,
        document: &serde_json::Value,
        converters: &[Converter],
        scratch: &mut Scratch,
    ) -> Result<Told, String> {
        let mut pick = Pick::new(self, converters, scratch);
        let parsed = NodeSeed { pick: &mut pick, node: ROOT }.deserialize(document);
        match (pick.refusal.take(), parsed) {
            (Some(refusal), _) => Err(refusal),
            (None, Err(error)) => Err(error.to_string()),
            (None, Ok(())) => Ok(pick.time),
        }
    }
}

fn not_json(error: &serde_json::Error) -> String {
    format!("not valid JSON: {error}")
}

/// Takes the wanted values as they come.
pub(super) struct Pick<'a> {
    plan: &'a JsonPlan,
    converters: &'a [Converter],
    scratch: &'a mut Scratch,
    time: Told,
    /// Of the element that is being read.
    row_time: Told,
    /// Why the payload is refused although it is JSON.
    refusal: Option<String>,
}

impl<'a> Pick<'a> {
    fn new(plan: &'a JsonPlan, converters: &'a [Converter], scratch: &'a mut Scratch) -> Pick<'a> {
        Pick { plan, converters, scratch, time: Told::Nothing, row_time: Told::Nothing, refusal: None }
    }

    /// What may stand inside the object at a node.
    pub(super) fn children(&self, node: usize) -> &'a [Child] {
        &self.plan.nodes[node].children
    }

    /// Whether the profile has places inside this text, which then is JSON itself.
    pub(super) fn holds_places(&self, node: usize, text: &str) -> bool {
        let is_parent = !self.children(node).is_empty() || self.plan.history_at(node).is_some();
        is_parent && text.trim_start().starts_with(['{', '['])
    }

    /// The value at a node.
    pub(super) fn leaf(&mut self, node: usize, raw: Raw<'_>) {
        let plan = self.plan;
        for leaf in &plan.nodes[node].leaves {
            match *leaf {
                Leaf::Point { index, rank } => {
                    let converter = &self.converters[usize::from(index)];
                    self.scratch.keep(rank, index, |texts| converter.reading(index, raw, texts));
                }
                Leaf::Time => self.time = plan.time.as_ref().map_or(Told::Nothing, |reader| reader.raw(raw)),
                Leaf::RowTime => {
                    self.row_time = plan.history.as_ref().map_or(Told::Nothing, |history| history.time.raw(raw));
                }
            }
        }
    }

    /// Ends an element of the list of readings of other times.
    fn end_row<E: Error>(&mut self) -> Result<(), E> {
        let time = std::mem::take(&mut self.row_time);
        self.scratch.end_row(RowTime::Told(time)).map_err(|refusal| self.refuse(refusal))
    }

    /// Makes the newest element of the list the frame's own readings.
    fn end_list(&mut self, newest: Newest) {
        let position = match (newest, self.scratch.history_len()) {
            (Newest::None, _) | (_, 0) => return,
            (Newest::First, _) => 0,
            (Newest::Last, count) => count - 1,
        };
        if let RowTime::Told(told) = self.scratch.promote(position) {
            self.time = told;
        }
    }

    /// Stops reading; the error itself says nothing.
    fn refuse<E: Error>(&mut self, refusal: String) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }
}

/// Reads the value at one node of the tree.
struct NodeSeed<'a, 'b> {
    pick: &'a mut Pick<'b>,
    node: usize,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, boolean: bool) -> Result<(), E> {
        self.pick.leaf(self.node, Raw::Boolean(boolean));
        Ok(())
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<(), E> {
        self.pick.leaf(self.node, Raw::Number(integer as f64));
        Ok(())
    }

    fn visit_u64<E: Error>(self, integer: u64) -> Result<(), E> {
        self.pick.leaf(self.node, Raw::Number(integer as f64));
        Ok(())
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<(), E> {
        self.pick.leaf(self.node, Raw::Number(float));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.pick.leaf(self.node, Raw::Text(text));
        if !self.pick.holds_places(self.node, text) {
            return Ok(());
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let seed = NodeSeed { pick: &mut *self.pick, node: self.node };
        let inner = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        match inner {
            Ok(()) => Ok(()),
            Err(_) if self.pick.refusal.is_some() => Err(E::custom("refused")),
            Err(error) => Err(self.pick.refuse(format!("the text inside the message is {}", not_json(&error)))),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.pick.leaf(self.node, Raw::Null);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.pick.leaf(self.node, Raw::Other);
        let mut hint = 0;
        loop {
            let children = &self.pick.plan.nodes[self.node].children;
            match map.next_key_seed(KeySeed { children, hint })? {
                None => return Ok(()),
                Some(None) => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(Some(position)) => {
                    let node = children[position].node;
                    hint = position + 1;
                    map.next_value_seed(NodeSeed { pick: &mut *self.pick, node })?;
                }
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.pick.leaf(self.node, Raw::Other);
        if let Some(HistoryPlan { element, newest, .. }) = self.pick.plan.history_at(self.node) {
            loop {
                self.pick.scratch.begin_row();
                let seed = NodeSeed { pick: &mut *self.pick, node: *element };
                let more = elements.next_element_seed(seed)?.is_some();
                self.pick.end_row()?;
                if !more {
                    self.pick.end_list(*newest);
                    return Ok(());
                }
            }
        }
        let mut position = 0_usize;
        loop {
            let children = &self.pick.plan.nodes[self.node].children;
            let child = children.iter().find(|child| child.key.parse() == Ok(position)).map(|child| child.node);
            let more = match child {
                Some(node) => elements.next_element_seed(NodeSeed { pick: &mut *self.pick, node })?.is_some(),
                None => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            position += 1;
        }
    }
}

/// Finds which child a key names, without a copy of the key.
struct KeySeed<'a> {
    children: &'a [Child],
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        // As bytes: a key is only compared, so nobody needs to know whether it is UTF-8.
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        self.visit_bytes(key.as_bytes())
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Option<usize>, E> {
        let is_key = |position: &usize| self.children[*position].key.as_bytes() == key;
        let hint = self.hint.min(self.children.len());
        Ok((hint..self.children.len()).chain(0..hint).find(is_key))
    }
}

/// The text (or number) at one place of a payload; `None` when the place is not there.
pub fn find_text(bytes: &[u8], path: &JsonPath) -> Result<Option<String>, String> {
    let document: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    Ok(match path.find(&document) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        _ => None,
    })
}
