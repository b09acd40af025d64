//! A gateway under test: its folder, its process, its API.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use kerbside_runtime::Clock;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait::{SOON, wait_for, wait_until};

/// The executable under test.
pub(crate) const KERBSIDE: &str = env!("CARGO_BIN_EXE_kerbside");
/// Ports below those that the system gives to outgoing connections, so that a port stays ours while nobody listens.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// The part of a log that is shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port of this test alone, on which nobody listens yet.
pub(crate) fn free_port() -> u16 {
    let count = PORTS.end - PORTS.start;
    let offset = u16::try_from(std::process::id() % u32::from(count)).unwrap();
    loop {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (u32::from(offset) * 7 + u32::from(step)).rem_euclid(u32::from(count)) as u16;
        if TcpListener::bind(loopback(port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// A folder with a configuration, and what runs from it.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) api_port: u16,
    pub(crate) broker_port: u16,
    /// Whether a file that may grow no longer is an error to the gateway and not its end.
    pub(crate) survives_file_limit: bool,
    starts: u32,
}

impl Site {
    /// A folder with an inventory; the configuration comes with [`Site::configure`].
    pub(crate) fn new(inventory: &str) -> Site {
        kerbside_runtime::tls::install_crypto_provider();
        let site = Site {
            folder: tempfile::tempdir().unwrap(),
            api_port: free_port(),
            broker_port: free_port(),
            survives_file_limit: false,
            starts: 0,
        };
        site.write("inventory.csv", inventory);
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes gateway.yaml: the places of this test, then `more`.
    pub(crate) fn configure(&self, more: &str) {
        let mut text = format!("listen: 127.0.0.1:{}\ndata_dir: data\n", self.api_port);
        if self.path("inventory.csv").try_exists().unwrap() {
            text.push_str("inventory: inventory.csv\n");
        }
        text.push_str(more);
        self.write("gateway.yaml", &text);
    }

    /// The embedded broker on this test's port, under the name `broker`.
    pub(crate) fn embedded_broker(&self) -> String {
        format!("  broker: {{type: broker, listen: \"127.0.0.1:{}\"}}\n", self.broker_port)
    }

    pub(crate) fn broker(&self) -> SocketAddr {
        loopback(self.broker_port)
    }

    /// Runs a command of `kerbside` with this configuration to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Finished {
        let config = self.path("gateway.yaml");
        let output = Command::new(KERBSIDE).args(arguments).arg("--config").arg(config).output().unwrap();
        Finished::of(output)
    }

    /// Starts the gateway and waits until it lives.
    pub(crate) async fn start(&mut self) -> Gateway {
        let gateway = self.spawn();
        gateway.wait_for_life().await
    }

    fn spawn(&mut self) -> Gateway {
        self.starts += 1;
        let log = self.path(&format!("log-{}.txt", self.starts));
        let file = File::create(&log).unwrap();
        let mut program = Command::new(KERBSIDE);
        if self.survives_file_limit {
            program = Command::new("sh");
            program.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", KERBSIDE]);
        }
        let child = program
            .arg("run")
            .arg("--config")
            .arg(self.path("gateway.yaml"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let client = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        Gateway { child, log, api: loopback(self.api_port), client, began: Clock::stamp(), account: None }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Finished {
    pub(crate) fn of(output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `kerbside` without a configuration.
    pub(crate) fn run(arguments: &[&str]) -> Finished {
        Finished::of(Command::new(KERBSIDE).args(arguments).output().unwrap())
    }

    /// What it printed, which must be JSON after a success.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A gateway that runs. Dropping it kills it; its log is shown when the test fails.
pub(crate) struct Gateway {
    child: Child,
    log: PathBuf,
    pub(crate) api: SocketAddr,
    client: Client,
    began: std::time::Instant,
    account: Option<(String, String)>,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a 200.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl Gateway {
    async fn wait_for_life(mut self) -> Gateway {
        let began = Clock::stamp();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended at its start with {status}");
            }
            let state = match self.try_get("/health/live").await {
                Ok(answer) if answer.status == 200 => return self,
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error,
            };
            assert!(began.elapsed() < SOON, "the gateway does not live after {SOON:?}: {state}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How long ago its process was made.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn log_in(&mut self, name: &str, password: &str) {
        self.account = Some((name.to_owned(), password.to_owned()));
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let mut request = self.client.request(method, format!("http://{}{path}", self.api));
        if let Some((name, password)) = &self.account {
            request = request.basic_auth(name, Some(password));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| format!("{error:?}"))?;
        Ok(Answer { status, text })
    }

    pub(crate) async fn try_get(&self, path: &str) -> Result<Answer, String> {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.ask(method, path, body).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await.unwrap()
    }

    /// The items of the first page of a list.
    pub(crate) async fn items(&self, path: &str) -> Vec<Value> {
        self.get(path).await.ok()["items"].as_array().unwrap().clone()
    }

    /// Waits until a list satisfies `wanted`, and gives its items.
    pub(crate) async fn wait_for_items(&self, what: &str, path: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_until(what, SOON, || async {
            let items = self.items(path).await;
            if wanted(&items) { Ok(items) } else { Err(format!("{path}: {}", json!(items))) }
        })
        .await
    }

    /// The sum of a metric over all of its labels that contain every one of `labels`; 0 when it is not there.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").await.text;
        sum_of_metric(&text, name, labels)
    }

    /// State and words of one component of the health.
    pub(crate) async fn component(&self, name: &str) -> (String, String) {
        let ready = self.get("/health/ready").await.json();
        let found = ready["components"].as_array().unwrap().iter().find(|component| component["component"] == name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        found.map_or_else(
            || ("absent".to_owned(), String::new()),
            |found| (text(&found["state"]), text(&found["detail"])),
        )
    }

    /// Waits until a component is in a state with words that contain `words`.
    pub(crate) async fn wait_for_component(&self, name: &str, state: &str, words: &str) -> String {
        wait_until(&format!("{name} is {state} with {words:?}"), SOON, || async {
            let (now, detail) = self.component(name).await;
            if now == state && detail.contains(words) { Ok(detail) } else { Err(format!("{now}: {detail}")) }
        })
        .await
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end that must come of it.
    pub(crate) async fn stop(mut self) {
        send_sigterm(&self.child);
        let status = wait_for_end(&mut self.child).await;
        assert!(status.success(), "the gateway ended with {status}");
    }
}

/// The sum of a metric in the text of `/metrics`.
pub(crate) fn sum_of_metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    text.lines().filter(is_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Asks a process to end. The shell has `kill` built in, so nothing needs to be installed.
pub(crate) fn send_sigterm(child: &Child) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status().unwrap();
    assert!(status.success(), "the process was gone before it was asked to end");
}

pub(crate) async fn wait_for_end(child: &mut Child) -> ExitStatus {
    wait_for("the process ends", SOON, || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())).await
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            show_log(&self.log);
        }
    }
}

fn show_log(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let lines: Vec<&str> = text.lines().collect();
    let mut shown = format!("--- the end of {} ({} lines)\n", path.display(), lines.len());
    for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
        let _written = writeln!(shown, "{line}");
    }
    eprintln!("{shown}---");
}
