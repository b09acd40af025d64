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

/// Where a point in time lies in the year and the day of its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// From 1 to 12.
    pub month: u8,
    /// Week of ISO 8601, from 1 to 53.
    pub week: u8,
    /// From 0 to 23.
    pub hour: u8,
}

impl Zone {
    /// Month, week and hour of a point in time; `None` beyond the years that a calendar has.
    pub fn local(&self, time: Timestamp) -> Option<LocalTime> {
        let here = jiff::Timestamp::from_millisecond(time.0).ok()?.to_zoned(self.0.clone());
        let narrow = |number: i8| u8::try_from(number).ok();
        Some(LocalTime {
            month: narrow(here.month())?,
            week: narrow(here.date().iso_week_date().week())?,
            hour: narrow(here.hour())?,
        })
    }
}

/// The day and the time of it at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMoment {
    /// Days since 1970-01-01, by the calendar of the place.
    pub day: i32,
    /// From 1 to 12.
    pub month: u8,
    /// From 0 for Monday to 6.
    pub weekday: u8,
    /// Minute of the day, 0 to 1439.
    pub minute: u16,
}

impl Zone {
    /// The day and the time of it; `None` beyond the years that a calendar has.
    pub fn moment(&self, time: Timestamp) -> Option<LocalMoment> {
        let instant = jiff::Timestamp::from_millisecond(time.0).ok()?;
        let offset = self.0.to_offset(instant);
        let seconds = instant.as_second() + i64::from(offset.seconds());
        let day = i32::try_from(seconds.div_euclid(86_400)).ok()?;
        Some(LocalMoment {
            day,
            month: u8::try_from(offset.to_datetime(instant).month()).ok()?,
            // 1970-01-01 was a Thursday.
            weekday: u8::try_from((day + 3).rem_euclid(7)).ok()?,
            minute: u16::try_from(seconds.rem_euclid(86_400) / 60).ok()?,
        })
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
    fn month_week_and_hour_are_those_of_the_zone() {
        let beijing = Zone::named("Asia/Shanghai").unwrap();
        let local = |text: &str| beijing.local(Timestamp::parse(text).unwrap()).unwrap();
        assert_eq!(local("2026-05-31T16:30:00Z"), LocalTime { month: 6, week: 23, hour: 0 });
        assert_eq!(local("2026-12-31T15:59:59Z"), LocalTime { month: 12, week: 53, hour: 23 });
        assert_eq!(beijing.local(Timestamp(i64::MAX)), None);
    }

    #[test]
    fn a_time_before_another_was_zero_ago() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
