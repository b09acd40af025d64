//! `type: broker`: the embedded broker that devices connect to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kerbside_model::EnvelopeFormat;
use kerbside_model::document::Section;
use kerbside_model::topic::DEVICE;
use kerbside_sources::broker::{
    ACCOUNT, BrokerAccount, BrokerConfig, BrokerLimits, BrokerTls, Rights, TopicPattern, is_account_name,
};

use super::address::{self, Address};
use super::read::{self, Context};
use super::{envelope, secrets};

/// The source that is there when no broker is configured.
pub(super) const DEFAULT_NAME: &str = "broker";
/// Any prefix, district and kind: `city/d01/manhole/MH-000123/up`.
pub(super) const DEFAULT_TEMPLATE: &str = "+/+/+/{device}/up";
/// IANA's port for MQTT, which nobody else on the network reaches.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
/// IANA's port for MQTT over TLS.
const LISTEN_TLS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8883);
/// A connection costs a file descriptor (1,024 by default on Linux) and some tens of kilobytes.
const CONNECTIONS_MAX: usize = 1_000;
const CONNECTIONS_LIMIT: i64 = 1_000_000;
const PACKET_BYTES_MAX: usize = 256 << 10;
/// A device has few messages under way; at QoS 2 each is kept in memory.
const INFLIGHT_MAX: usize = 100;
/// A hundred times what the fastest street device sends; a babbling one is held at it.
const MESSAGES_PER_SECOND_MAX: usize = 100;
/// The packet has two bytes of seconds for it, so nobody is refused.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);
const SUBSCRIPTIONS_MAX: usize = 32;
const QUEUED_MESSAGES_MAX: usize = 1_000;
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// The embedded broker as it is when no broker is configured.
pub(super) fn default() -> (BrokerConfig, Address) {
    let address = Address::of_template(DEFAULT_TEMPLATE);
    let config = BrokerConfig {
        name: DEFAULT_NAME.to_owned(),
        listen: LISTEN,
        tls: None,
        accounts: Vec::new(),
        accounts_file: None,
        device_rights: Rights { publish: below_own_name(Some(&address)), subscribe: Vec::new() },
        limits: BrokerLimits {
            connections_max: CONNECTIONS_MAX,
            connections_per_account_max: CONNECTIONS_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            inflight_max: u16::try_from(INFLIGHT_MAX).expect("it is a small number"),
            messages_per_second_max: u32::try_from(MESSAGES_PER_SECOND_MAX).expect("it is a small number"),
            keep_alive_max: KEEP_ALIVE_MAX,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            queued_messages_max: QUEUED_MESSAGES_MAX,
            queued_bytes_max: QUEUED_BYTES_MAX,
        },
    };
    (config, address)
}

/// Reads one source. `None` when its address rule is wrong, which is then a problem.
pub(super) fn read(name: &str, section: &Section<'_>, context: &Context<'_>) -> (BrokerConfig, Option<Address>) {
    let address = match section.has("address") {
        true => address::address(section),
        false => Some(Address::of_template(DEFAULT_TEMPLATE)),
    };
    let address = envelope::with_envelopes(section, address);
    check_envelopes(section, address.as_ref());
    let tls = tls(section, context);
    let only_tls = tls.as_ref().is_some_and(|tls| tls.listen.is_none());
    let config = BrokerConfig {
        name: name.to_owned(),
        listen: read::listen(section, "listen", if only_tls { LISTEN_TLS } else { LISTEN }),
        tls,
        accounts: accounts(section, context),
        accounts_file: accounts_file(section, context),
        device_rights: device_rights(section, address.as_ref()),
        limits: limits(section),
    };
    check_listen(section, &config, context);
    (config, address)
}

/// Data of Sparkplug are named on the way from a broker, and the embedded one hands over what came.
fn check_envelopes(section: &Section<'_>, address: Option<&Address>) {
    let envelopes = address.map(|address| address.envelopes.as_slice()).unwrap_or_default();
    if envelopes.iter().any(|rule| rule.format == EnvelopeFormat::SparkplugB) {
        let mend =
            "let the nodes publish to a broker of their own, such as Mosquitto, and read it with a source of type mqtt";
        section.problem("envelope", "sparkplug_b", "the embedded broker does not know births", mend);
    }
}

fn tls(section: &Section<'_>, context: &Context<'_>) -> Option<BrokerTls> {
    let inner = section.section("tls")?;
    let listen = inner.has("listen").then(|| read::listen(&inner, "listen", LISTEN_TLS));
    let client_ca = read::optional_pem(&inner, "client_ca", context);
    let certificate = read::optional_pem(&inner, "certificate", context);
    let key = read::optional_pem(&inner, "key", context);
    for (file, name) in [(&certificate, "certificate"), (&key, "key")] {
        if file.is_none() && inner.node(name).is_none() {
            inner.missing(name, "a broker needs a certificate and its key; docs/broker.md says how to make them");
        }
    }
    inner.finish();
    Some(BrokerTls { listen, certificate: certificate?, key: key?, client_ca })
}

fn accounts(section: &Section<'_>, context: &Context<'_>) -> Vec<BrokerAccount> {
    let mut accounts: Vec<BrokerAccount> = Vec::new();
    for inner in section.sections("accounts") {
        let name = inner.required_text("name", "write the user's name");
        let password = secrets::required(&inner, "password", context);
        if !name.is_empty() && !is_account_name(&name) {
            let what = "a user's name has at most 128 bytes, no blank, and none of / + # : $";
            inner.problem("name", &name, what, "leave them out");
        } else if accounts.iter().any(|other| other.name == name) {
            inner.problem("name", &name, "there is another account of this name", "keep one of the two");
        }
        let mut rights = Rights::everything();
        if inner.has("publish") {
            rights.publish = patterns(&inner, "publish");
        }
        if inner.has("subscribe") {
            rights.subscribe = patterns(&inner, "subscribe");
        }
        accounts.push(BrokerAccount { name, password, rights });
        inner.finish();
    }
    accounts
}

fn accounts_file(section: &Section<'_>, context: &Context<'_>) -> Option<std::path::PathBuf> {
    let text = section.text("accounts_file")?;
    let path = context.resolve(&text);
    if let Err(error) = context.environment.read(&path) {
        let what = format!("this file cannot be read: {error}");
        section.problem("accounts_file", &text, what, "make it with `kerbside broker account`, or correct the path");
    }
    Some(path)
}

/// What devices with an account of their own may do. They publish below their own name unless the file says else.
fn device_rights(section: &Section<'_>, address: Option<&Address>) -> Rights {
    let subscribe = patterns(section, "subscribe");
    if section.has("publish") {
        return Rights { publish: patterns(section, "publish"), subscribe };
    }
    let publish = below_own_name(address);
    if publish.is_empty() && section.has("accounts_file") {
        let mend = "write where a device may publish: publish: [\"city/+/+/{account}/#\"]";
        section.missing("publish", mend);
    }
    Rights { publish, subscribe }
}

/// Everything below the level that names the device: what `city/+/+/{device}/up` gives is `city/+/+/{account}/#`.
fn below_own_name(address: Option<&Address>) -> Vec<TopicPattern> {
    let template = address.and_then(|address| address.template.as_deref());
    let Some((above, _below)) = template.and_then(|template| template.split_once(DEVICE)) else { return Vec::new() };
    // Other names in braces stand for one level each.
    let above: String =
        above.split_inclusive('/').map(|level| if level.contains('{') { "+/" } else { level }).collect();
    TopicPattern::parse(&format!("{above}{ACCOUNT}/#")).into_iter().collect()
}

fn patterns(section: &Section<'_>, key: &'static str) -> Vec<TopicPattern> {
    let mut patterns = Vec::new();
    for text in section.texts(key) {
        match TopicPattern::parse(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(what) => {
                let mend = "write a topic filter; {account} stands for the name of the account, as a whole level";
                section.problem(key, &text, what, mend);
            }
        }
    }
    patterns
}

fn limits(section: &Section<'_>) -> BrokerLimits {
    let connections_max = read::count(section, "connections_max", CONNECTIONS_MAX, 1..=CONNECTIONS_LIMIT);
    let of_account = "connections_per_account_max";
    let inflight_max = read::count(section, "inflight_max", INFLIGHT_MAX, 1..=65_535);
    let rate = read::count(section, "messages_per_second_max", MESSAGES_PER_SECOND_MAX, 1..=1_000_000);
    let second = Duration::from_secs(1);
    BrokerLimits {
        connections_max,
        connections_per_account_max: read::count(section, of_account, connections_max, 1..=CONNECTIONS_LIMIT),
        packet_bytes_max: super::mqtt::packet_bytes_max(section),
        inflight_max: u16::try_from(inflight_max).expect("checked against the limit of 16 bits"),
        messages_per_second_max: u32::try_from(rate).expect("checked against a limit below that of 32 bits"),
        keep_alive_max: read::duration(section, "keep_alive_max", KEEP_ALIVE_MAX, second..=KEEP_ALIVE_MAX),
        subscriptions_max: read::count(section, "subscriptions_max", SUBSCRIPTIONS_MAX, 1..=10_000),
        queued_messages_max: read::count(section, "queued_messages_max", QUEUED_MESSAGES_MAX, 1..=100_000),
        queued_bytes_max: read::memory_bytes(section, "queued_bytes_max", QUEUED_BYTES_MAX, 1 << 10..=64 << 20),
    }
}

/// Refuses to listen beyond this machine while nobody has to show who he is, and warns of passwords in the clear.
fn check_listen(section: &Section<'_>, config: &BrokerConfig, context: &Context<'_>) {
    let has_passwords = !config.accounts.is_empty() || config.accounts_file.is_some();
    let asks_for_certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let listens = config.listens();
    for (position, (listen, is_tls)) in listens.iter().enumerate() {
        let key = if position == 0 { "listen" } else { "tls" };
        if listens[..position].iter().any(|(other, _)| other == listen && listen.port() != 0) {
            let mend = "give TLS a port of its own, or leave tls.listen out to have TLS alone";
            section.problem(key, &listen.to_string(), "plain and TLS connections cannot share an address", mend);
        }
        if listen.ip().is_loopback() {
            continue;
        }
        let is_open = !(has_passwords || *is_tls && asks_for_certificates);
        if is_open {
            let what = "this listens beyond the machine itself, and no accounts are configured";
            let mend = "listen on 127.0.0.1, write accounts here: [{name: pole, password: {file: PATH}}], or name an \
                        accounts_file";
            section.problem(key, &listen.to_string(), what, mend);
        } else if !is_tls {
            let source = &config.name;
            context.notice(format!(
                "source {source} listens on {listen} without TLS: passwords and alarms cross the network in the clear"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kerbside_model::document::Problem;

    use super::super::MemoryEnvironment;
    use super::*;

    fn texts(patterns: &[TopicPattern]) -> Vec<&str> {
        patterns.iter().map(TopicPattern::as_str).collect()
    }

    fn load(text: &str) -> Result<BrokerConfig, Vec<Problem>> {
        let environment = MemoryEnvironment::default()
            .with_file("etc/gateway.yaml", format!("data_dir: data\nsources:\n  own:\n    type: broker\n{text}"))
            .with_file("etc/a.pem", "-----BEGIN CERTIFICATE-----")
            .with_file("etc/a.key", "-----BEGIN PRIVATE KEY-----")
            .with_file("etc/devices", "MH-1:!\n");
        let config = crate::config::load(Path::new("etc/gateway.yaml"), &environment)?;
        Ok(config.brokers.into_iter().next().expect("there is one broker"))
    }

    #[test]
    fn every_key_of_the_broker_is_read() {
        let config = load(
            "    listen: 127.0.0.1:2883
    tls: {listen: '0.0.0.0:9883', certificate: a.pem, key: a.key, client_ca: a.pem}
    accounts:
      - {name: lora, password: one, publish: ['lora/#'], subscribe: ['lora/+/down']}
      - {name: bridge, password: two}
    accounts_file: devices
    publish: ['city/+/+/{account}/up', 'city/+/+/{account}/event']
    subscribe: 'city/+/+/{account}/down'
    packet_bytes_max: 64KiB
    connections_max: 200
    connections_per_account_max: 2
    inflight_max: 10
    messages_per_second_max: 5
    keep_alive_max: 10m
    subscriptions_max: 3
    queued_messages_max: 50
    queued_bytes_max: 256KiB
",
        )
        .unwrap();
        let expected = [("127.0.0.1:2883".parse().unwrap(), false), ("0.0.0.0:9883".parse().unwrap(), true)];
        assert_eq!(config.listens(), expected);
        let tls = config.tls.unwrap();
        assert_eq!((tls.certificate, tls.client_ca), ("etc/a.pem".into(), Some("etc/a.pem".into())));
        assert_eq!(texts(&config.accounts[0].rights.publish), ["lora/#"]);
        assert_eq!(texts(&config.accounts[0].rights.subscribe), ["lora/+/down"]);
        assert_eq!(config.accounts[1].rights, Rights::everything());
        assert_eq!(config.accounts_file.as_deref(), Some(Path::new("etc/devices")));
        assert_eq!(texts(&config.device_rights.publish), ["city/+/+/{account}/up", "city/+/+/{account}/event"]);
        assert_eq!(texts(&config.device_rights.subscribe), ["city/+/+/{account}/down"]);
        let expected = BrokerLimits {
            packet_bytes_max: 64 << 10,
            connections_max: 200,
            connections_per_account_max: 2,
            inflight_max: 10,
            messages_per_second_max: 5,
            keep_alive_max: Duration::from_secs(600),
            subscriptions_max: 3,
            queued_messages_max: 50,
            queued_bytes_max: 256 << 10,
        };
        assert_eq!(config.limits, expected);
    }

    #[test]
    fn tls_alone_takes_the_port_of_mqtt_over_tls() {
        let config = load("    tls: {certificate: a.pem, key: a.key}\n").unwrap();
        assert_eq!(config.listens(), [("127.0.0.1:8883".parse().unwrap(), true)]);
    }

    #[test]
    fn certificates_of_devices_are_as_good_as_accounts_beyond_the_machine() {
        let tls = "    listen: 0.0.0.0:8883\n    tls: {certificate: a.pem, key: a.key";
        assert!(load(&format!("{tls}, client_ca: a.pem}}\n")).is_ok());
        assert!(load(&format!("{tls}}}\n")).is_err(), "a server's certificate says nothing of its clients");
    }

    #[test]
    fn what_is_wrong_with_a_broker_is_said_where_it_stands() {
        let cases = [
            ("    tls: {certificate: a.pem}\n", "sources.own.tls.key"),
            ("    tls: {certificate: nowhere.pem, key: a.key}\n", "sources.own.tls.certificate"),
            ("    tls: {listen: '127.0.0.1:1883', certificate: a.pem, key: a.key}\n", "sources.own.tls"),
            ("    accounts_file: nowhere\n", "sources.own.accounts_file"),
            ("    accounts_file: devices\n    address: whole\n", "sources.own.publish"),
            ("    publish: 'a/x{account}'\n", "sources.own.publish"),
            ("    subscribe: ['a/#/b']\n", "sources.own.subscribe"),
            ("    accounts: [{name: a/b, password: c}]\n", "sources.own.accounts[0].name"),
            ("    messages_per_second_max: 0\n", "sources.own.messages_per_second_max"),
            ("    keep_alive_max: 1d\n", "sources.own.keep_alive_max"),
        ];
        for (text, key) in cases {
            let problems = load(text).unwrap_err();
            let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
            assert!(keys.contains(&key), "{text}: {keys:?}");
        }
    }

    #[test]
    fn a_device_publishes_below_the_level_that_names_it() {
        for (template, expected) in [
            ("city/+/+/{device}/up", "city/+/+/{account}/#"),
            ("{device}", "{account}/#"),
            ("a/{device}/+/#", "a/{account}/#"),
        ] {
            assert_eq!(texts(&below_own_name(Some(&Address::of_template(template)))), [expected]);
        }
        assert_eq!(below_own_name(None), []);
    }
}
