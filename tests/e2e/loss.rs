//! Everything that can be lost is tried: the gateway is killed, Mosquitto and VictoriaMetrics go away, the disk fills
//! up, a byte of the database rots. What Mosquitto acknowledged is in the database once, every cover that opened has
//! one case, and every start is ready without a hand.
//!
//! `KERBSIDE_SEED` repeats the order of mishaps and their moments, `KERBSIDE_ROUNDS` says how many there are, and
//! `KERBSIDE_MISHAP` names the only one, such as `RotByte`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use kerbside_runtime::Clock;
use serde_json::Value;

use crate::city::City;
use crate::disk::Disk;
use crate::external::{Mosquitto, Victoria};
use crate::gateway::{Gateway, Site};
use crate::influx::Influx;
use crate::traffic::{INCIDENTS, PLATFORM_TAKES, PROFILE, SETTLE_WITHIN, Sent, Traffic, check_cases, inventory};
use crate::wait::{SOON, wait_for, wait_until};

const ROUNDS: u32 = 25;
/// A mishap begins at a moment between these after the one before is over.
const LIFE_MS: std::ops::Range<u64> = 50..2_000;
/// What is away is away for so long.
const AWAY_MS: std::ops::Range<u64> = 100..2_500;
/// A start is ready after this at the latest.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What goes wrong in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mishap {
    KillGateway,
    RestartBroker,
    StopDatabase,
    FillDisk,
    RotByte,
}

/// Every so many rounds each of these happens once, in any order.
const DECK: [Mishap; 6] = [
    Mishap::KillGateway,
    Mishap::KillGateway,
    Mishap::RestartBroker,
    Mishap::StopDatabase,
    Mishap::FillDisk,
    Mishap::RotByte,
];

/// The number in an environment variable.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

struct Scene {
    /// None only while it is dead.
    gateway: Option<Gateway>,
    mosquitto: Mosquitto,
    victoria: Victoria,
    city: City,
    traffic: Traffic,
    random: Rng,
    longest_start: Duration,
    disk_was_full: bool,
    /// Messages that the database did not have when a byte rotted and the gateway said that it lost something.
    forgivable: BTreeSet<u64>,
    // The folder goes after the file system on it.
    disk: Disk,
    site: Site,
}

impl Scene {
    async fn set(seed: u64, rounds: u32) -> Scene {
        let (mosquitto, victoria) = (Mosquitto::start().await, Victoria::start().await);
        let city = City::start().await;
        city.answer_after(PLATFORM_TAKES);
        let mut site = Site::new(&inventory());
        site.survives_file_limit = true;
        let disk = Disk::prepare(&site.path("data"));
        eprintln!("the disk is {}", disk.describe());
        site.write("profiles/e2e-cover.yaml", PROFILE);
        let sources = format!("sources:\n{}", Mosquitto::source(mosquitto.address.port()));
        site.configure(
            &[
                "profiles: profiles/\nstore: {snapshot_interval: 2s}\n".to_owned(),
                sources,
                Influx::config(victoria.port),
                City::config(city.port(), "json"),
            ]
            .concat(),
        );
        let gateway = site.start().await;
        // Before the first subscription Mosquitto keeps nothing for the gateway.
        gateway.wait_for_component("source/city", "ok", "").await;
        // Covers open all through the run: each is asked about four times a second.
        let traffic = Traffic::start(mosquitto.address, seed, rounds * 4);
        let random = Rng::with_seed(seed);
        let longest_start = Duration::ZERO;
        Scene {
            gateway: Some(gateway),
            mosquitto,
            victoria,
            city,
            traffic,
            random,
            longest_start,
            disk_was_full: false,
            forgivable: BTreeSet::new(),
            disk,
            site,
        }
    }

    /// Waits for a moment, not for a state.
    async fn pass(&mut self, range_ms: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(range_ms))).await;
    }

    async fn suffer(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::KillGateway => {
                self.kill_gateway();
                self.start_gateway().await;
            }
            Mishap::RestartBroker => {
                self.mosquitto.stop().await;
                self.pass_and_perhaps_kill().await;
                self.mosquitto.go_on().await;
            }
            Mishap::StopDatabase => {
                self.victoria.stop().await;
                self.pass_and_perhaps_kill().await;
                self.victoria.go_on().await;
            }
            Mishap::FillDisk => self.fill_disk().await,
            Mishap::RotByte => self.rot_byte().await,
        }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("every mishap ends with a gateway that runs")
    }

    fn kill_gateway(&mut self) {
        self.gateway.take().expect("every mishap begins with a gateway that runs").kill();
    }

    async fn start_gateway(&mut self) {
        let gateway = self.site.start().await;
        wait_until("the gateway is ready by itself", READY_WITHIN, || async {
            let ready = gateway.get("/health/ready").await;
            if ready.status == 200 { Ok(()) } else { Err(ready.text) }
        })
        .await;
        self.longest_start = self.longest_start.max(gateway.age());
        self.gateway = Some(gateway);
    }

    /// Whatever is away may be away while the gateway starts.
    async fn pass_and_perhaps_kill(&mut self) {
        self.pass(AWAY_MS).await;
        if self.random.bool() {
            self.kill_gateway();
            self.start_gateway().await;
            self.pass(AWAY_MS).await;
        }
    }

    /// A full disk is said when a commit does not fit, nothing is acknowledged, and it goes on by itself; or it is
    /// killed meanwhile. A log that has room in itself may take commits for a while: only the first time is waited for
    /// it.
    async fn fill_disk(&mut self) {
        self.disk.fill(self.gateway());
        if !self.disk_was_full {
            let body = self.wait_for_status("the full disk is seen", SOON * 2, 503).await;
            assert!(body.contains("disk"), "{body}");
            self.disk_was_full = true;
        }
        self.pass(AWAY_MS).await;
        if self.random.bool() {
            self.kill_gateway();
            self.disk.free(None);
            self.start_gateway().await;
        } else {
            self.disk.free(self.gateway.as_ref());
            self.wait_for_status("it goes on when there is room", READY_WITHIN, 200).await;
        }
    }

    /// A byte of the database or its log changes while the gateway is dead. What it says that it lost by that is the
    /// only loss that is forgiven, and only of what was on its way then.
    async fn rot_byte(&mut self) {
        self.kill_gateway();
        let mut underway = self.traffic.published();
        for sample in self.victoria.samples("manhole_cover", "seq", None).await {
            underway.remove(&(sample.value as u64));
        }
        let name = if self.random.bool() { "data/kerbside.db" } else { "data/kerbside.db-wal" };
        let path = self.site.path(name);
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        if let Some(position) = bytes.len().checked_sub(1).map(|last| self.random.usize(0..=last)) {
            bytes[position] ^= self.random.u8(1..);
            std::fs::write(&path, &bytes).unwrap();
            eprintln!("byte {position} of {} of {name} rots, with {} messages underway", bytes.len(), underway.len());
        }
        let reports = self.damage_reports();
        self.start_gateway().await;
        let new: Vec<Value> = self.damage_reports().split_off(reports.len());
        // What a body lost shows when it is read, which recovery does at once.
        let bodies = self.gateway().metric("kerbside_store_batches_damaged_total", &[]).await;
        let lost = new.iter().flat_map(|report| report["tables"].as_array().unwrap());
        let lost_batches: u64 =
            lost.filter(|table| table["table"] == "batches").filter_map(|table| table["lost"].as_u64()).sum();
        for report in &new {
            eprintln!("salvaged: {report}");
        }
        if lost_batches > 0 || bodies > 0.0 {
            self.forgivable.extend(underway);
        }
    }

    /// What the gateway has said about databases that were damaged, the oldest first.
    fn damage_reports(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.site.path("data")).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(".report.json")).collect();
        paths.sort();
        paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
    }

    async fn wait_for_status(&self, what: &str, within: Duration, status: u16) -> String {
        wait_until(what, within, || async {
            let ready = self.gateway().get("/health/ready").await;
            if ready.status == status { Ok(ready.text) } else { Err(ready.text) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto and victoria-metrics: run tests/run"]
async fn nothing_that_mosquitto_acknowledged_is_lost_whatever_goes_wrong() {
    let seed = number("KERBSIDE_SEED").unwrap_or_else(|| Rng::new().u64(..1 << 32));
    let rounds = number("KERBSIDE_ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap());
    eprintln!("KERBSIDE_SEED={seed} KERBSIDE_ROUNDS={rounds}");
    let only = std::env::var("KERBSIDE_MISHAP").ok();
    let began = Clock::stamp();
    let mut scene = Scene::set(seed, rounds).await;
    let mut deck: Vec<Mishap> = Vec::new();
    let mut suffered: BTreeMap<Mishap, u32> = BTreeMap::new();
    for round in 1..=rounds {
        scene.pass(LIFE_MS).await;
        if deck.is_empty() {
            deck.extend(
                DECK.into_iter().filter(|mishap| only.as_ref().is_none_or(|only| *only == format!("{mishap:?}"))),
            );
            scene.random.shuffle(&mut deck);
        }
        let mishap = deck.pop().unwrap_or_else(|| panic!("there is no mishap {only:?}"));
        scene.suffer(mishap).await;
        *suffered.entry(mishap).or_default() += 1;
        eprintln!("round {round}: {mishap:?}, over after {:?}", began.elapsed());
    }
    scene.traffic.open_all();
    wait_for("every cover that is to open has opened", SETTLE_WITHIN, || {
        let count = scene.traffic.open_count();
        if count == INCIDENTS { Ok(()) } else { Err(format!("{count} of {INCIDENTS}")) }
    })
    .await;
    let Scene { gateway, victoria, city, traffic, longest_start, forgivable, disk, .. } = scene;
    let gateway = gateway.expect("the last mishap ended with a gateway that runs");
    let Sent { acknowledged, opened, reconnects } = traffic.end().await;
    let strict: BTreeSet<u64> = acknowledged.difference(&forgivable).copied().collect();
    let (found, repeated) = wait_for_points(&victoria, &strict).await;
    check_cases(&gateway, &city, &opened).await;
    assert_eq!(gateway.metric("kerbside_store_dropped_batches_total", &[]).await, 0.0);
    eprintln!(
        "KERBSIDE_SEED={seed}: {suffered:?}, {} messages acknowledged over {reconnects} reconnects, {} of them lost \
         with what rotted, {repeated} points written again as they were, {INCIDENTS} cases, ready after {longest_start:?} \
         at the latest, {:?}",
        acknowledged.len(),
        acknowledged.difference(&found).count(),
        began.elapsed()
    );
    gateway.stop().await;
    drop(disk);
}

/// Waits until every number is in the database, and panics when one is there at two times or of two devices. Returns
/// the numbers, and how many points were written again.
async fn wait_for_points(victoria: &Victoria, wanted: &BTreeSet<u64>) -> (BTreeSet<u64>, usize) {
    let samples = wait_until("every acknowledged message is in the database", SETTLE_WITHIN, || async {
        let samples = victoria.samples("manhole_cover", "seq", None).await;
        let found: BTreeSet<u64> = samples.iter().map(|sample| sample.value as u64).collect();
        let missing: Vec<u64> = wanted.difference(&found).copied().collect();
        if missing.is_empty() {
            return Ok(samples);
        }
        let shown = &missing[..missing.len().min(10)];
        Err(format!("{} of {} are missing, such as {shown:?}", missing.len(), wanted.len()))
    })
    .await;
    let written = samples.len();
    let mut places: BTreeMap<u64, BTreeSet<(&str, i64)>> = BTreeMap::new();
    for sample in &samples {
        places.entry(sample.value as u64).or_default().insert((&sample.device, sample.at_ms));
    }
    let doubled: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).take(10).collect();
    assert!(doubled.is_empty(), "messages are points more than once: {doubled:?}");
    let rewritten = written - places.len();
    (places.into_keys().collect(), rewritten)
}
