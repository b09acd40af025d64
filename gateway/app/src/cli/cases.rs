//! `kerbside cases`: the ledger from the command line.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kerbside_model::site::LEDGER;
use kerbside_model::{CaseState, Input, OperatorAction, StoredInput};
use kerbside_runtime::Clock;
use kerbside_store::{CaseQuery, Commit, PAGE_ITEMS_MAX, Store};
use serde_json::{Value, json};

use super::access::{self, Access};
use super::{counted, run, say};
use crate::api::{case_view, wanted_state};
use crate::config::Config;
use crate::pipeline::recover;

/// Arguments of `kerbside cases`.
#[derive(Debug, clap::Args)]
pub(super) struct CasesArguments {
    #[command(subcommand)]
    command: CasesCommand,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml", global = true)]
    config: PathBuf,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum CasesCommand {
    /// Lists cases, newest first.
    List {
        /// Only cases that are not over.
        #[arg(long)]
        open: bool,
    },
    /// Shows one case with its history.
    Show {
        /// Id, such as KB-7Q2M9XKD41TB.
        id: String,
    },
    /// Moves a case of the ledger to another state.
    Move {
        /// Id, such as KB-7Q2M9XKD41TB.
        id: String,
        /// State: dispatched, in_progress, done, closed, void ...
        to: String,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
        /// Who; the user of the terminal without it. A running gateway with accounts notes the first account instead.
        #[arg(long)]
        by: Option<String>,
    },
}

pub(super) fn run(arguments: &CasesArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        let access = access::open(&arguments.config).await?;
        match &arguments.command {
            CasesCommand::List { open } => list(access, *open, arguments.json).await,
            CasesCommand::Show { id } => show(access, id, arguments.json).await,
            CasesCommand::Move { id, to, note, by } => {
                let state = wanted_state(to).map_err(|problem| anyhow::anyhow!("move case {id}: {problem}"))?;
                let user = || std::env::var("USER").unwrap_or_else(|_| "terminal".to_owned());
                let by = by.clone().unwrap_or_else(user);
                move_case(access, id, state, note, by, arguments.json).await
            }
        }
    })
}

async fn list(access: Access, open: bool, as_json: bool) -> anyhow::Result<u8> {
    let items = match access {
        Access::Api(api) => api.list(if open { "/api/v1/cases?open=true" } else { "/api/v1/cases" }).await?,
        Access::Store(store, _) => list_stored(store, open)?,
    };
    if as_json {
        say(&json!({ "items": items, "next": null }).to_string());
        return Ok(0);
    }
    for case in &items {
        say(&line(case));
    }
    say(&counted(items.len(), "case"));
    Ok(0)
}

fn list_stored(store: Store, open: bool) -> anyhow::Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut query = CaseQuery { open_only: open, limit: PAGE_ITEMS_MAX, ..CaseQuery::default() };
    loop {
        let page = store.cases(&query)?;
        for case in &page.items {
            let history = store.case(&case.id)?.map(|(_, history)| history).unwrap_or_default();
            items.push(case_view(case, &history));
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            store.close()?;
            return Ok(items);
        }
    }
}

async fn show(access: Access, id: &str, as_json: bool) -> anyhow::Result<u8> {
    let case = match access {
        Access::Api(api) => api.get(&format!("/api/v1/cases/{id}")).await?,
        Access::Store(store, _) => show_stored(store, id)?,
    };
    print(&case, as_json);
    Ok(0)
}

fn show_stored(store: Store, id: &str) -> anyhow::Result<Value> {
    let found = store.case(id)?;
    store.close()?;
    let (case, history) = found.with_context(|| format!("find the case {id}"))?;
    Ok(case_view(&case, &history))
}

async fn move_case(
    access: Access,
    id: &str,
    to: CaseState,
    note: &str,
    by: String,
    as_json: bool,
) -> anyhow::Result<u8> {
    let case = match access {
        Access::Api(api) => {
            let body = json!({ "to": to, "note": note, "by": by });
            api.post(&format!("/api/v1/cases/{id}/move"), &body).await?
        }
        Access::Store(store, config) => {
            let action = OperatorAction::MoveCase { case_id: id.to_owned(), to, by, note: note.to_owned() };
            move_stored(store, &config, id, action)?
        }
    };
    print(&case, as_json);
    Ok(0)
}

/// No gateway runs: the same engine takes the same input here, and the store keeps it for the next start.
fn move_stored(store: Store, config: &Config, id: &str, action: OperatorAction) -> anyhow::Result<Value> {
    let (case, _) = store.case(id)?.with_context(|| format!("find the case {id}"))?;
    if case.platform != LEDGER {
        bail!("move case {id}: it is led by {}, move it there", case.platform);
    }
    if case.state.is_final() {
        bail!("move case {id}: it is over ({})", case.state.name());
    }
    let now = Clock::System.now();
    let mut engine = recover::recover(&store, &config.site, now)?;
    let effects = engine.step(now, &[Input::Operator(action.clone())]);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    store.commit(Commit {
        now,
        inputs: vec![StoredInput::Operator(action)],
        effects,
        snapshot: None,
        done: Box::new(move |committed| sender.try_send(committed.sequence).unwrap_or_default()),
    })?;
    receiver.recv().context("commit the move")?;
    show_stored(store, id)
}

fn print(case: &Value, as_json: bool) {
    if as_json {
        say(&case.to_string());
        return;
    }
    say(&line(case));
    for (label, key) in [("place", "place"), ("unit", "unit"), ("what", "explanation"), ("情况", "explanation_zh")] {
        say(&format!("  {label}: {}", text(case, key)));
    }
    for event in case["history"].as_array().into_iter().flatten() {
        say(&format!(
            "  {}  {:<12} {}: {}",
            text(event, "at"),
            text(event, "state"),
            text(event, "by"),
            text(event, "note")
        ));
    }
}

fn line(case: &Value) -> String {
    format!(
        "{}  {:<11} {:<8} {}  {} {}  {}",
        text(case, "id"),
        text(case, "state"),
        text(case, "severity"),
        text(case, "opened_at"),
        text(case, "device"),
        text(case, "title"),
        text(case, "title_zh"),
    )
}

fn text<'value>(value: &'value Value, key: &str) -> &'value str {
    value[key].as_str().unwrap_or("")
}
