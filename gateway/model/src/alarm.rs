//! Alarms: a condition of one device that stands.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::evidence::Evidence;

/// How much harm a condition can do, worst first in meaning and highest in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// 提示: worth knowing, opens no case by default.
    Notice,
    /// 一般: to be mended in its turn.
    Minor,
    /// 重要: to be mended today.
    Major,
    /// 紧急: life at risk.
    Critical,
}

impl Severity {
    /// Every severity, from least to worst.
    pub const ALL: [Severity; 4] = [Severity::Notice, Severity::Minor, Severity::Major, Severity::Critical];

    /// The severity's name in configuration, JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Notice => "notice",
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }

    /// The severity in Chinese.
    pub fn name_zh(self) -> &'static str {
        match self {
            Severity::Notice => "提示",
            Severity::Minor => "一般",
            Severity::Major => "重要",
            Severity::Critical => "紧急",
        }
    }
}

/// Whether a condition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// The last good data says that the condition stands.
    Active,
    /// It stood, and no good data came since: nobody knows.
    Stale,
    /// Good data says that it is over.
    Cleared,
}

impl AlarmState {
    /// The state's name in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            AlarmState::Active => "active",
            AlarmState::Stale => "stale",
            AlarmState::Cleared => "cleared",
        }
    }
}

/// Why an alarm opened no case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// The device is not in service yet.
    NotCommissioned,
    /// The device is masked for maintenance (维护).
    Maintenance,
    /// A permit window covers the time: the opening is authorised (施工许可).
    Permit,
    /// A person made the case for this same standing condition void (作废) or closed it.
    Void,
    /// The profile says that the condition opens no case.
    NoCase,
    /// The device is in a walk test (现场核验): somebody made the condition on purpose.
    WalkTest,
    /// It is part of an incident (事件群), which has a case. When that ends, what still stands gets its own.
    Incident,
}

impl Suppression {
    /// Every reason.
    pub const ALL: [Suppression; 7] = [
        Suppression::NotCommissioned,
        Suppression::Maintenance,
        Suppression::Permit,
        Suppression::Void,
        Suppression::NoCase,
        Suppression::WalkTest,
        Suppression::Incident,
    ];

    /// The reason's name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Suppression::NotCommissioned => "not_commissioned",
            Suppression::Maintenance => "maintenance",
            Suppression::Permit => "permit",
            Suppression::Void => "void",
            Suppression::NoCase => "no_case",
            Suppression::WalkTest => "walk_test",
            Suppression::Incident => "incident",
        }
    }
}

/// One episode of one condition of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Episode id: a hash of device, condition and start.
    pub id: String,
    /// Device id.
    pub device: String,
    /// Name of the condition.
    pub condition: String,
    /// Worst severity of the detectors that hold it up.
    pub severity: Severity,
    /// Whether it stands.
    pub state: AlarmState,
    /// When it was raised.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When good data ended it.
    pub cleared_at: Option<Timestamp>,
    /// Rule, value and limit in one English sentence.
    pub explanation: String,
    /// The same in Chinese.
    pub explanation_zh: String,
    /// Why it opened no case, while it did not.
    pub suppressed: Option<Suppression>,
    /// The case that it opened or joined.
    pub case_id: Option<String>,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<(String, Timestamp)>,
    /// What made it; `None` for what the gateway finds by itself, and for alarms of earlier releases.
    #[serde(default)]
    pub evidence: Option<Box<Evidence>>,
}
