//! `kerbside profile diff`: what is different between two editions of a profile, or between a device's profile with its
//! overrides and without them, in words.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kerbside_model::Profile;
use serde_json::{Value, json};

use super::files;
use crate::cli::access::{self, Access};
use crate::cli::{run, say, say_problems};
use crate::shelf::{Difference, Facts, differences, facts};

/// Exit code when there are differences: as `diff` has it.
const DIFFERENT: u8 = 1;

#[derive(Debug, clap::Args)]
pub(super) struct DiffArguments {
    /// A file, or the name of a shipped profile; or the id of a device, whose profile is compared with what the overrides
    /// of the site make of it.
    old: String,
    /// Another one. Without it the first is compared with what the running gateway uses under the same name.
    new: Option<String>,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn diff(arguments: &DiffArguments) -> anyhow::Result<u8> {
    if arguments.new.is_none() && !is_profile(&arguments.old) {
        let sides = run::runtime()?.block_on(of_device(arguments))?;
        return Ok(tell(&differences(&sides.0, &sides.1), arguments.json));
    }
    let Some(one) = found(&arguments.old)? else { return Ok(2) };
    let (old, new) = match &arguments.new {
        Some(name) => {
            let Some(other) = found(name)? else { return Ok(2) };
            (facts(&one), facts(&other))
        }
        // What runs is the older one.
        None => (run::runtime()?.block_on(running(&one.name, arguments))?, facts(&one)),
    };
    Ok(tell(&differences(&old, &new), arguments.json))
}

/// Prints what is different; the exit code.
fn tell(differences: &[Difference], as_json: bool) -> u8 {
    if as_json {
        let items: Vec<Value> = differences.iter().map(Difference::to_json).collect();
        say(&json!({ "items": items, "next": null }).to_string());
    } else if differences.is_empty() {
        say("no differences");
    } else {
        differences.iter().for_each(|difference| say(&difference.to_string()));
    }
    if differences.is_empty() { 0 } else { DIFFERENT }
}

/// Whether a word names a file or a shipped profile.
fn is_profile(name: &str) -> bool {
    let is_shipped = || files::shipped().is_ok_and(|profiles| profiles.iter().any(|profile| profile.name == name));
    files::is_file(name) || is_shipped()
}

/// The profile of a device without and with its overrides, in the running gateway or else in the configuration.
async fn of_device(arguments: &DiffArguments) -> anyhow::Result<(Facts, Facts)> {
    let id = &arguments.old;
    match access::open(&arguments.config).await? {
        Access::Api(api) => {
            let device = api.get(&format!("/api/v1/devices/{}", access::escape(id))).await?;
            let name = device["profile"].as_str().context("read the running gateway's answer")?;
            let overrides = device["overrides"].as_array().map(Vec::as_slice).unwrap_or_default();
            let words = std::iter::once(name).chain(overrides.iter().filter_map(Value::as_str));
            let title = words.collect::<Vec<_>>().join(" + ");
            let mut sides = Vec::new();
            for name in [name, &title] {
                let answer = api.get(&format!("/api/v1/profiles/{}", access::escape(name))).await?;
                sides.push(
                    serde_json::from_value(answer["facts"].clone()).context("read the running gateway's answer")?,
                );
            }
            let [below, above] = <[Facts; 2]>::try_from(sides).expect("two were asked for");
            Ok((below, above))
        }
        Access::Store(store, config) => {
            store.close()?;
            let Some(index) = config.site.find(id) else {
                bail!("compare {id}: it is neither a shipped profile nor a file nor a device of the inventory");
            };
            let profile = config.site.profile_of(config.site.device(index));
            let below = config.profiles.iter().find(|below| below.name == profile.name).unwrap_or(profile);
            Ok((facts(below), facts(profile)))
        }
    }
}

fn found(name: &str) -> anyhow::Result<Option<std::sync::Arc<Profile>>> {
    match files::find(name)? {
        Ok(profile) => Ok(Some(profile)),
        Err(problems) => {
            say_problems(&problems);
            Ok(None)
        }
    }
}

/// What the running gateway, or else the configuration, has under this name.
async fn running(name: &str, arguments: &DiffArguments) -> anyhow::Result<Facts> {
    match access::open(&arguments.config).await? {
        Access::Api(api) => {
            let answer = api.get(&format!("/api/v1/profiles/{}", access::escape(name))).await?;
            serde_json::from_value(answer["facts"].clone()).context("read the running gateway's answer")
        }
        Access::Store(store, config) => {
            store.close()?;
            match config.profiles.iter().find(|profile| profile.name == name) {
                Some(profile) => Ok(facts(profile)),
                None => bail!("compare {name}: no gateway runs, and the configuration has no profile of this name"),
            }
        }
    }
}
