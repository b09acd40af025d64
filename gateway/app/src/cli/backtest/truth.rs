//! What really happened: spans of time in which an alarm is right, so that false and missed ones can be told.

use std::path::Path;

use anyhow::{Context as _, bail};
use kerbside_model::time::Zone;
use kerbside_model::{Alarm, Timestamp};

use super::times;

/// Spans of a table with the columns `from`, `until` and, when they matter, `device` and `condition`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Truth(Vec<Span>);

#[derive(Clone, Debug, PartialEq)]
struct Span {
    from: Timestamp,
    until: Timestamp,
    device: Option<String>,
    condition: Option<String>,
}

/// How alarms compare with what really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Score {
    /// Spans that there are.
    pub(super) events: usize,
    /// Spans in which an alarm stood.
    pub(super) found: usize,
    /// Alarms of the conditions that the table is about which stood in no span.
    pub(super) false_alarms: usize,
    /// From the begin of a span to its first alarm, in seconds, in the middle.
    pub(super) median_delay_seconds: Option<f64>,
}

impl Truth {
    pub(super) fn read(path: &Path, zone: &Zone) -> anyhow::Result<Truth> {
        let file = path.display();
        let mut reader = csv::Reader::from_path(path).with_context(|| format!("read {file}"))?;
        let names: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_lowercase()).collect();
        let place = |name: &str| names.iter().position(|known| known == name);
        let (Some(from), Some(until)) = (place("from"), place("until")) else {
            bail!("read {file}: the columns `from` and `until` are needed; there are {}", names.join(", "));
        };
        let (device, condition) = (place("device"), place("condition"));
        let mut spans = Vec::new();
        for record in reader.records() {
            let record = record.with_context(|| format!("read {file}"))?;
            let line = record.position().map_or(0, csv::Position::line);
            let at = |column: usize| {
                let text = record.get(column).unwrap_or_default();
                times::time(text, zone).with_context(|| format!("read {file}:{line}: {text:?} is not a time"))
            };
            let text = |column: Option<usize>| {
                let cell = column.and_then(|column| record.get(column)).map(str::trim);
                cell.filter(|cell| !cell.is_empty()).map(str::to_owned)
            };
            let span = Span { from: at(from)?, until: at(until)?, device: text(device), condition: text(condition) };
            if span.until < span.from {
                bail!("read {file}:{line}: it ends before it begins");
            }
            spans.push(span);
        }
        Ok(Truth(spans))
    }

    pub(super) fn score(&self, alarms: &[&Alarm], last_at: Timestamp) -> Score {
        let is_about = |alarm: &Alarm| {
            self.0.iter().any(|span| span.condition.as_ref().is_none_or(|condition| *condition == alarm.condition))
        };
        let meets = |alarm: &Alarm, span: &Span| {
            span.device.as_ref().is_none_or(|device| *device == alarm.device)
                && span.condition.as_ref().is_none_or(|condition| *condition == alarm.condition)
                && alarm.opened_at <= span.until
                && alarm.cleared_at.unwrap_or(last_at) >= span.from
        };
        let mut score = Score { events: self.0.len(), ..Score::default() };
        let mut delays = Vec::new();
        for span in &self.0 {
            let first = alarms.iter().filter(|alarm| meets(alarm, span)).map(|alarm| alarm.opened_at).min();
            score.found += usize::from(first.is_some());
            delays.extend(first.map(|first| first.since(span.from).as_secs_f64()));
        }
        let is_false = |alarm: &&&Alarm| is_about(alarm) && !self.0.iter().any(|span| meets(alarm, span));
        score.false_alarms = alarms.iter().filter(is_false).count();
        delays.sort_by(f64::total_cmp);
        score.median_delay_seconds = delays.get(delays.len() / 2).copied();
        score
    }
}
