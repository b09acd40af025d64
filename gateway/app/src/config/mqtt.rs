//! `type: mqtt`: a broker elsewhere that frames come from.

use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_model::id::content_hash;
use kerbside_runtime::tls::TlsFiles;
use kerbside_sources::mqtt::{MqttConfig, MqttVersion};

use super::address::{self, Address};
use super::read::{self, Context};
use super::secrets;

/// IANA's port for MQTT.
const PORT: u16 = 1883;
/// IANA's port for MQTT over TLS.
const PORT_TLS: u16 = 8883;
/// Half of what mobile networks and their address translation commonly allow a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The packet has two bytes of seconds for it.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);
/// How long the broker keeps what it could not deliver, where it lets us choose (MQTT 5).
const SESSION_EXPIRY: Duration = Duration::from_secs(86_400);
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(u32::MAX as u64 - 1);
/// Unacknowledged messages on the way to us: a second of full load.
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
    let second = Duration::from_secs(1);
    let config = MqttConfig {
        name: name.to_owned(),
        host: read::host(section),
        port: read::port(section, "port", if tls.is_some() { PORT_TLS } else { PORT }),
        version: section
            .choice("version", &[("3.1.1", MqttVersion::V311), ("5", MqttVersion::V5)])
            .unwrap_or(MqttVersion::V311),
        client_id: client_id(name, site, section),
        username: section.text("username"),
        password: secrets::optional(section, "password", context),
        tls,
        topics: address::topics(section, name, context),
        keep_alive: read::duration(section, "keep_alive", KEEP_ALIVE, second..=KEEP_ALIVE_MAX),
        session_expiry: read::duration(section, "session_expiry", SESSION_EXPIRY, Duration::ZERO..=SESSION_EXPIRY_MAX),
        receive_maximum: u16::try_from(read::count(section, "receive_maximum", RECEIVE_MAXIMUM, 1..=65_535))
            .expect("checked against the limit of 16 bits"),
        packet_bytes_max: packet_bytes_max(section),
        backoff_max: backoff_max(section, BACKOFF_MAX),
    };
    if config.password.is_some() && config.username.is_none() {
        section.missing("username", "a password needs the name of its user");
    }
    let address = address::address(section);
    if section.node("address").is_none() {
        section
            .missing("address", "say where the device stands: {topic: \"city/+/+/{device}/up\"} or {payload: devEui}");
    }
    if let Some(address) = &address {
        address::check_template(section, address, &config.topics);
    }
    (config, address)
}

/// The largest packet that is taken from a broker or a client.
pub(super) fn packet_bytes_max(section: &Section<'_>) -> usize {
    read::memory_bytes(section, "packet_bytes_max", PACKET_BYTES_MAX, 1 << 10..=64 << 20)
}

/// The longest time between two attempts.
pub(super) fn backoff_max(section: &Section<'_>, default: Duration) -> Duration {
    read::duration(section, "backoff_max", default, Duration::from_millis(100)..=Duration::from_secs(3_600))
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
    use super::*;

    #[test]
    fn a_site_name_becomes_plain_letters_or_a_hash() {
        assert_eq!(slug("Demo District (east)"), "demo-district-east");
        assert_eq!(slug("湖滨").len(), 8);
        assert_ne!(slug("湖滨"), slug("滨湖"));
    }
}
