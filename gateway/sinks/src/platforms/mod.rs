//! City platforms: where cases are opened and followed.
//!
//! Turns a [`CaseReport`] into a request of a platform, and the platform's answers into outcomes and states. A
//! platform keeps nothing itself: what survives a crash is the outbox row and our reference in the platform's own
//! record.

mod answer;
pub mod open311;
pub mod poller;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use kerbside_model::{CaseReport, CaseState, Timestamp};

pub use open311::{Open311, Open311Config, Open311Error, Open311Format};
pub use poller::{OpenCases, PollerConfig, StatusPoller};

/// Whether a case is looked up before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A request may have reached the platform before: look first.
    First,
    /// Nothing was ever sent.
    NotNeeded,
}

/// What became of an attempt to open a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The platform took it.
    Opened(Opened),
    /// An earlier request had reached the platform.
    AlreadyThere {
        /// The platform's number.
        platform_id: String,
    },
    /// The platform refuses the case itself for good.
    Refused {
        /// The platform's words.
        reason: String,
    },
    /// Nothing was stored, and a second try needs no lookup on this one's account.
    NotSent {
        /// Why.
        reason: String,
        /// How long the platform asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The platform may have stored it.
    Uncertain {
        /// Why.
        reason: String,
        /// Whether the request may still be on its way inside the platform.
        progress: Progress,
    },
    /// Key, service code or address are wrong: nothing was stored, and a person must mend the configuration.
    Misconfigured {
        /// The platform's words.
        reason: String,
    },
}

/// What the platform gave for a case that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Its number.
    Id(String),
    /// A token that becomes a number later, see [`Platform::claim`].
    Token(String),
    /// Neither: it tells nobody what becomes of the case.
    Blackbox,
}

/// Whether an uncertain request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The platform answered: what it did is done.
    Ended,
    /// No answer, or one from a machine in front of the platform.
    MayStillRun,
}

/// A case that is open at a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCase {
    /// Our id.
    pub case_id: String,
    /// The platform's number; `None` when it gave none so far, and then the case is looked for by our reference.
    pub platform_id: Option<String>,
    /// When the condition began.
    pub occurred_at: Timestamp,
}

/// What a platform says of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldState {
    /// In our words.
    pub state: CaseState,
    /// The platform's own word and note.
    pub note: String,
}

/// A question that a platform did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The request failed.
    #[error("ask the platform")]
    Request(#[source] reqwest::Error),
    /// The platform answered with an error.
    #[error("ask the platform: HTTP {status} {words}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The platform's words.
        words: String,
    },
    /// The answer is not what was asked for.
    #[error("ask the platform: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// A platform that opens cases.
#[async_trait]
pub trait Platform: Send + Sync + Debug {
    /// Name in the configuration.
    fn name(&self) -> &str;

    /// How long a request may still be on its way inside the platform after we lost sight of it.
    fn settle(&self) -> Duration;

    /// Whether somebody answers at all; whatever the answer is.
    async fn reach(&self) -> Result<(), PlatformError>;

    /// Opens a case. With [`Lookup::First`] nothing is sent unless a lookup worked and found nothing.
    async fn open(&self, report: &CaseReport, lookup: Lookup) -> OpenOutcome;

    /// The number that a token became; `None` while it is not known.
    async fn claim(&self, token: &str) -> Result<Option<String>, PlatformError>;

    /// The number of the case that carries our reference; `None` when there is none.
    async fn find(&self, case: &OpenCase) -> Result<Option<String>, PlatformError>;

    /// The state of a case; `None` when the platform does not know it or says nothing that we understand.
    async fn status(&self, platform_id: &str) -> Result<Option<ToldState>, PlatformError>;
}
