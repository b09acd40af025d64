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

/// Starts the log. `level` is used when `KERBSIDE_LOG` is not set. A second call does nothing.
pub fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_env("KERBSIDE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    drop(started);
}
