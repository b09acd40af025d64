//! Tables through the commands, as files.

use std::fs;

use kerbside_model::inventory::{COLUMNS, Entry};
use tempfile::TempDir;

use super::*;

const CONFIG: &str = "
site: {datum: gcj02}
inventory:
  - {file: own.csv}
  - {file: other.xlsx, sheet: 部件, datum: cgcs2000}
sources:
  city: {type: mqtt, host: h, topics: [a/#], address: {topic: \"a/{device}\"}}
";
const OWN: &str = "id,profile,address,source,lon,lat,component_code,note\nMH-1,json-manhole-cover,MH-1,city,116.404,39.915,\
                   4106990103000001,\"第一行\n第二行\"\n";

/// A workbook with a title, a second sheet, and the rows given.
fn workbook(rows: &[&[&str]]) -> Vec<u8> {
    let mut workbook = rust_xlsxwriter::Workbook::new();
    workbook.add_worksheet().set_name("说明").unwrap().write_string(0, 0, "填表说明").unwrap();
    let sheet = workbook.add_worksheet().set_name("部件").unwrap();
    sheet.merge_range(0, 0, 0, 4, "部件清单", &rust_xlsxwriter::Format::new()).unwrap();
    for (number, row) in (2_u32..).zip(rows) {
        for (position, cell) in (0_u16..).zip(*row) {
            match cell.strip_prefix('=').map(str::parse::<f64>) {
                Some(Ok(value)) => sheet.write_number(number, position, value).unwrap(),
                _ => sheet.write_string(number, position, *cell).unwrap(),
            };
        }
    }
    workbook.save_to_buffer().unwrap()
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let other = workbook(&[
        &["编号", "设备模型", "地址", "经度", "纬度"],
        &["DL-1", "json-level", "DL-1", "=114.2951", "=35.7493"],
        &["DL-2", "json-level", "=4106990103000001"],
        &["MH-1", "json-level", "DL-3"],
    ]);
    fs::write(folder.path().join("gateway.yaml"), CONFIG).unwrap();
    fs::write(folder.path().join("own.csv"), OWN).unwrap();
    fs::write(folder.path().join("other.xlsx"), other).unwrap();
    folder
}

fn load(folder: &Path) -> Tables {
    config::load_tables(Some(&folder.join("gateway.yaml")), None, &ProcessEnvironment).unwrap()
}

fn devices(tables: &Tables) -> Vec<(String, Entry)> {
    let named = |(entry, profile): &(Entry, String)| {
        let mut entry = entry.clone();
        (entry.row, entry.device.profile) = (0, 0);
        (profile.clone(), entry)
    };
    tables.entries.iter().map(named).collect()
}

#[test]
fn a_configuration_takes_workbooks_and_the_datum_of_row_file_and_site() {
    let folder = folder();
    let tables = load(folder.path());
    let found: Vec<(&str, Datum)> =
        tables.entries.iter().map(|(entry, _)| (entry.device.id.as_str(), entry.device.datum)).collect();
    assert_eq!(found, [("MH-1", Datum::Gcj02), ("DL-1", Datum::Cgcs2000)]);
    let problems: Vec<(usize, &str, &str)> =
        tables.problems.iter().map(|problem| (problem.line, problem.key.as_str(), problem.what.as_str())).collect();
    assert_eq!(problems.iter().map(|problem| problem.0).collect::<Vec<_>>(), [5, 6]);
    assert!(problems[0].2.contains("lost the digits"), "{problems:?}");
    assert!(problems[1].2.starts_with("row 2 of ") && problems[1].2.ends_with("own.csv has the same id"));
    let config = config::load(&folder.path().join("gateway.yaml"), &ProcessEnvironment).unwrap();
    assert_eq!(config.site.devices().len(), 2);
    assert_eq!(config.warnings, tables.problems);
}

#[test]
fn an_export_is_read_again_as_it_was_in_every_format_and_encoding() {
    let folder = folder();
    let before = load(folder.path());
    let forms = [
        (TableFormat::Csv, Encoding::Utf8, Headings::En),
        (TableFormat::Csv, Encoding::Utf8Bom, Headings::Zh),
        (TableFormat::Csv, Encoding::Gbk, Headings::Zh),
        (TableFormat::Xlsx, Encoding::Utf8, Headings::Zh),
    ];
    for (format, encoding, headings) in forms {
        let form = TableForm { row: RowForm::default(), headings, encoding };
        fs::write(folder.path().join("again"), output::table(&before.entries, format, form).unwrap()).unwrap();
        fs::write(folder.path().join("gateway.yaml"), CONFIG.replace("own.csv", "again").replace("other", "none"))
            .unwrap();
        fs::write(folder.path().join("none.xlsx"), workbook(&[&["id", "profile", "address"]])).unwrap();
        let again = load(folder.path());
        assert_eq!(again.problems, []);
        assert_eq!(devices(&again), devices(&before), "{format:?} {encoding:?}");
    }
}

#[test]
fn a_map_gets_wgs84_and_a_table_the_datum_that_was_asked_for() {
    let folder = folder();
    let tables = load(folder.path());
    let form = TableForm { row: RowForm::default(), headings: Headings::En, encoding: Encoding::Utf8 };
    let map: serde_json::Value =
        serde_json::from_slice(&output::table(&tables.entries, TableFormat::Geojson, form).unwrap()).unwrap();
    let place = &map["features"][0]["geometry"]["coordinates"];
    let (lon, lat) = (place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    assert!((lon - 116.397_76).abs() < 1e-4 && (lat - 39.913_60).abs() < 1e-4, "{place}");
    assert_eq!(map["features"][1]["geometry"]["coordinates"][0], 114.2951, "CGCS2000 is not moved");
    let form = TableForm { row: RowForm { datum: Some(Datum::Bd09) }, ..form };
    let text = String::from_utf8(output::table(&tables.entries, TableFormat::Csv, form).unwrap()).unwrap();
    assert!(text.contains(",116.4103695,39.921337,bd09,"), "{text}");
    assert_eq!(text.lines().next().unwrap().split(',').count(), COLUMNS);
}

#[test]
fn a_file_that_is_no_table_is_one_problem_with_its_mend() {
    let folder = folder();
    let check = |bytes: &[u8], sheet: Option<&str>, words: &str| {
        let path = folder.path().join("odd");
        fs::write(&path, bytes).unwrap();
        let file = TableFile { path, sheet: sheet.map(str::to_owned), datum: None };
        let tables = config::load_tables(None, Some(&[file]), &ProcessEnvironment).unwrap();
        assert_eq!(tables.problems.len(), 1, "{:?}", tables.problems);
        let text = tables.problems[0].to_string();
        assert!(text.contains(words), "{text}");
    };
    let sound = workbook(&[&["id", "profile", "address"]]);
    check(&sound, Some("Sheet9"), "sheets of this workbook: 说明, 部件");
    check(&sound, None, "no row with column names");
    check(&sound[..sound.len() / 2], None, "save it again as .xlsx");
    check(b"\xd0\xcf\x11\xe0 old", None, "workbook of Excel 97");
    check(b"", None, "no row with column names");
    check(b"PK\x03\x04 nothing", None, "save it again as .xlsx");
}

#[test]
fn the_report_is_a_table_with_a_line_for_each_problem() {
    let folder = folder();
    let report = String::from_utf8(report_csv(&load(folder.path()).problems)).unwrap();
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines[0], "\u{feff}file,row,column,value,what,mend");
    assert!(lines[1].contains("other.xlsx,5,地址,4.10699E15,the spreadsheet took"), "{report}");
}

#[test]
fn letters_that_gbk_does_not_have_are_named() {
    let error = Encoding::Gbk.encode("位置😀".to_owned()).unwrap_err().to_string();
    assert!(error.contains("'😀'") && error.contains("utf8-bom"), "{error}");
}
