//! `kerbside replay`: what was stored or recorded is read again.

mod recording;
mod undecoded;

use std::path::PathBuf;

/// Arguments of `kerbside replay`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    recording: recording::RecordingArguments,
    /// Reads the stored frames again that gave no readings when they came, with today's profiles and inventory. Those
    /// that are readable now leave the list; their readings stand at their own time and raise no alarm.
    #[arg(long)]
    undecoded: bool,
    /// Shows what would be read, and changes nothing.
    #[arg(long, requires = "undecoded")]
    dry_run: bool,
    /// Only frames of this device, also when it was not in the inventory when they came.
    #[arg(long, requires = "undecoded")]
    device: Option<String>,
    /// Only frames of this source.
    #[arg(long, requires = "undecoded")]
    source: Option<String>,
    /// Only frames of this address or topic.
    #[arg(long, requires = "undecoded")]
    address: Option<String>,
    /// Only frames that were kept for this reason, such as malformed, no_points or unknown_device.
    #[arg(long, requires = "undecoded")]
    reason: Option<String>,
    /// Only frames that came at this time or later, such as 2026-07-01T08:00:00Z.
    #[arg(long, requires = "undecoded")]
    since: Option<String>,
    /// Who asks; the name of the account wins.
    #[arg(long)]
    by: Option<String>,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<u8> {
    if arguments.undecoded {
        return undecoded::run(arguments);
    }
    recording::run(&arguments.recording, &arguments.config, arguments.json)
}
