//! The plain sections of gateway.yaml: site, log, listen, limits, cases.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kerbside_model::Severity;
use kerbside_model::document::Section;
use kerbside_model::geo::Datum;
use kerbside_model::site::{CasePolicy, FrameLimits};
use kerbside_runtime::logging::LogFormat;
use kerbside_sinks::channels::text::{DEFAULT_ZONE, Zone};

use super::account::{self, Account};
use super::inventory::DATUMS;
use super::read::{self, Context};
use super::store::{self, StoreSettings};

const SITE_NAME: &str = "kerbside";
const DATA_DIR: &str = "/var/lib/kerbside";
const LOG_LEVELS: [(&str, &str); 5] =
    [("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];
const RELOAD_MODES: [(&str, ReloadMode); 2] = [("manual", ReloadMode::Manual), ("watch", ReloadMode::Watch)];
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const INTAKE_BYTES_MAX: usize = 16 << 20;
const INTAKE_SUBMISSIONS_MAX: usize = 1_024;
/// No link brings one device's frames faster; it is there to find a slip of the pen.
const FRAMES_MAX: i64 = 1_000_000;
/// A device that says the same for an hour and changes its way is more likely than a repeat.
const DUPLICATE_WINDOW_MAX: Duration = Duration::from_secs(3_600);
const CLOSE_AFTER: Duration = Duration::from_secs(86_400);

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`; the variable KERBSIDE_LOG wins.
    pub level: String,
}

/// Limits of queues in memory, and of what one device may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What one device may send before its telemetry is thinned, and how long its repeats are known.
    pub frames: FrameLimits,
    /// Bytes of inputs between sources and commit; beyond it sources wait.
    pub intake_bytes_max: usize,
    /// Submissions between sources and commit; beyond it sources wait.
    pub intake_submissions_max: usize,
}

/// What happens when the files of the configuration change while the gateway runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReloadMode {
    /// It is shown that they did; somebody applies them with `kerbside reload`.
    #[default]
    Manual,
    /// They are applied by themselves.
    Watch,
}

/// What the plain sections say.
#[derive(Clone, Debug)]
pub(super) struct General {
    pub(super) site_name: String,
    pub(super) zone: String,
    /// The datum of positions for which neither row nor file says one.
    pub(super) datum: Datum,
    pub(super) data_dir: PathBuf,
    pub(super) log: LogConfig,
    pub(super) listen: SocketAddr,
    pub(super) public_url: String,
    pub(super) accounts: Vec<Account>,
    pub(super) store: StoreSettings,
    pub(super) limits: Limits,
    pub(super) reload: ReloadMode,
    pub(super) severity_min: Severity,
    pub(super) close_after: Duration,
}

/// Reads them.
pub(super) fn read(top: &Section<'_>, context: &Context<'_>) -> General {
    let data_dir = context.resolve(&top.text("data_dir").unwrap_or_else(|| DATA_DIR.to_owned()));
    let listen = read::listen(top, "listen", LISTEN);
    let accounts = account::read(top, context);
    account::check_listen(top, listen, accounts.len());
    let (severity_min, close_after) = cases(top);
    let (site_name, zone, datum) = site(top);
    General {
        site_name,
        zone,
        datum,
        log: log(top),
        listen,
        public_url: read::optional_url(top, "public_url").unwrap_or_else(|| format!("http://{listen}")),
        accounts,
        store: store::read(top, data_dir.clone()),
        data_dir,
        limits: limits(top),
        reload: top.choice("reload", &RELOAD_MODES).unwrap_or_default(),
        severity_min,
        close_after,
    }
}

impl General {
    /// The policy for cases on a platform.
    pub(super) fn case_policy(&self, platform: &str) -> CasePolicy {
        CasePolicy { platform: platform.to_owned(), severity_min: self.severity_min, close_after: self.close_after }
    }
}

fn site(top: &Section<'_>) -> (String, String, Datum) {
    let Some(section) = top.section("site") else {
        return (SITE_NAME.to_owned(), DEFAULT_ZONE.to_owned(), Datum::default());
    };
    let name = section.text("name").unwrap_or_else(|| SITE_NAME.to_owned());
    let zone = section.text("zone").unwrap_or_else(|| DEFAULT_ZONE.to_owned());
    if Zone::named(&zone).is_err() {
        section.problem("zone", &zone, "there is no time zone of this name", "write one such as Asia/Shanghai");
    }
    let datum = section.choice("datum", &DATUMS).unwrap_or_default();
    section.finish();
    (name, zone, datum)
}

fn log(top: &Section<'_>) -> LogConfig {
    let mut config = LogConfig { format: LogFormat::Text, level: "info".to_owned() };
    let Some(section) = top.section("log") else { return config };
    if let Some(format) = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]) {
        config.format = format;
    }
    if let Some(level) = section.choice("level", &LOG_LEVELS) {
        level.clone_into(&mut config.level);
    }
    section.finish();
    config
}

fn limits(top: &Section<'_>) -> Limits {
    let mut limits = Limits {
        frames: FrameLimits::default(),
        intake_bytes_max: INTAKE_BYTES_MAX,
        intake_submissions_max: INTAKE_SUBMISSIONS_MAX,
    };
    let Some(section) = top.section("limits") else { return limits };
    limits.intake_bytes_max = read::memory_bytes(&section, "intake_bytes_max", INTAKE_BYTES_MAX, 64 << 10..=1 << 30);
    limits.intake_submissions_max =
        read::count(&section, "intake_submissions_max", INTAKE_SUBMISSIONS_MAX, 1..=1_000_000);
    limits.frames = frame_limits(&section);
    section.finish();
    limits
}

fn frame_limits(section: &Section<'_>) -> FrameLimits {
    let default = FrameLimits::default();
    let frames = |key, default: u32, min| {
        let count = read::count(section, key, default as usize, min..=FRAMES_MAX);
        u32::try_from(count).expect("checked against a limit below 2^32")
    };
    FrameLimits {
        device_frames_per_second: frames("device_frames_per_second", default.device_frames_per_second, 0),
        device_burst: frames("device_burst", default.device_burst, 1),
        duplicate_window: read::duration(
            section,
            "duplicate_window",
            default.duplicate_window,
            Duration::ZERO..=DUPLICATE_WINDOW_MAX,
        ),
    }
}

fn cases(top: &Section<'_>) -> (Severity, Duration) {
    let Some(section) = top.section("cases") else { return (Severity::Minor, CLOSE_AFTER) };
    let severities = Severity::ALL.map(|severity| (severity.name(), severity));
    let severity_min = section.choice("severity_min", &severities).unwrap_or(Severity::Minor);
    let limits = Duration::ZERO..=Duration::from_secs(365 * 86_400);
    let close_after = read::duration(&section, "close_after", CLOSE_AFTER, limits);
    section.finish();
    (severity_min, close_after)
}
