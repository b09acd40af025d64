//! The keys of `payload: {format: sparkplug}` and of a point's `metric`.

use crate::document::Section;
use crate::profile::{DRIFT_MAX_DEFAULT, SparkplugFormat};

/// Everything below `payload`.
pub(super) fn read_format(payload: &Section<'_>) -> SparkplugFormat {
    SparkplugFormat { drift_max: payload.duration("drift_max").unwrap_or(DRIFT_MAX_DEFAULT) }
}

/// The metrics of a point, in the order in which they are tried.
pub(super) fn read_metrics(section: &Section<'_>) -> Vec<String> {
    let names = section.texts("metric");
    if names.is_empty() || names.iter().any(String::is_empty) {
        let mend = "write the metric's name as the birth has it, such as `metric: Level/mm`";
        section.problem("metric", "", "a name is empty", mend);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::document::Problems;
    use crate::profile::{Origin, PayloadFormat, Profile, SparkplugFormat, parse_profile_text};

    fn parse(payload: &str, point: &str) -> Result<Profile, String> {
        let text = format!(
            "profile: drain\nversion: 1\nkind: drain\nvendor: V\nmodel: M\npayload: {payload}\npoints:\n  \
             - {point}\nsamples:\n  - {{name: good, hex: \"00\", readings: {{level_mm: 1}}}}\n  - {{name: bad, hex: ff, error: Sparkplug}}\n"
        );
        let problems = Problems::default();
        let profile = parse_profile_text("drain.yaml", &text, &problems);
        profile.ok_or_else(|| problems.into_sorted().iter().map(|problem| format!("{problem}\n")).collect())
    }

    #[test]
    fn a_point_names_its_metric_or_several() {
        for (metric, names) in [("Level/mm", vec!["Level/mm"]), ("[Level, level]", vec!["Level", "level"])] {
            let profile = parse("{format: sparkplug}", &format!("{{name: level_mm, metric: {metric}}}")).unwrap();
            assert_eq!(profile.points[0].origin, Origin::Metric(names.into_iter().map(str::to_owned).collect()));
        }
    }

    #[test]
    fn the_limit_of_drift_may_be_another() {
        let profile = parse("{format: sparkplug, drift_max: 1m}", "{name: level_mm, metric: Level}").unwrap();
        let format = SparkplugFormat { drift_max: Duration::from_secs(60) };
        assert_eq!(profile.payload, PayloadFormat::Sparkplug(format));
        assert!(profile.payload.tells_time());
    }

    #[test]
    fn what_is_no_metric_is_said_where_it_stands() {
        for (payload, point, words) in [
            ("{format: sparkplug}", "{name: level_mm, metric: \"\"}", "points[0].metric"),
            ("{format: sparkplug}", "{name: level_mm}", "metric: Level/mm"),
            ("{format: sparkplug}", "{name: level_mm, path: a}", "the payload's format is sparkplug"),
            ("{format: sparkplug, time: {path: a}}", "{name: level_mm, metric: a}", "payload.time"),
            ("{format: json}", "{name: level_mm, metric: a}", "the payload's format is json"),
        ] {
            let problems = parse(payload, point).expect_err(words);
            assert!(problems.contains(words), "{words}: {problems}");
        }
    }
}
