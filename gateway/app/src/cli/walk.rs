//! `kerbside walk`: the walk test (现场核验) of a running gateway, from its beginning to the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::access::{self, Access, Api};
use super::{counted, run, say, who};

/// How often `status --watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Arguments of `kerbside walk`.
#[derive(Debug, clap::Args)]
pub(super) struct WalkArguments {
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: WalkCommand,
}

#[derive(Debug, clap::Subcommand)]
enum WalkCommand {
    /// Begins a walk test: its devices open no cases while it runs.
    Start {
        /// Ids of the devices, with * for any text, such as 'MH-1*'. Without it, and without --parent, those in
        /// commissioning (调试).
        #[arg(long, value_name = "PATTERN")]
        devices: Option<String>,
        /// Only devices that hang on this pole, feeder or catchment.
        #[arg(long)]
        parent: Option<String>,
        /// It ends by itself after so many hours: 1 to 24.
        #[arg(long, default_value_t = 8)]
        hours: u32,
        /// Who begins it; the name of the account wins.
        #[arg(long)]
        by: Option<String>,
    },
    /// Shows what was seen of each device.
    Status {
        /// Shows every change, until the walk test is over.
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Notes a photo or a remark for a device.
    Photo {
        /// Device id.
        device: String,
        /// File name, URL or a few words.
        photo: String,
        /// Who notes it; the name of the account wins.
        #[arg(long)]
        by: Option<String>,
    },
    /// Ends the walk test if it still runs, and writes the report.
    Finish {
        /// Where the report goes as a page that prints on A4.
        #[arg(long, value_name = "FILE.html")]
        out: Option<PathBuf>,
        /// Where the report goes as a table.
        #[arg(long, value_name = "FILE.csv")]
        csv: Option<PathBuf>,
        /// Who ends it; the name of the account wins.
        #[arg(long)]
        by: Option<String>,
    },
}

pub(super) fn run(arguments: &WalkArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        let api = match access::open(&arguments.config).await? {
            Access::Api(api) => api,
            Access::Store(store, config) => {
                store.close()?;
                bail!("reach the gateway at {}: a walk test needs one that runs, start it first", config.listen);
            }
        };
        match &arguments.command {
            WalkCommand::Start { devices, parent, hours, by } => {
                let mut body = json!({ "hours": hours, "by": who(by) });
                for (key, value) in [("devices", devices), ("parent", parent)] {
                    if let Some(value) = value {
                        body[key] = json!(value);
                    }
                }
                let view = api.post("/api/v1/walk", &body).await?;
                say(&format!("walk test of {} began, until {}", devices_of(&view), text(&view, "until")));
                Ok(0)
            }
            WalkCommand::Status { watch, json } => status(&api, *watch, *json).await,
            WalkCommand::Photo { device, photo, by } => {
                let body = json!({ "device": device, "photo": photo, "by": who(by) });
                api.post("/api/v1/walk/photo", &body).await?;
                Ok(0)
            }
            WalkCommand::Finish { out, csv, by } => finish(&api, out.as_deref(), csv.as_deref(), &who(by)).await,
        }
    })
}

async fn status(api: &Api, watch: bool, as_json: bool) -> anyhow::Result<u8> {
    let mut shown: Vec<String> = Vec::new();
    loop {
        let view = api.get("/api/v1/walk").await?;
        if as_json {
            say(&view.to_string());
            return Ok(0);
        }
        let lines = lines(&view);
        lines.iter().filter(|line| !shown.contains(line)).for_each(|line| say(line));
        let is_over = view["ended_at"].is_string();
        let summary = summary(&view);
        if !watch || is_over || !shown.contains(&summary) {
            say(&summary);
        }
        if !watch || is_over {
            return Ok(0);
        }
        shown = lines;
        shown.push(summary);
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(0),
        }
    }
}

async fn finish(api: &Api, out: Option<&Path>, csv: Option<&Path>, by: &str) -> anyhow::Result<u8> {
    let mut view = api.get("/api/v1/walk").await?;
    if view["ended_at"].is_null() {
        view = api.post("/api/v1/walk/finish", &json!({ "by": by })).await?;
    }
    for (file, path) in [(out, "/api/v1/walk/report.html"), (csv, "/api/v1/walk/report.csv")] {
        let Some(file) = file else { continue };
        let report = api.text(path).await?;
        std::fs::write(file, report).with_context(|| format!("write the report {}", file.display()))?;
        say(&format!("wrote {}", file.display()));
    }
    lines(&view).iter().filter(|line| !line.contains(" passed ")).for_each(|line| say(line));
    say(&summary(&view));
    if out.is_none() && csv.is_none() {
        say("no report was written: run it again with --out report.html --csv report.csv");
    }
    Ok(0)
}

fn devices(view: &Value) -> impl Iterator<Item = &Value> {
    view["devices"].as_array().into_iter().flatten()
}

fn devices_of(view: &Value) -> String {
    counted(devices(view).count(), "device")
}

fn lines(view: &Value) -> Vec<String> {
    let line = |device: &Value| {
        let place = text(&device["device"], "place");
        let last = device["last_frame_at"].as_str().unwrap_or("never heard");
        format!("{:<16} {:<10} {last:<24} {place}", text(device, "id"), text(device, "outcome"))
    };
    devices(view).map(line).collect()
}

fn summary(view: &Value) -> String {
    let passed = devices(view).filter(|device| device["outcome"] == "passed").count();
    let state = match view["ended_at"].as_str() {
        Some(at) => format!("over since {at}"),
        None => format!("runs until {} at the latest", text(view, "until")),
    };
    format!("{passed} of {} passed; {state}", devices_of(view))
}

fn text<'value>(value: &'value Value, key: &str) -> &'value str {
    value[key].as_str().unwrap_or("")
}
