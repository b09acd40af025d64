//! The sources that run: started from a configuration, and exchanged one by one when it changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use kerbside_sources::broker::{BoundBroker, BrokerConfig, BrokerSource};
use kerbside_sources::modbus::{ModbusBus, ModbusConfig, ModemDesk};
use kerbside_sources::mqtt::{MqttConfig, MqttSource};

use super::stage::{Running, Stage};
use super::{Parts, watch};
use crate::config::Config;

/// What one source, or one bus of a source, is built from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceConfig {
    Mqtt(Box<MqttConfig>),
    Modbus(Box<ModbusConfig>),
    Broker(Box<BrokerConfig>),
}

/// A source that has all it needs and hears nothing yet.
#[derive(Debug)]
pub(super) enum PreparedSource {
    Mqtt(Box<MqttSource>),
    Modbus(Box<ModbusBus>),
    /// Its addresses are taken.
    Broker(Box<BoundBroker>),
}

/// Every source that runs, by name of its component.
#[derive(Debug)]
pub(super) struct Sources {
    stage: Stage,
    running: BTreeMap<String, RunningSource>,
    /// Tells the engine which links stand.
    links: Option<Running>,
    /// Where modems dial in, once there is a bus.
    modems: Option<ModemDesk>,
}

#[derive(Debug)]
struct RunningSource {
    config: SourceConfig,
    running: Running,
    address: Option<SocketAddr>,
}

/// The sources of a configuration.
pub(super) fn wanted(config: &Config) -> BTreeMap<String, SourceConfig> {
    let mut wanted = BTreeMap::new();
    for mqtt in &config.mqtt {
        let mqtt = MqttConfig { state_folder: Some(config.data_dir.clone()), ..mqtt.clone() };
        wanted.insert(format!("source/{}", mqtt.name), SourceConfig::Mqtt(Box::new(mqtt)));
    }
    for bus in &config.modbus {
        wanted.insert(format!("source/{}", bus.name), SourceConfig::Modbus(Box::new(bus.clone())));
    }
    for broker in &config.brokers {
        wanted.insert(format!("source/{}", broker.name), SourceConfig::Broker(Box::new(broker.clone())));
    }
    wanted
}

impl SourceConfig {
    /// Builds the source. A broker takes its addresses; nothing else touches the network.
    pub(super) async fn prepare(&self, parts: &Parts) -> anyhow::Result<PreparedSource> {
        let Parts { clock, metrics, health, intake, storm, .. } = parts;
        Ok(match self {
            SourceConfig::Mqtt(config) => {
                let config = config.as_ref().clone();
                let source = MqttSource::new(config, intake.clone(), clock.clone(), metrics, health)?;
                PreparedSource::Mqtt(Box::new(source))
            }
            SourceConfig::Modbus(config) => {
                let config = config.as_ref().clone();
                let bus = ModbusBus::new(config, intake.clone(), clock.clone(), metrics, health)?;
                PreparedSource::Modbus(Box::new(bus.with_storm(storm.subscribe())))
            }
            SourceConfig::Broker(config) => {
                let config = config.as_ref().clone();
                let broker = BrokerSource::new(config, intake.clone(), clock.clone(), metrics, health)?;
                PreparedSource::Broker(Box::new(broker.bind().await?))
            }
        })
    }
}

impl Sources {
    /// None yet.
    pub(super) fn new() -> Sources {
        Sources { stage: Stage::default(), running: BTreeMap::new(), links: None, modems: None }
    }

    /// All of them together, for the end.
    pub(super) fn stage(&self) -> Stage {
        self.stage.clone()
    }

    /// What each of them was built from.
    pub(super) fn configs(&self) -> BTreeMap<String, SourceConfig> {
        self.running.iter().map(|(name, source)| (name.clone(), source.config.clone())).collect()
    }

    /// Where a broker listens.
    pub(super) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.running.get(name)?.address
    }

    /// Runs a source from now on.
    pub(super) fn start(&mut self, name: &str, config: SourceConfig, prepared: PreparedSource, parts: &Parts) {
        let (stage, component) = (&self.stage, name.to_owned());
        let mut address = None;
        let running = match prepared {
            PreparedSource::Mqtt(source) => stage.spawn(component, parts, |shutdown| source.run(shutdown)),
            PreparedSource::Modbus(bus) => {
                let modems = self.modems.get_or_insert_with(|| ModemDesk::new(&parts.metrics, &parts.health));
                let bus = bus.with_modems(modems);
                parts.buses.add(bus.name(), bus.handle());
                stage.spawn(component, parts, |shutdown| bus.run(shutdown))
            }
            PreparedSource::Broker(broker) => {
                address = Some(broker.local_addr());
                stage.spawn(component, parts, |shutdown| broker.serve(shutdown).stopped())
            }
        };
        self.running.insert(name.to_owned(), RunningSource { config, running, address });
    }

    /// Whether the task of a source that should run is gone.
    pub(super) fn has_fallen(&self, name: &str) -> bool {
        self.running.get(name).is_some_and(|source| source.running.has_ended())
    }

    /// Starts a source that fell from the same settings.
    pub(super) async fn start_again(&mut self, name: &str, parts: &Parts) -> anyhow::Result<()> {
        let config = self.running.get(name).context("find its settings")?.config.clone();
        let prepared = config.prepare(parts).await?;
        self.start(name, config, prepared, parts);
        Ok(())
    }

    /// Whether there is such a source.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Tells these sources to stop; [`Sources::stop`] waits for each.
    pub(super) fn begin_to_stop(&self, names: &[String]) {
        for source in names.iter().filter_map(|name| self.running.get(name)) {
            source.running.begin_to_stop();
        }
    }

    /// Stops a source: what it handed over is committed and acknowledged, as far as that takes seconds. Gives what it
    /// was built from.
    pub(super) async fn stop(&mut self, name: &str) -> Option<SourceConfig> {
        let source = self.running.remove(name)?;
        source.running.stop().await;
        Some(source.config)
    }

    /// Watches the links of the sources that run now, and tells the engine the state of each.
    pub(super) async fn watch_links(&mut self, parts: &Parts) {
        let mut names = Vec::new();
        for source in self.running.values() {
            if let SourceConfig::Mqtt(config) = &source.config {
                names.push(config.name.clone());
            }
        }
        if let Some(links) = self.links.take() {
            links.stop().await;
        }
        let (health, intake) = (parts.health.clone(), parts.intake.clone());
        let shutdown = self.stage.shutdown.child_token();
        let watching = watch::links(names, health, intake, shutdown.clone());
        self.links = Some(Running::new("links".to_owned(), shutdown, self.stage.tasks.spawn(watching)));
    }
}
