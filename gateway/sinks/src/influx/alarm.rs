//! Turns what the sinks are told by their databases into one condition of the gateway: somebody must mend the
//! configuration. An outage or a pause is none; it passes by itself.
//!
//! The condition stands while any sink is refused, and is cleared when every sink is known to work, so that a restart
//! neither clears it early nor leaves it standing. The engine keeps the alarm through crashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kerbside_model::{GatewayCondition, Input, Severity};
use kerbside_runtime::{Intake, Receipt, Shutdown};
use tokio::sync::watch;

use super::answer::{Problem, ProblemKind};

/// Name of the condition: a telemetry database refuses the gateway.
pub const TELEMETRY_REFUSED: &str = "telemetry_refused";

/// The alarm of all telemetry sinks of a gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TelemetryAlarm {
    sinks: Arc<Mutex<BTreeMap<String, State>>>,
    wanted: watch::Sender<Option<GatewayCondition>>,
}

/// What is known of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Works,
    Refused { words: String, words_zh: String },
}

impl Default for TelemetryAlarm {
    fn default() -> TelemetryAlarm {
        TelemetryAlarm { sinks: Arc::default(), wanted: watch::Sender::new(None) }
    }
}

impl TelemetryAlarm {
    /// Hands the condition to the engine whenever it changes, until it is told to end.
    pub async fn run(self, intake: Intake, shutdown: Shutdown) {
        let mut wanted = self.wanted.subscribe();
        // Without any sink nothing is refused: an alarm of a sink that was taken out of the configuration ends.
        let first = condition(&self.sinks.lock().unwrap_or_else(PoisonError::into_inner));
        if first.is_some() {
            self.wanted.send_replace(first);
        }
        loop {
            let condition = wanted.borrow_and_update().clone();
            if let Some(condition) = condition
                && intake.submit(vec![Input::Gateway(condition)], Receipt::None).await.is_err()
            {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    /// A sink whose state counts from now on.
    pub(super) fn register(&self, sink: &str) {
        self.set(sink, State::Unknown);
    }

    /// The database of a sink takes what it is sent.
    pub(super) fn works(&self, sink: &str) {
        self.set(sink, State::Works);
    }

    /// The database of a sink does not; only a mistake of the configuration is an alarm.
    pub(super) fn met(&self, sink: &str, problem: &Problem) {
        if problem.kind == ProblemKind::Configuration {
            let (words, words_zh) = (problem.words.clone(), problem.words_zh.clone());
            self.set(sink, State::Refused { words, words_zh });
        }
    }

    fn set(&self, sink: &str, state: State) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if sinks.get(sink) == Some(&state) {
            return;
        }
        sinks.insert(sink.to_owned(), state);
        let wanted = condition(&sinks);
        if wanted.is_some() {
            self.wanted.send_if_modified(|known| {
                let is_news = *known != wanted;
                *known = wanted;
                is_news
            });
        }
    }
}

/// `None` while nobody knows whether all sinks work.
fn condition(sinks: &BTreeMap<String, State>) -> Option<GatewayCondition> {
    let (mut details, mut details_zh) = (Vec::new(), Vec::new());
    for (sink, state) in sinks {
        if let State::Refused { words, words_zh } = state {
            details.push(format!("{sink}: {words}"));
            details_zh.push(format!("{sink}：{words_zh}"));
        }
    }
    if details.is_empty() && sinks.values().any(|state| *state == State::Unknown) {
        return None;
    }
    Some(GatewayCondition {
        condition: TELEMETRY_REFUSED.to_owned(),
        active: !details.is_empty(),
        severity: Severity::Major,
        detail: details.join("; "),
        detail_zh: details_zh.join("；"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Problem {
        Problem {
            kind: ProblemKind::Configuration,
            words: "token refused".to_owned(),
            words_zh: "令牌被拒绝".to_owned(),
            retry_after: None,
        }
    }

    /// What the engine would be told now: whether the condition stands, and both texts.
    fn wanted(alarm: &TelemetryAlarm) -> Option<(bool, String, String)> {
        let condition = alarm.wanted.borrow().clone()?;
        assert_eq!((condition.condition.as_str(), condition.severity), (TELEMETRY_REFUSED, Severity::Major));
        Some((condition.active, condition.detail, condition.detail_zh))
    }

    #[tokio::test]
    async fn without_any_sink_an_old_alarm_ends() {
        let (intake, mut inputs) = Intake::new(4, 1 << 16);
        let shutdown = Shutdown::new();
        let running = tokio::spawn(TelemetryAlarm::default().run(intake, shutdown.clone()));
        let first = inputs.next().await.expect("the alarm runs").inputs;
        assert!(matches!(first.as_slice(), [Input::Gateway(condition)] if !condition.active), "{first:?}");
        shutdown.cancel();
        running.await.unwrap();
    }

    #[test]
    fn the_alarm_stands_while_any_sink_is_refused_and_clears_when_all_are_known_to_work() {
        let alarm = TelemetryAlarm::default();
        alarm.register("city");
        alarm.register("park");
        alarm.works("park");
        assert_eq!(wanted(&alarm), None, "nobody knows of the other one: an old alarm stays");
        let outage = Problem { kind: ProblemKind::Network, ..refused() };
        alarm.met("city", &outage);
        assert_eq!(wanted(&alarm), None, "an outage passes by itself");
        alarm.met("city", &refused());
        let standing = (true, "city: token refused".to_owned(), "city：令牌被拒绝".to_owned());
        assert_eq!(wanted(&alarm), Some(standing.clone()));
        alarm.met("city", &outage);
        assert_eq!(wanted(&alarm), Some(standing), "an outage does not mend the token");
        alarm.works("city");
        assert_eq!(wanted(&alarm), Some((false, String::new(), String::new())));
    }
}
