//! What an engine made of the readings: alarms, cases, flags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kerbside_model::{Alarm, AlarmState, Case, Effects, Severity, Site, Timestamp, Value};

use super::flags::Flags;
use super::trace::Trace;

/// Alarms and cases beyond this are counted and not listed: rules that raise so many are not in use.
const RECORDS_MAX: usize = 200_000;

/// What came out so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    alarms: BTreeMap<String, Alarm>,
    /// Of alarms that became worse: from when on they had which severity, the first one included.
    grades: BTreeMap<String, Vec<(Timestamp, Severity)>>,
    cases: BTreeMap<String, Case>,
    /// Alarms that were ever raised, also those that are not kept.
    pub(super) raised: u64,
    pub(super) observations: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) undecoded: u64,
    pub(super) flags: Flags,
    /// Devices that were heard.
    pub(super) devices: BTreeSet<String>,
    pub(super) first_at: Option<Timestamp>,
    pub(super) last_at: Option<Timestamp>,
    /// Of the device in the picture, by point.
    pub(super) traces: BTreeMap<Arc<str>, Trace>,
    pictured: Option<String>,
    is_drawn: bool,
}

impl Outcome {
    /// With `is_drawn` the series of one device are kept: of the one that is named, else of the first that is heard.
    pub(super) fn new(is_drawn: bool, pictured: Option<String>) -> Outcome {
        Outcome { is_drawn, pictured, ..Outcome::default() }
    }

    /// The device whose series are kept.
    pub(super) fn pictured(&self) -> Option<&str> {
        self.pictured.as_deref()
    }

    /// Every alarm that is kept, by begin.
    pub(super) fn alarms(&self) -> Vec<&Alarm> {
        let mut alarms: Vec<&Alarm> = self.alarms.values().collect();
        alarms.sort_by_key(|alarm| (alarm.opened_at, &alarm.device, &alarm.condition));
        alarms
    }

    /// The severities of an alarm, each from when on.
    pub(super) fn grades(&self, alarm: &Alarm) -> Vec<(Timestamp, Severity)> {
        self.grades.get(&alarm.id).cloned().unwrap_or_else(|| vec![(alarm.opened_at, alarm.severity)])
    }

    /// Every case that would have been opened, by begin.
    pub(super) fn cases(&self) -> Vec<&Case> {
        let mut cases: Vec<&Case> = self.cases.values().collect();
        cases.sort_by_key(|case| (case.opened_at, &case.device, &case.condition));
        cases
    }

    /// Takes the effects of a step at `at`. Only those of one device count when one is `wanted`.
    pub(super) fn take(
        &mut self,
        site: &Arc<Site>,
        effects: Effects,
        at: Timestamp,
        wanted: Option<&str>,
    ) -> anyhow::Result<()> {
        let is_wanted = |device: &str| wanted.is_none_or(|wanted| wanted == device);
        self.first_at.get_or_insert(at);
        self.last_at = Some(at);
        self.late += effects.counts.observations_late;
        self.duplicates += effects.counts.frames_duplicate.iter().sum::<u64>();
        self.undecoded += effects.counts.frames_undecoded.iter().sum::<u64>();
        self.count(site, &effects, &is_wanted)?;
        for alarm in effects.alarms.into_iter().filter(|alarm| is_wanted(&alarm.device)) {
            let known = self.alarms.get(&alarm.id);
            self.raised += u64::from(known.is_none() && alarm.state != AlarmState::Cleared);
            if let Some(known) = known.filter(|known| known.severity != alarm.severity) {
                let grades = self.grades.entry(alarm.id.clone());
                grades
                    .or_insert_with(|| vec![(known.opened_at, known.severity)])
                    .push((alarm.updated_at, alarm.severity));
            }
            if known.is_some() || self.alarms.len() < RECORDS_MAX {
                self.alarms.insert(alarm.id.clone(), alarm);
            }
        }
        for case in effects.cases.into_iter().filter(|case| is_wanted(&case.device)) {
            if self.cases.contains_key(&case.id) || self.cases.len() < RECORDS_MAX {
                self.cases.insert(case.id.clone(), case);
            }
        }
        Ok(())
    }

    fn count(&mut self, site: &Arc<Site>, effects: &Effects, is_wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
        for (row, readings) in effects.observations.iter() {
            let device = site.device(row.device);
            if !is_wanted(&device.id) {
                continue;
            }
            if !self.devices.contains(&device.id) {
                self.devices.insert(device.id.clone());
            }
            self.observations += 1;
            if self.is_drawn && self.pictured.is_none() {
                self.pictured = Some(device.id.clone());
            }
            let is_pictured = self.is_drawn && self.pictured.as_deref() == Some(device.id.as_str());
            let profile = site.profile_of(device);
            for reading in readings {
                let name = &profile.points[usize::from(reading.point)].name;
                let read = (reading.value.as_ref(), reading.quality);
                self.flags.take(site, row.device, reading.point, row.observed_at, read)?;
                let number = match &reading.value {
                    Some(Value::Number(number)) => *number,
                    Some(Value::Boolean(boolean)) => f64::from(u8::from(*boolean)),
                    _ => continue,
                };
                if is_pictured {
                    let trace = self.traces.entry(Arc::clone(name)).or_insert_with(Trace::new);
                    trace.push(row.observed_at, number, reading.quality.is_good());
                }
            }
        }
        Ok(())
    }

    /// Months of 30 days times devices.
    pub(super) fn device_months(&self) -> f64 {
        let (Some(first), Some(last)) = (self.first_at, self.last_at) else { return 0.0 };
        last.since(first).as_secs_f64() / (30.0 * 86_400.0) * self.devices.len().max(1) as f64
    }

    /// How many a device-month; of less than an hour nothing is said.
    pub(super) fn per_device_month(&self, count: usize) -> Option<f64> {
        let months = self.device_months();
        (months > 1.0 / 720.0).then(|| count as f64 / months)
    }
}
