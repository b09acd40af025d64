//! CSV as spreadsheets write it: turns bytes into rows that are numbered as the spreadsheet shows them.
//!
//! UTF-8 with or without a byte order mark, UTF-16 with one, or GBK; separated by commas, semicolons or tabs; lines
//! that end in any way. Blank rows count, and so does a row with a line break in a cell once.

use super::columns::Column;
use super::rows::{Cell, RowFault, TableRow};

/// The headings stand within the first so many rows; above them may be a title.
pub(super) const HEADER_ROWS_MAX: usize = 20;
/// A cell with more line breaks is a quote that was opened and never closed.
const CELL_BREAKS_MAX: usize = 20;
/// Excel's own limit on the letters of a cell.
const CELL_LETTERS_MAX: usize = 32_767;
/// No spreadsheet of devices has more columns; the rest of a row is left.
pub const ROW_CELLS_MAX: usize = 256;

/// Text is UTF-8 with damage when it has so many sound letters beyond ASCII for each one that is damaged.
const UTF8_DAMAGE_RATIO: usize = 4;

/// Decodes what spreadsheets write: UTF-8, UTF-16 with a byte order mark, else GBK (GB 18030). What is nearly UTF-8 is
/// UTF-8 with damage.
pub fn decode_text(bytes: &[u8]) -> String {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    // GBK read as UTF-8 is mostly damage; UTF-8 that was cut or patched has little of it.
    let utf8 = String::from_utf8_lossy(bytes);
    let damaged = utf8.matches('\u{fffd}').count();
    let wide = utf8.chars().filter(|letter| !letter.is_ascii()).count() - damaged;
    if wide > damaged * UTF8_DAMAGE_RATIO {
        return utf8.into_owned();
    }
    encoding_rs::GB18030.decode(bytes).0.into_owned()
}

/// The rows of a CSV text.
pub(super) struct CsvRows<'a> {
    text: &'a str,
    delimiter: u8,
    reader: csv::Reader<&'a [u8]>,
    record: csv::StringRecord,
    /// Where the reader began, in bytes.
    begin: usize,
    /// Number of the row in which the text at `counted` stands.
    number: usize,
    /// Up to here rows were counted, in bytes.
    counted: usize,
    /// Cells of the widest row so far.
    width: usize,
}

/// Only `\n` ends a line, as the counting below needs it.
pub(super) fn with_line_feeds(text: String) -> String {
    if text.contains('\r') && !text.contains('\n') { text.replace('\r', "\n") } else { text }
}

impl<'a> CsvRows<'a> {
    /// The rows of a text; see [`with_line_feeds`].
    pub(super) fn new(text: &'a str) -> CsvRows<'a> {
        // Excel's own line that names the separator; Excel does not show it as a row.
        let first = text.lines().next().unwrap_or("");
        let told = first.trim_matches('"').strip_prefix("sep=").and_then(|told| told.bytes().next());
        let begin = if told.is_some() { text.find('\n').map_or(text.len(), |end| end + 1) } else { 0 };
        let delimiter = told.filter(u8::is_ascii).unwrap_or_else(|| delimiter_of(text));
        let reader = reader(&text[begin..], delimiter);
        CsvRows {
            text,
            delimiter,
            reader,
            record: csv::StringRecord::new(),
            begin,
            number: 1,
            counted: begin,
            width: 0,
        }
    }

    /// The number of the row that begins at this byte.
    fn number_at(&mut self, at: usize) -> usize {
        self.number += breaks(&self.text[self.counted.min(at)..at]);
        self.counted = at;
        self.number
    }

    /// Whether a row has swallowed others, because a quote in it was not closed: until the end, or until the next quote.
    fn is_runaway(&self, row: &str) -> bool {
        let separators = |line: &str| line.bytes().filter(|byte| *byte == self.delimiter).count();
        let whole_row = self.width.saturating_sub(1).max(2);
        let has_rows = |cell: &str| cell.lines().skip(1).any(|line| separators(line) >= whole_row);
        let is_long = |cell: &str| cell.len() > CELL_LETTERS_MAX && cell.chars().count() > CELL_LETTERS_MAX;
        let has_breaks = self.record.iter().any(|cell| cell.contains('\n'));
        (has_breaks && !is_well_quoted(row, self.delimiter))
            || self.record.iter().any(|cell| breaks(cell) > CELL_BREAKS_MAX || has_rows(cell) || is_long(cell))
    }

    /// Goes on behind the line that begins at this byte.
    fn restart_behind(&mut self, at: usize) {
        self.begin = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1);
        self.reader = reader(&self.text[self.begin..], self.delimiter);
    }
}

impl Iterator for CsvRows<'_> {
    type Item = Result<TableRow, RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.begin + usize::try_from(self.reader.position().byte()).unwrap_or(0);
        let read = self.reader.read_record(&mut self.record);
        let after = self.begin + usize::try_from(self.reader.position().byte()).unwrap_or(0);
        // The reader skips blank lines.
        let blank = self.text[before..].bytes().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let at = before + blank;
        match read {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => {
                let number = self.number_at(at);
                self.restart_behind(at);
                return Some(Err(RowFault {
                    number,
                    what: format!("this row cannot be read: {error}"),
                    mend: "look at the quotes in this row".to_owned(),
                }));
            }
        }
        let number = self.number_at(at);
        if self.is_runaway(&self.text[at..after]) {
            self.restart_behind(at);
            return Some(Err(RowFault {
                number,
                what: "a quote is opened in this row and not closed: the rows below it would be one cell".to_owned(),
                mend: "close the quote, or double it when it is part of the text".to_owned(),
            }));
        }
        // Line breaks inside of cells are not rows. Of \r\n the reader leaves the second half for the next row.
        self.counted = after;
        self.number += usize::from(self.text[at..after].ends_with('\n'));
        self.width = self.width.max(self.record.len());
        let cells = self.record.iter().take(ROW_CELLS_MAX).map(|cell| Cell::Text(cell.to_owned())).collect();
        Some(Ok(TableRow { number, cells }))
    }
}

fn breaks(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Whether every quoted cell of a row ends with its quote.
fn is_well_quoted(row: &str, delimiter: u8) -> bool {
    let bytes = row.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (None, _) => return false,
                    (Some(b'"'), Some(b'"')) => at += 2,
                    (Some(b'"'), _) => break,
                    _ => at += 1,
                }
            }
            at += 1;
            if bytes.get(at).is_some_and(|byte| ![delimiter, b'\n', b'\r'].contains(byte)) {
                return false;
            }
        }
        // To the beginning of the next cell.
        at += bytes[at..].iter().position(|byte| *byte == delimiter).map_or(bytes.len(), |end| end + 1);
    }
    true
}

fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text.as_bytes())
}

/// The separator with which the most headings are found; a comma when it does not matter.
fn delimiter_of(text: &str) -> u8 {
    let headings = |delimiter: u8| {
        let mut most = 0;
        for record in reader(text, delimiter).records().take(HEADER_ROWS_MAX).flatten() {
            most = most.max(record.iter().filter(|cell| Column::of_heading(cell).is_some()).count());
        }
        most
    };
    let mut best = (headings(b','), b',');
    for delimiter in [b';', b'\t'] {
        let found = headings(delimiter);
        if found > best.0 {
            best = (found, delimiter);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number and first cell of each row, or what is wrong with it.
    fn rows(text: &str) -> Vec<(usize, String)> {
        let text = with_line_feeds(text.to_owned());
        let shown = |row: Result<TableRow, RowFault>| match row {
            Ok(row) => (row.number, row.cells[0].text().into_owned()),
            Err(fault) => (fault.number, format!("! {}", fault.what)),
        };
        CsvRows::new(&text).map(shown).collect()
    }

    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = rows(text);
        let found: Vec<(usize, &str)> = found.iter().map(|(number, cell)| (*number, cell.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn rows_are_numbered_as_a_spreadsheet_shows_them() {
        for end in ["\n", "\r\n"] {
            let text = ["id,x", "", "a,1", "", "", "\"b\nb\",2", "c,3"].join(end);
            check(&text, &[(1, "id"), (3, "a"), (6, "b\nb"), (7, "c")]);
        }
        check("id\ra\r\rb\r", &[(1, "id"), (2, "a"), (4, "b")]);
        check("id\n\n\n", &[(1, "id")]);
        check("", &[]);
        check("sep=;\nid;x\na;1\n", &[(1, "id"), (2, "a")]);
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_its_own_row_only() {
        for tail in [3, 40] {
            let rest: String = (0..tail).map(|number| format!("d{number},1\n")).collect();
            let found = rows(&format!("id,x\na,1\nb,\"open\nc,2\n{rest}"));
            assert_eq!(found.len(), 4 + tail, "{found:?}");
            assert!(found[2].1.starts_with("! a quote is opened"), "{found:?}");
            assert_eq!(found[3], (4, "c".to_owned()));
            assert_eq!(found[3 + tail], (4 + tail, format!("d{}", tail - 1)));
        }
        // Two of them, which close each other; and two of which the second one looks like the end of the first.
        let found = rows("a,b,c,d\n1,\"open,c,d\n2,b,c,d\n3,b,c,d\n4,close\",c,d\n5,b,c,d\n");
        let numbers: Vec<&str> = found.iter().map(|(_, cell)| &cell[..1]).collect();
        assert_eq!(numbers, ["a", "!", "2", "3", "4", "5"], "{found:?}");
        let found = rows("a,b,c,d\n1,\"open,c,d\n2,b,c,d\n3,b,c,d\n4,\"open,c,d\n5,b,c,d\n");
        let numbers: Vec<&str> = found.iter().map(|(_, cell)| &cell[..1]).collect();
        assert_eq!(numbers, ["a", "!", "2", "3", "!", "5"], "{found:?}");
    }

    #[test]
    fn the_separator_is_the_one_that_gives_headings() {
        check("清单,,;,,\n编号;设备模型\na;b,c,d\n", &[(1, "清单,,"), (2, "编号"), (3, "a")]);
        check("id\tprofile\nx\ty\n", &[(1, "id"), (2, "x")]);
    }

    #[test]
    fn damaged_utf8_is_not_taken_for_gbk() {
        let mut bytes = "编号,名称\nMH-1,黄山路与湘江路交叉口\n".as_bytes().to_vec();
        let place = bytes.len() - 4;
        bytes[place] = 0xff;
        assert!(decode_text(&bytes).contains("黄山路与湘江路交叉"));
        let (gbk, ..) = encoding_rs::GBK.encode("黄山路与湘江路交叉口");
        assert_eq!(decode_text(&gbk), "黄山路与湘江路交叉口");
    }
}
