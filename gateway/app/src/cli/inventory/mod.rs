//! `kerbside inventory`: tables as cities keep them, checked row by row, taken over, and given back.
//!
//! `check` and `import` read tables as a start of the gateway would, with the profiles and sources of the configuration
//! when there is one. Exit code 0 when every row is sound, 1 when something was left out, 2 when the configuration is
//! not sound.

mod output;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kerbside_model::document::Problem;
use kerbside_model::geo::Datum;
use kerbside_model::inventory::RowForm;
use serde_json::json;

use super::{check::UNSOUND, counted, say, say_error};
use crate::config::{self, ProcessEnvironment, TableFile, Tables};
use output::{Encoding, Headings, TableForm, TableFormat};

/// Some rows were left out.
const LEFT_OUT: u8 = 1;
const CONFIGURATION: &str = "gateway.yaml";

/// Arguments of `kerbside inventory`.
#[derive(Debug, clap::Args)]
pub(super) struct InventoryArguments {
    #[command(subcommand)]
    command: InventoryCommand,
}

#[derive(Debug, clap::Subcommand)]
enum InventoryCommand {
    /// Says what is wrong in tables, row by row; changes nothing.
    Check(CheckArguments),
    /// Writes the sound rows of tables into one clean table, and says what was left out.
    Import(ImportArguments),
    /// Writes the inventory of the configuration as a table: what was read, or with other datums.
    Export(ExportArguments),
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    #[command(flatten)]
    tables: TableArguments,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct TableArguments {
    /// CSV (UTF-8, UTF-16 or GBK; comma, semicolon or tab) or workbooks (.xlsx).
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The sheet of a workbook; its first one without it.
    #[arg(long)]
    sheet: Option<String>,
    /// The datum of positions whose row does not say one: wgs84, cgcs2000, gcj02 or bd09. The configuration's without it.
    #[arg(long, value_parser = datum)]
    datum: Option<Datum>,
    /// The configuration with profiles and sources; without it gateway.yaml when it is there, else the shipped profiles.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Writes what is wrong as a table, CSV with one line a problem, for whoever keeps the spreadsheet.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ImportArguments {
    #[command(flatten)]
    tables: TableArguments,
    /// The clean table: .csv or .xlsx.
    #[arg(long)]
    out: PathBuf,
    /// Replaces the clean table when it is there already.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    /// The configuration of the gateway.
    #[arg(long, default_value = CONFIGURATION)]
    config: PathBuf,
    /// Where to; standard output without it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// csv, xlsx or geojson; without it by the name of the file, else csv.
    #[arg(long, value_enum)]
    format: Option<TableFormat>,
    /// Encoding of CSV. Excel knows UTF-8 by the mark (BOM).
    #[arg(long, value_enum, default_value_t = Encoding::Utf8Bom)]
    encoding: Encoding,
    /// The datum of every position: wgs84, cgcs2000, gcj02 or bd09; each its own without it. GeoJSON is always WGS84.
    #[arg(long, value_parser = datum)]
    datum: Option<Datum>,
    /// Headings in English (the names of the columns) or in Chinese.
    #[arg(long, value_enum, default_value_t = Headings::En)]
    headings: Headings,
}

fn datum(text: &str) -> Result<Datum, String> {
    Datum::of_word(text).ok_or_else(|| "write wgs84, cgcs2000, gcj02 or bd09".to_owned())
}

pub(super) fn run(arguments: &InventoryArguments) -> anyhow::Result<u8> {
    match &arguments.command {
        InventoryCommand::Check(check) => {
            let Some(tables) = read(&check.tables)? else { return Ok(UNSOUND) };
            if check.json {
                say(&report_json(&tables).to_string());
            } else {
                say(&summary(&tables, "sound"));
            }
            Ok(code(&tables))
        }
        InventoryCommand::Import(arguments) => import(arguments),
        InventoryCommand::Export(arguments) => export(arguments),
    }
}

/// Reads the tables and tells what is wrong with them; `None` when the configuration around them is not sound.
fn read(arguments: &TableArguments) -> anyhow::Result<Option<Tables>> {
    let file = |path: &PathBuf| {
        // Not seen from the folder of the configuration, but from here.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        TableFile { path, sheet: arguments.sheet.clone(), datum: arguments.datum }
    };
    let files: Vec<TableFile> = arguments.files.iter().map(file).collect();
    let beside = Path::new(CONFIGURATION);
    let configuration = arguments.config.as_deref().or_else(|| beside.try_exists().unwrap_or(true).then_some(beside));
    if configuration.is_none() {
        say_error("there is no gateway.yaml here: the shipped profiles are known, and any source");
    }
    let tables = match config::load_tables(configuration, Some(&files), &ProcessEnvironment) {
        Ok(tables) => tables,
        Err(problems) => {
            super::say_problems(&problems);
            return Ok(None);
        }
    };
    for problem in &tables.problems {
        say_error(&problem.to_string());
    }
    if let Some(path) = &arguments.report {
        write_whole(path, &report_csv(&tables.problems), "the report")?;
    }
    Ok(Some(tables))
}

fn code(tables: &Tables) -> u8 {
    if tables.problems.is_empty() { 0 } else { LEFT_OUT }
}

fn summary(tables: &Tables, what: &str) -> String {
    let sound = format!("{} {what}", counted(tables.entries.len(), "row"));
    if tables.problems.is_empty() {
        return sound;
    }
    let rows: BTreeSet<(&str, usize)> =
        tables.problems.iter().map(|problem| (problem.file.as_str(), problem.line)).collect();
    format!("{sound}, {} in {}", counted(tables.problems.len(), "problem"), counted(rows.len(), "other row"))
}

/// The row of a problem, or nothing when it is with the whole file.
fn row(problem: &Problem) -> String {
    if problem.line == 0 { String::new() } else { problem.line.to_string() }
}

/// What is wrong, for a spreadsheet: UTF-8 with the mark by which Excel knows it.
fn report_csv(problems: &[Problem]) -> Vec<u8> {
    let head = ["file", "row", "column", "value", "what", "mend"].map(str::to_owned);
    let rows: Vec<[String; 6]> = problems
        .iter()
        .map(|problem| {
            let Problem { file, key, value, what, mend, .. } = problem.clone();
            [file, row(problem), key, value, what, mend]
        })
        .collect();
    let rows = std::iter::once(&head).chain(&rows).map(<[String; 6]>::as_slice);
    Encoding::Utf8Bom.encode(kerbside_model::inventory::write_csv(rows)).expect("every text is UTF-8")
}

fn report_json(tables: &Tables) -> serde_json::Value {
    let problem = |problem: &Problem| {
        json!({
            "file": problem.file,
            "row": Some(problem.line).filter(|line| *line > 0),
            "column": problem.key,
            "value": problem.value,
            "what": problem.what,
            "mend": problem.mend,
        })
    };
    json!({
        "sound": tables.entries.len(),
        "problems": tables.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn import(arguments: &ImportArguments) -> anyhow::Result<u8> {
    let out = &arguments.out;
    let format = match TableFormat::of_name(out) {
        Some(format @ (TableFormat::Csv | TableFormat::Xlsx)) => format,
        _ => bail!("write {}: name it .csv or .xlsx", out.display()),
    };
    if !arguments.replace && out.try_exists().unwrap_or(true) {
        bail!("write {}: the file is there already; name a new one, or say --replace", out.display());
    }
    let Some(tables) = read(&arguments.tables)? else { return Ok(UNSOUND) };
    let form = TableForm { row: RowForm::default(), headings: Headings::En, encoding: Encoding::Utf8Bom };
    let bytes = output::table(&tables.entries, format, form)?;
    write_whole(out, &bytes, "the table")?;
    say(&format!("{}: {}", out.display(), summary(&tables, "taken")));
    Ok(code(&tables))
}

fn export(arguments: &ExportArguments) -> anyhow::Result<u8> {
    let tables = match config::load_tables(Some(&arguments.config), None, &ProcessEnvironment) {
        Ok(tables) => tables,
        Err(problems) => {
            super::say_problems(&problems);
            return Ok(UNSOUND);
        }
    };
    for problem in &tables.problems {
        say_error(&problem.to_string());
    }
    let named = arguments.out.as_deref().and_then(TableFormat::of_name);
    let format = arguments.format.or(named).unwrap_or(TableFormat::Csv);
    let form = TableForm {
        row: RowForm { datum: arguments.datum },
        headings: arguments.headings,
        encoding: arguments.encoding,
    };
    let bytes = output::table(&tables.entries, format, form)?;
    match &arguments.out {
        Some(out) => {
            write_whole(out, &bytes, "the table")?;
            say_error(&format!("{}: {}", out.display(), summary(&tables, "written")));
        }
        // A reader that went away is no failure of ours.
        None => drop(std::io::stdout().lock().write_all(&bytes)),
    }
    Ok(code(&tables))
}

/// Whole or not at all: what was there stays until the new file is on the disk.
fn write_whole(path: &Path, bytes: &[u8], what: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let context = || format!("write {what} {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    // A temporary file is for its maker alone, and this one is for everybody.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).with_context(context)?;
    file.persist(path).map(drop).with_context(context)
}
