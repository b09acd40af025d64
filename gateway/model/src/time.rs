//! Points in time, in UTC milliseconds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
///
/// Written as RFC 3339 in UTC where people or other programs read it, as an integer in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Milliseconds since the Unix epoch.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// This time plus a duration, saturating at the ends of the range.
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(duration)))
    }

    /// This time minus a duration, saturating at the ends of the range.
    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis(duration)))
    }

    /// How long ago `earlier` was, or zero when it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 text with a zone.
    pub fn parse(text: &str) -> Option<Timestamp> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_millisecond()))
    }
}

/// A time zone, for devices that send local times.
#[derive(Clone, Debug)]
pub struct Zone(jiff::tz::TimeZone);

impl Zone {
    /// The zone of an IANA name such as `Asia/Shanghai`.
    pub fn named(name: &str) -> Option<Zone> {
        jiff::tz::TimeZone::get(name).ok().map(Zone)
    }

    /// The point in time of a date and time in this zone; `None` when there is no such day or hour. Of an hour that
    /// comes twice the first one counts.
    pub fn at(&self, date: (i16, i8, i8), time: (i8, i8, i8), milliseconds: u16) -> Option<Timestamp> {
        let date = jiff::civil::Date::new(date.0, date.1, date.2).ok()?;
        let time = jiff::civil::Time::new(time.0, time.1, time.2, 0).ok()?;
        let instant = self.0.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok()?;
        Some(Timestamp(instant.as_millisecond()).plus(Duration::from_millis(u64::from(milliseconds))))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(formatter, "{time:.3}"),
            Err(_) => write!(formatter, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an RFC 3339 time")))
        } else {
            i64::deserialize(deserializer).map(Timestamp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc3339_for_people_and_an_integer_in_the_store() {
        let time = Timestamp(1_586_400_800_535);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2020-04-09T02:53:20.535Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>("\"2020-04-09T10:53:20.535+08:00\"").unwrap(), time);
        let bytes = postcard::to_stdvec(&time).unwrap();
        assert_eq!(postcard::from_bytes::<Timestamp>(&bytes).unwrap(), time);
    }

    #[test]
    fn a_local_time_is_of_its_zone() {
        let beijing = Zone::named("Asia/Shanghai").unwrap();
        let time = beijing.at((2026, 11, 22), (8, 0, 0), 250);
        assert_eq!(time, Timestamp::parse("2026-11-22T00:00:00.250Z"));
        assert_eq!(beijing.at((2026, 2, 30), (8, 0, 0), 0), None);
        assert_eq!(beijing.at((2026, 2, 3), (24, 0, 0), 0), None);
        assert!(Zone::named("Mars/Olympus").is_none());
    }

    #[test]
    fn a_time_before_another_was_zero_ago() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
