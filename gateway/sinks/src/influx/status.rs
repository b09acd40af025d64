//! What the sink tells people: health and log. An outage is logged when it begins, when its kind changes and when it
//! ends; refused lines are logged at once, then at most once a minute with their number.

use std::time::{Duration, Instant};

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health};
use tracing::{error, info, warn};

use super::InfluxConfig;
use super::answer::{Problem, ProblemKind};
use super::deliver::Refusal;
use super::setup::Setup;

/// So long a refused line is shown in the health after it happened.
const REFUSAL_SHOWN_FOR: Duration = Duration::from_secs(600);
const REFUSAL_LOGGED_EVERY: Duration = Duration::from_secs(60);
/// The health's text may change with every request; it is written this often.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// What is known of the database and of the sink's own state.
#[derive(Debug)]
pub(super) struct Status {
    sink: String,
    reporter: HealthReporter,
    /// Whether the database has answered a write, or the look at the start found it well.
    heard: bool,
    problem: Option<Problem>,
    backlog_problem: Option<String>,
    refusals: Refusals,
    shown: Option<(Shown, Instant)>,
}

#[derive(Debug, Default)]
struct Refusals {
    total: usize,
    unlogged: usize,
    logged_at: Option<Instant>,
    last: Option<(Refusal, Instant)>,
}

/// The kind of health that was shown last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Problem(ProblemKind),
    BacklogProblem,
    Refused(usize),
    CatchingUp,
    Ok,
}

impl Status {
    pub(super) fn new(sink: &str, health: &Health) -> Status {
        Status {
            sink: sink.to_owned(),
            reporter: health.component(format!("sink/{sink}")),
            heard: false,
            problem: None,
            backlog_problem: None,
            refusals: Refusals::default(),
            shown: None,
        }
    }

    /// The look at the start gave this; what a write said meanwhile counts more.
    pub(super) fn set_up(&mut self, setup: Setup, config: &InfluxConfig) {
        match setup {
            Setup::Ready { database, bucket_seen } => {
                info!(sink = self.sink, database, bucket = config.bucket, bucket_seen, "database ready");
                self.heard = true;
                self.somebody_answers();
            }
            Setup::Unreachable(_) if self.heard && self.problem.is_none() => {}
            Setup::Unreachable(reason) => self.problem_found(&Problem {
                kind: ProblemKind::Network,
                words: format!("no connection to {}: {reason}", config.url),
                retry_after: None,
            }),
            Setup::Unwell(message) => warn!(sink = self.sink, message, "database says that it is not well"),
            Setup::TokenRefused if !self.heard => {
                let words = "token refused (401): correct sinks.influx.token, it must allow to write to the bucket";
                self.problem_found(&Problem {
                    kind: ProblemKind::Configuration,
                    words: words.to_owned(),
                    retry_after: None,
                });
            }
            Setup::TokenRefused => {}
            Setup::Unknown(reason) => {
                self.somebody_answers();
                info!(sink = self.sink, reason, "database not known yet: the first write will tell")
            }
        }
    }

    /// That is all that an earlier look may have missed; what a write was told still holds.
    fn somebody_answers(&mut self) {
        if self.problem.as_ref().is_some_and(|problem| problem.kind == ProblemKind::Network) {
            self.database_works();
        }
    }

    pub(super) fn problem_found(&mut self, problem: &Problem) {
        let is_news = self.problem.as_ref().is_none_or(|known| known.kind != problem.kind);
        if is_news && problem.kind == ProblemKind::Configuration {
            error!(sink = self.sink, reason = problem.words, "telemetry waits until the configuration is mended");
        } else if is_news {
            warn!(sink = self.sink, reason = problem.words, "telemetry waits for the database");
        }
        self.heard = true;
        self.problem = Some(problem.clone());
    }

    pub(super) fn database_works(&mut self) {
        self.heard = true;
        if self.problem.take().is_some() {
            info!(sink = self.sink, "database works again");
        }
    }

    pub(super) fn backlog_failed(&mut self, reason: String) {
        if self.backlog_problem.is_none() {
            error!(sink = self.sink, reason, "store does not give or take");
        }
        self.backlog_problem = Some(reason);
    }

    pub(super) fn backlog_works(&mut self) {
        self.backlog_problem = None;
    }

    pub(super) fn refused(&mut self, count: usize, last: Option<Refusal>) {
        let Some(refusal) = last else { return };
        let now = Clock::stamp();
        self.refusals.total += count;
        self.refusals.unlogged += count;
        let is_due = self.refusals.logged_at.is_none_or(|at| now.duration_since(at) >= REFUSAL_LOGGED_EVERY);
        if is_due {
            let (device, reason) = (&refusal.device, &refusal.reason);
            error!(sink = self.sink, lines = self.refusals.unlogged, device, reason, "database refused lines, dropped");
            self.refusals.unlogged = 0;
            self.refusals.logged_at = Some(now);
        }
        self.refusals.last = Some((refusal, now));
    }

    /// Writes the health when it is news, or when the last text is a second old. `behind`: batches still to be read
    /// back from the store, if so.
    pub(super) fn show(&mut self, behind: Option<u64>) {
        let now = Clock::stamp();
        let kind = self.kind(now, behind);
        let Some(kind) = kind else { return };
        if let Some((shown, at)) = self.shown
            && shown == kind
            && (kind == Shown::Ok || now.duration_since(at) < SHOWN_EVERY)
        {
            return;
        }
        self.shown = Some((kind, now));
        let words = self.problem.as_ref().map(|problem| problem.words.as_str()).unwrap_or_default();
        match kind {
            Shown::Problem(ProblemKind::Busy) => self.reporter.degraded(words),
            Shown::Problem(_) => self.reporter.down(words),
            Shown::BacklogProblem => self.reporter.degraded(self.backlog_problem.clone().unwrap_or_default()),
            Shown::Refused(total) => self.reporter.degraded(self.refusal_words(total)),
            Shown::CatchingUp => {
                self.reporter.degraded(format!("catching up: {} batches to go", behind.unwrap_or_default()))
            }
            Shown::Ok => self.reporter.ok(),
        };
    }

    fn kind(&self, now: Instant, behind: Option<u64>) -> Option<Shown> {
        if let Some(problem) = &self.problem {
            return Some(Shown::Problem(problem.kind));
        }
        if self.backlog_problem.is_some() {
            return Some(Shown::BacklogProblem);
        }
        if let Some((_, at)) = &self.refusals.last
            && now.duration_since(*at) < REFUSAL_SHOWN_FOR
        {
            return Some(Shown::Refused(self.refusals.total));
        }
        if behind.is_some() {
            return Some(Shown::CatchingUp);
        }
        self.heard.then_some(Shown::Ok)
    }

    fn refusal_words(&self, total: usize) -> String {
        match &self.refusals.last {
            Some((last, _)) => format!(
                "the database refused {total} points since the start; the last one of device {}: {}",
                last.device, last.reason
            ),
            None => String::new(),
        }
    }
}
