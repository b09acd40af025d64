//! The telemetry sinks that run: started from a configuration, and exchanged one by one when it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kerbside_model::Site;
use kerbside_sinks::influx::{InfluxConfig, InfluxHandle, InfluxSink, TelemetryAlarm};
use kerbside_store::Store;

use super::Parts;
use super::stage::{Running, Stage};
use crate::config::Config;
use crate::live::Live;
use crate::pipeline::backlog::StoreBacklog;
use crate::pipeline::eras::ClockEras;

/// Every telemetry sink that runs, by name of its component.
#[derive(Debug)]
pub(super) struct Telemetry {
    stage: Stage,
    store: Store,
    backlog: Arc<StoreBacklog>,
    alarm: TelemetryAlarm,
    running: BTreeMap<String, RunningSink>,
    /// Where the publisher offers what was committed.
    offered: Live<Vec<InfluxHandle>>,
}

#[derive(Debug)]
struct RunningSink {
    config: InfluxConfig,
    handle: InfluxHandle,
    running: Running,
}

/// The telemetry sinks of a configuration.
pub(super) fn wanted(config: &Config) -> BTreeMap<String, InfluxConfig> {
    config.sinks.iter().map(|sink| (format!("sink/{}", sink.name), sink.clone())).collect()
}

impl Telemetry {
    /// None yet. What is read back from the store is decoded with this site.
    pub(super) fn new(stage: Stage, store: Store, site: Arc<Site>, eras: Arc<ClockEras>) -> Telemetry {
        let backlog = Arc::new(StoreBacklog::new(store.clone(), site).with_eras(eras));
        Telemetry {
            stage,
            store,
            backlog,
            alarm: TelemetryAlarm::default(),
            running: BTreeMap::new(),
            offered: Live::new(Arc::default()),
        }
    }

    /// Where committed batches are to be offered.
    pub(super) fn offered(&self) -> Live<Vec<InfluxHandle>> {
        self.offered.clone()
    }

    /// Calls somebody when a database refuses the gateway.
    pub(super) fn alarm(&self) -> TelemetryAlarm {
        self.alarm.clone()
    }

    /// Whether there is such a sink.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// What each of them was built from.
    pub(super) fn configs(&self) -> BTreeMap<String, InfluxConfig> {
        self.running.iter().map(|(name, sink)| (name.clone(), sink.config.clone())).collect()
    }

    /// The site changed.
    pub(super) fn set_site(&self, site: Arc<Site>) {
        self.backlog.set_site(site);
    }

    /// Batches are kept until each of these has them.
    pub(super) fn keep_for(&self, config: &Config) {
        let names: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
        self.store.register_sinks(&names);
    }

    /// Runs a sink from now on. What was committed since its cursor is read back from the store.
    pub(super) fn start(&mut self, name: &str, config: InfluxConfig, parts: &Parts) -> anyhow::Result<()> {
        let backlog = Arc::clone(&self.backlog);
        let (sink, handle) = InfluxSink::new(config.clone(), backlog, &parts.metrics, &parts.health)?;
        let sink = sink.with_alarm(self.alarm.clone()).with_clock(parts.clock.clone());
        // Offered before it runs: a batch that is committed in between is in the store or in the queue.
        let mut offered = self.handles();
        offered.push(handle.clone());
        self.offered.set(Arc::new(offered));
        let running = self.stage.spawn(name.to_owned(), parts, |shutdown| sink.run(shutdown));
        self.running.insert(name.to_owned(), RunningSink { config, handle, running });
        Ok(())
    }

    /// Whether the task of a sink that should run is gone.
    pub(super) fn has_fallen(&self, name: &str) -> bool {
        self.running.get(name).is_some_and(|sink| sink.running.has_ended())
    }

    /// Starts a sink that fell from the same settings: it goes on behind the last batch that its database has.
    pub(super) fn start_again(&mut self, name: &str, parts: &Parts) -> anyhow::Result<()> {
        let Some(fallen) = self.running.remove(name) else { return Ok(()) };
        let started = self.start(name, fallen.config.clone(), parts);
        if started.is_err() {
            // It is tried again.
            self.running.insert(name.to_owned(), fallen);
        }
        started
    }

    /// Stops a sink: what it has in memory is sent within seconds, or left to the backlog.
    pub(super) async fn stop(&mut self, name: &str) -> Option<InfluxConfig> {
        let RunningSink { config, running, .. } = self.running.remove(name)?;
        self.offered.set(Arc::new(self.handles()));
        running.stop().await;
        Some(config)
    }

    fn handles(&self) -> Vec<InfluxHandle> {
        self.running.values().map(|sink| sink.handle.clone()).collect()
    }
}
