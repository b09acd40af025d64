//! Workbooks (.xlsx): turns a sheet into the rows that the inventory is read from.
//!
//! Cells come one after another, so that an empty sheet with one cell at its far end costs nothing. Merged cells hold
//! their value in the first of them. What unpacks to more than [`UNPACKED_BYTES_MAX`] is refused before it is unpacked.

use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use calamine::{DataRef, Reader, Xlsx, XlsxCellReader};
use kerbside_model::document::{Problem, Problems};
use kerbside_model::inventory::{Cell, Entry, Known, ROW_CELLS_MAX, RowFault, TableRow, read_rows};

/// A workbook of a million rows is 100 MB.
const WORKBOOK_BYTES_MAX: usize = 256 << 20;
/// Its sheets and texts, unpacked: a million rows are 1 GB of XML, and sheets are unpacked as they are read.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;

/// The devices of a sheet, or of the first one.
pub(super) fn entries(
    file: &str,
    bytes: &[u8],
    sheet: Option<&str>,
    known: &Known<'_>,
    problems: &Problems,
) -> Vec<Entry> {
    let read = AssertUnwindSafe(|| read(file, bytes, sheet, known, problems));
    // The reader of workbooks is not ours: a defect in it must cost one file, not the gateway.
    let fault = match std::panic::catch_unwind(read) {
        Ok(Ok(entries)) => return entries,
        Ok(Err(fault)) => fault,
        Err(_) => Fault::new("this workbook is damaged", "open it in a spreadsheet and save it again as .xlsx"),
    };
    problems.push(Problem {
        file: file.to_owned(),
        line: 0,
        key: if fault.value.is_empty() { String::new() } else { "sheet".to_owned() },
        value: fault.value,
        what: fault.what,
        mend: fault.mend,
    });
    Vec::new()
}

/// Why a workbook cannot be read at all.
struct Fault {
    value: String,
    what: String,
    mend: String,
}

impl Fault {
    fn new(what: impl Into<String>, mend: impl Into<String>) -> Fault {
        Fault { value: String::new(), what: what.into(), mend: mend.into() }
    }

    fn damaged(error: &dyn std::error::Error) -> Fault {
        Fault::new(
            format!("this workbook cannot be read: {error}"),
            "open it in a spreadsheet and save it again as .xlsx",
        )
    }
}

fn read(
    file: &str,
    bytes: &[u8],
    sheet: Option<&str>,
    known: &Known<'_>,
    problems: &Problems,
) -> Result<Vec<Entry>, Fault> {
    check_size(bytes)?;
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|error| Fault::damaged(&error))?;
    let names = workbook.sheet_names();
    let Some(name) = (match sheet {
        Some(wanted) => names.iter().find(|name| *name == wanted),
        None => names.first(),
    }) else {
        let mend = format!("sheets of this workbook: {}", names.join(", "));
        let what = "this workbook has no sheet of this name";
        return Err(Fault { value: sheet.unwrap_or_default().to_owned(), ..Fault::new(what, mend) });
    };
    let cells = workbook.worksheet_cells_reader(name).map_err(|error| Fault::damaged(&error))?;
    let mut rows = SheetRows { cells, ahead: None, row: 0, is_over: false };
    Ok(read_rows(file, &mut rows, known, problems))
}

fn check_size(bytes: &[u8]) -> Result<(), Fault> {
    let mend = "keep the devices alone in the workbook, or save the sheet as CSV UTF-8";
    if bytes.len() > WORKBOOK_BYTES_MAX {
        let what = format!("this workbook has more than {} MiB", WORKBOOK_BYTES_MAX >> 20);
        return Err(Fault::new(what, mend));
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| Fault::damaged(&error))?;
    let mut unpacked = 0_u64;
    for position in 0..archive.len() {
        let part = archive.by_index_raw(position).map_err(|error| Fault::damaged(&error))?;
        unpacked = unpacked.saturating_add(part.size());
    }
    if unpacked > UNPACKED_BYTES_MAX {
        let what = format!("this workbook unpacks to more than {} MiB", UNPACKED_BYTES_MAX >> 20);
        return Err(Fault::new(what, mend));
    }
    Ok(())
}

/// The rows of a sheet that have cells.
struct SheetRows<'a> {
    cells: XlsxCellReader<'a, Cursor<&'a [u8]>>,
    /// The first cell of the next row: row and column counted from 0.
    ahead: Option<(u32, u32, Cell)>,
    /// The row that was given last, from 0.
    row: u32,
    is_over: bool,
}

impl SheetRows<'_> {
    fn next_cell(&mut self) -> Result<Option<(u32, u32, Cell)>, calamine::XlsxError> {
        if self.is_over {
            return Ok(None);
        }
        let Some(cell) = self.cells.next_cell()? else {
            self.is_over = true;
            return Ok(None);
        };
        let (row, column) = cell.get_position();
        Ok(Some((row, column, cell_of(cell.get_value()))))
    }

    fn gather(&mut self) -> Result<Option<TableRow>, calamine::XlsxError> {
        let first = match self.ahead.take() {
            Some(cell) => Some(cell),
            None => self.next_cell()?,
        };
        let Some((row, column, cell)) = first else { return Ok(None) };
        self.row = row;
        let mut cells = Vec::new();
        put(&mut cells, column, cell);
        while let Some((next_row, column, cell)) = self.next_cell()? {
            if next_row != row {
                self.ahead = Some((next_row, column, cell));
                break;
            }
            put(&mut cells, column, cell);
        }
        Ok(Some(TableRow { number: row as usize + 1, cells }))
    }
}

fn put(cells: &mut Vec<Cell>, column: u32, cell: Cell) {
    let column = column as usize;
    if column >= ROW_CELLS_MAX {
        return;
    }
    if cells.len() <= column {
        cells.resize(column + 1, Cell::Text(String::new()));
    }
    cells[column] = cell;
}

fn cell_of(value: &DataRef<'_>) -> Cell {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "spreadsheets keep numbers as f64 anyway")]
        DataRef::Int(number) => Cell::Number(*number as f64),
        DataRef::Float(number) => Cell::Number(*number),
        DataRef::String(text) => Cell::Text(text.clone()),
        DataRef::SharedString(text) => Cell::Text((*text).to_owned()),
        DataRef::Bool(answer) => Cell::Text(if *answer { "TRUE".to_owned() } else { "FALSE".to_owned() }),
        DataRef::DateTime(time) => {
            let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
            Cell::Date(format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"))
        }
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cell::Date(text.clone()),
        DataRef::Error(error) => Cell::Error(error.to_string()),
        DataRef::Empty => Cell::Text(String::new()),
    }
}

impl Iterator for SheetRows<'_> {
    type Item = Result<TableRow, RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.gather() {
            Ok(row) => row.map(Ok),
            Err(error) => {
                self.is_over = true;
                self.ahead = None;
                Some(Err(RowFault {
                    number: self.row as usize + 1,
                    what: format!("the sheet is damaged behind this row: {error}"),
                    mend: "open the workbook in a spreadsheet and save it again as .xlsx".to_owned(),
                }))
            }
        }
    }
}
