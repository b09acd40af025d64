//! What made an alarm, as data and in sentences: rule, value, limits, how long, quality, and what was ruled out.

use kerbside_model::profile::{
    Battery, Condition, Detector, Guard, GuardTest, LoadGoal, Profile, Rule, Side, Trend, TrendGoal,
};
use kerbside_model::{Evidence, Ground, Timestamp, Value};

use crate::detect::Phase;
use crate::device::DeviceState;
use crate::explain::around::around_words;
use crate::explain::counts::losses_words;
use crate::explain::together;
use crate::explain::unusual;
use crate::explain::words::{during_words, rule_words};
use crate::explain::{chinese_value, english_value, names, span, span_zh, unit_of};

/// The evidence of the detector at `position`, which has just raised its condition.
pub(crate) fn evidence(profile: &Profile, state: &DeviceState, position: usize, at: Timestamp) -> Evidence {
    let detector = &profile.detectors[position];
    let slot = &state.detectors[position];
    let last = detector.point.and_then(|point| state.last.get(usize::from(point)));
    let (limit, clear) = limits(&detector.rule);
    let mut grounds = vec![rule(profile, detector)];
    grounds.extend(detector.point.is_some().then(|| how_long(detector, slot.since, slot.count, at)));
    if let (Some(point), Some(last)) = (detector.point, &last) {
        let point = &profile.points[usize::from(point)];
        let (name, name_zh) = names(point);
        let (flag, observed_at) = (last.quality.flag.name(), last.observed_at);
        let said = last.value.map_or_else(|| "-".to_owned(), english_value);
        let said_zh = last.value.map_or_else(|| "-".to_owned(), chinese_value);
        let unit = unit_of(point);
        let zh = format!("{name_zh} {said_zh}{unit}，观测于 {observed_at}，质量 {flag}");
        grounds.push(Ground { en: format!("{name} {said}{unit}, observed at {observed_at}, quality {flag}"), zh });
    }
    grounds.extend(unusual::grounds(slot));
    grounds.extend(together::other_points(profile, state, detector));
    grounds.extend(detector.when.iter().map(|guard| guard_holds(profile, state, guard)));
    grounds.extend(ruled_out(detector));
    grounds.extend(detector.unless.iter().map(|condition| excuse(&profile.conditions[usize::from(*condition)])));
    grounds.extend(others(profile, state, position));
    Evidence {
        profile: profile.title(),
        profile_version: profile.version,
        detector: u16::try_from(position).unwrap_or(u16::MAX),
        rule: detector.rule.name().to_owned(),
        point: detector.point.map_or_else(String::new, |point| profile.points[usize::from(point)].name.to_string()),
        value: last.as_ref().and_then(|last| last.value.cloned()),
        flag: last.as_ref().map(|last| last.quality.flag),
        observed_at: last.map(|last| last.observed_at),
        limit,
        clear,
        // Silence is wrong from the last frame on.
        since: if matches!(detector.rule, Rule::Silence { .. }) { state.heard_from() } else { slot.since },
        grounds,
    }
}

fn limits(rule: &Rule) -> (Option<f64>, Option<f64>) {
    match rule {
        Rule::Threshold { raise, clear, .. } | Rule::Rate { raise, clear, .. } => (Some(*raise), Some(*clear)),
        Rule::Flatline { tolerance, .. } => (Some(*tolerance), None),
        Rule::Forecast(forecast) => (Some(forecast.reaches), None),
        Rule::Deviation(deviation) => (Some(deviation.raise), Some(deviation.clear)),
        Rule::Baseline(baseline) => (Some(baseline.above), Some(baseline.clear)),
        Rule::Frequency(frequency) => (Some(frequency.times), None),
        Rule::Unusual(unusual) => (Some(unusual.score), None),
        Rule::Trend(Trend { goal: TrendGoal::Change { by, .. }, .. }) => (Some(*by), None),
        Rule::Trend(Trend { goal: TrendGoal::Reaches { limit, .. }, .. }) => (Some(*limit), None),
        Rule::Amount(amount) => (Some(amount.above), Some(amount.clear)),
        Rule::Losses(losses) => (Some(losses.above_percent), Some(losses.clear_percent)),
        Rule::Shift(shift) => (Some(shift.limit), None),
        Rule::Battery(Battery { course: Trend { goal: TrendGoal::Reaches { limit, .. }, .. }, .. }) => {
            (Some(*limit), None)
        }
        Rule::Spike(spikes) => (Some(f64::from(spikes.times)), Some(f64::from(spikes.clear))),
        Rule::Load(load) => match load.goal {
            LoadGoal::Below { raise, clear } | LoadGoal::Above { raise, clear } => (Some(raise), Some(clear)),
            LoadGoal::Outside { .. } => (None, None),
        },
        Rule::Combination(_) | Rule::Expression(_) => (None, None),
        Rule::Battery(_) | Rule::Flapping(_) | Rule::State { .. } | Rule::Silence { .. } => (None, None),
    }
}

fn rule(profile: &Profile, detector: &Detector) -> Ground {
    let of = |point: u16| (&profile.points[usize::from(point)], names(&profile.points[usize::from(point)]));
    let (mut en, mut zh) = match (&detector.rule, detector.point) {
        (Rule::Threshold { side, raise, clear, .. }, Some(point)) => {
            let (point, (name, name_zh)) = of(point);
            let unit = unit_of(point);
            let ((way, back), (way_zh, back_zh)) = match side {
                Side::Below => (("or below", "or above"), ("及以下", "及以上")),
                _ => (("or above", "or below"), ("及以上", "及以下")),
            };
            (
                format!("rule: {name} {raise}{unit} {way}, over at {clear}{unit} {back}"),
                format!("规则：{name_zh} {raise}{unit} {way_zh}告警，{clear}{unit} {back_zh}解除"),
            )
        }
        (Rule::Rate { raise, clear, per, .. }, Some(point)) => {
            let (point, (name, name_zh)) = of(point);
            let unit = unit_of(point);
            (
                format!("rule: {name} changes by {raise}{unit} in {}, over at {clear}{unit}", span(*per)),
                format!("规则：{name_zh}在{}内变化 {raise}{unit} 告警，{clear}{unit} 解除", span_zh(*per)),
            )
        }
        (Rule::Flatline { tolerance, duration }, Some(point)) => {
            let (_, (name, name_zh)) = of(point);
            (
                format!("rule: {name} does not move by more than {tolerance} for {}", span(*duration)),
                format!("规则：{name_zh}在{}内变化不超过 {tolerance}", span_zh(*duration)),
            )
        }
        (Rule::State { values }, Some(point)) => {
            let (_, (name, name_zh)) = of(point);
            let english: Vec<String> = values.iter().map(english_value).collect();
            let chinese: Vec<String> = values.iter().map(chinese_value).collect();
            (format!("rule: {name} is {}", english.join(" or ")), format!("规则：{name_zh}为{}", chinese.join("或")))
        }
        (Rule::Silence { after: Some(after), .. }, _) => {
            (format!("rule: no report for {}", span(*after)), format!("规则：{}无上报", span_zh(*after)))
        }
        (Rule::Silence { missed, .. }, _) => {
            (format!("rule: {missed} reports missed"), format!("规则：连续缺报 {missed} 次"))
        }
        (Rule::Losses(losses), None) => losses_words(losses),
        (rule @ (Rule::Combination(_) | Rule::Expression(_) | Rule::Spike(_) | Rule::Load(_)), Some(point)) => {
            together::rule_words(profile, of(point).0, rule)
        }
        (rule, Some(point)) => rule_words(of(point).0, rule),
        (_, None) => (String::new(), String::new()),
    };
    if let Some(during) = &detector.during {
        let (when, when_zh) = during_words(during);
        en.push_str(&format!(", {when}"));
        zh.push_str(&format!("，{when_zh}"));
    }
    if let Some(around) = &detector.around {
        let (where_, where_zh) = around_words(around);
        en.push_str(&format!(", {where_}"));
        zh.push_str(&format!("，{where_zh}"));
    }
    en.push_str(&format!(" ({} {}, {})", profile.title(), profile.version, detector.severity.name()));
    zh.push_str(&format!("（{} 第 {} 版，{}）", profile.title(), profile.version, detector.severity.name_zh()));
    Ground { en, zh }
}

fn how_long(detector: &Detector, since: Timestamp, count: u16, at: Timestamp) -> Ground {
    let held = at.since(since);
    let needed = detector.count.max(1);
    let mut en = format!("wrong since {since}: {}, {count} readings running of {needed} needed", span(held));
    let mut zh = format!("自 {since} 起异常：{}，连续 {count} 个读数（需 {needed} 个）", span_zh(held));
    if !detector.hold.is_zero() {
        en.push_str(&format!(", for {} at least", span(detector.hold)));
        zh.push_str(&format!("，至少持续 {}", span_zh(detector.hold)));
    }
    Ground { en, zh }
}

fn guard_holds(profile: &Profile, state: &DeviceState, guard: &Guard) -> Ground {
    let point = &profile.points[usize::from(guard.point)];
    let (name, name_zh) = names(point);
    let value: Option<&Value> = state.last.get(usize::from(guard.point)).and_then(|last| last.value);
    let (said, said_zh) =
        (value.map_or_else(|| "-".to_owned(), english_value), value.map_or_else(|| "-".to_owned(), chinese_value));
    let unit = unit_of(point);
    let (test, test_zh) = match &guard.test {
        GuardTest::Equals(wanted) => {
            (format!("must be {}", english_value(wanted)), format!("须为{}", chinese_value(wanted)))
        }
        GuardTest::Above(limit) => (format!("must be {limit}{unit} or above"), format!("须不低于 {limit}{unit}")),
        GuardTest::Below(limit) => (format!("must be {limit}{unit} or below"), format!("须不高于 {limit}{unit}")),
        GuardTest::Lost => ("must have lost its value".to_owned(), "须已失去有效值".to_owned()),
        GuardTest::Unknown => ("must not be known".to_owned(), "须为未知".to_owned()),
        GuardTest::Unchanged => ("must be what it was before".to_owned(), "须与上次相同".to_owned()),
    };
    Ground {
        en: format!("{name} {test}, and is {said}{unit}"),
        zh: format!("{name_zh}{test_zh}，实为 {said_zh}{unit}"),
    }
}

/// What would have been another reason for what was found, and does not stand.
fn excuse(condition: &Condition) -> Ground {
    Ground { en: format!("ruled out: {}", condition.title), zh: format!("已排除：{}", condition.title_zh) }
}

fn ruled_out(detector: &Detector) -> Vec<Ground> {
    let mut grounds = Vec::new();
    if detector.count > 1 {
        let en = "ruled out: one reading alone, such as a splash or a passing wheel".to_owned();
        grounds.push(Ground { en, zh: "已排除：单个读数（溅水、车轮碾压等）".to_owned() });
    }
    let has_jump =
        matches!(&detector.rule, Rule::Threshold { approach: Some(_), .. } | Rule::Rate { jump: Some(_), .. })
            || matches!(&detector.rule, Rule::Forecast(forecast) if forecast.jump.is_some());
    if has_jump {
        let en = "ruled out: a jump, such as a parked car; it came through the values in between".to_owned();
        grounds.push(Ground {
            en, zh: "已排除：突跳（停车、杂物等），数值逐级变化而来".to_owned()
        });
    }
    if detector.point.is_some() {
        let en = "ruled out: a reading that is not good, and history that came late".to_owned();
        grounds.push(Ground { en, zh: "已排除：质量不好的读数、迟到的历史数据".to_owned() });
    }
    grounds
}

/// Other rules of the same condition that do not find it.
fn others(profile: &Profile, state: &DeviceState, position: usize) -> Vec<Ground> {
    let condition = profile.detectors[position].condition;
    let mut grounds = Vec::new();
    for (number, detector) in profile.detectors.iter().enumerate() {
        let is_other = number != position && detector.condition == condition && !state.detectors[number].is_active();
        let Some(point) = detector.point.filter(|_| is_other) else { continue };
        let found = rule(profile, detector);
        let value = state.last.get(usize::from(point)).and_then(|last| last.value);
        let (said, said_zh) =
            (value.map_or_else(|| "-".to_owned(), english_value), value.map_or_else(|| "-".to_owned(), chinese_value));
        let (begin, begin_zh) = match state.detectors[number].phase {
            Phase::Rising => ("not for long enough yet", "尚未持续足够久"),
            _ => ("does not stand", "未成立"),
        };
        let mut ground = Ground {
            en: format!("{begin}: {}, now {said}", found.en),
            zh: format!("{begin_zh}：{}，现为{said_zh}", found.zh),
        };
        for guard in detector.when.iter().map(|guard| guard_holds(profile, state, guard)) {
            ground.en.push_str(&format!("; {}", guard.en));
            ground.zh.push_str(&format!("；{}", guard.zh));
        }
        grounds.push(ground);
    }
    grounds
}
