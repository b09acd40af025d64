//! Text with separators in a profile.

use serde::{Deserialize, Serialize};

use super::{Newest, TimeField};

/// How text with separators is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CsvFormat {
    /// What stands between two values.
    pub separator: char,
    /// What the message must begin with; left out before it is read.
    pub prefix: String,
    /// How values are found.
    pub layout: CsvLayout,
    /// Where the device's own time stands.
    pub time: Option<TimeField<Vec<CsvColumn>>>,
    /// Several lines are several rows, each with its time; this one is no history. `None` when there is one line only.
    pub lines: Option<Newest>,
    /// The names that the profile gives its columns, in their order.
    pub columns: Vec<String>,
}

/// How values are found in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CsvLayout {
    /// By their number.
    Numbers,
    /// By the name that the first line of the message gives their column.
    Header,
    /// Each has its name before it, with this between.
    Pairs(char),
}

/// A column of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CsvColumn {
    /// By its position, from 0.
    Number(u16),
    /// By its name.
    Name(String),
}
