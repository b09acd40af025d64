//! The rules that count: amounts in a time, contacts that flap, and days that leave what was usual.

use super::detectors::{read_jump, required_duration, required_number};
use super::rules::positive;
use crate::document::Section;
use crate::profile::{
    Amount, CHANGES_MAX, Counts, DayValue, Flapping, Guard, Shift, Side, TREND_DAYS_MAX, TREND_DAYS_MIN,
};

/// Half of a shift by one spread is no shift yet, and eight spreads in all are found by chance once in thousands of
/// days (the usual design of a tabular CUSUM is a slack of 0.5 and a limit of 4 or 5, for measurements that do not hang
/// together; days of weather do, so it is 8).
const SLACK_DEFAULT: f64 = 0.5;
const LIMIT_DEFAULT: f64 = 8.0;
/// Days from which the usual is learnt, unless the profile says otherwise.
const WARM_UP_DEFAULT: i64 = 14;

/// Reads `amount`.
pub(super) fn read_amount(rule: &Section<'_>) -> Option<Amount> {
    let above = required_number(rule, "above", "write how much is too much, such as `above: 50`");
    let clear = required_number(rule, "clear", "write how much is fine again, such as `clear: 30`");
    let within = required_duration(rule, "within", "write in which time, such as `within: 6h`");
    let counts = rule.choice("counts", &[("total", Counts::Total), ("each", Counts::Each)]);
    if !rule.has("counts") {
        rule.missing("counts", "write `total` when the point is everything so far, `each` when it is what came since");
    }
    positive(rule, "above", above);
    let jump = read_jump(rule);
    let (above, clear) = (above?, clear?);
    if clear < 0.0 || clear >= above {
        let what = format!("not from 0 to less than {above}");
        rule.problem("clear", &clear.to_string(), what, format!("write less than {above}"));
    }
    Some(Amount { above, clear, within: within?, counts: counts?, jump })
}

/// Reads `flapping`.
pub(super) fn read_flapping(rule: &Section<'_>) -> Option<Flapping> {
    if !rule.has("changes") {
        rule.missing("changes", "write how many changes are too many, such as `changes: 6`");
    }
    let changes = rule.integer("changes", 2, i64::from(CHANGES_MAX));
    let within = required_duration(rule, "within", "write in which time, such as `within: 10m`");
    Some(Flapping { changes: u16::try_from(changes?).ok()?, within: within? })
}

/// Reads `shift`.
pub(super) fn read_shift(rule: &Section<'_>, learn_when: Vec<Guard>) -> Option<Shift> {
    let sides = [("rising", Side::Above), ("falling", Side::Below), ("either", Side::Either)];
    let side = rule.choice("direction", &sides);
    if !rule.has("direction") {
        rule.missing("direction", "write `rising`, `falling` or `either`");
    }
    let slack = rule.number("slack").unwrap_or(SLACK_DEFAULT);
    let limit = rule.number("limit").unwrap_or(LIMIT_DEFAULT);
    let least = required_number(rule, "least", "write the spread of days that is never news, such as `least: 0.5`");
    for (key, number) in [("slack", Some(slack)), ("limit", Some(limit)), ("least", least)] {
        positive(rule, key, number);
    }
    let values = [("minimum", DayValue::Minimum), ("median", DayValue::Median), ("maximum", DayValue::Maximum)];
    let of = rule.choice("of", &values).unwrap_or(DayValue::Median);
    let warm_up = rule.integer("warm_up", i64::from(TREND_DAYS_MIN), i64::from(TREND_DAYS_MAX));
    let warm_up = u8::try_from(warm_up.unwrap_or(WARM_UP_DEFAULT)).unwrap_or(u8::MAX);
    Some(Shift { side: side?, slack, limit, least: least?, of, warm_up, learn_when })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::parse_profile_text;
    use super::*;
    use crate::document::{Problem, Problems};
    use crate::profile::{Jump, Profile, Rule};

    /// The keys of a detector of a pole, in flow style.
    fn read(detector: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: acme-pole\nversion: 1\nkind: pole\nvendor: Acme\nmodel: L\ninterval: 5m\n\
             payload: {{format: json}}\npoints:\n  - {{name: rainfall_mm, path: r}}\n  \
             - {{name: door_open, path: w}}\n  - {{name: leakage_ma, path: l}}\n\
             detectors:\n  - {{condition: leaking, severity: minor, {detector}}}\n\
             samples:\n  - {{name: good, json: {{l: 5}}, readings: {{leakage_ma: 5}}}}\n  \
             - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        profile.ok_or_else(|| found.join("\n"))
    }

    fn rule(detector: &str) -> Rule {
        read(detector).unwrap().detectors.swap_remove(0).rule
    }

    #[test]
    fn what_counts_is_read_with_its_defaults() {
        let amount = rule(
            "amount: {point: rainfall_mm, above: 50, clear: 30, within: 6h, counts: each, jump: {over: 9, per: 1m}}",
        );
        let jump = Some(Jump { over: 9.0, per: Duration::from_secs(60) });
        let within = Duration::from_secs(6 * 3_600);
        assert_eq!(amount, Rule::Amount(Amount { above: 50.0, clear: 30.0, within, counts: Counts::Each, jump }));
        let flapping = rule("flapping: {point: door_open, changes: 6, within: 10m}");
        assert_eq!(flapping, Rule::Flapping(Flapping { changes: 6, within: Duration::from_secs(600) }));
        let Rule::Shift(shift) = rule("shift: {point: leakage_ma, direction: rising, least: 0.5}") else {
            panic!("it is a shift")
        };
        assert_eq!((shift.slack, shift.limit, shift.of, shift.warm_up), (0.5, 8.0, DayValue::Median, 14));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_mend() {
        for (detector, expected) in [
            ("amount: {point: rainfall_mm, above: 50, clear: 30, within: 6h}", "write `total` when"),
            ("amount: {point: rainfall_mm, above: 50, clear: 50, within: 6h, counts: each}", "not from 0 to less"),
            ("amount: {point: rainfall_mm, above: 50, clear: 30, counts: each}", "such as `within: 6h`"),
            ("amount: {point: door_open, above: 50, clear: 30, within: 6h, counts: each}", "needs a number"),
            ("flapping: {point: door_open, within: 10m}", "such as `changes: 6`"),
            ("flapping: {point: door_open, changes: 1, within: 10m}", "changes"),
            ("flapping: {point: door_open, changes: 33, within: 10m}", "changes"),
            ("shift: {point: leakage_ma, least: 0.5}", "write `rising`, `falling` or `either`"),
            ("shift: {point: leakage_ma, direction: rising}", "such as `least: 0.5`"),
            ("shift: {point: leakage_ma, direction: rising, least: 0.5, limit: 0}", "above 0"),
            ("shift: {point: leakage_ma, direction: rising, least: 0.5, warm_up: 3}", "warm_up"),
            ("deviation: {point: leakage_ma, times: 1, least: 3}", "must be above 1"),
            ("deviation: {point: leakage_ma, times: 3, least: 3, clear: 0.5}", "not from 1 to less than 3"),
            ("deviation: {point: leakage_ma, times: 3, least: 3, rhythm: weeks}", "rhythm"),
        ] {
            let found = read(detector).unwrap_err();
            assert!(found.contains(expected) && found.contains("acme.yaml:13"), "{detector}: {found}");
        }
    }
}
