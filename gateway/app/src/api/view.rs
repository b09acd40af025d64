//! How records look as JSON.

use kerbside_model::geo::{Datum, convert};
use kerbside_model::{
    Alarm, Case, CaseEvent, Evidence, Ground, NoticeReason, OutboxTask, Payload, Suppression, Tag, Timestamp,
};
use kerbside_store::{OutboxView, UndecodedRow, UnknownDevice};
use serde::Serialize;
use serde_json::{Value, json};

/// Readings of an hour before and after an alarm belong to its picture.
const READINGS_AROUND_MS: i64 = 3_600_000;

/// Moves the positions of a list from WGS84 to another datum: for a map that is drawn on one.
pub(super) fn move_positions(items: &mut [Value], datum: Datum) {
    if datum == Datum::Wgs84 {
        return;
    }
    for item in items {
        let number = |place: &Value, at: usize| place.get(at).and_then(Value::as_f64);
        let place = &item["position"];
        if let (Some(lon), Some(lat)) = (number(place, 0), number(place, 1)) {
            item["position"] = json!(convert((lon, lat), Datum::Wgs84, datum));
        }
    }
}

/// A list: its items and the cursor of the next page.
#[derive(Debug, Serialize)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) next: Option<String>,
}

pub(crate) fn alarm(alarm: &Alarm) -> Value {
    let grounds = grounds(alarm);
    let acknowledged = alarm.acknowledged.as_ref().map(|(by, at)| json!({ "by": by, "at": at }));
    json!({
        "id": alarm.id,
        "device": alarm.device,
        "condition": alarm.condition,
        "severity": alarm.severity,
        "state": alarm.state,
        "opened_at": alarm.opened_at,
        "updated_at": alarm.updated_at,
        "cleared_at": alarm.cleared_at,
        "explanation": alarm.explanation,
        "explanation_zh": alarm.explanation_zh,
        "suppressed": alarm.suppressed,
        "case_id": alarm.case_id,
        "acknowledged": acknowledged,
        "evidence": alarm.evidence.as_deref().map(evidence),
        "grounds": grounds.iter().map(|ground| ground.en.as_str()).collect::<Vec<_>>(),
        "grounds_zh": grounds.iter().map(|ground| ground.zh.as_str()).collect::<Vec<_>>(),
        "readings": readings(alarm),
    })
}

fn evidence(evidence: &Evidence) -> Value {
    json!({
        "profile": evidence.profile,
        "profile_version": evidence.profile_version,
        "detector": evidence.detector,
        "rule": evidence.rule,
        "point": evidence.point,
        "value": evidence.value.as_ref().map(kerbside_model::Value::to_json),
        "quality": evidence.flag.map(kerbside_model::Flag::name),
        "observed_at": evidence.observed_at,
        "limit": evidence.limit,
        "clear": evidence.clear,
        "since": evidence.since,
    })
}

/// What made it, and whether anything keeps it from opening a case.
fn grounds(alarm: &Alarm) -> Vec<Ground> {
    let mut grounds = alarm.evidence.as_deref().map_or_else(Vec::new, |evidence| evidence.grounds.clone());
    let (en, zh) = match alarm.suppressed {
        None => ("ruled out: mask, permit and walk test; none covers it", "已排除：屏蔽、施工许可、现场核验（均无）"),
        Some(Suppression::NotCommissioned) => ("no case: the device is being installed", "不立案：设备调试中"),
        Some(Suppression::Maintenance) => ("no case: the device is masked for maintenance", "不立案：设备维护中"),
        Some(Suppression::Permit) => ("no case: a permit covers the time", "不立案：有施工许可"),
        Some(Suppression::Void) => {
            ("no case: a person ended the case for it", "不立案：该情况的案件已由人工办结或作废")
        }
        Some(Suppression::NoCase) => {
            ("no case: by the profile or the site's policy", "不立案：设备模型或站点规定不立案")
        }
        Some(Suppression::WalkTest) => ("no case: the device is in a walk test", "不立案：现场核验中"),
        Some(Suppression::Incident) => {
            ("no case of its own: it is part of an incident, which has one", "不单独立案：已并入事件群案件")
        }
    };
    grounds.push(Ground { en: en.to_owned(), zh: zh.to_owned() });
    grounds
}

/// Where to look at the readings around it.
fn readings(alarm: &Alarm) -> Value {
    let since = alarm.evidence.as_ref().map_or(alarm.opened_at, |evidence| evidence.since.min(alarm.opened_at));
    let from = Timestamp(since.0.saturating_sub(READINGS_AROUND_MS));
    let until = Timestamp(alarm.cleared_at.unwrap_or(alarm.updated_at).0.saturating_add(READINGS_AROUND_MS));
    let grafana = format!("/d/kerbside-overview?from={}&to={}", from.0, until.0);
    json!({ "from": from, "until": until, "grafana": grafana })
}

pub(crate) fn case(case: &Case, history: &[CaseEvent]) -> Value {
    let signed = case.signed.as_ref().map(|(by, at)| json!({ "by": by, "at": at }));
    let event = |event: &CaseEvent| json!({ "at": event.at, "state": event.state, "by": event.by, "note": event.note });
    json!({
        "id": case.id,
        "device": case.device,
        "condition": case.condition,
        "state": case.state,
        "severity": case.severity,
        "opened_at": case.opened_at,
        "updated_at": case.updated_at,
        "platform": case.platform,
        "platform_id": case.platform_id,
        "standing": case.standing,
        "signed": signed,
        "title": case.report.title,
        "title_zh": case.report.title_zh,
        "explanation": case.report.explanation,
        "explanation_zh": case.report.explanation_zh,
        "device_name": case.report.device_name,
        "kind": case.report.kind,
        "place": case.report.place,
        "unit": case.report.unit,
        "grid": case.report.grid,
        "component_code": case.report.component_code,
        "position": case.report.position.map(|position| convert(position, case.report.datum, Datum::Wgs84)),
        "episodes": case.episodes,
        "history": history.iter().map(event).collect::<Vec<_>>(),
    })
}

pub(crate) fn undecoded(row: &UndecodedRow) -> Value {
    json!({
        "number": row.number,
        "source": row.frame.source,
        "address": row.frame.address,
        "device": row.device,
        "received_at": row.frame.received_at,
        "reason": row.reason,
        "detail": row.detail,
        "tags": row.tags.iter().flat_map(|tags| tags.iter()).map(tag).collect::<serde_json::Map<_, _>>(),
        "payload": payload(&row.frame.payload),
    })
}

fn tag(tag: &Tag) -> (String, Value) {
    (tag.name.to_string(), json!(tag.value))
}

pub(super) fn unknown_device(device: &UnknownDevice) -> Value {
    json!({
        "source": device.source,
        "address": device.address,
        "first_seen": device.first_seen,
        "last_seen": device.last_seen,
        "frames": device.frames,
        "payload": payload(&device.payload),
    })
}

/// A notice: what was told to whom, and whether it arrived.
pub(super) fn notice(view: &OutboxView) -> Option<Value> {
    let OutboxTask::Notify(notice) = &view.row.task else { return None };
    let (reason_en, reason_zh) = reason(notice.reason);
    Some(json!({
        "id": view.row.id,
        "channel": view.row.target,
        "case_id": view.row.case_id,
        "reason": notice.reason,
        "step": notice.step,
        "text": format!("{reason_en}: {} at {}", notice.report.title, place(&notice.report.place, &notice.report.device)),
        "text_zh": format!("{reason_zh}：{}，{}", notice.report.title_zh, place(&notice.report.place, &notice.report.device)),
        "severity": notice.report.severity,
        "created_at": view.row.created_at,
        "state": view.row.state,
        "note": view.note,
    }))
}

fn place<'text>(place: &'text str, device: &'text str) -> &'text str {
    if place.is_empty() { device } else { place }
}

fn reason(reason: NoticeReason) -> (&'static str, &'static str) {
    match reason {
        NoticeReason::Opened => ("new case", "新案件"),
        NoticeReason::Escalated => ("nobody signed", "无人签收，升级"),
        NoticeReason::Returned => ("back again", "再次发生"),
        NoticeReason::Worsened => ("worse", "加重"),
        NoticeReason::Refused => ("refused by the platform", "平台拒收"),
        NoticeReason::Grown => ("the incident has grown", "事件群扩大"),
        NoticeReason::Over => ("the incident is over", "事件群已结束"),
    }
}

/// Text as text, other bytes in hexadecimal, registers as they are.
fn payload(payload: &Payload) -> Value {
    match payload {
        Payload::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!({ "text": text }),
            Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
        },
        Payload::Registers(read) => json!({ "registers": read }),
    }
}
