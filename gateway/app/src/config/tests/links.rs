//! The links of Modbus sources as they are written in gateway.yaml and in the inventory.

use kerbside_sources::modbus::{DialInFraming, Link, Notation, Parity, PortName, UnitPatience, UsbName};

use super::*;

const METER: &str = "id,profile,source,address\n";

fn buses(source: &str, rows: &str) -> Vec<ModbusConfig> {
    let inventory = format!("{METER}{rows}");
    let environment = MemoryEnvironment::default().with_file("etc/i.csv", inventory);
    let config = sound_in(environment, &format!("inventory: i.csv\nsources:\n  bus: {{type: modbus, {source}}}\n"));
    assert_eq!(config.warnings, [], "{source}");
    config.modbus
}

fn bus(source: &str) -> ModbusConfig {
    let mut buses = buses(source, "M-1,qdy30a-level,bus,7\n");
    assert_eq!(buses.len(), 1);
    buses.remove(0)
}

#[test]
fn a_serial_port_has_a_name_that_stays_and_is_9600_8n1_unless_it_is_said() {
    let config = bus("link: rtu, path: /dev/serial/by-id/usb-A");
    let Link::Serial(serial) = &config.link else { panic!("{config:?}") };
    assert_eq!(serial.port, PortName::Path("/dev/serial/by-id/usb-A".into()));
    assert_eq!((serial.line.baud, serial.line.parity, serial.line.stop_bits), (9_600, Parity::None, 1));
    assert_eq!(config.link.place(), "/dev/serial/by-id/usb-A (9600 8N1)");
    assert_eq!((config.name.as_str(), config.timeout), ("bus", Duration::from_secs(1)));

    let config = bus("link: rtu, usb: {vendor: \"0403\", product: 6001, serial: A1, interface: 1}, baud: 115200, \
                      parity: even, stop_bits: 2, data_bits: 8");
    let Link::Serial(serial) = &config.link else { panic!("{config:?}") };
    let name = UsbName { vendor: 0x0403, product: 0x6001, serial: Some("A1".to_owned()), interface: Some(1) };
    assert_eq!(serial.port, PortName::Usb(name));
    assert_eq!(config.link.place(), "USB 0403:6001 serial A1 interface 1 (115200 8E2)");
}

#[test]
fn a_converter_has_a_line_behind_it_when_its_speed_is_said() {
    let config = bus("link: rtu_over_tcp, host: h, port: 8899");
    assert!(matches!(config.link, Link::RtuOverTcp { line: None, .. }));
    assert_eq!(config.link.place(), "h:8899 (RTU over TCP)");
    let config = bus("link: rtu_over_tcp, host: h, port: 8899, baud: 4800, parity: odd, pause_after_connect: 1s");
    assert_eq!(config.link.serial_line().map(|line| line.to_string()), Some("4800 8O1".to_owned()));
    assert_eq!(config.pause_after_connect, Duration::from_secs(1));
}

#[test]
fn the_inventory_says_which_modems_there_are() {
    let rows = "M-1,qdy30a-level,bus,861234567890123:1\nM-2,qdy30a-level,bus,861234567890123:2\n\
                M-3,qdy30a-level,bus,a:b:1\n";
    let buses = buses("link: tcp_server, listen: 0.0.0.0:8899, heartbeat: ping", rows);
    let names: Vec<&str> = buses.iter().map(|bus| bus.name.as_str()).collect();
    assert_eq!(names, ["bus/861234567890123", "bus/a:b"]);
    assert_eq!(buses[0].units.len(), 2);
    assert_eq!(buses[0].units[1].address, "861234567890123:2");
    assert_eq!(buses[0].timeout, Duration::from_secs(5));
    let Link::DialIn(dial_in) = &buses[1].link else { panic!("{buses:?}") };
    assert_eq!((dial_in.registration.as_slice(), dial_in.desk.heartbeat.as_slice()), (&b"a:b"[..], &b"ping"[..]));
    assert_eq!(dial_in.desk.framing, DialInFraming::Rtu);
    assert_eq!(buses[1].link.to_string(), "wait for modem a:b at 0.0.0.0:8899");
}

#[test]
fn registrations_in_hexadecimal_have_one_form() {
    let buses = buses(
        "link: tcp_server, listen: 0.0.0.0:8899, registration: hex, heartbeat: fe00, framing: tcp",
        "M-1,qdy30a-level,bus,00A1:1\nM-2,qdy30a-level,bus,00a1:2\n",
    );
    assert_eq!(buses.len(), 1);
    let Link::DialIn(dial_in) = &buses[0].link else { panic!("{buses:?}") };
    assert_eq!((dial_in.registration.as_slice(), dial_in.desk.heartbeat.as_slice()), (&[0, 0xA1][..], &[0xFE, 0][..]));
    assert_eq!((dial_in.desk.notation, dial_in.desk.framing), (Notation::Hex, DialInFraming::Tcp));
}

#[test]
fn an_address_that_names_no_modem_is_left_out_with_its_row() {
    let inventory = format!("{METER}M-1,qdy30a-level,bus,7\nM-2,qdy30a-level,bus,{}:1\n", "x".repeat(65));
    let environment = MemoryEnvironment::default().with_file("etc/i.csv", inventory);
    let text = "inventory: i.csv\nsources:\n  bus: {type: modbus, link: tcp_server, listen: \"0.0.0.0:8899\"}\n";
    let warnings = sound_in(environment, text).warnings;
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[0].mend, "write MODEM:UNIT with the registration of the modem as text of up to 64 bytes");
}

#[test]
fn units_have_a_patience_of_their_own() {
    let config = bus("host: h, units: {7: {timeout: 3s}, 9: {pause: 50ms}}");
    let (timeout, pause) = (Some(Duration::from_secs(3)), Some(Duration::from_millis(50)));
    let expected = [(7, UnitPatience { timeout, pause: None }), (9, UnitPatience { timeout: None, pause })];
    assert_eq!(config.patience.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn each_mistake_of_a_link_is_reported_at_its_line_and_key() {
    let cases: &[(&str, &[&str])] = &[
        ("link: serial, host: h", &["link"]),
        ("link: rtu", &["path"]),
        ("link: rtu, path: ttyUSB0", &["path"]),
        ("link: rtu, path: /dev/ttyS1, usb: {vendor: \"0403\", product: \"6001\"}", &["path"]),
        ("link: rtu, usb: {vendor: 403, product: \"60010\"}", &["usb.product", "usb.vendor"]),
        ("link: rtu, usb: {vendor: \"0403\"}", &["usb.product"]),
        ("link: rtu, path: /dev/ttyS1, baud: 299", &["baud"]),
        ("link: rtu, path: /dev/ttyS1, data_bits: 7", &["data_bits"]),
        ("link: rtu, path: /dev/ttyS1, stop_bits: 3", &["stop_bits"]),
        ("link: rtu, path: /dev/ttyS1, parity: mark", &["parity"]),
        ("link: rtu, path: /dev/ttyS1, host: h", &["host"]),
        ("link: rtu_over_tcp, host: h", &["port"]),
        ("link: tcp_server", &["listen"]),
        ("link: tcp_server, listen: \"0.0.0.0:9\", registration: hex, heartbeat: p", &["heartbeat"]),
        ("link: tcp_server, listen: \"0.0.0.0:9\", registration: bytes", &["registration"]),
        ("link: tcp_server, listen: \"0.0.0.0:9\", devices: {profile: qdy30a-level, id: x}", &["devices"]),
        ("link: tcp_server, listen: \"127.0.0.1:8080\"", &["listen"]),
        ("host: h, units: {256: {pause: 1s}, 1: {timeout: 1ms}}", &["units.1.timeout", "units.256"]),
    ];
    for (source, keys) in cases {
        let found = wrong(&format!("sources:\n  bus: {{type: modbus, {source}}}\n"));
        let expected: Vec<_> = keys.iter().map(|key| (2, format!("sources.bus.{key}"))).collect();
        assert_eq!(found, expected, "{source}");
    }
}
