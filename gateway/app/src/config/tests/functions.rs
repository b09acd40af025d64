//! Units that know only one of the Modbus functions 3 and 4.

use kerbside_model::RegisterTable;

use super::*;

/// A profile that reads both tables.
const BOTH: &str = "\
profile: both-tables
version: 1
kind: meter
vendor: Acme
model: X
payload: {format: registers}
points:
  - {name: a, register: {table: holding, address: 0}}
  - {name: b, register: {table: input, address: 0}}
samples:
  - {name: good, registers: {holding: {0: [1]}}, readings: {a: 1}}
  - {name: bad, registers: {failures: [{table: holding, address: 0, cause: timeout}]}, readings: {a: null}}
";

fn config(source: &str, inventory: &str) -> Config {
    let environment = MemoryEnvironment::default().with_file("etc/i.csv", inventory).with_file("etc/p/both.yaml", BOTH);
    let text = format!("profiles: p\ninventory: i.csv\nsources: {{bus: {{type: modbus, host: h{source}}}}}\n");
    sound_in(environment, &text)
}

#[test]
fn the_inventorys_function_wins_over_that_of_the_source() {
    let rows = "id,profile,address,function\nM-1,chint-ddsu666,1,\nM-2,chint-ddsu666,2,4\nM-3,chint-ddsu666,3,03\n";
    let tables = |source| {
        let config = config(source, rows);
        assert_eq!(config.warnings, []);
        config.modbus[0].units.iter().map(|unit| unit.registers_from).collect::<Vec<_>>()
    };
    let (holding, input) = (Some(RegisterTable::Holding), Some(RegisterTable::Input));
    assert_eq!(tables(""), [None, input, holding]);
    assert_eq!(tables(", function: 4"), [input, input, holding]);
}

#[test]
fn a_profile_of_both_tables_is_not_read_by_one_function() {
    let config =
        config("", "id,profile,address,function\nM-1,both-tables,1,4\nM-2,both-tables,2,\nM-3,both-tables,3,5\n");
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[0].contains("function = \"4\": both-tables reads holding and input registers"), "{warnings:#?}");
    assert!(warnings[1].contains("function = \"5\": not a Modbus function that reads registers"), "{warnings:#?}");
    let ids: Vec<&str> = config.site.devices().iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, ["M-2"]);
}
