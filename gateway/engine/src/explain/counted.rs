//! What the rule that counts events says in words. English and Chinese.

use std::time::Duration;

use kerbside_model::profile::{Frequency, Hits, Point};

use super::{names, rounded, span, span_zh, unit_of};
use crate::detect::Tally;

/// Why so many events are too many.
pub(crate) fn of_frequency(point: &Point, frequency: &Frequency, tally: &Tally) -> (String, String) {
    let (name, name_zh) = names(point);
    let (what, what_zh) = match frequency.hits {
        Some(_) => (format!("hits of {name}"), format!("{name_zh}冲击")),
        None => (name.to_owned(), name_zh.to_owned()),
    };
    let Some(judged) = tally.judged() else { return (what, what_zh) };
    let window = Duration::from_millis(judged.elapsed_ms.unsigned_abs());
    let (events, usual) = (rounded(judged.events), rounded((judged.usual * 10.0).round() / 10.0));
    (
        format!("{what}: {events} in {}, usually {usual} at these hours of the week", span(window)),
        format!("{what_zh}：{}内 {events} 次，平时同一时段约 {usual} 次", span_zh(window)),
    )
}

/// What the rule looks for.
pub(crate) fn frequency_words(point: &Point, frequency: &Frequency) -> (String, String) {
    let (name, name_zh) = names(point);
    let Frequency { hits, one_in, lasts, times, least, .. } = frequency;
    let (of, of_zh) = match hits {
        Some(Hits { by, back, within }) => {
            let unit = unit_of(point);
            (
                format!("hits of {name} (by {by}{unit} and back to {back}{unit} within {})", span(*within)),
                format!("{name_zh}冲击（偏离 {by}{unit} 并在 {}内回到 {back}{unit} 以内）", span_zh(*within)),
            )
        }
        None => (name.to_owned(), name_zh.to_owned()),
    };
    (
        format!(
            "rule: {of} for {} so many as chance brings once in {one_in} hours, {times} times the usual and \
             {least} an hour at least",
            span(*lasts)
        ),
        format!(
            "规则：{of_zh}持续 {}多到偶然概率低于 1/{one_in}，不少于平时的 {times} 倍且每小时不少于 {least} 次",
            span_zh(*lasts)
        ),
    )
}
