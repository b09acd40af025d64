//! The tests of QARTOD that look at one value, or at one value and the one before, as they come. Each gives the flag
//! that the batch tests of `ioos_qc` give, but for the faults that `docs/detection.md` lists.
//!
//! A value that is missing takes part as `None`, and is never judged.

use kerbside_model::profile::{Limits, Range, Season, Spans, SpikeMethod};
use kerbside_model::time::LocalTime;
use kerbside_model::{Flag, Timestamp};

/// Both ends are inside.
pub(super) fn is_inside(range: Range, value: f64) -> bool {
    value >= range.min && value <= range.max
}

/// Gross range: outside of one span suspect, outside of the other bad.
#[cfg(test)]
pub(super) fn gross_range(value: Option<f64>, fail: Option<Range>, suspect: Option<Range>) -> Flag {
    let Some(value) = value else { return Flag::Missing };
    let is_outside = |range: Option<Range>| range.is_some_and(|range| !is_inside(range, value));
    match (is_outside(fail), is_outside(suspect)) {
        (true, _) => Flag::Bad,
        (false, true) => Flag::Suspect,
        (false, false) => Flag::Good,
    }
}

/// Climatology: the last season that the time lies in says what is usual. Without one nothing is said.
pub(super) fn climatology(value: Option<f64>, local: LocalTime, seasons: &[Season]) -> Flag {
    let Some(value) = value else { return Flag::Missing };
    let Some(season) = seasons.iter().rev().find(|season| covers(season, local)) else { return Flag::NotEvaluated };
    match (season.fail, season.suspect) {
        (Some(fail), _) if !is_inside(fail, value) => Flag::Bad,
        (_, suspect) if !is_inside(suspect, value) => Flag::Suspect,
        _ => Flag::Good,
    }
}

fn covers(season: &Season, local: LocalTime) -> bool {
    let holds = |turn: Option<(u8, u8)>, now: u8| match turn {
        None => true,
        Some((from, to)) if from <= to => (from..=to).contains(&now),
        // Over the turn of the year or of the day.
        Some((from, to)) => now >= from || now <= to,
    };
    holds(season.months, local.month) && holds(season.weeks, local.week) && holds(season.hours, local.hour)
}

/// Spike: what becomes of the middle one of three values that follow one another.
pub(super) fn spike(method: SpikeMethod, limits: Limits, values: [Option<f64>; 3]) -> Flag {
    let [before, value, behind] = values;
    let Some(value) = value else { return Flag::Missing };
    let (Some(before), Some(behind)) = (before, behind) else { return Flag::NotEvaluated };
    let (rise, fall) = (value - before, behind - value);
    let height = match method {
        SpikeMethod::Average => (value - (before + behind) / 2.0).abs(),
        SpikeMethod::Differential if rise * fall >= 0.0 => 0.0,
        SpikeMethod::Differential => rise.abs().min(fall.abs()),
    };
    beyond(height, limits)
}

/// Rate of change against the value before, in the unit of the limits a second. Values closer together than `least_ms`
/// are compared as if they were so far apart: a second of noise is no flood.
pub(super) fn rate(
    limits: Limits,
    least_ms: i64,
    before: Option<(f64, Timestamp)>,
    value: Option<f64>,
    at: Timestamp,
) -> Flag {
    let Some(value) = value else { return Flag::Missing };
    let Some((before, before_at)) = before else { return Flag::Good };
    let elapsed_ms = at.0.saturating_sub(before_at.0);
    if elapsed_ms <= 0 {
        return Flag::NotEvaluated;
    }
    beyond((value - before).abs() / (elapsed_ms.max(least_ms) as f64 / 1e3), limits)
}

/// Time gap: whether this one came too long after the one before.
pub(super) fn gap(spans: Spans, before_at: Option<Timestamp>, at: Timestamp) -> Flag {
    let Some(before_at) = before_at else { return Flag::NotEvaluated };
    let elapsed = at.since(before_at);
    match (spans.suspect, spans.fail) {
        (_, Some(fail)) if elapsed > fail => Flag::Bad,
        (Some(suspect), _) if elapsed > suspect => Flag::Suspect,
        _ => Flag::Good,
    }
}

/// The flag of a size that should not be beyond its limits.
pub(super) fn beyond(size: f64, limits: Limits) -> Flag {
    match (limits.suspect, limits.fail) {
        (_, Some(fail)) if size > fail => Flag::Bad,
        (Some(suspect), _) if size > suspect => Flag::Suspect,
        _ => Flag::Good,
    }
}
