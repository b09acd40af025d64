//! What a replay gave, for people and as JSON.

use kerbside_store::recording::RecordingHeader;
use serde_json::{Value, json};

use super::{Outcome, Tally};
use crate::cli::counted;

/// The result of a replay.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) header: RecordingHeader,
    /// Why the recording ends before its end.
    pub(super) torn: Option<String>,
    pub(super) tally: Tally,
    pub(super) fingerprint: String,
    pub(super) outcome: Outcome,
}

impl Report {
    /// Alarms and cases as one JSON object: the same text for the same outcome.
    pub(super) fn listing(&self) -> Value {
        listing(&self.outcome)
    }

    pub(super) fn json(&self) -> Value {
        let tally = &self.tally;
        json!({
            "recording": self.header,
            "torn": self.torn,
            "from": tally.first_at,
            "until": tally.last_at,
            "steps": tally.steps,
            "frames": tally.frames,
            "observations": tally.observations,
            "readings": tally.readings,
            "readings_sha256": self.fingerprint,
            "late": tally.late,
            "duplicates": tally.duplicates,
            "undecoded": tally.undecoded,
            "notices": tally.notices,
            "alarms": self.listing()["alarms"],
            "cases": self.listing()["cases"],
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        for alarm in &self.outcome.alarms {
            let end = alarm.cleared_at.map_or_else(|| alarm.state.name().to_owned(), |at| format!("cleared {at}"));
            let case = match (&alarm.case_id, alarm.suppressed) {
                (Some(id), _) => format!(" [case {id}]"),
                (None, Some(reason)) => format!(" [no case: {}]", reason.name()),
                (None, None) => String::new(),
            };
            let (at, device, condition) = (alarm.opened_at, &alarm.device, &alarm.condition);
            let severity = alarm.severity.name();
            lines.push(format!("{at}  alarm {device} {condition} {severity}, {end}: {}{case}", alarm.explanation));
        }
        for (case, history) in &self.outcome.cases {
            let steps: Vec<String> =
                history.iter().map(|event| format!("{} {}", event.at, event.state.name())).collect();
            let (at, id, title) = (case.opened_at, &case.id, &case.report.title);
            lines.push(format!("{at}  case {id} {title}, {}: {}", case.report.place, steps.join(", ")));
        }
        lines.push(self.summary());
        if let Some(torn) = &self.torn {
            lines.push(format!("the recording is torn and was replayed up to there: {torn}"));
        }
        lines.join("\n")
    }

    fn summary(&self) -> String {
        let tally = &self.tally;
        let undecoded: u64 = tally.undecoded.values().sum();
        let reasons: Vec<String> = tally.undecoded.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        let (from, until) = (tally.first_at.unwrap_or_default(), tally.last_at.unwrap_or_default());
        format!(
            "{from} to {until}: {} frames, {} readings ({} late), {} repeats, {undecoded} undecoded{reasons}, {}, {}, \
             {} notices not sent\nreadings {}",
            tally.frames,
            tally.readings,
            tally.late,
            tally.duplicates,
            counted(self.outcome.alarms.len(), "alarm"),
            counted(self.outcome.cases.len(), "case"),
            tally.notices,
            self.fingerprint,
        )
    }
}

/// Alarms and cases as JSON.
pub(super) fn listing(outcome: &Outcome) -> Value {
    let cases: Vec<Value> =
        outcome.cases.iter().map(|(case, history)| json!({ "case": case, "history": history })).collect();
    json!({ "alarms": outcome.alarms, "cases": cases })
}
