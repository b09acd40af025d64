//! The embedded MQTT broker: what devices publish to frames, and commits to acknowledgements.
//!
//! For sites without a broker of their own: devices connect here with MQTT 3.1.1 or 5. A message at QoS 1 or 2 is
//! acknowledged to the device only when it is committed to disk. That holds with no other broker that was tried: they
//! acknowledge from memory. Every topic that does not begin with `$` becomes a frame, and is then routed to whoever
//! subscribes.
//!
//! **What survives a crash**: every message that was acknowledged. Sessions, subscriptions and messages that wait for
//! an absent subscriber are in memory only and are lost.
//!
//! **Limits, and when to take Mosquitto instead**:
//! - One connection sends one message a commit, because the next is read after the acknowledgement. Many connections
//!   share a commit: measured with `fdatasync`, 10 connections gave 2,000 messages a second and 100 gave 12,500. A few
//!   fast connections (a LoRaWAN network server) belong on Mosquitto and the `mqtt` source.
//! - No TLS and no retained messages; per absent subscriber 1,000 messages or 1 MiB, kept for an hour. Sites that need
//!   more, or need other programs to rely on their subscriptions, take Mosquitto.
//! - The last will of a device is routed to subscribers and is no frame; a silent device is found by its silence.
//! - At most `connections_max` connections and `packet_bytes_max` bytes a packet; while the pipeline is full every
//!   connection waits, and the devices keep their messages.
//!
//! **Metrics**, by `source`: `kerbside_broker_messages_total`, `kerbside_broker_connections`.

mod accounts;
mod hook;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health, Intake, Metrics, Secret, Shutdown};
use mqtt5::broker::{BrokerConfig as EmbeddedConfig, MqttBroker, StorageBackendType, StorageConfig};
use prometheus::IntGauge;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use self::accounts::Accounts;
use self::hook::Hook;

/// The shortest packet limit that the broker takes.
const PACKET_BYTES_MIN: usize = 1024;
/// How many messages wait for an absent subscriber.
const QUEUED_MESSAGES_MAX: usize = 1_000;
/// How many bytes wait for an absent subscriber.
const QUEUED_BYTES_MAX: usize = 1024 * 1024;
/// How long an absent subscriber is remembered.
const SESSION_EXPIRY: Duration = Duration::from_secs(3600);
/// How long the end of the gateway waits for connections to close; the broker itself gives up after 5 s.
const STOP_WAIT: Duration = Duration::from_secs(6);
/// How often the connections are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The embedded broker.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Name of the source in the configuration.
    pub name: String,
    /// Where to listen; port 0 takes a free one. Without accounts only a loopback address is possible.
    pub listen: SocketAddr,
    /// User names with their passwords; none lets everybody in.
    pub accounts: Vec<(String, Secret)>,
    /// Longest packet that is taken, bytes; a longer one ends its connection.
    pub packet_bytes_max: usize,
    /// Most connections at a time.
    pub connections_max: usize,
}

/// The embedded broker cannot work.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Anybody on the network could raise alarms.
    #[error("listen on {listen} without accounts: give accounts, or listen on a loopback address such as 127.0.0.1")]
    OpenToAll {
        /// As configured.
        listen: SocketAddr,
    },
    /// An account that nobody could use, or two of one name.
    #[error("use account {username:?}: user names are unique, and neither name nor password is empty")]
    Account {
        /// As configured.
        username: String,
    },
    /// A number outside its range.
    #[error("use {setting} of {value}: must be at least {least}")]
    Range {
        /// Which setting.
        setting: &'static str,
        /// As configured.
        value: usize,
        /// The smallest that is possible.
        least: usize,
    },
    /// The address is taken, or is not this machine's.
    #[error("listen on {listen}: stop what uses this address, or choose another with the source's key `listen`")]
    Unavailable {
        /// As configured.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The broker library cannot listen.
    #[error("listen on {listen}")]
    Bind {
        /// As configured.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: mqtt5::MqttError,
    },
}

/// A broker that is not yet listening.
#[derive(Debug)]
pub struct BrokerSource {
    config: BrokerConfig,
    hook: Hook,
    health: HealthReporter,
    connections: IntGauge,
}

/// A broker that listens.
#[derive(Debug)]
pub struct BrokerHandle {
    local_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl BrokerSource {
    /// Checks the configuration; nothing is opened yet.
    pub fn new(
        config: BrokerConfig,
        intake: Intake,
        clock: Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<BrokerSource, BrokerError> {
        check(&config)?;
        let label = [config.name.as_str()];
        let messages = metrics
            .counters("kerbside_broker_messages_total", "Messages taken over by the embedded broker.", &["source"])
            .with_label_values(&label);
        let connections = metrics
            .gauges("kerbside_broker_connections", "Clients connected to the embedded broker.", &["source"])
            .with_label_values(&label);
        Ok(BrokerSource {
            hook: Hook::new(&config.name, intake, clock, messages),
            health: health.component(format!("source/{}", config.name)),
            connections,
            config,
        })
    }

    /// Listens and serves until the shutdown; the address is taken when this returns.
    pub async fn start(self, shutdown: Shutdown) -> Result<BrokerHandle, BrokerError> {
        let listen = self.config.listen;
        // The broker library would wrap the system's reason in lines of advice of its own.
        let free = TcpListener::bind(listen).await.map_err(|source| BrokerError::Unavailable { listen, source })?;
        drop(free);
        let bind_error = |source| BrokerError::Bind { listen, source };
        let hook = Arc::new(self.hook.until(shutdown.clone()));
        let pipeline_ended = hook.pipeline_ended();
        let mut broker = MqttBroker::with_config(embedded_config(&self.config, hook)).await.map_err(bind_error)?;
        if !self.config.accounts.is_empty() {
            broker = broker.with_auth_provider(Arc::new(Accounts::new(&self.config.accounts)));
        }
        let local_addr = broker
            .local_addr()
            .ok_or_else(|| bind_error(mqtt5::MqttError::InvalidState("there is no listener".to_owned())))?;
        info!(source = %self.config.name, address = %local_addr, "embedded broker listens");
        let supervisor = Supervisor {
            source: self.config.name,
            health: self.health,
            connections: self.connections,
            shutdown,
            pipeline_ended,
        };
        supervisor.health.ok();
        Ok(BrokerHandle { local_addr, task: tokio::spawn(supervisor.run(broker)) })
    }
}

impl BrokerHandle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until it has stopped.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            error!(%error, "embedded broker ended by a panic");
        }
    }
}

/// Runs the broker and looks after its health.
struct Supervisor {
    source: String,
    health: HealthReporter,
    connections: IntGauge,
    shutdown: Shutdown,
    pipeline_ended: Shutdown,
}

impl Supervisor {
    async fn run(self, mut broker: MqttBroker) {
        let stats = broker.stats();
        let mut ready = broker.ready_receiver();
        let stop = broker.shutdown_handle();
        let serving = broker.run();
        tokio::pin!(serving);
        let mut count = tokio::time::interval(COUNT_INTERVAL);
        // The broker does not hear a shutdown that comes before it is ready.
        let mut is_ready = false;
        let reason = loop {
            tokio::select! {
                ended = &mut serving => {
                    let detail = ended.err().map_or_else(|| "it stopped by itself".to_owned(), |error| error.to_string());
                    error!(source = %self.source, detail, "embedded broker ended");
                    self.connections.set(0);
                    self.health.down(detail);
                    return;
                }
                changed = ready.wait_for(|ready| *ready), if !is_ready => is_ready = changed.is_ok(),
                () = self.shutdown.cancelled(), if is_ready => break "stopped",
                () = self.pipeline_ended.cancelled(), if is_ready => break "the pipeline has ended",
                _ = count.tick() => {
                    let connected = stats.clients_connected.load(std::sync::atomic::Ordering::Relaxed);
                    self.connections.set(i64::try_from(connected).unwrap_or(i64::MAX));
                }
            }
        };
        self.health.down(reason);
        stop.shutdown();
        if tokio::time::timeout(STOP_WAIT, &mut serving).await.is_err() {
            warn!(source = %self.source, "embedded broker did not stop in time");
        }
        self.connections.set(0);
    }
}

fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    if config.accounts.is_empty() && !config.listen.ip().is_loopback() {
        return Err(BrokerError::OpenToAll { listen: config.listen });
    }
    for (index, (username, password)) in config.accounts.iter().enumerate() {
        let is_double = config.accounts[..index].iter().any(|(other, _)| other == username);
        if username.is_empty() || password.expose().is_empty() || is_double {
            return Err(BrokerError::Account { username: username.clone() });
        }
    }
    let range = |setting, value, least| Err(BrokerError::Range { setting, value, least });
    if config.packet_bytes_max < PACKET_BYTES_MIN {
        return range("packet limit", config.packet_bytes_max, PACKET_BYTES_MIN);
    }
    if config.connections_max == 0 {
        return range("connection limit", 0, 1);
    }
    Ok(())
}

fn embedded_config(config: &BrokerConfig, hook: Arc<Hook>) -> EmbeddedConfig {
    let storage = StorageConfig::new()
        .with_backend(StorageBackendType::Memory)
        .with_max_queued_messages_per_client(QUEUED_MESSAGES_MAX)
        .with_max_queued_bytes_per_client(QUEUED_BYTES_MAX);
    EmbeddedConfig::new()
        .with_bind_addresses(vec![config.listen])
        .with_max_clients(config.connections_max)
        .with_max_packet_size(config.packet_bytes_max)
        .with_session_expiry(SESSION_EXPIRY)
        .with_storage(storage)
        .with_sys_topics_enabled(false)
        .with_event_handler(hook)
}
