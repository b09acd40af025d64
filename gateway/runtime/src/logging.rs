//! The log: one line an event, to standard error. Level by `KERBSIDE_LOG`, JSON by configuration.

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The broker library tells every device that comes and goes, which is not news.
const QUIET: &str = "mqtt5=error";

/// Starts the log. `level` is used when `KERBSIDE_LOG` is not set. A second call does nothing.
pub fn start(format: LogFormat, level: &str) {
    let configured = || EnvFilter::new(format!("{level},{QUIET}"));
    let filter = EnvFilter::try_from_env("KERBSIDE_LOG").unwrap_or_else(|_| configured());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    drop(started);
}
