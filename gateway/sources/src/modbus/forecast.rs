//! What a bus will be asked, and how much of its time that takes: for `kerbside check`, before anything is connected.
//!
//! Pure functions. Where the serial line is known, bytes, silences and turn-arounds are counted; where it is not, only
//! turn-arounds and pauses, which is an estimate and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::profile::RegisterField;

use crate::modbus::beats::{BeatPlan, StormPeriod, Weather};
use crate::modbus::plan::{self, Borders, Cost, Request, Rules};
use crate::modbus::{LinkTiming, ModbusConfig, UnitPlan};

/// Polls with this period or a shorter one follow each other without a rest: they take whatever the bus has left.
pub const AT_ONCE: Duration = Duration::from_millis(1);

/// Storm periods that nobody has chosen leave this much of the bus's time to what goes wrong in a storm.
pub const STORM_SHARE_MAX: f64 = 0.7;

/// What a bus will be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct BusForecast {
    /// Its units.
    pub units: Vec<UnitForecast>,
    /// Whether bytes are counted; else the shares are estimates from the turn-around alone.
    pub counts_bytes: bool,
}

/// What a unit will be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitForecast {
    /// Unit id on the wire.
    pub unit: u8,
    /// Requests of a poll of everything.
    pub requests: usize,
    /// Its polls in fair weather, the most frequent first.
    pub fair_polls: Vec<PollForecast>,
    /// Its polls while a storm stands.
    pub storm_polls: Vec<PollForecast>,
    /// Share of the bus's time in fair weather; 1 is all of it.
    pub fair: f64,
    /// The same while a storm stands.
    pub storm: f64,
}

/// What is asked with one period.
#[derive(Clone, Debug, PartialEq)]
pub struct PollForecast {
    /// Time between polls.
    pub period: Duration,
    /// Requests of one poll.
    pub requests: usize,
    /// Bytes of these and of their answers.
    pub bytes: u32,
    /// How long one poll keeps the bus.
    pub time: Duration,
}

impl BusForecast {
    /// Share of the bus's time; more than 1 cannot be kept.
    pub fn share(&self, weather: Weather) -> f64 {
        let of_unit = |unit: &UnitForecast| match weather {
            Weather::Fair => unit.fair,
            Weather::Storm => unit.storm,
        };
        self.units.iter().map(of_unit).sum()
    }

    /// Requests of one poll of everything.
    pub fn requests(&self) -> usize {
        self.units.iter().map(|unit| unit.requests).sum()
    }
}

/// What a bus will be asked.
pub fn forecast(config: &ModbusConfig) -> BusForecast {
    BusForecast {
        units: config.units.iter().map(|unit| unit_forecast(config, unit)).collect(),
        counts_bytes: config.counts_bytes(),
    }
}

fn unit_forecast(config: &ModbusConfig, unit: &UnitPlan) -> UnitForecast {
    let timing = config.timing_of(unit);
    let all: Vec<RegisterField> = unit.beats.iter().flat_map(|beat| beat.fields.iter().copied()).collect();
    UnitForecast {
        unit: unit.unit,
        requests: requests(config, unit, &timing, &all).len(),
        fair_polls: polls(config, unit, Weather::Fair),
        storm_polls: polls(config, unit, Weather::Storm),
        fair: share(config, unit, Weather::Fair),
        storm: share(config, unit, Weather::Storm),
    }
}

/// Beats with the same period are one poll.
fn polls(config: &ModbusConfig, unit: &UnitPlan, weather: Weather) -> Vec<PollForecast> {
    let timing = config.timing_of(unit);
    let mut by_period: BTreeMap<Duration, Vec<RegisterField>> = BTreeMap::new();
    for beat in &unit.beats {
        by_period.entry(beat.period_in(weather)).or_default().extend_from_slice(&beat.fields);
    }
    let poll = |(period, fields): (Duration, Vec<RegisterField>)| {
        let requests = requests(config, unit, &timing, &fields);
        PollForecast {
            period,
            bytes: requests.iter().map(|request| request.bytes(&timing)).sum(),
            time: time(config, &timing, &requests),
            requests: requests.len(),
        }
    };
    by_period.into_iter().map(poll).collect()
}

fn requests(config: &ModbusConfig, unit: &UnitPlan, timing: &LinkTiming, fields: &[RegisterField]) -> Vec<Request> {
    let (cost, borders) = (Cost::of(timing, config.turn_around), Borders::default());
    plan::plan(fields, &Rules { limits: unit.limits, cost, borders: &borders })
}

fn time(config: &ModbusConfig, timing: &LinkTiming, requests: &[Request]) -> Duration {
    let cost = Cost::on(timing, config.turn_around);
    requests.iter().map(|request| cost.time(request)).sum()
}

/// Beats whose periods are multiples of each other fall together, and cost only what they add.
fn share(config: &ModbusConfig, unit: &UnitPlan, weather: Weather) -> f64 {
    let timing = config.timing_of(unit);
    let mut beats: Vec<&BeatPlan> = unit.beats.iter().collect();
    beats.sort_by_key(|beat| beat.period_in(weather));
    beats.retain(|beat| beat.period_in(weather) > AT_ONCE);
    let periods: Vec<u128> = beats.iter().map(|beat| beat.period_in(weather).as_millis().max(1)).collect();
    let fall_together = periods.windows(2).all(|pair| pair[1].is_multiple_of(pair[0]));
    let (mut share, mut fields, mut before) = (0.0, Vec::new(), Duration::ZERO);
    for beat in beats {
        if !fall_together {
            (fields, before) = (Vec::new(), Duration::ZERO);
        }
        fields.extend_from_slice(&beat.fields);
        let together = time(config, &timing, &requests(config, unit, &timing, &fields));
        share += together.saturating_sub(before).as_secs_f64() / beat.period_in(weather).as_secs_f64();
        before = together;
    }
    share
}

/// Stretches the storm periods that nobody has chosen to what the bus can carry: all alike, and none beyond its period
/// in fair weather.
pub fn fit_storm(config: &mut ModbusConfig) {
    let mut calm = config.clone();
    for beat in calm.units.iter_mut().flat_map(|unit| &mut unit.beats) {
        if matches!(beat.storm_period, StormPeriod::AtBest(_)) {
            beat.storm_period = StormPeriod::Same;
        }
    }
    let chosen = forecast(&calm).share(Weather::Storm);
    let extra = forecast(config).share(Weather::Storm) - chosen;
    let room = (STORM_SHARE_MAX - chosen).max(0.0);
    if extra <= room {
        return;
    }
    for beat in config.units.iter_mut().flat_map(|unit| &mut unit.beats) {
        if let StormPeriod::AtBest(period) = beat.storm_period {
            beat.storm_period = stretched(beat.period, period, room / extra);
        }
    }
}

/// A period between two, by rate: with a haste of 0 the one in fair weather, with 1 the one in a storm.
fn stretched(period: Duration, storm: Duration, haste: f64) -> StormPeriod {
    let (fair_rate, storm_rate) = (1.0 / period.as_secs_f64(), 1.0 / storm.as_secs_f64());
    let rate = fair_rate + haste * (storm_rate - fair_rate);
    let stretched = Duration::from_millis((1_000.0 / rate).ceil() as u64);
    if stretched < period { StormPeriod::AtBest(stretched) } else { StormPeriod::Same }
}

#[cfg(test)]
mod tests {
    use kerbside_model::RegisterTable;
    use kerbside_model::profile::RegisterType;

    use super::*;
    use crate::modbus::{Limits, Link, Parity, PortName, SerialConfig, SerialLine};

    fn registers(range: std::ops::Range<u16>) -> Vec<RegisterField> {
        range.map(|address| RegisterField::new(RegisterTable::Holding, address, RegisterType::U16)).collect()
    }

    fn beat(period_s: u64, storm_period: StormPeriod, range: std::ops::Range<u16>) -> BeatPlan {
        BeatPlan { period: Duration::from_secs(period_s), storm_period, fields: registers(range) }
    }

    /// A bus of 9600 baud with these beats at each of so many units.
    fn config(units: u8, beats: &[BeatPlan]) -> ModbusConfig {
        let line = SerialLine { baud: 9_600, parity: Parity::None, stop_bits: 1 };
        let unit = |unit: u8| UnitPlan {
            unit,
            address: unit.to_string(),
            beats: beats.to_vec(),
            limits: Limits::default(),
            registers_from: None,
        };
        ModbusConfig {
            name: "bus".to_owned(),
            source: "bus".to_owned(),
            link: Link::Serial(SerialConfig { port: PortName::Path("/dev/ttyS1".into()), line }),
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            pause: Duration::ZERO,
            pause_after_connect: Duration::ZERO,
            patience: BTreeMap::new(),
            backoff_max: Duration::from_secs(60),
            turn_around: Duration::from_millis(10),
            quarantine: Duration::from_secs(600),
            failing_share: 0.005,
            units: (1..=units).map(unit).collect(),
        }
    }

    #[test]
    fn a_poll_takes_the_time_of_its_bytes() {
        let forecast = forecast(&config(2, &[beat(1, StormPeriod::Same, 0..10)]));
        let poll = &forecast.units[0].fair_polls[0];
        // 33 characters of 1.0417 ms, 3.5 of silence, 10 ms until the answer.
        assert_eq!((poll.requests, poll.bytes, poll.time.as_micros()), (1, 33, 48_020));
        assert!((forecast.share(Weather::Fair) - 0.096).abs() < 0.001 && forecast.counts_bytes);
    }

    #[test]
    fn points_that_fall_together_cost_only_what_they_add() {
        let alone = forecast(&config(1, &[beat(1, StormPeriod::Same, 0..10)])).share(Weather::Fair);
        let beats = [beat(1, StormPeriod::Same, 0..10), beat(10, StormPeriod::Same, 10..20)];
        let both = forecast(&config(1, &beats)).share(Weather::Fair);
        // Ten more registers each ten seconds: 20 characters in 10 s.
        assert!((both - alone - 0.00208).abs() < 0.0001, "{both} {alone}");
        let beats = [beat(2, StormPeriod::Same, 0..10), beat(3, StormPeriod::Same, 10..20)];
        let apart = forecast(&config(1, &beats)).share(Weather::Fair);
        assert!((apart - 0.048 / 2.0 - 0.048 / 3.0).abs() < 0.0001, "{apart}");
    }

    #[test]
    fn a_storm_takes_no_more_than_the_bus_can_carry() {
        let wish = StormPeriod::AtBest(Duration::from_secs(1));
        let mut roomy = config(2, &[beat(4, wish, 0..10)]);
        fit_storm(&mut roomy);
        assert_eq!(roomy, config(2, &[beat(4, wish, 0..10)]), "there is room for the wish");
        let mut full = config(40, &[beat(4, wish, 0..10)]);
        assert!(forecast(&full).share(Weather::Storm) > 1.9);
        fit_storm(&mut full);
        let share = forecast(&full).share(Weather::Storm);
        assert!(share <= STORM_SHARE_MAX && share > STORM_SHARE_MAX - 0.01, "{share}");
        let mut overfull = config(80, &[beat(4, wish, 0..10)]);
        fit_storm(&mut overfull);
        assert!(overfull.units.iter().all(|unit| unit.beats[0].storm_period == StormPeriod::Same));
        let chosen = StormPeriod::Chosen(Duration::from_secs(1));
        let mut stubborn = config(40, &[beat(4, chosen, 0..10)]);
        fit_storm(&mut stubborn);
        assert!(forecast(&stubborn).share(Weather::Storm) > 1.0, "what somebody has chosen is not changed");
    }

    #[test]
    fn what_is_read_at_once_again_takes_what_is_left() {
        let mut config = config(1, &[beat(1, StormPeriod::Same, 0..10)]);
        config.units[0].beats[0].period = AT_ONCE;
        assert_eq!(forecast(&config).share(Weather::Fair), 0.0);
    }
}
