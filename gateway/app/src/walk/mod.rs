//! The acceptance report of a walk test (现场核验): what the engine saw, as a table and as a page to be signed.
//!
//! Turns a [`WalkView`] into CSV that Excel opens, into one HTML file that prints on A4, and into the page that an
//! installer keeps open on the phone. Nothing is kept and nothing is asked: the same view gives the same text.

mod page;
mod table;
#[cfg(test)]
mod tests;
mod words;

use jiff::tz::TimeZone;
use kerbside_engine::{ReadingView, WalkDeviceView, WalkOutcome, WalkView};
use kerbside_model::Timestamp;

pub(crate) use page::{phone, report};
pub(crate) use table::csv;

/// What a report says besides the walk itself.
#[derive(Clone, Debug)]
pub(crate) struct Occasion {
    /// Name of the site.
    pub(crate) site: String,
    /// Version of the gateway.
    pub(crate) version: &'static str,
    /// When the report was made.
    pub(crate) now: Timestamp,
    /// The zone of its times.
    pub(crate) zone: TimeZone,
}

impl Occasion {
    /// What a watch on the spot shows; nothing for never.
    fn local(&self, at: Option<Timestamp>) -> String {
        let Some(at) = at else { return String::new() };
        match jiff::Timestamp::from_millisecond(at.as_millis()) {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Err(_) => at.to_string(),
        }
    }

    fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
}

/// What whoever opens the phone's page may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Only look.
    Looks,
    /// Begin and end walk tests, under the name of an account where there is one.
    Acts {
        /// Name of the account.
        account: Option<String>,
    },
}

/// How many devices came to each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: usize,
    half: usize,
    heard: usize,
    not_heard: usize,
    gone: usize,
}

impl Totals {
    fn of(view: &WalkView) -> Totals {
        let mut totals = Totals::default();
        for device in &view.devices {
            let count = match device.outcome {
                WalkOutcome::Passed => &mut totals.passed,
                WalkOutcome::Half => &mut totals.half,
                WalkOutcome::Heard => &mut totals.heard,
                WalkOutcome::NotHeard => &mut totals.not_heard,
                WalkOutcome::Gone => &mut totals.gone,
            };
            *count += 1;
        }
        totals
    }
}

/// A reading of one of these points, the first that there is, with its unit.
fn first_of(device: &WalkDeviceView, points: &[&str]) -> String {
    let found = points.iter().find_map(|name| device.readings.iter().find(|reading| reading.point == *name));
    found.map(value).unwrap_or_default()
}

/// Value and unit; a value that is not good says so.
fn value(reading: &ReadingView) -> String {
    let number = match &reading.value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let blank = if reading.unit.is_empty() { "" } else { " " };
    let doubt = if reading.quality == "good" { String::new() } else { format!(" ({})", reading.quality) };
    format!("{number}{blank}{}{doubt}", reading.unit)
}

/// Radio field strength as the device or its network server tells it.
fn signal(device: &WalkDeviceView) -> String {
    first_of(device, &["signal_dbm"])
}

fn battery(device: &WalkDeviceView) -> String {
    first_of(device, &["battery_v", "battery_percent"])
}
