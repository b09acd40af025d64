//! `kerbside explain ALARM`: why an alarm stands, or stood: rule, values, limits, how long, quality, what was ruled out.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use super::access::{self, Access};
use super::{run, say};
use crate::api::alarm_view;

/// Arguments of `kerbside explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    /// Id of an alarm, as `/api/v1/alarms`, the console and a case's episodes have it.
    alarm: String,
    /// One language alone; both without it.
    #[arg(long, value_enum)]
    language: Option<Language>,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// English.
    En,
    /// 中文.
    Zh,
}

pub(super) fn run(arguments: &ExplainArguments) -> anyhow::Result<u8> {
    let id = &arguments.alarm;
    let alarm = run::runtime()?.block_on(async {
        match access::open(&arguments.config).await? {
            Access::Api(api) => api.get(&format!("/api/v1/alarms/{}", access::escape(id))).await,
            Access::Store(store, _) => {
                let found = store.alarm(id)?;
                store.close()?;
                Ok(alarm_view(&found.with_context(|| format!("find the alarm {id}"))?))
            }
        }
    })?;
    if arguments.json {
        say(&alarm.to_string());
    } else {
        say(&text(&alarm, arguments.language));
    }
    Ok(0)
}

fn text(alarm: &Value, language: Option<Language>) -> String {
    let word = |key: &str| alarm[key].as_str().unwrap_or_default();
    let mut lines = vec![format!(
        "{}  {} {} {} {}",
        word("id"),
        word("device"),
        word("condition"),
        word("severity"),
        word("state")
    )];
    let end = alarm["cleared_at"].as_str().map_or(String::new(), |cleared_at| format!(" to {cleared_at}"));
    lines.push(format!("  {}{end}", word("opened_at")));
    for (only, key) in [(Language::Zh, "zh"), (Language::En, "en")] {
        if language.is_some_and(|language| language != only) {
            continue;
        }
        let suffix = if key == "zh" { "_zh" } else { "" };
        lines.push(format!("  {}", word(&format!("explanation{suffix}"))));
        let grounds = alarm[format!("grounds{suffix}").as_str()].as_array();
        lines.extend(grounds.into_iter().flatten().filter_map(Value::as_str).map(|ground| format!("    - {ground}")));
    }
    let readings = &alarm["readings"];
    if let (Some(from), Some(until)) = (readings["from"].as_str(), readings["until"].as_str()) {
        lines.push(format!("  readings: {from} to {until}, {}", readings["grafana"].as_str().unwrap_or_default()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alarm_is_explained_in_both_languages_or_in_one() {
        let alarm = json!({
            "id": "A1", "device": "DL-1", "condition": "surcharged", "severity": "major", "state": "cleared",
            "opened_at": "2026-07-01T00:00:00.000Z", "cleared_at": "2026-07-01T01:00:00.000Z",
            "explanation": "level 450 mm", "explanation_zh": "液位 450 mm",
            "grounds": ["rule: level 400 mm or above"], "grounds_zh": ["规则：液位 400 mm 及以上告警"],
            "readings": {"from": "a", "until": "b", "grafana": "/d/x"},
        });
        let both = text(&alarm, None);
        assert!(both.contains("    - rule: level 400 mm or above") && both.contains("    - 规则："), "{both}");
        assert!(both.ends_with("readings: a to b, /d/x"), "{both}");
        let chinese = text(&alarm, Some(Language::Zh));
        assert!(chinese.contains("液位 450 mm") && !chinese.contains("rule: "), "{chinese}");
    }
}
