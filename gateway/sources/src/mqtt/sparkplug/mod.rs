//! Sparkplug B at a broker: what edge nodes say at their birth is remembered, so that every frame stands alone.
//!
//! Data of Sparkplug bear numbers, aliases, where the birth of their node gave names. Stored frames must be readable on
//! their own, after a restart, and in another order, so data are rewritten on arrival: each metric gets the name and the
//! datatype of the birth, and nothing else of it changes. Where something is missing the node is asked for its birth
//! (`Node Control/Rebirth`), which is the only thing that is ever published; it is asked until the birth comes, also when
//! it sends nothing more, because what was lost may have been the report of an alarm.
//!
//! **What survives a crash**: the births, in a file that is written at a birth, before the birth itself is handed over,
//! but at most once a second; what is lost of one second is asked for again.
//!
//! **Metrics**, by `source`: `kerbside_sparkplug_messages_total` (by `kind`), `kerbside_sparkplug_lost_total`,
//! `kerbside_sparkplug_unnamed_total`, `kerbside_sparkplug_rebirths_asked_total` (by `reason`),
//! `kerbside_sparkplug_nodes` (now).

mod asks;
mod file;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use kerbside_model::sparkplug::{Message, MessageKind, Topic, command_topic};
use kerbside_model::{FrameFlags, Timestamp};
use kerbside_runtime::Metrics;
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::asks::Pace;
use self::file::Stored;
use self::table::{Fault, Heard, Moment, Table, is_reached};
use super::MqttConfig;

/// Writing is shared by the births of so long: after an outage of the broker all nodes are born at once.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Nodes whose birth is wanted are looked through this often: one that has nothing to send must be asked too.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A node that sends its birth or the next of its data by itself so soon after the gateway came back is not asked.
const AWAY_GRACE: Duration = Duration::from_secs(30);

/// Whether a node is asked for its birth when something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebirth {
    /// By a command to the node, not to a device: it needs the right to publish on `spBv1.0/+/NCMD/+`.
    Ask,
    /// Never: for links on which nothing may be sent, and for one who only looks.
    Never,
}

/// What the nodes at one broker have said.
#[derive(Debug)]
pub(super) struct Sparkplug {
    source: String,
    rebirth: Rebirth,
    table: Table,
    file: Option<PathBuf>,
    /// Since when something is to be written, and when that was done last.
    is_unsaved: bool,
    saved_at: Option<Instant>,
    /// Whether writing failed the last time.
    has_failed: bool,
    pace: Pace,
    /// When nodes are looked through that are to be asked; `None` when no birth is wanted.
    ask_at: Option<Instant>,
    /// Until when nodes are not asked only because the gateway was away.
    away_until: Instant,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    births: IntCounter,
    data: IntCounter,
    deaths: IntCounter,
    lost: IntCounter,
    unnamed: IntCounter,
    asked: IntCounterVec,
    nodes: IntGauge,
}

/// A message as it is handed over.
pub(super) struct Taken<'a> {
    /// What the frame holds.
    pub(super) payload: Cow<'a, [u8]>,
    /// Topic and payload of what is to be published.
    pub(super) command: Option<(String, Vec<u8>)>,
}

impl Sparkplug {
    /// Reads what is remembered; a file that cannot be read is told and forgotten.
    pub(super) fn new(config: &MqttConfig, rebirth: Rebirth, metrics: &Metrics) -> Sparkplug {
        let file = config.state_folder.as_ref().map(|folder| folder.join(format!("sparkplug-{}.json", config.name)));
        let mut table = Table::default();
        if let Some(path) = &file {
            match file::read(path) {
                Ok(remembered) => table = remembered.unwrap_or_default(),
                Err(error) => {
                    let file = path.display();
                    warn!(source = %config.name, %file, %error, "the births of nodes are forgotten");
                }
            }
        }
        let mut nodes = Sparkplug::in_memory(&config.name, rebirth, metrics);
        nodes.counters.nodes.set(table.born() as i64);
        (nodes.table, nodes.file) = (table, file);
        nodes
    }

    /// One that knows no node, and will have forgotten all at the end of the process.
    pub(super) fn in_memory(source: &str, rebirth: Rebirth, metrics: &Metrics) -> Sparkplug {
        Sparkplug {
            source: source.to_owned(),
            rebirth,
            table: Table::default(),
            file: None,
            is_unsaved: false,
            saved_at: None,
            has_failed: false,
            pace: Pace::new(Instant::now()),
            ask_at: None,
            away_until: Instant::now(),
            counters: Counters::new(metrics, source),
        }
    }

    /// Takes a message as it comes. What is not of Sparkplug, or broken, stays as it is.
    pub(super) fn take<'a>(
        &mut self,
        topic: &str,
        payload: &'a [u8],
        flags: FrameFlags,
        (now, wall): (Instant, Timestamp),
    ) -> Taken<'a> {
        let as_it_is = Taken { payload: Cow::Borrowed(payload), command: None };
        let Some(topic) = Topic::parse(topic) else { return as_it_is };
        if matches!(topic.kind, MessageKind::Command | MessageKind::State) {
            return as_it_is;
        }
        let Ok(mut message) = Message::read(payload) else { return as_it_is };
        let heard = self.table.hear(&topic, &mut message, flags, Moment { now, rebirth: self.rebirth });
        self.count(&topic, &heard);
        let may_be_wanted = heard.fault.is_some() || heard.is_news && topic.kind == MessageKind::Death;
        if may_be_wanted && self.rebirth == Rebirth::Ask {
            self.ask_at = self.ask_at.or(Some(now + ASK_INTERVAL));
        }
        let payload = if heard.is_changed { Cow::Owned(message.to_bytes()) } else { Cow::Borrowed(payload) };
        let command = heard.fault.and_then(|fault| self.ask(&topic, fault, now, wall));
        Taken { payload, command }
    }

    fn count(&mut self, topic: &Topic<'_>, heard: &Heard) {
        match topic.kind {
            MessageKind::Birth => self.counters.births.inc(),
            MessageKind::Death => self.counters.deaths.inc(),
            _ => self.counters.data.inc(),
        }
        self.counters.lost.inc_by(u64::from(heard.lost));
        self.counters.unnamed.inc_by(u64::from(heard.is_unnamed));
        if heard.is_news {
            self.is_unsaved = true;
            self.counters.nodes.set(self.table.born() as i64);
            debug!(source = %self.source, group = topic.group, node = topic.node, device = topic.device, kind = ?topic.kind, "node heard");
        }
    }

    /// The command to a node that is to send its birth, when it may be asked now.
    fn ask(&mut self, topic: &Topic<'_>, fault: Fault, now: Instant, wall: Timestamp) -> Option<(String, Vec<u8>)> {
        if self.rebirth == Rebirth::Never || !self.pace.ask(self.table.asked(topic), now) {
            return None;
        }
        Some(self.command((topic.group, topic.node), fault, wall))
    }

    fn command(&self, (group, node): (&str, &str), fault: Fault, wall: Timestamp) -> (String, Vec<u8>) {
        let reason = fault.name();
        self.counters.asked.with_label_values(&[self.source.as_str(), reason]).inc();
        info!(source = %self.source, group, node, reason, "node asked for its birth");
        let command = Message::rebirth_command(u64::try_from(wall.0).unwrap_or_default());
        (command_topic(group, node), command.to_bytes())
    }

    /// The gateway is connected, and was not before: what nodes sent meanwhile at QoS 0 is lost, and one that reports by
    /// exception may not send it again for days.
    pub(super) fn connected(&mut self, now: Instant) {
        if self.rebirth == Rebirth::Never {
            return;
        }
        self.table.was_away();
        self.away_until = now + AWAY_GRACE;
        self.ask_at = self.table.is_wanting().then_some(now + ASK_INTERVAL);
    }

    /// Topics and payloads of what is to be published now, because births are wanted that did not come.
    pub(super) fn asks_due(&mut self, now: Instant, wall: Timestamp) -> Vec<(String, Vec<u8>)> {
        if self.ask_at.is_none_or(|ask_at| now < ask_at) {
            return Vec::new();
        }
        let nodes = self.table.ask_wanted(&mut self.pace, now, now >= self.away_until);
        self.ask_at = self.table.is_wanting().then_some(now + ASK_INTERVAL);
        let parts = nodes.iter().filter_map(|(key, fault)| Some((key.split_once('/')?, *fault)));
        parts.map(|(node, fault)| self.command(node, fault, wall)).collect()
    }

    /// When births are to be written or nodes to be asked, if there are any.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let is_wanted = self.is_unsaved && self.file.is_some();
        let save_at = is_wanted.then(|| self.saved_at.map_or_else(Instant::now, |saved_at| saved_at + SAVE_INTERVAL));
        [save_at, self.ask_at].into_iter().flatten().min()
    }

    /// Writes new births, if it is time to.
    pub(super) async fn save_if_due(&mut self) {
        let next = self.saved_at.map(|saved_at| saved_at + SAVE_INTERVAL);
        if self.is_unsaved && is_reached(next, Instant::now()) {
            self.save().await;
        }
    }

    /// Writes what is remembered. A disk that takes nothing does not keep us from receiving; what is then forgotten is
    /// told once.
    pub(super) async fn save(&mut self) {
        self.is_unsaved = false;
        let Some(path) = self.file.clone() else { return };
        let stored = Stored::of(&self.table);
        let saved = tokio::task::spawn_blocking(move || file::write(&path, &stored)).await;
        self.saved_at = Some(Instant::now());
        let error = match saved {
            Ok(Ok(())) => {
                self.has_failed = false;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(failure) => failure.to_string(),
        };
        self.is_unsaved = true;
        if !std::mem::replace(&mut self.has_failed, true) {
            warn!(source = %self.source, error, "the births of nodes are not remembered over a restart");
        }
    }
}

impl Counters {
    fn new(metrics: &Metrics, source: &str) -> Counters {
        let kinds = metrics.counters(
            "kerbside_sparkplug_messages_total",
            "Messages of Sparkplug nodes: births, data and deaths.",
            &["source", "kind"],
        );
        let counter = |name: &str, help: &str| metrics.counters(name, help, &["source"]).with_label_values(&[source]);
        Counters {
            births: kinds.with_label_values(&[source, "birth"]),
            data: kinds.with_label_values(&[source, "data"]),
            deaths: kinds.with_label_values(&[source, "death"]),
            lost: counter(
                "kerbside_sparkplug_lost_total",
                "Messages of Sparkplug nodes that never came, by the gaps in their counts.",
            ),
            unnamed: counter(
                "kerbside_sparkplug_unnamed_total",
                "Messages of Sparkplug nodes with values that no birth gave a name.",
            ),
            asked: metrics.counters(
                "kerbside_sparkplug_rebirths_asked_total",
                "Times that a Sparkplug node was asked for its birth.",
                &["source", "reason"],
            ),
            nodes: metrics
                .gauges("kerbside_sparkplug_nodes", "Sparkplug nodes that are born.", &["source"])
                .with_label_values(&[source]),
        }
    }
}
