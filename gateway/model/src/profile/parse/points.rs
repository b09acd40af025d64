//! The points of a profile.

use std::sync::Arc;

use super::scalar::{raw_value, raw_values_of_key, value_of_type, written};
use super::units::{conversion, convertible_to};
use super::{Place, Report, check_element_count, check_snake_name, read_path};
use crate::document::{NodeKind, Section, closest};
use crate::frame::RegisterTable;
use crate::profile::{
    ByteOrder, JsonPath, Origin, PayloadFormat, Point, Range, RawValue, RegisterField, RegisterType, ValueType,
};
use crate::reading::Value;
use crate::vocabulary::{self, Term};

/// Canonical points that are true or false; every other one is a number.
const BOOLEAN_POINTS: [&str; 4] = ["cover_open", "water_present", "door_open", "lamp_on"];
/// `<point>_q` is the quality field that is stored beside a point.
const QUALITY_SUFFIX: &str = "_q";
/// Modbus addresses are 16 bits.
const ADDRESS_MAX: i64 = 0xFFFF;

const VALUE_TYPES: [(&str, ValueType); 4] = [
    ("number", ValueType::Number),
    ("boolean", ValueType::Boolean),
    ("enumeration", ValueType::Enumeration),
    ("text", ValueType::Text),
];
pub(super) const TABLES: [(&str, RegisterTable); 4] = [
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
    ("holding", RegisterTable::Holding),
    ("input", RegisterTable::Input),
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
        if let Some(other) = points.iter().find(|other| registers_clash(other, &point)) {
            point_section.problem(
                "register",
                "",
                format!("its registers overlap those of {} and are read in another way", other.name),
                "check the addresses (0-based) and the types: u32, i32 and f32 take two registers",
            );
        }
        point_section.finish();
        points.push(point);
    }
    check_derived(section, &points, report);
    points
}

/// Two points may share registers only when they read them in the same way: several bits, or two scales.
fn registers_clash(one: &Point, other: &Point) -> bool {
    let (Origin::Register(one), Origin::Register(other)) = (&one.origin, &other.origin) else { return false };
    let span = |field: &RegisterField| u32::from(field.address)..u32::from(field.address) + u32::from(field.width());
    let (one_span, other_span) = (span(one), span(other));
    let overlap = one_span.start < other_span.end && other_span.start < one_span.end;
    let same = one_span == other_span && one.value == other.value && one.order == other.order;
    one.table == other.table && overlap && !same
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
        Point {
            name: Arc::from(name.as_str()),
            value_type,
            unit,
            origin,
            scale,
            offset,
            range: self.read_range(value_type),
            map: self.read_map(value_type),
            invalid: self.read_invalid(),
            required: self.section.boolean("required").unwrap_or(false),
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
        let keys = ["path", "register", "mount_height_minus"];
        let given: Vec<&str> = keys.into_iter().filter(|key| self.section.has(key)).collect();
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
            Some(_) => self.read_mount_height_minus(),
            None => {
                let key = if matches!(self.payload, PayloadFormat::Json { .. }) { "path" } else { "register" };
                let mend = match key {
                    "path" => "write where the value stands in the message, such as `path: tilt`",
                    _ => "write the register: `register: {table: holding, address: 0x0004, type: i16}`",
                };
                self.section.missing(key, mend);
                Origin::Json(Vec::new())
            }
        }
    }

    fn read_paths(&self) -> Origin {
        if matches!(self.payload, PayloadFormat::Registers { .. }) {
            self.section.problem(
                "path",
                "",
                "the payload is registers, not JSON",
                "write `register:`, or `format: json`",
            );
        }
        let texts = self.section.texts("path");
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            self.section.problem("path", "", "a place is empty", "write where the value stands, such as `path: tilt`");
        }
        let place = Place { line: self.section.line(), key: self.section.path_of("path") };
        let paths: Vec<JsonPath> = texts.iter().map(|text| read_path(text, &place, self.report)).collect();
        Origin::Json(paths)
    }

    fn read_register(&self, value_type: ValueType) -> Origin {
        if matches!(self.payload, PayloadFormat::Json { .. }) {
            self.section.problem(
                "register",
                "",
                "the payload is JSON, not registers",
                "write `path:`, or `format: registers`",
            );
        }
        if value_type == ValueType::Text {
            self.section.problem(
                "type",
                "text",
                "text is not read from registers",
                "use number, boolean or enumeration",
            );
        }
        match self.section.section("register") {
            Some(register) => Origin::Register(read_register(register)),
            None => Origin::Json(Vec::new()),
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

fn read_register(register: Section<'_>) -> RegisterField {
    if !register.has("table") {
        register.missing("table", "write holding (function 3), input (function 4), coil or discrete");
    }
    if !register.has("address") {
        register.missing("address", "write the address on the wire, 0-based: 0x0004 where the manual says 40005");
    }
    let types = [
        ("u16", RegisterType::U16),
        ("i16", RegisterType::I16),
        ("u32", RegisterType::U32),
        ("i32", RegisterType::I32),
        ("f32", RegisterType::F32),
    ];
    let orders =
        [("abcd", ByteOrder::Abcd), ("cdab", ByteOrder::Cdab), ("badc", ByteOrder::Badc), ("dcba", ByteOrder::Dcba)];
    let address = register.integer("address", 0, ADDRESS_MAX).unwrap_or(0);
    let field = RegisterField {
        table: register.choice("table", &TABLES).unwrap_or(RegisterTable::Holding),
        address: u16::try_from(address).expect("read within 16 bits"),
        value: register.choice("type", &types).unwrap_or(RegisterType::U16),
        order: register.choice("order", &orders).unwrap_or_default(),
        bit: register.integer("bit", 0, 15).and_then(|bit| u8::try_from(bit).ok()),
    };
    check_register(&register, field);
    register.finish();
    field
}

fn check_register(register: &Section<'_>, field: RegisterField) {
    let is_bits = matches!(field.table, RegisterTable::Coil | RegisterTable::Discrete);
    if is_bits && field.value != RegisterType::U16 {
        register.problem("type", "", "a coil or discrete input is one bit", "leave `type` out");
    }
    if is_bits && field.bit.is_some() {
        register.problem("bit", "", "a coil or discrete input is one bit", "leave `bit` out");
    }
    if field.bit.is_some() && field.width() > 1 {
        register.problem(
            "bit",
            "",
            "a bit is taken from one register",
            "use `type: u16` and the address of the register with the bit",
        );
    }
    if i64::from(field.address) + i64::from(field.width()) - 1 > ADDRESS_MAX {
        register.problem(
            "address",
            "",
            "its second register lies behind the last address",
            "check the address (0-based) and the type",
        );
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
