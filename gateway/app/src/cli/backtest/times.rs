//! Times in tables, as people and programs write them.

use kerbside_model::Timestamp;
use kerbside_model::time::Zone;

/// Whole numbers below this are seconds since 1970, below the next ones ms, us and ns: times from 1973 to 5138 are told
/// apart so.
const SECONDS_BELOW: i64 = 100_000_000_000;
const MILLISECONDS_BELOW: i64 = 100_000_000_000_000;
const MICROSECONDS_BELOW: i64 = 100_000_000_000_000_000;

/// Reads RFC 3339, seconds, ms, us or ns since 1970, or a date and time without a zone as one of `zone`.
pub(super) fn time(text: &str, zone: &Zone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return (number >= 0).then(|| of_number(number));
    }
    if let Some(time) = Timestamp::parse(text) {
        return (time.0 >= 0).then_some(time);
    }
    local(text, zone)
}

fn of_number(number: i64) -> Timestamp {
    Timestamp(match number {
        ..SECONDS_BELOW => number * 1_000,
        SECONDS_BELOW..MILLISECONDS_BELOW => number,
        MILLISECONDS_BELOW..MICROSECONDS_BELOW => number / 1_000,
        _ => number / 1_000_000,
    })
}

/// Such as `2026-07-01 08:00:00.5`, `2026/7/1 8:00`.
fn local(text: &str, zone: &Zone) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_separator = |letter: char| matches!(letter, '-' | '/' | ' ' | 'T' | ':');
    if !whole.chars().all(|letter| letter.is_ascii_digit() || is_separator(letter)) {
        return None;
    }
    let parts: Option<Vec<i16>> = whole.split(is_separator).map(|part| part.parse().ok()).collect();
    let parts = parts.filter(|parts| (3..=6).contains(&parts.len()) && parts.len() != 4)?;
    let small = |position: usize| i8::try_from(parts.get(position).copied().unwrap_or(0)).ok();
    let milliseconds = format!("0.{fraction}").parse::<f64>().ok().filter(|share| *share < 1.0)? * 1_000.0;
    let date = (parts[0], small(1)?, small(2)?);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 999")]
    zone.at(date, (small(3)?, small(4)?, small(5)?), milliseconds as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_people_and_programs_are_the_same_moment() {
        let zone = Zone::named("Asia/Shanghai").unwrap();
        let expected = Some(Timestamp(1_782_864_000_500));
        for text in [
            "2026-07-01T00:00:00.5Z",
            "2026-07-01T08:00:00.500+08:00",
            "2026-07-01 08:00:00.5",
            "2026/7/1 8:00:00.500",
            "1782864000500",
            "1782864000500000",
            "1782864000500000000",
        ] {
            assert_eq!(time(text, &zone), expected, "{text}");
        }
        assert_eq!(time("1782864000", &zone), Some(Timestamp(1_782_864_000_000)));
        assert_eq!(time("2026-07-01", &zone), Some(Timestamp(1_782_835_200_000)));
        for text in ["", "yesterday", "2026-07", "2026-13-01", "-5", "08:00"] {
            assert_eq!(time(text, &zone), None, "{text}");
        }
    }
}
