//! What the sink tells people: health, log and alarm. An outage is logged when it begins, when its kind changes and when it
//! ends; refused lines are logged at once, then at most once a minute with their number.

use std::time::{Duration, Instant};

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health};
use tracing::{error, info, warn};

use super::InfluxConfig;
use super::alarm::TelemetryAlarm;
use super::answer::{Problem, ProblemKind};
use super::deliver::Refusal;
use super::lag::Behind;
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
    alarm: TelemetryAlarm,
    /// Whether anything is known of the database.
    heard: bool,
    /// Whether a write has been answered, or has failed.
    is_written_to: bool,
    problem: Option<Problem>,
    backlog_problem: Option<String>,
    /// What the backlog waits for, while it gives nothing though nothing is wrong.
    backlog_waits: Option<String>,
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
    Waiting,
    Refused(usize),
    CatchingUp,
    Ok,
}

impl Status {
    pub(super) fn new(sink: &str, health: &Health) -> Status {
        Status {
            sink: sink.to_owned(),
            reporter: health.component(format!("sink/{sink}")),
            alarm: TelemetryAlarm::default(),
            heard: false,
            is_written_to: false,
            problem: None,
            backlog_problem: None,
            backlog_waits: None,
            refusals: Refusals::default(),
            shown: None,
        }
    }

    /// Where somebody is called when the configuration must be mended.
    pub(super) fn set_alarm(&mut self, alarm: TelemetryAlarm) {
        alarm.register(&self.sink);
        self.alarm = alarm;
    }

    /// A look at the database gave this; what a write said meanwhile counts more.
    pub(super) fn set_up(&mut self, setup: Setup, config: &InfluxConfig) {
        match setup {
            Setup::Ready { database, bucket_keeps_seconds } => {
                let bucket = &config.bucket;
                info!(sink = self.sink, database, bucket, bucket_keeps_seconds, "database ready");
                if !self.is_written_to {
                    self.database_answers();
                }
            }
            _ if self.is_written_to => {}
            Setup::Wrong(problem) => self.meets(&problem),
            Setup::Unreachable(reason) => {
                self.meets(&Problem::of_outage(format!("no connection to {}: {reason}", config.url)));
            }
            Setup::Unwell(message) => {
                self.meets(&Problem::of_outage(format!("the database says that it is not well: {message}")));
            }
            Setup::Unknown(reason) => {
                // Somebody answers: that is all that an earlier look may have missed.
                if self.problem.as_ref().is_some_and(|problem| problem.kind == ProblemKind::Network) {
                    self.problem = None;
                }
                info!(sink = self.sink, reason, "database not known yet: the first write will tell");
            }
        }
    }

    /// Whether a write has told more than a look could.
    pub(super) fn is_written_to(&self) -> bool {
        self.is_written_to
    }

    /// A write met a problem.
    pub(super) fn problem_found(&mut self, problem: &Problem) {
        self.is_written_to = true;
        self.meets(problem);
    }

    /// The database took a write.
    pub(super) fn database_works(&mut self) {
        self.is_written_to = true;
        self.database_answers();
    }

    fn meets(&mut self, problem: &Problem) {
        let is_news = self.problem.as_ref().is_none_or(|known| known.kind != problem.kind);
        if is_news && problem.kind == ProblemKind::Configuration {
            error!(sink = self.sink, reason = problem.words, "telemetry waits until the configuration is mended");
        } else if is_news {
            warn!(sink = self.sink, reason = problem.words, "telemetry waits for the database");
        }
        self.alarm.met(&self.sink, problem);
        self.heard = true;
        self.problem = Some(problem.clone());
    }

    fn database_answers(&mut self) {
        self.alarm.works(&self.sink);
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

    /// Nothing is wrong with the store, and what comes next may not be sent yet.
    pub(super) fn backlog_waits(&mut self, words: String) {
        self.backlog_works();
        if self.backlog_waits.is_none() {
            info!(sink = self.sink, reason = words, "telemetry is held back");
        }
        self.backlog_waits = Some(words);
    }

    /// The store gave what comes next.
    pub(super) fn backlog_gives(&mut self) {
        self.backlog_works();
        self.backlog_waits = None;
    }

    /// `last`: one of the refused lines, when any of them was kept.
    pub(super) fn refused(&mut self, count: usize, last: Option<&Refusal>) {
        if count == 0 {
            return;
        }
        let now = Clock::stamp();
        let known = self.refusals.last.take().map(|(refusal, _)| refusal);
        let Some(refusal) = last.cloned().or(known) else { return };
        self.refusals.total += count;
        self.refusals.unlogged += count;
        let is_due = self.refusals.logged_at.is_none_or(|at| now.duration_since(at) >= REFUSAL_LOGGED_EVERY);
        if is_due {
            let (device, reason) = (&refusal.device, &refusal.reason);
            error!(sink = self.sink, lines = self.refusals.unlogged, device, reason, "database refused lines");
            self.refusals.unlogged = 0;
            self.refusals.logged_at = Some(now);
        }
        self.refusals.last = Some((refusal, now));
    }

    /// Writes the health when it is news, or when the last text is a second old. `behind`: how far, while the backlog
    /// is sent.
    pub(super) fn show(&mut self, behind: Option<Behind>) {
        let now = Clock::stamp();
        let kind = self.kind(now, behind.is_some());
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
            Shown::Waiting => self.reporter.degraded(self.backlog_waits.clone().unwrap_or_default()),
            Shown::Refused(total) => self.reporter.degraded(self.refusal_words(total)),
            Shown::CatchingUp => self.reporter.degraded(behind.unwrap_or_default().words()),
            Shown::Ok => self.reporter.ok(),
        };
    }

    fn kind(&self, now: Instant, is_behind: bool) -> Option<Shown> {
        if let Some(problem) = &self.problem {
            return Some(Shown::Problem(problem.kind));
        }
        if self.backlog_problem.is_some() {
            return Some(Shown::BacklogProblem);
        }
        if self.backlog_waits.is_some() {
            return Some(Shown::Waiting);
        }
        if let Some((_, at)) = &self.refusals.last
            && now.duration_since(*at) < REFUSAL_SHOWN_FOR
        {
            return Some(Shown::Refused(self.refusals.total));
        }
        if is_behind {
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
