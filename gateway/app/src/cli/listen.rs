//! `kerbside listen`: what comes from a broker, without a gateway.
//!
//! A session of its own that the broker forgets at the end, at QoS 0, under a client id of its own: a gateway that runs
//! meanwhile misses nothing. What comes is printed and not kept.

mod broker;
mod show;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_model::document::parse_duration;
use kerbside_model::{EnvelopeFormat, FrameView, Input};
use kerbside_runtime::{Clock, Health, HealthState, Intake, IntakeReceiver, Metrics, Shutdown};
use kerbside_sources::mqtt::{MqttConfig, MqttSource};
use tokio::time::Instant;

use self::show::{AloneReader, Reader};
use super::profile::{envelope_named, files};
use super::{counted, run, say, say_error, say_problems};
use crate::config::{self, ProcessEnvironment};

/// How often the state of the connection is looked at while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Silence that is worth a word; the next words come after so long again, times two each.
const SILENCE: Duration = Duration::from_secs(10);
/// Messages and bytes between the broker and the terminal. A terminal that is slow makes the broker wait, or drop.
const QUEUE_SUBMISSIONS: usize = 64;
const QUEUE_BYTES: usize = 8 << 20;
/// Topics that the summary counts; one address each is enough to know a district.
const TOPICS_MAX: usize = 10_000;

/// Arguments of `kerbside listen`.
#[derive(Debug, clap::Args)]
pub(super) struct ListenArguments {
    /// The broker, as mqtt://user@host:1883 or, with TLS, mqtts://user@host:8883.
    #[arg(long, value_name = "URL", required_unless_present = "source", conflicts_with = "source")]
    broker: Option<String>,
    /// A topic filter; may be given several times.
    #[arg(long = "topic", value_name = "FILTER", required_unless_present = "source", conflicts_with = "source")]
    topics: Vec<String>,
    /// A file with the password of the user in the URL.
    #[arg(long, value_name = "FILE", requires = "broker")]
    password_file: Option<PathBuf>,
    /// Certificates that sign the broker's, as PEM; without it those of the system.
    #[arg(long, value_name = "FILE", requires = "broker")]
    ca: Option<PathBuf>,
    /// Decodes with this profile: the name of a shipped one, or a file.
    #[arg(long, requires = "broker")]
    profile: Option<String>,
    /// Messages are whole ones of a network server: chirpstack_v4, chirpstack_v3, ttn_v3, ctwing, nbiot_tlv,
    /// sparkplug_b, or auto to find which of the others.
    #[arg(long, value_name = "FORMAT", value_parser = envelope_named, requires = "broker")]
    envelope: Option<EnvelopeFormat>,
    /// LoRaWAN port of the messages, for a profile that tells ports apart and a topic with bare payloads: an envelope
    /// names the port itself.
    #[arg(long, value_name = "PORT", requires = "profile", conflicts_with = "envelope")]
    fport: Option<u8>,
    /// Takes broker, topics and devices from the configuration: a source of `type: mqtt`.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The configuration of the gateway, for --source.
    #[arg(long, default_value = "gateway.yaml")]
    config: PathBuf,
    /// Ends after so long, such as 10m; without it at Ctrl-C.
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    length: Option<Duration>,
    /// Ends after so many messages.
    #[arg(long)]
    count: Option<u64>,
}

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 90s or 10m".to_owned())
}

/// What was heard.
#[derive(Debug, Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    topics: BTreeSet<String>,
    readable: u64,
    unreadable: u64,
}

pub(super) fn run(arguments: &ListenArguments) -> anyhow::Result<u8> {
    let (config, reader) = match prepare(arguments)? {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    run::runtime()?.block_on(listen(config, reader, arguments))
}

/// Where to listen and how to read what comes; or the exit code, when the problems were told.
fn prepare(arguments: &ListenArguments) -> anyhow::Result<Result<(MqttConfig, Reader), u8>> {
    let Some(name) = &arguments.source else {
        let url = arguments.broker.as_deref().context("listen: name a broker or a source")?;
        let access = broker::Access { password_file: arguments.password_file.as_deref(), ca: arguments.ca.as_deref() };
        let config = broker::of_url(url, &arguments.topics, &access)?;
        let profile = match arguments.profile.as_deref().map(files::find).transpose()? {
            Some(Err(problems)) => {
                say_problems(&problems);
                return Ok(Err(super::check::UNSOUND));
            }
            Some(Ok(profile)) => Some(profile),
            None => None,
        };
        let ListenArguments { envelope, fport: port, .. } = *arguments;
        let reader = AloneReader { profile, envelope, port, filters: arguments.topics.clone() };
        return Ok(Ok((config, Reader::Alone(reader))));
    };
    let loaded = match config::load(&arguments.config, &ProcessEnvironment) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say_problems(&problems);
            return Ok(Err(super::check::UNSOUND));
        }
    };
    let Some(source) = loaded.mqtt.iter().find(|source| source.name == *name) else {
        let names: Vec<&str> = loaded.mqtt.iter().map(|source| source.name.as_str()).collect();
        bail!("find a source of `type: mqtt` named {name}: the configuration has {}", names.join(", "));
    };
    Ok(Ok((broker::as_listener(source), Reader::site(Arc::new(loaded.site.as_ref().clone())))))
}

async fn listen(config: MqttConfig, mut reader: Reader, arguments: &ListenArguments) -> anyhow::Result<u8> {
    let (intake, mut receiver) = Intake::new(QUEUE_SUBMISSIONS, QUEUE_BYTES);
    let health = Health::default();
    let endpoint = format!("{}:{}", config.host, config.port);
    let filters: Vec<&str> = config.topics.iter().map(|topic| topic.filter.as_str()).collect();
    say_error(&format!("listening at {endpoint} to {}; Ctrl-C ends it", filters.join(", ")));
    let source = MqttSource::new(config, intake, Clock::System, &Metrics::default(), &health)?;
    let shutdown = Shutdown::new();
    let task = tokio::spawn(source.run(shutdown.clone()));
    let mut tally = Tally::default();
    tokio::select! {
        () = receive(&mut receiver, &mut reader, &mut tally, arguments.count) => {}
        () = hint(&health) => {}
        () = end_of(arguments.length) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    shutdown.cancel();
    drop(receiver);
    task.await.context("end the connection")?;
    say_error(&summary(&tally));
    Ok(u8::from(tally.messages == 0))
}

async fn end_of(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}

async fn receive(receiver: &mut IntakeReceiver, reader: &mut Reader, tally: &mut Tally, count: Option<u64>) {
    while let Some(submission) = receiver.next().await {
        for input in &submission.inputs {
            let Input::Frames(frames) = input else { continue };
            for frame in frames.iter() {
                take(&frame, reader, tally);
                if count.is_some_and(|count| tally.messages >= count) {
                    return;
                }
            }
        }
        submission.receipt.honour();
    }
}

fn take(frame: &FrameView<'_>, reader: &mut Reader, tally: &mut Tally) {
    let shown = reader.show(frame);
    tally.messages += 1;
    tally.bytes += shown.payload_bytes as u64;
    if tally.topics.len() < TOPICS_MAX {
        tally.topics.insert(frame.address_text().into_owned());
    }
    match shown.is_readable {
        Some(true) => tally.readable += 1,
        Some(false) => tally.unreadable += 1,
        None => {}
    }
    say(&shown.text);
}

/// Says why nothing comes, again and again but ever more seldom. It never ends.
async fn hint(health: &Health) {
    let mut told = String::new();
    let (mut next, mut wait) = (Instant::now() + SILENCE, SILENCE);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(component) = health.snapshot().into_iter().next() else { continue };
        let (state, detail) = (component.state, component.detail);
        let line = match state {
            HealthState::Down => format!("no connection: {detail}"),
            HealthState::Degraded => format!("connected, but: {detail}"),
            HealthState::Ok => "connected".to_owned(),
            HealthState::Starting => continue,
        };
        if line != told {
            say_error(&line);
            told = line;
        }
        if Instant::now() >= next {
            if state != HealthState::Down {
                say_error(
                    "when nothing comes: does the filter fit the topics, letter by letter? may this user read them? \
                     does the device send at all, and when does it next? (--topic '#' shows everything that may be read)",
                );
            }
            wait *= 2;
            next = Instant::now() + wait;
        }
    }
}

fn summary(tally: &Tally) -> String {
    let more = if tally.topics.len() == TOPICS_MAX { " or more" } else { "" };
    let messages = counted(usize::try_from(tally.messages).unwrap_or(usize::MAX), "message");
    let mut text = format!("{messages}, {} bytes, {} topics{more}", tally.bytes, tally.topics.len());
    if tally.readable + tally.unreadable > 0 {
        text.push_str(&format!("; {} readable, {} not", tally.readable, tally.unreadable));
    }
    text
}
