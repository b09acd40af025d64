//! The embedded MQTT broker: what devices publish to frames, and commits to acknowledgements.
//!
//! For sites without a broker of their own: devices connect here with MQTT 3.1.1 or 5, in plain or with TLS. A message
//! at QoS 1 or 2 is acknowledged to the device only when it is committed to disk. That holds with no other broker that
//! was tried: they acknowledge from memory. Every topic becomes a frame, and is then routed to whoever subscribes.
//!
//! **What survives a crash**: every message that was acknowledged. Sessions, subscriptions and messages that wait for
//! an absent subscriber are in memory only and are lost.
//!
//! **Who may come in** (`accounts.rs`): accounts of the configuration, accounts of a file with hashed passwords, and
//! clients with a certificate of the site's own authority that is made out to their account. **What they may do**
//! (`rights.rs`): devices publish below their own name only, and subscribe to nothing unless it is allowed. What is
//! denied is answered with 0x87 in MQTT 5; MQTT 3.1.1 has no such answer, so there it is acknowledged and discarded,
//! and counted in both.
//!
//! **Limits** (`settings.rs`): each has a name, and docs/broker.md says what happens beyond it.
//! - One connection sends one message a commit, because the next is read after the acknowledgement. Many connections
//!   share a commit: measured with a commit at once (`fdatasync`), 10 connections gave 2,000 messages a second and 100
//!   gave 12,500; where commits are gathered for 100 ms, a connection gives ten a second. A few fast connections (a
//!   LoRaWAN network server) belong on Mosquitto and the `mqtt` source.
//! - No retained messages: a message is sent on without the flag, and a will that asks for it is not sent on. The last
//!   will of a device is routed to subscribers and is no frame; a silent device is found by its silence.
//! - While the pipeline is full every connection waits, and the devices keep their messages. A client above its rate
//!   waits too; nothing is dropped.
//!
//! **Metrics**, by `source`: `kerbside_broker_connections`, `kerbside_broker_sessions`,
//! `kerbside_broker_connects_total` (`result`), `kerbside_broker_messages_total` (`qos`), `kerbside_broker_bytes_total`, `kerbside_broker_slowed_total`,
//! `kerbside_broker_refused_total` (`reason`), `kerbside_broker_acl_denied_total` (`action`).

mod accounts;
mod files;
mod guard;
mod hook;
mod listener;
mod pace;
mod password;
mod presence;
mod rights;
mod settings;
mod tally;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Clock, Health, Intake, Metrics, Shutdown};
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::QueueLimits;
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::{BrokerConfig as EmbeddedConfig, DynamicStorage, MemoryBackend, ResourceLimits, ResourceMonitor};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};
use tokio::task::{JoinHandle, JoinSet};
use tracing::info;

pub use self::password::{NoRandomness, hash_password, random_password};
pub use self::rights::{ACCOUNT, Rights, TopicPattern, is_account_name};
pub use self::settings::{BrokerAccount, BrokerConfig, BrokerError, BrokerLimits, BrokerTls};
pub use self::tls::ServerTlsError;

use self::accounts::Accounts;
use self::guard::Gate;
use self::hook::Hook;
use self::listener::{Embedded, Listener, Problems, bind};
use self::presence::Presence;
use self::tally::Tally;
use self::tls::ServerTls;

/// How long an absent subscriber is remembered.
const SESSION_EXPIRY: Duration = Duration::from_secs(3600);

/// Topics that one client of MQTT 5 may abbreviate; each is kept in memory, and a device has a handful.
const TOPIC_ALIASES_MAX: u16 = 32;

/// A broker that is not yet listening.
pub struct BrokerSource {
    config: BrokerConfig,
    accounts: Accounts,
    tls: Option<ServerTls>,
    hook: Hook,
    tally: Arc<Tally>,
    health: HealthReporter,
}

/// A broker that has its addresses and does not serve yet.
pub struct BoundBroker {
    source: BrokerSource,
    embedded: Embedded,
    plain: Option<TcpListener>,
    secure: Option<TcpListener>,
    local_addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
}

/// A broker that listens.
#[derive(Debug)]
pub struct BrokerHandle {
    local_addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl BrokerSource {
    /// Checks the configuration and reads accounts and certificates; nothing is opened yet.
    pub fn new(
        config: BrokerConfig,
        intake: Intake,
        clock: Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<BrokerSource, BrokerError> {
        settings::check(&config)?;
        let tally = Arc::new(Tally::new(&config.name, metrics));
        Ok(BrokerSource {
            accounts: Accounts::new(&config)?,
            tls: config.tls.as_ref().map(ServerTls::load).transpose()?,
            hook: Hook::new(&config.name, intake, clock, Arc::clone(&tally)),
            tally,
            health: health.component(format!("source/{}", config.name)),
            config,
        })
    }

    /// Listens and serves until the shutdown; the addresses are taken when this returns.
    pub async fn start(self, shutdown: Shutdown) -> Result<BrokerHandle, BrokerError> {
        Ok(self.bind().await?.serve(shutdown))
    }

    /// Takes the addresses. Clients that come meanwhile wait until the broker serves.
    pub async fn bind(self) -> Result<BoundBroker, BrokerError> {
        let embedded = embedded(&self.config.limits);
        embedded.router.initialize().await.map_err(BrokerError::Prepare)?;
        let (mut plain, mut secure) = (None, None);
        for (listen, is_tls) in self.config.listens() {
            let listener = bind(listen).await?;
            if is_tls { secure = Some(listener) } else { plain = Some(listener) }
        }
        let unavailable = |source| BrokerError::Unavailable { listen: self.config.listen, source };
        let tls_addr = secure.as_ref().map(|listener| listener.local_addr()).transpose().map_err(unavailable)?;
        let plain_addr = plain.as_ref().map(|listener| listener.local_addr()).transpose().map_err(unavailable)?;
        let local_addr = plain_addr.or(tls_addr).expect("there is always one address to listen on");
        Ok(BoundBroker { source: self, embedded, plain, secure, local_addr, tls_addr })
    }
}

impl BoundBroker {
    /// Where it will listen: for plain connections, or for TLS when there is nothing else.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until the shutdown.
    pub fn serve(self, shutdown: Shutdown) -> BrokerHandle {
        let BoundBroker { source, embedded, plain, secure, local_addr, tls_addr } = self;
        let BrokerSource { config, accounts, tls, hook, tally, health } = source;
        info!(source = %config.name, address = %local_addr, tls = ?tls_addr, "embedded broker listens");
        let hook = hook.until(shutdown.clone());
        let listener = Listener {
            pipeline_ended: hook.pipeline_ended(),
            room: Arc::new(Semaphore::new(config.limits.connections_max)),
            gate: Arc::new(Gate {
                accounts,
                hook,
                limits: config.limits,
                presence: Presence::default(),
                router: Arc::clone(&embedded.router),
                tally,
            }),
            source: config.name,
            embedded,
            plain,
            secure,
            tls,
            connections: JoinSet::new(),
            health,
            problems: Problems::default(),
            shutdown,
        };
        listener.tell_health();
        BrokerHandle { local_addr, tls_addr, task: tokio::spawn(listener.run()) }
    }
}

impl std::fmt::Debug for BoundBroker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BoundBroker").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BrokerSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BrokerSource").field("config", &self.config).finish_non_exhaustive()
    }
}

impl BrokerHandle {
    /// Where it listens: for plain connections, or for TLS when there is nothing else.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it listens for connections with TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// Waits until it has stopped.
    ///
    /// # Panics
    /// When it panicked: with the same.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// The parts of the library, with our limits.
fn embedded(limits: &BrokerLimits) -> Embedded {
    let queue = QueueLimits { max_messages: limits.queued_messages_max, max_bytes: limits.queued_bytes_max };
    let storage = Arc::new(DynamicStorage::Memory(MemoryBackend::with_queue_limits(queue)));
    let mut config = EmbeddedConfig::new()
        .with_max_packet_size(limits.packet_bytes_max)
        .with_session_expiry(SESSION_EXPIRY)
        .with_server_receive_maximum(limits.inflight_max)
        .with_client_channel_capacity(limits.queued_messages_max)
        .with_sys_topics_enabled(false);
    config.topic_alias_maximum = TOPIC_ALIASES_MAX;
    config.max_subscriptions_per_client = limits.subscriptions_max;
    // What it limits is limited before a client gets there, and slowed down instead of refused.
    let unlimited = ResourceLimits {
        max_connections: usize::MAX,
        max_connections_per_ip: usize::MAX,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        rate_limit_window: Duration::from_secs(1),
    };
    Embedded {
        config,
        router: Arc::new(MessageRouter::with_storage(Arc::clone(&storage)).with_fallback_queue_limits(queue)),
        storage,
        stats: Arc::new(BrokerStats::new()),
        monitor: Arc::new(ResourceMonitor::new(unlimited)),
        stop: broadcast::channel(1).0,
    }
}
