//! The report as one HTML file for A4, and the page for the installer's phone.

use std::fmt::Write as _;

use kerbside_engine::{WalkDeviceView, WalkOutcome, WalkView};
use kerbside_model::vocabulary::Kind;

use super::{Occasion, Standing, Totals, battery, signal, value, words};
use crate::html::escape;

/// How often the phone's page asks again without a script; with one it does so without losing what is being typed.
const REFRESH_SECONDS: u32 = 5;

const REPORT_STYLE: &str = "\
@page{size:A4 portrait;margin:14mm 12mm}\
*{box-sizing:border-box}body{font:12px/1.45 'Noto Sans CJK SC','Microsoft YaHei','PingFang SC',sans-serif;color:#111;\
max-width:186mm;margin:0 auto;padding:4mm 0}\
h1{font-size:20px;margin:0 0 2mm}h2{font-size:14px;margin:6mm 0 2mm;border-bottom:1px solid #999}\
table{border-collapse:collapse;width:100%}th,td{border:1px solid #999;padding:1mm 1.5mm;text-align:left;vertical-align:top}\
th{background:#eee;font-weight:600}.totals td{font-size:18px;text-align:center}\
.device{border:1px solid #666;margin:0 0 3mm;padding:2mm 3mm;display:grid;grid-template-columns:1fr 52mm;gap:2mm 4mm;\
break-inside:avoid}.device h3{margin:0;font-size:13px;grid-column:1/3}.outcome{float:right;font-weight:700}\
.passed .outcome{color:#060}.half .outcome,.heard .outcome{color:#960}.not_heard .outcome,.gone .outcome{color:#b00}\
dl{margin:0;display:grid;grid-template-columns:24mm 1fr;gap:0 2mm}dt{color:#555}dd{margin:0;overflow-wrap:anywhere}\
.photo{border:1px dashed #888;min-height:36mm;padding:1.5mm;color:#555;overflow-wrap:anywhere}\
.sign{display:grid;grid-template-columns:repeat(3,1fr);gap:8mm;margin-top:10mm;break-inside:avoid}\
.sign div{border-top:1px solid #111;padding-top:1mm;margin-top:14mm}.soft{color:#555}";

const PHONE_STYLE: &str = "\
body{font:19px/1.4 'Noto Sans CJK SC',sans-serif;margin:0;padding:0 .6em 3em;background:#fff;color:#000}\
h1{font-size:1.2em;margin:.5em 0}.sum{font-size:1.4em;font-weight:700}ul{list-style:none;margin:0;padding:0}\
li{border-top:2px solid #000;padding:.6em 0 .6em 2.4em;position:relative}li b{font-size:1.1em}\
.mark{position:absolute;left:.1em;top:.25em;font-size:1.6em}.passed .mark{color:#070}.passed{background:#efe}\
.half .mark,.heard .mark{color:#850}.not_heard .mark,.gone .mark{color:#b00}small{color:#333;display:block}\
label{display:block;margin:.6em 0}input,button{font:inherit;padding:.4em .6em;border:2px solid #000;border-radius:.3em}\
input{display:block;width:100%;box-sizing:border-box}button{background:#fff;color:#000;min-height:2.6em;min-width:7em}\
button.main{background:#000;color:#fff;font-weight:700}#act{border-top:2px solid #000;margin-top:1em}\
dialog{width:min(26em,92%);border:3px solid #000;padding:1em}.bad{color:#b00;font-weight:700}[hidden]{display:none}";

/// The report: the same file on every screen and on paper.
pub(crate) fn report(view: &WalkView, occasion: &Occasion) -> String {
    let mut body = head(view, occasion);
    body.push_str("<h2>设备 Devices</h2>");
    for device in in_order(view) {
        body.push_str(&card(device, occasion));
    }
    body.push_str(
        "<div class=sign><div>安装人员 Installer<br>日期 Date</div><div>监理 Supervisor<br>日期 Date</div>\
         <div>接收单位 Taken over by<br>日期 Date</div></div>",
    );
    frame("现场核验报告 Walk test report", REPORT_STYLE, "", &body)
}

/// The page that stays open on the phone while the covers are opened.
pub(crate) fn phone(view: Option<&WalkView>, occasion: &Occasion, standing: &Standing) -> String {
    let more = format!(
        "<noscript><meta http-equiv=refresh content={REFRESH_SECONDS}></noscript>\
         <script type=module src=/console/walk.js></script>"
    );
    let seen = match view {
        Some(view) => seen(view, occasion),
        None => "<p>尚未开始 None was begun</p>".to_owned(),
    };
    let body = format!(
        "<h1>现场核验 Walk test</h1><p id=trouble class=bad hidden>网关无应答，以下内容已过时 no answer, what stands below is \
         old</p><main id=seen>{seen}</main>{}<dialog id=sure><p id=question></p><p id=refusal class=bad role=alert></p>\
         <button id=yes class=main>确认 Confirm</button> <button id=no>取消 Cancel</button></dialog>",
        acts(view, standing)
    );
    frame("现场核验 Walk test", PHONE_STYLE, &more, &body)
}

fn seen(view: &WalkView, occasion: &Occasion) -> String {
    let totals = Totals::of(view);
    let state = match view.ended_at {
        None => format!("进行中，最迟 {} 自动结束 · running", escape(&occasion.local(Some(view.until)))),
        Some(at) => format!("已结束 {} · over", escape(&occasion.local(Some(at)))),
    };
    let mut body = format!(
        "<div class=sum>{} / {} 合格 passed</div><small>{state}</small><ul>",
        totals.passed,
        view.devices.len()
    );
    for device in in_order(view) {
        let (why_zh, why) = words::why(device);
        let of_device = device.device.as_ref().map(|known| (known.name.as_str(), known.place.as_str()));
        let (name, place) = of_device.unwrap_or_default();
        write!(
            body,
            "<li class={}><span class=mark>{}</span><b>{} {}</b><small>{}</small>{}<small>{}</small><small>信号 {} · 末帧 {}</small></li>",
            class(device.outcome),
            words::sign(device.outcome),
            escape(&device.id),
            escape(name),
            escape(place),
            escape(&why_zh),
            escape(&why),
            escape(or_dash(&signal(device))),
            or_dash(&occasion.local(device.last_frame_at)),
        )
        .expect("writing to a text cannot fail");
    }
    body.push_str("</ul><p><a href=\"/api/v1/walk/report.html\">报告 Report</a></p>");
    body
}

/// What whoever looks may do now: begin a walk test, or end the one that runs.
fn acts(view: Option<&WalkView>, standing: &Standing) -> String {
    let Standing::Acts { account } = standing else {
        return "<section id=act><p>该账号只能查看，不能开始或结束核验。 This account may look, and neither begin nor end a \
                walk test.</p></section>"
            .to_owned();
    };
    // An account's name counts, whatever is written.
    let name = match account {
        Some(_) => "",
        None => "<label>姓名 Your name <input name=by required maxlength=40 autocomplete=name></label>",
    };
    let running = view.filter(|view| view.ended_at.is_none());
    if let Some(view) = running {
        let left = view.devices.len() - Totals::of(view).passed;
        return format!(
            "<section id=act><form data-path=/api/v1/walk/finish data-sure=\"结束核验？{left} 台设备尚未合格。仍在持续的告警将生成案件（调试设备除外）。 \
             End the walk test? {left} devices have not passed. What still stands becomes a case, unless its device is in \
             commissioning.\">{name}<button class=main>结束核验 Finish</button></form></section>"
        );
    }
    format!(
        "<section id=act><noscript><p>没有 JavaScript 时请在网关上执行 <code>kerbside walk</code>。 Without JavaScript run it on the \
         gateway.</p></noscript><h2>开始核验 Begin</h2><form data-path=/api/v1/walk data-sure=\"开始核验？结束之前，所涉设备不产生案件。 \
         Begin? Until it ends, its devices open no cases.\">\
         <label>设备编号 Devices <input name=devices placeholder=\"MH-01*\" autocomplete=off>\
         <small>* 代表任意字符；留空为所有调试中的设备 · * is any text; empty: every device in commissioning</small></label>\
         <label>上级设施 On this pole, feeder or catchment <input name=parent autocomplete=off></label>\
         <label>最长小时数 Hours at most <input name=hours type=number min=1 max=24 value=8 required></label>\
         {name}<button class=main>开始核验 Begin</button></form></section>"
    )
}

/// What still needs somebody stands first.
fn in_order(view: &WalkView) -> Vec<&WalkDeviceView> {
    let mut devices: Vec<&WalkDeviceView> = view.devices.iter().collect();
    devices.sort_by_key(|device| device.outcome == WalkOutcome::Passed);
    devices
}

fn head(view: &WalkView, occasion: &Occasion) -> String {
    let totals = Totals::of(view);
    let ended = match (&view.ended_at, &view.ended_by) {
        (Some(at), Some(by)) => format!("{} ({by})", occasion.local(Some(*at))),
        _ => "仍在进行 still running".to_owned(),
    };
    let facts = [
        ("站点 Site", occasion.site.clone()),
        ("网关 Gateway", format!("Kerbside {}", occasion.version)),
        ("核验人 By", view.by.clone()),
        ("开始 Began", occasion.local(Some(view.started_at))),
        ("结束 Ended", ended),
        ("报告时间 Report made", occasion.local(Some(occasion.now))),
        ("时区 Time zone", occasion.zone_name().to_owned()),
    ];
    let rows: String =
        facts.iter().map(|(name, text)| format!("<tr><th>{name}</th><td>{}</td></tr>", escape(text))).collect();
    let Totals { passed, half, heard, not_heard, gone } = totals;
    let total = view.devices.len();
    let gone = if gone > 0 { format!("<p>不在台账 not in the inventory: {gone}</p>") } else { String::new() };
    format!(
        "<h1>现场核验报告 Walk test report</h1><table>{rows}</table><h2>合计 Totals</h2><table class=totals><tr>\
         <th>设备 devices</th><th>✔ 合格 passed</th><th>◐ 未恢复 half seen</th><th>○ 未触发 not tested</th>\
         <th>✘ 未上报 not heard</th></tr><tr><td>{total}</td><td>{passed}</td><td>{half}</td><td>{heard}</td>\
         <td>{not_heard}</td></tr></table>{gone}"
    )
}

fn card(view: &WalkDeviceView, occasion: &Occasion) -> String {
    let (outcome_zh, outcome) = words::outcome(view.outcome);
    let (why_zh, why) = words::why(view);
    let mut facts = vec![("结论 Why", format!("{why_zh} · {why}"))];
    let mut heading = view.id.clone();
    if let Some(device) = &view.device {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == device.kind).map_or("", Kind::name_zh);
        heading = format!("{} {} · {kind}", view.id, device.name);
        facts.push(("地点 Place", device.place.clone()));
    }
    if let Some((lon, lat, datum)) = view.surveyed {
        facts.push(("坐标 Position", format!("{lon:.6}, {lat:.6} ({datum})")));
    }
    for seen in &view.seen {
        let (zh, en) = words::title(view, &seen.trigger);
        let cleared = seen.cleared_at.map_or("—".to_owned(), |at| occasion.local(Some(at)));
        facts.push(("触发 Trigger", format!("{zh} {en}: {} → {cleared}", occasion.local(Some(seen.at)))));
    }
    let frames = format!(
        "{} → {} ({})",
        or_dash(&occasion.local(view.first_frame_at)),
        or_dash(&occasion.local(view.last_frame_at)),
        view.frames
    );
    facts.push(("首末帧 Frames", frames));
    facts.push(("信号 Signal", or_dash(&signal(view)).to_owned()));
    facts.push(("电池 Battery", or_dash(&battery(view)).to_owned()));
    let readings: Vec<String> =
        view.readings.iter().map(|reading| format!("{} {}", reading.point, value(reading))).collect();
    facts.push(("读数 Readings", or_dash(&readings.join("; ")).to_owned()));
    if let Some(device) = &view.device {
        let profile = format!("{} v{} ({})", device.profile, view.profile_version, view.profile_hash);
        facts.push(("模型 Profile", profile));
    }
    let list: String = facts.iter().map(|(name, text)| format!("<dt>{name}</dt><dd>{}</dd>", escape(text))).collect();
    format!(
        "<section class=\"device {}\"><h3>{}<span class=outcome>{} {outcome_zh} {outcome}</span></h3><dl>{list}</dl>\
         <div class=photo>照片、备注 Photo, remarks<br>{}</div></section>",
        class(view.outcome),
        escape(&heading),
        words::sign(view.outcome),
        escape(&view.photo),
    )
}

fn class(outcome: WalkOutcome) -> &'static str {
    match outcome {
        WalkOutcome::Passed => "passed",
        WalkOutcome::Half => "half",
        WalkOutcome::Heard => "heard",
        WalkOutcome::NotHeard => "not_heard",
        WalkOutcome::Gone => "gone",
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "—" } else { text }
}

fn frame(title: &str, style: &str, more: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=zh-CN><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">{more}<title>{title}</title>\
         <style>{style}</style></head><body>{body}</body></html>\n"
    )
}
