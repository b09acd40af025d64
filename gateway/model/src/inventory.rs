//! The inventory: which devices stand where, as a city keeps them in a spreadsheet.
//!
//! CSV as Excel writes it: UTF-8 with or without a byte order mark, UTF-16 with one, or GBK; comma or semicolon.
//! A bad row is one problem and the rest is read.

use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::document::{Problem, Problems, closest, parse_duration};
use crate::site::GATEWAY_DEVICE;

/// One asset of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Unique id, such as `MH-000123`.
    pub id: String,
    /// Position of its profile in the site.
    pub profile: u16,
    /// Name of the source that it is heard on, when only that one counts.
    pub source: Option<String>,
    /// How the source names it: topic level, DevEUI, IMEI or Modbus unit.
    pub address: String,
    /// What it is called on the street, or empty.
    pub name: String,
    /// Longitude and latitude in degrees.
    pub position: Option<(f64, f64)>,
    /// Datum of the position.
    pub datum: Datum,
    /// Road text (路口、门牌), or empty.
    pub place: String,
    /// Unit grid code (单元网格), or empty.
    pub grid: String,
    /// Component code (部件标识码), or empty.
    pub component_code: String,
    /// Responsible unit (责任单位), or empty.
    pub unit: String,
    /// Height of the sensor above the invert in mm, for levels computed from a distance.
    pub mount_height_mm: Option<f64>,
    /// Added to `level_mm` as found with a ruler when it was installed, in mm.
    pub level_offset_mm: f64,
    /// How often it reports, when other than its profile says.
    pub interval: Option<Duration>,
    /// The asset that it hangs on: pole, feeder, catchment; or empty.
    pub parent: String,
    /// Whether its alarms open cases.
    pub service: ServiceState,
}

/// The datum of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datum {
    /// GPS and Open311; CGCS2000 is the same to within centimetres.
    #[default]
    Wgs84,
    /// The offset grid of Chinese internet maps.
    Gcj02,
}

/// Whether a device's alarms open cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// In service (在用).
    #[default]
    InService,
    /// Being installed (调试): everything is stored and shown, nothing opens a case.
    Commissioning,
    /// Under maintenance (维护) until the inventory says otherwise.
    Maintenance,
}

const COLUMNS: [&str; 18] = [
    "id",
    "profile",
    "source",
    "address",
    "name",
    "lon",
    "lat",
    "datum",
    "place",
    "grid",
    "component_code",
    "unit",
    "mount_height_mm",
    "level_offset_mm",
    "interval",
    "parent",
    "service",
    "note",
];

/// The same columns as a Chinese spreadsheet heads them.
const COLUMNS_ZH: [(&str, &str); 18] = [
    ("编号", "id"),
    ("设备模型", "profile"),
    ("来源", "source"),
    ("地址", "address"),
    ("名称", "name"),
    ("经度", "lon"),
    ("纬度", "lat"),
    ("坐标系", "datum"),
    ("位置", "place"),
    ("单元网格", "grid"),
    ("部件标识码", "component_code"),
    ("责任单位", "unit"),
    ("安装高度", "mount_height_mm"),
    ("液位修正", "level_offset_mm"),
    ("上报间隔", "interval"),
    ("上级设施", "parent"),
    ("服务状态", "service"),
    ("备注", "note"),
];

fn column_named(heading: &str) -> String {
    let known = COLUMNS_ZH.iter().find(|(chinese, _)| *chinese == heading);
    known.map_or(heading, |(_, column)| column).to_owned()
}

/// Decodes what Excel writes: UTF-8, UTF-16 with a byte order mark, else GBK (GB 18030).
pub fn decode_text(bytes: &[u8]) -> String {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::GB18030.decode(bytes).0.into_owned(),
    }
}

/// Reads an inventory. `profile_position` finds a profile by name.
pub fn parse_inventory(
    file: &str,
    bytes: &[u8],
    profile_names: &[&str],
    source_names: &[String],
    problems: &Problems,
) -> Vec<Device> {
    let text = decode_text(bytes);
    let header_line = text.lines().next().unwrap_or("");
    let delimiter = if header_line.matches(';').count() > header_line.matches(',').count() { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let context = |line: usize, key: &str, value: &str, what: String, mend: &str| {
        problems.push(Problem {
            file: file.to_owned(),
            line,
            key: key.to_owned(),
            value: value.to_owned(),
            what,
            mend: mend.to_owned(),
        });
    };
    let header: Vec<String> = match reader.headers() {
        Ok(header) => header.iter().map(column_named).collect(),
        Err(error) => {
            context(
                1,
                "",
                "",
                format!("the header cannot be read: {error}"),
                "write the column names in the first line",
            );
            return Vec::new();
        }
    };
    for name in &header {
        if !COLUMNS.contains(&name.as_str()) {
            let mend = match closest(name, &COLUMNS) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known columns: {}", COLUMNS.join(", ")),
            };
            context(1, name, "", "this column is not known".to_owned(), &mend);
        }
    }
    for needed in ["id", "profile", "address"] {
        if !header.iter().any(|name| name == needed) {
            context(
                1,
                needed,
                "",
                "this column is missing".to_owned(),
                "add it; every device needs id, profile and address",
            );
        }
    }
    let mut devices = Vec::new();
    let mut line_of_id: FxHashMap<String, usize> = FxHashMap::default();
    let mut line_of_address: FxHashMap<(Option<String>, String), usize> = FxHashMap::default();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let line = error.position().map_or(0, |position| position.line() as usize);
                context(line, "", "", format!("this row cannot be read: {error}"), "look at the quotes in this row");
                continue;
            }
        }
        let line = record.position().map_or(0, |position| position.line() as usize);
        if record.iter().all(str::is_empty) || record.get(0).is_some_and(|first| first.starts_with('#')) {
            continue;
        }
        let row = Row { header: &header, record: &record, line, report: &context };
        let Some(device) = row.device(profile_names, source_names) else { continue };
        if let Some(first) = line_of_id.insert(device.id.clone(), line) {
            context(line, "id", &device.id, format!("line {first} has the same id"), "give each device its own id");
            continue;
        }
        let address = (device.source.clone(), device.address.clone());
        if let Some(first) = line_of_address.insert(address, line) {
            let mend = "give each device its own address, or name its source in the column source";
            context(line, "address", &device.address, format!("line {first} has the same address"), mend);
            continue;
        }
        devices.push(device);
    }
    devices
}

struct Row<'a> {
    header: &'a [String],
    record: &'a csv::StringRecord,
    line: usize,
    report: &'a dyn Fn(usize, &str, &str, String, &str),
}

impl Row<'_> {
    fn text(&self, column: &str) -> &str {
        let position = self.header.iter().position(|name| name == column);
        position.and_then(|position| self.record.get(position)).unwrap_or("")
    }

    fn optional(&self, column: &str) -> Option<&str> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    fn problem(&self, column: &str, what: &str, mend: &str) {
        (self.report)(self.line, column, self.text(column), what.to_owned(), mend);
    }

    fn number(&self, column: &str, min: f64, max: f64) -> Result<Option<f64>, ()> {
        let Some(text) = self.optional(column) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => {
                self.problem(
                    column,
                    &format!("not a number from {min} to {max}"),
                    "correct the number or leave it empty",
                );
                Err(())
            }
        }
    }

    fn choice<T: Copy + Default>(&self, column: &str, choices: &[(&str, T)]) -> Result<T, ()> {
        let Some(text) = self.optional(column) else { return Ok(T::default()) };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                self.problem(column, "not one of the known words", &format!("write one of {}", names.join(", ")));
                Err(())
            }
        }
    }

    /// Reads the whole row, so that all its problems are reported together.
    fn device(&self, profile_names: &[&str], source_names: &[String]) -> Option<Device> {
        let mut sound = true;
        for column in ["id", "profile", "address"] {
            if self.header.iter().any(|name| name == column) && self.text(column).is_empty() {
                self.problem(column, "this cell is empty", "every device needs id, profile and address");
                sound = false;
            }
        }
        if self.text("id") == GATEWAY_DEVICE {
            self.problem("id", "this id belongs to the gateway itself", "choose another id");
            sound = false;
        }
        let profile = profile_names.iter().position(|name| *name == self.text("profile"));
        if profile.is_none() && !self.text("profile").is_empty() {
            let mend = match closest(self.text("profile"), profile_names) {
                Some(name) => format!("did you mean {name}?"),
                None => "`kerbside profile list` shows the profiles; put your own into the profiles folder".to_owned(),
            };
            self.problem("profile", "there is no profile of this name", &mend);
        }
        let source = self.optional("source");
        if let Some(source) = source
            && !source_names.iter().any(|name| name == source)
        {
            let known: Vec<&str> = source_names.iter().map(String::as_str).collect();
            self.problem("source", "there is no source of this name", &format!("sources here: {}", known.join(", ")));
            sound = false;
        }
        let interval = self.optional("interval").map(parse_duration);
        if interval == Some(None) {
            self.problem("interval", "not a duration", "write a number with its unit: 30s, 5m, 2h or 1d");
            sound = false;
        }
        let lon = self.number("lon", -180.0, 180.0);
        let lat = self.number("lat", -90.0, 90.0);
        let datum =
            self.choice("datum", &[("wgs84", Datum::Wgs84), ("cgcs2000", Datum::Wgs84), ("gcj02", Datum::Gcj02)]);
        let mount_height_mm = self.number("mount_height_mm", 0.0, 100_000.0);
        let level_offset_mm = self.number("level_offset_mm", -100_000.0, 100_000.0);
        let service = self.choice(
            "service",
            &[
                ("in_service", ServiceState::InService),
                ("commissioning", ServiceState::Commissioning),
                ("maintenance", ServiceState::Maintenance),
            ],
        );
        if !sound {
            return None;
        }
        Some(Device {
            id: self.text("id").to_owned(),
            profile: u16::try_from(profile?).ok()?,
            source: source.map(str::to_owned),
            address: self.text("address").to_owned(),
            name: self.text("name").to_owned(),
            position: lon.ok()?.zip(lat.ok()?),
            datum: datum.ok()?,
            place: self.text("place").to_owned(),
            grid: self.text("grid").to_owned(),
            component_code: self.text("component_code").to_owned(),
            unit: self.text("unit").to_owned(),
            mount_height_mm: mount_height_mm.ok()?,
            level_offset_mm: level_offset_mm.ok()?.unwrap_or(0.0),
            interval: interval.flatten(),
            parent: self.text("parent").to_owned(),
            service: service.ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<Device>, Vec<Problem>) {
        let problems = Problems::default();
        let devices = parse_inventory("inventory.csv", bytes, &["cover", "level"], &["mqtt".to_owned()], &problems);
        (devices, problems.into_sorted())
    }

    #[test]
    fn a_bad_row_is_one_clear_problem_and_the_rest_is_read() {
        let text = "id,profile,address,lon,lat\nMH-1,cover,a,116.3,39.9\nMH-2,covr,b,,\nMH-3,cover,c,516,39\nMH-1,cover,d,,\nMH-5,level,e,,\n";
        let (devices, problems) = read(text.as_bytes());
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        assert_eq!(ids, ["MH-1", "MH-5"]);
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [3, 4, 5]);
        assert!(problems[0].to_string().contains("did you mean cover?"), "{}", problems[0]);
    }

    #[test]
    fn excel_files_in_gbk_and_with_a_byte_order_mark_are_read() {
        let text = "id,profile,address,place\nMH-1,cover,a,黄山路与湘江路交叉口\n";
        let (gbk, _, _) = encoding_rs::GBK.encode(text);
        let with_mark = [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
        for bytes in [text.as_bytes(), gbk.as_ref(), with_mark.as_slice()] {
            let (devices, problems) = read(bytes);
            assert_eq!(problems, []);
            assert_eq!(devices[0].place, "黄山路与湘江路交叉口");
        }
    }

    #[test]
    fn columns_may_be_headed_in_chinese() {
        let (devices, problems) = read("编号,设备模型,地址,责任单位\nMH-1,cover,a,市政\n".as_bytes());
        assert_eq!(problems, []);
        assert_eq!((devices[0].id.as_str(), devices[0].unit.as_str()), ("MH-1", "市政"));
        assert!(COLUMNS_ZH.iter().map(|(_, column)| *column).eq(COLUMNS), "every column has a Chinese heading");
    }

    #[test]
    fn ten_thousand_rows_keep_their_order() {
        let mut text = "id,profile,address\n".to_owned();
        for number in 0..10_000 {
            text.push_str(&format!("MH-{number:06},cover,MH-{number:06}\n"));
        }
        let (devices, problems) = read(text.as_bytes());
        assert_eq!((devices.len(), problems.len()), (10_000, 0));
        assert_eq!(devices[9_999].id, "MH-009999");
    }
}
