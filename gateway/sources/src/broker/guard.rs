//! Stands between one connection and the broker: who it is, what it may do, how fast.
//!
//! Turns the library's questions about a connection into answers, and its messages into frames by way of the hook.
//! Keeps what it knows of the connection in memory. Counts by way of the tally.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kerbside_runtime::Clock;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::{
    AuthProvider, AuthResult, BrokerEventHandler, ClientConnectEvent, ClientPublishEvent, ClientSubscribeEvent,
    PublishAction, SubAckReasonCode,
};
use mqtt5::packet::connect::ConnectPacket;
use rustls::pki_types::CertificateDer;

use super::accounts::{Accounts, Entry, Proof};
use super::hook::Hook;
use super::pace::Pace;
use super::presence::{Presence, Somebody};
use super::rights::Permissions;
use super::settings::BrokerLimits;
use super::tally::{Denied, Refusal, Tally};

/// The first version of MQTT that can refuse a single message.
const MQTT_5: u8 = 5;

/// What all connections share.
pub(super) struct Gate {
    pub(super) accounts: Accounts,
    pub(super) hook: Hook,
    pub(super) limits: BrokerLimits,
    pub(super) presence: Presence,
    pub(super) router: Arc<MessageRouter>,
    pub(super) tally: Arc<Tally>,
}

/// The guard of one connection.
pub(super) struct Guard {
    gate: Arc<Gate>,
    address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    client: OnceLock<Client>,
    pace: Mutex<Pace>,
    has_come: AtomicBool,
    /// It was told why it may not come in.
    is_refused: AtomicBool,
    /// Only its will is still to come.
    has_ended: AtomicBool,
}

/// A client that showed who it is.
struct Client {
    id: String,
    account: String,
    permissions: Permissions,
    /// What let it in.
    proof: Proof,
    version: u8,
    will_is_retained: bool,
}

impl Guard {
    pub(super) fn new(gate: Arc<Gate>, address: SocketAddr, certificate: Option<CertificateDer<'static>>) -> Guard {
        let pace = Mutex::new(Pace::new(gate.limits.messages_per_second_max));
        Guard {
            gate,
            address,
            certificate,
            client: OnceLock::new(),
            pace,
            has_come: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        }
    }

    /// Name of the account, as far as it is known.
    pub(super) fn account(&self) -> &str {
        self.client.get().map_or("somebody", |client| &client.account)
    }

    /// Id of the client, as far as it is known.
    pub(super) fn client_id(&self) -> &str {
        self.client.get().map_or("", |client| &client.id)
    }

    pub(super) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Takes the connection out of everything that counts it.
    pub(super) fn leave(&self) {
        if let Some(client) = self.client.get() {
            self.gate.presence.leave(&client.id);
        }
        if self.has_come() {
            self.gate.tally.left();
        }
    }

    async fn admit(&self, connect: &ConnectPacket) -> Result<String, Refusal> {
        let keep_alive_max = self.gate.limits.keep_alive_max.as_secs();
        if u64::from(connect.keep_alive) > keep_alive_max {
            return Err(Refusal::KeepAlive);
        }
        let Entry { account, permissions, proof } =
            self.gate.accounts.login(connect, self.certificate.as_ref()).await?;
        let clients_max = match self.gate.accounts.is_open() {
            true => usize::MAX,
            false => self.gate.limits.connections_per_account_max,
        };
        let somebody = Somebody { client: connect.client_id.clone(), account: account.clone(), address: self.address };
        self.gate.presence.enter(somebody, clients_max)?;
        let client = Client {
            id: connect.client_id.clone(),
            account: account.clone(),
            permissions,
            proof,
            version: connect.protocol_version,
            will_is_retained: connect.will.as_ref().is_some_and(|will| will.retain),
        };
        if self.client.set(client).is_err() {
            // One connection, one CONNECT: the library ends a connection with a second.
            self.gate.presence.leave(&connect.client_id);
            return Err(Refusal::Handshake);
        }
        Ok(account)
    }

    async fn answer(&self, connect: &ConnectPacket) -> AuthResult {
        match self.admit(connect).await {
            Ok(account) => AuthResult::success_with_user(account),
            Err(refusal) => {
                self.is_refused.store(true, Ordering::Relaxed);
                let username = connect.username.as_deref().unwrap_or("(no user name)");
                self.gate.tally.refused(refusal, &connect.client_id, username, self.address);
                AuthResult::fail(refusal.code())
            }
        }
    }

    /// Whether the library goes on with a message. MQTT 3.1.1 has no word for refusing one: there it goes on, and
    /// [`Guard::take`] discards it.
    fn lets_through(&self, topic: &str) -> bool {
        let Some(client) = self.client.get() else { return false };
        if self.has_ended.load(Ordering::Relaxed) {
            return self.lets_will_through(client, topic);
        }
        let may_publish = client.permissions.may_publish(topic);
        if !may_publish {
            self.gate.tally.denied(Denied::Publish, &client.account, topic);
        }
        may_publish || client.version < MQTT_5
    }

    /// A will that is to be retained would stay in memory without a limit.
    fn lets_will_through(&self, client: &Client, topic: &str) -> bool {
        let may_publish = client.permissions.may_publish(topic) && !client.will_is_retained;
        if !may_publish {
            self.gate.tally.denied(Denied::Will, &client.account, topic);
        }
        may_publish
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        let Some(client) = self.client.get() else { return false };
        let may_subscribe = client.permissions.may_subscribe(filter);
        if !may_subscribe {
            self.gate.tally.denied(Denied::Subscribe, &client.account, filter);
        }
        may_subscribe
    }

    async fn take(&self, event: ClientPublishEvent) -> PublishAction {
        let may_publish = self.client.get().is_some_and(|client| client.permissions.may_publish(&event.topic));
        if !may_publish {
            return PublishAction::Handled;
        }
        self.gate.hook.take(event).await
    }

    /// Waits until the client may send once more.
    async fn pace(&self) {
        let wait = self.pace.lock().unwrap_or_else(PoisonError::into_inner).wait(Clock::stamp());
        if !wait.is_zero() {
            self.gate.tally.slowed();
            self.gate.hook.pause(wait).await;
        }
    }

    /// The client is known to the router by now. An account that was revoked after its password was checked was looked
    /// for there in vain, so this looks again.
    async fn come(&self) {
        if !self.has_come.swap(true, Ordering::Relaxed) {
            self.gate.tally.came();
        }
        let Some(client) = self.client.get() else { return };
        if !self.gate.accounts.stands(&client.account, &client.proof) {
            self.gate.router.disconnect_client(&client.id).await;
            self.gate.tally.shown_out(Refusal::Revoked, &client.id, &client.account, self.address);
        }
    }

    fn note_subscriptions(&self, event: &ClientSubscribeEvent) {
        for subscription in &event.subscriptions {
            if subscription.result == SubAckReasonCode::QuotaExceeded {
                self.gate.tally.denied(Denied::SubscriptionQuota, self.account(), &subscription.topic_filter);
            }
        }
    }
}

impl AuthProvider for Guard {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _client_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::Result<AuthResult>> + Send + 'a>> {
        Box::pin(async { Ok(self.answer(connect).await) })
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async {
            // Also what is denied: to refuse costs as much as to take.
            if !self.has_ended.load(Ordering::Relaxed) {
                self.pace().await;
            }
            self.lets_through(topic)
        })
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        topic_filter: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async {
            self.pace().await;
            self.may_subscribe(topic_filter)
        })
    }

    /// The library says so when a connection has ended, before it looks after the will.
    fn cleanup_session<'a>(&'a self, _user_id: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.has_ended.store(true, Ordering::Relaxed);
        Box::pin(ready(()))
    }
}

impl BrokerEventHandler for Guard {
    fn on_client_connect<'a>(&'a self, _event: ClientConnectEvent) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.come())
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.note_subscriptions(&event);
        Box::pin(ready(()))
    }

    fn on_client_publish<'a>(
        &'a self,
        event: ClientPublishEvent,
    ) -> Pin<Box<dyn Future<Output = PublishAction> + Send + 'a>> {
        Box::pin(self.take(event))
    }
}
