//! `kerbside replay --undecoded`: stored frames that gave no readings are read again, with the profile that was mended or
//! the device that is in the inventory now.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use kerbside_model::Timestamp;
use kerbside_store::{Store, UndecodedQuery};
use serde_json::{Value, json};

use super::ReplayArguments;
use crate::api::try_undecoded;
use crate::cli::access::{self, Access, Api};
use crate::cli::{counted, run, say, who};
use crate::config::Config;

/// Frames that are shown one by one before it is only counted.
const SHOWN_MAX: usize = 50;

/// What came of all pages.
#[derive(Default)]
struct Sum {
    looked_at: usize,
    readable: usize,
    still: BTreeMap<String, usize>,
    items: Vec<Value>,
}

pub(super) fn run(arguments: &ReplayArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        let sum = match access::open(&arguments.config).await? {
            Access::Api(api) => by_api(arguments, &api).await?,
            Access::Store(store, config) if arguments.dry_run => {
                let sum = by_store(arguments, &store, &config)?;
                store.close()?;
                sum
            }
            Access::Store(store, config) => {
                store.close()?;
                bail!(
                    "read frames again: no gateway answers at {}, and the frames enter through it; start it, or see \
                     with --dry-run what would be read",
                    config.listen
                );
            }
        };
        tell(arguments, &sum);
        Ok(0)
    })
}

/// Page after page, so that no request takes long and the first frames are in before the last ones are looked at.
async fn by_api(arguments: &ReplayArguments, api: &Api) -> anyhow::Result<Sum> {
    let mut sum = Sum::default();
    let mut cursor = Value::Null;
    loop {
        let request = json!({
            "device": arguments.device,
            "source": arguments.source,
            "address": arguments.address,
            "reason": arguments.reason,
            "since": arguments.since()?,
            "dry_run": arguments.dry_run,
            "by": who(&arguments.by),
            "cursor": cursor,
        });
        let mut answer = api.post("/api/v1/undecoded/replay", &request).await?;
        sum.add(&mut answer);
        cursor = answer["next"].take();
        if cursor.is_null() {
            return Ok(sum);
        }
    }
}

/// The same without a gateway; only to look.
fn by_store(arguments: &ReplayArguments, store: &Store, config: &Config) -> anyhow::Result<Sum> {
    let mut sum = Sum::default();
    let mut cursor = None;
    loop {
        let mut answer = try_undecoded(store, &config.site, arguments.query(cursor)?, arguments.device.as_deref())?;
        sum.add(&mut answer);
        cursor = answer["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(sum);
        }
    }
}

impl Sum {
    fn add(&mut self, answer: &mut Value) {
        let count = |value: &Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
        self.looked_at += count(&answer["looked_at"]);
        self.readable += count(&answer["readable"]);
        for (reason, frames) in answer["still_undecoded"].as_object().into_iter().flatten() {
            *self.still.entry(reason.clone()).or_default() += count(frames);
        }
        if let Value::Array(items) = answer["items"].take() {
            let room = SHOWN_MAX.saturating_sub(self.items.len());
            self.items.extend(items.into_iter().take(room));
        }
    }
}

fn tell(arguments: &ReplayArguments, sum: &Sum) {
    let Sum { looked_at, readable, still, items } = sum;
    if arguments.json {
        let view = json!({
            "dry_run": arguments.dry_run, "looked_at": looked_at, "readable": readable, "still_undecoded": still,
            "items": items,
        });
        return say(&view.to_string());
    }
    for item in items {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let place = format!("{:<6} {} {} {}", item["number"], text("received_at"), text("source"), text("address"));
        match item["outcome"].as_str() {
            Some("readable") => say(&format!("readable   {place}{}", readings(&item["readings"]))),
            _ => say(&format!("undecoded  {place}: {}: {}", text("reason"), text("detail"))),
        }
    }
    if *looked_at > items.len() {
        say(&format!("... and {} more", looked_at - items.len()));
    }
    let verb = if arguments.dry_run { "would be readable" } else { "were read and left the list" };
    say(&format!("{} looked at, {readable} {verb}, {} stay", counted(*looked_at, "frame"), looked_at - readable));
    for (reason, frames) in still {
        say(&format!("  {reason}: {frames}"));
    }
}

/// What a dry run would read.
fn readings(list: &Value) -> String {
    let one = |reading: &Value| {
        let text = |key: &str| reading[key].as_str().unwrap_or_default().to_owned();
        format!(
            "\n             {} {} = {} {} ({})",
            text("device"),
            text("point"),
            reading["value"],
            text("unit"),
            text("quality")
        )
    };
    list.as_array().into_iter().flatten().map(one).collect()
}

impl ReplayArguments {
    fn since(&self) -> anyhow::Result<Option<Timestamp>> {
        let Some(text) = &self.since else { return Ok(None) };
        let wrong = || format!("read --since {text:?}: write a time such as 2026-07-01T08:00:00Z");
        let value = Value::from(text.as_str());
        serde_json::from_value(value).map(Some).with_context(wrong)
    }

    fn query(&self, cursor: Option<String>) -> anyhow::Result<UndecodedQuery> {
        let reason = self.reason.as_deref().map(crate::api::undecoded_reason).transpose();
        Ok(UndecodedQuery {
            source: self.source.clone(),
            address: self.address.clone(),
            device: None,
            reason: reason.map_err(anyhow::Error::msg)?,
            since: self.since()?,
            limit: 0,
            cursor,
        })
    }
}
