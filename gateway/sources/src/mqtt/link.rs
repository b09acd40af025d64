//! How the connection to the broker is, for people: health, log, the `connected` gauge and the next wait.

use std::time::Duration;

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Backoff, Chain, Health, Metrics};
use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::codec::{Grant, Terms};
use super::connect::ConnectionError;
use super::{MqttConfig, TopicFilter};

/// The first wait after a lost connection: a broker that restarts is back in about that time.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// A connection that is lost earlier than this did not stand: waits go on growing, or two gateways of one client id
/// would throw each other out twice a second.
const STANDS_AFTER: Duration = Duration::from_secs(2);

/// Tells each change once, however often the same try fails.
#[derive(Debug)]
pub(super) struct Link {
    source: String,
    endpoint: String,
    health: HealthReporter,
    connected: IntGauge,
    connects: IntCounter,
    backoff: Backoff,
    /// Since when there is a connection.
    since: Option<Instant>,
    /// Why there is no connection, as it was last logged.
    problem: Option<String>,
    /// Which subscriptions do not stand, as it was last logged.
    shortfall: Option<String>,
    standing: Standing,
    /// What is wrong with a file of credentials, while what was read before is used.
    files: Option<String>,
}

/// What is known of the connection.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Not tried yet.
    New,
    Down(String),
    /// Connected, and what is missing.
    Up(Option<String>),
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
            since: None,
            problem: None,
            shortfall: None,
            standing: Standing::New,
            files: None,
        }
    }

    /// The broker accepted us; the subscriptions are still to be answered.
    pub(super) fn accepted(&mut self) {
        self.connects.inc();
    }

    /// The broker answered the subscriptions; `grants` are in the order of the configuration.
    pub(super) fn subscribed<'a>(
        &mut self,
        config: &MqttConfig,
        terms: &Terms,
        grants: impl Iterator<Item = &'a Grant>,
    ) {
        self.connected.set(1);
        self.since = Some(Instant::now());
        self.problem = None;
        info!(source = %self.source, broker = %self.endpoint, "connected and subscribed");
        let mut shortfalls = shortfalls_of_terms(config, terms);
        shortfalls.extend(config.topics.iter().zip(grants).filter_map(|(topic, grant)| shortfall_of(topic, grant)));
        let detail =
            (!shortfalls.is_empty()).then(|| format!("session at {}: {}", self.endpoint, shortfalls.join("; ")));
        if detail.is_some() && self.shortfall != detail {
            for problem in &shortfalls {
                error!(source = %self.source, problem, "the session is not what the configuration asks for");
            }
        }
        self.shortfall.clone_from(&detail);
        self.standing = Standing::Up(detail);
        self.report();
    }

    /// What is wrong with the files of credentials, if anything.
    pub(super) fn files(&mut self, problem: Option<String>) {
        if self.files == problem {
            return;
        }
        if problem.is_none() {
            info!(source = %self.source, "the files of credentials are sound again");
        }
        self.files = problem;
        self.report();
    }

    fn report(&self) {
        let files = self.files.as_ref().map(|problem| format!("{problem}; what was read before is used"));
        match (&self.standing, files) {
            (Standing::New, None) => false,
            (Standing::New, Some(files)) => self.health.degraded(files),
            (Standing::Down(detail), None) => self.health.down(detail),
            (Standing::Down(detail), Some(files)) => self.health.down(format!("{detail}; {files}")),
            (Standing::Up(None), None) => self.health.ok(),
            (Standing::Up(None), Some(files)) => self.health.degraded(files),
            (Standing::Up(Some(detail)), None) => self.health.degraded(detail),
            (Standing::Up(Some(detail)), Some(files)) => self.health.degraded(format!("{detail}; {files}")),
        };
    }

    /// The connection is lost or was never made.
    pub(super) fn lost(&mut self, error: &ConnectionError) {
        if self.since.take().is_some_and(|since| since.elapsed() >= STANDS_AFTER) {
            self.backoff.reset();
        }
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
        self.standing = Standing::Down(detail.to_owned());
        self.report();
    }

    /// How long to wait before the next try.
    pub(super) fn next_wait(&mut self) -> Duration {
        self.backoff.next_wait()
    }
}

/// What a subscription lacks.
fn shortfall_of(topic: &TopicFilter, grant: &Grant) -> Option<String> {
    match grant {
        Grant::Granted(qos) if *qos >= topic.qos => None,
        Grant::Granted(qos) => Some(format!("{} only at QoS {qos}, so messages can be lost", topic.filter)),
        Grant::Refused(reason) => Some(format!("{} refused: {reason}", topic.filter)),
    }
}

/// What the broker keeps of our session, when that is less than we asked for.
fn shortfalls_of_terms(config: &MqttConfig, terms: &Terms) -> Vec<String> {
    let mut shortfalls = Vec::new();
    if let Some(seconds) = terms.session_expiry.filter(|seconds| u64::from(*seconds) < config.session_expiry.as_secs())
    {
        shortfalls.push(format!(
            "kept for {seconds} s instead of {} s after the connection is lost",
            config.session_expiry.as_secs()
        ));
    }
    if let Some(name) = terms.client_id.as_ref().filter(|name| **name != config.client_id) {
        let ours = &config.client_id;
        shortfalls.push(format!("the broker calls it {name}, so messages that wait for {ours} do not come"));
    }
    shortfalls
}
