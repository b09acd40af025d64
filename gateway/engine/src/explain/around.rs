//! What must be so around a device, and what is, in words. English and Chinese.

use kerbside_model::Ground;
use kerbside_model::profile::{Around, Downstream, Weather};

use super::rounded;
use crate::weather::Seen;

/// What a detector asks of the surroundings.
pub(crate) fn around_words(around: &Around) -> (String, String) {
    let (mut english, mut chinese) = (Vec::new(), Vec::new());
    if let Some(weather) = around.weather {
        let (word, word_zh) = weather_words(weather);
        english.push(format!("in {word} weather"));
        chinese.push(word_zh);
    }
    match around.downstream {
        Some(Downstream::High) => {
            english.push("while the water downstream is high too".to_owned());
            chinese.push("下游水位同样偏高");
        }
        Some(Downstream::NotHigh) => {
            english.push("while the water downstream is not high".to_owned());
            chinese.push("下游水位未见偏高");
        }
        None => {}
    }
    (english.join(", "), chinese.join("，"))
}

fn weather_words(weather: Weather) -> (&'static str, &'static str) {
    match weather {
        Weather::Dry => ("dry", "旱天"),
        Weather::Wet => ("wet", "雨天"),
        Weather::NotWet => ("other than wet", "非雨天"),
    }
}

/// What was seen around a device when a detector that asks for it found something.
pub(crate) fn seen_around(seen: &Seen<'_>) -> Vec<Ground> {
    let mut grounds = Vec::new();
    if let Some(weather) = seen.weather {
        let (word, word_zh) = weather_words(weather);
        let (by, by_zh) = match seen.has_gauge {
            true => ("a rain gauge and the levels of the catchment", "雨量计与同一汇水区液位"),
            false => ("the levels of the catchment", "同一汇水区液位"),
        };
        grounds.push(Ground {
            en: format!("{word} for hours by {by}"), zh: format!("据{by_zh}判断：持续{word_zh}")
        });
    }
    if let Some((device, level)) = seen.downstream {
        let (en, zh) = match level {
            Some(level) => (format!("at {} mm", rounded(level)), format!("液位 {} mm", rounded(level))),
            None => ("not known now".to_owned(), "当前液位未知".to_owned()),
        };
        grounds.push(Ground { en: format!("downstream: {device}, {en}"), zh: format!("下游：{device}，{zh}") });
    }
    grounds
}
