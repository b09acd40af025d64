//! Turns the name of a serial port into the device file that it has now.
//!
//! `/dev/ttyUSB0` is another adapter after the next start, so ports are named by what stays: a link below
//! `/dev/serial/`, which udev makes, or what an adapter says of itself on USB, looked up in sysfs. When a name leads
//! nowhere, the error lists the ports that are there. Reads small files only; no metrics.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::config::{PortName, UsbName};

/// Ports that an error lists at most.
const LISTED_MAX: usize = 16;

/// Why a port has no device file.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    #[error("no such port; {there_are}")]
    Missing { there_are: String },
    #[error("{} ports are {name} ({}): add `serial` or `interface`", .found.len(), .found.join(", "))]
    Ambiguous { name: String, found: Vec<String> },
}

/// Where the machine tells of its ports; tests have folders of their own.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    dev: PathBuf,
    sys: PathBuf,
}

/// A serial port of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    /// Such as `ttyUSB0`.
    device: String,
    usb: Option<UsbPort>,
}

/// What an adapter says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UsbPort {
    vendor: u16,
    product: u16,
    serial: String,
    interface: u8,
}

impl Machine {
    pub(super) fn this() -> Machine {
        Machine { dev: PathBuf::from("/dev"), sys: PathBuf::from("/sys") }
    }

    /// The device file of a port as things are now.
    pub(super) fn resolve(&self, name: &PortName) -> Result<PathBuf, PortError> {
        let usb = match name {
            PortName::Path(path) if path.try_exists().unwrap_or(true) => return Ok(path.clone()),
            PortName::Path(_) => return Err(self.missing()),
            PortName::Usb(usb) => usb,
        };
        let ports = self.ports();
        let found: Vec<&Port> = ports.iter().filter(|port| port.usb.as_ref().is_some_and(|it| it.is(usb))).collect();
        match found.as_slice() {
            [] => Err(self.missing()),
            [port] => Ok(self.dev.join(&port.device)),
            several => {
                let found = several.iter().map(|port| port.text()).collect();
                Err(PortError::Ambiguous { name: name.to_string(), found })
            }
        }
    }

    fn missing(&self) -> PortError {
        let by_id = self.dev.join("serial/by-id");
        let mut names: Vec<String> =
            entries(&by_id).iter().map(|name| by_id.join(name).display().to_string()).collect();
        names.extend(self.ports().iter().map(Port::text));
        let there_are = match names.len() {
            0 => "this machine has no serial port".to_owned(),
            count if count > LISTED_MAX => format!("there are: {}, and more", names[..LISTED_MAX].join(", ")),
            _ => format!("there are: {}", names.join(", ")),
        };
        PortError::Missing { there_are }
    }

    /// Every serial port with hardware behind it, by name.
    fn ports(&self) -> Vec<Port> {
        let class = self.sys.join("class/tty");
        let mut ports = Vec::new();
        for device in entries(&class) {
            let folder = class.join(&device);
            // Consoles and pseudo-terminals have no device; the kernel makes ttyS0 to ttyS31 whatever there is, and
            // says of those without hardware that their type is 0 (PORT_UNKNOWN).
            let Ok(place) = folder.join("device").canonicalize() else { continue };
            if text(&folder.join("type")).is_ok_and(|kind| kind == "0") {
                continue;
            }
            ports.push(Port { device, usb: usb(&place) });
        }
        ports.sort();
        ports
    }
}

impl Port {
    fn text(&self) -> String {
        let device = format!("/dev/{}", self.device);
        match &self.usb {
            None => device,
            Some(UsbPort { vendor, product, serial, interface }) => {
                let serial = if serial.is_empty() { String::new() } else { format!(" serial {serial}") };
                format!("{device} (USB {vendor:04x}:{product:04x}{serial} interface {interface})")
            }
        }
    }
}

impl UsbPort {
    fn is(&self, name: &UsbName) -> bool {
        (self.vendor, self.product) == (name.vendor, name.product)
            && name.serial.as_ref().is_none_or(|serial| *serial == self.serial)
            && name.interface.is_none_or(|interface| interface == self.interface)
    }
}

/// What sysfs says of the adapter in whose folder a port lies.
fn usb(place: &Path) -> Option<UsbPort> {
    let mut interface = 0;
    for folder in place.ancestors() {
        if let Some(number) = hexadecimal(&folder.join("bInterfaceNumber")) {
            interface = number.to_le_bytes()[0];
        }
        let Some(vendor) = hexadecimal(&folder.join("idVendor")) else { continue };
        let product = hexadecimal(&folder.join("idProduct"))?;
        let serial = text(&folder.join("serial")).unwrap_or_default();
        return Some(UsbPort { vendor, product, serial, interface });
    }
    None
}

fn hexadecimal(path: &Path) -> Option<u16> {
    u16::from_str_radix(&text(path).ok()?, 16).ok()
}

fn text(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Names in a folder, sorted; none when there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = found.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Two adapters of one make, one of them with two ports, a port on the board, and one that is not there.
    fn machine() -> (TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let usb = |device: &str, adapter: &str, interface: &str, serial: &str| {
            let bus = format!("sys/devices/usb1/{adapter}");
            write(&format!("{bus}/idVendor"), "0403\n");
            write(&format!("{bus}/idProduct"), "6011\n");
            if !serial.is_empty() {
                write(&format!("{bus}/serial"), &format!("{serial}\n"));
            }
            write(&format!("{bus}/{adapter}:1.{interface}/bInterfaceNumber"), &format!("0{interface}\n"));
            write(&format!("{bus}/{adapter}:1.{interface}/{device}/port_number"), "0\n");
            write(&format!("sys/class/tty/{device}/dev"), "188:0\n");
            let place = root.join(format!("{bus}/{adapter}:1.{interface}/{device}"));
            std::os::unix::fs::symlink(place, root.join(format!("sys/class/tty/{device}/device"))).unwrap();
        };
        usb("ttyUSB0", "1-1", "0", "A1");
        usb("ttyUSB1", "1-1", "1", "A1");
        usb("ttyUSB2", "1-2", "0", "");
        for (device, kind) in [("ttyS0", "4"), ("ttyS1", "0")] {
            write(&format!("sys/class/tty/{device}/type"), kind);
            write(&format!("sys/class/tty/{device}/device/x"), "");
        }
        write("sys/class/tty/console/dev", "5:1\n");
        write("dev/serial/by-id/usb-FTDI_A1-if00-port0", "");
        let machine = Machine { dev: root.join("dev"), sys: root.join("sys") };
        (folder, machine)
    }

    fn usb(serial: Option<&str>, interface: Option<u8>) -> PortName {
        PortName::Usb(UsbName { vendor: 0x0403, product: 0x6011, serial: serial.map(str::to_owned), interface })
    }

    #[test]
    fn an_adapter_is_found_by_what_it_says_of_itself() {
        let (_folder, machine) = machine();
        let found = machine.resolve(&usb(Some("A1"), Some(1))).unwrap();
        assert_eq!(found, machine.dev.join("ttyUSB1"));
        let error = machine.resolve(&usb(Some("A1"), None)).unwrap_err().to_string();
        assert!(error.starts_with("2 ports are USB 0403:6011 serial A1 (/dev/ttyUSB0 (USB"), "{error}");
        assert!(error.ends_with("add `serial` or `interface`"), "{error}");
    }

    #[test]
    fn a_port_that_is_not_there_is_answered_with_those_that_are() {
        let (folder, machine) = machine();
        let by_id = machine.dev.join("serial/by-id/usb-FTDI_A1-if00-port0");
        assert_eq!(machine.resolve(&PortName::Path(by_id.clone())).unwrap(), by_id);
        let error = machine.resolve(&PortName::Path("/dev/serial/by-id/gone".into())).unwrap_err().to_string();
        let ports = "/dev/ttyS0, /dev/ttyUSB0 (USB 0403:6011 serial A1 interface 0), \
                     /dev/ttyUSB1 (USB 0403:6011 serial A1 interface 1), /dev/ttyUSB2 (USB 0403:6011 interface 0)";
        assert_eq!(error, format!("no such port; there are: {}, {ports}", by_id.display()));
        let error = machine.resolve(&usb(Some("B7"), None)).unwrap_err().to_string();
        assert!(error.contains("ttyUSB2"), "{error}");
        let nothing = Machine { dev: folder.path().join("x"), sys: folder.path().join("y") };
        let error = nothing.resolve(&usb(None, None)).unwrap_err().to_string();
        assert_eq!(error, "no such port; this machine has no serial port");
    }
}
