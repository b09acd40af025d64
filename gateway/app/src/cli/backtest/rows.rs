//! Readings that are written down somewhere: one row for each device and moment.

use std::sync::Arc;

use kerbside_model::Timestamp;
use kerbside_model::Value;
use kerbside_model::document::Problem;
use kerbside_model::profile::{Point, Profile, Slot, ValueType};

/// Mistakes are told up to this many; a file that has more is of another kind.
pub(super) const PROBLEMS_MAX: usize = 20;
/// Rows that are not in the order of time are put in order in memory, which takes about 100 bytes each.
pub(super) const ROWS_IN_MEMORY_MAX: usize = 3_000_000;

/// The id of the only device of a table that names none.
pub(super) const ONLY_DEVICE: &str = "backtest";

/// What a device sent at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) at: Timestamp,
    /// Position among the devices.
    pub(super) device: usize,
    /// Point and what was read of it.
    pub(super) slots: Vec<(u16, Slot)>,
}

/// What is wrong with a file of readings.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowsError {
    /// It does not hold what it should; each place is named.
    #[error("understand the readings")]
    Problems(Vec<Problem>),
    /// It cannot be read at all.
    #[error("read {file}")]
    Read {
        /// Which file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too long to be put in order.
    #[error("put {file} in order: it has more than {ROWS_IN_MEMORY_MAX} rows; sort it by time first")]
    TooLong {
        /// Which file.
        file: String,
    },
}

/// What is read of a cell; `None` when it says what the point cannot be.
pub(super) fn slot(text: &str, point: &Point) -> Option<Slot> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Slot::Absent);
    }
    let is_nothing = ["nan", "na", "n/a", "null", "none", "-"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_nothing {
        return Some(Slot::Invalid);
    }
    Some(Slot::Read(match point.value_type {
        ValueType::Number => Value::Number(text.parse::<f64>().ok().filter(|number| number.is_finite())?),
        ValueType::Boolean => Value::Boolean(match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "是" => true,
            "false" | "f" | "0" | "no" | "否" => false,
            _ => return None,
        }),
        ValueType::Enumeration => {
            let is_label = |value: &&Value| matches!(value, Value::Text(label) if **label == *text);
            point.map.iter().map(|(_, label)| label).find(is_label).cloned()?
        }
        ValueType::Text => Value::Text(Arc::from(text)),
    }))
}

/// What a cell of a point may hold.
pub(super) fn may_be(point: &Point) -> String {
    match point.value_type {
        ValueType::Number => format!("write a number in {}, or leave it empty", unit_of(point)),
        ValueType::Boolean => "write true or false, or leave it empty".to_owned(),
        ValueType::Enumeration => {
            let labels: Vec<String> = point.map.iter().map(|(_, label)| label.to_string()).collect();
            format!("write one of {}, or leave it empty", labels.join(", "))
        }
        ValueType::Text => "write a text, or leave it empty".to_owned(),
    }
}

fn unit_of(point: &Point) -> &str {
    if point.unit.is_empty() { "the point's unit" } else { &point.unit }
}

/// The point of a name, or the known one that it most likely meant.
pub(super) fn point_named(profile: &Profile, name: &str) -> Result<u16, String> {
    if let Some(position) = profile.point_index(name) {
        return u16::try_from(position).map_err(|_| "the profile has too many points".to_owned());
    }
    let names: Vec<&str> = profile.points.iter().map(|point| point.name.as_ref()).collect();
    Err(match kerbside_model::document::closest(name, &names) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("the points of {} are {}", profile.name, names.join(", ")),
    })
}

/// Numbers devices in the order in which they come.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices(Vec<String>);

impl Devices {
    pub(super) fn number(&mut self, id: &str) -> usize {
        match self.0.iter().position(|known| known == id) {
            Some(position) => position,
            None => {
                self.0.push(id.to_owned());
                self.0.len() - 1
            }
        }
    }

    pub(super) fn ids(&self) -> &[String] {
        &self.0
    }
}

/// Rows of the same device and moment become one, in the order of time.
pub(super) fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.at, row.device));
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match merged.last_mut().filter(|last| last.at == row.at && last.device == row.device) {
            Some(last) => last.slots.extend(row.slots),
            None => merged.push(row),
        }
    }
    merged
}
