//! Follows the open cases of one platform: asks for each one and tells the engine when its state changed.
//!
//! Turns answers into [`Input::Platform`]. Nothing survives a restart: then every case is told once more, and the
//! engine takes what it knows already for no news. Health: `sink/NAME/status`. Metric:
//! `kerbside_platform_polls_total{target,result}`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerbside_model::{CaseState, Input, PlatformStatus};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Chain, Clock, Health, Intake, IntakeClosed, Metrics, Shutdown};
use prometheus::IntCounterVec;
use tracing::{info, warn};

use crate::platforms::{OpenCase, Platform, PlatformError};

/// The longest pause between two looks at a case that the platform gave no number for.
const FIND_PAUSE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Who knows the cases that are open at a platform.
pub trait OpenCases: Send + Sync {
    /// The cases that a platform has and that are not over.
    fn open_cases(&self, platform: &str) -> Vec<OpenCase>;
}

/// How often a platform is asked.
#[derive(Clone, Copy, Debug)]
pub struct PollerConfig {
    /// Each case is asked for this often, or less often when there are too many.
    pub interval: Duration,
    /// At least this long between two requests.
    pub gap: Duration,
}

impl PollerConfig {
    /// At most five requests a second.
    pub fn every(interval: Duration) -> PollerConfig {
        PollerConfig { interval, gap: Duration::from_millis(200) }
    }
}

/// Follows the open cases of one platform.
pub struct StatusPoller {
    config: PollerConfig,
    platform: Arc<dyn Platform>,
    cases: Arc<dyn OpenCases>,
    intake: Intake,
    health: HealthReporter,
    polls: IntCounterVec,
    remembered: HashMap<String, Remembered>,
}

/// What is remembered of a case.
#[derive(Default)]
struct Remembered {
    /// The number that was found for a case without one.
    platform_id: Option<String>,
    told: Option<CaseState>,
    /// When a case without a number may be looked for again, and how long to wait after that.
    find: Option<(Instant, Duration)>,
    is_unknown: bool,
}

impl std::fmt::Debug for StatusPoller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StatusPoller").field("platform", &self.platform).finish_non_exhaustive()
    }
}

impl StatusPoller {
    /// A poller that asks `platform` for what `cases` names.
    pub fn new(
        config: PollerConfig,
        platform: Arc<dyn Platform>,
        cases: Arc<dyn OpenCases>,
        intake: Intake,
        metrics: &Metrics,
        health: &Health,
    ) -> StatusPoller {
        let polls = metrics.counters(
            "kerbside_platform_polls_total",
            "Questions for the status of a case, by result.",
            &["target", "result"],
        );
        let health = health.component(format!("sink/{}/status", platform.name()));
        StatusPoller { config, platform, cases, intake, health, polls, remembered: HashMap::new() }
    }

    /// Asks until it is told to stop or the pipeline ends.
    pub async fn run(mut self, shutdown: Shutdown) {
        if let Some(Err(IntakeClosed)) = shutdown.run_until_cancelled(self.rounds()).await {
            info!(platform = %self.platform.name(), "statuses are no longer read: the pipeline has ended");
        }
    }

    async fn rounds(&mut self) -> Result<(), IntakeClosed> {
        loop {
            let began = Clock::stamp();
            self.round().await?;
            // An interval of nothing would spin.
            let pause = self.config.interval.saturating_sub(began.elapsed()).max(self.config.gap);
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// Asks for every case once, spread over most of the interval.
    async fn round(&mut self) -> Result<(), IntakeClosed> {
        let cases = self.cases.open_cases(self.platform.name());
        let is_open = |id: &String| cases.iter().any(|case| case.case_id == *id);
        self.remembered.retain(|id, _| is_open(id));
        let Ok(count) = u32::try_from(cases.len()) else { return Ok(()) };
        let spread = self.config.interval.checked_div(count.saturating_add(1)).unwrap_or_default();
        let pause = spread.max(self.config.gap);
        // With nothing to ask for, an outage would only show when a case must be opened.
        let mut failure = if cases.is_empty() { self.platform.reach().await.err() } else { None };
        for case in &cases {
            match self.ask(case).await {
                Ok(Some(status)) => self.tell(status).await?,
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
            tokio::time::sleep(pause).await;
        }
        self.report(failure);
        Ok(())
    }

    fn report(&self, failure: Option<PlatformError>) {
        match failure {
            None => {
                if self.health.ok() {
                    info!(platform = %self.platform.name(), "statuses of cases can be read");
                }
            }
            Some(error) => {
                let reason = Chain(&error).to_string();
                if self.health.degraded(reason.clone()) {
                    warn!(platform = %self.platform.name(), %reason, "statuses of cases cannot be read");
                }
            }
        }
    }

    /// What is new about a case.
    async fn ask(&mut self, case: &OpenCase) -> Result<Option<PlatformStatus>, PlatformError> {
        let Some(platform_id) = self.number_of(case).await? else { return Ok(None) };
        let answer = self.platform.status(&platform_id).await;
        let memory = self.remembered.entry(case.case_id.clone()).or_default();
        let told = match answer {
            Ok(Some(told)) => told,
            Ok(None) => {
                self.polls.with_label_values(&[self.platform.name(), "unknown"]).inc();
                if !memory.is_unknown {
                    memory.is_unknown = true;
                    warn!(platform = %self.platform.name(), case = %case.case_id, number = %platform_id, "platform does not know the state of a case");
                }
                return Ok(None);
            }
            Err(error) => {
                self.polls.with_label_values(&[self.platform.name(), "failed"]).inc();
                return Err(error);
            }
        };
        memory.is_unknown = false;
        let is_news = memory.told != Some(told.state);
        memory.told = Some(told.state);
        let result = if is_news { "changed" } else { "same" };
        self.polls.with_label_values(&[self.platform.name(), result]).inc();
        let status = PlatformStatus {
            case_id: case.case_id.clone(),
            platform: self.platform.name().to_owned(),
            platform_id,
            state: told.state,
            note: told.note,
        };
        Ok(is_news.then_some(status))
    }

    /// The platform's number of a case; one without a number is looked for by our reference, ever less often.
    async fn number_of(&mut self, case: &OpenCase) -> Result<Option<String>, PlatformError> {
        if let Some(number) = &case.platform_id {
            return Ok(Some(number.clone()));
        }
        let memory = self.remembered.entry(case.case_id.clone()).or_default();
        if memory.platform_id.is_some() {
            return Ok(memory.platform_id.clone());
        }
        let now = Clock::stamp();
        let pause = match memory.find {
            Some((due, _)) if due > now => return Ok(None),
            Some((_, pause)) => pause,
            None => self.config.interval,
        };
        memory.find = Some((now + pause, pause.saturating_mul(2).min(FIND_PAUSE_MAX)));
        memory.platform_id = self.platform.find(case).await?;
        Ok(memory.platform_id.clone())
    }

    async fn tell(&self, status: PlatformStatus) -> Result<(), IntakeClosed> {
        self.intake.submit_durably(vec![Input::Platform(status)]).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use kerbside_model::{CaseReport, Timestamp};
    use tokio::sync::watch;

    use super::*;
    use crate::platforms::{Lookup, OpenOutcome, ToldState};
    use crate::test_data::{pipeline, wait_for};

    #[derive(Debug)]
    struct Scripted {
        states: Mutex<BTreeMap<String, Result<CaseState, u16>>>,
        asked: watch::Sender<u32>,
    }

    #[async_trait]
    impl Platform for Scripted {
        fn name(&self) -> &str {
            "city"
        }

        fn settle(&self) -> Duration {
            Duration::ZERO
        }

        async fn reach(&self) -> Result<(), PlatformError> {
            Ok(())
        }

        async fn open(&self, _: &CaseReport, _: Lookup) -> OpenOutcome {
            panic!("a poller opens nothing")
        }

        async fn claim(&self, _: &str) -> Result<Option<String>, PlatformError> {
            panic!("a poller has no tokens")
        }

        async fn find(&self, case: &OpenCase) -> Result<Option<String>, PlatformError> {
            Ok((case.case_id == "KB-3").then(|| "found".to_owned()))
        }

        async fn status(&self, id: &str) -> Result<Option<ToldState>, PlatformError> {
            self.asked.send_modify(|count| *count += 1);
            match self.states.lock().unwrap().get(id) {
                Some(Ok(state)) => Ok(Some(ToldState { state: *state, note: String::new() })),
                Some(Err(status)) => Err(PlatformError::Status { status: *status, words: "no".to_owned() }),
                None => Ok(None),
            }
        }
    }

    struct Cases;

    impl OpenCases for Cases {
        fn open_cases(&self, platform: &str) -> Vec<OpenCase> {
            assert_eq!(platform, "city");
            let case = |id: &str, number: Option<&str>| OpenCase {
                case_id: id.to_owned(),
                platform_id: number.map(str::to_owned),
                occurred_at: Timestamp(0),
            };
            vec![
                case("KB-1", Some("0")),
                case("KB-2", Some("broken")),
                case("KB-3", None),
                case("KB-4", None),
                case("KB-5", Some("gone")),
            ]
        }
    }

    #[tokio::test]
    async fn a_state_is_told_at_first_and_when_it_changes_and_sick_cases_hurt_no_others() {
        let states = BTreeMap::from([
            ("0".to_owned(), Ok(CaseState::Reported)),
            ("broken".to_owned(), Err(500)),
            ("found".to_owned(), Ok(CaseState::Reported)),
        ]);
        let platform = Arc::new(Scripted { states: Mutex::new(states), asked: watch::Sender::new(0) });
        let mut asked = platform.asked.subscribe();
        let (intake, mut told) = pipeline();
        let (metrics, health) = (Metrics::default(), Health::default());
        let config = PollerConfig { interval: Duration::from_millis(5), gap: Duration::from_millis(1) };
        let poller = StatusPoller::new(config, Arc::clone(&platform) as _, Arc::new(Cases), intake, &metrics, &health);
        let shutdown = Shutdown::new();
        let running = tokio::spawn(poller.run(shutdown.clone()));

        wait_for(&mut told, |told| told.statuses.len() == 2).await;
        let now = *asked.borrow();
        // Two whole rounds of four known numbers bring no news.
        wait_for(&mut asked, |count| *count >= now + 8).await;
        assert_eq!(told.borrow().statuses.len(), 2);
        platform.states.lock().unwrap().insert("0".to_owned(), Ok(CaseState::Closed));
        let seen = wait_for(&mut told, |told| told.statuses.len() == 3).await;
        let ids: Vec<(&str, &str, CaseState)> = seen
            .statuses
            .iter()
            .map(|status| (status.case_id.as_str(), status.platform_id.as_str(), status.state))
            .collect();
        assert_eq!(
            ids,
            [
                ("KB-1", "0", CaseState::Reported),
                ("KB-3", "found", CaseState::Reported),
                ("KB-1", "0", CaseState::Closed)
            ]
        );
        shutdown.cancel();
        running.await.unwrap();
        let component = health.snapshot().into_iter().find(|c| c.component == "sink/city/status").unwrap();
        assert_eq!(component.detail, "ask the platform: HTTP 500 no");
    }
}
