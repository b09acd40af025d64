//! How long an inventory takes to be read, checked and joined with profiles and sources, as at a start.
//!
//! `cargo bench -p kerbside --bench inventory` takes 10,000 rows with 18 columns, as CSV in UTF-8 and in GBK and as a
//! workbook; another number of rows is the first argument. Prints the median of a few runs.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::Path;
use std::time::Duration;

use kerbside_app::config::{self, MemoryEnvironment};
use kerbside_model::inventory::{Column, write_csv};
use kerbside_runtime::Clock;

const RUNS: usize = 7;
const CONFIG: &str = "
inventory: inventory
sources:
  city: {type: mqtt, host: h, topics: [a/#], address: {topic: \"a/{device}\"}}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let rows = numbers.next().unwrap_or(10_000);
    let table: Vec<Vec<String>> = std::iter::once(Column::ALL.map(|column| column.name_zh().to_owned()).to_vec())
        .chain((0..rows).map(row))
        .collect();
    let text = write_csv(table.iter().map(Vec::as_slice));
    let (gbk, ..) = encoding_rs::GBK.encode(&text);
    println!("{rows} rows, {} bytes of UTF-8", text.len());
    measure("CSV in UTF-8", rows, text.as_bytes());
    measure("CSV in GBK", rows, &gbk);
    measure("workbook", rows, &workbook(&table)?);
    Ok(())
}

fn row(number: usize) -> Vec<String> {
    Column::ALL
        .map(|column| match column {
            Column::Id | Column::Address => format!("MH-{number:07}"),
            Column::Profile => "json-manhole-cover".to_owned(),
            Column::Source => "city".to_owned(),
            Column::Name => format!("{number}号雨水井"),
            Column::Lon => format!("{:.6}", 114.0 + number as f64 / 1e6),
            Column::Lat => format!("{:.6}", 35.0 + number as f64 / 1e6),
            Column::Datum => "gcj02".to_owned(),
            Column::Place => format!("黄山路{number}号门前北侧"),
            Column::Grid => format!("4106990010{:05}", number % 100_000),
            Column::ComponentCode => format!("4106990103{:06}", number % 1_000_000),
            Column::Unit => "市政".to_owned(),
            Column::MountHeightMm => "3200".to_owned(),
            Column::Interval => "10m".to_owned(),
            Column::Parent => format!("C-{}", number % 100),
            _ => String::new(),
        })
        .to_vec()
}

fn workbook(table: &[Vec<String>]) -> Result<Vec<u8>, rust_xlsxwriter::XlsxError> {
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    for (number, row) in (0_u32..).zip(table) {
        for (position, cell) in (0_u16..).zip(row).filter(|(_, cell)| !cell.is_empty()) {
            sheet.write_string(number, position, cell)?;
        }
    }
    workbook.save_to_buffer()
}

fn measure(what: &str, rows: usize, bytes: &[u8]) {
    let environment =
        MemoryEnvironment::default().with_file("gateway.yaml", CONFIG).with_file("inventory", bytes.to_vec());
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let began = Clock::stamp();
            let config = config::load(Path::new("gateway.yaml"), &environment).expect("the configuration is sound");
            assert_eq!((config.site.devices().len(), config.warnings.len()), (rows, 0));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{what}, {} bytes: {:.0} ms", bytes.len(), times[RUNS / 2].as_secs_f64() * 1e3);
}
