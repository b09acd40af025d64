//! How the connection to the broker is, for people: health, log, the `connected` gauge and the next wait.

use std::time::Duration;

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Backoff, Chain, Health, Metrics};
use prometheus::{IntCounter, IntGauge};
use tracing::{debug, error, info, warn};

use super::codec::Grant;
use super::connect::ConnectionError;
use super::{MqttConfig, TopicFilter};

/// The first wait after a lost connection: a broker that restarts is back in about that time.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Tells each change once, however often the same try fails.
#[derive(Debug)]
pub(super) struct Link {
    source: String,
    endpoint: String,
    health: HealthReporter,
    connected: IntGauge,
    connects: IntCounter,
    backoff: Backoff,
    /// Why there is no connection, as it was last logged.
    problem: Option<String>,
    /// Which subscriptions do not stand, as it was last logged.
    shortfall: Option<String>,
}

impl Link {
    pub(super) fn new(config: &MqttConfig, endpoint: &str, metrics: &Metrics, health: &Health) -> Link {
        let label = [config.name.as_str()];
        let connects =
            metrics.counters("kerbside_mqtt_connects_total", "Connections that a broker accepted.", &["source"]);
        let connected =
            metrics.gauges("kerbside_mqtt_connected", "1 while connected to the broker and subscribed.", &["source"]);
        Link {
            source: config.name.clone(),
            endpoint: endpoint.to_owned(),
            health: health.component(format!("source/{}", config.name)),
            connected: connected.with_label_values(&label),
            connects: connects.with_label_values(&label),
            backoff: Backoff::new(BACKOFF_FIRST, config.backoff_max),
            problem: None,
            shortfall: None,
        }
    }

    /// The broker accepted us; the subscriptions are still to be answered.
    pub(super) fn accepted(&mut self) {
        self.connects.inc();
    }

    /// The broker answered the subscriptions.
    pub(super) fn subscribed(&mut self, topics: &[TopicFilter], grants: &[Grant], session_present: bool) {
        self.connected.set(1);
        self.backoff.reset();
        self.problem = None;
        info!(source = %self.source, broker = %self.endpoint, session_present, "connected and subscribed");
        let shortfall = self.shortfall_of(topics, grants);
        match &shortfall {
            Some(detail) => self.health.degraded(detail),
            None => self.health.ok(),
        };
        self.shortfall = shortfall;
    }

    fn shortfall_of(&self, topics: &[TopicFilter], grants: &[Grant]) -> Option<String> {
        let mut problems = Vec::new();
        for (topic, grant) in topics.iter().zip(grants) {
            match grant {
                Grant::Granted(qos) if *qos >= topic.qos => {}
                Grant::Granted(qos) => {
                    problems.push((topic, format!("{} only at QoS {qos}, so messages can be lost", topic.filter)));
                }
                Grant::Refused(reason) => problems.push((topic, format!("{} refused: {reason}", topic.filter))),
            }
        }
        if problems.is_empty() {
            return None;
        }
        let texts: Vec<&str> = problems.iter().map(|(_, text)| text.as_str()).collect();
        let detail = format!("subscriptions at {}: {}", self.endpoint, texts.join("; "));
        if self.shortfall.as_ref() != Some(&detail) {
            for (topic, text) in &problems {
                error!(source = %self.source, filter = %topic.filter, problem = %text, "subscription does not stand");
            }
        }
        Some(detail)
    }

    /// The connection is lost or was never made.
    pub(super) fn lost(&mut self, error: &ConnectionError) {
        let problem = Chain(error).to_string();
        self.down(&problem);
        if self.problem.as_ref() == Some(&problem) {
            debug!(source = %self.source, problem, tries = self.backoff.tries(), "still no connection to the broker");
        } else {
            warn!(source = %self.source, problem, "no connection to the broker");
        }
        self.problem = Some(problem);
    }

    /// There is no connection.
    pub(super) fn down(&mut self, detail: &str) {
        self.connected.set(0);
        self.health.down(detail);
    }

    /// How long to wait before the next try.
    pub(super) fn next_wait(&mut self) -> Duration {
        self.backoff.next_wait()
    }
}
