//! Inventories: any bytes give devices and problems, and what is written is read again as it was.

use std::collections::BTreeSet;

use kerbside_model::document::{Problem, Problems};
use kerbside_model::inventory::{COLUMNS, Column, Datum, Entry, Known, RowForm, read_csv, row_of, write_csv};

const PROFILES: [&str; 3] = ["cover", "level", "json-manhole-cover"];
/// A line break with so many commas behind it looks like a row that was swallowed.
const COMMAS_MAX: usize = COLUMNS - 2;

/// Reads the bytes as a table.
///
/// # Panics
/// When an id or address comes twice, rows are not in order, a problem has no mend, a position is none, or an export
/// is read otherwise than it was written.
pub fn inventory(data: &[u8]) {
    let (entries, problems) = read(data);
    let ids: BTreeSet<&str> = entries.iter().map(|entry| entry.device.id.as_str()).collect();
    assert_eq!(ids.len(), entries.len(), "an id comes twice");
    assert!(entries.is_sorted_by_key(|entry| entry.row), "rows are not in order");
    for problem in &problems {
        assert!(!problem.what.is_empty() && !problem.mend.is_empty(), "{problem}");
    }
    for entry in &entries {
        assert!(!entry.device.id.is_empty() && !entry.device.address.is_empty(), "{entry:?}");
        if let Some((lon, lat)) = entry.device.position {
            assert!(lon.abs() <= 180.0 && lat.abs() <= 90.0, "{entry:?}");
        }
    }
    write_and_read(entries);
}

fn read(data: &[u8]) -> (Vec<Entry>, Vec<Problem>) {
    let problems = Problems::default();
    let known = Known { profiles: &PROFILES, sources: None, datum: Datum::Wgs84 };
    let entries = read_csv("fuzz.csv", data, &known, &problems);
    (entries, problems.into_sorted())
}

/// An export, without rows that a spreadsheet could not hold apart from damage.
fn write_and_read(mut entries: Vec<Entry>) {
    let row = |entry: &Entry| row_of(entry, PROFILES[usize::from(entry.device.profile)], RowForm::default());
    let looks_damaged = |cell: &String| cell.lines().skip(1).any(|line| line.matches(',').count() > COMMAS_MAX);
    // A comment, and durations finer than the milliseconds that are written.
    let is_plain = |entry: &Entry| {
        !entry.device.id.starts_with('#')
            && entry.device.interval.is_none_or(|interval| interval.subsec_nanos().is_multiple_of(1_000_000))
    };
    entries.retain(|entry| is_plain(entry) && !row(entry).iter().any(looks_damaged));
    let head = Column::ALL.map(|column| column.name().to_owned());
    let rows: Vec<[String; COLUMNS]> = std::iter::once(head).chain(entries.iter().map(row)).collect();
    let text = write_csv(rows.iter().map(<[String; COLUMNS]>::as_slice));
    let (mut again, problems) = read(text.as_bytes());
    for entry in entries.iter_mut().chain(&mut again) {
        entry.row = 0;
    }
    assert_eq!(again, entries, "{text:?}: {problems:#?}");
}
