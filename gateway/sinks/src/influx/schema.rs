//! Turns a site into what its telemetry will be in the database: measurements, tags, fields and how many series.
//!
//! A series is a measurement with one set of tag values; InfluxDB keeps an index of all of them. Every device has one
//! set of tags, so that the inventory decides how many there are; what user properties of messages add to them is not
//! known ahead and not counted here. Pure; nothing is stored.

use std::collections::{BTreeMap, BTreeSet};

use kerbside_model::Site;
use kerbside_model::inventory::Device;
use kerbside_model::profile::ValueType;

/// More series than this deserve a thought: InfluxData's hardware guide for InfluxDB calls fewer than 100,000 a low
/// load, for which 2 to 4 cores and 2 to 4 GB of memory are enough.
pub const SERIES_MAX: u64 = 100_000;

/// What a site writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// By name.
    pub measurements: Vec<Measurement>,
    /// Fields that the database will refuse from some devices.
    pub conflicts: Vec<FieldConflict>,
}

/// One kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Its name, which is the kind's.
    pub name: String,
    /// Sets of tag values.
    pub series: u64,
    /// Fields by name; each point can have a second one with its quality.
    pub fields: BTreeMap<String, &'static str>,
    /// Tags with the number of values that each has.
    pub tags: Vec<(&'static str, usize)>,
}

/// Two profiles of a kind that give one field two types: the database keeps the type that came first and refuses the
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldConflict {
    /// The kind of device.
    pub measurement: String,
    /// The field.
    pub field: String,
    /// The profile that was read first, and the type that it gives.
    pub first: (String, &'static str),
    /// The other one.
    pub second: (String, &'static str),
}

impl Schema {
    /// Series in all.
    pub fn series(&self) -> u64 {
        self.measurements.iter().map(|measurement| measurement.series).sum()
    }

    /// The measurement with the most series.
    pub fn largest(&self) -> Option<&Measurement> {
        self.measurements.iter().max_by_key(|measurement| measurement.series)
    }
}

impl Measurement {
    /// The tag with the most values: the column of the inventory that makes the series many.
    pub fn largest_tag(&self) -> Option<(&'static str, usize)> {
        // Of several with the same number, the first one: `device` stands first.
        self.tags.iter().copied().rev().max_by_key(|(_, values)| *values)
    }
}

/// What every device writes besides its points.
const RECEIVED_AT: (&str, &str) = ("received_at", "integer");
/// Type of the fields that tell why a reading is not good.
const QUALITY_TYPE: &str = "string";

/// What the devices of a site will write.
pub fn predict(site: &Site) -> Schema {
    let mut measurements: BTreeMap<&'static str, Seen<'_>> = BTreeMap::new();
    let mut schema = Schema::default();
    for device in site.devices() {
        let profile = site.profile_of(device);
        let seen = measurements.entry(profile.kind.name()).or_default();
        seen.add_device(device, &profile.name);
        if !seen.profiles.insert(device.profile) {
            continue;
        }
        for point in &profile.points {
            let name = field_name(&point.name);
            let fields = [(format!("{name}_q"), QUALITY_TYPE), (name, field_type(point.value_type))];
            for (field, field_type) in fields {
                let known = seen.fields.entry(field.clone()).or_insert((&profile.name, field_type));
                if known.1 != field_type {
                    schema.conflicts.push(FieldConflict {
                        measurement: profile.kind.name().to_owned(),
                        field,
                        first: (known.0.to_owned(), known.1),
                        second: (profile.name.clone(), field_type),
                    });
                }
            }
        }
    }
    schema.measurements = measurements.into_iter().map(|(name, seen)| seen.into_measurement(name)).collect();
    schema
}

/// A measurement while the inventory is read.
#[derive(Default)]
struct Seen<'a> {
    tag_sets: BTreeSet<[&'a str; 4]>,
    profiles: BTreeSet<u16>,
    /// Field -> the profile that gave it first, and its type.
    fields: BTreeMap<String, (&'a str, &'static str)>,
}

/// The tags that every line can have, as they stand in it.
pub(super) const TAGS: [&str; 4] = ["device", "grid", "profile", "unit"];

impl<'a> Seen<'a> {
    fn add_device(&mut self, device: &'a Device, profile: &'a str) {
        self.tag_sets.insert([&device.id, &device.grid, profile, &device.unit]);
    }

    fn into_measurement(self, name: &str) -> Measurement {
        let values = |position: usize| -> BTreeSet<&str> {
            // An empty text gives no tag.
            self.tag_sets.iter().map(|set| set[position]).filter(|value| !value.is_empty()).collect()
        };
        let tags = TAGS.iter().enumerate().map(|(position, tag)| (*tag, values(position).len())).collect();
        let mut fields: BTreeMap<String, &'static str> =
            self.fields.into_iter().map(|(field, (_, field_type))| (field, field_type)).collect();
        fields.insert(RECEIVED_AT.0.to_owned(), RECEIVED_AT.1);
        Measurement { name: name.to_owned(), series: self.tag_sets.len() as u64, fields, tags }
    }
}

/// InfluxDB drops a field of the name `time`, and `received_at` is ours: a profile's own points step aside.
fn field_name(point: &str) -> String {
    if point == "time" || point == RECEIVED_AT.0 { format!("{point}_") } else { point.to_owned() }
}

fn field_type(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Number => "float",
        ValueType::Boolean => "boolean",
        ValueType::Enumeration | ValueType::Text => "string",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kerbside_model::port::TelemetryBatch;
    use kerbside_model::{Cause, DeviceIndex, Flag, Observations, PointReading, Quality, Timestamp, Value};

    use super::super::encode::{Encoder, Lines};
    use super::super::tests::lines::{Field, parse};
    use super::super::tests::{device, point, site_of};
    use super::*;

    #[test]
    fn what_is_predicted_is_what_the_encoder_writes() {
        let types = [ValueType::Number, ValueType::Boolean, ValueType::Enumeration, ValueType::Text];
        let names = ["level_mm", "time", "received_at", "state"];
        let points = names.iter().zip(types).map(|(name, value_type)| point(name, value_type)).collect();
        let mut first = device("MH-1");
        (first.grid, first.unit) = ("3401".to_owned(), "市政".to_owned());
        let mut second = device("MH-2");
        second.grid = "3401".to_owned();
        let site = site_of("level-meter", points, vec![first, second]);
        let predicted = predict(&site);
        assert_eq!(predicted.conflicts, []);
        let measurement = predicted.largest().unwrap();
        assert_eq!((predicted.series(), measurement.series), (2, 2));
        assert_eq!(measurement.tags, [("device", 2), ("grid", 1), ("profile", 1), ("unit", 1)]);
        assert_eq!(measurement.largest_tag(), Some(("device", 2)));

        // Every point with a value that is not good has both of its fields.
        let suspect = Quality { flag: Flag::Suspect, cause: Cause::Stale };
        let values = [Value::Number(1.5), Value::Boolean(true), Value::Text("on".into()), Value::Text("x".into())];
        let readings = values.into_iter().enumerate().map(|(index, value)| PointReading {
            point: u16::try_from(index).unwrap(),
            value: Some(value),
            quality: suspect,
        });
        let mut observations = Observations::default();
        observations.push(DeviceIndex(0), Timestamp(1), Timestamp(2), false, readings);
        let mut lines = Lines::default();
        let batch = TelemetryBatch { sequence: 1, site, observations: Arc::new(observations) };
        Encoder::default().encode(&batch, &mut lines);
        let text = String::from_utf8(lines.into_parts().0).unwrap();
        let line = parse(text.trim_end()).unwrap();
        assert_eq!(line.measurement, measurement.name);
        assert_eq!(line.tags.keys().collect::<Vec<_>>(), TAGS.iter().collect::<Vec<_>>());
        let written: BTreeMap<String, &str> = line
            .fields
            .iter()
            .map(|(name, field)| {
                let field_type = match field {
                    Field::Float(_) => "float",
                    Field::Integer(_) => "integer",
                    Field::Boolean(_) => "boolean",
                    Field::Text(_) => "string",
                };
                (name.clone(), field_type)
            })
            .collect();
        assert_eq!(written, measurement.fields);
    }

    #[test]
    fn a_field_with_two_types_is_found_before_the_database_refuses_it() {
        let points = vec![point("state", ValueType::Number), point("state_q", ValueType::Number)];
        let site = site_of("odd", points, vec![device("A")]);
        let conflicts = predict(&site).conflicts;
        assert_eq!(
            conflicts,
            [FieldConflict {
                measurement: "drain".to_owned(),
                field: "state_q".to_owned(),
                first: ("odd".to_owned(), "string"),
                second: ("odd".to_owned(), "float"),
            }]
        );
    }
}
