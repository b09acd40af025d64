//! `inventory`: the devices of the street, joined with profiles and sources.
//!
//! A row that is wrong is a warning with its line, and the device is left out: one bad cell must not keep a district
//! from starting. A file that is not there is a problem of gateway.yaml.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kerbside_model::document::{Problem, Problems, Section, closest};
use kerbside_model::inventory::{decode_text, parse_inventory};
use kerbside_model::profile::PayloadFormat;
use kerbside_model::{Device, Profile};

use super::modbus::{ModbusSource, Place};
use super::profiles::Profiles;
use super::read::Context;

/// A file of the inventory as it was read.
struct File {
    name: String,
    bytes: Vec<u8>,
    lines: OnceCell<BTreeMap<String, usize>>,
}

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
    pub(super) source_names: &'a [String],
    pub(super) modbus: &'a [ModbusSource],
    pub(super) problems: &'a Problems,
}

/// Reads the files that the key `inventory` names and joins them with everything else.
pub(super) fn read(top: &Section<'_>, context: &Context<'_>, around: &Surroundings<'_>) -> Inventory {
    let files = files(top, context);
    let warnings = Problems::default();
    let mut joining = Joining {
        around,
        warnings: &warnings,
        devices: Vec::new(),
        ids: BTreeMap::new(),
        addresses: BTreeSet::new(),
        places: vec![BTreeMap::new(); around.modbus.len()],
    };
    for file in &files {
        joining.file(file);
    }
    joining.inline_devices();
    if joining.devices.is_empty() {
        context.notice("the inventory is empty: every frame is kept as one of an unknown device");
    }
    let (mut devices, places) = (joining.devices, joining.places);
    let profiles = keep_used(&mut devices, &around.profiles.sound);
    Inventory { devices, profiles, places, warnings: warnings.into_sorted() }
}

fn files(top: &Section<'_>, context: &Context<'_>) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for name in top.texts("inventory") {
        let path: PathBuf = context.resolve(&name);
        let shown = path.display().to_string();
        if files.iter().any(|file| file.name == shown) {
            top.problem("inventory", &name, "this file stands here twice", "keep one of the two");
            continue;
        }
        match context.environment.read(&path) {
            Ok(bytes) => files.push(File { name: shown, bytes, lines: OnceCell::new() }),
            Err(error) => {
                let what = format!("this file cannot be read: {error}");
                top.problem("inventory", &name, what, "correct the path or its permissions");
            }
        }
    }
    files
}

struct Joining<'a> {
    around: &'a Surroundings<'a>,
    warnings: &'a Problems,
    devices: Vec<Device>,
    /// Where each id was first seen.
    ids: BTreeMap<String, String>,
    addresses: BTreeSet<(Option<String>, String)>,
    places: Vec<BTreeMap<Place, usize>>,
}

impl Joining<'_> {
    fn file(&mut self, file: &File) {
        let profiles = &self.around.profiles;
        let broken = profiles.broken.iter().map(String::as_str);
        let names: Vec<&str> = profiles.sound.iter().map(|profile| profile.name.as_str()).chain(broken).collect();
        let rows = parse_inventory(&file.name, &file.bytes, &names, self.around.source_names, self.warnings);
        for mut device in rows {
            // A device of a broken profile: that profile is the problem, and it is reported.
            let Some(profile) = profiles.sound.get(usize::from(device.profile)) else { continue };
            match self.admit(&mut device, profile, &file.name) {
                Ok(()) => self.devices.push(device),
                Err(refusal) => self.warnings.push(Problem {
                    file: file.name.clone(),
                    line: file.line_of(&device.id),
                    key: refusal.column.to_owned(),
                    value: refusal.value(&device, profile),
                    what: refusal.what,
                    mend: refusal.mend,
                }),
            }
        }
    }

    /// Checks the next device against everything else and writes its source and address as frames carry them.
    fn admit(&mut self, device: &mut Device, profile: &Profile, file: &str) -> Result<(), Refusal> {
        if let Some(first) = self.ids.get(&device.id) {
            return Err(Refusal::new("id", format!("{first} has a device of this id"), "give each device its own id"));
        }
        if let Some(position) = self.modbus_source(device, profile)? {
            let source = &self.around.modbus[position];
            let Some(place) = source.place(&device.address) else {
                let what = format!("not an address on {}", source.name);
                return Err(Refusal::new("address", what, source.address_form()));
            };
            if let Some(other) = self.places[position].get(&place) {
                let what = format!("{} is on the same unit", self.devices[*other].id);
                return Err(Refusal::new("address", what, "give each device its own unit"));
            }
            self.places[position].insert(place, self.devices.len());
            device.source = Some(source.name.clone());
            device.address = source.address(place);
        }
        if !self.addresses.insert((device.source.clone(), device.address.clone())) {
            let mend = "give each device its own address, or name its source in the column source";
            return Err(Refusal::new("address", "another file has a device with this address", mend));
        }
        self.ids.insert(device.id.clone(), file.to_owned());
        Ok(())
    }

    /// The Modbus source of a device, when it is read by registers.
    fn modbus_source(&self, device: &Device, profile: &Profile) -> Result<Option<usize>, Refusal> {
        let modbus = self.around.modbus;
        let named = device.source.as_deref();
        let position = named.and_then(|name| modbus.iter().position(|source| source.name == name));
        match (&profile.payload, named, position) {
            (PayloadFormat::Registers { .. }, _, Some(position)) => Ok(Some(position)),
            (PayloadFormat::Registers { .. }, None, None) => match modbus.len() {
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
            (PayloadFormat::Registers { .. }, Some(name), None) => {
                let what = format!("this profile reads Modbus registers, and {name} is not a Modbus source");
                Err(Refusal::new("profile", what, "name a Modbus source, or use a profile of messages"))
            }
            (PayloadFormat::Json { .. }, Some(name), Some(_)) => {
                let what = format!("this profile reads messages, and {name} is a Modbus source");
                Err(Refusal::new("profile", what, "name another source, or use a profile of registers"))
            }
            (PayloadFormat::Json { .. }, _, None) => Ok(None),
            (PayloadFormat::Json { .. }, None, Some(_)) => Ok(None),
        }
    }

    /// Adds the devices that Modbus sources declare themselves; what is wrong with them is wrong in gateway.yaml.
    fn inline_devices(&mut self) {
        for position in 0..self.around.modbus.len() {
            let source = &self.around.modbus[position];
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
            if !matches!(profiles.sound[profile].payload, PayloadFormat::Registers { .. }) {
                let mend = "use a profile of registers".to_owned();
                report("profile", inline.profile(), "this profile reads messages, not registers".to_owned(), mend);
                continue;
            }
            let profile_position = u16::try_from(profile).expect("fewer than 65536 profiles fit a folder");
            let profile = Arc::clone(&profiles.sound[profile]);
            for mut device in source.inline_devices(profile_position) {
                if let Err(refusal) = self.admit(&mut device, &profile, &inline.origin("").0) {
                    let key = if refusal.column == "address" { "unit" } else { "id" };
                    // The other buses would only repeat it.
                    report(key, &device.id, refusal.what, refusal.mend);
                    break;
                }
                self.devices.push(device);
            }
        }
    }
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
            _ => device.source.clone().unwrap_or_default(),
        }
    }
}

impl File {
    /// The line of a device's row. They are collected when the first row is found wrong.
    fn line_of(&self, id: &str) -> usize {
        self.lines.get_or_init(|| lines_of_ids(&self.bytes)).get(id).copied().unwrap_or(0)
    }
}

fn lines_of_ids(bytes: &[u8]) -> BTreeMap<String, usize> {
    let text = decode_text(bytes);
    let header = text.lines().next().unwrap_or("");
    let delimiter = if header.matches(';').count() > header.matches(',').count() { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let column = reader.headers().ok().and_then(|header| header.iter().position(|name| name == "id"));
    let mut lines = BTreeMap::new();
    for record in reader.records().flatten() {
        let id = column.and_then(|column| record.get(column));
        if let (Some(id), Some(position)) = (id, record.position()) {
            lines.entry(id.to_owned()).or_insert(usize::try_from(position.line()).unwrap_or(0));
        }
    }
    lines
}

/// Leaves only the profiles that devices use, so that the site's hash does not change with models that are not here.
fn keep_used(devices: &mut [Device], all: &[Arc<Profile>]) -> Vec<Arc<Profile>> {
    let mut used: Vec<Arc<Profile>> = Vec::new();
    let mut new_position: BTreeMap<u16, u16> = BTreeMap::new();
    let wanted: BTreeSet<u16> = devices.iter().map(|device| device.profile).collect();
    for position in wanted {
        new_position.insert(position, u16::try_from(used.len()).expect("no more profiles than before"));
        used.push(Arc::clone(&all[usize::from(position)]));
    }
    for device in devices {
        device.profile = new_position[&device.profile];
    }
    used
}
