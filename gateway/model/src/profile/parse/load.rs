//! Reads the rules `load` and `spike` of a detector.

use super::detectors::{required_duration, required_number};
use super::points::unknown_point_mend;
use super::rules::positive;
use crate::document::Section;
use crate::profile::{
    LOAD_SWITCHES_MAX, Load, LoadGoal, Point, SPIKE_READINGS_MAX, SPIKE_TIMES_MAX, Spikes, ValueType,
};

/// Readings of a setting until its load is known, unless the profile says otherwise: a night of a lamp that reports
/// every half hour.
const READINGS_DEFAULT: i64 = 20;
const READINGS_MAX: i64 = 1_000;
/// A lamp changes for three nights before somebody is told, unless the profile says otherwise.
const NIGHTS_DEFAULT: i64 = 3;
const NIGHTS_MAX: i64 = 60;
/// Readings that a spike lasts, unless the profile says otherwise.
const SPIKE_READINGS_DEFAULT: i64 = 1;

/// Reads `spike`.
pub(super) fn read_spikes(rule: &Section<'_>) -> Option<Spikes> {
    let by = required_number(rule, "by", "write how far it jumps, such as `by: 100`");
    positive(rule, "by", by);
    let readings = rule.integer("readings", 1, SPIKE_READINGS_MAX).unwrap_or(SPIKE_READINGS_DEFAULT);
    let within = rule.duration("within");
    let times = rule.integer("times", 1, SPIKE_TIMES_MAX);
    if !rule.has("times") {
        rule.missing("times", "write how many spikes are too many, such as `times: 5`");
    }
    let window = required_duration(rule, "window", "write in which time, such as `window: 1d`");
    let clear = rule.integer("clear", 0, SPIKE_TIMES_MAX);
    if within.is_some_and(|within| within.is_zero()) {
        rule.problem("within", "0", "nothing comes back in no time", "write a time, or leave `within` out");
    }
    let times = times?;
    let clear = clear.unwrap_or(times / 2);
    if clear >= times {
        let what = format!("not less than {times}");
        rule.problem("clear", &clear.to_string(), what, "write with how few spikes it is over");
    }
    let small = |number: i64| u8::try_from(number).unwrap_or(u8::MAX);
    let (readings, times, clear) = (small(readings), small(times), small(clear));
    Some(Spikes { by: by?, readings, within, times, window: window?, clear })
}

/// Reads `load`.
pub(super) fn read_load(rule: &Section<'_>, points: &[Point]) -> Option<Load> {
    let switches = read_switches(rule, points);
    let dimming = rule.has("dimming").then(|| rule.text("dimming")).flatten();
    let dimming = dimming.map(|name| named(rule, "dimming", &name, points, ValueType::Number));
    let rated = rule.number("rated");
    let least = required_number(rule, "least", "write what even a dark lamp may draw, such as `least: 5`");
    let readings = rule.integer("readings", 3, READINGS_MAX).unwrap_or(READINGS_DEFAULT);
    positive(rule, "rated", rated);
    positive(rule, "least", least);
    let goal = read_goal(rule);
    if let (Some(rated), Some(least)) = (rated, least)
        && least >= rated
    {
        rule.problem("least", &least.to_string(), format!("not less than {rated}"), "write what a dark lamp may draw");
    }
    if let (Some(LoadGoal::Below { .. } | LoadGoal::Outside { .. }), true) =
        (&goal, switches.is_empty() && dimming.is_none() && !rule.has("switches"))
    {
        let mend = "write `switches: [lamp_on]` or `dimming: dimming_percent`";
        rule.problem("", "", "nothing says when the lamp is to burn", mend);
    }
    let dimming = match dimming {
        Some(None) => return None,
        Some(found) => found,
        None => None,
    };
    let readings = u16::try_from(readings).unwrap_or(u16::MAX);
    Some(Load { switches, dimming, rated, readings, least: least?, goal: goal? })
}

fn read_goal(rule: &Section<'_>) -> Option<LoadGoal> {
    let given: Vec<&'static str> = ["below", "above", "outside"].into_iter().filter(|key| rule.has(key)).collect();
    let [key] = given.as_slice() else {
        let mend = "write what is wrong in percent of the usual load, such as `below: 20`";
        rule.problem("", "", "one of below, above, outside is needed", mend);
        return None;
    };
    if *key == "outside" {
        let outside = rule.section("outside")?;
        let min = required_number(&outside, "min", "write the least usual share, such as `min: 75`");
        let max = required_number(&outside, "max", "write the greatest usual share, such as `max: 125`");
        let nights = outside.integer("nights", 1, NIGHTS_MAX).unwrap_or(NIGHTS_DEFAULT);
        outside.finish();
        let (min, max) = (min?, max?);
        if min <= 0.0 || min >= 100.0 || max <= 100.0 {
            let what = format!("{min} to {max} does not hold the usual load, 100");
            rule.problem("outside", "", what, "write such as `outside: {min: 75, max: 125}`");
        }
        return Some(LoadGoal::Outside { min, max, nights: u8::try_from(nights).unwrap_or(u8::MAX) });
    }
    let raise = rule.number(key)?;
    positive(rule, key, Some(raise));
    let is_below = *key == "below";
    let clear = rule.number("clear").unwrap_or(if is_below { raise * 2.0 } else { raise / 2.0 });
    let is_wrong_side = if is_below { clear <= raise } else { clear >= raise };
    if is_wrong_side || clear <= 0.0 {
        let mend = if is_below { format!("write more than {raise}") } else { format!("write less than {raise}") };
        rule.problem("clear", &clear.to_string(), format!("this is not on the good side of {raise}"), mend);
    }
    Some(if is_below { LoadGoal::Below { raise, clear } } else { LoadGoal::Above { raise, clear } })
}

fn read_switches(rule: &Section<'_>, points: &[Point]) -> Vec<u16> {
    let names = rule.texts("switches");
    if names.len() > LOAD_SWITCHES_MAX {
        let what = format!("more than {LOAD_SWITCHES_MAX} switches");
        rule.problem("switches", &names.len().to_string(), what, "write a detector for each meter");
    }
    names.iter().filter_map(|name| named(rule, "switches", name, points, ValueType::Boolean)).collect()
}

/// The position of a point of this type.
fn named(rule: &Section<'_>, key: &str, name: &str, points: &[Point], wanted: ValueType) -> Option<u16> {
    let Some(position) = points.iter().position(|point| *point.name == *name) else {
        let names: Vec<&str> = points.iter().map(|point| point.name.as_ref()).collect();
        rule.problem(key, name, "there is no point of this name", unknown_point_mend(name, &names));
        return None;
    };
    if points[position].value_type != wanted {
        let (what, mend) = match wanted {
            ValueType::Boolean => ("this point is not true or false", "name a point of `type: boolean`"),
            _ => ("this point is no number", "name a point that is a number"),
        };
        rule.problem(key, name, what, mend);
        return None;
    }
    u16::try_from(position).ok()
}
