//! The report as CSV: one row for each device, headings in both languages, a byte order mark so that Excel opens it.

use kerbside_engine::{WalkDeviceView, WalkView};
use kerbside_model::inventory::write_csv;

use super::{Occasion, battery, signal, value, words};

const HEADINGS: [&str; 26] = [
    "设备 id",
    "名称 name",
    "类型 kind",
    "结果 outcome",
    "原因 why (zh)",
    "原因 why (en)",
    "触发项 trigger",
    "触发时间 triggered",
    "恢复时间 cleared",
    "首帧 first frame",
    "末帧 last frame",
    "帧数 frames",
    "信号 signal",
    "电池 battery",
    "经度 lon",
    "纬度 lat",
    "坐标系 datum",
    "地点 place",
    "责任单位 unit",
    "状态 service",
    "读数 readings",
    "照片 photo",
    "设备模型 profile",
    "模型版本 version",
    "模型指纹 hash",
    "时区 time zone",
];

/// The whole table.
pub(crate) fn csv(view: &WalkView, occasion: &Occasion) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    rows.extend(view.devices.iter().map(|device| row(device, occasion)));
    // Excel takes a file without the mark for one in the code page of the machine.
    format!("\u{feff}{}", write_csv(rows.iter().map(Vec::as_slice)))
}

fn row(view: &WalkDeviceView, occasion: &Occasion) -> Vec<String> {
    let device = view.device.as_ref();
    let of_device = |text: fn(&kerbside_engine::DeviceView) -> &str| device.map_or("", text).to_owned();
    let seen = words::deciding(view);
    let (why_zh, why) = words::why(view);
    let (outcome_zh, outcome) = words::outcome(view.outcome);
    let readings: Vec<String> =
        view.readings.iter().map(|reading| format!("{}={}", reading.point, value(reading))).collect();
    let (lon, lat, datum) = view.surveyed.map_or_else(
        || (String::new(), String::new(), String::new()),
        |(lon, lat, datum)| (lon.to_string(), lat.to_string(), datum.to_owned()),
    );
    vec![
        plain(&view.id),
        plain(&of_device(|device| &device.name)),
        of_device(|device| device.kind),
        format!("{outcome_zh} {outcome}"),
        why_zh,
        why,
        seen.map(|seen| seen.trigger.clone()).unwrap_or_default(),
        occasion.local(seen.map(|seen| seen.at)),
        occasion.local(seen.and_then(|seen| seen.cleared_at)),
        occasion.local(view.first_frame_at),
        occasion.local(view.last_frame_at),
        view.frames.to_string(),
        plain(&signal(view)),
        plain(&battery(view)),
        lon,
        lat,
        datum,
        plain(&of_device(|device| &device.place)),
        plain(&of_device(|device| &device.unit)),
        of_device(|device| device.service.name()),
        plain(&readings.join("; ")),
        plain(&view.photo),
        of_device(|device| &device.profile),
        if device.is_some() { view.profile_version.to_string() } else { String::new() },
        view.profile_hash.clone(),
        occasion.zone_name().to_owned(),
    ]
}

/// Text that people typed or a device sent. A spreadsheet would take it for a formula when it begins like one; what only
/// begins with a number below zero stays a number.
fn plain(text: &str) -> String {
    let is_number = text.split(' ').next().is_some_and(|word| word.parse::<f64>().is_ok());
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    if is_formula { format!("'{text}") } else { text.to_owned() }
}
