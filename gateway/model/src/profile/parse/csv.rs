//! The keys of `payload: {format: csv}` and of a point's `column`.

use super::payload::NEWEST;
use super::read_time_of;
use super::scalar::written;
use crate::document::{NodeKind, Section, closest};
use crate::profile::{CsvColumn, CsvFormat, CsvLayout};

/// A line has no more columns.
pub(super) const COLUMNS_MAX: usize = 512;

/// Everything below `payload`.
pub(super) fn read_format(payload: &Section<'_>) -> CsvFormat {
    let layout = match (payload.node("columns").map(written).as_deref(), read_letter(payload, "pairs")) {
        (Some("header"), Some(_)) => {
            payload.problem("pairs", "", "the names stand in the first line already", "keep one of the two");
            CsvLayout::Header
        }
        (Some("header"), None) => CsvLayout::Header,
        (_, Some(between)) => CsvLayout::Pairs(between),
        (_, None) => CsvLayout::Numbers,
    };
    let mut format = CsvFormat {
        separator: read_letter(payload, "separator").unwrap_or(','),
        prefix: payload.text("prefix").unwrap_or_default(),
        layout,
        time: None,
        lines: payload.choice("newest", &NEWEST),
        columns: read_names(payload),
    };
    if let Some(time) = payload.section("time") {
        let columns = read_columns(&time, &format);
        format.time = Some(read_time_of(time, columns, None));
    }
    check(payload, &format);
    format
}

fn check(payload: &Section<'_>, format: &CsvFormat) {
    let is_pairs = matches!(format.layout, CsvLayout::Pairs(between) if between == format.separator);
    if is_pairs {
        let mend = "give them two letters: `separator: \";\"`, `pairs: \"=\"`";
        payload.problem("pairs", "", "names and values, and one pair and the next, are separated alike", mend);
    }
    if format.lines.is_some() && format.time.is_none() {
        let mend = "write which column holds it: `time: {column: 1, unit: s}`";
        payload.problem("newest", "", "several lines are several rows, and nobody knows the time of each", mend);
    }
}

fn read_letter(payload: &Section<'_>, key: &'static str) -> Option<char> {
    let text = payload.text(key)?;
    let mut letters = text.chars();
    match (text.as_str(), letters.next(), letters.next()) {
        ("tab", _, _) => Some('\t'),
        (_, Some(letter), None) if !letter.is_alphanumeric() && !matches!(letter, '"' | '\r' | '\n') => Some(letter),
        _ => {
            let mend = "write a single sign in quotes, such as \";\", or tab";
            payload.problem(key, &text, "not a sign that separates", mend);
            None
        }
    }
}

fn read_names(payload: &Section<'_>) -> Vec<String> {
    let Some(node) = payload.node("columns") else { return Vec::new() };
    match &node.kind {
        NodeKind::List(_) => {
            let names = payload.texts("columns");
            if names.len() > COLUMNS_MAX {
                payload.problem(
                    "columns",
                    "",
                    format!("more than {COLUMNS_MAX}"),
                    "name only those before the last one used",
                );
            }
            names
        }
        _ => {
            if written(node) != "header" {
                let mend = "write their names in order, `columns: [id, level]`, or `columns: header` when the first line has them";
                payload.problem("columns", &written(node), "neither names nor the word header", mend);
            }
            Vec::new()
        }
    }
}

/// The columns of a point or a time, in the order in which they are tried.
pub(super) fn read_columns(section: &Section<'_>, format: &CsvFormat) -> Vec<CsvColumn> {
    let names = &format.columns;
    let texts = section.texts("column");
    if texts.is_empty() {
        section.missing("column", "write which column holds it: `column: 3`, counted from 1, or its name");
    }
    let mut columns = Vec::with_capacity(texts.len());
    for text in texts {
        if let Some(position) = names.iter().position(|name| *name == text) {
            columns.push(CsvColumn::Number(u16::try_from(position).unwrap_or(u16::MAX)));
            continue;
        }
        let number = text.parse::<u16>().ok().filter(|number| (1..=COLUMNS_MAX).contains(&usize::from(*number)));
        match (&format.layout, number) {
            (CsvLayout::Pairs(_), _) | (CsvLayout::Header, None) => columns.push(CsvColumn::Name(text)),
            (_, Some(number)) => columns.push(CsvColumn::Number(number - 1)),
            (CsvLayout::Numbers, None) => {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                let mend = match closest(&text, &known) {
                    Some(name) => format!("did you mean {name}?"),
                    None => "write its number, counted from 1, or name the columns under `payload.columns`".to_owned(),
                };
                section.problem("column", &text, "there is no column of this name", mend);
            }
        }
    }
    columns
}
