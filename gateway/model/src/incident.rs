//! Incidents (事件群): which alarms are taken together, because they have one cause.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::alarm::Severity;

/// What makes alarms one incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// 暴雨内涝: water at several places that are near one another in space and time.
    Storm,
    /// 成片失联: most devices on one parent fell silent together.
    Outage,
    /// 连片开盖: several covers near one another were opened in a short time.
    Covers,
    /// 同源故障: one condition at several devices on one parent, as the site declares it.
    Group,
}

impl IncidentKind {
    /// Every kind.
    pub const ALL: [IncidentKind; 4] =
        [IncidentKind::Storm, IncidentKind::Outage, IncidentKind::Covers, IncidentKind::Group];

    /// The kind's name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            IncidentKind::Storm => "storm",
            IncidentKind::Outage => "outage",
            IncidentKind::Covers => "covers",
            IncidentKind::Group => "group",
        }
    }
}

/// Level of a rainstorm signal (暴雨预警信号), from least to worst: 50 mm in 12 h, 6 h or 3 h, and 100 mm in 3 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RainLevel {
    /// 蓝色
    Blue,
    /// 黄色
    Yellow,
    /// 橙色
    Orange,
    /// 红色
    Red,
}

impl RainLevel {
    /// The level's name in JSON and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            RainLevel::Blue => "blue",
            RainLevel::Yellow => "yellow",
            RainLevel::Orange => "orange",
            RainLevel::Red => "red",
        }
    }
}

/// An official rainstorm signal: while it is in force, the first place under water is a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RainSignal {
    /// How bad.
    pub level: RainLevel,
    /// Until when.
    pub until: Timestamp,
}

/// How near alarms must be to one another, in space and time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linkage {
    /// An alarm joins within so long of the one before it; the incident ends after twice as long without a change.
    pub within: Duration,
    /// An alarm joins within so many metres of another one.
    pub reach_m: f64,
    /// A chain of alarms grows to so many metres across at most.
    pub extent_m: f64,
    /// An incident opens with so many devices.
    pub devices: u32,
}

/// One condition at several devices on one parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRule {
    /// The condition of the devices, such as `lamp_out`.
    pub condition: String,
    /// So many devices of one parent must have it at least ...
    pub devices: u32,
    /// ... and this share of them, from 0 to 1.
    pub share: f64,
    /// Raised within so long of one another.
    pub within: Duration,
    /// The condition of the parent that follows, such as `circuit_out`.
    pub becomes: String,
    /// Its English title.
    pub title: String,
    /// Its Chinese title.
    pub title_zh: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Which alarms are taken together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentPolicy {
    /// Water.
    pub storm: Linkage,
    /// Opened covers.
    pub covers: Linkage,
    /// Devices on one parent that must be silent together, at least ...
    pub outage_devices: u32,
    /// ... and this share of all devices on it, from 0 to 1.
    pub outage_share: f64,
    /// Conditions of several devices on one parent.
    pub groups: Vec<GroupRule>,
}

impl Default for IncidentPolicy {
    /// Storms: of 551 floods that rain caused at 191 sensors (FloodNet, New York City Open Data), an hour and 5 km
    /// gather the largest storm whole, 59 sensors, and leave tides apart. Covers: a crew of thieves works a street.
    /// Three is the least number that makes a group; three dark lamps are the filing rule for a circuit.
    fn default() -> IncidentPolicy {
        IncidentPolicy {
            storm: Linkage { within: Duration::from_secs(3_600), reach_m: 5_000.0, extent_m: 15_000.0, devices: 3 },
            covers: Linkage { within: Duration::from_secs(1_800), reach_m: 200.0, extent_m: 2_000.0, devices: 3 },
            outage_devices: 3,
            outage_share: 0.5,
            groups: vec![GroupRule {
                condition: "lamp_out".to_owned(),
                devices: 3,
                share: 0.0,
                within: Duration::from_secs(86_400),
                becomes: "circuit_out".to_owned(),
                title: "lamps out on one circuit".to_owned(),
                title_zh: "同一回路多灯不亮".to_owned(),
                severity: Severity::Major,
            }],
        }
    }
}
