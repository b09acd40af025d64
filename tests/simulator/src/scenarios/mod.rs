//! Labelled scenarios: what devices send, and what is true of the street meanwhile.
//!
//! A scenario is devices of shipped profiles with their streams of readings, what people do (permits, masks, rainstorm
//! signals), the *events* that a gateway must find, and the *traps* in which it must find nothing. The runner
//! (`gateway/engine/tests/scenarios`) feeds them through a whole engine and counts events found, delays, false alarms
//! and false cases. Everything comes from a seed; streams are made while they are read, so that months of thousands of
//! devices take no memory. Nothing here knows the engine.
//!
//! To add a suite:
//!
//! 1. write `NAME.rs` beside this file with `pub(super) fn scenarios(extent: Extent, seed: u64) -> Vec<Scenario>`;
//!    `example.rs` is the one to copy;
//! 2. build each device's stream with [`Reports::of`]: a closure that says what the sensor reads at a moment, and a
//!    [`Radio`] that loses, delays and repeats its messages;
//! 3. push an [`Event`] for everything that really happens, and a [`Trap`] for everything that only looks like it;
//! 4. add the module and its [`Suite`] with floors to [`SUITES`].
//!
//! `cargo test -p kerbside-engine --test scenarios` runs [`Extent::Quick`] and holds the floors;
//! `KERBSIDE_SUITE=NAME cargo test -p kerbside-engine --test scenarios -- --ignored --nocapture` runs [`Extent::Full`] and
//! prints the tables. Alarms outside of events are false wherever they are, so a device without an event is a trap too.

mod battery;
mod covers;
mod drains;
mod example;
mod month;
mod poles;
mod reports;

use std::time::Duration;

use kerbside_model::incident::RainSignal;
use kerbside_model::inventory::Device;
use kerbside_model::{MaskKind, Timestamp};

pub use reports::{Radio, Reports};

/// How much of a suite is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Some seconds in a debug build: every kind of event and trap, a few times.
    Quick,
    /// As much as the figures of docs/benchmarks.md need.
    Full,
}

/// Scenarios of one kind, and what must come of them.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name, such as `covers`.
    pub name: &'static str,
    /// Makes its scenarios.
    pub make: fn(Extent, u64) -> Vec<Scenario>,
    /// What the quick extent must reach.
    pub floors: Floors,
}

/// The least that a suite must reach. Shares run from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    /// Share of the events of each kind that must be found in time.
    pub recall: f64,
    /// Kinds of events for which it is another share.
    pub recall_of: &'static [(&'static str, f64)],
    /// Share of the alarms of each condition that must be true.
    pub precision: f64,
    /// Conditions for which it is another share.
    pub precision_of: &'static [(&'static str, f64)],
    /// Most false cases in 1,000 days of one device.
    pub false_cases: f64,
}

/// Every suite, in the order of the tables.
pub const SUITES: &[Suite] = &[
    Suite { name: "example", make: example::scenarios, floors: example::FLOORS },
    Suite { name: "covers", make: covers::scenarios, floors: covers::FLOORS },
    Suite { name: "drains", make: drains::scenarios, floors: drains::FLOORS },
    Suite { name: "battery", make: battery::scenarios, floors: battery::FLOORS },
    Suite { name: "poles", make: poles::scenarios, floors: poles::FLOORS },
    Suite { name: "month", make: month::scenarios, floors: month::FLOORS },
];

/// One story with its truth.
#[derive(Debug)]
pub struct Scenario {
    /// What it is called in the tables.
    pub name: String,
    /// When the gateway begins to listen.
    pub start: Timestamp,
    /// How long it listens.
    pub length: Duration,
    /// Who sends.
    pub senders: Vec<Sender>,
    /// What people do, in any order.
    pub acts: Vec<Act>,
    /// What is really wrong.
    pub events: Vec<Event>,
    /// What only looks so.
    pub traps: Vec<Trap>,
}

/// From when until when; the end does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Begin.
    pub from: Timestamp,
    /// End.
    pub until: Timestamp,
}

/// A device and what it sends.
#[derive(Debug)]
pub struct Sender {
    /// Its row in the inventory. `profile` is set by the runner; an empty `address` is the id.
    pub facts: Device,
    /// Name of its profile in `device-profiles/`.
    pub profile: &'static str,
    /// Every point that any of its messages may hold.
    pub points: Vec<&'static str>,
    /// Its messages in the order of their arrival.
    pub messages: Messages,
}

/// A stream of messages in the order of their arrival.
pub struct Messages(pub Box<dyn Iterator<Item = Message> + Send>);

impl Messages {
    /// Messages that are written down; they are put in the order of their arrival.
    pub fn written(mut messages: Vec<Message>) -> Messages {
        messages.sort_by_key(|message| message.arrives_at);
        Messages(Box::new(messages.into_iter()))
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Messages")
    }
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0.next()
    }
}

/// One message of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The time that the device tells.
    pub observed_at: Timestamp,
    /// When the gateway has it: late, twice and out of order as the radio will have it.
    pub arrives_at: Timestamp,
    /// Its points by name; what is not here is not in the message.
    pub values: Vec<(&'static str, Said)>,
}

/// What a message says of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said {
    /// A number in the point's own unit.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A label of an enumeration.
    Label(&'static str),
    /// The device says that it has no value.
    Invalid,
}

/// What people do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A permit or maintenance at one device, told to the gateway when it begins.
    Mask {
        /// Id of the device.
        device: String,
        /// What for.
        kind: MaskKind,
        /// How long.
        span: Span,
    },
    /// An official rainstorm signal.
    RainSignal {
        /// When it is told.
        at: Timestamp,
        /// Level and end.
        signal: RainSignal,
    },
}

impl Act {
    /// When the gateway is told.
    pub fn at(&self) -> Timestamp {
        match self {
            Act::Mask { span, .. } => span.from,
            Act::RainSignal { at, .. } => *at,
        }
    }
}

/// Something that is really wrong.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its kind: a row of the table.
    pub kind: &'static str,
    /// Where; any of them may tell. Alarms and cases of their parents count as theirs, for incidents.
    pub devices: Vec<String>,
    /// It is found when any of these conditions is raised.
    pub any_of: Vec<&'static str>,
    /// These may be raised as well, and are neither counted nor false.
    pub also: Vec<&'static str>,
    /// When it begins.
    pub from: Timestamp,
    /// Found later than this it is missed.
    pub due_by: Timestamp,
    /// Alarms of its conditions up to here are true; often later than `due_by`.
    pub until: Timestamp,
    /// Whether an alarm is enough.
    pub wants: Wants,
}

/// What finds an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// An alarm, be it only a notice.
    Alarm,
    /// A case of its own, or the case of an incident.
    Case,
    /// Nothing: its conditions may be raised and need not, so it is in no table.
    Nothing,
}

/// A time in which nothing of some conditions may be raised, whatever the readings look like.
#[derive(Clone, Debug)]
pub struct Trap {
    /// What it looks like: a row of the table.
    pub kind: &'static str,
    /// Where.
    pub devices: Vec<String>,
    /// What may not be raised; empty for anything.
    pub conditions: Vec<&'static str>,
    /// When.
    pub span: Span,
}
