//! Cases (案件), the reports and notices that leave the gateway for them, and the outbox rows that carry those.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::alarm::Severity;
use crate::inventory::Datum;

/// Where a case stands. The first nine follow one another; the rest are side states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// 待上报: opened here, not yet known to the platform.
    Pending,
    /// 上报: the platform has it.
    Reported,
    /// 受理: somebody looked at it.
    Accepted,
    /// 立案: it is official.
    Filed,
    /// 派遣: a unit was told to mend it.
    Dispatched,
    /// 签收: a person answers for it.
    Signed,
    /// 处置: being mended.
    InProgress,
    /// 待核查: mended, to be checked.
    Done,
    /// 结案: over.
    Closed,
    /// 不予受理: the platform refuses it.
    Rejected,
    /// 作废: a person says that there was nothing.
    Void,
    /// 挂账: put off with a reason.
    Suspended,
    /// 回退 or 返工: sent back.
    Returned,
    /// 重复: the platform has another case for it.
    Duplicate,
}

impl CaseState {
    /// Every state.
    pub const ALL: [CaseState; 14] = [
        CaseState::Pending,
        CaseState::Reported,
        CaseState::Accepted,
        CaseState::Filed,
        CaseState::Dispatched,
        CaseState::Signed,
        CaseState::InProgress,
        CaseState::Done,
        CaseState::Closed,
        CaseState::Rejected,
        CaseState::Void,
        CaseState::Suspended,
        CaseState::Returned,
        CaseState::Duplicate,
    ];

    /// The state's name in JSON, the store and the command line.
    pub fn name(self) -> &'static str {
        match self {
            CaseState::Pending => "pending",
            CaseState::Reported => "reported",
            CaseState::Accepted => "accepted",
            CaseState::Filed => "filed",
            CaseState::Dispatched => "dispatched",
            CaseState::Signed => "signed",
            CaseState::InProgress => "in_progress",
            CaseState::Done => "done",
            CaseState::Closed => "closed",
            CaseState::Rejected => "rejected",
            CaseState::Void => "void",
            CaseState::Suspended => "suspended",
            CaseState::Returned => "returned",
            CaseState::Duplicate => "duplicate",
        }
    }

    /// The state in Chinese.
    pub fn name_zh(self) -> &'static str {
        match self {
            CaseState::Pending => "待上报",
            CaseState::Reported => "已上报",
            CaseState::Accepted => "已受理",
            CaseState::Filed => "已立案",
            CaseState::Dispatched => "已派遣",
            CaseState::Signed => "已签收",
            CaseState::InProgress => "处置中",
            CaseState::Done => "待核查",
            CaseState::Closed => "已结案",
            CaseState::Rejected => "不予受理",
            CaseState::Void => "已作废",
            CaseState::Suspended => "已挂账",
            CaseState::Returned => "已回退",
            CaseState::Duplicate => "重复件",
        }
    }

    /// Reads a name as [`CaseState::name`] writes it.
    pub fn from_name(name: &str) -> Option<CaseState> {
        CaseState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more will happen to the case.
    pub fn is_final(self) -> bool {
        matches!(self, CaseState::Closed | CaseState::Rejected | CaseState::Void | CaseState::Duplicate)
    }
}

/// One work item for one thing wrong in the street.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// `KB-` and a hash of device, condition and first episode. It is the reference that platforms carry for us.
    pub id: String,
    /// Device id.
    pub device: String,
    /// Name of the condition.
    pub condition: String,
    /// Where it stands.
    pub state: CaseState,
    /// Worst severity so far.
    pub severity: Severity,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Name of the platform that has it.
    pub platform: String,
    /// The platform's own number for it.
    pub platform_id: Option<String>,
    /// Episodes that it stands for, the first one first; of very many the first and the newest.
    pub episodes: Vec<String>,
    /// Whether the newest episode still stands.
    pub standing: bool,
    /// Who signed (签收), and when.
    pub signed: Option<(String, Timestamp)>,
    /// What people read about it.
    pub report: CaseReport,
}

/// One line of a case's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseEvent {
    /// Which case.
    pub case_id: String,
    /// When.
    pub at: Timestamp,
    /// The state after it.
    pub state: CaseState,
    /// Who did it: "kerbside", a platform's name, a person.
    pub by: String,
    /// What happened, in a few words.
    pub note: String,
}

/// The facts of a case that a platform or an officer needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// Id of the case: our reference at the platform.
    pub case_id: String,
    /// Device id.
    pub device: String,
    /// What the device is called on the street, when the inventory says.
    pub device_name: String,
    /// Kind of the device, such as `manhole_cover`.
    pub kind: String,
    /// Kind of the device in Chinese.
    pub kind_zh: String,
    /// Name of the condition.
    pub condition: String,
    /// Title of the condition in English.
    pub title: String,
    /// Title of the condition in Chinese.
    pub title_zh: String,
    /// Severity when the report was written.
    pub severity: Severity,
    /// When the condition began.
    pub occurred_at: Timestamp,
    /// Rule, value and limit in English.
    pub explanation: String,
    /// Rule, value and limit in Chinese.
    pub explanation_zh: String,
    /// Road text (路口、门牌).
    pub place: String,
    /// Longitude and latitude in degrees, when surveyed.
    pub position: Option<(f64, f64)>,
    /// Datum of the position.
    pub datum: Datum,
    /// Unit grid code (单元网格), or empty.
    pub grid: String,
    /// Component code (部件标识码), or empty.
    pub component_code: String,
    /// Responsible unit (责任单位), or empty.
    pub unit: String,
}

/// Why an officer is told about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeReason {
    /// The case was opened.
    Opened,
    /// Nobody signed in time.
    Escalated,
    /// The condition came back before the case was closed.
    Returned,
    /// The severity rose.
    Worsened,
    /// The platform refused the case for good: a person must act.
    Refused,
    /// The incident behind the case has grown a good deal.
    Grown,
    /// The incident behind the case is over.
    Over,
}

/// A message for the duty officer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Facts of the case.
    pub report: CaseReport,
    /// Why now.
    pub reason: NoticeReason,
    /// Step of the escalation, from 1.
    pub step: u32,
    /// Whether a signature (签收) is asked for: the channel adds the one-time link.
    pub sign: bool,
    /// Free text that belongs to the reason, such as the platform's refusal; may be empty.
    pub detail: String,
}

/// What an outbox row asks its target to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxTask {
    /// Open the case at a platform.
    OpenCase(CaseReport),
    /// Tell somebody.
    Notify(Notice),
}

/// Where an outbox row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// Never sent.
    Pending,
    /// A request may have reached the target: look it up before the next one.
    Attempted,
    /// The target has it.
    Delivered,
    /// Given up for good; the note says why.
    Dead,
}

impl OutboxState {
    /// The state's name in the store and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            OutboxState::Pending => "pending",
            OutboxState::Attempted => "attempted",
            OutboxState::Delivered => "delivered",
            OutboxState::Dead => "dead",
        }
    }
}

/// One thing to deliver to one target, at least once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// A hash of the case, the target and what is asked: the same after a replay.
    pub id: String,
    /// Name of the platform or channel in the configuration.
    pub target: String,
    /// Which case.
    pub case_id: String,
    /// What to do.
    pub task: OutboxTask,
    /// When it was written.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: OutboxState,
}
