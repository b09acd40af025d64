//! What profiles of every format have in common: where the device's own time stands, and readings of other times.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BinaryFormat, JsonPath, PartRows, PayloadFormat, TimeField};

/// How a document is read: JSON, or what has been made of a message and looks like it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentFormat {
    /// Where the device's own time stands.
    pub time: Option<TimeField>,
    /// Where readings of other times stand.
    pub history: Option<HistoryList>,
}

/// A list in a document whose elements are readings, each with a time of its own. The places of points are looked for in
/// each element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryList {
    /// Where the list stands; `None` when the whole message is the list.
    pub path: Option<JsonPath>,
    /// Where the time stands in an element.
    pub time: TimeField,
    /// Which element is no history.
    pub newest: Newest,
}

/// Which one of several rows that come at once is the device's newest, and may raise alarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Newest {
    /// None: all of them are history.
    #[default]
    None,
    /// The first one.
    First,
    /// The last one.
    Last,
}

impl PayloadFormat {
    /// The format's name in profiles.
    pub fn name(&self) -> &'static str {
        match self {
            PayloadFormat::Json(_) => "json",
            PayloadFormat::Registers(_) => "registers",
            PayloadFormat::Binary(_) => "binary",
            PayloadFormat::Csv(_) => "csv",
            PayloadFormat::Cbor(_) => "cbor",
            PayloadFormat::Codec(_) => "codec",
            PayloadFormat::Sparkplug(_) => "sparkplug",
        }
    }

    /// By how much the device's clock may be off; `None` when its frames tell no time of their own.
    pub fn drift_max(&self) -> Option<Duration> {
        match self {
            PayloadFormat::Json(format) | PayloadFormat::Cbor(format) => {
                format.time.as_ref().map(|time| time.drift_max)
            }
            PayloadFormat::Codec(format) => format.document.time.as_ref().map(|time| time.drift_max),
            PayloadFormat::Binary(format) => format.time.as_ref().map(|time| time.drift_max),
            PayloadFormat::Csv(format) => format.time.as_ref().map(|time| time.drift_max),
            PayloadFormat::Registers(format) => format.time.as_ref().map(|time| time.drift_max),
            PayloadFormat::Sparkplug(format) => Some(format.drift_max),
        }
    }

    /// Whether frames may tell a time of their own.
    pub fn tells_time(&self) -> bool {
        let rows_tell = match self {
            PayloadFormat::Json(format) | PayloadFormat::Cbor(format) => format.newest_tells_time(),
            PayloadFormat::Codec(format) => format.document.newest_tells_time(),
            PayloadFormat::Binary(format) => {
                let mut parts = format.messages.iter().flat_map(|message| &message.parts);
                parts.any(|part| matches!(part.rows, Some(PartRows::Told { newest, .. }) if newest != Newest::None))
            }
            PayloadFormat::Csv(_) | PayloadFormat::Registers(_) | PayloadFormat::Sparkplug(_) => false,
        };
        rows_tell || self.drift_max().is_some()
    }

    /// The file of its codec beside the profile; empty when the codec stands in the profile.
    pub fn script(&self) -> Option<&str> {
        match self {
            PayloadFormat::Codec(format) => Some(&format.script),
            _ => None,
        }
    }

    /// Gives times without a zone the zone of the site, where the profile names none.
    pub fn put_zone(&mut self, zone: &str) {
        match self {
            PayloadFormat::Json(format) | PayloadFormat::Cbor(format) => format.put_zone(zone),
            PayloadFormat::Codec(format) => Arc::make_mut(format).document.put_zone(zone),
            PayloadFormat::Binary(format) => format.put_zone(zone),
            PayloadFormat::Csv(format) => format.time.iter_mut().for_each(|time| time.put_zone(zone)),
            PayloadFormat::Registers(format) => {
                format.zone.get_or_insert_with(|| zone.to_owned());
            }
            PayloadFormat::Sparkplug(_) => {}
        }
    }
}

impl DocumentFormat {
    fn newest_tells_time(&self) -> bool {
        self.history.as_ref().is_some_and(|list| list.newest != Newest::None)
    }

    fn put_zone(&mut self, zone: &str) {
        let times = self.time.iter_mut().chain(self.history.as_mut().map(|list| &mut list.time));
        times.for_each(|time| time.put_zone(zone));
    }
}

impl BinaryFormat {
    fn put_zone(&mut self, zone: &str) {
        self.time.iter_mut().for_each(|time| time.put_zone(zone));
        for message in &mut self.messages {
            message.channels.iter_mut().flat_map(|channel| &mut channel.time).for_each(|time| time.put_zone(zone));
            for part in &mut message.parts {
                if let Some(PartRows::Told { time, .. }) = &mut part.rows {
                    time.put_zone(zone);
                }
            }
        }
    }
}

impl<Path> TimeField<Path> {
    pub(super) fn put_zone(&mut self, zone: &str) {
        self.zone.get_or_insert_with(|| zone.to_owned());
    }
}
