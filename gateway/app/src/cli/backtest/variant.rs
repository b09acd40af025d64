//! A profile with other limits: `detectors.flooded.raise=150` and the like.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use kerbside_model::document::{closest, parse_duration};
use kerbside_model::profile::{Detector, Load, LoadGoal, Profile, Rule, Side, UNUSUAL_SCORE_MAX, UNUSUAL_SCORE_MIN};
use kerbside_model::site::SiteFacts;
use kerbside_model::{Severity, Site};

/// Keys of a detector that can be set.
const KEYS: [&str; 33] = [
    "raise",
    "above",
    "below",
    "rising",
    "falling",
    "changing",
    "rises_to",
    "falls_to",
    "above_percent",
    "by",
    "times",
    "score",
    "clear",
    "clear_percent",
    "per",
    "gap_max",
    "within",
    "window",
    "least",
    "total",
    "slack",
    "limit",
    "rated",
    "fresh",
    "tolerance",
    "for",
    "rest",
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
        (Rule::Amount(_), "above" | "clear" | "within") => true,
        (Rule::Shift(_), "slack" | "limit" | "least") => true,
        (Rule::Losses(_), "above_percent" | "clear_percent") => true,
        (Rule::Flapping(_), "within") => true,
        (Rule::Unusual(_), "score" | "rest") => true,
        (Rule::Frequency(_), "times" | "least" | "for") => true,
        (Rule::Spike(_), "by" | "window" | "within") => true,
        (Rule::Load(load), "below") => matches!(load.goal, LoadGoal::Below { .. }),
        (Rule::Load(load), "above") => matches!(load.goal, LoadGoal::Above { .. }),
        (Rule::Load(load), "clear") => !matches!(load.goal, LoadGoal::Outside { .. }),
        (Rule::Load(_), "least" | "rated") => true,
        (Rule::Combination(_) | Rule::Expression(_), "fresh") => true,
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
        ("above", Rule::Amount(amount)) => amount.above = number()?,
        ("clear", Rule::Amount(amount)) => amount.clear = number()?,
        ("within", Rule::Amount(amount)) => amount.within = span()?,
        ("within", Rule::Flapping(flapping)) => flapping.within = span()?,
        ("slack", Rule::Shift(shift)) => shift.slack = number()?,
        ("limit", Rule::Shift(shift)) => shift.limit = number()?,
        ("least", Rule::Shift(shift)) => shift.least = number()?,
        ("above_percent", Rule::Losses(losses)) => losses.above_percent = number()?,
        ("clear_percent", Rule::Losses(losses)) => losses.clear_percent = number()?,
        ("score", Rule::Unusual(unusual)) => (unusual.score, unusual.false_per_month) = (number()?, None),
        ("rest", Rule::Unusual(unusual)) => match value.parse::<u32>().ok().filter(|rest| *rest > 0) {
            Some(rest) => unusual.rest = rest,
            None => bail!("set {text}: {value:?} is not a whole number from 1"),
        },
        ("times", Rule::Frequency(frequency)) => frequency.times = number()?,
        ("least", Rule::Frequency(frequency)) => frequency.least = number()?,
        ("for", Rule::Frequency(frequency)) => frequency.lasts = span()?,
        ("by", Rule::Spike(spikes)) => spikes.by = number()?,
        ("window", Rule::Spike(spikes)) => spikes.window = span()?,
        ("within", Rule::Spike(spikes)) => spikes.within = Some(span()?),
        ("least", Rule::Load(load)) => load.least = number()?,
        ("rated", Rule::Load(load)) => load.rated = Some(number()?),
        (key, Rule::Load(Load { goal: LoadGoal::Below { raise, clear } | LoadGoal::Above { raise, clear }, .. })) => {
            *(if key == "clear" { clear } else { raise }) = number()?;
        }
        ("fresh", Rule::Combination(combination) | Rule::Expression(combination)) => combination.fresh = Some(span()?),
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
        Rule::Amount(amount) if amount.clear >= amount.above || amount.within.is_zero() => {
            let (above, clear) = (amount.above, amount.clear);
            bail!("set {text}: it is raised at {above} and would be over at {clear}; set `clear` first");
        }
        Rule::Losses(losses) if losses.clear_percent >= losses.above_percent => {
            let (above, clear) = (losses.above_percent, losses.clear_percent);
            bail!("set {text}: it is raised at {above} % and would be over at {clear} %; set `clear_percent` first");
        }
        Rule::Shift(shift) if shift.least <= 0.0 || shift.limit <= 0.0 => {
            bail!("set {text}: `least` and `limit` of a shift are above 0");
        }
        Rule::Baseline(baseline) if baseline.clear >= baseline.above => {
            let (above, clear) = (baseline.above, baseline.clear);
            bail!("set {text}: it is raised at {above} and would be over at {clear}; set `clear` first");
        }
        Rule::Frequency(frequency) if frequency.times <= 1.0 || frequency.least <= 0.0 => {
            bail!("set {text}: `times` of a frequency is above 1 and `least` above 0");
        }
        Rule::Spike(spikes) if spikes.by <= 0.0 || spikes.window.is_zero() => {
            bail!("set {text}: `by` and `window` of a spike are above 0");
        }
        Rule::Load(load) if load.least <= 0.0 || load.rated.is_some_and(|rated| rated <= load.least) => {
            bail!("set {text}: `least` of a load is above 0 and `rated` above `least`");
        }
        Rule::Load(Load { goal: LoadGoal::Below { raise, clear }, .. }) if clear <= raise => {
            bail!("set {text}: it is raised at {raise} % and would be over at {clear} %; set `clear` first");
        }
        Rule::Load(Load { goal: LoadGoal::Above { raise, clear }, .. }) if clear >= raise => {
            bail!("set {text}: it is raised at {raise} % and would be over at {clear} %; set `clear` first");
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

#[cfg(test)]
mod tests {
    use kerbside_model::document::Problems;
    use kerbside_model::profile::parse_profile_text;

    use super::*;

    /// The first rule of a profile whose only detector has these keys, after the changes; or what is wrong.
    fn set(detector: &str, changes: &[&str]) -> Result<Rule, String> {
        let text = format!(
            "profile: a\nversion: 1\nkind: drain\nvendor: V\nmodel: M\ninterval: 5m\npayload: {{format: json}}\n\
             points: [{{name: level_mm, path: l}}]\ndetectors: [{{condition: unusual, severity: notice, {detector}}}]\n\
             samples:\n  - {{name: s, json: {{l: 1}}, readings: {{level_mm: 1}}}}\n  - {{name: t, text: '', error: x}}\n"
        );
        let mut profile = parse_profile_text("a.yaml", &text, &Problems::default()).unwrap();
        for text in changes {
            profile = with(&profile, &change(text)?).map_err(|error| error.to_string())?;
        }
        Ok(profile.detectors.swap_remove(0).rule)
    }

    #[test]
    fn a_learner_can_be_asked_with_another_score() {
        let learner = "unusual: {point: level_mm, false_per_month: 1}";
        let changes = ["detectors.unusual.score=0.75", "detectors.unusual.rest=24"];
        let Ok(Rule::Unusual(changed)) = set(learner, &changes) else { panic!("it is a learner") };
        assert_eq!((changed.score, changed.false_per_month, changed.rest), (0.75, None, 24));
        for (change, expected) in [
            ("detectors.unusual.score=0.3", "a score is from 0.5"),
            ("detectors.unusual.rest=0", "not a whole number from 1"),
            ("detectors.unusual.raise=3", "has this key"),
            ("detectors.unusual.scores=3", "did you mean score?"),
        ] {
            let found = set(learner, &[change]).unwrap_err();
            assert!(found.contains(expected), "{change}: {found}");
        }
    }

    #[test]
    fn a_forecast_can_be_asked_for_another_limit() {
        let rule = "forecast: {point: level_mm, rises_to: 400, within: 15m, least: 60, window: 25m}";
        let changed = set(rule, &["detectors.unusual.rises_to=300", "detectors.unusual.within=5m"]).unwrap();
        let Rule::Forecast(forecast) = changed else { panic!("it is a forecast") };
        assert_eq!((forecast.reaches, forecast.within), (300.0, Duration::from_secs(300)));
    }
}
