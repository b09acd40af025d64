//! Applies a changed configuration to the running gateway, and only what changed in it.
//!
//! The whole configuration is read and checked first; with a problem in it nothing is touched. Profiles, inventory, duty
//! and case policy reach the engine as an input, in the order of the frames: those that came before are decoded as
//! before. Sources, sinks and targets that are built from something else are exchanged one by one; the others are not
//! touched, and lose no message and no connection. What is exchanged loses nothing either: a broker keeps what was not
//! acknowledged, the store keeps outbox and telemetry. What can fail comes before anything is final: then what was
//! stopped is started again as it was.
//!
//! After a crash in the middle the gateway starts with whatever the files say. Health: `configuration`. Metric:
//! `kerbside_reloads_total{outcome}`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kerbside_model::document::Problem;
use kerbside_model::{Input, Site};
use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Receipt, Shutdown};
use kerbside_store::Store;
use prometheus::IntCounterVec;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::Parts;
use super::delivery::{self, Delivery, PreparedTarget, TargetConfig};
use super::difference::{self, Changes, Fixed};
use super::sources::{self, PreparedSource, SourceConfig, Sources};
use super::supervise::Supervisor;
use super::telemetry::{self, Telemetry};
use crate::config::{self, Account, Config, Fingerprint, Lineages, ProcessEnvironment, ReloadMode};
use crate::live::Live;
use crate::reload::{Outcome, ReloadReport, ReloadRequest};
use crate::trial;

/// The files are looked at this often; most looks only ask for their sizes and times.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Who applies a change that nobody asked for.
const WATCH: &str = "watch";

/// Everything that may be exchanged, and what it was built from.
pub(super) struct Reloader {
    pub(super) config: Config,
    pub(super) fixed: Fixed,
    /// What links in messages begin with, when the configuration leaves the port to the system.
    pub(super) public_url: String,
    pub(super) parts: Parts,
    pub(super) store: Store,
    pub(super) sources: Sources,
    pub(super) telemetry: Telemetry,
    pub(super) delivery: Delivery,
    pub(super) site: Live<Site>,
    pub(super) accounts: Live<Vec<Account>>,
    pub(super) lineages: Live<Lineages>,
    pub(super) health: HealthReporter,
    pub(super) shutdown: Shutdown,
}

/// What is to be done.
struct Plan {
    sources: Changes<SourceConfig>,
    telemetry: Changes<kerbside_sinks::influx::InfluxConfig>,
    targets: Changes<TargetConfig>,
    has_other_site: bool,
    has_other_accounts: bool,
}

impl Plan {
    fn is_empty(&self) -> bool {
        let is_same = self.sources.is_empty() && self.telemetry.is_empty() && self.targets.is_empty();
        is_same && !self.has_other_site && !self.has_other_accounts
    }
}

/// Files that changed since they were applied, or refused.
struct Look {
    files: Fingerprint,
    /// A change was seen and not acted upon.
    is_pending: bool,
}

impl Reloader {
    /// Serves requests and looks at the files until the shutdown.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        let reloads = self.parts.metrics.counters(
            "kerbside_reloads_total",
            "Configurations that were to be applied while the gateway ran.",
            &["outcome"],
        );
        let mut look = Look { files: std::mem::take(&mut self.config.files), is_pending: false };
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        let (shutdown, fallen) = (self.shutdown.clone(), self.parts.fallen.clone());
        let mut supervisor = Supervisor::new(&self.parts.metrics);
        self.look_after(&mut supervisor).await;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = fallen.any() => self.look_after(&mut supervisor).await,
                () = supervisor.due() => self.look_after(&mut supervisor).await,
                Some(ReloadRequest { by, answer }) = requests.recv() => {
                    let report = self.reload(&by, &mut look, &reloads).await;
                    drop(answer.send(report));
                }
                _ = interval.tick() => {
                    if self.is_due(&mut look).await {
                        self.reload(WATCH, &mut look, &reloads).await;
                    }
                }
            }
        }
    }

    /// Whether the files changed and are to be applied. They are given until the next look to be complete.
    async fn is_due(&self, look: &mut Look) -> bool {
        let mut files = std::mem::take(&mut look.files);
        let looked = tokio::task::spawn_blocking(move || {
            let has_changed = files.look();
            (files, has_changed)
        });
        let Ok((files, has_changed)) = looked.await else { return false };
        look.files = files;
        if has_changed {
            if !std::mem::replace(&mut look.is_pending, true) && self.config.reload == ReloadMode::Manual {
                warn!("the configuration changed on the disk: apply it with `kerbside reload`");
                self.health.ok_with("changed on the disk and not applied: run `kerbside reload`");
            }
            return false;
        }
        look.is_pending && self.config.reload == ReloadMode::Watch
    }

    async fn reload(&mut self, by: &str, look: &mut Look, reloads: &IntCounterVec) -> ReloadReport {
        let path = self.config.path.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let (loaded, files) = config::load_watching(&path, &ProcessEnvironment);
            (loaded.and_then(tried), files)
        });
        let report = match loading.await {
            Ok((loaded, files)) => {
                *look = Look { files, is_pending: false };
                self.take(loaded, by).await
            }
            Err(failure) => self.report(Outcome::Refused, by, format!("reading the configuration failed: {failure}")),
        };
        self.tell(&report, reloads);
        report
    }

    async fn take(&mut self, loaded: Result<Tried, Vec<Problem>>, by: &str) -> ReloadReport {
        let Tried { config: mut new, overloaded } = match loaded {
            Ok(tried) => tried,
            Err(problems) => return self.refused(problems, by),
        };
        let mut fresh = fresh_warnings(&self.config.warnings, &new.warnings);
        let (newly, always) = newly_overloaded(&self.config, overloaded);
        fresh.extend(newly);
        fresh.extend(emptied(&self.config.site, &new));
        if !fresh.is_empty() {
            return self.refused(fresh, by);
        }
        let needs_restart = self.fixed.needs_restart(&new);
        self.fixed.keep_in(&mut new);
        let (old_site, new_site) = (Arc::clone(&self.config.site), Arc::clone(&new.site));
        let plan = self.plan(&new);
        let mut report = self.report(Outcome::Unchanged, by, String::new());
        report.needs_restart = needs_restart;
        report.devices = difference::devices(&old_site, &new_site);
        report.profiles = difference::profiles(&old_site, &new_site);
        report.notices = difference::uncounted(&new_site, &report.profiles);
        report.notices.extend(new.notices.iter().filter(|notice| !self.config.notices.contains(notice)).cloned());
        report.notices.extend(always.iter().map(ToString::to_string));
        report.components = [plan.sources.views(), plan.telemetry.views(), plan.targets.views()].concat();
        if plan.is_empty() {
            "nothing in the configuration is different".clone_into(&mut report.summary);
            self.config = new;
            return report;
        }
        match self.apply(plan, &new, by, &mut report.notices).await {
            Ok(()) => {
                report.outcome = Outcome::Applied;
                report.summary = applied(&report);
                new_site.hash().clone_into(&mut report.site_hash);
                self.config = new;
            }
            Err(cause) => {
                report.outcome = Outcome::RolledBack;
                report.summary = format!("everything is as it was, because the gateway failed to {cause:#}");
            }
        }
        report
    }

    fn plan(&self, new: &Config) -> Plan {
        let public_url = if new.listen.port() == 0 { &self.public_url } else { &new.public_url };
        Plan {
            sources: Changes::between(&self.sources.configs(), sources::wanted(new)),
            telemetry: Changes::between(&self.telemetry.configs(), telemetry::wanted(new)),
            targets: Changes::between(&self.delivery.configs(), delivery::wanted(new, public_url)),
            has_other_site: new.site.hash() != self.config.site.hash(),
            has_other_accounts: *self.accounts.get() != new.accounts,
        }
    }

    /// Does it all, or nothing: what can fail comes first.
    async fn apply(&mut self, plan: Plan, new: &Config, by: &str, notices: &mut Vec<String>) -> anyhow::Result<()> {
        let targets = self.prepare_targets(plan.targets.start)?;
        let (store, site) = (self.store.clone(), Arc::clone(&new.site));
        tokio::task::spawn_blocking(move || store.save_site(&site)).await.context("store the site")??;
        let stopped = self.stop_sources(&plan.sources.stop).await;
        let sources = match self.prepare_sources(plan.sources.start).await {
            Ok(sources) => sources,
            Err(cause) => {
                self.restore_sources(stopped).await;
                return Err(cause);
            }
        };
        // From here on nothing can fail but the end of the gateway.
        self.exchange_targets(&plan.targets.stop, targets, notices).await?;
        // Before the first frame of a new device is committed: a sink that reads it back would not know the device.
        self.telemetry.set_site(Arc::clone(&new.site));
        // Behind everything that was heard before; with the same site it is only a line of the audit log.
        let change = Input::Change { site: Arc::clone(&new.site), by: by.to_owned() };
        let receipt = self.submit(vec![change]).await?;
        let has_other_sources = !stopped.is_empty() || !sources.is_empty();
        for (name, config, prepared) in sources {
            self.sources.start(&name, config, prepared, &self.parts);
        }
        if has_other_sources {
            self.forget_gone(&plan.sources.stop);
            self.sources.watch_links(&self.parts).await;
        }
        self.wait(receipt).await?;
        self.site.set(Arc::clone(&new.site));
        self.lineages.set(Arc::new(new.lineages.clone()));
        self.set_accounts(new, notices);
        self.exchange_sinks(plan.telemetry, new, notices).await;
        Ok(())
    }

    fn prepare_targets(
        &self,
        wanted: Vec<(String, TargetConfig)>,
    ) -> anyhow::Result<Vec<(String, TargetConfig, PreparedTarget)>> {
        let mut targets = Vec::with_capacity(wanted.len());
        for (name, config) in wanted {
            let prepared = config.prepare(&self.parts).with_context(|| format!("start {name}"))?;
            targets.push((name, config, prepared));
        }
        Ok(targets)
    }

    async fn stop_sources(&mut self, names: &[String]) -> Vec<(String, SourceConfig)> {
        self.sources.begin_to_stop(names);
        let mut stopped = Vec::with_capacity(names.len());
        for name in names {
            if let Some(config) = self.sources.stop(name).await {
                stopped.push((name.clone(), config));
            }
        }
        stopped
    }

    async fn prepare_sources(
        &self,
        wanted: Vec<(String, SourceConfig)>,
    ) -> anyhow::Result<Vec<(String, SourceConfig, PreparedSource)>> {
        let mut sources = Vec::with_capacity(wanted.len());
        for (name, config) in wanted {
            let prepared = config.prepare(&self.parts).await.with_context(|| format!("start {name}"))?;
            sources.push((name, config, prepared));
        }
        Ok(sources)
    }

    /// Starts again what was stopped for a change that does not come.
    async fn restore_sources(&mut self, stopped: Vec<(String, SourceConfig)>) {
        for (name, config) in stopped {
            match config.prepare(&self.parts).await {
                Ok(prepared) => self.sources.start(&name, config, prepared, &self.parts),
                Err(cause) => error!(source = %name, cause = %format!("{cause:#}"), "a source could not start again"),
            }
        }
        self.sources.watch_links(&self.parts).await;
    }

    /// What old workers told must be in the store before new ones ask it what is left to deliver.
    async fn exchange_targets(
        &mut self,
        stop: &[String],
        start: Vec<(String, TargetConfig, PreparedTarget)>,
        notices: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        for name in stop {
            self.delivery.stop(name).await;
        }
        if !stop.is_empty() {
            let receipt = self.submit(Vec::new()).await?;
            self.wait(receipt).await?;
        }
        for (name, config, prepared) in start {
            self.delivery.start(&name, config, prepared, &self.parts);
        }
        for name in stop.iter().filter(|name| !self.delivery.runs(name)) {
            self.parts.health.forget(name);
            self.parts.health.forget(&format!("{name}/status"));
            notices
                .push(format!("{name}: what was not delivered to it stays in the outbox until it is configured again"));
        }
        Ok(())
    }

    /// A target that fell in part ends as a whole and begins anew.
    pub(super) async fn exchange_target(
        &mut self,
        name: &str,
        (config, prepared): (TargetConfig, PreparedTarget),
    ) -> anyhow::Result<()> {
        self.exchange_targets(&[name.to_owned()], vec![(name.to_owned(), config, prepared)], &mut Vec::new()).await
    }

    async fn exchange_sinks(
        &mut self,
        changes: Changes<kerbside_sinks::influx::InfluxConfig>,
        new: &Config,
        notices: &mut Vec<String>,
    ) {
        for name in &changes.stop {
            self.telemetry.stop(name).await;
        }
        self.telemetry.keep_for(new);
        for (name, config) in changes.start {
            if let Err(cause) = self.telemetry.start(&name, config, &self.parts) {
                // Tried before with the same settings, so that only a file can have gone meanwhile.
                error!(sink = %name, cause = %format!("{cause:#}"), "a sink could not start");
                notices.push(format!("{name} could not start: {cause:#}; what it should have stays in the store"));
            }
        }
        for name in changes.stop.iter().filter(|name| !self.telemetry.runs(name)) {
            self.parts.health.forget(name);
        }
    }

    fn forget_gone(&self, stopped: &[String]) {
        for name in stopped.iter().filter(|name| !self.sources.runs(name)) {
            self.parts.health.forget(name);
        }
    }

    async fn submit(&self, inputs: Vec<Input>) -> anyhow::Result<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        self.parts.intake.submit(inputs, Receipt::Once(sender)).await?;
        Ok(receiver)
    }

    /// Waits until it is on the disk, which a full disk delays.
    async fn wait(&self, receipt: oneshot::Receiver<()>) -> anyhow::Result<()> {
        let waited = self.shutdown.run_until_cancelled(receipt).await;
        waited
            .context("wait for the disk: the gateway is about to stop")?
            .context("wait for the pipeline: it has ended")
    }

    /// While the API listens to the street it is never opened to everybody.
    fn set_accounts(&self, new: &Config, notices: &mut Vec<String>) {
        if new.accounts.is_empty() && !self.fixed.is_loopback() {
            notices.push("accounts: the old ones stay until the gateway listens on loopback only".to_owned());
            return;
        }
        self.accounts.set(Arc::new(new.accounts.clone()));
    }

    fn refused(&self, problems: Vec<Problem>, by: &str) -> ReloadReport {
        let mut report = self.report(Outcome::Refused, by, String::new());
        let count = problems.len();
        report.summary = match problems.first() {
            Some(first) if count == 1 => format!("nothing was changed, because of a problem: {first}"),
            Some(first) => format!("nothing was changed, because of {count} problems; the first: {first}"),
            None => "nothing was changed".to_owned(),
        };
        report.problems = problems.into_iter().map(Into::into).collect();
        report
    }

    fn report(&self, outcome: Outcome, by: &str, summary: String) -> ReloadReport {
        ReloadReport {
            outcome,
            at: self.parts.clock.now(),
            by: by.to_owned(),
            summary,
            site_hash: self.config.site.hash().to_owned(),
            devices: Default::default(),
            profiles: Vec::new(),
            components: Vec::new(),
            needs_restart: Vec::new(),
            notices: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Health, log and metric.
    fn tell(&self, report: &ReloadReport, reloads: &IntCounterVec) {
        let name = match report.outcome {
            Outcome::Applied => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Refused => "refused",
            Outcome::RolledBack => "rolled_back",
        };
        reloads.with_label_values(&[name]).inc();
        match report.outcome {
            Outcome::Applied | Outcome::Unchanged => {
                info!(by = %report.by, summary = %report.summary, "configuration read again");
                if report.needs_restart.is_empty() {
                    self.health.ok();
                } else {
                    self.health.ok_with(format!("waits for a restart: {}", report.needs_restart.join("; ")));
                }
            }
            Outcome::Refused | Outcome::RolledBack => {
                error!(by = %report.by, "configuration not applied: {}", report.summary);
                for problem in report.problems.iter().skip(1) {
                    error!("configuration not applied: {}", problem.text);
                }
                self.health.degraded(format!("not applied: {}", report.summary));
            }
        }
        for notice in report.notices.iter().chain(&report.needs_restart) {
            warn!("{notice}");
        }
    }
}

/// A configuration whose components can be built.
struct Tried {
    config: Config,
    /// Modbus buses that have no time for what is to be read.
    overloaded: Vec<Problem>,
}

fn tried(config: Config) -> Result<Tried, Vec<Problem>> {
    let refused = trial::refused(&config);
    if refused.is_empty() { Ok(Tried { overloaded: trial::overloaded(&config), config }) } else { Err(refused) }
}

/// Those that had the time before. One that never had it must not stand in the way of another change, nor of its cure.
fn newly_overloaded(old: &Config, overloaded: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
    let before = if overloaded.is_empty() { Vec::new() } else { trial::overloaded(old) };
    overloaded.into_iter().partition(|bus| !before.iter().any(|other| other.value == bus.value))
}

/// What is wrong with an inventory without any device, where there were some: a file that was cut off while it was
/// written looks like that, and every alarm would end with its device.
fn emptied(old: &Site, new: &Config) -> Option<Problem> {
    let had = old.devices().len();
    (had > 0 && new.site.devices().is_empty()).then(|| Problem {
        file: new.path.display().to_string(),
        line: 0,
        key: "inventory".to_owned(),
        value: String::new(),
        what: format!("it names no device any more, and {had} are in force"),
        mend: "bring the file back; or restart the gateway, if no device is meant to be left".to_owned(),
    })
}

/// Rows of the inventory that are left out now and were not before: a device must not vanish by a slip of the pen. Lines
/// move when rows are added above.
fn fresh_warnings(old: &[Problem], new: &[Problem]) -> Vec<Problem> {
    let same = |one: &Problem, other: &Problem| Problem { line: one.line, ..other.clone() } == *one;
    new.iter().filter(|warning| !old.iter().any(|other| same(warning, other))).cloned().collect()
}

fn applied(report: &ReloadReport) -> String {
    let mut parts = Vec::new();
    let devices = &report.devices;
    for (count, what) in
        [(devices.added.count, "added"), (devices.changed.count, "changed"), (devices.removed.count, "removed")]
    {
        if count > 0 {
            parts.push(format!("devices {what}: {count}"));
        }
    }
    if !report.profiles.is_empty() {
        let names: Vec<&str> = report.profiles.iter().map(|change| change.profile.as_str()).collect();
        parts.push(format!("profiles: {}", names.join(", ")));
    }
    if !report.components.is_empty() {
        let names: Vec<&str> = report.components.iter().map(|change| change.component.as_str()).collect();
        parts.push(format!("started, stopped or exchanged: {}", names.join(", ")));
    }
    if parts.is_empty() {
        parts.push("duty, case policy, limits or accounts".to_owned());
    }
    parts.join("; ")
}
