//! The inventory: which devices stand where, as a city keeps them in a spreadsheet.
//!
//! Turns a table (CSV here; a workbook's rows come through [`read_rows`]) into devices, and devices into a table again.
//! A title above the headings, headings in two rows, blank rows, columns in any order and in Chinese are taken as they
//! are. A bad row is one problem for each thing wrong with it, numbered as the spreadsheet shows it, and the rest is
//! read. Positions stay in the datum that they were given in. Nothing is kept; there are no metrics.

mod columns;
mod rows;
mod tags;
#[cfg(test)]
mod tests;
mod text;
mod write;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::document::Problems;
use crate::frame::RegisterTable;
use crate::time::Timestamp;

pub use crate::geo::Datum;
pub use columns::{COLUMNS, Column};
pub use rows::{Cell, RowFault, TableRow, read_rows};
pub use tags::{TAG_CHARACTERS_MAX, TAGS_MAX, TagFault, check_tag, split_tags};
pub use text::{ROW_CELLS_MAX, decode_text};
pub use write::{RowForm, is_number, row_of};

/// One asset of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Unique id, such as `MH-000123`.
    pub id: String,
    /// Position of its profile in the site.
    pub profile: u16,
    /// Name of the source that it is heard on, when only that one counts.
    pub source: Option<String>,
    /// How the source names it: topic level, DevEUI, IMEI or Modbus unit.
    pub address: String,
    /// What it is called on the street, or empty.
    pub name: String,
    /// Longitude and latitude in degrees, as they were given: see `datum`.
    pub position: Option<(f64, f64)>,
    /// Datum of the position. It is converted where it leaves the system: [`crate::geo::convert`].
    pub datum: Datum,
    /// Road text (路口、门牌), or empty.
    pub place: String,
    /// Unit grid code (单元网格), or empty.
    pub grid: String,
    /// Component code (部件标识码), or empty.
    pub component_code: String,
    /// Responsible unit (责任单位), or empty.
    pub unit: String,
    /// Height of the sensor above the invert in mm, for levels computed from a distance.
    pub mount_height_mm: Option<f64>,
    /// Added to `level_mm` as found with a ruler when it was installed, in mm.
    pub level_offset_mm: f64,
    /// How often it reports, when other than its profile says.
    pub interval: Option<Duration>,
    /// The table in which its registers are asked for, when it is another than its profile says: some Modbus units know
    /// only one of the functions 3 and 4.
    pub registers_from: Option<RegisterTable>,
    /// The asset that it hangs on: pole, feeder, catchment; or empty.
    pub parent: String,
    /// Whether its alarms open cases.
    pub service: ServiceState,
    /// Words of the city's own by which devices are taken together (标签), sorted, each once: [`split_tags`].
    pub tags: Vec<String>,
    /// Id of the device past which its water flows next: a level sensor or a river gauge; or empty.
    pub downstream: String,
    /// When its battery was put in, at the beginning of the day in UTC.
    pub battery_since: Option<Timestamp>,
}

/// Whether a device's alarms open cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// In service (在用).
    #[default]
    InService,
    /// Being installed (调试): everything is stored and shown, nothing opens a case.
    Commissioning,
    /// Under maintenance (维护) until the inventory says otherwise.
    Maintenance,
}

impl ServiceState {
    const WORDS: [(ServiceState, [&str; 3]); 3] = [
        (ServiceState::InService, ["in_service", "在用", "已投运"]),
        (ServiceState::Commissioning, ["commissioning", "调试", "调试中"]),
        (ServiceState::Maintenance, ["maintenance", "维护", "维护中"]),
    ];

    /// Its word in the inventory and in JSON.
    pub fn name(self) -> &'static str {
        ServiceState::WORDS[self as usize].1[0]
    }

    fn of_word(word: &str) -> Option<ServiceState> {
        let word = word.to_lowercase();
        ServiceState::WORDS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(state, _)| *state)
    }
}

/// What the rows of an inventory may name.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Names of the profiles; a device names its own by the position in this list.
    pub profiles: &'a [&'a str],
    /// Names of the sources; `None` when they are not known, and any may stand there.
    pub sources: Option<&'a [String]>,
    /// The datum of positions whose row does not say one.
    pub datum: Datum,
}

/// A device with what only its table knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Number of its row as a spreadsheet shows it.
    pub row: usize,
    /// The device.
    pub device: Device,
    /// What people wrote beside it.
    pub note: String,
}

/// Reads an inventory in CSV. `file` is what it is called in problems.
pub fn read_csv(file: &str, bytes: &[u8], known: &Known<'_>, problems: &Problems) -> Vec<Entry> {
    let text = text::with_line_feeds(decode_text(bytes));
    read_rows(file, &mut text::CsvRows::new(&text), known, problems)
}

/// Writes rows as CSV in UTF-8 without a byte order mark, with the line ends that spreadsheets write.
pub fn write_csv<'a>(rows: impl Iterator<Item = &'a [String]>) -> String {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).flexible(true).from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("writing to memory cannot fail");
    }
    let bytes = writer.into_inner().expect("writing to memory cannot fail");
    String::from_utf8(bytes).expect("rows are text")
}
