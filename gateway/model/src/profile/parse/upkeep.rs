//! The rules of what keeps a device talking: its battery and its radio link.

use super::detectors::{DetectorReader, check_in_range, required_duration, required_number};
use super::rules::positive;
use crate::document::Section;
use crate::profile::{
    Battery, BehindPermit, Charge, DayValue, Knee, Losses, Point, Side, TREND_DAYS_MAX, TREND_DAYS_MIN, Trend,
    TrendGoal, Warmth,
};

/// Days of the course of a battery, unless the profile says otherwise: four weeks, so that a cold one is no end.
const COURSE_DAYS_DEFAULT: i64 = 28;
/// Less movement than this share of the way from the limit is the noise of its converter.
const LEAST_SHARE: f64 = 0.015;
/// The daily minimum is below the knee on so many days running, unless the profile says otherwise.
const KNEE_DAYS_DEFAULT: i64 = 3;
/// Loss is said of so many uplinks, unless the profile says otherwise: of a hundred, 5 in 100 lost by chance are 10 or
/// more once in 36 times, and 20 or more never.
const UPLINKS_DEFAULT: i64 = 100;
const UPLINKS_MAX: i64 = 10_000;

/// Reads `battery`.
pub(super) fn read_battery(reader: &DetectorReader<'_>, rule: &Section<'_>, point: Option<&Point>) -> Option<Battery> {
    let empty = required_number(rule, "empty", "write where the device gives up, such as `empty: 3.1`");
    let within = required_duration(rule, "within", "write how long before the end, such as `within: 60d`");
    let least = rule.number("least");
    let fresh = rule.number("fresh");
    positive(rule, "least", least);
    positive(rule, "fresh", fresh);
    let days = rule.integer("days", i64::from(TREND_DAYS_MIN), i64::from(TREND_DAYS_MAX));
    let temperature = rule.section("temperature");
    let warmth = temperature.as_ref().and_then(|temperature| read_warmth(reader, temperature));
    let (knee, charge) = (rule.section("knee"), rule.section("charge"));
    let knee = knee.as_ref().map(|knee| read_knee(knee, point));
    let charge = charge.as_ref().map(read_charge);
    if let Some(empty) = empty {
        check_in_range(rule, "empty", empty, point);
    }
    let empty = empty?;
    let course = Trend {
        side: Side::Below,
        goal: TrendGoal::Reaches { limit: empty, within: within? },
        total: least.unwrap_or(empty.abs().max(1.0) * LEAST_SHARE),
        days: u8::try_from(days.unwrap_or(COURSE_DAYS_DEFAULT)).unwrap_or(u8::MAX),
        of: DayValue::Minimum,
        learn_when: Vec::new(),
        behind_permit: BehindPermit::GoesOn,
    };
    let is_read = (temperature.is_none() || warmth.is_some()) && knee != Some(None) && charge != Some(None);
    is_read.then(|| Battery { course, fresh, temperature: warmth, knee: knee.flatten(), charge: charge.flatten() })
}

fn read_warmth(reader: &DetectorReader<'_>, temperature: &Section<'_>) -> Option<Warmth> {
    let found = reader.read_point(temperature, "point");
    reader.check_number(temperature, found.map(|(_, point)| point), "temperature");
    let mend = "write how much is missing for each degree below 20, such as `per_degree: 0.003`";
    let per_degree = required_number(temperature, "per_degree", mend);
    positive(temperature, "per_degree", per_degree);
    temperature.known_only();
    Some(Warmth { point: found?.0, per_degree: per_degree? })
}

fn read_knee(knee: &Section<'_>, point: Option<&Point>) -> Option<Knee> {
    let below =
        required_number(knee, "below", "write the voltage of a cell that is about to end, such as `below: 3.3`");
    let falls = required_number(knee, "falls_per_week", "write the fall that is no noise: `falls_per_week: 0.1`");
    positive(knee, "falls_per_week", falls);
    if let Some(below) = below {
        check_in_range(knee, "below", below, point);
    }
    let days = knee.integer("days", 1, i64::from(TREND_DAYS_MAX)).unwrap_or(KNEE_DAYS_DEFAULT);
    knee.known_only();
    Some(Knee { below: below?, days: u8::try_from(days).unwrap_or(u8::MAX), falls_per_week: falls? })
}

fn read_charge(charge: &Section<'_>) -> Option<Charge> {
    let capacity = required_number(charge, "capacity_mah", "write what it gives in use: `capacity_mah: 17000`");
    let message = required_number(charge, "message_mah", "write what one message takes: `message_mah: 0.03`");
    let sleep = required_number(charge, "sleep_ua", "write what it draws between messages: `sleep_ua: 20`");
    for (key, number) in [("capacity_mah", capacity), ("message_mah", message), ("sleep_ua", sleep)] {
        positive(charge, key, number);
    }
    charge.known_only();
    Some(Charge { capacity_mah: capacity?, message_mah: message?, sleep_ua: sleep? })
}

/// Reads `losses`.
pub(super) fn read_losses(rule: &Section<'_>) -> Option<Losses> {
    let above = required_number(rule, "above_percent", "write how many of a hundred: `above_percent: 20`");
    let clear = required_number(rule, "clear_percent", "write how many are fine again: `clear_percent: 10`");
    let uplinks = rule.integer("uplinks", 10, UPLINKS_MAX).unwrap_or(UPLINKS_DEFAULT);
    let (above_percent, clear_percent) = (above?, clear?);
    if above_percent <= 0.0 || above_percent >= 100.0 {
        let text = above_percent.to_string();
        rule.problem("above_percent", &text, "not above 0 and below 100", "write how many of a hundred uplinks");
    }
    if clear_percent < 0.0 || clear_percent >= above_percent {
        let what = format!("not from 0 to less than {above_percent}");
        rule.problem("clear_percent", &clear_percent.to_string(), what, format!("write less than {above_percent}"));
    }
    Some(Losses { above_percent, clear_percent, uplinks: u16::try_from(uplinks).unwrap_or(u16::MAX) })
}

#[cfg(test)]
mod tests {
    use super::super::parse_profile_text;
    use super::*;
    use crate::document::{Problem, Problems};
    use crate::profile::{Profile, Rule};

    /// The keys of a detector of a cover, in flow style.
    fn read(detector: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: acme-cover\nversion: 1\nkind: manhole_cover\nvendor: Acme\nmodel: L\ninterval: 1h\n\
             payload: {{format: json}}\npoints:\n  - {{name: temperature_c, path: t}}\n  \
             - {{name: cover_open, path: w}}\n  \
             - {{name: battery_v, path: b, range: {{min: 0, max: 5}}}}\n\
             detectors:\n  - {{condition: battery_ending, severity: notice, {detector}}}\n\
             samples:\n  - {{name: good, json: {{b: 3.6}}, readings: {{battery_v: 3.6}}}}\n  \
             - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        profile.ok_or_else(|| found.join("\n"))
    }

    #[test]
    fn a_battery_needs_a_limit_and_a_time_and_may_have_more() {
        let profile = read("battery: {point: battery_v, empty: 3, within: 60d}").unwrap();
        let Rule::Battery(battery) = &profile.detectors[0].rule else { panic!("{:?}", profile.detectors) };
        assert_eq!((battery.course.days, battery.course.total, battery.knee, battery.charge), (28, 0.045, None, None));
        let profile = read(
            "battery: {point: battery_v, empty: 3, within: 60d, fresh: 0.3, days: 14, least: 0.1, \
             temperature: {point: temperature_c, per_degree: 0.003}, knee: {below: 3.3, falls_per_week: 0.1}, \
             charge: {capacity_mah: 14000, message_mah: 0.03, sleep_ua: 20}}",
        )
        .unwrap();
        let Rule::Battery(battery) = &profile.detectors[0].rule else { panic!("{:?}", profile.detectors) };
        assert_eq!(battery.temperature, Some(Warmth { point: 0, per_degree: 0.003 }));
        assert_eq!(battery.knee, Some(Knee { below: 3.3, days: 3, falls_per_week: 0.1 }));
        assert_eq!((battery.fresh, battery.course.days), (Some(0.3), 14));
        assert_eq!(battery.within().as_secs(), 60 * 86_400);
        let profile = read("losses: {above_percent: 20, clear_percent: 10}").unwrap();
        let losses = Losses { above_percent: 20.0, clear_percent: 10.0, uplinks: 100 };
        assert_eq!((profile.detectors[0].point, &profile.detectors[0].rule), (None, &Rule::Losses(losses)));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_mend() {
        let rest = "point: battery_v, empty: 3, within: 60d";
        for (detector, expected) in [
            ("battery: {point: battery_v, within: 60d}".to_owned(), "such as `empty: 3.1`"),
            ("battery: {point: battery_v, empty: 3}".to_owned(), "such as `within: 60d`"),
            ("battery: {point: cover_open, empty: 3, within: 60d}".to_owned(), "needs a number"),
            ("battery: {point: battery_v, empty: 6, within: 60d}".to_owned(), "outside the point's range"),
            (format!("battery: {{{rest}, fresh: 0}}"), "above 0"),
            (format!("battery: {{{rest}, temperature: {{point: cover_open, per_degree: 1}}}}"), "needs a number"),
            (format!("battery: {{{rest}, temperature: {{point: temperature_c}}}}"), "such as `per_degree: 0.003`"),
            (format!("battery: {{{rest}, knee: {{below: 3.3}}}}"), "`falls_per_week: 0.1`"),
            (format!("battery: {{{rest}, knee: {{below: 9, falls_per_week: 0.1}}}}"), "outside the point's range"),
            (format!("battery: {{{rest}, charge: {{capacity_mah: 1, message_mah: 1}}}}"), "`sleep_ua: 20`"),
            (format!("battery: {{{rest}, charge: {{capacity_mah: 0, message_mah: 1, sleep_ua: 1}}}}"), "above 0"),
            (format!("battery: {{{rest}, charge: {{capacity: 1}}}}"), "did you mean capacity_mah?"),
            ("losses: {above_percent: 100, clear_percent: 10}".to_owned(), "not above 0 and below 100"),
            ("losses: {above_percent: 20, clear_percent: 20}".to_owned(), "not from 0 to less than 20"),
            ("losses: {above_percent: 20}".to_owned(), "`clear_percent: 10`"),
        ] {
            let found = read(&detector).unwrap_err();
            assert!(found.contains(expected) && found.contains("acme.yaml:13"), "{detector}: {found}");
        }
    }
}
