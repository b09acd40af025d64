//! Turns how a bus is written on the command line into a link, or into the name of a bus of the running gateway.

use std::fmt;
use std::path::PathBuf;

use kerbside_sources::modbus::{Endpoint, Link, Parity, PortName, SerialConfig, SerialLine};

/// IANA's port for Modbus.
const MODBUS_PORT: u16 = 502;
/// What most sensors are delivered with.
const LINE: SerialLine = SerialLine { baud: 9_600, parity: Parity::None, stop_bits: 1 };
/// The slowest that is sold, and the fastest that an adapter does.
const BAUDS: std::ops::RangeInclusive<u32> = 300..=4_000_000;
const FORMS: &str = "write tcp://HOST:502, rtu:///dev/serial/by-id/...?baud=9600&parity=even, rtu+tcp://HOST:PORT, or \
                     the name of a bus of the running gateway";

/// Where units are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Over a link of our own.
    Link(Link),
    /// Over a bus that the gateway polls: NAME, or NAME/NUMBER.
    Bus(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Link(Link::Tcp(endpoint) | Link::RtuOverTcp { endpoint, .. }) => {
                write!(formatter, "{}:{}", endpoint.host, endpoint.port)
            }
            Place::Link(Link::Serial(serial)) => write!(formatter, "{} ({})", serial.port, serial.line),
            Place::Link(link) => write!(formatter, "{link}"),
            Place::Bus(name) => write!(formatter, "bus {name} of the running gateway"),
        }
    }
}

/// Reads it; the text of a problem says what may stand there.
pub(super) fn parse(text: &str) -> Result<Place, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        let is_name = !text.is_empty() && !text.starts_with('/') && !text.contains(char::is_whitespace);
        return if is_name { Ok(Place::Bus(text.to_owned())) } else { Err(format!("{text:?} is no bus: {FORMS}")) };
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let link = match scheme {
        "tcp" if query.is_empty() => Link::Tcp(endpoint(place, Some(MODBUS_PORT))?),
        "tcp" => return Err(format!("{query:?}: tcp has no serial line that we set; leave it out")),
        "rtu+tcp" => {
            let line = if query.is_empty() { None } else { Some(line(query)?) };
            Link::RtuOverTcp { endpoint: endpoint(place, None)?, line }
        }
        "rtu" if place.starts_with('/') => {
            Link::Serial(SerialConfig { port: PortName::Path(PathBuf::from(place)), line: line(query)? })
        }
        "rtu" => return Err(format!("{place:?} is no path of a port: write three slashes, rtu:///dev/ttyS1")),
        other => return Err(format!("{other:?} is no way to a bus: {FORMS}")),
    };
    Ok(Place::Link(link))
}

fn endpoint(text: &str, port_default: Option<u16>) -> Result<Endpoint, String> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || (host.contains(':') && !text.starts_with('[')) {
        return Err(format!("{text:?} names no host: write HOST:PORT, an IPv6 address in brackets"));
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => port_default,
    };
    let port = port.ok_or_else(|| format!("{text:?} has no port from 1 to 65535: write HOST:PORT"))?;
    Ok(Endpoint { host: host.to_owned(), port })
}

fn line(query: &str) -> Result<SerialLine, String> {
    let mut line = LINE;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "baud" => line.baud = baud(value)?,
            "parity" => line.parity = parity(value)?,
            "stop_bits" => {
                let stop_bits = value.parse().ok().filter(|stop_bits| [1, 2].contains(stop_bits));
                line.stop_bits = stop_bits.ok_or_else(|| format!("stop_bits={value}: write 1 or 2"))?;
            }
            _ => return Err(format!("{key:?} is nothing of a serial line: write baud, parity or stop_bits")),
        }
    }
    Ok(line)
}

/// Bits a second.
pub(super) fn baud(text: &str) -> Result<u32, String> {
    let baud = text.trim().parse().ok().filter(|baud| BAUDS.contains(baud));
    baud.ok_or_else(|| format!("{text:?} is no speed: write bits a second from {} to {}", BAUDS.start(), BAUDS.end()))
}

/// `none`, `even` or `odd`.
pub(super) fn parity(text: &str) -> Result<Parity, String> {
    match text.trim() {
        "none" => Ok(Parity::None),
        "even" => Ok(Parity::Even),
        "odd" => Ok(Parity::Odd),
        _ => Err(format!("{text:?} is no parity: write none, even or odd")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_a_bus_is_read() {
        let endpoint = |host: &str, port| Endpoint { host: host.to_owned(), port };
        let check = |text: &str, link: Link| assert_eq!(parse(text), Ok(Place::Link(link)), "{text}");
        check("tcp://192.0.2.10", Link::Tcp(endpoint("192.0.2.10", 502)));
        check("tcp://[::1]:1502/", Link::Tcp(endpoint("::1", 1_502)));
        check("rtu+tcp://kiosk:8899", Link::RtuOverTcp { endpoint: endpoint("kiosk", 8_899), line: None });
        let line = SerialLine { baud: 2_400, parity: Parity::Even, stop_bits: 1 };
        let port = PortName::Path("/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0".into());
        let text = "rtu:///dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0?baud=2400&parity=even";
        check(text, Link::Serial(SerialConfig { port, line }));
        assert_eq!(parse("drain-bus/3"), Ok(Place::Bus("drain-bus/3".to_owned())));
    }

    #[test]
    fn what_is_no_bus_is_answered_with_what_is_one() {
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("", "write tcp://HOST:502");
        check("/dev/ttyUSB0", "rtu:///dev/serial");
        check("http://kiosk", "no way to a bus");
        check("rtu://dev/ttyS1", "three slashes");
        check("rtu+tcp://kiosk", "HOST:PORT");
        check("tcp://::1", "brackets");
        check("tcp://kiosk:0", "1 to 65535");
        check("tcp://kiosk?baud=9600", "leave it out");
        check("rtu:///dev/ttyS1?speed=9600", "baud, parity or stop_bits");
        check("rtu:///dev/ttyS1?baud=1", "300");
        check("rtu:///dev/ttyS1?parity=mark", "none, even or odd");
        check("rtu:///dev/ttyS1?stop_bits=3", "1 or 2");
    }
}
