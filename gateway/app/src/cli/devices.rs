//! `kerbside devices`: the inventory as it is now, or as it is configured when no gateway runs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::access::{self, Access};
use super::{counted, run, say};
use crate::pipeline::recover;

/// Arguments of `kerbside devices`.
#[derive(Debug, clap::Args)]
pub(super) struct DevicesArguments {
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &DevicesArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        let items = match access::open(&arguments.config).await? {
            Access::Api(api) => api.list("/api/v1/devices").await?,
            Access::Store(store, config) => {
                let now = kerbside_runtime::Clock::System.now();
                let engine = recover::recover(&store, &config.site, now)?;
                store.close()?;
                let count = u32::try_from(engine.site().devices().len()).unwrap_or(u32::MAX);
                let view = |index| json!(engine.device_view(kerbside_model::DeviceIndex(index), now));
                (0..count).map(view).collect()
            }
        };
        if arguments.json {
            say(&json!({ "items": items, "next": null }).to_string());
            return Ok(0);
        }
        for device in &items {
            let text = |key: &str| device[key].as_str().unwrap_or("").to_owned();
            let heard = device["heard_at"].as_str().unwrap_or("never heard");
            let conditions: Vec<&str> =
                device["conditions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            say(&format!(
                "{:<16} {:<8} {:<16} {heard:<24} {} {}",
                text("id"),
                text("status"),
                text("kind"),
                conditions.join(","),
                text("place")
            ));
        }
        say(&counted(items.len(), "device"));
        Ok(0)
    })
}
