//! What is said about an incident: while it stands, in its case and in the messages to the duty, and when it is over.
//!
//! Plain sentences in English and Chinese, without points in time: whoever shows them knows its reader's zone. They are
//! made when they are shown and never kept, but for the last one.

use kerbside_model::Timestamp;
use kerbside_model::incident::IncidentKind;
use kerbside_model::vocabulary;

use crate::explain::{span, span_zh};
use crate::grouping::Record;

/// Devices that a summary names.
const NAMED_MAX: usize = 5;

/// What it is.
pub(crate) fn explanation(record: &Record) -> (String, String) {
    let (parent, standing) = (&record.parent, record.standing);
    let count = record.devices.max(record.counted);
    let some = |noun: &str| counted(count, noun);
    match record.kind {
        IncidentKind::Storm => (
            format!("water at {} around {parent}, at {standing} now", some("place")),
            format!("{parent} 周边 {count} 处积水或满溢，现存 {standing} 处"),
        ),
        // Those that lost power together are found silent one after another: until all are, a number of now misleads.
        IncidentKind::Outage if record.peak < record.counted => (
            format!("{} on {parent} stopped reporting together", some("device")),
            format!("{parent} 下 {count} 台设备同时停止上报，疑似上级停电或链路中断"),
        ),
        IncidentKind::Outage => (
            format!("{} on {parent} fell silent together, {standing} are silent now", some("device")),
            format!("{parent} 下 {count} 台设备同时失联，疑似上级停电或链路中断，现有 {standing} 台失联"),
        ),
        IncidentKind::Covers => (
            format!("{} opened around {parent}, {standing} stand open now", some("cover")),
            format!("{parent} 周边 {count} 个井盖短时间内被打开，现有 {standing} 个未复位"),
        ),
        IncidentKind::Group => {
            let term = vocabulary::condition(&record.of);
            let (en, zh) = term.map_or((record.of.as_str(), record.of.as_str()), |term| (term.en, term.zh));
            (
                format!("{} on {parent} with one condition ({en}), {standing} have it now", some("device")),
                format!("{parent} 下 {count} 台设备出现同一状况（{zh}），现存 {standing} 台"),
            )
        }
        IncidentKind::Source => (
            format!(
                "the link of source {parent} is down: {} not heard, nobody knows what happens there",
                some("device")
            ),
            format!("数据源 {parent} 链路中断：{count} 台设备收不到数据，现场情况不明"),
        ),
    }
}

/// What it came to.
pub(crate) fn summary(record: &Record, at: Timestamp) -> (String, String) {
    let still = record.standing_devices();
    let (rest, rest_zh) = named(&still, record.standing.max(still.len()));
    let (lasted, lasted_zh) = (span(at.since(record.began_at)), span_zh(at.since(record.began_at)));
    let (devices, peak, severity) = (record.devices, record.peak, record.severity);
    if record.kind == IncidentKind::Source {
        let heard = devices.saturating_sub(record.standing);
        return (
            format!(
                "the link is back after {lasted}: {heard} of {} heard again; still not heard: {rest}",
                counted(devices, "device")
            ),
            format!("链路已恢复，历时{lasted_zh}：{devices} 台设备中 {heard} 台恢复上报；仍无数据：{rest_zh}"),
        );
    }
    (
        format!(
            "over after {lasted}: {}, at most {} at once, worst {}; still standing: {rest}",
            counted(devices, "device"),
            counted(peak, "alarm"),
            severity.name()
        ),
        format!(
            "已结束，历时{lasted_zh}：共 {devices} 台设备，同时最多 {peak} 条告警，最高级别{}；仍未解除：{rest_zh}",
            severity.name_zh()
        ),
    )
}

/// What stands beside the text of another case, in messages that have one line for it: both languages.
pub(crate) fn in_both((en, zh): &(String, String)) -> String {
    format!("{zh} / {en}")
}

/// Of many devices the first few, and how many there are.
fn named(devices: &[&str], count: usize) -> (String, String) {
    if count == 0 {
        return ("none".to_owned(), "无".to_owned());
    }
    let few = &devices[..devices.len().min(NAMED_MAX)];
    let (list, list_zh) = (few.join(", "), few.join("、"));
    match count - few.len() {
        0 => (list, list_zh),
        more => (format!("{list} and {more} more"), format!("{list_zh}等 {count} 台")),
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
