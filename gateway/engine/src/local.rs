//! The hour of detectors: from a point in time to the day, the time of it, and whether the sun is up at a device.

use std::time::Duration;

use kerbside_model::Timestamp;
use kerbside_model::geo::{Datum, convert};
use kerbside_model::inventory::Device;
use kerbside_model::profile::{During, Light, Profile, ZONE_DEFAULT};
use kerbside_model::time::{LocalMoment, Zone};

/// The sun counts as risen when its middle stands so many degrees from the zenith: half its width and the refraction
/// of the air are allowed for (NOAA Global Monitoring Laboratory, "General Solar Position Calculations").
const ZENITH_DEG: f64 = 90.833;
/// Where a device has no position the sun is up between these minutes of the day.
const DAY_WITHOUT_POSITION: (u16, u16) = (6 * 60, 18 * 60);
/// How exactly the beginning of the next watch is found.
const STEP: Duration = Duration::from_secs(300);
/// ... within two days; further away, such as behind a polar night, to the hour.
const STEPS_FINE: u32 = 2 * 288;
const HOUR: Duration = Duration::from_secs(3_600);
/// A watch that does not begin within a year never does.
const STEPS_MAX: u32 = STEPS_FINE + 366 * 24;
const MINUTES_OF_DAY: i64 = 1_440;

/// Tells the hour for the detectors of a profile; none of its detectors asks when there is no zone.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    zone: Option<Zone>,
    asks_for_light: bool,
}

impl Clock {
    pub(crate) fn of(profile: &Profile) -> Clock {
        let asking = profile.detectors.iter().find(|detector| detector.goes_by_the_clock());
        let name = asking.map(|detector| detector.zone.as_deref().unwrap_or(ZONE_DEFAULT));
        let asks_for_light =
            profile.detectors.iter().filter_map(|detector| detector.during).any(|during| during.light.is_some());
        Clock { zone: name.and_then(Zone::named), asks_for_light }
    }

    /// Where a device is, in degrees of WGS84, when it matters.
    pub(crate) fn place(&self, device: &Device) -> Option<(f64, f64)> {
        let position = device.position.filter(|_| self.asks_for_light)?;
        Some(convert(position, device.datum, Datum::Wgs84))
    }

    /// The moment for a device at this longitude and latitude in degrees of WGS84.
    pub(crate) fn local(&self, time: Timestamp, position: Option<(f64, f64)>) -> Option<Local> {
        let moment = self.zone.as_ref()?.moment(time)?;
        Some(Local { moment, time, position })
    }

    /// The first moment not before `from` at which a detector watches.
    pub(crate) fn next_watch(
        &self,
        during: &During,
        from: Timestamp,
        position: Option<(f64, f64)>,
    ) -> Option<Timestamp> {
        let mut at = from;
        for step in 0..STEPS_MAX {
            let local = self.local(at, position)?;
            if local.is_within(during) {
                return Some(at);
            }
            at = if local.is_day_within(during) {
                at.plus(if step < STEPS_FINE { STEP } else { HOUR })
            } else {
                let rest = MINUTES_OF_DAY - i64::from(local.moment.minute);
                Timestamp((at.0 / 60_000 + rest) * 60_000)
            };
        }
        None
    }
}

/// A moment at the place of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) moment: LocalMoment,
    time: Timestamp,
    position: Option<(f64, f64)>,
}

impl Local {
    /// Whether a detector watches now.
    pub(crate) fn is_within(&self, during: &During) -> bool {
        let minute = self.moment.minute;
        let is_hour = during.hours.is_none_or(|(from, until)| match from < until {
            true => (from..until).contains(&minute),
            false => minute >= from || minute < until,
        });
        let is_light = during.light.is_none_or(|light| (light == Light::Day) == self.is_day());
        is_hour && is_light && self.is_day_within(during)
    }

    /// Whether a detector watches at some hour of this day. A night that began on a day is of the next one behind
    /// midnight.
    fn is_day_within(&self, during: &During) -> bool {
        let month = self.moment.month;
        let is_month = during.months.is_none_or(|(first, last)| match first <= last {
            true => (first..=last).contains(&month),
            false => month >= first || month <= last,
        });
        is_month && during.weekdays.is_none_or(|days| days >> self.moment.weekday & 1 == 1)
    }

    /// Saturday or Sunday.
    pub(crate) fn is_weekend(&self) -> bool {
        self.moment.weekday >= 5
    }

    pub(crate) fn is_day(&self) -> bool {
        match self.position {
            Some(position) => is_sun_up(self.time, position),
            None => (DAY_WITHOUT_POSITION.0..DAY_WITHOUT_POSITION.1).contains(&self.moment.minute),
        }
    }
}

/// Whether the sun is up at a longitude and latitude in degrees, after the formulas of NOAA ("General Solar Position
/// Calculations"): good to a minute or two between the polar circles, in this century.
fn is_sun_up(time: Timestamp, (longitude, latitude): (f64, f64)) -> bool {
    let days = time.0 as f64 / 86_400_000.0;
    let hours = days.rem_euclid(1.0) * 24.0;
    // From the first of January 1970 on, with the leap days evened out: half a day moves sunset by less than a minute.
    let year_angle = std::f64::consts::TAU * ((days - 0.5) / 365.2425).rem_euclid(1.0);
    let (sin1, cos1) = year_angle.sin_cos();
    let (sin2, cos2) = (2.0 * year_angle).sin_cos();
    let (sin3, cos3) = (3.0 * year_angle).sin_cos();
    let equation_minutes =
        229.18 * (0.000_075 + 0.001_868 * cos1 - 0.032_077 * sin1 - 0.014_615 * cos2 - 0.040_849 * sin2);
    let declination = 0.006_918 - 0.399_912 * cos1 + 0.070_257 * sin1 - 0.006_758 * cos2 + 0.000_907 * sin2
        - 0.002_697 * cos3
        + 0.001_48 * sin3;
    let solar_minutes = hours * 60.0 + equation_minutes + 4.0 * longitude;
    let hour_angle = (solar_minutes / 4.0 - 180.0).to_radians();
    let (sin_latitude, cos_latitude) = latitude.to_radians().sin_cos();
    let height = sin_latitude * declination.sin() + cos_latitude * declination.cos() * hour_angle.cos();
    height >= ZENITH_DEG.to_radians().cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEIJING: (f64, f64) = (116.4, 39.9);

    fn is_day(text: &str, position: (f64, f64)) -> bool {
        is_sun_up(Timestamp::parse(text).unwrap(), position)
    }

    fn clock() -> Clock {
        Clock { zone: Zone::named("Asia/Shanghai"), asks_for_light: true }
    }

    #[test]
    fn the_sun_rises_and_sets_as_the_almanac_says() {
        // Beijing, China Standard Time: 2026-06-21 04:46 to 19:46, 2026-12-22 07:33 to 16:53 (published tables).
        for (dark, light) in [
            ("2026-06-20T20:41:00Z", "2026-06-20T20:51:00Z"),
            ("2026-06-21T11:51:00Z", "2026-06-21T11:41:00Z"),
            ("2026-12-21T23:28:00Z", "2026-12-21T23:38:00Z"),
            ("2026-12-22T08:58:00Z", "2026-12-22T08:48:00Z"),
        ] {
            assert!(!is_day(dark, BEIJING), "{dark}");
            assert!(is_day(light, BEIJING), "{light}");
        }
        // It does not set in Tromsoe in June and does not rise in December.
        assert!(is_day("2026-06-21T00:00:00Z", (18.96, 69.65)));
        assert!(!is_day("2026-12-21T11:00:00Z", (18.96, 69.65)));
    }

    #[test]
    fn a_watch_goes_over_midnight_and_over_the_turn_of_the_year() {
        let winter_nights =
            During { hours: Some((22 * 60, 6 * 60)), weekdays: None, months: Some((11, 2)), light: None };
        let is_within =
            |text: &str| clock().local(Timestamp::parse(text).unwrap(), None).unwrap().is_within(&winter_nights);
        assert!(is_within("2026-12-31T14:00:00Z"));
        assert!(is_within("2026-12-31T21:59:00Z"));
        assert!(!is_within("2026-12-31T22:00:00Z"));
        assert!(!is_within("2026-06-30T14:00:00Z"));
    }

    #[test]
    fn the_next_watch_begins_where_its_hours_do() {
        let workday_mornings = During { hours: Some((480, 600)), weekdays: Some(31), months: None, light: None };
        let next = |text: &str| clock().next_watch(&workday_mornings, Timestamp::parse(text).unwrap(), None);
        // 2026-11-21 is a Saturday.
        assert_eq!(next("2026-11-21T03:00:00Z"), Timestamp::parse("2026-11-23T00:00:00Z"));
        assert_eq!(next("2026-11-23T00:30:00Z"), Timestamp::parse("2026-11-23T00:30:00Z"));
    }

    #[test]
    fn a_watch_by_day_waits_for_the_end_of_the_polar_night() {
        let by_day = During { light: Some(Light::Day), ..During::default() };
        let tromsoe = Some((18.96, 69.65));
        let from = Timestamp::parse("2026-12-01T00:00:00Z").unwrap();
        let begins = clock().next_watch(&by_day, from, tromsoe).unwrap();
        // The sun comes back on 15 January (published tables).
        let expected =
            Timestamp::parse("2027-01-13T00:00:00Z").unwrap()..Timestamp::parse("2027-01-17T00:00:00Z").unwrap();
        assert!(expected.contains(&begins), "{begins}");
        // A watch on no day of the week never begins.
        let never = During { hours: Some((0, 1)), weekdays: Some(0), ..During::default() };
        assert_eq!(clock().next_watch(&never, from, None), None);
    }

    #[test]
    fn a_zone_of_half_hours_and_a_change_of_the_clock_leave_a_watch_where_its_hours_are() {
        let nights = During { hours: Some((120, 240)), weekdays: None, months: None, light: None };
        for (zone, from, expected) in [
            ("Asia/Kolkata", "2026-03-01T00:00:00Z", "2026-03-01T20:30:00Z"),
            ("Asia/Kathmandu", "2026-03-01T00:00:00Z", "2026-03-01T20:15:00Z"),
            // Berlin has no two o'clock on 29 March 2026, and two of them on 25 October.
            ("Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T00:00:00Z"),
        ] {
            let clock = Clock { zone: Zone::named(zone), asks_for_light: false };
            let begins = clock.next_watch(&nights, Timestamp::parse(from).unwrap(), None);
            assert_eq!(begins, Timestamp::parse(expected), "{zone}");
        }
    }

    #[test]
    fn without_a_position_day_is_from_six_to_six() {
        let local = |text: &str| clock().local(Timestamp::parse(text).unwrap(), None).unwrap().is_day();
        assert!(local("2026-11-22T22:00:00Z") && !local("2026-11-22T21:59:00Z"));
    }
}
