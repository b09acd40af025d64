//! The running sink: outages, refusals, backlog, restart, end.

use std::net::SocketAddr;

use kerbside_runtime::HealthState;
use kerbside_runtime::tls::install_crypto_provider;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::stand_in::{Database, Refusing, Reply};
use super::*;

pub(super) struct Rig {
    pub(super) database: Arc<Database>,
    pub(super) address: SocketAddr,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) handle: InfluxHandle,
    pub(super) shutdown: Shutdown,
    pub(super) running: JoinHandle<()>,
    pub(super) site: Arc<Site>,
}

impl Rig {
    pub(super) async fn start(change: impl FnOnce(&mut InfluxConfig)) -> Rig {
        let database = Database::new();
        let address = database.start().await;
        Rig::with(database, address, Arc::new(Store::default()), change)
    }

    pub(super) fn with(
        database: Arc<Database>,
        address: SocketAddr,
        store: Arc<Store>,
        change: impl FnOnce(&mut InfluxConfig),
    ) -> Rig {
        Rig::made(database, address, store, TelemetryAlarm::default(), change)
    }

    pub(super) fn alarming(database: Arc<Database>, address: SocketAddr, alarm: TelemetryAlarm) -> Rig {
        Rig::made(database, address, Arc::new(Store::default()), alarm, |_| {})
    }

    fn made(
        database: Arc<Database>,
        address: SocketAddr,
        store: Arc<Store>,
        alarm: TelemetryAlarm,
        change: impl FnOnce(&mut InfluxConfig),
    ) -> Rig {
        install_crypto_provider();
        let (metrics, health, shutdown) = (Metrics::default(), Health::default(), Shutdown::new());
        let mut config = config(&format!("http://{address}"));
        change(&mut config);
        let backlog: Arc<dyn Backlog> = Arc::<Store>::clone(&store);
        let (sink, handle) = InfluxSink::new(config, backlog, &metrics, &health).unwrap();
        let running = tokio::spawn(sink.with_alarm(alarm).run(shutdown.clone()));
        Rig { database, address, store, metrics, health, handle, shutdown, running, site: site(&["A"]) }
    }

    /// Commits a batch and offers it, as the pipeline does.
    pub(super) fn commit(&self, sequence: u64) {
        self.commit_batch(batch(&self.site, sequence));
    }

    pub(super) fn commit_batch(&self, batch: TelemetryBatch) {
        self.store.commit(&batch);
        self.handle.offer(batch);
    }

    pub(super) async fn until_points(&self, count: usize) {
        until(&format!("{count} points are there"), || self.database.points() >= count).await;
        assert_eq!(self.database.points(), count);
    }

    pub(super) async fn until_cursor(&self, sequence: u64) {
        until(&format!("the cursor is {sequence}"), || self.store.last_cursor() >= sequence).await;
        assert_eq!(self.store.last_cursor(), sequence);
    }

    pub(super) fn state(&self) -> (HealthState, String) {
        let all = self.health.snapshot();
        let own = all.iter().find(|component| component.component == "sink/influx").unwrap();
        (own.state, own.detail.clone())
    }

    pub(super) async fn until_state(&self, state: HealthState, words: &str) {
        until(&format!("the health is {state:?} with {words:?}"), || {
            let (now, detail) = self.state();
            now == state && detail.contains(words)
        })
        .await;
    }

    pub(super) fn metric(&self, line: &str) -> String {
        let text = self.metrics.encode();
        let found = text.lines().find_map(|known| known.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no {line} in {text}")).trim().to_owned()
    }

    pub(super) async fn end(self) -> Arc<Store> {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.running).await.expect("ends in time").unwrap();
        self.store
    }
}

fn levels(device: &str, sequence: u64) -> String {
    let at = 1_700_000_000_000 + sequence;
    format!("drain,device={device},profile=level-meter level_mm={sequence}.5,received_at={}i {at}\n", at + 7)
}

#[tokio::test]
async fn a_committed_batch_is_written_at_once_in_the_documented_form() {
    let rig = Rig::start(|config| {
        config.url.push_str("/behind/a/proxy/");
        config.org = "city & county".to_owned();
        config.flush_interval = Duration::from_secs(3600);
    })
    .await;
    rig.commit(1);
    rig.until_points(1).await;
    let seen = rig.database.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.text, levels("A", 1));
    assert_eq!(seen.query, "org=city+%26+county&bucket=street&precision=ms");
    assert_eq!(seen.headers["authorization"], "Token t0ken");
    assert_eq!(seen.headers["content-type"], "text/plain; charset=utf-8");
    assert!(!seen.headers.contains_key("content-encoding"));
    rig.until_cursor(1).await;
    rig.until_state(HealthState::Ok, "").await;
    assert_eq!(rig.metric("kerbside_influx_points_total"), "1");
    assert_eq!(rig.metric("kerbside_influx_requests_total{result=\"ok\"}"), "1");
    assert_eq!(rig.metric("kerbside_influx_request_seconds_count"), "1");
    assert_eq!(rig.metric("kerbside_influx_bytes_total"), seen.bytes.to_string());
    until("the lag is 0", || rig.metric("kerbside_influx_lag_batches{sink=\"influx\"}") == "0").await;
    rig.end().await;
}

#[tokio::test]
async fn a_compressed_body_says_the_same() {
    let rig = Rig::start(|config| config.gzip = Gzip::On).await;
    let ids: Vec<String> = (0..500).map(|number| format!("D{number}")).collect();
    let street = site(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    rig.commit_batch(batch(&street, 1));
    rig.until_points(500).await;
    let seen = rig.database.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.headers["content-encoding"], "gzip");
    assert_eq!(seen.text, ids.iter().map(|id| levels(id, 1)).collect::<String>());
    assert!(seen.bytes * 5 < seen.text.len(), "{} of {}", seen.bytes, seen.text.len());
    rig.end().await;
}

/// A street of many devices with some bad ones among them.
pub(super) fn street(devices: usize, poisoned: &[usize]) -> Arc<Site> {
    let name = |number| if poisoned.contains(&number) { format!("poison-{number}") } else { format!("D{number}") };
    let ids: Vec<String> = (0..devices).map(name).collect();
    site(&ids.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test]
async fn one_bad_point_among_a_thousand_costs_only_itself() {
    let rig = Rig::start(|_| {}).await;
    rig.commit_batch(batch(&street(1_000, &[617]), 1));
    rig.until_points(999).await;
    rig.until_cursor(1).await;
    rig.until_state(HealthState::Degraded, "last one of device poison-617: unable to parse").await;
    assert_eq!(rig.metric("kerbside_influx_points_total"), "999");
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), "1");
    // Once the whole, then two halves a level: 2^10 > 1,000.
    assert!(rig.database.requests() <= 1 + 2 * 10, "{} requests", rig.database.requests());
    let before = rig.database.requests();
    rig.commit(2);
    rig.until_points(1_000).await;
    assert_eq!(rig.database.requests(), before + 1, "a refused line is never sent again");
    rig.end().await;
}

#[tokio::test]
async fn what_the_database_says_it_stored_is_not_hunted_for_ever() {
    let rig = Rig::start(|_| {}).await;
    *rig.database.refusing.lock().unwrap() = Refusing::Partial;
    let poisoned: Vec<usize> = (0..1_000).filter(|number| number % 3 == 0).collect();
    rig.commit_batch(batch(&street(1_000, &poisoned), 1));
    rig.until_points(1_000 - poisoned.len()).await;
    rig.until_cursor(1).await;
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), poisoned.len().to_string());
    assert_eq!(rig.metric("kerbside_influx_points_total"), (1_000 - poisoned.len()).to_string());
    rig.until_state(HealthState::Degraded, "field type conflict").await;
    assert!(rig.database.requests() <= 1 + 64, "{} requests", rig.database.requests());
    rig.end().await;
}

#[tokio::test]
async fn a_batch_that_is_refused_whole_costs_one_request() {
    let rig = Rig::start(|_| {}).await;
    let beyond = Reply(
        422,
        &[],
        r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=100"}"#,
    );
    rig.database.script.lock().unwrap().push_back(beyond);
    rig.commit_batch(batch(&street(100, &[]), 1));
    rig.until_cursor(1).await;
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), "100");
    assert_eq!(rig.database.requests(), 1);
    rig.end().await;
}

#[tokio::test]
async fn requests_that_are_too_large_become_smaller_and_stay_so() {
    let rig = Rig::start(|_| {}).await;
    rig.database.bytes_max.store(10_000, Ordering::SeqCst);
    rig.commit_batch(batch(&street(1_000, &[]), 1));
    rig.until_points(1_000).await;
    let too_large = rig.metric("kerbside_influx_requests_total{result=\"too_large\"}");
    assert!(too_large.parse::<u32>().unwrap() <= 5, "{too_large}");
    rig.commit_batch(batch(&street(1_000, &[]), 2));
    rig.until_points(2_000).await;
    assert_eq!(rig.metric("kerbside_influx_requests_total{result=\"too_large\"}"), too_large);
    rig.until_cursor(2).await;
    rig.end().await;
}

#[tokio::test]
async fn one_line_that_is_too_large_does_not_make_all_requests_small() {
    let rig = Rig::start(|_| {}).await;
    rig.database.bytes_max.store(100_000, Ordering::SeqCst);
    let long = "x".repeat(120_000);
    let mut ids: Vec<String> = (0..200).map(|number| format!("D{number}")).collect();
    ids[77] = long;
    rig.commit_batch(batch(&site(&ids.iter().map(String::as_str).collect::<Vec<_>>()), 1));
    rig.until_points(199).await;
    rig.until_cursor(1).await;
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), "1");
    let before = rig.database.requests();
    rig.commit_batch(batch(&street(200, &[]), 2));
    rig.until_points(399).await;
    assert_eq!(rig.database.requests(), before + 1);
    rig.end().await;
}

/// Answers once with each reply, then works; nothing may be lost.
async fn check_recovery(replies: &[Reply], state: HealthState, words: &str, label: &str) {
    // The wait is long enough to see the state in between.
    let rig = Rig::start(|config| config.backoff_max = Duration::from_millis(200)).await;
    rig.database.script.lock().unwrap().extend(replies);
    rig.commit(1);
    rig.until_state(state, words).await;
    assert_eq!((rig.database.points(), rig.store.last_cursor()), (0, 0));
    rig.commit(2);
    rig.until_points(2).await;
    rig.until_cursor(2).await;
    rig.until_state(HealthState::Ok, "").await;
    let counted = rig.metric(&format!("kerbside_influx_requests_total{{result=\"{label}\"}}"));
    assert_eq!(counted, replies.len().to_string());
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), "0");
    rig.end().await;
}

#[tokio::test]
async fn a_refused_token_keeps_everything_until_it_is_mended() {
    let reply = Reply(401, &[], r#"{"code":"unauthorized","message":"unauthorized access"}"#);
    check_recovery(&[reply; 3], HealthState::Down, "token refused (401): correct sinks.influx.token", "configuration")
        .await;
}

#[tokio::test]
async fn a_missing_bucket_keeps_everything_until_it_is_made() {
    let reply = Reply(404, &[], r#"{"code":"not found","message":"bucket \"street\" not found"}"#);
    check_recovery(&[reply; 3], HealthState::Down, "bucket street of organisation city not found", "configuration")
        .await;
}

#[tokio::test]
async fn a_wrong_server_behind_the_address_drops_nothing() {
    let replies = [
        Reply(400, &[("content-type", "text/html")], "<html>400 The plain HTTP request was sent to HTTPS port</html>"),
        Reply(302, &[("location", "https://elsewhere.example/")], ""),
        Reply(200, &[("content-type", "text/html")], "<html>please sign in</html>"),
        Reply(405, &[], ""),
    ];
    check_recovery(&replies, HealthState::Down, "sinks.influx.url", "configuration").await;
}

#[tokio::test]
async fn a_fault_of_the_database_is_waited_out() {
    let reply = Reply(500, &[], r#"{"code":"internal error","message":"engine: cache-max-memory-size exceeded"}"#);
    check_recovery(&[reply; 3], HealthState::Down, "cache-max-memory-size exceeded", "server_error").await;
}

#[tokio::test]
async fn an_overloaded_database_is_left_alone() {
    check_recovery(&[Reply(503, &[], ""); 3], HealthState::Degraded, "asks for a pause (503)", "busy").await;
}

#[tokio::test]
async fn a_pause_that_the_database_asks_for_is_kept() {
    let rig = Rig::start(|_| {}).await;
    rig.database.script.lock().unwrap().push_back(Reply(429, &[("retry-after", "1")], ""));
    rig.commit(1);
    rig.until_points(1).await;
    let seen = rig.database.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1), "{:?}", seen[1].at - seen[0].at);
    rig.end().await;
}

#[tokio::test]
async fn a_database_that_comes_up_late_gets_everything() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let rig = Rig::with(Database::new(), address, Arc::new(Store::default()), |config| config.queue_batches_max = 4);
    for sequence in 1..=50 {
        rig.commit(sequence);
    }
    rig.until_state(HealthState::Down, "no connection").await;
    let (database, listener) = (Arc::clone(&rig.database), TcpListener::bind(rig.address).await.unwrap());
    tokio::spawn(async move { database.serve(listener).await });
    rig.until_points(50).await;
    rig.until_cursor(50).await;
    rig.until_state(HealthState::Ok, "").await;
    rig.end().await;
}

#[tokio::test]
async fn a_request_without_an_answer_is_given_up_and_sent_again() {
    let rig = Rig::start(|config| config.timeout = Duration::from_millis(100)).await;
    rig.database.is_held.store(true, Ordering::SeqCst);
    rig.commit(1);
    rig.until_state(HealthState::Down, "no answer in time").await;
    rig.database.is_held.store(false, Ordering::SeqCst);
    rig.until_points(1).await;
    rig.end().await;
}

#[tokio::test]
async fn live_batches_go_before_the_backlog_and_nothing_is_lost() {
    let store = Arc::new(Store::default());
    let street = site(&["A"]);
    for sequence in 1..=100 {
        store.commit(&batch(&street, sequence));
    }
    let database = Database::new();
    database.is_held.store(true, Ordering::SeqCst);
    let address = database.start().await;
    let rig = Rig::with(database, address, Arc::clone(&store), |config| config.lines_max = 4);
    // The first backlog request hangs in the slow database; live batches come meanwhile.
    until("the backlog is on its way", || rig.database.requests() == 1).await;
    for sequence in 101..=120 {
        rig.commit(sequence);
    }
    until("live lines are on their way too", || rig.database.requests() == 2).await;
    rig.database.permits.add_permits(10_000);
    rig.until_points(120).await;
    rig.until_cursor(120).await;

    let order = rig.database.order();
    let position = |sequence: u64| order.iter().position(|known| *known == sequence).unwrap();
    assert!(position(101) < position(5), "{order:?}");
    assert!(position(120) < position(100), "{order:?}");
    let backlog: Vec<u64> = order.iter().copied().filter(|sequence| *sequence <= 100).collect();
    assert_eq!(backlog, (1..=100).collect::<Vec<_>>(), "the backlog goes in order, once");
    let cursors = rig.store.cursors.lock().unwrap().clone();
    assert!(cursors.is_sorted(), "{cursors:?}");
    rig.end().await;
}

#[tokio::test]
async fn the_cursor_waits_for_a_gap_in_front_of_it() {
    let store = Arc::new(Store::default());
    let street = site(&["A"]);
    for sequence in 1..=3 {
        store.commit(&batch(&street, sequence));
    }
    let database = Database::new();
    database.is_held.store(true, Ordering::SeqCst);
    let address = database.start().await;
    let rig = Rig::with(database, address, store, |_| {});
    until("the backlog is on its way", || rig.database.requests() == 1).await;
    // The first request (the backlog) gets a fault; the second one (live) arrives.
    rig.database.script.lock().unwrap().push_back(Reply(500, &[], ""));
    rig.commit(4);
    until("live lines are on their way too", || rig.database.requests() == 2).await;
    rig.database.permits.add_permits(2);
    until("the live point is there", || rig.database.points() == 1).await;
    until("the backlog is sent again", || rig.database.requests() == 3).await;
    assert_eq!(rig.store.last_cursor(), 0, "batch 4 has arrived, 1 to 3 have not");
    rig.database.permits.add_permits(100);
    rig.until_cursor(4).await;
    rig.end().await;
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_read_back() {
    let rig = Rig::start(|config| {
        config.queue_batches_max = 2;
        config.lines_max = 2;
    })
    .await;
    rig.database.is_held.store(true, Ordering::SeqCst);
    for sequence in 1..=60 {
        rig.commit(sequence);
        tokio::task::yield_now().await;
    }
    rig.database.is_held.store(false, Ordering::SeqCst);
    rig.database.permits.add_permits(10_000);
    rig.until_points(60).await;
    rig.until_cursor(60).await;
    let mut order = rig.database.order();
    order.sort_unstable();
    order.dedup();
    assert_eq!(order, (1..=60).collect::<Vec<_>>());
    assert!(rig.store.reads.load(Ordering::SeqCst) > 1);
    rig.end().await;
}

#[tokio::test]
async fn holes_of_a_quota_and_batches_without_observations_do_not_stop_the_cursor() {
    let store = Arc::new(Store::default());
    let street = site(&["A"]);
    let nothing = |sequence| TelemetryBatch { sequence, site: Arc::clone(&street), observations: Arc::default() };
    for sequence in [5, 6, 9] {
        store.commit(&batch(&street, sequence));
    }
    store.commit(&nothing(7));
    let database = Database::new();
    let address = database.start().await;
    let rig = Rig::with(database, address, store, |_| {});
    rig.until_cursor(9).await;
    rig.commit_batch(nothing(10));
    rig.commit(11);
    rig.until_cursor(11).await;
    // The quota took 12 to 14 before the sink saw them.
    rig.commit(15);
    rig.until_cursor(15).await;
    rig.until_points(5).await;
    rig.end().await;
}

#[tokio::test]
async fn a_second_process_goes_on_behind_the_cursor() {
    let rig = Rig::start(|_| {}).await;
    for sequence in 1..=10 {
        rig.commit(sequence);
    }
    rig.until_points(10).await;
    let (database, address) = (Arc::clone(&rig.database), rig.address);
    let store = rig.end().await;
    assert_eq!(store.last_cursor(), 10, "the end stores the cursor");
    let requests = database.requests();
    let street = site(&["A"]);
    for sequence in 11..=30 {
        store.commit(&batch(&street, sequence));
    }
    let rig = Rig::with(database, address, store, |_| {});
    rig.commit(31);
    rig.until_points(31).await;
    rig.until_cursor(31).await;
    let order = rig.database.order();
    let again: Vec<&u64> = order.iter().skip(10).collect();
    assert!(rig.database.requests() > requests && again.iter().all(|sequence| **sequence > 10), "{again:?}");
    rig.end().await;
}

#[tokio::test]
async fn a_batch_sent_twice_is_the_same_points() {
    let rig = Rig::start(|_| {}).await;
    let street = street(20, &[]);
    // Live lines know which are late; what is read back does not, and need not.
    let mut late = Observations::default();
    for (row, readings) in batch(&street, 1).observations.iter() {
        late.push(row.device, row.observed_at, row.received_at, true, readings.iter().cloned());
    }
    rig.store.commit(&batch(&street, 1));
    rig.handle.offer(TelemetryBatch { sequence: 1, site: Arc::clone(&street), observations: Arc::new(late) });
    rig.until_points(20).await;
    let (database, address) = (Arc::clone(&rig.database), rig.address);
    let (text, points) = (database.seen.lock().unwrap()[0].text.clone(), database.points.lock().unwrap().clone());
    let store = rig.end().await;
    // The power went before the cursor was stored.
    store.cursors.lock().unwrap().clear();
    let rig = Rig::with(Arc::clone(&database), address, store, |_| {});
    until("it is sent again", || database.requests() == 2).await;
    assert_eq!(database.seen.lock().unwrap()[1].text, text);
    rig.until_cursor(1).await;
    assert_eq!(*database.points.lock().unwrap(), points);
    rig.end().await;
}

#[tokio::test]
async fn the_end_sends_what_is_in_memory_and_stores_the_cursor() {
    let rig = Rig::start(|config| config.flush_interval = Duration::from_secs(3600)).await;
    rig.database.is_held.store(true, Ordering::SeqCst);
    rig.commit(1);
    until("the first one is on its way", || rig.database.requests() == 1).await;
    for sequence in 2..=40 {
        rig.commit(sequence);
    }
    rig.database.is_held.store(false, Ordering::SeqCst);
    rig.shutdown.cancel();
    rig.database.permits.add_permits(1);
    let database = Arc::clone(&rig.database);
    let store = rig.end().await;
    assert_eq!((database.points(), store.last_cursor()), (40, 40));
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_database_that_is_down() {
    let rig = Rig::start(|config| config.backoff_max = Duration::from_secs(60)).await;
    rig.database.script.lock().unwrap().push_back(Reply(500, &[], ""));
    rig.commit(1);
    rig.until_state(HealthState::Down, "has a fault (500)").await;
    let store = rig.end().await;
    assert_eq!(store.last_cursor(), 0, "what did not arrive stays in the store");
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_is_asked_again() {
    let store = Arc::new(Store::default());
    store.is_broken.store(true, Ordering::SeqCst);
    store.commit(&batch(&site(&["A"]), 1));
    let database = Database::new();
    let address = database.start().await;
    let rig = Rig::with(database, address, store, |_| {});
    rig.until_state(HealthState::Degraded, "access the backlog of the store: disk on fire").await;
    rig.store.is_broken.store(false, Ordering::SeqCst);
    rig.until_points(1).await;
    rig.store.is_broken.store(true, Ordering::SeqCst);
    rig.commit(2);
    rig.until_points(2).await;
    rig.until_state(HealthState::Degraded, "disk on fire").await;
    rig.store.is_broken.store(false, Ordering::SeqCst);
    rig.until_cursor(2).await;
    rig.until_state(HealthState::Ok, "").await;
    rig.end().await;
}

#[tokio::test]
async fn a_backlog_that_waits_for_the_clock_says_so_and_is_no_fault_of_the_store() {
    let store = Arc::new(Store::default());
    store.waits.store(true, Ordering::SeqCst);
    store.commit(&batch(&site(&["A"]), 1));
    let database = Database::new();
    let address = database.start().await;
    let rig = Rig::with(database, address, store, |_| {});
    rig.until_state(HealthState::Degraded, "waiting for the clock").await;
    assert_eq!(rig.state().1, "waiting for the clock", "and nothing else");
    rig.store.waits.store(false, Ordering::SeqCst);
    rig.until_points(1).await;
    rig.until_cursor(1).await;
    rig.until_state(HealthState::Ok, "").await;
    // A batch that is committed and not offered is told of, or an idle sink would never ask for it.
    rig.store.waits.store(true, Ordering::SeqCst);
    rig.store.commit(&batch(&rig.site, 2));
    rig.handle.leave(2);
    rig.until_state(HealthState::Degraded, "waiting for the clock").await;
    rig.store.waits.store(false, Ordering::SeqCst);
    rig.until_points(2).await;
    rig.until_cursor(2).await;
    rig.end().await;
}

#[tokio::test]
async fn whatever_the_database_answers_nothing_is_lost() {
    const ANSWERS: [Reply; 6] = [
        Reply(500, &[], ""),
        Reply(503, &[], ""),
        Reply(401, &[], r#"{"code":"unauthorized","message":"unauthorized access"}"#),
        Reply(413, &[], ""),
        Reply(400, &[], ""),
        Reply(429, &[], ""),
    ];
    let rig = Rig::start(|config| {
        config.queue_batches_max = 8;
        config.lines_max = 16;
        config.backoff_max = Duration::from_millis(2);
    })
    .await;
    for sequence in 1..=300_u64 {
        // Two of three requests meet something; the order is mixed by a multiplication that visits every remainder.
        if sequence % 3 != 0 {
            let answer = ANSWERS[usize::try_from(sequence * 7 % 6).unwrap()];
            rig.database.script.lock().unwrap().push_back(answer);
        }
        rig.commit(sequence);
        if sequence % 10 == 0 {
            until("some request was made", || rig.database.requests() as u64 >= sequence / 10).await;
        }
    }
    rig.until_points(300).await;
    rig.until_cursor(300).await;
    assert_eq!(rig.metric("kerbside_influx_points_refused_total"), "0");
    rig.end().await;
}

#[tokio::test]
async fn the_health_is_told_before_the_first_batch() {
    let rig = Rig::start(|_| {}).await;
    rig.until_state(HealthState::Ok, "").await;
    assert_eq!(rig.database.requests(), 0);
    rig.end().await;
    let rig = Rig::start(|config| config.token = Some(Secret::new("another"))).await;
    rig.until_state(HealthState::Down, "token refused").await;
    rig.end().await;
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    install_crypto_provider();
    let check = |change: fn(&mut InfluxConfig)| {
        let mut config = config("http://localhost:8086");
        change(&mut config);
        let made = InfluxSink::new(config, Arc::new(Store::default()), &Metrics::default(), &Health::default());
        made.map(|_| ()).unwrap_err().to_string()
    };
    let errors = [
        check(|config| config.url = "localhost".to_owned()),
        check(|config| config.url = "ftp://localhost".to_owned()),
        check(|config| config.url = "http://localhost:8086/?org=x".to_owned()),
        check(|config| config.url = "http://me:s3cret@localhost:8086".to_owned()),
        check(|config| config.token = Some(Secret::new("t0k\nen"))),
        check(|config| config.lines_max = 0),
        check(|config| config.ca = Some("/nowhere/ca.pem".into())),
    ];
    assert_eq!(
        errors,
        [
            "use localhost as the address of InfluxDB: relative URL without a base",
            "use ftp://localhost as the address of InfluxDB: it must begin with http:// or https://",
            "use http://localhost:8086/?org=x as the address of InfluxDB: it must not have a query: organisation and \
             bucket have keys of their own",
            "use localhost as the address of InfluxDB: it must not carry an account: use sinks.influx.token",
            "use the token of InfluxDB: it holds characters that no token has, such as a line break",
            "use a limit of 0 for lines_max: nothing could be sent",
            "connect to InfluxDB",
        ]
    );
}
