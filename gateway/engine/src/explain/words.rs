//! What rules with a memory say in words: why they found something, and what they look for. English and Chinese.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::profile::{
    Baseline, DayValue, Deviation, During, Forecast, Habit, Light, Measure, Point, Rise, Rule, Side, Trend, TrendGoal,
};

use super::counted::{frequency_words, of_frequency};
use super::unusual::about;
use super::{names, rounded, span, span_zh, unit_of};
use crate::detect::{DetectorState, Memory, Slope};
use crate::local::Local;

/// More spreads than this say no more: what never moved has none.
const SPREADS_TOLD_MAX: f64 = 999.0;
const MINUTE_SECONDS: f64 = 60.0;
const DAY_MS: i64 = 86_400_000;
pub(super) const WEEKDAYS: [(&str, &str); 7] = [
    ("Monday", "周一"),
    ("Tuesday", "周二"),
    ("Wednesday", "周三"),
    ("Thursday", "周四"),
    ("Friday", "周五"),
    ("Saturday", "周六"),
    ("Sunday", "周日"),
];

/// Why a rule with a memory found something; `number` is the last reading.
pub(crate) fn of_course(
    point: &Point,
    rule: &Rule,
    state: &DetectorState,
    number: f64,
    local: Option<&Local>,
) -> (String, String) {
    match (rule, state.memory()) {
        (Rule::Forecast(forecast), Some(Memory::Track(track))) => {
            let course = track.course(forecast, number);
            of_forecast(point, forecast, number, course.per_second, course.left)
        }
        (Rule::Deviation(deviation), Some(Memory::Normal(normal))) => {
            let usual = local.and_then(|local| normal.usual(deviation, local).zip(Some(local)));
            let (name, name_zh) = names(point);
            let (unit, shown) = (unit_of(point), rounded(number));
            let Some((usual, local)) = usual else {
                return (format!("{name} {shown}{unit}"), format!("{name_zh} {shown}{unit}"));
            };
            let (day, day_zh) = WEEKDAYS[usize::from(local.moment.weekday).min(6)];
            let hour = local.moment.minute / 60;
            let (middle, distance) = (about(usual.middle), number - usual.middle);
            let spreads =
                format!("{:.1}", (distance.abs() / usual.spread.max(f64::MIN_POSITIVE)).min(SPREADS_TOLD_MAX));
            if deviation.measure == Measure::Times {
                let times = format!("{:.1}", (number / usual.middle).clamp(0.0, SPREADS_TOLD_MAX));
                return (
                    format!(
                        "{name} {shown}{unit}, {times} times the usual {middle}{unit}, learnt in {} times",
                        usual.days
                    ),
                    format!("{name_zh} {shown}{unit}，为常值 {middle}{unit} 的 {times} 倍（学习 {} 次）", usual.days),
                );
            }
            let (way, way_zh) = if distance < 0.0 { ("below", "低于") } else { ("above", "高于") };
            let (spread, days) = (about(usual.spread), usual.days);
            (
                format!(
                    "{name} {shown}{unit}, {spreads} spreads {way} the usual {middle}{unit} of a {day} at {hour}:00 \
                     (spread {spread}{unit}, from {days} days)"
                ),
                format!(
                    "{name_zh} {shown}{unit}，比{day_zh} {hour} 时的常值 {middle}{unit} {way_zh} {spreads} 个离散度\
                     （离散度 {spread}{unit}，学习 {days} 天）"
                ),
            )
        }
        (Rule::Trend(trend), Some(Memory::Days(days))) => match days.slope() {
            Some(slope) => of_trend(point, trend, slope),
            None => (String::new(), String::new()),
        },
        (Rule::Baseline(baseline), Some(Memory::Rest(rest))) => {
            let (name, name_zh) = names(point);
            let (unit, shown) = (unit_of(point), rounded(number));
            let moved = rest.moved(baseline, number).unwrap_or_default();
            let (place, moved) = (about(number - moved), about(moved.abs()));
            (
                format!("{name} {shown}{unit}, {moved}{unit} from where it rests at {place}{unit}"),
                format!("{name_zh} {shown}{unit}，偏离静置值 {place}{unit} 达 {moved}{unit}"),
            )
        }
        (Rule::Frequency(frequency), Some(Memory::Tally(tally))) => of_frequency(point, frequency, tally),
        _ => (String::new(), String::new()),
    }
}

fn of_forecast(
    point: &Point,
    forecast: &Forecast,
    number: f64,
    per_second: f64,
    left: Option<Duration>,
) -> (String, String) {
    let (name, name_zh) = names(point);
    let (unit, limit, shown) = (unit_of(point), forecast.reaches, rounded(number));
    let towards = if forecast.side == Side::Below { -1.0 } else { 1.0 };
    if (number - limit) * towards >= 0.0 {
        return (
            format!("{name} {shown}{unit} has reached {limit}{unit}"),
            format!("{name_zh} {shown}{unit}，已达到 {limit}{unit}"),
        );
    }
    let pace = about((per_second * MINUTE_SECONDS).abs());
    let (verb, verb_zh) = if per_second < 0.0 { ("falls", "下降") } else { ("rises", "上升") };
    let left = left.unwrap_or_default();
    (
        format!("{name} {shown}{unit} {verb} by {pace}{unit} a minute and reaches {limit}{unit} in {}", span(left)),
        format!("{name_zh} {shown}{unit}，每分钟{verb_zh} {pace}{unit}，预计 {} 后达到 {limit}{unit}", span_zh(left)),
    )
}

fn of_trend(point: &Point, trend: &Trend, slope: Slope) -> (String, String) {
    let (name, name_zh) = names(point);
    let unit = unit_of(point);
    let (of, of_zh) = day_words(trend.of);
    let middle = f64::from(slope.middle);
    let (verb, verb_zh) = if middle < 0.0 { ("falls", "下降") } else { ("rises", "上升") };
    let month = about((middle * 30.0).abs());
    let (days, total) = (slope.days, about((middle * f64::from(slope.days)).abs()));
    let mut english =
        format!("{name} {verb} by {month}{unit} in 30 d, {total}{unit} over {days} d, by the {of} of each day");
    let mut chinese = format!("{name_zh}按{of_zh}每 30 天{verb_zh} {month}{unit}，{days} 天共 {total}{unit}");
    if let TrendGoal::Reaches { limit, .. } = trend.goal
        && let Some(arrival) = slope.arrival(limit)
    {
        let (day, earliest) = (date(arrival.day), date(arrival.earliest));
        let (latest, latest_zh) = match arrival.latest.map(date) {
            Some(latest) => (format!("and {latest}"), format!("至 {latest}")),
            None => ("or later".to_owned(), "以后".to_owned()),
        };
        english.push_str(&format!("; reaches {limit}{unit} about {day} (between {earliest} {latest})"));
        chinese.push_str(&format!("；预计 {day} 达到 {limit}{unit}（{earliest} {latest_zh}）"));
    }
    (english, chinese)
}

/// The day of a number of days since 1970, as 2026-11-23.
pub(super) fn date(day: i32) -> String {
    let text = Timestamp(i64::from(day) * DAY_MS).to_string();
    text.get(..10).unwrap_or(&text).to_owned()
}

fn day_words(of: DayValue) -> (&'static str, &'static str) {
    match of {
        DayValue::Minimum => ("minimum", "日最小值"),
        DayValue::Median => ("median", "日中位数"),
        DayValue::Maximum => ("maximum", "日最大值"),
    }
}

/// What a rule with a memory looks for at a point.
pub(crate) fn rule_words(point: &Point, rule: &Rule) -> (String, String) {
    let (name, name_zh) = names(point);
    let unit = unit_of(point);
    match rule {
        Rule::Forecast(Forecast { reaches, within, readings, window, .. }) => (
            format!(
                "rule: {name} reaches {reaches}{unit} within {}, by {readings} readings or more of {}",
                span(*within),
                span(*window)
            ),
            format!(
                "规则：按最近 {} 内不少于 {readings} 个读数，{name_zh}将在 {}内达到 {reaches}{unit}",
                span_zh(*window),
                span_zh(*within)
            ),
        ),
        Rule::Deviation(Deviation { measure: Measure::Times, raise, clear, least, .. }) => (
            format!(
                "rule: {name} is {raise} times what is usual and {least}{unit} more at least, over at {clear} times"
            ),
            format!("规则：{name_zh}达到常值的 {raise} 倍且至少高出 {least}{unit}，回到 {clear} 倍以内解除"),
        ),
        Rule::Deviation(Deviation { raise, clear, least, .. }) => (
            format!(
                "rule: {name} {raise} spreads and {least}{unit} from what is usual at this hour, \
                 over at {clear} spreads"
            ),
            format!("规则：{name_zh}偏离该时段常值 {raise} 个离散度且不少于 {least}{unit}，回到 {clear} 个以内解除"),
        ),
        Rule::Trend(Trend { goal, total, of, days, .. }) => {
            let (of, of_zh) = day_words(*of);
            let (goal, goal_zh) = match goal {
                TrendGoal::Change { by, per } => (
                    format!("changes by {by}{unit} in {}", span(*per)),
                    format!("在{}内变化 {by}{unit}", span_zh(*per)),
                ),
                TrendGoal::Reaches { limit, within } => (
                    format!("reaches {limit}{unit} within {}", span(*within)),
                    format!("将在{}内达到 {limit}{unit}", span_zh(*within)),
                ),
            };
            (
                format!("rule: {name} {goal}, and {total}{unit} in all, by the {of} of each of {days} days"),
                format!("规则：{name_zh}按 {days} 天的{of_zh}{goal_zh}，且累计不少于 {total}{unit}"),
            )
        }
        Rule::Frequency(frequency) => frequency_words(point, frequency),
        Rule::Baseline(Baseline { above, clear, readings, .. }) => (
            format!(
                "rule: {name} {above}{unit} or more from where it rests, by {readings} quiet readings, \
                 over at {clear}{unit}"
            ),
            format!(
                "规则：{name_zh}偏离静置值（{readings} 个平稳读数）{above}{unit} 及以上告警，{clear}{unit} 以内解除"
            ),
        ),
        Rule::Unusual(unusual) => super::unusual::rule_words(point, unusual),
        Rule::Battery(_) | Rule::Amount(_) | Rule::Flapping(_) | Rule::Shift(_) => {
            super::counts::rule_words(point, rule)
        }
        _ => (String::new(), String::new()),
    }
}

/// What is known of the habit of a silent device, and of the rise before it, to be put behind what silence says.
pub(crate) fn of_habit(rule: &Rule, state: &DetectorState, points: &[Point]) -> Option<(String, String)> {
    let Rule::Silence { habit, rise, .. } = rule else { return None };
    let Some(Memory::Silence(known)) = state.memory() else { return None };
    let (heartbeat, track) = known.as_ref();
    let (mut english, mut chinese) = (String::new(), String::new());
    if let (Some(habit), Some(period)) = (habit, heartbeat.period()) {
        let Habit { false_per_1000_days, .. } = habit;
        let missed = heartbeat.missed(habit);
        english.push_str(&format!(
            "; it usually reports every {}, and misses {missed} running by chance less than {false_per_1000_days} times \
             in 1000 d",
            span(period)
        ));
        chinese.push_str(&format!("；平时每 {} 上报一次，连续缺报 {missed} 次已非偶然", span_zh(period)));
    }
    if let Some(Rise { point, within, .. }) = rise {
        let point = &points[usize::from(*point)];
        let ((name, name_zh), unit, risen) = (names(point), unit_of(point), about(track.risen()));
        english.push_str(&format!(", after {name} rose by {risen}{unit} in the {} before", span(*within)));
        chinese.push_str(&format!("，此前 {}内{name_zh}上升了 {risen}{unit}", span_zh(*within)));
    }
    Some((english, chinese))
}

/// When a detector watches.
pub(crate) fn during_words(during: &During) -> (String, String) {
    let (mut english, mut chinese) = (Vec::new(), Vec::new());
    if let Some((from, until)) = during.hours {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        english.push(format!("from {} to {}", clock(from), clock(until)));
        chinese.push(format!("{} 至 {}", clock(from), clock(until)));
    }
    if let Some(days) = during.weekdays {
        let named = WEEKDAYS.iter().enumerate().filter(|(day, _)| days >> day & 1 == 1);
        let (days, days_zh): (Vec<&str>, Vec<&str>) = named.map(|(_, names)| *names).unzip();
        english.push(format!("on {}", days.join(", ")));
        chinese.push(days_zh.join("、"));
    }
    if let Some((first, last)) = during.months {
        english.push(format!("in months {first} to {last}"));
        chinese.push(format!("{first} 月至 {last} 月"));
    }
    match during.light {
        Some(Light::Day) => {
            english.push("between sunrise and sunset".to_owned());
            chinese.push("日出至日落".to_owned());
        }
        Some(Light::Night) => {
            english.push("between sunset and sunrise".to_owned());
            chinese.push("日落至日出".to_owned());
        }
        None => {}
    }
    (english.join(" "), chinese.join("，"))
}
