//! Modbus registers to raw values.

use kerbside_model::profile::{ByteOrder, Origin, Point, RegisterField, RegisterType};
use kerbside_model::{Cause, PointReading, Quality, RegisterRead};

use super::convert::{Converter, Raw};
use super::{Scratch, point_index};

/// Reads every point whose registers are in the answers; a point whose request failed is missing.
pub(super) fn read(points: &[Point], converters: &[Converter], read: &RegisterRead, scratch: &mut Scratch) {
    for (position, point) in points.iter().enumerate() {
        let Origin::Register(field) = &point.origin else { continue };
        let index = point_index(position);
        if let Some(words) = words_of(read, field) {
            let raw = Raw::Number(number_of(field, words));
            scratch.keep(0, index, |texts| converters[position].reading(index, raw, texts));
        } else if failed(read, field) {
            let missing = PointReading { point: index, value: None, quality: Quality::missing(Cause::ReadFailed) };
            scratch.keep(0, index, |_| missing);
        }
    }
}

fn words_of<'a>(read: &'a RegisterRead, field: &RegisterField) -> Option<&'a [u16]> {
    read.blocks.iter().filter(|block| block.table == field.table).find_map(|block| {
        let start = usize::from(field.address.checked_sub(block.address)?);
        block.words.get(start..start + usize::from(field.width()))
    })
}

fn failed(read: &RegisterRead, field: &RegisterField) -> bool {
    read.failures.iter().any(|failure| {
        let first = u32::from(failure.address);
        let last = first + u32::from(failure.count);
        failure.table == field.table && (first..last).contains(&u32::from(field.address))
    })
}

/// The number in one or two registers. A value that is not finite is refused by the converter.
fn number_of(field: &RegisterField, words: &[u16]) -> f64 {
    let swaps_bytes = matches!(field.order, ByteOrder::Badc | ByteOrder::Dcba);
    let swaps_words = matches!(field.order, ByteOrder::Cdab | ByteOrder::Dcba);
    let word = |position: usize| if swaps_bytes { words[position].swap_bytes() } else { words[position] };
    if let Some(bit) = field.bit {
        return f64::from((word(0) >> bit) & 1);
    }
    let double = || {
        let (high, low) = if swaps_words { (word(1), word(0)) } else { (word(0), word(1)) };
        (u32::from(high) << 16) | u32::from(low)
    };
    match field.value {
        RegisterType::U16 => f64::from(word(0)),
        RegisterType::I16 => f64::from(word(0).cast_signed()),
        RegisterType::U32 => f64::from(double()),
        RegisterType::I32 => f64::from(double().cast_signed()),
        RegisterType::F32 => shortest(f32::from_bits(double())),
    }
}

/// 230.2 in single precision is 230.1999969482422; the shortest decimal that means the same single is 230.2.
fn shortest(single: f32) -> f64 {
    if single.is_finite() { single.to_string().parse().unwrap_or_else(|_| f64::from(single)) } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kerbside_model::RegisterTable;

    fn field(value: RegisterType, order: ByteOrder) -> RegisterField {
        RegisterField { table: RegisterTable::Holding, address: 0, value, order, bit: None }
    }

    #[test]
    fn all_four_byte_orders_give_the_same_float() {
        // 230.2 as IEEE 754 single precision is 0x43663333.
        let wires = [
            (ByteOrder::Abcd, [0x4366, 0x3333]),
            (ByteOrder::Cdab, [0x3333, 0x4366]),
            (ByteOrder::Badc, [0x6643, 0x3333]),
            (ByteOrder::Dcba, [0x3333, 0x6643]),
        ];
        for (order, words) in wires {
            assert_eq!(number_of(&field(RegisterType::F32, order), &words), 230.2, "{order:?}");
        }
    }

    #[test]
    fn signs_widths_and_bits_are_read() {
        assert_eq!(number_of(&field(RegisterType::I16, ByteOrder::Abcd), &[0xFFF6]), -10.0);
        assert_eq!(number_of(&field(RegisterType::U16, ByteOrder::Badc), &[0x0100]), 1.0);
        assert_eq!(number_of(&field(RegisterType::U32, ByteOrder::Abcd), &[1, 2]), 65_538.0);
        assert_eq!(number_of(&field(RegisterType::I32, ByteOrder::Cdab), &[0xFFFE, 0xFFFF]), -2.0);
        let bit = RegisterField { bit: Some(3), ..field(RegisterType::U16, ByteOrder::Abcd) };
        assert_eq!(number_of(&bit, &[0b1000]), 1.0);
        assert_eq!(number_of(&bit, &[0b0111]), 0.0);
    }
}
