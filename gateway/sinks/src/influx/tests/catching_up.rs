//! After an outage: the dashboard first, the day that was missed behind it, in order and in bounded memory.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use kerbside_runtime::HealthState;
use kerbside_runtime::tls::install_crypto_provider;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant as Stamp;

use super::*;

/// When batch 0 came, in ms since 1970.
const START_MS: i64 = 1_700_000_000_000;
/// One batch a second, as a quiet site commits.
const BATCH_MS: i64 = 1_000;
const DEVICES: [&str; 3] = ["A", "B", "C"];

/// A database behind a link of its own: it counts lines, and remembers when each came.
struct Link {
    is_down: AtomicBool,
    /// Between a request and its answer.
    delay: Duration,
    /// What the link carries; requests share it.
    bytes_per_second: f64,
    wire: tokio::sync::Mutex<()>,
    /// Number of the batch -> when its line came first.
    came: Mutex<HashMap<u64, Stamp>>,
    /// Numbers of the batches by device, as they came.
    order: Mutex<HashMap<String, Vec<u64>>>,
    repeated: AtomicUsize,
    requests: AtomicUsize,
}

impl Link {
    fn new(delay: Duration, bytes_per_second: f64) -> Arc<Link> {
        Arc::new(Link {
            is_down: AtomicBool::new(false),
            delay,
            bytes_per_second,
            wire: tokio::sync::Mutex::default(),
            came: Mutex::default(),
            order: Mutex::default(),
            repeated: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        })
    }

    async fn start(self: &Arc<Link>) -> SocketAddr {
        let routes = Router::new()
            .route("/api/v2/write", post(Link::write))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(self));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        address
    }

    async fn write(State(link): State<Arc<Link>>, body: Body) -> StatusCode {
        if link.is_down.load(Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        link.requests.fetch_add(1, Ordering::SeqCst);
        {
            let _wire = link.wire.lock().await;
            tokio::time::sleep(Duration::from_secs_f64(body.len() as f64 / link.bytes_per_second)).await;
        }
        tokio::time::sleep(link.delay).await;
        let now = Stamp::now();
        let text = std::str::from_utf8(&body).unwrap();
        let (mut came, mut order) = (link.came.lock().unwrap(), link.order.lock().unwrap());
        for line in text.lines() {
            let at: i64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            let sequence = u64::try_from((at - START_MS) / BATCH_MS).unwrap();
            if came.contains_key(&sequence) {
                link.repeated.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            came.insert(sequence, now);
            let device = line.split_once("device=").unwrap().1.split_once(',').unwrap().0;
            order.entry(device.to_owned()).or_default().push(sequence);
        }
        StatusCode::NO_CONTENT
    }

    fn count(&self) -> usize {
        self.came.lock().unwrap().len()
    }
}

/// A store whose batches are made when they are asked for: one line each.
struct Day {
    site: Arc<Site>,
    committed: AtomicU64,
    cursor: AtomicU64,
    link: Arc<Link>,
    /// The most batches that were read back and had not come when more were asked for.
    ahead: AtomicUsize,
    read: AtomicUsize,
}

/// What a frame of a small site takes.
const FRAME_BYTES: usize = 200;

impl Day {
    fn new(link: &Arc<Link>) -> Arc<Day> {
        Arc::new(Day {
            site: site(&DEVICES),
            committed: AtomicU64::new(0),
            cursor: AtomicU64::new(0),
            link: Arc::clone(link),
            ahead: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
        })
    }

    fn batch(&self, sequence: u64) -> TelemetryBatch {
        let mut observations = Observations::default();
        let at = Timestamp(START_MS + i64::try_from(sequence).unwrap() * BATCH_MS);
        let device = DeviceIndex(u32::try_from(sequence % DEVICES.len() as u64).unwrap());
        observations.push(device, at, at, false, [good(0, Value::Number(1.0))]);
        TelemetryBatch { sequence, site: Arc::clone(&self.site), observations: Arc::new(observations) }
    }

    fn commit(&self) -> TelemetryBatch {
        self.batch(self.committed.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Backlog for Day {
    fn read_after(&self, sequence: u64, bytes_max: usize) -> Result<Vec<TelemetryBatch>, BacklogError> {
        let ahead = self.read.load(Ordering::SeqCst).saturating_sub(self.link.count());
        self.ahead.fetch_max(ahead, Ordering::SeqCst);
        let last = self.committed.load(Ordering::SeqCst).min(sequence + (bytes_max / FRAME_BYTES) as u64);
        let batches: Vec<TelemetryBatch> = (sequence + 1..=last).map(|number| self.batch(number)).collect();
        self.read.fetch_add(batches.len(), Ordering::SeqCst);
        Ok(batches)
    }

    fn delivered_through(&self, _sink: &str, sequence: u64) -> Result<(), BacklogError> {
        self.cursor.store(sequence, Ordering::SeqCst);
        Ok(())
    }

    fn cursor(&self, _sink: &str) -> Result<u64, BacklogError> {
        Ok(self.cursor.load(Ordering::SeqCst))
    }

    fn keep_refused(&self, sink: &str, points: &[RefusedPoint]) -> Result<(), BacklogError> {
        Err(BacklogError::Store(format!("{sink} refused {}", points.len()).into()))
    }
}

struct Scene {
    link: Arc<Link>,
    day: Arc<Day>,
    handle: InfluxHandle,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
    running: JoinHandle<()>,
    /// When each live batch was offered.
    offered: HashMap<u64, Stamp>,
}

impl Scene {
    async fn start(link: Arc<Link>, day: Arc<Day>, change: impl FnOnce(&mut InfluxConfig)) -> Scene {
        install_crypto_provider();
        let mut config = config(&format!("http://{}", link.start().await));
        config.backoff_max = Duration::from_millis(300);
        change(&mut config);
        let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
        let backlog: Arc<dyn Backlog> = Arc::<Day>::clone(&day);
        let (sink, handle) = InfluxSink::new(config, backlog, &metrics, &health).unwrap();
        let running = tokio::spawn(sink.run(shutdown.clone()));
        Scene { link, day, handle, metrics, health, shutdown, running, offered: HashMap::new() }
    }

    fn commit(&mut self) {
        let batch = self.day.commit();
        self.offered.insert(batch.sequence, Stamp::now());
        self.handle.offer(batch);
    }

    fn gauge(&self, name: &str) -> i64 {
        let text = self.metrics.encode();
        let line = format!("{name}{{sink=\"influx\"}} ");
        text.lines().find_map(|known| known.strip_prefix(&line)).expect("the gauge is there").parse().unwrap()
    }

    fn detail(&self) -> String {
        let all = self.health.snapshot();
        all.into_iter().find(|component| component.component == "sink/influx").unwrap().detail
    }

    /// How long the slowest of the live batches that were offered after a moment took to come.
    fn slowest_since(&self, moment: Stamp) -> Duration {
        let came = self.link.came.lock().unwrap();
        let late = self.offered.iter().filter(|(_, at)| **at >= moment).map(|(sequence, at)| {
            let there = came.get(sequence).unwrap_or_else(|| panic!("live batch {sequence} has not come"));
            there.duration_since(*at)
        });
        late.max().expect("something was offered")
    }

    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.running).await.expect("ends in time").unwrap();
    }
}

const DAY: u64 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_without_a_database_the_dashboard_is_fresh_at_once_and_the_day_follows_in_order() {
    let link = Link::new(Duration::from_millis(10), 1e9);
    link.is_down.store(true, Ordering::SeqCst);
    let day = Day::new(&link);
    day.committed.store(DAY, Ordering::SeqCst);
    let mut scene = Scene::start(Arc::clone(&link), Arc::clone(&day), |config| {
        config.queue_batches_max = 64;
        config.lines_max = 1_000;
    })
    .await;
    // More than the queue holds: most of it is left to the backlog.
    for _ in 0..300 {
        scene.commit();
    }
    until("the database is known to be down", || scene.detail().contains("pause (503)")).await;
    link.is_down.store(false, Ordering::SeqCst);
    let back = Stamp::now();
    // The waiting time between two tries, and then a second is far more than it takes.
    let fresh_from = back + Duration::from_millis(1_300);
    let (mut words, mut seconds_behind) = (String::new(), 0);
    while link.count() < DAY as usize || Stamp::now() < fresh_from + Duration::from_secs(1) {
        assert!(back.elapsed() < Duration::from_secs(60), "{} of {DAY} after a minute", link.count());
        scene.commit();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let detail = scene.detail();
        if detail.contains("catching up") {
            words = detail;
            seconds_behind = seconds_behind.max(scene.gauge("kerbside_influx_lag_seconds"));
        }
    }
    let live_done = scene.day.committed.load(Ordering::SeqCst);
    until("everything is there", || link.count() as u64 == live_done).await;
    let slowest = scene.slowest_since(fresh_from);
    assert!(slowest < Duration::from_secs(2), "a live line took {slowest:?} while the backlog was sent");
    assert!(words.contains("batches to go") && words.contains("live lines"), "{words}");
    assert!(seconds_behind > 3_600, "{seconds_behind} s behind at most, of a day");

    for (device, order) in link.order.lock().unwrap().iter() {
        let missed: Vec<u64> = order.iter().copied().filter(|sequence| *sequence <= DAY).collect();
        assert!(missed.is_sorted(), "the backlog of {device} is out of order");
    }
    assert_eq!(link.repeated.load(Ordering::SeqCst), 0);
    // A look into the backlog gives 1 MiB of frames; it is only asked again when they are on their way.
    let ahead = day.ahead.load(Ordering::SeqCst);
    assert!(ahead <= (1 << 20) / FRAME_BYTES, "{ahead} batches in memory");
    until("the backlog is over", || scene.gauge("kerbside_influx_backlog_batches") == 0).await;
    until("the cursor is stored", || day.cursor.load(Ordering::SeqCst) == live_done).await;
    assert_eq!(scene.health.snapshot()[0].state, HealthState::Ok);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_too_thin_for_everything_shows_fresh_lines_and_leaves_the_others_for_later() {
    // 85 bytes a line: the link carries about 470 lines a second, and 1,000 come.
    let link = Link::new(Duration::from_millis(20), 40_000.0);
    let day = Day::new(&link);
    let mut scene = Scene::start(Arc::clone(&link), Arc::clone(&day), |config| {
        config.timeout = Duration::from_secs(4);
        config.queue_batches_max = 100_000;
    })
    .await;
    // It takes some seconds to learn what the link carries.
    let start = Stamp::now();
    while start.elapsed() < Duration::from_secs(10) {
        for _ in 0..10 {
            scene.commit();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // By their numbers, so that a slow machine changes nothing: in order, the newest line would be the last of those
    // that are there.
    let (newest, there) = {
        let came = scene.link.came.lock().unwrap();
        (came.keys().max().copied().unwrap(), came.len())
    };
    assert!(newest as f64 > 1.1 * there as f64, "{there} lines are there, and the newest one is number {newest}");
    let backlog = scene.gauge("kerbside_influx_backlog_batches");
    assert!(backlog > 0, "the rest waits in the store");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lines_travel_in_few_requests_and_a_lone_one_leaves_at_once() {
    let link = Link::new(Duration::from_millis(2), 1e9);
    let day = Day::new(&link);
    let mut scene = Scene::start(Arc::clone(&link), Arc::clone(&day), |config| {
        config.queue_batches_max = 100_000;
        config.lines_max = 5_000;
    })
    .await;
    scene.commit();
    until("the first one is there", || link.count() == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let lone = Stamp::now();
    scene.commit();
    until("the lone one is there", || link.count() == 2).await;
    let slowest = scene.slowest_since(lone);
    assert!(slowest < Duration::from_secs(1), "a lone line took {slowest:?}");
    let before = link.requests.load(Ordering::SeqCst);
    for _ in 0..50_000 {
        scene.commit();
    }
    until("all are there", || link.count() == 50_002).await;
    let requests = link.requests.load(Ordering::SeqCst) - before;
    assert!(requests <= 60, "{requests} requests for 50,000 lines");
    scene.end().await;
}
