//! What each Modbus bus will be asked, for `kerbside check`: requests, bytes, share of its time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use kerbside_sources::modbus::{AT_ONCE, BusForecast, ModbusConfig, PollForecast, Weather, forecast};
use serde::Serialize;

use crate::config::Config;
use crate::config::read::duration_text;

/// Buses with different plans that are printed; all of them stand in the JSON.
const PRINTED_MAX: usize = 20;

/// What a bus will be asked.
#[derive(Debug, Serialize)]
pub(super) struct BusPlan {
    bus: String,
    /// Share of its time in percent.
    percent: f64,
    percent_in_storm: f64,
    /// Only turn-arounds are counted, because the serial line is not known.
    estimate: bool,
    units: Vec<UnitPlanView>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct UnitPlanView {
    unit: u8,
    polls: Vec<PollView>,
    /// Those that are other ones while a storm stands.
    storm_polls: Vec<PollView>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct PollView {
    every: String,
    requests: usize,
    bytes: u32,
    milliseconds: u64,
}

/// The plans of all buses.
pub(super) fn plans(config: &Config) -> Vec<BusPlan> {
    config.modbus.iter().map(|bus| BusPlan::of(bus, &forecast(bus))).collect()
}

impl BusPlan {
    fn of(bus: &ModbusConfig, forecast: &BusForecast) -> BusPlan {
        let percent = |weather| (forecast.share(weather) * 1e4).round() / 1e2;
        let units = forecast.units.iter().map(|unit| UnitPlanView {
            unit: unit.unit,
            polls: unit.fair_polls.iter().map(PollView::of).collect(),
            storm_polls: unit
                .storm_polls
                .iter()
                .filter(|poll| !unit.fair_polls.contains(poll))
                .map(PollView::of)
                .collect(),
        });
        BusPlan {
            bus: bus.name.clone(),
            percent: percent(Weather::Fair),
            percent_in_storm: percent(Weather::Storm),
            estimate: !forecast.counts_bytes,
            units: units.collect(),
        }
    }

    fn headline(&self) -> String {
        let storm = if self.percent_in_storm > self.percent {
            format!(", {} % in a storm", self.percent_in_storm)
        } else {
            String::new()
        };
        let basis = if self.estimate { " (estimated by round trips)" } else { "" };
        format!("takes {} % of its time{storm}{basis}", self.percent)
    }
}

impl PollView {
    fn of(poll: &PollForecast) -> PollView {
        let is_at_once = poll.period <= AT_ONCE;
        PollView {
            every: if is_at_once {
                "at once again".to_owned()
            } else {
                format!("every {}", duration_text(poll.period))
            },
            requests: poll.requests,
            bytes: poll.bytes,
            milliseconds: u64::try_from(poll.time.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn line(&self) -> String {
        let PollView { every, requests, bytes, milliseconds } = self;
        let requests = super::super::counted(*requests, "request");
        format!("{every}: {requests}, {bytes} bytes, {milliseconds} ms")
    }
}

/// Writes the plans for people: buses that are asked the same stand together.
pub(super) fn write(plans: &[BusPlan], out: &mut dyn Write) -> io::Result<()> {
    let mut alike: BTreeMap<(&[UnitPlanView], String), Vec<&str>> = BTreeMap::new();
    let mut order: Vec<(&[UnitPlanView], String)> = Vec::new();
    for plan in plans {
        let key = (plan.units.as_slice(), plan.headline());
        if !alike.contains_key(&key) {
            order.push(key.clone());
        }
        alike.entry(key).or_default().push(&plan.bus);
    }
    for key in order.iter().take(PRINTED_MAX) {
        let buses = &alike[key];
        let others = if buses.len() > 1 { format!(" and {} like it", buses.len() - 1) } else { String::new() };
        writeln!(out, "plan      {}{others}: {}", buses[0], key.1)?;
        for unit in key.0 {
            for poll in &unit.polls {
                writeln!(out, "plan        unit {} {}", unit.unit, poll.line())?;
            }
            for poll in &unit.storm_polls {
                writeln!(out, "plan        unit {} in a storm {}", unit.unit, poll.line())?;
            }
        }
    }
    if order.len() > PRINTED_MAX {
        writeln!(out, "plan      {} more; --json has them all", order.len() - PRINTED_MAX)?;
    }
    Ok(())
}
