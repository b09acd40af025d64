//! Outcomes and their reasons in words, Chinese first: that is who reads them in the street.

use kerbside_engine::{Seen, WalkDeviceView, WalkOutcome};

/// The outcome as a heading of a device.
pub(super) fn outcome(outcome: WalkOutcome) -> (&'static str, &'static str) {
    match outcome {
        WalkOutcome::Passed => ("合格", "passed"),
        WalkOutcome::Half => ("未恢复", "half seen"),
        WalkOutcome::Heard => ("未触发", "not tested"),
        WalkOutcome::NotHeard => ("未上报", "not heard"),
        WalkOutcome::Gone => ("不在台账", "not in the inventory"),
    }
}

/// A sign that is read from afar, also without colours.
pub(super) fn sign(outcome: WalkOutcome) -> &'static str {
    match outcome {
        WalkOutcome::Passed => "✔",
        WalkOutcome::Half => "◐",
        WalkOutcome::Heard => "○",
        WalkOutcome::NotHeard | WalkOutcome::Gone => "✘",
    }
}

/// The trigger that decides: one that was seen whole, else the first.
pub(super) fn deciding(device: &WalkDeviceView) -> Option<&Seen> {
    device.seen.iter().find(|seen| seen.cleared_at.is_some()).or_else(|| device.seen.first())
}

/// Title of a trigger, in Chinese and English.
pub(super) fn title<'view>(device: &'view WalkDeviceView, name: &'view str) -> (&'view str, &'view str) {
    let trigger = device.triggers.iter().find(|trigger| trigger.name == name);
    trigger.map_or((name, name), |trigger| (&trigger.title_zh, &trigger.title))
}

/// Why the outcome is what it is, in Chinese and English.
pub(super) fn why(device: &WalkDeviceView) -> (String, String) {
    let (seen_zh, seen_en) = deciding(device).map_or(("", ""), |seen| title(device, &seen.trigger));
    let wanted = |join: &str, is_zh: bool| {
        let titles = device.triggers.iter().map(|trigger| if is_zh { &*trigger.title_zh } else { &*trigger.title });
        titles.collect::<Vec<_>>().join(join)
    };
    match device.outcome {
        WalkOutcome::Passed if device.seen.is_empty() => (
            "设备无需人工触发，核验期间已上报".to_owned(),
            "nothing to bring about by hand, and it was heard".to_owned(),
        ),
        WalkOutcome::Passed => {
            (format!("“{seen_zh}”已触发并恢复"), format!("\"{seen_en}\" was seen and is over again"))
        }
        WalkOutcome::Half => (
            format!("“{seen_zh}”已触发，尚未收到恢复：请复原后等待下一次上报"),
            format!("\"{seen_en}\" was seen and is not over: put it back and wait for the next report"),
        ),
        WalkOutcome::Heard => (
            format!("有上报，未见触发：请制造“{}”后复原", wanted("”或“", true)),
            format!("it reports, and nobody made \"{}\": make it, then put it back", wanted("\" or \"", false)),
        ),
        WalkOutcome::NotHeard => (
            "核验期间没有收到任何上报：检查电源、天线、卡和地址".to_owned(),
            "nothing came since the walk began: check power, antenna, SIM and address".to_owned(),
        ),
        WalkOutcome::Gone => ("设备已从台账中删除".to_owned(), "it was taken out of the inventory".to_owned()),
    }
}
