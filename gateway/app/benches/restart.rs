//! How long a restart takes with a day of data in the store: from opening the database to an engine that is ready.
//!
//! Fills a store in a temporary folder as the pipeline would (batches, effects, a snapshot every five minutes), closes
//! it without a last snapshot, and opens it again. `cargo bench -p kerbside --bench restart` takes 10,000 devices with
//! a message every 100 s for a day, 8.64 million messages of about 150 bytes; another number of devices is the first
//! argument, another number of rounds the second. Prints what is on the disk, and the times.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use kerbside_app::pipeline::recover;
use kerbside_engine::{ENGINE_VERSION, Engine};
use kerbside_model::document::Problems;
use kerbside_model::incident::IncidentPolicy;
use kerbside_model::inventory::Device;
use kerbside_model::profile::parse_profile_text;
use kerbside_model::site::{CasePolicy, FrameLimits, LEDGER, SiteFacts};
use kerbside_model::{FrameFlags, Frames, Input, Severity, Site, StoredInput, Timestamp};
use kerbside_runtime::{Clock, Health, Metrics};
use kerbside_store::{Commit, NewSnapshot, Store, StoreConfig, StoreReader};

const COVER: &str = include_str!("../../../device-profiles/json-manhole-cover.yaml");
/// What one commit holds under load.
const BATCH_FRAMES: usize = 5_000;
const ROUND: Duration = Duration::from_secs(100);
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);
const BEGIN: Timestamp = Timestamp(1_776_643_200_000);
const RESTARTS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let devices = numbers.next().unwrap_or(10_000);
    let rounds = numbers.next().unwrap_or(864);
    let folder = tempfile::tempdir()?;
    let site = site(devices);
    let filling = Clock::stamp();
    let last = fill(folder.path(), &site, rounds)?;
    let overview = StoreReader::open(folder.path())?.overview()?;
    say(&format!(
        "{devices} devices, {} messages, {} batches, {:.0} MiB on disk, {} batches after the newest snapshot; filled in {:.0} s",
        devices * rounds,
        overview.rows["batches"],
        mebibytes(overview.database_bytes + overview.log_bytes),
        overview.batches_since_snapshot,
        filling.elapsed().as_secs_f64(),
    ));
    for restart in 1..=RESTARTS {
        let began = Clock::stamp();
        let store = open(folder.path())?;
        let opened = began.elapsed();
        let engine = recover::recover(&store, &site, last)?;
        let ready = began.elapsed();
        say(&format!(
            "restart {restart}: store open after {:.0} ms, engine with {} devices ready after {:.0} ms, {:.0} MiB resident",
            opened.as_secs_f64() * 1e3,
            engine.site().devices().len(),
            ready.as_secs_f64() * 1e3,
            mebibytes(resident_bytes()),
        ));
        store.close()?;
    }
    Ok(())
}

fn site(devices: usize) -> Arc<Site> {
    let profile = parse_profile_text("cover", COVER, &Problems::default()).expect("the shipped profile is sound");
    let device =
        |number: usize| Device { id: format!("MH-{number}"), address: format!("covers/{number}"), ..Device::default() };
    let cases = CasePolicy { platform: LEDGER.to_owned(), severity_min: Severity::Minor, close_after: ROUND };
    Arc::new(Site::new(SiteFacts {
        name: "bench".to_owned(),
        profiles: vec![Arc::new(profile)],
        devices: (0..devices).map(device).collect(),
        sources: Vec::new(),
        cases,
        duty: Vec::new(),
        limits: FrameLimits::default(),
        incidents: IncidentPolicy::default(),
    }))
}

fn open(folder: &Path) -> Result<Store, kerbside_store::StoreError> {
    let config = StoreConfig { batches_bytes_max: 1 << 40, free_bytes_min: 0, ..StoreConfig::new(folder.to_owned()) };
    Store::open(config, Clock::System, &Metrics::default(), &Health::default())
}

/// Commits a day; returns its last moment.
fn fill(folder: &Path, site: &Arc<Site>, rounds: usize) -> Result<Timestamp, Box<dyn std::error::Error>> {
    let store = open(folder)?;
    store.save_site(site)?;
    let mut engine = Engine::new(Arc::clone(site));
    let mut now = BEGIN;
    let mut snapshot_due = BEGIN;
    let mut random = fastrand::Rng::with_seed(7);
    commit(&store, &mut engine, now, vec![Input::Site(Arc::clone(site))], false)?;
    let devices = site.devices().len();
    let batches = devices.div_ceil(BATCH_FRAMES);
    let step = ROUND / u32::try_from(batches)?;
    for _ in 0..rounds {
        for first in (0..devices).step_by(BATCH_FRAMES) {
            now = now.plus(step);
            let mut frames = Frames::new("mqtt".into(), now);
            for number in first..devices.min(first + BATCH_FRAMES) {
                let payload = format!(
                    "{{\"deviceId\":\"MH-{number}\",\"ts\":{},\"open\":false,\"tilt\":{:.1},\"water\":false,\"batt\":3.{:02},\
                     \"rssi\":-{},\"temp\":{:.1},\"ch4\":0.02,\"h2s\":0.1}}",
                    now.as_millis(),
                    random.f32() * 3.0,
                    random.u8(50..70),
                    random.u8(60..120),
                    random.f32() * 30.0
                );
                frames.push(&format!("covers/{number}"), payload.as_bytes(), FrameFlags::default(), None);
            }
            let is_due = now >= snapshot_due;
            commit(&store, &mut engine, now, vec![Input::Frames(frames)], is_due)?;
            if is_due {
                snapshot_due = now.plus(SNAPSHOT_INTERVAL);
            }
        }
    }
    store.close()?;
    Ok(now)
}

fn commit(
    store: &Store,
    engine: &mut Engine,
    now: Timestamp,
    inputs: Vec<Input>,
    with_snapshot: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let effects = engine.step(now, &inputs);
    let snapshot = with_snapshot.then(|| NewSnapshot {
        engine_version: ENGINE_VERSION,
        site_hash: engine.site().hash().to_owned(),
        body: engine.snapshot(),
    });
    let (sender, receiver) = sync_channel(1);
    let inputs = inputs.into_iter().map(StoredInput::from).collect();
    let done = Box::new(move |_| sender.send(()).unwrap_or_default());
    store.commit(Commit { now, inputs, effects, snapshot, done })?;
    Ok(receiver.recv()?)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Resident memory of this process, from `/proc`.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}
