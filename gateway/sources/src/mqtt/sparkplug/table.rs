//! What the births of Sparkplug nodes have said: names and datatypes of metrics by their aliases.
//!
//! Turns data that bear only aliases into data that bear names, and says what is missing for it. A death ends a session
//! and takes its aliases with it. After a gap in the count of a node that is explained by a few lost data the names are
//! still used while it is asked for its birth. Where the count went back, a lost birth is the likelier cause (it counts
//! from 0), and aliases may stand for other metrics now: a value under a wrong name could open a wrong case, so nothing is
//! named by an alias until the birth comes, but for a minute at most, or a node that answers nobody would be lost. A value
//! that does not fit the datatype of its name is left unnamed, and so is one whose alias the birth gave twice.
//!
//! **Limits**: 4096 nodes and 32 MiB; who was heard least recently is forgotten, and asked for its birth when it is heard.
//! What survives a crash is in `file`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kerbside_model::FrameFlags;
use kerbside_model::sparkplug::{Content, Message, MessageKind, Metric, Topic, datatype};
use tokio::time::Instant;

use super::Rebirth;
use super::asks::{Asked, Pace};

/// A gateway serves a district; each node is a box with devices behind it.
pub(super) const NODES_MAX: usize = 4_096;
/// Room for 300,000 metrics with usual names.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a metric takes in memory beside its name: its places in two tables.
const METRIC_BYTES: usize = 64;
/// A message is one that comes again when it lies less than half the count behind.
const BEHIND_MAX: u8 = 128;

/// A message that lies so little behind was overtaken on its way, as in clusters of brokers.
const LATE_MAX: u8 = 2;
/// What one message may grow by the names that it is given: with a long name behind it an alias of four bytes would
/// otherwise make gigabytes of a message.
const NAMED_BYTES_MAX: usize = 1024 * 1024;
/// Group, node and device together; the inventory's addresses are shorter (128 bytes).
const ADDRESS_BYTES_MAX: usize = 512;
/// How long nothing is named by an alias after the count of a node went back: it was asked three times by then.
const DOUBT_MAX: Duration = Duration::from_secs(60);

/// When a message is heard, and whether its node can be asked for what is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) rebirth: Rebirth,
}

/// Every node that was heard, by `group/node`.
#[derive(Debug, Default)]
pub(super) struct Table {
    nodes: HashMap<String, Node>,
    bytes: usize,
    /// Counts what is heard, so that the node which was not heard for longest is known.
    heard: u64,
}

/// One edge node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Ties a death to the birth; `None` when the birth had none.
    pub(super) bd_seq: Option<u64>,
    /// The time in the birth.
    pub(super) born_at: Option<u64>,
    /// The count of the last message.
    pub(super) seq: Option<u8>,
    /// Whether its session is known: it was born and did not die since.
    pub(super) is_born: bool,
    /// The metrics of each device that was born; those of the node itself under an empty name.
    pub(super) devices: BTreeMap<String, Names>,
    /// When it was asked for its birth.
    pub(super) asked: Option<Asked>,
    /// Why its birth is wanted, until it comes.
    pub(super) wanted: Option<Fault>,
    /// Until when its aliases may stand for something else.
    pub(super) in_doubt_until: Option<Instant>,
    /// The number of its last message among those of all nodes.
    pub(super) heard: u64,
}

/// The metrics of one device.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) by_alias: HashMap<u64, Known>,
    pub(super) by_name: HashMap<Arc<str>, u32>,
    bytes: usize,
}

/// What an alias stands for.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: Arc<str>,
    pub(super) datatype: u32,
}

/// Why a node is to be asked for its birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Messages of it did not come.
    Gap,
    /// It sends data, and its birth or its device's was not heard.
    NotBorn,
    /// It uses an alias that its birth did not name, or for another type of value.
    UnknownAlias,
    /// The gateway was away, and nothing says that it missed nothing.
    Away,
}

impl Fault {
    /// The reason's name in metrics and in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Gap => "gap",
            Fault::NotBorn => "not_born",
            Fault::UnknownAlias => "unknown_alias",
            Fault::Away => "away",
        }
    }
}

/// What was learnt from a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What is wrong, if anything.
    pub(super) fault: Option<Fault>,
    /// Messages of the node that never came.
    pub(super) lost: u8,
    /// Whether the message was given names, datatypes or a mark.
    pub(super) is_changed: bool,
    /// Whether it still has metrics without names.
    pub(super) is_unnamed: bool,
    /// Whether the table knows something that it must not forget.
    pub(super) is_news: bool,
}

impl Table {
    /// Takes a message, and gives its metrics their names.
    pub(super) fn hear(
        &mut self,
        topic: &Topic<'_>,
        message: &mut Message,
        flags: FrameFlags,
        moment: Moment,
    ) -> Heard {
        let is_long = topic.group.len() + topic.node.len() + topic.device.map_or(0, str::len) > ADDRESS_BYTES_MAX;
        if matches!(topic.kind, MessageKind::Command | MessageKind::State) || flags.retained || is_long {
            return Heard::default();
        }
        let key = key_of(topic);
        let before = self.prepare(&key, topic.kind);
        let mut heard = match (topic.kind, topic.device) {
            (MessageKind::Birth, None) => self.node_birth(&key, message, flags),
            (MessageKind::Birth, Some(device)) => self.device_birth(&key, device, message, (flags, moment)),
            (MessageKind::Death, None) => self.node_death(&key, message, flags),
            (MessageKind::Death, Some(device)) => {
                let node = self.node(&key);
                let mut heard = node.count(message, flags, moment);
                heard.is_news = node.devices.remove(device).is_some();
                heard
            }
            (_, device) => self.node(&key).data(device.unwrap_or_default(), message, flags, moment),
        };
        if let Some(before) = before {
            self.weigh(&key, before);
        }
        heard.fault = heard.fault.filter(|_| !flags.redelivered);
        if let Some((fault, node)) = heard.fault.zip(self.nodes.get_mut(&key)) {
            node.wanted = Some(fault);
        }
        heard
    }

    /// The gateway was away: of no node is it known that nothing was missed.
    pub(super) fn was_away(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.is_born) {
            node.wanted = node.wanted.or(Some(Fault::Away));
        }
    }

    /// Whether the birth of some node is wanted.
    pub(super) fn is_wanting(&self) -> bool {
        self.nodes.values().any(|node| node.wanted.is_some())
    }

    /// Asks every node whose birth is wanted and that may be asked now: which, and why. Those that were only not heard since
    /// the gateway was away may have time yet.
    pub(super) fn ask_wanted(&mut self, pace: &mut Pace, now: Instant, with_away: bool) -> Vec<(String, Fault)> {
        let mut found = Vec::new();
        for (key, node) in &mut self.nodes {
            let Some(fault) = node.wanted.filter(|fault| with_away || *fault != Fault::Away) else { continue };
            if !pace.ask(&mut node.asked, now) {
                continue;
            }
            if node.asked.is_some_and(|asked| asked.is_in_vain()) {
                node.wanted = None;
            }
            found.push((key.clone(), fault));
        }
        found
    }

    /// How many nodes are born.
    pub(super) fn born(&self) -> usize {
        self.nodes.values().filter(|node| node.is_born).count()
    }

    /// Every node with its `group/node`.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.nodes.iter()
    }

    /// Takes back a node that was remembered.
    pub(super) fn restore(&mut self, key: &str, node: Node) {
        let before = self.node(key).bytes();
        self.nodes.insert(key.to_owned(), node);
        self.weigh(key, before);
    }

    /// When the node was asked for its birth.
    pub(super) fn asked(&mut self, topic: &Topic<'_>) -> &mut Option<Asked> {
        &mut self.node(&key_of(topic)).asked
    }

    fn node_birth(&mut self, key: &str, message: &Message, flags: FrameFlags) -> Heard {
        let node = self.node(key);
        let is_same = node.is_born && (node.bd_seq, node.born_at) == (message.bd_seq(), message.timestamp);
        if is_same && flags.redelivered {
            return Heard::default();
        }
        node.bd_seq = message.bd_seq();
        node.born_at = message.timestamp;
        node.seq = seq_of(message);
        node.is_born = true;
        (node.wanted, node.in_doubt_until) = (None, None);
        node.devices = BTreeMap::from([(String::new(), Names::of(message))]);
        if let Some(asked) = &mut node.asked {
            asked.answered();
        }
        Heard { is_news: true, ..Heard::default() }
    }

    fn device_birth(
        &mut self,
        key: &str,
        device: &str,
        message: &Message,
        (flags, moment): (FrameFlags, Moment),
    ) -> Heard {
        let node = self.node(key);
        let mut heard = node.count(message, flags, moment);
        if !node.is_born {
            heard.fault = Some(Fault::NotBorn);
        }
        node.devices.insert(device.to_owned(), Names::of(message));
        Heard { is_news: true, ..heard }
    }

    /// The death of an earlier session is marked: a node that came back within its keep-alive is there.
    /// Where nothing ties a death to the birth, or it came before and the birth behind it will not come again, the node is
    /// asked whether it is there after all.
    fn node_death(&mut self, key: &str, message: &mut Message, flags: FrameFlags) -> Heard {
        let Some(node) = self.nodes.get_mut(key) else { return Heard::default() };
        let is_stale = node.is_born && node.bd_seq.zip(message.bd_seq()).is_some_and(|(birth, death)| birth != death);
        if is_stale {
            message.is_stale = Some(true);
            return Heard { is_changed: true, ..Heard::default() };
        }
        let is_sure = !flags.redelivered && node.bd_seq.is_some() && message.bd_seq().is_some();
        node.wanted = (node.is_born && !is_sure).then_some(Fault::NotBorn);
        (node.is_born, node.seq) = (false, None);
        node.devices.clear();
        Heard { is_news: true, ..Heard::default() }
    }

    /// The node, which is a new one when it was not heard before.
    fn node(&mut self, key: &str) -> &mut Node {
        self.heard += 1;
        if !self.nodes.contains_key(key) {
            if self.nodes.len() >= NODES_MAX {
                self.forget_one(key);
            }
            self.nodes.insert(key.to_owned(), Node::default());
            self.bytes += key.len() + size_of::<Node>();
        }
        let node = self.nodes.get_mut(key).expect("it was put there if it was not");
        node.heard = self.heard;
        node
    }

    /// What a node weighs before a message that changes that: a birth, which makes a node of its own, or a death.
    fn prepare(&mut self, key: &str, kind: MessageKind) -> Option<usize> {
        match kind {
            MessageKind::Birth => Some(self.node(key).bytes()),
            MessageKind::Death => self.nodes.get(key).map(Node::bytes),
            MessageKind::Data | MessageKind::Command | MessageKind::State => None,
        }
    }

    /// Counts what a node weighs now, and makes room.
    fn weigh(&mut self, key: &str, before: usize) {
        let after = self.nodes.get(key).map_or(0, Node::bytes);
        self.bytes = (self.bytes + after).saturating_sub(before);
        while self.bytes > BYTES_MAX {
            if self.forget_one(key) {
                continue;
            }
            // It alone is more than there is room for.
            let Some(node) = self.nodes.get_mut(key) else { return };
            node.devices.clear();
            self.bytes = key.len() + node.bytes();
            return;
        }
    }

    /// Forgets the node that was not heard for longest, but not this one. Whether there was another.
    fn forget_one(&mut self, key: &str) -> bool {
        let others = self.nodes.iter().filter(|(other, _)| *other != key);
        let Some(oldest) = others.min_by_key(|(_, node)| node.heard).map(|(oldest, _)| oldest.clone()) else {
            return false;
        };
        let weight = self.nodes.remove(&oldest).map_or(0, |node| oldest.len() + node.bytes());
        self.bytes = self.bytes.saturating_sub(weight);
        true
    }
}

impl Node {
    fn bytes(&self) -> usize {
        let of_devices = self.devices.iter().map(|(device, names)| device.len() + size_of::<Names>() + names.bytes);
        size_of::<Node>() + of_devices.sum::<usize>()
    }

    fn data(&mut self, device: &str, message: &mut Message, flags: FrameFlags, moment: Moment) -> Heard {
        let mut heard = self.count(message, flags, moment);
        let names = self.devices.get(device);
        if !self.is_born || names.is_none() {
            heard.fault = Some(Fault::NotBorn);
        }
        let is_in_doubt = self.in_doubt_until.is_some_and(|until| moment.now < until);
        let mut room = if is_in_doubt { 0 } else { NAMED_BYTES_MAX };
        for metric in &mut message.metrics {
            match names.map_or(Named::No, |names| names.name(metric, &mut room)) {
                Named::Already => {}
                Named::Now => heard.is_changed = true,
                Named::No if metric.name.is_some() => {}
                Named::No => {
                    heard.is_unnamed = true;
                    heard.fault = heard.fault.or(Some(Fault::UnknownAlias));
                }
            }
        }
        heard
    }

    /// Compares the count of a message with the one before. A message that comes again, or late, says nothing.
    fn count(&mut self, message: &Message, flags: FrameFlags, moment: Moment) -> Heard {
        let Some(seq) = seq_of(message) else { return Heard::default() };
        let Some(last) = self.seq else {
            self.seq = Some(seq);
            return Heard::default();
        };
        let (ahead, behind) = (seq.wrapping_sub(last), last.wrapping_sub(seq));
        if behind == 0 || flags.redelivered && behind < BEHIND_MAX {
            return Heard::default();
        }
        self.seq = Some(seq);
        if ahead == 1 {
            self.wanted = self.wanted.filter(|fault| *fault != Fault::Away);
            return Heard::default();
        }
        // A lost birth and what followed it are fewer messages than those up to 255 and on.
        let is_mute = self.asked.is_some_and(|asked| asked.is_mute());
        let is_in_doubt = self.in_doubt_until.is_some_and(|until| moment.now < until);
        if seq < last && behind > LATE_MAX && moment.rebirth == Rebirth::Ask && !is_mute && !is_in_doubt {
            self.in_doubt_until = Some(moment.now + DOUBT_MAX);
        }
        Heard { fault: Some(Fault::Gap), lost: ahead - 1, ..Heard::default() }
    }
}

/// What became of a metric.
enum Named {
    Already,
    Now,
    No,
}

impl Names {
    fn of(message: &Message) -> Names {
        let metrics = message.metrics.iter();
        Names::new(
            metrics.filter_map(|metric| {
                Some((metric.name.as_deref()?, metric.alias, metric.datatype.unwrap_or_default()))
            }),
        )
    }

    /// Metrics with name, alias and datatype.
    pub(super) fn new<'a>(metrics: impl Iterator<Item = (&'a str, Option<u64>, u32)>) -> Names {
        let mut names = Names::default();
        let mut ambiguous = HashSet::new();
        for (name, alias, datatype) in metrics {
            let name: Arc<str> = Arc::from(name);
            names.bytes += name.len() + METRIC_BYTES;
            if let Some(alias) = alias {
                let known = names.by_alias.insert(alias, Known { name: Arc::clone(&name), datatype });
                if known.is_some_and(|known| known.name != name) {
                    ambiguous.insert(alias);
                }
            }
            names.by_name.insert(name, datatype);
        }
        names.by_alias.retain(|alias, _| !ambiguous.contains(alias));
        names
    }

    /// Gives a metric what the birth said of it, as long as there is room for names.
    fn name(&self, metric: &mut Metric, room: &mut usize) -> Named {
        if let Some(name) = &metric.name {
            let known = self.by_name.get(name.as_str()).filter(|_| metric.datatype.is_none());
            metric.datatype = known.copied().or(metric.datatype);
            return if known.is_some() { Named::Now } else { Named::Already };
        }
        let Some(known) = metric.alias.and_then(|alias| self.by_alias.get(&alias)) else { return Named::No };
        let Some(room_left) = room.checked_sub(known.name.len().max(1)) else { return Named::No };
        let said = metric.datatype;
        metric.datatype = said.or(Some(known.datatype));
        let is_single = (datatype::INT8..=datatype::UUID).contains(&known.datatype);
        if is_single && metric.content() == Content::Other {
            metric.datatype = said;
            return Named::No;
        }
        metric.name = Some(known.name.to_string());
        *room = room_left;
        Named::Now
    }
}

fn key_of(topic: &Topic<'_>) -> String {
    format!("{}/{}", topic.group, topic.node)
}

/// The count of a message; one beyond 255 is none.
fn seq_of(message: &Message) -> Option<u8> {
    message.seq.and_then(|seq| u8::try_from(seq).ok())
}

/// Whether a moment has come.
pub(super) fn is_reached(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_none_or(|moment| moment <= now)
}
