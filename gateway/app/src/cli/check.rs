//! `kerbside check`: is the configuration sound, and what would run?
//!
//! Turns gateway.yaml with its profiles and inventory into a summary on standard output and exit code 0, or into every
//! problem on standard error and exit code 2. Rows of the inventory that `kerbside run` would leave out count as
//! problems here, and so does what a component refuses when it is built. Nothing is bound or connected.

mod plans;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kerbside_model::Site;
use kerbside_model::document::Problem;
use kerbside_sinks::influx::{self, InfluxConfig, SERIES_MAX, Schema};
use serde::Serialize;

use crate::config::read::{bytes_text, duration_text};
use crate::config::{self, Config, Environment, PlatformConfig, ProcessEnvironment};
use crate::trial;

/// Exit code of a sound configuration.
pub const SOUND: u8 = 0;
/// Exit code of a configuration with problems.
pub const UNSOUND: u8 = 2;

/// Devices of an override that a line names; JSON has all.
const NAMED_MAX: usize = 20;

/// Arguments of `kerbside check`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArguments {
    /// The configuration.
    #[arg(long, default_value = "gateway.yaml")]
    pub config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// How the summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Checks a configuration for the command line and gives the exit code.
pub fn run(arguments: &CheckArguments) -> io::Result<u8> {
    let format = if arguments.json { Format::Json } else { Format::Text };
    let (mut out, mut errors) = (io::stdout().lock(), io::stderr().lock());
    report(&arguments.config, format, &ProcessEnvironment, &mut Streams { out: &mut out, errors: &mut errors })
}

/// Where a report goes.
#[expect(missing_debug_implementations, reason = "writers have none")]
pub struct Streams<'a> {
    /// The summary.
    pub out: &'a mut dyn Write,
    /// The problems.
    pub errors: &'a mut dyn Write,
}

/// Checks a configuration, writes what was found, and gives the exit code.
pub fn report(path: &Path, format: Format, environment: &dyn Environment, streams: &mut Streams<'_>) -> io::Result<u8> {
    let problems = match config::load(path, environment) {
        Ok(config) => {
            let mut problems = trial::refused(&config);
            problems.extend_from_slice(&config.warnings);
            problems.extend(trial::overloaded(&config));
            if problems.is_empty() {
                let summary = Summary::of(&config);
                match format {
                    Format::Text => summary.write(streams.out)?,
                    Format::Json => write_json(streams.out, &summary)?,
                }
                return Ok(SOUND);
            }
            problems
        }
        Err(problems) => problems,
    };
    if format == Format::Json {
        write_json(streams.out, &ProblemList { problems: problems.iter().map(ProblemView::of).collect() })?;
    }
    for problem in &problems {
        writeln!(streams.errors, "{problem}")?;
    }
    writeln!(streams.errors, "{} in {}", super::counted(problems.len(), "problem"), path.display())?;
    Ok(UNSOUND)
}

fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[derive(Serialize)]
struct ProblemList<'a> {
    problems: Vec<ProblemView<'a>>,
}

#[derive(Serialize)]
struct ProblemView<'a> {
    file: &'a str,
    line: usize,
    key: &'a str,
    value: &'a str,
    what: &'a str,
    mend: &'a str,
}

impl ProblemView<'_> {
    fn of(problem: &Problem) -> ProblemView<'_> {
        let Problem { file, line, key, value, what, mend } = problem;
        ProblemView { file, line: *line, key, value, what, mend }
    }
}

/// What would run.
#[derive(Debug, Serialize)]
struct Summary {
    site: String,
    data_dir: String,
    listen: String,
    public_url: String,
    accounts: usize,
    sources: Vec<SourceSummary>,
    plans: Vec<plans::BusPlan>,
    devices: usize,
    devices_by_profile: Vec<ProfileSummary>,
    overrides: Vec<OverrideSummary>,
    /// Series that the inventory makes in the database.
    series: u64,
    measurements: Vec<MeasurementSummary>,
    sinks: Vec<SinkSummary>,
    platform: String,
    channels: Vec<ChannelSummary>,
    duty: Vec<StepSummary>,
    store: StoreSummary,
    notices: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SourceSummary {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Host and port, or where it listens.
    at: String,
    /// Topic filters with their QoS.
    topics: Vec<String>,
    /// How its frames name devices.
    address: String,
    buses: usize,
    units: usize,
    /// Requests that one poll of every unit takes.
    requests: usize,
}

#[derive(Debug, Serialize)]
struct ProfileSummary {
    profile: String,
    version: u32,
    hash: String,
    kind: &'static str,
    devices: usize,
    detectors: usize,
}

/// An override, and the ids of the devices that have it.
#[derive(Debug, Serialize)]
struct OverrideSummary {
    name: String,
    devices: Vec<String>,
}

impl OverrideSummary {
    fn line(&self) -> String {
        let OverrideSummary { name, devices } = self;
        let named = devices.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = devices.len().saturating_sub(NAMED_MAX);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{name}: {} ({named}{rest})", super::counted(devices.len(), "device"))
    }
}

/// What a kind of device makes in the database.
#[derive(Debug, Serialize)]
struct MeasurementSummary {
    measurement: String,
    series: u64,
    fields: usize,
    /// Tags with how many values each has.
    tags: Vec<(&'static str, usize)>,
}

#[derive(Debug, Serialize)]
struct SinkSummary {
    name: String,
    url: String,
    org: String,
    bucket: String,
}

#[derive(Debug, Serialize)]
struct ChannelSummary {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct StepSummary {
    after: String,
    channels: Vec<String>,
}

#[derive(Debug, Serialize)]
struct StoreSummary {
    batches_bytes_max: u64,
    undecoded_bytes_max: u64,
    commit_interval: String,
    commit_bytes_max: usize,
}

impl Summary {
    fn of(config: &Config) -> Summary {
        let site = &config.site;
        let schema = influx::predict(site);
        Summary {
            site: site.name().to_owned(),
            data_dir: config.data_dir.display().to_string(),
            listen: config.listen.to_string(),
            public_url: config.public_url.clone(),
            accounts: config.accounts.len(),
            sources: sources(config),
            plans: plans::plans(config),
            devices: site.devices().len(),
            devices_by_profile: profiles(config),
            overrides: overrides(site),
            series: schema.series(),
            measurements: measurements(&schema),
            sinks: config.sinks.iter().map(sink).collect(),
            platform: match &config.platform {
                PlatformConfig::Ledger => "ledger (built in)".to_owned(),
                PlatformConfig::Open311(open311) => format!("{} (open311, {})", open311.name, open311.url),
            },
            channels: config
                .channels
                .iter()
                .map(|channel| ChannelSummary { name: channel.name.clone(), kind: config::channel_type(&channel.kind) })
                .collect(),
            duty: site
                .facts()
                .duty
                .iter()
                .map(|step| StepSummary { after: duration_text(step.after), channels: step.channels.clone() })
                .collect(),
            store: StoreSummary {
                batches_bytes_max: config.store.config.batches_bytes_max,
                undecoded_bytes_max: config.store.config.undecoded_bytes_max,
                commit_interval: duration_text(config.store.commit_interval),
                commit_bytes_max: config.store.commit_bytes_max,
            },
            notices: config.notices.iter().cloned().chain(database_notices(&schema, config)).collect(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let accounts = match self.accounts {
            0 => "no accounts".to_owned(),
            count => format!("{count} accounts"),
        };
        writeln!(out, "site      {}", self.site)?;
        writeln!(out, "listen    {} ({accounts}), phones open {}", self.listen, self.public_url)?;
        writeln!(out, "data      {}", self.data_dir)?;
        for source in &self.sources {
            writeln!(out, "source    {}", source.line())?;
        }
        plans::write(&self.plans, out)?;
        for profile in &self.devices_by_profile {
            let ProfileSummary { profile, version, hash, kind, devices, detectors } = profile;
            writeln!(out, "devices   {devices} {profile} version {version}, {hash} ({kind}, {detectors} detectors)")?;
        }
        for found in &self.overrides {
            writeln!(out, "override  {}", found.line())?;
        }
        writeln!(out, "devices   {} in all, {} series in the database", self.devices, self.series)?;
        for measurement in &self.measurements {
            writeln!(out, "series    {}", measurement.line())?;
        }
        for sink in &self.sinks {
            writeln!(out, "sink      {}: influx {}, org {}, bucket {}", sink.name, sink.url, sink.org, sink.bucket)?;
        }
        writeln!(out, "platform  {}", self.platform)?;
        for channel in &self.channels {
            writeln!(out, "channel   {}: {}", channel.name, channel.kind)?;
        }
        for (position, step) in self.duty.iter().enumerate() {
            writeln!(out, "duty      step {}: after {}, {}", position + 1, step.after, step.channels.join(", "))?;
        }
        let store = &self.store;
        writeln!(
            out,
            "store     up to {} of batches, {} of undecoded frames; commit after {} or {}",
            bytes_text(store.batches_bytes_max),
            bytes_text(store.undecoded_bytes_max),
            store.commit_interval,
            bytes_text(store.commit_bytes_max as u64)
        )?;
        for notice in &self.notices {
            writeln!(out, "note      {notice}")?;
        }
        Ok(())
    }
}

impl MeasurementSummary {
    fn line(&self) -> String {
        let tags: Vec<String> = self.tags.iter().map(|(tag, values)| format!("{tag} {values}")).collect();
        let MeasurementSummary { measurement, series, fields, .. } = self;
        format!("{measurement}: {series} with up to {fields} fields; values of tags: {}", tags.join(", "))
    }
}

impl SourceSummary {
    fn line(&self) -> String {
        let SourceSummary { name, kind, at, address, .. } = self;
        match *kind {
            "mqtt" => format!("{name}: mqtt {at}, subscribes {}, address {address}", self.topics.join(", ")),
            "modbus" => format!(
                "{name}: modbus {at}, {} buses, {} units, {} requests for one poll of all",
                self.buses, self.units, self.requests
            ),
            _ => format!("{name}: embedded broker on {at}, address {address}"),
        }
    }
}

fn sources(config: &Config) -> Vec<SourceSummary> {
    let address = |name: &str| {
        let found = config.addresses.iter().find(|(source, _)| source == name);
        found.map_or_else(String::new, |(_, text)| text.clone())
    };
    let blank = |name: &str, kind, at| SourceSummary {
        name: name.to_owned(),
        kind,
        at,
        topics: Vec::new(),
        address: address(name),
        buses: 0,
        units: 0,
        requests: 0,
    };
    let mut sources: Vec<SourceSummary> = Vec::new();
    for mqtt in &config.mqtt {
        let topics = mqtt.topics.iter().map(|topic| format!("{} (QoS {})", topic.filter, topic.qos)).collect();
        sources.push(SourceSummary { topics, ..blank(&mqtt.name, "mqtt", format!("{}:{}", mqtt.host, mqtt.port)) });
    }
    for broker in &config.brokers {
        let written = |(at, is_tls): &(_, bool)| if *is_tls { format!("{at} (tls)") } else { format!("{at}") };
        let listens: Vec<String> = broker.listens().iter().map(written).collect();
        sources.push(blank(&broker.name, "broker", listens.join(", ")));
    }
    for bus in &config.modbus {
        let position = match sources.iter().position(|source| source.kind == "modbus" && source.name == bus.source) {
            Some(position) => position,
            None => {
                sources.push(blank(&bus.source, "modbus", bus.link.place()));
                sources.len() - 1
            }
        };
        let summary = &mut sources[position];
        summary.buses += 1;
        summary.units += bus.units.len();
        summary.requests += kerbside_sources::modbus::forecast(bus).requests();
    }
    sources
}

fn profiles(config: &Config) -> Vec<ProfileSummary> {
    let site = &config.site;
    let mut summaries: Vec<ProfileSummary> = site
        .facts()
        .profiles
        .iter()
        .map(|profile| ProfileSummary {
            profile: profile.title(),
            version: profile.version,
            hash: profile.content_hash(),
            kind: profile.kind.name(),
            devices: 0,
            detectors: profile.detectors.len(),
        })
        .collect();
    for device in site.devices() {
        summaries[usize::from(device.profile)].devices += 1;
    }
    // A profile below overrides may have no devices of its own.
    summaries.retain(|summary| summary.devices > 0);
    summaries
}

/// Which devices have which overrides, in the order of the names.
fn overrides(site: &Site) -> Vec<OverrideSummary> {
    let mut devices: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for device in site.devices() {
        for name in &site.profile_of(device).overrides {
            devices.entry(name).or_default().push(device.id.clone());
        }
    }
    devices.into_iter().map(|(name, devices)| OverrideSummary { name: name.to_owned(), devices }).collect()
}

fn measurements(schema: &Schema) -> Vec<MeasurementSummary> {
    let summary = |measurement: &influx::Measurement| MeasurementSummary {
        measurement: measurement.name.clone(),
        series: measurement.series,
        fields: measurement.fields.len(),
        tags: measurement.tags.clone(),
    };
    schema.measurements.iter().map(summary).collect()
}

/// What will be hard on the database, or refused by it.
fn database_notices(schema: &Schema, config: &Config) -> Vec<String> {
    if config.sinks.is_empty() {
        return Vec::new();
    }
    let mut notices = Vec::new();
    let series = schema.series();
    if series > SERIES_MAX
        && let Some(largest) = schema.largest()
        && let Some((tag, values)) = largest.largest_tag()
    {
        notices.push(format!(
            "{series} series are more than {SERIES_MAX}: measurement {} has {} of them, because column {} of the \
             inventory has {values} values; give the database memory for them, or write each district to a bucket of \
             its own",
            largest.name,
            largest.series,
            column_of(tag)
        ));
    }
    for conflict in &schema.conflicts {
        let influx::FieldConflict { measurement, field, first, second } = conflict;
        notices.push(format!(
            "field {field} of {measurement} is {} in profile {} and {} in profile {}: the database keeps the type that \
             comes first and refuses the other; give one of the points another name",
            first.1, first.0, second.1, second.0
        ));
    }
    for mqtt in config.mqtt.iter().filter(|mqtt| !mqtt.user_properties.is_empty()) {
        let names = mqtt.user_properties.join(", ");
        notices.push(format!(
            "each value of the user properties {names} of source {} makes series that are not counted here: they must \
             have few values",
            mqtt.name
        ));
    }
    notices
}

/// The column of the inventory that a tag is made of.
fn column_of(tag: &str) -> &str {
    if tag == "device" { "id" } else { tag }
}

fn sink(sink: &InfluxConfig) -> SinkSummary {
    SinkSummary { name: sink.name.clone(), url: sink.url.clone(), org: sink.org.clone(), bucket: sink.bucket.clone() }
}

#[cfg(test)]
mod tests {
    use kerbside_model::document::Problems;

    use super::*;
    use crate::config::MemoryEnvironment;

    const CONFIG: &str = "\
site: {name: demo district}
data_dir: /data
inventory: inventory.csv
sources:
  city: {type: mqtt, host: broker, topics: [{filter: city/+/up, qos: 2}], address: {topic: \"city/{device}/up\"}}
  bus: {type: modbus, host: pole, count: 2}
sinks: {influx: {type: influx, url: \"http://db:8086\", org: city, bucket: street, token: secret}}
channels: {console: {type: show}}
duty: {steps: [{after: 0s, channels: [console]}, {after: 5m, channels: [console]}]}
";
    const INVENTORY: &str = "\
id,profile,source,address
DL-1,json-level,city,DL-1
DL-2,json-level,city,DL-2
LV-1,qdy30a-level,bus,0:1
LV-2,qdy30a-level,bus,0:2
";

    fn check(config: &str, inventory: &str, format: Format) -> (u8, String, String) {
        let environment = MemoryEnvironment::default()
            .with_file("etc/gateway.yaml", config)
            .with_file("etc/inventory.csv", inventory);
        kerbside_runtime::tls::install_crypto_provider();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, errors: &mut errors };
        let code = report(Path::new("etc/gateway.yaml"), format, &environment, &mut streams).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn a_sound_configuration_is_summed_up() {
        let (code, out, errors) = check(CONFIG, INVENTORY, Format::Text);
        assert_eq!((code, errors.as_str()), (SOUND, ""));
        // A hash tells editions apart, and every release reads profiles in its own way.
        let hashes = crate::shelf::shipped_profiles(&Problems::default()).into_iter().map(|it| it.content_hash());
        insta::assert_snapshot!(hashes.fold(out.clone(), |text, hash| text.replace(&hash, "HASH")));
        assert!(!out.contains("secret"), "{out}");
    }

    #[test]
    fn the_summary_is_json_for_machines() {
        let (code, out, errors) = check(CONFIG, INVENTORY, Format::Json);
        assert_eq!((code, errors.as_str()), (SOUND, ""));
        let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["site"], "demo district");
        assert_eq!(summary["devices"], 4);
        assert_eq!(summary["sources"][1]["units"], 2);
        assert_eq!(summary["duty"][1]["after"], "5m");
    }

    #[test]
    fn more_series_than_a_small_database_holds_are_named_with_the_column_that_makes_them() {
        let rows: String = (0..=SERIES_MAX).map(|row| format!("DL-{row},json-level,city,DL-{row}\n")).collect();
        let inventory = format!("id,profile,source,address\n{rows}");
        let (code, out, errors) = check(CONFIG, &inventory, Format::Text);
        assert_eq!((code, errors.as_str()), (SOUND, ""));
        let words = "100001 series are more than 100000: measurement drain has 100001 of them, because column id of \
                     the inventory has 100001 values";
        assert!(out.contains(words), "{out}");
    }

    #[test]
    fn a_bus_that_cannot_carry_what_is_to_be_read_fails_the_check_and_a_full_one_is_noted() {
        let serial = |period: &str| {
            let bus = format!("bus: {{type: modbus, link: rtu, path: /dev/ttyS1, baud: 1200, period: {period}}}");
            CONFIG.replace("bus: {type: modbus, host: pole, count: 2}", &bus)
        };
        let inventory = INVENTORY.replace("0:1", "1").replace("0:2", "2");
        let (code, _, errors) = check(&serial("200ms"), &inventory, Format::Text);
        assert_eq!(code, UNSOUND);
        assert!(errors.contains("sources.bus = \"bus\": what is to be read takes "), "{errors}");
        assert!(errors.contains("read unit 1, which takes most, less often"), "{errors}");
        let (code, out, errors) = check(&serial("500ms"), &inventory, Format::Text);
        assert_eq!((code, errors.as_str()), (SOUND, ""));
        assert!(out.contains("plan        unit 2 every 500ms"), "{out}");
        assert!(out.contains("note      bus bus is busy for "), "{out}");
    }

    #[test]
    fn every_problem_goes_to_standard_error_with_exit_code_2() {
        let broken = format!("{CONFIG}lisen: x\nplatform: {{type: citty}}\n");
        let (code, out, errors) = check(&broken, INVENTORY, Format::Text);
        assert_eq!((code, out.as_str()), (UNSOUND, ""));
        assert!(errors.contains("etc/gateway.yaml:10: lisen: this key is not known"), "{errors}");
        assert!(errors.contains("etc/gateway.yaml:11: platform.type = \"citty\""), "{errors}");
        assert!(errors.ends_with("2 problems in etc/gateway.yaml\n"), "{errors}");
    }

    #[test]
    fn what_a_component_refuses_fails_the_check() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("header"), "two\nlines").unwrap();
        let path = folder.path().join("gateway.yaml");
        let text = "channels: {hook: {type: webhook, url: \"http://h\", headers: {X-A: {file: header}}}}\n";
        std::fs::write(&path, text).unwrap();
        kerbside_runtime::tls::install_crypto_provider();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, errors: &mut errors };
        let code = report(&path, Format::Text, &ProcessEnvironment, &mut streams).unwrap();
        let errors = String::from_utf8(errors).unwrap();
        assert_eq!((code, out.len()), (UNSOUND, 0), "{errors}");
        assert!(errors.contains("channels.hook: failed to"), "{errors}");
    }

    #[test]
    fn a_row_that_run_would_leave_out_fails_the_check() {
        let inventory = format!("{INVENTORY}DL-2,json-level,city,DL-9\n");
        let (code, out, errors) = check(CONFIG, &inventory, Format::Json);
        assert_eq!(code, UNSOUND);
        assert!(errors.contains("etc/inventory.csv:6: id = \"DL-2\""), "{errors}");
        let problems: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(problems["problems"][0]["line"], 6);
    }
}
