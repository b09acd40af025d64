//! The files of the inventory: turns what the key `inventory` says into files, and their bytes into entries.

use std::path::PathBuf;

use kerbside_model::document::{Node, NodeKind, Problem, Problems, Section};
use kerbside_model::inventory::{Datum, Entry, Known, read_csv};

use super::workbook;
use crate::config::read::Context;

/// A table is read into memory as a whole; a million rows of CSV are 200 MB.
const TABLE_BYTES_MAX: usize = 512 << 20;
/// How a workbook (.xlsx) begins: it is a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";
/// How a workbook of Excel 97 (.xls) begins, and an encrypted one.
const OLE: &[u8] = b"\xd0\xcf\x11\xe0";

/// A table with devices, as gateway.yaml or a command names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The sheet of a workbook; its first one without a name.
    pub sheet: Option<String>,
    /// The datum of positions whose row does not say one; the site's without it.
    pub datum: Option<Datum>,
}

/// A table as it was read.
pub(super) struct File {
    pub(super) name: String,
    pub(super) sheet: Option<String>,
    pub(super) datum: Option<Datum>,
    pub(super) bytes: Vec<u8>,
}

/// The choices of a key `datum`.
pub(in crate::config) const DATUMS: [(&str, Datum); 4] =
    [("wgs84", Datum::Wgs84), ("cgcs2000", Datum::Cgcs2000), ("gcj02", Datum::Gcj02), ("bd09", Datum::Bd09)];

/// The tables that the key `inventory` names: a path, a list of paths, or sections with `file`, `sheet` and `datum`.
pub(super) fn named(top: &Section<'_>, context: &Context<'_>) -> Vec<TableFile> {
    let Some(node) = top.node("inventory") else { return Vec::new() };
    let nodes: &[Node] = match &node.kind {
        NodeKind::List(items) => items,
        NodeKind::Scalar { .. } | NodeKind::Map(_) => std::slice::from_ref(node),
    };
    let mut tables: Vec<TableFile> = Vec::new();
    for (position, node) in nodes.iter().enumerate() {
        let table = match &node.kind {
            NodeKind::Scalar { text, .. } => TableFile { path: context.resolve(text), ..TableFile::default() },
            NodeKind::Map(_) => section(&top.nested(format!("inventory[{position}]"), node), context),
            NodeKind::List(_) => {
                top.problem("inventory", "", "a list stands in this list", "write `- FILE` lines");
                continue;
            }
        };
        let is_twice = |known: &TableFile| known.path == table.path && known.sheet == table.sheet;
        if tables.iter().any(is_twice) {
            let shown = table.path.display().to_string();
            top.problem_at(node.line, "inventory", &shown, "this file stands here twice", "keep one of the two");
            continue;
        }
        tables.push(table);
    }
    tables
}

fn section(section: &Section<'_>, context: &Context<'_>) -> TableFile {
    let file = section.required_text("file", "write the path of a table, such as inventory.xlsx");
    let table = TableFile {
        path: context.resolve(&file),
        sheet: section.text("sheet"),
        datum: section.choice("datum", &DATUMS),
    };
    section.known_only();
    table
}

/// Reads the bytes of tables; what cannot be read is a problem of whoever named it.
pub(super) fn open(tables: &[TableFile], context: &Context<'_>, report: &dyn Fn(&str, String)) -> Vec<File> {
    let mut files = Vec::new();
    for table in tables {
        let name = table.path.display().to_string();
        match context.environment.read(&table.path) {
            Ok(bytes) if bytes.len() > TABLE_BYTES_MAX => {
                report(&name, format!("this file has more than {} MiB", TABLE_BYTES_MAX >> 20));
            }
            Ok(bytes) => files.push(File { name, sheet: table.sheet.clone(), datum: table.datum, bytes }),
            Err(error) => report(&name, format!("this file cannot be read: {error}")),
        }
    }
    files
}

impl File {
    /// The devices in it; rows that are wrong become problems.
    pub(super) fn entries(&self, known: &Known<'_>, problems: &Problems) -> Vec<Entry> {
        let known = Known { datum: self.datum.unwrap_or(known.datum), ..*known };
        if self.bytes.starts_with(ZIP) {
            return workbook::entries(&self.name, &self.bytes, self.sheet.as_deref(), &known, problems);
        }
        if self.bytes.starts_with(OLE) {
            let what = "this is a workbook of Excel 97 (.xls), or one with a password";
            problems.push(self.problem("", what, "save it as .xlsx without a password, or as CSV UTF-8"));
            return Vec::new();
        }
        if let Some(sheet) = &self.sheet {
            problems.push(self.problem(sheet, "this file is no workbook, so it has no sheets", "leave the sheet out"));
        }
        read_csv(&self.name, &self.bytes, &known, problems)
    }

    fn problem(&self, value: &str, what: &str, mend: &str) -> Problem {
        Problem {
            file: self.name.clone(),
            line: 0,
            key: if value.is_empty() { String::new() } else { "sheet".to_owned() },
            value: value.to_owned(),
            what: what.to_owned(),
            mend: mend.to_owned(),
        }
    }
}
