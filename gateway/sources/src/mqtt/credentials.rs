//! What we show the broker: user name, password or token, and certificates, each from a file that may be replaced.
//!
//! Every file is read again before each connection and every minute. A running connection is never cut for it: the next
//! one uses what is new. A file that cannot be used leaves what was read last in use, and says so in health and log.
//! After a crash everything is read from the files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kerbside_runtime::tls::{Reload, ReloadingClient};
use kerbside_runtime::{Chain, Secret};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::{MqttConfig, MqttError, TEXT_BYTES_MAX};

/// How often files are looked at while a connection stands, so that a bad one is known before it is needed.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// A file system that does not answer must not keep us from connecting with what we have.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A user name, or a password or token.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// As it was read when the configuration was.
    pub value: Secret,
    /// The file that it came from, if any.
    pub file: Option<PathBuf>,
}

/// A file of a credential cannot be used.
#[derive(Debug, thiserror::Error)]
enum CredentialError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("use {}: it is {problem}", path.display())]
    Unusable { path: PathBuf, problem: &'static str },
}

/// What one connection shows.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    source: Arc<str>,
    current: Arc<Mutex<Current>>,
}

#[derive(Clone, Debug)]
struct Current {
    username: Option<Credential>,
    password: Option<Credential>,
    tls: Option<ReloadingClient>,
    /// What is wrong with the files as they are now.
    problem: Option<String>,
}

impl Credential {
    /// A text that does not change.
    pub fn fixed(text: impl Into<String>) -> Credential {
        Credential { value: Secret::new(text), file: None }
    }
}

impl Credentials {
    /// Reads the certificates; now they must be sound.
    pub(super) fn new(config: &MqttConfig) -> Result<Credentials, MqttError> {
        let failed = |source| MqttError::Tls { host: config.host.clone(), source };
        let tls = config.tls.clone().map(ReloadingClient::new).transpose().map_err(failed)?;
        let current =
            Current { username: config.username.clone(), password: config.password.clone(), tls, problem: None };
        Ok(Credentials { source: Arc::from(config.name.as_str()), current: Arc::new(Mutex::new(current)) })
    }

    /// Reads the files again, unless they take too long.
    pub(super) async fn refresh(&self) {
        if !self.lock().has_files() {
            return;
        }
        let credentials = self.clone();
        let reading = tokio::task::spawn_blocking(move || credentials.read_again());
        if tokio::time::timeout(LOOK_TIMEOUT, reading).await.is_err() {
            warn!(source = %self.source, "files of credentials take too long to read; what was read before is used");
        }
    }

    /// Looks at the files again and again.
    pub(super) async fn watch(&self, interval: Duration) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(interval).await;
            self.refresh().await;
        }
    }

    /// For the next login.
    pub(super) fn shown(&self) -> Shown {
        let current = self.lock();
        let value = |credential: &Option<Credential>| credential.as_ref().map(|credential| credential.value.clone());
        Shown { username: value(&current.username), password: value(&current.password) }
    }

    /// For the next connection.
    pub(super) fn connector(&self) -> Option<TlsConnector> {
        self.lock().tls.as_ref().map(|tls| TlsConnector::from(tls.config()))
    }

    /// What is wrong with a file, while what was read before is in use.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads outside of the lock, so that nobody waits for a file.
    fn read_again(&self) {
        let mut next = self.lock().clone();
        let problem = next.read_again(&self.source).err();
        if let Some(problem) = &problem
            && next.problem.as_ref() != Some(problem)
        {
            warn!(source = %self.source, problem, "a file cannot be used; what was read before stays in use");
        }
        next.problem = problem;
        *self.lock() = next;
    }
}

impl Current {
    fn has_files(&self) -> bool {
        let is_file = |credential: &Option<Credential>| credential.as_ref().is_some_and(|it| it.file.is_some());
        is_file(&self.username) || is_file(&self.password) || self.tls.as_ref().is_some_and(ReloadingClient::has_files)
    }

    /// Takes over whatever is sound; all problems in one text.
    fn read_again(&mut self, source: &str) -> Result<(), String> {
        let mut problems = Vec::new();
        for (what, credential) in [("user name", &mut self.username), ("password", &mut self.password)] {
            let Some(credential) = credential else { continue };
            match credential.read_again() {
                Ok(Reload::Unchanged) => {}
                Ok(Reload::Changed) => info!(source, what, "a credential changed; the next connection uses it"),
                Err(error) => problems.push(Chain(&error).to_string()),
            }
        }
        match self.tls.as_mut().map(ReloadingClient::refresh) {
            None | Some(Ok(Reload::Unchanged)) => {}
            Some(Ok(Reload::Changed)) => info!(source, "certificates changed; the next connection uses them"),
            Some(Err(error)) => problems.push(Chain(&error).to_string()),
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

impl Credential {
    fn read_again(&mut self) -> Result<Reload, CredentialError> {
        let Some(path) = &self.file else { return Ok(Reload::Unchanged) };
        let text = read(path)?;
        if text == self.value.expose() {
            return Ok(Reload::Unchanged);
        }
        self.value = Secret::new(text);
        Ok(Reload::Changed)
    }
}

/// The text of a file without the line end that editors leave.
fn read(path: &Path) -> Result<String, CredentialError> {
    let bytes = fs::read(path).map_err(|source| CredentialError::Read { path: path.to_owned(), source })?;
    let unusable = |problem| CredentialError::Unusable { path: path.to_owned(), problem };
    let mut text = String::from_utf8(bytes).map_err(|_| unusable("not UTF-8 text"))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    match text.len() {
        0 => Err(unusable("empty")),
        1..=TEXT_BYTES_MAX => Ok(text),
        _ => Err(unusable("longer than 65535 bytes")),
    }
}
