//! Rule tests (规则测试): readings that are written down, and the alarms that must stand then.

use std::time::Duration;

use crate::Timestamp;
use crate::alarm::{AlarmState, Severity, Suppression};
use crate::input::MaskKind;
use crate::inventory::Device;
use crate::reading::{Flag, Value};

/// One rule test of a profile. It is no part of the profile's content: it is neither stored nor hashed.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    /// What it shows.
    pub name: String,
    /// File that it stands in.
    pub file: String,
    /// Line where it begins, from 1.
    pub line: usize,
    /// The time of the first readings.
    pub start: Timestamp,
    /// The device under test, and others that there are besides.
    pub devices: Vec<TestDevice>,
    /// Times in which alarms open no cases.
    pub masks: Vec<TestMask>,
    /// What must be true when, in the order of the file.
    pub checks: Vec<Check>,
}

/// A device of a rule test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestDevice {
    /// Id, mount height, interval, service and parent; the rest is empty.
    pub facts: Device,
    /// Distance between its readings.
    pub interval: Duration,
    /// Position of a point with what is read of it, interval by interval.
    pub series: Vec<(u16, Vec<Slot>)>,
}

impl TestDevice {
    /// How many intervals its longest series has.
    pub fn len(&self) -> usize {
        self.series.iter().map(|(_, slots)| slots.len()).max().unwrap_or(0)
    }

    /// Whether nothing is read of it at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is read of a point in one interval.
#[derive(Clone, Debug, PartialEq)]
pub enum Slot {
    /// The point is not in the message; there is no message when no point is.
    Absent,
    /// The device says that it has no value.
    Invalid,
    /// This value, in the point's own unit.
    Read(Value),
}

/// A time in which alarms open no cases.
#[derive(Clone, Debug, PartialEq)]
pub struct TestMask {
    /// Id of the device.
    pub device: String,
    /// What for.
    pub kind: MaskKind,
    /// Begin, from the start of the test.
    pub from: Duration,
    /// End, from the start of the test.
    pub until: Duration,
}

/// What must be true at one moment. What is `None` is not looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Line of the file, from 1.
    pub line: usize,
    /// When, from the start of the test.
    pub at: Duration,
    /// Id of the device.
    pub device: String,
    /// These alarms stand, and no others.
    pub standing: Option<Vec<ExpectedAlarm>>,
    /// These alarms were raised at this very moment, and no others.
    pub raised: Option<Vec<ExpectedAlarm>>,
    /// Alarms of these conditions were cleared at this very moment, and no others.
    pub cleared: Option<Vec<ExpectedAlarm>>,
    /// Cases of these conditions were opened up to then, and no others.
    pub cases: Option<Vec<String>>,
    /// Flags of the last readings, by position of the point.
    pub quality: Vec<(u16, Flag)>,
}

/// An alarm as a check names it. What is `None` may be anything.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedAlarm {
    /// Name of the condition.
    pub condition: String,
    /// Its severity.
    pub severity: Option<Severity>,
    /// Whether it is active or stale.
    pub state: Option<AlarmState>,
    /// Why it opened no case.
    pub suppressed: Option<Suppression>,
}
