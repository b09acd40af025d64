//! The configuration: gateway.yaml, profiles and inventory, read, checked and joined.
//!
//! Turns text that people wrote into one [`Config`], in two steps: each section is read with its lines (the raw step),
//! then what the sections say of one another is checked. All problems come together, each with file, line, key, value
//! and mend. Problems of gateway.yaml and of profiles are fatal; rows of the inventory that are wrong are left out and
//! reported in [`Config::warnings`], so that one bad cell does not keep a district from starting (`kerbside check`
//! fails for both). Relative paths are relative to the folder of gateway.yaml. Nothing is opened, bound or connected
//! here, nothing survives a crash, and there are no metrics.

mod account;
mod address;
mod broker;
mod channels;
mod envelope;
mod environment;
#[cfg(test)]
mod example;
mod fingerprint;
mod general;
mod incidents;
mod inventory;
mod modbus;
mod mqtt;
mod overrides;
mod platform;
mod profiles;
mod rain;
pub(crate) mod read;
mod secrets;
mod sinks;
mod sources;
mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbside_model::document::{self, Problem, Problems, Section};
use kerbside_model::profile::PayloadFormat;
use kerbside_model::site::SiteFacts;
use kerbside_model::{Device, Profile, Site, sparkplug};
use kerbside_sinks::channels::{ChannelConfig, ChannelKind};
use kerbside_sinks::influx::InfluxConfig;
use kerbside_sources::broker::BrokerConfig;
use kerbside_sources::modbus::ModbusConfig;
use kerbside_sources::mqtt::MqttConfig;

pub use account::{Account, Role};
pub use environment::{Environment, MemoryEnvironment, ProcessEnvironment};
pub use fingerprint::Fingerprint;
pub use general::{Limits, LogConfig, ReloadMode};
pub use inventory::{TableFile, Tables};
pub use platform::PlatformConfig;
pub use profiles::Lineages;
pub use store::{Preset, StoreSettings};

use fingerprint::Recorder;
use read::Context;

/// Everything that the gateway runs by, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Folder of everything that survives a restart.
    pub data_dir: PathBuf,
    /// How the log is written.
    pub log: LogConfig,
    /// Where API, console and metrics listen.
    pub listen: SocketAddr,
    /// What phones open for the link in a message, without a slash at the end.
    pub public_url: String,
    /// Who may come in; empty only while everything listens on loopback.
    pub accounts: Vec<Account>,
    /// Time zone of what people read, by its IANA name.
    pub zone: String,
    /// Profiles in use, inventory, address rules, duty and case policy.
    pub site: Arc<Site>,
    /// What profiles extend.
    pub lineages: Lineages,
    /// Every profile that is known, used or not.
    pub profiles: Vec<Arc<Profile>>,
    /// Brokers elsewhere.
    pub mqtt: Vec<MqttConfig>,
    /// Embedded brokers.
    pub brokers: Vec<BrokerConfig>,
    /// Modbus buses that have units to poll.
    pub modbus: Vec<ModbusConfig>,
    /// How each source names devices, in the words of gateway.yaml.
    pub addresses: Vec<(String, String)>,
    /// Databases.
    pub sinks: Vec<InfluxConfig>,
    /// Where cases are opened.
    pub platform: PlatformConfig,
    /// Ways to the duty officers.
    pub channels: Vec<ChannelConfig>,
    /// The store.
    pub store: StoreSettings,
    /// Queues in memory.
    pub limits: Limits,
    /// What happens when the files change while the gateway runs.
    pub reload: ReloadMode,
    /// What it was read from.
    pub files: Fingerprint,
    /// What was decided for the operator; logged at start and shown by `kerbside check`.
    pub notices: Vec<String>,
    /// Rows of the inventory that were left out; logged at start, a failure for `kerbside check`.
    pub warnings: Vec<Problem>,
}

/// The word for a channel's type in gateway.yaml.
pub fn channel_type(kind: &ChannelKind) -> &'static str {
    match kind {
        ChannelKind::DingTalk { .. } => "dingtalk",
        ChannelKind::WeCom { .. } => "wecom",
        ChannelKind::Feishu { .. } => "feishu",
        ChannelKind::Webhook { .. } => "webhook",
        ChannelKind::Show => "show",
    }
}

/// Reads and checks a configuration. Every problem is returned, by file and line.
pub fn load(path: &Path, environment: &dyn Environment) -> Result<Config, Vec<Problem>> {
    load_watching(path, environment).0
}

/// The same, with the files that were looked at, also when there are problems in them.
pub fn load_watching(path: &Path, environment: &dyn Environment) -> (Result<Config, Vec<Problem>>, Fingerprint) {
    let recorder = Recorder::new(environment);
    let loaded = load_checked(path, &recorder);
    let files = recorder.finish();
    let loaded = loaded.map(|config| Config { files: files.clone(), ..config });
    (loaded, files)
}

fn load_checked(path: &Path, environment: &dyn Environment) -> Result<Config, Vec<Problem>> {
    let problems = Problems::default();
    match load_noting(path, environment, &problems) {
        Some(config) if problems.is_empty() => Ok(config),
        Some(config) => {
            for warning in config.warnings {
                problems.push(warning);
            }
            Err(problems.into_sorted())
        }
        None => Err(problems.into_sorted()),
    }
}

fn configuration_text(path: &Path, environment: &dyn Environment, problems: &Problems) -> Option<String> {
    let file = path.display().to_string();
    match environment.read(path).map(String::from_utf8) {
        Ok(Ok(text)) => Some(text),
        Ok(Err(_)) => {
            problems.push(whole_file(file, "this file is not UTF-8 text", "save it as UTF-8"));
            None
        }
        Err(error) => {
            let what = format!("this file cannot be read: {error}");
            problems.push(whole_file(file, &what, "name the configuration with --config PATH"));
            None
        }
    }
}

fn load_noting(path: &Path, environment: &dyn Environment, problems: &Problems) -> Option<Config> {
    let text = configuration_text(path, environment, problems)?;
    with_top(path, &text, environment, problems, |top, context| read_all(path, top, context, problems))
}

/// Reads the text of a configuration at a path and hands it to `work`; `None` when it is no YAML.
fn with_top<T>(
    path: &Path,
    text: &str,
    environment: &dyn Environment,
    problems: &Problems,
    work: impl FnOnce(Section<'_>, Context<'_>) -> T,
) -> Option<T> {
    let file = path.display().to_string();
    let root = document::parse(&file, text, &|name| environment.variable(name), problems)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let context = Context { environment, folder, notices: Vec::new().into() };
    Some(work(Section::top(&file, &root, problems), context))
}

/// Reads tables with devices as a start with this configuration would, or the tables that it names when none are
/// given. Without a configuration the shipped profiles are known and any source may stand in a row.
pub fn load_tables(
    configuration: Option<&Path>,
    wanted: Option<&[TableFile]>,
    environment: &dyn Environment,
) -> Result<Tables, Vec<Problem>> {
    let problems = Problems::default();
    let work = |top: Section<'_>, context: Context<'_>| {
        let general = general::read(&top, &context);
        let sources = sources::read(&top, &general.site_name, general.listen, &context);
        let profiles = profiles::read(&top, &general.zone, &context, &problems);
        let around = inventory::Surroundings {
            profiles: &profiles,
            sources: configuration.map(|_| (sources.names.as_slice(), sources.modbus.as_slice())),
            datum: general.datum,
            overrides: &[],
            problems: &problems,
        };
        inventory::tables(&top, wanted, &context, &around)
    };
    let path = configuration.unwrap_or(Path::new("gateway.yaml"));
    let text = match configuration {
        Some(path) => configuration_text(path, environment, &problems),
        None => Some("{}".to_owned()),
    };
    let tables = text.and_then(|text| with_top(path, &text, environment, &problems, work));
    match tables {
        Some(tables) if problems.is_empty() => Ok(tables),
        _ => Err(problems.into_sorted()),
    }
}

fn whole_file(file: String, what: &str, mend: &str) -> Problem {
    Problem { file, line: 0, key: String::new(), value: String::new(), what: what.to_owned(), mend: mend.to_owned() }
}

/// Reads section after section, then what joins them. A config with problems is only good for its warnings.
fn read_all(path: &Path, top: Section<'_>, context: Context<'_>, problems: &Problems) -> Config {
    let general = general::read(&top, &context);
    let mut sources = sources::read(&top, &general.site_name, general.listen, &context);
    let sinks = sinks::read(&top, &context);
    let channels = channels::read(&top, &general.zone, &context);
    let platform = platform::read(&top, &general.zone, &context);
    let channel_names: Vec<&str> = channels::names(&top);
    let duty = channels::duty(&top, &channel_names, &context);
    let profiles = profiles::read(&top, &general.zone, &context, problems);
    check_targets(&top, &platform, &channel_names);
    let around = inventory::Surroundings {
        profiles: &profiles,
        sources: Some((&sources.names, &sources.modbus)),
        datum: general.datum,
        overrides: &overrides::read(&top, &context, problems),
        problems,
    };
    let inventory = inventory::read(&top, &context, &around);
    if profiles.broken.is_empty() {
        platform::check_conditions(&top, &platform, &[profiles.sound.as_slice(), &inventory.profiles].concat());
    }
    note_phones(&top, &general, &channels, &context);
    let incidents = incidents::read(&top, &sources);
    incidents::note_tags(&incidents, &inventory.devices, &context);
    rain::subscribe(&incidents.rain_topics, &mut sources.mqtt);
    note_nodes(&sources, &inventory, &context);
    top.finish();
    let buses = if problems.is_empty() { buses(&sources.modbus, &inventory, &context) } else { Vec::new() };
    let facts = SiteFacts {
        name: general.site_name.clone(),
        profiles: inventory.profiles,
        devices: inventory.devices,
        sources: sources.rules,
        cases: general.case_policy(platform.name()),
        duty,
        limits: general.limits.frames,
        incidents,
    };
    Config {
        path: path.to_owned(),
        data_dir: general.data_dir,
        log: general.log,
        listen: general.listen,
        public_url: general.public_url,
        accounts: general.accounts,
        zone: general.zone,
        site: Arc::new(Site::new(facts)),
        profiles: profiles.sound,
        lineages: profiles.lineages,
        mqtt: sources.mqtt,
        brokers: sources.brokers,
        modbus: buses,
        addresses: sources.addresses,
        sinks,
        platform,
        channels,
        store: general.store,
        limits: general.limits,
        reload: general.reload,
        files: Fingerprint::default(),
        notices: context.notices.into_inner(),
        warnings: inventory.warnings,
    }
}

/// Platform and channels share the outbox, where each is known by its name alone.
fn check_targets(top: &Section<'_>, platform: &PlatformConfig, channels: &[&str]) {
    if channels.contains(&platform.name()) {
        let mend = "give the channel another name";
        top.problem("channels", platform.name(), "the platform of the cases has this name", mend);
    }
}

fn note_phones(top: &Section<'_>, general: &general::General, channels: &[ChannelConfig], context: &Context<'_>) {
    let reaches_phones = channels.iter().any(|channel| !matches!(channel.kind, ChannelKind::Show));
    if reaches_phones && !top.has("public_url") {
        context.notice(format!(
            "public_url is not set: links in messages begin with {}, which phones may not reach",
            general.public_url
        ));
    }
}

/// Devices that no Sparkplug node can be, although their profile reads what nodes send.
fn note_nodes(sources: &sources::Sources, inventory: &inventory::Inventory, context: &Context<'_>) {
    let speaks = |name: &str| sources.mqtt.iter().any(|source| source.sparkplug.is_some() && source.name == name);
    let is_of_nodes = |device: &Device| match &device.source {
        Some(name) => speaks(name),
        // Somewhere its messages may come bare, and then any address is one.
        None => sources.brokers.is_empty() && sources.mqtt.iter().all(|source| source.sparkplug.is_some()),
    };
    let is_odd = |device: &&Device| {
        let format = &inventory.profiles[usize::from(device.profile)].payload;
        matches!(format, PayloadFormat::Sparkplug(_)) && is_of_nodes(device) && !sparkplug::is_address(&device.address)
    };
    let mut odd = inventory.devices.iter().filter(is_odd);
    let Some(first) = odd.next() else { return };
    let count = 1 + odd.count();
    context.notice(format!(
        "{count} devices of Sparkplug profiles are never heard: no node has such an address (the first is {}: {:?}); \
         write GROUP/NODE/DEVICE or GROUP/NODE",
        first.id, first.address
    ));
}

fn buses(
    sources: &[modbus::ModbusSource],
    inventory: &inventory::Inventory,
    context: &Context<'_>,
) -> Vec<ModbusConfig> {
    let mut buses = Vec::new();
    for (source, places) in sources.iter().zip(&inventory.places) {
        let device = |index: &usize| {
            let device = &inventory.devices[*index];
            (device, inventory.profiles[usize::from(device.profile)].as_ref())
        };
        let units = places.iter().map(|(place, index)| (place.clone(), device(index))).collect();
        let polled = source.buses(&units);
        let idle = usize::from(source.count()).saturating_sub(polled.len());
        if idle > 0 {
            context.notice(format!(
                "source {}: {idle} of {} buses have no device in the inventory and are not polled",
                source.name,
                source.count()
            ));
        }
        if let Some(crowded) = modbus::crowded(&polled) {
            context.notice(crowded);
        }
        buses.extend(polled);
    }
    buses
}
