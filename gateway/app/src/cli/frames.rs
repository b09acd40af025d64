//! `kerbside frames`: frames of the running gateway as they arrive, with what they gave or why they gave nothing.

mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_model::document::parse_duration;
use serde_json::Value;

use super::access::{self, Access, Api, escape};
use super::{counted, run, say, say_error};

/// The gateway says something every 10 s at the latest; after three times that nobody is there.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long it waits before it asks again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// An event is a frame of some kilobytes; what is longer is no event of ours.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Arguments of `kerbside frames`.
#[derive(Debug, clap::Args)]
pub(super) struct FramesArguments {
    /// Only frames of this device, by its id; or of an address that no device has.
    #[arg(long)]
    device: Option<String>,
    /// Only frames of this source.
    #[arg(long)]
    source: Option<String>,
    /// Only frames in whose topic, device, place, profile or payload this stands. Hexadecimal digits, such as 0167, are
    /// also looked for as bytes.
    #[arg(long)]
    text: Option<String>,
    /// Only frames that gave no readings.
    #[arg(long)]
    undecoded: bool,
    /// Prints each event as a line of JSON.
    #[arg(long)]
    json: bool,
    /// Ends after so many frames.
    #[arg(long)]
    count: Option<u64>,
    /// Ends after so long, such as 10m; without it at Ctrl-C.
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    length: Option<Duration>,
    /// The configuration of the gateway.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
}

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 90s or 10m".to_owned())
}

/// What was shown.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    undecoded: u64,
    missed: u64,
}

pub(super) fn run(arguments: &FramesArguments) -> anyhow::Result<u8> {
    run::runtime()?.block_on(async {
        let api = match access::open(&arguments.config).await? {
            Access::Api(api) => api,
            Access::Store(store, config) => {
                store.close()?;
                bail!("reach the gateway at {}: frames are shown by one that runs, start it first", config.listen);
            }
        };
        let mut tally = Tally::default();
        let ended = tokio::select! {
            ended = watch(&api, arguments, &mut tally) => ended,
            () = end_of(arguments.length) => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        say_error(&summary(&tally));
        ended.map(|()| u8::from(tally.frames == 0))
    })
}

async fn end_of(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}

fn summary(tally: &Tally) -> String {
    let frames = counted(usize::try_from(tally.frames).unwrap_or(usize::MAX), "frame");
    let missed = if tally.missed > 0 { format!(", {} not shown", tally.missed) } else { String::new() };
    format!("{frames}, {} undecoded{missed}", tally.undecoded)
}

fn path(arguments: &FramesArguments) -> String {
    let FramesArguments { device, source, text, .. } = arguments;
    let mut path = format!("/api/v1/frames?undecoded={}", arguments.undecoded);
    for (key, value) in [("device", device), ("source", source), ("text", text)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", escape(value)));
        }
    }
    path
}

/// Shows what comes until enough has come. A gateway that goes away is waited for; one that refuses is not.
async fn watch(api: &Api, arguments: &FramesArguments, tally: &mut Tally) -> anyhow::Result<()> {
    let path = path(arguments);
    let mut response = api.stream(&path).await?;
    say_error("looking at frames as they arrive; Ctrl-C ends it 实时查看报文，按 Ctrl-C 结束");
    loop {
        let Err(lost) = show_all(&mut response, arguments, tally).await else { return Ok(()) };
        say_error(&format!("lost the gateway: {lost:#}; asking again every 2 s 与网关的连接中断，正在重连"));
        response = again(api, &path).await?;
        say_error("connected again; what came meanwhile is not shown 已重新连接，中断期间的报文不再显示");
    }
}

/// Asks until somebody answers.
async fn again(api: &Api, path: &str) -> anyhow::Result<reqwest::Response> {
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        match api.stream(path).await {
            // One that is just starting, or stopping, says so.
            Err(error) if error.downcast_ref::<reqwest::Error>().is_some() => {}
            answered => return answered,
        }
    }
}

/// Shows events until enough came; an error says how the connection was lost.
async fn show_all(
    response: &mut reqwest::Response,
    arguments: &FramesArguments,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut events = Events::default();
    loop {
        let chunk = tokio::time::timeout(SILENCE_MAX, response.chunk()).await.context("hear anything for 30 s")?;
        let Some(chunk) = chunk.context("read what it says")? else { bail!("go on: it ended the connection") };
        for (name, data) in events.take(&chunk)? {
            show_event(&name, &data, arguments.json, tally);
            if arguments.count.is_some_and(|count| tally.frames >= count) {
                return Ok(());
            }
        }
    }
}

fn show_event(name: &str, data: &str, is_json: bool, tally: &mut Tally) {
    let Ok(event) = serde_json::from_str::<Value>(data) else { return };
    match name {
        "frame" => {
            tally.frames += 1;
            tally.undecoded += u64::from(event["outcome"] == "undecoded");
            say(&if is_json { data.to_owned() } else { show::frame(&event) });
        }
        "missed" => {
            tally.missed += ["sampled", "slow", "unseen"].iter().filter_map(|key| event[*key].as_u64()).sum::<u64>();
            if is_json { say(&serde_json::json!({ "missed": event }).to_string()) } else { say(&show::missed(&event)) }
        }
        _ => {}
    }
}

/// Takes Server-Sent Events out of what comes in pieces of any size.
#[derive(Debug, Default)]
struct Events {
    rest: Vec<u8>,
}

impl Events {
    /// The events that are whole now: name and data.
    fn take(&mut self, chunk: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if let (Some(name), Some(data)) = (field("event"), field("data")) {
                events.push((name.to_owned(), data.to_owned()));
            }
        }
        if self.rest.len() > EVENT_BYTES_MAX {
            bail!("understand it: an event has no end");
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_they_were_cut() {
        let text = ": alive\n\nevent: frame\ndata: {\"a\":\"井\"}\n\nevent: missed\ndata: {}\n\nevent: fra";
        let expected =
            [("frame", "{\"a\":\"井\"}"), ("missed", "{}")].map(|(name, data)| (name.to_owned(), data.to_owned()));
        for size in [1, 2, 3, 7, 1_000] {
            let mut events = Events::default();
            let mut taken = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                taken.extend(events.take(chunk).unwrap());
            }
            assert_eq!(taken, expected, "in pieces of {size}");
        }
        assert!(Events::default().take(&vec![b'x'; EVENT_BYTES_MAX + 1]).is_err());
    }
}
