//! What installers read, as it is printed; and the commands' questions against simulated units.

use std::time::Duration;

use kerbside_engine::probe::{Hint, better_shift, guesses, range_of_unit};
use kerbside_model::RegisterTable;
use kerbside_model::document::Problems;
use kerbside_model::profile::parse_profile_text;
use kerbside_sources::modbus::{BusError, Identification, Parity, SerialLine};

use super::scan::{Found, found_text};
use super::show::{Findings, Target, dump, point, report, report_json};
use super::{address, note_on_address};

fn target(address: u16, measured_in: Option<&str>) -> Target {
    Target { unit: 1, table: RegisterTable::Holding, address, measured_in: measured_in.map(str::to_owned) }
}

fn findings(reads: &[&[u16]], around: Option<&[u16]>, hint: &Hint) -> Findings {
    let reads: Vec<Vec<u16>> = reads.iter().map(|words| words.to_vec()).collect();
    let better = around.and_then(|words| better_shift(&[words.to_vec()], hint));
    Findings { guesses: guesses(&reads, hint), better, reads }
}

#[test]
fn the_voltage_of_a_meter_is_shown_in_every_way_and_found() {
    // 230.2 V and 1.25 A as a DDSU666 has them from 0x2000 on.
    let words: &[u16] = &[0x4366, 0x3333, 0x3FA0, 0x0000];
    let hint = Hint { expected: None, range: range_of_unit("V") };
    insta::assert_snapshot!(report(&target(0x2000, Some("V")), &findings(&[words, words], None, &hint)));
}

#[test]
fn a_level_from_another_zero_gets_an_offset() {
    // The probe says 153 mm and hangs 26 mm above the bottom, where the ruler says 127 mm.
    let hint = Hint { expected: Some(127.0), range: None };
    insta::assert_snapshot!(report(&target(4, Some("mm")), &findings(&[&[153, 0]], Some(&[1, 153, 0, 0]), &hint)));
}

#[test]
fn a_level_one_register_off_is_found_beside_the_address() {
    // Level 153 mm at 4 where the sheet says 5.
    let hint = Hint { expected: Some(153.0), range: None };
    let found = findings(&[&[0, 0]], Some(&[153, 0, 0, 0]), &hint);
    insta::assert_snapshot!(report(&target(5, Some("mm")), &found));
    let json = report_json(&target(5, Some("mm")), &found);
    assert_eq!(json["better"]["address"], 4);
    assert_eq!(json["guesses"].as_array().map(Vec::len), Some(found.guesses.len()));
}

#[test]
fn every_point_that_is_printed_is_one_of_a_profile() {
    let units = ["V", "A", "mA", "W", "kW", "kWh", "Hz", "degC", "mm", "cm", "m", "m/s", "dB", "%", "hPa"].map(Some);
    let words = [0x4366, 0x3333, 0x3FA0, 0x4142];
    for unit in units.into_iter().chain([None]) {
        for hint in [
            Hint::default(),
            Hint { expected: Some(170.0), range: None },
            Hint { expected: Some(1_725.4), range: None },
        ] {
            for guess in guesses(&[words.to_vec()], &hint) {
                let point = point(&target(0x2000, unit), &guess);
                let profile = format!(
                    "profile: probe\nversion: 1\nkind: meter\nvendor: V\nmodel: M\ninterval: 1m\npayload: {{format: \
                     registers}}\npoints:\n{point}"
                );
                let problems = Problems::default();
                parse_profile_text("probe.yaml", &profile, &problems);
                let problems: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
                let problems: Vec<&String> = problems.iter().filter(|text| !text.contains("sample")).collect();
                assert!(problems.is_empty(), "{profile}\n{problems:?}");
            }
        }
    }
}

#[test]
fn a_unit_that_was_found_is_one_line() {
    let refused = |exception| Err(BusError::Refused { exception });
    let meter = Found {
        unit: 3,
        line: Some(SerialLine { baud: 2_400, parity: Parity::Even, stop_bits: 1 }),
        latency: Duration::from_millis(42),
        tables: vec![
            (RegisterTable::Coil, refused(1)),
            (RegisterTable::Holding, refused(2)),
            (RegisterTable::Input, Ok(())),
        ],
        identification: Some(Identification {
            objects: vec![(0, "Eastron".to_owned()), (1, "SDM120".to_owned()), (2, "1.2".to_owned())],
            server_id: None,
        }),
    };
    let probe = Found {
        unit: 200,
        line: None,
        latency: Duration::from_millis(7),
        tables: vec![
            (RegisterTable::Holding, Ok(())),
            (RegisterTable::Input, Err(BusError::NoAnswer("timeout".to_owned()))),
        ],
        identification: None,
    };
    let bytes = Found {
        identification: Some(Identification { objects: Vec::new(), server_id: Some(b"KB1\xff".to_vec()) }),
        ..probe.clone()
    };
    insta::assert_snapshot!([meter, probe, bytes].iter().map(found_text).collect::<Vec<_>>().join("\n"));
}

#[test]
fn registers_are_dumped_in_rows_and_what_changed_is_marked() {
    let words: Vec<u16> = (0x4142..0x414C).collect();
    let mut before = words.clone();
    before[9] = 7;
    insta::assert_snapshot!(dump(0x01F4, &words, Some(&before)));
    assert_eq!(dump(0, &[], None), "");
}

#[test]
fn addresses_are_read_as_they_stand_on_the_wire_and_those_of_sheets_are_noticed() {
    assert_eq!((address("0x2000"), address("4"), address("65535")), (Ok(0x2000), Ok(4), Ok(65_535)));
    assert!(address("65536").is_err() && address("0x").is_err() && address("4x0005").is_err());
    let note = note_on_address(RegisterTable::Holding, 40_005).unwrap();
    assert!(note.contains("its address is 4") && note.contains("实际地址为 4"), "{note}");
    assert_eq!(note_on_address(RegisterTable::Holding, 0x2000), None);
    assert_eq!(note_on_address(RegisterTable::Input, 40_005), None);
}
