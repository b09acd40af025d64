//! `kerbside undecoded`: the frames that gave no readings, and why.

use std::path::PathBuf;

use anyhow::Context as _;
use kerbside_store::{PAGE_ITEMS_MAX, UndecodedQuery};
use serde_json::{Value, json};

use super::access::{self, Access};
use super::{counted, run, say};
use crate::api::{undecoded_reason, undecoded_view};

/// Arguments of `kerbside undecoded`.
#[derive(Debug, clap::Args)]
pub(super) struct UndecodedArguments {
    #[command(subcommand)]
    command: UndecodedCommand,
}

#[derive(Debug, clap::Subcommand)]
enum UndecodedCommand {
    /// Lists them, the newest first.
    List(ListArguments),
    /// Shows one with its payload.
    Show {
        /// Number of the frame, as the list shows it.
        number: u64,
        /// The configuration of the gateway.
        #[arg(long, default_value = "gateway.yaml")]
        config: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// Only frames of this device.
    #[arg(long)]
    device: Option<String>,
    /// Only frames for this reason, such as malformed, no_points or unknown_device.
    #[arg(long)]
    reason: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &UndecodedArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        match &arguments.command {
            UndecodedCommand::List(arguments) => list(arguments).await,
            UndecodedCommand::Show { number, config } => show(*number, config).await,
        }
    })
}

async fn list(arguments: &ListArguments) -> anyhow::Result<u8> {
    let query = UndecodedQuery {
        device: arguments.device.clone(),
        reason: arguments.reason.as_deref().map(undecoded_reason).transpose().map_err(anyhow::Error::msg)?,
        limit: arguments.limit.clamp(1, PAGE_ITEMS_MAX),
        ..UndecodedQuery::default()
    };
    let page = match access::open(&arguments.config).await? {
        Access::Api(api) => {
            let mut path = format!("/api/v1/undecoded?limit={}", query.limit);
            for (key, value) in [("device", &arguments.device), ("reason", &arguments.reason)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{key}={}", access::escape(value)));
                }
            }
            api.get(&path).await?
        }
        Access::Store(store, _) => {
            let page = store.undecoded(&query)?;
            store.close()?;
            json!({ "items": page.items.iter().map(undecoded_view).collect::<Vec<_>>(), "next": page.next })
        }
    };
    if arguments.json {
        say(&page.to_string());
        return Ok(0);
    }
    let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
    for item in items {
        let text = |key: &str| item[key].as_str().unwrap_or_default();
        let device = item["device"].as_str().unwrap_or("-");
        let (at, source, address) = (text("received_at"), text("source"), text("address"));
        let (reason, detail) = (text("reason"), text("detail"));
        say(&format!("{:<6} {at} {source} {address} {device} {reason}: {detail}", item["number"]));
    }
    let more = if page["next"].is_null() { "" } else { ", and there are more" };
    say(&format!("{}{more}", counted(items.len(), "frame")));
    Ok(0)
}

async fn show(number: u64, config: &std::path::Path) -> anyhow::Result<u8> {
    let frame: Value = match access::open(config).await? {
        Access::Api(api) => api.get(&format!("/api/v1/undecoded/{number}")).await?,
        Access::Store(store, _) => {
            let row = store.undecoded_frame(number)?;
            store.close()?;
            undecoded_view(&row.with_context(|| format!("find the undecoded frame {number}"))?)
        }
    };
    say(&serde_json::to_string_pretty(&frame).context("write the frame as JSON")?);
    Ok(0)
}
