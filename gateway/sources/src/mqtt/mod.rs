//! MQTT: messages of a broker (3.1.1 or 5) to frames, and commits to acknowledgements.
//!
//! One connection that only receives. Whatever one read brings goes to the intake in chunks; when a chunk is committed
//! its messages are acknowledged, all in one write and in the order in which they came. The session at the broker is
//! persistent, so messages that come while the gateway is away wait there as long as the broker keeps them; what it
//! subscribes is brought in line with the configuration after each CONNACK. QoS 2 is never asked for: a subscription at
//! QoS 2 is taken at QoS 1, because the engine knows a message that comes twice.
//!
//! **What survives a crash**: of the messages nothing, by design. One that was not acknowledged is sent again by the
//! broker; one that was acknowledged is in the store. The bookkeeping of acknowledgements belongs to one connection, so
//! that no packet id of an old one is ever told to a new one. Which filters the session holds is in a small file
//! (`subscriptions`).
//!
//! **Limits**: 2048 messages or 256 KiB a chunk; a message longer than `packet_bytes_max` is skipped without being kept,
//! acknowledged (or the broker would send it for ever) and counted; while the pipeline is full nothing is read, and
//! pings and acknowledgements go on; 256 topic aliases; tags of at most 128 bytes.
//!
//! **Metrics**, by `source`: `kerbside_mqtt_messages_total` (and by `qos`), `kerbside_mqtt_bytes_total` (payload),
//! `kerbside_mqtt_acks_total`, `kerbside_mqtt_unacknowledged` (now), `kerbside_mqtt_redelivered_total`,
//! `kerbside_mqtt_oversize_total`, `kerbside_mqtt_connects_total`, `kerbside_mqtt_connected`.

mod acks;
mod aliases;
mod codec;
mod connect;
mod credentials;
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod link;
mod outgoing;
mod properties;
mod reason;
mod session;
mod socket;
mod sparkplug;
mod subscriptions;
mod tags;
#[cfg(test)]
mod tests;
mod websocket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kerbside_runtime::tls::{TlsError, TlsFiles};
use kerbside_runtime::{Clock, Health, Intake, Metrics, Shutdown};
use prometheus::{IntCounter, IntGauge};
use rumqttc::mqttbytes::valid_filter;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tracing::warn;

pub use self::credentials::Credential;
use self::credentials::{Credentials, LOOK_INTERVAL};
use self::link::Link;
use self::session::{End, Session};
pub use self::sparkplug::Rebirth;
use self::sparkplug::Sparkplug;
use self::subscriptions::Memory;

/// Strings in MQTT have a length of 16 bits.
const TEXT_BYTES_MAX: usize = u16::MAX as usize;
/// More filters than this are one with a wildcard; their packets still have ids of 16 bits.
const TOPICS_MAX: usize = 10_000;
/// All filters are asked for in one go.
const FILTERS_BYTES_MAX: usize = 1024 * 1024;
/// The shortest limit of a packet that makes sense: the longest LoRaWAN uplink as JSON.
const PACKET_BYTES_MIN: usize = 1024;

/// Which MQTT the broker is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// What the broker keeps of us while we are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Our session, with what comes meanwhile.
    Kept,
    /// Nothing: for one who only looks.
    Clean,
}

/// What the packets of MQTT travel in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, with TLS or without.
    Tcp,
    /// WebSocket messages on TCP, with TLS or without.
    WebSocket {
        /// Where the broker listens for them, such as `/mqtt`; a query may follow.
        path: String,
    },
}

/// What becomes of messages that are longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OversizePolicy {
    /// The broker sends them; they are skipped, counted and named in the log.
    Skip,
    /// The broker is told the limit and drops them by itself, unseen (MQTT 5). For links that are paid by the byte.
    Refuse,
}

/// A topic filter to subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter {
    /// The filter, with wildcards; a shared subscription begins with `$share/GROUP/`.
    pub filter: String,
    /// 0 or 1; 2 is taken as 1 with a warning.
    pub qos: u8,
}

/// One broker to receive from.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttConfig {
    /// Name of the source in the configuration.
    pub name: String,
    /// Host name or address of the broker.
    pub host: String,
    /// TCP port of the broker: usually 1883, with TLS 8883.
    pub port: u16,
    /// What the packets travel in.
    pub transport: Transport,
    /// Protocol version.
    pub version: MqttVersion,
    /// Names the session at the broker; no two gateways may share one.
    pub client_id: String,
    /// User name, when the broker wants one.
    pub username: Option<Credential>,
    /// Password or token, when the broker wants one.
    pub password: Option<Credential>,
    /// TLS, when it is used.
    pub tls: Option<TlsFiles>,
    /// What to subscribe.
    pub topics: Vec<TopicFilter>,
    /// The longest silence from us; the connection is dropped after 1.5 times this without a word from the broker.
    pub keep_alive: Duration,
    /// What the broker keeps of us.
    pub session: SessionKind,
    /// How long the broker keeps our session after the connection is lost (MQTT 5; with 3.1.1 the broker decides).
    pub session_expiry: Duration,
    /// How many unacknowledged messages the broker may send (MQTT 5).
    pub receive_maximum: u16,
    /// Longest message that is taken, bytes of topic, properties and payload.
    pub packet_bytes_max: usize,
    /// What becomes of longer ones.
    pub oversize: OversizePolicy,
    /// User properties of a message that become tags of its readings (MQTT 5).
    pub user_properties: Vec<String>,
    /// Longest wait between two tries to connect.
    pub backoff_max: Duration,
    /// What is done about Sparkplug nodes whose birth was not heard; `None` when nobody speaks Sparkplug.
    pub sparkplug: Option<Rebirth>,
    /// Where is remembered which filters the session at the broker holds; without it that is known until the end of
    /// the process.
    pub state_folder: Option<PathBuf>,
}

/// The configuration of an MQTT source cannot work.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// Without a client id the broker keeps no session.
    #[error("use client id {client_id:?}: a persistent session needs 1 to 65535 bytes")]
    ClientId {
        /// As configured.
        client_id: String,
    },
    /// Nothing to subscribe, or too much.
    #[error("subscribe {count} topics: between 1 and {TOPICS_MAX} are possible")]
    Topics {
        /// How many are configured.
        count: usize,
    },
    /// Not a topic filter.
    #[error("subscribe {filter:?} at QoS {qos}: not a topic filter with a QoS of 0 or 1")]
    Filter {
        /// As configured.
        filter: String,
        /// As configured.
        qos: u8,
    },
    /// A number outside its range.
    #[error("use {setting} of {value}: must be {expected}")]
    Range {
        /// Which setting.
        setting: &'static str,
        /// As configured.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The certificates cannot be used.
    #[error("prepare TLS for {host}")]
    Tls {
        /// The broker.
        host: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// TLS checks the name of the host, and this is none.
    #[error("prepare TLS for {host:?}")]
    TlsName {
        /// The broker.
        host: String,
        /// Why.
        #[source]
        source: InvalidDnsNameError,
    },
}

/// Receives messages of one broker.
#[derive(Debug)]
pub struct MqttSource {
    context: Context,
    link: Link,
    memory: Memory,
    sparkplug: Option<Sparkplug>,
    /// How often files of credentials are looked at.
    look_interval: Duration,
}

/// What all connections of one source share.
struct Context {
    config: MqttConfig,
    source: Arc<str>,
    /// `host:port`, for people.
    endpoint: String,
    credentials: Credentials,
    /// The name that TLS checks.
    server_name: Option<ServerName<'static>>,
    intake: Intake,
    clock: Clock,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    /// By QoS.
    messages: [IntCounter; 3],
    bytes: IntCounter,
    acks: IntCounter,
    unacknowledged: IntGauge,
    redelivered: IntCounter,
    oversize: IntCounter,
}

impl MqttSource {
    /// Checks the configuration and reads certificates and memory; nothing is connected yet.
    pub fn new(
        mut config: MqttConfig,
        intake: Intake,
        clock: Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<MqttSource, MqttError> {
        check(&config)?;
        for topic in config.topics.iter_mut().filter(|topic| topic.qos == 2) {
            warn!(source = %config.name, filter = %topic.filter, "subscription at qos 2 is taken at qos 1");
            topic.qos = 1;
        }
        let server_name = config.tls.as_ref().map(|_| server_name(&config.host)).transpose()?;
        let credentials = Credentials::new(&config)?;
        let endpoint = format!("{}:{}", config.host, config.port);
        let link = Link::new(&config, &endpoint, metrics, health);
        let memory = Memory::load(&config, &endpoint);
        let sparkplug = config.sparkplug.map(|rebirth| Sparkplug::new(&config, rebirth, metrics));
        let context = Context {
            source: Arc::from(config.name.as_str()),
            endpoint,
            credentials,
            server_name,
            intake,
            clock,
            counters: Counters::new(metrics, &config.name),
            config,
        };
        Ok(MqttSource { context, link, memory, sparkplug, look_interval: LOOK_INTERVAL })
    }

    /// Connects, receives and connects again until the shutdown; then waits up to 5 s for the commits of what was
    /// handed over, acknowledges it and says goodbye.
    pub async fn run(self, shutdown: Shutdown) {
        let credentials = self.context.credentials.clone();
        let interval = self.look_interval;
        tokio::select! {
            biased;
            () = self.receive_until(shutdown) => {}
            never = credentials.watch(interval) => match never {},
        }
    }

    async fn receive_until(mut self, shutdown: Shutdown) {
        loop {
            match self.connect_and_receive(&shutdown).await {
                End::Shutdown => break,
                End::PipelineEnded => {
                    self.link.down("the pipeline has ended");
                    return;
                }
                End::Lost(error) => self.link.lost(&error),
            }
            let wait = self.link.next_wait();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.link.down("stopped");
    }

    async fn connect_and_receive(&mut self, shutdown: &Shutdown) -> End {
        let opened = tokio::select! {
            () = shutdown.cancelled() => return End::Shutdown,
            opened = connect::open(&self.context) => opened,
        };
        self.link.files(self.context.credentials.problem());
        match opened {
            Ok(opened) => {
                let remembered = (&mut self.memory, self.sparkplug.as_mut());
                Session::new(&self.context, shutdown, remembered, opened).run(&mut self.link).await
            }
            Err(error) => End::Lost(error),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Counters {
    fn new(metrics: &Metrics, source: &str) -> Counters {
        let counter = |name: &str, help: &str| metrics.counters(name, help, &["source"]).with_label_values(&[source]);
        let messages =
            metrics.counters("kerbside_mqtt_messages_total", "MQTT messages taken over.", &["source", "qos"]);
        Counters {
            messages: ["0", "1", "2"].map(|qos| messages.with_label_values(&[source, qos])),
            bytes: counter("kerbside_mqtt_bytes_total", "Payload bytes of MQTT messages taken over."),
            unacknowledged: metrics
                .gauges(
                    "kerbside_mqtt_unacknowledged",
                    "MQTT messages taken over that wait for their commit; at a broker's limit it sends no more.",
                    &["source"],
                )
                .with_label_values(&[source]),
            acks: counter("kerbside_mqtt_acks_total", "MQTT messages acknowledged after their commit."),
            redelivered: counter("kerbside_mqtt_redelivered_total", "MQTT messages that the broker sent again."),
            oversize: counter("kerbside_mqtt_oversize_total", "MQTT messages skipped for their length."),
        }
    }
}

fn check(config: &MqttConfig) -> Result<(), MqttError> {
    if config.client_id.is_empty() || config.client_id.len() > TEXT_BYTES_MAX {
        return Err(MqttError::ClientId { client_id: config.client_id.clone() });
    }
    if config.topics.is_empty() || config.topics.len() > TOPICS_MAX {
        return Err(MqttError::Topics { count: config.topics.len() });
    }
    for topic in &config.topics {
        if topic.qos > 2 || topic.filter.len() > TEXT_BYTES_MAX || !is_filter(&topic.filter) {
            return Err(MqttError::Filter { filter: topic.filter.clone(), qos: topic.qos });
        }
    }
    let filters_bytes: usize = config.topics.iter().map(|topic| topic.filter.len()).sum();
    if filters_bytes > FILTERS_BYTES_MAX {
        return range("topic filters", format!("{filters_bytes} bytes"), "at most 1 MiB together");
    }
    check_ranges(config)
}

fn range<T>(setting: &'static str, value: String, expected: &'static str) -> Result<T, MqttError> {
    Err(MqttError::Range { setting, value, expected })
}

fn check_ranges(config: &MqttConfig) -> Result<(), MqttError> {
    let keep_alive = config.keep_alive;
    if keep_alive < Duration::from_secs(1) || keep_alive > Duration::from_secs(u64::from(u16::MAX)) {
        return range("keep alive", format!("{keep_alive:?}"), "1 s to 65535 s");
    }
    if config.receive_maximum == 0 {
        return range("receive maximum", "0".to_owned(), "1 to 65535");
    }
    if config.packet_bytes_max < PACKET_BYTES_MIN {
        return range("packet limit", format!("{} bytes", config.packet_bytes_max), "at least 1024 bytes");
    }
    for (setting, credential) in [("user name", &config.username), ("password", &config.password)] {
        let bytes = credential.as_ref().map_or(0, |credential| credential.value.expose().len());
        if bytes > TEXT_BYTES_MAX {
            return range(setting, format!("{bytes} bytes"), "at most 65535 bytes");
        }
    }
    check_version(config)
}

/// What MQTT 3.1.1 does not know, and what cannot stand in a request for a WebSocket.
fn check_version(config: &MqttConfig) -> Result<(), MqttError> {
    let is_old = config.version == MqttVersion::V311;
    if is_old && config.username.is_none() && config.password.is_some() {
        return range("password", "***".to_owned(), "accompanied by a user name in MQTT 3.1.1");
    }
    if is_old && !config.user_properties.is_empty() {
        return range("user properties", config.user_properties.join(", "), "left out in MQTT 3.1.1");
    }
    if is_old && config.oversize == OversizePolicy::Refuse {
        return range("oversize", "refuse".to_owned(), "skip in MQTT 3.1.1");
    }
    match &config.transport {
        Transport::WebSocket { path } if !websocket::is_path(path) => {
            range("path", path.clone(), "a path of a URL that begins with /")
        }
        _ => Ok(()),
    }
}

fn is_filter(filter: &str) -> bool {
    let Some(shared) = filter.strip_prefix("$share/") else { return valid_filter(filter) };
    let Some((group, filter)) = shared.split_once('/') else { return false };
    !group.is_empty() && !group.contains(['+', '#']) && valid_filter(filter)
}

fn server_name(host: &str) -> Result<ServerName<'static>, MqttError> {
    ServerName::try_from(host.to_owned()).map_err(|source| MqttError::TlsName { host: host.to_owned(), source })
}
