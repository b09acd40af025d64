//! gateway.example.yaml is the reference, so it must say what the code does; and the bench configurations must load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example() -> String {
    std::fs::read_to_string(repository().join("gateway.example.yaml")).unwrap()
}

fn load_text(text: &str) -> Config {
    let environment = MemoryEnvironment::default().with_file("gateway.yaml", text);
    match load(Path::new("gateway.yaml"), &environment) {
        Ok(config) => config,
        Err(problems) => panic!("{}", texts(&problems)),
    }
}

fn texts(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Takes the `#` from every line with a commented default; gives the text and how many lines there were.
fn with_defaults(text: &str) -> (String, usize) {
    let mut result = String::new();
    let mut count = 0;
    for line in text.lines() {
        let rest = line.trim_start();
        let indentation = &line[..line.len() - rest.len()];
        match rest.strip_prefix("# ") {
            Some(default) => {
                count += 1;
                result.push_str(&format!("{indentation}{default}\n"));
            }
            None => result.push_str(&format!("{line}\n")),
        }
    }
    (result, count)
}

#[test]
fn the_defaults_in_the_example_are_those_of_the_code() {
    let (text, count) = with_defaults(&example());
    assert!(count > 30, "only {count} commented defaults were found");
    assert_eq!(format!("{:#?}", load_text(&text)), format!("{:#?}", load_text(&example())));
}

#[test]
fn the_example_is_sound_where_it_lies() {
    let loaded = load(&repository().join("gateway.example.yaml"), &ProcessEnvironment);
    let config = loaded.unwrap_or_else(|problems| panic!("{}", texts(&problems)));
    assert_eq!(config.warnings, []);
}

#[test]
fn the_example_explains_every_key_that_is_known() {
    // A key that nobody knows in each section brings the list of those that are known.
    let text = "
zzz: 1
site: {zzz: 1}
log: {zzz: 1}
accounts: [{zzz: 1}]
sources:
  a: {type: mqtt, zzz: 1, tls: {zzz: 1}, address: {zzz: 1}, topics: [{zzz: 1}]}
  b: {type: modbus, zzz: 1, devices: {zzz: 1}}
  b1: {type: modbus, link: rtu, usb: {zzz: 1}, zzz: 1, units: {1: {zzz: 1}}}
  b2: {type: modbus, link: rtu_over_tcp, zzz: 1}
  b3: {type: modbus, link: tcp_server, zzz: 1}
  c: {type: broker, zzz: 1}
sinks: {a: {type: influx, zzz: 1, token: {zzz: 1}}}
platform: {type: open311, zzz: 1}
channels:
  a: {type: dingtalk, zzz: 1}
  b: {type: wecom, zzz: 1}
  c: {type: feishu, zzz: 1}
  d: {type: webhook, zzz: 1}
  e: {type: show, zzz: 1}
duty: {zzz: 1, steps: [{zzz: 1}]}
cases: {zzz: 1}
store: {zzz: 1}
limits: {zzz: 1}
";
    let environment = MemoryEnvironment::default().with_file("gateway.yaml", text);
    let problems = load(Path::new("gateway.yaml"), &environment).unwrap_err();
    let lists: Vec<&str> =
        problems.iter().filter_map(|problem| problem.mend.strip_prefix("known keys here: ")).collect();
    assert_eq!(lists.len(), text.matches("zzz").count(), "{}", texts(&problems));
    let known: BTreeSet<&str> = lists.iter().flat_map(|list| list.split(", ")).collect();
    let example = example();
    let missing: Vec<&&str> = known.iter().filter(|key| !example.contains(&format!("{key}:"))).collect();
    assert_eq!(missing, Vec::<&&str>::new());
    assert!(known.len() > 70, "only {} keys", known.len());
}

#[test]
fn the_ingest_bench_subscribes_and_writes_where_the_environment_says() {
    let environment = Overlay(&[
        ("MQTT_PORT", "21883"),
        ("QOS", "0"),
        ("INFLUX_URL", "http://127.0.0.1:28086"),
        ("DATA_DIR", "/var/tmp/kerbside-bench"),
    ]);
    let config = load(&repository().join("bench/ingest.yaml"), &environment)
        .unwrap_or_else(|problems| panic!("{}", texts(&problems)));
    assert_eq!(config.warnings, []);
    assert_eq!((config.mqtt[0].port, config.mqtt[0].topics[0].qos), (21_883, 0));
    assert_eq!(config.sinks[0].url, "http://127.0.0.1:28086");
    assert_eq!(config.data_dir, Path::new("/var/tmp/kerbside-bench"));
    assert_eq!(config.site.devices().len(), 10_000);
    assert!(config.brokers.is_empty());
}

#[test]
fn the_modbus_bench_polls_two_hundred_buses() {
    let environment = Overlay(&[
        ("MODBUS_BASE_PORT", "15000"),
        ("POLL_MS", "0"),
        ("INFLUX_URL", "http://127.0.0.1:28086"),
        ("DATA_DIR", "/var/tmp/kerbside-bench"),
    ]);
    let config = load(&repository().join("bench/modbus.yaml"), &environment)
        .unwrap_or_else(|problems| panic!("{}", texts(&problems)));
    assert_eq!(config.modbus.len(), 200);
    let last = &config.modbus[199];
    assert_eq!((last.name.as_str(), last.units[0].address.as_str()), ("poles/199", "199:1"));
    assert!(last.link.to_string().ends_with(":15199"), "{}", last.link);
    assert!(!last.units[0].period().is_zero(), "a period of nothing would spin");
    let device = config.site.resolve("poles", b"199:1").unwrap();
    assert_eq!(config.site.device(device).id, "MB-0199");
}

/// The files of the machine with variables of the test.
struct Overlay(&'static [(&'static str, &'static str)]);

impl Environment for Overlay {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        ProcessEnvironment.read(path)
    }

    fn list(&self, folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        ProcessEnvironment.list(folder)
    }
}
