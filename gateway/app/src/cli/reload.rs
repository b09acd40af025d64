//! `kerbside reload`: has the running gateway apply the configuration as it is on the disk now.
//!
//! Exit codes: 0 applied or nothing to apply, 1 it could not be applied and everything is as before, 2 it has problems.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::access::{self, Access};
use super::{run, say, say_error, say_problems, who};
use crate::config::{self, ProcessEnvironment};

/// Arguments of `kerbside reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArguments {
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Who asks, for the audit log; the name of the account wins.
    #[arg(long)]
    by: Option<String>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ReloadArguments) -> anyhow::Result<u8> {
    // The gateway would say the same; and without a sound file nobody knows where it listens.
    if let Err(problems) = config::load(&arguments.config, &ProcessEnvironment) {
        say_problems(&problems);
        return Ok(super::check::UNSOUND);
    }
    run::runtime()?.block_on(async {
        let moved = "reach the running gateway (where `listen` was changed in the file, it still listens where it did: \
                     restart it)";
        let api = match access::open(&arguments.config).await.context(moved)? {
            Access::Api(api) => api,
            Access::Store(store, config) => {
                store.close()?;
                bail!("reload: no gateway answers at {}; it reads the configuration when it starts", config.listen);
            }
        };
        let (status, report) = api.post_slowly("/api/v1/reload", &json!({ "by": who(&arguments.by) })).await?;
        if report.get("outcome").is_none() {
            let message = report.pointer("/error/message").and_then(Value::as_str).unwrap_or("no report came");
            bail!("have the running gateway do it: {status}: {message}");
        }
        if arguments.json {
            say(&report.to_string());
        } else {
            tell(&report);
        }
        Ok(match report["outcome"].as_str() {
            Some("applied" | "unchanged") => 0,
            Some("refused") => super::check::UNSOUND,
            _ => 1,
        })
    })
}

fn tell(report: &Value) {
    let outcome = report["outcome"].as_str().unwrap_or_default().replace('_', " ");
    let problems = items(&report["problems"]);
    if problems.is_empty() {
        say(&format!("{outcome}: {}", text(&report["summary"])));
    } else {
        say(&format!("{outcome}: nothing was changed"));
        problems.iter().for_each(|problem| say_error(text(&problem["text"])));
    }
    for change in ["added", "changed", "removed"] {
        let list = &report["devices"][change];
        let count = list["count"].as_u64().unwrap_or(0);
        let ids: Vec<&str> = items(&list["ids"]).iter().map(text).collect();
        if count > 0 {
            let more = if count > ids.len() as u64 { ", ..." } else { "" };
            say(&format!("devices   {change} {count}: {}{more}", ids.join(", ")));
        }
    }
    for profile in items(&report["profiles"]) {
        let edition = |edition: &Value| match edition["version"].as_u64() {
            Some(version) => format!("version {version} ({})", text(&edition["hash"])),
            None => "none".to_owned(),
        };
        let (old, new) = (edition(&profile["old"]), edition(&profile["new"]));
        say(&format!("profile   {}: {old} -> {new}", text(&profile["profile"])));
    }
    for component in items(&report["components"]) {
        say(&format!("component {} {}", text(&component["component"]), text(&component["action"])));
    }
    for line in items(&report["needs_restart"]) {
        say(&format!("restart   {}", text(line)));
    }
    for line in items(&report["notices"]) {
        say(&format!("note      {}", text(line)));
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
