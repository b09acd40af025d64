//! The points of a profile.

use std::sync::Arc;

use super::cadence::read_cadence;
use super::scalar::{raw_value, raw_values_of_key, value_of_type, written};
use super::units::{conversion, convertible_to};
use super::{Place, Report, binary, check_element_count, check_snake_name, csv, link, read_path, registers, sparkplug};
use crate::document::{NodeKind, Section, closest};
use crate::profile::{JsonPath, Origin, PayloadFormat, Point, PointQuality, Range, RawValue, ValueType, range_of_kind};
use crate::reading::Value;
use crate::vocabulary::{self, Term};

/// Canonical points that are true or false; every other one is a number.
const BOOLEAN_POINTS: [&str; 7] =
    ["cover_open", "water_present", "door_open", "lamp_on", "tamper", "pump_on", "cabinet_water"];
/// `<point>_q` is the quality field that is stored beside a point.
const QUALITY_SUFFIX: &str = "_q";

/// Keys that say where a value comes from; a point has one of them.
pub(super) const ORIGIN_KEYS: [&str; 7] = ["path", "register", "at", "column", "metric", "link", "mount_height_minus"];
const VALUE_TYPES: [(&str, ValueType); 4] = [
    ("number", ValueType::Number),
    ("boolean", ValueType::Boolean),
    ("enumeration", ValueType::Enumeration),
    ("text", ValueType::Text),
];
/// Reads `points`. A point that has a problem keeps its place, so that positions stay right.
pub(super) fn read_points(section: &Section<'_>, payload: &PayloadFormat, report: Report<'_>) -> Vec<Point> {
    let sections = section.sections("points");
    check_element_count(section, "points", sections.len());
    if sections.is_empty() {
        section.missing("points", "write at least one point: `- name: cover_open`");
    }
    let names: Vec<String> = sections.iter().map(|point| point.text("name").unwrap_or_default()).collect();
    let mut points: Vec<Point> = Vec::with_capacity(sections.len());
    for (position, point_section) in sections.into_iter().enumerate() {
        let reader = PointReader { section: &point_section, payload, names: &names, report };
        let point = reader.read();
        if !point.name.is_empty() && names[..position].iter().any(|name| *name == *point.name) {
            point_section.problem("name", &point.name, "another point has this name", "give each point its own name");
        }
        let may_overlap = point_section.section("register").is_some_and(|place| registers::may_overlap(&place));
        if let Some(other) = points.iter().find(|other| !may_overlap && registers_clash(other, &point)) {
            point_section.problem(
                "register",
                "",
                format!("its registers overlap those of {} and are read in another way", other.name),
                "check the addresses (0-based) and the types: u32, i32 and f32 take two registers; or write \
                 `overlap: allowed` when the maker's sheet has it so",
            );
        }
        point_section.finish();
        points.push(point);
    }
    check_derived(section, &points, report);
    points
}

fn registers_clash(one: &Point, other: &Point) -> bool {
    let (Origin::Register(one), Origin::Register(other)) = (&one.origin, &other.origin) else { return false };
    registers::clash(one, other)
}

/// The point that a level is computed from must be a measured distance in mm.
fn check_derived(section: &Section<'_>, points: &[Point], report: Report<'_>) {
    for (position, point) in points.iter().enumerate() {
        let Origin::MountHeightMinus(from) = point.origin else { continue };
        let from = &points[usize::from(from)];
        let place = Place {
            line: section.sections("points").get(position).map_or(section.line(), Section::line),
            key: format!("points[{position}].mount_height_minus"),
        };
        if from.value_type != ValueType::Number || from.unit != "mm" || point.unit != "mm" {
            report.problem(
                &place,
                &from.name,
                "a mount height in mm minus a distance gives a level only when both points are numbers in mm",
                "give both points the unit mm; `from_unit` converts what the device sends",
            );
        }
        if matches!(from.origin, Origin::MountHeightMinus(_)) {
            report.problem(&place, &from.name, "this point is computed itself", "name a point that the device sends");
        }
    }
}

struct PointReader<'a> {
    section: &'a Section<'a>,
    payload: &'a PayloadFormat,
    names: &'a [String],
    report: Report<'a>,
}

impl PointReader<'_> {
    fn read(&self) -> Point {
        let name = self.read_name();
        let term = vocabulary::point(&name);
        let value_type = self.read_type(&name, term);
        let unit = self.read_unit(&name, term, value_type);
        let origin = self.read_origin(value_type);
        let (scale, offset) = self.read_scale(value_type, &unit);
        if matches!(origin, Origin::MountHeightMinus(_)) {
            self.refuse_raw_keys();
        }
        // Read when all points are known.
        self.section.node("quality");
        let cadence = read_cadence(self.section, self.payload, &origin);
        let (mut map, mut invalid) = (self.read_map(value_type), self.read_invalid());
        if let Origin::Register(field) = &origin {
            map = map.into_iter().map(|(raw, value)| (registers::sign_mark(field, raw), value)).collect();
            invalid = invalid.into_iter().map(|raw| registers::sign_mark(field, raw)).collect();
        }
        Point {
            name: Arc::from(name.as_str()),
            value_type,
            unit,
            origin,
            scale,
            offset,
            range: self.read_range(value_type).or_else(|| range_of_kind(&name)),
            map,
            invalid,
            required: self.section.boolean("required").unwrap_or(false),
            interval: cadence.interval,
            storm_interval: cadence.storm_interval,
            quality: PointQuality::of_kind(&name),
        }
    }

    fn read_name(&self) -> String {
        let name = self.section.required_text("name", "write the point's name, such as `name: cover_open`");
        check_snake_name(self.section, "name", &name, "level_mm");
        if name.ends_with(QUALITY_SUFFIX) {
            self.section.problem(
                "name",
                &name,
                format!("names with {QUALITY_SUFFIX} at the end are kept for the quality of a point"),
                "choose another name",
            );
        }
        name
    }

    fn read_type(&self, name: &str, term: Option<&Term>) -> ValueType {
        let canonical = if BOOLEAN_POINTS.contains(&name) { ValueType::Boolean } else { ValueType::Number };
        let value_type = self.section.choice("type", &VALUE_TYPES).unwrap_or(canonical);
        if term.is_some() && value_type != canonical {
            self.section.problem(
                "type",
                type_name(value_type),
                format!("{name} is a {} in every profile", type_name(canonical)),
                "leave `type` out, or choose a name of your own for the point",
            );
        }
        value_type
    }

    fn read_unit(&self, name: &str, term: Option<&Term>, value_type: ValueType) -> String {
        let written = self.section.text("unit");
        if let (Some(term), Some(unit)) = (term, &written)
            && unit != term.unit
        {
            let mend = match conversion(unit, term.unit) {
                Some(_) => {
                    format!("leave `unit` out and write `from_unit: {unit}`: what the device sends is converted")
                }
                None => "leave `unit` out, or choose a name of your own for the point".to_owned(),
            };
            let canonical =
                if term.unit.is_empty() { "has no unit".to_owned() } else { format!("is in {}", term.unit) };
            self.section.problem("unit", unit, format!("{name} {canonical} in every profile"), mend);
        }
        if written.is_some() && value_type != ValueType::Number {
            self.section.problem("unit", "", "only a number has a unit", "leave `unit` out");
        }
        term.map_or_else(|| written.unwrap_or_default(), |term| term.unit.to_owned())
    }

    /// Scale and offset from the raw number to the point's unit, with the conversion of `from_unit` in them.
    fn read_scale(&self, value_type: ValueType, unit: &str) -> (f64, f64) {
        let scale = self.section.number("scale");
        let offset = self.section.number("offset");
        let from_unit = self.section.text("from_unit");
        if value_type != ValueType::Number && (scale.is_some() || offset.is_some() || from_unit.is_some()) {
            self.section.problem(
                "",
                "",
                "only a number has scale, offset and from_unit",
                "leave them out, or give the point `type: number`",
            );
        }
        if scale == Some(0.0) {
            self.section.problem("scale", "0", "every value would be the same", "write another scale, or leave it out");
        }
        let (scale, offset) = (scale.unwrap_or(1.0), offset.unwrap_or(0.0));
        let Some(from_unit) = from_unit else { return (scale, offset) };
        match conversion(&from_unit, unit) {
            Some((factor, shift)) => (scale * factor, offset * factor + shift),
            None => {
                let known = convertible_to(unit);
                let mend = if known.is_empty() {
                    format!("nothing turns into {unit:?} here: use scale and offset")
                } else {
                    format!("these turn into {unit}: {}; for others use scale and offset", known.join(", "))
                };
                self.section.problem("from_unit", &from_unit, format!("it does not turn into {unit:?}"), mend);
                (scale, offset)
            }
        }
    }

    fn read_range(&self, value_type: ValueType) -> Option<Range> {
        let range = self.section.section("range")?;
        let needed = |key| {
            if !range.has(key) {
                range.missing(key, "write both ends: `range: {min: 0, max: 180}`");
            }
            range.number(key)
        };
        let (min, max) = (needed("min"), needed("max"));
        range.finish();
        let (min, max) = (min?, max?);
        if min >= max {
            self.section.problem(
                "range",
                &format!("{min} to {max}"),
                "min is not below max",
                "exchange the two; every value outside is bad",
            );
            return None;
        }
        if value_type != ValueType::Number {
            self.section.problem("range", "", "only a number has a range", "leave `range` out");
        }
        Some(Range { min, max })
    }

    fn read_map(&self, value_type: ValueType) -> Vec<(RawValue, Value)> {
        let Some(node) = self.section.node("map") else {
            if value_type == ValueType::Enumeration {
                self.section.missing("map", "an enumeration needs its labels: `map: {0: closed, 1: ajar, 2: open}`");
            }
            return Vec::new();
        };
        let NodeKind::Map(entries) = &node.kind else {
            self.section.problem(
                "map",
                &written(node),
                "not a map",
                "write what is sent and what it means: {0: false, 1: true}",
            );
            return Vec::new();
        };
        let mut map = Vec::with_capacity(entries.len());
        for (key, line, node) in entries {
            let place = Place { line: *line, key: format!("{}.{key}", self.section.path_of("map")) };
            let Some(value) = value_of_type(node, value_type, &place, self.report) else { continue };
            map.extend(raw_values_of_key(key).into_iter().map(|raw| (raw, value.clone())));
        }
        if entries.is_empty() {
            self.section.problem(
                "map",
                "",
                "the map is empty",
                "write what is sent and what it means: {0: false, 1: true}",
            );
        }
        map
    }

    fn read_invalid(&self) -> Vec<RawValue> {
        let Some(node) = self.section.node("invalid") else { return Vec::new() };
        let items = match &node.kind {
            NodeKind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match raw_value(item) {
                Some(value) => values.push(value),
                None => self.section.problem(
                    "invalid",
                    "",
                    "not a list of single values",
                    "write `invalid: [0xFFFF, null]`",
                ),
            }
        }
        values
    }

    fn read_origin(&self, value_type: ValueType) -> Origin {
        let given: Vec<&str> = ORIGIN_KEYS.into_iter().filter(|key| self.section.has(key)).collect();
        if given.len() > 1 {
            self.section.problem(
                given[1],
                "",
                format!("`{}` says already where the value comes from", given[0]),
                "keep one of the two",
            );
        }
        match given.first() {
            Some(&"path") => self.read_paths(),
            Some(&"register") => self.read_register(value_type),
            Some(&"at") => self.read_at(value_type),
            Some(&"column") => self.read_column(),
            Some(&"metric") => self.read_metrics(),
            Some(&"link") => link::read_link(self.section, self.payload, value_type),
            Some(_) => self.read_mount_height_minus(),
            None => {
                let (key, mend) = key_of(self.payload);
                self.section.missing(key, mend);
                Origin::Json(Vec::new())
            }
        }
    }

    fn read_paths(&self) -> Origin {
        self.check_key("path");
        let texts = self.section.texts("path");
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            self.section.problem("path", "", "a place is empty", "write where the value stands, such as `path: tilt`");
        }
        let place = Place { line: self.section.line(), key: self.section.path_of("path") };
        let paths: Vec<JsonPath> = texts.iter().map(|text| read_path(text, &place, self.report)).collect();
        Origin::Json(paths)
    }

    fn read_register(&self, value_type: ValueType) -> Origin {
        self.check_key("register");
        match (self.section.section("register"), self.payload) {
            (Some(register), PayloadFormat::Registers(format)) => {
                Origin::Register(registers::read_register(&register, format, value_type))
            }
            _ => Origin::Json(Vec::new()),
        }
    }

    fn read_at(&self, value_type: ValueType) -> Origin {
        self.check_key("at");
        let PayloadFormat::Binary(format) = self.payload else { return Origin::Json(Vec::new()) };
        let places = binary::read_places(self.section, format);
        let is_text = places.iter().any(|place| place.field.value.is_text());
        if is_text && matches!(value_type, ValueType::Number | ValueType::Boolean) && !self.section.has("map") {
            let mend = "give the point `type: text`, or a `map` from texts to values";
            self.section.problem("at", "", "the bytes are a text, and the point is not", mend);
        }
        Origin::Binary(places)
    }

    fn read_column(&self) -> Origin {
        self.check_key("column");
        match self.payload {
            PayloadFormat::Csv(format) => Origin::Csv(csv::read_columns(self.section, format)),
            _ => Origin::Json(Vec::new()),
        }
    }

    fn read_metrics(&self) -> Origin {
        self.check_key("metric");
        Origin::Metric(sparkplug::read_metrics(self.section))
    }

    /// Each format has its own key for the place of a value.
    fn check_key(&self, key: &str) {
        let (wanted, mend) = key_of(self.payload);
        if key != wanted {
            self.section.problem(key, "", format!("the payload's format is {}", self.payload.name()), mend);
        }
    }

    fn read_mount_height_minus(&self) -> Origin {
        let name = self.section.text("mount_height_minus").unwrap_or_default();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let position = names.iter().position(|known| *known == name);
        match position.and_then(|position| u16::try_from(position).ok()) {
            Some(position) => Origin::MountHeightMinus(position),
            None => {
                self.section.problem(
                    "mount_height_minus",
                    &name,
                    "there is no point of this name",
                    unknown_point_mend(&name, &names),
                );
                Origin::Json(Vec::new())
            }
        }
    }

    /// A computed point has no raw value.
    fn refuse_raw_keys(&self) {
        for key in ["scale", "offset", "from_unit", "map", "invalid"] {
            if self.section.has(key) {
                self.section.problem(
                    key,
                    "",
                    "a computed point has no raw value",
                    "write it at the point that the device sends",
                );
            }
        }
    }
}

/// The key by which points of a format say where they stand, and what to write there.
fn key_of(payload: &PayloadFormat) -> (&'static str, &'static str) {
    match payload {
        PayloadFormat::Json(_) | PayloadFormat::Cbor(_) | PayloadFormat::Codec(_) => {
            ("path", "write where the value stands in the message, such as `path: tilt`")
        }
        PayloadFormat::Registers(_) => {
            ("register", "write the register: `register: {table: holding, address: 0x0004, type: i16}`")
        }
        PayloadFormat::Binary(_) => ("at", "write where the value stands in the bytes: `at: {offset: 0, type: u16}`"),
        PayloadFormat::Csv(_) => ("column", "write which column holds it: `column: 3`, counted from 1, or its name"),
        PayloadFormat::Sparkplug(_) => {
            ("metric", "write the metric's name as the birth has it, such as `metric: Level/mm`")
        }
    }
}

/// What to do about a point that is not there.
pub(super) fn unknown_point_mend(name: &str, names: &[&str]) -> String {
    match closest(name, names) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("points of this profile: {}", names.join(", ")),
    }
}

fn type_name(value_type: ValueType) -> &'static str {
    VALUE_TYPES.iter().find(|(_, known)| *known == value_type).map_or("", |(name, _)| name)
}
