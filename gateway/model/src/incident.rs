//! Incidents (事件群): which alarms are taken together, because they have one cause.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::alarm::Severity;
use crate::profile::JsonPath;

/// A rainstorm signal for longer than this was not lifted by mistake: signals are renewed within a day or two.
pub const RAIN_SIGNAL_MAX: Duration = Duration::from_secs(3 * 86_400);

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
    /// 数据源中断: the link of a source is down, and nobody hears its devices.
    Source,
}

impl IncidentKind {
    /// Every kind.
    pub const ALL: [IncidentKind; 5] =
        [IncidentKind::Storm, IncidentKind::Outage, IncidentKind::Covers, IncidentKind::Group, IncidentKind::Source];

    /// The kind's name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            IncidentKind::Storm => "storm",
            IncidentKind::Outage => "outage",
            IncidentKind::Covers => "covers",
            IncidentKind::Group => "group",
            IncidentKind::Source => "source",
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
    /// Every level, from least to worst.
    pub const ALL: [RainLevel; 4] = [RainLevel::Blue, RainLevel::Yellow, RainLevel::Orange, RainLevel::Red];

    /// The level's colour in Chinese, one character, as in 暴雨橙色预警.
    pub fn name_zh(self) -> char {
        match self {
            RainLevel::Blue => '蓝',
            RainLevel::Yellow => '黄',
            RainLevel::Orange => '橙',
            RainLevel::Red => '红',
        }
    }

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

/// A topic on which a rainstorm signal is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RainTopic {
    /// Name of the source, of type `mqtt` or `broker`.
    pub source: String,
    /// The topic, without wildcards.
    pub topic: String,
    /// Where the level stands in a JSON payload; `None` when the payload is the level itself.
    pub level: Option<JsonPath>,
    /// Where the end of the signal stands in a JSON payload, as RFC 3339 or seconds or milliseconds since 1970.
    pub until: Option<JsonPath>,
    /// A signal without an end of its own lasts so long after its message.
    pub lasts: Duration,
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
    /// What takes the devices together, when it is not their parent.
    pub tag: Option<TagPattern>,
}

/// One tag, or every tag that begins so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TagPattern {
    /// The tag, or its beginning.
    pub text: String,
    /// Whether others may begin with it; each of them is a group of its own.
    pub is_beginning: bool,
}

impl TagPattern {
    /// Whether a tag is meant.
    pub fn is(&self, tag: &str) -> bool {
        if self.is_beginning { tag.starts_with(&self.text) } else { tag == self.text }
    }
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
    /// A source whose link is down for so long is an incident with all its devices.
    pub source_after: Duration,
    /// Where rainstorm signals come from, besides the API.
    pub rain_topics: Vec<RainTopic>,
}

impl Default for IncidentPolicy {
    /// Storms: of 551 floods that rain caused at 191 sensors (FloodNet, New York City Open Data), an hour and 5 km
    /// gather the largest storm whole, 59 sensors, and leave tides apart. Covers: a crew of thieves works a street.
    /// Three is the least number that makes a group; three dark lamps are the filing rule for a circuit. Five minutes of
    /// a broker are its restart, and no outage.
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
                tag: None,
            }],
            source_after: Duration::from_secs(300),
            rain_topics: Vec::new(),
        }
    }
}
