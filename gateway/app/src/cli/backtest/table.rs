//! Readings in a table: CSV with a column for the time and one for each point.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use kerbside_model::document::{Problem, Problems};
use kerbside_model::inventory::decode_text;
use kerbside_model::profile::Profile;
use kerbside_model::time::Zone;

use super::rows::{Devices, ONLY_DEVICE, PROBLEMS_MAX, Row, RowsError, may_be, point_named, slot};
use super::times;

/// A header that is longer is none.
const HEADER_BYTES_MAX: u64 = 64 << 10;
const TIME_NAMES: [&str; 9] =
    ["time", "timestamp", "_time", "datetime", "ts", "observed_at", "date", "时间", "采集时间"];
const DEVICE_NAMES: [&str; 6] = ["device", "device_id", "deviceid", "id", "设备", "设备编号"];

/// How the columns of a table are understood.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping {
    /// Column with the time; the first of the usual names without it.
    pub(super) time: Option<String>,
    /// Column with the device.
    pub(super) device: Option<String>,
    /// Point and the column that holds it, besides the columns that are called like points.
    pub(super) points: Vec<(String, String)>,
}

/// A table that is read row by row.
pub(super) struct Table<'a> {
    path: PathBuf,
    profile: &'a Profile,
    zone: &'a Zone,
    columns: Columns,
    reader: csv::Reader<BufReader<File>>,
    record: csv::ByteRecord,
    problems: Problems,
    /// Bytes of the file, for the progress.
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct Columns {
    time: usize,
    time_name: String,
    device: Option<usize>,
    points: Vec<(usize, u16, String)>,
}

impl<'a> Table<'a> {
    /// Reads the header.
    pub(super) fn open(
        path: &Path,
        profile: &'a Profile,
        mapping: &Mapping,
        zone: &'a Zone,
    ) -> Result<Table<'a>, RowsError> {
        let read = |source| RowsError::Read { file: path.display().to_string(), source };
        let mut file = File::open(path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        let mut header = Vec::new();
        BufReader::new(&file).take(HEADER_BYTES_MAX).read_until(b'\n', &mut header).map_err(read)?;
        file.rewind().map_err(read)?;
        let header = decode_text(&header);
        let separator = separator(&header);
        let mut names =
            csv::ReaderBuilder::new().has_headers(false).delimiter(separator).from_reader(header.as_bytes());
        let names: Vec<String> = match names.records().next() {
            Some(Ok(record)) => {
                record.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect()
            }
            _ => Vec::new(),
        };
        let problems = Problems::default();
        let columns = columns(path, &names, profile, mapping, &problems);
        if !problems.is_empty() {
            return Err(RowsError::Problems(problems.into_sorted()));
        }
        let reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(BufReader::new(file));
        Ok(Table {
            path: path.to_owned(),
            profile,
            zone,
            columns,
            reader,
            record: csv::ByteRecord::new(),
            problems,
            bytes,
        })
    }

    /// Points that are in it.
    pub(super) fn given(&self) -> Vec<u16> {
        self.columns.points.iter().map(|(_, point, _)| *point).collect()
    }

    /// How far it was read, in bytes.
    pub(super) fn position(&self) -> u64 {
        self.reader.position().byte()
    }

    /// The next row that can be read; what cannot is noted.
    pub(super) fn next(&mut self, devices: &mut Devices) -> Result<Option<Row>, RowsError> {
        while self.problems.len() < PROBLEMS_MAX {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    let source = std::io::Error::other(error);
                    return Err(RowsError::Read { file: self.path.display().to_string(), source });
                }
            }
            let is_blank = self.record.iter().all(|cell| cell.iter().all(u8::is_ascii_whitespace));
            let is_comment = self.record.get(0).is_some_and(|cell| cell.starts_with(b"#"));
            if is_blank || is_comment {
                continue;
            }
            if let Some(row) = self.row(devices) {
                return Ok(Some(row));
            }
        }
        if self.problems.is_empty() {
            return Ok(None);
        }
        Err(RowsError::Problems(std::mem::take(&mut self.problems).into_sorted()))
    }

    fn row(&self, devices: &mut Devices) -> Option<Row> {
        let before = self.problems.len();
        let text = String::from_utf8_lossy(self.record.get(self.columns.time).unwrap_or_default());
        let at = times::time(&text, self.zone);
        if at.is_none() {
            let mend = "write RFC 3339, seconds or ms since 1970, or 2026-07-01 08:00:00 in the zone of --zone";
            self.problem(&self.columns.time_name, &text, "not a time", mend);
        }
        let mut slots = Vec::with_capacity(self.columns.points.len());
        for (column, point, name) in &self.columns.points {
            let cell = String::from_utf8_lossy(self.record.get(*column).unwrap_or_default());
            let point_facts = &self.profile.points[usize::from(*point)];
            match slot(&cell, point_facts) {
                Some(slot) => slots.push((*point, slot)),
                None => self.problem(name, &cell, format!("{} cannot be this", point_facts.name), may_be(point_facts)),
            }
        }
        if self.problems.len() > before {
            return None;
        }
        let device = match self.columns.device {
            Some(column) => {
                let id = decode_text(self.record.get(column).unwrap_or_default());
                devices.number(if id.trim().is_empty() { ONLY_DEVICE } else { id.trim() })
            }
            None => devices.number(ONLY_DEVICE),
        };
        Some(Row { at: at?, device, slots })
    }

    fn problem(&self, key: &str, value: &str, what: impl Into<String>, mend: impl Into<String>) {
        let line = self.record.position().map_or(0, csv::Position::line);
        self.problems.push(Problem {
            file: self.path.display().to_string(),
            line: usize::try_from(line).unwrap_or(0),
            key: key.to_owned(),
            value: value.to_owned(),
            what: what.into(),
            mend: mend.into(),
        });
    }
}

/// Spreadsheets of some countries write semicolons, and programs tabs.
fn separator(header: &str) -> u8 {
    let count = |separator: u8| header.bytes().filter(|byte| *byte == separator).count();
    [b',', b';', b'\t'].into_iter().max_by_key(|separator| (count(*separator), *separator == b',')).unwrap_or(b',')
}

fn columns(path: &Path, names: &[String], profile: &Profile, mapping: &Mapping, problems: &Problems) -> Columns {
    let problem = |key: &str, value: &str, what: String, mend: String| {
        let (file, key, value) = (path.display().to_string(), key.to_owned(), value.to_owned());
        problems.push(Problem { file, line: 1, key, value, what, mend });
    };
    let list = names.join(", ");
    let place = |name: &str| names.iter().position(|known| known == name);
    let named = |flag: &str, name: &Option<String>| {
        let name = name.as_ref()?;
        let found = place(name);
        if found.is_none() {
            problem(flag, name, "there is no column of this name".to_owned(), format!("the columns are {list}"));
        }
        found
    };
    let usual = |usual: &[&str]| names.iter().position(|name| usual.contains(&name.to_lowercase().as_str()));
    let time = named("--time", &mapping.time).or_else(|| mapping.time.is_none().then(|| usual(&TIME_NAMES))?);
    if time.is_none() && mapping.time.is_none() {
        let mend = format!("name it with --time COLUMN; the columns are {list}");
        problem("", "", "no column of times was found".to_owned(), mend);
    }
    let device =
        named("--device-column", &mapping.device).or_else(|| mapping.device.is_none().then(|| usual(&DEVICE_NAMES))?);
    let mut points = Vec::new();
    for (column, name) in
        names.iter().enumerate().filter(|(column, _)| Some(*column) != time && Some(*column) != device)
    {
        if let Ok(point) = point_named(profile, name) {
            points.push((column, point, name.clone()));
        }
    }
    for (point, column) in &mapping.points {
        match (point_named(profile, point), place(column)) {
            (Err(mend), _) => problem("--point", point, "there is no point of this name".to_owned(), mend),
            (Ok(_), None) => {
                let mend = format!("the columns are {list}");
                problem("--point", column, "there is no column of this name".to_owned(), mend);
            }
            (Ok(point), Some(place)) => {
                points.retain(|(_, known, _)| *known != point);
                points.push((place, point, column.clone()));
            }
        }
    }
    if points.is_empty() && problems.is_empty() {
        let names: Vec<&str> = profile.points.iter().map(|point| point.name.as_ref()).collect();
        let mend = format!(
            "say which column holds what, such as --point {}=COLUMN; the columns are {list}; the points of {} are {}",
            names.first().unwrap_or(&"level_mm"),
            profile.name,
            names.join(", ")
        );
        problem("", "", "no column is called like a point of the profile".to_owned(), mend);
    }
    let time = time.unwrap_or(0);
    Columns { time, time_name: names.get(time).cloned().unwrap_or_default(), device, points }
}
