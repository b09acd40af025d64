//! Counts what the broker does and refuses, and tells of refusals in the log and in health, at a bounded rate. Keeps
//! counters in memory; the names of the metrics stand in `mod.rs`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kerbside_runtime::{Clock, Metrics};
use mqtt5::QoS;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tracing::warn;

/// So many refusals are logged in each interval; the rest is counted and its number is logged.
const LOGGED_MAX: u32 = 10;
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why somebody was not let in, or was shown out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many connections in all.
    Connections,
    /// The handshake of TLS failed.
    Tls,
    /// No proper CONNECT.
    Handshake,
    /// No account of this name.
    Account,
    /// Not its password.
    Password,
    /// The account is locked.
    Locked,
    /// Too many logins wait for their passwords to be hashed.
    Busy,
    /// Too many clients of one account.
    AccountConnections,
    /// Another account is there under this client id.
    ClientId,
    /// The keep alive is longer than allowed.
    KeepAlive,
    /// A packet was longer than allowed.
    Packet,
    /// Nothing was heard for one and a half keep alives.
    Silence,
    /// The account is no longer there, or its password is another.
    Revoked,
    /// The client broke the rules of MQTT.
    Protocol,
}

/// What an account may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Publish,
    Subscribe,
    Will,
    /// One more subscription than it may have.
    SubscriptionQuota,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Refusal::Connections => "connections",
            Refusal::Tls => "tls",
            Refusal::Handshake => "handshake",
            Refusal::Account => "account",
            Refusal::Password => "password",
            Refusal::Locked => "locked",
            Refusal::Busy => "busy",
            Refusal::AccountConnections => "account_connections",
            Refusal::ClientId => "client_id",
            Refusal::KeepAlive => "keep_alive",
            Refusal::Packet => "packet",
            Refusal::Silence => "silence",
            Refusal::Revoked => "revoked",
            Refusal::Protocol => "protocol",
        }
    }

    /// What a client of MQTT 5 is told; the library translates it for MQTT 3.1.1.
    pub(super) fn code(self) -> ReasonCode {
        match self {
            Refusal::Account | Refusal::Password => ReasonCode::BadUsernameOrPassword,
            Refusal::Locked => ReasonCode::Banned,
            Refusal::Busy | Refusal::Connections => ReasonCode::ServerBusy,
            Refusal::AccountConnections | Refusal::KeepAlive => ReasonCode::QuotaExceeded,
            Refusal::ClientId => ReasonCode::ClientIdentifierNotValid,
            _ => ReasonCode::NotAuthorized,
        }
    }
}

impl Denied {
    const ALL: [Denied; 4] = [Denied::Publish, Denied::Subscribe, Denied::Will, Denied::SubscriptionQuota];

    fn label(self) -> &'static str {
        match self {
            Denied::Publish => "publish",
            Denied::Subscribe => "subscribe",
            Denied::Will => "will",
            Denied::SubscriptionQuota => "subscription_quota",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Refusal::Connections => "as many connections as connections_max allows",
            Refusal::Tls => "the TLS handshake failed",
            Refusal::Handshake => "no MQTT CONNECT that can be taken",
            Refusal::Account => "no account of this name",
            Refusal::Password => "not the password of this account",
            Refusal::Locked => "the account is locked",
            Refusal::Busy => "too many logins wait",
            Refusal::AccountConnections => "as many clients as connections_per_account_max allows",
            Refusal::ClientId => "another account is connected under this client id",
            Refusal::KeepAlive => "the keep alive is longer than keep_alive_max",
            Refusal::Packet => "a packet is longer than packet_bytes_max",
            Refusal::Silence => "nothing was heard within the keep alive",
            Refusal::Revoked => "the account is gone, locked or has another password",
            Refusal::Protocol => "the client broke the rules of MQTT",
        })
    }
}

/// The counters of one broker.
#[derive(Debug)]
pub(super) struct Tally {
    source: String,
    connections: IntGauge,
    sessions: IntGauge,
    accepted: IntCounter,
    connects: IntCounterVec,
    messages: [IntCounter; 3],
    bytes: IntCounter,
    slowed: IntCounter,
    refused: IntCounterVec,
    denied: IntCounterVec,
    notes: Mutex<Notes>,
}

/// What is told to people.
#[derive(Debug, Default)]
struct Notes {
    last: Option<String>,
    interval_began: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl Tally {
    pub(super) fn new(source: &str, metrics: &Metrics) -> Tally {
        let counter = |name: &str, help: &str| metrics.counters(name, help, &["source"]).with_label_values(&[source]);
        let messages =
            metrics.counters("kerbside_broker_messages_total", "Messages that were taken over.", &["source", "qos"]);
        let connects = metrics.counters(
            "kerbside_broker_connects_total",
            "Attempts of clients to connect.",
            &["source", "result"],
        );
        let denied = metrics.counters(
            "kerbside_broker_acl_denied_total",
            "What clients wanted and their accounts do not allow.",
            &["source", "action"],
        );
        for action in Denied::ALL {
            denied.with_label_values(&[source, action.label()]).inc_by(0);
        }
        Tally {
            connections: metrics
                .gauges("kerbside_broker_connections", "Clients that are connected.", &["source"])
                .with_label_values(&[source]),
            sessions: metrics
                .gauges("kerbside_broker_sessions", "Sessions of clients, also of absent ones.", &["source"])
                .with_label_values(&[source]),
            accepted: connects.with_label_values(&[source, "accepted"]),
            connects,
            messages: ["0", "1", "2"].map(|qos| messages.with_label_values(&[source, qos])),
            bytes: counter("kerbside_broker_bytes_total", "Bytes of topics and payloads that were taken over."),
            slowed: counter("kerbside_broker_slowed_total", "Messages that waited for their client's rate limit."),
            refused: metrics.counters(
                "kerbside_broker_refused_total",
                "Clients that were not let in or were shown out, by the reason.",
                &["source", "reason"],
            ),
            denied,
            notes: Mutex::default(),
            source: source.to_owned(),
        }
    }

    pub(super) fn came(&self) {
        self.accepted.inc();
        self.connections.inc();
        // Perhaps it is not a new one: the next count says so.
        self.sessions.inc();
    }

    pub(super) fn sessions_are(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many there may be: those of the last count, and one for each client that came since.
    pub(super) fn sessions(&self) -> usize {
        usize::try_from(self.sessions.get()).unwrap_or_default()
    }

    pub(super) fn left(&self) {
        self.connections.dec();
    }

    pub(super) fn taken(&self, qos: QoS, bytes: usize) {
        let position = match qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        };
        self.messages[position].inc();
        self.bytes.inc_by(bytes as u64);
    }

    pub(super) fn slowed(&self) {
        self.slowed.inc();
    }

    /// Somebody who wanted to come in and may not.
    pub(super) fn refused(&self, refusal: Refusal, client: &str, username: &str, address: SocketAddr) {
        self.connects.with_label_values(&[&self.source, "refused"]).inc();
        self.count_and_tell(refusal, client, username, address);
    }

    /// A connection whose TLS handshake failed: who it is, nobody knows yet, but why.
    pub(super) fn refused_handshake(&self, cause: &str, address: SocketAddr) {
        self.connects.with_label_values(&[&self.source, "refused"]).inc();
        self.refused.with_label_values(&[self.source.as_str(), Refusal::Tls.label()]).inc();
        if self.tell(format!("{address}: {}: {cause}", Refusal::Tls)) {
            warn!(source = %self.source, %address, cause, "broker TLS handshake failed");
        }
    }

    /// Somebody who was in and must go.
    pub(super) fn shown_out(&self, refusal: Refusal, client: &str, username: &str, address: SocketAddr) {
        self.count_and_tell(refusal, client, username, address);
    }

    /// Something that an account may not do.
    pub(super) fn denied(&self, action: Denied, account: &str, topic: &str) {
        self.denied.with_label_values(&[&self.source, action.label()]).inc();
        let what = match action {
            Denied::Publish => "may not publish",
            Denied::Subscribe => "may not subscribe to",
            Denied::Will => "may not leave a will, or one that is retained, for",
            Denied::SubscriptionQuota => "has too many subscriptions for",
        };
        if self.tell(format!("{account} {what} {topic}")) {
            warn!(source = %self.source, account, topic, action = action.label(), "broker access denied");
        }
    }

    fn count_and_tell(&self, refusal: Refusal, client: &str, username: &str, address: SocketAddr) {
        self.refused.with_label_values(&[self.source.as_str(), refusal.label()]).inc();
        if self.tell(format!("{username} at {address}: {refusal}")) {
            warn!(source = %self.source, client, username, %address, reason = %refusal, "broker client refused");
        }
    }

    /// The last thing that was refused, for health.
    pub(super) fn last_refusal(&self) -> Option<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// Whether this refusal is to be logged.
    fn tell(&self, text: String) -> bool {
        let now = Clock::stamp();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.last = Some(text);
        let is_new = notes.interval_began.is_none_or(|began| now.duration_since(began) >= LOG_INTERVAL);
        if is_new {
            if notes.suppressed > 0 {
                warn!(source = %self.source, count = notes.suppressed, "broker refusals were not logged one by one");
            }
            (notes.interval_began, notes.logged, notes.suppressed) = (Some(now), 0, 0);
        }
        if notes.logged < LOGGED_MAX {
            notes.logged += 1;
            return true;
        }
        notes.suppressed += 1;
        false
    }
}
