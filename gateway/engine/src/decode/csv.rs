//! Text with separators to raw values: one line by the numbers of its columns, lines below their names, or pairs of name
//! and value.

use std::borrow::Cow;

use kerbside_model::profile::{CsvColumn, CsvFormat, CsvLayout, Newest, Origin, Point};

use super::convert::{Converter, Raw};
use super::time::{TimeReader, Told};
use super::{RowTime, Scratch, point_index};

/// Longer messages are refused: a gateway box sends a few kilobytes at most.
const BYTES_MAX: usize = 64 * 1024;
/// Columns behind this one are not read.
const COLUMNS_MAX: usize = 512;

/// How the text of one profile is read.
#[derive(Debug)]
pub(super) struct CsvPlan {
    format: CsvFormat,
    wanted: Vec<Wanted>,
    time: Option<TimeReader>,
}

#[derive(Debug)]
struct Wanted {
    column: CsvColumn,
    target: Target,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Point { index: u16, rank: u8 },
    Time,
}

impl CsvPlan {
    pub(super) fn new(points: &[Point], format: &CsvFormat) -> CsvPlan {
        let mut wanted = Vec::new();
        for (position, point) in points.iter().enumerate() {
            let Origin::Csv(columns) = &point.origin else { continue };
            for (rank, column) in columns.iter().enumerate() {
                let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
                let target = Target::Point { index: point_index(position), rank };
                wanted.push(Wanted { column: column.clone(), target });
            }
        }
        for column in format.time.iter().flat_map(|time| &time.path) {
            wanted.push(Wanted { column: column.clone(), target: Target::Time });
        }
        CsvPlan { format: format.clone(), wanted, time: format.time.as_ref().map(TimeReader::new) }
    }

    /// Reads a message into `scratch`, which has just begun; gives the device's time as it stands.
    pub(super) fn read(&self, bytes: &[u8], converters: &[Converter], scratch: &mut Scratch) -> Result<Told, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("the message has {} bytes and this format reads {BYTES_MAX} at most", bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 text: {error}"))?;
        let text = text.trim_start_matches('\u{feff}');
        let Some(text) = text.strip_prefix(self.format.prefix.as_str()) else {
            return Err(format!("the message does not begin with {:?}", self.format.prefix));
        };
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let names: Vec<Cow<'_, str>> = match self.format.layout {
            CsvLayout::Header => cells(lines.next().unwrap_or_default(), self.format.separator).collect(),
            CsvLayout::Numbers | CsvLayout::Pairs(_) => Vec::new(),
        };
        let Some(newest) = self.format.lines else {
            let line = lines.next().ok_or("the message has no line with values")?;
            if lines.next().is_some() {
                return Err(
                    "the message has several lines with values, and the profile reads one: add `newest:`".into()
                );
            }
            return Ok(self.line(line, &names, converters, scratch));
        };
        for line in lines {
            scratch.begin_row();
            let told = self.line(line, &names, converters, scratch);
            scratch.end_row(RowTime::Told(told))?;
        }
        let position = match (newest, scratch.history_len()) {
            (Newest::None, _) | (_, 0) => return Ok(Told::Nothing),
            (Newest::First, _) => 0,
            (Newest::Last, count) => count - 1,
        };
        match scratch.promote(position) {
            RowTime::Told(told) => Ok(told),
            RowTime::Before(_) => Ok(Told::Nothing),
        }
    }

    fn line(&self, line: &str, names: &[Cow<'_, str>], converters: &[Converter], scratch: &mut Scratch) -> Told {
        let mut told = Told::Nothing;
        for (position, cell) in cells(line, self.format.separator).enumerate().take(COLUMNS_MAX) {
            let (name, value) = match self.format.layout {
                CsvLayout::Pairs(between) => match cell.split_once(between) {
                    Some((name, value)) => (Some(name.trim()), value.trim()),
                    None => continue,
                },
                CsvLayout::Header => (names.get(position).map(AsRef::as_ref), cell.as_ref()),
                CsvLayout::Numbers => (None, cell.as_ref()),
            };
            let raw = if value.is_empty() { Raw::Null } else { Raw::Text(value) };
            for Wanted { column, target } in &self.wanted {
                let is_it = match column {
                    CsvColumn::Number(number) => usize::from(*number) == position,
                    CsvColumn::Name(wanted) => name == Some(wanted),
                };
                match target {
                    _ if !is_it => {}
                    Target::Point { index, rank } => {
                        let converter = &converters[usize::from(*index)];
                        scratch.keep(*rank, *index, |texts| converter.reading(*index, raw, texts));
                    }
                    Target::Time => told = self.time.as_ref().map_or(Told::Nothing, |reader| reader.raw(raw)),
                }
            }
        }
        told
    }
}

/// The cells of a line without the spaces around them. A cell in double quotes may hold separators, and two quotes for
/// one (RFC 4180).
fn cells(line: &str, separator: char) -> impl Iterator<Item = Cow<'_, str>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let trimmed = text.trim_start_matches([' ', '\t'].as_slice());
        if let Some(quoted) = trimmed.strip_prefix('"')
            && let Some((cell, behind)) = unquote(quoted)
        {
            rest = behind.find(separator).map(|end| &behind[end + separator.len_utf8()..]);
            return Some(cell);
        }
        let (cell, behind) = match text.split_once(separator) {
            Some((cell, behind)) => (cell, Some(behind)),
            None => (text, None),
        };
        rest = behind;
        Some(Cow::Borrowed(cell.trim()))
    })
}

/// What stands before the closing quote, and what behind it.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut from = 0;
    loop {
        let end = from + text[from..].find('"')?;
        if !text[end + 1..].starts_with('"') {
            let cell = &text[..end];
            let cell = if cell.contains('"') { Cow::Owned(cell.replace("\"\"", "\"")) } else { Cow::Borrowed(cell) };
            return Some((cell, &text[end + 1..]));
        }
        from = end + 2;
    }
}
