//! What a learner found, in words: how far from what is usual, where, how rare, and what its other views say. English
//! and Chinese.

use kerbside_learner::{Reason, Stream};
use kerbside_model::Ground;
use kerbside_model::profile::{Point, Unusual};

use super::words::WEEKDAYS;
use super::{names, rounded, unit_of};
use crate::detect::{DetectorState, Memory, Watcher};

/// Beyond these times of the usual a difference says more.
const TIMES_TOLD: (f64, f64) = (0.1, 100.0);
/// Between these a share is no news: 1.05 times the usual.
const TIMES_SAME: (f64, f64) = (0.8, 1.25);
/// One in more readings than a million is not counted: nobody saw so many.
const ORDERS_TOLD_MAX: f32 = 6.0;
/// Fewer orders of magnitude than this are one in ten: not worth telling.
const ORDERS_TOLD_MIN: f32 = 1.0;

/// The learner of a detector, when it has one.
pub(crate) fn watcher(state: &DetectorState) -> Option<&Watcher> {
    match state.memory() {
        Some(Memory::Unusual(watcher)) => Some(watcher),
        _ => None,
    }
}

/// Why a reading is unusual.
pub(crate) fn of_unusual(point: &Point, state: &DetectorState) -> (String, String) {
    let (name, name_zh) = names(point);
    let Some(found) = watcher(state).and_then(Watcher::found) else {
        return (format!("{name} is unusual"), format!("{name_zh}异常"));
    };
    let (english, chinese) = sentence(&found.reason, (name, name_zh), &unit_of(point));
    let (rare, rare_zh) = rareness(&found.reason);
    (format!("{english}{rare}"), format!("{chinese}{rare_zh}"))
}

/// What the rule looks for.
pub(crate) fn rule_words(point: &Point, rule: &Unusual) -> (String, String) {
    let (name, name_zh) = names(point);
    let Unusual { score, rest, warm_up, mode, .. } = rule;
    let mode = mode.name();
    let score = rounded(*score);
    let (often, often_zh) = match rule.false_per_month {
        Some(number) => (format!(" (about {number} false alarms a month)"), format!("（每月误报约 {number} 次）")),
        None => (String::new(), String::new()),
    };
    (
        format!(
            "rule: {name} is unusual with a score of {score} or more{often}, learnt in {mode} mode from {warm_up} \
             readings on, over after {rest} usual readings"
        ),
        format!(
            "规则：{name_zh}异常分值不低于 {score}{often_zh}，{mode} 模式，学习 {warm_up} 个读数后开始判断，\
             连续 {rest} 个正常读数后解除"
        ),
    )
}

/// What the learner's views say, beside the strongest that the sentence is about.
pub(crate) fn grounds(state: &DetectorState) -> Option<Ground> {
    let found = watcher(state)?.found()?;
    let (mut english, mut chinese) = (Vec::new(), Vec::new());
    for (stream, strength) in Stream::ALL.iter().zip(found.reason.strengths) {
        let (name, name_zh) = stream_names(*stream);
        english.push(format!("{name} {strength:.1}"));
        chinese.push(format!("{name_zh} {strength:.1}"));
    }
    let score = rounded(f64::from(found.score));
    Some(Ground {
        en: format!("score {score}; orders of magnitude of rareness: {}", english.join(", ")),
        zh: format!("异常分值 {score}；各观察角度的罕见程度（数量级）：{}", chinese.join("，")),
    })
}

fn stream_names(stream: Stream) -> (&'static str, &'static str) {
    match stream {
        Stream::Sequence => ("sequence", "前后相接"),
        Stream::LongSequence => ("long sequence", "较长走势"),
        Stream::Hour => ("hour of the day", "时段"),
        Stream::Level => ("level", "近期水平"),
        Stream::Range => ("range", "历史范围"),
    }
}

/// Such as `water level 320 mm, 3.2 times the usual 100 ± 8 mm of a Tuesday 04:00`.
fn sentence(reason: &Reason, (name, name_zh): (&str, &str), unit: &str) -> (String, String) {
    let value = rounded(reason.value);
    let [looked_at, usual, spread] = [reason.looked_at, reason.usual, reason.spread].map(about);
    let (day, day_zh) = WEEKDAYS[usize::from(reason.weekday.clamp(1, 7)) - 1];
    let hour = reason.hour;
    let (how, how_zh) = compared(reason, unit);
    let often = reason.seen.map(|seen| (seen.times, seen.of));
    let (seen, seen_zh) = match often {
        Some((times, of)) => (format!(", seen {times} times of {of}"), format!("，{of} 次中出现过 {times} 次")),
        None => (String::new(), String::new()),
    };
    match reason.stream {
        Stream::Sequence => (
            format!("{name} {value}{unit}, {how} the usual {usual} ± {spread}{unit} after the reading before{seen}"),
            format!("{name_zh} {value}{unit}，按前一读数通常为 {usual} ± {spread}{unit}，{how_zh}{seen_zh}"),
        ),
        Stream::LongSequence => (
            format!("{name} {value}{unit}, {how} the usual {usual} ± {spread}{unit} after such a course{seen}"),
            format!("{name_zh} {value}{unit}，按此前走势通常为 {usual} ± {spread}{unit}，{how_zh}{seen_zh}"),
        ),
        Stream::Hour => (
            format!(
                "{name} {value}{unit}, of late about {looked_at}{unit}: {how} the usual {usual} ± {spread}{unit} of a {day} \
                 {hour:02}:00"
            ),
            format!(
                "{name_zh} {value}{unit}，近期平均 {looked_at}{unit}，{day_zh} {hour} 时通常为 {usual} ± \
                 {spread}{unit}，{how_zh}"
            ),
        ),
        Stream::Level => (
            format!(
                "{name} {value}{unit}, its level of late about {looked_at}{unit}: {how} the usual {usual} ± {spread}{unit}, \
                 on a {day} {hour:02}:00"
            ),
            format!(
                "{name_zh} {value}{unit}，近期水平 {looked_at}{unit}，通常为 {usual} ± {spread}{unit}，{how_zh}\
                 （{day_zh} {hour} 时）"
            ),
        ),
        Stream::Range => {
            let (beyond, beyond_zh) =
                if reason.looked_at < reason.usual { ("the lowest", "低于") } else { ("the highest", "高于") };
            (
                format!("{name} {value}{unit}, beyond {beyond} ever learnt, {usual}{unit}, on a {day} {hour:02}:00"),
                format!("{name_zh} {value}{unit}，{beyond_zh}学习以来的极值 {usual}{unit}（{day_zh} {hour} 时）"),
            )
        }
    }
}

/// How a value compares with the usual: as a multiple where that says something, else as a distance.
fn compared(reason: &Reason, unit: &str) -> (String, String) {
    let times = reason.times_usual().filter(|times| {
        let is_told = *times >= TIMES_TOLD.0 && *times <= TIMES_TOLD.1;
        is_told && !(*times > TIMES_SAME.0 && *times < TIMES_SAME.1)
    });
    if let Some(times) = times {
        return (format!("{times:.1} times"), format!("为通常的 {times:.1} 倍"));
    }
    let distance = reason.looked_at - reason.usual;
    let far = about(distance.abs());
    match distance < 0.0 {
        true => (format!("{far}{unit} below"), format!("偏低 {far}{unit}")),
        false => (format!("{far}{unit} above"), format!("偏高 {far}{unit}")),
    }
}

/// Three figures: a mean is not known to more.
pub(super) fn about(number: f64) -> String {
    let text = match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// How rare the strongest view finds it.
fn rareness(reason: &Reason) -> (String, String) {
    let orders = reason.strengths.iter().copied().fold(0.0, f32::max);
    if orders < ORDERS_TOLD_MIN {
        return (String::new(), String::new());
    }
    if orders > ORDERS_TOLD_MAX {
        return ("; rarer than one reading in a million".to_owned(), "；罕见程度不足百万分之一".to_owned());
    }
    // One figure is as much as is known of it.
    let whole = 10_f64.powf(f64::from(orders.floor()));
    let readings = (10_f64.powf(f64::from(orders)) / whole).round() * whole;
    (format!("; as rare as one reading in {readings:.0}"), format!("；约 {readings:.0} 个读数中出现一次"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(stream: Stream, looked_at: f64, usual: f64) -> Reason {
        Reason {
            stream,
            value: 330.0,
            looked_at,
            usual,
            spread: 8.0,
            seen: matches!(stream, Stream::Sequence).then_some(kerbside_learner::Seen { times: 0, of: 214 }),
            hour: 4,
            weekday: 2,
            strengths: [4.5, 1.0, 2.0, 0.0, 3.0],
        }
    }

    fn said(reason: &Reason) -> (String, String) {
        let (english, chinese) = sentence(reason, ("water level", "液位"), " mm");
        let (rare, rare_zh) = rareness(reason);
        (english + &rare, chinese + &rare_zh)
    }

    #[test]
    fn a_reason_is_told_in_plain_words() {
        for (reason, english, chinese) in [
            (
                reason(Stream::Hour, 320.0, 100.0),
                "water level 330 mm, of late about 320 mm: 3.2 times the usual 100 ± 8 mm of a Tuesday 04:00; as rare as one \
                 reading in 30000",
                "液位 330 mm，近期平均 320 mm，周二 4 时通常为 100 ± 8 mm，为通常的 3.2 倍；约 30000 个读数中出现一次",
            ),
            (
                reason(Stream::Sequence, 330.0, 310.0),
                "water level 330 mm, 20 mm above the usual 310 ± 8 mm after the reading before, seen 0 times of 214; as \
                 rare as one reading in 30000",
                "液位 330 mm，按前一读数通常为 310 ± 8 mm，偏高 20 mm，214 次中出现过 0 次；约 30000 个读数中出现一次",
            ),
            (
                reason(Stream::Range, 330.0, 350.0),
                "water level 330 mm, beyond the lowest ever learnt, 350 mm, on a Tuesday 04:00; as rare as one reading \
                 in 30000",
                "液位 330 mm，低于学习以来的极值 350 mm（周二 4 时）；约 30000 个读数中出现一次",
            ),
            (
                reason(Stream::Level, -20.0, 0.0),
                "water level 330 mm, its level of late about -20 mm: 20 mm below the usual 0 ± 8 mm, on a Tuesday 04:00; as \
                 rare as one reading in 30000",
                "液位 330 mm，近期水平 -20 mm，通常为 0 ± 8 mm，偏低 20 mm（周二 4 时）；约 30000 个读数中出现一次",
            ),
        ] {
            assert_eq!(said(&reason), (english.to_owned(), chinese.to_owned()));
        }
    }

    #[test]
    fn a_mean_is_told_in_three_figures() {
        let told = [140.417, 15.769, 1.123, 0.0004, -0.0001, 0.25, 2_345.6, 100.0, -30.04].map(about);
        assert_eq!(told, ["140", "15.8", "1.12", "0", "0", "0.25", "2346", "100", "-30"]);
    }

    #[test]
    fn what_nobody_saw_often_enough_to_count_is_not_counted() {
        let mut rare = reason(Stream::Hour, 320.0, 100.0);
        rare.strengths[0] = 7.5;
        assert!(said(&rare).0.ends_with("; rarer than one reading in a million"), "{:?}", said(&rare));
        rare.strengths = [0.5; 5];
        assert!(!said(&rare).0.contains("rare"), "{:?}", said(&rare));
    }
}
