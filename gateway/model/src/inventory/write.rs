//! Devices become rows of a table again: what was read, or with other datums.

use std::time::Duration;

use super::columns::{COLUMNS, Column};
use super::{Entry, ServiceState};
use crate::geo::{Datum, convert};
use crate::time::Timestamp;

/// Decimals of a converted position: a centimetre. What was given is written as it was.
const DECIMALS: i32 = 7;

/// How a row is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowForm {
    /// The datum of the positions; each its own without it.
    pub datum: Option<Datum>,
}

/// The row of a device, cell by cell in the order of [`Column::ALL`].
pub fn row_of(entry: &Entry, profile: &str, form: RowForm) -> [String; COLUMNS] {
    let device = &entry.device;
    let datum = form.datum.unwrap_or(device.datum);
    let position = device.position.map(|position| {
        let moved = convert(position, device.datum, datum);
        if moved == position { position } else { (rounded(moved.0), rounded(moved.1)) }
    });
    let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
    Column::ALL.map(|column| match column {
        Column::Id => device.id.clone(),
        Column::Profile => profile.to_owned(),
        Column::Source => device.source.clone().unwrap_or_default(),
        Column::Address => device.address.clone(),
        Column::Name => device.name.clone(),
        Column::Lon => number(position.map(|(lon, _)| lon)),
        Column::Lat => number(position.map(|(_, lat)| lat)),
        Column::Datum => datum.name().to_owned(),
        Column::Place => device.place.clone(),
        Column::Grid => device.grid.clone(),
        Column::ComponentCode => device.component_code.clone(),
        Column::Unit => device.unit.clone(),
        Column::MountHeightMm => number(device.mount_height_mm),
        Column::LevelOffsetMm => number(Some(device.level_offset_mm).filter(|offset| *offset != 0.0)),
        Column::Interval => device.interval.map(interval_text).unwrap_or_default(),
        Column::Function => device.registers_from.map(|table| table.function().to_string()).unwrap_or_default(),
        Column::Parent => device.parent.clone(),
        Column::Service => match device.service {
            ServiceState::InService => String::new(),
            state => state.name().to_owned(),
        },
        Column::Tags => device.tags.join(";"),
        Column::Downstream => device.downstream.clone(),
        Column::BatterySince => device.battery_since.map(date_text).unwrap_or_default(),
        Column::Note => entry.note.clone(),
    })
}

/// Whether a column holds numbers; all others are text, codes above all.
pub fn is_number(column: Column) -> bool {
    matches!(column, Column::Lon | Column::Lat | Column::MountHeightMm | Column::LevelOffsetMm)
}

fn rounded(degrees: f64) -> f64 {
    let factor = 10_f64.powi(DECIMALS);
    (degrees * factor).round() / factor
}

/// The day, as 2026-11-23.
fn date_text(since: Timestamp) -> String {
    since.to_string().chars().take(10).collect()
}

/// The text that gives this duration again, in the largest units.
fn interval_text(interval: Duration) -> String {
    let millis = interval.as_millis();
    let mut rest = millis;
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest / size > 0 {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
