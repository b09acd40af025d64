//! One attempt: from a row to a request, and from its outcome to what the pipeline is told.
//!
//! Runs beside the worker's loop, which only gets a [`Verdict`].

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::{Delivery, DeliveryOutcome, Input, OutboxRow, OutboxTask};
use kerbside_runtime::{Chain, Clock, Intake, IntakeClosed};
use tracing::{info, warn};

use super::lanes::Job;
use crate::channels::{Channel, Letter, SendOutcome};
use crate::platforms::{OpenOutcome, Opened, Platform, Progress};
use crate::sign::SignLinks;

/// A token that became no number in this time is given up: the case is open, and the poller finds it by reference.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What the worker does next.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The first rows of the attempt are done and the pipeline knows.
    Done { rows: usize, result: DoneResult },
    /// The case is open; its number comes later.
    Token(String),
    /// Another attempt.
    Retry(Retry),
    /// There is nobody to tell.
    PipelineEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoneResult {
    Delivered,
    Refused,
    /// A token became a number, or was given up: counted before.
    Claimed,
}

#[derive(Debug)]
pub(super) struct Retry {
    pub(super) trouble: Trouble,
    pub(super) reason: String,
    /// At least so long.
    pub(super) wait_min: Duration,
}

/// What stands in the way, which decides how to wait and what to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing was stored; this row waits.
    NotSent,
    /// It may have been stored; this row waits and is looked up.
    Uncertain,
    /// The target answered that it does not take it; this row waits.
    Failed,
    /// The target does not answer: everything waits.
    Unreachable,
    /// The target wants to be left alone: everything waits.
    Throttled,
    /// A person must act.
    Misconfigured,
    /// A token is not a number yet: no trouble at all.
    Pending,
    /// A fault of this program: nobody knows what was done, not even whether the pipeline was told of the attempt.
    Panicked,
}

/// Opens one case.
pub(super) async fn open_case(platform: Arc<dyn Platform>, intake: Intake, job: Job) -> Verdict {
    match try_open(platform.as_ref(), &intake, &job).await {
        Ok(verdict) => verdict,
        Err(IntakeClosed) => Verdict::PipelineEnded,
    }
}

async fn try_open(platform: &dyn Platform, intake: &Intake, job: &Job) -> Result<Verdict, IntakeClosed> {
    if let Some((token, since)) = &job.token {
        let age = Clock::stamp().saturating_duration_since(*since);
        return claim(platform, intake, &job.row, token, age).await;
    }
    let OutboxTask::OpenCase(report) = &job.row.task else {
        return refuse(intake, &job.row, "a platform takes no notices".to_owned()).await;
    };
    if !job.is_announced {
        tell(intake, &[&job.row], &DeliveryOutcome::Attempting).await?;
    }
    let retry = |trouble, reason, wait_min| Ok(Verdict::Retry(Retry { trouble, reason, wait_min }));
    match platform.open(report, job.lookup).await {
        OpenOutcome::Opened(Opened::Id(id)) => delivered(intake, &job.row, Some(id)).await,
        OpenOutcome::AlreadyThere { platform_id } => {
            info!(platform = %platform.name(), case = %job.row.case_id, number = %platform_id, "case was already at the platform");
            delivered(intake, &job.row, Some(platform_id)).await
        }
        OpenOutcome::Opened(Opened::Blackbox) => delivered(intake, &job.row, None).await,
        // The case is the platform's from here on. Were it told only with the number, a restart in between could
        // open it again, because a platform that works in batches does not list it yet.
        OpenOutcome::Opened(Opened::Token(token)) => {
            delivered(intake, &job.row, None).await?;
            Ok(Verdict::Token(token))
        }
        OpenOutcome::Refused { reason } => refuse(intake, &job.row, reason).await,
        OpenOutcome::NotSent { reason, retry_after } => {
            retry(Trouble::NotSent, reason, retry_after.unwrap_or_default())
        }
        OpenOutcome::Uncertain { reason, progress: Progress::Ended } => {
            retry(Trouble::Uncertain, reason, Duration::ZERO)
        }
        OpenOutcome::Uncertain { reason, progress: Progress::MayStillRun } => {
            retry(Trouble::Uncertain, reason, platform.settle())
        }
        OpenOutcome::Misconfigured { reason } => retry(Trouble::Misconfigured, reason, Duration::ZERO),
    }
}

async fn claim(
    platform: &dyn Platform,
    intake: &Intake,
    row: &OutboxRow,
    token: &str,
    age: Duration,
) -> Result<Verdict, IntakeClosed> {
    let reason = match platform.claim(token).await {
        Ok(Some(id)) => {
            delivered(intake, row, Some(id)).await?;
            return Ok(Verdict::Done { rows: 1, result: DoneResult::Claimed });
        }
        Ok(None) => "the platform has given no number yet".to_owned(),
        Err(error) => Chain(&error).to_string(),
    };
    if age > TOKEN_AGE_MAX {
        warn!(platform = %platform.name(), case = %row.case_id, %reason, "token given up");
        return Ok(Verdict::Done { rows: 1, result: DoneResult::Claimed });
    }
    Ok(Verdict::Retry(Retry { trouble: Trouble::Pending, reason, wait_min: Duration::ZERO }))
}

/// Sends rows as one message.
pub(super) async fn notify(
    channel: Arc<dyn Channel>,
    intake: Intake,
    links: Option<SignLinks>,
    rows: Vec<OutboxRow>,
) -> Verdict {
    match try_notify(channel.as_ref(), &intake, links.as_ref(), &rows).await {
        Ok(verdict) => verdict,
        Err(IntakeClosed) => Verdict::PipelineEnded,
    }
}

async fn try_notify(
    channel: &dyn Channel,
    intake: &Intake,
    links: Option<&SignLinks>,
    rows: &[OutboxRow],
) -> Result<Verdict, IntakeClosed> {
    let mut letters = Vec::with_capacity(rows.len());
    for (position, row) in rows.iter().enumerate() {
        match letter(row, links) {
            Some(letter) => letters.push(letter),
            // Only the first row can be told done; a later one is first in its turn.
            None if position == 0 => return refuse(intake, row, "a channel opens no cases".to_owned()).await,
            None => break,
        }
    }
    let retry = |trouble, reason, wait_min| Ok(Verdict::Retry(Retry { trouble, reason, wait_min }));
    match channel.send(&letters).await {
        SendOutcome::Sent { letters } => {
            let sent: Vec<&OutboxRow> = rows.iter().take(letters).collect();
            tell(intake, &sent, &DeliveryOutcome::Delivered { platform_id: None }).await?;
            Ok(Verdict::Done { rows: sent.len(), result: DoneResult::Delivered })
        }
        SendOutcome::Throttled { retry_after, reason } => retry(Trouble::Throttled, reason, retry_after),
        SendOutcome::Misconfigured { reason } => retry(Trouble::Misconfigured, reason, Duration::ZERO),
        SendOutcome::Failed { reason } => retry(Trouble::Failed, reason, Duration::ZERO),
        SendOutcome::Unreachable { reason } => retry(Trouble::Unreachable, reason, Duration::ZERO),
    }
}

fn letter(row: &OutboxRow, links: Option<&SignLinks>) -> Option<Letter> {
    let OutboxTask::Notify(notice) = &row.task else { return None };
    let sign_url = if notice.sign { links.map(|links| links.url(&row.case_id)) } else { None };
    Some(Letter { row_id: row.id.clone(), notice: notice.clone(), sign_url })
}

async fn delivered(intake: &Intake, row: &OutboxRow, platform_id: Option<String>) -> Result<Verdict, IntakeClosed> {
    tell(intake, &[row], &DeliveryOutcome::Delivered { platform_id }).await?;
    Ok(Verdict::Done { rows: 1, result: DoneResult::Delivered })
}

async fn refuse(intake: &Intake, row: &OutboxRow, reason: String) -> Result<Verdict, IntakeClosed> {
    warn!(target = %row.target, case = %row.case_id, row = %row.id, %reason, "delivery refused for good");
    tell(intake, &[row], &DeliveryOutcome::Refused { reason }).await?;
    Ok(Verdict::Done { rows: 1, result: DoneResult::Refused })
}

async fn tell(intake: &Intake, rows: &[&OutboxRow], outcome: &DeliveryOutcome) -> Result<(), IntakeClosed> {
    let delivery = |row: &&OutboxRow| {
        Input::Delivery(Delivery {
            row_id: row.id.clone(),
            case_id: row.case_id.clone(),
            target: row.target.clone(),
            outcome: outcome.clone(),
        })
    };
    intake.submit_durably(rows.iter().map(delivery).collect()).await
}
