mod functions;
mod links;
mod overrides;

use std::path::Path;
use std::time::Duration;

use kerbside_model::site::{AddressRule, FrameLimits, Unresolved};
use kerbside_model::topic::TopicRule;
use kerbside_model::vocabulary::Kind;
use kerbside_sources::mqtt::MqttVersion;

use super::*;

const LEVEL: &str = include_str!("../../../../device-profiles/json-level.yaml");

/// A sound beginning that needs no other files.
const SOUND: &str = "sources: {city: {type: mqtt, host: h, topics: [a/+], address: {topic: \"a/{device}\"}}}\n";

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    read_in(MemoryEnvironment::default(), text)
}

fn read_in(environment: MemoryEnvironment, text: &str) -> Result<Config, Vec<Problem>> {
    load(Path::new("etc/gateway.yaml"), &environment.with_file("etc/gateway.yaml", text))
}

fn sound(text: &str) -> Config {
    sound_in(MemoryEnvironment::default(), text)
}

fn sound_in(environment: MemoryEnvironment, text: &str) -> Config {
    read_in(environment, text).unwrap_or_else(|problems| panic!("{}", texts(&problems)))
}

fn texts(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// What is wrong with a text, as line and key.
fn wrong(text: &str) -> Vec<(usize, String)> {
    let problems = read(text).map(|config| format!("{config:#?}")).expect_err(text);
    for problem in &problems {
        assert!(!problem.what.is_empty() && !problem.mend.is_empty(), "{problem:?} leaves somebody alone");
    }
    problems.into_iter().map(|problem| (problem.line, problem.key)).collect()
}

/// What is wrong, the text, and where it is reported.
type Mistake<'a> = (&'a str, &'a str, &'a [(usize, &'a str)]);

// Long because it is a table: each mistake stands beside where it must be reported.
#[test]
fn each_mistake_is_reported_at_its_line_and_key() {
    let mqtt =
        "sources:\n  city:\n    type: mqtt\n    host: h\n    topics: [a/+]\n    address: {topic: \"a/{device}\"}\n";
    let cases: &[Mistake] = &[
        ("an unknown key", "lisen: 127.0.0.1:1\n", &[(1, "lisen")]),
        ("a section that is a value", "site: demo\n", &[(1, "site")]),
        ("no port", "listen: 127.0.0.1\n", &[(1, "listen")]),
        ("the street without accounts", "listen: 0.0.0.0:8080\n", &[(1, "listen")]),
        (
            "a broker for the street without accounts",
            "accounts: [{name: a, password: b}]\nsources:\n  b:\n    type: broker\n    listen: 0.0.0.0:1883\n",
            &[(5, "sources.b.listen")],
        ),
        (
            "an account twice",
            "accounts:\n  - {name: a, password: x}\n  - {name: a, password: y}\n",
            &[(3, "accounts[1].name")],
        ),
        ("a role that is not there", "accounts: [{name: a, password: x, role: boss}]\n", &[(1, "accounts[0].role")]),
        ("an account without password", "accounts: [{name: a}]\n", &[(1, "accounts[0].password")]),
        (
            "two listeners on one port",
            "listen: 127.0.0.1:1883\nsources:\n  b:\n    type: broker\n",
            &[(4, "sources.b.listen")],
        ),
        ("a URL for a phone that is none", "public_url: kerb\n", &[(1, "public_url")]),
        ("a time zone", "site: {zone: Asia/Shangri-La}\n", &[(1, "site.zone")]),
        ("a log level", "log: {level: loud}\n", &[(1, "log.level")]),
        ("a type that is missing", "sources:\n  a:\n    host: h\n", &[(3, "sources.a.type")]),
        ("a type that is unknown", "sources:\n  a:\n    type: mqt\n", &[(3, "sources.a.type")]),
        ("a name with a slash", "sources:\n  a/b:\n    type: broker\n", &[(3, "sources.a/b")]),
        (
            "everything that mqtt needs",
            "sources:\n  a:\n    type: mqtt\n",
            &[(3, "sources.a.address"), (3, "sources.a.host"), (3, "sources.a.topics")],
        ),
        (
            "a URL as host",
            "sources:\n  a:\n    type: mqtt\n    host: mqtt://h\n    topics: [a]\n    address: whole\n",
            &[(4, "sources.a.host")],
        ),
        (
            "a bad filter",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics:\n      - a/#/b\n      - filter: b+\n    address: whole\n",
            &[(6, "sources.a.topics[0]"), (7, "sources.a.topics[1]")],
        ),
        (
            "a QoS that is none",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [{filter: a, qos: 3}]\n    address: whole\n",
            &[(5, "sources.a.topics[0].qos")],
        ),
        (
            "a template without device",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+]\n    address: {topic: a/+}\n",
            &[(6, "sources.a.address.topic")],
        ),
        (
            "a template beside the filter",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+/b]\n    address: {topic: \"a/{device}\"}\n",
            &[(6, "sources.a.address")],
        ),
        (
            "a word for a kind that there is not",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+/+]\n    address:\n      topic: \"a/{kind}/{device}\"\n      kinds: {manhole: manhole}\n",
            &[(8, "sources.a.address.kinds")],
        ),
        (
            "words for kinds that no level names",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+/+]\n    address:\n      topic: \"a/+/{device}\"\n      kinds: {manhole: manhole_cover}\n",
            &[(8, "sources.a.address.kinds")],
        ),
        (
            "a placeholder that is part of a level",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+/+]\n    address: {topic: \"a/d-{district}/{device}\"}\n",
            &[(6, "sources.a.address.topic")],
        ),
        (
            "a claim that is no path",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+/+]\n    address:\n      topic: \"a/+/{device}\"\n      claim: a..b\n",
            &[(8, "sources.a.address.claim")],
        ),
        (
            "a claim where the payload names the device",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+/+]\n    address: {payload: id, claim: id}\n",
            &[(6, "sources.a.address.claim")],
        ),
        ("a burst of nothing", "limits: {device_burst: 0}\n", &[(1, "limits.device_burst")]),
        ("one device is no storm", "incidents: {storm: {devices: 1}}\n", &[(1, "incidents.storm.devices")]),
        ("a share of two", "incidents: {outage: {share: 2}}\n", &[(1, "incidents.outage.share")]),
        ("a reach beyond", "incidents: {covers: {reach_m: 3000}}\n", &[(1, "incidents.covers.extent_m")]),
        (
            "a rule for what is no condition of a group",
            "incidents:\n  groups:\n    - {condition: silent, becomes: outage}\n",
            &[(3, "incidents.groups[0].becomes"), (3, "incidents.groups[0].condition")],
        ),
        (
            "a link that is always down",
            "incidents: {source_down: {after: 0s}}\n",
            &[(1, "incidents.source_down.after")],
        ),
        (
            "rain on many topics of no source",
            "incidents:\n  rain_topics:\n    - {topic: rain/+, source: nobody, until: end, lasts: 1s}\n",
            &[
                (3, "incidents.rain_topics[0].lasts"),
                (3, "incidents.rain_topics[0].level"),
                (3, "incidents.rain_topics[0].source"),
                (3, "incidents.rain_topics[0].topic"),
            ],
        ),
        ("a window of a day", "limits: {duplicate_window: 1d}\n", &[(1, "limits.duplicate_window")]),
        (
            "two kinds of address",
            "sources:\n  a:\n    type: mqtt\n    host: h\n    topics: [a/+]\n    address: {topic: \"a/{device}\", payload: x}\n",
            &[(6, "sources.a.address")],
        ),
        ("a keep-alive of nothing", &format!("{mqtt}    keep_alive: 0s\n"), &[(7, "sources.city.keep_alive")]),
        ("a password without user", &format!("{mqtt}    password: x\n"), &[(3, "sources.city.username")]),
        (
            "a certificate without key",
            &format!("{mqtt}    tls: {{certificate: c.pem}}\n"),
            &[(7, "sources.city.tls.certificate"), (7, "sources.city.tls.key")],
        ),
        (
            "one client id twice",
            "sources:\n  a: {type: mqtt, host: h, topics: [a], address: whole, client_id: x}\n  b: {type: mqtt, host: h, topics: [a], address: whole, client_id: x}\n",
            &[(3, "sources.b.client_id")],
        ),
        (
            "ports beyond the last",
            &format!("{SOUND}  \n").replace("}}}", "}}, m: {type: modbus, host: h, port: 65500, count: 100}}"),
            &[(1, "sources.m.count")],
        ),
        (
            "a timeout of nothing",
            "sources:\n  m:\n    type: modbus\n    host: h\n    timeout: 0s\n    connect_timeout: 0s\n",
            &[(5, "sources.m.timeout"), (6, "sources.m.connect_timeout")],
        ),
        (
            "inline devices of a profile that is not there",
            "sources:\n  m:\n    type: modbus\n    host: h\n    devices: {profile: no-such-thing, id: x}\n",
            &[(5, "sources.m.devices.profile")],
        ),
        (
            "inline devices that read messages",
            "sources:\n  m:\n    type: modbus\n    host: h\n    devices: {profile: json-level, id: x}\n",
            &[(5, "sources.m.devices.profile")],
        ),
        (
            "inline ids that are all the same",
            "sources:\n  m:\n    type: modbus\n    host: h\n    count: 2\n    devices: {profile: qdy30a-level, id: x}\n",
            &[(6, "sources.m.devices.id")],
        ),
        (
            "a sink without its needs",
            "sinks:\n  i:\n    type: influx\n",
            &[(3, "sinks.i.bucket"), (3, "sinks.i.org"), (3, "sinks.i.url")],
        ),
        (
            "a sink with a user in its URL",
            "sinks: {i: {type: influx, url: \"http://u:p@h\", org: o, bucket: b}}\n",
            &[(1, "sinks.i.url")],
        ),
        (
            "an open311 without its needs",
            "platform:\n  type: open311\n",
            &[(2, "platform.service_code_default"), (2, "platform.url")],
        ),
        (
            "a service code for an unknown condition",
            "platform: {type: open311, url: \"http://h\", service_code_default: x, service_codes: {displacd: a}}\n",
            &[(1, "platform.service_codes")],
        ),
        (
            "a robot with its token in the URL",
            "channels: {a: {type: dingtalk, url: \"https://h/send?access_token=t\", token: x}}\n",
            &[(1, "channels.a.url")],
        ),
        (
            "robots without tokens",
            "channels:\n  a: {type: dingtalk}\n  b: {type: wecom}\n  c: {type: feishu}\n  d: {type: webhook}\n",
            &[(2, "channels.a.token"), (3, "channels.b.key"), (4, "channels.c.token"), (5, "channels.d.url")],
        ),
        ("a channel with the platform's name", "channels: {ledger: {type: show}}\n", &[(1, "channels")]),
        (
            "duty with an unknown channel",
            "channels: {console: {type: show}}\nduty: {steps: [{after: 0s, channels: [consol]}]}\n",
            &[(2, "duty.steps[0].channels")],
        ),
        (
            "duty steps out of order",
            "channels: {a: {type: show}}\nduty:\n  steps:\n    - {after: 5m, channels: [a]}\n    - {after: 5m, channels: [a]}\n",
            &[(5, "duty.steps[1].after")],
        ),
        ("duty without steps", "duty: {}\n", &[(1, "duty.steps")]),
        ("an inventory that is not there", "inventory: [a.csv, b.csv]\n", &[(1, "inventory"), (1, "inventory")]),
        ("a profiles folder that is not there", "profiles: own/\n", &[(1, "profiles")]),
        ("a quota too small to live", "store: {batches_bytes_max: 1KiB}\n", &[(1, "store.batches_bytes_max")]),
        ("no bytes in flight", "limits: {intake_bytes_max: 0B}\n", &[(1, "limits.intake_bytes_max")]),
        ("an unset variable", "data_dir: ${NOWHERE}\n", &[(1, "${NOWHERE}")]),
        ("broken YAML", "site: [1, 2\nlog: {}\n", &[(2, "")]),
    ];
    for (what, text, expected) in cases {
        let expected: Vec<(usize, String)> = expected.iter().map(|(line, key)| (*line, (*key).to_owned())).collect();
        assert_eq!(wrong(text), expected, "{what}");
    }
}

#[test]
fn every_mistake_of_a_file_is_reported_together_and_in_words() {
    let text = "\
site:
  nam: demo
listen: 0.0.0.0:8080
sources:
  city:
    type: mqtt
    host: broker.example
    version: 4
    topics: [city/+/up]
    address: {topic: \"city/{device}\"}
    password: {file: secret}
    username: kerbside
sinks:
  influx:
    type: influx
    url: http://127.0.0.1:8086
    org: city
    token: {env: TOKEN, file: token}
duty:
  steps: [{after: 5 minutes, channels: [phone]}]
";
    insta::assert_snapshot!(texts(&read(text).unwrap_err()));
}

#[test]
fn secrets_come_from_files_variables_credentials_and_text_and_are_never_printed() {
    let environment = MemoryEnvironment::default()
        .with_file("etc/secret", "hunter-file\n")
        .with_file("/run/credentials/kerbside/influx", "hunter-credential\r\n")
        .with_variable("CREDENTIALS_DIRECTORY", "/run/credentials/kerbside")
        .with_variable("TOKEN", "hunter-env")
        .with_variable("PLAIN", "hunter-plain");
    let text = "\
listen: 0.0.0.0:8080
accounts: [{name: ops, password: {file: secret}}]
sources:
  devices: {type: broker, accounts: [{name: pole, password: \"a${PLAIN}\"}]}
sinks:
  influx: {type: influx, url: \"http://h\", org: o, bucket: b, token: {credential: influx}}
channels:
  a: {type: feishu, token: {env: TOKEN}, secret: {value: hunter-value}}
  b: {type: webhook, url: \"http://h\", headers: {X-Token: {env: TOKEN}, X-Plain: hunter-header}}
";
    let config = sound_in(environment.clone(), text);
    assert_eq!(config.accounts[0].password.expose(), "hunter-file");
    assert_eq!(config.brokers[0].accounts[0].password.expose(), "ahunter-plain");
    assert_eq!(config.sinks[0].token.as_ref().unwrap().expose(), "hunter-credential");
    let debug = format!("{config:?} {environment:?}");
    assert!(debug.contains("***") && !debug.contains("hunter"), "{debug}");
}

#[test]
fn a_secret_that_cannot_be_had_names_where_it_should_be_and_never_what_it_is() {
    let environment = MemoryEnvironment::default().with_file("etc/latin", b"hunter\xff".as_slice());
    let text = "\
accounts:
  - {name: a, password: {file: nowhere}}
  - {name: b, password: {env: NOBODY}}
  - {name: c, password: {credential: none}}
  - {name: d, password: {credential: ../../shadow}}
  - {name: e, password: {file: latin}}
  - {name: f, password: {value: hunter, env: X}}
  - {name: g, password: [hunter]}
  - {name: h, password: \"\"}
  - {name: i, passwrd: hunter}
  - {name: j, password: {value: {deep: hunter}}}
sinks: {i: {type: influx, url: \"http://hunter:hunter@h\", org: o, bucket: b}}
";
    let problems = read_in(environment, text).unwrap_err();
    let all = texts(&problems) + &format!("{problems:?}");
    assert!(!all.contains("hunter"), "{all}");
    let lines: std::collections::BTreeSet<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, (2..=12).collect());
    assert!(all.contains("NOBODY is not set") && all.contains("nowhere"), "{all}");
}

#[test]
fn without_any_configuration_the_embedded_broker_listens_on_loopback_and_says_so() {
    let config = sound("");
    assert_eq!(config.brokers.len(), 1);
    assert_eq!(config.brokers[0].listen.to_string(), "127.0.0.1:1883");
    assert_eq!(config.site.address_rule("broker"), &AddressRule::Topic(TopicRule::of_level(3)));
    assert!(config.listen.ip().is_loopback());
    assert!(config.notices.iter().any(|notice| notice.contains("embedded broker")), "{:?}", config.notices);
    assert_eq!(config.site.facts().cases.platform, "ledger");
}

#[test]
fn a_template_names_district_kind_and_device_and_a_claim_is_checked() {
    let environment = MemoryEnvironment::default()
        .with_file("etc/level.yaml", LEVEL)
        .with_file("etc/i.csv", "id,profile,address\nEast,json-level,d01/7\nWest,json-level,d02/7\n");
    let text = "
inventory: i.csv
sources:
  city:
    type: mqtt
    host: h
    topics: [\"city/+/+/+/up\"]
    address: {topic: \"city/{district}/{kind}/{device}/up\", kinds: {level: drain}, claim: meta.id}
limits: {device_frames_per_second: 0, device_burst: 5, duplicate_window: 2s}
";
    let config = sound_in(environment, text);
    let AddressRule::Topic(rule) = config.site.address_rule("city") else { panic!("it is a topic") };
    let find = |topic: &str| {
        let parts = rule.parts(topic.as_bytes()).unwrap();
        config.site.resolve_topic("city", rule, &parts).map(|index| config.site.device(index).id.as_str())
    };
    assert_eq!(find("city/d01/level/7/up"), Ok("East"));
    assert_eq!(find("city/d02/drain/7/up"), Ok("West"));
    assert!(matches!(find("city/d02/pole/7/up"), Err(Unresolved::WrongKind { said: Kind::Pole, .. })));
    assert_eq!(
        config.site.source_rule("city").and_then(|rule| rule.claim.as_ref()).map(ToString::to_string).as_deref(),
        Some("meta.id")
    );
    let shown = ("city".to_owned(), "topic city/{district}/{kind}/{device}/up, claim meta.id".to_owned());
    assert_eq!(config.addresses, [shown]);
    let limits = FrameLimits { device_frames_per_second: 0, device_burst: 5, duplicate_window: Duration::from_secs(2) };
    assert_eq!(config.site.facts().limits, limits);
}

#[test]
fn the_embedded_broker_stays_off_when_a_broker_is_configured() {
    assert!(sound(SOUND).brokers.is_empty());
    assert_eq!(sound("sources: {m: {type: modbus, host: h}}\n").brokers.len(), 1, "a bus is no broker");
}

#[test]
fn accounts_open_the_gateway_to_the_street() {
    let config = sound("listen: 0.0.0.0:8080\naccounts: [{name: ops, password: secret}]\n");
    assert_eq!(config.accounts[0].name, "ops");
}

#[test]
fn a_device_that_no_sparkplug_node_can_be_is_pointed_out() {
    let notices = |address: &str, envelope: &str| {
        let inventory = format!("id,profile,address\nLV-1,sparkplug-level,{address}\n");
        let environment = MemoryEnvironment::default().with_file("etc/inventory.csv", inventory);
        let source = "nodes: {type: mqtt, host: h, topics: [spBv1.0/#], envelope: ";
        let config = sound_in(environment, &format!("inventory: inventory.csv\nsources: {{{source}{envelope}}}}}\n"));
        config.notices.iter().filter(|notice| notice.contains("GROUP/NODE")).cloned().collect::<Vec<_>>()
    };
    assert!(notices("drains/box-1/LV-1", "sparkplug_b").is_empty());
    let found = notices("spBv1.0/drains/DDATA/box-1/LV-1", "sparkplug_b");
    assert!(found.len() == 1 && found[0].contains("LV-1"), "{found:?}");
    assert!(notices("LV-1", "chirpstack_v4").is_empty());
}

#[test]
fn a_subscription_of_qos_2_is_taken_at_1_and_said_so() {
    let config = sound("sources: {a: {type: mqtt, host: h, topics: [{filter: a, qos: 2}, b], address: whole}}\n");
    let levels: Vec<u8> = config.mqtt[0].topics.iter().map(|topic| topic.qos).collect();
    assert_eq!(levels, [1, 1]);
    assert!(config.notices.iter().any(|notice| notice.contains("QoS 1 instead of 2")), "{:?}", config.notices);
}

#[test]
fn variables_are_replaced_before_types_are_read() {
    let environment = MemoryEnvironment::default().with_variable("PORT", "2883").with_variable("VERSION", "5");
    let text = "sources: {a: {type: mqtt, host: \"${HOST:-box}\", port: \"${PORT}\", version: \"${VERSION}\", topics: [a], address: whole, keep_alive: \"${S:-5}s\"}}\n";
    let config = sound_in(environment, text);
    let mqtt = &config.mqtt[0];
    assert_eq!((mqtt.host.as_str(), mqtt.port, mqtt.keep_alive), ("box", 2_883, Duration::from_secs(5)));
    assert_eq!(mqtt.version, MqttVersion::V5);
}

#[test]
fn tls_moves_the_port_and_relative_paths_start_at_the_file() {
    let environment = MemoryEnvironment::default().with_file("etc/ca.pem", "-----BEGIN CERTIFICATE-----");
    let text = "data_dir: data\nsources: {a: {type: mqtt, host: h, topics: [a], address: {payload: deviceInfo.devEui}, tls: {ca: ca.pem}}}\n";
    let config = sound_in(environment, text);
    assert_eq!(config.mqtt[0].port, 8_883);
    assert_eq!(config.mqtt[0].tls.as_ref().unwrap().ca.as_deref(), Some(Path::new("etc/ca.pem")));
    assert_eq!(config.data_dir, Path::new("etc/data"));
    assert_eq!(config.store.config.data_dir, config.data_dir);
}

#[test]
fn a_certificate_that_is_none_is_a_problem() {
    let environment = MemoryEnvironment::default().with_file("etc/ca.pem", "x");
    let text = "sinks: {i: {type: influx, url: \"http://h\", org: o, bucket: b, ca: ca.pem}}\n";
    let problems = read_in(environment, text).unwrap_err();
    assert_eq!((problems.len(), problems[0].key.as_str()), (1, "sinks.i.ca"), "{}", texts(&problems));
}

#[test]
fn a_row_that_is_wrong_is_a_warning_and_the_rest_runs() {
    let inventory = "\
id,profile,source,address,interval
DL-1,json-level,,DL-1,
DL-2,json-levle,,DL-2,
LV-1,qdy30a-level,bus,0:1,30s
LV-2,qdy30a-level,bus,0:01,
LV-3,qdy30a-level,bus,7,
LV-4,qdy30a-level,city,1,
LV-5,qdy30a-level,,1:2,
DL-3,json-level,bus,0:3,
LV-6,qdy30a-level,bus,2:1,
";
    let environment = MemoryEnvironment::default().with_file("etc/inventory.csv", inventory);
    let text = "\
inventory: inventory.csv
sources:
  city: {type: mqtt, host: h, topics: [a/+], address: {topic: \"a/{device}\"}}
  bus: {type: modbus, host: h, port: 1502, count: 2, period: 5s}
";
    let config = sound_in(environment, text);
    let warnings: Vec<(usize, &str)> =
        config.warnings.iter().map(|warning| (warning.line, warning.key.as_str())).collect();
    let expected = [(3, "profile"), (5, "address"), (6, "address"), (7, "profile"), (9, "profile"), (10, "address")];
    assert_eq!(warnings, expected, "{}", texts(&config.warnings));
    let ids: Vec<&str> = config.site.devices().iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, ["DL-1", "LV-1", "LV-5"]);
    assert_eq!(config.modbus.len(), 2);
    let (first, second) = (&config.modbus[0], &config.modbus[1]);
    let way = (first.name.as_str(), first.source.as_str(), first.link.to_string());
    assert_eq!(way, ("bus/0", "bus", "connect h:1502".to_owned()));
    assert_eq!(first.units[0].period(), Duration::from_secs(30), "the inventory's interval wins");
    assert_eq!((second.units[0].unit, second.units[0].address.as_str()), (2, "1:2"));
    assert_eq!(second.link.to_string(), "connect h:1503");
    assert_eq!(second.units[0].period(), Duration::from_secs(5), "then the source's period");
    assert!(!second.units[0].beats[0].fields.is_empty());
    let device = config.site.resolve("bus", b"1:2").unwrap();
    assert_eq!(config.site.profile_of(config.site.device(device)).name, "qdy30a-level");
}

#[test]
fn one_bus_has_plain_units_and_the_profiles_interval() {
    let environment = MemoryEnvironment::default().with_file("etc/i.csv", "id,profile,address\nM-1,qdy30a-level,7\n");
    let config = sound_in(environment, "inventory: i.csv\nsources: {bus: {type: modbus, host: h}}\n");
    let bus = &config.modbus[0];
    assert_eq!((bus.name.as_str(), bus.units[0].address.as_str(), bus.units[0].unit), ("bus", "7", 7));
    let profile = config.site.facts().profiles.iter().find(|profile| profile.name == "qdy30a-level").unwrap();
    assert_eq!(bus.units[0].period(), profile.interval.unwrap_or(Duration::from_secs(10)));
    assert!(config.site.resolve("bus", b"7").is_some());
}

#[test]
fn ids_and_addresses_are_unique_across_files() {
    let environment = MemoryEnvironment::default()
        .with_file("etc/a.csv", "id,profile,address\nD-1,json-level,x\n")
        .with_file("etc/b.csv", "id,profile,address\nD-1,json-level,y\nD-2,json-level,x\nD-3,json-level,z\n");
    let config = sound_in(environment, "inventory: [a.csv, b.csv]\n");
    let warnings: Vec<(usize, &str)> =
        config.warnings.iter().map(|warning| (warning.line, warning.key.as_str())).collect();
    assert_eq!(warnings, [(2, "id"), (3, "address")]);
    assert_eq!(config.site.devices().len(), 2);
}

#[test]
fn a_folder_of_profiles_adds_to_the_shipped_ones_and_overrides_them() {
    let environment = MemoryEnvironment::default()
        .with_file("etc/own/level.yaml", LEVEL)
        .with_file("etc/own/other.yaml", LEVEL.replace("profile: json-level\n", "profile: my-level\n"))
        .with_file("etc/own/README.md", "not a profile");
    let config = sound_in(environment, "profiles: own\n");
    assert!(config.profiles.iter().any(|profile| profile.name == "my-level"));
    let same = config.profiles.iter().filter(|profile| profile.name == "json-level").count();
    assert_eq!(same, 1);
    assert!(config.notices.iter().any(|notice| notice.contains("replaces the shipped one")), "{:?}", config.notices);
    assert!(config.site.facts().profiles.is_empty(), "only profiles in use belong to the site");
}

#[test]
fn a_broken_profile_is_one_problem_and_not_one_for_each_of_its_devices() {
    let environment = MemoryEnvironment::default()
        .with_file("etc/own/level.yaml", LEVEL.replace("points:", "pionts:").replace("json-level", "own-level"))
        .with_file("etc/i.csv", "id,profile,address\nD-1,own-level,x\nD-2,own-level,y\n");
    let problems = read_in(environment, "profiles: own\ninventory: i.csv\n").unwrap_err();
    assert!(!problems.is_empty());
    for problem in &problems {
        assert_eq!(problem.file, "etc/own/level.yaml", "{problem}");
    }
}

#[test]
fn without_duty_every_channel_is_told_at_once() {
    let config = sound("channels: {a: {type: show}, b: {type: show}}\n");
    let duty = &config.site.facts().duty;
    assert_eq!((duty.len(), duty[0].after, duty[0].channels.len()), (1, Duration::ZERO, 2));
}

#[test]
fn an_open311_platform_carries_its_codes_and_the_case_policy_names_it() {
    let environment = MemoryEnvironment::default().with_variable("KEY", "k");
    let text = "\
cases: {severity_min: major, close_after: 2h}
platform:
  type: open311
  name: city
  url: https://city.example/v2/
  api_key: {env: KEY}
  format: xml
  service_codes: {displaced: \"001\"}
  service_code_default: \"009\"
";
    let config = sound_in(environment, text);
    let PlatformConfig::Open311(platform) = &config.platform else { panic!("{:?}", config.platform) };
    assert_eq!(platform.url, "https://city.example/v2");
    assert_eq!(platform.service_codes, [("displaced".to_owned(), "001".to_owned())]);
    let policy = &config.site.facts().cases;
    assert_eq!((policy.platform.as_str(), policy.close_after), ("city", Duration::from_secs(7_200)));
}

#[test]
fn a_file_that_is_not_there_is_one_problem() {
    let problems = load(Path::new("nowhere.yaml"), &MemoryEnvironment::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("nowhere.yaml: this file cannot be read"), "{}", problems[0]);
}
