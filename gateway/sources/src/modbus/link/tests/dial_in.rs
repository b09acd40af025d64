//! Modems that dial in, rightly and wrongly.

use std::future::Future;

use kerbside_runtime::HealthState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(30);

struct Desk {
    desk: ModemDesk,
    metrics: Metrics,
    health: Health,
    config: DeskConfig,
}

/// A port that nobody has; the listener takes it a moment later.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn desk(framing: DialInFraming) -> Desk {
    let (metrics, health) = (Metrics::default(), Health::default());
    let config = DeskConfig {
        name: "modems".to_owned(),
        listen: free_port(),
        framing,
        notation: Notation::Text,
        heartbeat: b"ping".to_vec(),
        registration_bytes_max: 16,
        registration_timeout: Duration::from_secs(1),
        waiting_max: 2,
        line: None,
    };
    Desk { desk: ModemDesk::new(&metrics, &health), metrics, health, config }
}

impl Desk {
    fn line(&self, modem: &str) -> Line {
        let dial_in = DialInConfig { desk: self.config.clone(), registration: modem.as_bytes().to_vec() };
        let config = config(Link::DialIn(dial_in));
        let mut line = Line::new(config, self.desk.clone(), LineMetrics::new(&self.metrics, "modems"));
        line.begin();
        line
    }

    async fn dial(&self) -> TcpStream {
        until("the desk listens", || async { TcpStream::connect(self.config.listen).await.ok() }).await
    }

    /// Dials in, says these pieces, and then is the modem of units that answer.
    async fn modem(&self, pieces: &[&[u8]]) -> FarSide {
        let mut stream = self.dial().await;
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let task = match self.config.framing {
            DialInFraming::Rtu => {
                tokio::spawn(far_side::serve(stream, Arc::new(|_| Reply::Values), Arc::clone(&asked)))
            }
            DialInFraming::Tcp => {
                let script = Arc::new(|_| test_server::Reply::Values);
                tokio::spawn(test_server::converse(stream, script, Arc::clone(&asked)))
            }
        };
        FarSide::new(asked, task)
    }

    fn health(&self) -> String {
        let health = self.health.snapshot();
        let found = health.iter().find(|component| component.component == "source/modems");
        found.map_or_else(String::new, |component| format!("{:?}: {}", component.state, component.detail))
    }

    fn refused(&self, reason: &str) -> f64 {
        let name = format!("kerbside_modbus_modems_refused_total{{reason=\"{reason}\",source=\"modems\"}}");
        self.metrics
            .encode()
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .map_or(0.0, |at| at.trim().parse().unwrap())
    }
}

/// Waits for a state with a deadline.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Clock::stamp();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads until the modem is there; a value is never wrong.
async fn read(line: &mut Line) {
    let request = holding(7, 2);
    let began = Clock::stamp();
    loop {
        match line.read(1, request).await {
            Ok(words) => return assert_eq!(words, held(1, request)),
            Err(error) => assert!(began.elapsed() < DEADLINE, "never read: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn two_modems_at_one_listener_are_told_apart() {
    for framing in [DialInFraming::Rtu, DialInFraming::Tcp] {
        let desk = desk(framing);
        let (mut first, mut second) = (desk.line("DTU-1"), desk.line("DTU-10"));
        let error = first.read(1, holding(7, 2)).await.unwrap_err().to_string();
        assert_eq!(error, "it has not dialled in");
        let ten = desk.modem(&[b"DTU-10"]).await;
        read(&mut second).await;
        assert!(first.connect_failure().is_some());
        let one = desk.modem(&[b"pingDT", b"U-1\r\n", b"ping"]).await;
        read(&mut first).await;
        assert!(!one.asked.lock().unwrap().is_empty() && !ten.asked.lock().unwrap().is_empty());
        assert_eq!(metric(&desk.metrics, "kerbside_modbus_modems_connected{source=\"modems\"}"), 2.0);
        assert_eq!(metric(&desk.metrics, "kerbside_modbus_modem_logins_total{source=\"modems\"}"), 2.0);
        assert_eq!(desk.health(), "Ok: 2 of 2 modems connected");
    }
}

#[tokio::test]
async fn a_modem_that_dials_in_again_replaces_its_old_connection() {
    let desk = desk(DialInFraming::Rtu);
    let mut line = desk.line("DTU-1");
    let mut old = desk.dial().await;
    old.write_all(b"DTU-1").await.unwrap();
    until("the modem is there", || async { (desk.health() == "Ok: 1 of 1 modems connected").then_some(()) }).await;
    // The old connection is there and mute: the modem has lost it without a word.
    assert!(matches!(line.read(1, holding(7, 2)).await, Err(ReadError::Timeout(_))));
    let _new = desk.modem(&[b"DTU-1"]).await;
    read(&mut line).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, old.read_to_end(&mut rest)).await.expect("the old one is closed");
    assert!(ended.is_err() || !rest.is_empty(), "only requests came: {rest:?}");
    assert_eq!(metric(&desk.metrics, "kerbside_modbus_modems_connected{source=\"modems\"}"), 1.0);
}

#[tokio::test]
async fn a_modem_that_is_gone_is_missed_and_taken_back() {
    let desk = desk(DialInFraming::Rtu);
    let mut line = desk.line("DTU-1");
    let modem = desk.modem(&[b"DTU-1"]).await;
    read(&mut line).await;
    drop(modem);
    let gone = until("the end is noticed", || std::future::ready(line_failure(&desk)));
    let reading = async {
        loop {
            if matches!(line.read(1, holding(7, 2)).await, Err(ReadError::Connect(_))) {
                return;
            }
        }
    };
    tokio::join!(gone, reading);
    assert_eq!(line.connect_failure(), Some("it has not dialled in"));
    let _modem = desk.modem(&[b"DTU-1"]).await;
    read(&mut line).await;
}

fn line_failure(desk: &Desk) -> Option<()> {
    (desk.health() == "Ok: 0 of 1 modems connected").then_some(())
}

#[tokio::test]
async fn strangers_are_refused_counted_and_shown() {
    let desk = desk(DialInFraming::Rtu);
    let _line = desk.line("DTU-1");
    for said in [&b"DTU-2"[..], b"DTU-2", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = desk.dial().await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        // Closed with bytes unread it is a reset.
        drop(tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is closed"));
        assert_eq!(rest, b"");
    }
    until("all are counted", || async { (desk.refused("unknown") == 3.0).then_some(()) }).await;
    let health = desk.health();
    assert!(health.contains("\"DTU-2\" (hex 4454552d32) (2 times, last from 127.0.0.1)"), "{health}");
    assert!(health.contains("hex 474554202f20485454502f312e310d0a"), "{health}");

    let mut mute = desk.dial().await;
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, mute.read_to_end(&mut rest)).await.expect("it is closed in time").unwrap();
    until("the mute one is counted", || async { (desk.refused("silent") == 1.0).then_some(()) }).await;
}

#[tokio::test]
async fn more_connections_than_may_wait_are_refused() {
    let desk = desk(DialInFraming::Rtu);
    let _line = desk.line("DTU-1");
    let (_first, _second) = (desk.dial().await, desk.dial().await);
    let mut third = desk.dial().await;
    let mut rest = Vec::new();
    drop(tokio::time::timeout(DEADLINE, third.read_to_end(&mut rest)).await.expect("it is closed"));
    assert_eq!(desk.refused("full"), 1.0);
}

#[tokio::test]
async fn the_listener_ends_with_the_last_bus_and_says_when_its_port_is_taken() {
    let desk = desk(DialInFraming::Rtu);
    let (first, second) = (desk.line("DTU-1"), desk.line("DTU-2"));
    drop(desk.dial().await);
    drop(first);
    drop(desk.dial().await);
    drop(second);
    let closed = || async { TcpStream::connect(desk.config.listen).await.is_err().then_some(()) };
    until("nobody listens", closed).await;

    let taken = std::net::TcpListener::bind(desk.config.listen).unwrap();
    let mut line = desk.line("DTU-1");
    let is_down = || async { desk.health().starts_with(&format!("{:?}: listen on", HealthState::Down)).then_some(()) };
    until("the health says so", is_down).await;
    drop(taken);
    let _modem = desk.modem(&[b"DTU-1"]).await;
    read(&mut line).await;
}
