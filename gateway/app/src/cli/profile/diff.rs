//! `kerbside profile diff`: what is different between two editions of a profile, in words.

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
    /// A file, or the name of a shipped profile.
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
    let Some(one) = found(&arguments.old)? else { return Ok(2) };
    let (old, new) = match &arguments.new {
        Some(name) => {
            let Some(other) = found(name)? else { return Ok(2) };
            (facts(&one), facts(&other))
        }
        // What runs is the older one.
        None => (run::runtime()?.block_on(running(&one.name, arguments))?, facts(&one)),
    };
    let differences = differences(&old, &new);
    if arguments.json {
        let view = |Difference { about, old, new }: &Difference| json!({ "about": about, "old": old, "new": new });
        let items: Vec<Value> = differences.iter().map(view).collect();
        say(&json!({ "items": items, "next": null }).to_string());
    } else if differences.is_empty() {
        say("no differences");
    } else {
        differences.iter().for_each(|difference| say(&difference.to_string()));
    }
    Ok(if differences.is_empty() { 0 } else { DIFFERENT })
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
