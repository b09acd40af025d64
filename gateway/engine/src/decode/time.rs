//! The time that a device tells: read in whatever form it writes it, and used when a working clock could have told it.
//! Else the time of arrival stands.

use kerbside_model::profile::{TimeField, TimeUnit, ZONE_DEFAULT};
use kerbside_model::time::Zone;
use kerbside_model::{TimeRefusal, Timestamp};

use super::convert::Raw;

/// 2015-01-01T00:00:00Z. No device of ours is older; clocks that lost their battery say 1970 or 2000.
pub(super) const EARLIEST: Timestamp = Timestamp(1_420_070_400_000);
/// A device clock may run ahead of ours by this much, in ms: 5 min.
const AHEAD_MAX_MS: i64 = 300_000;
/// While our own clock is unsure it may lie behind by as long as the box was without power: a year, in ms.
const AHEAD_UNSURE_MAX_MS: i64 = 366 * 86_400_000;
/// Numbers below this are seconds when the unit is to be found out: 10^11 ms is 1973, 10^11 s is the year 5138.
const SECONDS_BELOW: f64 = 1e11;
/// From here on they are microseconds: 10^14 ms is the year 5138, 10^14 us is 1973.
const MICROSECONDS_FROM: f64 = 1e14;
/// From here on they are nanoseconds: 10^17 us is the year 5138, 10^17 ns is 1973.
const NANOSECONDS_FROM: f64 = 1e17;
/// Numbers between these are a date and time written together, `20261122080000`. As milliseconds they would lie in
/// the years 2603 to 2636.
const WRITTEN_TOGETHER: (f64, f64) = (2.0e13, 2.1e13);

/// What a frame says of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that is no time.
    Unreadable,
    /// This, right or wrong.
    Time(Timestamp),
}

/// How far our own clock can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It is right.
    Sure,
    /// It may lie behind.
    Unsure,
}

impl Told {
    /// The device's time, when a working clock could have told it; `None` when it told none.
    pub fn judge(self, received_at: Timestamp, certainty: Certainty) -> Result<Option<Timestamp>, TimeRefusal> {
        let time = match self {
            Told::Nothing => return Ok(None),
            Told::Unreadable => return Err(TimeRefusal::Unreadable),
            Told::Time(time) => time,
        };
        let ahead_max = match certainty {
            Certainty::Sure => AHEAD_MAX_MS,
            Certainty::Unsure => AHEAD_UNSURE_MAX_MS,
        };
        if time < EARLIEST {
            return Err(TimeRefusal::Past);
        }
        if time.0 > received_at.0.saturating_add(ahead_max) {
            return Err(TimeRefusal::Future);
        }
        Ok(Some(time))
    }
}

/// Reads times as the devices of one profile write them.
#[derive(Debug)]
pub(super) struct TimeReader {
    unit: TimeUnit,
    zone: Option<Zone>,
}

impl TimeReader {
    pub(super) fn new<Path>(field: &TimeField<Path>) -> TimeReader {
        let zone = Zone::named(field.zone.as_deref().unwrap_or(ZONE_DEFAULT));
        TimeReader { unit: field.unit, zone }
    }

    /// The time in whatever stands in its place.
    pub(super) fn raw(&self, raw: Raw<'_>) -> Told {
        match raw {
            Raw::Number(number) => self.number(number),
            Raw::Text(text) => self.text(text),
            Raw::Null => Told::Nothing,
            Raw::Boolean(_) | Raw::Other => Told::Unreadable,
        }
    }

    pub(super) fn number(&self, number: f64) -> Told {
        let milliseconds = match self.unit {
            TimeUnit::Seconds => number * 1e3,
            TimeUnit::Milliseconds => number,
            TimeUnit::Microseconds => number / 1e3,
            TimeUnit::Nanoseconds => number / 1e6,
            TimeUnit::Auto => match number.abs() {
                size if size < SECONDS_BELOW => number * 1e3,
                _ if number >= WRITTEN_TOGETHER.0 && number < WRITTEN_TOGETHER.1 => return self.together(number),
                size if size < MICROSECONDS_FROM => number,
                size if size < NANOSECONDS_FROM => number / 1e3,
                _ => number / 1e6,
            },
            TimeUnit::Local if number >= WRITTEN_TOGETHER.0 && number < WRITTEN_TOGETHER.1 => {
                return self.together(number);
            }
            TimeUnit::Rfc3339 | TimeUnit::Local => return Told::Unreadable,
        };
        // A float beyond i64 saturates and is refused as implausible later.
        if milliseconds.is_finite() { Told::Time(Timestamp(milliseconds as i64)) } else { Told::Unreadable }
    }

    pub(super) fn text(&self, text: &str) -> Told {
        let text = text.trim();
        match self.unit {
            TimeUnit::Rfc3339 => found(Timestamp::parse(text)),
            TimeUnit::Local => found(self.local(text)),
            TimeUnit::Auto => match text.parse() {
                // More than 14 digits written together are too many for a number.
                Ok(number) if text.len() < 17 || !text.starts_with("20") => self.number(number),
                _ => found(Timestamp::parse(text).or_else(|| self.local(text))),
            },
            TimeUnit::Seconds | TimeUnit::Milliseconds | TimeUnit::Microseconds | TimeUnit::Nanoseconds => {
                text.parse().map_or(Told::Unreadable, |number| self.number(number))
            }
        }
    }

    /// `20261122080000` as a number.
    fn together(&self, number: f64) -> Told {
        found(self.local(&format!("{number:.0}")))
    }

    /// Date and time without a zone: `2026-11-22 08:00:00.250`, `2026/11/22T08:00`, `20261122080000250`.
    fn local(&self, text: &str) -> Option<Timestamp> {
        let zone = self.zone.as_ref()?;
        let mut fields = Fields(text.as_bytes());
        let year = fields.digits(4)?;
        fields.skip(b"-/");
        let month = fields.digits(2)?;
        fields.skip(b"-/");
        let day = fields.digits(2)?;
        fields.skip(b" Tt_");
        let hour = fields.digits(2)?;
        fields.skip(b":");
        let minute = fields.digits(2)?;
        fields.skip(b":");
        let second = if fields.0.is_empty() { 0 } else { fields.digits(2)? };
        fields.skip(b".,");
        let milliseconds = fields.fraction()?;
        let small = |number: u16| i8::try_from(number).ok();
        let date = (i16::try_from(year).ok()?, small(month)?, small(day)?);
        zone.at(date, (small(hour)?, small(minute)?, small(second)?), milliseconds)
    }
}

fn found(time: Option<Timestamp>) -> Told {
    time.map_or(Told::Unreadable, Told::Time)
}

/// What is left of a text to be read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn digits(&mut self, count: usize) -> Option<u16> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        let mut number = 0_u16;
        for digit in digits {
            number = number * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        Some(number)
    }

    /// Passes over one of these, if it is there.
    fn skip(&mut self, any: &[u8]) {
        if let Some((first, rest)) = self.0.split_first()
            && any.contains(first)
        {
            self.0 = rest;
        }
    }

    /// Digits behind the point, to milliseconds.
    fn fraction(&mut self) -> Option<u16> {
        if !self.0.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let digit = |position: usize| self.0.get(position).map_or(0, |digit| u16::from(digit - b'0'));
        Some(digit(0) * 100 + digit(1) * 10 + digit(2))
    }
}

#[cfg(test)]
mod tests {
    use kerbside_model::profile::JsonPath;

    use super::*;

    fn reader(unit: TimeUnit) -> TimeReader {
        TimeReader::new(&TimeField::new(JsonPath::parse("ts").unwrap(), unit))
    }

    #[track_caller]
    fn check(told: Told, expected: &str) {
        assert_eq!(told, found(Timestamp::parse(expected)), "{expected}");
    }

    #[test]
    fn units_are_told_apart_by_size() {
        let auto = reader(TimeUnit::Auto);
        check(auto.number(1_586_400_800.0), "2020-04-09T02:53:20Z");
        check(auto.number(1_586_400_800.5), "2020-04-09T02:53:20.5Z");
        check(auto.number(1_586_400_800_535.0), "2020-04-09T02:53:20.535Z");
        check(auto.number(1_586_400_800_535_250.0), "2020-04-09T02:53:20.535Z");
        check(auto.number(1_586_400_800_535_250_100.0), "2020-04-09T02:53:20.535Z");
        check(auto.number(20_261_122_080_000.0), "2026-11-22T00:00:00Z");
        assert_eq!(auto.number(20_261_322_080_000.0), Told::Unreadable, "there is no thirteenth month");
        assert_eq!(auto.number(f64::NAN), Told::Unreadable);
    }

    #[test]
    fn named_units_are_taken_at_their_word() {
        check(reader(TimeUnit::Seconds).number(1_586_400_800.0), "2020-04-09T02:53:20Z");
        check(reader(TimeUnit::Milliseconds).number(1_586_400_800.0), "1970-01-19T08:40:00.800Z");
        check(reader(TimeUnit::Microseconds).text("1586400800535250"), "2020-04-09T02:53:20.535Z");
        check(reader(TimeUnit::Nanoseconds).number(1.586_400_800_535e18), "2020-04-09T02:53:20.535Z");
        assert_eq!(reader(TimeUnit::Rfc3339).number(1.0), Told::Unreadable);
        assert_eq!(reader(TimeUnit::Rfc3339).text("2026-11-22 08:00:00"), Told::Unreadable, "it has no offset");
        assert_eq!(reader(TimeUnit::Local).number(1_586_400_800.0), Told::Unreadable);
    }

    #[test]
    fn texts_are_read_with_an_offset_or_in_the_zone_of_the_place() {
        let auto = reader(TimeUnit::Auto);
        let texts = [
            "2026-11-22T00:00:00Z",
            "2026-11-22T08:00:00+08:00",
            "2026-11-22 08:00:00+08:00",
            "2026-11-22 08:00:00",
            " 2026-11-22 08:00:00 ",
            "2026-11-22T08:00:00.000",
            "2026/11/22 08:00",
            "20261122080000",
            "20261122T080000",
            "20261122080000000",
            "1795305600",
            "1795305600000",
        ];
        for text in texts {
            check(auto.text(text), "2026-11-22T00:00:00Z");
        }
        check(auto.text("2026-11-22 08:00:00.25"), "2026-11-22T00:00:00.250Z");
        check(auto.text("20261122080000123"), "2026-11-22T00:00:00.123Z");
        for text in ["", "now", "2026-11-22", "2026-11-22 08:00:00 PM", "2026-11-31 08:00:00", "2026-11-22 24:00:00"] {
            assert_eq!(auto.text(text), Told::Unreadable, "{text:?}");
        }
    }

    #[test]
    fn the_profile_may_name_the_zone() {
        let mut field = TimeField::new(JsonPath::parse("ts").unwrap(), TimeUnit::Local);
        field.zone = Some("Asia/Urumqi".to_owned());
        check(TimeReader::new(&field).text("2026-11-22 08:00:00"), "2026-11-22T02:00:00Z");
    }

    #[test]
    fn times_of_1970_and_of_the_future_are_not_believed() {
        let received_at = Timestamp(1_700_000_000_000);
        let judge = |time: i64, certainty| Told::Time(Timestamp(time)).judge(received_at, certainty);
        assert_eq!(judge(1_000, Certainty::Sure), Err(TimeRefusal::Past));
        assert_eq!(judge(received_at.0 + 300_001, Certainty::Sure), Err(TimeRefusal::Future));
        assert_eq!(judge(received_at.0 + 300_000, Certainty::Sure), Ok(Some(Timestamp(received_at.0 + 300_000))));
        assert_eq!(Told::Nothing.judge(received_at, Certainty::Sure), Ok(None));
        assert_eq!(Told::Unreadable.judge(received_at, Certainty::Sure), Err(TimeRefusal::Unreadable));
    }

    #[test]
    fn a_device_may_be_ahead_of_a_clock_that_is_unsure_but_not_by_years() {
        let received_at = Timestamp(1_700_000_000_000);
        let day = 86_400_000;
        let judge = |days: i64| Told::Time(Timestamp(received_at.0 + days * day)).judge(received_at, Certainty::Unsure);
        assert_eq!(judge(30), Ok(Some(Timestamp(received_at.0 + 30 * day))));
        assert_eq!(judge(-1), Ok(Some(Timestamp(received_at.0 - day))));
        assert_eq!(judge(2_000), Err(TimeRefusal::Future));
        assert_eq!(Told::Time(Timestamp(0)).judge(received_at, Certainty::Unsure), Err(TimeRefusal::Past));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_device_says_is_a_time_or_none(
            text in ".{0,24}",
            digits in "[0-9 :./T-]{0,24}",
            bits in proptest::num::u64::ANY,
            received_at in proptest::num::i64::ANY,
        ) {
            let units = [TimeUnit::Auto, TimeUnit::Local, TimeUnit::Rfc3339, TimeUnit::Seconds, TimeUnit::Nanoseconds];
            for unit in units {
                let reader = reader(unit);
                for told in [reader.text(&text), reader.text(&digits), reader.number(f64::from_bits(bits))] {
                    for certainty in [Certainty::Sure, Certainty::Unsure] {
                        if let Ok(Some(time)) = told.judge(Timestamp(received_at), certainty) {
                            assert!(time >= EARLIEST && time.0 <= received_at.saturating_add(AHEAD_UNSURE_MAX_MS));
                        }
                    }
                }
            }
        }
    }
}
