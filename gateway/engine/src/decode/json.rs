//! JSON payloads: one pass over the bytes picks the wanted places and skips the rest.
//!
//! The places of a profile are compiled into a tree. `serde_json` drives the parse, so what is JSON and what is not
//! is not decided here. Keys mostly come in the order of the profile; the search for a key begins behind the last one
//! that was found.

use std::fmt;

use kerbside_model::Timestamp;
use kerbside_model::profile::{JsonPath, Origin, Point, TimeField, TimeUnit};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::convert::{Converter, Raw};
use super::{Scratch, point_index, time};

/// Deeper nesting is refused by `serde_json` itself (128 levels); the tree of a profile is never deeper.
#[derive(Debug)]
pub(super) struct JsonPlan {
    nodes: Vec<Node>,
    time: Option<TimeUnit>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(String, usize)>,
    leaves: Vec<Leaf>,
}

#[derive(Clone, Copy, Debug)]
enum Leaf {
    Point { index: u16, rank: u8 },
    Time,
}

impl JsonPlan {
    pub(super) fn new(points: &[Point], time: Option<&TimeField>) -> JsonPlan {
        let mut plan = JsonPlan { nodes: vec![Node::default()], time: time.map(|field| field.unit) };
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
            node = match self.nodes[node].children.iter().find(|(name, _)| name == key) {
                Some((_, child)) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.push((key.clone(), child));
                    child
                }
            };
        }
        self.nodes[node].leaves.push(leaf);
    }

    /// Reads a payload into `scratch`; gives the device's time as it stands.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        converters: &[Converter],
        scratch: &mut Scratch,
    ) -> Result<Option<Timestamp>, String> {
        let mut pick = Pick { plan: self, converters, scratch, time: None };
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let seed = NodeSeed { pick: &mut pick, node: 0 };
        seed.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| not_json(&error))?;
        Ok(pick.time)
    }
}

fn not_json(error: &serde_json::Error) -> String {
    format!("not valid JSON: {error}")
}

struct Pick<'a> {
    plan: &'a JsonPlan,
    converters: &'a [Converter],
    scratch: &'a mut Scratch,
    time: Option<Timestamp>,
}

impl Pick<'_> {
    fn leaf(&mut self, node: usize, raw: Raw<'_>) {
        let plan = self.plan;
        for leaf in &plan.nodes[node].leaves {
            match *leaf {
                Leaf::Point { index, rank } => {
                    let reading = self.converters[usize::from(index)].reading(index, raw);
                    self.scratch.keep(rank, reading);
                }
                Leaf::Time => {
                    self.time = match (raw, plan.time) {
                        (Raw::Number(number), Some(unit)) => time::from_number(number, unit),
                        (Raw::Text(text), Some(unit)) => time::from_text(text, unit),
                        _ => None,
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
                    let node = children[position].1;
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
            let child = children.iter().find(|(key, _)| key.parse() == Ok(position)).map(|(_, node)| *node);
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
    children: &'a [(String, usize)],
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
        let is_key = |position: &usize| self.children[*position].0.as_bytes() == key;
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
