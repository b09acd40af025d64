//! The wiring: from a checked configuration to a running gateway, and down again in order.
//!
//! Start: listener, store, state, sinks, sources. Nothing outside the machine is waited for. Stop: sources first (they
//! acknowledge what was committed), then the pipeline (last snapshot, store closed), then sinks.

mod clock;
mod outbox;
mod sign_key;
#[cfg(test)]
mod tests;
mod watch;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use kerbside_model::{GatewayCondition, Input, Site};
use kerbside_runtime::{Clock, Health, Intake, IntakeReceiver, Metrics, Receipt, Shutdown};
use kerbside_sinks::channels;
use kerbside_sinks::channels::text::Zone;
use kerbside_sinks::influx::{InfluxHandle, InfluxSink, TelemetryAlarm};
use kerbside_sinks::outbox::Target;
use kerbside_sinks::platforms::{Open311, Platform};
use kerbside_sinks::sign::SignLinks;
use kerbside_sources::broker::{BrokerHandle, BrokerSource};
use kerbside_sources::modbus::ModbusBus;
use kerbside_sources::mqtt::{MqttConfig, MqttSource};
use kerbside_store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::api::{self, ApiState};
use crate::config::{Config, PlatformConfig};
use crate::pipeline::backlog::StoreBacklog;
use crate::pipeline::conditions::StoreReports;
use crate::pipeline::eras::ClockEras;
use crate::pipeline::publish::Publisher;
use crate::pipeline::{DEAF_MIN, EngineHandle, Pipeline, PipelineSettings, recover};
use clock::ClockWatch;

/// Sinks get so long to finish what they hold.
const SINKS_STOP_MAX: Duration = Duration::from_secs(8);
/// Sources get so long to acknowledge what was committed.
const SOURCES_STOP_MAX: Duration = Duration::from_secs(8);

/// The pipeline gets so long to commit what is in it; then a disk that takes nothing is given up.
const PIPELINE_STOP_MAX: Duration = Duration::from_secs(8);

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    /// Where API and console listen.
    pub api: SocketAddr,
    /// Where the embedded brokers listen, in the order of the configuration.
    pub brokers: Vec<SocketAddr>,
    /// For questions to the engine.
    pub engine: EngineHandle,
    /// For questions to the store.
    pub store: Store,
    /// For what people do.
    pub intake: Intake,
    /// For what was counted.
    pub metrics: Metrics,
    /// For what works and what does not.
    pub health: Health,
    /// The site that it runs with.
    pub site: Arc<Site>,
    sources: Stage,
    pipeline_stop: Shutdown,
    pipeline: JoinHandle<()>,
    pipeline_ended: oneshot::Receiver<()>,
    sinks: Stage,
}

/// Tasks that stop together.
#[derive(Debug, Default)]
struct Stage {
    tasks: TaskTracker,
    shutdown: Shutdown,
}

impl Stage {
    /// Runs a component; a panic in it is shown as its health and does not take the others along.
    fn spawn(&self, name: String, health: &Health, component: impl Future<Output = ()> + Send + 'static) {
        let reporter = health.component(name.clone());
        self.tasks.spawn(async move {
            if let Err(failure) = tokio::spawn(component).await
                && failure.is_panic()
            {
                reporter.down("it panicked; restart the gateway and report the log");
                error!(component = %name, "a component panicked");
            }
        });
    }

    async fn stop(self, within: Duration, what: &str) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            warn!(what, "did not stop in time");
        }
    }
}

/// What every component is given.
struct Parts {
    clock: Clock,
    metrics: Metrics,
    health: Health,
    intake: Intake,
}

impl Gateway {
    /// Starts everything. Errors are of this machine only: a taken port, a folder that cannot be used, a certificate.
    pub async fn start(config: Config, clock: Clock, speed: f64) -> anyhow::Result<Gateway> {
        let began = Clock::stamp();
        let (intake, receiver) = Intake::new(config.limits.intake_submissions_max, config.limits.intake_bytes_max);
        let parts = Parts { clock, metrics: Metrics::default(), health: Health::default(), intake };
        for notice in &config.notices {
            info!("{notice}");
        }
        for warning in &config.warnings {
            warn!("left out of the inventory: {warning}");
        }
        let listener = api::bind(config.listen).await?;
        let store = Store::open(config.store.config.clone(), parts.clock.clone(), &parts.metrics, &parts.health)?;
        // Before anything is stamped: time had come as far as the newest on the disk says.
        if let Some(newest) = recover::newest_time(&store)? {
            parts.clock.not_before(newest);
        }
        let eras = Arc::new(ClockEras::load(&config.data_dir, store.last_sequence()?));
        let clock_watch = ClockWatch::new(&parts, &store, &eras)?;
        let sinks = Stage::default();
        let wake = Arc::new(Notify::new());
        let alarm = TelemetryAlarm::default();
        let telemetry = start_telemetry(&config, &store, &parts, (&eras, &alarm), &sinks)?;
        let publisher = Publisher::new(telemetry, Arc::clone(&wake), &parts.metrics).with_eras(eras);
        let started = start_pipeline(&config, &store, &parts, receiver, publisher, clock_watch.first_condition())?;
        let StartedPipeline { stop: pipeline_stop, thread: pipeline, ended: pipeline_ended, engine } = started;
        // Behind the site, which must be the first input.
        sinks.tasks.spawn(alarm.run(parts.intake.clone(), sinks.shutdown.clone()));
        let api_address = listener.local_addr().context("ask where the API listens")?;
        // A port that was left to the system is only known now.
        let public_url = match config.listen.port() {
            0 => format!("http://{api_address}"),
            _ => config.public_url.clone(),
        };
        let sign_links = SignLinks::new(public_url, sign_key::load_or_make(&config.data_dir)?);
        start_delivery(&config, &store, &parts, &sinks, wake, &sign_links)?;
        sinks.tasks.spawn(clock_watch.run(sinks.shutdown.clone()));
        let reports = StoreReports::new(Zone::named(&config.zone)?);
        sinks.tasks.spawn(watch::store(store.clone(), reports, parts.intake.clone(), sinks.shutdown.clone()));
        let sources = Stage::default();
        let brokers = start_sources(&config, &parts, &sources).await?;
        let state = ApiState {
            store: store.clone(),
            engine: engine.clone(),
            intake: parts.intake.clone(),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
            health: parts.health.clone(),
            site: Arc::clone(&config.site),
            accounts: Arc::new(config.accounts.clone()),
            sign_links,
            zone: jiff::tz::TimeZone::get(&config.zone)
                .with_context(|| format!("find the time zone {}", config.zone))?,
            speed,
        };
        start_api(listener, state, &sinks);
        info!(
            site = config.site.name(), devices = config.site.devices().len(), api = %api_address,
            milliseconds = began.elapsed().as_millis() as u64, "gateway started"
        );
        Ok(Gateway {
            api: api_address,
            brokers,
            engine,
            store,
            intake: parts.intake,
            metrics: parts.metrics,
            health: parts.health,
            site: Arc::clone(&config.site),
            sources,
            pipeline_stop,
            pipeline,
            pipeline_ended,
            sinks,
        })
    }

    /// Returns when the pipeline has ended by itself, which only a defect can cause.
    pub async fn failed(&mut self) {
        // An error means that the thread is gone, which is what is waited for.
        drop((&mut self.pipeline_ended).await);
    }

    /// Stops in order. What was received is committed and acknowledged before this returns.
    pub async fn stop(self) {
        self.sources.stop(SOURCES_STOP_MAX, "sources").await;
        self.pipeline_stop.cancel();
        let joined = join_pipeline(self.pipeline, self.store.clone(), PIPELINE_STOP_MAX).await;
        if !matches!(joined, Ok(Ok(()))) {
            error!("the pipeline panicked");
        }
        self.sinks.stop(SINKS_STOP_MAX, "sinks").await;
    }
}

/// Waits for the pipeline's end. While the disk is full it waits for the store, which tries until it is closed.
pub(crate) async fn join_pipeline(
    pipeline: JoinHandle<()>,
    store: Store,
    within: Duration,
) -> Result<std::thread::Result<()>, tokio::task::JoinError> {
    let mut joining = tokio::task::spawn_blocking(move || pipeline.join());
    if let Ok(joined) = tokio::time::timeout(within, &mut joining).await {
        return joined;
    }
    warn!("the disk takes nothing: what was not acknowledged is given up and will be sent again");
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    if let Ok(Err(error)) = closed {
        error!(error = %kerbside_runtime::Chain(&error), "the store did not close cleanly");
    }
    joining.await
}

fn start_api(listener: TcpListener, state: ApiState, sinks: &Stage) {
    sinks.tasks.spawn(api::serve(listener, state, sinks.shutdown.clone()));
}

fn start_telemetry(
    config: &Config,
    store: &Store,
    parts: &Parts,
    (eras, alarm): (&Arc<ClockEras>, &TelemetryAlarm),
    sinks: &Stage,
) -> anyhow::Result<Vec<InfluxHandle>> {
    let names: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    store.register_sinks(&names);
    let mut handles = Vec::new();
    for sink in &config.sinks {
        let backlog = StoreBacklog::new(store.clone(), Arc::clone(&config.site)).with_eras(Arc::clone(eras));
        let backlog = Arc::new(backlog);
        let (sink, handle) = InfluxSink::new(sink.clone(), backlog, &parts.metrics, &parts.health)?;
        let sink = sink.with_alarm(alarm.clone()).with_clock(parts.clock.clone());
        let name = format!("sink/{}", names[handles.len()]);
        sinks.spawn(name, &parts.health, sink.run(sinks.shutdown.clone()));
        handles.push(handle);
    }
    Ok(handles)
}

struct StartedPipeline {
    stop: Shutdown,
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
    engine: EngineHandle,
}

/// Restores the engine, starts the pipeline and hands it today's site as its first input.
fn start_pipeline(
    config: &Config,
    store: &Store,
    parts: &Parts,
    receiver: IntakeReceiver,
    publisher: Publisher,
    clock: GatewayCondition,
) -> anyhow::Result<StartedPipeline> {
    store.save_site(&config.site)?;
    let engine = recover::recover(store, &config.site, parts.clock.now())?;
    let publisher = Arc::new(publisher);
    let settings = PipelineSettings {
        commit_interval: config.store.commit_interval,
        commit_bytes_max: config.store.commit_bytes_max,
        snapshot_interval: config.store.snapshot_interval,
        deaf_min: DEAF_MIN,
    };
    let (pipeline, engine) = Pipeline::new(engine, store.clone(), receiver, publisher, parts.clock.clone(), settings);
    let damage = recover::damage_condition(store, parts.clock.now())?;
    let first = vec![Input::Gateway(clock), Input::Site(Arc::clone(&config.site)), Input::Gateway(damage)];
    // Before the thread runs: it would serve the timers of the time without a gateway, and call every device silent.
    parts.intake.try_submit(first, Receipt::None).context("hand the site to the pipeline")?;
    let stop = Shutdown::new();
    let (guard, ended) = oneshot::channel();
    let thread = pipeline.spawn(stop.clone(), guard).context("start the pipeline's thread")?;
    Ok(StartedPipeline { stop, thread, ended, engine })
}

/// One worker for each target, a poller for the platform, and the task that feeds the workers from the outbox.
fn start_delivery(
    config: &Config,
    store: &Store,
    parts: &Parts,
    sinks: &Stage,
    wake: Arc<Notify>,
    sign_links: &SignLinks,
) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    if let PlatformConfig::Open311(open311) = &config.platform {
        let platform: Arc<dyn Platform> = Arc::new(Open311::new(open311.clone(), parts.clock.clone(), &parts.metrics)?);
        let poller = outbox::status_poller(Arc::clone(&platform), open311.poll_interval, store, parts);
        sinks.spawn(format!("sink/{}/status", open311.name), &parts.health, poller.run(sinks.shutdown.clone()));
        targets.push((open311.name.clone(), Target::Platform(platform)));
    }
    for channel in &config.channels {
        let built = channels::build(channel.clone(), parts.clock.clone())?;
        targets.push((channel.name.clone(), Target::Channel(Arc::from(built))));
    }
    let mut handles = std::collections::BTreeMap::new();
    for (name, target) in targets {
        let (worker, handle) = outbox::worker(target, sign_links.clone(), parts);
        sinks.spawn(format!("sink/{name}"), &parts.health, worker.run(sinks.shutdown.clone()));
        handles.insert(name, handle);
    }
    sinks.tasks.spawn(outbox::dispatch(store.clone(), handles, wake, sinks.shutdown.clone()));
    Ok(())
}

async fn start_sources(config: &Config, parts: &Parts, sources: &Stage) -> anyhow::Result<Vec<SocketAddr>> {
    let Parts { clock, metrics, health, intake } = parts;
    let mut links = Vec::new();
    for mqtt in &config.mqtt {
        links.push(mqtt.name.clone());
        let name = format!("source/{}", mqtt.name);
        let mqtt = MqttConfig { state_folder: Some(config.data_dir.clone()), ..mqtt.clone() };
        let source = MqttSource::new(mqtt, intake.clone(), clock.clone(), metrics, health)?;
        sources.spawn(name, health, source.run(sources.shutdown.clone()));
    }
    for bus in &config.modbus {
        let source = ModbusBus::new(bus.clone(), intake.clone(), clock.clone(), metrics, health)?;
        sources.spawn(format!("source/{}", bus.name), health, source.run(sources.shutdown.clone()));
    }
    let mut addresses = Vec::new();
    for broker in &config.brokers {
        let source = BrokerSource::new(broker.clone(), intake.clone(), clock.clone(), metrics, health)?;
        let handle: BrokerHandle = source.start(sources.shutdown.clone()).await?;
        addresses.push(handle.local_addr());
        sources.spawn(format!("source/{}", broker.name), health, handle.stopped());
    }
    sources.tasks.spawn(watch::links(links, health.clone(), intake.clone(), sources.shutdown.clone()));
    Ok(addresses)
}
