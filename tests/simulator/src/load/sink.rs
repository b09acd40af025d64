//! Turns writes of line protocol into counts and latencies: an HTTP server that takes what InfluxDB 2 takes.
//!
//! A POST is answered 204, plain or gzip, with a length or in chunks; `/stats`, `/sample`, `/reset`,
//! `/down?seconds=`, `/delay?ms=` and `/fail?status=&seconds=` are for the one who measures. Every message is told
//! by its field `seq`, its latency by its field `tx` in microseconds. Nothing survives a restart.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use kerbside_runtime::{Chain, Clock, Shutdown};
use memchr::memmem::Finder;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::SimulatorError;
use crate::load::histogram::Histogram;
use crate::load::machine::{cpu_seconds, now_micros};
use crate::load::message::{SEQUENCE_BASE, SEQUENCES_MAX};

const HEADER_BYTES_MAX: usize = 16 * 1024;
/// InfluxDB's own default limit is larger; no sane batch is.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES: usize = 256 * 1024;
const SAMPLE_BYTES: usize = 1_000;

/// What the sink has seen since its last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SinkStats {
    /// Writes that were answered 204.
    pub requests: u64,
    /// Writes that were refused because of `/fail`.
    pub refused: u64,
    /// Lines, repeated ones too.
    pub lines: u64,
    /// Bytes of line protocol.
    pub bytes: u64,
    /// Bytes of bodies as they came, compressed or not.
    pub wire_bytes: u64,
    /// Different sequence numbers.
    pub distinct: u64,
    /// Sequence numbers that had been seen before.
    pub duplicates: u64,
    /// Lines without a sequence number of the bench.
    pub without_sequence: u64,
    /// From `tx` to arrival in ms: half of the messages are as quick as this.
    pub p50_ms: f64,
    /// The same for 99 of 100.
    pub p99_ms: f64,
    /// The same for 999 of 1,000.
    pub p999_ms: f64,
    /// The slowest in ms.
    pub max_ms: f64,
    /// When the first write came, in microseconds since the epoch, or zero.
    pub first_micros: u64,
    /// When the last write came.
    pub last_micros: u64,
    /// CPU seconds of the sink's process.
    pub cpu_seconds: f64,
}

/// A sink that is being served.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Goes up when all connections are to be dropped.
    epoch: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    counted: SinkStats,
    seen: Vec<u64>,
    latency: Histogram,
    sample: String,
    delay: Duration,
    down_until: Option<Instant>,
    failing: Option<(u16, Instant)>,
}

impl SinkHandle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it has seen.
    pub fn stats(&self) -> SinkStats {
        self.shared.with(|state| {
            let milliseconds = |micros: u64| micros as f64 / 1_000.0;
            SinkStats {
                p50_ms: milliseconds(state.latency.quantile(0.5)),
                p99_ms: milliseconds(state.latency.quantile(0.99)),
                p999_ms: milliseconds(state.latency.quantile(0.999)),
                max_ms: milliseconds(state.latency.greatest()),
                cpu_seconds: cpu_seconds(),
                ..state.counted.clone()
            }
        })
    }

    /// Forgets what it has seen and heals its faults.
    pub fn reset(&self) {
        self.shared.with(|state| *state = State::default());
    }

    /// Drops all connections and refuses new ones for this long.
    pub fn down(&self, length: Duration) {
        self.shared.with(|state| state.down_until = Some(Clock::stamp() + length));
        self.shared.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Takes this long over every write.
    pub fn delay(&self, length: Duration) {
        self.shared.with(|state| state.delay = length);
    }

    /// Answers writes with this status for this long, without counting them.
    pub fn fail(&self, status: u16, length: Duration) {
        self.shared.with(|state| state.failing = Some((status, Clock::stamp() + length)));
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves a sink until shutdown; it listens when this returns. The switches also answer at `admin`, which is never
/// down.
pub async fn serve_sink(
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    shutdown: Shutdown,
) -> Result<SinkHandle, SimulatorError> {
    let bind = async |address: SocketAddr| {
        let fail = |cause| SimulatorError::Listen { address, cause };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let local_addr = listener.local_addr().map_err(fail)?;
        Ok((listener, local_addr))
    };
    let (listener, local_addr) = bind(listen).await?;
    let shared = Arc::new(Shared { state: Mutex::new(State::default()), epoch: watch::Sender::new(0) });
    let handle = SinkHandle { local_addr, shared };
    if let Some(admin) = admin {
        let (listener, _) = bind(admin).await?;
        let (handle, shutdown) = (handle.clone(), shutdown.clone());
        tokio::spawn(async move {
            // Its own epoch never moves: the switches stay within reach while the sink is down.
            let steady = watch::Sender::new(0);
            shutdown.run_until_cancelled(accept(&listener, &handle, &steady)).await
        });
    }
    let served = handle.clone();
    tokio::spawn(async move {
        let epoch = served.shared.epoch.clone();
        shutdown.run_until_cancelled(serve(listener, served)).await;
        epoch.send_modify(|epoch| *epoch += 1);
    });
    Ok(handle)
}

/// Listens, and while it is down does not. Ends only when it cannot listen again.
async fn serve(first: TcpListener, handle: SinkHandle) {
    let mut listener = Some(first);
    loop {
        let mut epoch = handle.shared.epoch.subscribe();
        let open = match listener.take() {
            Some(open) => open,
            None => match TcpListener::bind(handle.local_addr).await {
                Ok(open) => open,
                Err(error) => return warn!(error = %Chain(&error), "sink cannot listen again"),
            },
        };
        tokio::select! {
            () = accept(&open, &handle, &handle.shared.epoch) => {}
            // The sender lives in the handle, so this is always a change.
            _ = epoch.changed() => {}
        }
        drop(open);
        while let Some(left) =
            handle.shared.with(|state| state.down_until.map(|until| until.saturating_duration_since(Clock::stamp())))
            && !left.is_zero()
        {
            tokio::time::sleep(left).await;
        }
    }
}

async fn accept(listener: &TcpListener, handle: &SinkHandle, epoch: &watch::Sender<u64>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (handle, mut epoch) = (handle.clone(), epoch.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                ended = talk(stream, &handle) => if let Err(error) = ended {
                    debug!(error = %Chain(&error), "sink lost a connection");
                },
                _ = epoch.changed() => {}
            }
        });
    }
}

/// Answers one connection's requests, one after the other.
async fn talk(mut stream: TcpStream, handle: &SinkHandle) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire { bytes: Vec::with_capacity(READ_BYTES), used: 0 };
    while let Some(request) = wire.request(&mut stream).await? {
        let answer =
            if request.method == "POST" { handle.write(&request).await } else { handle.switch(&request.target) };
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

struct Request {
    method: String,
    target: String,
    gzip: bool,
    body: Vec<u8>,
}

struct Head {
    method: String,
    target: String,
    gzip: bool,
    chunked: bool,
    length: usize,
    expects: bool,
}

/// Bytes of a connection that are not consumed yet.
struct Wire {
    bytes: Vec<u8>,
    used: usize,
}

impl Wire {
    fn held(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    async fn more(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.reserve(READ_BYTES);
        match stream.read_buf(&mut self.bytes).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next request, or nothing when the client has closed between two.
    async fn request(&mut self, stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(self.held(), b"\r\n\r\n") {
                break end;
            }
            if self.held().len() > HEADER_BYTES_MAX {
                return Err(std::io::Error::other("the header is too long"));
            }
            match self.more(stream).await {
                Err(_) if self.held().is_empty() => return Ok(None),
                more => more?,
            }
        };
        let head = read_head(&String::from_utf8_lossy(&self.held()[..end]));
        self.used += end + 4;
        if head.length > BODY_BYTES_MAX {
            return Err(std::io::Error::other("the body is too long"));
        }
        if head.expects {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = if head.chunked { self.chunks(stream).await? } else { self.take(head.length, stream).await? };
        Ok(Some(Request { method: head.method, target: head.target, gzip: head.gzip, body }))
    }

    async fn take(&mut self, length: usize, stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        while self.held().len() < length {
            self.more(stream).await?;
        }
        let body = self.held()[..length].to_vec();
        self.used += length;
        Ok(body)
    }

    async fn chunks(&mut self, stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = memchr::memmem::find(self.held(), b"\r\n") {
                    break end;
                }
                self.more(stream).await?;
            };
            let text = String::from_utf8_lossy(&self.held()[..end]).into_owned();
            let length = usize::from_str_radix(text.split(';').next().unwrap_or("").trim(), 16);
            let length = length.map_err(|_| std::io::Error::other("a chunk has no length"))?;
            self.used += end + 2;
            if body.len() + length > BODY_BYTES_MAX {
                return Err(std::io::Error::other("the body is too long"));
            }
            let chunk = self.take(length + 2, stream).await?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
}

fn read_head(text: &str) -> Head {
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or("").split(' ');
    let mut head = Head {
        method: words.next().unwrap_or("").to_owned(),
        target: words.next().unwrap_or("").to_owned(),
        gzip: false,
        chunked: false,
        length: 0,
        expects: false,
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().unwrap_or(usize::MAX),
            "content-encoding" => head.gzip = value.eq_ignore_ascii_case("gzip"),
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            "expect" => head.expects = true,
            _ => {}
        }
    }
    head
}

impl SinkHandle {
    async fn write(&self, request: &Request) -> String {
        let delay = self.shared.with(|state| state.delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let now = Clock::stamp();
        let failing = self.shared.with(|state| {
            let status = state.failing.filter(|(_, until)| now < *until).map(|(status, _)| status);
            state.counted.refused += u64::from(status.is_some());
            status
        });
        if let Some(status) = failing {
            return answer(status, "application/json", r#"{"code":"unavailable","message":"told to fail"}"#);
        }
        let mut plain = Vec::new();
        let lines = if request.gzip {
            let mut decoder = MultiGzDecoder::new(request.body.as_slice()).take(BODY_BYTES_MAX as u64);
            if decoder.read_to_end(&mut plain).is_err() {
                return answer(400, "application/json", r#"{"code":"invalid","message":"not gzip"}"#);
            }
            &plain
        } else {
            &request.body
        };
        self.shared.with(|state| state.count(lines, request.body.len(), now_micros()));
        answer(204, "", "")
    }

    /// The switches of the one who measures, and what clients ask to see whether InfluxDB lives.
    fn switch(&self, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let number = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u32>().ok())
        };
        let seconds = Duration::from_secs(u64::from(number("seconds").unwrap_or(10)));
        match path {
            "/stats" => {}
            "/sample" => {
                return answer(200, "text/plain; charset=utf-8", &self.shared.with(|state| state.sample.clone()));
            }
            "/ping" => return answer(204, "", ""),
            "/health" => return answer(200, "application/json", r#"{"name":"influxdb","status":"pass"}"#),
            "/reset" => self.reset(),
            "/down" => self.down(seconds),
            "/delay" => self.delay(Duration::from_millis(u64::from(number("ms").unwrap_or(0)))),
            "/fail" => {
                self.fail(number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(503), seconds)
            }
            _ => return answer(404, "text/plain", "no such page\n"),
        }
        let stats = serde_json::to_string(&self.stats()).expect("the figures have text keys and finite numbers");
        answer(200, "application/json", &stats)
    }
}

fn answer(status: u16, kind: &str, body: &str) -> String {
    let reason = match status {
        200 => "OK",
        204 => return "HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 2.7.0\r\n\r\n".to_owned(),
        400 => "Bad Request",
        404 => "Not Found",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Told To",
    };
    format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl State {
    fn count(&mut self, lines: &[u8], wire_bytes: usize, now_micros: u64) {
        let counted = &mut self.counted;
        counted.requests += 1;
        counted.bytes += lines.len() as u64;
        counted.wire_bytes += wire_bytes as u64;
        if counted.first_micros == 0 {
            counted.first_micros = now_micros;
        }
        counted.last_micros = now_micros;
        if self.sample.is_empty() {
            self.sample = String::from_utf8_lossy(&lines[..lines.len().min(SAMPLE_BYTES)]).into_owned();
        }
        let (sequence, sent) = (Finder::new("seq="), Finder::new("tx="));
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', lines).chain([lines.len()]) {
            let line = &lines[start..end];
            start = end + 1;
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            self.counted.lines += 1;
            match field(line, &sequence).and_then(|number| number.checked_sub(SEQUENCE_BASE)) {
                Some(number) if number < SEQUENCES_MAX => self.see(number),
                _ => self.counted.without_sequence += 1,
            }
            if let Some(sent_micros) = field(line, &sent) {
                self.latency.add(now_micros.saturating_sub(sent_micros));
            }
        }
    }

    /// One bit for each sequence number; a run of a hundred million takes 12 MB.
    fn see(&mut self, number: u64) {
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.counted.distinct += 1;
        } else {
            self.counted.duplicates += 1;
        }
    }
}

/// The whole number that a field of a line holds, written as `1`, `1i`, `1u`, `1.0` or `1e8`.
fn field(line: &[u8], key: &Finder<'_>) -> Option<u64> {
    let place = key.find_iter(line).find(|place| *place > 0 && matches!(line[place - 1], b',' | b' '))?;
    let text = &line[place + key.needle().len()..];
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !matches!(text.get(digits), Some(b'.' | b'e' | b'E')) {
        return std::str::from_utf8(&text[..digits]).ok()?.parse().ok();
    }
    let length = text.iter().take_while(|byte| !matches!(byte, b',' | b' ')).count();
    let number: f64 = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LINES: &str = concat!(
        "manhole_cover,device=MH-000000 level_mm=0.34,seq=100000000i,tx=1586400800000000i 1586400800000\n",
        "pole,device=SP-000001 seq=100000001,tx=1.5864008e15 1586400800000\n",
        "pole,device=SP-000001 seq=1.00000001e8,tx=1586400800000000 1586400800000\n",
        "drain,device=DL-000002 level_mm=118 1586400800000",
    );

    async fn sink() -> (SinkHandle, Shutdown) {
        let shutdown = Shutdown::new();
        let sink = serve_sink("127.0.0.1:0".parse().unwrap(), None, shutdown.clone()).await.unwrap();
        (sink, shutdown)
    }

    async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        loop {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed after {answer:?}");
            let text = String::from_utf8_lossy(&answer).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                return text;
            }
        }
    }

    fn post(body: &[u8], encoding: &str) -> Vec<u8> {
        let mut request =
            format!("POST /api/v2/write?org=o HTTP/1.1\r\nHost: x\r\n{encoding}content-length: {}\r\n\r\n", body.len())
                .into_bytes();
        request.extend_from_slice(body);
        request
    }

    #[tokio::test]
    async fn plain_compressed_and_chunked_writes_are_counted_on_one_connection() {
        let (sink, _shutdown) = sink().await;
        let mut stream = TcpStream::connect(sink.local_addr()).await.unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(LINES.as_bytes()).unwrap();
        let chunked = format!(
            "POST /api/v2/write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            &LINES[..5],
            LINES.len() - 5,
            &LINES[5..]
        );
        for request in [
            post(LINES.as_bytes(), ""),
            post(&encoder.finish().unwrap(), "Content-Encoding: gzip\r\n"),
            chunked.into_bytes(),
        ] {
            let answer = exchange(&mut stream, &request).await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        }
        let stats = sink.stats();
        assert_eq!((stats.requests, stats.lines, stats.without_sequence), (3, 12, 3));
        assert_eq!((stats.distinct, stats.duplicates), (2, 7));
        assert!(stats.p50_ms > 1e6, "sent in 2020: {}", stats.p50_ms);
        let answer = exchange(&mut stream, b"GET /stats HTTP/1.1\r\n\r\n").await;
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["lines"], 12);
        exchange(&mut stream, b"GET /reset HTTP/1.1\r\n\r\n").await;
        assert_eq!(sink.stats().lines, 0);
    }

    #[tokio::test]
    async fn a_failing_sink_counts_nothing_and_a_body_that_is_not_gzip_is_refused() {
        let (sink, _shutdown) = sink().await;
        let mut stream = TcpStream::connect(sink.local_addr()).await.unwrap();
        exchange(&mut stream, b"GET /fail?status=429&seconds=60 HTTP/1.1\r\n\r\n").await;
        let answer = exchange(&mut stream, &post(LINES.as_bytes(), "")).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert_eq!((sink.stats().refused, sink.stats().lines), (1, 0));
        sink.reset();
        let answer = exchange(&mut stream, &post(LINES.as_bytes(), "Content-Encoding: gzip\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }

    #[tokio::test]
    async fn a_sink_that_is_down_drops_its_connections_and_comes_back_at_the_same_port() {
        let (sink, _shutdown) = sink().await;
        let mut stream = TcpStream::connect(sink.local_addr()).await.unwrap();
        exchange(&mut stream, &post(LINES.as_bytes(), "")).await;
        sink.down(Duration::from_secs(1));
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(ended.unwrap_or(0), 0);
        let deadline = Clock::stamp() + Duration::from_secs(10);
        let mut refused = 0;
        let mut back = loop {
            assert!(Clock::stamp() < deadline, "not back after 10 s, refused {refused} times");
            match TcpStream::connect(sink.local_addr()).await {
                Ok(back) => break back,
                Err(_) => refused += 1,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(refused > 0);
        exchange(&mut back, &post(LINES.as_bytes(), "")).await;
        assert_eq!(sink.stats().requests, 2);
    }
}
