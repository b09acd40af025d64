//! Real counterparts: Mosquitto, VictoriaMetrics, pymodbus. `tests/run` installs them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{free_port, loopback, send_sigterm, wait_for_end};
use crate::wait::{SOON, wait_until};

/// Names the Python that has pymodbus.
pub(crate) const PYTHON: &str = "KERBSIDE_PYTHON";

/// A program that ends with the test.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Runs the first of the places at which the program is.
    pub(crate) fn start(places: &[&str], arguments: &[&str], log: &Path) -> Program {
        let file = File::create(log).unwrap();
        let is_there = |place: &&&str| place.contains('/') && Path::new(place).try_exists().unwrap_or(false);
        let program = places.iter().find(is_there).unwrap_or(&places[0]);
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started, tests/run installs it: {error}"));
        Program { child, log: log.to_owned() }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and the end that must come of it: what it has in memory is written.
    async fn stop(mut self) {
        send_sigterm(&self.child);
        wait_for_end(&mut self.child).await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Mosquitto, which keeps sessions in memory, and writes them to its folder when it is stopped.
pub(crate) struct Mosquitto {
    pub(crate) address: SocketAddr,
    program: Option<Program>,
    folder: TempDir,
}

impl Mosquitto {
    pub(crate) async fn start() -> Mosquitto {
        Mosquitto::start_at(free_port()).await
    }

    pub(crate) async fn start_at(port: u16) -> Mosquitto {
        let folder = tempfile::tempdir().unwrap();
        // As root it would become another user, who may not write here.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 1000\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let mut mosquitto = Mosquitto { address: loopback(port), program: None, folder };
        mosquitto.go_on().await;
        mosquitto
    }

    /// Ends it; what it has acknowledged is in its folder.
    pub(crate) async fn stop(&mut self) {
        if let Some(program) = self.program.take() {
            program.stop().await;
        }
    }

    /// Starts it again with what is in its folder.
    pub(crate) async fn go_on(&mut self) {
        let config = self.folder.path().join("mosquitto.conf");
        let places = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let arguments = ["-c", config.to_str().unwrap()];
        let program = Program::start(&places, &arguments, &self.folder.path().join("log.txt"));
        wait_until("Mosquitto listens", SOON, || async {
            let connected = TcpStream::connect(self.address).await;
            connected.map(drop).map_err(|error| format!("{error}; {}", program.log()))
        })
        .await;
        self.program = Some(program);
    }

    /// The source `city` on this broker, with a session that outlives the gateway.
    pub(crate) fn source(port: u16) -> String {
        format!(
            "  city: {{type: mqtt, host: 127.0.0.1, port: {port}, client_id: kerbside-e2e, \
             topics: [{{filter: \"city/+/+/+/up\", qos: 1}}], address: {{topic: \"city/+/+/{{device}}/up\"}}, \
             backoff_max: 1s}}\n"
        )
    }
}

/// VictoriaMetrics, which takes InfluxDB's line protocol.
pub(crate) struct Victoria {
    pub(crate) port: u16,
    client: reqwest::Client,
    program: Option<Program>,
    folder: TempDir,
}

/// One value as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) device: String,
    pub(crate) at_ms: i64,
    pub(crate) value: f64,
}

impl Victoria {
    pub(crate) async fn start() -> Victoria {
        kerbside_runtime::tls::install_crypto_provider();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut victoria = Victoria { port: free_port(), client, program: None, folder };
        victoria.go_on().await;
        victoria
    }

    /// Ends it; what it has acknowledged is in its folder.
    pub(crate) async fn stop(&mut self) {
        if let Some(program) = self.program.take() {
            program.stop().await;
        }
    }

    /// Starts it again with what is in its folder.
    pub(crate) async fn go_on(&mut self) {
        let storage = format!("-storageDataPath={}", self.folder.path().join("data").display());
        let listen = format!("-httpListenAddr=127.0.0.1:{}", self.port);
        let places = ["victoria-metrics", "/usr/bin/victoria-metrics", "/usr/local/bin/victoria-metrics"];
        // New points can be asked for at once.
        let arguments = [storage.as_str(), listen.as_str(), "-search.latencyOffset=0s", "-retentionPeriod=100y"];
        let program = Program::start(&places, &arguments, &self.folder.path().join("log.txt"));
        let url = format!("http://127.0.0.1:{}/health", self.port);
        wait_until("VictoriaMetrics is well", SOON, || async {
            match self.client.get(&url).send().await {
                Ok(response) if response.status().is_success() => Ok(()),
                other => Err(format!("{other:?}; {}", program.log())),
            }
        })
        .await;
        self.program = Some(program);
    }

    /// Everything that is stored of one point, sent again or not.
    pub(crate) async fn samples(&self, kind: &str, point: &str, device: Option<&str>) -> Vec<Sample> {
        let device = device.map(|device| format!("{{device=\"{device}\"}}")).unwrap_or_default();
        let selector = format!("{kind}_{point}{device}");
        let url = format!("http://127.0.0.1:{}/api/v1/export", self.port);
        let request = self.client.get(url).query(&[("match[]", selector.as_str()), ("reduce_mem_usage", "1")]);
        let text = request.send().await.unwrap().text().await.unwrap();
        let mut found = Vec::new();
        for line in text.lines() {
            let series: Value = serde_json::from_str(line).unwrap();
            let device = series["metric"]["device"].as_str().unwrap();
            let times = series["timestamps"].as_array().unwrap().iter().filter_map(Value::as_i64);
            let values = series["values"].as_array().unwrap().iter().filter_map(Value::as_f64);
            found.extend(times.zip(values).map(|(at_ms, value)| Sample { device: device.to_owned(), at_ms, value }));
        }
        found.sort_by(|one, other| (&one.device, one.at_ms).cmp(&(&other.device, other.at_ms)));
        found
    }

    /// Every value of one point of one device, oldest first.
    pub(crate) async fn values(&self, kind: &str, point: &str, device: &str) -> Vec<f64> {
        let mut samples = self.samples(kind, point, Some(device)).await;
        samples.dedup();
        samples.into_iter().map(|sample| sample.value).collect()
    }
}

/// A pymodbus server: units 1 and 2 have holding registers 0 to 9, other units fail.
pub(crate) struct PyModbus {
    pub(crate) port: u16,
    _program: Program,
    _folder: TempDir,
}

impl PyModbus {
    pub(crate) async fn start() -> PyModbus {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/modbus_server.py");
        let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
        let log = folder.path().join("log.txt");
        let program = Program::start(&[&python], &[script, &port.to_string()], &log);
        wait_until("the pymodbus server listens", SOON, || async {
            let connected = TcpStream::connect(loopback(port)).await;
            connected.map(drop).map_err(|error| format!("{error}; {PYTHON}={python}; {}", program.log()))
        })
        .await;
        PyModbus { port, _program: program, _folder: folder }
    }

    /// Writes one register with function 6, whose answer repeats the request.
    pub(crate) async fn set(&self, unit: u8, address: u16, word: u16) {
        let mut stream = TcpStream::connect(loopback(self.port)).await.unwrap();
        let mut request = vec![0, 1, 0, 0, 0, 6, unit, 6];
        request.extend(address.to_be_bytes());
        request.extend(word.to_be_bytes());
        stream.write_all(&request).await.unwrap();
        let mut answer = [0_u8; 12];
        tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer.as_slice(), request.as_slice());
    }
}
