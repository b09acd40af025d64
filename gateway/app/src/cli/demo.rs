//! `kerbside demo`: embedded broker, simulated district, gateway, ledger and console in one process.
//!
//! The district runs faster than real time, and so does the gateway's clock, so that holds, silences and escalations
//! keep their proportions. Everything lies in a temporary folder with a real configuration and inventory. Notices are
//! shown, not sent.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_model::document::parse_duration;
use kerbside_model::{Alarm, AlarmState, Case, Input, MaskKind, OperatorAction, OutboxTask, Severity, Timestamp};
use kerbside_runtime::logging::{self, LogFormat};
use kerbside_runtime::{Chain, Clock, Receipt, Shutdown};
use kerbside_simulator::{
    District, DistrictConfig, MODBUS_SOURCE, MQTT_SOURCE, ScriptedEvent, ScriptedWhat, SharedDistrict, publish,
    serve_modbus,
};
use kerbside_store::{AlarmQuery, CaseQuery, OutboxQuery, PAGE_ITEMS_MAX, Store};

use super::{run, say, say_problems};
use crate::config::{self, ProcessEnvironment};
use crate::gateway::Gateway;

/// What happened is looked for this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const SPEED_MAX: f64 = 3_600.0;

/// Arguments of `kerbside demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Where console and API listen; loopback only.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Simulated seconds in one real second.
    #[arg(long, default_value_t = 60.0)]
    speed: f64,
    /// Which district and which incidents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends by itself after this real time, such as 60s; runs until Ctrl-C without it.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 60s or 5m".to_owned())
}

pub(super) fn run(arguments: &DemoArguments) -> anyhow::Result<u8> {
    if !arguments.listen.ip().is_loopback() {
        bail!("listen on {}: the demo has no accounts, so it listens on loopback only", arguments.listen);
    }
    if !(1.0..=SPEED_MAX).contains(&arguments.speed) {
        bail!("run at speed {}: choose 1 to {SPEED_MAX}", arguments.speed);
    }
    logging::start(LogFormat::Text, "warn");
    run::runtime()?.block_on(show(arguments))
}

async fn show(arguments: &DemoArguments) -> anyhow::Result<u8> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    // With a known length the simulated time ends at the real time; without one it begins there.
    let simulated = arguments.duration.unwrap_or_default().mul_f64(arguments.speed);
    let clock = Clock::scaled(Clock::System.now().minus(simulated), arguments.speed);
    let district = District::new(DistrictConfig::demo(arguments.seed, clock.clone()));
    let (inventory, script) = (district.inventory_csv(), district.script());
    let district = district.shared();
    let simulator = Shutdown::new();
    let units = serve_modbus(SharedDistrict::clone(&district), loopback(), simulator.clone()).await?;
    write_files(folder.path(), &inventory, arguments.listen, units.local_addr())?;
    let config = match config::load(&folder.path().join("gateway.yaml"), &ProcessEnvironment) {
        Ok(config) => config,
        Err(problems) => {
            say_problems(&problems);
            return Ok(super::check::UNSOUND);
        }
    };
    let mut gateway = Gateway::start(config, clock.clone(), arguments.speed).await?;
    let Some(broker) = gateway.brokers.first().copied() else { bail!("start the embedded broker") };
    say(&format!(
        "http://{}  <- open this: the console (simulated time x{}, seed {})",
        gateway.api, arguments.speed, arguments.seed
    ));
    permit(&gateway, &script).await?;
    let publisher = tokio::spawn(publish(district, broker, None, simulator.clone()));
    let mut teller = Teller { store: gateway.store.clone(), told: HashSet::new() };
    let end = tokio::time::sleep(arguments.duration.unwrap_or(Duration::MAX));
    tokio::pin!(end);
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            () = &mut end => break,
            () = run::told_to_stop() => break,
            () = gateway.failed() => bail!("go on: the pipeline ended by itself"),
            _ = look.tick() => teller.tell()?,
        }
    }
    simulator.cancel();
    drop(publisher.await);
    teller.tell()?;
    let summary = summary(&gateway)?;
    gateway.stop().await;
    say(&summary);
    Ok(0)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn write_files(folder: &Path, inventory: &str, listen: SocketAddr, modbus: SocketAddr) -> anyhow::Result<()> {
    let configuration = format!(
        r#"site: {{name: "Demo district 示范片区"}}
data_dir: data
# An hour passes in a minute: 100 ms of waiting for company are six seconds there, and devices fell silent of it.
store: {{preset: fast}}
listen: "{listen}"
inventory: inventory.csv
sources:
  # One connection carries the whole district, and an hour of it in a minute.
  {MQTT_SOURCE}: {{type: broker, listen: "127.0.0.1:0", address: {{topic: "city/+/+/{{device}}/up"}}, messages_per_second_max: 100000}}
  {MODBUS_SOURCE}: {{type: modbus, host: {}, port: {}, period: 1m}}
channels:
  duty-officer: {{type: show}}
  shift-leader: {{type: show}}
duty:
  steps:
    - {{after: 0s, channels: [duty-officer]}}
    - {{after: 15m, channels: [shift-leader]}}
"#,
        modbus.ip(),
        modbus.port()
    );
    std::fs::write(folder.join("gateway.yaml"), configuration).context("write the configuration")?;
    std::fs::write(folder.join("inventory.csv"), inventory).context("write the inventory")
}

/// Crews with a permit have it entered before they come.
async fn permit(gateway: &Gateway, script: &[ScriptedEvent]) -> anyhow::Result<()> {
    for event in script.iter().filter(|event| event.what == ScriptedWhat::CoverOpensWithPermit) {
        let action = OperatorAction::Mask {
            device: event.device.clone(),
            kind: MaskKind::Permit,
            from: event.at.minus(Duration::from_secs(60)),
            until: event.until.plus(Duration::from_secs(600)),
            by: "市政".to_owned(),
            reason: "清淤作业 sewer cleaning".to_owned(),
        };
        gateway.intake.submit(vec![Input::Operator(action)], Receipt::None).await?;
    }
    Ok(())
}

/// Tells on standard output what happens, once each.
struct Teller {
    store: Store,
    told: HashSet<String>,
}

impl Teller {
    fn tell(&mut self) -> anyhow::Result<()> {
        let mut lines: BTreeSet<(Timestamp, String)> = BTreeSet::new();
        let alarms = self.store.alarms(&AlarmQuery { limit: PAGE_ITEMS_MAX, ..AlarmQuery::default() })?;
        for alarm in &alarms.items {
            if self.told.insert(format!("{} {}", alarm.id, alarm.state.name())) {
                lines.insert((alarm.updated_at, alarm_line(alarm)));
            }
        }
        let cases = self.store.cases(&CaseQuery { limit: PAGE_ITEMS_MAX, ..CaseQuery::default() })?;
        for case in &cases.items {
            if self.told.insert(format!("{} {}", case.id, case.state.name())) {
                lines.insert((case.updated_at, case_line(case)));
            }
        }
        let rows = self.store.outbox(&OutboxQuery { limit: PAGE_ITEMS_MAX, ..OutboxQuery::default() })?;
        for view in &rows.items {
            let OutboxTask::Notify(notice) = &view.row.task else { continue };
            if self.told.insert(view.row.id.clone()) {
                let line = format!(
                    "push   {}: 【{}】{} {} ({:?}, case {})",
                    view.row.target,
                    notice.report.severity.name_zh(),
                    notice.report.title_zh,
                    notice.report.place,
                    notice.reason,
                    view.row.case_id
                );
                lines.insert((view.row.created_at, line));
            }
        }
        lines.into_iter().for_each(|(at, line)| say(&format!("{at}  {line}")));
        Ok(())
    }
}

fn alarm_line(alarm: &Alarm) -> String {
    let suppressed = alarm.suppressed.map(|reason| format!(" [no case: {}]", reason.name())).unwrap_or_default();
    let (state, condition) = (alarm.state.name(), &alarm.condition);
    let text = match alarm.state {
        AlarmState::Active => alarm.explanation.as_str(),
        AlarmState::Stale => "no good data any more: nobody knows whether it still stands",
        AlarmState::Cleared => "good data says that it is over",
    };
    format!("alarm  {} {condition} {state}: {text}{suppressed}", alarm.device)
}

fn case_line(case: &Case) -> String {
    let (zh, en) = (&case.report.title_zh, &case.report.title);
    format!("case   {} {} ({}): {zh} {en}, {}", case.id, case.state.name(), case.state.name_zh(), case.report.place)
}

fn summary(gateway: &Gateway) -> anyhow::Result<String> {
    let counter = |name: &str| gateway.metrics.counter(name, "").get();
    let raised = gateway.metrics.counters("kerbside_alarms_raised_total", "", &["severity"]);
    let alarms: u64 = Severity::ALL.iter().map(|severity| raised.with_label_values(&[severity.name()]).get()).sum();
    let stats = gateway.store.stats().map_err(|error| anyhow::anyhow!("{}", Chain(&error)))?;
    Ok(format!(
        "summary: {} devices, {} readings, {alarms} alarms, {} cases, {} pushes, {} undecoded frames kept, \
         {} unknown devices",
        gateway.site.get().devices().len(),
        counter("kerbside_readings_total"),
        counter("kerbside_cases_opened_total"),
        counter("kerbside_notices_total"),
        stats.undecoded,
        stats.unknown_devices,
    ))
}
