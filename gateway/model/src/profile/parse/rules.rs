//! The rules of detectors that look at more than one reading, and the hours in which a detector watches.

use std::time::Duration;

use super::detectors::{read_jump, required_duration, required_number};
use super::quality::read_turn;
use crate::document::Section;
use crate::profile::{
    Baseline, BehindPermit, DayValue, Deviation, During, FORECAST_READINGS_MAX, Forecast, Guard, Habit, Light, Measure,
    Rhythm, Side, TREND_DAYS_MAX, TREND_DAYS_MIN, Trend, TrendGoal, Weekend,
};

/// The change is taken from so far back, unless the profile says otherwise: in the events of FloodNet (New York) water
/// reached 15 cm 7.4 minutes after it began, at the median, so half of a longer time would be from before.
const WINDOW_DEFAULT: Duration = Duration::from_secs(900);
/// Readings of a forecast, unless the profile says otherwise: a slope of two is that of their noise.
const READINGS_DEFAULT: i64 = 4;
/// Days of a trend, unless the profile says otherwise (two weeks, as the drift of a sensor is looked for).
const DAYS_DEFAULT: i64 = 14;
/// Days until an hour is judged, unless the profile says otherwise.
const WARM_UP_DEFAULT: i64 = 7;
/// An hour is not learnt for longer than this before it is judged.
const WARM_UP_MAX: i64 = 60;
/// False alarms of silence of a device in a thousand days, unless the profile says otherwise.
const FALSE_PER_1000_DAYS_DEFAULT: f64 = 1.0;
const WEEKDAYS: [(&str, u8); 9] = [
    ("mon", 1),
    ("tue", 2),
    ("wed", 4),
    ("thu", 8),
    ("fri", 16),
    ("sat", 32),
    ("sun", 64),
    ("workdays", 31),
    ("weekend", 96),
];

/// Reads `during` of a detector.
pub(super) fn read_during(section: &Section<'_>) -> Option<During> {
    let during = section.section("during")?;
    let light = during.choice("light", &[("day", Light::Day), ("night", Light::Night)]);
    let given = ["hours", "weekdays", "months", "light"].into_iter().any(|key| during.has(key));
    if !given {
        let mend = "write `hours: 22:00-06:00`, `weekdays: [workdays]`, `months: [6, 9]` or `light: night`";
        during.problem("", "", "this has no time", mend);
    }
    let hours = read_hours(&during);
    let weekdays = read_weekdays(&during);
    let months = read_turn(&during, "months", 1, 12);
    during.finish();
    Some(During { hours, weekdays, months, light })
}

fn read_hours(during: &Section<'_>) -> Option<(u16, u16)> {
    let text = during.text("hours")?;
    let read = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
    let hours = read.filter(|(from, until)| from != until && *from < 1_440);
    if hours.is_none() {
        let what = "not two times of the day with a dash between";
        during.problem("hours", &text, what, "write `hours: 22:00-06:00`; the second one is not included");
    }
    hours
}

/// Minutes of the day of `06:30`, up to 24:00.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let is_time = minute < 60 && (hour < 24 || hour == 24 && minute == 0);
    is_time.then(|| hour * 60 + minute)
}

fn read_weekdays(during: &Section<'_>) -> Option<u8> {
    if !during.has("weekdays") {
        return None;
    }
    let mut days = 0;
    for word in during.texts("weekdays") {
        match WEEKDAYS.iter().find(|(name, _)| **name == *word) {
            Some((_, bits)) => days |= bits,
            None => {
                let names = WEEKDAYS.map(|(name, _)| name).join(", ");
                during.problem("weekdays", &word, "there is no such day", format!("write some of {names}"));
            }
        }
    }
    (days != 0).then_some(days)
}

pub(super) fn read_forecast(rule: &Section<'_>) -> Option<Forecast> {
    let rises = required_one(rule, ["rises_to", "falls_to"], "write the limit, such as `rises_to: 270`")?;
    let (side, reaches) = (if rises.0 == "rises_to" { Side::Above } else { Side::Below }, rises.1);
    let within = required_duration(rule, "within", "write how long before, such as `within: 10m`");
    let least = required_number(rule, "least", "write the movement that is more than noise, such as `least: 20`");
    let window = rule.duration("window").unwrap_or(WINDOW_DEFAULT);
    let readings_max = i64::try_from(FORECAST_READINGS_MAX).unwrap_or(i64::MAX);
    let readings = rule.integer("readings", 3, readings_max).unwrap_or(READINGS_DEFAULT);
    if window.is_zero() {
        rule.problem("window", "0", "no reading lies in it", "write `window: 15m`");
    }
    positive(rule, "least", least);
    Some(Forecast {
        side,
        reaches,
        within: within?,
        window,
        readings: u8::try_from(readings).unwrap_or(u8::MAX),
        least: least?,
        jump: read_jump(rule),
    })
}

pub(super) fn read_deviation(rule: &Section<'_>, learn_when: Vec<Guard>) -> Option<Deviation> {
    let mend = "write how many spreads from the usual value are wrong, such as `above: 4`";
    let (key, raise) = required_one(rule, ["above", "below", "beyond", "times"], mend)?;
    let side = match key {
        "above" | "times" => Side::Above,
        "below" => Side::Below,
        _ => Side::Either,
    };
    let least = required_number(rule, "least", "write the distance that is never wrong, such as `least: 50`");
    positive(rule, "least", least);
    // As much as usual is once the usual value.
    let (measure, none) = if key == "times" { (Measure::Times, 1.0) } else { (Measure::Spreads, 0.0) };
    if raise <= none {
        let mend = "write how many times the usual value is wrong, such as `times: 3`";
        rule.problem(key, &raise.to_string(), format!("this must be above {none}"), mend);
        return None;
    }
    let clear = rule.number("clear").unwrap_or(f64::midpoint(raise, none));
    if clear < none || clear >= raise {
        let what = format!("not from {none} to less than {raise}");
        rule.problem("clear", &clear.to_string(), what, "write fewer spreads than those at which it is raised");
    }
    let rhythm = rule.choice("rhythm", &[("hours", Rhythm::Hours), ("none", Rhythm::None)]).unwrap_or(Rhythm::Hours);
    let weekends = [("same", Weekend::Same), ("apart", Weekend::Apart)];
    let weekend = rule.choice("weekend", &weekends).unwrap_or(Weekend::Same);
    let warm_up = rule.integer("warm_up", 3, WARM_UP_MAX).unwrap_or(WARM_UP_DEFAULT);
    let warm_up = u8::try_from(warm_up).unwrap_or(u8::MAX);
    Some(Deviation { side, measure, raise, clear, least: least?, weekend, rhythm, warm_up, learn_when })
}

pub(super) fn read_trend(rule: &Section<'_>, learn_when: Vec<Guard>) -> Option<Trend> {
    let mend = "write the change that is too much, such as `rising: 20`, or a limit, such as `falls_to: 3.1`";
    let (key, number) = required_one(rule, ["rising", "falling", "changing", "rises_to", "falls_to"], mend)?;
    let side = match key {
        "rising" | "rises_to" => Side::Above,
        "falling" | "falls_to" => Side::Below,
        _ => Side::Either,
    };
    let total = required_number(rule, "total", "write the movement over all days that is more than noise");
    positive(rule, "total", total);
    let goal = if key.ends_with("_to") {
        refuse(rule, "per", "a limit is reached `within` a time");
        let within = required_duration(rule, "within", "write how long before, such as `within: 60d`");
        within.map(|within| TrendGoal::Reaches { limit: number, within })
    } else {
        refuse(rule, "within", "a change is so much `per` time");
        positive(rule, key, Some(number));
        let per = required_duration(rule, "per", "write the time in which it changes so much, such as `per: 30d`");
        per.map(|per| TrendGoal::Change { by: number, per })
    };
    let days = rule.integer("days", i64::from(TREND_DAYS_MIN), i64::from(TREND_DAYS_MAX)).unwrap_or(DAYS_DEFAULT);
    let values = [("minimum", DayValue::Minimum), ("median", DayValue::Median), ("maximum", DayValue::Maximum)];
    let of = rule.choice("of", &values).unwrap_or(DayValue::Median);
    let ways = [("goes_on", BehindPermit::GoesOn), ("anew", BehindPermit::Anew)];
    let behind_permit = rule.choice("behind_permit", &ways).unwrap_or_default();
    let days = u8::try_from(days).unwrap_or(u8::MAX);
    Some(Trend { side, goal: goal?, total: total?, days, of, learn_when, behind_permit })
}

/// Quiet readings of a place, unless the profile says otherwise.
const QUIET_READINGS_DEFAULT: i64 = 20;
const QUIET_READINGS_MAX: i64 = 60;

pub(super) fn read_baseline(rule: &Section<'_>) -> Option<Baseline> {
    let above = required_number(rule, "above", "write how far from its place is wrong, such as `above: 10`");
    let clear = required_number(rule, "clear", "write how far from its place is fine again, such as `clear: 5`");
    let readings = rule.integer("readings", 3, QUIET_READINGS_MAX).unwrap_or(QUIET_READINGS_DEFAULT);
    let readings = u8::try_from(readings).unwrap_or(u8::MAX);
    let (steady, creep, circle) = (rule.number("steady"), rule.number("creep_per_day"), rule.number("circle"));
    let (below, still) = (rule.number("below"), rule.number("still"));
    for (key, number) in
        [("above", above), ("below", below), ("clear", clear), ("steady", steady), ("circle", circle), ("still", still)]
    {
        positive(rule, key, number);
    }
    let (above, clear) = (above?, clear?);
    if clear >= above {
        let mend = format!("write less than {above}");
        rule.problem("clear", &clear.to_string(), format!("not less than {above}"), mend);
    }
    if let Some(below) = below.filter(|below| *below <= above) {
        let mend = format!("write more than {above}, or leave it out");
        rule.problem("below", &below.to_string(), format!("not more than {above}"), mend);
    }
    if let Some(creep) = creep.filter(|creep| *creep < 0.0) {
        rule.problem("creep_per_day", &creep.to_string(), "this is 0 or more", "write how far it may follow in a day");
    }
    if let Some(circle) = circle.filter(|circle| *circle <= 2.0 * above) {
        let what = format!("nothing is {above} from anything on so small a circle");
        rule.problem("circle", &circle.to_string(), what, "write where the point begins anew, such as 360");
    }
    let (steady, creep_per_day) = (steady.unwrap_or(clear), creep.unwrap_or_default());
    Some(Baseline { above, below, clear, readings, steady, creep_per_day, circle, still })
}

/// Reads `habit` of a silence.
pub(super) fn read_habit(rule: &Section<'_>) -> Option<Habit> {
    let habit = rule.section("habit")?;
    let false_per_1000_days = habit.number("false_per_1000_days").unwrap_or(FALSE_PER_1000_DAYS_DEFAULT);
    positive(&habit, "false_per_1000_days", Some(false_per_1000_days));
    let (at_least, at_most) = (habit.duration("at_least"), habit.duration("at_most"));
    if at_least.zip(at_most).is_some_and(|(least, most)| least > most) {
        habit.problem("at_least", "", "this is longer than `at_most`", "write less, or leave one of the two out");
    }
    habit.finish();
    Some(Habit { false_per_1000_days, at_most, at_least })
}

/// The one of these keys that is given, with its number.
fn required_one<const COUNT: usize>(
    rule: &Section<'_>,
    keys: [&'static str; COUNT],
    mend: &str,
) -> Option<(&'static str, f64)> {
    let given: Vec<&'static str> = keys.into_iter().filter(|key| rule.has(key)).collect();
    let [key] = given.as_slice() else {
        rule.problem("", "", format!("one of {} is needed", keys.join(", ")), mend);
        return None;
    };
    Some((key, rule.number(key)?))
}

fn refuse(rule: &Section<'_>, key: &'static str, what: &str) {
    if rule.has(key) {
        rule.problem(key, "", what, format!("leave `{key}` out"));
    }
}

pub(super) fn positive(rule: &Section<'_>, key: &str, number: Option<f64>) {
    if let Some(number) = number.filter(|number| *number <= 0.0) {
        rule.problem(key, &number.to_string(), "this must be above 0", "write it as a magnitude above 0");
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_profile_text;
    use super::*;
    use crate::document::{Problem, Problems};
    use crate::profile::{Detector, Profile, Rule};

    /// The keys of a detector of a level, in flow style.
    fn read(detector: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: acme-level\nversion: 1\nkind: drain\nvendor: Acme\nmodel: L\ninterval: 5m\n\
             payload: {{format: json}}\npoints:\n  - {{name: rain_mm, path: r}}\n  \
             - {{name: water_present, type: boolean, path: w}}\n  \
             - {{name: level_mm, path: l, range: {{min: 0, max: 5000}}}}\n\
             conditions: [{{name: c, title: {{en: c, zh: 状}}}}]\n\
             detectors:\n  - {{condition: c, severity: minor, {detector}}}\n\
             samples:\n  - {{name: good, json: {{l: 5}}, readings: {{level_mm: 5}}}}\n  \
             - {{name: bad, text: '', error: x}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", &text, &problems);
        let found: Vec<String> = problems.into_sorted().iter().map(Problem::to_string).collect();
        profile.ok_or_else(|| found.join("\n"))
    }

    fn first(detector: &str) -> Detector {
        read(detector).unwrap().detectors.swap_remove(0)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let Rule::Forecast(forecast) =
            first("forecast: {point: level_mm, rises_to: 270, within: 10m, least: 30, window: 20m}").rule
        else {
            panic!("it is a forecast")
        };
        assert_eq!((forecast.side, forecast.readings, forecast.jump), (Side::Above, 4, None));
        let Rule::Deviation(deviation) = first("deviation: {point: level_mm, beyond: 4, least: 30}").rule else {
            panic!("it is a deviation")
        };
        let shown = (deviation.side, deviation.clear, deviation.weekend, deviation.warm_up);
        assert_eq!(shown, (Side::Either, 2.0, Weekend::Same, 7));
        let Rule::Trend(trend) = first(
            "trend: {point: level_mm, rising: 25, per: 7d, total: 40, learn_when: [{point: rain_mm, below: 0.1}]}",
        )
        .rule
        else {
            panic!("it is a trend")
        };
        assert_eq!((trend.days, trend.of, trend.learn_when.len()), (14, DayValue::Median, 1));
        let silence = first("silence: {missed: 3, habit: {}, after_rise: {point: level_mm, by: 50, within: 30m}}").rule;
        let Rule::Silence { habit: Some(habit), rise: Some(rise), .. } = silence else { panic!("it has both") };
        assert_eq!((habit.false_per_1000_days, habit.at_most, rise.point, rise.by), (1.0, None, 2, 50.0));
    }

    #[test]
    fn times_of_watching_are_read() {
        let during = first(
            "state: {point: water_present, values: [true]}, \
             during: {hours: 22:30-06:00, weekdays: [weekend, mon], months: 6, light: night}",
        )
        .during
        .unwrap();
        let expected =
            During { hours: Some((1_350, 360)), weekdays: Some(97), months: Some((6, 6)), light: Some(Light::Night) };
        assert_eq!(during, expected);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_mend() {
        let rest = "rises_to: 270, within: 10m, least: 30";
        for (detector, expected) in [
            (format!("forecast: {{point: level_mm, {rest}}}"), "4 readings take 1200s"),
            (format!("forecast: {{point: water_present, {rest}, window: 1h}}"), "needs a number"),
            (format!("forecast: {{point: level_mm, {rest}, falls_to: 3, window: 1h}}"), "one of rises_to, falls_to"),
            (format!("forecast: {{point: level_mm, {rest}, window: 1h, readings: 2}}"), "readings"),
            (
                "forecast: {point: level_mm, rises_to: 9000, within: 1m, least: 1, window: 1h}".into(),
                "outside the point",
            ),
            ("forecast: {point: level_mm, rises_to: 90, within: 1m, least: 0, window: 1h}".into(), "above 0"),
            ("deviation: {point: level_mm, above: 4}".into(), "write the distance that is never wrong"),
            ("deviation: {point: level_mm, above: 4, least: 3, clear: 4}".into(), "not from 0 to less than 4"),
            ("deviation: {point: level_mm, above: 4, least: 3, weekend: off}".into(), "weekend"),
            ("deviation: {point: level_mm, above: 4, least: 3, learn_when: [{point: x, below: 1}]}".into(), "no point"),
            ("trend: {point: level_mm, rising: 25, total: 40}".into(), "such as `per: 30d`"),
            ("trend: {point: level_mm, falls_to: 25, per: 7d, total: 40, within: 9d}".into(), "leave `per` out"),
            ("trend: {point: level_mm, rising: 25, per: 7d, total: 40, days: 31}".into(), "days"),
            ("baseline: {point: level_mm, above: 10, clear: 10}".into(), "not less than 10"),
            ("baseline: {point: level_mm, above: 10}".into(), "such as `clear: 5`"),
            ("baseline: {point: level_mm, above: 10, clear: 5, circle: 12}".into(), "so small a circle"),
            ("silence: {after: 1h, habit: {false_per_1000_days: 0}}".into(), "above 0"),
            ("silence: {after: 1h, after_rise: {point: level_mm, by: 5}}".into(), "such as `within: 30m`"),
            ("silence: {after: 1h}, during: {}".into(), "this has no time"),
            ("silence: {after: 1h}, during: {hours: 22-6}".into(), "not two times of the day"),
            ("silence: {after: 1h}, during: {hours: 25:00-06:00}".into(), "not two times of the day"),
            ("silence: {after: 1h}, during: {weekdays: [funday]}".into(), "there is no such day"),
            ("silence: {after: 1h}, during: {months: [0, 3]}".into(), "each from 1 to 12"),
            ("silence: {after: 1h}, during: {light: dusk}".into(), "light"),
        ] {
            let found = read(&detector).unwrap_err();
            assert!(found.contains(expected) && found.contains("acme.yaml:14"), "{detector}: {found}");
        }
    }
}
