//! `channels` and `duty`: who is called, and when.

use std::time::Duration;

use kerbside_model::document::{NodeKind, Section, closest};
use kerbside_model::site::DutyStep;
use kerbside_runtime::Secret;
use kerbside_sinks::channels::{ChannelConfig, ChannelKind, DINGTALK_URL, FEISHU_URL, WECOM_URL};

use super::read::{self, Context};
use super::secrets;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Escalation in more steps than this calls everybody twice.
const STEPS_MAX: usize = 20;

#[derive(Clone, Copy)]
enum ChannelType {
    DingTalk,
    WeCom,
    Feishu,
    Webhook,
    Show,
}

/// Reads the key `channels`.
pub(super) fn read(top: &Section<'_>, zone: &str, context: &Context<'_>) -> Vec<ChannelConfig> {
    let types = [
        ("dingtalk", ChannelType::DingTalk),
        ("wecom", ChannelType::WeCom),
        ("feishu", ChannelType::Feishu),
        ("webhook", ChannelType::Webhook),
        ("show", ChannelType::Show),
    ];
    let mut channels = Vec::new();
    for (name, section) in top.named_sections("channels") {
        read::check_name(&section, &name);
        let Some(channel_type) = read::required_choice(&section, "type", &types) else { continue };
        let kind = kind(channel_type, &section, context);
        let timeout_limits = Duration::from_millis(100)..=Duration::from_secs(60);
        let (timeout, ca) = match channel_type {
            ChannelType::Show => (TIMEOUT, None),
            _ => (
                read::duration(&section, "timeout", TIMEOUT, timeout_limits),
                read::optional_pem(&section, "ca", context),
            ),
        };
        channels.push(ChannelConfig { name, kind, timeout, ca, zone: zone.to_owned() });
        section.finish();
    }
    channels
}

/// Names of all channels, also of those with problems.
pub(super) fn names<'a>(top: &Section<'a>) -> Vec<&'a str> {
    match top.node("channels").map(|node| &node.kind) {
        Some(NodeKind::Map(entries)) => entries.iter().map(|(name, _, _)| name.as_str()).collect(),
        _ => Vec::new(),
    }
}

fn kind(channel_type: ChannelType, section: &Section<'_>, context: &Context<'_>) -> ChannelKind {
    match channel_type {
        ChannelType::DingTalk => ChannelKind::DingTalk {
            url: robot_url(section, DINGTALK_URL),
            token: secrets::required(section, "token", context),
            secret: secrets::optional(section, "secret", context),
            mobiles: section.texts("mobiles"),
        },
        ChannelType::WeCom => ChannelKind::WeCom {
            url: robot_url(section, WECOM_URL),
            key: secrets::required(section, "key", context),
            users: section.texts("users"),
        },
        ChannelType::Feishu => ChannelKind::Feishu {
            url: robot_url(section, FEISHU_URL),
            token: secrets::required(section, "token", context),
            secret: secrets::optional(section, "secret", context),
            users: section.texts("users"),
        },
        ChannelType::Webhook => ChannelKind::Webhook {
            url: read::required_url(section, "url", "write the address that takes the notices as JSON"),
            headers: headers(section, context),
            secret: secrets::optional(section, "secret", context),
        },
        ChannelType::Show => ChannelKind::Show,
    }
}

/// The address of a robot without its token, which would otherwise show up in logs.
fn robot_url(section: &Section<'_>, default: &str) -> String {
    let Some(url) = read::optional_url(section, "url") else { return default.to_owned() };
    read::refuse_query(section, "url", &url);
    url
}

fn headers(section: &Section<'_>, context: &Context<'_>) -> Vec<(String, Secret)> {
    let Some(node) = section.node("headers") else { return Vec::new() };
    let NodeKind::Map(entries) = &node.kind else {
        section.problem("headers", "", "names with values are needed here", "write `Name: value` lines, indented");
        return Vec::new();
    };
    let mut headers = Vec::with_capacity(entries.len());
    for (name, line, node) in entries {
        let is_token = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
        if name.is_empty() || !name.chars().all(is_token) {
            section.problem_at(
                *line,
                "headers",
                name,
                "not the name of a header (RFC 9110)",
                "write one such as X-Token",
            );
            continue;
        }
        let path = section.path_of(&format!("headers.{name}"));
        if let Some(value) = secrets::of_node(section, path, node, context) {
            headers.push((name.clone(), value));
        }
    }
    headers
}

/// Reads the key `duty`. Without it every channel is told at once; without channels nobody is.
pub(super) fn duty(top: &Section<'_>, channels: &[&str], context: &Context<'_>) -> Vec<DutyStep> {
    let Some(section) = top.section("duty") else {
        if channels.is_empty() {
            context.notice("no channel is configured: cases are opened, but nobody is called");
            return Vec::new();
        }
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        return vec![DutyStep { after: Duration::ZERO, channels }];
    };
    let mut steps: Vec<DutyStep> = Vec::new();
    for inner in section.sections("steps") {
        let step = step(&inner, channels);
        if let Some(previous) = steps.last()
            && step.after <= previous.after
        {
            let what = format!("not later than the step before it ({})", read::duration_text(previous.after));
            inner.problem("after", &read::duration_text(step.after), what, "write the steps in the order of time");
        }
        steps.push(step);
        inner.finish();
    }
    if steps.is_empty() {
        section.missing("steps", "write at least one step: [{after: 0s, channels: [NAME]}]");
    }
    if steps.len() > STEPS_MAX {
        section.problem("steps", &steps.len().to_string(), "too many steps", format!("write at most {STEPS_MAX}"));
    }
    section.finish();
    steps
}

fn step(section: &Section<'_>, known: &[&str]) -> DutyStep {
    let limits = Duration::ZERO..=Duration::from_secs(7 * 86_400);
    let after = read::duration(section, "after", Duration::ZERO, limits);
    if section.node("after").is_none() {
        section.missing("after", "write how long after the case was opened, such as 0s or 5m");
    }
    let channels = section.texts("channels");
    if channels.is_empty() {
        section.missing("channels", "name the channels that are told");
    }
    for channel in &channels {
        if known.contains(&channel.as_str()) {
            continue;
        }
        let mend = match closest(channel, known) {
            Some(name) => format!("did you mean {name}?"),
            None if known.is_empty() => "write the section channels first".to_owned(),
            None => format!("channels here: {}", known.join(", ")),
        };
        section.problem("channels", channel, "there is no channel of this name", mend);
    }
    DutyStep { after, channels }
}
