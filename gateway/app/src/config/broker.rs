//! `type: broker`: the embedded broker that devices connect to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kerbside_model::document::Section;
use kerbside_sources::broker::BrokerConfig;

use super::account;
use super::address::{self, Address};
use super::read::{self, Context};

/// The source that is there when no broker is configured.
pub(super) const DEFAULT_NAME: &str = "broker";
/// Any prefix, district and kind: `city/d01/manhole/MH-000123/up`.
pub(super) const DEFAULT_TEMPLATE: &str = "+/+/+/{device}/up";
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
/// A connection costs a file descriptor (1,024 by default on Linux) and some tens of kilobytes.
const CONNECTIONS_MAX: usize = 1_000;
const PACKET_BYTES_MAX: usize = 256 << 10;

/// The embedded broker as it is when no broker is configured.
pub(super) fn default() -> (BrokerConfig, Address) {
    let config = BrokerConfig {
        name: DEFAULT_NAME.to_owned(),
        listen: LISTEN,
        accounts: Vec::new(),
        packet_bytes_max: PACKET_BYTES_MAX,
        connections_max: CONNECTIONS_MAX,
    };
    (config, Address::of_template(DEFAULT_TEMPLATE))
}

/// Reads one source. `None` when its address rule is wrong, which is then a problem.
pub(super) fn read(name: &str, section: &Section<'_>, context: &Context<'_>) -> (BrokerConfig, Option<Address>) {
    let accounts = account::read(section, context);
    let listen = read::listen(section, "listen", LISTEN);
    account::check_listen(section, listen, accounts.len());
    let config = BrokerConfig {
        name: name.to_owned(),
        listen,
        accounts: accounts.into_iter().map(|account| (account.name, account.password)).collect(),
        packet_bytes_max: super::mqtt::packet_bytes_max(section),
        connections_max: read::count(section, "connections_max", CONNECTIONS_MAX, 1..=1_000_000),
    };
    let address = match section.has("address") {
        true => address::address(section),
        false => Some(Address::of_template(DEFAULT_TEMPLATE)),
    };
    (config, address)
}
