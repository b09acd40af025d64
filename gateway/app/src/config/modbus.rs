//! `type: modbus`: one bus, many on consecutive ports, or one for each modem that dials in.
//!
//! Two steps: the section is read first; once profiles and inventory are known, each bus gets the units that it polls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kerbside_model::document::Section;
use kerbside_model::profile::{PayloadFormat, RegisterFormat};
use kerbside_model::{Device, Profile, RegisterTable};
use kerbside_sources::modbus::{AT_ONCE, ModbusConfig, Notation, UnitPatience, UnitPlan, fit_storm};

use super::read;

mod link;
mod polls;

use link::Way;
pub(super) use polls::crowded;

/// Polling period where neither inventory, source nor profile has one.
const PERIOD: Duration = Duration::from_secs(10);
/// What a period of nothing means: again at once, but never so fast that a dead loop spins.
const PERIOD_MIN: Duration = AT_ONCE;
const PERIOD_MAX: Duration = Duration::from_secs(86_400);
/// A mobile router takes a second or two to wake up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A source as it was read, before its units are known.
#[derive(Clone, Debug)]
pub(super) struct ModbusSource {
    pub(super) name: String,
    way: Way,
    period: Option<Duration>,
    registers_from: Option<RegisterTable>,
    timeout: Duration,
    connect_timeout: Duration,
    pause: Duration,
    pause_after_connect: Duration,
    patience: BTreeMap<u8, UnitPatience>,
    polls: polls::PollSettings,
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

/// A unit with the profile that says what it needs.
struct PolledUnit<'a> {
    plan: UnitPlan,
    format: &'a RegisterFormat,
}

/// Text with the bus number in it: `MB-{bus:04}`.
#[derive(Clone, Debug, PartialEq)]
struct IdTemplate {
    before: String,
    number: Option<usize>,
    after: String,
}

/// Where a device of a Modbus source answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    bus: Bus,
    unit: u8,
}

/// One of the buses of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bus {
    /// Counted from 0.
    Number(u16),
    /// By what its modem says when it dials in, as the inventory writes it.
    Modem(String),
}

/// Reads one source.
pub(super) fn read(name: &str, section: &Section<'_>) -> ModbusSource {
    let way = link::read(name, section);
    let timeout = read::duration(section, "timeout", way.timeout(), TIMEOUT_MIN..=TIMEOUT_MAX);
    let inline_devices = section.section("devices");
    if let (Some(inner), None) = (&inline_devices, way.count()) {
        let mend = "give each device a row in the inventory with the address MODEM:UNIT";
        inner.problem("", "", "only the inventory says which modems there are", mend);
    }
    let count = way.count().unwrap_or(1);
    ModbusSource {
        name: name.to_owned(),
        way,
        period: read::optional_duration(section, "period", Duration::ZERO..=PERIOD_MAX),
        registers_from: section.integer("function", 3, 4).and_then(RegisterTable::of_function),
        timeout,
        connect_timeout: read::duration(section, "connect_timeout", CONNECT_TIMEOUT, TIMEOUT_MIN..=TIMEOUT_MAX),
        pause: read::duration(section, "pause", Duration::ZERO, Duration::ZERO..=TIMEOUT_MAX),
        pause_after_connect: read::duration(
            section,
            "pause_after_connect",
            Duration::ZERO,
            Duration::ZERO..=TIMEOUT_MAX,
        ),
        patience: link::patience(section),
        polls: polls::settings(section),
        backoff_max: super::mqtt::backoff_max(section, BACKOFF_MAX),
        inline: inline_devices.and_then(|inner| inline(inner, count)),
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
    pub(super) fn address(&self, place: &Place) -> String {
        match &place.bus {
            Bus::Number(_) if self.way.count() == Some(1) => place.unit.to_string(),
            Bus::Number(bus) => format!("{bus}:{}", place.unit),
            Bus::Modem(modem) => format!("{modem}:{}", place.unit),
        }
    }

    /// What an address of this source looks like, for people.
    pub(super) fn address_form(&self) -> String {
        match (&self.way, self.way.count()) {
            (Way::Modems(desk), _) => {
                let notation = match desk.notation {
                    Notation::Text => "text",
                    Notation::Hex => "hexadecimal digits",
                };
                let most = desk.registration_bytes_max;
                format!("write MODEM:UNIT with the registration of the modem as {notation} of up to {most} bytes")
            }
            (_, Some(1) | None) => "write the unit, 0 to 255".to_owned(),
            (_, Some(count)) => format!("write BUS:UNIT with bus 0 to {} and unit 0 to 255", count - 1),
        }
    }

    /// Reads an address of the inventory.
    pub(super) fn place(&self, address: &str) -> Option<Place> {
        let (bus, unit) = match (&self.way, self.way.count(), address.rsplit_once(':')) {
            (Way::Modems(desk), _, Some((modem, unit))) => {
                let said = desk.notation.read(modem.trim())?;
                if said.len() > desk.registration_bytes_max {
                    return None;
                }
                (Bus::Modem(desk.notation.write(&said)), unit)
            }
            (Way::Ports { .. } | Way::Serial(_), Some(1), None) => (Bus::Number(0), address),
            (Way::Ports { count, .. }, _, Some((bus, unit))) if *count > 1 => {
                let bus = bus.trim().parse().ok().filter(|bus| bus < count)?;
                (Bus::Number(bus), unit)
            }
            _ => return None,
        };
        Some(Place { bus, unit: unit.trim().parse().ok()? })
    }

    /// The devices that stand on every bus without a row in the inventory.
    pub(super) fn inline_devices(&self, profile: u16) -> Vec<Device> {
        let Some(inline) = &self.inline else { return Vec::new() };
        let device = |bus| Device {
            id: inline.id.render(bus),
            profile,
            source: Some(self.name.clone()),
            address: self.address(&Place { bus: Bus::Number(bus), unit: inline.unit }),
            ..Device::default()
        };
        (0..self.way.count().unwrap_or(0)).map(device).collect()
    }

    /// The buses with the units that they poll; buses without any are left out.
    pub(super) fn buses(&self, units: &BTreeMap<Place, (&Device, &Profile)>) -> Vec<ModbusConfig> {
        let mut by_bus: BTreeMap<&Bus, Vec<PolledUnit<'_>>> = BTreeMap::new();
        for (place, (device, profile)) in units {
            let PayloadFormat::Registers(format) = &profile.payload else { continue };
            let plan = self.unit(place, device, profile, format);
            by_bus.entry(&place.bus).or_default().push(PolledUnit { plan, format });
        }
        by_bus.into_iter().map(|(bus, units)| self.bus(bus, units)).collect()
    }

    fn bus(&self, bus: &Bus, units: Vec<PolledUnit<'_>>) -> ModbusConfig {
        let mut config = ModbusConfig {
            name: self.bus_name(bus),
            source: self.name.clone(),
            link: self.way.link(bus),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            pause: self.pause,
            pause_after_connect: self.pause_after_connect,
            patience: polls::patience(&self.patience, units.iter().map(|unit| (unit.plan.unit, unit.format))),
            backoff_max: self.backoff_max,
            turn_around: self.polls.turn_around,
            quarantine: self.polls.quarantine,
            failing_share: self.polls.failing_share,
            units: units.into_iter().map(|unit| unit.plan).collect(),
        };
        fit_storm(&mut config);
        config
    }

    fn bus_name(&self, bus: &Bus) -> String {
        match bus {
            Bus::Number(_) if self.way.count() == Some(1) => self.name.clone(),
            Bus::Number(bus) => format!("{}/{bus}", self.name),
            Bus::Modem(modem) => format!("{}/{modem}", self.name),
        }
    }

    /// Where it listens, when modems dial in.
    pub(super) fn listen(&self) -> Option<SocketAddr> {
        match &self.way {
            Way::Modems(desk) => Some(desk.listen),
            Way::Ports { .. } | Way::Serial(_) => None,
        }
    }

    fn unit(&self, place: &Place, device: &Device, profile: &Profile, format: &RegisterFormat) -> UnitPlan {
        let period = device.interval.or(self.period).or(profile.interval).unwrap_or(PERIOD).max(PERIOD_MIN);
        UnitPlan {
            unit: place.unit,
            address: self.address(place),
            beats: polls::beats(profile, format, period),
            limits: polls::limits(format),
            registers_from: self.registers_from(device),
        }
    }

    /// The table that the registers of a device are asked for in, when it is another than its profile says.
    pub(super) fn registers_from(&self, device: &Device) -> Option<RegisterTable> {
        device.registers_from.or(self.registers_from)
    }

    /// How many buses there are; 0 when the inventory decides.
    pub(super) fn count(&self) -> u16 {
        self.way.count().unwrap_or(0)
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
