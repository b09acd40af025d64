//! A profile with other limits: `detectors.flooded.raise=150` and the like.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use kerbside_model::document::{closest, parse_duration};
use kerbside_model::profile::{Detector, Profile, Rule, Side, UNUSUAL_SCORE_MAX, UNUSUAL_SCORE_MIN};
use kerbside_model::site::SiteFacts;
use kerbside_model::{Severity, Site};

/// Keys of a detector that can be set.
const KEYS: [&str; 17] = [
    "raise",
    "above",
    "below",
    "rising",
    "falling",
    "changing",
    "clear",
    "per",
    "gap_max",
    "tolerance",
    "for",
    "missed",
    "after",
    "hold",
    "count",
    "clear_hold",
    "severity",
];

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// As it was written.
    pub(super) text: String,
    condition: String,
    /// Which of the condition's detectors, from 0 in the order of the profile.
    position: Option<usize>,
    key: String,
    value: String,
}

/// Reads `detectors.CONDITION.KEY=VALUE` or `detectors.CONDITION.NUMBER.KEY=VALUE`.
pub(super) fn change(text: &str) -> Result<Change, String> {
    let wrong = || "write such as detectors.surcharged.raise=150, or detectors.surcharged.1.raise=150".to_owned();
    let (path, value) = text.split_once('=').ok_or_else(wrong)?;
    let parts: Vec<&str> = path.trim().split('.').collect();
    let (condition, position, key) = match parts.as_slice() {
        ["detectors", condition, key] => (condition, None, key),
        ["detectors", condition, position, key] => (condition, Some(position.parse().map_err(|_| wrong())?), key),
        _ => return Err(wrong()),
    };
    if !KEYS.contains(key) {
        let mend = closest(key, &KEYS).map(|known| format!("did you mean {known}?"));
        return Err(mend.unwrap_or_else(|| format!("{key} cannot be set; what can is {}", KEYS.join(", "))));
    }
    Ok(Change {
        text: text.to_owned(),
        condition: (*condition).to_owned(),
        position,
        key: (*key).to_owned(),
        value: value.trim().to_owned(),
    })
}

/// The site with the changes in every profile that has what they name; one that no profile has is a mistake.
pub(super) fn varied(site: &Site, changes: &[Change]) -> anyhow::Result<Arc<Site>> {
    let mut facts: SiteFacts = site.facts().clone();
    for change in changes {
        let mut is_met = false;
        for profile in &mut facts.profiles {
            if profile.conditions.iter().any(|condition| *condition.name == *change.condition) {
                *profile = Arc::new(with(profile, change)?);
                is_met = true;
            }
        }
        if !is_met {
            let all = facts.profiles.iter().flat_map(|profile| &profile.conditions);
            let mut names: Vec<&str> = all.map(|condition| condition.name.as_ref()).collect();
            names.sort_unstable();
            names.dedup();
            bail!("set {}: no rule finds {}; conditions are {}", change.text, change.condition, names.join(", "));
        }
    }
    Ok(Arc::new(Site::new(facts)))
}

fn with(profile: &Profile, change: &Change) -> anyhow::Result<Profile> {
    let mut profile = profile.clone();
    let conditions = &profile.conditions;
    let mut of_condition: Vec<&mut Detector> = profile
        .detectors
        .iter_mut()
        .filter(|detector| *conditions[usize::from(detector.condition)].name == *change.condition)
        .collect();
    let count = of_condition.len();
    let mut takers: Vec<&mut &mut Detector> = match change.position {
        Some(position) => of_condition.iter_mut().skip(position).take(1).collect(),
        None => of_condition.iter_mut().filter(|detector| takes(detector, &change.key)).collect(),
    };
    match (takers.len(), change.position) {
        (0, Some(position)) => {
            bail!(
                "set {}: {} has no detector {position} of {}, they count from 0",
                change.text,
                profile.name,
                change.condition
            )
        }
        (0, None) => bail!("set {}: no rule of {} in {} has this key", change.text, change.condition, profile.name),
        (1, _) => put(takers[0], change),
        _ => bail!(
            "set {}: {count} rules find {} in {}; say which, as detectors.{}.0.{} to detectors.{}.{}.{}",
            change.text,
            change.condition,
            profile.name,
            change.condition,
            change.key,
            change.condition,
            count - 1,
            change.key
        ),
    }?;
    Ok(profile)
}

fn takes(detector: &Detector, key: &str) -> bool {
    match (&detector.rule, key) {
        (_, "hold" | "count" | "clear_hold" | "severity") => true,
        (Rule::Threshold { .. }, "raise" | "clear") => true,
        (Rule::Threshold { side, .. }, "above") => *side == Side::Above,
        (Rule::Threshold { side, .. }, "below") => *side == Side::Below,
        (Rule::Rate { .. }, "raise" | "clear" | "per" | "gap_max") => true,
        (Rule::Rate { side, .. }, "rising") => *side == Side::Above,
        (Rule::Rate { side, .. }, "falling") => *side == Side::Below,
        (Rule::Rate { side, .. }, "changing") => *side == Side::Either,
        (Rule::Flatline { .. }, "tolerance" | "for") => true,
        (Rule::Silence { .. }, "missed" | "after") => true,
        (Rule::Forecast(forecast), "rises_to") => forecast.side == Side::Above,
        (Rule::Forecast(forecast), "falls_to") => forecast.side == Side::Below,
        (Rule::Forecast(_), "within" | "window" | "least") => true,
        (Rule::Deviation(_), "raise" | "clear" | "least") => true,
        (Rule::Trend(_), "total") => true,
        (Rule::Baseline(_), "above" | "clear") => true,
        (Rule::Unusual(_), "score" | "rest") => true,
        (Rule::Frequency(_), "times" | "least" | "for") => true,
        _ => false,
    }
}

fn put(detector: &mut Detector, change: &Change) -> anyhow::Result<()> {
    let (text, value) = (&change.text, &change.value);
    let number = || match value.parse::<f64>().ok().filter(|number| number.is_finite()) {
        Some(number) => Ok(number),
        None => bail!("set {text}: {value:?} is not a number"),
    };
    let span = || -> anyhow::Result<Duration> {
        match parse_duration(value) {
            Some(span) => Ok(span),
            None => bail!("set {text}: {value:?} is not a duration; write a number with its unit, such as 90s or 10m"),
        }
    };
    if !takes(detector, &change.key) {
        bail!("set {text}: this rule is a {}, which has no {}", detector.rule.name(), change.key);
    }
    match (change.key.as_str(), &mut detector.rule) {
        ("hold", _) => detector.hold = span()?,
        ("clear_hold", _) => detector.clear_hold = span()?,
        ("count", _) => match value.parse::<u16>().ok().filter(|count| *count > 0) {
            Some(count) => detector.count = count,
            None => bail!("set {text}: {value:?} is not a whole number from 1"),
        },
        ("severity", _) => match Severity::ALL.into_iter().find(|severity| severity.name() == value) {
            Some(severity) => detector.severity = severity,
            None => bail!("set {text}: write notice, minor, major or critical"),
        },
        ("clear", Rule::Threshold { clear, .. } | Rule::Rate { clear, .. }) => *clear = number()?,
        ("per", Rule::Rate { per, .. }) => *per = span()?,
        ("gap_max", Rule::Rate { gap_max, .. }) => *gap_max = span()?,
        ("tolerance", Rule::Flatline { tolerance, .. }) => *tolerance = number()?,
        ("for", Rule::Flatline { duration, .. }) => *duration = span()?,
        ("missed", Rule::Silence { missed, after, .. }) => (*missed, *after) = (number()?, None),
        ("rises_to" | "falls_to", Rule::Forecast(forecast)) => forecast.reaches = number()?,
        ("within", Rule::Forecast(forecast)) => forecast.within = span()?,
        ("window", Rule::Forecast(forecast)) => forecast.window = span()?,
        ("least", Rule::Forecast(forecast)) => forecast.least = number()?,
        ("least", Rule::Deviation(deviation)) => deviation.least = number()?,
        ("clear", Rule::Deviation(deviation)) => deviation.clear = number()?,
        ("raise", Rule::Deviation(deviation)) => deviation.raise = number()?,
        ("total", Rule::Trend(trend)) => trend.total = number()?,
        ("above", Rule::Baseline(baseline)) => baseline.above = number()?,
        ("clear", Rule::Baseline(baseline)) => baseline.clear = number()?,
        ("score", Rule::Unusual(unusual)) => (unusual.score, unusual.false_per_month) = (number()?, None),
        ("rest", Rule::Unusual(unusual)) => match value.parse::<u32>().ok().filter(|rest| *rest > 0) {
            Some(rest) => unusual.rest = rest,
            None => bail!("set {text}: {value:?} is not a whole number from 1"),
        },
        ("times", Rule::Frequency(frequency)) => frequency.times = number()?,
        ("least", Rule::Frequency(frequency)) => frequency.least = number()?,
        ("for", Rule::Frequency(frequency)) => frequency.lasts = span()?,
        ("after", Rule::Silence { after, .. }) => *after = Some(span()?),
        (_, Rule::Threshold { raise, .. } | Rule::Rate { raise, .. }) => *raise = number()?,
        (key, rule) => bail!("set {text}: a {} has no {key}", rule.name()),
    }
    check(detector, text)
}

/// What the reading of a profile checks as well.
fn check(detector: &Detector, text: &str) -> anyhow::Result<()> {
    match &detector.rule {
        Rule::Threshold { side, raise, clear, .. } => {
            let is_wrong = if *side == Side::Below { clear <= raise } else { clear >= raise };
            if is_wrong {
                bail!(
                    "set {text}: the limit is {raise} and it would be over at {clear}; set `clear` as well, and first"
                );
            }
        }
        Rule::Rate { raise, clear, per, .. } if *raise <= 0.0 || clear >= raise || per.is_zero() => {
            bail!("set {text}: a rate of {raise} in {per:?} that is over at {clear} cannot be; set `clear` first");
        }
        Rule::Silence { missed, after: None, .. } if *missed < 1.0 => {
            bail!("set {text}: a device is not silent before it missed one report");
        }
        Rule::Deviation(deviation) if deviation.clear >= deviation.raise => {
            let (raise, clear) = (deviation.raise, deviation.clear);
            bail!("set {text}: it is raised at {raise} spreads and would be over at {clear}; set `clear` first");
        }
        Rule::Baseline(baseline) if baseline.clear >= baseline.above => {
            let (above, clear) = (baseline.above, baseline.clear);
            bail!("set {text}: it is raised at {above} and would be over at {clear}; set `clear` first");
        }
        Rule::Frequency(frequency) if frequency.times <= 1.0 || frequency.least <= 0.0 => {
            bail!("set {text}: `times` of a frequency is above 1 and `least` above 0");
        }
        Rule::Unusual(unusual) if !(UNUSUAL_SCORE_MIN..=UNUSUAL_SCORE_MAX).contains(&unusual.score) => {
            bail!("set {text}: a score is from {UNUSUAL_SCORE_MIN} (often) to {UNUSUAL_SCORE_MAX} (hardly ever)");
        }
        Rule::Forecast(forecast) if forecast.window.is_zero() || forecast.least <= 0.0 => {
            bail!("set {text}: `window` and `least` of a forecast are above 0");
        }
        _ => {}
    }
    Ok(())
}
