//! What happens after a commit: sinks are woken, facts become metrics. Runs on the store's thread and never waits.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kerbside_engine::LearnerTally;
use kerbside_model::incident::IncidentKind;
use kerbside_model::port::TelemetryBatch;
use kerbside_model::{
    Counts, DuplicateReason, IgnoredEvent, OutboxState, Severity, Site, Suppression, TimeRefusal, Undecoded,
    UndecodedReason,
};
use kerbside_runtime::{Clock, Metrics};
use kerbside_sinks::influx::InfluxHandle;
use kerbside_store::Committed;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::SnapshotWish;
use super::eras::ClockEras;
use crate::live::Live;

/// Undecoded frames are logged this often at most.
const UNDECODED_WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Wakes sinks and counts.
#[derive(Debug)]
pub struct Publisher {
    telemetry: Live<Vec<InfluxHandle>>,
    /// Rung when the outbox has new rows.
    outbox: Arc<Notify>,
    metrics: EngineMetrics,
    undecoded_warned: Mutex<Option<Instant>>,
    /// Telemetry of a time when the clock was unsure waits.
    eras: Option<Arc<ClockEras>>,
    pub(super) wants_snapshot: SnapshotWish,
}

impl Publisher {
    /// A publisher to these sinks.
    pub fn new(telemetry: Live<Vec<InfluxHandle>>, outbox: Arc<Notify>, metrics: &Metrics) -> Publisher {
        Publisher {
            telemetry,
            outbox,
            metrics: EngineMetrics::new(metrics),
            undecoded_warned: Mutex::default(),
            eras: None,
            wants_snapshot: SnapshotWish::new(false),
        }
    }

    /// Holds telemetry back as these eras say.
    pub fn with_eras(mut self, eras: Arc<ClockEras>) -> Publisher {
        self.eras = Some(eras);
        self
    }

    /// Tells everybody about a batch that is on the disk.
    pub(super) fn publish(&self, site: Arc<Site>, committed: Committed) {
        let Committed { sequence, effects, wants_snapshot } = committed;
        if wants_snapshot {
            self.wants_snapshot.store(true, Ordering::Relaxed);
        }
        self.metrics.count(&effects.counts, effects.observations.len(), effects.observations.reading_count());
        for alarm in &effects.alarms {
            info!(alarm = %alarm.id, device = %alarm.device, condition = %alarm.condition, state = alarm.state.name(), "alarm changed");
        }
        for event in &effects.case_events {
            info!(case = %event.case_id, state = event.state.name(), by = %event.by, note = %event.note, "case changed");
        }
        self.warn_undecoded(&effects.undecoded);
        if !effects.outbox.is_empty() {
            self.outbox.notify_one();
        }
        for change in effects.outbox_changes.iter().filter(|change| change.state == OutboxState::Dead) {
            warn!(row = %change.row_id, reason = %change.note, "delivery given up");
        }
        // What is held is read back from the store when the clock is known.
        let is_held = self.eras.as_ref().is_some_and(|eras| eras.held_from().is_some_and(|first| first <= sequence));
        for sink in self.telemetry.get().iter() {
            if is_held {
                sink.leave(sequence);
                continue;
            }
            let observations = Arc::clone(&effects.observations);
            sink.offer(TelemetryBatch { sequence, site: Arc::clone(&site), observations });
        }
    }

    /// One line a while: a babbling device must not fill the log. All of them are counted, and the API lists them.
    fn warn_undecoded(&self, undecoded: &[Undecoded]) {
        let Some(first) = undecoded.first() else { return };
        let mut last = self.undecoded_warned.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|stamp| stamp.elapsed() < UNDECODED_WARN_INTERVAL) {
            return;
        }
        *last = Some(Clock::stamp());
        warn!(
            source = %first.frame.source, address = %first.frame.address, reason = first.reason.name(),
            detail = %first.detail, in_batch = undecoded.len(), "frame kept undecoded"
        );
    }

    /// Shows what learners cost. It looks at all devices, so it is told with every snapshot and not with every commit.
    pub(super) fn learners(&self, tally: LearnerTally) {
        self.metrics.learners.set(whole(tally.series));
        self.metrics.learner_bytes.set(whole(tally.bytes));
    }

    /// Shows how many cases are open.
    pub(super) fn engine_state(&self, open_cases: usize, open_incidents: [usize; IncidentKind::ALL.len()]) {
        self.metrics.cases_open.set(i64::try_from(open_cases).unwrap_or(i64::MAX));
        for (gauge, open) in self.metrics.incidents_open.iter().zip(open_incidents) {
            gauge.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
    }
}

/// A number as gauges take it.
fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Metrics of what the engine did. Handles are resolved once.
#[derive(Debug)]
pub struct EngineMetrics {
    frames_decoded: IntCounter,
    frames_retained: IntCounter,
    undecoded: Vec<IntCounter>,
    duplicates: Vec<IntCounter>,
    ignored: Vec<IntCounter>,
    uplinks_lost: IntCounter,
    thinned: IntCounter,
    partial: IntCounter,
    read_again: IntCounter,
    times_refused: Vec<IntCounter>,
    observations: IntCounter,
    observations_late: IntCounter,
    readings: IntCounter,
    readings_not_good: IntCounter,
    alarms_raised: Vec<IntCounter>,
    alarms_cleared: IntCounter,
    cases_opened: IntCounter,
    cases_joined: IntCounter,
    suppressed: Vec<IntCounter>,
    notices: IntCounter,
    cases_open: IntGauge,
    incidents_open: Vec<IntGauge>,
    incidents_opened: IntCounter,
    learners: IntGauge,
    learner_bytes: IntGauge,
}

impl EngineMetrics {
    fn new(metrics: &Metrics) -> EngineMetrics {
        let undecoded =
            metrics.counters("kerbside_frames_undecoded_total", "Frames that gave no readings.", &["reason"]);
        let duplicates = metrics.counters(
            "kerbside_frames_duplicate_total",
            "Frames that had come before: neither stored again nor detected on.",
            &["reason"],
        );
        let ignored = metrics.counters(
            "kerbside_frames_ignored_total",
            "What network servers send beside readings: joins, acknowledgements, simulated uplinks.",
            &["event"],
        );
        let times_refused = metrics.counters(
            "kerbside_frames_time_refused_total",
            "Frames whose device time is not used.",
            &["reason"],
        );
        let raised = metrics.counters("kerbside_alarms_raised_total", "Alarms raised.", &["severity"]);
        let suppressed =
            metrics.counters("kerbside_cases_suppressed_total", "Alarms that opened no case, by reason.", &["reason"]);
        let incidents = metrics.gauges("kerbside_incidents_open", "Incidents that stand, by kind.", &["kind"]);
        EngineMetrics {
            frames_decoded: metrics.counter("kerbside_frames_decoded_total", "Frames that gave readings."),
            frames_retained: metrics.counter("kerbside_frames_retained_total", "Retained MQTT messages."),
            undecoded: UndecodedReason::ALL
                .iter()
                .map(|reason| undecoded.with_label_values(&[reason.name()]))
                .collect(),
            duplicates: DuplicateReason::ALL
                .iter()
                .map(|reason| duplicates.with_label_values(&[reason.name()]))
                .collect(),
            ignored: IgnoredEvent::ALL.iter().map(|event| ignored.with_label_values(&[event.name()])).collect(),
            uplinks_lost: metrics.counter(
                "kerbside_uplinks_lost_total",
                "Uplinks that never came, by the gaps in the frame counters of LoRaWAN devices.",
            ),
            thinned: metrics.counter(
                "kerbside_frames_thinned_total",
                "Frames beyond their device's budget: detected on, and left out of the telemetry.",
            ),
            partial: metrics.counter(
                "kerbside_frames_partial_total",
                "Frames with a remark: a part was not read, such as a channel that the profile does not know, or a codec \
                 warned.",
            ),
            read_again: metrics.counter(
                "kerbside_frames_read_again_total",
                "Undecoded frames that were read again and gave readings.",
            ),
            times_refused: TimeRefusal::ALL
                .iter()
                .map(|reason| times_refused.with_label_values(&[reason.name()]))
                .collect(),
            observations: metrics.counter("kerbside_observations_total", "Rows for the database."),
            observations_late: metrics
                .counter("kerbside_observations_late_total", "History and repeats: stored, never alarmed on."),
            readings: metrics.counter("kerbside_readings_total", "Readings."),
            readings_not_good: metrics
                .counter("kerbside_readings_not_good_total", "Readings that are missing, bad or suspect."),
            alarms_raised: Severity::ALL.iter().map(|severity| raised.with_label_values(&[severity.name()])).collect(),
            alarms_cleared: metrics.counter("kerbside_alarms_cleared_total", "Alarms cleared by good data."),
            cases_opened: metrics.counter("kerbside_cases_opened_total", "Cases opened."),
            cases_joined: metrics.counter("kerbside_cases_joined_total", "Episodes that joined an open case."),
            suppressed: Suppression::ALL.iter().map(|reason| suppressed.with_label_values(&[reason.name()])).collect(),
            notices: metrics.counter("kerbside_notices_total", "Notices written to the outbox."),
            cases_open: metrics.gauge("kerbside_cases_open", "Cases that are not over."),
            incidents_open: IncidentKind::ALL.iter().map(|kind| incidents.with_label_values(&[kind.name()])).collect(),
            incidents_opened: metrics.counter("kerbside_incidents_opened_total", "Incidents opened."),
            learners: metrics.gauge("kerbside_learners", "Series that a learner watches."),
            learner_bytes: metrics.gauge("kerbside_learner_bytes", "Memory of all learners."),
        }
    }

    fn count(&self, counts: &Counts, observations: usize, readings: usize) {
        self.frames_decoded.inc_by(counts.frames_decoded);
        self.frames_retained.inc_by(counts.frames_retained);
        self.thinned.inc_by(counts.frames_thinned);
        self.partial.inc_by(counts.frames_partial);
        self.uplinks_lost.inc_by(counts.uplinks_lost);
        self.read_again.inc_by(counts.frames_read_again);
        self.observations.inc_by(observations as u64);
        self.observations_late.inc_by(counts.observations_late);
        self.readings.inc_by(readings as u64);
        self.readings_not_good.inc_by(counts.readings_not_good);
        self.alarms_cleared.inc_by(counts.alarms_cleared);
        self.cases_opened.inc_by(counts.cases_opened);
        self.cases_joined.inc_by(counts.cases_joined);
        self.notices.inc_by(counts.notices);
        self.incidents_opened.inc_by(counts.incidents_opened);
        let by_reason = self.undecoded.iter().zip(counts.frames_undecoded);
        let by_repeat = self.duplicates.iter().zip(counts.frames_duplicate);
        let by_event = self.ignored.iter().zip(counts.frames_ignored);
        let by_refusal = self.times_refused.iter().zip(counts.times_refused);
        let by_severity = self.alarms_raised.iter().zip(counts.alarms_raised);
        let by_suppression = self.suppressed.iter().zip(counts.suppressed);
        let labelled =
            by_reason.chain(by_repeat).chain(by_event).chain(by_refusal).chain(by_severity).chain(by_suppression);
        for (counter, count) in labelled.filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
    }
}
