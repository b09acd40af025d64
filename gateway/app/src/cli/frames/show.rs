//! One event as a block that is read in a terminal. What strangers sent must not steer it.

use kerbside_model::{UndecodedReason, vocabulary};
use serde_json::Value;

use crate::cli::plain;

/// A frame: where and when, whose, what it holds, what it gave.
pub(super) fn frame(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let mut lines = vec![format!(
        "{} {} {} ({} bytes{})",
        text("received_at"),
        text("source"),
        text("address"),
        event["bytes"],
        flags(event)
    )];
    lines.extend(device(event));
    lines.extend(payload(event));
    match text("outcome") {
        "decoded" => lines.extend(decoded(event)),
        "ignored" => lines.push(format!("no reading of a device: {} 非测点报文", text("event"))),
        _ => lines.extend(undecoded(event)),
    }
    plain(&lines.join("\n  "))
}

/// How many frames were not shown, and why.
pub(super) fn missed(event: &Value) -> String {
    let count = |key: &str, why: &str| match event[key].as_u64() {
        None | Some(0) => None,
        Some(count) => Some(format!("{count} {why}")),
    };
    let parts = [
        count("sampled", "beyond 50 in a second 超过每秒50条"),
        count("slow", "because this terminal is slow 终端来不及显示"),
        count("unseen", "not looked at, too many come 报文过多未检查"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("-- frames not shown 未显示的报文: {}", parts.join("; "))
}

fn flags(event: &Value) -> String {
    let said = [
        ("retained", ", retained: the broker kept it, it is no news 保留消息"),
        ("redelivered", ", sent again by the broker 重发"),
        ("left_out", ", not stored: it came before, or the device sends too often 重复或上报过频，未存储"),
    ];
    said.iter().filter(|(key, _)| event[*key] == true).map(|(_, words)| *words).collect()
}

fn device(event: &Value) -> Option<String> {
    let device = event["device"].as_str()?;
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    Some(format!("device {device} {} ({} v{})", text("name"), text("profile"), event["profile_version"]))
}

fn payload(event: &Value) -> Vec<String> {
    let payload = &event["payload"];
    let mut lines = Vec::new();
    if let Some(text) = payload["text"].as_str() {
        lines.push(text.trim_end().replace('\n', "\n  "));
    } else if let Some(hex) = payload["hex"].as_str() {
        lines.push(hex.to_owned());
    }
    let of = |key: &str| payload[key].as_array().map_or(&[][..], Vec::as_slice);
    for run in of("registers") {
        let text = |key: &str| run[key].as_str().unwrap_or_default();
        lines.push(format!("{} {}: {}", text("table"), run["address"], text("words")));
    }
    for failure in of("failures") {
        let text = |key: &str| failure[key].as_str().unwrap_or_default();
        lines.push(format!(
            "{} {}, {} registers: {}",
            text("table"),
            failure["address"],
            failure["count"],
            text("cause")
        ));
    }
    if let Some(cut @ 1..) = event["cut"].as_u64() {
        lines.push(format!("… {cut} bytes more 余下 {cut} 字节未显示"));
    }
    lines
}

fn decoded(event: &Value) -> Vec<String> {
    let list = |key: &str| event[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = list("readings").iter().map(reading).collect();
    if let Some(cut @ 1..) = event["readings_cut"].as_u64() {
        lines.push(format!("… {cut} readings more 余下 {cut} 个读数未显示"));
    }
    if let Some(rows @ 1..) = event["history"].as_u64() {
        lines.push(format!("and {rows} rows of history 另含 {rows} 组历史数据"));
    }
    if let Some(refused) = event["time_refused"].as_str() {
        lines.push(format!("the device's time is not used 未采用设备时间: {refused}"));
    }
    lines.extend(list("remarks").iter().filter_map(Value::as_str).map(|remark| format!("remark 备注: {remark}")));
    lines
}

fn reading(reading: &Value) -> String {
    let text = |key: &str| reading[key].as_str().unwrap_or_default();
    let value = match &reading["value"] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let doubt = match text("quality") {
        "good" => String::new(),
        quality => format!("  {quality}: {}", text("cause")),
    };
    let name = text("point");
    let zh = vocabulary::POINTS.iter().find(|term| term.name == name).map_or("", |term| term.zh);
    format!("{name:<24} {value} {}{doubt}  {zh}", text("unit")).trim_end().to_owned()
}

fn undecoded(event: &Value) -> Vec<String> {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let reason = text("reason");
    let zh = UndecodedReason::ALL.into_iter().find(|known| known.name() == reason).map_or("", UndecodedReason::name_zh);
    let mut lines = vec![format!("not decoded 未解码: {reason} {zh}: {}", text("detail"))];
    if let Some(address) = event["expected_address"].as_str() {
        lines.push(format!("its address in the inventory would be {address} 台账中的地址应为 {address}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_frame_is_a_block_of_lines() {
        let event = json!({
            "received_at": "2026-06-01T04:00:00Z", "source": "city", "address": "a/MH-1", "bytes": 3, "cut": 1,
            "payload": { "hex": "01 02" }, "retained": false, "redelivered": true, "outcome": "decoded",
            "device": "MH-1", "name": "井盖", "profile": "acme", "profile_version": 2,
            "readings": [
                { "point": "cover_open", "value": true, "unit": "", "quality": "good", "cause": "" },
                { "point": "tilt_deg", "value": 95.5, "unit": "deg", "quality": "bad", "cause": "range" },
            ],
            "readings_cut": 0, "history": 2, "remarks": ["channel 9 is not known"], "left_out": false,
        });
        let expected = "2026-06-01T04:00:00Z city a/MH-1 (3 bytes, sent again by the broker 重发)
  device MH-1 井盖 (acme v2)
  01 02
  … 1 bytes more 余下 1 字节未显示
  cover_open               true   井盖开启
  tilt_deg                 95.5 deg  bad: range  倾斜角
  and 2 rows of history 另含 2 组历史数据
  remark 备注: channel 9 is not known";
        assert_eq!(frame(&event), expected);
    }

    #[test]
    fn a_stranger_is_told_with_the_address_that_it_would_have() {
        let event = json!({
            "received_at": "t", "source": "bus", "address": "17", "bytes": 4, "cut": 0, "outcome": "undecoded",
            "payload": { "registers": [{ "table": "holding", "address": 4, "words": "0001 00ff" }], "failures": [] },
            "reason": "unknown_device", "detail": "no \u{1b}[2J device", "expected_address": "17",
        });
        let expected = "t bus 17 (4 bytes)
  holding 4: 0001 00ff
  not decoded 未解码: unknown_device 设备未登记: no \\u{1b}[2J device
  its address in the inventory would be 17 台账中的地址应为 17";
        assert_eq!(frame(&event), expected);
        let missed = missed(&json!({ "sampled": 7, "slow": 0, "unseen": 2 }));
        assert_eq!(
            missed,
            "-- frames not shown 未显示的报文: 7 beyond 50 in a second 超过每秒50条; 2 not looked at, too many come 报文过多未检查"
        );
    }
}
