//! `type: mqtt`: a broker elsewhere that frames come from.

use std::time::Duration;

use kerbside_model::EnvelopeFormat;
use kerbside_model::document::Section;
use kerbside_model::id::content_hash;
use kerbside_runtime::tls::TlsFiles;
use kerbside_sources::mqtt::{
    Credential, MqttConfig, MqttVersion, OversizePolicy, Rebirth, SessionKind, TopicFilter, Transport,
};

use super::address::{self, Address};
use super::read::{self, Context};
use super::{envelope, secrets};

/// IANA's port for MQTT.
const PORT: u16 = 1883;
/// IANA's port for MQTT over TLS.
const PORT_TLS: u16 = 8883;
/// Half of what mobile networks and their address translation commonly allow a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// IANA's ports for HTTP, which WebSockets begin with.
const PORT_WEBSOCKET: u16 = 80;
const PORT_WEBSOCKET_TLS: u16 = 443;
/// Where most brokers listen for WebSockets.
const PATH: &str = "/mqtt";
/// More user properties than this are no names of places or operators.
const USER_PROPERTIES_MAX: usize = 8;
/// The packet has two bytes of seconds for it.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);
/// How long the broker keeps what it could not deliver, where it lets us choose (MQTT 5).
const SESSION_EXPIRY: Duration = Duration::from_secs(86_400);
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(u32::MAX as u64 - 1);
/// Unacknowledged messages on the way to us. At 30,000 a second and a commit every 100 ms 3,000 are on their way; the
/// rest is for a disk that is slow for a while.
const RECEIVE_MAXIMUM: usize = 20_000;
/// A frame of a street device has hundreds of bytes; a gateway's collection of them tens of thousands.
const PACKET_BYTES_MAX: usize = 256 << 10;
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Reads one source. `None` when it has no usable address rule, which is then a problem.
pub(super) fn read(
    name: &str,
    site: &str,
    section: &Section<'_>,
    context: &Context<'_>,
) -> (MqttConfig, Option<Address>) {
    let tls = tls(section, context);
    let transport = transport(section);
    let second = Duration::from_secs(1);
    let mut config = MqttConfig {
        name: name.to_owned(),
        host: read::host(section),
        port: read::port(section, "port", default_port(&transport, tls.is_some())),
        transport,
        version: section
            .choice("version", &[("3.1.1", MqttVersion::V311), ("5", MqttVersion::V5)])
            .unwrap_or(MqttVersion::V311),
        client_id: client_id(name, site, section),
        username: credential(section, "username", context),
        password: credential(section, "password", context),
        tls,
        topics: address::topics(section, name, context),
        keep_alive: read::duration(section, "keep_alive", KEEP_ALIVE, second..=KEEP_ALIVE_MAX),
        session: SessionKind::Kept,
        session_expiry: read::duration(section, "session_expiry", SESSION_EXPIRY, Duration::ZERO..=SESSION_EXPIRY_MAX),
        receive_maximum: u16::try_from(read::count(section, "receive_maximum", RECEIVE_MAXIMUM, 1..=65_535))
            .expect("checked against the limit of 16 bits"),
        packet_bytes_max: packet_bytes_max(section),
        oversize: section
            .choice("oversize", &[("skip", OversizePolicy::Skip), ("refuse", OversizePolicy::Refuse)])
            .unwrap_or(OversizePolicy::Skip),
        user_properties: user_properties(section),
        backoff_max: backoff_max(section, BACKOFF_MAX),
        sparkplug: None,
        // The wiring knows the folder of the gateway.
        state_folder: None,
    };
    check_version(section, &config);
    let address = envelope::with_envelopes(section, address::address(section));
    if section.node("address").is_none() && address.is_none() {
        section
            .missing("address", "say where the device stands: {topic: \"city/+/+/{device}/up\"} or {payload: devEui}, or name an envelope for every topic");
    }
    if let Some(address) = &address {
        address::check_template(section, address, &config.topics);
    }
    config.sparkplug = sparkplug(section, address.as_ref(), &config.topics);
    (config, address)
}

/// What is done about nodes whose birth was not heard, where any topic speaks Sparkplug.
fn sparkplug(section: &Section<'_>, address: Option<&Address>, topics: &[TopicFilter]) -> Option<Rebirth> {
    let rebirth = section.choice("rebirth", &[("ask", Rebirth::Ask), ("never", Rebirth::Never)]);
    let is_spoken = address?.envelopes.iter().any(|rule| rule.format == EnvelopeFormat::SparkplugB);
    if !is_spoken {
        if rebirth.is_some() {
            let mend = "write envelope: sparkplug_b, or leave this out";
            section.problem("rebirth", "", "only nodes of Sparkplug can be asked for their birth", mend);
        }
        return None;
    }
    if let Some(shared) = topics.iter().find(|topic| topic.filter.starts_with("$share/")) {
        let mend = "leave $share/GROUP/ out: each gateway must hear the whole of a node";
        section.problem("topics", &shared.filter, "a part of what a Sparkplug node sends cannot be read", mend);
    }
    rebirth.or(Some(Rebirth::Ask))
}

/// The largest packet that is taken from a broker or a client.
pub(super) fn packet_bytes_max(section: &Section<'_>) -> usize {
    read::memory_bytes(section, "packet_bytes_max", PACKET_BYTES_MAX, 1 << 10..=64 << 20)
}

/// The longest time between two attempts.
pub(super) fn backoff_max(section: &Section<'_>, default: Duration) -> Duration {
    read::duration(section, "backoff_max", default, Duration::from_millis(100)..=Duration::from_secs(3_600))
}

fn default_port(transport: &Transport, has_tls: bool) -> u16 {
    match (transport, has_tls) {
        (Transport::Tcp, false) => PORT,
        (Transport::Tcp, true) => PORT_TLS,
        (Transport::WebSocket { .. }, false) => PORT_WEBSOCKET,
        (Transport::WebSocket { .. }, true) => PORT_WEBSOCKET_TLS,
    }
}

fn transport(section: &Section<'_>) -> Transport {
    let is_websocket = section.choice("transport", &[("tcp", false), ("websocket", true)]).unwrap_or(false);
    let path = section.text("path");
    if !is_websocket {
        if let Some(path) = path {
            section.problem(
                "path",
                &path,
                "only a WebSocket has a path",
                "write transport: websocket, or leave it out",
            );
        }
        return Transport::Tcp;
    }
    let path = path.unwrap_or_else(|| PATH.to_owned());
    let is_visible = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !is_visible || path.contains('#') {
        section.problem("path", &path, "not the path of a URL", "begin with / and write no blanks and no #");
    }
    Transport::WebSocket { path }
}

/// A secret with the file that it is read from again before each connection.
fn credential(section: &Section<'_>, key: &'static str, context: &Context<'_>) -> Option<Credential> {
    let value = secrets::optional(section, key, context)?;
    Some(Credential { value, file: secrets::file(section, key, context) })
}

fn user_properties(section: &Section<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in section.texts("user_properties") {
        if name.is_empty() || name.len() > 64 || name.starts_with('_') {
            let mend = "write the name of a user property: up to 64 bytes, and no _ at its beginning";
            section.problem("user_properties", &name, "this name cannot be that of a tag", mend);
        } else if names.contains(&name) {
            section.problem("user_properties", &name, "this name stands here twice", "keep one of the two");
        } else {
            names.push(name);
        }
    }
    if names.len() > USER_PROPERTIES_MAX {
        let what = format!("{} user properties are named", names.len());
        section.problem("user_properties", "", what, format!("write at most {USER_PROPERTIES_MAX}"));
    }
    names
}

/// What MQTT 3.1.1 does not know.
fn check_version(section: &Section<'_>, config: &MqttConfig) {
    if config.version == MqttVersion::V5 {
        return;
    }
    let mend = "write version: 5 if the broker speaks it, or leave this out";
    if config.password.is_some() && config.username.is_none() {
        section.missing("username", "a password needs the name of its user in MQTT 3.1.1");
    }
    if !config.user_properties.is_empty() {
        section.problem(
            "user_properties",
            &config.user_properties.join(", "),
            "MQTT 3.1.1 has no user properties",
            mend,
        );
    }
    if config.oversize == OversizePolicy::Refuse {
        section.problem("oversize", "refuse", "MQTT 3.1.1 cannot tell the broker a limit", mend);
    }
}

fn tls(section: &Section<'_>, context: &Context<'_>) -> Option<TlsFiles> {
    let inner = section.section("tls")?;
    let files = TlsFiles {
        ca: read::optional_pem(&inner, "ca", context),
        certificate: read::optional_pem(&inner, "certificate", context),
        key: read::optional_pem(&inner, "key", context),
    };
    match (&files.certificate, &files.key) {
        (Some(_), None) => inner.missing("key", "a certificate of ours needs its key"),
        (None, Some(_)) => inner.missing("certificate", "a key of ours needs its certificate"),
        _ => {}
    }
    inner.finish();
    Some(files)
}

/// The session at the broker hangs on this name, so it must be the same after a restart and never shared.
fn client_id(name: &str, site: &str, section: &Section<'_>) -> String {
    match section.text("client_id") {
        Some(id) if id.len() <= usize::from(u16::MAX) => id,
        Some(_) => {
            section.problem("client_id", "", "longer than 65535 bytes", "write a short name");
            String::new()
        }
        None => format!("kerbside-{}-{name}", slug(site)),
    }
}

/// A name in letters that every broker takes; a hash where a name has none of them, as in Chinese.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { content_hash(name.as_bytes())[..8].to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{MemoryEnvironment, load};

    /// The first source of a configuration with these keys in it, or the problems.
    fn source(keys: &str) -> Result<MqttConfig, String> {
        let text = format!(
            "sources:\n  city:\n    type: mqtt\n    host: broker.example\n    topics: [\"a/+\"]\n    \
             address: {{topic: \"a/{{device}}\"}}\n    {keys}\n"
        );
        let environment = MemoryEnvironment::default()
            .with_file("gateway.yaml", text)
            .with_file("token", "first\n")
            .with_file("credentials/mqtt", "second")
            .with_variable("CREDENTIALS_DIRECTORY", "credentials")
            .with_variable("MQTT_PASSWORD", "third");
        match load(Path::new("gateway.yaml"), &environment) {
            Ok(config) => Ok(config.mqtt[0].clone()),
            Err(problems) => Err(problems.iter().map(|problem| format!("{problem}\n")).collect()),
        }
    }

    #[test]
    fn transport_and_tls_choose_the_port() {
        for (keys, transport, port) in [
            ("version: 5", None, 1883),
            ("tls: {}", None, 8883),
            ("transport: websocket", Some("/mqtt"), 80),
            ("transport: websocket\n    tls: {}\n    path: /ws", Some("/ws"), 443),
            ("transport: websocket\n    port: 9001", Some("/mqtt"), 9001),
        ] {
            let config = source(keys).unwrap();
            let expected = transport.map_or(Transport::Tcp, |path| Transport::WebSocket { path: path.to_owned() });
            assert_eq!((config.transport, config.port), (expected, port), "{keys}");
        }
    }

    #[test]
    fn a_secret_from_a_file_keeps_its_path_to_be_read_again() {
        for (password, value, file) in [
            ("{file: token}", "first", Some("token")),
            ("{credential: mqtt}", "second", Some("credentials/mqtt")),
            ("{env: MQTT_PASSWORD}", "third", None),
            ("{value: fourth}", "fourth", None),
            ("fifth", "fifth", None),
        ] {
            let config = source(&format!("version: 5\n    password: {password}")).unwrap();
            let credential = config.password.unwrap();
            assert_eq!((credential.value.expose(), credential.file.as_deref()), (value, file.map(Path::new)));
        }
    }

    #[test]
    fn what_the_version_or_the_transport_does_not_know_is_a_problem() {
        for (keys, words) in [
            ("password: x", "a password needs the name of its user in MQTT 3.1.1"),
            ("user_properties: [operator]", "MQTT 3.1.1 has no user properties"),
            ("oversize: refuse", "MQTT 3.1.1 cannot tell the broker a limit"),
            ("path: /mqtt", "only a WebSocket has a path"),
            ("transport: websocket\n    path: mqtt", "not the path of a URL"),
            ("version: 5\n    user_properties: [a, a]", "this name stands here twice"),
            ("rebirth: ask", "only nodes of Sparkplug can be asked for their birth"),
            ("envelope: {\"spBv1.0/#\": sparkplug_b}\n    rebirth: maybe", "rebirth"),
            ("version: 5\n    user_properties: [_time]", "this name cannot be that of a tag"),
            ("version: 5\n    user_properties: [a, b, c, d, e, f, g, h, i]", "9 user properties are named"),
        ] {
            let problems = source(keys).expect_err(words);
            assert!(problems.contains(words), "{problems}");
        }
    }

    #[test]
    fn sparkplug_nodes_are_asked_for_their_birth_unless_that_is_not_wanted() {
        let envelope = "envelope: {\"spBv1.0/#\": sparkplug_b}";
        for (keys, rebirth) in [
            ("version: 5".to_owned(), None),
            (envelope.to_owned(), Some(Rebirth::Ask)),
            (format!("{envelope}\n    rebirth: never"), Some(Rebirth::Never)),
        ] {
            assert_eq!(source(&keys).unwrap().sparkplug, rebirth, "{keys}");
        }
    }

    #[test]
    fn a_site_name_becomes_plain_letters_or_a_hash() {
        assert_eq!(slug("Demo District (east)"), "demo-district-east");
        assert_eq!(slug("湖滨").len(), 8);
        assert_ne!(slug("湖滨"), slug("滨湖"));
    }
}
