//! The wiring: from a checked configuration to a running gateway, and down again in order.
//!
//! Start: listener, store, state, sinks, sources. Nothing outside the machine is waited for. Stop: sources first (they
//! acknowledge what was committed), then the pipeline (last snapshot, store closed), then sinks.

mod clock;
mod delivery;
mod difference;
mod outbox;
mod reload;
mod sign_key;
mod sources;
mod stage;
mod supervise;
mod telemetry;
#[cfg(test)]
mod tests;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use kerbside_model::{GatewayCondition, Input, Site};
use kerbside_runtime::{Clock, Health, Intake, IntakeReceiver, Metrics, Receipt, Shutdown};
use kerbside_sinks::channels::text::Zone;
use kerbside_sinks::sign::SignLinks;
use kerbside_sources::modbus::Buses;
use kerbside_store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle as TaskHandle;
use tracing::{error, info, warn};

use crate::api::{self, ApiState};
use crate::config::Config;
use crate::live::Live;
use crate::pipeline::conditions::StoreReports;
use crate::pipeline::eras::ClockEras;
use crate::pipeline::publish::Publisher;
use crate::pipeline::{DEAF_MIN, EngineHandle, Pipeline, PipelineSettings, StormTeller, recover};
use crate::reload::ReloadHandle;
use crate::wiretap::{FrameViews, Tap};
use clock::ClockWatch;
use delivery::Delivery;
use difference::Fixed;
use reload::Reloader;
use sources::Sources;
use stage::Stage;
use supervise::Fallen;
use telemetry::Telemetry;

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
    pub site: Live<Site>,
    /// Applies a changed configuration.
    pub reload: ReloadHandle,
    reload_stop: Shutdown,
    reloading: TaskHandle<()>,
    sources: Stage,
    pipeline_stop: Shutdown,
    pipeline: JoinHandle<()>,
    pipeline_ended: oneshot::Receiver<()>,
    sinks: Stage,
    #[cfg(test)]
    fallen: Fallen,
}

/// The reloader gets so long to come to an end in the middle of a change.
const RELOAD_STOP_MAX: Duration = Duration::from_secs(8);

/// What every component is given.
#[derive(Clone)]
struct Parts {
    clock: Clock,
    metrics: Metrics,
    health: Health,
    intake: Intake,
    /// Whether a storm stands.
    storm: StormTeller,
    /// Modbus buses, for the installer.
    buses: Buses,
    /// Components whose task is gone.
    fallen: Fallen,
}

impl Parts {
    fn new(clock: Clock, intake: Intake) -> Parts {
        let (metrics, health) = (Metrics::default(), Health::default());
        Parts {
            clock,
            metrics,
            health,
            intake,
            storm: StormTeller::default(),
            buses: Buses::default(),
            fallen: Fallen::default(),
        }
    }
}

impl Gateway {
    /// Starts everything. Errors are of this machine only: a taken port, a folder that cannot be used, a certificate.
    // Longer than others, because the order of the start can be read here in one piece.
    pub async fn start(config: Config, clock: Clock, speed: f64) -> anyhow::Result<Gateway> {
        let began = Clock::stamp();
        let (intake, receiver) = Intake::new(config.limits.intake_submissions_max, config.limits.intake_bytes_max);
        let parts = Parts::new(clock, intake);
        tell_notices(&config);
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
        let mut telemetry = Telemetry::new(sinks.clone(), store.clone(), Arc::clone(&config.site), Arc::clone(&eras));
        start_telemetry(&mut telemetry, &config, &parts)?;
        let publisher = Publisher::new(telemetry.offered(), Arc::clone(&wake), &parts.metrics).with_eras(eras);
        for notice in edited_unnoticed(&store, &config.site) {
            warn!("{notice}");
        }
        let (frames, tap) = FrameViews::new(&parts.metrics).context("start the thread that shows frames")?;
        let first = (receiver, tap, clock_watch.first_condition());
        let started = start_pipeline(&config, &store, &parts, publisher, first)?;
        let StartedPipeline { stop: pipeline_stop, thread: pipeline, ended: pipeline_ended, engine } = started;
        // Behind the site, which must be the first input.
        sinks.tasks.spawn(telemetry.alarm().run(parts.intake.clone(), sinks.shutdown.clone()));
        let api_address = listener.local_addr().context("ask where the API listens")?;
        // A port that was left to the system is only known now.
        let public_url = match config.listen.port() {
            0 => format!("http://{api_address}"),
            _ => config.public_url.clone(),
        };
        let sign_key = sign_key::load_or_make(&config.data_dir)?;
        let sign_links = SignLinks::new(public_url.clone(), sign_key.clone());
        let mut delivery = Delivery::new(sinks.clone(), store.clone(), sign_key, wake);
        start_delivery(&mut delivery, &config, &public_url, &parts)?;
        sinks.tasks.spawn(clock_watch.run(sinks.shutdown.clone()));
        let reports = StoreReports::new(Zone::named(&config.zone)?);
        sinks.tasks.spawn(watch::store(store.clone(), reports, parts.intake.clone(), sinks.shutdown.clone()));
        let sources = start_sources(&config, &parts).await?;
        let brokers = config.brokers.iter().filter_map(|broker| sources.address(&format!("source/{}", broker.name)));
        let brokers = brokers.collect();
        let (site, accounts) = (Live::new(Arc::clone(&config.site)), Live::new(Arc::new(config.accounts.clone())));
        let lineages = Live::new(Arc::new(config.lineages.clone()));
        let (reload, requests) = ReloadHandle::new();
        let state = ApiState {
            store: store.clone(),
            engine: engine.clone(),
            intake: parts.intake.clone(),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
            health: parts.health.clone(),
            site: site.clone(),
            accounts: accounts.clone(),
            lineages: lineages.clone(),
            reload: reload.clone(),
            buses: parts.buses.clone(),
            frames,
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
        let (reload_stop, sources_stage) = (Shutdown::new(), sources.stage());
        let health = parts.health.component("configuration");
        health.ok();
        let reloader = Reloader {
            fixed: Fixed::of(&config),
            config,
            public_url,
            parts: parts.clone(),
            store: store.clone(),
            sources,
            telemetry,
            delivery,
            site: site.clone(),
            accounts,
            lineages,
            health,
            shutdown: reload_stop.clone(),
        };
        Ok(Gateway {
            api: api_address,
            brokers,
            engine,
            store,
            intake: parts.intake,
            metrics: parts.metrics,
            health: parts.health,
            site,
            reload,
            reload_stop,
            reloading: tokio::spawn(reloader.run(requests)),
            sources: sources_stage,
            pipeline_stop,
            pipeline,
            pipeline_ended,
            sinks,
            #[cfg(test)]
            fallen: parts.fallen,
        })
    }

    /// Returns when the pipeline has ended by itself, which only a defect can cause.
    pub async fn failed(&mut self) {
        // An error means that the thread is gone, which is what is waited for.
        drop((&mut self.pipeline_ended).await);
    }

    /// Stops in order. What was received is committed and acknowledged before this returns.
    pub async fn stop(self) {
        self.reload_stop.cancel();
        if tokio::time::timeout(RELOAD_STOP_MAX, self.reloading).await.is_err() {
            warn!("a change of the configuration did not come to an end in time");
        }
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

fn tell_notices(config: &Config) {
    for notice in &config.notices {
        info!("{notice}");
    }
    for warning in &config.warnings {
        warn!("left out of the inventory: {warning}");
    }
}

fn start_telemetry(telemetry: &mut Telemetry, config: &Config, parts: &Parts) -> anyhow::Result<()> {
    telemetry.keep_for(config);
    for (name, sink) in telemetry::wanted(config) {
        telemetry.start(&name, sink, parts)?;
    }
    Ok(())
}

fn start_delivery(delivery: &mut Delivery, config: &Config, public_url: &str, parts: &Parts) -> anyhow::Result<()> {
    for (name, target) in delivery::wanted(config, public_url) {
        let prepared = target.prepare(parts)?;
        delivery.start(&name, target, prepared, parts);
    }
    delivery.feed();
    Ok(())
}

/// Profiles that are other ones than the last time the gateway ran, under the same version.
fn edited_unnoticed(store: &Store, site: &Site) -> Vec<String> {
    let last = store.last_sequence().and_then(|last| store.site_after(last));
    // A site of an older release may not be readable any more, and then nothing can be said.
    let Ok(Some(hash)) = last else { return Vec::new() };
    let Ok(Some(facts)) = store.site(&hash) else { return Vec::new() };
    difference::uncounted(site, &difference::profiles(&Site::new(facts), site))
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
    publisher: Publisher,
    (receiver, tap, clock): (IntakeReceiver, Tap, GatewayCondition),
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
    let pipeline = pipeline.with_storm(Arc::clone(&parts.storm)).with_tap(tap);
    let damage = recover::damage_condition(store, parts.clock.now())?;
    let first = vec![Input::Gateway(clock), Input::Site(Arc::clone(&config.site)), Input::Gateway(damage)];
    // Before the thread runs: it would serve the timers of the time without a gateway, and call every device silent.
    parts.intake.try_submit(first, Receipt::None).context("hand the site to the pipeline")?;
    let stop = Shutdown::new();
    let (guard, ended) = oneshot::channel();
    let thread = pipeline.spawn(stop.clone(), guard).context("start the pipeline's thread")?;
    Ok(StartedPipeline { stop, thread, ended, engine })
}

async fn start_sources(config: &Config, parts: &Parts) -> anyhow::Result<Sources> {
    let mut sources = Sources::new();
    for (name, source) in sources::wanted(config) {
        let prepared = source.prepare(parts).await?;
        sources.start(&name, source, prepared, parts);
    }
    sources.watch_links(parts).await;
    Ok(sources)
}
