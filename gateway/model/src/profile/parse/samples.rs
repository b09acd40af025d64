//! The samples of a profile: captured frames with the readings that they must give.

use std::time::Duration;

use super::points::unknown_point_mend;
use super::registers::TABLES;
use super::scalar::{value_of_point, written};
use super::{Place, Report, check_element_count, link};
use crate::Timestamp;
use crate::document::{Node, NodeKind, Section};
use crate::frame::{RegisterBlock, RegisterFailure, RegisterRead, RegisterTable};
use crate::profile::{Origin, PayloadFormat, Point, Sample, SampleExpectation, SampleInput, SampleRow, SampleTime};
use crate::reading::Value;

/// Keys that hold the frame of a sample.
const INPUT_KEYS: [&str; 4] = ["json", "text", "hex", "registers"];
/// Addresses of a unit: 0 to 0xFFFF.
const ADDRESS_COUNT: usize = 0x1_0000;

/// Reads `samples`. At least one must be good and at least one bad (refused, or with a reading that is not good).
pub(super) fn read_samples(
    section: &Section<'_>,
    points: &[Point],
    payload: &PayloadFormat,
    report: Report<'_>,
) -> Vec<Sample> {
    let sections = section.sections("samples");
    check_element_count(section, "samples", sections.len());
    if sections.is_empty() {
        section.missing("samples", "add captured frames with the readings that they must give, one of them bad");
        return Vec::new();
    }
    let mut samples: Vec<Sample> = Vec::with_capacity(sections.len());
    for sample in sections {
        let reader = SampleReader { section: &sample, points, payload, report };
        samples.push(reader.read());
        sample.finish();
    }
    let values = |sample: &Sample| match &sample.expect {
        SampleExpectation::Readings { values, history, .. } => {
            values.iter().chain(history.iter().flat_map(|row| &row.values)).cloned().collect()
        }
        SampleExpectation::Error(_) => Vec::new(),
    };
    if !samples.iter().any(|sample| values(sample).iter().any(|(_, value)| value.is_some())) {
        section.problem(
            "samples",
            "",
            "no sample shows a good frame",
            "add a captured frame with the readings that it must give",
        );
    }
    let is_bad = |sample: &Sample| {
        let is_odd = match &sample.expect {
            SampleExpectation::Error(_) => true,
            SampleExpectation::Readings { remark, .. } => remark.is_some(),
        };
        is_odd || values(sample).iter().any(|(_, value)| value.is_none())
    };
    if !samples.iter().any(is_bad) {
        section.problem(
            "samples",
            "",
            "no sample shows a bad frame",
            "add one that must be refused (`error: not valid JSON`) or a reading that must not be good (`tilt_deg: null`)",
        );
    }
    samples
}

struct SampleReader<'a> {
    section: &'a Section<'a>,
    points: &'a [Point],
    payload: &'a PayloadFormat,
    report: Report<'a>,
}

impl SampleReader<'_> {
    fn read(&self) -> Sample {
        Sample {
            name: self.section.required_text("name", "write what the frame shows: `name: closed cover`"),
            input: self.read_input(),
            port: self.section.integer("port", 0, 255).and_then(|port| u8::try_from(port).ok()),
            envelope: link::read_envelope(self.section, self.payload),
            mount_height_mm: self.section.number("mount_height_mm"),
            expect: self.read_expectation(),
        }
    }

    fn read_input(&self) -> SampleInput {
        let given: Vec<&'static str> = INPUT_KEYS.into_iter().filter(|key| self.section.has(key)).collect();
        if given.len() > 1 {
            self.section.problem(
                given[1],
                "",
                format!("`{}` holds the frame already", given[0]),
                "keep one of the two",
            );
        }
        let is_registers = matches!(self.payload, PayloadFormat::Registers(_));
        let Some(key) = given.first().copied() else {
            let (key, mend) = match self.payload {
                PayloadFormat::Registers(_) => ("registers", "write `registers: {holding: {0x0004: [153]}}`"),
                PayloadFormat::Json(_) => ("json", "write the frame as `json:`, `text:` or `hex:`"),
                PayloadFormat::Csv(_) => ("text", "write the frame as `text:` or `hex:`"),
                _ => ("hex", "write the frame's bytes: `hex: 01 75 64`"),
            };
            self.section.missing(key, mend);
            return SampleInput::Text(String::new());
        };
        if (key == "registers") != is_registers {
            let format = self.payload.name();
            self.section.problem(key, "", format!("the payload's format is {format}"), "write a frame of that format");
        }
        match key {
            "json" => SampleInput::Text(self.read_json()),
            "text" => SampleInput::Text(self.section.text("text").unwrap_or_default()),
            "hex" => SampleInput::Bytes(self.read_hex()),
            _ => SampleInput::Registers(self.read_registers()),
        }
    }

    /// A map is the message; a single value is its JSON text as captured.
    fn read_json(&self) -> String {
        let Some(node) = self.section.node("json") else { return String::new() };
        let NodeKind::Scalar { text, .. } = &node.kind else { return node.to_json().to_string() };
        if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
            self.section.problem(
                "json",
                text,
                format!("not valid JSON: {error}"),
                "mend it; a frame that is meant to be broken stands under `text:`",
            );
        }
        text.clone()
    }

    fn read_hex(&self) -> Vec<u8> {
        let text = self.section.text("hex").unwrap_or_default();
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
                _ => None,
            })
            .collect();
        bytes.unwrap_or_else(|| {
            self.section.problem("hex", &text, "not hexadecimal bytes", "write two digits a byte: `hex: \"01 75 64\"`");
            Vec::new()
        })
    }

    fn read_registers(&self) -> RegisterRead {
        let Some(registers) = self.section.section("registers") else { return RegisterRead::default() };
        let mut read = RegisterRead::default();
        for (name, table) in TABLES {
            let Some(node) = registers.node(name) else { continue };
            let NodeKind::Map(entries) = &node.kind else {
                registers.problem(name, &written(node), "not a map from addresses to words", "write `{0x0004: [153]}`");
                continue;
            };
            for (key, line, words) in entries {
                let place = Place { line: *line, key: format!("{}.{key}", registers.path_of(name)) };
                read.blocks.extend(self.read_block(table, key, words, &place));
            }
        }
        for failure in registers.sections("failures") {
            read.failures.push(read_failure(&failure));
            failure.finish();
        }
        if read.blocks.is_empty() && read.failures.is_empty() {
            self.section.problem(
                "registers",
                "",
                "there is no register",
                "write `registers: {holding: {0x0004: [153]}}`",
            );
        }
        registers.finish();
        read
    }

    fn read_block(&self, table: RegisterTable, key: &str, node: &Node, place: &Place) -> Option<RegisterBlock> {
        let scalar = |text: &str| Node { line: 0, kind: NodeKind::Scalar { text: text.to_owned(), quoted: false } };
        let address = scalar(key).to_json().as_u64().and_then(|address| u16::try_from(address).ok());
        if address.is_none() {
            self.report.problem(place, key, "not an address", "write 0 to 0xFFFF");
        }
        let items = match &node.kind {
            NodeKind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut words = Vec::with_capacity(items.len());
        for item in items {
            let word = item.to_json().as_i64().and_then(word_of);
            if word.is_none() {
                self.report.problem(
                    place,
                    &written(item),
                    "not a register",
                    "write words of 16 bits: [153, 0xFFF6, -10]",
                );
            }
            words.push(word.unwrap_or(0));
        }
        let address = address?;
        if usize::from(address) + words.len() > ADDRESS_COUNT {
            self.report.problem(place, key, "the words reach behind the last address", "write fewer words");
        }
        Some(RegisterBlock { table, address, words })
    }

    fn read_expectation(&self) -> SampleExpectation {
        let has_readings = self.section.has("readings") || self.section.has("history");
        let observed_at = self.read_observed_at();
        if has_readings == self.section.has("error") {
            self.section.problem(
                "",
                "",
                "one of `readings` and `error` is needed",
                "write the readings that the frame must give, or a part of the message with which it must be refused",
            );
        }
        if !has_readings {
            let error = self.section.text("error").unwrap_or_default();
            return SampleExpectation::Error(error);
        }
        SampleExpectation::Readings {
            values: self.read_readings(self.section),
            observed_at,
            history: self.section.sections("history").into_iter().map(|row| self.read_row(row)).collect(),
            remark: self.section.text("remark"),
        }
    }

    fn read_row(&self, row: Section<'_>) -> SampleRow {
        let at = match (read_time(&row), row.duration("before")) {
            (Some(at), None) => SampleTime::At(at),
            (None, Some(before)) => SampleTime::Before(before),
            _ => {
                let mend = "write `observed_at: 2022-10-12T08:02:38Z`, or `before: 10m` for what tells no time";
                row.problem("", "", "one of `observed_at` and `before` is needed", mend);
                SampleTime::Before(Duration::ZERO)
            }
        };
        if !row.has("readings") {
            row.missing("readings", "write the readings of the row: `readings: {cover_open: false}`");
        }
        let values = self.read_readings(&row);
        row.finish();
        SampleRow { at, values }
    }

    fn read_observed_at(&self) -> Option<Timestamp> {
        let time = read_time(self.section);
        let text = self.section.text("observed_at")?;
        if !self.payload.tells_time() && !self.section.has("envelope") {
            self.section.problem(
                "observed_at",
                &text,
                "the frames of this profile carry no time",
                "leave it out, or write `payload.time`",
            );
        }
        time
    }

    fn read_readings(&self, section: &Section<'_>) -> Vec<(String, Option<Value>)> {
        let Some(node) = section.node("readings") else { return Vec::new() };
        let entries = match &node.kind {
            NodeKind::Map(entries) if !entries.is_empty() => entries.as_slice(),
            _ => {
                section.problem(
                    "readings",
                    &written(node),
                    "there is no reading",
                    "write `readings: {cover_open: false}`",
                );
                return Vec::new();
            }
        };
        let mut values = Vec::with_capacity(entries.len());
        for (name, line, node) in entries {
            let place = Place { line: *line, key: format!("{}.{name}", section.path_of("readings")) };
            let Some(point) = self.points.iter().find(|point| *point.name == **name) else {
                let names: Vec<&str> = self.points.iter().map(|point| point.name.as_ref()).collect();
                self.report.problem(&place, name, "there is no point of this name", unknown_point_mend(name, &names));
                continue;
            };
            let value = if node.is_null() { None } else { value_of_point(node, point, &place, self.report) };
            if let Some(value) = &value {
                self.check_possible(value, point, &place);
            }
            values.push((name.clone(), value));
        }
        values
    }

    /// A good reading lies in its range, and a level needs a mount height.
    fn check_possible(&self, value: &Value, point: &Point, place: &Place) {
        if let (Some(range), Some(number)) = (point.range, value.as_number())
            && !(range.min..=range.max).contains(&number)
        {
            self.report.problem(
                place,
                &number.to_string(),
                "outside the point's range, so it cannot be good",
                "write null, or mend the range",
            );
        }
        if matches!(point.origin, Origin::MountHeightMinus(_)) && !self.section.has("mount_height_mm") {
            self.section.missing(
                "mount_height_mm",
                &format!("{} is computed from it: write `mount_height_mm: 3000`", point.name),
            );
        }
    }
}

fn read_time(section: &Section<'_>) -> Option<Timestamp> {
    let text = section.text("observed_at")?;
    let time = Timestamp::parse(&text);
    if time.is_none() {
        let mend = "write RFC 3339: 2020-04-09T02:53:20.535Z";
        section.problem("observed_at", &text, "not a time with its zone", mend);
    }
    time
}

/// Words may be written with a sign, as people read them.
fn word_of(number: i64) -> Option<u16> {
    match i16::try_from(number) {
        Ok(signed) => Some(signed.cast_unsigned()),
        Err(_) => u16::try_from(number).ok(),
    }
}

fn read_failure(failure: &Section<'_>) -> RegisterFailure {
    let mend = "write `failures: [{table: holding, address: 0x0004, count: 1, cause: timeout}]`";
    for key in ["table", "address"] {
        if !failure.has(key) {
            failure.missing(key, mend);
        }
    }
    let word = |key, min, default| {
        let word = failure.integer(key, min, i64::from(u16::MAX)).unwrap_or(default);
        u16::try_from(word).expect("read within 16 bits")
    };
    RegisterFailure {
        table: failure.choice("table", &TABLES).unwrap_or(RegisterTable::Holding),
        address: word("address", 0, 0),
        count: word("count", 1, 1),
        cause: failure.required_text("cause", mend),
    }
}
