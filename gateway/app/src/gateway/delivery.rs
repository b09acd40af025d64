//! The targets of the outbox that run: one worker for each, a poller for a platform. Started from a configuration, and
//! exchanged one by one when it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use kerbside_runtime::Secret;
use kerbside_sinks::channels::{self, ChannelConfig};
use kerbside_sinks::outbox::Target;
use kerbside_sinks::platforms::{Open311, Open311Config, Platform};
use kerbside_sinks::sign::SignLinks;
use kerbside_store::Store;
use tokio::sync::Notify;

use super::Parts;
use super::outbox::{self, Worker, Workers};
use super::stage::{Running, Stage};
use crate::config::{Config, PlatformConfig};
use crate::live::Live;

/// What the poller of a platform has behind the name of its target.
const STATUS: &str = "/status";

/// What the worker of a target is built from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TargetConfig {
    kind: TargetKind,
    /// Links in its messages begin with this.
    public_url: String,
}

#[derive(Clone, Debug, PartialEq)]
enum TargetKind {
    Platform(Box<Open311Config>),
    Channel(Box<ChannelConfig>),
}

/// A target that has all it needs and that nothing is sent to yet.
#[derive(Debug)]
pub(super) struct PreparedTarget(Built);

#[derive(Debug)]
enum Built {
    Platform(Arc<Open311>),
    Channel(Target),
}

/// Every target that is delivered to, by name of its component.
#[derive(Debug)]
pub(super) struct Delivery {
    stage: Stage,
    store: Store,
    sign_key: Secret,
    workers: Live<Workers>,
    /// Rung when there may be rows to hand over.
    wake: Arc<Notify>,
    started: u64,
    running: BTreeMap<String, RunningTarget>,
}

#[derive(Debug)]
struct RunningTarget {
    config: TargetConfig,
    worker: Running,
    poller: Option<Running>,
}

/// The targets of a configuration. `public_url` is what links in messages begin with.
pub(super) fn wanted(config: &Config, public_url: &str) -> BTreeMap<String, TargetConfig> {
    let mut wanted = BTreeMap::new();
    let target = |kind| TargetConfig { kind, public_url: public_url.to_owned() };
    if let PlatformConfig::Open311(platform) = &config.platform {
        wanted.insert(format!("sink/{}", platform.name), target(TargetKind::Platform(Box::new(platform.clone()))));
    }
    for channel in &config.channels {
        wanted.insert(format!("sink/{}", channel.name), target(TargetKind::Channel(Box::new(channel.clone()))));
    }
    wanted
}

impl TargetConfig {
    /// Builds the target; makes no connection.
    pub(super) fn prepare(&self, parts: &Parts) -> anyhow::Result<PreparedTarget> {
        Ok(PreparedTarget(match &self.kind {
            TargetKind::Platform(config) => {
                Built::Platform(Arc::new(Open311::new(config.as_ref().clone(), parts.clock.clone(), &parts.metrics)?))
            }
            TargetKind::Channel(config) => {
                let built = channels::build(config.as_ref().clone(), parts.clock.clone())?;
                Built::Channel(Target::Channel(Arc::from(built)))
            }
        }))
    }

    /// As the outbox names it.
    fn target(&self) -> &str {
        match &self.kind {
            TargetKind::Platform(config) => &config.name,
            TargetKind::Channel(config) => &config.name,
        }
    }
}

impl Delivery {
    /// None yet, and none is fed before [`Delivery::feed`].
    pub(super) fn new(stage: Stage, store: Store, sign_key: Secret, wake: Arc<Notify>) -> Delivery {
        let workers: Live<Workers> = Live::new(Arc::default());
        Delivery { stage, store, sign_key, workers, wake, started: 0, running: BTreeMap::new() }
    }

    /// Feeds the workers from now on. Those of the configuration run already: a row without one has no target.
    pub(super) fn feed(&self) {
        let (wake, shutdown) = (Arc::clone(&self.wake), self.stage.shutdown.clone());
        self.stage.tasks.spawn(outbox::dispatch(self.store.clone(), self.workers.clone(), wake, shutdown));
    }

    /// Whether there is such a target.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// What each of them was built from.
    pub(super) fn configs(&self) -> BTreeMap<String, TargetConfig> {
        self.running.iter().map(|(name, target)| (name.clone(), target.config.clone())).collect()
    }

    /// Delivers to a target from now on. Rows that another worker had are handed over again: those that it may have
    /// sent are marked, and are looked up first.
    pub(super) fn start(&mut self, name: &str, config: TargetConfig, prepared: PreparedTarget, parts: &Parts) {
        let mut poller = None;
        let target = match prepared.0 {
            Built::Channel(target) => target,
            Built::Platform(open311) => {
                let platform: Arc<dyn Platform> = open311;
                if let TargetKind::Platform(config) = &config.kind {
                    let polling =
                        outbox::status_poller(Arc::clone(&platform), config.poll_interval, &self.store, parts);
                    let status = format!("{name}{STATUS}");
                    poller = Some(self.stage.spawn(status, parts, |shutdown| polling.run(shutdown)));
                }
                Target::Platform(platform)
            }
        };
        let links = SignLinks::new(config.public_url.clone(), self.sign_key.clone());
        let (worker, handle) = outbox::worker(target, links, parts);
        let worker = self.stage.spawn(name.to_owned(), parts, |shutdown| worker.run(shutdown));
        self.started += 1;
        let mut workers = Workers::clone(&self.workers.get());
        workers.insert(config.target().to_owned(), Worker { handle, number: self.started });
        self.workers.set(Arc::new(workers));
        self.running.insert(name.to_owned(), RunningTarget { config, worker, poller });
        self.wake.notify_one();
    }

    /// The target that a component belongs to whose task is gone although it should run: its worker, or the poller of
    /// its platform.
    pub(super) fn fallen(&self, component: &str) -> Option<String> {
        let name = component.strip_suffix(STATUS).unwrap_or(component);
        let target = self.running.get(name)?;
        let has_fallen = target.worker.has_ended() || target.poller.as_ref().is_some_and(Running::has_ended);
        has_fallen.then(|| name.to_owned())
    }

    /// Builds a target from the settings that it runs with.
    pub(super) fn prepare_again(&self, name: &str, parts: &Parts) -> anyhow::Result<(TargetConfig, PreparedTarget)> {
        let config = self.running.get(name).context("find its settings")?.config.clone();
        let prepared = config.prepare(parts)?;
        Ok((config, prepared))
    }

    /// Stops delivering to a target; its rows wait in the store.
    pub(super) async fn stop(&mut self, name: &str) -> Option<TargetConfig> {
        let RunningTarget { config, worker, poller } = self.running.remove(name)?;
        let mut workers = Workers::clone(&self.workers.get());
        workers.remove(config.target());
        self.workers.set(Arc::new(workers));
        if let Some(poller) = poller {
            poller.stop().await;
        }
        worker.stop().await;
        Some(config)
    }
}
