//! JSON payloads: one pass over the bytes picks the wanted places and skips the rest.
//!
//! The places of a profile are compiled into a tree. Plain payloads go through a scanner of our own ([`scan`]);
//! whatever is not plain is read by `serde_json`, so what is JSON and what is not is not decided here. Keys mostly come
//! in the order of the profile; the search for a key begins behind the last one that was found.

use std::fmt;

use kerbside_model::profile::{JsonPath, Origin, Point, TimeField};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::convert::{Converter, Raw};
use super::scan::scan;
use super::time::{TimeReader, Told};
use super::{Scratch, point_index};

/// Deeper nesting is refused by `serde_json` itself (128 levels); the tree of a profile is never deeper.
#[derive(Debug)]
pub(super) struct JsonPlan {
    nodes: Vec<Node>,
    time: Option<TimeReader>,
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
    Point { index: u16, rank: u8 },
    Time,
}

impl JsonPlan {
    pub(super) fn new(points: &[Point], time: Option<&TimeField>) -> JsonPlan {
        let mut plan = JsonPlan { nodes: vec![Node::default()], time: time.map(TimeReader::new) };
        for (position, point) in points.iter().enumerate() {
            let Origin::Json(paths) = &point.origin else { continue };
            for (rank, path) in paths.iter().enumerate() {
                let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
                plan.add(path, Leaf::Point { index: point_index(position), rank });
            }
        }
        if let Some(field) = time {
            plan.add(&field.path, Leaf::Time);
        }
        plan
    }

    fn add(&mut self, path: &JsonPath, leaf: Leaf) {
        let mut node = 0;
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
        self.nodes[node].leaves.push(leaf);
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
        let mut pick = Pick { plan: self, converters, scratch, time: Told::Nothing };
        scan(bytes, &mut pick)?;
        Some(pick.time)
    }

    /// The way for all JSON.
    pub(super) fn parse(&self, bytes: &[u8], converters: &[Converter], scratch: &mut Scratch) -> Result<Told, String> {
        let mut pick = Pick { plan: self, converters, scratch, time: Told::Nothing };
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let seed = NodeSeed { pick: &mut pick, node: 0 };
        seed.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| not_json(&error))?;
        Ok(pick.time)
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
}

impl<'a> Pick<'a> {
    /// What may stand inside the object at a node.
    pub(super) fn children(&self, node: usize) -> &'a [Child] {
        &self.plan.nodes[node].children
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
                Leaf::Time => {
                    self.time = match (raw, &plan.time) {
                        (Raw::Number(number), Some(reader)) => reader.number(number),
                        (Raw::Text(text), Some(reader)) => reader.text(text),
                        (Raw::Null, _) | (_, None) => Told::Nothing,
                        (Raw::Boolean(_) | Raw::Other, Some(_)) => Told::Unreadable,
                    };
                }
            }
        }
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
        Ok(())
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
