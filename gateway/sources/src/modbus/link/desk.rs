//! Turns connections of modems into the links of buses: one listener for all modems of a source.
//!
//! A bus that is reached through a modem takes a seat at the desk and waits there. A modem that connects says who it
//! is; its connection goes to the seat of that name and replaces an older one, because a modem that dials in again has
//! lost the old one whatever our side thinks. Who is not known is refused, counted, and shown in the health of the
//! source, so that an installer sees what the new modem really sends. The listener begins with the first seat and ends
//! with the last one.
//!
//! Nothing is kept over a crash: modems dial in again.
//!
//! Metrics: `kerbside_modbus_modems_connected{source}`, `kerbside_modbus_modem_logins_total{source}`,
//! `kerbside_modbus_modems_refused_total{source,reason}`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kerbside_runtime::health::HealthReporter;
use kerbside_runtime::{Backoff, Clock, Health, Metrics, Shutdown};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::config::{DeskConfig, DialInConfig, Notation};
use super::registration::{self, Expected, Registration};

/// A registration has ended when nothing follows for so long: modems send it with one write, and mobile networks tear
/// one apart by less than this.
const QUIET: Duration = Duration::from_millis(300);
/// Waits between tries to listen, when the port is taken.
const LISTEN_WAIT_FIRST: Duration = Duration::from_millis(200);
const LISTEN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Rest after a failure to accept, which is mostly a lack of file descriptors and does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Strangers that are remembered; of more the one that came least lately is forgotten.
const STRANGERS_MAX: usize = 16;
/// Strangers that the health names.
const STRANGERS_SHOWN: usize = 3;
/// One stranger is logged once in this time, and so many strangers at most: what listens to the internet is scanned.
const LOG_INTERVAL: Duration = Duration::from_secs(600);
const LOGS_MAX: u32 = 20;

/// Where modems dial in and buses wait for them. Cheap to clone; one serves all sources of a gateway.
#[derive(Clone, Debug)]
pub struct ModemDesk {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: Metrics,
    health: Health,
    counters: Mutex<Vec<Arc<Counter>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ModemDesk").field("listeners", &lock(&self.counters).len()).finish_non_exhaustive()
    }
}

/// One listener with its seats.
struct Counter {
    config: DeskConfig,
    seats: Mutex<BTreeMap<Vec<u8>, Arc<Mutex<SeatState>>>>,
    strangers: Mutex<Strangers>,
    tally: Tally,
    health: HealthReporter,
    is_listening: AtomicBool,
    stop: Shutdown,
}

#[derive(Default)]
struct SeatState {
    /// A connection that the bus has not taken yet.
    waiting: Option<TcpStream>,
    /// Whether the bus holds one.
    is_held: bool,
    /// Tells the bus that one has come.
    arrived: Arc<Notify>,
}

/// A place at the desk for the modem of one bus; dropping it gives the place up.
pub(super) struct Seat {
    desk: ModemDesk,
    counter: Arc<Counter>,
    registration: Vec<u8>,
    state: Arc<Mutex<SeatState>>,
}

/// As long as it lives, its bus has a connection.
pub(super) struct Held {
    counter: Arc<Counter>,
    state: Arc<Mutex<SeatState>>,
}

struct Tally {
    connected: IntGauge,
    logins: IntCounter,
    refused: IntCounterVec,
}

#[derive(Default)]
struct Strangers {
    seen: BTreeMap<Vec<u8>, Stranger>,
    /// When the present interval of the log began, and how many were logged in it.
    logging: Option<(Instant, u32)>,
}

struct Stranger {
    count: u64,
    peer: SocketAddr,
    at: Instant,
    logged_at: Option<Instant>,
}

impl ModemDesk {
    /// A desk without any listener.
    pub fn new(metrics: &Metrics, health: &Health) -> ModemDesk {
        let inner = Inner { metrics: metrics.clone(), health: health.clone(), counters: Mutex::default() };
        ModemDesk { inner: Arc::new(inner) }
    }

    /// Takes the seat of a modem, and begins to listen when it is the first of its source. A seat that is taken twice
    /// belongs to the one who came last: so it is for a moment when a bus is replaced.
    pub(super) fn enter(&self, config: &DialInConfig) -> Seat {
        let mut counters = lock(&self.inner.counters);
        let counter = match counters.iter().find(|counter| counter.config == config.desk) {
            Some(counter) => Arc::clone(counter),
            None => {
                let counter = Arc::new(self.counter(&config.desk));
                tokio::spawn(listen(Arc::clone(&counter)));
                counters.push(Arc::clone(&counter));
                counter
            }
        };
        let state = Arc::default();
        lock(&counter.seats).insert(config.registration.clone(), Arc::clone(&state));
        counter.tell();
        Seat { desk: self.clone(), counter, registration: config.registration.clone(), state }
    }

    fn counter(&self, config: &DeskConfig) -> Counter {
        let Inner { metrics, health, .. } = &*self.inner;
        let source = [config.name.as_str()];
        let connected =
            metrics.gauges("kerbside_modbus_modems_connected", "Modems whose bus can be read.", &["source"]);
        let logins = metrics.counters("kerbside_modbus_modem_logins_total", "Modems that dialled in.", &["source"]);
        let tally = Tally {
            connected: connected.with_label_values(&source),
            logins: logins.with_label_values(&source),
            refused: metrics.counters(
                "kerbside_modbus_modems_refused_total",
                "Connections of modems that were refused, and why.",
                &["source", "reason"],
            ),
        };
        Counter {
            config: config.clone(),
            seats: Mutex::default(),
            strangers: Mutex::default(),
            tally,
            health: health.component(component(config)),
            is_listening: AtomicBool::new(false),
            stop: Shutdown::new(),
        }
    }
}

impl Seat {
    /// Whether a connection waits that is newer than any that was taken.
    pub(super) fn has_news(&self) -> bool {
        lock(&self.state).waiting.is_some()
    }

    /// Waits until a connection comes, or has come since the last time. Losing the future loses no news.
    pub(super) async fn arrived(&self) {
        let arrived = Arc::clone(&lock(&self.state).arrived);
        arrived.notified().await;
    }

    /// The newest connection, when one waits.
    pub(super) fn take(&self) -> Option<(TcpStream, Held)> {
        let mut state = lock(&self.state);
        let stream = state.waiting.take()?;
        state.is_held = true;
        drop(state);
        self.counter.tally.connected.inc();
        let held = Held { counter: Arc::clone(&self.counter), state: Arc::clone(&self.state) };
        Some((stream, held))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counters = lock(&self.desk.inner.counters);
        let mut seats = lock(&self.counter.seats);
        if seats.get(&self.registration).is_some_and(|state| Arc::ptr_eq(state, &self.state)) {
            seats.remove(&self.registration);
        }
        if seats.is_empty() {
            self.counter.stop.cancel();
            self.desk.inner.health.forget(&component(&self.counter.config));
            counters.retain(|counter| !Arc::ptr_eq(counter, &self.counter));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.state).is_held = false;
        self.counter.tally.connected.dec();
        self.counter.tell();
    }
}

/// Under which name the health knows the listener.
fn component(config: &DeskConfig) -> String {
    format!("source/{}", config.name)
}

/// Listens until the last seat is given up.
async fn listen(counter: Arc<Counter>) {
    counter.stop.run_until_cancelled(serve(&counter)).await;
    debug!(source = counter.config.name, "listener for modems ended");
}

async fn serve(counter: &Arc<Counter>) {
    let listener = bind(counter).await;
    counter.is_listening.store(true, Ordering::Relaxed);
    counter.tell();
    let mut waiting = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if waiting.len() < counter.config.waiting_max => {
                    waiting.spawn(register(stream, peer, Arc::clone(counter)));
                }
                Ok((_, peer)) => counter.refuse("full", peer),
                Err(error) => {
                    warn!(source = counter.config.name, %error, "could not accept a modem");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = waiting.join_next() => {
                if let Err(error) = ended {
                    warn!(source = counter.config.name, %error, "registration of a modem failed");
                }
            }
        }
    }
}

async fn bind(counter: &Counter) -> TcpListener {
    let DeskConfig { name, listen, .. } = &counter.config;
    let mut backoff = Backoff::new(LISTEN_WAIT_FIRST, LISTEN_WAIT_MAX);
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                info!(source = name, %listen, "listening for modems");
                return listener;
            }
            Err(error) => {
                if counter.health.down(format!("listen on {listen}: {error}")) {
                    warn!(source = name, %listen, %error, "cannot listen for modems");
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
}

/// Finds out who has connected, and gives the connection to the bus that waits for it.
async fn register(mut stream: TcpStream, peer: SocketAddr, counter: Arc<Counter>) {
    let mut said = Vec::new();
    let waited =
        tokio::time::timeout(counter.config.registration_timeout, hear(&mut stream, &mut said, &counter)).await;
    match waited {
        Ok(Some(Registration::Known(known))) => counter.seat(&known, stream, peer),
        Ok(Some(Registration::Stranger(said))) => counter.note_stranger(said, peer),
        Ok(Some(Registration::Open) | None) => counter.refuse("gone", peer),
        Err(_) => counter.refuse("silent", peer),
    }
}

/// Reads until it is clear who it is; nothing when the connection ends before.
async fn hear(stream: &mut TcpStream, said: &mut Vec<u8>, counter: &Counter) -> Option<Registration> {
    loop {
        let is_quiet = match tokio::time::timeout(QUIET, stream.read_buf(said)).await {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => false,
            Err(_) => true,
        };
        match counter.look(said, is_quiet) {
            Registration::Open => {}
            found => return Some(found),
        }
    }
}

impl Counter {
    fn look(&self, said: &[u8], is_quiet: bool) -> Registration {
        let known: Vec<Vec<u8>> = lock(&self.seats).keys().cloned().collect();
        let expected = Expected {
            known: &known,
            heartbeat: &self.config.heartbeat,
            bytes_max: self.config.registration_bytes_max,
            is_text: self.config.notation == Notation::Text,
        };
        registration::read(said, is_quiet, expected)
    }

    fn seat(&self, registration: &[u8], stream: TcpStream, peer: SocketAddr) {
        let modem = self.config.notation.write(registration);
        // The bus may have left while its modem registered.
        let Some(state) = lock(&self.seats).get(registration).cloned() else { return };
        let mut state = lock(&state);
        let is_again = state.is_held || state.waiting.is_some();
        state.waiting = Some(stream);
        state.arrived.notify_one();
        drop(state);
        self.tally.logins.inc();
        info!(source = self.config.name, modem, %peer, is_again, "modem dialled in");
        self.tell();
    }

    fn refuse(&self, reason: &str, peer: SocketAddr) {
        debug!(source = self.config.name, %peer, reason, "modem refused");
        self.tally.refused.with_label_values(&[self.config.name.as_str(), reason]).inc();
    }

    fn note_stranger(&self, said: Vec<u8>, peer: SocketAddr) {
        self.refuse("unknown", peer);
        let shown = shown(&said);
        if lock(&self.strangers).note(said, peer, Clock::stamp()) {
            let source = self.config.name.as_str();
            warn!(source, %peer, registration = shown, "unknown modem refused: the inventory has no such address");
        }
        self.tell();
    }

    /// Tells the health how many modems are there, and who was refused.
    fn tell(&self) {
        if !self.is_listening.load(Ordering::Relaxed) {
            return;
        }
        let seats: Vec<Arc<Mutex<SeatState>>> = lock(&self.seats).values().cloned().collect();
        let is_there = |state: &&Arc<Mutex<SeatState>>| {
            let state = lock(state);
            state.is_held || state.waiting.is_some()
        };
        let there = seats.iter().filter(is_there).count();
        let mut text = format!("{there} of {} modems connected", seats.len());
        let refused = lock(&self.strangers).text();
        if !refused.is_empty() {
            text.push_str(&format!("; unknown and refused: {refused}"));
        }
        self.health.ok_with(text);
    }
}

impl Strangers {
    /// Remembers a stranger; whether it is to be logged.
    fn note(&mut self, said: Vec<u8>, peer: SocketAddr, now: Instant) -> bool {
        if !self.seen.contains_key(&said) && self.seen.len() >= STRANGERS_MAX {
            let oldest = self.seen.iter().min_by_key(|(_, stranger)| stranger.at).map(|(said, _)| said.clone());
            oldest.map(|said| self.seen.remove(&said));
        }
        let stranger = self.seen.entry(said).or_insert(Stranger { count: 0, peer, at: now, logged_at: None });
        stranger.count += 1;
        (stranger.peer, stranger.at) = (peer, now);
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < LOG_INTERVAL;
        let logged = match self.logging {
            Some((began, logged)) if is_fresh(began) => logged,
            _ => {
                self.logging = Some((now, 0));
                0
            }
        };
        if stranger.logged_at.is_some_and(is_fresh) || logged >= LOGS_MAX {
            return false;
        }
        stranger.logged_at = Some(now);
        self.logging = self.logging.map(|(began, logged)| (began, logged + 1));
        true
    }

    /// The latest ones, in words.
    fn text(&self) -> String {
        let mut latest: Vec<(&Vec<u8>, &Stranger)> = self.seen.iter().collect();
        latest.sort_by_key(|(_, stranger)| std::cmp::Reverse(stranger.at));
        let word = |(said, stranger): &(&Vec<u8>, &Stranger)| {
            format!("{} ({} times, last from {})", shown(said), stranger.count, stranger.peer.ip())
        };
        let words: Vec<String> = latest.iter().take(STRANGERS_SHOWN).map(word).collect();
        words.join(", ")
    }
}

/// What somebody said, as text where it is text, and as bytes: either can be written into the inventory.
fn shown(said: &[u8]) -> String {
    let digits = Notation::Hex.write(said);
    match std::str::from_utf8(said) {
        Ok(text) if text.chars().all(|letter| !letter.is_control()) => format!("{text:?} (hex {digits})"),
        _ => format!("hex {digits}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_logged_now_and_then_and_not_all_of_them_remembered() {
        let mut strangers = Strangers::default();
        let peer: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let start = Clock::stamp();
        assert!(strangers.note(b"A".to_vec(), peer, start));
        assert!(!strangers.note(b"A".to_vec(), peer, start + LOG_INTERVAL / 2));
        assert!(strangers.note(b"A".to_vec(), peer, start + LOG_INTERVAL));
        assert_eq!(strangers.text(), "\"A\" (hex 41) (3 times, last from 192.0.2.1)");
        let later = start + LOG_INTERVAL;
        let logged = (0..200_u8).filter(|said| strangers.note(vec![*said], peer, later + QUIET)).count();
        assert_eq!(logged, LOGS_MAX as usize - 1);
        assert_eq!(strangers.seen.len(), STRANGERS_MAX);
        assert!(strangers.note(b"B".to_vec(), peer, later + LOG_INTERVAL * 2));
    }

    #[test]
    fn what_is_no_text_is_shown_as_bytes() {
        assert_eq!(shown(b"DTU 1"), "\"DTU 1\" (hex 4454552031)");
        assert_eq!(shown(&[1, 0xFF]), "hex 01ff");
    }
}
