//! Tables as cities have them, good and bad.

use proptest::prelude::*;

use super::*;
use crate::document::Problem;

const PROFILES: [&str; 2] = ["cover", "level"];

fn known(sources: &[String]) -> Known<'_> {
    Known { profiles: &PROFILES, sources: Some(sources), datum: Datum::Wgs84 }
}

fn read(bytes: &[u8]) -> (Vec<Entry>, Vec<Problem>) {
    let problems = Problems::default();
    let sources = ["mqtt".to_owned()];
    let entries = read_csv("inventory.csv", bytes, &known(&sources), &problems);
    (entries, problems.into_sorted())
}

/// The row, column and first words of each problem, and the ids of the good rows.
fn check(text: &str, ids: &[&str], problems: &[(usize, &str, &str)]) {
    let (entries, found) = read(text.as_bytes());
    assert_eq!(entries.iter().map(|entry| entry.device.id.as_str()).collect::<Vec<_>>(), ids, "{found:#?}");
    assert_eq!(found.len(), problems.len(), "{found:#?}");
    for (problem, (line, key, words)) in found.iter().zip(problems) {
        assert_eq!((problem.line, problem.key.as_str()), (*line, *key), "{problem}");
        assert!(problem.to_string().contains(words), "{problem} does not say {words:?}");
    }
}

#[test]
fn a_bad_row_is_one_clear_problem_and_the_rest_is_read() {
    check(
        "id,profile,address,lon,lat\nMH-1,cover,a,116.3,39.9\nMH-2,covr,b,,\nMH-3,cover,c,516,39\nMH-1,cover,d,,\n\
         MH-5,level,A0B1C2D3E4F50617,,\nMH-6,level,a0b1c2d3e4f50617,,\nMH-7,cover,,,\n",
        &["MH-1", "MH-5"],
        &[
            (3, "profile", "did you mean cover?"),
            (4, "lon", "not a number from -180 to 180"),
            (5, "id", "row 2 has the same id"),
            (7, "address", "row 6 has the same address"),
            (8, "address", "this cell is empty"),
        ],
    );
}

#[test]
fn files_of_spreadsheets_are_read_in_their_encodings() {
    let text = "id;profile;address;place\r\nMH-1;cover;a;黄山路与湘江路交叉口\r\n";
    let (gbk, ..) = encoding_rs::GBK.encode(text);
    let with_mark = [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for bytes in [text.as_bytes(), gbk.as_ref(), &with_mark, &utf16] {
        let (entries, problems) = read(bytes);
        assert_eq!(problems, []);
        assert_eq!(entries[0].device.place, "黄山路与湘江路交叉口");
    }
}

#[test]
fn a_title_and_headings_in_two_rows_are_found() {
    let text = "城市部件清单,,,,,\n统计时间：2026年3月,,,,,\n\n编号*,设备模型,地址,坐标,,责任单位\n,,,经度(°),纬度,\n\
                MH-1,cover,a,114.2951,35.7493,市政\n";
    let (entries, problems) = read(text.as_bytes());
    // The merged heading has no values of its own.
    assert_eq!(problems, []);
    assert_eq!(entries[0].row, 6);
    assert_eq!(entries[0].device.position, Some((114.2951, 35.7493)));
    assert_eq!(entries[0].device.unit, "市政");
}

#[test]
fn headings_that_are_unknown_double_or_missing_are_said_once() {
    check(
        "id,profile,adress,id,安装高度(m)\nMH-1,cover,a,MH-2,3.2\n",
        &[],
        &[
            (1, "address", "this column is missing"),
            (1, "adress", "did you mean address?"),
            (1, "id", "this column is id as well"),
            (1, "安装高度(m)", "in the unit of mount_height_mm"),
        ],
    );
    check("hello\nworld\n", &[], &[(1, "", "no row with column names is among the first 20")]);
    check("", &[], &[(0, "", "no row with column names")]);
}

#[test]
fn codes_that_a_spreadsheet_spoilt_are_refused_with_the_mend() {
    check(
        "id,profile,address,部件标识码,grid,name\nMH-1,cover,2.4E+16,4.10699E+15,x,1.5E+10\nMH-2,cover,b,c,#N/A,\n\
         24E12471,cover,24E124713B000001,,,\n",
        &["24E12471"],
        &[
            (2, "address", "with an exponent"),
            (2, "部件标识码", "format the column as text"),
            (3, "grid", "a formula failed here"),
        ],
    );
    // The same from a workbook, where numbers are numbers.
    let text = |text: &str| Cell::Text(text.to_owned());
    let head = ["id", "profile", "address", "component_code"].map(text).to_vec();
    let row = |address: Cell, code: Cell| vec![text("MH-1"), text("cover"), address, code];
    let rows = [
        head,
        row(Cell::Number(861_234_567_890_123.0), Cell::Number(123.0)),
        row(Cell::Number(4.106_990_103e15), text("")),
        row(Cell::Date("2026-12-03 00:00:00".to_owned()), text("")),
        row(text("b"), Cell::Error("#REF!".to_owned())),
    ];
    let mut rows = rows.into_iter().zip(1..).map(|(cells, number)| Ok(TableRow { number, cells }));
    let problems = Problems::default();
    let entries = read_rows("i.xlsx", &mut rows, &known(&[]), &problems);
    assert_eq!(entries[0].device.address, "861234567890123");
    assert_eq!(entries[0].device.component_code, "123");
    let found = problems.into_sorted();
    let lines: Vec<(usize, &str)> = found.iter().map(|problem| (problem.line, problem.what.as_str())).collect();
    assert_eq!(
        lines,
        [
            (3, "the spreadsheet took this code for a number and lost the digits behind the 15th"),
            (4, "the spreadsheet took this code for a date or a time"),
            (5, "a formula failed here")
        ]
    );
}

#[test]
fn positions_that_cannot_be_meant_are_refused_with_the_mend() {
    check(
        "id,profile,address,lon,lat,datum\nA,cover,a,35.7,114.3,\nB,cover,b,38500123.5,3956000,\nC,cover,c,114.3,,\n\
         D,cover,d,114°17′,35,\nE,cover,e,\"114,3\",35,\nF,cover,f,114.3,35.7,beijing54\nG,cover,g,114.3,35.7,GCJ-02\n\
         H,cover,h,114.3,35.7,国家2000\n",
        &["G", "H"],
        &[
            (2, "lon", "write 114.3 under the longitude and 35.7 under the latitude"),
            (3, "lat", "coordinates in metres"),
            (3, "lon", "coordinates in metres"),
            (4, "lat", "only one of longitude and latitude"),
            (5, "lon", "degrees with decimals"),
            (6, "lon", "without separators of thousands"),
            (7, "datum", "wgs84, cgcs2000, gcj02, bd09"),
        ],
    );
}

#[test]
fn the_datum_of_a_row_wins_over_that_of_the_file() {
    let problems = Problems::default();
    let text = "id,profile,address,datum\nA,cover,a,\nB,cover,b,CGCS2000\n";
    let known = Known { profiles: &PROFILES, sources: None, datum: Datum::Gcj02 };
    let entries = read_csv("i.csv", text.as_bytes(), &known, &problems);
    assert_eq!(entries.iter().map(|entry| entry.device.datum).collect::<Vec<_>>(), [Datum::Gcj02, Datum::Cgcs2000]);
}

#[test]
fn words_for_the_service_may_be_chinese_and_any_source_stands_where_none_is_known() {
    let problems = Problems::default();
    let text = "编号,设备模型,地址,来源,服务状态\nA,cover,a,anything,调试\nB,cover,b,,在用\nC,cover,c,,kaputt\n";
    let known = Known { profiles: &PROFILES, sources: None, datum: Datum::Wgs84 };
    let entries = read_csv("i.csv", text.as_bytes(), &known, &problems);
    let states: Vec<ServiceState> = entries.iter().map(|entry| entry.device.service).collect();
    assert_eq!(states, [ServiceState::Commissioning, ServiceState::InService]);
    assert_eq!(problems.into_sorted()[0].value, "kaputt");
}

#[test]
fn what_stands_downstream_must_be_in_the_table_and_the_row_is_read_without_it() {
    let text = "编号,设备模型,地址,下游设备\nA,cover,a,B\nB,cover,b,B\nC,cover,c,D\n";
    let (entries, problems) = read(text.as_bytes());
    let downstream: Vec<&str> = entries.iter().map(|entry| entry.device.downstream.as_str()).collect();
    assert_eq!(downstream, ["B", "", ""]);
    let told: Vec<(usize, &str, &str)> =
        problems.iter().map(|problem| (problem.line, problem.key.as_str(), problem.value.as_str())).collect();
    assert_eq!(told, [(3, "下游设备", "B"), (4, "下游设备", "D")]);
}

#[test]
fn tags_are_words_of_the_city_s_own_and_a_row_with_a_wrong_one_is_left_out() {
    let text = "编号,设备模型,地址,标签\nA,cover,a,下穿立交；circuit-7\nB,cover,b,a*\nC,cover,c,\n";
    let (entries, problems) = read(text.as_bytes());
    let tags: Vec<String> = entries.iter().map(|entry| entry.device.tags.join(" ")).collect();
    assert_eq!(tags, ["circuit-7 下穿立交", ""]);
    assert_eq!((problems[0].line, problems[0].key.as_str(), problems[0].value.as_str()), (3, "标签", "a*"));
}

#[test]
fn ten_thousand_rows_keep_their_order() {
    let mut text = "id,profile,address\n".to_owned();
    for number in 0..10_000 {
        text.push_str(&format!("MH-{number:06},cover,MH-{number:06}\n"));
    }
    let (entries, problems) = read(text.as_bytes());
    assert_eq!((entries.len(), problems.len()), (10_000, 0));
    assert_eq!((entries[9_999].device.id.as_str(), entries[9_999].row), ("MH-009999", 10_001));
}

/// Text as it stands in a cell: no spaces around it, which nobody means.
fn cell_text() -> impl Strategy<Value = String> {
    "[a-z0-9路口,;\"'（）/#+_. -]{0,12}".prop_map(|text| text.trim().to_owned())
}

fn a_device() -> impl Strategy<Value = Entry> {
    let texts = (cell_text(), cell_text(), cell_text(), cell_text(), cell_text(), cell_text());
    let position = proptest::option::of((100.0..130.0, -60.0..60.0_f64));
    let position = position.prop_filter("not swapped", |position| position.is_none_or(|(lon, _)| lon > 60.0));
    let datum = prop::sample::select(Datum::NAMES.map(|(datum, _)| datum).to_vec());
    let service =
        prop::sample::select(vec![ServiceState::InService, ServiceState::Commissioning, ServiceState::Maintenance]);
    let numbers = (proptest::option::of(0.0..100_000.0), -1_000.0..1_000.0, proptest::option::of(1_u64..100_000_000));
    let others = (any::<bool>(), 0_u16..2, prop::collection::btree_set("[a-z路0-9:./_-]{1,12}", 0..4));
    (texts, position, datum, service, numbers, others).prop_map(
        |(
            texts,
            position,
            datum,
            service,
            (mount_height_mm, level_offset_mm, interval),
            (has_source, profile, tags),
        )| Entry {
            row: 0,
            note: if texts.4.is_empty() { String::new() } else { format!("{}\n{}", texts.4, "第二行") },
            device: Device {
                profile,
                source: has_source.then(|| "mqtt".to_owned()),
                name: texts.0,
                position,
                datum,
                place: texts.1,
                grid: texts.2,
                component_code: texts.3,
                unit: texts.5,
                mount_height_mm,
                level_offset_mm,
                interval: interval.map(Duration::from_millis),
                registers_from: if profile == 1 { Some(RegisterTable::Input) } else { None },
                service,
                tags: tags.into_iter().collect(),
                ..Device::default()
            },
        },
    )
}

/// What an export of these entries says.
fn written(entries: &[Entry], form: RowForm) -> String {
    let head = Column::ALL.map(|column| column.name_zh().to_owned());
    let rows: Vec<[String; COLUMNS]> =
        entries.iter().map(|entry| row_of(entry, PROFILES[usize::from(entry.device.profile)], form)).collect();
    write_csv(std::iter::once(&head).chain(&rows).map(<[String; COLUMNS]>::as_slice))
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_as_it_was(mut entries in prop::collection::vec(a_device(), 1..8)) {
        for (number, entry) in entries.iter_mut().enumerate() {
            // Unique, as an inventory is.
            entry.device.id = format!("MH-{number}");
            entry.device.address = format!("d01/MH-{number}");
            entry.row = number + 2;
        }
        let text = written(&entries, RowForm::default());
        let (gbk, ..) = encoding_rs::GBK.encode(&text);
        for bytes in [text.as_bytes(), &gbk] {
            let (again, problems) = read(bytes);
            prop_assert_eq!(&problems, &[]);
            prop_assert_eq!(&again, &entries);
        }
    }

    #[test]
    fn positions_that_are_written_in_another_datum_are_the_same_places(entry in a_device()) {
        let mut entry = entry;
        (entry.device.id, entry.device.address) = ("A".to_owned(), "a".to_owned());
        let text = written(&[entry.clone()], RowForm { datum: Some(Datum::Gcj02) });
        let (again, problems) = read(text.as_bytes());
        prop_assert_eq!(&problems, &[]);
        prop_assert_eq!(again[0].device.datum, Datum::Gcj02);
        if let (Some(place), Some(moved)) = (entry.device.position, again[0].device.position) {
            let back = crate::geo::convert(moved, Datum::Gcj02, entry.device.datum);
            prop_assert!((back.0 - place.0).abs() < 1e-6 && (back.1 - place.1).abs() < 1e-6, "{:?} {:?}", back, place);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), tail in ".{0,80}") {
        read(&bytes);
        read(format!("id,profile,address,lon,lat\n{tail}\n{tail}").as_bytes());
    }
}
