//! Listens, with and without TLS, and runs every connection until the shutdown.
//!
//! Turns accepted connections into the library's client handlers, each with a guard of its own. The library's own
//! accept loop is not used: it counts only clients that have logged in, so silent connections would be without a limit;
//! it reads certificates once; and it spins when the process has no file descriptor left. Keeps nothing on disk; counts
//! by way of the tally.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kerbside_runtime::Shutdown;
use kerbside_runtime::health::HealthReporter;
use mqtt5::MqttError;
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::StorageBackend;
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::tls_acceptor::TlsStreamWrapper;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::broker::{BrokerConfig as EmbeddedConfig, DynamicStorage, ResourceMonitor};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info, warn};

use super::accounts::Reloaded;
use super::guard::{Gate, Guard};
use super::presence::Somebody;
use super::settings::BrokerError;
use super::tally::Refusal;
use super::tls::ServerTls;

/// How long a client may take for the handshake of TLS.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after a failure to accept, which is mostly a lack of file descriptors and does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the end of the gateway waits for connections to close.
const STOP_WAIT: Duration = Duration::from_secs(6);
/// How often accounts and certificates are looked at for changes.
#[cfg(not(test))]
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
#[cfg(test)]
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often health is written.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// How often sessions that have expired are thrown away, and the others are counted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// So many sessions for each connection that is allowed: a client that takes another name each time would fill the
/// memory with them. Beyond it clients are served without a session that outlives their connection.
const SESSIONS_PER_CONNECTION: usize = 10;

/// What the library needs for every connection.
#[derive(Clone)]
pub(super) struct Embedded {
    pub(super) config: EmbeddedConfig,
    pub(super) router: Arc<MessageRouter>,
    pub(super) storage: Arc<DynamicStorage>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) monitor: Arc<ResourceMonitor>,
    pub(super) stop: broadcast::Sender<()>,
}

/// A broker that listens, or is about to.
pub(super) struct Listener {
    pub(super) source: String,
    pub(super) gate: Arc<Gate>,
    pub(super) embedded: Embedded,
    /// Without TLS.
    pub(super) plain: Option<TcpListener>,
    /// With TLS.
    pub(super) secure: Option<TcpListener>,
    pub(super) tls: Option<ServerTls>,
    pub(super) room: Arc<Semaphore>,
    pub(super) connections: JoinSet<()>,
    pub(super) health: HealthReporter,
    /// What cannot be read again, for health.
    pub(super) problems: Problems,
    pub(super) shutdown: Shutdown,
    pub(super) pipeline_ended: Shutdown,
}

/// What is wrong with files that were read again.
#[derive(Debug, Default)]
pub(super) struct Problems {
    accounts: Option<String>,
    tls: Option<String>,
}

impl Listener {
    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut tell = tokio::time::interval(HEALTH_INTERVAL);
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let reason = loop {
            tokio::select! {
                accepted = accept(self.plain.as_ref()) => self.accepted(accepted, None).await,
                accepted = accept(self.secure.as_ref()) => {
                    let acceptor = self.tls.as_ref().map(ServerTls::acceptor);
                    self.accepted(accepted, acceptor).await;
                }
                Some(ended) = self.connections.join_next() => note_end(&self.source, ended),
                _ = look.tick() => self.refresh().await,
                _ = tell.tick() => self.tell_health(),
                _ = sweep.tick() => self.sweep().await,
                () = self.shutdown.cancelled() => break "stopped",
                () = self.pipeline_ended.cancelled() => break "the pipeline has ended",
            }
        };
        self.health.down(reason);
        self.stop().await;
    }

    async fn accepted(&mut self, accepted: std::io::Result<(TcpStream, SocketAddr)>, acceptor: Option<TlsAcceptor>) {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(source = %self.source, %error, "broker could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            self.gate.tally.refused(Refusal::Connections, "", "somebody", address);
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%address, %error, "broker could not make a connection quick");
        }
        let connection = Connection {
            gate: Arc::clone(&self.gate),
            embedded: self.embedded.clone(),
            stop: self.embedded.stop.subscribe(),
            address,
            _room: room,
        };
        self.connections.spawn(connection.run(stream, acceptor));
    }

    async fn refresh(&mut self) {
        if let Some(tls) = &mut self.tls {
            match tls.refresh() {
                Ok(false) => {}
                Ok(true) => {
                    info!(source = %self.source, "broker certificates read again");
                    self.problems.tls = None;
                }
                Err(error) => self.problems.tls = Some(self.old_stays("certificates", &error)),
            }
        }
        let gate = Arc::clone(&self.gate);
        let refreshed = tokio::task::spawn_blocking(move || gate.accounts.refresh()).await;
        match refreshed {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(reloaded))) => {
                self.problems.accounts = None;
                self.show_out(&reloaded).await;
            }
            Ok(Err(error)) => self.problems.accounts = Some(self.old_stays("accounts", &error)),
            Err(error) => error!(source = %self.source, %error, "reading the broker's accounts panicked"),
        }
    }

    fn old_stays(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> String {
        let chain = kerbside_runtime::Chain(error).to_string();
        error!(source = %self.source, error = chain, "broker {what} cannot be read again; the old ones stay");
        format!("the old {what} stay: {chain}")
    }

    /// Ends the connections of accounts that were revoked.
    async fn show_out(&self, reloaded: &Reloaded) {
        for Somebody { client, account, address } in self.gate.presence.clients_of(&reloaded.revoked) {
            self.embedded.router.disconnect_client(&client).await;
            self.gate.tally.shown_out(Refusal::Revoked, &client, &account, address);
        }
    }

    fn addresses(&self) -> Vec<(SocketAddr, &'static str)> {
        let of = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let plain = of(&self.plain).map(|address| (address, "plain"));
        plain.into_iter().chain(of(&self.secure).map(|address| (address, "TLS"))).collect()
    }

    /// Writes where it listens, who was refused last, and what is wrong.
    pub(super) fn tell_health(&self) {
        let addresses: Vec<String> =
            self.addresses().iter().map(|(address, kind)| format!("{address} ({kind})")).collect();
        let mut detail = format!("listens on {}", addresses.join(" and "));
        if !self.gate.accounts.is_open() {
            detail += &format!("; {} accounts", self.gate.accounts.count());
        }
        if let Some(refusal) = self.gate.tally.last_refusal() {
            detail += &format!("; last refusal: {refusal}");
        }
        let bad_lines = self.gate.accounts.bad_lines();
        let lines = (bad_lines > 0).then(|| format!("{bad_lines} lines of the accounts file cannot be used"));
        let problems: Vec<&str> =
            [&self.problems.tls, &self.problems.accounts, &lines].into_iter().flatten().map(String::as_str).collect();
        if problems.is_empty() {
            self.health.ok_with(detail);
        } else {
            self.health.degraded(format!("{}; {detail}", problems.join("; ")));
        }
    }

    async fn sweep(&self) {
        if let Err(error) = self.embedded.storage.cleanup_expired().await {
            warn!(source = %self.source, %error, "broker could not throw away expired sessions");
        }
        self.embedded.router.sweep_sessions().await;
        if let Ok(clients) = self.embedded.storage.session_client_ids().await {
            self.gate.tally.sessions_are(clients.len());
        }
    }

    async fn stop(mut self) {
        // Nobody is let in any more.
        (self.plain, self.secure) = (None, None);
        // No receiver is no error: nobody is connected.
        drop(self.embedded.stop.send(()));
        let source = self.source.clone();
        let ended = tokio::time::timeout(STOP_WAIT, async {
            while let Some(ended) = self.connections.join_next().await {
                note_end(&source, ended);
            }
        });
        if ended.await.is_err() {
            warn!(source = %self.source, "broker connections did not end in time");
            self.connections.shutdown().await;
        }
    }
}

fn note_end(source: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(source, %error, "a connection of the embedded broker ended by a panic");
    }
}

/// Waits for ever where nobody listens.
async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection, from its first byte.
struct Connection {
    gate: Arc<Gate>,
    embedded: Embedded,
    stop: broadcast::Receiver<()>,
    address: SocketAddr,
    _room: OwnedSemaphorePermit,
}

/// Takes a connection out of the counts however it ends.
struct Leaving(Arc<Guard>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Connection {
    async fn run(mut self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        let Some((transport, certificate)) = self.handshake(stream, acceptor).await else { return };
        let guard = Arc::new(Guard::new(Arc::clone(&self.gate), self.address, certificate));
        let leaving = Leaving(Arc::clone(&guard));
        let Embedded { mut config, router, storage, stats, monitor, .. } = self.embedded;
        if self.gate.tally.sessions() >= self.gate.limits.connections_max.saturating_mul(SESSIONS_PER_CONNECTION) {
            config.session_expiry_interval = Duration::ZERO;
        }
        config.event_handler = Some(Arc::clone(&guard) as Arc<_>);
        let handler = ClientHandler::new(
            transport,
            self.address,
            Arc::new(config),
            router,
            Arc::clone(&guard) as Arc<_>,
            Some(storage),
            stats,
            monitor,
            self.stop,
        );
        if let Err(error) = handler.run().await {
            note_error(&self.gate, &guard, self.address, &error);
        }
        drop(leaving);
    }

    /// The transport, and the certificate that the client showed.
    async fn handshake(
        &mut self,
        stream: TcpStream,
        acceptor: Option<TlsAcceptor>,
    ) -> Option<(BrokerTransport, Option<rustls::pki_types::CertificateDer<'static>>)> {
        let Some(acceptor) = acceptor else { return Some((BrokerTransport::tcp(stream), None)) };
        let finished = tokio::select! {
            finished = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => finished,
            _ = self.stop.recv() => return None,
        };
        match finished {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
                Some((BrokerTransport::tls(TlsStreamWrapper::new(stream)), certificate.map(|one| one.into_owned())))
            }
            Ok(Err(error)) => {
                self.gate.tally.refused_handshake(&error.to_string(), self.address);
                None
            }
            Err(_) => {
                self.gate.tally.refused_handshake("it took too long", self.address);
                None
            }
        }
    }
}

/// Counts what the library itself put an end to.
fn note_error(gate: &Gate, guard: &Guard, address: SocketAddr, error: &MqttError) {
    if !guard.has_come() {
        if !guard.is_refused() {
            let refusal = match error {
                MqttError::PacketTooLarge { .. } => Refusal::Packet,
                _ => Refusal::Handshake,
            };
            debug!(%address, %error, "broker login failed");
            gate.tally.refused(refusal, guard.client_id(), guard.account(), address);
        }
        return;
    }
    let refusal = match error {
        MqttError::PacketTooLarge { .. } => Refusal::Packet,
        MqttError::KeepAliveTimeout | MqttError::Timeout => Refusal::Silence,
        MqttError::ProtocolError(_) | MqttError::MalformedPacket(_) | MqttError::InvalidTopicName(_) => {
            Refusal::Protocol
        }
        _ => return,
    };
    gate.tally.shown_out(refusal, guard.client_id(), guard.account(), address);
}

/// Listens on an address; port 0 takes a free one.
pub(super) async fn bind(listen: SocketAddr) -> Result<TcpListener, BrokerError> {
    TcpListener::bind(listen).await.map_err(|source| BrokerError::Unavailable { listen, source })
}
