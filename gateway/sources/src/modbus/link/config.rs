//! The ways to a bus as an installer writes them down, and what a character costs on each.
//!
//! Plain data; nothing here opens anything.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Start bit and eight data bits; RTU knows no other number (Modbus over Serial Line V1.02, section 2.5.1).
const START_AND_DATA_BITS: u32 = 9;

/// Above this speed the silence between frames is [`FAST_SILENCE`] whatever the speed (Modbus over Serial Line V1.02,
/// section 2.5.1.1).
const FAST_BAUD: u32 = 19_200;

/// See [`FAST_BAUD`].
const FAST_SILENCE: Duration = Duration::from_micros(1_750);

/// Unit, and two bytes of checksum.
const RTU_OVERHEAD_BYTES: u32 = 3;

/// Transaction, protocol, length, unit (Modbus Messaging on TCP/IP V1.0b, section 3.1.3).
const MBAP_OVERHEAD_BYTES: u32 = 7;

/// How a bus is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Modbus TCP: we connect.
    Tcp(Endpoint),
    /// A serial port of this machine.
    Serial(SerialConfig),
    /// A converter that passes bytes of a serial line through, and to which we connect.
    RtuOverTcp {
        /// The converter.
        endpoint: Endpoint,
        /// Speed of the line behind it, when it is known.
        line: Option<SerialLine>,
    },
    /// A modem that connects to us and says who it is.
    DialIn(DialInConfig),
}

/// Name or IP address with a port; a name is looked up for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or IP address.
    pub host: String,
    /// TCP port; 502 by custom.
    pub port: u16,
}

/// Speed and form of characters on a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits a second, at least 1.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The parity bit of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No such bit.
    None,
    /// The ones of a character with its parity bit are even.
    Even,
    /// ... or odd.
    Odd,
}

/// A serial port of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// Which one.
    pub port: PortName,
    /// How it is set.
    pub line: SerialLine,
}

/// A name of a serial port that is looked up each time it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// A device file. Those below `/dev/serial/` follow the adapter, whatever number it got.
    Path(PathBuf),
    /// An adapter by what it says of itself on USB.
    Usb(UsbName),
}

/// What an adapter says of itself on USB; what is not given does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbName {
    /// Vendor id.
    pub vendor: u16,
    /// Product id.
    pub product: u16,
    /// Serial number.
    pub serial: Option<String>,
    /// Interface of an adapter with several ports, from 0.
    pub interface: Option<u8>,
}

/// A modem that connects to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialInConfig {
    /// Where it connects to, and with whom it shares that.
    pub desk: DeskConfig,
    /// What it says first. Each modem of a desk has its own.
    pub registration: Vec<u8>,
}

/// A listener for the modems of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskConfig {
    /// Name of the source; the health of the listener is `source/NAME`.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What the modems speak.
    pub framing: DialInFraming,
    /// Whether registrations are shown as text or as hexadecimal digits.
    pub notation: Notation,
    /// What a modem sends to keep its connection alive; it is dropped wherever it begins an answer. Empty for none.
    pub heartbeat: Vec<u8>,
    /// Longest registration in bytes.
    pub registration_bytes_max: usize,
    /// How long a modem may take to register, in real time.
    pub registration_timeout: Duration,
    /// Connections that have not registered yet.
    pub waiting_max: usize,
    /// Speed of the lines behind the modems, when it is known.
    pub line: Option<SerialLine>,
}

/// What a modem passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialInFraming {
    /// Bytes of the serial line as they are.
    Rtu,
    /// Frames of Modbus TCP.
    Tcp,
}

/// How bytes of a registration are written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// As UTF-8.
    Text,
    /// Two hexadecimal digits for each byte.
    Hex,
}

impl Notation {
    /// The bytes as they are written in the inventory.
    pub fn write(self, bytes: &[u8]) -> String {
        match self {
            Notation::Text => String::from_utf8_lossy(bytes).into_owned(),
            Notation::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The bytes that are meant; none when it is not hexadecimal where it should be, or empty.
    pub fn read(self, text: &str) -> Option<Vec<u8>> {
        let bytes = match self {
            Notation::Text => text.as_bytes().to_vec(),
            Notation::Hex => {
                let digits: Vec<u8> =
                    text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
                if !digits.len().is_multiple_of(2) {
                    return None;
                }
                digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
            }
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// How patient one unit wants its master; what is not given is that of the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitPatience {
    /// Longest wait for an answer, in real time.
    pub timeout: Option<Duration>,
    /// Silence before a request to it, in real time, instead of that of the bus.
    pub pause: Option<Duration>,
}

/// All that a line needs to know.
#[derive(Clone, Debug)]
pub(crate) struct LineConfig {
    pub(crate) link: Link,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) pause: Duration,
    pub(crate) pause_after_connect: Duration,
    pub(crate) units: BTreeMap<u8, UnitPatience>,
    pub(crate) backoff_max: Duration,
    /// A connection of ours over TCP that was idle for longer is not used again.
    pub(crate) idle_max: Duration,
}

/// What bytes and turns cost on a link, for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTiming {
    /// Time for one character; zero where no serial line is known.
    pub character: Duration,
    /// Silence that must be kept between two frames: that of the protocol or the configured pause, the longer one.
    pub silence: Duration,
    /// Bytes around the function code and what follows it, in each direction.
    pub overhead_bytes: u32,
}

impl LinkTiming {
    /// Time on the wire for a request and its answer with the silence after it; `pdu_bytes` are those of both from the
    /// function code on.
    pub fn wire_time(&self, pdu_bytes: u32) -> Duration {
        self.character.saturating_mul(pdu_bytes.saturating_add(2 * self.overhead_bytes)) + self.silence
    }
}

impl SerialLine {
    /// Bits of one character on the wire.
    pub fn bits_per_character(&self) -> u32 {
        START_AND_DATA_BITS + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits)
    }

    /// Time that one character takes.
    pub fn character(&self) -> Duration {
        Duration::from_secs(u64::from(self.bits_per_character())) / self.baud.max(1)
    }

    /// Silence that ends a frame: three and a half characters.
    pub fn silence(&self) -> Duration {
        if self.baud > FAST_BAUD { FAST_SILENCE } else { self.character().mul_f64(3.5) }
    }
}

impl Link {
    /// The serial line that is known to be there.
    pub fn serial_line(&self) -> Option<SerialLine> {
        match self {
            Link::Tcp(_) => None,
            Link::Serial(serial) => Some(serial.line),
            Link::RtuOverTcp { line, .. } => *line,
            Link::DialIn(dial_in) => dial_in.desk.line,
        }
    }

    /// Whether frames are those of the serial line, which do not say what they answer.
    pub fn is_rtu(&self) -> bool {
        match self {
            Link::Tcp(_) => false,
            Link::Serial(_) | Link::RtuOverTcp { .. } => true,
            Link::DialIn(dial_in) => dial_in.desk.framing == DialInFraming::Rtu,
        }
    }

    /// Where it leads, for people who look at a whole source: all modems of a desk lie at one place.
    pub fn place(&self) -> String {
        match self {
            Link::Tcp(endpoint) => endpoint.to_string(),
            Link::RtuOverTcp { endpoint, .. } => format!("{endpoint} (RTU over TCP)"),
            Link::Serial(serial) => format!("{} ({})", serial.port, serial.line),
            Link::DialIn(dial_in) => format!("modems that dial in at {}", dial_in.desk.listen),
        }
    }

    /// What this link costs, with a pause between requests.
    pub fn timing(&self, pause: Duration) -> LinkTiming {
        let line = self.serial_line();
        let silence = line.map(|line| line.silence()).unwrap_or_default();
        LinkTiming {
            character: line.map(|line| line.character()).unwrap_or_default(),
            silence: silence.max(pause),
            overhead_bytes: if self.is_rtu() { RTU_OVERHEAD_BYTES } else { MBAP_OVERHEAD_BYTES },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for SerialLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(formatter, "{} 8{parity}{}", self.baud, self.stop_bits)
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usb = match self {
            PortName::Path(path) => return write!(formatter, "{}", path.display()),
            PortName::Usb(usb) => usb,
        };
        write!(formatter, "USB {:04x}:{:04x}", usb.vendor, usb.product)?;
        if let Some(serial) = &usb.serial {
            write!(formatter, " serial {serial}")?;
        }
        match usb.interface {
            Some(interface) => write!(formatter, " interface {interface}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DialInConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "modem {} at {}", self.desk.notation.write(&self.registration), self.desk.listen)
    }
}

impl fmt::Display for Link {
    /// What is tried when the link is made: it fits before a colon and the cause of a failure.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Tcp(endpoint) | Link::RtuOverTcp { endpoint, .. } => write!(formatter, "connect {endpoint}"),
            Link::Serial(serial) => write!(formatter, "open {}", serial.port),
            Link::DialIn(dial_in) => write!(formatter, "wait for {dial_in}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_lasts_as_long_as_its_bits() {
        let line = |baud, parity, stop_bits| SerialLine { baud, parity, stop_bits };
        let plain = line(9_600, Parity::None, 1);
        assert_eq!((plain.bits_per_character(), plain.to_string().as_str()), (10, "9600 8N1"));
        assert_eq!(plain.character(), Duration::from_nanos(1_041_666));
        assert_eq!(plain.silence().as_micros(), 3_645);
        assert_eq!(line(19_200, Parity::Even, 1).bits_per_character(), 11);
        assert_eq!(line(115_200, Parity::Even, 2).silence(), FAST_SILENCE);
    }

    #[test]
    fn a_link_says_what_a_request_costs() {
        let line = SerialLine { baud: 9_600, parity: Parity::None, stop_bits: 1 };
        let serial = SerialConfig { port: PortName::Path("/dev/ttyS1".into()), line };
        // Two registers: 8 bytes out, 9 back, and the silence.
        let timing = Link::Serial(serial).timing(Duration::ZERO);
        assert_eq!(timing.wire_time(5 + 6), line.character() * 17 + line.silence());
        let tcp = Link::Tcp(Endpoint { host: "::1".to_owned(), port: 502 });
        assert_eq!(tcp.to_string(), "connect [::1]:502");
        assert_eq!(tcp.timing(Duration::from_millis(5)).wire_time(11), Duration::from_millis(5));
    }

    #[test]
    fn registrations_are_read_as_they_are_written() {
        assert_eq!(Notation::Hex.read("00ffA1").unwrap(), [0, 255, 0xa1]);
        assert_eq!(Notation::Hex.write(&[0, 255, 0xa1]), "00ffa1");
        assert_eq!(Notation::Text.read("DTU-1").unwrap(), b"DTU-1");
        for wrong in ["", "0", "0g", "\u{ff11}1"] {
            assert_eq!(Notation::Hex.read(wrong), None, "{wrong}");
        }
        assert_eq!(Notation::Text.read(""), None);
    }
}
