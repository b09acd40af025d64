//! What is said about applying a changed configuration: who asks, what became of it. The gateway does it
//! (`gateway/reload.rs`); API, signal and command line only ask.

use kerbside_model::Timestamp;
use kerbside_model::document::Problem;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait; each reads the whole configuration.
const REQUESTS_MAX: usize = 4;
/// Ids of devices that a report lists by name in each group; the counts are always whole.
const IDS_MAX: usize = 100;

/// What became of a configuration that was to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// Nothing in it is different.
    Unchanged,
    /// It has problems, and nothing was touched.
    Refused,
    /// Something could not start with it, and everything is as it was before.
    RolledBack,
}

/// The answer to a request to apply the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadReport {
    /// What became of it.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// Who asked.
    pub by: String,
    /// In a sentence.
    pub summary: String,
    /// Content hash of the site in force.
    pub site_hash: String,
    /// Devices.
    pub devices: DeviceChanges,
    /// Profiles that devices use.
    pub profiles: Vec<ProfileChange>,
    /// Sources, sinks, channels and platform that were started, stopped or started again.
    pub components: Vec<ComponentChange>,
    /// Keys whose change waits for a restart of the gateway, in words.
    pub needs_restart: Vec<String>,
    /// What people should know besides.
    pub notices: Vec<String>,
    /// What is wrong with the configuration.
    pub problems: Vec<ProblemView>,
}

/// Devices that came, changed or went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceChanges {
    /// New in the inventory.
    pub added: IdList,
    /// With another row in the inventory, or of another profile.
    pub changed: IdList,
    /// No longer in the inventory.
    pub removed: IdList,
}

/// Ids, not more than a person reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdList {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub ids: Vec<String>,
}

impl IdList {
    /// One more.
    pub fn push(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < IDS_MAX {
            self.ids.push(id.to_owned());
        }
    }
}

impl DeviceChanges {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.added.count + self.changed.count + self.removed.count == 0
    }
}

/// A profile that came, changed or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProfileChange {
    /// Its name.
    pub profile: String,
    /// As it was; `None` when it is new here.
    pub old: Option<ProfileEdition>,
    /// As it is; `None` when no device uses it any more.
    pub new: Option<ProfileEdition>,
}

/// Which edition of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProfileEdition {
    /// As the profile says.
    pub version: u32,
    /// Hash of its content.
    pub hash: String,
}

/// What was done with a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentChange {
    /// Its name, as health shows it.
    pub component: String,
    /// What was done.
    pub action: ComponentAction,
}

/// See [`ComponentChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentAction {
    /// It is new.
    Started,
    /// It is gone.
    Stopped,
    /// It has other settings.
    Restarted,
}

/// A problem in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemView {
    /// File as the configuration names it.
    pub file: String,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Path of the key.
    pub key: String,
    /// The value that is wrong.
    pub value: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub mend: String,
    /// All of it in words.
    pub text: String,
}

impl From<Problem> for ProblemView {
    fn from(problem: Problem) -> ProblemView {
        let text = problem.to_string();
        let Problem { file, line, key, value, what, mend } = problem;
        ProblemView { file, line, key, value, what, mend, text }
    }
}

/// Asks the gateway to read its configuration again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReloadHandle {
    requests: mpsc::Sender<ReloadRequest>,
}

/// A request on its way.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who asks.
    pub by: String,
    /// Where the report goes.
    pub answer: oneshot::Sender<ReloadReport>,
}

/// The gateway is about to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("apply the configuration: the gateway is about to stop")]
pub struct ReloadEnded;

impl ReloadHandle {
    /// A handle, and where its requests come out.
    pub fn new() -> (ReloadHandle, mpsc::Receiver<ReloadRequest>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        (ReloadHandle { requests }, receiver)
    }

    /// Reads the configuration again, applies what changed, and tells what became of it.
    pub async fn reload(&self, by: &str) -> Result<ReloadReport, ReloadEnded> {
        let (answer, report) = oneshot::channel();
        let request = ReloadRequest { by: by.to_owned(), answer };
        self.requests.send(request).await.map_err(|_| ReloadEnded)?;
        report.await.map_err(|_| ReloadEnded)
    }
}
