//! Where `kerbside listen` listens: a broker of a URL, or a source of the configuration without its session.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_model::id::content_hash;
use kerbside_runtime::tls::TlsFiles;
use kerbside_runtime::{Clock, Secret};
use kerbside_sources::mqtt::{
    Credential, MqttConfig, MqttVersion, OversizePolicy, Rebirth, SessionKind, TopicFilter, Transport,
};

/// IANA's ports for MQTT, without TLS and with it.
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;
/// Half of what mobile networks commonly allow a silent connection, as for the sources of a gateway.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The longest message that is shown at all.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// Brokers of MQTT 3.1 take no client id that is longer than 23 bytes.
const CLIENT_ID_DIGITS: usize = 8;

/// What a URL should not hold, because others on the machine could read it.
pub(super) struct Access<'a> {
    pub(super) password_file: Option<&'a Path>,
    pub(super) ca: Option<&'a Path>,
}

/// The broker of a URL such as `mqtt://user@host:1883`.
pub(super) fn of_url(url: &str, topics: &[String], access: &Access<'_>) -> anyhow::Result<MqttConfig> {
    let parsed = reqwest::Url::parse(url).with_context(|| format!("read --broker {url:?}: write mqtt://host:1883"))?;
    let is_tls = match parsed.scheme() {
        "mqtt" => false,
        "mqtts" => true,
        other => bail!("read --broker {url:?}: {other} is neither mqtt nor mqtts"),
    };
    let Some(host) = parsed.host_str().filter(|host| !host.is_empty()) else {
        bail!("read --broker {url:?}: it names no host");
    };
    if parsed.password().is_some() {
        bail!("read --broker: a password in it can be seen by others on this machine, write it into --password-file");
    }
    if access.ca.is_some() && !is_tls {
        bail!("use --ca with {url:?}: only mqtts:// has certificates");
    }
    let password = match access.password_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            Some(credential(text.trim_end_matches(['\r', '\n'])))
        }
        None => None,
    };
    let user = Some(parsed.username()).filter(|user| !user.is_empty());
    if user.is_none() && password.is_some() {
        bail!("use --password-file: the URL names no user, write mqtt://user@{host}");
    }
    Ok(MqttConfig {
        name: "listen".to_owned(),
        host: host.trim_matches(['[', ']']).to_owned(),
        port: parsed.port().unwrap_or(if is_tls { PORT_TLS } else { PORT }),
        transport: Transport::Tcp,
        version: MqttVersion::V311,
        client_id: client_id(),
        username: user.map(|user| credential(&unescaped(user))),
        password,
        tls: is_tls.then(|| TlsFiles { ca: access.ca.map(Path::to_owned), certificate: None, key: None }),
        topics: topics.iter().map(|filter| TopicFilter { filter: filter.clone(), qos: 0 }).collect(),
        keep_alive: KEEP_ALIVE,
        session: SessionKind::Clean,
        session_expiry: Duration::ZERO,
        receive_maximum: u16::MAX,
        packet_bytes_max: PACKET_BYTES_MAX,
        oversize: OversizePolicy::Skip,
        user_properties: Vec::new(),
        backoff_max: BACKOFF_MAX,
        sparkplug: Some(Rebirth::Never),
        state_folder: None,
    })
}

/// A source of the configuration, by one who only looks.
pub(super) fn as_listener(source: &MqttConfig) -> MqttConfig {
    let topics = source.topics.iter().map(|topic| TopicFilter { filter: unshared(&topic.filter).to_owned(), qos: 0 });
    MqttConfig {
        client_id: client_id(),
        session: SessionKind::Clean,
        session_expiry: Duration::ZERO,
        topics: topics.collect(),
        backoff_max: BACKOFF_MAX,
        // What a node is asked for would come to the gateway as well.
        sparkplug: source.sparkplug.map(|_| Rebirth::Never),
        state_folder: None,
        ..source.clone()
    }
}

/// A member of a shared subscription would take messages away from the gateway.
fn unshared(filter: &str) -> &str {
    let of_group = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    of_group.map_or(filter, |(_, own)| own)
}

fn credential(text: &str) -> Credential {
    Credential { value: Secret::new(text), file: None }
}

/// Another one each time, so that neither a gateway nor a second listener is thrown out by the broker.
fn client_id() -> String {
    let moment = format!("{} {}", std::process::id(), Clock::System.now().as_millis());
    let mut digits = content_hash(moment.as_bytes());
    digits.truncate(CLIENT_ID_DIGITS);
    format!("kerbside-{digits}")
}

/// Percent signs with two hexadecimal digits become their bytes.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                at += 3;
            }
            None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Access<'static> = Access { password_file: None, ca: None };

    #[test]
    fn a_url_gives_host_port_and_user_and_leaves_nothing_at_the_broker() {
        let config = of_url("mqtt://a%40b@10.0.0.1", &["city/#".to_owned()], &NOTHING).unwrap();
        assert_eq!((config.host.as_str(), config.port, config.tls.is_some()), ("10.0.0.1", 1883, false));
        assert_eq!(config.username.unwrap().value.expose(), "a@b");
        assert_eq!((config.session, config.topics[0].qos), (SessionKind::Clean, 0));
        assert!(config.client_id.len() <= 23, "{}", config.client_id);
        let secure = of_url("mqtts://broker.example", &["#".to_owned()], &NOTHING).unwrap();
        assert_eq!((secure.port, secure.tls.is_some()), (8883, true));
    }

    #[test]
    fn a_url_that_cannot_be_used_says_what_to_write() {
        for (url, expected) in
            [("http://x", "neither mqtt nor mqtts"), ("mqtt://u:p@x", "--password-file"), ("x", "mqtt://host:1883")]
        {
            let error = format!("{:#}", of_url(url, &["#".to_owned()], &NOTHING).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_shared_subscription_of_the_gateway_is_not_joined() {
        assert_eq!(unshared("$share/kerbside/city/+/up"), "city/+/up");
        assert_eq!(unshared("city/+/up"), "city/+/up");
    }
}
