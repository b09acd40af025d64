//! Rows of a table become devices, and every row that cannot becomes one clear problem for each thing wrong with it.

use std::borrow::Cow;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::columns::{COLUMNS, Column};
use super::tags::{TAG_CHARACTERS_MAX, TAGS_MAX, TagFault, split_tags};
use super::text::HEADER_ROWS_MAX;
use super::{Device, Entry, Known, ServiceState};
use crate::document::{Problem, Problems, closest, parse_duration};
use crate::frame::RegisterTable;
use crate::geo::Datum;
use crate::site::{GATEWAY_DEVICE, address_key};
use crate::time::Timestamp;

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// Its number as a spreadsheet shows it, from 1.
    pub number: usize,
    /// Its cells from the first column on.
    pub cells: Vec<Cell>,
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text, or nothing.
    Text(String),
    /// What the spreadsheet keeps as a number: 15 digits at most.
    Number(f64),
    /// What the spreadsheet took for a date or a time, as it would show it.
    Date(String),
    /// An error of a formula, such as `#N/A`.
    Error(String),
}

/// A row that cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Its number as a spreadsheet shows it, from 1.
    pub number: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

/// A spreadsheet keeps 15 digits of a number.
const NUMBER_DIGITS_MAX: f64 = 1e15;
/// What formulas give that fail, as a CSV file has it.
const ERRORS: [&str; 7] = ["#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"];
/// Columns with codes and names, in which a number is text.
const CODES: [Column; 7] = [
    Column::Id,
    Column::Address,
    Column::Grid,
    Column::ComponentCode,
    Column::Parent,
    Column::Tags,
    Column::Downstream,
];
/// Longitudes and latitudes of China with some room, by which swapped ones are known.
const CHINA: ((f64, f64), (f64, f64)) = ((70.0, 140.0), (0.0, 60.0));

impl Cell {
    /// What the cell says, without spaces around it.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Cell::Text(text) | Cell::Date(text) | Cell::Error(text) => Cow::Borrowed(text.trim()),
            // Excel shows whole numbers beyond this so, with fewer digits than it was given.
            Cell::Number(number) if number.abs() >= NUMBER_DIGITS_MAX => Cow::Owned(format!("{number:.5E}")),
            Cell::Number(number) => Cow::Owned(number.to_string()),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Cell::Text(text) if text.trim().is_empty())
    }

    /// Whether an error stands here instead of a value.
    fn is_error(&self) -> bool {
        match self {
            Cell::Error(_) => true,
            Cell::Text(text) => ERRORS.contains(&text.trim()),
            Cell::Number(_) | Cell::Date(_) => false,
        }
    }

    /// Why this cannot be a code any more, when the spreadsheet spoilt it.
    fn spoilt_code(&self) -> Option<&'static str> {
        match self {
            Cell::Date(_) => Some("the spreadsheet took this code for a date or a time"),
            Cell::Number(number) if number.abs() >= NUMBER_DIGITS_MAX => {
                Some("the spreadsheet took this code for a number and lost the digits behind the 15th")
            }
            Cell::Text(text) if is_scientific(text.trim()) => {
                Some("the spreadsheet took this code for a number and wrote it with an exponent: digits are lost")
            }
            _ => None,
        }
    }
}

/// Such as `4.10699E+15`: digits, perhaps a point, `E`, a sign, digits. A DevEUI has no sign in it.
fn is_scientific(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
    digits(whole) && digits(fraction) && exponent.strip_prefix(['+', '-']).is_some_and(digits)
}

/// The beginning of a day in UTC, from `2026-11-23`, `2026/11/23`, `2026.11.23` or `2026年11月23日`; a time behind it is
/// left aside.
fn read_date(text: &str) -> Option<Timestamp> {
    let day = text.split([' ', 'T']).next()?.trim_end_matches('日');
    let mut parts = day.split(['-', '/', '.', '年', '月']).map(str::trim);
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year = year.parse::<i16>().ok().filter(|year| (2_000..2_100).contains(year))?;
    let date = jiff::civil::Date::new(year, month.parse().ok()?, day.parse().ok()?).ok()?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    parts.next().is_none().then(|| Timestamp(zoned.timestamp().as_millisecond()))
}

/// Where the columns stand in a table.
struct Header {
    /// The position of each column.
    positions: [Option<usize>; COLUMNS],
    /// What stands above each position.
    headings: Vec<String>,
    /// Rows from the first that belong to it, or stand above it.
    rows: usize,
}

/// Reads rows into devices.
pub fn read_rows(
    file: &str,
    rows: &mut dyn Iterator<Item = Result<TableRow, RowFault>>,
    known: &Known<'_>,
    problems: &Problems,
) -> Vec<Entry> {
    let report = |fault: RowFault| {
        problems.push(Problem {
            file: file.to_owned(),
            line: fault.number,
            key: String::new(),
            value: String::new(),
            what: fault.what,
            mend: fault.mend,
        });
    };
    let mut first: Vec<TableRow> = Vec::new();
    for row in (&mut *rows).take(HEADER_ROWS_MAX) {
        match row {
            Ok(row) => first.push(row),
            Err(fault) => report(fault),
        }
    }
    let Some(header) = Header::find(&first) else {
        problems.push(no_header(file, &first));
        return Vec::new();
    };
    header.check(file, first[header.rows - 1].number, problems);
    let mut reading = Reading { file, header: &header, known, problems, seen: Seen::default(), entries: Vec::new() };
    first.into_iter().skip(header.rows).for_each(|row| reading.take(&row));
    for row in rows {
        match row {
            Ok(row) => reading.take(&row),
            Err(fault) => report(fault),
        }
    }
    reading.check_downstream();
    reading.entries
}

fn no_header(file: &str, first: &[TableRow]) -> Problem {
    let cells = first.first().map(|row| row.cells.iter().map(|cell| cell.text().into_owned()).collect::<Vec<_>>());
    Problem {
        file: file.to_owned(),
        line: first.first().map_or(0, |row| row.number),
        key: String::new(),
        value: cells.map(|cells| cells.join(",").chars().take(60).collect()).unwrap_or_default(),
        what: format!("no row with column names is among the first {HEADER_ROWS_MAX}"),
        mend: "write the column names above the devices; id, profile and address are needed".to_owned(),
    }
}

impl Header {
    /// The first row that names at least two columns; a row below it that only names columns belongs to it, as when
    /// longitude and latitude stand under one merged heading.
    fn find(first: &[TableRow]) -> Option<Header> {
        let named = |cell: &Cell| Column::of_heading(&cell.text()).is_some();
        let count = |row: &TableRow| row.cells.iter().filter(|cell| named(cell)).count();
        let at = first.iter().position(|row| count(row) >= 2)?;
        let mut headings: Vec<String> = first[at].cells.iter().map(|cell| cell.text().into_owned()).collect();
        let mut rows = at + 1;
        if let Some(below) = first.get(rows)
            && count(below) > 0
            && below.cells.iter().all(|cell| cell.is_empty() || named(cell))
        {
            rows += 1;
            headings.resize(headings.len().max(below.cells.len()), String::new());
            for (heading, cell) in headings.iter_mut().zip(&below.cells).filter(|(_, cell)| !cell.is_empty()) {
                *heading = cell.text().into_owned();
            }
        }
        let mut positions = [None; COLUMNS];
        for (position, heading) in headings.iter().enumerate() {
            if let Some(column) = Column::of_heading(heading) {
                positions[column as usize].get_or_insert(position);
            }
        }
        Some(Header { positions, headings, rows })
    }

    /// Reports headings that are not known, stand twice, or are missing.
    fn check(&self, file: &str, line: usize, problems: &Problems) {
        let report = |key: &str, what: &str, mend: String| {
            let (file, key) = (file.to_owned(), key.to_owned());
            problems.push(Problem { file, line, key, value: String::new(), what: what.to_owned(), mend });
        };
        for (position, heading) in self.headings.iter().enumerate().filter(|(_, heading)| !heading.is_empty()) {
            match Column::of_heading(heading) {
                None => report(heading, "this column is not known", Column::mend(heading)),
                Some(column) if self.positions[column as usize] != Some(position) => {
                    let first = self.positions[column as usize].unwrap_or_default();
                    let what = format!("this column is {} as well, and the first one is read", self.headings[first]);
                    report(heading, &what, "keep one of the two".to_owned());
                }
                Some(_) => {}
            }
        }
        for needed in [Column::Id, Column::Profile, Column::Address] {
            if self.positions[needed as usize].is_none() {
                let mend = "add it; every device needs id, profile and address".to_owned();
                report(needed.name(), "this column is missing", mend);
            }
        }
    }
}

/// Rows that are being read.
struct Reading<'a> {
    file: &'a str,
    header: &'a Header,
    known: &'a Known<'a>,
    problems: &'a Problems,
    seen: Seen,
    entries: Vec<Entry>,
}

/// Where ids and addresses were first seen.
#[derive(Default)]
struct Seen {
    ids: FxHashMap<String, usize>,
    addresses: FxHashMap<(Option<String>, Box<[u8]>), usize>,
}

impl Reading<'_> {
    fn take(&mut self, cells: &TableRow) {
        let is_comment = matches!(cells.cells.first(), Some(Cell::Text(text))
            if text.trim_start().starts_with('#') && !ERRORS.contains(&text.trim()));
        if cells.cells.iter().all(Cell::is_empty) || is_comment {
            return;
        }
        let row = Row { file: self.file, header: self.header, cells, problems: self.problems };
        let Some(device) = row.device(self.known) else { return };
        let number = cells.number;
        if let Some(first) = self.seen.ids.get(&device.id) {
            let what = format!("row {first} has the same id");
            return row.problem(Column::Id, &what, "give each device its own id, or delete one of the two rows");
        }
        let address = (device.source.clone(), address_key(&device.address));
        if let Some(first) = self.seen.addresses.get(&address) {
            let mend = "give each device its own address, or name its source in the column source";
            return row.problem(Column::Address, &format!("row {first} has the same address"), mend);
        }
        self.seen.ids.insert(device.id.clone(), number);
        self.seen.addresses.insert(address, number);
        let note = row.text(Column::Note).into_owned();
        self.entries.push(Entry { row: number, device, note });
    }

    /// Water cannot flow to what is not there: such a device is read as if nothing stood downstream of it.
    fn check_downstream(&mut self) {
        for Entry { row, device, .. } in &mut self.entries {
            let is_itself = device.downstream == device.id;
            if device.downstream.is_empty() || (!is_itself && self.seen.ids.contains_key(&device.downstream)) {
                continue;
            }
            let position = self.header.positions[Column::Downstream as usize];
            let heading = position.map(|position| self.header.headings[position].clone());
            let what = if is_itself { "water does not flow to where it is" } else { "no row has this id" };
            let mend = "write the id of the next level sensor or river gauge downstream, or leave it empty";
            self.problems.push(Problem {
                file: self.file.to_owned(),
                line: *row,
                key: heading.unwrap_or_else(|| Column::Downstream.name().to_owned()),
                value: std::mem::take(&mut device.downstream),
                what: what.to_owned(),
                mend: mend.to_owned(),
            });
        }
    }
}

struct Row<'a> {
    file: &'a str,
    header: &'a Header,
    cells: &'a TableRow,
    problems: &'a Problems,
}

impl<'a> Row<'a> {
    fn cell(&self, column: Column) -> Option<&'a Cell> {
        let position = self.header.positions[column as usize]?;
        self.cells.cells.get(position)
    }

    fn text(&self, column: Column) -> Cow<'a, str> {
        self.cell(column).map_or(Cow::Borrowed(""), Cell::text)
    }

    fn optional(&self, column: Column) -> Option<Cow<'a, str>> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    fn problem(&self, column: Column, what: &str, mend: &str) {
        let heading = self.header.positions[column as usize].map(|position| self.header.headings[position].clone());
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: self.cells.number,
            key: heading.unwrap_or_else(|| column.name().to_owned()),
            value: self.text(column).into_owned(),
            what: what.to_owned(),
            mend: mend.to_owned(),
        });
    }

    /// Whether every cell still says what somebody entered.
    fn check_cells(&self) -> bool {
        let mut sound = true;
        for column in Column::ALL {
            let Some(cell) = self.cell(column) else { continue };
            if cell.is_error() {
                self.problem(column, "a formula failed here", "write the value itself");
                sound = false;
            } else if CODES.contains(&column)
                && let Some(what) = cell.spoilt_code()
            {
                let mend = "format the column as text and enter the code again; or give the file as .xlsx, if the code \
                            is still whole there";
                self.problem(column, what, mend);
                sound = false;
            } else if cell.text().contains('\u{fffd}') {
                self.problem(column, "letters in this cell are damaged", "save the file again as CSV UTF-8");
                sound = false;
            }
        }
        sound
    }

    fn number(&self, column: Column, min: f64, max: f64) -> Result<Option<f64>, ()> {
        let Some(text) = self.optional(column) else { return Ok(None) };
        match text.parse::<f64>().ok() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            parsed => {
                let is_grouped = parsed.is_none() && text.replace([',', ' ', '\u{a0}'], "").parse::<f64>().is_ok();
                let mend = match column {
                    _ if is_grouped => "write it without separators of thousands, and with a point",
                    Column::Lon | Column::Lat if parsed.is_some_and(|number| number.abs() > 360.0) => {
                        "write degrees; coordinates in metres must be converted first"
                    }
                    Column::Lon | Column::Lat if parsed.is_none() => "write degrees with decimals, such as 114.2951",
                    _ => "correct the number or leave it empty",
                };
                self.problem(column, &format!("not a number from {min} to {max}"), mend);
                Err(())
            }
        }
    }

    /// Longitude and latitude, both or neither, and not one for the other.
    fn position(&self) -> Result<Option<(f64, f64)>, ()> {
        let number = |column| self.text(column).parse::<f64>().ok();
        let is_within = |number: f64, (min, max): (f64, f64)| (min..=max).contains(&number);
        let (east, north) = CHINA;
        if let (Some(lon), Some(lat)) = (number(Column::Lon), number(Column::Lat))
            && is_within(lon, north)
            && is_within(lat, east)
        {
            let mend = format!("write {lat} under the longitude and {lon} under the latitude");
            self.problem(Column::Lon, "longitude and latitude are swapped", &mend);
            return Err(());
        }
        let (lon, lat) = (self.number(Column::Lon, -180.0, 180.0), self.number(Column::Lat, -90.0, 90.0));
        match (lon?, lat?) {
            (Some(lon), Some(lat)) => Ok(Some((lon, lat))),
            (None, None) => Ok(None),
            (lon, _) => {
                let empty = if lon.is_none() { Column::Lon } else { Column::Lat };
                self.problem(empty, "only one of longitude and latitude is there", "write both or neither");
                Err(())
            }
        }
    }

    fn datum(&self, default: Datum) -> Result<Datum, ()> {
        let Some(text) = self.optional(Column::Datum) else { return Ok(default) };
        Datum::of_word(&text).ok_or_else(|| {
            let mend = "write one of wgs84, cgcs2000, gcj02, bd09; positions of another datum must be converted first";
            self.problem(Column::Datum, "this datum is not known", mend);
        })
    }

    fn service(&self) -> Result<ServiceState, ()> {
        let Some(text) = self.optional(Column::Service) else { return Ok(ServiceState::default()) };
        ServiceState::of_word(&text).ok_or_else(|| {
            let mend = "write one of in_service, commissioning, maintenance, or 在用, 调试, 维护";
            self.problem(Column::Service, "not one of the known words", mend);
        })
    }

    /// The tags, sorted, each once.
    fn tags(&self) -> Result<Vec<String>, ()> {
        split_tags(&self.text(Column::Tags)).map_err(|fault| {
            let (what, mend) = match fault {
                TagFault::TooMany(count) => (
                    format!("{count} tags, and a device has at most {TAGS_MAX}"),
                    "keep those that something goes by: an override, a group, a view".to_owned(),
                ),
                TagFault::TooLong(tag) => (
                    format!("the tag {tag:?} has more than {TAG_CHARACTERS_MAX} characters"),
                    "write a word; what is longer belongs into the note".to_owned(),
                ),
                TagFault::Strange(tag) => (
                    format!("the tag {tag:?} has a sign that a tag cannot have"),
                    "write letters, digits, `-`, `_`, `.`, `/` and `:`; between tags a semicolon".to_owned(),
                ),
            };
            self.problem(Column::Tags, &what, &mend);
        })
    }

    /// The day on which the battery was put in.
    fn battery_since(&self) -> Result<Option<Timestamp>, ()> {
        let text = self.text(Column::BatterySince);
        if text.is_empty() {
            return Ok(None);
        }
        read_date(&text).map(Some).ok_or_else(|| {
            let mend = "write the day as 2026-11-23, or leave it empty";
            self.problem(Column::BatterySince, "this is not a day from 2000 to 2099", mend);
        })
    }

    fn profile(&self, known: &Known<'_>) -> Option<u16> {
        let name = self.text(Column::Profile);
        if name.is_empty() {
            return None;
        }
        let position = known.profiles.iter().position(|profile| *profile == name);
        if position.is_none() {
            let mend = match closest(&name, known.profiles) {
                Some(name) => format!("did you mean {name}?"),
                None => "`kerbside profile list` shows the profiles; put your own into the profiles folder".to_owned(),
            };
            self.problem(Column::Profile, "there is no profile of this name", &mend);
        }
        u16::try_from(position?).ok()
    }

    /// The source and whether the cell is sound.
    fn source(&self, known: &Known<'_>) -> Result<Option<String>, ()> {
        let Some(source) = self.optional(Column::Source) else { return Ok(None) };
        if let Some(sources) = known.sources
            && !sources.iter().any(|name| *name == source)
        {
            let mend = format!("sources here: {}", sources.join(", "));
            self.problem(Column::Source, "there is no source of this name", &mend);
            return Err(());
        }
        Ok(Some(source.into_owned()))
    }

    fn interval(&self) -> Result<Option<Duration>, ()> {
        let Some(text) = self.optional(Column::Interval) else { return Ok(None) };
        parse_duration(&text).map(Some).ok_or_else(|| {
            self.problem(Column::Interval, "not a duration", "write a number with its unit: 30s, 5m, 2h or 1d");
        })
    }

    /// The table that the Modbus function of the cell reads.
    fn registers_from(&self) -> Result<Option<RegisterTable>, ()> {
        match self.text(Column::Function).trim_start_matches('0') {
            "" => Ok(None),
            "3" => Ok(Some(RegisterTable::Holding)),
            "4" => Ok(Some(RegisterTable::Input)),
            _ => {
                let mend = "write 3 for holding registers or 4 for input registers, or leave it empty";
                self.problem(Column::Function, "not a Modbus function that reads registers", mend);
                Err(())
            }
        }
    }

    /// The needed cells, and the id that is not to be had.
    fn check_names(&self) -> bool {
        let mut sound = true;
        for column in [Column::Id, Column::Profile, Column::Address] {
            if self.header.positions[column as usize].is_some() && self.text(column).is_empty() {
                self.problem(column, "this cell is empty", "every device needs id, profile and address");
                sound = false;
            }
        }
        if self.text(Column::Id) == GATEWAY_DEVICE {
            self.problem(Column::Id, "this id belongs to the gateway itself", "choose another id");
            sound = false;
        }
        sound
    }

    /// Reads the whole row, so that all its problems are reported together.
    fn device(&self, known: &Known<'_>) -> Option<Device> {
        let is_sound = self.check_cells() & self.check_names();
        let (profile, source, interval) = (self.profile(known), self.source(known), self.interval());
        let registers_from = self.registers_from();
        let (position, datum, service) = (self.position(), self.datum(known.datum), self.service());
        let (tags, battery_since) = (self.tags(), self.battery_since());
        let mount_height_mm = self.number(Column::MountHeightMm, 0.0, 100_000.0);
        let level_offset_mm = self.number(Column::LevelOffsetMm, -100_000.0, 100_000.0);
        if !is_sound {
            return None;
        }
        let text = |column| self.text(column).into_owned();
        let device = Device {
            id: text(Column::Id),
            profile: profile?,
            source: source.ok()?,
            address: text(Column::Address),
            name: text(Column::Name),
            position: position.ok()?,
            datum: datum.ok()?,
            place: text(Column::Place),
            grid: text(Column::Grid),
            component_code: text(Column::ComponentCode),
            unit: text(Column::Unit),
            mount_height_mm: mount_height_mm.ok()?,
            level_offset_mm: level_offset_mm.ok()?.unwrap_or(0.0),
            interval: interval.ok()?,
            registers_from: registers_from.ok()?,
            parent: text(Column::Parent),
            service: service.ok()?,
            tags: tags.ok()?,
            downstream: text(Column::Downstream),
            battery_since: battery_since.ok()?,
        };
        // Without the column, which was said once for the whole table.
        (!device.id.is_empty() && !device.address.is_empty()).then_some(device)
    }
}
