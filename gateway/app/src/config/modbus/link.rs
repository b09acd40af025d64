//! The key `link` of a Modbus source, and what belongs to each way: how its buses are reached.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_sources::modbus::{
    DeskConfig, DialInConfig, DialInFraming, Endpoint, Link, Notation, Parity, PortName, SerialConfig, SerialLine,
    UnitPatience, UsbName,
};

use super::super::read;
use super::{Bus, TIMEOUT_MAX, TIMEOUT_MIN};

/// IANA's port for Modbus.
const PORT: u16 = 502;
/// Buses of one source.
const BUSES_MAX: i64 = 4_096;
/// What most sensors are delivered with, in China nearly all: 9600 8N1. The specification's own 19200 8E1 is rare.
const BAUD: u32 = 9_600;
/// The slowest that is sold, and the fastest that an adapter does.
const BAUD_MIN: i64 = 300;
const BAUD_MAX: i64 = 4_000_000;
/// A slow sensor behind a serial line answers within some hundred milliseconds.
const TIMEOUT: Duration = Duration::from_secs(1);
/// ... and behind a mobile network it may first have to wake up its modem.
const MODEM_TIMEOUT: Duration = Duration::from_secs(5);
/// Common modems allow 40 bytes of text.
const REGISTRATION_BYTES: usize = 64;
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
const WAITING: usize = 64;

/// The way to the buses of a source.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// Buses at consecutive ports of one host.
    Ports { host: String, port: u16, count: u16, passes_bytes: bool, line: Option<SerialLine> },
    /// One bus at a serial port of this machine.
    Serial(SerialConfig),
    /// As many buses as modems that dial in.
    Modems(DeskConfig),
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Rtu,
    RtuOverTcp,
    TcpServer,
}

/// Reads the keys of the link.
pub(super) fn read(name: &str, section: &Section<'_>) -> Way {
    let kinds =
        [("tcp", Kind::Tcp), ("rtu", Kind::Rtu), ("rtu_over_tcp", Kind::RtuOverTcp), ("tcp_server", Kind::TcpServer)];
    match section.choice("link", &kinds).unwrap_or(Kind::Tcp) {
        Kind::Tcp => ports(section, false),
        Kind::RtuOverTcp => {
            if !section.has("port") {
                section.missing("port", "write the port of the converter, such as 8899 or 4001");
            }
            ports(section, true)
        }
        Kind::Rtu => {
            let line = line(section, true).unwrap_or(SerialLine { baud: BAUD, parity: Parity::None, stop_bits: 1 });
            Way::Serial(SerialConfig { port: port_name(section), line })
        }
        Kind::TcpServer => Way::Modems(desk(name, section)),
    }
}

fn ports(section: &Section<'_>, passes_bytes: bool) -> Way {
    let port = read::port(section, "port", PORT);
    let count = u16::try_from(read::count(section, "count", 1, 1..=BUSES_MAX)).expect("BUSES_MAX fits 16 bits");
    if port.checked_add(count - 1).is_none() {
        let what = format!("{count} buses from port {port} on end beyond port 65535");
        section.problem("count", &count.to_string(), what, "begin at a lower port or have fewer buses");
    }
    let line = if passes_bytes { line(section, false) } else { None };
    Way::Ports { host: read::host(section), port, count, passes_bytes, line }
}

/// Speed and form of characters; `is_ours` says that we set them, else they are only known when `baud` is written.
fn line(section: &Section<'_>, is_ours: bool) -> Option<SerialLine> {
    let baud = section.integer("baud", BAUD_MIN, BAUD_MAX).map(|baud| u32::try_from(baud).expect("not over BAUD_MAX"));
    let parities = [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
    let parity = section.choice("parity", &parities).unwrap_or(Parity::None);
    let stop_bits = section.integer("stop_bits", 1, 2).unwrap_or(1);
    if section.integer("data_bits", 7, 8) == Some(7) {
        let what = "RTU needs 8 data bits: with 7 the units speak Modbus ASCII";
        section.problem("data_bits", "7", what, "set the units to RTU with 8 data bits");
    }
    let baud = if is_ours { baud.unwrap_or(BAUD) } else { baud? };
    Some(SerialLine { baud, parity, stop_bits: u8::try_from(stop_bits).expect("1 or 2") })
}

fn port_name(section: &Section<'_>) -> PortName {
    let path = section.text("path");
    let usb = section.section("usb");
    let mend = "write `path: /dev/serial/by-id/...`, or `usb: {vendor: \"0403\", product: \"6001\", serial: ...}`";
    match (path, usb) {
        (Some(path), None) if path.starts_with('/') => PortName::Path(PathBuf::from(path)),
        (Some(path), None) => {
            section.problem("path", &path, "not the path of a device", mend);
            PortName::Path(PathBuf::new())
        }
        (None, Some(usb)) => PortName::Usb(usb_name(usb)),
        (None, None) => {
            section.missing("path", mend);
            PortName::Path(PathBuf::new())
        }
        (Some(path), Some(usb)) => {
            section.problem("path", &path, "`usb` names a port too", "keep one of the two");
            PortName::Usb(usb_name(usb))
        }
    }
}

fn usb_name(section: Section<'_>) -> UsbName {
    let id = |key: &'static str| {
        let mend = "write the four hexadecimal digits that lsusb shows, in quotes: \"0403\"";
        let text = section.required_text(key, mend);
        let is_id = text.len() == 4 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_id && !text.is_empty() {
            section.problem(key, &text, "not four hexadecimal digits", mend);
        }
        u16::from_str_radix(&text, 16).unwrap_or(0)
    };
    let (vendor, product) = (id("vendor"), id("product"));
    let interface = section.integer("interface", 0, 255);
    let name = UsbName {
        vendor,
        product,
        serial: section.text("serial"),
        interface: interface.map(|number| u8::try_from(number).expect("checked against 255")),
    };
    section.known_only();
    name
}

fn desk(name: &str, section: &Section<'_>) -> DeskConfig {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if !section.has("listen") {
        section.missing("listen", "write where modems dial in, such as 0.0.0.0:8899");
    }
    let framings = [("rtu", DialInFraming::Rtu), ("tcp", DialInFraming::Tcp)];
    let notations = [("text", Notation::Text), ("hex", Notation::Hex)];
    let notation = section.choice("registration", &notations).unwrap_or(Notation::Text);
    let heartbeat = section.text("heartbeat").map(|text| match notation.read(&text) {
        Some(bytes) => bytes,
        None => {
            let mend = "with `registration: hex` write two hexadecimal digits for each byte, else some text";
            section.problem("heartbeat", &text, "not the bytes of a heartbeat", mend);
            Vec::new()
        }
    });
    DeskConfig {
        name: name.to_owned(),
        listen: read::listen(section, "listen", nowhere),
        framing: section.choice("framing", &framings).unwrap_or(DialInFraming::Rtu),
        notation,
        heartbeat: heartbeat.unwrap_or_default(),
        registration_bytes_max: read::count(section, "registration_bytes_max", REGISTRATION_BYTES, 1..=1_024),
        registration_timeout: read::duration(
            section,
            "registration_timeout",
            REGISTRATION_TIMEOUT,
            Duration::from_secs(1)..=Duration::from_secs(300),
        ),
        waiting_max: read::count(section, "waiting_max", WAITING, 1..=10_000),
        line: line(section, false),
    }
}

/// Units that need another patience than their bus, by number.
pub(super) fn patience(section: &Section<'_>) -> BTreeMap<u8, UnitPatience> {
    let mut patience = BTreeMap::new();
    for (unit, inner) in section.named_sections("units") {
        let timeout = read::optional_duration(&inner, "timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
        let pause = read::optional_duration(&inner, "pause", Duration::ZERO..=TIMEOUT_MAX);
        match unit.parse() {
            Ok(unit) => {
                patience.insert(unit, UnitPatience { timeout, pause });
            }
            Err(_) => inner.problem("", &unit, "not the number of a unit", "write a number from 0 to 255"),
        }
        inner.known_only();
    }
    patience
}

impl Way {
    /// Longest wait for an answer where none is written.
    pub(super) fn timeout(&self) -> Duration {
        if matches!(self, Way::Modems(_)) { MODEM_TIMEOUT } else { TIMEOUT }
    }

    /// How many buses there are; nothing when the inventory decides.
    pub(super) fn count(&self) -> Option<u16> {
        match self {
            Way::Ports { count, .. } => Some(*count),
            Way::Serial(_) => Some(1),
            Way::Modems(_) => None,
        }
    }

    /// The link of one bus.
    pub(super) fn link(&self, bus: &Bus) -> Link {
        match (self, bus) {
            (Way::Ports { host, port, passes_bytes, line, .. }, Bus::Number(bus)) => {
                // `read` checked that the last bus has a port.
                let endpoint = Endpoint { host: host.clone(), port: port.saturating_add(*bus) };
                if *passes_bytes { Link::RtuOverTcp { endpoint, line: *line } } else { Link::Tcp(endpoint) }
            }
            (Way::Serial(serial), _) => Link::Serial(serial.clone()),
            (Way::Modems(desk), Bus::Modem(modem)) => {
                let registration = desk.notation.read(modem).expect("an address is only taken when it can be read");
                Link::DialIn(DialInConfig { desk: desk.clone(), registration })
            }
            (Way::Ports { .. }, Bus::Modem(_)) | (Way::Modems(_), Bus::Number(_)) => {
                unreachable!("the addresses of a source fit its link")
            }
        }
    }
}
