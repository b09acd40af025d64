//! Device time: used when it is plausible, else the time of arrival stands.

use kerbside_model::Timestamp;
use kerbside_model::profile::TimeUnit;

/// 2015-01-01T00:00:00Z. No device of ours is older; clocks that lost their battery say 1970 or 2000.
const EARLIEST: Timestamp = Timestamp(1_420_070_400_000);
/// A device clock may run ahead of ours by this much, in ms: 5 min.
const AHEAD_MAX_MS: i64 = 300_000;
/// Numbers below this are seconds when the unit is to be found out: 10^11 ms is 1973, 10^11 s is the year 5138.
const SECONDS_BELOW: f64 = 1e11;

/// The time, unless no working clock could have given it.
pub(super) fn plausible(time: Timestamp, received_at: Timestamp) -> Option<Timestamp> {
    let is_plausible = time >= EARLIEST && time.0 <= received_at.0.saturating_add(AHEAD_MAX_MS);
    is_plausible.then_some(time)
}

/// A number as the device writes its time.
pub(super) fn from_number(number: f64, unit: TimeUnit) -> Option<Timestamp> {
    let milliseconds = match unit {
        TimeUnit::Seconds => number * 1000.0,
        TimeUnit::Milliseconds => number,
        TimeUnit::Auto if number.abs() < SECONDS_BELOW => number * 1000.0,
        TimeUnit::Auto => number,
        TimeUnit::Rfc3339 => return None,
    };
    // A float beyond i64 saturates and is refused as implausible later.
    milliseconds.is_finite().then_some(Timestamp(milliseconds as i64))
}

/// Text as the device writes its time.
pub(super) fn from_text(text: &str, unit: TimeUnit) -> Option<Timestamp> {
    match unit {
        TimeUnit::Rfc3339 => Timestamp::parse(text),
        _ => from_number(text.trim().parse().ok()?, unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_told_apart_by_size() {
        assert_eq!(from_number(1_586_400_800.0, TimeUnit::Auto), Some(Timestamp(1_586_400_800_000)));
        assert_eq!(from_number(1_586_400_800_535.0, TimeUnit::Auto), Some(Timestamp(1_586_400_800_535)));
    }

    #[test]
    fn times_of_1970_and_of_the_future_are_not_believed() {
        let received_at = Timestamp(1_700_000_000_000);
        assert_eq!(plausible(Timestamp(1_000), received_at), None);
        assert_eq!(plausible(received_at.plus(std::time::Duration::from_secs(3_600)), received_at), None);
        let slightly_ahead = received_at.plus(std::time::Duration::from_secs(60));
        assert_eq!(plausible(slightly_ahead, received_at), Some(slightly_ahead));
    }
}
