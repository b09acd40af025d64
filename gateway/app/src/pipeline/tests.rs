//! The pipeline against a real store on a disk that is sometimes full.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::inventory::Device;
use kerbside_model::profile::{DocumentFormat, PayloadFormat, Profile};
use kerbside_model::site::SiteFacts;
use kerbside_model::vocabulary::Kind;
use kerbside_model::{ByteText, Frame, Input, Payload, Site};
use kerbside_runtime::{Clock, Health, HealthState, Intake, Metrics, Receipt, Shutdown};
use kerbside_store::{AuditQuery, Store, StoreConfig};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use super::publish::Publisher;
use super::recover::recover;
use super::{EngineHandle, Pipeline, PipelineSettings};
use crate::live::Live;

/// Pages of 4096 bytes that an empty store just fits into.
const PAGES_MAX: u32 = 60;
const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    store: Store,
    health: Health,
    intake: Intake,
    site: Arc<Site>,
    _engine: EngineHandle,
    stop: Shutdown,
    thread: std::thread::JoinHandle<()>,
    _folder: TempDir,
}

fn site() -> Arc<Site> {
    let profile = Profile {
        name: "test".to_owned(),
        version: 1,
        kind: Kind::ManholeCover,
        vendor: String::new(),
        model: String::new(),
        component_class: String::new(),
        payload: PayloadFormat::Json(DocumentFormat::default()),
        interval: None,
        points: Vec::new(),
        conditions: Vec::new(),
        detectors: Vec::new(),
        samples: Vec::new(),
        walk_test: Vec::new(),
        overrides: Vec::new(),
        tests: Vec::new(),
    };
    let device = Device { id: "MH-1".to_owned(), address: "MH-1".to_owned(), ..Device::default() };
    Arc::new(Site::new(SiteFacts::new("test", vec![Arc::new(profile)], vec![device])))
}

fn start(deaf_min: Duration) -> Bench {
    let folder = TempDir::new().unwrap();
    let (metrics, health) = (Metrics::default(), Health::default());
    let config = StoreConfig::new(folder.path().to_owned());
    let store = Store::open(config, Clock::System, &metrics, &health).unwrap();
    let site = site();
    store.save_site(&site).unwrap();
    let engine = recover(&store, &site, Clock::System.now()).unwrap();
    let (intake, receiver) = Intake::new(64, 1 << 24);
    let publisher = Arc::new(Publisher::new(Live::new(Arc::default()), Arc::new(Notify::new()), &metrics));
    let settings = PipelineSettings {
        commit_interval: Duration::from_millis(1),
        commit_bytes_max: 1 << 20,
        snapshot_interval: Duration::from_secs(3_600),
        deaf_min,
    };
    let (pipeline, handle) = Pipeline::new(engine, store.clone(), receiver, publisher, Clock::System, settings);
    let stop = Shutdown::new();
    let thread = pipeline.spawn(stop.clone(), oneshot::channel().0).unwrap();
    intake.try_submit(vec![Input::Site(Arc::clone(&site))], Receipt::None).unwrap();
    Bench { store, health, intake, site, _engine: handle, stop, thread, _folder: folder }
}

/// A frame that compresses badly.
fn frame(seed: u64) -> Input {
    let mut random = fastrand::Rng::with_seed(seed);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64 * 1024).collect();
    Input::Frame(Frame {
        source: Arc::from("test"),
        address: ByteText::from("nobody"),
        payload: Payload::Bytes(bytes.into()),
        received_at: Clock::System.now(),
        retained: false,
    })
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "{what}");
}

impl Bench {
    fn is_down(&self) -> bool {
        self.health.snapshot().iter().any(|part| part.component == "store" && part.state == HealthState::Down)
    }

    fn times_loaded(&self) -> usize {
        let query = AuditQuery { subject: Some(self.site.hash().to_owned()), ..AuditQuery::default() };
        self.store.audit(&query).unwrap().items.iter().filter(|line| line.action == "site_loaded").count()
    }

    /// More submissions than the store and the pipeline hold on their way, each in a batch of its own.
    async fn fill(&self) {
        self.store.limit_pages(PAGES_MAX);
        for seed in 0..8 {
            self.intake.submit(vec![frame(seed)], Receipt::None).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wait_until("the disk is full", || self.is_down()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_disk_was_full_silence_is_counted_anew() {
    let bench = start(Duration::from_millis(300));
    wait_until("the site is loaded", || bench.times_loaded() == 1).await;
    bench.fill().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    bench.store.limit_pages(0);
    bench.intake.submit_durably(vec![frame(9)]).await.unwrap();
    wait_until("the site is loaded again", || bench.times_loaded() >= 2).await;
    bench.stop.cancel();
    tokio::task::spawn_blocking(|| bench.thread.join().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_keep_the_gateway_from_stopping() {
    let bench = start(Duration::from_secs(30));
    wait_until("the site is loaded", || bench.times_loaded() == 1).await;
    bench.fill().await;
    let unacknowledged = bench.intake.submit_durably(vec![frame(9)]);
    let stop = async {
        bench.stop.cancel();
        crate::gateway::join_pipeline(bench.thread, bench.store.clone(), Duration::from_millis(50)).await
    };
    let stopped = tokio::time::timeout(DEADLINE, async { tokio::join!(unacknowledged, stop) }).await;
    let (unacknowledged, joined) = stopped.expect("it stops");
    assert!(unacknowledged.is_err(), "what is not on the disk is not acknowledged");
    assert!(matches!(joined, Ok(Ok(()))));
}

#[test]
fn without_a_snapshot_and_with_every_batch_gone_the_tables_are_used() {
    let bench = start(Duration::from_secs(30));
    let (store, site) = (bench.store.clone(), Arc::clone(&bench.site));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(wait_until("the site is loaded", || bench.times_loaded() == 1));
    assert!(super::recover::replay(&store, &site, store.last_sequence().unwrap()).is_ok());
    let missing = store.last_sequence().unwrap() + 1;
    assert!(super::recover::replay(&store, &site, missing).is_err(), "a batch that was committed is not there");
    bench.stop.cancel();
    bench.thread.join().unwrap();
}
