//! Where a register stands: table and address on the wire, or the number that the maker's sheet gives it.

use super::is_quoted;
use crate::document::Section;
use crate::frame::RegisterTable;

/// Modbus addresses are 16 bits.
const ADDRESS_MAX: i64 = 0xFFFF;

pub(in crate::profile::parse) const TABLES: [(&str, RegisterTable); 4] = [
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
    ("holding", RegisterTable::Holding),
    ("input", RegisterTable::Input),
];

/// Reads `table` and `address`, or an address such as `4x0005` that names its table. A section inside another register
/// takes that one's table unless it names its own.
pub(super) fn read_place(section: &Section<'_>, table_default: Option<RegisterTable>) -> (RegisterTable, u16) {
    let written = section.text("address");
    let table = section.choice("table", &TABLES).or(table_default);
    if let Some(text) = &written
        && let Some((named, address)) = sheet_number(text, is_quoted(section, "address"))
    {
        if section.has("table") {
            section.problem(
                "table",
                "",
                format!("the address {text} names its table already: {}, {address} on the wire", table_name(named)),
                "leave `table` out; or write the address on the wire, 0-based and without quotes",
            );
        }
        return (named, address);
    }
    if table.is_none() && !section.has("table") {
        section.missing("table", &table_mend(written.as_deref()));
    }
    if written.is_none() {
        section.missing("address", "write the address on the wire, 0-based: 0x0004 where the manual says 40005");
    }
    let address = section.integer("address", 0, ADDRESS_MAX).unwrap_or(0);
    (table.unwrap_or(RegisterTable::Holding), u16::try_from(address).expect("read within 16 bits"))
}

fn table_mend(written: Option<&str>) -> String {
    let usual = "write holding (function 3), input (function 4), coil or discrete";
    match written.and_then(|text| Some((text, sheet_number(text, true)?))) {
        Some((text, (table, address))) => format!(
            "{usual}; when {text} is the number in the maker's sheet, put it in quotes: it is {} register {address} \
             on the wire",
            table_name(table)
        ),
        None => usual.to_owned(),
    }
}

/// The place that a sheet calls 40005, 400005 or 4x0005: the table by its first digit, then the register counted from 1.
///
/// Without the letter it must stand in quotes, because 40005 is an address on the wire too. `0x` begins a hexadecimal
/// number and never names a coil.
fn sheet_number(text: &str, is_quoted: bool) -> Option<(RegisterTable, u16)> {
    let table = match text.bytes().next()? {
        b'0' => RegisterTable::Coil,
        b'1' => RegisterTable::Discrete,
        b'3' => RegisterTable::Input,
        b'4' => RegisterTable::Holding,
        _ => return None,
    };
    let rest = &text[1..];
    let digits = match rest.strip_prefix(['x', 'X']) {
        Some(_) if table == RegisterTable::Coil => return None,
        Some(digits) => digits,
        None if is_quoted => rest,
        None => return None,
    };
    if !(4..=5).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u32 = digits.parse().ok()?;
    Some((table, u16::try_from(number.checked_sub(1)?).ok()?))
}

fn table_name(table: RegisterTable) -> &'static str {
    TABLES.iter().find(|(_, known)| *known == table).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_sheet_count_from_one_and_name_their_table() {
        use RegisterTable::{Coil, Discrete, Holding, Input};
        let check = |text: &str, expected| assert_eq!(sheet_number(text, true), expected, "{text}");
        check("40005", Some((Holding, 4)));
        check("4x0005", Some((Holding, 4)));
        check("400005", Some((Holding, 4)));
        check("465536", Some((Holding, 65_535)));
        check("30001", Some((Input, 0)));
        check("10010", Some((Discrete, 9)));
        check("00010", Some((Coil, 9)));
        for text in ["", "4", "0x0005", "40000", "465537", "20001", "4x5", "4xABCD", "4999999", "一二三四五"] {
            check(text, None);
        }
        assert_eq!(sheet_number("40005", false), None, "an address on the wire");
        assert_eq!(sheet_number("4x0005", false), Some((Holding, 4)));
    }
}
