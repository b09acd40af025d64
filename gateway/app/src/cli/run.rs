//! `kerbside run`: the gateway, until it is told to stop.

use std::path::PathBuf;

use anyhow::Context as _;
use kerbside_runtime::{Clock, logging};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use super::say_problems;
use crate::config::{self, ProcessEnvironment};
use crate::gateway::Gateway;
use crate::reload::ReloadHandle;

/// Arguments of `kerbside run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// The configuration.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
}

/// Worker threads for sources, sinks and API. The engine and the store have threads of their own; more workers would
/// wake each other up more often than they would help on a box with two cores.
pub(super) const WORKER_THREADS: usize = 1;

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<u8> {
    let config = match config::load(&arguments.config, &ProcessEnvironment) {
        Ok(config) => config,
        Err(problems) => {
            say_problems(&problems);
            return Ok(super::check::UNSOUND);
        }
    };
    logging::start(config.log.format, &config.log.level);
    runtime()?.block_on(async {
        // From the first moment on: without a handler the signal would end the process.
        let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let mut gateway = Gateway::start(config, Clock::guarded(), 1.0).await?;
        // Without a service manager there is nobody to tell.
        drop(sd_notify::notify(false, &[NotifyState::Ready]));
        let reload = gateway.reload.clone();
        let ended_well = tokio::select! {
            () = told_to_stop() => true,
            () = gateway.failed() => false,
            never = reload_when_told(hangup, reload) => match never {},
        };
        drop(sd_notify::notify(false, &[NotifyState::Stopping]));
        info!("stopping");
        gateway.stop().await;
        if !ended_well {
            error!("the pipeline ended by itself; the service manager should start the gateway again");
            return Ok(1);
        }
        info!("stopped");
        Ok(0)
    })
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKER_THREADS).enable_all().build().context("start the asynchronous runtime")
}

/// Applies the configuration at each SIGHUP; what becomes of it is in the log and in health.
async fn reload_when_told(mut hangup: Signal, reload: ReloadHandle) -> std::convert::Infallible {
    while hangup.recv().await.is_some() {
        drop(sd_notify::notify(false, &[NotifyState::Reloading]));
        drop(reload.reload("SIGHUP").await);
        drop(sd_notify::notify(false, &[NotifyState::Ready]));
    }
    std::future::pending().await
}

/// Returns at the first SIGTERM or SIGINT.
pub(super) async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process at once, which every stage survives.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
