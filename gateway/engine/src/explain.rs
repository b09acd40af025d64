//! Says in words why an alarm was raised: rule, value, limit, time. English and Chinese.

pub(crate) mod around;
mod counted;
pub(crate) mod counts;
pub(crate) mod together;
pub(crate) mod unusual;
pub(crate) mod words;

use std::time::Duration;

use kerbside_model::profile::{Detector, GuardTest, Point, Profile, Rule, Side};
use kerbside_model::{Timestamp, Value, vocabulary};

use self::around::around_words;
use self::counts::{of_count, of_losses};
use self::together::{of_combination, of_lamp_or_spikes};
use self::unusual::of_unusual;
use self::words::{during_words, of_course, of_habit};
use crate::device::{DeviceState, teacher_of};
use crate::local::Local;
use crate::quality::{Fault, fault_words};

/// The explanation of the detector at `position`.
pub(crate) fn explain(
    profile: &Profile,
    state: &DeviceState,
    position: usize,
    at: Timestamp,
    (interval, local): (Option<Duration>, Option<&Local>),
) -> (String, String) {
    let detector = &profile.detectors[position];
    let (mut english, mut chinese) = match (detector.point.map(usize::from), &detector.rule) {
        (
            Some(point),
            Rule::Forecast(_) | Rule::Deviation(_) | Rule::Trend(_) | Rule::Baseline(_) | Rule::Frequency(_),
        ) => {
            let number = state.last.get(point).and_then(|last| last.value).and_then(Value::as_number);
            let slot = &state.detectors[teacher_of(profile, position).unwrap_or(position)];
            of_course(&profile.points[point], &detector.rule, slot, number.unwrap_or(f64::NAN), local)
        }
        (Some(point), Rule::Unusual(_)) => of_unusual(&profile.points[point], &state.detectors[position]),
        (Some(point), Rule::Battery(_) | Rule::Amount(_) | Rule::Flapping(_) | Rule::Shift(_)) => {
            let value = state.last.get(point).and_then(|last| last.value);
            of_count(&profile.points[point], &detector.rule, &state.detectors[position], value, (at, local))
        }
        (None, Rule::Losses(losses)) => of_losses(losses, &state.detectors[position]),
        (Some(_), Rule::Combination(combination) | Rule::Expression(combination)) => {
            of_combination(profile, state, combination)
        }
        (Some(point), rule @ (Rule::Spike(_) | Rule::Load(_))) => {
            let number = state.last.get(point).and_then(|last| last.value).and_then(Value::as_number);
            of_lamp_or_spikes(&profile.points[point], rule, &state.detectors[position], number.unwrap_or(f64::NAN))
        }
        (Some(point), _) => of_point(&profile.points[point], detector, state, position, at),
        (None, rule) => {
            let (mut english, mut chinese) = of_silence(state, at, interval);
            if let Some((more, more_zh)) = of_habit(rule, &state.detectors[position], &profile.points) {
                english.push_str(&more);
                chinese.push_str(&more_zh);
            }
            (english, chinese)
        }
    };
    if let Some(during) = &detector.during {
        let (when, when_zh) = during_words(during);
        english.push_str(&format!(", {when}"));
        chinese.push_str(&format!("（{when_zh}）"));
    }
    if let Some(around) = &detector.around {
        let (where_, where_zh) = around_words(around);
        english.push_str(&format!(", {where_}"));
        chinese.push_str(&format!("（{where_zh}）"));
    }
    for guard in &detector.when {
        let point = &profile.points[usize::from(guard.point)];
        let (name, name_zh) = names(point);
        let unit = unit_of(point);
        let (test, test_zh) = match &guard.test {
            GuardTest::Equals(value) => (format!("is {}", english_value(value)), format!("为{}", chinese_value(value))),
            GuardTest::Above(limit) => (format!("is at or above {limit}{unit}"), format!("不低于 {limit}{unit}")),
            GuardTest::Below(limit) => (format!("is at or below {limit}{unit}"), format!("不高于 {limit}{unit}")),
            GuardTest::Lost => ("has no value any more".to_owned(), "已无有效值".to_owned()),
            GuardTest::Unknown => ("is not known".to_owned(), "未知".to_owned()),
            GuardTest::Unchanged => ("is what it was before".to_owned(), "与上次相同".to_owned()),
        };
        english.push_str(&format!(", while {name} {test}"));
        chinese.push_str(&format!("，且{name_zh}{test_zh}"));
    }
    if let Some((warning, warning_zh)) = vocabulary::warning(&profile.conditions[usize::from(detector.condition)].name)
    {
        english.push_str(&format!("; {warning}"));
        chinese.push_str(&format!("；{warning_zh}"));
    }
    (english, chinese)
}

fn of_point(
    point: &Point,
    detector: &Detector,
    state: &DeviceState,
    position: usize,
    at: Timestamp,
) -> (String, String) {
    let (name, name_zh) = names(point);
    let unit = unit_of(point);
    let slot = detector.point.and_then(|point| state.last.get(usize::from(point)));
    let value = slot.and_then(|last| last.value);
    let shown = value.map_or_else(|| "?".to_owned(), english_value);
    let shown_zh = value.map_or_else(|| "?".to_owned(), chinese_value);
    let held = if detector.hold.is_zero() { String::new() } else { format!(" for {}", span(detector.hold)) };
    let held_zh = if detector.hold.is_zero() { String::new() } else { format!("，持续 {}", span_zh(detector.hold)) };
    match &detector.rule {
        Rule::Threshold { side: Side::Below, raise, .. } => (
            format!("{name} {shown}{unit}, at or below the limit of {raise}{unit}{held}"),
            format!("{name_zh} {shown_zh}{unit}，不高于下限 {raise}{unit}{held_zh}"),
        ),
        Rule::Threshold { raise, .. } => (
            format!("{name} {shown}{unit}, at or above the limit of {raise}{unit}{held}"),
            format!("{name_zh} {shown_zh}{unit}，达到或超过限值 {raise}{unit}{held_zh}"),
        ),
        Rule::State { .. } => (format!("{name}: {shown}{held}"), format!("{name_zh}：{shown_zh}{held_zh}")),
        Rule::Rate { side, raise, per, .. } => {
            let (verb, verb_zh) = match side {
                Side::Above => ("rises", "上升"),
                Side::Below => ("falls", "下降"),
                Side::Either => ("changes", "变化"),
            };
            (
                format!("{name} {verb} by {raise}{unit} or more in {}, now {shown}{unit}", span(*per)),
                format!("{name_zh}在{}内{verb_zh} {raise}{unit} 以上，现为 {shown_zh}{unit}", span_zh(*per)),
            )
        }
        Rule::Flatline { tolerance, .. } => {
            let still = at.since(state.detectors[position].reference_at());
            (
                format!("{name} has stood at {shown}{unit} (within {tolerance}) for {}", span(still)),
                format!("{name_zh}停在 {shown_zh}{unit}（变化不超过 {tolerance}）已 {}", span_zh(still)),
            )
        }
        // These are told apart before: silence has no point, and the others have a memory.
        Rule::Combination(_) | Rule::Expression(_) | Rule::Spike(_) | Rule::Load(_) => (String::new(), String::new()),
        Rule::Battery(_) | Rule::Amount(_) | Rule::Flapping(_) | Rule::Shift(_) | Rule::Losses(_) => {
            of_silence(state, at, None)
        }
        Rule::Silence { .. }
        | Rule::Forecast(_)
        | Rule::Deviation(_)
        | Rule::Trend(_)
        | Rule::Baseline(_)
        | Rule::Frequency(_)
        | Rule::Unusual(_) => of_silence(state, at, None),
    }
}

fn of_silence(state: &DeviceState, at: Timestamp, interval: Option<Duration>) -> (String, String) {
    if state.gone_at.is_some() {
        let texts = (
            "reported gone by its node or by the broker (Sparkplug death)",
            "边缘节点或代理报告其已离线（Sparkplug 离线消息）",
        );
        return (texts.0.to_owned(), texts.1.to_owned());
    }
    let quiet = at.since(state.heard_from());
    let (expected, expected_zh) = match interval {
        Some(interval) => {
            (format!(", expected every {}", span(interval)), format!("，应每 {} 上报一次", span_zh(interval)))
        }
        None => (String::new(), String::new()),
    };
    (
        format!("no readable frame for {}{expected}", span(quiet)),
        format!("已 {} 没有可读上报{expected_zh}", span_zh(quiet)),
    )
}

/// Why a device's clock counts as wrong. `offset_ms` is how far it is behind ours; negative when it is ahead.
pub(crate) fn of_drift(offset_ms: i64, limit: Duration) -> (String, String) {
    let off = Duration::from_millis(offset_ms.unsigned_abs());
    let (way, way_zh) = if offset_ms < 0 { ("ahead of", "快") } else { ("behind", "慢") };
    (
        format!("the device's clock is {} {way} ours, beyond the limit of {}", span(off), span(limit)),
        format!("设备时钟比网关{way_zh} {}，超过限值 {}", span_zh(off), span_zh(limit)),
    )
}

/// Why a sensor counts as faulty.
pub(crate) fn of_sensor(point: &Point, fault: Fault, at: Timestamp) -> (String, String) {
    let (name, name_zh) = names(point);
    let (what, what_zh) = fault_words(fault.what);
    let since = at.since(fault.since);
    (
        format!(
            "sensor of {name}: {what}; {} of its last 64 readings are not good, the last time for {}",
            fault.wrong,
            span(since)
        ),
        format!(
            "{name_zh}传感器：{what_zh}；最近 64 个读数中有 {} 个不可用，本次已持续 {}",
            fault.wrong,
            span_zh(since)
        ),
    )
}

/// Adds that the times of an alarm are not to be relied on.
pub(crate) fn unsure((mut english, mut chinese): (String, String)) -> (String, String) {
    english.push_str("; time is unsure: the gateway's clock is not set");
    chinese.push_str("；时间不确定：网关尚未对时");
    (english, chinese)
}

/// The unit with a space before it, when there is one.
pub(crate) fn unit_of(point: &Point) -> String {
    if point.unit.is_empty() { String::new() } else { format!(" {}", point.unit) }
}

pub(crate) fn names(point: &Point) -> (&str, &str) {
    vocabulary::point(&point.name).map_or((point.name.as_ref(), point.name.as_ref()), |term| (term.en, term.zh))
}

pub(crate) fn english_value(value: &Value) -> String {
    match value {
        Value::Number(number) => rounded(*number),
        Value::Boolean(true) => "yes".to_owned(),
        Value::Boolean(false) => "no".to_owned(),
        Value::Text(text) => text.to_string(),
    }
}

pub(crate) fn chinese_value(value: &Value) -> String {
    match value {
        Value::Boolean(true) => "是".to_owned(),
        Value::Boolean(false) => "否".to_owned(),
        other => english_value(other),
    }
}

/// Three decimals are enough to be read out.
pub(crate) fn rounded(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The two largest units of a span: `2 h 5 min`.
pub(crate) fn span(duration: Duration) -> String {
    spell(duration, [" d", " h", " min", " s", " ms"], " ")
}

pub(crate) fn span_zh(duration: Duration) -> String {
    spell(duration, ["天", "小时", "分钟", "秒", "毫秒"], "")
}

fn spell(duration: Duration, units: [&str; 5], between: &str) -> String {
    let milliseconds = duration.as_millis();
    let sizes: [u128; 5] = [86_400_000, 3_600_000, 60_000, 1_000, 1];
    let Some(first) = sizes.iter().position(|size| milliseconds >= *size) else { return format!("0{}", units[3]) };
    let mut parts = vec![format!("{}{}", milliseconds / sizes[first], units[first])];
    if let Some(next) = sizes.get(first + 1).filter(|_| first < 3) {
        let rest = milliseconds % sizes[first] / next;
        if rest > 0 {
            parts.push(format!("{rest}{}", units[first + 1]));
        }
    }
    parts.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_in_both_directions_and_languages() {
        let limit = Duration::from_secs(600);
        let (english, chinese) = of_drift(3_660_000, limit);
        assert_eq!(english, "the device's clock is 1 h 1 min behind ours, beyond the limit of 10 min");
        assert_eq!(chinese, "设备时钟比网关慢 1小时1分钟，超过限值 10分钟");
        let (english, chinese) = unsure(of_drift(-86_400_000, limit));
        assert!(english.starts_with("the device's clock is 1 d ahead of ours"), "{english}");
        assert!(english.ends_with("; time is unsure: the gateway's clock is not set"), "{english}");
        assert!(chinese.contains("快 1天") && chinese.ends_with("；时间不确定：网关尚未对时"), "{chinese}");
    }

    #[test]
    fn spans_are_spelt_with_their_two_largest_units() {
        assert_eq!(span(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(span_zh(Duration::from_secs(7_500)), "2小时5分钟");
        assert_eq!(span(Duration::from_millis(1_500)), "1 s");
        assert_eq!(span(Duration::ZERO), "0 s");
    }
}
