//! Readings of InfluxDB 2: annotated CSV as its query API answers it, or line protocol.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kerbside_model::document::{Problem, Problems};
use kerbside_model::profile::{Profile, Slot};
use kerbside_model::time::Zone;
use kerbside_model::{Timestamp, Value};
use kerbside_sinks::http;

use super::rows::{Devices, ONLY_DEVICE, PROBLEMS_MAX, ROWS_IN_MEMORY_MAX, Row, RowsError, may_be, slot};
use super::times;

/// A database takes its time over years of readings.
const QUERY_TIMEOUT: Duration = Duration::from_secs(600);
/// More than this in one answer is asked for in parts, with --since and --until.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// What is asked of a database.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) url: String,
    pub(super) org: String,
    pub(super) bucket: String,
    pub(super) token: Option<String>,
    /// Only this device.
    pub(super) device: Option<String>,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

/// Asks a database for the points of a profile; the answer is annotated CSV.
pub(super) async fn ask(question: &Question, profile: &Profile) -> anyhow::Result<Vec<u8>> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let is_field = |name: &str| format!("r._field == {}", quoted(name));
    let fields: Vec<String> = profile.points.iter().map(|point| is_field(&point.name)).collect();
    let mut flux = format!(
        "from(bucket: {}) |> range(start: {}, stop: {}) |> filter(fn: (r) => r._measurement == {} and ({}))",
        quoted(&question.bucket),
        question.since,
        question.until,
        quoted(profile.kind.name()),
        fields.join(" or "),
    );
    if let Some(device) = &question.device {
        flux.push_str(&format!(" |> filter(fn: (r) => r.device == {})", quoted(device)));
    }
    let client = http::client(QUERY_TIMEOUT, None)?;
    let url = format!("{}/api/v2/query", question.url.trim_end_matches('/'));
    let mut request = client.post(url).query(&[("org", question.org.as_str())]);
    if let Some(token) = &question.token {
        request = request.header("Authorization", format!("Token {token}"));
    }
    let request = request.header("Accept", "application/csv").header("Content-Type", "application/vnd.flux").body(flux);
    let mut response = request.send().await.with_context(|| format!("ask the database at {}", question.url))?;
    if !response.status().is_success() {
        let status = response.status();
        let told = http::text(response).await.unwrap_or_default();
        bail!("ask the database at {}: {status}: {}", question.url, told.trim());
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.context("read the database's answer")? {
        answer.extend_from_slice(&chunk);
        if answer.len() > ANSWER_BYTES_MAX {
            bail!("read the database's answer: it has more than {ANSWER_BYTES_MAX} bytes; ask for less with --since");
        }
    }
    Ok(answer)
}

/// Reads what it is given, line by line, and notes what is wrong.
struct Reading<'a> {
    file: &'a str,
    profile: &'a Profile,
    devices: &'a mut Devices,
    rows: Vec<Row>,
    problems: Problems,
}

impl Reading<'_> {
    fn problem(&self, line: usize, key: &str, value: &str, what: impl Into<String>, mend: impl Into<String>) {
        let (file, key, value) = (self.file.to_owned(), key.to_owned(), value.to_owned());
        self.problems.push(Problem { file, line, key, value, what: what.into(), mend: mend.into() });
    }

    fn push(&mut self, at: Timestamp, device: &str, slots: Vec<(u16, Slot)>) -> Result<(), RowsError> {
        let device = self.devices.number(device);
        self.rows.push(Row { at, device, slots });
        if self.rows.len() > ROWS_IN_MEMORY_MAX {
            return Err(RowsError::TooLong { file: self.file.to_owned() });
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Row>, RowsError> {
        if self.problems.is_empty() { Ok(self.rows) } else { Err(RowsError::Problems(self.problems.into_sorted())) }
    }
}

/// Reads annotated CSV: tables of single fields, one behind the other, each with a header of its own.
pub(super) fn annotated_csv(
    file: &str,
    bytes: &[u8],
    profile: &Profile,
    zone: &Zone,
    devices: &mut Devices,
) -> Result<Vec<Row>, RowsError> {
    let mut reading = Reading { file, profile, devices, rows: Vec::new(), problems: Problems::default() };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut header: Option<Vec<String>> = None;
    let mut is_annotated = false;
    let mut record = csv::StringRecord::new();
    loop {
        let line = usize::try_from(reader.position().line()).unwrap_or(0);
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let mend = "give what the query API answers with `Accept: application/csv`";
                reading.problem(line, "", "", error.to_string(), mend);
                break;
            }
        }
        if record.get(0).is_some_and(|cell| cell.starts_with('#')) {
            // What stands behind an annotation is a header.
            is_annotated = true;
            header = None;
            continue;
        }
        let has_names = record.iter().any(|cell| cell == "_time") && record.iter().any(|cell| cell == "_value");
        match &header {
            None => header = Some(record.iter().map(str::to_owned).collect()),
            Some(_) if has_names => header = Some(record.iter().map(str::to_owned).collect()),
            Some(names) => {
                let place = record.position().map_or(line, |place| usize::try_from(place.line()).unwrap_or(0));
                take_record(&mut reading, names, &record, place, zone)?;
            }
        }
        if reading.problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if reading.rows.is_empty() && reading.problems.is_empty() && !is_annotated {
        reading.problem(0, "", "", "there is no reading in it", "export with `_time`, `_field`, `_value` and `device`");
    }
    reading.finish()
}

fn take_record(
    reading: &mut Reading<'_>,
    names: &[String],
    record: &csv::StringRecord,
    line: usize,
    zone: &Zone,
) -> Result<(), RowsError> {
    let cell = |name: &str| names.iter().position(|known| known == name).and_then(|place| record.get(place));
    let (Some(field), Some(value)) = (cell("_field"), cell("_value")) else {
        let mend = "export without pivot, so that each row has `_field` and `_value`";
        reading.problem(line, "", "", "there is no `_field` or no `_value` in this table", mend);
        return Ok(());
    };
    let Some(point) = reading.profile.point_index(field) else { return Ok(()) };
    let time = cell("_time").unwrap_or_default();
    let Some(at) = times::time(time, zone) else {
        reading.problem(line, "_time", time, "not a time", "write RFC 3339");
        return Ok(());
    };
    let facts = &reading.profile.points[point];
    let Some(slot) = slot(value, facts) else {
        reading.problem(line, "_value", value, format!("{field} cannot be this"), may_be(facts));
        return Ok(());
    };
    let device = cell("device").filter(|device| !device.is_empty()).unwrap_or(ONLY_DEVICE).to_owned();
    reading.push(at, &device, vec![(u16::try_from(point).unwrap_or(u16::MAX), slot)])
}

/// Reads line protocol; times are in ns, ms, us or s as their size says.
pub(super) fn line_protocol(
    path: &Path,
    profile: &Profile,
    zone: &Zone,
    devices: &mut Devices,
) -> Result<Vec<Row>, RowsError> {
    let file = path.display().to_string();
    let read = |source| RowsError::Read { file: file.clone(), source };
    let lines = BufReader::new(std::fs::File::open(path).map_err(read)?).lines();
    let mut reading = Reading { file: &file, profile, devices, rows: Vec::new(), problems: Problems::default() };
    for (number, line) in lines.enumerate() {
        let line = line.map_err(|source| RowsError::Read { file: file.clone(), source })?;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        take_line(&mut reading, &line, number + 1, zone)?;
        if reading.problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    reading.finish()
}

fn take_line(reading: &mut Reading<'_>, line: &str, number: usize, zone: &Zone) -> Result<(), RowsError> {
    let parts = split(line, ' ');
    let [head, fields, time] = parts.as_slice() else {
        let mend = "write `measurement,device=ID field=1 1767225600000`";
        reading.problem(number, "", line, "not a line of line protocol with a time", mend);
        return Ok(());
    };
    let Some(at) = times::time(time, zone) else {
        reading.problem(number, "time", time, "not a time", "write ns, ms or s since 1970");
        return Ok(());
    };
    let tags = split(head, ',');
    if tags.first().is_some_and(|measurement| unescaped(measurement) != reading.profile.kind.name()) {
        return Ok(());
    }
    let device = tags.iter().find_map(|tag| tag.strip_prefix("device=")).map_or(ONLY_DEVICE.to_owned(), unescaped);
    let mut slots = Vec::new();
    for field in split(fields, ',') {
        let Some((name, value)) = field.split_once('=') else { continue };
        let Some(point) = reading.profile.point_index(&unescaped(name)) else { continue };
        let facts = &reading.profile.points[point];
        let Some(slot) = field_slot(value, facts) else {
            reading.problem(number, name, value, format!("{} cannot be this", facts.name), may_be(facts));
            continue;
        };
        slots.push((u16::try_from(point).unwrap_or(u16::MAX), slot));
    }
    if slots.is_empty() { Ok(()) } else { reading.push(at, &device, slots) }
}

fn field_slot(value: &str, point: &kerbside_model::profile::Point) -> Option<Slot> {
    if let Some(text) = value.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
        return match point.value_type {
            kerbside_model::profile::ValueType::Text => Some(Slot::Read(Value::Text(text.into()))),
            _ => slot(&text, point),
        };
    }
    slot(value.strip_suffix(['i', 'u']).unwrap_or(value), point)
}

/// Splits at signs that are neither behind a backslash nor between quotes.
fn split(text: &str, sign: char) -> Vec<&str> {
    let (mut parts, mut start, mut is_escaped, mut is_quoted) = (Vec::new(), 0, false, false);
    for (place, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if letter == sign && !is_quoted => {
                parts.push(&text[start..place]);
                start = place + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.extend(letters.next()),
            other => plain.push(other),
        }
    }
    plain
}
