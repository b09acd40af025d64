//! The rule `unusual`: a series that a learner watches.

use std::time::Duration;

use super::rules::positive;
use crate::document::Section;
use crate::profile::{
    Guard, LearnerMode, UNUSUAL_SCORE_DEFAULT, UNUSUAL_SCORE_MAX, UNUSUAL_SCORE_MIN, Unusual, WARM_UP_READINGS_DEFAULT,
    WARM_UP_READINGS_MAX, WARM_UP_READINGS_MIN,
};

/// As long as the learner itself rests after an alarm: this share of the warm-up.
const REST_SHARE: u32 = 5;
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Reads the rule; `interval` is how often the point comes, where that is known.
pub(super) fn read_unusual(rule: &Section<'_>, interval: Option<Duration>, learn_when: Vec<Guard>) -> Option<Unusual> {
    let mode = rule.choice("mode", &LearnerMode::ALL).unwrap_or(LearnerMode::Light);
    let every = rule.duration("every");
    if every.is_some_and(|every| every.is_zero()) {
        rule.problem("every", "0", "this time must be more than 0", "write such as `every: 5m`, or leave it out");
    }
    let count = |key: &'static str, min: u32| {
        let read = rule.integer(key, i64::from(min), i64::from(WARM_UP_READINGS_MAX));
        read.and_then(|number| u32::try_from(number).ok())
    };
    let warm_up = count("warm_up", WARM_UP_READINGS_MIN).unwrap_or(WARM_UP_READINGS_DEFAULT);
    let rest = count("rest", 1).unwrap_or((warm_up / REST_SHARE).max(1));
    let spacing = every.into_iter().chain(interval).max().filter(|spacing| !spacing.is_zero());
    check_warm_up(rule, warm_up, spacing);
    let false_per_month = rule.number("false_per_month");
    let score = match false_per_month {
        Some(number) => score_of(rule, mode, number, spacing),
        None => rule.number("score").unwrap_or(UNUSUAL_SCORE_DEFAULT),
    };
    if rule.has("score") && rule.has("false_per_month") {
        let what = "`score` says the same already";
        rule.problem("false_per_month", "", what, "keep one of the two");
    }
    if !(UNUSUAL_SCORE_MIN..=UNUSUAL_SCORE_MAX).contains(&score) {
        let mend = format!("write a score from {UNUSUAL_SCORE_MIN} (often) to {UNUSUAL_SCORE_MAX} (hardly ever)");
        rule.problem("score", &score.to_string(), "no score at which anything is raised", mend);
    }
    Some(Unusual { mode, warm_up, score, false_per_month, rest, every, learn_when })
}

/// An hour that was never seen is not known: a warm-up holds a day at least.
fn check_warm_up(rule: &Section<'_>, warm_up: u32, spacing: Option<Duration>) {
    let Some(spacing) = spacing.filter(|spacing| *spacing * warm_up < DAY) else { return };
    let seconds = (spacing * warm_up).as_secs();
    let needed = DAY.as_millis().div_ceil(spacing.as_millis().max(1));
    let sparse = DAY.as_secs().div_ceil(60 * u64::from(warm_up));
    rule.problem(
        "warm_up",
        &warm_up.to_string(),
        format!("{warm_up} readings take {seconds}s, and a day must be seen before its hours are known"),
        format!("look at fewer readings, `every: {sparse}m`, or write `warm_up: {needed}` or more"),
    );
}

/// The score at which quiet series have so many false alarms in a month.
fn score_of(rule: &Section<'_>, mode: LearnerMode, per_month: f64, spacing: Option<Duration>) -> f64 {
    positive(rule, "false_per_month", Some(per_month));
    let Some(spacing) = spacing else {
        rule.problem(
            "false_per_month",
            &per_month.to_string(),
            "nobody knows how many readings come in a month",
            "write `interval:` at the top of the profile, `every: 5m` here, or a `score` instead",
        );
        return UNUSUAL_SCORE_DEFAULT;
    };
    if per_month <= 0.0 {
        return UNUSUAL_SCORE_DEFAULT;
    }
    let a_month = MONTH.as_secs_f64() / spacing.as_secs_f64();
    mode.score_for(a_month / per_month).unwrap_or_else(|| {
        let least = a_month / mode.readings_max();
        rule.problem(
            "false_per_month",
            &per_month.to_string(),
            format!("rarer than was ever measured for {a_month:.0} readings a month in {} mode", mode.name()),
            format!("write {least:.2} or more, look at fewer readings with a longer `every`, or write a `score`"),
        );
        UNUSUAL_SCORE_DEFAULT
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse_profile_text;
    use crate::alarm::Severity;
    use crate::document::{Problem, Problems};
    use crate::profile::{LearnerMode, Profile, Rule, Unusual};

    /// A profile with one more condition line and the keys of a detector, in flow style.
    fn read(interval: &str, conditions: &str, detector: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: acme-level\nversion: 1\nkind: drain\nvendor: Acme\nmodel: L\n{interval}\n\
             payload: {{format: json}}\npoints:\n  - {{name: rain_mm, path: r}}\n  \
             - {{name: water_present, type: boolean, path: w}}\n  - {{name: level_mm, path: l}}\n\
             conditions: [{conditions}]\ndetectors:\n  - {{condition: unusual, {detector}}}\n\
             samples:\n  - {{name: good, json: {{l: 5}}, readings: {{level_mm: 5}}}}\n  \
             - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        profile.ok_or_else(|| found.join("\n"))
    }

    fn rule(detector: &str) -> Unusual {
        match read("interval: 5m", "", detector).unwrap().detectors.swap_remove(0).rule {
            Rule::Unusual(unusual) => unusual,
            other => panic!("not {other:?}"),
        }
    }

    #[test]
    fn a_point_is_enough_and_makes_a_note_without_a_case() {
        let profile = read("interval: 5m", "", "unusual: {point: level_mm}").unwrap();
        assert_eq!(profile.detectors[0].severity, Severity::Notice);
        assert_eq!((profile.conditions[0].title_zh.as_str(), profile.conditions[0].opens_case), ("读数异常", false));
        let found = rule("unusual: {point: level_mm}");
        let expected = Unusual {
            mode: LearnerMode::Light,
            warm_up: 750,
            score: 0.6,
            false_per_month: None,
            rest: 150,
            every: None,
            learn_when: Vec::new(),
        };
        assert_eq!(found, expected);
        let found = rule(
            "unusual: {point: level_mm, mode: full, warm_up: 2016, rest: 24, every: 10m, \
             learn_when: [{point: rain_mm, below: 0.1}]}",
        );
        assert_eq!((found.mode, found.rest, found.learn_when.len()), (LearnerMode::Full, 24, 1));
    }

    #[test]
    fn false_alarms_a_month_are_turned_into_a_score() {
        // 8,640 readings a month at one in 5 minutes.
        let often = rule("unusual: {point: level_mm, mode: full, false_per_month: 3}");
        let seldom = rule("unusual: {point: level_mm, mode: full, false_per_month: 1}");
        assert!(often.score < seldom.score && seldom.score < 0.9, "{} and {}", often.score, seldom.score);
        assert_eq!(seldom.false_per_month, Some(1.0));
        let sparse = rule("unusual: {point: level_mm, mode: full, false_per_month: 1, every: 30m}");
        assert!(sparse.score < seldom.score, "{}", sparse.score);
    }

    #[test]
    fn a_case_comes_only_of_what_says_so_twice() {
        let major = "severity: major, unusual: {point: level_mm}";
        let found = read("interval: 5m", "", major).unwrap_err();
        assert!(found.contains("opens_case") && found.contains("acme.yaml:14"), "{found}");
        let profile = read("interval: 5m", "{name: unusual, opens_case: true}", major).unwrap();
        assert!(profile.conditions[0].opens_case);
        let profile = read("interval: 5m", "{name: unusual, opens_case: false}", major).unwrap();
        assert!(!profile.conditions[0].opens_case);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_mend() {
        for (interval, detector, expected) in [
            ("interval: 5m", "unusual: {mode: full}", "write the name of the point"),
            ("interval: 5m", "unusual: {point: water_present}", "needs a number"),
            ("interval: 5m", "unusual: {point: level_mm, mode: heavy}", "mode"),
            ("interval: 5m", "unusual: {point: level_mm, warm_up: 19}", "warm_up"),
            ("interval: 5m", "unusual: {point: level_mm, rest: 0}", "rest"),
            ("interval: 5m", "unusual: {point: level_mm, warm_up: 200}", "`every: 8m`, or write `warm_up: 288`"),
            ("interval: 10s", "unusual: {point: level_mm}", "`every: 2m`, or write `warm_up: 8640`"),
            ("interval: 5m", "unusual: {point: level_mm, score: 0.4}", "from 0.5"),
            ("interval: 5m", "unusual: {point: level_mm, score: 0.6, false_per_month: 1}", "keep one of the two"),
            ("interval: 5m", "unusual: {point: level_mm, false_per_month: 0}", "above 0"),
            ("interval: 5m", "unusual: {point: level_mm, false_per_month: 0.0001}", "rarer than was ever measured"),
            ("", "unusual: {point: level_mm, false_per_month: 1}", "`interval:` at the top"),
            ("interval: 5m", "unusual: {point: level_mm, every: 0s}", "more than 0"),
            ("interval: 5m", "unusual: {point: level_mm, learn_when: [{point: x, below: 1}]}", "no point"),
        ] {
            let found = read(interval, "", detector).unwrap_err();
            assert!(found.contains(expected) && found.contains("acme.yaml:14"), "{detector}: {found}");
        }
    }
}
