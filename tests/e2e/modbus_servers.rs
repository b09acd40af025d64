//! Real Modbus servers, pymodbus and libmodbus, hold values that they wrote themselves; what `kerbside run` brings into
//! the database must be these values, in every type and order that the servers can write.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::external::{PYTHON, Program};
use crate::gateway::{Finished, Site, free_port, loopback};
use crate::influx::Influx;
use crate::wait::{SOON, wait_for, wait_until};

const INVENTORY: &str = "id,profile,source,address,interval\nALL-1,all-types,bus,1,500ms\n";
/// All values are polled again and again, so that what stays the same is stored at several times.
const POLLS: usize = 3;

/// A value of a unit, as the server was told to write it and as it must come out.
struct Case {
    point: &'static str,
    /// What stands in the profile beside the name.
    profile: &'static str,
    /// What the server is told: type, order, value; without these the address is one that it refuses.
    told: &'static str,
    /// The field in the database.
    field: &'static str,
}

const fn case(point: &'static str, profile: &'static str, told: &'static str, field: &'static str) -> Case {
    Case { point, profile, told, field }
}

/// What both servers can write. Tables and addresses are those of the profile.
const COMMON: [Case; 14] = [
    case("gone", "register: {table: holding, address: 300}", "", ""),
    case("u16", "register: {table: holding, address: 0}", "WORD big 65535", "65535"),
    case("i16", "register: {table: input, address: 0, type: i16}", "WORD big 0xFFF6", "-10"),
    case("ba", "register: {table: input, address: 1, order: ba}", "WORD big 0x0100", "1"),
    case("high", "register: {table: input, address: 2, type: u8, byte: high}", "WORD big 0x12F0", "18"),
    case("low", "register: {table: input, address: 2, type: i8, byte: low}", "WORD big 0x12F0", "-16"),
    case("bcd", "scale: 0.1\n    register: {table: holding, address: 2, type: bcd4}", "WORD big 0x1234", "123.4"),
    case(
        "mode",
        "type: enumeration\n    map: {1: off, 2: lit}\n    register: {table: holding, address: 3, bits: {from: 4, count: 2}}",
        "WORD big 0x0020",
        "\"lit\"",
    ),
    case("lit", "type: boolean\n    register: {table: holding, address: 3, bit: 5}", "WORD big 0x0020", "true"),
    case("minus", "register: {table: holding, address: 4, type: i16, sign: magnitude}", "WORD big 0x8007", "-7"),
    case("coil", "type: boolean\n    register: {table: coil, address: 3}", "BIT big 1", "true"),
    case("contact", "type: boolean\n    register: {table: discrete, address: 4}", "BIT big 1", "true"),
    case("i32", "register: {table: holding, address: 10, type: i32}", "INT32 big -100000", "-100000"),
    case("i64", "register: {table: holding, address: 12, type: i64}", "INT64 big -123456789012", "-123456789012"),
];

const PYMODBUS: [Case; 13] = [
    case("f32_abcd", "register: {table: holding, address: 20, type: f32}", "FLOAT32 big 230.2", "230.2"),
    case(
        "f32_cdab",
        "register: {table: holding, address: 22, type: f32, order: cdab}",
        "FLOAT32 little 230.2",
        "230.2",
    ),
    case("f64_big", "register: {table: holding, address: 24, type: f64}", "FLOAT64 big 0.1", "0.1"),
    case(
        "f64_little",
        "register: {table: holding, address: 28, type: f64, words: little}",
        "FLOAT64 little -0.1",
        "-0.1",
    ),
    case("u32_big", "register: {table: holding, address: 32, type: u32}", "UINT32 big 4000000000", "4000000000"),
    case(
        "u32_little",
        "register: {table: holding, address: 34, type: u32, order: cdab}",
        "UINT32 little 70000",
        "70000",
    ),
    case("i32_little", "register: {table: holding, address: 36, type: i32, order: cdab}", "INT32 little -2", "-2"),
    case(
        "u64_big",
        "register: {table: input, address: 38, type: u64}",
        "UINT64 big 9007199254740991",
        "9007199254740991",
    ),
    case("i64_little", "register: {table: input, address: 42, type: i64, order: ghefcdab}", "INT64 little -5", "-5"),
    case(
        "digits",
        "type: text\n    register: {table: input, address: 46, type: u64}",
        "UINT64 big 18446744073709551615",
        "\"18446744073709551615\"",
    ),
    case(
        "model",
        "type: text\n    register: {table: input, address: 50, type: text, length: 8, encoding: utf-8}",
        "STRING big SDM 120 灯杆  ",
        "\"SDM 120 灯杆\"",
    ),
    case("scaled", "register: {table: input, address: 60, exponent: {address: 61}}", "WORD big 1234", "12.34"),
    case("power", "register: {table: input, address: 61, type: i16}", "WORD big 0xFFFE", "-2"),
];

const LIBMODBUS: [Case; 4] = [
    case("f32_abcd", "register: {table: holding, address: 20, type: f32}", "FLOAT32 abcd 230.2", "230.2"),
    case("f32_cdab", "register: {table: holding, address: 22, type: f32, order: cdab}", "FLOAT32 cdab -0.1", "-0.1"),
    case("f32_badc", "register: {table: input, address: 24, type: f32, order: badc}", "FLOAT32 badc 50.01", "50.01"),
    case("f32_dcba", "register: {table: input, address: 26, type: f32, order: dcba}", "FLOAT32 dcba 1e9", "1000000000"),
];

/// `key: value` in the flow of a profile's line.
fn value_of<'a>(case: &Case, text: &'a str, key: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("{key}: ")).unwrap_or_else(|| panic!("{} has no {key}", case.point));
    rest.split([',', '}']).next().unwrap()
}

/// The list from which a server takes its values.
fn list(cases: &[&Case]) -> String {
    let mut list = String::new();
    for case in cases.iter().filter(|case| !case.told.is_empty()) {
        let (table, address) = (value_of(case, case.profile, "table"), value_of(case, case.profile, "address"));
        writeln!(list, "{table} {address} {}", case.told).unwrap();
    }
    list
}

fn profile(cases: &[&Case]) -> String {
    let mut text = "profile: all-types\nversion: 1\nkind: meter\nvendor: Test\nmodel: All types\n\
                    payload: {format: registers, registers_max: 20}\npoints:\n"
        .to_owned();
    for case in cases {
        writeln!(text, "  - name: {}\n    {}", case.point, case.profile).unwrap();
    }
    text.push_str(
        "samples:\n  - {name: one, registers: {holding: {0: [7]}}, readings: {u16: 7}}\n  \
         - {name: none, registers: {failures: [{table: holding, address: 0, cause: timeout}]}, readings: {u16: null}}\n",
    );
    text
}

/// Runs the gateway on `link` until the database has the values of all cases several times running.
async fn check(cases: &[&Case], link: &str) {
    let influx = Influx::start().await;
    let mut site = Site::new(INVENTORY);
    site.write("profiles/all-types.yaml", &profile(cases));
    let bus = format!("  bus: {{type: modbus, {link}, timeout: 2s, backoff_max: 1s}}\n");
    let sources = format!("profiles: profiles/\nsources:\n{bus}{}", site.embedded_broker());
    site.configure(&[sources, Influx::config(influx.port())].concat());
    let gateway = site.start().await;
    let expected: BTreeMap<String, String> = cases
        .iter()
        .filter(|case| !case.told.is_empty())
        .map(|case| (case.point.to_owned(), case.field.to_owned()))
        .collect();
    wait_for("the values are in the database", SOON, || {
        let points = influx.points_of("ALL-1");
        let newest = &points[points.len().saturating_sub(POLLS)..];
        let found = newest.iter().map(|point| {
            let is_wanted = |name: &String| name != "received_at" && !name.starts_with("gone");
            let fields = point.fields.iter().filter(|(name, _)| is_wanted(name));
            fields.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        });
        let wrong = found.flat_map(|found| {
            let names: Vec<&String> = expected.keys().chain(found.keys()).collect();
            let differs = |name: &&String| found.get(*name) != expected.get(*name);
            let names = names.into_iter().filter(differs);
            names.map(|name| format!("{name} is {:?}", found.get(name))).collect::<Vec<_>>()
        });
        let wrong: Vec<String> = wrong.collect();
        let refused = newest.iter().all(|point| {
            let quality = point.fields.get("gone_q").is_some_and(|quality| quality.starts_with("\"missing:"));
            quality && !point.fields.contains_key("gone")
        });
        match wrong.is_empty() && refused && newest.len() == POLLS {
            true => Ok(()),
            false => Err(format!("{} points; {wrong:#?}; the refused one is missing: {refused}", points.len())),
        }
    })
    .await;
    influx.assert_content();
    gateway.stop().await;
}

/// What stands in the newest row of a device.
fn newest(influx: &Influx, device: &str) -> BTreeMap<String, String> {
    influx.points_of(device).pop().map(|point| point.fields).unwrap_or_default()
}

/// A server and its folder.
struct Server {
    folder: TempDir,
    program: Option<Program>,
}

impl Server {
    fn new(list: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list.txt"), list).unwrap();
        Server { folder, program: None }
    }

    /// A server on pymodbus; its port.
    async fn start_python(&mut self) -> u16 {
        let port = free_port();
        let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
        let (script, list) = (source("modbus_values.py"), self.path("list.txt"));
        self.start(&python, &[script.to_str().unwrap(), &port.to_string(), &list]);
        self.wait_for_port(port).await;
        port
    }

    /// A server on libmodbus behind a serial port; gives the port.
    async fn start_serial(&mut self) -> String {
        let (program, list) = (self.compile(), self.path("list.txt"));
        self.start(&program, &["rtu", &list]);
        wait_for("the server names its port", SOON, || {
            let log = self.log();
            match log.strip_suffix('\n') {
                Some(port) if port.starts_with("/dev/") => Ok(port.to_owned()),
                _ => Err(log),
            }
        })
        .await
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn start(&mut self, program: &str, arguments: &[&str]) {
        self.program = Some(Program::start(&[program], arguments, Path::new(&self.path("log.txt"))));
    }

    fn log(&self) -> String {
        self.program.as_ref().map(Program::log).unwrap_or_default()
    }

    async fn wait_for_port(&self, port: u16) {
        wait_until("the Modbus server listens", SOON, || async {
            TcpStream::connect(loopback(port)).await.map(drop).map_err(|error| format!("{error}; {}", self.log()))
        })
        .await;
    }

    /// Compiles the server on libmodbus into the folder.
    fn compile(&self) -> String {
        let source = source("modbus_values.c");
        let program = self.path("modbus_values");
        let mut compiler = Command::new("cc");
        compiler.args(["-std=gnu11", "-Wall", "-Werror", "-O1"]).arg(source).args(["-lmodbus", "-o", &program]);
        let output = compiler.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "libmodbus is not there, tests/run installs it: {errors}");
        program
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs python with pymodbus: run tests/run"]
async fn what_pymodbus_wrote_in_every_type_is_in_the_database() {
    let cases: Vec<&Case> = COMMON.iter().chain(&PYMODBUS).collect();
    let mut server = Server::new(&list(&cases));
    let port = server.start_python().await;
    check(&cases, &format!("host: 127.0.0.1, port: {port}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libmodbus and a C compiler: run tests/run"]
async fn what_libmodbus_wrote_in_every_order_is_in_the_database() {
    let cases: Vec<&Case> = COMMON.iter().chain(&LIBMODBUS).collect();
    let mut server = Server::new(&list(&cases));
    let port = free_port();
    let (program, list) = (server.compile(), server.path("list.txt"));
    server.start(&program, &["tcp", &port.to_string(), &list]);
    server.wait_for_port(port).await;
    check(&cases, &format!("host: 127.0.0.1, port: {port}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs python with pymodbus: run tests/run"]
async fn a_meter_that_knows_only_function_4_is_read_with_the_profile_of_function_3() {
    let values = [("8192", "230.5"), ("8194", "1.25"), ("8196", "0.25"), ("8198", "-0.125"), ("8202", "0.875")];
    let energies = [("8206", "50"), ("16384", "1234.5"), ("16394", "0")];
    let line = |(address, value): &(&str, &str)| format!("input {address} FLOAT32 big {value}\n");
    let mut server = Server::new(&values.iter().chain(&energies).map(line).collect::<String>());
    let port = server.start_python().await;
    let influx = Influx::start().await;
    let mut site = Site::new("编号,设备模型,来源,地址,上报间隔,功能码\nDM-1,chint-ddsu666,bus,1,500ms,4\n");
    let bus = format!("sources:\n  bus: {{type: modbus, host: 127.0.0.1, port: {port}, backoff_max: 1s}}\n");
    site.configure(&[bus, site.embedded_broker(), Influx::config(influx.port())].concat());
    let gateway = site.start().await;
    let expected = [("voltage_v", "230.5"), ("active_power_w", "250"), ("energy_import_kwh", "1234.5")];
    wait_for("the meter's values are in the database", SOON, || {
        let fields = newest(&influx, "DM-1");
        let is_there = |(name, value): &(&str, &str)| fields.get(*name).is_some_and(|found| found == value);
        if expected.iter().all(is_there) { Ok(()) } else { Err(format!("{fields:?}")) }
    })
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libmodbus and a C compiler: run tests/run"]
async fn what_libmodbus_wrote_comes_over_a_serial_line_as_well() {
    let cases: Vec<&Case> = COMMON.iter().chain(&LIBMODBUS).collect();
    let mut server = Server::new(&list(&cases));
    let port = server.start_serial().await;
    check(&cases, &format!("link: rtu, path: {port}, baud: 115200")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libmodbus and a C compiler: run tests/run"]
async fn a_unit_of_libmodbus_is_found_on_a_serial_line() {
    let cases: Vec<&Case> = COMMON.iter().chain(&LIBMODBUS).collect();
    let mut server = Server::new(&list(&cases));
    let port = server.start_serial().await;
    let place = format!("rtu://{port}?baud=115200");
    let scan = Finished::run(&["modbus", "scan", &place, "--units", "1-4", "--timeout", "200ms", "--json"]);
    let found = scan.json();
    let units: Vec<&serde_json::Value> = found["units"].as_array().into_iter().flatten().collect();
    assert_eq!(units.len(), 1, "{scan:?}");
    assert_eq!((&units[0]["unit"], &units[0]["tables"]["holding"]), (&1.into(), &"answers".into()), "{scan:?}");
    // It does not say who it is: libmodbus takes a request of function 43 on a serial line for two.
}
