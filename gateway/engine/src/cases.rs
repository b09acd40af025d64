//! Cases: one open case for each device and condition, its states, its notices and its escalation.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::id::hashed;
use kerbside_model::inventory::Device;
use kerbside_model::site::LEDGER;
use kerbside_model::{
    Alarm, Audit, Case, CaseEvent, CaseReport, CaseState, Effects, Notice, NoticeReason, OutboxRow, OutboxState,
    OutboxTask, PlatformStatus, Severity, Site, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::timers::{TimerKey, Timers};

/// Episodes that a case names: the first, and the newest. A contact that flutters must not make it grow for ever; the
/// alarms themselves all stay in the tables.
const EPISODES_KEPT_MAX: usize = 100;
/// What the case of an incident says that was over when the gateway began to look at it again.
const LOST: (&str, &str) = (
    "over: its alarms stand together no more since the gateway was upgraded or its inventory changed; what still stands \
     has a case of its own",
    "已结束：网关升级或台账变更后，其告警已不再成群；仍未解除的告警另有工单",
);
/// Who acted, when nobody did.
pub(crate) const KERBSIDE: &str = "kerbside";

/// A case that may still change, with what steers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CaseRecord {
    pub(crate) case: Case,
    /// The next step of the escalation, counted from 0; `None` when it has ended.
    next_step: Option<u32>,
    /// When the escalation began: the opening, or the return of the condition.
    escalating_since: Timestamp,
    /// When the ledger closes it by itself.
    close_at: Option<Timestamp>,
    /// Numbers the notices, so that each has its own id.
    notices: u32,
    /// The platform refused it for good: nobody but us can end it.
    is_refused: bool,
    /// What the platform said last. It is news only once: a poller that starts again repeats it.
    told: Option<CaseState>,
    #[serde(skip)]
    timer: Option<Timestamp>,
}

/// All cases that may still change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cases {
    records: BTreeMap<String, CaseRecord>,
}

/// What a case operation writes to.
pub(crate) struct Context<'a> {
    pub(crate) site: &'a Site,
    pub(crate) effects: &'a mut Effects,
    pub(crate) timers: &'a mut Timers,
    pub(crate) at: Timestamp,
}

impl Context<'_> {
    pub(crate) fn audit(&mut self, by: &str, action: &str, subject: &str, detail: &str) {
        self.effects.audit.push(Audit {
            at: self.at,
            by: by.to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        });
    }
}

impl Cases {
    pub(crate) fn get(&self, id: &str) -> Option<&Case> {
        self.records.get(id).map(|record| &record.case)
    }

    /// Every case that may still change, or whose condition still stands.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Case> {
        self.records.values().map(|record| &record.case)
    }

    /// How many cases are not final.
    pub(crate) fn open_count(&self) -> usize {
        self.records.values().filter(|record| !record.case.state.is_final()).count()
    }

    /// Opens a case for an episode at the platform of the site.
    pub(crate) fn open(&mut self, ctx: &mut Context<'_>, report: CaseReport, episode: &str) -> String {
        let site = ctx.site;
        self.open_at(ctx, report, episode, &site.facts().cases.platform)
    }

    /// Opens a case for an episode at this platform.
    pub(crate) fn open_at(
        &mut self,
        ctx: &mut Context<'_>,
        mut report: CaseReport,
        episode: &str,
        platform: &str,
    ) -> String {
        let id = format!("KB-{}", hashed(&["case", &report.device, &report.condition, episode]));
        report.case_id.clone_from(&id);
        let is_ledger = platform == LEDGER;
        let case = Case {
            id: id.clone(),
            device: report.device.clone(),
            condition: report.condition.clone(),
            state: if is_ledger { CaseState::Reported } else { CaseState::Pending },
            severity: report.severity,
            opened_at: ctx.at,
            updated_at: ctx.at,
            platform: platform.to_owned(),
            platform_id: is_ledger.then(|| id.clone()),
            episodes: vec![episode.to_owned()],
            standing: true,
            signed: None,
            report,
        };
        let mut record = CaseRecord::new(case, ctx.at);
        ctx.effects.counts.cases_opened += 1;
        record.event(ctx, KERBSIDE, &record.case.report.explanation.clone());
        if !is_ledger {
            let row = OutboxRow {
                id: open_row_id(&id, platform),
                target: platform.to_owned(),
                case_id: id.clone(),
                task: OutboxTask::OpenCase(record.case.report.clone()),
                created_at: ctx.at,
                state: OutboxState::Pending,
            };
            ctx.effects.outbox.push(row);
        }
        record.escalate(ctx);
        record.schedule(ctx);
        self.records.insert(id.clone(), record);
        id
    }

    /// A new episode of a condition whose case is still open joins it. Gives false when there is no such open case.
    pub(crate) fn join(&mut self, ctx: &mut Context<'_>, id: &str, episode: &str, report: &CaseReport) -> bool {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.case.state.is_final()) else {
            return false;
        };
        if record.case.episodes.len() >= EPISODES_KEPT_MAX {
            record.case.episodes.remove(1);
        }
        record.case.episodes.push(episode.to_owned());
        record.case.standing = true;
        record.close_at = None;
        ctx.effects.counts.cases_joined += 1;
        let is_worse = report.severity > record.case.severity;
        record.case.severity = record.case.severity.max(report.severity);
        record.case.report.severity = record.case.severity;
        record.case.report.explanation.clone_from(&report.explanation);
        record.case.report.explanation_zh.clone_from(&report.explanation_zh);
        let was_done = record.case.state == CaseState::Done;
        if was_done {
            record.case.state = CaseState::Returned;
            record.case.signed = None;
        }
        record.event(ctx, KERBSIDE, &format!("the condition is back: {}", report.explanation));
        let is_calling = record.next_step.is_some();
        if was_done || (record.case.signed.is_none() && !is_calling) {
            record.next_step = Some(0);
            record.escalating_since = ctx.at;
            record.escalate(ctx);
        } else if !is_calling || is_worse {
            // Whoever signed for the first episode does not know of this one.
            let reason = if is_worse { NoticeReason::Worsened } else { NoticeReason::Returned };
            let channels = first_channels(ctx.site);
            record.notify(ctx, &channels, reason, 1, "");
        }
        record.schedule(ctx);
        true
    }

    /// The condition of an open case got worse.
    pub(crate) fn worsen(&mut self, ctx: &mut Context<'_>, id: &str, severity: Severity, texts: (&str, &str)) {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.case.state.is_final()) else { return };
        if severity <= record.case.severity {
            return;
        }
        record.case.severity = severity;
        record.case.report.severity = severity;
        texts.0.clone_into(&mut record.case.report.explanation);
        texts.1.clone_into(&mut record.case.report.explanation_zh);
        record.event(ctx, KERBSIDE, &format!("worse: {}", texts.0));
        let channels = first_channels(ctx.site);
        record.notify(ctx, &channels, NoticeReason::Worsened, 1, "");
    }

    /// The open case of a device and condition.
    pub(crate) fn open_on(&self, device: &str, condition: &str) -> Option<String> {
        let mut cases = self.records.values().map(|record| &record.case).filter(|case| !case.state.is_final());
        cases.find(|case| case.device == device && case.condition == condition).map(|case| case.id.clone())
    }

    /// What an incident's case says has changed.
    pub(crate) fn restate(&mut self, id: &str, severity: Severity, texts: &(String, String)) {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.case.state.is_final()) else { return };
        record.case.severity = record.case.severity.max(severity);
        record.case.report.severity = record.case.severity;
        record.case.report.explanation.clone_from(&texts.0);
        record.case.report.explanation_zh.clone_from(&texts.1);
    }

    /// An incident behind this case has changed: a line of history, and the first step of the duty hears of it.
    pub(crate) fn tell(&mut self, ctx: &mut Context<'_>, id: &str, reason: NoticeReason, (note, detail): (&str, &str)) {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.case.state.is_final()) else { return };
        record.event(ctx, KERBSIDE, note);
        let channels = first_channels(ctx.site);
        record.notify(ctx, &channels, reason, 1, detail);
    }

    /// The sensor says that the condition is over. The platform decides about the case; the ledger waits a while.
    pub(crate) fn clear(&mut self, ctx: &mut Context<'_>, id: &str) {
        let Some(record) = self.records.get_mut(id) else { return };
        record.case.standing = false;
        if record.case.state.is_final() {
            ctx.effects.cases.push(record.case.clone());
            self.forget(ctx, id);
            return;
        }
        if record.case.platform == LEDGER {
            record.case.state = CaseState::Done;
            record.close_at = record.closes_by_itself(ctx);
            record.next_step = None;
        }
        let is_refused = record.is_refused;
        record.event(ctx, KERBSIDE, "the sensor says that it is over");
        record.schedule(ctx);
        if is_refused {
            self.end_refused(ctx, id);
        }
    }

    /// The platform does not have it and never will. Were it left open, the next episode would join it unheard.
    fn end_refused(&mut self, ctx: &mut Context<'_>, id: &str) {
        self.enter(
            ctx,
            id,
            CaseState::Rejected,
            KERBSIDE,
            "the platform refused it, and the sensor says that it is over",
        );
    }

    /// The device or the condition of a case is no longer in the inventory: no sensor will say that it is over.
    pub(crate) fn orphan(&mut self, ctx: &mut Context<'_>, id: &str) {
        let Some(record) = self.records.get_mut(id).filter(|record| record.case.standing) else { return };
        record.case.standing = false;
        if record.case.state.is_final() {
            ctx.effects.cases.push(record.case.clone());
            self.forget(ctx, id);
            return;
        }
        record.close_at = record.closes_by_itself(ctx);
        record.event(ctx, KERBSIDE, "the device or its condition was taken out of the inventory");
        record.schedule(ctx);
    }

    /// No incident stands behind its case any more, and its course is not known.
    pub(crate) fn end_lost(&mut self, ctx: &mut Context<'_>, id: &str) {
        let Some(severity) = self.get(id).filter(|case| case.standing).map(|case| case.severity) else { return };
        let texts = (LOST.0.to_owned(), LOST.1.to_owned());
        self.restate(id, severity, &texts);
        self.tell(ctx, id, NoticeReason::Over, (LOST.0, ""));
        self.clear(ctx, id);
    }

    /// Id, device and condition of every case, those that are over first.
    pub(crate) fn subjects(&self) -> Vec<(String, String, String)> {
        let mut records: Vec<&Case> = self.records.values().map(|record| &record.case).collect();
        records.sort_by_key(|case| (!case.state.is_final(), case.opened_at));
        records.into_iter().map(|case| (case.id.clone(), case.device.clone(), case.condition.clone())).collect()
    }

    /// See [`crate::device::DeviceState::forget_future`]: nobody may wait for a call until the clock is there again.
    pub(crate) fn forget_future(&mut self, now: Timestamp) {
        for record in self.records.values_mut() {
            record.escalating_since = record.escalating_since.min(now);
        }
    }

    /// Whether this standing condition already had its say: a person or the platform ended its case.
    pub(crate) fn is_ended(&self, id: &str) -> bool {
        self.records.get(id).is_some_and(|record| record.case.state.is_final())
    }

    /// A person signs (签收).
    pub(crate) fn sign(&mut self, ctx: &mut Context<'_>, id: &str, by: &str) {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.case.state.is_final()) else {
            ctx.audit(by, "sign_refused", id, "there is no open case of this id");
            return;
        };
        if let Some((first, _)) = &record.case.signed {
            let detail = format!("already signed by {first}");
            ctx.audit(by, "sign_refused", id, &detail);
            return;
        }
        record.case.signed = Some((by.to_owned(), ctx.at));
        record.next_step = None;
        if is_before(record.case.state, CaseState::Signed) && record.case.state != CaseState::Pending {
            record.case.state = CaseState::Signed;
        }
        record.event(ctx, by, "signed");
        ctx.audit(by, "case_signed", id, "");
        record.schedule(ctx);
    }

    /// A person moves a case of the ledger. Cases of other platforms are moved there, but for those that the platform
    /// refused or that are of a platform which is no longer configured: nobody else could end them.
    pub(crate) fn move_to(&mut self, ctx: &mut Context<'_>, id: &str, to: CaseState, by: &str, note: &str) {
        let refusal = match self.records.get(id) {
            None => Some("there is no open case of this id".to_owned()),
            Some(record) if record.case.state.is_final() => Some("the case is over".to_owned()),
            Some(record) if record.is_led_elsewhere(ctx.site) => {
                Some(format!("{} leads this case", record.case.platform))
            }
            Some(_) => None,
        };
        if let Some(reason) = refusal {
            ctx.audit(by, "move_refused", id, &reason);
            return;
        }
        let detail = format!("to {}: {note}", to.name());
        ctx.audit(by, "case_moved", id, &detail);
        self.enter(ctx, id, to, by, note);
    }

    /// A platform tells a state. It never takes back what happened here since.
    pub(crate) fn platform_says(&mut self, ctx: &mut Context<'_>, status: &PlatformStatus) {
        let PlatformStatus { case_id, platform, platform_id, state: to, note } = status;
        let Some(record) = self.records.get_mut(case_id).filter(|record| record.case.platform == *platform) else {
            ctx.audit(platform, "status_ignored", case_id, "there is no open case of this id");
            return;
        };
        let from = record.case.state;
        if from.is_final() {
            return;
        }
        if record.case.platform_id.is_none() && !platform_id.is_empty() {
            record.case.platform_id = Some(platform_id.clone());
            record.event(ctx, platform, &format!("found as {platform_id}"));
        }
        let is_repeated = record.told == Some(*to);
        record.told = Some(*to);
        let is_news = is_side(*to) || is_side(from) || is_before(from, *to);
        if from == *to || is_repeated || !is_news {
            return;
        }
        self.enter(ctx, case_id, *to, platform, note);
        if *to == CaseState::Rejected
            && let Some(record) = self.records.get_mut(case_id)
        {
            // It still stands, and from now on nobody does anything about it.
            let channels = first_channels(ctx.site);
            record.notify(ctx, &channels, NoticeReason::Refused, 1, note);
        }
    }

    fn enter(&mut self, ctx: &mut Context<'_>, id: &str, to: CaseState, by: &str, note: &str) {
        let Some(record) = self.records.get_mut(id) else { return };
        record.case.state = to;
        record.close_at = record.closes_by_itself(ctx);
        if to.is_final() || !is_before(to, CaseState::Signed) && !is_side(to) {
            record.next_step = None;
        }
        if to == CaseState::Signed && record.case.signed.is_none() {
            record.case.signed = Some((by.to_owned(), ctx.at));
        }
        record.event(ctx, by, note);
        record.schedule(ctx);
        if to.is_final() && !record.case.standing {
            self.forget(ctx, id);
        }
    }

    /// The platform has the case.
    pub(crate) fn delivered(&mut self, ctx: &mut Context<'_>, row_id: &str, id: &str, platform_id: Option<&str>) {
        let Some(record) = self.records.get_mut(id) else { return };
        if row_id != open_row_id(id, &record.case.platform) {
            return;
        }
        record.is_refused = false;
        if let Some(number) = platform_id {
            record.case.platform_id = Some(number.to_owned());
        }
        if record.case.state == CaseState::Pending {
            record.case.state = if record.case.signed.is_some() { CaseState::Signed } else { CaseState::Reported };
        }
        let note = platform_id
            .map_or_else(|| "reported, no number given".to_owned(), |number| format!("reported as {number}"));
        let by = record.case.platform.clone();
        record.event(ctx, &by, &note);
    }

    /// The target refuses a row for good. When it is the case itself, a person must act.
    pub(crate) fn refused(&mut self, ctx: &mut Context<'_>, row_id: &str, id: &str, target: &str, reason: &str) {
        ctx.audit(target, "delivery_refused", id, reason);
        let Some(record) = self.records.get_mut(id) else { return };
        if row_id != open_row_id(id, &record.case.platform) {
            return;
        }
        record.event(ctx, target, &format!("refused: {reason}"));
        let channels = first_channels(ctx.site);
        record.notify(ctx, &channels, NoticeReason::Refused, 1, reason);
        record.is_refused = true;
        if !record.case.standing {
            self.end_refused(ctx, id);
        }
    }

    /// A timer of a case is due: the next step of the escalation, or the end of the waiting time.
    pub(crate) fn timer(&mut self, ctx: &mut Context<'_>, id: &str) {
        let Some(record) = self.records.get_mut(id) else { return };
        record.timer = None;
        if record.close_at.is_some_and(|close_at| close_at <= ctx.at) {
            self.enter(
                ctx,
                id,
                CaseState::Closed,
                KERBSIDE,
                "closed: the sensor has said for long enough that it is over",
            );
            return;
        }
        record.escalate(ctx);
        record.schedule(ctx);
    }

    /// Sets every timer anew, after a start or a change of the duty steps.
    pub(crate) fn schedule_all(&mut self, ctx: &mut Context<'_>) {
        for record in self.records.values_mut() {
            record.timer = None;
            record.schedule(ctx);
        }
    }

    /// Takes over a case from the tables, after an upgrade that cannot read the snapshot. Its escalation goes on with
    /// the first step: better called twice than not at all. The ledger closes it `close_after` it last changed.
    pub(crate) fn adopt(&mut self, case: Case, close_after: Duration, now: Timestamp) {
        let escalates = case.signed.is_none() && case.standing && !case.state.is_final();
        let waits = case.platform == LEDGER && case.state == CaseState::Done && !case.standing;
        let record = CaseRecord {
            next_step: escalates.then_some(0),
            close_at: waits.then(|| case.updated_at.plus(close_after)),
            notices: u32::try_from(now.0 / 1000).unwrap_or(u32::MAX / 2),
            ..CaseRecord::new(case, now)
        };
        self.records.insert(record.case.id.clone(), record);
    }

    fn forget(&mut self, ctx: &mut Context<'_>, id: &str) {
        if let Some(record) = self.records.remove(id)
            && let Some(at) = record.timer
        {
            ctx.timers.remove(at, TimerKey::Case(id.to_owned()));
        }
    }
}

impl CaseRecord {
    fn new(case: Case, at: Timestamp) -> CaseRecord {
        CaseRecord {
            case,
            next_step: Some(0),
            escalating_since: at,
            close_at: None,
            notices: 0,
            is_refused: false,
            told: None,
            timer: None,
        }
    }

    /// When the ledger closes a case that is done and whose condition no longer stands.
    fn closes_by_itself(&self, ctx: &Context<'_>) -> Option<Timestamp> {
        let waits = self.case.state == CaseState::Done && self.case.platform == LEDGER && !self.case.standing;
        waits.then(|| ctx.at.plus(ctx.site.facts().cases.close_after))
    }

    /// Whether another platform, which is there and has not refused it, moves the case.
    fn is_led_elsewhere(&self, site: &Site) -> bool {
        let platform = &self.case.platform;
        platform != LEDGER && !self.is_refused && *platform == site.facts().cases.platform
    }

    /// Writes a line of history and the case itself.
    fn event(&mut self, ctx: &mut Context<'_>, by: &str, note: &str) {
        self.case.updated_at = ctx.at;
        ctx.effects.case_events.push(CaseEvent {
            case_id: self.case.id.clone(),
            at: ctx.at,
            state: self.case.state,
            by: by.to_owned(),
            note: note.to_owned(),
        });
        ctx.effects.cases.push(self.case.clone());
    }

    /// Takes every step that is due.
    fn escalate(&mut self, ctx: &mut Context<'_>) {
        let site = ctx.site;
        while let Some(step) = self.next_step {
            let Some(duty) = site.facts().duty.get(step as usize) else {
                self.next_step = None;
                return;
            };
            if self.escalating_since.plus(duty.after) > ctx.at {
                return;
            }
            let reason = match step {
                0 if self.case.episodes.len() > 1 => NoticeReason::Returned,
                0 => NoticeReason::Opened,
                _ => NoticeReason::Escalated,
            };
            self.next_step = Some(step + 1);
            self.notify(ctx, &duty.channels, reason, step + 1, "");
            if step > 0 {
                self.event(
                    ctx,
                    KERBSIDE,
                    &format!("nobody signed: step {} called {}", step + 1, duty.channels.join(", ")),
                );
            }
        }
    }

    fn notify(&mut self, ctx: &mut Context<'_>, channels: &[String], reason: NoticeReason, step: u32, detail: &str) {
        for channel in channels {
            self.notices = self.notices.wrapping_add(1);
            let notice = Notice {
                report: self.case.report.clone(),
                reason,
                step,
                sign: self.case.signed.is_none(),
                detail: detail.to_owned(),
            };
            ctx.effects.counts.notices += 1;
            ctx.effects.outbox.push(OutboxRow {
                id: hashed(&["notice", &self.case.id, channel, &self.notices.to_string()]),
                target: channel.clone(),
                case_id: self.case.id.clone(),
                task: OutboxTask::Notify(notice),
                created_at: ctx.at,
                state: OutboxState::Pending,
            });
        }
    }

    /// Sets the timer for what comes next.
    fn schedule(&mut self, ctx: &mut Context<'_>) {
        let key = || TimerKey::Case(self.case.id.clone());
        let step = self.next_step.and_then(|step| ctx.site.facts().duty.get(step as usize));
        let due = match (step.map(|step| self.escalating_since.plus(step.after)), self.close_at) {
            (Some(step_at), Some(close_at)) => Some(step_at.min(close_at)),
            (step_at, close_at) => step_at.or(close_at),
        };
        if due == self.timer {
            return;
        }
        if let Some(at) = self.timer {
            ctx.timers.remove(at, key());
        }
        if let Some(at) = due {
            ctx.timers.set(at, key());
        }
        self.timer = due;
    }
}

/// What a case that is opened for this alarm says; it has no id yet.
pub(crate) fn report(site: &Site, device: &Device, condition: usize, alarm: &Alarm) -> CaseReport {
    let profile = site.profile_of(device);
    let rule = &profile.conditions[condition];
    CaseReport {
        case_id: String::new(),
        device: device.id.clone(),
        device_name: device.name.clone(),
        kind: profile.kind.name().to_owned(),
        kind_zh: profile.kind.name_zh().to_owned(),
        condition: rule.name.to_string(),
        title: rule.title.clone(),
        title_zh: rule.title_zh.clone(),
        severity: alarm.severity,
        occurred_at: alarm.opened_at,
        explanation: alarm.explanation.clone(),
        explanation_zh: alarm.explanation_zh.clone(),
        place: device.place.clone(),
        position: device.position,
        datum: device.datum,
        grid: device.grid.clone(),
        component_code: device.component_code.clone(),
        unit: device.unit.clone(),
    }
}

/// The id of the outbox row that opens a case.
fn open_row_id(case_id: &str, platform: &str) -> String {
    hashed(&["open", case_id, platform])
}

fn first_channels(site: &Site) -> Vec<String> {
    site.facts().duty.first().map(|step| step.channels.clone()).unwrap_or_default()
}

/// Whether one state comes before another on the straight way. Side states come before and after everything.
fn is_before(state: CaseState, other: CaseState) -> bool {
    !is_side(state) && !is_side(other) && state < other
}

fn is_side(state: CaseState) -> bool {
    state > CaseState::Closed
}
