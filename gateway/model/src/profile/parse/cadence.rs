//! How often single points of a register profile are read.

use std::time::Duration;

use crate::document::Section;
use crate::profile::{Origin, PayloadFormat, Point};

/// A point that is read more often than this keeps a bus from everything else.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A point that is read less often than this is not watched.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// `interval` and `storm_interval` of a point.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cadence {
    pub(super) interval: Option<Duration>,
    pub(super) storm_interval: Option<Duration>,
}

/// Reads the two keys of a point. Only registers are asked for; everything else comes when the device sends it.
pub(super) fn read_cadence(section: &Section<'_>, payload: &PayloadFormat, origin: &Origin) -> Cadence {
    let cadence = Cadence {
        interval: read_interval(section, "interval"),
        storm_interval: read_interval(section, "storm_interval"),
    };
    for key in ["interval", "storm_interval"] {
        if !section.has(key) {
            continue;
        }
        if !matches!(payload, PayloadFormat::Registers(_)) {
            let what = "only registers are read point by point";
            section.problem(key, "", what, "leave it out: a point of a message comes with its message");
        } else if matches!(origin, Origin::MountHeightMinus(_)) {
            let what = "a computed point is not read";
            section.problem(key, "", what, "write it at the point that the device has");
        }
    }
    if let (Some(interval), Some(storm)) = (cadence.interval, cadence.storm_interval)
        && storm > interval
    {
        section.problem(
            "storm_interval",
            &format!("{storm:?}"),
            format!("longer than the interval of {interval:?}"),
            "a storm is when one wants to know more: write a shorter time, or leave it out",
        );
    }
    cadence
}

fn read_interval(section: &Section<'_>, key: &'static str) -> Option<Duration> {
    let interval = section.duration(key)?;
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        section.problem(
            key,
            &format!("{interval:?}"),
            format!("not from {INTERVAL_MIN:?} to {INTERVAL_MAX:?}"),
            "write how often the point is to be read, or leave it out for the period of the unit",
        );
        return None;
    }
    Some(interval)
}

/// A device is silent by its own interval, so that something of it must be read with that.
pub(super) fn check_cadence(section: &Section<'_>, interval: Option<Duration>, points: &[Point]) {
    let is_rarer = |point: &Point| match (point.interval, interval) {
        (None, _) => false,
        (Some(point), Some(interval)) => point > interval,
        (Some(_), None) => true,
    };
    let mut read = points.iter().filter(|point| matches!(point.origin, Origin::Register(_))).peekable();
    if read.peek().is_some() && read.all(is_rarer) {
        section.problem(
            "interval",
            "",
            "every point has an interval of its own and none is read as often as the device's",
            "leave `interval` out at the points that are read most often",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Problems;
    use crate::profile::{Profile, parse_profile_text};

    const PROFILE: &str = "\
profile: acme-probe
version: 1
kind: drain
vendor: Acme
model: Probe
interval: 1m
payload: {format: registers}
points:
  - {name: distance_mm, register: {table: holding, address: 0}, interval: 10s, storm_interval: 2s}
  - {name: level_mm, mount_height_minus: distance_mm}
  - {name: battery_v, register: {table: holding, address: 1}}
  - {name: serial, register: {table: holding, address: 2}, interval: 1h}
detectors:
  - {condition: surcharged, severity: major, threshold: {point: level_mm, above: 400, clear: 300}}
samples:
  - name: one
    registers: {holding: {0: [100, 3, 7]}}
    readings: {distance_mm: 100, battery_v: 3, serial: 7}
  - name: silent
    registers: {failures: [{table: holding, address: 0, count: 3, cause: timeout}]}
    readings: {distance_mm: null}
";

    fn parse(text: &str) -> (Option<Profile>, Vec<String>) {
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", text, &problems);
        (profile, problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    fn check(from: &str, to: &str, expected: &str) {
        assert!(PROFILE.contains(from), "{from}");
        let (_, problems) = parse(&PROFILE.replacen(from, to, 1));
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
    }

    #[test]
    fn points_have_intervals_of_their_own_and_computed_ones_that_of_their_source() {
        let (profile, problems) = parse(PROFILE);
        assert!(!problems.iter().any(|problem| problem.contains("interval")), "{problems:#?}");
        let Some(profile) = profile else { panic!("{problems:#?}") };
        let minute = Some(Duration::from_secs(60));
        let intervals: Vec<u64> =
            (0..4).map(|point| profile.point_interval(point, minute).unwrap().as_secs()).collect();
        assert_eq!(intervals, [10, 10, 60, 3_600]);
        assert_eq!(profile.points[0].storm_interval, Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_interval_that_cannot_be_kept_is_refused() {
        check("interval: 10s", "interval: 10ms", "points[0].interval = \"10ms\": not from 100ms to 86400s");
        check("storm_interval: 2s", "storm_interval: 20s", "storm_interval = \"20s\": longer than the interval of 10s");
        let computed = "mount_height_minus: distance_mm}";
        check(computed, "mount_height_minus: distance_mm, interval: 1s}", "a computed point is not read");
        check("format: registers", "format: json", "only registers are read point by point");
    }

    #[test]
    fn something_of_a_device_is_read_as_often_as_the_device() {
        let battery = "  - {name: battery_v, register: {table: holding, address: 1}}\n";
        let text = PROFILE.replace(battery, "").replace("interval: 10s", "interval: 10m");
        let (_, problems) = parse(&text);
        let expected = "every point has an interval of its own and none is read as often as the device's";
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:#?}");
    }
}
