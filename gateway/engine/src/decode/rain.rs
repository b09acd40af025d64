//! Rainstorm signals (暴雨预警信号) as weather bureaus and duty rooms publish them: the level as a word, or in JSON.
//!
//! Turns a payload into a level, or says that it is lifted. Nothing is kept.

use kerbside_model::incident::{RainLevel, RainTopic};
use kerbside_model::profile::JsonPath;
use kerbside_model::{PayloadView, Timestamp};

use super::find_text;

/// Seconds and milliseconds since 1970 are told apart here: 1973 in milliseconds, the year 5138 in seconds.
const MILLISECONDS_MIN: f64 = 1e11;
/// Longer texts are no signal.
const TEXT_BYTES_MAX: usize = 1_000;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is in force, until its own end if it has one.
    InForce { level: RainLevel, until: Option<Timestamp> },
    /// It is no more.
    Lifted,
    /// It is about wind, heat or fog.
    OtherWeather,
}

/// Reads a message; the text says what is wrong with it.
pub(crate) fn read(topic: &RainTopic, payload: PayloadView<'_>) -> Result<Told, String> {
    let PayloadView::Bytes(bytes) = payload else { return Err("a rainstorm signal is no register".to_owned()) };
    if bytes.len() > TEXT_BYTES_MAX && topic.level.is_none() {
        return Err(format!("{} bytes are no rainstorm signal", bytes.len()));
    }
    let Some(path) = &topic.level else {
        let text = std::str::from_utf8(bytes).map_err(|_| "a rainstorm signal is text in UTF-8".to_owned())?;
        return told(text, None);
    };
    if bytes.is_empty() {
        return Ok(Told::Lifted);
    }
    let text =
        find_text(bytes, path)?.ok_or_else(|| format!("the payload has no {path}, where the level should stand"))?;
    let until = match &topic.until {
        Some(path) => end(bytes, path)?,
        None => None,
    };
    told(&text, until)
}

fn end(bytes: &[u8], path: &JsonPath) -> Result<Option<Timestamp>, String> {
    let Some(text) = find_text(bytes, path)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let of_number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    #[expect(clippy::cast_possible_truncation, reason = "a float beyond the limits of i64 becomes these limits")]
    let time = match of_number {
        Some(number) if number < MILLISECONDS_MIN => Some(Timestamp((number * 1_000.0) as i64)),
        Some(number) => Some(Timestamp(number as i64)),
        None => Timestamp::parse(&text),
    };
    time.map(Some).ok_or_else(|| format!("{path} says {text:?}, which is no time in RFC 3339, seconds or milliseconds"))
}

/// A word for a level, or a sentence about rain with one in it. Colours are those of every kind of warning, so that a
/// sentence must speak of rain.
fn told(text: &str, until: Option<Timestamp>) -> Result<Told, String> {
    let text = text.trim().to_lowercase();
    if text.is_empty() || ["none", "off", "clear", "lifted", "cancelled", "0", "无"].contains(&text.as_str()) {
        return Ok(Told::Lifted);
    }
    let is_of_rain = text.contains("暴雨") || text.contains("rain");
    let is_sentence = text.contains("预警") || text.contains("warning") || text.contains("signal") || is_of_rain;
    if is_sentence && !is_of_rain && text.chars().count() > "橙色预警信号".chars().count() {
        return Ok(Told::OtherWeather);
    }
    if text.contains("解除") || ["lifted", "cancelled"].iter().any(|word| text.contains(word)) {
        return Ok(Told::Lifted);
    }
    let level = RainLevel::ALL.into_iter().find(|level| {
        let (word, sign) = (level.name(), level.name_zh());
        match is_sentence {
            true => text.contains(sign) || text.split(|c: char| !c.is_alphanumeric()).any(|part| part == word),
            false => text == word || text.strip_prefix(sign).is_some_and(|rest| rest.is_empty() || rest == "色"),
        }
    });
    level.map(|level| Told::InForce { level, until }).ok_or_else(|| {
        format!(
            "{text:?} is no rainstorm signal: blue, yellow, orange, red, 蓝, 黄, 橙, 红, or none and 解除 at its end"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn topic(level: Option<&str>) -> RainTopic {
        RainTopic {
            source: "city".to_owned(),
            topic: "weather/rain".to_owned(),
            level: level.map(|path| JsonPath::parse(path).unwrap()),
            until: level.map(|_| JsonPath::parse("until").unwrap()),
            lasts: Duration::from_secs(6 * 3_600),
        }
    }

    fn check(topic: &RainTopic, payload: &str, expected: Result<Told, &str>) {
        let found = read(topic, PayloadView::Bytes(payload.as_bytes()));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{payload}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{payload}: {found}"),
            (found, expected) => panic!("{payload}: {found:?} and not {expected:?}"),
        }
    }

    #[test]
    fn a_signal_is_a_word_or_a_sentence_about_rain() {
        let in_force = |level| Ok(Told::InForce { level, until: None });
        for (payload, expected) in [
            ("orange", in_force(RainLevel::Orange)),
            (" RED\n", in_force(RainLevel::Red)),
            ("蓝", in_force(RainLevel::Blue)),
            ("黄色", in_force(RainLevel::Yellow)),
            ("暴雨橙色预警", in_force(RainLevel::Orange)),
            ("市气象台发布暴雨红色预警信号", in_force(RainLevel::Red)),
            ("橙色预警", in_force(RainLevel::Orange)),
            ("rainstorm warning: yellow", in_force(RainLevel::Yellow)),
            ("解除暴雨橙色预警", Ok(Told::Lifted)),
            ("解除", Ok(Told::Lifted)),
            ("none", Ok(Told::Lifted)),
            ("", Ok(Told::Lifted)),
            ("大风蓝色预警信号", Ok(Told::OtherWeather)),
            ("解除雷电黄色预警信号", Ok(Told::OtherWeather)),
            ("purple", Err("no rainstorm signal")),
            ("redundant", Err("no rainstorm signal")),
            ("{\"level\":\"red\"}", Err("no rainstorm signal")),
        ] {
            check(&topic(None), payload, expected);
        }
        check(&topic(None), &"x".repeat(2_000), Err("2000 bytes"));
    }

    #[test]
    fn a_signal_in_json_may_say_its_end() {
        let topic = topic(Some("signal.level"));
        let until = |until: i64| Ok(Told::InForce { level: RainLevel::Orange, until: Some(Timestamp(until)) });
        for (payload, expected) in [
            (r#"{"signal":{"level":"橙色"},"until":"2026-07-21T20:00:00+08:00"}"#, until(1_784_635_200_000)),
            (r#"{"signal":{"level":"orange"},"until":1784635200}"#, until(1_784_635_200_000)),
            (r#"{"signal":{"level":"orange"},"until":1784635200000}"#, until(1_784_635_200_000)),
            (r#"{"signal":{"level":"orange"}}"#, Ok(Told::InForce { level: RainLevel::Orange, until: None })),
            (r#"{"signal":{"level":"none"}}"#, Ok(Told::Lifted)),
            ("", Ok(Told::Lifted)),
            (r#"{"signal":{}}"#, Err("no signal.level")),
            (r#"{"signal":{"level":"orange"},"until":"tomorrow"}"#, Err("no time")),
            ("orange", Err("not valid JSON")),
        ] {
            check(&topic, payload, expected);
        }
    }
}
