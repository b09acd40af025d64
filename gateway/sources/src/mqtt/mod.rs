//! MQTT: messages of a broker (3.1.1 or 5) to frames, and commits to acknowledgements.
//!
//! One connection that only receives. Whatever one read brings goes to the intake in chunks; when a chunk is committed
//! its messages are acknowledged, all in one write and in the order in which they came. The session at the broker is
//! persistent and every topic is subscribed again after each CONNACK, so messages that come while the gateway is away
//! wait there as long as the broker keeps them. QoS 2 is never asked for: a subscription at QoS 2 is taken at QoS 1,
//! because the engine knows a message that comes twice.
//!
//! **What survives a crash**: nothing here, by design. A message that was not acknowledged is sent again by the broker;
//! one that was acknowledged is in the store. The bookkeeping of acknowledgements belongs to one connection, so that no
//! packet id of an old one is ever told to a new one.
//!
//! **Limits**: 512 messages or 256 KiB a chunk; a message longer than `packet_bytes_max` is skipped without being kept,
//! acknowledged (or the broker would send it for ever) and counted; while the pipeline is full nothing is read, and
//! pings and acknowledgements go on. A frame shares the 64 KiB buffer of the read that brought it: whoever keeps one
//! for long copies it.
//!
//! **Metrics**, by `source`: `kerbside_mqtt_messages_total` (and by `qos`), `kerbside_mqtt_bytes_total` (payload),
//! `kerbside_mqtt_acks_total`, `kerbside_mqtt_redelivered_total`, `kerbside_mqtt_oversize_total`,
//! `kerbside_mqtt_connects_total`, `kerbside_mqtt_connected`.

mod acks;
mod codec;
mod connect;
mod link;
mod session;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use kerbside_runtime::tls::{self, TlsError, TlsFiles};
use kerbside_runtime::{Clock, Health, Intake, Metrics, Secret, Shutdown};
use prometheus::IntCounter;
use rumqttc::mqttbytes::valid_filter;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio_rustls::TlsConnector;
use tracing::warn;

use self::link::Link;
use self::session::{End, Session};

/// Strings in MQTT have a length of 16 bits.
const TEXT_BYTES_MAX: usize = u16::MAX as usize;
/// More filters than this do not fit the broker's answer to them, of which we take 64 KiB.
const TOPICS_MAX: usize = 10_000;
/// All filters go in one packet.
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

/// A topic filter to subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter {
    /// The filter, with wildcards; a shared subscription begins with `$share/GROUP/`.
    pub filter: String,
    /// 0 or 1; 2 is taken as 1 with a warning.
    pub qos: u8,
}

/// One broker to receive from.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Name of the source in the configuration.
    pub name: String,
    /// Host name or address of the broker.
    pub host: String,
    /// TCP port of the broker: usually 1883, with TLS 8883.
    pub port: u16,
    /// Protocol version.
    pub version: MqttVersion,
    /// Names the session at the broker; no two gateways may share one.
    pub client_id: String,
    /// User name, when the broker wants one.
    pub username: Option<String>,
    /// Password, when the broker wants one.
    pub password: Option<Secret>,
    /// TLS, when it is used.
    pub tls: Option<TlsFiles>,
    /// What to subscribe.
    pub topics: Vec<TopicFilter>,
    /// The longest silence from us; the connection is dropped after 1.5 times this without a word from the broker.
    pub keep_alive: Duration,
    /// How long the broker keeps our session after the connection is lost (MQTT 5; with 3.1.1 the broker decides).
    pub session_expiry: Duration,
    /// How many unacknowledged messages the broker may send (MQTT 5).
    pub receive_maximum: u16,
    /// Longest message that is taken, bytes of topic, properties and payload.
    pub packet_bytes_max: usize,
    /// Longest wait between two tries to connect.
    pub backoff_max: Duration,
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
}

/// What all connections of one source share.
struct Context {
    config: MqttConfig,
    source: Arc<str>,
    /// `host:port`, for people.
    endpoint: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
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
    redelivered: IntCounter,
    oversize: IntCounter,
}

impl MqttSource {
    /// Checks the configuration and reads the certificates; nothing is connected yet.
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
        let tls = config.tls.as_ref().map(|files| tls_parts(&config.host, files)).transpose()?;
        let endpoint = format!("{}:{}", config.host, config.port);
        let link = Link::new(&config, &endpoint, metrics, health);
        let context = Context {
            source: Arc::from(config.name.as_str()),
            endpoint,
            tls,
            intake,
            clock,
            counters: Counters::new(metrics, &config.name),
            config,
        };
        Ok(MqttSource { context, link })
    }

    /// Connects, receives and connects again until the shutdown; then waits up to 5 s for the commits of what was
    /// handed over, acknowledges it and says goodbye.
    pub async fn run(mut self, shutdown: Shutdown) {
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
        match opened {
            Ok(opened) => Session::new(&self.context, shutdown, opened).run(&mut self.link).await,
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
    let username_bytes = config.username.as_ref().map_or(0, String::len);
    if username_bytes > TEXT_BYTES_MAX {
        return range("user name", format!("{username_bytes} bytes"), "at most 65535 bytes");
    }
    let password_bytes = config.password.as_ref().map_or(0, |password| password.expose().len());
    if password_bytes > TEXT_BYTES_MAX {
        return range("password", format!("{password_bytes} bytes"), "at most 65535 bytes");
    }
    if config.username.is_none() && password_bytes > 0 && config.version == MqttVersion::V311 {
        return range("password", "***".to_owned(), "accompanied by a user name in MQTT 3.1.1");
    }
    Ok(())
}

fn is_filter(filter: &str) -> bool {
    let Some(shared) = filter.strip_prefix("$share/") else { return valid_filter(filter) };
    let Some((group, filter)) = shared.split_once('/') else { return false };
    !group.is_empty() && !group.contains(['+', '#']) && valid_filter(filter)
}

fn tls_parts(host: &str, files: &TlsFiles) -> Result<(TlsConnector, ServerName<'static>), MqttError> {
    let config = tls::client_config(files).map_err(|source| MqttError::Tls { host: host.to_owned(), source })?;
    let name =
        ServerName::try_from(host.to_owned()).map_err(|source| MqttError::TlsName { host: host.to_owned(), source })?;
    Ok((TlsConnector::from(config), name))
}
