//! Whether a Modbus bus has the time for everything that is to be read on it.

use kerbside_model::document::Problem;
use kerbside_sources::modbus::{BusForecast, ModbusConfig, Weather, forecast};

use crate::config::Config;
use crate::config::read::duration_text;

/// Buses whose plan takes more time than there is.
pub fn overloaded(config: &Config) -> Vec<Problem> {
    let file = config.path.display().to_string();
    config.modbus.iter().filter_map(|bus| problem(&file, bus)).collect()
}

fn problem(file: &str, bus: &ModbusConfig) -> Option<Problem> {
    let forecast = forecast(bus);
    let (fair, storm) = (forecast.share(Weather::Fair), forecast.share(Weather::Storm));
    let (weather, share) = if fair > 1.0 { ("", fair) } else { (" in a storm", storm) };
    if share <= 1.0 {
        return None;
    }
    // The first of those that take most.
    let costly = forecast.units.iter().min_by(|one, other| other.storm.total_cmp(&one.storm))?;
    let known = match forecast.counts_bytes {
        true => "a faster line, or fewer units on it, help too",
        false => "write `turn_around` if its units answer faster than that",
    };
    Some(Problem {
        file: file.to_owned(),
        line: 0,
        key: format!("sources.{}", bus.source),
        value: bus.name.clone(),
        what: format!("what is to be read takes {} of the bus's time{weather}", percent_text(share, &forecast, bus)),
        mend: format!("read unit {}, which takes most, less often (`interval` or `period`); {known}", costly.unit),
    })
}

fn percent_text(share: f64, forecast: &BusForecast, bus: &ModbusConfig) -> String {
    let percent = (share * 100.0).round();
    if forecast.counts_bytes {
        format!("{percent} %")
    } else {
        format!("{percent} %, with {} for each request,", duration_text(bus.turn_around))
    }
}
