//! What every component of the gateway needs to run: time, backoff, intake, metrics, health, secrets, TLS, logging.
//!
//! A component is `Config` -> constructor (checks, no network) -> `run(shutdown)` -> cloneable `Handle`.

pub mod backoff;
pub mod clock;
pub mod error;
pub mod health;
pub mod intake;
pub mod logging;
pub mod metrics;
pub mod secret;
pub mod tls;
pub mod trust;

pub use backoff::Backoff;
pub use clock::Clock;
pub use error::Chain;
pub use health::{ComponentHealth, Health, HealthState};
pub use intake::{Intake, IntakeClosed, IntakeReceiver, Receipt, Submission};
pub use metrics::Metrics;
pub use secret::Secret;
/// Told to every component when the process is to end.
pub use tokio_util::sync::CancellationToken as Shutdown;
pub use trust::Trust;
