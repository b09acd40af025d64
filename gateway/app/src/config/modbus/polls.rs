//! What is read from a Modbus unit and how often: from its profile's points to beats.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::Profile;
use kerbside_model::document::Section;
use kerbside_model::profile::{Origin, Point, RegisterField, RegisterFormat};
use kerbside_sources::modbus::{AT_ONCE, BeatPlan, Limits, ModbusConfig, StormPeriod, UnitPatience, Weather, forecast};

use super::read;

/// Points that are read more often while a storm stands, without being told: water.
const STORM_POINTS: [&str; 3] = ["level_mm", "distance_mm", "water_depth_mm"];

/// What a slow meter takes until it begins to answer: an estimate for plan and forecast.
const TURN_AROUND: Duration = Duration::from_millis(10);
const TURN_AROUND_MAX: Duration = Duration::from_secs(10);
/// Registers that a unit refuses are asked again after this: firmware does not change by the minute.
const QUARANTINE: Duration = Duration::from_secs(600);
const QUARANTINE_MIN: Duration = Duration::from_secs(10);
const QUARANTINE_MAX: Duration = Duration::from_secs(86_400);
/// Where timeouts make others miss polls, silent units get half a percent of the time: with a timeout of three seconds
/// and a poll each second that costs the others less than one poll in a hundred.
const FAILING_SHARE_PERCENT: f64 = 0.5;
const FAILING_SHARE_PERCENT_MIN: f64 = 0.01;

/// How a source deals with units that answer slowly, refuse, or keep silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollSettings {
    pub(super) turn_around: Duration,
    pub(super) quarantine: Duration,
    /// 0 to 1.
    pub(super) failing_share: f64,
}

/// Reads the keys of a source that say so.
pub(super) fn settings(section: &Section<'_>) -> PollSettings {
    let percent = section.number("failing_share_percent").unwrap_or(FAILING_SHARE_PERCENT);
    if !(FAILING_SHARE_PERCENT_MIN..=100.0).contains(&percent) {
        section.problem(
            "failing_share_percent",
            &percent.to_string(),
            format!("not from {FAILING_SHARE_PERCENT_MIN} to 100"),
            "write how much of the bus's time units that do not answer may take from the others",
        );
    }
    PollSettings {
        turn_around: read::duration(section, "turn_around", TURN_AROUND, Duration::ZERO..=TURN_AROUND_MAX),
        quarantine: read::duration(section, "quarantine", QUARANTINE, QUARANTINE_MIN..=QUARANTINE_MAX),
        failing_share: percent.clamp(FAILING_SHARE_PERCENT_MIN, 100.0) / 100.0,
    }
}

/// The patience that each unit wants: what the source says of it, else its profile.
pub(super) fn patience<'a>(
    of_source: &BTreeMap<u8, UnitPatience>,
    formats: impl Iterator<Item = (u8, &'a RegisterFormat)>,
) -> BTreeMap<u8, UnitPatience> {
    let mut patience = of_source.clone();
    for (unit, format) in formats {
        let pause = Some(format.pause).filter(|pause| !pause.is_zero());
        if pause.is_some() || format.timeout.is_some() {
            let known = patience.entry(unit).or_default();
            *known = UnitPatience { timeout: known.timeout.or(format.timeout), pause: known.pause.or(pause) };
        }
    }
    patience
}

/// A bus that is busier has no room for retries and installers.
const CROWDED_SHARE: f64 = 0.7;

/// They are read so many times as often, where the bus can carry it.
const STORM_HASTE: u32 = 4;

/// What to say of buses that are busier than is good for them.
pub(in crate::config) fn crowded(buses: &[ModbusConfig]) -> Option<String> {
    let share = |bus: &ModbusConfig| {
        let forecast = forecast(bus);
        forecast.share(Weather::Fair).max(forecast.share(Weather::Storm))
    };
    let crowded: Vec<(&ModbusConfig, f64)> =
        buses.iter().map(|bus| (bus, share(bus))).filter(|(_, share)| *share > CROWDED_SHARE).collect();
    let (bus, share) = crowded.first()?;
    let others = if crowded.len() > 1 { format!(", and so are {} more", crowded.len() - 1) } else { String::new() };
    Some(format!(
        "bus {} is busy for {:.0} % of its time{others}: beyond 100 % polls are skipped; read less often, or use a \
         faster line",
        bus.name,
        share * 100.0
    ))
}

/// The points of a profile in groups that are read with the same period; `period` is that of the unit. The device's own
/// time is read with each group.
pub(super) fn beats(profile: &Profile, format: &RegisterFormat, period: Duration) -> Vec<BeatPlan> {
    let mut beats: Vec<BeatPlan> = Vec::new();
    for (index, point) in profile.points.iter().enumerate() {
        let Origin::Register(field) = &point.origin else { continue };
        let point_period = point.interval.unwrap_or(period).max(AT_ONCE);
        let storm_period = storm_period(profile, index, point, point_period);
        let fields: Vec<RegisterField> = field.needs().collect();
        match beats.iter_mut().find(|beat| beat.period == point_period && beat.storm_period == storm_period) {
            Some(beat) => beat.fields.extend(fields),
            None => beats.push(BeatPlan { period: point_period, storm_period, fields }),
        }
    }
    if let Some(time) = &format.time {
        beats.iter_mut().for_each(|beat| beat.fields.push(time.field));
    }
    beats
}

fn storm_period(profile: &Profile, index: usize, point: &Point, period: Duration) -> StormPeriod {
    if let Some(chosen) = point.storm_interval {
        return if chosen < period { StormPeriod::Chosen(chosen) } else { StormPeriod::Same };
    }
    let is_level = |name: &str| STORM_POINTS.contains(&name);
    // A level may be computed from this point.
    let is_source = |other: &Point| {
        is_level(&other.name) && matches!(other.origin, Origin::MountHeightMinus(from) if usize::from(from) == index)
    };
    let is_wanted = is_level(&point.name) || profile.points.iter().any(is_source);
    let storm = (period / STORM_HASTE).max(AT_ONCE);
    if is_wanted && storm < period { StormPeriod::AtBest(storm) } else { StormPeriod::Same }
}

/// What a unit takes in one request.
pub(super) fn limits(format: &RegisterFormat) -> Limits {
    Limits {
        registers_max: format.registers_max,
        bits_max: format.bits_max,
        gap_max: format.gap_max,
        one_point_per_request: format.one_point_per_request,
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::document::Problems;
    use kerbside_model::profile::{PayloadFormat, parse_profile_text};

    use super::*;

    const PROFILE: &str = "\
profile: acme-probe
version: 1
kind: drain
vendor: Acme
model: Probe
interval: 1m
payload:
  format: registers
  timeout: 2s
  pause: 40ms
  time: {register: {table: holding, address: 8, type: time, form: s}}
points:
  - {name: distance_mm, register: {table: holding, address: 0}}
  - {name: level_mm, mount_height_minus: distance_mm}
  - {name: battery_v, register: {table: holding, address: 1}}
  - {name: temperature_c, register: {table: holding, address: 2}, storm_interval: 30s}
  - {name: serial, register: {table: holding, address: 3}, interval: 1h}
detectors:
  - {condition: silent, severity: minor, silence: {missed: 3}}
samples:
  - name: one
    registers: {holding: {0: [100, 3, 7, 9]}}
    readings: {distance_mm: 100}
  - name: silent
    registers: {failures: [{table: holding, address: 0, count: 4, cause: timeout}]}
    readings: {distance_mm: null}
";

    fn profile() -> Profile {
        let problems = Problems::default();
        let profile = parse_profile_text("acme.yaml", PROFILE, &problems);
        profile.unwrap_or_else(|| panic!("{:#?}", problems.into_sorted()))
    }

    fn format(profile: &Profile) -> &RegisterFormat {
        let PayloadFormat::Registers(format) = &profile.payload else { panic!("registers") };
        format
    }

    #[test]
    fn points_are_grouped_by_period_and_each_group_reads_the_devices_time() {
        let profile = profile();
        let second = Duration::from_secs;
        let told: Vec<(Duration, StormPeriod, Vec<u16>)> = beats(&profile, format(&profile), second(60))
            .into_iter()
            .map(|beat| {
                let addresses = beat.fields.iter().map(|field| field.address).collect();
                (beat.period, beat.storm_period, addresses)
            })
            .collect();
        let expected = [
            (second(60), StormPeriod::AtBest(second(15)), vec![0, 8]),
            (second(60), StormPeriod::Same, vec![1, 8]),
            (second(60), StormPeriod::Chosen(second(30)), vec![2, 8]),
            (second(3_600), StormPeriod::Same, vec![3, 8]),
        ];
        assert_eq!(told, expected);
        // An installer may read the device more often than its point's storm would.
        let fast = beats(&profile, format(&profile), second(20));
        assert!(fast.iter().all(|beat| !matches!(beat.storm_period, StormPeriod::Chosen(_))));
    }

    #[test]
    fn a_unit_has_the_patience_of_its_profile_unless_the_source_says_otherwise() {
        let profile = profile();
        let own = UnitPatience { timeout: Some(Duration::from_secs(9)), pause: None };
        let of_source = BTreeMap::from([(2, own)]);
        let units = [1, 2].map(|unit| (unit, format(&profile)));
        let patience = patience(&of_source, units.into_iter());
        let pause = Some(Duration::from_millis(40));
        assert_eq!(patience[&1], UnitPatience { timeout: Some(Duration::from_secs(2)), pause });
        assert_eq!(patience[&2], UnitPatience { timeout: own.timeout, pause });
    }
}
