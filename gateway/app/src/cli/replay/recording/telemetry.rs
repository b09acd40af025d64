//! The readings of a replay for a database that is named on the command line, and for no other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kerbside_model::Site;
use kerbside_runtime::{Health, Metrics, Secret, Shutdown};
use kerbside_sinks::influx::{Gzip, InfluxConfig, InfluxSink};
use kerbside_store::Store;

use crate::cli::say_error;
use crate::pipeline::backlog::StoreBacklog;

const NAME: &str = "replay";
/// How often the delivery is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// What waits is told this often.
const LOOKS_BETWEEN_WORDS: u32 = 25;

/// A database for the readings.
#[derive(Debug, clap::Args)]
pub(super) struct InfluxArguments {
    /// Sends the readings to this InfluxDB, at the times at which they were observed, such as http://127.0.0.1:8086.
    #[arg(long, value_name = "URL", requires_all = ["file", "influx_org", "influx_bucket"])]
    influx: Option<String>,
    /// Its organisation.
    #[arg(long, value_name = "NAME", requires = "influx")]
    influx_org: Option<String>,
    /// The bucket; take one for replays alone, since the points are those of the recorded time.
    #[arg(long, value_name = "NAME", requires = "influx")]
    influx_bucket: Option<String>,
    /// The file with a token that may write to the bucket.
    #[arg(long, value_name = "FILE", requires = "influx")]
    influx_token_file: Option<PathBuf>,
}

/// Where the readings go.
pub(super) struct Telemetry(InfluxConfig);

/// The database of the arguments, when one is named.
pub(super) fn sink(arguments: &InfluxArguments) -> anyhow::Result<Option<Telemetry>> {
    let Some(url) = &arguments.influx else { return Ok(None) };
    let token = arguments.influx_token_file.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).with_context(|| format!("read the token in {}", file.display()))?;
        anyhow::Ok(Secret::new(text.trim_end()))
    });
    Ok(Some(Telemetry(InfluxConfig {
        name: NAME.to_owned(),
        url: url.trim_end_matches('/').to_owned(),
        org: arguments.influx_org.clone().unwrap_or_default(),
        bucket: arguments.influx_bucket.clone().unwrap_or_default(),
        token: token.transpose()?,
        ca: None,
        gzip: Gzip::Auto,
        lines_max: 5_000,
        bytes_max: 1 << 20,
        flush_interval: Duration::from_millis(100),
        requests_max: 4,
        backlog_share_percent: 100,
        timeout: Duration::from_secs(10),
        backoff_max: Duration::from_secs(5),
        queue_batches_max: 256,
    })))
}

impl Telemetry {
    /// Has the database keep the batches until they were sent.
    pub(super) fn register(&self, store: &Store) {
        store.register_sinks(&[NAME.to_owned()]);
    }

    /// Sends everything that is in the scratch database; goes on trying while the other database is away.
    pub(super) async fn send(self, store: &Store, site: Arc<Site>) -> anyhow::Result<()> {
        let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
        let backlog = Arc::new(StoreBacklog::new(store.clone(), site));
        let (sink, handle) = InfluxSink::new(self.0, backlog, &metrics, &health)?;
        let last = store.last_sequence()?;
        handle.leave(last);
        let running = tokio::spawn(sink.run(shutdown.clone()));
        let mut looks = 0_u32;
        loop {
            let sent = store.cursor(NAME)?;
            if sent >= last || running.is_finished() {
                break;
            }
            if looks.is_multiple_of(LOOKS_BETWEEN_WORDS) {
                let told: Vec<String> = health.snapshot().iter().map(|part| part.detail.clone()).collect();
                say_error(&format!("sending readings: {sent} of {last} batches. {}", told.join("; ")));
            }
            looks = looks.wrapping_add(1);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        shutdown.cancel();
        running.await.context("send the readings of the replay")
    }
}
