//! `sources`: where frames come from.

use std::net::SocketAddr;
use std::sync::Arc;

use kerbside_model::document::Section;
use kerbside_model::site::SourceRule;
use kerbside_sources::broker::BrokerConfig;
use kerbside_sources::mqtt::MqttConfig;

use super::address::Address;
use super::modbus::ModbusSource;
use super::read::{self, Context};
use super::{broker, modbus, mqtt};

/// The sources as they were read, with the rules by which their frames name devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) mqtt: Vec<MqttConfig>,
    pub(super) brokers: Vec<BrokerConfig>,
    pub(super) modbus: Vec<ModbusSource>,
    pub(super) rules: Vec<SourceRule>,
    /// What each MQTT source or broker said about addresses, in the words of gateway.yaml.
    pub(super) addresses: Vec<(String, String)>,
    /// Every name, also of sources with problems.
    pub(super) names: Vec<String>,
}

#[derive(Clone, Copy)]
enum SourceType {
    Mqtt,
    Modbus,
    Broker,
}

/// Reads the key `sources`. Without any broker, the embedded one is on.
pub(super) fn read(top: &Section<'_>, site: &str, api_listen: SocketAddr, context: &Context<'_>) -> Sources {
    let types = [("mqtt", SourceType::Mqtt), ("modbus", SourceType::Modbus), ("broker", SourceType::Broker)];
    let mut sources = Sources::default();
    let mut listens = vec![("listen".to_owned(), api_listen)];
    let mut has_broker = false;
    for (name, section) in top.named_sections("sources") {
        read::check_name(&section, &name);
        sources.names.push(name.clone());
        let source_type = read::required_choice(&section, "type", &types);
        has_broker |= !matches!(source_type, Some(SourceType::Modbus));
        let Some(source_type) = source_type else { continue };
        match source_type {
            SourceType::Mqtt => {
                let (config, address) = mqtt::read(&name, site, &section, context);
                check_client(&section, &config, &sources.mqtt);
                sources.mqtt.push(config);
                sources.add_rule(&name, address);
            }
            SourceType::Broker => {
                let (config, address) = broker::read(&name, &section, context);
                for (listen, is_tls) in config.listens() {
                    check_free(&section, listen, &listens);
                    let key = if is_tls { "TLS" } else { "listen" };
                    listens.push((format!("sources.{name} ({key})"), listen));
                }
                sources.brokers.push(config);
                sources.add_rule(&name, address);
            }
            SourceType::Modbus => {
                let source = modbus::read(&name, &section);
                if let Some(listen) = source.listen() {
                    check_free(&section, listen, &listens);
                    listens.push((format!("sources.{name} (listen)"), listen));
                }
                sources.modbus.push(source);
                sources.add_rule(&name, Some(Address::whole()));
            }
        }
        section.finish();
    }
    if !has_broker {
        sources.add_embedded_broker(top, &listens, context);
    }
    sources
}

impl Sources {
    fn add_rule(&mut self, source: &str, address: Option<Address>) {
        let Some(address) = address else { return };
        self.addresses.push((source.to_owned(), address.text()));
        self.rules.push(SourceRule {
            source: Arc::from(source),
            address: address.rule,
            claim: address.claim,
            envelopes: address.envelopes,
        });
    }

    fn add_embedded_broker(&mut self, top: &Section<'_>, listens: &[(String, SocketAddr)], context: &Context<'_>) {
        if self.names.iter().any(|name| name == broker::DEFAULT_NAME) {
            let mend = "call it something else, or configure a source of type broker or mqtt";
            let what = "the embedded broker has this name when no broker is configured";
            top.problem("sources", broker::DEFAULT_NAME, what, mend);
            return;
        }
        let (config, address) = broker::default();
        check_free(top, config.listen, listens);
        context.notice(format!(
            "no broker is configured: the embedded broker listens on {} and takes devices from topics {}",
            config.listen,
            broker::DEFAULT_TEMPLATE
        ));
        self.names.push(config.name.clone());
        self.add_rule(broker::DEFAULT_NAME, Some(address));
        self.brokers.push(config);
    }
}

/// Two clients of one name at one broker throw each other out for ever.
fn check_client(section: &Section<'_>, config: &MqttConfig, others: &[MqttConfig]) {
    let same = |other: &&MqttConfig| {
        other.host == config.host && other.port == config.port && other.client_id == config.client_id
    };
    if let Some(other) = others.iter().find(same) {
        let what = format!("source {} has the same client id at the same broker", other.name);
        section.problem("client_id", &config.client_id, what, "give each source its own client id");
    }
}

fn check_free(section: &Section<'_>, listen: SocketAddr, others: &[(String, SocketAddr)]) {
    for (key, other) in others {
        let same_address = other.ip() == listen.ip() || other.ip().is_unspecified() || listen.ip().is_unspecified();
        if listen.port() != 0 && listen.port() == other.port() && same_address {
            let what = format!("{key} listens on this port already");
            section.problem("listen", &listen.to_string(), what, "choose another port");
        }
    }
}
