//! What the embedded broker is told: where it listens, who may come in, what each may do, and every limit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kerbside_runtime::Secret;

use super::rights::{Rights, is_account_name};
use super::tls::ServerTlsError;

/// The shortest packet limit that the broker takes.
const PACKET_BYTES_MIN: usize = 1024;

/// The embedded broker.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Name of the source in the configuration.
    pub name: String,
    /// Where to listen; port 0 takes a free one. Without accounts only a loopback address is possible.
    pub listen: SocketAddr,
    /// TLS, on `listen` itself or beside it.
    pub tls: Option<BrokerTls>,
    /// Accounts with their passwords; without these, a file or certificates of clients everybody gets in.
    pub accounts: Vec<BrokerAccount>,
    /// A file with a line `NAME:HASH` for each device, read again when it changes.
    pub accounts_file: Option<PathBuf>,
    /// What accounts of the file, and devices with a certificate, may do.
    pub device_rights: Rights,
    /// Limits.
    pub limits: BrokerLimits,
}

/// Certificates of the broker, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerTls {
    /// Where to listen with TLS beside the plain connections; `None` lets only TLS in, at the broker's own address.
    pub listen: Option<SocketAddr>,
    /// Our certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of devices. With it a client without a certificate of theirs is not let in.
    pub client_ca: Option<PathBuf>,
}

/// Somebody whose password stands in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerAccount {
    /// User name.
    pub name: String,
    /// Password.
    pub password: Secret,
    /// What it may do.
    pub rights: Rights,
}

/// Every limit of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Connections at a time, also those that have not yet said who they are.
    pub connections_max: usize,
    /// Clients of one account at a time.
    pub connections_per_account_max: usize,
    /// Longest packet that is taken, bytes; a longer one ends its connection.
    pub packet_bytes_max: usize,
    /// Messages at QoS 1 and 2 of one client on their way to us: told to clients of MQTT 5, enforced at QoS 2.
    pub inflight_max: u16,
    /// Messages a second of one client, after a burst of ten seconds' worth; what is above waits.
    pub messages_per_second_max: u32,
    /// Longest keep alive that a client may ask for.
    pub keep_alive_max: Duration,
    /// Subscriptions of one client.
    pub subscriptions_max: usize,
    /// Messages that wait for one slow or absent subscriber; beyond it the oldest go.
    pub queued_messages_max: usize,
    /// Bytes that wait for one slow or absent subscriber; beyond it the oldest messages go.
    pub queued_bytes_max: usize,
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
    #[error(
        "use account {username:?}: names are unique and have no blank and none of / + # : $, and no password is empty"
    )]
    Account {
        /// As configured.
        username: String,
    },
    /// The file with accounts cannot be read.
    #[error("read accounts from {}", path.display())]
    AccountsFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates or key cannot be used.
    #[error("serve TLS")]
    Tls(#[from] ServerTlsError),
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
    /// The broker library cannot begin.
    #[error("prepare the broker's sessions")]
    Prepare(#[source] mqtt5::MqttError),
}

impl BrokerConfig {
    /// Whether anybody gets in without saying who he is.
    pub(super) fn is_open(&self) -> bool {
        self.accounts.is_empty() && self.accounts_file.is_none() && !self.asks_for_certificates()
    }

    fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// Every address that is listened on, with whether TLS is spoken there.
    pub fn listens(&self) -> Vec<(SocketAddr, bool)> {
        match &self.tls {
            None => vec![(self.listen, false)],
            Some(BrokerTls { listen: None, .. }) => vec![(self.listen, true)],
            Some(BrokerTls { listen: Some(beside), .. }) => vec![(self.listen, false), (*beside, true)],
        }
    }
}

pub(super) fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    let no_passwords = config.accounts.is_empty() && config.accounts_file.is_none();
    for (listen, is_tls) in config.listens() {
        let is_open = no_passwords && !(is_tls && config.asks_for_certificates());
        if is_open && !listen.ip().is_loopback() {
            return Err(BrokerError::OpenToAll { listen });
        }
    }
    for (index, account) in config.accounts.iter().enumerate() {
        let is_double = config.accounts[..index].iter().any(|other| other.name == account.name);
        if !is_account_name(&account.name) || account.password.expose().is_empty() || is_double {
            return Err(BrokerError::Account { username: account.name.clone() });
        }
    }
    let limits = &config.limits;
    let keep_alive_seconds = usize::try_from(limits.keep_alive_max.as_secs()).unwrap_or(usize::MAX);
    for (setting, value, least) in [
        ("packet limit", limits.packet_bytes_max, PACKET_BYTES_MIN),
        ("connection limit", limits.connections_max, 1),
        ("connection limit of an account", limits.connections_per_account_max, 1),
        ("limit of messages under way", usize::from(limits.inflight_max), 1),
        ("message rate", limits.messages_per_second_max as usize, 1),
        ("keep alive limit in seconds", keep_alive_seconds, 1),
        ("subscription limit", limits.subscriptions_max, 1),
        ("limit of queued messages", limits.queued_messages_max, 1),
        ("limit of queued bytes", limits.queued_bytes_max, PACKET_BYTES_MIN),
    ] {
        if value < least {
            return Err(BrokerError::Range { setting, value, least });
        }
    }
    Ok(())
}
