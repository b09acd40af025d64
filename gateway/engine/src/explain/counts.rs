//! What rules that count say in words: batteries, radio links, amounts, loose contacts and slow shifts. English and
//! Chinese.

use kerbside_model::profile::{Amount, Battery, Flapping, Losses, Point, Rule, Shift, Side, TrendGoal};
use kerbside_model::{Timestamp, Value};

use super::unusual::about;
use super::words::date;
use super::{names, rounded, span, span_zh, unit_of};
use crate::detect::{Arrival, DetectorState, Memory};
use crate::local::Local;

/// Why a rule that counts found something; `value` is the last reading.
pub(crate) fn of_count(
    point: &Point,
    rule: &Rule,
    state: &DetectorState,
    value: Option<&Value>,
    (at, local): (Timestamp, Option<&Local>),
) -> (String, String) {
    let (name, name_zh) = names(point);
    let unit = unit_of(point);
    match (rule, state.memory()) {
        (Rule::Amount(amount), Some(Memory::Amount(sum))) => {
            let (sum, within) = (about(sum.sum()), amount.within);
            (
                format!("{name}: {sum}{unit} within {}, limit {}{unit}", span(within), amount.above),
                format!("{name_zh}：{}内累计 {sum}{unit}，限值 {}{unit}", span_zh(within), amount.above),
            )
        }
        (Rule::Flapping(flapping), Some(Memory::Flaps(flaps))) => {
            let (changes, within) = (flaps.changes(), flapping.within);
            (
                format!("{name} changed {changes} times within {}: a loose contact or wire", span(within)),
                format!("{name_zh}在{}内变化 {changes} 次，疑似触点或接线松动", span_zh(within)),
            )
        }
        (Rule::Shift(shift), Some(Memory::Creep(creep))) => {
            let Some(left) = creep.left(shift) else { return (String::new(), String::new()) };
            let (middle, last, sum) = (about(left.middle), about(left.last), format!("{:.1}", left.sum));
            (
                format!(
                    "{name} has left its usual {middle}{unit} for days: {last}{unit} yesterday, {sum} spreads in all"
                ),
                format!("{name_zh}持续偏离常值 {middle}{unit}：昨日 {last}{unit}，累计 {sum} 个离散度"),
            )
        }
        (Rule::Battery(battery), Some(Memory::Cells(cells))) => {
            let today = local.map_or(0, |local| local.moment.day);
            let shown = value.and_then(Value::as_number).map_or_else(|| "?".to_owned(), rounded);
            let outlook = cells.outlook(battery, at, today);
            let (mut english, mut chinese) = (format!("{name} {shown}{unit}"), format!("{name_zh} {shown}{unit}"));
            if outlook.is_at_knee {
                english.push_str(", at the knee of its discharge: replace it now");
                chinese.push_str("，已到放电拐点，请立即更换");
            }
            if let Some(end) = outlook.voltage {
                let (when, when_zh) = band(end);
                english.push_str(&format!("; by the lowest value of its days it is empty about {when}"));
                chinese.push_str(&format!("；按日最小值推算，预计 {when_zh} 耗尽"));
            }
            if let Some(end) = outlook.charge {
                let ((when, when_zh), used) = (band(end), (outlook.used * 100.0).round());
                english.push_str(&format!("; by its messages {used} % of the charge is used, empty about {when}"));
                chinese.push_str(&format!("；按报文计量已用电量 {used}%，预计 {when_zh} 耗尽"));
            }
            (english, chinese)
        }
        _ => (String::new(), String::new()),
    }
}

/// A day with the first and last one that it may be.
fn band(end: Arrival) -> (String, String) {
    let (day, earliest) = (date(end.day), date(end.earliest));
    match end.latest.map(date) {
        Some(latest) => {
            (format!("{day} (between {earliest} and {latest})"), format!("{day}（{earliest} 至 {latest}）"))
        }
        None => (format!("{day} (after {earliest})"), format!("{day}（{earliest} 以后）")),
    }
}

/// How many uplinks are lost.
pub(crate) fn of_losses(losses: &Losses, state: &DetectorState) -> (String, String) {
    let Some(Memory::Gaps(gaps)) = state.memory() else { return (String::new(), String::new()) };
    let (percent, uplinks, limit) = (format!("{:.0}", gaps.percent()), losses.uplinks, losses.above_percent);
    (
        format!(
            "{percent} % of about {uplinks} uplinks never came, by the gaps in the frame counter (limit {limit} %): \
             look at the antenna, its place, and the nearest gateway"
        ),
        format!(
            "按帧计数器缺口，最近约 {uplinks} 条上行报文丢失 {percent}%（限值 {limit}%）：请检查天线、安装位置和附近网关"
        ),
    )
}

/// What a rule that counts looks for at a point.
pub(crate) fn rule_words(point: &Point, rule: &Rule) -> (String, String) {
    let (name, name_zh) = names(point);
    let unit = unit_of(point);
    match rule {
        Rule::Amount(Amount { above, clear, within, .. }) => (
            format!("rule: {name} {above}{unit} or more within {}, over at {clear}{unit}", span(*within)),
            format!("规则：{name_zh}在{}内累计 {above}{unit} 及以上告警，{clear}{unit} 及以下解除", span_zh(*within)),
        ),
        Rule::Flapping(Flapping { changes, within }) => (
            format!("rule: {name} changes {changes} times within {}", span(*within)),
            format!("规则：{name_zh}在{}内变化 {changes} 次及以上", span_zh(*within)),
        ),
        Rule::Shift(Shift { side, slack, limit, warm_up, .. }) => {
            let (way, way_zh) = match side {
                Side::Above => ("above", "高于"),
                Side::Below => ("below", "低于"),
                Side::Either => ("away from", "偏离"),
            };
            (
                format!(
                    "rule: days of {name} are {way} the usual of {warm_up} days by {limit} spreads in all, beyond \
                     {slack} each"
                ),
                format!("规则：{name_zh}逐日{way_zh} {warm_up} 天的常值，超出 {slack} 个离散度的部分累计达 {limit}"),
            )
        }
        Rule::Battery(Battery { course, knee, .. }) => {
            let TrendGoal::Reaches { limit, within } = course.goal else { return (String::new(), String::new()) };
            let (mut english, mut chinese) = (
                format!("rule: the battery is empty ({limit}{unit}) within {}", span(within)),
                format!("规则：电池将在{}内耗尽（{limit}{unit}）", span_zh(within)),
            );
            if let Some(knee) = knee {
                let (below, days, falls) = (knee.below, knee.days, knee.falls_per_week);
                english.push_str(&format!(
                    ", or its days are below {below}{unit} {days} times running, or fall by {falls}{unit} in a week"
                ));
                chinese
                    .push_str(&format!("，或日最小值连续 {days} 天低于 {below}{unit}，或每周下降 {falls}{unit} 以上"));
            }
            (english, chinese)
        }
        _ => (String::new(), String::new()),
    }
}

/// What is looked for in the frame counter.
pub(crate) fn losses_words(losses: &Losses) -> (String, String) {
    let Losses { above_percent, clear_percent, uplinks } = losses;
    (
        format!("rule: {above_percent} % of about {uplinks} uplinks lost, over at {clear_percent} %"),
        format!("规则：最近约 {uplinks} 条上行报文丢失 {above_percent}% 及以上告警，{clear_percent}% 及以下解除"),
    )
}
