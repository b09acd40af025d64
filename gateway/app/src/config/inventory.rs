//! `inventory`: the devices of the street, joined with profiles and sources.
//!
//! A row that is wrong is a warning with its number, and the device is left out: one bad cell must not keep a district
//! from starting. A file that is not there is a problem of gateway.yaml.

mod files;
mod workbook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kerbside_model::document::{Problem, Problems, Section, closest};
use kerbside_model::inventory::{Datum, Entry, Known};
use kerbside_model::profile::{Override, PayloadFormat};
use kerbside_model::site::address_key;
use kerbside_model::{Device, Profile, RegisterTable};

use super::modbus::{ModbusSource, Place};
use super::overrides::{self, Ground};
use super::profiles::Profiles;
use super::read::Context;

pub(super) use files::DATUMS;
use files::File;
pub use files::TableFile;

/// What the files, profiles and Modbus sources give together.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Sound devices, in the order of the files, then those that Modbus sources declare themselves.
    pub(super) devices: Vec<Device>,
    /// The profiles that they use.
    pub(super) profiles: Vec<Arc<Profile>>,
    /// Rows that were left out.
    pub(super) warnings: Vec<Problem>,
    /// For each Modbus source the devices on its buses.
    pub(super) places: Vec<BTreeMap<Place, usize>>,
}

/// What the inventory is joined with.
pub(super) struct Surroundings<'a> {
    pub(super) profiles: &'a Profiles,
    /// Names of all sources, and those of type modbus; `None` when no configuration is there.
    pub(super) sources: Option<(&'a [String], &'a [ModbusSource])>,
    /// The datum of positions for which neither row nor file says one.
    pub(super) datum: Datum,
    /// What is different about some of the devices.
    pub(super) overrides: &'a [Override],
    pub(super) problems: &'a Problems,
}

impl<'a> Surroundings<'a> {
    fn modbus(&self) -> &'a [ModbusSource] {
        self.sources.map_or(&[], |(_, modbus)| modbus)
    }
}

/// Tables that were read for somebody who wants them back as tables.
#[derive(Debug, Default)]
pub struct Tables {
    /// The devices of sound rows, each with the name of its profile, in the order of the tables.
    pub entries: Vec<(Entry, String)>,
    /// What is wrong with rows that were left out, and with headings.
    pub problems: Vec<Problem>,
}

/// Reads the files that the key `inventory` names and joins them with everything else.
pub(super) fn read(top: &Section<'_>, context: &Context<'_>, around: &Surroundings<'_>) -> Inventory {
    let report = |name: &str, what: String| {
        top.problem("inventory", name, what, "correct the path or its permissions");
    };
    let files = files::open(&files::named(top, context), context, &report);
    let warnings = Problems::default();
    let mut joining = Joining::new(around, &warnings);
    for file in files {
        joining.file(&file, &mut |_| {});
    }
    joining.inline_devices();
    if joining.devices.is_empty() {
        context.notice("the inventory is empty: every frame is kept as one of an unknown device");
    }
    let (mut devices, places) = (joining.devices, joining.places);
    let ground = Ground { profiles: around.profiles, context, warnings: &warnings, problems: around.problems };
    let all = overrides::lay(around.overrides, &mut devices, &ground);
    let profiles = keep_used(&mut devices, &all);
    Inventory { devices, profiles, places, warnings: warnings.into_sorted() }
}

/// Reads tables, or those that the key `inventory` names, as a start of the gateway would.
pub(super) fn tables(
    top: &Section<'_>,
    wanted: Option<&[TableFile]>,
    context: &Context<'_>,
    around: &Surroundings<'_>,
) -> Tables {
    let problems = Problems::default();
    let report = |name: &str, what: String| {
        let (file, mend) = (name.to_owned(), "correct the path or its permissions".to_owned());
        problems.push(Problem { file, line: 0, key: String::new(), value: String::new(), what, mend });
    };
    let named = files::named(top, context);
    let files = files::open(wanted.unwrap_or(&named), context, &report);
    let mut joining = Joining::new(around, &problems);
    let mut entries = Vec::new();
    for file in files {
        joining.file(&file, &mut |entry| {
            let profile = &around.profiles.sound[usize::from(entry.device.profile)].name;
            entries.push((entry.clone(), profile.clone()));
        });
    }
    Tables { entries, problems: problems.into_sorted() }
}

struct Joining<'a> {
    around: &'a Surroundings<'a>,
    warnings: &'a Problems,
    devices: Vec<Device>,
    /// Where each device stands: file and row, in the order of the devices.
    origins: Vec<(Arc<str>, usize)>,
    /// The device that has an id.
    ids: BTreeMap<String, usize>,
    /// The device that has an address on a source.
    addresses: BTreeMap<(Option<String>, Box<[u8]>), usize>,
    places: Vec<BTreeMap<Place, usize>>,
}

impl<'a> Joining<'a> {
    fn new(around: &'a Surroundings<'a>, warnings: &'a Problems) -> Joining<'a> {
        Joining {
            around,
            warnings,
            devices: Vec::new(),
            origins: Vec::new(),
            ids: BTreeMap::new(),
            addresses: BTreeMap::new(),
            places: vec![BTreeMap::new(); around.modbus().len()],
        }
    }

    /// Takes the sound devices of a table; each is shown as it was read.
    fn file(&mut self, file: &File, admitted: &mut dyn FnMut(&Entry)) {
        let profiles = &self.around.profiles;
        let broken = profiles.broken.iter().map(String::as_str);
        let names: Vec<&str> = profiles.sound.iter().map(|profile| profile.name.as_str()).chain(broken).collect();
        let known =
            Known { profiles: &names, sources: self.around.sources.map(|(names, _)| names), datum: self.around.datum };
        let name: Arc<str> = Arc::from(file.name.as_str());
        for entry in file.entries(&known, self.warnings) {
            // A device of a broken profile: that profile is the problem, and it is reported.
            let Some(profile) = profiles.sound.get(usize::from(entry.device.profile)) else { continue };
            let mut device = entry.device.clone();
            match self.admit(&mut device, profile) {
                Ok(()) => {
                    admitted(&entry);
                    self.devices.push(device);
                    self.origins.push((Arc::clone(&name), entry.row));
                }
                Err(refusal) => self.warnings.push(Problem {
                    file: file.name.clone(),
                    line: entry.row,
                    key: refusal.column.to_owned(),
                    value: refusal.value(&entry.device, profile),
                    what: refusal.what,
                    mend: refusal.mend,
                }),
            }
        }
    }

    /// Checks the next device against everything else and writes its source and address as frames carry them.
    fn admit(&mut self, device: &mut Device, profile: &Profile) -> Result<(), Refusal> {
        if let Some(first) = self.ids.get(&device.id) {
            let what = format!("{} has the same id", self.origin_of(*first));
            return Err(Refusal::new("id", what, "give each device its own id"));
        }
        if let Some(position) = self.modbus_source(device, profile)? {
            let source = &self.around.modbus()[position];
            let Some(place) = source.place(&device.address) else {
                let what = format!("not an address on {}", source.name);
                return Err(Refusal::new("address", what, source.address_form()));
            };
            if let Some(other) = self.places[position].get(&place) {
                let what = format!("{} ({}) is on the same unit", self.devices[*other].id, self.origin_of(*other));
                return Err(Refusal::new("address", what, "give each device its own unit"));
            }
            check_function(device, profile, source.registers_from(device))?;
            device.source = Some(source.name.clone());
            device.address = source.address(&place);
            self.places[position].insert(place, self.devices.len());
        }
        let address = (device.source.clone(), address_key(&device.address));
        if let Some(first) = self.addresses.get(&address) {
            let mend = "give each device its own address, or name its source in the column source";
            return Err(Refusal::new("address", format!("{} has the same address", self.origin_of(*first)), mend));
        }
        self.addresses.insert(address, self.devices.len());
        self.ids.insert(device.id.clone(), self.devices.len());
        Ok(())
    }

    /// Where a device stands, for people.
    fn origin_of(&self, device: usize) -> String {
        match &self.origins[device] {
            (file, 0) => file.to_string(),
            (file, row) => format!("row {row} of {file}"),
        }
    }

    /// The Modbus source of a device, when it is read by registers.
    fn modbus_source(&self, device: &Device, profile: &Profile) -> Result<Option<usize>, Refusal> {
        let Some((_, modbus)) = self.around.sources else { return Ok(None) };
        let named = device.source.as_deref();
        let position = named.and_then(|name| modbus.iter().position(|source| source.name == name));
        let reads_registers = matches!(profile.payload, PayloadFormat::Registers(_));
        match (reads_registers, named, position) {
            (true, _, Some(position)) => Ok(Some(position)),
            (true, None, None) => match modbus.len() {
                1 => Ok(Some(0)),
                0 => {
                    let what = "this profile reads Modbus registers, and there is no source of type modbus";
                    Err(Refusal::new("profile", what, "add such a source, or use a profile of messages"))
                }
                _ => {
                    let names: Vec<&str> = modbus.iter().map(|source| source.name.as_str()).collect();
                    let mend = format!("write one of {} into the column source", names.join(", "));
                    Err(Refusal::new("source", "the device does not say which Modbus source it is on", mend))
                }
            },
            (true, Some(name), None) => {
                let what = format!("this profile reads Modbus registers, and {name} is not a Modbus source");
                Err(Refusal::new("profile", what, "name a Modbus source, or use a profile of messages"))
            }
            (false, Some(name), Some(_)) => {
                let what = format!("this profile reads messages, and {name} is a Modbus source");
                Err(Refusal::new("profile", what, "name another source, or use a profile of registers"))
            }
            (false, ..) => Ok(None),
        }
    }

    /// Adds the devices that Modbus sources declare themselves; what is wrong with them is wrong in gateway.yaml.
    fn inline_devices(&mut self) {
        for position in 0..self.around.modbus().len() {
            let source = &self.around.modbus()[position];
            let Some(inline) = &source.inline else { continue };
            let report = |key: &str, value: &str, what: String, mend: String| {
                let (file, line, key) = inline.origin(key);
                self.around.problems.push(Problem { file, line, key, value: value.to_owned(), what, mend });
            };
            let profiles = &self.around.profiles;
            let found = profiles.sound.iter().position(|profile| profile.name == inline.profile());
            let Some(profile) = found else {
                let names: Vec<&str> = profiles.sound.iter().map(|profile| profile.name.as_str()).collect();
                let mend = match closest(inline.profile(), &names) {
                    Some(name) => format!("did you mean {name}?"),
                    None => "put the profile into the profiles folder".to_owned(),
                };
                if !profiles.broken.iter().any(|name| name == inline.profile()) {
                    report("profile", inline.profile(), "there is no profile of this name".to_owned(), mend);
                }
                continue;
            };
            if !matches!(profiles.sound[profile].payload, PayloadFormat::Registers(_)) {
                let mend = "use a profile of registers".to_owned();
                report("profile", inline.profile(), "this profile reads messages, not registers".to_owned(), mend);
                continue;
            }
            let profile_position = u16::try_from(profile).expect("fewer than 65536 profiles fit a folder");
            let profile = Arc::clone(&profiles.sound[profile]);
            let file: Arc<str> = Arc::from(inline.origin("").0);
            for mut device in source.inline_devices(profile_position) {
                if let Err(refusal) = self.admit(&mut device, &profile) {
                    let key = if refusal.column == "address" { "unit" } else { "id" };
                    // The other buses would only repeat it.
                    report(key, &device.id, refusal.what, refusal.mend);
                    break;
                }
                self.devices.push(device);
                self.origins.push((Arc::clone(&file), 0));
            }
        }
    }
}

/// A profile whose holding and input registers would become one table cannot be read by one function.
fn check_function(device: &Device, profile: &Profile, registers_from: Option<RegisterTable>) -> Result<(), Refusal> {
    let reads = |table| profile.register_fields().iter().any(|field| field.table == table);
    if registers_from.is_some() && reads(RegisterTable::Holding) && reads(RegisterTable::Input) {
        let what = format!("{} reads holding and input registers, so {} needs both functions", profile.name, device.id);
        return Err(Refusal::new("function", what, "leave the function out"));
    }
    Ok(())
}

/// Why a device is left out.
struct Refusal {
    column: &'static str,
    what: String,
    mend: String,
}

impl Refusal {
    fn new(column: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal { column, what: what.into(), mend: mend.into() }
    }

    fn value(&self, device: &Device, profile: &Profile) -> String {
        match self.column {
            "id" => device.id.clone(),
            "address" => device.address.clone(),
            "profile" => profile.name.clone(),
            "function" => device.registers_from.map(|table| table.function().to_string()).unwrap_or_default(),
            _ => device.source.clone().unwrap_or_default(),
        }
    }
}

/// Leaves only the profiles that devices use, so that the site's hash does not change with models that are not here; and
/// those that lie below the overrides of some device, so that one can be compared with the other.
fn keep_used(devices: &mut [Device], all: &[Arc<Profile>]) -> Vec<Arc<Profile>> {
    let mut used: Vec<Arc<Profile>> = Vec::new();
    let mut new_position: BTreeMap<u16, u16> = BTreeMap::new();
    let mut wanted: BTreeSet<u16> = devices.iter().map(|device| device.profile).collect();
    let overridden = all
        .iter()
        .zip(0_u16..)
        .filter(|(profile, position)| !profile.overrides.is_empty() && wanted.contains(position));
    let is_below = |name: &str| all.iter().position(|below| below.name == name && below.overrides.is_empty());
    let below: Vec<usize> = overridden.filter_map(|(profile, _)| is_below(&profile.name)).collect();
    wanted.extend(below.into_iter().filter_map(|position| u16::try_from(position).ok()));
    for position in wanted {
        new_position.insert(position, u16::try_from(used.len()).expect("no more profiles than before"));
        used.push(Arc::clone(&all[usize::from(position)]));
    }
    for device in devices {
        device.profile = new_position[&device.profile];
    }
    used
}
