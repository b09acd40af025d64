//! `platform`: where cases are opened.

use std::sync::Arc;
use std::time::Duration;

use kerbside_model::Profile;
use kerbside_model::document::{Section, closest};
use kerbside_model::site::LEDGER;
use kerbside_sinks::platforms::open311::{Open311Config, Open311Format};

use super::inventory::DATUMS;
use super::read::{self, Context};
use super::secrets;

const NAME: &str = "open311";
const TIMEOUT: Duration = Duration::from_secs(30);
/// States change in hours; the answer of a signature should still show within a coffee.
const POLL_INTERVAL: Duration = Duration::from_secs(300);
/// How long a platform may take to show a case that it took: batch servers answer with a token first.
const SETTLE: Duration = Duration::from_secs(120);

/// Where cases are opened.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one in the process")]
pub enum PlatformConfig {
    /// The built-in ledger (台账).
    Ledger,
    /// A city platform that speaks Open311 GeoReport v2.
    Open311(Open311Config),
}

impl PlatformConfig {
    /// Its name in cases, outbox and metrics.
    pub fn name(&self) -> &str {
        match self {
            PlatformConfig::Ledger => LEDGER,
            PlatformConfig::Open311(config) => &config.name,
        }
    }
}

#[derive(Clone, Copy)]
enum PlatformType {
    Ledger,
    Open311,
}

/// Reads the key `platform`.
pub(super) fn read(top: &Section<'_>, zone: &str, context: &Context<'_>) -> PlatformConfig {
    let Some(section) = top.section("platform") else { return PlatformConfig::Ledger };
    let types = [(LEDGER, PlatformType::Ledger), ("open311", PlatformType::Open311)];
    let config = match read::required_choice(&section, "type", &types) {
        None => return PlatformConfig::Ledger,
        Some(PlatformType::Ledger) => PlatformConfig::Ledger,
        Some(PlatformType::Open311) => PlatformConfig::Open311(open311(&section, zone, context)),
    };
    section.finish();
    config
}

fn open311(section: &Section<'_>, zone: &str, context: &Context<'_>) -> Open311Config {
    let name = section.text("name").unwrap_or_else(|| NAME.to_owned());
    read::check_name(section, &name);
    if name == LEDGER {
        section.problem("name", &name, "this is the name of the built-in ledger", "choose another name");
    }
    let seconds = Duration::from_secs;
    let mend = "write the address before /requests.json, such as https://city.example/open311/v2";
    Open311Config {
        name,
        url: read::required_base_url(section, "url", mend),
        jurisdiction_id: section.text("jurisdiction_id"),
        api_key: secrets::optional(section, "api_key", context),
        format: section
            .choice("format", &[("json", Open311Format::Json), ("xml", Open311Format::Xml)])
            .unwrap_or(Open311Format::Json),
        service_codes: read::named_texts(section, "service_codes"),
        service_code_default: section.required_text(
            "service_code_default",
            "write the platform's service code for conditions that service_codes does not name",
        ),
        timeout: read::duration(section, "timeout", TIMEOUT, Duration::from_millis(100)..=seconds(300)),
        ca: read::optional_pem(section, "ca", context),
        poll_interval: read::duration(section, "poll_interval", POLL_INTERVAL, seconds(1)..=seconds(86_400)),
        zone: zone.to_owned(),
        settle: read::duration(section, "settle", SETTLE, Duration::ZERO..=seconds(86_400)),
        datum: section.choice("datum", &DATUMS).unwrap_or_default(),
    }
}

/// Checks that service codes are given for conditions that some profile knows.
pub(super) fn check_conditions(top: &Section<'_>, platform: &PlatformConfig, profiles: &[Arc<Profile>]) {
    let PlatformConfig::Open311(config) = platform else { return };
    let mut known: Vec<&str> = Vec::new();
    for condition in profiles.iter().flat_map(|profile| &profile.conditions) {
        if !known.contains(&condition.name.as_ref()) {
            known.push(&condition.name);
        }
    }
    let Some(section) = top.section("platform") else { return };
    for (condition, _) in &config.service_codes {
        if known.contains(&condition.as_str()) {
            continue;
        }
        let mend = match closest(condition, &known) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("conditions of the profiles: {}", known.join(", ")),
        };
        section.problem("service_codes", condition, "no profile has a condition of this name", mend);
    }
}
