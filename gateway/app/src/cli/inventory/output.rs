//! Devices as tables for people and maps: CSV in the encodings of spreadsheets, workbooks, GeoJSON.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use kerbside_model::geo::{Datum, convert};
use kerbside_model::inventory::{COLUMNS, Column, Entry, RowForm, is_number, row_of, write_csv};
use rust_xlsxwriter::{Format, Workbook, XlsxError};
use serde_json::{Value, json};

/// Wide enough for a code of 16 digits.
const COLUMN_LETTERS: f64 = 18.0;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TableFormat {
    Csv,
    Xlsx,
    Geojson,
}

impl TableFormat {
    /// The format that a file's name says.
    pub(super) fn of_name(path: &Path) -> Option<TableFormat> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "csv" => Some(TableFormat::Csv),
            "xlsx" => Some(TableFormat::Xlsx),
            "geojson" | "json" => Some(TableFormat::Geojson),
            _ => None,
        }
    }
}

/// The encoding of CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Encoding {
    /// UTF-8 with the mark by which Excel knows it.
    Utf8Bom,
    Utf8,
    /// GBK, for spreadsheets that know nothing else.
    Gbk,
}

impl Encoding {
    /// The bytes of a text.
    pub(super) fn encode(self, text: String) -> anyhow::Result<Vec<u8>> {
        match self {
            Encoding::Utf8 => Ok(text.into_bytes()),
            Encoding::Utf8Bom => Ok([b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat()),
            Encoding::Gbk => match encoding_rs::GBK.encode(&text) {
                (bytes, _, false) => Ok(bytes.into_owned()),
                _ => {
                    let missing =
                        text.chars().find(|letter| encoding_rs::GBK.encode(letter.encode_utf8(&mut [0; 4])).2);
                    let missing = missing.map(|letter| format!(" {letter:?}")).unwrap_or_default();
                    Err(anyhow!("write the table in GBK: it has no letter{missing}; take --encoding utf8-bom"))
                }
            },
        }
    }
}

/// The language of the headings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Headings {
    En,
    Zh,
}

/// How rows are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableForm {
    pub(super) row: RowForm,
    pub(super) headings: Headings,
    /// Of CSV.
    pub(super) encoding: Encoding,
}

/// The devices as a file of this format; each comes with the name of its profile.
pub(super) fn table(entries: &[(Entry, String)], format: TableFormat, form: TableForm) -> anyhow::Result<Vec<u8>> {
    let head = Column::ALL.map(|column| match form.headings {
        Headings::En => column.name().to_owned(),
        Headings::Zh => column.name_zh().to_owned(),
    });
    let rows = entries.iter().map(|(entry, profile)| row_of(entry, profile, form.row));
    match format {
        TableFormat::Csv => {
            let rows: Vec<[String; COLUMNS]> = std::iter::once(head).chain(rows).collect();
            form.encoding.encode(write_csv(rows.iter().map(<[String; COLUMNS]>::as_slice)))
        }
        TableFormat::Xlsx => workbook(&head, rows).context("write the workbook"),
        TableFormat::Geojson => Ok(geojson(entries).to_string().into_bytes()),
    }
}

/// A workbook in which codes are text, so that no spreadsheet takes them for numbers.
fn workbook(head: &[String; COLUMNS], rows: impl Iterator<Item = [String; COLUMNS]>) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let (bold, text) = (Format::new().set_bold(), Format::new().set_num_format("@"));
    let sheet = workbook.add_worksheet();
    sheet.set_freeze_panes(1, 0)?;
    for (position, column) in (0_u16..).zip(Column::ALL) {
        sheet.set_column_width(position, COLUMN_LETTERS)?;
        if !is_number(column) {
            sheet.set_column_format(position, &text)?;
        }
        sheet.write_string_with_format(0, position, &head[column as usize], &bold)?;
    }
    for (number, row) in (1_u32..).zip(rows) {
        for (position, (column, cell)) in (0_u16..).zip(Column::ALL.into_iter().zip(&row)) {
            match cell.parse::<f64>() {
                _ if cell.is_empty() => {}
                Ok(value) if is_number(column) => drop(sheet.write_number(number, position, value)?),
                _ => drop(sheet.write_string_with_format(number, position, cell, &text)?),
            }
        }
    }
    workbook.save_to_buffer()
}

/// Points for a map: RFC 7946, which asks for WGS84 and longitude first. A device without a position has no geometry.
fn geojson(entries: &[(Entry, String)]) -> Value {
    let feature = |(entry, profile): &(Entry, String)| {
        let device = &entry.device;
        let geometry = device.position.map(|position| {
            let (lon, lat) = convert(position, device.datum, Datum::Wgs84);
            json!({ "type": "Point", "coordinates": [lon, lat] })
        });
        json!({
            "type": "Feature",
            "id": device.id,
            "geometry": geometry,
            "properties": {
                "id": device.id,
                "name": device.name,
                "profile": profile,
                "place": device.place,
                "grid": device.grid,
                "component_code": device.component_code,
                "unit": device.unit,
                "parent": device.parent,
                "service": device.service,
                "tags": device.tags,
                "downstream": device.downstream,
            },
        })
    };
    json!({ "type": "FeatureCollection", "features": entries.iter().map(feature).collect::<Vec<_>>() })
}
