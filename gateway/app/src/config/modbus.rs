//! `type: modbus`: one bus, or many on consecutive ports.
//!
//! Two steps: the section is read first; once profiles and inventory are known, each bus gets the units that it polls.

use std::collections::BTreeMap;
use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_model::profile::{Origin, PayloadFormat, RegisterField};
use kerbside_model::{Device, Profile};
use kerbside_sources::modbus::{ModbusConfig, UnitPlan};

use super::read;

/// IANA's port for Modbus.
const PORT: u16 = 502;
/// Polling period where neither inventory, source nor profile has one.
const PERIOD: Duration = Duration::from_secs(10);
/// What a period of nothing means: again at once, but never so fast that a dead loop spins.
const PERIOD_MIN: Duration = Duration::from_millis(1);
const PERIOD_MAX: Duration = Duration::from_secs(86_400);
/// A slow sensor behind a serial line answers within some hundred milliseconds.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A mobile router takes a second or two to wake up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Buses of one source.
const BUSES_MAX: i64 = 4_096;

/// A source as it was read, before its units are known.
#[derive(Clone, Debug)]
pub(super) struct ModbusSource {
    pub(super) name: String,
    host: String,
    port: u16,
    count: u16,
    period: Option<Duration>,
    timeout: Duration,
    connect_timeout: Duration,
    pause: Duration,
    backoff_max: Duration,
    pub(super) inline: Option<InlineDevices>,
}

/// One device on every bus, without a row in the inventory.
#[derive(Clone, Debug)]
pub(super) struct InlineDevices {
    profile: String,
    unit: u8,
    id: IdTemplate,
    line: usize,
    file: String,
    path: String,
}

/// Text with the bus number in it: `MB-{bus:04}`.
#[derive(Clone, Debug, PartialEq)]
struct IdTemplate {
    before: String,
    number: Option<usize>,
    after: String,
}

/// Where a device of a Modbus source answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    bus: u16,
    unit: u8,
}

/// Reads one source.
pub(super) fn read(name: &str, section: &Section<'_>) -> ModbusSource {
    let port = read::port(section, "port", PORT);
    let count = u16::try_from(read::count(section, "count", 1, 1..=BUSES_MAX)).expect("BUSES_MAX fits 16 bits");
    if port.checked_add(count - 1).is_none() {
        let what = format!("{count} buses from port {port} on end beyond port 65535");
        section.problem("count", &count.to_string(), what, "begin at a lower port or have fewer buses");
    }
    ModbusSource {
        name: name.to_owned(),
        host: read::host(section),
        port,
        count,
        period: read::optional_duration(section, "period", Duration::ZERO..=PERIOD_MAX),
        timeout: read::duration(section, "timeout", TIMEOUT, TIMEOUT_MIN..=TIMEOUT_MAX),
        connect_timeout: read::duration(section, "connect_timeout", CONNECT_TIMEOUT, TIMEOUT_MIN..=TIMEOUT_MAX),
        pause: read::duration(section, "pause", Duration::ZERO, Duration::ZERO..=TIMEOUT_MAX),
        backoff_max: super::mqtt::backoff_max(section, BACKOFF_MAX),
        inline: section.section("devices").and_then(|inner| inline(inner, count)),
    }
}

fn inline(section: Section<'_>, count: u16) -> Option<InlineDevices> {
    let profile = section.required_text("profile", "name the profile of the devices");
    let unit = section.integer("unit", 0, 255).unwrap_or(1);
    let id = section.required_text("id", "write the ids with the bus number in them, such as MB-{bus:04}");
    let template = IdTemplate::parse(&id);
    section.known_only();
    if template.is_none() || template.as_ref().is_some_and(|template| template.number.is_none() && count > 1) {
        let what = "the id does not tell the buses apart";
        section.problem("id", &id, what, "write {bus} or {bus:04} once where the number of the bus belongs");
        return None;
    }
    Some(InlineDevices {
        profile,
        unit: u8::try_from(unit).expect("checked against the limit of 8 bits"),
        id: template?,
        line: section.line(),
        file: section.file().to_owned(),
        path: section.path_of(""),
    })
}

impl IdTemplate {
    fn parse(text: &str) -> Option<IdTemplate> {
        let Some((before, rest)) = text.split_once('{') else {
            return Some(IdTemplate { before: text.to_owned(), number: None, after: String::new() });
        };
        let (inside, after) = rest.split_once('}')?;
        if after.contains(['{', '}']) {
            return None;
        }
        let width = match inside.strip_prefix("bus")? {
            "" => 0,
            width => width.strip_prefix(":0")?.parse().ok().filter(|width| *width <= 9)?,
        };
        Some(IdTemplate { before: before.to_owned(), number: Some(width), after: after.to_owned() })
    }

    fn render(&self, bus: u16) -> String {
        match self.number {
            Some(width) => format!("{}{bus:0width$}{}", self.before, self.after),
            None => self.before.clone(),
        }
    }
}

impl ModbusSource {
    /// How a device's address is written in frames and in the inventory.
    pub(super) fn address(&self, place: Place) -> String {
        if self.count == 1 { place.unit.to_string() } else { format!("{}:{}", place.bus, place.unit) }
    }

    /// What an address of this source looks like, for people.
    pub(super) fn address_form(&self) -> String {
        match self.count {
            1 => "write the unit, 0 to 255".to_owned(),
            count => format!("write BUS:UNIT with bus 0 to {} and unit 0 to 255", count - 1),
        }
    }

    /// Reads an address of the inventory.
    pub(super) fn place(&self, address: &str) -> Option<Place> {
        let (bus, unit) = match (self.count, address.split_once(':')) {
            (1, None) => (0, address),
            (1, Some(_)) | (_, None) => return None,
            (_, Some((bus, unit))) => (bus.trim().parse().ok()?, unit),
        };
        let place = Place { bus, unit: unit.trim().parse().ok()? };
        (bus < self.count).then_some(place)
    }

    /// The devices that stand on every bus without a row in the inventory.
    pub(super) fn inline_devices(&self, profile: u16) -> Vec<Device> {
        let Some(inline) = &self.inline else { return Vec::new() };
        let device = |bus| Device {
            id: inline.id.render(bus),
            profile,
            source: Some(self.name.clone()),
            address: self.address(Place { bus, unit: inline.unit }),
            ..Device::default()
        };
        (0..self.count).map(device).collect()
    }

    /// The buses with the units that they poll; buses without any are left out.
    pub(super) fn buses(&self, units: &BTreeMap<Place, (&Device, &Profile)>) -> Vec<ModbusConfig> {
        let mut buses = Vec::new();
        for bus in 0..self.count {
            let range = Place { bus, unit: 0 }..=Place { bus, unit: u8::MAX };
            let plans: Vec<UnitPlan> = units
                .range(range)
                .filter_map(|(place, (device, profile))| self.unit(*place, device, profile))
                .collect();
            if plans.is_empty() {
                continue;
            }
            buses.push(ModbusConfig {
                name: if self.count == 1 { self.name.clone() } else { format!("{}/{bus}", self.name) },
                source: self.name.clone(),
                host: self.host.clone(),
                port: self.port + bus,
                timeout: self.timeout,
                connect_timeout: self.connect_timeout,
                pause: self.pause,
                backoff_max: self.backoff_max,
                units: plans,
            });
        }
        buses
    }

    fn unit(&self, place: Place, device: &Device, profile: &Profile) -> Option<UnitPlan> {
        let PayloadFormat::Registers { gap_max, registers_max } = profile.payload else { return None };
        Some(UnitPlan {
            unit: place.unit,
            address: self.address(place),
            period: device.interval.or(self.period).or(profile.interval).unwrap_or(PERIOD).max(PERIOD_MIN),
            fields: register_fields(profile),
            gap_max,
            registers_max,
        })
    }

    /// How many buses there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }
}

impl InlineDevices {
    /// Name of their profile.
    pub(super) fn profile(&self) -> &str {
        &self.profile
    }

    /// Where a problem with a key of theirs stands: file, line, full key.
    pub(super) fn origin(&self, key: &str) -> (String, usize, String) {
        (self.file.clone(), self.line, format!("{}{key}", self.path))
    }
}

/// The registers that a profile reads.
fn register_fields(profile: &Profile) -> Vec<RegisterField> {
    let field = |origin: &Origin| match origin {
        Origin::Register(field) => Some(*field),
        Origin::Json(_) | Origin::MountHeightMinus(_) => None,
    };
    profile.points.iter().filter_map(|point| field(&point.origin)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_bus_number_with_leading_zeros() {
        assert_eq!(IdTemplate::parse("MB-{bus:04}").unwrap().render(7), "MB-0007");
        assert_eq!(IdTemplate::parse("bus {bus}/a").unwrap().render(12), "bus 12/a");
        assert_eq!(IdTemplate::parse("meter").unwrap().render(3), "meter");
        for text in ["{bus", "{unit}", "{bus:4}", "{bus}{bus}", "{bus:0}", "{bus:0x}"] {
            assert_eq!(IdTemplate::parse(text), None, "{text}");
        }
    }
}
