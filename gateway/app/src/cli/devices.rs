//! `kerbside devices`: the inventory as it is now, or as it is configured when no gateway runs, and the addresses that
//! were heard and that no device has.

use std::path::PathBuf;

use kerbside_store::{PageQuery, Store};
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

/// A clock that is off by less is as good as any: the way through the network takes as long.
const CLOCK_OFF_MIN_SECONDS: f64 = 60.0;

/// How far a device's clock is off, when that is worth a word.
fn clock_words(offset_seconds: f64) -> String {
    let way = if offset_seconds < 0.0 { "ahead" } else { "behind" };
    let is_off = offset_seconds.abs() >= CLOCK_OFF_MIN_SECONDS;
    if is_off { format!(" (clock {:.0} min {way})", offset_seconds.abs() / 60.0) } else { String::new() }
}

pub(super) fn run(arguments: &DevicesArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        let (items, strangers) = match access::open(&arguments.config).await? {
            Access::Api(api) => (api.list("/api/v1/devices").await?, api.list("/api/v1/unknown-devices").await?),
            Access::Store(store, config) => {
                let strangers = strangers(&store)?;
                let now = kerbside_runtime::Clock::System.now();
                let engine = recover::recover(&store, &config.site, now)?;
                store.close()?;
                let count = u32::try_from(engine.site().devices().len()).unwrap_or(u32::MAX);
                let view = |index| json!(engine.device_view(kerbside_model::DeviceIndex(index), now));
                ((0..count).map(view).collect(), strangers)
            }
        };
        if arguments.json {
            say(&json!({ "items": items, "unknown": strangers, "next": null }).to_string());
            return Ok(0);
        }
        for device in &items {
            let text = |key: &str| device[key].as_str().unwrap_or("").to_owned();
            let heard = device["heard_at"].as_str().unwrap_or("never heard");
            let conditions: Vec<&str> =
                device["conditions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let clock = device["clock_offset_seconds"].as_f64().map(clock_words).unwrap_or_default();
            say(&format!(
                "{:<16} {:<8} {:<16} {heard:<24} {} {}{clock}",
                text("id"),
                text("status"),
                text("kind"),
                conditions.join(","),
                text("place")
            ));
        }
        say(&counted(items.len(), "device"));
        for stranger in &strangers {
            say(&stranger_text(stranger));
        }
        if !strangers.is_empty() {
            let addresses = if strangers.len() == 1 { "1 address" } else { &format!("{} addresses", strangers.len()) };
            say(&format!("{addresses} of no device: add rows to the inventory; their frames are kept"));
        }
        Ok(0)
    })
}

/// The addresses that no device has, the last heard first.
fn strangers(store: &Store) -> anyhow::Result<Vec<Value>> {
    let mut strangers = Vec::new();
    let mut query = PageQuery::default();
    loop {
        let page = store.unknown_devices(&query)?;
        strangers.extend(page.items.iter().map(|stranger| {
            json!({
                "source": stranger.source,
                "address": stranger.address,
                "first_seen": stranger.first_seen,
                "last_seen": stranger.last_seen,
                "frames": stranger.frames,
            })
        }));
        match page.next {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(strangers),
        }
    }
}

fn stranger_text(stranger: &Value) -> String {
    let text = |key: &str| stranger[key].as_str().unwrap_or("").to_owned();
    format!(
        "{:<16} unknown  {:<16} {:<24} {} frames",
        text("address"),
        text("source"),
        text("last_seen"),
        stranger["frames"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_shown_with_its_direction() {
        assert_eq!(clock_words(59.0), "");
        assert_eq!(clock_words(3_600.0), " (clock 60 min behind)");
        assert_eq!(clock_words(-86_400.0), " (clock 1440 min ahead)");
    }
}
