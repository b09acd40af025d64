//! The rule that counts events.

use std::time::Duration;

use super::detectors::{required_duration, required_number};
use super::rules::positive;
use crate::document::Section;
use crate::profile::{Frequency, Hits};

/// By chance alone a device with one window an hour would be wrong once in a century.
const ONE_IN_DEFAULT: f64 = 1e6;
/// With less, a few events are nothing.
const WINDOW_DEFAULT: Duration = Duration::from_secs(3_600);
/// What is counted over a longer time than this says nothing of its hours.
const WINDOW_MAX: Duration = Duration::from_secs(7 * 86_400);
/// One wild hour may be a parade; two are none.
const LASTS_DEFAULT: Duration = Duration::from_secs(7_200);
/// Twice the usual: a diverted road brings less.
const TIMES_DEFAULT: f64 = 2.0;
/// Fewer events an hour than this are nothing, whatever is usual.
const LEAST_DEFAULT: f64 = 10.0;
/// Every hour of a workday and of a weekend must have come, most of them several times.
const WARM_UP_DEFAULT: i64 = 14;
const WARM_UP_MAX: i64 = 60;
/// A hit is over after so long, unless the profile says otherwise: a wheel takes less than two seconds, a message of a
/// cover ten.
const HIT_WITHIN_DEFAULT: Duration = Duration::from_secs(60);

/// Reads `frequency`.
pub(super) fn read_frequency(rule: &Section<'_>) -> Option<Frequency> {
    let one_in = above_one(rule, "one_in", ONE_IN_DEFAULT, "write how many hours are one too many by chance");
    let times = above_one(rule, "times", TIMES_DEFAULT, "write how many times the usual number is too much");
    let least = rule.number("least").unwrap_or(LEAST_DEFAULT);
    positive(rule, "least", Some(least));
    let window = rule.duration("window").unwrap_or(WINDOW_DEFAULT);
    if window < WINDOW_DEFAULT || window > WINDOW_MAX {
        let mend = "write the device's interval where that is longer than an hour";
        rule.problem("window", &format!("{}s", window.as_secs_f64()), "not from 1h to 7d", mend);
    }
    let lasts = rule.duration("for").unwrap_or(LASTS_DEFAULT);
    let warm_up = rule.integer("warm_up", 3, WARM_UP_MAX).unwrap_or(WARM_UP_DEFAULT);
    let warm_up = u8::try_from(warm_up).unwrap_or(u8::MAX);
    let hits = if rule.has("hits") { Some(read_hits(&rule.section("hits")?)?) } else { None };
    Some(Frequency { hits, one_in, window, lasts, times, least, warm_up })
}

fn read_hits(section: &Section<'_>) -> Option<Hits> {
    let by = required_number(section, "by", "write how far a hit goes, such as `by: 5`");
    let back = required_number(section, "back", "write how near it comes back, such as `back: 3`");
    let within = if section.has("within") {
        required_duration(section, "within", "write how long a hit takes at most, such as `within: 1m`")
    } else {
        Some(HIT_WITHIN_DEFAULT)
    };
    section.known_only();
    positive(section, "by", by);
    positive(section, "back", back);
    let (by, back) = (by?, back?);
    if back > by {
        section.problem("back", &back.to_string(), format!("more than {by}"), format!("write {by} or less"));
    }
    Some(Hits { by, back, within: within? })
}

fn above_one(rule: &Section<'_>, key: &'static str, default: f64, mend: &str) -> f64 {
    let number = rule.number(key).unwrap_or(default);
    if number <= 1.0 {
        rule.problem(key, &number.to_string(), "this must be above 1", mend);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::super::parse_profile_text;
    use super::*;
    use crate::document::{Problem, Problems};
    use crate::profile::Rule;

    fn read(rule: &str) -> Result<Frequency, String> {
        let text = format!(
            "profile: acme-cover\nversion: 1\nkind: manhole_cover\nvendor: Acme\nmodel: C\ninterval: 1h\n\
             payload: {{format: json}}\npoints:\n  - {{name: vibration_count, path: v}}\n  \
             - {{name: tilt_deg, path: t}}\n  - {{name: cover_open, path: o}}\n\
             detectors:\n  - {{condition: settled, severity: minor, frequency: {rule}}}\n\
             samples:\n  - {{name: good, json: {{v: 5}}, readings: {{vibration_count: 5}}}}\n  \
             - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        let rule = profile.ok_or_else(|| found.join("\n"))?.detectors.swap_remove(0).rule;
        let Rule::Frequency(frequency) = rule else { panic!("it is a frequency: {rule:?}") };
        Ok(frequency)
    }

    #[test]
    fn a_counter_needs_nothing_but_its_point() {
        let found = read("{point: vibration_count}").unwrap();
        let expected = Frequency {
            hits: None,
            one_in: 1e6,
            window: Duration::from_secs(3_600),
            lasts: Duration::from_secs(7_200),
            times: 2.0,
            least: 10.0,
            warm_up: 14,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn hits_are_read_with_their_way_back() {
        let rule = "{point: tilt_deg, hits: {by: 5, back: 3}, one_in: 10000, for: 1h, times: 3, least: 4, warm_up: 7}";
        let found = read(rule).unwrap();
        assert_eq!(found.hits, Some(Hits { by: 5.0, back: 3.0, within: Duration::from_secs(60) }));
        assert_eq!((found.one_in, found.times, found.least, found.warm_up), (10_000.0, 3.0, 4.0, 7));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_mend() {
        for (rule, expected) in [
            ("{point: cover_open}", "needs a number"),
            ("{point: vibration_count, one_in: 1}", "above 1"),
            ("{point: vibration_count, times: 0.5}", "above 1"),
            ("{point: vibration_count, least: 0}", "above 0"),
            ("{point: vibration_count, window: 5m}", "not from 1h to 7d"),
            ("{point: vibration_count, warm_up: 90}", "warm_up"),
            ("{point: tilt_deg, hits: {by: 5}}", "such as `back: 3`"),
            ("{point: tilt_deg, hits: {by: 5, back: 6}}", "write 5 or less"),
            ("{point: tilt_deg, hits: {by: 5, back: 3, for: 1m}}", "for"),
        ] {
            let found = read(rule).unwrap_err();
            assert!(found.contains(expected) && found.contains("acme.yaml:13"), "{rule}: {found}");
        }
    }
}
