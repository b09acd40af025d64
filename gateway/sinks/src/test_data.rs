//! A report, a letter and rows that tests share.

use std::time::Duration;

use kerbside_model::{
    CaseReport, Datum, Delivery, DeliveryOutcome, Input, Notice, NoticeReason, OutboxRow, OutboxState, OutboxTask,
    PlatformStatus, Severity, Timestamp,
};
use kerbside_runtime::{Clock, Intake};
use tokio::sync::watch;

use crate::channels::Letter;

pub(crate) fn report() -> CaseReport {
    CaseReport {
        case_id: "KB-0123456789AB".to_owned(),
        device: "MH_001".to_owned(),
        device_name: "1号井盖".to_owned(),
        kind: "manhole_cover".to_owned(),
        kind_zh: "智能井盖".to_owned(),
        condition: "displaced".to_owned(),
        title: "manhole cover open or displaced".to_owned(),
        title_zh: "井盖开启或移位".to_owned(),
        severity: Severity::Critical,
        occurred_at: Timestamp::parse("2026-05-01T03:04:05+08:00").unwrap(),
        explanation: "tilt 38.2 deg > 15 deg".to_owned(),
        explanation_zh: "倾角 38.2° 超过 15°".to_owned(),
        place: "人民路与解放路口[东北角]".to_owned(),
        position: Some((121.473_701, 31.230_416)),
        datum: Datum::Wgs84,
        grid: String::new(),
        component_code: String::new(),
        unit: "市政".to_owned(),
    }
}

pub(crate) fn letter(reason: NoticeReason) -> Letter {
    let notice = Notice { report: report(), reason, step: 1, sign: true, detail: String::new() };
    let sign_url = Some("https://gateway.example.org/s/KB-0123456789AB/token".to_owned());
    Letter { row_id: "R-1".to_owned(), notice, sign_url }
}

pub(crate) fn case_row(number: u32, target: &str) -> OutboxRow {
    let case_id = format!("KB-{number:012}");
    let mut report = report();
    report.case_id.clone_from(&case_id);
    row(format!("O-{number}"), target, case_id, OutboxTask::OpenCase(report))
}

pub(crate) fn notice_row(number: u32, target: &str, severity: Severity) -> OutboxRow {
    let case_id = format!("KB-{number:012}");
    let mut notice = letter(NoticeReason::Opened).notice;
    notice.report.case_id.clone_from(&case_id);
    notice.report.severity = severity;
    row(format!("N-{number}"), target, case_id, OutboxTask::Notify(notice))
}

fn row(id: String, target: &str, case_id: String, task: OutboxTask) -> OutboxRow {
    let created_at = Clock::System.now();
    OutboxRow { id, target: target.to_owned(), case_id, task, created_at, state: OutboxState::Pending }
}

/// What a pipeline would have been told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) statuses: Vec<PlatformStatus>,
}

impl Told {
    pub(crate) fn outcomes(&self, row_id: &str) -> Vec<DeliveryOutcome> {
        let of_row = self.deliveries.iter().filter(|delivery| delivery.row_id == row_id);
        of_row.map(|delivery| delivery.outcome.clone()).collect()
    }

    pub(crate) fn delivered(&self) -> usize {
        let is_delivered = |delivery: &&Delivery| matches!(delivery.outcome, DeliveryOutcome::Delivered { .. });
        self.deliveries.iter().filter(is_delivered).count()
    }
}

/// An intake whose pipeline writes down what it is told and honours every receipt.
pub(crate) fn pipeline() -> (Intake, watch::Receiver<Told>) {
    let (intake, mut receiver) = Intake::new(64, 1 << 20);
    let (sender, told) = watch::channel(Told::default());
    tokio::spawn(async move {
        while let Some(submission) = receiver.next().await {
            sender.send_modify(|told| {
                for input in submission.inputs {
                    match input {
                        Input::Delivery(delivery) => told.deliveries.push(delivery),
                        Input::Platform(status) => told.statuses.push(status),
                        other => panic!("an outbox submits no {other:?}"),
                    }
                }
            });
            submission.receipt.honour();
        }
    });
    (intake, told)
}

/// Waits until a state is reached and returns it; panics with the last state after ten seconds.
pub(crate) async fn wait_for<T: Clone + std::fmt::Debug>(
    watched: &mut watch::Receiver<T>,
    reached: impl Fn(&T) -> bool,
) -> T {
    let waiting = async { watched.wait_for(|state| reached(state)).await.is_ok() };
    let reached = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or(false);
    let state = watched.borrow().clone();
    assert!(reached, "not reached; the last state is {state:?}");
    state
}
